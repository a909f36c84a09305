"""Plots of an evaluation, as SVG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("svg")
from matplotlib import pyplot as plt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_COLOUR: Final = "#1f5fa8"
_DISCLAIMER: Final = "research result; not a certified medical device"


def curves(path: Path, labels: Ints, scores: dict[str, Floats], *, bins: int = 10) -> None:
    """ROC, precision-recall and reliability curves side by side; reliability of the first score only."""
    figure, (roc, pr, reliable) = plt.subplots(1, 3, figsize=(13, 4))
    for name, one in scores.items():
        order = np.argsort(-one, kind="stable")
        hits, misses = np.cumsum(labels[order] > 0), np.cumsum(labels[order] == 0)
        shown = np.unique(np.linspace(0, len(order) - 1, 500).astype(int))
        roc.plot(misses[shown] / misses[-1], hits[shown] / hits[-1], label=name)
        pr.plot(hits[shown] / hits[-1], hits[shown] / (shown + 1), label=name)
    roc.plot([0, 1], [0, 1], ":", color="grey")
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    pr.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, None))
    roc.legend(fontsize=7)
    first = next(iter(scores.values()))
    parts = np.array_split(np.argsort(first, kind="stable"), bins)
    predicted, observed = [first[part].mean() for part in parts], [labels[part].mean() for part in parts]
    reliable.plot(predicted, observed, "o-", color=_COLOUR)
    top = max(*predicted, *observed)
    reliable.plot([0, top], [0, top], ":", color="grey")
    reliable.set(xlabel="predicted probability", ylabel="observed share", title="reliability")
    _save(figure, path)


def budget(path: Path, rates: Sequence[float], sensitivity: Sequence[float], ppv: Sequence[float]) -> None:
    """Sensitivity and PPV by alarm rate."""
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(rates, sensitivity, "o-", color=_COLOUR, label="septic patients found before or at onset")
    axes.plot(rates, ppv, "s-", color="#b0572a", label="alarms of septic patients")
    axes.set(xlabel="alarms per patient-day", ylabel="share", ylim=(0, 1), title="alarm budget")
    axes.legend(fontsize=8)
    _save(figure, path)


def leads(path: Path, hours: Sequence[float]) -> None:
    """Histogram of the hours from the first alarm to the onset."""
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.hist(hours, bins=range(0, 61, 3), color=_COLOUR)
    axes.set(xlabel="hours from the first alarm to the onset", ylabel="patients", title="lead time")
    _save(figure, path)


def confusion(path: Path, counts: Ints, names: Sequence[str]) -> None:
    """Confusion matrix: labels in rows, predictions in columns."""
    figure, axes = plt.subplots(figsize=(4.5, 4))
    axes.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        axes.text(column, row, str(counts[row, column]), ha="center", va="center")
    axes.set(xlabel="predicted", ylabel="label", title="confusion matrix")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.text(0.995, 0.005, _DISCLAIMER, ha="right", fontsize=6, color="grey")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "vitalloom"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
