"""The table of vital signs: units, codes, plausible range, decimals, cadence.

One row per sign, the only source of units, codes and ranges. Codes: LOINC as the FHIR R4 vital-signs profiles require
them, MDC from ISO/IEEE 11073-10101, units in UCUM.
"""

from enum import StrEnum
from typing import Final

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
    plausible: tuple[float, float]  # inclusive; a value outside it cannot come from a living patient
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
        loinc="8867-4", mdc=147842, plausible=(20, 300), decimals=0, cadence_ms=5 * _SECOND, valid_ms=_MINUTE,
    ),
    SignSpec(
        sign=VitalSign.RESPIRATORY_RATE, label="respiratory rate", abbreviation="RR", unit="/min", ucum="/min",
        colour="#e3c04b",
        loinc="9279-1", mdc=151562, plausible=(2, 80), decimals=0, cadence_ms=5 * _SECOND, valid_ms=_MINUTE,
    ),
    SignSpec(
        sign=VitalSign.SPO2, label="oxygen saturation", abbreviation="SpO2", unit="%", ucum="%",
        colour="#4fc3f7",
        # R4's profile fixes 2708-6; 59408-5 says that it was measured by pulse oximetry.
        loinc="2708-6", loinc_also=("59408-5",), mdc=150456, plausible=(50, 100), decimals=0,
        cadence_ms=5 * _SECOND, valid_ms=_MINUTE,
    ),
    SignSpec(
        sign=VitalSign.SYSTOLIC_BP, label="systolic blood pressure", abbreviation="SBP", unit="mmHg", ucum="mm[Hg]",
        colour="#f0718f",
        loinc="8480-6", mdc=150021, plausible=(40, 300), decimals=0, cadence_ms=_HOUR, valid_ms=3 * _HOUR,
    ),
    SignSpec(
        sign=VitalSign.DIASTOLIC_BP, label="diastolic blood pressure", abbreviation="DBP", unit="mmHg", ucum="mm[Hg]",
        colour="#c2557a",
        loinc="8462-4", mdc=150022, plausible=(20, 200), decimals=0, cadence_ms=_HOUR, valid_ms=3 * _HOUR,
    ),
    SignSpec(
        sign=VitalSign.TEMPERATURE, label="body temperature", abbreviation="T", unit="°C", ucum="Cel",
        colour="#f2a25c",
        loinc="8310-5", mdc=150364, plausible=(28, 45), decimals=1, cadence_ms=5 * _MINUTE, valid_ms=15 * _MINUTE,
    ),
    SignSpec(
        # Litres per minute; 0 is room air.
        sign=VitalSign.SUPPLEMENTAL_OXYGEN, label="supplemental oxygen", abbreviation="O2", unit="L/min", ucum="L/min",
        colour="#9db4d6",
        loinc="3151-8", plausible=(0, 80), decimals=0, cadence_ms=6 * _HOUR, valid_ms=12 * _HOUR, entered=True,
    ),
    SignSpec(
        # A, C, V, P, U as `messages.Consciousness`.
        sign=VitalSign.CONSCIOUSNESS, label="consciousness", abbreviation="ACVPU", unit="", ucum="{ACVPU}",
        colour="#b48ead",
        loinc="80288-4", plausible=(0, 4), decimals=0, cadence_ms=6 * _HOUR, valid_ms=12 * _HOUR, entered=True,
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
