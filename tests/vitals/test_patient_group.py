"""No adult score for children and pregnant patients: what is off, what stays, what is said."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.stories import (
    HOUR,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_monitor,
    a_reading,
    a_score,
    alarms,
    an_answer,
    apply,
    feed,
    restarted,
    standing,
    steady,
    wait,
)
from vitals.messages import AlarmKind, News2Scored, Priority, SensorFlag
from vitals.patient_group import PatientGroup, group_of
from vitals.rules import ADULT_QUANTITIES, DEFAULT_RULES

CHILD, PREGNANT, ADULT, UNSTATED = (
    PatientGroup.CHILD,
    PatientGroup.PREGNANT,
    PatientGroup.ADULT,
    PatientGroup.UNSTATED,
)
WITHOUT_SCORES = (CHILD, PREGNANT)
ADULT_RULES = {rule.rule_id for rule in DEFAULT_RULES if rule.quantity in ADULT_QUANTITIES}


class Stated(NamedTuple):
    age_years: float | None = None
    is_male: bool | None = None
    is_pregnant: bool | None = None


@pytest.mark.parametrize(
    ("stated", "group"),
    [
        (Stated(), UNSTATED),
        (Stated(8.0), CHILD),
        (Stated(0.0, is_male=True), CHILD),
        (Stated(15.9, is_pregnant=True), CHILD),
        (Stated(16.0, is_pregnant=False), ADULT),
        (Stated(67.0, is_male=True), ADULT),
        (Stated(67.0, is_male=False), UNSTATED),
        (Stated(30.0, is_male=False, is_pregnant=True), PREGNANT),
        (Stated(is_pregnant=True), PREGNANT),
        (Stated(is_male=True), UNSTATED),
    ],
)
def test_the_group_follows_from_what_was_stated(stated: Stated, group: PatientGroup) -> None:
    assert group_of(stated) is group


readings = st.fixed_dictionaries(
    {},
    optional={
        "heart_rate": st.integers(25, 240),
        "respiratory_rate": st.integers(2, 60),
        "spo2": st.integers(60, 100),
        "systolic_bp": st.integers(45, 220),
        "temperature": st.floats(30, 43).map(lambda value: round(value, 1)),
        "supplemental_oxygen": st.sampled_from([0, 4]),
        "consciousness": st.integers(0, 4),
    },
)


@settings(max_examples=200, deadline=None)
@given(
    group=st.sampled_from(WITHOUT_SCORES),
    signs=st.lists(readings, min_size=1, max_size=6),
    probability=st.floats(0, 1),
)
def test_no_score_made_for_adults_is_worked_out_recorded_or_shown(
    group: PatientGroup, signs: list[dict[str, Any]], probability: float
) -> None:
    monitor = a_monitor(group=group)
    events = []
    for number, values in enumerate(signs):
        for second in range(0, 300, 20):
            events += feed(monitor, a_reading(number * 300 * SECOND + second * SECOND, **values))
        events += apply(monitor, a_score(number * 300 * SECOND, probability))
    events += wait(monitor, 2 * HOUR)

    assert not [one for one in events if isinstance(one, News2Scored)]
    assert not {one.rule_id for one in alarms(events)} & ADULT_RULES
    view = monitor.view(START + 2 * HOUR)
    assert (view.news2, view.news2_before, view.models, view.group) == (None, (), (), group)
    assert all("no adult score" in one.text and "NEWS2" not in one.text for one in alarms(events))


@settings(max_examples=200, deadline=None)
@given(group=st.sampled_from([UNSTATED, ADULT]), signs=readings)
def test_an_adult_is_judged_as_before_whether_stated_or_not(group: PatientGroup, signs: dict[str, Any]) -> None:
    told, plain = a_monitor(group=group), a_monitor()

    found = feed(told, *(a_reading(second * SECOND, **signs) for second in range(0, 300, 20)))
    before = feed(plain, *(a_reading(second * SECOND, **signs) for second in range(0, 300, 20)))

    assert found == before
    assert not [one for one in alarms(found) if one.rule_id.startswith("danger_")]


@pytest.mark.parametrize("group", WITHOUT_SCORES)
@pytest.mark.parametrize(
    ("signs", "rule_id"),
    [
        ({"spo2": 80}, "low_spo2"),
        ({"heart_rate": 30}, "low_heart_rate"),
        ({"heart_rate": 225}, "danger_heart_rate"),
        ({"respiratory_rate": 6}, "danger_respiratory_rate"),
        ({"systolic_bp": 55}, "danger_systolic_bp"),
        ({"temperature": 31.5}, "danger_low_temperature"),
        ({"temperature": 41.5}, "danger_high_temperature"),
        ({"consciousness": 3}, "danger_consciousness"),
        ({"consciousness": 4}, "danger_consciousness"),
    ],
)
def test_what_is_dangerous_at_any_age_alarms_at_once(group: PatientGroup, signs: dict[str, Any], rule_id: str) -> None:
    monitor = a_monitor(group=group)

    feed(monitor, *steady(0, 2 * MINUTE, every_ms=5 * SECOND, **signs))

    (alarm,) = standing(monitor, rule_id)
    assert alarm.priority is Priority.HIGH
    assert alarm.text.endswith(f"; {group.word}, no adult score")


def test_an_infant_with_a_usual_heart_rate_is_quiet() -> None:
    child, mother = a_monitor(group=CHILD), a_monitor(group=PREGNANT)
    for monitor in (child, mother):
        feed(monitor, *steady(0, 5 * MINUTE, heart_rate=155, respiratory_rate=40, systolic_bp=80))

    assert standing(child) == []
    assert [one.rule_id for one in standing(mother)] == ["high_heart_rate"]


@pytest.mark.parametrize("group", WITHOUT_SCORES)
def test_technical_alarms_and_missing_data_stay(group: PatientGroup) -> None:
    monitor = a_monitor(group=group)
    feed(monitor, *steady(0, 2 * MINUTE, flags=SensorFlag.SENSOR_OFF), *steady(3 * MINUTE, 4 * MINUTE))
    wait(monitor, 2 * HOUR)

    (silent,) = standing(monitor, "no_data")
    assert (silent.kind, silent.priority) == (AlarmKind.TECHNICAL, Priority.HIGH)
    assert "NEWS2" not in silent.text


def test_what_was_entered_long_ago_is_unknown_and_not_repeated_as_current() -> None:
    monitor = a_monitor(group=CHILD)
    feed(monitor, a_reading(0, **{**WELL, "consciousness": 3}))
    measured = {name: value for name, value in WELL.items() if name != "consciousness"}

    feed(monitor, *(a_reading(minute * MINUTE, **measured) for minute in range(1, 13 * 60)))

    (alarm,) = standing(monitor, "danger_consciousness")
    assert alarm.text.startswith(
        "was dangerously low consciousness: ACVPU P; limit >= P; under 16, no adult score; no data"
    )


def test_a_group_that_is_stated_later_ends_no_alarm_by_itself() -> None:
    #  scored as an adult ... alarm ... stated: under 16 ... a person looks ... gone
    monitor = a_monitor()
    feed(monitor, *steady(0, 2 * MINUTE, heart_rate=155, respiratory_rate=30))
    before = {one.rule_id for one in standing(monitor)}

    again = restarted(monitor, a_monitor(group=CHILD).plan)

    assert {one.rule_id for one in standing(again)} == before
    feed(again, *steady(3 * MINUTE, 30 * MINUTE, heart_rate=155, respiratory_rate=30))
    assert {one.rule_id for one in standing(again)} == before
    for alarm in standing(again):
        feed(again, an_answer(alarm, HOUR))
    assert standing(again) == []
