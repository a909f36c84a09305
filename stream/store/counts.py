"""Counts and times of the store writer, which its health reads from another thread."""

from collections import Counter

import msgspec

from stream.refusals import Cause


class WriterCounts(msgspec.Struct):
    """Counts and times of one topic group."""

    records: int = 0
    points: int = 0
    stored: int = 0  # frames that were reported as stored
    retries: int = 0
    dead_letters: int = 0
    windows_recomputed: int = 0
    largest_batch: int = 0
    written_ms: int = 0  # monotonic: when InfluxDB last accepted points
    waiting_since_ms: int | None = None  # monotonic: when InfluxDB stopped accepting points; None: it accepts
    why_waiting: str = ""
    waiting_for: str = Cause.UNAVAILABLE  # what the failure depends on, see `stream.refusals`
    kafka_refuses_since_ms: int | None = None  # monotonic: when Kafka stopped accepting reports; None: it accepts
    why_kafka: str = ""
    discarded: Counter[str] = msgspec.field(default_factory=Counter)
    restarts: int = 0  # after Kafka errors
    turned_ms: int = 0  # monotonic: when everything read had been written
    heard_ms: int = 0  # monotonic: when Kafka last answered a poll for records
    lag: dict[str, int] = {}  # records not read yet, by "topic/partition"
