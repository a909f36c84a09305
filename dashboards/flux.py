"""Flux: what every panel, variable and alert rule asks of InfluxDB. Pure: text out.

All times hang on the end of the range that is looked at, never on the clock, so that yesterday's ward can be looked
at as it was. A value is old by its own age, whoever wrote it: a processor that has stopped cannot keep it current.
What is read is named once for each use: the database works out `last` itself only for a stream that has one reader.
Dollars stand for Grafana's variables alone; what alert rules ask has none, for provisioning would replace them.

A text is never empty here, but a space: InfluxDB 2.7.12 (Flux 0.196.1) lets go of empty texts in the middle of a
column, so that what stands below moves up a row, to another patient. The line protocol writes none either.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from stream.store.line_protocol import (
    ALARM,
    BINDING,
    DEAD_LETTER,
    EDGE,
    EDGE_ALARM,
    FRESHNESS,
    MINUTE,
    NEWS2,
    PIPELINE,
    READING,
    SCORE,
)
from vitals.freshness import BY_NEWS2
from vitals.messages import Priority
from vitals.model_scores import SCORE_VALID_MS
from vitals.plan import EXPECTED, MonitoringPlan
from vitals.signs import SIGNS, VitalSign

TENANT: Final = "${tenant}"
WARDS: Final = "${ward:regex}"
PATIENT: Final = "${patient}"

SCORED: Final = tuple(spec for spec in SIGNS if spec.sign is not VitalSign.DIASTOLIC_BP)
"""The signs that NEWS2 is made of."""

MODELS: Final = ("sepsis", "heart")
PRIORITIES: Final = {Priority.HIGH: "*** red", Priority.MEDIUM: "** yellow", Priority.LOW: "* cyan"}
"""IEC 60601-1-8: colours, and marks for those who do not see them."""

_HEAD: Final = 'import "array"\nimport "date"\nimport "join"\nimport "strings"\n\nstop = v.timeRangeStop\n'
_LOOK_BACK: Final = "date.sub(from: stop, d: 24h)"
_ALARMS_BACK: Final = "date.sub(from: stop, d: 14d)"

_SPAN: Final = """ms_of = (t) => int(v: t) / 1000000
now_ms = ms_of(t: stop)
span = (ms) => {
    s = ms / 1000
    return if s < 0 then "0 s"
        else if s < 60 then string(v: s) + " s"
        else if s < 7200 then string(v: s / 60) + " min"
        else if s < 172800 then string(v: s / 3600) + " h"
        else string(v: s / 86400) + " d"
}
"""


def tenants() -> str:
    """Buckets that the data source may read and that have minutes beside them: one a tenant."""
    return (
        'import "strings"\n\nbuckets()\n  |> filter(fn: (r) => strings.hasSuffix(v: r.name, suffix: "_1m"))\n'
        '  |> map(fn: (r) => ({text: strings.trimSuffix(v: r.name, suffix: "_1m")}))\n  |> sort(columns: ["text"])'
    )


def wards(bucket: str = TENANT) -> str:
    """Wards of which a bed was told within a day."""
    return (
        f"{_HEAD}{_from(bucket, BINDING, _LOOK_BACK, 'bed')}\n  |> last()\n"
        '  |> group()\n  |> distinct(column: "ward")\n  |> map(fn: (r) => ({text: r._value}))\n'
        '  |> sort(columns: ["text"])'
    )


def patients(bucket: str = TENANT, wards: str = WARDS) -> str:
    """Everybody who was in these wards within a day, as `bed, patient | binding`."""
    return (
        f"{_HEAD}{_placed(bucket)}\n"
        + _pivoted(["placed"], ("ward", "bed", "patient"))
        + _in_wards(wards)
        + '  |> map(fn: (r) => ({text: (if r.bed == " " then "?" else r.bed) + ", " + r.patient'
        ' + " | " + r.binding}))\n'
        '  |> sort(columns: ["text"])'
    )


def ward(
    bucket: str = TENANT, wards: str = WARDS, plan: MonitoringPlan | None = None, binding: str | None = None
) -> str:
    """One row a patient, the worst first: red alarms, then NEWS2 as last seen, then the worst other alarm.

    A sign is `value (+points) age` while it may be scored and a dash with its age afterwards. NEWS2 is made anew of
    what may be scored at this moment.
    """
    orders = plan or MonitoringPlan()
    one = "" if binding is None else f' and r.binding == "{binding}"'
    names = [spec.sign.value for spec in SCORED]
    columns = [
        *(f"{name}{end}" for name in names for end in ("", "_points", "_age_ms", "_seen_ms")),
        "at_least", "at_least_seen_ms", "ward", "bed", "patient", "valid_to_ms", "alarm_text", "alarm_priority",
        "alarm_by", "alarm_more",
        *(f"{model}_{what}" for model in MODELS for what in ("score", "score_seen_ms", "threshold",
                                                             "threshold_seen_ms", "reason")),
    ]  # fmt: skip
    lets = []
    for name in names:
        valid = orders.valid(VitalSign(name))
        lets.append(f"a_{name} = whole(t: r.{name}_age_ms) + whole(t: r.{name}_seen_ms)")
        lets.append(f'k_{name} = r.{name} != " " and a_{name} <= {valid}')
        lets.append(f"p_{name} = if k_{name} then whole(t: r.{name}_points) else 0")
    now = " + ".join(f"p_{name}" for name in names)
    complete = " and ".join(f"k_{name}" for name in names)
    heard = " or ".join(f"k_{sign.value}" for sign in EXPECTED)
    three = " or ".join(f'r.{name}_points == "3"' for name in names)
    cells = ",\n            ".join(
        f'{name}: cell(shown: {_shown(name)}, points: p_{name}, ok: k_{name}, known: r.{name} != " ", age: a_{name})'
        for name in names
    )
    models = ",\n            ".join(f"{model}: {_model_cell(model)}" for model in MODELS)
    return f"""{_HEAD}
{_SPAN}
whole = (t) => if t == " " then 0 else int(v: float(v: t))
tenths = (t) => if t == " " then " " else string(v: float(v: int(v: float(v: t) * 10.0 + 0.5)) / 10.0)
cell = (shown, points, ok, known, age) => if not known then " " else if not ok then "– " + span(ms: age)
    else shown + (if points > 0 then " (+" + string(v: points) + ")" else "") + "  " + span(ms: age)

{_placed(bucket, one)}
{_open_alarms(bucket, one)}
scores = {_from(bucket, NEWS2, _LOOK_BACK, more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> toString()
  |> keep(columns: ["binding", "_field", "_value"])
seen = {_from(bucket, NEWS2, _LOOK_BACK, "at_least", *names, more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> map(fn: (r) => ({{
    binding: r.binding, _field: r._field + "_seen_ms", _value: string(v: now_ms - ms_of(t: r._time)),
  }}))
models = {_from(bucket, SCORE, _LOOK_BACK, "score", "threshold", "reason", more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> toString()
  |> map(fn: (r) => ({{binding: r.binding, _field: r.model + "_" + r._field, _value: r._value}}))
asked = {_from(bucket, SCORE, _LOOK_BACK, "score", "threshold", more=one)}
  |> last()
  |> group(columns: ["_field"])
  |> map(fn: (r) => ({{
    binding: r.binding, _field: r.model + "_" + r._field + "_seen_ms", _value: string(v: now_ms - ms_of(t: r._time)),
  }}))
worst = open
  |> group(columns: ["binding"])
  |> sort(columns: ["priority", "unanswered", "says_most", "at"], desc: true)
worst_of = worst |> limit(n: 1)
{_long("worst_of", {"alarm_text": "r.text", "alarm_priority": "string(v: r.priority)", "alarm_by": "r.by"})}
more = worst |> count(column: "priority")
  |> map(fn: (r) => ({{binding: r.binding, _field: "alarm_more", _value: string(v: r.priority - 1)}}))
{_pivoted(["placed", "scores", "seen", "models", "asked", "alarm_text", "alarm_priority", "alarm_by", "more"], columns)}
  |> filter(fn: (r) => r.valid_to_ms == " " or whole(t: r.valid_to_ms) > now_ms)
{_in_wards(wards)}  |> map(fn: (r) => {{
    {_lines(lets, 4)}
    now = {now}
    complete = {complete}
    heard = {heard}
    was = whole(t: r.at_least)
    worst = if was > now then was else now
    single = {three}
    priority = whole(t: r.alarm_priority)

    return {{
            bed: if r.bed == " " then "? " + strings.substring(v: r.binding, start: 0, end: 8) else r.bed,
            patient: r.patient,
            binding: r.binding,
            news2: if r.at_least == " " then "no data yet"
                else if not heard then "was " + r.at_least + ", no data for " + span(ms: whole(t: r.at_least_seen_ms))
                else if complete then string(v: now)
                else if now < was then "≥ " + string(v: now) + ", was " + r.at_least
                else "≥ " + string(v: now),
            risk: if r.at_least == " " then "unknown" else if worst >= 7 then "high" else if worst >= 5 then "medium"
                else if single then "low-medium" else "low",
            {cells},
            {models},
            alarm: if priority == 0 then " " else {_marks("priority")} + " " + r.alarm_text
                + (if whole(t: r.alarm_more) > 0 then " (and " + r.alarm_more + " more)" else ""),
            acknowledged_by: if priority == 0 then " " else if r.alarm_by == " " then "nobody" else r.alarm_by,
            rank: (if priority == 3 then 1000 else 0) + worst * 10 + priority,
        }}
  }})
  |> sort(columns: ["bed"])
  |> sort(columns: ["rank"], desc: true)"""


def open_alarms(bucket: str = TENANT, wards: str = WARDS) -> str:
    """Every alarm that stands, or ended and was not looked at; the worst first, among equals the unanswered."""
    return f"""{_HEAD}
{_SPAN}
{_placed(bucket)}
{_open_alarms(bucket)}
{_where(["ward", "bed", "patient", "valid_to_ms"])}
{_open_by_bed()}
rows
  |> group()
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
{_in_wards(wards)}  |> map(fn: (r) => ({{
    priority: {_marks("r.priority")},
    bed: r.bed,
    patient: r.patient,
    binding: r.binding,
    text: r.text,
    response: r.response,
    rule: r.rule,
    since: span(ms: now_ms - r.onset_ms),
    state: if r.latched then "ended, nobody has looked" else "open",
    acknowledged_by: if r.by == " " then "nobody" else r.by,
    silenced_for: if r.silenced_ms > now_ms then span(ms: r.silenced_ms - now_ms) else " ",
    order: r.priority * 10 + (if r.by == " " then 1 else 0),
    onset_ms: r.onset_ms,
  }}))
  |> sort(columns: ["onset_ms"], desc: true)
  |> sort(columns: ["order"], desc: true)"""


def open_counts(bucket: str = TENANT, wards: str = WARDS) -> str:
    """How many alarms stand open: red without an answer, red, yellow, cyan."""
    return f"""{_HEAD}
{_SPAN}
{_placed(bucket)}
{_open_alarms(bucket)}
{_where(["ward", "bed", "patient", "valid_to_ms"])}
{_open_by_bed()}
nothing = array.from(rows: [{{red_unanswered: 0, red: 0, yellow: 0, cyan: 0}}])
counted = rows
  |> group()
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
{_in_wards(wards)}  |> map(fn: (r) => ({{
    red_unanswered: if r.priority == 3 and r.by == " " then 1 else 0,
    red: if r.priority == 3 then 1 else 0,
    yellow: if r.priority == 2 then 1 else 0,
    cyan: if r.priority == 1 then 1 else 0,
  }}))
union(tables: [nothing, counted])
  |> reduce(
    identity: {{red_unanswered: 0, red: 0, yellow: 0, cyan: 0}},
    fn: (r, accumulator) => ({{
      red_unanswered: accumulator.red_unanswered + r.red_unanswered, red: accumulator.red + r.red,
      yellow: accumulator.yellow + r.yellow, cyan: accumulator.cyan + r.cyan,
    }}))"""


def model_state(bucket: str = TENANT) -> str:
    """What judges at every edge, and how long ago it said so."""
    return f"""{_HEAD}
{_SPAN}
latest = {_from(bucket, EDGE, _LOOK_BACK, "model", "version")}
  |> last()
told = latest |> toString() |> keep(columns: ["edge", "_field", "_value"])
seen = latest
  |> filter(fn: (r) => r._field == "model")
  |> map(fn: (r) => ({{edge: r.edge, _field: "told", _value: span(ms: now_ms - ms_of(t: r._time))}}))
{_wide("told, seen", ("edge",), ("model", "version", "told"))}  |> map(fn: (r) => ({{
    edge: strings.substring(v: r.edge, start: 0, end: 8), model: r.model, version: r.version, told: r.told,
  }}))
  |> sort(columns: ["edge"])"""


def sign_trend(sign: VitalSign, bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Lowest, mean and highest of a sign; where nothing was measured there is nothing, and no line across."""
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
    """The lower bound, which is the total where nothing is missing; the worst of each window."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{NEWS2}" and r.binding == "{binding}")
  |> filter(fn: (r) => r._field == "at_least" or r._field == "total")
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field"])"""


def part_trend(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Points of each part of NEWS2."""
    fields = " or ".join(f'r._field == "{spec.sign.value}_points"' for spec in SCORED)
    return f"""import "strings"

from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{NEWS2}" and r.binding == "{binding}")
  |> filter(fn: (r) => {fields})
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field"])"""


def freshness_trend(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """FRESH, LATE, STALE, LOST of each sign; as it stood before the range begins, too."""
    return f"""{_HEAD}
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
    """What models say, and from where on they speak. Gaps are gaps."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{SCORE}" and r.binding == "{binding}")
  |> filter(fn: (r) => r._field == "score" or r._field == "threshold")
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field", "model"])"""


def reasons(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """What each model last said and why, or why it abstains."""
    said = f"""{_from(bucket, SCORE, "v.timeRangeStart", "score", "threshold", "reason", "version")}
  |> filter(fn: (r) => r.binding == "{binding}")
  |> toString()
  |> keep(columns: ["model", "_time", "_field", "_value"])"""
    return f"""{_HEAD}
{_SPAN}
percent = (t) => string(v: float(v: int(v: float(v: t) * 1000.0 + 0.5)) / 10.0) + " %"
{_wide(said, ("model", "_time"), ("score", "threshold", "reason", "version"))}  |> group(columns: ["model"])
  |> sort(columns: ["_time"], desc: true)
  |> limit(n: 5)
  |> map(fn: (r) => ({{
    at: r._time, model: r.model, version: r.version, reason: r.reason, age: span(ms: now_ms - ms_of(t: r._time)),
    says: if r.score == " " then "abstains" else if float(v: r.score) >= float(v: r.threshold) then "speaks"
      else "nothing to add",
    percent: if r.score == " " then "–" else percent(t: r.score),
    threshold: percent(t: r.threshold),
  }}))
  |> group()
  |> sort(columns: ["at"], desc: true)"""


def patient_now(bucket: str = TENANT, plan: MonitoringPlan | None = None) -> str:
    """The ward's row of one patient."""
    return ward(bucket, ".*", plan, PATIENT)


def alarm_marks(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Alarms as annotations: from when each began to stand to when it was over, with its last words."""
    return f"""{_HEAD}
{_revisions(bucket, f' and r.binding == "{binding}"')}
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
    time: time(v: r.first), timeEnd: if r.over then time(v: r.last) else stop, title: {_marks("r.priority")},
    text: r.text + (if r.by == " " then "" else "; acknowledged by " + r.by), tags: r.rule,
  }}))
  |> sort(columns: ["time"])"""


def alarm_history(bucket: str = TENANT, binding: str = PATIENT) -> str:
    """Every change of every alarm of one patient, the newest first."""
    return f"""{_HEAD}
{_revisions(bucket, f' and r.binding == "{binding}"')}
  |> filter(fn: (r) => r._time >= v.timeRangeStart)
  |> map(fn: (r) => ({{
    at: r._time, priority: {_marks("r.priority")}, state: if r.latched then "ended, nobody has looked" else r.state,
    text: r.text, response: r.response, rule: r.rule, basis: r.basis, acknowledged_by: r.acknowledged_by,
  }}))
  |> sort(columns: ["at"], desc: true)"""


def reading_rate(bucket: str = TENANT) -> str:
    """Readings a second, by event time."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{READING}" and r._field == "counter")
  |> group()
  |> aggregateWindow(every: v.windowPeriod, fn: count, createEmpty: true, timeSrc: "_start")
  |> map(fn: (r) => ({{_time: r._time, _field: "readings/s",
    _value: float(v: r._value) / (float(v: int(v: v.windowPeriod)) / 1000000000.0)}}))"""


def partition_trend(field: str, bucket: str = TENANT) -> str:
    """One measure of each partition: `lag`, `worst_age_ms`, `unanswered`, `patients`. Silence is a gap."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{PIPELINE}" and r._field == "{field}")
  |> aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field", "partition"])"""


def dead_letters(bucket: str = TENANT) -> str:
    """What could not be used, by stage and reason."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{DEAD_LETTER}" and r._field == "count")
  |> group(columns: ["stage", "reason"])
  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: true, timeSrc: "_start")
  |> map(fn: (r) => ({{_time: r._time, _field: r.stage + ": " + r.reason, _value: r._value,
    stage: r.stage, reason: r.reason}}))"""


def refused(bucket: str = TENANT) -> str:
    """Frames that edges refused, and frames that came again, in each window. A restart counts from nothing again."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{EDGE}")
  |> filter(fn: (r) => r._field == "rejected" or r._field == "duplicates")
  |> difference(nonNegative: true)
  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: true, timeSrc: "_start")
  |> keep(columns: ["_time", "_value", "_field", "edge"])"""


def edges(bucket: str = TENANT) -> str:
    """Every edge that was heard within a day: the longest silent first."""
    numbers = ("outbox_rows", "outbox_oldest_ms", "outbox_used", "skew_ms", "rejected", "local_alarms", "uptime_ms")
    return f"""{_HEAD}
{_SPAN}
whole = (t) => if t == " " then 0 else int(v: float(v: t))
latest = {_from(bucket, EDGE, _LOOK_BACK)}
  |> last()
told = latest |> toString()
  |> map(fn: (r) => ({{binding: r.edge, _field: r._field, _value: r._value}}))
seen = latest
  |> map(fn: (r) => ({{binding: r.edge, _field: r._field + "_seen_ms", _value: string(v: now_ms - ms_of(t: r._time))}}))
{_pivoted(["told", "seen"], (*numbers, "model", "version", "outbox_rows_seen_ms", "outbox_oldest_ms_seen_ms"))}
  |> map(fn: (r) => ({{
    edge: strings.substring(v: r.binding, start: 0, end: 8),
    heard: span(ms: whole(t: r.outbox_rows_seen_ms)),
    silent_s: whole(t: r.outbox_rows_seen_ms) / 1000,
    waiting: whole(t: r.outbox_rows),
    oldest: if whole(t: r.outbox_rows) == 0 or r.outbox_oldest_ms_seen_ms != r.outbox_rows_seen_ms then " "
      else span(ms: whole(t: r.outbox_oldest_ms)),
    disk: (if r.outbox_used == " " then 0.0 else float(v: r.outbox_used)) * 100.0,
    clock_skew_s: float(v: whole(t: r.skew_ms)) / 1000.0,
    refused: whole(t: r.rejected),
    sounded: whole(t: r.local_alarms),
    up: span(ms: whole(t: r.uptime_ms)),
    model: r.model,
    version: r.version,
  }}))
  |> sort(columns: ["silent_s"], desc: true)"""


def edge_alarms(bucket: str = TENANT) -> str:
    """What edges found by themselves, by rule."""
    return f"""from(bucket: "{bucket}")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "{EDGE_ALARM}" and r._field == "revision")
  |> filter(fn: (r) => r._value == 0)
  |> group(columns: ["rule"])
  |> count()
  |> group()
  |> map(fn: (r) => ({{rule: r.rule, alarms: r._value}}))
  |> sort(columns: ["alarms"], desc: true)"""


def hops(bucket: str = TENANT) -> str:
    """How long ago each hop was last heard."""
    return f"""{_HEAD}
{_SPAN}
{_hops(bucket)}
heard
  |> map(fn: (r) => ({{hop: r.hop, heard: if r.ms < 0 then "never within a day" else span(ms: r.ms),
    silent_s: if r.ms < 0 then 86400 else r.ms / 1000}}))
  |> sort(columns: ["hop"])"""


def alarm_load(bucket: str = TENANT) -> str:
    """By class and priority: alarms, each patient-day, shares, times to the answer. As `vitals.alarm_load` counts.

    An alarm belongs to the period in which it became active. A patient's day is 1440 minutes with a heart rate.
    """
    return f"""{_HEAD}
{_lives(bucket)}
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
  |> map(fn: (r) => ({{kind: r.kind, priority: {_marks("r.priority")}, alarms: r.alarms,
    per_patient_day: r.per_patient_day, acknowledged: r.acknowledged, cleared_alone: r.cleared_alone,
    order: (if r.kind == "physiological" then 0 else 10) - r.priority}}))
  |> sort(columns: ["order"])"""


def answer_times(bucket: str = TENANT) -> str:
    """Median and p95 from the call to the answer, by class and priority; of the last answer that each alarm had."""
    return f"""{_HEAD}
{_lives(bucket)}
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
  |> map(fn: (r) => ({{kind: r.kind, priority: {_marks("r.priority")}, median_s: r.median_s, p95_s: r.p95_s,
    order: (if r.kind == "physiological" then 0 else 10) - r.priority}}))
  |> sort(columns: ["order"])"""


def alarms_by_rule(bucket: str = TENANT) -> str:
    """Which rules ask for people, and how often nobody had to come."""
    return f"""{_HEAD}
{_lives(bucket)}
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
    """Alarms that began, by class."""
    return f"""{_HEAD}
{_lives(bucket)}
lives
  |> group(columns: ["kind"])
  |> map(fn: (r) => ({{_time: time(v: r.began_ms * 1000000), kind: r.kind, _value: 1}}))
  |> sort(columns: ["_time"])
  |> range(start: v.timeRangeStart, stop: stop)
  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: true, timeSrc: "_start")
  |> map(fn: (r) => ({{
    _time: r._time, _value: if exists r._value then r._value else 0, _field: r.kind, kind: r.kind,
  }}))"""


# What alert rules ask. One series for everybody: a last value that is not 0 alarms.


def rule_red_unanswered(bucket: str) -> str:
    """1 for every patient of whom a red alarm stands and nobody has acknowledged it, else 0."""
    return f"""{_HEAD}
{_SPAN}
{_placed(bucket)}
{_open_alarms(bucket)}
red = open
  |> filter(fn: (r) => r.priority == 3 and r.by == " " and r.silenced_ms <= now_ms)
  |> group(columns: ["binding"])
  |> count(column: "priority")
  |> map(fn: (r) => ({{binding: r.binding, _field: "red", _value: "1"}}))
{_pivoted(["placed", "red"], ("bed", "valid_to_ms", "red"))}
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
{_one_series_each('if r.red == " " then 0.0 else 1.0')}"""


def rule_no_data(bucket: str) -> str:
    """1 for every patient of whom nothing came for as long as `vitals.freshness` calls lost, else 0."""
    limits = " else ".join(f"if news2 >= {lowest} then {lost}" for lowest, _, lost in BY_NEWS2[:-1])
    unknown = BY_NEWS2[-2][2]
    return f"""{_HEAD}
{_SPAN}
whole = (t) => if t == " " then 0 else int(v: float(v: t))
limit = (news2) => {limits} else {BY_NEWS2[-1][2]}
{_placed(bucket)}
heard = {_from(bucket, READING, _LOOK_BACK, "counter")}
  |> last()
  |> map(fn: (r) => ({{binding: r.binding, _field: "heard_ms", _value: string(v: ms_of(t: r._time))}}))
ill = {_from(bucket, NEWS2, _LOOK_BACK, "at_least")}
  |> last()
  |> toString()
  |> keep(columns: ["binding", "_field", "_value"])
{_pivoted(["placed", "heard", "ill"], ("bed", "valid_from_ms", "valid_to_ms", "heard_ms", "at_least"))}
  |> filter(fn: (r) => r.valid_to_ms == " " or int(v: r.valid_to_ms) > now_ms)
  |> map(fn: (r) => ({{r with
    silent: now_ms - (if r.heard_ms == " " then whole(t: r.valid_from_ms) else whole(t: r.heard_ms)),
    most: if r.at_least == " " then {unknown} else limit(news2: whole(t: r.at_least)),
  }}))
{_one_series_each("if r.silent > r.most then 1.0 else 0.0")}"""


def rule_pipeline_silent(bucket: str) -> str:
    """1 for every hop that was not heard for three minutes, else 0; there is always a row."""
    return f"""{_HEAD}
{_SPAN}
{_hops(bucket)}
heard
  |> map(fn: (r) => ({{_time: stop, hop: r.hop, _value: if r.ms < 0 or r.ms > {SILENT_MS} then 1.0 else 0.0}}))
  |> group(columns: ["hop"])"""


SILENT_MS: Final = 180_000
"""A hop that says something every ten to sixty seconds, and has said nothing for so long, is silent."""


def _from(bucket: str, measurement: str, start: str, *fields: str, more: str = "") -> str:
    wanted = " or ".join(f'r._field == "{field}"' for field in fields)
    only = f"\n  |> filter(fn: (r) => {wanted})" if fields else ""
    return (
        f'from(bucket: "{bucket}")\n  |> range(start: {start}, stop: stop)\n'
        f'  |> filter(fn: (r) => r._measurement == "{measurement}"{more}){only}'
    )


def _placed(bucket: str, more: str = "") -> str:
    """Who is where, as ingest last told, in long form."""
    read = _from(bucket, BINDING, _LOOK_BACK, more=more)
    beds = _from(bucket, BINDING, _LOOK_BACK, "bed", more=more)
    newest = '|> last()\n  |> group(columns: ["_field"])\n  |> sort(columns: ["_time"])'
    return f"""told_placed = {read}
  {newest}
  |> toString()
  |> keep(columns: ["binding", "_field", "_value"])
told_ward = {beds}
  {newest}
  |> map(fn: (r) => ({{binding: r.binding, _field: "ward", _value: r.ward}}))
placed = union(tables: [told_placed, told_ward])"""


def _revisions(bucket: str, more: str = "") -> str:
    """Every announced change of alarms, each in its types; who has not answered is empty, no time is 0."""
    texts = ("alarm_id", "state", "text", "response", "kind", "basis", "acknowledged_by")
    numbers = ("revision", "priority", "onset_ms", "acknowledged_ms", "silenced_until_ms")
    flags = ("latched", "retrospective")
    found = _from(bucket, ALARM, _ALARMS_BACK, *texts, *numbers, *flags, more=more)
    long = f"""{found}
  |> group(columns: ["_field"])
  |> toString()
  |> map(fn: (r) => ({{point: r.binding + "/" + r.rule, _time: r._time, _field: r._field, _value: r._value}}))"""
    typed = [
        "binding: strings.substring(v: r.point, start: 0, end: 32)",
        "rule: strings.substring(v: r.point, start: 33, end: strings.strlen(v: r.point))",
        *(f"{name}: r.{name}" for name in texts),
        *(f'{name}: if r.{name} == " " then 0 else int(v: r.{name})' for name in numbers),
        *(f'{name}: r.{name} == "true"' for name in flags),
    ]
    wide = _wide(long, ("point", "_time"), (*texts, *numbers, *flags))
    return f"{wide}  |> map(fn: (r) => ({{_time: r._time, {', '.join(typed)}}}))"


def _open_alarms(bucket: str, more: str = "") -> str:
    """Alarms that stand, or ended and nobody has looked, each as it was last announced."""
    return f"""open = {_revisions(bucket, more)}
  |> group(columns: ["binding", "alarm_id"])
  |> sort(columns: ["revision"])
  |> last(column: "revision")
  |> filter(fn: (r) => not r.retrospective and (r.state == "active" or r.latched))
  |> map(fn: (r) => ({{
    binding: r.binding, alarm_id: r.alarm_id, rule: r.rule, priority: r.priority, text: r.text, latched: r.latched,
    response: r.response, onset_ms: r.onset_ms, at: r._time, by: r.acknowledged_by,
    unanswered: if r.acknowledged_by == " " then 1 else 0, says_most: if r.rule == "news2" then 1 else 0,
    silenced_ms: r.silenced_until_ms,
  }}))"""


def _lives(bucket: str) -> str:
    """One row for every alarm that became active within the range."""
    return f"""lives = {_revisions(bucket)}
  |> filter(fn: (r) => not r.retrospective)
  |> group(columns: ["binding", "rule", "kind", "alarm_id"])
  |> sort(columns: ["revision"])
  |> reduce(
    identity: {{began_ms: 0, priority: 0, by: " ", over: false, alone: false, calling_ms: -1, answer_ms: -1}},
    fn: (r, accumulator) => ({{
      began_ms: if r.revision == 0 and r.state == "active" then int(v: r._time) / 1000000 else accumulator.began_ms,
      priority: if r.priority > accumulator.priority then r.priority else accumulator.priority,
      by: r.acknowledged_by,
      over: accumulator.over or r.state == "cleared",
      alone: if r.state == "cleared" and not accumulator.over then r.acknowledged_by == " " else accumulator.alone,
      calling_ms: if r.acknowledged_by != " " then -1
        else if accumulator.calling_ms < 0 then int(v: r._time) / 1000000 else accumulator.calling_ms,
      answer_ms: if r.acknowledged_by != " " and accumulator.calling_ms >= 0
        then (if r.acknowledged_ms > accumulator.calling_ms then r.acknowledged_ms - accumulator.calling_ms else 0)
        else accumulator.answer_ms,
    }}))
  |> filter(fn: (r) => r.began_ms >= int(v: v.timeRangeStart) / 1000000)"""


def _where(columns: Iterable[str]) -> str:
    """Who is where, and one more, who is nobody: a join with an empty table is an error."""
    names = list(columns)
    nobody = ", ".join(f'{name}: " "' for name in names)
    known = _pivoted(["placed"], names).rstrip("\n")
    return f"""known = {known}
where = union(tables: [known, array.from(rows: [{{binding: "~", {nobody}}}])])"""


def _open_by_bed() -> str:
    """`rows`: `open` with where each patient is; one of whom nobody told stays. No alarm at all is no error."""
    return """none = array.from(rows: [{
  binding: "~", alarm_id: " ", rule: " ", priority: 0, text: " ", latched: false, response: " ", onset_ms: 0, at: stop,
  by: " ", unanswered: 0, says_most: 0, silenced_ms: 0,
}])
rows = join.left(
  left: union(tables: [open |> group(), none]), right: where |> group(),
  on: (l, r) => l.binding == r.binding,
  as: (l, r) => ({l with
    ward: if exists r.ward then r.ward else " ",
    bed: if exists r.bed then r.bed else "? " + strings.substring(v: l.binding, start: 0, end: 8),
    patient: if exists r.patient then r.patient else " ",
    valid_to_ms: if exists r.valid_to_ms then r.valid_to_ms else " ",
  }),
)
  |> filter(fn: (r) => r.binding != "~")"""


def _long(stream: str, columns: Mapping[str, str]) -> str:
    return "\n".join(
        f'{name} = {stream} |> map(fn: (r) => ({{binding: r.binding, _field: "{name}", _value: {what}}}))'
        for name, what in columns.items()
    )


def _pivoted(streams: Iterable[str], columns: Iterable[str]) -> str:
    """Long tables as one row a patient; every column is there and is text, a space where nothing is known."""
    return _wide(", ".join(streams), ("binding",), columns)


def _wide(streams: str, keys: Sequence[str], columns: Iterable[str]) -> str:
    """Fields as columns of text, one row for each of `keys`; what is missing is a space.

    A row of our own has every column, for one that nobody has is no column, and is dropped afterwards.
    """
    names = list(columns)
    ours = ", ".join(f'{key}: "~"' if key == keys[0] else f"{key}: stop" for key in keys)
    every = ",\n  ".join(f'{{{ours}, _field: "{name}", _value: " "}}' for name in names)
    by = ", ".join(f'"{key}"' for key in keys)
    kept = ", ".join(f"{key}: r.{key}" for key in keys)
    filled = ", ".join(f'{name}: if exists r.{name} then r.{name} else " "' for name in names)
    return f"""union(tables: [{streams}, array.from(rows: [
  {every},
])])
  |> group()
  |> pivot(rowKey: [{by}], columnKey: ["_field"], valueColumn: "_value")
  |> filter(fn: (r) => r.{keys[0]} != "~")
  |> map(fn: (r) => ({{{kept}, {filled}}}))
"""


def _in_wards(wards: str) -> str:
    return f"  |> filter(fn: (r) => r.ward =~ /^({wards})$/)\n"


def _one_series_each(value: str) -> str:
    return f"""  |> map(fn: (r) => ({{_time: stop, _value: {value},
    bed: if r.bed == " " then "unknown bed" else r.bed, binding: strings.substring(v: r.binding, start: 0, end: 8)}}))
  |> group(columns: ["bed", "binding"])"""


def _hops(bucket: str) -> str:
    def age(measurement: str, hop: str, *fields: str) -> str:
        return (
            f"{_from(bucket, measurement, _LOOK_BACK, *fields)}\n  |> last()\n"
            f'  |> map(fn: (r) => ({{hop: "{hop}", ms: now_ms - ms_of(t: r._time)}}))\n'
            f'  |> group(columns: ["hop"])\n  |> min(column: "ms")'
        )

    never = ", ".join(f'{{hop: "{hop}", ms: 90000000}}' for hop in ("1 edges", "2 ingest", "3 readings", "4 workers"))
    return f"""edge_ms = {age(EDGE, "1 edges", "outbox_rows")}
ingest_ms = {age(BINDING, "2 ingest", "bed")}
reading_ms = {age(READING, "3 readings", "counter")}
worker_ms = {age(PIPELINE, "4 workers", "lag")}
heard = union(tables: [edge_ms, ingest_ms, reading_ms, worker_ms, array.from(rows: [{never}])])
  |> group(columns: ["hop"])
  |> min(column: "ms")
  |> map(fn: (r) => ({{hop: r.hop, ms: if r.ms >= 90000000 then -1 else r.ms}}))
  |> group()"""


def _shown(name: str) -> str:
    if name == VitalSign.CONSCIOUSNESS:
        i = f"whole(t: r.{name})"
        return f'strings.substring(v: "ACVPU", start: {i}, end: {i} + 1)'
    if name == VitalSign.SUPPLEMENTAL_OXYGEN:
        return f'(if r.{name} == "0" then "air" else r.{name})'
    decimals = next(spec.decimals for spec in SIGNS if spec.sign == name)
    return f"tenths(t: r.{name})" if decimals else f"r.{name}"


def _model_cell(model: str) -> str:
    """What a model says; what is older than its validity is a dash, and one that abstains says why."""
    return (
        f'if r.{model}_threshold == " " then " "'
        f" else if whole(t: r.{model}_threshold_seen_ms) > {SCORE_VALID_MS}"
        f' then "– " + span(ms: whole(t: r.{model}_threshold_seen_ms))'
        f' else if r.{model}_score == " " or r.{model}_score_seen_ms != r.{model}_threshold_seen_ms'
        f' then "abstains: " + r.{model}_reason'
        f' else tenths(t: string(v: float(v: r.{model}_score) * 100.0)) + " %"'
        f" + (if float(v: r.{model}_score) >= float(v: r.{model}_threshold)"
        f' then " speaks: " + r.{model}_reason else "")'
    )


def _marks(what: str) -> str:
    high, medium, low = (PRIORITIES[one] for one in (Priority.HIGH, Priority.MEDIUM, Priority.LOW))
    return f'(if {what} == 3 then "{high}" else if {what} == 2 then "{medium}" else "{low}")'


def _lines(lines: Iterable[str], indent: int) -> str:
    return ("\n" + " " * indent).join(lines)
