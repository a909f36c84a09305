"""When a reading was measured, if the wearable's wall clock cannot be believed.

A wearable sends its wall clock, how good that is, and its uptime, which goes on where a wall clock jumps. The edge
learns from the reading that was held up least how far uptime and the edge's own clock are apart.
"""

from typing import Final, NamedTuple

from vitals.messages import ClockQuality, SensorFlag
from wire.codec import VitalsV1

FUTURE_MS: Final = 30_000
"""Further ahead of the edge's clock than this no reading is believed."""


class Measured(NamedTuple):
    """A moment, and what had to be done to it."""

    at_ms: int
    flags: int  # messages.SensorFlag


class Uptime:
    """The relation of one device's uptime to our clock, for as long as the device does not restart."""

    __slots__ = ("_offset_ms",)

    def __init__(self) -> None:
        self._offset_ms: int | None = None

    def learn(self, uptime_ms: int, received_ms: int) -> None:
        """A reading came; the least delayed one says most."""
        offset_ms = received_ms - uptime_ms
        if self._offset_ms is None or offset_ms < self._offset_ms:
            self._offset_ms = offset_ms

    def at(self, uptime_ms: int, received_ms: int) -> int:
        """When the device had this uptime, by our clock; never after the arrival."""
        return received_ms if self._offset_ms is None else min(received_ms, self._offset_ms + uptime_ms)


def measured_at(vitals: VitalsV1, uptime: Uptime, *, received_ms: int, not_before_ms: int) -> Measured:
    """Event time of a reading.

    Args:
        uptime: what is known of the device; has learnt from this reading already.
        received_ms: arrival, by the edge's clock.
        not_before_ms: before this the device was not on this patient, so a clock that says so is wrong.
    """
    rebuilt_ms = max(uptime.at(vitals.uptime_ms, received_ms), not_before_ms)
    quality = vitals.t_quality
    drifted = quality == ClockQuality.FREE_RUNNING and abs(vitals.t_ms - rebuilt_ms) > FUTURE_MS
    if quality == ClockQuality.UNSET or drifted or vitals.t_ms < not_before_ms:
        return Measured(rebuilt_ms, int(SensorFlag.CLOCK_CORRECTED))
    if vitals.t_ms > received_ms + FUTURE_MS:
        return Measured(received_ms, int(SensorFlag.CLOCK_CLAMPED))
    return Measured(vitals.t_ms, 0)
