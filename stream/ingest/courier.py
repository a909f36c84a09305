"""Brings documents to edges: at once when something changes, and again until an edge says that it has taken them.

Pure but for the registry that it reads. What an edge has, it says in its heartbeats, in eight bytes.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

AGAIN_MS: Final = 15_000
SOON_MS: Final = 100
SLOW_MS: Final = 120_000
"""An edge that is heard and has not taken its documents for so long is worth a line in the log."""


class Documents(Protocol):
    """What the courier reads."""

    def edges(self) -> list[bytes]: ...
    def documents_for(self, device_id: bytes) -> list[bytes]: ...
    def digest_for(self, device_id: bytes) -> bytes: ...


class Parcel(NamedTuple):
    """Documents that are to be sent to an edge."""

    edge_id: bytes
    frames: list[bytes]


class _Edge:
    def __init__(self) -> None:
        self.wanted = b""  # digest
        self.has: bytes | None = None
        self.due_ms = 0
        self.behind_since_ms: int | None = None
        self.sent: set[bytes] = set()  # what it was sent, or has


class Courier:
    """Knows what each edge should have, and what it has.

    Args:
        documents: the registry.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._edges: dict[bytes, _Edge] = {}
        self._due: OrderedDict[bytes, None] = OrderedDict()

    def changed(self, mono_ms: int) -> None:
        """Something in the registry is not as it was."""
        known = set(self._documents.edges())
        for gone in self._edges.keys() - known:
            del self._edges[gone]
            self._due.pop(gone, None)
        for edge_id in known:
            edge = self._edges.setdefault(edge_id, _Edge())
            wanted = self._documents.digest_for(edge_id)
            if wanted != edge.wanted:
                edge.wanted, edge.due_ms = wanted, mono_ms
                self._due[edge_id] = None

    def heard(self, edge_id: bytes, digest: bytes, mono_ms: int) -> None:
        """A heartbeat said what the edge has taken."""
        edge = self._edges.get(edge_id)
        if edge is None:
            return
        is_news, edge.has = digest != edge.has, digest
        if digest == edge.wanted:
            edge.behind_since_ms = None
            self._due.pop(edge_id, None)
            return
        if edge.behind_since_ms is None:
            edge.behind_since_ms = mono_ms
        edge.sent.clear()  # it has not got them: all of them once more, when that is due
        if is_news:  # it has just started, or was given a part
            edge.due_ms = min(edge.due_ms, mono_ms + SOON_MS)
        self._due[edge_id] = None

    def due(self, mono_ms: int, *, most: int = 16) -> list[Parcel]:
        """What to send now. An edge that does not answer is not sent the same again before it is heard."""
        parcels: list[Parcel] = []
        for edge_id in list(self._due):
            edge = self._edges[edge_id]
            if edge.due_ms > mono_ms:
                continue
            del self._due[edge_id]
            edge.due_ms = mono_ms + AGAIN_MS
            frames = [one for one in self._documents.documents_for(edge_id) if _mark(one) not in edge.sent]
            edge.sent.update(_mark(one) for one in frames)
            if frames:
                parcels.append(Parcel(edge_id, frames))
            if len(parcels) == most:
                break
        return parcels

    def behind(self, mono_ms: int) -> Iterable[bytes]:
        """Edges that are heard and do not take what they are sent: does somebody withhold it?"""
        return [
            edge_id
            for edge_id, edge in self._edges.items()
            if edge.behind_since_ms is not None and mono_ms - edge.behind_since_ms >= SLOW_MS
        ]


def _mark(frame: bytes) -> bytes:
    """The end of a frame's signature names it."""
    return frame[-16:]
