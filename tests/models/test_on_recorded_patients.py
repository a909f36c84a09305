"""The released models on recorded patients from their training data, if these are available.

These tests check explanations and scores for consistency. They do not measure quality, because the models were trained
on these patients; the model cards hold the figures of the evaluation.
"""

import random
from pathlib import Path

import numpy as np
import pytest

from models.predict import stay
from models.recordings import Hours, read_hours
from models.sepsis import SepsisModel
from models.sepsis_features import HOUR_MS, INPUTS
from tests.models.made_up import released

DATA = Path(__file__).parents[3] / "shared" / "data" / "sepsis2019" / "setB_dev.parquet"

pytestmark = pytest.mark.skipif(not DATA.is_file(), reason="recorded patients are not available")


@pytest.fixture(scope="module")
def hours() -> Hours:
    return read_hours(DATA)


@pytest.fixture(scope="module")
def model() -> SepsisModel:
    return SepsisModel(released("sepsis"))


@pytest.mark.slow
def test_the_first_sign_of_a_reason_has_more_influence_than_a_random_one(hours: Hours, model: SepsisModel) -> None:
    rng = random.Random(0)
    first_moved, any_moved = [], []
    for at in rng.sample(range(len(hours.starts)), 60):
        patient = model.patient(age_years=float(hours.ages[at]), is_male=bool(hours.males[at]))
        start, end = int(hours.starts[at]), int(min(hours.ends[at], hours.starts[at] + 30))
        rows = [
            {sign: float(one) for sign, one in zip(INPUTS, hours.values[row], strict=True) if not np.isnan(one)}
            for row in range(start, end)
        ]
        for hour, values in enumerate(rows[:-1]):
            model.step(patient, hour * HOUR_MS, values)
        found = model.influences(patient, len(rows) * HOUR_MS, rows[-1])
        full = model.preview(patient, len(rows) * HOUR_MS, rows[-1])
        if len(found) >= 3:
            first_moved.append(abs(full - found[0].without))
            any_moved.append(abs(full - rng.choice(found).without))

    assert len(first_moved) > 40
    assert np.mean(first_moved) > 1.3 * np.mean(any_moved)


@pytest.mark.slow
def test_septic_patients_have_higher_mean_scores(hours: Hours, model: SepsisModel) -> None:
    assert hours.labels is not None
    chosen = random.Random(1).sample(range(len(hours.starts)), 400)
    septic, other = [], []
    for at in chosen:
        ill = bool(hours.labels[hours.starts[at] : hours.ends[at]].any())
        (septic if ill else other).append(np.mean([one.score for one in stay(model, hours, at)]))

    assert np.median(septic) > 1.5 * np.median(other)
