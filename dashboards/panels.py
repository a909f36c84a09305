"""Panels: what all dashboards are put together of, in Grafana's words.

Only what Grafana 9.3 knows. A cell's colour is said twice, in the words of 9.3 and in those of 9.5 and later; each
ignores the other's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue as Property

from vitals import news2
from vitals.messages import Priority
from vitals.news2 import Bands
from vitals.signs import SPEC, SignSpec, VitalSign

P = TypeVar("P", stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."

SOURCE: Final = models.DataSourceRef(type_val="influxdb", uid="vitalloom")

RED, ORANGE, YELLOW, CYAN, GREEN, DIM = "#e5484d", "#f2994a", "#f2d44b", "#3cc8d8", "#3fa66b", "#7b8087"
POINTS: Final = {0: "transparent", 1: YELLOW, 2: ORANGE, 3: RED}
"""Colours of NEWS2's points, after the RCP's chart."""

PRIORITY: Final = {Priority.HIGH: RED, Priority.MEDIUM: YELLOW, Priority.LOW: CYAN}

_BANDS: Final[Mapping[VitalSign, Bands]] = {
    VitalSign.HEART_RATE: news2.HEART_RATE,
    VitalSign.RESPIRATORY_RATE: news2.RESPIRATORY_RATE,
    VitalSign.SPO2: news2.SPO2_SCALE_1,
    VitalSign.SYSTOLIC_BP: news2.SYSTOLIC_BP,
    VitalSign.TEMPERATURE: news2.TEMPERATURE,
}
# Where a line is usually found; it is drawn beyond that where it goes there.
_USUAL: Final[Mapping[VitalSign, tuple[float, float]]] = {
    VitalSign.HEART_RATE: (40, 140),
    VitalSign.RESPIRATORY_RATE: (6, 32),
    VitalSign.SPO2: (84, 100),
    VitalSign.SYSTOLIC_BP: (80, 200),
    VitalSign.DIASTOLIC_BP: (40, 120),
    VitalSign.TEMPERATURE: (34.5, 40),
}
# Our units in Grafana's words; the rest is written as it is.
_UNITS: Final = {"%": "percent", "°C": "celsius"}


class _FluxTarget(Dataquery):
    """One target of a panel."""

    def __init__(self, query: str) -> None:
        self._query = query

    def to_json(self) -> dict[str, object]:
        return {"refId": "A", "datasource": SOURCE, "query": self._query}


class _Flux(Builder[Dataquery]):
    def __init__(self, query: str) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return _FluxTarget(self._query)


class PanelLayout:
    """Where the next panel goes: from left to right, row under row."""

    def __init__(self) -> None:
        self._number, self._x, self._y, self._height = 0, 0, 0, 0

    def put(self, panel: Any, *, wide: int, high: int) -> Any:
        """Number a panel and give it its place."""
        if self._x + wide > 24:
            self._x, self._y, self._height = 0, self._y + self._height, 0
        self._number += 1
        panel.id(self._number).grid_pos(models.GridPos(x=self._x, y=self._y, w=wide, h=high))
        self._x += wide
        self._height = max(self._height, high)
        return panel


def text_panel(content: str, *, title: str = "") -> text.Panel:
    """A text."""
    return text.Panel().title(title).mode("markdown").content(content).transparent(True)  # type: ignore[arg-type]


def table_panel(
    title: str,
    query: str,
    columns: Mapping[str, str],
    *,
    why: str,
    hidden: Sequence[str] = (),
    widths: Mapping[str, int] | None = None,
) -> table.Panel:
    """A table: its columns in this order and by these names.

    Args:
        columns: name in the query, title.
        hidden: columns that links need and people do not.
    """
    panel = _base(table.Panel(), title, query, why).show_header(True)
    order = {name: place for place, name in enumerate([*columns, *hidden])}
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": {}, "indexByName": order, "renameByName": dict(columns)},
        )
    )
    for name in hidden:
        panel.override_by_name(name, [Property(id_val="custom.hidden", value=True)])
    for name, width in (widths or {}).items():
        panel.override_by_name(name, [Property(id_val="custom.width", value=width)])
    return panel


def colour_by_text(
    panel: table.Panel, column: str, mappings: Sequence[tuple[str, str]], *, whole: bool = False
) -> None:
    """Colour the cells of a column by what stands in them.

    Args:
        mappings: regular expression, colour; the first that is found counts.
        whole: the whole cell, not its words alone.
    """
    kind = "color-background" if whole else "color-text"
    rules = [
        {
            "type": "regex",
            "options": {"pattern": f"/{pattern}/", "result": {"color": colour, "index": index}},
        }
        for index, (pattern, colour) in enumerate(mappings)
    ]
    panel.override_by_name(
        column,
        [
            Property(id_val="mappings", value=rules),
            Property(id_val="custom.displayMode", value=kind),
            Property(id_val="custom.cellOptions", value={"type": kind}),
        ],
    )


def colour_by_value(panel: table.Panel, column: str, steps: Sequence[tuple[float | None, str]]) -> None:
    """Colour the stat_panel of a column by their size."""
    panel.override_by_name(
        column,
        [
            Property(
                id_val="thresholds",
                value={"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]},
            ),
            Property(id_val="custom.displayMode", value="color-text"),
            Property(id_val="custom.cellOptions", value={"type": "color-text"}),
        ],
    )


def set_unit(panel: table.Panel, column: str, unit: str, decimals: int = 0) -> None:
    """The unit of a column."""
    panel.override_by_name(column, [Property(id_val="unit", value=unit), Property(id_val="decimals", value=decimals)])


def add_link(panel: table.Panel, column: str, title: str, url: str) -> None:
    """Where a click on a cell leads."""
    panel.override_by_name(column, [Property(id_val="links", value=[{"title": title, "url": url}])])


def stat_panel(title: str, query: str, colours: Mapping[str, str], *, why: str) -> stat.Panel:
    """A row of stat_panel, grey while they are 0."""
    panel = (
        _base(stat.Panel(), title, query, why)
        .color_mode(looks.BigValueColorMode.BACKGROUND)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .text_mode(looks.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/").values(False))
    )
    for name, colour in colours.items():
        panel.override_by_name(
            name,
            [
                Property(
                    id_val="thresholds",
                    value={
                        "mode": "absolute",
                        "steps": [{"value": None, "color": DIM}, {"value": 1, "color": colour}],
                    },
                ),
                Property(id_val="displayName", value=name.replace("_", ", ")),
            ],
        )
    return panel


def trend_panel(
    title: str,
    query: str,
    *,
    why: str,
    unit: str = "",
    name: str = "",
    decimals: int | None = None,
    interval: str = "1m",
    steps: Sequence[tuple[float | None, str]] = (),
    bars: bool = False,
) -> timeseries.Panel:
    """Lines over time that are never drawn across what was not set_unit."""
    panel = (
        _base(timeseries.Panel(), title, query, why)
        .interval(interval)
        .span_nulls(False)
        .line_width(1)
        .fill_opacity(60 if bars else 0)
        .draw_style(looks.GraphDrawStyle.BARS if bars else looks.GraphDrawStyle.LINE)
        .show_points(looks.VisibilityMode.NEVER if bars else looks.VisibilityMode.AUTO)
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.NONE))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
        )
    )
    if unit:
        panel.unit(unit)
    if name:
        panel.display_name(name)
    if decimals is not None:
        panel.decimals(decimals)
    if bars:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if steps:
        panel.thresholds(
            dashboard.ThresholdsConfig()
            .mode(models.ThresholdsMode.ABSOLUTE)
            .steps([models.Threshold(value=value, color=colour) for value, colour in steps])
        ).thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.AREA))
    return panel


def sign_panel(sign: VitalSign, query: str) -> timeseries.Panel:
    """A sign over time, as the table of signs has it: unit, decimals, colour; behind it the bands of NEWS2."""
    spec = SPEC[sign]
    low, high = _USUAL[sign]
    scale = " The bands are those of scale 1, whatever was ordered." if sign is VitalSign.SPO2 else ""
    bands = _BANDS.get(sign)
    panel = trend_panel(
        f"{spec.label}, {spec.unit}",
        query,
        why=f"Lowest, mean and highest usable value of each window; a gap is a gap. Behind it what NEWS2 scores: "
        f"yellow 1, orange 2, red 3.{scale}"
        if bands
        else "Lowest, mean and highest usable value of each window; a gap is a gap. NEWS2 does not score it.",
        unit=_UNITS.get(spec.unit, f"suffix: {spec.unit}"),
        decimals=spec.decimals,
        interval=_interval(spec),
        steps=[(None, POINTS[bands.rows[0][1]]), *((value, POINTS[points]) for value, points in bands.rows[1:])]
        if bands
        else (),
    )
    panel.axis_soft_min(low).axis_soft_max(high)
    if spec.cadence_ms >= 3_600_000:  # a cuff says what was at one moment: points, nothing between them
        panel.draw_style(looks.GraphDrawStyle.POINTS).show_points(looks.VisibilityMode.ALWAYS).point_size(6)
    fixed = {"mode": "fixed", "fixedColor": spec.colour}
    panel.override_by_name(
        "mean", [Property(id_val="color", value=fixed), Property(id_val="custom.lineWidth", value=2)]
    )
    faint = [Property(id_val="color", value=fixed), Property(id_val="custom.lineWidth", value=0)]
    panel.override_by_name("min", faint)
    panel.override_by_name(
        "max",
        [
            *faint,
            Property(id_val="custom.fillBelowTo", value="min"),
            Property(id_val="custom.fillOpacity", value=25),
        ],
    )
    return panel


def state_timeline_panel(
    title: str, query: str, colours: Mapping[str, str], *, why: str, name: str
) -> statetimeline.Panel:
    """What stood from when to when."""
    result = {state: {"color": colour, "index": index} for index, (state, colour) in enumerate(colours.items())}
    panel = _base(statetimeline.Panel(), title, query, why)
    panel.mappings([models.ValueMap(options={key: models.ValueMappingResult(color=one["color"], index=one["index"])  # type: ignore[arg-type]
                                             for key, one in result.items()})])  # fmt: skip
    return panel.display_name(name).show_value(looks.VisibilityMode.NEVER).merge_values(True).row_height(0.8)


def _interval(spec: SignSpec) -> str:
    """The narrowest window: twice the cadence, so that an ordinary wait is no gap; a cuff's points stand alone."""
    return "1m" if spec.cadence_ms >= 3_600_000 else f"{max(1, 2 * spec.cadence_ms // 60_000)}m"


def _base(panel: P, title: str, query: str, why: str) -> P:
    panel.title(title).description(why).datasource(SOURCE).with_target(_Flux(query))
    return panel
