"""The alarm desk on a cluster: alarms from `vl.alarms.v1`, answers to `vl.orders.v1`.

The reading position is stored in the desk's book, in the transaction of what was read. A copy goes to Kafka, for the
consumer group's lag.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from runtime.logs import get
from stream.config import KafkaConfig
from stream.desk.ports import AlarmBatch, PositionsOf, PutOrder, SourceRecord
from stream.errors import AlarmSourceLost
from stream.kafka import check_topics, consumer, producer, topic
from stream.records import AlarmLogRecord, OrderRecord, decode_alarm_record, encode_record
from wire.errors import DecodeError
from wire.topics import KAFKA_ALARMS, KAFKA_ORDERS

_BATCH: Final = 1_000
_COMMIT_TO_GROUP_S: Final = 5.0

_log = get(__name__)


class KafkaAlarmSource:
    """Reads the alarms topic."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._topic = topic(config, KAFKA_ALARMS)

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
                ends = await self._seek(reader, assigned, positions)
                committed_s = time.monotonic()
                while True:
                    yield await self._next(reader, assigned, ends)
                    if time.monotonic() - committed_s > _COMMIT_TO_GROUP_S:
                        committed_s = time.monotonic()
                        await reader.commit()
            finally:
                await reader.stop()

    async def _next(
        self, reader: AIOKafkaConsumer, assigned: list[TopicPartition], ends: dict[TopicPartition, int]
    ) -> AlarmBatch:
        found = await reader.getmany(timeout_ms=500, max_records=_BATCH)
        records = [
            SourceRecord(self._topic, at.partition, record.offset, _decoded(record.value))
            for at, these in found.items()
            for record in these
        ]
        next_offsets = {at: await reader.position(at) for at in assigned}
        lag = {
            str(at.partition): max(0, end - next_offsets[at])
            for at in assigned
            if (end := reader.highwater(at)) is not None
        }
        return AlarmBatch(records, all(next_offsets[at] >= ends[at] for at in assigned), lag)

    async def _seek(
        self, reader: AIOKafkaConsumer, assigned: list[TopicPartition], positions: PositionsOf
    ) -> dict[TopicPartition, int]:
        """Seek to the stored positions; returns the present end of each partition."""
        kept = positions(self._topic)
        begins = await reader.beginning_offsets(assigned)
        ends: dict[TopicPartition, int] = await reader.end_offsets(assigned)
        for at in assigned:
            start = kept.get(at.partition, begins[at])
            if not begins[at] <= start <= ends[at]:
                _log.error(
                    "the desk's position is not in the alarm topic; reading the whole topic",
                    partition=at.partition,
                    expected=start,
                )
                start = begins[at]
            reader.seek(at, start)
        return ends


class KafkaAnswerSink:
    """Writes to the orders topic."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[PutOrder]:
        """As `AnswerSink.opened`."""
        name = topic(self._config, KAFKA_ORDERS)
        with _kafka_errors(f"Kafka at {self._config.bootstrap}"):
            sender = producer(self._config)

            async def put(order: OrderRecord) -> None:
                await sender.send_and_wait(name, key=order.message.binding_id.encode(), value=encode_record(order))

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


def _decoded(value: bytes | None) -> AlarmLogRecord | None:
    try:
        return decode_alarm_record(value)
    except DecodeError as error:
        _log.error("cannot decode an alarm record", problem=str(error))
        return None  # the store writer stores it as a dead letter
