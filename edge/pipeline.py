"""One opened frame becomes one judged reading for the cloud, and the alarms that it raises.

Pure: no I/O and no clock. Event time is put right, quality judged, scores and alarms worked out by the same kernel as
in the cloud, and it is decided how dear the reading is should the disk fill.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from edge.event_time import measured_at
from edge.outbox import Keep
from edge.scoring import Scoring
from runtime.time_zone import clock_or_utc
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    AlarmKind,
    AlarmState,
    BindingPeriod,
    Event,
    ModelScore,
    News2Scored,
    Observation,
    Priority,
    ReadingJudged,
    Silence,
    Tick,
)
from vitals.patients import Patients, PlanOf
from vitals.sender_clock import BOUND_MS
from vitals.uptime import Uptime
from wire.answers import Answer, AnswerKind, condition_of
from wire.codec import MOST_REASON, EdgeVitalsV1, OriginV1, ScoreV1, VitalsV1, to_reading
from wire.identity import BindingRecord
from wire.receiver import Opened

_MINUTE_MS: Final = 60_000
_FIVE_MINUTES_MS: Final = 300_000
_EXTREME_NEWS2: Final = 5
_UPTIMES_KEPT: Final = 10_000
_DESK: Final = "alarm desk"  # people's names stay in the data centre


class JudgedReading(NamedTuple):
    """What became of one reading."""

    message: EdgeVitalsV1
    keep: Keep
    alarms: list[AlarmChanged]


class Pipeline:
    """All patients of one edge; what its devices measure of one patient is judged together.

    Args:
        plan_of: what was ordered for a stay.
        states: (stay, snapshot) as they were committed.
        scoring: the models of this edge.
        boot_id: of this process.
        clock_bound_ms: a wearable's clock that is off by no more is right.
    """

    def __init__(
        self,
        plan_of: PlanOf,
        states: Iterable[tuple[str, bytes]],
        scoring: Scoring,
        *,
        boot_id: bytes = b"",
        clock_bound_ms: int = BOUND_MS,
    ) -> None:
        self._boot_id = boot_id
        self._clock_bound_ms = clock_bound_ms
        self._patients = Patients(plan_of, states, clock_or_utc)
        self._scoring = scoring
        for stay_id, monitor in self._patients.monitors():
            scoring.resume(stay_id, monitor.latest(), monitor.last_score_ms)
        self._uptimes: dict[bytes, Uptime] = {}  # by session: a device that restarts begins a new one
        self._kept: dict[bytes, tuple[int, int]] = {}  # by binding: minute and five minutes of which a reading was kept
        self._episodes: dict[str, set[bytes]] = {}  # physiological alarms that stand, by stay
        self._forgotten: list[str] = []  # stays whose state is no longer kept here
        self._alarms(self._patients.open_alarms())

    def judge(
        self, opened: Opened, vitals: VitalsV1, binding: BindingRecord, *, received_ms: int, uptime_ms: int = 0
    ) -> JudgedReading:
        """One reading of one wearable, authentic and within bounds.

        Args:
            received_ms: arrival, by the edge's wall clock.
            uptime_ms: arrival, since this process started.
        """
        message = self._message(opened, vitals, binding, received_ms, uptime_ms)
        events = self._patients.apply(to_reading(message, binding.binding_id, binding.stay_id))
        judged = next((event for event in events if isinstance(event, ReadingJudged)), None)
        if judged is not None:
            monitor = self._patients.monitor(binding.stay)
            if monitor is not None and monitor.moved_ms:
                self._scoring.shift(monitor.moved_ms, monitor.stay_id)
            scores = self._scoring.score(judged.reading, late=judged.late)
            for score in scores:
                events += self._patients.apply(score)
            if judged.reading.at_ms != message.at_ms:
                message = _with_time_of(judged, message)
            if judged.reading.unusable or scores:
                told = tuple(_told(score) for score in scores)
                message = replace(message, unusable=judged.reading.unusable, scores=told)
        alarms = self._alarms(events)
        extreme = any(isinstance(event, News2Scored) and _is_extreme(event) for event in events)
        return JudgedReading(message, self._keep(binding, message.at_ms, extreme=extreme), alarms)

    def unjudged(
        self, opened: Opened, vitals: VitalsV1, binding: BindingRecord, *, received_ms: int, uptime_ms: int = 0
    ) -> JudgedReading:
        """The same reading where `judge` has failed on it: nothing is known, so it is dear."""
        return JudgedReading(self._message(opened, vitals, binding, received_ms, uptime_ms), Keep.EPISODE, [])

    def shift(self, by_ms: int) -> None:
        """The edge's clock was set by so much: move everything with it, so that no interval changes."""
        self._patients.shift(by_ms)
        self._scoring.shift(by_ms)
        for uptime in self._uptimes.values():
            uptime.shift(by_ms)
        self._kept.clear()

    def on_timer(self, now_ms: int) -> list[AlarmChanged]:
        """Time has passed."""
        due_ms = self._patients.timer_at()
        if due_ms is None or due_ms > now_ms:
            return []
        return self._alarms(self._patients.apply(Tick(now_ms=now_ms)))

    def on_binding(self, period: BindingPeriod) -> list[AlarmChanged]:
        """A binding as the data centre signed it: who is bound is watched, who is no longer has no alarm any more."""
        return self._alarms(self._patients.apply(period))

    def observe(self, observation: Observation) -> list[AlarmChanged]:
        """What a person entered at this edge."""
        return self._alarms(self._patients.apply(observation))

    def stays(self) -> list[str]:
        """Every stay that is watched here, or was until its end."""
        return [stay_id for stay_id, _ in self._patients.monitors()]

    def reorder(self, stay_id: str) -> None:
        """What was ordered for a stay has changed: judge by the plan of `plan_of` from here on."""
        self._patients.reorder(stay_id)

    def forget(self, stay_id: str, now_ms: int, *, why: str) -> list[AlarmChanged]:
        """This edge watches a stay no longer: its alarms here end, and with them its state.

        Args:
            why: for the text of the alarms; nobody knows that their conditions are over.
        """
        standing = [one for one in self._patients.open_alarms() if one.stay_id == stay_id]
        self._patients.forget(stay_id)
        self._scoring.forget(stay_id)
        self._episodes.pop(stay_id, None)
        self._forgotten.append(stay_id)
        return [_ended_here(one, now_ms, why) for one in standing]

    def drain_forgotten(self) -> list[str]:
        """The stays that were forgotten since the last call; for the same transaction, before what has changed."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def answer(self, answer: Answer, now_ms: int, *, ahead_ms: int = 0) -> list[AlarmChanged]:
        """Apply what a person answered in the data centre.

        Nothing happens if the alarm is not open here, or if it is worse here than what the person saw. An edge that
        hears a part of the devices may have found the same condition by itself, with an alarm of another id: it is
        answered, too, if it had begun when the person answered.

        Args:
            ahead_ms: how far the clock here is ahead of the data centre's.
        """
        stay_id = answer.stay_id.hex()
        alarms = [one for one in self._patients.open_alarms() if one.stay_id == stay_id]
        about = next((one for one in alarms if one.alarm_id == answer.alarm_id), None)
        if about is None:
            about = _of_same_condition(alarms, answer, ahead_ms)
        if about is None:
            return []
        # The same condition may have ended unseen before, and worse: an answer to this alarm does not cover that one.
        same = [one for one in alarms if (one.rule_id, one.key) == (about.rule_id, about.key)]
        if answer.priority < max(one.priority for one in same):
            return []
        message: Acknowledge | Silence
        if answer.kind is AnswerKind.ACKNOWLEDGED:
            message = Acknowledge(
                stay_id=stay_id,
                alarm_id=about.alarm_id,
                by=_DESK,
                at_ms=now_ms,
                priority=Priority(answer.priority),
                grade=answer.grade,
            )
        elif answer.until_ms > now_ms:
            message = Silence(
                stay_id=stay_id,
                rule_id=about.rule_id,
                by=_DESK,
                at_ms=now_ms,
                until_ms=answer.until_ms,
                priority=Priority(answer.priority),
                key=about.key,
                grade=answer.grade,
            )
        else:
            return []
        return self._alarms(self._patients.apply(message))

    def drain_states(self) -> Mapping[str, bytes]:
        """Snapshots of the patients that were touched since the last call; they belong into the same transaction."""
        return self._patients.drain().snapshots

    def drain_memories(self) -> Mapping[str, bytes]:
        """What models remember of the patients whose hours ended since the last call; for the same transaction."""
        return self._scoring.drain_states()

    def drain_defects(self) -> list[str]:
        """As `Patients.drain_defects`, without saying whose."""
        return [problem for _, problem in self._patients.drain_defects()]

    def open_alarms(self) -> list[AlarmChanged]:
        """Every alarm that stands."""
        return self._patients.open_alarms()

    def _message(
        self, opened: Opened, vitals: VitalsV1, binding: BindingRecord, received_ms: int, uptime_ms: int
    ) -> EdgeVitalsV1:
        uptime = self._uptime(opened.session_id)
        uptime.learn(vitals.uptime_ms, received_ms)
        at_ms, flags, age_ms, clock_ms = measured_at(
            vitals,
            uptime,
            received_ms=received_ms,
            not_before_ms=binding.valid_from_ms,
            bound_ms=self._clock_bound_ms,
        )
        return EdgeVitalsV1(
            origin=OriginV1(wearable_id=opened.sender, session_id=opened.session_id, counter=opened.counter),
            vitals=vitals,
            at_ms=at_ms,
            received_ms=received_ms,
            sensor_flags=vitals.sensor_flags | flags,
            unusable=0,
            boot_id=self._boot_id,
            uptime_ms=uptime_ms,
            age_ms=age_ms,
            clock_ms=clock_ms,
        )

    def _alarms(self, events: Iterable[Event]) -> list[AlarmChanged]:
        changed = [event for event in events if isinstance(event, AlarmChanged)]
        for alarm in changed:
            if alarm.kind is AlarmKind.PHYSIOLOGICAL and not alarm.retrospective:
                standing = self._episodes.setdefault(alarm.stay_id, set())
                (standing.discard if alarm.state is AlarmState.CLEARED else standing.add)(alarm.alarm_id)
        return changed

    def _keep(self, binding: BindingRecord, at_ms: int, *, extreme: bool) -> Keep:
        # By device: a cuff's only pressure of an hour is not thinned because a patch was first in its minute.
        minute, five = at_ms // _MINUTE_MS, at_ms // _FIVE_MINUTES_MS
        last_minute, last_five = self._kept.get(binding.binding_id, (-1, -1))
        self._kept[binding.binding_id] = (max(minute, last_minute), max(five, last_five))
        if self._episodes.get(binding.stay):
            return Keep.EPISODE
        if extreme:
            return Keep.EXTREME
        if five > last_five:
            return Keep.PER_FIVE_MINUTES
        return Keep.PER_MINUTE if minute > last_minute else Keep.ORDINARY

    def _uptime(self, session_id: bytes) -> Uptime:
        uptime = self._uptimes.get(session_id)
        if uptime is None:
            while len(self._uptimes) >= _UPTIMES_KEPT:
                del self._uptimes[next(iter(self._uptimes))]
            uptime = self._uptimes[session_id] = Uptime()
        return uptime


def _of_same_condition(alarms: list[AlarmChanged], answer: Answer, ahead_ms: int) -> AlarmChanged | None:
    """The newest alarm of the condition that was answered, if it had begun by then; a silence ends by itself."""
    is_silence = answer.kind is AnswerKind.SILENCED
    same = [
        one
        for one in alarms
        if condition_of(one.rule_id, one.key) == answer.condition
        and (is_silence or one.onset_ms <= answer.at_ms + ahead_ms)
    ]
    return same[-1] if same else None


def _ended_here(alarm: AlarmChanged, now_ms: int, why: str) -> AlarmChanged:
    return replace(
        alarm,
        state=AlarmState.CLEARED,
        at_ms=now_ms,
        revision=alarm.revision + 1,
        latched=False,
        response="",
        stay_ended=True,
        text=f"{why}; alarm was: {alarm.text}",
    )


def _with_time_of(judged: ReadingJudged, message: EdgeVitalsV1) -> EdgeVitalsV1:
    """The message with the time that the patient's monitor has found."""
    reading = judged.reading
    return replace(
        message,
        at_ms=reading.at_ms,
        sensor_flags=reading.sensor_flags,
        age_ms=None if judged.backfilled else max(reading.received_ms - reading.at_ms, 0),
        clock_ms=reading.clock_ms,
    )


def _told(score: ModelScore) -> ScoreV1:
    return ScoreV1(
        model=score.model,  # type: ignore[arg-type]
        version=score.version,
        score=score.score,
        threshold=score.threshold,
        reason=score.reason[:MOST_REASON],
    )


def _is_extreme(score: News2Scored) -> bool:
    return score.at_least >= _EXTREME_NEWS2 or any((part.points or 0) >= 3 for part in score.parts)
