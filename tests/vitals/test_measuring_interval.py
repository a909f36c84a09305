"""What people enter grows too old by the risk it is part of: the score is then incomplete, and no alarm changes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.stories import (
    HOUR,
    MINUTE,
    START,
    WELL,
    a_monitor,
    a_reading,
    alarms,
    feed,
    restarted,
    standing,
    steady,
    wait,
)
from vitals.measuring_interval import HELD_MS, interval_at
from vitals.messages import AlarmState, Consciousness, News2Scored
from vitals.monitor import PatientMonitor
from vitals.news2 import RESPONSES, News2, response_to, score
from vitals.risk import due_texts, explain_news2
from vitals.signs import VitalSign

ENTERED = (VitalSign.SUPPLEMENTAL_OXYGEN, VitalSign.CONSCIOUSNESS)
# Of a wearable: (signs, NEWS2, how often a full set is due by RCP's chart 4).
AT: list[tuple[dict[str, Any], int, int]] = [
    ({}, 0, 12 * HOUR),
    ({"heart_rate": 95}, 1, 6 * HOUR),
    ({"heart_rate": 112, "respiratory_rate": 22}, 4, 6 * HOUR),
    ({"heart_rate": 132}, 3, HOUR),  # a single 3
    ({"heart_rate": 112, "respiratory_rate": 22, "spo2": 95}, 5, HOUR),
    ({"heart_rate": 112, "respiratory_rate": 22, "spo2": 93}, 6, HOUR),
    ({"heart_rate": 132, "respiratory_rate": 26, "spo2": 90}, 9, HOUR),
]


def entered_before(ago_ms: int, signs: dict[str, Any], entered: dict[str, Any] | None = None) -> PatientMonitor:
    """A monitor whose patient is watched by wearable and cuff now, and had the rest entered some time ago."""
    monitor = a_monitor()
    now_ms = 14 * HOUR
    set_of_observations = {**WELL, **signs, **(entered or {})}
    feed(monitor, a_reading(now_ms - ago_ms, **set_of_observations))
    measured = {name: value for name, value in set_of_observations.items() if name not in ENTERED}
    feed(monitor, a_reading(now_ms, **measured))
    return monitor


@settings(max_examples=300, deadline=None)
@given(at=st.sampled_from(AT), ago_s=st.integers(60, 12 * 3_600))
def test_a_total_needs_what_was_entered_no_longer_ago_than_the_risk_allows(
    at: tuple[dict[str, Any], int, int], ago_s: int
) -> None:
    signs, points, every_ms = at

    found = entered_before(ago_s * 1_000, signs).view(START + 14 * HOUR).news2

    is_due = ago_s * 1_000 > every_ms
    assert (found.total, found.at_least) == (None if is_due else points, points)
    assert found.missing == (ENTERED if is_due else ())


@settings(max_examples=200, deadline=None)
@given(
    signs=st.fixed_dictionaries(
        {
            "heart_rate": st.integers(30, 150),
            "respiratory_rate": st.integers(6, 30),
            "spo2": st.integers(85, 99),
            "systolic_bp": st.integers(80, 130),
        }
    ),
    level=st.sampled_from(list(Consciousness)),
    litres=st.sampled_from([0, 4]),
    ago_s=st.integers(60, 12 * 3_600),
)
def test_what_is_due_still_counts_in_the_lower_bound(
    signs: dict[str, int], level: Consciousness, litres: int, ago_s: int
) -> None:
    entered = {"consciousness": level, "supplemental_oxygen": litres}

    old = entered_before(ago_s * 1_000, dict(signs), entered).view(START + 14 * HOUR).news2
    fresh = entered_before(60_000, dict(signs), entered).view(START + 14 * HOUR).news2

    assert old.at_least == fresh.at_least
    assert {part.sign: part.points for part in old.parts} == {part.sign: part.points for part in fresh.parts}


@pytest.mark.parametrize("level", [Consciousness.CONFUSION, Consciousness.VOICE, Consciousness.UNRESPONSIVE])
def test_an_alarm_that_was_caused_by_what_was_entered_never_clears_by_age(level: Consciousness) -> None:
    #  0       1 min      1 h             12 h
    #  V ..... alarm ..... due ........... too old to be scored: unknown, and still open
    monitor = a_monitor()
    events = feed(monitor, a_reading(0, **{**WELL, "consciousness": level}))
    measured = {name: value for name, value in WELL.items() if name not in ENTERED}
    for minute in range(1, 14 * 60):
        events += feed(monitor, a_reading(minute * MINUTE, **measured))
        events += wait(monitor, minute * MINUTE)
        if minute in (30, 90, 11 * 60):
            assert [one.text[:9] for one in standing(monitor, "red_sign")] == ["red sign:"]

    assert [one.state for one in alarms(events, "red_sign")].count(AlarmState.CLEARED) == 0
    (alarm,) = standing(monitor, "red_sign")
    assert alarm.text.startswith("was red sign: ACVPU")


def test_a_score_between_two_bands_does_not_make_a_sign_due_again_and_again() -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))
    told = []
    for minute in range(1, 4 * 60):
        signs = {**WELL, "heart_rate": 112, "respiratory_rate": 22, "spo2": 95 if minute % 2 else 97}
        for sign in ENTERED:
            del signs[sign]
        told += feed(monitor, a_reading(minute * MINUTE, **signs))

    complete = [one.total is not None for one in told if isinstance(one, News2Scored)]

    assert complete == [True] * 60 + [False] * (len(complete) - 60)


def test_the_shorter_interval_ends_an_hour_after_the_risk() -> None:
    monitor = a_monitor()
    measured = {name: value for name, value in WELL.items() if name not in ENTERED}
    feed(monitor, a_reading(0, **WELL))
    feed(monitor, a_reading(HOUR, **{**measured, "heart_rate": 132}))
    feed(monitor, a_reading(HOUR + MINUTE, **measured))
    feed(monitor, a_reading(HOUR + HELD_MS, **measured))
    assert monitor.view(START + HOUR + HELD_MS).news2.total is None
    assert restarted(monitor).view(START + HOUR + HELD_MS).news2.total is None

    feed(monitor, a_reading(HOUR + HELD_MS + MINUTE, **measured))

    assert monitor.view(START + HOUR + HELD_MS + MINUTE).news2.total == 0


@pytest.mark.parametrize(("minutes", "is_due"), [(61, False), (90, False), (91, True)])
def test_a_cuff_may_be_half_an_hour_late_at_a_risk_that_asks_for_every_hour(minutes: int, is_due: bool) -> None:
    monitor = a_monitor()
    feed(monitor, a_reading(0, **WELL))
    rest = {name: value for name, value in WELL.items() if name != VitalSign.SYSTOLIC_BP}
    feed(monitor, *steady_of(minutes, **{**rest, "heart_rate": 132}))

    found = monitor.view(START + minutes * MINUTE).news2

    assert found.due == ((VitalSign.SYSTOLIC_BP,) if is_due else ())


def steady_of(until_minute: int, **signs: Any) -> list[Any]:
    return [a_reading(minute * MINUTE, **signs) for minute in range(1, until_minute + 1)]


def test_screens_say_what_is_due_and_why() -> None:
    monitor = entered_before(11 * HOUR + 54 * MINUTE, {"heart_rate": 112, "respiratory_rate": 22, "spo2": 95})
    found = monitor.view(START + 14 * HOUR).news2

    assert due_texts(found) == (
        "supplemental oxygen entered 11 h ago: due (hourly at NEWS2 5 or more, or 3 in one parameter)",
        "consciousness entered 11 h ago: due (hourly at NEWS2 5 or more, or 3 in one parameter)",
    )
    assert explain_news2(found, None, START).startswith("NEWS2 >= 5 (O2 due, 11 h old, ACVPU due, 11 h old): ")


def test_what_is_due_is_in_the_record() -> None:
    monitor = a_monitor()
    feed(monitor, *steady(0, 0))
    measured = {name: value for name, value in WELL.items() if name not in ENTERED}

    (told,) = [
        one
        for one in feed(monitor, a_reading(2 * HOUR, **{**measured, "heart_rate": 132}))
        if isinstance(one, News2Scored)
    ]

    assert (told.total, told.at_least, told.risk) == (None, 3, ">= low-medium")
    assert (told.due, told.measure_every_ms) == (ENTERED, HOUR)


@given(values=st.dictionaries(st.sampled_from(list(VitalSign)), st.integers(0, 4).map(float), min_size=3))
def test_the_intervals_are_those_of_the_chart(values: dict[VitalSign, float]) -> None:
    found: News2 = score({sign: (value, 0) for sign, value in values.items()})

    # What the chart measures continuously a person cannot enter continuously: every hour.
    assert interval_at(found) == max(response_to(found).monitor_every_ms, HOUR)
    assert {interval for one in RESPONSES if (interval := one.monitor_every_ms)} == {HOUR, 6 * HOUR, 12 * HOUR}
