"""Elapsed time at a sender: how old its messages are, by its uptime, which goes on where a wall clock jumps.

The message that was held up least tells how far the sender's uptime and the clock of arrival are apart. That is certain
once messages have come as fast as they were made: in a backlog even the least delayed one may be hours old.
"""

from typing import Final

from vitals.sender_clock import STEADY_LONG_MS, STEADY_MS, LiveTrial

AGE_CERTAIN_MS: Final = STEADY_MS
"""A message that is by so much less delayed than all before shows that those were all delayed."""


class Uptime:
    """The relation of one sender's uptime to the clock of arrival, for as long as the sender does not restart."""

    __slots__ = ("_offset_ms", "_trial", "is_certain")

    def __init__(self) -> None:
        self._offset_ms: int | None = None
        self._trial: LiveTrial | None = None
        self.is_certain = False  # whether a message was heard live

    def learn(self, uptime_ms: int, heard_ms: int, *, proves: bool = True) -> None:
        """A message came; the least delayed one says most.

        Args:
            proves: whether it may show that messages come live; False for one that its sender may have kept.
        """
        offset_ms = heard_ms - uptime_ms
        if self._offset_ms is None or offset_ms < self._offset_ms - AGE_CERTAIN_MS:
            self._offset_ms = offset_ms
            self._trial = LiveTrial(heard_ms, offset_ms) if proves else None
            self.is_certain = False
            return
        if offset_ms < self._offset_ms:
            self._offset_ms = offset_ms
        if not proves or self.is_certain or offset_ms > self._offset_ms + STEADY_LONG_MS:
            return
        if self._trial is None:
            self._trial = LiveTrial(heard_ms, offset_ms)
        self.is_certain = self._trial.add(heard_ms, offset_ms) is not None

    def at(self, uptime_ms: int, heard_ms: int) -> int:
        """When the sender had this uptime, by the clock of arrival; never after the arrival at `heard_ms`."""
        return heard_ms if self._offset_ms is None else min(heard_ms, self._offset_ms + uptime_ms)

    def shift(self, by_ms: int) -> None:
        """The clock of arrival was set by so much."""
        if self._offset_ms is not None:
            self._offset_ms += by_ms
        self._trial = None
