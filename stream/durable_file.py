"""A SQLite file that survives crashes and power cuts, written by one process at a time."""

import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from weakref import finalize

from stream.errors import CommitFailed, FileUnusable, RowRefused

_OF_A_ROW: Final = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


class DurableFile(ABC):
    """One SQLite file. Use as a context manager, or call `close`. Subclasses create its tables in `_set_up`.

    Args:
        path: of the file; it is created if it does not exist.
        what: the kind of file, for error messages: ``a store``.
        why_alone: the damage that two writers would do, for error messages.
        synchronous: FULL survives a power cut. NORMAL may lose the last commits then, and is for benchmarks.
        max_pages: limit of its size in pages of 4 kB.

    Raises:
        FileUnusable: the file is something else, or another process uses it.
    """

    def __init__(
        self, path: Path, *, what: str, why_alone: str, synchronous: str = "FULL", max_pages: int | None = None
    ) -> None:
        self.path = path
        # Under its real name, so that two links to one file are one file.
        self._unlock = finalize(self, os.close, _only_writer(path.resolve(), why_alone))
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            if max_pages is not None:
                self._db.execute(f"PRAGMA max_page_count = {int(max_pages)}")
            self._set_up()
        except sqlite3.Error as error:
            self._unlock()
            raise FileUnusable(path, f"is not {what}, or cannot be written ({error})") from error
        except FileUnusable:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()
        self._unlock()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: either everything in the block is written, or nothing.

        Raises:
            RowRefused: a row in it cannot be stored; nothing was written.
            CommitFailed: the disk is full, or SQLite failed; nothing was written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if isinstance(error, _OF_A_ROW):
                raise RowRefused(self.path, str(error)) from error
            raise self._refused(error) from error
        except BaseException:
            self._roll_back()
            raise

    @abstractmethod
    def _set_up(self) -> None:
        """Create the tables, or check that the existing ones have the expected schema."""

    def _schema(self, tables: str, key: str, schema: int) -> str:
        """The schema version of the file; the tables are created if the file is empty.

        Args:
            key: the key of the version in the table `meta`; each kind of file has its own.
        """
        with_meta = self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone()
        if with_meta is None and self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None:
            raise FileUnusable(self.path, "is a database of another program; name another file")
        if with_meta is None:
            self._db.executescript(f"BEGIN;{tables}")
            self._db.execute("INSERT INTO meta VALUES (?, ?)", (key, str(schema)))
            self._db.execute("COMMIT")
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "none" if row is None else str(row[0])

    def _refused(self, error: sqlite3.Error) -> CommitFailed:
        return CommitFailed(self.path, str(error))

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _only_writer(path: Path, why: str) -> int:
    """Lock a file for its only writer; returns the descriptor of the lock file. Readers need no lock.

    Args:
        why: the damage that two writers would do, for the error message.

    Raises:
        FileUnusable: another process, or another object in this process, writes to the file.
    """
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileUnusable(path, f"cannot be written ({error.strerror})") from error
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FileUnusable(path, f"is in use; {why}") from None
    return lock
