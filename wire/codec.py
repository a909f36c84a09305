"""Payloads as bytes: msgpack arrays with a schema number, checked against bounds before any value is used.

Payloads were authenticated before they are decoded here. A payload that breaks its schema or its bounds is a fault of
an authentic sender: it is refused with a reason, counted, and kept for people to look at.
"""

import hashlib
import re
from collections.abc import Iterable
from math import isfinite
from typing import Any, Final, Literal, TypeVar

import msgspec

from vitals.messages import Activity, ClockQuality, Consciousness, ModelScore, Observation, Reading
from wire.errors import DecodeError, Reason

SCHEMA: Final = 1
MAX_BYTES: Final = 8_192
MAX_TIME_MS: Final = 2**47  # in the year 6429; more is not a time
_MOST_FLAGS: Final = 2**16
_MOST_SCORES: Final = 4
MOST_REASON: Final = 300
"""Characters of the reason that a model gives."""
_MOST_NAME: Final = 64  # characters of the name of a person
_MOST_NOTE: Final = 500
_MOST_OXYGEN_DEVICE: Final = 40
_VERSION_TEXT: Final = re.compile(
    r"(?:\d{1,6}\.\d{1,6}\.\d{1,6})?"
)  # empty: there is no model, and the score reports that
_MOST_COUNTED: Final = 2**53  # what a database and JSON hold exactly

# Absurd is what no sensor that works can say. What is extreme or no value is for `vitals` to judge.
_LIMIT: Final = 10_000.0


class VitalsV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """One reading as a wearable sends it that does not tell what its wearer does. `None`: not measured.

    The tag is the schema number, the first field of the array.
    """

    t_ms: int  # the device's wall clock
    t_quality: int  # messages.ClockQuality
    uptime_ms: int  # since the device started: goes on where the wall clock jumps
    heart_rate: float | None = None  # /min
    respiratory_rate: float | None = None  # /min
    spo2: float | None = None  # %
    supplemental_oxygen: float | None = None  # L/min
    systolic_bp: float | None = None  # mmHg
    diastolic_bp: float | None = None  # mmHg
    temperature: float | None = None  # °C
    consciousness: int | None = None  # messages.Consciousness
    sensor_flags: int = 0  # messages.SensorFlag
    battery: float | None = None  # %


class VitalsV2(VitalsV1, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """As `VitalsV1`, of a wearable that tells what its wearer does."""

    activity: int  # messages.Activity; a number that is not known counts as UNKNOWN


class OriginV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Where a reading came from: the device, its session, its counter."""

    wearable_id: bytes
    session_id: bytes
    counter: int


class ScoreV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Score of a model at the edge for the patient at the moment of a reading."""

    model: Literal["sepsis", "heart", "rhythm"]
    version: str
    score: float | None  # probability; None: it abstains
    threshold: float  # it speaks from here on
    reason: str  # the inputs that moved it most, or why it abstains


class EdgeVitalsV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One reading as an edge passes it on: what the wearable said, where from, and what the edge found."""

    schema: Literal[1] = 1
    origin: OriginV1
    vitals: VitalsV1 | VitalsV2
    at_ms: int  # event time, corrected
    received_ms: int  # arrival at the edge
    sensor_flags: int  # messages.SensorFlag, with the edge's own
    unusable: int  # mask by signs.INDEX
    scores: tuple[ScoreV1, ...] = ()
    boot_id: bytes = b""  # of the edge's process, as in its heartbeats; empty: an edge that does not say
    uptime_ms: int = 0  # of the edge's process when the reading arrived there
    age_ms: int | None = None  # of the reading when it arrived at the edge, by elapsed time; None: not certain
    clock_ms: int = 0  # how far the wearable's clock is ahead, if a flag says that it is wrong


class EdgeAlarmV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """An alarm as the edge found it, on the alarm lane. The binding is the session's. An empty frame keeps it warm.

    The tag is the schema number, the first field of the array.
    """

    alarm_id: bytes
    rule_id: str
    key: str
    kind: str
    priority: int
    state: str
    at_ms: int
    onset_ms: int
    revision: int
    text: str
    grade: float = 0.0  # messages.AlarmChanged.grade


class ObservationV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """What a person observed and entered at the edge, on the alarm lane. The binding is the session's.

    The second schema of that lane: a data centre that does not know it refuses the frame, and the edge says so.
    """

    observation_id: bytes  # made where it is entered
    by: str  # the person, as the edge knows them
    at_ms: int  # when it was observed, by the edge's clock
    entered_ms: int  # by the same clock
    consciousness: int | None = None  # messages.Consciousness
    supplemental_oxygen: float | None = None  # L/min
    inspired_oxygen: float | None = None  # %
    oxygen_device: str = ""
    heart_rate: float | None = None  # /min
    respiratory_rate: float | None = None  # /min
    spo2: float | None = None  # %
    systolic_bp: float | None = None  # mmHg
    diastolic_bp: float | None = None  # mmHg
    temperature: float | None = None  # °C
    glucose: float | None = None  # mmol/L
    off_until_ms: int | None = None
    note: str = ""
    corrects: bytes = b""


class HeartbeatV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """State of an edge, sent every half minute."""

    schema: Literal[1] = 1
    boot_id: bytes
    at_ms: int
    uptime_ms: int
    clock_quality: int
    outbox_rows: int
    outbox_oldest_ms: int | None  # age of the oldest row
    outbox_used: float  # share of the disk budget, 0 to 1
    last_counters: list[tuple[bytes, int, int]]  # session id, class, last counter used
    void: list[tuple[bytes, int, int]]  # session id, first and last counter that were never sent
    closed: list[tuple[bytes, int]]  # session id, last counter
    model: str  # "rules only (...)" or the models that judge
    sensors: list[tuple[bytes, str]]  # wearable id, state
    version: str
    rejected: dict[str, int]  # by reason
    salvaged: str = ""  # what became of a damaged outbox
    local_alarms: int = 0  # times that it sounded at the bedside
    duplicates: int = 0  # frames that came again
    documents: bytes = b""  # what it has taken of them; see wire.enrol.documents.digest_of


T = TypeVar("T", VitalsV1, EdgeVitalsV1, EdgeAlarmV1, ObservationV1, HeartbeatV1)

_ENCODER: Final = msgspec.msgpack.Encoder()
_VITALS: "Final[msgspec.msgpack.Decoder[VitalsV1]]" = msgspec.msgpack.Decoder(VitalsV1 | VitalsV2)
_EDGE_VITALS: Final = msgspec.msgpack.Decoder(EdgeVitalsV1)
_EDGE_ALARM: Final = msgspec.msgpack.Decoder(EdgeAlarmV1)
_OBSERVATION: Final = msgspec.msgpack.Decoder(ObservationV1)
_OBSERVATION_TAG: Final = b"\x02"
_LONG_ARRAY: Final = b"\xdc"
_HEARTBEAT: Final = msgspec.msgpack.Decoder(HeartbeatV1)
_MEASURES: Final = (
    "heart_rate",
    "respiratory_rate",
    "spo2",
    "supplemental_oxygen",
    "systolic_bp",
    "diastolic_bp",
    "temperature",
    "battery",
)
_READING_ID: Final = b"VSE1 rid\0"


def encode(message: VitalsV1 | EdgeVitalsV1 | EdgeAlarmV1 | ObservationV1 | HeartbeatV1) -> bytes:
    """The bytes of a payload; the same message gives the same bytes."""
    return _ENCODER.encode(message)


def decode_vitals(payload: bytes) -> VitalsV1:
    """A wearable's reading. Raises DecodeError."""
    vitals = _decode(_VITALS, payload)
    _check_vitals(vitals)
    return vitals


def decode_edge_vitals(payload: bytes) -> EdgeVitalsV1:
    """An edge's reading. Raises DecodeError."""
    message = _decode(_EDGE_VITALS, payload)
    _check_vitals(message.vitals)
    origin = message.origin
    if len(origin.wearable_id) != 16 or len(origin.session_id) != 16 or not 0 <= origin.counter < 2**32:
        raise DecodeError(Reason.VALUE, "origin: ids have 16 bytes and counters 32 bits")
    _check_time("at_ms", message.at_ms)
    _check_time("received_ms", message.received_ms)
    _check_flags("sensor_flags", message.sensor_flags)
    _check_flags("unusable", message.unusable)
    _check_scores(message.scores)
    if len(message.boot_id) not in (0, 8):
        raise DecodeError(Reason.VALUE, "boot_id: has 8 bytes, or none")
    _check_time("uptime_ms", message.uptime_ms)
    _check_time("age_ms", message.age_ms or 0)
    if not -MAX_TIME_MS < message.clock_ms < MAX_TIME_MS:
        raise DecodeError(Reason.VALUE, "clock_ms: not a difference of times")
    return message


def decode_edge_alarm(payload: bytes) -> EdgeAlarmV1:
    """An edge's alarm. Raises DecodeError."""
    alarm = _decode(_EDGE_ALARM, payload)
    if len(alarm.alarm_id) != 16 or not 1 <= alarm.priority <= 3:
        raise DecodeError(Reason.VALUE, "alarm: id or priority out of bounds")
    _check_count("revision", alarm.revision)
    _check_time("at_ms", alarm.at_ms)
    _check_time("onset_ms", alarm.onset_ms)
    return alarm


def holds_observation(payload: bytes) -> bool:
    """Whether a payload of the alarm lane is an observation, by its schema number; else it is an alarm."""
    at = 3 if payload[:1] == _LONG_ARRAY else 1
    return payload[at : at + 1] == _OBSERVATION_TAG


def decode_observation(payload: bytes) -> ObservationV1:
    """What a person entered at an edge. Raises DecodeError.

    What cannot be a value of its quantity is for `vitals.entry_limits` to judge.
    """
    observation = _decode(_OBSERVATION, payload)
    if len(observation.observation_id) != 16 or len(observation.corrects) not in (0, 16):
        raise DecodeError(Reason.VALUE, "observation_id, corrects: ids have 16 bytes")
    _check_text("by", observation.by, _MOST_NAME)
    if not observation.by:
        raise DecodeError(Reason.VALUE, "by: an observation needs the name of a person")
    _check_text("oxygen_device", observation.oxygen_device, _MOST_OXYGEN_DEVICE)
    _check_text("note", observation.note, _MOST_NOTE)
    for name in ("at_ms", "entered_ms", "off_until_ms"):
        _check_time(name, getattr(observation, name) or 0)
    if observation.consciousness is not None and not 0 <= observation.consciousness < len(_CONSCIOUSNESS):
        raise DecodeError(Reason.VALUE, "consciousness: not one of A, C, V, P, U")
    _check_measures(observation, (*_MEASURES[:-1], "inspired_oxygen", "glucose"))
    return observation


def decode_heartbeat(payload: bytes) -> HeartbeatV1:
    """An edge's heartbeat. Raises DecodeError."""
    heartbeat = _decode(_HEARTBEAT, payload)
    _check_time("at_ms", heartbeat.at_ms)
    _check_time("uptime_ms", heartbeat.uptime_ms)
    if heartbeat.clock_quality not in _QUALITIES:
        raise DecodeError(Reason.VALUE, f"clock_quality: {heartbeat.clock_quality} is not known")
    _check_count("outbox_rows", heartbeat.outbox_rows)
    _check_count("outbox_oldest_ms", heartbeat.outbox_oldest_ms or 0)
    if not 0 <= heartbeat.outbox_used <= 1:
        raise DecodeError(Reason.VALUE, "outbox_used: not a share")
    _check_count("local_alarms", heartbeat.local_alarms)
    _check_count("duplicates", heartbeat.duplicates)
    return heartbeat


def reading_id(wearable_id: bytes, session_id: bytes, counter: int) -> bytes:
    """Sixteen bytes that name a reading for ever: after re-encryption, restarts, and if two edges hear one device."""
    return hashlib.sha256(_READING_ID + wearable_id + session_id + counter.to_bytes(4, "big")).digest()[:16]


def to_reading(message: EdgeVitalsV1, binding_id: bytes, stay_id: bytes = b"") -> Reading:
    """The kernel's form of an edge's reading.

    Args:
        stay_id: of the binding; empty: it has the same id.
    """
    origin, vitals = message.origin, message.vitals
    return Reading(
        stay_id=(stay_id or binding_id).hex(),
        binding_id="" if stay_id in (b"", binding_id) else binding_id.hex(),
        reading_id=reading_id(origin.wearable_id, origin.session_id, origin.counter),
        session_id=origin.session_id,
        counter=origin.counter,
        at_ms=message.at_ms,
        received_ms=message.received_ms,
        heart_rate=vitals.heart_rate,
        respiratory_rate=vitals.respiratory_rate,
        spo2=vitals.spo2,
        systolic_bp=vitals.systolic_bp,
        diastolic_bp=vitals.diastolic_bp,
        temperature=vitals.temperature,
        supplemental_oxygen=vitals.supplemental_oxygen,
        consciousness=None if vitals.consciousness is None else _CONSCIOUSNESS[vitals.consciousness],
        sensor_flags=message.sensor_flags,
        battery=vitals.battery,
        unusable=message.unusable,
        age_ms=message.age_ms,
        clock_ms=message.clock_ms,
        activity=activity_of(vitals),
    )


def activity_of(vitals: VitalsV1) -> Activity:
    """What the wearer does, as the wearable told. UNKNOWN if it did not, or said a number of a later version.

    Vital signs are never refused for what is said beside them.
    """
    told = vitals.activity if isinstance(vitals, VitalsV2) else 0
    return _ACTIVITIES[told] if 0 <= told < len(_ACTIVITIES) else Activity.UNKNOWN


def to_observation(message: ObservationV1, stay_id: str, *, edge: str, heard_ms: int) -> Observation:
    """The kernel's form of an observation that was entered at an edge.

    Args:
        edge: short id of the edge.
        heard_ms: arrival where it is judged.
    """
    values = msgspec.structs.asdict(message)
    level = values.pop("consciousness")
    return Observation(
        stay_id=stay_id,
        heard_ms=heard_ms,
        edge=edge,
        consciousness=None if level is None else _CONSCIOUSNESS[level],
        **values,
    )


def from_observation(observation: Observation) -> ObservationV1:
    """The payload of an observation that is entered at an edge."""
    level = observation.consciousness
    names = (field.name for field in msgspec.structs.fields(ObservationV1) if field.name != "consciousness")
    return ObservationV1(
        consciousness=None if level is None else int(level), **{name: getattr(observation, name) for name in names}
    )


def to_scores(message: EdgeVitalsV1, reading: Reading) -> list[ModelScore]:
    """The kernel's form of what models said at an edge's reading.

    Args:
        reading: as the caller uses it, with corrected times.
    """
    return [
        ModelScore(
            stay_id=reading.stay_id,
            reading_id=reading.reading_id,
            at_ms=reading.at_ms,
            received_ms=reading.received_ms,
            arrived_ms=reading.arrived_ms,
            model=one.model,
            version=one.version,
            score=one.score,
            threshold=one.threshold,
            reason=one.reason,
        )
        for one in message.scores
    ]


def _decode(decoder: "msgspec.msgpack.Decoder[T]", payload: bytes) -> T:
    if len(payload) > MAX_BYTES:
        raise DecodeError(Reason.SCHEMA, f"payload of {len(payload)} bytes, at most {MAX_BYTES} are read")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(Reason.SCHEMA, _named(str(error), decoder.type)) from error


def _named(problem: str, message: Any) -> str:
    """The problem with the name of the field in place of its number: `vitals.heart_rate` instead of `$[2][4]`."""
    found = _PLACE.search(problem)
    if found is None:
        return problem
    names = []
    rest = found[1]
    while message in _FIELDS and (number := _NUMBER.match(rest)) is not None:
        name, message = _FIELDS[message][int(number[1])]
        names.append(name)
        rest = rest[number.end() :]
    return f"{problem[: found.start(1) - 1]}{'.'.join(names)}{rest}{problem[found.end(1) :]}"


def _check_vitals(vitals: VitalsV1) -> None:
    _check_time("t_ms", vitals.t_ms)
    _check_time("uptime_ms", vitals.uptime_ms)
    if vitals.t_quality not in _QUALITIES:
        raise DecodeError(Reason.VALUE, f"t_quality: {vitals.t_quality} is not known")
    if vitals.consciousness is not None and not 0 <= vitals.consciousness < len(_CONSCIOUSNESS):
        raise DecodeError(Reason.VALUE, "consciousness: not one of A, C, V, P, U")
    _check_flags("sensor_flags", vitals.sensor_flags)
    _check_measures(vitals, _MEASURES)


def _check_measures(message: VitalsV1 | ObservationV1, names: Iterable[str]) -> None:
    for name in names:
        value: Any = getattr(message, name)
        if value is not None and not (isfinite(value) and -_LIMIT <= value <= _LIMIT):
            raise DecodeError(Reason.VALUE, f"{name}: not a number, or absurd")


def _check_text(name: str, text: str, most: int) -> None:
    if len(text) > most or not text.isprintable():
        raise DecodeError(Reason.VALUE, f"{name}: is too long or has unprintable characters")


def _check_scores(scores: tuple[ScoreV1, ...]) -> None:
    if len(scores) > _MOST_SCORES or len({one.model for one in scores}) < len(scores):
        raise DecodeError(Reason.VALUE, "scores: too many, or two of one model")
    for one in scores:
        if one.score is not None and not 0 <= one.score <= 1:  # NaN fails, too
            raise DecodeError(Reason.VALUE, f"scores.{one.model}: not a probability")
        if not 0 < one.threshold <= 1:
            raise DecodeError(Reason.VALUE, f"scores.{one.model}: the threshold is not a probability above 0")
        if _VERSION_TEXT.fullmatch(one.version) is None:
            raise DecodeError(Reason.VALUE, f"scores.{one.model}: the version is not three numbers")
        if len(one.reason) > MOST_REASON or not one.reason.isprintable():
            raise DecodeError(Reason.VALUE, f"scores.{one.model}: the reason is too long or has unprintable characters")


def _check_time(name: str, value: int) -> None:
    if not 0 <= value < MAX_TIME_MS:
        raise DecodeError(Reason.VALUE, f"{name}: not a time")


def _check_count(name: str, value: int) -> None:
    if not 0 <= value < _MOST_COUNTED:
        raise DecodeError(Reason.VALUE, f"{name}: not a count")


def _check_flags(name: str, value: int) -> None:
    if not 0 <= value < _MOST_FLAGS:
        raise DecodeError(Reason.VALUE, f"{name}: not a set of flags")


_QUALITIES: Final = frozenset(int(quality) for quality in ClockQuality)
_CONSCIOUSNESS: Final = tuple(Consciousness)
_ACTIVITIES: Final = tuple(Activity)
# Name and type of each field. The first of a reading is its tag.
_FIELDS: Final[dict[Any, list[tuple[str, Any]]]] = (
    {
        message: [(field.name, field.type) for field in msgspec.structs.fields(message)]
        for message in (OriginV1, ScoreV1, EdgeVitalsV1, HeartbeatV1)
    }
    | {
        message: [("schema", int), *((field.name, field.type) for field in msgspec.structs.fields(message))]
        for message in (EdgeAlarmV1, ObservationV1)
    }
    | {
        vitals: [("schema", int), *((field.name, field.type) for field in msgspec.structs.fields(VitalsV2))]
        for vitals in (VitalsV1, VitalsV1 | VitalsV2)
    }
)
_PLACE: Final = re.compile(r"`\$((?:\[[^]]*\])+)")
_NUMBER: Final = re.compile(r"\[(\d+)\]")
