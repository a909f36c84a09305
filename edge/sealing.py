"""The sessions that an edge seals with towards the cloud: one per patient and class, a new one every hour.

Secrets live here, in memory, and nowhere else. What an earlier run sealed is sent as it is; nothing is sealed with its
sessions again.
"""

from collections.abc import Iterable
from typing import NamedTuple

from edge.outbox import SentSession
from wire.identity import DeviceIdentity
from wire.sessions import MAX_AGE_MS, Recipient, SendSession, next_number

Stream = tuple[bytes, int]
"""Binding id and class."""


class SealedFrame(NamedTuple):
    """A frame, and what has to be kept with it."""

    counter: int
    frame: bytes
    session: SentSession  # as it stands after this frame
    begun: bool  # this is the session's first frame
    closed: SentSession | None  # the session that it follows, if that was ours


class _OpenSession(NamedTuple):
    session: SendSession
    began_ms: int  # monotonic


class Sealer:
    """Seals for one recipient.

    Args:
        known: every session that is on disk, so that numbers rise and chains hold.
    """

    def __init__(self, me: DeviceIdentity, recipient: Recipient, known: Iterable[SentSession] = ()) -> None:
        self._me = me
        self._recipient = recipient
        self._open: dict[Stream, _OpenSession] = {}
        self._last: dict[Stream, tuple[int, bytes]] = {}  # number and id of a stream's newest session
        for session in sorted(known, key=lambda one: one.number):
            self._last[session.binding_id, session.frame_class] = (session.number, session.session_id)

    def seal(self, stream: Stream, payload: bytes, *, now_ms: int, mono_ms: int) -> SealedFrame:
        """Seal a payload, in a new session where the old one is spent, an hour old, or of an earlier run."""
        current, closed = self._open.get(stream), None
        begun = current is None or current.session.is_spent or mono_ms - current.began_ms >= MAX_AGE_MS
        if begun and current is not None:
            closed = _sent(current.session, closed=True)
        if current is None or begun:
            current = self._begin(stream, now_ms, mono_ms)
        counter, frame = current.session.seal(payload)
        return SealedFrame(counter, frame, _sent(current.session, closed=False), begun, closed)

    def write_to(self, recipient: Recipient) -> None:
        """Sessions that begin from now on are sealed to this key."""
        self._recipient = recipient

    def refused(self, stream: Stream, session_id: bytes, last_number: int) -> None:
        """The recipient knows a younger session of this stream."""
        number, previous = self._last.get(stream, (-1, bytes(16)))
        self._last[stream] = (max(number, last_number), previous)
        current = self._open.get(stream)
        if current is not None and current.session.session_id == session_id:
            del self._open[stream]

    def last_counters(self) -> list[tuple[bytes, int, int]]:
        """Session id, class and last counter of every open session, for the heartbeat."""
        return [
            (one.session.session_id, int(one.session.info.frame_class), one.session.next_counter - 1)
            for one in self._open.values()
        ]

    def _begin(self, stream: Stream, now_ms: int, mono_ms: int) -> _OpenSession:
        last_number, previous = self._last.get(stream, (-1, bytes(16)))
        binding_id, frame_class = stream
        session = SendSession.open(
            self._me,
            self._recipient,
            binding_id=binding_id,
            frame_class=frame_class,
            number=next_number(last_number, now_ms),
            previous=previous,
            now_ms=now_ms,
        )
        self._last[stream] = (session.info.number, session.session_id)
        current = self._open[stream] = _OpenSession(session, mono_ms)
        return current


def _sent(session: SendSession, *, closed: bool) -> SentSession:
    info = session.info
    return SentSession(
        session.session_id,
        info.binding_id,
        int(info.frame_class),
        info.number,
        session.frame,
        session.next_counter - 1,
        closed,
    )
