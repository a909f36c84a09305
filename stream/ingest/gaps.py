"""Does all arrive that edges have sealed? Whoever carries frames can drop the newest of them and let the rest pass.

Heartbeats name the last counter of every session. What an edge had sealed by one of them has to be here a while later,
if more of them come: those are sent no sooner than readings. Pure; what has arrived is asked, and times are arguments.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

TAIL_MS: Final = 60_000
"""Two heartbeats. Resends take seconds; after an outage the newest readings of a patient are sent first."""
KEPT_MS: Final = 2 * 3_600_000
"""A session lives for an hour; what nobody has spoken of for so long is forgotten."""


class _Claim(NamedTuple):
    counter: int
    since_ms: int  # when it was first made
    heard_ms: int  # when its session was last spoken of
    is_told: bool


class GapDetector:
    """What edges say they have sealed, held against what came.

    Args:
        highest: the highest counter of a session that has arrived; None: the session is not known.
    """

    def __init__(self, highest: Callable[[bytes], int | None]) -> None:
        self._highest = highest
        self._claims: dict[bytes, dict[bytes, _Claim]] = {}  # by edge, by session

    def heard(self, edge_id: bytes, last_counters: Iterable[tuple[bytes, int, int]], mono_ms: int) -> list[bytes]:
        """A heartbeat has come.

        Args:
            last_counters: session, class and last counter, as the edge gives them.

        Returns:
            Sessions whose newest frames are missing and have not been spoken of before.
        """
        claims = self._claims.setdefault(edge_id, {})
        for session_id, _, counter in last_counters:
            claim = claims.get(session_id)
            if claim is None or self._has(session_id, claim.counter):
                claims[session_id] = _Claim(counter, mono_ms, mono_ms, is_told=False)
            else:
                claims[session_id] = claim._replace(heard_ms=mono_ms)
        missing = [
            session_id
            for session_id, claim in claims.items()
            if mono_ms - claim.since_ms >= TAIL_MS and not claim.is_told and not self._has(session_id, claim.counter)
        ]
        for session_id in missing:
            claims[session_id] = claims[session_id]._replace(is_told=True)
        for session_id in [one for one, claim in claims.items() if mono_ms - claim.heard_ms > KEPT_MS]:
            del claims[session_id]
        return missing

    def _has(self, session_id: bytes, counter: int) -> bool:
        highest = self._highest(session_id)
        return highest is not None and highest >= counter
