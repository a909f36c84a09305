"""Holds back the alarms on a fast heart and fast breathing that an activity explains, for a bounded time.

The table `HELD` says which alarms may be held. They are held only while all of this is true:

- the orders ask for it (`ActivityPlan`), and the patient is stated to be an adult and not pregnant;
- what the patient does, or has just done, is known and explains both rates (`vitals.activity`);
- the rest of the picture is normal: no other sign scores in NEWS2, but for one point of saturation; saturation was
  usable minutes ago; and no alarm about the patient is active, whichever rule it is of;
- the time for which alarms were held in the last hour is not used up.

A single noisy value ends nothing: values that are not explained must last as long as the rule itself waits, and at most
a minute. A condition that was pending or active before is not held. What is held is an alarm, with its true onset and
the id that it would have had, at the moment at which one of these ends, and by `timer_at` also if nothing is heard any
more. What ends while it is held goes to the record, as an alarm that called nobody.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from vitals.activity import EXPLAINS, Limits, PatientActivity
from vitals.activity_baselines import ActivityBaselines
from vitals.alarms import AlarmBook, ClockText, JudgedCondition, clock_text
from vitals.latest import LatestValues
from vitals.messages import Activity, Event, Priority
from vitals.news2 import News2
from vitals.patient_group import PatientGroup
from vitals.plan import MonitoringPlan
from vitals.rules import Rule, Truth
from vitals.signs import VitalSign

_MINUTE: Final = 60_000

_RATES: Final = (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE)
_HEART: Final = VitalSign.HEART_RATE.value
_BREATH: Final = VitalSign.RESPIRATORY_RATE.value

HELD: Final[dict[tuple[str, str], Priority]] = {
    (_HEART, ""): Priority.HIGH,
    (_BREATH, ""): Priority.HIGH,
    ("red_sign", _HEART): Priority.HIGH,
    ("red_sign", _BREATH): Priority.HIGH,
    ("news2", ""): Priority.MEDIUM,
    ("baseline:heart_rate", ""): Priority.MEDIUM,
    ("baseline:respiratory_rate", ""): Priority.MEDIUM,
    # Of a heart in exercise and a pressure at rest; the index is of patients who lie (Allgoewer, Dtsch Med Wochenschr
    # 1967;92:1947). A pressure that is low by itself ends every hold.
    ("shock_index", ""): Priority.MEDIUM,
}
"""Quantity and sign of the rules that may be held, and up to which priority; of values that are high, never low."""

SATURATION_WITHIN_MS: Final = 10 * _MINUTE
"""Motion spoils saturation: a usable value so long ago still says that the rest of the picture was normal."""

SATURATION_POINTS: Final = 1
"""On scale 1, 94 or 95 %: exertion takes a point or two from the healthy; a fall of 4 is abnormal (Holland, Eur Respir
J 2014;44:1428)."""

_LONGEST_GRACE_MS: Final = _MINUTE

_LOWEST: Final = {
    VitalSign.HEART_RATE: 41.0,
    VitalSign.RESPIRATORY_RATE: 9.0,
}  # less is red, and no activity explains it
_LEAST_SPAN_MS: Final = _MINUTE  # so that many short holds are few spans, and count for no less


class _Held(msgspec.Struct, array_like=True):
    """One condition that is held: what its alarm would be."""

    rule_id: str
    key: str
    since_ms: int
    seen_ms: int
    reading_id: bytes  # the first one, which the id of the alarm is made of
    priority: Priority
    grade: float
    during: str
    text: str
    response: str


class ActivityHold:
    """The conditions of one patient that are held because of an activity.

    Args:
        plan: what was ordered.
        latest: the newest value of each sign.
        book: the alarms of the same patient.
        clock: writes the times in texts.

    Attributes:
        activity: what the patient does.
        baselines: the patient's own normal at each activity.
        held: the conditions that are held, by rule and key.
        note: what the patient does, for the text of any alarm that comes now; empty: rests, or nobody knows.
    """

    __slots__ = (
        "_book", "_clock", "_explained_ms", "_lag_ms", "_latest", "_plan", "_spans",
        "activity", "baselines", "held", "note",
    )  # fmt: skip

    def __init__(
        self, plan: MonitoringPlan, latest: LatestValues, book: AlarmBook, clock: ClockText = clock_text
    ) -> None:
        self._plan = plan
        self._latest = latest
        self._book = book
        self._clock = clock
        self.activity = PatientActivity(plan.activity)
        self.baselines = ActivityBaselines(self.activity, plan.activity.learns_by_activity)
        self.held: dict[tuple[str, str], _Held] = {}
        self.note = ""
        self._explained_ms: int | None = None  # when the values were last explained; None: nothing may be held
        self._spans: list[tuple[int, int]] = []  # when something was held, oldest first
        self._lag_ms = 0  # how much later than measured the newest reading arrived

    def begin(self, at_ms: int, lag_ms: int, score: News2 | None) -> None:
        """The rules are about to be judged.

        Args:
            at_ms: event time of what they are judged on.
            lag_ms: how much later than measured it arrived.
            score: NEWS2 of the newest values.
        """
        self._lag_ms = max(0, lag_ms)
        self.activity.advance(at_ms)
        self.note = self._note(at_ms)
        self._spans = [span for span in self._spans if span[1] > at_ms - self._plan.activity.within_ms]
        if self.held:
            self._spans[-1] = (self._spans[-1][0], max(at_ms, self._spans[-1][1]))
        limits = self._limits(at_ms)
        if limits is None or score is None or self._left_ms(at_ms) <= 0:
            self._explained_ms = None
        elif self._are_rates_explained(limits, at_ms) and self._is_rest_normal(score, at_ms):
            self._explained_ms = at_ms

    def take(self, rule: Rule, key: str, seen: JudgedCondition, explain: Callable[[], str]) -> bool:
        """Whether a condition that is true now is held. It is kept with what its alarm would say.

        What a person has just counted at the bed is not held: that person sees what the patient does.
        """
        if seen.is_certain or not (_may_be_held(rule, key, seen.priority) and self._is_holding(rule, seen.at_ms)):
            return False
        if self._book.has(rule.rule_id, key):
            return False
        place, text = (rule.rule_id, key), explain()
        held, during = self.held.get(place), self.activity.word()
        if held is None:
            self._charge(seen.at_ms)
            self.held[place] = _Held(
                rule.rule_id,
                key,
                seen.at_ms,
                seen.at_ms,
                seen.reading_id,
                seen.priority,
                seen.grade,
                during,
                text,
                seen.response,
            )
            return True
        held.seen_ms, held.text, held.response, held.during = seen.at_ms, text, seen.response, during
        held.priority, held.grade = max(held.priority, seen.priority), max(held.grade, seen.grade)
        return True

    def release(
        self, rule: Rule, key: str, seen: JudgedCondition, explain: Callable[[], str]
    ) -> tuple[JudgedCondition, Callable[[], str]]:
        """A condition that was held is true and is held no more: it began when it was first seen."""
        held = self.held.pop((rule.rule_id, key), None)
        if held is None:
            return seen, explain
        seen = replace(seen, reading_id=held.reading_id, onset_ms=held.since_ms)
        return seen, partial(self._released_text, explain, held, seen.at_ms)

    def is_over(self, rule: Rule, key: str) -> list[Event]:
        """A condition is true no more. It goes to the record if it was held for so long that it would be an alarm."""
        held = self.held.pop((rule.rule_id, key), None)
        return [] if held is None else self._for_the_record(rule, held)

    def end(self, at_ms: int) -> list[Event]:
        """The rules were judged on a reading: what nothing explains any more, and no rule has judged, is an alarm."""
        return self._release(at_ms, lambda rule: not self._is_holding(rule, at_ms))

    def on_timer(self, now_ms: int) -> list[Event]:
        """Time has passed: what is held comes out when nothing was heard for too long, or the time is used up."""
        due_ms = self.timer_at()
        return [] if due_ms is None or now_ms < due_ms else self._release(now_ms - self._lag_ms, lambda _: True)

    def timer_at(self) -> int | None:
        """When `on_timer` has to be called next; None if nothing is held."""
        if not self.held:
            return None
        seen_ms = max(self._spans[-1][1], max(one.seen_ms for one in self.held.values()))
        ends_ms = min(seen_ms + max(0, self._left_ms(seen_ms)), self.activity.ends_ms(seen_ms))
        if self._explained_ms is not None and self._explained_ms < seen_ms:
            ends_ms = min(ends_ms, self._explained_ms + _LONGEST_GRACE_MS)
        return ends_ms + self._lag_ms

    def end_of_stay(self) -> list[Event]:
        """Nobody is monitored any more: what is held goes to the record."""
        rules = {rule.rule_id: rule for rule in self._plan.rules}
        held, self.held, self._explained_ms = self.held, {}, None
        return [event for one in held.values() for event in self._for_the_record(rules[one.rule_id], one)]

    def texts(self) -> tuple[str, ...]:
        """What is held now, each in one line, for a screen."""
        return tuple(
            f"held during {one.during} since {self._clock(one.since_ms)}: {one.text}" for one in self.held.values()
        )

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it."""
        self.activity.shift(by_ms)
        self.baselines.shift(by_ms)
        self._spans = [(from_ms + by_ms, to_ms + by_ms) for from_ms, to_ms in self._spans]
        if self._explained_ms is not None:
            self._explained_ms += by_ms
        for one in self.held.values():
            one.since_ms += by_ms
            one.seen_ms += by_ms

    def to_state(self) -> list[Any]:
        """What msgspec can encode; empty if no device has ever told an activity."""
        activity = self.activity.to_state()
        if not activity:
            return []
        held, baselines = list(self.held.values()), self.baselines.to_state()
        return [activity, self._lag_ms, self._explained_ms, self._spans, held, baselines]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`. What is held by a rule that is judged no more is dropped."""
        activity, self._lag_ms, self._explained_ms, spans, held, baselines = state or ([], 0, None, [], [], [])
        self.activity.load_state(activity)
        self.baselines.load_state(baselines)
        self._spans = [(from_ms, to_ms) for from_ms, to_ms in spans]
        known = {rule.rule_id for rule in self._plan.rules if self._plan.judges(rule)}
        self.held = {(one.rule_id, one.key): one for one in msgspec.convert(held, list[_Held]) if one.rule_id in known}

    def _limits(self, at_ms: int) -> Limits | None:
        """What the patient does explains so much; None: nothing, or nothing may be held of this patient now."""
        plan = self._plan
        if plan.group is not PatientGroup.ADULT or plan.activity.holds_up_to not in EXPLAINS:
            return None
        return None if self._book.has_active_of_patient() else self.activity.limits(at_ms)

    def _is_holding(self, rule: Rule, at_ms: int) -> bool:
        grace_ms = min(rule.for_ms or _LONGEST_GRACE_MS, _LONGEST_GRACE_MS)
        explained_ms = self._explained_ms
        return explained_ms is not None and (at_ms == explained_ms or at_ms - explained_ms < grace_ms)

    def _are_rates_explained(self, limits: Limits, at_ms: int) -> bool:
        for sign, limit in zip(_RATES, limits, strict=True):
            latest = self._latest.by_sign.get(sign)
            is_current = latest is not None and at_ms - latest.at_ms <= self._plan.valid(sign)
            if latest is None or not is_current:
                # Motion spoils breaths, so that they may be missing; a heart that is not measured is not explained.
                if sign is VitalSign.HEART_RATE:
                    return False
                continue
            if not _LOWEST[sign] <= latest.value <= limit:
                return False
        return True

    def _is_rest_normal(self, score: News2, at_ms: int) -> bool:
        saturation = self._latest.by_sign.get(VitalSign.SPO2)
        if saturation is None or at_ms - saturation.at_ms > SATURATION_WITHIN_MS:
            return False
        # The last value of each sign, however old: a patient whose data stopped is not presumed to be better.
        parts = self._latest.news2_of_any_age(score).parts
        allowed = {VitalSign.SPO2: SATURATION_POINTS} if self._plan.spo2_scale == 1 else {}
        return all(
            (part.points or 0) <= allowed.get(VitalSign(part.sign), 0) for part in parts if part.sign not in _RATES
        )

    def _charge(self, at_ms: int) -> None:
        """Something begins to be held. A short break since the last time counts as held, too."""
        if self._spans and at_ms - self._spans[-1][1] <= _LEAST_SPAN_MS:
            self._spans[-1] = (self._spans[-1][0], max(at_ms, self._spans[-1][1]))
        else:
            self._spans.append((at_ms, at_ms))

    def _left_ms(self, at_ms: int) -> int:
        """For how long alarms may still be held."""
        plan = self._plan.activity
        begin_ms = at_ms - plan.within_ms
        used_ms = sum(
            max(min(to_ms, at_ms) - max(from_ms, begin_ms), 0 if is_last else _LEAST_SPAN_MS)
            for from_ms, to_ms, is_last in self._numbered_spans()
        )
        return plan.most_held_ms - used_ms

    def _numbered_spans(self) -> Iterable[tuple[int, int, bool]]:
        last = len(self._spans) - 1 if self.held else -1
        return ((from_ms, to_ms, number == last) for number, (from_ms, to_ms) in enumerate(self._spans))

    def _release(self, at_ms: int, is_due: Callable[[Rule], bool]) -> list[Event]:
        rules = {rule.rule_id: rule for rule in self._plan.rules}
        events: list[Event] = []
        for place, one in list(self.held.items()):
            rule = rules[one.rule_id]
            if not is_due(rule):
                continue
            del self.held[place]
            seen = JudgedCondition(
                truth=Truth.TRUE,
                at_ms=max(at_ms, one.seen_ms),
                reading_id=one.reading_id,
                priority=one.priority,
                grade=one.grade,
                onset_ms=one.since_ms,
                response=one.response,
            )
            explain = partial(self._released_text, partial(str, one.text), one, one.seen_ms)
            events += self._book.observe(rule, seen, key=one.key, explain=explain)
        return events

    def _for_the_record(self, rule: Rule, held: _Held) -> list[Event]:
        if held.seen_ms - held.since_ms < rule.for_ms:
            return []
        seen = JudgedCondition(
            truth=Truth.TRUE, at_ms=held.since_ms, reading_id=held.reading_id, priority=held.priority, grade=held.grade
        )
        span = f"from {self._clock(held.since_ms)} to {self._clock(held.seen_ms)}"
        text = f"held during {held.during} {span}, and over: {held.text}"
        return list(self._book.backfill(rule, seen, key=held.key, explain=partial(str, text)))

    def _released_text(self, explain: Callable[[], str], held: _Held, seen_ms: int) -> str:
        seen = f", last seen at {self._clock(seen_ms)}" if seen_ms == held.seen_ms else ""
        return f"{explain()}; held during {held.during} since {self._clock(held.since_ms)}{seen}"

    def _note(self, at_ms: int) -> str:
        since_ms, activity = self.activity.since_ms, self.activity.at(at_ms)
        return (
            "" if since_ms is None or activity not in EXPLAINS else f"{_DOES[activity]} since {self._clock(since_ms)}"
        )


_DOES: Final = {Activity.WALK: "walking", Activity.EXERCISE: "exercising"}


def _may_be_held(rule: Rule, key: str, priority: Priority) -> bool:
    most = HELD.get((rule.quantity, key))
    return most is not None and rule.comparison == ">=" and priority <= most
