"""The four dashboards, put together and written as JSON."""

import json
from collections.abc import Callable
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models

from dashboards import flux
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
    add_link,
    colour_by_text,
    colour_by_value,
    set_unit,
    sign_panel,
    stat_panel,
    state_timeline_panel,
    table_panel,
    text_panel,
    trend_panel,
)
from vitals.signs import SIGNS, VitalSign

TAG: Final = "vitalloom"
SCHEMA_MOST: Final = 37
"""Grafana 9.3 reads dashboards up to this version."""

_PATIENT_URL: Final = "/d/vitalloom-patient?var-tenant=${tenant}&var-patient=${__data.fields.binding}"
_NOBODY: Final = (("^nobody$", ORANGE), (".+", GREEN))
_ALARM: Final = ((r"^\*\*\* ", RED), (r"^\*\* ", YELLOW), (r"^\* ", CYAN))
_CELL: Final = (("^–", DIM), (r"\(\+3\)", RED), (r"\(\+2\)", ORANGE), (r"\(\+1\)", YELLOW))
_NEWS2: Final = (
    ("^was|^no data", DIM),
    (r"^(≥ )?([7-9]|1[0-9]|20)\b", RED),
    (r"^(≥ )?[5-6]\b", ORANGE),
)
_RISK: Final = (("^high$", RED), ("^medium$", ORANGE), ("^low-medium$", YELLOW), ("^unknown$", DIM), ("^low$", GREEN))
_MODEL: Final = (("speaks", ORANGE), ("^–|abstains", DIM))
_JUDGES: Final = (("rules only", ORANGE), (".+", GREEN))
_NEWS2_STEPS: Final = ((None, "transparent"), (5, ORANGE), (7, RED))


def ward() -> dashboard.Dashboard:
    """Everybody, the worst first."""
    board, place = _begin("ward", "Ward", start="now-1h", refresh="10s", of_ward=True), PanelLayout()
    _notice(
        board, place,
        "A value stands in a cell only while it may be scored; afterwards a dash and its age. **A dash is not a "
        "zero.** `≥` is a lower bound: something is missing.",
    )  # fmt: skip
    board.with_panel(
        place.put(
            stat_panel(
                "Alarms that stand", flux.open_counts(),
                {"red_unanswered": RED, "red": RED, "yellow": YELLOW, "cyan": CYAN},
                why="Open, or ended and nobody has looked. 'red, unanswered': nobody has acknowledged it.",
            ), wide=12, high=4,
        )
    )  # fmt: skip
    board.with_panel(place.put(_hops(), wide=12, high=4))
    signs = {
        spec.sign.value: f"{spec.abbreviation} {spec.unit}".strip()
        for spec in sorted(flux.SCORED, key=lambda spec: _READ_FIRST.index(spec.sign))
    }
    table = table_panel(
        "Patients, the worst first",
        flux.ward(),
        {"bed": "bed", "patient": "patient", "news2": "NEWS2", "risk": "risk"}
        | signs
        | {
            "alarm": "worst alarm",
            "acknowledged_by": "acknowledged by",
            "sepsis": "sepsis model",
            "heart": "heart model",
        },
        why="Red alarms first, then NEWS2 as last seen, then other alarms. A cell is 'value (+points of NEWS2) age'. "
        "NEWS2 is made of what may be scored at the end of the time range.",
        hidden=("binding", "rank"),
        widths={"NEWS2": 190, "bed": 90, "patient": 110, "risk": 95, "worst alarm": 380}
        | dict.fromkeys(signs.values(), 120),
    )
    colour_by_text(table, "NEWS2", _NEWS2)
    colour_by_text(table, "risk", _RISK, whole=True)
    for title in signs.values():
        colour_by_text(table, title, _CELL)
    colour_by_text(table, "worst alarm", _ALARM)
    colour_by_text(table, "acknowledged by", _NOBODY)
    for title in ("sepsis model", "heart model"):
        colour_by_text(table, title, _MODEL)
    add_link(table, "bed", "This patient", _PATIENT_URL)
    board.with_panel(place.put(table, wide=24, high=14))
    board.with_panel(place.put(_open_alarms(), wide=16, high=10))
    judges = table_panel(
        "What judges, by edge", flux.model_state(),
        {"edge": "edge", "model": "models", "version": "version", "told": "told"},
        why="As each edge last said in its heartbeat. 'rules only': no model judges there; NEWS2 and rules go on.",
    )  # fmt: skip
    colour_by_text(judges, "models", _JUDGES)
    board.with_panel(place.put(judges, wide=8, high=10))
    return board


def patient() -> dashboard.Dashboard:
    """One patient over time."""
    board, place = (
        _begin("patient", "Patient", start="now-6h", refresh="30s", of_ward=True, of_patient=True),
        PanelLayout(),
    )
    board.annotation(dashboard.AnnotationQuery().name("alarms").enable(True).icon_color(RED).datasource(SOURCE))
    _notice(board, place, "Lines end where nothing was measured. Bands behind the signs are what NEWS2 scores.")
    now = table_panel(
        "Now", flux.patient_now(),
        {"bed": "bed", "patient": "patient", "news2": "NEWS2", "risk": "risk"}
        | {spec.sign.value: spec.abbreviation for spec in
           sorted(flux.SCORED, key=lambda spec: _READ_FIRST.index(spec.sign))}
        | {"alarm": "worst alarm", "acknowledged_by": "acknowledged by"},
        why="As on the ward, at the end of the time range.", hidden=("binding", "rank", "sepsis", "heart"),
    )  # fmt: skip
    colour_by_text(now, "NEWS2", _NEWS2)
    colour_by_text(now, "risk", _RISK, whole=True)
    for spec in flux.SCORED:
        colour_by_text(now, spec.abbreviation, _CELL)
    colour_by_text(now, "worst alarm", _ALARM)
    colour_by_text(now, "acknowledged by", _NOBODY)
    board.with_panel(place.put(now, wide=24, high=4))
    score = trend_panel(
        "NEWS2", flux.news2_trend(), why="'at_least' is what the signs that are there add up to; 'total' only exists "
        "while none is missing. From 5 urgent, from 7 emergency.", steps=_NEWS2_STEPS, decimals=0,
    )  # fmt: skip
    score.min(0).axis_soft_max(8)
    board.with_panel(place.put(score, wide=12, high=8))
    parts = trend_panel("NEWS2, its parts", flux.part_trend(), why="Points of each sign; one that is missing has none.",
                  decimals=0, bars=True)  # fmt: skip
    for spec in flux.SCORED:
        parts.override_by_name(
            f"{spec.sign.value}_points",
            [
                models.DynamicConfigValue(id_val="displayName", value=spec.label),
                models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": spec.colour}),
            ],
        )
    board.with_panel(place.put(parts, wide=12, high=8))
    for spec in SIGNS:
        if not spec.entered:
            board.with_panel(place.put(sign_panel(spec.sign, flux.sign_trend(spec.sign)), wide=8, high=8))
    risks = trend_panel(
        "Sepsis and heart risk, by model", flux.score_trend(), unit="percentunit", decimals=1, interval="5m",
        name="${__field.labels.model} ${__field.name}",
        why="Probability that each model gives, and from where on it speaks. A model adds to the rules, hides nothing.",
    )  # fmt: skip
    risks.min(0).show_points(looks.VisibilityMode.ALWAYS)
    board.with_panel(place.put(risks, wide=12, high=9))
    said = table_panel(
        "What moved them", flux.reasons(),
        {"at": "at", "age": "age", "model": "model", "percent": "says", "threshold": "speaks from", "says": "",
         "reason": "because", "version": "version"},
        why="The last five words of each model within the time range; an abstaining one says why.",
    )  # fmt: skip
    board.with_panel(place.put(said, wide=12, high=9))
    board.with_panel(
        place.put(
            state_timeline_panel(
                "How fresh each sign was", flux.freshness_trend(),
                {"FRESH": GREEN, "LATE": YELLOW, "STALE": ORANGE, "LOST": RED}, name="${__field.labels.sign}",
                why="As the processor said. What is stale or lost is in no score.",
            ), wide=24, high=7,
        )
    )  # fmt: skip
    history = table_panel(
        "Alarms, every change", flux.alarm_history(),
        {"at": "at", "priority": "priority", "state": "state", "text": "alarm", "rule": "rule", "basis": "judged by",
         "acknowledged_by": "acknowledged by"},
        why="Within the time range, the newest first.", widths={"priority": 100, "at": 170, "alarm": 600},
    )  # fmt: skip
    colour_by_text(history, "priority", _ALARM)
    board.with_panel(place.put(history, wide=24, high=9))
    return board


def pipeline() -> dashboard.Dashboard:
    """How the way of the readings does."""
    board, place = _begin("pipeline", "Pipeline", start="now-3h", refresh="30s"), PanelLayout()
    _notice(
        board, place,
        "**No canary**: nothing sends a synthetic patient through this pipeline yet, so no panel here proves that an "
        "alarm would arrive. What is below is what the hops say of themselves, and how long ago they said it.",
    )  # fmt: skip
    board.with_panel(place.put(_hops(), wide=8, high=8))
    board.with_panel(
        place.put(
            trend_panel("Readings", flux.reading_rate(), unit="suffix:/s", why="Stored readings, by the time they were "
                  "measured. The newest window is still filling.", decimals=1), wide=16, high=8,
        )
    )  # fmt: skip
    for title, field, unit, why in (
        ("Lag", "lag", "short", "Records that wait to be judged. Growing: the workers do not keep up, or one stands."),
        ("Age when judged", "worst_age_ms", "ms", "Of the oldest record, since the last report."),
        ("Patients", "patients", "short", "Known to each partition."),
        ("Red alarms unanswered", "unanswered", "short", "As each partition counts them."),
    ):
        board.with_panel(
            place.put(
                trend_panel(title, flux.partition_trend(field), unit=unit, why=why, decimals=0,
                      name="partition ${__field.labels.partition}"), wide=6, high=7,
            )
        )  # fmt: skip
    errors = trend_panel(
        "Dead letters, by stage", flux.dead_letters(), bars=True, decimals=0, interval="5m", name="${__field.name}",
        why="What somebody authentic said and nobody could use: where it failed and why. They lie in `vl.dlq.v1`.",
    )  # fmt: skip
    board.with_panel(place.put(errors, wide=12, high=8))
    refused = trend_panel(
        "Refused and repeated at edges", flux.refused(), bars=True, decimals=0, interval="5m",
        name="${__field.name} ${__field.labels.edge}",
        why="Frames that an edge refused, and frames that came again; repeats are harmless.",
    )  # fmt: skip
    board.with_panel(place.put(refused, wide=12, high=8))
    table = table_panel(
        "Edges", flux.edges(),
        {"edge": "edge", "heard": "heard", "waiting": "waiting", "oldest": "oldest", "disk": "disk",
         "clock_skew_s": "clock off", "refused": "refused", "sounded": "sounded", "up": "up", "model": "models",
         "version": "version"},
        why="The last heartbeat of each. 'waiting': readings that the data centre has not signed for.",
        hidden=("silent_s",),
    )  # fmt: skip
    colour_by_text(table, "models", _JUDGES)
    set_unit(table, "disk", "percent", 1)
    set_unit(table, "clock off", "s", 1)
    colour_by_value(table, "disk", ((None, GREEN), (70, ORANGE), (90, RED)))
    colour_by_value(table, "clock off", ((None, RED), (-5, GREEN), (5, RED)))
    board.with_panel(place.put(table, wide=18, high=8))
    board.with_panel(
        place.put(
            table_panel("Alarms that edges found", flux.edge_alarms(), {"rule": "rule", "alarms": "alarms"},
                 why="By themselves, as they would have sounded with the data centre away."), wide=6, high=8,
        )
    )  # fmt: skip
    return board


def alarm_quality() -> dashboard.Dashboard:
    """What the alarms ask of people."""
    board, place = _begin("alarm-quality", "Alarm quality", start="now-7d", refresh=""), PanelLayout()
    _notice(
        board, place,
        "An alarm counts in the period in which it became active, at the highest priority it reached; what was found "
        "in backfilled data does not count. A patient-day is 1440 minutes with a heart rate. Our aim is at most one "
        "alarm of high or medium priority a patient-day.",
    )  # fmt: skip
    load = table_panel(
        "Alarms, by class", flux.alarm_load(),
        {"kind": "class", "priority": "priority", "alarms": "alarms", "per_patient_day": "each patient-day",
         "acknowledged": "acknowledged", "cleared_alone": "cleared by themselves"},
        why="'acknowledged': the last call was answered. 'cleared by themselves': over before anybody answered.",
        hidden=("order",),
    )  # fmt: skip
    colour_by_text(load, "priority", _ALARM)
    set_unit(load, "each patient-day", "none", 2)
    for title in ("acknowledged", "cleared by themselves"):
        set_unit(load, title, "percent", 0)
    board.with_panel(place.put(load, wide=14, high=9))
    times = table_panel(
        "Time to the answer", flux.answer_times(),
        {"kind": "class", "priority": "priority", "median_s": "median", "p95_s": "p95"},
        why="From the call to the last answer of each alarm that was answered; those nobody answered are not in it.",
        hidden=("order",),
    )  # fmt: skip
    colour_by_text(times, "priority", _ALARM)
    for title in ("median", "p95"):
        set_unit(times, title, "s")
    board.with_panel(place.put(times, wide=10, high=9))
    board.with_panel(
        place.put(
            trend_panel("Alarms that began", flux.alarms_over_time(), bars=True, interval="1h", decimals=0,
                  why="By class.", name="${__field.name}"), wide=14, high=9,
        )
    )  # fmt: skip
    rules = table_panel(
        "By rule", flux.alarms_by_rule(),
        {"rule": "rule", "alarms": "alarms", "patients": "patients", "cleared_alone": "cleared by themselves"},
        why="What to look at first when there are too many.",
    )  # fmt: skip
    set_unit(rules, "cleared by themselves", "percent", 0)
    board.with_panel(place.put(rules, wide=10, high=9))
    return board


DASHBOARDS: Final[dict[str, Callable[[], dashboard.Dashboard]]] = {
    "ward": ward,
    "patient": patient,
    "pipeline": pipeline,
    "alarm-quality": alarm_quality,
}


def dashboard_json(name: str) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    found: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(DASHBOARDS[name]().build()))
    found["id"] = None  # Grafana's own number: it is the uid that names a dashboard
    for one in found["annotations"]["list"]:
        # The SDK knows only targets of Grafana's own annotations.
        one["target"] = {"refId": "Alarms", "query": flux.alarm_marks()}
    return found


def as_text(found: dict[str, Any]) -> str:
    """What stands in a file: stable, so that a difference is a change."""
    return json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


_READ_FIRST: Final = (
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SPO2,
    VitalSign.SUPPLEMENTAL_OXYGEN,
    VitalSign.SYSTOLIC_BP,
    VitalSign.HEART_RATE,
    VitalSign.CONSCIOUSNESS,
    VitalSign.TEMPERATURE,
)
"""In the order of the RCP's chart."""


def _begin(
    name: str, title: str, *, start: str, refresh: str, of_ward: bool = False, of_patient: bool = False
) -> dashboard.Dashboard:
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
        .link(
            dashboard.DashboardLink("vitalloom").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
            .as_dropdown(False).include_vars(True).keep_time(False).icon("external link")
        )
        .with_variable(_variable("tenant", "tenant", flux.tenants()))
    )  # fmt: skip
    if of_ward:
        board.with_variable(
            _variable("ward", "ward", flux.wards())
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
        )
    if of_patient:
        # What people read stands before the bar, what queries need behind it.
        board.with_variable(
            _variable("patient", "patient", flux.patients()).regex(r"/(?<text>.*) \| (?<value>[0-9a-f]{32})$/")
        )
    return board


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .id(name)  # Grafana 9.3 looks variables up by their id, later versions by their name
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.DISABLED)
    )


def _notice(board: dashboard.Dashboard, place: PanelLayout, content: str) -> None:
    board.with_panel(place.put(text_panel(f"**{NOT_A_DEVICE}** {content}"), wide=24, high=2))


def _hops() -> Any:
    hops = table_panel(
        "When each hop was last heard", flux.hops(), {"hop": "hop", "heard": "heard", "silent_s": "seconds"},
        why="By the newest point of each in the database.",
    )  # fmt: skip
    colour_by_value(hops, "seconds", ((None, GREEN), (90, ORANGE), (flux.SILENT_MS / 1_000, RED)))
    return hops


def _open_alarms() -> Any:
    alarms = table_panel(
        "Alarms that stand", flux.open_alarms(),
        {"priority": "priority", "bed": "bed", "text": "alarm", "since": "since", "state": "state",
         "acknowledged_by": "acknowledged by", "silenced_for": "silent for"},
        why="The worst first, among equals the unanswered. Changes of the last fourteen days; an alarm about which "
        "nothing has changed for longer is not found here.",
        hidden=("binding", "patient", "rule", "order", "onset_ms"),
        widths={"priority": 100, "bed": 90, "since": 80, "state": 180, "acknowledged by": 140, "silent for": 90},
    )  # fmt: skip
    colour_by_text(alarms, "priority", _ALARM, whole=True)
    colour_by_text(alarms, "acknowledged by", _NOBODY)
    add_link(alarms, "bed", "This patient", _PATIENT_URL)
    return alarms
