"""The life of an alarm: what begins it, what it survives, what ends it, and what never does."""

from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.stories import BINDING, MINUTE, SECOND, START, a_rule
from vitals.alarms import KEPT_LATCHED, AlarmBook, JudgedCondition, alarm_id, clock_text
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from vitals.rules import AlarmLimit, Rule, Truth

LOW, MEDIUM, HIGH = Priority
TRUE, FALSE, UNKNOWN = Truth.TRUE, Truth.FALSE, Truth.UNKNOWN
ACTIVE, CLEARED = AlarmState.ACTIVE, AlarmState.CLEARED

NEWS2 = a_rule("news2", AlarmLimit(5, MEDIUM), AlarmLimit(7, HIGH), label="NEWS2", basis="NEWS2")
RED_SIGN = a_rule("red_sign", AlarmLimit(3, HIGH), for_ms=MINUTE)
SPO2 = a_rule("spo2", AlarmLimit(87, MEDIUM), comparison="<=", for_ms=15 * SECOND)
BATTERY = a_rule(
    "battery",
    AlarmLimit(15, LOW),
    comparison="<=",
    kind=AlarmKind.TECHNICAL,
    latching=False,
    clear_for_ms=0,
    clear_count=1,
)
RULES = (NEWS2, RED_SIGN, SPO2, BATTERY)


def a_book(*rules: Rule) -> AlarmBook:
    return AlarmBook(BINDING, rules or RULES)


def restarted(book: AlarmBook, *rules: Rule) -> AlarmBook:
    """The book of the process that took over, from the bytes that the first one left."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(book.to_state()))
    return AlarmBook.from_state(BINDING, rules or RULES, state)


def see(
    book: AlarmBook, rule: Rule, truth: Truth, after_ms: int, *, key: str = "", text: str = "it", **seen: Any
) -> list[AlarmChanged]:
    if truth is TRUE:
        seen = {"priority": MEDIUM, "reading_id": after_ms.to_bytes(16, "big")} | seen
    observation = JudgedCondition(truth=truth, at_ms=START + after_ms, **seen)
    return book.observe(rule, observation, key=key, explain=lambda: text)


def raised(book: AlarmBook, rule: Rule = NEWS2, after_ms: int = 0, **seen: Any) -> AlarmChanged:
    """A condition that is active from then on."""
    (alarm,) = see(book, rule, TRUE, after_ms, **seen)
    assert alarm.state is ACTIVE
    return alarm


def silence(book: AlarmBook, after_ms: int, until_ms: int, rule_id: str = "news2") -> list[AlarmChanged]:
    return book.silence(rule_id, by="anna", at_ms=START + after_ms, until_ms=START + until_ms)


# An alarm is an object with a permanent id, and a condition has one


def test_the_same_beginning_has_the_same_id_on_replay_and_after_a_restart() -> None:
    first, replayed, stopped = a_book(), a_book(), a_book()
    see(stopped, SPO2, TRUE, 0)

    (once,) = see(first, SPO2, TRUE, 0) + see(first, SPO2, TRUE, 15_000)
    (again,) = see(replayed, SPO2, TRUE, 0) + see(replayed, SPO2, TRUE, 15_000)
    (later,) = see(restarted(stopped), SPO2, TRUE, 15_000)

    assert once == again == later


def test_an_id_is_for_ever() -> None:
    # Written down once: an id that changes with a version of the program notifies everybody of everything again.
    assert alarm_id("b1", NEWS2, "", b"r1", 0).hex() == "3f46035bb1b1ead6edb720e80a8812f8"


@pytest.mark.parametrize(
    "other",
    [
        ("b2", NEWS2, "", b"r1", 0),
        ("b1", SPO2, "", b"r1", 0),
        ("b1", msgspec.structs.replace(NEWS2, version=2), "", b"r1", 0),
        ("b1", NEWS2, "spo2", b"r1", 0),
        ("b1", NEWS2, "", b"r2", 0),
        ("b1", NEWS2, "r", b"1", 0),  # the same letters, cut elsewhere
    ],
)
def test_another_beginning_has_another_id(other: tuple[str, Rule, str, bytes, int]) -> None:
    assert alarm_id(*other) != alarm_id("b1", NEWS2, "", b"r1", 0)
    assert len(alarm_id(*other)) == 16


def test_an_onset_that_moves_with_a_clock_makes_no_new_id() -> None:
    assert alarm_id("b1", NEWS2, "", b"r1", 210_000) == alarm_id("b1", NEWS2, "", b"r1", 0)
    assert alarm_id("b1", NEWS2, "", b"", 1) != alarm_id("b1", NEWS2, "", b"", 0)  # silence has no reading


def test_a_condition_that_is_seen_a_hundred_times_has_one_open_alarm_and_is_told_once() -> None:
    book = a_book()

    events = [event for after_ms in range(100) for event in see(book, NEWS2, TRUE, after_ms)]

    assert len(events) == 1
    assert book.open() == events


def test_signs_that_are_judged_one_by_one_have_an_alarm_each() -> None:
    book = a_book()

    pulse = raised(book, BATTERY, key="heart_rate")
    breath = raised(book, BATTERY, key="respiratory_rate")

    assert pulse.alarm_id != breath.alarm_id
    assert [alarm.key for alarm in book.open()] == ["heart_rate", "respiratory_rate"]


def begun_by_timer(book: AlarmBook, after_ms: int, onset_after_ms: int = 0) -> AlarmChanged:
    return raised(book, BATTERY, after_ms, reading_id=b"", onset_ms=START + onset_after_ms)


def test_an_alarm_that_begins_again_at_a_timer_with_the_same_onset_is_another_one() -> None:
    book, found = a_book(), []
    for number in range(3):
        found.append(begun_by_timer(book, MINUTE * (1 + 2 * number)))
        see(book, BATTERY, FALSE, MINUTE * (2 + 2 * number))
    found.append(begun_by_timer(book, 10 * MINUTE, onset_after_ms=1))  # this onset served as the time of another id

    assert len({one.alarm_id for one in found}) == len(found)
    assert [one.onset_ms - START for one in found] == [0, 0, 0, 1]
    assert {one.revision for one in found} == {0}


def test_two_places_whose_timers_differ_give_an_alarm_that_begins_again_the_same_id() -> None:
    edge, data_centre = a_book(), a_book()
    for book, delay_ms in ((edge, 3), (data_centre, 40)):
        begun_by_timer(book, MINUTE + delay_ms)
        see(book, BATTERY, FALSE, 2 * MINUTE + delay_ms)

    assert begun_by_timer(edge, 3 * MINUTE + 9).alarm_id == begun_by_timer(data_centre, 3 * MINUTE).alarm_id


def test_the_next_episode_of_a_condition_has_an_id_of_its_own() -> None:
    book = a_book()
    first = raised(book, BATTERY)
    see(book, BATTERY, FALSE, 1_000)

    second = raised(book, BATTERY, 2_000)

    assert second.alarm_id != first.alarm_id
    assert (second.onset_ms, second.revision) == (START + 2_000, 0)


# Pending, active, cleared


@pytest.mark.parametrize(("after_ms", "told"), [(14_999, False), (15_000, True), (60_000, True)])
def test_pending_becomes_active_when_the_condition_has_lasted_in_event_time(after_ms: int, told: bool) -> None:
    #   TRUE          TRUE           rule: for 15 s
    #   |-------------|
    #   0             14.999 / 15 s
    book = a_book()
    assert see(book, SPO2, TRUE, 0) == []

    events = see(book, SPO2, TRUE, after_ms)

    assert [(event.state, event.onset_ms) for event in events] == [(ACTIVE, START)] * told


def test_a_condition_that_was_over_in_between_starts_its_duration_again() -> None:
    #   TRUE   FALSE   TRUE    TRUE    TRUE
    #   |------|-------|-------|-------|
    #   0      10      12      20      27 s
    book = a_book()
    for truth, after_ms in ((TRUE, 0), (FALSE, 10_000), (TRUE, 12_000), (TRUE, 20_000)):
        assert see(book, SPO2, truth, after_ms) == []

    (alarm,) = see(book, SPO2, TRUE, 27_000)

    assert alarm.onset_ms == START + 12_000


def test_a_pending_alarm_is_not_announced() -> None:
    book = a_book()
    see(book, SPO2, TRUE, 0)

    assert book.has("spo2")
    assert book.open() == []
    assert see(book, SPO2, UNKNOWN, 1_000) == []
    assert see(book, SPO2, FALSE, 2_000) == []
    assert not book.has("spo2")


def test_a_condition_that_began_before_it_was_noticed_counts_from_its_beginning() -> None:
    book = a_book()

    (alarm,) = see(book, SPO2, TRUE, 60_000, onset_ms=START)

    assert (alarm.onset_ms, alarm.at_ms) == (START, START + 60_000)


@pytest.mark.parametrize(
    ("quiet_s", "over"),
    [
        ([0], False),  # one below
        ([0, 599], False),  # two, not for ten minutes
        ([0, 600], True),
        ([0, 1, 600], True),
        ([600], False),  # ten minutes after it was true, but it is the first below
        ([600, 1_200], True),
    ],
)
def test_it_is_over_after_two_scores_below_for_ten_minutes(quiet_s: list[int], over: bool) -> None:
    book = a_book()
    alarm = raised(book)

    events = [event for s in quiet_s for event in see(book, NEWS2, FALSE, s * SECOND)]

    assert [(event.state, event.alarm_id) for event in events] == [(CLEARED, alarm.alarm_id)] * over
    assert book.has("news2") is not over


@pytest.mark.parametrize("not_below", [TRUE, UNKNOWN, "restart_clearing"])
def test_clearing_starts_over_with_every_score_that_is_not_below_the_limit(not_below: Truth | str) -> None:
    #   TRUE  FALSE      here       FALSE     FALSE
    #   |-----|----------|----------|---------|
    #   0     1          9          11        21 min
    book = a_book()
    raised(book)
    see(book, NEWS2, FALSE, MINUTE)
    if isinstance(not_below, Truth):
        see(book, NEWS2, not_below, 9 * MINUTE)
    else:
        book.restart_clearing("news2", "", at_ms=START + 9 * MINUTE)

    too_early = [event.state for event in see(book, NEWS2, FALSE, 11 * MINUTE)]
    (over,) = see(book, NEWS2, FALSE, 21 * MINUTE)

    assert CLEARED not in too_early
    assert over.state is CLEARED
    assert over.text == "over since 08:11 UTC; was it"


def test_a_value_at_its_limit_is_no_news() -> None:
    book = a_book()
    (alarm,) = see(book, SPO2, TRUE, 0) + see(book, SPO2, TRUE, 15_000)

    assert book.restart_clearing("spo2", "", at_ms=START + 20_000) == []
    assert book.restart_clearing("news2", "", at_ms=START + 20_000) == []  # of something that does not stand
    assert book.open() == [alarm]


def test_a_rise_is_told_and_a_fall_within_the_episode_is_not() -> None:
    book = a_book()
    alarm = raised(book, text="NEWS2 5", grade=5.0)

    (rise,) = see(book, NEWS2, TRUE, 1_000, priority=HIGH, grade=7.0, text="NEWS2 7")
    fall = see(book, NEWS2, TRUE, 2_000, priority=MEDIUM, grade=5.0, text="NEWS2 5")

    assert (rise.alarm_id, rise.priority, rise.text, rise.revision) == (alarm.alarm_id, HIGH, "NEWS2 7", 1)
    assert fall == []
    assert book.open() == [rise]


@pytest.mark.parametrize(("grade", "told"), [(7.0, False), (8.0, False), (9.0, True)])
def test_within_a_priority_two_points_more_are_news(grade: float, told: bool) -> None:
    book = a_book()
    raised(book, priority=HIGH, grade=7.0)

    assert len(see(book, NEWS2, TRUE, 1_000, priority=HIGH, grade=grade)) == told


def test_what_was_high_stays_high_until_it_is_over() -> None:
    book = a_book()
    raised(book, priority=HIGH, grade=5.0)

    (news,) = see(book, NEWS2, TRUE, 1_000, priority=MEDIUM, grade=7.0)

    assert news.priority is HIGH


# Acknowledged and latched stand beside the life cycle


def test_an_alarm_of_high_priority_latches_until_it_is_acknowledged() -> None:
    book = a_book()
    alarm = raised(book, priority=HIGH)
    see(book, NEWS2, FALSE, MINUTE)

    (over,) = see(book, NEWS2, FALSE, 11 * MINUTE)
    assert (over.state, over.latched) == (CLEARED, True)
    assert restarted(book).open() == [over]

    (looked_at,) = book.acknowledge(alarm.alarm_id, by="anna", at_ms=START + 20 * MINUTE)
    assert (looked_at.state, looked_at.latched, looked_at.acknowledged_by) == (CLEARED, False, "anna")
    assert book.open() == []


@pytest.mark.parametrize("how", ["medium", "answered", "rule"])
def test_what_is_not_high_or_was_answered_goes_by_itself(how: str) -> None:
    rule = msgspec.structs.replace(NEWS2, latching=False) if how == "rule" else NEWS2
    book = a_book()
    alarm = raised(book, rule, priority=MEDIUM if how == "medium" else HIGH)
    if how == "answered":
        book.acknowledge(alarm.alarm_id, by="anna", at_ms=START)
    see(book, rule, FALSE, MINUTE)

    (over,) = see(book, rule, FALSE, 11 * MINUTE)

    assert (over.state, over.latched) == (CLEARED, False)
    assert book.open() == []


def test_a_latched_alarm_and_the_next_one_of_its_condition_stand_side_by_side() -> None:
    book = a_book()
    first = raised(book, priority=HIGH)
    see(book, NEWS2, FALSE, MINUTE)
    see(book, NEWS2, FALSE, 11 * MINUTE)

    second = raised(book, after_ms=12 * MINUTE, priority=HIGH)

    assert [(one.alarm_id, one.state) for one in book.open()] == [
        (first.alarm_id, CLEARED),
        (second.alarm_id, ACTIVE),
    ]


def test_alarms_that_are_never_acknowledged_do_not_grow_without_bound() -> None:
    book = a_book()
    clock = count(step=11 * MINUTE)
    for _ in range(KEPT_LATCHED + 3):
        last = raised(book, after_ms=next(clock), priority=HIGH)
        see(book, NEWS2, FALSE, next(clock))
        see(book, NEWS2, FALSE, next(clock))

    kept = book.open()

    assert len(kept) == KEPT_LATCHED
    assert kept[-1].alarm_id == last.alarm_id


def test_an_answer_to_a_milder_alarm_does_not_answer_the_worse_one() -> None:
    # revision  0 medium   1 high          acknowledged as seen: 0
    book = a_book()
    mild = raised(book, grade=5.0)
    (high,) = see(book, NEWS2, TRUE, 1_000, priority=HIGH, grade=7.0)

    late = book.acknowledge(mild.alarm_id, by="anna", at_ms=START + 2_000, revision=mild.revision)
    after_a_restart = restarted(book).acknowledge(mild.alarm_id, by="anna", at_ms=START, revision=mild.revision)
    (answered,) = book.acknowledge(mild.alarm_id, by="anna", at_ms=START + 3_000, revision=high.revision)

    assert late == after_a_restart == []
    assert (answered.acknowledged_by, answered.priority) == ("anna", HIGH)


def test_an_acknowledgement_says_who_and_when_and_survives_a_restart() -> None:
    book = a_book()
    alarm = raised(book)

    (answered,) = book.acknowledge(alarm.alarm_id, by="anna", at_ms=START + 5_000)

    assert (answered.state, answered.acknowledged_by, answered.acknowledged_ms) == (ACTIVE, "anna", START + 5_000)
    assert restarted(book).open() == [answered]


def test_only_the_first_answer_to_an_open_alarm_counts() -> None:
    book = a_book()
    alarm = raised(book)
    see(book, SPO2, TRUE, 0)  # pending
    pending_id = alarm_id(BINDING, SPO2, "", bytes(16), START)
    book.acknowledge(alarm.alarm_id, by="anna", at_ms=START)

    assert book.acknowledge(alarm.alarm_id, by="ben", at_ms=START + 1) == []
    assert book.acknowledge(pending_id, by="ben", at_ms=START + 1) == []
    assert book.acknowledge(b"an unknown id", by="ben", at_ms=START + 1) == []
    assert [one.acknowledged_by for one in book.open()] == ["anna"]


def test_an_alarm_that_rises_asks_for_an_answer_again() -> None:
    book = a_book()
    alarm = raised(book, priority=MEDIUM)
    book.acknowledge(alarm.alarm_id, by="anna", at_ms=START)

    (rise,) = see(book, NEWS2, TRUE, 1_000, priority=HIGH)

    assert (rise.acknowledged_by, rise.acknowledged_ms) == (None, None)


# Judged by level; unknown is never cleared


def test_after_a_restore_a_condition_that_is_already_true_raises_its_alarm() -> None:
    # The old process never saw it; the new one is told by the first reading, without any edge from false to true.
    book = restarted(a_book())

    assert raised(book).state is ACTIVE


def test_after_a_restore_a_condition_that_stands_is_not_raised_twice() -> None:
    book = a_book()
    alarm = raised(book)

    again = restarted(book)

    assert again.open() == [alarm]
    assert see(again, NEWS2, TRUE, 1_000) == []


@pytest.mark.parametrize("hours", [1, 24])
def test_unknown_never_clears(hours: int) -> None:
    book = a_book()
    alarm = raised(book)

    for minute in range(hours * 60):
        see(book, NEWS2, UNKNOWN, minute * MINUTE)

    assert [(one.alarm_id, one.state) for one in book.open()] == [(alarm.alarm_id, ACTIVE)]


def test_a_stale_alarm_says_what_it_was_and_since_when_there_are_no_data() -> None:
    book = a_book()
    raised(book, text="NEWS2 8")
    see(book, NEWS2, TRUE, 2 * MINUTE)

    (lost,) = see(book, NEWS2, UNKNOWN, 5 * MINUTE)
    still_lost = see(book, NEWS2, UNKNOWN, 6 * MINUTE)

    assert lost.text == "was NEWS2 8; no data since 08:02 UTC"
    assert still_lost == []


@pytest.mark.parametrize(
    ("back", "text"),
    [
        (TRUE, "NEWS2 9"),  # computed again
        (FALSE, "NEWS2 8"),  # on its way down: what was announced
    ],
)
def test_when_data_return_the_alarm_says_so(back: Truth, text: str) -> None:
    book = a_book()
    raised(book, text="NEWS2 8")
    (lost,) = see(book, NEWS2, UNKNOWN, MINUTE)

    (found,) = see(book, NEWS2, back, 2 * MINUTE, text="NEWS2 9")

    assert (found.alarm_id, found.state, found.text) == (lost.alarm_id, ACTIVE, text)


def test_what_was_out_of_sight_for_a_while_ends_with_a_text_that_can_be_read() -> None:
    book = a_book()
    raised(book, text="NEWS2 8")
    see(book, NEWS2, UNKNOWN, MINUTE)
    see(book, NEWS2, FALSE, 2 * MINUTE)

    (over,) = see(book, NEWS2, FALSE, 12 * MINUTE)

    assert over.text == "over since 08:02 UTC; was NEWS2 8"


@pytest.mark.parametrize(("taken_out", "text"), [(True, "gone"), (False, "off")])
def test_the_alarm_of_a_rule_that_was_taken_out_stays_until_it_is_looked_at(taken_out: bool, text: str) -> None:
    book = a_book()
    alarm = raised(book, text=text)
    rest = (SPO2,) if taken_out else (SPO2, msgspec.structs.replace(NEWS2, enabled=False))

    later = restarted(book, *rest)
    (kept,) = later.open()
    (looked_at,) = later.acknowledge(alarm.alarm_id, by="anna", at_ms=START)

    assert (kept.alarm_id, kept.state, kept.kind) == (alarm.alarm_id, ACTIVE, AlarmKind.PHYSIOLOGICAL)
    assert (looked_at.state, looked_at.text) == (CLEARED, f"rule no longer applies; alarm was: {text}")
    assert later.open() == []


# Silence is a stored object


def test_silence_is_not_broken_by_the_same_condition_but_by_a_higher_severity() -> None:
    book = a_book()
    raised(book, priority=MEDIUM, grade=5.0)
    (silenced,) = silence(book, 1_000, 10 * MINUTE)

    (lost,) = see(book, NEWS2, UNKNOWN, 2_000)
    (same,) = see(book, NEWS2, TRUE, 3_000, priority=MEDIUM, grade=5.0)
    (worse,) = see(book, NEWS2, TRUE, 4_000, priority=MEDIUM, grade=7.0)
    (higher,) = see(book, NEWS2, TRUE, 5_000, priority=HIGH, grade=7.0)

    until_ms = START + 10 * MINUTE
    assert [one.silenced_until_ms for one in (silenced, lost, same, worse)] == [until_ms] * 4
    assert higher.silenced_until_ms is None


def test_a_silence_of_a_milder_alarm_does_not_silence_what_it_has_become() -> None:
    book = a_book()
    raised(book, priority=MEDIUM, grade=5.0)
    (higher,) = see(book, NEWS2, TRUE, 1_000, priority=HIGH, grade=7.0)

    assert book.silence("news2", by="anna", at_ms=START, until_ms=START + 10 * MINUTE, priority=MEDIUM) == []
    (seen,) = book.silence("news2", by="anna", at_ms=START, until_ms=START + 10 * MINUTE, priority=HIGH)

    assert higher.priority is HIGH
    assert seen.silenced_until_ms == START + 10 * MINUTE


def test_a_silence_holds_up_to_the_priority_that_was_seen() -> None:
    book = a_book()
    raised(book, priority=MEDIUM, grade=5.0)
    (silenced,) = book.silence("news2", by="anna", at_ms=START, until_ms=START + 10 * MINUTE, priority=MEDIUM)

    (higher,) = see(book, NEWS2, TRUE, 5_000, priority=HIGH, grade=7.0)

    assert silenced.silenced_until_ms == START + 10 * MINUTE
    assert higher.silenced_until_ms is None


def test_an_acknowledgement_of_a_milder_alarm_does_not_acknowledge_what_it_has_become() -> None:
    book = a_book()
    alarm = raised(book, priority=MEDIUM, grade=5.0)
    see(book, NEWS2, TRUE, 1_000, priority=HIGH, grade=7.0)

    assert book.acknowledge(alarm.alarm_id, by="anna", at_ms=START, priority=MEDIUM) == []
    (seen,) = book.acknowledge(alarm.alarm_id, by="anna", at_ms=START, priority=HIGH)

    assert seen.acknowledged_by == "anna"


def test_silence_holds_for_the_next_episode_of_the_same_severity() -> None:
    book = a_book()
    raised(book, BATTERY, priority=LOW)
    silence(book, 0, 10 * MINUTE, "battery")
    see(book, BATTERY, FALSE, 1_000)

    assert raised(book, BATTERY, 2_000, priority=LOW).silenced_until_ms == START + 10 * MINUTE
    see(book, BATTERY, FALSE, 3_000)
    assert raised(book, BATTERY, 4_000, priority=MEDIUM).silenced_until_ms is None


def test_silence_is_for_one_condition() -> None:
    book = a_book()
    silence(book, 0, 10 * MINUTE, "spo2")

    assert raised(book).silenced_until_ms is None


def test_silence_survives_a_restart_and_ends_when_it_was_said_to() -> None:
    book = a_book()
    alarm = raised(book)
    silence(book, 0, 10 * MINUTE)

    later = restarted(book)
    (silenced,) = later.open()
    assert silenced.silenced_until_ms == later.timer_at() == START + 10 * MINUTE
    assert later.on_timer(START + 10 * MINUTE - 1) == []

    (sounds,) = later.on_timer(START + 10 * MINUTE)
    assert (sounds.alarm_id, sounds.silenced_until_ms) == (alarm.alarm_id, None)
    assert later.timer_at() is None


def test_the_same_silence_said_twice_is_said_once() -> None:
    book = a_book()
    raised(book)

    assert len(silence(book, 0, MINUTE)) == 1
    assert silence(book, 0, MINUTE) == []
    assert len(silence(book, 0, 2 * MINUTE)) == 1


def test_a_silence_is_of_one_sign_and_what_breaks_it_breaks_no_other() -> None:
    book = a_book()
    raised(book, BATTERY, key="heart_rate", priority=LOW)
    raised(book, BATTERY, key="spo2", priority=LOW)
    (heart_rate,) = book.silence("battery", key="heart_rate", by="anna", at_ms=START, until_ms=START + 10 * MINUTE)
    assert heart_rate.key == "heart_rate"
    assert [(one.key, one.silenced_until_ms is None) for one in book.open()] == [("heart_rate", False), ("spo2", True)]

    (spo2,) = see(book, BATTERY, TRUE, 1_000, key="spo2", priority=MEDIUM)

    assert (spo2.key, spo2.silenced_until_ms) == ("spo2", None)
    assert book.open()[0].silenced_until_ms == START + 10 * MINUTE


def test_what_is_latched_can_be_silenced_too() -> None:
    book = a_book()
    raised(book, priority=HIGH)
    see(book, NEWS2, FALSE, MINUTE)
    see(book, NEWS2, FALSE, 11 * MINUTE)

    (latched,) = silence(book, 12 * MINUTE, 20 * MINUTE)

    assert (latched.latched, latched.silenced_until_ms) == (True, START + 20 * MINUTE)
    assert book.open() == [latched]


# Backfilled data are for the record


def look_back(book: AlarmBook, after_ms: int, *, rule: Rule = NEWS2, key: str = "") -> list[AlarmChanged]:
    seen = JudgedCondition(
        truth=TRUE, at_ms=START + after_ms, reading_id=after_ms.to_bytes(16, "big"), priority=HIGH, grade=9.0
    )
    return book.backfill(rule, seen, key=key, explain=lambda: "NEWS2 9")


def test_backfilled_data_make_a_retrospective_alarm_that_never_stands() -> None:
    book = a_book()

    (found,) = look_back(book, 0)

    assert (found.retrospective, found.state, found.latched, found.priority) == (True, CLEARED, False, HIGH)
    assert (found.text, found.revision) == ("NEWS2 9", 0)
    assert book.open() == []
    assert book.conditions() == []
    assert book.acknowledge(found.alarm_id, by="anna", at_ms=START) == []


@pytest.mark.parametrize(("gap_ms", "told"), [(1, 1), (10 * MINUTE, 1), (10 * MINUTE + 1, 2)])
def test_an_episode_in_backfilled_data_is_told_once(gap_ms: int, told: int) -> None:
    book = a_book()

    events = look_back(book, 0) + look_back(restarted(book), gap_ms)

    assert len({event.alarm_id for event in events}) == len(events) == told


def test_backfilled_data_leave_an_open_alarm_and_its_silence_alone() -> None:
    book = a_book()
    raised(book, priority=MEDIUM)
    (silenced,) = silence(book, 0, 10 * MINUTE)

    look_back(book, 1_000)

    assert book.open() == [silenced]


# What can be read off an event


def test_a_technical_alarm_says_that_it_is_one() -> None:
    book = a_book()

    assert raised(book, BATTERY, priority=LOW).kind is AlarmKind.TECHNICAL
    assert raised(book, NEWS2).kind is AlarmKind.PHYSIOLOGICAL


def test_an_event_says_what_judged_and_nothing_is_explained_without_need() -> None:
    book = a_book()
    alarm = raised(book, text="NEWS2 7: RR 26 (+3)")
    (answered,) = book.acknowledge(alarm.alarm_id, by="anna", at_ms=START)

    assert (alarm.basis, alarm.text) == ("NEWS2", "NEWS2 7: RR 26 (+3)")
    assert answered.text == alarm.text

    def explain() -> str:
        raise AssertionError("a text was made that is not used")

    assert book.observe(NEWS2, JudgedCondition(truth=TRUE, at_ms=START, priority=MEDIUM), explain=explain) == []


@pytest.mark.parametrize(
    ("after_ms", "text"),
    [(0, "08:00 UTC"), (6 * 60 * MINUTE + 2 * MINUTE + 59_999, "14:02 UTC"), (16 * 60 * MINUTE, "00:00 UTC")],
)
def test_a_time_of_day_is_written_for_people(after_ms: int, text: str) -> None:
    assert clock_text(START + after_ms) == text


# What holds for every story


STEPS = st.lists(
    st.tuples(
        st.integers(0, 8 * MINUTE),  # since the step before
        st.sampled_from(RULES),
        st.sampled_from(["", "spo2"]),
        st.sampled_from(
            ["true", "true", "false", "false", "unknown", "restart_clearing", "answer", "silence", "backfill"]
        ),
        st.sampled_from(Priority),
        st.integers(5, 12),
    ),
    max_size=40,
)


def play(steps: list[Any], *, restart: bool) -> list[list[AlarmChanged]]:
    """What each step was answered with, and at last what stands."""
    book = a_book()
    after_ms, answers = 0, []
    for since_ms, rule, key, what, priority, grade in steps:
        after_ms += since_ms
        now_ms = START + after_ms
        told = book.on_timer(now_ms)
        standing = book.open()
        if what == "true":
            told += see(book, rule, TRUE, after_ms, key=key, priority=priority, grade=float(grade))
        elif what == "restart_clearing":
            told += book.restart_clearing(rule.rule_id, key, at_ms=now_ms)
        elif what == "backfill":
            told += look_back(book, after_ms, rule=rule, key=key)
        elif what == "silence":
            told += book.silence(rule.rule_id, by="anna", at_ms=now_ms, until_ms=now_ms + grade * MINUTE)
        elif what == "answer" and standing:
            told += book.acknowledge(standing[grade % len(standing)].alarm_id, by="anna", at_ms=now_ms)
        elif what in ("false", "unknown"):
            told += see(book, rule, Truth[what.upper()], after_ms, key=key)
        answers.append(told)
        if restart:
            book = restarted(book)
    return [*answers, book.open()]


@settings(deadline=None, max_examples=200, derandomize=True)
@given(STEPS)
def test_a_restart_after_any_step_changes_nothing(steps: list[Any]) -> None:
    assert play(steps, restart=True) == play(steps, restart=False)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(STEPS)
def test_a_condition_never_has_two_open_alarms_and_ids_are_never_used_again(steps: list[Any]) -> None:
    events = [event for told in play(steps, restart=False)[:-1] for event in told]

    open_now: dict[tuple[str, str], bytes] = {}
    over: set[bytes] = set()
    for event in events:
        place = (event.rule_id, event.key)
        if event.retrospective:
            assert event.state is CLEARED
        elif event.state is ACTIVE:
            assert open_now.setdefault(place, event.alarm_id) == event.alarm_id
            assert event.alarm_id not in over
        elif event.alarm_id not in over:
            assert open_now.pop(place) == event.alarm_id
            over.add(event.alarm_id)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(STEPS)
def test_revisions_count_every_change_and_what_stands_is_what_was_last_told(steps: list[Any]) -> None:
    *answers, standing = play(steps, restart=False)

    last: dict[bytes, AlarmChanged] = {}
    for event in (event for told in answers for event in told):
        known = last.get(event.alarm_id)
        assert event.revision == (0 if known is None else known.revision + 1)
        last[event.alarm_id] = event
    assert [last[one.alarm_id] for one in standing] == standing


@settings(deadline=None, max_examples=200, derandomize=True)
@given(STEPS)
def test_only_a_score_that_was_seen_below_ends_an_alarm(steps: list[Any]) -> None:
    answers = play(steps, restart=False)[:-1]

    over: set[bytes] = set()
    for (_, rule, key, what, _, _), told in zip(steps, answers, strict=True):
        for event in told:
            if event.state is CLEARED and not event.retrospective and event.alarm_id not in over:
                assert (what, rule.rule_id, key) == ("false", event.rule_id, event.key)
                over.add(event.alarm_id)
