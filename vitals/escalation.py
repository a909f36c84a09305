"""Escalation: which person is notified of an alarm, by which channel and when, until it is acknowledged.

Pure: the due notifications follow from the policy, the alarm, the outcomes of earlier attempts, and an interval of
time. There is no timer to lose, so a restart, a second desk or a replay finds the same notifications under the same
keys.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple, TypeAlias

import msgspec

from vitals.errors import BadPlan
from vitals.messages import AlarmChanged, AlarmState, Priority

_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND

RECEIPT_MS: Final = 60 * _SECOND
"""How long to wait for a delivery receipt from a channel that the policy does not name."""


class EscalationStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a ladder: after this delay without an acknowledgement, this person is notified."""

    delay_ms: int  # since the ladder began
    who: str  # a role, such as "nurse"; the roster of the ward names the person
    channels: tuple[str, ...]  # in the order in which they are tried
    every_channel: bool = False  # all at once instead of one after the other


class Ladder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The steps of one ladder. Without steps an alarm is listed and no person is notified."""

    steps: tuple[EscalationStep, ...] = ()
    repeat_ms: int | None = None  # interval at which the last step is repeated; None: never

    @property
    def waits_ms(self) -> int | None:
        """How long the first person is not notified; None: no person is ever notified."""
        return self.steps[0].delay_ms if self.steps else None


class RuleLadders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ladders of one rule, by priority; None: that of the priority."""

    high: Ladder | None = None
    medium: Ladder | None = None
    low: Ladder | None = None


_ONE_BY_ONE: Final = ("push", "sms", "call")

# A NEWS2 of 7 or a red sign: at once, then after 2, 5, 10 min.
_HIGH: Final = Ladder(
    steps=(
        EscalationStep(delay_ms=0, who="nurse", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=2 * _MINUTE, who="second", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=5 * _MINUTE, who="lead", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=10 * _MINUTE, who="everyone", channels=_ONE_BY_ONE, every_channel=True),
    ),
    repeat_ms=5 * _MINUTE,
)
_MEDIUM: Final = Ladder(
    steps=(
        EscalationStep(delay_ms=15 * _MINUTE, who="nurse", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=30 * _MINUTE, who="second", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=60 * _MINUTE, who="lead", channels=_ONE_BY_ONE),
    ),
    repeat_ms=60 * _MINUTE,  # an alarm without acknowledgement is never given up
)
# RCP 2017, chart 4: at a NEWS2 of 5 the nurse immediately informs the medical team. So a person is notified at once.
# No role that the ladder of medium alarms does not have: an older configuration has people for those.
_URGENT: Final = Ladder(
    steps=(
        EscalationStep(delay_ms=0, who="nurse", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=15 * _MINUTE, who="second", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=30 * _MINUTE, who="lead", channels=_ONE_BY_ONE),
        EscalationStep(delay_ms=60 * _MINUTE, who="lead", channels=_ONE_BY_ONE, every_channel=True),
    ),
    repeat_ms=60 * _MINUTE,
)
NEWS2_RULE: Final = "news2"
"""The rule whose alarms of medium priority are an urgent response of the RCP."""
DEFAULT_RULE_LADDERS: Final = {NEWS2_RULE: RuleLadders(medium=_URGENT)}


class EscalationPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one ward escalates. Call `check` on a policy that was read from a file.

    An alarm has the ladder of its rule, or else that of its priority. A policy that gives a ladder for medium alarms
    and none for rules has that one for all of them.
    """

    high: Ladder = _HIGH
    medium: Ladder | None = None  # None: the default
    low: Ladder = Ladder()
    rules: dict[str, RuleLadders] | None = None  # by rule id; None: the default, unless `medium` is given
    named: dict[str, RuleLadders] = {}  # ladders that the orders of a patient may name, by priority
    # By channel: a notification without a receipt for this long counts as not delivered. The sum is short enough that
    # all channels were tried before the second person is notified.
    receipt_ms: dict[str, int] = msgspec.field(
        default_factory=lambda: {"push": 30 * _SECOND, "sms": 45 * _SECOND, "call": 45 * _SECOND}
    )

    def ladder(self, priority: Priority, rule_id: str = "") -> Ladder:
        """The ladder of an alarm: that of its rule, or else that of its priority."""
        own = self._by_rule.get(rule_id)
        if own is not None:
            found = {Priority.HIGH: own.high, Priority.MEDIUM: own.medium, Priority.LOW: own.low}[priority]
            if found is not None:
                return found
        medium = _MEDIUM if self.medium is None else self.medium
        return {Priority.HIGH: self.high, Priority.MEDIUM: medium, Priority.LOW: self.low}[priority]

    def with_ladder(self, name: str) -> "EscalationPolicy":
        """The policy for a patient for whom a ladder is ordered by name.

        A ladder that it has for a priority is for all alarms of that priority; the others are those of this policy.

        Raises:
            KeyError: this policy has no ladder of that name.
        """
        ordered = self.named[name]
        rules = {
            rule_id: RuleLadders(
                high=own.high if ordered.high is None else None,
                medium=own.medium if ordered.medium is None else None,
                low=own.low if ordered.low is None else None,
            )
            for rule_id, own in self._by_rule.items()
        }
        return EscalationPolicy(
            high=ordered.high or self.high,
            medium=ordered.medium or self.medium,
            low=ordered.low or self.low,
            rules=rules,
            receipt_ms=self.receipt_ms,
        )

    def ladders(self) -> Iterator[tuple[str, Ladder]]:
        """Every ladder, with the name of its key."""
        for name, priority in (("high", Priority.HIGH), ("medium", Priority.MEDIUM), ("low", Priority.LOW)):
            yield name, self.ladder(priority)
        for rule_id, own in self._by_rule.items():
            for name in own.__struct_fields__:
                ladder: Ladder | None = getattr(own, name)
                if ladder is not None:
                    yield f"rules.{rule_id}.{name}", ladder
        for ordered, ladders in self.named.items():
            for name in ladders.__struct_fields__:
                found: Ladder | None = getattr(ladders, name)
                if found is not None:
                    yield f"named.{ordered}.{name}", found

    @property
    def _by_rule(self) -> Mapping[str, RuleLadders]:
        if self.rules is None:
            return DEFAULT_RULE_LADDERS if self.medium is None else {}
        return self.rules

    def receipt(self, channel: str) -> int:
        """Milliseconds that a channel has for its delivery receipt."""
        return self.receipt_ms.get(channel, RECEIPT_MS)

    def check(self) -> None:
        """Raise BadPlan, naming the key and the fix, if this policy is invalid or does not escalate red alarms."""
        for name, ladder in self.ladders():
            delays = [step.delay_ms for step in ladder.steps]
            if delays != sorted(delays) or (delays and delays[0] < 0):
                raise BadPlan(f"{name}.steps: order them by delay_ms, from 0 upwards")
            if ladder.repeat_ms is not None and ladder.repeat_ms <= 0:
                raise BadPlan(
                    f"{name}.repeat_ms: {ladder.repeat_ms} ms is not positive; remove the key to repeat nothing"
                )
            for step in ladder.steps:
                if not step.who or not step.channels:
                    raise BadPlan(f"{name}.steps: the step at {step.delay_ms} ms needs a role (who) and a channel")
        if not self.high.steps or self.high.steps[0].delay_ms > 0 or self.high.repeat_ms is None:
            raise BadPlan("high: begin with a step at delay_ms 0 and set repeat_ms; red alarms must be escalated")
        for name, own in self.named.items():
            if own == RuleLadders():
                raise BadPlan(f"named.{name}: has no ladder; give one for high, medium or low")
        further = {f"rules.{name}": own for name, own in self._by_rule.items()}
        further |= {f"named.{name}": own for name, own in self.named.items()}
        for name, own in further.items():
            if own.high is not None and (own.high.waits_ms != 0 or own.high.repeat_ms is None):
                raise BadPlan(
                    f"{name}.high: begin with a step at delay_ms 0 and set repeat_ms; red alarms must be escalated"
                )
        for channel, wait_ms in self.receipt_ms.items():
            if wait_ms <= 0:
                raise BadPlan(f"receipt_ms.{channel}: {wait_ms} ms is not a positive time")


class Outcome(StrEnum):
    SENT = "sent"  # handed to the channel, no receipt yet
    DELIVERED = "delivered"
    FAILED = "failed"
    OVERTAKEN = "overtaken"  # never sent: a newer one to the same person replaced it, see `overtaken`


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one notification. The same key may occur several times: sent, then delivered."""

    key: str
    at_ms: int
    outcome: Outcome


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """One notification that is to be sent."""

    key: str  # permanent and unique: one notification has exactly one key
    alarm_id: bytes
    priority: Priority
    level: int  # which step of the ladder, from 0
    attempt: int  # which try of that step, from 0; goes on through its repetitions
    who: str
    channel: str
    due_ms: int


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm as escalation sees it: its newest state, and since when it waits for an answer. Made by `follow`."""

    alarm: AlarmChanged
    priority: Priority  # the worst since the ladder began
    begins_ms: int | None  # start of the ladder; None: no person is to be notified
    ladder: int  # the revision of the alarm at which the ladder began, so that a new ladder has new keys
    after_silence: bool = False  # the ladder begins when a silence ends
    acknowledged_for: Priority | None = None  # priority when it was acknowledged; a worse one starts a new ladder
    silenced_for: Priority | None = None  # likewise, when it was silenced
    log: int = 0  # number of the alarm log in which the ladder began: revisions count within one log


def key_prefix(alarm: Escalation) -> str:
    """The beginning of the keys of all notifications of the present ladder, and of no other."""
    log = f"-{alarm.log}" if alarm.log else ""
    return f"{alarm.alarm.alarm_id.hex()}.{alarm.ladder}{log}."


def follow(
    before: Escalation | None,
    alarm: AlarmChanged,
    *,
    heard_ms: int,
    silenced_until_ms: int | None = None,
    log: int = 0,
) -> Escalation:
    """An alarm was announced or has changed.

    A ladder begins when an alarm starts to wait for an answer: when it becomes active, when it gets worse, when a
    silence ends, when an acknowledgement no longer holds. Other changes, such as a new text, leave it running, or an
    alarm that often changes would never reach the second person. A repeated or an older announcement changes nothing.

    Args:
        before: what the last call for this alarm returned; None at first. It has to be kept through a restart.
        alarm: the alarm as it was announced now.
        heard_ms: the time now, by the clock of the desk: ladders run from when a person could be notified, and the
            clock of a device may be wrong.
        silenced_until_ms: the end of the alarm's silence by the clock of the desk; None: as the alarm says.
        log: number of the log that the alarm was read from.
    """
    if before is not None:
        if before.alarm.alarm_id != alarm.alarm_id:
            raise ValueError(f"alarm {alarm.alarm_id.hex()} does not continue {before.alarm.alarm_id.hex()}")
        if alarm.revision <= before.alarm.revision:
            return before
    acknowledged_for = _acknowledged_for(before, alarm)
    silenced_for = _silenced_for(before, alarm)
    now = Escalation(
        alarm=alarm,
        priority=alarm.priority,
        begins_ms=heard_ms,
        ladder=alarm.revision,
        acknowledged_for=acknowledged_for,
        silenced_for=silenced_for,
        log=log,
    )
    answered = acknowledged_for is not None and alarm.priority <= acknowledged_for
    if alarm.state is not AlarmState.ACTIVE or alarm.retrospective or answered:
        return msgspec.structs.replace(now, begins_ms=None)
    until_ms = alarm.silenced_until_ms
    if until_ms is not None and silenced_until_ms is not None:
        until_ms = silenced_until_ms
    if until_ms is not None and until_ms > heard_ms and silenced_for is not None and alarm.priority <= silenced_for:
        # The ladder begins at the end of the silence even if that end is never announced.
        return msgspec.structs.replace(now, begins_ms=until_ms, after_silence=True)
    if before is None or not _is_running(before, heard_ms) or alarm.priority > before.priority:
        return now
    return msgspec.structs.replace(
        now, begins_ms=before.begins_ms, ladder=before.ladder, log=before.log, priority=before.priority
    )


def due(
    policy: EscalationPolicy, alarm: Escalation, *, from_ms: int, until_ms: int, attempts: tuple[Attempt, ...] = ()
) -> list[Due]:
    """Everything that becomes due in `from_ms <= due_ms < until_ms`, in the order of time.

    A notification that was attempted is not due again. A failed delivery becomes known later, and the desk may have
    been stopped for a while, so call this with `from_ms=alarm.begins_ms` and all attempts, and leave out those that
    `overtaken` returns.

    Args:
        policy: the policy of the ward.
        alarm: see `follow`.
        from_ms: the start of the interval.
        until_ms: its end, excluded.
        attempts: the outcomes of this alarm's notifications. A notification that failed, or whose channel gave no
            receipt in time, counts as not delivered, and the next channel of the step is tried.
    """
    if alarm.begins_ms is None:
        return []
    results = _by_key(attempts)
    found: list[Due] = []
    for turn in _turns(policy, alarm, alarm.begins_ms, from_ms):
        if turn.at_ms >= until_ms:
            break
        found += [one for one in _tries(policy, alarm, turn, results) if from_ms <= one.due_ms < until_ms]
    return sorted(found, key=lambda one: (one.due_ms, one.level, one.attempt))


def standing_calls(
    policy: EscalationPolicy, alarm: Escalation, *, now_ms: int, attempts: tuple[Attempt, ...] = ()
) -> list[Due]:
    """Everything that has become due in the newest round of each step, whether it was attempted or not.

    Whoever has one of these roles now and was not called yet is to be called: roles change while an alarm stands.
    """
    if alarm.begins_ms is None:
        return []
    results = _by_key(attempts)
    newest: dict[int, _Turn] = {}
    for turn in _turns(policy, alarm, alarm.begins_ms, now_ms):
        if turn.at_ms > now_ms:
            break
        newest[turn.level] = turn
    tries = (one for turn in newest.values() for one in _tries(policy, alarm, turn, results, attempted=True))
    return [one for one in tries if one.due_ms <= now_ms]


def next_due_ms(
    policy: EscalationPolicy, alarm: Escalation, now_ms: int, attempts: tuple[Attempt, ...] = ()
) -> int | None:
    """When the first notification becomes due, not before `now_ms`; None if there will be none."""
    if alarm.begins_ms is None:
        return None
    results = _by_key(attempts)
    first: int | None = None
    for turn in _turns(policy, alarm, alarm.begins_ms, now_ms):
        if first is not None and turn.at_ms >= first:
            break
        for one in _tries(policy, alarm, turn, results):
            if one.due_ms >= now_ms and (first is None or one.due_ms < first):
                first = one.due_ms
    return first


def overtaken(found: Sequence[Due]) -> list[Due]:
    """Those that need not be sent, because a later one of the same alarm goes to the same person by the same channel.

    After the desk was stopped for an hour, a dozen repetitions of a red alarm are due; each person gets only the last.
    Record the others as OVERTAKEN.
    """
    newest = {(one.alarm_id, one.who, one.channel): one.key for one in found}
    return [one for one in found if newest[one.alarm_id, one.who, one.channel] != one.key]


class _Turn(NamedTuple):
    """One step, or one repetition of the last."""

    level: int
    repetition: int
    at_ms: int
    step: EscalationStep


_Results: TypeAlias = dict[str, list[Attempt]]


def _acknowledged_for(before: Escalation | None, alarm: AlarmChanged) -> Priority | None:
    if alarm.acknowledged_by is None:
        return None
    if before is not None and before.acknowledged_for is not None:
        old = before.alarm
        if (old.acknowledged_by, old.acknowledged_ms) == (alarm.acknowledged_by, alarm.acknowledged_ms):
            return before.acknowledged_for
    return alarm.priority


def _silenced_for(before: Escalation | None, alarm: AlarmChanged) -> Priority | None:
    if alarm.silenced_until_ms is None:
        return None
    held = None if before is None else before.silenced_for
    if before is not None and held is not None and before.alarm.silenced_until_ms == alarm.silenced_until_ms:
        return held
    return alarm.priority


def _is_running(alarm: Escalation, now_ms: int) -> bool:
    # Only a silence makes a ladder begin in the future; otherwise the clock was set back, and the ladder is running.
    return alarm.begins_ms is not None and (alarm.begins_ms <= now_ms or not alarm.after_silence)


def _turns(policy: EscalationPolicy, alarm: Escalation, begins_ms: int, from_ms: int) -> Iterator[_Turn]:
    """The steps and then the endless repetitions that can still matter at `from_ms`, in the order of time."""
    ladder = policy.ladder(alarm.priority, alarm.alarm.rule_id)
    for level, step in enumerate(ladder.steps):
        yield _Turn(level, 0, begins_ms + step.delay_ms, step)
    if not ladder.steps or ladder.repeat_ms is None:
        return
    last = ladder.steps[-1]
    base_ms = begins_ms + last.delay_ms
    longest_ms = sum(policy.receipt(channel) for channel in last.channels)
    for repetition in count(max(1, (from_ms - base_ms - longest_ms) // ladder.repeat_ms)):
        yield _Turn(len(ladder.steps) - 1, repetition, base_ms + repetition * ladder.repeat_ms, last)


def _tries(
    policy: EscalationPolicy, alarm: Escalation, turn: _Turn, results_of: _Results, *, attempted: bool = False
) -> Iterator[Due]:
    """The notifications of one round; with `attempted` those too that have a result."""
    step, at_ms = turn.step, turn.at_ms
    for index, channel in enumerate(step.channels):
        attempt = turn.repetition * len(step.channels) + index
        key = f"{key_prefix(alarm)}{turn.level}.{attempt}"
        results = results_of.get(key, [])
        if attempted or not results:
            yield Due(
                key=key,
                alarm_id=alarm.alarm.alarm_id,
                priority=alarm.priority,
                level=turn.level,
                attempt=attempt,
                who=step.who,
                channel=channel,
                due_ms=at_ms,
            )
        if step.every_channel:
            continue
        given_up_ms = _given_up_ms(at_ms, policy.receipt(channel), results)
        if given_up_ms is None:
            return
        at_ms = given_up_ms


def _given_up_ms(due_ms: int, receipt_ms: int, results: list[Attempt]) -> int | None:
    """When a notification counts as not delivered; None if it was delivered. At the latest when its time is over."""
    deadline_ms = due_ms + receipt_ms
    failed_ms = deadline_ms
    for result in results:
        if result.outcome is Outcome.OVERTAKEN:
            return None
        if result.outcome is Outcome.DELIVERED and result.at_ms <= deadline_ms:
            return None
        if result.outcome is Outcome.FAILED:
            failed_ms = min(failed_ms, result.at_ms)
    return max(failed_ms, due_ms)


def _by_key(attempts: Iterable[Attempt]) -> _Results:
    results: _Results = {}
    for attempt in attempts:
        results.setdefault(attempt.key, []).append(attempt)
    return results
