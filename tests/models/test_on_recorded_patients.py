"""The released models on the recorded patients that they come from, where these are at hand.

The models have seen these patients, so nothing here says how good they are; the cards do. Here it is about the road:
explanations that hold, scores that do not know the clock, and the same as the reports say.
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

pytestmark = pytest.mark.skipif(not DATA.is_file(), reason="the recorded patients are not here")


@pytest.fixture(scope="module")
def hours() -> Hours:
    return read_hours(DATA)


@pytest.fixture(scope="module")
def model() -> SepsisModel:
    return SepsisModel(released("sepsis"))


def test_leaving_out_the_first_sign_changes_more_than_leaving_out_one_at_random(
    hours: Hours, model: SepsisModel
) -> None:
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
        full = model.glance(patient, len(rows) * HOUR_MS, rows[-1])
        if len(found) >= 3:
            first_moved.append(abs(full - found[0].without))
            any_moved.append(abs(full - rng.choice(found).without))

    assert len(first_moved) > 40
    assert np.mean(first_moved) > 1.3 * np.mean(any_moved)


@pytest.mark.slow
def test_septic_patients_score_higher_within_the_same_hour(hours: Hours, model: SepsisModel) -> None:
    assert hours.labels is not None
    chosen = random.Random(1).sample(range(len(hours.starts)), 400)
    septic, other = [], []
    for at in chosen:
        ill = bool(hours.labels[hours.starts[at] : hours.ends[at]].any())
        (septic if ill else other).append(np.mean([score for _, score, _ in stay(model, hours, at)]))

    assert np.median(septic) > 1.5 * np.median(other)
