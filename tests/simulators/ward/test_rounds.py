"""Rounds: as often as NEWS2 asks for, now and then late, with what a nurse can see, and the same for one seed."""

import asyncio
import random
from typing import Any

import pytest

from simulators.stories import START_MS
from simulators.ward.rounds import GRID_MS, RoundPatient, Rounds, observed
from simulators.wearable import Body
from stream.errors import DeskCommandFailed
from tests.vitals.stories import WELL as WELL_SIGNS
from tests.vitals.stories import a_reading
from vitals.entry_limits import problems
from vitals.entry_text import observation_of
from vitals.messages import Consciousness
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.view import PatientView

HOUR = 3_600_000
WELL = Body(Consciousness.ALERT, 0.0, 70.0, 14.0, 98.0, 120.0, 37.0, 75.0)
ILL = WELL._replace(consciousness=Consciousness.CONFUSION, oxygen=2.0, respiratory_rate=25.4, temperature=38.64)


def a_view(**signs: float) -> PatientView:
    monitor = PatientMonitor("ab" * 16, MonitoringPlan())
    monitor.on_reading(a_reading(0, **WELL_SIGNS | signs))
    return monitor.view(a_reading(0).at_ms)


class Desk:
    """In the place of the alarm desk: what nurses have entered, by time."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.entered: list[tuple[str, str, dict[str, Any]]] = []
        self.unsent_observations = 0
        self._refuses = refuses

    def client(self, person: str) -> Any:
        desk = self

        class Client:
            def observe(self, stay: str, values: dict[str, Any]) -> dict[str, Any]:
                if desk._refuses:
                    raise DeskCommandFailed("the patient was discharged")
                desk.entered.append((person, stay, values))
                return {}

        return Client()


class Pace:
    async def drained(self, *, within_s: float) -> bool:
        return True


def played(view: PatientView, desk: Desk, *, hours: int, patients: int = 1, seed: int = 1, body: Body = WELL) -> Rounds:
    rounds = Rounds(
        [RoundPatient(number, f"{number:032x}") for number in range(patients)],
        desk,  # type: ignore[arg-type]
        Pace(),  # type: ignore[arg-type]
        seed=seed,
        body=lambda _: body,
        view=lambda _stay, _at: view,
    )

    async def story() -> None:
        for at_ms in range(START_MS, START_MS + hours * HOUR, GRID_MS // 5):
            await rounds.make(at_ms)

    asyncio.run(story())
    return rounds


@pytest.mark.parametrize(
    ("signs", "rounds_a_day"),
    [
        ({}, 3),  # NEWS2 0: every 12 h, a little before
        ({"heart_rate": 95}, 5),  # 1: every 6 h
        ({"respiratory_rate": 26}, 27),  # 3 in one parameter: hourly
        ({"respiratory_rate": 26, "spo2": 90}, 27),  # 6: hourly
    ],
)
def test_a_nurse_comes_as_often_as_news2_asks_for(signs: dict[str, float], rounds_a_day: int) -> None:
    desk = Desk()

    played(a_view(**signs), desk, hours=24)

    times = [values["at_ms"] for _, _, values in desk.entered]
    assert times[0] == START_MS
    assert len(times) == pytest.approx(rounds_a_day, abs=rounds_a_day // 6 + 0.1)
    assert all(at_ms % GRID_MS == START_MS % GRID_MS for at_ms in times)


def test_now_and_then_a_nurse_is_late_and_it_is_counted() -> None:
    desk = Desk()

    rounds = played(a_view(respiratory_rate=26), desk, hours=24, patients=10)

    assert 0 < rounds.counts.late < rounds.counts.entered / 4
    assert rounds.counts.entered == len(desk.entered)


def test_the_same_seed_enters_the_same_and_another_does_not() -> None:
    first, again, other = Desk(), Desk(), Desk()
    for desk, seed in ((first, 1), (again, 1), (other, 2)):
        played(a_view(), desk, hours=24, patients=4, seed=seed)

    assert first.entered == again.entered
    assert {values["id"] for _, _, values in first.entered}.isdisjoint(values["id"] for _, _, values in other.entered)


def test_what_the_desk_refuses_is_counted_by_its_reason() -> None:
    rounds = played(a_view(), Desk(refuses=True), hours=1)

    assert rounds.counts.refused == {"the patient was discharged": 1}
    assert rounds.counts.entered == 0


def test_a_nurse_enters_what_can_be_seen() -> None:
    values = observed(ILL, random.Random(1), is_cuffed=True)

    assert (values["consciousness"], values["supplemental_oxygen"], values["oxygen_device"]) == (
        "C",
        2.0,
        "nasal cannula",
    )
    assert values["respiratory_rate"] == 26.0  # breaths of half a minute, doubled
    assert values["temperature"] == pytest.approx(38.6, abs=0.4)
    assert "systolic_bp" not in values


def test_a_nurse_brings_a_cuff_to_a_patient_who_wears_none() -> None:
    values = observed(WELL, random.Random(1), is_cuffed=False)

    assert values["systolic_bp"] == pytest.approx(120, abs=12)
    assert values["diastolic_bp"] < values["systolic_bp"]


@pytest.mark.parametrize("body", [WELL, ILL, ILL._replace(systolic_bp=42.0, diastolic_bp=40.0, oxygen=15.0, spo2=50.0)])
def test_what_nurses_enter_is_what_a_desk_accepts(body: Body) -> None:
    for seed in range(50):
        values = observed(body, random.Random(seed), is_cuffed=False)
        del values["confirmed"]
        observation = observation_of(values, observation_id=b"o" * 16)

        assert [one.text for one in problems(observation) if not one.is_extreme] == []
