"""One topic group of the store writer between a replaced Kafka and a stand-in for InfluxDB."""

import asyncio
from collections.abc import Awaitable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from runtime.clock import ManualClock
from stream.config import StoreConfig
from stream.delivery import RecordSender
from stream.records import DeadLetter, Record, StoredFrames, decode_dead_letter, decode_stored_frames, encode_record
from stream.store.counts import WriterCounts
from stream.store.influx import Database
from stream.store.writer import TopicGroupWriter
from tests.stream.receiving_site import HOUR, NOW
from tests.stream.store.influx_stand_in import InfluxStandIn
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_STORED


class Log:
    """Replaces Kafka for one topic group: one batch, a commit, and the records that were sent."""

    def __init__(self, *records: Record, topic: str = KAFKA_EVENTS) -> None:
        self.batch = [
            SimpleNamespace(topic=topic, partition=0, offset=n, value=encode_record(one))
            for n, one in enumerate(records)
        ]
        self.commits = 0
        self.sent: list[tuple[str, bytes]] = []

    async def start(self) -> None:
        """Nothing to do: it also replaces the producer."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def getmany(self, **_: object) -> dict[str, list[Any]]:
        return {KAFKA_EVENTS: self.batch}

    async def commit(self) -> None:
        self.commits += 1

    async def send(self, topic: str, *, value: bytes, key: bytes | None = None) -> Awaitable[None]:
        self.sent.append((topic, value))
        return asyncio.sleep(0)

    def told(self) -> list[StoredFrames]:
        return [decode_stored_frames(value) for topic, value in self.sent if topic == KAFKA_STORED]

    def dead_letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(value) for topic, value in self.sent if topic == KAFKA_DEAD_LETTERS]


def one_turn(
    server: InfluxStandIn, log: Log, *, group: str = "events", within_s: float = 60, batch_points: int = 5_000
) -> WriterCounts:
    """Write one batch; the waits between attempts take no time.

    Raises:
        TimeoutError: the batch is not finished within `within_s`.
    """
    counts, clock = WriterCounts(), ManualClock(NOW // HOUR * HOUR + HOUR)

    async def sleep(seconds: float) -> None:
        clock.advance(int(seconds * 1_000))
        await asyncio.sleep(0)

    async def turn() -> None:
        config = StoreConfig(influx=server.config, batch_points=batch_points)
        async with Database(server.config) as database, asyncio.timeout(within_s):
            writer = TopicGroupWriter(group, config, database, clock, counts, sleep=sleep)
            async with RecordSender(config.kafka, make=lambda _: cast(Any, log)) as reporter:
                await writer._turn(cast(Any, log), reporter)

    asyncio.run(turn())
    return counts


def lines_of(server: InfluxStandIn) -> list[tuple[str, str]]:
    """Bucket and line of what the stand-in kept, without the writer's own check of the database."""
    return [(bucket, line) for bucket, line in server.kept if not line.startswith("store_check")]


def numbered(found: Sequence[DeadLetter]) -> dict[str, int]:
    """How many dead letters name each source."""
    counted: dict[str, int] = {}
    for one in found:
        counted[one.source] = counted.get(one.source, 0) + 1
    return counted
