"""Walks and training: what bodies do, what wearables tell, and which alarms come with an order to hold and without."""

from collections.abc import Iterator

import numpy as np
import pytest

from simulators.physiology import Cohort, Drive, Sign
from simulators.scenarios import MINUTE_MS, scenario
from simulators.stories import START_MS, Simulated
from simulators.wearable import Wearables
from vitals.activity import ActivityPlan
from vitals.messages import Activity, AlarmChanged, AlarmKind, AlarmState, Priority, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from wire.codec import EdgeVitalsV1, OriginV1, VitalsV1, VitalsV2, activity_of, encode, to_reading

STAY = bytes(range(16))
EVERY_MS = 20_000


def exerted(minutes: list[float], patients: int = 50) -> np.ndarray:
    """Heart rates of a cohort that walks from minute 1 to 7, less those of the same cohort at rest."""
    walking, resting = (Cohort.of(5, patients, at_ms=START_MS) for _ in range(2))
    drives = np.zeros((len(Drive), patients))
    found = []
    for second in range(5, 60 * 20, 5):
        drives[Drive.EXERTION] = 0.5 if 60 <= second < 7 * 60 else 0.0
        walking.step(START_MS + second * 1_000, drives.copy())
        resting.step(START_MS + second * 1_000)
        if second / 60 in minutes:
            found.append(walking.signs[Sign.HEART_RATE] - resting.signs[Sign.HEART_RATE])
    return np.array(found)


def test_the_heart_follows_a_walk_and_recovers_after_it() -> None:
    before, walking, one_minute_after, later = exerted([0.5, 6.5, 8, 18])

    reserve = walking.mean() / 0.5
    assert np.abs(before).max() == 0
    assert 60 < reserve < 110
    # Cole 1999: more than 12 /min in the first minute.
    assert (walking - one_minute_after).min() > 12
    assert np.abs(later).max() < 2


def test_who_does_not_exert_themselves_keeps_every_draw() -> None:
    alone = Wearables([scenario("stable")], seed=3, start_ms=START_MS)
    beside = Wearables([scenario("stable"), scenario("training")], seed=3, start_ms=START_MS)

    for (_, [one]), (_, [other, _]) in zip(
        alone.run(START_MS + 3_600_000), beside.run(START_MS + 3_600_000), strict=True
    ):
        assert one == other
        assert type(one) is type(other)


def samples(name: str, minutes: int, seed: int = 1, patient: int = 0) -> Iterator[tuple[int, VitalsV1]]:
    wearables = Wearables([scenario(name)], seed=seed, start_ms=START_MS, first=patient)
    for at_ms, [sample] in wearables.run(START_MS + minutes * MINUTE_MS):
        if sample is not None:
            yield (at_ms - START_MS) // MINUTE_MS, sample


def test_a_wearable_tells_what_its_wearer_does() -> None:
    told = {minute: activity_of(one) for minute, one in samples("training", 110) if activity_of(one)}

    assert {told[minute] for minute in range(32, 90)} == {Activity.EXERCISE}
    assert {told[minute] for minute in range(92, 100)} == {Activity.WALK}
    assert {told[minute] for minute in range(104, 110)} <= {Activity.REST, Activity.LIGHT}


def test_motion_spoils_a_part_of_the_readings_of_a_walk() -> None:
    flagged = [bool(one.sensor_flags & SensorFlag.MOTION) for minute, one in samples("walks", 20) if 13 <= minute < 20]

    assert 0.2 < np.mean(flagged) < 0.5


def test_the_other_stories_send_what_they_always_sent() -> None:
    for name in ("stable", "motion", "sepsis-onset"):
        assert all(type(one) is VitalsV1 for _, one in samples(name, 3))
    assert all(type(one) is VitalsV2 for _, one in samples("walks", 3))


def test_the_same_seed_gives_the_same_bytes() -> None:
    first = [encode(one) for _, one in samples("walks", 30)]

    assert first == [encode(one) for _, one in samples("walks", 30)]
    assert first != [encode(one) for _, one in samples("walks", 30, seed=2)]


def monitored(name: str, patient: int, *, hours: float, is_held: bool) -> list[AlarmChanged]:
    """The alarms about one patient of a story, oldest first."""
    story = Simulated(name, patients=patient + 1, seed=4, cadence_ms=EVERY_MS)
    age_years = story.about(patient).age_years
    activity = ActivityPlan(holds_up_to=Activity.WALK, age_years=age_years) if is_held else ActivityPlan()
    monitor = PatientMonitor(STAY.hex(), MonitoringPlan(group=PatientGroup.ADULT, activity=activity))
    events = []
    for moment in story.moments():
        if moment.at_ms > START_MS + hours * 3_600_000:
            break
        for number, sample in moment.samples:
            if number == patient:
                while (due_ms := monitor.timer_at()) is not None and due_ms < moment.at_ms:
                    events += monitor.on_timer(due_ms)
                events += monitor.on_reading(to_reading(_passed_on(sample, moment.at_ms), STAY))
    return [one for one in events if isinstance(one, AlarmChanged) and one.kind is AlarmKind.PHYSIOLOGICAL]


def _passed_on(sample: VitalsV1, at_ms: int) -> EdgeVitalsV1:
    origin = OriginV1(wearable_id=STAY, session_id=STAY, counter=(at_ms - START_MS) // EVERY_MS)
    return EdgeVitalsV1(
        origin=origin, vitals=sample, at_ms=at_ms, received_ms=at_ms, sensor_flags=sample.sensor_flags, unusable=0
    )


def first_high(alarms: list[AlarmChanged]) -> int | None:
    """Minute of the first alarm of high priority that called somebody."""
    found = [
        one.at_ms
        for one in alarms
        if one.priority is Priority.HIGH and one.state is AlarmState.ACTIVE and not one.retrospective
    ]
    return (found[0] - START_MS) // MINUTE_MS if found else None


@pytest.mark.slow
@pytest.mark.parametrize("patient", [0, 1, 2])
def test_a_patient_who_becomes_septic_while_walking_is_found_in_time(patient: int) -> None:
    held = first_high(monitored("sepsis-on-a-walk", patient, hours=3.2, is_held=True))
    plain = first_high(monitored("sepsis-on-a-walk", patient, hours=3.2, is_held=False))

    assert held is not None
    assert plain is not None
    assert held <= 190
    assert held - plain <= 20 or held <= 90  # an earlier alarm without holding was of the walk
