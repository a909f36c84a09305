"""The Alarm quality dashboard: number of alarms and time to acknowledgement."""

from grafana_foundation_sdk.builders import dashboard, table, timeseries

from dashboards import flux
from dashboards.boards.base import PRIORITY_COLOURS, add_notice, new_dashboard
from dashboards.panels import PanelLayout, colour_by_text, set_unit, table_panel, trend_panel

_CLEARED_ALONE = "cleared without acknowledgement"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    board = new_dashboard("alarm-quality", "Alarm quality", start="now-7d", refresh="")
    layout = PanelLayout()
    add_notice(
        board,
        layout,
        "An alarm counts in the period in which it became active, with its highest priority; alarms in backfilled data "
        "do not count. A patient-day is 1440 minutes with a heart rate. The target is at most one alarm of high or "
        "medium priority per patient-day.",
    )
    board.with_panel(layout.put(_alarm_load(), wide=14, high=9))
    board.with_panel(layout.put(_answer_times(), wide=10, high=9))
    board.with_panel(layout.put(_new_alarms(), wide=14, high=9))
    board.with_panel(layout.put(_by_rule(), wide=10, high=9))
    return board


def _alarm_load() -> table.Panel:
    panel = table_panel(
        "Alarms, by class",
        flux.alarm_quality.alarm_load(),
        {
            "kind": "class",
            "priority": "priority",
            "alarms": "alarms",
            "per_patient_day": "per patient-day",
            "acknowledged": "acknowledged",
            "cleared_alone": _CLEARED_ALONE,
        },
        why=f"'acknowledged': the last notification was acknowledged. '{_CLEARED_ALONE}': ended before that.",
        hidden=("order",),
    )
    colour_by_text(panel, "priority", PRIORITY_COLOURS)
    set_unit(panel, "per patient-day", "none", 2)
    for title in ("acknowledged", _CLEARED_ALONE):
        set_unit(panel, title, "percent", 0)
    return panel


def _answer_times() -> table.Panel:
    panel = table_panel(
        "Time to acknowledgement",
        flux.alarm_quality.answer_times(),
        {"kind": "class", "priority": "priority", "median_s": "median", "p95_s": "95th percentile"},
        why="From the alarm to its last acknowledgement. Alarms that were never acknowledged are not included.",
        hidden=("order",),
    )
    colour_by_text(panel, "priority", PRIORITY_COLOURS)
    for title in ("median", "95th percentile"):
        set_unit(panel, title, "s")
    return panel


def _new_alarms() -> timeseries.Panel:
    return trend_panel(
        "New alarms",
        flux.alarm_quality.alarms_over_time(),
        bars=True,
        interval="1h",
        decimals=0,
        why="Alarms that became active, by class.",
        name="${__field.name}",
    )


def _by_rule() -> table.Panel:
    panel = table_panel(
        "Alarms, by rule",
        flux.alarm_quality.alarms_by_rule(),
        {"rule": "rule", "alarms": "alarms", "patients": "patients", "cleared_alone": _CLEARED_ALONE},
        why="The rules with the most alarms, to find rules that need adjustment.",
    )
    set_unit(panel, _CLEARED_ALONE, "percent", 0)
    return panel
