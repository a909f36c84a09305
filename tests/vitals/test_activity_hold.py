"""During a walk a fast heart is held back, for a bounded time; whatever a walk does not explain is an alarm at once."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_monitor,
    a_plan,
    a_reading,
    a_score,
    alarms,
    feed,
    restarted,
    standing,
    steady,
    wait,
)
from vitals.activity import FRESH_MS, ActivityPlan
from vitals.messages import Activity, AlarmChanged, AlarmState, BindingPeriod, Consciousness, Event, Priority, Reading
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup

REST, LIGHT, WALK, EXERCISE = Activity.REST, Activity.LIGHT, Activity.WALK, Activity.EXERCISE
YOUNG = ActivityPlan(holds_up_to=WALK, age_years=30)  # up to 142.1 /min on a walk
RUNNER = ActivityPlan(
    holds_up_to=EXERCISE, age_years=30, most_held_ms=2 * HOUR, within_ms=6 * HOUR, most_believed_ms=3 * HOUR
)


def an_adult(activity: ActivityPlan = YOUNG, group: PatientGroup = PatientGroup.ADULT) -> PatientMonitor:
    return a_monitor(activity=activity, group=group)


def minutes(first: float, last: float, activity: Activity | None = WALK, **signs: Any) -> list[Reading]:
    """A reading every twenty seconds, of a patient with a pressure that no shock index speaks at."""
    told = {} if activity is None else {"activity": int(activity)}
    return steady(
        round(first * MINUTE), round(last * MINUTE), every_ms=20 * SECOND, **{"systolic_bp": 140, **signs}, **told
    )


def physiological(events: list[Event]) -> list[AlarmChanged]:
    return [one for one in alarms(events) if one.kind == "physiological"]


def heard(events: list[Event]) -> list[tuple[str, int]]:
    """Rule and minute of every alarm that called somebody, as it began."""
    return [
        (one.rule_id, (one.at_ms - START) // MINUTE)
        for one in physiological(events)
        if one.state is AlarmState.ACTIVE and one.revision == 0 and not one.retrospective
    ]


def test_a_walk_is_no_emergency_and_goes_to_the_record() -> None:
    monitor = an_adult()

    events = feed(monitor, *minutes(0, 4.9, REST))
    events += feed(monitor, *minutes(5, 13.9, WALK, heart_rate=135, respiratory_rate=26))
    assert monitor.view(START + 13 * MINUTE).activity is WALK
    assert monitor.view(START + 13 * MINUTE).held == (
        "held during a walk since 08:05 UTC: NEWS2 6: RR 26 (+3), HR 135 (+3); limit >= 5",
        "held during a walk since 08:05 UTC: red sign: RR 26 scores 3 of NEWS2; limit >= 3",
        "held during a walk since 08:05 UTC: red sign: HR 135 scores 3 of NEWS2; limit >= 3",
    )
    events += feed(monitor, *minutes(14, 30, REST, heart_rate=80))

    assert heard(events) == []
    assert [(one.rule_id, one.key, one.state) for one in physiological(events) if one.retrospective] == [
        ("news2", "", AlarmState.CLEARED),
        ("red_sign", "respiratory_rate", AlarmState.CLEARED),
        ("red_sign", "heart_rate", AlarmState.CLEARED),
    ]
    assert "held during a walk from 08:05 UTC to 08:13 UTC, and over: NEWS2 6" in physiological(events)[0].text
    assert monitor.view(START + 30 * MINUTE).held == ()


def test_the_score_itself_is_the_same() -> None:
    walking = feed(an_adult(), *minutes(0, 9, WALK, heart_rate=135))
    unknown = feed(an_adult(), *minutes(0, 9, None, heart_rate=135))

    assert [one for one in walking if type(one).__name__ == "News2Scored"] == [
        one for one in unknown if type(one).__name__ == "News2Scored"
    ]


def test_what_is_still_so_when_the_walk_is_over_is_an_alarm_with_its_onset() -> None:
    #   walk 08:00 to 08:10   the limit falls below 135 half a minute after it
    monitor = an_adult()
    events = feed(monitor, *minutes(0, 10, WALK, heart_rate=135))
    assert heard(events) == []

    events = feed(monitor, *minutes(10.4, 13, REST, heart_rate=135))

    assert heard(events) == [("red_sign", 11)]
    alarm = standing(monitor, "red_sign")[0]
    assert alarm.onset_ms == START
    assert alarm.text == ("red sign: HR 135 scores 3 of NEWS2; limit >= 3; held during a walk since 08:00 UTC")


def test_an_alarm_that_was_held_has_the_id_that_it_would_have_had() -> None:
    held, not_held = an_adult(), an_adult(ActivityPlan())

    feed(held, *minutes(0, 10, WALK, heart_rate=135), *minutes(10.2, 12, REST, heart_rate=135))
    feed(not_held, *minutes(0, 10, WALK, heart_rate=135), *minutes(10.2, 12, REST, heart_rate=135))

    assert standing(held, "red_sign")[0].alarm_id == standing(not_held, "red_sign")[0].alarm_id


@pytest.mark.parametrize(("heart_rate", "minute"), [(142, None), (143, 5), (200, 5)])
def test_more_than_a_walk_explains_is_an_alarm_after_the_delay_of_its_rule(heart_rate: int, minute: int | None) -> None:
    monitor = an_adult()

    events = feed(monitor, *minutes(0, 4.9, WALK, heart_rate=133), *minutes(5, 9, WALK, heart_rate=heart_rate))

    red = [one for one in heard(events) if one[0] == "red_sign"]
    assert red == ([] if minute is None else [("red_sign", minute)])


@pytest.mark.parametrize(
    "abnormal",
    [
        {"spo2": 93},
        {"temperature": 38.2},
        {"temperature": 35.5},
        {"systolic_bp": 105},
        {"systolic_bp": 225},
        {"consciousness": Consciousness.CONFUSION},
        {"supplemental_oxygen": 2},
        {"respiratory_rate": 31},
        {"respiratory_rate": 8},
    ],
)
def test_a_walk_explains_nothing_while_anything_else_is_abnormal(abnormal: dict[str, Any]) -> None:
    events = feed(an_adult(), *minutes(0, 3, WALK, **{"heart_rate": 135, **abnormal}))

    assert ("red_sign", 1) in heard(events)


def test_a_slow_heart_on_a_walk_is_an_alarm() -> None:
    events = feed(an_adult(), *minutes(0, 3, WALK, heart_rate=34))

    assert {rule for rule, _ in heard(events)} >= {"low_heart_rate", "red_sign"}


def test_a_patient_who_has_an_alarm_may_not_have_the_next_one_held() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 3, REST, respiratory_rate=26))  # a red sign, at rest
    assert standing(monitor, "red_sign")

    events = feed(monitor, *minutes(3.2, 6, WALK, heart_rate=135, respiratory_rate=26))

    assert ("news2", 3) in heard(events)


def test_a_model_that_speaks_ends_the_hold() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 4, WALK, heart_rate=135))

    said = feed(monitor, a_score(4 * MINUTE + SECOND, 0.9))
    events = feed(monitor, *minutes(4.2, 5, WALK, heart_rate=135))

    assert alarms(said)[0].text.endswith("; walking since 08:00 UTC")
    assert heard(events) == [("red_sign", 4)]


def test_what_was_pending_before_the_walk_is_not_explained_by_it() -> None:
    events = feed(an_adult(), *minutes(0, 0.5, REST, heart_rate=135), *minutes(0.6, 3, WALK, heart_rate=135))

    assert heard(events) == [("red_sign", 1)]


def test_a_device_that_always_says_walk_holds_for_twenty_minutes_of_an_hour() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 9.9, WALK))

    events = feed(monitor, *minutes(10, 40, WALK, heart_rate=135))

    assert heard(events) == [("red_sign", 30)]


def test_many_short_holds_do_not_add_up_to_more() -> None:
    #   a fast heart for one minute in three, on a walk that a device tells for ever with short rests
    monitor, events = an_adult(), []
    for start in range(0, 180, 3):
        events += feed(monitor, *minutes(start, start + 1.9, WALK if start % 30 else REST))
        events += feed(monitor, *minutes(start + 2, start + 2.9, WALK if start % 30 else REST, heart_rate=150))
        events += feed(monitor, *minutes(start + 2.95, start + 2.95, WALK))

    first = min(minute for rule, minute in heard(events) if rule == "high_heart_rate")
    assert first <= 60


def test_a_device_that_is_stuck_is_not_believed_after_the_time_of_the_plan() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 45, WALK))

    events = feed(monitor, *minutes(45.2, 48, WALK, heart_rate=135))

    assert heard(events) == [("red_sign", 46)]


def test_when_nothing_is_heard_any_more_what_was_held_comes_out() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 4, WALK, heart_rate=135))

    events = wait(monitor, 4 * MINUTE + FRESH_MS + SECOND)

    assert heard(events) == [("red_sign", 5)]
    assert alarms(events)[-1].text.endswith("; held during a walk since 08:00 UTC, last seen at 08:04 UTC")
    assert monitor.view(START + 6 * MINUTE).held == ()


def test_what_was_held_for_less_than_the_alarm_needs_is_pending_with_its_onset() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 4, WALK), *minutes(4.2, 4.6, WALK, heart_rate=135))

    wait(monitor, 8 * MINUTE)

    assert standing(monitor, "red_sign")  # the minute was over while nobody heard anything


def test_saturation_that_motion_has_spoilt_for_ten_minutes_ends_the_hold() -> None:
    monitor = an_adult()
    feed(monitor, a_reading(0, **WELL, activity=int(WALK)))

    events = feed(monitor, *minutes(0.2, 15, WALK, heart_rate=135, spo2=None))

    assert heard(events) == [("red_sign", 10)]


@pytest.mark.parametrize("group", [PatientGroup.UNSTATED, PatientGroup.CHILD, PatientGroup.PREGNANT])
def test_nothing_is_held_unless_the_patient_is_stated_to_be_an_adult(group: PatientGroup) -> None:
    plan = replace(YOUNG, holds_up_to=EXERCISE)

    told = feed(an_adult(plan, group), *minutes(0, 5, EXERCISE, heart_rate=155))
    unknown = feed(an_adult(plan, group), *minutes(0, 5, None, heart_rate=155))

    assert heard(told) == heard(unknown)


def test_without_an_order_nothing_is_held() -> None:
    assert heard(feed(an_adult(ActivityPlan()), *minutes(0, 3, WALK, heart_rate=135))) == [("red_sign", 1)]


@pytest.mark.parametrize("activity", [REST, LIGHT])
def test_rest_and_light_activity_hold_nothing(activity: Activity) -> None:
    assert heard(feed(an_adult(), *minutes(0, 3, activity, heart_rate=135))) == [("red_sign", 1)]


def test_an_activity_told_by_another_device_of_the_stay_counts_while_it_is_fresh() -> None:
    monitor, events = an_adult(), []
    for number, reading in enumerate(minutes(0, 6, None, heart_rate=135)):
        at_ms = reading.at_ms - START
        if at_ms <= 3 * MINUTE:
            band = a_reading(at_ms, counter=10_000 + number, activity=int(WALK))
            events += feed(monitor, replace(band, binding_id="c2" * 16, session_id=b"band" * 4))
        events += feed(monitor, reading)

    assert heard(events) == [("red_sign", 4)]  # a minute and a half after the band was last heard


def test_a_runner_trains_for_an_hour_and_is_left_alone() -> None:
    events = feed(an_adult(RUNNER), *minutes(0, 60, EXERCISE, heart_rate=165, respiratory_rate=36))
    events += feed(an_adult(RUNNER), *minutes(0, 10, EXERCISE, heart_rate=180, respiratory_rate=36))

    assert {rule for rule, _ in heard(events)} >= {"high_heart_rate", "red_sign", "news2"}
    assert all(minute <= 5 for _, minute in heard(events))  # only of the second, who is beyond 95 % of the highest rate


@pytest.mark.parametrize(("systolic_bp", "minute"), [(112, None), (110, 5)])
def test_a_shock_index_on_a_walk_is_held_only_with_a_normal_pressure(systolic_bp: int, minute: int | None) -> None:
    events = feed(an_adult(), *minutes(0, 8, WALK, heart_rate=125, systolic_bp=systolic_bp))

    assert heard(events) == ([] if minute is None else [("shock_index", minute)])


def test_an_alarm_that_no_walk_explains_says_that_the_patient_walks() -> None:
    events = feed(an_adult(), *minutes(0, 3, WALK, spo2=86))

    assert "walking since 08:00 UTC" in alarms(events, "low_spo2")[0].text


def test_the_end_of_the_stay_puts_what_is_held_into_the_record() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 4, WALK, heart_rate=135))

    period = BindingPeriod(stay_id=BINDING, from_ms=START, to_ms=START + 4 * MINUTE, heard_ms=START + 4 * MINUTE + 1)
    events = monitor.on_binding(period)

    assert [(one.rule_id, one.retrospective) for one in alarms(events)] == [("red_sign", True)]


def test_a_reading_that_comes_too_late_is_recorded_as_ever() -> None:
    late = [replace(one, received_ms=one.received_ms + HOUR) for one in minutes(0, 3, WALK, heart_rate=135)]

    events = feed(an_adult(), *late)

    assert [one.retrospective for one in alarms(events, "red_sign")] == [True]
    assert "held" not in alarms(events, "red_sign")[0].text


def test_a_restart_in_the_middle_of_a_walk_changes_nothing() -> None:
    course = [*minutes(0, 6, WALK, heart_rate=135), *minutes(6.2, 9, REST, heart_rate=135)]
    once = feed(an_adult(), *course)

    monitor, events = an_adult(), []
    for reading in course:
        monitor = restarted(monitor)
        events += feed(monitor, reading)

    assert events == once


def test_a_clock_that_is_set_moves_what_is_held() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 4, WALK, heart_rate=135))
    due_ms = monitor.timer_at()
    assert due_ms is not None

    monitor.shift(HOUR)

    assert monitor.timer_at() == due_ms + HOUR


def test_an_order_that_ends_the_holding_lets_out_what_is_held() -> None:
    monitor = an_adult()
    feed(monitor, *minutes(0, 4, WALK, heart_rate=135))

    monitor = restarted(monitor, a_plan(group=PatientGroup.ADULT))
    events = feed(monitor, *minutes(4.2, 4.2, WALK, heart_rate=135))

    assert heard(events) == [("red_sign", 4)]
    assert standing(monitor)[0].priority is Priority.HIGH


def test_one_noisy_value_does_not_end_the_hold() -> None:
    noisy = minutes(3, 3, WALK, heart_rate=135, respiratory_rate=38)
    events = feed(
        an_adult(),
        *minutes(0, 2.9, WALK, heart_rate=135),
        *noisy,
        *minutes(3.4, 6, WALK, heart_rate=135),
        *minutes(6.4, 10, REST),
    )

    assert heard(events) == []


def test_a_saturation_that_a_walk_can_explain_ends_no_hold_and_on_scale_two_any_does() -> None:
    walk = minutes(0, 4, WALK, heart_rate=135, spo2=94)
    by_prescription = a_monitor(activity=YOUNG, group=PatientGroup.ADULT, spo2_scale=2)

    assert heard(feed(an_adult(), *walk)) == []
    assert ("red_sign", 1) in heard(feed(by_prescription, *minutes(0, 4, WALK, heart_rate=135, spo2=87)))
