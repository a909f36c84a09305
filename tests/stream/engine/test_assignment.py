"""A partition that cannot be acquired, and one that was reassigned while it was being acquired."""

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
    """The part of a Kafka consumer that acquiring a partition uses."""

    def __init__(self) -> None:
        self.ours = {PLACE}

    def assignment(self) -> set[TopicPartition]:
        return self.ours


async def do_nothing(*_: Any) -> None:
    """A producer that starts and stops."""


@pytest.mark.parametrize("is_still_assigned", [True, False])
def test_only_a_partition_that_is_still_assigned_counts_as_unreadable(
    monkeypatch: pytest.MonkeyPatch, is_still_assigned: bool
) -> None:
    reader = Reader()

    async def fail(*_: Any) -> Any:
        if not is_still_assigned:
            reader.ours = set()
        raise IllegalStateError("No current assignment for partition")

    monkeypatch.setattr(
        "stream.engine.partitions.producer", lambda *_, **__: SimpleNamespace(start=do_nothing, stop=do_nothing)
    )
    consumer = VitalsConsumer(WorkerConfig(), ManualClock(0))
    monkeypatch.setattr(consumer, "_restore", fail)

    asyncio.run(consumer._acquire(reader, PLACE))  # type: ignore[arg-type]

    assert (PLACE.partition in consumer.progress.unreadable) == is_still_assigned
    assert consumer.progress.failed_acquisitions == 1
