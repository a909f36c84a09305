"""Sends signed documents to edges: when they change, and again until the edge confirms that it has accepted them.

An edge confirms with a digest of eight bytes in its heartbeats. Where the devices of a patient have gone to another
edge, the old one is told when the new one has confirmed: until then it watches the patient. Pure, except that it reads
the registry.

An edge of an earlier version accepts everything but the orders of stays. After `MOST_REFUSED` attempts the courier
reports that edge and tries every five minutes, or at once when the edge reports another version.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from stream.site.edges_without_orders import EdgeWithoutOrders

RESEND_MS: Final = 15_000
FIRST_RESEND_MS: Final = 100
OVERDUE_MS: Final = 120_000
"""An edge that sends heartbeats and has not accepted its documents for this time is logged."""
MOST_REFUSED: Final = 8
REFUSED_AGAIN_MS: Final = 300_000


class Documents(Protocol):
    """The part of the registry that the courier reads."""

    def edges(self) -> list[bytes]: ...
    def documents_for(self, device_id: bytes, *, without: Collection[bytes] = ()) -> list[bytes]: ...
    def handed_over(self, edge_id: bytes) -> Mapping[bytes, Collection[bytes]]: ...
    def digest_for(self, device_id: bytes, *, with_orders: bool = True) -> bytes: ...
    def stays_with_orders(self, edge_id: bytes) -> int: ...


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
        self.is_held = False  # a document is held back until another edge has confirmed its own
        self.without_orders = b""  # digest of the documents it should have, without the orders of stays
        self.refused = 0  # times that it had everything but the orders after they were sent
        self.program = ""

    @property
    def refuses_orders(self) -> bool:
        return self.refused >= MOST_REFUSED


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
                edge.without_orders = self._documents.digest_for(edge_id, with_orders=False)
                self._due[edge_id] = None

    def on_heartbeat(self, edge_id: bytes, digest: bytes, mono_ms: int, *, program: str = "") -> None:
        """A heartbeat has named the digest of the documents that the edge has accepted.

        Args:
            program: version of its program.
        """
        edge = self._edges.get(edge_id)
        if edge is None:
            return
        is_news, edge.has = (digest, program) != (edge.has, edge.program), digest
        if program != edge.program:
            edge.program, edge.refused = program, 0
        if digest == edge.wanted:
            edge.behind_since_ms, edge.refused = None, 0
            self._due.pop(edge_id, None)
            return
        if edge.behind_since_ms is None:
            edge.behind_since_ms = mono_ms
        if digest == edge.without_orders and self._was_refused(edge, mono_ms):
            edge.behind_since_ms = None
            self._due[edge_id] = None
            return
        edge.sent.clear()  # the documents did not arrive: all of them are sent again when due
        if is_news:  # the edge has just started, or has accepted some of the documents
            edge.due_ms = min(edge.due_ms, mono_ms + FIRST_RESEND_MS)
        self._due[edge_id] = None

    def _was_refused(self, edge: _Edge, mono_ms: int) -> bool:
        """Whether an edge that lacks only the orders has been sent them often enough."""
        if edge.sent:
            edge.sent.clear()
            edge.refused += 1
            if edge.refuses_orders:
                edge.due_ms = mono_ms + REFUSED_AGAIN_MS
        return edge.refuses_orders

    def without_orders(self) -> list[EdgeWithoutOrders]:
        """Edges that have repeatedly not accepted the orders of stays: they judge these by the defaults."""
        return [
            EdgeWithoutOrders(
                edge=edge_id.hex(), program=edge.program, stays=self._documents.stays_with_orders(edge_id)
            )
            for edge_id, edge in self._edges.items()
            if edge.refuses_orders
        ]

    def due(self, mono_ms: int, *, most: int = 16) -> list[Parcel]:
        """Documents to send now. An edge gets the same document again only after its next heartbeat."""
        parcels: list[Parcel] = []
        for edge_id in list(self._due):
            edge = self._edges[edge_id]
            if edge.due_ms > mono_ms:
                continue
            del self._due[edge_id]
            edge.due_ms = mono_ms + RESEND_MS
            held = self._held(edge_id)
            edge.is_held = bool(held)
            frames = [
                one for one in self._documents.documents_for(edge_id, without=held) if _mark(one) not in edge.sent
            ]
            edge.sent.update(_mark(one) for one in frames)
            if frames:
                parcels.append(Parcel(edge_id, frames))
            if len(parcels) == most:
                break
        return parcels

    def _held(self, edge_id: bytes) -> list[bytes]:
        """Bindings of patients whom none of the edges watches yet that their devices have gone to."""
        over = self._documents.handed_over(edge_id)
        return [binding for binding, edges in over.items() if not any(self._has_confirmed(one) for one in edges)]

    def _has_confirmed(self, edge_id: bytes) -> bool:
        edge = self._edges.get(edge_id)
        if edge is None:
            return False
        # Not `wanted`: the registry may have changed since that was looked up.
        has_all = edge.has == self._documents.digest_for(edge_id)
        # One of an earlier version watches the patient as well, by the defaults.
        return has_all or (edge.refuses_orders and edge.has == self._documents.digest_for(edge_id, with_orders=False))

    def behind(self, mono_ms: int) -> Iterable[bytes]:
        """Edges that send heartbeats and have not accepted their documents for `OVERDUE_MS`."""
        return [
            edge_id
            for edge_id, edge in self._edges.items()
            if edge.behind_since_ms is not None and mono_ms - edge.behind_since_ms >= OVERDUE_MS and not edge.is_held
        ]


def _mark(frame: bytes) -> bytes:
    """Identifies a document by the end of its signature."""
    return frame[-16:]
