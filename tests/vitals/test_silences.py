"""A silence is of one condition: a rule and, where the rule is judged sign by sign, the sign.

Property: whatever was silenced, in whatever order, an alarm is quiet only if its own condition was silenced, the
silence is not over, and the alarm is no worse than what was silenced.
"""

import random
from typing import Final, NamedTuple

import msgspec
import pytest

from tests.vitals.stories import BINDING, MINUTE, START, a_plan
from vitals.alarms import AlarmBook, JudgedCondition
from vitals.messages import AlarmChanged, AlarmState, Priority, Silence
from vitals.monitor import PatientMonitor
from vitals.rules import DEFAULT_RULES, Rule, Truth

RULES: Final = {rule.rule_id: msgspec.structs.replace(rule, for_ms=0) for rule in DEFAULT_RULES}
CONDITIONS: Final = (
    ("news2", ""),
    ("low_spo2", ""),
    ("red_sign", "heart_rate"),
    ("red_sign", "respiratory_rate"),
    ("red_sign", "spo2"),
    ("no_data", ""),
    ("no_data", "spo2"),
    ("no_data", "heart_rate"),
)
STEPS: Final = 60


class Silenced(NamedTuple):
    until_ms: int
    priority: Priority


def a_book() -> AlarmBook:
    return AlarmBook(BINDING, tuple(RULES.values()))


def see(book: AlarmBook, rule: Rule, key: str, priority: Priority, at_ms: int) -> list[AlarmChanged]:
    seen = JudgedCondition(truth=Truth.TRUE, at_ms=at_ms, reading_id=b"r" * 16, priority=priority)
    return book.observe(rule, seen, key=key, explain=lambda: "text")


def silence(book: AlarmBook, place: tuple[str, str], by: str, at_ms: int, until_ms: int) -> None:
    book.silence(place[0], key=place[1], by=by, at_ms=at_ms, until_ms=until_ms)


def restarted(book: AlarmBook) -> AlarmBook:
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(book.to_state()))
    return AlarmBook.from_state(BINDING, tuple(RULES.values()), state)


@pytest.mark.parametrize("seed", range(200))
def test_no_silence_hides_another_condition_and_worse_breaks_through(seed: int) -> None:
    draw, book, now_ms = random.Random(seed), a_book(), START
    worst: dict[tuple[str, str], Priority] = {}
    silences: dict[tuple[str, str], Silenced] = {}
    for step in range(STEPS):
        now_ms += draw.randint(1, 3 * MINUTE)
        book.on_timer(now_ms)
        silences = {place: one for place, one in silences.items() if one.until_ms > now_ms}
        place = draw.choice(CONDITIONS)
        action = draw.choice(("see", "see", "silence", "restart"))
        if action == "see":
            priority = draw.choice(list(Priority))
            before = worst.get(place)
            worst[place] = priority if before is None else max(before, priority)
            see(book, RULES[place[0]], place[1], priority, now_ms)
            # Only what is announced breaks a silence: an alarm that begins, or one that gets worse.
            announced = before is None or priority > before
            if announced and place in silences and worst[place] > silences[place].priority:
                del silences[place]
        elif action == "silence":
            until_ms = now_ms + draw.randint(1, 10 * MINUTE)
            silence(book, place, f"p{step}", now_ms, until_ms)
            silences[place] = Silenced(until_ms, worst.get(place, Priority.LOW))
        else:
            book = restarted(book)
        for alarm in book.open():
            expected = silences.get((alarm.rule_id, alarm.key))
            assert alarm.silenced_until_ms == (None if expected is None else expected.until_ms), (step, alarm)


def test_a_silent_device_is_not_hidden_by_the_silence_of_one_sign() -> None:
    book = a_book()
    see(book, RULES["no_data"], "spo2", Priority.MEDIUM, START)
    silence(book, ("no_data", "spo2"), "anna", START, START + 30 * MINUTE)

    (device,) = see(book, RULES["no_data"], "", Priority.MEDIUM, START + MINUTE)

    assert (device.state, device.silenced_until_ms) == (AlarmState.ACTIVE, None)


def test_a_red_heart_rate_that_is_silenced_leaves_respiration_and_oxygen_loud() -> None:
    book = a_book()
    for sign in ("heart_rate", "respiratory_rate", "spo2"):
        see(book, RULES["red_sign"], sign, Priority.HIGH, START)

    silence(book, ("red_sign", "heart_rate"), "anna", START, START + 30 * MINUTE)

    quiet = {alarm.key: alarm.silenced_until_ms is not None for alarm in book.open()}
    assert quiet == {"heart_rate": True, "respiratory_rate": False, "spo2": False}


@pytest.mark.parametrize(("rule_id", "is_quiet"), [("news2", True), ("red_sign", False), ("no_data", False)])
def test_a_stored_silence_of_an_earlier_version_silences_only_what_it_was_surely_meant_for(
    rule_id: str, is_quiet: bool
) -> None:
    book = a_book()
    see(book, RULES[rule_id], "spo2" if RULES[rule_id].is_by_sign else "", Priority.MEDIUM, START)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(book.to_state()))
    state[2] = [[rule_id, ["anna", START + 30 * MINUTE, int(Priority.HIGH)]]]  # as 0.1.0 has written it

    (alarm,) = AlarmBook.from_state(BINDING, tuple(RULES.values()), state).open()

    assert (alarm.silenced_until_ms is not None) is is_quiet


def test_a_silence_order_of_an_earlier_version_is_read_in_the_safe_way() -> None:
    monitor = PatientMonitor(BINDING, a_plan(*RULES.values()))
    see(monitor._book, RULES["red_sign"], "spo2", Priority.HIGH, START)
    see(monitor._book, RULES["news2"], "", Priority.HIGH, START)
    told = {"stay_id": BINDING, "by": "anna", "at_ms": START, "until_ms": START + MINUTE}

    assert monitor.on_silence(Silence(rule_id="red_sign", **told)) == []
    assert len(monitor.on_silence(Silence(rule_id="news2", **told))) == 1


@pytest.mark.parametrize(("grade", "is_covered"), [(7, True), (6, True), (5, False), (0, False), (None, True)])
def test_an_answer_to_a_milder_grade_covers_nothing_worse(grade: float | None, is_covered: bool) -> None:
    book = a_book()
    seen = JudgedCondition(truth=Truth.TRUE, at_ms=START, priority=Priority.HIGH, grade=7.0)
    (alarm,) = book.observe(RULES["news2"], seen, explain=lambda: "NEWS2 7")
    until_ms = START + MINUTE

    silenced = book.silence("news2", by="anna", at_ms=START, until_ms=until_ms, priority=Priority.HIGH, grade=grade)
    answered = book.acknowledge(alarm.alarm_id, by="anna", at_ms=START, priority=Priority.HIGH, grade=grade)

    assert (bool(silenced), bool(answered)) == (is_covered, is_covered)
