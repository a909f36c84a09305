"""Freshness of one sign: FRESH, LATE, STALE, LOST.

How soon missing data matters depends on how ill the patient was when last seen. A STALE or LOST value is never shown
as current and never enters a score.
"""

from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

_MINUTE: Final = 60_000


class Freshness(IntEnum):
    """The higher, the older the newest value."""

    FRESH = 0
    LATE = 1
    STALE = 2
    LOST = 3


class FreshnessLimits(NamedTuple):
    """Ages in milliseconds beyond which a sign is late, stale, lost."""

    late_ms: int
    stale_ms: int
    lost_ms: int


# (lowest NEWS2 of the band, stale after, lost after), the sickest band first.
BY_NEWS2: Final = (
    (7, 1 * _MINUTE, 3 * _MINUTE),
    (5, 3 * _MINUTE, 10 * _MINUTE),
    (1, 10 * _MINUTE, 30 * _MINUTE),
    (0, 30 * _MINUTE, 60 * _MINUTE),
)
_UNKNOWN_NEWS2: Final = 1  # a patient without a score is not presumed to be well


@lru_cache(maxsize=1_024)
def limits_for(
    news2: int | None, cadence_ms: int, *, stale_ms: int | None = None, lost_ms: int | None = None
) -> FreshnessLimits:
    """The limits of a sign that is expected every `cadence_ms`, for a patient last seen at `news2`.

    A sign is late at twice its cadence. It is stale by the table, but never before three cadences, and lost never
    before six: a cuff that inflates once an hour is not missing after a minute.

    >>> limits_for(7, 5_000)
    FreshnessLimits(late_ms=10000, stale_ms=60000, lost_ms=180000)

    Args:
        news2: the last score or its lower bound; None if there never was one.
        cadence_ms: expected interval.
        stale_ms: overrules the table, by the patient's plan.
        lost_ms: likewise.
    """
    score = _UNKNOWN_NEWS2 if news2 is None else news2
    stale, lost = next((stale, lost) for lowest, stale, lost in BY_NEWS2 if score >= lowest)
    return FreshnessLimits(
        2 * cadence_ms,
        max(stale if stale_ms is None else stale_ms, 3 * cadence_ms),
        max(lost if lost_ms is None else lost_ms, 6 * cadence_ms),
    )


def state_at(age_ms: int, limits: FreshnessLimits) -> Freshness:
    """How fresh a value of that age is."""
    if age_ms <= limits.late_ms:
        return Freshness.FRESH
    if age_ms <= limits.stale_ms:
        return Freshness.LATE
    return Freshness.STALE if age_ms <= limits.lost_ms else Freshness.LOST


def next_change_ms(last_seen_ms: int, limits: FreshnessLimits, now_ms: int) -> int | None:
    """The first moment after `now_ms` at which the state becomes another one; None when it is lost already."""
    for limit in limits:
        if last_seen_ms + limit >= now_ms:
            return last_seen_ms + limit + 1
    return None
