"""Patients in given states as points in InfluxDB: a last NEWS2 of some age, and alarms. For tables of cases."""

from collections.abc import Iterable
from typing import NamedTuple

from stream.records import PatientLocation
from stream.store.line_protocol import line_of
from tests.dashboards.wards import EDGE_1, END, Points
from tests.stream.receiving_site import MINUTE, SECOND
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, News2Part, News2Scored, Priority
from vitals.signs import VitalSign

_PARTS = (
    (VitalSign.RESPIRATORY_RATE, {0: 16.0, 1: 10.0, 2: 22.0, 3: 26.0}),
    (VitalSign.SPO2, {0: 97.0, 1: 95.0, 2: 93.0, 3: 90.0}),
    (VitalSign.SYSTOLIC_BP, {0: 124.0, 1: 108.0, 2: 96.0, 3: 88.0}),
    (VitalSign.HEART_RATE, {0: 72.0, 1: 95.0, 2: 115.0, 3: 135.0}),
    (VitalSign.SUPPLEMENTAL_OXYGEN, {0: 0.0}),
    (VitalSign.CONSCIOUSNESS, {0: 0.0}),
    (VitalSign.TEMPERATURE, {0: 36.8}),
)


class Alarm(NamedTuple):
    """One alarm of a patient."""

    priority: Priority
    by: str | None = None  # who acknowledged it
    ended: bool = False
    rule: str = "low_spo2"


RED, YELLOW, CYAN = Alarm(Priority.HIGH), Alarm(Priority.MEDIUM), Alarm(Priority.LOW)


class Situation(NamedTuple):
    """One patient at the end of the hour.

    Args:
        points: NEWS2 points of each sign, in the order of the chart as far as given; `None` in them: missing.
        age_ms: of the last NEWS2 and of the values it is made of.
    """

    bed: str
    points: tuple[int | None, ...] | None = ()
    age_ms: int = 10 * SECOND
    alarms: tuple[Alarm, ...] = ()

    @property
    def binding(self) -> str:
        return self.bed.encode().hex().ljust(32, "0")[:32]


def points_of(situations: Iterable[Situation], *, with_beds: bool = True) -> Points:
    """Their points; `with_beds`: also where they are."""
    found = Points({"raw": [], "minutes": []}, [])
    for one in situations:
        if with_beds:
            found.lines["raw"].append(line_of(_location(one)))
        if one.points is not None:
            found.lines["raw"].append(line_of(_score(one, one.points)))
        for number, alarm in enumerate(one.alarms):
            changed = _changed(one, alarm, number)
            found.alarms.append(changed)
            found.lines["raw"].append(line_of(changed))
    return found


def _location(one: Situation) -> PatientLocation:
    return PatientLocation(
        stay_id=one.binding,
        patient=f"patient-{one.bed}",
        bed=one.bed,
        edge_id=EDGE_1.hex(),
        at_ms=END - 30 * SECOND,
        valid_from_ms=END - 60 * MINUTE,
        valid_to_ms=None,
        edges=(EDGE_1.hex(),),
        devices=("patch",),
    )


def _score(one: Situation, points: tuple[int | None, ...]) -> News2Scored:
    given = (*points, *(0 for _ in _PARTS[len(points) :]))
    parts = tuple(
        News2Part(sign=sign, value=None, points=None, age_ms=None)
        if score is None
        else News2Part(sign=sign, value=values[score], points=score, age_ms=0)
        for (sign, values), score in zip(_PARTS, given, strict=True)
    )
    total = sum(score or 0 for score in given)
    return News2Scored(
        stay_id=one.binding,
        reading_id=one.binding[:16].encode(),
        at_ms=END - one.age_ms,
        total=None if None in given else total,
        at_least=total,
        risk="",
        spo2_scale=1,
        parts=parts,
    )


def _changed(one: Situation, alarm: Alarm, number: int) -> AlarmChanged:
    return AlarmChanged(
        stay_id=one.binding,
        alarm_id=bytes([number + 1]) + one.binding[:15].encode(),
        rule_id=alarm.rule,
        key=str(number),
        kind=AlarmKind.PHYSIOLOGICAL,
        priority=alarm.priority,
        state=AlarmState.CLEARED if alarm.ended else AlarmState.ACTIVE,
        at_ms=END - 5 * MINUTE + number,
        onset_ms=END - 6 * MINUTE,
        revision=1,
        text="SpO2 88 %; limit < 90",
        basis="rule",
        latched=alarm.ended and alarm.by is None,
        acknowledged_by=alarm.by,
        acknowledged_ms=None if alarm.by is None else END - 3 * MINUTE,
    )
