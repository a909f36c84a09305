"""A frame is believed whole or not at all: no bit, no byte, no length of it may differ."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire import vectors as v
from tests.wire.sites import AT_MS, Site, begin, hear, reason
from wire.envelope import (
    HEADER_BYTES,
    LONGEST,
    MAX_ACK_RANGES,
    MAX_PAYLOAD,
    NO_BINDING,
    Ack,
    FrameClass,
    FrameType,
    Header,
    SessionInfo,
    Stage,
    build_ack,
    open_ack,
    pad,
    parse_header,
    unpad,
)
from wire.errors import Reason, Rejected

EDGE_KEY = v.edge().signing_key


def flipped(frame: bytes, bit: int) -> bytes:
    changed = bytearray(frame)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def with_length(frame: bytes) -> bytes:
    """The frame, announcing the length that it has."""
    return frame[:6] + (len(frame) - HEADER_BYTES).to_bytes(2, "big") + frame[8:]


def signed(ack: bytes) -> bytes:
    """The acknowledgement's bytes with a signature that is right again."""
    body = with_length(ack)[:-64]
    return body + EDGE_KEY.sign(b"VSE1 ack\0" + body)


def test_a_header_is_48_bytes_and_comes_back_as_it_was() -> None:
    header = Header(FrameType.DATA, 1, FrameClass.ALARM, 48, v.WEARABLE, v.SESSION_ID, 7, 0x040B1219)

    packed = header.pack()

    assert len(packed) == 48
    assert parse_header(packed + bytes(48)) == header


def test_session_information_is_120_bytes_and_comes_back_as_it_was() -> None:
    info = SessionInfo(
        v.TENANT, v.WEARABLE, v.EDGE, v.BINDING, v.CREDENTIAL, v.PREKEY, 1, 2, 2**63, AT_MS, v.SESSION_ID
    )

    packed = info.pack()

    assert len(packed) == 120
    assert SessionInfo.unpack(packed) == info


@pytest.mark.parametrize(
    ("at", "why"),
    [(80, Reason.VERSION), (83, Reason.RESERVED), (84, Reason.RESERVED), (87, Reason.RESERVED)],
)
def test_session_information_has_a_version_and_zeros(at: int, why: Reason) -> None:
    packed = v.SESSION_FRAME[48:168]

    with pytest.raises(Rejected) as caught:
        SessionInfo.unpack(packed[:at] + b"\x02" + packed[at + 1 :])

    assert caught.value.reason is why


@pytest.mark.parametrize(
    ("at", "byte", "why"),
    [
        (0, 0x45, Reason.MAGIC),
        (1, 0x56, Reason.MAGIC),
        (2, 0, Reason.VERSION),
        (2, 2, Reason.VERSION),
        (3, 0, Reason.TYPE),
        (3, 6, Reason.TYPE),
        (4, 0, Reason.SUITE),
        (4, 2, Reason.SUITE),  # reserved is not accepted
        (4, 3, Reason.SUITE),
        (5, 0, Reason.CLASS),
        (5, 5, Reason.CLASS),
        (6, 1, Reason.LENGTH),
        (7, 47, Reason.LENGTH),
        (7, 49, Reason.LENGTH),
    ],
)
def test_a_wrong_byte_in_the_header_has_a_reason_of_its_own(at: int, byte: int, why: Reason) -> None:
    frame = v.DATA_FRAMES[0]

    with pytest.raises(Rejected) as caught:
        parse_header(frame[:at] + bytes([byte]) + frame[at + 1 :])

    assert caught.value.reason is why


@pytest.mark.parametrize(
    ("frame", "at"),
    [(v.SESSION_FRAME, 43), (v.SESSION_FRAME, 47), (v.ACK_FRAME, 44), (v.ACK_FRAME, 47)],
    ids=["counter of a session", "salt of a session", "salt of an ack", "salt of an ack, last byte"],
)
def test_what_is_reserved_is_zero(frame: bytes, at: int) -> None:
    with pytest.raises(Rejected) as caught:
        parse_header(frame[:at] + b"\x01" + frame[at + 1 :])

    assert caught.value.reason is Reason.RESERVED


@pytest.mark.parametrize(
    ("kind", "shortest", "longest"),
    [(1, 312, 312), (2, 96, 8_256), (3, 124, 636), (4, 112, 8_256)],
    ids=["session", "data", "ack", "doc"],
)
def test_each_type_has_its_lengths(kind: int, shortest: int, longest: int) -> None:
    def of(length: int) -> bytes:
        return Header(kind, 1, 1, length - HEADER_BYTES, v.WEARABLE, v.SESSION_ID, 0, 0).pack() + bytes(length - 48)

    assert parse_header(of(shortest)).type == kind
    assert parse_header(of(longest)).type == kind
    for length in (shortest - 1, longest + 1):
        with pytest.raises(Rejected) as caught:
            parse_header(of(length))
        assert caught.value.reason is Reason.LENGTH


def test_the_longest_payload_just_fits() -> None:
    site = Site()
    session = site.session()

    _, frame = session.seal(bytes(MAX_PAYLOAD))

    assert len(frame) == LONGEST
    assert hear(site.hearing(session), frame).payload == bytes(MAX_PAYLOAD)


def test_no_bit_of_a_data_frame_may_differ() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"SpO2 96")

    reasons = [reason(receiver, flipped(frame, bit)) for bit in range(8 * len(frame))]

    assert len(reasons) == 8 * 96
    assert set(reasons[8 * 48 :]) == {Reason.AUTH}
    assert set(reasons[8 * 40 : 8 * 48]) == {Reason.AUTH}  # counter and salt are authenticated, too
    assert receiver.dirty() == []
    assert not hear(receiver, frame).duplicate


def test_no_bit_of_a_session_frame_may_differ() -> None:
    site = Site()
    session = site.session()
    receiver = site.receiver()

    reasons = [reason(receiver, flipped(session.frame, bit)) for bit in range(8 * len(session.frame))]

    assert len(reasons) == 8 * 312
    assert set(reasons[8 * 248 :]) == {Reason.SIGNATURE}
    # X25519 itself ignores the top bit of a public key. The session's id does not.
    assert set(reasons[8 * 168 : 8 * 248]) == {Reason.SESSION_ID}
    assert receiver.sessions() == ()
    assert not begin(receiver, session).known_before


def test_no_bit_of_an_acknowledgement_may_differ() -> None:
    for bit in range(8 * len(v.ACK_FRAME)):
        with pytest.raises(Rejected):
            open_ack(flipped(v.ACK_FRAME, bit), EDGE_KEY.public_key())


def test_a_frame_cut_off_anywhere_is_refused() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(bytes(range(40)))

    for length in range(len(frame)):
        assert reason(receiver, frame[:length]) is Reason.LENGTH
        if length > HEADER_BYTES:  # somebody who mends the length has no key to mend the tag
            assert reason(receiver, with_length(frame[:length])) in (Reason.LENGTH, Reason.AUTH)
    for length in range(len(session.frame)):
        assert reason(receiver, session.frame[:length]) is Reason.LENGTH
    assert not hear(receiver, frame).duplicate


def test_nothing_may_be_hung_on_to_a_frame() -> None:
    site = Site()
    session = site.session()
    receiver = site.hearing(session)
    _, frame = session.seal(b"")

    for more in (*range(1, 65), LONGEST):
        assert reason(receiver, frame + bytes(more)) is Reason.LENGTH
        assert reason(receiver, with_length(frame + bytes(more % 8_000))) is Reason.AUTH
        assert reason(receiver, session.frame + bytes(more)) is Reason.LENGTH
    assert not hear(receiver, frame).duplicate


def test_a_frame_cannot_be_moved_into_another_session_or_class() -> None:
    site = Site()
    one, two = site.session(number=1), site.session(number=2)
    receiver = site.hearing(one)
    begin(receiver, two)
    _, frame = one.seal(b"SpO2 96")

    moved = frame[:24] + two.session_id + frame[40:]
    as_alarm = frame[:5] + bytes([FrameClass.ALARM]) + frame[6:]

    assert reason(receiver, moved) is Reason.AUTH
    assert reason(receiver, as_alarm) is Reason.CLASS


@pytest.mark.parametrize(
    ("payload", "padded"), [(0, 32), (1, 32), (31, 32), (32, 64), (63, 64), (64, 96), (8_191, 8_192)]
)
def test_padding_goes_to_the_next_multiple_of_32(payload: int, padded: int) -> None:
    assert len(pad(bytes(payload))) == padded
    assert unpad(pad(bytes(payload))) == bytes(payload)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_padding_comes_off_whatever_the_payload_ends_with(payload: bytes) -> None:
    assert unpad(pad(payload)) == payload
    assert unpad(pad(payload + b"\x80\0\0")) == payload + b"\x80\0\0"


@pytest.mark.parametrize(
    "padded",
    [b"", bytes(32), b"\x80" + bytes(32), b"x" * 32, b"x" * 31 + b"\x81", b"\x80" + bytes(31) + b"x"],
    ids=["nothing", "only zeros", "one zero too many", "no marker", "another marker", "more after the zeros"],
)
def test_padding_that_is_not_ours_is_refused(padded: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        unpad(padded)

    assert caught.value.reason is Reason.PADDING


def test_the_length_of_a_frame_does_not_tell_a_short_payload_from_an_empty_one() -> None:
    session = Site().session()

    lengths = {len(session.seal(bytes(size))[1]) for size in range(32)}

    assert lengths == {96}


@pytest.mark.parametrize("ranges", [(), ((0, 0),), ((0, 1), (3, 2**32 - 1)), tuple((2 * i, 2 * i) for i in range(64))])
@pytest.mark.parametrize("stage", [Stage.DURABLE, Stage.STORED, Stage.REJECTED])
def test_an_acknowledgement_comes_back_as_it_was(stage: Stage, ranges: tuple[tuple[int, int], ...]) -> None:
    ack = Ack(stage, 3, ranges, None, AT_MS, v.EDGE, v.SESSION_ID, 2, 9)

    assert open_ack(build_ack(EDGE_KEY, ack), EDGE_KEY.public_key()) == ack


@pytest.mark.parametrize("last", [0, 1, AT_MS, 2**64 - 1])
def test_a_request_for_a_session_carries_the_last_number(last: int) -> None:
    ack = Ack(Stage.NEED_SESSION, 0, (), last, AT_MS, v.EDGE, v.SESSION_ID, 2, 9)

    assert open_ack(build_ack(EDGE_KEY, ack), EDGE_KEY.public_key()) == ack


def test_an_acknowledgement_of_somebody_else_is_refused() -> None:
    ack = Ack(Stage.STORED, 0, ((0, 1),), None, AT_MS, v.EDGE, v.SESSION_ID, 1, 1)
    forged = build_ack(Ed25519PrivateKey.from_private_bytes(bytes(32)), ack)

    with pytest.raises(Rejected) as caught:
        open_ack(forged, EDGE_KEY.public_key())

    assert caught.value.reason is Reason.SIGNATURE


# What an acknowledger might sign by mistake. The body begins at 48: stage, reason, count (2), ranges.
@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (signed(v.ACK_FRAME[:48] + b"\x00" + v.ACK_FRAME[49:]), Reason.TYPE),
        (signed(v.ACK_FRAME[:48] + b"\x05" + v.ACK_FRAME[49:]), Reason.TYPE),
        (signed(v.ACK_FRAME[:51] + b"\x00" + v.ACK_FRAME[52:]), Reason.LENGTH),
        (signed(v.ACK_FRAME[:50] + b"\xff\xff" + v.ACK_FRAME[52:]), Reason.LENGTH),
        (signed(v.ACK_FRAME[:52] + bytes(8) + v.ACK_FRAME[52:]), Reason.LENGTH),
        (signed(v.ACK_FRAME[:48] + b"\x04\0\0\0" + v.ACK_FRAME[60:]), Reason.LENGTH),
        (v.DATA_FRAMES[0], Reason.TYPE),
        (v.SESSION_FRAME, Reason.TYPE),
    ],
    ids=["stage 0", "stage 5", "too few", "far too many", "too long", "need session without number", "data", "session"],
)
def test_a_signature_does_not_excuse_a_wrong_layout(frame: bytes, why: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        open_ack(frame, EDGE_KEY.public_key())

    assert caught.value.reason is why


def test_more_than_64_ranges_are_no_acknowledgement() -> None:
    ranges = tuple((2 * i, 2 * i) for i in range(MAX_ACK_RANGES + 1))
    frame = build_ack(EDGE_KEY, Ack(Stage.STORED, 0, ranges, None, AT_MS, v.EDGE, v.SESSION_ID, 1, 1))

    with pytest.raises(Rejected) as caught:
        open_ack(frame, EDGE_KEY.public_key())

    assert caught.value.reason is Reason.LENGTH


@pytest.mark.parametrize("kind", [FrameType.ACK, FrameType.DOC])
def test_a_receiver_of_readings_takes_neither_acknowledgements_nor_documents(kind: FrameType) -> None:
    site = Site()
    body = bytes(76)

    frame = Header(kind, 1, 1, len(body), site.ann.device_id, NO_BINDING, 0, 0).pack() + body

    assert reason(site.receiver(), frame) is Reason.TYPE
