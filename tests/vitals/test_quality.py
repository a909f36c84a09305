"""Unusable values: causes of a sensor that is off, flat lines, jumps, cooling, impossible values."""

from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.messages import Consciousness, Reading, SensorFlag
from vitals.quality import FLAT_READINGS, WORN, Quality, judge_late
from vitals.signs import INDEX, SPEC, VitalSign

SECOND, MINUTE = 1_000, 60_000
NOW = 1_700_000_000_000
HR, RR, SPO2, SBP, DBP, T, O2 = (
    VitalSign.HEART_RATE,
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SPO2,
    VitalSign.SYSTOLIC_BP,
    VitalSign.DIASTOLIC_BP,
    VitalSign.TEMPERATURE,
    VitalSign.SUPPLEMENTAL_OXYGEN,
)
ON_BODY = {HR, RR, SPO2, T}


def reading(at_s: float = 0, **values: Any) -> Reading:
    at_ms = NOW + round(at_s * SECOND)
    return Reading(
        stay_id="b1", reading_id=bytes(16), session_id=bytes(16), counter=0, at_ms=at_ms, received_ms=at_ms, **values
    )


def calm(at_s: float = 0, **changes: Any) -> Reading:
    # The pulse is never twice the same, as in life.
    values = {"heart_rate": 70 + at_s % 7, "respiratory_rate": 16, "spo2": 97, "temperature": 36.6}
    return reading(at_s, **(values | changes))


def unusable(judged: Reading) -> set[VitalSign]:
    return {sign for sign in VitalSign if judged.unusable >> INDEX[sign] & 1}


def course(sign: VitalSign, *values: tuple[float, float]) -> list[bool]:
    """Whether each of (seconds, value) of one sign, alone in its readings, may be scored."""
    quality = Quality()
    return [sign not in unusable(quality.judge(reading(at_s, **{sign.value: value}))) for at_s, value in values]


def test_a_calm_patient_is_left_alone() -> None:
    quality = Quality()

    for at_s in range(0, 600, 5):
        given_reading = calm(at_s)
        assert quality.judge(given_reading) is given_reading
    assert quality.sensor_off_since_ms is None


# What the device says of itself


@pytest.mark.parametrize(
    ("flags", "spoilt"),
    [
        (SensorFlag.NONE, set()),
        (SensorFlag.SENSOR_OFF, ON_BODY),
        (SensorFlag.LOW_PERFUSION, {SPO2}),
        (SensorFlag.MOTION, {RR, SPO2}),
        (SensorFlag.LOW_PERFUSION | SensorFlag.MOTION, {RR, SPO2}),
        (SensorFlag.BATTERY_LOW | SensorFlag.CLOCK_CORRECTED | SensorFlag.CLOCK_CLAMPED, set()),
    ],
)
def test_flags_spoil_what_they_touch(flags: SensorFlag, spoilt: set[VitalSign]) -> None:
    # Never the cuff and never what people entered.
    one = calm(
        systolic_bp=120,
        diastolic_bp=80,
        supplemental_oxygen=2,
        consciousness=Consciousness.ALERT,
        sensor_flags=int(flags),
    )

    assert unusable(Quality().judge(one)) == unusable(judge_late(one)) == spoilt


def test_what_the_edge_found_unusable_stays_so() -> None:
    one = calm(unusable=1 << INDEX[HR])

    assert unusable(Quality().judge(one)) == unusable(judge_late(one)) == {HR}


def test_a_sensor_that_is_off_is_off_until_a_sign_of_life() -> None:
    #   on   off   off   nothing   on
    #   0    5     10    15        20 s
    quality = Quality()
    since = []
    for one in (
        calm(0),
        calm(5, sensor_flags=int(SensorFlag.SENSOR_OFF)),
        calm(10, sensor_flags=int(SensorFlag.SENSOR_OFF)),
        reading(15),
        calm(20),
    ):
        quality.judge(one)
        since.append(quality.sensor_off_since_ms)

    assert since == [None, NOW + 5_000, NOW + 5_000, NOW + 5_000, None]


@pytest.mark.parametrize("values", [{"temperature": 36.6}, {"systolic_bp": 120, "diastolic_bp": 80}, {"spo2": 0}])
def test_no_proof_that_it_is_worn_again(values: dict[str, float]) -> None:
    # Warmth, a cuff and a zero are had without a body on the sensor.
    quality = Quality()
    quality.judge(calm(0, sensor_flags=int(SensorFlag.SENSOR_OFF)))

    quality.judge(reading(5, **values))

    assert quality.sensor_off_since_ms == NOW


# No values


@pytest.mark.parametrize("sign", [HR, RR, SPO2, SBP, DBP, T, O2])
def test_what_a_living_or_dying_patient_can_have_is_usable(sign: VitalSign) -> None:
    low, high = SPEC[sign].possible
    table = {low: True, high: True, low - 0.1: False, high + 0.1: False, nan: False, inf: False, -inf: False}

    for value, usable in table.items():
        one = reading(**{sign.value: value})
        assert (sign not in unusable(Quality().judge(one))) is usable
        assert (sign not in unusable(judge_late(one))) is usable


def test_what_is_no_value_keeps_its_place_and_spoils_only_itself() -> None:
    judged = Quality().judge(calm(spo2=120))

    assert unusable(judged) == {SPO2}
    assert judged.spo2 == 120


@pytest.mark.parametrize(
    ("systolic", "diastolic", "spoilt"),
    [
        (120, 80, set()),
        (81, 80, set()),
        (80, 80, {SBP, DBP}),
        (79, 80, {SBP, DBP}),
        (120, None, set()),
        (None, 80, set()),
    ],
)
def test_systolic_lies_above_diastolic(systolic: float | None, diastolic: float | None, spoilt: set[VitalSign]) -> None:
    one = reading(systolic_bp=systolic, diastolic_bp=diastolic)

    assert unusable(Quality().judge(one)) == unusable(judge_late(one)) == spoilt


# Jumps


@pytest.mark.parametrize(
    ("sign", "start", "most"),
    # At once, and so much more for five seconds.
    [(HR, 60, 40 + 25), (RR, 10, 15 + 10), (SPO2, 100, -12 - 7.5), (SBP, 100, 80 + 5), (DBP, 50, 60 + 5), (T, 36, 1.1)],
)
def test_how_far_a_sign_may_move_in_five_seconds(sign: VitalSign, start: float, most: float) -> None:
    further = 1.01 * most

    assert course(sign, (0, start), (5, start + most * 0.99)) == [True, True]
    assert course(sign, (0, start), (5, start + further)) == [True, False]


def test_a_spike_is_not_scored() -> None:
    #   70   72   190   71   70
    assert course(HR, (0, 70), (5, 72), (10, 190), (15, 71), (20, 70)) == [True, True, False, True, True]


def test_a_jump_that_stays_is_believed_at_its_third_reading() -> None:
    assert course(HR, (0, 70), (1, 190), (2, 188), (3, 191), (4, 190)) == [True, False, False, True, True]


def test_or_after_ten_seconds() -> None:
    assert course(HR, (0, 70), (1, 190), (10.999, 188)) == [True, False, False]
    assert course(HR, (0, 70), (1, 190), (11, 188)) == [True, False, True]


def test_a_third_reading_away_from_the_old_level_is_believed_wherever_it_is() -> None:
    # A saturation of 45, 70, 48 is far from 97, however much it scatters.
    assert course(SPO2, (0, 97), (1, 80), (2, 60), (3, 80)) == [True, False, False, True]


def test_values_that_alternate_are_believed_in_the_end() -> None:
    #   97 45 97 45 97 45 97 45 97 45    every 5 s: each reading at the old level takes half a doubt back
    assert course(SPO2, *((n * 5, 45 if n % 2 else 97) for n in range(10))) == [True, False] * 4 + [True, True]


def test_a_spike_that_went_away_is_forgotten() -> None:
    assert course(HR, (0, 70), (1, 190), (2, 70), (3, 190), (4, 70), (5, 190)) == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]


def test_the_longer_nothing_was_seen_the_more_may_have_happened() -> None:
    assert course(HR, (0, 70), (60, 190)) == [True, True]


def test_a_jump_of_one_sign_spoils_no_other() -> None:
    quality = Quality()
    quality.judge(calm(0))

    assert unusable(quality.judge(calm(5, heart_rate=200))) == {HR}


# Flat lines


def flat(n: int, *, every_s: float = 5, **changes: Any) -> list[set[VitalSign]]:
    quality = Quality()
    return [unusable(quality.judge(calm(n * every_s, heart_rate=70, **changes))) for n in range(n)]


def test_twenty_readings_the_same_to_the_digit_are_a_frozen_sensor() -> None:
    spoilt = flat(FLAT_READINGS + 1)

    assert FLAT_READINGS == 20
    assert spoilt[:19] == [set()] * 19
    assert spoilt[19:] == [ON_BODY] * 2


@pytest.mark.parametrize(
    ("every_s", "changes", "is_flat"),
    [
        (15, {}, True),
        (15.001, {}, False),  # charting, replayed: constant for honest reasons
        (5, {"spo2": None}, True),
        (5, {"spo2": None, "respiratory_rate": None}, False),  # one sign may well be steady
    ],
)
def test_what_counts_as_flat(every_s: float, changes: dict[str, None], is_flat: bool) -> None:
    assert bool(flat(FLAT_READINGS, every_s=every_s, **changes)[-1]) is is_flat


def test_a_frozen_sensor_that_moves_again_is_believed_at_once() -> None:
    quality = Quality()
    for n in range(FLAT_READINGS):
        quality.judge(calm(n * 5, heart_rate=70))
    assert quality.sensor_off_since_ms == NOW + 95_000

    assert unusable(quality.judge(calm(100, heart_rate=71))) == set()
    assert quality.sensor_off_since_ms is None


# Cooling


def cooling(*temperatures: tuple[float, float]) -> list[bool]:
    """Whether the device was found off the body at each of (seconds, °C)."""
    quality = Quality()
    return [quality.judge(calm(at_s, temperature=t)).unusable == WORN for at_s, t in temperatures]


def test_a_sensor_on_its_way_to_room_temperature_is_off() -> None:
    #   34.5   34.1   33.6   33.4         a degree less than at 0, and below 34
    #   0      60     120    180 s
    assert cooling((0, 34.5), (60, 34.1), (120, 33.6), (180, 33.4)) == [False, False, False, True]


@pytest.mark.parametrize(
    ("start", "end", "after_s", "is_off"),
    [
        (34.75, 33.75, 300, True),
        (34.75, 33.8, 300, False),  # less than a degree
        (35.0, 34.0, 300, False),  # a fever that falls, or a window that is open
        (34.75, 33.75, 300.001, False),  # a night's slow cooling
        (32.0, 32.0, 300, False),  # cold hands
    ],
)
def test_what_counts_as_cooling(start: float, end: float, after_s: float, is_off: bool) -> None:
    assert cooling((0, start), (after_s, end)) == [False, is_off]


@pytest.mark.parametrize("glitch", [45.1, 47.1, 85.0, 1e9, inf, nan, -40.0])
def test_one_absurd_temperature_does_not_take_a_cool_wrist_off(glitch: float) -> None:
    # 33 °C on a wrist is common. The 85 of a thermometer that was just switched on says nothing about what follows.
    assert cooling((0, glitch), (5, 33.0), (10, 33.0), (300, 33.0)) == [False] * 4


def test_nor_does_a_jump_that_was_not_accepted() -> None:
    # Five minutes and a second after the last comparison, so that the spike would become the next.
    assert cooling((0, 33.0), (301, 44.0), (302, 33.0), (303, 33.0)) == [False] * 4


def test_a_value_that_is_none_does_not_delay_finding_it() -> None:
    assert cooling((0, nan), (60, 34.5), (120, 33.4)) == [False, False, True]


# Late readings


def test_a_late_reading_is_judged_by_itself() -> None:
    # It is not compared with other readings: no jump, no flat line. No value stays no value.
    quality = Quality()
    quality.judge(calm(100))
    state = quality.to_state()

    assert unusable(judge_late(calm(50, heart_rate=200))) == set()
    assert unusable(judge_late(calm(50, heart_rate=301))) == set()
    assert unusable(judge_late(calm(50, heart_rate=501))) == {HR}
    assert quality.to_state() == state


# For every patient


def values(sign: VitalSign) -> st.SearchStrategy[float | None]:
    low, high = SPEC[sign].usual
    least, most = SPEC[sign].possible
    usual = [low, (low + high) / 2, (low + high) / 2, (low + 3 * high) / 4]
    return st.sampled_from([None, nan, least - 1, least, low - 1, *usual, high + 1, most, most + 1])


_ONE = st.tuples(
    st.sampled_from([0, 1, 5, 5, 20, 400]),
    st.sampled_from([0, 0, 0, 1, 2, 4, 5]),
    st.sampled_from([0, 0, 1]),
    st.fixed_dictionaries({sign.value: values(sign) for sign in (HR, RR, SPO2, SBP, DBP, T, O2)}),
)


@st.composite
def stays(draw: st.DrawFn) -> list[Reading]:
    at_s, readings = 0, []
    for gap_s, flags, mask, changes in draw(st.lists(_ONE, max_size=20)):
        at_s += gap_s
        readings.append(reading(at_s, sensor_flags=flags, unusable=mask, **changes))
    return readings


@settings(deadline=None, derandomize=True, max_examples=80)
@given(stay=stays())
def test_values_are_kept_and_marks_are_only_added(stay: list[Reading]) -> None:
    quality = Quality()
    for one in stay:
        for judged in (quality.judge(one), judge_late(one)):
            assert judged.unusable & one.unusable == one.unusable
            kept = msgspec.structs.replace(judged, unusable=one.unusable)
            assert repr(kept) == repr(one)  # not `==`: what is not a number does not equal itself
            for sign in (HR, RR, SPO2, SBP, DBP, T, O2):
                value = getattr(judged, sign.value)
                low, high = SPEC[sign].possible
                assert value is None or low <= value <= high or sign in unusable(judged)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    start=st.integers(20, 300),
    end=st.integers(20, 300),
    wobble=st.lists(st.integers(-20, 20), min_size=20, max_size=20),
    every_s=st.sampled_from([0.2, 1, 3, 5, 11]),
)
def test_a_possible_value_that_stays_is_believed_at_its_third_reading_or_after_ten_seconds(
    start: int, end: int, wobble: list[int], every_s: float
) -> None:
    steps = [(n * every_s, min(300, max(20, end + w))) for n, w in enumerate(wobble, start=1)]

    usable = course(HR, (0, start), *steps)

    assert all(usable[3:])
    assert all(ok for ok, (at_s, _) in zip(usable[1:], steps, strict=True) if at_s >= every_s + 10)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(stay=stays(), cut=st.integers(0, 20))
def test_a_restart_anywhere_changes_nothing(stay: list[Reading], cut: int) -> None:
    whole = Quality()
    expected = [whole.judge(one).unusable for one in stay]

    first = Quality()
    masks = [first.judge(one).unusable for one in stay[:cut]]
    second = Quality.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(first.to_state())))
    masks += [second.judge(one).unusable for one in stay[cut:]]

    assert masks == expected
    assert second.sensor_off_since_ms == whole.sensor_off_since_ms
