"""The alarm desk with a clock that a test moves and channels that a test holds: who is called, and until when."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.clock import ManualClock
from stream.config import DeskConfig
from stream.desk.book import DeskBook
from stream.desk.desk import AlarmDesk, Place
from stream.desk.notify import Address, Addresses, Notifier
from stream.desk.ports import SourceRecord
from stream.desk.texts import Message
from stream.errors import CommitFailed, FileUnusable, NoSuchAlarm, NotificationNotAccepted
from stream.records import AlarmLogRecord, StayEndedRecord
from tests.stream.desk.alarms import AMBER, BINDING, MINUTE, NOW, RED, SECOND, an_id, told, told_by_edge
from vitals.messages import Acknowledge, AlarmState, Silence

ROLES = {"nurse": ("anna",), "second": ("ben",), "lead": ("dora",), "everyone": ("anna", "ben", "dora")}


class Held(Notifier):
    """Channels in a test's hand: those of `broken` fail, those of `stuck` never answer."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Message]] = []
        self.tried: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.stuck: set[str] = set()

    async def send(self, address: Address, message: Message, *, name: object = None) -> None:
        self.tried.append((address.person, address.channel))
        if address.channel in self.stuck:
            await asyncio.Event().wait()
        if address.channel in self.broken:
            raise NotificationNotAccepted(f"{address}: broken")
        self.sent.append((address.person, address.channel, message))

    @property
    def calls(self) -> list[tuple[str, str]]:
        return [(person, channel) for person, channel, _ in self.sent]


class Night:
    """A desk, its people, and time."""

    def __init__(self, folder: Path, **wishes: Any) -> None:
        path = folder / "addresses.toml"
        ways = "".join(f'{way} = "json://localhost/{way}"\n' for way in ("push", "sms", "call"))
        path.write_text("".join(f"[{person}]\n{ways}" for person in ("anna", "ben", "dora")), encoding="utf-8")
        path.chmod(0o600)
        self.folder, self.clock, self.channels = folder, ManualClock(NOW), Held()
        self.config = DeskConfig(roles=ROLES, addresses=path, **wishes)
        self.offset = 0
        self.wake()

    def wake(self) -> None:
        """As after a kill: what is not in the book is forgotten."""
        if hasattr(self, "book"):
            self.book.close()
        self.book = DeskBook(self.folder / "desk.sqlite")
        self.desk = AlarmDesk(
            self.config,
            self.book,
            Addresses(self.config.addresses),
            self.clock,
            notifier=self.channels,
            place_of=lambda _: Place("12", "P-1"),
        )

    def set_roles(self, roles: dict[str, tuple[str, ...]]) -> None:
        self.desk.set_people(roles, Addresses(self.config.addresses))

    def hear(self, *records: AlarmLogRecord) -> None:
        reads = []
        for record in records:
            reads.append(SourceRecord("alarms", 0, self.offset, record))
            self.offset += 1
        self.desk.hear(reads)

    async def pass_time(self, ms: int = 0) -> None:
        """Turn by turn, a second each."""
        for step in [0, *[SECOND] * (ms // SECOND)]:
            self.clock.advance(step)
            for _ in range(4):  # a failure calls for the next channel at once
                self.desk.turn()
                for _ in range(4):
                    await asyncio.sleep(0)


@pytest.fixture
def night(tmp_path: Path) -> Any:
    made = Night(tmp_path)
    yield made
    made.book.close()


def lived(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(whole())


def test_a_red_alarm_climbs_until_somebody_answers(night: Night) -> None:
    async def story() -> None:
        night.hear(told())
        await night.pass_time(2 * MINUTE)
        assert night.channels.calls == [("anna", "push"), ("anna", "sms"), ("anna", "call"), ("ben", "push")]
        night.desk.acknowledge(an_id(), by="ben", revision=0)
        await night.pass_time(30 * MINUTE)

    lived(story)

    assert len(night.channels.sent) == 4
    assert night.desk.counts.slowest_first_ms == 0


ENDED = StayEndedRecord(stay_id=BINDING, ended_ms=NOW + MINUTE, at_ms=NOW + MINUTE)


@pytest.mark.parametrize("by_edge", [False, True])
def test_the_end_of_a_binding_ends_calls_and_says_so(night: Night, by_edge: bool) -> None:
    async def story() -> None:
        night.hear(told_by_edge() if by_edge else told())
        await night.pass_time(MINUTE)
        assert night.channels.calls == [("anna", "push"), ("anna", "sms")]
        if not by_edge:  # the data centre ends what it has found itself
            night.hear(
                told(revision=1, state=AlarmState.CLEARED, stay_ended=True, text="monitoring ended at 08:01 UTC")
            )
        night.hear(ENDED)
        night.wake()
        await night.pass_time(30 * MINUTE)

    lived(story)

    assert len(night.channels.sent) == 2
    assert night.desk.standing() == []
    kept = night.book.alarms.get(an_id())
    assert kept is not None
    assert kept.alarm.text.startswith("monitoring ended at ")
    assert (kept.alarm.stay_ended, kept.alarm.state, kept.answered_by) == (True, AlarmState.CLEARED, None)


def test_what_was_under_way_when_a_binding_ended_calls_nobody(night: Night) -> None:
    async def story() -> None:
        night.hear(ENDED)
        night.wake()
        night.hear(told_by_edge(), told(2), told_by_edge(3, state="cleared"))
        await night.pass_time(30 * MINUTE)

    lived(story)

    assert night.channels.sent == []
    assert night.desk.standing() == []


def test_the_end_of_a_binding_ends_no_alarm_of_another(night: Night) -> None:
    async def story() -> None:
        night.hear(told(), StayEndedRecord(stay_id="ff" * 16, ended_ms=NOW, at_ms=NOW))
        await night.pass_time()

    lived(story)

    assert night.channels.calls == [("anna", "push")]


def test_a_message_says_bed_and_priority_and_no_name_and_no_value(night: Night) -> None:
    async def story() -> None:
        night.hear(told())
        await night.pass_time()

    lived(story)

    ((_, _, message),) = night.channels.sent
    assert message.title == "*** high alarm, bed 12"
    assert message.body.splitlines() == [
        "*** HIGH alarm: bed 12.",
        "Since 22:13 UTC, 0 s ago. Alarm 00000001.",
        "Open the ward to see why.",
        "Decision support and secondary notification. Not a certified medical device.",
    ]


def test_values_are_said_where_a_site_wants_that(tmp_path: Path) -> None:
    night = Night(tmp_path, detail="values", site_name="North", where="https://ward.example")

    async def story() -> None:
        night.hear(told())
        await night.pass_time()

    lived(story)
    night.book.close()

    ((_, _, message),) = night.channels.sent
    assert "NEWS2 7: RR 26 (+3)" in message.body
    assert "Open the ward to see why: https://ward.example" in message.body
    assert message.title == "*** high alarm, bed 12, North"


def test_the_next_channel_is_taken_at_once_and_the_broken_one_tried_again(night: Night) -> None:
    async def story() -> None:
        night.channels.broken = {"push"}
        night.hear(told())
        await night.pass_time()
        assert night.channels.calls == [("anna", "sms")]
        night.channels.broken = set()
        await night.pass_time(2 * SECOND)

    lived(story)

    assert night.channels.calls == [("anna", "sms"), ("anna", "push")]


def test_when_every_channel_is_broken_each_is_tried_again_and_again(night: Night) -> None:
    async def story() -> None:
        night.channels.broken = {"push", "sms", "call"}
        night.hear(told())
        await night.pass_time(MINUTE)
        assert night.channels.sent == []
        night.channels.broken = set()
        await night.pass_time(MINUTE - SECOND)

    lived(story)

    assert sorted(night.channels.calls) == [("anna", "call"), ("anna", "push"), ("anna", "sms")]
    assert night.desk.counts.failed["push"] == 5  # after 0, 2, 6, 14, 30 s


def test_a_channel_that_never_answers_holds_up_nobody(night: Night) -> None:
    async def story() -> None:
        night.channels.stuck = {"push"}
        night.hear(told())
        await night.pass_time(30 * SECOND)
        assert night.channels.calls == [("anna", "sms")]

    lived(story)


def test_a_kill_at_any_turn_neither_loses_nor_doubles_an_alarm(night: Night) -> None:
    async def story() -> None:
        night.hear(told())
        night.wake()
        await night.pass_time()
        assert night.channels.calls == [("anna", "push")]
        night.wake()
        night.offset = 0
        night.hear(told())  # the log says it again
        await night.pass_time(29 * SECOND)

    lived(story)

    assert night.channels.calls == [("anna", "push")]
    assert night.book.positions.of("alarms")[0].next == 1
    assert night.book.query("SELECT count(*) FROM alarm") == [(1,)]


def test_a_notification_without_recorded_result_is_sent_again(night: Night) -> None:
    async def story() -> None:
        night.channels.stuck = {"push"}
        night.hear(told())
        await night.pass_time()
        assert night.book.query("SELECT tries, begun_ms, fate FROM delivery") == [(1, NOW, "waiting")]
        night.channels.stuck = set()
        night.wake()
        await night.pass_time()

    lived(story)

    assert night.channels.calls == [("anna", "push")]
    assert night.book.query("SELECT tries, fate FROM delivery") == [(2, "sent")]


def test_an_answer_survives_and_goes_to_the_log_until_it_is_confirmed(night: Night) -> None:
    async def story() -> None:
        night.hear(told(revision=3))
        night.desk.acknowledge(an_id(), by="anna", revision=3)
        night.wake()
        (pending,) = night.desk.to_pass_on()
        order = Acknowledge(stay_id=BINDING, alarm_id=an_id(), by="anna", at_ms=NOW, revision=3, priority=RED)
        assert pending.entry.message == order
        night.desk.passed_on(pending)
        assert night.desk.to_pass_on() == []
        night.clock.advance(MINUTE)
        (again,) = night.desk.to_pass_on()  # a log that was lost has not heard it
        assert again.entry_id == pending.entry_id
        night.hear(told(revision=4, acknowledged_by="anna", acknowledged_ms=NOW))
        night.clock.advance(MINUTE)
        assert night.desk.to_pass_on() == []
        await night.pass_time(10 * MINUTE)

    lived(story)

    assert night.channels.sent == []
    (one,) = night.desk.standing()
    assert one.kept.is_confirmed


def test_a_silence_survives_and_ends_and_red_breaks_through(night: Night) -> None:
    async def story() -> None:
        night.hear(told(priority=AMBER))
        active_silence = night.desk.silence(an_id(), by="anna", minutes=20, revision=0)
        (pending,) = night.desk.to_pass_on()
        assert pending.entry.message == Silence(
            stay_id=BINDING,
            rule_id="news2",
            key="",
            by="anna",
            at_ms=NOW,
            until_ms=active_silence.until_ms,
            priority=AMBER,
        )
        night.wake()
        await night.pass_time(16 * MINUTE)
        assert night.channels.sent == []
        night.hear(told(revision=1, priority=RED))
        await night.pass_time()

    lived(story)

    assert night.channels.calls == [("anna", "push")]


def test_an_unconfirmed_silence_expires(night: Night) -> None:
    async def story() -> None:
        night.hear(told(priority=AMBER, rule_id="shock_index"))
        night.desk.silence(an_id(), by="anna", minutes=20, revision=0)
        await night.pass_time(20 * MINUTE - SECOND)
        assert night.channels.sent == []
        await night.pass_time(SECOND)

    lived(story)

    # The ladder has run on meanwhile, and by now every channel of its first step is due.
    assert night.channels.calls == [("anna", "push"), ("anna", "sms"), ("anna", "call")]


def test_ended_alarms_stop_notifying_and_unseen_ones_stay_listed(night: Night) -> None:
    async def story() -> None:
        night.hear(told(1), told(2, rule_id="low_spo2"))
        night.channels.broken = {"push", "sms", "call"}
        await night.pass_time()
        night.channels.broken = set()
        night.hear(told(1, revision=1, state=AlarmState.CLEARED, latched=True))
        night.hear(told(2, revision=1, state=AlarmState.CLEARED, rule_id="low_spo2"))
        await night.pass_time(10 * MINUTE)

    lived(story)

    assert night.channels.sent == []
    assert [one.kept.alarm.alarm_id for one in night.desk.standing()] == [an_id(1)]
    with pytest.raises(NoSuchAlarm):
        night.desk.acknowledge(an_id(2), by="anna", revision=1)


def test_an_edge_and_the_data_centre_call_once(night: Night) -> None:
    async def story() -> None:
        night.hear(told_by_edge())
        await night.pass_time(5 * SECOND)
        night.hear(told())
        await night.pass_time(5 * SECOND)

    lived(story)

    assert night.channels.calls == [("anna", "push")]


def test_a_crowd_below_red_becomes_a_digest_and_red_passes_it(night: Night) -> None:
    async def story() -> None:
        crowd = [told(one, stay_id=f"{one:032x}", priority=AMBER, rule_id="shock_index") for one in range(1, 16)]
        night.hear(*crowd)
        night.hear(told(99, stay_id=f"{99:032x}"))
        await night.pass_time()
        assert night.channels.calls == [("anna", "push")]  # red, at once; the others have a quarter of an hour
        await night.pass_time(15 * MINUTE)

    lived(story)

    messages = [message for person, _, message in night.channels.sent if person == "anna" and message.priority is AMBER]
    assert len(messages) <= 10
    assert messages[0].title == "** 15 alarms"
    assert messages[0].body.count("** bed 12") == 15
    assert night.desk.counts.digests


def test_a_role_without_people_is_skipped_at_once_and_reported(night: Night) -> None:
    async def story() -> None:
        night.set_roles({"second": ("ben",)})
        night.hear(told())
        await night.pass_time(2 * MINUTE)

    lived(story)

    assert night.channels.calls == [("ben", "push")]
    assert night.desk.counts.no_address == 3  # push, sms and call of the nurse


def test_a_change_of_shift_counts_from_the_next_call_on(night: Night) -> None:
    async def story() -> None:
        night.hear(told())
        await night.pass_time()
        night.set_roles(ROLES | {"second": ("dora",)})
        await night.pass_time(2 * MINUTE)

    lived(story)

    assert night.channels.calls[-1] == ("dora", "push")


def test_old_ended_alarms_are_deleted(night: Night) -> None:
    async def story() -> None:
        night.hear(told(1), told(2, rule_id="other"))
        await night.pass_time()
        night.hear(told(1, revision=1, state=AlarmState.CLEARED))
        night.clock.advance(91 * 24 * 60 * MINUTE)
        await night.pass_time()

    lived(story)

    assert night.book.query("SELECT DISTINCT alarm_id FROM alarm") == [(an_id(2),)]
    assert night.book.query("SELECT DISTINCT alarm_id FROM delivery") == [(an_id(2),)]


def test_a_full_disk_is_reported_and_commits_nothing_partly(night: Night) -> None:
    async def story() -> None:
        reserve = night.folder / "desk.sqlite.reserve"
        assert reserve.stat().st_size == 8 << 20
        night.book._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(CommitFailed, match="reserve of 8 MiB is in use now; free disk space"):
            night.hear(*(told(number, rule_id=f"rule{number}") for number in range(1, 200)))
        assert night.book.positions.of("alarms") == {}
        assert not reserve.exists()  # what it held is free for the next alarm
        night.book._db.execute("PRAGMA max_page_count = 100000")
        night.hear(told())
        await night.pass_time()

    lived(story)

    assert night.channels.calls == [("anna", "push")]


def test_two_desks_on_one_book_would_call_everybody_twice(night: Night) -> None:
    with pytest.raises(FileUnusable, match="two desks would notify people twice"):
        DeskBook(night.folder / "desk.sqlite")


def test_a_database_of_something_else_is_not_a_book(tmp_path: Path) -> None:
    from stream.embedded.store import Store

    Store(tmp_path / "store.sqlite").close()

    with pytest.raises(FileUnusable, match="schema none of a desk"):
        DeskBook(tmp_path / "store.sqlite")


def test_of_a_storm_every_red_alarm_has_a_recorded_attempt_within_its_second(night: Night) -> None:
    async def story() -> None:
        night.channels.stuck = {"push", "sms", "call"}
        night.hear(*(told(number, stay_id=f"{number:032x}") for number in range(1, 301)))
        await night.pass_time()

    lived(story)

    ((alarms, first_ms, last_ms),) = night.book.query(
        "SELECT count(DISTINCT alarm_id), min(begun_ms), max(begun_ms) FROM delivery"
    )
    assert (alarms, first_ms, last_ms) == (300, NOW, NOW)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_desk_that_is_killed_between_any_two_things_calls_as_one_that_is_not(tmp_path: Path, seed: int) -> None:
    def told_of(kills: bool) -> tuple[list[tuple[str, str, Message]], list[Any]]:
        folder = tmp_path / f"kills-{kills}"
        folder.mkdir()
        night, draw = Night(folder), random.Random(seed)

        async def story() -> None:
            revisions: dict[int, int] = {}
            for _ in range(40):
                number = draw.randint(1, 4)
                step = draw.choice(("hear", "hear", "edge", "answer", "silence", "break", "pass", "pass"))
                if step in ("hear", "edge"):
                    revisions[number] = revisions.get(number, -1) + 1
                    state = draw.choice((AlarmState.ACTIVE, AlarmState.ACTIVE, AlarmState.ACTIVE, AlarmState.CLEARED))
                    changes: dict[str, Any] = {"rule_id": f"rule{number % 2}", "revision": revisions[number]}
                    if step == "edge":
                        night.hear(told_by_edge(number, state=state.value, **changes))
                    else:
                        priority = draw.choice((AMBER, RED))
                        night.hear(told(number, state=state, priority=priority, **changes))
                elif step in ("answer", "silence"):
                    for one in night.desk.standing()[:1]:
                        alarm = one.kept.alarm
                        if step == "answer":
                            night.desk.acknowledge(alarm.alarm_id, by="anna", revision=alarm.revision)
                        elif one.kept.is_active:
                            night.desk.silence(alarm.alarm_id, by="anna", minutes=3, revision=alarm.revision)
                elif step == "break":
                    night.channels.broken = set(draw.sample(["push", "sms", "call"], draw.randint(0, 3)))
                else:
                    await night.pass_time(draw.choice((SECOND, 20 * SECOND, 2 * MINUTE)))
                if kills:
                    night.wake()
                active = night.book.query("SELECT binding_id, rule_id, key FROM alarm WHERE active")
                assert len(active) == len(set(active))  # one alarm a condition

        lived(story)
        kept = night.book.query("SELECT key, person, tries, fate FROM delivery ORDER BY key, person")
        kept += night.book.query("SELECT alarm_id, body FROM wish ORDER BY wish_id")
        night.book.close()
        return night.channels.sent, kept

    sent, kept = told_of(kills=False)

    assert (sent, kept) == told_of(kills=True)
    assert kept


def test_a_message_says_what_is_recommended(night: Night) -> None:
    async def story() -> None:
        night.hear(told(response="emergency: tell the medical team now"))
        await night.pass_time()

    lived(story)

    ((_, _, message),) = night.channels.sent
    assert message.body.splitlines()[2] == "Recommended: emergency: tell the medical team now."


@pytest.mark.slow
def test_a_receipt_counts_at_every_step_of_the_ladder_of_a_rule(tmp_path: Path) -> None:
    # The ladder of this rule has a step more than that of its priority.
    night = Night(tmp_path, receipts=("push",))

    async def story() -> None:
        night.hear(told(priority=AMBER, rule_id="news2"))
        await night.pass_time(61 * MINUTE)

    lived(story)
    night.book.close()

    last = [("dora", "push"), ("dora", "sms"), ("dora", "call")]  # every channel at once
    assert night.channels.calls == [("anna", "push"), ("ben", "push"), ("dora", "push"), *last]


def test_a_silence_that_another_desk_set_ends_by_this_desk_s_time(night: Night) -> None:
    night.clock.set_wall(NOW - 60 * MINUTE)

    async def story() -> None:
        night.hear(told(silenced_until_ms=NOW - 50 * MINUTE))
        await night.pass_time(10 * MINUTE - SECOND)
        assert night.channels.sent == []
        await night.pass_time(SECOND)

    lived(story)

    assert night.channels.calls == [("anna", "push")]


def test_a_login_ends_by_the_wall_clock(night: Night) -> None:
    with night.book.transaction():
        night.book.sessions.put(b"digest", "anna", NOW - 30 * MINUTE)
    night.clock.set_wall(NOW - 60 * MINUTE)
    night.desk.turn()

    assert night.book.sessions.get(b"digest") is not None


def test_a_clock_that_was_set_right_is_no_problem_any_more(night: Night) -> None:
    watch = night.desk.clock_watch
    watch.hear(NOW + 60 * MINUTE)
    assert "3600 s behind" in watch.problem()

    night.clock.set_wall(NOW + 60 * MINUTE)
    watch.look()

    assert watch.problem() == ""
