"""What a cluster costs on real services, one question at a time.

`python -m benchmarks.cluster growth|recovery|latency|journey|store|footprint|gateway ... [--json] [--quick]`

growth      cost of a reading in a worker among 100 to 100,000 patients
recovery    how long a worker needs to take over 100,000 patients
latency     reading in Kafka -> alarm in Kafka -> point in InfluxDB, 1,000 patients at 1 reading/s, on this machine
journey     wearable -> alarm in Kafka -> point in InfluxDB, wearables and edges and everything on this machine
store       points a second against bare writes of the same lines
footprint   bytes of Kafka and InfluxDB a patient-day
gateway     frames a second that an ingest opens and passes on
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition
from msgspec.structs import replace

from benchmarks._timing import QUICK, report
from benchmarks.throughput import fill
from runtime.clock import SystemClock
from stream.config import InfluxConfig, KafkaConfig, StoreConfig, WorkerConfig
from stream.engine.partitions import VitalsConsumer
from stream.engine.process import tune_gc
from stream.engine.processor import Processor
from stream.kafka import consumer, create_topics, producer, topic
from stream.records import (
    AlarmRecord,
    FrameRef,
    ReadingRecord,
    decode_alarm_record,
    decode_patient_record,
    decode_stored_frames,
    encode_record,
)
from stream.store.influx import Database, prepare_database
from stream.store.writer import TOPIC_GROUPS, StoreWriter
from tests.faults.workers import Worker
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from vitals.messages import Reading
from wire.topics import KAFKA_ALARMS, KAFKA_EVENTS, KAFKA_READINGS, KAFKA_STATE, KAFKA_STORED

PARTITIONS: Final = 4
_WARM: Final = 3  # readings of each patient before anything is measured
_COMPACTED_SOON: Final = (
    "--storage-cache-snapshot-write-cold-duration", "2s", "--storage-compact-full-write-cold-duration", "2s",
)  # fmt: skip
"""What has been quiet for seconds is written to columns, not after minutes and hours: `footprint` waits for that."""
Facts = dict[str, Any]


class Services:
    """A Kafka and an InfluxDB that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        os.environ["VITALLOOM_REQUIRE_SERVICES"] = "1"
        self.folder = folder
        self.kafka, self.influxdb = Kafka(folder / "kafka"), InfluxDB(folder / "influxdb", *_COMPACTED_SOON)
        self.kafka.start()
        self.influxdb.start()
        token = folder / "token"
        token.write_text(self.influxdb.token, encoding="utf-8")
        self.influx = InfluxConfig(url=self.influxdb.url, org=self.influxdb.org, token_file=token, timeout_ms=30_000)
        self.log = KafkaConfig(bootstrap=self.kafka.address)
        prepare_database(self.influx, retention_days=3_650, aggregate_days=3_650)
        asyncio.run(create_topics(self.log, partitions=PARTITIONS))

    def end(self) -> None:
        self.influxdb.stop()
        self.kafka.stop()


def growth(_: Services) -> Facts:
    """One partition's processor, a batch of 1,000 readings a commit, every patient in turn: nobody falls silent."""
    sizes = (100, 1_000) if QUICK else (100, 1_000, 10_000, 100_000)
    found = {}
    tune_gc()
    for patients in sizes:
        processor, offset, spent, judged = Processor(), 0, 0, 0
        for counter in range(_WARM + max(2, 20_000 // patients)):
            values = [_record(patient, counter) for patient in range(patients)]
            for start in range(0, patients, 1_000):
                began = time.process_time_ns()
                for value in values[start : start + 1_000]:
                    processor.apply(offset, value)
                    offset += 1
                processor.drain()
                if counter >= _WARM:
                    spent += time.process_time_ns() - began
                    judged += min(1_000, patients)
        found[patients] = round(spent / judged / 1_000, 1)
        del processor
    return {"us_a_reading": found, "ratio": round(found[sizes[-1]] / found[sizes[0]], 2)}


def recovery(services: Services) -> Facts:
    """States of real patients in the log; a worker takes all partitions."""
    patients = 1_000 if QUICK else 100_000
    # Readings of one patient after an hour of measuring, under many names: a state of the usual size.
    fill(services.log, patients * 2, patients)

    async def work() -> Facts:
        first = VitalsConsumer(WorkerConfig(kafka=services.log), SystemClock())
        await _until(first, lambda: first.progress.records >= patients * 2 and first.all_committed)
        second = VitalsConsumer(WorkerConfig(kafka=services.log), SystemClock())
        began = time.perf_counter()
        took: list[float] = []

        def taken() -> bool:
            if second.progress.acquired >= PARTITIONS and not took:
                took.append(time.perf_counter() - began)
                took.append(second.patients)
            return bool(took)

        await _until(second, taken)
        size = await _bytes(services, KAFKA_STATE)
        return {"patients": took[1], "seconds": round(took[0], 2), "state_bytes": size}

    tune_gc()
    return asyncio.run(work())


def latency(services: Services) -> Facts:
    """A load, a worker and a store writer as processes of their own beside the services."""
    patients, seconds = (50, 5) if QUICK else (1_000, 40)

    async def work() -> Facts:
        sent: dict[int, float] = {}
        alarms: list[float] = []
        stored: list[float] = []
        async with (
            _listening(services.log, KAFKA_ALARMS) as heard_alarms,
            _listening(services.log, KAFKA_STORED) as heard,
        ):
            tasks = [
                asyncio.create_task(_note_alarms(heard_alarms, alarms)),
                asyncio.create_task(_note_stored(heard, sent, stored)),
            ]
            sender = producer(services.log)
            await sender.start()
            began = time.perf_counter()
            for counter in range(seconds):
                for patient in range(patients):
                    due = began + counter + patient / patients
                    wait = due - time.perf_counter()
                    if wait > 0.002:
                        await asyncio.sleep(wait)
                    number = counter * patients + patient
                    sent[number] = time.time()
                    value = _record(
                        patient, counter, now_ms=time.time_ns() // 1_000_000, frame_counter=number, ill_after=10
                    )
                    await sender.send(topic(services.log, KAFKA_READINGS), key=f"{patient:032x}".encode(), value=value)
            deadline = time.monotonic() + 30
            while len(stored) < len(sent) and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            await sender.stop()
            for task in tasks:
                task.cancel()
        return {
            "patients": patients, "readings": len(sent), "stored": len(stored), "alarms": len(alarms),
            "alarm_ms": _quantiles(alarms), "stored_ms": _quantiles(stored),
        }  # fmt: skip

    with _processes(services):
        return asyncio.run(work())


def journey(services: Services) -> Facts:
    """Whole sites in real time: sealed by wearables, through Mosquitto, edges and all the rest, into the database.

    The first seconds, in which everything finds everything, are left out.
    """
    loads = ((4, 1_000),) if QUICK else ((200, 1_000), (1_000, 5_000))
    found = {
        f"{patients} patients, one reading each {cadence_ms / 1_000:.0f} s": asyncio.run(
            _journey(services, patients, cadence_ms, seconds=10 if QUICK else 60)
        )
        for patients, cadence_ms in loads
    }
    if not QUICK:  # the first alarms come after minutes
        found["100 patients who all get worse, one reading each 1 s"] = asyncio.run(
            _journey(services, 100, 1_000, seconds=420, scenario="hypoxia")
        )
    return found


async def _journey(
    services: Services, patients: int, cadence_ms: int, *, seconds: int, scenario: str = "mixed"
) -> Facts:
    from tests.faults.pipeline import live, site

    taken_ms: dict[tuple[bytes, int], int] = {}  # by frame of an edge: when its wearable measured
    stored: list[float] = []
    alarms: list[float] = []
    async with site(
        services.folder / f"site-{patients}", services.kafka, services.influxdb, seconds=seconds, patients=patients,
        edges=1 if patients < 100 else 2, speed=1.0, cadence_ms=cadence_ms, look_s=5.0, scenario=scenario,
    ) as pipeline:  # fmt: skip
        clock = pipeline.ward.setup.clock
        since_ms = clock.now_ms() + (2_000 if QUICK else 15_000)
        log = pipeline.log.config

        async def note_readings(reader: Any) -> None:
            async for record in reader:
                one = decode_patient_record(record.value)
                if isinstance(one, ReadingRecord) and one.frame is not None:
                    taken_ms[one.frame.session_id, one.frame.counter] = one.messages[0].at_ms

        async def note_stored(reader: Any) -> None:
            async for record in reader:
                now_ms = clock.now_ms()
                for one in decode_stored_frames(record.value).frames:
                    at_ms = taken_ms.pop((one.session_id, one.counter), None)
                    if at_ms is not None and at_ms >= since_ms:
                        stored.append(now_ms - at_ms)

        async def note_alarms(reader: Any) -> None:
            async for record in reader:
                one = decode_alarm_record(record.value)
                if (
                    isinstance(one, AlarmRecord)
                    and one.alarm.revision == 0
                    and one.alarm.kind == "physiological"
                    and (one.alarm.at_ms >= since_ms)
                ):
                    alarms.append(clock.now_ms() - one.alarm.at_ms)

        async with (
            _listening(log, KAFKA_READINGS) as readings, _listening(log, KAFKA_STORED) as told,
            _listening(log, KAFKA_ALARMS) as alarmed,
        ):  # fmt: skip
            listening = [
                asyncio.create_task(note_readings(readings)), asyncio.create_task(note_stored(told)),
                asyncio.create_task(note_alarms(alarmed)),
            ]  # fmt: skip
            try:
                await live(pipeline)
            finally:
                for task in listening:
                    task.cancel()
        pipeline.alive()
        sent = pipeline.ward.fleets.counts.sent
    return {
        "readings": sent, "measured": len(stored), "alarms": len(alarms), "stored_ms": _quantiles(stored),
        "alarm_ms": _quantiles(alarms),
    }  # fmt: skip


def store(services: Services) -> Facts:
    """The writer over a log that is full, and the same lines through a bare client, in turn."""
    patients, readings = (50, 1_000) if QUICK else (1_000, 60_000)
    fill(services.log, readings, patients)
    rounds = 1 if QUICK else 5

    async def work() -> Facts:
        worker = VitalsConsumer(WorkerConfig(kafka=services.log), SystemClock())
        await _until(worker, lambda: worker.progress.records >= readings and worker.all_committed)
        lines = await _lines(services)
        ours, bare = [], []
        for number in range(rounds):
            bucket = f"ours-{number}"
            config = replace(services.influx, bucket=bucket)
            await asyncio.to_thread(prepare_database, config, retention_days=3_650, aggregate_days=3_650)
            log = replace(services.log, application=f"store-{number}")
            writer = StoreWriter(StoreConfig(kafka=log, influx=config), SystemClock())
            running = asyncio.create_task(writer.run())
            while not writer.counts["events"].points:
                await asyncio.sleep(0.001)
            first, began = writer.counts["events"].points, time.perf_counter()
            while writer.counts["events"].points < len(lines):
                await asyncio.sleep(0.005)
            ours.append((len(lines) - first) / (time.perf_counter() - began))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            config = replace(services.influx, bucket=f"bare-{number}")
            await asyncio.to_thread(prepare_database, config, retention_days=3_650, aggregate_days=3_650)
            async with Database(config) as database:
                began = time.perf_counter()
                for start in range(0, len(lines), 5_000):
                    await database.write(config.bucket, lines[start : start + 5_000])
                bare.append(len(lines) / (time.perf_counter() - began))
        rates = statistics.median(ours), statistics.median(bare)
        return {
            "points": len(lines), "ours_per_s": round(rates[0]), "bare_per_s": round(rates[1]),
            "ratio": round(rates[0] / rates[1], 2),
        }  # fmt: skip

    return asyncio.run(work())


def footprint(services: Services) -> Facts:
    """An hour of a hundred patients at a reading each five seconds, through everything; then what lies on the disks."""
    patients, hours = (20, 0.05) if QUICK else (100, 1.0)
    readings = round(hours * 720) * patients
    fill(services.log, readings, patients, step_ms=5_000)

    async def work() -> Facts:
        worker = VitalsConsumer(WorkerConfig(kafka=services.log, fetch_records=patients), SystemClock())
        await _until(worker, lambda: worker.progress.records >= readings and worker.all_committed)
        writer = StoreWriter(StoreConfig(kafka=services.log, influx=services.influx), SystemClock())
        running = asyncio.create_task(writer.run())
        events = await _count(services, KAFKA_EVENTS)
        while writer.counts["events"].records < events:
            await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        points = writer.counts["events"].points
        kafka = {name: await _bytes(services, name) for name in (KAFKA_READINGS, KAFKA_EVENTS, KAFKA_STATE)}
        return {"points": points, "kafka": kafka}

    found = asyncio.run(work())
    disk = _settled(services.folder / "influxdb" / "data" / "engine")
    days = patients * hours / 24
    return {
        "readings": readings, "points": found["points"],
        "kafka_bytes_a_patient_day": {name: round(size / days) for name, size in found["kafka"].items()},
        "influxdb_bytes_a_patient_day": round(disk / days),
        "influxdb_bytes_a_point": round(disk / found["points"], 1),
    }  # fmt: skip


def _settled(engine: Path) -> int:
    """Bytes of a database that has compacted everything: until nothing changes any more."""

    def size(part: str) -> int:
        # Blocks: some of its files are sparse.
        return sum(path.stat().st_blocks * 512 for path in engine.glob(f"{part}/**/*") if path.is_file())

    before, deadline = -1, time.monotonic() + 120
    while (now := size("data") + size("wal")) != before and time.monotonic() < deadline:
        before = now
        time.sleep(10)
    return now


def gateway(services: Services) -> Facts:
    """Frames of one edge, opened and passed on to Kafka; without the MQTT connection."""
    from stream.config import IngestConfig
    from stream.ingest.kafka_ingest import KafkaIngest
    from stream.ingest.ledger import Ledger
    from tests.stream.receiving_site import UNLIMITED, Site

    frames = 1_000 if QUICK else 20_000
    folder = services.folder / "gateway"
    folder.mkdir()
    site = Site(folder)
    inbound = [site.inbound(site.session().frame)]
    inbound += [site.inbound(site.sealed(site.message(n * 100))) for n in range(frames)]

    async def work() -> float:
        with Ledger(folder / "ledger.sqlite") as ledger:
            one = KafkaIngest(
                site.demo.ingest.me, site.demo.ingest.directory, ledger, IngestConfig(kafka=services.log), site.clock,
                limits=UNLIMITED,
            )  # fmt: skip
            sender = await one._start_producer()
            began = time.perf_counter()
            for start in range(0, len(inbound), 500):
                await one._forward(sender, inbound[start : start + 500])
            took = time.perf_counter() - began
            await sender.stop()
        return len(inbound) / took

    return {"frames_per_s": round(asyncio.run(work()))}


QUESTIONS: Final[dict[str, Callable[[Services], Facts]]] = {
    "growth": growth,
    "recovery": recovery,
    "latency": latency,
    "journey": journey,
    "store": store,
    "footprint": footprint,
    "gateway": gateway,
}


def _record(
    patient: int, counter: int, *, now_ms: int = 0, frame_counter: int | None = None, ill_after: int = 10**9
) -> bytes:
    at_ms = now_ms or 1_767_600_000_000 + counter * 5_000
    ill = counter >= ill_after and patient % 100 == counter % 100
    reading = Reading(
        binding_id=f"{patient:032x}", reading_id=f"{patient:06d}{counter:010d}".encode(),
        session_id=f"{patient:016d}".encode(), counter=counter, at_ms=at_ms, received_ms=at_ms, arrived_ms=at_ms + 20,
        heart_rate=125.0 if ill else 70.0 + counter % 7, respiratory_rate=26.0 if ill else 14.0,
        spo2=89.0 if ill else 97.0, temperature=37.0,
    )  # fmt: skip
    frame = None if frame_counter is None else FrameRef(b"e" * 16, b"s" * 16, 1, frame_counter)
    return encode_record(ReadingRecord(messages=(reading,), frame=frame))


async def _until(worker: VitalsConsumer, condition: Callable[[], bool]) -> None:
    running = asyncio.create_task(worker.run())
    while not condition():
        if running.done():
            running.result()
        await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@contextlib.contextmanager
def _processes(services: Services) -> Any:
    """A worker and a store writer as a site has them."""
    import subprocess

    class OneLog:
        config = services.log

    worker = Worker(OneLog(), services.folder)  # type: ignore[arg-type]
    told = {
        "VITALLOOM_STORE__KAFKA__BOOTSTRAP": services.log.bootstrap,
        "VITALLOOM_STORE__INFLUX__URL": services.influx.url,
        "VITALLOOM_STORE__INFLUX__ORG": services.influx.org,
        "VITALLOOM_STORE__INFLUX__TOKEN_FILE": str(services.influx.token_file),
        "VITALLOOM_STORE__BATCH_MS": "200",
    }
    with (services.folder / "store.log").open("wb") as log:
        writer = subprocess.Popen(
            [sys.executable, "-m", "vitalloom", "store", "run"], env=os.environ | told, stdout=log, stderr=log
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
async def _listening(log: KafkaConfig, name: str) -> AsyncIterator[Any]:
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


async def _note_alarms(reader: Any, found: list[float]) -> None:
    async for record in reader:
        now = time.time()
        one = decode_alarm_record(record.value)
        if one.alarm.revision == 0 and one.alarm.kind == "physiological":
            found.append((now - one.alarm.at_ms / 1_000) * 1_000)


async def _note_stored(reader: Any, sent: dict[int, float], found: list[float]) -> None:
    async for record in reader:
        now = time.time()
        found += [(now - sent[one.counter]) * 1_000 for one in decode_stored_frames(record.value).frames]


def _quantiles(values: list[float]) -> dict[str, int]:
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


async def _count(services: Services, name: str) -> int:
    return len(await _records(services, name))


async def _bytes(services: Services, name: str) -> int:
    """As they lie on the broker's disk."""
    folder = services.folder / "kafka" / "data"
    return sum(path.stat().st_size for path in folder.glob(f"{topic(services.log, name)}-*/*.log"))


async def _lines(services: Services) -> list[str]:
    async with Database(services.influx) as database:
        _, read = TOPIC_GROUPS["events"]
        entries = [read(record, database.buckets) for record in await _records(services, KAFKA_EVENTS)]
    return [line for entry in entries for _, line in entry.lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=list(QUESTIONS), help="some of them; all by default")
    parser.add_argument("--json", action="store_true", help="one line each")
    parser.add_argument("--quick", action="store_true", help="whether it runs; the figures mean nothing")
    told = parser.parse_args()
    for name in told.questions:
        if name not in QUESTIONS:
            parser.error(f"no such question: {name}; known are {', '.join(QUESTIONS)}")
        with tempfile.TemporaryDirectory(prefix="vitalloom-bench-", ignore_cleanup_errors=True) as folder:
            services = Services(Path(folder))
            try:
                facts = QUESTIONS[name](services)
            finally:
                services.end()
        report(name, [(key, str(value)) for key, value in facts.items()], ("what", "found"), facts)


if __name__ == "__main__":
    main()
