"""Judges one stay: which rules are judged after a reading, an observation and a timer, in which order, and when next.

Each kind of rule has a module and a state of its own: `judge` (readings), `usability` (values that are not ordinary),
`disagreement` (sources that contradict each other), `sign_freshness` (missing data), `model_scores` (models);
`conditions` and `alarms` are what is open, `activity_hold` what waits because the patient walks.
"""

from vitals import news2
from vitals.activity_hold import ActivityHold
from vitals.alarms import AlarmBook, ClockText
from vitals.conditions import Conditions, JudgingContext
from vitals.disagreement import Disagreement
from vitals.judge import ReadingJudge
from vitals.limit_texts import limits_text
from vitals.messages import Event, News2Scored, Observation, Reading
from vitals.model_scores import ModelScores
from vitals.plan import MonitoringPlan
from vitals.sign_freshness import SignFreshness
from vitals.signs import INDEX, mask_of
from vitals.sources import Source
from vitals.stay_devices import StayDevices
from vitals.stay_values import StayValues, Values
from vitals.usability import SignUsability


class StayJudge:
    """The rules of one stay.

    Args:
        stay_id: which stay.
        plan: what was ordered.
        book: the alarms.
        clock: writes the times in texts.
        values: what was measured and entered.
        devices: the devices, and the term of the stay.

    Attributes:
        timer_ms: when `on_timer` has to be called next; that may be too early, never too late. None: never.
    """

    __slots__ = (
        "_latest", "_off", "_plan", "_sources", "_stay_id", "_term", "_values", "book", "conditions", "disagreement",
        "freshness", "hold", "models", "readings", "timer_ms", "usability",
    )  # fmt: skip

    def __init__(
        self,
        stay_id: str,
        plan: MonitoringPlan,
        book: AlarmBook,
        clock: ClockText,
        values: StayValues,
        devices: StayDevices,
    ) -> None:
        self._stay_id = stay_id
        self._plan = plan
        self._values = values
        self._latest = latest = values.latest
        self._sources = devices.sources
        self._term = devices.term
        self._off = devices.off
        self.book = book
        self.hold = ActivityHold(plan, latest, book, clock)
        self.conditions = Conditions(book, plan.group.short_note, self.hold)
        self.usability = SignUsability(plan, self.conditions)
        sources = devices.sources
        self.disagreement = Disagreement(plan, latest, self.conditions, sources.is_open, sources.label_of)
        self.freshness = SignFreshness(
            stay_id,
            plan,
            latest,
            self.conditions,
            usability=self.usability,
            term=devices.term,
            clock=clock,
            devices_off=devices.off,
        )
        self.readings = ReadingJudge(plan, latest, self.conditions, clock, self.hold.baselines)
        self.models = ModelScores(plan, latest, self.conditions)
        self.timer_ms: int | None = None

    def learn(
        self, values: Values, reading: Reading, source: Source, now_ms: int, backfilled: bool, events: list[Event]
    ) -> None:
        """The values of a reading in the order of its device become the newest ones."""
        at_ms = reading.at_ms
        if self._latest.learn(values, at_ms, source.tag):
            self.reschedule(now_ms)
        self.readings.learn(values, at_ms, source.tag)
        if backfilled:
            return
        if self._term.first_ms is None:
            self.freshness.on_first_reading(at_ms, events)
            self.reschedule(now_ms)
        if at_ms == now_ms:
            is_back = self.freshness.on_values(values, at_ms, reading.heard_ms, events)
        else:
            newest = [(sign, value) for sign, value in values if self._latest.counts(sign, at_ms, source.tag)]
            is_back = self.freshness.on_late_values(newest, at_ms, now_ms, events)
        if is_back:
            self.freshness.judge_missing_data(now_ms, events)
            self.reschedule(now_ms)

    def learn_late(self, values: Values, at_ms: int, source: str, backfilled: bool, events: list[Event]) -> None:
        """The values of a reading out of order: they count where nothing newer is known."""
        now_ms = self._values.frontier_ms or at_ms
        newer = self._values.put_late(values, at_ms, source)
        if not backfilled and self.freshness.on_late_values(newer, at_ms, now_ms, events):
            self.freshness.judge_missing_data(now_ms, events)
        self.reschedule(now_ms)

    def learn_entered(self, newer: Values, at_ms: int, now_ms: int, events: list[Event]) -> None:
        """Values that a person observed became the newest ones."""
        if self.freshness.on_late_values(newer, at_ms, now_ms, events):
            self.freshness.judge_missing_data(now_ms, events)

    def judge_reading(self, reading: Reading, source: Source, now_ms: int, events: list[Event]) -> None:
        """Score and judge the newest values, after a reading that came in time."""
        at_ms, missing = reading.at_ms, self._latest.missing(now_ms)
        score = self._score(now_ms, reading.reading_id, events)
        if self.hold.activity.is_known:
            self.hold.begin(now_ms, reading.heard_ms - at_ms, score)
        if at_ms != now_ms:  # what has just come is judged, however slow the device is
            for sign, held in self._latest.by_sign.items():
                if held.at_ms == at_ms and held.source == source.tag:
                    missing &= ~(1 << INDEX[sign])
        context = JudgingContext(now_ms, reading.reading_id, missing, events, at_ms, source.tag)
        self._judge_values_of(score, context)
        has_several = bool(self._sources.others)
        is_off = self._off.until_ms is not None and self._off.is_on(now_ms)
        if not source.term.has_ended:
            off_since_ms = None if is_off else source.quality.sensor_off_since_ms
            self.readings.judge_device(reading, off_since_ms, context, source if has_several else None)
        if has_several and not is_off:
            self.readings.judge_silence(self._sources, context)
        if self.usability.is_watching or self.disagreement.is_watching:
            self._judge_watched(context)
        self._end_hold(now_ms, events)
        if score is not None:
            self.readings.history.add(now_ms, score)

    def judge_observation(
        self, observation: Observation, newer: Values, source: str, now_ms: int, events: list[Event]
    ) -> None:
        """Score and judge the newest values, after a person entered or corrected some.

        Args:
            observation: what was entered.
            newer: its values that became the newest ones.
            source: who entered them.
            now_ms: event time of the newest message.
        """
        score = self._score(now_ms, observation.observation_id, events)
        at_ms = min(observation.at_ms, observation.heard_ms)
        certain, missing = mask_of(*(sign for sign, _ in newer)), self._latest.missing(now_ms)
        context = JudgingContext(now_ms, observation.observation_id, missing, events, at_ms, source, certain)
        if self.hold.activity.is_known:
            self.hold.begin(now_ms, observation.heard_ms - at_ms, score)
        if observation.corrects:  # what the wrong value caused is not known any more, where nothing replaces it
            self.conditions.mark_missing(self._plan.rules, missing, now_ms, events)
        self._judge_values_of(score, context)
        self._judge_watched(context)
        self._end_hold(now_ms, events)
        if score is not None:
            self.readings.history.add(now_ms, score)

    def judge_late(self, reading: Reading, values: Values, backfilled: bool, events: list[Event]) -> None:
        """A reading that came out of the order of its device is not scored with the newest values."""
        if backfilled:
            events += self.readings.judge_backfilled(reading, values)
        elif self.usability.is_watching:
            now_ms = self._values.frontier_ms or reading.at_ms
            self._judge_usability(JudgingContext(now_ms, reading.reading_id, 0, events))

    def judge_backlog(self, reading: Reading, values: Values, now_ms: int, events: list[Event]) -> None:
        """A reading that is in order and came too late to sound: its alarms are for the record only."""
        score = self._score(now_ms, reading.reading_id, events)
        events += self.readings.judge_backfilled(reading, values)
        if score is not None and self._sources.unsure_until_ms() is None:
            self.readings.history.add(now_ms, score)

    def on_orders(self, now_ms: int, events: list[Event]) -> None:
        """Other orders hold. What stands stays, and says so."""
        events += self.book.accept_orders(now_ms, is_watched=self._plan.watches, limits_of=limits_text)
        self.freshness.judge_missing_data(now_ms, events)

    def on_timer(self, now_ms: int, events: list[Event]) -> None:
        """Time has passed: signs become late, stale, lost; what depends on them becomes unknown; silences end."""
        unsure_until_ms = self._sources.unsure_until_ms()
        is_sure = unsure_until_ms is None or now_ms >= unsure_until_ms
        is_back_expected = self._off.until_ms is not None and not self._off.is_on(now_ms)
        if is_back_expected:
            self._off.end()
        if is_sure and (self.freshness.on_timer(now_ms, events) or is_back_expected):
            self.freshness.judge_missing_data(now_ms, events)
            self.conditions.mark_missing(self._plan.rules, self._latest.missing(now_ms), now_ms, events)
        elif self._latest.has_entered:
            too_old = self._latest.missing(now_ms) & self._latest.entered_mask
            self.conditions.mark_missing(self._plan.rules, too_old, now_ms, events)
        self.usability.on_timer(now_ms, events)
        if self.disagreement.is_watching:
            self.disagreement.on_timer(now_ms, events)
        events += self.hold.on_timer(now_ms)
        events += self.book.on_timer(now_ms)
        self.reschedule(now_ms)

    def calm_devices(self, now_ms: int, events: list[Event]) -> None:
        """Devices are off on purpose: nobody is called for that."""
        self.readings.calm_devices(self._sources, JudgingContext(now_ms, b"", 0, events))

    def end_of_device(self, device: Source, now_ms: int, ended_ms: int, events: list[Event]) -> None:
        """A device is no longer on the patient, and the stay goes on."""
        events += self.book.end_of_device(self.readings.places_of(device), at_ms=now_ms, ended_ms=ended_ms)

    def end(self, now_ms: int, ended_ms: int, events: list[Event]) -> None:
        """The stay has ended: its alarms, silences and timers end."""
        self.freshness.end()
        self.usability.end()
        self.disagreement.end()
        events += self.hold.end_of_stay()
        events += self.book.end(at_ms=now_ms, ended_ms=ended_ms)

    def reschedule(self, now_ms: int) -> None:
        """Work out when time alone changes something next."""
        if self._term.has_ended:
            self.timer_ms = None
            return
        change_ms, unsure_until_ms = self.freshness.next_change_ms(now_ms), self._sources.unsure_until_ms()
        if change_ms is not None and unsure_until_ms is not None:
            change_ms = max(change_ms, unsure_until_ms)
        due_ms: tuple[int | None, ...] = (
            change_ms,
            self.usability.next_change_ms(now_ms),
            self.book.timer_at(),
            self._term.timer_ms,
            self._off.until_ms,
            self.hold.timer_at(),
        )
        if self.disagreement.is_watching or self._latest.has_entered:
            due_ms = (*due_ms, self.disagreement.next_change_ms(), self._latest.next_expiry_ms(now_ms))
        self.timer_ms = min((at_ms for at_ms in due_ms if at_ms is not None), default=None)

    def shift(self, by_ms: int) -> None:
        """Move every event time."""
        for part in (self.readings, self.book, self.models, self.usability, self.disagreement, self.hold):
            part.shift(by_ms)
        if self.timer_ms is not None:
            self.timer_ms += by_ms

    def _score(self, now_ms: int, reading_id: bytes, events: list[Event]) -> news2.News2 | None:
        """NEWS2 of the newest values, as an event; None: there is none for this patient."""
        score = self._latest.news2(now_ms)
        if score is not None:
            events.append(self._scored(score, reading_id, now_ms, self._latest.note(score, now_ms)))
        return score

    def _judge_values_of(self, score: news2.News2 | None, context: JudgingContext) -> None:
        if score is not None:
            self.readings.judge_news2(score, context)
            if self.freshness.update_news2(self._latest.news2_of_any_age(score).at_least):
                # How urgent a missing sign is depends on how ill the patient is.
                self.freshness.judge_missing_data(context.at_ms, context.events)
                self.reschedule(context.at_ms)
        self.readings.judge_signs(score, context)

    def _judge_watched(self, context: JudgingContext) -> None:
        """Judge what is watched over time, whatever has just come."""
        if self.disagreement.is_watching:
            self.disagreement.judge(context)
            self.reschedule(context.at_ms)
        if self.usability.is_watching:
            self._judge_usability(context)

    def _judge_usability(self, context: JudgingContext) -> None:
        self.usability.judge(context)
        self.reschedule(context.at_ms)

    def _end_hold(self, now_ms: int, events: list[Event]) -> None:
        """The rules were judged: what an activity explains no more comes out."""
        if self.hold.held:
            events += self.hold.end(now_ms)
            self.reschedule(now_ms)

    def _scored(self, score: news2.News2, reading_id: bytes, at_ms: int, measure_every_ms: int) -> News2Scored:
        return News2Scored(
            stay_id=self._stay_id,
            reading_id=reading_id,
            at_ms=at_ms,
            total=score.total,
            at_least=score.at_least,
            risk=news2.risk_text(score),
            spo2_scale=score.spo2_scale,
            parts=score.parts,
            due=score.due,
            measure_every_ms=measure_every_ms,
            orders_version=self._plan.orders_version,
        )
