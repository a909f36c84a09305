"""Attacks on enrolment: on invitations, signing requests, and the connection between a device and the registry.

The rows are those of docs/security.md. All of it over real HTTP and TLS on loopback.
"""

import asyncio
import base64
import contextlib
import gzip
import json
import logging
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec.structs import replace

from runtime import logs
from runtime.clock import SystemClock
from stream.errors import RegistryRefused
from stream.site.enrolment import EnrolmentPolicy
from tests.patience import PATIENCE_S
from tests.stream.servers import Answer, ask, context, serving
from tests.stream.site.registries import HOUR, Desk, new_keys
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem, requested_key
from wire.enrol.client import enrol, enrol_request
from wire.enrol.identity_file import IDENTITY_FILE
from wire.enrol.renewal import look_after
from wire.enrol.requests import (
    EnrolReply,
    EnrolRequest,
    Invitation,
    RenewRequest,
    b64,
    enrol_transcript,
    proof,
    token_hash,
)
from wire.errors import BadSigningRequest, EnrolmentFailed

GENEROUS = EnrolmentPolicy(tries_per_min=1e6)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk"), policy=GENEROUS, wall=SystemClock())
    yield made
    made.site.close()


@pytest.fixture(scope="module")
def port(desk: Desk) -> Iterator[int]:
    with serving(desk) as found:
        yield found


@pytest.fixture(scope="module")
def tls(desk: Desk) -> ssl.SSLContext:
    return context(desk)


def post(port: int, tls: ssl.SSLContext, request: EnrolRequest) -> Answer:
    return ask(port, tls, body=msgspec.json.encode(request))


def audit_of(desk: Desk, device_id: bytes) -> list[str]:
    lines = [json.loads(line) for line in desk.registry.file.audit.path.read_bytes().splitlines()]
    return [line["what"] for line in lines if line["subject"] == device_id.hex()]


def is_enrolled(desk: Desk, device_id: bytes) -> bool:
    record = desk.registry.sender(device_id)
    return record is not None and record.credentials != ()


# A22: bodies that grow


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "compress", "gzip, gzip"])
def test_a22_compressed_enrolment_requests_are_refused(desk: Desk, port: int, tls: ssl.SSLContext, coding: str) -> None:
    invitation = desk.invite()
    body = msgspec.json.encode(desk.request(invitation)).ljust(10_000_000)
    packed = zlib.compress(body, 9) if coding == "deflate" else gzip.compress(body, 9)

    answer = ask(port, tls, body=packed[:16_000], headers={"Content-Encoding": coding})

    assert answer.status == 415
    assert audit_of(desk, invitation.device_id) == ["device added", "invited"]


def test_a22_a_compressed_body_without_a_header_is_refused(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    answer = ask(port, tls, body=gzip.compress(msgspec.json.encode(desk.request(desk.invite()))))

    assert answer.status == 400


# A28: tokens


def test_a28_a_token_is_used_once(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    invitation = desk.invite()

    told = [post(port, tls, desk.request(invitation)).status for _ in range(3)]

    assert told == [200, 403, 403]
    assert audit_of(desk, invitation.device_id)[2:] == ["enrolled", "bad token", "bad token"]


def test_a28_an_expired_token_is_refused(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    invitation = desk.invite()
    desk.clock.advance(HOUR)

    assert post(port, tls, desk.request(invitation)).status == 403
    assert audit_of(desk, invitation.device_id)[-1] == "bad token"
    assert not is_enrolled(desk, invitation.device_id)


def test_a28_a_token_does_not_make_an_edge_of_a_wearable(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    wearable, edge = desk.invite("wearable"), desk.invite("edge")

    crossed = post(port, tls, desk.request(edge._replace(token=wearable.token)))
    honest = post(port, tls, desk.request(wearable))

    assert crossed.status == 403
    assert msgspec.json.decode(honest.body, type=EnrolReply).role == "wearable"
    assert not is_enrolled(desk, edge.device_id)


def test_a28_five_guesses_lock_the_slot_even_for_the_right_token(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    invitation = desk.invite()
    guesses = [bytes([n] * 20) for n in range(5)]

    told = [post(port, tls, desk.request(invitation._replace(token=one))).status for one in guesses]
    locked = post(port, tls, desk.request(invitation)).status
    again = post(port, tls, desk.request(desk.again(invitation.device_id))).status

    assert told == [403] * 5
    assert locked == 403
    assert again == 200
    assert audit_of(desk, invitation.device_id)[2:] == ["bad token"] * 6 + ["invited", "enrolled"]


def test_a28_the_hash_from_a_stolen_database_is_not_a_token(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    invitation = desk.invite()
    stolen = invitation._replace(token=token_hash(invitation.token))

    assert post(port, tls, desk.request(stolen)).status == 403


def test_a28_of_fifty_simultaneous_requests_one_is_enrolled(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy=EnrolmentPolicy(tries_per_min=1e6, bad_tokens=1_000), wall=SystemClock())
    tls, invitation = context(desk), desk.invite()
    requests = [desk.request(invitation) for _ in range(50)]
    begin, told = threading.Barrier(50), []

    with serving(desk) as port:

        def visit(request: EnrolRequest) -> None:
            begin.wait()
            told.append(post(port, tls, request).status)

        threads = [threading.Thread(target=visit, args=(one,)) for one in requests]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    assert sorted(told) == [200] + [403] * 49
    assert audit_of(desk, invitation.device_id).count("enrolled") == 1
    assert audit_of(desk, invitation.device_id).count("bad token") == 49
    assert len([one for one in desk.registry.certificates.all() if one.device_id == invitation.device_id.hex()]) == 1
    desk.site.close()


def test_a28_an_intercepted_request_cannot_be_reused(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    mine, other = desk.invite(), desk.invite()
    request = desk.request(mine)
    post(port, tls, request)

    told = [
        post(port, tls, request).status,
        post(port, tls, replace(request, device_id=other.device_id.hex())).status,
        post(port, tls, replace(request, token=other.token.hex(), device_id=other.device_id.hex())).status,
    ]

    assert told == [403, 403, 400]
    assert not is_enrolled(desk, other.device_id)


# A29: signing requests that ask for more


def wishes(builder: x509.CertificateSigningRequestBuilder) -> x509.CertificateSigningRequestBuilder:
    """Requests every property that a device must not have."""
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("broker.example"),
                    x509.RFC822Name("root@example.com"),
                    x509.UniformResourceIdentifier("urn:rpm:00:ingest-v"),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )


def a_signing_request(key: Any, *, name: str = "ingest-v") -> bytes:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "root"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    algorithm = None if isinstance(key, Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    made = wishes(x509.CertificateSigningRequestBuilder().subject_name(subject)).sign(key, algorithm)
    return made.public_bytes(Encoding.DER)


def request_with(desk: Desk, invitation: Invitation, csr: bytes) -> EnrolRequest:
    keys = new_keys()
    signing_key, prekey = keys.public
    transcript = enrol_transcript(invitation.device_id, invitation.token, csr, signing_key, prekey, desk.server)
    return replace(enrol_request(invitation, keys, desk.server), csr=b64(csr), proof=proof(keys.signing, transcript))


@pytest.mark.parametrize("key", [new_tls_key(), Ed25519PrivateKey.generate()], ids=["P-256", "Ed25519"])
def test_a29_only_the_key_of_a_signing_request_is_used(desk: Desk, port: int, tls: ssl.SSLContext, key: Any) -> None:
    invitation = desk.invite()
    name = invitation.device_id.hex()

    answer = post(port, tls, request_with(desk, invitation, a_signing_request(key)))

    assert answer.status == 200
    issued, issuing = x509.load_pem_x509_certificates(
        msgspec.json.decode(answer.body, type=EnrolReply).certificate.encode()
    )
    found = issued.extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    assert issued.public_key() == key.public_key()
    assert issued.subject.rfc4514_string() == f"CN={name}"
    assert list(names) == [x509.UniformResourceIdentifier(f"urn:rpm:{desk.registry.tenant_id.hex()}:{name}")]
    assert found.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = found.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    assert 30 <= (issued.not_valid_after_utc - issued.not_valid_before_utc).days <= 31
    issued.verify_directly_issued_by(issuing)
    assert issuing == desk.site.authority.issuing


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65_537, 1_024),  # noqa: S505 - what is to be refused
        rsa.generate_private_key(65_537, 2_048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(1_024),  # noqa: S505
        ed448.Ed448PrivateKey.generate(),
    ],
    ids=["RSA 1024", "RSA 2048", "P-384", "secp256k1", "DSA", "Ed448"],
)
def test_a29_a_key_of_another_kind_is_refused(desk: Desk, port: int, tls: ssl.SSLContext, key: Any) -> None:
    invitation = desk.invite()

    answer = post(port, tls, request_with(desk, invitation, a_signing_request(key)))

    assert (answer.status, answer.problem) == (400, "signing request refused: its key is neither P-256 nor Ed25519")
    assert not is_enrolled(desk, invitation.device_id)
    assert audit_of(desk, invitation.device_id)[-1] == "enrolment refused"


def test_a29_a_certificate_is_issued_only_to_the_holder_of_the_key(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    victim, mine = new_tls_key().public_key(), new_tls_key()
    forged = a_signing_request(mine).replace(_point(mine.public_key()), _point(victim))
    assert x509.load_der_x509_csr(forged).public_key() == victim
    invitation = desk.invite()

    answer = post(port, tls, request_with(desk, invitation, forged))

    assert (answer.status, answer.problem) == (400, "signing request refused: its signature is not of its own key")


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def test_a29_a_signing_request_that_is_broken_anywhere_is_refused() -> None:
    good = a_signing_request(new_tls_key())
    key = requested_key(good)

    for n in range(len(good) * 8):
        broken = bytearray(good)
        broken[n // 8] ^= 1 << n % 8
        with contextlib.suppress(BadSigningRequest):  # a bit of DER may be without a meaning
            assert requested_key(bytes(broken)) == key
    for length in range(len(good)):
        with pytest.raises(BadSigningRequest):
            requested_key(good[:length])
    with pytest.raises(BadSigningRequest):
        requested_key(good + bytes(4_096))
    assert requested_key(good) == key


# A30: somebody between


class Impostor:
    """A TLS server between the device and its registry; keeps every byte, in the clear where it can.

    Args:
        root: what it says its root is.
        certificate: chain and key that it shows.
        onward: the real registry, which it passes requests on to.
    """

    def __init__(self, root: bytes, certificate: Path, onward: Any = None) -> None:
        self.raw = b""
        self.heard = b""
        self._root = root
        self._onward = onward
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.1)
        self.port = int(self._listening.getsockname()[1])
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Impostor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(PATIENCE_S)
        self._listening.close()

    def _run(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(OSError):
                plain, _ = self._listening.accept()
                with plain, contextlib.suppress(ValueError):
                    plain.settimeout(2)
                    self._serve(plain)

    def _serve(self, plain: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        request = b""
        while True:
            try:
                request += tls.read(65_536)
                if answer := self._answer(request):
                    tls.write(answer)
                    plain.sendall(outgoing.read())
                    return
                continue
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                plain.sendall(outgoing.read())
                return
            plain.sendall(outgoing.read())
            part = plain.recv(65_536)
            if not part:
                return
            self.raw += part
            incoming.write(part)

    def _answer(self, request: bytes) -> bytes | None:
        head, end, body = request.partition(b"\r\n\r\n")
        if not end:
            return None
        self.heard += request
        if b"GET /v1/root" in head:
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._root) + self._root
        if self._onward is None or not body.endswith(b"}"):
            return None
        answer: Answer = self._onward(body)
        head = b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % (answer.status, len(answer.body)) + answer.body


def a_foreign_authority(folder: Path) -> tuple[Authority, Path]:
    """Another CA, and a server certificate of it for the same address."""
    at = moment(SystemClock().now_ms())
    authority, _ = Authority.begin("test", at=at)  # the name is no secret
    key = new_tls_key()
    made = authority.server(key.public_key(), hosts=["127.0.0.1"], at=at, days=1)
    path = folder / "impostor.pem"
    path.write_bytes(pem(made) + pem(authority.issuing) + key_pem(key))
    return authority, path


def assert_learnt_nothing(impostor: Impostor, invitation: Invitation) -> None:
    for secret in (invitation.token, invitation.token.hex().encode(), base64.urlsafe_b64encode(invitation.token)[:27]):
        assert secret not in impostor.heard
        assert secret not in impostor.raw
    assert b"POST" not in impostor.heard


def test_a30_an_impostor_with_another_root_receives_no_token(desk: Desk, tmp_path: Path) -> None:
    foreign, shown = a_foreign_authority(tmp_path)
    with Impostor(pem(foreign.root), shown) as impostor:
        invitation = desk.invite()._replace(url=f"https://127.0.0.1:{impostor.port}")

        with pytest.raises(EnrolmentFailed, match=r"nothing was sent.*The connection may be intercepted"):
            enrol(invitation, tmp_path / "identity")

    assert b"GET /v1/root" in impostor.heard
    assert_learnt_nothing(impostor, invitation)
    assert not (tmp_path / "identity" / IDENTITY_FILE).exists()


def test_a30_an_impostor_that_forwards_the_real_root_receives_no_token(desk: Desk, tmp_path: Path) -> None:
    _, shown = a_foreign_authority(tmp_path)
    with Impostor(pem(desk.site.authority.root), shown) as impostor:
        invitation = desk.invite()._replace(url=f"https://127.0.0.1:{impostor.port}")

        with pytest.raises(EnrolmentFailed, match=r"is not issued by the announced authority.*nothing was sent"):
            enrol(invitation, tmp_path / "identity")

    assert impostor.heard.count(b"GET /v1/root") == 1
    assert_learnt_nothing(impostor, invitation)


def test_a30_a_stolen_device_cannot_pass_for_the_registry(desk: Desk, tmp_path: Path) -> None:
    stolen = desk.enrol()
    with Impostor(pem(desk.site.authority.root), stolen.tls.client) as impostor:
        invitation = desk.invite()._replace(url=f"https://127.0.0.1:{impostor.port}")

        with pytest.raises(EnrolmentFailed, match="nothing was sent"):
            enrol(invitation, tmp_path / "identity")

    assert_learnt_nothing(impostor, invitation)


@pytest.mark.parametrize("root", [b"", b"<html>welcome to the hotel</html>", b"-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_a30_a_server_with_a_wrong_answer_receives_no_token(desk: Desk, tmp_path: Path, root: bytes) -> None:
    _, shown = a_foreign_authority(tmp_path)
    with Impostor(root, shown) as impostor:
        invitation = desk.invite()._replace(url=f"https://127.0.0.1:{impostor.port}")

        with pytest.raises(EnrolmentFailed, match="nothing was sent"):
            enrol(invitation, tmp_path / "identity")

    assert_learnt_nothing(impostor, invitation)


def test_a30_a_server_with_another_certificate_cannot_forward_a_request(desk: Desk, port: int, tmp_path: Path) -> None:
    # The worst case: a server of the site, the broker say, was broken into. It hears the token and gains nothing.
    at, key = moment(SystemClock().now_ms()), new_tls_key()
    made = desk.site.authority.server(key.public_key(), hosts=["127.0.0.1"], at=at, days=1)
    shown = tmp_path / "broker.pem"
    shown.write_bytes(pem(made) + pem(desk.site.authority.issuing) + key_pem(key))
    invitation = desk.invite()

    def onward(body: bytes) -> Answer:
        return ask(port, context(desk), body=body)

    with (
        Impostor(pem(desk.site.authority.root), shown, onward) as impostor,
        pytest.raises(EnrolmentFailed, match="the proof is not of this key, device, token and server"),
    ):
        enrol(invitation._replace(url=f"https://127.0.0.1:{impostor.port}"), tmp_path / "identity")

    assert invitation.token.hex().encode() in impostor.heard
    assert not is_enrolled(desk, invitation.device_id)
    assert post(port, context(desk), desk.request(invitation)).status == 403  # and the token is burnt


# A32: strings


STRINGS = (
    "Robert'); DROP TABLE device;--", "' OR '1'='1", '"; DELETE FROM binding; "', "1; ATTACH 'x' AS y", "%", "_", "\\",
    "bed,ward=1 spo2=97i 17676000", 'from(bucket:"vitals") |> drop()', "<img src=x onerror=alert(1)>",
    "{{7*7}}", "${jndi:ldap://x}", "=HYPERLINK(1)", "+/#", "vl/v1/#", "$SYS/#", "P\u00e9ter \U0001f3e5",
)  # fmt: skip


@pytest.mark.parametrize("text", STRINGS)
def test_a32_text_stays_text_from_the_registry_to_the_bed(desk: Desk, text: str) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()

    binding = desk.bind(wearable, edge, patient=text, bed=text)
    desk.deliver(edge)

    assert desk.registry.binding(binding) is not None
    found = edge.provision.directory.binding(binding)
    assert found is not None
    assert (found.patient, found.bed) == (text, text)
    assert len(desk.registry.devices()) > 2


@pytest.mark.parametrize("text", ["a\nb", "a\r\nuser root", "a\0b", "x" * 10_000, "\x1b[31m", "\ud800", "\u2028"])
def test_a32_text_that_could_begin_a_line_of_a_file_is_refused(desk: Desk, text: str) -> None:
    edge, wearable = desk.enrol("edge"), desk.enrol()
    before = len(desk.registry.bindings())

    with pytest.raises(RegistryRefused, match="printable characters"):
        desk.bind(wearable, edge, patient=text)

    assert len(desk.registry.bindings()) == before


@pytest.mark.parametrize(
    "text", ["+", "#", "../../etc", "0" * 31 + "#", "0" * 32 + "/up/1", "A" * 32, "' OR 1=1 --", "\uff10" * 32, ""]
)
def test_a32_an_id_that_is_not_hexadecimal_is_refused(desk: Desk, port: int, tls: ssl.SSLContext, text: str) -> None:
    request = desk.request(desk.invite())
    renewal = dict.fromkeys(RenewRequest.__struct_fields__, "")

    told = [
        post(port, tls, replace(request, device_id=text)),
        ask(port, tls, "/v1/renew", msgspec.json.encode({**renewal, "device_id": text})),
    ]

    assert [one.status for one in told] == [400, 400]
    assert {one.problem for one in told} == {"a device id is 32 lower-case hexadecimal digits"}


# A35: what is written down


def test_a35_no_log_line_of_an_enrolment_holds_a_secret_or_a_pseudonym(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # Everything that can happen between a desk and a device, well and badly; then all that was written is searched.
    written = logging.Handler(logging.DEBUG)
    lines: list[str] = []
    formatter = logs._JsonLines()
    written.emit = lambda record: lines.append(formatter.format(record))  # type: ignore[method-assign]
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(written)
    root.setLevel(logging.DEBUG)
    desk = Desk(tmp_path, policy=EnrolmentPolicy(tries_per_min=1e6), wall=SystemClock())
    secrets: list[bytes] = [one.private_bytes_raw() for one in desk.site._control]
    try:
        with serving(desk) as port:
            tls, url = context(desk), f"https://127.0.0.1:{port}"
            invited = {role: desk.invite(role)._replace(url=url) for role in ("wearable", "edge")}
            post(port, tls, desk.request(invited["edge"]._replace(token=bytes(range(20)))))
            wearable, edge = (enrol(one, tmp_path / role) for role, one in invited.items())
            post(port, tls, desk.request(invited["edge"]))
            burnt = desk.invite()
            post(port, tls, replace(desk.request(burnt), proof="00" * 64))
            ask(port, tls, body=b'{"token":"' + burnt.token.hex().encode() + b'"}')
            binding = desk.bind(wearable, edge, patient="PSEUDONYM-77", bed="BED-99")
            for device in (wearable, edge):
                secrets += _private(device)
                desk.deliver(device)
                device._identity.facts = replace(device._identity.facts, not_before_ms=0)  # old enough to renew
                asyncio.run(look_after(device, desk.clock.now_ms()))
                secrets += _private(device)
            desk.registry.unbind(binding, who="tester")
            desk.registry.revoke(wearable.me.device_id, why="lost", who="tester")
            asyncio.run(look_after(wearable, desk.clock.now_ms() + 40 * 24 * HOUR))
            secrets += [one.token for one in (*invited.values(), burnt)]
    finally:
        root.removeHandler(written)
        root.setLevel(level)
        desk.site.close()

    said = capfd.readouterr()
    text = "\n".join(
        [*lines, desk.registry.file.audit.path.read_text(encoding="utf-8"), said.out, said.err, caplog.text]
    )
    assert '"event": "device certificate renewed"' in text
    assert '"event": "could not renew"' in text
    assert '"what":"bad token"' in text
    for secret in secrets:
        for form in (secret.hex(), b64(secret), base64.urlsafe_b64encode(secret).decode().rstrip("=")):
            assert form not in text
            assert form.upper() not in text
    for word in ("PSEUDONYM-77", "BED-99", "PRIVATE KEY", "vitalloom://"):
        assert word not in text


def _private(device: Any) -> list[bytes]:
    facts = device._facts
    tls_key = "".join(facts.tls_key.split("-----")[2].split())
    return [
        bytes.fromhex(facts.signing_key),
        *(bytes.fromhex(one.key) for one in facts.prekeys),
        base64.b64decode(tls_key)[-100:-70],
    ]
