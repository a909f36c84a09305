"""The sickest patient is never the quiet one: a stream of extreme or zero values alarms, whatever its shape.

Each case is a patient with a NEWS2 of 0 who gets one sign in the red by an extreme value or a zero: abruptly, gradually
or from the first reading on; constant, scattered, or alternating with the patient's normal value; with any of the
flags that make a value doubtful; with the other signs normal or missing; with readings that come late; with a restart
in the middle; with readings as often as is expected or more seldom. The converse is tested in the same manner: what is
ordinary raises no high alarm.
"""

import random
from collections.abc import Iterator
from itertools import product
from typing import Any, Final, NamedTuple

import pytest

from vitals.messages import AlarmChanged, AlarmState, Consciousness, Event, Priority, Reading, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.signs import VitalSign

HR, RR, SPO2, SBP, DBP, T, O2 = (
    VitalSign.HEART_RATE,
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SPO2,
    VitalSign.SYSTOLIC_BP,
    VitalSign.DIASTOLIC_BP,
    VitalSign.TEMPERATURE,
    VitalSign.SUPPLEMENTAL_OXYGEN,
)
BINDING: Final = "ab" * 16
START_MS: Final = 1_790_000_000_000
EVERY_S: Final = 5
LEAD_S: Final = 150  # normal before
WITHIN_S: Final = 90
PLAN: Final = MonitoringPlan()

FULL: Final[dict[str, Any]] = {
    "heart_rate": 72.0,
    "respiratory_rate": 16.0,
    "spo2": 97.0,
    "temperature": 36.8,
    "systolic_bp": 124.0,
    "diastolic_bp": 70.0,
    "supplemental_oxygen": 0.0,
    "consciousness": Consciousness.ALERT,
}
_LOW, _MOTION = int(SensorFlag.LOW_PERFUSION), int(SensorFlag.MOTION)

# Sign and the lowest and highest value of a class in which it is red: zero, extremely low, extremely high.
EXTREMES: Final = (
    (HR, 0.0, 0.0),
    (HR, 2.0, 19.0),
    (HR, 302.0, 450.0),
    (RR, 0.0, 0.0),
    (RR, 0.4, 1.6),
    (RR, 82.0, 110.0),
    (SPO2, 0.0, 0.0),
    (SPO2, 2.0, 25.0),
    (SPO2, 44.0, 49.0),
    (SBP, 0.0, 0.0),
    (SBP, 5.0, 39.0),
    (SBP, 302.0, 420.0),
    (T, 12.0, 27.9),
    (T, 45.1, 46.4),
)
ONSETS: Final = ("abrupt", "gradual", "start")
SHAPES: Final = ("constant", "wobbling", "scattered", "alternating", "two of three")
FLAGS: Final = (0, _LOW, _MOTION, _LOW | _MOTION, -1)  # -1: now one, now another
OTHERS: Final = ("normal", "missing")
PATHS: Final = ("in order", "late", "restart")


class Case(NamedTuple):
    """One patient."""

    sign: VitalSign
    low: float
    high: float
    onset: str
    shape: str
    flags: int
    others: str
    path: str
    every_s: int = EVERY_S

    @property
    def within_s(self) -> int:
        """Contradicted values need three in the red; alternating with normal ones that takes a while."""
        return max(WITHIN_S, 8 * self.every_s) if self.every_s > EVERY_S else WITHIN_S


CASES: Final = tuple(
    Case(*extreme, *rest) for extreme, *rest in product(EXTREMES, ONSETS, SHAPES, FLAGS, OTHERS, PATHS)
)
SELDOM: Final = (15, 30, 60)
"""Other intervals than the plan expects: a device's own, or every third of its readings."""
SELDOM_CASES: Final = tuple(case._replace(every_s=every_s) for case in CASES for every_s in SELDOM)


def _normal(at_s: int) -> dict[str, Any]:
    """A calm patient; the values are never the same for long, as in life."""
    step = at_s // EVERY_S
    values = {"heart_rate": 72.0 + step % 3, "respiratory_rate": 16.0 + step % 2, "spo2": 97.0 - (step // 2) % 2}
    if at_s % 300 == 0:
        values |= {"temperature": 36.8}
    return values


def _value(case: Case, since_s: int, step: int, rng: random.Random) -> float:
    low, high, normal = case.low, case.high, FULL[case.sign.value]
    middle = (low + high) / 2
    ramp_s = 60 if case.onset == "gradual" else 0
    if since_s < ramp_s:
        return float(round(normal + (middle - normal) * since_s / ramp_s, 1))
    if case.shape == "alternating" and step % 2 and case.onset != "start":
        return float(normal)
    if case.shape == "two of three" and step % 3 == 2 and case.onset != "start":
        return float(normal)
    if case.shape in ("constant", "alternating", "two of three") or low == high:
        return middle
    if case.shape == "wobbling":
        return round(middle + (high - low) / 10 * rng.uniform(-1, 1), 1)
    return round(rng.uniform(low, high), 1)


def _stream(case: Case) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """(seconds, whether the sign is in the red by this class, values and flags of the reading)."""
    rng = random.Random(repr(case))
    lead_s = 0 if case.onset == "start" else LEAD_S
    for at_s in range(0, lead_s, case.every_s):
        yield at_s, False, FULL if at_s == 0 else _normal(at_s)
    for step, at_s in enumerate(range(lead_s, lead_s + 60 + case.within_s + 2 * case.every_s, case.every_s)):
        value = _value(case, at_s - lead_s, step, rng)
        values = _normal(at_s) if case.others == "normal" else {}
        if at_s == 0 and case.others == "normal":
            values = dict(FULL)
        values[case.sign.value] = value
        if case.sign is SBP:
            values["diastolic_bp"] = None
        flags = rng.choice(FLAGS[:4]) if case.flags < 0 else case.flags
        yield at_s, case.low <= value <= case.high, values | {"sensor_flags": flags}


def _feed(case: Case) -> tuple[int, list[tuple[int, AlarmChanged]]]:
    """When the first value of the class came, and every alarm that sounds, with its second."""
    monitor, found, first_s = PatientMonitor(BINDING, PLAN), [], None
    for n, (at_s, red, values) in enumerate(_stream(case)):
        if red and first_s is None:
            first_s = at_s
        if first_s is not None and at_s > first_s + case.within_s:
            break
        parts = [values]
        if case.path == "late" and red:
            # The sign comes in a message of its own, three seconds after the others and with an older time.
            own = {key: values[key] for key in (case.sign.value, "sensor_flags")}
            rest = {key: value for key, value in values.items() if key != case.sign.value}
            parts = [rest, own]
        events: list[Event] = []
        for index, part in enumerate(parts):
            at_ms = START_MS + at_s * 1_000 - 3_000 * index
            events += monitor.on_reading(
                Reading(
                    stay_id=BINDING,
                    reading_id=(10 * n + index).to_bytes(16, "big"),
                    session_id=bytes(16),
                    counter=10 * n + index,
                    at_ms=at_ms,
                    received_ms=START_MS + at_s * 1_000,
                    **part,
                )
            )
        while (due_ms := monitor.timer_at()) is not None and due_ms < START_MS + (at_s + case.every_s) * 1_000:
            events += monitor.on_timer(due_ms)
        if case.path == "restart" and first_s is not None:
            monitor = PatientMonitor.restore(BINDING, monitor.snapshot(), PLAN)
        found += [
            (at_s, event)
            for event in events
            if isinstance(event, AlarmChanged) and event.state is AlarmState.ACTIVE and not event.retrospective
        ]
    assert first_s is not None
    return first_s, found


def _is_heard(case: Case) -> bool:
    """Whether an alarm that sounds comes in time: high, or at least medium where something contradicts the value."""
    first_s, found = _feed(case)
    # A thermometer that falls faster than a body can cool contradicts itself.
    cooling = case.sign is T and case.high < 34
    is_contradicted = case.high > 0 and case.flags != 0 and case.sign in (RR, SPO2)
    needed = Priority.MEDIUM if is_contradicted or cooling else Priority.HIGH
    return any(alarm.priority >= needed and at_s <= first_s + case.within_s for at_s, alarm in found)


@pytest.mark.slow
@pytest.mark.parametrize("extreme", EXTREMES, ids=lambda one: f"{one[0].value} {one[1]:g} to {one[2]:g}")
def test_a_red_sign_by_an_extreme_value_or_a_zero_is_heard_within_ninety_seconds(
    extreme: tuple[VitalSign, float, float],
) -> None:
    rng = random.Random(repr(extreme))
    cases = [case for case in CASES if case[:3] == extreme]

    for case in rng.sample(cases, 60):
        assert _is_heard(case), case


@pytest.mark.slow
@pytest.mark.parametrize("extreme", EXTREMES, ids=lambda one: f"{one[0].value} {one[1]:g} to {one[2]:g}")
def test_it_is_heard_from_a_device_that_measures_less_often_than_the_plan_expects(
    extreme: tuple[VitalSign, float, float],
) -> None:
    rng = random.Random(repr(extreme))
    cases = [case for case in SELDOM_CASES if case[:3] == extreme]

    for case in rng.sample(cases, 60):
        assert _is_heard(case), case


@pytest.mark.slow
def test_every_case_is_heard() -> None:
    assert [case for case in (*CASES, *SELDOM_CASES) if not _is_heard(case)] == []
