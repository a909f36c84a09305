"""The receiving side: from untrusted bytes to an authentic payload, in one fixed order of checks.

Length and layout, topic, sender, rate; for a SESSION its context, credential and signature before any HPKE; for DATA
its session, tag and counter. A refusal leaves the state as it was. No I/O: what must survive a restart is returned as
rows.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag

from wire.counters import CounterSet, RangesFull
from wire.envelope import (
    HEADER_BYTES,
    HPKE_BYTES,
    INFO_BYTES,
    NO_BINDING,
    TAG_BYTES,
    FrameClass,
    FrameType,
    Header,
    SessionInfo,
    parse_header,
    session_id_of,
    session_signed,
    unpad,
)
from wire.errors import Reason, Rejected
from wire.identity import DeviceIdentity, Directory, Role, SenderRecord
from wire.sessions import HPKE_CONTEXT, HPKE_SUITE, FrameKeys

KEPT_KEYS: Final = 20_000
"""So many sessions have their keys in memory; the rest are opened again when a frame of theirs comes."""
KEPT_TAGS: Final = 64
"""Of so many counters back in each session a second, different frame is noticed as a conflict."""

HEARS: Final[dict[Role, Role | None]] = {"edge": "wearable", "ingest": "edge", "wearable": None}
"""By role of the receiver: the role of devices that may send readings to it."""


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Per sender and bound device, on the monotonic clock: an edge that hears forty may send forty times as much."""

    frames_per_s: float = 50.0
    frames_burst: int = 2_000  # a backlog drains
    sessions_per_min: float = 10.0


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is kept on disk. Its secret is not in it: that is opened again from `hpke`."""

    session_id: bytes
    sender: bytes
    info: bytes
    hpke: bytes
    ranges: tuple[tuple[int, int], ...]
    last_ms: int


class SessionOpened(NamedTuple):
    """A SESSION frame was accepted."""

    session_id: bytes
    sender: bytes
    frame_class: int
    known_before: bool
    chain_fork: bool  # its predecessor is not the session that we know: noted, not refused


class Opened(NamedTuple):
    """A DATA frame was opened."""

    session_id: bytes
    sender: bytes
    binding_id: bytes
    frame_class: int
    counter: int
    payload: bytes
    duplicate: bool  # this counter was received before: acknowledge again, change nothing
    conflict: bool  # ...and by a different frame: a session secret is in use twice


class _Session:
    __slots__ = ("counters", "hpke", "info", "last_ms", "packed", "sender", "session_id", "tags")

    def __init__(self, row: SessionRow) -> None:
        self.session_id = row.session_id
        self.sender = row.sender
        self.packed = row.info
        self.info = SessionInfo.unpack(row.info)
        self.hpke = row.hpke
        self.counters = CounterSet.of(row.ranges)
        self.last_ms = row.last_ms
        self.tags: OrderedDict[int, bytes] = OrderedDict()

    def row(self) -> SessionRow:
        return SessionRow(
            session_id=self.session_id,
            sender=self.sender,
            info=self.packed,
            hpke=self.hpke,
            ranges=self.counters.ranges,
            last_ms=self.last_ms,
        )


class TokenBucket:
    """A token bucket on the monotonic clock."""

    __slots__ = ("_burst", "_last_ms", "_per_ms", "_tokens")

    def __init__(self, *, per_s: float, burst: float) -> None:
        self._per_ms = per_s / 1_000
        self._burst = burst
        self._tokens = burst
        self._last_ms: int | None = None

    def spend(self, mono_ms: int, *, times: int = 1) -> bool:
        """Take one token, if there is one.

        Args:
            mono_ms: now.
            times: so many times faster the bucket fills, and so many times more it holds, from now on.
        """
        if self._last_ms is None:
            self._tokens = self._burst * times
        else:
            earned = (mono_ms - self._last_ms) * self._per_ms * times
            self._tokens = min(self._burst * times, self._tokens + earned)
        self._last_ms = mono_ms
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Receiver:
    """Opens frames for one device.

    A frame's counter is counted as received when `receive` returns. Its owner commits the effect and `dirty()` in one
    transaction before it acknowledges; if the commit fails, the state in memory is discarded and rebuilt from the rows.
    """

    def __init__(
        self,
        me: DeviceIdentity,
        directory: Directory,
        *,
        limits: RateLimits | None = None,
        restored: Iterable[SessionRow] = (),
    ) -> None:
        self._me = me
        self._directory = directory
        self._hears = HEARS[me.role]
        self._limits = limits or RateLimits()
        self._sessions: dict[bytes, _Session] = {}
        self._keys: OrderedDict[bytes, FrameKeys] = OrderedDict()
        self._last: dict[
            tuple[bytes, bytes, int], tuple[int, bytes]
        ] = {}  # stream -> number and id of its newest session
        self._buckets: dict[bytes, tuple[TokenBucket, TokenBucket]] = {}
        self._dirty: dict[bytes, None] = {}
        for row in restored:
            session = _Session(row)
            self._sessions[row.session_id] = session
            self._note_newest(session)

    def receive(self, frame: bytes, *, topic_device: bytes | None, now_ms: int, mono_ms: int) -> SessionOpened | Opened:
        """One frame.

        Args:
            frame: as it came.
            topic_device: the device that the topic names; None where there is no topic.
            now_ms: wall clock, for validity of credentials and bindings.
            mono_ms: monotonic clock, for rate limits.

        Raises:
            Rejected: with the reason; nothing has changed.
        """
        header = parse_header(frame)
        if topic_device is not None and topic_device != header.sender:
            raise Rejected(Reason.TOPIC)
        record = self._directory.sender(header.sender)
        if record is None:
            raise Rejected(Reason.UNKNOWN_SENDER)
        if record.revoked:
            raise Rejected(Reason.REVOKED)
        if record.role != self._hears:
            raise Rejected(Reason.ROLE, record.role)
        if header.type == FrameType.DATA:
            return self._data(frame, header, now_ms, mono_ms)
        if header.type == FrameType.SESSION:
            return self._session(frame, header, record, now_ms, mono_ms)
        raise Rejected(Reason.TYPE, FrameType(header.type).name)

    def dirty(self) -> list[SessionRow]:
        """Rows of the sessions that changed since the last call."""
        rows = [self._sessions[session_id].row() for session_id in self._dirty]
        self._dirty.clear()
        return rows

    def forget(self, *, before_ms: int) -> list[bytes]:
        """Let go of sessions that a younger one has followed and that were last heard before `before_ms`.

        Nothing of theirs is believed again: a SESSION with their number is refused, and their frames have no keys.
        """
        newest = {session_id for _, session_id in self._last.values()}
        old = [one for one, session in self._sessions.items() if session.last_ms < before_ms and one not in newest]
        for session_id in old:
            del self._sessions[session_id]
            self._keys.pop(session_id, None)
            self._dirty.pop(session_id, None)
        return old

    def highest(self, session_id: bytes) -> int | None:
        """The highest counter received in a session."""
        session = self._sessions.get(session_id)
        return None if session is None else session.counters.highest

    def sessions(self) -> tuple[SessionRow, ...]:
        """Every session that is known."""
        return tuple(session.row() for session in self._sessions.values())

    def _data(self, frame: bytes, header: Header, now_ms: int, mono_ms: int) -> Opened:
        if not self._bucket(header.sender)[0].spend(mono_ms, times=self._devices_of(header.sender)):
            raise Rejected(Reason.RATE, "frames")
        session = self._sessions.get(header.session_id)
        if session is None or session.sender != header.sender:
            raise Rejected(Reason.NEED_SESSION, session_id=header.session_id)
        if header.frame_class != session.info.frame_class:
            raise Rejected(Reason.CLASS)
        keys = self._keys_of(session)
        try:
            padded = keys.open(frame[:HEADER_BYTES], header.counter, header.salt, frame[HEADER_BYTES:])
        except InvalidTag:
            raise Rejected(Reason.AUTH) from None
        payload = unpad(padded)
        tag = frame[-TAG_BYTES:]
        try:
            new = session.counters.add(header.counter)
        except RangesFull:
            raise Rejected(Reason.RANGES_FULL) from None
        conflict = not new and session.tags.get(header.counter, tag) != tag
        if new:
            session.last_ms = now_ms
            session.tags[header.counter] = tag
            if len(session.tags) > KEPT_TAGS:
                session.tags.popitem(last=False)
            self._dirty[session.session_id] = None
        return Opened(
            session.session_id,
            session.sender,
            session.info.binding_id,
            session.info.frame_class,
            header.counter,
            payload,
            not new,
            conflict,
        )

    def _session(self, frame: bytes, header: Header, record: SenderRecord, now_ms: int, mono_ms: int) -> SessionOpened:
        known = self._sessions.get(header.session_id)
        packed = frame[HEADER_BYTES : HEADER_BYTES + INFO_BYTES]
        hpke = frame[HEADER_BYTES + INFO_BYTES : HEADER_BYTES + INFO_BYTES + HPKE_BYTES]
        info = SessionInfo.unpack(packed)
        if info.tenant != self._me.tenant_id:
            raise Rejected(Reason.TENANT)
        if info.recipient != self._me.device_id:
            raise Rejected(Reason.RECIPIENT)
        if (info.sender, info.suite, info.frame_class) != (header.sender, header.suite, header.frame_class):
            raise Rejected(Reason.SESSION_ID, "header and context differ")
        if session_id_of(packed, hpke) != header.session_id:
            raise Rejected(Reason.SESSION_ID)
        credential = record.credential(info.credential_serial)
        if credential is None:
            raise Rejected(Reason.CREDENTIAL, "unknown serial")
        if not credential.is_valid(now_ms):
            raise Rejected(Reason.CREDENTIAL, "not valid now")
        if not self._bucket(header.sender)[1].spend(mono_ms, times=self._devices_of(header.sender)):
            raise Rejected(Reason.RATE, "sessions")
        try:
            credential.key.verify(
                frame[HEADER_BYTES + INFO_BYTES + HPKE_BYTES :], session_signed(frame[:HEADER_BYTES], packed, hpke)
            )
        except InvalidSignature:
            raise Rejected(Reason.SIGNATURE) from None
        if known is not None:
            return SessionOpened(known.session_id, known.sender, info.frame_class, known_before=True, chain_fork=False)
        self._check_binding(info, now_ms)
        number, newest = self._last.get((info.sender, info.binding_id, info.frame_class), (-1, bytes(16)))
        if info.number <= number:
            raise Rejected(
                Reason.CLONE_OR_ROLLBACK,
                f"session {info.number} after {number}",
                session_id=header.session_id,
                last_number=number,
            )
        row = SessionRow(
            session_id=header.session_id, sender=header.sender, info=packed, hpke=hpke, ranges=(), last_ms=now_ms
        )
        session = _Session(row)
        self._keys_of(session)
        self._sessions[row.session_id] = session
        self._note_newest(session)
        self._dirty[row.session_id] = None
        return SessionOpened(
            row.session_id, row.sender, info.frame_class, known_before=False, chain_fork=info.previous != newest
        )

    def _check_binding(self, info: SessionInfo, now_ms: int) -> None:
        about_device = info.frame_class in (FrameClass.HEARTBEAT, FrameClass.CONTROL)
        if info.binding_id == NO_BINDING:
            if about_device or info.frame_class == FrameClass.ALARM:
                return
            raise Rejected(Reason.BINDING, "vital signs without a binding")
        binding = self._directory.binding(info.binding_id)
        if binding is None or not binding.admits(info.sender, began_ms=info.at_ms, now_ms=now_ms):
            raise Rejected(Reason.BINDING)

    def _keys_of(self, session: _Session) -> FrameKeys:
        keys = self._keys.get(session.session_id)
        if keys is not None:
            return keys
        prekey = self._me.prekeys.get(session.info.prekey_id)
        if prekey is None:
            raise Rejected(Reason.PREKEY)
        try:
            secret = HPKE_SUITE.decrypt(session.hpke, prekey, info=HPKE_CONTEXT + session.packed)
        except (InvalidTag, ValueError):
            raise Rejected(Reason.HPKE) from None
        keys = FrameKeys(secret, session.packed, session.hpke, session.info.suite, session.info.frame_class)
        self._keys[session.session_id] = keys
        if len(self._keys) > KEPT_KEYS:
            self._keys.popitem(last=False)
        return keys

    def _note_newest(self, session: _Session) -> None:
        stream = (session.info.sender, session.info.binding_id, session.info.frame_class)
        if session.info.number > self._last.get(stream, (-1, b""))[0]:
            self._last[stream] = (session.info.number, session.session_id)

    def _devices_of(self, sender: bytes) -> int:
        return max(1, self._directory.patients_of(sender))

    def _bucket(self, sender: bytes) -> tuple[TokenBucket, TokenBucket]:
        buckets = self._buckets.get(sender)
        if buckets is None:
            limits = self._limits
            buckets = self._buckets[sender] = (
                TokenBucket(per_s=limits.frames_per_s, burst=limits.frames_burst),
                TokenBucket(per_s=limits.sessions_per_min / 60, burst=max(limits.sessions_per_min, 1)),
            )
        return buckets
