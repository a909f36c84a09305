"""From when to when one patient is monitored: the binding as the registry has signed it, and the first reading.

Deadlines run from when the binding became known, by the clock of the place that judges; the signed times of the
registry are for texts and for the ids of alarms, which are the same wherever they are found.
"""

from typing import Any, Final

from vitals.alarms import ClockText, clock_text
from vitals.messages import BindingPeriod

CLOCK_DIFFERENCE_MS: Final = 3_600_000
"""An end that seems to lie so far in the future at most has happened: the registry writes ends when they happen."""
EDGE_SILENT_MS: Final = 180_000
"""An edge that was not heard for this long is named as a cause; it sends a heartbeat every 30 s."""


class BindingTerm:
    """The binding of one patient, as far as it is known. No reading is needed for it.

    Args:
        clock: writes the times in texts.

    Attributes:
        from_ms: start of the binding by the registry; None: not known, it was never told.
        known_ms: when the binding became known here.
        ends_ms: when monitoring ends, by the clock here; None: no end is known.
        ended_ms: when the binding ended, by the registry.
        has_ended: final.
        first_ms: event time of the first reading that was heard while it was new; None: there was none.
    """

    __slots__ = (
        "_clock",
        "_edge_heard_ms",
        "_told_ms",
        "ended_ms",
        "ends_ms",
        "first_ms",
        "from_ms",
        "has_ended",
        "known_ms",
    )

    def __init__(self, clock: ClockText = clock_text) -> None:
        self._clock = clock
        self.from_ms: int | None = None
        self.known_ms: int | None = None
        self.ends_ms: int | None = None
        self.ended_ms: int | None = None
        self.has_ended = False
        self.first_ms: int | None = None
        self._edge_heard_ms: int | None = None
        self._told_ms = 0  # when the edge was last told of

    def knows(self, period: BindingPeriod) -> bool:
        """Whether this changes nothing. Since the first reading it is of no interest whether the edge is heard."""
        same = (self.from_ms, self.ended_ms) == (period.from_ms, period.to_ms)
        was_heard = self.first_ms is not None
        return self.has_ended or (same and (was_heard or period.edge_heard_ms == self._edge_heard_ms))

    def accept(self, period: BindingPeriod) -> None:
        """Take over what is new."""
        if self.known_ms is None:
            self.known_ms = period.heard_ms
        self.from_ms = period.from_ms
        self._edge_heard_ms, self._told_ms = period.edge_heard_ms, period.heard_ms
        if period.to_ms is not None:
            is_future = period.to_ms - period.heard_ms > CLOCK_DIFFERENCE_MS
            self.ended_ms = period.to_ms
            self.ends_ms = period.to_ms if is_future else period.heard_ms

    def is_due_to_end(self, now_ms: int) -> bool:
        return not self.has_ended and self.ends_ms is not None and self.ends_ms <= now_ms

    @property
    def awaiting_since_ms(self) -> int | None:
        """Since when signs that never came are awaited; None: nobody is monitored yet, or any more."""
        if self.has_ended:
            return None
        return self.known_ms if self.first_ms is None else self.first_ms

    @property
    def timer_ms(self) -> int | None:
        """When monitoring ends; None: no end is known, or it has ended."""
        return None if self.has_ended else self.ends_ms

    @property
    def why_unheard(self) -> str:
        """Why no reading may have come."""
        if self.known_ms is None:
            return ""
        if self._edge_heard_ms is None:
            return "its edge is not heard"
        if self._told_ms - self._edge_heard_ms > EDGE_SILENT_MS:
            return f"its edge is not heard since {self._clock(self._edge_heard_ms)}"
        return "its edge is heard, its wearable never was"

    def shift(self, by_ms: int) -> None:
        """The event times of readings turned out to be wrong by so much: move them."""
        if self.first_ms is not None:
            self.first_ms += by_ms

    def shift_arrivals(self, by_ms: int) -> None:
        """The clock here was set by so much: move what it has stamped. What the registry has signed stays."""
        if self.known_ms is not None:
            self.known_ms += by_ms
        if self._edge_heard_ms is not None:
            self._edge_heard_ms += by_ms
        self._told_ms += by_ms

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode; short if the binding is not known."""
        if self.known_ms is None:
            return [self.first_ms]
        return [
            self.first_ms,
            self.from_ms,
            self.known_ms,
            self.ends_ms,
            self.ended_ms,
            self.has_ended,
            self._edge_heard_ms,
            self._told_ms,
        ]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        self.first_ms, *period = state
        if period:
            self.from_ms, self.known_ms, self.ends_ms, self.ended_ms, self.has_ended, *edge = period
            self._edge_heard_ms, self._told_ms = edge
