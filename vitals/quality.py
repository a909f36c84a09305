"""Signal quality: marks values as unusable. Plausibility, artefacts, sensor off.

An unusable value is never deleted or replaced: it stays in the record and is not scored. A plausible value is not held
back for long: a jump is accepted at its third reading or after ten seconds, whichever is first.
"""

from math import isfinite
from typing import Any, Final, NamedTuple, Self

from msgspec.structs import replace

from vitals.messages import Reading, SensorFlag
from vitals.signs import INDEX, SPEC, VitalSign, mask_of


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
_ROWS: Final = tuple((sign.value, 1 << INDEX[sign], *SPEC[sign].plausible, *JUMPS[sign]) for sign in JUMPS)
_ENTERED: Final = ((VitalSign.SUPPLEMENTAL_OXYGEN.value, 1 << INDEX[VitalSign.SUPPLEMENTAL_OXYGEN], 0.0, 80.0),)
_PRESSURES: Final = mask_of(VitalSign.SYSTOLIC_BP, VitalSign.DIASTOLIC_BP)
_FLAGS: Final = int(SensorFlag.SENSOR_OFF | SensorFlag.LOW_PERFUSION | SensorFlag.MOTION)


class Quality:
    """Judges the readings of one patient, in order."""

    __slots__ = ("_doubted", "_flat", "_flat_values", "_last_ms", "_level", "_off_since_ms", "_warmth")

    def __init__(self) -> None:
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
        off = bool(reading.sensor_flags & SensorFlag.SENSOR_OFF)
        at_ms = reading.at_ms
        for name, bit, low, high, base, per_s in _ROWS:
            value = getattr(reading, name)
            if value is None or unusable & bit:
                continue
            if not low <= value <= high:  # also true of NaN
                unusable |= bit
                continue
            level = self._level.get(name)
            if level is not None:
                step = value - level[0]
                if (step > base or step < -base) and abs(step) > base + per_s * (at_ms - level[1]) / 1_000:
                    if self._doubts(name, value, at_ms, base):
                        unusable |= bit
                        continue
                elif name in self._doubted:
                    del self._doubted[name]
                level[0], level[1] = value, at_ms
            else:
                self._level[name] = [value, at_ms]
        unusable |= _impossible_pressure(reading)
        if self._is_flat(reading) or self._is_cooling(reading, unusable):
            off = True
            unusable |= WORN
        self._last_ms = at_ms
        if off:
            if self._off_since_ms is None:
                self._off_since_ms = at_ms
        elif self._off_since_ms is not None and _is_worn(reading, unusable):
            self._off_since_ms = None
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
    def from_state(cls, state: list[Any]) -> Self:
        quality = cls()
        levels, doubted, quality._flat_values, quality._flat, quality._last_ms, quality._warmth, off = state
        quality._level = {name: list(level) for name, *level in levels}
        quality._doubted = {name: list(doubt) for name, *doubt in doubted}
        quality._off_since_ms = off
        return quality

    def _doubts(self, name: str, value: float, at_ms: int, base: float) -> bool:
        """Whether a jump is still doubted. It is accepted when the value stays at its new level."""
        doubt = self._doubted.get(name)
        if doubt is None or abs(value - doubt[0]) > base:
            self._doubted[name] = [value, at_ms, 1]
            return True
        doubt[0] = value
        doubt[2] += 1
        if doubt[2] < ACCEPTED_AT_READING and at_ms - doubt[1] < ACCEPTED_AFTER_MS:
            return True
        del self._doubted[name]
        return False

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
            # An implausible value must not become the reference: every later one would seem to have cooled.
            if not unusable >> INDEX[VitalSign.TEMPERATURE] & 1:
                self._warmth = [value, reading.at_ms]
            return False
        return value < COOLING_BELOW_C and self._warmth[0] - value >= COOLING_C


def judge_late(reading: Reading) -> Reading:
    """Judge a reading that is older than the newest one: by itself, without comparison to the readings before it."""
    unusable = _unusable_by_flags(reading)
    for name, bit, low, high, *_ in _ROWS:
        value = getattr(reading, name)
        if value is not None and not low <= value <= high:
            unusable |= bit
    unusable |= _impossible_pressure(reading)
    return reading if unusable == reading.unusable else replace(reading, unusable=unusable)


def _unusable_by_flags(reading: Reading) -> int:
    """Mask of the signs that are unusable because of a flag or because the value is not a number."""
    unusable = reading.unusable
    if reading.sensor_flags & _FLAGS:
        for flag, mask in UNUSABLE_BY_FLAG:
            if reading.sensor_flags & flag:
                unusable |= mask
    for name, bit, low, high in _ENTERED:
        value = getattr(reading, name)
        if value is not None and not (isfinite(value) and low <= value <= high):
            unusable |= bit
    return unusable


def _impossible_pressure(reading: Reading) -> int:
    systolic, diastolic = reading.systolic_bp, reading.diastolic_bp
    if systolic is not None and diastolic is not None and systolic <= diastolic:
        return _PRESSURES
    return 0


def _is_worn(reading: Reading, unusable: int) -> bool:
    """Whether the device is on a body: the reading has at least one usable value of its own sensors."""
    return any(getattr(reading, sign.value) is not None and not unusable >> INDEX[sign] & 1 for sign in _FAST)
