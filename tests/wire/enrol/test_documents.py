"""A control document is believed whole or not at all, by those who know the key, and read by whom it is sealed to."""

import hashlib
import struct
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.sites import AT_MS, named
from wire.enrol.documents import (
    EVERY_DEVICE,
    MAX_CONTENT,
    AssignmentV1,
    BindingV1,
    Content,
    ControlKeysV1,
    CredentialV1,
    DeviceV1,
    Document,
    DocumentType,
    OrdersV1,
    build_document,
    control_key_id,
    digest_of,
    encode_content,
    is_document,
    open_document,
    recipient_of,
)
from wire.envelope import HEADER_BYTES, LONGEST, FrameType
from wire.errors import Reason, Rejected
from wire.sessions import HPKE_SUITE, Recipient

CONTROL = Ed25519PrivateKey.from_private_bytes(named("control", 32))
NEXT = Ed25519PrivateKey.from_private_bytes(named("next control", 32))
KNOWN = {control_key_id(CONTROL.public_key()): CONTROL.public_key()}
OPENS = X25519PrivateKey.from_private_bytes(named("edge opens", 32))
EDGE = Recipient(named("edge"), named("prekey", 8), OPENS.public_key())
PREKEYS = {EDGE.prekey_id: OPENS}
FIXED_BYTES = 36
FIXED = HEADER_BYTES + FIXED_BYTES  # where the content begins

CREDENTIAL = CredentialV1(
    serial=named("credential", 8), signing_key=named("ann signs", 32), not_before_ms=AT_MS, not_after_ms=AT_MS + 1
)
CONTENTS: dict[DocumentType, Content] = {
    DocumentType.DEVICE: DeviceV1(role="wearable", tenant_id=named("tenant"), credentials=(CREDENTIAL,)),
    DocumentType.BINDING: BindingV1(
        patient="P0001", bed="1", wearable_id=named("ann"), edge_id=named("edge"), valid_from_ms=AT_MS
    ),
    DocumentType.ASSIGNMENT: AssignmentV1(
        binding_id=named("binding"), edge_id=named("edge"), valid_from_ms=AT_MS, valid_to_ms=AT_MS + 1
    ),
    DocumentType.CONTROL_KEYS: ControlKeysV1(keys=(named("a", 32), named("b", 32))),
    DocumentType.ORDERS: OrdersV1(version=AT_MS, orders=b"what is ordered"),
}


def a_document(kind: DocumentType = DocumentType.DEVICE, *, version: int = 3, to: bytes = EVERY_DEVICE) -> Document:
    return Document(kind, named("subject"), version, AT_MS, to, CONTENTS[kind])


def a_frame(kind: DocumentType = DocumentType.DEVICE) -> bytes:
    return build_document(CONTROL, a_document(kind))


def a_sealed_frame() -> bytes:
    return build_document(CONTROL, a_document(DocumentType.BINDING, to=EDGE.device_id), seal_to=EDGE)


def signed(frame: bytes, *, content: bytes | None = None, at: int | None = None, value: bytes = b"") -> bytes:
    """The frame with another content or another field, announced and signed as the control key would."""
    body = bytearray(frame[:-64] if content is None else frame[:FIXED] + content)
    if at is not None:
        body[at : at + len(value)] = value
    body[6:8] = (len(body) + 64 - HEADER_BYTES).to_bytes(2, "big")
    return bytes(body) + CONTROL.sign(b"VSE1 doc\0" + body)


def reason(frame: bytes) -> Reason:
    with pytest.raises(Rejected) as caught:
        open_document(frame, KNOWN, prekeys=PREKEYS)
    return caught.value.reason


def flipped(frame: bytes, bit: int) -> bytes:
    changed = bytearray(frame)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# What comes back


@pytest.mark.parametrize("kind", DocumentType)
def test_a_document_comes_back_as_it_was_signed(kind: DocumentType) -> None:
    assert open_document(a_frame(kind), KNOWN) == a_document(kind)


def test_every_type_has_a_content_of_its_own() -> None:
    assert list(CONTENTS) == list(DocumentType)
    assert len({type(one) for one in CONTENTS.values()}) == len(DocumentType)


@pytest.mark.parametrize("kind", DocumentType)
def test_a_sealed_document_comes_back_to_its_recipient(kind: DocumentType) -> None:
    document = a_document(kind, to=EDGE.device_id)

    frame = build_document(CONTROL, document, seal_to=EDGE)

    assert open_document(frame, KNOWN, prekeys=PREKEYS) == document


def test_what_is_sealed_shows_no_patient() -> None:
    assert b"P0001" in a_frame(DocumentType.BINDING)
    assert b"P0001" not in a_sealed_frame()


def test_sealing_twice_looks_different_and_says_the_same() -> None:
    one, two = a_sealed_frame(), a_sealed_frame()

    assert one != two
    assert open_document(one, KNOWN, prekeys=PREKEYS) == open_document(two, KNOWN, prekeys=PREKEYS)


def test_the_same_document_is_the_same_bytes() -> None:
    assert a_frame() == a_frame()
    assert encode_content(CONTENTS[DocumentType.DEVICE]) == encode_content(CONTENTS[DocumentType.DEVICE])


def test_its_header_says_whose_key_and_for_whom() -> None:
    frame = a_sealed_frame()

    assert is_document(frame)
    assert frame[8:24] == control_key_id(CONTROL.public_key())
    assert recipient_of(frame) == EDGE.device_id


@settings(max_examples=50, deadline=None)
@given(
    version=st.integers(0, 2**64 - 1),
    issued_ms=st.integers(0, 2**64 - 1),
    patient=st.text(max_size=64),
    valid_from_ms=st.integers(-(2**63), 2**63 - 1),
    sealed=st.booleans(),
)
def test_any_binding_comes_back(version: int, issued_ms: int, patient: str, valid_from_ms: int, sealed: bool) -> None:
    content = msgspec.structs.replace(
        CONTENTS[DocumentType.BINDING], patient=patient.encode("utf-8", "replace").decode(), valid_from_ms=valid_from_ms
    )
    document = Document(DocumentType.BINDING, named("b"), version, issued_ms, EDGE.device_id, content)

    frame = build_document(CONTROL, document, seal_to=EDGE if sealed else None)

    assert open_document(frame, KNOWN, prekeys=PREKEYS) == document


# Length


def of_content_bytes(size: int) -> Document:
    """A binding whose content has exactly so many bytes."""
    around = len(encode_content(msgspec.structs.replace(CONTENTS[DocumentType.BINDING], patient="x" * 4_000))) - 4_000
    content = msgspec.structs.replace(CONTENTS[DocumentType.BINDING], patient="x" * (size - around))
    assert len(encode_content(content)) == size
    return Document(DocumentType.BINDING, named("b"), 1, AT_MS, EDGE.device_id, content)


@pytest.mark.parametrize("seal_to", [None, EDGE], ids=["open", "sealed"])
def test_the_longest_document_fits_into_a_frame(seal_to: Recipient | None) -> None:
    document = of_content_bytes(MAX_CONTENT)

    frame = build_document(CONTROL, document, seal_to=seal_to)

    assert len(frame) <= LONGEST
    assert open_document(frame, KNOWN, prekeys=PREKEYS) == document


@pytest.mark.parametrize("seal_to", [None, EDGE], ids=["open", "sealed"])
def test_a_longer_one_is_not_made(seal_to: Recipient | None) -> None:
    with pytest.raises(ValueError, match="at most 8000 bytes, this one has 8001"):
        build_document(CONTROL, of_content_bytes(MAX_CONTENT + 1), seal_to=seal_to)


# Forgeries


@pytest.mark.parametrize("make", [a_frame, a_sealed_frame], ids=["open", "sealed"])
def test_no_bit_may_differ(make: Callable[[], bytes]) -> None:
    frame = make()

    for bit in range(8 * len(frame)):
        with pytest.raises(Rejected):
            open_document(flipped(frame, bit), KNOWN, prekeys=PREKEYS)


@pytest.mark.parametrize("make", [a_frame, a_sealed_frame], ids=["open", "sealed"])
@pytest.mark.parametrize("announced", [False, True], ids=["as it was", "with its new length"])
def test_no_end_may_be_missing_and_none_added(make: Callable[[], bytes], announced: bool) -> None:
    frame = make()

    for changed in (*(frame[:size] for size in range(len(frame))), frame + b"\0", frame + frame):
        if announced and len(changed) >= HEADER_BYTES:
            length = (len(changed) - HEADER_BYTES).to_bytes(2, "big")
            changed = changed[:6] + length + changed[8:]
        with pytest.raises(Rejected):
            open_document(changed, KNOWN, prekeys=PREKEYS)


def test_a_key_that_is_not_known_signs_nothing() -> None:
    assert reason(build_document(NEXT, a_document())) is Reason.UNKNOWN_SENDER


def test_the_name_of_a_known_key_is_not_its_signature() -> None:
    forged = build_document(NEXT, a_document())
    as_control = forged[:8] + control_key_id(CONTROL.public_key()) + forged[24:-64]

    assert reason(as_control + NEXT.sign(b"VSE1 doc\0" + as_control)) is Reason.SIGNATURE


def test_a_signature_for_something_else_does_not_do() -> None:
    body = a_frame()[:-64]

    assert reason(body + CONTROL.sign(body)) is Reason.SIGNATURE
    assert reason(body + CONTROL.sign(b"VSE1 ack\0" + body)) is Reason.SIGNATURE


def test_two_control_keys_have_two_names_that_are_not_the_keys() -> None:
    mine, other = control_key_id(CONTROL.public_key()), control_key_id(NEXT.public_key())

    assert mine != other
    assert mine not in CONTROL.public_key().public_bytes_raw()


# Authentic, and still not what it should be


@pytest.mark.parametrize(
    ("what", "at", "value", "why"),
    [
        ("class", 5, b"\x01", Reason.RESERVED),
        ("counter", 40, b"\0\0\0\x01", Reason.RESERVED),
        ("salt", 44, b"\0\0\0\x01", Reason.RESERVED),
        ("unknown flag", HEADER_BYTES + 1, b"\x02", Reason.RESERVED),
        ("every flag", HEADER_BYTES + 1, b"\xff", Reason.RESERVED),
        ("reserved bytes", HEADER_BYTES + 2, b"\0\x01", Reason.RESERVED),
        ("type 0", HEADER_BYTES, b"\x00", Reason.TYPE),
        ("type 6", HEADER_BYTES, b"\x06", Reason.TYPE),
        ("called sealed", HEADER_BYTES + 1, b"\x01", Reason.PREKEY),
        ("another frame", 3, bytes([FrameType.ACK]), Reason.TYPE),
    ],
)
def test_what_is_reserved_stays_reserved(what: str, at: int, value: bytes, why: Reason) -> None:
    assert reason(signed(a_frame(), at=at, value=value)) is why


@pytest.mark.parametrize("said", DocumentType)
@pytest.mark.parametrize("meant", DocumentType)
def test_a_document_does_not_carry_the_content_of_another_type(said: DocumentType, meant: DocumentType) -> None:
    frame = signed(a_frame(said), content=encode_content(CONTENTS[meant]))

    if said is meant:
        assert open_document(frame, KNOWN) == a_document(said)
    else:
        assert reason(frame) is Reason.SCHEMA


def packed(*fields: object) -> bytes:
    return msgspec.msgpack.encode(list(fields))


KEY, ID, SERIAL = named("key", 32), named("id"), named("serial", 8)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (DocumentType.DEVICE, b""),
        (DocumentType.DEVICE, b"\xc1"),
        (DocumentType.DEVICE, encode_content(CONTENTS[DocumentType.DEVICE]) + b"\0"),
        (DocumentType.DEVICE, b"\x91" * 7_900),
        (DocumentType.DEVICE, b"\x81" * 7_900),
        (DocumentType.DEVICE, b"\xdd\xff\xff\xff\xff"),
        (DocumentType.DEVICE, packed("janitor", ID, [], b"", b"", None)),
        (DocumentType.DEVICE, packed("edge", ID[1:], [], b"", b"", None)),
        (DocumentType.DEVICE, packed("edge", ID, [[SERIAL, KEY[1:], 0, 1]], b"", b"", None)),
        (DocumentType.DEVICE, packed("edge", ID, [[SERIAL[1:], KEY, 0, 1]], b"", b"", None)),
        (DocumentType.DEVICE, packed("edge", ID, [[SERIAL, KEY, 0, "never"]], b"", b"", None)),
        (DocumentType.DEVICE, packed("edge", ID, [], SERIAL, KEY[1:], None)),
        (DocumentType.DEVICE, packed("edge", ID, [], SERIAL, b"", None)),
        (DocumentType.DEVICE, packed("edge", ID, [], b"", b"", None, "more")),
        (DocumentType.BINDING, b"\x96\xa1\xff\xa1\x31" + b"\xc4\x10" + ID + b"\xc4\x10" + ID + b"\x00\xc0"),
        (DocumentType.BINDING, packed("P", "1", ID + b"\0", ID, 0, None, 1)),
        (DocumentType.BINDING, packed("P", "1", ID, ID, 2**64 - 1, None, [])),
        (DocumentType.ASSIGNMENT, packed(ID, b"", 0, None)),
        (DocumentType.ASSIGNMENT, packed(ID, ID, 0.5, None)),
        (DocumentType.CONTROL_KEYS, packed([])),
        (DocumentType.CONTROL_KEYS, packed([KEY, KEY[1:]])),
    ],
    ids=lambda one: one.name if isinstance(one, DocumentType) else hashlib.sha256(one).hexdigest()[:6],
)
def test_what_does_not_say_what_its_type_says_is_refused(kind: DocumentType, content: bytes) -> None:
    assert reason(signed(a_frame(kind), content=content)) is Reason.SCHEMA


@pytest.mark.parametrize("about", [(-1.0, True, 4), (131.0, True, 4), (float("nan"), True, 4), (60.0, True, 0)])
def test_what_cannot_be_true_of_a_patient_is_refused(about: tuple[float, bool, int]) -> None:
    fields = msgspec.msgpack.decode(encode_content(CONTENTS[DocumentType.BINDING]))
    fields[-3:] = about

    with pytest.raises(Rejected) as caught:
        open_document(signed(a_frame(DocumentType.BINDING), content=msgspec.msgpack.encode(fields)), KNOWN)

    assert caught.value.reason is Reason.SCHEMA


def test_bombs_are_refused_under_a_seal_as_well() -> None:
    frame = a_sealed_frame()
    sealed = HPKE_SUITE.encrypt(b"\x91" * 7_900, EDGE.prekey, info=b"VSE1 doc hpke\0" + frame[:FIXED])
    # The length is part of what the seal is bound to, so it has to be the right one before.
    head = frame[:6] + struct.pack(">H", FIXED_BYTES + 8 + len(sealed) + 64) + frame[8:FIXED]
    sealed = HPKE_SUITE.encrypt(b"\x91" * 7_900, EDGE.prekey, info=b"VSE1 doc hpke\0" + head)

    assert reason(signed(head, content=EDGE.prekey_id + sealed)) is Reason.SCHEMA


# Sealed


def test_a_document_sealed_to_another_edge_stays_closed() -> None:
    other = X25519PrivateKey.from_private_bytes(named("another edge opens", 32))

    with pytest.raises(Rejected) as unknown:
        open_document(a_sealed_frame(), KNOWN, prekeys={named("another", 8): other})
    with pytest.raises(Rejected) as wrong:
        open_document(a_sealed_frame(), KNOWN, prekeys={EDGE.prekey_id: other})
    with pytest.raises(Rejected) as none:
        open_document(a_sealed_frame(), KNOWN)

    assert [one.value.reason for one in (unknown, wrong, none)] == [Reason.PREKEY, Reason.HPKE, Reason.PREKEY]


@pytest.mark.parametrize(
    ("what", "at", "value"),
    [
        ("recipient", 24, named("another")),
        ("type", HEADER_BYTES, bytes([DocumentType.ASSIGNMENT])),
        ("version", HEADER_BYTES + 4, struct.pack(">Q", 4)),
        ("issued", HEADER_BYTES + 12, struct.pack(">Q", 0)),
        ("subject", HEADER_BYTES + 20, named("another subject")),
    ],
)
def test_a_seal_is_bound_to_everything_before_it(what: str, at: int, value: bytes) -> None:
    # Not even with the control key's signature can a sealed content be moved to another place.
    assert reason(signed(a_sealed_frame(), at=at, value=value)) is Reason.HPKE


@pytest.mark.parametrize("size", [0, 7, 8, 8 + 47])
def test_a_seal_that_is_too_short_is_refused(size: int) -> None:
    frame = a_sealed_frame()

    assert reason(signed(frame, content=frame[FIXED : FIXED + size])) in (Reason.PREKEY, Reason.HPKE)


# Digests and first looks


def test_a_digest_does_not_depend_on_the_order_of_arrival() -> None:
    versions = {(kind, named(f"{n}")): n for n in range(5) for kind in (1, 2)}

    assert digest_of(versions) == digest_of(dict(reversed(versions.items())))
    assert len(digest_of(versions)) == 8


PLACE = (1, named("ann"))


@pytest.mark.parametrize(
    "other",
    [
        {},
        {PLACE: 2},
        {(2, PLACE[1]): 1},
        {(1, named("bob")): 1},
        {PLACE: 1, (2, PLACE[1]): 1},
    ],
    ids=["nothing", "version", "type", "subject", "one more"],
)
def test_a_digest_differs_with_whatever_differs(other: dict[tuple[int, bytes], int]) -> None:
    assert digest_of({PLACE: 1}) != digest_of(other)


@pytest.mark.parametrize(
    ("frame", "is_one"),
    [
        (a_frame(), True),
        (a_frame()[: HEADER_BYTES + 1], True),
        (a_frame()[:HEADER_BYTES], False),
        (b"", False),
        (b"\x04" * 3, False),
        *((a_frame()[:3] + bytes([kind]) + a_frame()[4:], False) for kind in FrameType if kind is not FrameType.DOC),
    ],
)
def test_a_document_is_told_from_other_frames_at_a_glance(frame: bytes, is_one: bool) -> None:
    assert is_document(frame) is is_one


def test_version_zero_is_before_every_version() -> None:
    assert open_document(build_document(CONTROL, a_document(version=0)), KNOWN).version == 0


def test_a_binding_that_says_nothing_new_has_the_bytes_that_earlier_versions_read() -> None:
    """Earlier versions refuse a field that they do not know."""
    binding = CONTENTS[DocumentType.BINDING]
    first_fields = 10

    plain = msgspec.msgpack.decode(encode_content(binding))
    pregnant = msgspec.msgpack.decode(encode_content(msgspec.structs.replace(binding, is_pregnant=True)))
    zoned = msgspec.msgpack.decode(encode_content(msgspec.structs.replace(binding, time_zone="Europe/Berlin")))

    assert len(plain) == first_fields
    assert pregnant == [*plain, True]
    assert zoned == [*plain, None, "Europe/Berlin"]
