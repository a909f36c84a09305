"""Model passports: signed descriptions of a model, its training data, figures, limits and file hashes.

`passport.json` lies beside the model files. Changing a model file or the passport invalidates the signature, so only
the holder of a trusted key can publish a change.
"""

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models.errors import BadPassport

SCHEMA: Final = 1
FILE: Final = "passport.json"
RELEASE_KEYS: Final[tuple[str, ...]] = ("f1e8cefdc27b91e8402620013b4485aba512458b01f0516d4a9e07509ea7b9bc",)
"""Public keys that are trusted by default; Ed25519, in hex."""

_PURPOSE: Final = b"vitalloom passport 1\0"
_MAX_BYTES: Final = 1 << 20


class Interval(msgspec.Struct, frozen=True, array_like=True):
    """A measured figure, with its 95 % bootstrap interval over patients if it was computed."""

    value: float
    low: float | None = None
    high: float | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data set that a model was trained on."""

    name: str
    rows: str  # number of patients or recordings, and of which kind
    licence: str
    citation: str


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input with the output of the released files, to verify an installation. `None`: unknown value."""

    inputs: dict[str, list[list[float | None]]]
    output: list[list[float]]
    tolerance: float


class Passport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The passport of one released model."""

    schema: int = SCHEMA
    name: str  # sepsis, heart, heart-home, rhythm
    version: str  # three numbers, increasing with each release
    does: str
    inputs: tuple[str, ...]  # features, in order
    output: str
    files: dict[str, str]  # SHA-256 by file name
    threshold: float  # scores from here on raise an alarm
    budgets: dict[str, float] = {}  # thresholds by alarms per patient-day
    bounds: dict[str, tuple[float, float]] = {}  # by input: range of the training data without 0.1 % at each end
    trained_on: tuple[Origin, ...]
    made_by: str  # the exact command
    seed: int
    parameters: int
    metrics: dict[str, Interval] = {}
    parity: dict[str, float] = {}
    limits: tuple[str, ...]
    golden: Golden
    key: str = ""  # public half, hex
    signature: str = ""  # hex


def number_of(version: str) -> tuple[int, int, int]:
    """A version as three numbers that can be compared.

    >>> number_of("1.10.0") > number_of("1.9.3")
    True

    Raises:
        BadPassport: the text is not a version.
    """
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 6 for part in parts):
        raise BadPassport("version", f"{version[:40]!r} is not a version; write three numbers such as 1.2.0")
    return int(parts[0]), int(parts[1]), int(parts[2])


def signed(passport: Passport, key: Ed25519PrivateKey) -> Passport:
    """The passport with a signature. It is encoded and decoded first, because JSON may round a float."""
    named = msgspec.structs.replace(passport, key=key.public_key().public_bytes_raw().hex(), signature="")
    named = msgspec.json.decode(encode(named), type=Passport)
    return msgspec.structs.replace(named, signature=key.sign(_signed_bytes(named)).hex())


def encode(passport: Passport) -> bytes:
    """The passport as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(passport, order="deterministic"), indent=1) + b"\n"


def decode(content: bytes, *, trusted: tuple[str, ...]) -> Passport:
    """Read a passport and verify its signature.

    Args:
        trusted: public keys that are accepted, hex.

    Raises:
        BadPassport: too long, malformed, of another schema, not signed by a trusted key, or changed after signing.
    """
    if len(content) > _MAX_BYTES:
        raise BadPassport("size", f"the passport has {len(content)} bytes; at most {_MAX_BYTES} are allowed")
    try:
        passport = msgspec.json.decode(content, type=Passport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPassport("schema", f"the passport is not valid JSON of this schema ({error})") from None
    if passport.schema != SCHEMA:
        raise BadPassport(
            "schema", f"the passport has schema {passport.schema}; this version of vitalloom reads {SCHEMA}"
        )
    number_of(passport.version)
    if passport.key not in trusted:
        signer = f"signed with key {passport.key[:16]}, which is not trusted" if passport.key else "not signed"
        raise BadPassport("signature", f"the passport is {signer}; give the key with --key, or model_keys of an edge")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(passport.key)).verify(
            bytes.fromhex(passport.signature), _signed_bytes(passport)
        )
    except (InvalidSignature, ValueError):
        raise BadPassport(
            "signature", "invalid signature: the passport was changed after signing; copy the model again"
        ) from None
    return passport


def _signed_bytes(passport: Passport) -> bytes:
    """The bytes that are signed: all fields except the signature, in deterministic order."""
    bare = msgspec.structs.replace(passport, signature="")
    return _PURPOSE + msgspec.json.encode(bare, order="deterministic")
