"""What records from Kafka mean for InfluxDB: their lines, windows to recompute, and frames to report. Pure."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from stream.records import (
    AlarmRecord,
    FrameRef,
    JudgementRecord,
    RewriteRecord,
    StayEndedRecord,
    decode_alarm_record,
    decode_dead_letter,
    decode_event_record,
    decode_health,
    decode_heartbeat_record,
    encode_record,
)
from stream.store.buckets import Buckets
from stream.store.line_protocol import line_of, windows_of, windows_of_line
from vitals.messages import ReadingJudged, WindowClosed, WindowOutdated
from wire.errors import DecodeError, Reason
from wire.topics import KAFKA_ALARMS, KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_HEALTH, KAFKA_HEARTBEATS


class KafkaRecord(Protocol):
    """The parts of a Kafka record that are read here."""

    topic: str
    value: bytes | None


class DecodedRecord(NamedTuple):
    """What one Kafka record means for the database."""

    lines: list[tuple[str, str]]  # bucket, line
    outdated: list[WindowOutdated]  # windows to recompute
    frames: Sequence[FrameRef]  # frames that are stored when the lines are written
    stay_id: str = ""
    events: Sequence[Any] = ()  # those of the lines, in the same order; empty: the record has one line

    def part(self, index: int, record: KafkaRecord) -> bytes:
        """A record with the event of one line and nothing else, to be written again later."""
        if not self.events:
            return record.value or b""
        return self.wrapped(record, JudgementRecord(stay_id=self.stay_id, events=(self.events[index],)))

    def wrapped(self, record: KafkaRecord, part: JudgementRecord) -> bytes:
        """A part of the record as a record of the same kind."""
        found = decode_event_record(record.value)
        value = encode_record(part)
        return encode_record(RewriteRecord(topic=KAFKA_EVENTS, value=value)) if _is_rewrite(found) else value


DecodeLines = Callable[[KafkaRecord, Buckets], DecodedRecord]


def decode_events(record: KafkaRecord, buckets: Buckets) -> DecodedRecord:
    """A record of `vl.events.v1`. Raises DecodeError, TypeError."""
    found = decode_event_record(record.value)
    if isinstance(found, RewriteRecord):
        return decode_rewrite(found, buckets)
    return _judgement(found, buckets)


def decode_alarms(record: KafkaRecord, buckets: Buckets) -> DecodedRecord:
    """A record of `vl.alarms.v1`. Raises DecodeError."""
    return _alarm(record.value, buckets)


def decode_health_topics(record: KafkaRecord, buckets: Buckets) -> DecodedRecord:
    """A record of `vl.heartbeats.v1`, `vl.health.v1` or `vl.dlq.v1`. Raises DecodeError."""
    (decode,) = (one for name, one in _HEALTH_TOPICS.items() if record.topic.endswith(name))
    return decode(record.value, buckets)


def _judgement(record: JudgementRecord, buckets: Buckets) -> DecodedRecord:
    outdated = [event for event in record.events if isinstance(event, WindowOutdated)]
    events = [event for event in record.events if not isinstance(event, WindowOutdated)]
    lines = [(buckets.minutes if isinstance(event, WindowClosed) else buckets.raw, line_of(event)) for event in events]
    return DecodedRecord(lines, outdated, record.frames, record.stay_id, events)


def _alarm(value: bytes | None, buckets: Buckets) -> DecodedRecord:
    found = decode_alarm_record(value)
    if isinstance(found, StayEndedRecord):
        return DecodedRecord([], [], ())  # the ends of its alarms are records of their own
    if isinstance(found, AlarmRecord):
        return DecodedRecord([(buckets.raw, line_of(found.alarm))], [], ())
    return DecodedRecord([(buckets.raw, line_of(found))], [], (found.frame,))


def _dead_letter(value: bytes | None, buckets: Buckets) -> DecodedRecord:
    return DecodedRecord([(buckets.raw, line_of(decode_dead_letter(value)))], [], ())


def _health(value: bytes | None, buckets: Buckets) -> DecodedRecord:
    return DecodedRecord([(buckets.raw, line_of(decode_health(value)))], [], ())


def _heartbeat(value: bytes | None, buckets: Buckets) -> DecodedRecord:
    beat = decode_heartbeat_record(value)
    return DecodedRecord([(buckets.raw, line_of(beat))], [], (beat.frame,))


def decode_rewrite(record: RewriteRecord, buckets: Buckets) -> DecodedRecord:
    """A record that was refused. Minutes are recomputed: they were closed without its readings.

    Raises:
        DecodeError, TypeError: it cannot be written.
    """
    if not record.topic:
        return _rewritten_line(record, buckets)
    if record.topic != KAFKA_EVENTS:
        decode = (_HEALTH_TOPICS | {KAFKA_ALARMS: _alarm}).get(record.topic)
        if decode is None:
            raise DecodeError(Reason.SCHEMA, f"no records of {record.topic} are written to InfluxDB")
        return decode(record.value, buckets)
    inner = decode_event_record(record.value)
    if isinstance(inner, RewriteRecord):
        raise DecodeError(Reason.SCHEMA, "a record to write again within another")
    found = _judgement(inner, buckets)
    return found._replace(outdated=[*found.outdated, *(one for event in found.events for one in _windows_of(event))])


def _windows_of(event: Any) -> list[WindowOutdated]:
    """Windows to recompute when an event is written later than its neighbours: a minute may have changed since."""
    if isinstance(event, ReadingJudged):
        return windows_of(event.reading)
    if isinstance(event, WindowClosed):
        return [
            WindowOutdated(stay_id=event.stay_id, sign=event.sign, start_ms=event.start_ms, width_ms=event.width_ms)
        ]
    return []


def _rewritten_line(record: RewriteRecord, buckets: Buckets) -> DecodedRecord:
    if record.bucket not in buckets:
        raise DecodeError(Reason.SCHEMA, "a line of a bucket that this store writer does not write to")
    try:
        line = record.value.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.SCHEMA, "a line that is not text") from error
    return DecodedRecord([(record.bucket, line)], windows_of_line(line), ())


def _is_rewrite(found: JudgementRecord | RewriteRecord) -> bool:
    return isinstance(found, RewriteRecord)


_HEALTH_TOPICS: Final = {
    KAFKA_DEAD_LETTERS: _dead_letter,
    KAFKA_HEALTH: _health,
    KAFKA_HEARTBEATS: _heartbeat,
}
TOPIC_GROUPS: Final[dict[str, tuple[tuple[str, ...], DecodeLines]]] = {
    "alarms": ((KAFKA_ALARMS,), decode_alarms),
    "events": ((KAFKA_EVENTS,), decode_events),
    "health": ((KAFKA_HEARTBEATS, KAFKA_HEALTH, KAFKA_DEAD_LETTERS), decode_health_topics),
}
