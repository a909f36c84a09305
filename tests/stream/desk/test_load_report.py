"""`vitalloom alarms report`: the alarm load from the SQLite store, or from the desk's book where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from stream.desk import alarm_commands
from stream.desk.book import BOOK_FILE, DeskBook
from stream.desk.load_report import changes_of, measure
from stream.embedded.store import Store
from stream.errors import FileUnusable
from stream.store.sqlite_record import STORE_FILE
from tests.stream.desk.alarms import AMBER, MINUTE, NOW, SECOND, an_id, kept, told
from tests.vitals.stories import HOUR, START, a_monitor, an_answer, steady
from vitals.alarm_load import DAY_MS, alarm_load
from vitals.messages import AlarmChanged, AlarmState, Event, WindowClosed

RUN = CliRunner()


def reported(*arguments: str) -> str:
    done = RUN.invoke(alarm_commands.alarms, ["report", *arguments], env={"COLUMNS": "100"})
    if done.exception is not None:
        raise done.exception
    return done.stdout


def a_story() -> list[Event]:
    """An hour: NEWS2 7 from the tenth minute on, answered after two minutes, well again from minute 20 on."""
    monitor = a_monitor()
    events: list[Event] = []
    for readings in (
        steady(0, 10 * MINUTE - SECOND),
        steady(10 * MINUTE, 12 * MINUTE, respiratory_rate=26, spo2=91, heart_rate=95),
        steady(20 * MINUTE, HOUR),
    ):
        events += [event for reading in readings for event in monitor.on_reading(reading)]
        for alarm in monitor.open_alarms():
            if alarm.rule_id == "news2" and alarm.acknowledged_by is None:
                events += monitor.on_acknowledge(an_answer(alarm, 12 * MINUTE))
    return events


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Store(tmp_path / STORE_FILE) as made, made.transaction():
        made.put_events(a_story())
    return tmp_path


def test_the_report_of_a_store_is_the_load_of_its_record(store: Path) -> None:
    events = a_story()
    minutes = sum(isinstance(one, WindowClosed) and one.sign == "heart_rate" for one in events)

    found = measure(store)

    alarms = [one for one in events if isinstance(one, AlarmChanged)]
    assert found.load == alarm_load(alarms, patient_ms=minutes * MINUTE)
    assert found.patient_days == minutes * MINUTE / DAY_MS
    assert (found.from_ms, found.to_ms) == (START, START + HOUR)
    (news2,) = [one for one in found.load.rules if one.rule_id == "news2"]
    assert (news2.alarms, news2.acknowledged, news2.median_ms) == (1, 1.0, 2 * MINUTE)


def test_a_report_of_the_last_days_counts_what_began_in_them(store: Path) -> None:
    found = measure(store, days=40 * MINUTE / DAY_MS)

    assert found.from_ms == START + 20 * MINUTE
    assert found.load.total.alarms == 0
    assert found.load.total.per_patient_day == 0


def test_it_is_printed_as_tables_and_as_json(store: Path) -> None:
    shown = reported("--data", str(store))
    assert "Alarm load from store.sqlite, 0.04 days until 2026-01-05 09:00 UTC" in shown
    (line,) = [line for line in shown.splitlines() if "news2" in line]
    assert line.split()[-7:] == ["100%", "0%", "0%", "2", "min", "2", "min"]
    assert max(map(len, shown.splitlines())) <= 100
    assert "Not a certified medical device." in shown

    assert json.loads(reported("--data", str(store), "--json"))["load"]["total"]["alarms"] == 3


def a_book(folder: Path) -> None:
    answered: dict[str, Any] = {"acknowledged_by": "anna", "acknowledged_ms": NOW + 4 * MINUTE}
    with DeskBook(folder / BOOK_FILE) as book, book.transaction():
        book.alarms.put(kept(told(1), told(1, revision=1, **answered)))
        book.alarms.put(kept(told(2, rule_id="low_spo2", priority=AMBER)))
        cleared = told(3, rule_id="battery", priority=AMBER, revision=1, state=AlarmState.CLEARED)
        book.alarms.put(kept(told(3, rule_id="battery", priority=AMBER), cleared))


def test_without_a_store_the_desk_s_book_is_measured(tmp_path: Path) -> None:
    a_book(tmp_path)

    found = measure(tmp_path)

    total = found.load.total
    assert (total.alarms, total.acknowledged, total.cleared_alone) == (3, 1 / 3, 1 / 3)
    assert (total.median_ms, total.per_patient_day, found.patient_days) == (4 * MINUTE, None, None)
    assert [one.rule_id for one in found.load.rules] == ["battery", "low_spo2", "news2"]


def test_it_reads_a_book_while_its_desk_runs(tmp_path: Path) -> None:
    a_book(tmp_path)

    with DeskBook(tmp_path / BOOK_FILE):
        assert measure(tmp_path).load.total.alarms == 3


def test_the_number_of_patients_makes_patient_days(tmp_path: Path) -> None:
    with DeskBook(tmp_path / BOOK_FILE) as book, book.transaction():
        book.alarms.put(kept(told(1)))
        book.alarms.put(kept(told(2, rule_id="low_spo2"), now_ms=NOW + DAY_MS))

    found = measure(tmp_path, patients=4)

    assert (found.patient_days, found.load.total.per_patient_day) == (4.0, 0.5)
    assert "0.50" in reported("--data", str(tmp_path), "--patients", "4")


def test_an_alarm_that_another_one_replaced_counts_as_ended(tmp_path: Path) -> None:
    changes = list(changes_of([replace(kept(told(1)), replaced=True)]))

    assert [(one.alarm_id, one.revision, one.state) for one in changes] == [
        (an_id(1), 0, AlarmState.ACTIVE),
        (an_id(1), 2, AlarmState.CLEARED),
    ]


def test_a_folder_without_store_and_book_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileUnusable, match=r"has neither store\.sqlite nor desk\.sqlite"):
        measure(tmp_path)


def test_an_empty_record_is_reported_as_empty(tmp_path: Path) -> None:
    Store(tmp_path / STORE_FILE).close()

    assert "Alarm load from store.sqlite, no alarms" in reported("--data", str(tmp_path))
    assert measure(tmp_path).load.total.acknowledged is None
