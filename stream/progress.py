"""When a process counts as stuck, and how its counters are read from the metrics thread. Shared by the health classes.

Everything is read once and copied: the process goes on counting in its own thread.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

STUCK_MS: Final = 15_000
"""Without progress for this long a process is stuck: its clients give up on a request after ten seconds and retry."""
BEHIND_MS: Final = 30_000
"""Records that wait this long while nothing is committed."""


def copy_counts(counted: Mapping[str, int]) -> dict[str, int]:
    """A copy made in one step, because the other thread goes on counting; enum keys become plain text."""
    return {str(key): number for key, number in dict(counted).items()}


def sum_counts(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The tables added key by key."""
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(total)


def age_s(now_ms: int, at_ms: int) -> float | None:
    """Seconds since `at_ms`; None if that never was (0)."""
    return max(0, now_ms - at_ms) / 1_000 if at_ms else None


def duration(now_ms: int, since_ms: int) -> str:
    return f"{max(0, now_ms - since_ms) / 1_000:.0f} s"
