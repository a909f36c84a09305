"""The rhythm model on MIT-BIH: hearts, leads and recorders of which its nets know nothing, person by person.

Windows of half a minute. One of which nearly all is atrial fibrillation is to be found; of one that is mixed nobody can
say what is right, so it is left out and counted. Paced hearts are left out, as by the usual protocol (AAMI EC57).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from models.evaluation.report import Cells, Table, bootstrap, weighted_auroc
from models.recordings import RhythmSpan, read_ecg, read_rhythms
from models.rhythm import CLASSES, RhythmModel

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

WINDOW_S: Final = 30
MOSTLY: Final = 0.95
FIBRILLATION: Final = "AFIB"
PACED: Final = ("102", "104", "107", "217")
_A: Final = CLASSES.index("A")


class Window(NamedTuple):
    """One of a recording."""

    subject: str
    is_fibrillation: bool
    score: float
    says: bool  # that it is


def by_subject(folder: Path, model: RhythmModel, tell: Callable[[str], None]) -> list[Table]:
    """Judge every window.

    Args:
        folder: with `ecg_dev.parquet` and `rhythms_dev.parquet`.

    Raises:
        BadRecordings, ModelUnavailable.
    """
    spans = read_rhythms(folder / "rhythms_dev.parquet")
    windows: list[Window] = []
    mixed = 0
    for one in read_ecg(folder / "ecg_dev.parquet"):
        if one.record in PACED:
            continue
        tell(f"MIT-BIH {one.record}")
        size = WINDOW_S * one.sampling_rate_hz
        for first in range(0, len(one.millivolts) - size + 1, size):
            share = _share(spans.get(one.record, ()), first, first + size)
            if 1 - MOSTLY < share < MOSTLY:
                mixed += 1
                continue
            said = model.judge(one.millivolts[first : first + size], one.sampling_rate_hz, explain=False)
            windows.append(Window(one.subject, share >= MOSTLY, said.scores[_A], said.label == "A"))
    return _tables(windows, mixed)


def _share(spans: tuple[RhythmSpan, ...], first: int, end: int) -> float:
    """How much of a window is fibrillation."""
    inside = sum(max(0, min(span.end, end) - max(span.start, first)) for span in spans if span.rhythm == FIBRILLATION)
    return inside / (end - first)


def _tables(windows: list[Window], mixed: int) -> list[Table]:
    subjects = sorted({one.subject for one in windows})
    who = np.array([subjects.index(one.subject) for one in windows])
    labels = np.array([one.is_fibrillation for one in windows], np.int64)
    scores = np.array([one.score for one in windows])
    says = np.array([one.says for one in windows])
    rank = weighted_auroc(labels, scores)

    def share(rows: npt.NDArray[np.bool_]) -> Callable[[Floats], float]:
        def figure(drawn: Floats) -> float:
            weights = drawn[who] * rows
            return float((weights * says).sum() / weights.sum()) if weights.sum() else float("nan")

        return figure

    whole: Cells = [
        "everybody",
        str(len(windows)),
        str(int(labels.sum())),
        bootstrap(share(labels == 1), len(subjects)),
        bootstrap(share(labels == 0), len(subjects)),
        bootstrap(lambda drawn: rank(drawn[who]), len(subjects)),
    ]
    columns = ("subject", "windows", "of them AF", "AF that is called AF", "others that are called AF", "AUROC")
    return [
        Table(
            "MIT-BIH, by subject",
            columns,
            [
                whole,
                *(
                    _row(name, labels[who == at], scores[who == at], says[who == at])
                    for at, name in enumerate(subjects)
                ),
            ],
            f"{len(subjects)} people of whom the nets know nothing, the final model, windows of {WINDOW_S} s; "
            f"{mixed} mixed windows and the paced records {', '.join(PACED)} are left out. "
            "Intervals: people drawn again.",
        )
    ]


def _row(name: str, labels: Ints, scores: Floats, says: npt.NDArray[np.bool_]) -> Cells:
    there, others = labels == 1, labels == 0
    both = there.any() and others.any()
    return [
        name,
        str(len(labels)),
        str(int(there.sum())),
        float(says[there].mean()) if there.any() else None,
        float(says[others].mean()) if others.any() else None,
        weighted_auroc(labels, scores)(np.ones(len(labels))) if both else None,
    ]
