"""Health of the registry: its figures, and why the broker's files do not follow it."""

import msgspec

from runtime.clock import Clock
from runtime.metrics import Figures
from stream.progress import STUCK_MS, age_s, copy_counts, duration
from stream.site.http import RequestCounts


class BrokerFilesStatus(msgspec.Struct):
    """The outcome of the last attempt to bring the broker's files up to date."""

    problem: str = ""
    errors: int = 0
    turned_ms: int = 0  # monotonic


class RegistryHealth:
    """Health of `vitalloom registry serve`."""

    def __init__(self, requests: RequestCounts, broker_files: BrokerFilesStatus, clock: Clock) -> None:
        self._requests = requests
        self._broker_files = broker_files
        self._clock = clock

    def figures(self) -> Figures:
        requests = self._requests
        return Figures(
            received=requests.received,
            sent=requests.granted,
            errors={"broker": self._broker_files.errors},
            discarded=copy_counts(requests.refused),
            progress_age_s=age_s(self._clock.mono_ms(), self._broker_files.turned_ms),
        )

    def trouble(self) -> str:
        now_ms, files = self._clock.mono_ms(), self._broker_files
        if files.problem:
            return files.problem
        if not files.turned_ms:
            return "starting"
        if now_ms - files.turned_ms > STUCK_MS:
            return f"the broker's files have not been updated for {duration(now_ms, files.turned_ms)}"
        return ""
