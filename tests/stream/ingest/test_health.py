"""Why ingest makes no progress, and that it reports nothing when there is nothing to do."""

from typing import Any

import pytest

from stream.ingest.health import kafka_trouble, mqtt_trouble
from stream.ingest.kafka_ingest import IngestCounts
from stream.progress import STUCK_MS

NOW = 1_000_000
STUCK = NOW - STUCK_MS - 1


class Lanes:
    """Two connections."""

    def __init__(self, *, connected: bool, trouble: str = "", refusal: str = "") -> None:
        self.connected, self.trouble, self.refusal = connected, trouble, refusal


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "Kafka has not answered yet"),
        ({"turned_ms": NOW, "heard_ms": NOW}, ""),  # no frames, no trouble
        ({"turned_ms": NOW, "heard_ms": NOW, "waiting_since_ms": NOW - 12_000}, "Kafka has accepted nothing for 12 s"),
        ({"turned_ms": STUCK, "heard_ms": NOW}, "frames from edges have not been forwarded for 15 s"),
        ({"turned_ms": NOW, "heard_ms": STUCK}, "Kafka has not answered for 15 s"),
    ],
)
def test_the_reason_why_ingest_makes_no_progress(counts: dict[str, Any], said: str) -> None:
    assert kafka_trouble(IngestCounts(**counts), NOW) == said


@pytest.mark.parametrize(
    ("lanes", "said"),
    [
        (None, "not connected to the MQTT broker (not yet)"),
        (Lanes(connected=False), "not connected to the MQTT broker (not yet)"),
        (
            Lanes(connected=False, trouble="our certificate has expired"),
            "not connected to the MQTT broker (our certificate has expired)",
        ),
        (Lanes(connected=True, trouble="it was away an hour ago"), ""),
        (
            Lanes(connected=True, refusal="refuses a subscription (Not authorized)"),
            "the MQTT broker refuses a subscription (Not authorized)",
        ),
    ],
)
def test_the_reason_why_the_connections_are_down(lanes: Any, said: str) -> None:
    assert mqtt_trouble(lanes) == said
