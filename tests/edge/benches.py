"""An agent on a bench: real frames, a real outbox, and a hand in place of the broker.

`Hand` stands in for `wire.lanes.Lanes` so that every order of events can be forced; the tests marked `services` use
the real one.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.agent import EdgeAgent
from edge.at_rest import StateLock
from edge.config import EdgeConfig, LocalAlarmConfig, OutboxConfig
from runtime.clock import ManualClock
from simulators.made_up import demo_site
from wire.codec import VitalsV1, encode
from wire.envelope import Ack, FrameClass, FrameType, Stage, build_ack, open_ack, parse_header
from wire.mqtt import Inbound
from wire.receiver import Opened, RateLimits, Receiver, SessionOpened
from wire.sessions import SendSession
from wire.topics import e_down, parse, w_up

NOW = 1_767_600_000_000
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
UNLIMITED = RateLimits(frames_per_s=1e9, frames_burst=1_000_000_000, sessions_per_min=1e9)
WELL: dict[str, Any] = {
    "heart_rate": 70.0,
    "respiratory_rate": 14.0,
    "spo2": 98.0,
    "systolic_bp": 120.0,
    "temperature": 37.0,
    "supplemental_oxygen": 0.0,
    "consciousness": 0,
}
ILL: dict[str, Any] = WELL | {"respiratory_rate": 26.0, "spo2": 90.0}
"""NEWS2 of 6, with two red signs."""


class Hand:
    """What the agent hands over and acknowledges, in order."""

    def __init__(self) -> None:
        self.connected = True
        self.published: list[tuple[str, bytes]] = []
        self.pubacks: list[int] = []
        self.subscribed: list[str] = []

    def publish(self, topic: str, payload: bytes) -> bool:
        if self.connected:
            self.published.append((topic, payload))
        return self.connected

    def is_up(self, frame_class: int) -> bool:
        return self.connected

    def room(self, frame_class: int) -> int:
        return 1_000

    def subscribe(self, topics: Sequence[str]) -> None:
        self.subscribed += topics

    def acknowledge(self, message: Inbound) -> None:
        self.pubacks.append(message.mid)

    async def receive(self, limit: int = 64, *, within_s: float | None = None) -> list[Inbound]:
        raise NotImplementedError("the bench calls `_turn` itself")


class Bench:
    """One agent with two wearables, and the cloud that it writes to."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.site = demo_site(wearables=2, edges=1, now_ms=NOW)
        self.clock = ManualClock(NOW, mono_ms=1_000_000)
        self.config = EdgeConfig(
            identity=folder / "identity.json",
            data_dir=folder,
            state_key=folder / "state.key",
            ack_interval_ms=0,
            **{
                "limits": UNLIMITED,
                "outbox": OutboxConfig(budget_mb=64, commit_ms=100),
                "local_alarm": LocalAlarmConfig(after_s=60.0),
                **config,
            },
        )
        self.cloud = Receiver(self.site.ingest.me, self.site.ingest.directory, limits=UNLIMITED)
        self.sessions: dict[int, SendSession] = {}
        self._mid = 0
        self.start()

    def start(self) -> None:
        self.hand = Hand()
        lock = StateLock.open(self.config.state_key)
        self.agent = EdgeAgent(self.config, self.site.edges[0], self.clock, rng=random.Random(1), lock=lock)

    def crash(self) -> None:
        """As `kill -9`: nothing is committed, nothing is said. The file is let go of, as the kernel would."""
        self.agent.close()
        self.start()

    # Wearables

    def session(self, patient: int = 0) -> SendSession:
        if patient not in self.sessions:
            self.sessions[patient] = self.new_session(patient)
        return self.sessions[patient]

    def new_session(self, patient: int = 0, *, number: int = NOW) -> SendSession:
        provision = self.site.wearables[patient]
        assert provision.recipient is not None
        return SendSession.open(
            provision.me,
            provision.recipient,
            binding_id=self.site.bindings[patient].binding_id,
            frame_class=FrameClass.VITALS,
            number=number,
            previous=bytes(16),
            now_ms=NOW,
        )

    def vitals(self, after_ms: int, **changed: Any) -> VitalsV1:
        when = {"t_ms": NOW + after_ms, "t_quality": 2, "uptime_ms": HOUR + after_ms}
        return VitalsV1(**{**when, **WELL, **changed})

    def sealed(self, after_ms: int, *, patient: int = 0, **changed: Any) -> bytes:
        return self.session(patient).seal(encode(self.vitals(after_ms, **changed)))[1]

    def inbound(self, frame: bytes, *, patient: int = 0, topic: str | None = None) -> Inbound:
        self._mid += 1
        device = self.site.wearables[patient].me.device_id
        return Inbound(topic if topic is not None else w_up(device, FrameClass.VITALS), frame, 1, self._mid)

    # Turns

    def turn(self, *frames: bytes, patient: int = 0) -> list[int]:
        """One turn of the loop with these frames of a wearable; their numbers."""
        messages = [self.inbound(frame, patient=patient) for frame in frames]
        self.agent._turn(self.hand, messages)  # type: ignore[arg-type]
        return [message.mid for message in messages]

    def pass_time(self, by_ms: int = 200) -> None:
        """Nothing comes for a while: long enough for a commit that is due."""
        self.clock.advance(by_ms)
        self.turn()

    def begin(self, *patients: int) -> None:
        for patient in patients or (0,):
            self.turn(self.session(patient).frame, patient=patient)
        self.pass_time()

    # What the cloud and the wearables got

    def told(self, stage: Stage | None = None) -> list[Ack]:
        """Acknowledgements to wearables so far."""
        key = self.site.edges[0].me.signing_key.public_key()
        acks = [open_ack(frame, key) for topic, frame in self.hand.published if parse(topic).branch == "w"]
        return [ack for ack in acks if stage is None or ack.stage is stage]

    def signed_for(self, session_id: bytes | None = None) -> set[int]:
        """Counters of a wearable that the agent has called durable."""
        return {
            counter
            for ack in self.told(Stage.DURABLE)
            if session_id is None or ack.session_id == session_id
            for low, high in ack.ranges
            for counter in range(low, high + 1)
        }

    def arrived(self, *frame_classes: int) -> list[Opened]:
        """Frames that the cloud can open, once each, in the order in which they left."""
        wanted = frame_classes or (FrameClass.VITALS,)
        found = []
        for topic, frame in self.hand.published:
            if parse(topic).branch != "e":
                continue
            now_ms = max(self.clock.now_ms(), NOW)  # the cloud has a clock of its own
            opened = self.cloud.receive(frame, topic_device=None, now_ms=now_ms, mono_ms=0)
            if not isinstance(opened, SessionOpened) and not opened.duplicate and opened.frame_class in wanted:
                found.append(opened)
        return found

    def cloud_says(
        self, stage: Stage, session_id: bytes, ranges: Sequence[tuple[int, int]] = (), *, last_number: int | None = None
    ) -> bytes:
        frame_class = next((f[5] for _, f in self.hand.published if f[24:40] == session_id), FrameClass.VITALS)
        ack = Ack(stage, 0, tuple(ranges), last_number, NOW, self.site.ingest.me.device_id, session_id, frame_class, 1)
        return build_ack(self.site.ingest.me.signing_key, ack)

    def hear(self, frame: bytes) -> None:
        """A frame on the way down from the cloud, and time for the commit that follows."""
        self._mid += 1
        self.agent._turn(self.hand, [Inbound(e_down(self.site.edges[0].me.device_id), frame, 1, self._mid)])  # type: ignore[arg-type]
        self.pass_time()

    def sent_sessions(self) -> list[bytes]:
        """Session ids of SESSION frames that left for the cloud, of classes that are kept."""
        headers = [parse_header(frame) for topic, frame in self.hand.published if parse(topic).branch == "e"]
        return [one.session_id for one in headers if one.type == FrameType.SESSION]
