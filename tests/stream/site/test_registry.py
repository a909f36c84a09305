"""The registry at its desk: who comes to belong, who ceases to, and what is signed about it."""

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from stream.errors import EnrolmentRefused, NoSuchDevice, RegistryRefused, StoreUnusable
from stream.site.audit import AuditLog
from stream.site.enrolment import Enrolment, EnrolmentPolicy
from stream.site.folder import Site
from stream.site.registry import Registry
from tests.stream.site.registries import DAY, FACTS, HOUR, MINUTE, NOW, SECOND, Desk, new_keys
from wire.enrol.client import enrol_request, prekey_request, renew_request
from wire.enrol.documents import DeviceV1, Document, DocumentType, control_key_id, open_document
from wire.enrol.requests import (
    EnrolReply,
    EnrolRequest,
    Invitation,
    PrekeyRequest,
    RenewRequest,
    enrol_transcript,
    prekey_transcript,
    proof,
    token_hash,
    un64,
)
from wire.enrol.wallet import NewKeys, Wallet
from wire.identity import LATE_MS, NOTHING, About


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.site.close()


class Refusal:
    """What somebody was told, once it is known."""

    status = 0
    problem = ""


@contextlib.contextmanager
def refused(status: int) -> Iterator[Refusal]:
    told = Refusal()
    with pytest.raises(EnrolmentRefused) as caught:
        yield told
    told.status, told.problem = caught.value.status, str(caught.value)
    assert told.status == status, told.problem


def opened(desk: Desk, *, to_read: bool = False) -> Registry:
    """The desk's registry as another process opens it."""
    path, control = desk.registry.file.path, None if to_read else desk.site._control
    return Registry(path, control=control, tenant_id=desk.registry.tenant_id, clock=desk.clock)


def lines(desk: Desk) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in desk.registry.file.audit.path.read_bytes().splitlines()]


def said(desk: Desk) -> list[str]:
    return [line["what"] for line in lines(desk)]


def everything(desk: Desk) -> list[str]:
    """The whole database but for the head of the audit log."""
    with contextlib.closing(sqlite3.connect(desk.registry.file.path)) as db:
        return [line for line in db.iterdump() if "audit_head" not in line]


def documents(desk: Desk, device_id: bytes) -> dict[tuple[DocumentType, bytes], Document]:
    keys = {control_key_id(one.public_key()): one.public_key() for one in desk.site._control}
    found = {}
    for frame in desk.registry.documents.documents_for(device_id):
        with contextlib.suppress(Exception):  # sealed ones are opened by whom they are for
            document = open_document(frame, keys)
            found[document.type, document.subject] = document
    return found


def own_document(desk: Desk, device_id: bytes) -> Document:
    return documents(desk, device_id)[DocumentType.DEVICE, device_id]


def renewal(desk: Desk, wallet: Wallet, keys: NewKeys | None = None) -> RenewRequest:
    return renew_request(wallet, keys or new_keys(), desk.server)


def ask_renewal(desk: Desk, request: RenewRequest, peer: bytes | None) -> EnrolReply:
    return desk.enrolment.renew(
        request, peer=peer, server=desk.server, address="192.0.2.7", mono_ms=desk.clock.mono_ms()
    )


def ask_prekey(desk: Desk, request: PrekeyRequest, peer: bytes | None) -> None:
    desk.enrolment.new_prekey(request, peer=peer, address="192.0.2.7", mono_ms=desk.clock.mono_ms())


# A device comes


def test_an_invited_device_becomes_one_of_ours(desk: Desk) -> None:
    invitation = desk.invite("edge")

    wallet = desk.enrol("edge", invitation=invitation)

    (row,) = [one for one in desk.registry.devices() if one.device_id == invitation.device_id.hex()]
    assert (row.role, row.enrolled_ms, row.not_after_ms) == ("edge", NOW, NOW + 30 * DAY)
    assert wallet.me.device_id == invitation.device_id
    assert [one.name for one in desk.registry.certificates.all() if one.device_id == row.device_id] == [
        row.device_id,
        f"{row.device_id}-a",
    ]


def test_each_change_is_a_line_in_the_audit_log(desk: Desk) -> None:
    before = len(lines(desk))
    edge, wearable = desk.enrol("edge"), desk.enrol()
    binding = desk.bind(wearable, edge)

    desk.registry.unbind(binding, who="tester")
    desk.renew(wearable)
    desk.registry.revoke(wearable.me.device_id, why="lost", who="tester")

    come = ["device added", "invited", "enrolled"]
    assert said(desk)[before:] == [*come, *come, "bound", "unbound", "renewed", "revoked"]
    assert lines(desk)[-1]["subject"] == wearable.me.device_id.hex()
    assert lines(desk)[-1]["detail"] == {"why": "lost"}
    assert desk.registry.file.meta("audit_head") == lines(desk)[-1]["hash"]


def test_a_token_is_good_once(desk: Desk) -> None:
    invitation = desk.invite()
    desk.ask(desk.request(invitation))

    with refused(403) as told:
        desk.ask(desk.request(invitation))

    assert "ask for a new one" in told.problem
    assert said(desk)[-1] == "bad token"


@pytest.mark.parametrize(("after_ms", "good"), [(HOUR - 1, True), (HOUR, False), (HOUR + 1, False)])
def test_a_token_is_good_for_an_hour(desk: Desk, after_ms: int, good: bool) -> None:
    request = desk.request(desk.invite())
    desk.clock.advance(after_ms)

    with contextlib.nullcontext() if good else refused(403):
        desk.ask(request)


def test_a_token_is_of_one_device(desk: Desk) -> None:
    mine, other = desk.invite(), desk.invite()

    with refused(403):
        desk.ask(desk.request(Invitation(mine.url, mine.pin, other.device_id, mine.token)))

    desk.ask(desk.request(mine))
    desk.ask(desk.request(other))


def test_a_token_is_of_one_role(desk: Desk) -> None:
    invitation = desk.invite("wearable")
    desk.registry.file.execute("UPDATE device SET role = 'edge' WHERE device_id = ?", (invitation.device_id.hex(),))

    with refused(403):
        desk.ask(desk.request(invitation))


def test_a_new_invitation_voids_the_one_before(desk: Desk) -> None:
    first = desk.invite()
    second = desk.again(first.device_id)

    with refused(403):
        desk.ask(desk.request(first))

    desk.ask(desk.request(second))


@pytest.mark.parametrize(("bad", "good"), [(4, True), (5, False)])
def test_five_bad_tokens_lock_a_slot(desk: Desk, bad: int, good: bool) -> None:
    invitation = desk.invite()
    wrong = invitation._replace(token=bytes(20))
    for _ in range(bad):
        with refused(403):
            desk.ask(desk.request(wrong))

    with contextlib.nullcontext() if good else refused(403):
        desk.ask(desk.request(invitation))

    (row,) = [one for one in desk.registry.devices() if one.device_id == invitation.device_id.hex()]
    assert row.is_locked is not good


def test_an_invitation_opens_a_locked_slot(desk: Desk) -> None:
    invitation = desk.invite()
    for _ in range(5):
        with refused(403):
            desk.ask(desk.request(invitation._replace(token=bytes(20))))

    desk.ask(desk.request(desk.again(invitation.device_id)))

    assert said(desk)[-1] == "enrolled"


def test_whatever_is_wrong_with_an_invitation_the_answer_is_the_same(desk: Desk) -> None:
    used, locked, revoked, expired = desk.invite(), desk.invite(), desk.invite(), desk.invite()
    desk.ask(desk.request(used))
    for _ in range(5):
        with refused(403):
            desk.ask(desk.request(locked._replace(token=bytes(20))))
    desk.registry.revoke(revoked.device_id, why="", who="tester")
    desk.clock.advance(2 * HOUR)
    unknown = used._replace(device_id=bytes(16))

    answers = set()
    for one in (
        used,
        locked,
        revoked,
        expired,
        unknown,
        expired._replace(token=b""),
        expired._replace(token=b"x" * 999),
    ):
        with refused(403) as told:
            desk.ask(desk.request(one))
        answers.add(told.problem)

    assert len(answers) == 1


def change_signature(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, proof="00" * 64)


def exchange_prekey(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, prekey=new_keys().public[1].hex())


def exchange_tls_key(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    import base64

    return replace(request, csr=base64.b64encode(new_keys().request(bytes.fromhex(request.device_id))).decode())


def exchange_signing_key(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, signing_key=new_keys().public[0].hex())


def proof_of_another_token(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    keys = new_keys()
    other = Invitation("https://127.0.0.1:1", bytes(32), bytes.fromhex(request.device_id), bytes(20))
    return replace(enrol_request(other, keys, desk.server), token=request.token)


def proof_of_another_device(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    keys = new_keys()
    other = Invitation("https://127.0.0.1:1", bytes(32), bytes(16), bytes.fromhex(request.token))
    return replace(enrol_request(other, keys, desk.server), device_id=request.device_id)


def proof_for_another_server(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    mine = Invitation("https://127.0.0.1:1", bytes(32), bytes.fromhex(request.device_id), bytes.fromhex(request.token))
    return enrol_request(mine, new_keys(), b"the certificate of somebody between")


def no_request(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, csr="AAAA")


def no_base64(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, csr="ä" * 20)


def no_prekey(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, prekey="12")


def prekey_without_a_secret(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    keys = new_keys()
    device_id, token, csr = bytes.fromhex(request.device_id), bytes.fromhex(request.token), un64(request.csr)
    transcript = enrol_transcript(device_id, token, csr, keys.public[0], bytes(32), desk.server)
    return replace(request, signing_key=keys.public[0].hex(), prekey="00" * 32, proof=proof(keys.signing, transcript))


def long_prekey_id(request: EnrolRequest, desk: Desk) -> EnrolRequest:
    return replace(request, prekey_id="00" * 9)


@pytest.mark.parametrize(
    "spoil",
    [
        change_signature, exchange_prekey, exchange_tls_key, exchange_signing_key, proof_of_another_token,
        proof_of_another_device, proof_for_another_server, no_request, no_base64, no_prekey, prekey_without_a_secret,
        long_prekey_id,
    ],
)  # fmt: skip
def test_a_failure_after_the_right_token_burns_it(
    desk: Desk, spoil: Callable[[EnrolRequest, Desk], EnrolRequest]
) -> None:
    invitation = desk.invite("edge")
    request = desk.request(invitation)

    with refused(400):
        desk.ask(spoil(request, desk))

    assert said(desk)[-1] == "enrolment refused"
    with refused(403):
        desk.ask(request)
    assert [one for one in desk.registry.certificates.all() if one.device_id == invitation.device_id.hex()] == []
    assert desk.registry.sender(invitation.device_id).credentials == ()  # type: ignore[union-attr]


def test_two_devices_cannot_have_one_signing_key(desk: Desk) -> None:
    keys, second = new_keys(), desk.invite()
    desk.ask(desk.request(desk.invite(), keys))

    with refused(400) as told:
        desk.ask(desk.request(second, keys._replace(tls=new_keys().tls)))

    assert "make new keys" in told.problem
    with refused(403):
        desk.ask(desk.request(second))


def test_of_fifty_at_once_one_enrols(desk: Desk) -> None:
    invitation = desk.invite()
    requests = [desk.request(invitation) for _ in range(50)]
    answers: list[object] = []
    begin = threading.Barrier(50)

    def visit(request: EnrolRequest) -> None:
        registry = opened(desk)
        enrolment = Enrolment(registry, desk.site.authority, clock=desk.clock, policy=EnrolmentPolicy(bad_tokens=1_000))
        begin.wait()
        try:
            answers.append(enrolment.enrol(request, server=desk.server, address="192.0.2.7", mono_ms=0))
        except EnrolmentRefused as error:
            answers.append(error.status)
        finally:
            registry.close()

    threads = [threading.Thread(target=visit, args=(one,)) for one in requests]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert sorted(str(type(one)) for one in answers if not isinstance(one, int)) == [str(EnrolReply)]
    assert [one for one in answers if isinstance(one, int)] == [403] * 49
    assert len(desk.registry.sender(invitation.device_id).credentials) == 1  # type: ignore[union-attr]
    assert said(desk).count("bad token") == 49


@pytest.mark.parametrize(
    "text", ["", "AB" * 16, "0" * 31, "0" * 33, "../etc/passwd", "0" * 31 + "g", "٠" * 32, "0" * 31 + "\0"]
)
def test_an_id_is_hexadecimal_digits_and_nothing_else(desk: Desk, text: str) -> None:
    before = len(lines(desk))

    with refused(400):
        desk.ask(replace(desk.request(desk.invite()), device_id=text))

    assert said(desk)[before:] == ["device added", "invited"]


def test_an_address_has_ten_tries_a_minute(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy=EnrolmentPolicy(bad_tokens=1_000))
    request = desk.request(desk.invite()._replace(token=bytes(20)))
    for _ in range(10):
        with refused(403):
            desk.ask(request)
        desk.clock.advance(1)

    with refused(429):
        desk.ask(request)
    with refused(403):
        desk.ask(request, address="192.0.2.8")
    desk.clock.advance(6 * SECOND)
    with refused(403):
        desk.ask(request)


# One transaction each


def changes(desk: Desk) -> dict[str, Callable[[], object]]:
    edge, wearable, loose = desk.enrol("edge"), desk.enrol(), desk.enrol()
    binding, registry, invitation = desk.bind(wearable, edge), desk.registry, desk.invite()
    return {
        "add": lambda: registry.add_device("edge", who="tester"),
        "invite": lambda: desk.again(loose.me.device_id),
        "enrol": lambda: desk.ask(desk.request(invitation)),
        "refuse": lambda: desk.ask(change_signature(desk.request(invitation), desk)),
        "renew": lambda: ask_renewal(desk, renewal(desk, wearable), desk.peer(wearable)),
        "prekey": lambda: ask_prekey(desk, prekey_request(edge, now_ms=NOW), desk.peer(edge)),
        "bind": lambda: desk.bind(loose, edge),
        "unbind": lambda: registry.unbind(binding, who="tester"),
        "revoke": lambda: registry.revoke(edge.me.device_id, why="lost", who="tester"),
        "revoke service": lambda: registry.certificates.revoke("monitor", who="tester"),
        "issue": lambda: desk.site.issue_service("monitor", who="tester"),
        "publish": lambda: registry.publish_all(who="tester"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "add", "invite", "enrol", "refuse", "renew", "prekey", "bind", "unbind", "revoke", "revoke service", "issue",
        "publish",
    ],
)  # fmt: skip
def test_without_its_line_in_the_audit_log_nothing_has_happened(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = changes(desk)[name]
    before = everything(desk)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(AuditLog, "append", full)
        with pytest.raises(OSError, match="no space left"):
            change()
    assert everything(desk) == before

    with contextlib.suppress(EnrolmentRefused):
        change()
    assert everything(desk) != before


def test_a_change_that_breaks_in_the_middle_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    invitation = desk.invite()
    request, before = desk.request(invitation), everything(desk)

    with monkeypatch.context() as broken:
        broken.setattr(Enrolment, "_put_prekey", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.ask(request)

    assert everything(desk) == before
    desk.ask(request)


# Renewal


def test_after_a_renewal_the_old_credential_is_good_for_a_day_and_not_longer(desk: Desk) -> None:
    wallet = desk.enrol()
    old_serial, old_certificate = wallet.me.credential_serial, desk.peer(wallet)
    desk.clock.advance(20 * DAY)

    desk.renew(wallet)

    record = desk.registry.sender(wallet.me.device_id)
    assert record is not None
    old, new = record.credential(old_serial), record.credential(wallet.me.credential_serial)
    assert old is not None
    assert new is not None
    assert old.is_valid(NOW + 21 * DAY)
    assert not old.is_valid(NOW + 21 * DAY + 1)
    assert new.is_valid(NOW + 50 * DAY)
    assert record.keys[0].public_bytes_raw() == wallet.me.signing_key.public_key().public_bytes_raw()

    listed = x509.load_der_x509_certificate(old_certificate).serial_number
    assert listed not in dict(desk.registry.certificates.revoked())
    desk.clock.advance(DAY)
    assert listed in dict(desk.registry.certificates.revoked())


def test_with_the_old_credential_a_device_may_renew_for_a_day(desk: Desk) -> None:
    wallet = desk.enrol()
    peer = desk.peer(wallet)
    ask_renewal(desk, renewal(desk, wallet), peer)  # and the answer is lost

    desk.clock.advance(DAY - MINUTE)
    ask_renewal(desk, renewal(desk, wallet), peer)
    desk.clock.advance(MINUTE)

    with refused(403):
        ask_renewal(desk, renewal(desk, wallet), peer)


def test_a_device_that_loses_every_answer_of_a_day_is_not_lost(desk: Desk) -> None:
    wallet = desk.enrol()
    for _ in range(10):
        ask_renewal(desk, renewal(desk, wallet), desk.peer(wallet))
        desk.clock.advance(HOUR)

    desk.renew(wallet)

    record = desk.registry.sender(wallet.me.device_id)
    assert record is not None
    assert len(record.credentials) == 3
    assert record.credentials[-1].serial == wallet.me.credential_serial


def test_a_device_that_is_enrolled_once_more_leaves_its_old_identity_within_a_day(desk: Desk) -> None:
    lost = desk.enrol()
    peer, serial = desk.peer(lost), lost.me.credential_serial
    shutil.rmtree(lost.folder)

    desk.enrol(invitation=desk.again(lost.me.device_id))

    record = desk.registry.sender(lost.me.device_id)
    assert record is not None
    assert [one.not_after_ms for one in record.credentials if one.serial == serial] == [NOW + DAY]
    desk.clock.advance(DAY)
    with refused(403):
        ask_renewal(desk, renewal(desk, lost), peer)


def test_a_renewal_needs_the_certificate_of_this_device(desk: Desk) -> None:
    wallet, other = desk.enrol(), desk.enrol()
    monitor = x509.load_pem_x509_certificate((desk.site.folder / "services" / "monitor.pem").read_bytes())
    from cryptography.hazmat.primitives.serialization import Encoding

    for peer in (None, desk.peer(other), monitor.public_bytes(Encoding.DER)):
        with refused(403):
            ask_renewal(desk, renewal(desk, wallet), peer)
        assert said(desk)[-1] == "renewal refused"

    ask_renewal(desk, renewal(desk, wallet), desk.peer(wallet))


def test_a_revoked_device_renews_nothing(desk: Desk) -> None:
    wallet = desk.enrol("edge")
    peer = desk.peer(wallet)
    desk.registry.revoke(wallet.me.device_id, why="stolen", who="tester")
    before = everything(desk)

    with refused(403):
        ask_renewal(desk, renewal(desk, wallet), peer)
    with refused(403):
        ask_prekey(desk, prekey_request(wallet, now_ms=NOW), peer)

    assert everything(desk) == before


def test_a_revoked_certificate_renews_nothing_though_the_device_is_known(desk: Desk) -> None:
    wallet = desk.enrol()
    desk.registry.certificates.revoke(wallet.me.device_id.hex(), who="tester")

    with refused(403):
        ask_renewal(desk, renewal(desk, wallet), desk.peer(wallet))


def test_a_credential_that_is_over_renews_nothing_and_the_cure_is_named(desk: Desk) -> None:
    wallet = desk.enrol()
    desk.clock.advance(30 * DAY + 1)

    with refused(403) as told:
        ask_renewal(desk, renewal(desk, wallet), desk.peer(wallet))

    assert f"vitalloom pki renew {wallet.me.device_id.hex()}" in told.problem


@pytest.mark.parametrize("field", ["proof", "present"])
def test_a_renewal_is_signed_by_the_new_key_and_by_the_present_one(desk: Desk, field: str) -> None:
    wallet = desk.enrol()
    keys, stranger = new_keys(), Ed25519PrivateKey.generate()
    good = renewal(desk, wallet, keys)
    forged = replace(good, **{field: stranger.sign(b"anything").hex()})
    before = everything(desk)

    with refused(400):
        ask_renewal(desk, forged, desk.peer(wallet))

    assert everything(desk) == before
    assert said(desk)[-1] == "renewal refused"


def test_a_renewal_is_bound_to_the_server_and_takes_no_key_twice(desk: Desk) -> None:
    wallet = desk.enrol()
    used = NewKeys(new_keys().tls, wallet.me.signing_key, bytes(8), new_keys().prekey)

    with refused(400):
        ask_renewal(desk, renew_request(wallet, new_keys(), b"somebody between"), desk.peer(wallet))
    with refused(400):
        ask_renewal(desk, renewal(desk, wallet, used), desk.peer(wallet))
    for serial in ("", "zz", "00" * 8_000):
        with pytest.raises(EnrolmentRefused):
            ask_renewal(desk, replace(renewal(desk, wallet), serial=serial), desk.peer(wallet))


# Prekeys


def test_a_new_prekey_is_what_others_seal_to_and_bindings_are_sealed_anew(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    desk.bind(wearable, edge)
    keys = new_keys()
    edge.add_prekey(keys.prekey_id, keys.prekey, now_ms=NOW)
    desk.clock.advance(SECOND)

    ask_prekey(desk, prekey_request(edge, now_ms=NOW + SECOND), desk.peer(edge))

    record = desk.registry.sender(edge.me.device_id)
    assert record is not None
    assert record.recipient is not None
    assert record.recipient.prekey_id == keys.prekey_id
    only_new = Wallet.load(edge.folder)
    for old in list(only_new.me.prekeys)[:-1]:
        del only_new.me.prekeys[old]
    desk.deliver(only_new)
    assert [one.patient for one in only_new.provision.directory.bindings()] == ["P0001"]


@pytest.mark.parametrize("off_ms", [-600_001, 600_001, -(10**18), 10**40])
def test_a_prekey_that_was_not_announced_now_is_refused(desk: Desk, off_ms: int) -> None:
    edge = desk.enrol("edge")
    request = replace(prekey_request(edge, now_ms=NOW), at_ms=NOW + off_ms)

    with refused(400):
        ask_prekey(desk, request, desk.peer(edge))

    assert said(desk)[-1] == "prekey refused"


@pytest.mark.parametrize("point", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f"])
def test_a_prekey_to_which_nothing_can_be_sealed_is_refused(desk: Desk, point: str) -> None:
    edge = desk.enrol("edge")
    desk.bind(desk.enrol(), edge)

    serial = edge.me.credential_serial
    transcript = prekey_transcript(edge.me.device_id, serial, bytes(8), bytes.fromhex(point), NOW)
    request = PrekeyRequest(
        device_id=edge.me.device_id.hex(), serial=serial.hex(), prekey_id="00" * 8, prekey=point, at_ms=NOW,
        present=proof(edge.me.signing_key, transcript),
    )  # fmt: skip

    with refused(400) as told:
        ask_prekey(desk, request, desk.peer(edge))

    assert told.problem == "a key is not a key"
    desk.registry.publish_all(who="tester")


# Revocation


def test_a_revoked_device_is_believed_in_nothing(desk: Desk) -> None:
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


def test_nobody_is_revoked_whom_nobody_knows(desk: Desk) -> None:
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


def test_a_patient_may_wear_two(desk: Desk) -> None:
    edge = desk.enrol("edge")

    desk.bind(desk.enrol(), edge)
    desk.bind(desk.enrol(), edge)

    assert [one.patient for one in desk.registry.bindings()] == ["P0001", "P0001"]


def test_what_cannot_be_bound(desk: Desk) -> None:
    edge, wearable, gone = desk.enrol("edge"), desk.enrol(), desk.enrol()
    desk.registry.revoke(gone.me.device_id, why="", who="tester")
    mine, there, lost, nobody = (one.me.device_id for one in (wearable, edge, gone, desk.enrol("edge")))

    def bind(wearable_id: bytes, edge_id: bytes, **more: Any) -> None:
        desk.registry.bind(wearable_id=wearable_id, edge_id=edge_id, patient="P", bed="1", who="tester", **more)

    before = everything(desk)
    with pytest.raises(RegistryRefused, match="is of role edge, and not wearable"):
        bind(there, nobody)
    with pytest.raises(RegistryRefused, match="is of role wearable, and not edge"):
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
    assert everything(desk) == before


@pytest.mark.parametrize(
    "about", [NOTHING, About(age_years=67.5, is_male=False, chest_pain=4), About(is_male=True), About(age_years=0.0)]
)
def test_what_models_have_to_be_told_reaches_the_edge_and_nobody_else(about: About, desk: Desk) -> None:
    wearable, edge = desk.enrol(), desk.enrol("edge")

    binding = desk.registry.bind(
        wearable_id=wearable.me.device_id, edge_id=edge.me.device_id, patient="P", bed="1", who="tester", about=about
    )
    for wallet in (edge, wearable):
        desk.deliver(wallet)

    stored = desk.registry.binding(binding)
    told = edge.provision.directory.binding(binding)
    on_the_wrist = wearable.provision.directory.binding(binding)
    assert stored is not None
    assert told is not None
    assert on_the_wrist is not None
    assert (stored.about, told.about, on_the_wrist.about) == (about, about, NOTHING)


def test_a_registry_from_before_models_had_to_be_told_anything_is_taken_over(desk: Desk) -> None:
    binding = desk.bind(desk.enrol(), desk.enrol("edge"))
    with contextlib.closing(sqlite3.connect(desk.registry.file.path)) as earlier:
        for column in ("age_years", "is_male", "chest_pain"):
            earlier.execute(f"ALTER TABLE binding DROP COLUMN {column}")

    with contextlib.closing(Site.open(desk.folder / "site", clock=desk.clock, to_read=True)) as site:
        found = site.registry.binding(binding)

    assert found is not None
    assert found.about == NOTHING


def test_a_binding_ends_once(desk: Desk) -> None:
    binding = desk.bind(desk.enrol(), desk.enrol("edge"))
    desk.registry.unbind(binding, who="tester")

    for one in (binding, bytes(16)):
        with pytest.raises(RegistryRefused, match="no such open one"):
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


# Documents


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
            edge.take(frame)
        desk.registry = restored
        assert own_document(desk, edge.me.device_id).version > lost

    assert edge.is_revoked


def test_what_has_not_changed_is_not_signed_again(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    desk.bind(wearable, edge)
    before = desk.registry.documents.documents_for(edge.me.device_id)

    desk.clock.advance(HOUR)
    desk.bind(desk.enrol(), desk.enrol("edge"))

    assert desk.registry.documents.documents_for(edge.me.device_id) == before


def test_each_is_told_what_concerns_it_and_no_more(desk: Desk) -> None:
    near, far, wearable, other = desk.enrol("edge"), desk.enrol("edge"), desk.enrol(), desk.enrol()
    binding, foreign = desk.bind(wearable, near, patient="P0001"), desk.bind(other, far, patient="P0002")

    told = b"".join(desk.registry.documents.documents_for(near.me.device_id))
    told_wearable = documents(desk, wearable.me.device_id)

    assert wearable.me.device_id in told
    assert binding in told
    assert foreign not in told
    assert other.me.device_id not in told
    assert {kind for kind, _ in told_wearable} == {
        DocumentType.DEVICE,
        DocumentType.ASSIGNMENT,
        DocumentType.CONTROL_KEYS,
    }
    for one in (near, far, wearable, other):
        assert b"P000" not in b"".join(
            desk.registry.documents.documents_for(one.me.device_id)
        )  # sealed where it is said at all


def test_an_edge_that_has_taken_everything_says_so(desk: Desk) -> None:
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


def test_a_wearable_that_has_taken_everything_says_so(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    desk.registry.unbind(desk.bind(wearable, edge), who="tester")
    desk.deliver(wearable)
    assert wearable.digest == desk.registry.documents.digest_for(wearable.me.device_id)

    desk.clock.advance(15 * DAY)
    desk.renew(wearable)

    assert wearable.digest == desk.registry.documents.digest_for(wearable.me.device_id)


def test_of_what_is_long_over_an_older_state_is_not_taken(desk: Desk) -> None:
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
        edge.take(frame)

    assert edge.provision.directory.binding(binding) is None
    assert edge.digest == desk.registry.documents.digest_for(edge.me.device_id)


def test_documents_of_others_do_not_confuse_an_edge(desk: Desk) -> None:
    edge, far = desk.enrol("edge"), desk.enrol("edge")
    desk.bind(desk.enrol(), far)

    for frame in desk.registry.documents.documents_for(far.me.device_id):
        with contextlib.suppress(Exception):  # those that are sealed to the other
            edge.take(frame)

    assert edge.digest == desk.registry.documents.digest_for(edge.me.device_id)


# Strings


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
def test_a_string_that_no_screen_can_show_is_refused(desk: Desk, text: str) -> None:
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


# Secrets, readers, files


def test_neither_the_database_nor_the_log_holds_a_secret(desk: Desk) -> None:
    invitation = desk.invite("edge")
    keys, later = new_keys(), new_keys()
    request = desk.request(invitation, keys)
    wallet = Wallet.begin(desk.folder / "edge", desk.ask(request), keys, registry=FACTS.url, pin=invitation.pin)
    with refused(403):
        desk.ask(request)
    wallet.renewed(ask_renewal(desk, renewal(desk, wallet, later), desk.peer(wallet)), later)
    desk.bind(desk.enrol(), wallet)
    desk.registry.file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    files = [*desk.registry.file.path.parent.glob("registry.sqlite*"), desk.registry.file.audit.path]
    kept = b"".join(one.read_bytes() for one in files)

    assert token_hash(invitation.token) in kept  # the search finds what is there
    secrets = [invitation.token, *(one.private_bytes_raw() for one in desk.site._control)]
    for one in (keys, later):
        number = one.tls.private_numbers().private_value
        secrets += [one.signing.private_bytes_raw(), one.prekey.private_bytes_raw(), number.to_bytes(32, "big")]
    for secret in secrets:
        assert secret not in kept
        assert secret.hex().encode() not in kept.lower()
    assert b"PRIVATE KEY" not in kept


def test_the_log_holds_no_pseudonym(desk: Desk) -> None:
    binding = desk.bind(desk.enrol(), desk.enrol("edge"), patient="PSEUDONYM-77", bed="BED-99")
    desk.registry.unbind(binding, who="tester")

    log = desk.registry.file.audit.path.read_text(encoding="utf-8")

    assert "PSEUDONYM-77" not in log
    assert "BED-99" not in log


def test_a_reader_sees_everything_and_changes_nothing(desk: Desk) -> None:
    wallet = desk.enrol()
    pending = desk.invite()
    reader = opened(desk, to_read=True)

    enrolment = Enrolment(reader, desk.site.authority, clock=desk.clock)

    with contextlib.closing(reader):
        assert reader.devices() == desk.registry.devices()
        before = everything(desk)
        with pytest.raises(RegistryRefused, match="opened for reading"):
            reader.revoke(wallet.me.device_id, why="", who="tester")
        with pytest.raises(RegistryRefused, match="opened for reading"):
            enrolment.enrol(desk.request(pending), server=desk.server, address="192.0.2.7", mono_ms=0)
        with pytest.raises(RegistryRefused, match="opened for reading"):
            enrolment.invite(wallet.me.device_id, url=FACTS.url, who="tester")

    assert everything(desk) == before


def test_the_version_changes_with_changes_of_others_and_with_own_ones(desk: Desk) -> None:
    reader = opened(desk, to_read=True)
    with contextlib.closing(reader):
        first = reader.file.version
        assert reader.file.version == first
        desk.enrol()
        second = reader.file.version
        reader.file.set_meta("note", "mine")
        third = reader.file.version

    assert len({first, second, third}) == 3


def test_the_database_is_its_owners(desk: Desk) -> None:
    desk.enrol()

    for one in (*desk.registry.file.path.parent.glob("registry.sqlite*"), desk.registry.file.audit.path):
        assert one.stat().st_mode & 0o077 == 0, one


def test_a_file_that_is_no_registry_is_said_to_be_none(tmp_path: Path, desk: Desk) -> None:
    path = tmp_path / "other.sqlite"
    path.write_bytes(b"this is a letter, and a long one. " * 50)

    with pytest.raises(StoreUnusable, match=r"other\.sqlite: is not a registry"):
        Registry(path, control=None, tenant_id=bytes(16), clock=desk.clock)


def test_a_reply_carries_what_was_signed(desk: Desk) -> None:
    invitation = desk.invite()

    reply = desk.ask(desk.request(invitation))

    assert [un64(one) for one in reply.documents] == desk.registry.documents.documents_for(invitation.device_id)
    assert reply.control_keys == [one.public_key().public_bytes_raw().hex() for one in desk.site._control]
    assert (reply.role, reply.alarm_certificate, reply.now_ms) == ("wearable", None, NOW)
