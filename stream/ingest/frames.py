"""Opening sealed frames from edges: the messages in them, or why a frame is rejected.

Only this module uses the data centre's private keys. It is pure: a rejected frame is an exception, session state that
has to be saved is returned as rows, and the caller acknowledges a frame after saving its content.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from vitals.messages import Message, ModelScore, Reading, SensorFlag
from vitals.patient_group import PatientGroup, group_of
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
"""A reading whose times are further ahead of the clock of ingest gets the time of ingest instead."""


class ReadingWithScores(NamedTuple):
    """A reading, and the scores that models at the edge computed with it."""

    reading: Reading
    scores: list[ModelScore]
    spo2_scale: int = 1  # NEWS2 SpO2 scale ordered for the binding: 1 or 2
    group: PatientGroup = PatientGroup.UNSTATED

    @property
    def messages(self) -> list[Message]:
        """In the order in which they are to be applied."""
        return [self.reading, *self.scores]


Content: TypeAlias = ReadingWithScores | HeartbeatV1 | EdgeAlarmV1


class OpenedFrame(NamedTuple):
    """The result of opening one frame."""

    opened: Opened | None  # None: the frame began a session
    sender: bytes
    content: Content | None = None  # None: a duplicate, or a frame without content
    error: DecodeError | None = None  # why an authentic frame cannot be used and becomes a dead letter


class FrameOpener:
    """Opens the frames that edges send to one data centre.

    Args:
        me: identity of the data centre, with its private keys.
        directory: devices and bindings of the site.
        limits: rate limits for each sender; None: the defaults.
        restored: sessions as they were saved.
        repeats: return the content of a frame also when the frame was received before.
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

    def accept(self, topic: str, frame: bytes, *, now_ms: int, mono_ms: int) -> OpenedFrame:
        """Open one message from the MQTT broker.

        Raises:
            Rejected: the frame is not authentic, or its sender may not send it.
        """
        try:
            named = parse(topic)
        except BadTopic:
            raise Rejected(Reason.TOPIC) from None
        if named.branch != "e":
            raise Rejected(Reason.TOPIC, "not the topic of an edge")
        result = self._receiver.receive(frame, topic_device=named.device_id, now_ms=now_ms, mono_ms=mono_ms)
        if isinstance(result, SessionOpened):
            return OpenedFrame(None, result.sender)
        if (result.duplicate and not self._repeats) or not result.payload:
            return OpenedFrame(result, result.sender)
        try:
            content = decode_content(self._directory, result.binding_id, result.frame_class, result.payload, now_ms)
            return OpenedFrame(result, result.sender, content)
        except DecodeError as error:
            return OpenedFrame(result, result.sender, error=error)

    def dirty(self) -> list[SessionRow]:
        """Sessions that have changed, to be saved in the same transaction as the content."""
        return self._receiver.dirty()

    def forget(self, *, before_ms: int) -> list[bytes]:
        """As `Receiver.forget`."""
        return self._receiver.forget(before_ms=before_ms)

    def highest(self, session_id: bytes) -> int | None:
        """As `Receiver.highest`."""
        return self._receiver.highest(session_id)


def decode_content(directory: Directory, binding_id: bytes, frame_class: int, payload: bytes, now_ms: int) -> Content:
    """The content of an opened frame.

    Raises:
        DecodeError: the payload cannot be decoded, or the reading is not from the wearable of this binding.
    """
    if frame_class == FrameClass.HEARTBEAT:
        return decode_heartbeat(payload)
    if frame_class == FrameClass.ALARM:
        return decode_edge_alarm(payload)
    if frame_class != FrameClass.VITALS:
        raise DecodeError(Reason.CLASS, f"frame class {frame_class} is not for ingest")
    message = decode_edge_vitals(payload)
    binding = directory.binding(binding_id)
    if binding is None or binding.wearable_id != message.origin.wearable_id:
        raise DecodeError(Reason.BINDING, "the reading is not from the wearable of this binding")
    reading = _with_arrival(to_reading(message, binding_id), now_ms)
    return ReadingWithScores(reading, to_scores(message, reading), binding.spo2_scale, group_of(binding.about))


def _with_arrival(reading: Reading, now_ms: int) -> Reading:
    """The reading with its time of arrival, and without times in the future.

    A time in the future would make all later readings of the patient look late, and old readings, from an outbox or a
    replayed recording, would raise alarms as if they were current.
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
