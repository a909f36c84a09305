"""The account of a comparison as a picture: alarms per patient-day by rule, and when deteriorations were called."""

from pathlib import Path
from typing import Any

from runtime.errors import MissingExtra
from stream.what_if.account import NOT_A_DEVICE, Account

_THEN, _NEW = "#8a8f98", "#1f5fa8"
_HOUR_MS = 3_600_000


def draw(account: Account, into: Path) -> None:
    """Write a PNG file.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ModuleNotFoundError as error:
        raise MissingExtra(extra="plots", module=error.name or "matplotlib") from error
    figure, (bars, hours) = plt.subplots(1, 2, figsize=(11, max(3.0, 0.4 * len(account.classes) + 1.6)))
    _draw_classes(bars, account)
    _draw_deteriorations(hours, account)
    figure.text(0.01, 0.01, f"{account.source}, {account.patient_days:.0f} patient-days. {NOT_A_DEVICE}", fontsize=7)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(into, dpi=100)
    plt.close(figure)


def _draw_classes(axes: Any, account: Account) -> None:
    rows = list(reversed(account.classes))
    places = range(len(rows))
    axes.barh([at + 0.2 for at in places], [row.then_per_day or 0 for row in rows], 0.38, color=_THEN, label="then")
    axes.barh([at - 0.2 for at in places], [row.new_per_day or 0 for row in rows], 0.38, color=_NEW, label="new orders")
    axes.set_yticks(list(places), [f"{row.rule_id} {row.priority}" for row in rows], fontsize=8)
    total = f"{account.then_per_day or 0:.2f} then, {account.new_per_day or 0:.2f} new"
    axes.set(xlabel="alarms that call, per patient-day", title=f"all: {total}")
    axes.legend(fontsize=8)


def _draw_deteriorations(axes: Any, account: Account) -> None:
    """Share of deteriorations that were called at least so many hours before."""
    labels = [one.deterioration for one in account.deteriorations]
    for name, colour, of in (("then", _THEN, "then_ms"), ("new orders", _NEW, "new_ms")):
        hours = sorted((one.at_ms - at) / _HOUR_MS for one in labels if (at := getattr(one, of)) is not None)
        found = [sum(hour >= before for hour in hours) / max(1, len(labels)) for before in range(25)]
        axes.step(range(25), found, where="post", color=colour, label=name)
    axes.set(
        xlim=(24, 0),
        ylim=(0, 1),
        xlabel="hours before the deterioration",
        ylabel="share called by then",
        title=f"{len(labels)} labelled deteriorations",
    )
    axes.legend(fontsize=8)
