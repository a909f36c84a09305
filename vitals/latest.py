"""The newest usable value of each sign of one patient, and NEWS2 of these values."""

from typing import Any, Final, NamedTuple

from vitals.news2 import News2
from vitals.news2 import score as score_news2
from vitals.plan import MonitoringPlan
from vitals.signs import INDEX, SIGNS, SPEC, VitalSign, mask_of

ALL_SIGNS: Final = mask_of(*SPEC)


class SignValue(NamedTuple):
    """A usable value of a sign and its event time."""

    value: float
    at_ms: int


class LatestValues:
    """The newest usable value of each sign, however old it is.

    Attributes:
        by_sign: the values. A sign that was never measured is absent.
    """

    __slots__ = ("_plan", "_valid_ms", "by_sign")

    def __init__(self, plan: MonitoringPlan) -> None:
        self._plan = plan
        self._valid_ms = plan.validity
        self.by_sign: dict[VitalSign, SignValue] = {}

    def inputs(self, now_ms: int) -> dict[VitalSign, tuple[float | None, int | None]]:
        """Every value with its age in ms, as the scores expect them."""
        return {sign: (latest.value, now_ms - latest.at_ms) for sign, latest in self.by_sign.items()}

    def missing(self, now_ms: int) -> int:
        """Mask of the signs without a value that may still enter a score."""
        mask = ALL_SIGNS
        for sign, latest in self.by_sign.items():
            if now_ms - latest.at_ms <= self._valid_ms[sign]:
                mask ^= 1 << INDEX[sign]
        return mask

    def news2(self, now_ms: int) -> News2:
        """NEWS2 of the values that are still valid."""
        return score_news2(self.inputs(now_ms), spo2_scale=self._plan.spo2_scale, valid_ms=self._valid_ms)

    def news2_of_any_age(self, score: News2) -> int:
        """Points of NEWS2 if the signs that `score` misses still had their last value, however old.

        A patient whose data stopped is not presumed to be better.
        """
        if not any(sign in self.by_sign for sign in score.missing):
            return score.at_least
        last = {sign: (latest.value, 0) for sign, latest in self.by_sign.items()}
        return score_news2(last, spo2_scale=self._plan.spo2_scale).at_least

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self.by_sign = {sign: SignValue(value, at_ms + by_ms) for sign, (value, at_ms) in self.by_sign.items()}

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode."""
        return [[INDEX[sign], *latest] for sign, latest in self.by_sign.items()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the values with those of `to_state`."""
        self.by_sign = {SIGNS[index].sign: SignValue(value, at_ms) for index, value, at_ms in state}
