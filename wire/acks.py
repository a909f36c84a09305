"""What a receiver owes its senders: signed acknowledgements, at most one an interval and session.

Each frame repeats the newest ranges of all that was acknowledged before in its session, so a lost one costs nothing.
"""

from typing import Final, NamedTuple

from wire.counters import CounterSet, RangesFull
from wire.envelope import MAX_ACK_RANGES, Ack, FrameClass, Stage, build_ack
from wire.errors import REASON_CODE, Reason
from wire.identity import DeviceIdentity

INTERVAL_MS: Final = 1_000


class OwedAck(NamedTuple):
    """An acknowledgement that is due."""

    to: bytes  # device id
    frame: bytes


class _Owed:
    __slots__ = ("counters", "due_ms", "frame_class", "last_number", "pending", "reason", "sender", "sequence")

    def __init__(self, sender: bytes, frame_class: int) -> None:
        self.sender = sender
        self.frame_class = frame_class
        self.counters = CounterSet()
        self.pending = False
        self.due_ms = 0  # not before
        self.reason = 0
        self.last_number: int | None = None
        self.sequence = 0


class AckBook:
    """Collects what was committed and says when to tell whom."""

    def __init__(self, me: DeviceIdentity, *, interval_ms: int = INTERVAL_MS) -> None:
        self._me = me
        self._interval_ms = interval_ms
        self._owed: dict[tuple[bytes, Stage], _Owed] = {}
        self._waiting: dict[tuple[bytes, Stage], None] = {}

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
        try:
            owed.counters.add(counter)
        except RangesFull:
            owed.counters = CounterSet.of(owed.counters.ranges[MAX_ACK_RANGES:])
            owed.counters.add(counter)
        if reason is not None:
            owed.reason = REASON_CODE[reason]
        self._wait(place, owed)

    def need_session(self, session_id: bytes, sender: bytes, frame_class: int, *, last_number: int = 0) -> None:
        """A frame came whose session is not known, or whose number is too low."""
        place = (session_id, Stage.NEED_SESSION)
        owed = self._owed.get(place)
        if owed is None:
            owed = self._owed[place] = _Owed(sender, frame_class)
        owed.last_number = last_number
        self._wait(place, owed)

    def due(self, *, mono_ms: int, now_ms: int) -> list[OwedAck]:
        """The frames to send now. Alarms are acknowledged at once."""
        ready = [
            place
            for place in self._waiting
            if self._owed[place].due_ms <= mono_ms or self._owed[place].frame_class == FrameClass.ALARM
        ]
        frames = []
        for place in ready:
            del self._waiting[place]
            owed = self._owed[place]
            owed.pending = False
            owed.due_ms = mono_ms + self._interval_ms
            owed.sequence += 1
            frames.append(OwedAck(owed.sender, self._frame(place, owed, now_ms)))
            if place[1] is Stage.NEED_SESSION:
                owed.last_number = None
        return frames

    def next_due_ms(self) -> int | None:
        """When `due` is worth calling again, on the monotonic clock."""
        return min((self._owed[place].due_ms for place in self._waiting), default=None)

    def forget(self, session_id: bytes) -> None:
        """A session is over."""
        for stage in Stage:
            self._owed.pop((session_id, stage), None)
            self._waiting.pop((session_id, stage), None)

    def _wait(self, place: tuple[bytes, Stage], owed: _Owed) -> None:
        if not owed.pending:
            owed.pending = True
            self._waiting[place] = None

    def _frame(self, place: tuple[bytes, Stage], owed: _Owed, now_ms: int) -> bytes:
        session_id, stage = place
        return build_ack(
            self._me.signing_key,
            Ack(
                stage=stage,
                reason=owed.reason,
                ranges=() if stage is Stage.NEED_SESSION else owed.counters.ranges[-MAX_ACK_RANGES:],
                last_number=owed.last_number,
                at_ms=now_ms,
                sender=self._me.device_id,
                session_id=session_id,
                frame_class=owed.frame_class,
                sequence=owed.sequence,
            ),
        )
