"""What an evaluation found: tables for people, JSON for machines, figures for the passport."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.passport import Interval

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

REPETITIONS: Final = 200
Cells: TypeAlias = list[str | float | Interval | None]
"""A row of a table. None: cannot be said."""


class Table(msgspec.Struct):
    """One table.

    Args:
        columns: of the rows; the first names them.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[list[Any]]  # `Cells`; nobody can decode a union of numbers and structs
    note: str = ""


class EvaluationReport(msgspec.Struct):
    """Everything about one model."""

    model: str
    command: str
    headline: dict[str, Interval]
    tables: list[Table]
    plots: list[str] = []
    notes: list[str] = []
    threshold: float = 0.5
    budgets: dict[str, float] = {}
    parity: dict[str, float] = {}


def bootstrap(figure: Callable[[Floats], float], groups: int, *, seed: int = 0, times: int = REPETITIONS) -> Interval:
    """A figure and its 95 % interval: patients are drawn again, with all their rows.

    Args:
        figure: of how often each patient was drawn, [P]; ones are the figure itself.
        groups: how many patients.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        figure(np.bincount(rng.integers(0, groups, groups), minlength=groups).astype(np.float64)) for _ in range(times)
    ]
    known = [one for one in drawn if np.isfinite(one)]
    low, high = np.percentile(known, [2.5, 97.5]) if known else (None, None)
    return Interval(figure(np.ones(groups)), low if low is None else float(low), high if high is None else float(high))


def weighted_auroc(labels: Ints, scores: Floats) -> Callable[[Floats], float]:
    """AUROC as a function of the weight of each row, [N]; ties count half. Rows are sorted once."""
    order = np.argsort(scores, kind="stable")
    ones = labels[order] > 0
    _, first = np.unique(scores[order], return_index=True)

    def figure(weights: Floats) -> float:
        sorted_ = weights[order]
        positive, negative = (np.add.reduceat(np.where(kind, sorted_, 0.0), first) for kind in (ones, ~ones))
        below = np.cumsum(negative) - negative / 2
        total = positive.sum() * negative.sum()
        return float((positive * below).sum() / total) if total else float("nan")

    return figure


def weighted_auprc(labels: Ints, scores: Floats) -> Callable[[Floats], float]:
    """Average precision as a function of the weight of each row, [N]."""
    order = np.argsort(-scores, kind="stable")
    ones = labels[order] > 0

    def figure(weights: Floats) -> float:
        sorted_ = weights[order]
        found = np.cumsum(np.where(ones, sorted_, 0.0))
        precision = found / np.maximum(np.cumsum(sorted_), 1e-12)
        return float((precision * np.where(ones, sorted_, 0.0)).sum() / found[-1]) if found[-1] else float("nan")

    return figure


def calibration_error(labels: Ints, scores: Floats, *, bins: int = 10) -> float:
    """Expected calibration error over bins that hold equally many rows."""
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    return float(sum(abs(scores[part].mean() - labels[part].mean()) * len(part) for part in parts) / len(scores))


def markdown(report: EvaluationReport) -> str:
    """The report as a page."""
    lines = [f"# {report.model}: evaluation", "", f"Made by `{report.command}`.", ""]
    for table in report.tables:
        lines += [f"## {table.title}", "", f"| {' | '.join(table.columns)} |", f"|{' --- |' * len(table.columns)}"]
        lines += [f"| {' | '.join(_text(cell) for cell in row)} |" for row in table.rows]
        lines += ["", *([table.note, ""] if table.note else [])]
    lines += [line for plot in report.plots for line in (f"![{plot}]({plot})", "")]
    return "\n".join([*lines, *(line for note in report.notes for line in (note, ""))]).rstrip() + "\n"


def write(report: EvaluationReport, folder: Path) -> None:
    """`report.md` and `report.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(report, enc_hook=float), indent=1) + b"\n"
    )


def _text(cell: Any) -> str:
    if isinstance(cell, list):  # an interval, as JSON has it
        cell = msgspec.convert(cell, Interval)
    if isinstance(cell, Interval):
        if cell.value != cell.value:
            return "–"
        return f"{cell.value:.3f}" if cell.low is None else f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]"
    if cell is None or cell != cell:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
