"""Time in one partition: that of ingest, which stamps arrivals, as far as a worker on another machine can tell.

Timers of patients run on the same clock as the arrivals of their readings. A worker reads its own clock and compares it
with the arrivals that it reads, which may be old: as with a sender's clock, the rate tells what is live.
"""

from vitals.sender_clock import SenderClock


class PartitionTime:
    """The distance between the clock of ingest and the worker's.

    Args:
        bound_ms: a smaller distance is no error.
    """

    __slots__ = ("_ingest",)

    def __init__(self, *, bound_ms: int) -> None:
        self._ingest = SenderClock(bound_ms=bound_ms)

    def heard(self, arrived_ms: int, now_ms: int) -> None:
        """A record that arrived at ingest at `arrived_ms` was read at `now_ms`."""
        self._ingest.measured_ms(arrived_ms, now_ms, None)

    def now_ms(self, now_ms: int) -> int | None:
        """The worker's time as the time of ingest; None: it is not known yet, and timers wait."""
        unsure_until_ms = self._ingest.unsure_until_ms
        if unsure_until_ms is not None and now_ms < unsure_until_ms:
            return None
        return now_ms - self._ingest.offset_ms

    @property
    def behind_ms(self) -> int:
        """How far the clock of ingest is behind the worker's."""
        return self._ingest.offset_ms
