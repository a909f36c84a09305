"""Ingest: sealed frames of edges become messages for the processor, or counted refusals.

The only part that holds the cloud's opening keys. Pure: what was refused is told by an exception, what must be kept is
handed out as rows, and acknowledging is the engine's business, after its commit.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from vitals.messages import Message, ModelScore, Reading, SensorFlag
from wire.codec import (
    EdgeAlarmV1,
    HeartbeatV1,
    decode_edge_alarm,
    decode_edge_vitals,
    decode_heartbeat,
    to_reading,
    to_scores,
)
from wire.envelope import FrameClass
from wire.errors import BadTopic, DecodeError, Reason, Rejected
from wire.identity import DeviceIdentity, Directory
from wire.receiver import Opened, RateLimits, Receiver, SessionOpened, SessionRow
from wire.topics import parse

FUTURE_MS: Final = 30_000
"""Further ahead of our clock than this no edge is believed."""


class Observed(NamedTuple):
    """A reading, and what models at the edge said of it."""

    reading: Reading
    scores: list[ModelScore]
    spo2_scale: int = 1  # as ordered for the binding

    @property
    def messages(self) -> list[Message]:
        """In the order in which they are to be applied."""
        return [self.reading, *self.scores]


Content: TypeAlias = Observed | HeartbeatV1 | EdgeAlarmV1


class Taken(NamedTuple):
    """What one frame turned out to be."""

    opened: Opened | None  # None: it began a session
    sender: bytes
    content: Content | None = None  # None: nothing new
    refused: DecodeError | None = None  # authentic, and not usable: for the dead letters


class Ingest:
    """Opens what edges send to one data centre.

    Args:
        repeats: whether a frame that was received before has its content again.
    """

    def __init__(
        self,
        me: DeviceIdentity,
        directory: Directory,
        *,
        limits: RateLimits | None = None,
        restored: Iterable[SessionRow] = (),
        repeats: bool = False,
    ) -> None:
        self._repeats = repeats
        self._directory = directory
        self._receiver = Receiver(me, directory, limits=limits, restored=restored)

    def take(self, topic: str, frame: bytes, *, now_ms: int, mono_ms: int) -> Taken:
        """One message from the broker.

        Raises:
            Rejected: it is not believed.
        """
        try:
            named = parse(topic)
        except BadTopic:
            raise Rejected(Reason.TOPIC) from None
        if named.branch != "e":
            raise Rejected(Reason.TOPIC, "not an edge's topic")
        result = self._receiver.receive(frame, topic_device=named.device_id, now_ms=now_ms, mono_ms=mono_ms)
        if isinstance(result, SessionOpened):
            return Taken(None, result.sender)
        if (result.duplicate and not self._repeats) or not result.payload:
            return Taken(result, result.sender)
        try:
            content = content_of(self._directory, result.binding_id, result.frame_class, result.payload, now_ms)
            return Taken(result, result.sender, content)
        except DecodeError as error:
            return Taken(result, result.sender, refused=error)

    def dirty(self) -> list[SessionRow]:
        """Rows that belong into the same transaction as what was taken."""
        return self._receiver.dirty()

    def forget(self, *, before_ms: int) -> list[bytes]:
        """As `Receiver.forget`."""
        return self._receiver.forget(before_ms=before_ms)

    def highest(self, session_id: bytes) -> int | None:
        """As `Receiver.highest`."""
        return self._receiver.highest(session_id)


def content_of(directory: Directory, binding_id: bytes, frame_class: int, payload: bytes, now_ms: int) -> Content:
    """What an edge says, taken out of its seal.

    Raises:
        DecodeError: it cannot be read, or is not of this binding.
    """
    if frame_class == FrameClass.HEARTBEAT:
        return decode_heartbeat(payload)
    if frame_class == FrameClass.ALARM:
        return decode_edge_alarm(payload)
    if frame_class != FrameClass.VITALS:
        raise DecodeError(Reason.CLASS, f"class {frame_class} is not for ingest")
    message = decode_edge_vitals(payload)
    binding = directory.binding(binding_id)
    if binding is None or binding.wearable_id != message.origin.wearable_id:
        raise DecodeError(Reason.BINDING, "the reading's wearable is not the one of this binding")
    reading = _arrived(to_reading(message, binding_id), now_ms)
    return Observed(reading, to_scores(message, reading), binding.spo2_scale)


def _arrived(reading: Reading, now_ms: int) -> Reading:
    """A reading with our own time on it.

    An edge whose clock is ahead must not make everything that comes after it look late, and what lay in an outbox, or
    in somebody's recording, must not sound as if it were happening now.
    """
    if reading.received_ms <= now_ms + FUTURE_MS and reading.at_ms <= now_ms + FUTURE_MS:
        return replace(reading, arrived_ms=now_ms)
    return replace(
        reading,
        arrived_ms=now_ms,
        at_ms=min(reading.at_ms, now_ms),
        received_ms=min(reading.received_ms, now_ms),
        sensor_flags=reading.sensor_flags | SensorFlag.CLOCK_CLAMPED,
    )
