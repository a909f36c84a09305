"""The store in one file: readings, scores, windows, alarms, patient states, counters, in SQLite.

One connection, one transaction a commit. Every row has a key, so that a repeated write changes nothing. Patients appear
as stays, never as names; the columns that hold a stay are called `binding_id`, as its first binding has the same id.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from stream.errors import FileUnusable
from stream.ingest.ledger import SESSION_TABLES, SessionFile
from stream.records import (
    AlarmLogRecord,
    AlarmRecord,
    EdgeAlarmRecord,
    StayEndedRecord,
    decode_alarm_record,
    encode_record,
    ended_record,
)
from vitals.messages import (
    AlarmChanged,
    AlarmState,
    Event,
    FreshnessChanged,
    ModelScored,
    MonitoringEnded,
    News2Scored,
    ObservationRecorded,
    ReadingJudged,
    WindowClosed,
    WindowOutdated,
)
from vitals.news2 import risk_text
from vitals.signs import INDEX, SIGNS, VitalSign
from wire.errors import DecodeError

SCHEMA: Final = 7

_VALUES: Final = tuple(spec.sign.value for spec in SIGNS)
_MODEL_SCORE: Final = """CREATE TABLE model_score (
    binding_id TEXT NOT NULL, model TEXT NOT NULL, at_ms INTEGER NOT NULL, reading_id BLOB NOT NULL,
    received_ms INTEGER NOT NULL, arrived_ms INTEGER, version TEXT NOT NULL,
    score REAL,                          -- NULL: the model abstained, see reason
    threshold REAL NOT NULL, reason TEXT NOT NULL, late INTEGER NOT NULL, backfilled INTEGER NOT NULL,
    PRIMARY KEY (binding_id, model, at_ms)) STRICT, WITHOUT ROWID;"""
_ALARM_LOG: Final = """CREATE TABLE alarm_log (  -- every alarm record in the order of commits, for the alarm desk
    seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL  -- stream.records.AlarmLogRecord
    ) STRICT;"""
_EDGE_ALARMS: Final = """CREATE TABLE edge_alarm (  -- alarms that are open at an edge, as it last told of them
    alarm_id BLOB PRIMARY KEY, arrived_ms INTEGER NOT NULL, body BLOB NOT NULL  -- stream.records.EdgeAlarmRecord
    ) STRICT, WITHOUT ROWID;
CREATE TABLE edge_answer (               -- what people answered to those, as the edge hears it: wire.answers.Answer
    alarm_id BLOB NOT NULL, kind INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (alarm_id, kind)
    ) STRICT, WITHOUT ROWID;"""
_OBSERVATIONS: Final = f"""CREATE TABLE observation (  -- what people observed and entered
    binding_id TEXT NOT NULL, observation_id BLOB NOT NULL, observer TEXT NOT NULL, at_ms INTEGER NOT NULL,
    entered_ms INTEGER NOT NULL, heard_ms INTEGER NOT NULL,
    {", ".join(f"{name} REAL" for name in _VALUES)},
    inspired_oxygen REAL, oxygen_device TEXT NOT NULL, glucose REAL, off_until_ms INTEGER, note TEXT NOT NULL,
    corrects BLOB NOT NULL,              -- observation that it replaces (empty: none)
    edge TEXT NOT NULL, late INTEGER NOT NULL,
    refused TEXT NOT NULL,               -- why its values do not count (empty: they do)
    PRIMARY KEY (binding_id, observation_id)) STRICT, WITHOUT ROWID;
CREATE INDEX observation_of ON observation (binding_id, at_ms);"""
_TO_7: Final = f"""{_OBSERVATIONS}
ALTER TABLE reading ADD COLUMN device TEXT NOT NULL DEFAULT '';
ALTER TABLE reading ADD COLUMN activity INTEGER NOT NULL DEFAULT 0;
ALTER TABLE news2 ADD COLUMN orders_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE alarm ADD COLUMN orders_version INTEGER NOT NULL DEFAULT 0"""
_BINDING_ENDED: Final = "ALTER TABLE alarm ADD COLUMN binding_ended INTEGER NOT NULL DEFAULT 0"
_TABLES: Final = f"""
{SESSION_TABLES}
CREATE TABLE reading (
    seq INTEGER PRIMARY KEY,             -- order in which readings were applied
    reading_id BLOB NOT NULL UNIQUE, binding_id TEXT NOT NULL, session_id BLOB NOT NULL, counter INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, arrived_ms INTEGER,
    {", ".join(f"{name} REAL" for name in _VALUES)},
    sensor_flags INTEGER NOT NULL, battery REAL, unusable INTEGER NOT NULL,
    late INTEGER NOT NULL, backfilled INTEGER NOT NULL,
    -- device: its binding; empty: the first of the stay
    device TEXT NOT NULL DEFAULT '', activity INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX reading_of ON reading (binding_id, at_ms);
CREATE TABLE news2 (
    reading_id BLOB PRIMARY KEY, binding_id TEXT NOT NULL, at_ms INTEGER NOT NULL, total INTEGER,
    at_least INTEGER NOT NULL, risk TEXT NOT NULL, spo2_scale INTEGER NOT NULL,
    -- parts: JSON, [sign, value, points, age_ms, source] seven times
    parts TEXT NOT NULL, orders_version INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
{_MODEL_SCORE}
CREATE TABLE vitals_window (
    binding_id TEXT NOT NULL, sign TEXT NOT NULL, width_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL,
    count INTEGER NOT NULL, mean REAL NOT NULL, minimum REAL NOT NULL, maximum REAL NOT NULL,
    PRIMARY KEY (binding_id, sign, width_ms, start_ms)) STRICT, WITHOUT ROWID;
CREATE TABLE freshness (
    binding_id TEXT NOT NULL, sign TEXT NOT NULL, at_ms INTEGER NOT NULL, state TEXT NOT NULL, age_ms INTEGER NOT NULL,
    PRIMARY KEY (binding_id, sign, at_ms, state)) STRICT, WITHOUT ROWID;
CREATE TABLE alarm (
    alarm_id BLOB NOT NULL, revision INTEGER NOT NULL, binding_id TEXT NOT NULL, rule_id TEXT NOT NULL,
    key TEXT NOT NULL, kind TEXT NOT NULL, priority INTEGER NOT NULL, state TEXT NOT NULL, at_ms INTEGER NOT NULL,
    onset_ms INTEGER NOT NULL,
    text TEXT NOT NULL, basis TEXT NOT NULL, latched INTEGER NOT NULL, acknowledged_by TEXT, acknowledged_ms INTEGER,
    silenced_until_ms INTEGER, retrospective INTEGER NOT NULL, response TEXT NOT NULL DEFAULT '',
    grade REAL NOT NULL DEFAULT 0, binding_ended INTEGER NOT NULL DEFAULT 0, orders_version INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (alarm_id, revision)) STRICT, WITHOUT ROWID;
CREATE INDEX alarm_of ON alarm (binding_id, at_ms);
{_OBSERVATIONS}
{_ALARM_LOG}
{_EDGE_ALARMS}
CREATE TABLE patient_state (binding_id TEXT PRIMARY KEY, snapshot BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE heartbeat (
    edge_id TEXT PRIMARY KEY, received_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE dead_letter (
    session_id BLOB NOT NULL, counter INTEGER NOT NULL, at_ms INTEGER NOT NULL, reason TEXT NOT NULL,
    stage TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (session_id, counter)) STRICT, WITHOUT ROWID;
"""
_READING_COLUMNS: Final = (
    "reading_id", "binding_id", "session_id", "counter", "at_ms", "received_ms", "arrived_ms", *_VALUES,
    "sensor_flags", "battery", "unusable", "late", "backfilled", "device", "activity",
)  # fmt: skip
_PUT_READING: Final = (
    f"INSERT OR IGNORE INTO reading ({', '.join(_READING_COLUMNS)}) "  # noqa: S608 - names from our own table
    f"VALUES ({', '.join('?' * len(_READING_COLUMNS))})"
)
_PUT_NEWS2: Final = "INSERT OR IGNORE INTO news2 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_OBSERVATION: Final = f"INSERT OR IGNORE INTO observation VALUES ({', '.join('?' * (15 + len(_VALUES)))})"  # noqa: S608
_PUT_SCORE: Final = "INSERT OR IGNORE INTO model_score VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_WINDOW: Final = "INSERT OR REPLACE INTO vitals_window VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_FRESHNESS: Final = "INSERT OR IGNORE INTO freshness VALUES (?, ?, ?, ?, ?)"
_ADDED: Final = ("grade", "stay_ended", "orders_version")
# Of schema 4: later fields are read as their defaults.
_ALARM_FIELDS: Final = ", ".join(
    {"stay_id": "binding_id"}.get(name, name) for name in AlarmChanged.__struct_fields__ if name not in _ADDED
)
_ALARM_LOG_ID: Final = "alarm_log"
_PUT_ALARM: Final = "INSERT OR IGNORE INTO alarm VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_ALARM_RECORD: Final = "INSERT INTO alarm_log (body) VALUES (?)"
_JSON: Final = msgspec.json.Encoder()
_PACK: Final = msgspec.msgpack.Encoder()


class Store(SessionFile):
    """One file. Use as a context manager, or call `close`.

    Args:
        path: path of the file; created if it does not exist.
        synchronous: FULL survives a power cut. NORMAL may lose the last commits to one and is for benchmarks.
        max_pages: maximum size in pages of 4 kB, to limit disk use and for tests of a full disk.
    """

    def __init__(self, path: Path, *, synchronous: str = "FULL", max_pages: int | None = None) -> None:
        super().__init__(
            path,
            what="a store",
            why_alone="two engines on one store would overwrite each other's patients",
            synchronous=synchronous,
            max_pages=max_pages,
        )

    def put_events(self, events: Sequence[Event]) -> None:
        """Write events. Existing rows are not changed."""
        rows: dict[str, list[tuple[Any, ...]]] = {}
        outdated: list[WindowOutdated] = []
        for event in events:
            if isinstance(event, WindowOutdated):
                outdated.append(event)
            elif not isinstance(event, MonitoringEnded):
                statement, row = _row_of(event)
                rows.setdefault(statement, []).append(row)
        for statement, these in rows.items():
            self._db.executemany(statement, these)
        self.put_alarm_records(
            AlarmRecord(alarm=event) if isinstance(event, AlarmChanged) else ended_record(event)
            for event in events
            if isinstance(event, AlarmChanged | MonitoringEnded)
        )
        for window in dict.fromkeys(outdated):
            self._recompute(window)

    def put_alarm_records(self, records: Iterable[AlarmLogRecord]) -> None:
        """Append to the alarm log, which the alarm desk reads."""
        self._db.executemany(_PUT_ALARM_RECORD, [(encode_record(record),) for record in records])

    @property
    def alarm_log_id(self) -> str:
        """Unique id of this alarm log; positions are valid only within one log."""
        found = self.fact(_ALARM_LOG_ID)
        assert found is not None  # noqa: S101 - `_set_up` has written it
        return found

    def alarm_log_end(self) -> int:
        """The position behind the newest record of the alarm log."""
        (newest,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM alarm_log").fetchone()
        return int(newest) + 1

    def alarm_records(self, position: int, limit: int) -> list[tuple[int, bytes]]:
        """(position, record) of the alarm log from a position on."""
        return self._db.execute(
            "SELECT seq, body FROM alarm_log WHERE seq >= ? ORDER BY seq LIMIT ?", (position, limit)
        ).fetchall()

    def put_edge_alarm(self, found: EdgeAlarmRecord) -> None:
        """Write an alarm of an edge as long as it is open there; else delete it, and what was answered to it."""
        alarm_id = found.alarm.alarm_id
        if found.alarm.state == AlarmState.ACTIVE:
            self._db.execute(
                "INSERT OR REPLACE INTO edge_alarm VALUES (?, ?, ?)", (alarm_id, found.arrived_ms, encode_record(found))
            )
            return
        row = self._db.execute("SELECT body FROM edge_alarm WHERE alarm_id = ?", (alarm_id,)).fetchone()
        before = None if row is None else decode_alarm_record(row[0])
        if isinstance(before, EdgeAlarmRecord) and before.frame.edge_id != found.frame.edge_id:
            return  # another edge still has it open
        for table in ("edge_alarm", "edge_answer"):
            self._db.execute(f"DELETE FROM {table} WHERE alarm_id = ?", (alarm_id,))  # noqa: S608 - names from code

    def edge_alarms(self) -> list[EdgeAlarmRecord]:
        """The open alarms of edges, in the order in which they were heard of."""
        found = (
            decode_alarm_record(row[0]) for row in self._db.execute("SELECT body FROM edge_alarm ORDER BY arrived_ms")
        )
        return [one for one in found if isinstance(one, EdgeAlarmRecord)]

    def put_edge_answers(self, answers: Iterable[tuple[Any, ...]]) -> None:
        """Write answers (`wire.answers.Answer`) to open alarms of edges."""
        self._db.executemany(
            "INSERT OR REPLACE INTO edge_answer VALUES (?, ?, ?)",
            [(one[5], int(one[0]), _PACK.encode([int(one[0]), *one[1:]])) for one in answers],
        )

    def edge_answers(self) -> list[tuple[Any, ...]]:
        """The fields of each stored answer."""
        return [
            tuple(msgspec.msgpack.decode(row[0], type=list[Any]))
            for row in self._db.execute("SELECT body FROM edge_answer")
        ]

    def prune_alarm_log(self, *, before_ms: int, open_alarms: Collection[bytes], limit: int = 1_000) -> int:
        """Delete the oldest records of the alarm log, but never the newest, nor one of an alarm that is open.

        Args:
            before_ms: records of a change before this time may be deleted.
            open_alarms: ids of alarms whose records a desk may still have to read.
            limit: number of records that are deleted at most.

        Returns:
            How many were deleted.
        """
        newest = self.alarm_log_end() - 1
        old: list[tuple[int]] = []
        for seq, body in self._db.execute("SELECT seq, body FROM alarm_log WHERE seq < ? ORDER BY seq", (newest,)):
            try:
                record = decode_alarm_record(body)
            except DecodeError:
                continue
            if _changed_ms(record) >= before_ms or len(old) == limit:
                break
            if isinstance(record, StayEndedRecord) or record.alarm.alarm_id not in open_alarms:
                old.append((seq,))
        self._db.executemany("DELETE FROM alarm_log WHERE seq = ?", old)
        for table in ("edge_answer", "edge_alarm"):
            self._db.execute(
                f"DELETE FROM {table} WHERE alarm_id IN "  # noqa: S608 - names from code
                "(SELECT alarm_id FROM edge_alarm WHERE arrived_ms < ?)",
                (before_ms,),
            )
        return len(old)

    def put_states(self, snapshots: Mapping[str, bytes]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO patient_state VALUES (?, ?)", snapshots.items())

    def put_heartbeat(self, edge_id: str, received_ms: int, body: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO heartbeat VALUES (?, ?, ?)", (edge_id, received_ms, body.decode()))

    def put_dead_letter(
        self, *, session_id: bytes, counter: int, at_ms: int, reason: str, stage: str, payload: bytes
    ) -> None:
        """Store a frame of an authentic sender that could not be processed."""
        self._db.execute(
            "INSERT OR IGNORE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?)",
            (session_id, counter, at_ms, reason, stage, payload),
        )

    def refusal(self, session_id: bytes, counter: int) -> str | None:
        """Why a frame is a dead letter; None if it is not."""
        row = self._db.execute(
            "SELECT reason FROM dead_letter WHERE session_id = ? AND counter = ?", (session_id, counter)
        ).fetchone()
        return None if row is None else str(row[0])

    def states(self) -> Iterator[tuple[str, bytes]]:
        """(stay, snapshot) of every patient."""
        yield from self._db.execute("SELECT binding_id, snapshot FROM patient_state ORDER BY binding_id")

    def state(self, stay_id: str) -> bytes | None:
        row = self._db.execute("SELECT snapshot FROM patient_state WHERE binding_id = ?", (stay_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def query(self, statement: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Read with SQL; for reports and tests."""
        return self._db.execute(statement, tuple(parameters)).fetchall()

    def count(self, table: str) -> int:
        """Number of rows of a table."""
        return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - names from code

    def alarms_by_class(self) -> dict[str, int]:
        """Number of alarms by rule and highest priority; retrospective ones are counted separately."""
        counted = self._db.execute(
            "SELECT rule_id || CASE WHEN retrospective THEN ' (retrospective)' ELSE '' END, priority, count(*) FROM "
            "(SELECT rule_id, retrospective, max(priority) AS priority FROM alarm GROUP BY alarm_id) "
            "GROUP BY 1, 2 ORDER BY 2 DESC, 1"
        )
        return {f"{_PRIORITY_NAMES[priority]} {rule}": count for rule, priority, count in counted}

    def _set_up(self) -> None:
        found = self._schema(_TABLES, "schema", SCHEMA)
        if found == "1":  # before model scores of edges
            found = self._migrate("2", _MODEL_SCORE)
        if found == "2":  # before alarms had a recommended response
            found = self._migrate("3", "ALTER TABLE alarm ADD COLUMN response TEXT NOT NULL DEFAULT ''")
        if found == "3":  # before it had an alarm desk
            found = self._migrate("4", _ALARM_LOG, self._log_standing_alarms)
        if found == "4":  # before alarms had a grade, and answers to alarms of edges were stored
            found = self._migrate("5", f"{_EDGE_ALARMS} ALTER TABLE alarm ADD COLUMN grade REAL NOT NULL DEFAULT 0")
        if found == "5":  # before the end of a binding ended its alarms
            found = self._migrate("6", _BINDING_ENDED)
        if found == "6":  # before several devices and people contributed to a stay
            found = self._migrate("7", _TO_7)
        if found != str(SCHEMA):
            raise FileUnusable(
                self.path, f"has schema {found}, this vitalloom reads {SCHEMA}; use the version that wrote it"
            )
        if self.fact(_ALARM_LOG_ID) is None:
            self.put_fact(_ALARM_LOG_ID, f"store-{secrets.token_hex(8)}")

    def _migrate(self, schema: str, tables: str, more: Callable[[], None] | None = None) -> str:
        """Migrate the file to the next schema, in one transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        for statement in tables.split(";"):
            self._db.execute(statement)
        if more is not None:
            more()
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (schema,))
        self._db.execute("COMMIT")
        return schema

    def _log_standing_alarms(self) -> None:
        """Copy alarms that were open when the alarm log was added, so that a desk notifies of them."""
        # Beside max(), SQLite takes the other columns from the row that has the maximum.
        rows = self._db.execute(
            f"SELECT {_ALARM_FIELDS}, max(revision) FROM alarm GROUP BY alarm_id "  # noqa: S608 - names from code
            "HAVING state = 'active' OR latched ORDER BY at_ms"
        ).fetchall()
        self.put_alarm_records(
            AlarmRecord(alarm=msgspec.convert(["alarm_changed", *row[:-1]], AlarmChanged, strict=False)) for row in rows
        )

    def _recompute(self, window: WindowOutdated) -> None:
        """Compute a closed window again from its readings, after late readings joined it."""
        sign = VitalSign(window.sign)
        count, total, low, high = self._db.execute(
            f"SELECT count({sign}), sum(CAST(round({sign} * 1000) AS INTEGER)), min({sign}), max({sign}) "  # noqa: S608
            f"FROM reading WHERE binding_id = ? AND at_ms >= ? AND at_ms < ? AND NOT unusable & ?",
            (window.stay_id, window.start_ms, window.start_ms + window.width_ms, 1 << INDEX[sign]),
        ).fetchone()
        if count:
            key = (window.stay_id, window.sign, window.width_ms, window.start_ms)
            self._db.execute(_PUT_WINDOW, (*key, count, total / count / 1000, low, high))


def _changed_ms(record: AlarmLogRecord) -> int:
    """When what a record of the alarm log tells of has changed."""
    if isinstance(record, StayEndedRecord):
        return record.at_ms
    return record.arrived_ms if isinstance(record, EdgeAlarmRecord) else record.alarm.at_ms


def _row_of(event: Event) -> tuple[str, tuple[Any, ...]]:
    if isinstance(event, ReadingJudged):
        r = event.reading
        values = [getattr(r, name) for name in _VALUES]
        return _PUT_READING, (
            r.reading_id, r.stay_id, r.session_id, r.counter, r.at_ms, r.received_ms, r.arrived_ms,
            *(None if value is None else float(value) for value in values),
            r.sensor_flags, r.battery, r.unusable, event.late, event.backfilled, r.binding_id, r.activity,
        )  # fmt: skip
    if isinstance(event, ObservationRecorded):
        o = event.observation
        values = [getattr(o, name) for name in _VALUES]
        return _PUT_OBSERVATION, (
            o.stay_id, o.observation_id, o.by, o.at_ms, o.entered_ms, o.heard_ms,
            *(None if value is None else float(value) for value in values),
            o.inspired_oxygen, o.oxygen_device, o.glucose, o.off_until_ms, o.note, o.corrects, o.edge, event.late,
            event.refused,
        )  # fmt: skip
    if isinstance(event, News2Scored):
        return _PUT_NEWS2, (
            event.reading_id, event.stay_id, event.at_ms, event.total, event.at_least, risk_text(event),
            event.spo2_scale, _JSON.encode(event.parts).decode(), event.orders_version,
        )  # fmt: skip
    if isinstance(event, ModelScored):
        s = event.score
        return _PUT_SCORE, (
            s.stay_id, s.model, s.at_ms, s.reading_id, s.received_ms, s.arrived_ms, s.version, s.score, s.threshold,
            s.reason, event.late, event.backfilled,
        )  # fmt: skip
    if isinstance(event, WindowClosed):
        return _PUT_WINDOW, (
            event.stay_id, event.sign, event.width_ms, event.start_ms, event.count, event.mean, event.minimum,
            event.maximum,
        )  # fmt: skip
    if isinstance(event, FreshnessChanged):
        return _PUT_FRESHNESS, (event.stay_id, event.sign, event.at_ms, event.state, event.age_ms)
    if isinstance(event, AlarmChanged):
        return _PUT_ALARM, (
            event.alarm_id, event.revision, event.stay_id, event.rule_id, event.key, event.kind.value,
            int(event.priority), event.state.value, event.at_ms, event.onset_ms, event.text, event.basis, event.latched,
            event.acknowledged_by, event.acknowledged_ms, event.silenced_until_ms, event.retrospective, event.response,
            event.grade, event.stay_ended, event.orders_version,
        )  # fmt: skip
    raise TypeError(f"no table for {type(event).__name__}")


_PRIORITY_NAMES: Final = {1: "low", 2: "medium", 3: "high"}
