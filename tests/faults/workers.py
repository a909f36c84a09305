"""Workers as processes with a real Kafka, a steady load, injected faults, and checks of the results.

The truth is what lies in the log, read committed: every reading judged once, every alarm as one engine in one process
raises it, the newest row of every patient the last.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec

from stream.embedded.store import Store
from stream.embedded.stream import Engine
from stream.kafka import producer, topic
from stream.records import (
    AlarmRecord,
    ObservationRecord,
    PeriodRecord,
    ReadingRecord,
    decode_alarm_record,
    decode_judgement_record,
    decode_patient_record,
    decode_state_row,
    encode_record,
)
from tests.patience import PATIENCE_S
from tests.services.kafka import Kafka
from tests.stream.cluster import Log
from tests.stream.nights import MOST_DEVICES
from vitals.messages import (
    AlarmChanged,
    AlarmKind,
    Consciousness,
    Event,
    News2Scored,
    Observation,
    Reading,
    ReadingJudged,
)
from vitals.plan import MonitoringPlan
from vitals.sender_clock import BOUND_MS
from wire.topics import KAFKA_ALARMS, KAFKA_EVENTS, KAFKA_READINGS, KAFKA_STATE

ROOT: Final = Path(__file__).parents[2]
SESSION_TIMEOUT_MS: Final = 3_000
_ILL: Final = {"respiratory_rate": 26.0, "spo2": 89.0, "heart_rate": 125.0}
_WELL: Final = {"respiratory_rate": 14.0, "spo2": 97.0, "heart_rate": 70.0}


class Worker:
    """A worker as a process of its own.

    Args:
        point: where it dies by itself; see `failing_worker`.
    """

    def __init__(self, log: Log, folder: Path, *, engine: str = "faust", point: str = "") -> None:
        told = {
            "VITALLOOM_WORKER__HTTP__LISTEN": "",
            "VITALLOOM_WORKER__KAFKA__BOOTSTRAP": log.config.bootstrap,
            "VITALLOOM_WORKER__KAFKA__APPLICATION": log.config.application,
            "VITALLOOM_WORKER__KAFKA__TOPIC_PREFIX": log.config.topic_prefix,
            "VITALLOOM_WORKER__SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "vitalloom", "worker", "--engine", engine]
        if point:
            command = [sys.executable, "-m", "tests.faults.failing_worker", point, engine]
        self.log_file = folder / f"worker-{time.monotonic_ns()}.log"
        with self.log_file.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                env=os.environ | told,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def tell(self, number: int) -> None:
        """Send it a signal."""
        if self.is_running:
            self._process.send_signal(number)

    async def ended(self, within_s: float = PATIENCE_S) -> float:
        """Wait for its end; how long that took."""
        began = time.monotonic()
        while self.is_running:
            assert time.monotonic() - began < within_s, f"a worker does not end: {self.said()}"
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    def end(self) -> None:
        """Kill it, whatever its state."""
        self.tell(signal.SIGCONT)
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def said(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-3_000:]

    def has_taken(self) -> bool:
        """Whether it owns, or owned, a partition."""
        return "partition acquired" in self.said()


class Load:
    """Patients with one to six devices that measure in turn, steadily, and a nurse who does rounds.

    Every third patient becomes ill, is well again, and so on.
    """

    def __init__(self, log: Log, *, patients: int = 40, per_s: float = 5.0) -> None:
        self._log = log
        self._patients = patients
        self._pause_s = 1 / per_s
        self._task: asyncio.Task[None] | None = None
        self.sent = 0
        self.slowest_ms = 0.0

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Everything that was begun is in the log."""
        assert self._task is not None
        task, self._task = self._task, None
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return

    async def _run(self) -> None:
        sender = producer(self._log.config)
        await sender.start()
        waiting: list[asyncio.Future[Any]] = []
        counter, due = 0, time.monotonic()
        try:
            while True:
                now_ms = time.time_ns() // 1_000_000
                for patient in range(self._patients):
                    reading = self._reading(patient, counter, now_ms)
                    waiting.append(
                        await sender.send(
                            topic(self._log.config, KAFKA_READINGS),
                            key=reading.stay_id.encode(),
                            value=encode_record(ReadingRecord(messages=(reading,))),
                        )
                    )
                    self.sent += 1
                    if counter % 40 == patient:
                        seen = ObservationRecord(message=_observed(patient, counter, now_ms))
                        name = topic(self._log.config, KAFKA_READINGS)
                        waiting.append(await sender.send(name, key=reading.stay_id.encode(), value=encode_record(seen)))
                counter += 1
                due += self._pause_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            await asyncio.gather(*waiting)
            await sender.stop()

    def _reading(self, patient: int, counter: int, now_ms: int) -> Reading:
        is_ill = patient % 3 == 0 and (counter // 40 + patient) % 2
        device = counter % (1 + patient % MOST_DEVICES)
        return Reading(
            stay_id=f"{patient:032x}",
            binding_id=f"{device:016x}{patient:016x}" if device else "",
            reading_id=f"{patient:06d}{counter:010d}".encode(),
            session_id=f"{device:08d}{patient:08d}".encode(),
            counter=counter,
            at_ms=now_ms,
            received_ms=now_ms,
            arrived_ms=now_ms,
            **(_ILL if is_ill else _WELL),
        )


def _observed(patient: int, counter: int, now_ms: int) -> Observation:
    return Observation(
        stay_id=f"{patient:032x}",
        observation_id=f"{counter:08d}{patient:08d}".encode(),
        by="nurse-1",
        at_ms=now_ms,
        entered_ms=now_ms,
        heard_ms=now_ms,
        consciousness=Consciousness.ALERT,
        supplemental_oxygen=0.0,
    )


class Verdict(msgspec.Struct, kw_only=True):
    """Results: which readings were judged, lost or doubled."""

    sent: int
    judged: int
    lost: int
    duplicated: int
    alarms: int
    alarms_expected: int
    alarms_wrong: int
    scores_wrong: int
    stale_rows: int
    worst_age_ms: int
    age_by_step_ms: dict[str, int]
    patients: int

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.duplicated or self.alarms_wrong or self.scores_wrong or self.stale_rows)


async def settled(log: Log, *, sent: int, within_s: float = PATIENCE_S) -> None:
    """Wait until everything that was sent is judged."""
    began = time.monotonic()
    while True:
        found = sum(
            isinstance(event, ReadingJudged)
            for record in await log.records(KAFKA_EVENTS)
            for event in decode_judgement_record(record.value).events
        )
        if found >= sent or time.monotonic() - began > within_s:
            return
        await asyncio.sleep(0.5)


async def verdict(log: Log, folder: Path, *, sent: int, steps: list[tuple[str, float]]) -> Verdict:
    """Read the whole log and compare.

    Args:
        steps: name and wall time of what was done.
    """
    times: Counter[bytes] = Counter()
    ages: dict[str, int] = dict.fromkeys((name for name, _ in steps), 0)
    worst_ms = 0
    scores: dict[str, list[Event]] = defaultdict(list)
    for record in await log.records(KAFKA_EVENTS):
        for event in decode_judgement_record(record.value).events:
            if isinstance(event, ReadingJudged):
                times[event.reading.reading_id] += 1
                age_ms = record.timestamp - event.reading.at_ms
                worst_ms = max(worst_ms, age_ms)
                step = next((name for name, at_s in reversed(steps) if at_s * 1_000 <= record.timestamp), "")
                ages[step] = max(ages.get(step, 0), age_ms)
            elif isinstance(event, News2Scored):
                scores[event.stay_id].append(event)
    alarms = await physiological(log)
    alarms_due, scores_due = await expected_alarms(log, folder)
    rows, newest = await _rows(log)
    return Verdict(
        sent=sent,
        judged=len(times),
        lost=sent - len(times),
        duplicated=sum(count - 1 for count in times.values()),
        alarms=sum(map(len, alarms.values())),
        alarms_expected=sum(map(len, alarms_due.values())),
        alarms_wrong=sum(alarms.get(one, []) != alarms_due.get(one, []) for one in alarms | alarms_due),
        scores_wrong=sum(scores.get(one, []) != scores_due.get(one, []) for one in scores | scores_due),
        stale_rows=sum(rows[key] != newest[key] for key in newest),
        worst_age_ms=worst_ms,
        age_by_step_ms=ages,
        patients=len(newest),
    )


async def physiological(log: Log) -> dict[str, list[AlarmChanged]]:
    """Alarms of patients, by patient, as they lie in the log."""
    alarms: dict[str, list[AlarmChanged]] = defaultdict(list)
    for record in await log.records(KAFKA_ALARMS):
        one = decode_alarm_record(record.value)
        if isinstance(one, AlarmRecord) and one.alarm.kind is AlarmKind.PHYSIOLOGICAL:
            alarms[one.alarm.stay_id].append(one.alarm)
    return alarms


async def expected_alarms(
    log: Log, folder: Path, *, cadence_ms: dict[str, int] | None = None, clock_bound_ms: int = BOUND_MS
) -> tuple[dict[str, list[AlarmChanged]], dict[str, list[Event]]]:
    """What one process makes of the readings as they lie in the log: alarms of patients, and their scores.

    Args:
        cadence_ms, clock_bound_ms: as the workers have them; in simulated time both are wide.
    """
    alarms: dict[str, list[AlarmChanged]] = defaultdict(list)
    scores: dict[str, list[Event]] = defaultdict(list)
    with Store(folder / f"expected-{time.monotonic_ns()}.sqlite", synchronous="OFF") as store:
        for partition in range(64):
            engine = Engine(store, lambda _: MonitoringPlan(cadence_ms=cadence_ms or {}, clock_bound_ms=clock_bound_ms))
            records = [one for one in await log.records(KAFKA_READINGS) if one.partition == partition]
            if not records:
                break
            messages = []
            for record in records:
                arrived = decode_patient_record(record.value)
                assert isinstance(arrived, ReadingRecord | PeriodRecord | ObservationRecord)
                messages += arrived.messages if isinstance(arrived, ReadingRecord) else (arrived.message,)
            for event in engine.apply(messages):
                if isinstance(event, AlarmChanged) and event.kind is AlarmKind.PHYSIOLOGICAL:
                    alarms[event.stay_id].append(event)
                elif isinstance(event, News2Scored):
                    scores[event.stay_id].append(event)
    return alarms, scores


async def _rows(log: Log) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """Of every patient: the offset in the last row, and the offset of the last reading in the log."""
    rows = {record.key: decode_state_row(record.value).last_offset for record in await log.records(KAFKA_STATE)}
    newest = {record.key: record.offset for record in await log.records(KAFKA_READINGS)}
    return rows, newest


class Trial:
    """A schedule of disasters over workers and a broker."""

    def __init__(self, kafka: Kafka, folder: Path, *, engine: str = "faust") -> None:
        self.kafka, self.folder, self.engine = kafka, folder, engine
        self.log = Log(kafka)
        self.load = Load(self.log)
        self.steps: list[tuple[str, float]] = []
        self.workers: list[Worker] = []

    def start(self, *, point: str = "") -> Worker:
        worker = Worker(self.log, self.folder, engine=self.engine, point=point)
        self.workers.append(worker)
        return worker

    def step(self, name: str) -> None:
        self.steps.append((name, time.time()))

    async def taken(self, worker: Worker) -> None:
        """Wait until a worker has a partition."""
        began = time.monotonic()
        while not worker.has_taken():
            assert worker.is_running, worker.said()
            assert time.monotonic() - began < 40, worker.said()
            await asyncio.sleep(0.05)

    async def finish(self) -> Verdict:
        """End the load, wait until all of it is judged, and look."""
        await self.load.end()
        await settled(self.log, sent=self.load.sent)
        for worker in self.workers:
            worker.end()
        return await verdict(self.log, self.folder, sent=self.load.sent, steps=self.steps)

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
