"""Two clocks: the wall clock for patients and the monotonic clock for transports.

In a simulated ward the wall clock runs faster than real time and can be held back, while resend timers and rate limits
run in real milliseconds. Code that needs the time is given a `Clock`; it does not read the system clock itself.
"""

import mmap
import struct
import time
from pathlib import Path
from typing import Protocol, Self

_MILLISECONDS = struct.Struct("<q")
_SLEW = 0.01  # the share by which a steady clock runs faster or slower after the machine's clock was set
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """The source of time of a process."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970 (UTC)."""
        ...

    def mono_ms(self) -> int:
        """Monotonic milliseconds: they never go backwards, and their zero is arbitrary."""
        ...


class ElapsedClock(Clock, Protocol):
    """A clock that also tells elapsed time through a restart of the process and a sleep of the machine."""

    def elapsed_ms(self) -> int:
        """Milliseconds that are never set and go on while the machine sleeps; simulated where time is simulated."""
        ...

    @property
    def elapsed_id(self) -> str:
        """Two values of `elapsed_ms` may be subtracted only if they have the same id; empty: with no other."""
        ...


class SystemClock:
    """The system clocks of this machine."""

    def __init__(self) -> None:
        try:
            self._boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            self._boot_id = ""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    @property
    def elapsed_id(self) -> str:
        return self._boot_id


class SteadyClock:
    """A wall clock for intervals: it does not step where the machine's clock is set, but follows it slowly.

    It gains or loses at most 1 %, so no interval is wrong by more. An hour is made up for in four days; a process that
    starts begins with the machine's time.

    >>> machine = ManualClock(0)
    >>> steady = SteadyClock(machine)
    >>> machine.advance(1_000)
    >>> machine.set_wall(3_600_000)
    >>> steady.now_ms()
    1010
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now_ms = float(clock.now_ms())
        self._mono_ms = clock.mono_ms()

    def now_ms(self) -> int:
        mono_ms = self._clock.mono_ms()
        passed_ms, self._mono_ms = mono_ms - self._mono_ms, mono_ms
        most_ms = passed_ms * _SLEW
        behind_ms = self._clock.now_ms() - self._now_ms - passed_ms
        self._now_ms += passed_ms + min(max(behind_ms, -most_ms), most_ms)
        return int(self._now_ms)

    def mono_ms(self) -> int:
        return self._clock.mono_ms()

    @property
    def behind_ms(self) -> int:
        """How far this clock is behind the machine's, which was set since the start; negative: ahead."""
        return int(self._clock.now_ms() - self._now_ms - (self._clock.mono_ms() - self._mono_ms))


class ManualClock:
    """A clock that stands still until it is moved.

    >>> clock = ManualClock(now_ms=1_000)
    >>> clock.advance(500)
    >>> clock.now_ms(), clock.mono_ms()
    (1500, 500)
    """

    def __init__(self, now_ms: int = 0, *, mono_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._mono_ms = mono_ms
        self._boots = 1

    def now_ms(self) -> int:
        return self._now_ms

    def mono_ms(self) -> int:
        return self._mono_ms

    def elapsed_ms(self) -> int:
        return self._mono_ms

    @property
    def elapsed_id(self) -> str:
        return str(self._boots)

    def restart_machine(self) -> None:
        """Monotonic time begins anew, as after a restart of the machine."""
        self._boots += 1
        self._mono_ms = 0

    def advance(self, by_ms: int) -> None:
        """Move both clocks."""
        self._now_ms += by_ms
        self._mono_ms += by_ms

    def set_wall(self, now_ms: int) -> None:
        """Set the wall clock alone, forwards or backwards, like a wrong system clock."""
        self._now_ms = now_ms


class FileClock:
    """A wall clock that lives in eight bytes of a file, so that several processes share one simulated time.

    One process creates the file and sets the time; the others read it. The eight bytes are written in one store, which
    is atomic on every supported processor.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        with path.open("r+b" if writable else "rb") as file:
            self._map = mmap.mmap(
                file.fileno(), _MILLISECONDS.size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            )
        self.path = path

    @classmethod
    def create(cls, path: Path, now_ms: int) -> Self:
        """Create the file and return the clock that may set it."""
        path.write_bytes(_MILLISECONDS.pack(now_ms))
        return cls(path, writable=True)

    def now_ms(self) -> int:
        (now_ms,) = _MILLISECONDS.unpack_from(self._map)
        return int(now_ms)

    def mono_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        """Simulated time, for what is measured in hours of a simulated ward."""
        return self.now_ms()

    @property
    def elapsed_id(self) -> str:
        return str(self.path)

    def set(self, now_ms: int) -> None:
        """Set the wall clock. Only the process that created the file may do this."""
        _MILLISECONDS.pack_into(self._map, 0, now_ms)

    def close(self) -> None:
        self._map.close()
