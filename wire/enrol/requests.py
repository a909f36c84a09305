"""How a device comes to belong: an invitation on paper, a request with proof, an answer with certificates.

Pure: texts, transcripts and checks. `stream.site.enrolment` is the site's side, `wire.enrol.client` the device's.
"""

import base64
import hashlib
import secrets
import struct
from typing import Final, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wire.errors import BadInvitation, BadProof

TOKEN_BYTES: Final = 20
"""160 bits: nobody guesses that, so a fast hash protects it well enough in a database."""
TOKEN_MS: Final = 3_600_000
MAX_BODY_BYTES: Final = 16_384

_PURPOSE_ENROL: Final = b"vitalloom enrol v1"
_PURPOSE_RENEW: Final = b"vitalloom renew v1"
_PURPOSE_PREKEY: Final = b"vitalloom prekey v1"


class Invitation(NamedTuple):
    """What a device is shown once: where to go, whom to trust, who it will be, and that it may."""

    url: str  # https://host:port
    pin: bytes  # SHA-256 of the root's public key
    device_id: bytes
    token: bytes

    def text(self) -> str:
        """As it stands in the QR code."""
        place = urlsplit(self.url).netloc
        facts = {"ca": _b64(self.pin), "id": self.device_id.hex(), "token": _b64(self.token)}
        return f"vitalloom://{place}/enrol?{urlencode(facts)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote.

        Raises:
            BadInvitation: it is not an invitation.
        """
        try:
            parts = urlsplit(text.strip())
            if parts.scheme != "vitalloom" or not parts.hostname or not parts.port:
                raise BadInvitation("it begins with vitalloom:// and names a host and a port")
            told = parse_qsl(parts.query, strict_parsing=True)
            facts = dict(told)
            pin, token, device_id = _un64(facts["ca"]), _un64(facts["token"]), bytes.fromhex(facts["id"])
        except (ValueError, KeyError) as error:
            raise BadInvitation("it is not whole; was the line cut?") from error
        lengths = (len(pin), len(device_id), len(token), len(told))
        if lengths != (32, 16, TOKEN_BYTES, 3) or parts.path != "/enrol" or parts.fragment:
            raise BadInvitation("it is not whole; was the line cut?")
        return cls(f"https://{parts.netloc}", pin, device_id, token)


def new_token() -> bytes:
    return secrets.token_bytes(TOKEN_BYTES)


def token_hash(token: bytes) -> bytes:
    return hashlib.sha256(b"vitalloom token\0" + token).digest()


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device sends once it knows whom it talks to."""

    device_id: str
    token: str
    csr: str  # base64 of DER
    signing_key: str
    prekey_id: str
    prekey: str
    proof: str  # by the signing key


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New keys for a device that has some."""

    device_id: str
    serial: str  # of its present credential
    csr: str
    signing_key: str
    prekey_id: str
    prekey: str
    proof: str  # by the new signing key
    present: str  # the same, by the present signing key


class PrekeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new prekey: what others seal to from now on."""

    device_id: str
    serial: str
    prekey_id: str
    prekey: str
    at_ms: int
    present: str  # by the present signing key


class BrokerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a device connects."""

    host: str
    port: int


class EnrolReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a device becomes. The documents are signed; the rest is believed because of whom it comes from."""

    device_id: str
    tenant_id: str
    role: str
    serial: str
    certificate: str  # PEM, the issuing certificate after it
    alarm_certificate: str | None  # of an edge's alarm lane
    root: str  # PEM
    control_keys: list[str]
    documents: list[str]  # frames, base64
    broker: BrokerAddress
    now_ms: int


class PrekeyReply(msgspec.Struct, frozen=True, kw_only=True):
    """The documents that follow from a new prekey."""

    documents: list[str]
    now_ms: int


class Offered(NamedTuple):
    """The keys of a request, decoded."""

    csr: bytes
    signing_key: Ed25519PublicKey
    prekey_id: bytes
    prekey: bytes


def enrol_transcript(
    device_id: bytes, token: bytes, csr: bytes, signing_key: bytes, prekey: bytes, server: bytes
) -> bytes:
    """What the new signing key signs: bound to this device, this token, these keys and this server.

    Args:
        server: the server's certificate, DER.
    """
    return _transcript(_PURPOSE_ENROL, device_id, token_hash(token), _sha(csr), signing_key, prekey, _sha(server))


def renew_transcript(
    device_id: bytes, serial: bytes, csr: bytes, signing_key: bytes, prekey: bytes, server: bytes
) -> bytes:
    """What the new and the present signing key sign."""
    return _transcript(_PURPOSE_RENEW, device_id, serial, _sha(csr), signing_key, prekey, _sha(server))


def prekey_transcript(device_id: bytes, serial: bytes, prekey_id: bytes, prekey: bytes, at_ms: int) -> bytes:
    """What the present signing key signs."""
    return _transcript(_PURPOSE_PREKEY, device_id, serial, prekey_id, prekey, struct.pack(">Q", at_ms))


def offered(request: EnrolRequest | RenewRequest) -> Offered:
    """Decode the keys of a request.

    Raises:
        BadProof: they are not keys.
    """
    prekey_id, prekey = prekey_of(request.prekey_id, request.prekey)
    try:
        csr = base64.b64decode(request.csr, validate=True)
        signing_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(request.signing_key))
    except ValueError as error:
        raise BadProof("a key is not a key") from error
    return Offered(csr, signing_key, prekey_id, prekey)


def prekey_of(prekey_id: str, prekey: str) -> tuple[bytes, bytes]:
    """Decode a prekey and its id.

    Raises:
        BadProof: they are not what they should be.
    """
    try:
        found_id, found = bytes.fromhex(prekey_id), bytes.fromhex(prekey)
        # A point of small order makes no secret with any key: whoever sealed to it later would fail.
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(found))
    except ValueError as error:
        raise BadProof("a key is not a key") from error
    if len(found_id) != 8:
        raise BadProof("a prekey's id has 8 bytes")
    return found_id, found


def check_proof(key: Ed25519PublicKey, signature: str, transcript: bytes) -> None:
    """Raises BadProof."""
    try:
        key.verify(bytes.fromhex(signature), transcript)
    except (InvalidSignature, ValueError) as error:
        raise BadProof("the proof is not of this key, device, token and server") from error


def proof(key: Ed25519PrivateKey, transcript: bytes) -> str:
    return key.sign(transcript).hex()


def is_device_id(text: str) -> bool:
    """32 lower-case hex digits and nothing else: it becomes part of topics and access lists."""
    return len(text) == 32 and all(one in "0123456789abcdef" for one in text)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def un64(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text, validate=True)


def _transcript(purpose: bytes, *parts: bytes) -> bytes:
    return purpose + b"\0" + b"".join(struct.pack(">H", len(part)) + part for part in parts)


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _un64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
