"""The link to the cloud: senders with their windows and timers, heartbeats, and acknowledgements that come back.

Alarms and vital signs have a sender each, as they have a connection each: neither waits for the other.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from edge.config import EdgeConfig
from edge.counts import AgentCounts
from edge.health import LANES, HeartbeatSessions
from edge.keeper import Committed, Keeper
from edge.local_alarm import LocalAlarm
from edge.outbox import Outbox, SentSession
from runtime.clock import Clock
from wire.codec import HeartbeatV1
from wire.envelope import FrameClass, Stage, frame_class_of, open_ack
from wire.errors import Rejected
from wire.identity import Provision
from wire.lanes import Lanes
from wire.sender import Sender
from wire.sending.rows import SendingSession
from wire.sessions import Recipient
from wire.topics import e_up


class LinkChange(NamedTuple):
    """Whether a connection came up, and whether one went down, since the last look."""

    came_up: bool
    went_down: bool


class CloudLink:
    """What is under way to the cloud.

    Args:
        provision: identity of this edge, and the keys that the cloud signs with.
        keeper: holds the rows; deletes what the cloud has stored.
        sent: sessions of an earlier run, whose rows are still to be sent.
        local: is told whenever the cloud is heard.
    """

    def __init__(
        self,
        config: EdgeConfig,
        provision: Provision,
        recipient: Recipient,
        *,
        keeper: Keeper,
        sent: Sequence[SentSession],
        local: LocalAlarm,
        clock: Clock,
        rng: random.Random,
        counts: AgentCounts,
    ) -> None:
        self.heard_ms: int | None = None  # monotonic: the last signature of the cloud
        self.on_refused: Callable[[Sequence[tuple[bytes, int, int]]], None] = lambda _: None  # rows that were refused
        self._ahead_ms = -clock.mono_ms()  # of the cloud's clock, at least: signed in acknowledgements; less monotonic
        self._provision = provision
        self._keeper = keeper
        self._local = local
        self._clock = clock
        self._counts = counts
        self._beats = HeartbeatSessions(provision.me, recipient)
        self._senders = {
            int(frame_class): Sender(
                backlog=keeper.outbox, frees_at=Stage.STORED, rng=rng, windows=config.windows, timing=config.timing
            )
            for frame_class in (FrameClass.ALARM, FrameClass.VITALS)
        }
        self._resume(keeper.outbox, sent)

    @property
    def senders(self) -> Mapping[int, Sender]:
        """By frame class."""
        return self._senders

    @property
    def sent(self) -> int:
        """Frames that were handed to the broker, repeated ones included."""
        return sum(one.counts.rows_sent + one.counts.sessions_sent for one in self._senders.values())

    # Towards the cloud

    def follow_connection(self, client: Lanes) -> LinkChange:
        """Start or stop sending as connections come and go."""
        came_up = went_down = False
        for frame_class, sender in self._senders.items():
            is_up = client.is_up(frame_class)
            if is_up == sender.connected:
                continue
            if is_up:
                came_up = True
                sender.on_connected(self._clock.mono_ms())
                self._beats.on_connected(frame_class)
            else:
                went_down = True
                sender.on_disconnected()
        return LinkChange(came_up, went_down)

    def offer(self, committed: Committed) -> None:
        """Begin sessions and send rows that are on disk."""
        for session in committed.sessions:
            self._senders[session.stream[1]].open(session)
        for row in committed.rows:
            self._senders[frame_class_of(row.frame)].offer(row)

    def forget(self, shed: Sequence[tuple[bytes, int, int]]) -> None:
        """Rows were deleted: session, first and last counter."""
        for session_id, low, high in shed:
            for sender in self._senders.values():
                sender.forget(session_id, low, high)

    def drain_retired(self) -> Sequence[bytes]:
        """Sessions that have no rows left, since the last call."""
        return [session_id for sender in self._senders.values() for session_id in sender.drain_retired()]

    def send(self, client: Lanes) -> None:
        """Hand the broker what is due, as far as it has room."""
        mono_ms = self._clock.mono_ms()
        for frame_class, sender in self._senders.items():
            while client.room(frame_class) > 0 and (out := sender.next(mono_ms)) is not None:
                if not client.publish(e_up(self._provision.me.device_id, out.frame_class), out.frame):
                    break
                sender.sent(out, mono_ms)

    def can_beat(self, client: Lanes) -> bool:
        """Whether a connection is up that a heartbeat can leave on."""
        return any(client.is_up(frame_class) for frame_class in LANES)

    def beat(self, client: Lanes, body: HeartbeatV1, now_ms: int, mono_ms: int) -> None:
        """Send a heartbeat. It is not kept: one that is lost is followed by the next."""
        for frame_class, frame in self._beats.frames(body, now_ms=now_ms, mono_ms=mono_ms):
            client.publish(e_up(self._provision.me.device_id, frame_class), frame)

    def write_to(self, recipient: Recipient) -> None:
        """Heartbeat sessions that begin from now on are sealed to this key."""
        self._beats.write_to(recipient)

    # From the cloud

    def least_ms(self, mono_ms: int) -> int:
        """The cloud's wall clock is at least this, by the times that it has signed. A recording gives an older one."""
        return self._ahead_ms + mono_ms

    def clock_ms(self, now_ms: int, mono_ms: int) -> int | None:
        """How far our clock is ahead of the cloud's, negative: behind; None before the cloud was heard."""
        return None if self.heard_ms is None else now_ms - self.least_ms(mono_ms)

    def on_ack(self, frame: bytes, mono_ms: int) -> None:
        """An acknowledgement, of heartbeats or of rows."""
        try:
            ack = open_ack(frame, *self._provision.recipient_keys)
        except Rejected:
            self._counts.forged_acks += 1
            return
        self._local.heard(mono_ms)
        self.heard_ms = mono_ms
        self._ahead_ms = max(self._ahead_ms, ack.at_ms - mono_ms)
        if self._beats.owns(ack.session_id):
            self._beats.on_ack(ack)
            return
        sender = self._senders.get(ack.frame_class)
        if sender is None:
            return
        effect = sender.on_ack(ack, mono_ms)
        if effect.freed:
            self._keeper.free(effect.freed)
            if ack.stage is Stage.REJECTED:
                self.on_refused(effect.freed)
        if effect.refused is not None:
            refused = effect.refused
            for low, high in self._keeper.give_up(refused):
                self._senders[refused.stream[1]].forget(refused.session_id, low, high)

    def _resume(self, outbox: Outbox, sent: Sequence[SentSession]) -> None:
        """Go on sending what an earlier run has kept. Nothing is sealed with its sessions: their secrets are gone."""
        waiting = outbox.waiting()
        for session in sent:
            first_row, ranges = waiting.get(session.session_id, (0, []))
            stream = (session.binding_id, session.frame_class)
            done = _complement(ranges, session.last_counter)
            sender = self._senders[session.frame_class]
            sender.open(
                SendingSession(session.session_id, stream, session.number, session.frame, session.last_counter, done)
            )
            if ranges:
                sender.resume(session.session_id, first_row)


def _complement(ranges: Sequence[tuple[int, int]], last: int) -> tuple[tuple[int, int], ...]:
    """Counters from 0 to `last` that are in none of the ranges."""
    done, at = [], 0
    for low, high in ranges:
        if low > at:
            done.append((at, low - 1))
        at = high + 1
    if at <= last:
        done.append((at, last))
    return tuple(done)
