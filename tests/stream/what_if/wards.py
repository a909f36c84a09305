"""Stored wards: random days of several patients, judged and stored by the embedded engine."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from stream.embedded.store import Store
from stream.embedded.stream import Engine
from vitals.messages import (
    Acknowledge,
    BindingPeriod,
    Consciousness,
    Message,
    ModelScore,
    Reading,
    SensorFlag,
    Silence,
    Tick,
)
from vitals.plan import MonitoringPlan

START: Final = 1_767_600_000_000
SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND

# Mean and spread of a phase of an illness.
_PHASES: Final[tuple[dict[str, tuple[float, float]], ...]] = (
    {"heart_rate": (72, 2), "respiratory_rate": (15, 1), "spo2": (97, 0.5)},
    {"heart_rate": (118, 8), "respiratory_rate": (23, 3), "spo2": (92, 2)},
    {"heart_rate": (138, 6), "respiratory_rate": (27, 3), "spo2": (85, 3)},
    {"heart_rate": (60, 40), "respiratory_rate": (12, 10), "spo2": (90, 12)},
)


def a_stored_ward(path: Path, *, seed: int, stays: int = 3, minutes: int = 240, plan: MonitoringPlan) -> list[str]:
    """Write a store with the day of some patients; returns their stays.

    Readings jump, freeze, are flagged, come twice, late, and hours late; people acknowledge and silence; models speak;
    one stay ends before the record does.
    """
    rng = random.Random(seed)
    names = [rng.randbytes(16).hex() for _ in range(stays)]
    with Store(path, synchronous="OFF") as store:
        engine = Engine(store, lambda _: plan)
        now_ms = START
        backlogs: dict[str, list[Reading]] = {name: [] for name in names}
        ended: set[str] = set()
        counter = 0
        for second in range(0, minutes * 60, 10):
            now_ms = START + second * SECOND
            batch: list[list[Message]] = []  # of each reading: itself, and what models said with it
            for name in names:
                counter += 1
                reading = _reading(rng, name, counter, now_ms - rng.randint(0, 900), second)
                fate = rng.random()
                is_away = second // 1_800 % 4 == 3 and name == names[0]  # its edge, for half an hour
                if is_away or fate < (0.3 if second % 3_600 > 3_000 else 0.01):  # or held up, or lost
                    backlogs[name].append(reading)
                else:
                    batch.append(list(_arrived(rng, reading, now_ms)))
                    if fate > 0.98:
                        batch.append(batch[-1])  # comes twice
                if backlogs[name] and rng.random() < 0.02 and second // 1_800 % 4 != 3:
                    batch += [list(_arrived(rng, held, now_ms)) for held in backlogs[name]]
                    backlogs[name] = []
            rng.shuffle(batch)
            engine.apply([*(message for messages in batch for message in messages), Tick(now_ms=now_ms)])
            for answer in _answers(rng, engine, now_ms + rng.randint(1, 5 * SECOND)):
                engine.apply([answer])
            if second == minutes * 45 and stays > 1:
                ended.add(names[-1])
                engine.apply(
                    [BindingPeriod(stay_id=names[-1], from_ms=START, to_ms=now_ms - 700, heard_ms=now_ms + 6_000)]
                )
        engine.apply([Tick(now_ms=now_ms + 30 * MINUTE)])
    return names


def _reading(rng: random.Random, stay: str, counter: int, at_ms: int, second: int) -> Reading:
    phase = _PHASES[(second // 2_400 + int(stay[0], 16)) % len(_PHASES)]
    values: dict[str, Any] = {sign: round(rng.gauss(*shape), 1) for sign, shape in phase.items()}
    if second % 2_700 < 400:  # frozen
        values = {sign: round(mean) for sign, (mean, _) in phase.items()}
    for sign in tuple(values):
        if rng.random() < 0.02:
            values[sign] = rng.choice((None, 0.0, values[sign] * 2, 511.0))
        elif values[sign] < 0:
            values[sign] = 0.0
    if second % 300 == 0:
        values["temperature"] = round(rng.gauss(36.8, 0.6), 1)
    if second % 3_600 == 0:
        values |= {"systolic_bp": float(rng.randint(85, 150)), "diastolic_bp": float(rng.randint(50, 90))}
        values |= {"consciousness": rng.choice(list(Consciousness)[:3]), "supplemental_oxygen": rng.choice((0.0, 2.0))}
    flags = rng.choice((SensorFlag.MOTION, SensorFlag.LOW_PERFUSION, SensorFlag.SENSOR_OFF))
    flagged = rng.random() < 0.03 or second % 5_400 > 5_000
    return Reading(
        stay_id=stay,
        reading_id=rng.randbytes(16),
        session_id=bytes.fromhex(stay),
        counter=counter,
        at_ms=at_ms,
        received_ms=at_ms,
        sensor_flags=int(flags) if flagged else 0,
        battery=float(max(3, 100 - second // 150)),
        **values,
    )


def _arrived(rng: random.Random, reading: Reading, now_ms: int) -> Iterator[Message]:
    fields = {name: getattr(reading, name) for name in reading.__struct_fields__}
    yield Reading(**fields | {"arrived_ms": now_ms, "age_ms": now_ms - reading.at_ms})
    if reading.counter % 37 == 0:
        yield ModelScore(
            stay_id=reading.stay_id,
            reading_id=reading.reading_id,
            at_ms=reading.at_ms,
            received_ms=reading.received_ms,
            arrived_ms=now_ms,
            model="sepsis",
            version="1.1.0",
            score=None if rng.random() < 0.1 else round(rng.random(), 3),
            threshold=0.6,
            reason="made up",
        )


def _answers(rng: random.Random, engine: Engine, at_ms: int) -> Iterator[Message]:
    for alarm in engine.open_alarms():
        fate = rng.random()
        if fate < 0.01 and alarm.acknowledged_by is None:
            yield Acknowledge(stay_id=alarm.stay_id, alarm_id=alarm.alarm_id, by="anna", at_ms=at_ms)
        elif fate > 0.997:
            yield Silence(
                stay_id=alarm.stay_id,
                rule_id=alarm.rule_id,
                key=alarm.key,
                by="ben",
                at_ms=at_ms,
                until_ms=at_ms + rng.choice((5, 20)) * MINUTE,
                priority=alarm.priority,
            )
