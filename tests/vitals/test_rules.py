"""Rules as data: limits, margins, what a rule that cannot work is told."""

from typing import Any

import pytest

from tests.vitals.stories import a_rule, below
from vitals.errors import BadPlan
from vitals.messages import AlarmKind, Priority
from vitals.rules import DEFAULT_RULES, QUANTITIES, AlarmLimit, Rule, Term, Trend
from vitals.signs import SPEC, VitalSign

LOW, MEDIUM, HIGH = Priority
BY_ID = {rule.rule_id: rule for rule in DEFAULT_RULES}
NEWS2 = a_rule("news2", AlarmLimit(5, MEDIUM), AlarmLimit(7, HIGH))
SPO2 = below(VitalSign.SPO2, AlarmLimit(87, MEDIUM), AlarmLimit(84, HIGH), clear_margin=2)
every_default_rule = pytest.mark.parametrize("rule", DEFAULT_RULES, ids=list(BY_ID))


@pytest.mark.parametrize(
    ("rule", "value", "priority"),
    [
        (NEWS2, 4, None), (NEWS2, 5, MEDIUM), (NEWS2, 6, MEDIUM), (NEWS2, 7, HIGH), (NEWS2, 20, HIGH),
        (SPO2, 88, None), (SPO2, 87, MEDIUM), (SPO2, 85, MEDIUM), (SPO2, 84, HIGH), (SPO2, 50, HIGH),
        (SPO2, 87.4, None),
    ],
)  # fmt: skip
def test_the_worst_limit_that_is_crossed_gives_the_priority(rule: Rule, value: float, priority: Priority) -> None:
    assert rule.reached(value) is priority


@pytest.mark.parametrize(
    ("rule", "value", "inside"),
    [
        (NEWS2, 5, False), (NEWS2, 4, True),  # no margin: one point below is enough
        (SPO2, 87, False), (SPO2, 88, False), (SPO2, 88.9, False), (SPO2, 89, True),
        (a_rule("shock_index", AlarmLimit(1.0, LOW), clear_margin=0.25), 0.76, False),
        (a_rule("shock_index", AlarmLimit(1.0, LOW), clear_margin=0.25), 0.75, True),
    ],
)  # fmt: skip
def test_a_value_is_well_inside_from_the_margin_on(rule: Rule, value: float, inside: bool) -> None:
    assert rule.is_well_inside(value) is inside


@pytest.mark.parametrize("rule", [NEWS2, SPO2])
def test_what_is_not_a_number_neither_raises_nor_clears(rule: Rule) -> None:
    assert rule.reached(float("nan")) is None
    assert not rule.is_well_inside(float("nan"))


@pytest.mark.parametrize(
    ("latching", "priority", "latches"),
    [
        (None, HIGH, True), (None, MEDIUM, False), (None, LOW, False),
        (True, LOW, True), (False, HIGH, False),
    ],
)  # fmt: skip
def test_high_priority_latches_unless_the_rule_says_otherwise(
    latching: bool | None, priority: Priority, latches: bool
) -> None:
    assert a_rule("news2", AlarmLimit(5, LOW), latching=latching).latches(priority) is latches


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limits": ()}, "give at least one limit"),
        ({"limits": (AlarmLimit(7, HIGH), AlarmLimit(5, MEDIUM))}, "from the mildest to the worst"),
        ({"limits": (AlarmLimit(5, MEDIUM), AlarmLimit(7, HIGH)), "comparison": "<="}, "from the mildest to the worst"),
        ({"limits": (AlarmLimit(float("nan"), MEDIUM),)}, "limits must be finite numbers"),
        ({"limits": (AlarmLimit(5, MEDIUM), AlarmLimit(float("inf"), HIGH))}, "limits must be finite numbers"),
        ({"limits": (AlarmLimit(5, HIGH), AlarmLimit(7, MEDIUM))}, "may not have a lower priority"),
        ({"quantity": "mood"}, "unknown quantity 'mood'; known are news2, red_sign"),
        ({"for_ms": -1}, "0 or more"),
        ({"clear_for_ms": -1}, "0 or more"),
        ({"clear_margin": -0.1}, "0 or more"),
        ({"clear_count": 0}, "clear_count at least 1"),
    ],
)
def test_a_rule_that_cannot_work_says_what_is_wrong_with_it(changes: dict[str, Any], said: str) -> None:
    rule = a_rule(**{"quantity": "news2", "rule_id": "mine", "limits": (AlarmLimit(5, MEDIUM),)} | changes)

    with pytest.raises(BadPlan, match="rule mine: ") as refused:
        rule.check()

    assert said in str(refused.value)


PARTS: dict[str, dict[str, Any]] = {
    "combined": {"all_of": (Term("heart_rate", ">=", 110), Term("temperature", ">=", 38.3))},
    "trend": {"trend": Trend("heart_rate", 3_600_000)},
}


@pytest.mark.parametrize("quantity", [*QUANTITIES, *SPEC])
def test_every_quantity_may_have_a_rule(quantity: str) -> None:
    a_rule(quantity, AlarmLimit(1, LOW), **PARTS.get(quantity, {})).check()


@pytest.mark.parametrize(
    ("quantity", "changes", "said"),
    [
        ("combined", {}, "the terms of all_of go together"),
        ("news2", PARTS["combined"], "the terms of all_of go together"),
        ("trend", {}, "a trend go together"),
        ("combined", {"all_of": (Term("mood", ">=", 1),)}, "unknown quantity 'mood'"),
        ("combined", {"all_of": (Term("spo2", ">=", float("nan")),)}, "thresholds must be finite"),
        ("combined", {"all_of": (Term("spo2", ">=", 90, float("nan")),)}, "margins 0 or more"),
        ("trend", {"trend": Trend("news2", 60_000)}, "a trend is of a sign"),
        ("trend", {"trend": Trend("spo2", 5 * 3_600_000)}, "over at most 240 min"),
    ],
)
def test_a_rule_of_several_parts_names_parts_that_can_be_judged(
    quantity: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadPlan) as refused:
        a_rule(quantity, AlarmLimit(1, LOW), **changes).check()

    assert said in str(refused.value)


@every_default_rule
def test_the_limits_of_a_default_rule_rise_in_severity(rule: Rule) -> None:
    rule.check()

    said = [limit.priority for limit in rule.limits]
    assert said == sorted(set(said))
    assert [rule.reached(limit.threshold) for limit in rule.limits] == said


@every_default_rule
def test_a_default_rule_is_not_well_inside_at_its_own_limit(rule: Rule) -> None:
    step = -1 if rule.comparison == ">=" else 1
    mildest = rule.limits[0].threshold

    assert not rule.is_well_inside(mildest)
    assert rule.is_well_inside(mildest + step * (rule.clear_margin + 1))


@pytest.mark.parametrize("rule_id", ["low_spo2", "high_heart_rate", "low_heart_rate", "shock_index", "battery"])
def test_what_trembles_at_its_limit_has_a_margin_on_the_way_down(rule_id: str) -> None:
    assert BY_ID[rule_id].clear_margin > 0


@pytest.mark.parametrize(("rule_id", "minutes"), [("news2", 10), ("red_sign", 10), ("qsofa", 30)])
def test_a_score_is_over_after_two_below_for_some_minutes(rule_id: str, minutes: int) -> None:
    rule = BY_ID[rule_id]

    assert (rule.clear_count, rule.clear_for_ms) == (2, minutes * 60_000)


@every_default_rule
def test_the_label_of_a_default_rule_is_plain_language(rule: Rule) -> None:
    assert rule.label
    assert rule.label == rule.label.strip()
    assert "_" not in rule.label
    assert len(rule.label) <= 40


def test_no_two_default_rules_can_be_taken_for_one_another() -> None:
    assert len(BY_ID) == len(DEFAULT_RULES)
    assert len({rule.label for rule in DEFAULT_RULES}) == len(DEFAULT_RULES)


def test_technical_alarms_are_a_class_of_their_own() -> None:
    technical = {rule.rule_id for rule in DEFAULT_RULES if rule.kind is AlarmKind.TECHNICAL}

    assert technical == {
        "sensor_off",
        "unusable",
        "battery",
        "no_data",
        "clock",
        "sources_disagree",
        "device_silent",
        "model_unavailable",
    }
    assert not any(BY_ID[rule_id].latches(priority) for rule_id in technical for priority in Priority)


def test_only_a_patient_who_was_ill_makes_a_technical_alarm_high() -> None:
    high = {
        rule.rule_id for rule in DEFAULT_RULES if rule.kind is AlarmKind.TECHNICAL and rule.limits[-1].priority is HIGH
    }

    assert high == {"no_data"}
    assert [BY_ID["no_data"].reached(state) for state in (0, 1, 2, 3, 4)] == [None, None, MEDIUM, MEDIUM, HIGH]


@pytest.mark.parametrize(("points", "priority"), [(4, None), (5, MEDIUM), (6, MEDIUM), (7, HIGH)])
def test_the_default_thresholds_of_news2_are_those_of_the_rcp(points: int, priority: Priority | None) -> None:
    assert BY_ID["news2"].reached(points) is priority
    assert BY_ID["news2"].for_ms == 0


def test_no_data_is_on_by_default_and_a_noisy_screen_is_not() -> None:
    assert BY_ID["no_data"].enabled
    assert [rule.rule_id for rule in DEFAULT_RULES if not rule.enabled] == ["sirs"]
