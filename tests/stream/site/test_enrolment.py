"""Enrolment: invitations and tokens, renewals, prekeys, and every request that is refused."""

import contextlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from stream.errors import EnrolmentRefused
from stream.site.enrolment import Enrolment, EnrolmentPolicy
from tests.stream.site.registries import DAY, HOUR, MINUTE, NOW, SECOND, Desk, new_keys
from tests.stream.site.registry_requests import (
    ask_prekey,
    ask_renewal,
    change_signature,
    everything,
    lines,
    opened,
    refused,
    renewal,
    said,
)
from wire.enrol.client import enrol_request, prekey_request, renew_request
from wire.enrol.identity_file import NewKeys
from wire.enrol.requests import (
    EnrolReply,
    EnrolRequest,
    Invitation,
    PrekeyRequest,
    enrol_transcript,
    prekey_transcript,
    proof,
    un64,
)
from wire.enrol.wallet import Wallet

# Enrolment


def test_an_invited_device_enrols(desk: Desk) -> None:
    invitation = desk.invite("edge")

    wallet = desk.enrol("edge", invitation=invitation)

    (row,) = [one for one in desk.registry.devices() if one.device_id == invitation.device_id.hex()]
    assert (row.role, row.enrolled_ms, row.not_after_ms) == ("edge", NOW, NOW + 30 * DAY)
    assert wallet.me.device_id == invitation.device_id
    assert [one.name for one in desk.registry.certificates.all() if one.device_id == row.device_id] == [
        row.device_id,
        f"{row.device_id}-a",
    ]


def test_a_token_is_good_once(desk: Desk) -> None:
    invitation = desk.invite()
    desk.ask(desk.request(invitation))

    with refused(403) as refusal:
        desk.ask(desk.request(invitation))

    assert "ask for a new one" in refusal.problem
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


def test_every_invalid_invitation_gets_the_same_answer(desk: Desk) -> None:
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
        with refused(403) as refusal:
            desk.ask(desk.request(one))
        answers.add(refusal.problem)

    assert len(answers) == 1


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
    return enrol_request(mine, new_keys(), b"the certificate of a man in the middle")


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

    with refused(400) as refusal:
        desk.ask(desk.request(second, keys._replace(tls=new_keys().tls)))

    assert "make new keys" in refusal.problem
    with refused(403):
        desk.ask(desk.request(second))


@pytest.mark.slow
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


def test_an_expired_credential_cannot_renew_and_the_error_names_the_fix(desk: Desk) -> None:
    wallet = desk.enrol()
    desk.clock.advance(30 * DAY + 1)

    with refused(403) as refusal:
        ask_renewal(desk, renewal(desk, wallet), desk.peer(wallet))

    assert f"vitalloom pki renew {wallet.me.device_id.hex()}" in refusal.problem


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
        ask_renewal(desk, renew_request(wallet, new_keys(), b"a man in the middle"), desk.peer(wallet))
    with refused(400):
        ask_renewal(desk, renewal(desk, wallet, used), desk.peer(wallet))
    for serial in ("", "zz", "00" * 8_000):
        with pytest.raises(EnrolmentRefused):
            ask_renewal(desk, replace(renewal(desk, wallet), serial=serial), desk.peer(wallet))


# Prekeys


def test_after_a_new_prekey_others_seal_to_it_and_bindings_are_sealed_again(desk: Desk) -> None:
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
        device_id=edge.me.device_id.hex(),
        serial=serial.hex(),
        prekey_id="00" * 8,
        prekey=point,
        at_ms=NOW,
        present=proof(edge.me.signing_key, transcript),
    )

    with refused(400) as refusal:
        ask_prekey(desk, request, desk.peer(edge))

    assert refusal.problem == "a key is not a key"
    desk.registry.publish_all(who="tester")


def test_a_reply_carries_what_was_signed(desk: Desk) -> None:
    invitation = desk.invite()

    reply = desk.ask(desk.request(invitation))

    assert [un64(one) for one in reply.documents] == desk.registry.documents.documents_for(invitation.device_id)
    assert reply.control_keys == [one.public_key().public_bytes_raw().hex() for one in desk.site._control]
    assert (reply.role, reply.alarm_certificate, reply.now_ms) == ("wearable", None, NOW)
