"""The desk's decisions: which alarm stands, whom it calls, what goes together, what an answer answers."""

from typing import Any

import msgspec
import pytest

from stream.desk import decisions
from stream.desk.decisions import (
    ActiveSilence,
    Delivery,
    DeliveryStatus,
    DeskAnswer,
    Limit,
    OutgoingMessage,
    acknowledge,
    calls,
    hear,
    outcome,
    outgoing_messages,
    plan,
)
from stream.errors import AlarmChangedMeanwhile, NoSuchAlarm
from tests.stream.desk.alarms import (
    AMBER,
    BINDING,
    CYAN,
    MINUTE,
    NOW,
    RED,
    SECOND,
    an_alarm,
    an_id,
    kept,
    told,
    told_by_edge,
)
from vitals.escalation import EscalationPolicy, Outcome
from vitals.messages import Acknowledge, AlarmState, Priority, Silence

LIMIT = Limit(messages=10, within_ms=10 * MINUTE)


def a_silence(**changes: Any) -> ActiveSilence:
    active_silence = ActiveSilence(BINDING, "news2", "anna", NOW, NOW + 10 * MINUTE, AMBER)
    return msgspec.structs.replace(active_silence, **changes)


def a_delivery(number: int = 1, **changes: Any) -> Delivery:
    return msgspec.structs.replace(
        Delivery(
            key=f"{number}.0.0.0",
            person="anna",
            channel="push",
            who="nurse",
            alarm_id=an_id(number),
            priority=RED,
            due_ms=NOW,
        ),
        **changes,
    )


# Hearing


def test_a_repeated_or_an_older_announcement_changes_nothing() -> None:
    now = kept(told(revision=3))

    for revision in (3, 2, 0):
        heard = hear(told(revision=revision, text="old"), now_ms=NOW + SECOND, before=now)

        assert heard is not None
        assert not heard.news
        assert heard.kept is now


def test_an_alarm_that_takes_the_place_of_another_of_its_condition_puts_it_aside() -> None:
    rival = kept(told(1))

    heard = hear(told(2), now_ms=NOW, before=None, rival=rival)

    assert heard is not None
    assert heard.displaced is not None
    assert not heard.displaced.is_active
    assert not heard.displaced.is_listed
    assert heard.kept.is_active


@pytest.mark.parametrize(
    ("changes", "active", "listed"),
    [
        ({}, True, True),
        ({"acknowledged_by": "a", "acknowledged_ms": NOW}, True, True),
        ({"state": AlarmState.CLEARED}, False, False),
        ({"state": AlarmState.CLEARED, "latched": True}, False, True),
        ({"state": AlarmState.CLEARED, "retrospective": True}, False, False),
    ],
)
def test_listed_alarms_are_active_or_latched_and_unanswered(
    changes: dict[str, Any], active: bool, listed: bool
) -> None:
    alarm = kept(told(**changes))

    assert (alarm.is_active, alarm.is_listed) == (active, listed)


# Edges


def test_an_edge_alarm_notifies_and_the_data_centre_continues_its_ladder() -> None:
    # The edge is a second ahead. Nobody is called twice: one id, one ladder, the same keys.
    at_edge = kept(told_by_edge(revision=4))
    heard = hear(told(revision=0), now_ms=NOW + SECOND, before=at_edge)
    assert heard is not None

    first, then = (
        plan(EscalationPolicy(), one, [], now_ms=NOW + 2 * SECOND, known=frozenset()).due
        for one in (at_edge, heard.kept)
    )

    assert at_edge.from_edge
    assert not heard.kept.from_edge
    assert [one.key for one in first] == [one.key for one in then]
    assert [one.who for one in first] == ["nurse"]


def test_edge_records_after_one_of_the_data_centre_are_ignored() -> None:
    now = kept(told())

    heard = hear(told_by_edge(revision=9, state="cleared"), now_ms=NOW, before=now)

    assert heard is not None
    assert heard.kept is now


@pytest.mark.parametrize(
    ("record", "rival"),
    [
        (told_by_edge(2, state="cleared"), kept(told(1))),
        (told_by_edge(state="cleared"), None),
        (told_by_edge(priority=7), None),
        (told_by_edge(kind="political"), None),
    ],
)
def test_useless_edge_records_are_ignored(record: Any, rival: Any) -> None:
    assert hear(record, now_ms=NOW, before=None, rival=rival) is None


def test_an_edge_s_backlog_does_not_ring() -> None:
    late = kept(told_by_edge(arrived_ms=NOW + 6 * MINUTE))

    assert not calls(late, None, NOW + 6 * MINUTE)


@pytest.mark.parametrize(
    ("first_late", "then_late", "called"), [(False, True, True), (True, False, True), (True, True, False)]
)
def test_late_edge_records_do_not_make_an_alarm_retrospective(first_late: bool, then_late: bool, called: bool) -> None:
    records = [
        told_by_edge(revision=revision, arrived_ms=NOW + 6 * MINUTE * late)
        for revision, late in enumerate((first_late, then_late))
    ]

    assert calls(kept(*records), None, NOW) is called


def test_an_answer_to_an_edge_alarm_holds_when_the_data_centre_reports_it() -> None:
    at_edge = kept(told_by_edge())
    answered = acknowledge(at_edge, by="anna", revision=at_edge.alarm.revision, now_ms=NOW)

    same = hear(told(revision=0), now_ms=NOW + SECOND, before=answered)
    milder = msgspec.structs.replace(answered, answer=DeskAnswer("anna", NOW, at_edge.alarm.revision, AMBER))
    worse = hear(told(revision=0), now_ms=NOW + SECOND, before=milder)

    assert same is not None
    assert same.order == DeskAnswer("anna", NOW, 0, RED)
    assert same.kept.answered_by == "anna"
    assert worse is not None
    assert worse.order is None
    assert not worse.kept.is_answered


def test_an_alarm_that_only_an_edge_knows_leaves_the_list_long_after_its_answer() -> None:
    alarm = kept(told_by_edge())
    answered = acknowledge(alarm, by="anna", revision=alarm.alarm.revision, now_ms=NOW)

    assert not decisions.is_over(alarm, NOW + 2 * decisions.EDGE_ALONE_MS)
    assert not decisions.is_over(answered, NOW + decisions.EDGE_ALONE_MS)
    assert decisions.is_over(answered, NOW + decisions.EDGE_ALONE_MS + 1)


# Answers and silences


def test_an_answer_holds_at_once_and_until_the_alarm_changes() -> None:
    answered = acknowledge(kept(told(revision=2)), by="anna", revision=2, now_ms=NOW)

    changed = hear(told(revision=3, text="NEWS2 9"), now_ms=NOW + SECOND, before=answered)

    assert not calls(answered, None, NOW)
    assert not answered.is_confirmed
    assert changed is not None
    assert calls(changed.kept, None, NOW + SECOND)


def test_an_answer_that_the_log_confirms_stays() -> None:
    answered = acknowledge(kept(told(revision=2)), by="anna", revision=2, now_ms=NOW)
    said = {"acknowledged_by": "anna", "acknowledged_ms": NOW}

    heard = hear(told(revision=3, **said), now_ms=NOW + SECOND, before=answered)

    assert heard is not None
    assert heard.kept.is_confirmed
    assert not calls(heard.kept, None, NOW + SECOND)


def test_an_answer_to_an_older_revision_is_refused() -> None:
    with pytest.raises(AlarmChangedMeanwhile) as refused:
        acknowledge(kept(told(revision=3)), by="anna", revision=2, now_ms=NOW)

    assert refused.value.revision == 3


@pytest.mark.parametrize("alarm", [None, kept(told(state=AlarmState.CLEARED)), kept(told(retrospective=True))])
def test_an_unknown_alarm_cannot_be_answered(alarm: Any) -> None:
    with pytest.raises(NoSuchAlarm):
        acknowledge(alarm, by="anna", revision=0, now_ms=NOW)


def test_the_first_answer_counts() -> None:
    answered = acknowledge(kept(told()), by="anna", revision=0, now_ms=NOW)

    assert acknowledge(answered, by="ben", revision=0, now_ms=NOW + SECOND) is answered


def test_a_latched_alarm_can_be_answered_after_its_end() -> None:
    was = kept(told(state=AlarmState.CLEARED, latched=True, revision=5))

    seen = acknowledge(was, by="anna", revision=5, now_ms=NOW)

    assert was.is_listed
    assert not seen.is_listed


@pytest.mark.parametrize(
    ("active_silence", "priority", "now_ms", "called"),
    [
        (None, AMBER, NOW, True),
        (a_silence(), AMBER, NOW, False),
        (a_silence(), RED, NOW, True),  # higher priority breaks through
        (a_silence(), AMBER, NOW + 10 * MINUTE, True),  # over
    ],
)
def test_a_silence_holds_for_its_time_and_its_priority(
    active_silence: ActiveSilence | None, priority: Priority, now_ms: int, called: bool
) -> None:
    assert calls(kept(told(priority=priority)), active_silence, now_ms) is called


def test_a_silence_does_not_cover_an_alarm_that_became_red_meanwhile() -> None:
    active_silence = a_silence()
    red = told(revision=1, priority=RED, silenced_until_ms=active_silence.until_ms)

    heard = hear(red, now_ms=NOW, before=kept(told(priority=AMBER)), silence=active_silence)

    assert heard is not None
    assert calls(heard.kept, active_silence, NOW)
    assert plan(EscalationPolicy(), heard.kept, [], now_ms=NOW, known=frozenset()).due


@pytest.mark.parametrize(
    ("record", "fulfilled"),
    [
        (told(), False),
        (told(revision=1, acknowledged_by="anna", acknowledged_ms=NOW), True),
        (told(revision=1), True),  # it got worse: the log will never say that this was answered
        (told(state=AlarmState.CLEARED), True),
        (told(state=AlarmState.CLEARED, latched=True), False),
    ],
)
def test_an_answer_is_ordered_until_the_log_says_so_or_cannot(record: Any, fulfilled: bool) -> None:
    order = Acknowledge(stay_id=BINDING, alarm_id=an_id(), by="anna", at_ms=NOW, revision=0)

    assert decisions.is_fulfilled(order, kept(record), NOW) is fulfilled


def test_a_silence_is_ordered_until_the_log_says_so_or_it_is_over() -> None:
    milder = Silence(stay_id=BINDING, rule_id="news2", by="anna", at_ms=NOW, until_ms=NOW + MINUTE, priority=AMBER)
    assert decisions.is_fulfilled(milder, kept(told(priority=Priority.HIGH)), NOW)  # the monitor refuses it
    order = Silence(stay_id=BINDING, rule_id="news2", by="anna", at_ms=NOW, until_ms=NOW + MINUTE)

    assert not decisions.is_fulfilled(order, kept(told()), NOW)
    assert decisions.is_fulfilled(order, kept(told(silenced_until_ms=NOW + MINUTE)), NOW)
    assert decisions.is_fulfilled(order, kept(told()), NOW + MINUTE)


# Planning


def test_after_a_day_away_people_are_called_once_and_not_for_every_round() -> None:
    found = plan(EscalationPolicy(), kept(told()), [], now_ms=NOW + 24 * 60 * MINUTE, known=frozenset())

    assert len(found.due) == len({(one.who, one.channel) for one in found.due})
    assert len(found.passed) > 500
    assert plan(EscalationPolicy(), kept(told()), [], now_ms=NOW + 90 * 24 * 60 * MINUTE, known=frozenset()).due


def test_stored_notifications_are_not_planned_again() -> None:
    alarm = kept(told())
    (first,) = plan(EscalationPolicy(), alarm, [], now_ms=NOW, known=frozenset()).due

    again = plan(EscalationPolicy(), alarm, [], now_ms=NOW + SECOND, known=frozenset({first.key}))

    assert again.due == []
    assert again.look_ms == NOW + 30 * SECOND  # push has no receipt by then: sms


# Letters


def test_red_messages_are_first_single_and_outside_the_limit() -> None:
    waiting = [a_delivery(one, priority=AMBER, due_ms=NOW - MINUTE) for one in range(3)]
    waiting += [a_delivery(one) for one in range(10, 40)]

    found = outgoing_messages(waiting, {"anna": [NOW] * 9}, now_ms=NOW, limit=LIMIT)

    assert [one.priority for one in found[:30]] == [RED] * 30
    assert all(len(one.deliveries) == 1 for one in found[:30])
    assert [(one.priority, len(one.deliveries)) for one in found[30:]] == [(AMBER, 3)]  # one message was left


def test_below_red_ten_messages_are_single_and_further_ones_a_digest() -> None:
    ten = [a_delivery(one, priority=AMBER) for one in range(10)]

    assert len(outgoing_messages(ten, {}, now_ms=NOW, limit=LIMIT)) == 10
    sent = {"anna": [NOW] * 10}
    more = [a_delivery(one, priority=CYAN, due_ms=NOW + one) for one in range(20, 25)]
    assert outgoing_messages(more, sent, now_ms=NOW + 9 * MINUTE, limit=LIMIT) == []
    assert outgoing_messages(more, sent, now_ms=NOW + 10 * MINUTE, limit=Limit(1, 10 * MINUTE)) == [
        OutgoingMessage("anna", "push", "", CYAN, tuple(more))
    ]


def test_the_message_limit_is_per_person() -> None:
    waiting = [a_delivery(1, priority=AMBER), a_delivery(2, priority=AMBER, person="ben")]

    (found,) = outgoing_messages(waiting, {"anna": [NOW] * 10}, now_ms=NOW, limit=LIMIT)

    assert found.person == "ben"


def test_a_failed_notification_waits_for_its_pause() -> None:
    failed = a_delivery(fate=DeliveryStatus.FAILED, tries=3, again_ms=decisions.again_ms(3, NOW))

    assert failed.again_ms == NOW + 8 * SECOND
    assert outgoing_messages([failed], {}, now_ms=NOW + 7_999, limit=LIMIT) == []
    assert len(outgoing_messages([failed], {}, now_ms=NOW + 8_000, limit=LIMIT)) == 1


@pytest.mark.parametrize(("tries", "pause_s"), [(1, 2), (2, 4), (5, 32), (6, 60), (500, 60)])
def test_pauses_double_up_to_a_minute(tries: int, pause_s: int) -> None:
    assert decisions.again_ms(tries, NOW) - NOW == pause_s * SECOND


@pytest.mark.parametrize(
    ("fates", "trusted", "became"),
    [
        (["waiting"], False, None),
        (["failed"], False, Outcome.FAILED),
        (["sent"], False, Outcome.SENT),  # taken by a service, shown to nobody as far as we know
        (["sent"], True, Outcome.DELIVERED),
        (["failed", "waiting"], True, None),
        (["failed", "sent"], True, Outcome.SENT),  # one person was not reached: the next channel is tried
        (["stopped", "sent"], True, Outcome.DELIVERED),
        (["failed", "failed"], True, Outcome.FAILED),
        (["stopped"], True, None),
    ],
)
def test_the_outcome_of_a_notification_to_a_role(fates: list[str], trusted: bool, became: Outcome | None) -> None:
    deliveries = [a_delivery(person=f"p{index}", fate=DeliveryStatus(fate)) for index, fate in enumerate(fates)]

    assert outcome(deliveries, accepted_is_delivered=trusted) is became


def test_no_data_is_an_alarm_like_any_other() -> None:
    silent = kept(told(rule_id="no_data", priority=RED))

    assert [one.who for one in plan(EscalationPolicy(), silent, [], now_ms=NOW, known=frozenset()).due] == ["nurse"]
    assert an_alarm().rule_id == "news2"


@pytest.mark.parametrize(("is_clock_known", "called"), [(True, False), (False, True)])
def test_an_alarm_of_an_edge_is_late_only_by_a_clock_that_is_known(is_clock_known: bool, called: bool) -> None:
    record = msgspec.structs.replace(told_by_edge(arrived_ms=NOW + 10 * MINUTE), is_clock_known=is_clock_known)

    assert calls(kept(record), None, NOW) is called
