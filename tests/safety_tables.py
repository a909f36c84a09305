"""The tables of `docs/safety.md`, made by running the monitor. `python -m tests.safety_tables` writes them.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; `TABLES` names the function that makes it.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from vitals.messages import AlarmChanged, AlarmState, Consciousness, Priority, Reading, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.risk import duration
from vitals.signs import SPEC, VitalSign

PAGE: Final = Path(__file__).parents[1] / "docs" / "safety.md"

HR, RR, SPO2, SBP, DBP, T, O2 = (
    VitalSign.HEART_RATE,
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SPO2,
    VitalSign.SYSTOLIC_BP,
    VitalSign.DIASTOLIC_BP,
    VitalSign.TEMPERATURE,
    VitalSign.SUPPLEMENTAL_OXYGEN,
)
OFF, LOW, MOTION = int(SensorFlag.SENSOR_OFF), int(SensorFlag.LOW_PERFUSION), int(SensorFlag.MOTION)
_START_MS: Final = 1_790_000_000_000
_EVERY_S: Final = 5
_BEFORE_S: Final = 600
_RAMP_S: Final = 300
_FOR_S: Final = 2_400
# How often a value of a slow sign comes.
_INTERVAL_S: Final = {SBP: 300, DBP: 300, T: 60, O2: 600}
_NORMAL: Final = {HR: 72.0, RR: 16.0, SPO2: 97.0, SBP: 124.0, DBP: 70.0, T: 36.8, O2: 0.0}
_WOBBLE: Final = {HR: 2.0, RR: 1.0, SPO2: 1.0}


class Row(NamedTuple):
    """One class of one sign: a value around which the readings lie, flags, and further signs that are set."""

    sign: VitalSign
    value_class: str
    value: float
    flags: int = 0
    also: dict[VitalSign, float] = {}  # noqa: RUF012  never changed


VALUES: Final = (
    Row(HR, "usual", 72),
    Row(HR, "usual, red", 34),
    Row(HR, "usual, red", 145),
    Row(HR, "extreme", 12),
    Row(HR, "extreme", 330),
    Row(HR, "zero", 0),
    Row(HR, "zero, in motion", 0, MOTION),
    Row(HR, "no value: a code", 511),
    Row(HR, "contradicted: sensor off", 0, OFF),
    Row(RR, "usual, red", 6),
    Row(RR, "usual, red", 32),
    Row(RR, "extreme", 1.5),
    Row(RR, "extreme", 90),
    Row(RR, "zero", 0),
    Row(RR, "zero, in motion", 0, MOTION),
    Row(RR, "no value: a code", 127),
    Row(RR, "contradicted: usual, in motion", 16, MOTION),
    Row(RR, "contradicted: red, in motion", 32, MOTION),
    Row(RR, "contradicted: extreme, in motion", 90, MOTION),
    Row(RR, "contradicted: sensor off", 0, OFF),
    Row(SPO2, "usual, red", 86),
    Row(SPO2, "extreme", 45),
    Row(SPO2, "zero", 0),
    Row(SPO2, "zero, low perfusion", 0, LOW),
    Row(SPO2, "no value: a code", 127),
    Row(SPO2, "no value: a fraction", 0.85),
    Row(SPO2, "contradicted: usual, low perfusion", 97, LOW),
    Row(SPO2, "contradicted: red, low perfusion", 60, LOW),
    Row(SPO2, "contradicted: red, in motion", 60, MOTION),
    Row(SPO2, "contradicted: extreme, in motion", 45, MOTION),
    Row(SPO2, "contradicted: sensor off", 0, OFF),
    Row(SBP, "usual, red", 85),
    Row(SBP, "usual, red", 230),
    Row(SBP, "extreme", 30, 0, {DBP: 15}),
    Row(SBP, "extreme", 320),
    Row(SBP, "zero", 0, 0, {DBP: 0}),
    Row(SBP, "no pulse pressure", 80, 0, {DBP: 80}),
    Row(SBP, "no value: a code", 999),
    Row(SBP, "contradicted: below diastolic", 110, 0, {DBP: 120}),
    Row(DBP, "extreme", 10),
    Row(DBP, "extreme", 210, 0, {SBP: 215}),
    Row(DBP, "no value: a code", 999),
    Row(T, "usual, red", 34.5),
    Row(T, "extreme", 25),
    Row(T, "extreme", 45.5),
    Row(T, "no value: °F", 98.6),
    Row(T, "no value: tenths", 368),
    Row(T, "contradicted: sensor off", 25, OFF),
    Row(O2, "no value: negative", -2),
    Row(O2, "no value: above 80 L/min", 100),
)
ONSETS: Final = ("abrupt", "gradual", "from the start")


def values_table() -> str:
    """Every class of every sign, and which alarm comes when."""
    head = ["sign", "class", "value", *ONSETS]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in VALUES:
        flags_only = row.value_class.startswith(("usual", "contradicted: usual")) and row.value == _NORMAL[row.sign]
        cells = [_cell(row, onset) for onset in ONSETS]
        shown = f"{row.value:g}" if not flags_only else f"{row.value:g}, as before"
        also = "".join(f", {SPEC[sign].abbreviation} {value:g}" for sign, value in row.also.items())
        lines.append(_line([SPEC[row.sign].label, row.value_class, shown + also, *cells]))
    return "\n".join(lines)


TABLES: Final[dict[str, Callable[[], str]]] = {"values": values_table}


def with_tables(page: str) -> str:
    """The page with every table that `TABLES` knows replaced by one that is made now."""
    for name, make in TABLES.items():
        mark = f"<!-- generated: {name} -->"
        pattern = re.compile(re.escape(mark) + r"\n.*?<!-- end -->", flags=re.DOTALL)
        table = make()
        page, found = pattern.subn(lambda _, mark=mark, table=table: f"{mark}\n{table}\n<!-- end -->", page)
        if found != 1:
            raise ValueError(f"{PAGE.name}: {found} places for the table {name}, there should be one")
    return page


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(row: Row, onset: str) -> str:
    """The first alarm, each that is higher than those before it, and `arrest`."""
    if onset == "gradual" and row.value_class.startswith("no value"):
        return "–"  # a code or another unit does not come gradually
    first_s, found = _alarms(row, onset)
    told: list[str] = []
    highest = Priority.LOW - 1
    for at_s, alarm in found:
        if alarm.priority > highest or alarm.rule_id == "arrest":
            highest = max(highest, alarm.priority)
            seconds = at_s - first_s
            after = "before" if seconds < 0 else f"{seconds} s" if seconds < 120 else duration(seconds * 1_000)
            told.append(f"`{alarm.rule_id}` {alarm.priority.name.lower()} {after}")
    return ", ".join(told) or "none"


def _alarms(row: Row, onset: str) -> tuple[int, list[tuple[int, AlarmChanged]]]:
    """When the first value of the class came, and every alarm that sounds from when the sign begins to change."""
    monitor, found, first_s = PatientMonitor("ab" * 16, MonitoringPlan()), [], None
    begins_s = 0 if onset == "from the start" else _BEFORE_S
    for n, (at_s, is_of_class, values) in enumerate(_stream(row, onset, begins_s)):
        if is_of_class and first_s is None:
            first_s = at_s
        at_ms = _START_MS + at_s * 1_000
        events = monitor.on_reading(
            Reading(
                stay_id="ab" * 16,
                reading_id=n.to_bytes(16, "big"),
                session_id=bytes(16),
                counter=n,
                at_ms=at_ms,
                received_ms=at_ms,
                **values,
            )
        )
        while (due_ms := monitor.timer_at()) is not None and due_ms < at_ms + _EVERY_S * 1_000:
            events += monitor.on_timer(due_ms)
        found += [
            (at_s, event) for event in events if isinstance(event, AlarmChanged) and event.state is AlarmState.ACTIVE
        ]
    assert first_s is not None
    return first_s, found


def _stream(row: Row, onset: str, begins_s: int) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    ramp_s = _RAMP_S if onset == "gradual" else 0
    for at_s in range(0, begins_s + ramp_s + _FOR_S, _EVERY_S):
        share = min(1.0, (at_s - begins_s) / ramp_s) if ramp_s and at_s >= begins_s else float(at_s >= begins_s)
        values: dict[str, Any] = {"consciousness": Consciousness.ALERT} if at_s == 0 else {}
        for sign, normal in _NORMAL.items():
            if at_s % _INTERVAL_S.get(sign, _EVERY_S):
                continue
            target = row.value if sign is row.sign else row.also.get(sign, normal)
            value = normal + (target - normal) * share
            is_steady = share == 1 and sign is row.sign and (row.value == 0 or "no value" in row.value_class)
            wobble = 0.0 if is_steady else _WOBBLE.get(sign, 0.0) * (at_s // _EVERY_S % 3 - 1) / 2
            values[sign.value] = round(value + wobble, 2)
        if share == 1:
            values["sensor_flags"] = row.flags
        yield at_s, share == 1 and row.sign.value in values, values


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
