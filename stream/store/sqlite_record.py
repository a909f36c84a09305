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
from stream.records import StayEndedRecord, decode_alarm_record
from vitals.messages import (
    AlarmChanged,
    AlarmKind,
    AlarmState,
    Consciousness,
    ModelScore,
    News2Part,
    News2Scored,
    Observation,
    ObservationRecorded,
    Priority,
    Reading,
)
from vitals.signs import SIGNS, VitalSign
from wire.errors import DecodeError

STORE_FILE: Final = "store.sqlite"
KNOWN_SCHEMAS: Final = ("1", "2", "3", "4", "5", "6", "7")

_VALUES: Final = tuple(spec.sign.value for spec in SIGNS)
_READING: Final = (
    "reading_id", "binding_id", "session_id", "counter", "at_ms", "received_ms", "arrived_ms", *_VALUES,
    "sensor_flags", "battery", "unusable",
)  # fmt: skip
_ALARM: Final = (
    "alarm_id", "revision", "binding_id", "rule_id", "key", "kind", "priority", "state", "at_ms", "onset_ms", "text",
    "basis", "latched", "acknowledged_by", "acknowledged_ms", "silenced_until_ms", "retrospective",
)  # fmt: skip
_SCORE: Final = (
    "binding_id", "reading_id", "at_ms", "received_ms", "arrived_ms", "model", "version", "score", "threshold",
    "reason",
)  # fmt: skip
# Columns keep their first names.
_RENAMED: Final = {"binding_id": "stay_id", "binding_ended": "stay_ended", "device": "binding_id", "observer": "by"}
_ADDED: Final = {  # columns that older files do not have
    "alarm": ("response", "grade", "binding_ended", "orders_version"),
    "reading": ("device", "activity"),
    "news2": ("orders_version",),
}
_OBSERVATION: Final = (
    "binding_id", "observation_id", "observer", "at_ms", "entered_ms", "heard_ms", *_VALUES, "inspired_oxygen",
    "oxygen_device", "glucose", "off_until_ms", "note", "corrects", "edge", "late", "refused",
)  # fmt: skip
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
            tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            added = {
                table: tuple(name for name in names if name in self._columns_of(table))
                for table, names in _ADDED.items()
            }
            self._has_observations = bool(self._columns_of("observation"))
        except sqlite3.Error as error:
            raise FileUnusable(path, f"cannot be read as a store ({error})") from error
        if schema is None or schema[0] not in KNOWN_SCHEMAS:
            self.close()
            found = "none" if schema is None else schema[0]
            raise FileUnusable(path, f"has schema {found}, this vitalloom reads {', '.join(KNOWN_SCHEMAS)}")
        self._has_scores, self._has_log = "model_score" in tables, "alarm_log" in tables
        self._alarm_columns = (*_ALARM, *added["alarm"])
        self._reading_columns = (*_READING, *added["reading"])
        self._news2_columns = (*_NEWS2, *added["news2"])

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

    def stays(self) -> list[str]:
        """Every stay that has readings, observations or alarms, in order."""
        found = [f"SELECT DISTINCT binding_id FROM {table}" for table in self._tables]  # noqa: S608 - names from code
        return sorted(row[0] for row in self._db.execute(" UNION ".join(found)))

    def rows_of(self, stay_id: str) -> int:
        """How many rows `readings`, `observations`, `scores` and `alarms` give for a stay."""
        return sum(
            int(self._db.execute(f"SELECT count(*) FROM {table} WHERE binding_id = ?", (stay_id,)).fetchone()[0])  # noqa: S608 - names from code
            for table in (*self._tables, "news2")
        )

    def readings(self, stay_id: str) -> Iterator[Reading]:
        """Every reading of a stay as it was judged, of all its devices, by event time."""
        where = "WHERE binding_id = ? ORDER BY at_ms, seq"
        for row in self._select("reading", self._reading_columns, where, (stay_id,)):
            yield Reading(**row | _consciousness(row))

    def applied(self, stay_id: str) -> Iterator[Reading | ModelScore | Observation]:
        """What was judged of a stay, in the order in which it was applied: readings, observations, scores of models.

        A score came with its reading. Among readings an observation stands where it arrived.
        """
        scores: dict[bytes, list[ModelScore]] = {}
        if self._has_scores:
            for row in self._select("model_score", _SCORE, "WHERE binding_id = ? ORDER BY at_ms", (stay_id,)):
                scores.setdefault(row["reading_id"], []).append(ModelScore(**row))
        observed = sorted((one.observation for one in self.observations(stay_id)), key=lambda one: one.heard_ms)
        columns, where = self._reading_columns, "WHERE binding_id = ? ORDER BY seq"
        for row in self._select("reading", columns, where, (stay_id,)):
            reading = Reading(**row | _consciousness(row))
            while observed and observed[0].heard_ms < reading.heard_ms:
                yield observed.pop(0)
            yield reading
            yield from scores.pop(reading.reading_id, ())
        yield from observed

    def readings_of(self, stay_id: str) -> int:
        """How many readings there are of a stay."""
        found = self._db.execute("SELECT count(*) FROM reading WHERE binding_id = ?", (stay_id,))
        return int(found.fetchone()[0])

    def ends(self) -> dict[str, StayEndedRecord]:
        """The end of monitoring by stay, as far as the alarm log still has it."""
        found: dict[str, StayEndedRecord] = {}
        if self._has_log:
            for row in self._select("alarm_log", ("body",), "ORDER BY seq", ()):
                with contextlib.suppress(DecodeError):
                    record = decode_alarm_record(row["body"])
                    if isinstance(record, StayEndedRecord):
                        found.setdefault(record.stay_id, record)
        return found

    def until_ms(self) -> int | None:
        """The last moment that the store tells of: an arrival, or a change of an alarm."""
        found: int | None = self._db.execute(
            "SELECT max(at_ms) FROM (SELECT max(coalesce(arrived_ms, received_ms)) AS at_ms FROM reading "
            "UNION ALL SELECT max(at_ms) FROM alarm)"
        ).fetchone()[0]
        return found

    def observations(self, stay_id: str) -> Iterator[ObservationRecorded]:
        """Every observation of a stay as it was recorded, by when it was made."""
        if not self._has_observations:
            return
        where = "WHERE binding_id = ? ORDER BY at_ms, observation_id"
        for row in self._select("observation", _OBSERVATION, where, (stay_id,)):
            late, refused = bool(row.pop("late")), row.pop("refused")
            yield ObservationRecorded(observation=Observation(**row | _consciousness(row)), late=late, refused=refused)

    def scores(self, stay_id: str) -> Iterator[News2Scored]:
        """Every NEWS2 of a stay, by event time."""
        where = "WHERE binding_id = ? ORDER BY at_ms, reading_id"
        for row in self._select("news2", self._news2_columns, where, (stay_id,)):
            parts = msgspec.json.decode(row["parts"], type=tuple[News2Part, ...])
            yield News2Scored(**row | {"parts": parts})

    def alarms(self, stay_id: str) -> Iterator[AlarmChanged]:
        """Every change of every alarm of a stay: alarm by alarm, each from its first revision on."""
        where = "WHERE binding_id = ? ORDER BY alarm_id, revision"
        return map(_alarm, self._select("alarm", self._alarm_columns, where, (stay_id,)))

    def all_alarms(self, *, from_ms: int) -> Iterator[AlarmChanged]:
        """Every change of alarms of all stays from a moment on."""
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
        """Time in windows that hold a heart rate, added up over all stays, from a moment on."""
        found = self._db.execute(
            "SELECT coalesce(sum(width_ms), 0) FROM vitals_window WHERE sign = ? AND start_ms >= ?",
            (VitalSign.HEART_RATE.value, from_ms),
        )
        return int(found.fetchone()[0])

    @property
    def _tables(self) -> tuple[str, ...]:
        return ("reading", "alarm", "observation") if self._has_observations else ("reading", "alarm")

    def _columns_of(self, table: str) -> set[str]:
        return {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}

    def _select(self, table: str, columns: tuple[str, ...], where: str, values: tuple[Any, ...]) -> Iterator[Any]:
        try:
            with contextlib.closing(
                self._db.execute(f"SELECT {', '.join(columns)} FROM {table} {where}", values)  # noqa: S608 - names from code
            ) as rows:
                names = tuple(_RENAMED.get(column, column) for column in columns)
                for row in rows:
                    yield dict(zip(names, row, strict=True))
        except sqlite3.Error as error:
            raise FileUnusable(self.path, f"cannot be read any further ({error})") from error


def _consciousness(row: dict[str, Any]) -> dict[str, Consciousness | None]:
    level = row[VitalSign.CONSCIOUSNESS.value]
    return {VitalSign.CONSCIOUSNESS.value: None if level is None else Consciousness(int(level))}


def _alarm(row: dict[str, Any]) -> AlarmChanged:
    typed = {
        "kind": AlarmKind(row["kind"]),
        "priority": Priority(row["priority"]),
        "state": AlarmState(row["state"]),
        "latched": bool(row["latched"]),
        "retrospective": bool(row["retrospective"]),
        "stay_ended": bool(row.get("stay_ended")),
    }
    return AlarmChanged(**row | typed)
