"""What is wrong with one level: contradictions, what cannot work, what needs a prescriber.

A finding names the key of the file, the problem and the fix. An order with an error is not signed.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

import msgspec

from vitals.errors import BadOrders
from vitals.freshness import limits_for
from vitals.messages import Priority
from vitals.orders.level import CALL_CLASSES, CONDITION_PREFIX, OBSERVE, OrderLevel, RuleChange
from vitals.orders.levels import applied
from vitals.orders.loosened import loosened
from vitals.orders.order_file import instant_text
from vitals.orders.orders import Orders, encode_orders
from vitals.orders.plans import plan_of
from vitals.orders.profiles import PROFILES
from vitals.orders.units import duration_text
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from vitals.rules import Rule
from vitals.signs import SPEC, VitalSign

_MINUTE: Final = 60_000
LONGEST_DELAY_MS: Final = 60 * _MINUTE
LONGEST_DELAY_OF_HIGH_MS: Final = 10 * _MINUTE
LONGEST_CLEARING_MS: Final = 24 * 60 * _MINUTE
LONGEST_QUIET_MINUTES: Final = 12 * 60
MOST_CONDITIONS: Final = 10
LONGEST_ORDER_MS: Final = 366 * 24 * 60 * _MINUTE


class OrderFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a level, or that whoever signs it should know."""

    key: str  # in the file
    problem: str
    fix: str = ""
    is_error: bool = True  # such an order is not signed

    @property
    def text(self) -> str:
        """Key, problem and fix in one line."""
        return "; ".join(part for part in (f"{self.key}: {self.problem}", self.fix) if part)


def check(
    level: OrderLevel,
    below: Orders,
    *,
    now_ms: int | None = None,
    profiles: Mapping[str, OrderLevel] = PROFILES,
) -> list[OrderFinding]:
    """Everything that is wrong with a level, errors first.

    Whether the ladders that it names exist is known to the desk only.

    Args:
        below: what holds without this level: `effective` of the lower ones.
        now_ms: by the clock of whoever asks; None: when `below` was worked out.
        profiles: those that a level can choose.
    """
    at_ms = below.as_of_ms if now_ms is None else now_ms
    findings = [*_who_and_when(level, at_ms), *_names(level, below, profiles)]
    after = applied(level, below, profiles)
    before_plan, plan = plan_of(below), plan_of(after)
    findings += _limits(level, below)
    findings += _rules(level, after)
    findings += _spo2(level, at_ms, below)
    findings += _times(level, plan)
    findings += _conditions(level, after, plan)
    findings += _calls(level)
    findings += _prescriber(level, below, profiles)
    findings += _silence(after, before_plan, plan)
    if not findings or not any(one.is_error for one in findings):
        findings += _bytes(after)
    return sorted(dict.fromkeys(findings), key=lambda one: not one.is_error)


def _warn(key: str, problem: str, fix: str = "") -> OrderFinding:
    return OrderFinding(key=key, problem=problem, fix=fix, is_error=False)


def _who_and_when(level: OrderLevel, now_ms: int) -> Iterator[OrderFinding]:
    begin, end = level.valid_from_ms, level.valid_until_ms
    if not level.by:
        yield OrderFinding(key="order.by", problem="nobody is named who orders this", fix="add by")
    if not level.why:
        yield OrderFinding(
            key="order.why", problem="no reason is given", fix="add why: one line that a colleague understands"
        )
    if level.level in ("ward", "profile") and not level.name:
        yield OrderFinding(key="order.name", problem=f"which {level.level} this is for is not said", fix="add name")
    if begin is not None and end is not None and end <= begin:
        yield OrderFinding(
            key="order.until",
            problem=f"ends at {instant_text(end)}, not after it begins at {instant_text(begin)}",
            fix="give a later end, or none",
        )
    elif end is not None and end <= now_ms:
        yield OrderFinding(
            key="order.until",
            problem=f"ended at {instant_text(end)}: it would never be in force",
            fix="give a later end, or none",
        )
    elif begin is not None and begin > now_ms:
        yield _warn("order.from", f"begins at {instant_text(begin)}; until then what is below holds")
    if end is not None and end - max(now_ms, begin or now_ms) > LONGEST_ORDER_MS:
        yield _warn("order.until", "is more than a year away", "look at the order again earlier")


def _names(level: OrderLevel, below: Orders, profiles: Mapping[str, OrderLevel]) -> Iterator[OrderFinding]:
    if level.profile and level.profile not in profiles:
        yield OrderFinding(
            key="order.profile",
            problem=f"there is no profile {level.profile!r}",
            fix=f"use one of {', '.join(sorted(profiles))}",
        )
    own = {rule.rule_id for rule in level.conditions}
    known = {rule.rule_id for rule in below.rules} | own
    for rule_id in level.rules:
        if rule_id not in known:
            close = get_close_matches(rule_id, known, n=1)
            yield OrderFinding(
                key=f"rule.{rule_id}",
                problem="there is no such rule",
                fix=f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}",
            )
    ids = [rule.rule_id for rule in level.conditions]
    for rule_id in dict.fromkeys(ids):
        if ids.count(rule_id) > 1:
            name = rule_id.removeprefix(CONDITION_PREFIX)
            yield OrderFinding(key=f"condition.{name}", problem="occurs twice", fix="give each a name of its own")
    says = (level.rules, level.conditions, level.calls, level.cadence_ms, level.valid_ms)
    single: list[object] = [level.profile, level.spo2_scale, level.expected, level.stale_after_ms, level.lost_after_ms]
    single += [level.quiet, level.holds_up_to, level.learns_by_activity]
    if not any(says) and all(one is None for one in single):
        yield _warn("order", "says nothing: what is below holds as it is")


def _limits(level: OrderLevel, below: Orders) -> Iterator[OrderFinding]:
    """Limits that a level gives and that can never be reached."""
    for rule_id, change in level.rules.items():
        rule = below.rule(rule_id)
        if rule is None:
            continue
        kept = {limit.priority for limit in change.applied(rule).limits}
        for priority, threshold in change.thresholds():
            if threshold is not None and priority not in kept:
                name = priority.name.lower()
                yield OrderFinding(
                    key=f"rule.{rule_id}.{name}",
                    problem=f"a value that reaches {name} at {threshold:g} is of a higher priority already",
                    fix="order the limits from the mildest to the worst: low, medium, high",
                )
        yield from _lost_limits(rule_id, rule, change, kept)


def _lost_limits(rule_id: str, rule: Rule, change: RuleChange, kept: set[Priority]) -> Iterator[OrderFinding]:
    """Limits from below that a level's own limits leave without effect: said, because nobody wrote them off."""
    said = {priority for priority, _ in change.thresholds()}
    has_limits = any(threshold is not None for _, threshold in change.thresholds())
    for limit in rule.limits:
        if has_limits and limit.priority not in kept and limit.priority not in said:
            name = limit.priority.name.lower()
            yield OrderFinding(
                key=f"rule.{rule_id}",
                problem=f"leaves the limit of {name} priority, {limit.threshold:g}, without effect",
                fix=f'give {name} too, or {name} = "off"',
            )


def _rules(level: OrderLevel, after: Orders) -> Iterator[OrderFinding]:
    touched = {*level.rules, *(rule.rule_id for rule in level.conditions)}
    for rule in after.rules:
        if rule.rule_id not in touched or not rule.enabled:
            continue
        key = _key_of(rule)
        longest_ms = LONGEST_DELAY_MS if rule.limits[-1].priority < Priority.HIGH else LONGEST_DELAY_OF_HIGH_MS
        if rule.for_ms > longest_ms:
            what = "high priority" if longest_ms == LONGEST_DELAY_OF_HIGH_MS else "any alarm"
            yield OrderFinding(
                key=f"{key}.delay",
                problem=f"{duration_text(rule.for_ms)} is too long a wait for {what}",
                fix=f"at most {duration_text(longest_ms)}, or switch the rule off and say why",
            )
        if rule.clear_for_ms > LONGEST_CLEARING_MS:
            yield OrderFinding(key=f"{key}.clear_after", problem="is more than a day", fix="at most 1 d")
        if not _can_end(rule):
            yield OrderFinding(
                key=f"{key}.clear_margin",
                problem="no value is so far inside the limit: the alarm could never end",
                fix="give a smaller margin or another limit",
            )
    yield from _crossed(touched, after)


def _can_end(rule: Rule) -> bool:
    sign = next((sign for sign in SPEC if sign.value == rule.quantity), None)
    low, high = SPEC[sign].possible if sign is not None else (0.0, float("inf"))
    return rule.is_well_inside(low if rule.comparison == ">=" else high)


def _crossed(touched: set[str], after: Orders) -> Iterator[OrderFinding]:
    """A low limit that is not below the high limit of the same sign: one of the two is always an alarm."""
    lows = [rule for rule in after.rules if rule.comparison == "<=" and rule.enabled]
    highs = [rule for rule in after.rules if rule.comparison == ">=" and rule.enabled]
    for low in lows:
        for high in highs:
            is_ours = {low.rule_id, high.rule_id} & touched and low.quantity == high.quantity
            for_same = len({*low.not_for, *high.not_for}) < len(PatientGroup)  # rules may be for different patients
            if is_ours and for_same and low.limits[0].threshold >= high.limits[0].threshold:
                mine = low if low.rule_id in touched else high
                yield OrderFinding(
                    key=_key_of(mine),
                    problem=f"the low limit {low.limits[0].threshold:g} of {low.rule_id} is not below "
                    f"the high limit {high.limits[0].threshold:g} of {high.rule_id}: every value would be an alarm",
                    fix="move one of the two",
                )


def _spo2(level: OrderLevel, now_ms: int, below: Orders) -> Iterator[OrderFinding]:
    scale, given = level.spo2_scale, level.prescription
    if scale == 2 and level.level != "patient":
        yield OrderFinding(
            key="spo2.scale",
            problem="scale 2 is prescribed for one patient, never for a group",
            fix="order it at the level of the patient",
        )
    if scale == 2 and (given is None or not given.by or not given.why):
        yield OrderFinding(
            key="spo2",
            problem="scale 2 needs its prescription",
            fix="add prescribed_by, prescribed_at and why (RCP 2017: hypercapnic respiratory failure, confirmed)",
        )
    if scale == 2 and given is not None and given.at_ms > now_ms:
        yield OrderFinding(key="spo2.prescribed_at", problem="lies in the future", fix="give when it was prescribed")
    if scale == 1 and given is not None:
        yield OrderFinding(key="spo2", problem="scale 1 needs no prescription", fix="leave it out, or order scale 2")
    if level.profile == "copd" and scale is None and below.settings.spo2_scale != 2:
        yield _warn(
            "spo2.scale",
            "the profile copd does not set scale 2: without it 88 to 91 % score as too low",
            "add [spo2] with scale = 2 and its prescription if hypercapnic failure is confirmed",
        )


def _times(level: OrderLevel, plan: MonitoringPlan) -> Iterator[OrderFinding]:
    for sign in dict.fromkeys((*level.valid_ms, *level.cadence_ms)):
        valid_ms, cadence_ms = plan.valid(sign), plan.cadence(sign)
        longest_ms = max(limits_for(7, cadence_ms).stale_ms, SPEC[sign].valid_ms)
        if sign in level.valid_ms and valid_ms > longest_ms:
            yield OrderFinding(
                key=f"watch.valid.{sign}",
                problem=f"a value of {duration_text(valid_ms)} can be stale, and what is stale may not be scored",
                fix=f"at most {duration_text(longest_ms)} at this cadence",
            )
        if valid_ms < cadence_ms:
            yield OrderFinding(
                key=f"watch.valid.{sign}" if sign in level.valid_ms else f"watch.cadence.{sign}",
                problem=f"a value counts for {duration_text(valid_ms)} and comes every {duration_text(cadence_ms)}: "
                "between two of them it would be missing",
                fix="let it count for at least three times its cadence",
            )
    stale_ms, lost_ms = plan.stale_after_ms, plan.lost_after_ms
    if stale_ms is not None and lost_ms is not None and stale_ms > lost_ms:
        yield OrderFinding(
            key="watch.lost_after",
            problem=f"a sign would be lost after {duration_text(lost_ms)}, before it is stale",
            fix="give a longer lost_after",
        )
    if level.quiet is not None:
        minutes = (level.quiet.to_minute - level.quiet.from_minute) % (24 * 60)
        if minutes > LONGEST_QUIET_MINUTES:
            yield OrderFinding(
                key="quiet", problem="is longer than 12 h", fix="alarms of low priority need half of the day"
            )


def _conditions(level: OrderLevel, after: Orders, plan: MonitoringPlan) -> Iterator[OrderFinding]:
    if sum(rule.rule_id.startswith(CONDITION_PREFIX) for rule in after.rules) > MOST_CONDITIONS:
        yield OrderFinding(
            key="condition",
            problem=f"with those of the levels below there are more than {MOST_CONDITIONS} conditions",
            fix="leave some out: each is judged at every reading",
        )
    for rule in level.conditions:
        key = _key_of(rule)
        for sign in SPEC:
            if _bounds_cross(rule, sign):
                yield OrderFinding(
                    key=f"{key}.all",
                    problem=f"no {SPEC[sign].label} is both: it can never be true",
                    fix="change a limit",
                )
        names = [(term.quantity, term.comparison) for term in rule.all_of]
        if len(set(names)) < len(names):
            yield OrderFinding(
                key=f"{key}.all", problem="compares a sign twice the same way", fix="keep the stricter one"
            )
        if rule.trend is not None:
            cadence_ms = plan.cadence(VitalSign(rule.trend.sign))
            if rule.trend.over_ms < 4 * cadence_ms:
                yield OrderFinding(
                    key=f"{key}.trend.over",
                    problem=f"{rule.trend.sign} comes every {duration_text(cadence_ms)}: too seldom to have a trend "
                    f"over {duration_text(rule.trend.over_ms)}",
                    fix=f"at least {duration_text(4 * cadence_ms)}, or a shorter cadence",
                )


def _bounds_cross(rule: Rule, sign: VitalSign) -> bool:
    floors = [term.threshold for term in rule.all_of if term.quantity == sign and term.comparison == ">="]
    ceilings = [term.threshold for term in rule.all_of if term.quantity == sign and term.comparison == "<="]
    return bool(floors and ceilings and max(floors) > min(ceilings))


def _calls(level: OrderLevel) -> Iterator[OrderFinding]:
    for name in level.calls:
        if name not in CALL_CLASSES:
            yield OrderFinding(
                key=f"call.{name}", problem="is no class of alarms", fix=f"use {', '.join(CALL_CLASSES)}"
            )


def _prescriber(level: OrderLevel, below: Orders, profiles: Mapping[str, OrderLevel]) -> Iterator[OrderFinding]:
    reds = [one for one in loosened(level, below, profiles) if one.is_red]
    for one in reds:
        key = f"rule.{one.rule_id}"
        if not level.by_prescriber:
            yield OrderFinding(
                key=key, problem=f"{one.text}: only a prescriber may order this", fix="let a prescriber sign the order"
            )


def _silence(after: Orders, was: MonitoringPlan, now: MonitoringPlan) -> Iterator[OrderFinding]:
    """Whatever makes silence vanish is said, whoever ordered it."""
    for rule_id in ("arrest", "no_data"):
        rule = after.rule(rule_id)
        if rule is None or not rule.enabled:
            yield _warn(f"rule.{rule_id}", f"nobody is told of {_SILENCES[rule_id]}")
        elif all(after.call_of(rule_id, rule.kind, limit.priority) == OBSERVE for limit in rule.limits):
            yield _warn(f"rule.{rule_id}", f"nobody is called of {_SILENCES[rule_id]}; it is listed")
    if not now.expected and was.expected:
        yield _warn("watch.expected", "no sign is expected: nobody is told when all data stop")


_SILENCES: Final = {"arrest": "zeros of heart rate, respiration, saturation or pressure", "no_data": "data that stop"}


def _bytes(after: Orders) -> Iterator[OrderFinding]:
    try:
        encode_orders(after)
    except BadOrders as error:
        yield OrderFinding(key=error.key or "order", problem=error.problem)


def _key_of(rule: Rule) -> str:
    if rule.rule_id.startswith(CONDITION_PREFIX):
        return f"condition.{rule.rule_id.removeprefix(CONDITION_PREFIX)}"
    return f"rule.{rule.rule_id}"
