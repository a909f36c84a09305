"""Services, processes and measurements that the questions of `benchmarks.cluster` share."""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition

from benchmarks._timing import QUICK
from stream.config import InfluxConfig, KafkaConfig
from stream.engine.partitions import VitalsConsumer
from stream.kafka import consumer, create_topics, topic
from stream.records import FrameRef, ReadingRecord, encode_record
from stream.store.decoding import TOPIC_GROUPS
from stream.store.influx import Database, prepare_database
from tests.faults.workers import Worker
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from vitals.messages import Reading
from wire.topics import KAFKA_EVENTS, KAFKA_STORED

PARTITIONS: Final = 4
_COMPACTED_SOON: Final = (
    "--storage-cache-snapshot-write-cold-duration",
    "2s",
    "--storage-compact-full-write-cold-duration",
    "2s",
)
"""Options that compact idle data after seconds instead of hours; `footprint` waits for the compaction."""


class Services:
    """A Kafka and an InfluxDB for this benchmark alone; `start` starts those that a question needs."""

    def __init__(self, folder: Path) -> None:
        os.environ["VITALLOOM_REQUIRE_SERVICES"] = "1"
        self.folder = folder
        self._stops: list[Callable[[], None]] = []

    def start(self, *, kafka: bool, influxdb: bool) -> None:
        if kafka:
            asyncio.run(create_topics(self.log, partitions=PARTITIONS))
        if influxdb:
            prepare_database(self.influx, retention_days=3_650, aggregate_days=3_650)

    @cached_property
    def kafka(self) -> Kafka:
        kafka = Kafka(self.folder / "kafka")
        self._stops.append(kafka.stop)
        kafka.start()
        return kafka

    @cached_property
    def influxdb(self) -> InfluxDB:
        influxdb = InfluxDB(self.folder / "influxdb", *_COMPACTED_SOON)
        self._stops.append(influxdb.stop)
        influxdb.start()
        return influxdb

    @cached_property
    def log(self) -> KafkaConfig:
        return KafkaConfig(bootstrap=self.kafka.address)

    @cached_property
    def influx(self) -> InfluxConfig:
        token = self.folder / "token"
        token.write_text(self.influxdb.token, encoding="utf-8")
        return InfluxConfig(url=self.influxdb.url, org=self.influxdb.org, token_file=token, timeout_ms=30_000)

    def end(self) -> None:
        for stop in reversed(self._stops):
            stop()


def settled_bytes(engine: Path) -> int:
    """Bytes of a database after compaction: waits until its size no longer changes."""

    def size(part: str) -> int:
        # Allocated blocks instead of file sizes, because some files are sparse.
        return sum(path.stat().st_blocks * 512 for path in engine.glob(f"{part}/**/*") if path.is_file())

    before, deadline = -1, time.monotonic() + 120
    while (now := size("data") + size("wal")) != before and time.monotonic() < deadline:
        before = now
        time.sleep(1 if QUICK else 10)
    return now


def encoded_reading(
    patient: int, counter: int, *, now_ms: int = 0, frame_counter: int | None = None, ill_after: int = 10**9
) -> bytes:
    at_ms = now_ms or 1_767_600_000_000 + counter * 5_000
    ill = counter >= ill_after and patient % 100 == counter % 100
    reading = Reading(
        stay_id=f"{patient:032x}",
        reading_id=f"{patient:06d}{counter:010d}".encode(),
        session_id=f"{patient:016d}".encode(),
        counter=counter,
        at_ms=at_ms,
        received_ms=at_ms,
        arrived_ms=at_ms + 20,
        heart_rate=125.0 if ill else 70.0 + counter % 7,
        respiratory_rate=26.0 if ill else 14.0,
        spo2=89.0 if ill else 97.0,
        temperature=37.0,
    )
    frame = None if frame_counter is None else FrameRef(b"e" * 16, b"s" * 16, 1, frame_counter)
    return encode_record(ReadingRecord(messages=(reading,), frame=frame))


async def run_until(worker: VitalsConsumer, condition: Callable[[], bool]) -> None:
    running = asyncio.create_task(worker.run())
    while not condition():
        if running.done():
            running.result()
        await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@contextlib.contextmanager
def worker_and_writer(services: Services) -> Iterator[None]:
    """Run a worker and a store writer in processes of their own."""

    class OneLog:
        config = services.log

    worker = Worker(OneLog(), services.folder)  # type: ignore[arg-type]
    environment = {
        "VITALLOOM_STORE__KAFKA__BOOTSTRAP": services.log.bootstrap,
        "VITALLOOM_STORE__INFLUX__URL": services.influx.url,
        "VITALLOOM_STORE__INFLUX__ORG": services.influx.org,
        "VITALLOOM_STORE__INFLUX__TOKEN_FILE": str(services.influx.token_file),
        "VITALLOOM_STORE__BATCH_MS": "200",
    }
    with (services.folder / "store.log").open("wb") as log:
        writer = subprocess.Popen(
            [sys.executable, "-m", "vitalloom", "store", "run"], env=os.environ | environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not worker.has_taken() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield
    finally:
        worker.end()
        writer.kill()
        writer.wait()


@contextlib.asynccontextmanager
async def listening(log: KafkaConfig, name: str) -> AsyncIterator[Any]:
    reader = consumer(log, group=None, fetch_max_wait_ms=5)
    await reader.start()
    full = topic(log, name)
    places = [TopicPartition(full, index) for index in range(1 if name == KAFKA_STORED else PARTITIONS)]
    reader.assign(places)
    await reader.seek_to_end(*places)
    try:
        yield reader
    finally:
        await reader.stop()


def quantiles(values: list[float]) -> dict[str, int]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49]), "p99": round(cuts[98]), "max": round(max(values))}


async def _records(services: Services, name: str) -> list[Any]:
    reader = consumer(services.log, group=None)
    await reader.start()
    places = [TopicPartition(topic(services.log, name), index) for index in range(PARTITIONS)]
    reader.assign(places)
    ends = await reader.end_offsets(places)
    await reader.seek_to_beginning(*places)
    found: list[Any] = []
    while any([await reader.position(place) < ends[place] for place in places]):
        for records in (await reader.getmany(timeout_ms=200)).values():
            found += records
    await reader.stop()
    return found


async def count_records(services: Services, name: str) -> int:
    return len(await _records(services, name))


async def topic_bytes(services: Services, name: str) -> int:
    """Bytes of a topic on the broker's disk."""
    folder = services.folder / "kafka" / "data"
    return sum(path.stat().st_size for path in folder.glob(f"{topic(services.log, name)}-*/*.log"))


async def event_lines(services: Services) -> list[str]:
    async with Database(services.influx) as database:
        _, read = TOPIC_GROUPS["events"]
        entries = [read(record, database.buckets) for record in await _records(services, KAFKA_EVENTS)]
    return [line for entry in entries for _, line in entry.lines]
