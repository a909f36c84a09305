"""`vitalloom wearable`: one simulated wearable, enrolled like a real one, at a broker that it knows from enrolment."""

import asyncio
import contextlib
import getpass
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, BrokerTls, EmbeddedBroker, free_port
from simulators.device import cadence_of
from simulators.enrolled import EnrolledSite
from simulators.errors import BadWard
from stream.broker import BrokerFolder, BrokerSettings
from tests.patience import PATIENCE_S
from wire.envelope import FrameClass
from wire.lanes import tls_context
from wire.mqtt import MqttClient
from wire.topics import w_up_of

ROOT = Path(__file__).parents[2]


def test_a_cadence_is_a_time_with_its_unit() -> None:
    assert cadence_of("5s") == 5_000
    with pytest.raises(BadWard, match="--cadence often: not a time"):
        cadence_of("often")


@pytest.mark.services
def test_it_measures_seals_and_sends_until_it_is_told_to_stop(tmp_path: Path) -> None:
    port, clock = free_port(), SystemClock()
    site = EnrolledSite(tmp_path, clock, broker_port=port)
    asyncio.run(site.enrol(wearables=1, edges=1, now_ms=clock.now_ms()))
    files = BrokerFolder(site.site.broker_folder)
    files.write(
        site.site.registry, site.site.authority,
        BrokerSettings(folder=files.folder, user=getpass.getuser(), port=port),
        hosts=(LOOPBACK,), at=datetime.now(UTC), who="tester",
    )  # fmt: skip
    tls = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
    words = ["wearable", "--identity", str(site.wearables[0].folder), "--cadence", "1s"]

    with contextlib.closing(site), EmbeddedBroker(tmp_path, port=port, tls=tls):
        process = subprocess.Popen(
            [sys.executable, "-m", "vitalloom", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        try:
            frames = asyncio.run(hear(site, port, process))
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()

    assert process.returncode == 0, said
    assert [frame[3] for frame in frames[:2]] == [1, 2]  # a session, then data
    assert {frame[5] for frame in frames} == {FrameClass.VITALS}
    assert "measured sent=" in said
    assert "P0001" not in said


async def hear(site: EnrolledSite, port: int, process: "subprocess.Popen[str]") -> list[bytes]:
    """What the edge would have heard, three frames of it."""
    edge, wearable = site.edges[0], site.wearables[0].me.device_id
    frames: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_S
    client = MqttClient(
        host=LOOPBACK, port=port, client_id="listens", subscriptions=(w_up_of(wearable),), tls=tls_context(edge.tls)
    )
    async with client:
        while len(frames) < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            for message in await client.receive(16, within_s=0.5):
                frames.append(message.payload)
                client.acknowledge(message)
    return frames


@pytest.mark.parametrize(
    ("folder", "says"),
    [("edge-1/identity", "is of a device of role edge, not of a wearable"), ("nowhere", "vitalloom enrol")],
)
@pytest.mark.services
def test_what_is_no_wearable_is_refused_in_a_sentence(folder: str, says: str, tmp_path: Path) -> None:
    site = EnrolledSite(tmp_path, SystemClock(), broker_port=free_port())
    asyncio.run(site.enrol(wearables=0, edges=1, now_ms=SystemClock().now_ms()))
    site.close()

    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "wearable", "--identity", str(tmp_path / folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
