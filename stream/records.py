"""Records of the log: what lies in the Kafka topics, as bytes and as messages.

Everything is keyed by binding, so that one patient stays on one partition; the partitions of `vl.readings.v1`,
`vl.state.v1`, `vl.events.v1` and `vl.alarms.v1` correspond. Arrays with a tag, fields are only ever added at the end.
"""

from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    FreshnessChanged,
    ModelScore,
    ModelScored,
    News2Scored,
    Reading,
    ReadingJudged,
    Silence,
    WindowClosed,
    WindowOutdated,
)
from wire.codec import EdgeAlarmV1, HeartbeatV1
from wire.errors import DecodeError, Reason

STATE_VERSION: Final = 1


class FrameRef(msgspec.Struct, frozen=True, array_like=True):
    """A frame of an edge, as its acknowledgement has to name it."""

    edge_id: bytes
    session_id: bytes
    frame_class: int
    counter: int


class Arrived(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="arrived"):
    """What one frame of an edge said of one patient; `vl.readings.v1`."""

    messages: tuple[Reading | ModelScore, ...]  # in the order in which they are to be applied
    uplink: FrameRef | None = None
    spo2_scale: int = 1  # as ordered for this binding


class Ordered(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="ordered"):
    """What a person wants; it stands in the same line as the readings. `vl.orders.v1`, then `vl.readings.v1`."""

    message: Acknowledge | Silence


ForPatient: TypeAlias = Arrived | Ordered
"""A record of `vl.readings.v1`."""

Judgement: TypeAlias = ReadingJudged | News2Scored | ModelScored | WindowClosed | WindowOutdated | FreshnessChanged
"""An event that is no alarm."""


class Judged(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="judged"):
    """What became of one patient's messages between two commits; `vl.events.v1`."""

    binding_id: str
    events: tuple[Judgement, ...]
    uplinks: tuple[FrameRef, ...] = ()  # frames that all this, and what was judged before, came of


class Alarmed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="alarmed"):
    """An alarm as it stands now; `vl.alarms.v1`."""

    alarm: AlarmChanged


class EdgeAlarmed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="edge_alarmed"):
    """An alarm that an edge found by itself; `vl.alarms.v1`."""

    binding_id: str
    alarm: EdgeAlarmV1
    arrived_ms: int
    uplink: FrameRef


class Beat(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="beat"):
    """An edge's heartbeat; `vl.heartbeats.v1`."""

    heartbeat: HeartbeatV1
    arrived_ms: int
    uplink: FrameRef


class Stored(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="stored"):
    """Frames of which everything is in the database; `vl.stored.v1`."""

    uplinks: tuple[FrameRef, ...]
    reason: str = ""  # or why it is not, and never will be: the dead letters have it


class PartitionHealth(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="partition_health"):
    """How one partition does, and what stands open in it; `vl.health.v1`."""

    partition: int
    worker: str
    at_ms: int
    patients: int
    open_alarms: tuple[int, int, int]  # low, medium, high
    unanswered: int  # of the high ones, those that nobody has acknowledged
    lag: int  # records that wait to be read
    worst_age_ms: int  # of a record when it was applied, since the last one of these


class Placed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="placed"):
    """Which patient is where, as ingest's registry says; `vl.health.v1`. Told again and again, for screens."""

    binding_id: str
    patient: str  # a pseudonym
    bed: str
    edge_id: str
    at_ms: int
    valid_from_ms: int
    valid_to_ms: int | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="dead_letter"):
    """What somebody authentic said and nobody could use, with the place where it failed; `vl.dlq.v1`."""

    stage: str  # "ingest", "processor", "store"
    reason: str
    problem: str  # the kind of error, without values
    at_ms: int
    source: str  # a topic, partition and offset, or a session and counter
    payload: bytes
    version: str  # of the code that failed
    uplink: FrameRef | None = None
    binding_id: str = ""  # of what an edge said, as its seal says


class StateRow(msgspec.Struct, frozen=True, array_like=True):
    """One patient as of one offset; `vl.state.v1`, compacted."""

    version: int
    last_offset: int  # of the last record in `vl.readings.v1` that is in it
    spo2_scale: int
    snapshot: bytes


Record: TypeAlias = (
    Arrived
    | Ordered
    | Judged
    | Alarmed
    | EdgeAlarmed
    | Beat
    | Stored
    | PartitionHealth
    | Placed
    | DeadLetter
    | StateRow
)
T = TypeVar("T")

_ENCODER: Final = msgspec.msgpack.Encoder()
_FOR_PATIENT: Final[msgspec.msgpack.Decoder[Arrived | Ordered]] = msgspec.msgpack.Decoder(ForPatient)
_JUDGED: Final = msgspec.msgpack.Decoder(Judged)
_ALARMED: Final[msgspec.msgpack.Decoder[Alarmed | EdgeAlarmed]] = msgspec.msgpack.Decoder(Alarmed | EdgeAlarmed)
_BEAT: Final = msgspec.msgpack.Decoder(Beat)
_STORED: Final = msgspec.msgpack.Decoder(Stored)
_HEALTH: Final[msgspec.msgpack.Decoder[PartitionHealth | Placed]] = msgspec.msgpack.Decoder(PartitionHealth | Placed)
_DEAD: Final = msgspec.msgpack.Decoder(DeadLetter)
_STATE: Final = msgspec.msgpack.Decoder(StateRow)


def encode_record(record: Record) -> bytes:
    """The value of a record; the same record gives the same bytes."""
    return _ENCODER.encode(record)


def decode_for_patient(value: bytes | None) -> Arrived | Ordered:
    """A record of `vl.readings.v1` or `vl.orders.v1`. Raises DecodeError."""
    return _decode(_FOR_PATIENT, value)


def decode_judged(value: bytes | None) -> Judged:
    """A record of `vl.events.v1`. Raises DecodeError."""
    return _decode(_JUDGED, value)


def decode_alarmed(value: bytes | None) -> Alarmed | EdgeAlarmed:
    """A record of `vl.alarms.v1`. Raises DecodeError."""
    return _decode(_ALARMED, value)


def decode_beat(value: bytes | None) -> Beat:
    """A record of `vl.heartbeats.v1`. Raises DecodeError."""
    return _decode(_BEAT, value)


def decode_stored(value: bytes | None) -> Stored:
    """A record of `vl.stored.v1`. Raises DecodeError."""
    return _decode(_STORED, value)


def decode_health(value: bytes | None) -> PartitionHealth | Placed:
    """A record of `vl.health.v1`. Raises DecodeError."""
    return _decode(_HEALTH, value)


def decode_dead_letter(value: bytes | None) -> DeadLetter:
    """A record of `vl.dlq.v1`. Raises DecodeError."""
    return _decode(_DEAD, value)


def decode_state(value: bytes | None) -> StateRow:
    """A record of `vl.state.v1`. Raises DecodeError."""
    row = _decode(_STATE, value)
    if row.version != STATE_VERSION:
        raise DecodeError(Reason.SCHEMA, f"state of version {row.version}, this program reads {STATE_VERSION}")
    return row


def _decode(decoder: "msgspec.msgpack.Decoder[T]", value: Any) -> T:
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, TypeError) as error:
        raise DecodeError(Reason.SCHEMA, str(error)) from error
