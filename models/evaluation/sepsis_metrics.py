"""Metrics of a sepsis score: AUROC, same-hour AUROC, challenge utility, and figures at a threshold.

Rows are hours, sorted by patient and hour. `labels` are 0 or 1; 1 from six hours before the onset.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

EARLY_H: Final = -12
OPTIMAL_H: Final = -6
LATE_H: Final = 3
MAX_ALARM_UTILITY: Final = 1.0
MIN_MISS_UTILITY: Final = -2.0
FALSE_ALARM_UTILITY: Final = -0.05


class ThresholdFigures(NamedTuple):
    """Alarm rate and detection figures at one threshold."""

    threshold: float
    alarms_per_patient_day: float
    sensitivity: float  # share of septic patients with an alarm before or at the onset
    ppv: float  # share of alarms that belong to septic patients
    lead_h: float  # median time from the first alarm to the onset; NaN without such an alarm


def auroc(labels: Ints, scores: Floats) -> float:
    """Share of pairs of a positive and a negative row in which the positive one has the higher score.

    Ties count half. NaN if all labels are equal.

    >>> auroc(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]))
    0.75
    """
    ones = labels > 0
    positives, negatives = int(ones.sum()), int((~ones).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2)[place]
    return float((ranks[ones].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def same_hour_auroc(labels: Ints, scores: Floats, hours: Ints) -> float:
    """AUROC over pairs from the same hour of stay, so that a score cannot gain from knowing the hour."""
    won = pairs = 0.0
    for hour in np.unique(hours):
        here = hours == hour
        ones = int((labels[here] > 0).sum())
        weight = ones * (int(here.sum()) - ones)
        if weight:
            won += weight * auroc(labels[here], scores[here])
            pairs += weight
    return won / pairs if pairs else float("nan")


def utility(labels: Ints, alarms: Bools, patients: Ints) -> float:
    """The normalised utility of the PhysioNet/CinC Challenge 2019: 1 for optimal alarms, 0 for no alarms.

    Reyna et al., Crit Care Med 48(2):210-217, 2020, doi 10.1097/CCM.0000000000004145.
    """
    got = best = nothing = 0.0
    for rows in _stays(patients):
        onset = _onset(labels[rows])
        alarm, silent = _utilities(len(labels[rows]), onset)
        got += float(np.where(alarms[rows], alarm, silent).sum())
        # Optimal alarms last from twelve hours before the onset to three hours after it, in septic patients only.
        since = np.arange(len(alarm)) - (np.inf if onset is None else onset)
        best += float(np.where((since >= EARLY_H) & (since <= LATE_H), alarm, silent).sum())
        nothing += float(silent.sum())
    return (got - nothing) / (best - nothing) if best > nothing else float("nan")


def at_budget(labels: Ints, scores: Floats, patients: Ints, *, alarms_per_patient_day: float) -> ThresholdFigures:
    """The lowest threshold that keeps an alarm budget, with its figures.

    An alarm is an hour at or above the threshold after one below it, as at a bedside: it does not repeat while the
    score stays above the threshold.
    """
    days = len(labels) / 24
    first = np.r_[True, patients[1:] != patients[:-1]]
    before = np.r_[-np.inf, scores[:-1]]
    before[first] = -np.inf
    candidates = np.unique(scores)[::-1]
    low, high = 0, len(candidates) - 1
    # As long as alarms are rare, a lower threshold gives more of them: bisect from the highest score down.
    while low < high:
        middle = (low + high + 1) // 2
        threshold = candidates[middle]
        rate = float(((scores >= threshold) & (before < threshold)).sum()) / days
        low, high = (middle, high) if rate <= alarms_per_patient_day else (low, middle - 1)
    return at_threshold(labels, scores, patients, threshold=float(candidates[low]))


def at_threshold(labels: Ints, scores: Floats, patients: Ints, *, threshold: float) -> ThresholdFigures:
    """The figures of one threshold."""
    first = np.r_[True, patients[1:] != patients[:-1]]
    above = scores >= threshold
    rises = above & ~np.r_[False, above[:-1]] | above & first
    septic = found = right = 0
    leads: list[int] = []
    for rows in _stays(patients):
        onset = _onset(labels[rows])
        if onset is None:
            continue
        septic += 1
        right += int(rises[rows].sum())
        hours = np.flatnonzero(above[rows])
        hours = hours[hours <= onset]
        found += bool(len(hours))
        leads += [onset - int(hours[0])] if len(hours) else []
    raised = int(rises.sum())
    return ThresholdFigures(
        threshold=threshold,
        alarms_per_patient_day=raised / (len(labels) / 24),
        sensitivity=found / septic if septic else float("nan"),
        ppv=right / raised if raised else float("nan"),
        lead_h=float(np.median(leads)) if leads else float("nan"),
    )


def _stays(patients: Ints) -> list[slice]:
    starts = np.flatnonzero(np.r_[True, patients[1:] != patients[:-1]])
    return [slice(int(a), int(b)) for a, b in zip(starts, np.r_[starts[1:], len(patients)], strict=True)]


def _onset(labels: Ints) -> int | None:
    """The row of the onset, possibly after the last row, six hours after the first label; None: not septic."""
    return int(np.argmax(labels > 0)) - OPTIMAL_H if bool((labels > 0).any()) else None


def _utilities(rows: int, onset: int | None) -> tuple[Floats, Floats]:
    """The utility of an alarm and of no alarm in each hour of a stay."""
    if onset is None:
        return np.full(rows, FALSE_ALARM_UTILITY), np.zeros(rows)
    since = np.arange(rows) - onset
    rising = np.maximum((since - EARLY_H) * MAX_ALARM_UTILITY / (OPTIMAL_H - EARLY_H), FALSE_ALARM_UTILITY)
    falling = (LATE_H - since) * MAX_ALARM_UTILITY / (LATE_H - OPTIMAL_H)
    missed = (since - OPTIMAL_H) * MIN_MISS_UTILITY / (LATE_H - OPTIMAL_H)
    over = since > LATE_H
    alarm = np.where(over, 0.0, np.where(since <= OPTIMAL_H, rising, falling))
    silent = np.where(over | (since <= OPTIMAL_H), 0.0, missed)
    return alarm, silent
