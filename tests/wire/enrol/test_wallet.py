"""What a device keeps is its owner's alone, survives a power cut, and follows what the data centre says."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import wire.enrol.identity_file
import wire.enrol.kept_documents
from tests.stream.site.registries import DAY, FACTS, HOUR, NOW, SECOND, Desk, new_keys
from tests.wire.sites import UNLIMITED, begin, named, reason
from wire.enrol.authority import key_pem, new_tls_key
from wire.enrol.client import next_keys, renew_request
from wire.enrol.documents import (
    EVERY_DEVICE,
    AssignmentV1,
    BindingV1,
    ControlKeysV1,
    Document,
    DocumentType,
    build_document,
    open_document,
)
from wire.enrol.identity_file import IDENTITY_FILE, NewKeys
from wire.enrol.requests import EnrolReply, b64
from wire.enrol.wallet import PREKEY_KEPT_DAYS, Wallet
from wire.envelope import FrameClass
from wire.errors import EnrolmentFailed, NotEnrolled, Reason, Rejected
from wire.identity import LATE_MS, Role
from wire.receiver import Receiver
from wire.sessions import SendSession

FOREVER = 10_000 * DAY


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.site.close()


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Desk(tmp_path_factory.mktemp("desk"))
    folder = made.enrol("edge").folder
    made.site.close()
    return folder


@pytest.fixture
def folder(enrolled: Path, tmp_path: Path) -> Path:
    """An enrolled edge's, to be damaged."""
    return Path(shutil.copytree(enrolled, tmp_path / "edge"))


class Pair:
    """A wearable on a patient, and the edge that hears it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.edge = desk.enrol("edge")
        self.wearable = desk.enrol()
        self.binding = desk.bind(self.wearable, self.edge)
        self._number = 0
        self.deliver()

    def deliver(self) -> None:
        for one in (self.edge, self.wearable):
            self.desk.deliver(one)

    def session(self, wearable: Wallet | None = None) -> SendSession:
        """The wearable begins one, now."""
        sender = wearable or self.wearable
        assert sender.provision.recipient is not None
        self._number += 1
        return SendSession.open(
            sender.me,
            sender.provision.recipient,
            binding_id=self.binding,
            frame_class=FrameClass.VITALS,
            number=self._number,
            previous=bytes(16),
            now_ms=self.desk.clock.now_ms(),
        )

    def receiver(self) -> Receiver:
        return Receiver(self.edge.me, self.edge.provision.directory, limits=UNLIMITED)


@pytest.fixture
def pair(desk: Desk) -> Pair:
    return Pair(desk)


def known(wallet: Wallet) -> dict[str, Any]:
    """All that a process is given to know, to be compared."""
    provision = wallet.provision
    return {
        "me": (provision.me.device_id, provision.me.role, provision.me.tenant_id, provision.me.credential_serial),
        "until": (provision.me.not_before_ms, provision.me.not_after_ms),
        "signs": provision.me.signing_key.private_bytes_raw(),
        "opens": [(one, key.private_bytes_raw()) for one, key in provision.me.prekeys.items()],
        "senders": sorted(
            (one.device_id, one.role, one.revoked, [(c.serial, c.not_after_ms) for c in one.credentials])
            for one in provision.directory.senders()
        ),
        "bindings": sorted(provision.directory.bindings(), key=lambda one: one.binding_id),
        "to": provision.recipient and (provision.recipient.device_id, provision.recipient.prekey_id),
        "hears": [one.public_bytes_raw() for one in provision.recipient_keys],
        "tls": provision.tls,
        "digest": wallet.digest,
    }


def control(desk: Desk) -> Ed25519PrivateKey:
    """The key that signs documents now."""
    assert desk.site.signers is not None
    return desk.site.signers.control[0]


def signed(desk: Desk, document: Document, *, by: Ed25519PrivateKey | None = None) -> bytes:
    return build_document(by or control(desk), document)


def frame_of(desk: Desk, to: Wallet, kind: DocumentType) -> bytes:
    """What the registry has to say to a device, of one type."""
    (found,) = (one for one in desk.registry.documents.documents_for(to.me.device_id) if one[48] == kind)
    return found


# Beginnings


@pytest.mark.parametrize("role", ["wearable", "edge"])
def test_what_enrolment_gave_is_there_after_a_restart(desk: Desk, role: Role) -> None:
    wallet = desk.enrol(role)

    again = Wallet.load(wallet.folder)

    assert known(again) == known(wallet)
    assert (again.broker, again.registry, again.root_pem) == (wallet.broker, FACTS.url, wallet.root_pem)
    assert again.digest == desk.registry.documents.digest_for(wallet.me.device_id)


def test_a_device_is_what_the_signed_document_says_it_is(desk: Desk) -> None:
    wallet = desk.enrol()

    # 10 minutes back, for clocks at bedsides are slow sometimes.
    assert (wallet.me.not_before_ms, wallet.me.not_after_ms) == (NOW - 600 * SECOND, NOW + 30 * DAY)
    assert wallet.me.tenant_id == bytes.fromhex(FACTS.tenant_id)


def test_an_edge_writes_to_the_data_centre_and_a_wearable_to_nobody_yet(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    ingest = Wallet.load(desk.site.ingest_folder)

    assert edge.provision.recipient is not None
    assert edge.provision.recipient.device_id == ingest.me.device_id
    assert edge.provision.recipient.prekey_id == ingest.me.recipient().prekey_id
    assert edge.provision.recipient_keys == (ingest.me.signing_key.public_key(),)
    assert wearable.provision.recipient is None
    assert wearable.assignment(NOW) is None


def test_a_pair_is_the_same_after_a_restart_and_can_talk(pair: Pair) -> None:
    before = known(pair.edge), known(pair.wearable)

    pair.edge, pair.wearable = Wallet.load(pair.edge.folder), Wallet.load(pair.wearable.folder)
    opened = begin(pair.receiver(), pair.session(), now_ms=NOW)

    assert (known(pair.edge), known(pair.wearable)) == before
    assert opened.sender == pair.wearable.me.device_id


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("role", "janitor", "a role that is not known"),
        ("documents", [], "does not vouch for the new key"),
        ("documents", ["%"], "does not vouch for the new key"),
        ("serial", "00" * 8, "does not vouch for the new key"),
        ("serial", "zz", "does not vouch for the new key"),
        ("device_id", "00" * 16, "does not vouch for the new key"),
        ("control_keys", [], "does not vouch for the new key"),
        ("control_keys", ["00" * 32], "does not vouch for the new key"),
        ("control_keys", ["key"], "cannot be used"),
        ("certificate", "", "cannot be used"),
        ("certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be used"),
        ("alarm_certificate", "none", "cannot be used"),
        ("root", "", "cannot be used"),
        ("tenant_id", "tenant", "cannot be used"),
    ],
)
def test_an_answer_that_does_not_fit_is_not_kept(desk: Desk, key: str, value: object, problem: str) -> None:
    invitation, keys = desk.invite(), new_keys()
    reply = replace(desk.ask(desk.request(invitation, keys)), **{key: value})
    folder = desk.folder / "device"

    with pytest.raises(EnrolmentFailed, match=problem):
        Wallet.begin(folder, reply, keys, registry=FACTS.url, pin=invitation.pin)

    assert list(folder.iterdir()) == []


def test_an_answer_for_other_keys_is_not_kept(desk: Desk) -> None:
    invitation = desk.invite()
    reply = desk.ask(desk.request(invitation))

    with pytest.raises(EnrolmentFailed, match="does not vouch for the new key"):
        Wallet.begin(desk.folder / "device", reply, new_keys(), registry=FACTS.url, pin=invitation.pin)


def test_a_certificate_of_another_key_is_not_kept(desk: Desk) -> None:
    invitation, keys = desk.invite(), new_keys()
    reply = desk.ask(desk.request(invitation, keys))

    with pytest.raises(EnrolmentFailed, match="its certificate is of another key"):
        Wallet.begin(
            desk.folder / "device", reply, keys._replace(tls=new_tls_key()), registry=FACTS.url, pin=invitation.pin
        )


def enrolled_in(folder: Path, desk: Desk, role: Role) -> Wallet:
    invitation, keys = desk.invite(role), new_keys()
    reply = desk.ask(desk.request(invitation, keys))
    return Wallet.begin(folder, reply, keys, registry=FACTS.url, pin=invitation.pin)


def test_a_new_device_in_an_old_folder_knows_nothing_of_the_one_before(pair: Pair) -> None:
    folder = pair.edge.folder

    new = enrolled_in(folder, pair.desk, "wearable")

    for one in (new, Wallet.load(folder)):
        assert one.provision.directory.bindings() == ()
        assert one.digest == pair.desk.registry.documents.digest_for(new.me.device_id)
    assert not (folder / "tls-a.pem").exists()


# Whose files


def files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file())


def test_folders_and_files_are_their_owners_alone(pair: Pair) -> None:
    pair.desk.renew(pair.edge)
    edge = pair.edge.folder

    assert {one.stat().st_mode & 0o777 for one in (edge, edge / "documents")} == {0o700}
    assert {one.stat().st_mode & 0o777 for one in files(edge)} == {0o600}
    assert {one.name for one in files(edge)} > {IDENTITY_FILE, "root.crt", "tls.pem", "tls-a.pem"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o610, 0o666])
@pytest.mark.parametrize("which", [IDENTITY_FILE, "document"])
def test_a_file_that_others_can_reach_is_not_used(folder: Path, which: str, mode: int) -> None:
    path = next((folder / "documents").iterdir()) if which == "document" else folder / which
    path.chmod(mode)

    with pytest.raises(NotEnrolled, match=f"accessible to other users; fix: chmod 600 {path}"):
        Wallet.load(folder)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_a_folder_that_others_can_enter_is_not_used(folder: Path, mode: int) -> None:
    folder.chmod(mode)

    with pytest.raises(NotEnrolled, match=f"chmod 700 {folder}"):
        Wallet.load(folder)


def test_a_link_is_not_an_identity(folder: Path, tmp_path: Path) -> None:
    path = folder / IDENTITY_FILE
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NotEnrolled, match=str(path)):
        Wallet.load(folder)


@pytest.mark.parametrize("exists", [False, True], ids=["no folder", "an empty folder"])
def test_a_device_without_an_identity_is_told_to_enrol(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "device"
    if exists:
        folder.mkdir(mode=0o700)

    with pytest.raises(NotEnrolled, match=f"{folder}: no identity here.*vitalloom enrol --dir {folder}"):
        Wallet.load(folder)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_text("")
    path.chmod(0o600)

    with pytest.raises(NotEnrolled, match=str(path)):
        Wallet.load(path)


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / IDENTITY_FILE).mkdir(mode=0o700)

    with pytest.raises(NotEnrolled, match=r"identity\.json"):
        Wallet.load(tmp_path)


# What is in them


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"not json", b"\xff\xfe", b"[" * 100_000, b'{"device_id": 1}', bytes(2 << 20)],
    ids=["empty", "{}", "[]", "null", "text", "bytes", "nested", "number", "too long"],
)
def test_garbage_is_refused_by_the_name_of_its_file(folder: Path, content: bytes) -> None:
    path = folder / IDENTITY_FILE
    path.write_bytes(content)

    with pytest.raises(NotEnrolled, match=str(path)):
        Wallet.load(path.parent)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        *(lambda facts, key=key: facts.pop(key) for key in wire.enrol.identity_file.IdentityFacts.__struct_fields__),
        lambda facts: facts.update(unknown=1),
        lambda facts: facts.update(device_id="not hex"),
        lambda facts: facts.update(device_id="00" * 15),
        lambda facts: facts.update(device_id="AB" * 16),
        lambda facts: facts.update(device_id="00" * 16 + "\n"),
        lambda facts: facts.update(tenant_id="00" * 17),
        lambda facts: facts.update(role="janitor"),
        lambda facts: facts.update(serial=""),
        lambda facts: facts.update(signing_key="00"),
        lambda facts: facts.update(not_after_ms="never"),
        lambda facts: facts.update(not_after_ms=None),
        lambda facts: facts.update(prekeys=[]),
        lambda facts: facts.update(prekeys={"00": "00"}),
        lambda facts: facts["prekeys"].append({}),
        lambda facts: facts["prekeys"][0].update(key="zz" * 32),
        lambda facts: facts["prekeys"][0].update(id="00"),
        lambda facts: facts["prekeys"][0].update(more=1),
        lambda facts: facts.update(tls_key="-----BEGIN PRIVATE KEY-----"),
        lambda facts: facts.update(tls_key=key_pem(new_tls_key()).decode()),
        lambda facts: facts.update(certificate=""),
        lambda facts: facts.update(certificate=facts["root"]),
        lambda facts: facts.update(certificate=facts["certificate"][:200]),
        lambda facts: facts.update(alarm_certificate=""),
        lambda facts: facts.update(alarm_certificate=facts["root"]),
        lambda facts: facts.update(root="\ud7ff"),
        lambda facts: facts.update(control_keys=[]),
        lambda facts: facts.update(control_keys=["00"]),
        lambda facts: facts.update(retired_control_keys=[1]),
        lambda facts: facts.update(pin="00"),
        lambda facts: facts.update(broker={}),
        lambda facts: facts.update(broker={"host": "broker", "port": "8883"}),
    ],
)
def test_an_identity_that_lacks_or_twists_a_fact_is_refused_by_its_name(folder: Path, change: Change) -> None:
    path = folder / IDENTITY_FILE
    facts = json.loads(path.read_bytes())
    change(facts)
    path.write_text(json.dumps(facts))

    with pytest.raises(NotEnrolled, match=f"{path}: is not an identity"):
        Wallet.load(path.parent)


@pytest.mark.parametrize("end", ["*", "", "0"], ids=["another character", "one less", "one more"])
@pytest.mark.parametrize("which", ["signing_key", "prekey", "tls_key"])
def test_no_refusal_shows_a_private_key(folder: Path, caplog: pytest.LogCaptureFixture, which: str, end: str) -> None:
    path = folder / IDENTITY_FILE
    facts = json.loads(path.read_bytes())
    key = facts["prekeys"][0]["key"] if which == "prekey" else facts[which].strip().splitlines()[-2:][0]
    path.write_text(path.read_text().replace(key, (key if end == "0" else key[:-1]) + end))

    with caplog.at_level(logging.DEBUG), pytest.raises(NotEnrolled) as caught:
        Wallet.load(path.parent)

    told = f"{caught.value} {caught.value.__cause__} {caplog.text}"
    assert not any(key[at : at + 12] in told for at in range(len(key) - 12))


def test_a_wallet_does_not_print_its_keys(enrolled: Path) -> None:
    wallet = Wallet.load(enrolled)

    assert wallet.me.signing_key.private_bytes_raw().hex() not in f"{wallet!r} {wallet.me!r} {wallet.provision!r}"


@pytest.mark.parametrize("damage", [b"", b"\0" * 200, None], ids=["empty", "zeros", "cut"])
def test_a_damaged_document_is_asked_for_again(
    pair: Pair, caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    for path in (pair.edge.folder / "documents").iterdir():
        path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)

    again = Wallet.load(pair.edge.folder)

    assert "a kept document cannot be used" in caplog.text
    assert again.digest != pair.desk.registry.documents.digest_for(again.me.device_id)
    pair.desk.deliver(again)
    assert known(again) == known(pair.edge)


# Documents


def test_what_is_said_again_says_nothing_new(pair: Pair) -> None:
    before = pair.edge.changes, known(pair.edge)

    taken = [pair.edge.accept(one) for one in pair.desk.registry.documents.documents_for(pair.edge.me.device_id)]

    assert taken == [None] * 6  # itself, the data centre, the assignment, the binding, the wearable, the keys
    assert (pair.edge.changes, known(pair.edge)) == before


def test_an_older_state_is_not_taken_whoever_brings_it(pair: Pair) -> None:
    valid = frame_of(pair.desk, pair.edge, DocumentType.BINDING)
    pair.desk.registry.unbind(pair.binding, who="tester")
    pair.deliver()
    before = known(pair.edge)

    assert pair.edge.accept(valid) is None
    assert known(pair.edge) == before
    assert Wallet.load(pair.edge.folder).accept(valid) is None


def test_version_zero_is_never_news(desk: Desk) -> None:
    wallet = desk.enrol()
    document = Document(
        DocumentType.CONTROL_KEYS, named("s"), 0, NOW, EVERY_DEVICE, ControlKeysV1(keys=(named("k", 32),))
    )

    assert wallet.accept(signed(desk, document)) is None


def test_a_new_state_raises_the_changes_once(pair: Pair) -> None:
    changes = pair.edge.changes
    pair.desk.registry.unbind(pair.binding, who="tester")

    pair.desk.deliver(pair.edge)

    assert pair.edge.changes == changes + 2  # the binding, and the assignment to be passed on


def test_a_revoked_wearable_is_heard_no_more_at_once(pair: Pair) -> None:
    session, receiver = pair.session(), pair.receiver()
    begin(receiver, session, now_ms=NOW)
    pair.desk.registry.revoke(pair.wearable.me.device_id, why="stolen", who="tester")

    pair.desk.deliver(pair.edge)

    assert reason(receiver, session.seal(b"SpO2 96")[1], now_ms=NOW) is Reason.REVOKED
    assert reason(receiver, pair.session().frame, now_ms=NOW) is Reason.REVOKED
    pair.edge = Wallet.load(pair.edge.folder)
    assert reason(pair.receiver(), pair.session().frame, now_ms=NOW) is Reason.REVOKED


def test_a_revocation_is_in_force_even_if_the_disk_is_full(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pair.desk.registry.revoke(pair.wearable.me.device_id, why="stolen", who="tester")
    replace_writes(monkeypatch, full)

    pair.desk.deliver(pair.edge)

    assert reason(pair.receiver(), pair.session().frame, now_ms=NOW) is Reason.REVOKED
    assert "could not be kept" in caplog.text


def test_a_device_notices_that_it_is_revoked_itself(pair: Pair) -> None:
    assert not pair.edge.is_revoked
    pair.desk.registry.revoke(pair.edge.me.device_id, why="stolen", who="tester")

    pair.desk.deliver(pair.edge)

    assert pair.edge.is_revoked
    assert Wallet.load(pair.edge.folder).is_revoked


def test_after_a_renewal_both_credentials_are_good_for_a_day(pair: Pair) -> None:
    #   old |------------------|------- a day -------|
    #   new                    |------------------------------- ...
    old = [pair.session() for _ in range(3)]
    pair.desk.renew(pair.wearable)
    pair.desk.deliver(pair.edge)
    new, receiver = pair.session(), pair.receiver()

    begin(receiver, old[0], now_ms=NOW)
    begin(receiver, old[1], now_ms=NOW + DAY)
    assert reason(receiver, old[2].frame, now_ms=NOW + DAY + 1) is Reason.CREDENTIAL
    begin(receiver, new, now_ms=NOW + DAY + 1)


def test_before_the_edge_has_heard_of_it_a_new_credential_is_nobodys(pair: Pair) -> None:
    pair.desk.renew(pair.wearable)

    assert reason(pair.receiver(), pair.session().frame, now_ms=NOW) is Reason.CREDENTIAL


def test_a_wearable_seals_to_its_edges_new_prekey(pair: Pair) -> None:
    pair.desk.renew(pair.edge)
    newest = pair.edge.me.recipient().prekey_id
    before = pair.session()

    pair.desk.deliver(pair.wearable)
    after = pair.session()

    assert before.info.prekey_id != newest == after.info.prekey_id
    receiver = pair.receiver()
    begin(receiver, before, now_ms=NOW)  # with the prekey of yesterday
    begin(receiver, after, now_ms=NOW)


def test_an_edge_that_is_renewed_signs_with_a_key_that_its_wearable_learns(pair: Pair) -> None:
    old = pair.edge.me.signing_key.public_key()
    pair.desk.renew(pair.edge)
    pair.desk.deliver(pair.wearable)

    known_now = pair.wearable.device(pair.edge.me.device_id)

    assert known_now is not None
    assert known_now.keys == (pair.edge.me.signing_key.public_key(), old)  # the newest first
    assert pair.wearable.provision.recipient_keys == known_now.keys


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=st.binary(max_size=300), cut=st.integers(0, 400))
def test_whatever_arrives_is_a_document_or_refused(pair: Pair, frame: bytes, cut: int) -> None:
    genuine = frame_of(pair.desk, pair.edge, DocumentType.BINDING)
    before = known(pair.edge)

    for one in (frame, genuine[:cut], genuine[:cut] + frame):
        if one != genuine:
            with pytest.raises(Rejected):
                pair.edge.accept(one)

    assert known(pair.edge) == before


@pytest.mark.parametrize("text", ["%", "YQ", "YQ==", "ä"])
def test_documents_of_an_answer_are_refused_like_any_other(desk: Desk, text: str) -> None:
    with pytest.raises(Rejected):
        desk.enrol().accept_all([text])


# For whom


def test_an_edge_keeps_assignments_to_pass_on_and_does_not_apply_them(desk: Desk) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    binding = desk.bind(wearable, edge)
    assignment = frame_of(desk, edge, DocumentType.ASSIGNMENT)

    edge.accept(assignment)

    assert edge.provision.directory.bindings() == ()
    for one in (edge, Wallet.load(edge.folder)):
        assert one.frame(DocumentType.ASSIGNMENT, binding) == assignment
        assert one.provision.directory.bindings() == ()


def test_what_an_edge_passes_on_its_wearable_takes(pair: Pair) -> None:
    wearable = Wallet.load(pair.wearable.folder)
    pair.desk.registry.unbind(pair.binding, who="tester")
    pair.desk.deliver(pair.edge)
    passed_on = pair.edge.frame(DocumentType.ASSIGNMENT, pair.binding)
    assert passed_on is not None

    wearable.accept(passed_on)

    assert wearable.assignment(pair.desk.clock.now_ms()) is None


def test_a_wearable_refuses_the_assignment_of_another(pair: Pair) -> None:
    other = pair.desk.enrol()

    with pytest.raises(Rejected) as caught:
        other.accept(frame_of(pair.desk, pair.wearable, DocumentType.ASSIGNMENT))

    assert caught.value.reason is Reason.RECIPIENT
    assert other.provision.directory.bindings() == ()


def test_a_binding_of_another_edge_stays_closed(pair: Pair) -> None:
    other = pair.desk.enrol("edge")

    with pytest.raises(Rejected) as caught:
        other.accept(frame_of(pair.desk, pair.edge, DocumentType.BINDING))

    assert caught.value.reason is Reason.PREKEY


def test_a_binding_of_another_edge_is_refused_even_if_it_is_open(pair: Pair) -> None:
    content = open_document(
        frame_of(pair.desk, pair.edge, DocumentType.BINDING),
        wire.enrol.identity_file.keys_by_id(pair.edge._facts.control_keys),
        prekeys=pair.edge.me.prekeys,
    ).content
    assert isinstance(content, BindingV1)
    document = Document(DocumentType.BINDING, pair.binding, 2**63, NOW, pair.edge.me.device_id, content)

    with pytest.raises(Rejected) as caught:
        pair.desk.enrol("edge").accept(signed(pair.desk, document))

    assert caught.value.reason is Reason.RECIPIENT


def test_a_document_of_another_site_is_refused(desk: Desk, tmp_path: Path) -> None:
    elsewhere = Desk(tmp_path / "elsewhere")
    stranger = elsewhere.enrol()

    with pytest.raises(Rejected) as caught:
        desk.enrol("edge").accept(frame_of(elsewhere, stranger, DocumentType.DEVICE))

    elsewhere.site.close()
    assert caught.value.reason is Reason.UNKNOWN_SENDER


# Who is on whom


def assigned(desk: Desk, wearable: Wallet, name: str, from_ms: int, to_ms: int | None = None) -> None:
    """The wearable takes an assignment."""
    content = AssignmentV1(binding_id=named(name), edge_id=named("edge"), valid_from_ms=from_ms, valid_to_ms=to_ms)
    document = Document(DocumentType.ASSIGNMENT, named(name), 1, NOW, wearable.me.device_id, content)
    assert wearable.accept(signed(desk, document)) is not None


@pytest.mark.parametrize(
    ("now_ms", "name"),
    [
        (NOW - 1, None),
        (NOW, "first"),
        (NOW + HOUR - 1, "first"),
        (NOW + HOUR, None),  # ended
        (NOW + 2 * HOUR - 1, None),
        (NOW + 2 * HOUR, "second"),  # was in the future
        (NOW + 3 * HOUR - 1, "second"),
        (NOW + 3 * HOUR, "third"),  # two are open: the newer one counts
        (NOW + FOREVER, "third"),
    ],
)
def test_a_wearable_is_on_the_patient_of_the_hour(desk: Desk, now_ms: int, name: str | None) -> None:
    #   first  |----|
    #   second           |-----------------
    #   third                 |------------
    #          0    1    2    3 h
    wearable = desk.enrol()
    assigned(desk, wearable, "third", NOW + 3 * HOUR)
    assigned(desk, wearable, "first", NOW, NOW + HOUR)
    assigned(desk, wearable, "second", NOW + 2 * HOUR)

    found = wearable.assignment(now_ms)

    assert (found and found.binding_id) == (name and named(name))


def test_a_wearable_knows_no_patient(pair: Pair) -> None:
    (binding,) = pair.wearable.provision.directory.bindings()

    assert (binding.binding_id, binding.patient, binding.bed) == (pair.binding, "", "")
    assert not any(b"P0001" in one.read_bytes() for one in files(pair.wearable.folder))


def test_an_edge_keeps_its_patients_sealed_on_disk(pair: Pair) -> None:
    (binding,) = pair.edge.provision.directory.bindings()

    assert (binding.patient, binding.bed, binding.wearable_id) == ("P0001", "1", pair.wearable.me.device_id)
    assert not any(b"P0001" in one.read_bytes() for one in files(pair.edge.folder))


def test_a_wearable_that_changes_its_edge_writes_to_the_new_one(pair: Pair) -> None:
    pair.desk.registry.unbind(pair.binding, who="tester")
    other = pair.desk.enrol("edge")
    pair.desk.clock.advance(SECOND)
    pair.desk.bind(pair.wearable, other)

    pair.desk.deliver(pair.wearable)

    for one in (pair.wearable, Wallet.load(pair.wearable.folder)):
        assert one.provision.recipient is not None
        assert one.provision.recipient.device_id == other.me.device_id
        assert one.device(pair.edge.me.device_id) is not None  # its answers still count


@pytest.mark.parametrize(("late_ms", "is_known"), [(0, True), (LATE_MS, True), (LATE_MS + 1, False)])
def test_a_binding_is_forgotten_two_weeks_after_its_end(pair: Pair, late_ms: int, is_known: bool) -> None:
    pair.desk.registry.unbind(pair.binding, who="tester")
    pair.deliver()

    for one in (pair.edge, pair.wearable):
        one.forget_old(NOW + late_ms)

    assert [bool(one.provision.directory.bindings()) for one in (pair.edge, pair.wearable)] == [is_known] * 2


def test_an_open_binding_is_never_forgotten(pair: Pair) -> None:
    pair.edge.forget_old(NOW + FOREVER)

    assert len(pair.edge.provision.directory.bindings()) == 1


def test_weeks_after_a_patient_went_home_both_sides_still_agree(pair: Pair) -> None:
    #   |-- bound --|-------- 14 days --------|-- renewal
    pair.desk.registry.unbind(pair.binding, who="tester")
    pair.deliver()
    pair.desk.clock.advance(LATE_MS + 7 * DAY)
    pair.desk.renew(pair.edge)

    assert pair.edge.digest == pair.desk.registry.documents.digest_for(pair.edge.me.device_id)
    assert Wallet.load(pair.edge.folder).digest == pair.edge.digest


# Control keys


def test_documents_that_the_key_before_has_signed_are_still_read(pair: Pair) -> None:
    pair.desk.site.renew_control(who="tester")

    pair.edge.accept(frame_of(pair.desk, pair.edge, DocumentType.CONTROL_KEYS))

    again = Wallet.load(pair.edge.folder)
    assert known(again) == known(pair.edge)
    assert len(again.provision.directory.bindings()) == 1


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_the_key_before_signs_nothing_new(pair: Pair, rotations: int) -> None:
    before = control(pair.desk)
    for _ in range(rotations):
        pair.desk.site.renew_control(who="tester")
        pair.deliver()
    document = Document(
        DocumentType.CONTROL_KEYS,
        EVERY_DEVICE,
        2**63,
        NOW,
        EVERY_DEVICE,
        ControlKeysV1(keys=(before.public_key().public_bytes_raw(),)),
    )

    for one in (pair.edge, Wallet.load(pair.edge.folder)):
        with pytest.raises(Rejected) as caught:
            one.accept(signed(pair.desk, document, by=before))
        assert caught.value.reason is Reason.UNKNOWN_SENDER


def test_a_device_follows_one_change_of_the_control_keys_after_another(pair: Pair) -> None:
    for _ in range(4):
        pair.desk.site.renew_control(who="tester")
        pair.deliver()
        pair.edge = Wallet.load(pair.edge.folder)

        assert pair.edge.digest == pair.desk.registry.documents.digest_for(pair.edge.me.device_id)

    assert begin(pair.receiver(), pair.session(), now_ms=NOW).sender == pair.wearable.me.device_id


def test_a_device_that_missed_two_changes_believes_nobody_any_more(pair: Pair) -> None:
    pair.desk.site.renew_control(who="tester")
    pair.desk.site.renew_control(who="tester")

    with pytest.raises(Rejected) as caught:
        pair.desk.deliver(pair.edge)

    assert caught.value.reason is Reason.UNKNOWN_SENDER


# Prekeys


def new_prekey(wallet: Wallet, now_ms: int, name: str = "new") -> bytes:
    wallet.add_prekey(named(name, 8), X25519PrivateKey.generate(), now_ms=now_ms)
    return named(name, 8)


def announced(desk: Desk, wallet: Wallet) -> None:
    """The registry has heard of the newest prekey, and the device of that."""
    registry, (prekey_id, prekey) = desk.registry, next(reversed(wallet.me.prekeys.items()))
    with registry.file.change("prekey", who="tester", subject=wallet.me.device_id.hex()):
        desk.enrolment._put_prekey(wallet.me.device_id, prekey_id, prekey.public_key().public_bytes_raw())
        registry.publish_device(wallet.me.device_id)
    desk.deliver(wallet)


@pytest.mark.parametrize(("age_ms", "wants"), [(0, False), (7 * DAY - 1, False), (7 * DAY, True)])
def test_a_prekey_is_good_for_a_week(desk: Desk, age_ms: int, wants: bool) -> None:
    assert desk.enrol("edge").wants_prekey(NOW + age_ms) is wants


def test_a_new_prekey_is_on_disk_before_anybody_hears_of_it(desk: Desk) -> None:
    edge = desk.enrol("edge")
    assert edge.unannounced is None

    prekey_id = new_prekey(edge, NOW)

    for one in (edge, Wallet.load(edge.folder)):
        assert one.me.recipient().prekey_id == prekey_id
        assert one.unannounced is not None
        assert one.unannounced[0] == prekey_id
        assert one.wants_prekey(NOW)  # until it is heard of


def test_an_announced_prekey_is_news_no_more(desk: Desk) -> None:
    edge = desk.enrol("edge")
    new_prekey(edge, NOW)

    announced(desk, edge)

    assert edge.unannounced is None
    assert not edge.wants_prekey(NOW)


def test_a_prekey_that_cannot_be_kept_is_not_used(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = desk.enrol("edge")
    before = known(edge)

    with monkeypatch.context() as patched:
        replace_writes(patched, cut(0))
        with pytest.raises(PowerCut):
            new_prekey(edge, NOW)

    assert known(edge) == known(Wallet.load(edge.folder)) == before
    assert edge.unannounced is None


def test_what_was_recorded_can_be_opened_by_nobody_after_sixty_days(pair: Pair) -> None:
    session, receiver = pair.session(), pair.receiver
    first = pair.edge.me.recipient().prekey_id
    new_prekey(pair.edge, NOW + 7 * DAY)
    announced(pair.desk, pair.edge)

    pair.edge.forget_old(NOW + PREKEY_KEPT_DAYS * DAY - 1)
    begin(receiver(), session, now_ms=NOW)
    pair.edge.forget_old(NOW + PREKEY_KEPT_DAYS * DAY)

    assert reason(receiver(), session.frame, now_ms=NOW) is Reason.PREKEY
    assert first.hex() not in (pair.edge.folder / IDENTITY_FILE).read_text()
    assert list(Wallet.load(pair.edge.folder).me.prekeys) == [named("new", 8)]


def test_the_newest_prekey_is_never_destroyed(desk: Desk) -> None:
    edge = desk.enrol("edge")
    before = known(edge)

    edge.forget_old(NOW + FOREVER)

    assert known(edge) == before


def test_nor_is_the_one_that_everybody_seals_to(pair: Pair) -> None:
    # The registry could not be reached for two months: it has not heard of the newest.
    new_prekey(pair.edge, NOW + 7 * DAY)

    pair.edge.forget_old(NOW + 100 * DAY)

    begin(pair.receiver(), pair.session(), now_ms=NOW)
    assert len(Wallet.load(pair.edge.folder).me.prekeys) == 2


def test_bindings_can_be_read_after_the_prekey_of_their_beginning_is_gone(pair: Pair) -> None:
    for week in range(1, 11):
        new_prekey(pair.edge, NOW + week * 7 * DAY, f"week {week}")
        announced(pair.desk, pair.edge)
        pair.edge.forget_old(NOW + week * 7 * DAY)

    again = Wallet.load(pair.edge.folder)

    assert 8 <= len(again.me.prekeys) <= 9  # 60 days of them
    assert [one.binding_id for one in again.provision.directory.bindings()] == [pair.binding]


# Renewal


@pytest.mark.parametrize(
    ("after_ms", "wants"), [(0, False), (14 * DAY, False), (15 * DAY - 10 * 60 * SECOND, False), (15 * DAY, True)]
)
def test_a_device_asks_for_a_renewal_at_day_20(desk: Desk, after_ms: int, wants: bool) -> None:
    assert desk.enrol().wants_renewal(NOW + after_ms) is wants


def test_a_renewed_device_is_as_good_as_new(pair: Pair) -> None:
    serial, signs = pair.edge.me.credential_serial, pair.edge.me.signing_key
    prekey_id, client = pair.edge.me.recipient().prekey_id, pair.edge.tls.client.read_bytes()
    pair.desk.clock.advance(20 * DAY)

    pair.desk.renew(pair.edge)

    now_ms = pair.desk.clock.now_ms()
    assert pair.edge.me.credential_serial != serial
    assert pair.edge.me.signing_key.private_bytes_raw() != signs.private_bytes_raw()
    assert pair.edge.me.not_after_ms == now_ms + 30 * DAY
    assert not pair.edge.wants_renewal(now_ms)
    assert not pair.edge.wants_prekey(now_ms)
    assert next(iter(pair.edge.me.prekeys)) == prekey_id  # what is on its way can still be opened
    assert pair.edge.tls.client.read_bytes() != client
    assert known(Wallet.load(pair.edge.folder)) == known(pair.edge)
    assert pair.edge.digest == pair.desk.registry.documents.digest_for(pair.edge.me.device_id)


def answered(desk: Desk, wallet: Wallet) -> tuple[EnrolReply, NewKeys]:
    """An hour later the device asks for a renewal, and the registry has answered."""
    desk.clock.advance(HOUR)
    if wallet.unannounced is None:
        new_prekey(wallet, desk.clock.now_ms(), f"at {desk.clock.now_ms()}")
    keys = next_keys(wallet)
    reply = desk.enrolment.renew(
        renew_request(wallet, keys, desk.server),
        peer=desk.peer(wallet),
        server=desk.server,
        address="192.0.2.7",
        mono_ms=desk.clock.mono_ms(),
    )
    return reply, keys


@pytest.mark.parametrize(
    ("key", "value"), [("documents", []), ("certificate", ""), ("serial", "00" * 8), ("alarm_certificate", "none")]
)
def test_a_renewal_that_does_not_fit_changes_nothing(pair: Pair, key: str, value: object) -> None:
    reply, keys = answered(pair.desk, pair.edge)
    before, client = known(pair.edge), pair.edge.tls.client.read_bytes()

    with pytest.raises(EnrolmentFailed):
        pair.edge.renewed(replace(reply, **{key: value}), keys)

    assert known(pair.edge) == known(Wallet.load(pair.edge.folder)) == before
    assert pair.edge.tls.client.read_bytes() == client


def test_an_edge_whose_answer_was_lost_hears_its_wearables_all_the_while(pair: Pair) -> None:
    for _ in range(4):
        answered(pair.desk, pair.edge)
        pair.deliver()  # the data centre, and with it the wearable, seal to the new prekey from now on

        now_ms = pair.desk.clock.now_ms()
        begin(pair.receiver(), pair.session(), now_ms=now_ms)
        assert pair.edge.provision.directory.binding(pair.binding) is not None

    pair.edge.renewed(*answered(pair.desk, pair.edge))
    assert pair.edge.digest == pair.desk.registry.documents.digest_for(pair.edge.me.device_id)
    assert known(Wallet.load(pair.edge.folder)) == known(pair.edge)
    kept = [one["id"] for one in json.loads((pair.edge.folder / IDENTITY_FILE).read_bytes())["prekeys"]]
    assert len(kept) == len(set(kept))


@pytest.mark.parametrize(
    ("left_ms", "sentence"),
    [
        (30 * DAY, None),
        (7 * DAY + 1, None),
        (7 * DAY, "certificate of edge {id} expires in 7 days and could not be renewed: is {url} reachable?"),
        (2 * DAY, "certificate of edge {id} expires in 2 days and could not be renewed: is {url} reachable?"),
        (HOUR, "certificate of edge {id} expires in 1 hour and could not be renewed: is {url} reachable?"),
        (0, "certificate of edge {id} expired 0 hours ago: run `vitalloom pki renew {id}`"),
        (-23 * HOUR, "certificate of edge {id} expired 23 hours ago: run `vitalloom pki renew {id}`"),
        (-DAY, "certificate of edge {id} expired 1 day ago: run `vitalloom pki renew {id}`"),
        (-2 * DAY, "certificate of edge {id} expired 2 days ago: run `vitalloom pki renew {id}`"),
    ],
)
def test_a_certificate_that_ends_is_a_sentence_with_a_cure(enrolled: Path, left_ms: int, sentence: str | None) -> None:
    wallet = Wallet.load(enrolled)
    wanted = sentence and sentence.format(id=wallet.me.device_id.hex(), url=FACTS.url)

    assert wallet.expiry(NOW + 30 * DAY - left_ms) == wanted


# TLS files


def in_file(path: Path) -> tuple[list[str], bytes]:
    """Names of the certificates in a file, and the public key of its private one."""
    text = path.read_bytes()
    names = [one.subject.rfc4514_string() for one in x509.load_pem_x509_certificates(text)]
    return names, load_pem_private_key(text, None).public_key().public_bytes_raw()  # type: ignore[union-attr]


def test_an_edge_has_a_certificate_for_each_lane(desk: Desk) -> None:
    edge = desk.enrol("edge")
    name = edge.me.device_id.hex()

    certificates = [
        x509.load_pem_x509_certificates(path.read_bytes()) for path in (edge.tls.client, edge.tls.alarm) if path
    ]

    assert [chain[0].subject.rfc4514_string() for chain in certificates] == [f"CN={name}", f"CN={name}-a"]
    assert {chain[1] for chain in certificates} == {desk.site.authority.issuing}
    assert x509.load_pem_x509_certificate(edge.tls.root.read_bytes()) == desk.site.authority.root


def test_a_wearable_has_one_certificate(desk: Desk) -> None:
    wearable = desk.enrol()

    assert wearable.tls.alarm is None
    assert wearable.certificate.subject.rfc4514_string() == f"CN={wearable.me.device_id.hex()}"


@pytest.mark.parametrize("damage", [None, b"", b"garbage"], ids=["lost", "empty", "garbage"])
@pytest.mark.parametrize("name", ["root.crt", "tls.pem", "tls-a.pem"])
def test_tls_files_are_made_anew_from_the_identity(folder: Path, name: str, damage: bytes | None) -> None:
    path = folder / name
    before = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)

    Wallet.load(path.parent)

    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


# Power cuts


class PowerCut(BaseException):
    """Nothing runs any more."""


def cut(after: int) -> Callable[..., None]:
    """Writes so many files, then the power is gone."""
    left = after

    def write(path: Path, data: bytes, *, durable: bool = True) -> None:
        nonlocal left
        if left == 0:
            raise PowerCut
        left -= 1
        write_private(path, data, durable=durable)

    return write


write_private = wire.enrol.identity_file.write_private


def replace_writes(patched: pytest.MonkeyPatch, write: Callable[..., None]) -> None:
    """Every file that a wallet writes is written by this function."""
    for module in (wire.enrol.identity_file, wire.enrol.kept_documents):
        patched.setattr(module, "write_private", write)


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int, work: Callable[[], object]) -> bool:
    """Whether the power was gone before the work was done."""
    with monkeypatch.context() as patched:
        replace_writes(patched, cut(after))
        try:
            work()
        except PowerCut:
            return True
    return False


def test_a_power_cut_during_enrolment_leaves_no_identity_or_the_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, outcomes = 0, []
    while True:
        invitation, keys = desk.invite("edge"), new_keys()
        reply, folder = desk.ask(desk.request(invitation, keys)), desk.folder / f"cut {after}"

        was_cut = interrupted(
            monkeypatch,
            after,
            lambda: Wallet.begin(folder, reply, keys, registry=FACTS.url, pin=invitation.pin),  # noqa: B023
        )

        try:
            wallet = Wallet.load(folder)
            desk.deliver(wallet)
            assert wallet.digest == desk.registry.documents.digest_for(wallet.me.device_id)
            outcomes.append(True)
        except NotEnrolled:
            outcomes.append(False)
        if not was_cut:
            break
        after += 1

    # Nothing; then the identity, three files for TLS, three documents, and in the end no cut.
    assert outcomes == [False] + [True] * 7


def test_a_power_cut_during_a_renewal_leaves_the_old_identity_or_the_new_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, outcomes = 0, []
    while True:
        edge = Wallet.load(pair.edge.folder)
        old = edge.me.credential_serial
        reply, keys = answered(pair.desk, edge)

        was_cut = interrupted(monkeypatch, after, lambda: edge.renewed(reply, keys))  # noqa: B023

        pair.edge = Wallet.load(edge.folder)
        assert pair.edge.me.credential_serial in (old, bytes.fromhex(reply.serial))
        tls = pair.edge.tls.client.read_text()
        assert (reply.certificate in tls) is (pair.edge.me.credential_serial != old)
        outcomes.append(pair.edge.me.credential_serial != old)
        pair.deliver()
        assert pair.edge.digest == pair.desk.registry.documents.digest_for(pair.edge.me.device_id)
        begin(pair.receiver(), pair.session(), now_ms=NOW)
        if not was_cut:
            break
        after += 1

    assert outcomes[0] is False
    assert len(outcomes) > 4
    assert all(outcomes[1:])


def test_a_power_cut_while_documents_come_costs_no_more_than_asking_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    #   new control keys, signed by the key before | the same again after the cut | and the next ones
    for after in range(8):
        edge = Wallet.load(pair.edge.folder)
        pair.desk.site.renew_control(who="tester")

        interrupted(monkeypatch, after, lambda: pair.desk.deliver(edge))  # noqa: B023

        again = Wallet.load(edge.folder)
        pair.desk.deliver(again)
        assert again.digest == pair.desk.registry.documents.digest_for(again.me.device_id), after


def test_new_control_keys_are_kept_before_the_document_that_names_them(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With the document alone on disk the device would think that it knew them, and lose the ones after them.
    pair.desk.site.renew_control(who="tester")
    told = frame_of(pair.desk, pair.edge, DocumentType.CONTROL_KEYS)

    interrupted(monkeypatch, 1, lambda: pair.edge.accept(told))
    again = Wallet.load(pair.edge.folder)
    again.accept(told)
    pair.desk.site.renew_control(who="tester")
    pair.desk.deliver(again)

    assert again.digest == pair.desk.registry.documents.digest_for(again.me.device_id)


def test_nothing_unfinished_is_taken_for_a_document(pair: Pair) -> None:
    (pair.edge.folder / "documents" / ".1-00.doc.1.new").write_bytes(b"half of it")

    assert known(Wallet.load(pair.edge.folder)) == known(pair.edge)


def test_documents_of_an_answer_come_as_base64(pair: Pair) -> None:
    pair.desk.registry.unbind(pair.binding, who="tester")

    pair.edge.accept_all(b64(one) for one in pair.desk.registry.documents.documents_for(pair.edge.me.device_id))

    assert pair.edge.digest == pair.desk.registry.documents.digest_for(pair.edge.me.device_id)
