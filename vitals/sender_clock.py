"""The clock that stamps event times, compared with the clock of arrival: live readings are told from a backlog.

A reading that arrives live under a wrong clock and an old reading from a backlog may claim the same time. A message
that says how old it is, by elapsed time at its sender, needs no comparison. Without that, the rate decides: event times
of a live stream advance as fast as the time of arrival, those of a backlog that is being drained advance faster.
"""

from typing import Any, Final

BOUND_MS: Final = 5_000
"""Two clocks that differ by no more than this are taken for equal: transport alone takes seconds."""
SIMULATED_BOUND_MS: Final = 300_000
"""In simulated time, which may run a thousand times as fast, transport takes minutes."""
LIVE_AFTER_MS: Final = 10_000
"""Event times that keep their distance to the time of arrival for this long come from a live stream..."""
STEADY_MS: Final = 3_000
"""...if the distance varies by no more than this, so a backlog is drained 1.3 times as fast as it was measured."""
LIVE_AFTER_LONG_MS: Final = 60_000
"""Over a jittery transport, after this long..."""
STEADY_LONG_MS: Final = 20_000
"""...with this much variation."""
FIRST_CONTACT_MS: Final = 90_000
"""So long after the first reading of a patient, missing data is not judged by a clock that is not known yet."""


class LiveTrial:
    """Readings that may be a live stream under another clock: their distance to the time of arrival must be steady."""

    __slots__ = ("_began_ms", "_least_ms", "_most_ms")

    def __init__(self, began_ms: int, lag_ms: int) -> None:
        self._began_ms = began_ms
        self._least_ms = self._most_ms = lag_ms

    def add(self, heard_ms: int, lag_ms: int) -> int | None:
        """A further reading; the distance of the clocks once it is certain that the stream is live."""
        if lag_ms < self._least_ms:
            self._least_ms = lag_ms
        elif lag_ms > self._most_ms:
            self._most_ms = lag_ms
        spread_ms, passed_ms = self._most_ms - self._least_ms, heard_ms - self._began_ms
        if spread_ms > STEADY_LONG_MS:
            self._began_ms, self._least_ms, self._most_ms = heard_ms, lag_ms, lag_ms
            return None
        is_live = passed_ms >= LIVE_AFTER_LONG_MS or (passed_ms >= LIVE_AFTER_MS and spread_ms <= STEADY_MS)
        return self._least_ms if is_live else None

    @property
    def steady_ms(self) -> int:
        """The distance so far, if it was steady and the clocks are wrong by it; else 0."""
        is_steady = self._most_ms - self._least_ms <= STEADY_MS
        return max(self._least_ms, 0) if is_steady else 0

    def to_state(self) -> list[int]:
        return [self._began_ms, self._least_ms, self._most_ms]

    @classmethod
    def from_state(cls, state: list[int]) -> "LiveTrial":
        trial = cls(state[0], state[1])
        trial._most_ms = state[2]
        return trial


class SenderClock:
    """How far the event times of one patient's readings are behind the clock of arrival.

    Args:
        bound_ms: a smaller distance is no error.
    """

    __slots__ = ("_bound_ms", "_first_ms", "_known", "_trial", "moved_ms", "offset_ms")

    def __init__(self, *, bound_ms: int = BOUND_MS) -> None:
        self._bound_ms = bound_ms
        self.offset_ms = 0  # to be added to an event time
        self.moved_ms = 0  # by how much the times of first contact turned out to be wrong; for the caller to clear
        self._known = False  # whether a live reading was heard
        self._first_ms: int | None = None  # time of arrival of the first reading
        self._trial: LiveTrial | None = None

    @property
    def unsure_until_ms(self) -> int | None:
        """Until when it is open whether what was heard first is a backlog; None: it is not open."""
        return None if self._known or self._first_ms is None else self._first_ms + FIRST_CONTACT_MS

    def measured_ms(self, at_ms: int, heard_ms: int, age_ms: int | None) -> int:
        """When a reading was measured, by the clock of arrival.

        Args:
            at_ms: the event time that the reading claims.
            heard_ms: time of arrival.
            age_ms: how old the reading is, by elapsed time at its sender; None: the sender does not say.
        """
        bound_ms, offset_ms = self._bound_ms, self.offset_ms
        lag_ms = heard_ms - at_ms
        if age_ms is not None:
            if not self._known and self._trial is not None and age_ms <= bound_ms:
                self.moved_ms = self._trial.steady_ms  # what came before was live as well
            self._known, self._trial = True, None
            self.offset_ms = lag_ms - age_ms
            if -bound_ms <= self.offset_ms <= bound_ms:
                self.offset_ms = 0
            return at_ms + self.offset_ms
        seems_ms = lag_ms - offset_ms  # its age, if the distance of the clocks is still what it was
        if -bound_ms <= seems_ms <= bound_ms:
            self._known, self._trial = True, None
            return at_ms + offset_ms
        return self._unexpected(at_ms, heard_ms, seems_ms)

    def shift(self, by_ms: int) -> None:
        """The clock of arrival was set. Of a sender that was never heard no distance is known that could change."""
        if not self._known and self._first_ms is None:
            return
        self.offset_ms += by_ms
        if -self._bound_ms <= self.offset_ms <= self._bound_ms:
            self.offset_ms = 0
        self._trial = None
        if self._first_ms is not None:
            self._first_ms += by_ms

    def to_state(self) -> list[Any]:
        """Plain values that msgspec can encode."""
        trial = None if self._trial is None else self._trial.to_state()
        return [self.offset_ms, self._known, self._first_ms, trial]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        self.offset_ms, self._known, self._first_ms, trial = state
        self._trial = None if trial is None else LiveTrial.from_state(trial)

    def _unexpected(self, at_ms: int, heard_ms: int, seems_ms: int) -> int:
        """A reading that seems old, or measured in the future: a backlog, or a clock that is wrong."""
        lag_ms = heard_ms - at_ms
        if self._first_ms is None:
            self._first_ms = heard_ms
        if self._trial is None:
            self._trial = LiveTrial(heard_ms, lag_ms)
        elif (found_ms := self._trial.add(heard_ms, lag_ms)) is not None:
            found_ms = 0 if -self._bound_ms <= found_ms <= self._bound_ms else found_ms
            self.moved_ms = 0 if self._known else max(found_ms, 0)  # a time in the future was not believed
            self._trial, self._known, self.offset_ms = None, True, found_ms
            return at_ms + self.offset_ms
        if seems_ms < 0:
            return heard_ms  # nothing is measured after it has arrived
        return at_ms + self.offset_ms
