"""Metrics of a sepsis score: computed by hand on small stays, and compared with published figures."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.sepsis_metrics import at_budget, at_threshold, auroc, same_hour_auroc, utility

DATA = Path(os.environ.get("VITALLOOM_DATA", Path(__file__).parents[3] / "../shared/data"))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ((0, 0, 1, 1), (0.1, 0.2, 0.3, 0.4), 1.0),
        ((1, 1, 0, 0), (0.1, 0.2, 0.3, 0.4), 0.0),
        ((0, 1, 0, 1), (0.1, 0.2, 0.3, 0.4), 0.75),
        ((0, 1, 0, 1), (0.5, 0.5, 0.5, 0.5), 0.5),
        ((0, 1, 1), (0.5, 0.5, 0.9), 0.75),
    ],
)
def test_auroc_counts_ties_half(labels: tuple[int, ...], scores: tuple[float, ...], expected: float) -> None:
    assert auroc(ints(*labels), floats(*scores)) == expected


def test_auroc_equals_the_share_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 200), np.round(rng.normal(size=200), 1)

    ones, noughts = scores[labels == 1], scores[labels == 0]
    pairs = (ones[:, None] > noughts) + 0.5 * (ones[:, None] == noughts)

    assert auroc(labels, scores) == pytest.approx(pairs.mean())


def test_auroc_of_equal_labels_is_nan() -> None:
    assert math.isnan(auroc(ints(1, 1), floats(0.1, 0.2)))
    assert math.isnan(same_hour_auroc(ints(1, 0), floats(0.1, 0.2), ints(1, 2)))


def test_the_hour_of_stay_has_no_same_hour_auroc() -> None:
    hours = np.tile(np.arange(50), 20)
    labels = (np.random.default_rng(1).random(1_000) < hours / 50).astype(np.int64)

    assert auroc(labels, hours.astype(float)) > 0.7
    assert same_hour_auroc(labels, hours.astype(float), hours) == 0.5


# A stay of 24 hours with the onset in hour 18: labelled from hour 12 on.
SICK = ints(*([0] * 12), *([1] * 12))
WELL = ints(*([0] * 24))
ALONE = np.zeros(24, np.int64)


def test_optimal_alarms_have_utility_one_and_no_alarms_zero() -> None:
    hours = np.arange(24)

    assert utility(SICK, (hours >= 6) & (hours <= 21), ALONE) == 1  # twelve hours before the onset to three after
    assert utility(SICK, np.zeros(24, bool), ALONE) == 0


def test_utility_of_a_single_alarm_six_hours_before_the_onset() -> None:
    # The best: 0/6 to 6/6 in hours 6 to 12, then 8/9 to 0/9, and no silence, which costs 2/9 to 18/9 in hours 13 to 21.
    assert utility(SICK, np.arange(24) == 12, ALONE) == pytest.approx(1 / _whole())


def challenge_utility(labels: np.ndarray, alarms: np.ndarray) -> float:
    """The utility of one stay as the challenge describes it, hour by hour."""
    septic = bool(labels.any())
    onset = int(np.argmax(labels)) + 6 if septic else 10**9
    total = 0.0
    for hour, alarm in enumerate(alarms):
        since = hour - onset
        if not septic:
            total += -0.05 if alarm else 0.0
        elif since > 3:
            continue
        elif alarm:
            total += max((since + 12) / 6, -0.05) if since <= -6 else (3 - since) / 9
        else:
            total += 0.0 if since <= -6 else -2 * (since + 6) / 9
    return total


def test_utility_follows_the_definition_of_the_challenge() -> None:
    rng = np.random.default_rng(7)
    lengths = rng.integers(2, 80, 60)
    stays = [np.arange(n) >= (rng.integers(0, n) if rng.random() < 0.5 else 10**6) for n in lengths]
    patients = np.repeat(np.arange(60), lengths)
    labels = np.concatenate(stays).astype(np.int64)
    alarms = rng.random(len(labels)) < 0.3

    def total(told: list[np.ndarray]) -> float:
        return sum(challenge_utility(one, two) for one, two in zip(stays, told, strict=True))

    got = total(np.split(alarms, np.cumsum(lengths)[:-1]))
    nothing = total([np.zeros(n, bool) for n in lengths])
    best = total(
        [
            (np.arange(n) >= np.argmax(stay) - 6) & (np.arange(n) <= np.argmax(stay) + 9) & stay.any()
            for n, stay in zip(lengths, stays, strict=True)
        ]
    )
    assert utility(labels, alarms, patients) == pytest.approx((got - nothing) / (best - nothing))


def test_a_false_alarm_costs_a_twentieth_and_utility_can_be_negative() -> None:
    labels, patients = np.r_[SICK, WELL], np.r_[ALONE, ALONE + 1]
    right = np.isin(np.arange(48), range(6, 22))
    wrong = right | np.isin(np.arange(48), range(24, 34))

    worth = (1 - utility(labels, wrong, patients)) / 10

    assert worth == pytest.approx(0.05 * 1 / _whole())
    assert utility(labels, ~right, patients) < 0


def _whole() -> float:
    return sum(n / 6 for n in range(7)) + sum(n / 9 for n in range(9)) + sum(2 * n / 9 for n in range(1, 10))


def test_a_continuing_alarm_counts_once_and_its_lead_time_ends_at_the_onset() -> None:
    labels, patients = np.r_[SICK, WELL], np.r_[ALONE, ALONE + 1]
    scores = np.full(48, 0.1)
    scores[8:24] = 0.9  # from ten hours before the onset
    scores[30:32] = 0.9  # false alarms of another patient
    scores[40] = 0.9

    found = at_threshold(labels, scores, patients, threshold=0.5)

    assert found.alarms_per_patient_day == 3 / 2
    assert (found.sensitivity, found.ppv, found.lead_h) == (1, 1 / 3, 10)


def test_an_alarm_after_the_onset_does_not_count_as_detection() -> None:
    scores = np.where(np.arange(24) >= 19, 0.9, 0.1)

    found = at_threshold(SICK, scores, ALONE, threshold=0.5)

    assert found.sensitivity == 0
    assert math.isnan(found.lead_h)


def test_each_stay_starts_without_an_alarm() -> None:
    labels, patients = np.r_[WELL, WELL], np.r_[ALONE, ALONE + 1]

    assert at_threshold(labels, np.full(48, 0.9), patients, threshold=0.5).alarms_per_patient_day == 1


@pytest.mark.parametrize("budget", [0.1, 0.5, 1.0])
def test_an_alarm_budget_is_kept(budget: float) -> None:
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(40), 48)
    labels = np.tile(np.r_[np.zeros(36, np.int64), np.ones(12, np.int64)], 40) * (patients % 4 == 0)
    scores = rng.random(len(labels)) + 0.3 * labels

    found = at_budget(labels, scores, patients, alarms_per_patient_day=budget)

    assert 0.5 * budget < found.alarms_per_patient_day <= budget
    assert 0 < found.sensitivity <= 1


@pytest.mark.slow
def test_the_hour_of_stay_alone_has_its_published_utility_on_the_published_data() -> None:
    path = DATA / "sepsis2019" / "setB_dev.parquet"
    if not path.exists():
        pytest.skip("no sepsis2019; set VITALLOOM_DATA to the folder that holds it")
    table = pytest.importorskip("pyarrow.parquet").read_table(path, columns=["patient_id", "hour", "SepsisLabel"])
    names, hours, labels = (table[name].to_numpy() for name in ("patient_id", "hour", "SepsisLabel"))
    patients = np.unique(names, return_inverse=True)[1].astype(np.int64)
    labels, hours = labels.astype(np.int64), hours.astype(np.int64)

    # "An alarm from the 54th hour on" beats most models, which is why no clock may be an input.
    assert utility(labels, hours >= 54, patients) == pytest.approx(0.239, abs=0.001)
    assert auroc(labels, hours.astype(float)) == pytest.approx(0.615, abs=0.02)
    assert same_hour_auroc(labels, hours.astype(float), hours) == 0.5
