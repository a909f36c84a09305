"""InfluxDB of a site as a record of stays, read with its reader token.

It has what dashboards need and not all that the kernel was given: no ids of readings and no times of arrival in the
data centre. Readings are put in the order in which their edge received them, and get ids of their own.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from stream.config import InfluxConfig
from stream.store.influx import Database
from stream.store.line_protocol import ALARM, BINDING, OBSERVATION, READING, SCORE
from stream.what_if.record import ListedStay, StayRecord
from vitals.messages import (
    AlarmChanged,
    AlarmKind,
    AlarmState,
    Consciousness,
    Message,
    ModelScore,
    Observation,
    Priority,
    Reading,
)
from vitals.plan import MonitoringPlan
from vitals.replay import answers_of, as_recorded
from vitals.signs import SIGNS

LIMITS: Final = (
    "InfluxDB has no ids of readings: alarms that a reading began have other ids when they are replayed.",
    "InfluxDB has no times of arrival in the data centre: readings are replayed as their edge received them.",
    "Readings that came too late to alarm come too late again.",
    "InfluxDB does not say since when and until when a stay was watched.",
)
CHUNK_MS: Final = 6 * 3_600_000
"""So much is asked for at once: memory does not grow with the length of the record."""

_VALUES: Final = tuple(spec.sign.value for spec in SIGNS)
_BACKFILLED_MS: Final = MonitoringPlan().backfill_after_ms + 1
_NS_IN_MS: Final = 1_000_000
_Found = TypeVar("_Found")


class InfluxSource(msgspec.Struct, frozen=True):
    """A database and the time in it that is read."""

    config: InfluxConfig
    from_ms: int
    until_ms: int

    @property
    def name(self) -> str:
        return f"{self.config.bucket} at {self.config.url}"

    @property
    def limits(self) -> tuple[str, ...]:
        return LIMITS

    @property
    def cadences_ms(self) -> dict[str, int]:
        return {}

    def open(self) -> "OpenInflux":
        return OpenInflux(self)


class OpenInflux:
    """A database that answers queries."""

    def __init__(self, source: InfluxSource) -> None:
        self._source = source
        self._runner = asyncio.Runner()
        self._database = self._run(Database(source.config).__aenter__())

    def stays(self) -> list[ListedStay]:
        counted = self._rows(
            f'|> filter(fn: (r) => r._measurement == "{READING}" and r._field == "counter") |> count()', pivot=False
        )
        placed = self._rows(f'|> filter(fn: (r) => r._measurement == "{BINDING}") |> last()', pivot=True)
        known = {str(row["binding"]): row for row in placed}
        return [
            ListedStay(
                stay_id=stay_id,
                readings=int(row.get("_value", 0)),
                patient=str(known.get(stay_id, {}).get("patient", "")),
                ward=str(known.get(stay_id, {}).get("ward", "")),
            )
            for row in counted
            for stay_id in (str(row["binding"]),)
        ]

    def read(self, stay: ListedStay) -> StayRecord:
        alarms = self._rows(_of(ALARM, stay.stay_id), pivot=True)
        stored = tuple(alarm_of(row) for row in alarms)
        return StayRecord(
            messages=self._messages(stay.stay_id),
            answers=tuple(answers_of(one for one in stored if not one.retrospective)),
            until_ms=self._source.until_ms,
        )

    def close(self) -> None:
        self._run(self._database.__aexit__())
        self._runner.close()

    def _messages(self, stay_id: str) -> Iterator[Message]:
        for from_ms in range(self._source.from_ms, self._source.until_ms, CHUNK_MS):
            until_ms = min(from_ms + CHUNK_MS, self._source.until_ms)
            readings = self._rows(_of(READING, stay_id), pivot=True, from_ms=from_ms, until_ms=until_ms)
            others = self._rows(_of(SCORE, stay_id), pivot=True, from_ms=from_ms, until_ms=until_ms)
            observed = self._rows(_of(OBSERVATION, stay_id), pivot=True, from_ms=from_ms, until_ms=until_ms)
            yield from in_order(
                [reading_of(row) for row in readings],
                [score_of(row) for row in others],
                [observation_of(row) for row in observed],
            )

    def _rows(
        self, flux: str, *, pivot: bool, from_ms: int | None = None, until_ms: int | None = None
    ) -> list[Mapping[str, Any]]:
        start = self._source.from_ms if from_ms is None else from_ms
        stop = self._source.until_ms if until_ms is None else until_ms
        turned = '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")' if pivot else ""
        records = self._run(
            self._database.query(
                f'from(bucket: "{self._database.buckets.raw}") |> range(start: time(v: {start * _NS_IN_MS}), '
                f"stop: time(v: {stop * _NS_IN_MS})) {flux} {turned}"
            )
        )
        return [record.values for record in records]

    def _run(self, asked: Coroutine[Any, Any, _Found]) -> _Found:
        return self._runner.run(asked)


def in_order(readings: list[Reading], scores: list[ModelScore], observed: list[Observation]) -> list[Message]:
    """Readings as their edge received them, each with the scores of its time, observations where they were entered."""
    of_time: dict[int, list[ModelScore]] = {}
    for score in scores:
        of_time.setdefault(score.at_ms, []).append(score)
    found: list[Message] = []
    waiting = sorted(observed, key=lambda one: one.heard_ms)
    for reading in sorted(readings, key=lambda one: (one.received_ms, one.session_id, one.counter)):
        while waiting and waiting[0].heard_ms < reading.heard_ms:
            found.append(waiting.pop(0))
        found.append(as_recorded(reading))
        found += [
            msgspec.structs.replace(
                score,
                reading_id=reading.reading_id,
                received_ms=reading.received_ms,
                arrived_ms=reading.arrived_ms,
            )
            for score in of_time.pop(reading.at_ms, ())
        ]
    return [*found, *waiting]


def reading_of(row: Mapping[str, Any]) -> Reading:
    """A reading from a row of the measurement of readings, its fields as columns."""
    session, counter = bytes.fromhex(str(row["session"])), int(row["counter"])
    at_ms, received_ms = _ms(row), int(row["received_ms"])
    level = row.get("consciousness")
    values: dict[str, Any] = {name: row.get(name) for name in _VALUES}
    values["consciousness"] = None if level is None else Consciousness(int(level))
    is_too_late = bool(row.get("backfilled")) and received_ms - at_ms < _BACKFILLED_MS
    return Reading(
        stay_id=str(row["binding"]),
        reading_id=hashlib.sha256(session + counter.to_bytes(8, "big")).digest()[:16],
        session_id=session,
        counter=counter,
        at_ms=at_ms,
        received_ms=received_ms,
        sensor_flags=int(row.get("flags") or 0),
        unusable=int(row.get("unusable") or 0),
        battery=row.get("battery"),
        arrived_ms=at_ms + _BACKFILLED_MS if is_too_late else received_ms,
        binding_id=str(row.get("device") or ""),
        activity=int(row.get("activity") or 0),
        **values,
    )


def score_of(row: Mapping[str, Any]) -> ModelScore:
    """A model's score from a row; which reading it came with is not in it."""
    at_ms = _ms(row)
    return ModelScore(
        stay_id=str(row["binding"]),
        reading_id=b"",
        at_ms=at_ms,
        received_ms=at_ms,
        model=str(row["model"]),
        version=str(row.get("version") or ""),
        score=row.get("score"),
        threshold=float(row.get("threshold") or 1.0),
        reason=str(row.get("reason") or ""),
    )


def observation_of(row: Mapping[str, Any]) -> Observation:
    """What a person observed, from a row."""
    at_ms, entered_ms = _ms(row), int(row.get("entered_ms") or _ms(row))
    level = row.get("consciousness")
    names = {*_VALUES, "inspired_oxygen", "glucose", "off_until_ms"} - {"consciousness"}
    values: dict[str, Any] = {name: row.get(name) for name in names}
    return Observation(
        stay_id=str(row["binding"]),
        observation_id=bytes.fromhex(str(row.get("observation_id") or "")),
        by=str(row.get("by") or ""),
        at_ms=at_ms,
        entered_ms=entered_ms,
        heard_ms=entered_ms,
        consciousness=None if level is None else Consciousness(int(level)),
        corrects=bytes.fromhex(str(row.get("corrects") or "")),
        **values,
    )


def alarm_of(row: Mapping[str, Any]) -> AlarmChanged:
    """A change of an alarm from a row."""
    return AlarmChanged(
        stay_id=str(row["binding"]),
        alarm_id=bytes.fromhex(str(row["alarm_id"])),
        rule_id=str(row["rule"]),
        key=str(row.get("key") or ""),
        kind=AlarmKind(row["kind"]),
        priority=Priority(int(row["priority"])),
        state=AlarmState(row["state"]),
        at_ms=_ms(row),
        onset_ms=int(row["onset_ms"]),
        revision=int(row["revision"]),
        text=str(row.get("text") or ""),
        basis=str(row.get("basis") or ""),
        latched=bool(row.get("latched")),
        acknowledged_by=row.get("acknowledged_by"),
        acknowledged_ms=row.get("acknowledged_ms"),
        silenced_until_ms=row.get("silenced_until_ms"),
        retrospective=bool(row.get("retrospective")),
    )


def _of(measurement: str, stay_id: str) -> str:
    return f'|> filter(fn: (r) => r._measurement == "{measurement}" and r.binding == "{stay_id}")'


def _ms(row: Mapping[str, Any]) -> int:
    """The time of a point; its digits below the millisecond are no part of it."""
    return int(row["_time"].timestamp() * 1_000)
