"""Health of the registry: its figures, why the broker's files do not follow it, and what could not be renewed."""

from collections.abc import Mapping
from typing import Final

import msgspec

from runtime.clock import Clock
from runtime.end_dates import EndDate
from runtime.metrics import Figures
from stream.progress import STUCK_MS, age_s, copy_counts, duration
from stream.site.http import RequestCounts

BROKER_FILES: Final = "files of the MQTT broker"
SITE_KEYS: Final = "keys and addresses of the site"


class UpkeepStatus(msgspec.Struct):
    """The state of a site's upkeep. Values are replaced, never changed: another thread reads them."""

    problems: Mapping[str, str] = {}  # by what: why it failed the last time
    not_reloaded: str = ""  # why the broker has not reloaded changed files
    ends: tuple[EndDate, ...] = ()
    errors: int = 0
    turned_ms: int | None = None  # monotonic


class RegistryHealth:
    """Health of `vitalloom registry serve`."""

    def __init__(self, requests: RequestCounts, upkeep: UpkeepStatus, clock: Clock) -> None:
        self._requests = requests
        self._upkeep = upkeep
        self._clock = clock

    def figures(self) -> Figures:
        requests = self._requests
        return Figures(
            received=requests.received,
            sent=requests.granted,
            errors={"broker": self._upkeep.errors},
            discarded=copy_counts(requests.refused),
            progress_age_s=age_s(self._clock.mono_ms(), self._upkeep.turned_ms or 0),
        )

    def trouble(self) -> str:
        now_ms, upkeep = self._clock.mono_ms(), self._upkeep
        for what in (BROKER_FILES, SITE_KEYS):
            if problem := upkeep.problems.get(what):
                return problem
        if upkeep.turned_ms is None:
            return "starting"
        if now_ms - upkeep.turned_ms > STUCK_MS:
            return f"the broker's files have not been updated for {duration(now_ms, upkeep.turned_ms)}"
        return ""

    def notes(self) -> list[str]:
        """What failed and makes no device wait yet."""
        upkeep = self._upkeep
        found = [f"{what}: {problem}" for what, problem in upkeep.problems.items()]
        return [*found, *([upkeep.not_reloaded] if upkeep.not_reloaded else [])]
