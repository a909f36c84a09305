"""Lines that InfluxDB refuses for good: they are found, kept with their source, and nothing waits for them.

The property: whatever subset of lines is refused, with whatever stable status, every other line is written, every
refused line becomes one dead letter that names its record, the batch is committed, and the requests are few.
"""

import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.records import FrameRef, JudgementRecord, RewriteRecord, decode_event_record, decode_judgement_record
from stream.store.line_protocol import line_of
from tests.stream.nights import BED_1, BED_2, reading
from tests.stream.receiving_site import HOUR, MINUTE, NOW, SECOND
from tests.stream.store.influx_stand_in import influx_stand_in
from tests.stream.store.topic_group import Log, lines_of, one_turn
from vitals.messages import ReadingJudged, WindowOutdated
from wire.topics import KAFKA_EVENTS

STATUSES = (400, 413, 422, 500)
START = NOW // HOUR * HOUR


def events_of(record: int, count: int) -> tuple[ReadingJudged, ...]:
    bed = (BED_1, BED_2)[record % 2]
    return tuple(
        ReadingJudged(reading=reading((record * 100 + n) * SECOND, bed=bed), late=False, backfilled=False)
        for n in range(count)
    )


def a_record(number: int, events: tuple[ReadingJudged, ...]) -> JudgementRecord:
    return JudgementRecord(stay_id=BED_1, events=events, frames=(FrameRef(b"e" * 16, b"s" * 16, 1, number),))


def a_window(minute: int) -> WindowOutdated:
    return WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=START + minute * MINUTE, width_ms=MINUTE)


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


@pytest.mark.slow
@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(night=nights())
def test_every_line_is_written_or_kept_as_a_dead_letter_whatever_is_refused(
    night: tuple[list[JudgementRecord], dict[str, int]], tmp_path: Path
) -> None:
    records, refused = night

    assert verdict(tmp_path, records, refused, within_s=20) == []


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(night=nights(), again=st.sampled_from([None, *STATUSES]))
def test_what_was_refused_is_written_once_it_is_accepted_and_stays_a_dead_letter_until_then(
    night: tuple[list[JudgementRecord], dict[str, int]], again: int | None, tmp_path: Path
) -> None:
    records, refused = night
    log, lines = Log(*records), {line_of(event) for record in records for event in record.events}
    still = set(sorted(refused)[: len(refused) // 2]) if again is not None else set()
    with influx_stand_in(
        tmp_path, refusal=lambda sent: next((refused[line] for line in sent if line in refused), None)
    ) as server:
        one_turn(server, log)
        server.refusal = lambda sent: again if any(line in still for line in sent) else None
        rewrites = [RewriteRecord(topic=KAFKA_EVENTS, value=one.payload) for one in log.dead_letters()]
        second = Log(*rewrites, *rewrites[:3])  # sending again twice changes nothing
        if rewrites:
            one_turn(server, second)
        kept = lines_of(server)

    assert {line for bucket, line in kept if bucket == "vitals"} == lines - still
    inside = [decode_event_record(one.payload) for one in second.dead_letters()]
    assert all(isinstance(one, RewriteRecord) for one in inside)
    assert {one.source for one in second.dead_letters()} >= {
        f"vl.events.v1/0/{n}"
        for n, one in enumerate(rewrites)
        if line_of(decode_judgement_record(one.value).events[0]) in still
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "count", "requests"), [(400, 1, 25), (422, 1, 25), (422, 100, 1_209), (500, 1, 48), (500, 100, 2_121)]
)
def test_refused_lines_among_thousands_are_found_in_few_requests(
    status: int, count: int, requests: int, tmp_path: Path
) -> None:
    records = [a_record(n, events_of(n, 100)) for n in range(50)]
    lines = [line_of(event) for record in records for event in record.events]
    refused = set(random.Random(5).sample(lines, count)) if count > 1 else {lines[3_141]}
    log = Log(*records)

    with influx_stand_in(tmp_path, refusal=lambda sent: status if not refused.isdisjoint(sent) else None) as server:
        one_turn(server, log)
        assert len(lines_of(server)) == 5_000 - count
        assert len(server.written) == requests

    assert len(log.dead_letters()) == count


@pytest.mark.parametrize("status", [400, 422, 500, 503])
def test_a_window_that_cannot_be_recomputed_is_a_dead_letter_and_the_others_are_recomputed(
    status: int, tmp_path: Path
) -> None:
    windows = [
        WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=START + n * MINUTE, width_ms=MINUTE) for n in range(9)
    ]
    records = [JudgementRecord(stay_id=BED_1, events=(one,)) for one in windows]
    log, poison = Log(*records), f"time(v: {windows[5].start_ms * 1_000_000})"

    def refusal(sent: list[str]) -> int | None:
        found = re.search(r"start: time\(v: (\d+)\), stop: time\(v: (\d+)\)", sent[0])
        inside = found and int(found[1]) <= windows[5].start_ms * 1_000_000 < int(found[2])
        return status if inside and "vitals_1h" not in sent[0] else None

    with influx_stand_in(tmp_path, query_refusal=refusal) as server:
        one_turn(server, log)
        asked = len(server.queries)

    (letter,) = log.dead_letters()
    assert (letter.reason, letter.source) == ("recompute", "vl.events.v1/0/5")
    assert decode_judgement_record(letter.payload).events == (windows[5],)
    assert poison in "".join(server.queries)
    assert asked < 40
    assert log.commits == 1


def test_an_error_within_the_answer_of_a_query_stops_nothing(tmp_path: Path) -> None:
    window = WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=START, width_ms=MINUTE)
    log = Log(JudgementRecord(stay_id=BED_1, events=(window,)))
    failed = (
        "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,schema collision,\r\n\r\n"
    )

    with influx_stand_in(tmp_path, rows=failed) as server:
        with pytest.raises(TimeoutError):  # nothing that is asked has another answer: the database is not well
            one_turn(server, log, within_s=1)
        server.answers = lambda query: "" if "limit(n: 1)" in query else failed
        one_turn(server, log)

    (letter,) = log.dead_letters()
    assert "schema collision" in letter.problem


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503, 507])
def test_what_passes_or_can_be_configured_is_waited_for_and_nothing_is_given_up(status: int, tmp_path: Path) -> None:
    records = [a_record(0, events_of(0, 5))]
    log, left = Log(*records), [7]

    def refusal(_: list[str]) -> int | None:
        left[0] -= 1
        return status if left[0] >= 0 else None

    with influx_stand_in(tmp_path, refusal=refusal) as server:
        counts = one_turn(server, log)
        assert len(lines_of(server)) == 5

    assert (log.dead_letters(), log.commits, counts.waiting_since_ms) == ([], 1, None)


@pytest.mark.parametrize("status", STATUSES)
def test_a_database_that_refuses_every_line_is_waited_for(status: int, tmp_path: Path) -> None:
    log, left = Log(a_record(0, events_of(0, 4))), [60]

    def refusal(_: list[str]) -> int | None:
        left[0] -= 1
        return status if left[0] >= 0 else None

    with influx_stand_in(tmp_path, refusal=refusal) as server:
        one_turn(server, log)
        assert len(lines_of(server)) == 4

    assert (log.dead_letters(), log.commits) == ([], 1)


def test_a_full_disk_is_no_content(tmp_path: Path) -> None:
    log, left = Log(a_record(0, events_of(0, 4))), [20]

    def refusal(sent: list[str]) -> int | None:
        left[0] -= not sent[0].startswith("store_check")  # a small line finds room
        return 500 if left[0] >= 0 and not sent[0].startswith("store_check") else None

    with influx_stand_in(tmp_path, refusal=refusal) as server:
        server.message = "write /data/wal/_00001.wal: no space left on device"
        one_turn(server, log)
        assert len(lines_of(server)) == 4

    assert log.dead_letters() == []


def test_if_the_answer_says_that_every_line_was_dropped_no_half_is_tried(tmp_path: Path) -> None:
    records = [a_record(n, events_of(n, 100)) for n in range(3)]

    with influx_stand_in(tmp_path, refusal=lambda sent: None if sent[0].startswith("store_check") else 422) as server:
        server.message = "partial write: points beyond retention policy dropped=300"
        log = Log(*records)
        one_turn(server, log)
        requests = len(server.written)

    assert (len(log.dead_letters()), requests) == (300, 2)
