"""No empty write is sent to InfluxDB, and recomputed minutes that it refuses do not stop a topic group."""

import asyncio
from pathlib import Path

import pytest

from stream.records import FrameRef, JudgementRecord, decode_judgement_record
from stream.store.influx import Database
from tests.stream.nights import BED_1
from tests.stream.receiving_site import HOUR, MINUTE, NOW
from tests.stream.store.influx_stand_in import InfluxStandIn, influx_stand_in
from tests.stream.store.topic_group import Log, one_turn
from vitals.messages import WindowOutdated

START = NOW // HOUR * HOUR
OUTDATED = WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=START, width_ms=MINUTE)
LATE = JudgementRecord(stay_id=BED_1, events=(OUTDATED,), frames=(FrameRef(b"e" * 16, b"s" * 16, 1, 7),))
ONE_READING = (
    "#datatype,string,long,dateTime:RFC3339,double,long\r\n"
    "#group,false,false,false,false,false\r\n"
    "#default,_result,,,,\r\n"
    ",result,table,_time,spo2,unusable\r\n"
    ",,0,{time},96,{unusable}\r\n\r\n"
)


def reading_at(at: str, *, unusable: int = 0) -> str:
    return ONE_READING.format(time=at, unusable=unusable)


@pytest.mark.parametrize("lines", [[], [""], ["", "\n", " "]])
def test_the_database_client_sends_no_request_without_lines(lines: list[str], tmp_path: Path) -> None:
    async def write(server: InfluxStandIn) -> None:
        async with Database(server.config) as database:
            await database.write("vitals", lines)

    with influx_stand_in(tmp_path) as server:
        asyncio.run(write(server))

    assert server.written == []


def test_lines_are_sent_as_they_are(tmp_path: Path) -> None:
    async def write(server: InfluxStandIn) -> None:
        async with Database(server.config) as database:
            await database.write("vitals", ["a b=1 1", "a b=2 2"])

    with influx_stand_in(tmp_path) as server:
        asyncio.run(write(server))

    assert server.written == [("vitals", "a b=1 1\na b=2 2")]


def test_a_late_batch_without_a_usable_reading_is_committed_and_nothing_is_written(tmp_path: Path) -> None:
    log = Log(LATE)

    with influx_stand_in(tmp_path) as server:
        counts = one_turn(server, log)

    assert len(server.queries) == 1
    assert server.written == []
    assert log.commits == 1
    assert [(one.reason, [frame.counter for frame in one.frames]) for one in log.told()] == [("", [7])]
    assert (counts.records, counts.stored, counts.windows_recomputed, counts.dead_letters) == (1, 1, 0, 0)


def test_a_late_batch_with_a_usable_reading_replaces_its_minute(tmp_path: Path) -> None:
    with influx_stand_in(tmp_path, rows=reading_at("2026-01-05T08:00:01Z")) as server:
        assert START == 1_767_600_000_000  # 2026-01-05T08:00:00Z
        counts = one_turn(server, Log(LATE))

    ((bucket, line),) = server.written
    assert bucket == "vitals_1m"
    assert line.startswith(f"vitals_1m,binding={BED_1},sign=spo2 ")
    assert counts.windows_recomputed == 1


def test_a_minute_that_influxdb_refuses_becomes_a_dead_letter_and_the_batch_is_committed(tmp_path: Path) -> None:
    log = Log(LATE)

    with influx_stand_in(tmp_path, rows=reading_at("2026-01-05T08:00:01Z"), refused="vitals_1m") as server:
        counts = one_turn(server, log)

    (letter,) = log.dead_letters()
    assert (letter.stage, letter.reason, letter.source) == ("store", "recompute", "vl.events.v1/0/0")
    assert decode_judgement_record(letter.payload).events == (OUTDATED,)
    assert log.commits == 1
    assert counts.dead_letters == 1
