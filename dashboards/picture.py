"""Pictures of the dashboards for documents: drawn from the JSON and the answers to its queries. No screenshot.

`python -m tests.dashboards` asks a real InfluxDB and draws. Colours, order and names of columns are those of the JSON;
fonts and widths are not Grafana's.
"""

import re
from pathlib import Path
from typing import Any, Final

from dashboards.build import dashboard_json
from dashboards.panels import DIM, NOT_A_DEVICE

_DARK: Final[dict[Any, Any]] = {"figure.facecolor": "#111217", "axes.facecolor": "#181b1f", "text.color": "#d8d9da",
                "axes.edgecolor": "#2c3235", "xtick.color": "#9fa7b3", "ytick.color": "#9fa7b3",
                "font.size": 7}  # fmt: skip
_UNIT_IN: Final = 0.26  # inches of one unit of Grafana's grid, in height
_WIDE_IN: Final = 0.72
_SAID: Final = "Drawn from the dashboard's JSON and the answers to its queries; not a screenshot of Grafana."


def draw(name: str, answers: dict[str, list[list[dict[str, Any]]]], into: Path, *, rows: int = 100) -> None:
    """One dashboard as a PNG.

    Args:
        answers: tables of rows by the number of their panel.
        rows: so many units of the grid, from the top.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    board = dashboard_json(name)
    panels = [one for one in board["panels"] if one["gridPos"]["y"] + one["gridPos"]["h"] <= rows]
    high = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in panels) + 1
    with mpl.rc_context(_DARK):
        figure = plt.figure(figsize=(24 * _WIDE_IN, high * _UNIT_IN))
        for panel in panels:
            at = panel["gridPos"]
            margin = 0.5 if panel["type"] == "timeseries" else 0.15  # for the numbers of the axis
            box = (
                (at["x"] + margin) / 24,
                1 - (at["y"] + at["h"] - 0.4) / high,
                (at["w"] - 0.15 - margin) / 24,
                (at["h"] - (1.7 if panel["type"] != "text" else 0.3)) / high,
            )
            axes = figure.add_axes(box)
            if panel["type"] != "timeseries":
                axes.set_axis_off()
            axes.set_title(panel["title"], loc="left", fontsize=8, fontweight="bold")
            _DRAW[panel["type"]](axes, panel, answers.get(str(panel["id"]), []))
        figure.text(0.006, 0.004, f"{_SAID} {NOT_A_DEVICE}", color=DIM, fontsize=7)
        figure.savefig(into, dpi=110)
        plt.close(figure)


def _words(axes: Any, panel: dict[str, Any], _: Any) -> None:
    axes.text(0, 0.5, panel["options"]["content"].replace("*", "").replace("`", ""), wrap=True, va="center")


def _table(axes: Any, panel: dict[str, Any], tables: list[list[dict[str, Any]]]) -> None:
    rows = tables[0] if tables else []
    rules = panel["fieldConfig"]["overrides"]
    hidden = {one["matcher"]["options"] for one in rules for item in one["properties"] if item["id"] == "custom.hidden"}
    widths = {
        one["matcher"]["options"]: item["value"]
        for one in rules for item in one["properties"] if item["id"] == "custom.width"
    }  # fmt: skip
    names = panel["transformations"][0]["options"]["renameByName"]
    order = panel["transformations"][0]["options"]["indexByName"]
    columns = [one for one in sorted(order, key=order.__getitem__) if one not in hidden]
    titles = [names.get(one, one) for one in columns]
    sizes = [float(widths.get(title, 130)) for title in titles]
    left = [sum(sizes[:n]) / sum(sizes) for n in range(len(sizes))]
    step = 1.0 / max(len(rows) + 1, 2 * panel["gridPos"]["h"] // 3)
    for title, x in zip(titles, left, strict=True):
        axes.text(x, 1 - step / 2, title, color="#6e9fff", va="center")
    for number, row in enumerate(rows):
        y = 1 - (number + 1.5) * step
        if y < 0:
            break
        for column, title, x, size in zip(columns, titles, left, sizes, strict=True):
            value = row[column]
            cell = f"{value:.1f}" if isinstance(value, float) else str(value)
            most = max(3, int(panel["gridPos"]["w"] * size / sum(sizes) * 12.5))
            colour = _colour(rules, title, cell)
            axes.text(
                x, y, cell if len(cell) <= most else cell[: most - 1] + "…", color=colour or "#d8d9da", va="center"
            )


def _colour(rules: list[dict[str, Any]], title: str, cell: str) -> str | None:
    for one in rules:
        if one["matcher"]["options"] != title:
            continue
        for item in one["properties"]:
            if item["id"] != "mappings":
                continue
            for rule in item["value"]:
                if re.search(rule["options"]["pattern"].strip("/"), cell):
                    return str(rule["options"]["result"]["color"])
    return None


def _numbers(axes: Any, panel: dict[str, Any], tables: list[list[dict[str, Any]]]) -> None:
    row = tables[0][0]
    rules = panel["fieldConfig"]["overrides"]
    for number, one in enumerate(rules):
        name = one["matcher"]["options"]
        steps = one["properties"][0]["value"]["steps"]
        colour = [step["color"] for step in steps if step["value"] is None or row[name] >= step["value"]][-1]
        x = number / len(rules)
        axes.add_patch(_rectangle(x, 0, 0.97 / len(rules), 0.95, colour))
        axes.text(x + 0.02, 0.7, name.replace("_", ", "), color="white", va="center")
        axes.text(x + 0.02, 0.3, row[name], color="white", fontsize=14, va="center")


def _rectangle(x: float, y: float, wide: float, high: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), wide, high, color=colour, alpha=0.75)


def _lines(axes: Any, panel: dict[str, Any], tables: list[list[dict[str, Any]]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    fixed = {
        one["matcher"]["options"]: item["value"]["fixedColor"]
        for one in panel["fieldConfig"]["overrides"] for item in one["properties"] if item["id"] == "color"
    }  # fmt: skip
    bars = defaults["custom"]["drawStyle"] == "bars"
    points = defaults["custom"]["drawStyle"] == "points" or defaults["custom"].get("showPoints") == "always"
    bottom: dict[float, float] = {}
    values: list[float] = []
    for table in tables:
        name = table[0].get("_field", "")
        times = [row["_time"] / 60 for row in table]
        seen = [float("nan") if row["_value"] is None else row["_value"] for row in table]
        values += [one for one in seen if one == one]
        colour = fixed.get(name)
        if bars:
            heights = [0.0 if one != one else one for one in seen]
            axes.bar(times, heights, bottom=[bottom.get(one, 0.0) for one in times], width=0.9, color=colour)
            bottom |= {one: bottom.get(one, 0.0) + more for one, more in zip(times, heights, strict=True)}
        elif name in ("min", "max") and not points:
            axes.plot(times, seen, color=colour, linewidth=0.4, alpha=0.7)
        else:
            axes.plot(times, seen, color=colour, linewidth=1.2, marker="o" if points else "", markersize=3)
    values += bottom.values()
    axes.tick_params(length=0)
    steps = defaults.get("thresholds", {}).get("steps", [])
    soft = defaults["custom"]
    low = min([soft.get("axisSoftMin", defaults.get("min", 0.0)), *values])
    high = max([soft.get("axisSoftMax", 0.0), *values, low + 1e-3])
    for one, after in zip(steps, [*steps[1:], {"value": high}], strict=False):
        begin = low if one["value"] is None else max(low, one["value"])
        if one["color"] != "transparent" and begin < min(high, after["value"]):
            axes.axhspan(begin, min(high, after["value"]), color=one["color"], alpha=0.16, linewidth=0)
    axes.set_ylim(low, high)
    axes.set_xlim(0, 60)


def _states(axes: Any, panel: dict[str, Any], tables: list[list[dict[str, Any]]]) -> None:
    colours = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for number, table in enumerate(tables):
        axes.text(-1.0, number, table[0]["sign"], ha="right", va="center")
        ends = [row["_time"] / 60 for row in table[1:]] + [60.0]
        for row, end in zip(table, ends, strict=True):
            begin = row["_time"] / 60
            axes.add_patch(_rectangle(begin, number - 0.4, end - begin, 0.8, colours[row["_value"]]["color"]))
    axes.set_xlim(-9, 60)
    axes.set_ylim(-0.6, len(tables) - 0.4)


_DRAW: Final = {
    "text": _words,
    "table": _table,
    "stat": _numbers,
    "timeseries": _lines,
    "state-timeline": _states,
}
