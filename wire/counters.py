"""Exact sets of counters, kept as ranges."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, Self

MAX_RANGES: Final = 256


class RangesFull(Exception):
    """A further gap would need more than 256 ranges."""


class CounterSet:
    """A set of counters. Backlog and live data interleave after an outage, so this is exact and no sliding window."""

    __slots__ = ("_highs", "_lows")

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> Self:
        """From ascending ranges that do not touch."""
        counters = cls()
        for low, high in ranges:
            counters._lows.append(low)
            counters._highs.append(high)
        return counters

    def __contains__(self, counter: int) -> bool:
        if self._highs and counter > self._highs[-1]:
            return False
        index = bisect_right(self._lows, counter) - 1
        return index >= 0 and counter <= self._highs[index]

    def __len__(self) -> int:
        return sum(self._highs) - sum(self._lows) + len(self._lows)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self._lows, self._highs, strict=True))

    @property
    def highest(self) -> int | None:
        return self._highs[-1] if self._highs else None

    def add(self, counter: int) -> bool:
        """Put a counter in; False if it was in already.

        Raises:
            RangesFull: there are too many gaps to remember one more.
        """
        lows, highs = self._lows, self._highs
        if highs and counter == highs[-1] + 1:  # nearly always
            highs[-1] = counter
            return True
        index = bisect_right(lows, counter)
        if index and counter <= highs[index - 1]:
            return False
        joins_before = index > 0 and highs[index - 1] == counter - 1
        joins_after = index < len(lows) and lows[index] == counter + 1
        if joins_before and joins_after:
            highs[index - 1] = highs[index]
            del lows[index], highs[index]
        elif joins_before:
            highs[index - 1] = counter
        elif joins_after:
            lows[index] = counter
        else:
            if len(lows) >= MAX_RANGES:
                raise RangesFull
            lows.insert(index, counter)
            highs.insert(index, counter)
        return True

    def discard(self, counter: int) -> None:
        """Take a counter out again; only for what was never committed."""
        index = bisect_right(self._lows, counter) - 1
        if index < 0 or counter > self._highs[index]:
            return
        low, high = self._lows[index], self._highs[index]
        del self._lows[index], self._highs[index]
        if counter < high:
            self._lows.insert(index, counter + 1)
            self._highs.insert(index, high)
        if counter > low:
            self._lows.insert(index, low)
            self._highs.insert(index, counter - 1)
