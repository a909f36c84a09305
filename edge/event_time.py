"""When a reading was measured, whatever the wearable's wall clock says.

A wearable sends its wall clock, how good that is, and its uptime. Once it is certain how far uptime and the edge's own
clock are apart, elapsed time decides and the wall clock is only compared with it. Until then a wall clock that is
behind may be right about a reading from a backlog: the reading keeps its time, and says that its age is not known.
"""

from typing import NamedTuple

from vitals.messages import ClockQuality, SensorFlag
from vitals.sender_clock import BOUND_MS
from vitals.uptime import Uptime
from wire.codec import VitalsV1

_CORRECTED = int(SensorFlag.CLOCK_CORRECTED)


class Measured(NamedTuple):
    """A moment, and what had to be done to it."""

    at_ms: int
    flags: int = 0  # messages.SensorFlag
    age_ms: int | None = None  # at arrival, by elapsed time; None: not certain
    clock_ms: int = 0  # how far the wearable's clock is ahead, if it is flagged as wrong and was ever set


def measured_at(
    vitals: VitalsV1, uptime: Uptime, *, received_ms: int, not_before_ms: int, bound_ms: int = BOUND_MS
) -> Measured:
    """Event time of a reading.

    Args:
        uptime: what is known of the device; has learnt from this reading already.
        received_ms: arrival, by the edge's clock.
        not_before_ms: before this the device was not on this patient, so a clock that says so is wrong.
        bound_ms: a wall clock that is off by no more is right.
    """
    elapsed_ms = uptime.at(vitals.uptime_ms, received_ms)  # if not certain: it was not measured later than this
    off_ms = vitals.t_ms - elapsed_ms
    is_set = vitals.t_quality != ClockQuality.UNSET
    if uptime.is_certain:
        if is_set and abs(off_ms) <= bound_ms:
            return Measured(vitals.t_ms, 0, max(received_ms - vitals.t_ms, 0))
        return Measured(elapsed_ms, _CORRECTED, received_ms - elapsed_ms, off_ms if is_set else 0)
    # The time of the binding is of the data centre's clock: it says nothing to an edge whose clock is before it.
    not_before_ms = min(not_before_ms, received_ms)
    if not is_set or off_ms > bound_ms or vitals.t_ms < not_before_ms:
        return Measured(max(elapsed_ms, not_before_ms), _CORRECTED, None, off_ms if is_set else 0)
    return Measured(vitals.t_ms)
