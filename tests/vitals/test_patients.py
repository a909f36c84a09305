"""Many patients in one place: each message to its patient, each timer when it is due, one defect in one place."""

import pytest

from tests.vitals.stories import HOUR, MINUTE, START, a_reading
from vitals.messages import FreshnessChanged, Reading, Tick
from vitals.monitor import PatientMonitor
from vitals.patients import RETRY_MS, Patients
from vitals.plan import MonitoringPlan


def of(bed: str, reading: Reading) -> Reading:
    return Reading(**{name: getattr(reading, name) for name in reading.__struct_fields__} | {"stay_id": bed})


def a_ward() -> Patients:
    return Patients(lambda _: MonitoringPlan())


def test_a_message_touches_its_patient_alone() -> None:
    ward = a_ward()
    ward.apply(of("ann", a_reading(0, heart_rate=70)))
    ward.drain()

    ward.apply(of("bob", a_reading(1_000, heart_rate=80)))

    assert list(ward.drain().snapshots) == ["bob"]
    assert len(ward) == 2


def test_what_was_due_happens_before_the_message_that_comes_after_it() -> None:
    ward = a_ward()
    ward.apply(of("ann", a_reading(0, heart_rate=70)))

    # Ann's heart rate is late after ten seconds; the next message comes from Bob, a minute later.
    events = ward.apply(of("bob", a_reading(MINUTE, heart_rate=80)))

    first = events[0]
    assert isinstance(first, FreshnessChanged)
    assert (first.stay_id, first.state) == ("ann", "LATE")


def test_timers_go_on_after_a_restart() -> None:
    ward = a_ward()
    ward.apply(of("ann", a_reading(0, heart_rate=70)))
    snapshots = ward.drain().snapshots

    again = Patients(lambda _: MonitoringPlan(), snapshots.items())

    assert again.timer_at() == ward.timer_at()
    assert again.apply(Tick(now_ms=START + HOUR)) == ward.apply(Tick(now_ms=START + HOUR)) != []


def test_a_tick_before_anything_is_due_does_nothing() -> None:
    ward = a_ward()
    ward.apply(of("ann", a_reading(0, heart_rate=70)))
    ward.drain()

    assert ward.apply(Tick(now_ms=START + 5_000)) == []
    assert ward.drain().snapshots == {}


def test_a_timer_that_fails_is_reported_and_stops_no_other_patient_s(monkeypatch: pytest.MonkeyPatch) -> None:
    # No mock of the kernel: the kernel with one defect, as a bug would put it there.
    sound = PatientMonitor.on_timer

    def defective(monitor: PatientMonitor, now_ms: int) -> object:
        if monitor.stay_id == "ann":
            raise ZeroDivisionError
        return sound(monitor, now_ms)

    monkeypatch.setattr(PatientMonitor, "on_timer", defective)
    ward = a_ward()
    for bed in ("ann", "bob"):
        ward.apply(of(bed, a_reading(0, heart_rate=70)))

    events = ward.apply(Tick(now_ms=START + 2 * HOUR))

    assert {event.stay_id for event in events if isinstance(event, FreshnessChanged)} == {"bob"}
    defects = ward.drain_defects()
    assert set(defects) == {("ann", "ZeroDivisionError")}
    assert ward.drain_defects() == []
    # It is tried again a minute later, for as long as that takes.
    assert ward.timer_at() == START + 2 * HOUR + RETRY_MS - (2 * HOUR - 10_001) % RETRY_MS


def test_the_alarms_of_all_patients_are_found_in_one_place() -> None:
    ward = a_ward()
    for bed in ("ann", "bob"):
        ward.apply(of(bed, a_reading(0, respiratory_rate=26, spo2=90)))

    assert {alarm.stay_id for alarm in ward.open_alarms() if alarm.rule_id == "news2"} == {"ann", "bob"}
