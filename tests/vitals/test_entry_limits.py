"""What a person may enter: typing errors and other units are refused by name, what a patient can have is accepted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vitals.entry_limits import (
    MOST_AGE_MS,
    MOST_NOTE_CHARACTERS,
    QUANTITIES,
    in_words,
    is_anything,
    problems,
    time_problem,
)
from vitals.messages import Consciousness, Observation

HOUR = 3_600_000
NOW = 1_700_000_000_000
ALERT = Observation(
    stay_id="11" * 16,
    observation_id=b"o" * 16,
    by="anna",
    at_ms=NOW,
    entered_ms=NOW,
    heard_ms=NOW,
    consciousness=Consciousness.ALERT,
)


def observed(**values: Any) -> Observation:
    return replace(ALERT, **values)


def first(**values: Any) -> str:
    found = problems(observed(**values))
    return found[0].text if found else ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": 98.6}, ("temperature 98.6", "°F", "°C")),
        ({"temperature": 379}, ("temperature 379", "tenths", "°C")),
        ({"temperature": 3.79}, ("temperature 3.79", "impossible")),
        ({"inspired_oxygen": 0.4}, ("FiO2", "fraction", "write 40")),
        ({"inspired_oxygen": 4}, ("FiO2", "impossible", "21")),
        ({"spo2": 0.97}, ("saturation 0.97", "fraction of 1", "%")),
        ({"spo2": 127}, ("saturation 127", "no value")),
        ({"glucose": 110}, ("glucose 110", "mg/dL", "mmol/L")),
        ({"supplemental_oxygen": 40}, ("40 L/min", "high-flow", "FiO2")),
        ({"supplemental_oxygen": 95}, ("oxygen 95", "percentage", "FiO2")),
        ({"supplemental_oxygen": 0, "inspired_oxygen": 40}, ("contradict",)),
        ({"oxygen_device": "nasal cannula"}, ("L/min", "FiO2")),
        ({"systolic_bp": 76, "diastolic_bp": 118}, ("76/118", "below systolic")),
        ({"systolic_bp": 80, "diastolic_bp": 80}, ("below systolic",)),
        ({"diastolic_bp": 80}, ("systolic",)),
        ({"systolic_bp": 1180}, ("1180", "mmHg")),
        ({"heart_rate": -1}, ("heart rate -1",)),
        ({"respiratory_rate": float("nan")}, ("not a number",)),
        ({"heart_rate": float("inf")}, ("not a number",)),
        ({"glucose": float("nan")}, ("impossible",)),
        ({"note": "x" * (MOST_NOTE_CHARACTERS + 1)}, ("note", "500")),
        ({"note": "pale\x1b[2J"}, ("note", "printable")),
        ({"note": "two\nlines"}, ("one line",)),
        ({"note": "‮reversed"}, ("printable",)),
        ({"oxygen_device": "mask\x00", "supplemental_oxygen": 2}, ("oxygen device", "printable")),
        ({"by": ""}, ("name",)),
        ({"off_until_ms": NOW}, ("hours",)),
        ({"off_until_ms": NOW + 3 * HOUR}, ("2 hours",)),
        ({"consciousness": None}, ("nothing is entered",)),
        ({"corrects": b"o" * 16}, ("itself",)),
        ({"consciousness": None, "corrects": b"p" * 16}, ("withdraw", "why")),
    ],
)
def test_an_entry_that_cannot_be_right_is_refused_by_name(values: dict[str, Any], words: tuple[str, ...]) -> None:
    text = first(**values)

    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"consciousness": Consciousness.CONFUSION, "supplemental_oxygen": 2, "oxygen_device": "nasal cannula"},
        {"supplemental_oxygen": 0, "inspired_oxygen": 21},
        {"supplemental_oxygen": 60, "inspired_oxygen": 80, "oxygen_device": "High Flow cannula"},
        {"systolic_bp": 118, "diastolic_bp": 76, "temperature": 37.9, "glucose": 6.1},
        {"systolic_bp": 90},  # felt at the wrist
        {"off_until_ms": NOW + 20 * 60_000},
        {"note": "family present; \N{LATIN SMALL LETTER U WITH DIAERESIS}bel"},
        {"consciousness": None, "corrects": b"p" * 16, "note": "entered for the wrong patient"},
    ],
)
def test_what_a_nurse_sees_is_accepted(values: dict[str, Any]) -> None:
    assert problems(observed(**values)) == []


@pytest.mark.parametrize(("field", "value"), [("temperature", 27.4), ("heart_rate", 0), ("spo2", 38), ("glucose", 1.2)])
def test_an_extreme_value_asks_for_confirmation_and_is_never_refused(field: str, value: float) -> None:
    (found,) = problems(observed(**{field: value}))

    assert found.field == field
    assert found.is_extreme
    assert "confirm" in found.text


def test_what_is_impossible_is_told_before_what_is_extreme() -> None:
    found = problems(observed(respiratory_rate=1, temperature=98.6))

    assert [one.is_extreme for one in found] == [False, True]


@given(st.sampled_from(QUANTITIES), st.floats(allow_nan=True, allow_infinity=True))
def test_no_number_outside_the_possible_is_ever_accepted(quantity: Any, value: float) -> None:
    low, high = quantity.possible
    more = {"systolic_bp": 500.0} if quantity.field == "diastolic_bp" else {}
    found = [one for one in problems(observed(**{quantity.field: value} | more)) if not one.is_extreme]

    if not low <= value <= high:
        assert found


@given(st.sampled_from(QUANTITIES), st.floats(0, 1))
def test_every_usual_number_is_accepted(quantity: Any, share: float) -> None:
    low, high = quantity.usual
    more: dict[str, Any] = {"oxygen_device": "high flow"} if quantity.field == "supplemental_oxygen" else {}
    more |= {"systolic_bp": 250.0} if quantity.field == "diastolic_bp" else {}

    assert problems(observed(**{quantity.field: low + share * (high - low)} | more)) == []


@pytest.mark.parametrize(
    ("age_ms", "word"),
    [(0, ""), (-60_000, ""), (-60_001, "future"), (HOUR, ""), (MOST_AGE_MS, ""), (MOST_AGE_MS + 1, "24 hours")],
)
def test_the_time_lies_within_the_last_day(age_ms: int, word: str) -> None:
    found = time_problem(NOW - age_ms, NOW)

    assert word in found
    assert bool(found) is bool(word)


def test_a_person_is_shown_every_value_with_its_unit() -> None:
    lines = in_words(
        observed(
            consciousness=Consciousness.CONFUSION,
            supplemental_oxygen=2,
            oxygen_device="nasal cannula",
            respiratory_rate=22,
            systolic_bp=118,
            diastolic_bp=76,
            temperature=37.9,
            glucose=6.1,
            off_until_ms=NOW + 20 * 60_000,
            note="family present",
        )
    )

    assert lines == [
        "consciousness: C, new confusion: newly disoriented, agitated or delirious",
        "oxygen: 2 L/min by nasal cannula",
        "respiratory rate: 22 /min",
        "body temperature: 37.9 °C",
        "glucose: 6.1 mmol/L",
        "blood pressure: 118/76 mmHg",
        "devices are off on purpose for 20 min",
        "note: family present",
    ]


def test_room_air_is_said_in_words() -> None:
    assert in_words(observed(consciousness=None, supplemental_oxygen=0)) == ["oxygen: none, room air"]


def test_a_correction_with_a_reason_alone_withdraws() -> None:
    withdrawn = observed(consciousness=None, corrects=b"p" * 16, note="wrong patient")

    assert not is_anything(withdrawn)
    assert "the earlier entry is withdrawn" in in_words(withdrawn)
