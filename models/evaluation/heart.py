"""The heart models on patients, and on hospitals, that their nets have never seen."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from models.artifacts import load
from models.errors import BadRun
from models.evaluation import plots
from models.evaluation.report import EvaluationReport, Table, bootstrap, calibration_error, weighted_auroc
from models.evaluation.sepsis_metrics import auroc
from models.heart import NAMES, HeartModel
from models.heart_features import Form, features
from models.passport import Interval
from models.recordings import FOLDS, folds_of, read_heart
from models.runtime import OnnxEngine

if TYPE_CHECKING:
    from models.training.heart import HeartRecipe  # brings torch, which is not of every place

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Judge: TypeAlias = Callable[[Floats, Ints, Floats, int], Floats]
"""Learn from rows and labels, score other rows."""

SPECIFICITY: Final = 0.9
"""The threshold is where so many of those without disease are left alone."""


def evaluate(
    form: Form, data: Path, work: Path, out: Path, *, seed: int, keys: tuple[str, ...], tell: Callable[[str], None]
) -> EvaluationReport:
    """Judge what `vitalloom train heart` has left in `work`, and learn anew without each hospital.

    Raises:
        BadRecordings, BadRun, ModelUnavailable.
    """
    from models.training.heart import HeartRecipe

    patients = read_heart(data)
    if patients.labels is None:
        raise BadRun(data, "has no column target to judge by")
    labels, name = patients.labels, NAMES[form]
    rows = np.array([features(form, patient) for patient in patients.patients])
    folds = folds_of(labels, seed=seed)
    scores, float32 = np.empty(len(labels)), np.empty(len(labels))
    for fold in range(FOLDS):
        home = work / f"fold-{fold}" / name
        mine = np.flatnonzero(folds == fold)
        scores[mine] = HeartModel(load(home, trusted=keys)).scores([patients.patients[at] for at in mine])
        whole = OnnxEngine((home / "float32.onnx").read_bytes())
        float32[mine] = whole({"x": rows[mine].astype(np.float32)})[0]
    recipe = HeartRecipe()
    ways: dict[str, Judge] = {
        "DLMNN (cuttlefish, then Adam)": _dlmnn(form, recipe),
        "Adam from random weights": _dlmnn(form, recipe._replace(generations=0)),
        "cuttlefish alone": _dlmnn(form, recipe._replace(generations=300, steps=0)),
        "logistic regression": _logistic,
    }
    sites = sorted(set(patients.sites) - {""})
    table: list[list[str | float | Interval]] = []
    for title, judge in ways.items():
        tell(title)
        per_fold = [
            auroc(labels[folds == fold], judge(rows[folds != fold], labels[folds != fold], rows[folds == fold], fold))
            for fold in range(FOLDS)
        ]
        without = []
        for site in sites:
            there = np.array([one == site for one in patients.sites])
            without.append(auroc(labels[there], judge(rows[~there], labels[~there], rows[there], 0)))
        table.append(
            [
                title,
                float(np.mean(per_fold)),
                float(np.std(per_fold)),
                *without,
                float(np.mean(without)) if sites else float("nan"),
            ]
        )
    rank = weighted_auroc(labels, scores)
    threshold = float(np.quantile(scores[labels == 0], SPECIFICITY))
    plots.curves(out / "curves.svg", labels, {"model, int8": scores})
    said = scores >= threshold
    return EvaluationReport(
        model=name,
        command=f"vitalloom evaluate {name} --seed {seed}",
        headline={
            "AUROC, pooled folds": bootstrap(rank, len(labels)),
            "AUROC, mean of folds": Interval(float(table[0][1])),  # type: ignore[arg-type]
            "AUROC, mean of hospitals left out": Interval(float(table[0][-1])),  # type: ignore[arg-type]
            "calibration error": Interval(calibration_error(labels, scores)),
            "sensitivity": Interval(float(said[labels == 1].mean())),
            "PPV": Interval(float(labels[said].mean())),
        },
        tables=[
            Table(
                "Ways to learn, on the same folds",
                ("way", "AUROC", "sd of folds", *(f"without {site}" for site in sites), "mean without a hospital"),
                table,
                "Differences smaller than the deviation of folds say nothing.",
            ),
            Table(
                "Subgroups",
                ("who", "patients", "AUROC", "calibration error"),
                [
                    _subgroup(who, labels[there], scores[there])
                    for who, there in _subgroups(patients.patients, patients.sites)
                    if len(np.unique(labels[there])) == 2
                ],
            ),
        ],
        plots=["curves.svg"],
        notes=[f"int8 against float32: AUROC {auroc(labels, scores) - auroc(labels, float32):+.5f}."],
        threshold=threshold,
        parity={
            "AUROC int8 - float32": auroc(labels, scores) - auroc(labels, float32),
            "largest difference of a score": float(np.abs(scores - float32).max()),
        },
    )


def _dlmnn(form: Form, recipe: "HeartRecipe") -> Judge:
    import torch

    from models.training.heart import fit_heart

    def judge(rows: Floats, labels: Ints, others: Floats, seed: int) -> Floats:
        net = fit_heart(form, rows, labels, recipe, seed=seed, device="cpu", tell=lambda _: None)
        with torch.no_grad():
            return net(torch.tensor(others, dtype=torch.float32)).numpy().astype(np.float64)  # type: ignore[no-any-return]

    return judge


def _logistic(rows: Floats, labels: Ints, others: Floats, _seed: int) -> Floats:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learner = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5_000)).fit(rows, labels)
    return np.asarray(learner.decision_function(others))


def _subgroup(name: str, labels: Ints, scores: Floats) -> list[str | float | Interval]:
    found = bootstrap(weighted_auroc(labels, scores), len(labels))
    return [name, str(len(labels)), found, calibration_error(labels, scores)]


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
