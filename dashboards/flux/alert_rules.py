"""Flux queries of the alert rules.

Each returns one series per stay or stage; a last value other than 0 fires. What identifies a series (its labels) does
not depend on the reason, so that a stay with two reasons is one alert.
They contain no `$`: Grafana would replace it in provisioning files.
"""

from typing import Final

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

RED_AFTER_MS: Final = 60_000
"""A red alarm counts after this time without an answer; the rule then waits another minute."""


def patient_unattended(bucket: str) -> str:
    """One series per stay, in minutes.

    Positive: a red alarm has had no answer for so long. Negative: there has been no data for so long, which is longer
    than `vitals.freshness` permits for the last NEWS2. The red alarm counts if both are true. 0: neither.
    """
    limits = " else ".join(f"if news2 >= {lowest} then {lost}" for lowest, _, lost in BY_NEWS2[:-1])
    columns = ("bed", "patient", "valid_from_ms", "valid_to_ms", "red_ms", "heard_ms", "at_least")
    unknown = BY_NEWS2[-2][2]
    return f"""{HEAD}
{SPAN_FUNCTION}
whole = (t) => if t == " " then 0 else int(v: float(v: t))
limit = (news2) => {limits} else {BY_NEWS2[-1][2]}
minutes = (ms) => float(v: ms) / 60000.0
{locations(bucket)}
{open_alarms_stream(bucket)}
red = open
  |> filter(fn: (r) => r.priority == 3 and r.by == " " and r.silenced_ms <= now_ms)
  |> group(columns: ["binding"])
  |> min(column: "onset_ms")
  |> map(fn: (r) => ({{binding: r.binding, _field: "red_ms", _value: string(v: r.onset_ms)}}))
heard = {select(bucket, READING, LOOK_BACK, "counter")}
  |> last()
  |> map(fn: (r) => ({{binding: r.binding, _field: "heard_ms", _value: string(v: ms_of(t: r._time))}}))
last_news2 = {select(bucket, NEWS2, LOOK_BACK, "at_least")}
  |> last()
  |> toString()
  |> keep(columns: ["binding", "_field", "_value"])
{one_row_per_patient(["locations", "red", "heard", "last_news2"], columns)}
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
  |> map(fn: (r) => ({{r with
    red_for: if r.red_ms == " " then 0 else now_ms - whole(t: r.red_ms),
    silent: now_ms - (if r.heard_ms == " " then whole(t: r.valid_from_ms) else whole(t: r.heard_ms)),
    most: if r.at_least == " " then {unknown} else limit(news2: whole(t: r.at_least)),
  }}))
  |> map(fn: (r) => ({{_time: stop,
    _value: if r.red_for >= {RED_AFTER_MS} then minutes(ms: r.red_for)
      else if r.silent > r.most then -minutes(ms: r.silent) else 0.0,
    bed: if r.bed == " " then "unknown bed" else r.bed,
    patient: if r.patient == " " then "unknown" else r.patient,
    stay: strings.substring(v: r.binding, start: 0, end: 8)}}))
  |> group(columns: ["bed", "patient", "stay"])"""


def pipeline_silent(bucket: str) -> str:
    """1 for every stage without data for three minutes, else 0; there is always a row for each stage."""
    return f"""{HEAD}
{SPAN_FUNCTION}
{stage_ages(bucket)}
stages
  |> map(fn: (r) => ({{_time: stop, stage: r.stage, _value: if r.ms < 0 or r.ms > {SILENT_MS} then 1.0 else 0.0}}))
  |> group(columns: ["stage"])"""
