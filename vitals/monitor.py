"""PatientMonitor: one patient's readings become judged readings, scores, windows, freshness and alarms.

The state machine that puts the kernel together. No I/O, no clock: time is in the messages and in `on_timer`. Its whole
state is one small value that can be saved after any call, and a message that comes twice changes nothing.

The monitor takes each message, decides what of it counts, and tells its three parts: `stay_values` (what was measured
and entered), `stay_devices` (which devices there are, and from when to when anybody is monitored) and `stay_judge` (the
rules, their order, and when the next timer is due). Each of them is made of parts that have a module and a state of
their own. `stay_state` puts all of it into a snapshot.
"""

from typing import Final, Self

from msgspec.structs import replace

from vitals import stay_state
from vitals.alarms import ClockText, clock_text
from vitals.latest import ALL_SIGNS
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    BindingPeriod,
    Event,
    ModelScore,
    MonitoringEnded,
    Observation,
    ObservationRecorded,
    Reading,
    ReadingJudged,
    SensorFlag,
    Silence,
)
from vitals.observations import FUTURE_MS, values_of, why_refused
from vitals.plan import MonitoringPlan
from vitals.quality import judge_late
from vitals.signs import INDEX, SPEC, VitalSign
from vitals.sources import Source, by_person
from vitals.stay_state import StayState
from vitals.stay_values import Values
from vitals.stay_windows import StayWindows
from vitals.view import PatientView

_COLUMNS: Final = tuple((sign, sign.value, 1 << INDEX[sign]) for sign in SPEC)
_WORN: Final = frozenset({VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE, VitalSign.SPO2})


class PatientMonitor:
    """One patient's stay: its devices and the people at the bed, judged together.

    Readings may come in any order. One that is older than the newest of the same device goes to the record and the
    windows and is not scored by itself; its value of a sign that was not measured since counts from the next reading
    on. One that is in the order of its device and a little behind another device is scored as of the newest moment of
    the stay, its values with their age.

    Args:
        stay_id: which stay of which patient; the binding of its first device has the same id.
        plan: what was ordered. A plan is not part of the snapshot: it is stored elsewhere.
        clock: writes the times in texts, in the time zone of the plan.
        windows: other windows than those of the plan.
    """

    def __init__(
        self,
        stay_id: str,
        plan: MonitoringPlan,
        clock: ClockText = clock_text,
        *,
        windows: StayWindows | None = None,
    ) -> None:
        self._set_up(stay_id, plan, stay_state.new(stay_id, plan, clock, windows))

    def on_reading(self, reading: Reading) -> list[Event]:
        """One reading. A reading that was applied before changes nothing and repeats the alarms that are open."""
        self.moved_ms = 0
        sources, known = self._sources, self._values
        events: list[Event] = []
        source = sources.first if not reading.binding_id else self._source(reading.binding_id, reading.heard_ms, events)
        if source is None:  # its binding ended so long ago that it is kept no longer: for the record only
            reading = _of_nobody(reading) if self._devices.is_unowned(reading) else reading
            return [ReadingJudged(reading=judge_late(reading), late=True, backfilled=True)]
        if not source.seen.add(reading.session_id, reading.counter):
            return list(self._book.open())
        clock = source.clock
        measured_ms = clock.measured_ms(reading.at_ms, reading.heard_ms, reading.age_ms)
        if clock.moved_ms or measured_ms != reading.at_ms:
            reading = self._with_corrected_time(reading, source, measured_ms, events)
        late = source.frontier_ms is not None and reading.at_ms < source.frontier_ms
        backfilled = reading.heard_ms - reading.at_ms > self.plan.backfill_after_ms
        if self._term.has_ended:
            backfilled = True  # for the record only
            if self._term.is_after_end(reading.at_ms):
                reading = _of_nobody(reading)
        elif source.term.ended_ms is not None and reading.at_ms > source.term.ended_ms:
            return [ReadingJudged(reading=_of_nobody(reading), late=late, backfilled=True)]
        if reading.activity and not backfilled:
            self._judge.hold.activity.note(reading)
        judged = judge_late(reading) if late else source.quality.judge(reading)
        values = _usable_values(judged)
        is_off = source.quality.sensor_off_since_ms is not None
        if not backfilled and (late or source.quality.has_unusual or self._usability.is_watching):
            self._usability.on_reading(judged, is_off=is_off, source=source.tag)
        events.append(ReadingJudged(reading=judged, late=late, backfilled=backfilled))
        self._windows.add(values, judged.at_ms, events)
        if late:
            self._judge.learn_late(values, judged.at_ms, source.tag, backfilled, events)
            self._judge.judge_late(judged, values, backfilled, events)
            return events
        if judged.battery is not None:
            source.battery = judged.battery
        if sources.others:
            source.note(judged)
        off = self._devices.off
        if off.until_ms is not None and not backfilled:
            off.on_reading(judged.at_ms, is_usable=any(sign in _WORN for sign, _ in values), is_off=is_off)
        now_ms = source.frontier_ms = judged.at_ms
        if known.frontier_ms is not None and now_ms < known.frontier_ms:
            if backfilled:
                self._judge.learn_late(values, judged.at_ms, source.tag, backfilled, events)
                self._judge.judge_late(judged, values, backfilled, events)
                return events
            now_ms = known.frontier_ms  # another source was a little faster
        known.frontier_ms = now_ms
        self._judge.learn(values, judged, source, now_ms, backfilled, events)
        self._windows.close(judged.at_ms, events)
        if backfilled:
            self._judge.judge_backlog(judged, values, now_ms, events)
        else:
            self._judge.judge_reading(judged, source, now_ms, events)
        return events

    def on_observation(self, observation: Observation) -> list[Event]:
        """What a person observed and entered. It is judged as a reading is, also when no device is heard.

        The same observation again changes nothing and repeats the alarms that are open. One that does not count is
        recorded with the reason.
        """
        known = self._values
        if not known.observations.add(observation.observation_id):
            return list(self._book.open())
        late = known.is_late(observation.at_ms)
        refused = self._devices.why_refused(observation.at_ms) or why_refused(
            observation, future_ms=max(FUTURE_MS, self.plan.clock_bound_ms)
        )
        if refused:
            return [ObservationRecorded(observation=observation, late=late, refused=refused)]
        at_ms, source = min(observation.at_ms, observation.heard_ms), by_person(observation.by)
        values = values_of(observation)
        now_ms = at_ms if known.frontier_ms is None else max(at_ms, known.frontier_ms)
        remark = ""
        if observation.corrects and not known.take_back(observation.corrects):
            remark = "the observation that it corrects is not known here any more; it counts by itself"
        events: list[Event] = [ObservationRecorded(observation=observation, late=late, remark=remark)]
        known.frontier_ms = now_ms
        newer = known.put_entered(observation.observation_id, values, at_ms, source)
        heard_ms = max(now_ms, observation.heard_ms)
        if observation.off_until_ms is not None and self._devices.off.begin(at_ms, observation.off_until_ms, heard_ms):
            self._judge.calm_devices(heard_ms, events)
        self._judge.learn_entered(newer, at_ms, now_ms, events)
        if values or observation.corrects:
            self._judge.judge_observation(observation, newer, source, now_ms, events)
        self._judge.reschedule(heard_ms)
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
        return self._judge.models.on_score(score, is_recorded_only=self._term.has_ended)

    def knows(self, period: BindingPeriod) -> bool:
        """Whether `on_binding` would change nothing."""
        return self._devices.knows(period)

    def on_binding(self, period: BindingPeriod) -> list[Event]:
        """The registry says from when to when a device is on this patient.

        From then on silence is an alarm, also if no reading ever comes. With the end of the stay every alarm ends, and
        what is still heard of it goes to the record only. With the end of a binding while the stay goes on, what
        concerns the device ends, and its values become old.
        """
        events: list[Event] = []
        if self._devices.knows(period):
            return events
        self._devices.accept(period, self._source(period.device, period.heard_ms, events))
        self._end_what_is_due(period.heard_ms, events)
        self._judge.reschedule(period.heard_ms)
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
        self._judge.reschedule(message.at_ms)
        return events

    @property
    def has_new_orders(self) -> bool:
        """Whether the plan was made from other orders than those that the patient was judged by so far."""
        return not self._judge.readings.ordered.is_judged_by_plan

    def on_orders(self, now_ms: int) -> list[Event]:
        """From here on, judge by the orders of the plan. What stands stays, and says that the orders have changed.

        Nothing happens if the patient is judged by these orders already.
        """
        events: list[Event] = []
        if not self.has_new_orders:
            return events
        self._judge.readings.ordered.accept_plan()
        if self._term.has_ended:
            return events
        now_ms = max(now_ms, self._values.frontier_ms or now_ms)
        self._judge.on_orders(now_ms, events)
        return events + self.on_timer(now_ms)

    def on_timer(self, now_ms: int) -> list[Event]:
        """Time has passed: signs become late, stale, lost; what depends on them becomes unknown; silences end."""
        events: list[Event] = []
        self._end_what_is_due(now_ms, events)
        if self._term.has_ended:
            self._judge.timer_ms = None
        else:
            self._judge.on_timer(now_ms, events)
        return events

    def shift(self, by_ms: int) -> None:
        """The clock of this place was set by so much: move the whole state with it, so that no interval changes."""
        self._sources.shift_clocks(by_ms)
        self._move(by_ms)
        judge, end_ms = self._judge, self._term.timer_ms
        if end_ms is not None:  # an end that the registry has signed stays where it is
            judge.timer_ms = min(judge.timer_ms or end_ms, end_ms)

    def timer_at(self) -> int | None:
        """When `on_timer` has to be called next; that may be too early, never too late.

        Also when the plan ends: then the monitor has to be restored with the next one.
        """
        timer_ms = self._judge.timer_ms
        if self.plan.until_ms is None or self._term.has_ended:
            return timer_ms
        return self.plan.until_ms if timer_ms is None else min(timer_ms, self.plan.until_ms)

    def open_alarms(self) -> list[AlarmChanged]:
        """Every alarm that is open, as it was last announced."""
        return self._book.open()

    def latest(self) -> dict[VitalSign, tuple[float, int]]:
        """The newest usable value of each sign, and when it was measured, however long ago."""
        return {sign: (latest.value, latest.at_ms) for sign, latest in self._values.latest.by_sign.items()}

    @property
    def last_score_ms(self) -> int | None:
        """Event time of the newest score of any model."""
        return self._judge.models.newest_ms

    def view(self, now_ms: int) -> PatientView:
        """What a screen may show at `now_ms`: every value with its age, nothing stale as current."""
        values, devices, judge = self._state
        return PatientView(
            stay_id=self.stay_id,
            seen_ms=values.frontier_ms,
            news2=values.latest.news2(now_ms),
            news2_before=judge.readings.history.points(),
            signs=judge.freshness.views(now_ms),
            models=judge.models.views(now_ms),
            sensor_off_since_ms=devices.sources.first.quality.sensor_off_since_ms,
            alarms=tuple(self._book.open()),
            group=self.plan.group,
            devices=devices.views(now_ms),
            off_until_ms=devices.off.until_ms if devices.off.is_on(now_ms) else None,
            activity=judge.hold.activity.at(now_ms),
            held=judge.hold.texts(),
        )

    def snapshot(self) -> bytes:
        """The complete state."""
        return self._state.encode()

    @classmethod
    def restore(cls, stay_id: str, snapshot: bytes | None, plan: MonitoringPlan, clock: ClockText = clock_text) -> Self:
        """The monitor in the state of a snapshot; a new one for None.

        Raises:
            BadSnapshot: the bytes are damaged or were written by a newer version.
        """
        if snapshot is None:
            return cls(stay_id, plan, clock)
        # Without __init__: a worker that takes over has a hundred thousand monitors to restore.
        monitor = cls.__new__(cls)
        monitor._set_up(stay_id, plan, stay_state.decode(stay_id, snapshot, plan, clock))
        return monitor

    def _set_up(self, stay_id: str, plan: MonitoringPlan, state: StayState) -> None:
        self.stay_id = stay_id
        self.plan = plan
        self._state = state
        self._values, self._devices, self._judge = state
        # Asked for at every reading.
        self._windows = state.values.windows
        self._sources = state.devices.sources
        self._term = state.devices.term
        self._usability = state.judge.usability
        self._book = state.judge.book
        self.moved_ms = 0  # by how much the last reading moved the whole state; see `vitals.sender_clock`
        self._corrected = (b"", 0)  # id of the last reading whose time was corrected, and that time

    def _move(self, by_ms: int) -> None:
        """Move every event time."""
        for part in self._state:
            part.shift(by_ms)

    def _with_corrected_time(self, reading: Reading, source: Source, measured_ms: int, events: list[Event]) -> Reading:
        """The clock of a device is, or turned out to be, wrong: the reading as of when it was measured."""
        moved_ms, source.clock.moved_ms = source.clock.moved_ms, 0
        if moved_ms:  # what was heard so far was live, and its times were wrong by as much
            self._correct_times(source, moved_ms, measured_ms, events)
        if measured_ms == reading.at_ms:
            return reading
        self._corrected = (reading.reading_id, measured_ms)
        return _with_right_time(reading, measured_ms)

    def _correct_times(self, source: Source, by_ms: int, measured_ms: int, events: list[Event]) -> None:
        """The times of a device move, and all times if nothing else has given any."""
        known = self._values
        if not self._sources.others and not known.latest.has_entered:
            self.moved_ms = by_ms
            self._move(by_ms)
            events += self._book.announce_all(measured_ms)
            return
        source.shift(by_ms)
        known.latest.shift_source(source.tag, by_ms)
        self._judge.readings.shift_source(source.tag, by_ms)
        if source.frontier_ms is not None and known.frontier_ms is not None:
            known.frontier_ms = max(known.frontier_ms, source.frontier_ms)

    def _source(self, binding_id: str, now_ms: int, events: list[Event]) -> Source | None:
        """The state of a device; None if its binding has ended and nothing else is known of it any more."""
        sources = self._sources
        source = sources.find(binding_id)
        if source is not None or binding_id in sources.forgotten:
            return source
        source, gone = sources.add(binding_id)
        if gone is not None:
            self._judge.readings.forget(gone.tag)
            self._judge.end_of_device(gone, now_ms, now_ms, events)
        return source

    def _end_what_is_due(self, now_ms: int, events: list[Event]) -> None:
        """The stay, or bindings of it, have ended."""
        term = self._term
        if term.is_due_to_end(now_ms):
            ended_ms = term.ended_ms if term.ended_ms is not None else now_ms
            term.has_ended = True
            self._devices.off.end()
            self._judge.end(now_ms, ended_ms, events)
            events.append(MonitoringEnded(stay_id=self.stay_id, at_ms=now_ms, ended_ms=ended_ms))
        for source in self._sources:
            if source.term.is_due_to_end(now_ms):
                source.term.has_ended = True
                if not term.has_ended:
                    self._judge.end_of_device(source, now_ms, source.term.ended_ms or now_ms, events)


def _with_right_time(reading: Reading, measured_ms: int) -> Reading:
    """The reading as it was measured by the clock of arrival; its sender's clock is wrong by the difference."""
    return replace(
        reading,
        at_ms=measured_ms,
        sensor_flags=reading.sensor_flags | SensorFlag.CLOCK_CORRECTED,
        clock_ms=reading.at_ms - measured_ms,
    )


def _of_nobody(reading: Reading) -> Reading:
    """A reading that was measured after its binding had ended: nobody knows whose values these are."""
    return replace(reading, unusable=ALL_SIGNS)


def _usable_values(reading: Reading) -> Values:
    unusable = reading.unusable
    return [
        (sign, value)
        for sign, name, bit in _COLUMNS
        if (value := getattr(reading, name)) is not None and not unusable & bit
    ]
