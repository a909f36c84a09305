"""Orders in words: one sentence for each difference from the default, with who is called, until when, by whom and why.

What makes silence vanish stands first: nobody has to find it among the rest.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from vitals.escalation import EscalationPolicy
from vitals.messages import Activity, Priority
from vitals.orders.level import CALL_CLASSES, OBSERVE, OrderLevel
from vitals.orders.levels import DEFAULT, applied
from vitals.orders.orders import LevelNote, Orders, is_known
from vitals.orders.plans import plan_of
from vitals.orders.units import duration_text, limit_in, minute_text
from vitals.plan import MonitoringPlan
from vitals.rules import Rule, Term
from vitals.signs import SPEC, VitalSign

When = Callable[[int], str]
"""Writes a date and time of day, from milliseconds since 1970, with its time zone named."""


def utc_text(at_ms: int) -> str:
    """A date and time of day in UTC.

    >>> utc_text(1_767_621_720_000)
    '2026-01-05 14:02 UTC'
    """
    return f"{np.datetime64(at_ms // 60_000, 'm')} UTC".replace("T", " ", 1)


def in_words(
    orders: Orders | OrderLevel,
    default: Orders = DEFAULT,
    *,
    policy: EscalationPolicy | None = None,
    when: When = utc_text,
) -> list[str]:
    """One sentence for each difference from the default; none if there is no difference.

    Args:
        orders: whole, or a level: then what would hold if it alone stood on the default.
        default: what is compared with.
        policy: of the desk, for who is called where no ladder is ordered; None: its default.
        when: writes dates; the default is in UTC.
    """
    whole = applied(orders, default) if isinstance(orders, OrderLevel) else orders
    return _Writer(whole, default, policy or EscalationPolicy(), when).sentences()


class _Writer:
    """Writes the sentences of one comparison."""

    def __init__(self, orders: Orders, default: Orders, policy: EscalationPolicy, when: When) -> None:
        self._orders, self._default = orders, default
        self._policy, self._when = policy, when

    def sentences(self) -> list[str]:
        plan, usual = plan_of(self._orders), plan_of(self._default)
        return [
            *self._silences(plan, usual),
            *self._not_in_force(),
            *self._scale(),
            *(self._rule(rule) for rule in self._orders.rules if self._differs(rule)),
            *self._gone(),
            *self._watch(plan, usual),
            *self._calls(),
            *self._activity(),
        ]

    def _silences(self, plan: MonitoringPlan, usual: MonitoringPlan) -> Iterator[str]:
        """Whatever makes an alarm of silence vanish, or not call."""
        for rule_id, what in _SILENCES.items():
            rule, before = self._orders.rule(rule_id), self._default.rule(rule_id)
            if before is None or not before.enabled:
                continue
            if rule is None or not rule.enabled:
                yield f"NOBODY IS TOLD {what}.{self._origin(f'rule.{rule_id}')}"
                continue
            quiet = [limit.priority for limit in rule.limits if self._is_observed(rule, limit.priority)]
            if len(quiet) == len(rule.limits):
                yield f"NOBODY IS CALLED {what}; it is listed.{self._call_origin(rule, quiet[0])}"
        gone = [SPEC[sign].label for sign in usual.expected if sign not in plan.expected]
        if gone:
            yield f"NOBODY IS TOLD when {_or(gone)} stops coming.{self._origin('watch.expected')}"

    def _not_in_force(self) -> Iterator[str]:
        now_ms = self._orders.as_of_ms
        for note in self._orders.levels:
            who = f"The order for the {note.title}"
            if note.until_ms is not None and note.until_ms <= now_ms:
                yield f"{who} has ended at {self._when(note.until_ms)}: what is below it holds."
            elif note.from_ms is not None and note.from_ms > now_ms:
                yield f"{who} begins at {self._when(note.from_ms)}: until then what is below it holds."
        for rule in self._orders.rules:
            if not is_known(rule):
                yield f"This version cannot judge the rule {rule.rule_id} ({rule.label}): nobody is told of it."

    def _scale(self) -> Iterator[str]:
        scale, usual = self._orders.settings.spo2_scale, self._default.settings.spo2_scale
        if scale is None or scale == usual:
            return
        said = _SCALES[scale]
        given = self._orders.settings.prescription
        if scale == 2 and given is not None:
            said += f", prescribed by {given.by} at {self._when(given.at_ms)}: {given.why}"
        yield f"{said}.{self._origin('spo2.scale')}"

    def _rule(self, rule: Rule) -> str:
        usual = self._default.rule(rule.rule_id)
        now = self._said_of(rule, self._orders)
        origin = self._origin(f"rule.{rule.rule_id}")
        if usual is None:
            return f"New: {now}.{origin}"
        was = self._said_of(usual, self._default)
        compared = "" if was == now else f"; the default would be: {was}"
        return _sentence(f"{now}{compared}.{self._clearing(rule, usual)}{origin}")

    def _said_of(self, rule: Rule, orders: Orders) -> str:
        """What one rule does, with nothing compared."""
        if not rule.enabled:
            return f"no alarm for {_subject(rule)}"
        lasting = f" for {duration_text(rule.for_ms)}" if rule.for_ms else ""
        steps = [
            f"{_limit(rule, limit.threshold)}{lasting if place == 0 else ''} is a {limit.priority.name.lower()} alarm"
            f" that {self._call(rule, limit.priority, orders)}"
            for place, limit in enumerate(rule.limits)
        ]
        return f"{_subject(rule)}{','.join(steps)}"

    def _call(self, rule: Rule, priority: Priority, orders: Orders) -> str:
        name = orders.call_of(rule.rule_id, rule.kind, priority)
        if name == OBSERVE:
            return "calls nobody and is listed"
        if name:
            return f"calls by the ladder {name}"
        ladder = self._policy.ladder(priority, rule.rule_id)
        if not ladder.steps:
            return "calls nobody and is listed"
        first = ladder.steps[0]
        return f"calls the {first.who} {f'after {duration_text(first.delay_ms)}' if first.delay_ms else 'at once'}"

    def _clearing(self, rule: Rule, usual: Rule) -> str:
        now, was = _end(rule), _end(usual)
        latch = (rule.latching, usual.latching)
        said = "" if now == was else f" It is over when {now}; by default when {was}."
        if latch[0] != latch[1]:
            said += (
                f" It {'stays until somebody has looked' if rule.latching else 'ends without anybody having looked'}."
            )
        return said

    def _gone(self) -> Iterator[str]:
        there = {rule.rule_id for rule in self._orders.rules}
        for rule in self._default.rules:
            if rule.rule_id not in there:
                yield f"There is no rule {rule.rule_id} in these orders: it is judged by its default."

    def _watch(self, plan: MonitoringPlan, usual: MonitoringPlan) -> Iterator[str]:
        more = [SPEC[sign].label for sign in plan.expected if sign not in usual.expected]
        if more:
            yield f"When {_or(more)} stops coming, that is an alarm.{self._origin('watch.expected')}"
        for sign in SPEC:
            label = SPEC[sign].label
            if plan.cadence(sign) != usual.cadence(sign):
                yield (
                    f"A value of {label} is expected every {duration_text(plan.cadence(sign))}; the default would be "
                    f"{duration_text(usual.cadence(sign))}.{self._origin(f'watch.cadence.{sign}')}"
                )
            if plan.valid(sign) != usual.valid(sign):
                origin = self._origin(f"watch.valid.{sign}") or self._origin(f"watch.cadence.{sign}")
                yield (
                    f"A value of {label} counts for {duration_text(plan.valid(sign))}; the default would be "
                    f"{duration_text(usual.valid(sign))}.{origin}"
                )
        for key, now, was in (
            ("stale_after", plan.stale_after_ms, usual.stale_after_ms),
            ("lost_after", plan.lost_after_ms, usual.lost_after_ms),
        ):
            if now != was:
                word = key.split("_")[0]
                said = "by NEWS2, 1 to 30 min" if word == "stale" else "by NEWS2, 3 to 60 min"
                if now is not None:
                    after = f"{word} after {duration_text(now)}; the default would be {said}"
                    yield f"A sign that is not measured is {after}.{self._origin(f'watch.{key}')}"

    def _calls(self) -> Iterator[str]:
        calls, usual = self._orders.settings.calls, self._default.settings.calls
        for name in CALL_CLASSES:
            ladder = calls.get(name, "")
            if ladder == usual.get(name, ""):
                continue
            who = f"{_CLASSES[name]} call nobody; they are listed" if ladder == OBSERVE else ""
            yield f"{who or f'{_CLASSES[name]} call by the ladder {ladder}'}.{self._origin(f'call.{name}')}"
        quiet = self._orders.quiet
        if quiet != self._default.quiet:
            if quiet is None:
                yield f"There are no quiet hours.{self._origin('quiet')}"
            else:
                hours = (
                    f"from {minute_text(quiet.from_minute)} to {minute_text(quiet.to_minute)} by the clock of the site"
                )
                yield f"Alarms of low priority call nobody {hours}; medium and high ones do.{self._origin('quiet')}"

    def _activity(self) -> Iterator[str]:
        settings, usual = self._orders.settings, self._default.settings
        if settings.holds_up_to != usual.holds_up_to:
            word = {int(Activity.WALK): "a walk", int(Activity.EXERCISE): "exercise"}.get(settings.holds_up_to)
            said = "No activity holds back an alarm"
            if word is not None:
                said = f"Alarms of a fast heart or breathing that {word} explains are held back for a time"
            yield f"{said}.{self._origin('activity.explains')}"
        if settings.learns_by_activity != usual.learns_by_activity:
            how = "for each activity by itself" if settings.learns_by_activity else "without regard to activity"
            yield f"The patient's own normal heart rate is learned {how}.{self._origin('activity.learns')}"

    def _differs(self, rule: Rule) -> bool:
        if not is_known(rule):
            return False
        usual, calls = self._default.rule(rule.rule_id), self._orders.settings.calls
        has_own_call = calls.get(rule.rule_id) != self._default.settings.calls.get(rule.rule_id)
        return usual != rule or has_own_call

    def _is_observed(self, rule: Rule, priority: Priority) -> bool:
        return self._orders.call_of(rule.rule_id, rule.kind, priority) == OBSERVE

    def _call_origin(self, rule: Rule, priority: Priority) -> str:
        key = "technical" if rule.kind == "technical" else priority.name.lower()
        own = f"rule.{rule.rule_id}"
        return self._origin(own if rule.rule_id in self._orders.settings.calls else f"call.{key}")

    def _origin(self, key: str) -> str:
        """Who says so, until when, and why."""
        places = self._orders.settings.said_by.get(key, ())
        notes = [self._orders.levels[place] for place in places if place < len(self._orders.levels)]
        return f" {self._said_by(notes[-1])}" if notes else ""

    def _said_by(self, note: LevelNote) -> str:
        by = f" by {note.by}{' (prescriber)' if note.by_prescriber else ''}" if note.by else ""
        until = f" until {self._when(note.until_ms)}" if note.until_ms is not None else ""
        why = f": {note.why.rstrip('.')}" if note.why else ""
        return f"Ordered for the {note.title}{by}{until}{why}."


def _subject(rule: Rule) -> str:
    if rule.trend is not None:
        trend = rule.trend
        change = "fall" if trend.falls else "rise"
        return f"{rule.label}: a {change} of {SPEC[VitalSign(trend.sign)].label} over {duration_text(trend.over_ms)}"
    if rule.all_of:
        return f"{rule.label}: {' and '.join(_term(one) for one in rule.all_of)}"
    if rule.quantity in set(SPEC):
        return SPEC[VitalSign(rule.quantity)].label
    return _SUBJECTS.get(rule.rule_id, rule.label)


def _term(term: Term) -> str:
    label = SPEC[VitalSign(term.quantity)].label if term.quantity in set(SPEC) else _TERMS[term.quantity]
    return f"{label} {_bound(term.quantity, term.comparison, term.threshold)}"


def _bound(quantity: str, comparison: str, threshold: float) -> str:
    return f"of {limit_in(quantity, threshold)} or {'more' if comparison == '>=' else 'less'}"


def _limit(rule: Rule, threshold: float) -> str:
    if rule.all_of:
        return ""
    states = _STATES.get(rule.quantity)
    if states is not None:
        return states.get(int(threshold), "")
    if rule.trend is not None:
        unit = "%" if rule.trend.in_percent else SPEC[VitalSign(rule.trend.sign)].unit
        return f" by {threshold:g} {unit} or more"
    return f" {_bound(rule.quantity, rule.comparison, threshold)}"


def _end(rule: Rule) -> str:
    """When an alarm of a rule is over."""
    margin = (
        f"inside the limit by {rule.clear_margin:g}" if rule.clear_margin and not rule.all_of else "inside the limit"
    )
    lasting = f", {rule.clear_count} times over {duration_text(rule.clear_for_ms)}" if rule.clear_for_ms else ""
    return f"{margin}{lasting}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _or(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} or {labels[-1]}"


_SILENCES: Final = {
    "no_data": "when data stop",
    "arrest": "when heart rate, respiration, saturation or pressure are zero",
}
_SCALES: Final = {
    1: "SpO2 is scored on scale 1 of NEWS2",
    2: "SpO2 is scored on scale 2 of NEWS2, for a target of 88 to 92 %",
}
_CLASSES: Final = {
    "high": "Alarms of high priority about the patient",
    "medium": "Alarms of medium priority about the patient",
    "low": "Alarms of low priority about the patient",
    "technical": "Alarms about devices, data and models",
}
_TERMS: Final = {"news2": "NEWS2", "qsofa": "qSOFA", "shock_index": "shock index"}
_SUBJECTS: Final = {
    "news2": "NEWS2",
    "red_sign": "a single sign of NEWS2 in the red, at its points",
    "no_data": "a sign without data",
    "arrest": "zeros with contact",
    "suspect_value": "values in the red that are in doubt",
    "unusable": "values that arrive and cannot be used",
    "sensor_off": "a sensor that is off",
    "battery": "a battery",
    "clock": "a device clock that is wrong",
    "disagreement": "two devices that contradict each other",
    "device_silence": "a device that is silent",
}
_STATES: Final = {
    "freshness": {2: ", when stale,", 3: ", when lost,", 4: ", when lost and the patient was ill,"},
    "zero": {1: ""},
    "suspect_value": {1: ", when contradicted,", 2: ", when extreme,"},
    "unusable": {1: " for minutes", 2: " for long or no values at all"},
    "model_unavailable": {1: " at first", 2: " after an hour"},
    "clock": {1: ""},
    "disagreement": {1: ""},
    "device_silence": {1: " for minutes", 2: " for long"},
}
