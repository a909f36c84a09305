"""What to send next and when to send it again, until the other side has signed for it.

A pure state machine over sealed frames: no socket, no clock, no disk. The agent uses it towards the cloud, a simulated
wearable towards its edge. `next` says which frame should leave now, `sent` that it left, `on_ack` what may be freed.

Order: the SESSION frame a row needs, then alarms, then the newest readings of each patient, then what is overdue, then
backlog, oldest first. The newest are a few, and leave in the order in which they were made: a burst must not arrive
upside down. `wire.sending` holds the parts: sessions, queues, windows and timers.
"""

from collections.abc import Iterable
from random import Random
from typing import Final

import msgspec

from wire.envelope import Ack, Stage
from wire.sending.queues import BacklogQueue, NewestRows
from wire.sending.rows import AckEffect, Backlog, Outgoing, Refused, Row, SendingSession, SendLane, Stream
from wire.sending.sessions import Flight, SessionBook, SessionState
from wire.sending.settings import Timing, Windows
from wire.sending.timers import FlightWindow, Pace, ResendDelays

_NEED_EVERY_MS: Final = 1_000  # answers to NEED_SESSION, per session: a replayed one must not become an amplifier


class SenderCounts(msgspec.Struct):
    """Counters since the start."""

    rows_sent: int = 0
    sessions_sent: int = 0
    resent: int = 0  # because a timer ran out, or after a reconnect
    resent_fast: int = 0  # because something sent later was acknowledged first
    never_sent: int = 0  # counters in an acknowledgement that never existed: its sender lies
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
        windows = windows if windows is not None else Windows()
        self.counts = SenderCounts()
        self._frees = frozenset({Stage.STORED, Stage.REJECTED, frees_at})
        self._connected = False
        self._order = 0
        self._sessions = SessionBook()
        self._newest = NewestRows(windows.live)
        self._queues = (BacklogQueue(backlog), BacklogQueue(backlog))  # by lane, as the next one
        self._in_flight = (FlightWindow(windows.vitals), FlightWindow(windows.alarms))
        self._most_from_backlog = windows.backlog_share * windows.vitals
        self._delays = ResendDelays(timing if timing is not None else Timing(), rng)
        self._pace = Pace(windows.frames_per_s, windows.burst, windows.backlog_share)

    # What there is to send

    def open(self, opened: SendingSession) -> None:
        """A session was begun, or is taken up again after a start (oldest first)."""
        self._sessions.open(opened)
        self._tidy(opened.stream)

    def resume(self, session_id: bytes, first_row_id: int) -> None:
        """After a start: the session has rows from an earlier run, the oldest of which is `first_row_id`."""
        session = self._sessions[session_id]
        self._queues[session.lane].add(session, first_row_id)

    def offer(self, row: Row) -> None:
        """A row was kept durably and may leave."""
        session = self._sessions[row.session_id]
        session.skip_to(row.counter)
        waiting = row if session.lane is SendLane.ALARM else self._newest.push(row)
        if waiting is not None:
            session = self._sessions[waiting.session_id]
            self._queues[session.lane].put_back(session, waiting)

    def forget(self, session_id: bytes, low: int, high: int) -> None:
        """Rows were given up and deleted."""
        session = self._sessions.get(session_id)
        if session is not None:
            self._free(session, [(low, min(high, session.last))])
            self._tidy(session.stream)

    def drain_retired(self) -> list[bytes]:
        """Sessions that were let go since the last call: all their rows are done and a younger one has begun."""
        return self._sessions.drain_retired()

    # Sending

    def on_connected(self, mono_ms: int) -> None:
        """A connection stands: everything unacknowledged is due, with its timers as new."""
        self._connected = True
        for session in self._sessions.all():
            session.announced_ms = None
            for flight in session.in_flight.values():
                flight.attempts = 0
                flight.first_ms = mono_ms
                self._in_flight[session.lane].schedule(flight, mono_ms)

    def on_disconnected(self) -> None:
        """The connection is gone; nothing leaves until the next."""
        self._connected = False

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def in_flight(self) -> int:
        """Rows that were sent and not acknowledged."""
        return sum(window.in_flight for window in self._in_flight)

    def next(self, mono_ms: int) -> Outgoing | None:
        """The frame that should leave first, or None. Nothing changes until `sent` says that it left."""
        if not self._connected or not self._pace.allows(mono_ms):
            return None
        if (session := self._sessions.to_announce()) is not None:
            return _session_frame(session)
        return (
            self._overdue(SendLane.ALARM, mono_ms)
            or self._oldest(SendLane.ALARM)
            or self._latest()
            or self._overdue(SendLane.VITALS, mono_ms)
            or (self._oldest(SendLane.VITALS) if self._pace.allows_backlog(mono_ms) else None)
        )

    def sent(self, out: Outgoing, mono_ms: int) -> None:
        """The frame from `next` was handed to the connection."""
        session = self._sessions[out.session_id]
        self._order += 1
        row = out.row
        if row is None:
            self._sessions.announced(session, mono_ms)
            self.counts.sessions_sent += 1
            self._pace.spend(backlog=False)
            return
        window = self._in_flight[session.lane]
        flight = session.in_flight.get(row.counter)
        from_backlog = False
        if flight is None:
            was_newest = self._newest.drop_if_first(row)
            session.pass_over(row.counter, was_newest=was_newest)
            from_backlog = not was_newest and session.lane is SendLane.VITALS
            flight = session.in_flight[row.counter] = Flight(row, self._order, from_backlog, mono_ms)
            window.add(flight)
            self.counts.rows_sent += 1
        elif flight.fast:
            self.counts.resent_fast += 1
        else:
            self.counts.resent += 1
        flight.fast = False
        flight.last_order = self._order
        window.schedule(flight, mono_ms + self._delays.after(session.lane, flight.attempts))
        flight.attempts += 1
        self._pace.spend(backlog=from_backlog)

    def due_ms(self, mono_ms: int) -> int | None:
        """When `next` may have something that it has not now, should nothing else happen before."""
        if not self._connected:
            return None
        moments = [due for window in self._in_flight if (due := window.first_due()) is not None]
        if self._pace.frames_per_s and (self._newest or any(self._queues)):
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
        if not session.confirmed:
            session.confirmed = True
            self._unblock(session.stream)
        known = [(low, min(high, session.last)) for low, high in ack.ranges if low <= session.last and low <= high]
        self.counts.never_sent += sum(1 for low, high in ack.ranges if high > session.last or low > high)
        covered = {counter for counter in session.in_flight if any(low <= counter <= high for low, high in known)}
        # Everything that left before the latest first departure among these should be acknowledged, too.
        reached = max((session.in_flight[counter].first_order for counter in covered), default=0)
        if session.lane is SendLane.VITALS and covered:
            # From the first departure on: that errs to the patient side.
            self._delays.learn(mono_ms - min(session.in_flight[counter].first_ms for counter in covered))
        freed = self._free(session, known) if ack.stage in self._frees else []
        if ack.stage is not Stage.REJECTED:
            self._resend_overtaken(session, covered, reached, mono_ms)
        if freed:
            self._tidy(session.stream)
        return AckEffect(tuple((session.session_id, low, high) for low, high in freed))

    # Choice

    def _overdue(self, lane: SendLane, mono_ms: int) -> Outgoing | None:
        flight = self._in_flight[lane].overdue(mono_ms)
        if flight is None:
            return None
        session = self._sessions[flight.row.session_id]
        unheard = not session.confirmed and session.announced_ms is not None and flight.attempts > 0
        if unheard and mono_ms - (session.announced_ms or 0) >= self._delays.shortest_first(lane):
            return _session_frame(session)
        return _row_frame(session, flight.row)

    def _latest(self) -> Outgoing | None:
        window = self._in_flight[SendLane.VITALS]
        if window.in_flight >= window.size:
            return None
        while (row := self._newest.first()) is not None:
            session = self._sessions[row.session_id]
            if row.counter in session.in_flight or session.refused:
                self._newest.drop(row.patient)
                continue
            if session.blocked:
                self._newest.drop(row.patient)
                self._queues[session.lane].add(session, row.row_id)
                continue
            return _row_frame(session, row)
        return None

    def _oldest(self, lane: SendLane) -> Outgoing | None:
        window = self._in_flight[lane]
        if window.in_flight >= window.size:
            return None
        if lane is SendLane.VITALS and window.from_backlog >= self._most_from_backlog:
            return None
        found = self._queues[lane].oldest()
        return None if found is None else _row_frame(*found)

    # Consequences

    def _count_unknown(self, ack: Ack) -> None:
        last = self._sessions.last_of_retired(ack.session_id)
        if last is None:
            self.counts.unknown_session += 1
        else:
            self.counts.never_sent += sum(1 for _, high in ack.ranges if high > last)

    def _resend_overtaken(self, session: SessionState, covered: set[int], reached: int, mono_ms: int) -> None:
        # A frame that was sent again counts from there, so it is overtaken at most once per round of acknowledgements.
        for counter, flight in session.in_flight.items():
            if flight.last_order < reached and counter not in covered:
                flight.fast = True
                self._in_flight[session.lane].schedule(flight, mono_ms)

    def _free(self, session: SessionState, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Take rows out of everything held here; which of them had not been done with before."""
        fresh = [pair for low, high in ranges for pair in session.done.add(low, high)]
        window = self._in_flight[session.lane]
        for low, high in fresh:
            for counter in [counter for counter in session.in_flight if low <= counter <= high]:
                window.remove(session.in_flight.pop(counter))
        if fresh and session.lane is SendLane.VITALS:
            self._newest.remove(session.stream[0], session.session_id, fresh)
        return fresh

    def _need(self, session: SessionState, last_number: int, mono_ms: int) -> AckEffect:
        self.counts.needed_session += 1
        if last_number >= session.number:
            return self._refuse(session, last_number)
        if session.needed_ms is not None and mono_ms - session.needed_ms < _NEED_EVERY_MS:
            return AckEffect()
        session.needed_ms = mono_ms
        session.confirmed = False
        self._sessions.announce_up_to(session)
        for flight in session.in_flight.values():
            self._in_flight[session.lane].schedule(flight, mono_ms)
        return AckEffect()

    def _refuse(self, session: SessionState, last_number: int) -> AckEffect:
        if session.refused:
            return AckEffect()
        session.refused = True
        self.counts.refused_sessions += 1
        for flight in session.in_flight.values():  # the rows stay where they are kept; only the window is given back
            self._in_flight[session.lane].remove(flight)
        session.in_flight.clear()
        self._unblock(session.stream)
        return AckEffect(refused=Refused(session.session_id, session.stream, last_number))

    def _tidy(self, stream: Stream) -> None:
        """Let go of sessions without rows, and let the next ones begin."""
        self._sessions.retire(stream)
        self._unblock(stream)

    def _unblock(self, stream: Stream) -> None:
        for session in self._sessions.unblock(stream):
            self._queues[session.lane].add_unblocked(session)


def _session_frame(session: SessionState) -> Outgoing:
    return Outgoing(session.frame, session.stream[1], session.session_id, None)


def _row_frame(session: SessionState, row: Row) -> Outgoing:
    """The row, or first the SESSION frame that it needs."""
    if session.announced_ms is None and not session.confirmed:
        return _session_frame(session)
    return Outgoing(row.frame, session.stream[1], session.session_id, row)
