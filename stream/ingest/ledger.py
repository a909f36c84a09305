"""The ledger of ingest: received sessions and which of their frames are stored, in one small SQLite file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from stream.durable_file import DurableFile
from stream.errors import FileUnusable
from wire.receiver import SessionRow

SCHEMA: Final = 1

SESSION_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE rx_session (
    session_id BLOB PRIMARY KEY, sender BLOB NOT NULL, info BLOB NOT NULL, hpke BLOB NOT NULL, ranges BLOB NOT NULL,
    last_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE reject (
    device_id TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    PRIMARY KEY (device_id, reason)) STRICT, WITHOUT ROWID;
"""
_PACK: Final = msgspec.msgpack.Encoder()

# Tables of the embedded store that ledgers up to 0.1.0 were made with and that ingest never wrote to.
_NEVER_USED: Final = (
    "reading",
    "news2",
    "model_score",
    "vitals_window",
    "freshness",
    "alarm",
    "patient_state",
    "heartbeat",
    "dead_letter",
)


class SessionFile(DurableFile):
    """A file that remembers received sessions, refused frames by sender and reason, and single facts.

    Its tables are `SESSION_TABLES`; a subclass may add its own.
    """

    def put_sessions(self, rows: Iterable[SessionRow]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO rx_session VALUES (?, ?, ?, ?, ?, ?)",
            [(r.session_id, r.sender, r.info, r.hpke, _PACK.encode(r.ranges), r.last_ms) for r in rows],
        )

    def drop_sessions(self, session_ids: Iterable[bytes]) -> None:
        """Forget sessions that are too old for another frame of theirs to be accepted."""
        self._db.executemany("DELETE FROM rx_session WHERE session_id = ?", [(one,) for one in session_ids])

    def sessions(self) -> Iterator[SessionRow]:
        """Every session that was ever accepted and not dropped, with its counters."""
        for session_id, sender, info, hpke, ranges, last_ms in self._db.execute("SELECT * FROM rx_session"):
            yield SessionRow(
                session_id=session_id,
                sender=sender,
                info=info,
                hpke=hpke,
                ranges=msgspec.msgpack.decode(ranges, type=tuple[tuple[int, int], ...]),
                last_ms=last_ms,
            )

    def count_reject(self, device_id: str, reason: str, at_ms: int, count: int = 1) -> None:
        self._db.execute(
            "INSERT INTO reject VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET count = count + excluded.count, last_ms = excluded.last_ms",
            (device_id, reason, count, at_ms),
        )

    def note(self, key: str, value: str) -> None:
        """Keep a fact about the file itself."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def noted(self, key: str) -> str | None:
        """A fact that `note` kept; None if there is none."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])


class Ledger(SessionFile):
    """The ledger of `vitalloom ingest`. Use as a context manager, or call `close`.

    Args:
        path: of the file; it is made if it does not exist.
        synchronous: FULL survives a power cut. NORMAL may lose the last commits to one and is for benchmarks.
        max_pages: limit of its size in pages of 4 kB.

    Raises:
        FileUnusable: the file is something else, is damaged, or another process writes to it.
    """

    def __init__(self, path: Path, *, synchronous: str = "FULL", max_pages: int | None = None) -> None:
        super().__init__(
            path,
            what="an ingest ledger",
            why_alone="two ingests on one ledger would acknowledge each other's frames",
            synchronous=synchronous,
            max_pages=max_pages,
        )

    def _set_up(self) -> None:
        found = self._schema(SESSION_TABLES, "ledger", SCHEMA)
        if found == "none" and self.noted("schema") is not None:
            self._convert()
        elif found != str(SCHEMA):
            raise FileUnusable(
                self.path, f"has ledger schema {found}, this vitalloom reads {SCHEMA}; use the version that wrote it"
            )

    def _convert(self) -> None:
        """Take over a file of an ingest up to 0.1.0, which was an embedded store whose other tables stayed empty."""
        there = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        unused = [name for name in _NEVER_USED if name in there]
        for name in unused:
            if self._db.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is not None:  # noqa: S608 - names above
                raise FileUnusable(self.path, "is the store of an embedded engine; name another file")
        with self.transaction():
            for name in unused:
                self._db.execute(f"DROP TABLE {name}")
            self._db.execute("DELETE FROM meta WHERE key = 'schema'")
            self.note("ledger", str(SCHEMA))
