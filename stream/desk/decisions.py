"""The alarm desk's decisions: open alarms, due notifications, combined messages, what an answer covers.

Pure: time and stored state are arguments, the state to be stored is the result. `vitals.escalation` says which role is
due by which channel and when; this module applies it to records, deliveries and answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from stream.errors import AlarmChangedMeanwhile, NoSuchAlarm
from stream.records import AlarmRecord, EdgeAlarmRecord, StayEndedRecord
from vitals.alarms import WORSE_BY, ClockText
from vitals.escalation import Attempt, Due, Escalation, EscalationPolicy, Outcome, due, follow, next_due_ms, overtaken
from vitals.messages import Acknowledge, AlarmChanged, AlarmKind, AlarmState, Priority, Silence

EDGE_FRESH_MS: Final = 300_000
"""An edge's alarm that took longer to arrive is only recorded: a backlog must not notify people."""
EDGE_ALONE_MS: Final = 12 * 3_600_000
"""An answered alarm that only an edge has reported leaves the list after this time: the edge may never clear it."""
LOOK_BACK_MS: Final = 86_400_000
"""Notifications that were due longer ago are not planned: an alarm unanswered for weeks must stay cheap."""

OUTAGE_RULE: Final = "outage"
"""The rule of the alarms that the desk raises for outages; see `stream.desk.outages`."""
OUTAGE_BASIS: Final = "outage"
"""The basis of these; `stream.store.alarms` has the same rule and another basis."""
CLOCK_RULE: Final = "desk_clock"
"""The rule of the alarms that the desk raises for its own clock; see `stream.desk.clock_alarm`."""
END_DATE_RULE: Final = "end_date"
"""The rule of the alarms that the desk raises for what expires; see `stream.desk.end_dates`."""
_OWN_RULES: Final = frozenset({OUTAGE_RULE, CLOCK_RULE, END_DATE_RULE})

_SOME_EDGE: Final = "?"  # of a record of an earlier version, which did not say which
_BELOW_EVERY_REVISION: Final = -1_000_000
_FIRST_PAUSE_MS: Final = 2_000
_LONGEST_PAUSE_MS: Final = 60_000


class DeskAnswer(msgspec.Struct, frozen=True, array_like=True):
    """A person's acknowledgement, kept until the patient's record confirms it."""

    by: str
    at_ms: int
    revision: int  # of the alarm as it was seen
    priority: Priority
    grade: float = 0.0
    from_other_log: bool = False  # given in an earlier log: it holds in this one until the alarm is worse


class ActiveSilence(msgspec.Struct, frozen=True, array_like=True):
    """A silence of one condition of one patient; alarms above `priority` are not silenced."""

    stay_id: str
    rule_id: str
    by: str
    at_ms: int
    until_ms: int  # by the desk's time
    priority: Priority
    key: str = ""  # the sign, of a rule that is judged sign by sign
    told_until_ms: int | None = None  # its end as the patient's monitor was told; None: `until_ms`


class Finding(msgspec.Struct, frozen=True, array_like=True):
    """An alarm of a condition, as the one who found it told of it last, with the id and revisions that are known there.

    Several edges and the data centre may find the same condition, with different onsets and so with different ids.
    """

    alarm: AlarmChanged
    edge: str = ""  # id of the edge; empty: the data centre


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """One alarm as the desk stores it, with its escalation and answer.

    It is the only open alarm of its condition. Whoever finds the same condition later joins it.
    """

    escalation: Escalation
    opened_ms: int  # when the desk first read it
    heard_ms: int  # when it last changed
    from_edge: bool = False  # reported by an edge and not by the data centre
    answer: DeskAnswer | None = None
    replaced: bool = False  # superseded by another alarm of the same condition
    without_data: tuple[str, ...] = ()  # of an outage: the bindings that send no data
    log: int = 0  # number of the log of its last record: revisions count within one log
    edge: str = ""  # id of the edge that reported it, if one did; empty in records of earlier versions
    joined: tuple[Finding, ...] = ()  # if several have found it: what each told of, the first one first; else empty

    @property
    def alarm(self) -> AlarmChanged:
        return self.escalation.alarm

    @property
    def condition(self) -> tuple[str, str, str]:
        """Stay, rule and key."""
        return self.alarm.stay_id, self.alarm.rule_id, self.alarm.key

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What each of those who have found it told of."""
        return self.joined or (Finding(self.alarm, (self.edge or _SOME_EDGE) if self.from_edge else ""),)

    @property
    def is_own(self) -> bool:
        """Whether it is an alarm that the desk has raised itself; no patient's monitor has it."""
        alarm = self.alarm
        is_of_desk = alarm.rule_id in _OWN_RULES and alarm.stay_id == alarm.alarm_id.hex()
        return is_of_desk and not self.from_edge

    @property
    def is_outage(self) -> bool:
        """Whether it is an alarm of the desk for patients without data; the one of the store has the same rule."""
        return self.is_own and self.alarm.rule_id == OUTAGE_RULE and self.alarm.basis == OUTAGE_BASIS

    @property
    def is_own_clock(self) -> bool:
        """Whether it is the alarm of the desk about the clock of its machine."""
        return self.is_own and self.alarm.rule_id == CLOCK_RULE

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
        """Whether the patient's record shows the answer. An alarm of the desk itself needs no confirmation."""
        return _is_confirmed(self, self.alarm)


def covers(answer: DeskAnswer, alarm: AlarmChanged) -> bool:
    """Whether an alarm is no worse than what a person answered. Grades are compared where both are known."""
    if alarm.priority > answer.priority:
        return False
    return not answer.grade or alarm.grade < answer.grade + WORSE_BY


class Heard(NamedTuple):
    """Result of one record of the alarm log."""

    kept: Kept
    news: bool  # False: already known, nothing to write
    displaced: Kept | None = None  # the alarm of the same condition that it supersedes
    order: DeskAnswer | None = None  # an earlier answer, to be sent to whoever has found the alarm only now
    told: Finding | None = None  # what that one told of


def of_edge(record: EdgeAlarmRecord) -> AlarmChanged | None:
    """An edge's alarm record as an alarm; None if its kind, state or priority is unknown.

    Edge and data centre run the same kernel. On the same readings their alarms have the same id but revisions of their
    own. All revisions of an edge are below the first of the data centre, whose record replaces the edge's.
    """
    found = record.alarm
    try:
        kind, state, priority = AlarmKind(found.kind), AlarmState(found.state), Priority(found.priority)
    except ValueError:
        return None
    return AlarmChanged(
        stay_id=record.stay_id,
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
        # As in the data centre: an alarm that arrives so late is recorded and does not notify. Times of a clock that is
        # not known yet do not tell that it is late.
        retrospective=record.is_clock_known and record.arrived_ms - found.at_ms > EDGE_FRESH_MS,
        grade=found.grade,
    )


def hear(
    record: AlarmRecord | EdgeAlarmRecord,
    *,
    now_ms: int,
    before: Kept | None,
    rival: Kept | None = None,
    silence: ActiveSilence | None = None,
    log: int = 0,
    silenced_until_ms: int | None = None,
) -> Heard | None:
    """Apply a record of a new or changed alarm. None: the record is of no use to the desk.

    Args:
        before: the stored state of this alarm, or of the one that it has joined.
        rival: the stored state of another open alarm of the same condition. One that somebody else has found is joined,
            so that nobody is called twice; one of the same origin is superseded.
        silence: the newest silence of this condition that was set at this desk, in force or over.
        log: number of the log that the record was read from. In another log than before revisions count anew: its
            record is believed, and an answer holds unless the alarm is worse.
        silenced_until_ms: the end of a silence that was set elsewhere, by the desk's time; None: as the record says.
    """
    from_edge = isinstance(record, EdgeAlarmRecord)
    alarm = of_edge(record) if isinstance(record, EdgeAlarmRecord) else record.alarm
    if alarm is None:
        return None
    edge = record.frame.edge_id.hex() if isinstance(record, EdgeAlarmRecord) else ""
    told = Finding(alarm, edge)
    open_one = _to_join(told, before, rival, log)
    if open_one is not None:
        return _join(told, open_one, now_ms=now_ms, silence=silence, log=log, silenced_until_ms=silenced_until_ms)
    if from_edge and _needs_no_edge(alarm, before):
        return None
    in_other_log = before is not None and before.log != log
    if before is not None and not in_other_log and alarm.revision <= before.alarm.revision:
        return Heard(before, news=False)
    if from_edge and before is not None and not before.alarm.retrospective:
        alarm = msgspec.structs.replace(alarm, retrospective=False)  # late, but people were notified of this alarm
    ours = silence is not None and alarm.silenced_until_ms == told_until_ms(silence)
    if silence is not None and ours and alarm.priority > silence.priority:
        # It got worse after the silence was set, so the silence does not cover it.
        alarm = msgspec.structs.replace(alarm, silenced_until_ms=None)
    escalation = follow(
        _as_of_this_log(before.escalation, alarm) if before is not None and in_other_log else _escalation(before),
        alarm,
        heard_ms=now_ms,
        silenced_until_ms=silence.until_ms if silence is not None and ours else silenced_until_ms,
        log=log,
    )
    answer, order = _answer(before, alarm, from_edge=from_edge, in_other_log=in_other_log)
    kept = Kept(
        escalation=escalation,
        opened_ms=now_ms if before is None else before.opened_ms,
        heard_ms=now_ms,
        from_edge=from_edge,
        answer=answer,
        log=log,
        edge=edge,
    )
    displaced = None
    if rival is not None and kept.is_active and rival.alarm.alarm_id != alarm.alarm_id:
        displaced = msgspec.structs.replace(rival, replaced=True, heard_ms=now_ms)
    return Heard(kept, news=True, displaced=displaced, order=order, told=told)


def is_of(kept: Kept, silence: ActiveSilence) -> bool:
    """Whether an alarm is of the condition that was silenced."""
    return kept.condition == (silence.stay_id, silence.rule_id, silence.key)


def told_until_ms(silence: ActiveSilence) -> int:
    """The end of a silence as the patient's record has it."""
    return silence.until_ms if silence.told_until_ms is None else silence.told_until_ms


def end_with_stay(kept: Kept, record: StayEndedRecord, clock: ClockText, *, now_ms: int) -> Kept:
    """An alarm that still stands when its stay has ended, because only an edge has told of it. It ends too.

    Args:
        clock: writes the times in texts.
    """
    alarm = msgspec.structs.replace(
        kept.alarm,
        state=AlarmState.CLEARED,
        latched=False,
        at_ms=record.at_ms,
        text=f"monitoring ended at {clock(record.ended_ms)}; alarm was: {kept.alarm.text}",
        stay_ended=True,
    )
    escalation = msgspec.structs.replace(kept.escalation, alarm=alarm)
    return msgspec.structs.replace(kept, escalation=escalation, heard_ms=now_ms, joined=())


# Several who have found the same


def _to_join(told: Finding, before: Kept | None, rival: Kept | None, log: int) -> Kept | None:
    """The alarm that others have found as well, and that a record is about; None if it stands alone."""
    alarm = told.alarm
    is_open = alarm.state is AlarmState.ACTIVE and not alarm.retrospective
    if before is not None and before.log == log and not (rival is not None and is_open and not before.is_active):
        others = before.from_edge and before.edge and told.edge and before.edge != told.edge
        return before if before.joined or others else None
    if rival is None or rival.log != log or rival.is_own or not is_open:
        return None
    found_by = {one.edge for one in rival.findings}
    return None if found_by == {told.edge} else rival


def _join(
    told: Finding,
    before: Kept,
    *,
    now_ms: int,
    silence: ActiveSilence | None,
    log: int,
    silenced_until_ms: int | None,
) -> Heard | None:
    """Apply what one of several told of a condition. The alarm keeps its id, its calls and its answer.

    The data centre has the readings of all, so that what it says counts unless an edge holds a higher priority. Its end
    is the end, until an edge says that it got worse; the end of an edge's alarm ends what that edge has found.
    """
    known = {one.edge: one for one in before.findings}
    earlier = known.get(told.edge)
    if earlier is not None and earlier.alarm.alarm_id == told.alarm.alarm_id:
        if told.alarm.revision <= earlier.alarm.revision:
            return Heard(before, news=False)
        if told.edge and not earlier.alarm.retrospective:
            told = Finding(msgspec.structs.replace(told.alarm, retrospective=False), told.edge)
    elif told.alarm.state is not AlarmState.ACTIVE or told.alarm.retrospective:
        return None  # the end of something that nobody was called for
    centre = known.get("")
    if told.edge and centre is not None and centre.alarm.state is AlarmState.CLEARED:
        if earlier is None or not _is_worse(told.alarm, earlier.alarm):
            return None
        known = {}
    joined = tuple((known | {told.edge: told}).values())
    alarm = _shown(joined, before.alarm)
    ours = silence is not None and alarm.silenced_until_ms == told_until_ms(silence)
    if silence is not None and ours and alarm.priority > silence.priority:
        alarm = msgspec.structs.replace(alarm, silenced_until_ms=None)
    escalation = follow(
        before.escalation,
        alarm,
        heard_ms=now_ms,
        silenced_until_ms=silence.until_ms if silence is not None and ours else silenced_until_ms,
        log=log,
    )
    answer, order = before.answer, None
    is_new = earlier is None or earlier.alarm.alarm_id != told.alarm.alarm_id
    if before.from_edge and not told.edge:
        answer, order = _answer(before, alarm, from_edge=False, in_other_log=False)
    elif is_new and before.answered_by is not None and not told.alarm.acknowledged_by:
        given = before.answer or DeskAnswer(before.answered_by, now_ms, alarm.revision, before.alarm.priority)
        if told.alarm.priority <= before.alarm.priority:
            # It is given now: what an edge told later than an answer was given is not answered by it.
            order = msgspec.structs.replace(given, at_ms=now_ms) if told.edge else given
    kept = Kept(
        escalation=escalation,
        opened_ms=before.opened_ms,
        heard_ms=now_ms,
        from_edge=all(one.edge for one in joined),
        answer=answer,
        log=log,
        edge=joined[0].edge,
        joined=joined,
    )
    return Heard(kept, news=True, order=order, told=told)


def _shown(joined: Sequence[Finding], before: AlarmChanged) -> AlarmChanged:
    """What several told of as one alarm, with the id of the first and with a revision that rises when it changes."""
    centre = next((one.alarm for one in joined if not one.edge), None)
    active = [one.alarm for one in joined if one.alarm.state is AlarmState.ACTIVE and not one.alarm.retrospective]
    if centre is not None and (centre.state is AlarmState.CLEARED or not active):
        shown, onset_ms = centre, centre.onset_ms
    elif active:
        shown = max(active, key=lambda one: (one.priority, one is centre))  # of equal ones the first
        onset_ms = min(one.onset_ms for one in active)
    else:
        shown = max((one.alarm for one in joined), key=lambda one: one.at_ms)
        onset_ms = before.onset_ms
    found = msgspec.structs.replace(
        shown, alarm_id=before.alarm_id, onset_ms=onset_ms, revision=before.revision, at_ms=before.at_ms
    )
    if found == msgspec.structs.replace(before, onset_ms=onset_ms):
        return before
    return msgspec.structs.replace(found, at_ms=shown.at_ms, revision=max(before.revision + 1, shown.revision))


def _is_worse(alarm: AlarmChanged, before: AlarmChanged) -> bool:
    is_open = alarm.state is AlarmState.ACTIVE and not alarm.retrospective
    return is_open and (alarm.priority > before.priority or alarm.grade >= before.grade + WORSE_BY)


def _escalation(kept: Kept | None) -> Escalation | None:
    return None if kept is None else kept.escalation


def _as_of_this_log(escalation: Escalation, alarm: AlarmChanged) -> Escalation:
    """A ladder that began in another log, with a revision that the first record of this one continues."""
    earlier = msgspec.structs.replace(escalation.alarm, revision=alarm.revision - 1)
    return msgspec.structs.replace(escalation, alarm=earlier)


def _answer(
    before: Kept | None, alarm: AlarmChanged, *, from_edge: bool, in_other_log: bool
) -> tuple[DeskAnswer | None, DeskAnswer | None]:
    """The answer that holds from now on, and the one to be sent to the patient's monitor."""
    answer = None if before is None else before.answer
    if before is None or answer is None:
        return None, None
    carried = in_other_log or answer.from_other_log
    found_now = before.from_edge and not from_edge
    if not carried and not found_now:
        return answer, None
    if not covers(answer, alarm):
        # Its revision says nothing in this log, so it must not count by that.
        return (None, None) if carried else (answer, None)
    # The data centre, or this log, reports the alarm only now; it was answered already and is not worse.
    answer = DeskAnswer(
        answer.by, answer.at_ms, alarm.revision, answer.priority if carried else alarm.priority, answer.grade, carried
    )
    return answer, answer if alarm.acknowledged_by is None and not from_edge else None


def _needs_no_edge(alarm: AlarmChanged, before: Kept | None) -> bool:
    """Whether an edge's record is superseded, or reports only the end of an alarm."""
    return alarm.state is not AlarmState.ACTIVE if before is None else before.replaced


# Notifying


def calls(
    kept: Kept, active_silence: ActiveSilence | None, now_ms: int, *, by_outage: bool = False, is_held: bool = False
) -> bool:
    """Whether people are to be notified of this alarm now.

    Args:
        by_outage: an open outage notifies instead. Counts only for technical alarms below high.
        is_held: by the orders of the patient nobody is called now. Does not count for alarms of the desk itself.
    """
    if is_held and not kept.is_own:
        return False
    if not kept.is_active or kept.is_answered or kept.escalation.begins_ms is None:
        return False
    if by_outage and kept.alarm.kind is AlarmKind.TECHNICAL and kept.alarm.priority < Priority.HIGH:
        return False
    return active_silence is None or active_silence.until_ms <= now_ms or kept.alarm.priority > active_silence.priority


def release(kept: Kept, now_ms: int) -> Kept:
    """An alarm that orders have kept from calling, and that calls from now on: its ladder begins now."""
    if kept.escalation.begins_ms is None:
        return kept
    escalation = msgspec.structs.replace(kept.escalation, begins_ms=max(now_ms, kept.escalation.begins_ms))
    return msgspec.structs.replace(kept, escalation=escalation, heard_ms=now_ms)


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
    """One notification to one recipient of one person's address. `name` identifies it."""

    key: str
    person: str
    channel: str
    who: str  # the role
    alarm_id: bytes
    priority: Priority
    due_ms: int
    recipient: str = ""  # of an address that may name several: `Address.recipient`; empty: of an earlier version
    fate: DeliveryStatus = DeliveryStatus.WAITING
    tries: int = 0
    begun_ms: int | None = None  # of the last try
    again_ms: int = 0  # not before
    done_ms: int | None = None
    leads: bool = True  # a message of its own, or the first of a digest; only these count towards the limit

    @property
    def name(self) -> tuple[str, str, str]:
        return self.key, self.person, self.recipient

    @property
    def is_open(self) -> bool:
        return self.fate in (DeliveryStatus.WAITING, DeliveryStatus.FAILED)


class OutgoingMessage(NamedTuple):
    """One message to one recipient of one person's address."""

    person: str
    channel: str
    recipient: str
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
    found = [_message(one) for one in ready if one.priority is Priority.HIGH]
    rest: dict[str, list[Delivery]] = {}
    for one in ready:
        if one.priority is not Priority.HIGH:
            rest.setdefault(one.person, []).append(one)
    for person, these in rest.items():
        recent = sum(now_ms - limit.within_ms < at_ms <= now_ms for at_ms in sent.get(person, ()))
        left = limit.messages - recent
        if left <= 0:
            continue
        if len({one.key for one in these}) <= left:  # several recipients of one notification count once
            found += [_message(one) for one in these]
            continue
        channels = list(dict.fromkeys(one.channel for one in these))[:left]
        digests: dict[tuple[str, str], list[Delivery]] = {}
        for one in these:
            if one.channel in channels:
                digests.setdefault((one.channel, one.recipient), []).append(one)
        found += [_message(*ones) for ones in digests.values()]
    return found


def _message(*deliveries: Delivery) -> OutgoingMessage:
    first = deliveries[0]
    highest = max(one.priority for one in deliveries)
    return OutgoingMessage(first.person, first.channel, first.recipient, highest, deliveries)


def again_ms(tries: int, now_ms: int) -> int:
    """When a notification that was not accepted is tried again: 2, 4, 8 ... seconds later, a minute at most."""
    return now_ms + min(_FIRST_PAUSE_MS << min(max(tries, 1) - 1, 16), _LONGEST_PAUSE_MS)


def outcome(deliveries: Sequence[Delivery], *, accepted_is_delivered: bool) -> Outcome | None:
    """Result of one notification to all people of its role together; None while it is unknown.

    A service that accepts a message may not have shown it, so acceptance is no receipt unless the site configures it.
    A person is reached if one of the recipients of the person's address accepted; the others are tried again for
    themselves. The notification is delivered if every person was reached.
    """
    counted = [one for one in deliveries if one.fate is not DeliveryStatus.STOPPED]
    sent = {one.person for one in counted if one.fate is DeliveryStatus.SENT}
    if sent:
        all_reached = sent == {one.person for one in counted}
        return Outcome.DELIVERED if accepted_is_delivered and all_reached else Outcome.SENT
    return Outcome.FAILED if counted and all(one.fate is DeliveryStatus.FAILED for one in counted) else None


def uncalled(standing: Iterable[Delivery], before: Iterable[Delivery]) -> list[Delivery]:
    """Of the calls that are due to people who have their roles now, those that nobody has made or is making.

    Args:
        standing: what would be sent now to everybody who has a role that is due.
        before: the notifications of the same ladder so far. One that was stopped has called nobody, and is opened
            again if its recipient is due.
    """
    stopped = {one.name: one for one in before if one.fate is DeliveryStatus.STOPPED and one.done_ms is None}
    called = {
        (one.person, one.channel, one.recipient)
        for one in before
        if one.fate is not DeliveryStatus.STOPPED or one.done_ms is not None
    }
    found = []
    for one in standing:
        line = one.person, one.channel, one.recipient
        if line in called or (one.person, one.channel, "") in called:
            continue
        called.add(line)
        again = stopped.get(one.name)
        found.append(one if again is None else msgspec.structs.replace(again, fate=DeliveryStatus.WAITING, again_ms=0))
    return found


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
    return msgspec.structs.replace(kept, answer=DeskAnswer(by, now_ms, revision, kept.alarm.priority, kept.alarm.grade))


def silence(
    kept: Kept | None, *, by: str, until_ms: int, revision: int, now_ms: int, told_until_ms: int | None = None
) -> ActiveSilence:
    """Silence the condition of an alarm until `until_ms`.

    Args:
        told_until_ms: the same moment by the wall clock; None: the same number.

    Raises:
        NoSuchAlarm, AlarmChangedMeanwhile: as `acknowledge`.
    """
    if kept is None or not kept.is_active:
        raise NoSuchAlarm
    if revision != kept.alarm.revision:
        raise AlarmChangedMeanwhile(revision=kept.alarm.revision)
    alarm = kept.alarm
    return ActiveSilence(alarm.stay_id, alarm.rule_id, by, now_ms, until_ms, alarm.priority, alarm.key, told_until_ms)


def is_fulfilled(order: Acknowledge | Silence, kept: Kept, wall_ms: int) -> bool:
    """Whether the patient's record shows the order, or the order has become pointless."""
    told = _told_of(order, kept)
    if told is None or kept.replaced or told.edge or kept.from_edge:
        return True
    alarm = told.alarm
    if alarm.state is AlarmState.CLEARED and not alarm.latched:
        return True
    if isinstance(order, Silence):
        # The monitor refuses a silence of a lower priority, so repeating the order is useless.
        worse = order.priority is not None and alarm.priority > order.priority
        return worse or wall_ms >= order.until_ms or alarm.silenced_until_ms == order.until_ms
    # The monitor refuses an answer to an older revision, so repeating the order is useless.
    return _is_confirmed(kept, alarm) or order.revision is None or order.revision < alarm.revision


def _told_of(order: Acknowledge | Silence, kept: Kept) -> Finding | None:
    """What an order is about: an acknowledgement names an alarm as one knows it; None if nobody has it any more."""
    if not kept.joined:
        return kept.findings[0]
    if isinstance(order, Silence):
        return next((one for one in kept.joined if not one.edge), None)
    return next((one for one in kept.joined if one.alarm.alarm_id == order.alarm_id), None)


def _is_confirmed(kept: Kept, alarm: AlarmChanged) -> bool:
    return alarm.acknowledged_by is not None or (kept.is_own and kept.answer is not None)


def is_over(kept: Kept, now_ms: int, *, log: int = 0) -> bool:
    """Whether an alarm may leave the list that only an edge has reported, or an earlier log: long since answered."""
    alone = kept.from_edge or (kept.log != log and not kept.is_own)
    answered_ms = kept.answer.at_ms if kept.answer is not None else kept.heard_ms if kept.is_answered else None
    return alone and kept.is_active and answered_ms is not None and now_ms - answered_ms > EDGE_ALONE_MS
