"""The sealed frame VSE1 as bytes: header, session information, acknowledgement, padding.

Layouts and checks only. Keys and counters are in `wire.sessions` and `wire.receiver`.
"""

import hashlib
import struct
from enum import IntEnum
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wire.errors import Reason, Rejected

MAGIC: Final = b"VE"
VERSION: Final = 1
HEADER_BYTES: Final = 48
TAG_BYTES: Final = 16
INFO_BYTES: Final = 120
HPKE_BYTES: Final = 80
SIGNATURE_BYTES: Final = 64
SESSION_BYTES: Final = HEADER_BYTES + INFO_BYTES + HPKE_BYTES + SIGNATURE_BYTES
PAD_TO: Final = 32
MAX_PAYLOAD: Final = 8_191  # one byte of padding fits within 8,192
MAX_ACK_RANGES: Final = 64
NO_BINDING: Final = bytes(16)
"""In place of a binding id: a session that is about the device, not about a patient."""

_HEADER: Final = struct.Struct(">2sBBBBH16s16sII")
_INFO: Final = struct.Struct(">16s16s16s16s8s8sBBBBIQQ16s")
_ACK_HEAD: Final = struct.Struct(">BBH")
_RANGE: Final = struct.Struct(">II")
_U64: Final = struct.Struct(">Q")
ANSWER_BYTES: Final = 52
_ACK_LEAST: Final = HEADER_BYTES + _ACK_HEAD.size + 8 + SIGNATURE_BYTES


class FrameType(IntEnum):
    SESSION = 1
    DATA = 2
    ACK = 3
    DOC = 4
    ANSWER = 5


class FrameClass(IntEnum):
    """What a session carries. Alarms have their own, so that no backlog of vitals stands before them."""

    VITALS = 1
    ALARM = 2
    HEARTBEAT = 3
    CONTROL = 4


class Suite(IntEnum):
    """X25519, HKDF-SHA256, ChaCha20-Poly1305, Ed25519. 2 (FIPS) and 3 (post-quantum) are reserved."""

    STANDARD = 1


ACCEPTED_SUITES: Final = frozenset({Suite.STANDARD})
"""Policy of the receiver. Nothing is negotiated."""


class Stage(IntEnum):
    """What an acknowledgement says."""

    DURABLE = 1
    STORED = 2
    REJECTED = 3
    NEED_SESSION = 4


class Header(NamedTuple):
    """The first 48 bytes of every frame; all of it is authenticated."""

    type: int
    suite: int
    frame_class: int
    body_bytes: int
    sender: bytes
    session_id: bytes
    counter: int
    salt: int

    def pack(self) -> bytes:
        return _HEADER.pack(
            MAGIC, VERSION, self.type, self.suite, self.frame_class, self.body_bytes, self.sender, self.session_id,
            self.counter, self.salt,
        )  # fmt: skip


# Shortest and longest frame by type.
_LENGTHS: Final = {
    FrameType.SESSION: (SESSION_BYTES, SESSION_BYTES),
    FrameType.DATA: (HEADER_BYTES + PAD_TO + TAG_BYTES, HEADER_BYTES + 8_208),
    FrameType.ACK: (_ACK_LEAST, _ACK_LEAST + MAX_ACK_RANGES * _RANGE.size),
    FrameType.DOC: (HEADER_BYTES + SIGNATURE_BYTES, HEADER_BYTES + 8_208),
    FrameType.ANSWER: (HEADER_BYTES + ANSWER_BYTES + SIGNATURE_BYTES,) * 2,
}
_SHORTEST: Final = min(shortest for shortest, _ in _LENGTHS.values())
LONGEST: Final = max(longest for _, longest in _LENGTHS.values())
_TYPES: Final = {int(kind): lengths for kind, lengths in _LENGTHS.items()}
_CLASSES: Final = frozenset(int(one) for one in FrameClass)


def parse_header(frame: bytes) -> Header:
    """Check everything about a frame that needs no key, and take its header off.

    Raises:
        Rejected: length, magic, version, suite, type, class or a reserved field is wrong.
    """
    length = len(frame)
    if not _SHORTEST <= length <= LONGEST:
        raise Rejected(Reason.LENGTH, f"{length} bytes")
    magic, version, kind, suite, frame_class, body, sender, session_id, counter, salt = _HEADER.unpack_from(frame)
    if magic != MAGIC:
        raise Rejected(Reason.MAGIC)
    if version != VERSION:
        raise Rejected(Reason.VERSION, str(version))
    lengths = _TYPES.get(kind)
    if lengths is None:
        raise Rejected(Reason.TYPE, str(kind))
    if suite not in ACCEPTED_SUITES:
        raise Rejected(Reason.SUITE, str(suite))
    if frame_class not in _CLASSES:
        raise Rejected(Reason.CLASS, str(frame_class))
    if not lengths[0] <= length <= lengths[1] or body != length - HEADER_BYTES:
        raise Rejected(Reason.LENGTH, f"{length} bytes, {body} announced")
    if (kind != FrameType.DATA and salt) or (kind == FrameType.SESSION and counter):
        raise Rejected(Reason.RESERVED)
    return Header(kind, suite, frame_class, body, sender, session_id, counter, salt)


def frame_class_of(frame: bytes) -> int:
    """The class that a frame's header names; unchecked."""
    return frame[5]


class SessionInfo(NamedTuple):
    """The context that a session's keys are bound to, 120 bytes."""

    tenant: bytes
    sender: bytes
    recipient: bytes
    binding_id: bytes
    credential_serial: bytes
    prekey_id: bytes
    suite: int
    frame_class: int
    number: int
    at_ms: int  # the sender's wall clock: information only
    previous: bytes

    def pack(self) -> bytes:
        return _INFO.pack(
            self.tenant, self.sender, self.recipient, self.binding_id, self.credential_serial, self.prekey_id, VERSION,
            self.suite, self.frame_class, 0, 0, self.number, self.at_ms, self.previous,
        )  # fmt: skip

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Raises Rejected where a version or reserved field is wrong."""
        (
            tenant,
            sender,
            recipient,
            binding,
            serial,
            prekey,
            version,
            suite,
            kind,
            zero,
            zeros,
            number,
            at_ms,
            previous,
        ) = _INFO.unpack(packed)
        if version != VERSION:
            raise Rejected(Reason.VERSION, str(version))
        if zero or zeros:
            raise Rejected(Reason.RESERVED)
        return cls(tenant, sender, recipient, binding, serial, prekey, suite, kind, number, at_ms, previous)


def session_id_of(info: bytes, hpke: bytes) -> bytes:
    """A session's id commits to its key and its context."""
    return hashlib.sha256(b"VSE1 sid\0" + info + hpke).digest()[:16]


def session_signed(header: bytes, info: bytes, hpke: bytes) -> bytes:
    """What the sender of a SESSION frame signs."""
    return b"VSE1 session\0" + header + info + hpke


def pad(payload: bytes) -> bytes:
    """Hide the exact length: 0x80, then zeros to a multiple of 32."""
    return payload + b"\x80" + bytes(-(len(payload) + 1) % PAD_TO)


def unpad(padded: bytes) -> bytes:
    """Undo `pad`.

    Raises:
        Rejected: the padding is not ours.
    """
    payload = padded.rstrip(b"\0")
    if not payload.endswith(b"\x80") or len(padded) - len(payload) >= PAD_TO:
        raise Rejected(Reason.PADDING)
    return payload[:-1]


class Ack(NamedTuple):
    """A signed acknowledgement. Replaying an old one has no effect: its content stays true."""

    stage: Stage
    reason: int
    ranges: tuple[tuple[int, int], ...]  # inclusive; with NEED_SESSION empty
    last_number: int | None  # with NEED_SESSION: the highest session number that was accepted
    at_ms: int
    sender: bytes  # device that acknowledges
    session_id: bytes  # the session that is acknowledged
    frame_class: int
    sequence: int


def build_ack(key: Ed25519PrivateKey, ack: Ack) -> bytes:
    """The frame of an acknowledgement."""
    if ack.stage is Stage.NEED_SESSION:
        packed = _U64.pack(ack.last_number or 0)
    else:
        packed = b"".join(_RANGE.pack(*pair) for pair in ack.ranges)
    body = _ACK_HEAD.pack(ack.stage, ack.reason, len(packed) // _RANGE.size) + packed + _U64.pack(ack.at_ms)
    header = Header(
        FrameType.ACK,
        Suite.STANDARD,
        ack.frame_class,
        len(body) + SIGNATURE_BYTES,
        ack.sender,
        ack.session_id,
        ack.sequence,
        0,
    ).pack()
    return header + body + key.sign(b"VSE1 ack\0" + header + body)


def open_ack(frame: bytes, *keys: Ed25519PublicKey) -> Ack:
    """Check and read an acknowledgement.

    Args:
        keys: what its sender may sign with.

    Raises:
        Rejected: it is not one, or signed by none of `keys`.
    """
    header = parse_header(frame)
    if header.type != FrameType.ACK:
        raise Rejected(Reason.TYPE, str(header.type))
    signed = frame[:-SIGNATURE_BYTES]
    if not any(is_signed(key, frame[-SIGNATURE_BYTES:], b"VSE1 ack\0" + signed) for key in keys):
        raise Rejected(Reason.SIGNATURE)
    stage, reason, count = _ACK_HEAD.unpack_from(signed, HEADER_BYTES)
    start = HEADER_BYTES + _ACK_HEAD.size
    if len(signed) != start + count * _RANGE.size + 8:
        raise Rejected(Reason.LENGTH, f"{count} ranges announced")
    if stage not in _STAGES:
        raise Rejected(Reason.TYPE, f"stage {stage}")
    last_number = None
    ranges: tuple[tuple[int, int], ...] = ()
    if stage == Stage.NEED_SESSION:
        if count != 1:
            raise Rejected(Reason.LENGTH, f"{count} ranges in NEED_SESSION")
        (last_number,) = _U64.unpack_from(signed, start)
    else:
        ranges = tuple(_RANGE.unpack_from(signed, start + i * _RANGE.size) for i in range(count))
    (at_ms,) = _U64.unpack_from(signed, len(signed) - 8)
    return Ack(
        Stage(stage),
        reason,
        ranges,
        last_number,
        at_ms,
        header.sender,
        header.session_id,
        header.frame_class,
        header.counter,
    )


_STAGES: Final = frozenset(int(stage) for stage in Stage)


def is_signed(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    """Whether a signature of `text` is by this key."""
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
