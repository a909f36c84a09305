"""Opening sealed frames from edges: the messages in them, or why a frame is rejected.

Only this module uses the data centre's private keys. It is pure: a rejected frame is an exception, session state that
has to be saved is returned as rows, and the caller acknowledges a frame after saving its content.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from stream.ingest.edge_clocks import EdgeClocks
from stream.ingest.stays import edges_of, terms_of
from vitals.entry_limits import FUTURE_MS, problems
from vitals.messages import Message, ModelScore, Observation, Reading
from vitals.patient_group import PatientGroup
from wire.codec import (
    EdgeAlarmV1,
    HeartbeatV1,
    decode_edge_alarm,
    decode_edge_vitals,
    decode_heartbeat,
    decode_observation,
    holds_observation,
    to_observation,
    to_reading,
    to_scores,
)
from wire.envelope import FrameClass
from wire.errors import BadTopic, DecodeError, Reason, Rejected
from wire.identity import DeviceIdentity, Directory
from wire.receiver import Opened, RateLimits, Receiver, SessionOpened, SessionRow
from wire.stays import stays_of
from wire.topics import parse


class ReadingWithScores(NamedTuple):
    """A reading, and the scores that models at the edge computed with it."""

    reading: Reading
    scores: list[ModelScore]
    spo2_scale: int = 1  # NEWS2 SpO2 scale ordered for the stay: 1 or 2
    group: PatientGroup = PatientGroup.UNSTATED

    @property
    def messages(self) -> list[Message]:
        """In the order in which they are to be applied."""
        return [self.reading, *self.scores]


Content: TypeAlias = ReadingWithScores | Observation | HeartbeatV1 | EdgeAlarmV1


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
        clocks: of the edges; None: new ones.
    """

    def __init__(
        self,
        me: DeviceIdentity,
        directory: Directory,
        *,
        limits: RateLimits | None = None,
        restored: Iterable[SessionRow] = (),
        repeats: bool = False,
        clocks: EdgeClocks | None = None,
    ) -> None:
        self._repeats = repeats
        self._clocks = EdgeClocks() if clocks is None else clocks
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
            content = decode_content(self._directory, result, now_ms, self._clocks)
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


def decode_content(directory: Directory, opened: Opened, now_ms: int, clocks: EdgeClocks) -> Content:
    """The content of an opened frame, its times by our clock.

    Args:
        clocks: of the edges; learn from a heartbeat.

    Raises:
        DecodeError: the payload cannot be decoded, or the reading is not from the wearable of this binding.
    """
    frame_class, payload, binding_id = opened.frame_class, opened.payload, opened.binding_id
    if frame_class == FrameClass.HEARTBEAT:
        beat = decode_heartbeat(payload)
        clocks.on_heartbeat(opened.sender, beat, now_ms)
        return beat
    if frame_class == FrameClass.ALARM and holds_observation(payload):
        return _observation_of(directory, opened, now_ms, clocks)
    if frame_class == FrameClass.ALARM:
        return clocks.correct_alarm(opened.sender, decode_edge_alarm(payload))
    if frame_class != FrameClass.VITALS:
        raise DecodeError(Reason.CLASS, f"frame class {frame_class} is not for ingest")
    message = decode_edge_vitals(payload)
    binding = directory.binding(binding_id)
    if binding is None or binding.wearable_id != message.origin.wearable_id:
        raise DecodeError(Reason.BINDING, "the reading is not from the wearable of this binding")
    reading = clocks.place(opened.sender, message, to_reading(message, binding_id, binding.stay_id), now_ms)
    terms = terms_of(directory, binding)
    scores = to_scores(message, reading)
    if scores and len(edges_of(directory.of_stay(binding.stay_id))) > 1:  # each scores what it hears
        scores = [replace(one, edge=opened.sender.hex()) for one in scores]
    return ReadingWithScores(reading, scores, terms.spo2_scale, terms.group)


def _observation_of(directory: Directory, opened: Opened, now_ms: int, clocks: EdgeClocks) -> Observation:
    """What a person entered at an edge, its times by our clock.

    Raises:
        DecodeError: it cannot be what a person saw, or the edge may not speak of this patient.
    """
    binding = directory.binding(opened.binding_id)
    if binding is None:
        raise DecodeError(Reason.BINDING, "an observation of a patient who is not known")
    message = clocks.correct_observation(opened.sender, decode_observation(opened.payload))
    observation = to_observation(message, binding.stay, edge=opened.sender.hex()[:8], heard_ms=now_ms)
    impossible = next((one for one in problems(observation) if not one.is_extreme), None)
    if impossible is not None:
        raise DecodeError(Reason.VALUE, f"{impossible.field or 'observation'}: cannot be what a person entered")
    stay = next((one for one in stays_of(directory.of_stay(binding.stay_id))), None)
    if stay is not None and stay.ended_ms is not None and observation.at_ms > stay.ended_ms + FUTURE_MS:
        raise DecodeError(Reason.BINDING, "an observation of a patient who was discharged before")
    return observation
