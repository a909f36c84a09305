"""Orders at a site: set level by level, kept for ever, signed for every edge that hears the stay."""

import contextlib
import sqlite3

import pytest

from stream.errors import AuditBroken, OrdersRefused, RegistryRefused
from stream.site.audit import verify
from stream.site.orders import SITE, OrderScope, SetOrder, scope_of, ward_of
from tests.stream.site.registries import DAY, HOUR, MINUTE, NOW, Desk
from tests.stream.site.registry_requests import lines, opened
from vitals.orders import Orders, decode_orders
from wire.enrol.documents import Document, DocumentType, OrdersV1, build_document
from wire.enrol.wallet import Wallet
from wire.envelope import HEADER_BYTES
from wire.errors import Reason, Rejected


def toml(level: str, high: float, *, name: str = "") -> str:
    named = f'name = "{name}"\n' if name else ""
    return f'[order]\nlevel = "{level}"\n{named}[rule.shock_index]\nmedium = {high}\n'


def limit(orders: Orders | None) -> float | None:
    """The medium limit of the shock index; it is no red rule."""
    rule = None if orders is None else orders.rule("shock_index")
    return None if rule is None else rule.limits[0].threshold


class Ward:
    """A site with one patient, whom one edge or several hear."""

    def __init__(self, desk: Desk, *, bed: str = "ward 7/4") -> None:
        self.desk = desk
        self.edge, self.wearable = desk.enrol("edge"), desk.enrol()
        self.binding = desk.bind(self.wearable, self.edge, bed=bed)
        self.place = OrderScope("patient", self.binding.hex())

    def order(
        self,
        place: OrderScope,
        high: float,
        *,
        until_ms: int | None = None,
        from_ms: int | None = None,
        who: str = "dr lee",
    ) -> SetOrder:
        self.desk.clock.advance(1_000)
        name = place.key if place.level in ("ward", "profile") else ""
        text = toml(place.level, high, name=name)
        return self.desk.registry.orders.set(place, text, who=who, why="as agreed", from_ms=from_ms, until_ms=until_ms)

    def signed(self) -> Orders | None:
        """The orders of the stay, as the data centre reads them now."""
        found = self.desk.registry.orders.of_stay(self.binding)
        return None if found is None else decode_orders(found.orders).at(self.desk.clock.now_ms())

    def heard(self, wallet: Wallet | None = None) -> Orders | None:
        """The same, as an edge has them."""
        edge = wallet or self.edge
        self.desk.deliver(edge)
        found = edge.provision.directory.orders_of(self.binding)
        return None if found is None else decode_orders(found.orders).at(self.desk.clock.now_ms())


@pytest.fixture
def ward(desk: Desk) -> Ward:
    return Ward(desk)


def test_where_nothing_is_ordered_there_is_no_document(ward: Ward) -> None:
    assert ward.signed() is None
    assert ward.heard() is None


def test_each_level_says_what_differs_and_the_patient_has_the_last_word(ward: Ward) -> None:
    default = limit(Orders(0))
    found = []
    for place, high in ((SITE, 1.1), (scope_of("ward", "Ward  7"), 1.2), (ward.place, 1.3)):
        ward.order(place, high)
        found.append((limit(ward.signed()), limit(ward.heard())))

    assert found == [(1.1, 1.1), (1.2, 1.2), (1.3, 1.3)]
    assert default not in (1.1, 1.2, 1.3)


def test_an_order_of_another_ward_is_none_of_ours_until_the_patient_moves_there(ward: Ward) -> None:
    ward.order(SITE, 1.1)
    ward.order(scope_of("ward", "ward 8"), 1.4)
    before = limit(ward.heard())
    ward.desk.registry.unbind(ward.binding, who="tester")

    moved = ward.desk.bind(ward.wearable, ward.edge, bed="ward 8/1")
    there = ward.desk.registry.orders.of_stay(moved)

    assert before == 1.1
    assert there is not None
    assert limit(decode_orders(there.orders)) == 1.4


def test_the_version_rises_with_every_change_and_stays_where_nothing_changes(ward: Ward) -> None:
    ward.order(ward.place, 1.1)
    first = ward.desk.registry.orders.of_stay(ward.binding)
    ward.order(scope_of("ward", "ward 8"), 1.4)
    same = ward.desk.registry.orders.of_stay(ward.binding)
    ward.desk.clock.set_wall(NOW - DAY)
    ward.order(ward.place, 1.2)
    second = ward.desk.registry.orders.of_stay(ward.binding)

    assert first is not None
    assert second is not None
    assert same == first
    assert second.version > first.version


def test_every_edge_that_hears_the_stay_has_a_document_of_its_own_with_the_same_orders(ward: Ward) -> None:
    registry, other = ward.desk.registry, ward.desk.enrol("edge")
    second = ward.desk.bind(ward.desk.enrol(), other, patient="P0001", bed="ward 7/4")
    assert registry.binding(second).stay_id == ward.binding  # type: ignore[union-attr]

    ward.order(ward.place, 1.2)
    frames = {
        wallet.me.device_id: [
            frame
            for frame in registry.documents.documents_for(wallet.me.device_id)
            if _kind(frame) == DocumentType.ORDERS
        ]
        for wallet in (ward.edge, other)
    }

    assert registry.documents.stays_with_orders(ward.edge.me.device_id) == 1
    assert registry.documents.stays_with_orders(other.me.device_id) == 1
    assert limit(ward.heard()) == 1.2
    for wallet, stranger in ((ward.edge, other), (other, ward.edge)):
        (frame,) = frames[wallet.me.device_id]
        with pytest.raises(Rejected):
            stranger.accept(frame)
    assert other.provision.directory.orders_of(ward.binding) is None
    other.accept(frames[other.me.device_id][0])
    assert other.provision.directory.orders_of(ward.binding) == ward.edge.provision.directory.orders_of(ward.binding)


def test_an_order_with_an_end_lies_on_top_and_what_was_before_holds_again(ward: Ward) -> None:
    #  1.1 -------|        |---------
    #             |--1.3---|
    #             0        6 h
    ward.order(ward.place, 1.1)
    ward.order(ward.place, 1.3, until_ms=NOW + 6 * HOUR)
    ward.heard()  # the edge hears of it once, and then the data centre is silent
    found = []
    for at_ms in (NOW + MINUTE, NOW + 6 * HOUR - 1, NOW + 6 * HOUR, NOW + DAY):
        ward.desk.clock.set_wall(at_ms)
        known = ward.edge.provision.directory.orders_of(ward.binding)
        assert known is not None
        found.append((limit(ward.signed()), limit(decode_orders(known.orders).at(at_ms))))

    # Nothing was signed again meanwhile: the document has its own end.
    assert found == [(1.3, 1.3), (1.3, 1.3), (1.1, 1.1), (1.1, 1.1)]


def test_an_order_without_an_end_replaces_those_with_one(ward: Ward) -> None:
    ward.order(ward.place, 1.3, until_ms=NOW + 6 * HOUR)

    ward.order(ward.place, 1.2)

    assert limit(ward.signed()) == 1.2


def test_an_order_for_tomorrow_begins_tomorrow(ward: Ward) -> None:
    ward.order(ward.place, 1.1)
    ward.order(ward.place, 1.2, from_ms=NOW + DAY)
    today = limit(ward.heard())
    ward.desk.clock.set_wall(NOW + DAY)

    assert (today, limit(ward.signed())) == (1.1, 1.2)


def test_upkeep_signs_again_what_has_ended_and_only_once(ward: Ward) -> None:
    ward.order(ward.place, 1.3, until_ms=NOW + HOUR)
    before = ward.desk.registry.orders.of_stay(ward.binding)
    early = ward.desk.registry.orders.renew()
    ward.desk.clock.set_wall(NOW + HOUR)

    renewed = [ward.desk.registry.orders.renew() for _ in range(3)]
    after = ward.desk.registry.orders.of_stay(ward.binding)

    assert (early, renewed) == (0, [1, 0, 0])
    assert before is not None
    assert after is not None
    assert limit(decode_orders(after.orders)) == limit(Orders(0))
    assert after.version >= before.version


def test_history_is_kept_for_ever_and_nobody_changes_it(ward: Ward) -> None:
    ward.order(ward.place, 1.1, who="dr lee")
    ward.order(ward.place, 1.2, who="dr kim")

    found = ward.desk.registry.orders.history(ward.place)

    assert [(one.version, one.who) for one in found] == [(1, "dr lee"), (2, "dr kim")]
    for statement in ("UPDATE order_level SET said = ''", "DELETE FROM order_level"):
        with pytest.raises(sqlite3.Error, match="what was ordered is kept"):
            ward.desk.registry.file.execute(statement)


def test_every_order_is_in_the_audit_chain_with_what_it_said(ward: Ward) -> None:
    order = ward.order(ward.place, 1.2)

    (line,) = [one for one in lines(ward.desk) if one["what"] == "ordered"]

    assert line["who"] == "dr lee"
    assert line["subject"] == ward.binding.hex()
    assert line["detail"]["sha256"] == order.digest
    assert line["detail"]["why"] == "as agreed"
    verify(ward.desk.registry.file.audit.path)
    assert ward.desk.registry.orders.without_audit() == []


def test_an_order_that_was_put_into_the_file_by_hand_is_found(ward: Ward) -> None:
    ward.order(ward.place, 1.2)
    db = ward.desk.registry.file
    db.execute("DROP TRIGGER order_level_stays_as_set")

    db.execute("UPDATE order_level SET said = ?", (toml("patient", 9.0),))

    assert ward.desk.registry.orders.without_audit() == [f"{ward.place}, version 1"]


def test_an_altered_line_about_an_order_breaks_the_chain(ward: Ward) -> None:
    ward.order(ward.place, 1.2)
    path = ward.desk.registry.file.audit.path
    path.write_bytes(path.read_bytes().replace(b"as agreed", b"as wanted"))

    with pytest.raises(AuditBroken):
        verify(path)


# What is refused

RED = '[order]\nlevel = "{level}"\n[rule.news2]\nhigh = 9\n'


def test_red_limits_are_moved_by_a_prescriber_alone(ward: Ward) -> None:
    orders = ward.desk.registry.orders
    with pytest.raises(OrdersRefused, match="prescriber"):
        orders.set(ward.place, RED.format(level="patient"), who="nurse", why="too loud")
    refused = orders.history(ward.place)

    done = orders.set(ward.place, RED.format(level="patient"), who="dr lee", why="palliative", by_prescriber=True)

    assert refused == []
    assert done.by_prescriber
    (line,) = [one for one in lines(ward.desk) if one["what"] == "ordered"]
    assert (line["who"], line["detail"]["prescriber"], line["detail"]["why"]) == ("dr lee", 1, "palliative")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[order]\nlevel = "patient"\n[rule.shock_index]\nmedium = 1.2\nhigh = 1.1\n', "rule.shock_index"),
        ('[order]\nlevel = "patient"\n[rule.fever]\nmedium = "101 °F"\n', "rule.fever"),
        ('[order]\nlevel = "patient"\nuntil = 2020-01-01T00:00:00Z\n[rule.shock_index]\nmedium = 1.1\n', "order.until"),
        ('[order]\nlevel = "patient"\nprofile = "unheard_of"\n', "order.profile"),
        ('[order]\nlevel = "site"\n[rule.shock_index]\nmedium = 1.1\n', "order.level"),
        ("no toml", "TOML"),
    ],
)
def test_bad_orders_are_refused_with_their_key(ward: Ward, text: str, says: str) -> None:
    before = ward.desk.registry.orders.of_stay(ward.binding)

    with pytest.raises(OrdersRefused, match=says):
        ward.desk.registry.orders.set(ward.place, text, who="dr lee", why="as agreed", by_prescriber=True)

    assert ward.desk.registry.orders.of_stay(ward.binding) == before
    assert ward.desk.registry.orders.history(ward.place) == []


def test_an_order_without_a_reason_or_a_name_is_refused(ward: Ward) -> None:
    for who, why, says in (("", "as agreed", "order.by"), ("dr lee", "", "order.why")):
        with pytest.raises(OrdersRefused, match=says):
            ward.desk.registry.orders.set(ward.place, toml("patient", 1.1), who=who, why=why)


def test_nothing_is_ordered_for_a_patient_who_has_left_or_was_never_here(ward: Ward) -> None:
    ward.desk.registry.unbind(ward.binding, who="tester")

    for place in (ward.place, OrderScope("patient", "77" * 16)):
        with pytest.raises(OrdersRefused, match="has ended, or is not known"):
            ward.order(place, 1.1)


def test_two_people_who_order_at_once_are_told(ward: Ward) -> None:
    seen = ward.desk.registry.orders.newest_version(ward.place)
    ward.order(ward.place, 1.1)

    with pytest.raises(OrdersRefused, match="look again"):
        ward.desk.registry.orders.set(ward.place, toml("patient", 1.3), who="b", why="as agreed", after=seen)

    assert limit(ward.signed()) == 1.1


def test_a_reader_orders_nothing(ward: Ward) -> None:
    with contextlib.closing(opened(ward.desk, to_read=True)) as reader, pytest.raises(RegistryRefused):
        reader.orders.set(ward.place, toml("patient", 1.1), who="dr lee", why="as agreed")


# On the edge


def test_an_older_document_is_refused_and_a_stranger_is_not_believed(
    ward: Ward, tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents = ward.desk.registry.documents
    ward.order(ward.place, 1.1)
    ward.heard()
    (old,) = [one for one in documents.documents_for(ward.edge.me.device_id) if _kind(one) == DocumentType.ORDERS]
    ward.order(ward.place, 1.2)
    now = ward.heard()

    stranger = Desk(tmp_path_factory.mktemp("other"))
    assert stranger.site.signers is not None
    content = OrdersV1(version=2**50, orders=b"anything")
    document = Document(DocumentType.ORDERS, ward.binding, 2**50, NOW, ward.edge.me.device_id, content)
    forged = build_document(stranger.site.signers.control[0], document, seal_to=ward.edge.me.recipient())

    assert ward.edge.accept(old) is None
    with pytest.raises(Rejected) as caught:
        ward.edge.accept(forged)
    assert caught.value.reason is Reason.UNKNOWN_SENDER
    assert limit(ward.heard()) == limit(now) == 1.2
    stranger.site.close()


def test_orders_survive_a_restart_of_the_edge_and_a_new_prekey(ward: Ward) -> None:
    ward.order(ward.place, 1.2)
    ward.heard()
    assert limit(_kept(Wallet.load(ward.edge.folder), ward.binding)) == 1.2

    ward.desk.clock.advance(8 * DAY)
    ward.desk.renew(ward.edge)
    ward.order(ward.place, 1.3)

    assert limit(ward.heard()) == 1.3
    assert limit(_kept(Wallet.load(ward.edge.folder), ward.binding)) == 1.3


def test_registry_and_edge_agree_about_what_the_edge_has(ward: Ward) -> None:
    documents, edge_id = ward.desk.registry.documents, ward.edge.me.device_id
    found = []
    for step in ("bound", "ordered", "changed", "discharged", "two weeks later"):
        if step in ("ordered", "changed"):
            ward.order(ward.place, 1.1 if step == "ordered" else 1.2)
        if step == "discharged":
            ward.desk.registry.unbind(ward.binding, who="tester")
        if step == "two weeks later":
            ward.desk.clock.advance(20 * DAY)
            ward.desk.renew(ward.edge)
        ward.desk.deliver(ward.edge)
        found.append(documents.digest_for(edge_id) == ward.edge.digest == Wallet.load(ward.edge.folder).digest)

    assert found == [True] * 5


def test_an_edge_of_an_earlier_version_enrols_and_renews_where_there_are_orders(ward: Ward) -> None:
    """The answers of the registry are taken as a whole or not at all, so they have no orders in them."""
    ward.order(ward.place, 1.2)

    answer = ward.desk.registry.documents.documents_for(ward.edge.me.device_id, with_orders=False)
    ward.desk.renew(ward.edge)

    assert DocumentType.ORDERS not in [_kind(one) for one in answer]
    assert ward.edge.provision.directory.orders_of(ward.binding) is None


def test_the_ward_of_a_bed() -> None:
    assert [ward_of(bed) for bed in ("ward 7/4", "Ward  7 / 5", "B/2/1", "4")] == ["ward 7", "ward 7", "b/2", ""]


def _kind(frame: bytes) -> int:
    return frame[HEADER_BYTES]


def _kept(wallet: Wallet, stay_id: bytes) -> Orders | None:
    found = wallet.provision.directory.orders_of(stay_id)
    return None if found is None else decode_orders(found.orders)
