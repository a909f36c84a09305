"""Cost of a cluster on real services: throughput, recovery, latency and disk space.

`python -m benchmarks.cluster growth|recovery|latency|journey|store|footprint|ingest ... [--json] [--quick]`

growth      processor time of a reading in a worker with 100 to 100,000 patients
recovery    time until a worker has restored the states of 100,000 patients
latency     delay from a reading in Kafka to its alarm in Kafka and its point in InfluxDB, 1,000 patients
journey     delay from a wearable to the alarm in Kafka and the point in InfluxDB; everything runs on this machine
store       points per second of the store writer, compared with bare writes of the same lines
footprint   bytes per patient-day in Kafka and InfluxDB
ingest      frames per second that ingest opens and writes to Kafka
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from benchmarks._cluster_services import (
    PARTITIONS,
    Services,
    count_records,
    encoded_reading,
    event_lines,
    listening,
    quantiles,
    run_until,
    settled_bytes,
    topic_bytes,
    worker_and_writer,
)
from benchmarks._timing import QUICK, report
from benchmarks.throughput import fill
from runtime.clock import SystemClock
from stream.config import KafkaConfig, StoreConfig, WorkerConfig
from stream.engine.partitions import VitalsConsumer
from stream.engine.process import tune_gc
from stream.engine.processor import Processor
from stream.kafka import producer, topic
from stream.records import (
    AlarmRecord,
    ReadingRecord,
    StayEndedRecord,
    decode_alarm_record,
    decode_patient_record,
    decode_stored_frames,
)
from stream.store.influx import Database, prepare_database
from stream.store.writer import StoreWriter
from wire.topics import KAFKA_ALARMS, KAFKA_EVENTS, KAFKA_READINGS, KAFKA_STATE, KAFKA_STORED

_WARM: Final = 3  # readings of each patient before anything is measured
Facts = dict[str, Any]


def growth(_: Services) -> Facts:
    """Processor time of a reading, with 1,000 readings per commit and every patient in turn, so that none is silent."""
    sizes = (100, 1_000) if QUICK else (100, 1_000, 10_000, 100_000)
    found = {}
    tune_gc()
    for patients in sizes:
        processor, offset, spent, judged = Processor(), 0, 0, 0
        for counter in range(_WARM + max(2, 20_000 // patients)):
            values = [encoded_reading(patient, counter) for patient in range(patients)]
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
    """Time in which a new worker takes over all partitions and restores the states of their patients."""
    patients = 1_000 if QUICK else 100_000
    # Two readings for each patient, so that every patient has a state.
    fill(services.log, patients * 2, patients)

    async def work() -> Facts:
        first = VitalsConsumer(WorkerConfig(kafka=services.log), SystemClock())
        await run_until(first, lambda: first.progress.records >= patients * 2 and first.all_committed)
        second = VitalsConsumer(WorkerConfig(kafka=services.log), SystemClock())
        began = time.perf_counter()
        restored: list[float] = []

        def is_restored() -> bool:
            if second.progress.acquired >= PARTITIONS and not restored:
                restored.append(time.perf_counter() - began)
                restored.append(second.patients)
            return bool(restored)

        await run_until(second, is_restored)
        size = await topic_bytes(services, KAFKA_STATE)
        return {"patients": restored[1], "seconds": round(restored[0], 2), "state_bytes": size}

    tune_gc()
    return asyncio.run(work())


def latency(services: Services) -> Facts:
    """Readings at a constant rate, with a worker and a store writer in separate processes."""
    patients, seconds = (50, 5) if QUICK else (1_000, 40)

    async def work() -> Facts:
        sent: dict[int, float] = {}
        alarms: list[float] = []
        stored: list[float] = []
        async with (
            listening(services.log, KAFKA_ALARMS) as heard_alarms,
            listening(services.log, KAFKA_STORED) as heard,
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
                    value = encoded_reading(
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
            "patients": patients,
            "readings": len(sent),
            "stored": len(stored),
            "alarms": len(alarms),
            "alarm_ms": quantiles(alarms),
            "stored_ms": quantiles(stored),
        }

    with worker_and_writer(services):
        return asyncio.run(work())


def journey(services: Services) -> Facts:
    """Complete sites in real time: wearables, Mosquitto, edges, ingest, Kafka, workers, store writer and InfluxDB.

    The first seconds, in which connections and sessions start, are not measured.
    """
    loads = ((4, 1_000),) if QUICK else ((200, 1_000), (1_000, 5_000))
    found = {
        f"{patients} patients, one reading each {cadence_ms / 1_000:.0f} s": asyncio.run(
            _journey(services, patients, cadence_ms, seconds=10 if QUICK else 60)
        )
        for patients, cadence_ms in loads
    }
    if not QUICK:  # the first alarms are raised after minutes
        found["100 worsening patients, one reading each 1 s"] = asyncio.run(
            _journey(services, 100, 1_000, seconds=420, scenario="hypoxia")
        )
    return found


async def _journey(
    services: Services, patients: int, cadence_ms: int, *, seconds: int, scenario: str = "mixed"
) -> Facts:
    from tests.faults.pipeline import live, site

    async with site(
        services.folder / f"site-{patients}",
        services.kafka,
        services.influxdb,
        seconds=seconds,
        patients=patients,
        edges=1 if patients < 100 else 2,
        speed=1.0,
        cadence_ms=cadence_ms,
        look_s=5.0,
        scenario=scenario,
    ) as pipeline:
        clock = pipeline.ward.setup.clock
        delays = _Delays(clock, since_ms=clock.now_ms() + (2_000 if QUICK else 15_000))
        async with delays.measuring(pipeline.log.config):
            await live(pipeline)
        pipeline.alive()
        sent = pipeline.ward.fleets.counts.sent
    return {
        "readings": sent,
        "measured": len(delays.stored_ms),
        "alarms": len(delays.alarms_ms),
        "stored_ms": quantiles(delays.stored_ms),
        "alarm_ms": quantiles(delays.alarms_ms),
    }


class _Delays:
    """Milliseconds from a wearable's measurement to its alarm in Kafka and its point in InfluxDB."""

    def __init__(self, clock: Any, *, since_ms: int) -> None:
        self.stored_ms: list[float] = []
        self.alarms_ms: list[float] = []
        self._clock = clock
        self._since_ms = since_ms
        self._measured_ms: dict[tuple[bytes, int], int] = {}  # time of measurement by session and counter of a frame

    @contextlib.asynccontextmanager
    async def measuring(self, log: KafkaConfig) -> AsyncIterator[None]:
        async with (
            listening(log, KAFKA_READINGS) as readings,
            listening(log, KAFKA_STORED) as stored,
            listening(log, KAFKA_ALARMS) as alarms,
        ):
            tasks = [
                asyncio.create_task(self._note_readings(readings)),
                asyncio.create_task(self._note_stored(stored)),
                asyncio.create_task(self._note_alarms(alarms)),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _note_readings(self, reader: Any) -> None:
        async for record in reader:
            one = decode_patient_record(record.value)
            if isinstance(one, ReadingRecord) and one.frame is not None:
                self._measured_ms[one.frame.session_id, one.frame.counter] = one.messages[0].at_ms

    async def _note_stored(self, reader: Any) -> None:
        async for record in reader:
            now_ms = self._clock.now_ms()
            for one in decode_stored_frames(record.value).frames:
                at_ms = self._measured_ms.pop((one.session_id, one.counter), None)
                if at_ms is not None and at_ms >= self._since_ms:
                    self.stored_ms.append(now_ms - at_ms)

    async def _note_alarms(self, reader: Any) -> None:
        async for record in reader:
            one = decode_alarm_record(record.value)
            if (
                isinstance(one, AlarmRecord)
                and one.alarm.revision == 0
                and one.alarm.kind == "physiological"
                and one.alarm.at_ms >= self._since_ms
            ):
                self.alarms_ms.append(self._clock.now_ms() - one.alarm.at_ms)


def store(services: Services) -> Facts:
    """The store writer on a filled topic, alternating with bare writes of the same lines by the same client."""
    patients, readings = (50, 1_000) if QUICK else (1_000, 60_000)
    fill(services.log, readings, patients)
    rounds = 1 if QUICK else 5

    async def work() -> Facts:
        worker = VitalsConsumer(WorkerConfig(kafka=services.log), SystemClock())
        await run_until(worker, lambda: worker.progress.records >= readings and worker.all_committed)
        lines = await event_lines(services)
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
            "points": len(lines),
            "ours_per_s": round(rates[0]),
            "bare_per_s": round(rates[1]),
            "ratio": round(rates[0] / rates[1], 2),
        }

    return asyncio.run(work())


def footprint(services: Services) -> Facts:
    """Disk space after an hour of a hundred patients with a reading every five seconds."""
    patients, hours = (20, 0.05) if QUICK else (100, 1.0)
    readings = round(hours * 720) * patients
    fill(services.log, readings, patients, step_ms=5_000)

    async def work() -> Facts:
        worker = VitalsConsumer(WorkerConfig(kafka=services.log, fetch_records=patients), SystemClock())
        await run_until(worker, lambda: worker.progress.records >= readings and worker.all_committed)
        writer = StoreWriter(StoreConfig(kafka=services.log, influx=services.influx), SystemClock())
        running = asyncio.create_task(writer.run())
        events = await count_records(services, KAFKA_EVENTS)
        while writer.counts["events"].records < events:
            await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        points = writer.counts["events"].points
        kafka = {name: await topic_bytes(services, name) for name in (KAFKA_READINGS, KAFKA_EVENTS, KAFKA_STATE)}
        return {"points": points, "kafka": kafka}

    found = asyncio.run(work())
    disk = settled_bytes(services.folder / "influxdb" / "data" / "engine")
    days = patients * hours / 24
    return {
        "readings": readings,
        "points": found["points"],
        "kafka_bytes_a_patient_day": {name: round(size / days) for name, size in found["kafka"].items()},
        "influxdb_bytes_a_patient_day": round(disk / days),
        "influxdb_bytes_a_point": round(disk / found["points"], 1),
    }


def ingest(services: Services) -> Facts:
    """Frames of one edge, opened and written to Kafka, without MQTT."""
    from stream.config import IngestConfig
    from stream.delivery import RecordSender
    from stream.ingest.kafka_ingest import KafkaIngest
    from stream.ingest.ledger import Ledger
    from tests.stream.receiving_site import UNLIMITED, Site

    frames = 1_000 if QUICK else 20_000
    folder = services.folder / "ingest"
    folder.mkdir()
    site = Site(folder)
    inbound = [site.inbound(site.session().frame)]
    inbound += [site.inbound(site.sealed(site.message(n * 100))) for n in range(frames)]

    async def work() -> float:
        with Ledger(folder / "ledger.sqlite") as ledger:
            one = KafkaIngest(
                site.demo.ingest.me,
                site.demo.ingest.directory,
                ledger,
                IngestConfig(kafka=services.log),
                site.clock,
                limits=UNLIMITED,
            )
            sender = RecordSender(services.log)
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
    "ingest": ingest,
}


_WITHOUT_KAFKA: Final = ("growth",)
_WITHOUT_INFLUXDB: Final = ("growth", "recovery", "ingest")


async def _note_alarms(reader: Any, found: list[float]) -> None:
    async for record in reader:
        now = time.time()
        one = decode_alarm_record(record.value)
        if isinstance(one, StayEndedRecord):
            continue
        if one.alarm.revision == 0 and one.alarm.kind == "physiological":
            found.append((now - one.alarm.at_ms / 1_000) * 1_000)


async def _note_stored(reader: Any, sent: dict[int, float], found: list[float]) -> None:
    async for record in reader:
        now = time.time()
        found += [(now - sent[one.counter]) * 1_000 for one in decode_stored_frames(record.value).frames]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=list(QUESTIONS), help="questions to measure; all by default")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON for each question")
    parser.add_argument(
        "--quick", action="store_true", help="only check that the benchmark runs; the figures are meaningless"
    )
    arguments = parser.parse_args()
    for name in arguments.questions:
        if name not in QUESTIONS:
            parser.error(f"unknown question {name!r}; use {', '.join(QUESTIONS)}")
        with tempfile.TemporaryDirectory(prefix="vitalloom-bench-", ignore_cleanup_errors=True) as folder:
            services = Services(Path(folder))
            try:
                services.start(kafka=name not in _WITHOUT_KAFKA, influxdb=name not in _WITHOUT_INFLUXDB)
                facts = QUESTIONS[name](services)
            finally:
                services.end()
        report(name, [(key, str(value)) for key, value in facts.items()], ("measurement", "value"), facts)


if __name__ == "__main__":
    main()
