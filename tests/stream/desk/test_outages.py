"""Outages at the desk: people are called once for several patients without data, and never later than without it."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.desk.book import DeskBook
from stream.desk.desk import AlarmDesk, Place
from stream.desk.http import shown_of
from stream.desk.notify import Addresses
from stream.desk.texts import Message
from stream.errors import CommitFailed
from stream.records import AlarmRecord
from tests.stream.desk.alarms import AMBER, MINUTE, NOW, RED, SECOND, an_id, told
from tests.stream.desk.earlier_books import make_earlier
from tests.stream.desk.test_desk import Night, lived
from vitals.messages import AlarmKind, AlarmState

HOUR = 60 * MINUTE


class Ward(Night):
    """A desk of a ward with beds 1 to 9."""

    def __init__(self, folder: Path, *, patients: int | None = 9, **wishes: Any) -> None:
        self.patients = patients
        super().__init__(folder, site_name="North", **wishes)

    def wake(self) -> None:
        if hasattr(self, "book"):
            self.book.close()
        self.book = DeskBook(self.folder / "desk.sqlite")
        self.desk = AlarmDesk(
            self.config,
            self.book,
            Addresses(self.config.addresses),
            self.clock,
            notifier=self.channels,
            place_of=lambda stay_id: Place(str(int(stay_id, 16))),
            patients=lambda: self.patients,
        )

    def list(self) -> dict[str, Any]:
        return {one.place: one for one in map(shown_of, self.desk.standing())}


@pytest.fixture
def ward(tmp_path: Path) -> Any:
    made = Ward(tmp_path)
    yield made
    made.book.close()


def no_data(bed: int, *, since_ms: int = NOW, **changes: Any) -> AlarmRecord:
    wishes = {"kind": AlarmKind.TECHNICAL, "priority": AMBER, "onset_ms": since_ms, "text": "no data", "basis": "rule"}
    return told(bed, stay_id=f"{bed:032x}", rule_id="no_data", **(wishes | changes))


def back(bed: int, **changes: Any) -> AlarmRecord:
    return no_data(bed, state=AlarmState.CLEARED, revision=9, **changes)


def texts_of(messages: list[tuple[str, str, Message]]) -> list[str]:
    return [message.title for _, _, message in messages]


def outage_id(ward: Ward) -> bytes:
    (alarm_id,) = {one.kept.alarm.alarm_id for one in ward.desk.standing() if one.kept.is_outage}
    return alarm_id


def test_people_are_called_once_for_an_outage_with_the_list_of_beds(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        await ward.pass_time(15 * MINUTE)

    lived(story)

    ((person, channel, message),) = ward.channels.sent
    assert (person, channel) == ("anna", "push")
    assert message.title == "** medium technical alarm, no data from 3 patients, North"
    assert message.body.splitlines() == [
        "** MEDIUM technical alarm: no data from 3 patients, North.",
        f"Since 22:13 UTC, 15 min ago. Alarm {outage_id(ward).hex()[:8]}.",
        "North: no data from 3 of 9 patients since 22:13 UTC: bed 1, bed 2, bed 3.",
        "This message replaces one for each of them. High alarms and alarms about patients are sent as always.",
        "Open the ward to see why.",
        "Decision support and secondary notification. Not a certified medical device.",
    ]


def test_the_alarms_of_the_patients_stay_on_the_list_and_name_their_outage(ward: Ward) -> None:
    ward.hear(no_data(1), no_data(2), no_data(3))

    found = ward.list()

    assert set(found) == {"bed 1", "bed 2", "bed 3", "several beds"}
    assert found["several beds"].calling
    for bed in ("bed 1", "bed 2", "bed 3"):
        assert (found[bed].calling, found[bed].state, found[bed].outage) == (False, "active", outage_id(ward).hex())


def test_two_patients_of_a_large_ward_are_called_for_one_by_one(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2))
        await ward.pass_time(15 * MINUTE)

    lived(story)

    assert texts_of(ward.channels.sent) == [f"** medium technical alarm, bed {bed}, North" for bed in (1, 2)]


def test_the_ladder_of_an_outage_begins_with_its_first_alarm(ward: Ward) -> None:
    # The data stopped together. The alarm of bed 3 comes ten minutes later, because the patient was well.
    async def story() -> None:
        ward.hear(no_data(1), no_data(2))
        await ward.pass_time(10 * MINUTE)
        ward.hear(no_data(3))
        await ward.pass_time(5 * MINUTE - SECOND)
        assert ward.channels.sent == []
        await ward.pass_time(SECOND)

    lived(story)

    assert texts_of(ward.channels.sent) == ["** medium technical alarm, no data from 3 patients, North"]
    assert ward.desk.counts.slowest_first_ms == 0


def test_high_and_physiological_alarms_are_sent_at_once_whatever_outage_is_open(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        ward.hear(told(7, stay_id=f"{1:032x}"), no_data(4, priority=RED), no_data(3, priority=RED, revision=1))
        await ward.pass_time()

    lived(story)

    assert sorted(texts_of(ward.channels.sent)) == [
        "*** high alarm, bed 1, North",
        "*** high technical alarm, bed 3, North",
        "*** high technical alarm, bed 4, North",
    ]


def test_a_physiological_alarm_below_high_is_not_part_of_an_outage(ward: Ward) -> None:
    async def story() -> None:
        shocked = told(7, stay_id=f"{2:032x}", priority=AMBER, rule_id="shock_index")
        ward.hear(no_data(1), no_data(2), no_data(3), shocked)
        await ward.pass_time(15 * MINUTE)

    lived(story)

    assert sorted(texts_of(ward.channels.sent)) == [
        "** medium alarm, bed 2, North",
        "** medium technical alarm, no data from 3 patients, North",
    ]


@pytest.mark.slow
def test_an_answer_ends_the_calls_and_needs_no_confirmation_of_a_monitor(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        ward.desk.acknowledge(outage_id(ward), by="ben", revision=0)
        ward.wake()
        await ward.pass_time(2 * HOUR)

    lived(story)

    assert ward.channels.sent == []
    assert ward.desk.to_pass_on() == []
    found = ward.list()["several beds"]
    assert (found.acknowledged_by, found.confirmed, found.calling) == ("ben", True, False)


def test_an_answer_holds_while_the_outage_shrinks_and_ends_when_a_bed_joins(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3), no_data(4))
        ward.desk.acknowledge(outage_id(ward), by="ben", revision=0)
        ward.hear(back(4))
        await ward.pass_time(20 * MINUTE)
        assert ward.channels.sent == []
        ward.hear(no_data(5))
        await ward.pass_time(15 * MINUTE)

    lived(story)

    ((_, _, message),) = ward.channels.sent
    assert "North: no data from 4 of 9 patients since 22:13 UTC: bed 1, bed 2, bed 3, bed 5." in message.body


def test_a_silence_is_of_this_outage_and_ends(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        ward.desk.silence(outage_id(ward), by="anna", minutes=20, revision=0)
        await ward.pass_time(20 * MINUTE - SECOND)
        assert ward.channels.sent == []
        await ward.pass_time(SECOND)

    lived(story)

    assert ward.channels.calls[0] == ("anna", "push")
    assert ward.desk.to_pass_on() == []


def test_the_end_of_an_outage_is_sent_once_to_notified_people(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        await ward.pass_time(31 * MINUTE)
        assert {person for person, _ in ward.channels.calls} == {"anna", "ben"}
        ward.channels.sent.clear()
        ward.hear(back(1))
        ward.wake()
        await ward.pass_time(MINUTE)

    lived(story)

    ends = [one for one in ward.channels.sent if one[2].title == "** outage is over, North"]
    assert sorted(person for person, _, _ in ends) == ["anna", "ben"]
    assert "outage since 22:13 UTC is over; 2 of 9 patients still without data: bed 2, bed 3." in ends[0][2].body
    assert "several beds" not in ward.list()


def test_people_who_were_not_notified_get_no_end_message(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        await ward.pass_time(MINUTE)
        ward.hear(back(1), back(2), back(3))
        await ward.pass_time(HOUR)

    lived(story)

    assert ward.channels.sent == []


@pytest.mark.slow
def test_an_undeliverable_end_message_is_dropped_after_an_hour(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        await ward.pass_time(15 * MINUTE)
        ward.channels.broken = {"push"}
        ward.hear(back(1), back(2), back(3))
        await ward.pass_time(HOUR + 2 * MINUTE)

    lived(story)

    assert ward.book.query("SELECT fate FROM delivery WHERE key LIKE '%.over'") == [("stopped",)]


def test_who_is_left_when_an_outage_ends_is_called_for_as_if_there_had_been_none(ward: Ward) -> None:
    async def story() -> None:
        ward.hear(no_data(1), no_data(2), no_data(3))
        await ward.pass_time(14 * MINUTE)
        ward.hear(back(1))
        await ward.pass_time(MINUTE)

    lived(story)

    assert texts_of(ward.channels.sent) == [f"** medium technical alarm, bed {bed}, North" for bed in (2, 3)]


def test_a_long_list_of_beds_is_cut_and_counted(tmp_path: Path) -> None:
    ward = Ward(tmp_path, patients=None)
    ward.hear(*(no_data(bed) for bed in range(1, 41)))

    (text,) = [one.text for one in ward.list().values() if one.place == "several beds"]
    ward.book.close()

    assert text.startswith("North: no data from 40 patients since 22:13 UTC: bed 1, bed 2, ")
    assert text.endswith("bed 30 and 10 more")


def test_a_batch_that_cannot_be_written_leaves_no_outage_in_memory(ward: Ward) -> None:
    ward.hear(no_data(1), no_data(2))
    ward.book._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(CommitFailed):
        ward.hear(*(no_data(bed, text="x" * 400) for bed in range(3, 200)))
    ward.book._db.execute("PRAGMA max_page_count = 100000")

    ward.hear(no_data(3))

    assert ward.list()["several beds"].text.endswith("bed 1, bed 2, bed 3")


def test_an_edge_cannot_pass_an_alarm_off_as_an_outage(ward: Ward) -> None:
    from tests.stream.desk.alarms import BINDING, told_by_edge

    ward.hear(told_by_edge(alarm_id=bytes.fromhex(BINDING), rule_id="outage", text="HR 190"))

    (one,) = ward.desk.standing()
    assert not one.kept.is_outage


@pytest.mark.parametrize("open_beds", [2, 3])
def test_a_book_that_was_made_before_outages_is_read_and_its_alarms_become_one(ward: Ward, open_beds: int) -> None:
    ward.hear(*(no_data(bed) for bed in range(1, 4)), told(7, stay_id=f"{4:032x}"))
    ward.book.close()
    make_earlier(ward.folder / "desk.sqlite")
    with sqlite3.connect(ward.folder / "desk.sqlite") as earlier:
        rows = earlier.execute("SELECT alarm_id, body FROM alarm").fetchall()
        for alarm_id, body in rows:
            shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(body)[:6])  # six fields, as it was
            earlier.execute("UPDATE alarm SET body = ? WHERE alarm_id = ?", (shorter, alarm_id))
        earlier.execute("DELETE FROM alarm WHERE alarm_id NOT IN (?, ?, ?, ?)", [an_id(n) for n in (1, 2, 3, 7)])
        if open_beds == 2:
            earlier.execute("DELETE FROM alarm WHERE alarm_id = ?", (an_id(3),))
        earlier.executescript("DROP TABLE outages; UPDATE meta SET value = '1' WHERE key = 'desk'")
    earlier.close()
    del ward.book

    async def story() -> None:
        ward.wake()
        await ward.pass_time()
        assert texts_of(ward.channels.sent) == ["*** high alarm, bed 4, North"]
        ward.desk.acknowledge(an_id(7), by="anna", revision=0)
        await ward.pass_time(15 * MINUTE)

    lived(story)

    assert len(ward.channels.sent[1:]) == (1 if open_beds == 3 else 2)
    assert ward.book.query("SELECT value FROM meta WHERE key = 'desk'") == [("4",)]


def test_an_outage_that_is_over_before_the_next_turn_delays_no_call(ward: Ward) -> None:
    # The calls of bed 1 are due and refused when an outage begins, which stops them, and ends at once.
    async def story() -> None:
        ward.channels.broken = {"push", "sms", "call"}
        ward.hear(no_data(1))
        await ward.pass_time(15 * MINUTE)
        ward.hear(no_data(2), no_data(3))
        ward.hear(back(2), back(3))
        ward.channels.broken = set()
        await ward.pass_time(2 * SECOND)

    lived(story)

    assert ("anna", "push") in ward.channels.calls


def test_a_silence_of_an_earlier_version_that_may_have_been_of_one_sign_is_over(ward: Ward) -> None:
    ward.hear(no_data(1), no_data(2, key="spo2"))
    for alarm_id in (an_id(1), an_id(2)):
        ward.desk.silence(alarm_id, by="anna", minutes=60, revision=0)
    ward.book.close()
    make_earlier(ward.folder / "desk.sqlite")
    del ward.book

    ward.wake()

    assert {one.place.bed: one.calls for one in ward.desk.standing()} == {"1": False, "2": True}
