"""What a cell of a patients' file may hold: unit, range, codes and other units, one row a column.

Five outcomes of a cell (`CellOutcome`). Nothing is guessed: a value that looks like another unit is refused with
that name, and is converted only if the user says the unit (`--unit`), or where no value of one unit can be taken for
one of the other (`OtherUnit.certain`).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from models.errors import BadUnit
from vitals.messages import Consciousness
from vitals.signs import SPEC, ValueClass, VitalSign, classify


def usable(sign: VitalSign, value: float) -> bool:
    """Whether a value may be scored, by the table of signs. An extreme value may: it scores and alarms."""
    return classify(sign, value).value_class is not ValueClass.NO_VALUE


def contradict(systolic: float, diastolic: float) -> bool:
    """Whether two pressures cannot both be right, as `vitals.quality` judges a cuff's: then neither is used."""
    return systolic <= diastolic


class CellOutcome(StrEnum):
    """What became of a cell."""

    EMPTY = "empty"
    TAKEN = "taken"
    CONVERTED = "converted"  # from another unit
    MISSING = "missing"  # a code that means "not measured"
    REFUSED = "refused"


class Cell(NamedTuple):
    """A read cell."""

    value: float | None  # in the unit of the column; None unless taken or converted
    outcome: CellOutcome
    why: str = ""  # of a conversion, a code or a refusal; names no value, so that equal reasons can be counted
    raw: float | None = None  # the number of a refused cell as it was written


EMPTY: Final = Cell(None, CellOutcome.EMPTY)


class OtherUnit(NamedTuple):
    """Another unit in which a quantity is often written.

    Args:
        low: lowest number that looks like this unit; inclusive.
        certain: no number of this range is possible in the column's own unit, whoever wrote it; it is converted without
            being asked.
    """

    name: str
    low: float
    high: float
    convert: Callable[[float], float]
    aliases: tuple[str, ...] = ()
    certain: bool = False


_TEMPERATURES: Final = (
    OtherUnit("°F", 52, 116, lambda value: round((value - 32) / 1.8, 3), ("f", "degf", "fahrenheit")),
    OtherUnit("K", 300, 320, lambda value: round(value - 273.15, 3), ("kelvin",)),
    OtherUnit("0.1°C", 200, 470, lambda value: round(value / 10, 3), ("tenths",)),
)
_SATURATIONS: Final = (OtherUnit("fraction", 0.3, 1, lambda value: round(value * 100, 3), ("1",)),)
_PRESSURES: Final = (OtherUnit("kPa", 1, 40, lambda value: round(value * 7.50062, 1)),)
# Cholesterol: 1 mmol/L is 38.67 mg/dL.
_CHOLESTEROL: Final = (OtherUnit("mmol/L", 1, 26, lambda value: round(value * 38.67, 1), ("mmol",)),)
_OXYGEN: Final = (OtherUnit("%", 15, 100, lambda value: round(value / 100, 5), ("percent",), certain=True),)

MISSING_WORDS: Final = frozenset(
    {"na", "n/a", "n.a.", "#n/a", "<na>", "none", "null", "nil", "nul", "-", "--", "?", ".", "missing", "unknown"}
)
MISSING_CODES: Final = (-1.0, -9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0)
"""Numbers that mean "not measured" unless they are a possible value of the column."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a file: a number within a range, or a choice of codes."""

    name: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False  # only whole numbers
    codes: Mapping[str, float] = {}  # by text in capitals; not empty: nothing else is allowed
    missing: tuple[float, ...] = MISSING_CODES
    also: tuple[OtherUnit, ...] = ()
    sign: VitalSign | None = None
    allowed: str = ""  # in words, if range and codes do not say it

    def judge(self, value: float, unit: OtherUnit | None = None) -> Cell:
        """The outcome of a number.

        Args:
            unit: the unit in which the user says that the column is written.
        """
        if not math.isfinite(value):
            return EMPTY if math.isnan(value) else Cell(None, CellOutcome.REFUSED, f"no number; {self._give()}", value)
        if value in self.missing and not self._fits(value):
            return Cell(None, CellOutcome.MISSING, f"{value:g}")
        if unit is not None:
            converted = unit.convert(value)
            if self._fits(converted):
                return Cell(converted, CellOutcome.CONVERTED, f"from {unit.name} to {self.unit}")
            return Cell(
                None, CellOutcome.REFUSED, f"not possible in {unit.name}, as --unit says; {self._give()}", value
            )
        if self._fits(value):
            return Cell(value, CellOutcome.TAKEN)
        for other in self.also:
            if other.low <= value <= other.high:
                if other.certain:
                    return Cell(other.convert(value), CellOutcome.CONVERTED, f"from {other.name} to {self.unit}")
                fix = f"convert it to {self.unit}, or say --unit {self.name}={other.name}"
                return Cell(None, CellOutcome.REFUSED, f"looks like {other.name}; {fix}", value)
        return Cell(None, CellOutcome.REFUSED, f"not allowed; {self._give()}", value)

    def read(self, text: str, unit: OtherUnit | None = None, *, decimal_comma: bool = False) -> Cell:
        """The outcome of a written cell."""
        text = text.strip()
        if not text or text.lower() == "nan":  # data frames write NaN for an empty cell
            return EMPTY
        if text.upper() in self.codes:
            return Cell(self.codes[text.upper()], CellOutcome.TAKEN)
        if text.lower() in MISSING_WORDS:
            return Cell(None, CellOutcome.MISSING, text.upper())
        number = number_of(text, decimal_comma=decimal_comma)
        if number is None:
            return Cell(None, CellOutcome.REFUSED, f"{'not allowed' if self.codes else 'no number'}; {self._give()}")
        return self.judge(number, unit)

    def unit_of(self, name: str) -> OtherUnit | None:
        """Another unit of this column by its name."""
        asked = name.strip().lower()
        return next((one for one in self.also if asked == one.name.lower() or asked in one.aliases), None)

    @property
    def range_text(self) -> str:
        """What is allowed, for errors and help."""
        if self.allowed:
            return self.allowed
        unit = f" ({self.unit})" if self.unit else ""
        if math.isinf(self.low):
            return f"a number{unit}"
        return f"a number from {self.low:g} to {self.high:g}{unit}"

    def _fits(self, value: float) -> bool:
        if self.codes:
            return f"{value:g}" in self.codes  # letters have no numbers
        if not self.low <= value <= self.high or (self.whole and value != round(value)):
            return False
        # Consciousness as a number is a coma scale, whose range is the column's and not that of ACVPU.
        return self.sign in (None, VitalSign.CONSCIOUSNESS) or usable(self.sign, value)

    def _give(self) -> str:
        return f"give {self.range_text}, or leave the cell empty"


# Not float() alone: it accepts "inf", "1_0" and digits of other scripts.
DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:([.,])[0-9]*)?|[.][0-9]+)")
_SCIENTIFIC: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?[eE][+-]?[0-9]{1,3}")


def number_of(text: str, *, decimal_comma: bool = False) -> float | None:
    """A written number, or None. A comma is a decimal mark only where it does not separate cells."""
    found = DECIMAL.fullmatch(text)
    if found is None or (found[1] == "," and not decimal_comma):
        return float(text) if _SCIENTIFIC.fullmatch(text) else None
    return float(text.replace(",", "."))


def of_sign(name: str, sign: VitalSign) -> Column:
    """The column of a vital sign, under the name that a file gives it."""
    low, high = SPEC[sign].possible
    also = {
        VitalSign.TEMPERATURE: _TEMPERATURES,
        VitalSign.SPO2: _SATURATIONS,
        VitalSign.SYSTOLIC_BP: _PRESSURES,
        VitalSign.DIASTOLIC_BP: _PRESSURES,
    }.get(sign, ())
    return Column(name=name, unit=SPEC[sign].unit, low=low, high=high, sign=sign, also=also)


def number(name: str, unit: str, low: float, high: float, *, missing: Iterable[float] = ()) -> Column:
    """A column of numbers.

    Args:
        missing: further numbers that mean "not measured", outside of the range.
    """
    also = _CHOLESTEROL if name == "chol" else _PRESSURES if unit.startswith("mmHg") else ()
    return Column(name=name, unit=unit, low=low, high=high, missing=(*MISSING_CODES, *missing), also=also)


def choice(name: str, unit: str, codes: Sequence[int], words: Mapping[str, float] | None = None) -> Column:
    """A column of codes; `words` are codes that are written as text, in capitals."""
    known = {str(code): float(code) for code in codes} | {f"{code}.0": float(code) for code in codes}
    listed = f"one of {', '.join(str(code) for code in codes)} ({unit})"
    return Column(name=name, unit=unit, codes=known | dict(words or {}), allowed=listed)


SEX_WORDS: Final = {"M": 1.0, "MALE": 1.0, "F": 0.0, "FEMALE": 0.0}
YES_NO: Final = {"YES": 1.0, "Y": 1.0, "TRUE": 1.0, "NO": 0.0, "N": 0.0, "FALSE": 0.0}

OLDEST: Final = 120
YOUNGEST: Final = 0.01  # years; four days


def age(name: str, *, low: float = YOUNGEST) -> Column:
    """A patient's age in years; half a year is an infant's. 0 is a code for "not known" in files of adults."""
    return Column(name=name, unit="years", low=low, high=OLDEST)


def sex(name: str) -> Column:
    """A patient's sex: 1 or M is male, 0 or F female."""
    return choice(name, "1 or M male, 0 or F female", (0, 1), SEX_WORDS)


def fraction_of_oxygen(name: str) -> Column:
    """Inspired oxygen as a fraction. A percentage is understood, because no gas can be breathed with 15 times more."""
    return Column(name=name, unit="fraction", low=0.15, high=1, sign=VitalSign.SUPPLEMENTAL_OXYGEN, also=_OXYGEN)


def consciousness(name: str) -> Column:
    """ACVPU as letters."""
    letters = {level.letter: float(level) for level in Consciousness}
    return Column(
        name=name, unit="", codes=letters, missing=(), sign=VitalSign.CONSCIOUSNESS, allowed="A, C, V, P or U"
    )


def units_of(asked: Iterable[str], columns: Iterable[Column]) -> dict[str, OtherUnit]:
    """The units that the user says, `Temp=°F`, by name of the column.

    Raises:
        BadUnit: it is not of that form, or column or unit are not known; the message lists what is.
    """
    known = {column.name.lower(): column for column in columns if column.also}
    units = {}
    for text in asked:
        name, _, unit_name = text.partition("=")
        column = known.get(name.strip().lower())
        unit = None if column is None else column.unit_of(unit_name)
        if column is None or unit is None:
            listed = ", ".join(f"{column.name}={unit.name}" for column in known.values() for unit in column.also)
            raise BadUnit(f"--unit {text}: not known; known are {listed}")
        units[column.name] = unit
    return units
