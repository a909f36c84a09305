"""The values of one stay: the newest of each sign, what people entered, windows, and how far event time has come."""

from collections.abc import Iterable

from vitals.latest import LatestValues, SignValue
from vitals.observations import KeptObservations
from vitals.plan import MonitoringPlan
from vitals.signs import VitalSign
from vitals.stay_windows import StayWindows

Values = list[tuple[VitalSign, float]]
"""Usable values of one moment."""


class StayValues:
    """What was measured and entered.

    Attributes:
        latest: the newest value of each sign.
        observations: what people entered.
        windows: sums by the minute.
        frontier_ms: event time of the newest message; None: there was none.
    """

    __slots__ = ("frontier_ms", "latest", "observations", "windows")

    def __init__(self, plan: MonitoringPlan, windows: StayWindows) -> None:
        self.latest = LatestValues(plan)
        self.observations = KeptObservations()
        self.windows = windows
        self.frontier_ms: int | None = None

    def is_late(self, at_ms: int) -> bool:
        """Whether something newer is known already."""
        return self.frontier_ms is not None and at_ms < self.frontier_ms

    def put_late(self, values: Iterable[tuple[VitalSign, float]], at_ms: int, source: str) -> Values:
        """Values that came out of the order of their device: those that count from now on.

        A cuff's pressure that was held up for some seconds is the newest pressure there is.
        """
        latest = self.latest
        return [
            (sign, value)
            for sign, value in values
            if (sign not in latest.by_sign or latest.by_sign[sign].at_ms < at_ms)
            and latest.put(sign, SignValue(value, at_ms, source))
        ]

    def put_entered(self, observation_id: bytes, values: Values, at_ms: int, source: str) -> Values:
        """Values that a person observed: those that count from now on."""
        self.observations.keep(observation_id, at_ms, source, values)
        return [(sign, value) for sign, value in values if self.latest.put(sign, SignValue(value, at_ms, source))]

    def take_back(self, observation_id: bytes) -> bool:
        """The values of an observation are corrected; False if they are not known."""
        wrong = self.observations.take_back(observation_id)
        if wrong is None:
            return False
        at_ms, source, values = wrong
        for sign, value in values:
            before = self.observations.newest(sign)
            instead = None if before is None else SignValue(*before)
            self.latest.withdraw(sign, SignValue(value, at_ms, source), instead)
        return True

    def shift(self, by_ms: int) -> None:
        """Move every event time."""
        self.windows.shift(by_ms)
        self.latest.shift(by_ms)
        self.observations.shift(by_ms)
        if self.frontier_ms is not None:
            self.frontier_ms += by_ms
