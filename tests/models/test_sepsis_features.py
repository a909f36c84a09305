"""Features of the sepsis model: reproducible bits, no knowledge of later hours."""

import math
import random
import struct
from collections.abc import Sequence

import pytest

from models.errors import StepOutOfOrder
from models.sepsis_features import HOUR_MS, INPUTS, MAX_AGE_H, NAMES, SepsisFeatures
from vitals.signs import SPEC, VitalSign

HR, SPO2, TEMP, RR, SBP, DBP = INPUTS
Step = tuple[int, dict[VitalSign, float]]


def a_stay(seed: int, hours: int = 40) -> list[Step]:
    """Hours of a patient with missing values and occasional gaps of several hours."""
    rng = random.Random(seed)
    at_ms, steps = rng.randrange(10**12, 2 * 10**12), []
    for _ in range(hours):
        at_ms += HOUR_MS if rng.random() < 0.9 else rng.randrange(1, 30 * HOUR_MS)
        steps.append((at_ms, {sign: rng.uniform(*SPEC[sign].usual) for sign in INPUTS if rng.random() < 0.7}))
    return steps


def bits(features: Sequence[float]) -> bytes:
    return struct.pack(f"{len(features)}d", *features)


def shown(steps: Sequence[Step], patient: SepsisFeatures | None = None) -> list[bytes]:
    patient = patient or SepsisFeatures(age_years=71.0, is_male=False)
    return [bits(patient.step(at_ms, values)) for at_ms, values in steps]


def named(features: Sequence[float]) -> dict[str, float]:
    return dict(zip(NAMES, features, strict=True))


def test_feature_names_are_unique() -> None:
    assert len(SepsisFeatures().step(0, {})) == len(NAMES) == len(set(NAMES)) == 6 * 13 + 8


def test_features_of_a_short_stay_computed_by_hand() -> None:
    patient = SepsisFeatures(age_years=64.0, is_male=True)

    patient.step(0, {HR: 80.0, SBP: 120.0, DBP: 60.0})
    patient.step(HOUR_MS, {HR: 90.0})
    now = named(patient.step(8 * HOUR_MS, {HR: 100.0, TEMP: 39.0}))

    heart = {
        name: now[f"heart_rate.{name}"] for name in ("value", "age_h", "mean_6h", "mean_12h", "min_12h", "max_12h")
    }
    assert heart == {"value": 100, "age_h": 0, "mean_6h": 100, "mean_12h": 90, "min_12h": 80, "max_12h": 100}
    assert now["heart_rate.sd_12h"] == pytest.approx(math.sqrt(200 / 3))
    assert math.isnan(now["heart_rate.sd_6h"])  # a single value has no deviation
    assert now["heart_rate.change"] == 10
    assert now["heart_rate.from_earlier"] == 100 - 85
    assert now["heart_rate.from_own_mean"] == 100 - 90
    assert now["systolic_bp.value"] == 120  # carried
    assert now["systolic_bp.age_h"] == 8
    assert math.isnan(now["systolic_bp.mean_6h"])
    assert now["shock_index"] == 100 / 120
    assert now["pulse_pressure"] == 60
    assert now["mean_pressure"] == 80
    assert now["heart_rate_for_temperature"] == 80
    assert (now["age_years"], now["male"], now["gap_h"]) == (64, 1, 7)
    assert math.isnan(now["spo2.value"])
    assert now["spo2.age_h"] == MAX_AGE_H


@pytest.mark.parametrize("seed", range(20))
def test_features_do_not_depend_on_later_steps(seed: int) -> None:
    steps = a_stay(seed)
    whole = shown(steps)

    for hour in random.Random(seed).sample(range(len(steps)), 5):
        assert shown(steps[:hour]) == whole[:hour]


@pytest.mark.parametrize("shift_ms", [-(10**12), 1, HOUR_MS // 7, 10**12])
def test_features_do_not_depend_on_the_time_of_day(shift_ms: int) -> None:
    steps = a_stay(1)

    assert shown([(at_ms + shift_ms, values) for at_ms, values in steps]) == shown(steps)


@pytest.mark.parametrize("seed", range(5))
def test_a_restart_at_any_step_gives_the_same_bits(seed: int) -> None:
    steps = a_stay(seed)
    patient, found = SepsisFeatures(age_years=71.0, is_male=False), []

    for step in steps:
        patient = SepsisFeatures.restore(patient.snapshot())
        found += shown([step], patient)

    assert found == shown(steps)


def test_a_step_on_a_copy_does_not_change_the_original() -> None:
    steps = a_stay(3)
    patient, found = SepsisFeatures(age_years=71.0, is_male=False), []

    for at_ms, values in steps:
        patient.copy().step(at_ms - 1_000, {HR: 250.0})
        found += shown([(at_ms, values)], patient)

    assert found == shown(steps)


def test_a_value_is_carried_forward_for_a_day_and_its_age_is_capped_at_eight_hours() -> None:
    patient = SepsisFeatures()
    patient.step(0, {TEMP: 38.0})

    ages = {hours: named(patient.step(hours * HOUR_MS, {})) for hours in (3, 8, 20, 24, 25)}

    assert [ages[hours]["temperature.age_h"] for hours in (3, 8, 20, 24, 25)] == [3, 8, 8, 8, 8]
    assert [ages[hours]["temperature.value"] for hours in (3, 20, 24)] == [38] * 3
    assert math.isnan(ages[25]["temperature.value"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 0.0, 600.0])
def test_what_is_no_value_counts_as_not_measured(value: float) -> None:
    assert shown([(0, dict.fromkeys(INPUTS, value))]) == shown([(0, {})])


@pytest.mark.parametrize("sign", INPUTS)
def test_an_extreme_value_counts_as_the_most_extreme_that_was_learned_from(sign: VitalSign) -> None:
    low, high = SPEC[sign].usual

    assert shown([(0, {sign: low - 1})]) == shown([(0, {sign: low})])
    if sign is not VitalSign.SPO2:
        assert shown([(0, {sign: high + 1})]) == shown([(0, {sign: high})])


def test_other_signs_than_the_six_are_ignored() -> None:
    assert shown([(0, {VitalSign.SUPPLEMENTAL_OXYGEN: 4.0, VitalSign.CONSCIOUSNESS: 1.0})]) == shown([(0, {})])


@pytest.mark.parametrize("at_ms", [5, 4, -1])
def test_a_step_that_is_not_later_is_refused_and_changes_nothing(at_ms: int) -> None:
    patient = SepsisFeatures()
    patient.step(5, {HR: 70.0})
    before = patient.snapshot()

    with pytest.raises(StepOutOfOrder, match=f"step at {at_ms} ms is not later than the previous one at 5 ms"):
        patient.step(at_ms, {HR: 71.0})

    assert patient.snapshot() == before


def test_the_state_of_a_long_stay_is_not_larger() -> None:
    patient, sizes = SepsisFeatures(), []
    for hour in range(2_000):
        patient.step(10**12 + hour * HOUR_MS, dict.fromkeys(INPUTS, 70.0))
        sizes.append(len(patient.snapshot()))

    assert max(sizes[100:]) <= max(sizes[:100])
