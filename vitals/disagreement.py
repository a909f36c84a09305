"""Two current sources of one sign that contradict each other: for longer than chance, an alarm says so.

The newest value counts (`vitals.latest`), so two sources that contradict each other take turns, and the wait of a rule
begins again with each of them. What one of them says again and again would be heard by nobody. So a sign is watched
from the first contradiction on, by share of time: while they contradict each other its load rises with the time, while
they agree it falls by a third of it, and while they cannot be compared it stays: what is not seen is not over.

Values are compared that were measured at about the same time, so that a patient who changes is no disagreement. They
contradict each other if they differ by more than two devices of that kind may, or if one of them is in the red and the
other is not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from vitals.conditions import Conditions, JudgingContext
from vitals.latest import LatestValues, SignValue
from vitals.news2 import is_red
from vitals.plan import MonitoringPlan
from vitals.risk import duration
from vitals.scores import shown
from vitals.signs import INDEX, SIGNS, SPEC, VitalSign
from vitals.sources import is_person

_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND


class DisagreementLimit(NamedTuple):
    """How far two sources of one sign may differ.

    They are compared while both values are newer than `within_ms` and were measured within `near_ms` of each other.
    """

    most: float
    near_ms: int
    within_ms: int
    share: float = 0.0  # of the lower value, if that is more than `most`


LIMITS: Final = {
    # ISO 80601-2-61 lets an oximeter be wrong by 4 % (root mean square).
    VitalSign.SPO2: DisagreementLimit(4, 20 * _SECOND, _MINUTE),
    # IEC 60601-2-27 asks of a heart rate 10 % or 5 /min, whichever is more: twice that between two.
    VitalSign.HEART_RATE: DisagreementLimit(10, 20 * _SECOND, _MINUTE, share=0.2),
    # Chosen: breaths are averaged over half a minute to a minute, differently by each device and by a person.
    VitalSign.RESPIRATORY_RATE: DisagreementLimit(5, 20 * _SECOND, _MINUTE),
    # ISO 81060-2 lets a cuff deviate by 8 mmHg (standard deviation): 20 is more than two of them differ by, as a rule.
    VitalSign.SYSTOLIC_BP: DisagreementLimit(20, 3 * _MINUTE, 5 * _MINUTE),
    VitalSign.DIASTOLIC_BP: DisagreementLimit(20, 3 * _MINUTE, 5 * _MINUTE),
    # ISO 80601-2-56 asks of a thermometer 0.3 °C; skin, ear and mouth differ by more.
    VitalSign.TEMPERATURE: DisagreementLimit(1.0, 3 * _MINUTE, 5 * _MINUTE),
}
AFTER_MS: Final = 45 * _SECOND
"""So much time of contradiction is an alarm..."""
MOST_MS: Final = 90 * _SECOND
"""...and no more than this is counted, so that it ends within minutes of agreement."""
ENDS_MS: Final = 10 * _MINUTE
"""The alarm ends when the sources could not be compared for so long: one of them is silent, and that is said..."""
FORGOTTEN_MS: Final = 180 * _MINUTE
"""...and contradictions that were too short for an alarm are forgotten after this time."""
_LONGEST_STEP_MS: Final = _MINUTE
_TAKES: Final = 3  # a third of the time of agreement is taken off


class _Load:
    """One sign that is watched."""

    __slots__ = ("compared_ms", "judged_ms", "ms", "since_ms")

    def __init__(self, ms: int, since_ms: int, judged_ms: int, compared_ms: int) -> None:
        self.ms = ms  # time of contradiction, less a share of the time of agreement
        self.since_ms = since_ms
        self.judged_ms = judged_ms
        self.compared_ms = compared_ms  # when the sources could last be compared

    def to_state(self) -> list[int]:
        return [self.ms, self.since_ms, self.judged_ms, self.compared_ms]


class Disagreement:
    """Watches the signs of one patient that have several sources.

    Args:
        plan: what was ordered: rules, SpO2 scale, group.
        latest: the values of each source.
        conditions: where the rules on the quantity `disagreement` are judged.
        is_open: whether a source is still on the patient.
        label_of: how a text names a source.
    """

    __slots__ = ("_conditions", "_is_open", "_label_of", "_latest", "_loads", "_plan")

    def __init__(
        self,
        plan: MonitoringPlan,
        latest: LatestValues,
        conditions: Conditions,
        is_open: Callable[[str], bool],
        label_of: Callable[[str], str],
    ) -> None:
        self._plan = plan
        self._latest = latest
        self._conditions = conditions
        self._is_open = is_open
        self._label_of = label_of
        self._loads: dict[VitalSign, _Load] = {}

    @property
    def is_watching(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self._loads or self._latest.by_source)

    def judge(self, context: JudgingContext) -> None:
        """Compare the current values of each sign and judge the rules."""
        now_ms = context.at_ms
        for sign, limit in LIMITS.items():
            if sign not in self._loads and sign not in self._latest.by_source:
                continue
            load = self._loads.get(sign)
            if load is None and self._agree(sign, limit):  # nearly always
                continue
            pair, contradict = self._pair(sign, limit, now_ms)
            if load is None:
                if not contradict:
                    continue
                load = self._loads[sign] = _Load(0, now_ms, now_ms, now_ms)
            step_ms = min(max(now_ms - load.judged_ms, 0), _LONGEST_STEP_MS)
            load.judged_ms = max(now_ms, load.judged_ms)
            if pair is not None:
                load.compared_ms = now_ms
                load.ms = min(load.ms + step_ms, MOST_MS) if contradict else load.ms - max(step_ms // _TAKES, 1)
            elif now_ms - load.compared_ms > (ENDS_MS if self._is_alarming(sign) else FORGOTTEN_MS):
                load.ms = -1
            self._judge_rules(sign, pair if contradict else None, load, context)
            if load.ms < 0:
                del self._loads[sign]

    def next_change_ms(self) -> int | None:
        """When a contradiction has lasted long enough, or is over, if no value comes; None if there is none."""
        if not self._loads:
            return None
        return min(
            load.judged_ms + (max(AFTER_MS - load.ms, _SECOND) if load.ms < AFTER_MS else _LONGEST_STEP_MS)
            for load in self._loads.values()
        )

    def on_timer(self, now_ms: int, events: list[Any]) -> None:
        """Time has passed."""
        if any(now_ms > load.judged_ms for load in self._loads.values()):
            self.judge(JudgingContext(now_ms, b"", 0, events))

    def end(self) -> None:
        """Nobody is monitored any more."""
        self._loads = {}

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it."""
        for load in self._loads.values():
            load.judged_ms += by_ms
            load.compared_ms += by_ms
            load.since_ms += by_ms

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode; empty while nothing is watched."""
        return [[INDEX[sign], *load.to_state()] for sign, load in self._loads.items()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        self._loads = {SIGNS[index].sign: _Load(*load) for index, *load in state}

    def _judge_rules(
        self, sign: VitalSign, pair: tuple[SignValue, SignValue] | None, load: _Load, context: JudgingContext
    ) -> None:
        book = self._conditions.book
        for rule in self._plan.rules_by_quantity.get("disagreement", ()):
            lasts = pair is not None and load.ms >= AFTER_MS
            if lasts or (load.ms < 0 and book.has(rule.rule_id, sign)):
                explain = partial(self._text, rule.label, sign, pair, load.since_ms, context.at_ms)
                onset_ms = load.since_ms if lasts else None
                self._conditions.observe(rule, float(lasts), context, explain, key=sign.value, onset_ms=onset_ms)

    def _is_alarming(self, sign: VitalSign) -> bool:
        rules = self._plan.rules_by_quantity.get("disagreement", ())
        return any(self._conditions.book.has(rule.rule_id, sign) for rule in rules)

    def _agree(self, sign: VitalSign, limit: DisagreementLimit) -> bool:
        """Whether no two values contradict each other, however old they are."""
        values = [value.value for value in self._latest.by_source[sign].values()]
        spread = max(values) - min(values)
        return spread <= limit.most and not any(is_red(sign, value, self._plan.spo2_scale) for value in values)

    def _pair(
        self, sign: VitalSign, limit: DisagreementLimit, now_ms: int
    ) -> tuple[tuple[SignValue, SignValue] | None, bool]:
        """The two current values that differ most, if two can be compared, and whether they contradict each other."""
        current = [
            value
            for value in self._latest.by_source.get(sign, {}).values()
            if now_ms - value.at_ms <= limit.within_ms and self._is_open(value.source)
        ]
        pairs = [
            (one, other) if one.value <= other.value else (other, one)
            for index, one in enumerate(current)
            for other in current[:index]
            if abs(one.at_ms - other.at_ms) <= self._near_ms(limit, one, other)
        ]
        if not pairs:
            return None, False
        worst = max(pairs, key=lambda pair: pair[1].value - pair[0].value)
        if worst[1].value - worst[0].value > max(limit.most, limit.share * abs(worst[0].value)):
            return worst, True
        # The red zones of NEWS2 are those of adults; of saturation they are dangerous at any age.
        if self._plan.group.has_adult_scores or sign is VitalSign.SPO2:
            for pair in pairs:
                if self._is_red(sign, pair[0]) != self._is_red(sign, pair[1]):
                    return pair, True
        return worst, False

    def _near_ms(self, limit: DisagreementLimit, one: SignValue, other: SignValue) -> int:
        # A person counts for up to a minute, and does not come again after five seconds.
        return limit.within_ms if is_person(one.source) or is_person(other.source) else limit.near_ms

    def _is_red(self, sign: VitalSign, value: SignValue) -> bool:
        return is_red(sign, value.value, self._plan.spo2_scale)

    def _text(
        self, label: str, sign: VitalSign, pair: tuple[SignValue, SignValue] | None, since_ms: int, now_ms: int
    ) -> str:
        if pair is None:
            return f"{SPEC[sign].label}: {label}"
        ends = " and ".join(self._one(sign, value, now_ms) for value in pair)
        return f"{SPEC[sign].label}: {label}, {ends}; for {duration(now_ms - since_ms)}; check both"

    def _one(self, sign: VitalSign, value: SignValue, now_ms: int) -> str:
        red = ", red" if self._is_red(sign, value) else ""
        age = duration(max(now_ms - value.at_ms, 0))
        return f"{shown(sign, value.value)} {SPEC[sign].unit} ({self._label_of(value.source)}, {age} ago{red})"
