"""A passport: what a model is, what it learned from, what it may be believed for, and who says so.

It lies beside the files of a model and names their hashes. Whoever changes a bit of either needs a key to say so anew.
"""

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models.errors import BadPassport

SCHEMA: Final = 1
FILE: Final = "passport.json"
RELEASE_KEYS: Final[tuple[str, ...]] = ("f1e8cefdc27b91e8402620013b4485aba512458b01f0516d4a9e07509ea7b9bc",)
"""Whose models are believed when a site says nothing else; Ed25519, in hex."""

_PURPOSE: Final = b"vitalloom passport 1\0"
_MOST_BYTES: Final = 1 << 20


class Interval(msgspec.Struct, frozen=True, array_like=True):
    """A measured figure, with the 95 % interval of a bootstrap over patients where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Data that a model has learned from."""

    name: str
    rows: str  # how many, of whom
    licence: str
    citation: str


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input with the answer that the released files give to it. `None`: not known."""

    inputs: dict[str, list[list[float | None]]]
    output: list[list[float]]
    tolerance: float


class Passport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One released model."""

    schema: int = SCHEMA
    name: str  # sepsis, heart, heart-home, rhythm
    version: str  # three numbers, rising
    does: str
    inputs: tuple[str, ...]  # features, in order
    output: str
    files: dict[str, str]  # name, SHA-256
    threshold: float  # the model speaks from this score on
    budgets: dict[str, float] = {}  # alarms per patient-day to threshold
    bounds: dict[str, tuple[float, float]] = {}  # input to what training saw of it, all but 0.1 % at each end
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
    """A version as numbers, to compare.

    Raises:
        BadPassport: it is no version.
    """
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 6 for part in parts):
        raise BadPassport("version", "a version is three numbers with dots between them")
    return int(parts[0]), int(parts[1]), int(parts[2])


def signed(passport: Passport, key: Ed25519PrivateKey) -> Passport:
    """The same passport with a signature, of what will be read again: a float may be written otherwise than made."""
    named = msgspec.structs.replace(passport, key=key.public_key().public_bytes_raw().hex(), signature="")
    named = msgspec.json.decode(encode(named), type=Passport)
    return msgspec.structs.replace(named, signature=key.sign(_covered(named)).hex())


def encode(passport: Passport) -> bytes:
    """For the file: indented, because people read it."""
    return msgspec.json.format(msgspec.json.encode(passport, order="deterministic"), indent=1) + b"\n"


def decode(content: bytes, *, trusted: tuple[str, ...]) -> Passport:
    """A passport that one of the trusted keys has signed.

    Raises:
        BadPassport: too long, malformed, of another schema, or signed by nobody whom this place believes.
    """
    if len(content) > _MOST_BYTES:
        raise BadPassport("size", f"{len(content)} bytes; a passport has at most {_MOST_BYTES}")
    try:
        passport = msgspec.json.decode(content, type=Passport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPassport("schema", f"it cannot be read ({error})") from None
    if passport.schema != SCHEMA:
        raise BadPassport("schema", f"it has schema {passport.schema}, this vitalloom reads {SCHEMA}")
    number_of(passport.version)
    if passport.key not in trusted:
        raise BadPassport("signature", f"it is signed by {passport.key[:16] or 'nobody'}, which is not believed here")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(passport.key)).verify(
            bytes.fromhex(passport.signature), _covered(passport)
        )
    except (InvalidSignature, ValueError):
        raise BadPassport("signature", "its signature does not fit: it was changed after it was signed") from None
    return passport


def _covered(passport: Passport) -> bytes:
    """What is signed: everything but the signature, in one order of keys."""
    bare = msgspec.structs.replace(passport, signature="")
    return _PURPOSE + msgspec.json.encode(bare, order="deterministic")
