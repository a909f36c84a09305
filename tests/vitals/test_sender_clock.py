"""A patient is judged alike whatever the clock of the wearable says, and a backlog never sounds.

Each case is one patient who is well for ten minutes and then deteriorates to a NEWS2 of 9, heard every five seconds.
The alarms under a wrong clock are compared with those under a right one, in elapsed time.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.stories import BINDING, HOUR, MINUTE, SECOND, START, WELL, restarted
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Event, Reading, ReadingJudged
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan

DAY: Final = 24 * HOUR
CADENCE: Final = 5 * SECOND
ILL_FROM: Final = 10 * MINUTE
END: Final = 16 * MINUTE
TOLERANCE: Final = 20 * SECOND
SAID_WITHIN: Final = 75 * SECOND
"""A clock that is wrong is said after a minute, and it takes seconds to be sure of it."""
SIZES: Final = {
    "3 s": 3 * SECOND, "8 s": 8 * SECOND, "30 s": 30 * SECOND, "3.5 min": 210 * SECOND, "10 min": 10 * MINUTE,
    "30 min": 30 * MINUTE, "1 h": HOUR, "1 day": DAY, "1 year": 365 * DAY, "since 1970": START,
}  # fmt: skip

Error = Callable[[int], int]
"""How far the clock of the wearable is ahead at a moment, in ms after the start."""


class Found(NamedTuple):
    """What a patient's monitor said, in milliseconds of elapsed time."""

    physiological: dict[tuple[str, str, int], int]  # rule, key and its highest priority: when it was reached
    ids: int  # how many physiological alarms there were
    no_data: list[int]
    clock: list[AlarmChanged]
    clock_ms: list[int]


def signs_at(after_ms: int) -> dict[str, Any]:
    k = after_ms // CADENCE
    if after_ms < ILL_FROM:
        return {**WELL, "heart_rate": 72.0 + k % 3, "respiratory_rate": 16.0 + k % 2, "spo2": 97.0 - k % 2}
    return {"heart_rate": 125.0 + k % 3, "respiratory_rate": 27.0 + k % 2, "spo2": 90.0 + k % 2}


def a_reading(number: int, at_ms: int, heard_ms: int, **signs: Any) -> Reading:
    return Reading(
        stay_id=BINDING,
        reading_id=number.to_bytes(16, "big"),
        session_id=b"s" * 16,
        counter=number,
        at_ms=at_ms,
        received_ms=heard_ms,
        **signs,
    )


def due(monitor: PatientMonitor, now_ms: int) -> list[Event]:
    events: list[Event] = []
    while (at_ms := monitor.timer_at()) is not None and at_ms <= now_ms:
        events += monitor.on_timer(max(at_ms, now_ms - CADENCE))
    return events


def live(error: Error, *, jitter: Callable[[int], int] = lambda _: 0, restarts: bool = False) -> Found:
    """Heard every five seconds, with the wearable's clock wrong by `error`."""
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    told: list[tuple[int, Event]] = []
    for number, after_ms in enumerate(range(0, END, CADENCE)):
        if restarts and number % 7 == 3:
            monitor = restarted(monitor)
        heard_ms = START + after_ms + jitter(number)
        told += [(after_ms, one) for one in due(monitor, heard_ms)]
        reading = a_reading(number, max(START + after_ms + error(after_ms), 0), heard_ms, **signs_at(after_ms))
        told += [(after_ms, one) for one in monitor.on_reading(reading)]
    told += [(END, one) for one in due(monitor, START + END)]
    return found_in(told)


def found_in(told: Iterable[tuple[int, Event]]) -> Found:
    found = Found({}, 0, [], [], [])
    ids: set[bytes] = set()
    for after_ms, event in told:
        if not isinstance(event, AlarmChanged) or event.retrospective or event.state is AlarmState.PENDING:
            continue
        if event.kind is AlarmKind.PHYSIOLOGICAL:
            found.physiological.setdefault((event.rule_id, event.key, event.priority), after_ms)
            ids.add(event.alarm_id)
        elif event.rule_id == "no_data":
            found.no_data.append(after_ms)
        elif event.rule_id == "clock" and event.state is AlarmState.ACTIVE:
            found.clock.append(event)
            found.clock_ms.append(after_ms)
    highest = {(rule, key): priority for rule, key, priority in sorted(found.physiological)}
    reached = {one: at for one, at in found.physiological.items() if highest[one[:2]] == one[2]}
    return found._replace(physiological=reached, ids=len(ids))


RIGHT: Final = live(lambda _: 0)


def check(found: Found, *, wrong_from: int | None) -> None:
    """The same alarms as with a right clock; the clock said where it is wrong from `wrong_from` on, else not."""
    assert found.no_data == []
    assert found.physiological.keys() == RIGHT.physiological.keys()
    for alarm, after_ms in found.physiological.items():
        assert abs(after_ms - RIGHT.physiological[alarm]) <= TOLERANCE, alarm
    assert found.ids == RIGHT.ids
    if wrong_from is None:
        assert found.clock == []
    else:
        assert found.clock_ms
        assert wrong_from < found.clock_ms[0] <= wrong_from + SAID_WITHIN
        assert len({one.alarm_id for one in found.clock}) == 1


def test_with_a_right_clock_the_deterioration_sounds_at_once() -> None:
    assert RIGHT.no_data == RIGHT.clock == []
    assert any(rule == "news2" and priority == 3 for rule, _, priority in RIGHT.physiological)
    assert min(RIGHT.physiological.values()) - ILL_FROM <= 15 * SECOND


@pytest.mark.parametrize("sign", [-1, 1], ids=["behind", "ahead"])
@pytest.mark.parametrize("size", SIZES)
def test_what_arrives_live_is_judged_live_from_the_start(size: str, sign: int) -> None:
    error_ms = sign * SIZES[size]

    check(live(lambda _: error_ms), wrong_from=None if size == "3 s" else 0)


@pytest.mark.parametrize("sign", [-1, 1], ids=["backward", "forward"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("at_ms", [5 * MINUTE, ILL_FROM - 2 * SECOND, ILL_FROM + 3 * SECOND])
def test_a_clock_that_steps_delays_no_alarm(at_ms: int, size: str, sign: int) -> None:
    step_ms = sign * SIZES[size]

    check(live(lambda now: step_ms if now >= at_ms else 0), wrong_from=None if size == "3 s" else at_ms)


@pytest.mark.parametrize("sign", [-1, 1], ids=["slow", "fast"])
@pytest.mark.parametrize("ppm", [20, 1_000, 20_000])
def test_a_clock_that_drifts_delays_no_alarm(ppm: int, sign: int) -> None:
    drifted = live(lambda now: sign * now * ppm // 1_000_000)

    assert drifted.no_data == []
    assert drifted.physiological.keys() == RIGHT.physiological.keys()
    assert all(abs(at - RIGHT.physiological[one]) <= TOLERANCE for one, at in drifted.physiological.items())
    assert drifted.ids == RIGHT.ids


@pytest.mark.parametrize("size", ["3 s", "3.5 min", "1 h", "1 day"])
def test_a_clock_that_is_set_right_again_delays_no_alarm(size: str) -> None:
    for sign in (-1, 1):
        check_same = live(lambda now, e=sign * SIZES[size]: e if now < ILL_FROM - MINUTE else 0)
        assert check_same.no_data == []
        assert check_same.ids == RIGHT.ids
        assert all(abs(at - RIGHT.physiological[one]) <= TOLERANCE for one, at in check_same.physiological.items())


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, END // SECOND), st.integers(-400 * DAY // SECOND, 400 * DAY // SECOND)), max_size=2
    ),
    start=st.one_of(st.just(0), st.integers(-4_000, 4_000)),
    seed=st.integers(0, 1_000),
    restarts=st.booleans(),
)
def test_whatever_the_clock_does_the_alarms_are_the_same(
    steps: list[tuple[int, int]], start: int, seed: int, restarts: bool
) -> None:
    """Steps of any size at any moment, a jittering transport, and a worker that restarts."""
    rng = random.Random(seed)
    late = [rng.randrange(0, 900) for _ in range(END // CADENCE)]

    def error(now_ms: int) -> int:
        return SECOND * (start + sum(by_s for at_s, by_s in steps if now_ms >= at_s * SECOND))

    found = live(error, jitter=late.__getitem__, restarts=restarts)

    assert found.no_data == []
    assert found.physiological.keys() == RIGHT.physiological.keys()
    assert all(abs(at - RIGHT.physiological[one]) <= 2 * TOLERANCE for one, at in found.physiological.items())
    assert found.ids == RIGHT.ids


def test_one_reading_from_the_far_future_spoils_nothing() -> None:
    found = live(lambda now: 365 * DAY if now == 3 * MINUTE else 0)

    check(found, wrong_from=None)


# A true backlog


def backlog(*, per_s: int, hours: int, clock_error_ms: int, first: int = 100_000) -> list[Reading]:
    """Ill for hours out of range; then everything arrives oldest first, many a second."""
    count = hours * HOUR // CADENCE
    back_ms = START + hours * HOUR  # back in range
    return [
        a_reading(
            first + k, START + k * CADENCE + clock_error_ms, back_ms + k * SECOND // per_s,
            **signs_at(ILL_FROM + k * CADENCE),
        )
        for k in range(count)
    ]  # fmt: skip


def sounded(events: Iterable[Event]) -> list[AlarmChanged]:
    return [
        one
        for one in events
        if isinstance(one, AlarmChanged)
        and one.kind is AlarmKind.PHYSIOLOGICAL
        and one.state is AlarmState.ACTIVE
        and not one.retrospective
    ]


@pytest.mark.slow
@pytest.mark.parametrize("per_s", [2, 10, 50])
@pytest.mark.parametrize("hours", [1, 12])
@pytest.mark.parametrize("known", [True, False], ids=["known before", "never heard before"])
def test_a_backlog_in_order_never_sounds(per_s: int, hours: int, known: bool) -> None:
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    if known:
        for k in range(60):
            at_ms = START - 5 * MINUTE + k * CADENCE
            monitor.on_reading(a_reading(k, at_ms, at_ms + 200, **signs_at(k * CADENCE)))
        due(monitor, START + hours * HOUR)
        assert [one.rule_id for one in monitor.open_alarms()] == ["no_data"]

    for reading in backlog(per_s=per_s, hours=hours, clock_error_ms=0):
        if reading.heard_ms - reading.at_ms <= 5 * MINUTE:
            break  # what is less than five minutes old counts as live
        events = monitor.on_reading(reading)
        assert sounded(events) == []
        assert not any(isinstance(one, AlarmChanged) and one.rule_id == "no_data" for one in events)
        assert all(one.backfilled for one in events if isinstance(one, ReadingJudged))


@pytest.mark.parametrize("per_s", [1, 2, 20])
@pytest.mark.parametrize("error_ms", [0, -HOUR, 2 * HOUR], ids=["right clock", "an hour behind", "two hours ahead"])
def test_a_backlog_beside_live_readings_never_sounds(per_s: int, error_ms: int) -> None:
    """Two lanes: live readings of a well patient every five seconds, and in between the old ones of bad hours."""
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    for k in range(60):
        at_ms = START + 3 * HOUR + k * CADENCE
        monitor.on_reading(a_reading(k, at_ms + error_ms, at_ms + 200, **signs_at(k % 60 * CADENCE)))
    old = iter(backlog(per_s=1, hours=3, clock_error_ms=error_ms))
    events: list[Event] = []
    for k in range(60, 300):
        now_ms = START + 3 * HOUR + k * CADENCE
        events += monitor.on_reading(a_reading(k, now_ms + error_ms, now_ms + 200, **signs_at(k % 60 * CADENCE)))
        for _ in range(5 * per_s):
            if (reading := next(old, None)) is not None and reading.at_ms < now_ms + error_ms - 10 * MINUTE:
                late = Reading(**{**{f: getattr(reading, f) for f in reading.__struct_fields__}, "received_ms": now_ms})
                events += monitor.on_reading(late)

    assert sounded(events) == []
    assert not [one for one in events if isinstance(one, AlarmChanged) and one.rule_id == "no_data"]


def test_after_a_backlog_the_silence_is_still_said() -> None:
    """First contact is an hour of backlog; then nothing more comes."""
    monitor = PatientMonitor(BINDING, MonitoringPlan())
    events: list[Event] = []
    for reading in backlog(per_s=50, hours=1, clock_error_ms=-2 * HOUR):
        events += monitor.on_reading(reading)
    events += due(monitor, START + HOUR + 10 * MINUTE)

    assert sounded(events) == []
    assert [one.rule_id for one in monitor.open_alarms()] == ["no_data"]


# The clock of the place that judges


def without_times(events: Iterable[Event]) -> list[tuple[object, ...]]:
    """Alarms with their intervals; not whether two clocks differ, which is what was changed."""
    return [
        (one.rule_id, one.key, one.state, one.revision, one.priority, one.at_ms - one.onset_ms)
        for one in events
        if isinstance(one, AlarmChanged) and one.rule_id != "clock"
    ]


@pytest.mark.parametrize("step_ms", [-365 * DAY, -DAY, -HOUR, -210 * SECOND, 210 * SECOND, HOUR, DAY, 200 * DAY])
@pytest.mark.parametrize("at_ms", [2 * MINUTE, ILL_FROM - 2 * SECOND, ILL_FROM + 20 * SECOND, ILL_FROM + 3 * MINUTE])
def test_a_step_that_is_told_changes_no_interval(at_ms: int, step_ms: int) -> None:
    """The whole state moves with the clock: the same alarms with the same ids, revisions and intervals."""
    monitor, still = PatientMonitor(BINDING, MonitoringPlan()), PatientMonitor(BINDING, MonitoringPlan())
    moved = 0
    for number, after_ms in enumerate(range(0, END + 30 * MINUTE, CADENCE)):
        if after_ms >= at_ms and not moved:
            moved = step_ms
            monitor.shift(step_ms)
            monitor = restarted(monitor)
        now_ms = START + after_ms
        told, expected = due(monitor, now_ms + moved), due(still, now_ms)
        if after_ms < END:  # then the data stop
            signs = signs_at(after_ms)
            told += monitor.on_reading(a_reading(number, now_ms, now_ms + moved, **signs))  # the wearable's stays
            expected += still.on_reading(a_reading(number, now_ms, now_ms, **signs))
        assert without_times(told) == without_times(expected)
    assert without_times(monitor.open_alarms()) == without_times(still.open_alarms())
    assert any(one.rule_id == "no_data" for one in still.open_alarms())


def test_a_wearable_that_is_synchronised_and_an_hour_behind_sounds_at_once() -> None:
    """Very ill from the first reading, summer time taken for winter time."""
    monitor, told = PatientMonitor(BINDING, MonitoringPlan()), list[tuple[int, Event]]()
    for k in range(24):
        now_ms = START + k * CADENCE
        signs = {"heart_rate": 160.0 + k % 3, "respiratory_rate": 32.0, "spo2": 80.0 + k % 2, "systolic_bp": 80.0}
        told += [(k * CADENCE, one) for one in monitor.on_reading(a_reading(k, now_ms - HOUR, now_ms, **signs))]
        told += [(k * CADENCE, one) for one in due(monitor, now_ms + CADENCE - 1)]
    found = found_in(told)

    assert found.physiological["news2", "", 3] <= 10 * SECOND
    assert found.no_data == []
    assert found.clock_ms == [70 * SECOND]
    assert "60 min behind" in found.clock[0].text
