"""Judges the readings of one patient by the rules of the plan: NEWS2, single signs, baselines, other scores, device.

Keeps what a judgement needs beyond the newest values: the patient's own baselines and the NEWS2 of the last hours.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from vitals import news2, scores
from vitals.activity_baselines import ActivityBaselines
from vitals.alarms import ClockText, JudgedCondition, clock_text
from vitals.baseline import Baseline
from vitals.conditions import Conditions, JudgingContext
from vitals.freshness import Freshness, limits_for, state_at
from vitals.latest import LatestValues, SignValue
from vitals.limit_texts import with_limit
from vitals.messages import Event, News2Part, Reading, SensorFlag
from vitals.news2_history import News2History
from vitals.ordered_conditions import OrderedConditions
from vitals.plan import MonitoringPlan
from vitals.risk import duration, explain_news2
from vitals.rules import Rule, Truth
from vitals.signs import INDEX, SPEC, VitalSign, mask_of
from vitals.sources import FIRST, Source, Sources

_LEARNED: Final = (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE)
_BASELINES: Final = tuple((sign, f"baseline:{sign.value}") for sign in _LEARNED)
_CLOCK_FLAGS: Final = int(SensorFlag.CLOCK_CORRECTED | SensorFlag.CLOCK_CLAMPED)
_ENTERED: Final = frozenset(spec.sign for spec in SPEC.values() if spec.entered)
# Key of the condition, the flags that make it true, and whose clock that is.
_CLOCKS: Final = (
    ("", _CLOCK_FLAGS, "the wearable"),
    ("edge", int(SensorFlag.EDGE_CLOCK_CORRECTED), "edge"),
)
_LEAST_SILENT_MS: Final = limits_for(None, 0).stale_ms
_BIT: Final = {sign.value: 1 << INDEX[sign] for sign in SPEC}

_Inputs: TypeAlias = dict[VitalSign, tuple[float | None, int | None]]
_Values: TypeAlias = dict[VitalSign, SignValue]


class ReadingJudge:
    """Judges one reading after the other.

    Args:
        plan: what was ordered: rules, cadence, SpO2 scale.
        latest: the newest value of each sign, with those of the reading that is judged.
        conditions: where values are compared with limits.
        clock: writes the times in texts.
        by_activity: the patient's own normal at each activity; None: it is not learned.
    """

    __slots__ = (
        "_baselines", "_by_activity", "_clock", "_conditions", "_latest", "_plan", "_rules", "history", "ordered",
    )  # fmt: skip

    _baselines: dict[str, dict[VitalSign, Baseline]]  # by source, the first device's always

    def __init__(
        self,
        plan: MonitoringPlan,
        latest: LatestValues,
        conditions: Conditions,
        clock: ClockText = clock_text,
        by_activity: ActivityBaselines | None = None,
    ) -> None:
        self._plan = plan
        self._by_activity = by_activity if by_activity is not None and by_activity.is_on else None
        self._clock = clock
        self._rules = plan.rules_by_quantity
        self._latest = latest
        self._conditions = conditions
        self._baselines = {FIRST: {sign: Baseline() for sign in _LEARNED}}
        self.history = News2History()
        self.ordered = OrderedConditions(plan, latest, conditions)

    def learn(self, values: Sequence[tuple[VitalSign, float]], at_ms: int, source: str = FIRST) -> None:
        """Update the patient's baselines by one device, and ordered trends, with usable values in its order."""
        self.ordered.learn(values, at_ms)
        baselines = self._baselines.get(source)
        if baselines is None:
            baselines = self._baselines[source] = {sign: Baseline() for sign in _LEARNED}
        for sign, value in values:
            if sign in baselines:
                baselines[sign].update(at_ms, value)
                if self._by_activity is not None:
                    self._by_activity.learn(sign, value, at_ms)

    def judge_news2(self, score: news2.News2, context: JudgingContext) -> None:
        """Judge the rules on the total of NEWS2."""
        for rule in self._rules.get("news2", ()):
            causes, response = 0, ""
            if score.at_least >= rule.limits[0].threshold:
                causes = sum(_BIT[part.sign] for part in score.parts if part.points)
                response = news2.response_to(score).text
            explain = partial(self.history.explain, score, context.at_ms)
            grade = float(score.at_least)
            self._conditions.observe(
                rule, score.at_least, context, explain, causes=causes, grade=grade, response=response
            )

    def judge_signs(self, score: news2.News2 | None, context: JudgingContext) -> None:
        """Judge the rules on signs: points of single NEWS2 parameters, values, baselines, and scores of several."""
        if score is not None:
            self._judge_red_signs(score, context)
        self._judge_values(context)
        self._judge_baselines(context)
        self._judge_derived(context)
        self.ordered.judge(score, context)

    def forget(self, source: str) -> None:
        """A device is kept no longer."""
        self._baselines.pop(source, None)

    def judge_device(
        self,
        reading: Reading,
        sensor_off_since_ms: int | None,
        context: JudgingContext,
        device: Source | None = None,
    ) -> None:
        """Judge the rules on the device: on the body or not, battery, clock.

        Args:
            reading: its newest.
            sensor_off_since_ms: since when it is off the body, and not on purpose; None: it is not.
            device: one of several devices, named in the texts; None: the only one.
        """
        conditions, rules = self._conditions, self._rules
        key, named = ("", "") if device is None else (device.key, f"{device.label}: ")
        for rule in rules.get("sensor_off", ()):
            if sensor_off_since_ms is not None or conditions.book.has(rule.rule_id, key):
                off_ms = 0 if sensor_off_since_ms is None else context.at_ms - sensor_off_since_ms
                explain = partial(_sensor_off_text, named, self._clock, context.at_ms - off_ms, context.at_ms)
                conditions.observe(rule, off_ms, context, explain, key=key, onset_ms=sensor_off_since_ms)
        for rule in rules.get("battery", ()):
            if reading.battery is not None:
                text = f"{named}battery {reading.battery:.0f} %"
                conditions.observe(rule, reading.battery, context, partial(str, text), key=key)
        for rule in rules.get("clock", ()):
            for clock, flags, whose in _CLOCKS:
                place = clock_key(key, clock) if key else clock
                wrong = bool(reading.sensor_flags & flags)
                if wrong or conditions.book.has(rule.rule_id, place):
                    explain = partial(_clock_text, named, whose, reading)
                    conditions.observe(rule, float(wrong), context, explain, key=place)

    def judge_silence(self, sources: Sources, context: JudgingContext) -> None:
        """Judge the rules on devices that are silent while another one is heard."""
        rules = self._rules.get("device_silence", ())
        for device in sources if rules else ():
            if not device.is_bound:
                continue
            level = silence_level(device, self._plan, context.at_ms)
            for rule in rules:
                if level or self._conditions.book.has(rule.rule_id, device.key):
                    since_ms = _heard_ms(device)
                    explain = partial(_silent_text, device, self._clock, since_ms, context.at_ms)
                    self._conditions.observe(rule, level, context, explain, key=device.key, onset_ms=since_ms)

    def places_of(self, device: Source) -> list[tuple[str, str]]:
        """Rule and key of every condition that is about one device."""
        plain = [
            (rule.rule_id, device.key)
            for quantity in ("sensor_off", "battery", "device_silence")
            for rule in self._rules.get(quantity, ())
        ]
        clocks = [
            (rule.rule_id, clock_key(device.key, one)) for rule in self._rules.get("clock", ()) for one, *_ in _CLOCKS
        ]
        return [*plain, *clocks]

    def calm_devices(self, devices: Iterable[Source], context: JudgingContext) -> None:
        """Devices are off on purpose: what was said about their being off or silent is over."""
        for device in devices:
            for quantity in ("sensor_off", "device_silence"):
                for rule in self._rules.get(quantity, ()):
                    if self._conditions.book.has(rule.rule_id, device.key):
                        self._conditions.observe(rule, 0, context, str, key=device.key)
        for rule in self._rules.get("freshness", ()):
            for place in self._conditions.book.conditions():
                if place[0] == rule.rule_id:
                    self._conditions.observe(rule, 0, context, str, key=place[1])

    def judge_backfilled(self, reading: Reading, values: Iterable[tuple[VitalSign, float]]) -> list[Event]:
        """Judge a reading by itself that came too late to sound: its alarms are for the record only."""
        own = {sign: (value, 0) for sign, value in values}
        score = news2.score(own, spo2_scale=self._plan.spo2_scale)
        explain_all = partial(explain_news2, score, None, reading.at_ms)
        rules = self._rules
        found = [(rule, "", score.at_least, explain_all) for rule in rules.get("news2", ())]
        for rule in rules.get("red_sign", ()):
            found += [
                (rule, part.sign, part.points, partial(_red_text, part, self._plan.spo2_scale))
                for part in score.parts
                if part.points
            ]
        events: list[Event] = []
        for rule, key, points, explain in found:
            priority = rule.reached(points)
            if priority is not None:
                seen = JudgedCondition(
                    truth=Truth.TRUE, at_ms=reading.at_ms, reading_id=reading.reading_id, priority=priority
                )
                text = with_limit(rule, points, explain)
                events += self._conditions.book.backfill(rule, seen, key=key, explain=text)
        return events

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self.history.shift(by_ms)
        self.ordered.shift(by_ms)
        for source in self._baselines:
            self.shift_source(source, by_ms)

    def shift_source(self, source: str, by_ms: int) -> None:
        """The clock of one device turned out to be wrong by so much: move the times of its baselines."""
        for baseline in self._baselines.get(source, {}).values():
            baseline.shift(by_ms)

    def to_state(self) -> tuple[list[Any], list[Any]]:
        """Plain lists that msgspec can encode: baselines, history."""
        first = self._baselines[FIRST]
        return [first[sign].to_state() for sign in _LEARNED], self.history.to_state()

    def load_state(self, baselines: list[Any], history: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        self._baselines = {FIRST: _baselines_from(baselines)}
        self.history.load_state(history)

    def sources_to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode: the baselines of further devices; empty if there are none."""
        return [
            [source, *(baselines[sign].to_state() for sign in _LEARNED)]
            for source, baselines in self._baselines.items()
            if source != FIRST
        ]

    def load_sources(self, state: list[Any]) -> None:
        """Replace the baselines of further devices with those of `sources_to_state`, after `load_state`."""
        self._baselines.update({source: _baselines_from(baselines) for source, *baselines in state})

    def _judge_red_signs(self, score: news2.News2, context: JudgingContext) -> None:
        conditions = self._conditions
        is_open = conditions.is_open if conditions.is_holding else conditions.book.has  # asked for every part
        for rule in self._rules.get("red_sign", ()):
            for part in score.parts if context.measured_ms == context.at_ms else self._parts(score, context):
                if part.points is None:
                    # What people enter has no cadence: once it is too old, it may not be repeated as current.
                    if part.sign in _ENTERED and conditions.book.has(rule.rule_id, part.sign):
                        conditions.mark_unknown(rule, context.at_ms, context.events, key=part.sign)
                    continue
                if part.points >= rule.limits[0].threshold or is_open(rule.rule_id, part.sign):
                    explain = partial(_red_text, part, self._plan.spo2_scale)
                    causes, response = _BIT[part.sign], news2.response_to(score).text
                    conditions.observe(
                        rule, part.points, context, explain, key=part.sign, causes=causes, response=response
                    )

    def _parts(self, score: news2.News2, context: JudgingContext) -> Iterable[News2Part]:
        """The parts of a score. A device that is so slow to be heard that its newest values have become too old for a
        score is judged by them nevertheless: it would never be."""
        own: dict[VitalSign, tuple[float | None, int | None]] = {
            sign: (value.value, 0) for sign, value in self._latest.by_sign.items() if _has_come(value, context)
        }
        alone = {part.sign: part for part in news2.score(own, spo2_scale=self._plan.spo2_scale).parts}
        return [alone[part.sign] if part.points is None else part for part in score.parts]

    def _judge_values(self, context: JudgingContext) -> None:
        values = self._latest.by_sign
        for sign, rules in self._plan.rules_by_sign:
            latest = values.get(sign)
            if latest is None or context.missing >> INDEX[sign] & 1:
                if sign in _ENTERED:
                    self._mark_unknown(rules, context)
                continue
            has_come = _has_come(latest, context)
            for rule in rules:
                # A fast sign is judged where it was measured. A slow one, a cuff's, holds until the next.
                if has_come or self._plan.cadence(sign) > rule.for_ms:
                    explain = partial(_sign_text, rule, sign, latest.value)
                    self._conditions.observe(rule, latest.value, context, explain, causes=1 << INDEX[sign])

    def _mark_unknown(self, rules: Iterable[Rule], context: JudgingContext) -> None:
        # As with red signs: no timer watches what people enter.
        for rule in rules:
            if self._conditions.book.has(rule.rule_id):
                self._conditions.mark_unknown(rule, context.at_ms, context.events)

    def _judge_baselines(self, context: JudgingContext) -> None:
        baselines = self._baselines.get(context.source)
        if baselines is None:
            return
        for sign, quantity in _BASELINES:
            for rule in self._rules.get(quantity, ()):
                latest, baseline = self._latest.by_sign.get(sign), baselines[sign]
                if latest is None or not _has_come(latest, context):
                    continue
                usual, deviations = baseline.mean, abs(baseline.z(latest.value) or 0.0)
                explain = partial(_baseline_text, rule, sign, latest.value, usual or 0.0, deviations)
                own = None if self._by_activity is None else self._by_activity.unlike(sign, latest.value, context.at_ms)
                is_own_unlike = own is not None and rule.reached(own.deviations) is not None
                if own is not None and (is_own_unlike or usual is None):
                    usual, deviations = own.usual, max(own.deviations, deviations)
                    explain = partial(_baseline_text, rule, sign, latest.value, own.usual, own.deviations, own.at)
                if usual is not None:
                    # Unlike the patient at this very activity: the activity does not explain it.
                    self._conditions.observe(
                        rule, deviations, context, explain, causes=1 << INDEX[sign], may_be_held=not is_own_unlike
                    )

    def _judge_derived(self, context: JudgingContext) -> None:
        """Scores and ratios of several signs. They are worked out only where a limit can be near."""
        latest = self._latest
        for quantity, (signs, may_be_near, work_out) in _DERIVED.items():
            for rule in self._rules.get(quantity, ()):
                if not self._conditions.is_open(rule.rule_id) and not may_be_near(latest.by_sign, rule):
                    continue
                value, text = work_out(latest.inputs(context.at_ms), latest.validity)
                if value is not None:
                    causes = signs & ~context.missing
                    self._conditions.observe(rule, value, context, partial(str, text), causes=causes)


def _red_text(part: News2Part, scale: int) -> str:
    sign = VitalSign(part.sign)
    on_scale = " on scale 2" if scale == 2 and sign is VitalSign.SPO2 else ""
    value = scores.shown(sign, part.value) if part.value is not None else sign.value
    return f"red sign: {value}{on_scale} scores {part.points} of NEWS2"


def _sign_text(rule: Rule, sign: VitalSign, value: float) -> str:
    unit = "" if SPEC[sign].entered else f" {SPEC[sign].unit}"  # what is entered is shown with its unit, or has none
    return f"{rule.label}: {scores.shown(sign, value)}{unit}"


def _baseline_text(rule: Rule, sign: VitalSign, value: float, usual: float, deviations: float, at: str = "") -> str:
    return f"{rule.label}: {scores.shown(sign, value)}, usually {usual:.0f}{at}, {deviations:.1f} deviations"


def clock_key(device: str, clock: str) -> str:
    """Key of the condition that a clock is wrong: of a device, or of the edge that hears it.

    >>> clock_key("", "edge"), clock_key("1a2b3c4d", ""), clock_key("1a2b3c4d", "edge")
    ('edge', '1a2b3c4d', '1a2b3c4d:edge')
    """
    return f"{device}:{clock}" if device and clock else device or clock


def silence_level(device: Source, plan: MonitoringPlan, now_ms: int) -> int:
    """Value of the quantity `device_silence`: 0 is heard, 1 silent, 2 silent for long."""
    silent_ms = now_ms - _heard_ms(device)
    if silent_ms <= _LEAST_SILENT_MS:
        return 0
    state = state_at(silent_ms, device.silent_limits(plan))
    return max(int(state) - int(Freshness.LATE), 0)


def _heard_ms(device: Source) -> int:
    """When a device was last heard; of one that never was, when its binding became known."""
    return (device.term.known_ms or 0) if device.frontier_ms is None else device.frontier_ms


def _silent_text(device: Source, clock: ClockText, since_ms: int, now_ms: int) -> str:
    ever = "is silent" if device.frontier_ms is not None else "was never heard; it is bound"
    return f"{device.label} {ever} since {clock(since_ms)}, {duration(now_ms - since_ms)}; other devices are heard"


def _has_come(value: SignValue, context: JudgingContext) -> bool:
    """Whether a value that counts is one of those that have just come."""
    return value.at_ms == context.measured_ms and value.source == context.source


def _baselines_from(state: list[Any]) -> dict[VitalSign, Baseline]:
    return {sign: Baseline.from_state(one) for sign, one in zip(_LEARNED, state, strict=True)}


def _sensor_off_text(named: str, clock: ClockText, since_ms: int, now_ms: int) -> str:
    return f"{named}sensor off since {clock(since_ms)}, {duration(now_ms - since_ms)}"


def _clock_text(named: str, whose: str, reading: Reading) -> str:
    name = f"{whose} {reading.edge}" if whose == "edge" and reading.edge else whose
    return f"{named}{_clock_fault(name, reading)}"


def _clock_fault(name: str, reading: Reading) -> str:
    if not reading.clock_ms:
        return f"the clock of {name} is wrong; times are worked out from its uptime"
    side = "ahead" if reading.clock_ms > 0 else "behind"
    if reading.arrived_ms is None:
        side += " of" if reading.clock_ms > 0 else ""
        return f"the clock of {name} is {duration(abs(reading.clock_ms))} {side} the edge's; times are corrected"
    return f"the clock of {name} is {duration(abs(reading.clock_ms))} {side}; times are corrected"


def _points(score: Callable[..., scores.Score]) -> Callable[[_Inputs, dict[VitalSign, int]], tuple[float | None, str]]:
    def work_out(inputs: _Inputs, valid_ms: dict[VitalSign, int]) -> tuple[float | None, str]:
        found = score(inputs, valid_ms=valid_ms)
        return float(found.at_least), found.text

    return work_out


def _shock_index(inputs: _Inputs, valid_ms: dict[VitalSign, int]) -> tuple[float | None, str]:
    index = scores.shock_index(inputs, valid_ms=valid_ms)
    return index.value, index.text


def _near_qsofa(latest: _Values, _: Rule) -> bool:
    breathing = latest.get(VitalSign.RESPIRATORY_RATE)
    pressure = latest.get(VitalSign.SYSTOLIC_BP)
    # Two of three points need one of these two.
    return (breathing is not None and breathing.value >= 21) or (pressure is not None and pressure.value <= 101)


def _near_shock(latest: _Values, rule: Rule) -> bool:
    pulse, pressure = latest.get(VitalSign.HEART_RATE), latest.get(VitalSign.SYSTOLIC_BP)
    if pulse is None or pressure is None:
        return False
    return rule.comparison == "<=" or pulse.value >= 0.9 * rule.limits[0].threshold * pressure.value


def _always(_: _Values, __: Rule) -> bool:
    return True


_QSOFA_SIGNS: Final = mask_of(VitalSign.RESPIRATORY_RATE, VitalSign.SYSTOLIC_BP, VitalSign.CONSCIOUSNESS)
_SIRS_SIGNS: Final = mask_of(VitalSign.RESPIRATORY_RATE, VitalSign.HEART_RATE, VitalSign.TEMPERATURE)
_SHOCK_SIGNS: Final = mask_of(VitalSign.HEART_RATE, VitalSign.SYSTOLIC_BP)
# Quantity -> the signs it is made of, whether it can be near a limit at all, and how it is worked out.
_DERIVED: Final = {
    "qsofa": (_QSOFA_SIGNS, _near_qsofa, _points(scores.qsofa)),
    "shock_index": (_SHOCK_SIGNS, _near_shock, _shock_index),
    "sirs": (_SIRS_SIGNS, _always, _points(scores.sirs)),
    "mews": (_QSOFA_SIGNS | _SIRS_SIGNS, _always, _points(scores.mews)),
}
