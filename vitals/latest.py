"""The newest usable value of each sign of one patient, and NEWS2 of these values."""

from typing import Any, Final, NamedTuple

from vitals.measuring_interval import ALLOWED_LATE_MS, TWELVE_HOURLY, MeasuringInterval
from vitals.news2 import News2, with_due
from vitals.news2 import score as score_news2
from vitals.plan import MonitoringPlan
from vitals.signs import INDEX, SIGNS, SPEC, VitalSign, mask_of

ALL_SIGNS: Final = mask_of(*SPEC)
_ALLOWED_LATE_MS: Final = tuple(ALLOWED_LATE_MS.items())


class SignValue(NamedTuple):
    """A usable value of a sign and its event time."""

    value: float
    at_ms: int


class LatestValues:
    """The newest usable value of each sign, however old it is.

    Attributes:
        by_sign: the values. A sign that was never measured is absent.
        interval: how often a set of observations is due.
    """

    __slots__ = ("_interval_ms", "_last", "_of_any_age_last", "_plan", "_valid_ms", "by_sign", "interval")

    def __init__(self, plan: MonitoringPlan) -> None:
        self._plan = plan
        self._valid_ms = plan.validity
        self.by_sign: dict[VitalSign, SignValue] = {}
        self.interval = MeasuringInterval()
        # The last score that was worked out, and what belongs to it.
        self._last: News2 | None = None
        self._of_any_age_last: News2 | None = None
        self._interval_ms = TWELVE_HOURLY

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

    def news2(self, now_ms: int) -> News2 | None:
        """NEWS2 of the values that are still valid. One that is older than the risk allows makes it incomplete.

        None for a patient who is no adult or pregnant: there is no NEWS2 for them.
        """
        if not self._plan.group.has_adult_scores:
            return None
        found = score_news2(self.inputs(now_ms), spo2_scale=self._plan.spo2_scale, valid_ms=self._valid_ms)
        # The risk is that of all values, however old: an old value that scores keeps its own interval in force, and
        # what becomes due never changes what is due.
        of_any_age = self._of_any_age(found)
        interval_ms = self.interval.at(of_any_age, now_ms)
        if interval_ms < TWELVE_HOURLY:
            due = self._due(found, now_ms, interval_ms)
            if due:
                found = with_due(found, due, interval_ms)
        self._last, self._of_any_age_last, self._interval_ms = found, of_any_age, interval_ms
        return found

    def note(self, score: News2, at_ms: int) -> int:
        """The patient was seen at a score, that of `news2`: its risk decides what is due.

        Returns how often a set of observations is due, in ms.
        """
        self.interval.note(self.news2_of_any_age(score), at_ms)
        return self._interval_ms

    def news2_of_any_age(self, score: News2) -> News2:
        """NEWS2 if the signs that `score` misses still had their last value, however old.

        A patient whose data stopped is not presumed to be better.
        """
        last = self._of_any_age_last
        return last if last is not None and self._last is score else self._of_any_age(score)

    def _of_any_age(self, score: News2) -> News2:
        if not score.missing or not any(sign in self.by_sign for sign in score.missing):
            return score
        last = {sign: (latest.value, 0) for sign, latest in self.by_sign.items()}
        return score_news2(last, spo2_scale=self._plan.spo2_scale)

    def _due(self, score: News2, now_ms: int, interval_ms: int) -> tuple[VitalSign, ...]:
        due: tuple[VitalSign, ...] = ()
        for sign, late_ms in _ALLOWED_LATE_MS:
            latest = self.by_sign.get(sign)
            if latest is not None and now_ms - latest.at_ms > interval_ms + late_ms and sign not in score.missing:
                due = (*due, sign)
        return due

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self.by_sign = {sign: SignValue(value, at_ms + by_ms) for sign, (value, at_ms) in self.by_sign.items()}

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode."""
        return [[INDEX[sign], *latest] for sign, latest in self.by_sign.items()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the values with those of `to_state`."""
        self.by_sign = {SIGNS[index].sign: SignValue(value, at_ms) for index, value, at_ms in state}
