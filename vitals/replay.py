"""The alarms that a stay would have had, from its recorded messages and a plan.

Pure: messages in the order in which they were applied then, the answers of people, and a plan; out come the changes of
alarms. With the plan of then these are the alarms of then, as far as the record has what they were made of.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from vitals.alarms import ClockText, clock_text
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    BindingPeriod,
    Event,
    Message,
    ModelScore,
    Observation,
    Priority,
    Reading,
    Silence,
    Tick,
)
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.quality import JUDGED
from vitals.stay_windows import StayWindows

ANSWER_WAITS_MS: Final = 10_000
"""An answer that was given to a later revision of an alarm waits so long for that revision: it was applied after the
messages that were on their way."""


class GivenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person answered then, as the record of alarms tells it."""

    rule_id: str
    key: str
    alarm_id: bytes
    revision: int  # of the alarm, before the answer
    at_ms: int
    by: str = ""
    silent_until_ms: int | None = None  # None: an acknowledgement
    priority: Priority | None = None


def as_recorded(reading: Reading) -> Reading:
    """A stored reading as the kernel has to be given it again.

    Its time was corrected then, and its values were marked: both stand, and are not judged a second time.
    """
    return replace(reading, age_ms=reading.heard_ms - reading.at_ms, unusable=reading.unusable | JUDGED)


def answers_of(changes: Iterable[AlarmChanged]) -> list[GivenAnswer]:
    """The answers that recorded changes of alarms tell of, in the order of time.

    A silence of a condition that had no alarm is known from the first alarm that it silenced. Who silenced is not
    recorded, and changes no alarm.
    """
    found: dict[tuple[object, ...], GivenAnswer] = {}
    lives: dict[bytes, list[AlarmChanged]] = {}
    for one in changes:
        lives.setdefault(one.alarm_id, []).append(one)
    for life in lives.values():
        before: AlarmChanged | None = None
        for one in sorted(life, key=lambda change: change.revision):
            was = None if before is None else before.acknowledged_ms
            if one.acknowledged_by is not None and one.acknowledged_ms not in (None, was):
                place: tuple[object, ...] = ("acknowledged", one.alarm_id, one.acknowledged_ms)
                found.setdefault(place, _answer(one, one.acknowledged_ms or one.at_ms, by=one.acknowledged_by))
            silent_ms = one.silenced_until_ms
            if silent_ms is not None and (before is None or before.silenced_until_ms != silent_ms):
                place = ("silenced", one.rule_id, one.key, silent_ms)
                known = found.get(place)
                if known is None or known.at_ms > one.at_ms:
                    found[place] = _answer(one, one.at_ms, until_ms=silent_ms)
            before = one
    return sorted(found.values(), key=lambda answer: (answer.at_ms, answer.alarm_id, answer.revision))


class _NoWindows(StayWindows):
    """Windows serve charts alone: no alarm depends on them."""

    def add(self, *_: object) -> None:
        pass

    def close(self, *_: object) -> None:
        pass


class StayReplay:
    """One stay, replayed under one plan: feed its messages, then `finish`.

    Timers run between the messages, as they did then. An answer goes to the alarm that it was given to or, if that one
    does not exist under this plan, to an open one of the same condition; where there is none, it changes nothing.

    Args:
        stay_id: whose messages these are.
        plan: what is to be watched.
        answers: what people answered then, in the order of time.
        clock: writes the times in texts.
    """

    def __init__(
        self,
        stay_id: str,
        plan: MonitoringPlan,
        *,
        answers: Iterable[GivenAnswer] = (),
        clock: ClockText = clock_text,
    ) -> None:
        self._monitor = PatientMonitor(stay_id, plan, clock, windows=_NoWindows(stay_id, plan))
        self._answers = deque(answers)
        self._now_ms = 0

    def feed(self, message: Message) -> list[AlarmChanged]:
        """The next message, in the order in which they were applied; stored readings as `as_recorded` makes them.

        Returns:
            What changed about alarms since the last call.
        """
        monitor, at_ms = self._monitor, _time_of(message)
        found = self._answer_due(at_ms) if self._answers and self._answers[0].at_ms <= at_ms else []
        self._now_ms = max(at_ms, self._now_ms)
        timer_ms = monitor.timer_at()
        if timer_ms is not None and timer_ms <= self._now_ms:
            found += self._run_to(self._now_ms)
        if isinstance(message, Reading):
            events = monitor.on_reading(message)
        elif isinstance(message, ModelScore):
            events = monitor.on_score(message)
        elif isinstance(message, BindingPeriod):
            events = monitor.on_binding(message)
        elif isinstance(message, Observation):
            events = monitor.on_observation(message)
        elif isinstance(message, Acknowledge):
            events = monitor.on_acknowledge(message)
        elif isinstance(message, Silence):
            events = monitor.on_silence(message)
        else:
            return found
        return found + _alarms(events)

    def finish(self, until_ms: int | None = None) -> list[AlarmChanged]:
        """No further message comes. Time runs on until `until_ms`; None: not at all."""
        last_ms = self._now_ms if until_ms is None else max(until_ms, self._now_ms)
        return self._answer_due(last_ms, is_last=True) + self._run_to(last_ms)

    def _run_to(self, now_ms: int) -> list[AlarmChanged]:
        """Fire the timers that are due."""
        self._now_ms = max(now_ms, self._now_ms)
        found: list[AlarmChanged] = []
        while (timer_ms := self._monitor.timer_at()) is not None and timer_ms <= self._now_ms:
            found += _alarms(self._monitor.on_timer(timer_ms))
        return found

    def _answer_due(self, now_ms: int, *, is_last: bool = False) -> list[AlarmChanged]:
        """Apply the answers that were given before a moment."""
        found: list[AlarmChanged] = []
        waiting = self._answers
        while waiting and waiting[0].at_ms <= now_ms:
            given = waiting[0]
            found += self._run_to(given.at_ms)
            alarm = self._answered(given)
            is_early = alarm is not None and alarm.alarm_id == given.alarm_id and alarm.revision < given.revision
            if is_early and not is_last and now_ms - given.at_ms < ANSWER_WAITS_MS:
                break
            waiting.popleft()
            found += self._give(given, alarm)
        return found

    def _answered(self, given: GivenAnswer) -> AlarmChanged | None:
        """The open alarm that an answer is for; the last one of its condition that is not acknowledged."""
        of_condition = [
            one for one in self._monitor.open_alarms() if (one.rule_id, one.key) == (given.rule_id, given.key)
        ]
        same = [one for one in of_condition if one.alarm_id == given.alarm_id]
        return next(iter(same or [one for one in reversed(of_condition) if one.acknowledged_by is None]), None)

    def _give(self, given: GivenAnswer, alarm: AlarmChanged | None) -> list[AlarmChanged]:
        stay_id = self._monitor.stay_id
        if given.silent_until_ms is not None:
            silence = Silence(
                stay_id=stay_id,
                rule_id=given.rule_id,
                key=given.key,
                by=given.by,
                at_ms=given.at_ms,
                until_ms=given.silent_until_ms,
                priority=given.priority,
            )
            return _alarms(self._monitor.on_silence(silence))
        if alarm is None:
            return []
        acknowledge = Acknowledge(stay_id=stay_id, alarm_id=alarm.alarm_id, by=given.by, at_ms=given.at_ms)
        return _alarms(self._monitor.on_acknowledge(acknowledge))


def _answer(change: AlarmChanged, at_ms: int, *, by: str = "", until_ms: int | None = None) -> GivenAnswer:
    return GivenAnswer(
        rule_id=change.rule_id,
        key=change.key,
        alarm_id=change.alarm_id,
        revision=change.revision - 1,
        at_ms=at_ms,
        by=by,
        silent_until_ms=until_ms,
        priority=change.priority,
    )


def _alarms(events: Iterable[Event]) -> list[AlarmChanged]:
    return [event for event in events if isinstance(event, AlarmChanged)]


def _time_of(message: Message) -> int:
    if isinstance(message, Tick):
        return message.now_ms
    if isinstance(message, Acknowledge | Silence):
        return message.at_ms
    return message.heard_ms
