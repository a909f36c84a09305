"""An edge follows the bindings that it was told of: whatever becomes of them, see `tests.vitals.binding_histories`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from edge.config import OutboxConfig
from tests.edge.benches import HOUR, Bench
from tests.vitals.binding_histories import play
from vitals.messages import AlarmChanged
from wire.codec import VitalsV1, encode
from wire.envelope import FrameClass
from wire.identity import BindingRecord, InMemoryDirectory
from wire.sessions import SendSession

HISTORIES = 24


class Edge:
    """An agent on a bench; what it announces is what it keeps for the data centre."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder, outbox=OutboxConfig(budget_mb=64, commit_ms=0))
        for one in self.bench.site.bindings:
            self._directory.drop(one.binding_id)
            self.bench.site.ingest.directory.drop(one.binding_id)
        self.announced: list[AlarmChanged] = []
        self._listen()
        self._sessions: dict[str, SendSession] = {}
        self._last: dict[str, tuple[int, bytes]] = {}
        self._count = 0

    @property
    def _directory(self) -> InMemoryDirectory:
        return self.bench.site.edges[0].directory

    def now_ms(self) -> int:
        return self.bench.clock.now_ms()

    def advance(self, by_ms: int) -> None:
        self.bench.pass_time(max(by_ms, 1_000))

    def bind(self, bed: int) -> str:
        self._count += 1
        found = BindingRecord(
            binding_id=self._count.to_bytes(16, "big"),
            patient=f"P{self._count}",
            bed=str(bed),
            wearable_id=self.bench.site.wearables[bed % 2].me.device_id,
            edge_id=self.bench.site.edges[0].me.device_id,
            valid_from_ms=self.now_ms(),
        )
        self._put(found)
        return found.binding_id.hex()

    def unbind(self, binding_id: str) -> None:
        before = self._directory.binding(bytes.fromhex(binding_id))
        assert before is not None
        fields = {name: getattr(before, name) for name in before.__struct_fields__}
        self._put(BindingRecord(**fields | {"valid_to_ms": self.now_ms()}))

    def send(self, binding_id: str, at_ms: int, signs: dict[str, float]) -> None:
        binding = self._directory.binding(bytes.fromhex(binding_id))
        assert binding is not None
        patient = int(binding.bed) % 2
        if binding_id not in self._sessions:
            self._sessions[binding_id] = self._begin(binding, patient)
        vitals = VitalsV1(t_ms=at_ms, t_quality=2, uptime_ms=HOUR + at_ms - binding.valid_from_ms, **signs)
        frame = self._sessions[binding_id].seal(encode(vitals))[1]
        self._last[binding_id] = (patient, frame)
        self.bench.turn(frame, patient=patient)

    def send_again(self, binding_id: str) -> None:
        if binding_id in self._last:
            patient, frame = self._last[binding_id]
            self.bench.turn(frame, patient=patient)

    def restart(self) -> None:
        self.bench.pass_time()
        self.bench.crash()
        self._listen()
        self.bench.turn()

    def open_alarms(self) -> Iterable[AlarmChanged]:
        return self.bench.agent._patients.open_alarms()

    def has_timer(self, binding_id: str) -> bool:
        monitor = self.bench.agent._patients._pipeline._patients.monitor(binding_id)
        return monitor is not None and monitor.timer_at() is not None

    def _put(self, binding: BindingRecord) -> None:
        self._directory.put(binding)
        self.bench.site.ingest.directory.put(binding)

    def _begin(self, binding: BindingRecord, patient: int) -> SendSession:
        provision = self.bench.site.wearables[patient]
        assert provision.recipient is not None
        found = SendSession.open(
            provision.me,
            provision.recipient,
            binding_id=binding.binding_id,
            frame_class=FrameClass.VITALS,
            number=binding.valid_from_ms + 1,
            previous=bytes(16),
            now_ms=binding.valid_from_ms,
        )
        self.bench.turn(found.frame, patient=patient)
        return found

    def _listen(self) -> None:
        """Follow what the agent keeps for the data centre, from its start on."""
        intake = self.bench.agent._intake
        keep = intake.keep_alarms

        def keep_and_note(alarms: Sequence[AlarmChanged], now_ms: int) -> None:
            self.announced += alarms
            keep(alarms, now_ms)

        intake.keep_alarms = keep_and_note  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(0, HISTORIES, 6))
def test_who_is_bound_is_watched_and_who_is_not_is_left_alone(tmp_path: Path, seed: int) -> None:
    for one in range(seed, seed + 6):
        folder = tmp_path / str(one)
        folder.mkdir()
        edge = Edge(folder)

        assert play(edge, one) == []

        edge.bench.agent.close()
