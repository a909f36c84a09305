"""Signed documents: rising versions, recipients, and digests that agree with the devices'."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

from tests.stream.site.registries import DAY, HOUR, MINUTE, NOW, Desk
from tests.stream.site.registry_requests import (
    documents,
    opened,
    own_document,
)
from wire.enrol.documents import DocumentType
from wire.enrol.wallet import Wallet


def versions(desk: Desk, device_id: bytes) -> dict[tuple[DocumentType, bytes], int]:
    return {place: one.version for place, one in documents(desk, device_id).items()}


def test_documents_follow_every_change_with_a_rising_version(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    me, place = edge.me.device_id, (DocumentType.DEVICE, wearable.me.device_id)
    seen = []

    binding = desk.bind(wearable, edge)
    seen.append(versions(desk, me)[place])
    desk.renew(wearable)
    seen.append(versions(desk, me)[place])
    desk.registry.revoke(wearable.me.device_id, why="lost", who="tester")
    seen.append(versions(desk, me)[place])
    assignment = versions(desk, me)[DocumentType.ASSIGNMENT, binding]
    desk.registry.unbind(binding, who="tester")

    assert seen == sorted(set(seen))
    assert versions(desk, me)[DocumentType.ASSIGNMENT, binding] > assignment


def test_versions_rise_though_the_clock_goes_back(desk: Desk) -> None:
    wallet = desk.enrol()
    before = own_document(desk, wallet.me.device_id).version
    desk.clock.set_wall(NOW - DAY)

    desk.registry.revoke(wallet.me.device_id, why="lost", who="tester")

    assert own_document(desk, wallet.me.device_id).version == before + 1


def test_versions_rise_though_the_database_was_restored_from_a_backup(desk: Desk, tmp_path: Path) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    backup = tmp_path / "backup.sqlite"
    with contextlib.closing(sqlite3.connect(backup)) as to:
        desk.registry.file._db.backup(to)
    for _ in range(5):
        desk.clock.advance(HOUR)
        desk.registry.unbind(desk.bind(wearable, edge), who="tester")
        desk.renew(edge)
    lost = own_document(desk, edge.me.device_id).version

    for one in desk.registry.file.path.parent.glob("registry.sqlite*"):
        one.unlink()
    shutil.copy(backup, desk.registry.file.path)
    desk.clock.advance(MINUTE)
    restored = opened(desk)
    with contextlib.closing(restored):
        restored.revoke(edge.me.device_id, why="stolen", who="tester")
        for frame in restored.documents.documents_for(edge.me.device_id):
            edge.accept(frame)
        desk.registry = restored
        assert own_document(desk, edge.me.device_id).version > lost

    assert edge.is_revoked


def test_what_has_not_changed_is_not_signed_again(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    desk.bind(wearable, edge)
    before = desk.registry.documents.documents_for(edge.me.device_id)

    desk.clock.advance(HOUR)
    desk.bind(desk.enrol(), desk.enrol("edge"), patient="P0002", bed="2")

    assert desk.registry.documents.documents_for(edge.me.device_id) == before


def test_each_device_gets_only_the_documents_that_concern_it(desk: Desk) -> None:
    near, far, wearable, other = desk.enrol("edge"), desk.enrol("edge"), desk.enrol(), desk.enrol()
    binding, foreign = desk.bind(wearable, near, patient="P0001"), desk.bind(other, far, patient="P0002", bed="2")

    sent = b"".join(desk.registry.documents.documents_for(near.me.device_id))
    sent_to_wearable = documents(desk, wearable.me.device_id)

    assert wearable.me.device_id in sent
    assert binding in sent
    assert foreign not in sent
    assert other.me.device_id not in sent
    assert {kind for kind, _ in sent_to_wearable} == {
        DocumentType.DEVICE,
        DocumentType.ASSIGNMENT,
        DocumentType.CONTROL_KEYS,
    }
    for one in (near, far, wearable, other):
        assert b"P000" not in b"".join(
            desk.registry.documents.documents_for(one.me.device_id)
        )  # sealed where it is said at all


def test_an_edge_with_all_documents_has_the_digest_of_the_registry(desk: Desk) -> None:
    #  bind   unbind   bind (another)        renew                    renew
    #  |------|--------|---------------------|--------- ... ----------|
    #  0      1 h      2 h                   15 d                     30 d
    edge, wearable, other = desk.enrol("edge"), desk.enrol(), desk.enrol()
    me = edge.me.device_id

    def settled() -> bool:
        desk.deliver(edge)
        return edge.digest == desk.registry.documents.digest_for(me) == Wallet.load(edge.folder).digest

    assert settled()
    first = desk.bind(wearable, edge)
    assert settled()
    desk.clock.advance(HOUR)
    desk.registry.unbind(first, who="tester")
    assert settled()
    desk.clock.advance(HOUR)
    desk.bind(other, edge)
    assert settled()
    for _ in range(2):
        desk.clock.advance(15 * DAY)
        edge.forget_old(desk.clock.now_ms())
        assert settled()
        desk.renew(edge)
        assert settled()
    assert first not in b"".join(desk.registry.documents.documents_for(me))
    desk.bind(wearable, edge)
    assert settled()


def test_a_wearable_with_all_documents_has_the_digest_of_the_registry(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    desk.registry.unbind(desk.bind(wearable, edge), who="tester")
    desk.deliver(wearable)
    assert wearable.digest == desk.registry.documents.digest_for(wearable.me.device_id)

    desk.clock.advance(15 * DAY)
    desk.renew(wearable)

    assert wearable.digest == desk.registry.documents.digest_for(wearable.me.device_id)


def test_an_older_version_of_a_forgotten_binding_is_rejected(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    binding = desk.bind(wearable, edge)
    recording = desk.registry.documents.documents_for(edge.me.device_id)
    desk.clock.advance(HOUR)
    desk.registry.unbind(binding, who="tester")
    desk.deliver(edge)
    desk.clock.advance(15 * DAY)
    desk.renew(edge)
    edge.forget_old(desk.clock.now_ms())

    for frame in recording:
        edge.accept(frame)

    assert edge.provision.directory.binding(binding) is None
    assert edge.digest == desk.registry.documents.digest_for(edge.me.device_id)


def test_documents_of_others_do_not_confuse_an_edge(desk: Desk) -> None:
    edge, far = desk.enrol("edge"), desk.enrol("edge")
    desk.bind(desk.enrol(), far)

    for frame in desk.registry.documents.documents_for(far.me.device_id):
        with contextlib.suppress(Exception):  # those that are sealed to the other
            edge.accept(frame)

    assert edge.digest == desk.registry.documents.digest_for(edge.me.device_id)


def test_a_renewal_does_not_tell_an_edge_that_a_patient_is_watched_elsewhere(desk: Desk) -> None:
    """Whether the other edge watches is known to the courier only."""
    edge, other = desk.enrol("edge"), desk.enrol("edge")
    binding = desk.bind(desk.enrol(), edge)
    desk.deliver(edge)
    desk.bind(desk.enrol(), other)
    desk.registry.unbind(binding, who="tester")

    desk.renew(edge)
    before = edge.provision.directory.binding(binding)
    desk.deliver(edge)
    after = edge.provision.directory.binding(binding)

    assert before is not None
    assert after is not None
    assert (before.valid_to_ms, after.stay_goes_on, after.devices_elsewhere) == (None, True, 1)
