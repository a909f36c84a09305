"""What the alarms ask of people, in numbers that can be checked by head."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.alarm_load import DAY_MS, LoadMeasures, alarm_load
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

SECOND, MINUTE = 1_000, 60_000
NOW = 1_700_000_000_000
CLEARED = {"state": AlarmState.CLEARED}


def answered(after_ms: int) -> dict[str, Any]:
    return {"acknowledged_by": "anna", "acknowledged_ms": NOW + after_ms}


def story(name: str, *changes: dict[str, Any], **always: Any) -> list[AlarmChanged]:
    """One alarm, active at NOW; then a change every minute."""
    alarm = AlarmChanged(
        stay_id="b1",
        alarm_id=name.encode(),
        rule_id="news2",
        kind=AlarmKind.PHYSIOLOGICAL,
        priority=Priority.MEDIUM,
        state=AlarmState.ACTIVE,
        at_ms=NOW,
        onset_ms=NOW,
        revision=0,
        text="",
        basis="NEWS2",
    )
    told = []
    for revision, change in enumerate(({}, *changes)):
        fields = {"revision": revision, "at_ms": NOW + revision * MINUTE} | always | change
        told.append(msgspec.structs.replace(alarm, **fields))
    return told


def total(*stories: list[AlarmChanged], days: float = 1) -> LoadMeasures:
    changes = [change for one in stories for change in one]
    return alarm_load(changes, patient_ms=round(days * DAY_MS)).total


def row(kind: AlarmKind, priority: Priority, *stories: list[AlarmChanged]) -> LoadMeasures:
    changes = [change for one in stories for change in one]
    (found,) = [
        one for one in alarm_load(changes, patient_ms=DAY_MS).rows if (one.kind, one.priority) == (kind, priority)
    ]
    return found


def test_four_alarms_in_two_patient_days() -> None:
    load = total(
        story("a", answered(MINUTE)),
        story("b", answered(3 * MINUTE), answered(3 * MINUTE) | CLEARED),
        story("c", CLEARED),
        story("d"),
        days=2,
    )

    assert load == LoadMeasures(
        kind=None,
        priority=None,
        alarms=4,
        per_patient_day=2.0,
        acknowledged=0.5,
        cleared_alone=0.25,
        median_ms=2 * MINUTE,
        p95_ms=3 * MINUTE,
        unanswered_at_end=0.0,
    )


def test_each_class_and_priority_has_a_row_of_its_own() -> None:
    battery = story("a", kind=AlarmKind.TECHNICAL, priority=Priority.LOW)
    red = story("b", answered(9 * SECOND), priority=Priority.HIGH)

    technical = row(AlarmKind.TECHNICAL, Priority.LOW, battery, red)
    physiological = row(AlarmKind.PHYSIOLOGICAL, Priority.HIGH, battery, red)

    assert (technical.alarms, technical.acknowledged, technical.median_ms) == (1, 0.0, None)
    assert (physiological.alarms, physiological.acknowledged, physiological.median_ms) == (1, 1.0, 9 * SECOND)


def test_the_worst_rows_come_first_and_none_is_left_out() -> None:
    rows = alarm_load([], patient_ms=DAY_MS).rows

    assert [(one.kind, one.priority) for one in rows] == [
        (kind, priority) for kind in AlarmKind for priority in (Priority.HIGH, Priority.MEDIUM, Priority.LOW)
    ]


def test_an_alarm_counts_once_at_the_worst_it_reached() -> None:
    rising = story("a", {"priority": Priority.HIGH}, {"priority": Priority.HIGH} | CLEARED)

    assert row(AlarmKind.PHYSIOLOGICAL, Priority.HIGH, rising).alarms == 1
    assert row(AlarmKind.PHYSIOLOGICAL, Priority.MEDIUM, rising).alarms == 0


# A missing measure is None, not 0


def test_a_quiet_day_has_a_rate_and_no_shares() -> None:
    load = total()

    assert (load.alarms, load.per_patient_day) == (0, 0.0)
    assert (load.acknowledged, load.cleared_alone, load.median_ms, load.p95_ms) == (None, None, None, None)


def test_without_patients_there_is_no_rate() -> None:
    assert total(story("a"), days=0).per_patient_day is None


def test_without_an_acknowledgement_the_time_is_none_and_not_zero() -> None:
    load = total(story("a"), story("b", CLEARED))

    assert (load.acknowledged, load.cleared_alone) == (0.0, 0.5)
    assert (load.median_ms, load.p95_ms) == (None, None)


def test_an_answer_without_a_time_counts_as_an_answer_only() -> None:
    load = total(story("a", {"acknowledged_by": "anna"}))

    assert (load.acknowledged, load.median_ms) == (1.0, None)


# What counts


@pytest.mark.parametrize(
    "changes",
    [
        {"retrospective": True, "state": AlarmState.CLEARED},
        {"retrospective": True},
        {"state": AlarmState.PENDING},
        {"revision": 4},  # it began in an earlier period
    ],
)
def test_an_alarm_that_was_not_announced_in_the_period_does_not_count(changes: dict[str, Any]) -> None:
    assert total(story("a", **changes)).alarms == 0


def test_the_time_runs_from_when_it_became_active() -> None:
    pending_first = story("a", {}, answered(90 * SECOND))
    pending_first[0] = msgspec.structs.replace(pending_first[0], state=AlarmState.PENDING)

    assert total(pending_first).median_ms == 30 * SECOND


def test_an_alarm_that_was_looked_at_only_when_it_was_over_cleared_alone() -> None:
    #   active    over, latched   seen
    #   0         1               10 min
    latched = CLEARED | {"latched": True}
    load = total(story("a", latched, CLEARED | answered(10 * MINUTE)))

    assert (load.acknowledged, load.cleared_alone, load.median_ms) == (1.0, 1.0, 10 * MINUTE)


def test_an_alarm_that_ended_with_its_binding_did_not_clear_alone() -> None:
    ended = CLEARED | {"stay_ended": True}
    load = total(story("a", ended), story("b", answered(MINUTE), answered(MINUTE) | ended), story("c", CLEARED))

    assert (load.cleared_alone, load.unanswered_at_end) == (1 / 3, 1 / 3)


def test_an_alarm_that_got_worse_calls_again_and_is_timed_again() -> None:
    #   5     seen     7: again          seen
    #   0     1        2 min             42 min
    worse = story(
        "a", answered(MINUTE), {"priority": Priority.HIGH}, {"priority": Priority.HIGH} | answered(42 * MINUTE)
    )

    load = total(worse)

    assert (load.alarms, load.acknowledged) == (1, 1.0)
    assert (load.median_ms, load.p95_ms) == (20.5 * MINUTE, 40 * MINUTE)


def test_seen_once_and_left_alone_when_it_got_worse_is_not_answered() -> None:
    load = total(story("a", answered(MINUTE), {"priority": Priority.HIGH}, {"priority": Priority.HIGH} | CLEARED))

    assert (load.acknowledged, load.cleared_alone, load.median_ms) == (0.0, 1.0, MINUTE)


def test_an_answer_before_the_call_came_at_once() -> None:
    # Event time of a device and the desk's clock need not agree.
    assert total(story("a", answered(-5 * SECOND))).median_ms == 0


@pytest.mark.parametrize(
    ("n", "median_s", "p95_s"), [(1, 1, 1), (2, 1.5, 2), (19, 10, 19), (20, 10.5, 19), (21, 11, 20), (100, 50.5, 95)]
)
def test_median_and_95th_percentile(n: int, median_s: float, p95_s: int) -> None:
    load = total(*(story(f"alarm {second}", answered(second * SECOND)) for second in range(1, n + 1)))

    assert (load.median_ms, load.p95_ms) == (median_s * SECOND, p95_s * SECOND)


CHANGES = st.sampled_from([{}, CLEARED, answered(MINUTE), CLEARED | answered(MINUTE), {"priority": Priority.HIGH}])


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    lives=st.lists(st.tuples(st.lists(CHANGES, max_size=4), st.sampled_from(AlarmKind)), max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_order_and_repetition_change_nothing_and_rows_add_up(
    lives: list[tuple[list[dict[str, Any]], AlarmKind]], random: Any
) -> None:
    changes = [
        change for number, (life, kind) in enumerate(lives) for change in story(f"alarm {number}", *life, kind=kind)
    ]
    expected = alarm_load(changes, patient_ms=DAY_MS)

    shuffled = changes + changes[::2]
    random.shuffle(shuffled)

    assert alarm_load(shuffled, patient_ms=DAY_MS) == expected
    assert sum(one.alarms for one in expected.rows) == expected.total.alarms == len(lives)
    for one in (expected.total, *expected.rows):
        assert one.alarms > 0 or one.acknowledged is None
        assert one.acknowledged is None or 0 <= one.acknowledged <= 1


def test_every_rule_that_raised_an_alarm_has_a_row_the_busiest_first() -> None:
    changes = [
        *story("one", rule_id="spo2"),
        *story("two"),
        *story("three", answered(MINUTE)),
    ]

    rules = alarm_load(changes, patient_ms=DAY_MS).rules

    assert [(one.rule_id, one.alarms, one.acknowledged) for one in rules] == [("news2", 2, 0.5), ("spo2", 1, 0.0)]
    assert alarm_load([], patient_ms=DAY_MS).rules == ()
