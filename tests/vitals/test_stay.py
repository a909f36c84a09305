"""One patient with a patch, an oximeter, a cuff, a thermometer and a nurse: one score and one set of alarms.

Times are milliseconds after 08:00 UTC.
"""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from tests.vitals.bedside import (
    CUFF,
    NAMES,
    OXIMETER,
    PATCH,
    THERMOMETER,
    AtBedside,
    bound,
    by,
    entered,
    in_order,
    observation_id,
    play,
)
from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    START,
    a_monitor,
    a_plan,
    a_tick,
    alarms,
    restarted,
    standing,
)
from vitals.messages import (
    AlarmState,
    Consciousness,
    MonitoringEnded,
    News2Scored,
    ObservationRecorded,
    Priority,
    Reading,
    ReadingJudged,
    SensorFlag,
)
from vitals.monitor import PatientMonitor
from vitals.signs import VitalSign
from vitals.sources import KEPT_DEVICES

PATCH_WELL: dict[str, Any] = {"heart_rate": 72.0, "respiratory_rate": 15.0}


def patch(from_ms: int, to_ms: int, *, every_ms: int = 5 * SECOND, **signs: Any) -> list[Reading]:
    return [
        by(PATCH, at_ms, **{**PATCH_WELL, "heart_rate": 72.0 + at_ms // every_ms % 3, **signs})
        for at_ms in range(from_ms, to_ms, every_ms)
    ]


def oximeter(from_ms: int, to_ms: int, spo2: float, *, every_ms: int = 5 * SECOND, **what: Any) -> list[Reading]:
    return [
        by(OXIMETER, at_ms, spo2=spo2 - at_ms // every_ms % 2, **what)
        for at_ms in range(from_ms + 700, to_ms, every_ms)
    ]


def last_score(events: list[Any]) -> News2Scored:
    return [one for one in events if isinstance(one, News2Scored)][-1]


# One score


def test_patch_oximeter_cuff_thermometer_and_nurse_make_one_complete_score_with_its_sources() -> None:
    monitor = a_monitor()

    events = play(
        monitor,
        *in_order(
            patch(0, MINUTE),
            oximeter(0, MINUTE, 95),
            [by(CUFF, 20_000, systolic_bp=105, diastolic_bp=70), by(THERMOMETER, 30_000, temperature=38.4)],
            [entered(40_000, consciousness=Consciousness.ALERT, supplemental_oxygen=2.0)],
        ),
    )

    score = last_score(events)
    # SpO2 94 or 95: 1, oxygen: 2, pressure 105: 1, temperature 38.4: 1
    assert score.total == 5
    assert {part.sign: part.source for part in score.parts} == {
        "respiratory_rate": "",
        "spo2": OXIMETER,
        "supplemental_oxygen": "by:anna",
        "systolic_bp": CUFF,
        "heart_rate": "",
        "consciousness": "by:anna",
        "temperature": THERMOMETER,
    }
    assert {part.sign: part.age_ms for part in score.parts}["temperature"] == score.at_ms - START - 30_000


def test_an_oximeter_that_is_always_a_little_behind_the_patch_is_judged() -> None:
    """Its readings arrive in its own order, each after a newer one of the patch."""
    monitor = a_monitor()
    slow = [replace(one, received_ms=one.at_ms + 6 * SECOND) for one in oximeter(0, 2 * MINUTE, 83)]

    events = play(monitor, *in_order(patch(0, 2 * MINUTE), slow))

    low, *_ = [one for one in alarms(events, "low_spo2") if one.state is AlarmState.ACTIVE]
    assert low.priority is Priority.HIGH
    assert low.at_ms <= START + 30 * SECOND
    assert not any(one.late for one in events if isinstance(one, ReadingJudged))


@pytest.mark.parametrize("behind_ms", [2 * SECOND, 50 * SECOND, 3 * MINUTE, 4 * MINUTE + 50 * SECOND])
def test_a_device_that_is_minutes_behind_still_raises_its_red_sign(behind_ms: int) -> None:
    monitor = a_monitor()
    slow = [replace(one, received_ms=one.at_ms + behind_ms, age_ms=behind_ms) for one in oximeter(0, 10 * MINUTE, 86)]

    play(monitor, *in_order(patch(0, 10 * MINUTE), slow))

    assert standing(monitor, "red_sign")
    assert standing(monitor, "low_spo2")


def test_a_device_whose_binding_is_not_the_stay_works_alone() -> None:
    """An edge may hear only the second device of a stay."""
    monitor = a_monitor()

    events = play(monitor, bound(OXIMETER, 0), *oximeter(0, 2 * MINUTE, 86))

    assert standing(monitor, "red_sign")
    assert {part.source for part in last_score(events).parts if part.points is not None} == {OXIMETER}
    assert restarted(monitor).snapshot() == monitor.snapshot()
    silent = play(monitor, a_tick(13 * MINUTE))
    assert {one.rule_id for one in alarms(silent) if one.state is AlarmState.ACTIVE and one.revision == 0} == {
        "no_data"
    }


def test_two_devices_that_differ_are_no_jump() -> None:
    monitor = a_monitor()

    events = play(monitor, *in_order(patch(0, 5 * MINUTE, spo2=97.0), oximeter(0, 5 * MINUTE, 60)))

    judged = [one.reading for one in events if isinstance(one, ReadingJudged)]
    assert not any(one.unusable for one in judged)


def test_readings_of_two_devices_with_the_same_session_and_counter_are_two() -> None:
    monitor = a_monitor()
    one, other = by(PATCH, 0, **PATCH_WELL), replace(by(PATCH, 0, spo2=97), binding_id=OXIMETER)

    play(monitor, one, other)

    assert set(monitor.latest()) == {VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE, VitalSign.SPO2}


# Precedence


def test_the_newest_value_counts_and_the_others_stand_beside_it() -> None:
    monitor = a_monitor()

    play(monitor, by(PATCH, 0, spo2=97), by(OXIMETER, 3_000, spo2=95), entered(5_000, spo2=94))

    (view,) = monitor.view(START + 10_000).signs
    assert (view.value, view.source, view.age_ms) == (94, "by:anna", 5_000)
    assert [(one.value, one.source, one.age_ms) for one in view.others] == [(95, OXIMETER, 7_000), (97, "", 10_000)]


@pytest.mark.parametrize("spo2", [85.0, 99.0])
def test_a_later_value_of_a_device_counts_before_a_nurses(spo2: float) -> None:
    monitor = a_monitor()

    play(monitor, entered(0, spo2=95), by(OXIMETER, 1_000, spo2=spo2))

    assert monitor.latest()[VitalSign.SPO2] == (spo2, START + 1_000)


def test_a_nurses_value_counts_before_a_devices_of_the_same_moment_in_whatever_order_they_come() -> None:
    for messages in ((by(PATCH, 0, spo2=85), entered(0, spo2=95)), (entered(0, spo2=95), by(PATCH, 0, spo2=85))):
        monitor = a_monitor()
        play(monitor, *messages)
        assert monitor.latest()[VitalSign.SPO2] == (95, START)


def test_of_two_devices_at_one_moment_the_one_that_scores_more_counts() -> None:
    for messages in (
        (by(PATCH, 0, spo2=85), by(OXIMETER, 0, spo2=95)),
        (by(OXIMETER, 0, spo2=95), by(PATCH, 0, spo2=85)),
    ):
        monitor = a_monitor()
        play(monitor, *messages)
        assert monitor.latest()[VitalSign.SPO2] == (85, START)


# Disagreement


@pytest.mark.parametrize(("first", "second"), [(97.0, 82.0), (82.0, 97.0)])
@pytest.mark.parametrize("phase_ms", [100, 2_500, 4_900])
def test_of_two_oximeters_one_in_the_red_is_never_silent_whichever_is_newest(
    first: float, second: float, phase_ms: int
) -> None:
    monitor = a_monitor()
    others = [by(OXIMETER, at_ms + phase_ms, spo2=second + at_ms // 5_000 % 2) for at_ms in range(0, 5 * MINUTE, 5_000)]

    play(monitor, *in_order(patch(0, 5 * MINUTE, spo2=first), others))

    (alarm,) = standing(monitor, "sources_disagree")
    assert alarm.priority is Priority.MEDIUM
    assert alarm.key == "spo2"
    low, high = r"SpO2 8[23] % \(device (0e|b1)\w+, \d s ago, red\)", r"SpO2 9[78] % \(device (0e|b1)\w+, \d s ago\)"
    assert re.search(f"{low} and {high}", alarm.text)


def test_a_source_that_says_red_every_second_time_is_not_silent() -> None:
    monitor = a_monitor()
    others = [by(OXIMETER, at_ms + 2_500, spo2=(83, 96)[at_ms // 5_000 % 2]) for at_ms in range(0, 10 * MINUTE, 5_000)]

    events = play(monitor, *in_order(patch(0, 10 * MINUTE, spo2=97.0), others))

    assert [one for one in alarms(events, "sources_disagree") if one.state is AlarmState.ACTIVE]


def test_a_nurse_who_counts_a_red_respiratory_rate_is_not_overruled_in_silence() -> None:
    monitor = a_monitor()

    events = play(monitor, *patch(0, 2 * MINUTE), entered(2 * MINUTE + 1, respiratory_rate=28.0))
    red = standing(monitor, "red_sign")
    events += play(monitor, *patch(2 * MINUTE + 5 * SECOND, 6 * MINUTE))

    assert [one.key for one in red] == ["respiratory_rate"]
    assert [one for one in alarms(events, "sources_disagree") if one.state is AlarmState.ACTIVE]


def test_devices_that_differ_by_as_much_as_they_may_do_not_disagree() -> None:
    monitor = a_monitor()

    events = play(monitor, *in_order(patch(0, 10 * MINUTE, spo2=97.0), oximeter(0, 10 * MINUTE, 94)))

    assert alarms(events, "sources_disagree") == []


def test_devices_that_agree_again_end_the_alarm() -> None:
    monitor = a_monitor()
    play(monitor, *in_order(patch(0, 3 * MINUTE, spo2=97.0), oximeter(0, 3 * MINUTE, 85)))
    assert standing(monitor, "sources_disagree")

    play(monitor, *in_order(patch(3 * MINUTE, 9 * MINUTE, spo2=97.0), oximeter(3 * MINUTE, 9 * MINUTE, 97)))

    assert not standing(monitor, "sources_disagree")


def test_a_cuff_and_a_nurse_who_disagree_are_told_of_though_nothing_else_comes() -> None:
    monitor = a_monitor()

    events = play(
        monitor, by(CUFF, 0, systolic_bp=130, diastolic_bp=80), entered(MINUTE, systolic_bp=88.0), a_tick(3 * MINUTE)
    )

    assert [one.key for one in alarms(events, "sources_disagree") if one.state is AlarmState.ACTIVE] == ["systolic_bp"]


# Silence


def test_a_silent_device_is_told_of_while_others_are_heard() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(OXIMETER, 0))

    events = play(monitor, *in_order(patch(0, 40 * MINUTE), oximeter(0, 5 * MINUTE, 97)))

    found = [one for one in alarms(events, "device_silent") if one.state is AlarmState.ACTIVE]
    assert [(one.priority, one.key) for one in found] == [(Priority.LOW, OXIMETER[:8]), (Priority.MEDIUM, OXIMETER[:8])]
    assert found[0].text.startswith("oximeter is silent since 08:0")
    assert found[0].at_ms - START >= 15 * MINUTE - 5 * SECOND
    assert {one.binding_id: one.is_silent for one in monitor.view(START + 40 * MINUTE).devices} == {
        PATCH: False,
        OXIMETER: True,
    }

    back = play(monitor, by(OXIMETER, 41 * MINUTE, spo2=97))
    assert [one.state for one in alarms(back, "device_silent")] == [AlarmState.CLEARED]


def test_a_cuff_that_inflates_every_hour_is_not_silent() -> None:
    monitor = a_monitor()
    cuff = [by(CUFF, at_ms, systolic_bp=120, diastolic_bp=70) for at_ms in range(0, 5 * HOUR, HOUR)]

    events = play(monitor, *in_order(patch(0, 5 * HOUR, every_ms=20 * SECOND), cuff))

    assert alarms(events, "device_silent") == []


def test_a_device_that_is_bound_and_never_heard_is_told_of() -> None:
    monitor = a_monitor()

    events = play(monitor, bound(PATCH, 0), bound(OXIMETER, 0), *patch(0, 11 * MINUTE))

    (alarm,) = alarms(events, "device_silent")
    assert "oximeter was never heard" in alarm.text


def test_a_single_device_that_is_silent_is_no_data_and_nothing_else() -> None:
    monitor = a_monitor()

    events = play(monitor, bound(PATCH, 0), *patch(0, 5 * MINUTE, spo2=97.0), a_tick(2 * HOUR))

    assert {one.rule_id for one in alarms(events)} == {"no_data"}


def test_no_data_comes_when_no_source_is_left_and_not_before() -> None:
    monitor = a_monitor()
    play(monitor, *in_order(patch(0, 5 * MINUTE, spo2=97.0), oximeter(0, 50 * MINUTE, 97)))
    of_signs = {one.key for one in standing(monitor, "no_data")}

    play(monitor, a_tick(120 * MINUTE))

    assert of_signs == {"heart_rate", "respiratory_rate"}
    assert "" in {one.key for one in standing(monitor, "no_data")}


def test_the_alarms_of_each_device_are_its_own() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(OXIMETER, 0))

    play(
        monitor,
        *in_order(
            patch(0, 3 * MINUTE, battery=10.0),
            oximeter(0, 3 * MINUTE, 97, battery=4.0, flags=int(SensorFlag.SENSOR_OFF)),
        ),
    )

    assert {one.key: one.text for one in standing(monitor, "battery")} == {
        "": "patch: battery 10 %; limit <= 15 %",
        OXIMETER[:8]: "oximeter: battery 4 %; limit <= 5 %",
    }
    (off,) = standing(monitor, "sensor_off")
    assert off.key == OXIMETER[:8]
    devices = {one.name: one for one in monitor.view(START + 3 * MINUTE).devices}
    assert devices["patch"].battery == 10
    assert devices["patch"].sensor_off_since_ms is None
    assert devices["oximeter"].sensor_off_since_ms == START + 700


def test_a_patch_that_fell_off_does_not_excuse_the_zeros_of_the_oximeter() -> None:
    """The patch says every five seconds that it is off the body; the oximeter is on, and sees no pulse."""
    monitor = a_monitor()
    off = patch(2 * MINUTE, 5 * MINUTE, spo2=0.0, flags=int(SensorFlag.SENSOR_OFF))
    arrest = [by(OXIMETER, at_ms, heart_rate=0, spo2=0) for at_ms in range(2 * MINUTE + 700, 5 * MINUTE, 5 * SECOND)]

    events = play(monitor, *in_order(patch(0, 2 * MINUTE), oximeter(0, 2 * MINUTE, 96, heart_rate=70), off, arrest))

    assert {one.key for one in alarms(events, "arrest") if one.priority is Priority.HIGH} >= {"heart_rate"}


# Clocks


def test_a_wrong_clock_of_one_device_moves_only_its_own_times() -> None:
    monitor = a_monitor()
    behind_ms = 20 * MINUTE
    wrong = [replace(one, at_ms=one.at_ms - behind_ms) for one in oximeter(0, 3 * MINUTE, 95)]

    events = play(monitor, *in_order(patch(0, 3 * MINUTE), wrong))

    at_ms = {sign: at_ms for sign, (_, at_ms) in monitor.latest().items()}
    assert START + 175 * SECOND <= at_ms[VitalSign.SPO2] <= START + 3 * MINUTE
    assert at_ms[VitalSign.HEART_RATE] == START + 175 * SECOND
    assert monitor.moved_ms == 0
    assert not any(one.late for one in events if isinstance(one, ReadingJudged) and not one.reading.binding_id)
    assert last_score(events).parts[1].points == 1


# Bindings


def test_the_end_of_a_binding_ends_the_device_and_the_stay_goes_on() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(OXIMETER, 0))
    play(monitor, *in_order(patch(0, 5 * MINUTE), oximeter(0, 5 * MINUTE, 97, battery=4.0)))
    assert standing(monitor, "battery")

    events = play(monitor, bound(OXIMETER, 0, to_ms=5 * MINUTE, stay_goes_on=True))
    events += play(monitor, *patch(5 * MINUTE + 5 * SECOND, 60 * MINUTE, battery=90.0))

    (ended,) = alarms(events, "battery")
    assert ended.state is AlarmState.CLEARED
    assert ended.text.startswith("device taken off at 08:05 UTC; alarm was: oximeter: battery 4 %")
    assert not ended.stay_ended
    assert alarms(events, "device_silent") == []
    assert [one.key for one in standing(monitor, "no_data")] == ["spo2"]
    assert not any(isinstance(one, MonitoringEnded) for one in events)
    assert last_score(events).parts[1].points is None


def test_what_a_device_measured_after_it_was_taken_off_counts_for_nobody() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(OXIMETER, 0), *patch(0, MINUTE), by(OXIMETER, MINUTE, spo2=97))
    play(monitor, bound(OXIMETER, 0, to_ms=2 * MINUTE, stay_goes_on=True))

    events = play(monitor, by(OXIMETER, MINUTE + 30_000, spo2=96, held_up_ms=MINUTE), by(OXIMETER, 3 * MINUTE, spo2=60))

    before, after = (one for one in events if isinstance(one, ReadingJudged))
    assert before.reading.unusable == 0
    assert after.backfilled
    assert after.reading.spo2 == 60
    assert monitor.latest()[VitalSign.SPO2] == (96, START + MINUTE + 30_000)
    assert alarms(events) == []


@pytest.mark.parametrize("gap_ms", [-2 * MINUTE, 0, 3 * MINUTE])
def test_a_device_is_exchanged(gap_ms: int) -> None:
    """The first device goes, another one comes: before, at once, or after a while. NEWS2 goes on."""
    monitor, change_ms = a_monitor(), 10 * MINUTE
    new_ms = change_ms + gap_ms
    old = patch(0, change_ms, spo2=97.0)
    new = oximeter(new_ms, 20 * MINUTE, 97, **PATCH_WELL)

    events = play(
        monitor,
        *in_order(
            [bound(PATCH, 0)],
            old,
            [bound(OXIMETER, new_ms), bound(PATCH, 0, to_ms=change_ms, stay_goes_on=True)],
            new,
        ),
    )

    assert alarms(events, "no_data") == []
    assert alarms(events, "device_silent") == []
    assert not any(isinstance(one, MonitoringEnded) for one in events)
    assert {part.source for part in last_score(events).parts if part.points is not None} == {OXIMETER}
    assert restarted(monitor).snapshot() == monitor.snapshot()


def test_when_the_last_device_is_taken_off_and_the_stay_goes_on_there_is_no_data() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), *patch(0, 5 * MINUTE, spo2=97.0))

    events = play(monitor, bound(PATCH, 0, to_ms=5 * MINUTE, stay_goes_on=True), a_tick(2 * HOUR))

    assert [one.rule_id for one in alarms(events) if one.state is AlarmState.ACTIVE and one.revision == 0] == [
        "no_data"
    ]


@pytest.mark.parametrize(
    "end",
    [
        bound(PATCH, 0, to_ms=5 * MINUTE),
        bound(OXIMETER, 0, to_ms=5 * MINUTE),
        bound(OXIMETER, 0, to_ms=2 * MINUTE, heard_ms=5 * MINUTE, stay_goes_on=True, stay_to_ms=5 * MINUTE),
        bound(PATCH, 0, heard_ms=5 * MINUTE, stay_to_ms=5 * MINUTE),
    ],
    ids=["the first device", "a further device", "both", "the stay alone"],
)
def test_the_end_of_the_stay_ends_everything_whichever_binding_says_it(end: Any) -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(OXIMETER, 0))
    play(monitor, *in_order(patch(0, 5 * MINUTE), oximeter(0, 5 * MINUTE, 84)))
    assert standing(monitor)

    events = play(monitor, end)

    assert monitor.open_alarms() == []
    assert [one.ended_ms for one in events if isinstance(one, MonitoringEnded)] == [START + 5 * MINUTE]
    assert monitor.timer_at() is None
    later = play(monitor, bound(PATCH, 0), bound(OXIMETER, 6 * MINUTE), by(OXIMETER, 6 * MINUTE, spo2=60))
    assert alarms(later) == []
    assert monitor.timer_at() is None
    assert restarted(monitor).snapshot() == monitor.snapshot()


def test_a_stay_whose_first_device_was_taken_off_is_read_as_going_on() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(PATCH, 0, to_ms=MINUTE, stay_goes_on=True))

    again = restarted(monitor)

    assert again.timer_at() is not None
    assert not any(isinstance(one, MonitoringEnded) for one in play(again, a_tick(HOUR)))
    assert alarms(again.open_alarms(), "no_data")


def test_a_thermometer_for_many_patients_does_not_grow_the_state_without_end() -> None:
    monitor, sizes = a_monitor(), []
    for use in range(200):
        device, from_ms = f"{use + 1:032x}", use * 3 * MINUTE
        play(
            monitor,
            by(PATCH, from_ms, counter=use, **PATCH_WELL),
            bound(device, from_ms + 1),
            by(device, from_ms + MINUTE, temperature=37.0),
            bound(device, from_ms + 1, to_ms=from_ms + 2 * MINUTE, stay_goes_on=True),
        )
        sizes.append(len(monitor.snapshot()))

    assert sizes[-1] == pytest.approx(sizes[100], rel=0.02)
    assert len(monitor.view(START).devices) == KEPT_DEVICES + 1
    old = f"{150:032x}"
    events = play(monitor, by(old, 700 * MINUTE, temperature=41.0))
    assert [one.backfilled for one in events if isinstance(one, ReadingJudged)] == [True]
    assert monitor.latest()[VitalSign.TEMPERATURE][0] == 37.0


def test_the_alarms_of_a_device_that_is_kept_no_longer_end_with_it() -> None:
    monitor = a_monitor()
    for number in range(KEPT_DEVICES + 1):
        play(monitor, by(f"{number + 1:08x}" * 4, number * SECOND, heart_rate=70, battery=3.0))

    assert f"{1:08x}" * 4 not in {one.binding_id for one in monitor.view(START).devices}
    assert len(standing(monitor, "battery")) == KEPT_DEVICES


def test_strangers_do_not_push_out_the_devices_that_are_bound_and_heard() -> None:
    monitor = a_monitor()
    play(monitor, bound(PATCH, 0), bound(OXIMETER, 0), *in_order(patch(0, MINUTE), oximeter(0, MINUTE, 97)))

    for number in range(100):
        device = f"{number + 1:032x}"
        play(monitor, bound(device, MINUTE), bound(device, MINUTE, to_ms=MINUTE, stay_goes_on=True))

    assert {OXIMETER, PATCH} <= {one.binding_id for one in monitor.view(START + MINUTE).devices}


# The restore property for whole stays is in `test_dealing`; here: after every message of a story with bindings.


def test_a_story_with_bindings_goes_on_after_each_restart() -> None:
    story: list[AtBedside] = in_order(
        [bound(device, 0) for device in NAMES],
        patch(0, 20 * MINUTE, every_ms=30 * SECOND),
        oximeter(0, 12 * MINUTE, 84, every_ms=30 * SECOND),
        [by(CUFF, at_ms, systolic_bp=85, diastolic_bp=60) for at_ms in range(MINUTE, 20 * MINUTE, 5 * MINUTE)],
        [
            entered(5 * MINUTE, consciousness=Consciousness.VOICE, inspired_oxygen=35.0),
            entered(6 * MINUTE, number=6, corrects=observation_id(5 * MINUTE), consciousness=Consciousness.ALERT),
            entered(7 * MINUTE, off_until_ms=30 * MINUTE),
        ],
        [bound(OXIMETER, 0, to_ms=12 * MINUTE, stay_goes_on=True), bound(THERMOMETER, 0, to_ms=15 * MINUTE)],
    )
    runs_on, stopped = a_monitor(), a_monitor()
    for message in story:
        assert play(runs_on, message) == play(stopped, message)
        stopped = PatientMonitor.restore(BINDING, stopped.snapshot(), a_plan())
        assert stopped.snapshot() == runs_on.snapshot()
    assert any(isinstance(one, ObservationRecorded) for one in play(runs_on, entered(21 * MINUTE, note="gone home")))
