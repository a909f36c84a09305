"""The table of vital signs: units, codes, usual and possible range, decimals, cadence; the class of a value.

One row per sign, the only source of units, codes and ranges. Codes: LOINC as the FHIR R4 vital-signs profiles require
them, MDC from ISO/IEEE 11073-10101, units in UCUM.

Sources of the possible ranges: temperature, 11.8 °C survived (Guinness World Records; case in Eur J Cardiothorac Surg
2020) and 9 °C reached by deliberate cooling (1955, same source), 46.5 °C survived in heat stroke (unverified); heart
rate, 480/min as the fastest documented, one report of 600/min for 20 s on telemetry (Indian Pacing Electrophysiol J
2012;12:32), limited to 500 so that the code 511 stays outside; pressures, above 480/350 mmHg in the brachial artery
during a leg press (MacDougall et al., J Appl Physiol 1985;58:785); respiratory rate, 120/min (unverified).
"""

from enum import StrEnum
from math import isfinite
from typing import Final, NamedTuple

import msgspec

from vitals.errors import UnknownSign


class VitalSign(StrEnum):
    """A quantity that a wearable, a cuff or a person reports. The value is the field name in `messages.Reading`."""

    HEART_RATE = "heart_rate"
    RESPIRATORY_RATE = "respiratory_rate"
    SPO2 = "spo2"
    SYSTOLIC_BP = "systolic_bp"
    DIASTOLIC_BP = "diastolic_bp"
    TEMPERATURE = "temperature"
    SUPPLEMENTAL_OXYGEN = "supplemental_oxygen"
    CONSCIOUSNESS = "consciousness"


class SignSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    sign: VitalSign
    label: str  # what a clinician reads
    abbreviation: str  # for one-line texts and narrow tables
    unit: str  # as shown to people
    ucum: str
    loinc: str
    loinc_also: tuple[str, ...] = ()  # further codings that the profile allows
    mdc: int | None = None
    usual: tuple[float, float]  # inclusive; outside it a value is extreme
    possible: tuple[float, float]  # inclusive; outside it nothing was measured, such as a device's code for no value
    zero_is_arrest: bool = False  # a 0 means that the patient or the sensor has stopped
    decimals: int
    cadence_ms: int  # how often a value is expected
    # How long one value may enter a score. Never longer than the earliest age at which `vitals.freshness` calls it
    # stale, for a stale value is not scored.
    valid_ms: int
    entered: bool = False  # by a person, not by a sensor
    colour: str  # of its line in charts; the usual colours of bedside monitors


_SECOND = 1_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE

SIGNS: Final[tuple[SignSpec, ...]] = (
    SignSpec(
        sign=VitalSign.HEART_RATE, label="heart rate", abbreviation="HR", unit="/min", ucum="/min",
        colour="#56d364",
        loinc="8867-4", mdc=147842,
        usual=(20, 300), possible=(0, 500), zero_is_arrest=True,
        decimals=0, cadence_ms=5 * _SECOND, valid_ms=_MINUTE,
    ),
    SignSpec(
        sign=VitalSign.RESPIRATORY_RATE, label="respiratory rate", abbreviation="RR", unit="/min", ucum="/min",
        colour="#e3c04b",
        loinc="9279-1", mdc=151562,
        usual=(2, 80), possible=(0, 120), zero_is_arrest=True,
        decimals=0, cadence_ms=5 * _SECOND, valid_ms=_MINUTE,
    ),
    SignSpec(
        sign=VitalSign.SPO2, label="oxygen saturation", abbreviation="SpO2", unit="%", ucum="%",
        colour="#4fc3f7",
        # R4's profile fixes 2708-6; 59408-5 says that it was measured by pulse oximetry.
        loinc="2708-6", loinc_also=("59408-5",), mdc=150456,
        usual=(50, 100), possible=(0, 100), zero_is_arrest=True,
        decimals=0,
        cadence_ms=5 * _SECOND, valid_ms=_MINUTE,
    ),
    SignSpec(
        sign=VitalSign.SYSTOLIC_BP, label="systolic blood pressure", abbreviation="SBP", unit="mmHg", ucum="mm[Hg]",
        colour="#f0718f",
        loinc="8480-6", mdc=150021,
        usual=(40, 300), possible=(0, 500), zero_is_arrest=True,
        decimals=0, cadence_ms=_HOUR, valid_ms=3 * _HOUR,
    ),
    SignSpec(
        sign=VitalSign.DIASTOLIC_BP, label="diastolic blood pressure", abbreviation="DBP", unit="mmHg", ucum="mm[Hg]",
        colour="#c2557a",
        loinc="8462-4", mdc=150022,
        usual=(20, 200), possible=(0, 400),
        decimals=0, cadence_ms=_HOUR, valid_ms=3 * _HOUR,
    ),
    SignSpec(
        sign=VitalSign.TEMPERATURE, label="body temperature", abbreviation="T", unit="°C", ucum="Cel",
        colour="#f2a25c",
        loinc="8310-5", mdc=150364,
        usual=(28, 45), possible=(9, 47),
        decimals=1, cadence_ms=5 * _MINUTE, valid_ms=15 * _MINUTE,
    ),
    SignSpec(
        # Litres per minute; 0 is room air.
        sign=VitalSign.SUPPLEMENTAL_OXYGEN, label="supplemental oxygen", abbreviation="O2", unit="L/min", ucum="L/min",
        colour="#9db4d6",
        loinc="3151-8",
        usual=(0, 80), possible=(0, 80),
        decimals=0, cadence_ms=6 * _HOUR, valid_ms=12 * _HOUR, entered=True,
    ),
    SignSpec(
        # A, C, V, P, U as `messages.Consciousness`.
        sign=VitalSign.CONSCIOUSNESS, label="consciousness", abbreviation="ACVPU", unit="", ucum="{ACVPU}",
        colour="#b48ead",
        loinc="80288-4",
        usual=(0, 4), possible=(0, 4),
        decimals=0, cadence_ms=6 * _HOUR, valid_ms=12 * _HOUR, entered=True,
    ),
)  # fmt: skip

SPEC: Final[dict[VitalSign, SignSpec]] = {spec.sign: spec for spec in SIGNS}
INDEX: Final[dict[VitalSign, int]] = {spec.sign: index for index, spec in enumerate(SIGNS)}
"""Position of a sign in the table: the bit it has in a mask of signs. Rows are only ever appended."""


def mask_of(*signs: VitalSign) -> int:
    """A mask of signs: an integer with the bit of each of them set.

    >>> bin(mask_of(VitalSign.HEART_RATE, VitalSign.SPO2))
    '0b101'
    """
    return sum(1 << INDEX[sign] for sign in signs)


def spec_of(name: str) -> SignSpec:
    """The row of a sign by its name.

    Raises:
        UnknownSign: the name is not in the table.
    """
    try:
        return SPEC[VitalSign(name)]
    except ValueError:
        raise UnknownSign(name, known=tuple(sign.value for sign in VitalSign)) from None


class ValueClass(StrEnum):
    """What a value of a sign says, before flags and other values are looked at."""

    USUAL = "usual"
    EXTREME = "extreme"  # seldom charted, but a living or dying patient can have it: it scores and it alarms
    ZERO = "zero"  # of a sign that a living patient has: arrest, or the sensor is off
    NO_VALUE = "no value"  # nothing was measured: a code, another unit, not a number


class Classified(NamedTuple):
    """The class of a value and, where it is no value, the probable reason."""

    value_class: ValueClass
    reason: str = ""


CODES_FOR_NONE: Final = frozenset(
    {-1.0, -9.0, -99.0, -999.0, 127.0, 255.0, 511.0, 999.0, 1023.0, 2047.0, 4095.0, 9999.0, 32767.0, 65535.0}
)
"""Numbers that devices and files send for "none", as the highest of 7 to 16 bits; looked up outside the possible."""

_USUAL: Final = Classified(ValueClass.USUAL)
_EXTREME: Final = Classified(ValueClass.EXTREME)
_ZERO: Final = Classified(ValueClass.ZERO)


def classify(sign: VitalSign, value: float | None) -> Classified:
    """The class of a value of a sign; None is no value, not measured.

    >>> classify(VitalSign.SPO2, 45).value_class.value, classify(VitalSign.SPO2, 0).value_class.value
    ('extreme', 'zero')
    >>> classify(VitalSign.SPO2, 0.85).reason
    'looks like a fraction of 1, not %'
    """
    if value is None:
        return Classified(ValueClass.NO_VALUE, "not measured")
    spec = SPEC[sign]
    if sign is VitalSign.SPO2 and 0 < value <= 1:
        return Classified(ValueClass.NO_VALUE, "looks like a fraction of 1, not %")
    low, high = spec.possible
    if not low <= value <= high:  # also true of NaN
        return Classified(ValueClass.NO_VALUE, _why_not(sign, value))
    if value == 0 and spec.zero_is_arrest:
        return _ZERO
    return _USUAL if spec.usual[0] <= value <= spec.usual[1] else _EXTREME


def _why_not(sign: VitalSign, value: float) -> str:
    if not isfinite(value):
        return "not a number"
    if value in CODES_FOR_NONE:
        return "a device's code for no value"
    if value < 0:
        return "negative"
    if sign is VitalSign.TEMPERATURE:
        return next((reason for low, high, reason in _OTHER_UNITS_OF_TEMPERATURE if low <= value <= high), "impossible")
    return f"above {SPEC[sign].possible[1]:g}, the highest possible"


# °F of 10 to 47 °C, tenths of 20 to 47 °C. Kelvin overlaps the tenths.
_OTHER_UNITS_OF_TEMPERATURE: Final = (
    (50.0, 117.0, "looks like °F, not °C"),
    (200.0, 470.0, "looks like tenths of a degree or kelvin, not °C"),
)
