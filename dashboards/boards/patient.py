"""The Patient dashboard: one patient over time."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from dashboards import flux
from dashboards.boards.base import (
    PRIORITY_COLOURS,
    SCORED_IN_CHART_ORDER,
    add_notice,
    colour_patient_table,
    new_dashboard,
)
from dashboards.flux.parts import SCORED
from dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    SOURCE,
    YELLOW,
    PanelLayout,
    colour_by_text,
    sign_panel,
    state_timeline_panel,
    table_panel,
    trend_panel,
)
from vitals.signs import SIGNS

_NEWS2_STEPS: Final = ((None, "transparent"), (5, ORANGE), (7, RED))
_FRESHNESS_COLOURS: Final = {"FRESH": GREEN, "LATE": YELLOW, "STALE": ORANGE, "LOST": RED}


def build() -> dashboard.Dashboard:
    """The dashboard."""
    board = new_dashboard("patient", "Patient", start="now-6h", refresh="30s", of_ward=True, of_patient=True)
    layout = PanelLayout()
    board.annotation(dashboard.AnnotationQuery().name("alarms").enable(True).icon_color(RED).datasource(SOURCE))
    add_notice(
        board,
        layout,
        "Lines are interrupted where nothing was measured. Coloured bands behind the signs are NEWS2 points.",
    )
    board.with_panel(layout.put(_current_values(), wide=24, high=4))
    board.with_panel(layout.put(_news2(), wide=12, high=8))
    board.with_panel(layout.put(_news2_points(), wide=12, high=8))
    for spec in SIGNS:
        if not spec.entered:
            board.with_panel(layout.put(sign_panel(spec.sign, flux.patient.sign_trend(spec.sign)), wide=8, high=8))
    board.with_panel(layout.put(_observations(), wide=24, high=7))
    board.with_panel(layout.put(_model_scores(), wide=12, high=9))
    board.with_panel(layout.put(_score_reasons(), wide=12, high=9))
    board.with_panel(layout.put(_freshness(), wide=24, high=7))
    board.with_panel(layout.put(_alarm_history(), wide=24, high=9))
    return board


def _current_values() -> table.Panel:
    signs = {spec.sign.value: spec.abbreviation for spec in SCORED_IN_CHART_ORDER}
    panel = table_panel(
        "Current values",
        flux.patient.patient_row(),
        {"bed": "bed", "patient": "patient", "news2": "NEWS2", "risk": "risk"}
        | signs
        | {"alarm": "highest alarm", "acknowledged_by": "acknowledged by"}
        | {"devices": "devices", "sources": "sources"},
        why="As on the Ward dashboard, at the end of the time range. 'sources': signs that count for NEWS2 and are not "
        "from the first device.",
        hidden=("binding", "rank", "sepsis", "heart"),
    )
    colour_patient_table(panel, tuple(signs.values()))
    return panel


def _news2() -> timeseries.Panel:
    panel = trend_panel(
        "NEWS2",
        flux.patient.news2_trend(),
        why="'at_least' is the sum of the signs that are available; 'total' exists only if none is missing. From 5: "
        "urgent response, from 7: emergency response.",
        steps=_NEWS2_STEPS,
        decimals=0,
    )
    return panel.min(0).axis_soft_max(8)


def _news2_points() -> timeseries.Panel:
    panel = trend_panel(
        "NEWS2 points by sign",
        flux.patient.news2_parts(),
        why="A missing sign has no points.",
        decimals=0,
        bars=True,
    )
    for spec in SCORED:
        panel.override_by_name(
            f"{spec.sign.value}_points",
            [
                DynamicConfigValue(id_val="displayName", value=spec.label),
                DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": spec.colour}),
            ],
        )
    return panel


def _observations() -> table.Panel:
    return table_panel(
        "Observations of people",
        flux.patient.observations(),
        {"at": "at", "by": "by"}
        | {spec.sign.value: spec.abbreviation for spec in SIGNS}
        | {
            "inspired_oxygen": "FiO2 %",
            "oxygen_device": "oxygen by",
            "glucose": "glucose mmol/L",
            "note": "note",
            "refused": "does not count",
        },
        why="What people observed and entered within the time range, newest first.",
        widths={"at": 170, "note": 300},
    )


def _model_scores() -> timeseries.Panel:
    panel = trend_panel(
        "Sepsis and heart risk, by model",
        flux.patient.score_trend(),
        unit="percentunit",
        decimals=1,
        interval="5m",
        name="${__field.labels.model} ${__field.name}",
        why="Probability by each model, and its threshold. A model can raise an alarm, but never suppresses one.",
    )
    return panel.min(0).show_points(looks.VisibilityMode.ALWAYS)


def _score_reasons() -> table.Panel:
    return table_panel(
        "Reasons for model scores",
        flux.patient.score_reasons(),
        {
            "at": "at",
            "age": "age",
            "model": "model",
            "probability": "probability",
            "threshold": "threshold",
            "outcome": "result",
            "reason": "reason",
            "version": "version",
        },
        why="The last five scores of each model within the time range. If a model abstains, the reason says why.",
    )


def _freshness() -> statetimeline.Panel:
    return state_timeline_panel(
        "Freshness of each sign",
        flux.patient.freshness_trend(),
        _FRESHNESS_COLOURS,
        name="${__field.labels.sign}",
        why="From the processor. Stale and lost signs are not scored.",
    )


def _alarm_history() -> table.Panel:
    panel = table_panel(
        "Alarm history",
        flux.patient.alarm_history(),
        {
            "at": "at",
            "priority": "priority",
            "state": "state",
            "text": "alarm",
            "response": "recommended response",
            "rule": "rule",
            "basis": "basis",
            "acknowledged_by": "acknowledged by",
        },
        why="Every change of every alarm within the time range, newest first.",
        widths={"priority": 100, "at": 170, "alarm": 600},
    )
    colour_by_text(panel, "priority", PRIORITY_COLOURS)
    return panel
