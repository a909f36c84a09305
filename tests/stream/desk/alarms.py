"""Alarms for the desk's tests: as the data centre and as an edge tell of them."""

from typing import Any

import msgspec

from stream.desk.decisions import Kept, hear
from stream.records import AlarmRecord, EdgeAlarmRecord, FrameRef
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from wire.codec import EdgeAlarmV1

NOW = 1_700_000_000_000
SECOND, MINUTE = 1_000, 60_000
BINDING = "ab" * 16
RED, AMBER, CYAN = Priority.HIGH, Priority.MEDIUM, Priority.LOW


def an_id(number: int = 1) -> bytes:
    return number.to_bytes(4, "big") + bytes(12)


def an_alarm(number: int = 1, **changes: Any) -> AlarmChanged:
    return msgspec.structs.replace(
        AlarmChanged(
            stay_id=BINDING,
            alarm_id=an_id(number),
            rule_id="news2",
            kind=AlarmKind.PHYSIOLOGICAL,
            priority=RED,
            state=AlarmState.ACTIVE,
            at_ms=NOW,
            onset_ms=NOW,
            revision=0,
            text="NEWS2 7: RR 26 (+3)",
            basis="NEWS2",
        ),
        **changes,
    )


def told(number: int = 1, **changes: Any) -> AlarmRecord:
    return AlarmRecord(alarm=an_alarm(number, **changes))


def told_by_edge(number: int = 1, *, arrived_ms: int = NOW, edge: int = 0, **changes: Any) -> EdgeAlarmRecord:
    alarm = msgspec.structs.replace(
        EdgeAlarmV1(
            alarm_id=an_id(number),
            rule_id="news2",
            key="",
            kind="physiological",
            priority=3,
            state="active",
            at_ms=NOW,
            onset_ms=NOW,
            revision=0,
            text="NEWS2 7: RR 26 (+3)",
        ),
        **changes,
    )
    frame = FrameRef(edge_id=bytes([edge]) * 16, session_id=bytes(16), frame_class=2, counter=1)
    return EdgeAlarmRecord(stay_id=BINDING, alarm=alarm, arrived_ms=arrived_ms, frame=frame)


def kept(*records: AlarmRecord | EdgeAlarmRecord, now_ms: int = NOW) -> Kept:
    """What is kept after these, all heard at one moment."""
    before: Kept | None = None
    for record in records:
        found = hear(record, now_ms=now_ms, before=before)
        assert found is not None
        before = found.kept
    assert before is not None
    return before
