"""The desk's time: it goes on by elapsed time, whatever happens to the wall clock, and through restarts.

Ladders, silences and intervals are measured in it. It starts as the wall clock and is never set: a wall clock that is
put back an hour during a red alarm makes no call later. While the machine runs, elapsed time is that of a clock that
does not step. After a restart of the machine only the wall clock is known: the time that it says has passed counts, and
never less than nothing. Wall-clock times leave the desk only as `to_wall` gives them.
"""

from typing import Final, NamedTuple

from runtime.clock import ElapsedClock

STEP_MS: Final = 5_000
"""Clocks that differ by more are reported."""
STEP_REPORTED_MS: Final = 900_000
"""How long a step is reported if no other clock confirms the new time."""


class ClockAnchor(NamedTuple):
    """The desk's time and the machine's clocks at one moment."""

    desk_ms: int
    wall_ms: int
    elapsed_ms: int
    elapsed_id: str  # of the clock that does not step; it begins anew with the machine


class DeskClock:
    """The desk's time, ms.

    Args:
        anchor: of an earlier run; None: there was none.
    """

    def __init__(self, clock: ElapsedClock, anchor: ClockAnchor | None = None) -> None:
        self._clock = clock
        wall_ms, self._steady_from_ms = clock.now_ms(), clock.elapsed_ms()
        if anchor is None:
            self._from_ms = wall_ms
        elif anchor.elapsed_id and anchor.elapsed_id == clock.elapsed_id and self._steady_from_ms >= anchor.elapsed_ms:
            self._from_ms = anchor.desk_ms + self._steady_from_ms - anchor.elapsed_ms
        else:
            self._from_ms = anchor.desk_ms + max(0, wall_ms - anchor.wall_ms)

    def now_ms(self) -> int:
        return self._from_ms + self._clock.elapsed_ms() - self._steady_from_ms

    def wall_ms(self) -> int:
        """The wall clock of this machine, which may be wrong."""
        return self._clock.now_ms()

    def to_wall(self, at_ms: int) -> int:
        """A moment of the desk's time by the wall clock as it goes now."""
        return at_ms + self.wall_ms() - self.now_ms()

    def from_wall(self, at_ms: int) -> int:
        """A moment of the wall clock in the desk's time."""
        return at_ms - self.wall_ms() + self.now_ms()

    def anchor(self) -> ClockAnchor:
        return ClockAnchor(self.now_ms(), self.wall_ms(), self._clock.elapsed_ms(), self._clock.elapsed_id)


class ClockWatch:
    """Finds that the wall clock is wrong: it stepped, or it disagrees with the times of the alarm log's broker."""

    def __init__(self, clock: DeskClock) -> None:
        self._clock = clock
        self.steps = 0
        self.behind_ms = 0  # the broker's clock minus this machine's, by the newest live record
        self._offset_ms = self._offset()
        self._stepped_by_ms = 0
        self._stepped_ms = 0

    def look(self) -> int:
        """Compare the wall clock with elapsed time; returns by how much it has stepped since the last call, or 0."""
        step_ms = self._offset() - self._offset_ms
        if abs(step_ms) <= STEP_MS:
            return 0
        self._offset_ms += step_ms
        self._stepped_by_ms += step_ms
        if abs(self.behind_ms) > STEP_MS >= abs(self.behind_ms - step_ms):  # it was set right
            self.behind_ms -= step_ms
            self._stepped_by_ms = 0
        self._stepped_ms = self._clock.now_ms()
        self.steps += 1
        return step_ms

    def hear(self, written_ms: int) -> None:
        """A record was read as soon as it was written.

        Args:
            written_ms: by the broker's clock, or that of the worker that wrote it.
        """
        self.look()
        self.behind_ms = written_ms - self._clock.wall_ms()
        if abs(self.behind_ms) <= STEP_MS:
            self._stepped_by_ms = 0  # it was set right

    def problem(self) -> str:
        """What is wrong with the wall clock; empty if nothing is known to be."""
        if abs(self.behind_ms) > STEP_MS:
            word = "behind" if self.behind_ms > 0 else "ahead of"
            return f"the clock of this machine is {abs(self.behind_ms) / 1_000:.0f} s {word} that of the alarm log"
        if abs(self._stepped_by_ms) > STEP_MS and self._clock.now_ms() - self._stepped_ms < STEP_REPORTED_MS:
            word = "ahead" if self._stepped_by_ms > 0 else "back"
            return (
                f"the clock of this machine was set {word} by {abs(self._stepped_by_ms) / 1_000:.0f} s; "
                "calls go on by elapsed time"
            )
        return ""

    def _offset(self) -> int:
        return self._clock.wall_ms() - self._clock.now_ms()
