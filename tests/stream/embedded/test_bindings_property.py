"""The embedded engine follows bindings, whatever becomes of them; see `tests.vitals.binding_histories`."""

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.stream.receiving_site import HOUR, Site
from tests.vitals.binding_histories import play
from vitals.messages import AlarmChanged
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, encode
from wire.envelope import FrameClass
from wire.identity import BindingRecord
from wire.sessions import SendSession

HISTORIES = 24


class Engine:
    """An embedded engine whose directory says who is bound; frames come from one edge, sealed."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self._directory = self.site.demo.ingest.directory
        for one in self.site.demo.bindings:
            self._directory.drop(one.binding_id)
        self._sessions: dict[str, SendSession] = {}
        self._last: dict[str, bytes] = {}
        self._count = 0

    @property
    def announced(self) -> list[AlarmChanged]:
        return self.site.alarms

    def now_ms(self) -> int:
        return self.site.clock.now_ms()

    def advance(self, by_ms: int) -> None:
        self.site.clock.advance(max(by_ms, 1_000))  # it looks at its bindings once a second
        assert self.site.stream.accept([])

    def bind(self, bed: int) -> str:
        self._count += 1
        found = BindingRecord(
            binding_id=self._count.to_bytes(16, "big"),
            patient=f"P{self._count}",
            bed=str(bed),
            wearable_id=self.site.demo.wearables[bed % 2].me.device_id,
            edge_id=self.site.edge.me.device_id,
            valid_from_ms=self.now_ms(),
        )
        self._directory.put(found)
        return found.binding_id.hex()

    def unbind(self, binding_id: str) -> None:
        before = self._directory.binding(bytes.fromhex(binding_id))
        assert before is not None
        fields = {name: getattr(before, name) for name in before.__struct_fields__}
        self._directory.put(BindingRecord(**fields | {"valid_to_ms": self.now_ms()}))

    def send(self, binding_id: str, at_ms: int, signs: dict[str, float]) -> None:
        self._count += 1
        binding = self._directory.binding(bytes.fromhex(binding_id))
        assert binding is not None
        if binding_id not in self._sessions:
            self._sessions[binding_id] = self._begin(binding)
        message = EdgeVitalsV1(
            origin=OriginV1(wearable_id=binding.wearable_id, session_id=binding.binding_id, counter=self._count),
            vitals=VitalsV1(t_ms=at_ms, t_quality=2, uptime_ms=HOUR, **signs),
            at_ms=at_ms,
            received_ms=self.now_ms(),
            sensor_flags=0,
            unusable=0,
        )
        frame = self._last[binding_id] = self._sessions[binding_id].seal(encode(message))[1]
        assert self.site.accept(frame)

    def send_again(self, binding_id: str) -> None:
        if binding_id in self._last:
            assert self.site.accept(self._last[binding_id])

    def restart(self) -> None:
        self.site.restart()

    def open_alarms(self) -> Iterable[AlarmChanged]:
        return self.site.stream._engine.open_alarms()

    def has_timer(self, binding_id: str) -> bool:
        state = self.site.store.state(binding_id)
        return PatientMonitor.restore(binding_id, state, MonitoringPlan()).timer_at() is not None

    def _begin(self, binding: BindingRecord) -> SendSession:
        recipient = self.site.edge.recipient
        assert recipient is not None
        found = SendSession.open(
            self.site.edge.me,
            recipient,
            binding_id=binding.binding_id,
            frame_class=FrameClass.VITALS,
            number=binding.valid_from_ms + 1,
            previous=bytes(16),
            now_ms=binding.valid_from_ms,
            entropy=random.Random(binding.binding_id.hex()).randbytes,
        )
        assert self.site.accept(found.frame)
        return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(0, HISTORIES, 6))
def test_who_is_bound_is_watched_and_who_is_not_is_left_alone(tmp_path: Path, seed: int) -> None:
    for one in range(seed, seed + 6):
        folder = tmp_path / str(one)
        folder.mkdir()
        engine = Engine(folder)

        assert play(engine, one) == []

        engine.site.store.close()
