"""The pace of simulated time, limited by a maximum speed and by the oldest reading that is not yet stored.

The wall clock of a simulated ward moves at most `speed` times as fast as real time, and never further than `slack_ms`
past the oldest reading that is not yet stored. If the machine or a broken link cannot keep up, simulated time slows
down: nothing is dropped, and no sign looks stale because a computer was busy.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

_SLICE_S = 0.05  # the wall clock moves at least this often
_CHECK_S = 0.25  # how long a held clock waits for stored readings before it checks again


class _WallClock(Protocol):
    def now_ms(self) -> int: ...
    def mono_ms(self) -> int: ...
    def set(self, now_ms: int) -> None: ...


class Pace:
    """Moves the wall clock of a ward.

    Args:
        wall: the simulated clock; its monotonic time is real.
        speed: simulated milliseconds per real one, at most.
        slack_ms: how far the wall clock may be ahead of the oldest reading in transit.
    """

    def __init__(self, wall: _WallClock, *, speed: float, slack_ms: int) -> None:
        self._wall = wall
        self._speed = speed
        self._slack_ms = slack_ms
        self._in_transit: dict[bytes, int] = {}
        self._progress = asyncio.Event()
        self._base_ms = wall.now_ms()
        self._base_mono_ms = wall.mono_ms()
        self.held_ms = 0  # real time that the wall clock waited for readings in transit

    @property
    def waiting_for(self) -> int:
        """How many readings were sent and are not yet stored."""
        return len(self._in_transit)

    def in_transit(self) -> Mapping[bytes, int]:
        """The readings that were sent and not yet stored: event time by reading id, oldest first."""
        return self._in_transit

    def sent(self, reading_id: bytes, at_ms: int) -> None:
        """A wearable has sent a reading. Readings are sent in the order of their event time."""
        self._in_transit[reading_id] = at_ms

    def done(self, reading_ids: Iterable[bytes]) -> None:
        """Readings are stored, or were refused permanently."""
        for reading_id in reading_ids:
            self._in_transit.pop(reading_id, None)
        self._progress.set()

    async def until(self, at_ms: int) -> None:
        """Return when the wall clock has reached `at_ms`."""
        while not self._move_towards(at_ms):
            await self._wait(at_ms)

    async def drained(self, *, within_s: float) -> bool:
        """Wait until no reading is in transit; False after `within_s` of real time without progress."""
        before, since = len(self._in_transit), self._wall.mono_ms()
        while self._in_transit:
            await self._wait_for_progress()
            if len(self._in_transit) != before:
                before, since = len(self._in_transit), self._wall.mono_ms()
            elif self._wall.mono_ms() - since > within_s * 1_000:
                return False
        return True

    def _limit_ms(self) -> int | None:
        oldest = next(iter(self._in_transit.values()), None)
        return None if oldest is None else oldest + self._slack_ms

    def _ceiling_ms(self) -> int:
        return self._base_ms + int((self._wall.mono_ms() - self._base_mono_ms) * self._speed)

    def _move_towards(self, at_ms: int) -> bool:
        reach = min(at_ms, self._ceiling_ms())
        limit = self._limit_ms()
        if limit is not None:
            reach = min(reach, limit)
        if reach > self._wall.now_ms():
            self._wall.set(reach)
        return self._wall.now_ms() >= at_ms

    async def _wait(self, at_ms: int) -> None:
        limit, ceiling = self._limit_ms(), self._ceiling_ms()
        if limit is not None and ceiling >= limit:
            began = self._wall.mono_ms()
            await self._wait_for_progress()
            self.held_ms += self._wall.mono_ms() - began
            # Lost time is not made up for: the clock continues at its speed from here.
            self._base_ms, self._base_mono_ms = self._wall.now_ms(), self._wall.mono_ms()
        else:
            ahead_s = (at_ms - ceiling) / self._speed / 1_000
            await asyncio.sleep(min(max(ahead_s, 0.0), _SLICE_S))

    async def _wait_for_progress(self) -> None:
        self._progress.clear()
        try:
            async with asyncio.timeout(_CHECK_S):
                await self._progress.wait()
        except TimeoutError:
            return
