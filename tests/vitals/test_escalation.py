"""Which person is notified and when: ladders, silences, acknowledgements, receipts, and clocks that jump."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals import escalation
from vitals.errors import BadPlan
from vitals.escalation import (
    Attempt,
    Due,
    Escalation,
    EscalationPolicy,
    EscalationStep,
    Ladder,
    Outcome,
    RuleLadders,
    due,
    follow,
    next_due_ms,
)
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
NOW = 1_700_000_000_000
FOR_EVER = NOW + 10 * 24 * HOUR
DEFAULT = EscalationPolicy()

# One channel each, so that a rung is one line.
PLAIN = EscalationPolicy(
    high=Ladder(
        steps=tuple(
            EscalationStep(delay_ms=minute * MINUTE, who=who, channels=("push",))
            for minute, who in [(0, "nurse"), (2, "second"), (5, "lead"), (10, "everyone")]
        ),
        repeat_ms=5 * MINUTE,
    )
)


def an_alarm(**changes: Any) -> AlarmChanged:
    return msgspec.structs.replace(
        AlarmChanged(
            stay_id="b1",
            alarm_id=bytes(15) + b"\x01",
            rule_id="news2",
            kind=AlarmKind.PHYSIOLOGICAL,
            priority=Priority.HIGH,
            state=AlarmState.ACTIVE,
            at_ms=NOW,
            onset_ms=NOW,
            revision=0,
            text="NEWS2 7",
            basis="NEWS2",
        ),
        **changes,
    )


def told(*history: tuple[int, dict[str, Any]]) -> Escalation:
    """An alarm's story: (when it was heard, what was different), revision by revision."""
    before: Escalation | None = None
    for revision, (heard_ms, changes) in enumerate(history):
        before = follow(before, an_alarm(revision=revision, at_ms=heard_ms, **changes), heard_ms=heard_ms)
    assert before is not None
    return before


def fresh(**changes: Any) -> Escalation:
    return told((NOW, changes))


def rungs(found: list[Due]) -> list[tuple[float, str]]:
    """(minutes since NOW, who)."""
    return [((one.due_ms - NOW) / MINUTE, one.who) for one in found]


def after(one: Due, ms: int, outcome: Outcome) -> Attempt:
    return Attempt(key=one.key, at_ms=one.due_ms + ms, outcome=outcome)


# The ladders


def test_a_red_alarm_climbs_and_then_keeps_calling() -> None:
    #   0      2       5     10        15        20 min
    #   nurse  second  lead  everyone  everyone  everyone ...
    found = due(PLAIN, fresh(), from_ms=NOW, until_ms=NOW + 20 * MINUTE)

    assert rungs(found) == [(0, "nurse"), (2, "second"), (5, "lead"), (10, "everyone"), (15, "everyone")]
    assert [(one.level, one.attempt) for one in found] == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1)]


@pytest.mark.parametrize(
    ("rule_id", "priority", "minutes"),
    [
        ("news2", Priority.HIGH, [0, 2, 5, 10, 15, 20]),
        ("no_data", Priority.HIGH, [0, 2, 5, 10, 15, 20]),
        ("news2", Priority.MEDIUM, [0, 15, 30, 60, 120]),  # RCP: at 5 or 6 the team is informed immediately
        ("no_data", Priority.MEDIUM, [15, 30, 60, 120]),
        ("shock_index", Priority.MEDIUM, [15, 30, 60, 120]),
        ("news2", Priority.LOW, []),
    ],
)
def test_the_default_ladders(rule_id: str, priority: Priority, minutes: list[int]) -> None:
    alarm, found, attempts = fresh(rule_id=rule_id, priority=priority), [], ()
    until_ms = NOW + (21 if priority is Priority.HIGH else 121) * MINUTE
    while more := due(DEFAULT, alarm, from_ms=NOW, until_ms=until_ms, attempts=attempts):
        found.append(more[0])
        attempts += (after(more[0], 1, Outcome.DELIVERED),)

    assert sorted({int(at) for at, _ in rungs(found)}) == minutes


def test_everyone_hears_by_every_channel_at_once() -> None:
    found = due(DEFAULT, fresh(), from_ms=NOW + 10 * MINUTE, until_ms=NOW + 10 * MINUTE + 1)

    assert {(one.who, one.channel) for one in found} == {("everyone", c) for c in ("push", "sms", "call")}


def test_an_id_says_alarm_ladder_level_and_attempt() -> None:
    (first, *_) = due(PLAIN, fresh(), from_ms=NOW, until_ms=NOW + 1)

    assert first == Due(
        key="00000000000000000000000000000001.0.0.0",
        alarm_id=bytes(15) + b"\x01",
        priority=Priority.HIGH,
        level=0,
        attempt=0,
        who="nurse",
        channel="push",
        due_ms=NOW,
    )


@pytest.mark.parametrize(
    ("from_s", "until_s", "who"),
    [(0, 0, []), (0, 1, ["nurse"]), (1, 120, []), (120, 121, ["second"]), (119, 301, ["second", "lead"])],
)
def test_the_interval_holds_its_start_and_not_its_end(from_s: int, until_s: int, who: list[str]) -> None:
    found = due(PLAIN, fresh(), from_ms=NOW + from_s * SECOND, until_ms=NOW + until_s * SECOND)

    assert [one.who for one in found] == who


def test_the_ladder_runs_by_the_desk_and_not_by_the_device() -> None:
    # A device whose clock is half a minute ahead must not delay a notification.
    alarm = follow(None, an_alarm(at_ms=NOW + 30 * SECOND), heard_ms=NOW)

    assert next_due_ms(PLAIN, alarm, NOW) == NOW


# When no person is notified


@pytest.mark.parametrize(
    "changes",
    [
        {"state": AlarmState.PENDING},
        {"state": AlarmState.CLEARED},
        {"state": AlarmState.CLEARED, "latched": True},
        {"retrospective": True},
        {"acknowledged_by": "anna", "acknowledged_ms": NOW},
        {"priority": Priority.LOW},
    ],
)
def test_these_alarms_notify_no_person(changes: dict[str, Any]) -> None:
    alarm = fresh(**changes)

    assert due(DEFAULT, alarm, from_ms=0, until_ms=FOR_EVER) == []
    assert next_due_ms(DEFAULT, alarm, 0) is None


def test_an_answer_ends_the_ladder() -> None:
    alarm = told((NOW, {}), (NOW + MINUTE, {"acknowledged_by": "anna", "acknowledged_ms": NOW + MINUTE}))

    assert due(PLAIN, alarm, from_ms=0, until_ms=FOR_EVER) == []


def test_who_was_called_for_the_lesser_is_called_again_for_the_worse() -> None:
    # NEWS2 5, answered after a minute; half an hour later NEWS2 7, whether or not the answer still stands beside it.
    answer = {"acknowledged_by": "anna", "acknowledged_ms": NOW + MINUTE}
    for still in ({}, answer):
        alarm = told(
            (NOW, {"priority": Priority.MEDIUM}),
            (NOW + MINUTE, {"priority": Priority.MEDIUM, **answer}),
            (NOW + 30 * MINUTE, {"priority": Priority.HIGH, **still}),
        )

        assert rungs(due(PLAIN, alarm, from_ms=0, until_ms=NOW + 33 * MINUTE)) == [(30, "nurse"), (32, "second")]


def test_a_new_answer_ends_it_again() -> None:
    alarm = told(
        (NOW, {"priority": Priority.MEDIUM, "acknowledged_by": "anna", "acknowledged_ms": NOW}),
        (NOW + MINUTE, {"acknowledged_by": "anna", "acknowledged_ms": NOW}),
        (NOW + 2 * MINUTE, {"acknowledged_by": "anna", "acknowledged_ms": NOW + 2 * MINUTE}),
    )

    assert next_due_ms(PLAIN, alarm, 0) is None


def test_worse_at_the_same_priority_calls_again_under_new_keys() -> None:
    # NEWS2 7 answered; at 9 the alarm book takes the answer back.
    first = told((NOW, {}))
    again = told((NOW, {}), (NOW + MINUTE, {"acknowledged_by": "a", "acknowledged_ms": NOW}), (NOW + HOUR, {}))

    before, now = (due(PLAIN, one, from_ms=0, until_ms=NOW + 2 * HOUR) for one in (first, again))

    assert now[0].due_ms == NOW + HOUR
    assert {one.key for one in before}.isdisjoint(one.key for one in now)


def test_a_rise_begins_the_red_ladder_at_once() -> None:
    alarm = told((NOW, {"priority": Priority.MEDIUM}), (NOW + 14 * MINUTE, {"priority": Priority.HIGH}))

    assert rungs(due(PLAIN, alarm, from_ms=0, until_ms=NOW + 15 * MINUTE)) == [(14, "nurse")]


def test_a_new_text_does_not_restart_the_ladder() -> None:
    # The sign comes and goes, and the text with it, every minute. The lead is still called after five.
    alarm = told(*((NOW + minute * MINUTE, {"text": f"text {minute}"}) for minute in range(5)))

    assert rungs(due(PLAIN, alarm, from_ms=0, until_ms=NOW + 6 * MINUTE)) == [(0, "nurse"), (2, "second"), (5, "lead")]


def test_what_was_red_stays_on_the_red_ladder() -> None:
    alarm = told((NOW, {}), (NOW + MINUTE, {"priority": Priority.MEDIUM}))

    assert rungs(due(PLAIN, alarm, from_ms=NOW + MINUTE, until_ms=NOW + 6 * MINUTE)) == [(2, "second"), (5, "lead")]


@pytest.mark.parametrize("revision", [0, 1])
def test_repeated_and_older_news_changes_nothing(revision: int) -> None:
    alarm = told((NOW, {}), (NOW + MINUTE, {"acknowledged_by": "anna", "acknowledged_ms": NOW + MINUTE}))

    assert follow(alarm, an_alarm(revision=revision), heard_ms=NOW + HOUR) is alarm


def test_another_alarm_is_not_a_continuation() -> None:
    with pytest.raises(ValueError, match="does not continue"):
        follow(fresh(), an_alarm(alarm_id=bytes(16), revision=1), heard_ms=NOW)


# Silence


def test_a_silence_holds_and_then_the_ladder_begins() -> None:
    #   0       1            20 min
    #   nurse   silenced     nurse again, even if the end of the silence is not announced
    quiet = told((NOW, {}), (NOW + MINUTE, {"silenced_until_ms": NOW + 20 * MINUTE}))

    assert rungs(due(PLAIN, quiet, from_ms=0, until_ms=NOW + 21 * MINUTE)) == [(20, "nurse")]

    # It is announced a moment later. That is the same ladder: no person is notified twice for it.
    said = follow(quiet, an_alarm(revision=2), heard_ms=NOW + 20 * MINUTE + 300)
    assert due(PLAIN, said, from_ms=0, until_ms=FOR_EVER) == due(PLAIN, quiet, from_ms=0, until_ms=FOR_EVER)


def test_a_silence_that_is_lifted_early_calls_at_once() -> None:
    alarm = told((NOW, {"silenced_until_ms": NOW + HOUR}), (NOW + 10 * MINUTE, {}))

    assert rungs(due(PLAIN, alarm, from_ms=0, until_ms=NOW + 11 * MINUTE)) == [(10, "nurse")]


def test_a_silence_that_is_extended_holds_longer() -> None:
    alarm = told((NOW, {"silenced_until_ms": NOW + HOUR}), (NOW + MINUTE, {"silenced_until_ms": NOW + 2 * HOUR}))

    assert next_due_ms(PLAIN, alarm, NOW) == NOW + 2 * HOUR


def test_a_silence_of_the_lesser_does_not_hold_for_the_worse() -> None:
    until = {"silenced_until_ms": NOW + HOUR}
    history = [(NOW, {"priority": Priority.MEDIUM, **until}), (NOW + 5 * MINUTE, until)]

    assert rungs(due(PLAIN, told(*history), from_ms=0, until_ms=NOW + 6 * MINUTE)) == [(5, "nurse")]

    # New words keep it so; a new silence, of the worse this time, holds.
    worded = told(*history, (NOW + 6 * MINUTE, {"text": "NEWS2 8", **until}))
    hushed = told(*history, (NOW + 6 * MINUTE, {"silenced_until_ms": NOW + 2 * HOUR}))
    assert next_due_ms(PLAIN, worded, NOW) == NOW + 5 * MINUTE
    assert next_due_ms(PLAIN, hushed, NOW) == NOW + 2 * HOUR


def test_a_silence_that_is_over_when_it_is_heard_of_is_none() -> None:
    assert next_due_ms(PLAIN, fresh(silenced_until_ms=NOW), 0) == NOW


# Receipts


def first_step(*attempts: Attempt) -> list[tuple[float, str]]:
    """(seconds since NOW, channel) of the nurse's step: push 30 s, sms 45 s, call."""
    found = due(DEFAULT, fresh(), from_ms=NOW, until_ms=NOW + 2 * MINUTE, attempts=attempts)
    return [((one.due_ms - NOW) / SECOND, one.channel) for one in found]


PUSH, SMS, CALL = due(DEFAULT, fresh(), from_ms=NOW, until_ms=NOW + 2 * MINUTE)


def test_without_any_receipt_every_channel_is_tried() -> None:
    assert first_step() == [(0, "push"), (30, "sms"), (75, "call")]


@pytest.mark.parametrize(
    ("attempts", "left"),
    [
        ([after(PUSH, 0, Outcome.SENT)], [(30, "sms"), (75, "call")]),
        ([after(PUSH, 0, Outcome.SENT), after(PUSH, 30_000, Outcome.DELIVERED)], []),
        ([after(PUSH, 0, Outcome.SENT), after(PUSH, 30_001, Outcome.DELIVERED)], [(30, "sms"), (75, "call")]),
        ([after(PUSH, 4_000, Outcome.FAILED)], [(4, "sms"), (49, "call")]),
        ([after(PUSH, 4_000, Outcome.FAILED), after(SMS, -20_000, Outcome.DELIVERED)], []),
        ([after(PUSH, 0, Outcome.FAILED), after(SMS, -30_000, Outcome.FAILED)], [(0, "call")]),
        ([after(PUSH, 0, Outcome.OVERTAKEN)], []),
        # A clock that stood an hour off in either direction delays no notification, and none comes too early.
        ([after(PUSH, HOUR, Outcome.FAILED)], [(30, "sms"), (75, "call")]),
        ([after(PUSH, HOUR, Outcome.SENT)], [(30, "sms"), (75, "call")]),
        ([after(PUSH, -HOUR, Outcome.FAILED)], [(0, "sms"), (45, "call")]),
    ],
)
def test_the_next_channel_when_the_last_did_not_deliver(attempts: list[Attempt], left: list[tuple[float, str]]) -> None:
    assert first_step(*attempts) == left


def test_a_delivered_message_is_no_answer() -> None:
    attempts = (after(PUSH, 1_000, Outcome.DELIVERED),)

    assert next_due_ms(DEFAULT, fresh(), NOW, attempts) == NOW + 2 * MINUTE


def test_a_channel_that_the_policy_does_not_name_has_a_minute() -> None:
    pager = EscalationPolicy(
        high=Ladder(steps=(EscalationStep(delay_ms=0, who="nurse", channels=("pager", "push")),), repeat_ms=HOUR)
    )

    assert next_due_ms(pager, fresh(), NOW + 1) == NOW + 60 * SECOND


def test_a_slow_channel_does_not_hide_that_the_second_person_is_next() -> None:
    #   0      2        3 min
    #   push   second   nurse's pager, for push had three minutes
    nurse = EscalationStep(delay_ms=0, who="nurse", channels=("push", "pager"))
    second = EscalationStep(delay_ms=2 * MINUTE, who="second", channels=("push",))
    policy = EscalationPolicy(high=Ladder(steps=(nurse, second), repeat_ms=HOUR), receipt_ms={"push": 3 * MINUTE})

    assert next_due_ms(policy, fresh(), NOW + 1) == NOW + 2 * MINUTE
    assert next_due_ms(policy, fresh(), NOW + 2 * MINUTE + 1) == NOW + 3 * MINUTE


def test_a_desk_that_was_away_sends_one_of_each() -> None:
    found = due(DEFAULT, fresh(), from_ms=NOW, until_ms=NOW + 3 * HOUR)
    old = escalation.overtaken(found)
    kept = [one for one in found if one not in old]

    assert len(found) > 100
    assert sorted((one.who, one.channel) for one in kept) == sorted(
        (who, channel) for who in ("nurse", "second", "lead", "everyone") for channel in ("push", "sms", "call")
    )
    assert max(one.due_ms for one in old) < max(one.due_ms for one in kept) == NOW + 175 * MINUTE

    attempts = tuple(after(one, 0, Outcome.OVERTAKEN) for one in old) + tuple(after(o, 0, Outcome.SENT) for o in kept)
    assert due(DEFAULT, fresh(), from_ms=NOW, until_ms=NOW + 3 * HOUR, attempts=attempts) == []


# For every policy, alarm, time


CHANNELS = ("push", "sms", "call", "pager")


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    delays = sorted(draw(st.lists(st.integers(1, 15), max_size=3)))
    steps = tuple(
        EscalationStep(
            delay_ms=minute * MINUTE,
            who=f"person {level}",
            every_channel=draw(st.booleans()),
            channels=tuple(draw(st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True))),
        )
        for level, minute in enumerate([0, *delays])
    )
    return Ladder(steps=steps, repeat_ms=draw(st.integers(1, 10)) * MINUTE)


policies = st.builds(
    EscalationPolicy, high=ladders(), receipt_ms=st.dictionaries(st.sampled_from(CHANNELS), st.integers(1, 5 * MINUTE))
)
offsets = st.integers(-5 * MINUTE, 90 * MINUTE)


@st.composite
def attempts_of(draw: st.DrawFn, policy: EscalationPolicy) -> tuple[Attempt, ...]:
    found = due(policy, fresh(), from_ms=NOW, until_ms=NOW + HOUR)
    picked = draw(st.lists(st.sampled_from(found), max_size=8))
    return tuple(after(one, draw(st.integers(-MINUTE, 6 * MINUTE)), draw(st.sampled_from(Outcome))) for one in picked)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=150)
@given(data=st.data(), policy=policies, cuts=st.lists(offsets, min_size=2, max_size=8))
def test_an_interval_split_anywhere_gives_the_same(
    data: st.DataObject, policy: EscalationPolicy, cuts: list[int]
) -> None:
    policy.check()
    attempts = data.draw(attempts_of(policy))
    edges = sorted(NOW + cut for cut in cuts)

    whole = due(policy, fresh(), from_ms=edges[0], until_ms=edges[-1], attempts=attempts)
    pieces = [
        one
        for start, end in pairwise(edges)
        for one in due(policy, fresh(), from_ms=start, until_ms=end, attempts=attempts)
    ]

    assert pieces == whole
    assert len({one.key for one in whole}) == len(whole)
    assert {one.key for one in whole}.isdisjoint(one.key for one in attempts)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(data=st.data(), policy=policies, offset=offsets)
def test_next_is_the_first_of_what_comes(data: st.DataObject, policy: EscalationPolicy, offset: int) -> None:
    attempts = data.draw(attempts_of(policy))
    now_ms = NOW + offset

    moment = next_due_ms(policy, fresh(), now_ms, attempts)

    assert moment is not None
    assert due(policy, fresh(), from_ms=now_ms, until_ms=moment, attempts=attempts) == []
    assert due(policy, fresh(), from_ms=moment, until_ms=moment + 1, attempts=attempts) != []


@settings(deadline=None, derandomize=True, max_examples=150)
@given(policy=policies, minutes=st.integers(0, 48 * 60))
def test_a_red_alarm_never_waits_longer_than_its_ladder(policy: EscalationPolicy, minutes: int) -> None:
    delays = [step.delay_ms for step in policy.high.steps]
    gaps = [later - earlier for earlier, later in pairwise(delays)]
    longest = max([*gaps, policy.high.repeat_ms or 0])
    since = NOW + minutes * MINUTE

    assert due(policy, fresh(), from_ms=NOW, until_ms=NOW + 1) != []
    assert due(policy, fresh(), from_ms=since, until_ms=since + longest) != []


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    policy=policies,
    jumps=st.lists(st.tuples(st.integers(-HOUR, HOUR), st.sampled_from(Outcome)), min_size=1, max_size=12),
)
def test_whatever_the_clock_does_no_key_is_sent_twice(
    policy: EscalationPolicy, jumps: list[tuple[int, Outcome]]
) -> None:
    now_ms, sent, attempts = NOW, [], ()
    for jump, outcome in jumps:
        found = due(policy, fresh(), from_ms=NOW, until_ms=now_ms + 1, attempts=attempts)
        sent += [one.key for one in found]
        attempts += tuple(Attempt(key=one.key, at_ms=now_ms, outcome=outcome) for one in found)
        now_ms += jump

    assert len(sent) == len(set(sent))
    assert sent


@settings(deadline=None, derandomize=True, max_examples=100)
@given(jumps=st.lists(st.integers(-30 * MINUTE, 30 * MINUTE), min_size=1, max_size=10))
def test_a_clock_that_jumps_does_not_restart_the_ladder(jumps: list[int]) -> None:
    alarm, now_ms = fresh(), NOW
    for revision, jump in enumerate(jumps, start=1):
        now_ms += jump
        alarm = follow(alarm, an_alarm(revision=revision, text=f"text {revision}"), heard_ms=now_ms)

    assert (alarm.begins_ms, alarm.ladder) == (NOW, 0)


def test_where_it_stands_survives_being_stored() -> None:
    alarm = told((NOW, {"priority": Priority.MEDIUM}), (NOW + MINUTE, {"silenced_until_ms": NOW + HOUR}))

    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(alarm), type=Escalation)

    assert stored == alarm


# Policies that people write


def test_the_default_policy_can_be_followed() -> None:
    DEFAULT.check()


def test_a_ward_writes_its_own_policy() -> None:
    policy = msgspec.json.decode(
        b'{"medium": {"steps": [{"delay_ms": 60000, "who": "ward", "channels": ["pager"]}]}}', type=EscalationPolicy
    )
    policy.check()

    for rule_id in ("news2", "no_data"):  # a ladder of its own is kept, for every rule
        alarm = fresh(rule_id=rule_id, priority=Priority.MEDIUM)
        assert rungs(due(policy, alarm, from_ms=0, until_ms=FOR_EVER)) == [(1, "ward")]
    assert policy.high == DEFAULT.high


def test_a_ward_writes_a_ladder_for_one_rule() -> None:
    policy = msgspec.json.decode(
        b'{"rules": {"battery": {"medium": {"steps": [{"delay_ms": 0, "who": "porter", "channels": ["push"]}]}}}}',
        type=EscalationPolicy,
    )
    policy.check()

    def first(rule_id: str) -> tuple[float, str]:
        alarm = fresh(rule_id=rule_id, priority=Priority.MEDIUM)
        return rungs(due(policy, alarm, from_ms=NOW, until_ms=FOR_EVER))[0]

    assert first("battery") == (0, "porter")
    assert first("no_data") == (15, "nurse")


def test_an_alarm_of_news2_that_rises_climbs_the_ladder_of_red_alarms() -> None:
    #   0: NEWS2 5, nurse      4 min: NEWS2 7, nurse      6: second
    alarm = told((NOW, {"priority": Priority.MEDIUM}), (NOW + 4 * MINUTE, {"priority": Priority.HIGH}))

    assert alarm.begins_ms == NOW + 4 * MINUTE
    found = due(PLAIN, alarm, from_ms=alarm.begins_ms, until_ms=NOW + 7 * MINUTE)
    assert rungs(found) == [(4, "nurse"), (6, "second")]


@given(
    points=st.sampled_from([5, 6]),
    heard_ms=st.integers(0, 12 * HOUR),
    later=st.lists(st.integers(0, 20 * MINUTE), max_size=6),
)
def test_a_news2_of_5_never_waits_for_its_first_call(points: int, heard_ms: int, later: list[int]) -> None:
    """The rule of medium priority that the RCP calls urgent; other words of the same alarm do not put the call off."""
    history = [(NOW + heard_ms, {"priority": Priority.MEDIUM, "text": f"NEWS2 {points}"})]
    for number, wait_ms in enumerate(later):
        history.append((history[-1][0] + wait_ms, {"priority": Priority.MEDIUM, "text": f"NEWS2 {points} ({number})"}))
    alarm = told(*history)

    found = due(EscalationPolicy(), alarm, from_ms=NOW, until_ms=FOR_EVER)

    assert (found[0].due_ms, found[0].who) == (NOW + heard_ms, "nurse")


NURSE = EscalationStep(delay_ms=0, who="nurse", channels=("push",))
LATER = EscalationStep(delay_ms=MINUTE, who="lead", channels=("push",))


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (EscalationPolicy(high=Ladder()), "high: begin with a step at delay_ms 0"),
        (EscalationPolicy(high=Ladder(steps=(NURSE,))), "red alarms must be escalated"),
        (EscalationPolicy(high=Ladder(steps=(LATER,), repeat_ms=MINUTE)), "at delay_ms 0"),
        (EscalationPolicy(high=Ladder(steps=(LATER, NURSE), repeat_ms=MINUTE)), "high.steps: order them"),
        (
            EscalationPolicy(medium=Ladder(steps=(LATER,), repeat_ms=0)),
            "medium.repeat_ms: 0 ms is not positive; remove the key",
        ),
        (
            EscalationPolicy(low=Ladder(steps=(EscalationStep(delay_ms=-1, who="nurse", channels=("push",)),))),
            "low.steps: order them",
        ),
        (
            EscalationPolicy(low=Ladder(steps=(EscalationStep(delay_ms=5, who="", channels=("push",)),))),
            "at 5 ms needs a role",
        ),
        (EscalationPolicy(low=Ladder(steps=(EscalationStep(delay_ms=5, who="nurse", channels=()),))), "and a channel"),
        (
            EscalationPolicy(rules={"news2": RuleLadders(medium=Ladder(steps=(LATER, NURSE)))}),
            "rules.news2.medium.steps: order them",
        ),
        (
            EscalationPolicy(rules={"news2": RuleLadders(high=Ladder(steps=(LATER,), repeat_ms=MINUTE))}),
            "rules.news2.high: begin with a step at delay_ms 0",
        ),
        (EscalationPolicy(receipt_ms={"push": 0}), "receipt_ms.push: 0 ms"),
    ],
)
def test_a_policy_that_cannot_be_followed_says_why(policy: EscalationPolicy, sentence: str) -> None:
    with pytest.raises(BadPlan, match=sentence):
        policy.check()


def test_a_typo_in_a_policy_names_its_key() -> None:
    with pytest.raises(msgspec.ValidationError, match="repeat_sm"):
        msgspec.json.decode(b'{"high": {"repeat_sm": 5}}', type=EscalationPolicy)
