"""What a person answered to an alarm, as the data centre tells the edge beside the patient: the ANSWER frame.

It holds for one alarm up to one priority and one grade, so a late or replayed answer covers nothing that the person has
not seen. The devices of one patient may be heard by several edges and meet only in the data centre, so an edge may know
the alarm that was answered by another id. Therefore an answer names the condition as well: `condition_of`.
"""

import hashlib
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
_CONDITION: Final = b"VSE1 condition\0"
_LEAST_CONDITION: Final = 1 << 63
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
    until_ms: int  # end of a silence; of no meaning in an acknowledgement
    stay_id: bytes
    alarm_id: bytes
    grade: int = 0  # of the alarm that the person saw, rounded down; earlier versions send 0, and cover less
    condition: int = 0  # of the alarm that the person saw; 0: not told, by an earlier version


def condition_of(rule_id: str, key: str) -> int:
    """A number for a condition, that is a rule and, where it is judged sign by sign, the sign.

    It is the first eight bytes of SHA-256 over `VSE1 condition`, a zero byte, the rule, a zero byte and the sign, with
    the highest bit set: so it is never taken for a time.
    """
    digest = hashlib.sha256(_CONDITION + rule_id.encode() + b"\0" + key.encode()).digest()
    return int.from_bytes(digest[:8], "big") | 1 << 63


def build_answer(key: Ed25519PrivateKey, answer: Answer, *, sender: bytes, edge_id: bytes) -> bytes:
    """The frame of an answer to one edge.

    Each kind has a time that it does not use, and earlier edges do not read it: there the condition is.
    """
    at_ms, until_ms = answer.at_ms, answer.until_ms
    if answer.kind == AnswerKind.ACKNOWLEDGED:
        until_ms = answer.condition
    elif answer.condition:
        at_ms = answer.condition
    body = _BODY.pack(answer.kind, answer.priority, answer.grade, at_ms, until_ms, answer.stay_id, answer.alarm_id)
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
    kind, priority, grade, at_ms, until_ms, stay_id, alarm_id = _BODY.unpack_from(signed, HEADER_BYTES)
    if header.counter:
        raise Rejected(Reason.RESERVED)
    if kind not in _KINDS or not 1 <= priority <= 3:
        raise Rejected(Reason.VALUE, f"answer of kind {kind}, priority {priority}")
    if kind == AnswerKind.ACKNOWLEDGED:
        return Answer(AnswerKind.ACKNOWLEDGED, priority, at_ms, 0, stay_id, alarm_id, grade, _condition(until_ms))
    condition = _condition(at_ms)
    at_ms = 0 if condition else at_ms
    return Answer(AnswerKind.SILENCED, priority, at_ms, until_ms, stay_id, alarm_id, grade, condition)


def _condition(field: int) -> int:
    """What stands in the time that a kind does not use: 0 or a time by an earlier version, else the condition."""
    return field if field >= _LEAST_CONDITION else 0


def is_answer(frame: bytes) -> bool:
    """Whether these bytes call themselves an ANSWER frame; unchecked."""
    return len(frame) > HEADER_BYTES and frame[3] == FrameType.ANSWER


_KINDS: Final = frozenset(int(kind) for kind in AnswerKind)
