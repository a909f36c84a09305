"""The ward's screen: current values are shown, stale ones are not."""

import re
from typing import Any

import pytest
from rich.console import Console

from simulators.ward.screen import NOT_A_DEVICE, CallStatus, PatientRow, WardStatus, as_svg, ward
from tests.vitals.stories import BINDING, HOUR, MINUTE, START, WELL, a_reading
from vitals.activity import ActivityPlan
from vitals.messages import (
    Acknowledge,
    Activity,
    AlarmChanged,
    Consciousness,
    Observation,
    Priority,
    Reading,
    SensorFlag,
)
from vitals.monitor import PatientMonitor
from vitals.news2 import RESPONSES
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan

STATUS = WardStatus(
    title="scenario mixed",
    simulated="08:00:00",
    speed=30.0,
    judged_by="rules only",
    sent=5,
    stored=4,
    waiting=1,
    duplicates=0,
    rejected=0,
)


def seen(*readings: Reading, after_ms: int, bed: str = "3") -> PatientRow:
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    for reading in readings:
        monitor.on_reading(reading)
    monitor.on_timer(START + after_ms)
    return PatientRow(bed=bed, patient=f"P000{bed}", view=monitor.view(START + after_ms))


def text(*rows: PatientRow, after_ms: int, width: int = 150, most: int = 20, **status: Any) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(
            ward(
                rows,
                WardStatus(**{**{f: getattr(STATUS, f) for f in STATUS.__struct_fields__}, **status}),
                (),
                now_ms=START + after_ms,
                most=most,
                width=width,
            )
        )
    return shown.get()


@pytest.mark.parametrize("width", [80, 110, 150])
def test_a_current_value_stands_as_it_is(width: int) -> None:
    shown = text(seen(a_reading(0, **WELL), after_ms=0), after_ms=0, width=width)

    line = next(line for line in shown.splitlines() if " 98" in line)
    for value in ("14", "98", "120", "70", "37.0"):
        assert value in line


def test_who_walks_is_shown_as_walking_and_what_is_held_is_told() -> None:
    plan = MonitoringPlan(group=PatientGroup.ADULT, activity=ActivityPlan(holds_up_to=Activity.WALK, age_years=30))
    monitor = PatientMonitor(BINDING, plan)
    walk = {**WELL, "heart_rate": 135, "activity": int(Activity.WALK)}
    for after_ms in range(0, 3 * MINUTE, MINUTE // 2):
        monitor.on_reading(a_reading(after_ms, **walk))
    row = PatientRow(bed="3", patient="P0003", view=monitor.view(START + 5 * MINUTE // 2))

    shown = text(row, after_ms=5 * MINUTE // 2)

    assert "on a walk" in shown
    assert "bed 3: held during a walk since 08:00 UTC: red sign: HR 135 scores 3 of NEWS2" in shown
    assert "on a walk" not in text(seen(a_reading(0, **WELL), after_ms=0), after_ms=0)


@pytest.mark.parametrize("width", [80, 150])
def test_a_late_value_tells_its_age(width: int) -> None:
    shown = text(seen(a_reading(0, **WELL), after_ms=5 * MINUTE), after_ms=5 * MINUTE, width=width)

    assert ("98 5m" if width == 80 else "98 5 min") in shown


@pytest.mark.parametrize("width", [80, 150])
def test_a_stale_value_is_not_shown_at_all(width: int) -> None:
    shown = text(seen(a_reading(0, spo2=98, heart_rate=71), after_ms=2 * HOUR), after_ms=2 * HOUR, width=width)

    assert "98" not in shown.replace("08:00", "")
    assert "71" not in shown
    assert ("none 2h" if width == 80 else "no data 2 h") in shown


def test_what_was_never_measured_is_a_dash_and_not_a_nought() -> None:
    shown = text(seen(a_reading(0, heart_rate=71), after_ms=0), after_ms=0)

    assert "–" in shown
    assert "≥ 0" in shown


def test_a_score_with_something_missing_is_a_lower_bound() -> None:
    shown = text(seen(a_reading(0, respiratory_rate=26, spo2=93), after_ms=0), after_ms=0)

    assert "≥ 5" in shown


def test_the_worst_patient_stands_first_and_their_alarm_says_why() -> None:
    well = seen(a_reading(0, **WELL), after_ms=0, bed="1")
    ill = seen(a_reading(0, **{**WELL, "respiratory_rate": 26, "spo2": 90}), after_ms=0, bed="2")

    shown = text(well, ill, after_ms=0)

    assert shown.index("P0002") < shown.index("P0001")
    assert "** NEWS2 6: RR 26 (+3), SpO2 90 (+3)" in shown


def an_ill_patient() -> tuple[PatientMonitor, list[AlarmChanged]]:
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    events = [
        event
        for second in range(0, 120, 5)
        for event in monitor.on_reading(a_reading(second * 1_000, **(WELL | {"spo2": 84.0, "respiratory_rate": 26.0})))
    ]
    return monitor, [event for event in events if isinstance(event, AlarmChanged)]


def test_the_table_counts_the_alarms_that_people_have_answered_and_shows_one_that_they_have_not() -> None:
    monitor, _ = an_ill_patient()

    def shown() -> str:
        row = PatientRow(bed="3", patient="P0003", view=monitor.view(START + 2 * MINUTE))
        return text(row, after_ms=2 * MINUTE, width=240)

    high = [alarm for alarm in monitor.open_alarms() if alarm.priority is Priority.HIGH]
    count = len(monitor.open_alarms())
    first = next(alarm for alarm in high if f"*** {count}: {alarm.text}" in shown())

    monitor.on_acknowledge(Acknowledge(stay_id=BINDING, alarm_id=first.alarm_id, by="anna", at_ms=START + 2 * MINUTE))

    others = [f"*** {count}, 1 answered: {alarm.text}" for alarm in high if alarm is not first]
    assert any(other in shown() for other in others)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"is_calling": True}, "alarm 3f2a9c1b: called anna 08:02:00 (2×), ben 08:01:00; no answer yet"),
        ({"answered_by": "ben", "answered_ms": START + 3 * MINUTE}, "; answered by ben 08:03:00"),
        ({"silenced_until_ms": START + 9 * MINUTE}, "; silenced until 08:09:00"),
        ({}, "; over, no one answered"),
    ],
)
def test_an_alarm_says_who_was_called_and_who_answered(status: dict[str, Any], says: str) -> None:
    _, alarms = an_ill_patient()
    called = (("anna", START), ("ben", START + MINUTE), ("anna", START + 2 * MINUTE))
    calls = {alarms[-1].alarm_id: CallStatus(alarm="3f2a9c1b", called=called, **status)}
    console = Console(width=150)
    with console.capture() as shown:
        console.print(ward((), STATUS, [("3", alarms[-1])], calls=calls, hints=("phones here",), now_ms=START, most=3))

    assert says in shown.get()
    assert "phones here" in shown.get()


def test_a_small_screen_says_how_many_it_leaves_out() -> None:
    rows = [seen(a_reading(0, **WELL), after_ms=0, bed=str(n)) for n in range(1, 8)]

    shown = text(*rows, after_ms=0, most=5)

    assert "and 2 more, none of them worse" in shown
    assert "P0007" not in shown


def test_a_sensor_that_is_off_is_shown() -> None:
    off = [a_reading(n * 5_000, flags=SensorFlag.SENSOR_OFF, heart_rate=70) for n in range(30)]

    shown = text(seen(a_reading(-5_000, **WELL), *off, after_ms=150_000), after_ms=150_000)

    assert "sensor off 2 min" in shown


def test_trouble_duplicates_and_refusals_stand_in_the_head_and_only_then() -> None:
    row = seen(a_reading(0, **WELL), after_ms=0)

    assert "rejected" not in text(row, after_ms=0)
    shown = text(row, after_ms=0, rejected=3, duplicates=2, trouble="broker killed")
    assert "duplicates dropped 2  rejected 3  broker killed" in " ".join(shown.split("\n")[:2])


@pytest.mark.parametrize("width", [80, 150])
def test_every_screen_says_what_it_is_not(width: int) -> None:
    assert NOT_A_DEVICE in text(after_ms=0, width=width)
    assert "not a certified medical device" in NOT_A_DEVICE


def test_a_picture_fetches_nothing_from_the_network() -> None:
    screen = ward([seen(a_reading(0, **WELL), after_ms=0)], STATUS, (), now_ms=START, most=5)

    picture = as_svg(screen, title="ward")

    assert picture.startswith("<svg")
    assert "@font-face" not in picture
    assert "url(" not in picture.replace("url(#", "")


@pytest.mark.parametrize("width", [80, 150])
def test_the_recommended_response_stands_once_with_its_beds_the_most_urgent_first(width: int) -> None:
    ill = {**WELL, "respiratory_rate": 26, "spo2": 91, "heart_rate": 95}
    worse = {**WELL, "respiratory_rate": 22, "spo2": 94, "heart_rate": 112}
    rows = [seen(a_reading(0, **signs), after_ms=0, bed=bed) for bed, signs in (("1", worse), ("2", ill), ("3", ill))]

    shown = text(*rows, after_ms=0, width=width).splitlines()

    first, then = (line for line in shown if "tell the medical team" in line)
    assert first.startswith("*** bed 2, 3: recommended: emergency: tell the medical team now")
    assert then.startswith(" ** bed 1: recommended: urgent: tell the medical team now")
    whole = " ".join(" ".join(shown).split())
    assert [row.text for row in RESPONSES if row.at_least >= 5 and row.text not in whole] == []
    assert max(map(len, shown)) <= width


@pytest.mark.parametrize("width", [80, 150])
def test_a_patient_without_a_score_is_said_to_have_none_and_is_sorted_by_alarms(width: int) -> None:
    monitor = PatientMonitor(BINDING, MonitoringPlan(group=PatientGroup.CHILD))
    for after_ms in range(0, MINUTE, 5_000):
        monitor.on_reading(a_reading(after_ms, **{**WELL, "spo2": 80}))
    child = PatientRow(bed="9", patient="P0009", view=monitor.view(START + MINUTE))
    well = seen(a_reading(MINUTE, **{**WELL, "heart_rate": 95}), after_ms=MINUTE, bed="1")

    shown = text(well, child, after_ms=MINUTE, width=width)

    assert "bed 9: under 16: no NEWS2, no other adult score, no model" in shown
    rows = [line for line in shown.splitlines() if re.match(r"\W*[19] ", line)]
    assert "under 16" in rows[0]


@pytest.mark.parametrize("width", [80, 150])
def test_what_is_due_is_said_with_its_reason(width: int) -> None:
    rest = {name: value for name, value in WELL.items() if name != "consciousness"}
    row = seen(a_reading(0, **WELL), a_reading(2 * HOUR, **{**rest, "heart_rate": 132}), after_ms=2 * HOUR)

    shown = text(row, after_ms=2 * HOUR, width=width)

    assert "bed 3: consciousness entered 2 h ago: due (hourly at NEWS2 5 or more" in shown
    assert "≥ 3" in shown


def test_what_a_person_entered_is_marked_with_their_name_and_its_age() -> None:
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    measured = {name: value for name, value in WELL.items() if name not in ("consciousness", "supplemental_oxygen")}
    monitor.on_reading(a_reading(0, **measured))
    monitor.on_observation(
        Observation(
            stay_id=BINDING,
            observation_id=b"o" * 16,
            by="anna",
            at_ms=START,
            entered_ms=START,
            heard_ms=START,
            consciousness=Consciousness.CONFUSION,
            supplemental_oxygen=2.0,
            temperature=37.9,
        )
    )
    monitor.on_reading(a_reading(12 * MINUTE, heart_rate=70, spo2=98, respiratory_rate=14))
    monitor.on_timer(START + 12 * MINUTE)
    row = PatientRow(bed="3", patient="P0003", view=monitor.view(START + 12 * MINUTE))

    shown = text(row, after_ms=12 * MINUTE, width=200)

    assert "C, 2 L/min, anna 12 min" in shown
    assert "37.9p" in shown
    assert "70p" not in shown
    assert "p: entered by a person" in shown


def test_what_a_device_sent_is_said_to_be_of_a_device() -> None:
    shown = text(seen(a_reading(0, **WELL), after_ms=0), after_ms=0, width=200)

    assert re.search(r"A, air, device \d+ s", shown)
    assert "entered by a person" not in shown
