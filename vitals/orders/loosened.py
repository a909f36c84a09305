"""What a level loosens: every way in which an alarm comes later, milder, ends sooner, or calls nobody.

Compared are the rules with what is ordered and without it, not the numbers of a file: a profile that is chosen, a
cadence or a validity loosens as much as a limit. Tightening is nobody's concern.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from vitals.freshness import BY_NEWS2, limits_for
from vitals.messages import Priority
from vitals.orders.level import OBSERVE, OrderLevel
from vitals.orders.levels import applied
from vitals.orders.orders import Orders
from vitals.orders.plans import plan_of
from vitals.orders.profiles import PROFILES
from vitals.plan import MonitoringPlan
from vitals.rules import Rule
from vitals.signs import SPEC, VitalSign

_LOW, _MEDIUM, _HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH

RED: Final[Mapping[str, Priority]] = {
    "news2": _HIGH,  # 7 and more
    "red_sign": _LOW,
    "arrest": _LOW,
    "suspect_value": _LOW,
    "no_data": _HIGH,  # of a patient who was ill
    # For those who have no NEWS2: what is red for them.
    "danger_heart_rate": _LOW,
    "danger_respiratory_rate": _LOW,
    "danger_systolic_bp": _LOW,
    "danger_low_temperature": _LOW,
    "danger_high_temperature": _LOW,
    "danger_consciousness": _LOW,
}
"""The red rules, and from which priority on: only a prescriber may loosen them, with a reason."""


_HELD: Final = frozenset(
    {
        *("red_sign", "news2", "shock_index", "heart_rate", "respiratory_rate"),
        *("baseline:heart_rate", "baseline:respiratory_rate"),
    }
)
"""Quantities whose alarms an activity may explain; of NEWS2 only those of medium priority."""


class Loosening(NamedTuple):
    """One way in which a level is less strict than what holds without it."""

    rule_id: str
    text: str
    is_red: bool  # only a prescriber may order it


def loosened(level: OrderLevel, below: Orders, profiles: Mapping[str, OrderLevel] = PROFILES) -> tuple[Loosening, ...]:
    """Everything that a level, with the profile that it chooses, loosens."""
    return loosened_between(below, applied(level, below, profiles))


def loosened_between(before: Orders, after: Orders) -> tuple[Loosening, ...]:
    """Everything in which the later orders are less strict."""
    found = [one for rule in before.rules if rule.enabled for one in _of_rule(rule, before, after)]
    found += _of_settings(before, after, plan_of(before), plan_of(after))
    return tuple(dict.fromkeys(found))


def needs_prescriber(level: OrderLevel, below: Orders, profiles: Mapping[str, OrderLevel] = PROFILES) -> list[str]:
    """What in a level only a prescriber may sign, with a reason: whatever loosens a red rule, and every SpO2 scale.

    The same whether a prescriber signed it or not: compare with `OrderLevel.by_prescriber`, as `check` does.
    """
    return [f"{one.rule_id}: {one.text}" for one in loosened(level, below, profiles) if one.is_red]


def _of_rule(rule: Rule, before: Orders, after: Orders) -> Iterator[Loosening]:
    red_from = RED.get(rule.rule_id)
    new = after.rule(rule.rule_id)

    def found(text: str, priority: Priority = _HIGH) -> Loosening:
        return Loosening(rule.rule_id, text, red_from is not None and priority >= red_from)

    if new is None or not new.enabled:
        yield found("is switched off")
        return
    if (new.quantity, new.comparison, new.all_of, new.trend) != (
        rule.quantity,
        rule.comparison,
        rule.all_of,
        rule.trend,
    ):
        yield found("watches something else")
    for priority in Priority:
        yield from (found(text, priority) for text in _of_limit(rule, new, priority))
    if new.for_ms > rule.for_ms:
        yield found("waits longer")
    clearing = ((new.clear_for_ms, rule.clear_for_ms), (new.clear_count, rule.clear_count))
    if any(is_now < was for is_now, was in (*clearing, (new.clear_margin, rule.clear_margin))):
        yield found("ends sooner")
    for limit in new.limits:
        if rule.latches(limit.priority) and not new.latches(limit.priority):
            yield found("ends without anybody having looked", limit.priority)
        had_call = before.call_of(rule.rule_id, rule.kind, limit.priority) != OBSERVE
        if had_call and after.call_of(rule.rule_id, rule.kind, limit.priority) == OBSERVE:
            yield found(f"calls nobody at {limit.priority.name.lower()} priority", limit.priority)


def _of_limit(rule: Rule, new: Rule, priority: Priority) -> Iterator[str]:
    """Whether an alarm of at least a priority needs a worse value now."""
    was, now = _mildest(rule, priority), _mildest(new, priority)
    if was is None:
        return
    name = priority.name.lower()
    if now is None:
        yield f"has no alarm of {name} priority any more"
    elif (now > was) if rule.comparison == ">=" else (now < was):
        yield f"is {name} only from {now:g}, without this order from {was:g}"


def _mildest(rule: Rule, priority: Priority) -> float | None:
    return next((limit.threshold for limit in rule.limits if limit.priority >= priority), None)


def _of_settings(before: Orders, after: Orders, was: MonitoringPlan, now: MonitoringPlan) -> Iterator[Loosening]:
    scale = after.settings.spo2_scale
    if scale is not None and scale != before.settings.spo2_scale:
        for rule_id in ("red_sign", "news2", "suspect_value", "no_data"):  # all ask how many points a saturation has
            yield Loosening(rule_id, f"SpO2 is scored on scale {scale}", True)
    for sign in was.expected:
        if sign not in now.expected:
            yield Loosening("no_data", f"nobody is told when {SPEC[sign].label} stops", True)
    for sign in SPEC:
        yield from _of_sign(sign, was, now)
    if after.settings.holds_up_to > before.settings.holds_up_to:
        for rule in after.rules:
            if rule.enabled and rule.quantity in _HELD and rule.comparison == ">=":
                yield Loosening(rule.rule_id, "waits while an activity explains it", rule.rule_id == "red_sign")
    if before.settings.learns_by_activity != after.settings.learns_by_activity:
        yield Loosening("unusual_heart_rate", "another normal is learned", False)
    if after.quiet is not None and after.quiet != before.quiet:
        quiet_rules = (rule for rule in after.rules if rule.enabled and rule.limits[0].priority is _LOW)
        yield from (
            Loosening(rule.rule_id, "calls nobody at low priority in quiet hours", False) for rule in quiet_rules
        )


def _of_sign(sign: VitalSign, was: MonitoringPlan, now: MonitoringPlan) -> Iterator[Loosening]:
    label, cadence_before, cadence_now = SPEC[sign].label, was.cadence(sign), now.cadence(sign)
    if now.valid(sign) < was.valid(sign):
        yield Loosening("news2", f"{label} counts for a shorter time", True)
        yield Loosening("red_sign", f"{label} counts for a shorter time", True)
        for rule_id in ("qsofa", "shock_index", "sirs"):
            yield Loosening(rule_id, f"{label} counts for a shorter time", False)
    if sign in was.expected:
        for score, *_ in BY_NEWS2:
            old = limits_for(score, cadence_before, stale_ms=was.stale_after_ms, lost_ms=was.lost_after_ms)
            new = limits_for(score, cadence_now, stale_ms=now.stale_after_ms, lost_ms=now.lost_after_ms)
            if new.stale_ms > old.stale_ms or new.lost_ms > old.lost_ms:
                # Lost is high from one red sign on, and so from a score of 3.
                yield Loosening("no_data", f"missing {label} is told later at a NEWS2 of {score}", score >= 1)
    if cadence_before == cadence_now:
        return
    yield from _of_cadence(sign, label, was, now)


def _of_cadence(sign: VitalSign, label: str, was: MonitoringPlan, now: MonitoringPlan) -> Iterator[Loosening]:
    """A fast sign is judged where it is measured, and by more than one value; a slow one holds until the next."""
    before, after, minute = was.cadence(sign), now.cadence(sign), 60_000
    if after <= minute < before:
        yield Loosening("suspect_value", f"one contradicted {label} is not enough any more", True)
    if after <= minute and after > before:
        yield Loosening("arrest", f"a single zero of {label} is told later", True)
    if before <= minute < after:
        yield Loosening("suspect_value", f"{label} is measured less often", True)
    for rule in was.rules_by_quantity.get(sign.value, ()):
        if before > rule.for_ms >= after:
            yield Loosening(rule.rule_id, f"{label} must last by more than one value", rule.rule_id in RED)
