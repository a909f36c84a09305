"""The alarm desk's two connections to its data centre: a source of alarms, and a sink for what people enter.

`stream.desk.kafka_ports` connects a desk to a cluster, `stream.embedded.desk_ports` to the embedded engine.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, TypeAlias

from stream.records import AlarmLogRecord, EntryRecord


class LogPosition(NamedTuple):
    """Where reading of a partition goes on, and which record was read last: a place in a log includes which log."""

    next: int
    mark: bytes | None  # identity of the record before it; None: not known


class SourceRecord(NamedTuple):
    """One record of an alarm source, and its position there."""

    log: str  # the log that positions count in: a Kafka topic, or the id of an embedded store
    partition: int
    offset: int
    record: AlarmLogRecord | None  # None: it could not be decoded
    mark: bytes = b""  # its identity: no other record at this offset has it
    written_ms: int | None = None  # when it was written, by another machine's clock; None: not known


class AlarmBatch(NamedTuple):
    """Records that were read together; empty if there are no new ones."""

    records: Sequence[SourceRecord]
    is_current: bool  # with this batch, everything that was in the log when reading began has been read
    lag: Mapping[str, int]  # records that wait to be read, by partition
    is_another_log: bool = False  # the log is not the one of the positions; it is read from its beginning


PositionsOf: TypeAlias = Callable[[str], Mapping[int, LogPosition]]
"""The position of each partition of a log; partitions that were never read are left out."""

PutEntry: TypeAlias = Callable[[EntryRecord], Awaitable[None]]


class AlarmSource(Protocol):
    """Alarm records in a fixed order, with positions that stay valid after a restart."""

    @property
    def name(self) -> str:
        """Name of the source in logs and health checks: ``Kafka at 127.0.0.1:9092``."""
        ...

    def batches(self, positions: PositionsOf) -> AsyncGenerator[AlarmBatch, None]:
        """Read from `positions` on, for ever. Yields about twice a second even without new records.

        The reader commits a batch and its positions together before it asks for the next one. A source that finds
        another record before a position than the one that was read there reads the whole log, and says so with the
        first records.

        Raises:
            AlarmSourceLost, KafkaUnusable, OSError: the source does not reply; call again with the stored positions.
        """
        ...


class EntrySink(Protocol):
    """Sends what people enter to the monitor of their patient: acknowledgements, silences, observations."""

    def opened(self) -> AbstractAsyncContextManager[PutEntry]:
        """A connection. The function that it yields returns once the entry is durable outside the desk.

        An entry may be put again: applying it twice has the effect of applying it once.

        Raises:
            AlarmSourceLost, KafkaUnusable, OSError: the sink does not reply; open it again.
        """
        ...
