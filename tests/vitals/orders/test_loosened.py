"""What a level loosens is found: by examples, and by replaying streams with and without the level."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.orders.made_up import NOW, UNHURRIED, a_level, levels
from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_reading,
    alarms,
)
from vitals.messages import AlarmState, BindingPeriod, Consciousness, Priority, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.orders import (
    DEFAULT,
    OBSERVE,
    OrderLevel,
    Orders,
    QuietHours,
    RuleChange,
    applied,
    effective,
    loosened,
    needs_prescriber,
    plan_of,
)
from vitals.orders.loosened import RED
from vitals.signs import VitalSign


def rule(rule_id: str, **said: Any) -> dict[str, Any]:
    return {"rules": {rule_id: RuleChange(**said)}}


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (rule("news2", high=8.0), "news2: is high only from 8, without this order from 7"),
        (rule("news2", high=None), "news2: has no alarm of high priority any more"),
        (rule("news2", for_ms=1), "news2: waits longer"),
        (rule("news2", enabled=False), "news2: is switched off"),
        (rule("news2", latching=False), "news2: ends without anybody having looked"),
        (rule("news2", call=OBSERVE), "news2: calls nobody at high priority"),
        (rule("news2", clear_for_ms=MINUTE), "news2: ends sooner"),
        (rule("red_sign", clear_count=1), "red_sign: ends sooner"),
        (rule("red_sign", for_ms=2 * MINUTE), "red_sign: waits longer"),
        (rule("red_sign", high=None, medium=3.0), "red_sign: has no alarm of high priority any more"),
        (rule("arrest", enabled=False), "arrest: is switched off"),
        (rule("suspect_value", medium=None), "suspect_value: is medium only from 2, without this order from 1"),
        (rule("no_data", high=None), "no_data: has no alarm of high priority any more"),
        (rule("danger_consciousness", high=4.0), "danger_consciousness: is high only from 4"),
        ({"calls": {"high": OBSERVE}}, "red_sign: calls nobody at high priority"),
        ({"calls": {"technical": OBSERVE}}, "no_data: calls nobody at high priority"),
        ({"spo2_scale": 2}, "red_sign: SpO2 is scored on scale 2"),
        ({"spo2_scale": 1}, "red_sign: SpO2 is scored on scale 1"),
        ({"expected": (VitalSign.SPO2,)}, "no_data: nobody is told when heart rate stops"),
        ({"lost_after_ms": HOUR}, "no_data: missing heart rate is told later at a NEWS2 of 7"),
        ({"cadence_ms": {VitalSign.SPO2: MINUTE}}, "no_data: missing oxygen saturation is told later at a NEWS2 of 7"),
        ({"cadence_ms": {VitalSign.SPO2: 30_000}}, "arrest: a single zero of oxygen saturation is told later"),
        ({"cadence_ms": {VitalSign.TEMPERATURE: 30_000}}, "suspect_value: one contradicted body temperature"),
        ({"valid_ms": {VitalSign.SPO2: 10_000}}, "news2: oxygen saturation counts for a shorter time"),
        ({"profile": "hospice"}, "news2: calls nobody at high priority"),
        ({"profile": "athlete"}, "red_sign: waits while an activity explains it"),
        ({"profile": "heart_failure_home"}, "no_data: missing heart rate is told later at a NEWS2 of 5"),
    ],
)  # fmt: skip
def test_only_a_prescriber_may_loosen_a_red_rule(said: dict[str, Any], text: str) -> None:
    found = needs_prescriber(a_level("patient", **said), DEFAULT)

    assert any(one.startswith(text) for one in found), found


@pytest.mark.parametrize(
    "said",
    [
        {},
        rule("news2", high=6.0),
        rule("news2", medium=3.0),
        rule("news2", medium=6.0),  # of medium priority only
        rule("news2", low=1.0),
        rule("red_sign", for_ms=0),
        rule("red_sign", high=2.0),
        rule("arrest", call="crash-team"),
        rule("low_spo2", medium=80.0, high=70.0),  # loosened, and not red
        rule("high_heart_rate", enabled=False),
        rule("no_data", medium=3.0),
        {"calls": {"low": OBSERVE, "medium": "nurse-now"}},
        {"quiet": QuietHours(1_320, 420)},
        {"stale_after_ms": MINUTE},
        {"expected": (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE, VitalSign.SPO2, VitalSign.TEMPERATURE)},
        {"cadence_ms": {VitalSign.SPO2: 2 * SECOND}},
        {"valid_ms": {VitalSign.SPO2: 70_000}},
        {"profile": "postoperative"},
        {"profile": "copd"},
        {"profile": "general_ward"},
    ],
)
def test_what_tightens_or_is_not_red_needs_none(said: dict[str, Any]) -> None:
    assert needs_prescriber(a_level("patient", **said), DEFAULT) == []


def test_what_is_loosened_already_needs_no_second_prescriber() -> None:
    below = effective([a_level("ward", name="3b", **rule("news2", high=9.0))], version=1, now_ms=NOW)

    assert needs_prescriber(a_level("patient", **rule("news2", high=9.0)), below) == []
    assert needs_prescriber(a_level("patient", **rule("news2", high=10.0)), below)


STEPS = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.sampled_from([5 * SECOND, 20 * SECOND, MINUTE]),
        st.fixed_dictionaries(
            {},
            optional={
                "spo2": st.sampled_from([98, 93, 91, 87, 84, 83, 70, 45, 0]),
                "heart_rate": st.sampled_from([70, 95, 115, 135, 160, 38, 30, 15, 0]),
                "respiratory_rate": st.sampled_from([14, 22, 26, 8, 1, 0]),
                "systolic_bp": st.sampled_from([120, 100, 85, 35]),
                "temperature": st.sampled_from([37.0, 38.5, 34.0, 31.0]),
                "supplemental_oxygen": st.sampled_from([0, 2]),
                "consciousness": st.sampled_from([Consciousness.ALERT, Consciousness.PAIN]),
            },
        ),
        st.sampled_from([0, 0, int(SensorFlag.MOTION), int(SensorFlag.LOW_PERFUSION), int(SensorFlag.SENSOR_OFF)]),
        st.sampled_from([0, 0, 2 * MINUTE, 15 * MINUTE, 50 * MINUTE]),
    ),
    min_size=1,
    max_size=6,
)


def first_calls(orders: Orders, steps: Any) -> dict[str, dict[Priority, int]]:
    """When each rule first had an active alarm of at least each priority that calls by its orders."""
    monitor = PatientMonitor(BINDING, plan_of(orders))
    events = monitor.on_binding(BindingPeriod(stay_id=BINDING, from_ms=START, heard_ms=START))
    at_ms = 0
    for number, every_ms, values, flags, gap_ms in steps:
        for _ in range(number):
            at_ms += every_ms
            while (due_ms := monitor.timer_at()) is not None and due_ms <= START + at_ms:
                events += monitor.on_timer(due_ms)
            events += monitor.on_reading(a_reading(at_ms, flags=flags, **values))
        at_ms += gap_ms
    found: dict[str, dict[Priority, int]] = {}
    for alarm in alarms(events):
        if alarm.state is not AlarmState.ACTIVE or alarm.retrospective:
            continue
        if orders.call_of(alarm.rule_id, alarm.kind, alarm.priority) == OBSERVE:
            continue
        for priority in Priority:
            if priority <= alarm.priority:
                first = found.setdefault(alarm.rule_id, {})
                first[priority] = min(first.get(priority, alarm.at_ms), alarm.at_ms)
    return found


@pytest.mark.slow
@settings(UNHURRIED, max_examples=60)
@given(levels("patient", most=1), STEPS)
def test_whatever_alarms_later_or_not_at_all_is_named(level: OrderLevel, steps: Any) -> None:
    """Replay a stream without and with the level: an alarm that comes later is of a rule that is named."""
    level = msgspec.structs.replace(level, valid_from_ms=None, valid_until_ms=None)
    found = loosened(level, DEFAULT)
    named = {one.rule_id for one in found}
    named_red = {one.rule_id for one in found if one.is_red}

    below, with_level = first_calls(DEFAULT, steps), first_calls(applied(level, DEFAULT), steps)

    for rule_id, by_priority in below.items():
        for priority, at_ms in by_priority.items():
            now_ms = with_level.get(rule_id, {}).get(priority)
            if now_ms is not None and now_ms <= at_ms:
                continue
            if _is_told_by_another(rule_id, with_level, at_ms, priority):
                continue
            if rule_id == "no_data" and with_level.get(rule_id, {}).get(Priority.LOW, at_ms + 1) < at_ms:
                continue  # told of earlier, of a patient who was not ill yet
            is_red = rule_id in RED and priority >= RED[rule_id]
            assert rule_id in (named_red if is_red else named), (rule_id, priority, found)


INSTEAD = frozenset({"suspect_value", "unusable"})
"""These stay quiet where another alarm of the same sign has told of it, at least as urgently."""


def _is_told_by_another(rule_id: str, calls: dict[str, dict[Priority, int]], at_ms: int, priority: Priority) -> bool:
    others = (by.get(priority) for other, by in calls.items() if other != rule_id)
    return rule_id in INSTEAD and any(one is not None and one <= at_ms for one in others)


def test_a_stream_that_needs_no_prescriber_keeps_its_red_alarm() -> None:
    arrest = [(20, 5 * SECOND, WELL | {"heart_rate": 0}, 0, 0)]

    assert "arrest" in first_calls(DEFAULT, arrest)
    assert "arrest" not in first_calls(applied(a_level("patient", **rule("arrest", enabled=False)), DEFAULT), arrest)
