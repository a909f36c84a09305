"""The recommended response to NEWS2 stands in its alarms for as long as they are active."""

from base64 import b85decode
from typing import Final

import msgspec
import pytest

from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    START,
    WELL,
    a_monitor,
    a_plan,
    a_reading,
    an_answer,
    feed,
    restarted,
    steady,
)
from vitals.messages import AlarmChanged, AlarmState
from vitals.monitor import PatientMonitor
from vitals.news2 import RESPONSES, Risk

TEXT: Final = {response.risk: response.text for response in RESPONSES}
"""By risk; of the two rows of a low risk the second, from one point on."""

# A patient with NEWS2 of at least 7 and two red signs since 09:00, stored before alarms had responses.
EARLIER: Final = b85decode(
    "o&nDQ00EngW9^s+&j0`cn~h?jk&}}EU(Wyl0h^6u+7Ocg8qWX#0h^6u+7OchTh9Oh0h^6u+7OeH005E!0FnX#l9dzB0004-jbeI$&j0`cn~h`I5X("
    "SUzyJUM007GX000000001$6VCtu0h^6tdVtRW00EngW7-hQKso>b00000%K!iX000000Fjf=0004-jbeI$2LO|krEX<+b26X@lc;iKWM6Y>XKt`^Wp"
    "i+8a$$6Da(Q2JVRU5zlc;iKWM6Y>XKti(aBngMk&?s^b8~ZZb8~ZZb8~ZZb8~ZZk^mEzlas1wWnpr3Uvgn|Wna$#00EngW9^ueuySQ{aA|U3bZ>HbU"
    "vgn|Wg5=_00EngW9^ueq;qg@GF#6800EngW9^ublV2KJ6wd$v0h^6u?U<0y0004-jbrVYlFtAD0h^6u?U<30&j0`cn~h^+;FFcAXk}q?bYF5|bY%z5"
    "0173j&Hw>(7|s9za~PGda%FRHX>wt7Z*qBGa$$632hIQj#_-K$kj-U~m85fUZ!!nY013EA&Hw>pc+LO;V|bL4+yD`!Ze@3KGN8l|>Q5ji0pua9Q`U"
    "1QGtlt;&j0`cn~h?6fX@H`0h^6u?U>I100EngVtRlB%Rn3e000000H$GMbZK^F0NG?tMORZYAU-`HHy|iaG9Ybfb8~5KXDlF7LQo)WX>)UFZf7hYK|"
    "@whRUmC?b8~5KXDlF8AZ=-Lb7^j8DLNohQXn!mASf#{DJ&pUa8EKIIWZt8D>Er9AV^XmIW-_CD={g+0K&k)0Nel(sB&dwUvp_^Zm@D?b8u;LVRUbDd"
    "0%p2bY;X48O&VCRT%D#duBwfh7+=#&j0`cn~h?6fX@H`0h^6u?U>I100EngV`Sh1%K!iX000000H$GMbZK^F0NEjOWn>_8X=iRaAW~8wGBzM{V{dY0"
    "b09MyZ)PA)MORZYzyQL)zyRC;5vX!yWM6Y>XKti(aBnii5apy+C=~curpHJ{W?3{R@6P}L0h^6tdVtRW00EngW9^vF0004-jbmis1Iqva00000005?"
    "8V{~bDWdPYDa%E&7b7^O8Iv`VUPck4mF(7keZ*paGATuCuW*|;QS5q>;0K&k)0FaQ7kN"
)


def alarms_of(monitor: PatientMonitor) -> dict[str, AlarmChanged]:
    return {alarm.rule_id: alarm for alarm in monitor.open_alarms()}


@pytest.mark.parametrize(
    ("signs", "rule", "risk"),
    [
        ({"respiratory_rate": 26, "spo2": 95, "heart_rate": 95}, "news2", Risk.MEDIUM),  # 3 + 1 + 1
        ({"respiratory_rate": 26, "spo2": 91, "heart_rate": 95}, "news2", Risk.HIGH),  # 3 + 3 + 1
        ({"respiratory_rate": 26}, "red_sign", Risk.LOW_MEDIUM),  # a single 3
    ],
)
def test_an_alarm_of_news2_says_what_chart_4_recommends(signs: dict[str, float], rule: str, risk: Risk) -> None:
    monitor = a_monitor()

    feed(monitor, *steady(0, 2 * MINUTE, **signs))

    assert alarms_of(monitor)[rule].response == TEXT[risk]


def test_the_response_rises_with_the_score_and_survives_a_restart() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, 0, respiratory_rate=26, spo2=95, heart_rate=95))

    feed(monitor, *steady(MINUTE, MINUTE, respiratory_rate=26, spo2=91, heart_rate=95))

    assert alarms_of(restarted(monitor))["news2"].response == TEXT[Risk.HIGH]


def test_an_answered_alarm_keeps_its_response_and_one_that_is_over_has_none() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, 0, respiratory_rate=26, spo2=91, heart_rate=95))
    monitor.on_acknowledge(an_answer(alarms_of(monitor)["news2"], SECOND))
    assert alarms_of(monitor)["news2"].response == TEXT[Risk.HIGH]

    events = feed(monitor, *steady(MINUTE, 20 * MINUTE))

    (over,) = [
        one
        for one in events
        if isinstance(one, AlarmChanged) and one.rule_id == "news2" and one.state is AlarmState.CLEARED
    ]
    assert over.response == ""


def test_alarms_that_are_not_of_news2_have_no_response() -> None:
    monitor = a_monitor()

    feed(monitor, *steady(0, 2 * MINUTE, heart_rate=160))

    assert alarms_of(monitor)["high_heart_rate"].response == ""


def test_a_state_that_was_stored_earlier_is_restored_and_gets_its_response_with_the_next_change() -> None:
    monitor = PatientMonitor.restore(BINDING, EARLIER, a_plan())
    before = monitor.open_alarms()
    assert [(one.rule_id, one.key, one.response) for one in before] == [
        ("news2", "", ""),
        ("red_sign", "respiratory_rate", ""),
        ("red_sign", "spo2", ""),
    ]
    assert before[0].onset_ms == START + HOUR

    worse = {**WELL, "respiratory_rate": 26, "spo2": 91, "heart_rate": 135, "supplemental_oxygen": 2}
    feed(monitor, a_reading(HOUR + 2 * MINUTE, **worse))

    alarm = alarms_of(monitor)["news2"]
    assert (alarm.alarm_id, alarm.response) == (before[0].alarm_id, TEXT[Risk.HIGH])


def test_an_alarm_that_was_announced_earlier_is_read() -> None:
    (alarm, *_) = PatientMonitor.restore(BINDING, EARLIER, a_plan()).open_alarms()
    shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(msgspec.msgpack.encode(alarm))[:-3])

    assert msgspec.msgpack.decode(shorter, type=AlarmChanged) == msgspec.structs.replace(alarm, grade=0.0)
