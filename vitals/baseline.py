"""A patient's own normal: mean and deviation of one sign, weighted towards the last day, updated online."""

from math import pi, sqrt
from typing import Any, Final, Self

HALF_LIFE_MS: Final = 24 * 3_600_000
WARM_UP_COUNT: Final = 30
WARM_UP_MS: Final = 3_600_000
_WINSOR: Final = 3.0  # one value moves the mean by at most this many deviations
_LEAST_DEVIATION: Final = 1.0  # below this a deviation is only the rounding of the sensor


class Baseline:
    """Exponentially weighted mean and mean absolute deviation in event time; usable values only."""

    __slots__ = ("_count", "_deviation", "_first_ms", "_last_ms", "_mean")

    def __init__(self) -> None:
        self._count = 0
        self._first_ms = 0
        self._last_ms = 0
        self._mean = 0.0
        self._deviation = 0.0

    def update(self, at_ms: int, value: float) -> None:
        """Learn from one value. Values come in the order of their event time; an older one is ignored."""
        if self._count == 0:
            self._count, self._first_ms, self._last_ms, self._mean = 1, at_ms, at_ms, value
            return
        if at_ms < self._last_ms:
            return
        self._count += 1
        # A plain mean at first; later the weight of older values halves every day.
        weight = max(1.0 / self._count, 1.0 - 0.5 ** ((at_ms - self._last_ms) / HALF_LIFE_MS))
        step = value - self._mean
        if self._count > WARM_UP_COUNT:
            most = _WINSOR * max(self._deviation, _LEAST_DEVIATION)
            step = min(max(step, -most), most)
        self._mean += weight * step
        self._deviation += weight * (abs(step) - self._deviation)
        self._last_ms = at_ms

    @property
    def is_warm(self) -> bool:
        """Whether enough values were seen: 30, over at least an hour."""
        return self._count >= WARM_UP_COUNT and self._last_ms - self._first_ms >= WARM_UP_MS

    @property
    def mean(self) -> float | None:
        return self._mean if self.is_warm else None

    @property
    def deviation(self) -> float | None:
        """Estimate of the standard deviation: 1.25 times the mean absolute deviation, as for a normal distribution."""
        return max(_TO_SIGMA * self._deviation, _LEAST_DEVIATION) if self.is_warm else None

    def z(self, value: float) -> float | None:
        """How many deviations `value` lies from this patient's normal; None while warming up."""
        if not self.is_warm:
            return None
        return (value - self._mean) / max(_TO_SIGMA * self._deviation, _LEAST_DEVIATION)

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self._first_ms += by_ms
        self._last_ms += by_ms

    def to_state(self) -> list[Any]:
        return [self._count, self._first_ms, self._last_ms, self._mean, self._deviation]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        baseline = cls()
        (baseline._count, baseline._first_ms, baseline._last_ms, baseline._mean, baseline._deviation) = state
        return baseline


_TO_SIGMA: Final = sqrt(pi / 2)
