"""Evaluation of the rhythm model on MIT-BIH, by person: people, leads and recorders outside its training data.

Windows of 30 s. A window that is at least 95 % atrial fibrillation should be detected; mixed windows have no single
correct label, so they are excluded and counted. Paced records are excluded as in AAMI EC57.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from models.evaluation.report import Cells, Table, bootstrap, weighted_auroc
from models.patient_files.ecg import read_ecg
from models.recordings import RhythmSpan, read_rhythms
from models.rhythm import CLASSES, RhythmModel

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

WINDOW_S: Final = 30
MIN_AF_SHARE: Final = 0.95
FIBRILLATION: Final = "AFIB"
PACED: Final = ("102", "104", "107", "217")
_A: Final = CLASSES.index("A")


class Window(NamedTuple):
    """One evaluated window of a recording."""

    subject: str
    is_fibrillation: bool
    score: float  # probability of atrial fibrillation
    is_predicted: bool  # atrial fibrillation is the predicted class


def by_subject(folder: Path, model: RhythmModel, show_status: Callable[[str], None]) -> list[Table]:
    """Evaluate every window and return the table by person.

    Args:
        folder: holds `ecg_dev.parquet` and `rhythms_dev.parquet`.

    Raises:
        BadRecordings: the data cannot be read.
        ModelUnavailable: an output of the network is not a probability.
    """
    spans = read_rhythms(folder / "rhythms_dev.parquet")
    windows: list[Window] = []
    mixed = 0
    for one in read_ecg(folder / "ecg_dev.parquet"):
        if one.record in PACED:
            continue
        show_status(f"scoring MIT-BIH record {one.record}")
        size = WINDOW_S * one.sampling_rate_hz
        for first in range(0, len(one.millivolts) - size + 1, size):
            share = _share(spans.get(one.record, ()), first, first + size)
            if 1 - MIN_AF_SHARE < share < MIN_AF_SHARE:
                mixed += 1
                continue
            found = model.judge(one.millivolts[first : first + size], one.sampling_rate_hz, explain=False)
            score = found.scores[_A] if found.label else 0.0
            windows.append(Window(one.subject, share >= MIN_AF_SHARE, score, found.label == "A"))
    return _tables(windows, mixed)


def _share(spans: tuple[RhythmSpan, ...], first: int, end: int) -> float:
    """Share of a window that is annotated as atrial fibrillation."""
    inside = sum(max(0, min(span.end, end) - max(span.start, first)) for span in spans if span.rhythm == FIBRILLATION)
    return inside / (end - first)


def _tables(windows: list[Window], mixed: int) -> list[Table]:
    subjects = sorted({one.subject for one in windows})
    person = np.array([subjects.index(one.subject) for one in windows])
    labels = np.array([one.is_fibrillation for one in windows], np.int64)
    scores = np.array([one.score for one in windows])
    predicted = np.array([one.is_predicted for one in windows])
    rank = weighted_auroc(labels, scores)

    def share(rows: npt.NDArray[np.bool_]) -> Callable[[Floats], float]:
        def figure(drawn: Floats) -> float:
            weights = drawn[person] * rows
            return float((weights * predicted).sum() / weights.sum()) if weights.sum() else float("nan")

        return figure

    whole: Cells = [
        "all people",
        str(len(windows)),
        str(int(labels.sum())),
        bootstrap(share(labels == 1), len(subjects)),
        bootstrap(share(labels == 0), len(subjects)),
        bootstrap(lambda drawn: rank(drawn[person]), len(subjects)),
    ]
    columns = ("person", "windows", "windows with AF", "sensitivity for AF", "false positive rate", "AUROC")
    return [
        Table(
            "MIT-BIH, by person",
            columns,
            [
                whole,
                *(
                    _row(name, labels[person == at], scores[person == at], predicted[person == at])
                    for at, name in enumerate(subjects)
                ),
            ],
            f"The final model on {len(subjects)} people outside its training data, windows of {WINDOW_S} s; "
            f"{mixed} mixed windows and the paced records {', '.join(PACED)} are excluded. "
            "Intervals: bootstrap over people.",
        )
    ]


def _row(name: str, labels: Ints, scores: Floats, predicted: npt.NDArray[np.bool_]) -> Cells:
    there, others = labels == 1, labels == 0
    both = there.any() and others.any()
    return [
        name,
        str(len(labels)),
        str(int(there.sum())),
        float(predicted[there].mean()) if there.any() else None,
        float(predicted[others].mean()) if others.any() else None,
        weighted_auroc(labels, scores)(np.ones(len(labels))) if both else None,
    ]
