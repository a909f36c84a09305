"""One patient, measured by one device or by several: what is known of the patient is the same.

The readings of a stay are dealt out over k devices, their times kept. Where all of them pass quality under both
dealings, every NEWS2 and every alarm of a rule that uses neither a baseline nor the quality of one source is the same.
"""

import os
import random
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.patient_files.recorded_stays import open_replay
from tests.vitals.bedside import entered, of, play
from tests.vitals.stories import BINDING, HOUR, MINUTE, SECOND, START, a_reading, restarted
from vitals.messages import (
    AlarmChanged,
    AlarmState,
    Consciousness,
    Event,
    News2Scored,
    Observation,
    Priority,
    Reading,
    ReadingJudged,
)
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.rules import DEFAULT_RULES
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, to_reading

DATA: Final = Path(os.environ.get("VITALLOOM_DATA", Path(__file__).parents[2] / "../shared/data"))

DEVICES: Final = (BINDING, *(f"{n:02x}" * 16 for n in range(1, 6)))
OF_A_SOURCE: Final = {
    "unusual_heart_rate",  # a baseline
    "sensor_off",
    "battery",
    "clock",
    "device_silent",
    "sources_disagree",
}
PLAN: Final = MonitoringPlan()
LEVELS: Final[tuple[dict[str, float], ...]] = (
    {"heart_rate": 72, "respiratory_rate": 16, "spo2": 97, "systolic_bp": 122, "temperature": 36.9},
    {"heart_rate": 98, "respiratory_rate": 22, "spo2": 94, "systolic_bp": 104, "temperature": 38.3},
    {"heart_rate": 118, "respiratory_rate": 27, "spo2": 90, "systolic_bp": 92, "temperature": 38.8},
    {"heart_rate": 140, "respiratory_rate": 31, "spo2": 85, "systolic_bp": 82, "temperature": 39.3},
    {"heart_rate": 45, "respiratory_rate": 10, "spo2": 93, "systolic_bp": 115, "temperature": 35.8},
)


def a_stay(seed: int, *, minutes: int = 40) -> list[Reading]:
    """One device: fast signs every ten seconds, a temperature every minute, a pressure every ten, states that last."""
    dice = random.Random(seed)
    readings, level = [], dict(LEVELS[0])
    for after_ms in range(0, minutes * MINUTE, 10 * SECOND):
        if dice.random() < 0.01:
            level = dict(dice.choice(LEVELS))
        signs: dict[str, Any] = {
            "heart_rate": level["heart_rate"] + dice.randint(-2, 2),
            "respiratory_rate": level["respiratory_rate"] + dice.choice((-1, 0, 0, 1)),
            "spo2": level["spo2"] + dice.choice((-1, 0, 0, 1)),
        }
        for sign in list(signs):
            if dice.random() < 0.15:
                del signs[sign]
        if after_ms % MINUTE == 0:
            signs["temperature"] = round(level["temperature"] + dice.uniform(-0.1, 0.1), 1)
        if after_ms % (10 * MINUTE) == 0:
            signs |= {"systolic_bp": level["systolic_bp"] + dice.randint(-2, 2)}
        if after_ms % (15 * MINUTE) == 0:
            signs |= {"consciousness": Consciousness.ALERT, "supplemental_oxygen": 0.0}
        if dice.random() > 0.05:
            readings.append(a_reading(after_ms, **signs))
    return readings


def dealt(readings: list[Reading], devices: int, seed: int) -> list[Reading]:
    dice = random.Random(seed)
    return [of(DEVICES[dice.randrange(devices)], reading) for reading in readings]


def passed_quality(events: list[Event]) -> bool:
    return not any(isinstance(one, ReadingJudged) and (one.reading.unusable or one.late) for one in events)


def scores(events: list[Event]) -> list[tuple[Any, ...]]:
    return [
        (
            one.at_ms,
            one.total,
            one.at_least,
            one.due,
            [(part.sign, part.value, part.points, part.age_ms) for part in one.parts],
        )
        for one in events
        if isinstance(one, News2Scored)
    ]


def told(events: list[Event]) -> list[tuple[Any, ...]]:
    """Alarms but for their ids, which are made of a reading's."""
    return [
        (one.rule_id, one.key, one.state, one.priority, one.at_ms, one.onset_ms, one.text, one.latched, one.revision)
        for one in events
        if isinstance(one, AlarmChanged) and one.rule_id not in OF_A_SOURCE
    ]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), devices=st.integers(2, 6))
def test_a_stay_that_is_dealt_out_over_devices_has_the_same_scores_and_alarms(seed: int, devices: int) -> None:
    readings = a_stay(seed)
    alone = play(PatientMonitor(BINDING, PLAN), *readings)
    together = play(PatientMonitor(BINDING, PLAN), *dealt(readings, devices, seed + 1))

    if not (passed_quality(alone) and passed_quality(together)):
        return
    assert scores(together) == scores(alone)
    assert told(together) == told(alone)


def test_most_of_the_stays_of_that_property_pass_quality_and_many_alarm() -> None:
    played = [play(PatientMonitor(BINDING, PLAN), *a_stay(seed)) for seed in range(12)]

    assert sum(map(passed_quality, played)) >= 6
    assert {rule.rule_id for rule in DEFAULT_RULES} >= OF_A_SOURCE
    assert sum(any(priority(one) is Priority.HIGH for one in events) for events in played) >= 4


def recorded_stays() -> list[list[Reading]]:
    """Twelve hours of some recorded stays, a reading a minute."""
    path = DATA / "sepsis2019"
    if not path.is_dir():
        pytest.skip("no recorded stays; set VITALLOOM_DATA to the folder that holds sepsis2019")
    found = []
    for stay in open_replay(path).stays(3, seed=7):
        samples = (sample for sample in stay.samples(MINUTE, START) if sample.t_ms < START + 12 * HOUR)
        found.append([_of_sample(sample, counter) for counter, sample in enumerate(samples)])
    return found


def _of_sample(sample: VitalsV1, counter: int) -> Reading:
    name = bytes.fromhex(BINDING)
    message = EdgeVitalsV1(
        origin=OriginV1(wearable_id=name, session_id=name, counter=counter),
        vitals=sample,
        at_ms=sample.t_ms,
        received_ms=sample.t_ms,
        sensor_flags=sample.sensor_flags,
        unusable=0,
    )
    return to_reading(message, name)


@pytest.mark.slow
def test_recorded_stays_that_are_dealt_out_have_the_same_scores_and_alarms() -> None:
    plan = MonitoringPlan(cadence_ms={"heart_rate": MINUTE, "respiratory_rate": MINUTE, "spo2": MINUTE})
    compared = 0
    for number, readings in enumerate(recorded_stays()):
        alone = play(PatientMonitor(BINDING, plan), *readings)
        for devices in (2, 6):
            together = play(PatientMonitor(BINDING, plan), *dealt(readings, devices, number))
            if passed_quality(alone) and passed_quality(together):
                compared += 1
                assert scores(together) == scores(alone)
                assert told(together) == told(alone)
            lasting = {(one.rule_id, one.key) for one in high(alone) if lasts(alone, one) >= 15 * MINUTE}
            assert lasting <= {(one.rule_id, one.key) for one in high(together)}
    assert compared >= 3


def priority(event: Event) -> Priority | None:
    return event.priority if isinstance(event, AlarmChanged) and event.state is AlarmState.ACTIVE else None


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), devices=st.integers(2, 6))
def test_no_alarm_of_high_priority_is_lost_by_dealing(seed: int, devices: int) -> None:
    """Also where a device doubts what one device alone would have believed: two readings later it is believed."""
    readings = a_stay(seed)
    alone = play(PatientMonitor(BINDING, PLAN), *readings)
    together = play(PatientMonitor(BINDING, PLAN), *dealt(readings, devices, seed + 1))

    lasting = {  # for longer than a device may doubt
        (one.rule_id, one.key)
        for one in high(alone)
        if one.onset_ms <= START + 35 * MINUTE and lasts(alone, one) >= 3 * MINUTE
    }
    assert lasting <= {(one.rule_id, one.key) for one in high(together)}


def high(events: list[Event]) -> list[AlarmChanged]:
    return [one for one in events if isinstance(one, AlarmChanged) and priority(one) is Priority.HIGH]


def lasts(events: list[Event], alarm: AlarmChanged) -> int:
    same = [one.at_ms for one in events if isinstance(one, AlarmChanged) and one.alarm_id == alarm.alarm_id]
    ended = any(
        isinstance(one, AlarmChanged) and one.alarm_id == alarm.alarm_id and one.state is AlarmState.CLEARED
        for one in events
    )
    return max(same) - alarm.onset_ms if ended else 40 * MINUTE


def a_nurse(seed: int) -> list[Observation]:
    """Rounds and a single sign now and then; each observation a moment of its own."""
    dice = random.Random(seed)
    found: list[Observation] = []
    for number, after_ms in enumerate(range(3_333, 40 * MINUTE, 7 * MINUTE)):
        what = dice.choice(
            (
                {"consciousness": dice.choice((Consciousness.ALERT, Consciousness.VOICE)), "supplemental_oxygen": 2.0},
                {"respiratory_rate": float(dice.randint(12, 30))},
                {"systolic_bp": 100.0, "diastolic_bp": 60.0, "heart_rate": 80.0},
                {"off_until_ms": after_ms + 10 * MINUTE},
                {"note": "slept well"},
                {"spo2": 96.0, "corrects": bytes(16)},
            )
        )
        found.append(entered(after_ms, number=number + 1, **what))
    return found


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), devices=st.integers(1, 6))
def test_a_monitor_that_is_stopped_after_any_message_goes_on_as_if_nothing_had_happened(
    seed: int, devices: int
) -> None:
    messages = sorted([*dealt(a_stay(seed), devices, seed), *a_nurse(seed)], key=lambda one: one.heard_ms)
    runs_on, stopped = PatientMonitor(BINDING, PLAN), PatientMonitor(BINDING, PLAN)
    for message in messages:
        assert play(runs_on, message) == play(stopped, message)
        stopped = restarted(stopped)
        assert stopped.snapshot() == runs_on.snapshot()
        assert stopped.timer_at() == runs_on.timer_at()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), devices=st.integers(1, 6))
def test_what_is_delivered_again_changes_nothing(seed: int, devices: int) -> None:
    messages = sorted([*dealt(a_stay(seed, minutes=20), devices, seed), *a_nurse(seed)], key=lambda one: one.heard_ms)
    dice, monitor = random.Random(seed), PatientMonitor(BINDING, PLAN)
    for number, message in enumerate(messages):
        play(monitor, message)
        before = monitor.snapshot()
        again = messages[dice.randint(max(0, number - 30), number)]
        play_again = [monitor.on_reading(again)] if isinstance(again, Reading) else [monitor.on_observation(again)]
        assert all(isinstance(one, AlarmChanged) for events in play_again for one in events)
        assert monitor.snapshot() == before
