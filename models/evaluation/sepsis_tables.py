"""Tables of the sepsis report: discrimination, alarm budgets, folds, subgroups, hours of stay, detected and missed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from models.evaluation.report import Cells, Table, bootstrap, calibration_error, weighted_auprc, weighted_auroc
from models.evaluation.sepsis_metrics import (
    ThresholdFigures,
    at_budget,
    at_threshold,
    auroc,
    same_hour_auroc,
    utility,
)
from models.passport import Interval
from models.recordings import FOLDS, Hours
from models.sepsis_features import INPUTS
from vitals.signs import VitalSign

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

AGES: Final = ((0, 50), (50, 65), (65, 75), (75, 200))
STAY_H: Final = ((0, 6), (6, 12), (12, 24), (24, 48), (48, 1_000))
LOOKED_BACK_H: Final = 12


class EvaluatedRows(NamedTuple):
    """The rows that are evaluated."""

    hours: Hours
    labels: Ints  # [N]
    patients: Ints  # patient of each row, [N]
    folds: Ints  # fold of each row, [N]


class BudgetFigures(NamedTuple):
    """Figures of the model with one alarm budget."""

    wanted: float  # alarms per patient-day
    released: ThresholdFigures  # threshold chosen on all folds, as it is released
    judged: ThresholdFigures  # threshold of each fold chosen on the others
    multiples: Floats  # scores in multiples of the threshold from the other folds, [N]


def at_budgets(cohort: EvaluatedRows, scores: Floats, budgets: Sequence[float]) -> list[BudgetFigures]:
    """Figures of each alarm budget."""
    found = []
    for rate in budgets:
        released = at_budget(cohort.labels, scores, cohort.patients, alarms_per_patient_day=rate)
        multiples = threshold_multiples(cohort.labels, scores, cohort.patients, cohort.folds, rate)
        judged = at_threshold(cohort.labels, multiples, cohort.patients, threshold=1.0)
        found.append(BudgetFigures(rate, released, judged, multiples))
    return found


def threshold_multiples(labels: Ints, scores: Floats, patients: Ints, folds: Ints, rate: float) -> Floats:
    """Scores divided by the threshold that keeps the alarm budget in the four other folds.

    A threshold chosen on the rows that it is evaluated on would look too good.
    """
    multiples = np.empty(len(scores))
    for fold in range(FOLDS):
        rest, mine = folds != fold, folds == fold
        chosen = at_budget(labels[rest], scores[rest], patients[rest], alarms_per_patient_day=rate)
        multiples[mine] = scores[mine] / chosen.threshold
    return multiples


def discrimination(cohort: EvaluatedRows, named: Mapping[str, Floats]) -> Table:
    """AUROC, same-hour AUROC, AUPRC and utility of each score."""
    labels = cohort.labels
    return Table(
        "Scores on patients that the net was not trained on",
        ("score", "AUROC", "same-hour AUROC", "AUPRC", "utility"),
        [_discrimination_row(name, cohort, one) for name, one in named.items()],
        f"Five folds by patient, pooled: {len(cohort.hours.starts):,} patients, {len(labels):,} hours, "
        f"{labels.mean():.2%} of them with a sepsis label. Intervals: bootstrap over patients, 200 repetitions. "
        "Utility: at the best threshold of each score, chosen on the same rows.",
    )


def _discrimination_row(name: str, cohort: EvaluatedRows, scores: Floats) -> Cells:
    labels, patients = cohort.labels, cohort.patients
    people = int(patients.max()) + 1
    rank, precision = weighted_auroc(labels, scores), weighted_auprc(labels, scores)
    return [
        name,
        bootstrap(lambda drawn: rank(drawn[patients]), people),
        _same_hour(labels, scores, cohort.hours.hours, patients),
        bootstrap(lambda drawn: precision(drawn[patients]), people),
        _best_utility(labels, scores, patients),
    ]


def _same_hour(labels: Ints, scores: Floats, hours: Ints, patients: Ints) -> Interval:
    """Same-hour AUROC with its interval: the AUROC of each hour, weighted by its number of pairs."""
    figures: list[tuple[Callable[[Floats], float], Ints, npt.NDArray[np.bool_]]] = []
    for hour in np.unique(hours):
        here = np.flatnonzero(hours == hour)
        ones = labels[here] > 0
        if 0 < ones.sum() < len(here):
            figures.append((weighted_auroc(labels[here], scores[here]), patients[here], ones))

    def figure(drawn: Floats) -> float:
        won = pairs = 0.0
        for rank, members, ones in figures:
            weights = drawn[members]
            weight = weights[ones].sum() * weights[~ones].sum()
            if weight:
                won += weight * rank(weights)
                pairs += weight
        return won / pairs

    return bootstrap(figure, int(patients.max()) + 1)


def _best_utility(labels: Ints, scores: Floats, patients: Ints) -> float:
    thresholds = np.unique(np.quantile(scores, np.linspace(0.7, 0.995, 40)))
    return max(utility(labels, scores >= threshold, patients) for threshold in thresholds)


def budget_table(cohort: EvaluatedRows, found: Sequence[BudgetFigures]) -> Table:
    """The model's figures for each alarm budget."""
    return Table(
        "Alarm budgets of the model",
        (
            "budget",
            "alarms per patient-day",
            "sensitivity",
            "PPV",
            "median lead time, h",
            "utility",
            "released threshold",
        ),
        [
            [
                f"{one.wanted:g}",
                *one.judged[1:],
                utility(cohort.labels, one.multiples >= 1, cohort.patients),
                f"{one.released.threshold:.4f}",
            ]
            for one in found
        ],
        "The threshold of each fold was chosen on the four others, the released one on all. An alarm is a rise of the "
        "score to the threshold; sensitivity counts patients with an alarm before or at the onset.",
    )


def comparison_at_budget(cohort: EvaluatedRows, named: Mapping[str, Floats], rate: float) -> Table:
    """Figures of several scores with the same alarm budget."""
    rows: list[Cells] = []
    for name, scores in named.items():
        multiples = threshold_multiples(cohort.labels, scores, cohort.patients, cohort.folds, rate)
        rows.append([name, *at_threshold(cohort.labels, multiples, cohort.patients, threshold=1.0)[1:]])
    return Table(
        f"All scores at {rate:g} alarm per patient-day",
        ("score", "alarms per patient-day", "sensitivity", "PPV", "median lead time, h"),
        rows,
    )


def fold_table(cohort: EvaluatedRows, scores: Floats) -> Table:
    """AUROC of each fold."""
    labels, hours = cohort.labels, cohort.hours.hours
    rows: list[Cells] = []
    for fold in range(FOLDS):
        mine = cohort.folds == fold
        same_hour = same_hour_auroc(labels[mine], scores[mine], hours[mine])
        rows.append([str(fold + 1), auroc(labels[mine], scores[mine]), same_hour])
    return Table("Folds", ("fold", "AUROC", "same-hour AUROC"), rows)


def subgroup_table(cohort: EvaluatedRows, scores: Floats, threshold: float) -> Table:
    """Figures by age and sex."""
    hours, labels, patients = cohort.hours, cohort.labels, cohort.patients
    groups = [
        (
            f"{low} to {high} years" if high < 200 else f"{low} years and above",
            (hours.ages >= low) & (hours.ages < high),
        )
        for low, high in AGES
    ]
    groups += [("women", hours.males == 0), ("men", hours.males == 1)]
    rows: list[Cells] = []
    for name, members in groups:
        mine = members[patients]
        if len(np.unique(labels[mine])) < 2:
            continue  # AUROC needs septic and other patients
        figures = at_threshold(labels[mine], scores[mine], patients[mine], threshold=threshold)
        within = np.unique(patients[mine], return_inverse=True)[1]
        rows.append(
            [
                name,
                str(int(members.sum())),
                _interval(weighted_auroc(labels[mine], scores[mine]), within, int(members.sum())),
                same_hour_auroc(labels[mine], scores[mine], hours.hours[mine]),
                calibration_error(labels[mine], scores[mine]),
                figures.sensitivity,
                figures.ppv,
            ]
        )
    columns = (
        "group",
        "patients",
        "AUROC",
        "same-hour AUROC",
        "calibration error",
        "sensitivity at the threshold",
        "PPV",
    )
    return Table("Subgroups", columns, rows)


def _interval(rank: Callable[[Floats], float], patients: Ints, people: int) -> Interval:
    return bootstrap(lambda drawn: rank(drawn[patients]), people)


def stay_table(cohort: EvaluatedRows, scores: Floats, boosted: Floats) -> Table:
    """Figures by hour of stay, of the model and of boosting."""
    labels, hours = cohort.labels, cohort.hours.hours
    rows: list[Cells] = []
    for low, high in STAY_H:
        mine = (hours >= low) & (hours < high)
        if len(np.unique(labels[mine])) == 2:
            rows.append(
                [
                    f"{low} to {high - 1}" if high < 1_000 else f"{low} and later",
                    f"{int(mine.sum()):,}",
                    f"{labels[mine].mean():.2%}",
                    auroc(labels[mine], scores[mine]),
                    same_hour_auroc(labels[mine], scores[mine], hours[mine]),
                    same_hour_auroc(labels[mine], boosted[mine], hours[mine]),
                ]
            )
    return Table(
        "By hour of stay",
        ("hours", "rows", "share septic", "AUROC", "same-hour AUROC", "same-hour AUROC, boosting"),
        rows,
        "The same-hour AUROC compares pairs within these hours only.",
    )


def detected_table(cohort: EvaluatedRows, scores: Floats, points: Floats, threshold: float) -> Table:
    """Septic patients with an alarm before or at the onset compared with those without one.

    Args:
        points: NEWS2 points of each row.
    """
    hours, labels = cohort.hours, cohort.labels
    groups: dict[str, list[tuple[float, ...]]] = {"detected": [], "missed": []}
    temperature = list(INPUTS).index(VitalSign.TEMPERATURE)
    for at, (start, end) in enumerate(zip(hours.starts, hours.ends, strict=True)):
        if not labels[start:end].any():
            continue
        onset = int(np.argmax(labels[start:end])) + 6
        until = int(start) + min(onset, int(end - start) - 1) + 1
        last = slice(max(int(start), until - LOOKED_BACK_H), until)
        known = ~np.isnan(hours.values[last])
        groups["detected" if (scores[start:until] >= threshold).any() else "missed"].append(
            (onset, hours.ages[at], points[last].max(), known.sum() / len(known), known[:, temperature].mean())
        )
    rows: list[Cells] = [
        [name, str(len(patients)), *(float(one) for one in np.nanmedian(np.array(patients), axis=0))]
        for name, patients in groups.items()
        if patients
    ]
    columns = (
        "group",
        "patients",
        "hours before the onset",
        "age",
        "highest NEWS2 (vitals)",
        "signs measured per hour",
        "share of hours with temperature",
    )
    return Table(
        "Septic patients, detected and missed at the threshold",
        columns,
        rows,
        f"Medians over patients; NEWS2, signs and temperature of the last {LOOKED_BACK_H} h before the onset, "
        "or before the end of the record.",
    )


def lead_times_h(cohort: EvaluatedRows, scores: Floats, threshold: float) -> list[float]:
    """Hours from the first alarm to the onset, for septic patients with an alarm before or at the onset."""
    found = []
    for start, end in zip(cohort.hours.starts, cohort.hours.ends, strict=True):
        if cohort.labels[start:end].any():
            onset = int(np.argmax(cohort.labels[start:end])) + 6
            alarms = np.flatnonzero(scores[start:end] >= threshold)
            found += [float(onset - alarms[0])] if len(alarms) and alarms[0] <= onset else []
    return found
