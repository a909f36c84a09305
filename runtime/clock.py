"""Two clocks: the wall, which patients live by, and the monotonic one, which transports live by.

In a simulated ward the wall runs faster than real time and can be held back, while resend timers and rate limits go on
in real milliseconds. Whoever needs time is handed a `Clock`; nobody else reads one.
"""

import mmap
import struct
import time
from pathlib import Path
from typing import Protocol, Self

_MILLISECONDS = struct.Struct("<q")


class Clock(Protocol):
    """Where a process gets its time from."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970 (UTC)."""
        ...

    def mono_ms(self) -> int:
        """Milliseconds that never go back and mean nothing by themselves."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


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

    def now_ms(self) -> int:
        return self._now_ms

    def mono_ms(self) -> int:
        return self._mono_ms

    def advance(self, by_ms: int) -> None:
        """Move both clocks."""
        self._now_ms += by_ms
        self._mono_ms += by_ms

    def set_wall(self, now_ms: int) -> None:
        """Move the wall alone, in either direction, as a wrong clock would."""
        self._now_ms = now_ms


class FileClock:
    """A wall clock that lives in eight bytes of a file, so that several processes share one simulated time.

    One process makes it with `create` and moves it; the others open it. The eight bytes are written at once, which is
    atomic on every processor that this runs on.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        with path.open("r+b" if writable else "rb") as file:
            self._map = mmap.mmap(
                file.fileno(), _MILLISECONDS.size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            )
        self.path = path

    @classmethod
    def create(cls, path: Path, now_ms: int) -> Self:
        """Make the file and hand out the clock that may move it."""
        path.write_bytes(_MILLISECONDS.pack(now_ms))
        return cls(path, writable=True)

    def now_ms(self) -> int:
        (now_ms,) = _MILLISECONDS.unpack_from(self._map)
        return int(now_ms)

    def mono_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def set(self, now_ms: int) -> None:
        """Move the wall. Only the maker of the file may."""
        _MILLISECONDS.pack_into(self._map, 0, now_ms)

    def close(self) -> None:
        self._map.close()
