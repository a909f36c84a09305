"""Limits after which a process counts as stuck, and copies of its counters for the metrics thread.

Used by the health classes. Counters are copied because the process continues to count in its own thread.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

STUCK_MS: Final = 15_000
"""A process without progress for this long is stuck. Requests to Kafka and InfluxDB time out after ten seconds."""
BEHIND_MS: Final = 30_000
"""A worker is stuck if records have waited this long without a commit."""


def copy_counts(counted: Mapping[str, int]) -> dict[str, int]:
    """A copy, made in one step because another thread counts; enum keys become plain text."""
    return {str(key): number for key, number in dict(counted).items()}


def sum_counts(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of the tables, key by key."""
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(total)


def age_s(now_ms: int, at_ms: int) -> float | None:
    """Seconds since `at_ms`; None if `at_ms` is 0, which means never."""
    return max(0, now_ms - at_ms) / 1_000 if at_ms else None


def lasting(cause: str) -> str:
    """What to add to a reason to wait: nothing if it may end by itself.

    Args:
        cause: a `stream.refusals.Cause`.
    """
    return " (this does not end by itself)" if cause == "configuration" else ""


def duration(now_ms: int, since_ms: int) -> str:
    """The time since `since_ms`, for example "12 s"."""
    return f"{max(0, now_ms - since_ms) / 1_000:.0f} s"
