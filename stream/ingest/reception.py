"""The reception: opens what edges send, and speaks to them. Shared by the two engines; what is kept is theirs to keep.

Frames in, contents or counted refusals out; acknowledgements, questions for sessions and documents on their way back.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable

import msgspec

from runtime.clock import Clock
from runtime.logs import get
from stream.ingest.courier import Courier
from stream.ingest.frames import Ingest, Taken
from stream.ingest.gaps import GapDetector
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

Refused = Counter[tuple[str, str]]
"""How often which device was refused for which reason."""


class ReceptionCounts(msgspec.Struct):
    """What became of the frames that edges sent; the engines count more."""

    received: int = 0
    stored: int = 0  # frames signed for as stored, each once
    duplicates: int = 0  # known to be stored: signed for again
    dead_letters: int = 0
    heartbeats: int = 0
    edge_alarms: int = 0
    tails_missing: int = 0  # sessions whose newest frames did not come, though heartbeats did
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    turned_ms: int = 0  # monotonic: when nothing received was left to be kept


class Reception:
    """Where edges are heard and answered.

    Args:
        me: who this is.
        directory: whom it may hear.
        clock: wall and monotonic.
        restored: sessions as they were kept, asked for at the beginning and after whatever went wrong.
        courier: brings documents to edges; None where nobody changes any.
        repeats: whether what comes again is opened again, for an engine that may have lost it since.
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
        self._parcels: deque[tuple[str, bytes]] = deque()  # documents that wait for room
        self._acks = AckBook(me, interval_ms=ack_interval_ms)
        self._tidy_ms = 0
        self.begin_anew()
        self._tails = GapDetector(lambda session_id: self._ingest.highest(session_id))

    def begin_anew(self) -> None:
        """Back to what was kept."""
        self._ingest = Ingest(
            self._me, self._directory, limits=self._limits, restored=self._restored(), repeats=self._repeats
        )

    def take(self, message: Inbound, refused: Refused) -> Taken | None:
        """One frame; None if it is not believed, which is counted in `refused`."""
        try:
            return self._ingest.take(
                message.topic, message.payload, now_ms=self._clock.now_ms(), mono_ms=self._clock.mono_ms()
            )
        except Rejected as error:
            self._answer(message, error, refused)
            return None

    def dirty(self) -> list[SessionRow]:
        """As `Ingest.dirty`."""
        return self._ingest.dirty()

    def forget_old(self) -> list[bytes]:
        """Once an hour: sessions that nobody will speak in any more. Memory must not grow for ever."""
        now_ms = self._clock.now_ms()
        if now_ms < self._tidy_ms:
            return []
        self._tidy_ms = now_ms + _TIDY_EVERY_MS
        forgotten = self._ingest.forget(before_ms=now_ms - LATE_MS)
        for session_id in forgotten:
            self._acks.forget(session_id)
        return forgotten

    def acknowledge(self, opened: Opened, reason: Reason | None = None) -> None:
        """A frame is kept, or refused for good: its edge may forget it."""
        self.sign(opened.session_id, opened.sender, opened.frame_class, opened.counter, reason)

    def sign(
        self, session_id: bytes, edge_id: bytes, frame_class: int, counter: int, reason: Reason | None = None
    ) -> None:
        """As `acknowledge`, for a frame that was opened by somebody, some time ago."""
        stage = Stage.STORED if reason is None else Stage.REJECTED
        self._acks.add(session_id, edge_id, frame_class, counter, stage, reason=reason)

    def heard_beat(self, edge_id: bytes, beat: HeartbeatV1) -> int:
        """An edge said how it is; of how many sessions the newest frames are missing though they were sealed."""
        mono_ms = self._clock.mono_ms()
        if self._courier is not None:
            self._courier.heard(edge_id, beat.documents, mono_ms)
        missing = self._tails.heard(edge_id, beat.last_counters, mono_ms)
        if missing:
            _log.error(
                "an edge's newest readings do not come, and its heartbeats do: does somebody drop them?",
                edge=edge_id.hex(), sessions=len(missing),
            )  # fmt: skip
        return len(missing)

    def owed(self) -> list[OwedAck]:
        """Acknowledgements that are due now."""
        return self._acks.due(mono_ms=self._clock.mono_ms(), now_ms=self._clock.now_ms())

    def speak(self, client: Lanes) -> None:
        """Send what is owed, and documents as far as there is room."""
        for owed in self.owed():
            is_alarm = frame_class_of(owed.frame) == FrameClass.ALARM
            client.publish(e_down_alarm(owed.to) if is_alarm else e_down(owed.to), owed.frame)
        if self._courier is None:
            return
        if not self._parcels:
            for parcel in self._courier.due(self._clock.mono_ms()):
                self._parcels.extend((e_down(parcel.edge_id), frame) for frame in parcel.frames)
        while self._parcels and client.publish(*self._parcels[0]):
            self._parcels.popleft()

    def _answer(self, message: Inbound, error: Rejected, refused: Refused) -> None:
        device = self._known(message.topic)
        refused[device, str(error.reason)] += 1
        if error.session_id is not None and error.reason in (Reason.NEED_SESSION, Reason.CLONE_OR_ROLLBACK):
            self._acks.need_session(
                error.session_id, bytes.fromhex(device), _class_of(message.topic), last_number=error.last_number or 0
            )

    def _known(self, topic: str) -> str:
        """Who sent it. Names that somebody made up must not fill the table of refusals."""
        device_id = device_of(topic)
        is_known = device_id is not None and self._directory.sender(device_id) is not None
        return device_id.hex() if device_id is not None and is_known else "unknown"


def _class_of(topic: str) -> int:
    last = topic.rsplit("/", 1)[-1]
    return int(last) if last in ("1", "2", "3", "4") else 1
