"""What a real InfluxDB refuses for good: the other lines are stored, and one command brings the rest back."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from influxdb_client import BucketRetentionRules, InfluxDBClient
from msgspec.structs import replace

from runtime.clock import SystemClock
from stream.records import DeadLetter, JudgementRecord, decode_dead_letter
from stream.store.health import topic_group_trouble
from stream.store.influx import Database, prepare_database
from stream.store.line_protocol import windows_of
from stream.topics.dead_letters import Resent, resend_dead_letters
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.stream.cluster import until
from tests.stream.nights import BED_1, BED_2, reading
from tests.stream.receiving_site import HOUR, MINUTE, NOW
from tests.stream.store.test_writer import YEARS, Site, judged
from vitals.messages import ReadingJudged
from wire.topics import KAFKA_DEAD_LETTERS

pytestmark = pytest.mark.services

DAY = 24 * HOUR
RETENTION_DAYS = 30


async def resend(site: Site, *, again: bool = False) -> Resent:
    return await resend_dead_letters(site.log.config, SystemClock(), again=again, wait_s=20)


def command(site: Site) -> str:
    """The output of `vitalloom topics resend`."""
    kafka = site.log.config
    told = ("--kafka", kafka.bootstrap, "--topic-prefix", kafka.topic_prefix, "--application", kafka.application)
    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "topics", "resend", *told],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


async def dead_letters(site: Site) -> list[DeadLetter]:
    return [decode_dead_letter(one.value) for one in await site.log.records(KAFKA_DEAD_LETTERS)]


def live_ms() -> int:
    """The moment an hour ago, as `reading` counts it."""
    return int(time.time() * 1_000) - NOW - HOUR


def late(*after_ms: int, bed: str = BED_1) -> JudgementRecord:
    """Readings whose minutes are closed."""
    found = [reading(one, bed=bed) for one in after_ms]
    events = [ReadingJudged(reading=one, late=True, backfilled=True) for one in found]
    outdated = dict.fromkeys(window for one in found for window in windows_of(one))
    return replace(judged(*after_ms, bed=bed), events=(*events, *outdated))


def keep_for(site: Site, days: int) -> None:
    """Change the retention of all buckets."""
    with InfluxDBClient(site.influx.url, token=site.influx.token_file.read_text(), org=site.influx.org) as client:
        for suffix in ("", "_1m", "_1h"):
            bucket = client.buckets_api().find_bucket_by_name(f"{site.influx.bucket}{suffix}")
            bucket.retention_rules = [BucketRetentionRules(type="expire", every_seconds=days * 86_400)]
            client.buckets_api().update_bucket(bucket)


def make_again(site: Site) -> None:
    """Delete the bucket of events, with the types of its fields, and create it."""
    with InfluxDBClient(site.influx.url, token=site.influx.token_file.read_text(), org=site.influx.org) as client:
        client.buckets_api().delete_bucket(client.buckets_api().find_bucket_by_name(site.influx.bucket))
    prepare_database(site.influx, retention_days=YEARS, aggregate_days=YEARS)


def test_forty_readings_beyond_the_retention_do_not_stop_the_site_and_come_back_with_one_command(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path
) -> None:
    site = Site(kafka, influxdb, tmp_path)
    begin = live_ms()
    old = [begin - (RETENTION_DAYS + 10) * DAY + n * 5_000 for n in range(40)]

    async def story() -> None:
        await site.log.begin()
        await asyncio.to_thread(
            prepare_database, site.influx, retention_days=RETENTION_DAYS, aggregate_days=RETENTION_DAYS
        )
        await site.put(judged(*(begin + n * 5_000 for n in range(20)), bed=BED_2), late(*old[:20]), late(*old[20:]))
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].records == 3, "the late batch")
            await site.put(judged(begin + 200_000, bed=BED_2))
            await until(lambda: writer.counts["events"].records == 4, "the next batch")
            assert len(await site.rows("vitals")) == 21
            letters = await dead_letters(site)
            assert len(letters) == 40
            assert {(one.stage, one.reason) for one in letters} == {("store", "refused")}
            assert len({one.source for one in letters}) == 2
            assert "retention" in letters[0].problem

            assert await resend(site) == ({"store": 40}, {}, 40)  # nothing was mended: they stay dead letters
            keep_for(site, YEARS)
            said = await asyncio.to_thread(command, site)
            assert said.splitlines() == ["40 sent again", "  40 store", "all 40 of the store are written to InfluxDB"]
            readings, minutes = await site.rows("vitals"), await site.rows("vitals_1m", f"{site.influx.bucket}_1m")
            assert len(readings) == 61
            assert {int(one["_time"].timestamp() * 1_000) for one in readings if one["binding"] == BED_1} == {
                NOW + at_ms for at_ms in old
            }
            assert sum(one["count"] for one in minutes if one["sign"] == "spo2") == 40
            assert await resend(site) == ({}, {}, None)
            assert (await resend(site, again=True)).refused_again == 0
            assert len(await site.rows("vitals")) == 61

    asyncio.run(story())


def test_one_stray_point_of_another_type_does_not_stop_the_site(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path
) -> None:
    site = Site(kafka, influxdb, tmp_path)
    begin = live_ms() // MINUTE * MINUTE

    async def story() -> None:
        await site.begin()
        async with Database(site.influx) as database:
            at_ns = (NOW + begin) * 1_000_000
            await database.write(site.influx.bucket, [f'vitals,binding={BED_2} spo2="ninety" {at_ns}'])
        without = JudgementRecord(
            stay_id=BED_2,
            events=tuple(
                ReadingJudged(reading=replace(reading(begin + n, bed=BED_2), spo2=None), late=False, backfilled=False)
                for n in range(10)
            ),
        )
        await site.put(without, late(*(begin + n * 5_000 for n in range(20))), late(begin + 120_000, bed=BED_2))
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].records == 3, "the batch")
            letters = await dead_letters(site)
            assert [one.reason for one in letters].count("refused") == 21
            assert len(await site.rows("vitals")) == 11  # the stray one among them
            await asyncio.to_thread(make_again, site)
            found: Any = await resend(site)
            assert (found.kept, found.refused_again) == ({}, 0)
            assert len(await site.rows("vitals")) == 21
            minutes = await site.rows("vitals_1m", f"{site.influx.bucket}_1m")
            assert sum(one["count"] for one in minutes if one["sign"] == "spo2") == 21

    asyncio.run(story())


def test_one_line_that_cannot_be_stored_among_thousands_costs_few_requests(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(kafka, influxdb, tmp_path)
    begin, requests = live_ms(), 0
    write = Database.write

    async def counted(database: Database, bucket: str, lines: Sequence[str]) -> None:
        nonlocal requests
        requests += 1
        await write(database, bucket, lines)

    async def story() -> None:
        await site.begin()
        first = begin - 500_000
        records = [judged(*(first + (n * 100 + one) * 100 for one in range(100))) for n in range(50)]
        records[31] = judged(*(first + (3_100 + n) * 100 for n in range(41)), 2**46)
        await site.put(*records)
        monkeypatch.setattr(Database, "write", counted)
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].records == 50, "written")
            assert len(await site.rows("vitals")) == 4_941
            assert writer.counts["events"].dead_letters == 1

    asyncio.run(story())
    assert requests < 40


def test_a_bucket_that_is_missing_is_waited_for_and_named_as_something_that_does_not_end(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path
) -> None:
    site = Site(kafka, influxdb, tmp_path)

    async def story() -> None:
        await site.log.begin()
        await site.put(judged(0, 5_000))
        async with site.writing() as writer:
            counts = writer.counts["events"]
            await until(lambda: counts.retries > 2, "tried")
            said = topic_group_trouble("events", counts, SystemClock().mono_ms())
            assert said.startswith("events: InfluxDB has accepted nothing for")
            assert f"has no bucket {site.influx.bucket}" in said
            assert said.endswith("make it: vitalloom store init (this does not end by itself)")
            await asyncio.to_thread(prepare_database, site.influx, retention_days=YEARS, aggregate_days=YEARS)
            await until(lambda: counts.stored == 2, "stored")
            await until(lambda: not topic_group_trouble("events", counts, SystemClock().mono_ms()), "no trouble")
        assert await dead_letters(site) == []

    asyncio.run(story())
