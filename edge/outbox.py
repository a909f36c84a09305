"""What the edge may never lose, in one SQLite file: sealed readings, what was received, what is on its way.

One process, one connection, one transaction per batch, fsynced before anything is acknowledged. A row leaves only when
the cloud has signed that it is stored, or by the shedding rules, and then a gap record says what is missing. Every row
carries a checksum; a damaged file is moved aside and read row by row, and the agent starts in any case.
"""

import contextlib
import os
import sqlite3
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from edge.errors import NotCommitted, OutboxDamaged, OutboxInUse
from wire.envelope import NO_BINDING, FrameClass
from wire.receiver import SessionRow
from wire.sending.rows import Row

PAGE_BYTES: Final = 4_096
KEEP_AGE_MS: Final = 86_400_000
"""Vital signs younger than this are thinned only when nothing else is left to give up."""
FILLING: Final = 0.70
"""Share of the budget from which on the heartbeat warns."""

_DAMAGED_KEPT: Final = 2  # files moved aside; older ones go
_MERGE_GAPS_MS: Final = 900_000  # gaps of one patient that are closer than this are one record
_SLICE: Final = 200  # rows given up in one transaction
_SLICES: Final = 10  # transactions in one call: readings are waiting to be committed meanwhile
_SALVAGE_QUERIES: Final = 5_000


class Keep(IntEnum):
    """How dear a reading is when the disk fills. Decided when it is sealed, for a sealed frame cannot be judged."""

    ORDINARY = 0
    PER_MINUTE = 1  # the first of its minute
    PER_FIVE_MINUTES = 2  # the first of its five minutes
    EXTREME = 3  # a red sign, or NEWS2 of 5 and more
    EPISODE = 4  # while an alarm about the patient stood
    ALWAYS = 5  # alarms


class Shedding(NamedTuple):
    """One rung of the ladder: above this share of the budget, vitals up to this dear and this old are given up."""

    share: float
    keep: Keep
    older_than_ms: int


LADDER: Final = (
    Shedding(0.85, Keep.ORDINARY, KEEP_AGE_MS),
    Shedding(0.95, Keep.PER_MINUTE, KEEP_AGE_MS),
    Shedding(0.95, Keep.ORDINARY, 0),
    Shedding(0.95, Keep.PER_MINUTE, 0),
)
"""After the last rung the outbox refuses: wearables then keep their readings, which costs nothing but time."""


class Sealed(NamedTuple):
    """One frame, sealed to the cloud."""

    row_id: int
    frame_class: int
    keep: int
    session_id: bytes
    counter: int
    created_ms: int
    frame: bytes


class SentSession(NamedTuple):
    """A session that this edge seals with. Its secret is nowhere but in memory."""

    session_id: bytes
    binding_id: bytes
    frame_class: int
    number: int
    frame: bytes
    last_counter: int
    closed: bool


class Gap(NamedTuple):
    """Readings that were accepted and will never arrive."""

    binding_id: bytes
    frame_class: int
    from_ms: int
    to_ms: int
    rows: int
    reason: str  # "shed", "bad row", "session refused"


class Batch(msgspec.Struct):
    """What one transaction does. The same batch may be committed again after a failure."""

    rows: list[Sealed] = []
    received: list[SessionRow] = []
    sessions: dict[bytes, SentSession] = {}
    dismissed: list[bytes] = []  # stays that are no longer watched here: nothing of them is kept
    patients: dict[bytes, bytes] = {}  # stay id -> state, locked (`edge.at_rest`)
    memories: dict[bytes, bytes] = {}  # stay id -> what models remember, locked
    freed: list[tuple[bytes, int, int]] = []  # session, first and last counter
    retired: list[bytes] = []  # sessions without rows
    gaps: list[Gap] = []  # rows that are given up and why
    forgotten: list[bytes] = []  # received sessions that are too old to matter

    def __bool__(self) -> bool:
        return bool(
            self.rows
            or self.received
            or self.sessions
            or self.dismissed
            or self.patients
            or self.memories
            or self.freed
            or self.retired
            or self.gaps
            or self.forgotten
        )


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What was found when the outbox was opened."""

    bad_rows: int = 0
    moved_to: str | None = None  # the damaged file, where it was one
    salvaged: int = 0
    of: int | None = None  # rows that the damaged file held; None: not known

    @property
    def text(self) -> str:
        """For the heartbeat: "ok", "bad rows 2", "salvaged 120 of 123"."""
        if self.moved_to is not None:
            return f"salvaged {self.salvaged} of {'?' if self.of is None else self.of}"
        return f"bad rows {self.bad_rows}" if self.bad_rows else "ok"


class Outbox:
    """The file. Calls must not overlap; all but `open` may come from any thread.

    Raises, from every call that touches the disk:
        OutboxDamaged: the file turned out to be damaged; a new start salvages it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, start: Start, budget_pages: int) -> None:
        self.path = path
        self.start = start
        self.bytes_written = 0  # by commits, as handed to the operating system: log, data file, checkpoints
        self.rows_written = 0
        self._connection = connection
        self._budget_pages = budget_pages
        self._binding: dict[bytes, bytes] = {}
        self._next_id = 1 + (self._one("SELECT max(id) FROM outbox") or 0)
        self._depth: int = self._one("SELECT count(*) FROM outbox")
        for session in self.sessions():
            self._binding[session.session_id] = session.binding_id

    @classmethod
    def open(cls, path: Path, *, budget_bytes: int, now_ms: int) -> Self:
        """Open or make the file; whatever is in it, an outbox comes out.

        Raises:
            OutboxInUse: another process has it.
            NotCommitted: the disk is too full to begin a file.
        """
        pages = max(64, budget_bytes // PAGE_BYTES)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = _connect(path, pages)
            try:
                sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
                _make(connection)
                bad_rows = _drop_bad_rows(connection, now_ms) if sound else 0
            except sqlite3.Error:
                connection.close()
                raise
            if sound:
                return cls(path, connection, Start(bad_rows=bad_rows), pages)
            connection.close()
        except sqlite3.Error as error:
            code = _code(error)
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise OutboxInUse(path) from error
            if code not in _DAMAGE_AT_START:
                raise NotCommitted(str(error), full=code == sqlite3.SQLITE_FULL) from error
        return cls._salvage(path, pages, now_ms)

    @classmethod
    def _salvage(cls, path: Path, pages: int, now_ms: int) -> Self:
        aside = _move_aside(path, now_ms)
        connection = _connect(path, pages)
        _make(connection)
        found = Start(moved_to=aside.name)
        with contextlib.closing(_Damaged(aside)) as damaged, _transaction(connection, path):
            counts = {table: _copy(damaged, connection, table) for table in _TABLES}
            found = Start(moved_to=aside.name, salvaged=counts["outbox"], of=damaged.rows())
        outbox = cls(path, connection, found, pages)
        if found.of is None or found.of > found.salvaged:
            lost = 0 if found.of is None else found.of - found.salvaged
            with _transaction(connection, path):
                _record_gap(connection, Gap(NO_BINDING, FrameClass.VITALS, 0, now_ms, lost, "bad file"))
        return outbox

    def close(self) -> None:
        """Write the log into the file and let go of it."""
        self._connection.close()

    # Writing

    def new_id(self) -> int:
        """The id of the next row; they rise for ever."""
        self._next_id += 1
        return self._next_id - 1

    def commit(self, batch: Batch) -> None:
        """Write a batch durably. When this returns it is on disk.

        Raises:
            NotCommitted: nothing of it is.
            OutboxDamaged: the file is damaged.
        """
        before = _written()
        deleted = 0
        with _transaction(self._connection, self.path) as run:
            run.executemany(_INSERT["outbox"], [_with_crc(row) for row in batch.rows])
            run.executemany(_REPLACE["rx_session"], [_with_crc(_received(row)) for row in batch.received])
            run.executemany(_REPLACE["tx_session"], [_with_crc(_sent(session)) for session in batch.sessions.values()])
            for table in ("patient", "memory"):
                gone = [(stay_id,) for stay_id in batch.dismissed]
                run.executemany(f"DELETE FROM {table} WHERE binding=?", gone)  # noqa: S608 - names from code
            run.executemany(_REPLACE["patient"], [_with_crc(pair) for pair in batch.patients.items()])
            run.executemany(_REPLACE["memory"], [_with_crc(pair) for pair in batch.memories.items()])
            for freed in batch.freed:
                deleted += run.execute("DELETE FROM outbox WHERE sid=? AND ctr BETWEEN ? AND ?", freed).rowcount
            run.executemany("DELETE FROM tx_session WHERE sid=?", [(session_id,) for session_id in batch.retired])
            run.executemany("DELETE FROM rx_session WHERE sid=?", [(session_id,) for session_id in batch.forgotten])
            for gap in batch.gaps:
                _record_gap(run, gap)
        self._depth += len(batch.rows) - deleted
        self.rows_written += len(batch.rows)
        self.bytes_written += _written() - before
        for session in batch.sessions.values():
            self._binding[session.session_id] = session.binding_id
        for session_id in batch.retired:
            self._binding.pop(session_id, None)

    def shed(self, now_ms: int) -> list[tuple[bytes, int, int]]:
        """Give up vital signs by the ladder if the budget runs out; which counters of which session are void now.

        A little at a time: call it after every commit.

        Raises:
            NotCommitted, OutboxDamaged: as `commit`; what was given up before stays so and is told by the next call.
        """
        void: list[tuple[bytes, int, int]] = []
        for rung in LADDER:
            for _ in range(_SLICES):
                if self.used() < rung.share or not (given_up := self._give_up(rung, now_ms)):
                    break
                void += given_up
        return void

    def _give_up(self, rung: Shedding, now_ms: int) -> list[tuple[bytes, int, int]]:
        with _transaction(self._connection, self.path) as run:
            rows = run.execute(
                "SELECT id, sid, ctr, created_ms FROM outbox"
                " WHERE prio=? AND keep<=? AND created_ms<=? ORDER BY id LIMIT ?",
                (FrameClass.VITALS, rung.keep, now_ms - rung.older_than_ms, _SLICE),
            ).fetchall()
            run.executemany("DELETE FROM outbox WHERE id=?", [(row[0],) for row in rows])
            for gap in self._gaps_of((sid, created_ms) for _, sid, _, created_ms in rows):
                _record_gap(run, gap)
        self._depth -= len(rows)
        return [(sid, counter, counter) for _, sid, counter, _ in rows]

    def _gaps_of(self, rows: Iterable[tuple[bytes, int]]) -> list[Gap]:
        spans: dict[bytes, list[int]] = {}
        for session_id, created_ms in rows:
            span = spans.setdefault(self._binding.get(session_id, NO_BINDING), [created_ms, created_ms, 0])
            span[0], span[1], span[2] = min(span[0], created_ms), max(span[1], created_ms), span[2] + 1
        return [Gap(binding, FrameClass.VITALS, a, b, n, "shed") for binding, (a, b, n) in spans.items()]

    # Reading

    @property
    def depth(self) -> int:
        """Frames that are not known to be stored."""
        return self._depth

    def used(self) -> float:
        """Share of the budget that is in use."""
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return float(pages) / self._budget_pages

    def oldest_ms(self) -> int | None:
        """When the oldest frame was made; None if there is none."""
        found: int | None = self._one("SELECT created_ms FROM outbox ORDER BY id LIMIT 1")
        return found

    def page(self, session_id: bytes, from_counter: int, limit: int) -> Sequence[Row]:
        """Rows of a session by rising counter."""
        binding = self._binding.get(session_id, NO_BINDING)
        return [
            Row(row_id, session_id, counter, binding, frame)
            for row_id, counter, frame in self._all(
                "SELECT id, ctr, frame FROM outbox WHERE sid=? AND ctr>=? ORDER BY ctr LIMIT ?",
                (session_id, from_counter, limit),
            )
        ]

    def waiting(self) -> dict[bytes, tuple[int, list[tuple[int, int]]]]:
        """For every session with rows: its smallest row id and the ranges of its counters."""
        found: dict[bytes, tuple[int, list[tuple[int, int]]]] = {}
        for session_id, counter, row_id in self._all("SELECT sid, ctr, id FROM outbox ORDER BY sid, ctr", ()):
            if session_id not in found:
                found[session_id] = (row_id, [(counter, counter)])
                continue
            first, ranges = found[session_id]
            if ranges[-1][1] == counter - 1:
                ranges[-1] = (ranges[-1][0], counter)
            else:
                ranges.append((counter, counter))
            found[session_id] = (min(first, row_id), ranges)
        return found

    def sessions(self) -> list[SentSession]:
        """Every session of this edge that is still of interest, by rising number."""
        rows = self._all("SELECT sid, binding, class, no, frame, last_ctr, closed FROM tx_session ORDER BY no", ())
        return [SentSession(*row)._replace(closed=bool(row[-1])) for row in rows]

    def received(self) -> list[SessionRow]:
        """What was received, session by session."""
        return [
            SessionRow(
                session_id=sid, sender=sender, info=info, hpke=hpke, ranges=_RANGES.decode(ranges), last_ms=last_ms
            )
            for sid, sender, info, hpke, ranges, last_ms in self._all(
                "SELECT sid, sender, info, hpke, ranges, last_ms FROM rx_session", ()
            )
        ]

    def patients(self) -> dict[bytes, bytes]:
        """The state of every patient, by stay, as it was committed: locked. The column is called after the binding."""
        return dict(self._all("SELECT binding, state FROM patient", ()))

    def memories(self) -> dict[bytes, bytes]:
        """What models remember of every patient, by stay: locked."""
        return dict(self._all("SELECT binding, state FROM memory", ()))

    def gaps(self) -> list[Gap]:
        """What was given up or lost, oldest first."""
        return [
            Gap(*row)
            for row in self._all("SELECT binding, class, from_ms, to_ms, n, reason FROM gap ORDER BY from_ms, id", ())
        ]

    def latest_ms(self) -> int:
        """The latest moment that this file knows of: time does not go below it."""
        return int(self._one("SELECT max(last_ms) FROM rx_session") or 0)

    def _one(self, query: str) -> Any:
        rows = self._all(query, ())
        return rows[0][0] if rows else None

    def _all(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            if _code(error) in _DAMAGE:
                raise OutboxDamaged(self.path, str(error)) from error
            raise NotCommitted(str(error), full=False) from error


# Columns as they are written, the checksum last. The first column is the key.
_TABLES: Final = {
    "outbox": ("id", "prio", "keep", "sid", "ctr", "created_ms", "frame"),
    "rx_session": ("sid", "sender", "info", "hpke", "ranges", "last_ms"),
    "tx_session": ("sid", "binding", "class", "no", "frame", "last_ctr", "closed"),
    "patient": ("binding", "state"),
    "memory": ("binding", "state"),
    "gap": ("id", "binding", "class", "from_ms", "to_ms", "n", "reason"),
}
_KEYS: Final = {"outbox": "id INTEGER PRIMARY KEY", "gap": "id INTEGER PRIMARY KEY"}
_EXTRA: Final = {"outbox": ", UNIQUE(sid, ctr)"}
_INSERT: Final = {
    table: f"INSERT INTO {table} ({', '.join(columns)}, crc) VALUES ({', '.join('?' * len(columns))}, ?)"  # noqa: S608
    for table, columns in _TABLES.items()
}
_REPLACE: Final = {table: statement.replace("INSERT", "INSERT OR REPLACE", 1) for table, statement in _INSERT.items()}
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Before the first transaction a read error of the disk and tables of another shape are damage, too.
_DAMAGE_AT_START: Final = _DAMAGE | {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
_RANGES: Final = msgspec.msgpack.Decoder(tuple[tuple[int, int], ...])
_ENCODER: Final = msgspec.msgpack.Encoder()


def _connect(path: Path, pages: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    os.chmod(path, 0o600)
    try:
        for pragma in (
            f"page_size={PAGE_BYTES}",
            "locking_mode=EXCLUSIVE",  # one process, one connection, and no shared-memory file
            "journal_mode=WAL",
            "synchronous=FULL",  # NORMAL loses what was acknowledged when the power goes
            "wal_autocheckpoint=64",
            "journal_size_limit=262144",
            f"max_page_count={pages}",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table, columns in _TABLES.items():
        key = _KEYS.get(table, f"{columns[0]} BLOB PRIMARY KEY")
        rest = ", ".join(columns[1:])
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({key}, {rest}, crc INTEGER{_EXTRA.get(table, '')})")
    connection.execute("COMMIT")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        if not isinstance(error, sqlite3.Error):
            raise
        code = _code(error)
        if code in _DAMAGE:
            raise OutboxDamaged(path, str(error)) from error
        raise NotCommitted(str(error), full=code == sqlite3.SQLITE_FULL) from error


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _with_crc(values: Sequence[Any]) -> tuple[Any, ...]:
    return (*values, zlib.crc32(_ENCODER.encode(tuple(values))))


def _is_whole(row: Sequence[Any]) -> bool:
    return bool(_with_crc(row[:-1])[-1] == row[-1])


def _received(row: SessionRow) -> tuple[Any, ...]:
    return (row.session_id, row.sender, row.info, row.hpke, _ENCODER.encode(row.ranges), row.last_ms)


def _sent(session: SentSession) -> tuple[Any, ...]:
    return (*session[:-1], int(session.closed))


def _written() -> int:
    """Bytes that this thread has handed to the operating system; 0 where that is not told."""
    try:
        with open("/proc/thread-self/io", "rb") as facts:
            return int(facts.read().split()[3])
    except (OSError, IndexError, ValueError):
        return 0


# Damage


def _drop_bad_rows(connection: sqlite3.Connection, now_ms: int) -> int:
    """Delete rows whose checksum is wrong and write down what is missing; how many there were."""
    binding = dict(connection.execute("SELECT sid, binding FROM tx_session").fetchall())
    bad_rows = 0
    for table, columns in _TABLES.items():
        query = f"SELECT rowid, {', '.join(columns)}, crc FROM {table}"  # noqa: S608
        bad = [row for row in connection.execute(query) if not _is_whole(row[1:])]
        if not bad:
            continue
        bad_rows += len(bad)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"DELETE FROM {table} WHERE rowid=?", [(row[0],) for row in bad])  # noqa: S608
        for row in bad if table == "outbox" else ():
            created_ms = row[6] if isinstance(row[6], int) and 0 < row[6] <= now_ms else now_ms
            patient = binding.get(row[4], NO_BINDING)
            _record_gap(connection, Gap(patient, FrameClass.VITALS, created_ms, created_ms, 1, "bad row"))
        connection.execute("COMMIT")
    return bad_rows


def _record_gap(run: sqlite3.Connection, gap: Gap) -> None:
    """Write a gap down, as part of one that is near it where there is one."""
    near = run.execute(
        "SELECT id, from_ms, to_ms, n FROM gap WHERE binding=? AND class=? AND reason=? AND to_ms>=? AND from_ms<=?"
        " ORDER BY id DESC LIMIT 1",
        (gap.binding_id, gap.frame_class, gap.reason, gap.from_ms - _MERGE_GAPS_MS, gap.to_ms + _MERGE_GAPS_MS),
    ).fetchone()
    if near is not None:
        gap_id, from_ms, to_ms, rows = near
        gap = gap._replace(from_ms=min(gap.from_ms, from_ms), to_ms=max(gap.to_ms, to_ms), rows=gap.rows + rows)
    else:
        gap_id = 1 + (run.execute("SELECT max(id) FROM gap").fetchone()[0] or 0)
    run.execute(_REPLACE["gap"], _with_crc((gap_id, *gap)))


def _move_aside(path: Path, now_ms: int) -> Path:
    older = sorted(found for found in path.parent.glob(f"{path.name}.damaged-*") if not found.name.endswith("-wal"))
    for old in older[: max(0, len(older) - _DAMAGED_KEPT + 1)]:
        for part in (old, old.with_name(f"{old.name}-wal")):
            part.unlink(missing_ok=True)
    attempt = 0
    while (aside := path.with_name(f"{path.name}.damaged-{now_ms + attempt:015d}")).exists():
        attempt += 1
    for suffix in ("", "-wal"):  # the log belongs to the file: without it the newest rows are missing
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return aside


class _Damaged:
    """A file of which some pages cannot be read."""

    def __init__(self, path: Path) -> None:
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = sqlite3.connect(path, timeout=1.0, isolation_level=None)
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            self._connection.execute("PRAGMA writable_schema=ON").fetchall()
        except sqlite3.Error:
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def rows(self) -> int | None:
        """How many rows the outbox had, where that can still be told."""
        found = self._read("SELECT count(*) FROM outbox INDEXED BY sqlite_autoindex_outbox_1", ())[0]
        return int(found[0][0]) if found else None

    def read(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Every row that can be read: from both ends towards each damaged page, then on between them."""
        columns = f"rowid, {', '.join(_TABLES[table])}, crc"
        queries = 0
        spans = deque([(0, 1 << 40)])
        while spans and queries < _SALVAGE_QUERIES:
            low, high = spans.popleft()
            for order in ("ASC", "DESC"):
                queries += 1
                rows, whole = self._read(
                    f"SELECT {columns} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid {order}",  # noqa: S608
                    (low, high),
                )
                yield from (row[1:] for row in rows)
                if whole:
                    break
                if rows and order == "ASC":
                    low = rows[-1][0] + 1
                elif rows:
                    high = rows[-1][0] - 1
            else:
                if low < high:
                    middle = (low + high) // 2
                    spans += [(low, middle), (middle + 1, high)]

    def _read(self, query: str, values: tuple[Any, ...]) -> tuple[list[Any], bool]:
        """The rows up to the first error, and whether there was none."""
        rows: list[Any] = []
        if self._connection is None:
            return rows, True
        try:
            for row in self._connection.execute(query, values):
                rows.append(row)  # noqa: PERF402 - what came before the error counts
        except sqlite3.Error:
            return rows, False
        return rows, True


def _copy(damaged: _Damaged, into: sqlite3.Connection, table: str) -> int:
    """Take over every whole row; how many there were."""
    taken = 0
    insert = _INSERT[table].replace("INSERT", "INSERT OR IGNORE", 1)
    for row in damaged.read(table):
        if len(row) == len(_TABLES[table]) + 1 and _is_whole(row):
            taken += into.execute(insert, row).rowcount
    return taken
