"""Input features of the sepsis model: computed step by step from six vital signs.

Pure and incremental: training and the edge call the same function and get the same bits. A step depends on earlier
steps only. No clock enters: not the hour of the day, the hour of the stay or the number of rows; only capped time
differences between values of the same patient. An unknown feature is NaN and never imputed.

A step covers the time since the previous one, usually an hour, and uses the newest value of each sign in it.
"""

import math
from collections.abc import Mapping
from typing import Final, Self

import msgspec

from models.errors import StepOutOfOrder
from vitals.signs import VitalSign

HOUR_MS: Final = 3_600_000
INPUTS: Final = (
    VitalSign.HEART_RATE,
    VitalSign.SPO2,
    VitalSign.TEMPERATURE,
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SYSTOLIC_BP,
    VitalSign.DIASTOLIC_BP,
)
"""The signs that a wearable and its cuff report. Laboratory values and orders are not used."""
SHORT_MS: Final = 6 * HOUR_MS
LONG_MS: Final = 12 * HOUR_MS
CARRIED_MS: Final = 24 * HOUR_MS
"""A value is carried forward for this long; afterwards the sign counts as unknown."""
MAX_AGE_H: Final = 8.0
"""Cap of a value's age: long gaps between measurements reflect staffing more than the patient's state."""
MAX_GAP_H: Final = 24.0
USUAL_COUNT: Final = 48
"""The patient's running mean weights the n-th value by 1/n, and from the 48th value on by 1/48."""

PLAUSIBLE: Final[dict[VitalSign, tuple[float, float]]] = {
    VitalSign.HEART_RATE: (20, 300),
    VitalSign.SPO2: (50, 100),
    VitalSign.TEMPERATURE: (28, 45),
    VitalSign.RESPIRATORY_RATE: (2, 80),
    VitalSign.SYSTOLIC_BP: (40, 300),
    VitalSign.DIASTOLIC_BP: (20, 200),
}
"""The values that the model has learned from, inclusive. Beyond them are extreme values, which the rules score and
alarm, and mistakes; to the model they are not measured, and it abstains if too little is left."""

_PER_SIGN: Final = (
    "value", "age_h", "mean_6h", "min_6h", "max_6h", "sd_6h", "mean_12h", "min_12h", "max_12h", "sd_12h", "change",
    "from_earlier", "from_own_mean",
)  # fmt: skip
_TOGETHER: Final = (
    "shock_index", "pulse_pressure", "mean_pressure", "heart_rate_for_temperature", "breaths_per_beat", "age_years",
    "male", "gap_h",
)  # fmt: skip
NAMES: Final[tuple[str, ...]] = (
    *(f"{sign.value}.{name}" for sign in INPUTS for name in _PER_SIGN),
    *_TOGETHER,
)
"""The features of a step, in order. The order is part of a model's passport."""

TOGETHER_OF: Final[dict[str, tuple[VitalSign, ...]]] = {
    "shock_index": (VitalSign.HEART_RATE, VitalSign.SYSTOLIC_BP),
    "pulse_pressure": (VitalSign.SYSTOLIC_BP, VitalSign.DIASTOLIC_BP),
    "mean_pressure": (VitalSign.SYSTOLIC_BP, VitalSign.DIASTOLIC_BP),
    "heart_rate_for_temperature": (VitalSign.HEART_RATE, VitalSign.TEMPERATURE),
    "breaths_per_beat": (VitalSign.RESPIRATORY_RATE, VitalSign.HEART_RATE),
}
"""The signs that each combined feature needs."""

_BEATS_PER_DEGREE: Final = 10.0  # Liebermeister's rule, rounded: 8 to 10 beats a minute for each degree of fever
_NAN: Final = math.nan


def learnable(sign: VitalSign, value: float | None) -> float:
    """The value that the model sees of a sign; NaN: to the model it is not measured."""
    low, high = PLAUSIBLE[sign]
    return _NAN if value is None or not low <= value <= high else float(value)


class _Sign(msgspec.Struct, array_like=True):
    """State of one sign: the values of the last 12 hours and a running mean."""

    times: list[int] = []
    values: list[float] = []
    last_ms: int | None = None
    last: float = 0.0
    count: int = 0
    mean: float = 0.0


class _State(msgspec.Struct, array_like=True):
    age_years: float | None
    is_male: bool | None
    signs: list[_Sign]
    step_ms: int | None = None


class SepsisFeatures:
    """The features of one patient. Memory and the cost of a step do not grow with the length of a stay.

    Args:
        age_years: None if unknown.
        is_male: None if unknown.
    """

    def __init__(self, *, age_years: float | None = None, is_male: bool | None = None) -> None:
        self._state = _State(age_years, is_male, [_Sign() for _ in INPUTS])

    def step(self, at_ms: int, values: Mapping[VitalSign, float]) -> list[float]:
        """Add a step and return its features.

        Args:
            at_ms: time of the step, in milliseconds from any fixed origin; must increase.
            values: measured values in the units of `vitals.signs`. NaN and values beyond `PLAUSIBLE` count as not
                measured.

        Returns:
            The features in the order of `NAMES`, as 64-bit floats.

        Raises:
            StepOutOfOrder: not later than the previous step. The state is unchanged.
        """
        state = self._state
        if state.step_ms is not None and at_ms <= state.step_ms:
            raise StepOutOfOrder(at_ms, state.step_ms)
        features: list[float] = []
        now: dict[VitalSign, float] = {}
        for sign, seen in zip(INPUTS, state.signs, strict=True):
            now[sign] = _append_sign_features(seen, at_ms, learnable(sign, values.get(sign)), features)
        gap_h = 1.0 if state.step_ms is None else min((at_ms - state.step_ms) / HOUR_MS, MAX_GAP_H)
        state.step_ms = at_ms
        features += _together(now)
        features.append(_NAN if state.age_years is None else state.age_years)
        features.append(_NAN if state.is_male is None else float(state.is_male))
        features.append(gap_h)
        return features

    def copy(self) -> Self:
        """A copy, to compute the features of a step without adding it."""
        return self.restore(self.snapshot())

    def snapshot(self) -> bytes:
        """The state as bytes, for `restore`."""
        return _ENCODER.encode(self._state)

    @classmethod
    def restore(cls, snapshot: bytes) -> Self:
        """Continue from a snapshot; later steps give the same bits as without the interruption.

        Raises:
            msgspec.DecodeError: the bytes are not a snapshot.
        """
        made = cls()
        made._state = _DECODER.decode(snapshot)
        return made


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_State)


def _append_sign_features(seen: _Sign, at_ms: int, value: float, features: list[float]) -> float:
    """Add one sign's value of a step to its state, append its features, and return its current value."""
    before = _carried(seen, at_ms)
    if not math.isnan(value):
        seen.times.append(at_ms)
        seen.values.append(value)
        seen.last_ms, seen.last = at_ms, value
        seen.count = min(seen.count + 1, USUAL_COUNT)
        seen.mean += (value - seen.mean) / seen.count
    while seen.times and seen.times[0] <= at_ms - LONG_MS:
        del seen.times[0], seen.values[0]
    now = _carried(seen, at_ms)
    earlier = sum(1 for time_ms in seen.times if time_ms <= at_ms - SHORT_MS)
    features.append(now)
    features.append(MAX_AGE_H if seen.last_ms is None else min((at_ms - seen.last_ms) / HOUR_MS, MAX_AGE_H))
    features += _summary(seen.values[earlier:])
    features += _summary(seen.values)
    features.append(now - before)
    features.append(now - sum(seen.values[:earlier]) / earlier if earlier else _NAN)
    features.append(now - seen.mean if seen.count > 1 else _NAN)
    return now


def _carried(seen: _Sign, at_ms: int) -> float:
    return seen.last if seen.last_ms is not None and at_ms - seen.last_ms <= CARRIED_MS else _NAN


def _summary(values: list[float]) -> tuple[float, float, float, float]:
    """Mean, minimum, maximum and standard deviation; the deviation of a single value is NaN."""
    if not values:
        return (_NAN, _NAN, _NAN, _NAN)
    mean = sum(values) / len(values)
    squares = sum((value - mean) * (value - mean) for value in values)
    return mean, min(values), max(values), math.sqrt(squares / len(values)) if len(values) > 1 else _NAN


def _together(now: Mapping[VitalSign, float]) -> tuple[float, float, float, float, float]:
    """Features that combine several signs. Plausible values are above 0, and NaN stays NaN.

    Shock index: Allgöwer and Burri, Dtsch Med Wochenschr 92:1947, 1967. Mean pressure: diastolic pressure plus a third
    of the pulse pressure.
    """
    heart_rate, systolic, diastolic = (
        now[VitalSign.HEART_RATE],
        now[VitalSign.SYSTOLIC_BP],
        now[VitalSign.DIASTOLIC_BP],
    )
    return (
        heart_rate / systolic,
        systolic - diastolic,
        diastolic + (systolic - diastolic) / 3,
        heart_rate - _BEATS_PER_DEGREE * (now[VitalSign.TEMPERATURE] - 37.0),
        now[VitalSign.RESPIRATORY_RATE] / heart_rate,
    )
