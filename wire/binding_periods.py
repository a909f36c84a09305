"""Which bindings the place that judges has to be told of: new ones, ended ones, those of a stay with other orders.

Now and then those in force are told again.

Pure. A patient is monitored because a stay says so, not because a reading came; so the monitors learn of it. A stay on
which no device is stands in the directory as a binding with the stay's own id, without wearable and edge, and is told
like any other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from vitals.messages import BindingPeriod
from wire.identity import BindingRecord, Directory, StayOrders

LOOK_EVERY_MS: Final = 1_000
TELL_AGAIN_MS: Final = 300_000
"""So often bindings are told again: with whether their edge is heard, and in case the first time was lost."""

FIRST_AGAIN_MS: Final = 60_000

_NOT_HEARD: Final[Callable[[bytes], int | None]] = lambda _edge_id: None  # noqa: E731


class _Told(NamedTuple):
    """What was told of a binding; any difference is told."""

    from_ms: int
    to_ms: int | None
    stay_goes_on: bool
    stay_to_ms: int | None
    device_name: str
    orders: int  # version of the orders of the stay; 0: there are none


class BindingPeriods:
    """Compares the bindings of a directory with what was told.

    Args:
        directory: bindings in force, and those that ended a short time ago.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._told: dict[bytes, _Told] = {}  # by binding
        self._orders: dict[str, StayOrders] = {}  # by stay: as of the last look
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
        bindings = self._directory.bindings()
        self._look_at_orders(bindings)
        if mono_ms >= self._all_again_ms:
            again = {one.binding_id for one in _repeated(bindings)}
            known = {one.binding_id for one in bindings}
            self._told = {name: told for name, told in self._told.items() if name in known and name not in again}
        return [
            BindingPeriod(
                stay_id=one.stay,
                binding_id="" if one.binding_id == one.stay_id else one.binding_id.hex(),
                from_ms=one.valid_from_ms,
                to_ms=one.valid_to_ms,
                heard_ms=now_ms,
                edge_heard_ms=edge_heard_ms(one.edge_id),
                stay_goes_on=one.stay_goes_on,
                stay_to_ms=one.stay_to_ms,
                device_name=one.device_name,
            )
            for one in bindings
            if self._told.get(one.binding_id) != self._as_told(one)
        ]

    def orders_of(self, stay_id: str) -> StayOrders | None:
        """The orders of a stay, as `due` saw them when it looked last; None: there are none."""
        return self._orders.get(stay_id)

    def told(self, periods: Iterable[BindingPeriod], mono_ms: int) -> None:
        """These were applied, durably."""
        if mono_ms >= self._all_again_ms:
            # The first time edges have hardly had the time to be heard.
            self._all_again_ms = mono_ms + (TELL_AGAIN_MS if self._all_again_ms else FIRST_AGAIN_MS)
        for one in periods:
            self._told[bytes.fromhex(one.device)] = _Told(
                one.from_ms, one.to_ms, one.stay_goes_on, one.stay_to_ms, one.device_name, self._version(one.stay_id)
            )

    def look_now(self) -> None:
        """Something has changed: look at the next call of `due`."""
        self._looked_ms = None

    def _as_told(self, one: BindingRecord) -> _Told:
        version = self._version(one.stay)
        return _Told(one.valid_from_ms, one.valid_to_ms, one.stay_goes_on, one.stay_to_ms, one.device_name, version)

    def _look_at_orders(self, bindings: Iterable[BindingRecord]) -> None:
        found = {one.stay: self._directory.orders_of(one.stay_id) for one in bindings}
        self._orders = {stay: orders for stay, orders in found.items() if orders is not None}

    def _version(self, stay_id: str) -> int:
        found = self._orders.get(stay_id)
        return 0 if found is None else found.version


def known_orders(directory: Directory) -> Iterator[tuple[str, StayOrders]]:
    """The orders of every stay that has some, for a place that has just started."""
    for stay_id in dict.fromkeys(one.stay_id for one in directory.bindings()):
        found = directory.orders_of(stay_id)
        if found is not None:
            yield stay_id.hex(), found


def _repeated(bindings: Sequence[BindingRecord]) -> list[BindingRecord]:
    """What is told again: the open bindings, and of a stay without one its newest.

    A thermometer makes a binding of minutes every few hours: repeating them all would be most of what is told.
    """
    is_open = {one.stay_id for one in bindings if one.valid_to_ms is None}
    newest: dict[bytes, BindingRecord] = {}
    for one in bindings:
        known = newest.get(one.stay_id)
        if known is None or one.valid_from_ms >= known.valid_from_ms:
            newest[one.stay_id] = one
    return [
        one
        for one in bindings
        if one.valid_to_ms is None or (one.stay_id not in is_open and newest[one.stay_id] is one)
    ]
