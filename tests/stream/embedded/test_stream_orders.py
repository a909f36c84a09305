"""The embedded engine judges by the orders of its registry, the same as a worker, through restarts and bad orders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.embedded.process import ordered_plan
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from tests.stream.ordered import signed
from tests.stream.receiving_site import MINUTE, SECOND, UNLIMITED, Site
from vitals.orders_in_force import OrdersInForce
from wire.identity import StayOrders

TIGHT = '[[condition]]\nname = "fast"\nall = ["heart_rate >= 60"]\n'


class OrderedSite(Site):
    """A site whose directory has orders of its first patient."""

    def __init__(self, folder: Path, **wishes: Any) -> None:
        self.at_ms = 0
        super().__init__(folder, **wishes)
        self.stay = self.demo.bindings[0].stay_id

    def start(self) -> None:
        directory, self.orders = self.demo.ingest.directory, OrdersInForce()
        self.store = Store(self.folder / "store.sqlite")
        self.stream = EmbeddedStream(
            self.demo.ingest.me,
            directory,
            self.store,
            ordered_plan(directory, self.orders),
            self.clock,
            limits=UNLIMITED,
            ack_interval_ms=0,
            on_alarm=self.alarms.append,
            orders=self.orders,
        )

    def order(self, version: int, orders: bytes) -> None:
        self.demo.ingest.directory.put_orders(self.stay, StayOrders(version, orders))
        self.clock.advance(2 * SECOND)
        assert self.accept()

    def read(self, **changed: Any) -> None:
        self.at_ms += MINUTE
        assert self.send(self.message(self.at_ms, **changed))

    @property
    def rules(self) -> list[tuple[str, int]]:
        """Rule and version of the orders of the newest revision of each alarm."""
        return [(one.rule_id, one.orders_version) for one in {one.alarm_id: one for one in self.alarms}.values()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OrderedSite]:
    made = OrderedSite(tmp_path)
    made.begin()
    yield made
    made.store.close()


def test_an_order_is_in_force_with_the_next_reading(site: OrderedSite) -> None:
    site.read()
    before = site.rules
    site.order(7, signed(7, TIGHT))
    site.read()

    assert before == []
    assert site.rules == [("ordered_fast", 7)]


def test_older_and_unreadable_orders_leave_those_before_in_force(site: OrderedSite) -> None:
    site.order(7, signed(7, TIGHT))
    site.order(6, signed(6))
    site.order(8, b"\xc1 of another version")
    site.read()

    assert site.rules == [("ordered_fast", 7)]
    assert site.stream.counts.unreadable_orders == 1


def test_after_a_restart_the_states_are_restored_by_the_orders(site: OrderedSite) -> None:
    site.order(7, signed(7, TIGHT))
    site.read()
    site.restart()
    site.read()

    assert site.rules == [("ordered_fast", 7)]
    assert all(one.stay_id == site.stay.hex() for one in site.alarms)


def test_another_patient_is_judged_by_the_defaults(site: OrderedSite) -> None:
    site.order(7, signed(7, TIGHT))
    site.at_ms += MINUTE
    assert site.send(site.message(site.at_ms, patient=1), patient=1)

    assert site.rules == []
