"""What to send next and when to send it again, until the other side has signed for it.

A pure state machine over sealed frames: no socket, no clock, no disk. The agent uses it towards the cloud, a simulated
wearable towards its edge. `next` says what is wanted now, `sent` that it left, `on_ack` what may be freed.

Order: the SESSION frame a row needs, then alarms, then the newest readings of each patient, then what is overdue, then
backlog, oldest first. The newest are a few, and leave in the order in which they were made: a burst must not arrive
upside down. A session is begun only when the one before it in the same stream is known to the receiver or
empty: the receiver refuses numbers that do not rise, so a younger SESSION that overtook an older one would lock out the
older one's rows for good.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from enum import IntEnum
from heapq import heappop, heappush
from random import Random
from typing import Final, NamedTuple, Protocol

import msgspec

from wire.envelope import Ack, FrameClass, Stage

_RETIRED_KEPT: Final = 1_024  # sessions without rows whose late acknowledgements are still known to be harmless
_PAGE: Final = 32  # rows of one session that are held while the backlog drains
_NEED_EVERY_MS: Final = 1_000  # answers to NEED_SESSION, per session: a replayed one must not become an amplifier


class Lane(IntEnum):
    """Alarms have a window of their own, so that no backlog of vitals stands before them."""

    VITALS = 0
    ALARM = 1


LANE_OF: Final = {FrameClass.VITALS: Lane.VITALS, FrameClass.ALARM: Lane.ALARM}


class Row(NamedTuple):
    """One sealed frame that waits for its acknowledgement."""

    row_id: int  # rises with age: the older row has the smaller id
    session_id: bytes
    counter: int
    patient: bytes  # whose newest reading goes first; the binding id
    frame: bytes


class SendingSession(NamedTuple):
    """A sending session, as far as sending is concerned."""

    session_id: bytes
    stream: tuple[bytes, int]  # binding id and class: sessions of one stream have rising numbers
    number: int
    frame: bytes
    last_counter: int = -1  # highest counter that was sealed and kept
    done: tuple[tuple[int, int], ...] = ()  # counters up to that which are not waiting: acknowledged, shed or void


class Backlog(Protocol):
    """Where the rows are."""

    def page(self, session_id: bytes, from_counter: int, limit: int) -> Sequence[Row]:
        """Rows of a session by rising counter."""
        ...


class Windows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much may be under way without an acknowledgement."""

    vitals: int = 256
    alarms: int = 64
    live: int = 12  # newest readings of a patient that go before the backlog; a minute at one every five seconds
    backlog_share: float = 0.7  # of the vitals window and of the rate: the rest is kept for what happens now
    frames_per_s: float = 0.0  # upper limit of what is sent; 0: none but the windows
    burst: int = 1_000  # frames that may leave at once under that limit


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for an acknowledgement before a frame is sent again; monotonic milliseconds.

    Vital signs wait at least twice as long as acknowledgements take just now: sending again to somebody who is slow
    makes them slower. Alarms do not wait for that.
    """

    alarm_first_ms: int = 2_000
    alarm_factor: float = 2.0
    alarm_max_ms: int = 15_000
    vitals_first_ms: int = 10_000
    vitals_factor: float = 1.6
    vitals_max_ms: int = 300_000
    jitter: float = 0.2  # share of the wait, to either side


class Outgoing(NamedTuple):
    """A frame that wants to leave now."""

    frame: bytes
    frame_class: int
    session_id: bytes
    row: Row | None  # None: this is a SESSION frame


class Refused(NamedTuple):
    """A session that the receiver will never take: its number is not above the last one accepted."""

    session_id: bytes
    stream: tuple[bytes, int]
    last_number: int


class AckEffect(NamedTuple):
    """What an acknowledgement means for the rows."""

    freed: tuple[tuple[bytes, int, int], ...] = ()  # session, first and last counter; each is told only once
    refused: Refused | None = None


class UplinkCounts(msgspec.Struct):
    """Counters since the start."""

    rows_sent: int = 0
    sessions_sent: int = 0
    resent: int = 0  # because a timer ran out, or after a reconnect
    resent_fast: int = 0  # because something sent later was acknowledged first
    never_sent: int = 0  # counters in an acknowledgement that never existed: somebody lies
    unknown_session: int = 0
    needed_session: int = 0
    refused_sessions: int = 0


class Sender:
    """Sends rows until they are acknowledged.

    Args:
        backlog: where rows are read from when they are not new.
        frees_at: the stage that frees a row: DURABLE for a wearable, STORED for an edge.
        rng: for the jitter of the timers.
    """

    def __init__(
        self,
        *,
        backlog: Backlog,
        frees_at: Stage,
        rng: Random,
        windows: Windows | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._backlog = backlog
        self._frees = frozenset({Stage.STORED, Stage.REJECTED, frees_at})
        self._rng = rng
        self._windows = windows if windows is not None else Windows()
        self._timing = timing if timing is not None else Timing()
        self._connected = False
        self._sessions: dict[bytes, _Session] = {}
        self._streams: dict[tuple[bytes, int], deque[_Session]] = {}
        self._retired: OrderedDict[bytes, int] = OrderedDict()
        self._gone: list[bytes] = []
        self._wanted: deque[_Session] = deque()
        self._newest: OrderedDict[bytes, deque[Row]] = OrderedDict()  # by patient, oldest first
        self._lanes = (_LaneState(self._windows.vitals), _LaneState(self._windows.alarms))
        self._order = 0
        self._usual_ms = 0.0  # from sending a row of vital signs to its acknowledgement, a moving average
        self._pace = _Pace(self._windows.frames_per_s, self._windows.burst, self._windows.backlog_share)
        self.counts = UplinkCounts()

    # What there is to send

    def open(self, opened: SendingSession) -> None:
        """A session was begun, or is taken up again after a start (oldest first)."""
        lane = LANE_OF[FrameClass(opened.stream[1])]
        session = _Session(opened, lane)
        self._sessions[opened.session_id] = session
        self._streams.setdefault(opened.stream, deque()).append(session)
        self._tidy(opened.stream)

    def resume(self, session_id: bytes, first_row_id: int) -> None:
        """After a start: the session has rows from an earlier run, the oldest of which is `first_row_id`."""
        self._queue(self._sessions[session_id], first_row_id)

    def offer(self, row: Row) -> None:
        """A row was kept durably and may leave."""
        session = self._sessions[row.session_id]
        session.skip_to(row.counter)
        if session.lane is Lane.ALARM:
            self._put_back(session, row)
            return
        live = self._newest.setdefault(row.patient, deque())
        live.append(row)
        if len(live) > self._windows.live:
            overtaken = live.popleft()
            self._put_back(self._sessions[overtaken.session_id], overtaken)

    def forget(self, session_id: bytes, low: int, high: int) -> None:
        """Rows were given up and deleted."""
        session = self._sessions.get(session_id)
        if session is not None:
            self._free(session, [(low, min(high, session.last))])
            self._tidy(session.stream)

    def retired(self) -> list[bytes]:
        """Sessions that were let go since the last call: all their rows are done and a younger one has begun."""
        gone, self._gone = self._gone, []
        return gone

    # Sending

    def on_connected(self, mono_ms: int) -> None:
        """A connection stands: everything unacknowledged is due, with its timers as new."""
        self._connected = True
        for session in self._sessions.values():
            session.announced_ms = None
            for flight in session.in_flight.values():
                flight.attempts = 0
                flight.first_ms = mono_ms
                self._schedule(session.lane, flight, mono_ms)

    def on_disconnected(self) -> None:
        """The connection is gone; nothing is wanted until the next."""
        self._connected = False

    @property
    def connected(self) -> bool:
        return self._connected

    def next(self, mono_ms: int) -> Outgoing | None:
        """The frame that should leave first, or None. Nothing changes until `sent` says that it left."""
        if not self._connected or not self._pace.allows(mono_ms):
            return None
        while self._wanted:
            session = self._wanted[0]
            if session.retired or session.refused:
                self._wanted.popleft()
                continue
            return self._announce(session)
        return (
            self._overdue(Lane.ALARM, mono_ms)
            or self._oldest(Lane.ALARM)
            or self._latest()
            or self._overdue(Lane.VITALS, mono_ms)
            or (self._oldest(Lane.VITALS) if self._pace.allows_backlog(mono_ms) else None)
        )

    def sent(self, out: Outgoing, mono_ms: int) -> None:
        """What `next` gave was handed to the connection."""
        session = self._sessions[out.session_id]
        self._order += 1
        row = out.row
        if row is None:
            session.announced_ms = mono_ms
            self.counts.sessions_sent += 1
            if self._wanted and self._wanted[0] is session:
                self._wanted.popleft()
            self._pace.spend(backlog=False)
            return
        lane = self._lanes[session.lane]
        flight = session.in_flight.get(row.counter)
        from_backlog = False
        if flight is None:
            from_backlog = self._take_out(session, row)
            flight = _Flight(row, self._order, from_backlog, mono_ms)
            session.in_flight[row.counter] = flight
            lane.in_flight += 1
            lane.from_backlog += from_backlog
            self.counts.rows_sent += 1
        elif flight.fast:
            self.counts.resent_fast += 1
        else:
            self.counts.resent += 1
        flight.fast = False
        flight.last_order = self._order
        self._schedule(session.lane, flight, mono_ms + self._wait_ms(session.lane, flight.attempts))
        flight.attempts += 1
        self._pace.spend(backlog=from_backlog)

    def due_ms(self, mono_ms: int) -> int | None:
        """When `next` may have something that it has not now, should nothing else happen before."""
        if not self._connected:
            return None
        moments = [due for lane in self._lanes if (due := lane.first_due()) is not None]
        if self._pace.frames_per_s and (self._newest or any(lane.queue for lane in self._lanes)):
            moments.append(mono_ms + self._pace.pause_ms())
        return min(moments, default=None)

    # Acknowledgements

    def on_ack(self, ack: Ack, mono_ms: int) -> AckEffect:
        """A verified acknowledgement. An old one, or one that comes twice, changes nothing."""
        session = self._sessions.get(ack.session_id)
        if session is None:
            self._count_unknown(ack)
            return AckEffect()
        if ack.stage is Stage.NEED_SESSION:
            return self._need(session, ack.last_number or 0, mono_ms)
        self._confirm(session)
        known = [(low, min(high, session.last)) for low, high in ack.ranges if low <= session.last and low <= high]
        self.counts.never_sent += sum(1 for low, high in ack.ranges if high > session.last or low > high)
        covered = {counter for counter in session.in_flight if any(low <= counter <= high for low, high in known)}
        # Everything that left before the latest first departure among these should be acknowledged, too.
        reached = max((session.in_flight[counter].first_order for counter in covered), default=0)
        self._learn_pace(session, covered, mono_ms)
        freed = self._free(session, known) if ack.stage in self._frees else []
        if ack.stage is not Stage.REJECTED:
            self._resend_overtaken(session, covered, reached, mono_ms)
        if freed:
            self._tidy(session.stream)
        return AckEffect(tuple((session.session_id, low, high) for low, high in freed))

    @property
    def in_flight(self) -> int:
        """Rows that were sent and not acknowledged."""
        return sum(lane.in_flight for lane in self._lanes)

    def is_confirmed(self, session_id: bytes) -> bool:
        """Whether the receiver has shown that it has this session's keys."""
        session = self._sessions.get(session_id)
        return session is None or session.confirmed

    # Choice

    def _announce(self, session: "_Session") -> Outgoing:
        return Outgoing(session.frame, session.stream[1], session.session_id, None)

    def _row(self, session: "_Session", row: Row) -> Outgoing:
        if session.announced_ms is None and not session.confirmed:
            return self._announce(session)
        return Outgoing(row.frame, session.stream[1], session.session_id, row)

    def _overdue(self, lane: Lane, mono_ms: int) -> Outgoing | None:
        flight = self._lanes[lane].overdue(mono_ms)
        if flight is None:
            return None
        session = self._sessions[flight.row.session_id]
        unheard = not session.confirmed and session.announced_ms is not None and flight.attempts > 0
        if unheard and mono_ms - (session.announced_ms or 0) >= self._first_ms(lane) * (1 - self._timing.jitter):
            return self._announce(session)
        return self._row(session, flight.row)

    def _latest(self) -> Outgoing | None:
        if self._lanes[Lane.VITALS].full:
            return None
        while self._newest:
            row = next(iter(self._newest.values()))[0]
            session = self._sessions[row.session_id]
            if row.counter in session.in_flight or session.refused:
                self._drop_newest(row.patient)
                continue
            if session.blocked:
                self._drop_newest(row.patient)
                self._queue(session, row.row_id)
                continue
            return self._row(session, row)
        return None

    def _drop_newest(self, patient: bytes) -> None:
        """The first of a patient's newest is done with; the next patient's turn."""
        live = self._newest[patient]
        live.popleft()
        if live:
            self._newest.move_to_end(patient)
        else:
            del self._newest[patient]

    def _oldest(self, lane_name: Lane) -> Outgoing | None:
        lane = self._lanes[lane_name]
        if lane.full or (lane_name is Lane.VITALS and lane.from_backlog >= self._windows.backlog_share * lane.window):
            return None
        while lane.queue:
            _, session_id = lane.queue[0]
            session = self._sessions.get(session_id)
            if session is None or session.blocked or session.refused:
                heappop(lane.queue)
                if session is not None:
                    session.queued = False
                continue
            row = self._head(session)
            if row is None:
                heappop(lane.queue)
                session.queued = False
                continue
            if row.row_id > lane.queue[0][0]:
                heappop(lane.queue)
                heappush(lane.queue, (row.row_id, session_id))
                continue
            return self._row(session, row)
        return None

    def _head(self, session: "_Session") -> Row | None:
        """The oldest row of a session that has not left yet; None when there is none."""
        while True:
            while session.buffer:
                row = session.buffer[0]
                if row.counter not in session.in_flight and row.counter not in session.done:
                    return row
                session.buffer.popleft()
                session.cursor = max(session.cursor, row.counter + 1)
            if session.cursor > session.last:
                return None
            session.buffer.extend(self._backlog.page(session.session_id, session.cursor, _PAGE))
            if not session.buffer:
                session.cursor = session.last + 1

    def _take_out(self, session: "_Session", row: Row) -> bool:
        """The row has left; whether it came from the backlog."""
        live = self._newest.get(row.patient)
        fresh = live is not None and live[0].session_id == row.session_id and live[0].counter == row.counter
        if fresh:
            self._drop_newest(row.patient)
        if session.buffer and session.buffer[0].counter == row.counter:
            session.buffer.popleft()
        if row.counter == session.cursor or not fresh:
            session.cursor = max(session.cursor, row.counter + 1)
        return not fresh and session.lane is Lane.VITALS

    def _put_back(self, session: "_Session", row: Row) -> None:
        """A row that does not leave at once joins the backlog; the next in line need not be read again for that."""
        if session.holds_all_before(row.counter) and len(session.buffer) < _PAGE:
            session.buffer.append(row)
        self._queue(session, row.row_id)

    def _queue(self, session: "_Session", row_id: int) -> None:
        if not session.queued and not session.refused:
            session.queued = True
            heappush(self._lanes[session.lane].queue, (row_id, session.session_id))

    # Timers

    def _first_ms(self, lane: Lane) -> int:
        return self._timing.alarm_first_ms if lane is Lane.ALARM else self._timing.vitals_first_ms

    def _wait_ms(self, lane: Lane, attempts: int) -> int:
        timing = self._timing
        if lane is Lane.ALARM:
            wait = min(timing.alarm_first_ms * timing.alarm_factor ** min(attempts, 64), timing.alarm_max_ms)
        else:
            wait = timing.vitals_first_ms * timing.vitals_factor ** min(attempts, 64)
            wait = min(max(wait, 2 * self._usual_ms), timing.vitals_max_ms)
        return int(wait * self._rng.uniform(1 - timing.jitter, 1 + timing.jitter))

    def _learn_pace(self, session: "_Session", covered: set[int], mono_ms: int) -> None:
        """How long acknowledgements take, from the first departure on: that errs to the patient side."""
        if session.lane is Lane.VITALS and covered:
            took_ms = mono_ms - min(session.in_flight[counter].first_ms for counter in covered)
            self._usual_ms += (took_ms - self._usual_ms) / 8

    def _schedule(self, lane: Lane, flight: "_Flight", due_ms: int) -> None:
        flight.due_ms = due_ms
        self._lanes[lane].schedule(flight)

    # Consequences

    def _count_unknown(self, ack: Ack) -> None:
        last = self._retired.get(ack.session_id)
        if last is None:
            self.counts.unknown_session += 1
        else:
            self.counts.never_sent += sum(1 for _, high in ack.ranges if high > last)

    def _resend_overtaken(self, session: "_Session", covered: set[int], reached: int, mono_ms: int) -> None:
        # A frame that was sent again counts from there, so it is overtaken at most once per round of acknowledgements.
        for counter, flight in session.in_flight.items():
            if flight.last_order < reached and counter not in covered:
                flight.fast = True
                self._schedule(session.lane, flight, mono_ms)

    def _free(self, session: "_Session", ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Take rows out of everything held here; which of them had not been done with before."""
        fresh = [pair for low, high in ranges for pair in session.done.add(low, high)]
        lane = self._lanes[session.lane]
        live = self._newest.get(session.stream[0])
        for low, high in fresh:
            for counter in [counter for counter in session.in_flight if low <= counter <= high]:
                flight = session.in_flight.pop(counter)
                flight.alive = False
                lane.in_flight -= 1
                lane.from_backlog -= flight.from_backlog
            if live and session.lane is Lane.VITALS:
                kept = [row for row in live if row.session_id != session.session_id or not low <= row.counter <= high]
                if len(kept) < len(live):
                    live.clear()
                    live.extend(kept)
        if live is not None and not live:
            del self._newest[session.stream[0]]
        return fresh

    def _confirm(self, session: "_Session") -> None:
        if not session.confirmed:
            session.confirmed = True
            self._unblock(session.stream)

    def _need(self, session: "_Session", last_number: int, mono_ms: int) -> AckEffect:
        self.counts.needed_session += 1
        if last_number >= session.number:
            return self._refuse(session, last_number)
        if session.needed_ms is not None and mono_ms - session.needed_ms < _NEED_EVERY_MS:
            return AckEffect()
        session.needed_ms = mono_ms
        session.confirmed = False
        # The receiver may have lost more than this one: numbers must reach it in rising order.
        for earlier in self._streams[session.stream]:
            if earlier.number > session.number:
                break
            if not earlier.refused and (earlier is session or earlier.waits) and earlier not in self._wanted:
                self._wanted.append(earlier)
        for flight in session.in_flight.values():
            self._schedule(session.lane, flight, mono_ms)
        return AckEffect()

    def _refuse(self, session: "_Session", last_number: int) -> AckEffect:
        if session.refused:
            return AckEffect()
        session.refused = True
        self.counts.refused_sessions += 1
        lane = self._lanes[session.lane]
        for flight in session.in_flight.values():  # the rows stay where they are kept; only the window is given back
            flight.alive = False
            lane.in_flight -= 1
            lane.from_backlog -= flight.from_backlog
        session.in_flight.clear()
        self._unblock(session.stream)
        return AckEffect(refused=Refused(session.session_id, session.stream, last_number))

    def _tidy(self, stream: tuple[bytes, int]) -> None:
        """Let go of sessions without rows, except the last of the stream, and see who may begin."""
        sessions = self._streams[stream]
        for session in list(sessions)[:-1]:
            if not session.waits:
                sessions.remove(session)
                session.retired = True
                self._gone.append(session.session_id)
                del self._sessions[session.session_id]
                self._retired[session.session_id] = session.last
        while len(self._retired) > _RETIRED_KEPT:
            self._retired.popitem(last=False)
        self._unblock(stream)

    def _unblock(self, stream: tuple[bytes, int]) -> None:
        blocked = False
        for session in self._streams[stream]:
            was_blocked, session.blocked = session.blocked, blocked
            if was_blocked and not blocked and session.cursor <= session.last:
                head = self._head(session)
                if head is not None:
                    self._queue(session, head.row_id)
            blocked = blocked or (session.waits and not session.confirmed and not session.refused)


class _Session:
    """One session and the rows of it that matter now."""

    __slots__ = (
        "announced_ms", "blocked", "buffer", "confirmed", "cursor", "done", "frame", "in_flight", "lane", "last",
        "needed_ms", "number", "queued", "refused", "retired", "session_id", "stream",
    )  # fmt: skip

    def __init__(self, opened: SendingSession, lane: Lane) -> None:
        self.session_id = opened.session_id
        self.stream = opened.stream
        self.number = opened.number
        self.frame = opened.frame
        self.lane = lane
        self.last = opened.last_counter
        self.done = _Ranges(opened.done)
        self.cursor = 0  # first counter that the backlog has not given yet
        self.buffer: deque[Row] = deque()
        self.in_flight: dict[int, _Flight] = {}
        self.announced_ms: int | None = None  # on this connection
        self.needed_ms: int | None = None
        self.confirmed = False
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


class _Ranges:
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


class _Flight:
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


class _LaneState:
    """The window, the timers and the backlog of one lane."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.in_flight = 0
        self.from_backlog = 0
        self.queue: list[tuple[int, bytes]] = []  # oldest row id of a session, session
        self._timers: list[tuple[int, int, _Flight]] = []
        self._tie = 0

    @property
    def full(self) -> bool:
        return self.in_flight >= self.window

    def schedule(self, flight: _Flight) -> None:
        self._tie += 1
        heappush(self._timers, (flight.due_ms, self._tie, flight))

    def first_due(self) -> int | None:
        while self._timers:
            due_ms, _, flight = self._timers[0]
            if flight.alive and flight.due_ms == due_ms:
                return due_ms
            heappop(self._timers)  # acknowledged, or scheduled anew
        return None

    def overdue(self, mono_ms: int) -> _Flight | None:
        due_ms = self.first_due()
        return self._timers[0][2] if due_ms is not None and due_ms <= mono_ms else None


class _Pace:
    """A limit on frames per second, of which the backlog gets a share. Without a limit everything is allowed."""

    def __init__(self, frames_per_s: float, burst: int, backlog_share: float) -> None:
        self.frames_per_s = frames_per_s
        self._burst = float(burst)
        self._share = backlog_share
        self._tokens = self._burst
        self._backlog = self._burst * backlog_share
        self._at_ms: int | None = None

    def allows(self, mono_ms: int) -> bool:
        if not self.frames_per_s:
            return True
        if self._at_ms is not None:
            earned = (mono_ms - self._at_ms) / 1_000 * self.frames_per_s
            self._tokens = min(self._burst, self._tokens + earned)
            self._backlog = min(self._burst * self._share, self._backlog + earned * self._share)
        self._at_ms = mono_ms
        return self._tokens >= 1

    def allows_backlog(self, mono_ms: int) -> bool:
        return self.allows(mono_ms) and (not self.frames_per_s or self._backlog >= 1)

    def spend(self, *, backlog: bool) -> None:
        self._tokens -= 1
        self._backlog -= backlog

    def pause_ms(self) -> int:
        """Until the next frame is allowed."""
        return 0 if not self.frames_per_s else max(1, int(1_000 / self.frames_per_s))
