"""A wrong wall clock as an alarm of the desk itself, with a ladder and an answer of its own. Pure."""

import hashlib

import msgspec

from stream.desk.decisions import CLOCK_RULE, Kept
from vitals.escalation import follow
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority


def follow_clock(problem: str, before: Kept | None, *, now_ms: int, wall_ms: int) -> Kept | None:
    """The alarm to be stored; None if nothing has changed.

    Args:
        problem: what is wrong with the wall clock; empty if nothing is.
        before: the active alarm about it; None if there is none.
        now_ms: by the desk's time.
        wall_ms: by the wall clock, for people.
    """
    if bool(problem) is (before is not None):
        return None
    if before is not None:
        over = msgspec.structs.replace(
            before.alarm, state=AlarmState.CLEARED, at_ms=wall_ms, revision=before.alarm.revision + 1
        )
        escalation = follow(before.escalation, over, heard_ms=now_ms, log=before.log)
        return msgspec.structs.replace(before, escalation=escalation, heard_ms=now_ms)
    alarm_id = hashlib.sha256(b"desk clock" + now_ms.to_bytes(8, "big", signed=True)).digest()[:16]
    alarm = AlarmChanged(
        stay_id=alarm_id.hex(),
        alarm_id=alarm_id,
        rule_id=CLOCK_RULE,
        kind=AlarmKind.TECHNICAL,
        priority=Priority.MEDIUM,
        state=AlarmState.ACTIVE,
        at_ms=wall_ms,
        onset_ms=wall_ms,
        revision=0,
        text=problem,
        basis="alarm desk",
    )
    return Kept(escalation=follow(None, alarm, heard_ms=now_ms), opened_ms=now_ms, heard_ms=now_ms)
