"""What is found wrong with a level, and what is only said."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vitals.orders.made_up import NOW, UNHURRIED, a_level, levels
from tests.vitals.stories import HOUR, MINUTE, SECOND
from vitals.messages import Priority
from vitals.orders import (
    DEFAULT,
    OBSERVE,
    PROFILES,
    OrderLevel,
    Prescription,
    QuietHours,
    RuleChange,
    check,
    effective,
    needs_prescriber,
    parse_toml,
)
from vitals.rules import AlarmLimit, Rule, Term, Trend
from vitals.signs import VitalSign

BELOW = msgspec.structs.replace(DEFAULT, as_of_ms=NOW)
GIVEN = Prescription("dr.meyer", NOW - HOUR, "blood gas")


def rule(rule_id: str, **said: Any) -> dict[str, Any]:
    return {"rules": {rule_id: RuleChange(**said)}}


def combined(*terms: Term, name: str = "x") -> Rule:
    return Rule(
        rule_id=f"ordered_{name}",
        label=name,
        quantity="combined",
        limits=(AlarmLimit(1, Priority.LOW),),
        clear_margin=0.75,
        all_of=terms,
    )


def trend(sign: str, over_ms: int) -> Rule:
    return Rule(
        rule_id="ordered_t",
        label="t",
        quantity="trend",
        limits=(AlarmLimit(20, Priority.LOW),),
        trend=Trend(sign, over_ms),
    )


@pytest.mark.parametrize(
    ("said", "key", "problem"),
    [
        ({"by": ""}, "order.by", "nobody is named"),
        ({"why": ""}, "order.why", "no reason is given"),
        ({"level": "ward"}, "order.name", "which ward this is for"),
        ({"valid_from_ms": NOW + HOUR, "valid_until_ms": NOW + HOUR}, "order.until", "not after it begins"),
        ({"valid_until_ms": NOW}, "order.until", "ended at 2026-01-05T08:00:00.000Z: it would never be in force"),
        ({"profile": "sailor"}, "order.profile", "there is no profile 'sailor'"),
        (rule("low_sp02", high=80.0), "rule.low_sp02", "there is no such rule"),
        (rule("ordered_gone", enabled=False), "rule.ordered_gone", "there is no such rule"),
        (rule("low_spo2", medium=80.0), "rule.low_spo2.medium", "a value that reaches medium at 80 is of a higher"),
        (rule("low_spo2", medium=82.0, high=85.0), "rule.low_spo2.medium", "is of a higher priority already"),
        (rule("low_spo2", high=90.0), "rule.low_spo2", "leaves the limit of medium priority, 87, without effect"),
        (rule("low_heart_rate", high=160.0), "rule.low_heart_rate", "every value would be an alarm"),
        (rule("high_heart_rate", medium=30.0), "rule.high_heart_rate", "every value would be an alarm"),
        (rule("unusual_heart_rate", for_ms=2 * HOUR), "rule.unusual_heart_rate.delay", "2 h is too long a wait"),
        (rule("low_spo2", for_ms=11 * MINUTE), "rule.low_spo2.delay", "11 min is too long a wait for high priority"),
        (rule("low_spo2", clear_margin=15.0), "rule.low_spo2.clear_margin", "the alarm could never end"),
        (rule("qsofa", clear_margin=5.0), "rule.qsofa.clear_margin", "the alarm could never end"),
        (rule("low_spo2", clear_for_ms=25 * HOUR), "rule.low_spo2.clear_after", "more than a day"),
        ({"spo2_scale": 2}, "spo2", "scale 2 needs its prescription"),
        ({"spo2_scale": 2, "prescription": GIVEN, "level": "site"}, "spo2.scale", "prescribed for one patient"),
        (
            {"spo2_scale": 2, "prescription": Prescription("x", NOW + HOUR, "y")},
            "spo2.prescribed_at",
            "lies in the future",
        ),
        ({"spo2_scale": 1, "prescription": GIVEN}, "spo2", "scale 1 needs no prescription"),
        ({"valid_ms": {VitalSign.SPO2: 10 * MINUTE}}, "watch.valid.spo2", "what is stale may not be scored"),
        ({"valid_ms": {VitalSign.SYSTOLIC_BP: MINUTE}}, "watch.valid.systolic_bp", "between two of them it would be"),
        ({"stale_after_ms": HOUR, "lost_after_ms": MINUTE}, "watch.lost_after", "before it is stale"),
        ({"quiet": QuietHours(7 * 60, 22 * 60)}, "quiet", "longer than 12 h"),
        ({"calls": {"urgent": "x"}}, "call.urgent", "is no class of alarms"),
        (
            {"conditions": (combined(Term("spo2", ">=", 95), Term("spo2", "<=", 90)),)},
            "condition.x.all",
            "no oxygen saturation is both",
        ),
        (
            {"conditions": (combined(Term("spo2", "<=", 95), Term("spo2", "<=", 90)),)},
            "condition.x.all",
            "compares a sign twice",
        ),
        (
            {"conditions": (combined(Term("spo2", "<=", 95)), combined(Term("spo2", "<=", 90)))},
            "condition.x",
            "occurs twice",
        ),
        ({"conditions": (trend("systolic_bp", HOUR),)}, "condition.t.trend.over", "too seldom to have a trend"),
        (
            {"conditions": tuple(combined(Term("spo2", "<=", 90), name=f"x{place}") for place in range(11))},
            "condition",
            "more than 10 conditions",
        ),
        (rule("news2", high=9.0), "rule.news2", "only a prescriber may order this"),
        ({"profile": "hospice"}, "rule.red_sign", "only a prescriber may order this"),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_meant_is_an_error_with_key_and_fix(
    said: dict[str, Any], key: str, problem: str
) -> None:
    findings = check(a_level(**{"level": "patient"} | said), BELOW)

    found = [one for one in findings if one.key == key and problem in one.problem]
    assert found, [one.text for one in findings]
    assert all(one.is_error and one.fix for one in found)
    assert not any(one.is_error for one in findings[[one.is_error for one in findings].count(True) :])


@pytest.mark.parametrize(
    ("said", "key", "problem"),
    [
        ({}, "order", "says nothing"),
        ({"valid_from_ms": NOW + HOUR}, "order.from", "begins at 2026-01-05T09:00:00.000Z"),
        ({"valid_until_ms": NOW + 400 * 24 * HOUR}, "order.until", "more than a year"),
        ({"profile": "copd"}, "spo2.scale", "does not set scale 2"),
        (rule("arrest", enabled=False), "rule.arrest", "nobody is told of zeros"),
        ({"calls": {"technical": OBSERVE}}, "rule.no_data", "nobody is called of data that stop"),
        ({"expected": ()}, "watch.expected", "nobody is told when all data stop"),
    ],
)
def test_what_whoever_signs_should_know_is_said(said: dict[str, Any], key: str, problem: str) -> None:
    findings = check(a_level("patient", by_prescriber=True, **said), BELOW)

    assert [(one.key, one.is_error) for one in findings if problem in one.problem] == [(key, False)]
    assert not any(one.is_error for one in findings)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_in_order_when_a_prescriber_chooses_it(name: str) -> None:
    level = a_level("patient", profile=name, by_prescriber=True)

    assert [one for one in check(level, BELOW) if one.is_error] == []
    assert [one for one in check(PROFILES[name], BELOW) if one.is_error and one.key.startswith("condition")] == []


@UNHURRIED
@given(levels())
def test_nothing_that_needs_a_prescriber_is_in_order_without_one(level: OrderLevel) -> None:
    errors = [one for one in check(level, BELOW) if "only a prescriber" in one.problem]

    assert bool(errors) is bool(needs_prescriber(level, BELOW))
    signed = msgspec.structs.replace(level, by_prescriber=True)
    assert not [one for one in check(signed, BELOW) if "only a prescriber" in one.problem]


@UNHURRIED
@given(st.lists(levels(), max_size=3), levels())
def test_any_level_on_any_other_can_be_checked(below: list[OrderLevel], level: OrderLevel) -> None:
    for finding in check(level, effective(below, version=1, now_ms=NOW)):
        assert finding.key
        assert "\n" not in finding.text


def test_the_level_below_counts_for_what_contradicts() -> None:
    ward = a_level("ward", name="3b", rules={"low_heart_rate": RuleChange(high=50.0)})
    patient = a_level("patient", rules={"high_heart_rate": RuleChange(high=49.0)})

    assert not any("every value" in one.problem for one in check(patient, BELOW))
    assert any("every value" in one.problem for one in check(patient, effective([ward], version=1, now_ms=NOW)))


def test_an_order_that_is_in_order_has_no_findings() -> None:
    level = parse_toml(
        """
        [order]
        level = "patient"
        by = "dr.meyer"
        why = "after hip surgery"
        profile = "postoperative"
        [rule.low_spo2]
        medium = 90
        delay = "10 s"
        call = "nurse-now"
        """
    )

    assert check(level, BELOW) == []
    assert level.rules["low_spo2"].for_ms == 10 * SECOND
