"""The exchange with edges: opens their frames; sends acknowledgements, requests for sessions, and documents.

Used by `vitalloom ingest` and by the embedded engine, which save what was received before it is acknowledged.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable

import msgspec

from runtime.clock import Clock, FileClock, SteadyClock
from runtime.logs import get
from stream.ingest.courier import Courier
from stream.ingest.edge_clocks import EdgeClocks
from stream.ingest.frames import FrameOpener, OpenedFrame
from stream.ingest.gaps import GapDetector
from vitals.sender_clock import BOUND_MS
from wire.acks import AckBook, OwedAck
from wire.codec import HeartbeatV1
from wire.envelope import FrameClass, Stage, frame_class_of
from wire.errors import Reason, Rejected
from wire.identity import LATE_MS, DeviceIdentity, Directory
from wire.lanes import Lanes
from wire.mqtt import Inbound
from wire.receiver import Opened, RateLimits, SessionRow
from wire.topics import device_of, e_down, e_down_alarm

_log = get(__name__)
_TIDY_EVERY_MS = 3_600_000

Rejections = Counter[tuple[str, str]]
"""Number of rejected frames by device and reason."""


class ReceptionCounts(msgspec.Struct):
    """Counts of frames from edges; subclasses count more."""

    received: int = 0
    stored: int = 0  # frames acknowledged as stored, without repetitions
    duplicates: int = 0  # frames that were stored already and were acknowledged again
    dead_letters: int = 0
    heartbeats: int = 0
    edge_alarms: int = 0
    gaps_detected: int = 0  # sessions whose newest frames have not arrived, although heartbeats have
    edge_clocks_wrong: int = 0  # edges whose clock is off by more than 5 s now
    edge_clock_ms: int = 0  # how far the worst clock of an edge is ahead of ours
    edges_without_orders: int = 0  # edges that do not accept the orders of their patients
    machine_clock_ms: int = 0  # how far the machine's clock, which was set, is ahead of ours
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    turned_ms: int = 0  # monotonic: when everything received had been forwarded or saved


class Reception:
    """Receives frames from edges and answers them.

    Args:
        me: identity of the data centre.
        directory: devices and bindings of the site.
        clock: wall and monotonic.
        restored: reads the saved sessions; called at the start and after a failed commit.
        limits: rate limits for each sender; None: the defaults.
        ack_interval_ms: how long acknowledgements of a session are collected before one is sent.
        courier: sends documents to edges; None: no documents are sent.
        repeats: return the content of a frame also when the frame was received before.
    """

    def __init__(
        self,
        me: DeviceIdentity,
        directory: Directory,
        clock: Clock,
        restored: Callable[[], Iterable[SessionRow]],
        *,
        limits: RateLimits | None = None,
        ack_interval_ms: int = 1_000,
        courier: Courier | None = None,
        repeats: bool = False,
    ) -> None:
        self._me = me
        self._directory = directory
        self._clock = clock
        self._restored = restored
        self._limits = limits
        self._repeats = repeats
        self._courier = courier
        self._parcels: deque[tuple[str, bytes]] = deque()  # documents that wait for room in the send queue
        self._acks = AckBook(me, interval_ms=ack_interval_ms)
        self._tidy_ms = 0
        self.clocks = EdgeClocks(is_simulated=isinstance(clock, FileClock))
        self._heard_ms: dict[bytes, int] = {}  # wall: the last frame of each edge
        self.restore()
        self._gaps = GapDetector(lambda session_id: self._opener.highest(session_id))

    def stay_of(self, binding_id: bytes) -> str:
        """The stay that a binding contributes to, in hex."""
        found = self._directory.binding(binding_id)
        return binding_id.hex() if found is None else found.stay

    def restore(self) -> None:
        """Discard what was received since the last commit, and continue with the saved sessions."""
        self._opener = FrameOpener(
            self._me,
            self._directory,
            limits=self._limits,
            restored=self._restored(),
            repeats=self._repeats,
            clocks=self.clocks,
        )

    def accept(self, message: Inbound, rejections: Rejections) -> OpenedFrame | None:
        """Open one frame; None if it is rejected, which is counted in `rejections`."""
        now_ms = self._clock.now_ms()
        try:
            found = self._opener.accept(message.topic, message.payload, now_ms=now_ms, mono_ms=self._clock.mono_ms())
        except Rejected as error:
            self._answer_rejected(message, error, rejections)
            return None
        self._heard_ms[found.sender] = now_ms
        return found

    def edge_heard_ms(self, edge_id: bytes) -> int | None:
        """When the last frame of an edge was opened; None: none since this process started."""
        return self._heard_ms.get(edge_id)

    def dirty(self) -> list[SessionRow]:
        """As `FrameOpener.dirty`."""
        return self._opener.dirty()

    def forget_old(self) -> list[bytes]:
        """Forget, once an hour, sessions that are too old for further frames; returns their ids."""
        now_ms = self._clock.now_ms()
        if now_ms < self._tidy_ms:
            return []
        self._tidy_ms = now_ms + _TIDY_EVERY_MS
        forgotten = self._opener.forget(before_ms=now_ms - LATE_MS)
        for session_id in forgotten:
            self._acks.forget(session_id)
        return forgotten

    def acknowledge(self, opened: Opened, reason: Reason | None = None) -> None:
        """Acknowledge a frame that is stored; with a reason, one that is rejected for good. Its edge deletes it."""
        self.acknowledge_frame(opened.session_id, opened.sender, opened.frame_class, opened.counter, reason)

    def acknowledge_frame(
        self, session_id: bytes, edge_id: bytes, frame_class: int, counter: int, reason: Reason | None = None
    ) -> None:
        """As `acknowledge`, for a frame that was opened earlier."""
        stage = Stage.STORED if reason is None else Stage.REJECTED
        self._acks.add(session_id, edge_id, frame_class, counter, stage, reason=reason)

    def note_clocks(self, counts: ReceptionCounts) -> None:
        """Update the counts of clocks."""
        ahead_ms = list(self.clocks.ahead_ms.values())
        counts.edge_clocks_wrong = sum(abs(one) > BOUND_MS for one in ahead_ms)
        counts.edge_clock_ms = max(ahead_ms, key=abs, default=0)
        if isinstance(self._clock, SteadyClock):
            counts.machine_clock_ms = self._clock.behind_ms

    def note_heartbeat(self, edge_id: bytes, beat: HeartbeatV1) -> int:
        """Evaluate a heartbeat; returns the number of sessions that are newly found to miss their newest frames."""
        mono_ms = self._clock.mono_ms()
        if self._courier is not None:
            self._courier.on_heartbeat(edge_id, beat.documents, mono_ms, program=beat.version)
        missing = self._gaps.on_heartbeat(edge_id, beat.last_counters, mono_ms)
        if missing:
            _log.error(
                "newest readings of an edge are missing although its heartbeats arrive; check the MQTT broker",
                edge=edge_id.hex(),
                sessions=len(missing),
            )
        return len(missing)

    def due_acknowledgements(self) -> list[OwedAck]:
        """Acknowledgements that are due now."""
        return self._acks.due(mono_ms=self._clock.mono_ms(), now_ms=self._clock.now_ms())

    def send_due(self, client: Lanes) -> None:
        """Send due acknowledgements, and documents as far as there is room in the send queue."""
        for owed in self.due_acknowledgements():
            is_alarm = frame_class_of(owed.frame) == FrameClass.ALARM
            client.publish(e_down_alarm(owed.to) if is_alarm else e_down(owed.to), owed.frame)
        if self._courier is None:
            return
        if not self._parcels:
            for parcel in self._courier.due(self._clock.mono_ms()):
                self._parcels.extend((e_down(parcel.edge_id), frame) for frame in parcel.frames)
        while self._parcels and client.publish(*self._parcels[0]):
            self._parcels.popleft()

    def _answer_rejected(self, message: Inbound, error: Rejected, rejections: Rejections) -> None:
        device = self._device_name(message.topic)
        rejections[device, str(error.reason)] += 1
        if error.session_id is not None and error.reason in (Reason.NEED_SESSION, Reason.CLONE_OR_ROLLBACK):
            self._acks.need_session(
                error.session_id, bytes.fromhex(device), _class_of(message.topic), last_number=error.last_number or 0
            )

    def _device_name(self, topic: str) -> str:
        """The id of the sending device; "unknown" for invented ids, which must not fill the table of rejections."""
        device_id = device_of(topic)
        is_known = device_id is not None and self._directory.sender(device_id) is not None
        return device_id.hex() if device_id is not None and is_known else "unknown"


def _class_of(topic: str) -> int:
    last = topic.rsplit("/", 1)[-1]
    return int(last) if last in ("1", "2", "3", "4") else 1
