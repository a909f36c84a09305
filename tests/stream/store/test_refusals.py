"""Lines that InfluxDB refuses for good: they are found, kept with their source, and nothing waits for them.

The property: whatever subset of lines is refused, with whatever stable status, every other line is written, every
refused line becomes one dead letter that names its record, the batch is committed, and the requests are few.
"""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.records import FrameRef, JudgementRecord, decode_judgement_record
from stream.store.line_protocol import line_of
from tests.stream.nights import BED_1, BED_2, reading
from tests.stream.receiving_site import SECOND
from tests.stream.store.influx_stand_in import influx_stand_in
from tests.stream.store.topic_group import Log, lines_of, one_turn
from vitals.messages import ReadingJudged

STATUSES = (400, 413, 422, 500)


def events_of(record: int, count: int) -> tuple[ReadingJudged, ...]:
    bed = (BED_1, BED_2)[record % 2]
    return tuple(
        ReadingJudged(reading=reading((record * 100 + n) * SECOND, bed=bed), late=False, backfilled=False)
        for n in range(count)
    )


def a_record(number: int, events: tuple[ReadingJudged, ...]) -> JudgementRecord:
    return JudgementRecord(binding_id=BED_1, events=events, frames=(FrameRef(b"e" * 16, b"s" * 16, 1, number),))


@st.composite
def nights(draw: st.DrawFn) -> tuple[list[JudgementRecord], dict[str, int]]:
    """Records with readings, and the status of each refused line."""
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=8))
    records = [a_record(n, events_of(n, size)) for n, size in enumerate(sizes)]
    lines = [line_of(event) for record in records for event in record.events]
    refused = draw(st.dictionaries(st.sampled_from(lines), st.sampled_from(STATUSES))) if lines else {}
    return records, refused


def verdict(folder: Path, records: list[JudgementRecord], refused: dict[str, int], *, within_s: float) -> list[str]:
    """What is wrong after one batch; empty if nothing is."""
    log, wrong = Log(*records), []
    lines = {line_of(event): n for n, record in enumerate(records) for event in record.events}
    with influx_stand_in(
        folder, refusal=lambda sent: next((refused[line] for line in sent if line in refused), None)
    ) as server:
        try:
            one_turn(server, log, within_s=within_s)
        except TimeoutError:
            return ["stands still"]
        kept, requests = lines_of(server), len(server.written)
    if Counter(line for _, line in kept) != Counter(set(lines) - refused.keys()):
        wrong.append("lines missing or written twice")
    letters = log.dead_letters()
    if len(letters) != len(refused):
        wrong.append("dead letters")
    if Counter(one.source for one in letters) != Counter(f"vl.events.v1/0/{lines[line]}" for line in refused):
        wrong.append("source")
    else:
        inside = [line_of(event) for one in letters for event in decode_judgement_record(one.payload).events]
        if Counter(inside) != Counter(refused.keys()):
            wrong.append("content")
    if log.commits != 1:
        wrong.append("not committed")
    told = {frame.counter: one.reason for one in log.told() for frame in one.frames}
    if told != {n: "value" if n in {lines[line] for line in refused} else "" for n in range(len(records))}:
        wrong.append("frames")
    if requests > bound(len(lines), len(refused)):
        wrong.append("requests")
    return wrong


def bound(lines: int, refused: int) -> float:
    """Requests for finding refused lines by halves, three for each step: the part, again, and a check of the server."""
    return 3 + 3 * refused * (2 + 2 * math.log2(max(2, lines)))


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(night=nights())
def test_every_line_is_written_or_kept_as_a_dead_letter_whatever_is_refused(
    night: tuple[list[JudgementRecord], dict[str, int]], tmp_path: Path
) -> None:
    records, refused = night

    assert verdict(tmp_path, records, refused, within_s=20) == []


@pytest.mark.parametrize("status", STATUSES)
def test_one_refused_line_among_thousands_is_found_in_few_requests(status: int, tmp_path: Path) -> None:
    events = [events_of(record, 100) for record in range(50)]
    records = [a_record(n, one) for n, one in enumerate(events)]
    poison = line_of(events[31][41])

    assert verdict(tmp_path, records, {poison: status}, within_s=60) == []
