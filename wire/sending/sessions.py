"""Sessions of a sender: their rows in flight, the order in which they may begin, and which of them are over.

A session begins only when the one before it in the same stream is known to the receiver or empty: the receiver refuses
numbers that do not rise, so a younger SESSION that overtook an older one would lock out the older one's rows for good.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from typing import Final

from wire.envelope import FrameClass
from wire.sending.rows import LANE_OF, Row, SendingSession, SendLane, Stream

_RETIRED_KEPT: Final = 1_024  # sessions without rows whose late acknowledgements are still known to be harmless


class CounterRanges:
    """A set of counters as ranges that do not touch."""

    __slots__ = ("_highs", "_lows", "total")

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self.total = 0
        for low, high in ranges:
            self.add(low, high)

    def __contains__(self, counter: int) -> bool:
        index = bisect_right(self._lows, counter) - 1
        return index >= 0 and counter <= self._highs[index]

    def add(self, low: int, high: int) -> list[tuple[int, int]]:
        """Put a range in; the parts of it that were not in before."""
        first = bisect_left(self._highs, low - 1)
        last = bisect_right(self._lows, high + 1)
        fresh, at = [], low
        for index in range(first, last):
            if at < self._lows[index]:
                fresh.append((at, min(high, self._lows[index] - 1)))
            at = max(at, self._highs[index] + 1)
        if at <= high:
            fresh.append((at, high))
        if not fresh:
            return fresh
        self.total += sum(b - a + 1 for a, b in fresh)
        if first < last:
            low, high = min(low, self._lows[first]), max(high, self._highs[last - 1])
        self._lows[first:last] = [low]
        self._highs[first:last] = [high]
        return fresh


class Flight:
    """A row that was sent and not acknowledged."""

    __slots__ = ("alive", "attempts", "due_ms", "fast", "first_ms", "first_order", "from_backlog", "last_order", "row")

    def __init__(self, row: Row, order: int, from_backlog: bool, mono_ms: int) -> None:
        self.row = row
        self.first_order = order
        self.first_ms = mono_ms
        self.last_order = order
        self.from_backlog = from_backlog
        self.attempts = 0
        self.due_ms = 0
        self.alive = True
        self.fast = False


class SessionState:
    """One session and the rows of it that matter now."""

    __slots__ = (
        "announced_ms", "blocked", "buffer", "confirmed", "cursor", "done", "frame", "in_flight", "lane", "last",
        "needed_ms", "number", "queued", "refused", "retired", "session_id", "stream",
    )  # fmt: skip

    def __init__(self, opened: SendingSession, lane: SendLane) -> None:
        self.session_id = opened.session_id
        self.stream = opened.stream
        self.number = opened.number
        self.frame = opened.frame
        self.lane = lane
        self.last = opened.last_counter
        self.done = CounterRanges(opened.done)
        self.cursor = 0  # first counter that the backlog has not given yet
        self.buffer: deque[Row] = deque()
        self.in_flight: dict[int, Flight] = {}
        self.announced_ms: int | None = None  # on this connection
        self.needed_ms: int | None = None
        self.confirmed = False  # the receiver has shown that it has this session's keys
        self.blocked = False  # an older session of the stream must be known first
        self.queued = False
        self.refused = False
        self.retired = False

    @property
    def waits(self) -> bool:
        """Whether a row of it is neither acknowledged nor given up."""
        return self.last + 1 > self.done.total

    def skip_to(self, counter: int) -> None:
        """The next row has this counter; those between were void."""
        if counter > self.last + 1:
            self.done.add(self.last + 1, counter - 1)
        self.last = max(self.last, counter)

    def holds_all_before(self, counter: int) -> bool:
        """Whether the buffer reaches up to this counter, so that a new row may be put behind it."""
        return counter == (self.buffer[-1].counter + 1 if self.buffer else self.cursor)

    def pass_over(self, counter: int, *, was_newest: bool) -> None:
        """The row with this counter has left; the backlog need not give it."""
        if self.buffer and self.buffer[0].counter == counter:
            self.buffer.popleft()
        if counter == self.cursor or not was_newest:
            self.cursor = max(self.cursor, counter + 1)


class SessionBook:
    """Every session of a sender, by id and by stream, and the SESSION frames that the receiver needs."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, SessionState] = {}
        self._streams: dict[Stream, deque[SessionState]] = {}
        self._to_announce: deque[SessionState] = deque()
        self._last_of_retired: OrderedDict[bytes, int] = OrderedDict()
        self._retired: list[bytes] = []

    def __getitem__(self, session_id: bytes) -> SessionState:
        return self._sessions[session_id]

    def get(self, session_id: bytes) -> SessionState | None:
        """None: it is retired, or never was one of ours."""
        return self._sessions.get(session_id)

    def all(self) -> Collection[SessionState]:
        return self._sessions.values()

    def open(self, opened: SendingSession) -> SessionState:
        """Add a session, the youngest of its stream."""
        session = SessionState(opened, LANE_OF[FrameClass(opened.stream[1])])
        self._sessions[opened.session_id] = session
        self._streams.setdefault(opened.stream, deque()).append(session)
        return session

    def retire(self, stream: Stream) -> None:
        """Let go of sessions without rows, except the last of the stream."""
        sessions = self._streams[stream]
        for session in list(sessions)[:-1]:
            if not session.waits:
                sessions.remove(session)
                session.retired = True
                self._retired.append(session.session_id)
                del self._sessions[session.session_id]
                self._last_of_retired[session.session_id] = session.last
        while len(self._last_of_retired) > _RETIRED_KEPT:
            self._last_of_retired.popitem(last=False)

    def unblock(self, stream: Stream) -> list[SessionState]:
        """Work out which sessions of a stream may begin; those that may now and could not before."""
        unblocked, blocked = [], False
        for session in self._streams[stream]:
            was_blocked, session.blocked = session.blocked, blocked
            if was_blocked and not blocked:
                unblocked.append(session)
            blocked = blocked or (session.waits and not session.confirmed and not session.refused)
        return unblocked

    def drain_retired(self) -> list[bytes]:
        """Sessions that were retired since the last call."""
        retired, self._retired = self._retired, []
        return retired

    def last_of_retired(self, session_id: bytes) -> int | None:
        """Last counter of a session that is retired; None: unknown, or too long ago."""
        return self._last_of_retired.get(session_id)

    # SESSION frames

    def announce_up_to(self, needed: SessionState) -> None:
        """The receiver needs this session; it may have lost older ones too, and numbers must reach it rising."""
        for earlier in self._streams[needed.stream]:
            if earlier.number > needed.number:
                break
            if not earlier.refused and (earlier is needed or earlier.waits) and earlier not in self._to_announce:
                self._to_announce.append(earlier)

    def to_announce(self) -> SessionState | None:
        """The session whose SESSION frame the receiver needs first."""
        while self._to_announce:
            session = self._to_announce[0]
            if not (session.retired or session.refused):
                return session
            self._to_announce.popleft()
        return None

    def announced(self, session: SessionState, mono_ms: int) -> None:
        """Its SESSION frame has left."""
        session.announced_ms = mono_ms
        if self._to_announce and self._to_announce[0] is session:
            self._to_announce.popleft()
