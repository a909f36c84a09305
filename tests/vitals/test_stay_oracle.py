"""A second opinion on the score of a stay: patch, oximeter, cuff and nurse come and go at random.

The oracle keeps every usable value that was ever heard and works out each NEWS2 from the newest one of each sign: valid
for as long as its kind of source is, complete while each sign has a valid value, else the bound of what there is.
"""

import random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.vitals.bedside import CUFF, OXIMETER, PATCH, THERMOMETER, AtBedside, by, entered, play
from tests.vitals.stories import BINDING, HOUR, MINUTE, SECOND
from vitals.messages import Consciousness, Event, News2Scored, ObservationRecorded, ReadingJudged
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan

VALID_MS: Final = {
    "heart_rate": MINUTE,
    "respiratory_rate": MINUTE,
    "spo2": MINUTE,
    "systolic_bp": 3 * HOUR,
    "temperature": 15 * MINUTE,
    "supplemental_oxygen": 12 * HOUR,
    "consciousness": 12 * HOUR,
}
BY_A_PERSON_MS: Final = 12 * HOUR
LASTS_MS: Final = 100 * MINUTE


def a_bedside(seed: int) -> list[AtBedside]:
    """Devices with gaps and delays of their own; a nurse who enters some signs at some times."""
    dice = random.Random(seed)
    found: list[AtBedside] = []
    for device, every_ms, signs in (
        (PATCH, 10 * SECOND, {"heart_rate": 95, "respiratory_rate": 20}),
        (OXIMETER, 10 * SECOND, {"spo2": 95}),
        (CUFF, 15 * MINUTE, {"systolic_bp": 105, "diastolic_bp": 70}),
        (THERMOMETER, 5 * MINUTE, {"temperature": 37.6}),
    ):
        lag_ms, at_ms = dice.choice((0, 300, 4_000)), dice.randrange(every_ms)
        while at_ms < LASTS_MS:
            if dice.random() < 0.01:
                at_ms += dice.randrange(5 * MINUTE)
            values: dict[str, Any] = {sign: usual + dice.randint(-3, 3) / 2 for sign, usual in signs.items()}
            found.append(by(device, at_ms, held_up_ms=lag_ms, counter=at_ms, **values))
            at_ms += every_ms + dice.randrange(1_000)
    for number, at_ms in enumerate(range(4 * MINUTE + 37, LASTS_MS, 17 * MINUTE)):
        rounds: tuple[dict[str, Any], ...] = (
            {"consciousness": dice.choice(list(Consciousness)), "supplemental_oxygen": dice.choice((0.0, 2.0))},
            {"respiratory_rate": float(dice.randint(10, 27)), "spo2": float(dice.randint(90, 99))},
            {"heart_rate": 88.0, "systolic_bp": 99.0, "diastolic_bp": 60.0, "temperature": 38.2},
        )
        what = dice.choice(rounds) if number else rounds[0]
        found.append(entered(at_ms, number=number + 1, late_ms=dice.choice((0, 0, 3 * MINUTE)), **what))
    return sorted(found, key=lambda one: one.heard_ms)  # type: ignore[union-attr]


def newest(heard: dict[str, tuple[int, bool, float]], now_ms: int) -> dict[str, tuple[float, int, bool]]:
    """Value, age and whether a person gave it, of each sign whose newest value is valid."""
    found = {}
    for sign, (at_ms, by_person, value) in heard.items():
        if now_ms - at_ms <= (BY_A_PERSON_MS if by_person else VALID_MS[sign]):
            found[sign] = (value, now_ms - at_ms, by_person)
    return found


def learn(heard: dict[str, tuple[int, bool, float]], sign: str, value: tuple[int, bool, float]) -> None:
    heard[sign] = max(value, heard.get(sign, value))


def check(events: list[Event], heard: dict[str, tuple[int, bool, float]]) -> tuple[int, int]:
    """Compare every score with the oracle's. How many there were, and how many were complete."""
    scores = complete = 0
    for event in events:
        if isinstance(event, ReadingJudged):
            reading = event.reading
            assert not reading.unusable
            for sign in VALID_MS:
                if getattr(reading, sign) is not None:
                    learn(heard, sign, (reading.at_ms, False, getattr(reading, sign)))
        elif isinstance(event, ObservationRecorded):
            seen = event.observation
            for sign in VALID_MS:
                if getattr(seen, sign) is not None:
                    learn(heard, sign, (seen.at_ms, True, getattr(seen, sign)))
        elif isinstance(event, News2Scored):
            scores, complete = scores + 1, complete + (event.total is not None)
            known = newest(heard, event.at_ms)
            total, at_least, _ = oracle.score({sign: float(value) for sign, (value, *_) in known.items()})
            assert event.at_least == at_least
            assert {part.sign: part.age_ms for part in event.parts if part.points is not None} == {
                sign: age_ms for sign, (_, age_ms, _) in known.items()
            }
            assert {part.sign for part in event.parts if part.source.startswith("by:") and part.points is not None} == {
                sign for sign, (*_, by_person) in known.items() if by_person
            }
            assert event.total == (None if event.due else total)
            may_be_due = {sign for sign, (*_, by_person) in known.items() if by_person} | {"systolic_bp"}
            assert all(sign in may_be_due and known[sign][1] > HOUR for sign in event.due)
    return scores, complete


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_score_of_a_stay_is_the_oracles(seed: int) -> None:
    monitor, heard = PatientMonitor(BINDING, MonitoringPlan()), {}  # type: ignore[var-annotated]
    for message in a_bedside(seed):
        check(play(monitor, message), heard)


def test_many_of_these_scores_are_complete_and_many_are_not() -> None:
    monitor, heard = PatientMonitor(BINDING, MonitoringPlan()), {}  # type: ignore[var-annotated]
    counted = [check(play(monitor, message), heard) for message in a_bedside(4)]

    scores, complete = (sum(column) for column in zip(*counted, strict=True))
    assert scores > 1_000
    assert 0.1 < complete / scores < 0.999
