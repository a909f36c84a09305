"""The messages of a device that were applied: exact ranges of counters, session by session."""

from bisect import bisect_right
from typing import Any, Final, Self

KEPT_SESSIONS: Final = 8
"""A device begins a session every hour and at each start. Receivers keep the counters of older sessions."""


class Seen:
    """An exact set of (session, counter) of the last sessions; a session without gaps is one range.

    >>> seen = Seen()
    >>> seen.add(b"session", 7), seen.add(b"session", 8), seen.add(b"session", 7)
    (True, True, False)
    """

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        self._sessions: dict[bytes, list[list[int]]] = {}  # least recently used first

    def add(self, session_id: bytes, counter: int) -> bool:
        """Add a message; False if it was applied before."""
        ranges = self._sessions.get(session_id)
        if ranges is None:
            self._sessions[session_id] = [[counter, counter]]
            if len(self._sessions) > KEPT_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            return True
        if session_id != next(reversed(self._sessions)):
            self._sessions[session_id] = self._sessions.pop(session_id)
        last = ranges[-1]
        if counter == last[1] + 1:  # nearly always
            last[1] = counter
            return True
        return _insert(ranges, counter)

    def to_state(self) -> list[Any]:
        return [[session_id, *ranges] for session_id, ranges in self._sessions.items()]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        seen = cls()
        seen._sessions = {session_id: [list(pair) for pair in ranges] for session_id, *ranges in state}
        return seen


def _insert(ranges: list[list[int]], counter: int) -> bool:
    index = bisect_right(ranges, counter, key=lambda pair: pair[0])
    before = ranges[index - 1] if index else None
    after = ranges[index] if index < len(ranges) else None
    if before is not None and counter <= before[1]:
        return False
    joins_before = before is not None and counter == before[1] + 1
    joins_after = after is not None and counter == after[0] - 1
    if before is not None and after is not None and joins_before and joins_after:
        before[1] = after[1]
        del ranges[index]
    elif before is not None and joins_before:
        before[1] = counter
    elif after is not None and joins_after:
        after[0] = counter
    else:
        ranges.insert(index, [counter, counter])
    return True
