"""A site for tests: an edge that seals frames, and an embedded engine with a store in a folder that opens them."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from runtime.clock import ManualClock
from simulators.made_up import demo_site
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from vitals.messages import AlarmChanged
from vitals.plan import MonitoringPlan
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, encode
from wire.envelope import Ack, FrameClass, Stage, open_ack
from wire.identity import Provision
from wire.mqtt import Inbound
from wire.receiver import RateLimits
from wire.sessions import SendSession
from wire.topics import e_up

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


class Site:
    """One edge, two patients, and an embedded engine that can be restarted with its store."""

    def __init__(self, folder: Path, *, max_pages: int | None = None) -> None:
        self.demo = demo_site(wearables=2, edges=1, now_ms=NOW)
        self.folder = folder
        self.clock = ManualClock(NOW)
        self.told: list[bytes] = []
        self.alarms: list[AlarmChanged] = []
        self._sessions: dict[tuple[int, int], SendSession] = {}
        self._mid = 0
        self.max_pages = max_pages
        self.start()

    @property
    def edge(self) -> Provision:
        return self.demo.edges[0]

    def start(self) -> None:
        """A new process on the same file."""
        self.store = Store(self.folder / "store.sqlite", max_pages=self.max_pages)
        self.stream = EmbeddedStream(
            self.demo.ingest.me,
            self.demo.ingest.directory,
            self.store,
            lambda _: MonitoringPlan(),
            self.clock,
            limits=UNLIMITED,
            ack_interval_ms=0,
            on_stored=self.told.extend,
            on_alarm=self.alarms.append,
        )

    def restart(self) -> None:
        self.store.close()
        self.start()

    # What the edge sends

    def session(self, patient: int = 0, frame_class: int = FrameClass.VITALS) -> SendSession:
        place = (patient, int(frame_class))
        if place not in self._sessions:
            assert self.edge.recipient is not None
            self._sessions[place] = SendSession.open(
                self.edge.me,
                self.edge.recipient,
                binding_id=self.demo.bindings[patient].binding_id,
                frame_class=frame_class,
                number=NOW,
                previous=bytes(16),
                now_ms=NOW,
                entropy=random.Random(f"{place}").randbytes,
            )
        return self._sessions[place]

    def message(self, after_ms: int, *, patient: int = 0, held_up_ms: int = 0, **changed: Any) -> EdgeVitalsV1:
        """A reading as an edge passes it on; `changed` are values of the wearable."""
        at_ms = NOW + after_ms
        vitals = VitalsV1(t_ms=at_ms, t_quality=2, uptime_ms=after_ms + HOUR, **{**WELL, **changed})
        return EdgeVitalsV1(
            origin=OriginV1(
                wearable_id=self.demo.bindings[patient].wearable_id,
                session_id=bytes(15) + bytes([patient]),
                counter=after_ms // 10,
            ),
            vitals=vitals,
            at_ms=at_ms,
            received_ms=at_ms + held_up_ms,
            sensor_flags=0,
            unusable=0,
        )

    def sealed(self, message: EdgeVitalsV1, *, patient: int = 0) -> bytes:
        return self.session(patient).seal(encode(message))[1]

    def inbound(self, frame: bytes) -> Inbound:
        self._mid += 1
        frame_class = frame[5] if len(frame) > 5 and frame[5] in range(1, 5) else 1
        return Inbound(e_up(self.edge.me.device_id, frame_class), frame, 1, self._mid)

    def begin(self, *patients: int) -> None:
        """The sessions are known."""
        for patient in patients or (0, 1):
            assert self.accept(self.session(patient).frame)
        self.acks()

    def accept(self, *frames: bytes) -> bool:
        return self.stream.accept([self.inbound(frame) for frame in frames])

    def send(self, *messages: EdgeVitalsV1, patient: int = 0) -> bool:
        """Time goes on to the arrival of the last, and the stream accepts them in one batch."""
        self.clock.set_wall(max(self.clock.now_ms(), messages[-1].received_ms))
        return self.accept(*(self.sealed(message, patient=patient) for message in messages))

    # What comes back

    def acks(self) -> list[Ack]:
        key = self.demo.ingest.me.signing_key.public_key()
        return [open_ack(owed.frame, key) for owed in self.stream.owed()]

    def acknowledged(self, stage: Stage) -> int:
        """How many counters the acknowledgements that are due cover at this stage."""
        found = self.acks()
        return sum(high - low + 1 for ack in found if ack.stage is stage for low, high in ack.ranges)

    def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        return self.store.query(query)


def worse(message: EdgeVitalsV1, **changed: Any) -> EdgeVitalsV1:
    """The same message with other fields of the edge."""
    return replace(message, **changed)
