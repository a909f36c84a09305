"""Whatever a device tells of an activity: nothing but the table is held, for no longer than the plan says, or lost."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.vitals.stories import BINDING, MINUTE, SECOND, WELL, a_plan, a_reading, restarted
from vitals.activity import ActivityPlan
from vitals.activity_hold import HELD
from vitals.messages import Activity, AlarmChanged, AlarmState, Event, News2Scored, Priority, Reading
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from vitals.rules import DEFAULT_RULES

STEP: Final = 50 * SECOND
HOLD: Final = ActivityPlan(holds_up_to=Activity.EXERCISE, age_years=30)
PLAN: Final = a_plan(group=PatientGroup.ADULT, activity=HOLD)
WITHOUT: Final = a_plan(group=PatientGroup.ADULT)
MAY_BE_HELD: Final = {
    (rule.rule_id, key)
    for quantity, key in HELD
    for rule in DEFAULT_RULES
    if rule.quantity == quantity and rule.comparison == ">="
}

SIGNS = st.fixed_dictionaries(
    {
        "heart_rate": st.sampled_from([34, 72, 105, 125, 135, 152, 175, 210]),
        "respiratory_rate": st.sampled_from([7, 14, 22, 27, 33, 45]),
        "spo2": st.sampled_from([98, 98, 98, 98, 94, 86]),
        "systolic_bp": st.sampled_from([140, 140, 140, 105, 85]),
        "temperature": st.sampled_from([37.0, 37.0, 37.0, 38.4]),
        "activity": st.sampled_from([*Activity, Activity.WALK, Activity.EXERCISE]).map(int),
        "flags": st.sampled_from([0, 0, 0, 1, 4]),
    }
)
EXERTED = st.fixed_dictionaries(
    {
        "heart_rate": st.sampled_from([125, 135, 152, 165]),
        "respiratory_rate": st.sampled_from([14, 22, 27, 36]),
        "systolic_bp": st.sampled_from([140, 170]),
        "activity": st.sampled_from([Activity.WALK, Activity.EXERCISE, Activity.EXERCISE]).map(int),
        "flags": st.just(0),
    }
)
MISSING = st.sampled_from([0, 0, 0, 2, 6])
STRETCHES = st.lists(
    st.one_of(
        st.tuples(SIGNS, st.integers(min_value=1, max_value=20), MISSING),
        st.tuples(EXERTED, st.integers(min_value=5, max_value=35), MISSING),
    ),
    min_size=2,
    max_size=5,
)
"""Signs, for how many readings, and how many readings are missing before them."""

FAST: Final = {"heart_rate": 152, "respiratory_rate": 14, "systolic_bp": 140, "activity": 4, "flags": 0}
SLOW_IN_MOTION: Final = FAST | {"heart_rate": 34, "respiratory_rate": 7, "spo2": 98, "activity": 0, "flags": 4}


class Moment(NamedTuple):
    """What was so after one message."""

    at_ms: int
    active: frozenset[tuple[str, str]]
    held: tuple[str, ...]


class Run(NamedTuple):
    events: list[Event]
    moments: list[Moment]

    def began(self, *, held: bool | None = None) -> dict[tuple[str, str, int], Priority]:
        """Rule, key and time of each alarm that called somebody, whether its rule may be held or not."""
        return {
            (one.rule_id, one.key, one.at_ms): one.priority
            for one in self.alarms()
            if one.state is AlarmState.ACTIVE and not one.retrospective
            if held is None or ((one.rule_id, one.key) in MAY_BE_HELD) is held
        }

    def alarms(self) -> Iterable[AlarmChanged]:
        return (one for one in self.events if isinstance(one, AlarmChanged))


def course_of(stretches: list[tuple[dict[str, Any], int, int]], *, told: bool = True) -> list[Reading]:
    readings, number = [], 0
    for signs, count, missing in stretches:
        number += missing
        for _ in range(count):
            # A heart that beats to the same number for ever would be a frozen sensor.
            heart_rate = signs["heart_rate"] + number % 2
            known = {**WELL, **signs, "heart_rate": heart_rate}
            reading = a_reading(number * STEP, counter=number, **known)
            readings.append(reading if told else replace(reading, activity=0))
            number += 1
    return readings


def run(course: list[Reading], plan: MonitoringPlan = PLAN, restart_at: int | None = None) -> Run:
    """Every timer goes off when it is due; after the last reading nothing comes for half an hour."""
    monitor, events, moments = PatientMonitor(BINDING, plan), [], []

    def note(at_ms: int, found: list[Event]) -> None:
        events.extend(found)
        active = frozenset((one.rule_id, one.key) for one in monitor.open_alarms() if not one.latched)
        moments.append(Moment(at_ms, active, monitor.view(at_ms).held))

    def wait(until_ms: int) -> None:
        while (due_ms := monitor.timer_at()) is not None and due_ms < until_ms:
            note(due_ms, monitor.on_timer(due_ms))

    for number, reading in enumerate(course):
        if number == restart_at:
            monitor = restarted(monitor)
        wait(reading.at_ms)
        note(reading.at_ms, monitor.on_reading(reading))
    wait(course[-1].at_ms + 30 * MINUTE)
    return Run(events, moments)


@settings(max_examples=40, deadline=None)
@given(STRETCHES)
def test_without_a_word_of_activity_an_order_to_hold_changes_no_bit(stretches: Any) -> None:
    course = course_of(stretches, told=False)
    with_order, without = PatientMonitor(BINDING, PLAN), PatientMonitor(BINDING, WITHOUT)

    for reading in course:
        assert with_order.on_reading(reading) == without.on_reading(reading)
        assert with_order.snapshot() == without.snapshot()
        assert with_order.timer_at() == without.timer_at()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(STRETCHES)
def test_the_score_never_depends_on_the_activity(stretches: Any) -> None:
    with_order, without = run(course_of(stretches)), run(course_of(stretches, told=False))

    scores = [[one for one in each.events if isinstance(one, News2Scored)] for each in (with_order, without)]
    assert scores[0] == scores[1]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(STRETCHES)
def test_only_what_the_table_names_is_ever_held(stretches: Any) -> None:
    with_order, without = run(course_of(stretches)), run(course_of(stretches, told=False))

    assert without.began(held=False).items() <= with_order.began(held=False).items()
    for alarm in with_order.alarms():
        if "held during" in alarm.text:
            assert (alarm.rule_id, alarm.key) in MAY_BE_HELD


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(STRETCHES)
@example([(FAST, 5, 0), (SLOW_IN_MOTION, 1, 0)])
def test_what_goes_on_for_longer_than_the_plan_holds_is_an_alarm(stretches: Any) -> None:
    course = course_of(stretches)
    with_order, without = run(course), run(course_of(stretches, told=False))

    # An alarm that stands without the order for as long as anything may be held, and with values that are still beyond
    # the limit at every reading, stands with it. Between readings the values of the last one count: an alarm that waits
    # to be cleared when the data end goes on without the order, and what was only held with it does not.
    since: dict[tuple[str, str], int] = {}
    was_held_last: dict[int, Moment] = {one.at_ms: one for one in with_order.moments}
    scored = {one.at_ms: one for one in without.events if isinstance(one, News2Scored)}
    last: News2Scored | None = None
    for moment in without.moments:
        last = scored.get(moment.at_ms, last)
        standing = {place for place in moment.active if place in MAY_BE_HELD and _is_beyond(place, last)}
        since = {place: since.get(place, moment.at_ms) for place in standing}
        for place, since_ms in since.items():
            if moment.at_ms - since_ms > HOLD.most_held_ms and moment.at_ms in was_held_last:
                assert place in was_held_last[moment.at_ms].active


@settings(max_examples=40, deadline=None)
@given(STRETCHES)
def test_in_no_hour_is_anything_held_for_longer_than_the_plan_says(stretches: Any) -> None:
    moments = run(course_of(stretches)).moments

    for number, last in enumerate(moments):
        held_ms = sum(
            after.at_ms - max(before.at_ms, last.at_ms - HOLD.within_ms)
            for before, after in pairwise(moments[: number + 1])
            if before.held and after.at_ms > last.at_ms - HOLD.within_ms
        )
        assert held_ms <= HOLD.most_held_ms + STEP


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(STRETCHES)
def test_everything_that_would_have_been_an_alarm_is_one_or_is_in_the_record(stretches: Any) -> None:
    with_order, without = run(course_of(stretches)), run(course_of(stretches, told=False))

    told_of = {(one.rule_id, one.key) for one in with_order.alarms() if one.state is not AlarmState.PENDING}
    assert {(rule, key) for rule, key, _ in without.began(held=True)} <= told_of


@settings(max_examples=40, deadline=None)
@given(STRETCHES)
def test_what_was_over_while_it_was_held_is_no_alarm_afterwards(stretches: Any) -> None:
    found = run(course_of(stretches))

    scored: News2Scored | None = None
    for event in found.events:
        if isinstance(event, News2Scored):
            scored = event
        elif isinstance(event, AlarmChanged) and event.state is AlarmState.ACTIVE and not event.revision:
            place = (event.rule_id, event.key)
            if place in MAY_BE_HELD and "unusual" not in event.rule_id:
                assert _is_beyond(place, scored)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(STRETCHES, st.data())
def test_a_restart_at_any_reading_changes_no_event(stretches: Any, data: st.DataObject) -> None:
    course = course_of(stretches)

    restart_at = data.draw(st.integers(min_value=1, max_value=len(course) - 1))

    assert run(course, restart_at=restart_at).events == run(course).events


def _is_beyond(place: tuple[str, str], scored: News2Scored | None) -> bool:
    """Whether the values at one reading are beyond the limit of a rule; True between readings, and if it is missing."""
    if scored is None:
        return True
    points = {part.sign: 3 if part.points is None else part.points for part in scored.parts}
    values = {part.sign: 999.0 if part.value is None else part.value for part in scored.parts}
    match place[0]:
        case "news2":
            return scored.at_least >= 5
        case "red_sign":
            return points[place[1]] >= 3
        case "high_heart_rate":
            return values["heart_rate"] >= 150
        case "shock_index":
            pressure = values["systolic_bp"]
            return pressure > 0 and values["heart_rate"] / pressure >= 1
    return False  # unlike the patient: only the kernel knows
