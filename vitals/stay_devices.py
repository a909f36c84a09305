"""The devices of one stay, from when to when they are on the patient, and until when they are off on purpose."""

from vitals.alarms import ClockText
from vitals.binding_term import end_of_stay
from vitals.judge import silence_level
from vitals.messages import BindingPeriod, Reading
from vitals.observations import DevicesOff
from vitals.plan import MonitoringPlan
from vitals.quality import Quality
from vitals.seen import Seen
from vitals.sources import Source, Sources
from vitals.view import DeviceView


class StayDevices:
    """Which devices there are, and the term of the stay.

    Args:
        stay_id: which stay; the binding of its first device has the same id.
        plan: what was ordered.
        clock: writes the times in texts.
        seen, quality: of the first device, if they were stored.

    Attributes:
        sources: the devices, each with what was heard of it.
        term: from when to when the patient is monitored.
        off: until when devices are off on purpose.
    """

    __slots__ = ("_clock", "_plan", "off", "sources", "term")

    def __init__(
        self,
        stay_id: str,
        plan: MonitoringPlan,
        clock: ClockText,
        *,
        seen: Seen | None = None,
        quality: Quality | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self.sources = Sources(stay_id, plan, clock, seen=seen, quality=quality)
        self.term = self.sources.term
        self.off = DevicesOff()

    def knows(self, period: BindingPeriod) -> bool:
        """Whether what the registry says of a binding changes nothing."""
        sources, term = self.sources, self.term
        if period.device in sources.forgotten and end_of_stay(period) in (None, term.ended_ms):
            return True
        source = sources.find(period.device)
        if not term.knows(period, None if source is None else source.term):
            return False
        return source is None or not period.device_name or source.name == period.device_name or term.has_ended

    def accept(self, period: BindingPeriod, source: Source | None) -> None:
        """Take over what the registry says of a binding.

        Args:
            source: the device that is bound; None: it is kept no longer.
        """
        if source is not None:
            source.term.accept(period)
            source.name = period.device_name or source.name
        ended_ms = end_of_stay(period)
        if ended_ms is not None:
            self.term.accept_end(ended_ms, period.heard_ms)

    def is_unowned(self, reading: Reading) -> bool:
        """Whether a reading of a binding that is kept no longer was measured after that, or the stay, had ended."""
        return reading.at_ms > self.sources.forgotten[reading.binding_id] or self.term.is_after_end(reading.at_ms)

    def why_refused(self, at_ms: int) -> str:
        """Why nothing that was observed then counts; empty if it does."""
        ended_ms = self.term.ended_ms
        when = "" if ended_ms is None else f" at {self._clock(ended_ms)}"
        if self.term.has_ended:
            return f"the stay has ended{when}"
        return f"observed after the stay had ended{when}" if self.term.is_after_end(at_ms) else ""

    def views(self, now_ms: int) -> tuple[DeviceView, ...]:
        """What a screen may show of the devices."""
        bound = self.sources.bound()
        return tuple(
            DeviceView(
                binding_id=one.binding_id,
                name=one.name,
                heard_ms=one.frontier_ms,
                battery=one.battery,
                sensor_off_since_ms=one.quality.sensor_off_since_ms,
                is_silent=one in bound and len(bound) > 1 and silence_level(one, self._plan, now_ms) > 0,
                has_ended=one.term.has_ended,
            )
            for one in self.sources
            if one.frontier_ms is not None or one.term.known_ms is not None
        )

    def shift(self, by_ms: int) -> None:
        """Move every event time."""
        self.term.shift(by_ms)
        for source in self.sources:
            source.shift(by_ms)
        self.off.shift(by_ms)
