"""Stays in the registry: devices join, are exchanged and leave; who is admitted is watched until the discharge."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from stream.errors import RegistryRefused
from stream.site.directory import CHECK_EVERY_MS, RegistryDirectory
from stream.site.registry import Registry
from tests.stream.site.registries import DAY, HOUR, MINUTE, NOW, Desk
from tests.stream.site.registry_requests import everything, lines, opened
from wire.binding_periods import BindingPeriods
from wire.enrol.documents import BindingV1, encode_content
from wire.enrol.wallet import Wallet
from wire.identity import LATE_MS, NO_DEVICE, About, BindingRecord


def at(desk: Desk, binding_id: bytes) -> BindingRecord:
    found = desk.registry.binding(binding_id)
    assert found is not None
    return found


# Joining and leaving


def test_further_devices_join_the_stay_of_the_first(desk: Desk) -> None:
    edge = desk.enrol("edge")

    patch, cuff = desk.bind(desk.enrol(), edge), desk.bind(desk.enrol(), edge)
    other = desk.bind(desk.enrol(), edge, patient="P0002", bed="2")

    assert at(desk, patch).stay_id == at(desk, cuff).stay_id == patch
    assert at(desk, other).stay_id == other
    assert [one.binding_id for one in desk.registry.of_stay(patch)] == sorted([patch, cuff])


def test_spaces_around_a_pseudonym_are_no_other_patient(desk: Desk) -> None:
    edge = desk.enrol("edge")

    first, second = desk.bind(desk.enrol(), edge), desk.bind(desk.enrol(), edge, patient=" P0001 ")

    assert at(desk, second).stay_id == first
    with pytest.raises(RegistryRefused, match="pseudonym"):
        desk.bind(desk.enrol(), edge, patient=" ", bed="3")


def test_the_stay_ends_with_its_last_device_and_not_before(desk: Desk) -> None:
    #   patch   |=====|             goes on
    #   cuff       |=========|      last
    #           0  1  2      3 min
    edge = desk.enrol("edge")
    patch = desk.bind(desk.enrol(), edge)
    desk.clock.advance(MINUTE)
    cuff = desk.bind(desk.enrol(), edge)
    desk.clock.advance(MINUTE)

    assert desk.registry.unbind(patch, who="tester") is False
    assert (at(desk, patch).stay_goes_on, at(desk, patch).stay_ended_ms) == (True, None)
    desk.clock.advance(MINUTE)
    assert desk.registry.unbind(cuff, who="tester") is True

    assert (at(desk, patch).stay_goes_on, at(desk, patch).stay_to_ms) == (False, NOW + 3 * MINUTE)
    assert (at(desk, cuff).stay_goes_on, at(desk, cuff).stay_to_ms) == (False, None)
    assert {at(desk, one).stay_ended_ms for one in (patch, cuff)} == {NOW + 3 * MINUTE}


def test_a_stay_without_devices_is_told_from_admission_to_discharge(desk: Desk) -> None:
    directory = RegistryDirectory(desk.registry)
    periods = BindingPeriods(directory)

    def told(after_ms: int = 0) -> list[tuple[str, str, int | None]]:
        desk.clock.advance(after_ms + 2 * CHECK_EVERY_MS)
        directory.refresh(desk.clock.mono_ms())
        found = periods.due(desk.clock.now_ms(), desk.clock.mono_ms())
        periods.told(found, desk.clock.mono_ms())
        return [(one.stay_id, one.binding_id, one.to_ms) for one in found]

    stay_id = desk.registry.admit("P0001", bed="4", who="tester")
    assert told() == [(stay_id.hex(), "", None)]
    assert told() == []
    assert told(DAY) == [(stay_id.hex(), "", None)]  # now and then again
    (listed,) = directory.of_stay(stay_id)
    assert (listed.bed, listed.wearable_id, directory.binding(stay_id)) == ("4", NO_DEVICE, None)

    desk.registry.discharge(stay_id, who="tester")
    ended_ms = desk.clock.now_ms()

    assert told() == [(stay_id.hex(), "", ended_ms)]
    desk.clock.advance(LATE_MS)
    assert desk.registry.bindings() == []


def test_the_first_device_of_an_admitted_patient_has_the_stay_s_id(desk: Desk) -> None:
    stay_id = desk.registry.admit("P0001", bed="4", who="tester", spo2_scale=2, about=About(age_years=70.0))
    edge = desk.enrol("edge")

    first = desk.registry.bind(
        wearable_id=desk.enrol().me.device_id, edge_id=edge.me.device_id, patient="P0001", who="tester"
    )
    second = desk.bind(desk.enrol(), edge, bed="4")

    assert first == stay_id != second
    assert [(one.spo2_scale, one.about.age_years, one.bed) for one in desk.registry.of_stay(stay_id)] == [
        (2, 70.0, "4")
    ] * 2


def test_discharge_ends_everything_at_one_moment(desk: Desk) -> None:
    edge = desk.enrol("edge")
    gone = desk.bind(desk.enrol(), edge)
    worn = [desk.bind(desk.enrol(), edge) for _ in range(2)]
    desk.clock.advance(HOUR)
    desk.registry.unbind(gone, who="tester")
    desk.clock.advance(HOUR)

    assert desk.registry.discharge(gone, who="tester") == 2

    assert [at(desk, one).valid_to_ms for one in (gone, *worn)] == [NOW + HOUR, NOW + 2 * HOUR, NOW + 2 * HOUR]
    assert {at(desk, one).stay_ended_ms for one in (gone, *worn)} == {NOW + 2 * HOUR}
    with pytest.raises(RegistryRefused, match="no such open stay"):
        desk.registry.discharge(gone, who="tester")


def test_a_discharge_after_the_last_device_has_left_is_told_by_its_binding(desk: Desk) -> None:
    wearable, edge = desk.enrol(), desk.enrol("edge")
    binding = desk.bind(wearable, edge)
    periods = BindingPeriods(edge.provision.directory)
    mono_ms = 0

    def told() -> list[tuple[int | None, bool, int | None]]:
        nonlocal mono_ms
        mono_ms += CHECK_EVERY_MS
        desk.deliver(edge)
        found = periods.due(desk.clock.now_ms(), mono_ms)
        periods.told(found, mono_ms)
        return [(one.to_ms, one.stay_goes_on, one.stay_to_ms) for one in found]

    assert told() == [(None, False, None)]
    desk.clock.advance(MINUTE)
    desk.registry.unbind(binding, who="tester", stay_open=True)
    assert told() == [(NOW + MINUTE, True, None)]
    desk.clock.advance(HOUR)
    desk.registry.discharge(binding, who="tester")

    assert told() == [(NOW + MINUTE, False, NOW + MINUTE + HOUR)]


def test_a_stay_whose_last_device_left_long_ago_is_still_listed(desk: Desk) -> None:
    binding = desk.bind(desk.enrol(), desk.enrol("edge"))
    desk.registry.unbind(binding, who="tester", stay_open=True)

    desk.clock.advance(LATE_MS + DAY)

    assert [(one.binding_id, one.stay_goes_on) for one in desk.registry.bindings()] == [(binding, True)]
    desk.registry.discharge(binding, who="tester")
    assert [one.stay_ended_ms for one in desk.registry.bindings()] == [desk.clock.now_ms()]


def test_readmission_within_a_minute_is_another_stay(desk: Desk) -> None:
    wearable, edge = desk.enrol(), desk.enrol("edge")
    first = desk.bind(wearable, edge)
    desk.registry.discharge(first, who="tester")

    second = desk.bind(wearable, edge)

    assert at(desk, second).stay_id == second != first
    assert at(desk, first).stay_ended_ms == NOW
    assert at(desk, second).stay_ended_ms is None


def test_a_thermometer_goes_from_patient_to_patient(desk: Desk) -> None:
    edge, thermometer = desk.enrol("edge"), desk.enrol()
    patients = {name: desk.bind(desk.enrol(), edge, patient=name, bed=name) for name in ("P0001", "P0002", "P0003")}

    used = {}
    for name in patients:
        used[name] = desk.bind(thermometer, edge, patient=name, bed=name)
        desk.clock.advance(2 * MINUTE)
        assert desk.registry.unbind(used[name], who="tester") is False

    assert {name: at(desk, one).stay_id for name, one in used.items()} == patients
    began = [at(desk, one).valid_from_ms for one in used.values()]
    assert began == [NOW, NOW + 2 * MINUTE, NOW + 4 * MINUTE]


# Exchange and move


def test_an_exchange_leaves_no_moment_without_a_device(desk: Desk) -> None:
    edge, old, new = desk.enrol("edge"), desk.enrol(), desk.enrol()
    first = desk.bind(old, edge)
    desk.clock.advance(HOUR)

    second = desk.registry.exchange(first, wearable_id=new.me.device_id, who="tester")

    assert at(desk, first).valid_to_ms == at(desk, second).valid_from_ms == NOW + HOUR
    assert (at(desk, second).stay_id, at(desk, first).stay_goes_on) == (first, True)
    assert (at(desk, second).edge_id, at(desk, second).bed) == (edge.me.device_id, "1")
    assert lines(desk)[-1]["what"] == "exchanged"
    assert lines(desk)[-1]["detail"]["instead_of"] == first.hex()


def test_an_exchange_that_cannot_be_changes_nothing(desk: Desk) -> None:
    edge, other = desk.enrol("edge"), desk.enrol()
    binding = desk.bind(desk.enrol(), edge)
    desk.bind(other, edge, patient="P0002", bed="2")
    before = everything(desk)

    with pytest.raises(RegistryRefused, match="is on a patient already"):
        desk.registry.exchange(binding, wearable_id=other.me.device_id, who="tester")
    with pytest.raises(RegistryRefused, match="has the role edge"):
        desk.registry.exchange(binding, wearable_id=edge.me.device_id, who="tester")
    with pytest.raises(RegistryRefused, match="no such open binding"):
        desk.registry.exchange(bytes(16), wearable_id=desk.registry.add_device("wearable", who="t"), who="tester")

    assert [
        one for one in everything(desk) if "INTO binding" in one or "INTO stay" in one or "INTO document" in one
    ] == [one for one in before if "INTO binding" in one or "INTO stay" in one or "INTO document" in one]


def test_a_patient_moves_with_all_devices_and_into_no_other_patient_s_bed(desk: Desk) -> None:
    edges = desk.enrol("edge"), desk.enrol("edge")
    stay_id = desk.bind(desk.enrol(), edges[0], bed="4")
    desk.bind(desk.enrol(), edges[1], bed="4")
    desk.bind(desk.enrol(), edges[0], patient="P0002", bed="5")

    with pytest.raises(RegistryRefused, match="bed 5 has another patient"):
        desk.registry.move(stay_id, bed="5", who="tester")
    desk.registry.move(stay_id, bed="6", who="tester")
    for edge in edges:
        desk.deliver(edge)

    assert {one.bed for one in desk.registry.of_stay(stay_id)} == {"6"}
    there = [one for edge in edges for one in edge.provision.directory.bindings() if one.patient == "P0001"]
    assert [one.bed for one in there] == ["6", "6"]
    desk.bind(desk.enrol(), edges[0], patient="P0003", bed="4")  # which is free now


# Documents


def a_document(binding: BindingRecord) -> BindingV1:
    return BindingV1(
        patient=binding.patient,
        bed=binding.bed,
        wearable_id=binding.wearable_id,
        edge_id=binding.edge_id,
        valid_from_ms=binding.valid_from_ms,
        valid_to_ms=binding.valid_to_ms,
    )


def test_a_stay_of_one_device_has_the_document_that_earlier_edges_read(desk: Desk) -> None:
    edge = desk.enrol("edge")
    wearable = desk.registry.add_device("wearable", label="patch 3", who="tester")
    binding = desk.registry.bind(
        wearable_id=wearable, edge_id=edge.me.device_id, patient="P0001", bed="1", who="tester"
    )

    said = "SELECT said FROM document WHERE kind = 2 AND subject = ?"
    began = desk.registry.file.execute(said, (binding,)).fetchone()[0]
    assert began == encode_content(a_document(at(desk, binding)))
    desk.clock.advance(HOUR)
    desk.registry.unbind(binding, who="tester")
    ended = desk.registry.file.execute(said, (binding,)).fetchone()[0]

    assert ended == encode_content(a_document(at(desk, binding)))
    assert b"patch" not in ended


def test_an_edge_knows_the_stay_its_devices_by_name_and_how_many_others_hear(desk: Desk) -> None:
    near, far = desk.enrol("edge"), desk.enrol("edge")
    names = {}
    for name, edge in (("patch", near), ("cuff", near), ("oximeter", far)):
        device_id = desk.registry.add_device("wearable", label=name, who="tester")
        names[name] = desk.registry.bind(
            wearable_id=device_id, edge_id=edge.me.device_id, patient="P0001", bed="1", who="tester"
        )
    for edge in (near, far):
        desk.deliver(edge)

    def known(edge: Wallet) -> dict[str, tuple[bytes, int]]:
        return {one.device_name: (one.stay_id, one.devices_elsewhere) for one in edge.provision.directory.bindings()}

    stay_id = names["patch"]
    assert known(near) == {"patch": (stay_id, 1), "cuff": (stay_id, 1)}
    assert known(far) == {"oximeter": (stay_id, 2)}
    assert [len(edge.provision.directory.of_stay(stay_id)) for edge in (near, far)] == [2, 1]
    for edge in (near, far):
        assert edge.digest == desk.registry.documents.digest_for(edge.me.device_id)
    desk.registry.unbind(names["oximeter"], who="tester")
    desk.deliver(near)
    assert known(near) == {"patch": (stay_id, 0), "cuff": (stay_id, 0)}


# Registries of earlier versions

EARLIER = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE device (
    device_id TEXT PRIMARY KEY, role TEXT NOT NULL, label TEXT NOT NULL, created_ms INTEGER NOT NULL,
    revoked_ms INTEGER, revoked_why TEXT, bad_tries INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE binding (
    binding_id TEXT PRIMARY KEY, patient TEXT NOT NULL, bed TEXT NOT NULL, wearable_id TEXT NOT NULL,
    edge_id TEXT NOT NULL, valid_from_ms INTEGER NOT NULL, valid_to_ms INTEGER, spo2_scale INTEGER NOT NULL{more}
    ) WITHOUT ROWID;
"""
FACTS = ", age_years REAL, is_male INTEGER, chest_pain INTEGER, is_pregnant INTEGER"
W1, W2, W3, E = "a1" * 16, "a2" * 16, "a3" * 16, "e0" * 16


def earlier(path: Path, more: str = FACTS) -> Path:
    """A registry file as an earlier version made it: one patient with two wearables, one who has left."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(EARLIER.format(more=more))
        for name, role in ((W1, "wearable"), (W2, "wearable"), (W3, "wearable"), (E, "edge")):
            db.execute("INSERT INTO device (device_id, role, label, created_ms) VALUES (?, ?, '', 1)", (name, role))
        for binding, patient, bed, wearable, to_ms in (
            ("b1" * 16, "P0001", "1", W1, None),
            ("b2" * 16, "P0001", "1", W2, None),
            ("b3" * 16, "P0002", "2", W3, NOW - HOUR),
        ):
            db.execute(
                "INSERT INTO binding (binding_id, patient, bed, wearable_id, edge_id, valid_from_ms, valid_to_ms, "
                "spo2_scale) VALUES (?, ?, ?, ?, ?, ?, ?, 2)",
                (binding, patient, bed, wearable, E, NOW - DAY, to_ms),
            )
        db.commit()
    return path


def registry_at(desk: Desk, path: Path) -> Registry:
    return Registry(path, control=desk.site._control, tenant_id=bytes(16), clock=ManualClock(NOW))


@pytest.mark.parametrize("more", ["", FACTS], ids=["first version", "with facts"])
def test_every_binding_of_an_earlier_registry_becomes_a_stay_of_its_own(desk: Desk, tmp_path: Path, more: str) -> None:
    path = earlier(tmp_path / "registry.sqlite", more)
    for _ in range(2):  # opened again nothing changes
        with contextlib.closing(registry_at(desk, path)) as registry:
            found = {one.binding_id.hex()[:2]: one for one in registry.bindings()}

    assert {name: one.stay[:2] for name, one in found.items()} == {"b1": "b1", "b2": "b2", "b3": "b3"}
    assert [(one.patient, one.spo2_scale, one.valid_from_ms) for one in found.values()] == [
        ("P0001", 2, NOW - DAY), ("P0001", 2, NOW - DAY), ("P0002", 2, NOW - DAY),
    ]  # fmt: skip
    assert (found["b3"].stay_ended_ms, found["b3"].stay_to_ms, found["b3"].stay_goes_on) == (NOW - HOUR, None, False)


def test_two_open_stays_of_one_patient_stay_two_until_a_person_says_which_is_true(desk: Desk, tmp_path: Path) -> None:
    with contextlib.closing(registry_at(desk, earlier(tmp_path / "registry.sqlite"))) as registry:
        first, second = (bytes.fromhex(one * 16) for one in ("b1", "b2"))

        def bind(wearable: str) -> bytes:
            return registry.bind(
                wearable_id=bytes.fromhex(wearable), edge_id=bytes.fromhex(E), patient="P0001", who="tester"
            )

        with pytest.raises(RegistryRefused, match="2 open stays") as told:
            bind(W3)
        with pytest.raises(RegistryRefused, match="2 open stays"):
            registry.stays.find_open("P0001")
        for one in (first, second):
            assert f"`vitalloom registry discharge {one.hex()[:12]}`" in str(told.value)

        registry.discharge(registry.stays.find_open("b2b2").stay_id, who="tester")
        joined = {registry.binding(bind(one)).stay_id for one in (W2, W3)}  # type: ignore[union-attr]

        assert joined == {first}


def test_what_a_command_of_an_earlier_version_binds_is_a_stay_as_well(desk: Desk, tmp_path: Path) -> None:
    path = earlier(tmp_path / "registry.sqlite")
    with contextlib.closing(registry_at(desk, path)) as registry:
        with contextlib.closing(sqlite3.connect(path)) as old:
            old.execute(
                "INSERT INTO binding (binding_id, patient, bed, wearable_id, edge_id, valid_from_ms, valid_to_ms, "
                "spo2_scale, age_years, is_male, chest_pain, is_pregnant) VALUES (?, 'P9', '9', ?, ?, ?, NULL, 1, 70, "
                "NULL, NULL, NULL)",
                ("b9" * 16, W3, E, NOW),
            )
            old.commit()

        (found,) = [one for one in registry.bindings() if one.patient == "P9"]

    assert (found.stay, found.about.age_years) == ("b9" * 16, 70.0)


def test_two_who_bind_the_first_device_at_once_do_not_make_two_of_one_id(desk: Desk) -> None:
    stay_id = desk.registry.admit("P0001", bed="1", who="tester")
    edge, one, two = desk.enrol("edge"), desk.enrol(), desk.enrol()
    with contextlib.closing(opened(desk)) as other:
        chosen = desk.registry.table.new_id(desk.registry.stays.get(stay_id))
        other.bind(wearable_id=one.me.device_id, edge_id=edge.me.device_id, patient="P0001", who="tester")

        with pytest.raises(RegistryRefused, match="at the same moment"):
            desk.registry.bind(
                wearable_id=two.me.device_id,
                edge_id=edge.me.device_id,
                patient="P0001",
                who="tester",
                binding_id=chosen,
            )
