"""The store: writing twice is writing once, a transaction is all or nothing, and a bad file is said to be one."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.embedded.store import Store
from stream.errors import CommitFailed, FileUnusable
from stream.records import StayEndedRecord, decode_alarm_record
from stream.store.sqlite_record import STORE_FILE, SqliteRecord
from tests.vitals.stories import BINDING, HOUR, MINUTE, START, a_reading, steady
from vitals.messages import (
    AlarmChanged,
    AlarmState,
    Consciousness,
    Event,
    MonitoringEnded,
    Observation,
    ObservationRecorded,
    ReadingJudged,
    WindowClosed,
    WindowOutdated,
)
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from wire.receiver import SessionRow

BEFORE_7 = (
    "DROP TABLE observation; ALTER TABLE reading DROP COLUMN device; ALTER TABLE reading DROP COLUMN activity; "
    "ALTER TABLE news2 DROP COLUMN orders_version; ALTER TABLE alarm DROP COLUMN orders_version;"
)
BEFORE_6 = f"{BEFORE_7} ALTER TABLE alarm DROP COLUMN binding_ended;"
BEFORE_5 = f"{BEFORE_6} DROP TABLE edge_alarm; DROP TABLE edge_answer; ALTER TABLE alarm DROP COLUMN grade;"


BEFORE_4 = f"{BEFORE_5} DROP TABLE alarm_log; DELETE FROM meta WHERE key = 'alarm_log';"
BEFORE_3 = f"{BEFORE_4} ALTER TABLE alarm DROP COLUMN response;"
UNDO = {
    "6": BEFORE_7,
    "5": BEFORE_6,
    "4": BEFORE_5,
    "3": BEFORE_4,
    "2": BEFORE_3,
    "1": f"{BEFORE_3} DROP TABLE model_score;",
}


def a_story() -> list[Event]:
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    readings = [*steady(0, 5 * MINUTE, spo2=90, respiratory_rate=25), a_reading(6 * MINUTE, heart_rate=71)]
    return [event for reading in readings for event in monitor.on_reading(reading)]


def dump(store: Store) -> list[tuple[str, int]]:
    tables = ("reading", "news2", "vitals_window", "freshness", "alarm")
    return [(table, store.count(table)) for table in tables]


def half_a_commit(store: Store) -> None:
    with store.transaction():
        store.put_events(a_story())
        raise ZeroDivisionError


def more_than_fits(store: Store) -> None:
    with store.transaction():
        for n in range(200):
            store.put_states({f"{n:032x}": bytes(1_000)})


def test_writing_twice_is_writing_once(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        with store.transaction():
            store.put_events(a_story())
        once = dump(store)
        with store.transaction():
            store.put_events(a_story())

        assert dump(store) == once
        assert dict(once)["reading"] == 12


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        with pytest.raises(ZeroDivisionError):
            half_a_commit(store)

        assert set(dict(dump(store)).values()) == {0}


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    with Store(tmp_path / "store", max_pages=30) as store:
        with pytest.raises(CommitFailed, match="full") as caught:
            more_than_fits(store)

        assert str(tmp_path / "store") in str(caught.value)
        assert store.count("patient_state") == 0


@pytest.mark.parametrize(
    "content", [b"this is not a database, it is a letter" * 100, b"SQLite format 3\x00" + b"\xff" * 4_000]
)
def test_a_file_that_is_no_store_is_named_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_bytes(content)

    with pytest.raises(FileUnusable) as caught:
        Store(path)

    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE customer (name TEXT)",
        "CREATE TABLE meta (key TEXT, value TEXT)",
        "CREATE TABLE meta AS SELECT 'schema' AS key, 'seven' AS value",
    ],
)
def test_a_foreign_database_is_not_written_to(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    with sqlite3.connect(path) as theirs:
        theirs.execute(statement)
    theirs.close()

    with pytest.raises(FileUnusable):
        Store(path)

    with sqlite3.connect(path) as theirs:
        assert len(theirs.execute("SELECT 1 FROM sqlite_schema").fetchall()) == 1
    theirs.close()


def test_a_store_has_one_writer_and_any_number_of_readers(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        with pytest.raises(FileUnusable, match="is in use"):
            Store(tmp_path / "store")
        reader = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
        assert reader.execute("SELECT count(*) FROM reading").fetchone() == (0,)
        reader.close()

    Store(tmp_path / "store").close()


def test_a_store_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    Store(tmp_path / "store").close()
    with sqlite3.connect(tmp_path / "store") as later:
        later.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    later.close()

    with pytest.raises(FileUnusable, match="99"):
        Store(tmp_path / "store")


def test_a_store_from_before_edges_asked_models_is_taken_over(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store, store.transaction():
        store.put_states({"00": b"as it was"})
    with sqlite3.connect(tmp_path / "store") as earlier:
        earlier.executescript(
            "DROP TABLE model_score; ALTER TABLE alarm DROP COLUMN response; DROP TABLE alarm_log; "
            f"{BEFORE_5} "
            "UPDATE meta SET value = '1' WHERE key = 'schema'"
        )
    earlier.close()

    with Store(tmp_path / "store") as store:
        assert store.state("00") == b"as it was"
        assert store.count("model_score") == 0
        assert store.query("SELECT value FROM meta WHERE key = 'schema'") == [("7",)]


def test_a_store_from_before_the_alarm_desk_tells_it_of_the_alarms_that_are_open(tmp_path: Path) -> None:
    story = a_story()
    with Store(tmp_path / "store") as store, store.transaction():
        store.put_events(story)
    with sqlite3.connect(tmp_path / "store") as earlier:
        earlier.executescript(
            f"{BEFORE_5} DROP TABLE alarm_log; ALTER TABLE alarm DROP COLUMN response;"
            "DELETE FROM meta WHERE key = 'alarm_log'"
        )
        earlier.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
    earlier.close()
    newest = {one.alarm_id: one for one in story if isinstance(one, AlarmChanged)}
    standing = [one for one in newest.values() if one.state is AlarmState.ACTIVE or one.latched]

    with Store(tmp_path / "store") as store:
        found = [decode_alarm_record(body) for _, body in store.alarm_records(0, 100)]

    assert standing
    assert sorted(one.alarm.alarm_id for one in found) == sorted(one.alarm_id for one in standing)
    # An alarm of that time has no recommended response and no grade.
    earlier_fields = {"response": "", "grade": 0.0}
    assert all(one.alarm == msgspec.structs.replace(newest[one.alarm.alarm_id], **earlier_fields) for one in found)


def test_the_alarm_log_is_read_from_any_position_and_no_other_store_has_its_name(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store, store.transaction():
        store.put_events(a_story())
    with Store(tmp_path / "store") as store, Store(tmp_path / "other") as other:
        everything = store.alarm_records(0, 1_000)
        rest = store.alarm_records(everything[1][0], 1_000)

        assert rest == everything[1:]
        assert store.alarm_log_end() == everything[-1][0] + 1
        assert store.alarm_records(store.alarm_log_end(), 10) == []
        assert other.alarm_log_end() == 1
        assert store.alarm_log_id != other.alarm_log_id


def test_states_and_sessions_come_back_as_they_were(tmp_path: Path) -> None:
    row = SessionRow(
        session_id=b"s" * 16, sender=b"d" * 16, info=b"i" * 120, hpke=b"h" * 80, ranges=((0, 4), (7, 9)), last_ms=START
    )
    with Store(tmp_path / "store") as store, store.transaction():
        store.put_states({"a": b"1", "b": b"2"})
        store.put_states({"a": b"3"})
        store.put_sessions([row])

    with Store(tmp_path / "store") as store:
        assert list(store.states()) == [("a", b"3"), ("b", b"2")]
        assert store.state("c") is None
        assert list(store.sessions()) == [row]


def test_a_window_that_is_outdated_is_computed_again_from_the_readings(tmp_path: Path) -> None:
    story = a_story()
    window = next(event for event in story if isinstance(event, WindowClosed) and event.sign == "spo2")
    wrong = WindowClosed(
        stay_id=window.stay_id,
        sign="spo2",
        start_ms=window.start_ms,
        width_ms=window.width_ms,
        count=1,
        mean=1.0,
        minimum=1.0,
        maximum=1.0,
    )
    outdated = WindowOutdated(stay_id=window.stay_id, sign="spo2", start_ms=window.start_ms, width_ms=window.width_ms)
    with Store(tmp_path / "store") as store:
        with store.transaction():
            store.put_events([*story, wrong, outdated])
        found = store.query(
            "SELECT count, mean, minimum, maximum FROM vitals_window WHERE sign = 'spo2' AND start_ms = ?",
            (window.start_ms,),
        )

        assert found == [(window.count, window.mean, window.minimum, window.maximum)]


def test_rejections_are_added_up_by_device_and_reason(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        with store.transaction():
            store.count_reject("d1", "auth", START)
            store.count_reject("d1", "auth", START + 5, 3)
            store.count_reject("d2", "auth", START)

        assert store.query("SELECT device_id, count, last_ms FROM reject ORDER BY 1") == [
            ("d1", 4, START + 5),
            ("d2", 1, START),
        ]


def test_alarms_are_counted_once_by_their_worst_priority(tmp_path: Path) -> None:
    story = a_story()
    changes = [event for event in story if isinstance(event, AlarmChanged)]
    with Store(tmp_path / "store") as store:
        with store.transaction():
            store.put_events(story)
        counted = store.alarms_by_class()

    assert counted["medium news2"] == 1
    assert sum(counted.values()) == len({change.alarm_id for change in changes})


def test_a_store_from_before_alarms_had_a_response_is_taken_over(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store, store.transaction():
        store.put_events(a_story())
    with sqlite3.connect(tmp_path / "store") as earlier:
        earlier.executescript(
            "ALTER TABLE alarm DROP COLUMN response; DROP TABLE alarm_log; "
            f"{BEFORE_5} "
            "UPDATE meta SET value = '2' WHERE key = 'schema'"
        )
        alarms = earlier.execute("SELECT * FROM alarm ORDER BY alarm_id, revision").fetchall()
    earlier.close()
    assert alarms

    with Store(tmp_path / "store") as store:
        found = store.query("SELECT * FROM alarm ORDER BY alarm_id, revision")
        assert found == [(*row, "", 0.0, 0, 0) for row in alarms]
        with store.transaction():
            store.put_events([msgspec.structs.replace(one, revision=99) for one in a_story() if is_news2(one)][:1])
        ((response,),) = store.query("SELECT response FROM alarm WHERE revision = 99")
        assert response.startswith("urgent: tell the medical team now")


@pytest.mark.parametrize(
    ("schema", "undo", "added"),
    [
        ("6", BEFORE_7, (0,)),
        ("5", BEFORE_6, (0, 0)),
        ("4", BEFORE_5, (0.0, 0, 0)),
        ("3", BEFORE_4, (0.0, 0, 0)),
    ],
)
def test_a_store_of_an_earlier_version_is_taken_over(
    schema: str, undo: str, added: tuple[float, ...], tmp_path: Path
) -> None:
    with Store(tmp_path / "store") as store, store.transaction():
        store.put_events(a_story())
    with sqlite3.connect(tmp_path / "store") as earlier:
        earlier.executescript(f"{undo} UPDATE meta SET value = '{schema}' WHERE key = 'schema'")
        alarms = earlier.execute("SELECT * FROM alarm ORDER BY alarm_id, revision").fetchall()
    earlier.close()
    assert alarms

    with Store(tmp_path / "store") as store:
        assert store.query("SELECT * FROM alarm ORDER BY alarm_id, revision") == [(*row, *added) for row in alarms]
        assert store.query("SELECT value FROM meta WHERE key = 'schema'") == [("7",)]
        assert store.alarm_records(0, 1_000)
        taken_over = columns(store)
    with Store(tmp_path / "new") as store:
        assert taken_over == columns(store)


def an_observation(**changes: Any) -> ObservationRecorded:
    observed = Observation(
        stay_id=BINDING,
        observation_id=b"o" * 16,
        by="anna",
        at_ms=START,
        entered_ms=START + 1,
        heard_ms=START + 2,
        consciousness=Consciousness.CONFUSION,
        temperature=38.5,
        glucose=5.5,
        off_until_ms=START + HOUR,
        note="tired",
    )
    return ObservationRecorded(observation=msgspec.structs.replace(observed, **changes), late=False, refused="")


def test_what_people_observed_and_which_device_measured_is_read_as_it_was_written(tmp_path: Path) -> None:
    first, correction = an_observation(), an_observation(observation_id=b"p" * 16, corrects=b"o" * 16, edge="e1")
    of_oximeter = msgspec.structs.replace(a_reading(0, spo2=91), binding_id="0d" * 16, activity=3)
    with Store(tmp_path / STORE_FILE) as store, store.transaction():
        store.put_events([first, correction, first])
        store.put_events([ReadingJudged(reading=of_oximeter, late=False, backfilled=False)])

    with SqliteRecord(tmp_path / STORE_FILE) as record:
        assert record.stays() == [BINDING]
        assert list(record.observations(BINDING)) == [first, correction]
        assert list(record.readings(BINDING)) == [of_oximeter]
        assert record.rows_of(BINDING) == 3


@pytest.mark.parametrize("schema", ["1", "2", "3", "4", "5", "6"])
def test_a_record_of_an_earlier_version_is_read(schema: str, tmp_path: Path) -> None:
    with Store(tmp_path / STORE_FILE) as store, store.transaction():
        store.put_events(a_story())
    with sqlite3.connect(tmp_path / STORE_FILE) as earlier:
        earlier.executescript(f"{UNDO[schema]} UPDATE meta SET value = '{schema}' WHERE key = 'schema'")
    earlier.close()

    with SqliteRecord(tmp_path / STORE_FILE) as record:
        assert record.stays() == [BINDING]
        assert [one.binding_id for one in record.readings(BINDING)] == [""] * len(steady(0, 5 * MINUTE)) + [""]
        assert list(record.observations(BINDING)) == []
        assert list(record.scores(BINDING))
        assert len(list(record.alarms(BINDING))) == sum(isinstance(one, AlarmChanged) for one in a_story())


def columns(store: Store) -> dict[str, list[str]]:
    """The columns of each table, in their order: rows are written by place."""
    tables = store.query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    return {name: [row[1] for row in store.query(f"PRAGMA table_info({name})")] for (name,) in tables}


def is_news2(event: Event) -> bool:
    return isinstance(event, AlarmChanged) and event.rule_id == "news2"


def test_two_links_to_one_store_are_one_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")

    with Store(tmp_path / "store"), pytest.raises(FileUnusable, match="is in use"):
        Store(tmp_path / "link")


def test_the_alarm_log_loses_what_is_old_and_never_what_is_open_or_newest(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        with store.transaction():
            store.put_events(a_story())
        records = [(seq, decode_alarm_record(body).alarm) for seq, body in store.alarm_records(0, 1_000)]
        an_open = records[0][1].alarm_id
        end = store.alarm_log_end()
        later_ms = max(alarm.at_ms for _, alarm in records) + 1
        with store.transaction():
            assert store.prune_alarm_log(before_ms=0, open_alarms=()) == 0
            deleted = store.prune_alarm_log(before_ms=later_ms, open_alarms={an_open})
        left = [seq for seq, _ in store.alarm_records(0, 1_000)]

        assert left == [seq for seq, alarm in records if alarm.alarm_id == an_open or seq == records[-1][0]]
        assert deleted == len(records) - len(left) > 0
        assert store.alarm_log_end() == end


def test_the_alarm_log_loses_the_old_end_of_a_binding(tmp_path: Path) -> None:
    ended = MonitoringEnded(stay_id=BINDING, at_ms=START + HOUR, ended_ms=START + HOUR)
    with Store(tmp_path / "store") as store:
        with store.transaction():
            store.put_events([ended, *a_story()])
        with store.transaction():
            assert store.prune_alarm_log(before_ms=ended.at_ms, open_alarms=()) == 0
            assert store.prune_alarm_log(before_ms=ended.at_ms + 1, open_alarms=()) > 0
        left = [decode_alarm_record(body) for _, body in store.alarm_records(0, 1_000)]

    assert not any(isinstance(record, StayEndedRecord) for record in left)
