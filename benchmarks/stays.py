"""Alarms per patient-day on recorded stays, by rule and priority, and which charted extremes were heard.

`python -m benchmarks.stays [--json] [--quick] [FILE...]` where a file holds recorded stays (see `docs/simulators.md`);
without a file, two made-up stays show that it runs.

Two groups of each file: stays chosen at random, for the alarm load; and all stays of a larger random choice that have a
charted extreme value or zero, for what is heard. An extreme is heard if an alarm of high priority is open within 90 s.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track

from benchmarks._timing import QUICK, report
from models.patient_files.recorded_stays import RecordedStay, open_replay
from vitals.alarm_load import alarm_load
from vitals.messages import AlarmChanged, AlarmState, Event, Priority, Reading
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.signs import VitalSign
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, to_reading

LOAD_STAYS: Final = 3 if QUICK else 60
SEARCHED_STAYS: Final = 50 if QUICK else 2_000
EXTREME_STAYS: Final = 3 if QUICK else 60
CADENCE_MS: Final = 15_000
START_MS: Final = 1_790_000_000_000
HEARD_WITHIN_MS: Final = 90_000
BINDING: Final = bytes(16)
PLAN: Final = MonitoringPlan(cadence_ms={"heart_rate": CADENCE_MS, "respiratory_rate": CADENCE_MS, "spo2": CADENCE_MS})

# Outside these a charted value is extreme: written down here so that the same figures can be made of older commits.
USUAL: Final = {
    VitalSign.HEART_RATE: (20, 300, 500),
    VitalSign.RESPIRATORY_RATE: (2, 80, 120),
    VitalSign.SPO2: (50, 100, 100),
    VitalSign.SYSTOLIC_BP: (40, 300, 500),
    VitalSign.TEMPERATURE: (28, 45, 47),
}
_console = Console(stderr=True)


def main() -> None:
    paths = [Path(one) for one in sys.argv[1:] if not one.startswith("--")]
    if not paths:
        _report("made-up stays", [_made_up(spo2=45.0), _made_up(spo2=97.0)])
    for path in paths:
        stays = open_replay(path).stays(SEARCHED_STAYS, seed=1)
        extreme = [stay for stay in stays if _extremes(stay)][:EXTREME_STAYS]
        _report(f"{path.parent.name}, stays at random", stays[:LOAD_STAYS])
        _report(f"{path.parent.name}, stays with charted extremes", extreme)


def _made_up(*, spo2: float) -> RecordedStay:
    """Six hours, charted hourly; the SpO2 of the fourth is given."""
    hour_ms = 3_600_000
    usual = {VitalSign.HEART_RATE: 72.0, VitalSign.RESPIRATORY_RATE: 16.0, VitalSign.SPO2: 97.0}
    charted = {sign: tuple((hour * hour_ms, value) for hour in range(7)) for sign, value in usual.items()}
    charted[VitalSign.SPO2] = tuple((hour * hour_ms, spo2 if hour == 4 else 97.0) for hour in range(7))
    return RecordedStay(
        stay_id="made-up", source="made-up", charted=charted, max_gap_ms=2 * hour_ms, max_temperature_gap_ms=6 * hour_ms
    )


def _report(title: str, stays: list[RecordedStay]) -> None:
    changes: list[AlarmChanged] = []
    patient_ms, moments, heard, silent_stays = 0, 0, 0, 0
    for stay in track(stays, description=title, console=_console, transient=True):
        told = [event for event in _live(stay) if isinstance(event, AlarmChanged)]
        changes += told
        patient_ms += stay.duration_ms
        is_heard = [_is_heard(told, START_MS + at_ms) for at_ms in _extremes(stay)]
        moments, heard = moments + len(is_heard), heard + sum(is_heard)
        silent_stays += not all(is_heard)
    load = alarm_load(changes, patient_ms=patient_ms)
    days = patient_ms / 86_400_000
    by_rule = _by_rule(changes)
    rows = [
        ("stays, patient-days", f"{len(stays)}, {days:.1f}"),
        ("alarms per patient-day", f"{load.total.per_patient_day or 0:.2f}"),
        *((f"  {rule} {priority.name.lower()}", f"{n / days:.3f}") for (rule, priority), n in by_rule),
        ("charted extremes, heard within 90 s", f"{moments}, {heard}"),
        ("stays with one that was not heard", f"{silent_stays}"),
    ]
    facts: dict[str, Any] = {
        "stays": len(stays),
        "patient_days": round(days, 2),
        "per_patient_day": round(load.total.per_patient_day or 0, 3),
        "by_rule": {f"{rule} {priority.name.lower()}": round(n / days, 4) for (rule, priority), n in by_rule},
        "extremes": moments,
        "heard": heard,
        "stays_all_heard": len(stays) - silent_stays,
    }
    report(title, rows, ("measurement", "value"), facts)


def _by_rule(changes: Iterable[AlarmChanged]) -> list[tuple[tuple[str, Priority], int]]:
    """How many alarms of each rule reached each priority as their highest, the most frequent first."""
    highest: dict[bytes, tuple[str, Priority]] = {}
    for one in changes:
        if one.state is AlarmState.ACTIVE and not one.retrospective:
            before = highest.get(one.alarm_id, (one.rule_id, Priority.LOW))[1]
            highest[one.alarm_id] = (one.rule_id, max(before, one.priority))
    return Counter(highest.values()).most_common()


def _extremes(stay: RecordedStay) -> list[int]:
    """Times of the charted values that are extreme or zero."""
    return sorted(
        at_ms
        for sign, (low, high, possible) in USUAL.items()
        for at_ms, value in stay.charted.get(sign, ())
        if (1 < value < low or high < value <= possible or (value == 0 and sign is not VitalSign.TEMPERATURE))
        and not (sign is VitalSign.TEMPERATURE and value < 9)
    )


def _is_heard(changes: list[AlarmChanged], at_ms: int) -> bool:
    """Whether an alarm of high priority is open at some time within 90 s of a moment."""
    last: dict[bytes, AlarmChanged] = {}
    for one in changes:
        if one.at_ms > at_ms + HEARD_WITHIN_MS:
            break
        if one.at_ms > at_ms and one.state is AlarmState.ACTIVE and one.priority is Priority.HIGH:
            return True
        last[one.alarm_id] = one
    return any(one.state is AlarmState.ACTIVE and one.priority is Priority.HIGH for one in last.values())


def _live(stay: RecordedStay) -> Iterable[Event]:
    monitor = PatientMonitor(BINDING.hex(), PLAN)
    for counter, sample in enumerate(stay.samples(CADENCE_MS, START_MS)):
        reading = _reading(sample, counter)
        while (due_ms := monitor.timer_at()) is not None and due_ms < reading.at_ms:
            yield from monitor.on_timer(due_ms)
        yield from monitor.on_reading(reading)


def _reading(sample: VitalsV1, counter: int) -> Reading:
    origin = OriginV1(wearable_id=BINDING, session_id=BINDING, counter=counter)
    message = EdgeVitalsV1(
        origin=origin,
        vitals=sample,
        at_ms=sample.t_ms,
        received_ms=sample.t_ms,
        sensor_flags=sample.sensor_flags,
        unusable=0,
    )
    return to_reading(message, BINDING)


if __name__ == "__main__":
    main()
