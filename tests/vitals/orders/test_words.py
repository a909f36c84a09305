"""Orders in words: one sentence for each difference, and nothing that makes silence vanish is left unsaid."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vitals.orders.made_up import NOW, UNHURRIED, a_level, levels
from tests.vitals.stories import HOUR, MINUTE
from vitals.escalation import EscalationPolicy, EscalationStep, Ladder
from vitals.orders import (
    DEFAULT,
    OBSERVE,
    PROFILES,
    OrderLevel,
    Prescription,
    QuietHours,
    RuleChange,
    effective,
    in_words,
    parse_toml,
)
from vitals.plan import EXPECTED
from vitals.signs import VitalSign

BY = " Ordered for the patient by dr.meyer: because."


def rule(rule_id: str, **said: Any) -> dict[str, Any]:
    return {"rules": {rule_id: RuleChange(**said)}}


def test_nothing_ordered_is_nothing_said() -> None:
    assert in_words(DEFAULT) == []


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            rule("low_spo2", high=87.0, medium=None),
            (
                "Oxygen saturation of 87 % or less for 15 s is a high alarm that calls the nurse at once; the default "
                "would be: oxygen saturation of 87 % or less for 15 s is a medium alarm that calls the nurse after 15 "
                "min, of 84 % or less is a high alarm that calls the nurse at once."
            ),
        ),
        (
            rule("news2", for_ms=MINUTE, call="crash-team", high=None),
            (
                "NEWS2 of 5 or more for 1 min is a medium alarm that calls by the ladder crash-team; the default would "
                "be: NEWS2 of 5 or more is a medium alarm that calls the nurse at once, of 7 or more is a high alarm "
                "that calls the nurse at once."
            ),
        ),
        (
            rule("sirs", enabled=True),
            (
                "SIRS of 2 or more is a low alarm that calls nobody and is listed; the default would be: "
                "no alarm for SIRS."
            ),
        ),
        (
            rule("high_heart_rate", clear_for_ms=MINUTE, latching=False),
            (
                "Heart rate of 150 /min or more for 15 s is a high alarm that calls the nurse at once. It is over when "
                "inside the limit by 5, 2 times over 1 min; by default when inside the limit by 5, 2 times over 2 min. "
                "It ends without anybody having looked."
            ),
        ),
        (
            rule("arrest", enabled=False),
            "NOBODY IS TOLD when heart rate, respiration, saturation or pressure are zero.",
        ),
        (rule("no_data", call=OBSERVE), "NOBODY IS CALLED when data stop; it is listed."),
        ({"calls": {"technical": OBSERVE}}, "NOBODY IS CALLED when data stop; it is listed."),
        (
            {"expected": (VitalSign.HEART_RATE,)},
            "NOBODY IS TOLD when respiratory rate or oxygen saturation stops coming.",
        ),
        (
            {"expected": (*EXPECTED, VitalSign.TEMPERATURE)},
            "When body temperature stops coming, that is an alarm.",
        ),
        (
            {"spo2_scale": 2, "prescription": Prescription("Dr. Meyer", NOW, "blood gas")},
            (
                "SpO2 is scored on scale 2 of NEWS2, for a target of 88 to 92 %, prescribed by Dr. Meyer at "
                "2026-01-05 08:00 UTC: blood gas."
            ),
        ),
        (
            {"cadence_ms": {VitalSign.SYSTOLIC_BP: HOUR // 2}},
            "A value of systolic blood pressure is expected every 30 min; the default would be 1 h.",
        ),
        (
            {"valid_ms": {VitalSign.SPO2: 30_000}},
            "A value of oxygen saturation counts for 30 s; the default would be 1 min.",
        ),
        (
            {"stale_after_ms": 5 * MINUTE},
            "A sign that is not measured is stale after 5 min; the default would be by NEWS2, 1 to 30 min.",
        ),
        (
            {"quiet": QuietHours(1_320, 420)},
            "Alarms of low priority call nobody from 22:00 to 07:00 by the clock of the site; medium and high ones do.",
        ),
        ({"calls": {"low": "porter"}}, "Alarms of low priority about the patient call by the ladder porter."),
    ],
)
def test_each_difference_is_one_sentence(said: dict[str, Any], sentence: str) -> None:
    assert f"{sentence}{BY}" in in_words(a_level("patient", **said))


def test_a_sentence_says_who_until_when_and_why() -> None:
    level = a_level(
        "ward",
        name="3b",
        by="dr.meyer",
        by_prescriber=True,
        why="winter",
        valid_until_ms=NOW + HOUR,
        **rule("qsofa", enabled=False),
    )

    (sentence,) = in_words(effective([level], version=1, now_ms=NOW))

    assert sentence == (
        "No alarm for qSOFA; the default would be: qSOFA of 2 or more for 30 min is a medium alarm that calls the "
        "nurse after 15 min. Ordered for the ward 3b by dr.meyer (prescriber) until 2026-01-05 09:00 UTC: winter."
    )


def test_a_condition_and_a_trend_are_said_with_their_limits() -> None:
    level = parse_toml(
        """
        [order]
        level = "site"
        [[condition]]
        name = "fever"
        label = "fever with fast heart"
        all = ["heart_rate >= 110", "temperature >= 38.3"]
        delay = "5 min"
        [[condition]]
        name = "rising"
        label = "heart rate rising"
        priority = "low"
        [condition.trend]
        sign = "heart_rate"
        rise_percent = 20
        over = "1 h"
        """
    )

    assert in_words(level) == [
        (
            "New: fever with fast heart: heart rate of 110 /min or more and body temperature of 38.3 °C or more for "
            "5 min is a medium alarm that calls the nurse after 15 min. Ordered for the site."
        ),
        (
            "New: heart rate rising: a rise of heart rate over 1 h by 20 % or more is a low alarm that calls nobody "
            "and is listed. Ordered for the site."
        ),
    ]


def test_who_is_called_is_as_the_desk_says() -> None:
    at_once = Ladder(steps=(EscalationStep(delay_ms=0, who="doctor", channels=("push",)),))

    (sentence,) = in_words(a_level("patient", **rule("qsofa", for_ms=0)), policy=EscalationPolicy(medium=at_once))

    assert "is a medium alarm that calls the doctor at once" in sentence


def test_what_differs_is_told_against_what_is_given_as_the_default() -> None:
    ward = a_level("ward", name="3b", **rule("qsofa", enabled=False))
    below = effective([ward], version=1, now_ms=NOW)

    assert in_words(effective([ward], version=2, now_ms=NOW), below) == []


@pytest.mark.slow
@UNHURRIED
@given(st.lists(levels(), max_size=3))
def test_silence_never_vanishes_unsaid(given_levels: list[OrderLevel]) -> None:
    orders = effective(given_levels, version=1, now_ms=NOW)

    said = [sentence for sentence in in_words(orders) if sentence.startswith("NOBODY IS")]

    for rule_id, word in (("no_data", "when data stop"), ("arrest", "are zero")):
        found = orders.rule(rule_id)
        assert found is not None
        calls = found.enabled and any(
            orders.call_of(rule_id, found.kind, one.priority) != OBSERVE for one in found.limits
        )
        assert calls or any(word in sentence for sentence in said)
    assert set(EXPECTED) <= set(orders.settings.expected) or any("stops coming" in sentence for sentence in said)


@UNHURRIED
@given(st.lists(levels(), max_size=3))
def test_every_rule_that_differs_has_its_sentence(given_levels: list[OrderLevel]) -> None:
    orders = effective(given_levels, version=1, now_ms=NOW)

    sentences = in_words(orders)

    differs = [rule for rule in orders.rules if DEFAULT.rule(rule.rule_id) != rule]
    assert len(sentences) >= len(differs)
    assert all(sentence and "\n" not in sentence for sentence in sentences)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_told(name: str) -> None:
    sentences = in_words(PROFILES[name])

    assert bool(sentences) is (name != "general_ward")
    assert all("_ " not in sentence for sentence in sentences)
