"""A fleet: wearables of one edge on one connection, each sealing its readings and keeping them until acknowledged.

A real wearable has a connection of its own. Ten thousand simulated ones share a few, as if through a radio hub; every
frame is still sealed by its own wearable, with its own session, counter and topic.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from runtime.clock import Clock
from simulators.faults import LossyLink
from simulators.wearable import StoreBuffer
from wire.codec import VitalsV1, encode, reading_id
from wire.enrol.documents import WANTED, is_document
from wire.enrol.wallet import Wallet
from wire.envelope import Ack, FrameClass, Stage, open_ack
from wire.errors import Rejected
from wire.identity import Provision
from wire.mqtt import Inbound, MqttClient
from wire.sender import Sender
from wire.sending.rows import AckEffect, Refused, Row, SendingSession
from wire.sending.settings import Timing, Windows
from wire.sessions import MAX_AGE_MS, SendSession, next_number
from wire.topics import device_of, w_down, w_up

TIMING = Timing(vitals_first_ms=3_000, vitals_max_ms=15_000)
WINDOWS = Windows(vitals=2_000)

ASK_FIRST_MS = 1_000
ASK_MOST_MS = 5_000
"""A wearable without an assignment asks again after the first pause, then after twice as long, up to the second."""

_TURN_S = 0.02


class FleetCounts(msgspec.Struct):
    """Counters of a fleet."""

    sent: int = 0  # readings, each once
    accepted: int = 0  # readings that an edge has acknowledged
    refused: int = 0  # readings that an edge has refused permanently
    given_up: int = 0  # unacknowledged readings that a wearable dropped because its buffer was full
    frames: int = 0
    resent: int = 0
    forged_acks: int = 0
    documents: int = 0  # of the data centre, each once
    forged_documents: int = 0
    unassigned: int = 0  # readings dropped because the wearable was assigned to no patient


class _Wearable:
    """The sending half of one wearable: session, buffer, counters."""

    def __init__(self, provision: Provision, wallet: Wallet | None) -> None:
        self.provision = provision
        self.wallet = wallet
        self.device_id = provision.me.device_id
        self.session: SendSession | None = None
        self.began_ms = 0  # monotonic
        self.buffer = StoreBuffer()
        self.numbers: dict[tuple[bytes, int], int] = {}  # place in the buffer by session and counter
        self.last_number = -1
        self.previous: dict[bytes, bytes] = {}  # by binding
        self.next_request_ms = 0  # monotonic: not before
        self.request_pause_ms = ASK_FIRST_MS

    def binding_id(self, now_ms: int) -> bytes | None:
        """The binding of this wearable to a patient; None if it knows of none."""
        if self.wallet is not None:
            assigned = self.wallet.assignment(now_ms)
            return None if assigned is None else assigned.binding_id
        (binding,) = self.provision.directory.bindings()
        return binding.binding_id

    def keys_of(self, edge_id: bytes) -> tuple[Ed25519PublicKey, ...]:
        """Public keys that verify an edge's signatures."""
        if self.wallet is None:
            return self.provision.recipient_keys
        edge = self.wallet.device(edge_id)
        return () if edge is None else edge.keys


class Fleet:
    """Wearables of one edge.

    Args:
        members: one per wearable: its provision, or its wallet, which also accepts documents of the data centre.
        clock: its wall clock stamps sessions, its monotonic clock drives timers.
        rng: jitter of the resend timers.
        link: what happens to frames between here and the broker; None: nothing.
        on_sent: called with id and event time of every new reading.
        on_done: called with the ids of readings that were refused permanently or dropped.
    """

    def __init__(
        self,
        members: Sequence[Provision | Wallet],
        clock: Clock,
        *,
        rng: random.Random,
        link: LossyLink | None = None,
        timing: Timing = TIMING,
        on_sent: Callable[[bytes, int], None] | None = None,
        on_done: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self.counts = FleetCounts()
        self._clock = clock
        self.link = link
        self._on_sent = on_sent
        self._on_done = on_done
        self._wearables = [
            _Wearable(one.provision, one) if isinstance(one, Wallet) else _Wearable(one, None) for one in members
        ]
        self._by_device = {one.device_id: one for one in self._wearables}
        self._by_session: dict[bytes, _Wearable] = {}
        self._recipients: dict[bytes, bytes] = {}  # by session
        self._kept: dict[bytes, dict[int, Row]] = {}  # by session: the store buffer of the wearables
        self._uplink = Sender(backlog=self, frees_at=Stage.DURABLE, rng=rng, windows=WINDOWS, timing=timing)
        self._rows = 0
        self._outgoing: deque[bytes] = deque()
        self._document_requests: dict[bytes, None] = {}  # devices that want their documents
        self._wake = asyncio.Event()

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics of acknowledgements and documents for these wearables."""
        return tuple(w_down(wearable.device_id) for wearable in self._wearables)

    def __len__(self) -> int:
        return len(self._wearables)

    @property
    def kept(self) -> int:
        """Readings that no edge has acknowledged yet."""
        return sum(len(rows) for rows in self._kept.values())

    def send(self, index: int, sample: VitalsV1, at_ms: int) -> None:
        """Seal a new reading of a wearable, keep it, and send it as soon as possible."""
        wearable = self._wearables[index]
        session = self._session_of(wearable)
        if session is None:
            self.counts.unassigned += 1
            self.request_documents(index)
            return
        counter, frame = session.seal(encode(sample))
        before = len(wearable.buffer)
        wearable.numbers[session.session_id, counter] = wearable.buffer.add(sample)
        self._keep(session, counter, frame)
        self.counts.sent += 1
        if len(wearable.buffer) != before + 1:
            self._thin(wearable)
        if self._on_sent is not None:
            self._on_sent(reading_id(wearable.device_id, session.session_id, counter), at_ms)
        self._wake.set()

    def request_documents(self, index: int) -> None:
        """Ask the edge for the documents that say which patient the wearable is on, unless it asked very recently."""
        wearable, mono_ms = self._wearables[index], self._clock.mono_ms()
        if mono_ms >= wearable.next_request_ms:
            wearable.next_request_ms = mono_ms + wearable.request_pause_ms
            wearable.request_pause_ms = min(wearable.request_pause_ms * 2, ASK_MOST_MS)
            self._document_requests[wearable.device_id] = None
            self._wake.set()

    async def run(self, client: MqttClient) -> None:
        """Send readings and receive acknowledgements until cancelled. `client` subscribes to `subscriptions`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive_acks(client), name="fleet receives")
            tasks.create_task(self._send_frames(client), name="fleet sends")

    def page(self, session_id: bytes, from_counter: int, limit: int) -> Sequence[Row]:
        """Kept readings of a session, for the uplink's backlog."""
        rows = self._kept.get(session_id, {})
        # Counters rise as they are kept, so the rows are in order already.
        return list(islice((row for counter, row in rows.items() if counter >= from_counter), limit))

    async def _receive_acks(self, client: MqttClient) -> None:
        while True:
            for message in await client.receive(256):
                self._on_message(message)
                client.acknowledge(message)

    async def _send_frames(self, client: MqttClient) -> None:
        was_connected = False
        while True:
            if client.connected != was_connected:
                was_connected = client.connected
                if was_connected:
                    self._uplink.on_connected(self._clock.mono_ms())
                else:
                    self._uplink.on_disconnected()
            self._send_due(client)
            self._wake.clear()
            try:
                async with asyncio.timeout(_TURN_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _send_due(self, client: MqttClient) -> None:
        mono_ms = self._clock.mono_ms()
        while client.room > len(self._outgoing) and (out := self._uplink.next(mono_ms)) is not None:
            self._uplink.sent(out, mono_ms)
            self.counts.frames += 1
            if self.link is None:
                self._outgoing.append(out.frame)
            else:
                self.link.put(out.frame, mono_ms)
        if self.link is not None:
            self._outgoing.extend(self.link.due(mono_ms))
        while self._outgoing and client.publish(_topic_of(self._outgoing[0]), self._outgoing[0]):
            self._outgoing.popleft()
        for device_id in tuple(self._document_requests):
            if client.publish(w_up(device_id, FrameClass.CONTROL), WANTED):
                del self._document_requests[device_id]
        counts = self._uplink.counts
        self.counts.resent = counts.resent + counts.resent_fast

    def _on_message(self, message: Inbound) -> None:
        if is_document(message.payload):
            self._accept_document(message)
            return
        wearable = self._by_session.get(message.payload[24:40])
        if wearable is None:
            return
        try:
            ack = open_ack(message.payload, *wearable.keys_of(self._recipients[message.payload[24:40]]))
        except Rejected:
            self.counts.forged_acks += 1
            return
        effect = self._uplink.on_ack(ack, self._clock.mono_ms())
        self._free(wearable, ack, effect)
        if effect.refused is not None:
            self._drop_session(wearable, effect.refused)
        self._wake.set()

    def _accept_document(self, message: Inbound) -> None:
        """A document of the data centre about this wearable, forwarded by an edge."""
        wearable = self._by_device.get(device_of(message.topic) or b"")
        if wearable is None or wearable.wallet is None:
            return
        try:
            taken = wearable.wallet.take(message.payload)
        except Rejected:
            self.counts.forged_documents += 1
            return
        self.counts.documents += taken is not None

    def _free(self, wearable: _Wearable, ack: Ack, effect: AckEffect) -> None:
        refused = []
        for session_id, low, high in effect.freed:
            rows = self._kept.get(session_id, {})
            for counter in [counter for counter in rows if low <= counter <= high]:
                del rows[counter]
                wearable.buffer.acknowledge([wearable.numbers.pop((session_id, counter))])
                if ack.stage is Stage.REJECTED:
                    refused.append(reading_id(wearable.device_id, session_id, counter))
        freed = sum(high - low + 1 for _, low, high in effect.freed)
        if ack.stage is Stage.REJECTED:
            self.counts.refused += freed
        else:
            self.counts.accepted += freed
        if refused and self._on_done is not None:
            self._on_done(refused)
        for session_id in self._uplink.drain_retired():
            self._kept.pop(session_id, None)
            self._by_session.pop(session_id, None)
            self._recipients.pop(session_id, None)

    def _thin(self, wearable: _Wearable) -> None:
        """The wearable's buffer was full and has dropped readings: forget their frames."""
        kept = {number for number, _ in wearable.buffer.kept()}
        gone = [place for place, number in wearable.numbers.items() if number not in kept]
        for session_id, counter in gone:
            del wearable.numbers[session_id, counter]
            self._kept[session_id].pop(counter, None)
            self._uplink.forget(session_id, counter, counter)
        self.counts.given_up += len(gone)
        if self._on_done is not None:
            self._on_done([reading_id(wearable.device_id, *place) for place in gone])

    def _drop_session(self, wearable: _Wearable, refused: Refused) -> None:
        """The edge has refused this session for a newer one, so that its frames can never be opened."""
        rows = self._kept.pop(refused.session_id, {})
        for counter in rows:
            self._uplink.forget(refused.session_id, counter, counter)
            wearable.buffer.acknowledge([wearable.numbers.pop((refused.session_id, counter))])
        self.counts.refused += len(rows)
        wearable.last_number = max(wearable.last_number, refused.last_number)
        if wearable.session is not None and wearable.session.session_id == refused.session_id:
            wearable.session = None
        if self._on_done is not None:
            self._on_done([reading_id(wearable.device_id, refused.session_id, counter) for counter in rows])

    def _session_of(self, wearable: _Wearable) -> SendSession | None:
        """The session to seal with: for the current patient and the current key of the edge; None if unassigned."""
        now_ms, mono_ms = self._clock.now_ms(), self._clock.mono_ms()
        session, recipient = wearable.session, wearable.provision.recipient
        binding_id = wearable.binding_id(now_ms)
        if recipient is None or binding_id is None:
            return None
        if session is not None and not session.is_spent and mono_ms - wearable.began_ms < MAX_AGE_MS:
            info = session.info
            if (info.binding_id, info.recipient, info.prekey_id) == (binding_id, *recipient[:2]):
                return session
        number = next_number(wearable.last_number, now_ms)
        session = SendSession.open(
            wearable.provision.me,
            recipient,
            binding_id=binding_id,
            frame_class=FrameClass.VITALS,
            number=number,
            previous=wearable.previous.get(binding_id, bytes(16)),
            now_ms=now_ms,
        )
        wearable.session, wearable.began_ms = session, mono_ms
        wearable.request_pause_ms = ASK_FIRST_MS
        wearable.last_number, wearable.previous[binding_id] = number, session.session_id
        self._by_session[session.session_id] = wearable
        self._recipients[session.session_id] = recipient.device_id
        self._kept[session.session_id] = {}
        self._uplink.open(SendingSession(session.session_id, (binding_id, FrameClass.VITALS), number, session.frame))
        return session

    def _keep(self, session: SendSession, counter: int, frame: bytes) -> None:
        self._rows += 1
        row = Row(self._rows, session.session_id, counter, session.info.binding_id, frame)
        self._kept[session.session_id][counter] = row
        self._uplink.offer(row)


def _topic_of(frame: bytes) -> str:
    """The topic follows from the header: sender and class."""
    return w_up(frame[8:24], frame[5])
