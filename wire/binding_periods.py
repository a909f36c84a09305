"""Which bindings the place that judges has to be told of: those that are new, those that have ended, now and then all.

Pure. A patient is monitored because a binding says so, not because a reading came; so the monitors learn of it.
"""

from collections.abc import Callable, Iterable
from typing import Final

from vitals.messages import BindingPeriod
from wire.identity import Directory

LOOK_EVERY_MS: Final = 1_000
TELL_AGAIN_MS: Final = 300_000
"""So often every binding is told again: with whether its edge is heard, and in case the first time was lost."""

FIRST_AGAIN_MS: Final = 60_000

_NOT_HEARD: Final[Callable[[bytes], int | None]] = lambda _edge_id: None  # noqa: E731


class BindingPeriods:
    """Compares the bindings of a directory with what was told.

    Args:
        directory: bindings in force, and those that ended a short time ago.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._told: dict[bytes, int | None] = {}  # by binding: the end that was told
        self._looked_ms: int | None = None  # monotonic
        self._all_again_ms = 0  # monotonic

    def due(
        self, now_ms: int, mono_ms: int, *, edge_heard_ms: Callable[[bytes], int | None] = _NOT_HEARD
    ) -> list[BindingPeriod]:
        """What has to be told now. It looks once a second; call `told` when that is durable, or it is told again.

        Args:
            edge_heard_ms: when an edge was last heard; None: it is not.
        """
        if self._looked_ms is not None and mono_ms - self._looked_ms < LOOK_EVERY_MS:
            return []
        self._looked_ms = mono_ms
        if mono_ms >= self._all_again_ms:
            self._told.clear()
        return [
            BindingPeriod(
                binding_id=one.binding_id.hex(),
                from_ms=one.valid_from_ms,
                to_ms=one.valid_to_ms,
                heard_ms=now_ms,
                edge_heard_ms=edge_heard_ms(one.edge_id),
            )
            for one in self._directory.bindings()
            if one.binding_id not in self._told or self._told[one.binding_id] != one.valid_to_ms
        ]

    def told(self, periods: Iterable[BindingPeriod], mono_ms: int) -> None:
        """These were applied, durably."""
        if mono_ms >= self._all_again_ms:
            # The first time edges have hardly had the time to be heard.
            self._all_again_ms = mono_ms + (TELL_AGAIN_MS if self._all_again_ms else FIRST_AGAIN_MS)
        self._told |= {bytes.fromhex(one.binding_id): one.to_ms for one in periods}

    def look_now(self) -> None:
        """Something has changed: look at the next call of `due`."""
        self._looked_ms = None
