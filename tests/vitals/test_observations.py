"""What people enter: it counts with devices' values by precedence, ages by the risk, and raises alarms by itself."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.vitals.bedside import CUFF, OXIMETER, PATCH, bound, by, entered, in_order, observation_id, play
from tests.vitals.stories import (
    HOUR,
    MINUTE,
    SECOND,
    START,
    a_monitor,
    a_tick,
    alarms,
    restarted,
    standing,
)
from vitals.freshness import Freshness
from vitals.messages import AlarmState, Consciousness, News2Scored, ObservationRecorded, Priority, Reading, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.observations import KEPT_IDS, LONGEST_OFF_MS, OLDEST_MS
from vitals.patient_group import PatientGroup
from vitals.signs import VitalSign

SET: dict[str, Any] = {
    "consciousness": Consciousness.ALERT,
    "supplemental_oxygen": 0.0,
    "respiratory_rate": 16.0,
    "heart_rate": 80.0,
    "spo2": 97.0,
    "systolic_bp": 120.0,
    "diastolic_bp": 75.0,
    "temperature": 37.0,
}


def recorded(events: list[Any]) -> ObservationRecorded:
    (one,) = [event for event in events if isinstance(event, ObservationRecorded)]
    return one


def points(monitor: PatientMonitor, after_ms: int) -> dict[str, int | None]:
    score = monitor.view(START + after_ms).news2
    assert score is not None
    return {part.sign: part.points for part in score.parts}


# Alone


def test_a_full_set_of_a_nurse_is_a_complete_score_without_any_device() -> None:
    monitor = a_monitor()

    events = play(monitor, entered(0, **SET))

    (score,) = [one for one in events if isinstance(one, News2Scored)]
    assert (score.total, score.reading_id) == (0, observation_id(0))
    assert {part.source for part in score.parts} == {"by:anna"}
    assert recorded(events).refused == recorded(events).remark == ""


@pytest.mark.parametrize(
    ("what", "rule_id", "key"),
    [
        ({"consciousness": Consciousness.CONFUSION}, "red_sign", "consciousness"),
        ({"respiratory_rate": 28.0}, "red_sign", "respiratory_rate"),
        ({"spo2": 84.0}, "low_spo2", ""),
        ({"systolic_bp": 85.0, "diastolic_bp": 50.0}, "red_sign", "systolic_bp"),
        ({"heart_rate": 160.0}, "high_heart_rate", ""),
        ({"temperature": 34.9}, "red_sign", "temperature"),
        ({"respiratory_rate": 24.0, "systolic_bp": 98.0}, "qsofa", ""),
        (SET | {"supplemental_oxygen": 4.0, "respiratory_rate": 22.0, "heart_rate": 100.0}, "news2", ""),
    ],
)
def test_a_nurses_entry_alone_raises_an_alarm_at_once(what: dict[str, Any], rule_id: str, key: str) -> None:
    monitor = a_monitor()

    events = play(monitor, entered(0, **what))

    assert (rule_id, key) in {(one.rule_id, one.key) for one in alarms(events) if one.state is AlarmState.ACTIVE}
    assert restarted(monitor).open_alarms() == monitor.open_alarms()


def test_a_child_has_no_score_and_is_not_silent() -> None:
    monitor = a_monitor(group=PatientGroup.CHILD)

    play(monitor, entered(0, consciousness=Consciousness.UNRESPONSIVE))

    assert [one.rule_id for one in standing(monitor)] == ["danger_consciousness"]


def test_an_entry_of_an_hour_ago_counts_as_of_its_time() -> None:
    monitor = a_monitor()
    play(monitor, *[by(PATCH, at_ms, heart_rate=80.0 + at_ms // 5_000 % 3) for at_ms in range(0, HOUR, 5_000)])

    events = play(monitor, entered(0, late_ms=HOUR, respiratory_rate=28.0))

    assert recorded(events).late
    assert recorded(events).refused == ""
    score = [one for one in events if isinstance(one, News2Scored)][-1]
    assert {part.sign: part.age_ms for part in score.parts}["respiratory_rate"] == HOUR - 5_000
    assert [one.key for one in standing(monitor, "red_sign")] == ["respiratory_rate"]


def test_an_older_entry_does_not_replace_a_newer_value() -> None:
    monitor = a_monitor()

    play(monitor, by(PATCH, MINUTE, spo2=97), entered(0, late_ms=2 * MINUTE, spo2=80.0))

    assert monitor.latest()[VitalSign.SPO2] == (97, START + MINUTE)
    assert not standing(monitor, "low_spo2")


def test_what_was_entered_becomes_due_by_the_risk_and_missing_after_twelve_hours() -> None:
    monitor = a_monitor()
    play(monitor, entered(0, **SET | {"respiratory_rate": 26.0}))  # a 3 in one parameter: hourly

    def of(after_ms: int) -> tuple[int | None, int, bool]:
        score = monitor.view(START + after_ms).news2
        assert score is not None
        return score.total, score.at_least, VitalSign.RESPIRATORY_RATE in score.due

    assert of(59 * MINUTE) == (3, 3, False)
    assert of(61 * MINUTE) == (None, 3, True)
    assert of(12 * HOUR + 1)[:2] == (None, 0)


def test_an_alarm_of_an_entry_that_is_too_old_is_not_repeated_as_current() -> None:
    monitor = a_monitor()
    play(monitor, entered(0, respiratory_rate=28.0))

    play(monitor, a_tick(13 * HOUR))

    (alarm,) = standing(monitor, "red_sign")
    assert alarm.text.startswith("was red sign")


# Oxygen


@pytest.mark.parametrize(
    ("what", "scores"),
    [
        ({"supplemental_oxygen": 0.0}, 0),
        ({"supplemental_oxygen": 0.5}, 2),
        ({"inspired_oxygen": 21.0}, 0),
        ({"inspired_oxygen": 24.0}, 2),
        ({"inspired_oxygen": 28.0, "oxygen_device": "Venturi mask"}, 2),
        ({"supplemental_oxygen": 0.0, "inspired_oxygen": 40.0}, 2),
        ({"oxygen_device": "nasal cannula"}, 2),
        ({"oxygen_device": "Room air"}, 0),
        ({"supplemental_oxygen": 0.0, "oxygen_device": "nasal cannula"}, 0),
        ({"note": "asleep"}, None),
    ],
)
def test_oxygen_in_whatever_way_it_is_entered(what: dict[str, Any], scores: int | None) -> None:
    monitor = a_monitor()

    play(monitor, entered(0, spo2=97.0), entered(1, **what))

    assert points(monitor, 1)["supplemental_oxygen"] == scores


# Refused


@pytest.mark.parametrize(
    ("what", "late_ms", "why"),
    [
        ({"spo2": 980.0}, 0, "oxygen saturation 980 is not possible"),
        ({"spo2": 0.97}, 0, "oxygen saturation 0.97 is not possible"),
        ({"temperature": 98.6}, 0, "body temperature 98.6 is not possible"),
        ({"heart_rate": float("nan")}, 0, "heart rate nan is not possible"),
        ({"respiratory_rate": -1.0}, 0, "respiratory rate -1 is not possible"),
        ({"supplemental_oxygen": 200.0}, 0, "supplemental oxygen 200 is not possible"),
        ({"inspired_oxygen": 0.4}, 0, "inspired oxygen 0.4 is not possible"),
        ({"systolic_bp": 70.0, "diastolic_bp": 110.0}, 0, "systolic pressure 70 is not above diastolic 110"),
        ({"spo2": 80.0}, OLDEST_MS + 1, "observed 12 h ago, more than 12 h"),
        ({"spo2": 80.0}, -10 * MINUTE, "observed 10 min in the future"),
    ],
)
def test_what_cannot_be_is_recorded_with_the_reason_and_counts_for_nothing(
    what: dict[str, Any], late_ms: int, why: str
) -> None:
    monitor = a_monitor()

    (event,) = monitor.on_observation(entered(24 * HOUR, late_ms=late_ms, **what))

    assert isinstance(event, ObservationRecorded)
    assert event.refused.startswith(why)
    assert monitor.latest() == {}
    assert monitor.open_alarms() == []


def test_a_minute_in_the_future_is_now() -> None:
    monitor = a_monitor()

    play(monitor, entered(MINUTE, late_ms=-30_000, spo2=95.0))

    assert monitor.latest()[VitalSign.SPO2] == (95, START + 30_000)


def test_an_observation_for_a_discharged_patient_is_recorded_and_refused() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(PATCH, 0, to_ms=10 * MINUTE))

    before, after = (
        recorded(play(monitor, entered(at_ms, late_ms=15 * MINUTE - at_ms, consciousness=Consciousness.PAIN)))
        for at_ms in (5 * MINUTE, 12 * MINUTE)
    )

    assert before.refused == after.refused == "the stay has ended at 08:10 UTC"
    assert monitor.open_alarms() == []
    assert monitor.timer_at() is None


def test_glucose_and_a_note_are_only_recorded() -> None:
    monitor = a_monitor()

    events = play(monitor, entered(0, glucose=2.1, note="sweating"))

    assert [type(one) for one in events] == [ObservationRecorded]


# Twice, and corrected


def test_the_same_observation_again_changes_nothing_and_repeats_the_open_alarms() -> None:
    monitor, observation = a_monitor(), entered(0, respiratory_rate=28.0)
    play(monitor, observation)
    before = monitor.snapshot()

    again = monitor.on_observation(replace(observation, heard_ms=observation.heard_ms + HOUR))

    assert again == monitor.open_alarms()
    assert again
    assert monitor.snapshot() == before


def test_a_correction_replaces_the_values_of_what_it_corrects() -> None:
    monitor = a_monitor()
    play(monitor, by(PATCH, 0, spo2=96), entered(10_000, **SET | {"spo2": 69.0, "consciousness": Consciousness.PAIN}))
    assert points(monitor, 10_000)["consciousness"] == 3

    events = play(monitor, entered(10_000, number=2, late_ms=5_000, corrects=observation_id(10_000), spo2=96.0))

    assert recorded(events).remark == ""
    assert points(monitor, 15_000) == {
        "respiratory_rate": None,
        "spo2": 0,
        "supplemental_oxygen": None,
        "systolic_bp": None,
        "heart_rate": None,
        "consciousness": None,
        "temperature": None,
    }


def test_a_correction_lets_the_device_and_the_observation_before_count_again() -> None:
    monitor = a_monitor()
    play(
        monitor,
        entered(0, "bea", consciousness=Consciousness.VOICE),
        by(OXIMETER, 20_000, spo2=94),
        entered(30_000, "anna", number=3, consciousness=Consciousness.ALERT, spo2=99.0),
    )

    play(monitor, entered(40_000, "anna", number=4, corrects=observation_id(3), note="wrong patient"))

    assert monitor.latest() == {
        VitalSign.CONSCIOUSNESS: (Consciousness.VOICE, START),
        VitalSign.SPO2: (94, START + 20_000),
    }


def test_an_alarm_of_a_value_that_was_taken_back_says_that_it_is_not_known_any_more() -> None:
    monitor = a_monitor()
    play(monitor, entered(0, respiratory_rate=28.0), entered(1_000, corrects=observation_id(0), note="other patient"))

    (alarm,) = standing(monitor, "red_sign")
    assert alarm.text.startswith("was red sign")


def test_a_corrected_value_that_a_device_has_replaced_since_changes_nothing() -> None:
    monitor = a_monitor()
    play(monitor, entered(0, spo2=80.0), by(PATCH, 10_000, spo2=97))

    play(monitor, entered(0, number=2, late_ms=20_000, corrects=observation_id(0), spo2=90.0))

    assert monitor.latest()[VitalSign.SPO2] == (97, START + 10_000)


def test_a_correction_of_something_unknown_counts_by_itself_and_says_so() -> None:
    monitor = a_monitor()

    events = play(monitor, entered(0, corrects=b"?" * 16, respiratory_rate=28.0))

    assert recorded(events).refused == ""
    assert "is not known here" in recorded(events).remark
    assert standing(monitor, "red_sign")


def test_a_refused_correction_leaves_what_it_corrects() -> None:
    monitor = a_monitor()
    play(monitor, entered(0, spo2=90.0))

    play(monitor, entered(1, corrects=observation_id(0), spo2=960.0))

    assert monitor.latest()[VitalSign.SPO2] == (90, START)


def test_a_thousand_observations_are_not_kept() -> None:
    monitor, sizes = a_monitor(), []
    for number in range(1, 1_000):
        play(monitor, entered(number * MINUTE, f"nurse {number % 50}", number=number, **SET))
        sizes.append(len(monitor.snapshot()))

    assert max(sizes) < sizes[2 * KEPT_IDS] * 1.1


# Off for a bath


def off_for_a_bath(monitor: PatientMonitor, *, back_ms: int) -> list[Any]:
    """Off at 08:05, entered for an hour; the device says that it is off, then nothing, and then it is back."""
    worn = [worn_at(at_ms) for at_ms in range(0, 5 * MINUTE, 5_000)]
    off = [
        by(PATCH, at_ms, heart_rate=0, spo2=0, flags=int(SensorFlag.SENSOR_OFF))
        for at_ms in range(5 * MINUTE + 20_000, 9 * MINUTE, 5_000)
    ]
    back = [worn_at(at_ms) for at_ms in (back_ms, back_ms + 5_000)]
    return play(
        monitor,
        bound(PATCH, 0),
        *worn,
        *in_order([entered(5 * MINUTE + 5_000, off_until_ms=65 * MINUTE)], off, back),
    )


def worn_at(after_ms: int) -> Reading:
    return by(PATCH, after_ms, heart_rate=70.0 + after_ms // 5_000 % 3, spo2=97, respiratory_rate=15)


def test_devices_that_are_off_on_purpose_call_nobody_until_they_are_back() -> None:
    monitor = a_monitor()

    events = off_for_a_bath(monitor, back_ms=50 * MINUTE)

    assert alarms(events) == []
    assert monitor.view(START + 50 * MINUTE).off_until_ms is None
    later = play(monitor, a_tick(3 * HOUR))
    assert {one.rule_id for one in alarms(later)} == {"no_data"}


def test_while_devices_are_off_the_screen_says_until_when_and_shows_nothing_old_as_current() -> None:
    monitor = a_monitor()
    off_for_a_bath(monitor, back_ms=5 * MINUTE + 10_000)  # two readings before it is taken off end nothing

    play(monitor, a_tick(50 * MINUTE))

    view = monitor.view(START + 50 * MINUTE)
    assert view.off_until_ms == START + 65 * MINUTE
    assert {one.freshness for one in view.signs} == {Freshness.STALE}
    assert view.news2 is not None
    assert len(view.news2.missing) == 7


def test_devices_that_do_not_come_back_are_missed_when_the_time_is_over() -> None:
    monitor = a_monitor()
    off_for_a_bath(monitor, back_ms=5 * MINUTE + 10_000)

    events = play(monitor, a_tick(66 * MINUTE))

    first = next(one for one in alarms(events) if one.state is AlarmState.ACTIVE)
    assert (first.rule_id, first.at_ms) == ("no_data", START + 65 * MINUTE)


@pytest.mark.parametrize("restart", [False, True])
def test_data_that_were_missing_before_and_after_a_bath_are_two_alarms(restart: bool) -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), *(worn_at(at_ms) for at_ms in range(0, 5 * MINUTE, 5_000)))
    (before,) = alarms(play(monitor, a_tick(40 * MINUTE)), "no_data")
    play(monitor, entered(45 * MINUTE, off_until_ms=60 * MINUTE))
    assert not standing(monitor, "no_data")
    monitor = restarted(monitor) if restart else monitor

    play(monitor, a_tick(61 * MINUTE))

    (after,) = standing(monitor, "no_data")
    assert after.alarm_id != before.alarm_id
    assert after.onset_ms == before.onset_ms


def test_devices_are_off_for_two_hours_at_most() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), by(PATCH, 0, heart_rate=70, spo2=97), entered(MINUTE, off_until_ms=24 * HOUR))

    assert monitor.view(START + 2 * MINUTE).off_until_ms == START + MINUTE + LONGEST_OFF_MS
    assert alarms(play(monitor, a_tick(2 * HOUR)), "no_data") == []
    assert alarms(play(monitor, a_tick(2 * HOUR + 2 * MINUTE)), "no_data")


def test_what_was_said_about_the_device_before_it_was_entered_is_over() -> None:
    monitor = a_monitor()
    worn = [by(PATCH, at_ms, heart_rate=70.0 + at_ms // 5_000 % 3, spo2=97) for at_ms in range(0, 5 * MINUTE, 5_000)]
    off = [by(PATCH, at_ms, flags=int(SensorFlag.SENSOR_OFF)) for at_ms in range(5 * MINUTE, 8 * MINUTE, 5_000)]
    play(monitor, *worn, *off)
    assert standing(monitor, "sensor_off")

    play(monitor, entered(8 * MINUTE, off_until_ms=30 * MINUTE))

    assert monitor.open_alarms() == []


def test_an_alarm_about_the_patient_is_not_ended_by_a_bath() -> None:
    monitor = a_monitor()
    play(monitor, *[by(PATCH, at_ms, spo2=83.0 + at_ms // 5_000 % 2) for at_ms in range(0, 5 * MINUTE, 5_000)])
    high = {one.rule_id for one in standing(monitor) if one.priority is Priority.HIGH}

    play(monitor, entered(5 * MINUTE, off_until_ms=60 * MINUTE), a_tick(50 * MINUTE))

    after = {one.rule_id for one in standing(monitor) if one.priority is Priority.HIGH}
    assert after == high == {"red_sign", "low_spo2"}
    assert all(one.text.startswith("was ") for one in standing(monitor))


def test_a_device_that_is_never_taken_off_ends_it() -> None:
    """What stops later has another cause than the bath."""
    monitor = a_monitor()
    worn = [worn_at(at_ms) for at_ms in range(MINUTE, 15 * MINUTE, 5_000)]

    events = play(monitor, entered(MINUTE - 1, off_until_ms=2 * HOUR), *worn, a_tick(50 * MINUTE))

    assert {one.rule_id for one in alarms(events)} == {"no_data"}


def test_a_cuff_during_the_bath_does_not_say_that_the_patch_is_back() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), by(PATCH, 0, heart_rate=70, spo2=97), entered(MINUTE, off_until_ms=90 * MINUTE))

    cuff = [by(CUFF, at_ms, systolic_bp=120, diastolic_bp=70) for at_ms in range(10 * MINUTE, HOUR, 10 * MINUTE)]

    events = play(monitor, *cuff)

    assert alarms(events) == []
    assert monitor.view(START + HOUR).off_until_ms == START + 90 * MINUTE


def test_a_shorter_time_ends_it_earlier() -> None:
    monitor = a_monitor()

    play(monitor, entered(0, off_until_ms=60 * MINUTE), entered(10 * MINUTE, off_until_ms=10 * MINUTE + SECOND))

    assert monitor.view(START + 10 * MINUTE).off_until_ms == START + 10 * MINUTE + SECOND
