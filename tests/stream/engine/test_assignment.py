"""A partition that cannot be taken, and one that went to somebody else while it was being taken."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from runtime.clock import ManualClock
from stream.config import WorkerConfig
from stream.engine.partitions import VitalsConsumer

PLACE = TopicPartition("vl.readings.v1", 11)


class Reader:
    """As far as taking asks it."""

    def __init__(self) -> None:
        self.ours = {PLACE}

    def assignment(self) -> set[TopicPartition]:
        return self.ours


async def nothing(*_: Any) -> None:
    """A producer that starts and stops."""


@pytest.mark.parametrize("is_still_ours", [True, False])
def test_only_what_is_ours_is_missed(monkeypatch: pytest.MonkeyPatch, is_still_ours: bool) -> None:
    reader = Reader()

    async def restored(*_: Any) -> Any:
        if not is_still_ours:
            reader.ours = set()
        raise IllegalStateError("No current assignment for partition")

    monkeypatch.setattr(
        "stream.engine.partitions.producer", lambda *_, **__: SimpleNamespace(start=nothing, stop=nothing)
    )
    consumer = VitalsConsumer(WorkerConfig(), ManualClock(0))
    monkeypatch.setattr(consumer, "_restored", restored)

    asyncio.run(consumer._take(reader, PLACE))  # type: ignore[arg-type]

    assert (PLACE.partition in consumer.progress.untaken) == is_still_ours
    assert consumer.progress.failed_takes == 1
