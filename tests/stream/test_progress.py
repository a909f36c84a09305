"""What a process says when there is no progress, and that it says nothing when there is nothing to do."""

from typing import Any

import pytest

from stream.embedded import stream
from stream.engine.partitions import Progress
from stream.ingest import kafka_ingest
from stream.progress import (
    BEHIND_MS,
    STUCK_MS,
    StoreWatch,
    WorkerWatch,
    trouble_of_ingest,
    trouble_of_lane,
    trouble_of_lanes,
    trouble_of_stream,
    trouble_of_worker,
)
from stream.store import writer
from tests.stream.cluster import WallAt

NOW = 1_000_000
STUCK, BEHIND = NOW - STUCK_MS - 1, NOW - BEHIND_MS - 1


class Lanes:
    """Two connections."""

    def __init__(self, *, connected: bool, trouble: str = "") -> None:
        self.connected, self.trouble = connected, trouble


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "Kafka does not answer yet"),
        ({"turned_ms": NOW, "heard_ms": NOW}, ""),  # nobody sends anything: that is well
        ({"turned_ms": NOW, "heard_ms": NOW, "waiting_since_ms": NOW - 12_000}, "Kafka has taken nothing for 12 s"),
        ({"turned_ms": STUCK, "heard_ms": NOW}, "what edges send has not been handed on for 15 s"),
        ({"turned_ms": NOW, "heard_ms": STUCK}, "Kafka has not answered for 15 s"),
    ],
)
def test_an_ingest(counts: dict[str, Any], said: str) -> None:
    assert trouble_of_ingest(kafka_ingest.Counts(**counts), NOW) == said


@pytest.mark.parametrize(
    ("lanes", "said"),
    [
        (None, "the MQTT broker is not reached (not yet)"),
        (Lanes(connected=False), "the MQTT broker is not reached (not yet)"),
        (Lanes(connected=False, trouble="our certificate has expired"),
         "the MQTT broker is not reached (our certificate has expired)"),
        (Lanes(connected=True, trouble="it was away an hour ago"), ""),
    ],
)  # fmt: skip
def test_connections_to_the_broker(lanes: Any, said: str) -> None:
    assert trouble_of_lanes(lanes) == said


@pytest.mark.parametrize(
    ("turned_ms", "said"),
    [(0, "it has just been started"), (NOW, ""), (STUCK, "what edges send has not been kept for 15 s")],
)
def test_one_process_alone(turned_ms: int, said: str) -> None:
    assert trouble_of_stream(stream.Counts(turned_ms=turned_ms), NOW) == said


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        ({}, "Kafka does not answer yet"),
        ({"assigned": False}, "the group has not said yet which partitions are ours"),
        ({"lag": {}}, ""),  # more workers than partitions: it stands by
        ({"lag": {0: 0}, "committed_ms": 1}, ""),  # nothing came for hours
        ({"lag": {0: 9}, "behind_since_ms": NOW - 500}, ""),
        ({"lag": {0: 9}, "behind_since_ms": BEHIND}, "readings wait, and nothing has been committed for 30 s"),
        ({"untaken": {3: NOW - 7_000}}, "partition 3 is ours and cannot be read for 7 s"),
        ({"turned_ms": STUCK}, "nothing has moved for 15 s"),
        ({"heard_ms": STUCK}, "Kafka has not answered for 15 s"),
    ],
)
def test_a_worker(progress: dict[str, Any], said: str) -> None:
    well = {"turned_ms": NOW, "heard_ms": NOW, "assigned": True} if progress else {}

    assert trouble_of_worker(Progress(**(well | progress)), NOW) == said


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "events: Kafka does not answer yet"),
        ({"turned_ms": NOW}, ""),
        ({"turned_ms": STUCK}, "events: nothing has moved for 15 s"),
        ({"heard_ms": STUCK}, "events: Kafka has not answered for 15 s"),
        ({"turned_ms": STUCK, "waiting_since_ms": NOW - 3_000, "why_waiting": "InfluxDB does not answer"},
         "events: the database has taken nothing for 3 s: InfluxDB does not answer"),
    ],
)  # fmt: skip
def test_a_lane_of_the_store(counts: dict[str, Any], said: str) -> None:
    well = {"turned_ms": NOW, "heard_ms": NOW} if counts else {}

    assert trouble_of_lane("events", writer.Counts(**(well | counts)), NOW) == said


def test_one_lane_that_waits_is_the_store_that_waits() -> None:
    clock = WallAt(0)
    now_ms = clock.mono_ms()
    well = writer.Counts(turned_ms=now_ms, heard_ms=now_ms, records=5, points=9)
    ill = writer.Counts(turned_ms=now_ms, heard_ms=now_ms, waiting_since_ms=now_ms, why_waiting="it is full", points=1)

    watch = StoreWatch({"alarms": well, "events": ill}, clock)

    assert watch.trouble().startswith("events: the database has taken nothing")
    assert (watch.figures().received, watch.figures().sent) == (5, 10)


def test_a_worker_that_commits_nothing_is_as_old_as_what_waits() -> None:
    clock = WallAt(0)
    now_ms = clock.mono_ms()
    progress = Progress(turned_ms=now_ms, behind_since_ms=now_ms - 20_000, lag={0: 7}, discarded={"value": 2})  # type: ignore[arg-type]

    figures = WorkerWatch(progress, clock).figures()

    assert figures.progress_age_s is not None
    assert 20 <= figures.progress_age_s < 25
    assert (figures.lag, figures.discarded) == ({"0": 7}, {"value": 2})
