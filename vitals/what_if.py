"""What other orders would have changed: alarms gained, lost and delayed, and deteriorations found.

Pure: two lists of changes of alarms of the same stay, one under each order, and the policy by which people are called.
Nobody answers in this account unless an answer is in the changes: a call is the first step of a ladder.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from vitals.escalation import Escalation, EscalationPolicy, follow
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

FOUND_WITHIN_MS: Final = 86_400_000
"""A deterioration is found if a call about the patient begins within so long before it."""
SAME_WITHIN_MS: Final = 60_000
"""A call that comes later by no more than this is not listed as delayed."""


class AlarmLife(msgspec.Struct, frozen=True, kw_only=True):
    """The course of one alarm."""

    rule_id: str
    key: str
    kind: AlarmKind
    priority: Priority  # the highest that it reached
    onset_ms: int
    began_ms: int  # when it became active
    ended_ms: int | None  # when it was over; None: not within the record
    calls: tuple[tuple[int, Priority], ...]  # when a person is called for the first time, and again as it got worse

    @property
    def called_ms(self) -> int | None:
        """When the first person is called; None: nobody is, because the alarm is listed alone or was over before."""
        return self.calls[0][0] if self.calls else None

    @property
    def high_ms(self) -> int | None:
        """When people are first called with high priority."""
        return next((at_ms for at_ms, priority in self.calls if priority is Priority.HIGH), None)

    @property
    def condition(self) -> tuple[str, str]:
        return self.rule_id, self.key


class HighChange(msgspec.Struct, frozen=True, kw_only=True):
    """A call of high priority that would not have come, or later."""

    rule_id: str
    key: str
    at_ms: int  # when it came
    later_ms: int | None  # until the next call of high priority about the same condition; None: there is none
    # Until people are called about the same patient by any alarm that stands then; 0: they were called already.
    silent_ms: int | None  # None: they are not called while the condition lasted


class Deterioration(msgspec.Struct, frozen=True, kw_only=True):
    """A labelled deterioration: when, and when people were first called within the day before it."""

    at_ms: int
    then_ms: int | None  # None: missed
    new_ms: int | None

    @property
    def verdict(self) -> str:
        """One word: `missed` and `found` where only one of the orders finds it."""
        if self.then_ms is None or self.new_ms is None:
            both = self.then_ms is None and self.new_ms is None
            return "neither" if both else "missed" if self.new_ms is None else "found"
        if self.new_ms == self.then_ms:
            return "same"
        return "earlier" if self.new_ms < self.then_ms else "later"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One stay under two orders."""

    then: tuple[AlarmLife, ...]
    new: tuple[AlarmLife, ...]
    gained: tuple[AlarmLife, ...]  # of `new`: alarms that call, of conditions that did not call at that time
    lost: tuple[AlarmLife, ...]  # of `then`, likewise
    high: tuple[HighChange, ...]
    deteriorations: tuple[Deterioration, ...]


def lives_of(
    changes: Iterable[AlarmChanged], policy: EscalationPolicy, *, from_ms: int, until_ms: int
) -> tuple[AlarmLife, ...]:
    """The alarms that became active in a period, in the order in which they did. Those found in old data do not count.

    Args:
        changes: in the order in which they came about.
        policy: who is called when; of it only when the first person is.
        from_ms: beginning of the period.
        until_ms: its end, excluded: what would be called after it does not count.
    """
    by_alarm: dict[bytes, list[AlarmChanged]] = {}
    for one in changes:
        if not one.retrospective:
            by_alarm.setdefault(one.alarm_id, []).append(one)
    found = [life for these in by_alarm.values() if (life := _life(these, policy, until_ms)) is not None]
    return tuple(sorted((one for one in found if from_ms <= one.began_ms < until_ms), key=lambda one: one.began_ms))


def compare(
    then: tuple[AlarmLife, ...], new: tuple[AlarmLife, ...], *, deteriorations: Sequence[int] = ()
) -> Comparison:
    """What the new orders change for one stay.

    Args:
        then: the alarms under the orders of then.
        new: the alarms under the new orders.
        deteriorations: when the patient is known to have become worse.
    """
    return Comparison(
        then=then,
        new=new,
        gained=tuple(one for one in new if one.calls and not _has_counterpart(one, then)),
        lost=tuple(one for one in then if one.calls and not _has_counterpart(one, new)),
        high=tuple(found for one in then if (found := _high_change(one, new)) is not None),
        deteriorations=tuple(
            Deterioration(at_ms=at_ms, then_ms=first_call(then, at_ms), new_ms=first_call(new, at_ms))
            for at_ms in deteriorations
        ),
    )


def first_call(lives: Iterable[AlarmLife], at_ms: int, *, within_ms: int = FOUND_WITHIN_MS) -> int | None:
    """When people were first called about the patient in the time before a moment; None: they were not.

    An alarm that called before that time and stands on is no call within it.
    """
    return min(
        (called_ms for one in lives for called_ms, _ in one.calls if at_ms - within_ms <= called_ms < at_ms),
        default=None,
    )


def _life(changes: list[AlarmChanged], policy: EscalationPolicy, until_ms: int) -> AlarmLife | None:
    began = next((one for one in changes if one.state is AlarmState.ACTIVE), None)
    if began is None:
        return None
    over = next((one for one in changes if one.state is AlarmState.CLEARED), None)
    first = changes[0]
    return AlarmLife(
        rule_id=first.rule_id,
        key=first.key,
        kind=first.kind,
        priority=max(one.priority for one in changes),
        onset_ms=began.onset_ms,
        began_ms=began.at_ms,
        ended_ms=None if over is None else over.at_ms,
        calls=tuple(_calls(changes, policy, until_ms)),
    )


def _calls(changes: list[AlarmChanged], policy: EscalationPolicy, until_ms: int) -> list[tuple[int, Priority]]:
    """The first call of each ladder of an alarm that nothing ended before it was due."""
    calls: list[tuple[int, Priority]] = []
    called: set[int] = set()  # ladders that have made their first call
    escalation: Escalation | None = None
    for change, next_ms in zip(changes, [*(one.at_ms for one in changes[1:]), until_ms], strict=True):
        escalation = follow(escalation, change, heard_ms=change.at_ms)
        waits_ms = policy.ladder(escalation.priority, change.rule_id).waits_ms
        if escalation.begins_ms is None or waits_ms is None or escalation.ladder in called:
            continue
        due_ms = max(escalation.begins_ms + waits_ms, change.at_ms)
        if due_ms < until_ms and (due_ms == change.at_ms or due_ms < next_ms):
            calls.append((due_ms, escalation.priority))
            called.add(escalation.ladder)
    return calls


def _has_counterpart(one: AlarmLife, others: Iterable[AlarmLife]) -> bool:
    """Whether the other orders call about the same condition while this alarm lasts, or the other way round."""
    return any(other.calls and other.condition == one.condition and _overlap(one, other) for other in others)


def _overlap(one: AlarmLife, other: AlarmLife) -> bool:
    return _before_end(one.onset_ms, other) and _before_end(other.onset_ms, one)


def _before_end(at_ms: int, life: AlarmLife) -> bool:
    return life.ended_ms is None or at_ms < life.ended_ms


def _high_change(one: AlarmLife, new: Sequence[AlarmLife]) -> HighChange | None:
    at_ms = one.high_ms
    if at_ms is None:
        return None
    of_condition = [other for other in new if other.condition == one.condition and _overlap(one, other)]
    next_ms = min((high_ms for other in of_condition if (high_ms := other.high_ms) is not None), default=None)
    if next_ms is not None and next_ms <= at_ms + SAME_WITHIN_MS:
        return None
    # Called about the patient: by what stands at that moment, or by the first call before the condition was over.
    standing = any(
        other.called_ms is not None and other.called_ms <= at_ms and _before_end(at_ms, other) for other in new
    )
    called_ms = min(
        (ms for other in new for ms, _ in other.calls if ms >= at_ms and (one.ended_ms is None or ms < one.ended_ms)),
        default=None,
    )
    return HighChange(
        rule_id=one.rule_id,
        key=one.key,
        at_ms=at_ms,
        later_ms=None if next_ms is None else next_ms - at_ms,
        silent_ms=0 if standing else None if called_ms is None else called_ms - at_ms,
    )
