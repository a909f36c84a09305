"""The orders that one place judges by, of all its patients: the newest that it could read.

A version only rises: orders that come late, or after a newer one, change nothing. Orders that cannot be read change
nothing either, and are counted: those before stay in force, as nobody has taken them back.
"""

from vitals.errors import BadOrders
from vitals.orders import Orders, decode_orders


class OrdersInForce:
    """Orders by stay, as they were signed and as the kernel reads them."""

    def __init__(self) -> None:
        self.unreadable = 0  # orders that could not be read, each counted once
        self._signed: dict[str, bytes] = {}
        self._orders: dict[str, Orders] = {}
        self._refused: dict[str, bytes] = {}  # the newest that could not be read
        self._to_report: list[str] = []

    def accept(self, stay_id: str, signed: bytes) -> bool:
        """Whether these orders of a stay are in force from now on, and were not before. Empty: there are none."""
        if not signed or signed in (self._signed.get(stay_id), self._refused.get(stay_id)):
            return False
        try:
            orders = decode_orders(signed)
        except BadOrders:
            self._refused[stay_id] = signed
            self.unreadable += 1
            self._to_report.append(stay_id)
            return False
        before = self._orders.get(stay_id)
        if before is not None and orders.version <= before.version:
            return False
        self._signed[stay_id], self._orders[stay_id] = signed, orders
        return True

    def drain_unreadable(self) -> list[str]:
        """The stays with orders that could not be read since the last call. Report them."""
        found, self._to_report = self._to_report, []
        return found

    def of(self, stay_id: str) -> Orders | None:
        """What is ordered for a stay; None: nothing, the defaults apply."""
        return self._orders.get(stay_id)

    def signed(self, stay_id: str) -> bytes:
        """The same as it was signed; empty: nothing is ordered."""
        return self._signed.get(stay_id, b"")

    def forget(self, stay_id: str) -> None:
        """The stay is over."""
        for table in (self._signed, self._orders, self._refused):
            table.pop(stay_id, None)
