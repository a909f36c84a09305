"""qSOFA, SIRS, MEWS at their edges; shock index and mean pressure; missing signs; one-line texts."""

from math import nan

import pytest

from vitals import scores
from vitals.messages import Consciousness
from vitals.signs import SPEC, VitalSign

RR, HR, SBP, DBP, T, ACVPU = (
    VitalSign.RESPIRATORY_RATE,
    VitalSign.HEART_RATE,
    VitalSign.SYSTOLIC_BP,
    VitalSign.DIASTOLIC_BP,
    VitalSign.TEMPERATURE,
    VitalSign.CONSCIOUSNESS,
)

# All of them normal for every chart here.
CALM = {RR: 12.0, HR: 70.0, SBP: 120.0, DBP: 80.0, T: 37.0, ACVPU: float(Consciousness.ALERT)}


def known(changes: dict[VitalSign, float] | None = None, *, without: tuple[VitalSign, ...] = ()) -> dict:
    return {sign: (value, 0) for sign, value in (CALM | (changes or {})).items() if sign not in without}


@pytest.mark.parametrize(
    ("sign", "value", "points"),
    [
        (RR, 21, 0), (RR, 21.4, 0), (RR, 21.5, 1), (RR, 22, 1),
        (SBP, 101, 0), (SBP, 100.5, 0), (SBP, 100.4, 1), (SBP, 100, 1),
        (ACVPU, 0, 0), (ACVPU, 1, 1), (ACVPU, 2, 1), (ACVPU, 3, 1), (ACVPU, 4, 1),
    ],
)  # fmt: skip
def test_qsofa_edges(sign: VitalSign, value: float, points: int) -> None:
    assert scores.qsofa(known({sign: value})).points == points


@pytest.mark.parametrize(
    ("sign", "value", "points"),
    [
        (T, 35.9, 1), (T, 35.94, 1), (T, 35.95, 0), (T, 36.0, 0), (T, 38.0, 0), (T, 38.04, 0), (T, 38.05, 1),
        (T, 38.1, 1), (HR, 90, 0), (HR, 91, 1), (RR, 20, 0), (RR, 21, 1),
    ],
)  # fmt: skip
def test_sirs_edges(sign: VitalSign, value: float, points: int) -> None:
    assert scores.sirs(known({sign: value})).points == points


@pytest.mark.parametrize(
    ("sign", "value", "points"),
    [
        (SBP, 70, 3), (SBP, 71, 2), (SBP, 80, 2), (SBP, 81, 1), (SBP, 100, 1), (SBP, 101, 0), (SBP, 199, 0),
        (SBP, 200, 2),
        (HR, 40, 2), (HR, 41, 1), (HR, 50, 1), (HR, 51, 0), (HR, 100, 0), (HR, 101, 1), (HR, 110, 1), (HR, 111, 2),
        (HR, 129, 2), (HR, 130, 3),
        (RR, 8, 2), (RR, 9, 0), (RR, 14, 0), (RR, 15, 1), (RR, 20, 1), (RR, 21, 2), (RR, 29, 2), (RR, 30, 3),
        (T, 34.9, 2), (T, 35.0, 0), (T, 38.4, 0), (T, 38.5, 2),
        (ACVPU, 0, 0), (ACVPU, 1, 1), (ACVPU, 2, 1), (ACVPU, 3, 2), (ACVPU, 4, 3),
    ],
)  # fmt: skip
def test_mews_edges(sign: VitalSign, value: float, points: int) -> None:
    assert scores.mews(known({sign: value})).points == points


@pytest.mark.parametrize(
    ("chart", "worst"),
    [
        (scores.QSOFA, {RR: 30, SBP: 60, ACVPU: 4}),
        (scores.SIRS, {RR: 30, HR: 140, T: 40}),
        (scores.MEWS, {RR: 30, HR: 140, T: 40, SBP: 60, ACVPU: 4}),
    ],
)
def test_the_most_a_chart_can_reach(chart: scores.ScoreChart, worst: dict) -> None:
    result = scores.score(chart, known(worst))

    assert result.points == chart.out_of
    assert result.positive
    assert not scores.score(chart, known()).positive


def test_a_missing_sign_leaves_a_lower_bound_that_may_be_enough() -> None:
    result = scores.qsofa(known({RR: 24, SBP: 95}, without=(ACVPU,)))

    assert (result.points, result.at_least, result.missing) == (None, 2, (ACVPU,))
    assert result.positive


def test_stale_and_non_finite_signs_are_missing() -> None:
    too_old = SPEC[RR].valid_ms + 1
    inputs = known() | {RR: (24.0, too_old), HR: (nan, 0)}

    assert scores.sirs(inputs).missing == (HR, RR)
    assert scores.sirs(inputs, valid_ms={RR: too_old}).missing == (HR,)


def test_texts_say_total_limit_and_why() -> None:
    assert scores.qsofa(known({RR: 24})).text == "qSOFA 1 of 3: RR 24 (+1)"
    assert scores.qsofa(known()).text == "qSOFA 0 of 3"
    assert scores.mews(known({ACVPU: 3, HR: 130}, without=(SBP, T))).text == (
        "MEWS >= 5 of 14 (SBP, T missing): HR 130 (+3), ACVPU P (+2)"
    )
    assert scores.sirs(known({T: 38.06})).text == "SIRS (vital signs only) 1 of 3: T 38.1 (+1)"


def test_shock_index() -> None:
    result = scores.shock_index(known({HR: 105, SBP: 100}))

    assert result.value == 1.05
    assert result.text == "shock index 1.05: HR 105, SBP 100"


@pytest.mark.parametrize(("changes", "without"), [({}, (SBP,)), ({SBP: 0}, ())])
def test_no_pressure_no_shock_index(changes: dict, without: tuple[VitalSign, ...]) -> None:
    result = scores.shock_index(known(changes, without=without))

    assert (result.value, result.missing) == (None, (SBP,))
    assert result.text == "shock index unknown (SBP missing)"


def test_mean_arterial_pressure() -> None:
    result = scores.mean_arterial_pressure(known({SBP: 80, DBP: 53}))

    assert result.value == 62
    assert result.text == "MAP 62 mmHg, low below 65: SBP 80, DBP 53"


def test_no_diastolic_no_mean_pressure() -> None:
    result = scores.mean_arterial_pressure(known(without=(DBP,)))

    assert (result.value, result.missing, result.text) == (None, (DBP,), "MAP unknown (DBP missing)")


def test_every_chart_names_its_source() -> None:
    assert all(chart.source for chart in (scores.QSOFA, scores.SIRS, scores.MEWS))


@pytest.mark.parametrize(
    ("sign", "value", "text"),
    [
        (RR, 25.5, "RR 26"),
        (T, 38, "T 38.0"),
        (ACVPU, 1, "ACVPU C"),
        (ACVPU, 99, "ACVPU U"),  # a text never fails
        (VitalSign.SUPPLEMENTAL_OXYGEN, 0.5, "O2 0.5 L/min"),
        (VitalSign.SUPPLEMENTAL_OXYGEN, 4.0, "O2 4 L/min"),
    ],
)
def test_signs_in_texts(sign: VitalSign, value: float, text: str) -> None:
    assert scores.shown(sign, value) == text
