"""Outages at the desk: if the data of several patients stop together, people are notified once, with the list of beds.

Pure. `vitals.outages` finds the outages; here each becomes one further alarm of the desk, with a ladder and an answer
of its own. The alarms of the patients stay on the list and in the record. Only the calls for technical alarms below
high are replaced, and only while the outage is open.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stream.desk.decisions import OUTAGE_BASIS, OUTAGE_RULE, Delivery, Kept
from vitals.escalation import follow
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from vitals.outages import Outage

MOST_PLACES: Final = 30
"""Maximum number of beds named in the text of an outage; the others are counted."""
OVER_WITHIN_MS: Final = 3_600_000
"""Period in which the desk tries to notify people that an outage is over."""

_OVER: Final = "over"


def alarm_of(outage: Outage, places: Sequence[str]) -> AlarmChanged:
    """An outage as an alarm. Its binding is its own id, so that a silence is of this outage alone.

    Args:
        places: beds of patients without data that are to be named.
    """
    left_out = len(outage.without_data) - len(places)
    more = f" and {left_out} more" if left_out > 0 else ""
    return AlarmChanged(
        stay_id=outage.outage_id.hex(),
        alarm_id=outage.outage_id,
        rule_id=OUTAGE_RULE,
        kind=AlarmKind.TECHNICAL,
        priority=Priority.MEDIUM,
        state=AlarmState.ACTIVE if outage.ended_ms is None else AlarmState.CLEARED,
        at_ms=outage.at_ms,
        onset_ms=outage.began_ms,
        revision=outage.revision,
        text=f"{outage.text}: {', '.join(places)}{more}" if places else outage.text,
        basis=OUTAGE_BASIS,
    )


def follow_outage(
    outage: Outage, places: Sequence[str], *, now_ms: int, before: Kept | None, members: Iterable[Kept]
) -> Kept:
    """The stored state of an outage that began, grew, shrank or ended.

    Its ladder begins when the earliest ladder of its alarms began, so that no call is later than without it. An answer
    covers the patients that were listed: a further patient removes the answer and restarts the ladder.

    Args:
        before: its stored state; None if it is new.
        members: stored states of the alarms whose calls it replaces.
    """
    alarm = alarm_of(outage, places)
    escalation = follow(None if before is None else before.escalation, alarm, heard_ms=now_ms)
    answer = None if before is None else before.answer
    grew = before is not None and not set(outage.without_data) <= set(before.without_data)
    if before is None and escalation.begins_ms is not None:
        began = [one.escalation.begins_ms for one in members if not one.is_answered]
        earliest_ms = min((at_ms for at_ms in began if at_ms is not None), default=now_ms)
        escalation = msgspec.structs.replace(escalation, begins_ms=min(escalation.begins_ms, earliest_ms))
    elif answer is not None and grew:
        answer = None
        if escalation.begins_ms is not None:
            escalation = msgspec.structs.replace(escalation, begins_ms=now_ms, ladder=alarm.revision)
    elif answer is not None:
        answer = msgspec.structs.replace(answer, revision=alarm.revision)
    return Kept(
        escalation=escalation,
        opened_ms=now_ms if before is None else before.opened_ms,
        heard_ms=now_ms,
        answer=answer,
        without_data=outage.without_data,
        log=0 if before is None else before.log,
    )


def end_notifications(kept: Kept, deliveries: Iterable[Delivery], *, now_ms: int) -> list[Delivery]:
    """The notifications that an outage is over: one to each person who was called, by the channel of the last call."""
    last: dict[tuple[str, str], Delivery] = {}  # several recipients of one address are each told
    newest: dict[str, Delivery] = {}
    for one in deliveries:
        if one.begun_ms is None:
            continue
        last[one.person, f"{one.channel} {one.recipient}"] = one
        if one.person not in newest or one.begun_ms >= (newest[one.person].begun_ms or 0):
            newest[one.person] = one
    last = {place: one for place, one in last.items() if one.channel == newest[one.person].channel}
    return [
        Delivery(
            key=f"{kept.alarm.alarm_id.hex()}.{kept.alarm.revision}.{_OVER}",
            person=one.person,
            recipient=one.recipient,
            channel=one.channel,
            who=one.who,
            alarm_id=kept.alarm.alarm_id,
            priority=kept.alarm.priority,
            due_ms=now_ms,
        )
        for one in last.values()
    ]


def is_end(one: Delivery) -> bool:
    """Whether it says that an outage is over. It goes to those who were called, whatever roles they have now."""
    return one.key.endswith(f".{_OVER}")


def is_too_late(one: Delivery, now_ms: int) -> bool:
    """Whether a notification of the end of an outage could not be delivered within `OVER_WITHIN_MS`."""
    return is_end(one) and one.is_open and now_ms - one.due_ms > OVER_WITHIN_MS
