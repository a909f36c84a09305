"""Health of a process that receives frames from edges: its figures, and why it makes no progress."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from runtime.clock import Clock
from runtime.metrics import Figure, Figures
from stream.ingest.reception import ReceptionCounts
from stream.progress import STUCK_MS, age_s, copy_counts, duration, lasting
from wire.lanes import Lanes

if TYPE_CHECKING:  # the embedded engine needs no Kafka
    from stream.ingest.kafka_ingest import IngestCounts


class IngestHealth:
    """Health of `vitalloom ingest`.

    Args:
        lanes: the connections to the MQTT broker; None before they are opened.
    """

    def __init__(self, lanes: Callable[[], Lanes | None], counts: "IngestCounts", clock: Clock) -> None:
        self._lanes = lanes
        self._counts = counts
        self._clock = clock

    def figures(self) -> Figures:
        counts = self._counts
        errors = {"kafka": counts.failed_sends}
        return reception_figures(self._lanes(), counts, self._clock, sent=counts.sent, errors=errors)

    def trouble(self) -> str:
        return mqtt_trouble(self._lanes()) or kafka_trouble(self._counts, self._clock.mono_ms())


def kafka_trouble(counts: "IngestCounts", now_ms: int) -> str:
    """Why frames do not reach Kafka, or stored frames cannot be acknowledged; empty if all is well."""
    if counts.waiting_since_ms is not None:
        waited = duration(now_ms, counts.waiting_since_ms)
        why = f": {counts.why_waiting}" if counts.why_waiting else ""
        return f"Kafka has accepted nothing for {waited}{why}{lasting(counts.waiting_for)}"
    if not counts.turned_ms or not counts.heard_ms:
        return "Kafka has not answered yet"
    if now_ms - counts.turned_ms > STUCK_MS:
        return f"frames from edges have not been forwarded for {duration(now_ms, counts.turned_ms)}"
    if now_ms - counts.heard_ms > STUCK_MS:
        return f"Kafka has not answered for {duration(now_ms, counts.heard_ms)}"
    return ""


def mqtt_trouble(lanes: Lanes | None) -> str:
    """Why no frame from an edge can arrive; empty if both connections to the MQTT broker are up and refused nothing."""
    if lanes is not None and lanes.connected:
        return f"the MQTT broker {lanes.refusal}" if lanes.refusal else ""
    return f"not connected to the MQTT broker ({(lanes and lanes.trouble) or 'not yet'})"


def reception_figures(
    lanes: Lanes | None, counts: ReceptionCounts, clock: Clock, *, sent: int, errors: Mapping[str, int]
) -> Figures:
    """The figures that ingest and the embedded engine have in common."""
    connected = lanes is not None and lanes.connected
    counters = (
        ("stored", "Frames for which a stored acknowledgement was signed.", counts.stored),
        ("duplicates", "Frames received again after they were stored.", counts.duplicates),
        ("heartbeats", "Heartbeats received from edges.", counts.heartbeats),
        ("edge_alarms", "Alarms that edges raised locally.", counts.edge_alarms),
        ("dead_letters", "Authentic frames that could not be processed.", counts.dead_letters),
        ("gaps_detected", "Sessions whose newest frames are missing although heartbeats arrive.", counts.gaps_detected),
    )
    return Figures(
        received=counts.received,
        sent=sent,
        errors=errors,
        discarded=copy_counts(counts.rejected),
        lag={"mqtt": 0 if lanes is None else lanes.waiting},
        progress_age_s=age_s(clock.mono_ms(), counts.turned_ms),
        more=(
            Figure("connected", "1 while both connections to the MQTT broker are up, else 0.", connected),
            Figure("edge_clocks_wrong", "Edges whose clock differs by more than 5 s.", counts.edge_clocks_wrong),
            Figure(
                "edges_without_orders",
                "Edges that do not accept the orders of their patients and judge them by the defaults.",
                counts.edges_without_orders,
            ),
            Figure(
                "edge_clock_offset_seconds",
                "How far the clock of an edge is ahead: of the edge with the largest difference.",
                counts.edge_clock_ms / 1_000,
            ),
            Figure(
                "machine_clock_offset_seconds",
                "How far the clock of this machine is ahead of the time that arrivals are stamped with.",
                counts.machine_clock_ms / 1_000,
            ),
            *(Figure(name, about, number, grows=True) for name, about, number in counters),
        ),
    )
