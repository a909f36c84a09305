"""A report of the alarm load of a site: alarms per patient-day, share answered, time to answer.

Read from the SQLite store, which has every change of an alarm and the time that patients were monitored. Without
one, as with Kafka, read from the desk's book, which has the last state of each alarm.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from runtime.time_zone import zone_name
from stream.desk.book import BOOK_FILE, read_alarms
from stream.desk.decisions import Kept
from stream.errors import FileUnusable
from stream.store.sqlite_record import STORE_FILE, SqliteRecord
from vitals.alarm_load import DAY_MS, AlarmLoad, LoadMeasures, alarm_load
from vitals.messages import AlarmChanged, AlarmState
from vitals.risk import duration

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """The alarm load of one period, and the file that it was read from."""

    source: str
    from_ms: int | None  # None: the record is empty
    to_ms: int | None
    patient_days: float | None  # None: not known
    load: AlarmLoad


def measure(data: Path, *, days: float | None = None, patients: int | None = None) -> LoadReport:
    """Measure the alarm load of the last days, or of the whole record.

    Args:
        data: folder of the store or of the desk.
        patients: number of monitored patients; used only with the desk's book, which does not have it.

    Raises:
        FileUnusable: the folder has neither file, or the file cannot be read.
    """
    if (data / STORE_FILE).is_file():
        return _of_store(data / STORE_FILE, days)
    if (data / BOOK_FILE).is_file():
        return _of_book(data / BOOK_FILE, days, patients)
    raise FileUnusable(data, f"has neither {STORE_FILE} nor {BOOK_FILE}; name the folder of the store or of the desk")


def changes_of(book: Iterable[Kept]) -> Iterator[AlarmChanged]:
    """The changes of each alarm that the desk's book has: opened, answered, cleared."""
    for kept in book:
        alarm = msgspec.structs.replace(
            kept.alarm,
            revision=0,
            state=AlarmState.ACTIVE,
            at_ms=kept.opened_ms,
            acknowledged_by=None,
            acknowledged_ms=None,
            stay_ended=False,
        )
        yield alarm
        answered_ms = kept.answered_ms
        if answered_ms is not None:
            alarm = msgspec.structs.replace(
                alarm, revision=1, at_ms=answered_ms, acknowledged_by=kept.answered_by, acknowledged_ms=answered_ms
            )
            yield alarm
        if kept.alarm.state is AlarmState.CLEARED or kept.replaced:
            yield msgspec.structs.replace(
                alarm,
                revision=2,
                state=AlarmState.CLEARED,
                at_ms=kept.heard_ms,
                stay_ended=kept.alarm.stay_ended,
            )


def show(report: LoadReport, console: Console) -> None:
    """Print the report as two tables: by kind and priority, and by rule."""
    load = report.load
    console.print(f"Alarm load from {report.source}, {_period(report)}")
    by_class = _table("by class")
    for row in load.rows:
        if row.alarms and row.kind is not None and row.priority is not None:
            by_class.add_row(f"{row.priority.name.lower()} {row.kind.value}", *_cells(row))
    by_class.add_section()
    by_class.add_row("all", *_cells(load.total))
    console.print(by_class)
    by_rule = _table("by rule")
    for row in load.rules:
        by_rule.add_row(row.rule_id or "", *_cells(row))
    if load.rules:
        console.print(by_rule)
    console.print(
        "Per day: per patient-day. Alone: over before an answer. Left: unanswered when monitoring ended. "
        "Median, 95 %: time to the answer.",
        style="dim",
    )
    console.print("A dash: not known.", style="dim")
    console.print(NOT_A_DEVICE, style="dim")


def _of_store(path: Path, days: float | None) -> LoadReport:
    with SqliteRecord(path) as record:
        oldest_ms, newest_ms = record.oldest_ms(), record.newest_ms()
        from_ms = _from_ms(oldest_ms, newest_ms, days)
        patient_ms = record.monitored_ms(from_ms=from_ms or 0)
        load = alarm_load(record.all_alarms(from_ms=from_ms or 0), patient_ms=patient_ms)
    return LoadReport(
        source=path.name, from_ms=from_ms, to_ms=newest_ms, patient_days=patient_ms / DAY_MS or None, load=load
    )


def _of_book(path: Path, days: float | None, patients: int | None) -> LoadReport:
    book = [kept for kept in read_alarms(path) if not kept.alarm.retrospective]
    newest_ms = max((kept.heard_ms for kept in book), default=None)
    from_ms = _from_ms(min((kept.opened_ms for kept in book), default=None), newest_ms, days)
    patient_ms = 0 if patients is None or from_ms is None or newest_ms is None else patients * (newest_ms - from_ms)
    opened = [kept for kept in book if kept.opened_ms >= (from_ms or 0)]
    load = alarm_load(changes_of(opened), patient_ms=patient_ms)
    return LoadReport(
        source=path.name, from_ms=from_ms, to_ms=newest_ms, patient_days=patient_ms / DAY_MS or None, load=load
    )


def _from_ms(oldest_ms: int | None, newest_ms: int | None, days: float | None) -> int | None:
    if oldest_ms is None or newest_ms is None or days is None:
        return oldest_ms
    return max(oldest_ms, newest_ms - round(days * DAY_MS))


def _period(report: LoadReport) -> str:
    if report.from_ms is None or report.to_ms is None:
        return "no alarms"
    days = (report.to_ms - report.from_ms) / DAY_MS
    monitored = "unknown" if report.patient_days is None else f"{report.patient_days:.2f}"
    until = datetime.fromtimestamp(report.to_ms / 1_000).astimezone()
    return f"{days:.2f} days until {until:%Y-%m-%d %H:%M} {zone_name(until)}, patient-days: {monitored}"


def _table(title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(title, no_wrap=True)
    for name in ("alarms", "per day", "answered", "alone", "left", "median", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(row: LoadMeasures) -> list[str]:
    return [
        str(row.alarms),
        "–" if row.per_patient_day is None else f"{row.per_patient_day:.2f}",
        "–" if row.acknowledged is None else f"{row.acknowledged:.0%}",
        "–" if row.cleared_alone is None else f"{row.cleared_alone:.0%}",
        "–" if row.unanswered_at_end is None else f"{row.unanswered_at_end:.0%}",
        "–" if row.median_ms is None else duration(round(row.median_ms)),
        "–" if row.p95_ms is None else duration(row.p95_ms),
    ]
