"""The plain engine: the readings' consumer under a bare event loop, with nothing beside it but its own health."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from runtime.clock import Clock
from runtime.logs import get
from stream.config import KafkaConfig, WorkerConfig
from stream.engine.orders import forward_order
from stream.engine.partitions import VitalsConsumer
from stream.kafka import consumer, producer, topic
from stream.records import encode_record
from wire.errors import DecodeError
from wire.topics import KAFKA_HEALTH, KAFKA_ORDERS, KAFKA_READINGS

HEALTH_S: Final = 10.0
_AGAIN_S: Final = 1.0

_log = get(__name__)


class PlainWorker:
    """A worker on aiokafka alone."""

    def __init__(self, config: WorkerConfig, clock: Clock, *, vitals: VitalsConsumer | None = None) -> None:
        self.vitals = vitals or VitalsConsumer(config, clock)
        self._config = config

    async def run(self) -> None:
        """Serve until cancelled."""
        beside = [
            asyncio.create_task(_for_ever(self._pass_orders), name="orders"),
            asyncio.create_task(_for_ever(self._tell), name="health"),
        ]
        try:
            await self.vitals.run()
        finally:
            for task in beside:
                task.cancel()
            for task in beside:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _pass_orders(self) -> None:
        """What people want joins the readings; to be told twice what is wanted does no harm."""
        kafka = self._config.kafka
        reader = consumer(kafka, KAFKA_ORDERS, group=f"{kafka.application}-orders")
        async with _started(kafka) as sender, _ending(reader):
            await reader.start()
            while True:
                found = await reader.getmany(timeout_ms=1_000)
                for records in found.values():
                    for record in records:
                        try:
                            key, value = forward_order(record.value)
                        except DecodeError as error:
                            _log.error("an order cannot be read", offset=record.offset, problem=str(error))
                            continue
                        await sender.send_and_wait(topic(kafka, KAFKA_READINGS), key=key, value=value)
                if found:
                    await reader.commit()

    async def _tell(self) -> None:
        kafka = self._config.kafka
        async with _started(kafka) as sender:
            while True:
                await asyncio.sleep(HEALTH_S)
                for one in self.vitals.health():
                    await sender.send_and_wait(topic(kafka, KAFKA_HEALTH), value=encode_record(one))


@contextlib.asynccontextmanager
async def _started(config: KafkaConfig) -> AsyncIterator[AIOKafkaProducer]:
    made = producer(config)
    async with _ending(made):
        await made.start()
        yield made


@contextlib.asynccontextmanager
async def _ending(client: AIOKafkaConsumer | AIOKafkaProducer) -> AsyncIterator[None]:
    """It is stopped, also if it had only begun to start."""
    try:
        yield
    finally:
        await client.stop()


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """What stands beside the readings begins again by itself, and never takes them down."""
    while True:
        try:
            await work()
        except (KafkaError, OSError) as error:
            _log.warning("begins again", problem=repr(error))
            await asyncio.sleep(_AGAIN_S)
