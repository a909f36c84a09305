"""Builders for tests of one patient: readings, plans, time lines, and a monitor that they are fed to.

Times are milliseconds after `START`, 08:00 UTC, so that 120_000 is 08:02 on the alarm's text.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    AlarmState,
    Consciousness,
    Event,
    Message,
    ModelScore,
    Reading,
    Silence,
    Tick,
)
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.rules import AlarmLimit, Rule
from vitals.signs import SPEC, VitalSign

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
START: Final = 1_767_600_000_000
BINDING: Final = "b1" * 16

WELL: Final[dict[str, Any]] = {
    "heart_rate": 70,
    "respiratory_rate": 14,
    "spo2": 98,
    "systolic_bp": 120,
    "temperature": 37.0,
    "supplemental_oxygen": 0,
    "consciousness": Consciousness.ALERT,
}
"""NEWS2 of 0, nothing missing."""

TimeLine: TypeAlias = Iterable[tuple[int, Any]]
"""(ms after the start, value) of one sign."""


def a_reading(
    after_ms: int,
    *,
    held_up_ms: int = 0,
    says_age: bool = False,
    counter: int | None = None,
    flags: int = 0,
    **signs: Any,
) -> Reading:
    """What the wearable measured then. Two readings of one moment need counters of their own.

    Args:
        says_age: whether its senders tell by elapsed time how long it was held up.
    """
    number = after_ms // SECOND if counter is None else counter
    return Reading(
        stay_id=BINDING,
        reading_id=b"r" + number.to_bytes(15, "big", signed=True),
        session_id=b"s" * 16,
        counter=number,
        at_ms=START + after_ms,
        received_ms=START + after_ms + held_up_ms,
        sensor_flags=flags,
        age_ms=held_up_ms if says_age else None,
        **signs,
    )


def steady(from_ms: int, to_ms: int, *, every_ms: int = 30 * SECOND, **signs: Any) -> list[Reading]:
    """The same reading again and again, both ends included: a well patient, except for the given signs."""
    return [a_reading(after_ms, **{**WELL, **signs}) for after_ms in range(from_ms, to_ms + 1, every_ms)]


def time_line(**signs: TimeLine) -> list[Reading]:
    """One reading for every moment at which a sign has a value."""
    moments: dict[int, dict[str, Any]] = defaultdict(dict)
    for sign, values in signs.items():
        for after_ms, value in values:
            moments[after_ms][sign] = value
    return [a_reading(after_ms, **moments[after_ms]) for after_ms in sorted(moments)]


def a_score(
    after_ms: int,
    probability: float | None,
    *,
    model: str = "sepsis",
    reason: str = "respiratory rate rising",
    threshold: float = 0.5,
    held_up_ms: int = 0,
) -> ModelScore:
    return ModelScore(
        stay_id=BINDING,
        reading_id=b"m" + after_ms.to_bytes(15, "big"),
        at_ms=START + after_ms,
        received_ms=START + after_ms + held_up_ms,
        model=model,
        version="1.2",
        score=probability,
        threshold=threshold,
        reason=reason,
    )


def a_tick(after_ms: int) -> Tick:
    return Tick(now_ms=START + after_ms)


def an_answer(alarm: AlarmChanged, after_ms: int, *, by: str = "anna") -> Acknowledge:
    return Acknowledge(stay_id=BINDING, alarm_id=alarm.alarm_id, by=by, at_ms=START + after_ms)


def a_silence(rule_id: str, after_ms: int, *, until_ms: int, by: str = "anna", key: str = "") -> Silence:
    return Silence(stay_id=BINDING, rule_id=rule_id, key=key, by=by, at_ms=START + after_ms, until_ms=START + until_ms)


def a_rule(quantity: str, *limits: AlarmLimit, **changes: Any) -> Rule:
    """A rule named for what it judges, active at once."""
    return Rule(**{"rule_id": quantity, "label": quantity, "quantity": quantity, "limits": limits} | changes)


def below(sign: VitalSign, *limits: AlarmLimit, **changes: Any) -> Rule:
    return a_rule(sign.value, *limits, comparison="<=", label=f"low {SPEC[sign].label}", **changes)


def a_plan(*rules: Rule, **changes: Any) -> MonitoringPlan:
    """The default plan; with rules, these and no others."""
    return MonitoringPlan(**({"rules": rules} if rules else {}) | changes)


def a_monitor(*rules: Rule, **changes: Any) -> PatientMonitor:
    return PatientMonitor(BINDING, a_plan(*rules, **changes))


def restarted(monitor: PatientMonitor, plan: MonitoringPlan | None = None) -> PatientMonitor:
    """The monitor after its process was stopped and another one took over."""
    return PatientMonitor.restore(BINDING, monitor.snapshot(), plan or monitor.plan)


def apply(monitor: PatientMonitor, message: Message) -> list[Event]:
    """One message, whatever it is."""
    if isinstance(message, Reading):
        return monitor.on_reading(message)
    if isinstance(message, ModelScore):
        return monitor.on_score(message)
    if isinstance(message, Acknowledge):
        return monitor.on_acknowledge(message)
    if isinstance(message, Silence):
        return monitor.on_silence(message)
    return monitor.on_timer(message.now_ms)


def feed(monitor: PatientMonitor, *messages: Message, **signs: TimeLine) -> list[Event]:
    """Messages as they come, then the readings of a time line. No timer goes off."""
    return [event for message in (*messages, *time_line(**signs)) for event in apply(monitor, message)]


def wait(monitor: PatientMonitor, until_ms: int) -> list[Event]:
    """Nothing comes until then: only the timers go off that the monitor has asked for."""
    events: list[Event] = []
    while (at_ms := monitor.timer_at()) is not None and at_ms <= START + until_ms:
        events += monitor.on_timer(at_ms)
    return events


def alarms(events: Iterable[Event], rule_id: str | None = None) -> list[AlarmChanged]:
    """What was told of alarms: of all, or of those of one rule."""
    return [event for event in events if isinstance(event, AlarmChanged) and rule_id in (None, event.rule_id)]


def standing(monitor: PatientMonitor, rule_id: str | None = None) -> list[AlarmChanged]:
    """The alarms that are active."""
    return [one for one in alarms(monitor.open_alarms(), rule_id) if one.state is AlarmState.ACTIVE]
