"""The alarm desk on the embedded engine: alarms from the alarm log of its store, answers to its queue of orders."""

import asyncio
import contextlib
import hashlib
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Final

from runtime.logs import get
from stream.desk.ports import AlarmBatch, LogPosition, PositionsOf, PutEntry, SourceRecord
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from stream.errors import AlarmSourceLost
from stream.records import AlarmLogRecord, decode_alarm_record
from wire.errors import DecodeError

_PARTITION: Final = 0  # a store has one
_FIRST: Final = 1  # position of the oldest record
_BATCH: Final = 1_000
_LOOK_S: Final = 0.1  # interval at which the log is checked for new records
_EMPTY_BATCH_EVERY: Final = 5  # checks, so that the desk sees that its source works

_log = get(__name__)


class StoreAlarmSource:
    """Reads the alarm log of a store that this process holds open."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def name(self) -> str:
        return str(self._store.path)

    async def batches(self, positions: PositionsOf) -> AsyncGenerator[AlarmBatch, None]:
        """As `AlarmSource.batches`."""
        with self._reading():
            log, end = self._store.alarm_log_id, self._store.alarm_log_end()
        kept = positions(log).get(_PARTITION)
        position = _FIRST if kept is None else kept.next
        is_another_log = kept is not None and self._is_another_log(kept, end)
        if is_another_log:
            _log.error("the desk's position is not in the store; reading all of its alarms", expected=position)
            position = _FIRST
        is_current = False
        while True:
            with self._reading():
                rows = self._store.alarm_records(position, _BATCH)
                newest = self._store.alarm_log_end()
            if rows:
                position = rows[-1][0] + 1
            is_current = is_current or position >= end or not rows
            waiting = max(0, newest - position) if len(rows) == _BATCH else 0
            records = [SourceRecord(log, _PARTITION, offset, _decoded(body), _mark(body)) for offset, body in rows]
            yield AlarmBatch(records, is_current, {str(_PARTITION): waiting}, is_another_log)
            is_another_log = is_another_log and not records
            for _ in range(_EMPTY_BATCH_EVERY):
                if self._end() > position:
                    break
                await asyncio.sleep(_LOOK_S)

    def _is_another_log(self, kept: LogPosition, end: int) -> bool:
        """Whether the record before a position is not the one that was read there: a backup was put back."""
        if kept.next > end:
            return True
        if kept.mark is None or kept.next <= _FIRST:
            return False
        with self._reading():
            rows = self._store.alarm_records(kept.next - 1, 1)
        return not rows or rows[0][0] != kept.next - 1 or _mark(rows[0][1]) != kept.mark

    def _end(self) -> int:
        with self._reading():
            return self._store.alarm_log_end()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """A read of the store that fails is tried again by the desk; neither the desk nor the engine ends."""
        try:
            yield
        except sqlite3.Error as error:
            raise AlarmSourceLost(f"{self.name}: {error}") from error


class EngineEntrySink:
    """Hands answers to the engine of this process."""

    def __init__(self, stream: EmbeddedStream) -> None:
        self._stream = stream

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[PutEntry]:
        """As `EntrySink.opened`. An order is durable when the engine has committed its result."""
        yield self._stream.put_entry


def _mark(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:16]


def _decoded(body: bytes) -> AlarmLogRecord | None:
    try:
        return decode_alarm_record(body)
    except DecodeError as error:
        _log.error("cannot decode an alarm record", problem=str(error))
        return None
