"""Windows of event time: tumbling and hopping, watermark, late values, backfill.

Windows begin at multiples of the hop since 1970 and hold `start <= at < start + width`. Values are counted in whole
thousandths of the sign's unit, so that a sum does not depend on the order of arrival.
"""

from typing import Any, Final, Self

import msgspec

_THOUSANDTHS: Final = 1_000


class ClosedWindow(msgspec.Struct, frozen=True):
    """A window that accepts no more values."""

    sign: str
    start_ms: int
    width_ms: int
    count: int
    mean: float
    minimum: float
    maximum: float


class EventTimeWindows:
    """Count, mean, minimum and maximum of each sign, window by window, for one patient.

    Args:
        width_ms: length of a window.
        hop_ms: distance between the starts of two windows; the same as `width_ms` makes them tumble.
        lateness_ms: how long a window stays open after its end for late values.
    """

    def __init__(self, width_ms: int, *, hop_ms: int | None = None, lateness_ms: int = 0) -> None:
        self.width_ms = width_ms
        self.hop_ms = width_ms if hop_ms is None else hop_ms
        self.lateness_ms = lateness_ms
        self._open: dict[int, dict[str, list[int]]] = {}  # start -> sign -> [count, sum, minimum, maximum]
        self._frontier_ms: int | None = None  # latest event time seen
        self._next_close_ms: int | None = None

    def add(self, sign: str, at_ms: int, value: float) -> tuple[int, ...]:
        """Add a value to its windows.

        Returns:
            The starts of those of its windows that had closed already; () if the value was in time.
        """
        steps = round(value * _THOUSANDTHS)
        first = at_ms - at_ms % self.hop_ms
        closed_before = self._closed_before()
        missed: list[int] = []
        start = first
        while start > at_ms - self.width_ms:
            if closed_before is not None and start + self.width_ms <= closed_before:
                missed.append(start)
            else:
                self._count(start, sign, steps)
            start -= self.hop_ms
        return tuple(missed)

    def advance(self, at_ms: int) -> list[ClosedWindow]:
        """Event time has reached `at_ms`: close the windows that ended `lateness_ms` before, oldest first."""
        if self._frontier_ms is None or at_ms > self._frontier_ms:
            self._frontier_ms = at_ms
        if self._next_close_ms is None or self._frontier_ms < self._next_close_ms:
            return []
        limit = self._frontier_ms - self.lateness_ms
        ready = sorted(start for start in self._open if start + self.width_ms <= limit)
        closed = [
            ClosedWindow(
                sign, start, self.width_ms, n, total / n / _THOUSANDTHS, low / _THOUSANDTHS, high / _THOUSANDTHS
            )
            for start in ready
            for sign, (n, total, low, high) in sorted(self._open.pop(start).items())
        ]
        self._schedule()
        return closed

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it, open windows by whole hops."""
        if self._frontier_ms is not None:
            self._frontier_ms += by_ms
        hops_ms = by_ms // self.hop_ms * self.hop_ms
        self._open = {start + hops_ms: signs for start, signs in self._open.items()}
        self._schedule()

    def to_state(self) -> list[Any]:
        """Plain lists of the open windows."""
        return [
            self._frontier_ms,
            [[start, [[sign, *sums] for sign, sums in signs.items()]] for start, signs in self._open.items()],
        ]

    @classmethod
    def from_state(cls, state: list[Any], width_ms: int, *, hop_ms: int | None = None, lateness_ms: int = 0) -> Self:
        """The windows in the state of `to_state`."""
        windows = cls(width_ms, hop_ms=hop_ms, lateness_ms=lateness_ms)
        windows._frontier_ms = state[0]
        windows._open = {start: {sign: list(sums) for sign, *sums in signs} for start, signs in state[1]}
        windows._schedule()
        return windows

    def _closed_before(self) -> int | None:
        return None if self._frontier_ms is None else self._frontier_ms - self.lateness_ms

    def _count(self, start: int, sign: str, steps: int) -> None:
        signs = self._open.get(start)
        if signs is None:
            signs = self._open[start] = {}
            self._schedule()
        sums = signs.get(sign)
        if sums is None:
            signs[sign] = [1, steps, steps, steps]
            return
        sums[0] += 1
        sums[1] += steps
        if steps < sums[2]:
            sums[2] = steps
        elif steps > sums[3]:
            sums[3] = steps

    def _schedule(self) -> None:
        self._next_close_ms = min(self._open) + self.width_ms + self.lateness_ms if self._open else None
