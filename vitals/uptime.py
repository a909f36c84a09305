"""Elapsed time at a sender: how old its messages are, by its uptime, which goes on where a wall clock jumps.

The message that was held up least tells how far the sender's uptime and the clock of arrival are apart. That is certain
once messages have come as fast as they were made: in a backlog even the least delayed one may be hours old.
"""

from vitals.sender_clock import STEADY_LONG_MS, STEADY_MS, LiveTrial


class Uptime:
    """The relation of one sender's uptime to the clock of arrival, for as long as the sender does not restart.

    Args:
        forgets_ms: forget the least delay after once to twice this time, because the two clocks drift apart over days;
            only for a sender that goes on sending live. None: never.
    """

    __slots__ = ("_before_ms", "_began_ms", "_forgets_ms", "_least_ms", "_trial", "is_certain")

    def __init__(self, *, forgets_ms: int | None = None) -> None:
        self._forgets_ms = forgets_ms
        self._least_ms: int | None = None  # distance of the clocks by the least delayed message
        self._before_ms: int | None = None  # the same before `_began_ms`
        self._began_ms = 0
        self._trial: LiveTrial | None = None
        self.is_certain = False  # whether a message was heard live

    def learn(self, uptime_ms: int, heard_ms: int, *, proves: bool = True) -> None:
        """A message came; the least delayed one says most.

        Args:
            proves: whether it may show that messages come live; False for one that its sender may have kept.
        """
        offset_ms, least_ms = heard_ms - uptime_ms, self._offset_ms
        if least_ms is None or offset_ms < least_ms - STEADY_MS:
            # All before were delayed.
            self._least_ms, self._before_ms, self._began_ms = offset_ms, None, heard_ms
            self._trial = LiveTrial(heard_ms, offset_ms) if proves else None
            self.is_certain = False
            return
        if proves and self._forgets_ms is not None and heard_ms - self._began_ms >= self._forgets_ms:
            self._before_ms, self._least_ms, self._began_ms = self._least_ms, offset_ms, heard_ms
        if self._least_ms is None or offset_ms < self._least_ms:
            self._least_ms = offset_ms
        if not proves or self.is_certain or offset_ms > least_ms + STEADY_LONG_MS:
            return
        if self._trial is None:
            self._trial = LiveTrial(heard_ms, offset_ms)
        self.is_certain = self._trial.add(heard_ms, offset_ms) is not None

    def at(self, uptime_ms: int, heard_ms: int) -> int:
        """When the sender had this uptime, by the clock of arrival; never after the arrival at `heard_ms`."""
        offset_ms = self._offset_ms
        return heard_ms if offset_ms is None else min(heard_ms, offset_ms + uptime_ms)

    def shift(self, by_ms: int) -> None:
        """The clock of arrival was set by so much."""
        if self._least_ms is not None:
            self._least_ms += by_ms
        if self._before_ms is not None:
            self._before_ms += by_ms
        self._began_ms += by_ms
        self._trial = None

    @property
    def _offset_ms(self) -> int | None:
        if self._before_ms is None or self._least_ms is None:
            return self._least_ms
        return min(self._before_ms, self._least_ms)
