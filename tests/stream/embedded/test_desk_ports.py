"""The embedded side of the desk's ports: edge-found alarms, a full disk, a kill, a store that was replaced."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from stream.desk.ports import LogPosition
from stream.embedded.desk_ports import StoreAlarmSource
from stream.errors import AlarmSourceLost, CommitFailed
from stream.records import AnswerRecord, EdgeAlarmRecord, decode_alarm_record
from tests.stream.receiving_site import NOW, SECOND, Site
from vitals.messages import Acknowledge, AlarmChanged
from wire.answers import open_answer
from wire.codec import EdgeAlarmV1, encode
from wire.envelope import FrameClass


def test_an_alarm_that_an_edge_found_is_in_the_log_once_with_the_frame_it_came_in(tmp_path: Path) -> None:
    site = Site(tmp_path)
    session = site.session(0, FrameClass.ALARM)
    found = EdgeAlarmV1(
        alarm_id=b"a" * 16,
        rule_id="news2",
        key="",
        kind="physiological",
        priority=3,
        state="active",
        at_ms=NOW,
        onset_ms=NOW,
        revision=0,
        text="NEWS2 7",
    )
    frame = session.seal(encode(found))[1]

    site.accept(session.frame, frame)
    site.accept(frame)

    ((_, body),) = site.store.alarm_records(0, 10)
    record = decode_alarm_record(body)
    assert isinstance(record, EdgeAlarmRecord)
    assert (record.alarm, record.stay_id) == (found, site.demo.bindings[0].binding_id.hex())
    assert (record.frame.edge_id, record.frame.session_id) == (site.edge.me.device_id, session.session_id)


def test_an_answer_to_what_only_an_edge_has_found_survives_a_restart_until_the_edge_says_that_it_is_over(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    session = site.session(0, FrameClass.ALARM)
    found = EdgeAlarmV1(
        alarm_id=b"a" * 16,
        rule_id="news2",
        key="",
        kind="physiological",
        priority=3,
        state="active",
        at_ms=NOW,
        onset_ms=NOW,
        revision=0,
        text="NEWS2 7",
        grade=7.0,
    )
    binding_id = site.demo.bindings[0].binding_id.hex()
    order = Acknowledge(stay_id=binding_id, alarm_id=found.alarm_id, by="anna", at_ms=NOW + SECOND)

    def told() -> list[tuple[bytes, int]]:
        """Alarm and grade of the answers that go out after a heartbeat."""
        frames: list[bytes] = []
        site.stream._edge_answers.edge_heard(site.edge.me.device_id)
        site.stream.send_answers_to_edges(lambda _topic, frame: frames.append(frame) is None)
        key = site.demo.ingest.me.signing_key.public_key()
        return [
            (one.alarm_id, one.grade) for one in (open_answer(frame, site.edge.me.device_id, key) for frame in frames)
        ]

    async def answer() -> None:
        answering = asyncio.create_task(site.stream.put_entry(AnswerRecord(message=order)))
        await asyncio.sleep(0)
        site.stream.apply_entries()
        await answering

    site.accept(session.frame, session.seal(encode(found))[1])
    asyncio.run(answer())
    assert told() == [(found.alarm_id, 7)]
    site.restart()
    assert told() == told() == [(found.alarm_id, 7)]

    site.accept(session.frame, session.seal(encode(replace(found, grade=9.0, revision=1)))[1])
    assert told() == []  # it is worse than what was answered
    site.restart()
    assert told() == []
    site.accept(session.frame, session.seal(encode(replace(found, state="cleared", revision=2)))[1])
    assert (site.store.count("edge_alarm"), site.store.count("edge_answer")) == (0, 0)


def test_an_answer_waits_while_the_disk_is_full_and_is_applied_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, alarm = a_site_with_an_alarm(tmp_path)
    commit = type(site.store).put_states

    def full(*_: object) -> None:
        raise CommitFailed(site.store.path, "disk full")

    async def story() -> None:
        monkeypatch.setattr(type(site.store), "put_states", full)
        answering = asyncio.create_task(site.stream.put_entry(an_answer(alarm)))
        await asyncio.sleep(0)
        site.stream.apply_entries()
        assert not answering.done()
        assert site.stream.counts.failed_commits == 1
        monkeypatch.setattr(type(site.store), "put_states", commit)
        site.stream.apply_entries()
        await answering

    asyncio.run(story())

    assert site.alarms[-1].acknowledged_by == "anna"
    assert site.stream.counts.entries == 1


def test_an_answer_that_was_not_committed_when_the_process_died_is_put_again(tmp_path: Path) -> None:
    site, alarm = a_site_with_an_alarm(tmp_path)

    async def killed() -> None:
        answering = asyncio.create_task(site.stream.put_entry(an_answer(alarm)))
        await asyncio.sleep(0)
        answering.cancel()  # the process ends: nobody was told that it is durable
        with contextlib.suppress(asyncio.CancelledError):
            await answering

    async def again() -> None:
        for _ in range(2):  # the second time after a kill between the commit and the desk's note of it
            answering = asyncio.create_task(site.stream.put_entry(an_answer(alarm)))
            await asyncio.sleep(0)
            site.stream.apply_entries()
            await answering

    asyncio.run(killed())
    site.restart()
    asyncio.run(again())

    acknowledged = site.rows("SELECT revision FROM alarm WHERE acknowledged_by = 'anna'")
    assert len(acknowledged) == 1


def test_a_position_in_another_store_is_no_position_in_this_one(tmp_path: Path) -> None:
    site, alarm = a_site_with_an_alarm(tmp_path)
    asked = []

    def positions(log: str) -> dict[int, LogPosition]:
        asked.append(log)
        return {0: LogPosition(1_000_000, None)}

    async def first() -> list[bytes]:
        async with contextlib.aclosing(StoreAlarmSource(site.store).batches(positions)) as batches:
            batch = await anext(batches)
            return [one.record.alarm.alarm_id for one in batch.records if one.record is not None]

    assert alarm.alarm_id in asyncio.run(first())  # beyond the end: all of it is read
    assert asked == [site.store.alarm_log_id]


def test_an_empty_log_leaves_the_event_loop_to_others(tmp_path: Path) -> None:
    site = Site(tmp_path)
    turns = 0

    async def read() -> None:
        async with contextlib.aclosing(StoreAlarmSource(site.store).batches(lambda _: {})) as batches:
            for _ in range(2):
                batch = await anext(batches)
                assert (batch.records, batch.is_current, batch.lag) == ([], True, {"0": 0})

    async def story() -> None:
        nonlocal turns
        reading = asyncio.create_task(read())
        while not reading.done():
            turns += 1
            await asyncio.sleep(0.01)
        await reading

    asyncio.run(story())

    assert turns > 5


def a_site_with_an_alarm(folder: Path) -> tuple[Site, AlarmChanged]:
    site = Site(folder)
    site.begin()
    site.send(site.message(0, respiratory_rate=26.0, spo2=90.0))
    return site, next(one for one in site.alarms if one.rule_id == "news2")


def an_answer(alarm: AlarmChanged) -> AnswerRecord:
    return AnswerRecord(
        message=Acknowledge(
            stay_id=alarm.stay_id,
            alarm_id=alarm.alarm_id,
            by="anna",
            at_ms=NOW + SECOND,
            revision=alarm.revision,
        )
    )


def test_a_log_that_cannot_be_read_is_a_lost_source_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)

    def failing(*_: object) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(type(site.store), "alarm_log_end", failing)

    async def read() -> None:
        async for _ in StoreAlarmSource(site.store).batches(lambda _: {}):
            pass

    with pytest.raises(AlarmSourceLost, match="disk I/O error"):
        asyncio.run(read())
