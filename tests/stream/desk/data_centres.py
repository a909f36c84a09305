"""Two data centres for a desk's tests, with the same handles: a cluster on a real Kafka, and the embedded engine."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any, Protocol

from runtime.clock import SystemClock
from simulators.made_up import demo_site
from stream.config import KafkaConfig
from stream.desk.kafka_ports import KafkaAlarmSource, KafkaEntrySink
from stream.desk.ports import AlarmSource, EntrySink
from stream.embedded.desk_ports import EngineEntrySink, StoreAlarmSource
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from stream.engine.plain import PlainWorker
from stream.kafka import producer, topic
from stream.records import EdgeAlarmRecord, encode_record
from tests.services.kafka import Kafka
from tests.stream.cluster import Log
from vitals.messages import BindingPeriod, Reading
from vitals.plan import MonitoringPlan
from wire.topics import KAFKA_ALARMS


class DataCentre(Protocol):
    """What a test does with a data centre; the desk gets `source` and `sink`."""

    kafka: KafkaConfig  # of the desk's configuration

    async def begin(self) -> None: ...
    async def end(self) -> None: ...
    async def receive(self, *readings: Reading | BindingPeriod) -> None:
        """Readings arrive, or what the registry says of a binding. Alarms follow once the engine runs."""
        ...

    async def receive_from_edge(self, found: EdgeAlarmRecord) -> None: ...
    async def start_engine(self) -> None: ...
    async def stop_engine(self) -> None: ...
    def source(self) -> AlarmSource: ...
    def sink(self) -> EntrySink: ...


class Cluster:
    """Kafka and a worker of this process."""

    def __init__(self, kafka: Kafka) -> None:
        self._log = Log(kafka)
        self.kafka = self._log.config
        self._worker: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        await self._log.begin()
        await self.start_engine()

    async def end(self) -> None:
        await self.stop_engine()

    async def receive(self, *readings: Reading | BindingPeriod) -> None:
        await self._log.put(readings)

    async def receive_from_edge(self, found: EdgeAlarmRecord) -> None:
        sender = producer(self.kafka)
        await sender.start()
        try:
            name = topic(self.kafka, KAFKA_ALARMS)
            await sender.send_and_wait(name, key=found.stay_id.encode(), value=encode_record(found))
        finally:
            await sender.stop()

    async def start_engine(self) -> None:
        worker = PlainWorker(self._log.worker(tick_slack_ms=0), SystemClock())
        self._worker = asyncio.create_task(worker.run())

    async def stop_engine(self) -> None:
        await _ended(self._worker)

    def source(self) -> AlarmSource:
        return KafkaAlarmSource(self.kafka)

    def sink(self) -> EntrySink:
        return KafkaEntrySink(self.kafka)


class Embedded:
    """A store in a folder and the engine on it, without a broker."""

    kafka = KafkaConfig()

    def __init__(self, folder: Path) -> None:
        self._path = folder / "store.sqlite"
        self._demo = demo_site(wearables=1, edges=1, now_ms=SystemClock().now_ms())
        self._running: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self._open()
        await self.start_engine()

    async def end(self) -> None:
        await self.stop_engine()
        self._store.close()

    async def receive(self, *readings: Reading | BindingPeriod) -> None:
        self._stream._engine.apply(readings)

    async def receive_from_edge(self, found: EdgeAlarmRecord) -> None:
        with self._store.transaction():
            self._store.put_alarm_records([found])

    async def start_engine(self) -> None:
        self._running = asyncio.create_task(self._stream.run(_NoBroker()))  # type: ignore[arg-type]

    async def stop_engine(self) -> None:
        await _ended(self._running)

    def source(self) -> AlarmSource:
        return StoreAlarmSource(self._store)

    def sink(self) -> EntrySink:
        return EngineEntrySink(self._stream)

    def _open(self) -> None:
        self._store = Store(self._path)
        self._stream = EmbeddedStream(
            self._demo.ingest.me, self._demo.ingest.directory, self._store, lambda _: MonitoringPlan(), SystemClock()
        )


class _NoBroker:
    """In place of `wire.lanes.Lanes`: nothing comes."""

    async def receive(self, limit: int = 64, *, within_s: float = 0.0) -> list[Any]:
        await asyncio.sleep(within_s)
        return []

    def publish(self, topic: str, payload: bytes) -> bool:
        return True


def an_ill_reading(patient: int) -> Reading:
    """Now, of a patient whose binding id begins with this number: red at once."""
    now_ms = time.time_ns() // 1_000_000
    return Reading(
        stay_id=f"{patient:08x}{0:024x}",
        reading_id=bytes([patient]) * 16,
        session_id=b"s" * 16,
        counter=patient,
        at_ms=now_ms,
        received_ms=now_ms,
        arrived_ms=now_ms,
        respiratory_rate=26.0,
        spo2=89.0,
        heart_rate=125.0,
    )


async def _ended(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
