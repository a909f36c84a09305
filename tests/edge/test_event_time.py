"""When a reading was measured, whatever the wearable's clock says."""

import pytest

from edge.event_time import Measured, measured_at
from vitals.messages import ClockQuality, SensorFlag
from vitals.uptime import Uptime
from wire.codec import VitalsV1

NOW = 1_767_600_000_000
SECOND, HOUR, YEAR = 1_000, 3_600_000, 365 * 86_400_000
UNSET, FREE, SET = ClockQuality.UNSET, ClockQuality.FREE_RUNNING, ClockQuality.SYNCHRONISED
CORRECTED = int(SensorFlag.CLOCK_CORRECTED)


def judged(
    t_ms: int, quality: ClockQuality, *, certain: bool, uptime_ms: int = HOUR, received_ms: int = NOW
) -> Measured:
    """A device that has been up for an hour at NOW, by the reading that was held up least.

    Args:
        certain: readings have come for ten seconds as fast as they were measured.
    """
    uptime = Uptime()
    for before_ms in (10 * SECOND, 5 * SECOND, 0) if certain else (0,):
        uptime.learn(HOUR - before_ms, NOW - before_ms)
    uptime.learn(uptime_ms, received_ms)
    assert uptime.is_certain is certain
    vitals = VitalsV1(t_ms=t_ms, t_quality=int(quality), uptime_ms=uptime_ms)
    return measured_at(vitals, uptime, received_ms=received_ms, not_before_ms=NOW - 24 * HOUR)


@pytest.mark.parametrize(
    ("t_ms", "quality", "at_first", "then"),
    [
        (NOW - 2 * SECOND, SET, Measured(NOW - 2 * SECOND), Measured(NOW - 2 * SECOND, 0, 2 * SECOND)),
        (NOW - 2 * SECOND, FREE, Measured(NOW - 2 * SECOND), Measured(NOW - 2 * SECOND, 0, 2 * SECOND)),
        (NOW + 2 * SECOND, SET, Measured(NOW + 2 * SECOND), Measured(NOW + 2 * SECOND, 0, 0)),
        # behind: from a buffer, or a clock that is wrong; elapsed time tells, or at first the rate of arrival
        (NOW - HOUR, SET, Measured(NOW - HOUR), Measured(NOW, CORRECTED, 0, -HOUR)),
        (NOW - HOUR, FREE, Measured(NOW - HOUR), Measured(NOW, CORRECTED, 0, -HOUR)),
        # ahead: nothing is measured after it has arrived
        (NOW + 6 * SECOND, SET, Measured(NOW, CORRECTED, None, 6 * SECOND), Measured(NOW, CORRECTED, 0, 6 * SECOND)),
        (NOW + HOUR, FREE, Measured(NOW, CORRECTED, None, HOUR), Measured(NOW, CORRECTED, 0, HOUR)),
        (NOW + 10 * YEAR, SET, Measured(NOW, CORRECTED, None, 10 * YEAR), Measured(NOW, CORRECTED, 0, 10 * YEAR)),
        # before the device was on this patient
        (NOW - 10 * YEAR, SET, Measured(NOW, CORRECTED, None, -10 * YEAR), Measured(NOW, CORRECTED, 0, -10 * YEAR)),
        # never set
        (0, UNSET, Measured(NOW, CORRECTED), Measured(NOW, CORRECTED, 0)),
        (NOW - 2 * SECOND, UNSET, Measured(NOW, CORRECTED), Measured(NOW, CORRECTED, 0)),
    ],
)
def test_a_clock_is_believed_as_far_as_it_can_be(
    t_ms: int, quality: ClockQuality, at_first: Measured, then: Measured
) -> None:
    assert judged(t_ms, quality, certain=False) == at_first
    assert judged(t_ms, quality, certain=True) == then


@pytest.mark.parametrize(("t_ms", "quality"), [(0, UNSET), (NOW, SET), (NOW - 5 * HOUR, SET), (NOW + HOUR, FREE)])
def test_a_reading_that_was_held_up_is_put_where_its_uptime_says(t_ms: int, quality: ClockQuality) -> None:
    # up:      59 min        60 min
    #          measured      NOW, a reading came at once
    held_up = judged(t_ms, quality, certain=True, uptime_ms=HOUR - 60 * SECOND, received_ms=NOW + 5 * SECOND)

    assert held_up[:3] == (NOW - 60 * SECOND, CORRECTED, 65 * SECOND)


def test_the_least_delayed_reading_says_most() -> None:
    uptime = Uptime()
    uptime.learn(1_000, 61_000)  # a minute in a buffer
    assert uptime.at(2_000, 70_000) == 62_000
    uptime.learn(3_000, 4_000)  # came at once

    assert uptime.at(2_000, 70_000) == 3_000


def test_a_backlog_makes_nothing_certain() -> None:
    uptime = Uptime()
    for k in range(1_000):  # measured every five seconds, ten of them a second
        uptime.learn(5 * SECOND * k, 10 * HOUR + 100 * k)
        assert not uptime.is_certain


def test_live_readings_between_those_of_a_backlog_make_it_certain() -> None:
    uptime = Uptime()
    for k in range(10):
        uptime.learn(10 * HOUR + 5 * SECOND * k, NOW + 5 * SECOND * k)
        uptime.learn(SECOND * k, NOW + 5 * SECOND * k + 1)  # ten hours old

    assert uptime.is_certain
    assert uptime.at(HOUR, NOW + 50 * SECOND) == NOW - 9 * HOUR


def test_nothing_is_measured_after_it_has_arrived_or_before_the_device_was_there() -> None:
    uptime = Uptime()
    uptime.learn(0, NOW)

    assert uptime.at(HOUR, NOW + SECOND) == NOW + SECOND
    early = VitalsV1(t_ms=0, t_quality=int(UNSET), uptime_ms=0)
    assert measured_at(early, uptime, received_ms=NOW + SECOND, not_before_ms=NOW + SECOND).at_ms == NOW + SECOND


def test_an_edge_whose_clock_is_before_the_binding_judges_what_comes() -> None:
    uptime = Uptime()
    uptime.learn(0, NOW)
    vitals = VitalsV1(t_ms=NOW - SECOND, t_quality=int(SET), uptime_ms=0)

    # The binding began by the clock of the data centre, which is an hour ahead of this edge's.
    assert measured_at(vitals, uptime, received_ms=NOW, not_before_ms=NOW + HOUR).at_ms == NOW
