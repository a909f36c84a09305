"""The alarm desk's decisions: open alarms, due notifications, combined messages, what an answer covers.

Pure: time and stored state are arguments, the state to be stored is the result. `vitals.escalation` says which role is
due by which channel and when; this module applies it to records, deliveries and answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from stream.errors import AlarmChangedMeanwhile, NoSuchAlarm
from stream.records import AlarmRecord, BindingEndedRecord, EdgeAlarmRecord
from vitals.alarms import clock_text
from vitals.escalation import Attempt, Due, Escalation, EscalationPolicy, Outcome, due, follow, next_due_ms, overtaken
from vitals.messages import Acknowledge, AlarmChanged, AlarmKind, AlarmState, Priority, Silence

EDGE_FRESH_MS: Final = 300_000
"""An edge's alarm that took longer to arrive is only recorded: a backlog must not notify people."""
EDGE_ALONE_MS: Final = 12 * 3_600_000
"""An answered alarm that only an edge has reported leaves the list after this time: the edge may never clear it."""
LOOK_BACK_MS: Final = 86_400_000
"""Notifications that were due longer ago are not planned: an alarm unanswered for weeks must stay cheap."""

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
    """A silence of one condition of one patient; alarms above `priority` are not silenced."""

    binding_id: str
    rule_id: str
    by: str
    at_ms: int
    until_ms: int
    priority: Priority


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """One alarm as the desk stores it, with its escalation and answer."""

    escalation: Escalation
    opened_ms: int  # when the desk first read it
    heard_ms: int  # when it last changed
    from_edge: bool = False  # reported by an edge and not by the data centre
    answer: DeskAnswer | None = None
    replaced: bool = False  # superseded by another alarm of the same condition
    without_data: tuple[str, ...] = ()  # of an outage: the bindings that send no data

    @property
    def alarm(self) -> AlarmChanged:
        return self.escalation.alarm

    @property
    def is_outage(self) -> bool:
        """Whether it is an alarm of the desk for an outage; no patient's monitor has it."""
        alarm = self.alarm
        return alarm.rule_id == OUTAGE_RULE and alarm.binding_id == alarm.alarm_id.hex() and not self.from_edge

    @property
    def is_active(self) -> bool:
        """Whether the condition is present, by the last record."""
        return self.alarm.state is AlarmState.ACTIVE and not self.alarm.retrospective and not self.replaced

    @property
    def is_listed(self) -> bool:
        """Whether it is on the list: active, or latched and unanswered."""
        return self.is_active or (self.alarm.latched and not self.replaced and not self.is_answered)

    @property
    def is_answered(self) -> bool:
        """Whether it has an answer that covers its present state."""
        return self.answered_by is not None

    @property
    def answered_by(self) -> str | None:
        """Name of the person who answered; the patient's record has precedence over the desk's."""
        if self.escalation.acknowledged_for is not None and self.alarm.priority <= self.escalation.acknowledged_for:
            return self.alarm.acknowledged_by
        # A later revision may be worse. Until the record shows that the answer covers it, people are notified.
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
        """Whether the patient's record shows the answer. An outage needs no confirmation."""
        return self.alarm.acknowledged_by is not None or (self.is_outage and self.answer is not None)


class Heard(NamedTuple):
    """Result of one record of the alarm log."""

    kept: Kept
    news: bool  # False: already known, nothing to write
    displaced: Kept | None = None  # the alarm of the same condition that it supersedes
    order: DeskAnswer | None = None  # an earlier answer to an edge's alarm, to be sent to the patient's monitor


def of_edge(record: EdgeAlarmRecord) -> AlarmChanged | None:
    """An edge's alarm record as an alarm; None if its kind, state or priority is unknown.

    Edge and data centre run the same kernel on the same readings, so their alarms have the same id but revisions of
    their own. All revisions of an edge are below the first of the data centre, whose record replaces the edge's.
    """
    found = record.alarm
    try:
        kind, state, priority = AlarmKind(found.kind), AlarmState(found.state), Priority(found.priority)
    except ValueError:
        return None
    return AlarmChanged(
        binding_id=record.binding_id,
        alarm_id=found.alarm_id,
        rule_id=found.rule_id,
        key=found.key,
        kind=kind,
        priority=priority,
        state=state,
        at_ms=found.at_ms,
        onset_ms=found.onset_ms,
        revision=min(_BELOW_EVERY_REVISION + found.revision, -1),
        text=found.text,
        basis="edge",
        # As in the data centre: an alarm that arrives so late is recorded and does not notify.
        retrospective=record.arrived_ms - found.at_ms > EDGE_FRESH_MS,
    )


def hear(
    record: AlarmRecord | EdgeAlarmRecord,
    *,
    now_ms: int,
    before: Kept | None,
    rival: Kept | None = None,
    active_silence: ActiveSilence | None = None,
) -> Heard | None:
    """Apply a record of a new or changed alarm. None: the record is of no use to the desk.

    Args:
        before: the stored state of this alarm.
        rival: the stored state of another open alarm of the same condition.
        active_silence: the silence of this condition that was set at this desk.
    """
    from_edge = isinstance(record, EdgeAlarmRecord)
    alarm = of_edge(record) if isinstance(record, EdgeAlarmRecord) else record.alarm
    if alarm is None or (from_edge and _needs_no_edge(alarm, before, rival)):
        return None
    if before is not None and alarm.revision <= before.alarm.revision:
        return Heard(before, news=False)
    if from_edge and before is not None and not before.alarm.retrospective:
        alarm = msgspec.structs.replace(alarm, retrospective=False)  # late, but people were notified of this alarm
    if (
        active_silence is not None
        and alarm.silenced_until_ms == active_silence.until_ms
        and alarm.priority > active_silence.priority
    ):
        # It got worse after the silence was set, so the silence does not cover it.
        alarm = msgspec.structs.replace(alarm, silenced_until_ms=None)
    escalation = follow(None if before is None else before.escalation, alarm, heard_ms=now_ms)
    answer = None if before is None else before.answer
    order = None
    found_now = before is not None and before.from_edge and not from_edge
    if answer is not None and found_now and alarm.acknowledged_by is None and alarm.priority <= answer.priority:
        # The data centre reports the alarm only now; it was answered already and is not worse.
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


def end_with_binding(kept: Kept, record: BindingEndedRecord, *, now_ms: int) -> Kept:
    """An alarm that still stands when its binding has ended, because only an edge has told of it. It ends too."""
    alarm = msgspec.structs.replace(
        kept.alarm,
        state=AlarmState.CLEARED,
        latched=False,
        at_ms=record.at_ms,
        text=f"monitoring ended at {clock_text(record.ended_ms)}; alarm was: {kept.alarm.text}",
        binding_ended=True,
    )
    escalation = msgspec.structs.replace(kept.escalation, alarm=alarm)
    return msgspec.structs.replace(kept, escalation=escalation, heard_ms=now_ms)


def _needs_no_edge(alarm: AlarmChanged, before: Kept | None, rival: Kept | None) -> bool:
    """Whether an edge's record is superseded by the data centre's, or reports only the end of an alarm."""
    if rival is not None and not rival.from_edge:
        return True
    return alarm.state is not AlarmState.ACTIVE if before is None else before.replaced


# Notifying


def calls(kept: Kept, active_silence: ActiveSilence | None, now_ms: int, *, by_outage: bool = False) -> bool:
    """Whether people are to be notified of this alarm now.

    Args:
        by_outage: an open outage notifies instead. Counts only for technical alarms below high.
    """
    if not kept.is_active or kept.is_answered or kept.escalation.begins_ms is None:
        return False
    if by_outage and kept.alarm.kind is AlarmKind.TECHNICAL and kept.alarm.priority < Priority.HIGH:
        return False
    return active_silence is None or active_silence.until_ms <= now_ms or kept.alarm.priority > active_silence.priority


class Plan(NamedTuple):
    """Due notifications of one alarm."""

    due: list[Due]  # to be sent
    passed: list[Due]  # overtaken: a later one goes to the same people
    look_ms: int | None  # when to plan the alarm again


def plan(
    policy: EscalationPolicy, kept: Kept, attempts: Sequence[Attempt], *, now_ms: int, known: frozenset[str]
) -> Plan:
    """Due notifications of an alarm that notifies.

    Args:
        attempts: results of its notifications so far.
        known: keys of notifications that are stored already.
    """
    escalation, known_attempts = kept.escalation, tuple(attempts)
    if escalation.begins_ms is None:
        return Plan([], [], None)
    from_ms = max(escalation.begins_ms, now_ms - LOOK_BACK_MS)
    found = due(policy, escalation, from_ms=from_ms, until_ms=now_ms + 1, attempts=known_attempts)
    new = [one for one in found if one.key not in known]
    passed = {one.key for one in overtaken(new)}
    return Plan(
        [one for one in new if one.key not in passed],
        [one for one in new if one.key in passed],
        next_due_ms(policy, escalation, now_ms + 1, known_attempts),
    )


# Messages


class DeliveryStatus(StrEnum):
    """Status of one notification to one person."""

    WAITING = "waiting"
    SENT = "sent"  # the service has accepted it
    FAILED = "failed"  # not accepted; it will be tried again
    STOPPED = "stopped"  # not needed any more


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One notification to one person by one channel. `key` and `person` identify it."""

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
    leads: bool = True  # a message of its own, or the first of a digest; only these count towards the limit

    @property
    def is_open(self) -> bool:
        return self.fate in (DeliveryStatus.WAITING, DeliveryStatus.FAILED)


class OutgoingMessage(NamedTuple):
    """One message to one person by one channel."""

    person: str
    channel: str
    priority: Priority
    deliveries: tuple[Delivery, ...]  # more than one: a digest


class Limit(NamedTuple):
    """Limit of single messages below high priority to one person."""

    messages: int = 10
    within_ms: int = 600_000


def outgoing_messages(
    waiting: Iterable[Delivery], sent: Mapping[str, Sequence[int]], *, now_ms: int, limit: Limit
) -> list[OutgoingMessage]:
    """Messages to send now, high priority first.

    A high alarm is sent at once, alone, and does not count towards the limit. Of the others each person gets `limit`
    messages in its period; further ones wait until the oldest message leaves the period, and are then sent as a digest.

    Args:
        sent: by person, the start times of messages below high.
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
    """Result of one notification to all people of its role together; None while it is unknown.

    A service that accepts a message may not have shown it, so acceptance is no receipt unless the site configures it.
    """
    fates = [one.fate for one in deliveries]
    if DeliveryStatus.SENT in fates:
        return Outcome.DELIVERED if accepted_is_delivered else Outcome.SENT
    return Outcome.FAILED if all(fate is DeliveryStatus.FAILED for fate in fates) else None


# Answers


def acknowledge(kept: Kept | None, *, by: str, revision: int, now_ms: int) -> Kept:
    """Record that a person has seen an alarm at `revision`.

    An alarm that is answered already stays as it is.

    Raises:
        NoSuchAlarm: there is no such alarm on the list.
        AlarmChangedMeanwhile: the alarm has another revision now.
    """
    if kept is None or not (kept.is_listed or kept.is_answered):
        raise NoSuchAlarm
    if kept.is_answered:
        return kept
    if revision != kept.alarm.revision:
        raise AlarmChangedMeanwhile(revision=kept.alarm.revision)
    return msgspec.structs.replace(kept, answer=DeskAnswer(by, now_ms, revision, kept.alarm.priority))


def silence(kept: Kept | None, *, by: str, until_ms: int, revision: int, now_ms: int) -> ActiveSilence:
    """Silence the condition of an alarm until `until_ms`.

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
    """Whether the patient's record shows the order, or the order has become pointless."""
    alarm = kept.alarm
    if kept.replaced or kept.from_edge or (alarm.state is AlarmState.CLEARED and not alarm.latched):
        return True
    if isinstance(order, Silence):
        # The monitor refuses a silence of a lower priority, so repeating the order is useless.
        worse = order.priority is not None and alarm.priority > order.priority
        return worse or now_ms >= order.until_ms or alarm.silenced_until_ms == order.until_ms
    # The monitor refuses an answer to an older revision, so repeating the order is useless.
    return kept.is_confirmed or order.revision is None or order.revision < alarm.revision


def is_over(kept: Kept, now_ms: int) -> bool:
    """Whether an alarm that only an edge has reported may leave the list: answered `EDGE_ALONE_MS` ago."""
    return kept.from_edge and kept.is_active and kept.answer is not None and now_ms - kept.answer.at_ms > EDGE_ALONE_MS
