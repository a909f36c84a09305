"""Alarm conditions as data: quantity, comparison, limits, duration, hysteresis, priority.

A rule has one or more limits, the mildest first; the worst limit that is crossed gives the priority. So a NEWS2 of 5
that becomes 7 is one alarm that rises, not two alarms.
"""

from enum import IntEnum
from math import inf, isfinite
from typing import Final, Literal

import msgspec

from vitals.errors import BadPlan
from vitals.messages import AlarmKind, Priority
from vitals.patient_group import PatientGroup
from vitals.signs import SPEC, VitalSign


class Truth(IntEnum):
    """Whether a condition holds. An alarm whose condition is unknown is never cleared."""

    UNKNOWN = -1
    FALSE = 0
    TRUE = 1


class AlarmLimit(msgspec.Struct, frozen=True, array_like=True):
    """A threshold, inclusive, and the priority of an alarm that crosses it."""

    threshold: float
    priority: Priority


class Term(msgspec.Struct, frozen=True, array_like=True):
    """One of several comparisons that must be true at the same time."""

    quantity: str  # a sign of `vitals.signs` or one of TERM_QUANTITIES
    comparison: Literal[">=", "<="]
    threshold: float
    clear_margin: float = 0.0  # the term is over when the value is inside the threshold by this much


class Trend(msgspec.Struct, frozen=True, array_like=True):
    """A change of one sign over a time: the mean of the last minutes against the mean of those so long before."""

    sign: str
    over_ms: int
    falls: bool = False
    in_percent: bool = True  # of the earlier mean; if not, in the unit of the sign


class Rule(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One alarm condition of one patient. Orders store rules by the position of fields: new ones stand at the end."""

    rule_id: str
    version: int = 1  # raised when limits change; part of the id of an alarm
    label: str  # what a clinician reads
    kind: AlarmKind = AlarmKind.PHYSIOLOGICAL
    quantity: str  # a sign of `vitals.signs` or one of QUANTITIES
    comparison: Literal[">=", "<="] = ">="
    limits: tuple[AlarmLimit, ...]
    for_ms: int = 0  # the condition must last this long, in event time, before the alarm is active
    clear_margin: float = 0.0  # to end the alarm the value must be inside the mildest limit by this much,
    clear_for_ms: int = 600_000  # for this long,
    clear_count: int = 2  # and in this many observations
    latching: bool | None = None  # whether an alarm stays until acknowledged; None: only at high priority
    basis: str = "rule"
    enabled: bool = True
    not_for: tuple[PatientGroup, ...] = ()  # groups of patients for whom the limits are not meant
    all_of: tuple[Term, ...] = ()  # of the quantity `combined`: what must be true at the same time
    trend: Trend | None = None  # of the quantity `trend`

    @property
    def parts(self) -> tuple[str, ...]:
        """The quantities that its value is made of: of a combined rule or a trend its signs, of others its own."""
        if self.trend is not None:
            return (self.trend.sign,)
        return tuple(term.quantity for term in self.all_of) or (self.quantity,)

    def crossed(self, value: float) -> AlarmLimit | None:
        """The worst limit that `value` has crossed; None if it has crossed none."""
        found = None
        for limit in self.limits:
            if (value >= limit.threshold) if self.comparison == ">=" else (value <= limit.threshold):
                found = limit
        return found

    def reached(self, value: float) -> Priority | None:
        """The priority of the worst limit that `value` has crossed; None if it has crossed none.

        >>> next(rule for rule in DEFAULT_RULES if rule.rule_id == "news2").reached(6)
        <Priority.MEDIUM: 2>
        """
        found = self.crossed(value)
        return None if found is None else found.priority

    def is_well_inside(self, value: float) -> bool:
        """Whether `value` is inside the mildest limit by the margin, so that it counts towards clearing."""
        mildest = self.limits[0].threshold
        if self.comparison == ">=":
            return value < mildest and value <= mildest - self.clear_margin
        return value > mildest and value >= mildest + self.clear_margin

    def latches(self, priority: Priority) -> bool:
        return priority is Priority.HIGH if self.latching is None else self.latching

    @property
    def is_by_sign(self) -> bool:
        """Whether it is judged sign by sign, so that its alarms name a sign."""
        return self.quantity in ("red_sign", "freshness", "disagreement")

    def check(self) -> None:
        """Raise BadPlan, naming the rule and the fix, if this rule is invalid."""
        if not self.limits:
            raise BadPlan(f"rule {self.rule_id}: give at least one limit")
        steps = [limit.threshold for limit in self.limits]
        if not all(isfinite(step) for step in steps):
            raise BadPlan(f"rule {self.rule_id}: limits must be finite numbers; any other is never crossed")
        if steps != sorted(steps, reverse=self.comparison == "<="):
            raise BadPlan(f"rule {self.rule_id}: order its limits from the mildest to the worst")
        if [limit.priority for limit in self.limits] != sorted(limit.priority for limit in self.limits):
            raise BadPlan(f"rule {self.rule_id}: a worse limit may not have a lower priority")
        if self.quantity not in QUANTITIES and self.quantity not in SPEC:
            known = ", ".join([*QUANTITIES, *SPEC])
            raise BadPlan(f"rule {self.rule_id}: unknown quantity {self.quantity!r}; known are {known}")
        if min(self.for_ms, self.clear_for_ms, self.clear_margin) < 0 or self.clear_count < 1:
            raise BadPlan(
                f"rule {self.rule_id}: for_ms, clear_for_ms and clear_margin must be 0 or more, clear_count at least 1"
            )
        self._check_parts()

    def _check_parts(self) -> None:
        if (self.quantity == "combined") != bool(self.all_of):
            raise BadPlan(f"rule {self.rule_id}: the quantity `combined` and the terms of all_of go together")
        if (self.quantity == "trend") != (self.trend is not None):
            raise BadPlan(f"rule {self.rule_id}: the quantity `trend` and a trend go together")
        for term in self.all_of:
            if term.quantity not in TERM_QUANTITIES and term.quantity not in SPEC:
                known = ", ".join([*SPEC, *TERM_QUANTITIES])
                raise BadPlan(f"rule {self.rule_id}: unknown quantity {term.quantity!r}; known are {known}")
            if not isfinite(term.threshold) or not 0 <= term.clear_margin < inf:
                raise BadPlan(f"rule {self.rule_id}: thresholds must be finite numbers, margins 0 or more")
        if self.trend is not None and (self.trend.sign not in SPEC or not 0 < self.trend.over_ms <= LONGEST_TREND_MS):
            raise BadPlan(f"rule {self.rule_id}: a trend is of a sign, over at most {LONGEST_TREND_MS // 60_000} min")


QUANTITIES: Final = (
    "news2",  # the lower bound of the score
    "red_sign",  # points of one NEWS2 parameter, judged for each parameter by itself
    "qsofa",
    "sirs",
    "mews",
    "shock_index",
    "baseline:heart_rate",  # deviations from the patient's own normal
    "baseline:respiratory_rate",
    "model:sepsis",  # probability, in multiples of the alarm threshold of the model
    "model:heart",
    "model:rhythm",
    "model_unavailable",  # 1 while a model gives no probability, 2 after an hour of that
    "zero",  # 1 when a sign was 0 with contact; this and the next two are judged for each sign by itself
    "suspect_value",  # 1 when contradicted values in the red keep coming, 2 when extreme ones do
    "unusable",  # 1 when what arrives has not been usable for a while, 2 when for long or when it is no value at all
    "sensor_off",  # milliseconds without contact
    "battery",  # %
    "freshness",  # 0 fresh, 1 late, 2 stale, 3 lost; judged for each expected sign by itself
    "clock",  # 1 when the device's clock had to be corrected
    "combined",  # 1 when every term of the rule is true; see `vitals.ordered_conditions`
    "trend",  # change of a sign over a time, in the direction of the rule
    "disagreement",  # 1 when two current sources of a sign contradict each other; judged for each sign by itself
    "device_silence",  # 1 when a device is silent while others are heard, 2 when for long; judged for each device
)

TERM_QUANTITIES: Final = ("news2", "qsofa", "shock_index")
"""Besides the signs, what a term of a combined rule may be about."""

LONGEST_TREND_MS: Final = 4 * 3_600_000
"""The longest time of a trend: it bounds what is kept of a sign."""

ADULT_QUANTITIES: Final = frozenset(
    {
        "news2", "red_sign", "qsofa", "sirs", "mews", "shock_index",
        "model:sepsis", "model:heart", "model:rhythm", "model_unavailable",
    }
)  # fmt: skip
"""Quantities that are made for adults. No rule on them is judged for other patients, whatever a plan says."""

_LOW, _MEDIUM, _HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
_MINUTE = 60_000
_SCORED = (PatientGroup.UNSTATED, PatientGroup.ADULT)

DEFAULT_RULES: Final[tuple[Rule, ...]] = (
    # RCP 2017, chart 4: 5 is the threshold for an urgent response, 7 for an emergency.
    Rule(
        rule_id="news2", label="NEWS2", quantity="news2",
        limits=(AlarmLimit(5, _MEDIUM), AlarmLimit(7, _HIGH)), basis="NEWS2",
    ),
    # One parameter in the red zone, for a minute: a single noisy respiratory rate is not an emergency.
    Rule(
        rule_id="red_sign", label="single red sign", quantity="red_sign", limits=(AlarmLimit(3, _HIGH),),
        for_ms=_MINUTE, basis="NEWS2",
    ),
    # A delay of 15 s cuts low-saturation alarms by 60 % (Biomed Instrum Technol 2011); it is the same at every limit.
    Rule(
        rule_id="low_spo2", label="low oxygen saturation", quantity=VitalSign.SPO2, comparison="<=",
        limits=(AlarmLimit(87, _MEDIUM), AlarmLimit(84, _HIGH)),
        for_ms=15_000, clear_margin=2, clear_for_ms=2 * _MINUTE,
    ),
    Rule(
        rule_id="high_heart_rate", label="very high heart rate", quantity=VitalSign.HEART_RATE,
        limits=(AlarmLimit(150, _HIGH),), for_ms=15_000, clear_margin=5, clear_for_ms=2 * _MINUTE,
        not_for=(PatientGroup.CHILD,),  # 150 is usual in an infant
    ),
    Rule(
        rule_id="low_heart_rate", label="very low heart rate", quantity=VitalSign.HEART_RATE, comparison="<=",
        limits=(AlarmLimit(35, _HIGH),), for_ms=15_000, clear_margin=3, clear_for_ms=2 * _MINUTE,
    ),
    # How long values must keep coming is in `vitals.usability`: by share, so that no normal value between hides them.
    Rule(
        rule_id="arrest", label="arrest or sensor off, look now", quantity="zero", limits=(AlarmLimit(1, _HIGH),),
        clear_for_ms=2 * _MINUTE,
    ),
    Rule(
        rule_id="suspect_value", label="check patient and sensor", quantity="suspect_value",
        limits=(AlarmLimit(1, _MEDIUM), AlarmLimit(2, _HIGH)), clear_for_ms=2 * _MINUTE,
    ),
    # Seymour, JAMA 2016;315:762: two of three, as the worst values of hours and not of a minute. What is dangerous at
    # once has rules of its own, NEWS2 and the red sign, and waits for none of this: decision 42.
    Rule(
        rule_id="qsofa", version=2, label="qSOFA", quantity="qsofa", limits=(AlarmLimit(2, _MEDIUM),),
        for_ms=30 * _MINUTE, clear_for_ms=30 * _MINUTE, basis="qSOFA",
    ),
    Rule(
        rule_id="shock_index", label="shock index", quantity="shock_index", limits=(AlarmLimit(1.0, _MEDIUM),),
        for_ms=5 * _MINUTE, clear_margin=0.05, basis="shock index",
    ),
    # Every other patient in hospital meets SIRS: disabled unless a plan asks for it.
    Rule(rule_id="sirs", label="SIRS", quantity="sirs", limits=(AlarmLimit(2, _LOW),), basis="SIRS", enabled=False),
    Rule(
        rule_id="unusual_heart_rate", label="heart rate unlike this patient", quantity="baseline:heart_rate",
        limits=(AlarmLimit(4.0, _LOW),), for_ms=10 * _MINUTE, clear_margin=1.0, basis="baseline",
    ),
    # The passport of a model gives its alarm threshold, chosen for a number of alarms per patient and day. Medium: high
    # is reserved for the rules until models are proven.
    Rule(
        rule_id="sepsis_risk", version=2, label="sepsis risk", quantity="model:sepsis",
        limits=(AlarmLimit(1.0, _MEDIUM),), clear_margin=0.2, basis="model",
    ),
    Rule(
        rule_id="heart_risk", version=2, label="heart risk", quantity="model:heart",
        limits=(AlarmLimit(1.0, _MEDIUM),), clear_margin=0.2, basis="model",
    ),
    Rule(
        rule_id="sensor_off", label="sensor off", kind=AlarmKind.TECHNICAL, quantity="sensor_off",
        limits=(AlarmLimit(_MINUTE, _LOW), AlarmLimit(10 * _MINUTE, _MEDIUM)),
        clear_for_ms=0, clear_count=1, latching=False,
    ),
    Rule(
        rule_id="unusable", label="arrives and is not usable", kind=AlarmKind.TECHNICAL, quantity="unusable",
        limits=(AlarmLimit(1, _LOW), AlarmLimit(2, _MEDIUM)), clear_for_ms=0, clear_count=1, latching=False,
    ),
    Rule(
        rule_id="battery", label="battery low", kind=AlarmKind.TECHNICAL, quantity="battery", comparison="<=",
        limits=(AlarmLimit(15, _LOW), AlarmLimit(5, _MEDIUM)),
        clear_margin=5, clear_for_ms=0, clear_count=1, latching=False,
    ),
    # 2 is STALE, 3 is LOST, 4 is LOST of a patient who was ill (NEWS2 of 5 or more, or 3 points of this sign).
    Rule(
        rule_id="no_data", label="no data", kind=AlarmKind.TECHNICAL, quantity="freshness",
        limits=(AlarmLimit(2, _MEDIUM), AlarmLimit(4, _HIGH)), clear_for_ms=0, clear_count=1, latching=False,
    ),
    Rule(
        rule_id="clock", label="device clock wrong", kind=AlarmKind.TECHNICAL, quantity="clock",
        limits=(AlarmLimit(1, _LOW),), for_ms=_MINUTE, clear_for_ms=_MINUTE, latching=False,
    ),
    # How far and how long two sources may differ is in `vitals.disagreement`.
    Rule(
        rule_id="sources_disagree", label="sources disagree", kind=AlarmKind.TECHNICAL, quantity="disagreement",
        limits=(AlarmLimit(1, _MEDIUM),), clear_for_ms=0, clear_count=1, latching=False,
    ),
    Rule(
        rule_id="device_silent", label="device silent", kind=AlarmKind.TECHNICAL, quantity="device_silence",
        limits=(AlarmLimit(1, _LOW), AlarmLimit(2, _MEDIUM)), clear_for_ms=0, clear_count=1, latching=False,
    ),
    Rule(
        rule_id="model_unavailable", version=2, label="model unavailable", kind=AlarmKind.TECHNICAL,
        quantity="model_unavailable", limits=(AlarmLimit(1, _LOW), AlarmLimit(2, _MEDIUM)),
        clear_for_ms=0, clear_count=1, latching=False,
    ),
    # For patients without adult scores: single values that are dangerous at any age and in pregnancy. They are not the
    # limits of a paediatric or an obstetric score, which would alarm earlier.
    Rule(  # PALS: supraventricular tachycardia, from 220 in infants and 180 in children
        rule_id="danger_heart_rate", label="dangerously high heart rate", quantity=VitalSign.HEART_RATE,
        limits=(AlarmLimit(220, _HIGH),), for_ms=15_000, clear_margin=5, clear_for_ms=2 * _MINUTE, not_for=_SCORED,
    ),
    Rule(  # red for an adult, and more so for a child, who breathes faster
        rule_id="danger_respiratory_rate", label="dangerously low respiratory rate",
        quantity=VitalSign.RESPIRATORY_RATE, comparison="<=",
        limits=(AlarmLimit(8, _HIGH),), for_ms=_MINUTE, clear_margin=2, not_for=_SCORED,
    ),
    Rule(  # PALS: below 60 is hypotension even in a newborn
        rule_id="danger_systolic_bp", label="dangerously low blood pressure", quantity=VitalSign.SYSTOLIC_BP,
        comparison="<=", limits=(AlarmLimit(59, _HIGH),), clear_margin=5, not_for=_SCORED,
    ),
    Rule(  # moderate hypothermia, ERC 2021
        rule_id="danger_low_temperature", label="dangerously low temperature", quantity=VitalSign.TEMPERATURE,
        comparison="<=", limits=(AlarmLimit(32.0, _HIGH),), for_ms=_MINUTE, clear_margin=0.5, not_for=_SCORED,
    ),
    Rule(  # hyperpyrexia
        rule_id="danger_high_temperature", label="dangerously high temperature", quantity=VitalSign.TEMPERATURE,
        limits=(AlarmLimit(41.0, _HIGH),), for_ms=_MINUTE, clear_margin=0.5, not_for=_SCORED,
    ),
    Rule(  # responds to pain only, or not at all
        rule_id="danger_consciousness", label="dangerously low consciousness", quantity=VitalSign.CONSCIOUSNESS,
        limits=(AlarmLimit(3, _HIGH),), not_for=_SCORED,
    ),
)  # fmt: skip
