"""Flux queries of the Pipeline dashboard."""

from dashboards.flux.parts import HEAD, LOOK_BACK, SPAN_FUNCTION, TENANT, one_row_per_patient, select, stage_ages
from stream.store.line_protocol import DEAD_LETTER, EDGE, EDGE_ALARM, PIPELINE, READING


def reading_rate(bucket: str = TENANT) -> str:
    """Stored readings per second, by event time."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{READING}" and r._field == "counter")
  |> group()
  |> aggregateWindow(every: v.windowPeriod, fn: count, createEmpty: true, timeSrc: "_start")
  |> map(fn: (r) => ({{_time: r._time, _field: "readings/s",
    _value: float(v: r._value) / (float(v: int(v: v.windowPeriod)) / 1000000000.0)}}))"""


def partition_trend(field: str, bucket: str = TENANT) -> str:
    """One metric of each partition: `lag`, `worst_age_ms`, `unanswered` or `patients`."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{PIPELINE}" and r._field == "{field}")
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field", "partition"])"""


def dead_letters(bucket: str = TENANT) -> str:
    """Number of dead letters, by stage and reason."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{DEAD_LETTER}" and r._field == "count")
  |> group(columns: ["stage", "reason"])
  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: true, timeSrc: "_start")
  |> map(fn: (r) => ({{_time: r._time, _field: r.stage + ": " + r.reason, _value: r._value,
    stage: r.stage, reason: r.reason}}))"""


def rejected_frames(bucket: str = TENANT) -> str:
    """Frames that edges rejected and duplicate frames, in each window. Handles restarts of the counters."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{EDGE}")
  |> filter(fn: (r) => r._field == "rejected" or r._field == "duplicates")
  |> difference(nonNegative: true)
  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field", "edge"])"""


def edges(bucket: str = TENANT) -> str:
    """Every edge with a heartbeat within a day, longest silence first."""
    numbers = ("outbox_rows", "outbox_oldest_ms", "outbox_used", "skew_ms", "rejected", "local_alarms", "uptime_ms")
    columns = (*numbers, "model", "version", "outbox_rows_seen_ms", "outbox_oldest_ms_seen_ms")
    return f"""{HEAD}
{SPAN_FUNCTION}
whole = (t) => if t == " " then 0 else int(v: float(v: t))
latest = {select(bucket, EDGE, LOOK_BACK)}
  |> last()
fields = latest |> toString()
  |> map(fn: (r) => ({{binding: r.edge, _field: r._field, _value: r._value}}))
seen = latest
  |> map(fn: (r) => ({{binding: r.edge, _field: r._field + "_seen_ms", _value: string(v: now_ms - ms_of(t: r._time))}}))
{one_row_per_patient(["fields", "seen"], columns)}
  |> map(fn: (r) => ({{
    edge: strings.substring(v: r.binding, start: 0, end: 8),
    last_heartbeat: span(ms: whole(t: r.outbox_rows_seen_ms)),
    silent_s: whole(t: r.outbox_rows_seen_ms) / 1000,
    backlog: whole(t: r.outbox_rows),
    oldest: if whole(t: r.outbox_rows) == 0 or r.outbox_oldest_ms_seen_ms != r.outbox_rows_seen_ms then " "
      else span(ms: whole(t: r.outbox_oldest_ms)),
    disk: (if r.outbox_used == " " then 0.0 else float(v: r.outbox_used)) * 100.0,
    clock_skew_s: float(v: whole(t: r.skew_ms)) / 1000.0,
    rejected: whole(t: r.rejected),
    local_alarms: whole(t: r.local_alarms),
    uptime: span(ms: whole(t: r.uptime_ms)),
    model: r.model,
    version: r.version,
  }}))
  |> sort(columns: ["silent_s"], desc: true)"""


def edge_alarms(bucket: str = TENANT) -> str:
    """Alarms that edges detected, by rule."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{EDGE_ALARM}" and r._field == "revision")
  |> filter(fn: (r) => r._value == 0)
  |> group(columns: ["rule"])
  |> count()
  |> group()
  |> map(fn: (r) => ({{rule: r.rule, alarms: r._value}}))
  |> sort(columns: ["alarms"], desc: true)"""


def stages(bucket: str = TENANT) -> str:
    """Time since the newest data of each stage of the pipeline."""
    return f"""{HEAD}
{SPAN_FUNCTION}
{stage_ages(bucket)}
stages
  |> map(fn: (r) => ({{stage: r.stage, last_data: if r.ms < 0 then "more than a day ago" else span(ms: r.ms),
    silent_s: if r.ms < 0 then 86400 else r.ms / 1000}}))
  |> sort(columns: ["stage"])"""
