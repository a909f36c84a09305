"""The text of an alarm names the limit of the rule that fired, whatever the plan says."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.stories import HOUR, MINUTE, SECOND, a_monitor, a_reading, a_score, alarms, feed, steady
from vitals.limit_texts import STATED_IN_WORDS, limit_text
from vitals.messages import Message, Priority, SensorFlag
from vitals.rules import DEFAULT_RULES, QUANTITIES, AlarmLimit, Rule
from vitals.signs import SPEC

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
RULES = {rule.rule_id: rule for rule in DEFAULT_RULES}
MEWS = Rule(rule_id="mews", label="MEWS", quantity="mews", limits=(AlarmLimit(5, MEDIUM),), basis="MEWS")
ILL = {
    "respiratory_rate": 30, "spo2": 80, "systolic_bp": 85, "heart_rate": 140, "temperature": 39.5, "consciousness": 3,
    "supplemental_oxygen": 5,
}  # fmt: skip


def lasting(minutes: int, **changes: Any) -> list[Message]:
    """Very ill, so long that every rule's delay is over."""
    return [*steady(0, minutes * MINUTE, every_ms=15 * SECOND, **{**ILL, **changes})]


# Rule -> what fires it, and limits that this crosses.
FIRING = {
    "news2": (lasting(1), st.integers(1, 16)),
    "red_sign": (lasting(2), st.integers(1, 3)),
    "low_spo2": (lasting(1), st.integers(80, 95)),
    "high_heart_rate": (lasting(1), st.integers(100, 140)),
    "low_heart_rate": (lasting(1, heart_rate=30), st.integers(30, 60)),
    "qsofa": (lasting(2), st.integers(1, 3)),
    "shock_index": (lasting(6), st.floats(0.5, 1.6).map(lambda value: round(value, 2))),
    "sirs": (lasting(1), st.integers(1, 3)),
    "mews": (lasting(1), st.integers(1, 9)),
    "battery": ([a_reading(0, battery=3)], st.integers(3, 40)),
    "sensor_off": (lasting(14, flags=SensorFlag.SENSOR_OFF), st.integers(1, 13).map(lambda minutes: minutes * MINUTE)),
    "sepsis_risk": ([a_score(0, 0.9)], st.floats(0.2, 1.7).map(lambda value: round(value, 2))),
}


@st.composite
def changed(draw: st.DrawFn) -> tuple[Rule, list[Message]]:
    """A rule with one to three limits of a plan, all crossed, and what fires it."""
    rule_id = draw(st.sampled_from(sorted(FIRING)))
    messages, limits = FIRING[rule_id]
    rule = {**RULES, "mews": MEWS}[rule_id]
    values = draw(st.lists(limits, min_size=1, max_size=3, unique=True))
    priorities = sorted(draw(st.lists(st.sampled_from(list(Priority)), min_size=len(values), max_size=len(values))))
    values.sort(reverse=rule.comparison == "<=")
    given_limits = tuple(AlarmLimit(float(value), priority) for value, priority in zip(values, priorities, strict=True))
    return msgspec.structs.replace(rule, limits=given_limits, for_ms=0, enabled=True), messages


def numbers_after_limit(text: str) -> list[str]:
    """Every number that a text offers as a limit."""
    return re.findall(r"(?:limit [<>]=|alarm threshold|positive from|alert from|from) ([\d.]+)", text)


def in_text(rule: Rule, limit: float) -> str:
    if rule.quantity == "sensor_off":
        return f"{int(limit) // MINUTE}"
    return f"{limit * 50:.1f}" if rule.quantity == "model:sepsis" else f"{limit:g}"


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(case=changed())
def test_a_text_names_the_limit_that_was_crossed_and_no_other(case: tuple[Rule, list[Message]]) -> None:
    rule, messages = case
    monitor = a_monitor(rule)

    last = alarms(feed(monitor, *messages), rule.rule_id)[-1]

    thresholds = {in_text(rule, limit.threshold) for limit in rule.limits}
    named = numbers_after_limit(last.text)
    assert len(named) == 1, last.text
    assert named[0] in thresholds, last.text
    if rule.rule_id == "red_sign":  # one alarm for each sign, with points of its own
        crossed = rule.crossed(float(re.findall(r"scores (\d)", last.text)[0]))
        assert crossed is not None
        assert named[0] == in_text(rule, crossed.threshold)
    elif rule.rule_id != "sensor_off":  # whose time off runs through the limits
        assert named[0] == in_text(rule, rule.limits[-1].threshold)


def test_a_baseline_says_how_far_and_from_where() -> None:
    rule = msgspec.structs.replace(RULES["unusual_heart_rate"], limits=(AlarmLimit(3.5, LOW),), for_ms=0)
    monitor = a_monitor(rule)
    feed(monitor, *(a_reading(minute * MINUTE, heart_rate=60 + minute % 3) for minute in range(240)))

    (alarm,) = alarms(feed(monitor, a_reading(240 * MINUTE, heart_rate=120)), rule.rule_id)

    assert re.fullmatch(r".*HR 120, usually 61, \d+\.\d deviations; limit >= 3.5 deviations", alarm.text)


def test_the_shock_index_names_the_limit_of_its_rule() -> None:
    monitor = a_monitor()

    (alarm,) = alarms(feed(monitor, *steady(0, 5 * MINUTE, heart_rate=125, systolic_bp=100)), "shock_index")

    assert alarm.text == "shock index 1.25: HR 125, SBP 100; limit >= 1"


def test_a_retrospective_alarm_names_its_limit_as_well() -> None:
    monitor = a_monitor()

    found = alarms(feed(monitor, a_reading(0, held_up_ms=HOUR, **ILL)), "news2")

    assert [one.retrospective for one in found] == [True]
    assert found[0].text.endswith("; limit >= 7")


@pytest.mark.parametrize("quantity", [*QUANTITIES, *(sign.value for sign in SPEC)])
def test_every_quantity_has_a_limit_in_the_text_or_is_stated_in_words(quantity: str) -> None:
    rule = Rule(rule_id="one", label="one", quantity=quantity, limits=(AlarmLimit(1.0, LOW),))

    assert bool(limit_text(rule, 2.0)) != (quantity in STATED_IN_WORDS)
    assert limit_text(rule, 0.5) == ""
