"""What arrives of a sign and the ordinary rules may not hear: zeros, extreme values, and values that are not usable.

The rules on usable values can be kept from seeing the sickest patient: a value is doubted, a flag contradicts it, or a
normal value between two extreme ones begins the wait of a rule again. So each sign whose values are not ordinary is
watched by itself, from the first such value on, by share and time instead of unbroken sequence:

- *zero*: the patient or the sensor has stopped. No flag but "sensor off" contradicts it.
- *extreme*: a value outside the usual range that no flag contradicts.
- *suspect*: a value in the red that a flag, or another value, contradicts.
- *not a value*, *spoilt*: values that arrive and cannot be used. Their cause is named.

A watch begins with the first such value, runs while enough of what arrives is so, and is over when it is not. Values
that stop arriving do not end it.
"""

from enum import IntEnum
from functools import partial
from typing import Any, Final

import msgspec

from vitals.conditions import Conditions, JudgingContext
from vitals.messages import AlarmState, Event, Priority, Reading, SensorFlag
from vitals.news2 import is_red
from vitals.plan import MonitoringPlan
from vitals.quality import UNUSABLE_BY_FLAG, WORN, contradict_each_other
from vitals.risk import duration
from vitals.scores import shown
from vitals.signs import INDEX, SIGNS, SPEC, Classified, ValueClass, VitalSign, classify

_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND

ZERO_MS: Final = 30 * _SECOND
ZERO_VALUES: Final = 2
"""Zeros for this long are an alarm of high priority, also a single one that nothing follows."""
EXTREME_MS: Final = 75 * _SECOND
EXTREME_VALUES: Final = 2
"""Extreme values for this long are an alarm of high priority, unless an ordinary rule has alarmed before; a single one
that nothing follows is one of medium priority."""
SUSPECT_MS: Final = 45 * _SECOND
SUSPECT_VALUES: Final = 3
"""So many contradicted values in the red over this time are an alarm of medium priority; of a slow sign, one value."""
NO_VALUE_MS: Final = 2 * _MINUTE
NO_VALUE_ALONE_MS: Final = 10 * _MINUTE
"""Two or more values that are none alarm after the first time; one that nothing followed, after the second."""


class Watch(IntEnum):
    """Why a sign is watched. The number is part of stored states."""

    ZERO = 0
    EXTREME = 1
    SUSPECT = 2
    NO_VALUE = 3
    SPOILT = 4


class UsabilityCause(IntEnum):
    """What makes a value unusable. The number is part of stored states."""

    NONE = 0
    NO_VALUE = 1
    PRESSURES = 2
    LOW_PERFUSION = 3
    MOTION = 4
    JUMP = 5
    COOLING = 6


_CAUSE_TEXTS: Final = {
    UsabilityCause.PRESSURES: "systolic is not above diastolic",
    UsabilityCause.LOW_PERFUSION: "low perfusion reported",
    UsabilityCause.MOTION: "motion reported",
    UsabilityCause.JUMP: "it jumps from reading to reading",
    UsabilityCause.COOLING: "it fell faster than a body can cool",
}
# Low and medium priority after: motion for minutes is ordinary.
_SPOILT_AFTER_MS: Final = {
    UsabilityCause.LOW_PERFUSION: (5 * _MINUTE, 15 * _MINUTE),
    UsabilityCause.MOTION: (20 * _MINUTE, 30 * _MINUTE),
    UsabilityCause.JUMP: (5 * _MINUTE, 15 * _MINUTE),
}

# In motion a pulse oximeter reads some points low, and breaths are more and are miscounted: from the lowest to the
# highest of these a value in the red is what a walk looks like. Then only `Watch.SPOILT` is for it.
_ORDINARY_IN_MOTION: Final = {VitalSign.SPO2: (85.0, 100.0), VitalSign.RESPIRATORY_RATE: (6.0, 39.0)}
_FEW_BREATHS: Final = 8.0  # per minute, red for an adult, and more so for a child

# How much of its time a value that contradicts a watch takes from it, in thirds. A watch for a danger to the patient
# goes on while one value in four is bad, a technical one while half of them are.
_TAKES: Final = {Watch.ZERO: 1, Watch.EXTREME: 1, Watch.SUSPECT: 1, Watch.NO_VALUE: 3, Watch.SPOILT: 3}
_OFF_TAKES: Final = 2
_FIRST_MS: Final = 5 * _SECOND
_MOST_MS: Final = {watch: 30 * _SECOND if takes == 1 else 3 * _MINUTE for watch, takes in _TAKES.items()}
_LONGEST_STEP_MS: Final = _MINUTE
_MOST_STEPS: Final = 2
"""A watch keeps at least the time of so many values, however seldom they come."""
_OVER_AT_ONCE_MS: Final = 150 * _SECOND
"""A good value so long after the one before ends a watch: nothing is known of the time between."""

_NONE: Final = (1.0, 0.0)  # a range with nothing in it
_SYSTOLIC: Final = VitalSign.SYSTOLIC_BP
_WATCHED: Final = tuple(
    (spec.sign, spec.sign.value, 1 << INDEX[spec.sign], *spec.usual)
    for spec in SIGNS
    if spec.sign is not VitalSign.CONSCIOUSNESS
)
_DOUBTING_FLAGS: Final = tuple(
    (flag, mask, UsabilityCause.LOW_PERFUSION if flag is SensorFlag.LOW_PERFUSION else UsabilityCause.MOTION)
    for flag, mask in UNUSABLE_BY_FLAG
    if flag is not SensorFlag.SENSOR_OFF
)
_QUANTITY: Final = {
    Watch.ZERO: "zero",
    Watch.EXTREME: "suspect_value",
    Watch.SUSPECT: "suspect_value",
    Watch.NO_VALUE: "unusable",
    Watch.SPOILT: "unusable",
}


class _Watched(msgspec.Struct, array_like=True):
    """One sign that is watched for one reason."""

    onset_ms: int
    last_ms: int  # when the sign was last measured
    heard_ms: int  # when it last arrived
    load_ms: int  # time of bad values, less a share of the time of good ones
    count: int
    value: float  # the newest bad one
    cause: int
    is_answered: bool = False  # whether a value that says that it is over came after the newest bad one


class _Arrived(msgspec.Struct, frozen=True):
    """One value of one sign, as it arrived."""

    sign: VitalSign
    value: float
    at_ms: int
    heard_ms: int
    found: Classified
    cause: UsabilityCause
    is_ordinary: bool  # not in the red, or what motion that is reported makes of a value
    is_zero: bool

    def concerns(self, watch: Watch, *, is_watched: bool) -> bool | None:
        """Whether the value is one that this watch is for; None: it says nothing either way."""
        value_class, contradicted = self.found.value_class, self.cause not in (UsabilityCause.NONE, UsabilityCause.JUMP)
        is_outside = self.is_zero or value_class is ValueClass.EXTREME
        match watch:
            case Watch.NO_VALUE:
                is_bad, is_good = (
                    self.cause in (UsabilityCause.NO_VALUE, UsabilityCause.PRESSURES),
                    self.cause is UsabilityCause.NONE,
                )
            case Watch.SPOILT:
                is_bad, is_good = self.cause in _SPOILT_AFTER_MS, self.cause is UsabilityCause.NONE
            case _:
                is_good = value_class is ValueClass.USUAL and self.is_ordinary and not self.is_zero
                if watch is Watch.ZERO:
                    is_bad = self.is_zero
                elif watch is Watch.EXTREME:
                    is_bad = is_outside and not contradicted
                else:
                    # A watch that a contradicted value has begun goes on with those that nothing contradicts.
                    is_red = is_outside or not (self.is_ordinary or value_class is ValueClass.NO_VALUE)
                    is_bad = is_red and (contradicted or (is_watched and is_outside))
        return True if is_bad else False if is_good else None


class SignUsability:
    """Watches the values of one patient that are not ordinary, and judges the rules on them.

    Args:
        plan: what was ordered: rules, cadence, SpO2 scale.
        conditions: where the rules are judged.

    Attributes:
        is_watching: whether anything is watched or an alarm of these rules is open; if not, an ordinary reading needs
            no call.
    """

    __slots__ = ("_alarmed", "_conditions", "_fed_by", "_lag_ms", "_plan", "_watched", "is_watching")

    def __init__(self, plan: MonitoringPlan, conditions: Conditions) -> None:
        self._plan = plan
        self._conditions = conditions
        self._watched: dict[tuple[VitalSign, Watch], _Watched] = {}
        self._fed_by: dict[tuple[VitalSign, Watch], str] = {}  # the device of the newest bad value, if not the first
        self._alarmed: frozenset[VitalSign] = frozenset()  # signs with an alarm of these rules
        self._lag_ms = 0  # how much later than measured the newest reading arrived
        self.is_watching = False

    def on_reading(self, reading: Reading, *, is_off: bool, source: str = "") -> None:
        """A reading that was judged by `quality`, in order or late.

        Args:
            reading: the reading, with `unusable` set.
            is_off: whether the device was found to be off the body.
            source: the device; see `vitals.sources`.
        """
        self._lag_ms = max(0, reading.heard_ms - reading.at_ms)
        watched = {sign for sign, _ in self._watched}
        explained = WORN if reading.sensor_flags & SensorFlag.SENSOR_OFF else 0
        for sign, name, bit, low, high in _WATCHED:
            value = getattr(reading, name)
            if explained & bit:
                if sign in watched:
                    self._excuse(sign, reading, source)
            elif value is not None and (sign in watched or reading.unusable & bit or not low <= value <= high):
                arrived = self._arrived(reading, sign, value, bit, is_off=is_off)
                for watch in Watch:
                    if self._update(watch, arrived):
                        self._note_source((sign, watch), source)
        self.is_watching = True

    def judge(self, context: JudgingContext, *, elapsed_to_ms: int | None = None) -> None:
        """Judge the rules on everything that is watched.

        Args:
            context: when, and where the alarms are appended.
            elapsed_to_ms: event time up to which a watch has lasted, if not the time of the context.
        """
        now_ms = context.at_ms if elapsed_to_ms is None else elapsed_to_ms
        concerned = self._alarmed | {sign for sign, _ in self._watched}
        self._alarmed = frozenset([sign for sign in SPEC if sign in concerned and self._judge(sign, now_ms, context)])
        self.is_watching = bool(self._alarmed or self._watched)

    def on_timer(self, now_ms: int, events: list[Event]) -> None:
        """Time has passed."""
        if self.is_watching:
            self.judge(JudgingContext(now_ms, b"", 0, events), elapsed_to_ms=now_ms - self._lag_ms)

    def next_change_ms(self, now_ms: int) -> int | None:
        """When a watch reaches its next limit if no value comes; None if there is no such moment."""
        due = [
            watched.onset_ms + limit_ms + self._lag_ms
            for (sign, watch), watched in self._watched.items()
            for limit_ms in (*_limits(watch, watched), *([self._single_zero_ms(sign)] if watch is Watch.ZERO else []))
        ]
        return min((due_ms for due_ms in due if due_ms > now_ms), default=None)

    def end(self) -> None:
        """Nobody is monitored any more: nothing is watched. Its alarms have ended."""
        self._watched, self._alarmed, self.is_watching = {}, frozenset(), False

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it."""
        for watched in self._watched.values():
            watched.onset_ms += by_ms
            watched.last_ms += by_ms
            watched.heard_ms += by_ms

    def cause_text(self, sign: VitalSign) -> str | None:
        """Why what arrives of a sign is not usable; None if it is usable or does not arrive."""
        for watch in (Watch.NO_VALUE, Watch.SPOILT):
            watched = self._watched.get((sign, watch))
            if watched is not None:
                return _cause_text(sign, watched)
        return None

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode; nearly empty while nothing is watched."""
        watched = [[INDEX[sign], int(watch), one] for (sign, watch), one in self._watched.items()]
        fed_by = [
            [INDEX[sign], int(watch), source]
            for (sign, watch), source in self._fed_by.items()
            if (sign, watch) in self._watched
        ]
        return [self._lag_ms, watched, fed_by] if fed_by else [self._lag_ms, watched]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`. The book of alarms must have been restored before."""
        self._lag_ms, watched, *fed_by = state
        self._watched = {
            (SIGNS[index].sign, Watch(watch)): msgspec.convert(one, _Watched) for index, watch, one in watched
        }
        for index, watch, source in fed_by[0] if fed_by else ():
            self._fed_by[SIGNS[index].sign, Watch(watch)] = source
        self._alarmed = frozenset(sign for sign in SPEC if any(self._is_open((sign, watch)) for watch in Watch))
        self.is_watching = bool(self._alarmed or self._watched)

    def _judge(self, sign: VitalSign, now_ms: int, context: JudgingContext) -> bool:
        """Judge the rules on one sign. True if one of them has an alarm."""
        book, any_open = self._conditions.book, False
        for quantity, level_of in _LEVELS.items():
            for rule in self._plan.rules_by_quantity.get(quantity, ()):
                level, watched = level_of(self, sign, now_ms)
                is_news = watched is not None and level > 0 and not self._is_said_already(sign, quantity, level)
                if not is_news and not book.has(rule.rule_id, sign):
                    continue
                onset_ms = None if watched is None else watched.onset_ms
                explain = partial(_text, rule.label, quantity, sign, watched, now_ms)
                self._conditions.observe(rule, level, context, explain, key=sign.value, onset_ms=onset_ms)
                any_open = any_open or book.has(rule.rule_id, sign)
        return any_open

    def _arrived(self, reading: Reading, sign: VitalSign, value: float, bit: int, *, is_off: bool) -> _Arrived:
        found = classify(sign, value)
        no_pulse = sign is _SYSTOLIC and value == reading.diastolic_bp
        cause = _cause(reading, sign, found, bit, is_off=is_off)
        # The red zones of NEWS2 are those of adults; of saturation, and of few breaths, they are dangerous at any age.
        few_breaths = sign is VitalSign.RESPIRATORY_RATE and value <= _FEW_BREATHS
        red = self._plan.group.has_adult_scores or sign is VitalSign.SPO2 or few_breaths
        red = red and is_red(sign, value, self._plan.spo2_scale)
        low, high = _ORDINARY_IN_MOTION.get(sign, _NONE) if cause is UsabilityCause.MOTION else _NONE
        return _Arrived(
            sign=sign,
            value=float(value),
            at_ms=reading.at_ms,
            heard_ms=reading.heard_ms,
            found=found,
            cause=cause,
            is_ordinary=not red or low <= value <= high,
            is_zero=found.value_class is ValueClass.ZERO or no_pulse,
        )

    def _update(self, watch: Watch, arrived: _Arrived) -> bool:
        """True if the value is one that the watch is for."""
        place = (arrived.sign, watch)
        watched = self._watched.get(place)
        concerns = arrived.concerns(watch, is_watched=watched is not None)
        if watched is None:
            if concerns:
                load_ms = min(max(_FIRST_MS, self._pace_ms(arrived.sign)), _MOST_MS[watch])
                self._watched[place] = _Watched(
                    arrived.at_ms, arrived.at_ms, arrived.heard_ms, load_ms, 1, arrived.value, int(arrived.cause)
                )
        elif concerns:
            step_ms = min(_step(watched, arrived.at_ms, arrived.heard_ms), _LONGEST_STEP_MS)
            watched.load_ms = min(watched.load_ms + step_ms, max(_MOST_MS[watch], _MOST_STEPS * step_ms))
            watched.onset_ms = min(watched.onset_ms, arrived.at_ms)
            watched.count += 1
            watched.is_answered = False
            watched.value, watched.cause = arrived.value, int(arrived.cause)
        elif concerns is False:
            self._take(place, watched, _step(watched, arrived.at_ms, arrived.heard_ms), _TAKES[watch])
        else:
            _step(watched, arrived.at_ms, arrived.heard_ms)
        return bool(concerns)

    def _note_source(self, place: tuple[VitalSign, Watch], source: str) -> None:
        """Remember which device the newest bad value is of: only that one can say that it was off the body."""
        if source:
            self._fed_by[place] = source
        elif self._fed_by:
            self._fed_by.pop(place, None)

    def _excuse(self, sign: VitalSign, reading: Reading, source: str) -> None:
        """The device says that it is off the body. What has alarmed goes on until a value says that it is over."""
        for watch in Watch:
            place = (sign, watch)
            watched = self._watched.get(place)
            if self._fed_by.get(place, "") != source:
                continue
            if watched is not None and not self._is_open(place):
                step_ms = _step(watched, reading.at_ms, reading.heard_ms)
                self._take(place, watched, step_ms, max(_OFF_TAKES, _TAKES[watch]))

    def _take(self, place: tuple[VitalSign, Watch], watched: _Watched, step_ms: int, thirds: int) -> None:
        """A value says that it is over, or that the sensor is off: the watch loses some of its time."""
        if watched.count == 1 and not watched.is_answered:
            # How often the values come is known from the second one on, whatever was ordered.
            watched.load_ms = max(watched.load_ms, min(step_ms, _LONGEST_STEP_MS))
        watched.is_answered = True
        watched.load_ms -= step_ms * thirds // 3
        if watched.load_ms < 0 or step_ms >= _OVER_AT_ONCE_MS:
            del self._watched[place]

    def _is_open(self, place: tuple[VitalSign, Watch]) -> bool:
        sign, watch = place
        rules = self._plan.rules_by_quantity.get(_QUANTITY[watch], ())
        return any(self._conditions.book.has(rule.rule_id, sign) for rule in rules)

    def _is_said_already(self, sign: VitalSign, quantity: str, level: int) -> bool:
        """Whether an open alarm calls for the same sign, at least as urgently as this level would."""
        if quantity == "zero":
            return False
        if quantity == "unusable":
            if self._is_open((sign, Watch.ZERO)) or self._is_open((sign, Watch.SUSPECT)):
                return True
            # `no_data` names the cause, too.
            missing = self._plan.rules_by_quantity.get("freshness", ())
            return any(self._conditions.book.has(rule.rule_id, key) for rule in missing for key in (sign.value, ""))
        of_sign = {rule.rule_id for rule in self._plan.rules_by_quantity.get(sign.value, ())}
        priority = Priority.HIGH if level == 2 else Priority.MEDIUM
        return any(
            alarm.state is AlarmState.ACTIVE
            and alarm.priority >= priority
            and (alarm.rule_id in of_sign or alarm.key == sign)
            for alarm in self._conditions.book.open()
        )

    def _zero(self, sign: VitalSign, now_ms: int) -> tuple[int, _Watched | None]:
        watched = self._watched.get((sign, Watch.ZERO))
        if watched is None:
            return 0, None
        # A single zero may be an outlier until the next value is overdue, and is one if that is not 0.
        if watched.count < ZERO_VALUES and watched.is_answered:
            return 0, watched
        after_ms = ZERO_MS if watched.count >= ZERO_VALUES else self._single_zero_ms(sign)
        return int(now_ms - watched.onset_ms >= after_ms), watched

    def _pace_ms(self, sign: VitalSign) -> int:
        """The interval of a sign that a sensor measures continuously; 0 for a slow one."""
        cadence_ms = self._plan.cadence(sign)
        return cadence_ms if cadence_ms <= _MINUTE else 0

    def _single_zero_ms(self, sign: VitalSign) -> int:
        return max(ZERO_MS, self._pace_ms(sign) + _FIRST_MS)

    def _suspect(self, sign: VitalSign, now_ms: int) -> tuple[int, _Watched | None]:
        extreme = self._watched.get((sign, Watch.EXTREME))
        is_outlier = extreme is not None and extreme.count < EXTREME_VALUES and extreme.is_answered
        if extreme is not None and not is_outlier and now_ms - extreme.onset_ms >= EXTREME_MS:
            # A single one may be an outlier. NEWS2 has no diastolic pressure: an extreme one alone is no emergency.
            is_high = extreme.count >= EXTREME_VALUES and sign is not VitalSign.DIASTOLIC_BP
            return 2 if is_high else 1, extreme
        suspect = self._watched.get((sign, Watch.SUSPECT))
        if suspect is None or now_ms - suspect.onset_ms < SUSPECT_MS:
            return 0, suspect
        is_slow = self._plan.cadence(sign) > _MINUTE
        return int(is_slow or suspect.count >= SUSPECT_VALUES), suspect

    def _unusable(self, sign: VitalSign, now_ms: int) -> tuple[int, _Watched | None]:
        none, spoilt = (self._watched.get((sign, watch)) for watch in (Watch.NO_VALUE, Watch.SPOILT))
        if none is not None:
            after_ms = NO_VALUE_MS if none.count >= 2 else NO_VALUE_ALONE_MS
            if now_ms - none.onset_ms >= after_ms:
                return 2, none
        if spoilt is None:
            return 0, none
        lasted_ms = now_ms - spoilt.onset_ms
        return sum(lasted_ms >= after_ms for after_ms in _SPOILT_AFTER_MS[UsabilityCause(spoilt.cause)]), spoilt


_LEVELS: Final = {
    "zero": SignUsability._zero,
    "suspect_value": SignUsability._suspect,
    "unusable": SignUsability._unusable,
}


def _cause(reading: Reading, sign: VitalSign, found: Classified, bit: int, *, is_off: bool) -> UsabilityCause:
    """What makes a value unusable: the first that is true. NONE also where the sensor is off: that alarm is another."""
    if not reading.unusable & bit:
        return UsabilityCause.NONE
    if found.value_class is ValueClass.NO_VALUE:
        return UsabilityCause.NO_VALUE
    if sign in (_SYSTOLIC, VitalSign.DIASTOLIC_BP) and contradict_each_other(reading):
        return UsabilityCause.PRESSURES
    for flag, mask, cause in _DOUBTING_FLAGS:
        if reading.sensor_flags & flag and mask & bit:
            return cause
    if is_off and WORN & bit:
        is_cold = sign is VitalSign.TEMPERATURE and found.value_class is ValueClass.EXTREME
        return UsabilityCause.COOLING if is_cold else UsabilityCause.NONE
    return UsabilityCause.JUMP


def _step(watched: _Watched, at_ms: int, heard_ms: int) -> int:
    """Milliseconds since the sign came before: as measured or as heard, as values come late, and several at once."""
    step_ms = max(0, at_ms - watched.last_ms, heard_ms - watched.heard_ms)
    watched.last_ms, watched.heard_ms = max(watched.last_ms, at_ms), max(watched.heard_ms, heard_ms)
    return step_ms


def _limits(watch: Watch, watched: _Watched) -> tuple[int, ...]:
    if watch is Watch.SPOILT:
        return _SPOILT_AFTER_MS[UsabilityCause(watched.cause)]
    return _LIMITS[watch]


_LIMITS: Final = {
    Watch.ZERO: (ZERO_MS,),
    Watch.EXTREME: (EXTREME_MS,),
    Watch.SUSPECT: (SUSPECT_MS,),
    Watch.NO_VALUE: (NO_VALUE_MS, NO_VALUE_ALONE_MS),
}


def _text(label: str, quantity: str, sign: VitalSign, watched: _Watched | None, now_ms: int) -> str:
    if watched is None:
        return label
    lasted = duration(now_ms - watched.onset_ms)
    if quantity == "unusable":
        return f"{SPEC[sign].label} {label}: {_cause_text(sign, watched)}; for {lasted}"
    value = shown(sign, watched.value)
    if quantity == "zero":
        seen = f"{value} with contact" if watched.value == 0 else f"{value} and no pulse pressure"
        return f"{label}: {seen}, for {lasted}"
    if UsabilityCause(watched.cause) in _CAUSE_TEXTS and UsabilityCause(watched.cause) is not UsabilityCause.JUMP:
        return f"{label}: {value} is in the red if it is true, but {_cause_text(sign, watched)}; for {lasted}"
    low, high = SPEC[sign].usual
    return f"{label}: values like {value} keep coming, usual are {low:g} to {high:g}; for {lasted}"


def _cause_text(sign: VitalSign, watched: _Watched) -> str:
    cause = UsabilityCause(watched.cause)
    if cause is UsabilityCause.NO_VALUE:
        return f"values like {watched.value:g}, {classify(sign, watched.value).reason}"
    return _CAUSE_TEXTS[cause]
