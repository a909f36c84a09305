"""The freshness of each sign of one patient as it was last announced, and the alarm when no data comes.

How soon a missing value matters depends on how ill the patient was when last seen, so the last NEWS2 is kept here.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from vitals import news2
from vitals.alarms import ClockText, clock_text
from vitals.binding_term import StayTerm
from vitals.conditions import Conditions, JudgingContext
from vitals.freshness import Freshness, FreshnessLimits, limits_for, next_change_ms, state_at
from vitals.latest import LatestValues, SignValue
from vitals.messages import Event, FreshnessChanged
from vitals.observations import DevicesOff
from vitals.plan import MEASURED, MonitoringPlan
from vitals.risk import duration
from vitals.signs import INDEX, SIGNS, SPEC, VitalSign
from vitals.sources import is_person
from vitals.usability import SignUsability
from vitals.view import SignView, SourceValue

LOST_WHILE_ILL: Final = 4
"""Value of the quantity `freshness` for a lost sign of a patient who was ill when last seen."""

_MEASURED: Final = frozenset(MEASURED)


class SignFreshness:
    """Fresh, late, stale or lost: sign by sign over all sources, for the signs that a device measures.

    A value that a person enters ends a silence as a device's does, and for as long: who is measured by devices is not
    measured once in twelve hours.

    Args:
        stay_id: which device on which patient.
        plan: what was ordered: cadence, limits, the signs that raise an alarm when their data stops.
        latest: the newest value of each sign.
        conditions: where the rules on the quantity `freshness` are judged.
        usability: why what arrives of a sign is not usable; None: alarms name no cause.
        term: since when the patient is monitored; None: since the first reading.
        devices_off: whether the devices are off on purpose; then no alarm begins. None: never.
        clock: writes the times in texts.
    """

    __slots__ = (
        "_binding_id",
        "_clock",
        "_conditions",
        "_devices_off",
        "_latest",
        "_news2",
        "_plan",
        "_states",
        "_term",
        "_usability",
    )

    def __init__(
        self,
        stay_id: str,
        plan: MonitoringPlan,
        latest: LatestValues,
        conditions: Conditions,
        usability: SignUsability | None = None,
        term: StayTerm | None = None,
        clock: ClockText = clock_text,
        devices_off: DevicesOff | None = None,
    ) -> None:
        self._binding_id = stay_id
        self._usability = usability
        self._clock = clock
        self._plan = plan
        self._latest = latest
        self._conditions = conditions
        self._term = term or StayTerm()
        self._devices_off = devices_off or DevicesOff()
        self._states: dict[VitalSign, Freshness] = {}
        self._news2: int | None = None  # points when last seen

    def on_first_reading(self, at_ms: int, events: list[Event]) -> None:
        """The wearable is heard for the first time. A sign that it does not bring has its time from here on."""
        self._term.first_ms = at_ms
        was_missing = any(state >= Freshness.STALE for state in self._states.values())
        self._states = {sign: state for sign, state in self._states.items() if sign in self._latest.by_sign}
        if was_missing:
            self.judge_missing_data(at_ms, events)

    def end(self) -> None:
        """Nobody is monitored any more: no sign is awaited, and none becomes late."""
        self._states = {}

    def update_news2(self, at_least: int) -> bool:
        """Set how ill the patient is. True if this changes the limits, and so the next timer."""
        before, self._news2 = self._news2, at_least
        return before is None or _band(before) != _band(at_least)

    def on_values(
        self, values: Iterable[tuple[VitalSign, float]], at_ms: int, heard_ms: int, events: list[Event]
    ) -> bool:
        """New values came in order and in time. True if one of them was not fresh before.

        Values that are stale when they are heard, or before the next ones are late, as at the end of a backlog, end no
        silence: the next timer would begin it again, once for each of them.
        """
        returned = False
        states = self._states
        for sign, _ in values:
            before = states.get(sign)
            if before is not Freshness.FRESH and sign in _MEASURED:
                if before is not None and before >= Freshness.STALE and self._is_stale_soon(sign, heard_ms - at_ms):
                    continue
                returned = returned or before is not None
                states[sign] = Freshness.FRESH
                events.append(self._changed(sign, Freshness.FRESH, at_ms))
        return returned

    def on_late_values(
        self, values: Iterable[tuple[VitalSign, float]], at_ms: int, now_ms: int, events: list[Event]
    ) -> bool:
        """Values measured at `at_ms` came late and are the newest. True if missing data must be judged again."""
        must_judge = False
        for sign, _ in values:
            if sign not in _MEASURED:
                continue
            state, before = state_at(now_ms - at_ms, self._limits(sign)), self._states.get(sign)
            if state != before:
                self._states[sign] = state
                must_judge = must_judge or before is not None or state >= Freshness.STALE
                events.append(self._changed(sign, state, now_ms))
        return must_judge

    def on_timer(self, now_ms: int, events: list[Event]) -> bool:
        """Time has passed. True if a sign became stale or lost."""
        aged = False
        for sign, latest in self._latest.by_sign.items():
            if sign not in _MEASURED:
                continue
            state = state_at(now_ms - latest.at_ms, self._limits(sign))
            # Passing time makes no sign fresher: only a new value in time does, neither backfill nor wider limits.
            if state > self._states.get(sign, Freshness.FRESH):
                self._states[sign] = state
                aged = aged or state >= Freshness.STALE
                events.append(self._changed(sign, state, now_ms))
        for sign, await_ms in self._awaited():
            state = state_at(now_ms - await_ms, self._limits_of_first(sign))
            if state > self._states.get(sign, Freshness.FRESH):
                self._states[sign] = state
                aged = True
                events.append(self._changed(sign, state, now_ms))
        return aged

    def next_change_ms(self, now_ms: int) -> int | None:
        """When a sign changes its state if no value comes; None if there is no such moment."""
        due = [
            change_ms
            for sign, latest in self._latest.by_sign.items()
            if sign in _MEASURED
            and (change_ms := self._next_change_of(sign, latest.at_ms, self._limits(sign), now_ms)) is not None
        ]
        due += [
            change_ms
            for sign, await_ms in self._awaited()
            if (change_ms := self._next_change_of(sign, await_ms, self._limits_of_first(sign), now_ms)) is not None
        ]
        return min(due, default=None)

    def judge_missing_data(self, now_ms: int, events: list[Event]) -> None:
        """Judge the rules on missing data: of one sign, or of the whole device when no expected sign has a value."""
        is_awaited = self._term.awaiting_since_ms is not None
        expected = [sign for sign in self._plan.expected if sign in self._states or is_awaited]
        if not expected:
            return
        if self._devices_off.is_on(now_ms):
            return
        conditions = self._conditions
        all_missing = all(self._state(sign) >= Freshness.STALE for sign in expected)
        context = JudgingContext(now_ms, b"", 0, events)
        for rule in self._plan.rules_by_quantity.get("freshness", ()):
            if all_missing:
                since_ms = max(self._since_ms(sign) for sign in expected)
                worst = max(self._severity(sign) for sign in expected)
                explain = partial(self._explain, expected, since_ms, now_ms)
                conditions.observe(rule, worst, context, explain, onset_ms=since_ms)
                continue
            if conditions.book.has(rule.rule_id):
                conditions.observe(rule, 0, context, str)
            for sign in expected:
                if self._state(sign) >= Freshness.STALE or conditions.book.has(rule.rule_id, sign):
                    since_ms = self._since_ms(sign)
                    explain = partial(self._explain, [sign], since_ms, now_ms)
                    value = self._severity(sign)
                    conditions.observe(rule, value, context, explain, key=sign.value, onset_ms=since_ms)

    def views(self, now_ms: int) -> tuple[SignView, ...]:
        """The newest value of each sign with its age and freshness at `now_ms`."""
        return tuple(
            SignView(
                sign=sign,
                value=latest.value,
                age_ms=now_ms - latest.at_ms,
                freshness=state_at(now_ms - latest.at_ms, self._limits_of(sign, latest)),
                source=latest.source,
                others=tuple(
                    SourceValue(source=other.source, value=other.value, age_ms=now_ms - other.at_ms)
                    for other in self._latest.current(sign, now_ms)
                    if other is not latest
                ),
            )
            for sign, latest in self._latest.by_sign.items()
        )

    def to_state(self) -> tuple[int | None, list[Any]]:
        """The last NEWS2, and plain lists that msgspec can encode."""
        return self._news2, [[INDEX[sign], int(state)] for sign, state in self._states.items()]

    def load_state(self, news2_points: int | None, states: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        self._news2 = news2_points
        self._states = {SIGNS[index].sign: Freshness(state) for index, state in states}

    def _changed(self, sign: VitalSign, state: Freshness, now_ms: int) -> FreshnessChanged:
        return FreshnessChanged(
            stay_id=self._binding_id,
            sign=sign.value,
            at_ms=now_ms,
            state=state.name,
            age_ms=now_ms - self._last_ms(sign, now_ms),
        )

    def _awaited(self) -> list[tuple[VitalSign, int]]:
        """Expected signs that never had a usable value, and since when they are awaited."""
        await_ms = self._term.awaiting_since_ms
        if await_ms is None:
            return []
        latest = self._latest.by_sign
        return [(sign, await_ms) for sign in self._plan.expected if sign not in latest]

    def _last_ms(self, sign: VitalSign, now_ms: int) -> int:
        """When a sign last had a value, or since when it is awaited."""
        latest = self._latest.by_sign.get(sign)
        if latest is not None:
            return latest.at_ms
        return self._term.awaiting_since_ms or now_ms

    def _since_ms(self, sign: VitalSign) -> int:
        """Since when a sign is missing, in texts and ids: the start of the binding if it never had a value."""
        latest = self._latest.by_sign.get(sign)
        if latest is not None:
            return latest.at_ms
        return (self._term.awaiting_since_ms or 0) if self._term.from_ms is None else self._term.from_ms

    def _state(self, sign: VitalSign) -> Freshness:
        return self._states.get(sign, Freshness.FRESH)

    def _limits_of_first(self, sign: VitalSign) -> FreshnessLimits:
        """The limits of a sign that is awaited for the first time: it is not late before it is stale."""
        limits = self._limits(sign)
        return limits._replace(late_ms=limits.stale_ms)

    def _limits(self, sign: VitalSign) -> FreshnessLimits:
        plan = self._plan
        return limits_for(self._news2, plan.cadence(sign), stale_ms=plan.stale_after_ms, lost_ms=plan.lost_after_ms)

    def _limits_of(self, sign: VitalSign, value: SignValue) -> FreshnessLimits:
        """The limits of a value on a screen: what a person entered is stale when it may be scored no longer."""
        limits = self._limits(sign)
        if not is_person(value.source):
            return limits
        valid_ms = self._latest.validity[sign]
        return limits._replace(stale_ms=max(limits.stale_ms, valid_ms), lost_ms=max(limits.lost_ms, 2 * valid_ms))

    def _is_stale_soon(self, sign: VitalSign, age_ms: int) -> bool:
        limits = self._limits(sign)
        return state_at(age_ms + limits.late_ms, limits) >= Freshness.STALE

    def _next_change_of(self, sign: VitalSign, at_ms: int, limits: FreshnessLimits, now_ms: int) -> int | None:
        if state_at(now_ms - at_ms, limits) > self._states.get(sign, Freshness.FRESH):
            return now_ms  # overdue: a change that was not announced yet
        return next_change_ms(at_ms, limits, now_ms)

    def _severity(self, sign: VitalSign) -> int:
        state, latest = self._state(sign), self._latest.by_sign.get(sign)
        if state is not Freshness.LOST:
            return int(state)
        if not self._plan.group.has_adult_scores:
            return LOST_WHILE_ILL  # no score says that the patient was well
        own = {} if latest is None else {sign: (latest.value, 0)}
        alone = news2.score(own, spo2_scale=self._plan.spo2_scale).at_least
        return LOST_WHILE_ILL if (self._news2 or 0) >= 5 or alone >= 3 else int(state)

    def _explain(self, missing: list[VitalSign], since_ms: int, now_ms: int) -> str:
        """What is missing, since when, and why, as far as it is known. One sign by its name, more than one: all."""
        was = "" if self._news2 is None else f"; NEWS2 was {self._news2}"
        span = f"since {self._clock(since_ms)}, {duration(now_ms - since_ms)}"
        name = SPEC[missing[0]].label if len(missing) == 1 else "any sign"
        was_never_usable = not any(sign in self._latest.by_sign for sign in missing)
        if was_never_usable and self._term.from_ms is not None:
            span = f"since monitoring began at {self._clock(since_ms)}, {duration(now_ms - since_ms)}"
        cause = None if self._usability is None or len(missing) > 1 else self._usability.cause_text(missing[0])
        if cause is not None:
            return f"no usable data for {name} {span}; it arrives, {cause}{was}"
        if not was_never_usable:
            return f"no data for {name} {span}{was}"
        if self._term.first_ms is not None:
            return f"no data for {name} {span}: no reading had a usable value of {_names(missing)}{was}"
        return f"no data {span}: {self._term.why_unheard or 'only old readings came'}{was}"


def _names(signs: list[VitalSign]) -> str:
    """Names of signs for a text: `heart rate, respiratory rate or oxygen saturation`."""
    labels = [SPEC[sign].label for sign in signs]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} or {labels[-1]}"


def _band(at_least: int) -> int:
    """Row of the freshness table `freshness.BY_NEWS2` that a score is in."""
    return (at_least >= 1) + (at_least >= 5) + (at_least >= 7)
