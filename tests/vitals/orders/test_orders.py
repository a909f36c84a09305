"""The bytes of orders, and the plan that they become."""

from typing import NoReturn

import msgspec
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.vitals.orders.made_up import NOW, UNHURRIED, a_level, levels
from tests.vitals.stories import HOUR, MINUTE
from vitals.messages import Activity, AlarmKind, Priority
from vitals.orders import (
    DEFAULT,
    MAX_BYTES,
    PROFILES,
    BadOrders,
    OrderLevel,
    Orders,
    RuleChange,
    decode_orders,
    effective,
    encode_orders,
    in_words,
    plan_of,
)
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from vitals.rules import DEFAULT_RULES, AlarmLimit, Rule
from vitals.signs import VitalSign


@UNHURRIED
@given(st.lists(levels(), max_size=3), st.integers(1, 10**6))
def test_what_is_encoded_is_decoded(given_levels: list[OrderLevel], version: int) -> None:
    orders = effective(given_levels, version=version, now_ms=NOW)
    try:
        encoded = encode_orders(orders)
    except BadOrders as error:
        reject_if_too_long(error)

    assert decode_orders(encoded) == orders


def reject_if_too_long(error: BadOrders) -> NoReturn:
    """Levels at random may say more than anybody would sign."""
    if "that travel" not in error.problem:
        raise error
    reject()


@UNHURRIED
@given(st.lists(levels(), max_size=3))
def test_whatever_levels_say_a_monitor_can_judge_by_it(given_levels: list[OrderLevel]) -> None:
    orders = effective(given_levels, version=1, now_ms=NOW)

    plan_of(orders).check()
    for later in orders.later:
        plan_of(orders.at(later.at_ms)).check()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_travels_with_a_prescription_and_reasons(name: str) -> None:
    why = "w" * 300
    site = a_level("site", by="b" * 60, why=why)
    ward = a_level("ward", by="b" * 60, why=why, name="n" * 60, valid_until_ms=NOW + HOUR)
    patient = a_level("patient", by="b" * 60, why=why, profile=name, valid_until_ms=NOW + 2 * HOUR)

    assert len(encode_orders(effective([site, ward, patient], version=1, now_ms=NOW))) < MAX_BYTES


def test_orders_that_do_not_travel_are_refused_with_the_fix() -> None:
    many = [
        Rule(rule_id=f"ordered_{place}", label="x" * 60, quantity="spo2", limits=(AlarmLimit(1, Priority.LOW),))
        for place in range(60)
    ]

    with pytest.raises(BadOrders, match="more than the 7000 that travel; order fewer conditions"):
        encode_orders(msgspec.structs.replace(DEFAULT, rules=(*DEFAULT_RULES, *many)))


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.integers(0, 2_000).map(lambda at: encode_orders(DEFAULT)[:at]))
def test_damaged_bytes_raise_nothing_but_bad_orders(encoded: bytes) -> None:
    with pytest.raises(BadOrders):
        decode_orders(encoded)


@pytest.mark.parametrize("fields", [[0], [5], [5, 0], [5, 0, []]])
def test_orders_that_are_cut_off_are_not_the_defaults(fields: list[object]) -> None:
    with pytest.raises(BadOrders):
        decode_orders(msgspec.msgpack.encode(fields))


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_flipped_byte_raises_nothing_but_bad_orders(place: int, byte: int) -> None:
    encoded = bytearray(encode_orders(effective([a_level("patient", profile="copd")], version=3, now_ms=NOW)))
    encoded[place % len(encoded)] = byte

    try:
        orders = decode_orders(bytes(encoded))
    except BadOrders:
        return
    plan_of(orders).check()


def test_bytes_with_fewer_fields_are_read() -> None:
    orders = effective([a_level("patient", rules={"low_spo2": RuleChange(medium=85.0)})], version=3, now_ms=NOW)
    fields = msgspec.msgpack.decode(encode_orders(orders))

    earlier = decode_orders(msgspec.msgpack.encode(fields[:4]))

    assert (earlier.version, earlier.rules) == (3, orders.rules)


def test_bytes_with_more_fields_are_read() -> None:
    fields = msgspec.msgpack.decode(encode_orders(DEFAULT))

    assert decode_orders(msgspec.msgpack.encode([*fields, "of a later version"])) == DEFAULT


def test_the_fields_of_a_rule_keep_their_places() -> None:
    # Orders are stored by the position of fields: append, never insert.
    assert Rule.__struct_fields__[:17] == (
        "rule_id", "version", "label", "kind", "quantity", "comparison", "limits", "for_ms", "clear_margin",
        "clear_for_ms", "clear_count", "latching", "basis", "enabled", "not_for", "all_of", "trend",
    )  # fmt: skip
    assert Orders.__struct_fields__[:7] == ("version", "as_of_ms", "rules", "settings", "levels", "later", "from_ms")


def test_a_rule_of_a_later_version_is_left_out_and_said() -> None:
    new = Rule(rule_id="mood", label="bad mood", quantity="mood", limits=(AlarmLimit(1, Priority.HIGH),))
    orders = decode_orders(encode_orders(msgspec.structs.replace(DEFAULT, rules=(*DEFAULT_RULES, new))))

    assert plan_of(orders) == MonitoringPlan()
    assert in_words(orders) == ["This version cannot judge the rule mood (bad mood): nobody is told of it."]


def test_a_rule_that_the_orders_do_not_know_is_judged_by_its_default() -> None:
    earlier = msgspec.structs.replace(DEFAULT, version=2, rules=DEFAULT_RULES[1:])

    assert {rule.rule_id for rule in plan_of(earlier).rules} == {rule.rule_id for rule in DEFAULT_RULES}


def test_a_plan_has_what_the_place_knows_and_the_orders_overrule_it() -> None:
    orders = effective(
        [a_level("patient", cadence_ms={VitalSign.SPO2: 2_000}, spo2_scale=2, stale_after_ms=MINUTE)],
        version=7,
        now_ms=NOW,
    )

    plan = plan_of(
        orders,
        group=PatientGroup.ADULT,
        cadence_ms={"spo2": 9_000, "heart_rate": 9_000},
        time_zone="Europe/Berlin",
        clock_bound_ms=5,
        spo2_scale=1,
    )

    assert (plan.cadence(VitalSign.SPO2), plan.cadence(VitalSign.HEART_RATE)) == (2_000, 9_000)
    assert (plan.spo2_scale, plan.group, plan.time_zone, plan.clock_bound_ms) == (
        2,
        PatientGroup.ADULT,
        "Europe/Berlin",
        5,
    )
    assert (plan.stale_after_ms, plan.orders_version) == (MINUTE, 7)


def test_without_an_order_on_the_scale_that_of_the_binding_holds() -> None:
    assert plan_of(DEFAULT, spo2_scale=2).spo2_scale == plan_of(None, spo2_scale=2).spo2_scale == 2


def test_an_activity_is_believed_only_by_order() -> None:
    orders = effective([a_level("patient", profile="athlete")], version=1, now_ms=NOW)

    plan = plan_of(orders, age_years=30)

    assert plan.activity.holds_up_to is Activity.EXERCISE
    assert plan.activity.age_years == 30
    assert plan.activity.learns_by_activity
    assert plan_of(DEFAULT).activity == MonitoringPlan().activity
    plan_of(orders, age_years=12).check()


@pytest.mark.parametrize("scale", [0, 3])
def test_orders_on_a_scale_that_is_none_are_refused(scale: int) -> None:
    fields = msgspec.msgpack.decode(encode_orders(effective([a_level("patient", spo2_scale=2)], version=1, now_ms=NOW)))
    fields[3][0] = scale

    with pytest.raises(BadOrders, match="not a NEWS2 scale"):
        decode_orders(msgspec.msgpack.encode(fields))


def test_hospice_calls_nobody_and_lists_everything() -> None:
    orders = effective([a_level("patient", profile="hospice")], version=1, now_ms=NOW)

    calls = {orders.calls_nobody(r.rule_id, r.kind, one.priority, 0) for r in orders.rules for one in r.limits}

    assert calls == {True}
    assert orders.calls_nobody("clock", AlarmKind.TECHNICAL, Priority.HIGH, 0)
    assert plan_of(orders).rules == DEFAULT_RULES
