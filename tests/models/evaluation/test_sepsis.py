"""How the sepsis evaluation keeps what it judges apart from what it chose by."""

import numpy as np
import pytest

from models.evaluation.sepsis import _by_hour, _found_and_missed, _over_the_others
from models.evaluation.sepsis_metrics import at_budget, same_hour_auroc
from models.recordings import FOLDS, Hours
from models.sepsis_features import INPUTS

pytestmark = pytest.mark.training

PATIENTS, STAY_H = 60, 20
WHO = np.repeat(np.arange(PATIENTS), STAY_H)
HOURS = np.tile(np.arange(STAY_H), PATIENTS)
SEPTIC = np.arange(PATIENTS) % 4 == 0
LABELS = (SEPTIC[WHO] & (HOURS >= 10)).astype(np.int64)
FOLD = (np.arange(PATIENTS) % FOLDS)[WHO]


def drawn(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(len(WHO)) + 0.5 * LABELS


def test_a_threshold_does_not_know_the_rows_on_which_it_is_judged() -> None:
    scores = drawn()
    changed = np.where(FOLD == 2, 7 * scores, scores)

    before = _over_the_others(LABELS, scores, WHO, FOLD, 0.5)
    after = _over_the_others(LABELS, changed, WHO, FOLD, 0.5)

    np.testing.assert_allclose(after[FOLD == 2], 7 * before[FOLD == 2])
    rest = FOLD != 2
    wanted = at_budget(LABELS[rest], scores[rest], WHO[rest], alarms_per_patient_day=0.5).threshold
    np.testing.assert_allclose(before[FOLD == 2], scores[FOLD == 2] / wanted)


def test_hours_of_stay_are_judged_by_themselves() -> None:
    scores = drawn()

    found = {row[0]: row for row in _by_hour(LABELS, scores, scores, HOURS)}

    assert set(found) == {"6 to 11", "12 to 23"}  # before that nobody is septic
    mine = (HOURS >= 12) & (HOURS < 24)
    assert found["12 to 23"][4] == same_hour_auroc(LABELS[mine], scores[mine], HOURS[mine])


def test_who_was_missed_is_described_beside_who_was_found() -> None:
    values = np.full((len(WHO), len(INPUTS)), 80.0)
    values[SEPTIC[WHO] & (WHO % 8 == 0), 2] = np.nan  # nobody measured their temperature
    scores = np.where(LABELS * (WHO % 8 != 0), 0.9, 0.1)
    starts = np.arange(PATIENTS) * STAY_H
    hours = Hours(
        tuple(map(str, range(PATIENTS))), starts, starts + STAY_H, HOURS, values, np.full(PATIENTS, 60.0),
        np.ones(PATIENTS), LABELS, {},
    )  # fmt: skip

    found, missed = _found_and_missed(LABELS, scores, np.full(len(WHO), 2.0), hours, 0.5)

    assert (found[:2], missed[:2]) == (["found", "7"], ["missed", "8"])
    assert found[2:] == [16.0, 60.0, 2.0, 6.0, 1.0]
    assert missed[2:] == [16.0, 60.0, 2.0, 5.0, 0.0]
