"""Conditions that an order has made: several signs at once, and trends.

Kept is only what an order asks for: of each sign with a trend, means over as many short times as the trend is made of.
A condition with a missing part cannot be judged; an alarm that is open stays open.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final, NamedTuple

from vitals import news2, scores
from vitals.conditions import Conditions, JudgingContext
from vitals.latest import LatestValues
from vitals.plan import MonitoringPlan
from vitals.risk import duration
from vitals.rules import Rule, Term, Trend
from vitals.signs import INDEX, SPEC, VitalSign, mask_of

_MINUTE: Final = 60_000
_THOUSANDTHS: Final = 1_000
_PARTS: Final = 60
"""A trend is kept in so many means at most, besides those of its last minutes."""
_COMPARED: Final = 5
"""So many means are compared with as many before: one outlier is no trend."""
_NEEDED: Final = 3
"""Of these so many must have a value, where the sign comes often enough for it."""

_SIGNS_OF: Final = {
    "qsofa": mask_of(VitalSign.RESPIRATORY_RATE, VitalSign.SYSTOLIC_BP, VitalSign.CONSCIOUSNESS),
    "shock_index": mask_of(VitalSign.HEART_RATE, VitalSign.SYSTOLIC_BP),
    "news2": mask_of(*(sign for sign in SPEC if sign is not VitalSign.DIASTOLIC_BP)),
    **{sign.value: 1 << INDEX[sign] for sign in SPEC},
}


class _Part(NamedTuple):
    """The value of one term; None: missing."""

    value: float | None
    text: str = ""


class _Means:
    """Means of one sign over short times of equal length, as many as a trend needs."""

    __slots__ = ("_needed", "_over_ms", "_width_ms", "_window_ms", "means")

    def __init__(self, trend: Trend, cadence_ms: int) -> None:
        self._over_ms = trend.over_ms
        minutes = -(-trend.over_ms // (_PARTS * _MINUTE))
        self._width_ms = minutes * _MINUTE
        self._window_ms = self._width_ms * max(_COMPARED, -(-cadence_ms // self._width_ms))
        self._needed = _NEEDED if cadence_ms <= self._width_ms else 1
        self.means: list[list[int]] = []  # start, number, sum in thousandths; oldest first

    def add(self, at_ms: int, value: float) -> None:
        start_ms, steps = at_ms - at_ms % self._width_ms, round(value * _THOUSANDTHS)
        place = len(self.means)
        while place and self.means[place - 1][0] > start_ms:  # of several devices each comes in its own order
            place -= 1
        if place and self.means[place - 1][0] == start_ms:
            self.means[place - 1][1] += 1
            self.means[place - 1][2] += steps
            return
        self.means.insert(place, [start_ms, 1, steps])
        oldest_ms = self.means[-1][0] - self._over_ms - self._window_ms
        while self.means[0][0] < oldest_ms:
            del self.means[0]

    def compared(self) -> tuple[float, float] | None:
        """The mean of the last minutes and that of those so long before; None: one of them has too few values."""
        if not self.means:
            return None
        end_ms = self.means[-1][0] + self._width_ms
        now, then = self._mean(end_ms), self._mean(end_ms - self._over_ms)
        return None if now is None or then is None else (now, then)

    def to_state(self) -> list[Any]:
        """Where they begin, and each as steps of the width from there, number and sum."""
        first_ms = self.means[0][0]
        return [first_ms, [[(at_ms - first_ms) // self._width_ms, *one] for at_ms, *one in self.means]]

    def load_state(self, first_ms: int, means: list[list[int]]) -> None:
        self.means = [[first_ms + step * self._width_ms, *one] for step, *one in means]

    def shift(self, by_ms: int) -> None:
        whole_ms = by_ms // self._width_ms * self._width_ms
        for one in self.means:
            one[0] += whole_ms

    def _mean(self, end_ms: int) -> float | None:
        within = [one for one in self.means if end_ms - self._window_ms <= one[0] < end_ms]
        if len(within) < self._needed:
            return None
        return sum(one[2] for one in within) / sum(one[1] for one in within) / _THOUSANDTHS


_Place = tuple[str, int]
"""Sign and time of a trend."""


class OrderedConditions:
    """Judges the combined conditions and the trends of one patient.

    Args:
        plan: what was ordered.
        latest: the newest value of each sign, with those of the reading that is judged.
        conditions: where values are compared with limits.

    Attributes:
        judged_by: version of the orders by which the patient was judged last, and from when on they say so.
    """

    __slots__ = ("_combined", "_conditions", "_latest", "_means", "_plan", "_stored", "_trends", "judged_by")

    def __init__(self, plan: MonitoringPlan, latest: LatestValues, conditions: Conditions) -> None:
        self._plan = plan
        self._latest = latest
        self._conditions = conditions
        self._combined = plan.rules_by_quantity.get("combined", ())
        self._trends = plan.rules_by_quantity.get("trend", ())
        self._means = {
            _place(rule.trend): _Means(rule.trend, plan.cadence(VitalSign(rule.trend.sign)))
            for rule in self._trends
            if rule.trend is not None
        }
        self._stored: list[list[Any]] = []  # of trends that this plan does not have
        self.judged_by = (plan.orders_version, plan.orders_from_ms)

    @property
    def is_judged_by_plan(self) -> bool:
        """Whether the patient was judged by the orders of the plan, and by no others since."""
        return self.judged_by == (self._plan.orders_version, self._plan.orders_from_ms)

    def accept_plan(self) -> None:
        """From here on the patient is judged by the plan: what only other orders asked for is forgotten."""
        self.judged_by = (self._plan.orders_version, self._plan.orders_from_ms)
        self._stored = []

    def learn(self, values: Iterable[tuple[VitalSign, float]], at_ms: int) -> None:
        """Usable values that came in order."""
        if not self._means:
            return
        by_sign = dict(values)
        for (sign, _), means in self._means.items():
            value = by_sign.get(VitalSign(sign))
            if value is not None:
                means.add(at_ms, value)

    def judge(self, score: news2.News2 | None, context: JudgingContext) -> None:
        """Judge what an order has made of the values of a reading."""
        for rule in self._combined:
            self._judge_combined(rule, score, context)
        for rule in self._trends:
            if rule.trend is not None:
                self._judge_trend(rule, rule.trend, context)

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it, means by whole steps."""
        for means in self._means.values():
            means.shift(by_ms)
        for stored in self._stored:
            stored[2] += by_ms

    def to_state(self) -> list[Any]:
        """What msgspec can encode; empty for a patient without orders."""
        kept = [[*place, *means.to_state()] for place, means in self._means.items() if means.means] + self._stored
        return [*self.judged_by, kept] if any(self.judged_by) or kept else []

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        version, from_ms, kept = state or (0, 0, [])
        self.judged_by = (version, from_ms)
        self._stored = []
        for sign, over_ms, *stored in kept:
            means = self._means.get((sign, over_ms))
            if means is None:
                self._stored.append([sign, over_ms, *stored])
            else:
                means.load_state(*stored)

    def _judge_combined(self, rule: Rule, score: news2.News2 | None, context: JudgingContext) -> None:
        causes = 0
        for term in rule.all_of:
            causes |= _SIGNS_OF[term.quantity]
        if not self._is_measured_now(causes, context.at_ms):
            return
        parts = [(term, self._part(term, score, context)) for term in rule.all_of]
        if any(part.value is None for _, part in parts):
            self._mark_unknown(rule, context)
            return
        value = min(_grade(term, part.value) for term, part in parts if part.value is not None)
        if score is not None and any(term.quantity == "news2" for term in rule.all_of):
            # As of NEWS2 itself: a sign that scores nothing causes nothing.
            without = sum(_SIGNS_OF[term.quantity] for term in rule.all_of if term.quantity != "news2")
            causes = without | sum(_SIGNS_OF[part.sign] for part in score.parts if part.points)
        explain = partial(_combined_text, rule, parts)
        self._conditions.observe(rule, value, context, explain, causes=causes & ~context.missing)

    def _part(self, term: Term, score: news2.News2 | None, context: JudgingContext) -> _Part:
        if term.quantity == "news2":
            return _Part(None) if score is None else _of_points(term, "NEWS2", score.at_least, score.total is None)
        if term.quantity == "qsofa":
            found = scores.qsofa(self._latest.inputs(context.at_ms), valid_ms=self._plan.validity)
            return _of_points(term, "qSOFA", found.at_least, found.points is None)
        if term.quantity == "shock_index":
            index = scores.shock_index(self._latest.inputs(context.at_ms), valid_ms=self._plan.validity).value
            return _Part(index, "" if index is None else f"shock index {index:.2f}")
        sign = VitalSign(term.quantity)
        latest = self._latest.by_sign.get(sign)
        if latest is None or context.missing >> INDEX[sign] & 1:
            return _Part(None)
        return _Part(latest.value, scores.shown(sign, latest.value))

    def _judge_trend(self, rule: Rule, trend: Trend, context: JudgingContext) -> None:
        sign = VitalSign(trend.sign)
        bit = 1 << INDEX[sign]
        if not self._is_measured_now(bit, context.at_ms):
            return
        compared = self._means[_place(trend)].compared()
        change = None if compared is None else _change(trend, *compared)
        if compared is None or change is None:
            self._mark_unknown(rule, context)
            return
        explain = partial(_trend_text, rule, trend, *compared, change)
        self._conditions.observe(rule, change, context, explain, causes=bit)

    def _is_measured_now(self, signs: int, at_ms: int) -> bool:
        """Whether a reading has brought one of the signs: a value is judged where it was measured, not again."""
        latest = self._latest.by_sign
        return any(one.at_ms == at_ms for sign, one in latest.items() if signs >> INDEX[sign] & 1)

    def _mark_unknown(self, rule: Rule, context: JudgingContext) -> None:
        if self._conditions.book.has(rule.rule_id):
            self._conditions.mark_unknown(rule, context.at_ms, context.events)


def _place(trend: Trend) -> _Place:
    return trend.sign, trend.over_ms


def _of_points(term: Term, name: str, at_least: int, is_bound: bool) -> _Part:
    if is_bound and term.comparison == "<=":
        return _Part(None)  # what is missing may add points
    return _Part(float(at_least), f"{name} {'>= ' if is_bound else ''}{at_least}")


def _grade(term: Term, value: float) -> float:
    """1: true; 0.5: inside the limit, and not by its margin; 0: well inside."""
    if (value >= term.threshold) if term.comparison == ">=" else (value <= term.threshold):
        return 1.0
    inside = term.threshold - value if term.comparison == ">=" else value - term.threshold
    return 0.0 if inside >= term.clear_margin else 0.5


def _change(trend: Trend, now: float, then: float) -> float | None:
    """By how much a sign has changed, in the direction of the trend."""
    change = then - now if trend.falls else now - then
    if not trend.in_percent:
        return change
    return change / then * 100 if then > 0 else None


def _combined_text(rule: Rule, parts: list[tuple[Term, _Part]]) -> str:
    said = (f"{part.text} (limit {term.comparison} {_shown_limit(term)})" for term, part in parts)
    return f"{rule.label}: {' and '.join(said)}"


def _shown_limit(term: Term) -> str:
    is_letter = term.quantity == VitalSign.CONSCIOUSNESS
    return scores.shown(VitalSign.CONSCIOUSNESS, term.threshold) if is_letter else f"{term.threshold:g}"


def _trend_text(rule: Rule, trend: Trend, now: float, then: float, change: float) -> str:
    spec = SPEC[VitalSign(trend.sign)]
    unit = "%" if trend.in_percent else spec.unit
    crossed = rule.crossed(change) or rule.limits[0]
    by = f"{change:.0f}" if trend.in_percent else f"{change:.{spec.decimals}f}"
    how = "fell" if trend.falls else "rose"
    return (
        f"{rule.label}: {spec.abbreviation} {how} by {by} {unit} in {duration(trend.over_ms)}, "
        f"from {then:.{spec.decimals}f} to {now:.{spec.decimals}f}; limit {crossed.threshold:g} {unit}"
    )
