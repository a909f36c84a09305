"""What a person answered to an alarm, as the data centre tells the edge beside the patient: the ANSWER frame.

It holds for one alarm up to one priority and one grade, so a late or replayed answer covers nothing that the person has
not seen.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wire.envelope import (
    ANSWER_BYTES,
    HEADER_BYTES,
    SIGNATURE_BYTES,
    FrameClass,
    FrameType,
    Header,
    Suite,
    is_signed,
    parse_header,
)
from wire.errors import Reason, Rejected

_BODY: Final = struct.Struct(">BBHQQ16s16s")
_CONTEXT: Final = b"VSE1 answer\0"
assert _BODY.size == ANSWER_BYTES  # noqa: S101 - a layout, checked when the module is read


MOST_GRADE: Final = 0xFFFF
"""The highest grade that an answer can carry."""


class AnswerKind(IntEnum):
    ACKNOWLEDGED = 1
    SILENCED = 2


class Answer(NamedTuple):
    """One answer to one alarm."""

    kind: AnswerKind
    priority: int  # of the alarm that the person saw, 1 to 3: nothing worse is answered by it
    at_ms: int
    until_ms: int  # end of a silence; 0 in an acknowledgement
    binding_id: bytes
    alarm_id: bytes
    grade: int = 0  # of the alarm that the person saw, rounded down; earlier versions send 0, and cover less


def build_answer(key: Ed25519PrivateKey, answer: Answer, *, sender: bytes, edge_id: bytes) -> bytes:
    """The frame of an answer to one edge."""
    body = _BODY.pack(
        answer.kind, answer.priority, answer.grade, answer.at_ms, answer.until_ms, answer.binding_id, answer.alarm_id
    )
    header = Header(
        FrameType.ANSWER, Suite.STANDARD, FrameClass.ALARM, len(body) + SIGNATURE_BYTES, sender, edge_id, 0, 0
    ).pack()
    return header + body + key.sign(_CONTEXT + header + body)


def open_answer(frame: bytes, edge_id: bytes, *keys: Ed25519PublicKey) -> Answer:
    """Check and read an answer.

    Args:
        edge_id: the edge that reads it.
        keys: what the data centre may sign with.

    Raises:
        Rejected: it is not one, is for another edge, or signed by none of `keys`.
    """
    header = parse_header(frame)
    if header.type != FrameType.ANSWER:
        raise Rejected(Reason.TYPE, str(header.type))
    signed = frame[:-SIGNATURE_BYTES]
    if not any(is_signed(key, frame[-SIGNATURE_BYTES:], _CONTEXT + signed) for key in keys):
        raise Rejected(Reason.SIGNATURE)
    if header.session_id != edge_id:
        raise Rejected(Reason.RECIPIENT)
    kind, priority, grade, at_ms, until_ms, binding_id, alarm_id = _BODY.unpack_from(signed, HEADER_BYTES)
    if header.counter:
        raise Rejected(Reason.RESERVED)
    if kind not in _KINDS or not 1 <= priority <= 3:
        raise Rejected(Reason.VALUE, f"answer of kind {kind}, priority {priority}")
    return Answer(AnswerKind(kind), priority, at_ms, until_ms, binding_id, alarm_id, grade)


def is_answer(frame: bytes) -> bool:
    """Whether these bytes call themselves an ANSWER frame; unchecked."""
    return len(frame) > HEADER_BYTES and frame[3] == FrameType.ANSWER


_KINDS: Final = frozenset(int(kind) for kind in AnswerKind)
