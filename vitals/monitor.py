"""PatientMonitor: one patient's readings become judged readings, scores, windows, freshness and alarms.

The state machine that puts the kernel together. No I/O, no clock: time is in the messages and in `on_timer`. Its whole
state is one small value that can be saved after any call, and a message that comes twice changes nothing.

Each part has a module and a state of its own: `latest` (newest values), `sign_freshness` (missing data), `judge` (rules
on readings), `model_scores` (rules on models), `conditions` and `alarms` (which alarms are open), `quality`, `windows`
and `seen`. The monitor decides their order and when the next timer is due.
"""

from typing import Any, Final, Self

import msgspec

from vitals import news2
from vitals.alarms import AlarmBook
from vitals.binding_term import BindingTerm
from vitals.conditions import Conditions, JudgingContext
from vitals.errors import BadSnapshot
from vitals.judge import ReadingJudge
from vitals.latest import ALL_SIGNS, LatestValues, SignValue
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    BindingPeriod,
    Event,
    ModelScore,
    MonitoringEnded,
    News2Scored,
    Reading,
    ReadingJudged,
    Silence,
    WindowClosed,
    WindowOutdated,
)
from vitals.model_scores import ModelScores
from vitals.plan import MEASURED, MonitoringPlan
from vitals.quality import Quality, judge_late
from vitals.seen import Seen
from vitals.sign_freshness import SignFreshness
from vitals.signs import INDEX, SPEC, VitalSign
from vitals.view import PatientView
from vitals.windows import EventTimeWindows

SNAPSHOT_VERSION: Final = 1

_MEASURED: Final = {sign: sign.value for sign in MEASURED}
_COLUMNS: Final = tuple((sign, sign.value, 1 << INDEX[sign]) for sign in SPEC)
_ENCODER: Final = msgspec.msgpack.Encoder()

_Values = list[tuple[VitalSign, float]]
"""The usable values of one reading."""


class PatientMonitor:
    """One patient, by binding.

    Readings may come in any order. One that is older than the newest goes to the record and the windows and is not
    scored by itself; its value of a sign that was not measured since counts from the next reading on.

    Args:
        binding_id: which device on which patient.
        plan: what was ordered. A plan is not part of the snapshot: it is stored elsewhere.
    """

    def __init__(self, binding_id: str, plan: MonitoringPlan) -> None:
        self._connect(binding_id, plan, AlarmBook(binding_id, plan.rules))
        self._seen = Seen()
        self._quality = Quality()
        self._windows = EventTimeWindows(plan.window_ms, lateness_ms=plan.lateness_ms)
        self._frontier_ms: int | None = None  # event time of the newest reading
        self._timer_ms: int | None = None

    def on_reading(self, reading: Reading) -> list[Event]:
        """One reading. A reading that was applied before changes nothing and repeats the alarms that are open."""
        if not self._seen.add(reading.session_id, reading.counter):
            return list(self._book.open())
        late = self._frontier_ms is not None and reading.at_ms < self._frontier_ms
        backfilled = reading.heard_ms - reading.at_ms > self.plan.backfill_after_ms
        if self._term.has_ended:
            backfilled = True  # for the record only
            if self._is_after_end(reading.at_ms):
                reading = _of_nobody(reading)
        judged = judge_late(reading) if late else self._quality.judge(reading)
        values = _usable_values(judged)
        events: list[Event] = [ReadingJudged(reading=judged, late=late, backfilled=backfilled)]
        self._add_to_windows(values, judged.at_ms, events)
        if late:
            self._learn_late(values, judged.at_ms, backfilled, events)
            if backfilled:
                events += self._judge.judge_backfilled(judged, values)
            return events
        self._frontier_ms = judged.at_ms
        self._learn(values, judged.at_ms, backfilled, events)
        self._close_windows(judged.at_ms, events)
        score = self._latest.news2(judged.at_ms)
        events.append(self._scored(score, judged))
        if backfilled:
            events += self._judge.judge_backfilled(judged, values)
        else:
            self._judge_reading(judged, score, events)
        self._judge.history.add(judged.at_ms, score)
        return events

    def on_score(self, score: ModelScore) -> list[Event]:
        """One score of one model. It may raise an alarm of its own; it never touches those of the rules.

        A score that is older than the last one of the same model is only recorded; the same one again changes nothing.
        """
        return self._models.on_score(score, is_recorded_only=self._term.has_ended)

    def knows(self, period: BindingPeriod) -> bool:
        """Whether `on_binding` would change nothing."""
        return self._term.knows(period, was_heard=self._freshness.was_heard)

    def on_binding(self, period: BindingPeriod) -> list[Event]:
        """The registry says from when to when this device is on this patient.

        From then on silence is an alarm, also if no reading ever comes. With the end of the binding every alarm ends,
        and what is still heard of it goes to the record only.
        """
        events: list[Event] = []
        if self.knows(period):
            return events
        self._term.accept(period)
        self._freshness.begin(period.heard_ms)
        if self._term.is_due_to_end(period.heard_ms):
            self._end(period.heard_ms, events)
        self._reschedule(period.heard_ms)
        return events

    def on_acknowledge(self, message: Acknowledge) -> list[Event]:
        """A person has seen an alarm. Nothing happens if it is not open."""
        return list(
            self._book.acknowledge(
                message.alarm_id,
                by=message.by,
                at_ms=message.at_ms,
                revision=message.revision,
                priority=message.priority,
            )
        )

    def on_silence(self, message: Silence) -> list[Event]:
        """A person silences a rule until a moment."""
        events: list[Event] = list(
            self._book.silence(
                message.rule_id,
                by=message.by,
                at_ms=message.at_ms,
                until_ms=message.until_ms,
                priority=message.priority,
            )
        )
        self._reschedule(message.at_ms)
        return events

    def on_timer(self, now_ms: int) -> list[Event]:
        """Time has passed: signs become late, stale, lost; what depends on them becomes unknown; silences end."""
        events: list[Event] = []
        if self._term.is_due_to_end(now_ms):
            self._end(now_ms, events)
        if self._term.has_ended:
            self._timer_ms = None
            return events
        if self._freshness.on_timer(now_ms, events):
            self._freshness.judge_missing_data(now_ms, events)
            self._conditions.mark_missing(self.plan.rules, self._latest.missing(now_ms), now_ms, events)
        events += self._book.on_timer(now_ms)
        self._reschedule(now_ms)
        return events

    def timer_at(self) -> int | None:
        """When `on_timer` has to be called next; that may be too early, never too late."""
        return self._timer_ms

    def open_alarms(self) -> list[AlarmChanged]:
        """Every alarm that is open, as it was last announced."""
        return self._book.open()

    def latest(self) -> dict[VitalSign, tuple[float, int]]:
        """The newest usable value of each sign, and when it was measured, however long ago."""
        return {sign: (latest.value, latest.at_ms) for sign, latest in self._latest.by_sign.items()}

    @property
    def last_score_ms(self) -> int | None:
        """Event time of the newest score of any model."""
        return self._models.newest_ms

    def view(self, now_ms: int) -> PatientView:
        """What a screen may show at `now_ms`: every value with its age, nothing stale as current."""
        return PatientView(
            binding_id=self.binding_id,
            seen_ms=self._frontier_ms,
            news2=self._latest.news2(now_ms),
            news2_before=self._judge.history.points(),
            signs=self._freshness.views(now_ms),
            models=self._models.views(now_ms),
            sensor_off_since_ms=self._quality.sensor_off_since_ms,
            alarms=tuple(self._book.open()),
        )

    def snapshot(self) -> bytes:
        """The complete state."""
        news2_points, freshness = self._freshness.to_state()
        baselines, history = self._judge.to_state()
        return _ENCODER.encode(
            [
                SNAPSHOT_VERSION,
                self._frontier_ms,
                news2_points,
                self._timer_ms,
                self._latest.to_state(),
                freshness,
                baselines,
                history,
                self._conditions.to_state(),
                self._seen.to_state(),
                self._quality.to_state(),
                self._windows.to_state(),
                self._book.to_state(),
                self._models.to_state(),
                [self._freshness.awaiting_to_state(), self._term.to_state()],
            ]
        )

    @classmethod
    def restore(cls, binding_id: str, snapshot: bytes | None, plan: MonitoringPlan) -> Self:
        """The monitor in the state of a snapshot; a new one for None.

        Raises:
            BadSnapshot: the bytes are damaged or were written by a newer version.
        """
        if snapshot is None:
            return cls(binding_id, plan)
        # Without __init__: a worker that takes over has a hundred thousand monitors to restore.
        monitor = cls.__new__(cls)
        try:
            monitor._load(binding_id, plan, msgspec.msgpack.decode(snapshot))
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise BadSnapshot(f"binding {binding_id}: the stored state cannot be read ({error})") from error
        return monitor

    def _connect(self, binding_id: str, plan: MonitoringPlan, book: AlarmBook) -> None:
        """Make the parts that refer to each other."""
        self.binding_id = binding_id
        self.plan = plan
        self._book = book
        self._latest = LatestValues(plan)
        self._conditions = Conditions(book)
        self._term = BindingTerm()
        self._freshness = SignFreshness(binding_id, plan, self._latest, self._conditions, self._term)
        self._judge = ReadingJudge(plan, self._latest, self._conditions)
        self._models = ModelScores(plan, self._latest, self._conditions)

    def _load(self, binding_id: str, plan: MonitoringPlan, state: list[Any]) -> None:
        version, self._frontier_ms, news2_points, self._timer_ms, latest, freshness, baselines, *rest = state
        if version != SNAPSHOT_VERSION:
            raise ValueError(f"version {version}, this program reads {SNAPSHOT_VERSION}")
        history, causes, seen, quality, windows, book, *later = rest
        self._connect(binding_id, plan, AlarmBook.from_state(binding_id, plan.rules, book))
        self._latest.load_state(latest)
        self._freshness.load_state(news2_points, freshness)
        self._judge.load_state(baselines, history)
        self._conditions.load_state(causes)
        self._seen = Seen.from_state(seen)
        self._quality = Quality.from_state(quality)
        self._windows = EventTimeWindows.from_state(windows, plan.window_ms, lateness_ms=plan.lateness_ms)
        if later:  # the first snapshots had no models
            self._models.load_state(later[0])
        if len(later) > 1:  # and knew of no bindings
            awaiting, term = later[1]
            self._freshness.load_awaiting(awaiting)
            self._term.load_state(term)

    def _add_to_windows(self, values: _Values, at_ms: int, events: list[Event]) -> None:
        windows = self._windows
        for sign, value in values:
            name = _MEASURED.get(sign)
            if name is None:
                continue
            closed_starts = windows.add(name, at_ms, value)
            if closed_starts:  # hardly ever
                events.extend(
                    WindowOutdated(binding_id=self.binding_id, sign=name, start_ms=start_ms, width_ms=windows.width_ms)
                    for start_ms in closed_starts
                )

    def _close_windows(self, at_ms: int, events: list[Event]) -> None:
        events.extend(
            WindowClosed(
                binding_id=self.binding_id,
                sign=one.sign,
                start_ms=one.start_ms,
                width_ms=one.width_ms,
                count=one.count,
                mean=one.mean,
                minimum=one.minimum,
                maximum=one.maximum,
            )
            for one in self._windows.advance(at_ms)
        )

    def _learn(self, values: _Values, at_ms: int, backfilled: bool, events: list[Event]) -> None:
        latest = self._latest.by_sign
        for sign, value in values:
            is_first = sign not in latest
            latest[sign] = SignValue(value, at_ms)
            if is_first:
                self._reschedule(at_ms)
        self._judge.learn(values, at_ms)
        if backfilled:
            return
        if not self._freshness.was_heard:
            self._freshness.on_first_reading(at_ms, events)
            self._reschedule(at_ms)
        if self._freshness.on_values(values, at_ms, events):
            self._freshness.judge_missing_data(at_ms, events)
            self._reschedule(at_ms)

    def _learn_late(self, values: _Values, at_ms: int, backfilled: bool, events: list[Event]) -> None:
        """A cuff's pressure that was held up for some seconds is the newest pressure there is."""
        latest, now_ms = self._latest.by_sign, self._frontier_ms or at_ms
        newer = [(sign, value) for sign, value in values if sign not in latest or latest[sign].at_ms < at_ms]
        for sign, value in newer:
            latest[sign] = SignValue(value, at_ms)
        if not backfilled and self._freshness.on_late_values(newer, at_ms, now_ms, events):
            self._freshness.judge_missing_data(now_ms, events)
        self._reschedule(now_ms)

    def _judge_reading(self, reading: Reading, score: news2.News2, events: list[Event]) -> None:
        context = JudgingContext(reading.at_ms, reading.reading_id, self._latest.missing(reading.at_ms), events)
        self._judge.judge_news2(score, context)
        if self._freshness.update_news2(self._latest.news2_of_any_age(score)):
            self._reschedule(reading.at_ms)
        self._judge.judge_signs(score, context)
        self._judge.judge_device(reading, self._quality.sensor_off_since_ms, context)

    def _scored(self, score: news2.News2, reading: Reading) -> News2Scored:
        return News2Scored(
            binding_id=self.binding_id,
            reading_id=reading.reading_id,
            at_ms=reading.at_ms,
            total=score.total,
            at_least=score.at_least,
            risk=score.risk,
            spo2_scale=score.spo2_scale,
            parts=score.parts,
        )

    def _end(self, now_ms: int, events: list[Event]) -> None:
        """The binding has ended: its alarms, silences and timers end."""
        ended_ms = self._term.ended_ms if self._term.ended_ms is not None else now_ms
        self._term.has_ended = True
        self._freshness.end()
        events += self._book.end(at_ms=now_ms, ended_ms=ended_ms)
        events.append(MonitoringEnded(binding_id=self.binding_id, at_ms=now_ms, ended_ms=ended_ms))

    def _is_after_end(self, at_ms: int) -> bool:
        return self._term.ended_ms is not None and at_ms > self._term.ended_ms

    def _reschedule(self, now_ms: int) -> None:
        if self._term.has_ended:
            self._timer_ms = None
            return
        due = (self._freshness.next_change_ms(now_ms), self._book.timer_at(), self._term.timer_ms)
        self._timer_ms = min((at_ms for at_ms in due if at_ms is not None), default=None)


def _of_nobody(reading: Reading) -> Reading:
    """A reading that was measured after the binding had ended: nobody knows whose values these are."""
    return msgspec.structs.replace(reading, unusable=ALL_SIGNS)


def _usable_values(reading: Reading) -> _Values:
    unusable = reading.unusable
    return [
        (sign, value)
        for sign, name, bit in _COLUMNS
        if (value := getattr(reading, name)) is not None and not unusable & bit
    ]
