"""The plain worker: the consumer of readings on a plain event loop, with aiokafka and without Faust."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from runtime.clock import Clock
from runtime.logs import get
from stream.config import KafkaConfig, WorkerConfig
from stream.engine.entries import forward_entry
from stream.engine.partitions import VitalsConsumer
from stream.kafka import consumer, producer, topic
from stream.records import encode_record
from wire.errors import DecodeError
from wire.topics import KAFKA_ENTRIES, KAFKA_HEALTH, KAFKA_READINGS

HEALTH_S: Final = 10.0
_RETRY_S: Final = 1.0

_log = get(__name__)


class PlainWorker:
    """A worker that uses aiokafka only."""

    def __init__(self, config: WorkerConfig, clock: Clock, *, vitals: VitalsConsumer | None = None) -> None:
        self.vitals = vitals or VitalsConsumer(config, clock)
        self._config = config

    async def run(self) -> None:
        """Serve until cancelled."""
        side_tasks = [
            asyncio.create_task(_repeat(self._forward_entries), name="entries"),
            asyncio.create_task(_repeat(self._publish_health), name="health"),
        ]
        try:
            await self.vitals.run()
        finally:
            for task in side_tasks:
                task.cancel()
            for task in side_tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _forward_entries(self) -> None:
        """Copy what people entered to the readings of their patient. Copied twice, it has the same effect."""
        kafka = self._config.kafka
        reader = consumer(kafka, KAFKA_ENTRIES, group=f"{kafka.application}-orders")
        async with _started_producer(kafka) as sender, _stopped_at_exit(reader):
            await reader.start()
            while True:
                found = await reader.getmany(timeout_ms=1_000)
                for records in found.values():
                    for record in records:
                        try:
                            key, value = forward_entry(record.value)
                        except DecodeError as error:
                            _log.error("cannot decode an order", offset=record.offset, problem=str(error))
                            continue
                        await sender.send_and_wait(topic(kafka, KAFKA_READINGS), key=key, value=value)
                if found:
                    await reader.commit()

    async def _publish_health(self) -> None:
        kafka = self._config.kafka
        async with _started_producer(kafka) as sender:
            while True:
                await asyncio.sleep(HEALTH_S)
                for one in self.vitals.health():
                    await sender.send_and_wait(topic(kafka, KAFKA_HEALTH), value=encode_record(one))


@contextlib.asynccontextmanager
async def _started_producer(config: KafkaConfig) -> AsyncIterator[AIOKafkaProducer]:
    made = producer(config)
    async with _stopped_at_exit(made):
        await made.start()
        yield made


@contextlib.asynccontextmanager
async def _stopped_at_exit(client: AIOKafkaConsumer | AIOKafkaProducer) -> AsyncIterator[None]:
    """Stop the client at the end, also if its start failed."""
    try:
        yield
    finally:
        await client.stop()


async def _repeat(work: Callable[[], Awaitable[None]]) -> None:
    """Run a side task, and restart it after a Kafka error: it must not stop the consumer of readings."""
    while True:
        try:
            await work()
        except (KafkaError, OSError) as error:
            _log.warning("Kafka error in a side task; restarting it", task=_task_name(), problem=repr(error))
            await asyncio.sleep(_RETRY_S)


def _task_name() -> str:
    task = asyncio.current_task()
    return "" if task is None else task.get_name()
