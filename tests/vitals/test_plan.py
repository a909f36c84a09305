"""The monitoring plan of a patient: defaults, and error messages for invalid plans."""

from typing import Any

import msgspec
import pytest

from tests.vitals.stories import HOUR, MINUTE, SECOND, a_plan, a_rule, below
from vitals.errors import BadPlan, UnknownSign, VitalsError
from vitals.messages import Priority
from vitals.plan import EXPECTED, MEASURED
from vitals.rules import DEFAULT_RULES, AlarmLimit
from vitals.signs import SPEC, VitalSign

NEWS2 = a_rule("news2", AlarmLimit(5, Priority.MEDIUM))


def test_the_default_plan_can_be_followed_and_is_the_rcp_s() -> None:
    plan = a_plan()

    plan.check()

    assert plan.spo2_scale == 1
    assert plan.rules == DEFAULT_RULES


@pytest.mark.parametrize(
    ("sign", "cadence_ms", "valid_ms"),
    [
        (VitalSign.HEART_RATE, 5 * SECOND, MINUTE),
        (VitalSign.TEMPERATURE, 5 * MINUTE, 15 * MINUTE),
        (VitalSign.SYSTOLIC_BP, HOUR, 3 * HOUR),
        (VitalSign.CONSCIOUSNESS, 6 * HOUR, 12 * HOUR),
    ],
)
def test_cadence_and_validity_follow_the_table_of_signs(sign: VitalSign, cadence_ms: int, valid_ms: int) -> None:
    plan = a_plan()

    assert (plan.cadence(sign), plan.valid(sign)) == (cadence_ms, valid_ms)


@pytest.mark.parametrize(
    ("ordered", "cadence_ms", "valid_ms"),
    [
        ({"cadence_ms": {"heart_rate": 10 * SECOND}}, 10 * SECOND, MINUTE),  # 3 x 10 s are within the minute
        ({"cadence_ms": {"heart_rate": MINUTE}}, MINUTE, 3 * MINUTE),
        ({"valid_ms": {"heart_rate": 20 * SECOND}}, 5 * SECOND, 20 * SECOND),
        ({"cadence_ms": {"spo2": MINUTE}}, 5 * SECOND, MINUTE),  # of another sign
    ],
)
def test_an_order_overrules_the_table_of_signs(ordered: dict[str, Any], cadence_ms: int, valid_ms: int) -> None:
    plan = a_plan(**ordered)

    plan.check()

    assert (plan.cadence(VitalSign.HEART_RATE), plan.valid(VitalSign.HEART_RATE)) == (cadence_ms, valid_ms)


def test_validity_is_that_of_every_sign() -> None:
    plan = a_plan(valid_ms={"spo2": 7})

    assert plan.validity == {sign: plan.valid(sign) for sign in SPEC}
    assert plan.validity[VitalSign.SPO2] == 7


@pytest.mark.parametrize(
    ("ordered", "said"),
    [
        ({"spo2_scale": 3}, "spo2_scale: 3 is not a NEWS2 scale; use 1, or 2 by prescription"),
        ({"cadence_ms": {"spo2": 0}}, "cadence_ms.spo2: 0 ms is not a positive time"),
        ({"valid_ms": {"spo2": -5}}, "valid_ms.spo2: -5 ms is not a positive time"),
        ({"window_ms": 0}, "window_ms must be positive"),
        ({"lateness_ms": -1}, "lateness_ms between 0 and"),
        ({"lateness_ms": 30_000, "backfill_after_ms": 29_999}, "backfill_after_ms"),
        ({"rules": (NEWS2, NEWS2)}, "rule news2: occurs twice; give each rule an id of its own"),
        ({"rules": (a_rule("news2"),)}, "rule news2: give at least one limit"),
    ],
)
def test_an_order_that_cannot_be_followed_names_the_key_and_the_cure(ordered: dict[str, Any], said: str) -> None:
    with pytest.raises(BadPlan) as refused:
        a_plan(**ordered).check()

    assert said in str(refused.value)


@pytest.mark.parametrize("key", ["cadence_ms", "valid_ms"])
def test_an_unknown_sign_is_named_with_the_known_ones(key: str) -> None:
    with pytest.raises(UnknownSign, match="'pulse'; known are heart_rate") as refused:
        a_plan(**{key: {"pulse": 5_000}}).check()

    assert isinstance(refused.value, VitalsError)
    assert refused.value.name == "pulse"


def test_both_scales_may_be_ordered_and_lateness_may_reach_up_to_backfill() -> None:
    a_plan(spo2_scale=2).check()
    a_plan(lateness_ms=0, backfill_after_ms=0).check()
    a_plan(lateness_ms=30_000, backfill_after_ms=30_000).check()


def test_what_a_wearable_measures_by_itself_may_not_fall_silent() -> None:
    assert set(EXPECTED) <= set(MEASURED)
    assert a_plan().expected == EXPECTED
    assert {SPEC[sign].entered for sign in MEASURED} == {False}
    assert set(SPEC) - set(MEASURED) == {VitalSign.SUPPLEMENTAL_OXYGEN, VitalSign.CONSCIOUSNESS}


def test_a_plan_survives_being_written_down() -> None:
    plan = a_plan(NEWS2, spo2_scale=2, valid_ms={"spo2": 7_000}, stale_after_ms=90_000)

    assert msgspec.json.decode(msgspec.json.encode(plan), type=type(plan)) == plan


def test_a_plan_lists_its_enabled_rules_by_quantity_and_by_sign() -> None:
    low, lower = (below(VitalSign.SPO2, AlarmLimit(limit, Priority.LOW), rule_id=f"spo2_{limit}") for limit in (90, 85))
    disabled = below(VitalSign.HEART_RATE, AlarmLimit(40, Priority.LOW), enabled=False)
    news2 = a_rule("news2", AlarmLimit(5, Priority.LOW))

    plan = a_plan(low, news2, disabled, lower)

    assert plan.rules_by_quantity == {"spo2": (low, lower), "news2": (news2,)}
    assert plan.rules_by_sign == ((VitalSign.SPO2, (low, lower)),)
