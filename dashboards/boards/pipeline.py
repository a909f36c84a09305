"""The Pipeline dashboard: throughput, lag and errors on the way of the readings."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard, table, timeseries

from dashboards import flux
from dashboards.boards.base import EDGE_MODEL_COLOURS, add_notice, new_dashboard, stages_panel
from dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    PanelLayout,
    colour_by_text,
    colour_by_value,
    set_unit,
    table_panel,
    trend_panel,
)

_PARTITION_PANELS: Final = (
    ("Consumer lag", "lag", "short", "Records that wait for a worker. If it grows, workers are too slow or one hangs."),
    ("Age when processed", "worst_age_ms", "ms", "Age of the oldest record since the last report."),
    ("Patients", "patients", "short", "Number of patients in each partition."),
    ("Unacknowledged red alarms", "unanswered", "short", "Number of alarms in each partition."),
)


def build() -> dashboard.Dashboard:
    """The dashboard."""
    board = new_dashboard("pipeline", "Pipeline", start="now-3h", refresh="30s")
    layout = PanelLayout()
    add_notice(
        board,
        layout,
        "**No end-to-end test**: there is no synthetic patient yet, so no panel proves that an alarm would arrive. The "
        "panels show what each stage reports about itself, and how long ago.",
    )
    board.with_panel(layout.put(stages_panel(), wide=8, high=8))
    board.with_panel(layout.put(_reading_rate(), wide=16, high=8))
    for title, field, unit, why in _PARTITION_PANELS:
        board.with_panel(layout.put(_by_partition(title, field, unit, why), wide=6, high=7))
    board.with_panel(layout.put(_dead_letters(), wide=12, high=8))
    board.with_panel(layout.put(_rejected_frames(), wide=12, high=8))
    board.with_panel(layout.put(_edges(), wide=18, high=8))
    board.with_panel(layout.put(_edge_alarms(), wide=6, high=8))
    return board


def _reading_rate() -> timeseries.Panel:
    return trend_panel(
        "Readings per second",
        flux.pipeline.reading_rate(),
        unit="suffix:/s",
        why="Stored readings, by time of measurement. The newest window is incomplete.",
        decimals=1,
    )


def _by_partition(title: str, field: str, unit: str, why: str) -> timeseries.Panel:
    name = "partition ${__field.labels.partition}"
    return trend_panel(title, flux.pipeline.partition_trend(field), unit=unit, why=why, decimals=0, name=name)


def _dead_letters() -> timeseries.Panel:
    return trend_panel(
        "Dead letters, by stage",
        flux.pipeline.dead_letters(),
        bars=True,
        decimals=0,
        interval="5m",
        name="${__field.name}",
        why="Authentic messages that could not be processed, by stage and reason. They are kept in `vl.dlq.v1`.",
    )


def _rejected_frames() -> timeseries.Panel:
    return trend_panel(
        "Rejected and duplicate frames, by edge",
        flux.pipeline.rejected_frames(),
        bars=True,
        decimals=0,
        interval="5m",
        name="${__field.name} ${__field.labels.edge}",
        why="Frames that an edge rejected, and duplicates, which are harmless.",
    )


def _edges() -> table.Panel:
    panel = table_panel(
        "Edges",
        flux.pipeline.edges(),
        {
            "edge": "edge",
            "last_heartbeat": "last heartbeat",
            "backlog": "backlog",
            "oldest": "oldest",
            "disk": "disk",
            "clock_skew_s": "clock offset",
            "rejected": "rejected",
            "local_alarms": "local alarms",
            "uptime": "uptime",
            "model": "models",
            "version": "version",
        },
        why="From the last heartbeat of each edge. 'backlog': readings that the data centre has not confirmed.",
        hidden=("silent_s",),
    )
    colour_by_text(panel, "models", EDGE_MODEL_COLOURS)
    set_unit(panel, "disk", "percent", 1)
    set_unit(panel, "clock offset", "s", 1)
    colour_by_value(panel, "disk", ((None, GREEN), (70, ORANGE), (90, RED)))
    colour_by_value(panel, "clock offset", ((None, RED), (-5, GREEN), (5, RED)))
    return panel


def _edge_alarms() -> table.Panel:
    return table_panel(
        "Alarms detected at edges",
        flux.pipeline.edge_alarms(),
        {"rule": "rule", "alarms": "alarms"},
        why="Alarms that edges detect themselves; they sound locally if the data centre is not available.",
    )
