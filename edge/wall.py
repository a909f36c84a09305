"""The wall clock of an edge: where it starts, and by how much it was set.

A machine without a battery clock starts in the past; then time goes on from the latest moment that is on the disk.
"""

from typing import Final

from runtime.clock import Clock

STEP_MS: Final = 1_000
"""A wall clock that moved by so much more or less than the monotonic one was set; time servers slew less than that."""


class Wall:
    """The time that an agent stamps readings with.

    Args:
        floor_ms: the latest moment on the disk: time does not start below it, and does not stand still there.
        can_be_set: False for the clock of a simulation, which runs at a speed of its own.
    """

    def __init__(self, clock: Clock, floor_ms: int, *, can_be_set: bool = True) -> None:
        self._clock = clock
        self._floor_ms = floor_ms
        self._can_be_set = can_be_set
        self._lift_ms = max(0, floor_ms - clock.now_ms())
        self._distance_ms = clock.now_ms() - clock.mono_ms()

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC)."""
        return self._clock.now_ms() + self._lift_ms

    def follow(self) -> int:
        """By how much time has jumped since the last call: call it before anything is stamped."""
        if not self._can_be_set:
            return 0
        wall_ms = self._clock.now_ms()
        distance_ms = wall_ms - self._clock.mono_ms()
        step_ms, self._distance_ms = distance_ms - self._distance_ms, distance_ms
        if abs(step_ms) < STEP_MS:
            return 0
        before_ms = wall_ms - step_ms + self._lift_ms
        # A clock that is set at last is believed, also where it was lifted above a time that was wrong.
        self._lift_ms = max(0, self._floor_ms - wall_ms) if self._lift_ms else 0
        return wall_ms + self._lift_ms - before_ms
