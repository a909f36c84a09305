"""The ANSWER frame: what was signed comes out, and nothing else does."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire.answers import Answer, AnswerKind, build_answer, condition_of, is_answer, open_answer
from wire.envelope import HEADER_BYTES, SIGNATURE_BYTES, FrameType, parse_header
from wire.errors import Reason, Rejected

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ANOTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
EDGE, INGEST = b"e" * 16, b"i" * 16
ANSWER = Answer(AnswerKind.ACKNOWLEDGED, 3, 1_767_600_000_000, 0, b"b" * 16, b"a" * 16)


@pytest.mark.parametrize("answer", [ANSWER, ANSWER._replace(kind=AnswerKind.SILENCED, at_ms=0, until_ms=2**40)])
def test_an_answer_is_read_by_the_edge_that_it_is_for(answer: Answer) -> None:
    frame = build_answer(KEY, answer, sender=INGEST, edge_id=EDGE)

    assert open_answer(frame, EDGE, ANOTHER.public_key(), KEY.public_key()) == answer
    assert is_answer(frame)
    assert parse_header(frame).type == FrameType.ANSWER
    assert len(frame) == 164


def test_no_byte_of_it_can_be_changed() -> None:
    frame = build_answer(KEY, ANSWER, sender=INGEST, edge_id=EDGE)

    for position in range(len(frame)):
        with pytest.raises(Rejected):
            open_answer(frame[:position] + bytes([frame[position] ^ 1]) + frame[position + 1 :], EDGE, KEY.public_key())


def test_it_is_for_one_edge_and_from_one_data_centre() -> None:
    frame = build_answer(KEY, ANSWER, sender=INGEST, edge_id=EDGE)

    with pytest.raises(Rejected, match=Reason.RECIPIENT):
        open_answer(frame, b"f" * 16, KEY.public_key())
    with pytest.raises(Rejected, match=Reason.SIGNATURE):
        open_answer(frame, EDGE, ANOTHER.public_key())


@pytest.mark.parametrize(("offset", "value"), [(0, 0), (0, 3), (1, 0), (1, 4)])
def test_what_this_version_does_not_know_is_refused_although_it_is_signed(offset: int, value: int) -> None:
    frame = bytearray(build_answer(KEY, ANSWER, sender=INGEST, edge_id=EDGE)[:-SIGNATURE_BYTES])
    frame[HEADER_BYTES + offset] = value

    with pytest.raises(Rejected):
        open_answer(bytes(frame) + KEY.sign(b"VSE1 answer\0" + bytes(frame)), EDGE, KEY.public_key())


# The condition


@pytest.mark.parametrize("kind", AnswerKind)
def test_an_answer_names_its_condition(kind: AnswerKind) -> None:
    told = ANSWER._replace(kind=kind, grade=7, condition=condition_of("red_sign", "spo2"))
    if kind is AnswerKind.SILENCED:
        told = told._replace(at_ms=0, until_ms=2**40)

    for one in (told, told._replace(condition=0)):
        frame = build_answer(KEY, one, sender=INGEST, edge_id=EDGE)
        assert open_answer(frame, EDGE, KEY.public_key()) == one
        assert len(frame) == 164


def test_conditions_differ_by_rule_and_by_sign_and_are_no_times() -> None:
    found = {condition_of(*one) for one in (("a", ""), ("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"))}

    assert len(found) == 5
    assert all(2**63 <= one < 2**64 for one in found)
