"""Control documents: what the data centre says about devices and bindings, signed, with versions that only rise.

A document is a DOC frame. It says everything that is true of one subject now, so the newest one is enough; an older one
is refused, whatever its source. Documents about a patient are sealed to the edge that needs it.
"""

import hashlib
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wire.envelope import HEADER_BYTES, SIGNATURE_BYTES, FrameClass, FrameType, Header, Suite, parse_header
from wire.errors import Reason, Rejected
from wire.identity import About, Role, StayOrders
from wire.sessions import HPKE_SUITE, Recipient

EVERY_DEVICE: Final = bytes(16)
"""In place of a recipient: this document is not secret, and any device may accept it."""
WANTED: Final = b"VSE1 documents?"
"""Payload of a wearable, in the control class, that measures without an assignment. It is not signed and proves
nothing: a forged one only makes an edge repeat documents that are not secret."""
MAX_CONTENT: Final = 8_000
MOST_ORDERS: Final = 7_000

_BINDING_FIELDS: Final = 10  # of the first version
_FIXED: Final = struct.Struct(">BBHQQ16s")
_SEALED: Final = 1
_PREKEY_ID_BYTES: Final = 8
_HPKE_EXTRA: Final = 48  # encapsulated key and tag

_Serial = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
_Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class DocumentType(IntEnum):
    DEVICE = 1
    BINDING = 2
    ASSIGNMENT = 3
    CONTROL_KEYS = 4
    ORDERS = 5


class Document(NamedTuple):
    """One document, its signature checked."""

    type: DocumentType
    subject: bytes  # device id, binding id, stay id; whose newest state this is
    version: int
    issued_ms: int
    recipient: bytes
    content: "Content"


class CredentialV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What a device signs with, and from when to when."""

    serial: _Serial
    signing_key: _Key
    not_before_ms: int
    not_after_ms: int


class DeviceV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A device as everybody may know it."""

    role: Role
    tenant_id: _Id
    credentials: tuple[CredentialV1, ...]  # the newest last; the one before is good for a day more
    prekey_id: bytes = b""
    prekey: bytes = b""
    revoked_ms: int | None = None

    def __post_init__(self) -> None:
        if (len(self.prekey_id), len(self.prekey)) not in ((0, 0), (_PREKEY_ID_BYTES, 32)):
            raise ValueError("a prekey has 32 bytes and an id of 8")


class BindingV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A device on a patient, for the edge; the patient is a pseudonym."""

    patient: str
    bed: str
    wearable_id: _Id
    edge_id: _Id
    valid_from_ms: int
    valid_to_ms: int | None = None
    spo2_scale: int = 1
    age_years: float | None = None  # these three and `is_pregnant` are facts about the patient; None: unknown
    is_male: bool | None = None
    chest_pain: int | None = None
    is_pregnant: bool | None = None
    time_zone: str = ""  # IANA name, in which times are shown; empty: UTC
    stay_id: bytes = b""  # empty: the stay of its own id
    stay_goes_on: bool = False  # the binding has ended, the stay has not
    stay_to_ms: int | None = None  # end of the stay, if that is not `valid_to_ms`
    device_name: str = ""  # what people call the device; empty where the stay has only this one
    devices_elsewhere: int = 0  # devices that are on the patient now and write to another edge

    def __post_init__(self) -> None:
        if problem := self.about.problem():
            raise ValueError(problem)
        if len(self.stay_id) not in (0, 16):
            raise ValueError("stay_id has 16 bytes, or none")
        if self.devices_elsewhere < 0:
            raise ValueError("devices_elsewhere is a count")

    @property
    def about(self) -> About:
        """The facts about the patient."""
        return About(
            age_years=self.age_years, is_male=self.is_male, chest_pain=self.chest_pain, is_pregnant=self.is_pregnant
        )


class AssignmentV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The same for the wearable: whom it writes to, and nothing about a patient."""

    binding_id: _Id
    edge_id: _Id
    valid_from_ms: int
    valid_to_ms: int | None = None


class ControlKeysV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The keys that sign documents."""

    keys: Annotated[tuple[_Key, ...], msgspec.Meta(min_length=1)]


class OrdersV1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What is watched in one stay, for an edge that hears it; the whole, with what begins and ends later."""

    version: Annotated[int, msgspec.Meta(ge=1)]  # of the orders: every edge of a stay is told the same
    orders: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MOST_ORDERS)]  # as `vitals.orders` encodes them

    @property
    def of_stay(self) -> StayOrders:
        return StayOrders(self.version, self.orders)


Content = DeviceV1 | BindingV1 | AssignmentV1 | ControlKeysV1 | OrdersV1
_KIND: Final[dict[DocumentType, Any]] = {
    DocumentType.DEVICE: DeviceV1,
    DocumentType.BINDING: BindingV1,
    DocumentType.ASSIGNMENT: AssignmentV1,
    DocumentType.CONTROL_KEYS: ControlKeysV1,
    DocumentType.ORDERS: OrdersV1,
}
_BINDING_DEFAULTS: Final = tuple(field.default for field in msgspec.structs.fields(BindingV1))
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(struct_) for kind, struct_ in _KIND.items()}
_ENCODER: Final = msgspec.msgpack.Encoder()


def control_key_id(key: Ed25519PublicKey) -> bytes:
    """How a control key is named in a frame, 16 bytes."""
    return hashlib.sha256(b"VSE1 control\0" + key.public_bytes_raw()).digest()[:16]


def encode_content(content: Content) -> bytes:
    """The same content gives the same bytes.

    Of a binding the fields that were added later and say nothing are left out: earlier versions refuse what they do not
    know.
    """
    if isinstance(content, BindingV1):
        fields = list(msgspec.structs.astuple(content))
        while len(fields) > _BINDING_FIELDS and fields[-1] == _BINDING_DEFAULTS[len(fields) - 1]:
            fields.pop()
        return _ENCODER.encode(fields)
    return _ENCODER.encode(content)


def build_document(key: Ed25519PrivateKey, document: Document, *, seal_to: Recipient | None = None) -> bytes:
    """The frame of a document.

    Args:
        seal_to: only this recipient can read it; None: everybody can.

    Raises:
        ValueError: it is too long for a frame.
    """
    content = encode_content(document.content)
    if len(content) > MAX_CONTENT:
        raise ValueError(f"a document holds at most {MAX_CONTENT} bytes, this one has {len(content)}")
    flags = 0 if seal_to is None else _SEALED
    carried = len(content) if seal_to is None else _PREKEY_ID_BYTES + _HPKE_EXTRA + len(content)
    head = Header(
        FrameType.DOC,
        Suite.STANDARD,
        FrameClass.CONTROL,
        _FIXED.size + carried + SIGNATURE_BYTES,
        control_key_id(key.public_key()),
        document.recipient,
        0,
        0,
    ).pack()
    head += _FIXED.pack(document.type, flags, 0, document.version, document.issued_ms, document.subject)
    if seal_to is not None:
        content = seal_to.prekey_id + HPKE_SUITE.encrypt(content, seal_to.prekey, info=_context(head))
    signed = head + content
    return signed + key.sign(b"VSE1 doc\0" + signed)


def open_document(
    frame: bytes,
    control_keys: Mapping[bytes, Ed25519PublicKey],
    *,
    prekeys: Mapping[bytes, X25519PrivateKey] | None = None,
) -> Document:
    """Check and read a document.

    Args:
        control_keys: by `control_key_id`.
        prekeys: what a sealed document is opened with.

    Raises:
        Rejected: not a document, not signed by a control key, not for us, or not what its type says.
    """
    header = parse_header(frame)
    if header.type != FrameType.DOC:
        raise Rejected(Reason.TYPE, str(header.type))
    key = control_keys.get(header.sender)
    if key is None:
        raise Rejected(Reason.UNKNOWN_SENDER, "no control key of ours")
    signed = frame[:-SIGNATURE_BYTES]
    if len(signed) < HEADER_BYTES + _FIXED.size:
        raise Rejected(Reason.LENGTH, f"{len(frame)} bytes")
    try:
        key.verify(frame[-SIGNATURE_BYTES:], b"VSE1 doc\0" + signed)
    except InvalidSignature:
        raise Rejected(Reason.SIGNATURE) from None
    kind, flags, zero, version, issued_ms, subject = _FIXED.unpack_from(signed, HEADER_BYTES)
    if zero or flags & ~_SEALED or header.counter or header.frame_class != FrameClass.CONTROL:
        raise Rejected(Reason.RESERVED)
    if kind not in _DECODERS:
        raise Rejected(Reason.TYPE, f"document {kind}")
    content = signed[HEADER_BYTES + _FIXED.size :]
    if flags & _SEALED:
        content = _unsealed(content, signed[: HEADER_BYTES + _FIXED.size], prekeys or {})
    try:
        decoded = _DECODERS[DocumentType(kind)].decode(content)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: text that is not UTF-8
        raise Rejected(Reason.SCHEMA, f"document {kind}") from error
    return Document(DocumentType(kind), subject, version, issued_ms, header.session_id, decoded)


def is_document(frame: bytes) -> bool:
    """Whether these bytes call themselves a DOC frame; unchecked."""
    return len(frame) > HEADER_BYTES and frame[3] == FrameType.DOC


def recipient_of(frame: bytes) -> bytes:
    """Whom a DOC frame is for, unchecked."""
    return frame[24:40]


def digest_of(versions: Mapping[tuple[int, bytes], int]) -> bytes:
    """Eight bytes for a set of documents and their versions: equal digests, equal documents."""
    told = b"".join(
        struct.pack(">B16sQ", kind, subject, version) for (kind, subject), version in sorted(versions.items())
    )
    return hashlib.sha256(b"VSE1 documents\0" + told).digest()[:8]


def _unsealed(content: bytes, head: bytes, prekeys: Mapping[bytes, X25519PrivateKey]) -> bytes:
    prekey = prekeys.get(content[:_PREKEY_ID_BYTES])
    if prekey is None:
        raise Rejected(Reason.PREKEY)
    try:
        return HPKE_SUITE.decrypt(content[_PREKEY_ID_BYTES:], prekey, info=_context(head))
    except (InvalidTag, ValueError):
        raise Rejected(Reason.HPKE) from None


def _context(head: bytes) -> bytes:
    return b"VSE1 doc hpke\0" + head
