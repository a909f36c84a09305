"""Whatever becomes of bindings: who is bound is never silently unheard, who is not is never called for."""

from collections.abc import Iterable

import pytest

from tests.vitals.binding_histories import Place, play
from vitals.messages import AlarmChanged, BindingPeriod, Message, Reading, Tick
from vitals.patients import Patients
from vitals.plan import MonitoringPlan

START = 1_767_600_000_000
HISTORIES = 300


class Kernel:
    """The monitors of a place, told of bindings as the registry has them, and told again after a restart."""

    def __init__(self) -> None:
        self.announced: list[AlarmChanged] = []
        self._now_ms = START
        self._states: dict[str, bytes] = {}
        self._patients = Patients(lambda _: MonitoringPlan())
        self._periods: dict[str, tuple[int, int | None]] = {}
        self._last: dict[str, Reading] = {}
        self._count = 0

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, by_ms: int) -> None:
        self._now_ms += by_ms
        self._apply(Tick(now_ms=self._now_ms))

    def bind(self, bed: int) -> str:
        stay_id = f"{len(self._periods):032x}"
        self._periods[stay_id] = (self._now_ms, None)
        self._tell(stay_id)
        return stay_id

    def unbind(self, stay_id: str) -> None:
        self._periods[stay_id] = (self._periods[stay_id][0], self._now_ms)
        self._tell(stay_id)

    def send(self, stay_id: str, at_ms: int, signs: dict[str, float]) -> None:
        self._count += 1
        self._last[stay_id] = Reading(
            stay_id=stay_id,
            reading_id=self._count.to_bytes(16, "big"),
            session_id=bytes.fromhex(stay_id),
            counter=self._count,
            at_ms=at_ms,
            received_ms=self._now_ms,
            **signs,
        )
        self._apply(self._last[stay_id])

    def send_again(self, stay_id: str) -> None:
        if stay_id in self._last:
            self._apply(self._last[stay_id])

    def restart(self) -> None:
        self._states |= self._patients.drain().snapshots
        self._patients = Patients(lambda _: MonitoringPlan(), self._states.items())
        for stay_id in self._periods:
            self._tell(stay_id)

    def open_alarms(self) -> Iterable[AlarmChanged]:
        return self._patients.open_alarms()

    def has_timer(self, stay_id: str) -> bool:
        monitor = self._patients.monitor(stay_id)
        return monitor is not None and monitor.timer_at() is not None

    def _tell(self, stay_id: str) -> None:
        from_ms, to_ms = self._periods[stay_id]
        self._apply(BindingPeriod(stay_id=stay_id, from_ms=from_ms, to_ms=to_ms, heard_ms=self._now_ms))

    def _apply(self, message: Message) -> None:
        events = self._patients.apply(message)
        self.announced += [event for event in events if isinstance(event, AlarmChanged)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(0, HISTORIES, 25))
def test_who_is_bound_is_watched_and_who_is_not_is_left_alone(seed: int) -> None:
    for one in range(seed, seed + 25):
        place: Place = Kernel()
        assert play(place, one) == []
