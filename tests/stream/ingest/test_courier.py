"""The courier: what an edge is to know is brought until the edge says that it has it."""

import contextlib
import random
from pathlib import Path

import pytest

from stream.ingest.courier import FIRST_RESEND_MS, OVERDUE_MS, RESEND_MS, Courier, Parcel
from tests.stream.site.registries import HOUR, SECOND, Desk
from wire.enrol.wallet import Wallet

ANN, BEN = b"a" * 16, b"b" * 16


class Shelf:
    """Documents of edges, as a table; a digest is what they spell."""

    def __init__(self, **of: list[str]) -> None:
        self._of = {name.encode()[:1] * 16: of[name] for name in of}

    def put(self, edge_id: bytes, *names: str) -> None:
        self._of[edge_id] = list(names)

    def drop(self, edge_id: bytes) -> None:
        del self._of[edge_id]

    def edges(self) -> list[bytes]:
        return list(self._of)

    def documents_for(self, device_id: bytes) -> list[bytes]:
        return [frame(name) for name in self._of[device_id]]

    def digest_for(self, device_id: bytes) -> bytes:
        return digest(*self._of[device_id])


def frame(name: str) -> bytes:
    return name.encode().rjust(64, b".")


def digest(*names: str) -> bytes:
    return "/".join(names).encode()


def names(parcels: list[Parcel]) -> dict[bytes, list[str]]:
    return {one.edge_id: [frame.decode().strip(".") for frame in one.frames] for one in parcels}


def test_what_changes_is_sent_at_once() -> None:
    courier = Courier(Shelf(ann=["keys", "device"], ben=["keys"]))

    courier.changed(0)

    assert names(courier.due(0)) == {ANN: ["keys", "device"], BEN: ["keys"]}
    assert courier.due(0) == []


def test_nothing_that_does_not_change_is_sent() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.due(0)
    courier.heard(ANN, digest("keys"), 100)

    sent = []
    for mono_ms in range(1_000, 600_000, 1_000):
        courier.changed(mono_ms)
        if mono_ms % 10_000 == 0:
            courier.heard(ANN, digest("keys"), mono_ms)
        sent += courier.due(mono_ms)

    assert sent == []


def test_only_what_is_new_is_sent() -> None:
    shelf = Shelf(ann=["keys", "device"])
    courier = Courier(shelf)
    courier.changed(0)
    courier.due(0)
    courier.heard(ANN, digest("keys", "device"), 1_000)

    shelf.put(ANN, "keys", "device", "binding")
    courier.changed(20_000)

    assert names(courier.due(20_000)) == {ANN: ["binding"]}


def test_who_does_not_answer_is_not_sent_the_same_again() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)

    sent = [courier.due(mono_ms) for mono_ms in range(0, 600_000, 1_000)]

    assert [names(one) for one in sent if one] == [{ANN: ["keys"]}]


def test_documents_are_sent_until_the_digest_fits() -> None:
    #  sent     heard: no, news   heard: no   sent again   heard: yes
    #  |--------|--sent-----------|-----------|------------|---------
    #  0        10 11             25          26           40 s
    courier = Courier(Shelf(ann=["keys", "device"]))
    courier.changed(0)
    sent = {}
    for mono_ms in range(0, 120_000, 1_000):
        if mono_ms in (10_000, 25_000):
            courier.heard(ANN, digest(), mono_ms)
        if mono_ms >= 40_000 and mono_ms % 10_000 == 0:
            courier.heard(ANN, digest("keys", "device"), mono_ms)
        if parcels := courier.due(mono_ms):
            sent[mono_ms] = names(parcels)[ANN]

    # The first word of an edge is news, and answered soon; the same word again when its turn comes.
    assert sent == {at_ms: ["keys", "device"] for at_ms in (0, 11_000, 26_000)}


@pytest.mark.parametrize(("after_ms", "is_sent"), [(RESEND_MS - 1, False), (RESEND_MS, True)])
def test_the_same_answer_again_is_no_reason_to_hurry(after_ms: int, is_sent: bool) -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.heard(ANN, digest(), 0)
    assert names(courier.due(FIRST_RESEND_MS)) == {ANN: ["keys"]}

    courier.heard(ANN, digest(), 1_000)

    assert names(courier.due(FIRST_RESEND_MS + after_ms)) == ({ANN: ["keys"]} if is_sent else {})


def test_a_turn_sends_to_some_and_the_next_to_others() -> None:
    shelf = Shelf()
    for n in range(40):
        shelf.put(n.to_bytes(16, "big"), "keys")
    courier = Courier(shelf)
    courier.changed(0)

    turns = [[one.edge_id for one in courier.due(0, most=16)] for _ in range(4)]

    assert [len(one) for one in turns] == [16, 16, 8, 0]
    assert len({edge_id for turn in turns for edge_id in turn}) == 40


def test_an_edge_that_is_gone_is_sent_nothing() -> None:
    shelf = Shelf(ann=["keys"], ben=["keys"])
    courier = Courier(shelf)
    courier.changed(0)
    shelf.drop(ANN)

    courier.changed(1)
    courier.heard(ANN, digest(), 2)

    assert names(courier.due(10_000)) == {BEN: ["keys"]}


def test_a_stranger_is_sent_nothing() -> None:
    courier = Courier(Shelf(ann=[]))
    courier.changed(0)

    courier.heard(b"x" * 16, digest(), 0)

    assert courier.due(1_000) == []
    assert list(courier.behind(10**9)) == []


def test_an_edge_that_comes_later_is_sent_everything() -> None:
    shelf = Shelf(ann=["keys"])
    courier = Courier(shelf)
    courier.changed(0)
    courier.due(0)

    shelf.put(BEN, "keys", "device")
    courier.changed(5_000)

    assert names(courier.due(5_000)) == {BEN: ["keys", "device"]}


@pytest.mark.parametrize(("after_ms", "said"), [(OVERDUE_MS - 1, []), (OVERDUE_MS, [ANN])])
def test_an_edge_that_is_heard_and_takes_nothing_is_behind(after_ms: int, said: list[bytes]) -> None:
    courier = Courier(Shelf(ann=["keys"], ben=["keys"]))
    courier.changed(0)
    for mono_ms in range(1_000, 1_000 + after_ms, 10_000):
        courier.due(mono_ms)
        courier.heard(ANN, digest(), mono_ms)
        courier.heard(BEN, digest("keys"), mono_ms)

    assert list(courier.behind(1_000 + after_ms)) == said


def test_an_edge_that_is_not_heard_is_not_behind() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.due(0)

    assert list(courier.behind(10**9)) == []


def test_who_has_caught_up_is_behind_no_longer() -> None:
    courier = Courier(Shelf(ann=["keys"]))
    courier.changed(0)
    courier.heard(ANN, digest(), 0)

    courier.heard(ANN, digest("keys"), OVERDUE_MS)

    assert list(courier.behind(10 * OVERDUE_MS)) == []


def test_a_real_edge_catches_up_over_a_line_that_loses_half(tmp_path: Path) -> None:
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
                        edge.take(one)
            if second % 10 == 0:
                courier.heard(edge.me.device_id, edge.digest, desk.clock.mono_ms())
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


def test_after_two_quiet_weeks_a_settled_edge_is_left_alone(tmp_path: Path) -> None:
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
        courier.heard(edge.me.device_id, edge.digest, desk.clock.mono_ms())
        sent += len(courier.due(desk.clock.mono_ms() + RESEND_MS))

    assert sent == 0
    with contextlib.closing(desk.site):
        assert Wallet.load(edge.folder).digest == edge.digest
