"""An edge judges by the orders that the data centre signed: the same as there, and never by older ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.patients import can_read_orders
from stream.site.orders import OrderScope
from tests.edge.benches import HOUR
from tests.edge.test_agent_documents import Bed
from tests.stream.ordered import signed
from tests.stream.site.registries import DAY, NOW
from vitals.orders import decode_orders
from wire.enrol.documents import Document, DocumentType, OrdersV1, build_document
from wire.enrol.wallet import Wallet
from wire.errors import Reason
from wire.identity import StayOrders

FAST = '[order]\nlevel = "{level}"\n[[condition]]\nname = "fast"\nall = ["heart_rate >= 60"]\n'


class OrderedBed(Bed):
    """A bed with one patient, Ann."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.binding = self.desk.bind(self.ann, self.edge)
        self.place = OrderScope("patient", self.binding.hex())
        self.hear(*self.documents())

    def order(self, *, place: OrderScope | None = None, until_ms: int | None = None) -> None:
        level = place or self.place
        self.desk.registry.orders.set(
            level, FAST.format(level=level.level), who="dr lee", why="as agreed", until_ms=until_ms
        )
        self.hear(*self.documents())
        self.turn(after_ms=1_000)

    @property
    def version(self) -> int:
        """What the edge says that it judges by."""
        return self.agent._patients.orders_version(self.binding.hex())

    @property
    def rules(self) -> list[str]:
        """The rules of the alarms that stand at the edge."""
        return [one.rule_id for one in self.agent._patients.open_alarms()]

    def signed_version(self) -> int:
        found = self.desk.registry.orders.of_stay(self.binding)
        assert found is not None
        return found.version


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[OrderedBed]:
    made = OrderedBed(tmp_path)
    yield made
    made.agent.close()
    made.desk.site.close()


def test_without_orders_an_edge_judges_by_the_defaults_and_says_so(bed: OrderedBed) -> None:
    bed.reading(bed.ann)

    assert bed.version == 0
    assert bed.rules == []


def test_an_edge_judges_by_the_same_orders_as_the_data_centre(bed: OrderedBed) -> None:
    bed.order()
    bed.reading(bed.ann)

    assert bed.version == bed.signed_version() > 0
    assert bed.rules == ["ordered_fast"]
    (alarm,) = bed.agent._patients.open_alarms()
    assert alarm.orders_version == bed.version


def test_an_order_that_ends_ends_at_the_edge_though_nothing_is_heard_any_more(bed: OrderedBed) -> None:
    bed.order(until_ms=NOW + HOUR)
    bed.reading(bed.ann)
    (during,) = bed.agent._patients.open_alarms()
    bed.desk.clock.advance(HOUR)
    bed.turn()
    (after,) = [one for one in bed.agent._patients.open_alarms() if one.rule_id == "ordered_fast"]

    assert "no longer watched" not in during.text
    assert "this is no longer watched" in after.text  # what stands is not taken away in silence


def test_orders_survive_a_restart_of_the_edge(bed: OrderedBed) -> None:
    bed.order()
    bed.reading(bed.ann)
    bed.turn(after_ms=1_000)
    bed.agent.close()
    bed.start()
    bed.turn(after_ms=1_000)
    bed.reading(bed.ann)

    assert bed.version == bed.signed_version()
    assert bed.rules == ["ordered_fast"]


def test_what_a_stranger_signs_is_refused_and_counted(bed: OrderedBed, tmp_path: Path) -> None:
    bed.order()
    before = bed.version
    stranger = Bed(tmp_path / "elsewhere")
    assert stranger.desk.site.signers is not None
    content = OrdersV1(version=2**50, orders=signed(2**50))
    to = bed.edge.me.recipient()
    document = Document(DocumentType.ORDERS, bed.binding, 2**50, NOW, to.device_id, content)

    bed.hear(build_document(stranger.desk.site.signers.control[0], document, seal_to=to))
    bed.turn(after_ms=1_000)

    assert bed.version == before
    assert bed.agent.counts.rejected[Reason.UNKNOWN_SENDER] == 1
    stranger.agent.close()
    stranger.desk.site.close()


def test_orders_that_this_version_cannot_read_leave_those_before_in_force(bed: OrderedBed) -> None:
    bed.order()
    before, digest = bed.version, bed.edge.digest
    assert bed.desk.site.signers is not None
    to = bed.edge.me.recipient()
    content = OrdersV1(version=2**50, orders=b"\xc1 of a later version")
    document = Document(DocumentType.ORDERS, bed.binding, 2**50, NOW, to.device_id, content)

    bed.hear(build_document(bed.desk.site.signers.control[0], document, seal_to=to))
    bed.turn(after_ms=1_000)
    bed.agent.close()
    bed.start()
    bed.turn(after_ms=1_000)
    bed.reading(bed.ann)

    # It is not accepted, so the data centre sees by the digest that the edge does not have it.
    assert bed.edge.digest == digest
    assert bed.version == before
    assert bed.rules == ["ordered_fast"]


def test_a_lost_document_is_noticed_by_the_digest(bed: OrderedBed) -> None:
    bed.order()
    (bed.edge.folder / "documents" / f"{int(DocumentType.ORDERS)}-{bed.binding.hex()}.doc").unlink()
    wanted = bed.desk.registry.documents.digest_for(bed.edge.me.device_id)
    assert bed.edge.digest == wanted

    assert Wallet.load(bed.edge.folder).digest != wanted


def test_two_weeks_after_the_end_an_edge_has_no_orders_of_the_patient(bed: OrderedBed) -> None:
    bed.order()
    bed.desk.registry.unbind(bed.binding, who="tester")
    bed.hear(*bed.documents())
    bed.desk.clock.advance(15 * DAY)
    bed.edge.forget_old(bed.desk.clock.now_ms())
    bed.turn(after_ms=1_000)

    assert bed.edge.provision.directory.orders_of(bed.binding) is None
    assert bed.version == 0


@pytest.mark.parametrize("wrong", [b"", b"\xc1", signed(6)])
def test_orders_and_their_version_belong_together(wrong: bytes) -> None:
    assert can_read_orders(StayOrders(7, signed(7)))
    assert not can_read_orders(StayOrders(7, wrong))
    assert decode_orders(signed(7)).version == 7
