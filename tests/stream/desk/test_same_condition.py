"""One condition that several find: two edges and the data centre, with ids of their own. One alarm, called once."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.records import AlarmLogRecord, StayEndedRecord
from tests.stream.desk.alarms import AMBER, BINDING, MINUTE, NOW, RED, SECOND, an_id, told, told_by_edge
from tests.stream.desk.test_desk import Night, lived, night
from vitals.messages import Acknowledge, AlarmState, Priority, Silence

__all__ = ["night"]  # a fixture

BY_EDGE_1, BY_EDGE_2 = 1, 2
CLEARED = AlarmState.CLEARED


def from_1(**changes: Any) -> AlarmLogRecord:
    return told_by_edge(1, edge=BY_EDGE_1, **changes)


def from_2(**changes: Any) -> AlarmLogRecord:
    return told_by_edge(2, edge=BY_EDGE_2, **changes)


def from_centre(**changes: Any) -> AlarmLogRecord:
    return told(3, **changes)


FIRST_THEN_OTHERS = [
    (from_1, from_2, from_centre),
    (from_1, from_centre, from_2),
    (from_centre, from_1, from_2),
]


@pytest.mark.parametrize("finders", FIRST_THEN_OTHERS)
def test_nobody_is_called_twice_for_what_three_have_found(
    finders: tuple[Callable[..., AlarmLogRecord], ...], tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"

    def called(folder: Path, *records: AlarmLogRecord) -> list[tuple[str, str]]:
        folder.mkdir()
        made = Night(folder)

        async def story() -> None:
            for record in records:
                made.hear(record)
                await made.pass_time(20 * SECOND)
            await made.pass_time(6 * MINUTE - len(records) * 20 * SECOND)

        lived(story)
        (one,) = made.desk.standing()
        made.book.close()
        assert one.kept.is_active
        return made.channels.calls

    first = finders[0]()

    assert called(together, *(find() for find in finders)) == called(alone, first)


@pytest.mark.parametrize("finders", FIRST_THEN_OTHERS)
def test_the_first_id_stands(finders: tuple[Callable[..., AlarmLogRecord], ...], night: Night) -> None:
    first = finders[0]()

    for find in finders:
        night.hear(find())

    assert [one.kept.alarm.alarm_id for one in night.desk.standing()] == [first.alarm.alarm_id]


def test_an_answer_goes_to_each_with_the_id_that_is_known_there(night: Night) -> None:
    night.hear(from_1(), from_2(), from_centre(revision=5))
    (one,) = night.desk.standing()

    night.desk.acknowledge(an_id(1), by="anna", revision=one.kept.alarm.revision)

    orders = [pending.entry.message for pending in night.desk.to_pass_on()]
    assert all(isinstance(order, Acknowledge) for order in orders)
    assert {(order.alarm_id, order.revision) for order in orders if isinstance(order, Acknowledge)} == {
        (an_id(1), None),
        (an_id(2), None),
        (an_id(3), 5),
    }


def test_who_finds_an_answered_condition_later_hears_of_the_answer_and_nobody_is_called(night: Night) -> None:
    async def story() -> None:
        night.hear(from_1())
        await night.pass_time()
        night.desk.acknowledge(an_id(1), by="anna", revision=night.desk.standing()[0].kept.alarm.revision)
        for pending in night.desk.to_pass_on():
            night.desk.passed_on(pending)
        await night.pass_time(MINUTE)
        night.hear(from_2(arrived_ms=NOW + MINUTE), from_centre())
        await night.pass_time(10 * MINUTE)

    lived(story)

    assert night.channels.calls == [("anna", "push")]
    given = {
        one.alarm_id: one.at_ms
        for pending in night.desk.to_pass_on()
        if isinstance(one := pending.entry.message, Acknowledge)
    }
    assert (given[an_id(2)], given[an_id(3)]) == (NOW + MINUTE, NOW)
    named = [pending.entry.message for pending in night.desk.to_pass_on()]
    assert {one.alarm_id for one in named if isinstance(one, Acknowledge)} >= {an_id(3)}
    assert all(isinstance(one, Acknowledge) and one.by == "anna" for one in named)


def test_orders_end_when_the_data_centre_shows_the_answer(night: Night) -> None:
    night.hear(from_1(), from_centre())
    night.desk.acknowledge(an_id(1), by="anna", revision=night.desk.standing()[0].kept.alarm.revision)
    for pending in night.desk.to_pass_on():
        night.desk.passed_on(pending)

    night.hear(from_centre(revision=1, acknowledged_by="anna", acknowledged_ms=NOW))

    assert night.desk.to_pass_on() == []
    assert night.book.query("SELECT count(*) FROM wish WHERE NOT done") == [(0,)]
    (one,) = night.desk.standing()
    assert (one.kept.answered_by, one.calls) == ("anna", False)


def test_the_end_at_one_edge_silences_nobody_who_still_has_it(night: Night) -> None:
    async def story() -> None:
        night.hear(from_1(), from_2())
        await night.pass_time()
        night.hear(from_1(state="cleared", revision=1))
        await night.pass_time(2 * MINUTE)
        assert [one.calls for one in night.desk.standing()] == [True]
        night.hear(from_2(state="cleared", revision=1))
        await night.pass_time(10 * MINUTE)

    lived(story)

    assert night.channels.calls == [("anna", "push"), ("anna", "sms"), ("anna", "call"), ("ben", "push")]
    assert night.desk.standing() == []


def test_the_end_at_an_edge_ends_nothing_that_the_data_centre_holds_open(night: Night) -> None:
    night.hear(from_centre(), from_1(), from_1(state="cleared", revision=1))

    assert [one.calls for one in night.desk.standing()] == [True]


def test_the_end_in_the_data_centre_is_the_end_until_an_edge_finds_it_worse(night: Night) -> None:
    night.hear(from_centre(priority=AMBER), from_1(priority=2), from_centre(priority=AMBER, state=CLEARED, revision=1))
    assert night.desk.standing() == []

    night.hear(from_1(priority=2, revision=1, text="the same"))
    assert night.desk.standing() == []

    night.hear(from_1(priority=3, revision=2))
    (one,) = night.desk.standing()
    assert (one.kept.alarm.priority, one.calls) == (RED, True)


def test_a_higher_priority_of_an_edge_breaks_through_an_answer(night: Night) -> None:
    async def story() -> None:
        night.hear(from_centre(priority=AMBER))
        await night.pass_time()
        night.desk.acknowledge(an_id(3), by="anna", revision=0)
        before = len(night.channels.calls)
        await night.pass_time(SECOND)
        night.hear(from_2(priority=3))
        await night.pass_time()
        assert night.channels.calls[before:] == [("anna", "push")]

    lived(story)

    (one,) = night.desk.standing()
    assert (one.kept.alarm.priority, one.kept.is_answered) == (RED, False)


def test_two_edges_with_the_same_id_are_two(night: Night) -> None:
    # Of what begins with no reading, such as a patient who was never heard, every place makes the same id.
    same = {"rule_id": "no_data", "kind": "technical", "priority": 2}
    night.hear(told_by_edge(1, edge=1, **same), told_by_edge(1, edge=2, **same))

    night.hear(told_by_edge(1, edge=1, state="cleared", revision=1, **same))
    assert len(night.desk.standing()) == 1

    night.hear(told_by_edge(1, edge=2, state="cleared", revision=1, **same))
    assert night.desk.standing() == []


def test_a_silence_is_of_the_condition_whoever_found_it(night: Night) -> None:
    async def story() -> None:
        night.hear(from_1())
        night.desk.silence(an_id(1), by="anna", minutes=5, revision=night.desk.standing()[0].kept.alarm.revision)
        night.hear(from_2(), from_centre())
        await night.pass_time(4 * MINUTE)
        assert night.channels.calls == []
        await night.pass_time(2 * MINUTE)

    lived(story)

    assert night.channels.calls[0] == ("anna", "push")
    (order,) = [one.entry.message for one in night.desk.to_pass_on() if isinstance(one.entry.message, Silence)]
    assert (order.rule_id, order.key) == ("news2", "")


def test_with_the_stay_everything_ends(night: Night) -> None:
    night.hear(from_1(), from_2(), from_centre(), StayEndedRecord(stay_id=BINDING, ended_ms=NOW, at_ms=NOW))
    night.hear(from_2(revision=1, priority=3, text="worse"))

    assert night.desk.standing() == []


def test_another_log_begins_anew(night: Night) -> None:
    night.hear(from_1(), from_centre(revision=7))
    with night.book.transaction():
        night.book.begin_log()

    night.hear(from_centre(revision=0))

    (one,) = night.desk.standing()
    assert (one.kept.alarm.alarm_id, one.kept.alarm.revision) == (an_id(3), 0)


class Finder:
    """An edge or the data centre, with an alarm that begins and ends."""

    def __init__(self, edge: int, draw: random.Random) -> None:
        self.edge, self.priority = edge, 0  # 0: it has none open
        self._draw, self._number, self._revision = draw, 0, 0

    def tell(self) -> AlarmLogRecord:
        """What it tells next."""
        self._revision += 1
        if not self.priority:  # an episode of its own, with an id of its own
            self._number, self._revision = self._draw.randint(10, 1_000_000), 0
        self.priority = self._draw.choice((2, 3)) if not self.priority or self._draw.random() < 0.7 else 0
        state = AlarmState.ACTIVE if self.priority else CLEARED
        changes: dict[str, Any] = {"priority": self.priority or 2, "revision": self._revision}
        if self.edge:
            return told_by_edge(self._number, edge=self.edge, state=state.value, **changes)
        return told(self._number, state=state, **changes | {"priority": Priority(self.priority or 2)})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_whatever_they_tell_one_alarm_stands_as_long_as_somebody_has_it(seed: int, tmp_path: Path) -> None:
    """Against a table of who has it open, with a desk that is killed after every record."""
    draw, night = random.Random(seed), Night(tmp_path)
    finders = [Finder(edge, draw) for edge in (0, 1, 2)]
    for _ in range(60):
        finder = draw.choice(finders)
        had_it = finder.priority
        night.hear(finder.tell())
        if had_it and not finder.priority and not finder.edge:
            # The data centre has the readings of all: its end is the end, and what edges begin afterwards is new.
            for edge in finders[1:]:
                edge.priority = 0
        night.wake()
        active = [one.kept.alarm for one in night.desk.standing() if one.kept.is_active]
        worst = max(one.priority for one in finders)
        assert [int(one.priority) for one in active] == ([worst] if worst else [])
    night.book.close()


def test_a_book_of_an_earlier_version_goes_on_and_what_others_find_joins_what_stands_in_it(night: Night) -> None:
    night.hear(from_1(), told_by_edge(9, rule_id="shock_index", edge=1))
    night.book.close()
    with sqlite3.connect(night.folder / "desk.sqlite") as earlier:
        for alarm_id, body in earlier.execute("SELECT alarm_id, body FROM alarm").fetchall():
            shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(body)[:8])  # eight fields, as it was
            earlier.execute("UPDATE alarm SET body = ? WHERE alarm_id = ?", (shorter, alarm_id))
        earlier.executescript("DROP TABLE joined; UPDATE meta SET value = '3' WHERE key = 'desk'")
    earlier.close()
    del night.book

    async def story() -> None:
        night.wake()
        await night.pass_time()
        night.hear(from_2(), from_centre(), told(9, rule_id="shock_index"))
        await night.pass_time(SECOND)

    lived(story)

    assert night.book.query("SELECT value FROM meta WHERE key = 'desk'") == [("4",)]
    assert {one.kept.alarm.alarm_id for one in night.desk.standing()} == {an_id(1), an_id(9)}
    assert night.channels.calls == [("anna", "push")] * 2  # once for each condition
