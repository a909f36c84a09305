"""The project's certificate authority: a root that stays offline, an issuing key, certificates, a revocation list.

X.509 and nothing else: no files, no clock. Subjects and uses are ours; of a signing request only its key is taken.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wire.errors import BadKeyFile, BadSigningRequest

ROOT_DAYS: Final = 3_650
ISSUING_DAYS: Final = 365
DEVICE_DAYS: Final = 30
RENEW_AFTER_DAYS: Final = 15
"""A device that talks once a fortnight finds the registry in its last fortnight, whenever it talks."""
LIST_DAYS: Final = 7
"""When a revocation list's time is over, Mosquitto refuses every client (eclipse-mosquitto/mosquitto#1826)."""
MAX_REQUEST_BYTES: Final = 4_096

_BACKDATED: Final = timedelta(minutes=10)  # clocks at bedsides are slow sometimes
_LONGEST_NAME: Final = 64  # X.520 allows no more in a common name; host names may be longer and stand elsewhere, too
_LONGEST_SITE: Final = 40  # leaves room for what is said after it

TlsPublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey


class Ca(NamedTuple):
    """A certificate that may sign, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Authority:
    """Signs with the issuing key. The root key is needed to begin, and once a year."""

    def __init__(self, *, root: x509.Certificate, issuing: Ca) -> None:
        self.root = root
        self._issuing = issuing

    @classmethod
    def begin(cls, name: str, *, at: datetime) -> tuple[Self, Ca]:
        """A new authority, and its root, whose key belongs into a safe."""
        key = new_tls_key()
        subject = _named(f"{name[:_LONGEST_SITE]} root")
        root = _sign(subject, subject, key.public_key(), key, at=at, days=ROOT_DAYS, ca_below=1)
        root_ca = Ca(root, key)
        return cls(root=root, issuing=cls.issuing_from(root_ca, name, at=at)), root_ca

    @classmethod
    def issuing_from(cls, root: Ca, name: str, *, at: datetime) -> Ca:
        """A new issuing key under a root."""
        key = new_tls_key()
        subject = _named(f"{name[:_LONGEST_SITE]} issuing {at:%Y-%m-%d}")
        signed = _sign(
            subject, root.certificate.subject, key.public_key(), root.key, at=at, days=ISSUING_DAYS, ca_below=0
        )
        return Ca(signed, key)

    @property
    def issuing(self) -> x509.Certificate:
        return self._issuing.certificate

    @property
    def issuing_key(self) -> ec.EllipticCurvePrivateKey:
        return self._issuing.key

    @property
    def pin(self) -> bytes:
        """What a device is given on paper: SHA-256 of the root's public key."""
        return pin_of(self.root)

    @property
    def bundle(self) -> bytes:
        """Issuing certificate and root, PEM: what a broker checks clients against."""
        return pem(self.issuing) + pem(self.root)

    def device(
        self, key: TlsPublicKey, *, common_name: str, tenant: bytes, at: datetime, days: float = DEVICE_DAYS
    ) -> x509.Certificate:
        """A client certificate. Its subject, names and uses are ours, whatever was asked for."""
        urn = f"urn:rpm:{tenant.hex()}:{common_name}"
        return self._end(key, common_name, [x509.UniformResourceIdentifier(urn)], client=True, at=at, days=days)

    def server(self, key: TlsPublicKey, *, hosts: Sequence[str], at: datetime, days: float) -> x509.Certificate:
        """A server certificate for host names and addresses."""
        return self._end(key, hosts[0], [_host(one) for one in hosts], client=False, at=at, days=days)

    def revocation_list(
        self, revoked: Iterable[tuple[int, datetime]], *, number: int, at: datetime, days: float = LIST_DAYS
    ) -> bytes:
        """The list of revoked serial numbers, PEM.

        Args:
            revoked: serial number, and since when.
            number: rises with every list.
        """
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.issuing.subject)
            .last_update(at - _BACKDATED)
            .next_update(at + timedelta(days=days))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuing.key.public_key()), critical=False
            )
        )
        for serial, since in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
            made = made.add_revoked_certificate(entry)
        return made.sign(self._issuing.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _end(
        self, key: TlsPublicKey, name: str, names: list[x509.GeneralName], *, client: bool, at: datetime, days: float
    ) -> x509.Certificate:
        return _sign(
            _named(name),
            self.issuing.subject,
            key,
            self._issuing.key,
            at=at,
            days=days,
            names=names,
            use=ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH,
        )


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """P-256: what every TLS library of every device speaks."""
    return ec.generate_private_key(ec.SECP256R1())


def signing_request(key: ec.EllipticCurvePrivateKey, *, common_name: str) -> bytes:
    """A PKCS #10 request, DER."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_named(common_name)).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def requested_key(request: bytes) -> TlsPublicKey:
    """The public key of a signing request that proves to have the private one. Nothing else of it is looked at.

    Raises:
        BadSigningRequest: not a request, not signed by its own key, or a key of another kind.
    """
    if len(request) > MAX_REQUEST_BYTES:
        raise BadSigningRequest(f"{len(request)} bytes; at most {MAX_REQUEST_BYTES}")
    try:
        parsed = x509.load_der_x509_csr(request)
        key = parsed.public_key()
        proven = parsed.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as error:
        raise BadSigningRequest("not a PKCS #10 request in DER") from error
    if isinstance(key, ec.EllipticCurvePublicKey):
        accepted = isinstance(key.curve, ec.SECP256R1)
    else:
        accepted = isinstance(key, Ed25519PublicKey)
    if not accepted or not isinstance(key, ec.EllipticCurvePublicKey | Ed25519PublicKey):
        raise BadSigningRequest("its key is neither P-256 nor Ed25519")
    if not proven:
        raise BadSigningRequest("its signature is not of its own key")
    return key


def pin_of(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a certificate's SubjectPublicKeyInfo, 32 bytes."""
    return key_hash(certificate.public_key())  # type: ignore[arg-type]


def key_hash(key: TlsPublicKey) -> bytes:
    """SHA-256 of a SubjectPublicKeyInfo, 32 bytes."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey, *, passphrase: str = "") -> bytes:
    """A private key as PKCS #8; encrypted where there is a passphrase."""
    how: KeySerializationEncryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def load_key(packed: bytes, *, passphrase: str = "") -> ec.EllipticCurvePrivateKey:
    """Raises BadKeyFile: not a P-256 key, or the passphrase is another."""
    try:
        key = load_pem_private_key(packed, passphrase.encode() or None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKeyFile("not a private key, or its passphrase is another") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadKeyFile("not a P-256 private key")
    return key


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_LONGEST_NAME])])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    key: TlsPublicKey,
    by: ec.EllipticCurvePrivateKey,
    *,
    at: datetime,
    days: float,
    ca_below: int | None = None,
    use: x509.ObjectIdentifier | None = None,
    names: list[x509.GeneralName] | None = None,
) -> x509.Certificate:
    is_ca = ca_below is not None
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BACKDATED)
        .not_valid_after(at + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=ca_below), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if use is not None:
        made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(by, hashes.SHA256())
