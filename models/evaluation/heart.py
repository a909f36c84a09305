"""Evaluation of the heart models on patients and hospitals outside the training data."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from models.artifacts import load
from models.errors import BadRun
from models.evaluation import plots
from models.evaluation.report import Cells, EvaluationReport, Table, bootstrap, calibration_error, weighted_auroc
from models.evaluation.sepsis_metrics import auroc
from models.heart import NAMES, HeartModel
from models.heart_features import Form, features
from models.passport import Interval
from models.recordings import FOLDS, HeartRows, folds_of, read_heart
from models.runtime import OnnxEngine

if TYPE_CHECKING:
    from models.training.heart import HeartRecipe  # imports torch, which is not installed everywhere

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Judge: TypeAlias = Callable[[Floats, Ints, Floats, int], Floats]
"""Fit on rows and labels, then score other rows; the last argument is a seed."""

SPECIFICITY: Final = 0.9
"""The threshold is chosen for this specificity."""


def evaluate(
    form: Form,
    data: Path,
    work: Path,
    out: Path,
    *,
    seed: int,
    keys: tuple[str, ...],
    show_status: Callable[[str], None],
) -> EvaluationReport:
    """Evaluate the run of `vitalloom train heart` in `work`, and train again without each hospital.

    Raises:
        BadRecordings, BadRun, ModelUnavailable.
    """
    patients = read_heart(data)
    if patients.labels is None:
        raise BadRun(data, "missing column: target; it is needed for an evaluation")
    labels, name = patients.labels, NAMES[form]
    rows = np.array([features(form, patient) for patient in patients.patients])
    folds = folds_of(labels, seed=seed)
    scores, float32 = _scores(name, work, patients, rows, folds, keys)
    methods = _methods(form, rows, patients, labels, folds, show_status)
    threshold = float(np.quantile(scores[labels == 0], SPECIFICITY))
    above = scores >= threshold
    plots.curves(out / "curves.svg", labels, {"model, int8": scores})
    int8_difference = auroc(labels, scores) - auroc(labels, float32)
    first = methods.rows[0]
    return EvaluationReport(
        model=name,
        command=f"vitalloom evaluate {name} --seed {seed}",
        headline={
            "AUROC, pooled folds": bootstrap(weighted_auroc(labels, scores), len(labels)),
            "AUROC, mean of folds": Interval(float(first[1])),
            "AUROC, mean of hospitals left out": Interval(float(first[-1])),
            "calibration error": Interval(calibration_error(labels, scores)),
            "sensitivity": Interval(float(above[labels == 1].mean())),
            "PPV": Interval(float(labels[above].mean())),
        },
        tables=[methods, _subgroup_table(patients, labels, scores)],
        plots=["curves.svg"],
        notes=[f"int8 compared with float32: AUROC {int8_difference:+.5f}."],
        threshold=threshold,
        parity={
            "AUROC int8 - float32": int8_difference,
            "largest difference of a score": float(np.abs(scores - float32).max()),
        },
    )


def _scores(
    name: str, work: Path, patients: HeartRows, rows: Floats, folds: Ints, keys: tuple[str, ...]
) -> tuple[Floats, Floats]:
    """Scores of each patient from the model of its fold, int8 and float32."""
    scores, float32 = np.empty(len(rows)), np.empty(len(rows))
    for fold in range(FOLDS):
        home = work / f"fold-{fold}" / name
        mine = np.flatnonzero(folds == fold)
        scores[mine] = HeartModel(load(home, trusted=keys)).scores([patients.patients[at] for at in mine])
        whole = OnnxEngine((home / "float32.onnx").read_bytes())
        float32[mine] = whole({"x": rows[mine].astype(np.float32)})[0]
    return scores, float32


def _methods(
    form: Form, rows: Floats, patients: HeartRows, labels: Ints, folds: Ints, show_status: Callable[[str], None]
) -> Table:
    """Training methods compared on the same folds, and on each hospital after training on the others."""
    from models.training.heart import HeartRecipe

    recipe = HeartRecipe()
    judges: dict[str, Judge] = {
        "DLMNN (cuttlefish, then Adam)": _dlmnn(form, recipe),
        "Adam from random weights": _dlmnn(form, recipe._replace(generations=0)),
        "cuttlefish alone": _dlmnn(form, recipe._replace(generations=300, steps=0)),
        "logistic regression": _logistic,
    }
    sites = sorted(set(patients.sites) - {""})
    table: list[Cells] = []
    for title, judge in judges.items():
        show_status(f"evaluating {title}")
        per_fold = [
            auroc(labels[folds == fold], judge(rows[folds != fold], labels[folds != fold], rows[folds == fold], fold))
            for fold in range(FOLDS)
        ]
        without = []
        for site in sites:
            there = np.array([one == site for one in patients.sites])
            without.append(auroc(labels[there], judge(rows[~there], labels[~there], rows[there], 0)))
        mean = float(np.mean(without)) if sites else float("nan")
        table.append([title, float(np.mean(per_fold)), float(np.std(per_fold)), *without, mean])
    return Table(
        "Training methods, on the same folds",
        ("method", "AUROC", "SD over folds", *(f"without {site}" for site in sites), "mean without a hospital"),
        table,
        "Differences smaller than the standard deviation over folds are not significant.",
    )


def _dlmnn(form: Form, recipe: "HeartRecipe") -> Judge:
    import torch

    from models.training.heart import fit_heart

    def judge(rows: Floats, labels: Ints, others: Floats, seed: int) -> Floats:
        net = fit_heart(form, rows, labels, recipe, seed=seed, device="cpu", on_step=lambda _: None)
        with torch.no_grad():
            return net(torch.tensor(others, dtype=torch.float32)).numpy().astype(np.float64)  # type: ignore[no-any-return]

    return judge


def _logistic(rows: Floats, labels: Ints, others: Floats, _seed: int) -> Floats:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learner = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5_000)).fit(rows, labels)
    return np.asarray(learner.decision_function(others))


def _subgroup_table(patients: HeartRows, labels: Ints, scores: Floats) -> Table:
    rows: list[Cells] = []
    for name, there in _subgroups(patients.patients, patients.sites):
        if len(np.unique(labels[there])) == 2:
            interval = bootstrap(weighted_auroc(labels[there], scores[there]), int(there.sum()))
            rows.append([name, str(int(there.sum())), interval, calibration_error(labels[there], scores[there])])
    return Table("Subgroups", ("group", "patients", "AUROC", "calibration error"), rows)


def _subgroups(
    patients: tuple[dict[str, float | None], ...], sites: tuple[str, ...]
) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    ages = np.array([np.nan if one["age"] is None else one["age"] for one in patients])
    males = np.array([one["sex"] == 1 for one in patients])
    groups = [
        ("below 50 years", ages < 50),
        ("50 to 60 years", (ages >= 50) & (ages < 60)),
        ("60 years and above", ages >= 60),
    ]
    groups += [("women", ~males), ("men", males)]
    return groups + [(site, np.array([one == site for one in sites])) for site in sorted(set(sites) - {""})]
