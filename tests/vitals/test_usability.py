"""Zeros, extreme values, and values that arrive and cannot be used: who is told, when, and what ends it."""

import random
from typing import Any, Final

import msgspec
import pytest

from tests.vitals.stories import (
    BINDING,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_monitor,
    a_reading,
    alarms,
    apply,
    restarted,
    standing,
    wait,
)
from tests.vitals.test_response import EARLIER
from vitals.messages import AlarmChanged, AlarmState, Priority, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from vitals.signs import SPEC, ValueClass, VitalSign, classify

EVERY: Final = 5 * SECOND
OFF, LOW, MOTION = int(SensorFlag.SENSOR_OFF), int(SensorFlag.LOW_PERFUSION), int(SensorFlag.MOTION)
Values = dict[str, Any]


def calm(after_ms: int) -> Values:
    step = after_ms // EVERY
    values = {"heart_rate": 70 + step % 3, "respiratory_rate": 14 + step % 2, "spo2": 98 - step // 2 % 2}
    return values | ({} if step % 12 else {"temperature": 37.0})


class Ward:
    """One patient with a reading every five seconds; times are seconds."""

    def __init__(self) -> None:
        self.monitor = a_monitor()
        self.now_ms = 0
        self.found: list[tuple[int, AlarmChanged]] = []

    def lives(self, seconds: int, *, flags: int = 0, every_ms: int = EVERY, **changes: Any) -> "Ward":
        """Calm but for the changes; a change may be a function of the number of the reading, None is not measured."""
        for index in range(seconds * SECOND // every_ms):
            values = WELL if self.now_ms == 0 else calm(self.now_ms)
            values = values | {name: one(index) if callable(one) else one for name, one in changes.items()}
            reading = a_reading(self.now_ms, counter=self.now_ms // 100, flags=flags, **values)
            self.keep(apply(self.monitor, reading))
            self.now_ms += every_ms
            self.keep(wait(self.monitor, self.now_ms - 1))
        return self

    def keep(self, events: list[Any]) -> None:
        self.found += [(self.now_ms // SECOND, one) for one in alarms(events) if one.state is AlarmState.ACTIVE]

    def first(self, rule_id: str, key: str = "", *, priority: Priority = Priority.LOW) -> int | None:
        """Second at which an alarm of a rule was first active with that priority."""
        return next(
            (at_s for at_s, one in self.found if (one.rule_id, one.key) == (rule_id, key) and one.priority >= priority),
            None,
        )

    def text(self, rule_id: str) -> str:
        return next(one.text for _, one in self.found if one.rule_id == rule_id)

    @property
    def highest(self) -> Priority | None:
        return max((one.priority for _, one in self.found), default=None)


# The class of a value


@pytest.mark.parametrize(
    ("sign", "value", "value_class", "reason"),
    [
        (VitalSign.SPO2, None, ValueClass.NO_VALUE, "not measured"),
        (VitalSign.SPO2, 97, ValueClass.USUAL, ""),
        (VitalSign.SPO2, 49.9, ValueClass.EXTREME, ""),
        (VitalSign.SPO2, 1.1, ValueClass.EXTREME, ""),
        (VitalSign.SPO2, 1, ValueClass.NO_VALUE, "looks like a fraction of 1, not %"),
        (VitalSign.SPO2, 0, ValueClass.ZERO, ""),
        (VitalSign.SPO2, 100.1, ValueClass.NO_VALUE, "above 100, the highest possible"),
        (VitalSign.SPO2, 127, ValueClass.NO_VALUE, "a device's code for no value"),
        (VitalSign.HEART_RATE, -9, ValueClass.NO_VALUE, "a device's code for no value"),
        (VitalSign.HEART_RATE, -3, ValueClass.NO_VALUE, "negative"),
        (VitalSign.HEART_RATE, 255, ValueClass.USUAL, ""),
        (VitalSign.HEART_RATE, 511, ValueClass.NO_VALUE, "a device's code for no value"),
        (VitalSign.HEART_RATE, float("nan"), ValueClass.NO_VALUE, "not a number"),
        (VitalSign.HEART_RATE, 0, ValueClass.ZERO, ""),
        (VitalSign.DIASTOLIC_BP, 0, ValueClass.EXTREME, ""),
        (VitalSign.TEMPERATURE, 0, ValueClass.NO_VALUE, "impossible"),
        (VitalSign.TEMPERATURE, 13.7, ValueClass.EXTREME, ""),
        (VitalSign.TEMPERATURE, 98.6, ValueClass.NO_VALUE, "looks like °F, not °C"),
        (VitalSign.TEMPERATURE, 366, ValueClass.NO_VALUE, "looks like tenths of a degree or kelvin, not °C"),
        (VitalSign.SUPPLEMENTAL_OXYGEN, 0, ValueClass.USUAL, ""),
    ],
)
def test_a_value_has_a_class(sign: VitalSign, value: float | None, value_class: ValueClass, reason: str) -> None:
    assert classify(sign, value) == (value_class, reason)


@pytest.mark.parametrize("spec", SPEC.values(), ids=lambda spec: spec.sign.value)
def test_what_is_usual_is_possible(spec: Any) -> None:
    assert spec.possible[0] <= spec.usual[0] < spec.usual[1] <= spec.possible[1]


# Zeros


@pytest.mark.parametrize("flags", [0, LOW, MOTION, LOW | MOTION])
@pytest.mark.parametrize("sign", ["heart_rate", "respiratory_rate", "spo2", "systolic_bp"])
def test_a_zero_with_contact_is_high_after_thirty_seconds(sign: str, flags: int) -> None:
    ward = Ward().lives(300).lives(60, flags=flags, **{sign: 0})

    assert ward.first("arrest", sign, priority=Priority.HIGH) == 330
    assert (
        ward.text("arrest")
        == f"arrest or sensor off, look now: {SPEC[VitalSign(sign)].abbreviation} 0 with contact, for 30 s"
    )


def test_a_whole_set_of_zeros_is_no_frozen_sensor() -> None:
    dead = {"heart_rate": 0, "respiratory_rate": 0, "spo2": 0}
    ward = Ward().lives(300).lives(600, flags=LOW, **dead)

    assert ward.first("news2", priority=Priority.HIGH) == 310
    assert ward.monitor.view(START + ward.now_ms).news2.at_least >= 9
    assert {one.key for one in standing(ward.monitor, "arrest")} == set(dead)


def test_a_zero_that_nothing_follows_is_heard() -> None:
    #   72   0   nothing at all
    ward = Ward().lives(300).lives(5, heart_rate=0, respiratory_rate=None, spo2=None)
    ward.now_ms += MINUTE
    ward.keep(wait(ward.monitor, ward.now_ms))

    assert ward.first("arrest", "heart_rate") is not None


def test_no_pulse_pressure_is_a_zero() -> None:
    ward = Ward().lives(300).lives(5, systolic_bp=80, diastolic_bp=80).lives(60)

    assert ward.first("arrest", "systolic_bp") == 330
    assert "SBP 80 and no pulse pressure" in ward.text("arrest")


def test_one_zero_is_an_outlier() -> None:
    ward = Ward().lives(300).lives(1_200, heart_rate=lambda index: 72 if index % 8 else 0)

    assert ward.highest is None


def test_contact_off_explains_zeros() -> None:
    ward = Ward().lives(300).lives(5, heart_rate=0).lives(600, flags=OFF, heart_rate=0, respiratory_rate=0, spo2=0)

    assert {one.rule_id for _, one in ward.found} == {"sensor_off"}


def test_an_arrest_ends_with_usual_values_and_stays_on_the_list() -> None:
    ward = Ward().lives(300).lives(60, heart_rate=0).lives(300)

    assert standing(ward.monitor, "arrest") == []
    (was,) = [one for one in ward.monitor.open_alarms() if one.rule_id == "arrest"]
    assert was.latched


# Extreme and contradicted values


def test_an_ordinary_alarm_of_the_sign_is_enough() -> None:
    ward = Ward().lives(300).lives(600, spo2=lambda index: 45 + index % 5)

    assert ward.first("low_spo2", priority=Priority.HIGH) == 325
    assert ward.first("suspect_value", "spo2") is None


@pytest.mark.parametrize("flags", [LOW, MOTION])
def test_a_value_in_the_red_that_a_flag_contradicts_is_looked_at(flags: int) -> None:
    ward = Ward().lives(300).lives(120, flags=flags, spo2=lambda index: 60 + index % 3)

    assert ward.first("suspect_value", "spo2", priority=Priority.MEDIUM) == 345
    assert ward.highest is Priority.MEDIUM
    assert "SpO2 60 is in the red if it is true, but" in ward.text("suspect_value")


@pytest.mark.parametrize("group", PatientGroup)
def test_few_breaths_that_motion_contradicts_are_looked_at_in_everybody(group: PatientGroup) -> None:
    ward = Ward()
    ward.monitor = PatientMonitor(BINDING, MonitoringPlan(group=group))
    ward.lives(60).lives(90, flags=MOTION, respiratory_rate=4)

    at_s = ward.first("suspect_value", "respiratory_rate")
    assert at_s is not None
    assert at_s <= 120


def test_a_state_of_a_watch_from_before_answers_were_kept_is_read() -> None:
    monitor = Ward().lives(60).lives(20, heart_rate=0).monitor
    state = msgspec.msgpack.decode(monitor.snapshot())
    place = state.index(msgspec.msgpack.decode(msgspec.msgpack.encode(monitor._usability.to_state())))
    watched = state[place][1]
    assert watched
    for _, _, one in watched:
        one.pop()

    old = PatientMonitor.restore(monitor.stay_id, msgspec.msgpack.encode(state), MonitoringPlan())

    restored = msgspec.msgpack.decode(old.snapshot())[place][1]
    assert restored == [[sign, watch, [*one, False]] for sign, watch, one in watched]


def test_extreme_values_between_normal_ones_are_heard() -> None:
    # RR 16 and 90 in turn: each normal one begins the minute of `red_sign` again.
    ward = Ward().lives(300).lives(120, respiratory_rate=lambda index: 16 if index % 2 else 90)

    assert ward.first("suspect_value", "respiratory_rate", priority=Priority.HIGH) == 375


def test_a_thermometer_that_fell_off_is_no_hypothermia() -> None:
    ward = Ward().lives(300).lives(1_800, temperature=22.0)

    assert ward.first("suspect_value", "temperature", priority=Priority.MEDIUM) is not None
    assert "fell faster than a body can cool" in ward.text("suspect_value")
    assert ward.highest is Priority.MEDIUM


def test_what_a_walk_looks_like_is_not_looked_at() -> None:
    # A healthy person walks for ten minutes: saturation reads a few points low, breathing is fast.
    ward = Ward().lives(300)
    ward.lives(600, flags=MOTION, spo2=lambda index: 86 + index % 9, respiratory_rate=lambda index: 22 + index % 12)

    assert ward.found == []


# Not usable


@pytest.mark.parametrize(
    ("sign", "value", "cause"),
    [
        ("spo2", 0.85, "values like 0.85, looks like a fraction of 1, not %"),
        ("spo2", 127.0, "values like 127, a device's code for no value"),
        ("temperature", 98.6, "values like 98.6, looks like °F, not °C"),
        ("heart_rate", -9.0, "values like -9, a device's code for no value"),
        ("systolic_bp", 999.0, "values like 999, a device's code for no value"),
        ("supplemental_oxygen", 100.0, "values like 100, above 80, the highest possible"),
    ],
)
@pytest.mark.parametrize("before_s", [0, 300])
def test_what_is_no_value_is_told_after_two_minutes(sign: str, value: float, cause: str, before_s: int) -> None:
    ward = Ward().lives(before_s).lives(180, **{sign: value})

    assert ward.first("unusable", sign, priority=Priority.MEDIUM) == before_s + 120
    assert ward.text("unusable") == f"{SPEC[VitalSign(sign)].label} arrives and is not usable: {cause}; for 2 min"
    assert ward.highest is Priority.MEDIUM


def test_a_cuff_whose_single_value_is_none_is_told_after_ten_minutes() -> None:
    ward = Ward().lives(300).lives(5, systolic_bp=110, diastolic_bp=120).lives(900)

    assert ward.first("unusable", "systolic_bp", priority=Priority.MEDIUM) == 900
    assert "systolic is not above diastolic" in ward.text("unusable")


@pytest.mark.parametrize(("flags", "low_s", "medium_s"), [(LOW, 300, 900), (MOTION, 1_200, 1_800)])
def test_a_flag_for_long_is_told(flags: int, low_s: int, medium_s: int) -> None:
    ward = Ward().lives(300).lives(medium_s + 60, flags=flags)

    assert ward.first("unusable", "spo2") == 300 + low_s
    assert ward.first("unusable", "spo2", priority=Priority.MEDIUM) == 300 + medium_s


def test_missing_data_that_arrives_says_so_and_is_one_alarm() -> None:
    # An ill patient's SpO2 is missing after a minute: before the flag itself would be an alarm.
    ward = (
        Ward()
        .lives(300)
        .lives(1_200, flags=LOW, heart_rate=lambda index: 132 + index % 3, respiratory_rate=22, consciousness=1)
    )

    assert (
        "no usable data for oxygen saturation since 08:04 UTC, 1 min; it arrives, low perfusion reported"
        in ward.text("no_data")
    )
    assert ward.first("unusable", "spo2") is None


def test_most_of_the_values_are_enough() -> None:
    ward = Ward().lives(300).lives(300, spo2=lambda index: 98 if index % 3 == 2 else 0.98)

    assert ward.first("unusable", "spo2", priority=Priority.MEDIUM) == 420


@pytest.mark.parametrize("every_s", [5, 15, 60])
def test_half_of_the_values_are_enough(every_s: int) -> None:
    every_ms = every_s * SECOND
    ward = Ward().lives(600, every_ms=every_ms, spo2=lambda n: None if n == 0 else 127.0 if n % 2 else 97.0)

    assert ward.first("unusable", "spo2", priority=Priority.MEDIUM) is not None


@pytest.mark.parametrize("every_s", [5, 15, 30, 60])
@pytest.mark.parametrize("value", [0, 12, 330])
def test_an_extreme_value_in_four_is_enough_however_often_the_device_measures(every_s: int, value: float) -> None:
    every_ms = every_s * SECOND
    ward = Ward().lives(150, every_ms=every_ms)
    ward.lives(16 * every_s, every_ms=every_ms, heart_rate=lambda n: value if n % 4 == 0 else 70 + n % 3)

    assert any(one.priority is Priority.HIGH for _, one in ward.found)


@pytest.mark.parametrize("every_s", [5, 15, 30])
@pytest.mark.parametrize("value", [0, 12, 330])
def test_one_extreme_value_between_normal_ones_is_an_outlier(every_s: int, value: float) -> None:
    every_ms = every_s * SECOND
    ward = Ward().lives(300, every_ms=every_ms, heart_rate=lambda n: value if n * every_s == 150 else 70 + n % 3)

    assert ward.found == []


def test_a_usable_sign_ends_it() -> None:
    ward = Ward().lives(300).lives(180, spo2=0.98).lives(200)

    assert ward.monitor.open_alarms() == []


# Restart, and what is ordinary


def test_a_state_from_before_is_restored_and_watched_from_then_on() -> None:
    monitor = PatientMonitor.restore(a_monitor().stay_id, EARLIER, MonitoringPlan())
    ward = Ward()
    ward.monitor, ward.now_ms = monitor, 10 * 60 * MINUTE

    ward.lives(180, spo2=0.85)

    assert any("it arrives, values like 0.85, looks like a fraction of 1" in one.text for _, one in ward.found)


@pytest.mark.parametrize("cut_s", [5, 20, 44, 60, 100])
def test_a_restart_in_the_middle_changes_nothing(cut_s: int) -> None:
    def course(*, restart: bool) -> list[tuple[int, AlarmChanged]]:
        ward = Ward().lives(300).lives(cut_s // 5 * 5, flags=LOW, spo2=60, heart_rate=0, temperature=98.6)
        if restart:
            ward.monitor = restarted(ward.monitor)
        return ward.lives(200, flags=LOW, spo2=60, heart_rate=0, temperature=98.6).lives(300).found

    assert course(restart=True) == course(restart=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_what_is_ordinary_raises_no_high_alarm(seed: int) -> None:
    """A calm patient: two hours with single outliers of any size, motion now and then, a sensor taken off."""
    rng = random.Random(seed)
    ward = Ward().lives(60)
    while ward.now_ms < 120 * MINUTE:
        sign = rng.choice(["heart_rate", "respiratory_rate", "spo2", "temperature"])
        low, high = SPEC[VitalSign(sign)].possible
        ward.lives(5, **{sign: rng.choice([low, high, rng.uniform(low, high), 255.0, 999.0, -9.0, 0.85])})
        ward.lives(rng.randrange(30, 300, 5))
        if rng.random() < 0.3:
            seconds = rng.randrange(10, 300, 5)
            ward.lives(
                seconds,
                flags=MOTION,
                respiratory_rate=lambda _: rng.uniform(12, 22),
                spo2=lambda _: rng.uniform(92, 99),
            )
        if rng.random() < 0.05:
            ward.lives(5, heart_rate=0, spo2=0).lives(300, flags=OFF, heart_rate=None, spo2=None, respiratory_rate=None)

    assert [(at_s, one.text) for at_s, one in ward.found if one.priority is Priority.HIGH] == []


# The same watch, and another alarm


def poor_contact_then_motion(*, restart: bool = False) -> Ward:
    """Low perfusion for six minutes, from then on motion, of which twenty minutes are ordinary.

    No reading comes at the moments at which the alarms begin.
    """
    ward = Ward().lives(60).lives(364, flags=LOW, every_ms=7 * SECOND)
    if restart:
        ward.monitor = restarted(ward.monitor)
    return ward.lives(910, flags=MOTION, every_ms=7 * SECOND)


def test_an_alarm_that_ends_and_begins_again_in_one_watch_is_another_alarm() -> None:
    ward = poor_contact_then_motion()

    told = [one for _, one in ward.found if (one.rule_id, one.key) == ("unusable", "spo2")]

    first, second = dict.fromkeys(one.alarm_id for one in told)
    assert {one.onset_ms for one in told} == {told[0].onset_ms}
    assert [next(one.revision for one in told if one.alarm_id == each) for each in (first, second)] == [0, 0]


def test_a_restart_between_the_two_changes_nothing() -> None:
    assert poor_contact_then_motion(restart=True).found == poor_contact_then_motion().found
