"""Heartbeats of an edge, and an empty frame that keeps the alarm lane open.

Heartbeats are not stored: a lost one is followed by the next. Each lane has a session of its own, which is replaced
when the cloud does not know it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from wire.codec import HeartbeatV1, encode
from wire.envelope import NO_BINDING, Ack, FrameClass, Stage
from wire.identity import DeviceIdentity
from wire.sessions import MAX_AGE_MS, Recipient, SendSession, next_number

MOST_LISTED: Final = 60
"""Sessions and wearables that one heartbeat names: it must fit into a frame."""
LANES: Final = (FrameClass.HEARTBEAT, FrameClass.ALARM)


class HeartbeatFacts(NamedTuple):
    """Content of one heartbeat, before long lists are cut."""

    at_ms: int
    uptime_ms: int
    clock_quality: int
    outbox_rows: int
    outbox_oldest_ms: int | None  # when the oldest row was made
    outbox_used: float
    last_counters: Sequence[tuple[bytes, int, int]]
    void: Sequence[tuple[bytes, int, int]]
    closed: Sequence[tuple[bytes, int]]
    model: str
    sensors: Sequence[tuple[bytes, str]]
    rejected: Mapping[str, int]
    salvaged: str
    local_alarms: int
    duplicates: int
    documents: bytes


def heartbeat(boot_id: bytes, version: str, facts: HeartbeatFacts) -> HeartbeatV1:
    """The facts as they are sent; long lists are cut to their newest entries."""
    oldest_ms = facts.outbox_oldest_ms
    return HeartbeatV1(
        boot_id=boot_id,
        at_ms=facts.at_ms,
        uptime_ms=facts.uptime_ms,
        clock_quality=facts.clock_quality,
        outbox_rows=facts.outbox_rows,
        outbox_oldest_ms=None if oldest_ms is None else max(facts.at_ms - oldest_ms, 0),
        outbox_used=min(max(facts.outbox_used, 0.0), 1.0),
        last_counters=list(facts.last_counters[-MOST_LISTED:]),
        void=list(facts.void[-MOST_LISTED:]),
        closed=list(facts.closed[-MOST_LISTED:]),
        model=facts.model,
        sensors=list(facts.sensors[-MOST_LISTED:]),
        version=version,
        rejected=dict(facts.rejected),
        salvaged=facts.salvaged,
        local_alarms=facts.local_alarms,
        duplicates=facts.duplicates,
        documents=facts.documents,
    )


class _HeartbeatLane:
    def __init__(self) -> None:
        self.session: SendSession | None = None
        self.began_ms = 0
        self.last_number = -1
        self.previous = bytes(16)
        self.announced = False


class HeartbeatSessions:
    """Seals heartbeats, which are not kept in the outbox."""

    def __init__(self, me: DeviceIdentity, recipient: Recipient) -> None:
        self._me = me
        self._recipient = recipient
        self._lanes = {int(lane): _HeartbeatLane() for lane in LANES}

    def frames(self, body: HeartbeatV1, *, now_ms: int, mono_ms: int) -> list[tuple[int, bytes]]:
        """(class, frame) in the order in which they are to be sent."""
        out: list[tuple[int, bytes]] = []
        for frame_class, payload in ((FrameClass.ALARM, b""), (FrameClass.HEARTBEAT, encode(body))):
            lane = self._lanes[frame_class]
            session = self._session(lane, frame_class, now_ms, mono_ms)
            if not lane.announced:
                out.append((frame_class, session.frame))
                lane.announced = True
            out.append((frame_class, session.seal(payload)[1]))
        return out

    def on_connected(self, connection: int) -> None:
        """The connection for this class was re-established; the broker may have lost the SESSION frame."""
        for frame_class, lane in self._lanes.items():
            if (frame_class == FrameClass.ALARM) == (connection == FrameClass.ALARM):
                lane.announced = False

    def write_to(self, recipient: Recipient) -> None:
        """Sessions that begin from now on are sealed to this key."""
        self._recipient = recipient

    def owns(self, session_id: bytes) -> bool:
        return any(lane.session is not None and lane.session.session_id == session_id for lane in self._lanes.values())

    def on_ack(self, ack: Ack) -> None:
        """The cloud has heard a beat, or asks for its session."""
        if ack.stage is not Stage.NEED_SESSION:
            return
        for lane in self._lanes.values():
            if lane.session is not None and lane.session.session_id == ack.session_id:
                lane.announced = False
                if (ack.last_number or 0) >= lane.session.info.number:
                    lane.last_number = max(lane.last_number, ack.last_number or 0)
                    lane.session = None

    def _session(self, lane: _HeartbeatLane, frame_class: int, now_ms: int, mono_ms: int) -> SendSession:
        session = lane.session
        if session is not None and not session.is_spent and mono_ms - lane.began_ms < MAX_AGE_MS:
            return session
        lane.last_number = next_number(lane.last_number, now_ms)
        session = SendSession.open(
            self._me,
            self._recipient,
            binding_id=NO_BINDING,
            frame_class=frame_class,
            number=lane.last_number,
            previous=lane.previous,
            now_ms=now_ms,
        )
        lane.session, lane.began_ms, lane.previous, lane.announced = session, mono_ms, session.session_id, False
        return session
