"""Simulated patients of several wards as points in InfluxDB, through the processor and the line protocol."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from stream.config import InfluxConfig
from stream.engine.processor import Processor
from stream.records import (
    AlarmRecord,
    AnswerRecord,
    DeadLetter,
    EdgeAlarmRecord,
    FrameRef,
    HeartbeatRecord,
    PartitionHealth,
    PatientLocation,
    ReadingRecord,
    decode_alarm_record,
    decode_judgement_record,
    encode_record,
)
from stream.store.influx import Buckets, Database, prepare_database
from stream.store.line_protocol import line_of
from tests.services.influxdb import InfluxDB
from tests.stream.receiving_site import HOUR, MINUTE, NOW, SECOND
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    Consciousness,
    ModelScore,
    Observation,
    ObservationRecorded,
    Reading,
    WindowClosed,
    WindowOutdated,
)
from wire.codec import EdgeAlarmV1, HeartbeatV1

YEARS = 36_500
CADENCE = 5 * SECOND
LENGTH = HOUR
END = NOW + LENGTH
EDGE_1, EDGE_2 = b"e1" * 8, b"e2" * 8
BACKUP_OF = FrameRef(EDGE_1, b"s" * 16, 1, 1)

Signs = dict[str, float | None]
Course = Callable[[int, random.Random], Signs | None]
"""What is measured `after_ms` into the story; None: no reading."""


class Bed(NamedTuple):
    """One patient and their hour."""

    bed: str
    patient: str
    course: Course
    until_ms: int | None = None  # discharged
    second_device: str = ""  # measures every second reading

    @property
    def binding(self) -> str:
        return self.patient[-2:] * 16


def well(after_ms: int, rng: random.Random) -> Signs:
    """NEWS2 of 0, with everything measured at its own pace."""
    signs: Signs = {
        "heart_rate": 72 + rng.gauss(0, 2),
        "respiratory_rate": 15 + rng.gauss(0, 0.7),
        "spo2": min(100.0, 97.5 + rng.gauss(0, 0.4)),
    }
    if after_ms % (5 * MINUTE) == 0:
        signs["temperature"] = 36.8 + rng.gauss(0, 0.05)
    if after_ms % (30 * MINUTE) == 0:
        signs |= {"systolic_bp": 124 + rng.gauss(0, 3), "diastolic_bp": 78.0}
    if after_ms == 0:
        signs |= {"supplemental_oxygen": 0.0, "consciousness": 0}
    return signs


def worse(from_ms: int, **by: float) -> Course:
    """Well until `from_ms`, then within ten minutes worse by `by`, permanently."""

    def course(after_ms: int, rng: random.Random) -> Signs:
        part = min(1.0, max(0.0, (after_ms - from_ms) / (10 * MINUTE)))
        return _moved(well(after_ms, rng), by, part)

    return course


def _moved(signs: Signs, by: dict[str, float], part: float) -> Signs:
    return {
        sign: value + part * by[sign] if value is not None and sign in by else value for sign, value in signs.items()
    }


def without(course: Course, from_ms: int, to_ms: int = 2 * LENGTH, *, sign: str | None = None) -> Course:
    """No reading, or a reading without one sign, between two moments."""

    def gap(after_ms: int, rng: random.Random) -> Signs | None:
        signs = course(after_ms, rng)
        if not from_ms <= after_ms < to_ms or signs is None:
            return signs
        return None if sign is None else {name: value for name, value in signs.items() if name != sign}

    return gap


def passing(from_ms: int, to_ms: int, **by: float) -> Course:
    """Worse between two moments, and well again afterwards."""

    def course(after_ms: int, rng: random.Random) -> Signs:
        return _moved(well(after_ms, rng), by, float(from_ms <= after_ms < to_ms))

    return course


WELL = Bed("North/1", "patient-a1", well)
RED = Bed("North/2", "patient-a2", worse(20 * MINUTE, respiratory_rate=12, spo2=-6, heart_rate=45))
ANSWERED = Bed("North/3", "patient-a3", worse(10 * MINUTE, respiratory_rate=7, heart_rate=42, spo2=-2.4))
GAP = Bed("North/4", "patient-a4", without(well, 25 * MINUTE, 40 * MINUTE), second_device="0d" * 16)
SILENT = Bed("South/1", "patient-b1", without(worse(0, respiratory_rate=7, heart_rate=42, spo2=-2.4), 40 * MINUTE))
NO_SPO2 = Bed("South/2", "patient-b2", without(well, 50 * MINUTE, sign="spo2"))
GONE = Bed("South/3", "patient-b3", without(well, 30 * MINUTE), until_ms=30 * MINUTE)
PASSED = Bed("South/4", "patient-b4", passing(5 * MINUTE, 15 * MINUTE, spo2=-12))

A_BAD_HOUR = (WELL, RED, ANSWERED, GAP, SILENT, NO_SPO2, GONE, PASSED)
A_GOOD_HOUR = tuple(Bed(f"East/{n}", f"patient-c{n}", well) for n in range(1, 5))


class Points(NamedTuple):
    """An hour as lines, and the alarms that were raised in it."""

    lines: dict[str, list[str]]  # by "raw" or "minutes"
    alarms: list[AlarmChanged]


def hour(beds: Iterable[Bed], *, nurse: str = "nurse-7", seed: int = 1, pipeline_until_ms: int = LENGTH) -> Points:
    """An hour of the processor, and what other processes write meanwhile.

    The nurse acknowledges alarms of beds with number 3, four minutes after they were raised.
    """
    beds = list(beds)
    rng = random.Random(seed)
    processor = Processor()
    points = Points({"raw": [], "minutes": []}, [])
    offset = 0
    answered: set[bytes] = set()
    for after_ms in range(0, LENGTH, CADENCE):
        at_ms = NOW + after_ms
        for bed in beds:
            for record in (_arrived(bed, after_ms, rng), *_answers(bed, points.alarms, answered, nurse, at_ms)):
                if record is not None:
                    processor.apply(offset, encode_record(record))
                    offset += 1
        processor.tick(at_ms + CADENCE - 1)
        _drain_into(processor, points)
    for after_ms in range(0, pipeline_until_ms, 30 * SECOND):
        points.lines["raw"] += _surroundings(beds, after_ms)
    return points


def _drain_into(processor: Processor, points: Points) -> None:
    output = processor.drain()
    for _, value in output.judgements:
        for event in decode_judgement_record(value).events:
            if not isinstance(event, WindowOutdated):
                points.lines["minutes" if isinstance(event, WindowClosed) else "raw"].append(line_of(event))
    for _, value in output.alarms:
        record = decode_alarm_record(value)
        assert isinstance(record, AlarmRecord)
        points.alarms.append(record.alarm)
        points.lines["raw"].append(line_of(record.alarm))


def _arrived(bed: Bed, after_ms: int, rng: random.Random) -> ReadingRecord | None:
    signs = None if bed.until_ms is not None and after_ms >= bed.until_ms else bed.course(after_ms, rng)
    if signs is None:
        return None
    number = after_ms // CADENCE
    reading_id = f"{bed.patient[-2:]}{number:014d}".encode()
    at_ms = NOW + after_ms
    reading = Reading(
        stay_id=bed.binding,
        reading_id=reading_id,
        session_id=bed.binding[:16].encode(),
        counter=number,
        at_ms=at_ms,
        received_ms=at_ms + 40,
        arrived_ms=at_ms + 90,
        battery=90.0,
        binding_id=bed.second_device if number % 2 else "",
        **signs,  # type: ignore[arg-type]
    )
    scores: tuple[ModelScore, ...] = ()
    if after_ms % (5 * MINUTE) == 0:
        ill = (signs["heart_rate"] or 0) > 95
        scores = (
            ModelScore(
                stay_id=bed.binding,
                reading_id=reading_id,
                at_ms=at_ms,
                received_ms=at_ms + 40,
                model="sepsis",
                version="1.1.0",
                score=0.31 if ill else 0.012,
                threshold=0.08,
                reason="heart rate, respiratory rate" if ill else "",
            ),
            ModelScore(
                stay_id=bed.binding,
                reading_id=reading_id,
                at_ms=at_ms,
                received_ms=at_ms + 40,
                model="heart",
                version="1.0.0",
                score=None,
                threshold=0.2,
                reason="age not told",
            ),
        )
    return ReadingRecord(messages=(reading, *scores))


def _answers(bed: Bed, alarms: list[AlarmChanged], answered: set[bytes], nurse: str, at_ms: int) -> list[AnswerRecord]:
    if not bed.bed.endswith("/3"):
        return []
    orders = []
    for one in alarms:
        if one.stay_id == bed.binding and one.alarm_id not in answered and at_ms >= one.at_ms + 4 * MINUTE:
            answered.add(one.alarm_id)
            orders.append(
                AnswerRecord(message=Acknowledge(stay_id=bed.binding, alarm_id=one.alarm_id, by=nurse, at_ms=at_ms))
            )
    return orders


def _surroundings(beds: list[Bed], after_ms: int) -> list[str]:
    """What other processes write meanwhile: heartbeats, metrics of partitions, locations, a dead letter, an alarm."""
    at_ms = NOW + after_ms
    lines = [_heartbeat_line(0, EDGE_1, after_ms), _heartbeat_line(1, EDGE_2, after_ms)]
    lines += [_partition_line(number, len(beds) // 2, after_ms) for number in (0, 1)]
    lines += [_location_line(bed, after_ms) for bed in beds]
    if after_ms == 15 * MINUTE:
        lines += [line_of(ObservationRecorded(observation=_observed(bed, at_ms), late=False)) for bed in beds[:4]]
    if after_ms == 12 * MINUTE:
        letter = DeadLetter(
            stage="ingest", reason="schema", problem="", at_ms=at_ms, source="session 1/2", payload=b"", version="0.1.0"
        )
        lines += [line_of(letter), _edge_alarm_line(beds[0], at_ms)]
    return lines


def _heartbeat_line(number: int, edge: bytes, after_ms: int) -> str:
    at_ms = NOW + after_ms
    beat = HeartbeatV1(
        boot_id=b"b" * 16,
        at_ms=at_ms + 3,
        uptime_ms=after_ms + HOUR,
        clock_quality=2,
        outbox_rows=number * 7,
        outbox_oldest_ms=12_000 if number else None,
        outbox_used=0.01,
        last_counters=[],
        void=[],
        closed=[],
        model="sepsis 1.1.0, heart-home 1.0.0" if not number else "rules only (sepsis: damaged)",
        sensors=[],
        version="0.1.0",
        rejected={"signature": after_ms // (10 * MINUTE)},
    )
    return line_of(HeartbeatRecord(heartbeat=beat, arrived_ms=at_ms, frame=FrameRef(edge, b"s" * 16, 3, after_ms)))


def _partition_line(partition: int, patients: int, after_ms: int) -> str:
    return line_of(
        PartitionHealth(
            partition=partition,
            worker=f"worker-{partition}",
            at_ms=NOW + after_ms,
            patients=patients,
            open_alarms=(0, 1, 1),
            unanswered=partition,
            lag=3 + partition,
            worst_age_ms=400 + after_ms // MINUTE,
        )
    )


def _location_line(bed: Bed, after_ms: int) -> str:
    return line_of(
        PatientLocation(
            stay_id=bed.binding,
            patient=bed.patient,
            bed=bed.bed,
            edge_id=EDGE_1.hex(),
            at_ms=NOW + after_ms,
            valid_from_ms=NOW - HOUR,
            valid_to_ms=None if bed.until_ms is None or after_ms < bed.until_ms else NOW + bed.until_ms,
            edges=(EDGE_1.hex(), EDGE_2.hex()) if bed.second_device else (EDGE_1.hex(),),
            devices=("patch", "oximeter") if bed.second_device else ("patch",),
        )
    )


def _observed(bed: Bed, at_ms: int) -> Observation:
    return Observation(
        stay_id=bed.binding,
        observation_id=bed.patient[-2:].encode() * 8,
        by="nurse-7",
        at_ms=at_ms,
        entered_ms=at_ms + SECOND,
        heard_ms=at_ms + SECOND,
        consciousness=Consciousness.ALERT,
        supplemental_oxygen=2.0,
        oxygen_device="nasal cannula",
        glucose=5.6,
        note="slept well",
    )


def _edge_alarm_line(bed: Bed, at_ms: int) -> str:
    alarm = EdgeAlarmV1(
        alarm_id=b"a" * 16,
        rule_id="news2",
        key="",
        kind="physiological",
        priority=3,
        state="active",
        at_ms=at_ms,
        onset_ms=at_ms,
        revision=0,
        text="NEWS2 7",
    )
    return line_of(EdgeAlarmRecord(stay_id=bed.binding, alarm=alarm, arrived_ms=at_ms, frame=BACKUP_OF))


def config_of(influxdb: InfluxDB, folder: Path, bucket: str) -> InfluxConfig:
    token = folder / f"{bucket}.token"
    token.write_text(influxdb.token, encoding="utf-8")
    return InfluxConfig(url=influxdb.url, org=influxdb.org, token_file=token, bucket=bucket)


async def write(config: InfluxConfig, points: Points) -> None:
    """Write the points; creates the buckets if they are missing."""
    prepare_database(config, retention_days=YEARS, aggregate_days=YEARS)
    buckets = Buckets.of(config)
    async with Database(config) as database:
        for bucket, lines in ((buckets.raw, points.lines["raw"]), (buckets.minutes, points.lines["minutes"])):
            for start in range(0, len(lines), 5_000):
                await database.write(bucket, lines[start : start + 5_000])
