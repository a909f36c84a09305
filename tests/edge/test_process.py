"""The command `vitalloom edge` as a process: it starts, serves, ends when told, and gets over a damaged outbox."""

import asyncio
import contextlib
import getpass
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.agent import EdgeAgent
from edge.config import BrokerConfig, EdgeConfig
from edge.errors import OutboxDamaged
from edge.process import serve
from edge.status import read as read_status
from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, BrokerTls, EmbeddedBroker, free_port
from simulators.enrolled import EnrolledSite
from simulators.made_up import demo_site
from stream.site.broker_files import BrokerFolder
from stream.site.mosquitto_conf import BrokerSettings
from tests.patience import PATIENCE_S
from wire.mqtt import MqttClient

ROOT = Path(__file__).parents[2]


class Served(Exception):
    """The agent that was started came to its work."""


@pytest.mark.services
def test_the_process_starts_serves_and_ends_when_it_is_told(tmp_path: Path) -> None:
    port = free_port()
    site = asyncio.run(enrolled(tmp_path, port))
    files = BrokerFolder(tmp_path / "site" / "broker")
    settings = BrokerSettings(folder=files.folder, user=getpass.getuser(), port=port)
    files.write(
        site.site.registry, site.site.authority, settings, hosts=(LOOPBACK,), at=datetime.now(UTC), who="tester"
    )
    tls = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
    with contextlib.closing(site), EmbeddedBroker(tmp_path, port=port, tls=tls):
        config = tmp_path / "edge.toml"
        config.write_text(
            'identity = "edge-1/identity"\ndata_dir = "data"\nstate_key = "state.key"\nstatus_file = "status"\n'
            "heartbeat_s = 0.2\n",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "vitalloom", "edge", "--config", str(config)]
        checked = subprocess.run([*command, "--check-config"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not (tmp_path / "data" / "alive").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()

    assert process.returncode == 0
    assert "agent stopped" in said
    status = read_status(tmp_path / "status")
    assert status is not None
    assert status.stopped
    assert status.device == site.edges[0].me.device_id.hex()
    assert "a stolen disk reveals the latest values" in said  # for this key lies beside them
    assert "P0001" not in said  # no pseudonyms in logs
    assert second.returncode == 2
    assert "in use by another agent" in second.stderr


@pytest.mark.services
def test_an_identity_that_is_not_an_edge_s_is_refused_with_its_role(tmp_path: Path) -> None:
    with contextlib.closing(asyncio.run(enrolled(tmp_path, free_port()))):
        config = tmp_path / "edge.toml"
        config.write_text('identity = "wearables/1"\ndata_dir = "data"\n', encoding="utf-8")

        done = subprocess.run(
            [sys.executable, "-m", "vitalloom", "edge", "--config", str(config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 2
    assert "is the identity of a device with role wearable, not edge" in done.stderr


async def enrolled(folder: Path, broker_port: int) -> EnrolledSite:
    clock = SystemClock()
    site = EnrolledSite(folder, clock, broker_port=broker_port)
    await site.enrol(wearables=1, edges=1, now_ms=clock.now_ms())
    return site


@pytest.mark.parametrize("damages", [1, 3])
def test_after_damage_another_agent_takes_over_and_not_for_ever(
    damages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents: list[EdgeAgent] = []

    async def run(agent: EdgeAgent, client: MqttClient) -> None:
        agents.append(agent)
        if len(agents) <= damages:
            raise OutboxDamaged(tmp_path / "outbox.sqlite", "database disk image is malformed")
        raise Served

    monkeypatch.setattr(EdgeAgent, "run", run)
    config = EdgeConfig(
        identity=tmp_path / "id", data_dir=tmp_path, broker=BrokerConfig(host=LOOPBACK, port=free_port())
    )
    edge = demo_site(wearables=1, edges=1, now_ms=0).edges[0]

    with pytest.raises(Served if damages < 3 else OutboxDamaged):
        asyncio.run(serve(config, edge, SystemClock(), rng=random.Random(1)))

    assert len(agents) == min(damages + 1, 3)
    assert len({id(agent) for agent in agents}) == len(agents)
