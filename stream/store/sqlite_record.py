"""The record of patients in the SQLite store of the embedded engine, read row by row.

Opens the file to read only, so that reports and exports run beside the engine that writes it. Memory does not grow with
the length of a record.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from stream.errors import FileUnusable
from vitals.messages import (
    AlarmChanged,
    AlarmKind,
    AlarmState,
    Consciousness,
    News2Part,
    News2Scored,
    Priority,
    Reading,
)
from vitals.signs import SIGNS, VitalSign

STORE_FILE: Final = "store.sqlite"
KNOWN_SCHEMAS: Final = ("1", "2", "3", "4", "5", "6")

_VALUES: Final = tuple(spec.sign.value for spec in SIGNS)
_READING: Final = (
    "reading_id", "binding_id", "session_id", "counter", "at_ms", "received_ms", "arrived_ms", *_VALUES,
    "sensor_flags", "battery", "unusable",
)  # fmt: skip
_ALARM: Final = (
    "alarm_id", "revision", "binding_id", "rule_id", "key", "kind", "priority", "state", "at_ms", "onset_ms", "text",
    "basis", "latched", "acknowledged_by", "acknowledged_ms", "silenced_until_ms", "retrospective",
)  # fmt: skip
_ADDED: Final = ("response", "grade", "binding_ended")  # columns that older files do not have
_NEWS2: Final = ("reading_id", "binding_id", "at_ms", "total", "at_least", "risk", "spo2_scale", "parts")


class SqliteRecord:
    """One store, opened to read. Use as a context manager, or call `close`.

    Args:
        path: of the file.

    Raises:
        FileUnusable: there is no such file, or it is no store that this version reads.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileUnusable(path, "does not exist; name the folder that `vitalloom stream` writes its store to")
        self.path = path
        try:
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            schema = self._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
            columns = {row[1] for row in self._db.execute("PRAGMA table_info(alarm)")}
        except sqlite3.Error as error:
            raise FileUnusable(path, f"cannot be read as a store ({error})") from error
        if schema is None or schema[0] not in KNOWN_SCHEMAS:
            self.close()
            found = "none" if schema is None else schema[0]
            raise FileUnusable(path, f"has schema {found}, this vitalloom reads {', '.join(KNOWN_SCHEMAS)}")
        self._alarm_columns = (*_ALARM, *(name for name in _ADDED if name in columns))

    def __enter__(self) -> Self:
        # One transaction: what is read belongs to one moment, however long it takes.
        self._db.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def bindings(self) -> list[str]:
        """Every binding that has readings or alarms, in order."""
        rows = self._db.execute("SELECT DISTINCT binding_id FROM reading UNION SELECT DISTINCT binding_id FROM alarm")
        return sorted(row[0] for row in rows)

    def rows_of(self, binding_id: str) -> int:
        """How many rows `readings`, `scores` and `alarms` give for a binding."""
        tables = ("reading", "news2", "alarm")
        return sum(
            int(self._db.execute(f"SELECT count(*) FROM {table} WHERE binding_id = ?", (binding_id,)).fetchone()[0])  # noqa: S608 - names from code
            for table in tables
        )

    def readings(self, binding_id: str) -> Iterator[Reading]:
        """Every reading of a binding as it was judged, by event time."""
        for row in self._select("reading", _READING, "WHERE binding_id = ? ORDER BY at_ms, seq", (binding_id,)):
            level = row[VitalSign.CONSCIOUSNESS.value]
            yield Reading(**row | {VitalSign.CONSCIOUSNESS.value: None if level is None else Consciousness(int(level))})

    def scores(self, binding_id: str) -> Iterator[News2Scored]:
        """Every NEWS2 of a binding, by event time."""
        for row in self._select("news2", _NEWS2, "WHERE binding_id = ? ORDER BY at_ms, reading_id", (binding_id,)):
            parts = msgspec.json.decode(row["parts"], type=tuple[News2Part, ...])
            yield News2Scored(**row | {"parts": parts})

    def alarms(self, binding_id: str) -> Iterator[AlarmChanged]:
        """Every change of every alarm of a binding: alarm by alarm, each from its first revision on."""
        where = "WHERE binding_id = ? ORDER BY alarm_id, revision"
        return map(_alarm, self._select("alarm", self._alarm_columns, where, (binding_id,)))

    def all_alarms(self, *, from_ms: int) -> Iterator[AlarmChanged]:
        """Every change of alarms of all bindings from a moment on."""
        return map(_alarm, self._select("alarm", self._alarm_columns, "WHERE at_ms >= ?", (from_ms,)))

    def oldest_ms(self) -> int | None:
        """Event time of the oldest reading."""
        found: int | None = self._db.execute("SELECT min(at_ms) FROM reading").fetchone()[0]
        return found

    def newest_ms(self) -> int | None:
        """Event time of the newest reading."""
        found: int | None = self._db.execute("SELECT max(at_ms) FROM reading").fetchone()[0]
        return found

    def monitored_ms(self, *, from_ms: int) -> int:
        """Time in windows that hold a heart rate, added up over all bindings, from a moment on."""
        found = self._db.execute(
            "SELECT coalesce(sum(width_ms), 0) FROM vitals_window WHERE sign = ? AND start_ms >= ?",
            (VitalSign.HEART_RATE.value, from_ms),
        )
        return int(found.fetchone()[0])

    def _select(self, table: str, columns: tuple[str, ...], where: str, values: tuple[Any, ...]) -> Iterator[Any]:
        try:
            with contextlib.closing(
                self._db.execute(f"SELECT {', '.join(columns)} FROM {table} {where}", values)  # noqa: S608 - names from code
            ) as rows:
                for row in rows:
                    yield dict(zip(columns, row, strict=True))
        except sqlite3.Error as error:
            raise FileUnusable(self.path, f"cannot be read any further ({error})") from error


def _alarm(row: dict[str, Any]) -> AlarmChanged:
    typed = {
        "kind": AlarmKind(row["kind"]),
        "priority": Priority(row["priority"]),
        "state": AlarmState(row["state"]),
        "latched": bool(row["latched"]),
        "retrospective": bool(row["retrospective"]),
        "binding_ended": bool(row.get("binding_ended")),
    }
    return AlarmChanged(**row | typed)
