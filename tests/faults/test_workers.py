"""What happens to workers must not happen to patients: joined, killed, frozen, woken, killed within a commit."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.faults.failing_worker import POINTS
from tests.faults.workers import SESSION_TIMEOUT_MS, Trial, Verdict
from tests.services.kafka import Kafka

pytestmark = pytest.mark.services


@pytest.mark.parametrize("engine", ["faust", "plain"])
def test_nothing_is_lost_or_doubled_whatever_happens_to_workers(kafka: Kafka, tmp_path: Path, engine: str) -> None:
    trial = Trial(kafka, tmp_path, engine=engine)

    async def story() -> Verdict:
        await trial.log.begin()
        first = trial.start()
        await trial.taken(first)
        trial.load.begin()
        trial.step("alone")
        await asyncio.sleep(2)
        trial.step("a second joins")
        second = trial.start()
        await trial.taken(second)
        await asyncio.sleep(1)
        trial.step("the first is killed")
        first.tell(signal.SIGKILL)
        await asyncio.sleep(SESSION_TIMEOUT_MS / 1_000 + 1)
        trial.step("it returns")
        first = trial.start()
        await trial.taken(first)
        trial.step("the second is frozen past its session")
        second.tell(signal.SIGSTOP)
        await asyncio.sleep(SESSION_TIMEOUT_MS / 1_000 + 2)
        trial.step("and woken: a zombie")
        second.tell(signal.SIGCONT)
        await asyncio.sleep(2)
        trial.step("the broker stands still for a second")
        kafka.server.freeze()
        await asyncio.sleep(1)
        kafka.server.thaw()
        await asyncio.sleep(1)
        trial.step("the second is asked to stop")
        second.tell(signal.SIGTERM)
        await second.ended()
        await asyncio.sleep(1)
        return await trial.finish()

    try:
        found = asyncio.run(story())
    finally:
        trial.end()

    assert found.is_good, found
    assert found.sent > 3_000
    assert found.alarms > 20


def test_a_worker_killed_at_any_point_of_a_commit_loses_and_doubles_nothing(kafka: Kafka, tmp_path: Path) -> None:
    trial = Trial(kafka, tmp_path)

    async def story() -> Verdict:
        await trial.log.begin()
        trial.load.begin()
        for point in POINTS:
            trial.step(f"killed {point}")
            await trial.start(point=point).ended()
        trial.step("one that lives")
        await trial.taken(trial.start())
        return await trial.finish()

    try:
        found = asyncio.run(story())
    finally:
        trial.end()

    assert found.is_good, found
