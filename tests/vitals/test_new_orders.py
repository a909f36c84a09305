"""Orders change while alarms stand: nothing that stands is lost, what is tightened alarms, what is the same stays."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_reading,
    a_rule,
    a_tick,
    alarms,
    an_answer,
    steady,
)
from vitals import alarms as alarms_module
from vitals.messages import AlarmChanged, AlarmState, BindingPeriod, Event, Message, News2Scored, Priority, Reading
from vitals.orders import DEFAULT, OrderLevel, Orders, RuleChange, effective, plan_of
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from vitals.rules import AlarmLimit, Rule, Trend
from vitals.signs import VitalSign


class Ward:
    """One patient, and orders that change."""

    def __init__(self, orders: Orders | None = None) -> None:
        self.plan = plan_of(orders)
        self.patients = Patients(lambda _: self.plan)

    def orders(self, orders: Orders | None) -> None:
        self.plan = plan_of(orders)
        self.patients.reorder(BINDING)

    def hear(self, *messages: Message) -> list[Event]:
        return [event for message in messages for event in self.patients.apply(message)]

    def restart(self) -> None:
        self.patients = Patients(lambda _: self.plan, [(BINDING, self.snapshot())])

    def snapshot(self) -> bytes:
        monitor = self.patients.monitor(BINDING)
        assert monitor is not None
        return monitor.snapshot()

    def standing(self, rule_id: str) -> list[AlarmChanged]:
        return alarms(self.patients.open_alarms(), rule_id)


def ordered(version: int = 2, **said: Any) -> Orders:
    return effective([OrderLevel(level="patient", by="x", why="y", **said)], version=version, now_ms=START)


def changed(rule_id: str, version: int = 2, **said: Any) -> Orders:
    return ordered(version, rules={rule_id: RuleChange(**said)})


LOW = steady(0, MINUTE, every_ms=5 * SECOND, spo2=86)  # low_spo2, medium


def test_every_alarm_and_score_names_the_orders_that_it_was_judged_by() -> None:
    ward = Ward(ordered(version=7))

    events = ward.hear(*LOW)

    assert {event.orders_version for event in events if isinstance(event, AlarmChanged | News2Scored)} == {7}


def test_what_was_judged_by_earlier_orders_keeps_their_version_until_it_changes() -> None:
    ward = Ward()
    ward.hear(*LOW)
    ward.orders(ordered(version=2, cadence_ms={VitalSign.SYSTOLIC_BP: HOUR // 2}))
    ward.hear(a_tick(MINUTE + SECOND))

    (alarm,) = ward.standing("low_spo2")
    assert (alarm.orders_version, "orders changed" in alarm.text) == (0, False)

    (worse,) = alarms(ward.hear(a_reading(65 * SECOND, **WELL | {"spo2": 83})), "low_spo2")
    assert (worse.orders_version, worse.priority) == (2, Priority.HIGH)


def test_a_loosened_alarm_stays_says_so_and_ends_by_the_new_limit() -> None:
    ward = Ward()
    ward.hear(*LOW)
    ward.orders(changed("low_spo2", medium=84.0, high=80.0))

    (told,) = alarms(ward.hear(a_tick(61 * SECOND)), "low_spo2")
    assert told.state is AlarmState.ACTIVE
    assert told.text == (
        "low oxygen saturation: SpO2 86 %; limit <= 87; orders changed at 08:01 UTC: "
        "limits now <= 84 (medium), <= 80 (high) for 15 s"
    )

    ward.hear(*steady(65 * SECOND, 3 * MINUTE, every_ms=5 * SECOND, spo2=86))
    assert ward.standing("low_spo2")

    ward.hear(*steady(3 * MINUTE + 5 * SECOND, 4 * MINUTE, every_ms=5 * SECOND, spo2=86))  # two minutes inside 84 by 2
    assert not ward.standing("low_spo2")


def test_a_loosened_high_alarm_that_nobody_saw_is_latched() -> None:
    ward = Ward()
    ward.hear(*steady(0, MINUTE, every_ms=5 * SECOND, spo2=83))
    ward.orders(changed("low_spo2", medium=70.0, high=60.0))

    ward.hear(*steady(65 * SECOND, 5 * MINUTE, every_ms=5 * SECOND, spo2=83))

    (alarm,) = ward.standing("low_spo2")
    assert (alarm.state, alarm.latched, alarm.priority) == (AlarmState.CLEARED, True, Priority.HIGH)
    assert "orders changed" in alarm.text


def test_an_alarm_of_a_rule_that_is_off_stays_until_somebody_has_looked() -> None:
    ward = Ward()
    ward.hear(*LOW)
    ward.orders(changed("low_spo2", enabled=False))

    ward.hear(*steady(65 * SECOND, HOUR, spo2=98))
    (alarm,) = ward.standing("low_spo2")
    assert "this is no longer watched" in alarm.text

    ward.hear(an_answer(alarm, HOUR + SECOND))
    assert not ward.standing("low_spo2")


def test_an_alarm_that_was_answered_ends_with_its_rule() -> None:
    ward = Ward()
    ward.hear(*LOW)
    ward.hear(an_answer(ward.standing("low_spo2")[0], 61 * SECOND))
    ward.orders(changed("low_spo2", enabled=False))

    (told,) = alarms(ward.hear(a_tick(62 * SECOND)), "low_spo2")

    assert (told.state, told.orders_version) == (AlarmState.CLEARED, 2)
    assert told.text.startswith("rule no longer applies; alarm was: low oxygen saturation")


def test_a_sign_that_is_no_longer_expected_leaves_no_alarm_for_ever() -> None:
    ward = Ward()
    ward.hear(*steady(0, MINUTE))
    ward.hear(*[a_reading(minute * MINUTE, heart_rate=70, respiratory_rate=14) for minute in range(2, 50)])
    (alarm,) = ward.standing("no_data")
    assert alarm.key == "spo2"

    ward.orders(ordered(expected=(VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE)))
    ward.hear(a_tick(50 * MINUTE))
    (alarm,) = ward.standing("no_data")
    assert "this is no longer watched" in alarm.text

    ward.hear(an_answer(alarm, 51 * MINUTE))
    assert not ward.standing("no_data")


def test_what_was_pending_for_a_rule_that_is_off_does_not_alarm_at_once_when_it_is_on_again() -> None:
    ward = Ward()
    ward.hear(a_reading(0, **WELL | {"spo2": 86}))
    ward.orders(changed("low_spo2", enabled=False))
    ward.hear(*steady(5 * SECOND, MINUTE, every_ms=5 * SECOND))
    ward.orders(ordered(version=3))

    ward.hear(a_reading(65 * SECOND, **WELL | {"spo2": 86}))

    assert not ward.standing("low_spo2")


def test_what_is_tightened_alarms_at_the_next_reading() -> None:
    ward = Ward()
    ward.hear(*steady(0, MINUTE, every_ms=5 * SECOND, spo2=92))
    assert not ward.standing("low_spo2")
    ward.orders(changed("low_spo2", medium=93.0, for_ms=0))

    ward.hear(a_reading(65 * SECOND, **WELL | {"spo2": 92}))

    assert ward.standing("low_spo2")


def test_what_is_tightened_for_missing_data_is_told_without_a_reading() -> None:
    ward = Ward()
    ward.hear(*steady(0, MINUTE, every_ms=5 * SECOND))
    ward.hear(a_tick(20 * MINUTE))
    assert not ward.standing("no_data")  # NEWS2 of 0: 30 min

    ward.orders(ordered(stale_after_ms=5 * MINUTE, lost_after_ms=HOUR))
    assert ward.patients.timer_at() is not None
    ward.hear(a_tick(20 * MINUTE + SECOND))

    assert ward.standing("no_data")


def test_an_order_that_ends_is_over_on_time_without_a_message() -> None:
    #   SpO2  86 86 86 ...            default: <= 87; ordered until 1 h: <= 70
    orders = ordered(rules={"low_spo2": RuleChange(medium=70.0, high=60.0)}, valid_until_ms=START + HOUR)
    ward = Ward(orders)

    ward.hear(*steady(0, HOUR - 5 * SECOND, every_ms=5 * SECOND, spo2=86))
    assert not ward.standing("low_spo2")

    ward.hear(*steady(HOUR, HOUR + MINUTE, every_ms=5 * SECOND, spo2=86))
    (alarm,) = ward.standing("low_spo2")
    assert alarm.onset_ms == START + HOUR
    assert ward.plan is not None
    assert ward.patients.monitor(BINDING).plan == ward.plan.then  # type: ignore[union-attr]


def test_an_order_that_ends_while_nothing_is_heard_is_over_at_its_timer() -> None:
    late = {"stale_after_ms": 3 * HOUR, "lost_after_ms": 4 * HOUR}
    ward = Ward(ordered(**late, valid_until_ms=START + HOUR))
    ward.hear(*steady(0, MINUTE, every_ms=5 * SECOND))

    ward.hear(a_tick(HOUR - SECOND))
    assert not ward.standing("no_data")
    assert ward.patients.timer_at() == START + HOUR

    ward.hear(a_tick(HOUR))
    assert ward.standing("no_data")


TREND = Rule(
    rule_id="ordered_rising",
    label="heart rate rising",
    quantity="trend",
    limits=(AlarmLimit(20, Priority.LOW),),
    clear_margin=5,
    trend=Trend("heart_rate", HOUR),
)
ORDERS = [
    None,
    ordered(1),
    changed("low_spo2", 2, medium=90.0, for_ms=0),
    changed("low_spo2", 3, medium=70.0, high=60.0),
    changed("red_sign", 4, enabled=False),
    changed("news2", 5, medium=None, high=9.0),
    ordered(6, expected=(VitalSign.HEART_RATE,), stale_after_ms=MINUTE, lost_after_ms=2 * MINUTE),
    ordered(7, conditions=(TREND,), valid_until_ms=START + 30 * MINUTE),
    ordered(8, rules={"low_spo2": RuleChange(enabled=False)}, valid_from_ms=START + 20 * MINUTE),
    ordered(9, profile="postoperative"),
]
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "spo2": st.sampled_from([98, 92, 88, 86, 83, 75]),
        "heart_rate": st.sampled_from([70, 95, 115, 135, 160]),
        "respiratory_rate": st.sampled_from([14, 22, 26, 6]),
        "systolic_bp": st.sampled_from([120, 100, 85]),
        "temperature": st.sampled_from([37.0, 38.5]),
    },
)


@st.composite
def stories(draw: st.DrawFn) -> list[Any]:
    """Readings, silences, answers to what stands, and changes of orders."""
    story: list[Any] = []
    at_ms = 0
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["readings", "readings", "readings", "gap", "orders", "answer"]))
        if kind == "readings":
            values, every_ms = draw(VALUES), draw(st.sampled_from([5 * SECOND, 30 * SECOND]))
            for _ in range(draw(st.integers(1, 30))):
                at_ms += every_ms
                story.append(a_reading(at_ms, **values))
        elif kind == "gap":
            at_ms += draw(st.sampled_from([MINUTE, 5 * MINUTE, 40 * MINUTE]))
            story.append(a_tick(at_ms))
        elif kind == "orders":
            story.append(draw(st.sampled_from(ORDERS)) or DEFAULT)
        else:
            story.append("answer")
    return story


def play(ward: Ward, story: list[Any], *, restarts: bool = False) -> list[Event]:
    events: list[Event] = []
    at_ms = 0
    for step in story:
        if restarts and ward.patients.monitor(BINDING) is not None:
            ward.restart()
        if isinstance(step, Orders):
            ward.orders(step)
        elif step == "answer":
            for alarm in ward.patients.open_alarms()[:1]:
                events += ward.hear(an_answer(alarm, at_ms))
        else:
            at_ms = (step.at_ms if isinstance(step, Reading) else step.now_ms) - START
            events += ward.hear(step)
    return events


@settings(deadline=None, max_examples=100)
@given(stories())
def test_an_alarm_ends_only_by_its_rule_by_a_person_or_with_its_rule(story: list[Any]) -> None:
    """Whatever orders do, no alarm vanishes: the last that is told of each is that it is over, or it stands."""
    ward = Ward()

    events = play(ward, story)

    last = {event.alarm_id: event for event in alarms(events) if not event.retrospective}
    standing = {alarm.alarm_id for alarm in ward.patients.open_alarms()}
    for alarm_id, alarm in last.items():
        is_over = alarm.state is AlarmState.CLEARED and not alarm.latched
        assert is_over != (alarm_id in standing), alarm
        if is_over:
            assert alarm.text.startswith(("over since", "rule no longer applies")) or alarm.acknowledged_by


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(stories())
def test_a_change_of_orders_is_the_same_after_a_restart_at_any_moment(story: list[Any]) -> None:
    through, stopped = Ward(), Ward()

    assert play(stopped, story, restarts=True) == play(through, story)
    if through.patients.monitor(BINDING) is not None:
        assert stopped.snapshot() == through.snapshot()


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(stories())
def test_unchanged_orders_give_the_same_alarms(story: list[Any]) -> None:
    """Orders that say nothing are judged as the default plan is, but for the version that is named."""
    messages = [step for step in story if not isinstance(step, Orders)]
    default, ordered_default = Ward(), Ward(msgspec.structs.replace(DEFAULT, version=5))

    told = play(default, messages)

    assert [_without_version(event) for event in play(ordered_default, messages)] == told


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(stories())
def test_orders_that_come_again_and_again_tell_nothing(story: list[Any]) -> None:
    messages = [step for step in story if not isinstance(step, Orders)]
    once, often = Ward(ORDERS[2]), Ward(ORDERS[2])
    again = [one for step in messages for one in (step, ORDERS[2])]

    assert play(often, again) == play(once, messages)


def _without_version(event: Event) -> Event:
    if isinstance(event, AlarmChanged | News2Scored):
        return msgspec.structs.replace(event, orders_version=0)
    return event


def test_orders_for_a_stay_that_has_ended_change_nothing() -> None:
    ward = Ward()
    ward.hear(BindingPeriod(stay_id=BINDING, from_ms=START, heard_ms=START))
    ward.hear(*LOW)
    ward.hear(BindingPeriod(stay_id=BINDING, from_ms=START, to_ms=START + 2 * MINUTE, heard_ms=START + 2 * MINUTE))
    ward.orders(ordered(rules={"low_spo2": RuleChange(medium=95.0)}, valid_until_ms=START + HOUR))

    assert ward.hear(a_tick(3 * MINUTE)) == []
    assert ward.hear(a_tick(2 * HOUR)) == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_plan_without_what_is_to_come_is_the_same_at_any_moment(version: int) -> None:
    plan = plan_of(ordered(version))

    assert plan.at(START + 1_000 * HOUR) is plan
    assert isinstance(plan, MonitoringPlan)


def test_a_limit_that_is_written_as_a_whole_number_is_the_same_limit() -> None:
    # One process has the limit as it is written in the code, another as it came out of a document.
    def mark_in_a_process_of_its_own(threshold: float) -> int:
        alarms_module._mark_of.cache_clear()
        return alarms_module._mark_of(a_rule(VitalSign.SPO2, AlarmLimit(threshold, Priority.HIGH)))

    assert mark_in_a_process_of_its_own(3) == mark_in_a_process_of_its_own(3.0) != mark_in_a_process_of_its_own(4)
