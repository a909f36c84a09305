"""Flux queries of the Alarm quality dashboard."""

from dashboards.flux.parts import HEAD, TENANT, alarms_in_range, priority_text
from stream.store.line_protocol import MINUTE
from vitals.signs import VitalSign


def alarm_load(bucket: str = TENANT) -> str:
    """By class and priority: number of alarms, alarms per patient-day, shares. Like `vitals.alarm_load`.

    An alarm counts in the period in which it became active. A patient-day is 1440 minutes with a heart rate.
    """
    return f"""{HEAD}
{alarms_in_range(bucket)}
counted = from(bucket: "{bucket}_1m")
  |> range(start: v.timeRangeStart, stop: stop)
  |> filter(fn: (r) => r._measurement == "{MINUTE}" and r.sign == "{VitalSign.HEART_RATE.value}")
  |> filter(fn: (r) => r._field == "count")
  |> count()
  |> group()
  |> keep(columns: ["_value"])
minutes = union(tables: [counted, array.from(rows: [{{_value: 0}}])]) |> sum() |> findColumn(
  fn: (key) => true, column: "_value",
)
days = float(v: minutes[0]) / 1440.0
share = (n, of) => float(v: n) / float(v: of) * 100.0
counts = lives
  |> group(columns: ["kind", "priority"])
  |> reduce(
    identity: {{alarms: 0, answered: 0, alone: 0}},
    fn: (r, accumulator) => ({{
      alarms: accumulator.alarms + 1,
      answered: accumulator.answered + (if r.by != " " then 1 else 0),
      alone: accumulator.alone + (if r.alone then 1 else 0),
    }}))
  |> map(fn: (r) => ({{class: r.kind + " " + string(v: r.priority), kind: r.kind, priority: r.priority,
    alarms: r.alarms, per_patient_day: if days > 0.0 then float(v: r.alarms) / days else 0.0,
    acknowledged: share(n: r.answered, of: r.alarms), cleared_alone: share(n: r.alone, of: r.alarms)}}))
counts
  |> group()
  |> map(fn: (r) => ({{kind: r.kind, priority: {priority_text("r.priority")}, alarms: r.alarms,
    per_patient_day: r.per_patient_day, acknowledged: r.acknowledged, cleared_alone: r.cleared_alone,
    order: (if r.kind == "physiological" then 0 else 10) - r.priority}}))
  |> sort(columns: ["order"])"""


def answer_times(bucket: str = TENANT) -> str:
    """Median and 95th percentile of the time to the last acknowledgement, by class and priority."""
    return f"""{HEAD}
{alarms_in_range(bucket)}
answered = lives |> filter(fn: (r) => r.answer_ms >= 0) |> group(columns: ["kind", "priority"])
  |> map(fn: (r) => ({{kind: r.kind, priority: r.priority, _value: float(v: r.answer_ms) / 1000.0}}))
middle = answered |> quantile(q: 0.5, method: "exact_mean") |> map(fn: (r) => ({{r with what: "median"}}))
slow = answered |> quantile(q: 0.95, method: "exact_selector") |> map(fn: (r) => ({{r with what: "p95"}}))
union(tables: [middle, slow])
  |> group(columns: ["kind", "priority"])
  |> reduce(
    identity: {{median_s: 0.0, p95_s: 0.0}},
    fn: (r, accumulator) => ({{
      median_s: if r.what == "median" then r._value else accumulator.median_s,
      p95_s: if r.what == "p95" then r._value else accumulator.p95_s,
    }}))
  |> group()
  |> map(fn: (r) => ({{kind: r.kind, priority: {priority_text("r.priority")}, median_s: r.median_s, p95_s: r.p95_s,
    order: (if r.kind == "physiological" then 0 else 10) - r.priority}}))
  |> sort(columns: ["order"])"""


def alarms_by_rule(bucket: str = TENANT) -> str:
    """Number of alarms by rule, and the share that ended without acknowledgement."""
    return f"""{HEAD}
{alarms_in_range(bucket)}
lives
  |> group(columns: ["rule"])
  |> reduce(
    identity: {{alarms: 0, alone: 0, patients: ""}},
    fn: (r, accumulator) => ({{
      alarms: accumulator.alarms + 1, alone: accumulator.alone + (if r.alone then 1 else 0),
      patients: if strings.containsStr(v: accumulator.patients, substr: r.binding) then accumulator.patients
        else accumulator.patients + r.binding,
    }}))
  |> group()
  |> map(fn: (r) => ({{rule: r.rule, alarms: r.alarms, patients: strings.strlen(v: r.patients) / 32,
    cleared_alone: float(v: r.alone) / float(v: r.alarms) * 100.0}}))
  |> sort(columns: ["alarms"], desc: true)"""


def alarms_over_time(bucket: str = TENANT) -> str:
    """Number of new alarms over time, by class."""
    return f"""{HEAD}
{alarms_in_range(bucket)}
lives
  |> group(columns: ["kind"])
  |> map(fn: (r) => ({{_time: time(v: r.began_ms * 1000000), kind: r.kind, _value: 1}}))
  |> sort(columns: ["_time"])
  |> range(start: v.timeRangeStart, stop: stop)
  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: true, timeSrc: "_start")
  |> map(fn: (r) => ({{
    _time: r._time, _value: if exists r._value then r._value else 0, _field: r.kind, kind: r.kind,
  }}))"""
