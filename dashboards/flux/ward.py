"""Flux queries of the Ward dashboard."""

from typing import Final

from dashboards.flux.parts import (
    HEAD,
    LOOK_BACK,
    SCORED,
    SPAN_FUNCTION,
    TENANT,
    WARDS,
    in_wards,
    locations,
    locations_or_none,
    long_form,
    one_row_per_patient,
    open_alarms_by_bed,
    open_alarms_stream,
    pivot,
    priority_text,
    select,
)
from stream.store.line_protocol import BINDING, EDGE, NEWS2, SCORE
from vitals.measuring_interval import ALLOWED_LATE_MS
from vitals.model_scores import SCORE_VALID_MS
from vitals.plan import EXPECTED, MonitoringPlan
from vitals.signs import SIGNS, VitalSign

MODELS: Final = ("sepsis", "heart")


def patient_table(
    bucket: str = TENANT, wards: str = WARDS, plan: MonitoringPlan | None = None, binding: str | None = None
) -> str:
    """One row per patient, most severe first: red alarms, then the last NEWS2, then the highest other alarm.

    A sign is `value (+points) age` while it is valid for scoring, and a dash with its age afterwards. NEWS2 is computed
    from the signs that are valid at the end of the time range.

    Args:
        plan: how long signs are valid; default: as for a patient without orders.
        binding: only this patient.
    """
    one = "" if binding is None else f' and r.binding == "{binding}"'
    streams = (
        "locations", "scores", "seen", "models", "model_ages", "alarm_text", "alarm_priority", "alarm_by", "more",
    )  # fmt: skip
    return f"""{HEAD}
{SPAN_FUNCTION}
{_CELL_FUNCTIONS}
{locations(bucket, one)}
{open_alarms_stream(bucket, one)}
{_score_streams(bucket, one)}
{_highest_alarm_streams()}
{one_row_per_patient(streams, _patient_columns())}
  |> filter(fn: (r) => r.valid_to_ms == " " or whole(t: r.valid_to_ms) > now_ms)
{in_wards(wards)}  |> map(fn: (r) => {{
{_assignments(plan or MonitoringPlan())}

    return {{
{_patient_row()}
        }}
  }})
  |> sort(columns: ["bed"])
  |> sort(columns: ["rank"], desc: true)"""


_NAMES: Final = tuple(spec.sign.value for spec in SCORED)
_CELL_FUNCTIONS: Final = """whole = (t) => if t == " " then 0 else int(v: float(v: t))
tenths = (t) => if t == " " then " " else string(v: float(v: int(v: float(v: t) * 10.0 + 0.5)) / 10.0)
cell = (shown, points, ok, known, age, due) => if not known then " " else if not ok then "– " + span(ms: age)
    else shown + (if points > 0 then " (+" + string(v: points) + ")" else "") + "  " + span(ms: age)
        + (if due then ", due" else "")
"""


def _patient_columns() -> list[str]:
    """Columns that the row of a patient is computed from."""
    ends = ("score", "score_seen_ms", "threshold", "threshold_seen_ms", "reason")
    return [
        *(f"{name}{end}" for name in _NAMES for end in ("", "_points", "_age_ms", "_seen_ms")),
        *("at_least", "at_least_seen_ms", "measure_every_ms", "no_score", "ward", "bed", "patient", "valid_to_ms"),
        *("devices", "sources"),
        *("alarm_text", "alarm_priority", "alarm_by", "alarm_more"),
        *(f"{model}_{end}" for model in MODELS for end in ends),
    ]


def _score_streams(bucket: str, one: str) -> str:
    """Streams of the last NEWS2 and model scores and of their ages."""
    return f"""scores = {select(bucket, NEWS2, LOOK_BACK, more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> toString()
  |> keep(columns: ["binding", "_field", "_value"])
seen = {select(bucket, NEWS2, LOOK_BACK, "at_least", *_NAMES, more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> map(fn: (r) => ({{
    binding: r.binding, _field: r._field + "_seen_ms", _value: string(v: now_ms - ms_of(t: r._time)),
  }}))
models = {select(bucket, SCORE, LOOK_BACK, "score", "threshold", "reason", more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> toString()
  |> map(fn: (r) => ({{binding: r.binding, _field: r.model + "_" + r._field, _value: r._value}}))
model_ages = {select(bucket, SCORE, LOOK_BACK, "score", "threshold", more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> map(fn: (r) => ({{
    binding: r.binding, _field: r.model + "_" + r._field + "_seen_ms", _value: string(v: now_ms - ms_of(t: r._time)),
  }}))"""


def _highest_alarm_streams() -> str:
    """Streams of the highest open alarm of each patient and of the number of further ones."""
    fields = {"alarm_text": "r.text", "alarm_priority": "string(v: r.priority)", "alarm_by": "r.by"}
    return f"""by_priority = open
  |> group(columns: ["binding"])
  |> sort(columns: ["priority", "unanswered", "is_news2", "at"], desc: true)
highest = by_priority |> limit(n: 1)
{long_form("highest", fields)}
more = by_priority |> count(column: "priority")
  |> map(fn: (r) => ({{binding: r.binding, _field: "alarm_more", _value: string(v: r.priority - 1)}}))"""


def _assignments(plan: MonitoringPlan) -> str:
    """Values that the row is computed from: for each sign its age `a_`, validity `k_` and points `p_`."""
    lines = ["every = whole(t: r.measure_every_ms)"]
    for name in _NAMES:
        lines.append(f"a_{name} = whole(t: r.{name}_age_ms) + whole(t: r.{name}_seen_ms)")
        lines.append(f'k_{name} = r.{name} != " " and a_{name} <= {plan.valid(VitalSign(name))}')
        lines.append(f"p_{name} = if k_{name} then whole(t: r.{name}_points) else 0")
        if name in ALLOWED_LATE_MS:  # valid, and older than the risk allows: it counts, and the score is not complete
            late_ms = ALLOWED_LATE_MS[VitalSign(name)]
            lines.append(f"d_{name} = k_{name} and every > 0 and a_{name} > every + {late_ms}")
    lines += [
        f"now = {' + '.join(f'p_{name}' for name in _NAMES)}",
        f"any_due = {' or '.join(f'd_{name}' for name in ALLOWED_LATE_MS)}",
        f"complete = not any_due and {' and '.join(f'k_{name}' for name in _NAMES)}",
        f"has_data = {' or '.join(f'k_{sign.value}' for sign in EXPECTED)}",
        "was = whole(t: r.at_least)",
        # A patient without a score stands where an alarm of NEWS2 of that priority would.
        'is_red = r.no_score != " " and r.alarm_priority == "3"',
        'is_yellow = r.no_score != " " and r.alarm_priority == "2"',
        "alarmed = if is_red then 7 else if is_yellow then 5 else 0",
        "points = if was > now then was else now",
        "higher = if alarmed > points then alarmed else points",
        "single = " + " or ".join(f'r.{name}_points == "3"' for name in _NAMES),
        'bound = if complete then "" else "≥ "',  # what is missing may score
        "priority = whole(t: r.alarm_priority)",
    ]
    return "\n".join(f"    {line}" for line in lines)


def _patient_row() -> str:
    cells = (
        f'{name}: cell(shown: {_shown(name)}, points: p_{name}, ok: k_{name}, known: r.{name} != " ", age: a_{name}, '
        f"due: {f'd_{name}' if name in ALLOWED_LATE_MS else 'false'})"
        for name in _NAMES
    )
    models = (f"{model}: {_model_cell(model)}" for model in MODELS)
    separator = ",\n            "
    return f"""\
            bed: if r.bed == " " then "? " + strings.substring(v: r.binding, start: 0, end: 8) else r.bed,
            patient: r.patient,
            binding: r.binding,
            news2: if r.no_score != " " then r.no_score + ", no adult score"
                else if r.at_least == " " then "no data yet"
                else if not has_data
                then "was " + r.at_least + ", no data for " + span(ms: whole(t: r.at_least_seen_ms))
                else if complete then string(v: now)
                else if now < was then "≥ " + string(v: now) + ", was " + r.at_least
                else "≥ " + string(v: now),
            risk: if r.no_score != " " then "no adult score" else if r.at_least == " " then "unknown"
                else if higher >= 7 then "high"
                else if higher >= 5 then bound + "medium" else if single then bound + "low-medium"
                else if complete then "low" else "unknown",
            {separator.join(cells)},
            {separator.join(models)},
            alarm: if priority == 0 then " " else {priority_text("priority")} + " " + r.alarm_text
                + (if whole(t: r.alarm_more) > 0 then " (and " + r.alarm_more + " more)" else ""),
            acknowledged_by: if priority == 0 then " " else if r.alarm_by == " " then "not acknowledged"
                else r.alarm_by,
            devices: if r.devices == "-" then " " else r.devices,
            sources: if r.sources == "-" then " " else r.sources,
            rank: (if priority == 3 then 1000 else 0) + higher * 10 + priority,"""


def open_alarms(bucket: str = TENANT, wards: str = WARDS) -> str:
    """Alarms that are active, or ended without acknowledgement: by priority, unacknowledged ones first."""
    return f"""{HEAD}
{SPAN_FUNCTION}
{locations(bucket)}
{open_alarms_stream(bucket)}
{locations_or_none(["ward", "bed", "patient", "valid_to_ms"])}
{open_alarms_by_bed()}
rows
  |> group()
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
{in_wards(wards)}  |> map(fn: (r) => ({{
    priority: {priority_text("r.priority")},
    bed: r.bed,
    patient: r.patient,
    binding: r.binding,
    text: r.text,
    response: r.response,
    rule: r.rule,
    since: span(ms: now_ms - r.onset_ms),
    state: if r.latched then "ended, not acknowledged" else "open",
    acknowledged_by: if r.by == " " then "not acknowledged" else r.by,
    silenced_for: if r.silenced_ms > now_ms then span(ms: r.silenced_ms - now_ms) else " ",
    order: r.priority * 10 + (if r.by == " " then 1 else 0),
    onset_ms: r.onset_ms,
  }}))
  |> sort(columns: ["onset_ms"], desc: true)
  |> sort(columns: ["order"], desc: true)"""


def open_counts(bucket: str = TENANT, wards: str = WARDS) -> str:
    """Numbers of open alarms: red without an answer, red, yellow, cyan; no row if the database has no patients.

    They are counted within `reduce`: Flux 0.196.1 computes a `map` with nothing but constants in its branches for whole
    columns, and then loses the rows if all of them are alike.
    """
    names = ("red_unacknowledged", "red", "yellow", "cyan")
    counters = ", ".join(f"{name}: 0" for name in names)
    return f"""{HEAD}
{SPAN_FUNCTION}
{locations(bucket)}
{open_alarms_stream(bucket)}
{locations_or_none(["ward", "bed", "patient", "valid_to_ms"])}
{open_alarms_by_bed()}
placed = {select(bucket, BINDING, LOOK_BACK, "bed")}
  |> last()
  |> keep(columns: ["binding"])
scored = {select(bucket, NEWS2, LOOK_BACK, "at_least")}
  |> last()
  |> keep(columns: ["binding"])
counted = rows
  |> group()
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
{in_wards(wards)}  |> keep(columns: ["binding", "priority", "by"])
union(tables: [placed, scored, counted])
  |> group()
  |> map(fn: (r) => ({{binding: r.binding, priority: if exists r.priority then r.priority else 0,
    by: if exists r.by then r.by else "-"}}))
  |> reduce(
    identity: {{{counters}}},
    fn: (r, accumulator) => ({{
      red_unacknowledged: accumulator.red_unacknowledged + (if r.priority == 3 and r.by == " " then 1 else 0),
      red: accumulator.red + (if r.priority == 3 then 1 else 0),
      yellow: accumulator.yellow + (if r.priority == 2 then 1 else 0),
      cyan: accumulator.cyan + (if r.priority == 1 then 1 else 0),
    }}))"""


def edge_models(bucket: str = TENANT) -> str:
    """Models at every edge, from its last heartbeat."""
    return f"""{HEAD}
{SPAN_FUNCTION}
latest = {select(bucket, EDGE, LOOK_BACK, "model", "version")}
  |> last()
fields = latest |> toString() |> keep(columns: ["edge", "_field", "_value"])
seen = latest
  |> filter(fn: (r) => r._field == "model")
  |> map(fn: (r) => ({{edge: r.edge, _field: "last_heartbeat", _value: span(ms: now_ms - ms_of(t: r._time))}}))
{pivot("fields, seen", ("edge",), ("model", "version", "last_heartbeat"))}  |> map(fn: (r) => ({{
    edge: strings.substring(v: r.edge, start: 0, end: 8), model: r.model, version: r.version,
    last_heartbeat: r.last_heartbeat,
  }}))
  |> sort(columns: ["edge"])"""


def _shown(name: str) -> str:
    if name == VitalSign.CONSCIOUSNESS:
        i = f"whole(t: r.{name})"
        return f'strings.substring(v: "ACVPU", start: {i}, end: {i} + 1)'
    if name == VitalSign.SUPPLEMENTAL_OXYGEN:
        return f'(if r.{name} == "0" then "air" else r.{name})'
    decimals = next(spec.decimals for spec in SIGNS if spec.sign == name)
    return f"tenths(t: r.{name})" if decimals else f"r.{name}"


def _model_cell(model: str) -> str:
    """The score of a model: a dash if older than its validity; the reason if the model abstains."""
    return (
        f'if r.{model}_threshold == " " then " "'
        f" else if whole(t: r.{model}_threshold_seen_ms) > {SCORE_VALID_MS}"
        f' then "– " + span(ms: whole(t: r.{model}_threshold_seen_ms))'
        f' else if r.{model}_score == " " or r.{model}_score_seen_ms != r.{model}_threshold_seen_ms'
        f' then "abstains: " + r.{model}_reason'
        f' else tenths(t: string(v: float(v: r.{model}_score) * 100.0)) + " %"'
        f" + (if float(v: r.{model}_score) >= float(v: r.{model}_threshold)"
        f' then ", above threshold: " + r.{model}_reason else "")'
    )
