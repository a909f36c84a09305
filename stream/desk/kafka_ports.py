"""The alarm desk on a cluster: alarms from `vl.alarms.v1`, answers to `vl.orders.v1`.

The reading position is stored in the desk's book, in the transaction of what was read. A copy goes to Kafka, for the
consumer group's lag.
"""

import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from runtime.logs import get
from stream.config import KafkaConfig
from stream.desk.ports import AlarmBatch, LogPosition, PositionsOf, PutEntry, SourceRecord
from stream.errors import AlarmSourceLost
from stream.kafka import check_topics, consumer, producer, topic
from stream.records import AlarmLogRecord, EntryRecord, decode_alarm_record, encode_record
from wire.errors import DecodeError
from wire.topics import KAFKA_ALARMS, KAFKA_ENTRIES

_BATCH: Final = 1_000
_COMMIT_TO_GROUP_S: Final = 5.0

VERIFY_S: Final = 10.0
"""Interval at which the desk verifies that the alarm topic is still the one that it reads."""

_log = get(__name__)


class KafkaAlarmSource:
    """Reads the alarms topic.

    Args:
        verify_s: interval at which it is verified that the topic is still the one that is being read.
    """

    def __init__(self, config: KafkaConfig, *, verify_s: float = VERIFY_S) -> None:
        self._config = config
        self._topic = topic(config, KAFKA_ALARMS)
        self._verify_s = verify_s

    @property
    def name(self) -> str:
        return f"Kafka at {self._config.bootstrap}"

    async def batches(self, positions: PositionsOf) -> AsyncGenerator[AlarmBatch, None]:
        """As `AlarmSource.batches`."""
        with _kafka_errors(self.name):
            partitions = await check_topics(self._config)
            reader = consumer(self._config, group=f"{self._config.application}-desk", fetch_max_wait_ms=100)
            try:
                await reader.start()
                assigned = [TopicPartition(self._topic, index) for index in range(partitions)]
                reader.assign(assigned)
                reading = _TopicReading(reader, assigned)
                await reading.begin(positions(self._topic))
                committed_s = verified_s = time.monotonic()
                while True:
                    yield await reading.next()
                    if time.monotonic() - verified_s > self._verify_s:
                        verified_s = time.monotonic()
                        reading.verify()
                    if time.monotonic() - committed_s > _COMMIT_TO_GROUP_S:
                        committed_s = time.monotonic()
                        await reader.commit()
            finally:
                await reader.stop()


class _TopicReading:
    """Reads one topic, and notices that it is not the topic that was read before.

    A topic that was deleted and made again, a broker that was installed anew or from a backup: offsets count in another
    log then, and behind the same offset stand other records. So the last record that was read is read again now and
    then, and compared with what is known of it.
    """

    def __init__(self, reader: AIOKafkaConsumer, assigned: list[TopicPartition]) -> None:
        self._reader = reader
        self._assigned = assigned
        self._ends: dict[TopicPartition, int] = {}  # of the log when reading began
        self._read: dict[TopicPartition, LogPosition] = {}
        self._verifying: set[TopicPartition] = set()  # the next record is one that was read before
        self._is_another_log = False

    async def begin(self, positions: Mapping[int, LogPosition]) -> None:
        """Begin at the stored positions."""
        begins = await self._reader.beginning_offsets(self._assigned)
        self._ends = await self._reader.end_offsets(self._assigned)
        for at in self._assigned:
            kept = positions.get(at.partition)
            if kept is None:
                self._reader.seek(at, begins[at])
            elif not begins[at] <= kept.next <= self._ends[at]:
                return await self._begin_again(at, kept)
            else:
                self._read[at] = kept
                self._reader.seek(at, kept.next)
        self.verify()
        return None

    def verify(self) -> None:
        """Read the last record of each partition again."""
        for at, kept in self._read.items():
            if kept.mark is not None and at not in self._verifying:
                self._verifying.add(at)
                self._reader.seek(at, kept.next - 1)

    async def next(self) -> AlarmBatch:
        found = await self._reader.getmany(timeout_ms=500, max_records=_BATCH)
        records = []
        for at, these in found.items():
            new = await self._new(at, these)
            if new is None:
                return AlarmBatch([], False, {})
            if new:
                self._read[at] = LogPosition(new[-1].offset + 1, _mark(new[-1]))
            records += [
                SourceRecord(at.topic, at.partition, one.offset, _decoded(one.value), _mark(one), one.timestamp)
                for one in new
            ]
        next_offsets = {at: await self._reader.position(at) for at in self._assigned}
        lag = {
            str(at.partition): max(0, end - next_offsets[at])
            for at in self._assigned
            if (end := self._reader.highwater(at)) is not None
        }
        is_current = not self._verifying and all(next_offsets[at] >= self._ends[at] for at in self._assigned)
        batch = AlarmBatch(records, is_current, lag, self._is_another_log)
        self._is_another_log = self._is_another_log and not records
        return batch

    async def _new(self, at: TopicPartition, records: list[ConsumerRecord]) -> list[ConsumerRecord] | None:
        """Those that were not read before; None: this is another log, and it is read from its beginning."""
        kept = self._read.get(at)
        first = records[0]
        if kept is None:
            return records
        if at not in self._verifying:
            if first.offset >= kept.next:
                return records
            await self._begin_again(at, kept)
            return None
        if first.offset == kept.next - 1 and _mark(first) == kept.mark:
            self._verifying.discard(at)
            return records[1:]
        begins = await self._reader.beginning_offsets([at])
        if first.offset >= kept.next <= begins[at]:  # the broker has deleted old records
            self._verifying.discard(at)
            return records
        await self._begin_again(at, kept)
        return None

    async def _begin_again(self, at: TopicPartition, kept: LogPosition) -> None:
        _log.error(
            "the desk's position is not in the alarm topic; reading the whole topic",
            partition=at.partition,
            expected=kept.next,
        )
        self._is_another_log = True
        self._read.clear()
        self._verifying.clear()
        begins = await self._reader.beginning_offsets(self._assigned)
        self._ends = await self._reader.end_offsets(self._assigned)
        for one in self._assigned:
            self._reader.seek(one, begins[one])


class KafkaEntrySink:
    """Writes to the orders topic."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[PutEntry]:
        """As `EntrySink.opened`."""
        name = topic(self._config, KAFKA_ENTRIES)
        with _kafka_errors(f"Kafka at {self._config.bootstrap}"):
            sender = producer(self._config)

            async def put(entry: EntryRecord) -> None:
                await sender.send_and_wait(name, key=entry.message.stay_id.encode(), value=encode_record(entry))

            try:
                await sender.start()
                yield put
            finally:
                await sender.stop()


@contextlib.contextmanager
def _kafka_errors(name: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise AlarmSourceLost(f"{name}: {error!r}") from error


def _mark(record: ConsumerRecord) -> bytes:
    """Identity of a record: another one at the same offset of another log differs in its time at least."""
    digest = hashlib.sha256(record.timestamp.to_bytes(8, "big", signed=True))
    for part in (record.key or b"", record.value or b""):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()[:16]


def _decoded(value: bytes | None) -> AlarmLogRecord | None:
    try:
        return decode_alarm_record(value)
    except DecodeError as error:
        _log.error("cannot decode an alarm record", problem=str(error))
        return None  # the store writer stores it as a dead letter
