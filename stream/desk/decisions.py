"""The alarm desk's decisions: which alarm stands, whom it calls now, what is sent together, and what an answer answers.

Pure: time is an argument, what was kept is an argument, what is to be kept is the result. Who has to hear, by which
channel and by when is `vitals.escalation`; here is what lies between it and a log, a database and people.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from stream.errors import AlarmChangedMeanwhile, NoSuchAlarm
from stream.records import AlarmRecord, EdgeAlarmRecord
from vitals.escalation import Attempt, Due, Escalation, EscalationPolicy, Outcome, due, follow, next_due_ms, overtaken
from vitals.messages import Acknowledge, AlarmChanged, AlarmKind, AlarmState, Priority, Silence

EDGE_FRESH_MS: Final = 300_000
"""An edge's alarm that took longer to arrive is for the record: a backlog must not ring."""
EDGE_ALONE_MS: Final = 12 * 3_600_000
"""So long after its answer an alarm that only an edge has told of leaves the list: nobody may be left to clear it."""
LOOK_BACK_MS: Final = 86_400_000
"""What was due before and was not sent is not looked for: an alarm that nobody answers for weeks must stay cheap."""

OUTAGE_RULE: Final = "outage"
"""The rule of the alarms that the desk raises itself; see `stream.desk.outages`."""

_BELOW_EVERY_REVISION: Final = -1_000_000
_FIRST_PAUSE_MS: Final = 2_000
_LONGEST_PAUSE_MS: Final = 60_000


class DeskAnswer(msgspec.Struct, frozen=True, array_like=True):
    """A person's acknowledgement, kept until the patient's record confirms it."""

    by: str
    at_ms: int
    revision: int  # of the alarm as it was seen
    priority: Priority


class ActiveSilence(msgspec.Struct, frozen=True, array_like=True):
    """A silence over one condition of one patient; nothing that is worse than `priority`."""

    binding_id: str
    rule_id: str
    by: str
    at_ms: int
    until_ms: int
    priority: Priority


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """One alarm as the desk keeps it."""

    escalation: Escalation
    opened_ms: int  # when the desk first heard of it
    heard_ms: int  # when it last heard something new
    from_edge: bool = False  # an edge has told of it, the data centre has not
    answer: DeskAnswer | None = None
    replaced: bool = False  # another alarm of the same condition has taken its place
    without_data: tuple[str, ...] = ()  # of an outage: the bindings that send no data

    @property
    def alarm(self) -> AlarmChanged:
        return self.escalation.alarm

    @property
    def is_outage(self) -> bool:
        """Whether the desk raised it itself, for several patients: no patient's monitor knows of it."""
        alarm = self.alarm
        return alarm.rule_id == OUTAGE_RULE and alarm.binding_id == alarm.alarm_id.hex() and not self.from_edge

    @property
    def is_active(self) -> bool:
        """Whether the condition stands, as far as anybody knows."""
        return self.alarm.state is AlarmState.ACTIVE and not self.alarm.retrospective and not self.replaced

    @property
    def is_listed(self) -> bool:
        """Whether people have to see it: it stands, or it ended and nobody has looked."""
        return self.is_active or (self.alarm.latched and not self.replaced and not self.is_answered)

    @property
    def is_answered(self) -> bool:
        """Whether somebody has answered it as it stands now."""
        return self.answered_by is not None

    @property
    def answered_by(self) -> str | None:
        """Who; what the log says goes before what was said here."""
        if self.escalation.acknowledged_for is not None and self.alarm.priority <= self.escalation.acknowledged_for:
            return self.alarm.acknowledged_by
        # What has changed since may have got worse: only the log can tell, and until then people are called.
        return self.answer.by if self.answer is not None and self.answer.revision >= self.alarm.revision else None

    @property
    def answered_ms(self) -> int | None:
        if self.answered_by is None:
            return None
        if self.answer is None or self.alarm.acknowledged_by is not None:
            return self.alarm.acknowledged_ms
        return self.answer.at_ms

    @property
    def is_confirmed(self) -> bool:
        """Whether the log says that it was answered. An outage is the desk's own: its answer needs no confirmation."""
        return self.alarm.acknowledged_by is not None or (self.is_outage and self.answer is not None)


class Heard(NamedTuple):
    """What a record of the log comes to."""

    kept: Kept
    news: bool  # False: it was known, nothing has to be written
    displaced: Kept | None = None  # the alarm of the same condition whose place it took
    order: DeskAnswer | None = None  # an earlier answer to an edge's alarm, to be sent to the patient's monitor


def of_edge(told: EdgeAlarmRecord) -> AlarmChanged | None:
    """What an edge found by itself, as an alarm; None if it is of no kind that this program knows.

    Edge and data centre run the same kernel on the same readings, so the alarm has the same id, and revisions of their
    own. Those of an edge are all below the first of the data centre: its word counts until the data centre speaks.
    """
    found = told.alarm
    try:
        kind, state, priority = AlarmKind(found.kind), AlarmState(found.state), Priority(found.priority)
    except ValueError:
        return None
    return AlarmChanged(
        binding_id=told.binding_id, alarm_id=found.alarm_id, rule_id=found.rule_id, key=found.key, kind=kind,
        priority=priority, state=state, at_ms=found.at_ms, onset_ms=found.onset_ms,
        revision=min(_BELOW_EVERY_REVISION + found.revision, -1), text=found.text, basis="edge",
        # As in the data centre: what was held up for so long is written down and never sounds.
        retrospective=told.arrived_ms - found.at_ms > EDGE_FRESH_MS,
    )  # fmt: skip


def hear(
    record: AlarmRecord | EdgeAlarmRecord,
    *,
    now_ms: int,
    before: Kept | None,
    rival: Kept | None = None,
    hush: ActiveSilence | None = None,
) -> Heard | None:
    """An alarm was announced or has changed. None: it is none of the desk's business.

    Args:
        before: what is kept of this alarm.
        rival: what is kept of another alarm of the same condition that still stands.
        hush: what somebody wanted quiet of this condition, here at this desk.
    """  # fmt: skip
    from_edge = isinstance(record, EdgeAlarmRecord)
    alarm = of_edge(record) if isinstance(record, EdgeAlarmRecord) else record.alarm
    if alarm is None or (from_edge and _needs_no_edge(alarm, before, rival)):
        return None
    if before is not None and alarm.revision <= before.alarm.revision:
        return Heard(before, news=False)
    if from_edge and before is not None and not before.alarm.retrospective:
        alarm = msgspec.structs.replace(alarm, retrospective=False)  # late news of what people were called for
    if hush is not None and alarm.silenced_until_ms == hush.until_ms and alarm.priority > hush.priority:
        # It got worse while the order to be quiet was on its way: whoever gave it had not seen that.
        alarm = msgspec.structs.replace(alarm, silenced_until_ms=None)
    escalation = follow(None if before is None else before.escalation, alarm, heard_ms=now_ms)
    answer = None if before is None else before.answer
    order = None
    found_now = before is not None and before.from_edge and not from_edge
    if answer is not None and found_now and alarm.acknowledged_by is None and alarm.priority <= answer.priority:
        # The data centre has only now found what was answered already, and no worse.
        order = answer = DeskAnswer(answer.by, answer.at_ms, alarm.revision, alarm.priority)
    kept = Kept(
        escalation=escalation,
        opened_ms=now_ms if before is None else before.opened_ms,
        heard_ms=now_ms,
        from_edge=from_edge,
        answer=answer,
    )
    displaced = None
    if rival is not None and kept.is_active and rival.alarm.alarm_id != alarm.alarm_id:
        displaced = msgspec.structs.replace(rival, replaced=True, heard_ms=now_ms)
    return Heard(kept, news=True, displaced=displaced, order=order)


def _needs_no_edge(alarm: AlarmChanged, before: Kept | None, rival: Kept | None) -> bool:
    """What the data centre knows under another id, what was put aside, and what was over before anybody heard of it."""
    if rival is not None and not rival.from_edge:
        return True
    return alarm.state is not AlarmState.ACTIVE if before is None else before.replaced


# Whom it calls


def calls(kept: Kept, hush: ActiveSilence | None, now_ms: int, *, by_outage: bool = False) -> bool:
    """Whether people are to be called for this alarm now.

    Args:
        by_outage: an open outage calls instead. Counts only for technical alarms below high.
    """
    if not kept.is_active or kept.is_answered or kept.escalation.begins_ms is None:
        return False
    if by_outage and kept.alarm.kind is AlarmKind.TECHNICAL and kept.alarm.priority < Priority.HIGH:
        return False
    return hush is None or hush.until_ms <= now_ms or kept.alarm.priority > hush.priority


class Plan(NamedTuple):
    """What one alarm needs now."""

    due: list[Due]  # to be sent
    passed: list[Due]  # not any more: a later one goes to the same people
    look_ms: int | None  # when it will need something again


def plan(
    policy: EscalationPolicy, kept: Kept, attempts: Sequence[Attempt], *, now_ms: int, known: frozenset[str]
) -> Plan:
    """What is due of an alarm that calls.

    Args:
        attempts: what became of its notifications.
        known: keys of those that are on their way already.
    """
    escalation, told = kept.escalation, tuple(attempts)
    if escalation.begins_ms is None:
        return Plan([], [], None)
    from_ms = max(escalation.begins_ms, now_ms - LOOK_BACK_MS)
    found = due(policy, escalation, from_ms=from_ms, until_ms=now_ms + 1, attempts=told)
    new = [one for one in found if one.key not in known]
    passed = {one.key for one in overtaken(new)}
    return Plan(
        [one for one in new if one.key not in passed],
        [one for one in new if one.key in passed],
        next_due_ms(policy, escalation, now_ms + 1, told),
    )


# What is sent


class DeliveryStatus(StrEnum):
    """How one notification to one person stands."""

    WAITING = "waiting"
    SENT = "sent"  # the service has accepted it
    FAILED = "failed"  # and will be tried again
    STOPPED = "stopped"  # nobody needs it any more


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One notification to one person by one channel. `key` and `person` are its permanent name."""

    key: str
    person: str
    channel: str
    who: str  # the role
    alarm_id: bytes
    priority: Priority
    due_ms: int
    fate: DeliveryStatus = DeliveryStatus.WAITING
    tries: int = 0
    begun_ms: int | None = None  # of the last try
    again_ms: int = 0  # not before
    done_ms: int | None = None
    leads: bool = True  # a message of its own, or the first of a digest: what is counted

    @property
    def is_open(self) -> bool:
        return self.fate in (DeliveryStatus.WAITING, DeliveryStatus.FAILED)


class OutgoingMessage(NamedTuple):
    """What goes to one person by one channel in one message."""

    person: str
    channel: str
    priority: Priority
    deliveries: tuple[Delivery, ...]  # more than one: a digest


class Limit(NamedTuple):
    """How much below red a person is sent one by one."""

    messages: int = 10
    within_ms: int = 600_000


def letters(
    waiting: Iterable[Delivery], sent: Mapping[str, Sequence[int]], *, now_ms: int, limit: Limit
) -> list[OutgoingMessage]:
    """What to send now of what waits, red first.

    A red alarm goes by itself, at once, and counts for nothing. Of the others a person gets so many messages in a
    while; what comes beyond that waits until the oldest of them is old enough, and then goes as one.

    Args:
        sent: by person, when the messages below red were begun.
    """
    ready = sorted((one for one in waiting if one.again_ms <= now_ms), key=lambda one: (-one.priority, one.due_ms))
    found = [
        OutgoingMessage(one.person, one.channel, one.priority, (one,)) for one in ready if one.priority is Priority.HIGH
    ]
    rest: dict[str, list[Delivery]] = {}
    for one in ready:
        if one.priority is not Priority.HIGH:
            rest.setdefault(one.person, []).append(one)
    for person, these in rest.items():
        recent = sum(now_ms - limit.within_ms < at_ms <= now_ms for at_ms in sent.get(person, ()))
        left = limit.messages - recent
        if left <= 0:
            continue
        by_channel: dict[str, list[Delivery]] = {}
        for one in these:
            by_channel.setdefault(one.channel, []).append(one)
        if len(these) <= left:
            found += [OutgoingMessage(person, one.channel, one.priority, (one,)) for one in these]
            continue
        for channel, ones in list(by_channel.items())[:left]:
            found.append(OutgoingMessage(person, channel, max(one.priority for one in ones), tuple(ones)))
    return found


def again_ms(tries: int, now_ms: int) -> int:
    """When a notification that was not accepted is tried again: 2, 4, 8 ... seconds later, a minute at most."""
    return now_ms + min(_FIRST_PAUSE_MS << min(max(tries, 1) - 1, 16), _LONGEST_PAUSE_MS)


def outcome(deliveries: Sequence[Delivery], *, accepted_is_delivered: bool) -> Outcome | None:
    """What became of one notification, all people of its role together; None while nobody knows.

    A service that accepts a message has not shown it to anybody, so that is no receipt unless the site says so.
    """
    fates = [one.fate for one in deliveries]
    if DeliveryStatus.SENT in fates:
        return Outcome.DELIVERED if accepted_is_delivered else Outcome.SENT
    return Outcome.FAILED if all(fate is DeliveryStatus.FAILED for fate in fates) else None


# What people do


def acknowledge(kept: Kept | None, *, by: str, revision: int, now_ms: int) -> Kept:
    """Somebody has seen an alarm as it was at `revision`.

    An alarm that is answered already stays as it is.

    Raises:
        NoSuchAlarm: there is no such alarm on the list.
        AlarmChangedMeanwhile: it is not what they have seen any more.
    """
    if kept is None or not (kept.is_listed or kept.is_answered):
        raise NoSuchAlarm
    if kept.is_answered:
        return kept
    if revision != kept.alarm.revision:
        raise AlarmChangedMeanwhile(revision=kept.alarm.revision)
    return msgspec.structs.replace(kept, answer=DeskAnswer(by, now_ms, revision, kept.alarm.priority))


def silence(kept: Kept | None, *, by: str, until_ms: int, revision: int, now_ms: int) -> ActiveSilence:
    """Somebody wants the condition of an alarm quiet for a while.

    Raises:
        NoSuchAlarm, AlarmChangedMeanwhile: as `acknowledge`.
    """
    if kept is None or not kept.is_active:
        raise NoSuchAlarm
    if revision != kept.alarm.revision:
        raise AlarmChangedMeanwhile(revision=kept.alarm.revision)
    alarm = kept.alarm
    return ActiveSilence(alarm.binding_id, alarm.rule_id, by, now_ms, until_ms, alarm.priority)


def is_fulfilled(order: Acknowledge | Silence, kept: Kept, now_ms: int) -> bool:
    """Whether the log says what was ordered, or there is nothing left that it could say."""
    alarm = kept.alarm
    if kept.replaced or kept.from_edge or (alarm.state is AlarmState.CLEARED and not alarm.latched):
        return True
    if isinstance(order, Silence):
        return now_ms >= order.until_ms or alarm.silenced_until_ms == order.until_ms
    # An answer to what has changed since was no answer: the log will not say so, however often it is told.
    return kept.is_confirmed or order.revision is None or order.revision < alarm.revision


def is_over(kept: Kept, now_ms: int) -> bool:
    """Whether an alarm that only an edge has told of may leave the list: answered long ago, never heard of again."""
    return kept.from_edge and kept.is_active and kept.answer is not None and now_ms - kept.answer.at_ms > EDGE_ALONE_MS
