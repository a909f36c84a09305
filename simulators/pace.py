"""Simulated time: a ceiling that the clock never outruns, and a rein that the slowest reading holds.

The wall of a simulated ward moves at most `speed` times as fast as real time, and never further than `slack_ms` past
the oldest reading that is not yet stored. Where the machine or a broken link cannot keep up, the story slows down;
nothing is dropped and no sign looks stale because a computer was busy.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

_SLICE_S = 0.05  # the wall moves at least this often while nothing happens
_PATIENCE_S = 0.25  # how often a held clock looks again, should no news come


class _Wall(Protocol):
    def now_ms(self) -> int: ...
    def mono_ms(self) -> int: ...
    def set(self, now_ms: int) -> None: ...


class Pace:
    """Moves the wall of a ward.

    Args:
        wall: the clock that is moved; its monotonic half is real.
        speed: simulated milliseconds per real one, at most.
        slack_ms: how far the wall may run ahead of the oldest reading that is still on its way.
    """

    def __init__(self, wall: _Wall, *, speed: float, slack_ms: int) -> None:
        self._wall = wall
        self._speed = speed
        self._slack_ms = slack_ms
        self._on_the_way: dict[bytes, int] = {}
        self._news = asyncio.Event()
        self._base_ms = wall.now_ms()
        self._base_mono_ms = wall.mono_ms()
        self.held_ms = 0  # real time that the wall stood still for what was on its way

    @property
    def waiting_for(self) -> int:
        """How many readings were sent and are not yet stored."""
        return len(self._on_the_way)

    def on_the_way(self) -> Mapping[bytes, int]:
        """The readings that were sent and not yet stored: event time by reading id, oldest first."""
        return self._on_the_way

    def sent(self, reading_id: bytes, at_ms: int) -> None:
        """A reading has left the wrist. Readings leave in the order of their event time."""
        self._on_the_way[reading_id] = at_ms

    def done(self, reading_ids: Iterable[bytes]) -> None:
        """Readings are stored, or were refused for good."""
        for reading_id in reading_ids:
            self._on_the_way.pop(reading_id, None)
        self._news.set()

    async def until(self, at_ms: int) -> None:
        """Return when the wall has reached `at_ms`."""
        while not self._move_towards(at_ms):
            await self._wait(at_ms)

    async def drained(self, *, within_s: float) -> bool:
        """Wait until nothing is on its way; False after `within_s` of real time without progress."""
        before, since = len(self._on_the_way), self._wall.mono_ms()
        while self._on_the_way:
            await self._hear_news()
            if len(self._on_the_way) != before:
                before, since = len(self._on_the_way), self._wall.mono_ms()
            elif self._wall.mono_ms() - since > within_s * 1_000:
                return False
        return True

    def _limit_ms(self) -> int | None:
        oldest = next(iter(self._on_the_way.values()), None)
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
            await self._hear_news()
            self.held_ms += self._wall.mono_ms() - began
            # The time that was lost is lost: the clock goes on from here, it does not sprint.
            self._base_ms, self._base_mono_ms = self._wall.now_ms(), self._wall.mono_ms()
        else:
            ahead_s = (at_ms - ceiling) / self._speed / 1_000
            await asyncio.sleep(min(max(ahead_s, 0.0), _SLICE_S))

    async def _hear_news(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._news.wait()
        except TimeoutError:
            return
