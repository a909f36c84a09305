"""The clocks of edges, compared with the clock of the data centre, and event times corrected by the difference.

Two clocks are never compared by subtraction alone: a message that waited somewhere would look like a clock that is
behind. An edge tells its uptime with every reading and heartbeat; heartbeats are sent live or not at all, so two of
them show how far its uptime, and with it its clock, are from ours. Until then nothing is corrected, and the patient's
monitor tells by the rate of arrival whether it hears live readings.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from runtime.logs import get
from vitals.messages import ClockQuality, Reading, SensorFlag
from vitals.sender_clock import BOUND_MS
from vitals.uptime import Uptime
from wire.codec import EdgeAlarmV1, EdgeVitalsV1, HeartbeatV1, ObservationV1

FUTURE_MS: Final = 30_000
"""A reading whose times are further ahead of the clock of ingest gets the time of ingest instead."""
_KEPT_BOOTS: Final = 8
_FORGET_MS: Final = 120_000
"""The uptime of an edge that runs for months drifts away from our clock by minutes."""

_log = get(__name__)


class _EdgeClock:
    __slots__ = ("ahead_ms", "boots", "is_wrong")

    def __init__(self) -> None:
        self.boots: OrderedDict[bytes, Uptime] = OrderedDict()  # by process of the edge, the newest last
        self.ahead_ms: int | None = None  # None: not certain yet
        self.is_wrong = False

    def uptime(self, boot_id: bytes) -> Uptime:
        found = self.boots.get(boot_id)
        if found is None:
            found = self.boots[boot_id] = Uptime(forgets_ms=_FORGET_MS)
            if len(self.boots) > _KEPT_BOOTS:
                self.boots.popitem(last=False)
        return found


class EdgeClocks:
    """The clock of every edge of a site.

    Args:
        is_simulated: whether clocks are of a simulation, where uptime and wall clock run at different speeds: then
            nothing is compared.
    """

    def __init__(self, *, is_simulated: bool = False) -> None:
        self._is_simulated = is_simulated
        self._edges: dict[bytes, _EdgeClock] = {}

    @property
    def ahead_ms(self) -> Mapping[bytes, int]:
        """How far the clock of each edge is ahead of ours, negative: behind; edges that are certain only."""
        return {edge: one.ahead_ms for edge, one in self._edges.items() if one.ahead_ms is not None}

    def is_known(self, edge_id: bytes) -> bool:
        """Whether the clock of an edge may be compared with ours: not until two heartbeats have come."""
        edge = self._edges.get(edge_id)
        return self._is_simulated or (edge is not None and edge.ahead_ms is not None)

    def on_heartbeat(self, edge_id: bytes, beat: HeartbeatV1, now_ms: int) -> None:
        """A heartbeat that arrived at `now_ms`; a clock that is wrong is logged once."""
        if self._is_simulated:
            return
        edge = self._edges.setdefault(edge_id, _EdgeClock())
        uptime = edge.uptime(beat.boot_id)
        uptime.learn(beat.uptime_ms, now_ms)
        if not uptime.is_certain:
            return
        edge.ahead_ms = beat.at_ms - uptime.at(beat.uptime_ms, now_ms)
        is_wrong = abs(edge.ahead_ms) > BOUND_MS
        if is_wrong and not edge.is_wrong:
            _log.warning(
                "the clock of an edge is wrong; its times are corrected; check its time server",
                edge=edge_id.hex(),
                ahead_ms=edge.ahead_ms,
            )
        elif edge.is_wrong and not is_wrong:
            _log.info("the clock of an edge is right again", edge=edge_id.hex())
        edge.is_wrong = is_wrong

    def place(self, edge_id: bytes, message: EdgeVitalsV1, reading: Reading, now_ms: int) -> Reading:
        """The reading with its arrival at `now_ms`, its age where that is certain, and times by our clock."""
        ahead_ms, age_ms = self._compare(edge_id, message, now_ms)
        if abs(ahead_ms) > BOUND_MS:
            at_ms, flags = max(reading.at_ms - ahead_ms, 0), reading.sensor_flags | SensorFlag.EDGE_CLOCK_CORRECTED
            if message.vitals.t_quality != ClockQuality.UNSET and abs(message.vitals.t_ms - at_ms) <= BOUND_MS:
                flags &= ~SensorFlag.CLOCK_CORRECTED  # the edge blamed the wearable, whose clock is right
            reading = replace(
                reading,
                at_ms=at_ms,
                received_ms=max(reading.received_ms - ahead_ms, 0),
                sensor_flags=flags,
                clock_ms=ahead_ms,
                edge=edge_id.hex()[:8],
            )
        return arrived(reading, now_ms, age_ms)

    def correct_alarm(self, edge_id: bytes, alarm: EdgeAlarmV1) -> EdgeAlarmV1:
        """An alarm of an edge with times by our clock."""
        edge = self._edges.get(edge_id)
        ahead_ms = 0 if edge is None or edge.ahead_ms is None else edge.ahead_ms
        if abs(ahead_ms) <= BOUND_MS:
            return alarm
        return replace(alarm, at_ms=max(alarm.at_ms - ahead_ms, 0), onset_ms=max(alarm.onset_ms - ahead_ms, 0))

    def correct_observation(self, edge_id: bytes, observation: ObservationV1) -> ObservationV1:
        """An observation that was entered at an edge, with times by our clock."""
        edge = self._edges.get(edge_id)
        ahead_ms = 0 if edge is None or edge.ahead_ms is None else edge.ahead_ms
        if abs(ahead_ms) <= BOUND_MS:
            return observation
        off_ms = observation.off_until_ms
        return replace(
            observation,
            at_ms=max(observation.at_ms - ahead_ms, 0),
            entered_ms=max(observation.entered_ms - ahead_ms, 0),
            off_until_ms=None if off_ms is None else max(off_ms - ahead_ms, 0),
        )

    def _compare(self, edge_id: bytes, message: EdgeVitalsV1, now_ms: int) -> tuple[int, int | None]:
        """How far the edge's clock was ahead when it received the reading, and the age of the reading now."""
        edge = self._edges.get(edge_id)
        if edge is None or self._is_simulated:
            return 0, None
        uptime = edge.boots.get(message.boot_id) if message.boot_id else None
        if uptime is None or not uptime.is_certain:
            # An edge that does not say its uptime, or what an earlier process of this edge has kept.
            return edge.ahead_ms or 0, None
        uptime.learn(message.uptime_ms, now_ms, proves=False)
        received_ms = uptime.at(message.uptime_ms, now_ms)
        age_ms = None if message.age_ms is None else now_ms - received_ms + message.age_ms
        return message.received_ms - received_ms, age_ms


def arrived(reading: Reading, now_ms: int, age_ms: int | None) -> Reading:
    """The reading with its time of arrival, and without times in the future.

    A time in the future would make all later readings of the patient look late, and old readings, from an outbox or a
    replayed recording, would raise alarms as if they were current.
    """
    if reading.received_ms <= now_ms + FUTURE_MS and reading.at_ms <= now_ms + FUTURE_MS:
        return replace(reading, arrived_ms=now_ms, age_ms=age_ms)
    return replace(
        reading,
        arrived_ms=now_ms,
        at_ms=min(reading.at_ms, now_ms),
        received_ms=min(reading.received_ms, now_ms),
        sensor_flags=reading.sensor_flags | SensorFlag.CLOCK_CLAMPED,
        age_ms=age_ms,
    )
