"""Events as InfluxDB line protocol. Pure: the same event always gives the same point, so writing it twice is harmless.

The time of a point is the time of its event. Its digits below the millisecond are derived from the id of the event,
because two points of one series with the same time would overwrite each other. A value that was not measured has no
field; it is never written as zero.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from stream.records import DeadLetter, EdgeAlarmRecord, HeartbeatRecord, PartitionHealth, PatientLocation
from vitals.messages import (
    AlarmChanged,
    FreshnessChanged,
    ModelScored,
    News2Part,
    News2Scored,
    ObservationRecorded,
    Reading,
    ReadingJudged,
    WindowClosed,
    WindowOutdated,
)
from vitals.news2 import risk_text
from vitals.plan import MEASURED, MonitoringPlan
from vitals.signs import SIGNS

NS_IN_MS: Final = 1_000_000
READING: Final = "vitals"
OBSERVATION: Final = "observation"
NEWS2: Final = "news2"
SCORE: Final = "model_score"
FRESHNESS: Final = "freshness"
ALARM: Final = "alarm"
EDGE_ALARM: Final = "edge_alarm"
MINUTE: Final = "vitals_1m"
HOUR: Final = "vitals_1h"
EDGE: Final = "edge_health"
PIPELINE: Final = "pipeline"
BINDING: Final = "binding"
DEAD_LETTER: Final = "dead_letter"

_VALUES: Final = tuple(spec.sign.value for spec in SIGNS)
_OBSERVED: Final = (*_VALUES, "inspired_oxygen", "glucose")
_MEASURED: Final = tuple(sign.value for sign in MEASURED)
_WINDOW_MS: Final = MonitoringPlan().window_ms
_READING_LINE: Final = re.compile(rf"{READING},binding=(?P<binding>[0-9a-f]+) (?P<fields>.+) (?P<at_ns>-?\d+)")
_MINUTE_LINE: Final = re.compile(
    rf"{MINUTE},binding=(?P<binding>[0-9a-f]+),sign=(?P<sign>{'|'.join(_MEASURED)}) .+ (?P<at_ns>-?\d+)"
)
_IN_TAG: Final = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ ", "\\": "/", "\n": " ", "\r": " "})
_IN_TEXT: Final = str.maketrans({'"': r"\"", "\\": r"\\", "\n": " ", "\r": " "})


def time_ns(at_ms: int, event_id: bytes) -> int:
    """A time in ns that two events of one series and millisecond share with a probability of one in a million."""
    return at_ms * NS_IN_MS + int.from_bytes(event_id[-8:], "big") % NS_IN_MS


def line_of(event: Any) -> str:
    """One event as one line.

    Raises:
        TypeError: events of this type are not stored.
    """
    try:
        make = _LINES[type(event)]
    except KeyError:
        raise TypeError(f"no measurement for {type(event).__name__}") from None
    return make(event)


def window_line(
    stay_id: str, sign: str, start_ms: int, *, count: int, mean: float, minimum: float, maximum: float
) -> str:
    """A line for the aggregate of one minute."""
    return (
        f"{MINUTE},binding={stay_id},sign={sign} count={count}i,mean={float(mean)!r},min={float(minimum)!r},"
        f"max={float(maximum)!r} {start_ms * NS_IN_MS}"
    )


def windows_of(reading: Reading) -> list[WindowOutdated]:
    """The one-minute windows that a reading belongs to, one for each sign that it measured."""
    return _windows(reading.stay_id, reading.at_ms, (name for name in _MEASURED if getattr(reading, name) is not None))


def windows_of_line(line: str) -> list[WindowOutdated]:
    """As `windows_of`, from the line of a reading or of a minute; empty for other lines."""
    minute = _MINUTE_LINE.fullmatch(line)
    if minute is not None:
        return _windows(minute["binding"], int(minute["at_ns"]) // NS_IN_MS, (minute["sign"],))
    found = _READING_LINE.fullmatch(line)
    if found is None:
        return []
    names = {field.partition("=")[0] for field in found["fields"].split(",")}
    return _windows(found["binding"], int(found["at_ns"]) // NS_IN_MS, (name for name in _MEASURED if name in names))


def _windows(stay_id: str, at_ms: int, signs: Iterable[str]) -> list[WindowOutdated]:
    start_ms = at_ms // _WINDOW_MS * _WINDOW_MS
    return [WindowOutdated(stay_id=stay_id, sign=one, start_ms=start_ms, width_ms=_WINDOW_MS) for one in signs]


def _reading(event: ReadingJudged) -> str:
    r = event.reading
    fields = [f"{name}={float(value)!r}" for name in _VALUES if (value := getattr(r, name)) is not None]
    if r.battery is not None:
        fields.append(f"battery={float(r.battery)!r}")
    if r.activity:
        fields.append(f"activity={r.activity}i")
    fields.append(
        f'session="{r.session_id.hex()}",counter={r.counter}i,received_ms={r.received_ms}i,flags={r.sensor_flags}i,'
        f"unusable={r.unusable}i,late={_flag(event.late)},backfilled={_flag(event.backfilled)}"
    )
    if r.binding_id:
        fields.append(f'device="{r.binding_id}"')  # a field: the readings of a stay are one series
    if r.activity:
        fields.append(f"activity={r.activity}i")
    return f"{READING},binding={r.stay_id} {','.join(fields)} {time_ns(r.at_ms, r.reading_id)}"


def _observation(event: ObservationRecorded) -> str:
    """What a person observed. Who it was and the note are fields: tags are for what is few."""
    o = event.observation
    fields = [f"{name}={float(value)!r}" for name in _OBSERVED if (value := getattr(o, name)) is not None]
    if o.off_until_ms is not None:
        fields.append(f"off_until_ms={o.off_until_ms}i")
    texts = _text_fields(
        observation_id=o.observation_id.hex(),
        by=o.by,
        oxygen_device=o.oxygen_device,
        note=o.note,
        corrects=o.corrects.hex(),
        edge=o.edge,
        refused=event.refused,
    )
    fields.append(f"{texts}entered_ms={o.entered_ms}i,late={_flag(event.late)}")
    return f"{OBSERVATION},binding={o.stay_id} {','.join(fields)} {time_ns(o.at_ms, o.observation_id)}"


def _news2(event: News2Scored) -> str:
    # Flux loses empty texts, and the risk of an earlier score would stand for this one.
    risk = risk_text(event) or "unknown"
    fields = [f'at_least={event.at_least}i,risk="{risk}",spo2_scale={event.spo2_scale}i']
    if event.measure_every_ms:
        fields.append(f"measure_every_ms={event.measure_every_ms}i")
    if event.total is not None:
        fields.append(f"total={event.total}i")
    for sign, value, points, age_ms in ((p.sign, p.value, p.points, p.age_ms) for p in event.parts):
        if points is not None and value is not None and age_ms is not None:
            fields.append(f"{sign}={float(value)!r},{sign}_points={points}i,{sign}_age_ms={age_ms}i")
    fields.append(f"sources={_text(_sources(event.parts))}")
    return f"{NEWS2},binding={event.stay_id} {','.join(fields)} {time_ns(event.at_ms, event.reading_id)}"


def _sources(parts: Iterable[News2Part]) -> str:
    """Which parts are not of the first device of the stay. A dash for none: Flux would show those of earlier scores."""
    return ", ".join(f"{part.sign} {_source(part.source)}" for part in parts if part.source) or "-"


def _source(source: str) -> str:
    return "a person" if source.startswith("by:") else f"device {source[:8]}"


def _score(event: ModelScored) -> str:
    s = event.score
    score = "" if s.score is None else f"score={float(s.score)!r},"
    return (
        f"{SCORE},binding={s.stay_id},model={_tag(s.model)} {score}threshold={float(s.threshold)!r},"
        f"{_text_fields(version=s.version, reason=s.reason)}late={_flag(event.late)},"
        f"backfilled={_flag(event.backfilled)} {time_ns(s.at_ms, s.reading_id)}"
    )


def _window(event: WindowClosed) -> str:
    return window_line(
        event.stay_id,
        event.sign,
        event.start_ms,
        count=event.count,
        mean=event.mean,
        minimum=event.minimum,
        maximum=event.maximum,
    )


def _freshness(event: FreshnessChanged) -> str:
    return (
        f"{FRESHNESS},binding={event.stay_id},sign={event.sign} "
        f'state="{event.state}",age_ms={event.age_ms}i {event.at_ms * NS_IN_MS}'
    )


def _alarm(event: AlarmChanged) -> str:
    fields = (
        f'alarm_id="{event.alarm_id.hex()}",revision={event.revision}i,priority={int(event.priority)}i,'
        f'state="{event.state.value}",kind="{event.kind.value}",'
        f"{_text_fields(key=event.key, text=event.text, basis=event.basis, response=event.response)}"
        f"onset_ms={event.onset_ms}i,latched={_flag(event.latched)},retrospective={_flag(event.retrospective)}"
    )
    if event.acknowledged_by is not None:
        fields += f",acknowledged_by={_text(event.acknowledged_by)},acknowledged_ms={event.acknowledged_ms}i"
    if event.stay_ended:
        fields += ",binding_ended=true"
    if event.silenced_until_ms is not None:
        fields += f",silenced_until_ms={event.silenced_until_ms}i"
    # The revision is part of the time: two revisions within a millisecond are two points.
    at_ns = event.at_ms * NS_IN_MS + (int.from_bytes(event.alarm_id[-4:], "big") + event.revision) % NS_IN_MS
    return f"{ALARM},binding={event.stay_id},rule={_tag(event.rule_id)} {fields} {at_ns}"


def _edge_alarm(record: EdgeAlarmRecord) -> str:
    one = record.alarm
    at_ns = one.at_ms * NS_IN_MS + (int.from_bytes(one.alarm_id[-4:], "big") + one.revision) % NS_IN_MS
    return (
        f"{EDGE_ALARM},binding={record.stay_id},edge={record.frame.edge_id.hex()},rule={_tag(one.rule_id)} "
        f'alarm_id="{one.alarm_id.hex()}",revision={one.revision}i,priority={one.priority}i,'
        f"{_text_fields(state=one.state, kind=one.kind, text=one.text)}onset_ms={one.onset_ms}i {at_ns}"
    )


def _heartbeat(record: HeartbeatRecord) -> str:
    one = record.heartbeat
    oldest = "" if one.outbox_oldest_ms is None else f"outbox_oldest_ms={one.outbox_oldest_ms}i,"
    return (
        f"{EDGE},edge={record.frame.edge_id.hex()} {oldest}outbox_rows={one.outbox_rows}i,"
        f"outbox_used={float(one.outbox_used)!r},clock_quality={one.clock_quality}i,uptime_ms={one.uptime_ms}i,"
        f"skew_ms={one.at_ms - record.arrived_ms}i,"
        f"{_text_fields(model=one.model, version=one.version, salvaged=one.salvaged)}"
        f"rejected={sum(one.rejected.values())}i,duplicates={one.duplicates}i,local_alarms={one.local_alarms}i "
        f"{record.arrived_ms * NS_IN_MS}"
    )


def _health(record: PartitionHealth) -> str:
    low, medium, high = record.open_alarms
    return (
        f"{PIPELINE},partition={record.partition} {_text_fields(worker=record.worker)}patients={record.patients}i,"
        f"open_low={low}i,open_medium={medium}i,open_high={high}i,unanswered={record.unanswered}i,lag={record.lag}i,"
        f"worst_age_ms={record.worst_age_ms}i {record.at_ms * NS_IN_MS}"
    )


def _location(record: PatientLocation) -> str:
    """The location of a patient. The ward is the part of the bed's name before the last slash."""
    ward = record.bed.rpartition("/")[0]
    ends = "" if record.valid_to_ms is None else f",valid_to_ms={record.valid_to_ms}i"
    return (
        f"{BINDING},binding={record.stay_id},ward={_tag(ward)} "
        f"{_text_fields(bed=record.bed, patient=record.patient, edge=record.edge_id, no_score=record.group.word)}"
        f"{_text_fields(edges=' '.join(record.edges[1:]) or '-', devices=', '.join(record.devices) or '-')}"
        f"valid_from_ms={record.valid_from_ms}i{ends} {record.at_ms * NS_IN_MS}"
    )


def _dead_letter(record: DeadLetter) -> str:
    """The stage and reason of a dead letter, without its content."""
    below_ms = int.from_bytes(hashlib.sha256(record.source.encode()).digest()[-4:], "big") % NS_IN_MS
    return (
        f"{DEAD_LETTER},stage={_tag(record.stage)},reason={_tag(record.reason)} "
        f"{_text_fields(source=record.source)}count=1i {record.at_ms * NS_IN_MS + below_ms}"
    )


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _tag(value: str) -> str:
    return value.translate(_IN_TAG) or "none"


def _text_fields(**texts: str) -> str:
    """Text fields, each with a comma at the end. Empty texts are left out, because Flux loses them."""
    return "".join(f"{name}={_text(value)}," for name, value in texts.items() if value)


def _text(value: str) -> str:
    return f'"{value.translate(_IN_TEXT)}"'


_LINES: Final[dict[type, Callable[[Any], str]]] = {
    ReadingJudged: _reading,
    ObservationRecorded: _observation,
    News2Scored: _news2,
    ModelScored: _score,
    WindowClosed: _window,
    FreshnessChanged: _freshness,
    AlarmChanged: _alarm,
    EdgeAlarmRecord: _edge_alarm,
    HeartbeatRecord: _heartbeat,
    PartitionHealth: _health,
    PatientLocation: _location,
    DeadLetter: _dead_letter,
}
