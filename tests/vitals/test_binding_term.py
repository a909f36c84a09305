"""A patient is watched because a binding says so: silence from the start is an alarm, and the end of it ends alarms."""

import pytest

from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_monitor,
    a_reading,
    a_score,
    a_silence,
    alarms,
    feed,
    restarted,
    standing,
    steady,
    wait,
)
from vitals.messages import AlarmState, BindingPeriod, MonitoringEnded, Priority, ReadingJudged, Tick
from vitals.monitor import PatientMonitor
from vitals.patient_group import PatientGroup
from vitals.patients import Patients
from vitals.plan import MonitoringPlan


def bound(
    after_ms: int = 0, *, to_ms: int | None = None, heard_ms: int | None = None, edge_heard_ms: int | None = None
) -> BindingPeriod:
    """A binding since `after_ms`, heard of at once unless another time is given."""
    end_ms = None if to_ms is None else START + to_ms
    known_ms = START + (heard_ms if heard_ms is not None else after_ms if to_ms is None else to_ms)
    heard_edge_ms = None if edge_heard_ms is None else START + edge_heard_ms
    return BindingPeriod(
        stay_id=BINDING, from_ms=START + after_ms, to_ms=end_ms, heard_ms=known_ms, edge_heard_ms=heard_edge_ms
    )


def texts(monitor: PatientMonitor) -> list[str]:
    return [alarm.text for alarm in standing(monitor, "no_data")]


def test_who_is_bound_and_never_heard_is_an_alarm_after_ten_minutes() -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())

    assert wait(monitor, 10 * MINUTE) == []
    wait(monitor, 10 * MINUTE + SECOND)

    (alarm,) = standing(monitor, "no_data")
    assert (alarm.priority, alarm.key, alarm.onset_ms) == (Priority.MEDIUM, "", START)
    assert alarm.text == "no data since monitoring began at 08:00 UTC, 10 min: its edge is not heard"


@pytest.mark.parametrize(
    ("edge_heard_ms", "why"),
    [
        (None, "its edge is not heard"),
        (0, "its edge is not heard since 08:00 UTC"),
        (5 * MINUTE, "its edge is heard, its wearable never was"),
    ],
)
def test_the_cause_is_named_as_far_as_it_is_known(edge_heard_ms: int | None, why: str) -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())
    monitor.on_binding(bound(heard_ms=5 * MINUTE, edge_heard_ms=edge_heard_ms))

    wait(monitor, 11 * MINUTE)

    assert texts(monitor) == [f"no data since monitoring began at 08:00 UTC, 10 min: {why}"]


def test_the_first_reading_ends_it_and_a_sign_that_it_lacks_has_its_own_time_from_there() -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())
    wait(monitor, 20 * MINUTE)

    feed(monitor, *steady(20 * MINUTE, 49 * MINUTE, spo2=None))
    assert wait(monitor, 49 * MINUTE) == []
    assert standing(monitor, "no_data") == []
    feed(monitor, *steady(50 * MINUTE, 51 * MINUTE, spo2=None))
    wait(monitor, 51 * MINUTE)

    (alarm,) = standing(monitor, "no_data")
    assert alarm.key == "spo2"
    assert alarm.text == (
        "no data for oxygen saturation since monitoring began at 08:00 UTC, 50 min: "
        "no reading had a usable value of oxygen saturation; NEWS2 was 0"
    )
    feed(monitor, *steady(52 * MINUTE, 52 * MINUTE))
    assert standing(monitor, "no_data") == []


def test_how_ill_the_rest_is_decides_how_soon_a_sign_that_never_came_is_missed() -> None:
    monitor = a_monitor()
    ill = {**WELL, "respiratory_rate": 30, "heart_rate": 135, "temperature": 39.5, "spo2": None}  # NEWS2 of 8
    for after_ms in range(0, 4 * MINUTE, 30 * SECOND):
        feed(monitor, a_reading(after_ms, **ill))
        wait(monitor, after_ms + 29 * SECOND)

    assert [(alarm.key, alarm.priority) for alarm in standing(monitor, "no_data")] == [("spo2", Priority.HIGH)]


def test_the_deadline_runs_from_when_the_binding_became_known_and_the_id_from_when_it_began() -> None:
    here, there = a_monitor(), a_monitor()
    here.on_binding(bound())
    there.on_binding(bound(heard_ms=3 * HOUR))  # an edge that was away, or whose clock is three hours ahead

    wait(here, 11 * MINUTE)
    assert wait(there, 3 * HOUR + 9 * MINUTE) == []
    wait(there, 3 * HOUR + 11 * MINUTE)

    assert [one.alarm_id for one in standing(here)] == [one.alarm_id for one in standing(there)] != []


def test_the_deadline_outlives_a_restart_and_a_repeated_message() -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())
    again = restarted(monitor)
    assert again.on_binding(bound(heard_ms=9 * MINUTE)) == []

    wait(again, 11 * MINUTE)

    assert len(standing(again, "no_data")) == 1


def test_a_binding_that_is_repeated_is_not_written_again() -> None:
    ward = Patients(lambda _: MonitoringPlan())
    ward.apply(bound())
    ward.apply(a_reading(SECOND, **WELL))
    ward.drain()

    ward.apply(bound(heard_ms=2 * SECOND))

    assert ward.drain().snapshots == {}


def test_the_end_of_a_binding_ends_its_alarms_and_says_so() -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())
    feed(monitor, *steady(0, 5 * MINUTE, respiratory_rate=26, spo2=90))
    open_before = monitor.open_alarms()
    assert {alarm.rule_id for alarm in open_before} == {"news2", "red_sign"}

    events = monitor.on_binding(bound(to_ms=6 * MINUTE))

    ended = alarms(events)
    assert [alarm.alarm_id for alarm in ended] == [alarm.alarm_id for alarm in open_before]
    assert all(alarm.state is AlarmState.CLEARED and alarm.stay_ended and not alarm.latched for alarm in ended)
    assert {alarm.acknowledged_by for alarm in ended} == {None}
    assert ended[0].text.startswith("monitoring ended at 08:06 UTC; alarm was: NEWS2 6: ")
    assert events[-1] == MonitoringEnded(stay_id=BINDING, at_ms=START + 6 * MINUTE, ended_ms=START + 6 * MINUTE)
    assert (monitor.open_alarms(), monitor.timer_at()) == ([], None)


def test_a_latched_alarm_that_nobody_answered_ends_as_well() -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())
    feed(monitor, *steady(0, 2 * MINUTE, heart_rate=160), *steady(3 * MINUTE, 20 * MINUTE))
    assert [alarm.latched for alarm in alarms(monitor.open_alarms(), "high_heart_rate")] == [True]

    ended = alarms(monitor.on_binding(bound(to_ms=21 * MINUTE)), "high_heart_rate")

    assert [(alarm.latched, alarm.stay_ended, alarm.acknowledged_by) for alarm in ended] == [(False, True, None)]
    assert monitor.open_alarms() == []


def test_what_is_heard_after_the_end_goes_to_the_record_only() -> None:
    monitor = restarted_after_the_end()

    backlog = feed(monitor, a_reading(4 * MINUTE, counter=900, held_up_ms=3 * MINUTE, heart_rate=160))
    foreign = feed(monitor, a_reading(7 * MINUTE, counter=901, heart_rate=160, spo2=70))
    score = feed(monitor, a_score(7 * MINUTE, 0.99))

    assert all(alarm.retrospective for alarm in alarms(backlog + foreign + score))
    judged = [event for event in backlog + foreign if isinstance(event, ReadingJudged)]
    assert [event.backfilled for event in judged] == [True, True]
    # On the wearable after the end: nobody knows who that is. The values are kept, and are nobody's.
    assert [event.reading.unusable != 0 for event in judged] == [False, True]
    assert judged[1].reading.spo2 == 70
    assert (monitor.open_alarms(), monitor.timer_at()) == ([], None)


def restarted_after_the_end() -> PatientMonitor:
    monitor = a_monitor()
    monitor.on_binding(bound())
    feed(monitor, *steady(0, 5 * MINUTE))
    monitor.on_binding(bound(to_ms=6 * MINUTE))
    return restarted(monitor)


def test_an_end_is_final() -> None:
    monitor = restarted_after_the_end()

    assert monitor.on_binding(bound(heard_ms=7 * MINUTE)) == []  # an old message, or a registry from a backup
    assert monitor.timer_at() is None


@pytest.mark.parametrize(("ahead_ms", "ends_at_ms"), [(30 * MINUTE, 0), (3 * HOUR, 3 * HOUR)])
def test_an_end_that_seems_to_be_soon_has_happened_and_one_that_is_far_comes_then(
    ahead_ms: int, ends_at_ms: int
) -> None:
    # Half an hour is a clock that is behind: the registry writes ends when they happen.
    ward = Patients(lambda _: MonitoringPlan())
    ward.apply(bound())
    ward.apply(bound(to_ms=ahead_ms, heard_ms=SECOND))
    ward.apply(Tick(now_ms=START + max(ends_at_ms, SECOND)))

    monitor = ward.monitor(BINDING)
    assert monitor is not None
    assert (monitor.open_alarms(), monitor.timer_at()) == ([], None)


def test_a_binding_that_is_known_only_since_its_end_is_never_watched() -> None:
    monitor = a_monitor()

    monitor.on_binding(bound(to_ms=HOUR))

    assert (wait(monitor, 3 * HOUR), monitor.timer_at()) == ([], None)


# Clocks that are set, and signs that arrive and are never usable


def test_a_clock_that_is_set_moves_the_deadline_and_not_what_the_registry_has_signed() -> None:
    monitor = a_monitor()
    monitor.on_binding(bound(edge_heard_ms=-4 * MINUTE))
    wait(monitor, 5 * MINUTE)

    monitor.shift(2 * HOUR)
    monitor = restarted(monitor)
    feed(monitor, a_silence("news2", 2 * HOUR + 6 * MINUTE, until_ms=5 * HOUR))  # the next timer is found anew

    assert wait(monitor, 2 * HOUR + 10 * MINUTE) == []
    wait(monitor, 2 * HOUR + 10 * MINUTE + SECOND)
    (alarm,) = standing(monitor, "no_data")
    assert alarm.onset_ms == START
    assert alarm.text == "no data since monitoring began at 08:00 UTC, 2 h: its edge is not heard since 09:56 UTC"


@pytest.mark.parametrize(("step_ms", "is_past"), [(-HOUR, False), (HOUR, False), (5 * HOUR, True)])
def test_a_signed_end_that_lies_ahead_stays_where_it_is_when_the_clock_is_set(step_ms: int, is_past: bool) -> None:
    ward = Patients(lambda _: MonitoringPlan())
    ward.apply(bound())
    ward.apply(bound(to_ms=4 * HOUR, heard_ms=SECOND))
    ward.apply(a_reading(2 * SECOND, **WELL))

    ward.shift(step_ms)
    before = ward.apply(Tick(now_ms=START + 4 * HOUR - SECOND))
    after = ward.apply(Tick(now_ms=START + 4 * HOUR))

    ends = [[event for event in events if isinstance(event, MonitoringEnded)] for events in (before, after)]
    assert [len(one) for one in ends] == ([1, 0] if is_past else [0, 1])
    assert ends[0 if is_past else 1][0].ended_ms == START + 4 * HOUR


@pytest.mark.parametrize("step_ms", [-HOUR, HOUR])
def test_a_clock_that_is_set_before_the_first_reading_says_nothing_of_the_wearable_s(step_ms: int) -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())
    monitor.shift(step_ms)

    events = feed(monitor, a_reading(step_ms + SECOND, counter=1, **WELL))

    (judged,) = [event for event in events if isinstance(event, ReadingJudged)]
    assert (judged.reading.at_ms, judged.backfilled) == (START + step_ms + SECOND, False)


def test_a_sign_that_never_came_is_awaited_from_when_the_first_reading_was_really_measured() -> None:
    # The wearable's clock is four minutes behind, which is known after ten seconds of its live readings.
    monitor = a_monitor()
    monitor.on_binding(bound())
    behind_ms = 4 * MINUTE

    def lives(from_ms: int, to_ms: int) -> None:
        for after_ms in range(from_ms, to_ms, 5 * SECOND):
            wait(monitor, after_ms)
            feed(monitor, a_reading(after_ms - behind_ms, held_up_ms=behind_ms, **{**WELL, "spo2": None}))

    lives(0, 29 * MINUTE)
    assert standing(monitor, "no_data") == []
    lives(29 * MINUTE, 31 * MINUTE)

    assert [alarm.key for alarm in standing(monitor, "no_data")] == ["spo2"]


def test_a_sign_that_arrives_and_was_never_usable_is_told_as_that_and_no_data_names_the_cause() -> None:
    monitor = a_monitor()
    monitor.on_binding(bound())
    for after_ms in range(0, 32 * MINUTE, 30 * SECOND):
        wait(monitor, after_ms)
        feed(monitor, a_reading(after_ms, **{**WELL, "spo2": 0.98}))
        about_spo2 = {alarm.rule_id for alarm in standing(monitor) if alarm.key == "spo2"}
        assert ("unusable" in about_spo2) is (after_ms >= 2 * MINUTE)
        assert ("no_data" in about_spo2) is (after_ms > 30 * MINUTE)

    (alarm,) = standing(monitor, "no_data")
    assert alarm.text == (
        "no usable data for oxygen saturation since monitoring began at 08:00 UTC, 30 min; "
        "it arrives, values like 0.98, looks like a fraction of 1, not %; NEWS2 was 0"
    )


def test_a_child_who_is_never_heard_is_an_alarm_in_the_time_zone_of_the_site() -> None:
    plan = MonitoringPlan(group=PatientGroup.CHILD)
    monitor = PatientMonitor(BINDING, plan, lambda _: "09:00 CET")
    monitor.on_binding(bound())

    wait(monitor, 11 * MINUTE)
    (alarm,) = standing(monitor, "no_data")
    ended = alarms(monitor.on_binding(bound(to_ms=12 * MINUTE)))

    assert alarm.text.startswith("no data since monitoring began at 09:00 CET, 10 min: its edge is not heard")
    assert ended[0].text.startswith("monitoring ended at 09:00 CET; alarm was: no data since monitoring began")
