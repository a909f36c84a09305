"""The courier: documents are sent to an edge until it confirms that it has accepted them."""

import contextlib
import random
from collections.abc import Collection
from pathlib import Path

import pytest

from stream.ingest.courier import (
    FIRST_RESEND_MS,
    MOST_REFUSED,
    OVERDUE_MS,
    REFUSED_AGAIN_MS,
    RESEND_MS,
    Courier,
    Parcel,
)
from stream.site.edges_without_orders import EdgeWithoutOrders
from tests.stream.site.registries import HOUR, SECOND, Desk
from wire.enrol.wallet import Wallet

ANN, BEN = b"a" * 16, b"b" * 16


class Shelf:
    """Documents of edges as a table; the digest is made of their names."""

    def __init__(self, **of: list[str]) -> None:
        self._of = {name.encode()[:1] * 16: of[name] for name in of}
        self.handed: dict[bytes, dict[bytes, set[bytes]]] = {}

    def put(self, edge_id: bytes, *names: str) -> None:
        self._of[edge_id] = list(names)

    def drop(self, edge_id: bytes) -> None:
        del self._of[edge_id]

    def edges(self) -> list[bytes]:
        return list(self._of)

    def documents_for(self, device_id: bytes, *, without: Collection[bytes] = ()) -> list[bytes]:
        return [frame(name) for name in self._of[device_id] if name.encode() not in without]

    def handed_over(self, edge_id: bytes) -> dict[bytes, set[bytes]]:
        return self.handed.get(edge_id, {})

    def digest_for(self, device_id: bytes, *, with_orders: bool = True) -> bytes:
        return digest(*(name for name in self._of[device_id] if with_orders or not name.startswith("orders")))

    def stays_with_orders(self, edge_id: bytes) -> int:
        return sum(name.startswith("orders") for name in self._of[edge_id])


def frame(name: str) -> bytes:
    return name.encode().rjust(64, b".")


def digest(*names: str) -> bytes:
    return "/".join(names).encode()


def names(parcels: list[Parcel]) -> dict[bytes, list[str]]:
    return {one.edge_id: [frame.decode().strip(".") for frame in one.frames] for one in parcels}


def test_a_changed_document_is_sent_at_once() -> None:
    courier = Courier(Shelf(ann=["keys", "device"], ben=["keys"]))

    courier.changed(0)

    assert names(courier.due(0)) == {ANN: ["keys", "device"], BEN: ["keys"]}
    assert courier.due(0) == []


def test_an_unchanged_document_is_not_sent() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.due(0)
    courier.on_heartbeat(ANN, digest("keys"), 100)

    sent = []
    for mono_ms in range(1_000, 600_000, 1_000):
        courier.changed(mono_ms)
        if mono_ms % 10_000 == 0:
            courier.on_heartbeat(ANN, digest("keys"), mono_ms)
        sent += courier.due(mono_ms)

    assert sent == []


def test_only_new_documents_are_sent() -> None:
    shelf = Shelf(ann=["keys", "device"])
    courier = Courier(shelf)
    courier.changed(0)
    courier.due(0)
    courier.on_heartbeat(ANN, digest("keys", "device"), 1_000)

    shelf.put(ANN, "keys", "device", "binding")
    courier.changed(20_000)

    assert names(courier.due(20_000)) == {ANN: ["binding"]}


def test_an_edge_that_does_not_answer_is_not_sent_the_same_document_again() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)

    sent = [courier.due(mono_ms) for mono_ms in range(0, 600_000, 1_000)]

    assert [names(one) for one in sent if one] == [{ANN: ["keys"]}]


def test_documents_are_sent_until_the_digest_matches() -> None:
    #  sent     heard: no, news   heard: no   sent again   heard: yes
    #  |--------|--sent-----------|-----------|------------|---------
    #  0        10 11             25          26           40 s
    courier = Courier(Shelf(ann=["keys", "device"]))
    courier.changed(0)
    sent = {}
    for mono_ms in range(0, 120_000, 1_000):
        if mono_ms in (10_000, 25_000):
            courier.on_heartbeat(ANN, digest(), mono_ms)
        if mono_ms >= 40_000 and mono_ms % 10_000 == 0:
            courier.on_heartbeat(ANN, digest("keys", "device"), mono_ms)
        if parcels := courier.due(mono_ms):
            sent[mono_ms] = names(parcels)[ANN]

    # The first word of an edge is news, and answered soon; the same word again when its turn comes.
    assert sent == {at_ms: ["keys", "device"] for at_ms in (0, 11_000, 26_000)}


@pytest.mark.parametrize(("after_ms", "is_sent"), [(RESEND_MS - 1, False), (RESEND_MS, True)])
def test_a_repeated_digest_does_not_speed_up_resending(after_ms: int, is_sent: bool) -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.on_heartbeat(ANN, digest(), 0)
    assert names(courier.due(FIRST_RESEND_MS)) == {ANN: ["keys"]}

    courier.on_heartbeat(ANN, digest(), 1_000)

    assert names(courier.due(FIRST_RESEND_MS + after_ms)) == ({ANN: ["keys"]} if is_sent else {})


def test_an_edge_of_an_earlier_version_is_named_and_is_not_sent_the_orders_all_the_time() -> None:
    courier = Courier(Shelf(ann=["keys", "orders 1", "orders 2"], ben=["keys", "orders 3"]))
    courier.changed(0)
    sent, named = [], {}
    for mono_ms in range(0, HOUR, 1_000):
        if mono_ms % 30_000 == 0:
            courier.on_heartbeat(ANN, digest("keys"), mono_ms, program="0.9")  # it does not know what orders are
            courier.on_heartbeat(BEN, digest("keys", "orders 3"), mono_ms, program="1.0")
        sent += [mono_ms for one in courier.due(mono_ms) if one.edge_id == ANN]
        if found := courier.without_orders():
            named.setdefault(found[0], mono_ms)

    assert list(named) == [EdgeWithoutOrders(edge=ANN.hex(), program="0.9", stays=2)]
    assert max(named.values()) <= 5 * 60_000
    assert len(sent) <= MOST_REFUSED + HOUR // REFUSED_AGAIN_MS + 1
    assert len(sent) > MOST_REFUSED
    assert list(courier.behind(HOUR)) == []  # it is named for what it lacks, and has everything else


def test_an_edge_that_was_updated_is_sent_its_orders_at_once() -> None:
    courier = Courier(Shelf(ann=["keys", "orders 1"]))
    courier.changed(0)
    for mono_ms in range(0, 600_000, 1_000):
        if mono_ms % 30_000 == 0:
            courier.on_heartbeat(ANN, digest("keys"), mono_ms, program="0.9")
        courier.due(mono_ms)
    before = courier.without_orders()

    courier.on_heartbeat(ANN, digest("keys"), 600_000, program="1.0")
    sent = names(courier.due(600_000 + FIRST_RESEND_MS))
    courier.on_heartbeat(ANN, digest("keys", "orders 1"), 601_000, program="1.0")

    assert [one.edge for one in before] == [ANN.hex()]
    assert sent == {ANN: ["keys", "orders 1"]}
    assert courier.without_orders() == []


def test_due_edges_are_served_in_turns() -> None:
    shelf = Shelf()
    for n in range(40):
        shelf.put(n.to_bytes(16, "big"), "keys")
    courier = Courier(shelf)
    courier.changed(0)

    turns = [[one.edge_id for one in courier.due(0, most=16)] for _ in range(4)]

    assert [len(one) for one in turns] == [16, 16, 8, 0]
    assert len({edge_id for turn in turns for edge_id in turn}) == 40


def test_a_removed_edge_is_sent_nothing() -> None:
    shelf = Shelf(ann=["keys"], ben=["keys"])
    courier = Courier(shelf)
    courier.changed(0)
    shelf.drop(ANN)

    courier.changed(1)
    courier.on_heartbeat(ANN, digest(), 2)

    assert names(courier.due(10_000)) == {BEN: ["keys"]}


def test_an_unknown_edge_is_sent_nothing() -> None:
    courier = Courier(Shelf(ann=[]))
    courier.changed(0)

    courier.on_heartbeat(b"x" * 16, digest(), 0)

    assert courier.due(1_000) == []
    assert list(courier.behind(10**9)) == []


def test_a_new_edge_is_sent_all_its_documents() -> None:
    shelf = Shelf(ann=["keys"])
    courier = Courier(shelf)
    courier.changed(0)
    courier.due(0)

    shelf.put(BEN, "keys", "device")
    courier.changed(5_000)

    assert names(courier.due(5_000)) == {BEN: ["keys", "device"]}


@pytest.mark.parametrize(("after_ms", "said"), [(OVERDUE_MS - 1, []), (OVERDUE_MS, [ANN])])
def test_an_edge_that_sends_heartbeats_and_accepts_nothing_is_behind(after_ms: int, said: list[bytes]) -> None:
    courier = Courier(Shelf(ann=["keys"], ben=["keys"]))
    courier.changed(0)
    for mono_ms in range(1_000, 1_000 + after_ms, 10_000):
        courier.due(mono_ms)
        courier.on_heartbeat(ANN, digest(), mono_ms)
        courier.on_heartbeat(BEN, digest("keys"), mono_ms)

    assert list(courier.behind(1_000 + after_ms)) == said


def test_an_edge_that_sends_no_heartbeats_is_not_behind() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.due(0)

    assert list(courier.behind(10**9)) == []


def test_an_edge_that_has_caught_up_is_no_longer_behind() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.on_heartbeat(ANN, digest(), 0)

    courier.on_heartbeat(ANN, digest("keys"), OVERDUE_MS)

    assert list(courier.behind(10 * OVERDUE_MS)) == []


def test_a_real_edge_catches_up_over_a_connection_that_loses_half_of_the_messages(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    edge, wearable = desk.enrol("edge"), desk.enrol()
    courier = Courier(desk.registry.documents)
    bindings = []
    luck = random.Random(7)

    def settle() -> None:
        """Turns of a second until the digest fits; of what is sent half is lost."""
        courier.changed(desk.clock.mono_ms())
        for second in range(300):
            desk.clock.advance(SECOND)
            for parcel in courier.due(desk.clock.mono_ms()):
                for one in parcel.frames:
                    if luck.random() < 0.5:
                        edge.accept(one)
            if second % 10 == 0:
                courier.on_heartbeat(edge.me.device_id, edge.digest, desk.clock.mono_ms())
            if edge.digest == desk.registry.documents.digest_for(edge.me.device_id):
                return
        raise AssertionError("the edge never caught up")

    for _ in range(3):
        bindings.append(desk.bind(wearable, edge))
        settle()
        desk.clock.advance(HOUR)
        desk.registry.unbind(bindings[-1], who="tester")
        settle()

    assert {one.binding_id for one in edge.provision.directory.bindings()} == set(bindings)
    assert all(one.valid_to_ms for one in edge.provision.directory.bindings())
    desk.site.close()


def test_an_edge_with_all_documents_is_sent_nothing_for_two_weeks(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    edge, wearable = desk.enrol("edge"), desk.enrol()
    desk.registry.unbind(desk.bind(wearable, edge), who="tester")
    desk.deliver(edge)
    courier = Courier(desk.registry.documents)

    sent = 0
    for day in range(40):
        desk.clock.advance(24 * HOUR)
        edge.forget_old(desk.clock.now_ms())
        if day in (10, 19, 30):
            desk.renew(edge)
            desk.deliver(edge)
        courier.changed(desk.clock.mono_ms())
        courier.on_heartbeat(edge.me.device_id, edge.digest, desk.clock.mono_ms())
        sent += len(courier.due(desk.clock.mono_ms() + RESEND_MS))

    assert sent == 0
    with contextlib.closing(desk.site):
        assert Wallet.load(edge.folder).digest == edge.digest


# A patient whose devices have gone to another edge


def test_the_old_edge_is_told_after_the_new_one_has_confirmed() -> None:
    shelf = Shelf(ann=["keys", "over"], ben=["keys", "begins"])
    shelf.handed[ANN] = {b"over": {BEN}}
    courier = Courier(shelf)

    courier.changed(0)
    assert names(courier.due(0)) == {ANN: ["keys"], BEN: ["keys", "begins"]}
    courier.on_heartbeat(ANN, digest("keys"), RESEND_MS)
    assert names(courier.due(RESEND_MS + FIRST_RESEND_MS)) == {ANN: ["keys"]}
    courier.on_heartbeat(BEN, digest("keys", "begins"), RESEND_MS)
    courier.on_heartbeat(ANN, digest("keys"), 2 * RESEND_MS)

    assert names(courier.due(2 * RESEND_MS + FIRST_RESEND_MS)) == {ANN: ["keys", "over"]}


def test_an_edge_that_waits_for_another_one_is_not_called_behind() -> None:
    shelf = Shelf(ann=["keys", "over"], ben=["begins"])
    shelf.handed[ANN] = {b"over": {BEN}}
    courier = Courier(shelf)
    courier.changed(0)

    for mono_ms in range(0, 2 * OVERDUE_MS, RESEND_MS):
        courier.on_heartbeat(ANN, digest("keys"), mono_ms)
        courier.due(mono_ms)

    assert list(courier.behind(2 * OVERDUE_MS)) == []
    courier.on_heartbeat(BEN, digest("begins"), 2 * OVERDUE_MS)
    courier.on_heartbeat(ANN, digest("keys"), 2 * OVERDUE_MS)
    courier.due(3 * OVERDUE_MS)
    assert list(courier.behind(3 * OVERDUE_MS)) == [ANN]


def test_the_registry_says_what_waits_for_whom(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    edge, other = desk.enrol("edge"), desk.enrol("edge")
    worn, more = desk.enrol(), desk.enrol()
    documents, binding = desk.registry.documents, desk.bind(worn, edge)
    assert documents.handed_over(edge.me.device_id) == {}

    desk.bind(more, other)
    assert documents.handed_over(edge.me.device_id) == {}
    desk.registry.unbind(binding, who="tester")

    assert documents.handed_over(edge.me.device_id) == {binding: {other.me.device_id}}
    assert documents.handed_over(other.me.device_id) == {}
    everything = documents.documents_for(edge.me.device_id)
    assert len(documents.documents_for(edge.me.device_id, without=[binding])) == len(everything) - 1
    desk.registry.discharge(binding, who="tester")
    assert documents.handed_over(edge.me.device_id) == {}
