"""Why a worker makes no progress, and what its figures say."""

from typing import Any

import pytest

from stream.engine.health import WorkerHealth, worker_trouble
from stream.engine.partitions import WorkerProgress
from stream.progress import BEHIND_MS, STUCK_MS
from tests.stream.cluster import WallAt

NOW = 1_000_000
STUCK, BEHIND = NOW - STUCK_MS - 1, NOW - BEHIND_MS - 1


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        ({}, "Kafka has not answered yet"),
        ({"assigned": False}, "no partition assignment from the consumer group yet"),
        ({"lag": {}}, ""),  # more workers than partitions: it stands by
        ({"lag": {0: 0}, "committed_ms": 1}, ""),  # nothing came for hours
        ({"lag": {0: 9}, "behind_since_ms": NOW - 500}, ""),
        ({"lag": {0: 9}, "behind_since_ms": BEHIND}, "readings are waiting and nothing has been committed for 30 s"),
        ({"unreadable": {3: NOW - 7_000}}, "partition 3 is assigned and could not be read for 7 s"),
        ({"turned_ms": STUCK}, "no progress for 15 s"),
        ({"heard_ms": STUCK}, "Kafka has not answered for 15 s"),
    ],
)
def test_a_worker(progress: dict[str, Any], said: str) -> None:
    well = {"turned_ms": NOW, "heard_ms": NOW, "assigned": True} if progress else {}

    assert worker_trouble(WorkerProgress(**(well | progress)), NOW) == said


def test_a_worker_that_commits_nothing_is_as_old_as_what_waits() -> None:
    clock = WallAt(0)
    now_ms = clock.mono_ms()
    progress = WorkerProgress(turned_ms=now_ms, behind_since_ms=now_ms - 20_000, lag={0: 7}, discarded={"value": 2})  # type: ignore[arg-type]

    figures = WorkerHealth(progress, clock).figures()

    assert figures.progress_age_s is not None
    assert 20 <= figures.progress_age_s < 25
    assert (figures.lag, figures.discarded) == ({"0": 7}, {"value": 2})
