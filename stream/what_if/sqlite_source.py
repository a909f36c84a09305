"""The SQLite store of the embedded engine as a record of stays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from stream.store.sqlite_record import SqliteRecord
from stream.what_if.record import ListedStay, StayRecord, with_periods
from vitals.messages import AlarmChanged, BindingPeriod, Message, Reading
from vitals.replay import answers_of, as_recorded

LIMITS: Final = (
    "How far a clock was wrong is not stored: the texts of `clock` alarms say only that times are corrected.",
    "Before the first reading the store does not know since when a stay is watched: with --site the registry says it.",
    "Of an alarm that an earlier version began again under the id of an ended one, only new revisions are stored.",
    "Readings that were given other times when a clock turned out to be wrong are replayed with the times stored.",
)


class SqliteSource(msgspec.Struct, frozen=True):
    """A store file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def limits(self) -> tuple[str, ...]:
        return LIMITS

    @property
    def cadences_ms(self) -> dict[str, int]:
        return {}

    def open(self) -> "OpenStore":
        return OpenStore(self)


class OpenStore:
    """A store that is open to read."""

    def __init__(self, source: SqliteSource) -> None:
        self._record = SqliteRecord(source.path).__enter__()
        self._until_ms = self._record.until_ms()
        self._ends = self._record.ends()

    def stays(self) -> list[ListedStay]:
        return [
            ListedStay(stay_id=stay_id, readings=self._record.readings_of(stay_id)) for stay_id in self._record.stays()
        ]

    def read(self, stay: ListedStay) -> StayRecord:
        stored = tuple(self._record.alarms(stay.stay_id))
        return StayRecord(
            messages=with_periods(self._messages(stay.stay_id), [*stay.periods, *self._end(stay, stored)]),
            answers=tuple(answers_of(one for one in stored if not one.retrospective)),
            stored=stored,
            until_ms=self._until_ms,
        )

    def close(self) -> None:
        self._record.close()

    def _end(self, stay: ListedStay, stored: tuple[AlarmChanged, ...]) -> Iterator[BindingPeriod]:
        """The end of the stay, when it was known. Without the alarm log: as the alarms tell that ended with it."""
        end = self._ends.get(stay.stay_id)
        at_ms = next((one.at_ms for one in stored if one.stay_ended), None) if end is None else end.at_ms
        if at_ms is None:
            return
        ended_ms = at_ms if end is None else end.ended_ms
        from_ms = stay.periods[0].from_ms if stay.periods else ended_ms
        yield BindingPeriod(stay_id=stay.stay_id, from_ms=from_ms, to_ms=ended_ms, heard_ms=at_ms)

    def _messages(self, stay_id: str) -> Iterator[Message]:
        for message in self._record.applied(stay_id):
            yield as_recorded(message) if isinstance(message, Reading) else message
