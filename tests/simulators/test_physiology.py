"""Stories about bodies: what drives what, in which direction, and that a seed is a patient."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators import draws
from simulators.errors import TimeRanBackwards
from simulators.physiology import AGE_BANDS, Cohort, Drive, Sign

NOON_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 12 * 3_600_000


def driven(minutes: int = 60, *, patients: int = 50, **drives: float) -> Cohort:
    """A cohort after some time under constant drives."""
    cohort = Cohort.of(7, patients, at_ms=NOON_MS)
    pushed = np.zeros((len(Drive), patients))
    for name, size in drives.items():
        pushed[Drive[name.upper()]] = size
    for minute in range(1, minutes + 1):
        cohort.step(NOON_MS + minute * 60_000, pushed)
    return cohort


def change(sign: Sign, drive: str, size: float) -> float:
    """Mean change of one sign that one drive makes in the same patients at the same moment."""
    return float((driven(60, patients=50, **{drive: size}).signs[sign] - driven().signs[sign]).mean())


@pytest.mark.parametrize(
    ("drive", "size", "sign", "least", "most"),
    [
        ("fever", 2.0, Sign.HEART_RATE, 15, 19),
        ("fever", 2.0, Sign.RESPIRATORY_RATE, 3.5, 4.5),
        ("fever", 2.0, Sign.TEMPERATURE, 1.9, 2.1),
        ("desaturation", 10.0, Sign.SPO2, -10.1, -9.5),
        ("desaturation", 10.0, Sign.HEART_RATE, 6, 14),
        ("desaturation", 10.0, Sign.RESPIRATORY_RATE, 4, 10),
        ("hypotension", 0.3, Sign.SYSTOLIC_BP, -45, -30),
        ("hypotension", 0.3, Sign.HEART_RATE, 10, 25),
        ("activity", 1.0, Sign.HEART_RATE, 10, 20),
        ("activity", 1.0, Sign.RESPIRATORY_RATE, 2, 4),
        ("chronotropy", 40.0, Sign.HEART_RATE, 39, 41),
        ("ventilation", 8.0, Sign.RESPIRATORY_RATE, 7.9, 8.1),
        ("desaturation", 2.0, Sign.HEART_RATE, -0.1, 0.8),  # above 94 % nothing answers
        ("fever", 2.0, Sign.SPO2, 0, 0),
    ],
)
def test_a_drive_moves_what_it_is_coupled_to(drive: str, size: float, sign: Sign, least: float, most: float) -> None:
    assert least <= change(sign, drive, size) <= most


def test_oxygen_wins_back_what_the_lungs_lost_and_no_more() -> None:
    ill, treated, well = driven(desaturation=6.0), driven(desaturation=6.0, oxygen=2.0), driven()

    assert np.all(treated.signs[Sign.SPO2] > ill.signs[Sign.SPO2])
    assert np.all(treated.signs[Sign.HEART_RATE] <= ill.signs[Sign.HEART_RATE])
    np.testing.assert_array_equal(driven(oxygen=10.0).signs, well.signs)


def test_the_baroreflex_is_stronger_in_the_young() -> None:
    rise = driven(patients=400, hypotension=0.3).signs - driven(patients=400).signs
    age = Cohort.of(7, 400, at_ms=NOON_MS).age_years
    answer = rise[Sign.HEART_RATE] / -rise[Sign.SYSTOLIC_BP]

    assert answer[age < 40].mean() > 1.5 * answer[age >= 80].mean()


def test_temperature_and_heart_have_a_day() -> None:
    night, evening = (Cohort.of(7, 300, at_ms=NOON_MS + hours * 3_600_000) for hours in (-7, 5))

    assert 0.4 < (evening.signs - night.signs)[Sign.TEMPERATURE].mean() < 0.7
    assert 4 < (evening.signs - night.signs)[Sign.HEART_RATE].mean() < 8


def test_a_fibrillating_heart_has_no_memory_between_readings() -> None:
    def roughness(**drives: float) -> float:
        cohort = Cohort.of(7, 200, at_ms=NOON_MS)
        pushed = np.zeros((len(Drive), 200))
        for name, size in drives.items():
            pushed[Drive[name.upper()]] = size
        rates = []
        for step in range(1, 20):
            cohort.step(NOON_MS + step * 5_000, pushed)
            rates.append(cohort.signs[Sign.HEART_RATE].copy())
        return float(np.abs(np.diff(rates, axis=0)).mean())

    assert roughness(fibrillation=1.0) > 5 * roughness()


def test_all_patients_rest_within_what_adults_have() -> None:
    patients = Cohort.of(1, 5_000, at_ms=NOON_MS)

    assert patients.age_years.min() == AGE_BANDS[0].years[0]
    assert patients.age_years.max() == AGE_BANDS[-1].years[1]
    low, high = patients.signs.min(axis=1), patients.signs.max(axis=1)
    assert np.all(low > [45, 9, 94, 90, 35.5])
    assert np.all(high < [100, 22, 100.01, 175, 38.0])
    assert np.all(patients.diastolic_bp < patients.signs[Sign.SYSTOLIC_BP] - 20)


def test_a_patient_is_the_same_alone_and_among_a_thousand() -> None:
    ward, alone = Cohort.of(5, 1_000, at_ms=NOON_MS), Cohort([draws.key_of(5, 637)], at_ms=NOON_MS)
    late_half = Cohort.of(5, 500, at_ms=NOON_MS, first=500)

    for step in range(1, 30):
        for cohort in (ward, alone, late_half):
            cohort.step(NOON_MS + step * 45_000)

    assert ward.signs[:, 637].tobytes() == alone.signs[:, 0].tobytes() == late_half.signs[:, 137].tobytes()


def test_another_seed_is_another_patient() -> None:
    assert not np.any(Cohort.of(5, 50, at_ms=NOON_MS).rest == Cohort.of(6, 50, at_ms=NOON_MS).rest)


@settings(max_examples=30, deadline=None)
@given(
    waits_s=st.lists(st.integers(1, 100_000), min_size=1, max_size=10),
    drive=st.sampled_from([Drive.FEVER, Drive.DESATURATION, Drive.HYPOTENSION, Drive.CHRONOTROPY, Drive.VENTILATION]),
    size=st.floats(-100, 100),
)
def test_no_drive_and_no_step_makes_an_impossible_body(waits_s: list[int], drive: Drive, size: float) -> None:
    cohort = Cohort.of(3, 5, at_ms=NOON_MS)
    pushed = np.zeros((len(Drive), 5))
    pushed[drive] = size

    for wait_s in waits_s:
        cohort.step(cohort.at_ms + wait_s * 1000, pushed)

    assert np.all(np.isfinite(cohort.signs))
    assert np.all((cohort.signs.T >= [20, 4, 50, 40, 30]) & (cohort.signs.T <= [220, 60, 100, 250, 42.5]))


def test_one_long_step_ends_where_many_short_ones_do() -> None:
    #   steady drive: after an hour every lag but the thermometer's is over, however the hour is cut
    many, one = driven(60, desaturation=8.0), Cohort.of(7, 50, at_ms=NOON_MS)
    pushed = np.zeros((len(Drive), 50))
    pushed[Drive.DESATURATION] = 8.0

    one.step(NOON_MS + 3_600_000, pushed)

    assert np.abs(one.signs[Sign.SPO2] - many.signs[Sign.SPO2]).max() < 2.0


def test_time_does_not_run_backwards() -> None:
    cohort = Cohort.of(1, 1, at_ms=NOON_MS)

    with pytest.raises(TimeRanBackwards, match="start again with the same seed"):
        cohort.step(NOON_MS - 1)


def test_draws_are_bell_shaped_and_independent() -> None:
    keys = draws.keys_of(1, range(20_000))
    first, second = draws.normal(keys, [1, 2], 0)
    later = draws.normal(keys, [1], 1)[0]

    assert abs(first.mean()) < 0.03
    assert abs(first.std() - 1) < 0.03
    assert np.abs(first).max() < 3.47
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first, later)[0, 1]) < 0.03
    spread = draws.uniform(keys, [1], 0)[0]
    assert spread.min() >= 0
    assert spread.max() < 1
    assert abs(spread.mean() - 0.5) < 0.01


def test_a_large_cohort_costs_no_more_per_patient_than_a_small_one() -> None:
    def seconds_per_patient(patients: int) -> float:
        cohort = Cohort.of(1, patients, at_ms=NOON_MS)
        best = float("inf")
        for step in range(1, 8):
            began = time.perf_counter()
            cohort.step(NOON_MS + step * 5_000)
            best = min(best, time.perf_counter() - began)
        return best / patients

    # Ten times the patients: the same cost each, with a generous allowance for caches and busy machines.
    assert seconds_per_patient(10_000) < 3 * seconds_per_patient(1_000)
