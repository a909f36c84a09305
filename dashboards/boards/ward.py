"""The Ward dashboard: all patients of a ward, most severe first."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard, stat, table

from dashboards import flux
from dashboards.boards.base import (
    ACKNOWLEDGED_COLOURS,
    EDGE_MODEL_COLOURS,
    MODEL_COLOURS,
    PRIORITY_COLOURS,
    SCORED_IN_CHART_ORDER,
    add_notice,
    colour_patient_table,
    new_dashboard,
    stages_panel,
)
from dashboards.panels import CYAN, RED, YELLOW, PanelLayout, add_link, colour_by_text, stat_panel, table_panel

_PATIENT_URL: Final = "/d/vitalloom-patient?var-tenant=${tenant}&var-patient=${__data.fields.binding}"
_SIGN_TITLES: Final = {spec.sign.value: f"{spec.abbreviation} {spec.unit}".strip() for spec in SCORED_IN_CHART_ORDER}


def build() -> dashboard.Dashboard:
    """The dashboard."""
    board = new_dashboard("ward", "Ward", start="now-1h", refresh="10s", of_ward=True)
    layout = PanelLayout()
    add_notice(
        board,
        layout,
        "A cell shows a value only while it is valid for scoring; afterwards a dash and its age. **A dash is not a "
        "zero.** `≥` is a lower bound: at least one sign is missing.",
    )
    board.with_panel(layout.put(_alarm_counts(), wide=12, high=4))
    board.with_panel(layout.put(stages_panel(), wide=12, high=4))
    board.with_panel(layout.put(_patients(), wide=24, high=14))
    board.with_panel(layout.put(_open_alarms(), wide=16, high=10))
    board.with_panel(layout.put(_edge_models(), wide=8, high=10))
    return board


def _alarm_counts() -> stat.Panel:
    return stat_panel(
        "Number of open alarms",
        flux.ward.open_counts(),
        {"red_unacknowledged": RED, "red": RED, "yellow": YELLOW, "cyan": CYAN},
        why="Active alarms, and ended alarms that were not acknowledged.",
    )


def _patients() -> table.Panel:
    panel = table_panel(
        "Patients by severity",
        flux.ward.patient_table(),
        {"bed": "bed", "patient": "patient", "news2": "NEWS2", "risk": "risk"}
        | _SIGN_TITLES
        | {
            "alarm": "highest alarm",
            "acknowledged_by": "acknowledged by",
            "sepsis": "sepsis model",
            "heart": "heart model",
        },
        why="Red alarms first, then by the last NEWS2, then by other alarms. A cell is 'value (+NEWS2 points) age'. "
        "NEWS2 is computed from the signs that are valid at the end of the time range.",
        hidden=("binding", "devices", "sources", "rank"),
        widths={"NEWS2": 190, "bed": 90, "patient": 110, "risk": 95, "highest alarm": 380}
        | dict.fromkeys(_SIGN_TITLES.values(), 120),
    )
    colour_patient_table(panel, tuple(_SIGN_TITLES.values()))
    for title in ("sepsis model", "heart model"):
        colour_by_text(panel, title, MODEL_COLOURS)
    add_link(panel, "bed", "This patient", _PATIENT_URL)
    return panel


def _open_alarms() -> table.Panel:
    panel = table_panel(
        "Open alarms",
        flux.ward.open_alarms(),
        {
            "priority": "priority",
            "bed": "bed",
            "text": "alarm",
            "response": "recommended response",
            "since": "since",
            "state": "state",
            "acknowledged_by": "acknowledged by",
            "silenced_for": "silenced for",
        },
        why="By priority, unacknowledged ones first. An alarm without a change in the last 14 days is not listed.",
        hidden=("binding", "patient", "rule", "order", "onset_ms"),
        widths={"priority": 100, "bed": 90, "since": 80, "state": 180, "acknowledged by": 140, "silenced for": 90},
    )
    colour_by_text(panel, "priority", PRIORITY_COLOURS, whole=True)
    colour_by_text(panel, "acknowledged by", ACKNOWLEDGED_COLOURS)
    add_link(panel, "bed", "This patient", _PATIENT_URL)
    return panel


def _edge_models() -> table.Panel:
    panel = table_panel(
        "Models by edge",
        flux.ward.edge_models(),
        {"edge": "edge", "model": "models", "version": "version", "last_heartbeat": "last heartbeat"},
        why="From the last heartbeat of each edge. 'rules only': no model runs there, only NEWS2 and the alarm rules.",
    )
    colour_by_text(panel, "models", EDGE_MODEL_COLOURS)
    return panel
