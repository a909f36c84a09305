"""What records from Kafka mean for the database, above all those that are written again."""

from types import SimpleNamespace

import pytest

from stream.records import JudgementRecord, RewriteRecord, decode_event_record, encode_record
from stream.store.buckets import Buckets
from stream.store.decoding import decode_events
from stream.store.line_protocol import line_of, windows_of, windows_of_line
from tests.stream.nights import BED_1, reading
from tests.stream.receiving_site import MINUTE, NOW
from vitals.messages import ReadingJudged, WindowClosed, WindowOutdated
from wire.errors import DecodeError
from wire.topics import KAFKA_ALARMS, KAFKA_ENTRIES, KAFKA_EVENTS

BUCKETS = Buckets("vitals", "vitals_1m", "vitals_1h")
START = NOW // MINUTE * MINUTE
JUDGED = ReadingJudged(reading=reading(0), late=False, backfilled=False)
CLOSED = WindowClosed(
    stay_id=BED_1, sign="spo2", start_ms=START, width_ms=MINUTE, count=1, mean=98.0, minimum=98.0, maximum=98.0
)
OUTDATED = WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=START, width_ms=MINUTE)
BOTH = JudgementRecord(stay_id=BED_1, events=(JUDGED, OUTDATED, CLOSED))


def record(value: bytes) -> SimpleNamespace:
    return SimpleNamespace(topic=KAFKA_EVENTS, partition=0, offset=0, value=value)


def rewrite(topic: str, value: bytes, bucket: str = "") -> SimpleNamespace:
    return record(encode_record(RewriteRecord(topic=topic, value=value, bucket=bucket)))


def test_a_part_of_a_record_has_the_event_of_its_line_and_nothing_else() -> None:
    source = record(encode_record(BOTH))
    found = decode_events(source, BUCKETS)

    parts = [decode_events(record(found.part(n, source)), BUCKETS) for n in range(2)]

    assert [part.lines for part in parts] == [[found.lines[0]], [found.lines[1]]]
    assert [part.outdated for part in parts] == [[], []]


def test_a_record_written_again_has_the_same_lines_and_recomputes_its_minutes() -> None:
    found = decode_events(rewrite(KAFKA_EVENTS, encode_record(BOTH)), BUCKETS)

    assert found.lines == decode_events(record(encode_record(BOTH)), BUCKETS).lines
    assert set(found.outdated) == {OUTDATED, *windows_of(JUDGED.reading)}
    assert found.frames == ()


def test_a_part_of_a_record_written_again_is_a_record_to_be_written_again() -> None:
    source = rewrite(KAFKA_EVENTS, encode_record(BOTH))

    part = decode_event_record(decode_events(source, BUCKETS).part(0, source))

    assert isinstance(part, RewriteRecord)
    assert decode_event_record(part.value) == JudgementRecord(stay_id=BED_1, events=(JUDGED,))


@pytest.mark.parametrize(("event", "bucket"), [(JUDGED, "vitals"), (CLOSED, "vitals_1m")])
def test_a_line_written_again_recomputes_the_minutes_that_its_event_would(
    event: ReadingJudged | WindowClosed, bucket: str
) -> None:
    line = line_of(event)

    found = decode_events(rewrite("", line.encode(), bucket), BUCKETS)

    assert found.lines == [(bucket, line)]
    assert found.outdated == (windows_of(JUDGED.reading) if event is JUDGED else [OUTDATED])


def test_a_line_of_something_else_recomputes_nothing() -> None:
    assert windows_of_line('dead_letter,stage=store source="vitals,binding=00",count=1i 1') == []


@pytest.mark.parametrize(
    "value",
    [
        rewrite("", b"line", "elsewhere"),
        rewrite("", b"\xff\xfe", "vitals"),
        rewrite(KAFKA_ENTRIES, b"order"),
        rewrite(KAFKA_ALARMS, b"nonsense"),
        rewrite(KAFKA_EVENTS, rewrite(KAFKA_EVENTS, b"").value),
        record(b"nonsense"),
    ],
)
def test_what_cannot_be_written_again_is_refused(value: SimpleNamespace) -> None:
    with pytest.raises(DecodeError):
        decode_events(value, BUCKETS)
