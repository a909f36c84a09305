"""Tables of the sepsis evaluation: thresholds from other folds, hours of stay, detected and missed patients."""

import numpy as np
import pytest

from models.evaluation.sepsis_metrics import at_budget, same_hour_auroc
from models.evaluation.sepsis_tables import EvaluatedRows, detected_table, stay_table, threshold_multiples
from models.recordings import FOLDS, Hours
from models.sepsis_features import INPUTS

pytestmark = pytest.mark.training

PATIENTS, STAY_H = 60, 20
PATIENT = np.repeat(np.arange(PATIENTS), STAY_H)
HOURS = np.tile(np.arange(STAY_H), PATIENTS)
SEPTIC = np.arange(PATIENTS) % 4 == 0
LABELS = (SEPTIC[PATIENT] & (HOURS >= 10)).astype(np.int64)
FOLD = (np.arange(PATIENTS) % FOLDS)[PATIENT]


def drawn(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(len(PATIENT)) + 0.5 * LABELS


def cohort(values: np.ndarray | None = None) -> EvaluatedRows:
    starts = np.arange(PATIENTS) * STAY_H
    hours = Hours(
        tuple(map(str, range(PATIENTS))),
        starts,
        starts + STAY_H,
        HOURS,
        np.full((len(PATIENT), len(INPUTS)), 80.0) if values is None else values,
        np.full(PATIENTS, 60.0),
        np.ones(PATIENTS),
        LABELS,
        {},
    )
    return EvaluatedRows(hours, LABELS, PATIENT, FOLD)


def test_a_threshold_is_chosen_without_the_fold_that_it_is_applied_to() -> None:
    scores = drawn()
    changed = np.where(FOLD == 2, 7 * scores, scores)

    before = threshold_multiples(LABELS, scores, PATIENT, FOLD, 0.5)
    after = threshold_multiples(LABELS, changed, PATIENT, FOLD, 0.5)

    np.testing.assert_allclose(after[FOLD == 2], 7 * before[FOLD == 2])
    rest = FOLD != 2
    wanted = at_budget(LABELS[rest], scores[rest], PATIENT[rest], alarms_per_patient_day=0.5).threshold
    np.testing.assert_allclose(before[FOLD == 2], scores[FOLD == 2] / wanted)


def test_groups_of_hours_are_evaluated_separately() -> None:
    scores = drawn()

    found = {row[0]: row for row in stay_table(cohort(), scores, scores).rows}

    assert set(found) == {"6 to 11", "12 to 23"}  # no patient is septic before
    mine = (HOURS >= 12) & (HOURS < 24)
    assert found["12 to 23"][4] == same_hour_auroc(LABELS[mine], scores[mine], HOURS[mine])


def test_missed_patients_are_compared_with_detected_ones() -> None:
    values = np.full((len(PATIENT), len(INPUTS)), 80.0)
    values[SEPTIC[PATIENT] & (PATIENT % 8 == 0), 2] = np.nan  # temperature not measured
    scores = np.where(LABELS * (PATIENT % 8 != 0), 0.9, 0.1)

    detected, missed = detected_table(cohort(values), scores, np.full(len(PATIENT), 2.0), 0.5).rows

    assert (detected[:2], missed[:2]) == (["detected", "7"], ["missed", "8"])
    assert detected[2:] == [16.0, 60.0, 2.0, 6.0, 1.0]
    assert missed[2:] == [16.0, 60.0, 2.0, 5.0, 0.0]
