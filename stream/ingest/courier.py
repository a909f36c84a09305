"""Sends signed documents to edges: when they change, and again until the edge confirms that it has accepted them.

An edge confirms with a digest of eight bytes in its heartbeats. Pure, except that it reads the registry.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

RESEND_MS: Final = 15_000
FIRST_RESEND_MS: Final = 100
OVERDUE_MS: Final = 120_000
"""An edge that sends heartbeats and has not accepted its documents for this time is logged."""


class Documents(Protocol):
    """The part of the registry that the courier reads."""

    def edges(self) -> list[bytes]: ...
    def documents_for(self, device_id: bytes) -> list[bytes]: ...
    def digest_for(self, device_id: bytes) -> bytes: ...


class Parcel(NamedTuple):
    """Documents to send to an edge."""

    edge_id: bytes
    frames: list[bytes]


class _Edge:
    def __init__(self) -> None:
        self.wanted = b""  # digest of the documents it should have
        self.has: bytes | None = None  # digest of the documents it has accepted
        self.due_ms = 0
        self.behind_since_ms: int | None = None
        self.sent: set[bytes] = set()  # marks of documents that were sent since its last heartbeat


class Courier:
    """Tracks which documents each edge should have, and which it has accepted.

    Args:
        documents: the registry.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._edges: dict[bytes, _Edge] = {}
        self._due: OrderedDict[bytes, None] = OrderedDict()

    def changed(self, mono_ms: int) -> None:
        """The registry has changed: find the edges that need other documents."""
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
        """A heartbeat has named the digest of the documents that the edge has accepted."""
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
        edge.sent.clear()  # the documents did not arrive: all of them are sent again when due
        if is_news:  # the edge has just started, or has accepted some of the documents
            edge.due_ms = min(edge.due_ms, mono_ms + FIRST_RESEND_MS)
        self._due[edge_id] = None

    def due(self, mono_ms: int, *, most: int = 16) -> list[Parcel]:
        """Documents to send now. An edge gets the same document again only after its next heartbeat."""
        parcels: list[Parcel] = []
        for edge_id in list(self._due):
            edge = self._edges[edge_id]
            if edge.due_ms > mono_ms:
                continue
            del self._due[edge_id]
            edge.due_ms = mono_ms + RESEND_MS
            frames = [one for one in self._documents.documents_for(edge_id) if _mark(one) not in edge.sent]
            edge.sent.update(_mark(one) for one in frames)
            if frames:
                parcels.append(Parcel(edge_id, frames))
            if len(parcels) == most:
                break
        return parcels

    def behind(self, mono_ms: int) -> Iterable[bytes]:
        """Edges that send heartbeats and have not accepted their documents for `OVERDUE_MS`."""
        return [
            edge_id
            for edge_id, edge in self._edges.items()
            if edge.behind_since_ms is not None and mono_ms - edge.behind_since_ms >= OVERDUE_MS
        ]


def _mark(frame: bytes) -> bytes:
    """Identifies a document by the end of its signature."""
    return frame[-16:]
