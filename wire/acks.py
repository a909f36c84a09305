"""Signed acknowledgements of a receiver to its senders, at most one per interval and session.

Each frame holds the new counters and repeats the newest ranges of all that was acknowledged before in its session, so a
lost one costs nothing. Questions for unknown sessions have a separate limit, as an attacker can invent session ids.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

from wire.counters import MAX_RANGES, CounterSet, RangesFull
from wire.envelope import MAX_ACK_RANGES, Ack, FrameClass, Stage, build_ack
from wire.errors import REASON_CODE, Reason
from wire.identity import DeviceIdentity

INTERVAL_MS: Final = 1_000
MAX_ASKED: Final = 256
"""For so many unknown sessions a sender is asked in one interval; for the others when it sends again."""

_KEPT_RANGES: Final = MAX_RANGES - MAX_ACK_RANGES


class OwedAck(NamedTuple):
    """An acknowledgement that is due."""

    to: bytes  # device id
    frame: bytes


class _Owed:
    __slots__ = ("counters", "due_ms", "frame_class", "new", "reason", "sender", "sequence")

    def __init__(self, sender: bytes, frame_class: int) -> None:
        self.sender = sender
        self.frame_class = frame_class
        self.counters = CounterSet()
        self.new = CounterSet()  # of them, the ones for the next frame
        self.due_ms = 0  # not before
        self.reason = 0
        self.sequence = 0

    def add(self, counter: int) -> None:
        try:
            self.counters.add(counter)
        except RangesFull:
            # What was told would only be repeated. What was not, is told when it comes again.
            self.counters = CounterSet.of(self.new.ranges[-_KEPT_RANGES:])
            self.new = CounterSet.of(self.counters.ranges)
            self.counters.add(counter)
        try:
            self.new.add(counter)
        except RangesFull:
            self.new = CounterSet.of(self.new.ranges[-_KEPT_RANGES:])
            self.new.add(counter)

    def drain_ranges(self) -> tuple[tuple[int, int], ...]:
        """Ranges that fit into one frame: first those with new counters, then the newest. The rest stays new."""
        ranges, new = self.counters.ranges, self.new.ranges
        self.new = CounterSet()
        if len(ranges) <= MAX_ACK_RANGES:
            return ranges
        lows = [low for low, _ in ranges]
        within = [bisect_right(lows, low) - 1 for low, _ in new]
        told = set(sorted(set(within))[-MAX_ACK_RANGES:])
        self.new = CounterSet.of(one for one, index in zip(new, within, strict=True) if index not in told)
        for index in reversed(range(len(ranges))):
            if len(told) == MAX_ACK_RANGES:
                break
            told.add(index)
        return tuple(ranges[index] for index in sorted(told))


class _SessionQuestions:
    __slots__ = ("due_ms", "sequence", "sessions")

    def __init__(self) -> None:
        self.sessions: dict[bytes, tuple[int, int]] = {}  # id -> class, last number
        self.due_ms = 0
        self.sequence = 0


class AckBook:
    """Collects committed counters and returns the acknowledgements that are due."""

    def __init__(self, me: DeviceIdentity, *, interval_ms: int = INTERVAL_MS) -> None:
        self._me = me
        self._interval_ms = interval_ms
        self._owed: dict[tuple[bytes, Stage], _Owed] = {}
        self._waiting: dict[tuple[bytes, Stage], None] = {}
        self._asked: dict[bytes, _SessionQuestions] = {}  # by sender

    def add(
        self,
        session_id: bytes,
        sender: bytes,
        frame_class: int,
        counter: int,
        stage: Stage,
        *,
        reason: Reason | None = None,
    ) -> None:
        """A frame has reached a stage. Call after the commit, and again for every duplicate."""
        place = (session_id, stage)
        owed = self._owed.get(place)
        if owed is None:
            owed = self._owed[place] = _Owed(sender, frame_class)
        owed.add(counter)
        if reason is not None:
            owed.reason = REASON_CODE[reason]
        self._waiting[place] = None

    def need_session(self, session_id: bytes, sender: bytes, frame_class: int, *, last_number: int = 0) -> None:
        """A frame of a known sender came whose session is not known, or whose number is too low."""
        asked = self._asked.get(sender)
        if asked is None:
            asked = self._asked[sender] = _SessionQuestions()
        if session_id in asked.sessions or len(asked.sessions) < MAX_ASKED:
            asked.sessions[session_id] = (frame_class, last_number)

    def due(self, *, mono_ms: int, now_ms: int) -> list[OwedAck]:
        """The frames to send now. Alarms are acknowledged at once."""
        frames = []
        for place in [place for place in self._waiting if self._owed[place].due_ms <= mono_ms]:
            owed = self._owed[place]
            if owed.frame_class != FrameClass.ALARM:
                owed.due_ms = mono_ms + self._interval_ms
            owed.sequence += 1
            frames.append(OwedAck(owed.sender, self._acknowledgement(place, owed, now_ms)))
            if not owed.new.ranges:
                del self._waiting[place]
        for sender, asked in self._asked.items():
            if asked.sessions and asked.due_ms <= mono_ms:
                asked.due_ms = mono_ms + self._interval_ms
                frames += [OwedAck(sender, one) for one in self._questions(asked, now_ms)]
                asked.sessions.clear()
        return frames

    def next_due_ms(self) -> int | None:
        """When `due` is worth calling again, on the monotonic clock."""
        acknowledgements = [self._owed[place].due_ms for place in self._waiting]
        questions = [asked.due_ms for asked in self._asked.values() if asked.sessions]
        return min(acknowledgements + questions, default=None)

    def forget(self, session_id: bytes) -> None:
        """A session is over."""
        for stage in Stage:
            self._owed.pop((session_id, stage), None)
            self._waiting.pop((session_id, stage), None)
        for asked in self._asked.values():
            asked.sessions.pop(session_id, None)

    def _acknowledgement(self, place: tuple[bytes, Stage], owed: _Owed, now_ms: int) -> bytes:
        session_id, stage = place
        return build_ack(
            self._me.signing_key,
            Ack(
                stage=stage,
                reason=owed.reason,
                ranges=owed.drain_ranges(),
                last_number=None,
                at_ms=now_ms,
                sender=self._me.device_id,
                session_id=session_id,
                frame_class=owed.frame_class,
                sequence=owed.sequence,
            ),
        )

    def _questions(self, asked: _SessionQuestions, now_ms: int) -> list[bytes]:
        frames = []
        for session_id, (frame_class, last_number) in asked.sessions.items():
            asked.sequence += 1
            ack = Ack(
                stage=Stage.NEED_SESSION,
                reason=0,
                ranges=(),
                last_number=last_number,
                at_ms=now_ms,
                sender=self._me.device_id,
                session_id=session_id,
                frame_class=frame_class,
                sequence=asked.sequence,
            )
            frames.append(build_ack(self._me.signing_key, ack))
        return frames
