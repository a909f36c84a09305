"""The state of the alarm desk in one SQLite file: alarms, notifications, answers, reading positions.

An alarm, its escalation and the position in the log are committed together, so that a desk that is killed at any
instruction neither loses an alarm nor opens it twice. No decisions are made here.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from stream.desk.decisions import ActiveSilence, Delivery, DeliveryStatus, Kept
from stream.durable_file import DurableFile
from stream.errors import CommitFailed, FileUnusable
from stream.records import OrderRecord
from vitals.escalation import Attempt, Due, Outcome
from vitals.messages import Priority

BOOK_FILE: Final = "desk.sqlite"
SCHEMA: Final = 2

_ENDED_KEPT_MS: Final = 30 * 86_400_000  # frames of an ended binding are accepted for 14 days
_RESERVE_BYTES: Final = 8 << 20

_OUTAGES: Final = """CREATE TABLE outages (       -- vitals.outages.SiteOutages, one row
    only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL) STRICT;"""
_ENDED: Final = """CREATE TABLE IF NOT EXISTS ended (  -- bindings that have ended, and when the desk heard of it
    binding_id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID"""
_TABLES: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE place (                     -- reading positions
    topic TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, part)) STRICT, WITHOUT ROWID;
CREATE TABLE alarm (
    alarm_id BLOB PRIMARY KEY, binding_id TEXT NOT NULL, rule_id TEXT NOT NULL, key TEXT NOT NULL,
    active INTEGER NOT NULL, listed INTEGER NOT NULL, heard_ms INTEGER NOT NULL,
    body BLOB NOT NULL                   -- stream.desk.decisions.Kept
    ) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_alarm ON alarm (binding_id, rule_id, key) WHERE active;
CREATE INDEX alarm_listed ON alarm (alarm_id) WHERE listed;
CREATE TABLE delivery (
    key TEXT NOT NULL, person TEXT NOT NULL, channel TEXT NOT NULL, who TEXT NOT NULL, alarm_id BLOB NOT NULL,
    priority INTEGER NOT NULL, due_ms INTEGER NOT NULL, fate TEXT NOT NULL, tries INTEGER NOT NULL, begun_ms INTEGER,
    again_ms INTEGER NOT NULL, done_ms INTEGER, leads INTEGER NOT NULL,
    PRIMARY KEY (key, person)) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_of ON delivery (alarm_id);
CREATE INDEX delivery_open ON delivery (again_ms) WHERE fate IN ('waiting', 'failed');
CREATE INDEX delivery_begun ON delivery (begun_ms, person);
CREATE TABLE attempt (
    alarm_id BLOB NOT NULL, key TEXT NOT NULL, outcome TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (alarm_id, key, outcome)) STRICT, WITHOUT ROWID;
CREATE TABLE hush (
    binding_id TEXT NOT NULL, rule_id TEXT NOT NULL, until_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (binding_id, rule_id)) STRICT, WITHOUT ROWID;
CREATE TABLE wish (                      -- orders of people that are not confirmed
    wish_id INTEGER PRIMARY KEY, alarm_id BLOB NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL,
    sent_ms INTEGER, done INTEGER NOT NULL) STRICT;
CREATE INDEX wish_open ON wish (wish_id) WHERE NOT done;
CREATE TABLE session (
    digest BLOB PRIMARY KEY, user TEXT NOT NULL, until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
{_OUTAGES}
"""
_KEPT: Final = msgspec.msgpack.Decoder(Kept)
_HUSH: Final = msgspec.msgpack.Decoder(ActiveSilence)
_ORDER: Final = msgspec.msgpack.Decoder(OrderRecord)
_PACK: Final = msgspec.msgpack.Encoder()
_DELIVERY: Final = (
    "key", "person", "channel", "who", "alarm_id", "priority", "due_ms", "fate", "tries", "begun_ms", "again_ms",
    "done_ms", "leads",
)  # fmt: skip
_PUT_DELIVERY: Final = f"({', '.join(_DELIVERY)}) VALUES ({', '.join('?' * len(_DELIVERY))})"
_GET_DELIVERY: Final = f"SELECT {', '.join(_DELIVERY)} FROM delivery"  # noqa: S608 - names from our own table


class PendingOrder(NamedTuple):
    """An acknowledgement or silence that has to be sent to the patient's monitor."""

    order_id: int
    alarm_id: bytes
    at_ms: int
    order: OrderRecord
    sent_ms: int | None


class DeskBook(DurableFile):
    """One file. Use as a context manager, or call `close`. Every change belongs into `with book.transaction()`.

    Raises:
        FileUnusable: it is not a desk's book, or another desk has it open.
    """

    def __init__(self, path: Path) -> None:
        self._reserve = path.with_name(f"{path.name}.reserve")
        super().__init__(path, what="a desk's book", why_alone="two desks would notify people twice")

    # Reading positions

    def positions(self, topic: str) -> dict[int, int]:
        """The next offset of each partition."""
        return dict(self._db.execute("SELECT part, next FROM place WHERE topic = ?", (topic,)).fetchall())

    def put_position(self, topic: str, part: int, offset: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (topic, part, offset))

    # Alarms

    def put_alarm(self, kept: Kept) -> None:
        """Write an alarm. Only one of a condition may be active: write the one that it supersedes first."""
        alarm = kept.alarm
        self._db.execute(
            "INSERT INTO alarm VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (alarm_id) DO UPDATE SET "
            "active = excluded.active, listed = excluded.listed, heard_ms = excluded.heard_ms, body = excluded.body",
            (
                alarm.alarm_id,
                alarm.binding_id,
                alarm.rule_id,
                alarm.key,
                kept.is_active,
                kept.is_listed,
                kept.heard_ms,
                _PACK.encode(kept),
            ),
        )

    def alarm(self, alarm_id: bytes) -> Kept | None:
        row = self._db.execute("SELECT body FROM alarm WHERE alarm_id = ?", (alarm_id,)).fetchone()
        return None if row is None else _KEPT.decode(row[0])

    def active(self, binding_id: str, rule_id: str, key: str) -> Kept | None:
        """The active alarm of a condition."""
        row = self._db.execute(
            "SELECT body FROM alarm WHERE binding_id = ? AND rule_id = ? AND key = ? AND active",
            (binding_id, rule_id, key),
        ).fetchone()
        return None if row is None else _KEPT.decode(row[0])

    def listed(self) -> list[Kept]:
        """Every alarm on the list."""
        return [_KEPT.decode(row[0]) for row in self._db.execute("SELECT body FROM alarm WHERE listed")]

    # Notifications

    def put_deliveries(self, deliveries: Iterable[Delivery]) -> None:
        """Insert new notifications; existing ones are not changed."""
        self._db.executemany(f"INSERT OR IGNORE INTO delivery {_PUT_DELIVERY}", map(_row, deliveries))

    def change(self, delivery: Delivery) -> None:
        self._db.execute(f"INSERT OR REPLACE INTO delivery {_PUT_DELIVERY}", _row(delivery))

    def delivery(self, key: str, person: str) -> Delivery | None:
        found = self._deliveries("WHERE key = ? AND person = ?", (key, person))
        return found[0] if found else None

    def deliveries(self, alarm_id: bytes) -> list[Delivery]:
        return self._deliveries("WHERE alarm_id = ?", (alarm_id,))

    def together(self, key: str) -> list[Delivery]:
        """One notification, to each person of its role."""
        return self._deliveries("WHERE key = ?", (key,))

    def waiting(self) -> list[Delivery]:
        """Notifications to be sent, now or later."""
        return self._deliveries("WHERE fate IN ('waiting', 'failed')", ())

    def stop(self, alarm_id: bytes, *, except_ladder: int | None = None) -> None:
        """Stop open notifications of an alarm that no longer notifies, or whose ladder has restarted."""
        for one in self._deliveries("WHERE alarm_id = ? AND fate IN ('waiting', 'failed')", (alarm_id,)):
            if except_ladder is None or not one.key.startswith(f"{alarm_id.hex()}.{except_ladder}."):
                self.change(msgspec.structs.replace(one, fate=DeliveryStatus.STOPPED))

    def overtake(self, newer: Delivery) -> None:
        """Stop older failed notifications of the same alarm to the same person by the same channel."""
        for one in self._deliveries(
            "WHERE alarm_id = ? AND person = ? AND channel = ? AND fate = 'failed'",
            (newer.alarm_id, newer.person, newer.channel),
        ):
            if one.key != newer.key:
                self.change(msgspec.structs.replace(one, fate=DeliveryStatus.STOPPED))

    def begun_since(self, from_ms: int) -> dict[str, list[int]]:
        """By person, the start times of messages below high priority."""
        found: dict[str, list[int]] = {}
        for person, begun_ms in self._db.execute(
            "SELECT person, begun_ms FROM delivery WHERE begun_ms > ? AND priority < ? AND leads",
            (from_ms, int(Priority.HIGH)),
        ):
            found.setdefault(person, []).append(begun_ms)
        return found

    def put_attempt(self, alarm_id: bytes, attempt: Attempt) -> None:
        """Insert the result of a notification; of equal results the first is kept."""
        self._db.execute(
            "INSERT OR IGNORE INTO attempt VALUES (?, ?, ?, ?)",
            (alarm_id, attempt.key, attempt.outcome.value, attempt.at_ms),
        )

    def put_passed(self, passed: Iterable[Due], now_ms: int) -> None:
        for one in passed:
            self.put_attempt(one.alarm_id, Attempt(key=one.key, at_ms=now_ms, outcome=Outcome.OVERTAKEN))

    def attempts(self, alarm_id: bytes, ladder: int) -> list[Attempt]:
        return [
            Attempt(key=key, at_ms=at_ms, outcome=Outcome(outcome))
            for key, outcome, at_ms in self._db.execute(
                "SELECT key, outcome, at_ms FROM attempt WHERE alarm_id = ?", (alarm_id,)
            )
            if key.startswith(f"{alarm_id.hex()}.{ladder}.")
        ]

    # Orders: acknowledgements and silences to be sent

    def put_order(self, alarm_id: bytes, order: OrderRecord, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO wish (alarm_id, at_ms, body, sent_ms, done) VALUES (?, ?, ?, NULL, 0)",
            (alarm_id, now_ms, _PACK.encode(order)),
        )

    def pending_orders(self) -> list[PendingOrder]:
        """Orders that are not confirmed, oldest first."""
        return [
            PendingOrder(order_id, alarm_id, at_ms, _ORDER.decode(body), sent_ms)
            for order_id, alarm_id, at_ms, body, sent_ms in self._db.execute(
                "SELECT wish_id, alarm_id, at_ms, body, sent_ms FROM wish WHERE NOT done ORDER BY wish_id"
            )
        ]

    def order_sent(self, order_id: int, now_ms: int) -> None:
        self._db.execute("UPDATE wish SET sent_ms = ? WHERE wish_id = ?", (now_ms, order_id))

    def order_done(self, order_id: int) -> None:
        self._db.execute("UPDATE wish SET done = 1 WHERE wish_id = ?", (order_id,))

    def put_silence(self, active_silence: ActiveSilence) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO hush VALUES (?, ?, ?, ?)",
            (active_silence.binding_id, active_silence.rule_id, active_silence.until_ms, _PACK.encode(active_silence)),
        )

    def active_silences(self, now_ms: int) -> Mapping[tuple[str, str], ActiveSilence]:
        """Silences in force, by binding and rule."""
        rows = self._db.execute("SELECT body FROM hush WHERE until_ms > ?", (now_ms,))
        return {(one.binding_id, one.rule_id): one for one in (_HUSH.decode(row[0]) for row in rows)}

    # Bindings that have ended

    def end_binding(self, binding_id: str, now_ms: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO ended VALUES (?, ?)", (binding_id, now_ms))

    def has_ended(self, binding_id: str) -> bool:
        """Whether a binding has ended, so that records of it which are still under way call nobody."""
        return self._db.execute("SELECT 1 FROM ended WHERE binding_id = ?", (binding_id,)).fetchone() is not None

    # Outages

    def outages(self) -> list[Any] | None:
        """The stored state of `vitals.outages.SiteOutages`; None if none was ever stored."""
        row = self._db.execute("SELECT body FROM outages").fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=list[Any])

    def put_outages(self, state: list[Any]) -> None:
        self._db.execute("INSERT OR REPLACE INTO outages VALUES (1, ?)", (_PACK.encode(state),))

    # Login sessions

    def put_session(self, digest: bytes, user: str, until_ms: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?)", (digest, user, until_ms))

    def session(self, digest: bytes) -> tuple[str, int] | None:
        """User and expiry of a session."""
        row = self._db.execute("SELECT user, until_ms FROM session WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]))

    def end_session(self, digest: bytes) -> None:
        self._db.execute("DELETE FROM session WHERE digest = ?", (digest,))

    # Deletion

    def forget(self, *, now_ms: int, before_ms: int) -> None:
        """Delete unlisted alarms older than `before_ms` with all their rows, and expired silences and sessions."""
        old = [
            row[0]
            for row in self._db.execute(
                "SELECT alarm_id FROM alarm WHERE NOT listed AND NOT active AND heard_ms < ? LIMIT 1000", (before_ms,)
            )
        ]
        for table in ("delivery", "attempt", "wish", "alarm"):
            self._db.executemany(f"DELETE FROM {table} WHERE alarm_id = ?", [(one,) for one in old])  # noqa: S608
        self._db.execute("DELETE FROM hush WHERE until_ms < ?", (now_ms,))
        self._db.execute("DELETE FROM session WHERE until_ms < ?", (now_ms,))
        self._db.execute("DELETE FROM ended WHERE at_ms < ?", (now_ms - _ENDED_KEPT_MS,))

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read with SQL; for reports and tests."""
        return self._db.execute(statement, tuple(parameters)).fetchall()

    # Internals

    def _deliveries(self, where: str, parameters: Sequence[Any]) -> list[Delivery]:
        return [
            msgspec.convert(dict(zip(_DELIVERY, row, strict=True)), Delivery, strict=False)
            for row in self._db.execute(f"{_GET_DELIVERY} {where} ORDER BY due_ms, key, person", parameters)
        ]

    def _set_up(self) -> None:
        found = self._schema(_TABLES, "desk", SCHEMA)
        if found == "1":  # before outages
            self._db.executescript(f"BEGIN;{_OUTAGES}")
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'desk'", (str(SCHEMA),))
            self._db.execute("COMMIT")
        elif found != str(SCHEMA):
            raise FileUnusable(
                self.path, f"has schema {found} of a desk, this vitalloom reads {SCHEMA}; use the version that wrote it"
            )
        self._db.execute(_ENDED)  # books from before the end of a binding ended its alarms do not have it
        self._keep_reserve()

    def _refused(self, error: sqlite3.Error) -> CommitFailed:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL and self._reserve.exists():
            # Freeing the reserve leaves room for the alarms of the next hours.
            self._reserve.unlink()
            problem = f"{error}; the reserve of {_RESERVE_BYTES >> 20} MiB is in use now; free disk space"
            return CommitFailed(self.path, problem)
        return super()._refused(error)

    def _keep_reserve(self) -> None:
        """Reserve disk space for a full disk; failure to do so is ignored."""
        with contextlib.suppress(OSError), self._reserve.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)


def read_alarms(path: Path) -> list[Kept]:
    """Every alarm of a desk's book; the desk may be running.

    Raises:
        FileUnusable: it is not a desk's book.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as book:
            return [_KEPT.decode(row[0]) for row in book.execute("SELECT body FROM alarm ORDER BY alarm_id")]
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise FileUnusable(path, f"cannot be read as a desk's book ({error})") from error


def _row(one: Delivery) -> tuple[Any, ...]:
    return (
        one.key, one.person, one.channel, one.who, one.alarm_id, int(one.priority), one.due_ms, one.fate.value,
        one.tries, one.begun_ms, one.again_ms, one.done_ms, one.leads,
    )  # fmt: skip
