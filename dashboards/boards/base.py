"""Parts that several dashboards have in common: header, variables, notice, colours of cells, shared panels."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard, table
from grafana_foundation_sdk.models import dashboard as models

from dashboards import flux
from dashboards.flux.parts import SCORED, SILENT_MS
from dashboards.panels import (
    CYAN,
    DIM,
    GREEN,
    NOT_A_DEVICE,
    ORANGE,
    RED,
    SOURCE,
    YELLOW,
    PanelLayout,
    colour_by_text,
    colour_by_value,
    table_panel,
    text_panel,
)
from vitals.signs import VitalSign

TAG: Final = "vitalloom"

# Colours of cells: regular expression and colour; the first match counts.
ACKNOWLEDGED_COLOURS: Final = (("^not acknowledged$", ORANGE), (".+", GREEN))
PRIORITY_COLOURS: Final = ((r"^\*\*\* ", RED), (r"^\*\* ", YELLOW), (r"^\* ", CYAN))
SIGN_COLOURS: Final = (("^–", DIM), (r"\(\+3\)", RED), (r"\(\+2\)", ORANGE), (r"\(\+1\)", YELLOW))
NEWS2_COLOURS: Final = (
    ("^was|^no data", DIM),
    (r"^(≥ )?([7-9]|1[0-9]|20)\b", RED),
    (r"^(≥ )?[5-6]\b", ORANGE),
)
RISK_COLOURS: Final = (
    ("^high$", RED),
    ("^(≥ )?medium$", ORANGE),
    ("^(≥ )?low-medium$", YELLOW),
    ("^unknown$", DIM),
    ("^low$", GREEN),
)
MODEL_COLOURS: Final = (("above threshold", ORANGE), ("^–|abstains", DIM))
EDGE_MODEL_COLOURS: Final = (("rules only", ORANGE), (".+", GREEN))

_CHART_ORDER: Final = (
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SPO2,
    VitalSign.SUPPLEMENTAL_OXYGEN,
    VitalSign.SYSTOLIC_BP,
    VitalSign.HEART_RATE,
    VitalSign.CONSCIOUSNESS,
    VitalSign.TEMPERATURE,
)
SCORED_IN_CHART_ORDER: Final = tuple(sorted(SCORED, key=lambda spec: _CHART_ORDER.index(spec.sign)))
"""The signs that NEWS2 scores, in the order of the chart of the Royal College of Physicians."""


def new_dashboard(
    name: str, title: str, *, start: str, refresh: str, of_ward: bool = False, of_patient: bool = False
) -> dashboard.Dashboard:
    """An empty dashboard with its variables.

    Args:
        start: start of the default time range, such as ``now-1h``.
        refresh: interval between updates; empty: none.
        of_ward: add the variable of wards.
        of_patient: add the variable of patients.
    """
    links = dashboard.DashboardLink("vitalloom").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    board = (
        dashboard.Dashboard(f"vitalloom: {title}")
        .uid(f"vitalloom-{name}")
        .description(NOT_A_DEVICE)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(start, "now")
        .refresh(refresh or False)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .annotations([])
        .link(links.as_dropdown(False).include_vars(True).keep_time(False).icon("external link"))
        .with_variable(_variable("tenant", flux.variables.tenants()))
    )
    if of_ward:
        board.with_variable(
            _variable("ward", flux.variables.wards())
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
        )
    if of_patient:
        # The text before the bar is shown, the value behind it is used in queries.
        board.with_variable(
            _variable("patient", flux.variables.patients()).regex(r"/(?<text>.*) \| (?<value>[0-9a-f]{32})$/")
        )
    return board


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .id(name)  # Grafana 9.3 finds variables by their id, later versions by their name
        .label(name)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.DISABLED)
    )


def add_notice(board: dashboard.Dashboard, layout: PanelLayout, content: str) -> None:
    """Add a text panel with the disclaimer and `content`, in Markdown."""
    board.with_panel(layout.put(text_panel(f"**{NOT_A_DEVICE}** {content}"), wide=24, high=2))


def stages_panel() -> table.Panel:
    """Time since the newest data of each stage of the pipeline."""
    panel = table_panel(
        "Time since last data, by stage",
        flux.pipeline.stages(),
        {"stage": "stage", "last_data": "last data", "silent_s": "seconds"},
        why="Age of the newest point of each stage in the database.",
    )
    colour_by_value(panel, "seconds", ((None, GREEN), (90, ORANGE), (SILENT_MS / 1_000, RED)))
    return panel


def colour_patient_table(panel: table.Panel, sign_titles: tuple[str, ...]) -> None:
    """Colour the columns of a table of patients."""
    colour_by_text(panel, "NEWS2", NEWS2_COLOURS)
    colour_by_text(panel, "risk", RISK_COLOURS, whole=True)
    for title in sign_titles:
        colour_by_text(panel, title, SIGN_COLOURS)
    colour_by_text(panel, "highest alarm", PRIORITY_COLOURS)
    colour_by_text(panel, "acknowledged by", ACKNOWLEDGED_COLOURS)
