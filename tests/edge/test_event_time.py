"""When a reading was measured, whatever the wearable's clock says."""

import pytest

from edge.event_time import Measured, Uptime, measured_at
from vitals.messages import ClockQuality, SensorFlag
from wire.codec import VitalsV1

NOW = 1_767_600_000_000
SECOND, HOUR, YEAR = 1_000, 3_600_000, 365 * 86_400_000
UNSET, FREE, SET = ClockQuality.UNSET, ClockQuality.FREE_RUNNING, ClockQuality.SYNCHRONISED
CORRECTED, CLAMPED = int(SensorFlag.CLOCK_CORRECTED), int(SensorFlag.CLOCK_CLAMPED)


def judged(t_ms: int, quality: ClockQuality, *, uptime_ms: int = HOUR, received_ms: int = NOW) -> Measured:
    """A device that has been up for an hour at NOW, by the reading that was held up least."""
    uptime = Uptime()
    uptime.learn(HOUR, NOW)
    uptime.learn(uptime_ms, received_ms)
    vitals = VitalsV1(t_ms=t_ms, t_quality=int(quality), uptime_ms=uptime_ms)
    return measured_at(vitals, uptime, received_ms=received_ms, not_before_ms=NOW - 24 * HOUR)


@pytest.mark.parametrize(
    ("t_ms", "quality", "expected"),
    [
        (NOW - 2 * SECOND, SET, Measured(NOW - 2 * SECOND, 0)),
        (NOW - 2 * SECOND, FREE, Measured(NOW - 2 * SECOND, 0)),  # drifted a little: believed
        (NOW - HOUR, FREE, Measured(NOW, CORRECTED)),  # nobody has set it
        (NOW + HOUR, FREE, Measured(NOW, CORRECTED)),
        (NOW - HOUR, SET, Measured(NOW - HOUR, 0)),  # an hour in a buffer
        (0, UNSET, Measured(NOW, CORRECTED)),
        (NOW - 2 * SECOND, UNSET, Measured(NOW, CORRECTED)),
        (NOW + 30 * SECOND, SET, Measured(NOW + 30 * SECOND, 0)),
        (NOW + 31 * SECOND, SET, Measured(NOW, CLAMPED)),
        (NOW + 10 * YEAR, SET, Measured(NOW, CLAMPED)),
        (NOW - 10 * YEAR, SET, Measured(NOW, CORRECTED)),  # before the device was on this patient
    ],
)
def test_a_clock_is_believed_as_far_as_it_can_be(t_ms: int, quality: ClockQuality, expected: Measured) -> None:
    assert judged(t_ms, quality) == expected


def test_a_reading_that_was_held_up_is_put_where_its_uptime_says() -> None:
    # up:      59 min        60 min
    #          measured      NOW, a reading came at once
    held_up = judged(0, UNSET, uptime_ms=HOUR - 60 * SECOND, received_ms=NOW + 5 * SECOND)

    assert held_up == Measured(NOW - 60 * SECOND, CORRECTED)


def test_the_least_delayed_reading_says_most() -> None:
    uptime = Uptime()
    uptime.learn(1_000, 61_000)  # a minute in a buffer
    assert uptime.at(2_000, 70_000) == 62_000
    uptime.learn(3_000, 4_000)  # came at once

    assert uptime.at(2_000, 70_000) == 3_000


def test_nothing_is_measured_after_it_has_arrived_or_before_the_device_was_there() -> None:
    uptime = Uptime()
    uptime.learn(0, NOW)

    assert uptime.at(HOUR, NOW + SECOND) == NOW + SECOND
    early = VitalsV1(t_ms=0, t_quality=int(UNSET), uptime_ms=0)
    assert measured_at(early, uptime, received_ms=NOW + SECOND, not_before_ms=NOW + SECOND).at_ms == NOW + SECOND
