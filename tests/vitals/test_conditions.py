"""Conditions: values become observations, and a condition remembers which signs made it true."""

from tests.vitals.stories import BINDING, MINUTE, START, a_rule, alarms
from vitals.alarms import AlarmBook
from vitals.conditions import Conditions, JudgingContext
from vitals.messages import AlarmChanged, AlarmState, Event, Priority
from vitals.rules import AlarmLimit, Rule
from vitals.signs import VitalSign, mask_of

NEWS2 = a_rule("news2", AlarmLimit(5, Priority.MEDIUM), clear_for_ms=0, clear_count=1)
BATTERY = a_rule(
    "battery", AlarmLimit(15, Priority.LOW), comparison="<=", clear_margin=5, clear_for_ms=0, clear_count=1
)
BREATHING, PULSE = mask_of(VitalSign.RESPIRATORY_RATE), mask_of(VitalSign.HEART_RATE)


def some_conditions() -> Conditions:
    return Conditions(AlarmBook(BINDING, (NEWS2, BATTERY)))


def judge(
    conditions: Conditions, rule: Rule, value: float, minute: int, *, causes: int = 0, missing: int = 0
) -> list[AlarmChanged]:
    context = JudgingContext(START + minute * MINUTE, b"r" * 16, missing, [])
    conditions.observe(rule, value, context, lambda: f"{rule.label} {value:g}", causes=causes)
    return alarms(context.events)


def unknown(told: list[AlarmChanged]) -> bool:
    return "no data since" in told[-1].text


def test_a_value_beyond_the_limit_opens_an_alarm_and_a_normal_one_ends_it() -> None:
    conditions = some_conditions()

    (opened,) = judge(conditions, NEWS2, 6, 0)
    (ended,) = judge(conditions, NEWS2, 2, 1)

    assert (opened.state, opened.priority, opened.text) == (AlarmState.ACTIVE, Priority.MEDIUM, "news2 6; limit >= 5")
    assert ended.state is AlarmState.CLEARED


def test_a_normal_value_of_a_condition_that_is_not_open_changes_nothing() -> None:
    assert judge(some_conditions(), NEWS2, 0, 0) == []


def test_a_value_between_the_limit_and_its_margin_does_not_end_the_alarm() -> None:
    conditions = some_conditions()
    judge(conditions, BATTERY, 12, 0)

    assert judge(conditions, BATTERY, 18, 1) == []
    assert [alarm.state for alarm in judge(conditions, BATTERY, 20, 2)] == [AlarmState.CLEARED]


def test_a_score_that_falls_because_its_cause_is_missing_does_not_end_the_alarm() -> None:
    #   minute   0        1                       2
    #   NEWS2    6        2, no breathing rate    2, all signs measured
    conditions = some_conditions()
    judge(conditions, NEWS2, 6, 0, causes=BREATHING | PULSE)

    without_breathing = judge(conditions, NEWS2, 2, 1, missing=BREATHING)
    assert unknown(without_breathing)
    assert [alarm.state for alarm in judge(conditions, NEWS2, 2, 2)] == [AlarmState.CLEARED]


def test_a_cause_that_went_missing_stays_a_cause_while_other_signs_keep_the_alarm_open() -> None:
    conditions = some_conditions()
    judge(conditions, NEWS2, 8, 0, causes=BREATHING | PULSE)
    judge(conditions, NEWS2, 5, 1, causes=PULSE, missing=BREATHING)

    assert unknown(judge(conditions, NEWS2, 0, 2, missing=BREATHING))


def test_only_conditions_with_a_missing_cause_become_unknown() -> None:
    conditions = some_conditions()
    judge(conditions, NEWS2, 6, 0, causes=BREATHING)
    judge(conditions, BATTERY, 12, 0)

    told: list[Event] = []
    conditions.mark_missing((NEWS2, BATTERY), PULSE, START + MINUTE, told)
    assert told == []
    conditions.mark_missing((NEWS2, BATTERY), BREATHING, START + MINUTE, told)
    assert [alarm.rule_id for alarm in alarms(told)] == ["news2"]
    assert unknown(alarms(told))


def test_causes_survive_a_restart() -> None:
    before = some_conditions()
    judge(before, NEWS2, 6, 0, causes=BREATHING)

    after = Conditions(AlarmBook.from_state(BINDING, (NEWS2, BATTERY), before.book.to_state()))
    after.load_state(before.to_state())

    assert unknown(judge(after, NEWS2, 2, 1, missing=BREATHING))
