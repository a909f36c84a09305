"""The SQLite file of the registry: its tables, its transactions, and the audit log beside it.

Unlike a `DurableFile` it has several writers, as the registry server and the commands change it at the same time, so it
holds no lock between transactions.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from runtime.clock import Clock
from stream.errors import EnrolmentRefused, FileUnusable, RegistryRefused
from stream.site.audit import AuditLog

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device (
    device_id TEXT PRIMARY KEY, role TEXT NOT NULL, label TEXT NOT NULL, created_ms INTEGER NOT NULL,
    revoked_ms INTEGER, revoked_why TEXT, bad_tries INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS token (
    hash BLOB PRIMARY KEY, device_id TEXT NOT NULL, role TEXT NOT NULL, expires_ms INTEGER NOT NULL,
    used_ms INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS credential (
    serial TEXT PRIMARY KEY, device_id TEXT NOT NULL, signing_key BLOB NOT NULL, not_before_ms INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL, made_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS credential_device ON credential (device_id);
CREATE TABLE IF NOT EXISTS certificate (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, device_id TEXT, not_before_ms INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL, revoke_ms INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS certificate_device ON certificate (device_id);
CREATE TABLE IF NOT EXISTS prekey (
    device_id TEXT PRIMARY KEY, prekey_id BLOB NOT NULL, prekey BLOB NOT NULL, since_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stay (
    stay_id TEXT PRIMARY KEY, patient TEXT NOT NULL, bed TEXT NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER,
    spo2_scale INTEGER NOT NULL, age_years REAL, is_male INTEGER, chest_pain INTEGER, is_pregnant INTEGER
    ) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS stay_patient ON stay (patient);
-- Patient, bed, scale and facts of a binding are what they were when it was made: the stay says what they are now.
CREATE TABLE IF NOT EXISTS binding (
    binding_id TEXT PRIMARY KEY, patient TEXT NOT NULL, bed TEXT NOT NULL, wearable_id TEXT NOT NULL,
    edge_id TEXT NOT NULL, valid_from_ms INTEGER NOT NULL, valid_to_ms INTEGER, spo2_scale INTEGER NOT NULL,
    age_years REAL, is_male INTEGER, chest_pain INTEGER, is_pregnant INTEGER, stay_id TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS binding_wearable ON binding (wearable_id);
CREATE INDEX IF NOT EXISTS binding_edge ON binding (edge_id);
CREATE TABLE IF NOT EXISTS document (
    kind INTEGER NOT NULL, subject BLOB NOT NULL, recipient BLOB NOT NULL, version INTEGER NOT NULL,
    said BLOB NOT NULL, frame BLOB NOT NULL, PRIMARY KEY (kind, subject)) WITHOUT ROWID;
"""

_ORDERS_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS order_level (
    level TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, said TEXT NOT NULL, who TEXT NOT NULL,
    why TEXT NOT NULL, set_ms INTEGER NOT NULL, from_ms INTEGER NOT NULL, until_ms INTEGER,
    by_prescriber INTEGER NOT NULL, PRIMARY KEY (level, key, version)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS order_level_stays_as_set BEFORE UPDATE ON order_level
    BEGIN SELECT RAISE(ABORT, 'what was ordered is kept as it was'); END;
CREATE TRIGGER IF NOT EXISTS order_level_stays_for_ever BEFORE DELETE ON order_level
    BEGIN SELECT RAISE(ABORT, 'what was ordered is kept for ever'); END;
CREATE TABLE IF NOT EXISTS stay_orders (
    stay_id BLOB PRIMARY KEY, version INTEGER NOT NULL, until_ms INTEGER, orders BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders_document (
    stay_id BLOB NOT NULL, edge_id BLOB NOT NULL, version INTEGER NOT NULL, said BLOB NOT NULL, frame BLOB NOT NULL,
    PRIMARY KEY (stay_id, edge_id)) WITHOUT ROWID;
"""
"""What is ordered at each level, for ever; the orders of each stay that follow; a document of them for each edge."""

_ADDED_TO_BINDING: Final = (
    "age_years REAL",
    "is_male INTEGER",
    "chest_pain INTEGER",
    "is_pregnant INTEGER",
    "stay_id TEXT",
)
"""Columns of `binding` that registries of earlier versions do not have."""

_ITS_OWN_STAY: Final = """
INSERT OR IGNORE INTO stay
    SELECT binding_id, patient, bed, valid_from_ms, valid_to_ms, spo2_scale, age_years, is_male, chest_pain, is_pregnant
    FROM binding WHERE stay_id IS NULL;
UPDATE binding SET stay_id = binding_id WHERE stay_id IS NULL;
"""
"""In a registry of an earlier version every binding was a stay. Two open ones of a patient stay two: nobody knows which
devices that person wears, so nothing is joined or ended."""

_WRITTEN_BY_AN_EARLIER_ONE: Final = """
CREATE TRIGGER IF NOT EXISTS binding_is_its_own_stay AFTER INSERT ON binding WHEN NEW.stay_id IS NULL BEGIN
    INSERT OR IGNORE INTO stay VALUES (NEW.binding_id, NEW.patient, NEW.bed, NEW.valid_from_ms, NEW.valid_to_ms,
        NEW.spo2_scale, NEW.age_years, NEW.is_male, NEW.chest_pain, NEW.is_pregnant);
    UPDATE binding SET stay_id = NEW.binding_id WHERE binding_id = NEW.binding_id;
END
"""
"""A command of an earlier version may still be installed. It does not know of stays; its patients are watched, too."""


class RegistryFile:
    """The database and the audit log. Changes go through `change`; several processes may make them.

    Args:
        path: of the database; it is made if it is not there.
        clock: for the times in the audit log.
        to_read: refuse every change.

    Raises:
        FileUnusable: the file is something else, or cannot be written.
    """

    def __init__(self, path: Path, *, clock: Clock, to_read: bool) -> None:
        self.path = path
        self.audit = AuditLog(path.with_name("audit.log"))
        self._clock = clock
        self._to_read = to_read
        self._db = _open_database(path)

    def close(self) -> None:
        self._db.close()

    @property
    def version(self) -> int:
        """A number that differs after any change, by this connection or another."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0]) + self._db.total_changes

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one SQL statement. Statements that write belong inside `change`."""
        return self._db.execute(statement, parameters)

    @contextmanager
    def change(
        self,
        what: str,
        *,
        who: str,
        subject: str,
        more: Mapping[str, str | int | None] | None = None,
        **detail: str | int | None,
    ) -> Iterator[list[str]]:
        """One transaction, and its line in the audit log.

        Args:
            what: the kind of change, for the audit log. A name appended to the list that is yielded replaces it.
            who: made the change: a user or a network address.
            subject: the device, binding, stay or service that was changed.
            more: further details, which may be known only in the course of the change.

        Raises:
            RegistryRefused: the file was opened for reading.
        """
        names = [what]
        self.check_writable()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield names
        except EnrolmentRefused as refused:
            if not refused.commit:
                self._db.execute("ROLLBACK")
                raise
            self._commit(names[-1], who, subject, {**detail, **(more or {})})
            raise
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._commit(names[-1], who, subject, {**detail, **(more or {})})

    def check_writable(self) -> None:
        """Raises RegistryRefused if the file was opened for reading."""
        if self._to_read:
            raise RegistryRefused(f"{self.path}: opened for reading; a change needs the site's signing keys")

    def meta(self, key: str) -> str | None:
        """A single fact about the registry, such as `audit_head`."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _commit(self, what: str, who: str, subject: str, detail: dict[str, Any]) -> None:
        # The log first: a line about a change that was not made is better than a change without a line.
        try:
            record = self.audit.append(what, at_ms=self._clock.now_ms(), who=who, subject=subject, **detail)
            self.set_meta("audit_head", record.hash)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _open_database(path: Path) -> sqlite3.Connection:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(_SCHEMA)
        _complete(db)
        db.executescript(_ORDERS_SCHEMA)
    except (OSError, sqlite3.Error) as error:
        raise FileUnusable(path, f"is not a registry ({error})") from error
    return db


def _complete(db: sqlite3.Connection) -> None:
    """Complete a registry of an earlier version; two processes may try at the same time."""
    if _missing_columns(db):
        db.execute("BEGIN IMMEDIATE")
        for column in _missing_columns(db):
            db.execute(f"ALTER TABLE binding ADD COLUMN {column}")
        db.execute("COMMIT")
    db.execute("CREATE INDEX IF NOT EXISTS binding_stay ON binding (stay_id)")
    if db.execute("SELECT 1 FROM binding WHERE stay_id IS NULL LIMIT 1").fetchone() is not None:
        db.execute("BEGIN IMMEDIATE")
        for statement in _ITS_OWN_STAY.split(";"):
            db.execute(statement)
        db.execute("COMMIT")
    db.execute(_WRITTEN_BY_AN_EARLIER_ONE)


def _missing_columns(db: sqlite3.Connection) -> list[str]:
    present = {row[1] for row in db.execute("PRAGMA table_info(binding)")}
    return [column for column in _ADDED_TO_BINDING if column.split()[0] not in present]
