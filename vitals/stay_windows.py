"""The windows of one stay: what is added to them and what closes, as events. Only charts depend on them."""

from collections.abc import Iterable
from typing import Any, Final, Self

from vitals.messages import Event, WindowClosed, WindowOutdated
from vitals.plan import MEASURED, MonitoringPlan
from vitals.signs import VitalSign
from vitals.windows import EventTimeWindows

_MEASURED: Final = {sign: sign.value for sign in MEASURED}


class StayWindows:
    """Windows of the signs that a device measures, over all sources."""

    __slots__ = ("_stay_id", "_windows")

    def __init__(self, stay_id: str, plan: MonitoringPlan) -> None:
        self._stay_id = stay_id
        self._windows = EventTimeWindows(plan.window_ms, lateness_ms=plan.lateness_ms)

    def add(self, values: Iterable[tuple[VitalSign, float]], at_ms: int, events: list[Event]) -> None:
        """Usable values of one moment, in order or late."""
        windows = self._windows
        for sign, value in values:
            name = _MEASURED.get(sign)
            if name is None:
                continue
            closed_starts = windows.add(name, at_ms, value)
            if closed_starts:  # hardly ever
                events.extend(
                    WindowOutdated(stay_id=self._stay_id, sign=name, start_ms=start_ms, width_ms=windows.width_ms)
                    for start_ms in closed_starts
                )

    def close(self, at_ms: int, events: list[Event]) -> None:
        """Event time has reached `at_ms`."""
        events.extend(
            WindowClosed(
                stay_id=self._stay_id,
                sign=one.sign,
                start_ms=one.start_ms,
                width_ms=one.width_ms,
                count=one.count,
                mean=one.mean,
                minimum=one.minimum,
                maximum=one.maximum,
            )
            for one in self._windows.advance(at_ms)
        )

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self._windows.shift(by_ms)

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode."""
        return self._windows.to_state()

    @classmethod
    def from_state(cls, stay_id: str, plan: MonitoringPlan, state: list[Any]) -> Self:
        """The windows in the state of `to_state`."""
        windows = cls.__new__(cls)
        windows._stay_id = stay_id
        windows._windows = EventTimeWindows.from_state(state, plan.window_ms, lateness_ms=plan.lateness_ms)
        return windows
