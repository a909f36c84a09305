"""Sends input to InfluxDB until each part of it is accepted, or is known to be refused for what it is.

A request that fails is judged by its cause, see `stream.refusals`. InfluxDB being away, full or overloaded, and a
configuration that refuses everything, are waited for. Input that is refused while InfluxDB accepts other input is
divided until the refused items are found; these are returned, and everything else is written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from runtime.clock import Clock
from runtime.logs import get
from stream.errors import DatabaseFailed
from stream.refusals import BUSY_STATUSES, Cause
from stream.store.counts import WriterCounts

_log = get(__name__)

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 10.0
PATIENCE_MS: Final = 2_000
"""Input that InfluxDB fails on is suspected when it has failed repeatedly for this long, and other input has not."""
BUSY_PATIENCE_MS: Final = 30_000
"""The same if InfluxDB says that it is busy, or does not answer in time."""
SAID_EVERY_MS: Final = 60_000

T = TypeVar("T")
Send = Callable[[Sequence[T]], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]


class Attempts:
    """The attempts of one topic group.

    Args:
        name: of the topic group, for the log.
        counts: of the topic group; says since when it waits, and for what.
        sleep: waits between attempts.
    """

    def __init__(self, name: str, clock: Clock, counts: WriterCounts, *, sleep: Sleep = asyncio.sleep) -> None:
        self._name = name
        self._clock = clock
        self._counts = counts
        self._sleep = sleep
        self._said_ms: int | None = None

    async def deliver(
        self, items: Sequence[T], send: Send[T], *, check: Callable[[], Awaitable[None]]
    ) -> list[tuple[T, str]]:
        """Send all items, in as few requests as possible; returns those that are refused, each with the reason.

        Args:
            send: one request for some of the items; raises DatabaseFailed.
            check: one request that InfluxDB accepts whenever it accepts anything; raises DatabaseFailed.
        """
        refused: list[tuple[T, str]] = []
        parts: list[Sequence[T]] = [items] if items else []
        evidence = _Evidence(check)
        while parts:
            part = parts.pop()
            error = await self._decide(part, send, evidence)
            if error is None:
                evidence.accepted = True
            elif len(part) == 1 or error.dropped >= len(part):
                refused += [(item, str(error)) for item in part]
            else:
                evidence.suspected |= error.cause is Cause.UNCLEAR
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            self._progressed()
        return refused

    async def _decide(self, part: Sequence[T], send: Send[T], evidence: "_Evidence") -> DatabaseFailed | None:
        """Send one part until it is accepted (None), or has to be divided or given up (why)."""
        wait_s, failures, began_ms = FIRST_WAIT_S, 0, self._clock.mono_ms()
        is_last = len(part) == 1
        while True:
            try:
                await send(part)
            except DatabaseFailed as error:
                found = error
            else:
                return None
            cause = found.cause
            if cause is Cause.CONTENT:
                gives_up = is_last or found.dropped >= len(part)
                if not gives_up or evidence.accepted or await evidence.holds():
                    return found
                found, cause = _refuses_everything(found), Cause.CONFIGURATION
            elif cause is Cause.UNCLEAR:
                failures = failures + 1 if await evidence.holds() else 0
                if failures >= (1 if evidence.suspected and not is_last else 2):
                    patience_ms = 0 if evidence.suspected else _patience_ms(found)
                    if self._clock.mono_ms() - began_ms >= patience_ms:
                        return found
                cause = Cause.UNCLEAR if failures else Cause.UNAVAILABLE
            else:
                failures = 0
            self._counts.retries += 1
            if not (failures and evidence.suspected):
                self._wait_for(found, cause, began_ms)
                await self._sleep(wait_s if found.after_s is None else max(found.after_s, FIRST_WAIT_S))
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _wait_for(self, error: DatabaseFailed, cause: Cause, began_ms: int) -> None:
        counts, now_ms = self._counts, self._clock.mono_ms()
        if counts.waiting_since_ms is None:
            counts.waiting_since_ms, self._said_ms = began_ms, None
        counts.why_waiting, counts.waiting_for = str(error), cause
        if self._said_ms is None or (cause is Cause.CONFIGURATION and now_ms - self._said_ms >= SAID_EVERY_MS):
            self._said_ms = now_ms
            _log.error(
                "InfluxDB does not accept points; trying again", topics=self._name, cause=cause, problem=str(error)
            )

    def _progressed(self) -> None:
        counts, now_ms = self._counts, self._clock.mono_ms()
        counts.turned_ms = now_ms
        if counts.waiting_since_ms is not None:
            _log.info("InfluxDB accepts points again", topics=self._name, after_ms=now_ms - counts.waiting_since_ms)
            counts.waiting_since_ms = None


class _Evidence:
    """What is known of the server while one batch is sent."""

    def __init__(self, check: Callable[[], Awaitable[Any]]) -> None:
        self.accepted = False  # it has accepted something of this batch
        self.suspected = False  # it was well all the time that it failed on something in this batch
        self._check = check

    async def holds(self) -> bool:
        """Whether the server accepts other input now."""
        try:
            await self._check()
        except DatabaseFailed:
            return False
        return True


def _patience_ms(error: DatabaseFailed) -> int:
    return BUSY_PATIENCE_MS if error.status is None or error.status in BUSY_STATUSES else PATIENCE_MS


def _refuses_everything(error: DatabaseFailed) -> DatabaseFailed:
    return DatabaseFailed(f"{error}; it refuses every line, also one that cannot be wrong", cause=Cause.CONFIGURATION)
