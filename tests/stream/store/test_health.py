"""Health of the store writer: the reason why records of a topic group do not reach InfluxDB."""

from typing import Any

import pytest

from stream.progress import STUCK_MS
from stream.store.counts import WriterCounts
from stream.store.health import StoreHealth, topic_group_trouble
from tests.stream.cluster import WallAt

NOW = 1_000_000
STUCK = NOW - STUCK_MS - 1


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "events: Kafka has not answered yet"),
        ({"turned_ms": NOW}, ""),
        ({"turned_ms": STUCK}, "events: no progress for 15 s"),
        ({"heard_ms": STUCK}, "events: Kafka has not answered for 15 s"),
        (
            {"turned_ms": STUCK, "waiting_since_ms": NOW - 3_000, "why_waiting": "InfluxDB does not answer"},
            "events: InfluxDB has accepted nothing for 3 s: InfluxDB does not answer",
        ),
        (
            {"waiting_since_ms": NOW - 3_000, "why_waiting": "no bucket vitals", "waiting_for": "configuration"},
            "events: InfluxDB has accepted nothing for 3 s: no bucket vitals (this does not end by itself)",
        ),
        (
            {"kafka_refuses_since_ms": NOW - 3_000, "why_kafka": "no topic vl.dlq.v1"},
            "events: Kafka has taken no report for 3 s: no topic vl.dlq.v1",
        ),
    ],
)
def test_the_reason_why_a_topic_group_makes_no_progress(counts: dict[str, Any], said: str) -> None:
    well = {"turned_ms": NOW, "heard_ms": NOW} if counts else {}

    assert topic_group_trouble("events", WriterCounts(**(well | counts)), NOW) == said


def test_the_store_is_not_ready_if_one_topic_group_waits() -> None:
    clock = WallAt(0)
    now_ms = clock.mono_ms()
    well = WriterCounts(turned_ms=now_ms, heard_ms=now_ms, records=5, points=9)
    ill = WriterCounts(turned_ms=now_ms, heard_ms=now_ms, waiting_since_ms=now_ms, why_waiting="it is full", points=1)

    watch = StoreHealth({"alarms": well, "events": ill}, clock)

    assert watch.trouble().startswith("events: InfluxDB has accepted nothing")
    assert (watch.figures().received, watch.figures().sent) == (5, 10)
