"""An MQTT client with faults: seeded losses, doubles and delays, and its acknowledgements to the broker."""

import asyncio
import random

import pytest

from simulators.faults import FaultSpec
from simulators.flaky import FlakyClient
from wire.mqtt import Inbound, MqttClient

MESSAGES = [Inbound("topic", bytes([n]), 1, n) for n in range(200)]


class FlakyBench:
    """A flaky client whose broker is a list."""

    def __init__(self, spec: FaultSpec, monkeypatch: pytest.MonkeyPatch, seed: int = 1) -> None:
        self.pubacks: list[int] = []
        self.published: list[bytes] = []
        waiting = list(MESSAGES)

        async def receive(_: MqttClient, limit: int = 64, *, within_s: float | None = None) -> list[Inbound]:
            taken = waiting[:limit]
            del waiting[:limit]
            return taken

        def publish(_: MqttClient, topic: str, payload: bytes) -> bool:
            self.published.append(payload)
            return True

        monkeypatch.setattr(MqttClient, "receive", receive)
        monkeypatch.setattr(MqttClient, "acknowledge", lambda _, message: self.pubacks.append(message.mid))
        monkeypatch.setattr(MqttClient, "publish", publish)
        self.client = FlakyClient(
            spec, rng=random.Random(seed), host="127.0.0.1", port=1, client_id="c", subscriptions=()
        )

    def all_received(self) -> list[Inbound]:
        async def go() -> list[Inbound]:
            return [message for _ in range(30) for message in await self.client.receive(10)]

        return asyncio.run(go())


def test_without_faults_every_message_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = FlakyBench(FaultSpec(), monkeypatch)

    assert bench.all_received() == MESSAGES
    assert bench.client.publish("t", b"x")
    assert (bench.pubacks, bench.published) == ([], [b"x"])


def test_lost_messages_are_acknowledged_and_not_delivered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = FlakyBench(FaultSpec(loss=0.2), monkeypatch)

    received = bench.all_received()

    assert 20 < bench.client.faults.lost < 60
    assert len(received) == 200 - bench.client.faults.lost
    assert set(bench.pubacks) == {message.mid for message in MESSAGES} - {message.mid for message in received}


def test_doubles_are_not_acknowledged_twice_and_delayed_messages_arrive_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = FlakyBench(FaultSpec(duplicate=0.2, reorder=0.2), monkeypatch)

    received = bench.all_received()

    counts = bench.client.faults
    assert min(counts.duplicated, counts.reordered) > 20
    assert len(received) == 200 + counts.duplicated
    assert {message.payload for message in received} == {message.payload for message in MESSAGES}
    assert [message.mid for message in received] != sorted(message.mid for message in received)
    assert sum(message.connection == -1 for message in received) == counts.duplicated


def test_the_same_seed_gives_the_same_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = FaultSpec(loss=0.1, duplicate=0.1, reorder=0.1)

    assert FlakyBench(spec, monkeypatch, 1).all_received() == FlakyBench(spec, monkeypatch, 1).all_received()
    assert FlakyBench(spec, monkeypatch, 1).all_received() != FlakyBench(spec, monkeypatch, 2).all_received()


def test_published_messages_are_lost_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = FlakyBench(FaultSpec(loss=0.5), monkeypatch)

    for n in range(100):
        bench.client.publish("t", bytes([n]))

    assert 30 < len(bench.published) < 70
