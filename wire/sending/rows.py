"""What a sender is given and what it gives back: rows, sessions, frames to send, effects of acknowledgements."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from wire.envelope import FrameClass

Stream = tuple[bytes, int]
"""Binding id and class: sessions of one stream have rising numbers."""


class SendLane(IntEnum):
    """Alarms have a window of their own, so that no backlog of vitals stands before them."""

    VITALS = 0
    ALARM = 1


LANE_OF: Final = {FrameClass.VITALS: SendLane.VITALS, FrameClass.ALARM: SendLane.ALARM}


class Row(NamedTuple):
    """One sealed frame that waits for its acknowledgement."""

    row_id: int  # rises with age: the older row has the smaller id
    session_id: bytes
    counter: int
    patient: bytes  # binding id; the newest readings of each patient go first
    frame: bytes


class SendingSession(NamedTuple):
    """A session, as far as sending is concerned."""

    session_id: bytes
    stream: Stream
    number: int
    frame: bytes
    last_counter: int = -1  # highest counter that was sealed and kept
    done: tuple[tuple[int, int], ...] = ()  # counters up to that which are not waiting: acknowledged, shed or void


class Backlog(Protocol):
    """Where kept rows are read from."""

    def page(self, session_id: bytes, from_counter: int, limit: int) -> Sequence[Row]:
        """Rows of a session by rising counter."""
        ...


class Outgoing(NamedTuple):
    """A frame that should leave now."""

    frame: bytes
    frame_class: int
    session_id: bytes
    row: Row | None  # None: this is a SESSION frame


class Refused(NamedTuple):
    """A session that the receiver will never accept: its number is not above the last one accepted."""

    session_id: bytes
    stream: Stream
    last_number: int


class AckEffect(NamedTuple):
    """What an acknowledgement means for the rows."""

    freed: tuple[tuple[bytes, int, int], ...] = ()  # session, first and last counter; each is reported only once
    refused: Refused | None = None
