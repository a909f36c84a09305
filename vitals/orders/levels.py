"""From levels, which are differences, to the whole: default of the RCP < site < ward < profile < patient."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from vitals.orders.level import LEVELS, OrderLevel
from vitals.orders.orders import LaterOrders, LevelNote, Orders, OrderSettings, in_order
from vitals.orders.profiles import PROFILES
from vitals.rules import Rule
from vitals.signs import VitalSign

DEFAULT: Final = Orders(0)
"""What holds where nothing is ordered."""


def effective(
    levels: Sequence[OrderLevel], *, version: int, now_ms: int, profiles: Mapping[str, OrderLevel] = PROFILES
) -> Orders:
    """The whole orders: each level says only what differs from the one below.

    A level that is not valid yet, or not any more, says nothing; what it will say, or leave, is in `Orders.later`.

    Args:
        levels: in any order; of two of one level the later one is above.
        version: of these orders. It has to rise with every change.
        now_ms: by the clock of whoever makes them.
        profiles: what a profile is that a level chooses. A level `profile` of the same name among `levels` comes first.
    """
    given = in_rank(levels)
    chosen = {**profiles, **{level.name: level for level in given if level.level == "profile"}}
    every = in_rank([*given, *_profiles_of(given, chosen)])
    notes = tuple(note_of(level) for level in every)
    now = _fold(every, notes, version, now_ms)
    moments = {at_ms for level in every for at_ms in (level.valid_from_ms, level.valid_until_ms) if at_ms is not None}
    later: list[LaterOrders] = []
    before = now
    for at_ms in sorted(moment for moment in moments if moment > now_ms):
        then = _fold(every, notes, version, at_ms)
        if (then.rules, then.settings) != (before.rules, before.settings):
            later.append(_difference(before, then))
            before = then
    return replace(now, later=tuple(later))


def applied(level: OrderLevel, below: Orders, profiles: Mapping[str, OrderLevel] = PROFILES) -> Orders:
    """The orders with one more level on top, whenever it is valid, and with the profile that it chooses beneath it.

    What is to come is left out: for comparing what a level says with what would hold without it.
    """
    found = replace(below, later=())
    profile = profiles.get(level.profile or "")
    for one in (profile, level) if profile is not None else (level,):
        place = len(found.levels)
        found = _apply(one, replace(found, levels=(*found.levels, note_of(one))), place)
    return found


def in_rank(levels: Sequence[OrderLevel]) -> list[OrderLevel]:
    """Levels from the lowest to the highest."""
    return sorted(levels, key=lambda level: LEVELS.index(level.level))


def note_of(level: OrderLevel) -> LevelNote:
    """Who says what a level says, why, and when."""
    return LevelNote(
        level.level,
        level.name,
        level.by,
        level.why,
        level.by_prescriber,
        level.valid_from_ms,
        level.valid_until_ms,
    )


def _profiles_of(levels: list[OrderLevel], chosen: Mapping[str, OrderLevel]) -> list[OrderLevel]:
    """The profiles that levels choose and that are not among them."""
    there = {level.name for level in levels if level.level == "profile"}
    names = dict.fromkeys(level.profile for level in levels if level.profile)
    return [chosen[name] for name in names if name in chosen and name not in there]


def _fold(levels: list[OrderLevel], notes: tuple[LevelNote, ...], version: int, now_ms: int) -> Orders:
    valid = [level.is_valid(now_ms) for level in levels]
    named = {level.profile for level in levels if level.profile}
    choices = [level.profile for level, is_valid in zip(levels, valid, strict=True) if is_valid and level.profile]
    found = Orders(version, as_of_ms=now_ms, levels=notes)
    for place, (level, is_valid) in enumerate(zip(levels, valid, strict=True)):
        # A profile that no level ever names was given to hold without a choice.
        is_chosen = level.name == choices[-1] if choices else level.name not in named
        if is_valid and (level.level != "profile" or is_chosen):
            found = _apply(level, found, place)
    return found


def _apply(level: OrderLevel, below: Orders, place: int) -> Orders:
    rules = {rule.rule_id: rule for rule in below.rules}
    for rule in level.conditions:
        rules[rule.rule_id] = rule
    for rule_id, change in level.rules.items():
        if rule_id in rules:
            rules[rule_id] = change.applied(rules[rule_id])
    return replace(below, rules=in_order(rules.values()), settings=_settings(level, below.settings, place))


def _settings(level: OrderLevel, below: OrderSettings, place: int) -> OrderSettings:
    scale = below if level.spo2_scale is None else level
    said_by = dict(below.said_by)
    for key in keys_of(level):
        said_by[key] = (*said_by.get(key, ()), place)
    rule_calls = {rule_id: change.call for rule_id, change in level.rules.items() if change.call is not None}
    return OrderSettings(
        spo2_scale=scale.spo2_scale,
        prescription=scale.prescription,
        expected=below.expected if level.expected is None else tuple(sign.value for sign in level.expected),
        cadence_ms={**below.cadence_ms, **_by_name(level.cadence_ms)},
        valid_ms={**below.valid_ms, **_by_name(level.valid_ms)},
        stale_after_ms=below.stale_after_ms if level.stale_after_ms is None else level.stale_after_ms,
        lost_after_ms=below.lost_after_ms if level.lost_after_ms is None else level.lost_after_ms,
        calls={**below.calls, **level.calls, **rule_calls},
        quiet=below.quiet if level.quiet is None else level.quiet,
        said_by=said_by,
        holds_up_to=below.holds_up_to if level.holds_up_to is None else int(level.holds_up_to),
        learns_by_activity=(below.learns_by_activity if level.learns_by_activity is None else level.learns_by_activity),
        profile=level.profile or (level.name if level.level == "profile" else below.profile),
    )


def _by_name(by_sign: Mapping[VitalSign, int]) -> dict[str, int]:
    return {sign.value: ms for sign, ms in by_sign.items()}


def keys_of(level: OrderLevel) -> list[str]:
    """What a level says something about, as keys of its file."""
    keys = [f"rule.{rule_id}" for rule_id in (*level.rules, *(rule.rule_id for rule in level.conditions))]
    keys += [f"call.{name}" for name in level.calls]
    keys += [f"watch.cadence.{sign}" for sign in level.cadence_ms]
    keys += [f"watch.valid.{sign}" for sign in level.valid_ms]
    single = {
        "spo2.scale": level.spo2_scale,
        "watch.expected": level.expected,
        "watch.stale_after": level.stale_after_ms,
        "watch.lost_after": level.lost_after_ms,
        "quiet": level.quiet,
        "order.profile": level.profile,
        "activity.explains": level.holds_up_to,
        "activity.learns": level.learns_by_activity,
    }
    return keys + [key for key, value in single.items() if value is not None]


def _difference(before: Orders, then: Orders) -> LaterOrders:
    old: dict[str, Rule] = {rule.rule_id: rule for rule in before.rules}
    new = {rule.rule_id: rule for rule in then.rules}
    return LaterOrders(
        at_ms=then.as_of_ms,
        rules=tuple(rule for rule in then.rules if old.get(rule.rule_id) != rule),
        gone=tuple(rule_id for rule_id in old if rule_id not in new),
        settings=then.settings,
    )
