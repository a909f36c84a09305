"""What a record has of its stays: messages in the order in which they were applied, answers, stored alarms.

A record is opened anew in every process that replays stays of it, so it is described by what can be sent there.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from vitals.messages import Acknowledge, AlarmChanged, BindingPeriod, Message, Silence, Tick
from vitals.replay import GivenAnswer


class ListedStay(msgspec.Struct, frozen=True, kw_only=True):
    """One stay of a record, before it is read."""

    stay_id: str
    readings: int  # about how many, for the progress bar
    patient: str = ""  # pseudonym; empty: not known
    ward: str = ""
    periods: tuple[BindingPeriod, ...] = ()  # of its devices, by the registry, as they were heard; empty: not known


class StayRecord(msgspec.Struct, kw_only=True):
    """One stay, opened."""

    messages: Iterable[Message]
    answers: tuple[GivenAnswer, ...] = ()
    stored: tuple[AlarmChanged, ...] | None = None  # None: the record has readings alone
    until_ms: int | None = None  # the record tells of time up to here
    deteriorations: tuple[int, ...] = ()  # that the record itself labels


class OpenRecord(Protocol):
    """A record that is open."""

    def stays(self) -> list[ListedStay]: ...

    def read(self, stay: ListedStay) -> StayRecord: ...

    def close(self) -> None: ...


class Record(Protocol):
    """Where stored readings are."""

    @property
    def name(self) -> str:
        """For people and for files of partial results."""

    @property
    def limits(self) -> tuple[str, ...]:
        """What of the alarms of then cannot be made again from it, and why: whole sentences."""

    @property
    def cadences_ms(self) -> dict[str, int]:
        """How often its devices measure, by sign, if that is not as in the table of signs."""

    def open(self) -> OpenRecord: ...


def with_periods(messages: Iterable[Message], periods: Iterable[BindingPeriod]) -> Iterator[Message]:
    """The messages with what the registry said of the bindings of the stay, each where it was heard.

    Args:
        periods: in the order in which they were heard. One that was heard before the first message comes before it.
    """
    waiting = deque(periods)
    for message in messages:
        at_ms = _heard_ms(message)
        while waiting and waiting[0].heard_ms < at_ms:
            yield waiting.popleft()
        yield message
    yield from waiting


def _heard_ms(message: Message) -> int:
    if isinstance(message, Tick):
        return message.now_ms
    return message.at_ms if isinstance(message, Acknowledge | Silence) else message.heard_ms


def digest_of(*parts: object) -> str:
    """A short name for what a partial result was made of."""
    return hashlib.sha256(msgspec.json.encode([str(part) for part in parts])).hexdigest()[:16]
