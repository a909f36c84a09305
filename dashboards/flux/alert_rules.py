"""Flux queries of the alert rules.

Each returns one series per patient or stage; a last value other than 0 fires.
They contain no `$`: Grafana would replace it in provisioning files.
"""

from dashboards.flux.parts import (
    HEAD,
    LOOK_BACK,
    SILENT_MS,
    SPAN_FUNCTION,
    locations,
    one_row_per_patient,
    open_alarms_stream,
    select,
    stage_ages,
)
from stream.store.line_protocol import NEWS2, READING
from vitals.freshness import BY_NEWS2


def red_unanswered(bucket: str) -> str:
    """1 for every patient with an unacknowledged red alarm, else 0."""
    return f"""{HEAD}
{SPAN_FUNCTION}
{locations(bucket)}
{open_alarms_stream(bucket)}
red = open
  |> filter(fn: (r) => r.priority == 3 and r.by == " " and r.silenced_ms <= now_ms)
  |> group(columns: ["binding"])
  |> count(column: "priority")
  |> map(fn: (r) => ({{binding: r.binding, _field: "red", _value: "1"}}))
{one_row_per_patient(["locations", "red"], ("bed", "valid_to_ms", "red"))}
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
{_one_series_each('if r.red == " " then 0.0 else 1.0')}"""


def no_data(bucket: str) -> str:
    """1 for every patient without data for the time after which `vitals.freshness` says LOST, else 0."""
    limits = " else ".join(f"if news2 >= {lowest} then {lost}" for lowest, _, lost in BY_NEWS2[:-1])
    columns = ("bed", "valid_from_ms", "valid_to_ms", "heard_ms", "at_least")
    unknown = BY_NEWS2[-2][2]
    return f"""{HEAD}
{SPAN_FUNCTION}
whole = (t) => if t == " " then 0 else int(v: float(v: t))
limit = (news2) => {limits} else {BY_NEWS2[-1][2]}
{locations(bucket)}
heard = {select(bucket, READING, LOOK_BACK, "counter")}
  |> last()
  |> map(fn: (r) => ({{binding: r.binding, _field: "heard_ms", _value: string(v: ms_of(t: r._time))}}))
last_news2 = {select(bucket, NEWS2, LOOK_BACK, "at_least")}
  |> last()
  |> toString()
  |> keep(columns: ["binding", "_field", "_value"])
{one_row_per_patient(["locations", "heard", "last_news2"], columns)}
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
  |> map(fn: (r) => ({{r with
    silent: now_ms - (if r.heard_ms == " " then whole(t: r.valid_from_ms) else whole(t: r.heard_ms)),
    most: if r.at_least == " " then {unknown} else limit(news2: whole(t: r.at_least)),
  }}))
{_one_series_each("if r.silent > r.most then 1.0 else 0.0")}"""


def pipeline_silent(bucket: str) -> str:
    """1 for every stage without data for three minutes, else 0; there is always a row for each stage."""
    return f"""{HEAD}
{SPAN_FUNCTION}
{stage_ages(bucket)}
stages
  |> map(fn: (r) => ({{_time: stop, stage: r.stage, _value: if r.ms < 0 or r.ms > {SILENT_MS} then 1.0 else 0.0}}))
  |> group(columns: ["stage"])"""


def _one_series_each(value: str) -> str:
    return f"""  |> map(fn: (r) => ({{_time: stop, _value: {value},
    bed: if r.bed == " " then "unknown bed" else r.bed, binding: strings.substring(v: r.binding, start: 0, end: 8)}}))
  |> group(columns: ["bed", "binding"])"""
