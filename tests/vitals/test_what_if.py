"""Who would have been called, when, and what other orders lose: told by small histories of one patient."""

from typing import Any

from vitals.escalation import EscalationPolicy
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from vitals.what_if import AlarmLife, compare, first_call, lives_of

MINUTE = 60_000
HOUR = 60 * MINUTE
POLICY = EscalationPolicy()


def changed(
    at_ms: int, revision: int = 0, *, rule: str = "news2", priority: Priority = Priority.HIGH, **facts: Any
) -> AlarmChanged:
    return AlarmChanged(
        stay_id="b1" * 16,
        alarm_id=rule.encode() + str(facts.pop("number", 0)).encode(),
        rule_id=rule,
        kind=AlarmKind.PHYSIOLOGICAL,
        priority=priority,
        state=facts.pop("state", AlarmState.ACTIVE),
        at_ms=at_ms,
        onset_ms=facts.pop("onset_ms", at_ms),
        revision=revision,
        text="",
        basis="rule",
        **facts,
    )


def over(at_ms: int, revision: int = 1, **facts: Any) -> AlarmChanged:
    return changed(at_ms, revision, state=AlarmState.CLEARED, **facts)


def lives(*changes: AlarmChanged, from_ms: int = 0, until_ms: int = 100 * HOUR) -> tuple[AlarmLife, ...]:
    return lives_of(changes, POLICY, from_ms=from_ms, until_ms=until_ms)


def test_a_high_alarm_and_a_medium_news2_call_at_once_others_after_a_quarter_of_an_hour_low_ones_never() -> None:
    facts: list[tuple[str, Priority, int | None]] = [
        ("red_sign", Priority.HIGH, 0),
        ("news2", Priority.MEDIUM, 0),
        ("qsofa", Priority.MEDIUM, 15 * MINUTE),
        ("unusual_heart_rate", Priority.LOW, None),
    ]
    for rule, priority, called_ms in facts:
        (one,) = lives(changed(0, rule=rule, priority=priority))
        assert one.called_ms == called_ms, rule


def test_what_is_over_or_answered_before_anybody_is_called_calls_nobody() -> None:
    medium: dict[str, Any] = {"rule": "qsofa", "priority": Priority.MEDIUM, "onset_ms": 0}
    (cleared,) = lives(changed(0, **medium), over(10 * MINUTE, **medium))
    (answered,) = lives(changed(0, **medium), changed(10 * MINUTE, 1, acknowledged_by="anna", **medium))

    assert cleared.called_ms is None
    assert cleared.ended_ms == 10 * MINUTE
    assert answered.called_ms is None


def test_an_alarm_that_gets_worse_calls_again() -> None:
    (one,) = lives(changed(0, priority=Priority.MEDIUM), changed(HOUR, 1), changed(2 * HOUR, 2))

    assert one.calls == ((0, Priority.MEDIUM), (HOUR, Priority.HIGH))
    assert one.high_ms == HOUR


def test_only_alarms_of_the_period_count_and_none_of_old_data() -> None:
    assert lives(changed(5), from_ms=6) == ()
    assert lives(changed(5), until_ms=5) == ()
    assert lives(changed(5, retrospective=True)) == ()


def test_a_delayed_high_alarm_is_listed_with_its_delay() -> None:
    then, new = lives(changed(0), over(2 * HOUR)), lives(changed(30 * MINUTE, onset_ms=0), over(2 * HOUR))

    found = compare(then, new)

    assert not found.lost
    assert not found.gained
    (high,) = found.high
    assert high.later_ms == 30 * MINUTE
    assert high.silent_ms == 30 * MINUTE


def test_a_lost_high_alarm_says_whether_people_were_called_by_another() -> None:
    red: dict[str, Any] = {"rule": "red_sign", "onset_ms": HOUR}
    then = lives(changed(0), changed(HOUR, **red), over(2 * HOUR, **red), over(3 * HOUR))

    (covered,) = compare(then, lives(changed(0), over(3 * HOUR))).high
    (alone,) = compare(then[1:], ()).high

    assert (covered.rule_id, covered.later_ms, covered.silent_ms) == ("red_sign", None, 0)
    assert alone.silent_ms is None


def test_an_alarm_of_a_condition_that_did_not_call_then_is_gained() -> None:
    found = compare((), lives(changed(0)))

    assert [one.rule_id for one in found.gained] == ["news2"]
    assert found.high == ()


def test_a_deterioration_is_found_by_a_call_that_begins_in_the_day_before() -> None:
    early, within = lives(changed(0)), lives(changed(20 * HOUR))

    assert first_call(early, 30 * HOUR) is None  # it stands since the day before
    assert first_call(within, 30 * HOUR) == 20 * HOUR
    found = [
        compare(then, new, deteriorations=[30 * HOUR]).deteriorations[0].verdict
        for then, new in (
            (within, early),
            (early, within),
            (within, within),
            (early, early),
            (within, lives(changed(10 * HOUR))),
            (within, lives(changed(25 * HOUR))),
        )
    ]
    assert found == ["missed", "found", "same", "neither", "earlier", "later"]
