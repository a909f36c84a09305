"""Wearables of one edge: they keep and resend unacknowledged readings, and trust signatures of their own edge only."""

import random
from collections.abc import Callable

import pytest

from runtime.clock import ManualClock
from simulators.fleet import Fleet
from simulators.made_up import demo_site
from simulators.wearable import StoreBuffer
from wire.codec import VitalsV1, reading_id
from wire.envelope import Ack, FrameClass, FrameType, Stage, build_ack, parse_header
from wire.mqtt import Inbound
from wire.topics import parse

NOW = 1_767_600_000_000


class Hand:
    """Stands in for the broker's client: takes what is published while it is connected."""

    def __init__(self) -> None:
        self.connected = True
        self.room = 100_000
        self.published: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes) -> bool:
        if self.connected:
            self.published.append((topic, payload))
        return self.connected


class Bench:
    def __init__(self) -> None:
        self.site = demo_site(wearables=2, edges=1, now_ms=NOW)
        self.clock = ManualClock(NOW, mono_ms=5_000)
        self.sent: list[bytes] = []
        self.done: list[bytes] = []
        self.fleet = Fleet(
            self.site.wearables,
            self.clock,
            rng=random.Random(1),
            on_sent=lambda name, _: self.sent.append(name),
            on_done=self.done.extend,
        )
        self.hand = Hand()
        self.connect()

    def connect(self) -> None:
        self.fleet._uplink.on_connected(self.clock.mono_ms())

    def measure(self, times: int = 1, wearable: int = 0) -> None:
        for _ in range(times):
            now_ms = self.clock.now_ms()
            self.fleet.send(
                wearable, VitalsV1(t_ms=now_ms, t_quality=2, uptime_ms=now_ms - NOW, heart_rate=70.0), now_ms
            )
            self.clock.set_wall(now_ms + 5_000)
        self.pump()

    def pump(self) -> None:
        self.fleet._send_due(self.hand)  # type: ignore[arg-type]

    def frames(self) -> list[bytes]:
        return [frame for _, frame in self.hand.published if parse_header(frame).type == FrameType.DATA]

    def session_id(self) -> bytes:
        return parse_header(self.hand.published[-1][1]).session_id

    def answer(
        self,
        stage: Stage,
        *ranges: tuple[int, int],
        last_number: int | None = None,
        change: Callable[[bytes], bytes] = bytes,
    ) -> None:
        edge = self.site.edges[0].me
        ack = Ack(stage, 0, ranges, last_number, NOW, edge.device_id, self.session_id(), FrameClass.VITALS, 1)
        self.fleet._on_message(Inbound("", change(build_ack(edge.signing_key, ack)), 1, 1))


def test_a_session_goes_first_and_every_wearable_speaks_on_its_own_topic() -> None:
    bench = Bench()
    bench.measure(wearable=0)
    bench.measure(wearable=1)

    kinds = [parse_header(frame).type for _, frame in bench.hand.published]
    assert kinds == [FrameType.SESSION, FrameType.DATA] * 2
    assert [parse(topic).device_id for topic, _ in bench.hand.published[::2]] == [
        wearable.me.device_id for wearable in bench.site.wearables
    ]


def test_a_reading_is_kept_until_its_edge_has_signed_for_it() -> None:
    bench = Bench()
    bench.measure(3)

    assert bench.fleet.kept == 3
    bench.answer(Stage.DURABLE, (0, 1))
    assert (bench.fleet.kept, bench.fleet.counts.accepted) == (1, 2)
    bench.answer(Stage.DURABLE, (0, 1))
    assert bench.fleet.counts.accepted == 2


def test_a_forged_signature_frees_nothing() -> None:
    bench = Bench()
    bench.measure()

    bench.answer(Stage.DURABLE, (0, 0), change=lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]))

    assert (bench.fleet.kept, bench.fleet.counts.forged_acks) == (1, 1)


def test_what_was_not_answered_is_sent_again_byte_for_byte() -> None:
    bench = Bench()
    bench.measure()
    (first,) = bench.frames()

    bench.clock.advance(20_000)
    bench.pump()

    assert set(bench.frames()) == {first}
    assert len(bench.frames()) > 1
    assert bench.fleet.counts.resent == 1


def test_nothing_leaves_while_the_broker_is_away_and_everything_after() -> None:
    bench = Bench()
    bench.fleet._uplink.on_disconnected()
    bench.measure(5)
    assert bench.hand.published == []

    bench.connect()
    bench.pump()

    assert len(bench.frames()) == 5


def test_a_refused_reading_is_done_with_and_counted() -> None:
    bench = Bench()
    bench.measure()

    bench.answer(Stage.REJECTED, (0, 0))

    assert bench.done == bench.sent
    assert (bench.fleet.counts.refused, bench.fleet.counts.accepted, bench.fleet.kept) == (1, 0, 0)


def test_a_session_that_the_edge_refuses_is_followed_by_one_above() -> None:
    bench = Bench()
    bench.measure(2)
    old = bench.session_id()

    bench.answer(Stage.NEED_SESSION, last_number=NOW + 10**9)
    bench.measure()

    assert bench.fleet.counts.refused == 2  # sealed with keys that the edge will never have
    assert bench.session_id() != old
    assert bench.fleet.kept == 1


def test_names_of_readings_follow_from_device_session_and_counter() -> None:
    bench = Bench()
    bench.measure(2)

    device = bench.site.wearables[0].me.device_id
    assert bench.sent == [reading_id(device, bench.session_id(), counter) for counter in (0, 1)]


def test_a_full_wearable_thins_its_oldest_readings_and_counts_them() -> None:
    bench = Bench()
    bench.fleet._wearables[0].buffer = StoreBuffer(limit=200)
    bench.fleet._uplink.on_disconnected()

    bench.measure(300)

    counts = bench.fleet.counts
    assert bench.fleet.kept <= 200
    assert counts.given_up == counts.sent - bench.fleet.kept == len(bench.done)
    bench.connect()
    bench.pump()
    assert len(bench.frames()) == bench.fleet.kept


@pytest.mark.parametrize("count", [0, 1, 40])
def test_a_fleet_listens_for_its_own_wearables(count: int) -> None:
    site = demo_site(wearables=count, edges=1, now_ms=NOW)
    fleet = Fleet(site.wearables, ManualClock(NOW), rng=random.Random(1))

    assert [parse(topic).device_id for topic in fleet.subscriptions] == [one.me.device_id for one in site.wearables]
    assert len(fleet) == count
