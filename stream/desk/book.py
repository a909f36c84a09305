"""The state of the alarm desk in one SQLite file: alarms, notifications, answers, reading positions, the desk's time.

An alarm, its escalation and the position in the log are committed together, so that a desk that is killed at any
instruction neither loses an alarm nor opens it twice. No decisions are made here.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from stream.desk import tables
from stream.desk.decisions import Kept
from stream.desk.desk_clock import ClockAnchor
from stream.durable_file import DurableFile
from stream.errors import CommitFailed, FileUnusable

BOOK_FILE: Final = "desk.sqlite"
SCHEMA: Final = 4

_RESERVE_BYTES: Final = 8 << 20
_LOG_NUMBER: Final = "log_number"
_DAY_MS: Final = 86_400_000
_ENDED_KEPT_MS: Final = 30 * _DAY_MS  # frames of an ended stay are accepted for 14 days

_OUTAGES: Final = """CREATE TABLE outages (       -- vitals.outages.SiteOutages, one row
    only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL) STRICT;"""
_CLOCK: Final = """CREATE TABLE clock (           -- stream.desk.desk_clock.ClockAnchor, one row
    only INTEGER PRIMARY KEY CHECK (only = 1), desk_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL,
    elapsed_ms INTEGER NOT NULL, elapsed_id TEXT NOT NULL) STRICT;"""
_TABLES: Final = "\n".join(
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;",
        tables.POSITIONS, tables.ALARMS, tables.DELIVERIES, tables.ATTEMPTS, tables.SILENCES, tables.ORDERS,
        tables.SESSIONS, tables.ENDED, tables.JOINED, _OUTAGES, _CLOCK,
    )
)  # fmt: skip
# A silence named no sign: it stays only where no alarm of the same rule and patient has one.
_TO_3: Final = f"""
ALTER TABLE place ADD COLUMN mark BLOB;
ALTER TABLE delivery RENAME TO delivery_2;
DROP INDEX delivery_of; DROP INDEX delivery_open; DROP INDEX delivery_begun;
{tables.DELIVERIES}
INSERT INTO delivery SELECT key, person, '', channel, who, alarm_id, priority, due_ms, fate, tries, begun_ms, again_ms,
    done_ms, leads FROM delivery_2;
DROP TABLE delivery_2;
ALTER TABLE hush RENAME TO hush_2;
{tables.SILENCES}
INSERT INTO hush SELECT binding_id, rule_id, '', until_ms, body FROM hush_2 AS old WHERE NOT EXISTS
    (SELECT 1 FROM alarm WHERE alarm.binding_id = old.binding_id AND alarm.rule_id = old.rule_id AND alarm.key <> '');
DROP TABLE hush_2;
{_CLOCK}
{tables.ENDED}
"""  # noqa: S608 - names from our own tables
_NEWEST_MS: Final = (
    "SELECT max(coalesce((SELECT max(heard_ms) FROM alarm), 0), coalesce((SELECT max(begun_ms) FROM delivery), 0), "
    "coalesce((SELECT max(done_ms) FROM delivery), 0), coalesce((SELECT max(at_ms) FROM wish), 0))"
)
_PACK: Final = msgspec.msgpack.Encoder()


class DeskBook(DurableFile):
    """One file. Use as a context manager, or call `close`. Every change belongs into `with book.transaction()`.

    Raises:
        FileUnusable: it is not a desk's book, or another desk has it open.
    """

    def __init__(self, path: Path) -> None:
        self._reserve = path.with_name(f"{path.name}.reserve")
        self.anchor: Callable[[], ClockAnchor] | None = None  # the desk's time, written with every change
        super().__init__(path, what="a desk's book", why_alone="two desks would notify people twice")
        self.positions = tables.Positions(self._db)
        self.alarms = tables.KeptAlarms(self._db)
        self.deliveries = tables.Deliveries(self._db)
        self.entries = tables.PendingEntries(self._db)
        self.silences = tables.Silences(self._db)
        self.sessions = tables.LoginSessions(self._db)
        self.ended = tables.EndedStays(self._db)
        self.observations = tables.EnteredObservations(self._db)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As `DurableFile.transaction`. If anything has changed, the desk's time is written with it."""
        with super().transaction():
            before = self._db.total_changes
            yield
            if self.anchor is not None and self._db.total_changes != before:
                self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)", self.anchor())

    def clock_anchor(self) -> ClockAnchor | None:
        """The desk's time at the last change; None in a new book."""
        row = self._db.execute("SELECT desk_ms, wall_ms, elapsed_ms, elapsed_id FROM clock").fetchone()
        return None if row is None else ClockAnchor(*row)

    @property
    def log_number(self) -> int:
        """How many other logs were read before the present one; revisions of alarms count within one log."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (_LOG_NUMBER,)).fetchone()
        return 0 if row is None else int(row[0])

    def begin_log(self) -> None:
        """From now on another log is read. Within a transaction."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_LOG_NUMBER, str(self.log_number + 1)))
        self.positions.clear()
        self.entries.drop_acknowledgements()

    def outages(self) -> list[Any] | None:
        """The stored state of `vitals.outages.SiteOutages`; None if none was ever stored."""
        row = self._db.execute("SELECT body FROM outages").fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0], type=list[Any])

    def put_outages(self, state: list[Any]) -> None:
        self._db.execute("INSERT OR REPLACE INTO outages VALUES (1, ?)", (_PACK.encode(state),))

    def forget(self, *, now_ms: int, before_ms: int, wall_ms: int) -> None:
        """Delete unlisted alarms and observations older than `before_ms`; silences and sessions that are over.

        Args:
            wall_ms: sessions end by the wall clock, all else by the desk's time.
        """
        old = [
            row[0]
            for row in self._db.execute(
                "SELECT alarm_id FROM alarm WHERE NOT listed AND NOT active AND heard_ms < ? LIMIT 1000", (before_ms,)
            )
        ]
        for table in ("delivery", "attempt", "wish", "alarm"):
            self._db.executemany(f"DELETE FROM {table} WHERE alarm_id = ?", [(one,) for one in old])  # noqa: S608
        self.observations.forget(before_ms - now_ms + wall_ms)
        self._db.executemany("DELETE FROM joined WHERE lead = ?", [(one,) for one in old])
        # The record of an alarm may name a silence for a while after its end.
        self.silences.forget(now_ms - _DAY_MS)
        self.sessions.forget(wall_ms)
        self.ended.forget(now_ms - _ENDED_KEPT_MS)

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read with SQL; for reports and tests."""
        return self._db.execute(statement, tuple(parameters)).fetchall()

    def _set_up(self) -> None:
        found = self._schema(_TABLES, "desk", SCHEMA)
        if found == "1":  # before outages
            found = self._migrate("2", _OUTAGES)
        if (
            found == "2"
        ):  # before silences named a sign, notifications a recipient, positions a record, and bindings ended
            found = self._migrate("3", _TO_3)
            ((newest_ms,),) = self.query(_NEWEST_MS)
            self._db.execute("INSERT INTO clock VALUES (1, ?, ?, 0, '')", (newest_ms, newest_ms))
        if found == "3":  # before several could find the same condition of a stay
            found = self._migrate("4", tables.JOINED)
        if found != str(SCHEMA):
            raise FileUnusable(
                self.path, f"has schema {found} of a desk, this vitalloom reads {SCHEMA}; use the version that wrote it"
            )
        self._db.executescript(tables.OBSERVATIONS)
        self._keep_reserve()

    def _migrate(self, schema: str, statements: str) -> str:
        self._db.executescript(f"BEGIN;{statements}")
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'desk'", (schema,))
        self._db.execute("COMMIT")
        return schema

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
            return [tables.KEPT.decode(row[0]) for row in book.execute("SELECT body FROM alarm ORDER BY alarm_id")]
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise FileUnusable(path, f"cannot be read as a desk's book ({error})") from error
