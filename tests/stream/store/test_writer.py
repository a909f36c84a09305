"""The store writer with a real Kafka and InfluxDB: each event is stored once, and frames are reported when stored."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runtime.clock import SystemClock
from stream.config import InfluxConfig, StoreConfig
from stream.embedded.store import Store
from stream.embedded.stream import Engine
from stream.errors import DatabaseUnusable
from stream.kafka import producer, topic
from stream.records import (
    FrameRef,
    JudgementRecord,
    PatientLocation,
    StoredFrames,
    decode_dead_letter,
    decode_stored_frames,
    encode_record,
)
from stream.store.buckets import Buckets
from stream.store.influx import Database, hours_flux, prepare_database
from stream.store.line_protocol import window_line
from stream.store.writer import StoreWriter
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.stream.cluster import Log, WallAt, until, working
from tests.stream.engine.test_partitions import END, STORY
from tests.stream.nights import BED_1, BED_2, reading
from tests.stream.receiving_site import HOUR, MINUTE, NOW
from vitals.messages import ReadingJudged, WindowClosed, WindowOutdated
from vitals.plan import MonitoringPlan
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_HEALTH, KAFKA_STORED

pytestmark = pytest.mark.services

YEARS = 36_500  # the stories are older than the buckets' usual memory


class Site:
    """Kafka topics, a bucket, and a writer between them."""

    def __init__(self, kafka: Kafka, influxdb: InfluxDB, folder: Path, **wishes: Any) -> None:
        self.log = Log(kafka)
        token = folder / "token"
        token.write_text(influxdb.token, encoding="utf-8")
        self.influx = InfluxConfig(
            url=influxdb.url, org=influxdb.org, token_file=token, bucket=self.log.config.application, timeout_ms=2_000
        )
        self.config = StoreConfig(kafka=self.log.config, influx=self.influx, batch_ms=50, **wishes)

    async def begin(self) -> None:
        await self.log.begin()
        await asyncio.to_thread(prepare_database, self.influx, retention_days=YEARS, aggregate_days=YEARS)

    async def put(self, *records: JudgementRecord, name: str = KAFKA_EVENTS) -> None:
        async with self._sender() as send:
            for one in records:
                await send(topic(self.log.config, name), value=encode_record(one), key=one.stay_id.encode())

    @contextlib.asynccontextmanager
    async def writing(self, influx: InfluxConfig | None = None) -> AsyncIterator[StoreWriter]:
        writer = StoreWriter(replace(self.config, influx=influx or self.influx), SystemClock())
        running = asyncio.create_task(writer.run())
        try:
            yield writer
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def told(self) -> list[StoredFrames]:
        return [decode_stored_frames(one.value) for one in await self.log.records(KAFKA_STORED)]

    async def rows(self, measurement: str, bucket: str | None = None) -> list[dict[str, Any]]:
        async with Database(self.influx) as database:
            found = await database.query(
                f'from(bucket: "{bucket or self.influx.bucket}") |> range(start: 0) '
                f'|> filter(fn: (r) => r._measurement == "{measurement}") '
                '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
            )
        return [one.values for one in found]

    @contextlib.asynccontextmanager
    async def _sender(self) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
        sender = producer(self.log.config)
        await sender.start()
        try:
            yield sender.send_and_wait
        finally:
            await sender.stop()


def judged(*after_ms: int, bed: str = BED_1, **signs: float) -> JudgementRecord:
    events = tuple(
        ReadingJudged(reading=reading(one, bed=bed, **signs), late=False, backfilled=False) for one in after_ms
    )
    return JudgementRecord(
        stay_id=bed, events=events, frames=tuple(FrameRef(b"e" * 16, b"s" * 16, 1, one) for one in after_ms)
    )


def test_the_database_contains_the_events_that_one_process_would_store(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path
) -> None:
    site = Site(kafka, influxdb, tmp_path)

    async def night() -> None:
        await site.begin()
        sent = await site.log.put(STORY)
        async with working(site.log.worker(tick_slack_ms=0), WallAt(END.now_ms)) as worker, site.writing() as writer:
            await until(lambda: worker.progress.records == sent and worker.is_settled, "judged")
            records = len(await site.log.records(KAFKA_EVENTS))
            await until(lambda: writer.counts["events"].records >= records, "written")

    asyncio.run(night())

    with Store(tmp_path / "one.sqlite", synchronous="OFF") as store:
        engine = Engine(store, lambda _: MonitoringPlan())
        engine.apply(STORY)
        expected = {
            "vitals": store.query("SELECT binding_id, at_ms, counter, heart_rate, spo2 FROM reading"),
            "news2": store.query("SELECT binding_id, at_ms, total, at_least FROM news2"),
            "vitals_1m": store.query(
                "SELECT binding_id, start_ms, sign, count, mean, minimum, maximum FROM vitals_window"
            ),
        }
    fields = {
        "vitals": ("counter", "heart_rate", "spo2"),
        "news2": ("total", "at_least"),
        "vitals_1m": ("sign", "count", "mean", "min", "max"),
    }
    for measurement, names in fields.items():
        bucket = f"{site.influx.bucket}_1m" if measurement == "vitals_1m" else None
        found = asyncio.run(site.rows(measurement, bucket))
        rows = [
            (one["binding"], int(one["_time"].timestamp() * 1_000), *(one.get(name) for name in names)) for one in found
        ]
        assert sorted(map(str, rows)) == sorted(map(str, expected[measurement])), measurement


def test_frames_are_reported_as_stored_when_a_query_finds_their_readings(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path
) -> None:
    site = Site(kafka, influxdb, tmp_path)

    async def story() -> tuple[list[StoredFrames], list[Any]]:
        await site.begin()
        await site.put(judged(0, 5_000))
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].stored == 2, "stored")
            found = await site.rows("vitals")
        return await site.told(), found

    told, found = asyncio.run(story())

    assert [one.counter for stored in told for one in stored.frames] == [0, 5_000]
    assert len(found) == 2


def test_an_event_written_again_is_the_same_point(kafka: Kafka, influxdb: InfluxDB, tmp_path: Path) -> None:
    site = Site(kafka, influxdb, tmp_path)

    async def story() -> list[Any]:
        await site.begin()
        await site.put(judged(0, 5_000), judged(0, 5_000), judged(5_000))
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].records == 3, "written")
        return await site.rows("vitals")

    assert len(asyncio.run(story())) == 2


def test_a_rejected_line_becomes_a_dead_letter_and_the_other_lines_are_stored(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path
) -> None:
    site = Site(kafka, influxdb, tmp_path)

    async def story() -> tuple[list[Any], list[StoredFrames], list[Any]]:
        await site.begin()
        beyond = 2**46  # in the year 4199: no time that the database knows
        await site.put(judged(0, 5_000), judged(beyond, bed=BED_2), judged(10_000))
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].records == 3, "written")
        letters = [decode_dead_letter(one.value) for one in await site.log.records(KAFKA_DEAD_LETTERS)]
        return await site.rows("vitals"), await site.told(), letters

    rows, told, letters = asyncio.run(story())

    assert len([row for row in rows if row["binding"] == BED_1]) == 3
    assert [(one.reason, [frame.counter for frame in one.frames]) for one in told] == [
        ("", [0, 5_000, 10_000]),
        ("value", [2**46]),
    ]
    assert [(one.stage, one.reason) for one in letters] == [("store", "refused")]
    assert BED_2.encode() in letters[0].payload


def test_nothing_is_lost_while_the_database_does_not_answer(kafka: Kafka, tmp_path: Path) -> None:
    own = InfluxDB(tmp_path / "influxdb")
    own.start()
    site = Site(kafka, own, tmp_path)

    async def story() -> tuple[list[Any], int, int]:
        await site.begin()
        own.kill()
        await site.put(*(judged(n * 5_000) for n in range(40)))
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].retries > 2, "tried")
            assert await site.told() == []
            assert writer.counts["events"].waiting_since_ms is not None
            own.start()
            await until(lambda: writer.counts["events"].stored == 40, "stored")
            return await site.rows("vitals"), len(await site.told()), writer.counts["events"].retries

    try:
        rows, _, retries = asyncio.run(story())
    finally:
        own.stop()

    assert len(rows) == 40
    assert retries > 2


def test_minutes_and_hours_with_late_readings_are_recomputed(kafka: Kafka, influxdb: InfluxDB, tmp_path: Path) -> None:
    site = Site(kafka, influxdb, tmp_path)
    start_ms = NOW // HOUR * HOUR
    after = start_ms - NOW
    window = WindowClosed(
        stay_id=BED_1,
        sign="spo2",
        start_ms=start_ms,
        width_ms=MINUTE,
        count=1,
        mean=98.0,
        minimum=98.0,
        maximum=98.0,
    )
    outdated = WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=start_ms, width_ms=MINUTE)

    async def story() -> tuple[list[Any], list[Any]]:
        await site.begin()
        late = judged(after + 1_000, spo2=90.0)
        unusable = ReadingJudged(
            reading=replace(reading(after + 2_000, spo2=20.0), unusable=4), late=True, backfilled=True
        )
        await site.put(
            judged(after),
            JudgementRecord(stay_id=BED_1, events=(window,)),
            JudgementRecord(stay_id=BED_1, events=(*late.events, unusable, outdated, outdated)),
        )
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].records == 3, "written")
        return await site.rows("vitals_1m", f"{site.influx.bucket}_1m"), await site.rows(
            "vitals_1h", f"{site.influx.bucket}_1h"
        )

    minutes, hours = asyncio.run(story())

    assert [(one["count"], one["mean"], one["min"], one["max"]) for one in minutes] == [(2, 94.0, 90.0, 98.0)]
    assert [(one["count"], one["mean"], one["min"], one["max"]) for one in hours] == [(2, 94.0, 90.0, 98.0)]


def test_a_late_batch_without_a_usable_reading_does_not_stop_the_store(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path
) -> None:
    site = Site(kafka, influxdb, tmp_path)
    unusable = ReadingJudged(reading=replace(reading(0, spo2=20.0), unusable=4), late=True, backfilled=True)
    outdated = WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=NOW // MINUTE * MINUTE, width_ms=MINUTE)

    async def story() -> tuple[list[Any], list[Any]]:
        await site.begin()
        async with site.writing() as writer:
            await site.put(JudgementRecord(stay_id=BED_1, events=(unusable, outdated)))
            await until(lambda: writer.counts["events"].records == 1, "the late batch")
            await site.put(judged(5_000))
            await until(lambda: writer.counts["events"].stored == 1, "the next batch")
        return await site.rows("vitals"), await site.rows("vitals_1m", f"{site.influx.bucket}_1m")

    readings, minutes = asyncio.run(story())

    assert len(readings) == 2
    assert minutes == []


def test_an_hour_with_missing_minutes_at_its_start_is_not_aggregated(influxdb: InfluxDB, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(influxdb.token, encoding="utf-8")
    config = InfluxConfig(url=influxdb.url, org=influxdb.org, token_file=token, bucket="hours")
    prepare_database(config, retention_days=YEARS, aggregate_days=YEARS)
    start_ms = NOW // HOUR * HOUR

    async def story() -> list[Any]:
        async with Database(config) as database:
            lines = [
                window_line(BED_1, "spo2", start_ms + n * 10 * MINUTE, count=1, mean=90 + n, minimum=90, maximum=99)
                for n in range(12)
            ]
            await database.write(database.buckets.minutes, lines)
            begins = f"time(v: {(start_ms + 15 * MINUTE) * 1_000_000})"
            await database.query(hours_flux(database.buckets, start=begins, stop="now()"))
            return await database.query('from(bucket: "hours_1h") |> range(start: 0)')

    found = asyncio.run(story())

    assert {int(one["_time"].timestamp() * 1_000) for one in found} == {start_ms + HOUR}
    assert {one["_field"]: one["_value"] for one in found} == {"count": 6, "mean": 98.5, "min": 90.0, "max": 99.0}


def test_a_value_that_is_not_a_record_becomes_a_dead_letter(kafka: Kafka, influxdb: InfluxDB, tmp_path: Path) -> None:
    site = Site(kafka, influxdb, tmp_path)

    async def story() -> list[Any]:
        await site.begin()
        sender = producer(site.log.config)
        await sender.start()
        await sender.send_and_wait(topic(site.log.config, KAFKA_EVENTS), value=b"nonsense", key=b"x")
        await sender.stop()
        async with site.writing() as writer:
            await until(lambda: writer.counts["events"].records == 1, "read")
        return [decode_dead_letter(one.value) for one in await site.log.records(KAFKA_DEAD_LETTERS)]

    (letter,) = asyncio.run(story())
    assert (letter.stage, letter.reason, letter.payload) == ("store", "schema", b"nonsense")


def test_dead_letters_and_patient_locations_are_stored(kafka: Kafka, influxdb: InfluxDB, tmp_path: Path) -> None:
    site = Site(kafka, influxdb, tmp_path)
    placed = PatientLocation(stay_id=BED_1, patient="p-1", bed="North/1", edge_id="e1", at_ms=NOW, valid_from_ms=NOW)

    async def story() -> tuple[list[Any], list[Any]]:
        await site.begin()
        sender = producer(site.log.config)
        await sender.start()
        await sender.send_and_wait(topic(site.log.config, KAFKA_EVENTS), value=b"nonsense", key=b"x")
        await sender.send_and_wait(topic(site.log.config, KAFKA_HEALTH), value=encode_record(placed), key=b"x")
        await sender.stop()
        async with site.writing() as writer:
            await until(lambda: writer.counts["health"].records == 2, "both, the letter by this very writer")
        return await site.rows("dead_letter"), await site.rows("binding")

    (letter,), (bed,) = asyncio.run(story())
    assert (letter["stage"], letter["reason"], letter["count"]) == ("store", "schema", 1)
    assert (bed["ward"], bed["bed"], bed["patient"]) == ("North", "North/1", "p-1")


@pytest.mark.essential
def test_preparing_the_database_twice_creates_nothing_twice_and_tokens_are_private(
    influxdb: InfluxDB, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(influxdb.token, encoding="utf-8")
    config = InfluxConfig(url=influxdb.url, org=influxdb.org, token_file=token, bucket="twice")

    first = prepare_database(config, retention_days=30, aggregate_days=60, tokens=tmp_path)
    again = prepare_database(config, retention_days=30, aggregate_days=60, tokens=tmp_path)

    assert [one.split(" ")[0] for one in first.made] == ["bucket", "bucket", "bucket", "task", "token", "token"]
    assert again.made == []
    assert {path.stat().st_mode & 0o777 for path in first.tokens.values()} == {0o600}
    assert "vitals_1h" in hours_flux(Buckets.of(config), start="-3h", stop="now()")


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"token": "not the token"}, "does not know the token in"),
        ({"org": "another"}, "make it: vitalloom store init"),
        ({"url": "http://127.0.0.1:9"}, "does not answer"),
        ({"token_file": Path("/nowhere")}, "cannot read the token file"),
    ],
)
def test_an_error_names_the_problem_and_the_fix(
    influxdb: InfluxDB, tmp_path: Path, wrong: dict[str, Any], cure: str
) -> None:
    token = tmp_path / "token"
    token.write_text(wrong.pop("token", influxdb.token), encoding="utf-8")
    config = InfluxConfig(**{"url": influxdb.url, "org": influxdb.org, "token_file": token} | wrong)

    with pytest.raises(DatabaseUnusable, match=cure):
        prepare_database(config, retention_days=1, aggregate_days=1)
