"""Building blocks of the Flux queries: constants and streams that several queries use.

Each stream that a query uses is written once per use: InfluxDB evaluates `last` in storage only for a stream with one
consumer. Only variables of Grafana contain `$`.

Texts are never empty but a space: InfluxDB 2.7.12 (Flux 0.196.1) loses empty texts in the middle of a column, so that
the texts below move up a row, to another patient. The line protocol writes no empty texts for the same reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from stream.store.line_protocol import ALARM, BINDING, EDGE, PIPELINE, READING
from vitals.messages import Priority
from vitals.signs import SIGNS, VitalSign

TENANT: Final = "${tenant}"
WARDS: Final = "${ward:regex}"
PATIENT: Final = "${patient}"

SCORED: Final = tuple(spec for spec in SIGNS if spec.sign is not VitalSign.DIASTOLIC_BP)
"""The signs that NEWS2 scores."""

PRIORITIES: Final = {Priority.HIGH: "*** red", Priority.MEDIUM: "** yellow", Priority.LOW: "* cyan"}
"""Colours of IEC 60601-1-8, with asterisks for readers who cannot distinguish them."""

SILENT_MS: Final = 180_000
"""A stage that normally writes every ten to sixty seconds is silent after this time without data."""

HEAD: Final = 'import "array"\nimport "date"\nimport "join"\nimport "strings"\n\nstop = v.timeRangeStop\n'
LOOK_BACK: Final = "date.sub(from: stop, d: 24h)"
ALARMS_BACK: Final = "date.sub(from: stop, d: 14d)"

SPAN_FUNCTION: Final = """ms_of = (t) => int(v: t) / 1000000
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


def select(bucket: str, measurement: str, start: str, *fields: str, more: str = "") -> str:
    """Select fields of a measurement from `start` to the end of the time range.

    Args:
        fields: none: all fields.
        more: further conditions of the filter.
    """
    wanted = " or ".join(f'r._field == "{field}"' for field in fields)
    only = f"\n  |> filter(fn: (r) => {wanted})" if fields else ""
    return (
        f'from(bucket: "{bucket}")\n  |> range(start: {start}, stop: stop)\n'
        f'  |> filter(fn: (r) => r._measurement == "{measurement}"{more}){only}'
    )


def locations(bucket: str, more: str = "") -> str:
    """Stream `locations`: ward, bed and patient of each binding, as last written by ingest, in long form."""
    read = select(bucket, BINDING, LOOK_BACK, more=more)
    beds = select(bucket, BINDING, LOOK_BACK, "bed", more=more)
    newest = '|> last()\n  |> group(columns: ["_field"])\n  |> sort(columns: ["_time"])'
    return f"""location_fields = {read}
  {newest}
  |> toString()
  |> keep(columns: ["binding", "_field", "_value"])
location_wards = {beds}
  {newest}
  |> map(fn: (r) => ({{binding: r.binding, _field: "ward", _value: r.ward}}))
locations = union(tables: [location_fields, location_wards])"""


def alarm_revisions(bucket: str, more: str = "") -> str:
    """Every change of every alarm, with typed columns; not acknowledged: a space, no time: 0."""
    texts = ("alarm_id", "state", "text", "response", "kind", "basis", "acknowledged_by")
    numbers = ("revision", "priority", "onset_ms", "acknowledged_ms", "silenced_until_ms")
    flags = ("latched", "retrospective", "binding_ended")
    found = select(bucket, ALARM, ALARMS_BACK, *texts, *numbers, *flags, more=more)
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
    wide = pivot(long, ("point", "_time"), (*texts, *numbers, *flags))
    return f"{wide}  |> map(fn: (r) => ({{_time: r._time, {', '.join(typed)}}}))"


def open_alarms_stream(bucket: str, more: str = "") -> str:
    """Stream `open`: the last change of each alarm that is active, or ended without acknowledgement."""
    return f"""open = {alarm_revisions(bucket, more)}
  |> group(columns: ["binding", "alarm_id"])
  |> sort(columns: ["revision"])
  |> last(column: "revision")
  |> filter(fn: (r) => not r.retrospective and (r.state == "active" or r.latched))
  |> map(fn: (r) => ({{
    binding: r.binding, alarm_id: r.alarm_id, rule: r.rule, priority: r.priority, text: r.text, latched: r.latched,
    response: r.response, onset_ms: r.onset_ms, at: r._time, by: r.acknowledged_by,
    unanswered: if r.acknowledged_by == " " then 1 else 0, is_news2: if r.rule == "news2" then 1 else 0,
    silenced_ms: r.silenced_until_ms,
  }}))"""


def alarms_in_range(bucket: str) -> str:
    """Stream `lives`: one row for each alarm that became active within the time range."""
    return f"""lives = {alarm_revisions(bucket)}
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
      alone: if r.state == "cleared" and not accumulator.over then r.acknowledged_by == " " and not r.binding_ended
        else accumulator.alone,
      calling_ms: if r.acknowledged_by != " " then -1
        else if accumulator.calling_ms < 0 then int(v: r._time) / 1000000 else accumulator.calling_ms,
      answer_ms: if r.acknowledged_by != " " and accumulator.calling_ms >= 0
        then (if r.acknowledged_ms > accumulator.calling_ms then r.acknowledged_ms - accumulator.calling_ms else 0)
        else accumulator.answer_ms,
    }}))
  |> filter(fn: (r) => r.began_ms >= int(v: v.timeRangeStart) / 1000000)"""


def locations_or_none(columns: Iterable[str]) -> str:
    """Stream `where`: the locations and an extra empty row, because Flux cannot join with an empty table."""
    names = list(columns)
    empty = ", ".join(f'{name}: " "' for name in names)
    known = one_row_per_patient(["locations"], names).rstrip("\n")
    return f"""known = {known}
where = union(tables: [known, array.from(rows: [{{binding: "~", {empty}}}])])"""


def open_alarms_by_bed() -> str:
    """Stream `rows`: `open` with the location of each patient, if known. Works without any alarm."""
    return """none = array.from(rows: [{
  binding: "~", alarm_id: " ", rule: " ", priority: 0, text: " ", latched: false, response: " ", onset_ms: 0, at: stop,
  by: " ", unanswered: 0, is_news2: 0, silenced_ms: 0,
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


def long_form(stream: str, columns: Mapping[str, str]) -> str:
    """One stream in long form for each column of `stream`, named like the column."""
    return "\n".join(
        f'{name} = {stream} |> map(fn: (r) => ({{binding: r.binding, _field: "{name}", _value: {what}}}))'
        for name, what in columns.items()
    )


def one_row_per_patient(streams: Iterable[str], columns: Iterable[str]) -> str:
    """Long tables as one row per patient; every column exists and is text, a space if unknown."""
    return pivot(", ".join(streams), ("binding",), columns)


def pivot(streams: str, keys: Sequence[str], columns: Iterable[str]) -> str:
    """Fields as columns of text, one row for each value of `keys`; a missing value is a space.

    An extra row with every field ensures that each column exists, and is removed at the end.
    """
    names = list(columns)
    extra = ", ".join(f'{key}: "~"' if key == keys[0] else f"{key}: stop" for key in keys)
    every = ",\n  ".join(f'{{{extra}, _field: "{name}", _value: " "}}' for name in names)
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


def in_wards(wards: str) -> str:
    """Keep the rows of these wards, a regular expression."""
    return f"  |> filter(fn: (r) => r.ward =~ /^({wards})$/)\n"


def stage_ages(bucket: str) -> str:
    """Stream `stages`: milliseconds since the newest data of each stage of the pipeline; -1: none within a day."""

    def age(measurement: str, stage: str, *fields: str) -> str:
        return (
            f"{select(bucket, measurement, LOOK_BACK, *fields)}\n  |> last()\n"
            f'  |> map(fn: (r) => ({{stage: "{stage}", ms: now_ms - ms_of(t: r._time)}}))\n'
            f'  |> group(columns: ["stage"])\n  |> min(column: "ms")'
        )

    never = ", ".join(
        f'{{stage: "{stage}", ms: 90000000}}' for stage in ("1 edges", "2 ingest", "3 readings", "4 workers")
    )
    return f"""edge_ms = {age(EDGE, "1 edges", "outbox_rows")}
ingest_ms = {age(BINDING, "2 ingest", "bed")}
reading_ms = {age(READING, "3 readings", "counter")}
worker_ms = {age(PIPELINE, "4 workers", "lag")}
stages = union(tables: [edge_ms, ingest_ms, reading_ms, worker_ms, array.from(rows: [{never}])])
  |> group(columns: ["stage"])
  |> min(column: "ms")
  |> map(fn: (r) => ({{stage: r.stage, ms: if r.ms >= 90000000 then -1 else r.ms}}))
  |> group()"""


def priority_text(value: str) -> str:
    """A Flux expression: the text of a numeric priority."""
    high, medium, low = (PRIORITIES[one] for one in (Priority.HIGH, Priority.MEDIUM, Priority.LOW))
    return f'(if {value} == 3 then "{high}" else if {value} == 2 then "{medium}" else "{low}")'
