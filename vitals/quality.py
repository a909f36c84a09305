"""Signal quality: marks values as unusable. No value at all, artefacts, sensor off.

An unusable value is never deleted or replaced: it stays in the record and is not scored. An extreme value is usable: a
dying patient has it. A value is not held back for long: a jump is accepted at its third reading or after ten seconds,
whichever is first. `vitals.usability` watches what arrives and is not usable.
"""

from typing import Any, Final, NamedTuple, Self

from msgspec.structs import replace

from vitals.messages import Reading, SensorFlag
from vitals.news2 import is_red
from vitals.signs import INDEX, SPEC, ValueClass, VitalSign, classify, mask_of


class Jump(NamedTuple):
    """How far a sign may move between two readings: `base` at once and `per_s` more for every second between them."""

    base: float
    per_s: float


# Wide on purpose: a sprint, a vagal pause or a cuff that was re-placed must fit; a loose probe does not.
JUMPS: Final = {
    VitalSign.HEART_RATE: Jump(40, 5),
    VitalSign.RESPIRATORY_RATE: Jump(15, 2),
    VitalSign.SPO2: Jump(12, 1.5),
    VitalSign.SYSTOLIC_BP: Jump(80, 1),
    VitalSign.DIASTOLIC_BP: Jump(60, 1),
    VitalSign.TEMPERATURE: Jump(1.0, 0.02),
}
ACCEPTED_AT_READING: Final = 3
ACCEPTED_AFTER_MS: Final = 10_000
_NOT_IN_A_ROW: Final = -1
_UNDOUBTED_BY: Final = 0.5  # how much of a doubted reading a reading at the old level takes back

JUDGED: Final = 1 << 30
"""Bit of `Reading.unusable` beyond those of the signs: this reading comes from a record, its jumps were judged then."""

FLAT_READINGS: Final = 20
"""This many readings in a row with identical fast signs mean a frozen sensor, not a calm patient..."""
FLAT_WITHIN_MS: Final = 15_000
"""...if they come at least this often. Hourly charting that is replayed minute by minute is constant, too."""

COOLING_C: Final = 1.0
COOLING_BELOW_C: Final = 34.0
COOLING_MS: Final = 300_000
"""A skin sensor that loses a degree within five minutes and is below 34 °C is on its way to room temperature."""

_FAST: Final = (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE, VitalSign.SPO2)


WORN: Final = mask_of(*_FAST, VitalSign.TEMPERATURE)
"""Signs from the sensors of the wearable itself, without blood pressure cuffs and values entered by people."""
UNUSABLE_BY_FLAG: Final = (
    (SensorFlag.SENSOR_OFF, WORN),
    (SensorFlag.LOW_PERFUSION, mask_of(VitalSign.SPO2)),
    (SensorFlag.MOTION, mask_of(VitalSign.RESPIRATORY_RATE, VitalSign.SPO2)),
)
_ROWS: Final = tuple((sign.value, sign, 1 << INDEX[sign], *SPEC[sign].usual, *JUMPS[sign]) for sign in JUMPS)
_ENTERED: Final = (
    (
        VitalSign.SUPPLEMENTAL_OXYGEN.value,
        1 << INDEX[VitalSign.SUPPLEMENTAL_OXYGEN],
        *SPEC[VitalSign.SUPPLEMENTAL_OXYGEN].possible,
    ),
)
_PRESSURES: Final = mask_of(VitalSign.SYSTOLIC_BP, VitalSign.DIASTOLIC_BP)
_OFF: Final = int(SensorFlag.SENSOR_OFF)
_FLAGS: Final = int(SensorFlag.SENSOR_OFF | SensorFlag.LOW_PERFUSION | SensorFlag.MOTION)
_ZEROABLE: Final = mask_of(*_FAST)
_ZERO_SIGNS: Final = tuple((sign.value, 1 << INDEX[sign]) for sign in _FAST)


class Quality:
    """Judges the readings of one patient, in order.

    Args:
        spo2_scale: of NEWS2, to tell a value in the red.

    Attributes:
        has_unusual: whether the reading judged last has an unusable, extreme or zero value.
    """

    __slots__ = (
        "_doubted",
        "_flat",
        "_flat_values",
        "_last_ms",
        "_level",
        "_off_since_ms",
        "_spo2_scale",
        "_warmth",
        "has_unusual",
    )

    def __init__(self, spo2_scale: int = 1) -> None:
        self._spo2_scale = spo2_scale
        self.has_unusual = False
        self._level: dict[str, list[float]] = {}  # sign -> [last accepted value, its time]
        self._doubted: dict[str, list[float]] = {}  # sign -> [last doubted value, time of the first, count]
        self._flat_values: list[float | None] = []
        self._flat = 0
        self._last_ms = 0
        self._warmth: list[float] = []  # [temperature, its time] to compare with
        self._off_since_ms: int | None = None

    @property
    def sensor_off_since_ms(self) -> int | None:
        """Event time since when the device has been off the body; None while it is worn."""
        return self._off_since_ms

    def judge(self, reading: Reading) -> Reading:
        """The reading with `unusable` set. Call in the order of event time; for an older one see `judge_late`."""
        unusable = _unusable_by_flags(reading)
        was_judged = bool(reading.unusable & JUDGED)
        off = bool(reading.sensor_flags & _OFF)
        at_ms = reading.at_ms
        unusual = unusable
        for name, sign, bit, low, high, base, per_s in _ROWS:
            value = getattr(reading, name)
            if value is None or unusable & bit:
                continue
            if not low <= value <= high:  # also true of NaN
                unusual |= bit
                if classify(sign, value).value_class is ValueClass.NO_VALUE:
                    unusable |= bit
                    continue
            if was_judged:
                continue
            level = self._level.get(name)
            if level is not None:
                step = value - level[0]
                if (step > base or step < -base) and (
                    abs(step) > base + per_s * (at_ms - level[1]) / 1_000
                    # However long nothing was seen: one zero is what a sensor says that is being taken off.
                    or (value == 0 and _ZEROABLE & bit)
                ):
                    if self._doubts(name, value, at_ms):
                        unusable |= bit
                        continue
                elif name in self._doubted:
                    self._doubts_less(name)
                level[0], level[1] = value, at_ms
            else:
                self._level[name] = [value, at_ms]
        if contradict_each_other(reading):
            unusable |= _PRESSURES
        is_flat = self._is_flat(reading)
        # Of a reading from a record the mark may be that of a frozen sensor, which was set after this.
        is_cooling = self._is_cooling(reading, unusable & ~WORN if was_judged and is_flat else unusable)
        if is_flat or is_cooling:
            off = True
            # A frozen or cooling sensor may be a patient in arrest: what is in the red is scored.
            unusable |= WORN & ~self._red(reading)
        self._last_ms = at_ms
        if off:
            if self._off_since_ms is None:
                self._off_since_ms = at_ms
        elif self._off_since_ms is not None and _is_worn(reading, unusable):
            self._off_since_ms = None
        self.has_unusual = bool(unusual | unusable)
        return reading if unusable == reading.unusable else replace(reading, unusable=unusable)

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        for timed in (*self._level.values(), *self._doubted.values(), self._warmth):
            if timed:
                timed[1] += by_ms
        self._last_ms += by_ms
        if self._off_since_ms is not None:
            self._off_since_ms += by_ms

    def to_state(self) -> list[Any]:
        return [
            [[name, *level] for name, level in self._level.items()],
            [[name, *doubt] for name, doubt in self._doubted.items()],
            self._flat_values,
            self._flat,
            self._last_ms,
            self._warmth,
            self._off_since_ms,
        ]

    @classmethod
    def from_state(cls, state: list[Any], spo2_scale: int = 1) -> Self:
        quality = cls(spo2_scale)
        levels, doubted, quality._flat_values, quality._flat, quality._last_ms, quality._warmth, off = state
        quality._level = {name: list(level) for name, *level in levels}
        quality._doubted = {name: list(doubt) for name, *doubt in doubted}
        quality._off_since_ms = off
        return quality

    def _doubts(self, name: str, value: float, at_ms: int) -> bool:
        """Whether a jump is still doubted. It is accepted when the values stay away from the old level.

        Wherever they are: a saturation of 45, 70, 48 is no more likely to be 97 than one of 45, 46, 45.
        """
        doubt = self._doubted.get(name)
        if doubt is None:
            self._doubted[name] = [value, at_ms, 1]
            return True
        if doubt[1] == _NOT_IN_A_ROW:
            doubt[1] = at_ms
        doubt[0] = value
        doubt[2] += 1
        if doubt[2] < ACCEPTED_AT_READING and at_ms - doubt[1] < ACCEPTED_AFTER_MS:
            return True
        del self._doubted[name]
        return False

    def _doubts_less(self, name: str) -> None:
        """A reading at the old level: values that alternate are doubted for longer, not for ever."""
        doubt = self._doubted[name]
        doubt[1] = _NOT_IN_A_ROW
        doubt[2] -= _UNDOUBTED_BY
        if doubt[2] <= 0:
            del self._doubted[name]

    def _red(self, reading: Reading) -> int:
        """Mask of the fast signs that are in the red by themselves."""
        mask = 0
        for sign in _FAST:
            value = getattr(reading, sign.value)
            if value is not None and is_red(sign, value, self._spo2_scale):
                mask |= 1 << INDEX[sign]
        return mask

    def _is_flat(self, reading: Reading) -> bool:
        values: list[float | None] = [reading.heart_rate, reading.respiratory_rate, reading.spo2]
        if (
            values == self._flat_values
            and reading.at_ms - self._last_ms <= FLAT_WITHIN_MS
            and sum(value is not None for value in values) >= 2
        ):
            self._flat += 1
        else:
            self._flat_values, self._flat = values, 1
        return self._flat >= FLAT_READINGS

    def _is_cooling(self, reading: Reading, unusable: int) -> bool:
        value = reading.temperature
        if value is None:
            return False
        if not self._warmth or reading.at_ms - self._warmth[1] > COOLING_MS:
            # A glitch must not become the reference: every later value would seem to have cooled.
            low, high = SPEC[VitalSign.TEMPERATURE].usual
            if low <= value <= high and not unusable >> INDEX[VitalSign.TEMPERATURE] & 1:
                self._warmth = [value, reading.at_ms]
            return False
        if not value < COOLING_BELOW_C or self._warmth[0] - value < COOLING_C:
            return False
        if value < SPEC[VitalSign.TEMPERATURE].usual[0]:
            # No body becomes as cold as a room this fast, and it does not become true because it lasts.
            self._warmth[1] = reading.at_ms
        return True


def judge_late(reading: Reading) -> Reading:
    """Judge a reading that is older than the newest one: by itself, without comparison to the readings before it."""
    unusable = _unusable_by_flags(reading)
    for name, sign, bit, low, high, *_ in _ROWS:
        value = getattr(reading, name)
        if value is None or low <= value <= high:
            continue
        if classify(sign, value).value_class is ValueClass.NO_VALUE:
            unusable |= bit
    if contradict_each_other(reading):
        unusable |= _PRESSURES
    return reading if unusable == reading.unusable else replace(reading, unusable=unusable)


def _unusable_by_flags(reading: Reading) -> int:
    """Mask of the signs that are unusable because of a flag or because the value is not a number."""
    unusable = reading.unusable & ~JUDGED
    if reading.sensor_flags & _FLAGS:
        spoilt = 0
        for flag, mask in UNUSABLE_BY_FLAG:
            if reading.sensor_flags & flag:
                spoilt |= mask
        if not reading.sensor_flags & _OFF:
            # A patient in arrest has no perfusion and may be in convulsions: the flags do not contradict a zero.
            spoilt &= ~_zeros(reading)
        unusable |= spoilt
    for name, bit, low, high in _ENTERED:
        value = getattr(reading, name)
        if value is not None and not low <= value <= high:  # also true of NaN
            unusable |= bit
    return unusable


def _zeros(reading: Reading) -> int:
    """Mask of the fast signs that are 0."""
    return sum(bit for name, bit in _ZERO_SIGNS if getattr(reading, name) == 0)


def contradict_each_other(reading: Reading) -> bool:
    """Whether the systolic pressure of a reading is not above the diastolic one."""
    systolic, diastolic = reading.systolic_bp, reading.diastolic_bp
    return systolic is not None and diastolic is not None and systolic <= diastolic


def _is_worn(reading: Reading, unusable: int) -> bool:
    """Whether the device is on a body: the reading has at least one usable value of its own sensors, and no 0."""
    return any(getattr(reading, sign.value) and not unusable >> INDEX[sign] & 1 for sign in _FAST)
