"""From when to when one patient is monitored: the bindings of the stay as the registry has signed them.

Deadlines run from when a binding became known, by the clock of the place that judges; the signed times of the registry
are for texts and for the ids of alarms, which are the same wherever they are found.
"""

from typing import Any, Final

from vitals.alarms import ClockText, clock_text
from vitals.messages import BindingPeriod

CLOCK_DIFFERENCE_MS: Final = 3_600_000
"""An end that seems to lie so far in the future at most has happened: the registry writes ends when they happen."""
EDGE_SILENT_MS: Final = 180_000
"""An edge that was not heard for this long is named as a cause; it sends a heartbeat every 30 s."""


class BindingTerm:
    """One binding: from when to when one device is on the patient. No reading is needed for it.

    Attributes:
        from_ms: start of the binding by the registry; None: not known, it was never told.
        known_ms: when the binding became known here.
        ends_ms: when it ends, by the clock here; None: no end is known.
        ended_ms: when it ended, by the registry.
        has_ended: final.
    """

    __slots__ = ("edge_heard_ms", "ended_ms", "ends_ms", "from_ms", "has_ended", "known_ms", "told_ms")

    def __init__(self) -> None:
        self.from_ms: int | None = None
        self.known_ms: int | None = None
        self.ends_ms: int | None = None
        self.ended_ms: int | None = None
        self.has_ended = False
        self.edge_heard_ms: int | None = None
        self.told_ms = 0  # when the edge was last told of

    def accept(self, period: BindingPeriod) -> None:
        """Take over what is new. A binding that has ended never begins again."""
        if self.has_ended:
            return
        if self.known_ms is None:
            self.known_ms = period.heard_ms
        self.from_ms = period.from_ms
        self.edge_heard_ms, self.told_ms = period.edge_heard_ms, period.heard_ms
        if period.to_ms is not None:
            self.ended_ms, self.ends_ms = period.to_ms, _ends_ms(period.to_ms, period.heard_ms)

    def is_due_to_end(self, now_ms: int) -> bool:
        return not self.has_ended and self.ends_ms is not None and self.ends_ms <= now_ms

    def is_after_end(self, at_ms: int) -> bool:
        """Whether something was measured after this binding had ended: nobody knows of whom."""
        return self.ended_ms is not None and at_ms > self.ended_ms

    def why_unheard(self, clock: ClockText) -> str:
        """Why no reading may have come."""
        if self.edge_heard_ms is None:
            return "its edge is not heard"
        if self.told_ms - self.edge_heard_ms > EDGE_SILENT_MS:
            return f"its edge is not heard since {clock(self.edge_heard_ms)}"
        return "its edge is heard, its wearable never was"

    def shift_arrivals(self, by_ms: int) -> None:
        """The clock here was set by so much: move what it has stamped. What the registry has signed stays."""
        if self.known_ms is not None:
            self.known_ms += by_ms
        if self.edge_heard_ms is not None:
            self.edge_heard_ms += by_ms
        self.told_ms += by_ms

    def to_state(self) -> list[Any]:
        """Plain list that msgspec can encode; empty if the binding is not known."""
        if self.known_ms is None:
            return []
        return [
            self.from_ms,
            self.known_ms,
            self.ends_ms,
            self.ended_ms,
            self.has_ended,
            self.edge_heard_ms,
            self.told_ms,
        ]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        if state:
            self.from_ms, self.known_ms, self.ends_ms, self.ended_ms, self.has_ended, *edge = state
            self.edge_heard_ms, self.told_ms = edge


class StayTerm:
    """From when to when a patient is monitored: from the first binding that becomes known to the end of the stay.

    Args:
        first: the binding with the id of the stay.
        clock: writes the times in texts.

    Attributes:
        terms: the known bindings, the first one first; the owner of the devices adds and removes the others.
        first_ms: event time of the first reading that was heard while it was new, of any device; None: there was none.
        ends_ms, ended_ms, has_ended: as of a binding, of the whole stay.
    """

    __slots__ = ("_clock", "_first", "ended_ms", "ends_ms", "first_ms", "has_ended", "terms")

    def __init__(self, first: BindingTerm | None = None, clock: ClockText = clock_text) -> None:
        self._clock = clock
        self._first = first or BindingTerm()
        self.terms: list[BindingTerm] = [self._first]
        self.first_ms: int | None = None
        self.ends_ms: int | None = None
        self.ended_ms: int | None = None
        self.has_ended = False

    def knows(self, period: BindingPeriod, term: BindingTerm | None) -> bool:
        """Whether this changes nothing. Since the first reading it is of no interest whether the edge is heard.

        Args:
            term: the binding that the period is about; None: it is not known yet.
        """
        if self.has_ended:
            return True  # a stay never begins again
        ended_ms = end_of_stay(period)
        if term is None or (ended_ms is not None and ended_ms != self.ended_ms):
            return False
        if term.has_ended:
            return True
        same = (term.from_ms, term.ended_ms) == (period.from_ms, period.to_ms)
        return same and (self.first_ms is not None or period.edge_heard_ms == term.edge_heard_ms)

    def accept_end(self, ended_ms: int, heard_ms: int) -> None:
        """The registry says when the stay ends or has ended."""
        self.ended_ms, self.ends_ms = ended_ms, _ends_ms(ended_ms, heard_ms)

    def is_due_to_end(self, now_ms: int) -> bool:
        return not self.has_ended and self.ends_ms is not None and self.ends_ms <= now_ms

    def is_after_end(self, at_ms: int) -> bool:
        return self.ended_ms is not None and at_ms > self.ended_ms

    @property
    def from_ms(self) -> int | None:
        """Start of the earliest binding that is known."""
        return min((term.from_ms for term in self.terms if term.from_ms is not None), default=None)

    @property
    def awaiting_since_ms(self) -> int | None:
        """Since when signs that never came are awaited; None: nobody is monitored yet, or any more."""
        if self.has_ended or self.first_ms is not None:
            return None if self.has_ended else self.first_ms
        return min((term.known_ms for term in self.terms if term.known_ms is not None), default=None)

    @property
    def timer_ms(self) -> int | None:
        """When the stay or a binding of it ends; None: no end is known, or it has ended."""
        if self.has_ended:
            return None
        if len(self.terms) == 1 and self.ends_ms is None and self._first.ends_ms is None:
            return None
        due = [term.ends_ms for term in self.terms if term.ends_ms is not None and not term.has_ended]
        if self.ends_ms is not None:
            due.append(self.ends_ms)
        return min(due, default=None)

    @property
    def why_unheard(self) -> str:
        """Why no reading may have come."""
        known = [term for term in self.terms if term.known_ms is not None and not term.has_ended]
        if not known:
            return "no device is bound any more" if any(term.has_ended for term in self.terms) else ""
        # Of several devices: the one whose edge is heard best.
        best = max(known, key=lambda term: -1 if term.edge_heard_ms is None else term.edge_heard_ms)
        return best.why_unheard(self._clock)

    def shift(self, by_ms: int) -> None:
        """The event times of readings turned out to be wrong by so much: move them."""
        if self.first_ms is not None:
            self.first_ms += by_ms

    def shift_arrivals(self, by_ms: int) -> None:
        """The clock here was set by so much: move what it has stamped. What the registry has signed stays."""
        for term in self.terms:
            term.shift_arrivals(by_ms)

    def own_end(self) -> list[Any]:
        """The end of the stay, where it is not that of the first binding; else empty."""
        first, own = self._first, [self.ends_ms, self.ended_ms, self.has_ended]
        return [] if own == [first.ends_ms, first.ended_ms, first.has_ended] else own

    def load_own_end(self, state: list[Any]) -> None:
        """Replace the end of the stay with that of `own_end`, after `load_state`."""
        if state:
            self.ends_ms, self.ended_ms, self.has_ended = state

    def to_state(self) -> list[Any]:
        """Plain list that msgspec can encode: the first reading and the first binding, as it always was."""
        return [self.first_ms, *self._first.to_state()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`. The end of the stay is that of its first binding."""
        self.first_ms, *period = state
        first = self._first
        first.load_state(period)
        self.ends_ms, self.ended_ms, self.has_ended = first.ends_ms, first.ended_ms, first.has_ended


def end_of_stay(period: BindingPeriod) -> int | None:
    """When the stay ends or has ended, by the registry; None: it goes on."""
    if period.stay_to_ms is not None:
        return period.stay_to_ms
    return None if period.stay_goes_on else period.to_ms


def _ends_ms(ended_ms: int, heard_ms: int) -> int:
    """When an end takes effect here."""
    return ended_ms if ended_ms - heard_ms > CLOCK_DIFFERENCE_MS else heard_ms
