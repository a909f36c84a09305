"""Health of the embedded engine: metrics and readiness."""

from collections.abc import Callable

from runtime.clock import Clock
from runtime.metrics import Figures
from stream.embedded.stream import StreamCounts
from stream.ingest.health import mqtt_trouble, reception_figures
from stream.progress import STUCK_MS, duration
from wire.lanes import Lanes


class StreamHealth:
    """Health of `vitalloom stream`.

    Args:
        lanes: the connections to the MQTT broker; None before they are opened.
    """

    def __init__(self, lanes: Callable[[], Lanes | None], counts: StreamCounts, clock: Clock) -> None:
        self._lanes = lanes
        self._counts = counts
        self._clock = clock

    def figures(self) -> Figures:
        counts = self._counts
        errors = {"commit": counts.failed_commits}
        return reception_figures(self._lanes(), counts, self._clock, sent=counts.stored, errors=errors)

    def trouble(self) -> str:
        return mqtt_trouble(self._lanes()) or trouble_of_stream(self._counts, self._clock.mono_ms())


def trouble_of_stream(counts: StreamCounts, now_ms: int) -> str:
    """Why the engine is not ready; empty if it stores frames from edges."""
    if not counts.turned_ms:
        return "starting"
    if now_ms - counts.turned_ms > STUCK_MS:
        return f"frames from edges have not been stored for {duration(now_ms, counts.turned_ms)}"
    return ""
