"""The rhythm model on recordings that its nets have never seen, and on other people's hearts."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models.artifacts import load
from models.evaluation import plots
from models.evaluation.mitbih import by_subject
from models.evaluation.report import EvaluationReport, Table, bootstrap, weighted_auroc
from models.passport import Interval
from models.recordings import FOLDS, folds_of, read_ecg
from models.rhythm import CLASSES, RhythmModel
from models.rhythm_signal import prepare
from models.runtime import OnnxEngine

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


def evaluate(
    data: Path,
    work: Path,
    out: Path,
    *,
    seed: int,
    keys: tuple[str, ...],
    tell: Callable[[str], None],
    mitbih: Path | None = None,
) -> EvaluationReport:
    """Judge what `vitalloom train rhythm` has left in `work`.

    Args:
        mitbih: the folder of other people's hearts, for the final model.

    Raises:
        BadRecordings, ModelUnavailable.
    """
    tell("recordings")
    records = [(one, prepare(one.millivolts, one.sampling_rate_hz)) for one in read_ecg(data)]
    labels = np.array([CLASSES.index(one.label or "~") for one, _ in records])
    lengths_s = np.array([len(one.millivolts) / one.sampling_rate_hz for one, _ in records])
    folds = folds_of(labels, seed=seed)
    scores, float32 = np.empty((len(labels), 4)), np.empty((len(labels), 4))
    for fold in range(FOLDS):
        tell(f"fold {fold + 1}")
        home = work / f"fold-{fold}" / "rhythm"
        model, whole = RhythmModel(load(home, trusted=keys)), OnnxEngine((home / "float32.onnx").read_bytes())
        for at in np.flatnonzero(folds == fold):
            ecg = records[at][1]
            scores[at] = model.scores(ecg)
            inputs = {"wave": ecg.wave.astype(np.float32)[None, None], "beats": ecg.beats.astype(np.float32)[None]}
            float32[at] = whole(inputs)[0][0]
    said, said32 = scores.argmax(1), float32.argmax(1)
    once = np.ones(len(labels))
    counts = np.zeros((4, 4), np.int64)
    np.add.at(counts, (labels, said), 1)
    plots.confusion(out / "confusion.svg", counts, CLASSES)
    plots.curves(out / "curves.svg", (labels == 1).astype(np.int64), {"atrial fibrillation, int8": scores[:, 1]})
    af = weighted_auroc((labels == 1).astype(np.int64), scores[:, 1])
    mean = bootstrap(lambda drawn: _mean_f1(labels, said, drawn), len(labels))
    return EvaluationReport(
        model="rhythm",
        command=f"vitalloom evaluate rhythm --seed {seed}",
        headline={"mean F1 of N, A, O": mean, "AF against rest, AUROC": bootstrap(af, len(labels))},
        tables=[
            Table(
                "On recordings that the nets have not seen",
                ("what", "int8", "float32"),
                _by_class(labels, said, said32),
                f"Five folds by recording, pooled: {len(labels):,} recordings. "
                "The origin names no people; one may have given several.",
            ),
            Table(
                "Folds",
                ("fold", "mean F1", "AF AUROC"),
                [
                    [
                        str(fold + 1),
                        _mean_f1(labels[mine], said[mine], np.ones(int(mine.sum()))),
                        weighted_auroc((labels[mine] == 1).astype(np.int64), scores[mine, 1])(np.ones(int(mine.sum()))),
                    ]
                    for fold in range(FOLDS)
                    for mine in (folds == fold,)
                ],
            ),
            Table(
                "Confusion",
                ("was", *(f"said {name}" for name in CLASSES)),
                [[name, *(str(one) for one in row)] for name, row in zip(CLASSES, counts.tolist(), strict=True)],
            ),
            Table(
                "By length",
                ("length", "recordings", "mean F1"),
                [
                    [title, str(int(mine.sum())), _mean_f1(labels[mine], said[mine], np.ones(int(mine.sum())))]
                    for title, mine in (
                        ("below 20 s", lengths_s < 20),
                        ("20 to 30 s", (lengths_s >= 20) & (lengths_s <= 30.5)),
                        ("above 30 s", lengths_s > 30.5),
                    )
                ],
            ),
            *(
                []
                if mitbih is None
                else by_subject(mitbih, RhythmModel(load(work / "all" / "rhythm", trusted=keys)), tell)
            ),
        ],
        plots=["confusion.svg", "curves.svg"],
        notes=["Length is no input; it is cut at random while learning."],
        parity={
            "mean F1 int8 - float32": _mean_f1(labels, said, once) - _mean_f1(labels, said32, once),
            "largest difference of a score": float(np.abs(scores - float32).max()),
        },
    )


def _by_class(labels: Ints, said: Ints, said32: Ints) -> list[list[str | float | Interval]]:
    rows: list[list[str | float | Interval]] = [
        [
            "mean F1 of N, A, O",
            bootstrap(lambda drawn: _mean_f1(labels, said, drawn), len(labels)),
            bootstrap(lambda drawn: _mean_f1(labels, said32, drawn), len(labels)),
        ]
    ]
    for at, name in enumerate(CLASSES):
        rows.append([f"F1 of {name}", _f1(labels, said, at), _f1(labels, said32, at)])
    return rows


def _f1(labels: Ints, said: Ints, at: int, weights: Floats | None = None) -> float:
    drawn = np.ones(len(labels)) if weights is None else weights
    right = drawn[(labels == at) & (said == at)].sum()
    total = drawn[labels == at].sum() + drawn[said == at].sum()
    return float(2 * right / total) if total else float("nan")


def _mean_f1(labels: Ints, said: Ints, weights: Floats) -> float:
    return float(np.mean([_f1(labels, said, at, weights) for at in range(3)]))
