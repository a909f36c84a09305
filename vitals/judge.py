"""Judges the readings of one patient by the rules of the plan: NEWS2, single signs, baselines, other scores, device.

Keeps what a judgement needs beyond the newest values: the patient's own baselines and the NEWS2 of the last hours.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeAlias

from vitals import news2, scores
from vitals.alarms import ClockText, Observation, clock_text
from vitals.baseline import Baseline
from vitals.conditions import Conditions, JudgingContext
from vitals.latest import LatestValues, SignValue
from vitals.limit_texts import with_limit
from vitals.messages import Event, News2Part, Reading, SensorFlag
from vitals.news2_history import News2History
from vitals.plan import MonitoringPlan
from vitals.risk import duration, explain_news2
from vitals.rules import Rule, Truth
from vitals.signs import INDEX, SPEC, VitalSign, mask_of

_LEARNED: Final = (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE)
_BASELINES: Final = tuple((sign, f"baseline:{sign.value}") for sign in _LEARNED)
_CLOCK_FLAGS: Final = int(SensorFlag.CLOCK_CORRECTED | SensorFlag.CLOCK_CLAMPED)
_ENTERED: Final = frozenset(spec.sign for spec in SPEC.values() if spec.entered)
# Key of the condition, the flags that make it true, and whose clock that is.
_CLOCKS: Final = (
    ("", _CLOCK_FLAGS, "the wearable"),
    ("edge", int(SensorFlag.EDGE_CLOCK_CORRECTED), "edge"),
)
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
    """

    __slots__ = ("_baselines", "_clock", "_conditions", "_latest", "_plan", "_rules", "history")

    def __init__(
        self, plan: MonitoringPlan, latest: LatestValues, conditions: Conditions, clock: ClockText = clock_text
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._rules = plan.rules_by_quantity
        self._latest = latest
        self._conditions = conditions
        self._baselines = {sign: Baseline() for sign in _LEARNED}
        self.history = News2History()

    def learn(self, values: Iterable[tuple[VitalSign, float]], at_ms: int) -> None:
        """Update the patient's baselines with usable values that came in order."""
        baselines = self._baselines
        for sign, value in values:
            if sign in baselines:
                baselines[sign].update(at_ms, value)

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

    def judge_device(self, reading: Reading, sensor_off_since_ms: int | None, context: JudgingContext) -> None:
        """Judge the rules on the device: on the body or not, battery, clock."""
        conditions, rules = self._conditions, self._rules
        for rule in rules.get("sensor_off", ()):
            if sensor_off_since_ms is not None or conditions.book.has(rule.rule_id):
                off_ms = 0 if sensor_off_since_ms is None else context.at_ms - sensor_off_since_ms
                explain = partial(_sensor_off_text, self._clock, context.at_ms - off_ms, context.at_ms)
                conditions.observe(rule, off_ms, context, explain, onset_ms=sensor_off_since_ms)
        for rule in rules.get("battery", ()):
            if reading.battery is not None:
                conditions.observe(rule, reading.battery, context, partial(str, f"battery {reading.battery:.0f} %"))
        for rule in rules.get("clock", ()):
            for key, flags, whose in _CLOCKS:
                wrong = bool(reading.sensor_flags & flags)
                if wrong or conditions.book.has(rule.rule_id, key):
                    conditions.observe(rule, float(wrong), context, partial(_clock_text, whose, reading), key=key)

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
                seen = Observation(
                    truth=Truth.TRUE, at_ms=reading.at_ms, reading_id=reading.reading_id, priority=priority
                )
                text = with_limit(rule, points, explain)
                events += self._conditions.book.backfill(rule, seen, key=key, explain=text)
        return events

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self.history.shift(by_ms)
        for baseline in self._baselines.values():
            baseline.shift(by_ms)

    def to_state(self) -> tuple[list[Any], list[Any]]:
        """Plain lists that msgspec can encode: baselines, history."""
        return [self._baselines[sign].to_state() for sign in _LEARNED], self.history.to_state()

    def load_state(self, baselines: list[Any], history: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        self._baselines = {sign: Baseline.from_state(one) for sign, one in zip(_LEARNED, baselines, strict=True)}
        self.history.load_state(history)

    def _judge_red_signs(self, score: news2.News2, context: JudgingContext) -> None:
        conditions = self._conditions
        for rule in self._rules.get("red_sign", ()):
            for part in score.parts:
                if part.points is None:
                    # No timer watches what people enter: once it is too old, it may not be repeated as current.
                    if part.sign in _ENTERED and conditions.book.has(rule.rule_id, part.sign):
                        conditions.mark_unknown(rule, context.at_ms, context.events, key=part.sign)
                    continue
                if part.points >= rule.limits[0].threshold or conditions.book.has(rule.rule_id, part.sign):
                    explain = partial(_red_text, part, self._plan.spo2_scale)
                    causes, response = _BIT[part.sign], news2.response_to(score).text
                    conditions.observe(
                        rule, part.points, context, explain, key=part.sign, causes=causes, response=response
                    )

    def _judge_values(self, context: JudgingContext) -> None:
        values = self._latest.by_sign
        for sign, rules in self._plan.rules_by_sign:
            latest = values.get(sign)
            if latest is None or context.missing >> INDEX[sign] & 1:
                if sign in _ENTERED:
                    self._mark_unknown(rules, context)
                continue
            for rule in rules:
                # A fast sign is judged where it was measured. A slow one, a cuff's, holds until the next.
                if latest.at_ms == context.at_ms or self._plan.cadence(sign) > rule.for_ms:
                    explain = partial(_sign_text, rule, sign, latest.value)
                    self._conditions.observe(rule, latest.value, context, explain, causes=1 << INDEX[sign])

    def _mark_unknown(self, rules: Iterable[Rule], context: JudgingContext) -> None:
        # As with red signs: no timer watches what people enter.
        for rule in rules:
            if self._conditions.book.has(rule.rule_id):
                self._conditions.mark_unknown(rule, context.at_ms, context.events)

    def _judge_baselines(self, context: JudgingContext) -> None:
        for sign, quantity in _BASELINES:
            for rule in self._rules.get(quantity, ()):
                latest, baseline = self._latest.by_sign.get(sign), self._baselines[sign]
                if latest is None or latest.at_ms != context.at_ms or baseline.mean is None:
                    continue
                z = baseline.z(latest.value)
                if z is not None:
                    explain = partial(_baseline_text, rule, sign, latest.value, baseline.mean, abs(z))
                    self._conditions.observe(rule, abs(z), context, explain, causes=1 << INDEX[sign])

    def _judge_derived(self, context: JudgingContext) -> None:
        """Scores and ratios of several signs. They are worked out only where a limit can be near."""
        latest = self._latest
        for quantity, (signs, may_be_near, work_out) in _DERIVED.items():
            for rule in self._rules.get(quantity, ()):
                if not self._conditions.book.has(rule.rule_id) and not may_be_near(latest.by_sign):
                    continue
                value, text = work_out(latest.inputs(context.at_ms), self._plan.validity)
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


def _baseline_text(rule: Rule, sign: VitalSign, value: float, usual: float, deviations: float) -> str:
    return f"{rule.label}: {scores.shown(sign, value)}, usually {usual:.0f}, {deviations:.1f} deviations"


def _sensor_off_text(clock: ClockText, since_ms: int, now_ms: int) -> str:
    return f"sensor off since {clock(since_ms)}, {duration(now_ms - since_ms)}"


def _clock_text(whose: str, reading: Reading) -> str:
    name = f"{whose} {reading.edge}" if whose == "edge" and reading.edge else whose
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


def _near_qsofa(latest: _Values) -> bool:
    breathing = latest.get(VitalSign.RESPIRATORY_RATE)
    pressure = latest.get(VitalSign.SYSTOLIC_BP)
    # Two of three points need one of these two.
    return (breathing is not None and breathing.value >= 21) or (pressure is not None and pressure.value <= 101)


def _near_shock(latest: _Values) -> bool:
    pulse, pressure = latest.get(VitalSign.HEART_RATE), latest.get(VitalSign.SYSTOLIC_BP)
    return pulse is not None and pressure is not None and pulse.value >= 0.5 * pressure.value


def _always(_: _Values) -> bool:
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
