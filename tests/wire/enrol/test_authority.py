"""Certificates say what the authority decided, verify along their chain, and nothing asked for slips into them."""

import contextlib
import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from wire.enrol.authority import (
    DEVICE_DAYS,
    ISSUING_DAYS,
    MAX_REQUEST_BYTES,
    ROOT_DAYS,
    Authority,
    Ca,
    key_hash,
    key_pem,
    load_key,
    moment,
    new_tls_key,
    pem,
    pin_of,
    requested_key,
    signing_request,
)
from wire.errors import BadKeyFile, BadSigningRequest

AT = datetime(2026, 1, 5, 8, tzinfo=UTC)
DAY = timedelta(days=1)
TENANT = bytes([0xAB]) * 16
DEVICE = "3f" * 16

AUTHORITY, ROOT = Authority.begin("ward", at=AT)
OTHER, OTHER_ROOT = Authority.begin("ward", at=AT)  # of the same name
KEY = new_tls_key()


def a_device(at: datetime = AT, days: float = DEVICE_DAYS) -> x509.Certificate:
    return AUTHORITY.device(KEY.public_key(), common_name=DEVICE, tenant=TENANT, at=at, days=days)


def a_server(*hosts: str, by: Authority = AUTHORITY) -> x509.Certificate:
    return by.server(KEY.public_key(), hosts=hosts or ("broker.example",), at=AT, days=90)


def verified_client(certificate: x509.Certificate, *, at: datetime = AT, root: Authority = AUTHORITY) -> list[str]:
    """The URNs of a client whose chain verifies."""
    verifier = PolicyBuilder().store(Store([root.root])).time(at).build_client_verifier()
    found = verifier.verify(certificate, [AUTHORITY.issuing]).subjects or []
    return [str(one.value) for one in found]


def verify_server(certificate: x509.Certificate, host: x509.DNSName | x509.IPAddress, *, at: datetime = AT) -> None:
    verifier = PolicyBuilder().store(Store([AUTHORITY.root])).time(at).build_server_verifier(host)
    verifier.verify(certificate, [AUTHORITY.issuing])


def shake_hands(
    authority: Authority, server: x509.Certificate, client: x509.Certificate, *, host: str = "broker.example"
) -> str:
    """A handshake in memory, both sides as strict as OpenSSL can be; the name that the server has seen."""
    with tempfile.TemporaryDirectory() as folder:

        def chain(name: str, certificate: x509.Certificate) -> Path:
            path = Path(folder) / name
            path.write_bytes(pem(certificate) + pem(authority.issuing) + key_pem(KEY))
            return path

        there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        there.load_cert_chain(chain("server", server))
        here = ssl.create_default_context(cadata=pem(authority.root).decode())
        for context in (there, here):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        there.load_verify_locations(cadata=authority.bundle.decode())
        there.verify_mode = ssl.CERT_REQUIRED
        here.load_cert_chain(chain("client", client))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = here.wrap_bio(to_client, to_server, server_hostname=host)
    right = there.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for one in (left, right):
            with contextlib.suppress(ssl.SSLWantReadError):
                one.do_handshake()
    shown = x509.load_der_x509_certificate(right.getpeercert(binary_form=True) or b"")
    return str(shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


# Chains


def test_the_root_stays_above_one_issuing_certificate_which_signs_no_further_ones() -> None:
    constraints = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value
        for one in (AUTHORITY.root, AUTHORITY.issuing, a_device())
    ]

    assert [(one.ca, one.path_length) for one in constraints] == [(True, 1), (True, 0), (False, None)]


@pytest.mark.parametrize(
    ("certificate", "days"),
    [(AUTHORITY.root, ROOT_DAYS), (AUTHORITY.issuing, ISSUING_DAYS), (a_device(), 30), (a_server(), 90)],
    ids=["root", "issuing", "device", "server"],
)
def test_a_certificate_is_good_from_a_little_before_now_for_its_days(
    certificate: x509.Certificate, days: float
) -> None:
    assert certificate.not_valid_before_utc == AT - timedelta(minutes=10)
    assert certificate.not_valid_after_utc == AT + days * DAY


@pytest.mark.parametrize("certificate", [AUTHORITY.root, AUTHORITY.issuing], ids=["root", "issuing"])
def test_authorities_sign_certificates_and_lists_and_nothing_else(certificate: x509.Certificate) -> None:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)

    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)


@pytest.mark.parametrize("certificate", [a_device(), a_server()], ids=["device", "server"])
def test_devices_and_servers_sign_handshakes_and_nothing_else(certificate: x509.Certificate) -> None:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)

    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (False, False, True)


def test_serial_numbers_are_long_and_never_the_same() -> None:
    serials = {a_device().serial_number for _ in range(50)}

    assert len(serials) == 50
    assert min(serials) > 2**96


# Devices


def test_a_device_is_known_by_its_id_and_its_tenant_and_is_a_client_only() -> None:
    certificate = a_device()

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert certificate.subject == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DEVICE)])
    assert list(names) == [x509.UniformResourceIdentifier(f"urn:rpm:{'ab' * 16}:{DEVICE}")]
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_devices_chain_verifies_under_the_root_alone() -> None:
    assert verified_client(a_device()) == [f"urn:rpm:{'ab' * 16}:{DEVICE}"]


def test_the_root_of_another_authority_vouches_for_nothing_even_under_the_same_name() -> None:
    with pytest.raises(VerificationError):
        verified_client(a_device(), root=OTHER)


@pytest.mark.parametrize(
    ("minutes", "is_good"), [(-11, False), (-10, True), (0, True), (30 * 1_440, True), (30 * 1_440 + 1, False)]
)
def test_a_device_may_come_for_thirty_days(minutes: int, is_good: bool) -> None:
    try:
        verified_client(a_device(), at=AT + timedelta(minutes=minutes))
        verified = True
    except VerificationError:
        verified = False

    assert verified is is_good


def test_a_device_cannot_pose_as_the_broker() -> None:
    with pytest.raises(VerificationError):
        verify_server(a_device(), x509.DNSName("broker.example"))


def test_a_server_cannot_come_as_a_device() -> None:
    with pytest.raises(VerificationError):
        verified_client(a_server())


def test_a_device_cannot_sign_for_another() -> None:
    thief = Authority(root=AUTHORITY.root, issuing=Ca(a_device(), KEY))
    forged = thief.device(new_tls_key().public_key(), common_name="44" * 16, tenant=TENANT, at=AT)
    verifier = PolicyBuilder().store(Store([AUTHORITY.root])).time(AT).build_client_verifier()

    with pytest.raises(VerificationError):
        verifier.verify(forged, [a_device(), AUTHORITY.issuing])


def test_an_issuing_key_cannot_make_another() -> None:
    below = Authority.issuing_from(Ca(AUTHORITY.issuing, AUTHORITY.issuing_key), "below", at=AT)
    forged = Authority(root=AUTHORITY.root, issuing=below).device(
        KEY.public_key(), common_name=DEVICE, tenant=TENANT, at=AT
    )
    verifier = PolicyBuilder().store(Store([AUTHORITY.root])).time(AT).build_client_verifier()

    with pytest.raises(VerificationError):
        verifier.verify(forged, [below.certificate, AUTHORITY.issuing])


# Servers


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (("broker.example",), x509.DNSName("broker.example")),
        (("broker.example", "ward.local"), x509.DNSName("ward.local")),
        (("127.0.0.1",), x509.IPAddress(ip_address("127.0.0.1"))),
        (("broker.example", "::1"), x509.IPAddress(ip_address("::1"))),
    ],
)
def test_a_server_verifies_under_each_of_its_names(hosts: tuple[str, ...], name: x509.DNSName | x509.IPAddress) -> None:
    verify_server(a_server(*hosts), name)


@pytest.mark.parametrize("name", ["another.example", "sub.broker.example", "broker.exampl"])
def test_a_server_does_not_verify_under_another_name(name: str) -> None:
    with pytest.raises(VerificationError):
        verify_server(a_server(), x509.DNSName(name))


def test_a_host_name_may_be_longer_than_a_common_name() -> None:
    host = ".".join(["a" * 60, "b" * 60, "example"])

    verify_server(a_server(host), x509.DNSName(host))


def test_a_site_may_have_a_long_name() -> None:
    authority, _ = Authority.begin("Department of Anaesthesiology and Intensive Care of the District Hospital", at=AT)

    assert authority.issuing.issuer == authority.root.subject
    assert authority.issuing.subject != authority.root.subject


def test_openssl_agrees_at_its_strictest() -> None:
    now = datetime.now(UTC)  # OpenSSL goes by the machine's clock
    authority, _ = Authority.begin("ward", at=now)
    server = authority.server(KEY.public_key(), hosts=("broker.example",), at=now, days=1)
    client = authority.device(KEY.public_key(), common_name=DEVICE, tenant=TENANT, at=now)

    assert shake_hands(authority, server, client) == DEVICE
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(authority, server, client, host="another.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake_hands(authority, server=client, client=client)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake_hands(authority, server, client=server)


# Revocation


def test_a_revocation_list_names_serials_and_dates_and_is_good_for_a_week() -> None:
    since = AT - 3 * DAY

    made = x509.load_pem_x509_crl(AUTHORITY.revocation_list([(7, since), (2**158, AT)], number=42, at=AT))

    assert [(one.serial_number, one.revocation_date_utc) for one in made] == [(7, since), (2**158, AT)]
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 42
    assert made.next_update_utc == AT + 7 * DAY
    assert made.last_update_utc == AT - timedelta(minutes=10)


def test_an_empty_list_is_a_list() -> None:
    made = x509.load_pem_x509_crl(AUTHORITY.revocation_list([], number=1, at=AT))

    assert len(made) == 0


def test_a_list_is_signed_by_the_issuing_key_and_names_it() -> None:
    made = x509.load_pem_x509_crl(AUTHORITY.revocation_list([], number=1, at=AT, days=1))

    assert made.is_signature_valid(AUTHORITY.issuing_key.public_key())
    assert not made.is_signature_valid(OTHER.issuing_key.public_key())
    assert made.issuer == AUTHORITY.issuing.subject


# Signing requests


def a_request(sign: Callable[[x509.CertificateSigningRequestBuilder], x509.CertificateSigningRequest]) -> bytes:
    """One that asks for more than it should get."""
    asked = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ingest-v")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("broker.example")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return sign(asked).public_bytes(Encoding.DER)


def test_of_a_request_nothing_but_the_key_is_taken() -> None:
    request = a_request(lambda asked: asked.sign(KEY, hashes.SHA256()))

    made = AUTHORITY.device(requested_key(request), common_name=DEVICE, tenant=TENANT, at=AT)

    assert made.public_key() == KEY.public_key()
    assert made.subject == a_device().subject
    assert {one.oid: one.value for one in made.extensions} == {one.oid: one.value for one in a_device().extensions}


def test_a_request_of_ours_is_accepted() -> None:
    assert requested_key(signing_request(KEY, common_name=DEVICE)) == KEY.public_key()


def test_an_ed25519_key_is_accepted() -> None:
    key = Ed25519PrivateKey.generate()

    found = requested_key(a_request(lambda asked: asked.sign(key, None)))

    assert found == key.public_key()
    assert verified_client(AUTHORITY.device(found, common_name=DEVICE, tenant=TENANT, at=AT))


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65_537, 2_048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["RSA", "P-384", "secp256k1"],
)
def test_keys_of_other_kinds_are_refused(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(BadSigningRequest, match="neither P-256 nor Ed25519"):
        requested_key(a_request(lambda asked: asked.sign(key, hashes.SHA256())))


def test_somebody_elses_key_cannot_be_asked_for() -> None:
    mine = signing_request(KEY, common_name=DEVICE)
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    stolen = new_tls_key().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    with pytest.raises(BadSigningRequest, match="not of its own key"):
        requested_key(mine.replace(point, stolen))


def test_no_bit_of_a_request_gets_another_key_signed() -> None:
    request = signing_request(KEY, common_name=DEVICE)
    accepted = []

    for bit in range(8 * len(request)):
        changed = bytearray(request)
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(BadSigningRequest):
            accepted.append(requested_key(bytes(changed)))

    # DER says how many bits of a signature are unused, and nobody looks at that if they are zeros.
    assert len(accepted) <= 7
    assert all(one == KEY.public_key() for one in accepted)


def test_no_request_may_be_cut_or_continued() -> None:
    request = signing_request(KEY, common_name=DEVICE)

    for changed in (*(request[:size] for size in range(len(request))), request + b"\0", request + request):
        with pytest.raises(BadSigningRequest):
            requested_key(changed)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0",
        b"-----BEGIN CERTIFICATE REQUEST-----",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80" * 2_000,
        pem(ROOT[0]),
    ],
    ids=["nothing", "zero", "PEM", "endless", "nested", "certificate"],
)
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BadSigningRequest, match="signing request refused"):
        requested_key(garbage)


def test_a_request_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(BadSigningRequest, match=f"{MAX_REQUEST_BYTES + 1} bytes; at most {MAX_REQUEST_BYTES}"):
        requested_key(bytes(MAX_REQUEST_BYTES + 1))


# Pins


def test_the_pin_is_of_the_roots_key_and_outlives_its_certificate() -> None:
    again = x509.load_pem_x509_certificate(pem(AUTHORITY.root))
    renewed = AUTHORITY.server(ROOT.key.public_key(), hosts=("root",), at=AT + DAY, days=1)

    assert AUTHORITY.pin == pin_of(again) == pin_of(renewed) == key_hash(ROOT.key.public_key())
    assert len(AUTHORITY.pin) == 32
    assert AUTHORITY.pin not in (OTHER.pin, pin_of(AUTHORITY.issuing))


# Key files


@pytest.mark.parametrize("passphrase", ["", "a passphrase", "ein Schlüsselsatz"])
def test_a_key_comes_back_from_its_file(passphrase: str) -> None:
    packed = key_pem(KEY, passphrase=passphrase)

    assert load_key(packed, passphrase=passphrase).private_numbers() == KEY.private_numbers()
    assert (b"ENCRYPTED" in packed) is bool(passphrase)


@pytest.mark.parametrize(("sealed_with", "tried"), [("right", "wrong"), ("right", ""), ("", "wrong")])
def test_another_passphrase_opens_nothing(sealed_with: str, tried: str) -> None:
    with pytest.raises(BadKeyFile, match="its passphrase is another"):
        load_key(key_pem(KEY, passphrase=sealed_with), passphrase=tried)


@pytest.mark.parametrize("garbage", [b"", b"key", pem(AUTHORITY.root), key_pem(KEY)[:-60]])
def test_what_is_no_key_is_not_loaded(garbage: bytes) -> None:
    with pytest.raises(BadKeyFile):
        load_key(garbage)


@pytest.mark.parametrize("key", [Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())])
def test_a_key_file_of_another_kind_is_refused(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    packed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    with pytest.raises(BadKeyFile, match="not a P-256 private key"):
        load_key(packed)


def test_moments_are_utc() -> None:
    assert moment(1_767_600_000_500) == datetime(2026, 1, 5, 8, 0, 0, 500_000, tzinfo=UTC)
