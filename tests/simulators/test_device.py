"""`vitalloom wearable`: one simulated wearable, enrolled like a real one, at a broker that it knows from enrolment."""

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

from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, BrokerTls, EmbeddedBroker, free_port
from simulators.device import cadence_of, run_wearable, until_assigned
from simulators.enrolled import EnrolledSite
from simulators.errors import BadWard
from simulators.fleet import ASK_MOST_MS, Fleet
from simulators.stories import Simulated
from stream.site.broker_files import BrokerFolder
from stream.site.mosquitto_conf import BrokerSettings
from tests.edge.test_announcer import Ward
from tests.patience import PATIENCE_S
from tests.simulators.test_fleet import Hand
from wire.enrol.documents import WANTED
from wire.enrol.wallet import Wallet
from wire.envelope import FrameClass
from wire.lanes import tls_context
from wire.mqtt import Inbound, MqttClient
from wire.topics import w_down, w_up, w_up_of

ROOT = Path(__file__).parents[2]


def test_a_cadence_is_a_time_with_its_unit() -> None:
    assert cadence_of("5s") == 5_000
    with pytest.raises(BadWard, match="--cadence often: not a time"):
        cadence_of("often")


class Waiting:
    """A wearable that waits for its assignment, and its edge, on one clock that moves while the wearable sleeps."""

    def __init__(self, folder: Path) -> None:
        self.ward = Ward(folder)
        self.clock, self.wallet = self.ward.desk.clock, self.ward.wearable
        self.fleet = Fleet([self.wallet], self.clock, rng=random.Random(1))
        self.hand = Hand()
        self.began_ms = self.clock.mono_ms()
        self.asked_ms: list[int] = []
        self.edge_hears_from_ms = 0  # since it began

    def wait(self) -> int:
        """For how many milliseconds it waits; a minute at most."""
        with contextlib.suppress(TimeoutError):
            asyncio.run(until_assigned(self.fleet, self.wallet, self.clock, sleep=self._sleep))
        return self._passed_ms

    @property
    def _passed_ms(self) -> int:
        return self.clock.mono_ms() - self.began_ms

    async def _sleep(self, seconds: float) -> None:
        self.fleet._send_due(self.hand)  # type: ignore[arg-type]
        question = (w_up(self.wallet.me.device_id, FrameClass.CONTROL), WANTED)
        assert set(self.hand.published) <= {question}
        self.asked_ms += [self._passed_ms] * len(self.hand.published)
        if self.hand.published and self._passed_ms >= self.edge_hears_from_ms:
            topic = w_down(self.wallet.me.device_id)
            for frame in self.ward.turn(self.wallet):
                self.fleet._on_message(Inbound(topic, frame, 1, 1))
        self.hand.published.clear()
        self.clock.advance(round(seconds * 1_000))
        if self._passed_ms > 60_000:
            raise TimeoutError


def test_one_that_was_not_there_when_its_edge_told_it_asks_and_begins_at_once(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    waiting.ward.turn()  # the edge tells a wearable that does not hear it, and would tell it again after five minutes
    waiting.clock.advance(1_000)
    waiting.began_ms = waiting.clock.mono_ms()

    assert waiting.wait() == 200
    assert waiting.asked_ms == [0]


def test_without_an_answer_it_asks_again_and_ever_more_rarely_up_to_a_bound(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    waiting.edge_hears_from_ms = 20_000

    assert waiting.wait() < 20_000 + ASK_MOST_MS + 1_000
    assert waiting.asked_ms == [0, 1_000, 3_000, 7_000, 12_000, 17_000, 22_000]


def test_without_a_connection_its_question_waits_and_leaves_once(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    waiting.hand.connected = False
    waiting.edge_hears_from_ms = 120_000
    waiting.wait()
    assert waiting.asked_ms == []

    waiting.hand.connected = True
    waiting.fleet._send_due(waiting.hand)  # type: ignore[arg-type]

    assert [payload for _, payload in waiting.hand.published] == [WANTED]


@pytest.mark.services
def test_it_asks_over_a_broker_while_it_waits_for_its_assignment(tmp_path: Path) -> None:
    port, clock = free_port(), SystemClock()
    site = EnrolledSite(tmp_path, clock, broker_port=port)
    asyncio.run(site.enrol(wearables=1, edges=1, now_ms=clock.now_ms()))
    files = BrokerFolder(site.site.broker_folder)
    files.write(
        site.site.registry, site.site.authority,
        BrokerSettings(folder=files.folder, user=getpass.getuser(), port=port),
        hosts=(LOOPBACK,), at=datetime.now(UTC), who="tester",
    )  # fmt: skip
    folder = site.wearables[0].folder
    for one in (folder / "documents").iterdir():
        one.unlink()
    wallet = Wallet.load(folder)
    assert wallet.assignment(clock.now_ms()) is None

    async def story() -> list[bytes]:
        wearing = asyncio.create_task(
            run_wearable(wallet, Simulated("stable", patients=1, seed=1, cadence_ms=1_000), clock, once_assigned=True)
        )
        listening = MqttClient(
            host=LOOPBACK, port=port, client_id="listens", subscriptions=(w_up_of(wallet.me.device_id),),
            tls=tls_context(site.edges[0].tls),
        )  # fmt: skip
        heard: list[bytes] = []
        try:
            async with asyncio.timeout(60), listening:
                while len(heard) < 2:
                    for message in await listening.receive(16):
                        heard.append(message.payload)
                        listening.acknowledge(message)
        finally:
            wearing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wearing
        return heard

    tls = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
    with contextlib.closing(site), EmbeddedBroker(tmp_path, port=port, tls=tls):
        heard = asyncio.run(story())

    assert set(heard) == {WANTED}


@pytest.mark.services
def test_it_measures_seals_and_sends_until_it_is_stopped(tmp_path: Path) -> None:
    port, clock = free_port(), SystemClock()
    site = EnrolledSite(tmp_path, clock, broker_port=port)
    asyncio.run(site.enrol(wearables=1, edges=1, now_ms=clock.now_ms()))
    files = BrokerFolder(site.site.broker_folder)
    files.write(
        site.site.registry,
        site.site.authority,
        BrokerSettings(folder=files.folder, user=getpass.getuser(), port=port),
        hosts=(LOOPBACK,),
        at=datetime.now(UTC),
        who="tester",
    )
    tls = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
    words = ["wearable", "--identity", str(site.wearables[0].folder), "--cadence", "1s"]

    with contextlib.closing(site), EmbeddedBroker(tmp_path, port=port, tls=tls):
        process = subprocess.Popen(
            [sys.executable, "-m", "vitalloom", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        try:
            frames = asyncio.run(first_frames(site, port, process))
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()

    assert process.returncode == 0, log
    assert [frame[3] for frame in frames[:2]] == [1, 2]  # a session, then data
    assert {frame[5] for frame in frames} == {FrameClass.VITALS}
    assert "readings sent=" in log
    assert "P0001" not in log


async def first_frames(site: EnrolledSite, port: int, process: "subprocess.Popen[str]") -> list[bytes]:
    """The first three frames on the topic of the wearable."""
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
    ("folder", "message"),
    [
        ("edge-1/identity", "belongs to a device of role edge; name the folder of a wearable"),
        ("nowhere", "vitalloom enrol"),
    ],
)
@pytest.mark.services
def test_an_identity_of_another_device_is_refused_with_one_sentence(folder: str, message: str, tmp_path: Path) -> None:
    site = EnrolledSite(tmp_path, SystemClock(), broker_port=free_port())
    asyncio.run(site.enrol(wearables=0, edges=1, now_ms=SystemClock().now_ms()))
    site.close()

    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "wearable", "--identity", str(tmp_path / folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
