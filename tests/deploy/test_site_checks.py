"""What the doctor says about stays: a patient with two of them, and one whom no device measures."""

from pathlib import Path

import pytest

from deploy.checks import CheckResult
from deploy.site_checks import _stays, _unstated
from tests.stream.site.registries import Desk
from wire.identity import About


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def said(found: list[CheckResult]) -> str:
    return " ".join(f"{one.subject}: {one.result} {one.fix}" for one in found)


def test_a_stay_of_two_devices_is_nothing_to_decide(desk: Desk) -> None:
    edge = desk.enrol("edge")
    desk.bind(desk.enrol(), edge)
    desk.bind(desk.enrol(), edge)

    assert _stays(desk.site) == []


def test_two_open_stays_of_a_patient_and_one_without_a_device_are_said(desk: Desk) -> None:
    edge = desk.enrol("edge")
    first = desk.bind(desk.enrol(), edge)
    second = desk.bind(desk.enrol(), edge, patient="P0002", bed="2")
    desk.registry.file.execute("UPDATE stay SET patient = 'P0001' WHERE stay_id = ?", (second.hex(),))
    desk.registry.admit("P0003", bed="7/3", who="tester")

    text = said(_stays(desk.site))

    assert first.hex()[:12] in text
    assert second.hex()[:12] in text
    assert "without a device: bed 7/3" in text
    assert "vitalloom registry discharge" in text


def test_an_unstated_patient_is_said_until_the_facts_are_stated(desk: Desk) -> None:
    stay_id = desk.bind(desk.enrol(), desk.enrol("edge"), bed="7/4")
    assert "bed 7/4" in said(_unstated(desk.site))

    desk.registry.state_facts(stay_id, about=About(age_years=70.0, is_male=True), who="tester")

    assert "stated for all" in said(_unstated(desk.site))
