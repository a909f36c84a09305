"""The registry: devices, revocation, bindings, and the texts that it accepts."""

import contextlib
import threading
from typing import Any

import pytest
from cryptography import x509

from stream.errors import NoSuchDevice, RegistryRefused
from tests.stream.site.registries import DAY, HOUR, MINUTE, NOW, SECOND, Desk
from tests.stream.site.registry_requests import (
    everything,
    lines,
    opened,
    own_document,
    refused,
    said,
)
from wire.enrol.documents import DeviceV1
from wire.identity import LATE_MS, NOTHING, About

# Revocation


def test_a_revoked_device_loses_every_right(desk: Desk) -> None:
    edge = desk.enrol("edge")
    pending = desk.again(edge.me.device_id)
    desk.clock.advance(MINUTE)

    desk.registry.revoke(edge.me.device_id, why="stolen", who="tester")

    record = desk.registry.sender(edge.me.device_id)
    assert record is not None
    assert record.revoked
    content = own_document(desk, edge.me.device_id).content
    assert isinstance(content, DeviceV1)
    assert content.revoked_ms == NOW + MINUTE
    serials = {
        int(one.serial, 16) for one in desk.registry.certificates.all() if one.device_id == edge.me.device_id.hex()
    }
    assert serials == set(dict(desk.registry.certificates.revoked()))
    assert len(serials) == 2
    assert edge.me.device_id not in desk.registry.documents.edges()
    with refused(403):
        desk.ask(desk.request(pending))
    with pytest.raises(RegistryRefused, match="vitalloom registry add edge"):
        desk.again(edge.me.device_id)


def test_a_second_revocation_changes_no_time(desk: Desk) -> None:
    wallet = desk.enrol()
    desk.registry.revoke(wallet.me.device_id, why="lost", who="tester")
    first = dict(desk.registry.certificates.revoked())
    desk.clock.advance(HOUR)

    desk.registry.revoke(wallet.me.device_id, why="stolen, it turned out", who="tester")

    assert dict(desk.registry.certificates.revoked()) == first
    (row,) = [one for one in desk.registry.devices() if one.device_id == wallet.me.device_id.hex()]
    assert (row.revoked_ms, row.revoked_why) == (NOW, "stolen, it turned out")


def test_a_revocation_ends_an_overlap_early(desk: Desk) -> None:
    wallet = desk.enrol()
    old = x509.load_der_x509_certificate(desk.peer(wallet)).serial_number
    desk.renew(wallet)

    desk.registry.revoke(wallet.me.device_id, why="stolen", who="tester")

    assert old in dict(desk.registry.certificates.revoked())


def test_the_revocation_list_forgets_certificates_whose_time_is_over(desk: Desk) -> None:
    wallet = desk.enrol()
    desk.registry.revoke(wallet.me.device_id, why="lost", who="tester")

    desk.clock.advance(31 * DAY - SECOND)
    assert len(desk.registry.certificates.revoked()) == 1
    desk.clock.advance(SECOND)

    assert desk.registry.certificates.revoked() == []


def test_an_unknown_device_cannot_be_revoked(desk: Desk) -> None:
    before = everything(desk)

    with pytest.raises(NoSuchDevice, match="vitalloom pki show"):
        desk.registry.revoke(bytes(16), why="", who="tester")

    assert everything(desk) == before


# Bindings


def test_a_wearable_is_on_one_patient_at_a_time(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    first = desk.bind(wearable, edge, patient="P0001")

    with pytest.raises(RegistryRefused, match=f"vitalloom registry unbind {first.hex()}"):
        desk.bind(wearable, edge, patient="P0002")
    desk.clock.advance(MINUTE)
    desk.registry.unbind(first, who="tester")
    second = desk.bind(wearable, edge, patient="P0002")

    found = {one.binding_id: (one.patient, one.valid_from_ms, one.valid_to_ms) for one in desk.registry.bindings()}
    assert found == {first: ("P0001", NOW, NOW + MINUTE), second: ("P0002", NOW + MINUTE, None)}


def test_of_two_desks_that_bind_at_once_one_does(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    begin, done = threading.Barrier(8), []

    def bind() -> None:
        registry = opened(desk)
        begin.wait()
        with contextlib.closing(registry), contextlib.suppress(RegistryRefused):
            done.append(
                registry.bind(
                    wearable_id=wearable.me.device_id, edge_id=edge.me.device_id, patient="P", bed="1", who="tester"
                )
            )

    threads = [threading.Thread(target=bind) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(done) == 1
    assert [one.binding_id for one in desk.registry.bindings()] == done


@pytest.mark.parametrize("same_bed", ["7/4", " 7/4", "7/4 "])
def test_a_bed_has_one_patient(desk: Desk, same_bed: str) -> None:
    edge = desk.enrol("edge")
    older = desk.bind(desk.enrol(), edge, patient="P0001", bed="7/4")
    before = everything(desk)

    with pytest.raises(RegistryRefused, match=f"has another patient .*registry discharge {older.hex()}"):
        desk.bind(desk.enrol(), edge, patient="P0002", bed=same_bed)

    assert [one.patient for one in desk.registry.bindings()] == ["P0001"]
    assert len(everything(desk)) >= len(before)
    desk.registry.unbind(older, who="tester")
    desk.bind(desk.enrol(), edge, patient="P0002", bed=same_bed)
    assert [one.patient for one in desk.registry.bindings() if one.valid_to_ms is None] == ["P0002"]


def test_patients_without_a_bed_are_in_no_bed_together(desk: Desk) -> None:
    edge = desk.enrol("edge")

    desk.bind(desk.enrol(), edge, patient="P0001", bed="")
    desk.bind(desk.enrol(), edge, patient="P0002", bed="")

    assert len(desk.registry.bindings()) == 2


def test_bindings_that_are_refused(desk: Desk) -> None:
    edge, wearable, gone = desk.enrol("edge"), desk.enrol(), desk.enrol()
    desk.registry.revoke(gone.me.device_id, why="", who="tester")
    mine, there, lost, other_edge = (one.me.device_id for one in (wearable, edge, gone, desk.enrol("edge")))

    def bind(wearable_id: bytes, edge_id: bytes, **more: Any) -> None:
        desk.registry.bind(wearable_id=wearable_id, edge_id=edge_id, patient="P", bed="1", who="tester", **more)

    before = everything(desk)
    with pytest.raises(RegistryRefused, match="has the role edge, not wearable"):
        bind(there, other_edge)
    with pytest.raises(RegistryRefused, match="has the role wearable, not edge"):
        bind(mine, mine)
    with pytest.raises(RegistryRefused, match="revoked for good"):
        bind(lost, there)
    with pytest.raises(NoSuchDevice):
        bind(bytes(16), there)
    with pytest.raises(RegistryRefused, match="spo2_scale"):
        bind(mine, there, spo2_scale=3)
    with pytest.raises(RegistryRefused, match="chest_pain"):
        bind(mine, there, about=About(chest_pain=5))
    with pytest.raises(RegistryRefused, match="age_years"):
        bind(mine, there, about=About(age_years=-1.0))
    with pytest.raises(RegistryRefused, match="is_pregnant and is_male"):
        bind(mine, there, about=About(is_male=True, is_pregnant=True))
    assert everything(desk) == before


@pytest.mark.parametrize(
    "about",
    [
        NOTHING,
        About(age_years=67.5, is_male=False, chest_pain=4),
        About(is_male=True),
        About(age_years=0.0),
        About(age_years=30.0, is_pregnant=True),
        About(is_pregnant=False),
    ],
)
def test_facts_for_the_models_reach_only_the_edge(about: About, desk: Desk) -> None:
    wearable, edge = desk.enrol(), desk.enrol("edge")

    binding = desk.registry.bind(
        wearable_id=wearable.me.device_id, edge_id=edge.me.device_id, patient="P", bed="1", who="tester", about=about
    )
    for wallet in (edge, wearable):
        desk.deliver(wallet)

    stored = desk.registry.binding(binding)
    received = edge.provision.directory.binding(binding)
    on_the_wrist = wearable.provision.directory.binding(binding)
    assert stored is not None
    assert received is not None
    assert on_the_wrist is not None
    assert (stored.about, received.about, on_the_wrist.about) == (about, about, NOTHING)


def test_the_time_zone_of_the_site_reaches_the_edge_with_the_binding(desk: Desk) -> None:
    desk.registry.table.time_zone = "Europe/Berlin"
    wearable, edge = desk.enrol(), desk.enrol("edge")

    binding = desk.bind(wearable, edge)
    desk.deliver(edge)

    received = edge.provision.directory.binding(binding)
    assert received is not None
    assert received.time_zone == "Europe/Berlin"


def test_a_binding_ends_once(desk: Desk) -> None:
    binding = desk.bind(desk.enrol(), desk.enrol("edge"))
    desk.registry.unbind(binding, who="tester")

    for one in (binding, bytes(16)):
        with pytest.raises(RegistryRefused, match="no such open binding"):
            desk.registry.unbind(one, who="tester")


@pytest.mark.parametrize(("after_ms", "kept"), [(LATE_MS - 1, 1), (LATE_MS, 0)])
def test_a_binding_is_shown_while_its_frames_may_come(desk: Desk, after_ms: int, kept: int) -> None:
    desk.registry.unbind(desk.bind(desk.enrol(), desk.enrol("edge")), who="tester")

    desk.clock.advance(after_ms)

    assert len(desk.registry.bindings()) == kept


def test_a_binding_is_found_by_the_beginning_of_its_id_or_its_wearables(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    binding = desk.bind(wearable, edge)

    for text in (binding.hex(), binding.hex()[:12], binding.hex()[:12].upper(), wearable.me.device_id.hex()[:12] + "…"):
        assert desk.registry.find_binding(text) == binding

    for text in ("", "…", "nothing", "%", "_" * 32, "bed-1", "ab cd", "'; DROP TABLE binding --"):
        with pytest.raises(RegistryRefused, match="hex digits"):
            desk.registry.find_binding(text)
    with pytest.raises(RegistryRefused, match="0 open bindings"):
        desk.registry.find_binding(edge.me.device_id.hex())


def test_a_binding_is_found_by_the_label_of_its_wearable_if_that_is_one_device_s(desk: Desk) -> None:
    edge = desk.enrol("edge")
    bound = {}
    for label in ("patch 3", "shelf", "shelf"):
        device_id = desk.registry.add_device("wearable", label=label, who="tester")
        bound[label] = desk.registry.bind(
            wearable_id=device_id, edge_id=edge.me.device_id, patient="P0001", bed="1", who="tester"
        )

    assert desk.registry.find_binding("patch 3") == bound["patch 3"]
    with pytest.raises(RegistryRefused, match="2 open bindings match"):
        desk.registry.find_binding("shelf")
    called_like_another = desk.registry.add_device("wearable", label=bound["patch 3"].hex()[:10], who="tester")
    desk.registry.bind(wearable_id=called_like_another, edge_id=edge.me.device_id, patient="P0001", who="tester")
    with pytest.raises(RegistryRefused, match="2 open bindings match"):
        desk.registry.find_binding(bound["patch 3"].hex()[:10])


def test_a_device_is_found_by_the_beginning_of_its_id(desk: Desk) -> None:
    for device_id in ("aa11" + "0" * 28, "aa12" + "0" * 28, "bb" + "0" * 30):
        desk.registry.add_device("wearable", who="tester", device_id=bytes.fromhex(device_id))

    assert desk.registry.find("aa11").hex() == "aa11" + "0" * 28
    assert desk.registry.find("AA12…").hex() == "aa12" + "0" * 28
    assert desk.registry.find("bb" + "0" * 30).hex() == "bb" + "0" * 30

    with pytest.raises(NoSuchDevice, match="more than one"):
        desk.registry.find("aa1")
    for text in ("aa13", "bb" + "0" * 31):
        with pytest.raises(NoSuchDevice, match="no such device"):
            desk.registry.find(text)
    for text in ("", "…", "%", "g", "aa' OR 1=1 --", "ａａ", "aa\n"):
        with pytest.raises(NoSuchDevice, match="no such device"):
            desk.registry.find(text)


def test_a_device_is_found_by_its_label_if_that_is_one_device_s(desk: Desk) -> None:
    def add(label: str, begin: str) -> bytes:
        return desk.registry.add_device(
            "wearable", label=label, who="tester", device_id=bytes.fromhex(begin.ljust(32, "0"))
        )

    ann, one, two = add("ann", "a1a1a1a1"), add("shelf 3", "a2a2a2a2"), add("shelf 3", "a3a3a3a3")
    add("a4a4a4a4", "a5a5a5a5")  # called as another one's id begins
    add("", "a4a4a4a4")
    whole = add("a6a6a6a6".ljust(32, "0"), "a7a7a7a7")
    named = add("", "a6a6a6a6")

    assert desk.registry.find("ann") == ann
    assert [desk.registry.find(text) for text in ("a2a2a2a2", "a3a3a3a3")] == [one, two]
    assert desk.registry.find(named.hex()) == named != whole  # an id is an id
    for text in ("shelf 3", "a4a4a4a4"):
        with pytest.raises(NoSuchDevice, match="more than one"):
            desk.registry.find(text)
    with pytest.raises(NoSuchDevice, match="no such device"):
        desk.registry.find("ANN")


# Texts


STRINGS = {
    "quotes": 'O\'Neill "Bed" `4`',
    "sql": "'); DROP TABLE device; --",
    "html": "<script>alert('1')</script>&amp;",
    "markup": "[red]x[/]",
    "formula": "=cmd|'/C calc'!A0",
    "line protocol": "bed,ward=1 spo2=97",
    "other letters": "Zoë 病床 🛏",
}


REFUSED = {
    "newline": "bed\n1",
    "return": "bed\r1",
    "tab": "bed\t1",
    "nul": "bed\x001",
    "escape": "\x1b[2J",
    "turned round": "bed \u202e1",
    "half a character": "\ud800",
    "long": "x" * 10_000,
}


@pytest.mark.parametrize("text", STRINGS.values(), ids=STRINGS)
def test_a_string_comes_back_as_it_went_in(desk: Desk, text: str) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    labelled = desk.registry.add_device("edge", label=text, who=text)

    desk.bind(wearable, edge, patient=text, bed=text)
    desk.registry.revoke(labelled, why=text, who=text)
    desk.deliver(edge)

    (row,) = [one for one in desk.registry.devices() if one.device_id == labelled.hex()]
    (there,) = edge.provision.directory.bindings()
    assert (row.label, row.revoked_why) == (text, text)
    assert [(one.patient, one.bed) for one in desk.registry.bindings()] == [(text, text)]
    assert (there.patient, there.bed) == (text, text)
    assert lines(desk)[-1]["who"] == text


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_an_unprintable_string_is_refused(desk: Desk, text: str) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    before, log = everything(desk), said(desk)

    with pytest.raises(RegistryRefused, match="label"):
        desk.registry.add_device("edge", label=text, who="tester")
    with pytest.raises(RegistryRefused, match="patient"):
        desk.bind(wearable, edge, patient=text)
    with pytest.raises(RegistryRefused, match="bed"):
        desk.bind(wearable, edge, bed=text)
    with pytest.raises(RegistryRefused, match="why"):
        desk.registry.revoke(edge.me.device_id, why=text, who="tester")

    assert everything(desk) == before
    assert said(desk) == log
