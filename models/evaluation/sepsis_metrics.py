"""How a sepsis score is judged, patient by patient and hour by hour.

Rows are hours, sorted by patient and hour. `labels` are 0 and 1, 1 from six hours before the onset on.
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
MOST_FOR_ALARM: Final = 1.0
LEAST_FOR_MISS: Final = -2.0
FOR_FALSE_ALARM: Final = -0.05


class Budget(NamedTuple):
    """What a threshold costs and brings."""

    threshold: float
    alarms_per_patient_day: float
    sensitivity: float  # of septic patients with an alarm before or at their onset
    ppv: float  # of alarms, those of septic patients
    lead_h: float  # median of the first alarm before the onset; NaN if there is none


def auroc(labels: Ints, scores: Floats) -> float:
    """The share of pairs of one and nought in which the one has the higher score; ties count half.

    NaN where there is only one kind.
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
    """AUROC over pairs of one and the same hour of stay, so that no clock can help."""
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
    """The normalised utility of the PhysioNet/CinC Challenge 2019: 1 for the best alarms, 0 for none at all.

    Reyna et al., Crit Care Med 48(2):210-217, 2020, doi 10.1097/CCM.0000000000004145.
    """
    got = best = nothing = 0.0
    for rows in _stays(patients):
        onset = _onset(labels[rows])
        told, silent = _worth(len(labels[rows]), onset)
        got += float(np.where(alarms[rows], told, silent).sum())
        # Who knew the onset would raise an alarm from twelve hours before it to three after, and for nobody else.
        since = np.arange(len(told)) - (np.inf if onset is None else onset)
        best += float(np.where((since >= EARLY_H) & (since <= LATE_H), told, silent).sum())
        nothing += float(silent.sum())
    return (got - nothing) / (best - nothing) if best > nothing else float("nan")


def at_budget(labels: Ints, scores: Floats, patients: Ints, *, alarms_per_patient_day: float) -> Budget:
    """The lowest threshold that keeps a budget, and what it brings.

    An alarm is an hour at or above the threshold after one below it, as a bed would tell: it does not sound anew while
    it stands.
    """
    days = len(labels) / 24
    first = np.r_[True, patients[1:] != patients[:-1]]
    before = np.r_[-np.inf, scores[:-1]]
    before[first] = -np.inf
    candidates = np.unique(scores)[::-1]
    low, high = 0, len(candidates) - 1
    # Few thresholds above, many alarms below: rising crossings grow from the top on, as long as alarms are rare.
    while low < high:
        middle = (low + high + 1) // 2
        threshold = candidates[middle]
        rate = float(((scores >= threshold) & (before < threshold)).sum()) / days
        low, high = (middle, high) if rate <= alarms_per_patient_day else (low, middle - 1)
    return at_threshold(labels, scores, patients, threshold=float(candidates[low]))


def at_threshold(labels: Ints, scores: Floats, patients: Ints, *, threshold: float) -> Budget:
    """What a threshold costs and brings."""
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
    return Budget(
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
    """The row of the onset, which may lie after the last row; None: not septic. Labels begin six hours before it."""
    return int(np.argmax(labels > 0)) - OPTIMAL_H if bool((labels > 0).any()) else None


def _worth(rows: int, onset: int | None) -> tuple[Floats, Floats]:
    """What an alarm and silence are worth in each hour of a stay."""
    if onset is None:
        return np.full(rows, FOR_FALSE_ALARM), np.zeros(rows)
    since = np.arange(rows) - onset
    rising = np.maximum((since - EARLY_H) * MOST_FOR_ALARM / (OPTIMAL_H - EARLY_H), FOR_FALSE_ALARM)
    falling = (LATE_H - since) * MOST_FOR_ALARM / (LATE_H - OPTIMAL_H)
    missed = (since - OPTIMAL_H) * LEAST_FOR_MISS / (LATE_H - OPTIMAL_H)
    over = since > LATE_H
    told = np.where(over, 0.0, np.where(since <= OPTIMAL_H, rising, falling))
    silent = np.where(over | (since <= OPTIMAL_H), 0.0, missed)
    return told, silent
