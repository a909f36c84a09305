"""The last score of each model for one patient, and the alarms that a model may raise.

A model raises alarms of its own; it never touches those of the rules. Where several edges hear a stay, each scores what
it hears: of each the newest score counts as long as it is current, and of these the highest. So an edge that hears less
takes nothing back, and two that differ do not make an alarm come and go.
"""

from functools import partial
from typing import Any, Final

import msgspec

from vitals.conditions import Conditions, JudgingContext
from vitals.latest import LatestValues
from vitals.messages import Event, ModelScore, ModelScored
from vitals.plan import MonitoringPlan
from vitals.risk import probability_of
from vitals.rules import Rule
from vitals.view import ModelView

SCORE_VALID_MS: Final = 15 * 60_000
"""A model's score that is older is not shown as current."""

_HOUR_MS: Final = 3_600_000


class _LastScore(msgspec.Struct, array_like=True):
    at_ms: int
    version: str
    score: float | None
    threshold: float
    reason: str
    unavailable_since_ms: int | None  # since when the model has given no probability

    def shift(self, by_ms: int) -> None:
        self.at_ms += by_ms
        if self.unavailable_since_ms is not None:
            self.unavailable_since_ms += by_ms


class ModelScores:
    """The last score of each model.

    Args:
        plan: what was ordered: rules, and when a score is too old to sound.
        latest: the newest value of each sign, for NEWS2 in the text of an alarm.
        conditions: where the rules on models are judged.
    """

    __slots__ = ("_conditions", "_last", "_latest", "_plan", "_rules")

    def __init__(self, plan: MonitoringPlan, latest: LatestValues, conditions: Conditions) -> None:
        self._plan = plan
        self._rules = plan.rules_by_quantity
        self._latest = latest
        self._conditions = conditions
        self._last: dict[tuple[str, str], _LastScore] = {}  # by model and edge

    @property
    def newest_ms(self) -> int | None:
        """Event time of the newest score of any model."""
        return max((last.at_ms for last in self._last.values()), default=None)

    def on_score(self, score: ModelScore, *, is_recorded_only: bool = False) -> list[Event]:
        """One score of one model.

        A score that is older than the last one of the same model at the same edge is only recorded; the same one again
        changes nothing.

        Args:
            is_recorded_only: it may not raise an alarm, because the binding has ended.
        """
        place = (score.model, score.edge)
        last = self._last.get(place)
        if last is not None and score.at_ms == last.at_ms:
            return []
        late = last is not None and score.at_ms < last.at_ms
        backfilled = is_recorded_only or score.heard_ms - score.at_ms > self._plan.backfill_after_ms
        events: list[Event] = [ModelScored(score=score, late=late, backfilled=backfilled)]
        if late or backfilled:
            return events
        probability = probability_of(score)
        unavailable_since_ms = None if last is None else last.unavailable_since_ms
        if probability is not None:
            unavailable_since_ms = None
        elif unavailable_since_ms is None:
            unavailable_since_ms = score.at_ms
        reason = score.reason if probability is not None or score.score is None else ""
        self._last[place] = _LastScore(
            score.at_ms, score.version, probability, score.threshold, reason, unavailable_since_ms
        )
        at_ms = max(one.at_ms for (model, _), one in self._last.items() if model == score.model)
        context = JudgingContext(at_ms, score.reading_id, 0, events)
        counted = self._counted(score.model, at_ms)
        self._judge_risk(score.model, counted, context)
        self._judge_availability(score.model, counted, context)
        return events

    def views(self, now_ms: int) -> tuple[ModelView, ...]:
        """The last score of each model; without its probability if it is too old."""
        models = dict.fromkeys(model for model, _ in self._last)
        return tuple(
            ModelView(
                model=model,
                version=last.version,
                score=last.score if now_ms - last.at_ms <= SCORE_VALID_MS else None,
                threshold=last.threshold,
                age_ms=now_ms - last.at_ms,
                reason=last.reason,
            )
            for model, last in ((model, self._counted(model, now_ms)) for model in models)
        )

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        for last in self._last.values():
            last.shift(by_ms)

    def to_state(self) -> list[Any]:
        """What msgspec can encode."""
        return [[model, last, edge] if edge else [model, last] for (model, edge), last in self._last.items()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the scores with those of `to_state`."""
        self._last = {(model, "".join(edge)): msgspec.convert(last, _LastScore) for model, last, *edge in state}

    def _counted(self, model: str, now_ms: int) -> _LastScore:
        """The score that counts: of each edge the newest, if it is current, and of these the highest."""
        scores = [last for (of, _), last in self._last.items() if of == model]
        current = [last for last in scores if now_ms - last.at_ms <= SCORE_VALID_MS and last.score is not None]
        if current:
            return max(current, key=lambda last: ((last.score or 0.0) / last.threshold, last.at_ms))
        return max(scores, key=lambda last: last.at_ms)

    def _judge_risk(self, model: str, counted: _LastScore, context: JudgingContext) -> None:
        conditions = self._conditions
        for rule in self._rules.get(f"model:{model}", ()):
            if counted.score is not None:
                explain = partial(self._explain, rule, counted, counted.score, context.at_ms)
                conditions.observe(rule, counted.score / counted.threshold, context, explain)
            elif conditions.book.has(rule.rule_id):
                conditions.mark_unknown(rule, context.at_ms, context.events)

    def _judge_availability(self, model: str, counted: _LastScore, context: JudgingContext) -> None:
        unavailable = 0
        if counted.unavailable_since_ms is not None:
            unavailable = 1 if context.at_ms - counted.unavailable_since_ms < _HOUR_MS else 2
        why = counted.reason or "gave no probability"
        for rule in self._rules.get("model_unavailable", ()):
            explain = partial(str, f"{model} model: {why}")
            self._conditions.observe(rule, unavailable, context, explain, key=model)

    def _explain(self, rule: Rule, score: _LastScore, probability: float, at_ms: int) -> str:
        news2_now = self._latest.news2(at_ms)
        crossed = rule.crossed(probability / score.threshold)
        limit = score.threshold * (rule.limits[0] if crossed is None else crossed).threshold
        said = f"{rule.label} {probability:.1%} by model {score.version}, alarm threshold {limit:.1%}"
        because = f"; {score.reason}" if score.reason else ""
        if news2_now is None:
            return f"{said}{because}"
        bound = "" if news2_now.total is not None else ">= "
        return f"{said}{because}; NEWS2 {bound}{news2_now.at_least}"
