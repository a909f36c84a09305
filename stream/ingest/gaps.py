"""Detection of missing frames at the end of a session, for example frames that a broker drops on purpose.

A gap inside a session shows in the counters; newest frames that are missing do not. Heartbeats name the last counter
of every session. Readings are sent before heartbeats, so if later heartbeats arrive, frames up to that counter have to
arrive as well within a minute. Pure: the highest counter that has arrived is looked up, and times are arguments.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

GAP_AFTER_MS: Final = 60_000
"""Two heartbeats. Resending takes seconds, and after an outage the newest readings of a patient are sent first."""
SESSION_KEPT_MS: Final = 2 * 3_600_000
"""A session is used for an hour; one that no heartbeat has named for this time is forgotten."""


class _Claim(NamedTuple):
    counter: int
    since_ms: int  # when a heartbeat first named the counter
    heard_ms: int  # when a heartbeat last named the session
    is_reported: bool


class GapDetector:
    """Compares the counters that edges report in heartbeats with the frames that have arrived.

    Args:
        highest: returns the highest counter of a session that has arrived; None: the session is not known.
    """

    def __init__(self, highest: Callable[[bytes], int | None]) -> None:
        self._highest = highest
        self._claims: dict[bytes, dict[bytes, _Claim]] = {}  # by edge, by session

    def heard(self, edge_id: bytes, last_counters: Iterable[tuple[bytes, int, int]], mono_ms: int) -> list[bytes]:
        """Evaluate a heartbeat.

        Args:
            last_counters: session, frame class and last counter, from the heartbeat.

        Returns:
            Sessions whose newest frames are missing and that have not been returned before.
        """
        claims = self._claims.setdefault(edge_id, {})
        for session_id, _, counter in last_counters:
            claim = claims.get(session_id)
            if claim is None or self._has(session_id, claim.counter):
                claims[session_id] = _Claim(counter, mono_ms, mono_ms, is_reported=False)
            else:
                claims[session_id] = claim._replace(heard_ms=mono_ms)
        missing = [
            session_id
            for session_id, claim in claims.items()
            if mono_ms - claim.since_ms >= GAP_AFTER_MS
            and not claim.is_reported
            and not self._has(session_id, claim.counter)
        ]
        for session_id in missing:
            claims[session_id] = claims[session_id]._replace(is_reported=True)
        for session_id in [one for one, claim in claims.items() if mono_ms - claim.heard_ms > SESSION_KEPT_MS]:
            del claims[session_id]
        return missing

    def _has(self, session_id: bytes, counter: int) -> bool:
        highest = self._highest(session_id)
        return highest is not None and highest >= counter
