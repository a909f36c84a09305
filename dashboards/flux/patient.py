"""Flux queries of the Patient dashboard."""

from dashboards.flux.parts import (
    HEAD,
    PATIENT,
    SCORED,
    SPAN_FUNCTION,
    TENANT,
    alarm_revisions,
    pivot,
    priority_text,
    select,
)
from dashboards.flux.ward import patient_table
from stream.store.line_protocol import FRESHNESS, MINUTE, NEWS2, OBSERVATION, SCORE
from vitals.messages import Consciousness
from vitals.plan import MonitoringPlan
from vitals.signs import SIGNS, VitalSign


def patient_row(bucket: str = TENANT, plan: MonitoringPlan | None = None) -> str:
    """The row of the ward table for one patient."""
    return patient_table(bucket, ".*", plan, PATIENT)


def sign_trend(sign: VitalSign, bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Minimum, mean and maximum of a sign; windows without measurements are empty, so that no line crosses them."""
    parts = [
        f"""{field}_of = from(bucket: "{bucket}_1m")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{MINUTE}" and r.binding == "{binding}" and r.sign == "{sign.value}")
  |> filter(fn: (r) => r._field == "{field}")
  |> aggregateWindow(every: v.windowPeriod, fn: {field}, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field"])"""
        for field in ("min", "mean", "max")
    ]
    return "\n".join(parts) + "\nunion(tables: [min_of, mean_of, max_of])"


def news2_trend(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Lower bound and total of NEWS2, the maximum of each window. There is no total while a sign is missing."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{NEWS2}" and r.binding == "{binding}")
  |> filter(fn: (r) => r._field == "at_least" or r._field == "total")
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field"])"""


def news2_parts(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """NEWS2 points of each sign."""
    fields = " or ".join(f'r._field == "{spec.sign.value}_points"' for spec in SCORED)
    return f"""import "strings"

from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{NEWS2}" and r.binding == "{binding}")
  |> filter(fn: (r) => {fields})
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field"])"""


def freshness_trend(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Freshness of each sign: FRESH, LATE, STALE or LOST; including the state at the start of the range."""
    return f"""{HEAD}
begin = v.timeRangeStart
states = (start, stop) => from(bucket: "{bucket}")
  |> range(start: start, stop: stop)
  |> filter(fn: (r) => r._measurement == "{FRESHNESS}" and r.binding == "{binding}" and r._field == "state")
before = states(start: date.sub(from: begin, d: 24h), stop: begin) |> last()
  |> map(fn: (r) => ({{r with _time: begin}}))
  |> drop(columns: ["_start", "_stop"])
inside = states(start: begin, stop: stop) |> drop(columns: ["_start", "_stop"])
union(tables: [before, inside])
  |> group(columns: ["sign"])
  |> sort(columns: ["_time"])
  |> keep(columns: ["_time", "_value", "sign"])"""


def score_trend(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Scores of the models and their thresholds. Windows without a score are empty."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{SCORE}" and r.binding == "{binding}")
  |> filter(fn: (r) => r._field == "score" or r._field == "threshold")
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field", "model"])"""


def score_reasons(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """The last five scores of each model with their reasons, or why the model abstains."""
    scores = f"""{select(bucket, SCORE, "v.timeRangeStart", "score", "threshold", "reason", "version")}
  |> filter(fn: (r) => r.binding == "{binding}")
  |> toString()
  |> keep(columns: ["model", "_time", "_field", "_value"])"""
    return f"""{HEAD}
{SPAN_FUNCTION}
percent = (t) => string(v: float(v: int(v: float(v: t) * 1000.0 + 0.5)) / 10.0) + " %"
{pivot(scores, ("model", "_time"), ("score", "threshold", "reason", "version"))}  |> group(columns: ["model"])
  |> sort(columns: ["_time"], desc: true)
  |> limit(n: 5)
  |> map(fn: (r) => ({{
    at: r._time, model: r.model, version: r.version, reason: r.reason, age: span(ms: now_ms - ms_of(t: r._time)),
    outcome: if r.score == " " then "abstains" else if float(v: r.score) >= float(v: r.threshold) then "above threshold"
      else "below threshold",
    probability: if r.score == " " then "–" else percent(t: r.score),
    threshold: percent(t: r.threshold),
  }}))
  |> group()
  |> sort(columns: ["at"], desc: true)"""


def observations(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """What people observed of one patient, newest first."""
    names = (*(spec.sign.value for spec in SIGNS), "inspired_oxygen", "glucose")
    texts = ("by", "oxygen_device", "note", "refused")
    seen = f"""{select(bucket, OBSERVATION, "v.timeRangeStart", *names, *texts)}
  |> filter(fn: (r) => r.binding == "{binding}")
  |> toString()
  |> keep(columns: ["binding", "_time", "_field", "_value"])"""
    letters = " else ".join(f'if int(v: float(v: t)) == {int(level)} then "{level.letter}"' for level in Consciousness)
    cells = ", ".join(
        f"{name}: {f'letter(t: r.{name})' if name == VitalSign.CONSCIOUSNESS else f'r.{name}'}"
        for name in (*names, *texts)
    )
    return f"""{HEAD}
letter = (t) => if t == " " then " " else {letters} else "?"
{pivot(seen, ("binding", "_time"), (*names, *texts))}  |> group()
  |> map(fn: (r) => ({{at: r._time, {cells}}}))
  |> sort(columns: ["at"], desc: true)"""


def alarm_annotations(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Alarms as annotations, from onset to end, with the last text of each."""
    return f"""{HEAD}
{alarm_revisions(bucket, f' and r.binding == "{binding}"')}
  |> filter(fn: (r) => not r.retrospective)
  |> group(columns: ["alarm_id"])
  |> sort(columns: ["revision"])
  |> reduce(
    identity: {{first: 0, last: 0, priority: 0, text: " ", rule: " ", over: false, by: " "}},
    fn: (r, accumulator) => ({{
      first: if accumulator.first == 0 then int(v: r._time) else accumulator.first,
      last: int(v: r._time),
      priority: if r.priority > accumulator.priority then r.priority else accumulator.priority,
      text: r.text, rule: r.rule, over: r.state == "cleared",
      by: r.acknowledged_by,
    }}))
  |> group()
  |> filter(fn: (r) => r.last >= int(v: v.timeRangeStart) or not r.over)
  |> map(fn: (r) => ({{
    time: time(v: r.first), timeEnd: if r.over then time(v: r.last) else stop, title: {priority_text("r.priority")},
    text: r.text + (if r.by == " " then "" else "; acknowledged by " + r.by), tags: r.rule,
  }}))
  |> sort(columns: ["time"])"""


def alarm_history(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Every change of every alarm of one patient, newest first."""
    return f"""{HEAD}
{alarm_revisions(bucket, f' and r.binding == "{binding}"')}
  |> filter(fn: (r) => r._time >= v.timeRangeStart)
  |> map(fn: (r) => ({{
    at: r._time, priority: {priority_text("r.priority")},
    state: if r.latched then "ended, not acknowledged" else r.state,
    text: r.text, response: r.response, rule: r.rule, basis: r.basis, acknowledged_by: r.acknowledged_by,
  }}))
  |> sort(columns: ["at"], desc: true)"""
