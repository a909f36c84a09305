"""End dates of certificates and lists, and what is said as they come nearer. Pure: no I/O, no clock.

A thing that a person renews is announced 30, 14 and 3 days before it has to be replaced. A thing that renews itself is
announced only when its renewal is overdue, so that a healthy site is quiet: low then, medium at 14 days or half of the
time that the renewal had, high at 3 days. What has ended is harmful now.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

DAY_MS: Final = 86_400_000
OVERDUE_MS: Final = DAY_MS
"""A renewal that has not succeeded this long after it was due is announced."""


class Urgency(IntEnum):
    """How urgent an end date is. The first three are the priorities of its technical alarm."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    ENDED = 4  # a high alarm; whatever needs it does not work


AT: Final = ((3 * DAY_MS, Urgency.HIGH), (14 * DAY_MS, Urgency.MEDIUM), (30 * DAY_MS, Urgency.LOW))
"""Time left, and the urgency from then on; the nearest first."""


class EndDate(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that ends, and who renews it. Times in ms since 1970."""

    what: str  # for example "certificate of the registry"; one of few, as it is a label of a metric
    ends_ms: int
    renewed_by: str  # for example "the registry", "a person"
    fix: str  # what a person does
    due_ms: int | None = None  # a process renews it from then on; None: a person has to
    lead_ms: int = 0  # others are cut short by it: announced this much earlier, and high in the last half of this time
    which: str = ""  # one of several: a device, or how many
    problem: str = ""  # why the last renewal failed
    most: Urgency = Urgency.ENDED  # one device is no reason to call as loudly as for the whole site
    is_superseded: bool = False  # it has been replaced already and is kept until it ends


class EndDateWatch(NamedTuple):
    """What a process knows of end dates. Called in another thread: all three only read."""

    read: Callable[[], Iterable[EndDate]] = tuple
    now_ms: Callable[[], int] = lambda: 0
    more_notes: Callable[[], Sequence[str]] = tuple  # further problems that do no harm yet

    def notes(self) -> list[str]:
        """What is urgent or could not be renewed, a sentence each."""
        return [*notes(self.read(), self.now_ms()), *self.more_notes()]

    def trouble(self) -> str:
        """What has ended already; empty if nothing has."""
        return trouble(self.read(), self.now_ms())


def urgency(one: EndDate, now_ms: int) -> Urgency:
    """How urgent it is to renew it."""
    return Urgency.NONE if one.is_superseded else min(one.most, _level(one, now_ms))


def _level(one: EndDate, now_ms: int) -> Urgency:
    if one.ends_ms <= now_ms:
        return Urgency.ENDED
    (high_ms, _), (medium_ms, _), (low_ms, _) = AT
    by_ms = one.ends_ms - one.lead_ms
    left_ms = by_ms - now_ms
    if one.due_ms is not None:
        if now_ms < one.due_ms + OVERDUE_MS:
            return Urgency.NONE
        # Of a certificate that is renewed in its last fortnight, the fortnight itself is no reason to call people.
        low_ms, medium_ms = left_ms, min(medium_ms, (by_ms - one.due_ms) // 2)
    if one.ends_ms - now_ms <= max(high_ms, one.lead_ms // 2):
        return Urgency.HIGH
    if left_ms <= medium_ms:
        return Urgency.MEDIUM
    return Urgency.LOW if left_ms <= low_ms else Urgency.NONE


def sentence(one: EndDate, now_ms: int) -> str:
    """What ends when, why it was not renewed, and the fix, in one line."""
    name = f"{one.what} ({one.which})" if one.which else one.what
    left_ms = one.ends_ms - now_ms
    when = f"expired {span(-left_ms)} ago" if left_ms <= 0 else f"expires in {span(left_ms)}, on {date(one.ends_ms)}"
    parts = [f"{name} {when}"]
    if one.due_ms is not None and now_ms >= one.due_ms:
        parts.append(f"{one.renewed_by} has not renewed it" + (f" ({one.problem})" if one.problem else ""))
    return "; ".join([*parts, f"fix: {one.fix}"])


def notes(found: Iterable[EndDate], now_ms: int) -> list[str]:
    """Sentences about what is urgent or could not be renewed, the most urgent first."""
    told = [one for one in found if urgency(one, now_ms) or (one.problem and not one.is_superseded)]
    return [sentence(one, now_ms) for one in sorted(told, key=lambda one: -urgency(one, now_ms))]


def trouble(found: Iterable[EndDate], now_ms: int) -> str:
    """What has ended already, in one line; empty if nothing has."""
    return "; ".join(sentence(one, now_ms) for one in found if urgency(one, now_ms) is Urgency.ENDED)


def span(ms: float) -> str:
    """A duration in words: days, or hours, or minutes.

    >>> span(3 * 86_400_000), span(7_200_000), span(60_000)
    ('3 days', '2 hours', '1 minute')
    """
    units = ((DAY_MS, "day"), (3_600_000, "hour"), (60_000, "minute"))
    unit_ms, name = next((one for one in units if ms >= one[0]), units[-1])
    count = int(ms // unit_ms)
    return f"{count} {name}{'' if count == 1 else 's'}"


def date(at_ms: int) -> str:
    """The day in UTC, as ISO 8601."""
    return f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%d}"
