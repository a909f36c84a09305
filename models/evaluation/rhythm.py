"""Evaluation of the rhythm model on recordings outside its training folds, and on MIT-BIH."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models.artifacts import load
from models.evaluation import plots
from models.evaluation.mitbih import by_subject
from models.evaluation.report import Cells, EvaluationReport, Table, bootstrap, weighted_auroc
from models.passport import Interval
from models.patient_files.ecg import read_ecg
from models.recordings import FOLDS, folds_of
from models.rhythm import CLASSES, RhythmModel
from models.rhythm_signal import Ecg, prepare
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
    show_status: Callable[[str], None],
    mitbih: Path | None = None,
) -> EvaluationReport:
    """Evaluate the run of `vitalloom train rhythm` in `work`; plots go to `out`.

    Args:
        mitbih: folder of the MIT-BIH recordings, on which the final model is evaluated as well.

    Raises:
        BadRecordings, ModelUnavailable.
    """
    show_status("reading recordings")
    records = [(one, prepare(one.millivolts, one.sampling_rate_hz)) for one in read_ecg(data)]
    labels = np.array([CLASSES.index(one.label or "~") for one, _ in records])
    lengths_s = np.array([len(one.millivolts) / one.sampling_rate_hz for one, _ in records])
    folds = folds_of(labels, seed=seed)
    scores, float32 = _scores([ecg for _, ecg in records], work, folds, keys, show_status)
    found, found32 = scores.argmax(1), float32.argmax(1)
    counts = np.zeros((4, 4), np.int64)
    np.add.at(counts, (labels, found), 1)
    is_af = (labels == 1).astype(np.int64)
    plots.confusion(out / "confusion.svg", counts, CLASSES)
    plots.curves(out / "curves.svg", is_af, {"atrial fibrillation, int8": scores[:, 1]})
    mean = bootstrap(lambda drawn: _mean_f1(labels, found, drawn), len(labels))
    af = bootstrap(weighted_auroc(is_af, scores[:, 1]), len(labels))
    tables = [
        Table(
            "Recordings that the nets were not trained on",
            ("figure", "int8", "float32"),
            _by_class(labels, found, found32),
            f"Five folds by recording, pooled: {len(labels):,} recordings. "
            "The data set does not identify people; a person may have several recordings.",
        ),
        _fold_table(labels, found, scores, folds),
        Table(
            "Confusion matrix",
            ("label", *(f"predicted {name}" for name in CLASSES)),
            [[name, *(str(one) for one in row)] for name, row in zip(CLASSES, counts.tolist(), strict=True)],
        ),
        _length_table(labels, found, lengths_s),
    ]
    if mitbih is not None:
        tables += by_subject(mitbih, RhythmModel(load(work / "all" / "rhythm", trusted=keys)), show_status)
    once = np.ones(len(labels))
    return EvaluationReport(
        model="rhythm",
        command=f"vitalloom evaluate rhythm --seed {seed}",
        headline={"mean F1 of N, A, O": mean, "AUROC of atrial fibrillation": af},
        tables=tables,
        plots=["confusion.svg", "curves.svg"],
        notes=["The length of a recording is not an input; in training, recordings are cropped at random."],
        parity={
            "mean F1 int8 - float32": _mean_f1(labels, found, once) - _mean_f1(labels, found32, once),
            "largest difference of a score": float(np.abs(scores - float32).max()),
        },
    )


def _scores(
    ecgs: list[Ecg], work: Path, folds: Ints, keys: tuple[str, ...], show_status: Callable[[str], None]
) -> tuple[Floats, Floats]:
    """Scores of each recording from the model of its fold, [N, 4], int8 and float32."""
    scores, float32 = np.empty((len(ecgs), 4)), np.empty((len(ecgs), 4))
    for fold in range(FOLDS):
        show_status(f"scoring fold {fold + 1} of {FOLDS}")
        home = work / f"fold-{fold}" / "rhythm"
        model, whole = RhythmModel(load(home, trusted=keys)), OnnxEngine((home / "float32.onnx").read_bytes())
        for at in np.flatnonzero(folds == fold):
            ecg = ecgs[at]
            scores[at] = model.scores(ecg)
            inputs = {"wave": ecg.wave.astype(np.float32)[None, None], "beats": ecg.beats.astype(np.float32)[None]}
            float32[at] = whole(inputs)[0][0]
    return scores, float32


def _fold_table(labels: Ints, found: Ints, scores: Floats, folds: Ints) -> Table:
    rows: list[Cells] = []
    for fold in range(FOLDS):
        mine = folds == fold
        once = np.ones(int(mine.sum()))
        af = weighted_auroc((labels[mine] == 1).astype(np.int64), scores[mine, 1])
        rows.append([str(fold + 1), _mean_f1(labels[mine], found[mine], once), af(once)])
    return Table("Folds", ("fold", "mean F1", "AF AUROC"), rows)


def _length_table(labels: Ints, found: Ints, lengths_s: Floats) -> Table:
    groups = (
        ("below 20 s", lengths_s < 20),
        ("20 to 30 s", (lengths_s >= 20) & (lengths_s <= 30.5)),
        ("above 30 s", lengths_s > 30.5),
    )
    rows: list[Cells] = [
        [title, str(int(mine.sum())), _mean_f1(labels[mine], found[mine], np.ones(int(mine.sum())))]
        for title, mine in groups
    ]
    return Table("By length of recording", ("length", "recordings", "mean F1"), rows)


def _by_class(labels: Ints, found: Ints, found32: Ints) -> list[list[str | float | Interval]]:
    rows: list[list[str | float | Interval]] = [
        [
            "mean F1 of N, A, O",
            bootstrap(lambda drawn: _mean_f1(labels, found, drawn), len(labels)),
            bootstrap(lambda drawn: _mean_f1(labels, found32, drawn), len(labels)),
        ]
    ]
    for at, name in enumerate(CLASSES):
        rows.append([f"F1 of {name}", _f1(labels, found, at), _f1(labels, found32, at)])
    return rows


def _f1(labels: Ints, found: Ints, at: int, weights: Floats | None = None) -> float:
    drawn = np.ones(len(labels)) if weights is None else weights
    right = drawn[(labels == at) & (found == at)].sum()
    total = drawn[labels == at].sum() + drawn[found == at].sum()
    return float(2 * right / total) if total else float("nan")


def _mean_f1(labels: Ints, found: Ints, weights: Floats) -> float:
    return float(np.mean([_f1(labels, found, at, weights) for at in range(3)]))
