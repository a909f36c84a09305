"""Evaluation of the sepsis model on patients outside its training folds: int8 files, edge runtime, step by step."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifacts import GRAPH, Artifact, load
from models.errors import BadRun
from models.evaluation import plots, sepsis_tables
from models.evaluation.report import EvaluationReport, Table, calibration_error
from models.evaluation.sepsis_baselines import (
    CURRENT,
    NEWS2_VITALS,
    ages_shuffled,
    boosting,
    cross_validated,
    logistic,
    ward_scores,
    without_ages,
)
from models.evaluation.sepsis_metrics import auroc, utility
from models.evaluation.sepsis_tables import BudgetFigures, EvaluatedRows
from models.passport import Interval
from models.predict import stay
from models.recordings import FOLDS, Hours, folds_of, read_hours
from models.runtime import OnnxEngine
from models.sepsis import SepsisModel

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = npt.NDArray[np.float32]
ShowStatus: TypeAlias = Callable[[str], None]

BUDGETS: Final = (0.1, 0.25, 0.5, 1.0)
"""Alarm budgets of the report, in alarms per patient-day."""
COMPARED_BUDGET: Final = 1.0
"""The budget at which the scores are compared."""
RELEASED_BUDGET: Final = 0.5
"""The budget of the released threshold: half the alarms of the comparison, with nearly the best utility."""


class OtherRun(NamedTuple):
    """Another training run, evaluated on the same rows for comparison."""

    title: str
    work: Path
    without_ages: bool


class Scores(NamedTuple):
    """Scores of every row by method, [N] each."""

    model: Floats  # int8, step by step
    float32: Floats
    shuffled: Floats  # int8, ages of values shuffled
    others: dict[str, Floats]  # other runs
    boosted_all: Floats
    boosted: Floats
    logistic: Floats
    rules: dict[str, Floats]

    def by_title(self) -> dict[str, Floats]:
        return {
            "model, int8, step by step": self.model,
            "model, float32": self.float32,
            "model, int8, ages of values shuffled": self.shuffled,
            **self.others,
            "boosting on all features of the net": self.boosted_all,
            "boosting on current vitals, age, sex (baseline)": self.boosted,
            "logistic regression on current vitals, age, sex": self.logistic,
            **self.rules,
        }


def evaluate(
    data: Path,
    work: Path,
    out: Path,
    *,
    seed: int,
    keys: tuple[str, ...],
    show_status: ShowStatus,
    against: tuple[Path, ...] = (),
) -> EvaluationReport:
    """Evaluate the run of `vitalloom train sepsis` in `work`; plots go to `out`.

    Args:
        against: working folders of other runs to compare with, usually ablations.

    Raises:
        BadRecordings, BadRun, ModelUnavailable.
    """
    hours = read_hours(data)
    if hours.labels is None or not (work / "features.npy").is_file():
        raise BadRun(work, "nothing to evaluate; run `vitalloom train sepsis` on this data file first")
    rows: Rows = np.load(work / "features.npy", mmap_mode="r")
    folds = folds_of(np.maximum.reduceat(hours.labels, hours.starts), seed=seed)
    patients = np.repeat(np.arange(len(hours.starts)), hours.ends - hours.starts)
    cohort = EvaluatedRows(hours, hours.labels, patients, folds[patients])
    scores = _scores(work, rows, cohort, folds, seed=seed, keys=keys, show_status=show_status, against=against)
    show_status("computing confidence intervals")
    budgets = sepsis_tables.at_budgets(cohort, scores.model, BUDGETS)
    released = budgets[BUDGETS.index(RELEASED_BUDGET)]
    discrimination = sepsis_tables.discrimination(cohort, scores.by_title())
    _draw(out, cohort, scores, budgets, released.released.threshold)
    int8_difference = auroc(cohort.labels, scores.model) - auroc(cohort.labels, scores.float32)
    return EvaluationReport(
        model="sepsis",
        command=f"vitalloom evaluate sepsis --seed {seed}{' --against OTHER' * len(against)}",
        headline=_headline(cohort, scores, discrimination, released),
        tables=[discrimination, *_tables(cohort, scores, budgets, released.released.threshold)],
        plots=["curves.svg", "budget.svg", "lead.svg"],
        notes=[
            f"int8 compared with float32: AUROC {int8_difference:+.5f}.",
            "The hour of stay is not an input: shifting all hours of a stay changes no bit of a score.",
        ],
        threshold=released.released.threshold,
        budgets={f"{one.wanted:g}": one.released.threshold for one in budgets},
        parity={
            "AUROC int8 - float32": int8_difference,
            "largest difference of a score": float(np.abs(scores.model - scores.float32).max()),
        },
    )


def _scores(
    work: Path,
    rows: Rows,
    cohort: EvaluatedRows,
    folds: Ints,
    *,
    seed: int,
    keys: tuple[str, ...],
    show_status: ShowStatus,
    against: tuple[Path, ...],
) -> Scores:
    hours, labels = cohort.hours, cohort.labels
    artifacts = [load(work / f"fold-{fold}" / "sepsis", trusted=keys) for fold in range(FOLDS)]
    width = len(artifacts[0].passport.golden.inputs["h"][0])
    show_status("scoring step by step (int8)")
    model = _step_by_step(artifacts, hours, folds)
    show_status("scoring whole stays (float32, and int8 with shuffled ages)")
    float32 = _at_once(_float32_graphs(work), rows, hours, folds, width)
    shuffled = _at_once([one.files[GRAPH] for one in artifacts], ages_shuffled(rows, seed), hours, folds, width)
    others = {}
    for other in (_other(one) for one in against):
        show_status(f"scoring the run {other.title}")
        shown = without_ages(rows) if other.without_ages else rows
        others[f"{other.title}, float32"] = _at_once(_float32_graphs(other.work), shown, hours, folds, width)
    show_status("fitting baselines on current vitals")
    now = np.asarray(rows[:, CURRENT])
    by_regression = cross_validated(now, labels, cohort.folds, logistic)
    boosted = cross_validated(now, labels, cohort.folds, boosting)
    show_status("fitting boosting on all features")
    boosted_all = cross_validated(np.asarray(rows), labels, cohort.folds, boosting)
    rules = ward_scores(rows, hours)
    return Scores(model, float32, shuffled, others, boosted_all, boosted, by_regression, rules)


def _headline(
    cohort: EvaluatedRows, scores: Scores, discrimination: Table, released: BudgetFigures
) -> dict[str, Interval]:
    _, rank, same_hour, precision, _ = discrimination.rows[0]
    judged = released.judged
    return {
        "AUROC": rank,
        "same-hour AUROC": same_hour,
        "AUPRC": precision,
        "utility at the threshold": Interval(utility(cohort.labels, released.multiples >= 1, cohort.patients)),
        "calibration error": Interval(calibration_error(cohort.labels, scores.model)),
        "alarms per patient-day": Interval(judged.alarms_per_patient_day),
        "sensitivity": Interval(judged.sensitivity),
        "PPV": Interval(judged.ppv),
        "lead time, h": Interval(judged.lead_h),
    }


def _tables(cohort: EvaluatedRows, scores: Scores, budgets: list[BudgetFigures], threshold: float) -> list[Table]:
    news2_points = scores.rules[NEWS2_VITALS]
    compared: Mapping[str, Floats] = {
        "model": scores.model,
        "boosting on all features": scores.boosted_all,
        "boosting (baseline)": scores.boosted,
        "logistic regression": scores.logistic,
        NEWS2_VITALS: news2_points,
    }
    return [
        sepsis_tables.budget_table(cohort, budgets),
        sepsis_tables.comparison_at_budget(cohort, compared, COMPARED_BUDGET),
        sepsis_tables.fold_table(cohort, scores.model),
        sepsis_tables.subgroup_table(cohort, scores.model, threshold),
        sepsis_tables.stay_table(cohort, scores.model, scores.boosted),
        sepsis_tables.detected_table(cohort, scores.model, news2_points, threshold),
    ]


def _draw(out: Path, cohort: EvaluatedRows, scores: Scores, budgets: list[BudgetFigures], threshold: float) -> None:
    compared = {"model, int8": scores.model, "boosting": scores.boosted, NEWS2_VITALS: scores.rules[NEWS2_VITALS]}
    plots.curves(out / "curves.svg", cohort.labels, compared)
    plots.budget(
        out / "budget.svg",
        [one.judged.alarms_per_patient_day for one in budgets],
        [one.judged.sensitivity for one in budgets],
        [one.judged.ppv for one in budgets],
    )
    plots.leads(out / "lead.svg", sepsis_tables.lead_times_h(cohort, scores.model, threshold))


def _step_by_step(artifacts: list[Artifact], hours: Hours, folds: Ints) -> Floats:
    models = [SepsisModel(artifact) for artifact in artifacts]
    scores = np.empty(len(hours.hours))
    for at, fold in enumerate(folds):
        scores[hours.starts[at] : hours.ends[at]] = [one.score for one in stay(models[fold], hours, at)]
    return scores


def _at_once(graphs: list[bytes], rows: Rows, hours: Hours, folds: Ints, width: int) -> Floats:
    """Scores of whole stays, one call for each stay."""
    engines = [OnnxEngine(graph) for graph in graphs]
    scores = np.empty(len(hours.hours))
    zero = np.zeros((1, 1, width), np.float32)
    for fold, start, end in zip(folds, hours.starts, hours.ends, strict=True):
        x = np.ascontiguousarray(rows[start:end])[None]
        scores[start:end] = engines[fold]({"x": x, "h": zero, "c": zero})[0][0]
    return scores


def _float32_graphs(work: Path) -> list[bytes]:
    return [(work / f"fold-{fold}" / "sepsis" / "float32.onnx").read_bytes() for fold in range(FOLDS)]


def _other(work: Path) -> OtherRun:
    """The run in a working folder, or in its subfolder `sepsis`.

    Raises:
        BadRun: the folder holds no sepsis run.
    """
    home = work / "sepsis" if (work / "sepsis").is_dir() else work
    try:
        run = msgspec.json.decode((home / "run.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise BadRun(home, f"not a working folder of `vitalloom train sepsis` ({error})") from error
    ages, second = run.get("without_ages", False), run.get("second", False)
    trained = ["without ages of values"] * ages + ["with a second task" if second else "without a second task"]
    return OtherRun(f"trained {', '.join(trained)}", home, ages)
