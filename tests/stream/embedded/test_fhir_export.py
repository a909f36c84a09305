"""`vitalloom export fhir`: a patient's record becomes valid FHIR R4 resources, one a line."""

import importlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from stream.embedded.fhir_export import export
from stream.embedded.store import Store
from stream.errors import FileUnusable, NothingToExport
from stream.store.sqlite_record import STORE_FILE, SqliteRecord
from tests.stream.embedded.test_store import an_observation
from tests.stream.site.registries import Desk
from tests.vitals.stories import BINDING, MINUTE, SECOND, a_monitor, a_reading, an_answer, steady
from vitals.messages import AlarmChanged, Event, News2Scored, ReadingJudged

RUN = CliRunner()
MODEL = {
    name: getattr(importlib.import_module(f"fhir.resources.R4B.{name.lower()}"), name)
    for name in ("Observation", "DetectedIssue", "Communication", "Encounter")
}


def a_story() -> list[Event]:
    """Worse, answered, and well again."""
    monitor = a_monitor()
    events = [
        event for one in steady(0, 0, respiratory_rate=26, spo2=95, heart_rate=95) for event in monitor.on_reading(one)
    ]
    worse = steady(MINUTE, 3 * MINUTE, respiratory_rate=26, spo2=91, consciousness=1)
    events += [event for one in worse for event in monitor.on_reading(one)]
    (alarm,) = [one for one in monitor.open_alarms() if one.rule_id == "news2"]
    events += monitor.on_acknowledge(an_answer(alarm, 3 * MINUTE + SECOND))
    events += [event for one in steady(4 * MINUTE, 20 * MINUTE) for event in monitor.on_reading(one)]
    return events


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with Store(tmp_path / STORE_FILE) as store, store.transaction():
        store.put_events(a_story())
    return tmp_path


def exported(data: Path, *options: str) -> list[dict[str, Any]]:
    out = data / "out.ndjson"
    done = RUN.invoke(export, ["fhir", "--data", str(data), "--out", str(out), *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_what_was_stored_is_read_back_as_it_was(data: Path) -> None:
    events = a_story()

    with SqliteRecord(data / STORE_FILE) as record:
        assert record.stays() == [BINDING]
        assert list(record.readings(BINDING)) == [one.reading for one in events if isinstance(one, ReadingJudged)]
        # What is due follows from the parts with their ages, so it is not kept beside them.
        scored = [replace(one, due=(), measure_every_ms=0) for one in events if isinstance(one, News2Scored)]
        assert list(record.scores(BINDING)) == scored
        found = {(one.alarm_id, one.revision): one for one in record.alarms(BINDING)}

    assert found == {(one.alarm_id, one.revision): one for one in events if isinstance(one, AlarmChanged)}


def test_every_line_is_a_valid_resource_with_an_id_of_its_own(data: Path) -> None:
    resources = exported(data, "--stay", BINDING)

    for one in resources:
        MODEL[one["resourceType"]].model_validate(one)
    ids = [(one["resourceType"], one["id"]) for one in resources]
    assert len(set(ids)) == len(ids)


def test_signs_scores_and_alarms_are_all_there(data: Path) -> None:
    events = a_story()

    resources = exported(data, "--stay", BINDING[:8])

    readings = sum(isinstance(one, ReadingJudged) for one in events)
    observations = [one for one in resources if one["resourceType"] == "Observation"]
    assert sum(one["code"]["text"] == "NEWS2" for one in observations) == readings
    assert len(observations) == readings * 8  # six signs, a blood pressure, a score
    alarms = {one.alarm_id for one in events if isinstance(one, AlarmChanged)}
    assert sum(one["resourceType"] == "DetectedIssue" for one in resources) == len(alarms)
    assert {one["subject"]["reference"] for one in observations} == {f"Patient/{BINDING}"}


def test_an_alarm_is_exported_as_it_stands_in_the_end(data: Path) -> None:
    resources = exported(data, "--stay", BINDING)

    (issue,) = [
        one for one in resources if one["resourceType"] == "DetectedIssue" and one["code"]["text"].startswith("news2")
    ]
    messages = [
        one
        for one in resources
        if one["resourceType"] == "Communication" and one["about"][0]["reference"] == f"DetectedIssue/{issue['id']}"
    ]
    assert issue["identifiedPeriod"]["end"] == "2026-01-05T08:14:00.000Z"
    assert {one["priority"]: one["status"] for one in messages} == {"urgent": "completed", "stat": "completed"}
    assert len(messages) == 2  # one for each priority that it reached


def test_the_file_is_readable_by_its_owner_alone(data: Path) -> None:
    exported(data, "--stay", BINDING)

    assert (data / "out.ndjson").stat().st_mode & 0o777 == 0o600
    assert not (data / "out.ndjson.part").exists()


def test_it_runs_beside_the_engine_that_writes_the_store(data: Path) -> None:
    with Store(data / STORE_FILE) as store, store.transaction():
        store.put_states({BINDING: b"new"})
        assert exported(data, "--stay", BINDING)


def test_a_store_of_an_earlier_schema_is_read(data: Path) -> None:
    before = exported(data, "--stay", BINDING)
    with sqlite3.connect(data / STORE_FILE) as earlier:
        earlier.executescript(
            "ALTER TABLE alarm DROP COLUMN response; UPDATE meta SET value = '2' WHERE key = 'schema'"
        )
    earlier.close()

    assert len(exported(data, "--stay", BINDING)) == len(before)


def test_a_stay_that_is_not_there_is_named_with_those_that_are(data: Path) -> None:
    with pytest.raises(NothingToExport, match=f"ffff: no such stay in the store; known stays: {BINDING}"):
        exported(data, "--stay", "ffff")
    assert not (data / "out.ndjson").exists()


@pytest.mark.parametrize("options", [[], ["--stay", "b1", "--patient", "P0001"], ["--patient", "P0001"]])
def test_exactly_one_of_stay_and_patient_is_required(data: Path, options: list[str]) -> None:
    done = RUN.invoke(export, ["fhir", "--data", str(data), "--out", str(data / "out"), *options], env={})

    assert done.exit_code == 2


def test_without_a_choice_it_says_which_stays_there_are_and_where_patients_are_listed(data: Path) -> None:
    done = RUN.invoke(export, ["fhir", "--data", str(data), "--out", str(data / "out")], env={"COLUMNS": "400"})

    assert done.exit_code == 2
    assert "known stays: " in done.output
    assert "vitalloom registry bindings --site FOLDER" in done.output


def test_a_folder_without_a_store_and_a_file_that_is_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileUnusable, match="does not exist; name the folder"):
        exported(tmp_path, "--stay", BINDING)
    (tmp_path / STORE_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(FileUnusable, match="cannot be read as a store"):
        exported(tmp_path, "--stay", BINDING)


def test_a_patient_of_the_registry_is_exported_with_pseudonym_and_wearable(data: Path, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    wearable, edge = desk.enrol("wearable"), desk.enrol("edge")
    binding_id = desk.bind(wearable, edge, patient="P0001").hex()
    folder = desk.site.folder
    desk.site.close()
    with Store(data / STORE_FILE) as store, store.transaction():
        store.put_events([])
    with sqlite3.connect(data / STORE_FILE) as store_file:
        for table in ("reading", "news2", "alarm"):
            store_file.execute(f"UPDATE {table} SET binding_id = ?", (binding_id,))
    store_file.close()

    resources = exported(data, "--patient", "P0001", "--site", str(folder))

    subjects = {(one.get("subject") or one["patient"])["reference"] for one in resources}
    assert subjects == {"Patient/P0001"}
    (device,) = {one["device"]["reference"] for one in resources if one["resourceType"] == "Observation"}
    assert device == f"Device/{wearable.me.device_id.hex()}"
    with pytest.raises(NothingToExport, match="P0002: no such patient in the registry"):
        exported(data, "--patient", "P0002", "--site", str(folder))


def test_each_observation_names_the_device_or_the_person_that_it_comes_from(data: Path) -> None:
    oximeter = "0d" * 16
    reading = replace(a_reading(30 * MINUTE, spo2=91), binding_id=oximeter, counter=9_999, reading_id=b"x" * 16)
    with Store(data / STORE_FILE) as store, store.transaction():
        store.put_events([ReadingJudged(reading=reading, late=False, backfilled=False), an_observation()])

    resources = exported(data, "--stay", BINDING)

    for one in resources:
        MODEL[one["resourceType"]].model_validate(one)
    (stay,) = [one for one in resources if one["resourceType"] == "Encounter"]
    observations = [one for one in resources if one["resourceType"] == "Observation"]
    assert {one["encounter"]["reference"] for one in observations} == {f"Encounter/{stay['id']}"}
    assert {one["device"]["reference"] for one in observations if "device" in one} == {
        f"Device/{BINDING}",
        f"Device/{oximeter}",
    }
    assert {one["code"]["text"] for one in observations if "performer" in one} == {
        "consciousness",
        "body temperature",
        "Glucose [Moles/volume] in Blood",
    }
