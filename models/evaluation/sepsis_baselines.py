"""Scores to compare the sepsis model with: ward scores, boosting and logistic regression on the same rows."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from models.recordings import FOLDS, Hours
from models.sepsis_features import INPUTS, NAMES
from vitals import news2

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = npt.NDArray[np.float32]

NEWS2_VITALS: Final = "NEWS2 (vitals)"
CURRENT: Final = [
    *(NAMES.index(f"{sign.value}.value") for sign in INPUTS),
    *(NAMES.index(name) for name in ("mean_pressure", "age_years", "male")),
]
"""Features of the simple learners: the newest values, age and sex."""


def ward_scores(rows: Rows, hours: Hours) -> dict[str, Floats]:
    """Ward scores from the signs that a wearable measures; a missing sign scores 0 points."""
    now = {sign: np.asarray(rows[:, NAMES.index(f"{sign.value}.value")], np.float64) for sign in INPUTS}
    heart_rate, spo2, temperature, breaths, systolic, _ = (now[sign] for sign in INPUTS)
    points = sum(
        _points(values, rule)
        for values, rule in (
            (heart_rate, news2.heart_rate),
            (spo2, news2.oxygen_saturation),
            (temperature, news2.temperature),
            (breaths, news2.respiratory_rate),
            (systolic, news2.systolic_bp),
        )
    )
    with np.errstate(invalid="ignore"):
        sirs = (heart_rate > 90).astype(np.float64) + (breaths > 20) + ((temperature > 38) | (temperature < 36))
        qsofa = (breaths >= 22).astype(np.float64) + (systolic <= 100)
    return {
        NEWS2_VITALS: np.asarray(points, np.float64),
        "SIRS (vitals)": sirs,
        "qSOFA (vitals)": qsofa,
        "shock index": np.nan_to_num(heart_rate / systolic, nan=0.7),
        "hour of stay alone (information leak, for comparison)": hours.hours.astype(np.float64),
    }


def cross_validated(rows: Rows, labels: Ints, folds: Ints, make: Callable[[int], Any]) -> Floats:
    """Scores of a scikit-learn classifier; each fold is scored by one that was fitted on the other folds."""
    scores = np.empty(len(labels))
    for fold in range(FOLDS):
        learner = make(fold).fit(rows[folds != fold], labels[folds != fold])
        scores[folds == fold] = learner.predict_proba(rows[folds == fold])[:, 1]
    return scores


def boosting(fold: int) -> Any:
    """Gradient boosting, which handles missing values itself."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.05, max_leaf_nodes=15, l2_regularization=1.0, random_state=fold
    )


def logistic(_fold: int) -> Any:
    """Logistic regression; a missing value becomes the median, with an indicator."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(C=0.1, max_iter=500)
    )


def without_ages(rows: Rows) -> Rows:
    """The rows with every value's age set to 0."""
    changed = np.array(rows)
    changed[:, _AGES] = 0
    return changed


def ages_shuffled(rows: Rows, seed: int) -> Rows:
    """The rows with the ages of values permuted between rows, which removes information about measurement times."""
    changed = np.array(rows)
    order = np.random.default_rng(seed).permutation(len(changed))
    changed[:, _AGES] = changed[:, _AGES][order]
    return changed


_AGES: Final = [place for place, name in enumerate(NAMES) if name.endswith(".age_h")]


def _points(values: Floats, rule: Callable[[float], int]) -> Floats:
    known, place = np.unique(values, return_inverse=True)
    return np.array([0.0 if np.isnan(one) else float(rule(float(one))) for one in known])[place]
