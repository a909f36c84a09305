"""Combined conditions and trends: when they begin, what they say, what a missing part does, and what is kept."""

from typing import Any

import msgspec
import pytest

from tests.vitals.stories import (
    HOUR,
    MINUTE,
    SECOND,
    WELL,
    a_monitor,
    a_reading,
    alarms,
    feed,
    restarted,
    standing,
    steady,
    wait,
)
from vitals.messages import AlarmState, Priority
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup
from vitals.rules import AlarmLimit, Rule, Term, Trend

FEVER: Rule = Rule(
    rule_id="ordered_fever",
    label="fever with fast heart",
    quantity="combined",
    limits=(AlarmLimit(1, Priority.MEDIUM),),
    clear_margin=0.75,
    clear_for_ms=2 * MINUTE,
    all_of=(Term("heart_rate", ">=", 110, 5), Term("temperature", ">=", 38.3, 0.3)),
)
ID = FEVER.rule_id


def a_trend(trend: Trend, limit: float = 20, **changes: Any) -> Rule:
    return Rule(
        **{
            "rule_id": "ordered_rising",
            "label": "heart rate rising",
            "quantity": "trend",
            "limits": (AlarmLimit(limit, Priority.LOW),),
            "clear_margin": 5.0,
            "trend": trend,
        }
        | changes
    )


RISING = a_trend(Trend("heart_rate", HOUR))


@pytest.mark.parametrize(
    ("heart_rate", "temperature", "found"),
    [(109, 39.0, False), (110, 38.2, False), (110, 38.3, True), (150, 40.0, True), (70, 37.0, False)],
)
def test_a_combined_condition_is_true_when_every_term_is(heart_rate: float, temperature: float, found: bool) -> None:
    monitor = a_monitor(FEVER)

    feed(monitor, a_reading(0, **WELL | {"heart_rate": heart_rate, "temperature": temperature}))

    assert bool(standing(monitor)) is found


def test_its_text_has_every_value_with_its_limit() -> None:
    (alarm,) = alarms(feed(a_monitor(FEVER), a_reading(0, **WELL | {"heart_rate": 118, "temperature": 38.6})))

    assert alarm.text == "fever with fast heart: HR 118 (limit >= 110) and T 38.6 (limit >= 38.3)"


def test_signs_of_different_readings_are_combined_while_they_are_valid() -> None:
    monitor = a_monitor(FEVER)

    feed(monitor, heart_rate=[(9 * MINUTE, 118)], temperature=[(0, 38.6)])
    assert standing(monitor)

    other = a_monitor(FEVER)
    feed(other, heart_rate=[(16 * MINUTE, 118)], temperature=[(0, 38.6)])  # valid for 15 min
    assert not standing(other)


def test_it_must_last_where_it_is_measured_and_not_by_readings_of_other_signs() -> None:
    #   HR    118 ........  (none)      rule: for 1 min, heart rate measured once
    #   SpO2  98  98  98  98
    late = Rule(**{name: getattr(FEVER, name) for name in FEVER.__struct_fields__} | {"for_ms": MINUTE})
    monitor = a_monitor(late)
    feed(monitor, a_reading(0, heart_rate=118, temperature=38.6))

    feed(monitor, spo2=[(seconds * SECOND, 98) for seconds in range(5, 120, 5)])

    assert not standing(monitor)


def test_a_missing_part_makes_it_unknown_and_the_alarm_stays() -> None:
    monitor = a_monitor(FEVER)
    feed(monitor, a_reading(0, heart_rate=118, temperature=38.6))

    feed(monitor, heart_rate=[(minute * MINUTE, 70) for minute in range(16, 40)])

    (alarm,) = standing(monitor, ID)
    assert "no data since" in alarm.text


def test_a_missing_part_is_found_by_the_timer_too() -> None:
    monitor = a_monitor(FEVER)
    feed(monitor, a_reading(0, heart_rate=118, temperature=38.6))

    wait(monitor, 40 * MINUTE)

    (alarm,) = standing(monitor, ID)
    assert "no data since" in alarm.text


def test_it_ends_when_one_term_is_well_inside_for_long_enough() -> None:
    monitor = a_monitor(FEVER)
    feed(monitor, a_reading(0, heart_rate=118, temperature=38.6))

    feed(monitor, a_reading(30 * SECOND, heart_rate=107, temperature=38.6))  # inside, not by the margin of 5
    feed(monitor, *steady(MINUTE, 2 * MINUTE, heart_rate=107, temperature=38.6))
    assert standing(monitor)

    feed(monitor, *steady(3 * MINUTE, 5 * MINUTE, heart_rate=104, temperature=38.6))
    assert not standing(monitor)


def test_points_may_be_a_term_and_only_their_signs_are_causes() -> None:
    rule = Rule(
        rule_id="ordered_shock",
        label="shock with company",
        quantity="combined",
        limits=(AlarmLimit(1, Priority.MEDIUM),),
        clear_margin=0.75,
        all_of=(Term("shock_index", ">=", 0.9, 0.05), Term("news2", ">=", 3)),
    )
    alone, ill = a_monitor(rule), a_monitor(rule)

    feed(alone, a_reading(0, **WELL | {"heart_rate": 90, "systolic_bp": 100}))  # 0.9, NEWS2 2
    feed(ill, a_reading(0, **WELL | {"heart_rate": 90, "systolic_bp": 100, "respiratory_rate": 22}))

    assert not standing(alone)
    (alarm,) = standing(ill)
    assert alarm.text == "shock with company: shock index 0.90 (limit >= 0.9) and NEWS2 4 (limit >= 3)"


def test_a_score_that_may_be_higher_is_not_known_to_be_low() -> None:
    rule = Rule(
        rule_id="ordered_low",
        label="low score",
        quantity="combined",
        limits=(AlarmLimit(1, Priority.LOW),),
        all_of=(Term("news2", "<=", 3),),
    )
    incomplete, complete = a_monitor(rule), a_monitor(rule)

    feed(incomplete, a_reading(0, heart_rate=70))
    feed(complete, a_reading(0, **WELL))

    assert not standing(incomplete)
    assert standing(complete)


def test_no_score_of_adults_is_a_term_for_a_child() -> None:
    rule = Rule(
        rule_id="ordered_shock",
        label="shock",
        quantity="combined",
        limits=(AlarmLimit(1, Priority.LOW),),
        all_of=(Term("shock_index", ">=", 0.9), Term("spo2", ">=", 50)),
    )
    monitor = a_monitor(rule, group=PatientGroup.CHILD)

    feed(monitor, a_reading(0, **WELL | {"heart_rate": 150}))

    assert not standing(monitor)


def rising(monitor: PatientMonitor, *, from_rate: float, to_rate: float) -> None:
    """An hour at the first rate, and then ten minutes at the second, a reading every 30 s."""
    feed(
        monitor, *steady(0, HOUR, heart_rate=from_rate), *steady(HOUR + 30_000, HOUR + 10 * MINUTE, heart_rate=to_rate)
    )


@pytest.mark.parametrize(("to_rate", "found"), [(95, False), (96, True), (120, True), (60, False)])
def test_a_rise_of_a_fifth_over_an_hour(to_rate: float, found: bool) -> None:
    monitor = a_monitor(RISING)

    rising(monitor, from_rate=80, to_rate=to_rate)

    assert bool(standing(monitor)) is found


def test_a_trend_says_from_what_to_what() -> None:
    monitor = a_monitor(RISING)

    rising(monitor, from_rate=80, to_rate=120)

    (first, *_) = standing(monitor)
    # The mean of the last five minutes, of which two are at the second rate.
    assert first.text == "heart rate rising: HR rose by 22 % in 60 min, from 80 to 98; limit 20 %"


def test_a_fall_in_the_unit_of_the_sign() -> None:
    monitor = a_monitor(a_trend(Trend("spo2", 30 * MINUTE, True, False), 4))

    feed(monitor, *steady(0, 30 * MINUTE, spo2=97), *steady(31 * MINUTE, 40 * MINUTE, spo2=92))

    (alarm,) = standing(monitor)
    assert "SpO2 fell by 4 % in 30 min" in alarm.text


def test_one_outlier_is_no_trend() -> None:
    monitor = a_monitor(RISING)
    feed(monitor, *steady(0, HOUR, heart_rate=80))

    feed(monitor, a_reading(HOUR + 30 * SECOND, **WELL | {"heart_rate": 180}))
    feed(monitor, *steady(HOUR + MINUTE, HOUR + 5 * MINUTE, heart_rate=80))

    assert not standing(monitor)


def test_a_trend_needs_the_time_before_and_what_is_open_stays_without_it() -> None:
    monitor = a_monitor(RISING)
    feed(monitor, *steady(0, 20 * MINUTE, heart_rate=80), *steady(21 * MINUTE, 50 * MINUTE, heart_rate=140))
    assert not standing(monitor)  # nothing is known of an hour before

    feed(monitor, *steady(51 * MINUTE, 75 * MINUTE, heart_rate=140))
    assert standing(monitor)

    feed(monitor, *steady(4 * HOUR, 4 * HOUR + 10 * MINUTE, heart_rate=80))  # after a gap
    (alarm,) = standing(monitor)
    assert "no data since" in alarm.text


def test_a_trend_ends_when_it_is_over() -> None:
    monitor = a_monitor(RISING)
    rising(monitor, from_rate=80, to_rate=120)

    feed(monitor, *steady(HOUR + 11 * MINUTE, 3 * HOUR, heart_rate=120))

    assert not standing(monitor)


def test_a_slow_sign_has_a_trend_by_single_values() -> None:
    monitor = a_monitor(
        a_trend(Trend("systolic_bp", 2 * HOUR, True, False), 30), cadence_ms={"systolic_bp": 30 * MINUTE}
    )

    feed(monitor, systolic_bp=[(place * 30 * MINUTE, 130) for place in range(5)])
    assert not standing(monitor)

    feed(monitor, systolic_bp=[(5 * 30 * MINUTE, 98)])
    assert [alarm.priority for alarm in standing(monitor)] == [Priority.LOW]


def test_a_trend_is_the_same_after_a_restart_at_any_reading() -> None:
    readings = [
        *steady(0, HOUR, heart_rate=80),
        *steady(HOUR + 30_000, HOUR + 20 * MINUTE, heart_rate=120),
        *steady(HOUR + 21 * MINUTE, 2 * HOUR + 40 * MINUTE, heart_rate=90),
    ]
    through, stopped = a_monitor(RISING, FEVER), a_monitor(RISING, FEVER)

    for reading in readings:
        expected = through.on_reading(reading)
        stopped = restarted(stopped)
        assert stopped.on_reading(reading) == expected

    assert stopped.snapshot() == through.snapshot()


@pytest.mark.parametrize("over_ms", [5 * MINUTE, HOUR, 4 * HOUR])
def test_what_is_kept_is_bounded(over_ms: int) -> None:
    monitor, without = a_monitor(a_trend(Trend("heart_rate", over_ms))), a_monitor(FEVER)

    feed(monitor, *steady(0, 10 * HOUR))
    feed(without, *steady(0, 10 * HOUR))

    assert 0 < len(monitor.snapshot()) - len(without.snapshot()) < 1_000


def test_a_patient_without_orders_keeps_nothing() -> None:
    monitor, ordered = a_monitor(), a_monitor(RISING)

    feed(monitor, *steady(0, HOUR))
    feed(ordered, *steady(0, HOUR))

    state, with_trend = msgspec.msgpack.decode(monitor.snapshot()), msgspec.msgpack.decode(ordered.snapshot())
    assert with_trend[: len(state)] == state
    assert len(with_trend) > len(state)


def test_a_corrected_clock_moves_what_is_kept() -> None:
    monitor = a_monitor(RISING)
    feed(monitor, *steady(0, HOUR, heart_rate=80))

    monitor.shift(30 * MINUTE)
    feed(monitor, *steady(HOUR + 30 * MINUTE, HOUR + 40 * MINUTE, heart_rate=120))

    (alarm,) = standing(monitor)
    assert alarm.state is AlarmState.ACTIVE
