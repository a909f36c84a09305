"""The readings' consumer on a real Kafka: the same events as in one process, whatever happens to workers in between."""

import asyncio
from pathlib import Path

import pytest

from stream.embedded import Engine
from stream.file_store import Store
from tests.services.kafka import Kafka
from tests.stream.cluster import Log, WallAt, in_two, until, working
from tests.stream.nights import a_bad_night, as_it_arrived
from tests.stream.site import HOUR, NOW
from vitals.messages import Event, Message, Tick
from vitals.plan import MonitoringPlan

pytestmark = pytest.mark.services

END = Tick(now_ms=NOW + 6 * HOUR)
STORY = as_it_arrived([*a_bad_night(), END])


def expected(folder: Path, story: list[Message]) -> dict[str, list[Event]]:
    """What the embedded engine makes of it."""
    with Store(folder / "embedded.sqlite", synchronous="OFF") as store:
        engine = Engine(store, lambda _: MonitoringPlan())
        return in_two([event for message in story for event in engine.apply([message])])


def test_a_bad_night_gives_the_same_events_as_in_one_process(kafka: Kafka, tmp_path: Path) -> None:
    log = Log(kafka)

    async def night() -> dict[str, list[Event]]:
        await log.begin()
        sent = await log.put(STORY)
        async with working(log.worker(tick_slack_ms=0), WallAt(END.now_ms)) as worker:
            await until(lambda: worker.progress.records == sent and worker.is_settled, "all records")
        return await log.events()

    found = asyncio.run(night())

    assert found == expected(tmp_path, STORY)
    assert sum(map(len, found.values())) > 500
