"""PatientMonitor: one patient's readings become judged readings, scores, windows, freshness and alarms.

The state machine that puts the kernel together. No I/O, no clock: time is in the messages and in `on_timer`. Its whole
state is one small value that can be saved after any call, and a message that comes twice changes nothing.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, Self, TypeAlias

import msgspec

from vitals import news2, scores
from vitals.alarms import AlarmBook, Observation, clock_text
from vitals.baseline import Baseline
from vitals.errors import BadSnapshot
from vitals.freshness import Freshness, Limits, limits_for, next_change_ms, state_at
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    Event,
    FreshnessChanged,
    ModelScore,
    ModelScored,
    News2Part,
    News2Scored,
    Reading,
    ReadingJudged,
    SensorFlag,
    Silence,
    WindowClosed,
    WindowOutdated,
)
from vitals.plan import MEASURED, MonitoringPlan
from vitals.quality import Quality, judge_late
from vitals.risk import duration, explain_news2, probability_of
from vitals.rules import Level, Rule
from vitals.seen import Seen
from vitals.signs import INDEX, SIGNS, SPEC, VitalSign
from vitals.windows import Windows

SNAPSHOT_VERSION: Final = 1

SCORE_VALID_MS: Final = 15 * 60_000
"""A model's score that is older is not shown as current."""

_HISTORY_STEP_MS: Final = 30 * 60_000
_HISTORY_MS: Final = 2 * 3_600_000
_HOUR_MS: Final = 3_600_000
_LEARNING: Final = (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE)
_CLOCK_FLAGS: Final = int(SensorFlag.CLOCK_CORRECTED | SensorFlag.CLOCK_CLAMPED)
_ALL: Final = tuple((sign, sign.value, 1 << INDEX[sign]) for sign in SPEC)
_MEASURED: Final = frozenset(MEASURED)


class _Latest(NamedTuple):
    value: float
    at_ms: int


class _Asked(msgspec.Struct, array_like=True):
    """What one model last said."""

    at_ms: int
    version: str
    score: float | None
    threshold: float
    reason: str
    silent_since_ms: int | None  # since when it could not judge


class PatientMonitor:
    """One patient, by binding.

    Readings may come in any order. One that is older than what is known goes to the record and the windows and is not
    scored by itself; what it says of a sign that nobody has measured since counts from the next reading on.

    Args:
        binding_id: which device on which patient.
        plan: what was ordered. A plan is not part of the snapshot: it has a keeper of its own.
    """

    def __init__(self, binding_id: str, plan: MonitoringPlan) -> None:
        self._follow(binding_id, plan)
        self._seen = Seen()
        self._quality = Quality()
        self._windows = Windows(plan.window_ms, lateness_ms=plan.lateness_ms)
        self._book = AlarmBook(binding_id, plan.rules)
        self._baselines = {sign: Baseline() for sign in _LEARNING}
        self._latest: dict[VitalSign, _Latest] = {}
        self._fresh: dict[VitalSign, Freshness] = {}
        self._frontier_ms: int | None = None
        self._news2: int | None = None  # as last seen: decides how soon silence matters
        # Rule and key -> the signs that made it true. It is over only when each of them was seen to be better: a score
        # that falls because a part of it went missing is no recovery.
        self._blame: dict[tuple[str, str], int] = {}
        self._history: list[list[int]] = []  # [at_ms, at_least, complete], for "2 h ago 3"
        self._timer_ms: int | None = None
        self._asked: dict[str, _Asked] = {}  # by model

    def on_reading(self, reading: Reading) -> list[Event]:
        """One reading. A reading that was applied before changes nothing and repeats the alarms that stand."""
        if not self._seen.add(reading.session_id, reading.counter):
            return list(self._book.open())
        late = self._frontier_ms is not None and reading.at_ms < self._frontier_ms
        backfilled = reading.heard_ms - reading.at_ms > self.plan.backfill_after_ms
        judged = judge_late(reading) if late else self._quality.judge(reading)
        events: list[Event] = [ReadingJudged(reading=judged, late=late, backfilled=backfilled)]
        self._count_in(judged, events)
        if late:
            self._learn_late(judged, backfilled, events)
            if backfilled:
                self._look_back(judged, events)
            return events
        self._frontier_ms = judged.at_ms
        self._learn(judged, backfilled, events)
        events += self._close_windows(judged.at_ms)
        score = self._score(judged.at_ms)
        events.append(self._scored(score, judged))
        if backfilled:
            self._look_back(judged, events)
        else:
            self._judge(judged, score, events)
        self._remember(judged.at_ms, score)
        return events

    def on_score(self, score: ModelScore) -> list[Event]:
        """One output of one model. It may raise an alarm of its own; it never touches those of the rules.

        One that is older than what the model has said since goes to the record; the same one again changes nothing.
        """
        last = self._asked.get(score.model)
        if last is not None and score.at_ms == last.at_ms:
            return []
        late = last is not None and score.at_ms < last.at_ms
        backfilled = score.heard_ms - score.at_ms > self.plan.backfill_after_ms
        events: list[Event] = [ModelScored(score=score, late=late, backfilled=backfilled)]
        if late or backfilled:
            return events
        probability = probability_of(score)
        silent_since_ms = None if last is None else last.silent_since_ms
        if probability is not None:
            silent_since_ms = None
        elif silent_since_ms is None:
            silent_since_ms = score.at_ms
        self._asked[score.model] = _Asked(
            score.at_ms, score.version, probability, score.threshold, score.reason, silent_since_ms
        )
        self._judge_model(score, probability, silent_since_ms, _Facts(score.at_ms, score.reading_id, 0, events))
        return events

    def on_acknowledge(self, message: Acknowledge) -> list[Event]:
        """Somebody has seen an alarm. Nothing happens if it is not open."""
        return list(
            self._book.acknowledge(message.alarm_id, by=message.by, at_ms=message.at_ms, revision=message.revision)
        )

    def on_silence(self, message: Silence) -> list[Event]:
        """Somebody wants a condition quiet until a moment."""
        events: list[Event] = list(
            self._book.silence(message.rule_id, by=message.by, at_ms=message.at_ms, until_ms=message.until_ms)
        )
        self._reschedule(message.at_ms)
        return events

    def on_timer(self, now_ms: int) -> list[Event]:
        """Time has passed: signs become late, stale, lost; what rested on them is no longer known; silences end."""
        events: list[Event] = []
        aged = False
        for sign, latest in self._latest.items():
            if sign not in _MEASURED:
                continue
            state = state_at(now_ms - latest.at_ms, self._limits(sign))
            # Time makes nothing fresher: neither backfill nor wider limits end a silence, only a live value does.
            if state > self._fresh.get(sign, Freshness.FRESH):
                self._fresh[sign] = state
                aged = aged or state >= Freshness.STALE
                events.append(self._freshness(sign, state, now_ms))
        if aged:
            self._judge_silence(now_ms, events)
            self._lose_sight(now_ms, events)
        events += self._book.on_timer(now_ms)
        self._reschedule(now_ms)
        return events

    def timer_at(self) -> int | None:
        """When `on_timer` is wanted next; it may be wanted too early, never too late."""
        return self._timer_ms

    def open_alarms(self) -> list[AlarmChanged]:
        """Every alarm that stands, as it was last announced."""
        return self._book.open()

    def latest(self) -> dict[VitalSign, tuple[float, int]]:
        """The newest usable value of each sign, and when it was measured, however long ago."""
        return {sign: (latest.value, latest.at_ms) for sign, latest in self._latest.items()}

    @property
    def asked_ms(self) -> int | None:
        """When a model was last heard."""
        return max((asked.at_ms for asked in self._asked.values()), default=None)

    def view(self, now_ms: int) -> "PatientView":
        """What a screen may show at `now_ms`: every value with its age, nothing stale as current."""
        score = self._score(now_ms)
        return PatientView(
            binding_id=self.binding_id,
            seen_ms=self._frontier_ms,
            news2=score,
            news2_before=tuple((at_ms, at_least) for at_ms, at_least, _ in self._history),
            signs=tuple(
                SignView(
                    sign=sign,
                    value=latest.value,
                    age_ms=now_ms - latest.at_ms,
                    freshness=state_at(now_ms - latest.at_ms, self._limits(sign)),
                )
                for sign, latest in self._latest.items()
            ),
            models=tuple(
                ModelView(
                    model=model,
                    version=asked.version,
                    score=asked.score if now_ms - asked.at_ms <= SCORE_VALID_MS else None,
                    threshold=asked.threshold,
                    age_ms=now_ms - asked.at_ms,
                    reason=asked.reason,
                )
                for model, asked in self._asked.items()
            ),
            sensor_off_since_ms=self._quality.sensor_off_since_ms,
            alarms=tuple(self._book.open()),
        )

    def snapshot(self) -> bytes:
        """The complete state."""
        return _ENCODER.encode(
            [
                SNAPSHOT_VERSION,
                self._frontier_ms,
                self._news2,
                self._timer_ms,
                [[INDEX[sign], *latest] for sign, latest in self._latest.items()],
                [[INDEX[sign], int(state)] for sign, state in self._fresh.items()],
                [self._baselines[sign].to_state() for sign in _LEARNING],
                self._history,
                [[*place, mask] for place, mask in self._blame.items()],
                self._seen.to_state(),
                self._quality.to_state(),
                self._windows.to_state(),
                self._book.to_state(),
                list(self._asked.items()),
            ]
        )

    @classmethod
    def restore(cls, binding_id: str, snapshot: bytes | None, plan: MonitoringPlan) -> Self:
        """The monitor as it was; a new one for None.

        Raises:
            BadSnapshot: the bytes are damaged or were written by a newer version.
        """
        if snapshot is None:
            return cls(binding_id, plan)
        # Not by way of a new one: a worker that takes over has a hundred thousand of them to restore.
        monitor = cls.__new__(cls)
        monitor._follow(binding_id, plan)
        try:
            monitor._take(msgspec.msgpack.decode(snapshot), plan)
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise BadSnapshot(f"binding {binding_id}: the stored state cannot be read ({error})") from error
        return monitor

    def _follow(self, binding_id: str, plan: MonitoringPlan) -> None:
        self.binding_id = binding_id
        self.plan = plan
        self._rules = _by_quantity(plan.rules)
        self._rules_by_sign = _by_sign(plan.rules)
        self._valid_ms = plan.validity

    def _take(self, state: list[Any], plan: MonitoringPlan) -> None:
        version, self._frontier_ms, self._news2, self._timer_ms, latest, fresh, baselines, *rest = state
        if version != SNAPSHOT_VERSION:
            raise ValueError(f"version {version}, this program reads {SNAPSHOT_VERSION}")
        history, blame, seen, quality, windows, book, *later = rest
        self._latest = {SIGNS[index].sign: _Latest(value, at_ms) for index, value, at_ms in latest}
        self._fresh = {SIGNS[index].sign: Freshness(state) for index, state in fresh}
        self._baselines = {sign: Baseline.from_state(one) for sign, one in zip(_LEARNING, baselines, strict=True)}
        self._history = history
        self._blame = {(rule, key): mask for rule, key, mask in blame}
        self._seen = Seen.from_state(seen)
        self._quality = Quality.from_state(quality)
        self._windows = Windows.from_state(windows, plan.window_ms, lateness_ms=plan.lateness_ms)
        self._book = AlarmBook.from_state(self.binding_id, plan.rules, book)
        # Nothing asked models before there were any.
        self._asked = {model: msgspec.convert(asked, _Asked) for model, asked in later[0]} if later else {}

    # Facts

    def _count_in(self, reading: Reading, events: list[Event]) -> None:
        unusable = reading.unusable
        for sign, name, bit in _ALL:
            value = getattr(reading, name)
            if value is None or unusable & bit or sign not in _MEASURED:
                continue
            events.extend(
                WindowOutdated(
                    binding_id=self.binding_id, sign=name, start_ms=start_ms, width_ms=self._windows.width_ms
                )
                for start_ms in self._windows.add(name, reading.at_ms, value)
            )

    def _close_windows(self, at_ms: int) -> list[Event]:
        return [
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
        ]

    def _learn(self, reading: Reading, backfilled: bool, events: list[Event]) -> None:
        unusable, at_ms = reading.unusable, reading.at_ms
        returned = False
        for sign, name, bit in _ALL:
            value = getattr(reading, name)
            if value is None or unusable & bit:
                continue
            if sign not in self._latest:
                self._latest[sign] = _Latest(value, at_ms)
                self._reschedule(at_ms)
            else:
                self._latest[sign] = _Latest(value, at_ms)
            if sign in self._baselines:
                self._baselines[sign].update(at_ms, value)
            if sign in _MEASURED and not backfilled and self._fresh.get(sign) is not Freshness.FRESH:
                returned = returned or self._fresh.get(sign) is not None
                self._fresh[sign] = Freshness.FRESH
                events.append(self._freshness(sign, Freshness.FRESH, at_ms))
        if returned:
            self._judge_silence(at_ms, events)
            self._reschedule(at_ms)

    def _learn_late(self, reading: Reading, backfilled: bool, events: list[Event]) -> None:
        """A cuff's pressure that was held up for some seconds is the newest pressure there is."""
        unusable, at_ms, now_ms = reading.unusable, reading.at_ms, self._frontier_ms or reading.at_ms
        returned = False
        for sign, name, bit in _ALL:
            value = getattr(reading, name)
            latest = self._latest.get(sign)
            if value is None or unusable & bit or (latest is not None and latest.at_ms >= at_ms):
                continue
            self._latest[sign] = _Latest(value, at_ms)
            if sign in _MEASURED and not backfilled:
                state, before = state_at(now_ms - at_ms, self._limits(sign)), self._fresh.get(sign)
                if state != before:
                    self._fresh[sign] = state
                    returned = returned or before is not None or state >= Freshness.STALE
                    events.append(self._freshness(sign, state, now_ms))
        if returned:
            self._judge_silence(now_ms, events)
        self._reschedule(now_ms)

    def _freshness(self, sign: VitalSign, state: Freshness, now_ms: int) -> FreshnessChanged:
        return FreshnessChanged(
            binding_id=self.binding_id,
            sign=sign.value,
            at_ms=now_ms,
            state=state.name,
            age_ms=now_ms - self._latest[sign].at_ms,
        )

    def _limits(self, sign: VitalSign) -> Limits:
        plan = self.plan
        return limits_for(self._news2, plan.cadence(sign), stale_ms=plan.stale_after_ms, lost_ms=plan.lost_after_ms)

    def _reschedule(self, now_ms: int) -> None:
        due = [
            moment
            for sign, latest in self._latest.items()
            if sign in _MEASURED and (moment := self._next_change(sign, latest.at_ms, now_ms)) is not None
        ]
        silence_ends = self._book.timer_at()
        if silence_ends is not None:
            due.append(silence_ends)
        self._timer_ms = min(due, default=None)

    def _next_change(self, sign: VitalSign, at_ms: int, now_ms: int) -> int | None:
        limits = self._limits(sign)
        if state_at(now_ms - at_ms, limits) > self._fresh.get(sign, Freshness.FRESH):
            return now_ms  # overdue: a change that nobody has been told of yet
        return next_change_ms(at_ms, limits, now_ms)

    # Scores

    def _inputs(self, now_ms: int) -> "_Inputs":
        return {sign: (latest.value, now_ms - latest.at_ms) for sign, latest in self._latest.items()}

    def _score(self, now_ms: int) -> news2.News2:
        return news2.score(self._inputs(now_ms), spo2_scale=self.plan.spo2_scale, valid_ms=self._valid_ms)

    def _as_last_seen(self, score: news2.News2) -> int:
        """NEWS2 with the last value of what is missing, however old: who falls silent is not presumed to be better."""
        if not any(sign in self._latest for sign in score.missing):
            return score.at_least
        last = {sign: (latest.value, 0) for sign, latest in self._latest.items()}
        return news2.score(last, spo2_scale=self.plan.spo2_scale).at_least

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

    def _remember(self, at_ms: int, score: news2.News2) -> None:
        if not self._history or at_ms - self._history[-1][0] >= _HISTORY_STEP_MS:
            self._history.append([at_ms, score.at_least, int(score.total is not None)])
            while self._history[0][0] < at_ms - _HISTORY_MS - _HISTORY_STEP_MS:
                del self._history[0]

    def _explain_news2(self, score: news2.News2, now_ms: int) -> str:
        earlier = next((one for one in self._history if one[0] <= now_ms - _HISTORY_STEP_MS), None)
        if earlier is None:
            return explain_news2(score, None, now_ms)
        return explain_news2(score, (earlier[1], earlier[0]), now_ms, earlier_complete=bool(earlier[2]))

    # Alarms

    def _judge(self, reading: Reading, score: news2.News2, events: list[Event]) -> None:
        facts = _Facts(reading.at_ms, reading.reading_id, self._missing(reading.at_ms), events)
        self._judge_news2(score, facts)
        self._judge_signs(facts)
        self._judge_baselines(facts)
        self._judge_derived(facts)
        self._judge_device(reading, facts)

    def _judge_news2(self, score: news2.News2, facts: "_Facts") -> None:
        for rule in self._rules.get("news2", ()):
            blame = 0
            if score.at_least >= rule.limits[0].threshold:
                blame = sum(_BIT[part.sign] for part in score.parts if part.points)
            explain = partial(self._explain_news2, score, facts.at_ms)
            self._settle(rule, score.at_least, facts, explain, blame=blame, grade=float(score.at_least))
        before, self._news2 = self._news2, self._as_last_seen(score)
        if before is None or _band(before) != _band(self._news2):
            self._reschedule(facts.at_ms)
        for rule in self._rules.get("red_sign", ()):
            for part in score.parts:
                if part.points is None:
                    continue
                if part.points >= rule.limits[0].threshold or self._book.has(rule.rule_id, part.sign):
                    explain = partial(_red_text, part, self.plan.spo2_scale)
                    self._settle(rule, part.points, facts, explain, key=part.sign, blame=_BIT[part.sign])

    def _judge_signs(self, facts: "_Facts") -> None:
        for sign, rules in self._rules_by_sign:
            latest = self._latest.get(sign)
            if latest is None or facts.missing >> INDEX[sign] & 1:
                continue
            for rule in rules:
                # A fast sign is judged where it was measured. A slow one, a cuff's, holds until the next.
                if latest.at_ms == facts.at_ms or self.plan.cadence(sign) > rule.for_ms:
                    explain = partial(_sign_text, rule, sign, latest.value)
                    self._settle(rule, latest.value, facts, explain, blame=1 << INDEX[sign])

    def _judge_baselines(self, facts: "_Facts") -> None:
        for sign, quantity in _BASELINES:
            for rule in self._rules.get(quantity, ()):
                latest, baseline = self._latest.get(sign), self._baselines[sign]
                if latest is None or latest.at_ms != facts.at_ms or baseline.mean is None:
                    continue
                z = baseline.z(latest.value)
                if z is not None:
                    explain = partial(_baseline_text, rule, sign, latest.value, baseline.mean)
                    self._settle(rule, abs(z), facts, explain, blame=1 << INDEX[sign])

    def _judge_derived(self, facts: "_Facts") -> None:
        """Scores and ratios of several signs. They are worked out only where a limit can be near."""
        for quantity, (signs, may_be_near, work_out) in _DERIVED.items():
            for rule in self._rules.get(quantity, ()):
                if not self._book.has(rule.rule_id) and not may_be_near(self._latest):
                    continue
                value, text = work_out(self._inputs(facts.at_ms), self._valid_ms)
                if value is not None:
                    self._settle(rule, value, facts, partial(str, text), blame=signs & ~facts.missing)

    def _judge_device(self, reading: Reading, facts: "_Facts") -> None:
        off_since_ms = self._quality.sensor_off_since_ms
        for rule in self._rules.get("sensor_off", ()):
            if off_since_ms is not None or self._book.has(rule.rule_id):
                off_ms = 0 if off_since_ms is None else facts.at_ms - off_since_ms
                explain = partial(_sensor_off_text, facts.at_ms - off_ms, facts.at_ms)
                self._settle(rule, off_ms, facts, explain, onset_ms=off_since_ms)
        for rule in self._rules.get("battery", ()):
            if reading.battery is not None:
                self._settle(rule, reading.battery, facts, partial(str, f"battery {reading.battery:.0f} %"))
        for rule in self._rules.get("clock", ()):
            wrong = bool(reading.sensor_flags & _CLOCK_FLAGS)
            if wrong or self._book.has(rule.rule_id):
                self._settle(rule, float(wrong), facts, partial(str, _CLOCK_TEXT))

    def _judge_model(
        self, score: ModelScore, probability: float | None, silent_since_ms: int | None, facts: "_Facts"
    ) -> None:
        for rule in self._rules.get(f"model:{score.model}", ()):
            if probability is not None:
                explain = partial(self._model_text, rule, score, probability)
                self._settle(rule, probability / score.threshold, facts, explain)
            elif self._book.has(rule.rule_id):
                # What cannot be judged has not ended.
                seen = Observation(level=Level.UNKNOWN, at_ms=facts.at_ms)
                facts.events.extend(self._book.observe(rule, seen))
        silent = 0
        if silent_since_ms is not None:
            silent = 1 if facts.at_ms - silent_since_ms < _HOUR_MS else 2
        why = score.reason if score.score is None else "gave no probability"
        for rule in self._rules.get("model_unavailable", ()):
            self._settle(rule, silent, facts, partial(str, f"{score.model} model: {why}"), key=score.model)

    def _model_text(self, rule: Rule, score: ModelScore, probability: float) -> str:
        news2_now = self._score(score.at_ms)
        bound = "" if news2_now.total is not None else ">= "
        said = f"{rule.label} {probability:.1%} by model {score.version}, which speaks from {score.threshold:.1%}"
        because = f"; {score.reason}" if score.reason else ""
        return f"{said}{because}; NEWS2 {bound}{news2_now.at_least}"

    def _judge_silence(self, now_ms: int, events: list[Event]) -> None:
        """Silence is a condition like any other: of one sign, or of the whole device when nothing comes any more."""
        expected = [sign for sign in self.plan.expected if sign in self._fresh]
        if not expected:
            return
        all_silent = all(self._fresh[sign] >= Freshness.STALE for sign in expected)
        facts = _Facts(now_ms, b"", 0, events)
        for rule in self._rules.get("freshness", ()):
            if all_silent:
                since_ms = max(self._latest[sign].at_ms for sign in expected)
                worst = max(self._silence_of(sign) for sign in expected)
                explain = partial(self._silence_text, "any sign", since_ms, now_ms)
                self._settle(rule, worst, facts, explain, onset_ms=since_ms)
                continue
            if self._book.has(rule.rule_id):
                self._settle(rule, 0, facts, str)
            for sign in expected:
                if self._fresh[sign] >= Freshness.STALE or self._book.has(rule.rule_id, sign):
                    since_ms = self._latest[sign].at_ms
                    explain = partial(self._silence_text, SPEC[sign].label, since_ms, now_ms)
                    self._settle(rule, self._silence_of(sign), facts, explain, key=sign.value, onset_ms=since_ms)

    def _silence_of(self, sign: VitalSign) -> int:
        state = self._fresh[sign]
        if state is not Freshness.LOST:
            return int(state)
        alone = news2.score({sign: (self._latest[sign].value, 0)}, spo2_scale=self.plan.spo2_scale).at_least
        return LOST_WHILE_ILL if (self._news2 or 0) >= 5 or alone >= 3 else int(state)

    def _silence_text(self, what: str, since_ms: int, now_ms: int) -> str:
        was = "" if self._news2 is None else f"; NEWS2 was {self._news2}"
        return f"no data for {what} since {clock_text(since_ms)}, {duration(now_ms - since_ms)}{was}"

    def _lose_sight(self, now_ms: int, events: list[Event]) -> None:
        """Conditions that rest on a sign which is gone are unknown now, and stay open."""
        missing = self._missing(now_ms)
        for rule in self.plan.rules:
            for place in self._book.conditions():
                if place[0] == rule.rule_id and self._blame.get(place, 0) & missing:
                    seen = Observation(level=Level.UNKNOWN, at_ms=now_ms)
                    events += self._book.observe(rule, seen, key=place[1])

    def _look_back(self, reading: Reading, events: list[Event]) -> None:
        """What a reading that came too late would have said by itself, for the record."""
        own = {
            sign: (getattr(reading, name), 0)
            for sign, name, bit in _ALL
            if getattr(reading, name) is not None and not reading.unusable & bit
        }
        score = news2.score(own, spo2_scale=self.plan.spo2_scale)
        explain_all = partial(explain_news2, score, None, reading.at_ms)
        found = [(rule, "", score.at_least, explain_all) for rule in self._rules.get("news2", ())]
        for rule in self._rules.get("red_sign", ()):
            found += [
                (rule, part.sign, part.points, partial(_red_text, part, self.plan.spo2_scale))
                for part in score.parts
                if part.points
            ]
        for rule, key, points, explain in found:
            priority = rule.reached(points)
            if priority is not None:
                seen = Observation(
                    level=Level.TRUE, at_ms=reading.at_ms, reading_id=reading.reading_id, priority=priority
                )
                events += self._book.backfill(rule, seen, key=key, explain=explain)

    def _settle(
        self,
        rule: Rule,
        value: float,
        facts: "_Facts",
        explain: Callable[[], str],
        *,
        key: str = "",
        blame: int = 0,
        grade: float = 0.0,
        onset_ms: int | None = None,
    ) -> None:
        """Tell the book what a value means for a rule. Quiet values of quiet conditions cost next to nothing."""
        priority = rule.reached(value)
        place = (rule.rule_id, key)
        if priority is None:
            if self._book.has(*place):
                self._settle_down(rule, value, facts, place)
            return
        if blame:
            # A sign that made it true and then went missing is still owed a better value.
            self._blame[place] = blame | self._blame.get(place, 0) & facts.missing
        seen = Observation(
            level=Level.TRUE,
            at_ms=facts.at_ms,
            reading_id=facts.reading_id,
            priority=priority,
            grade=grade,
            onset_ms=onset_ms,
        )
        facts.events.extend(self._book.observe(rule, seen, key=key, explain=explain))

    def _settle_down(self, rule: Rule, value: float, facts: "_Facts", place: tuple[str, str]) -> None:
        unknown = bool(self._blame.get(place, 0) & facts.missing)
        if not unknown and not rule.is_well_inside(value):
            facts.events.extend(self._book.waver(*place, at_ms=facts.at_ms))
            return
        seen = Observation(level=Level.UNKNOWN if unknown else Level.FALSE, at_ms=facts.at_ms)
        facts.events.extend(self._book.observe(rule, seen, key=place[1]))
        if not self._book.has(*place):
            self._blame.pop(place, None)

    def _missing(self, now_ms: int) -> int:
        """Mask of the signs without a value that may still be scored."""
        mask = _EVERY
        for sign, latest in self._latest.items():
            if now_ms - latest.at_ms <= self._valid_ms[sign]:
                mask ^= 1 << INDEX[sign]
        return mask


class SignView(msgspec.Struct, frozen=True, kw_only=True):
    """One sign of one patient, for a screen."""

    sign: VitalSign
    value: float
    age_ms: int
    freshness: Freshness


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """What one model says of one patient, for a screen."""

    model: str
    version: str
    score: float | None  # probability; None: it abstains, or what it said is too old to be shown as current
    threshold: float
    age_ms: int
    reason: str


class PatientView(msgspec.Struct, frozen=True, kw_only=True):
    """One patient at one moment, for a screen."""

    binding_id: str
    seen_ms: int | None  # event time of the newest reading
    news2: news2.News2
    news2_before: tuple[tuple[int, int], ...]  # (at_ms, at_least), oldest first
    signs: tuple[SignView, ...]
    models: tuple[ModelView, ...]
    sensor_off_since_ms: int | None
    alarms: tuple[AlarmChanged, ...]


class _Facts(NamedTuple):
    """What one round of judging shares."""

    at_ms: int
    reading_id: bytes
    missing: int  # mask of the signs that may not be scored
    events: list[Event]


_Inputs: TypeAlias = dict[VitalSign, tuple[float | None, int | None]]


@lru_cache(maxsize=256)
def _by_quantity(rules: tuple[Rule, ...]) -> dict[str, tuple[Rule, ...]]:
    found: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        if rule.enabled:
            found[rule.quantity] = (*found.get(rule.quantity, ()), rule)
    return found


@lru_cache(maxsize=256)
def _by_sign(rules: tuple[Rule, ...]) -> tuple[tuple[VitalSign, tuple[Rule, ...]], ...]:
    found = _by_quantity(rules)
    return tuple((sign, found[sign.value]) for sign in SPEC if sign.value in found)


def _band(at_least: int) -> int:
    """Which row of the freshness table a score is in."""
    return (at_least >= 1) + (at_least >= 5) + (at_least >= 7)


def _red_text(part: News2Part, scale: int) -> str:
    sign = VitalSign(part.sign)
    on_scale = " on scale 2" if scale == 2 and sign is VitalSign.SPO2 else ""
    value = scores.shown(sign, part.value) if part.value is not None else sign.value
    return f"red sign: {value}{on_scale} scores 3 of NEWS2"


def _sign_text(rule: Rule, sign: VitalSign, value: float) -> str:
    priority = rule.reached(value)
    limit = next((one.threshold for one in rule.limits if one.priority == priority), rule.limits[0].threshold)
    return f"{rule.label}: {scores.shown(sign, value)} {SPEC[sign].unit}, limit {rule.comparison} {limit:g}"


def _baseline_text(rule: Rule, sign: VitalSign, value: float, usual: float) -> str:
    return f"{rule.label}: {scores.shown(sign, value)}, usually {usual:.0f}"


def _sensor_off_text(since_ms: int, now_ms: int) -> str:
    return f"sensor off since {clock_text(since_ms)}, {duration(now_ms - since_ms)}"


def _points(score: Callable[..., scores.Score]) -> Callable[[_Inputs, dict[VitalSign, int]], tuple[float | None, str]]:
    def work_out(inputs: _Inputs, valid_ms: dict[VitalSign, int]) -> tuple[float | None, str]:
        found = score(inputs, valid_ms=valid_ms)
        return float(found.at_least), found.text

    return work_out


def _shock_index(inputs: _Inputs, valid_ms: dict[VitalSign, int]) -> tuple[float | None, str]:
    index = scores.shock_index(inputs, valid_ms=valid_ms)
    return index.value, index.text


def _near_qsofa(latest: dict[VitalSign, _Latest]) -> bool:
    breathing = latest.get(VitalSign.RESPIRATORY_RATE)
    pressure = latest.get(VitalSign.SYSTOLIC_BP)
    # Two of three points need one of these two.
    return (breathing is not None and breathing.value >= 21) or (pressure is not None and pressure.value <= 101)


def _near_shock(latest: dict[VitalSign, _Latest]) -> bool:
    pulse, pressure = latest.get(VitalSign.HEART_RATE), latest.get(VitalSign.SYSTOLIC_BP)
    return pulse is not None and pressure is not None and pulse.value >= 0.5 * pressure.value


def _always(_: dict[VitalSign, _Latest]) -> bool:
    return True


def _mask(*signs: VitalSign) -> int:
    return sum(1 << INDEX[sign] for sign in signs)


LOST_WHILE_ILL: Final = 4
"""What the quantity `freshness` is for a sign that is lost, of a patient who was ill when last seen."""

_CLOCK_TEXT: Final = "the device's clock is wrong; times are worked out from its uptime"
_EVERY: Final = _mask(*SPEC)
_BIT: Final = {sign.value: 1 << INDEX[sign] for sign in SPEC}
_BASELINES: Final = tuple((sign, f"baseline:{sign.value}") for sign in _LEARNING)
_QSOFA_SIGNS: Final = _mask(VitalSign.RESPIRATORY_RATE, VitalSign.SYSTOLIC_BP, VitalSign.CONSCIOUSNESS)
_SIRS_SIGNS: Final = _mask(VitalSign.RESPIRATORY_RATE, VitalSign.HEART_RATE, VitalSign.TEMPERATURE)
_SHOCK_SIGNS: Final = _mask(VitalSign.HEART_RATE, VitalSign.SYSTOLIC_BP)
# Quantity -> the signs it is made of, whether it can be near a limit at all, and how it is worked out.
_DERIVED: Final = {
    "qsofa": (_QSOFA_SIGNS, _near_qsofa, _points(scores.qsofa)),
    "shock_index": (_SHOCK_SIGNS, _near_shock, _shock_index),
    "sirs": (_SIRS_SIGNS, _always, _points(scores.sirs)),
    "mews": (_QSOFA_SIGNS | _SIRS_SIGNS, _always, _points(scores.mews)),
}
_ENCODER: Final = msgspec.msgpack.Encoder()
