"""Kafka records: the values in the Kafka topics of a site, as Python objects and as bytes.

Records about a patient have the stay as key, so all records of one patient are in one partition, whichever device and
edge they came by. Topics with the
same key have the same number of partitions: partition 3 of `vl.state.v1` belongs to partition 3 of `vl.readings.v1`.

Records are MessagePack arrays with a tag. Fields are identified by their position: new ones are only added at the end,
and the tags never change.
"""

import hashlib
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    BindingPeriod,
    FreshnessChanged,
    ModelScore,
    ModelScored,
    MonitoringEnded,
    News2Scored,
    Observation,
    ObservationRecorded,
    Reading,
    ReadingJudged,
    Silence,
    WindowClosed,
    WindowOutdated,
)
from vitals.patient_group import PatientGroup
from wire.codec import EdgeAlarmV1, HeartbeatV1
from wire.errors import DecodeError, Reason

STATE_VERSION: Final = 1


class FrameRef(msgspec.Struct, frozen=True, array_like=True):
    """Identifies a frame of an edge, as its acknowledgement names it."""

    edge_id: bytes
    session_id: bytes
    frame_class: int
    counter: int


class ReadingRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="arrived"):
    """The content of one vital-signs frame, about one patient; `vl.readings.v1`."""

    messages: tuple[Reading | ModelScore, ...]  # in the order in which they are to be applied
    frame: FrameRef | None = None
    spo2_scale: int = 1  # NEWS2 SpO2 scale ordered for this stay: 1 or 2
    group: PatientGroup = PatientGroup.UNSTATED  # whether the patient has adult scores


class AnswerRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="ordered"):
    """An acknowledgement or a silence; `vl.orders.v1`, from where workers copy it to `vl.readings.v1`."""

    message: Acknowledge | Silence


class ObservationRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="observed"):
    """What a person observed; `vl.orders.v1`, from where workers copy it to `vl.readings.v1`, or from an edge."""

    message: Observation
    frame: FrameRef | None = None  # of an edge, where it was entered; None: it was entered at the desk


class PeriodRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="bound"):
    """A binding as ingest knows it, repeated every few minutes; `vl.readings.v1`. A stay needs no reading."""

    message: BindingPeriod
    spo2_scale: int = 1  # as in `ReadingRecord`
    group: PatientGroup = PatientGroup.UNSTATED  # as in `ReadingRecord`
    orders: bytes = b""  # the orders for this stay as they were signed; empty: there are none, the defaults apply


EntryRecord: TypeAlias = AnswerRecord | ObservationRecord
"""What people enter."""

PatientRecord: TypeAlias = ReadingRecord | AnswerRecord | ObservationRecord | PeriodRecord
"""A record of `vl.readings.v1`."""

Judgement: TypeAlias = (
    ReadingJudged | ObservationRecorded | News2Scored | ModelScored | WindowClosed | WindowOutdated | FreshnessChanged
)
"""An event of a patient's monitor that is not an alarm."""


class JudgementRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="judged"):
    """The events of one patient between two commits; `vl.events.v1`."""

    stay_id: str
    events: tuple[Judgement, ...]
    frames: tuple[FrameRef, ...] = ()  # frames whose events are all in this record or in earlier ones


class AlarmRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="alarmed"):
    """A new revision of an alarm; `vl.alarms.v1`."""

    alarm: AlarmChanged


class EdgeAlarmRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="edge_alarmed"):
    """An alarm that an edge raised; `vl.alarms.v1`."""

    stay_id: str
    alarm: EdgeAlarmV1
    arrived_ms: int  # arrival at ingest
    frame: FrameRef
    is_clock_known: bool = True  # whether the alarm's times may be compared with the clock of ingest


class StayEndedRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="binding_ended"):
    """The end of a stay, after the ends of its alarms; `vl.alarms.v1`. Nothing about it calls from then on."""

    stay_id: str
    ended_ms: int  # by the registry
    at_ms: int  # when a worker heard of it


AlarmLogRecord: TypeAlias = AlarmRecord | EdgeAlarmRecord | StayEndedRecord
"""A record of `vl.alarms.v1`, and of the alarm log of the embedded engine."""


class HeartbeatRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="beat"):
    """An edge's heartbeat; `vl.heartbeats.v1`."""

    heartbeat: HeartbeatV1
    arrived_ms: int  # arrival at ingest
    frame: FrameRef


class StoredFrames(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="stored"):
    """Frames whose content is completely in InfluxDB, or was rejected for good; `vl.stored.v1`."""

    frames: tuple[FrameRef, ...]
    reason: str = ""  # why the frames were rejected and are among the dead letters; empty: they are stored


class PartitionHealth(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="partition_health"):
    """The load and the open alarms of one partition; `vl.health.v1`."""

    partition: int
    worker: str
    at_ms: int
    patients: int
    open_alarms: tuple[int, int, int]  # low, medium, high
    unanswered: int  # high-priority alarms that are not acknowledged
    lag: int  # records that have not been read yet
    worst_age_ms: int  # of a record when it was applied, since the previous record of this type


class PatientLocation(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="placed"):
    """Bed, edges and devices of a stay, from the registry; `vl.health.v1`. Repeated every minute, for dashboards."""

    stay_id: str
    patient: str  # a pseudonym
    bed: str
    edge_id: str  # the one that began to hear the patient last
    at_ms: int
    valid_from_ms: int  # start of the stay
    valid_to_ms: int | None = None  # end of the stay
    group: PatientGroup = PatientGroup.UNSTATED
    edges: tuple[str, ...] = ()  # all that hear the patient, `edge_id` first
    devices: tuple[str, ...] = ()  # names of the devices that are on the patient now


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="dead_letter"):
    """Authentic content that could not be processed, and where processing failed; `vl.dlq.v1`."""

    stage: str  # "ingest", "processor", "store"
    reason: str
    problem: str  # description of the error, without values
    at_ms: int
    source: str  # topic/partition/offset, or "session ID/counter" for a frame
    payload: bytes  # of the store: the record, or a record of the events that InfluxDB refused
    version: str  # of the program that failed
    frame: FrameRef | None = None
    binding_id: str = ""  # binding named by the seal of an edge's frame


class RewriteRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="rewrite"):
    """A record that InfluxDB refused, to be written to InfluxDB again and read by nothing else; `vl.events.v1`."""

    topic: str  # topic of the record, without prefix; empty: `value` is one line of `bucket`
    value: bytes
    bucket: str = ""


class PatientStateRow(msgspec.Struct, frozen=True, array_like=True):
    """The state of one patient's monitor after one offset; `vl.state.v1`, compacted."""

    version: int
    last_offset: int  # offset of the last record of `vl.readings.v1` that the state includes
    spo2_scale: int
    snapshot: bytes
    group: PatientGroup = PatientGroup.UNSTATED
    mark: bytes = b""  # identity of the last record: `mark_of` its value; empty: a row of an earlier version
    orders: bytes = b""  # as in `PeriodRecord`


Record: TypeAlias = (
    ReadingRecord
    | AnswerRecord
    | ObservationRecord
    | PeriodRecord
    | JudgementRecord
    | AlarmRecord
    | EdgeAlarmRecord
    | StayEndedRecord
    | HeartbeatRecord
    | StoredFrames
    | PartitionHealth
    | PatientLocation
    | DeadLetter
    | RewriteRecord
    | PatientStateRow
)
T = TypeVar("T")

_ENCODER: Final = msgspec.msgpack.Encoder()
_PATIENT: Final[msgspec.msgpack.Decoder[PatientRecord]] = msgspec.msgpack.Decoder(PatientRecord)
_JUDGEMENT: Final = msgspec.msgpack.Decoder(JudgementRecord)
_EVENT: Final[msgspec.msgpack.Decoder[JudgementRecord | RewriteRecord]] = msgspec.msgpack.Decoder(
    JudgementRecord | RewriteRecord
)
_ALARM: Final[msgspec.msgpack.Decoder[AlarmLogRecord]] = msgspec.msgpack.Decoder(AlarmLogRecord)
_HEARTBEAT: Final = msgspec.msgpack.Decoder(HeartbeatRecord)
_STORED: Final = msgspec.msgpack.Decoder(StoredFrames)
_HEALTH: Final[msgspec.msgpack.Decoder[PartitionHealth | PatientLocation]] = msgspec.msgpack.Decoder(
    PartitionHealth | PatientLocation
)
_DEAD_LETTER: Final = msgspec.msgpack.Decoder(DeadLetter)
_STATE: Final = msgspec.msgpack.Decoder(PatientStateRow)


def mark_of(value: bytes | None) -> bytes:
    """Identity of a record of `vl.readings.v1` by its value.

    It holds the permanent id of a reading, an observation or an answered alarm, or when a binding was told.
    """
    return hashlib.sha256(value or b"").digest()[:8]


def ended_record(event: MonitoringEnded) -> StayEndedRecord:
    """The record of the end of a stay."""
    return StayEndedRecord(stay_id=event.stay_id, ended_ms=event.ended_ms, at_ms=event.at_ms)


def encode_record(record: Record) -> bytes:
    """The value of a record; the same record gives the same bytes."""
    return _ENCODER.encode(record)


def decode_patient_record(value: bytes | None) -> PatientRecord:
    """A record of `vl.readings.v1` or `vl.orders.v1`. Raises DecodeError."""
    return _decode(_PATIENT, value)


def decode_judgement_record(value: bytes | None) -> JudgementRecord:
    """A record of `vl.events.v1` as a worker wrote it. Raises DecodeError."""
    return _decode(_JUDGEMENT, value)


def decode_event_record(value: bytes | None) -> JudgementRecord | RewriteRecord:
    """A record of `vl.events.v1`, also one that was sent again. Raises DecodeError."""
    return _decode(_EVENT, value)


def decode_alarm_record(value: bytes | None) -> AlarmLogRecord:
    """A record of `vl.alarms.v1`. Raises DecodeError."""
    return _decode(_ALARM, value)


def decode_heartbeat_record(value: bytes | None) -> HeartbeatRecord:
    """A record of `vl.heartbeats.v1`. Raises DecodeError."""
    return _decode(_HEARTBEAT, value)


def decode_stored_frames(value: bytes | None) -> StoredFrames:
    """A record of `vl.stored.v1`. Raises DecodeError."""
    return _decode(_STORED, value)


def decode_health(value: bytes | None) -> PartitionHealth | PatientLocation:
    """A record of `vl.health.v1`. Raises DecodeError."""
    return _decode(_HEALTH, value)


def decode_dead_letter(value: bytes | None) -> DeadLetter:
    """A record of `vl.dlq.v1`. Raises DecodeError."""
    return _decode(_DEAD_LETTER, value)


def decode_state_row(value: bytes | None) -> PatientStateRow:
    """A record of `vl.state.v1`. Raises DecodeError."""
    row = _decode(_STATE, value)
    if row.version != STATE_VERSION:
        raise DecodeError(Reason.SCHEMA, f"state version {row.version}, this program reads {STATE_VERSION}")
    return row


def _decode(decoder: "msgspec.msgpack.Decoder[T]", value: Any) -> T:
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, TypeError) as error:
        raise DecodeError(Reason.SCHEMA, str(error)) from error
