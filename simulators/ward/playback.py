"""The story of a ward, played at the pace of simulated time until it ends or is stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from runtime.clock import FileClock
from simulators.stories import START_MS, Moment, Story
from simulators.ward.pace import Pace
from wire.codec import VitalsV1

DRAIN_WITHIN_S: Final = 60.0
"""Real seconds without progress after which the ward no longer waits for readings to be stored."""

_LOOK_S: Final = 0.02


class Playback:
    """Plays a story and keeps its real and simulated time.

    Args:
        clock: the simulated clock that `pace` moves.
        duration_ms: simulated time after which to stop; None: the story's own length, or until `stop`.
        began_s: when the command began, by `time.monotonic`.
    """

    def __init__(self, story: Story, clock: FileClock, pace: Pace, *, duration_ms: int | None, began_s: float) -> None:
        self.is_draining = False
        self._story = story
        self._clock = clock
        self._pace = pace
        self._ends_ms = None if duration_ms is None else START_MS + duration_ms
        self._stopped = asyncio.Event()
        self._began_s = began_s
        self._ended_s: float | None = None

    def stop(self) -> None:
        """End the story early. Readings that were sent are still waited for."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    async def play(
        self,
        send: Callable[[Sequence[tuple[int, VitalsV1]], int], None],
        *,
        before: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """Call `send` with the readings of each moment of the story and their event time, when it comes.

        Args:
            before: called with the time of each moment before its readings are sent.
        """
        self._began_s = time.monotonic()
        stopped = asyncio.create_task(self._stopped.wait(), name="stop")
        try:
            async for moment in self._moments(stopped):
                if before is not None:
                    await before(moment.at_ms)
                send(moment.samples, moment.at_ms)
            if not self.is_stopped and self._ends_ms is not None and self._story.ends_ms is None:
                await self._pace.until(self._ends_ms)
        finally:
            stopped.cancel()

    async def drain(self, unacknowledged: Callable[[], int]) -> None:
        """Wait until all readings are stored and acknowledged, or nothing has moved for `DRAIN_WITHIN_S`.

        Args:
            unacknowledged: how many readings wearables still keep; acknowledgements reach them after the store's.
        """
        self.is_draining = True
        await self._pace.drained(within_s=DRAIN_WITHIN_S)
        deadline = time.monotonic() + DRAIN_WITHIN_S
        while unacknowledged() and not self._pace.waiting_for and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)
        self._ended_s = time.monotonic()

    @property
    def now_ms(self) -> int:
        """Simulated time."""
        return self._clock.now_ms()

    @property
    def complete_until_ms(self) -> int:
        """The simulated time up to which every reading is stored: what a screen may show as current."""
        oldest_ms = next(iter(self._pace.in_transit().values()), None)
        return self.now_ms if oldest_ms is None else min(self.now_ms, oldest_ms)

    @property
    def simulated_s(self) -> float:
        """Simulated seconds since the start of the story."""
        return (self.now_ms - START_MS) / 1_000

    @property
    def real_s(self) -> float:
        """Real seconds since the start of the story, up to its end; never 0."""
        now_s = time.monotonic() if self._ended_s is None else self._ended_s
        return max(now_s - self._began_s, 0.001)

    async def _moments(self, stopped: "asyncio.Task[Any]") -> AsyncIterator[Moment]:
        for moment in self._story.moments():
            if self._ends_ms is not None and moment.at_ms >= self._ends_ms:
                await self._reached(self._ends_ms, stopped)
                return
            if not await self._reached(moment.at_ms, stopped):
                return
            yield moment

    async def _reached(self, at_ms: int, stopped: "asyncio.Task[Any]") -> bool:
        """Wait for a simulated time; False: stopped before."""
        waiting = asyncio.create_task(self._pace.until(at_ms), name="pace")
        await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if self.is_stopped:
            waiting.cancel()
            return False
        waiting.result()
        return True
