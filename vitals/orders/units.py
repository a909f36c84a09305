"""Durations and limits as people write them, and what a limit in another unit looks like.

A number in another unit is refused with the number that was probably meant, and never converted: whoever signs an order
has to read the number by which it is judged.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from vitals.errors import BadOrders
from vitals.messages import Consciousness
from vitals.rules import QUANTITIES, TERM_QUANTITIES
from vitals.signs import SPEC

_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


class LimitUnit(NamedTuple):
    """A unit that people use for a quantity elsewhere."""

    name: str
    spelled: tuple[str, ...]  # in small letters
    low: float  # from where to where a limit in this unit can be told from one in the right unit
    high: float
    convert: Callable[[float], float]


class LimitSpec(NamedTuple):
    """Where a limit on a quantity can lie, and in which unit it is."""

    low: float
    high: float
    unit: str
    spelled: tuple[str, ...] = ()  # in small letters
    others: tuple[LimitUnit, ...] = ()
    decimals: int = 0  # of the number that was probably meant


_PER_MINUTE: Final = ("/min", "bpm", "per minute", "1/min", "beats/min", "breaths/min")
_FRACTION: Final = LimitUnit("a fraction of 1", (), 0.01, 1.0, lambda value: value * 100)
_KPA_SYSTOLIC: Final = LimitUnit("kPa", ("kpa",), 4.0, 39.9, lambda value: value * 7.50062)
_KPA_DIASTOLIC: Final = LimitUnit("kPa", ("kpa",), 2.0, 19.9, lambda value: value * 7.50062)
_FAHRENHEIT: Final = LimitUnit("°F", ("°f", "f", "degf"), 77.0, 117.0, lambda value: (value - 32) / 1.8)
_KELVIN: Final = LimitUnit("kelvin", ("k", "kelvin"), 290.0, 320.0, lambda value: value - 273.15)
_TENTHS: Final = LimitUnit("tenths of a degree", (), 321.0, 450.0, lambda value: value / 10)
_HERTZ: Final = LimitUnit("beats per second", ("hz", "/s"), 0.3, 5.0, lambda value: value * 60)

LIMITS: Final[dict[str, LimitSpec]] = {
    "heart_rate": LimitSpec(15, 300, "/min", _PER_MINUTE, (_HERTZ,)),
    "respiratory_rate": LimitSpec(
        2, 80, "/min", _PER_MINUTE, (LimitUnit("Hz", ("hz", "/s"), 0.03, 1.3, lambda v: v * 60),)
    ),
    "spo2": LimitSpec(40, 100, "%", ("%", "percent"), (_FRACTION,)),
    "systolic_bp": LimitSpec(40, 300, "mmHg", ("mmhg", "mm hg", "mm[hg]"), (_KPA_SYSTOLIC,)),
    "diastolic_bp": LimitSpec(20, 200, "mmHg", ("mmhg", "mm hg", "mm[hg]"), (_KPA_DIASTOLIC,)),
    "temperature": LimitSpec(25, 45, "°C", ("°c", "c", "celsius", "degc"), (_FAHRENHEIT, _KELVIN, _TENTHS), 1),
    "supplemental_oxygen": LimitSpec(
        0.1, 80, "L/min", ("l/min", "lpm"), (LimitUnit("mL/min", ("ml/min",), 100, 80_000, lambda v: v / 1_000),)
    ),
    "consciousness": LimitSpec(1, 4, ""),
    # Recorded and not judged; listed so that a number in another unit is told from the right one.
    "glucose": LimitSpec(
        1, 35, "mmol/L", ("mmol/l",), (LimitUnit("mg/dL", ("mg/dl",), 36, 900, lambda v: v / 18.016),), 1
    ),
    "inspired_oxygen": LimitSpec(21, 100, "%", ("%", "percent"), (_FRACTION,)),
    "news2": LimitSpec(1, 20, "", ("points",)),
    "red_sign": LimitSpec(1, 3, "", ("points",)),
    "qsofa": LimitSpec(1, 3, "", ("points",)),
    "sirs": LimitSpec(1, 4, "", ("points",)),
    "mews": LimitSpec(1, 14, "", ("points",)),
    "shock_index": LimitSpec(0.3, 3.0, "", (), (), 2),
    "baseline:heart_rate": LimitSpec(1, 20, "deviations", ("deviations",), (), 1),
    "baseline:respiratory_rate": LimitSpec(1, 20, "deviations", ("deviations",), (), 1),
    "model:sepsis": LimitSpec(0.1, 20, "times", ("times",), (), 2),
    "model:heart": LimitSpec(0.1, 20, "times", ("times",), (), 2),
    "model:rhythm": LimitSpec(0.1, 20, "times", ("times",), (), 2),
    "battery": LimitSpec(
        1, 95, "%", ("%", "percent"), (LimitUnit("a fraction of 1", (), 0.01, 0.99, lambda v: v * 100),)
    ),
    "zero": LimitSpec(1, 1, ""),
    "suspect_value": LimitSpec(1, 2, ""),
    "unusable": LimitSpec(1, 2, ""),
    "model_unavailable": LimitSpec(1, 2, ""),
    "freshness": LimitSpec(2, 4, ""),
    "clock": LimitSpec(1, 1, ""),
    "disagreement": LimitSpec(1, 1, ""),
    "device_silence": LimitSpec(1, 2, ""),
}
"""By quantity. A limit outside its range is refused."""

NOT_JUDGED: Final = {
    "glucose": "is recorded and not judged",
    "inspired_oxygen": "is recorded and not judged; order on supplemental_oxygen, in L/min",
}
"""What people ask for and no rule can watch."""

STATES: Final = frozenset(
    {"zero", "suspect_value", "unusable", "model_unavailable", "freshness", "clock", "disagreement", "device_silence"}
)
"""Quantities that are states: their limits are whole numbers that name one."""

_NUMBER: Final = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*(.*)", re.DOTALL)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*")
_TIME_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), _SECOND),
    **dict.fromkeys(("min", "minute", "minutes"), _MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), _HOUR),
    **dict.fromkeys(("d", "day", "days"), _DAY),
}
LONGEST_MS: Final = 366 * _DAY


def parse_duration(text: str) -> int:
    """Milliseconds of a time such as `15 s`, `10 min`, `1 h 30 min`.

    >>> parse_duration("1 h 30 min")
    5400000

    Raises:
        BadOrders: it is none.
    """
    found, end = 0.0, 0
    for match in _DURATION.finditer(text.strip()):
        unit = _TIME_UNITS.get(match[2].lower())
        if match.start() != end or unit is None:
            break
        found, end = found + float(match[1]) * unit, match.end()
    if end == 0 or end != len(text.strip()) or found > LONGEST_MS:
        raise BadOrders(f'{text!r} is no time; write a number and a unit, such as "15 s", "10 min" or "1 h 30 min"')
    return round(found)


def duration_text(ms: int) -> str:
    """A time as `parse_duration` reads it, without loss.

    >>> [duration_text(ms) for ms in (0, 1_500, 15_000, 90_000, 5_400_000, 86_400_000)]
    ['0 s', '1.5 s', '15 s', '1 min 30 s', '1 h 30 min', '1 d']
    """
    parts = []
    for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if ms >= size:
            parts.append(f"{ms // size} {name}")
            ms %= size
    if ms or not parts:
        parts.append(f"{ms / _SECOND:.3f}".rstrip("0").rstrip(".") + " s")
    return " ".join(parts)


def parse_limit(quantity: str, said: float | str) -> float:
    """The number of a limit on a quantity, in its own unit: `38.3`, `"38.3 °C"`, `"V"` of consciousness, `"1 min"`.

    Raises:
        BadOrders: it is no number, or in another unit; with the number that was probably meant.
    """
    if quantity == "sensor_off":
        return float(_time_of(said))
    spec = LIMITS.get(quantity)
    if spec is None:
        raise BadOrders(f"unknown quantity {quantity!r}; known are {', '.join((*SPEC, *QUANTITIES))}")
    if quantity == "consciousness" and isinstance(said, str) and said.strip().upper() in set("CVPU"):
        return float(next(one for one in Consciousness if one.letter == said.strip().upper()))
    value, unit = _number_of(said)
    _check_unit(quantity, spec, value, unit)
    _check_range(quantity, spec, value)
    return value


def limit_in(quantity: str, value: float) -> str:
    """A limit as `parse_limit` reads it, with its unit."""
    if quantity == "sensor_off":
        return duration_text(round(value))
    if quantity == "consciousness" and value in (1, 2, 3, 4):
        return Consciousness(int(value)).letter
    unit = LIMITS[quantity].unit if quantity in LIMITS else ""
    return f"{value!r} {unit}".strip() if value != int(value) else f"{int(value)} {unit}".strip()


def parse_minute(text: str) -> int:
    """Minutes after midnight of a time of day such as `22:00`.

    Raises:
        BadOrders: it is none.
    """
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip())
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise BadOrders(f'{text!r} is no time of day; write hours and minutes, such as "22:00"')
    return int(match[1]) * 60 + int(match[2])


def minute_text(minute: int) -> str:
    """A time of day as `parse_minute` reads it."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def comparable(quantity: str) -> bool:
    """Whether a term of a combined condition may be about a quantity."""
    return quantity in TERM_QUANTITIES or quantity in set(SPEC)


def _time_of(said: float | str) -> int:
    if not isinstance(said, str):
        raise BadOrders(f'{said:g} is no time; write a number and a unit, such as "1 min"')
    return parse_duration(said)


def _number_of(said: float | str) -> tuple[float, str]:
    if not isinstance(said, str):
        return float(said), ""
    match = _NUMBER.fullmatch(said.strip())
    if match is None:
        raise BadOrders(f"{said!r} is no number")
    return float(match[1]), match[2].strip()


def _check_unit(quantity: str, spec: LimitSpec, value: float, unit: str) -> None:
    if not unit or unit.lower() in spec.spelled:
        return
    right = spec.unit or "no unit"
    for other in spec.others:
        if unit.lower() in other.spelled:
            raise BadOrders(
                f"{value:g} {unit} is in {other.name}, {quantity} is in {right}; {_meant(spec, other, value)}"
            )
    raise BadOrders(f"unknown unit {unit!r}; {quantity} is in {right}")


def _check_range(quantity: str, spec: LimitSpec, value: float) -> None:
    if spec.low <= value <= spec.high:
        if quantity in STATES and value != int(value):
            raise BadOrders(f"{value:g} is no state; {quantity} has the states {spec.low:g} to {spec.high:g}")
        return
    for other in spec.others:
        if other.low <= value <= other.high:
            raise BadOrders(f"{value:g} looks like {other.name}, not {spec.unit}; {_meant(spec, other, value)}")
    unit = f" {spec.unit}" if spec.unit else ""
    raise BadOrders(f"{value:g} is no limit of {quantity}; limits are {spec.low:g} to {spec.high:g}{unit}")


def _meant(spec: LimitSpec, other: LimitUnit, value: float) -> str:
    return f"probably meant: {other.convert(value):.{spec.decimals}f} {spec.unit}".rstrip()
