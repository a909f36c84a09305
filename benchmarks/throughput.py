"""Throughput of stream engines on the same records: vitalloom's, stock Faust, Quix Streams, Bytewax, and discarding.

`python -m benchmarks.throughput [--json] [--quick] [--rounds N] [--records N] [--job update|kernel]`

Every engine runs in its own process and consumer group and reads the same topic of one real broker; the engines take
turns in each round. Time is measured from the first record until the last one is processed and, with durable state,
committed. Job `update` counts and keeps the latest value, so it measures the engine itself. Job `kernel` runs
vitalloom's kernel: quality, windows, NEWS2, alarms. Other engines keep their state as their documentation recommends;
only vitalloom's also writes an event for every reading.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import Progress

from benchmarks._timing import QUICK, report
from runtime.clock import SystemClock
from stream.config import KafkaConfig, WorkerConfig
from stream.engine.partitions import VitalsConsumer
from stream.engine.process import tune_gc
from stream.engine.processor import CommitBatch, Processor
from stream.errors import KafkaUnusable
from stream.kafka import create_topics, topic
from stream.records import STATE_VERSION, PatientStateRow, ReadingRecord, decode_patient_record, encode_record
from vitals.messages import AlarmChanged, Reading
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from wire.topics import KAFKA_ALARMS, KAFKA_READINGS, KAFKA_STATE

PARTITIONS: Final = 4
ALARM_EVERY: Final = 100
COMMIT_S: Final = 0.5
_PACK: Final = msgspec.msgpack.Encoder()
_UNPACK: Final = msgspec.msgpack.Decoder()


class Update:
    """The job `update`: a count and the latest value."""

    def __init__(self, state: bytes | None = None) -> None:
        self.count: int
        self.latest: float
        self.count, self.latest = (0, 0.0) if state is None else _UNPACK.decode(state)

    def apply(self, reading: Reading) -> list[bytes]:
        self.count += 1
        self.latest = reading.heart_rate or 0.0
        is_one = (reading.counter + int(reading.stay_id[-4:], 16)) % ALARM_EVERY == 0
        return [b"alarm"] if is_one else []

    def state(self) -> bytes:
        return _PACK.encode((self.count, self.latest))


class Kernel:
    """The job `kernel`: the monitor of a patient."""

    def __init__(self, state: bytes | None = None, *, stay_id: str = "") -> None:
        self._monitor = PatientMonitor.restore(stay_id, state, _PLAN)

    def apply(self, reading: Reading) -> list[bytes]:
        events = self._monitor.on_reading(reading)
        return [_PACK.encode(event) for event in events if isinstance(event, AlarmChanged)]

    def state(self) -> bytes:
        return self._monitor.snapshot()


_PLAN: Final = MonitoringPlan()
JOBS: Final[dict[str, Callable[..., Any]]] = {"update": Update, "kernel": Kernel}


def _job(name: str, stay_id: str, state: bytes | None = None) -> Any:
    return Kernel(state, stay_id=stay_id) if name == "kernel" else Update(state)


def reading_of(value: bytes) -> Reading:
    """The reading of a record."""
    record = decode_patient_record(value)
    assert isinstance(record, ReadingRecord)
    (reading,) = record.messages
    assert isinstance(reading, Reading)
    return reading


class Counting(Processor):
    """vitalloom's processor with the job `update` instead of the kernel."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]] = (), **_: Any) -> None:
        super().__init__((), end=1)
        self._jobs = {key.decode(): Update(msgspec.msgpack.decode(value)[3]) for key, value in rows}
        self._dirty: dict[str, int] = {}
        self._waiting: list[tuple[bytes, bytes]] = []

    def apply(self, offset: int, value: bytes | None) -> None:
        reading = reading_of(value or b"")
        job = self._jobs.get(reading.stay_id)
        if job is None:
            job = self._jobs[reading.stay_id] = Update()
        self._waiting += [(reading.stay_id.encode(), one) for one in job.apply(reading)]
        self._dirty[reading.stay_id] = offset
        self.applied += 1

    def timer_at(self) -> int | None:
        return None

    def take(self) -> CommitBatch:
        states = [
            (key.encode(), encode_record(PatientStateRow(STATE_VERSION, offset, 1, self._jobs[key].state())))
            for key, offset in self._dirty.items()
        ]
        alarms, self._waiting, self._dirty = self._waiting, [], {}
        return CommitBatch(states, [], alarms)


# Engines: each function gets the Kafka settings and the number of records, and returns the seconds it took.


async def _ours(engine: str, log: KafkaConfig, records: int, job: str) -> float:
    config = WorkerConfig(kafka=log, commit_ms=round(COMMIT_S * 1_000))
    vitals = VitalsConsumer(config, SystemClock(), processor=Counting if job == "update" else Processor)
    if engine == "faust":
        from stream.engine.faust_app import FaustWorker

        worker: Any = FaustWorker(config, SystemClock(), vitals=vitals)
    else:
        from stream.engine.plain import PlainWorker

        worker = PlainWorker(config, SystemClock(), vitals=vitals)
    tune_gc()
    running = asyncio.create_task(worker.run())
    while not vitals.progress.records:
        await asyncio.sleep(0.001)
    began = time.perf_counter()
    first = vitals.progress.records
    while vitals.progress.records < records or not vitals.all_committed:
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return took * records / (records - first)


def _plain(log: KafkaConfig, records: int, job: str) -> float:
    return asyncio.run(_ours("plain", log, records, job))


def _faust(log: KafkaConfig, records: int, job: str) -> float:
    return asyncio.run(_ours("faust", log, records, job))


def _discard(log: KafkaConfig, records: int, _job_name: str) -> float:
    """A poll loop that decodes and discards: the fastest way in Python to read record by record."""
    from confluent_kafka import Consumer

    reader = Consumer(
        {"bootstrap.servers": log.bootstrap, "group.id": log.application, "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topic(log, KAFKA_READINGS)])
    began, count = 0.0, 0
    while count < records:
        message = reader.poll(1.0)
        if message is not None and message.error() is None:
            began = began or time.perf_counter()
            reading_of(message.value())
            count += 1
    took = time.perf_counter() - began
    reader.close()
    return took


def _stock_faust(log: KafkaConfig, records: int, job: str, *, durable: bool) -> float:
    import faust

    app = faust.App(
        f"{log.application}-stock",
        broker=f"kafka://{log.bootstrap}",
        store="memory://",
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
        datadir=tempfile.mkdtemp(),
        topic_partitions=PARTITIONS,
        broker_commit_interval=COMMIT_S,
        topic_disable_leader=True,
    )
    source = app.topic(topic(log, KAFKA_READINGS), value_serializer="raw")
    alarms = app.topic(topic(log, KAFKA_ALARMS), value_serializer="raw")
    table: Any = app.Table(f"{log.application}-stock-state", partitions=PARTITIONS) if durable else {}
    jobs: dict[str, Any] = {}
    done: dict[str, float] = {"count": 0}

    @app.agent(source)
    async def judge(stream: Any) -> None:
        async for value in stream:
            done.setdefault("began", time.perf_counter())
            reading = reading_of(value)
            one = jobs.get(reading.stay_id)
            if one is None:
                one = jobs[reading.stay_id] = _job(job, reading.stay_id)
            for alarm in one.apply(reading):
                await alarms.send(key=reading.stay_id.encode(), value=alarm)
            if durable:
                table[reading.stay_id] = one.state().hex()
            done["count"] += 1

    async def work() -> float:
        await app.start()
        while done["count"] < records:
            await asyncio.sleep(0.005)
        if durable:
            await app.producer.flush()
        took = time.perf_counter() - done["began"]
        await app.stop()
        return took

    return asyncio.run(work())


def _quix(log: KafkaConfig, records: int, job: str, *, durable: bool) -> float:
    from quixstreams import Application

    app = Application(
        broker_address=log.bootstrap,
        consumer_group=log.application,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_S,
        state_dir=tempfile.mkdtemp(),
        loglevel="ERROR",
        use_changelog_topics=durable,
        processing_guarantee="exactly-once" if durable else "at-least-once",
    )
    source = app.topic(topic(log, KAFKA_READINGS), key_deserializer="bytes", value_deserializer="bytes")
    alarms = app.topic(f"{log.application}-alarms", key_serializer="bytes", value_serializer="bytes")
    jobs: dict[str, Any] = {}
    began: list[float] = []
    done: list[None] = []

    def judge(value: bytes, state: Any = None) -> list[bytes]:
        if not began:
            began.append(time.perf_counter())
        reading = reading_of(value)
        one = jobs.get(reading.stay_id)
        if one is None:
            one = jobs[reading.stay_id] = _job(job, reading.stay_id)
        found: list[bytes] = one.apply(reading)
        if state is not None:
            state.set("s", one.state().hex())  # Quix stores values as JSON
        done.append(None)
        if len(done) == records:
            app.stop()  # commits before it stops
        return found

    frame = app.dataframe(source)
    if durable:
        frame = frame.apply(judge, stateful=True, expand=True)
    else:
        frame = frame.apply(lambda value: judge(value), expand=True)
    frame.to_topic(alarms)
    app.run()
    return time.perf_counter() - began[0]


def _bytewax(log: KafkaConfig, records: int, job: str, *, durable: bool) -> float:
    import datetime

    import bytewax.operators as op
    from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.testing import run_main

    began: list[float] = []
    ended: list[float] = []
    count = 0

    class Logic(op.StatefulBatchLogic):  # type: ignore[misc]
        def __init__(self, state: bytes | None) -> None:
            self._state = state
            self._one: Any = None

        def on_batch(self, values: list[Reading]) -> tuple[list[bytes], bool]:
            nonlocal count
            if self._one is None:
                self._one = _job(job, values[0].stay_id, self._state)
            count += len(values)
            if count >= records:
                ended.append(time.perf_counter())
            return [alarm for value in values for alarm in self._one.apply(value)], False

        def snapshot(self) -> bytes:
            return self._one.state() if self._one is not None else b""

    def opened(message: Any) -> tuple[str, Reading]:
        if not began:
            began.append(time.perf_counter())
        reading = reading_of(message.value)
        return reading.stay_id, reading

    flow = Dataflow("bench")
    source = KafkaSource([log.bootstrap], [topic(log, KAFKA_READINGS)], tail=False, batch_size=1_000)
    alarms = op.stateful_batch("judge", op.map("open", op.input("in", flow, source), opened), Logic)
    messages = op.map("message", alarms, lambda one: KafkaSinkMessage(one[0].encode(), one[1]))
    op.output("out", messages, KafkaSink([log.bootstrap], topic(log, KAFKA_ALARMS)))
    recovery = None
    if durable:
        folder = Path(tempfile.mkdtemp())
        init_db_dir(folder, PARTITIONS)
        recovery = RecoveryConfig(folder)
    run_main(flow, epoch_interval=datetime.timedelta(seconds=COMMIT_S), recovery_config=recovery)
    # With recovery the last epoch is written at the end of the flow.
    return (time.perf_counter() if durable else ended[-1]) - began[0]


ENGINES: Final[dict[str, Callable[[KafkaConfig, int, str], float]]] = {
    "decode and discard (confluent-kafka)": _discard,
    "vitalloom, plain": _plain,
    "vitalloom, Faust": _faust,
    "stock Faust, memory": lambda *arguments: _stock_faust(*arguments, durable=False),
    "stock Faust, table": lambda *arguments: _stock_faust(*arguments, durable=True),
    "Quix Streams, memory": lambda *arguments: _quix(*arguments, durable=False),
    "Quix Streams, exactly once": lambda *arguments: _quix(*arguments, durable=True),
    "Bytewax, memory": lambda *arguments: _bytewax(*arguments, durable=False),
    "Bytewax, recovery": lambda *arguments: _bytewax(*arguments, durable=True),
}
DISCARD: Final = next(iter(ENGINES))
SLOW: Final = 20
"""Stock Faust gets this fraction of the records; otherwise a round would take minutes."""


def fill(log: KafkaConfig, records: int, patients: int, *, step_ms: int = 1_000) -> int:
    """Write readings to Kafka, `step_ms` apart for each patient and ending now; returns their total bytes."""
    from confluent_kafka import Producer

    sender = Producer({"bootstrap.servers": log.bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    name, size = topic(log, KAFKA_READINGS), 0
    at_ms = time.time_ns() // 1_000_000 - records // patients * step_ms
    for number in range(records):
        patient, counter = number % patients, number // patients
        is_ill = patient % ALARM_EVERY == 0 and counter > 10
        reading = Reading(
            stay_id=f"{patient:032x}",
            reading_id=f"{patient:06d}{counter:010d}".encode(),
            session_id=f"{patient:016d}".encode(),
            counter=counter,
            at_ms=at_ms + counter * step_ms,
            received_ms=at_ms + counter * step_ms,
            arrived_ms=at_ms + counter * step_ms + 50,
            heart_rate=125.0 if is_ill else 70.0 + counter % 7,
            respiratory_rate=26.0 if is_ill else 14.0,
            spo2=89.0 if is_ill else 97.0,
            temperature=37.0,
            battery=80.0,
        )
        value = encode_record(ReadingRecord(messages=(reading,)))
        size += len(value)
        sender.produce(name, key=reading.stay_id.encode(), value=value, partition=patient % PARTITIONS)
        if number % 10_000 == 0:
            sender.poll(0)
    sender.flush()
    return size


def _one(name: str, log: KafkaConfig, records: int, job: str) -> float:
    """Run one engine once in a process of its own; returns records per second."""
    records = records // SLOW if name.startswith("stock") and job == "update" else records
    command = [
        sys.executable,
        "-m",
        "benchmarks.throughput",
        "--engine",
        name,
        "--kafka",
        log.bootstrap,
        "--prefix",
        log.topic_prefix,
        "--group",
        f"g{time.monotonic_ns()}",
        "--records",
        str(records),
        "--job",
        job,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    return records / float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    arguments = _arguments()
    if arguments.engine:
        log = KafkaConfig(bootstrap=arguments.kafka, application=arguments.group, topic_prefix=arguments.prefix)
        if arguments.engine.startswith("vitalloom"):
            asyncio.run(_without_state(log))
        print(ENGINES[arguments.engine](log, arguments.records, arguments.job), flush=True)
        os._exit(0)  # some engines keep threads that do not end
    from tests.services.kafka import Kafka

    os.environ["VITALLOOM_REQUIRE_SERVICES"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="vitalloom-bench-"))
    kafka = Kafka(folder)
    kafka.start()
    try:
        _compare(kafka.address, arguments)
    finally:
        kafka.stop()


def _compare(address: str, arguments: argparse.Namespace) -> None:
    log = KafkaConfig(bootstrap=address, topic_prefix="bench.")
    asyncio.run(create_topics(log, partitions=PARTITIONS))
    size = fill(log, arguments.records, arguments.patients)
    names = [name for name in ENGINES if arguments.only is None or arguments.only in name or name == DISCARD]
    found: dict[str, list[float]] = {name: [] for name in names}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rounds", total=arguments.rounds * len(names))
        for _ in range(arguments.rounds):
            for name in names:
                found[name].append(_one(name, log, arguments.records, arguments.job))
                progress.advance(task)
    median = {name: statistics.median(rates) for name, rates in found.items()}
    base = median[DISCARD]
    rows = [
        (name, f"{rate:,.0f}", f"{rate / base:.2f}", f"{min(found[name]):,.0f} - {max(found[name]):,.0f}")
        for name, rate in median.items()
    ]
    report(
        f"throughput, job {arguments.job}",
        rows,
        ("engine", "records/s", "ratio to discarding", "minimum - maximum"),
        {
            "job": arguments.job,
            "records": arguments.records,
            "patients": arguments.patients,
            "rounds": arguments.rounds,
            "bytes_a_record": round(size / arguments.records),
            "records_per_s": {k: round(v) for k, v in median.items()},
            "of_discarding": {k: float(f"{v / base:.3g}") for k, v in median.items()},
            "least": {k: round(min(v)) for k, v in found.items()},
            "most": {k: round(max(v)) for k, v in found.items()},
        },
    )


async def _without_state(log: KafkaConfig) -> None:
    """Empty the state topic of an earlier run; the readings stay."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=log.bootstrap)
    await admin.start()
    await admin.delete_topics([topic(log, KAFKA_STATE)])
    await admin.close()
    while True:
        try:
            if topic(log, KAFKA_STATE) in await create_topics(log, partitions=PARTITIONS):
                return
        except (KafkaError, KafkaUnusable) as error:
            print(error, file=sys.stderr)  # the topic is still being deleted
        await asyncio.sleep(0.2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 5, help="number of rounds")
    parser.add_argument("--records", type=int, default=2_000 if QUICK else 600_000, help="number of records")
    parser.add_argument("--patients", type=int, default=1_000, help="number of patients")
    parser.add_argument("--job", choices=list(JOBS), default="update", help="work for each record")
    parser.add_argument("--only", help="only engines whose name contains this text, and discarding")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    parser.add_argument(
        "--quick", action="store_true", help="only check that the benchmark runs; the figures are meaningless"
    )
    for inner in ("--engine", "--kafka", "--prefix", "--group"):
        parser.add_argument(inner, default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
