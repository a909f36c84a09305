"""PatientMonitor: one patient's readings become judged readings, scores, windows, freshness and alarms.

The state machine that puts the kernel together. No I/O, no clock: time is in the messages and in `on_timer`. Its whole
state is one small value that can be saved after any call, and a message that comes twice changes nothing.

Each part has a module and a state of its own: `latest` (newest values), `sign_freshness` (missing data), `judge` (rules
on readings), `usability` (rules on values that are not ordinary), `model_scores` (rules on models), `conditions` and
`alarms` (which alarms are open), `binding_term` (from when to when anybody is monitored), `quality`, `windows` and
`seen`. The monitor decides their order and when the next timer is due.
"""

from typing import Any, Final, Protocol, Self

import msgspec
from msgspec.structs import replace

from vitals import news2
from vitals.alarms import AlarmBook, ClockText, clock_text
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
    SensorFlag,
    Silence,
    WindowClosed,
    WindowOutdated,
)
from vitals.model_scores import ModelScores
from vitals.plan import MEASURED, MonitoringPlan
from vitals.quality import Quality, judge_late
from vitals.seen import Seen
from vitals.sender_clock import SenderClock
from vitals.sign_freshness import SignFreshness
from vitals.signs import INDEX, SPEC, VitalSign
from vitals.usability import SignUsability
from vitals.view import PatientView
from vitals.windows import EventTimeWindows

SNAPSHOT_VERSION: Final = 1

_MEASURED: Final = {sign: sign.value for sign in MEASURED}
_COLUMNS: Final = tuple((sign, sign.value, 1 << INDEX[sign]) for sign in SPEC)
_ENCODER: Final = msgspec.msgpack.Encoder()

_Values = list[tuple[VitalSign, float]]
"""The usable values of one reading."""


class _StatefulPart(Protocol):
    def to_state(self) -> list[Any]: ...
    def load_state(self, state: list[Any], /) -> None: ...


class PatientMonitor:
    """One patient, by binding.

    Readings may come in any order. One that is older than the newest goes to the record and the windows and is not
    scored by itself; its value of a sign that was not measured since counts from the next reading on.

    Args:
        binding_id: which device on which patient.
        plan: what was ordered. A plan is not part of the snapshot: it is stored elsewhere.
        clock: writes the times in texts, in the time zone of the plan.
    """

    def __init__(self, binding_id: str, plan: MonitoringPlan, clock: ClockText = clock_text) -> None:
        self._connect(binding_id, plan, AlarmBook(binding_id, plan.meant_rules, clock), clock)
        self._seen = Seen()
        self._quality = Quality(plan.spo2_scale)
        self._windows = EventTimeWindows(plan.window_ms, lateness_ms=plan.lateness_ms)
        self._frontier_ms: int | None = None  # event time of the newest reading
        self._timer_ms: int | None = None

    def on_reading(self, reading: Reading) -> list[Event]:
        """One reading. A reading that was applied before changes nothing and repeats the alarms that are open."""
        if not self._seen.add(reading.session_id, reading.counter):
            return list(self._book.open())
        clock = self._clock
        measured_ms = clock.measured_ms(reading.at_ms, reading.heard_ms, reading.age_ms)
        events: list[Event] = []
        self.moved_ms = clock.moved_ms
        if self.moved_ms:
            # What was heard so far was live, and its times were wrong by as much.
            self._move(self.moved_ms)
            clock.moved_ms = 0
            events += self._book.announce_all(measured_ms)
        if measured_ms != reading.at_ms:
            reading = _with_right_time(reading, measured_ms)
            self._corrected = (reading.reading_id, measured_ms)
        late = self._frontier_ms is not None and reading.at_ms < self._frontier_ms
        backfilled = reading.heard_ms - reading.at_ms > self.plan.backfill_after_ms
        if self._term.has_ended:
            backfilled = True  # for the record only
            if self._is_after_end(reading.at_ms):
                reading = _of_nobody(reading)
        judged = judge_late(reading) if late else self._quality.judge(reading)
        values = _usable_values(judged)
        if not backfilled and (late or self._quality.has_unusual or self._usability.is_watching):
            self._usability.on_reading(judged, is_off=self._quality.sensor_off_since_ms is not None)
        events.append(ReadingJudged(reading=judged, late=late, backfilled=backfilled))
        self._add_to_windows(values, judged.at_ms, events)
        if late:
            self._learn_late(values, judged.at_ms, backfilled, events)
            if backfilled:
                events += self._judge.judge_backfilled(judged, values)
            elif self._usability.is_watching:
                self._judge_usability(JudgingContext(self._frontier_ms or judged.at_ms, judged.reading_id, 0, events))
            return events
        self._frontier_ms = judged.at_ms
        self._learn(values, judged, backfilled, events)
        self._close_windows(judged.at_ms, events)
        score = self._latest.news2(judged.at_ms)
        if score is not None:
            events.append(self._scored(score, judged, self._latest.note(score, judged.at_ms)))
        if backfilled:
            events += self._judge.judge_backfilled(judged, values)
        else:
            self._judge_reading(judged, score, events)
        if score is not None and (not backfilled or self._clock.unsure_until_ms is None):
            self._judge.history.add(judged.at_ms, score)
        return events

    def on_score(self, score: ModelScore) -> list[Event]:
        """One score of one model. It may raise an alarm of its own; it never touches those of the rules.

        A score that is older than the last one of the same model is only recorded; the same one again changes nothing.
        The models are made for adults: what an edge of an earlier version scored of another patient is not taken.
        """
        if not self.plan.group.has_adult_scores:
            return []
        if self._corrected[0] == score.reading_id:
            score = replace(score, at_ms=self._corrected[1])
        return self._models.on_score(score, is_recorded_only=self._term.has_ended)

    def knows(self, period: BindingPeriod) -> bool:
        """Whether `on_binding` would change nothing."""
        return self._term.knows(period)

    def on_binding(self, period: BindingPeriod) -> list[Event]:
        """The registry says from when to when this device is on this patient.

        From then on silence is an alarm, also if no reading ever comes. With the end of the binding every alarm ends,
        and what is still heard of it goes to the record only.
        """
        events: list[Event] = []
        if self.knows(period):
            return events
        self._term.accept(period)
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
                grade=message.grade,
            )
        )

    def on_silence(self, message: Silence) -> list[Event]:
        """A person silences a condition until a moment."""
        events: list[Event] = list(
            self._book.silence(
                message.rule_id,
                by=message.by,
                at_ms=message.at_ms,
                until_ms=message.until_ms,
                key=message.key,
                priority=message.priority,
                grade=message.grade,
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
        unsure_until_ms = self._clock.unsure_until_ms
        is_sure = unsure_until_ms is None or now_ms >= unsure_until_ms
        if is_sure and self._freshness.on_timer(now_ms, events):
            self._freshness.judge_missing_data(now_ms, events)
            self._conditions.mark_missing(self.plan.rules, self._latest.missing(now_ms), now_ms, events)
        self._usability.on_timer(now_ms, events)
        events += self._book.on_timer(now_ms)
        self._reschedule(now_ms)
        return events

    def shift(self, by_ms: int) -> None:
        """The clock of this place was set by so much: move the whole state with it, so that no interval changes."""
        self._clock.shift(by_ms)
        self._term.shift_arrivals(by_ms)
        self._move(by_ms)
        if self._term.timer_ms is not None:  # an end that the registry has signed stays where it is
            self._timer_ms = min(self._timer_ms or self._term.timer_ms, self._term.timer_ms)

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
            group=self.plan.group,
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
                *(part.to_state() for part in self._later_parts()),
            ]
        )

    @classmethod
    def restore(
        cls, binding_id: str, snapshot: bytes | None, plan: MonitoringPlan, clock: ClockText = clock_text
    ) -> Self:
        """The monitor in the state of a snapshot; a new one for None.

        Raises:
            BadSnapshot: the bytes are damaged or were written by a newer version.
        """
        if snapshot is None:
            return cls(binding_id, plan, clock)
        # Without __init__: a worker that takes over has a hundred thousand monitors to restore.
        monitor = cls.__new__(cls)
        try:
            monitor._load(binding_id, plan, clock, msgspec.msgpack.decode(snapshot))
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise BadSnapshot(f"binding {binding_id}: the stored state cannot be read ({error})") from error
        return monitor

    def _connect(self, binding_id: str, plan: MonitoringPlan, book: AlarmBook, clock: ClockText) -> None:
        """Make the parts that refer to each other."""
        self.binding_id = binding_id
        self.plan = plan
        self._book = book
        self._latest = LatestValues(plan)
        self._conditions = Conditions(book, plan.group.short_note)
        self._usability = SignUsability(plan, self._conditions)
        self._term = BindingTerm(clock)
        self._freshness = SignFreshness(
            binding_id,
            plan,
            self._latest,
            self._conditions,
            usability=self._usability,
            term=self._term,
            clock=clock,
        )
        self._judge = ReadingJudge(plan, self._latest, self._conditions, clock)
        self._models = ModelScores(plan, self._latest, self._conditions)
        self._clock = SenderClock(bound_ms=plan.clock_bound_ms)
        self.moved_ms = 0  # by how much the last reading moved the state; see `vitals.sender_clock`
        self._corrected = (b"", 0)  # id of the last reading whose time was corrected, and that time

    def _load(self, binding_id: str, plan: MonitoringPlan, clock: ClockText, state: list[Any]) -> None:
        version, self._frontier_ms, news2_points, self._timer_ms, latest, freshness, baselines, *rest = state
        if version != SNAPSHOT_VERSION:
            raise ValueError(f"version {version}, this program reads {SNAPSHOT_VERSION}")
        history, causes, seen, quality, windows, book, *later = rest
        self._connect(binding_id, plan, AlarmBook.from_state(binding_id, plan.meant_rules, book, clock), clock)
        self._latest.load_state(latest)
        self._freshness.load_state(news2_points, freshness)
        self._judge.load_state(baselines, history)
        self._conditions.load_state(causes)
        self._seen = Seen.from_state(seen)
        self._quality = Quality.from_state(quality, plan.spo2_scale)
        self._windows = EventTimeWindows.from_state(windows, plan.window_ms, lateness_ms=plan.lateness_ms)
        for part, part_state in zip(self._later_parts(), later, strict=False):  # earlier snapshots lack the last ones
            part.load_state(part_state)

    def _later_parts(self) -> tuple[_StatefulPart, ...]:
        """The parts that later versions added, in the order of their states in a snapshot."""
        return self._models, self._latest.interval, self._clock, self._usability, self._term

    def _move(self, by_ms: int) -> None:
        """Move every event time."""
        parts = (self._quality, self._windows, self._latest, self._judge, self._book, self._models, self._usability)
        for part in (*parts, self._term):
            part.shift(by_ms)
        if self._frontier_ms is not None:
            self._frontier_ms += by_ms
        if self._timer_ms is not None:
            self._timer_ms += by_ms

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

    def _learn(self, values: _Values, reading: Reading, backfilled: bool, events: list[Event]) -> None:
        latest, at_ms = self._latest.by_sign, reading.at_ms
        for sign, value in values:
            is_first = sign not in latest
            latest[sign] = SignValue(value, at_ms)
            if is_first:
                self._reschedule(at_ms)
        self._judge.learn(values, at_ms)
        if backfilled:
            return
        if self._term.first_ms is None:
            self._freshness.on_first_reading(at_ms, events)
            self._reschedule(at_ms)
        if self._freshness.on_values(values, at_ms, reading.heard_ms, events):
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

    def _judge_reading(self, reading: Reading, score: news2.News2 | None, events: list[Event]) -> None:
        context = JudgingContext(reading.at_ms, reading.reading_id, self._latest.missing(reading.at_ms), events)
        if score is not None:
            self._judge.judge_news2(score, context)
            if self._freshness.update_news2(self._latest.news2_of_any_age(score).at_least):
                self._reschedule(reading.at_ms)
        self._judge.judge_signs(score, context)
        self._judge.judge_device(reading, self._quality.sensor_off_since_ms, context)
        if self._usability.is_watching:
            self._judge_usability(context)

    def _judge_usability(self, context: JudgingContext) -> None:
        self._usability.judge(context)
        self._reschedule(context.at_ms)

    def _scored(self, score: news2.News2, reading: Reading, measure_every_ms: int) -> News2Scored:
        return News2Scored(
            binding_id=self.binding_id,
            reading_id=reading.reading_id,
            at_ms=reading.at_ms,
            total=score.total,
            at_least=score.at_least,
            risk=news2.risk_text(score),
            spo2_scale=score.spo2_scale,
            parts=score.parts,
            due=score.due,
            measure_every_ms=measure_every_ms,
        )

    def _end(self, now_ms: int, events: list[Event]) -> None:
        """The binding has ended: its alarms, silences and timers end."""
        ended_ms = self._term.ended_ms if self._term.ended_ms is not None else now_ms
        self._term.has_ended = True
        self._freshness.end()
        self._usability.end()
        events += self._book.end(at_ms=now_ms, ended_ms=ended_ms)
        events.append(MonitoringEnded(binding_id=self.binding_id, at_ms=now_ms, ended_ms=ended_ms))

    def _is_after_end(self, at_ms: int) -> bool:
        return self._term.ended_ms is not None and at_ms > self._term.ended_ms

    def _reschedule(self, now_ms: int) -> None:
        if self._term.has_ended:
            self._timer_ms = None
            return
        change_ms, unsure_until_ms = self._freshness.next_change_ms(now_ms), self._clock.unsure_until_ms
        if change_ms is not None and unsure_until_ms is not None:
            change_ms = max(change_ms, unsure_until_ms)
        due_ms = (change_ms, self._usability.next_change_ms(now_ms), self._book.timer_at(), self._term.timer_ms)
        self._timer_ms = min((at_ms for at_ms in due_ms if at_ms is not None), default=None)


def _with_right_time(reading: Reading, measured_ms: int) -> Reading:
    """The reading as it was measured by the clock of arrival; its sender's clock is wrong by the difference."""
    return replace(
        reading,
        at_ms=measured_ms,
        sensor_flags=reading.sensor_flags | SensorFlag.CLOCK_CORRECTED,
        clock_ms=reading.at_ms - measured_ms,
    )


def _of_nobody(reading: Reading) -> Reading:
    """A reading that was measured after the binding had ended: nobody knows whose values these are."""
    return replace(reading, unusable=ALL_SIGNS)


def _usable_values(reading: Reading) -> _Values:
    unusable = reading.unusable
    return [
        (sign, value)
        for sign, name, bit in _COLUMNS
        if (value := getattr(reading, name)) is not None and not unusable & bit
    ]
