"""From levels to the whole: which level wins, what is not in force, and what begins or ends later."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vitals.orders.made_up import NOW, UNHURRIED, a_level, levels
from tests.vitals.stories import HOUR
from vitals.messages import AlarmKind, Priority
from vitals.orders import (
    DEFAULT,
    OBSERVE,
    PROFILES,
    OrderLevel,
    Orders,
    QuietHours,
    RuleChange,
    applied,
    effective,
    in_words,
    loosened_between,
    newer,
    plan_of,
)
from vitals.plan import MonitoringPlan
from vitals.rules import DEFAULT_RULES
from vitals.signs import VitalSign


def low_spo2(orders: Orders) -> float:
    rule = orders.rule("low_spo2")
    assert rule is not None
    return rule.limits[0].threshold


def whole(*given_levels: OrderLevel, now_ms: int = NOW, version: int = 1) -> Orders:
    return effective(given_levels, version=version, now_ms=now_ms)


def test_nothing_ordered_is_the_default() -> None:
    orders = effective([], version=0, now_ms=0)

    assert orders == DEFAULT
    assert plan_of(orders) == plan_of(None) == MonitoringPlan()


@pytest.mark.parametrize(
    "levels_said", [(), ("site",), ("site", "ward"), ("site", "ward", "profile"), ("site", "patient")]
)
def test_the_highest_level_that_says_something_wins(levels_said: tuple[str, ...]) -> None:
    limits = {"site": 90.0, "ward": 89.0, "profile": 88.0, "patient": 86.0}
    said = [a_level(name, rules={"low_spo2": RuleChange(medium=limits[name])}) for name in levels_said]

    for order in (said, said[::-1]):
        assert low_spo2(whole(*order)) == limits[levels_said[-1]] if said else 87.0


def test_what_a_level_does_not_say_stays_as_it_is_below() -> None:
    site = a_level(
        "site", rules={"low_spo2": RuleChange(medium=90.0, for_ms=30_000)}, cadence_ms={VitalSign.SPO2: 2_000}
    )
    patient = a_level("patient", rules={"low_spo2": RuleChange(high=80.0)})

    rule = whole(site, patient).rule("low_spo2")

    assert rule is not None
    assert [(one.threshold, one.priority) for one in rule.limits] == [(90.0, Priority.MEDIUM), (80.0, Priority.HIGH)]
    assert rule.for_ms == 30_000
    assert rule.clear_margin == 2
    assert plan_of(whole(site, patient)).cadence(VitalSign.SPO2) == 2_000


def test_a_limit_that_could_never_be_reached_is_left_out_and_the_stricter_stays() -> None:
    orders = whole(a_level("patient", rules={"low_spo2": RuleChange(medium=80.0)}))

    rule = orders.rule("low_spo2")
    assert rule is not None
    assert [one.priority for one in rule.limits] == [Priority.HIGH]
    assert rule.reached(84) is Priority.HIGH


def test_a_rule_without_limits_is_off() -> None:
    orders = whole(a_level("patient", rules={"high_heart_rate": RuleChange(high=None)}))

    rule = orders.rule("high_heart_rate")
    assert rule is not None
    assert not rule.enabled
    plan_of(orders).check()


@pytest.mark.parametrize(
    ("begins", "ends", "limit"),
    [
        (None, None, 80.0),
        (-HOUR, HOUR, 80.0),
        (0, None, 80.0),  # the first millisecond counts
        (None, 0, 87.0),  # the last one does not
        (None, -HOUR, 87.0),
        (HOUR, None, 87.0),
    ],
)
def test_a_level_that_is_not_in_force_says_nothing(begins: int | None, ends: int | None, limit: float) -> None:
    level = a_level(
        "patient",
        rules={"low_spo2": RuleChange(medium=80.0, high=75.0)},
        valid_from_ms=None if begins is None else NOW + begins,
        valid_until_ms=None if ends is None else NOW + ends,
    )

    assert low_spo2(whole(level)) == limit


def test_what_ends_later_ends_on_time_where_nobody_can_be_asked() -> None:
    #   |-- site 90 ------------------------------->
    #        |-- patient 80 --|
    #   now  1 h              3 h
    site = a_level("site", rules={"low_spo2": RuleChange(medium=90.0)})
    patient = a_level(
        "patient",
        rules={"low_spo2": RuleChange(medium=80.0, high=75.0)},
        valid_from_ms=NOW + HOUR,
        valid_until_ms=NOW + 3 * HOUR,
    )

    orders = whole(site, patient)
    plan = plan_of(orders)

    moments = [NOW, NOW + HOUR - 1, NOW + HOUR, NOW + 3 * HOUR - 1, NOW + 3 * HOUR, NOW + 90 * HOUR]
    assert [low_spo2(orders.at(at_ms)) for at_ms in moments] == [90.0, 90.0, 80.0, 80.0, 90.0, 90.0]
    assert [plan.at(at_ms).rules for at_ms in moments] == [plan_of(orders.at(at_ms)).rules for at_ms in moments]
    assert [plan.at(at_ms).until_ms for at_ms in moments] == [NOW + HOUR] * 2 + [NOW + 3 * HOUR] * 2 + [None] * 2


def test_words_say_that_an_order_has_ended_or_not_begun() -> None:
    ended = a_level("patient", rules={"low_spo2": RuleChange(medium=80.0)}, valid_until_ms=NOW)
    coming = a_level("ward", name="3b", rules={"low_spo2": RuleChange(medium=80.0)}, valid_from_ms=NOW + HOUR)

    said = in_words(whole(ended, coming))

    assert "The order for the patient has ended at 2026-01-05 08:00 UTC: what is below it holds." in said
    assert "The order for the ward 3b begins at 2026-01-05 09:00 UTC: until then what is below it holds." in said


def test_the_highest_level_that_chooses_a_profile_decides() -> None:
    ward = a_level("ward", name="3b", profile="postoperative")
    patient = a_level("patient", profile="copd", valid_until_ms=NOW + HOUR)

    orders = whole(ward, patient)

    assert orders.settings.profile == "copd"
    assert orders.rule("ordered_too_much_oxygen") is not None
    assert orders.rule("ordered_bleeding") is None
    later = orders.at(NOW + HOUR)
    assert later.settings.profile == "postoperative"
    assert later.rule("ordered_too_much_oxygen") is None
    assert later.rule("ordered_bleeding") is not None


def test_a_patient_s_order_is_above_the_profile_that_it_chooses() -> None:
    assert low_spo2(whole(a_level("patient", profile="copd", rules={"low_spo2": RuleChange(medium=85.0)}))) == 85.0


def test_a_site_s_own_profile_comes_before_ours() -> None:
    own = a_level("profile", name="copd", rules={"low_spo2": RuleChange(medium=88.0)})

    assert low_spo2(whole(own, a_level("patient", profile="copd"))) == 88.0
    assert low_spo2(whole(own)) == 88.0  # given without a choice, it holds
    assert low_spo2(whole(own, a_level("patient", profile="hospice"))) == 87.0


@UNHURRIED
@given(st.lists(levels(), max_size=4))
def test_orders_do_not_depend_on_how_the_levels_are_shuffled(given_levels: list[OrderLevel]) -> None:
    one_of_each = list({level.level: level for level in given_levels}.values())

    assert whole(*one_of_each) == whole(*reversed(one_of_each))


@UNHURRIED
@given(st.lists(levels(), max_size=3), levels("patient"))
def test_the_whole_is_the_whole_below_with_one_level_on_top(below: list[OrderLevel], level: OrderLevel) -> None:
    lower = [one for one in below if one.level != "patient"]
    top = msgspec.structs.replace(level, valid_from_ms=None, valid_until_ms=None, profile=None)

    all_at_once, step_by_step = whole(*lower, top), applied(top, whole(*lower))

    assert all_at_once.rules == step_by_step.rules
    assert all_at_once.settings == step_by_step.settings


@UNHURRIED
@given(st.lists(levels(), max_size=3), st.sampled_from(["site", "ward", "profile", "patient"]))
def test_a_level_that_says_nothing_changes_nothing(given_levels: list[OrderLevel], name: str) -> None:
    orders, more = whole(*given_levels), whole(*given_levels, a_level(name))

    assert more.rules == orders.rules
    assert loosened_between(orders, more) == loosened_between(more, orders) == ()


@UNHURRIED
@given(st.lists(levels(), max_size=3), st.integers(1, 5))
def test_only_a_level_that_says_something_of_a_rule_changes_it(given_levels: list[OrderLevel], version: int) -> None:
    said = {rule_id for level in given_levels for rule_id in level.rules}
    profiles = [PROFILES[level.profile] for level in given_levels if level.profile]
    said |= {rule_id for profile in profiles for rule_id in profile.rules}

    orders = whole(*given_levels, version=version)

    by_id = {rule.rule_id: rule for rule in orders.rules}
    assert all(by_id[rule.rule_id] == rule for rule in DEFAULT_RULES if rule.rule_id not in said)


@UNHURRIED
@given(st.lists(levels(), max_size=3), st.integers(0, 50))
def test_orders_at_a_later_moment_are_those_worked_out_then(given_levels: list[OrderLevel], hours: int) -> None:
    then_ms = NOW + hours * HOUR

    early, late = whole(*given_levels).at(then_ms), whole(*given_levels, now_ms=then_ms)

    assert (early.rules, early.settings) == (late.rules, late.settings)
    assert [one.at_ms for one in early.later] == [one.at_ms for one in late.later]


def test_a_lower_version_never_replaces_a_higher_one() -> None:
    old, new = whole(version=3), whole(version=4)

    assert newer(new, old) is new
    assert newer(old, new) is new
    assert newer(None, old) is old
    assert newer(new, None) is new
    assert newer(None, None) is None
    again = whole(a_level("site", rules={"low_spo2": RuleChange(medium=80.0)}), version=4)
    assert newer(new, again) is new  # the same version twice: what is held stays


def test_who_is_called_is_by_rule_before_priority() -> None:
    orders = whole(
        a_level("site", calls={"high": "crash-team", "technical": "technician"}),
        a_level("patient", calls={"medium": OBSERVE}, rules={"news2": RuleChange(call="nurse-now")}),
    )

    physiological, technical = AlarmKind.PHYSIOLOGICAL, AlarmKind.TECHNICAL
    assert orders.call_of("news2", physiological, Priority.MEDIUM) == "nurse-now"
    assert orders.call_of("red_sign", physiological, Priority.HIGH) == "crash-team"
    assert orders.call_of("qsofa", physiological, Priority.MEDIUM) == OBSERVE
    assert orders.call_of("low_spo2", physiological, Priority.LOW) == ""
    assert orders.call_of("no_data", technical, Priority.HIGH) == "technician"


@pytest.mark.parametrize(
    ("priority", "minute", "quiet"),
    [
        (Priority.LOW, 21 * 60 + 59, False),
        (Priority.LOW, 22 * 60, True),
        (Priority.LOW, 6 * 60 + 59, True),
        (Priority.LOW, 7 * 60, False),
        (Priority.MEDIUM, 23 * 60, False),
        (Priority.HIGH, 23 * 60, False),
    ],
)
def test_only_low_priority_has_quiet_hours(priority: Priority, minute: int, quiet: bool) -> None:
    orders = whole(a_level("site", quiet=QuietHours(22 * 60, 7 * 60)))

    assert orders.calls_nobody("qsofa", AlarmKind.PHYSIOLOGICAL, priority, minute) is quiet


def test_a_higher_level_can_take_quiet_hours_back() -> None:
    orders = whole(a_level("site", quiet=QuietHours(22 * 60, 7 * 60)), a_level("patient", quiet=QuietHours(0, 0)))

    assert orders.quiet is None
    assert not orders.calls_nobody("qsofa", AlarmKind.PHYSIOLOGICAL, Priority.LOW, 0)
