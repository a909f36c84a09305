"""Edges that do not accept the orders of their patients: noted in the site's folder by whoever sends them, for others.

An edge of an earlier version does not know what orders are. It goes on judging by the defaults.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from runtime.hardening import write_private

_FILE: Final = "edges-without-orders.json"


class EdgeWithoutOrders(msgspec.Struct, frozen=True, kw_only=True):
    """One edge that judges by the defaults although orders were sent to it."""

    edge: str  # hex
    program: str  # version of its program; empty: not known
    stays: int  # how many of its stays have orders


def write_edges_without_orders(ingest_folder: Path, edges: Sequence[EdgeWithoutOrders]) -> None:
    """Replace the list. Raises OSError, NotPrivate."""
    path = ingest_folder / _FILE
    if edges or path.exists():
        write_private(path, msgspec.json.encode(edges))


def read_edges_without_orders(ingest_folder: Path) -> list[EdgeWithoutOrders]:
    """The list as it was written last; empty: there are none, or it cannot be read."""
    try:
        return msgspec.json.decode((ingest_folder / _FILE).read_bytes(), type=list[EdgeWithoutOrders])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
