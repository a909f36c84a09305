"""A device goes to the registry of its invitation and to no other, and whoever else answers learns nothing."""

import contextlib
import io
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

import wire.enrol.client
from runtime.clock import SystemClock
from runtime.errors import NotPrivate
from simulators.broker import free_port
from stream.site.enrolment import EnrolmentPolicy
from tests.patience import PATIENCE_S
from tests.stream.servers import serving
from tests.stream.site.registries import NOW, Desk, new_keys
from wire.enrol.authority import Authority, key_pem, new_tls_key, pem
from wire.enrol.client import announce_prekey, ask_renewal, enrol, enrol_request, main
from wire.enrol.requests import Invitation
from wire.enrol.wallet import IDENTITY_FILE, Wallet
from wire.errors import BadInvitation, EnrolmentFailed, NotEnrolled

GENEROUS = EnrolmentPolicy(tries_per_min=1e6, bad_tokens=10**6)
WITHIN_S = 10.0


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk"), policy=GENEROUS, wall=SystemClock())
    yield made
    made.site.close()


@pytest.fixture(scope="module")
def port(desk: Desk) -> Iterator[int]:
    with serving(desk) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def at(invitation: Invitation, port: int) -> Invitation:
    """The invitation, for a registry on this port."""
    return invitation._replace(url=f"https://127.0.0.1:{port}")


def is_still_good(desk: Desk, invitation: Invitation) -> bool:
    """Whether the token was not used by anybody."""
    return desk.ask(desk.request(invitation)).device_id == invitation.device_id.hex()


# Somebody on a port

Answers = Callable[[bytes], bytes | None]


class Somebody:
    """Answers on a port as it is told, remembers what it heard, and lets nobody go who gets no answer."""

    def __init__(self, answers: Answers, tls: ssl.SSLContext | None) -> None:
        self.heard: list[bytes] = []
        self._answers = answers
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="somebody")]

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def __enter__(self) -> "Somebody":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._threads:
            one.join(PATIENCE_S)
            assert not one.is_alive()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                plain.settimeout(PATIENCE_S)
                self._threads.append(threading.Thread(target=self._serve, args=(plain,), name="somebody"))
                self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            talking = plain if self._tls is None else self._tls.wrap_socket(plain, server_side=True)
            with talking:
                asked = self._request(talking)
                self.heard.append(asked)
                answer = self._answers(asked)
                if answer is None:
                    self._stop.wait(PATIENCE_S)
                else:
                    talking.sendall(answer)

    def _request(self, sock: socket.socket) -> bytes:
        if self._tls is None:
            return sock.recv(65_536)
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += sock.recv(65_536) or b"\r\n\r\n"
        head, _, body = asked.partition(b"\r\n\r\n")
        length = next((int(one[15:]) for one in head.split(b"\r\n") if one.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            body += sock.recv(65_536)
        return head + b"\r\n\r\n" + body


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def shows(chain: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def a_chain(path: Path, authority: Authority, *hosts: str, days: float = 1, ago: timedelta = timedelta()) -> Path:
    """A server certificate of an authority with its key, one file."""
    key = new_tls_key()
    made = authority.server(key.public_key(), hosts=hosts or ("127.0.0.1",), at=datetime.now(UTC) - ago, days=days)
    path.write_bytes(pem(made) + pem(authority.issuing) + key_pem(key))
    return path


def answering(root: bytes, then: bytes | None = b"") -> Answers:
    """Gives everybody this root, and has one answer for everything else."""
    return lambda asked: http(root) if asked.startswith(b"GET /v1/root") else then


def visited(desk: Desk, folder: Path, answers: Answers, tls: ssl.SSLContext | None, *, says: str) -> list[bytes]:
    """A device finds somebody where its registry should be, says this, and leaves; what somebody was told."""
    with Somebody(answers, tls) as somebody:
        invitation = at(desk.invite(), somebody.port)
        with pytest.raises(EnrolmentFailed, match=says) as caught:
            enrol(invitation, folder)
    told = b"".join(somebody.heard)
    assert invitation.url in str(caught.value)
    assert invitation.token.hex().encode() not in told
    assert invitation.device_id.hex().encode() not in told
    assert not (folder / IDENTITY_FILE).exists()
    return [one.split(b" HTTP")[0] for one in somebody.heard]


ASKED_FOR_THE_ROOT = [b"GET /v1/root"]


# At the right door


@pytest.mark.parametrize("role", ["wearable", "edge"])
def test_a_device_enrols_and_its_identity_is_there_after_a_restart(
    desk: Desk, port: int, folder: Path, role: str
) -> None:
    invitation = at(desk.invite(role), port)  # type: ignore[arg-type]

    wallet = enrol(invitation, folder)

    again = Wallet.load(folder)
    assert (again.me.device_id, again.me.role) == (invitation.device_id, role)
    assert again.registry == invitation.url
    assert again.digest == wallet.digest == desk.registry.documents.digest_for(invitation.device_id)
    assert again.root_pem.encode() == pem(desk.site.authority.root)


def test_an_invitation_is_good_once(desk: Desk, port: int, tmp_path: Path) -> None:
    invitation = at(desk.invite(), port)
    enrol(invitation, tmp_path / "first")

    with pytest.raises(EnrolmentFailed, match="this invitation is not valid"):
        enrol(invitation, tmp_path / "second")

    assert not (tmp_path / "second" / IDENTITY_FILE).exists()


def test_a_folder_with_an_identity_is_left_alone(desk: Desk, port: int, folder: Path) -> None:
    first = enrol(at(desk.invite(), port), folder)
    invitation = desk.invite()

    with pytest.raises(NotEnrolled, match=f"{folder}: a device is enrolled here already.*--again"):
        enrol(at(invitation, port), folder)

    assert Wallet.load(folder).me.device_id == first.me.device_id
    assert is_still_good(desk, invitation)


def test_a_folder_with_an_identity_takes_another_if_that_is_meant(desk: Desk, port: int, folder: Path) -> None:
    enrol(at(desk.invite("edge"), port), folder)
    invitation = at(desk.invite(), port)

    enrol(invitation, folder, again=True)

    assert Wallet.load(folder).me.device_id == invitation.device_id


def test_an_identity_that_cannot_be_used_can_be_replaced(desk: Desk, port: int, folder: Path) -> None:
    invitation = at(desk.invite(), port)
    folder.mkdir(mode=0o700)
    (folder / IDENTITY_FILE).write_text("garbage")

    enrol(invitation, folder, again=True)

    assert Wallet.load(folder).me.device_id == invitation.device_id


def test_a_folder_that_others_can_enter_costs_no_invitation(desk: Desk, port: int, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    invitation = desk.invite()

    with pytest.raises(NotPrivate, match=f"chmod 700 {folder}"):
        enrol(at(invitation, port), folder)

    assert is_still_good(desk, invitation)


def test_nor_does_a_folder_that_cannot_be_made(desk: Desk, port: int, folder: Path) -> None:
    folder.write_text("a file is here already")
    invitation = desk.invite()

    with pytest.raises(OSError, match=str(folder)):
        enrol(at(invitation, port), folder)

    assert is_still_good(desk, invitation)


def test_a_device_renews_itself_and_tells_of_its_prekeys(desk: Desk, port: int, folder: Path) -> None:
    wallet = enrol(at(desk.invite("edge"), port), folder)
    serial, certificate = wallet.me.credential_serial, wallet.certificate

    wallet.renewed(*ask_renewal(wallet))
    keys = new_keys()
    wallet.add_prekey(keys.prekey_id, keys.prekey, now_ms=NOW)
    wallet.take_all(announce_prekey(wallet, now_ms=NOW).documents)

    assert wallet.me.credential_serial != serial
    assert wallet.certificate.serial_number != certificate.serial_number
    assert wallet.unannounced is None
    assert Wallet.load(folder).digest == wallet.digest == desk.registry.documents.digest_for(wallet.me.device_id)


def test_a_visit_changes_nothing_by_itself(desk: Desk, port: int, folder: Path) -> None:
    wallet = enrol(at(desk.invite(), port), folder)
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    ask_renewal(wallet)
    announce_prekey(wallet, now_ms=NOW)

    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert wallet.digest == Wallet.load(folder).digest


def test_a_renewal_brings_the_prekey_that_is_on_disk(desk: Desk, port: int, folder: Path) -> None:
    wallet, spare = enrol(at(desk.invite("edge"), port), folder), new_keys()
    wallet.add_prekey(spare.prekey_id, spare.prekey, now_ms=NOW)

    _, keys = ask_renewal(wallet)  # and the answer is lost

    assert (keys.prekey_id, keys.public[1]) == (spare.prekey_id, spare.public[1])
    record = desk.registry.sender(wallet.me.device_id)
    assert record is not None
    assert record.recipient is not None
    assert record.recipient.prekey_id in Wallet.load(folder).me.prekeys


def test_a_revoked_device_is_told_so(desk: Desk, port: int, folder: Path) -> None:
    wallet = enrol(at(desk.invite(), port), folder)
    desk.registry.revoke(wallet.me.device_id, why="stolen", who="tester")

    with pytest.raises(EnrolmentFailed, match="the client certificate is not this device's, or it is revoked"):
        ask_renewal(wallet)


@pytest.mark.parametrize("damage", [None, b"", b"garbage"], ids=["lost", "empty", "garbage"])
def test_a_certificate_that_cannot_be_read_is_named(desk: Desk, port: int, folder: Path, damage: bytes | None) -> None:
    wallet = enrol(at(desk.invite(), port), folder)
    wallet.tls.client.unlink()
    if damage is not None:
        wallet.tls.client.write_bytes(damage)

    with pytest.raises(EnrolmentFailed, match=rf"{wallet.tls.client}: cannot be used"):
        ask_renewal(wallet)


# At another door


def test_another_pin_ends_the_visit_before_anything_is_sent(desk: Desk, port: int, folder: Path) -> None:
    invitation = desk.invite()

    with pytest.raises(EnrolmentFailed, match=r"is not the registry of this invitation.*nothing was sent"):
        enrol(at(invitation, port)._replace(pin=bytes(32)), folder)

    assert not (folder / IDENTITY_FILE).exists()
    assert is_still_good(desk, invitation)


def test_somebody_with_an_authority_of_his_own_learns_nothing(desk: Desk, tmp_path: Path, folder: Path) -> None:
    his = Authority.begin("test", at=datetime.now(UTC))[0]

    told = visited(
        desk,
        folder,
        answering(pem(his.root)),
        shows(a_chain(tmp_path / "chain", his)),
        says="Somebody may stand between",
    )

    assert told == ASKED_FOR_THE_ROOT


@pytest.mark.parametrize("who", ["his own authority", "a device of ours", "another host of ours", "one that is over"])
def test_the_right_root_alone_opens_nothing(desk: Desk, tmp_path: Path, folder: Path, who: str) -> None:
    # The root is no secret: somebody between hands it on, and shows what certificate he has.
    ours, chain = desk.site.authority, tmp_path / "chain"
    if who == "his own authority":
        a_chain(chain, Authority.begin("test", at=datetime.now(UTC))[0])
    elif who == "a device of ours":
        chain.write_bytes(desk.enrol().tls.client.read_bytes())
    elif who == "another host of ours":
        a_chain(chain, ours, "another.example")
    else:
        a_chain(chain, ours, days=1, ago=timedelta(days=2))

    told = visited(
        desk, folder, answering(pem(ours.root)), shows(chain),
        says=r"its certificate is not of the announced authority \(.+\); nothing was sent",
    )  # fmt: skip

    assert told == ASKED_FOR_THE_ROOT


def test_a_root_that_its_own_key_has_not_signed_is_not_kept(desk: Desk, tmp_path: Path, folder: Path) -> None:
    # Its key fits the pin. What is written around it, until when it is good, say, would be the forger's.
    root, now = desk.site.authority.root, datetime.now(UTC)
    forged = (
        x509.CertificateBuilder()
        .subject_name(root.subject)
        .issuer_name(root.issuer)
        .public_key(root.public_key())  # type: ignore[arg-type]
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .sign(new_tls_key(), hashes.SHA256())
    )

    told = visited(
        desk, folder, answering(pem(forged)), shows(desk.site.registry_tls),
        says="does not answer like a registry; nothing was sent",
    )  # fmt: skip

    assert told == ASKED_FOR_THE_ROOT


def a_root_of(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return pem(made.sign(key, hashes.SHA256()))


NOT_REACHED = "not reached|does not answer like a registry"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http(b""),
        http(b"not a certificate"),
        http(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        http(b"\xff" * 3_000_000),
        http(b'{"problem": "no"}', "500 Internal Server Error"),
        b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/v1/root\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=lambda one: one[:24].decode("ascii", "replace").replace("\r\n", " ") + f" {len(one)}",
)
def test_whoever_is_no_registry_is_told_nothing(desk: Desk, tmp_path: Path, folder: Path, answer: bytes) -> None:
    told = visited(desk, folder, lambda _: answer, shows(desk.site.registry_tls), says=NOT_REACHED)

    assert told == ASKED_FOR_THE_ROOT


def test_a_root_of_another_kind_is_compared_like_any_other(desk: Desk, folder: Path) -> None:
    root = a_root_of(rsa.generate_private_key(65_537, 2_048))

    visited(desk, folder, answering(root), shows(desk.site.registry_tls), says="is not the registry of this invitation")


def test_a_root_whose_key_nobody_knows_is_no_root(desk: Desk, folder: Path) -> None:
    curve, unknown = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d027f")
    root = desk.site.authority.root.public_bytes(Encoding.DER).replace(curve, unknown)
    text = ssl.DER_cert_to_PEM_cert(root).encode()

    visited(desk, folder, answering(text), shows(desk.site.registry_tls), says="does not answer like a registry")


@pytest.mark.parametrize("speaks_tls", [True, False])
def test_nobody_waits_for_a_registry_that_does_not_answer(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch, speaks_tls: bool
) -> None:
    monkeypatch.setattr(wire.enrol.client, "WITHIN_S", 0.2)
    tls = shows(desk.site.registry_tls) if speaks_tls else None

    visited(desk, folder, lambda _: None, tls, says=r"not reached \(.*timed out.*\); is the registry up")


def test_a_registry_that_is_down_is_named(desk: Desk, folder: Path) -> None:
    invitation = at(desk.invite(), free_port())

    with pytest.raises(EnrolmentFailed, match=rf"{invitation.url}: not reached \(.*refused.*\); is the registry up\?"):
        enrol(invitation, folder)


def test_a_host_that_nobody_knows_is_named(desk: Desk, folder: Path) -> None:
    invitation = desk.invite()._replace(url="https://registry.invalid:8443")

    with pytest.raises(EnrolmentFailed, match=r"registry\.invalid:8443: not reached"):
        enrol(invitation, folder)


def test_a_door_without_tls_is_no_door(desk: Desk, folder: Path) -> None:
    told = visited(desk, folder, answering(b"", http(pem(desk.site.authority.root))), None, says="not reached")

    assert [one[:2] for one in told] == [b"\x16\x03"]  # a hello of TLS


def test_older_tls_is_not_spoken(desk: Desk, folder: Path) -> None:
    context = shows(desk.site.registry_tls)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    told = visited(desk, folder, answering(pem(desk.site.authority.root)), context, says="not reached")

    assert told == []


def test_a_renewal_goes_to_nobody_else_either(desk: Desk, tmp_path: Path, port: int, folder: Path) -> None:
    enrol(at(desk.invite(), port), folder)
    his = Authority.begin("test", at=datetime.now(UTC))[0]

    with Somebody(answering(pem(his.root)), shows(a_chain(tmp_path / "chain", his))) as somebody:
        facts = json.loads((folder / IDENTITY_FILE).read_bytes())
        facts["registry"] = f"https://127.0.0.1:{somebody.port}"
        (folder / IDENTITY_FILE).write_text(json.dumps(facts))
        wallet = Wallet.load(folder)
        for visit in (ask_renewal, lambda one: announce_prekey(one, now_ms=NOW)):
            with pytest.raises(EnrolmentFailed, match="not of the announced authority"):
                visit(wallet)  # type: ignore[operator]

    assert somebody.heard == []


# A registry that is ours and unwell


def told(desk: Desk, folder: Path, answer: bytes | None) -> str:
    """What is said when the registry itself answers like this."""
    unwell = Somebody(answering(pem(desk.site.authority.root), answer), shows(desk.site.registry_tls))
    with unwell as somebody, pytest.raises(EnrolmentFailed) as caught:
        enrol(at(desk.invite(), somebody.port), folder)
    assert [one.split(b" HTTP")[0] for one in somebody.heard] == [b"GET /v1/root", b"POST /v1/enrol"]
    assert not (folder / IDENTITY_FILE).exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(b'{"problem": "ask for a new one"}', "403 Forbidden"), "ask for a new one"),
        (http(b'{"problem": "a\\nb\\u001b[31mc\\u202ed"}', "403 Forbidden"), "a b [31mc d"),
        (http(b'{"problem": "' + b"x" * 1_000 + b'"}', "400 Bad Request"), "x" * 300),
        (http(b"", "500 Internal Server Error"), "answered 500"),
        (http(b"<html>", "502 Bad Gateway"), "answered 502"),
        (http(b"\xff", "500 Internal Server Error"), "answered 500"),
        (http(b"[" * 100_000, "500 Internal Server Error"), "answered 500"),
        (http(b'{"problem": 5}', "500 Internal Server Error"), "answered 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (http(b""), "its answer cannot be read"),
        (http(b"{}"), "its answer cannot be read"),
        (http(b'{"device_id": "\xff"}'), "its answer cannot be read"),
        (http(b'{"more": ' + b"[" * 100_000), "its answer cannot be read"),
        (http(b'"' + b"x" * (2 << 20)), "its answer cannot be read"),
        (b"", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n{", "its answer cannot be read"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "broke off"),
        (b"garbage", "broke off"),
    ],
    ids=lambda one: one if isinstance(one, str) and len(one) < 40 else "",
)
def test_what_an_unwell_registry_says_is_a_sentence(desk: Desk, folder: Path, answer: bytes, said: str) -> None:
    assert said in told(desk, folder, answer)


def test_a_long_complaint_is_cut(desk: Desk, folder: Path) -> None:
    assert len(told(desk, folder, http(b'{"problem": "' + b"x" * 5_000 + b'"}', "400 Bad Request"))) < 400


def test_a_registry_that_falls_asleep_is_not_waited_for(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire.enrol.client, "WITHIN_S", 0.3)

    assert "broke off (TimeoutError); try again" in told(desk, folder, None)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("device_id", "00" * 16, "the registry answered for another device"),
        ("serial", "00" * 8, "does not vouch for the new key"),
        ("documents", [], "does not vouch for the new key"),
        ("certificate", "", "cannot be used"),
        ("control_keys", ["x"], "cannot be used"),
    ],
)
def test_an_answer_that_does_not_fit_is_not_kept(desk: Desk, folder: Path, key: str, value: object, said: str) -> None:
    def answers(asked: bytes) -> bytes:
        if asked.startswith(b"GET"):
            return http(pem(desk.site.authority.root))
        request = msgspec.json.decode(asked.partition(b"\r\n\r\n")[2], type=wire.enrol.client.EnrolRequest)
        return http(msgspec.json.encode(replace(desk.ask(request), **{key: value})))

    with Somebody(answers, shows(desk.site.registry_tls)) as somebody, pytest.raises(EnrolmentFailed, match=said):
        enrol(at(desk.invite(), somebody.port), folder)

    assert not (folder / IDENTITY_FILE).exists()


def test_what_an_answer_calls_its_root_is_not_asked(desk: Desk, folder: Path) -> None:
    his = Authority.begin("test", at=datetime.now(UTC))[0]

    def answers(asked: bytes) -> bytes:
        if asked.startswith(b"GET"):
            return http(pem(desk.site.authority.root))
        request = msgspec.json.decode(asked.partition(b"\r\n\r\n")[2], type=wire.enrol.client.EnrolRequest)
        return http(msgspec.json.encode(replace(desk.ask(request), root=pem(his.root).decode())))

    with Somebody(answers, shows(desk.site.registry_tls)) as somebody:
        wallet = enrol(at(desk.invite(), somebody.port), folder)

    assert wallet.root_pem.encode() == pem(desk.site.authority.root)


def test_no_request_shows_a_private_key(desk: Desk) -> None:
    invitation, keys = desk.invite(), new_keys()

    said = msgspec.json.encode(enrol_request(invitation, keys, desk.server)).decode()

    for private in (keys.signing.private_bytes_raw(), keys.prekey.private_bytes_raw()):
        assert private.hex() not in said


# The command


def test_the_command_takes_the_line_itself(
    desk: Desk, port: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    invitation = at(desk.invite(), port)

    code = main(invitation.text(), folder, again=False)

    said = capsys.readouterr().out
    assert code == 0
    assert f"wearable {invitation.device_id.hex()} is enrolled in {folder}, until 20" in said
    assert invitation.text() not in said


def test_the_command_takes_a_file(desk: Desk, port: int, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "invitation.txt").write_text(at(desk.invite("edge"), port).text() + "\n")

    assert main(str(tmp_path / "invitation.txt"), folder, again=False) == 0
    assert Wallet.load(folder).me.role == "edge"


def test_the_command_takes_a_pasted_line(desk: Desk, port: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(at(desk.invite(), port).text() + "\n"))

    assert main("-", folder, again=False) == 0


@pytest.mark.parametrize("line", ["", "nonsense", "vitalloom:", "/", "x" * 5_000, "\0"])
def test_the_command_says_what_is_no_invitation(folder: Path, line: str) -> None:
    with pytest.raises(BadInvitation, match="invitation"):
        main(line, folder, again=False)

    assert not folder.exists()


def test_an_empty_line_is_no_invitation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    with pytest.raises(BadInvitation):
        main("-", folder, again=False)


def test_a_file_of_something_else_is_no_invitation(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(bytes(range(256)))

    with pytest.raises(BadInvitation, match="neither an invitation nor a file that holds one"):
        main(str(tmp_path / "picture"), folder, again=False)


def test_an_invitation_with_something_before_it_is_not_repeated(desk: Desk, folder: Path) -> None:
    invitation = desk.invite()

    with pytest.raises(BadInvitation) as caught:
        main(f"please: {invitation.text()}", folder, again=False)

    assert invitation.text().partition("token=")[2] not in str(caught.value)
