"""How often a set of observations is due, by the risk that the patient was last seen at.

Source: RCP 2017, chart 4: a full set at least every 12 h at a NEWS2 of 0, every 4 to 6 h at 1 to 4, and every hour at 5
or more or with a 3 in one parameter. What people enter, and what a cuff measures now and then, becomes *due* after that
time: the score is no longer complete. Its points stay in the lower bound: an old value may warn, and may not reassure.
"""

from collections.abc import Mapping
from typing import Final

from vitals.news2 import News2, Risk
from vitals.signs import VitalSign

HOUR_MS: Final = 3_600_000
HOURLY: Final = HOUR_MS
SIX_HOURLY: Final = 6 * HOUR_MS
TWELVE_HOURLY: Final = 12 * HOUR_MS

HELD_MS: Final = HOUR_MS
"""A shorter interval stays in force for this long after the risk that asked for it, or it would come and go with a
score that lies between two bands."""
CUFF_LATE_MS: Final = HOUR_MS // 2
"""A cuff that inflates every hour is a little later each time; one measurement that failed makes it due."""

ALLOWED_LATE_MS: Final[Mapping[VitalSign, int]] = {
    VitalSign.SUPPLEMENTAL_OXYGEN: 0,
    VitalSign.SYSTOLIC_BP: CUFF_LATE_MS,
    VitalSign.CONSCIOUSNESS: 0,
}
"""The signs of NEWS2 that become due, and how much later than the interval. The others are measured continuously."""


def interval_at(score: News2) -> int:
    """Longest time between two sets of observations at a score, in ms. Give the score of all values, however old."""
    if score.at_least >= 5 or score.risk is Risk.LOW_MEDIUM:
        return HOURLY
    return SIX_HOURLY if score.at_least >= 1 else TWELVE_HOURLY


class MeasuringInterval:
    """The interval in force for one patient."""

    __slots__ = ("_hourly_ms", "_six_hourly_ms")

    def __init__(self) -> None:
        self._hourly_ms: int | None = None  # when the patient was last seen at a risk that asks for this
        self._six_hourly_ms: int | None = None

    def note(self, score: News2, at_ms: int) -> None:
        """The patient was seen at a score."""
        interval_ms = interval_at(score)
        if interval_ms <= HOURLY:
            self._hourly_ms = at_ms
        if interval_ms <= SIX_HOURLY:
            self._six_hourly_ms = at_ms

    def at(self, score: News2, now_ms: int) -> int:
        """The interval in force, in ms: that of the score, or a shorter one that was in force within the last hour."""
        interval_ms = interval_at(score)
        if interval_ms == HOURLY:
            return HOURLY
        if self._hourly_ms is not None and now_ms - self._hourly_ms <= HELD_MS:
            return HOURLY
        if interval_ms == TWELVE_HOURLY and self._six_hourly_ms is not None:
            return SIX_HOURLY if now_ms - self._six_hourly_ms <= HELD_MS else TWELVE_HOURLY
        return interval_ms

    def to_state(self) -> list[int | None]:
        """Plain list that msgspec can encode."""
        return [self._hourly_ms, self._six_hourly_ms]

    def load_state(self, state: list[int | None]) -> None:
        """Replace the state with that of `to_state`."""
        self._hourly_ms, self._six_hourly_ms = state
