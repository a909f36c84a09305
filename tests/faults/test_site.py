"""A whole site with real services, each process killed once: accepted readings are stored once, alarms are right."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.pipeline import Pipeline, Verdict, live, site
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka

pytestmark = pytest.mark.services
PAUSE_S = 3.0


async def everything_is_killed_once(pipeline: Pipeline) -> None:
    await asyncio.sleep(PAUSE_S)
    for one in (pipeline.ingest, pipeline.workers[0], pipeline.store):
        pipeline.blow()
        one.kill()
        await asyncio.to_thread(one.start)
        pipeline.repair()
        await asyncio.sleep(PAUSE_S)
    for service in (pipeline.broker, pipeline.influxdb, pipeline.kafka):
        pipeline.blow()
        service.kill()
        await asyncio.to_thread(service.start)
        pipeline.repair()
        await asyncio.sleep(PAUSE_S)


def test_every_process_is_killed_once_and_every_reading_is_stored_once(tmp_path: Path) -> None:
    kafka, influxdb = Kafka(tmp_path / "kafka"), InfluxDB(tmp_path / "influxdb")
    kafka.start()
    influxdb.start()

    async def story() -> Verdict:
        async with site(tmp_path / "site", kafka, influxdb, seconds=40, speed=20.0) as pipeline:
            await live(pipeline, everything_is_killed_once)
            pipeline.alive()
            return await pipeline.verdict("everything once")

    try:
        found = asyncio.run(story())
    finally:
        influxdb.stop()
        kafka.stop()

    assert not found.differences, "\n".join(found.differences)
    assert found.is_good, found
    assert found.sent > 1_000
    assert found.alarms > 5
