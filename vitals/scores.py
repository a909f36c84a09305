"""qSOFA, SIRS, MEWS, shock index and mean arterial pressure from vital signs: tables, each with its source.

In addition to NEWS2, never instead of it. Inputs, validity and rounding are those of `vitals.news2`; high = abnormal;
points are 0 or more, so a score with missing signs is a lower bound.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

import msgspec

from vitals.messages import Consciousness
from vitals.news2 import DEFAULT_VALID_MS, Bands, Inputs, Validity, current, to_resolution
from vitals.signs import SPEC, VitalSign


class ScoreChart(msgspec.Struct, frozen=True, kw_only=True):
    """One score as a table."""

    name: str
    rows: tuple[tuple[VitalSign, Bands], ...]
    positive_from: int
    out_of: int  # the most that these signs can reach
    source: str


class ScorePart(msgspec.Struct, frozen=True):
    """The points of one sign."""

    sign: VitalSign
    value: float  # rounded to the chart's resolution
    points: int


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One score of one patient."""

    chart: ScoreChart
    points: int | None  # None: incomplete
    at_least: int
    missing: tuple[VitalSign, ...]
    parts: tuple[ScorePart, ...]  # of the signs that are present

    @property
    def positive(self) -> bool:
        """Whether the score is positive; for an incomplete score, whether its lower bound is."""
        return self.at_least >= self.chart.positive_from

    @property
    def text(self) -> str:
        """The score in one line. The limit from which it is an alarm belongs to a rule, so it is not in it.

        >>> qsofa({VitalSign.RESPIRATORY_RATE: (24, 0), VitalSign.CONSCIOUSNESS: (0, 0)}).text
        'qSOFA >= 1 of 3 (SBP missing): RR 24 (+1)'
        """
        total = f">= {self.at_least}" if self.points is None else str(self.points)
        head = f"{self.chart.name} {total} of {self.chart.out_of}"
        return (
            head + _missing(self.missing) + because((shown(part.sign, part.value), part.points) for part in self.parts)
        )


class DerivedQuantity(msgspec.Struct, frozen=True, kw_only=True):
    """A number computed from signs; it has a usual limit and no points."""

    name: str
    value: float | None  # not rounded; None: a sign is missing
    missing: tuple[VitalSign, ...]
    text: str  # one line
    source: str


# Altered mentation, a GCS below 15, is here any level of consciousness but alert.
QSOFA: Final = ScoreChart(
    name="qSOFA",
    rows=(
        (VitalSign.RESPIRATORY_RATE, Bands((-inf, 0), (22, 1))),
        (VitalSign.SYSTOLIC_BP, Bands((-inf, 1), (101, 0))),
        (VitalSign.CONSCIOUSNESS, Bands((-inf, 0), (Consciousness.CONFUSION, 1))),
    ),
    positive_from=2,
    out_of=3,
    source="Singer et al., Sepsis-3, JAMA 2016;315:801",
)

# The fourth criterion, white cells, is not a vital sign: the result is a lower bound of the full SIRS. The limit is the
# 38 °C of 1992; a variant with 38.3 °C, confusion and glucose exists.
SIRS: Final = ScoreChart(
    name="SIRS (vital signs only)",
    rows=(
        (VitalSign.TEMPERATURE, Bands((-inf, 1), (36.0, 0), (38.1, 1), decimals=1)),
        (VitalSign.HEART_RATE, Bands((-inf, 0), (91, 1))),
        (VitalSign.RESPIRATORY_RATE, Bands((-inf, 0), (21, 1))),
    ),
    positive_from=2,
    out_of=3,
    source="Bone et al., ACCP/SCCM consensus conference, Chest 1992;101:1644",
)

# Printed forms differ in "<" and "<=" at some edges. Chosen here: systolic 70 and 200 and pulse 40 belong to the
# outer band, respiration 9 and 35.0 °C to the normal one. The AVPU of 2001 has no "new confusion": C counts as V.
MEWS: Final = ScoreChart(
    name="MEWS",
    rows=(
        (VitalSign.SYSTOLIC_BP, Bands((-inf, 3), (71, 2), (81, 1), (101, 0), (200, 2))),
        (VitalSign.HEART_RATE, Bands((-inf, 2), (41, 1), (51, 0), (101, 1), (111, 2), (130, 3))),
        (VitalSign.RESPIRATORY_RATE, Bands((-inf, 2), (9, 0), (15, 1), (21, 2), (30, 3))),
        (VitalSign.TEMPERATURE, Bands((-inf, 2), (35.0, 0), (38.5, 2), decimals=1)),
        (
            VitalSign.CONSCIOUSNESS,
            Bands((-inf, 0), (Consciousness.CONFUSION, 1), (Consciousness.PAIN, 2), (Consciousness.UNRESPONSIVE, 3)),
        ),
    ),
    positive_from=5,
    out_of=14,
    source="Subbe et al., QJM 2001;94:521",
)

SHOCK_INDEX_SOURCE: Final = "Allgöwer and Burri, Dtsch Med Wochenschr 1967;92:1947; normal 0.5 to 0.7"
MAP_TARGET: Final = 65
MAP_SOURCE: Final = "DBP + (SBP - DBP) / 3; target in septic shock 65 mmHg, Surviving Sepsis Campaign 2021"


def score(chart: ScoreChart, inputs: Inputs, *, valid_ms: Validity = DEFAULT_VALID_MS) -> Score:
    """A chart filled in with the known values."""
    parts: list[ScorePart] = []
    missing: list[VitalSign] = []
    for sign, bands in chart.rows:
        value = current(inputs, sign, valid_ms)
        if value is None:
            missing.append(sign)
        else:
            parts.append(ScorePart(sign, to_resolution(value, bands.decimals), bands.points(value)))
    at_least = sum(part.points for part in parts)
    return Score(
        chart=chart,
        points=None if missing else at_least,
        at_least=at_least,
        missing=tuple(missing),
        parts=tuple(parts),
    )


def qsofa(inputs: Inputs, *, valid_ms: Validity = DEFAULT_VALID_MS) -> Score:
    """Quick SOFA, 0 to 3. Surviving Sepsis 2021 advises against it as the only screening tool."""
    return score(QSOFA, inputs, valid_ms=valid_ms)


def sirs(inputs: Inputs, *, valid_ms: Validity = DEFAULT_VALID_MS) -> Score:
    """SIRS without white cells and carbon dioxide, 0 to 3."""
    return score(SIRS, inputs, valid_ms=valid_ms)


def mews(inputs: Inputs, *, valid_ms: Validity = DEFAULT_VALID_MS) -> Score:
    """Modified Early Warning Score in the form of Subbe 2001, 0 to 14."""
    return score(MEWS, inputs, valid_ms=valid_ms)


def shock_index(inputs: Inputs, *, valid_ms: Validity = DEFAULT_VALID_MS) -> DerivedQuantity:
    """Heart rate divided by systolic pressure.

    Less meaningful in old age, in hypertension, and with beta or calcium channel blockers.
    """
    pulse, systolic = (current(inputs, sign, valid_ms) for sign in (VitalSign.HEART_RATE, VitalSign.SYSTOLIC_BP))
    # A pressure of 0 is not a measurement.
    systolic = systolic if systolic is not None and systolic > 0 else None
    missing = _absent((VitalSign.HEART_RATE, pulse), (VitalSign.SYSTOLIC_BP, systolic))
    if pulse is None or systolic is None:
        return DerivedQuantity(
            name="shock index",
            value=None,
            missing=missing,
            text="shock index unknown" + _missing(missing),
            source=SHOCK_INDEX_SOURCE,
        )
    value = pulse / systolic
    given = f"{shown(VitalSign.HEART_RATE, pulse)}, {shown(VitalSign.SYSTOLIC_BP, systolic)}"
    text = f"shock index {to_resolution(value, 2):.2f}: {given}"
    return DerivedQuantity(name="shock index", value=value, missing=(), text=text, source=SHOCK_INDEX_SOURCE)


def mean_arterial_pressure(inputs: Inputs, *, valid_ms: Validity = DEFAULT_VALID_MS) -> DerivedQuantity:
    """Mean arterial pressure in mmHg, estimated from a cuff's two values. Here *low* is abnormal.

    >>> mean_arterial_pressure({VitalSign.SYSTOLIC_BP: (90, 0), VitalSign.DIASTOLIC_BP: (45, 0)}).text
    'MAP 60 mmHg, low below 65: SBP 90, DBP 45'
    """
    systolic, diastolic = (current(inputs, sign, valid_ms) for sign in (VitalSign.SYSTOLIC_BP, VitalSign.DIASTOLIC_BP))
    missing = _absent((VitalSign.SYSTOLIC_BP, systolic), (VitalSign.DIASTOLIC_BP, diastolic))
    if systolic is None or diastolic is None:
        return DerivedQuantity(
            name="MAP", value=None, missing=missing, text="MAP unknown" + _missing(missing), source=MAP_SOURCE
        )
    value = diastolic + (systolic - diastolic) / 3
    given = f"{shown(VitalSign.SYSTOLIC_BP, systolic)}, {shown(VitalSign.DIASTOLIC_BP, diastolic)}"
    text = f"MAP {to_resolution(value, 0):.0f} mmHg, low below {MAP_TARGET}: {given}"
    return DerivedQuantity(name="MAP", value=value, missing=(), text=text, source=MAP_SOURCE)


def shown(sign: VitalSign, value: float) -> str:
    """A sign and its value in a one-line text.

    >>> shown(VitalSign.TEMPERATURE, 38.1), shown(VitalSign.CONSCIOUSNESS, 2), shown(VitalSign.SUPPLEMENTAL_OXYGEN, 4)
    ('T 38.1', 'ACVPU V', 'O2 4 L/min')
    """
    spec = SPEC[sign]
    if sign is VitalSign.CONSCIOUSNESS:
        level = min(max(int(value), Consciousness.ALERT), Consciousness.UNRESPONSIVE)  # a text must never fail
        return f"{spec.abbreviation} {Consciousness(level).letter}"
    if sign is VitalSign.SUPPLEMENTAL_OXYGEN:
        return f"{spec.abbreviation} {value:g} {spec.unit}"
    return f"{spec.abbreviation} {to_resolution(value, spec.decimals):.{spec.decimals}f}"


def because(parts: Iterable[tuple[str, int]]) -> str:
    """The reasons of a score from (text, points): only signs that scored, highest first; empty if none did.

    >>> because([("HR 95", 1), ("T 37.0", 0), ("RR 26", 3)])
    ': RR 26 (+3), HR 95 (+1)'
    """
    scored = sorted((part for part in parts if part[1] > 0), key=lambda part: -part[1])
    listed = ", ".join(f"{text} (+{points})" for text, points in scored)
    return f": {listed}" if listed else ""


def _absent(*given: tuple[VitalSign, float | None]) -> tuple[VitalSign, ...]:
    return tuple(sign for sign, value in given if value is None)


def _missing(signs: tuple[VitalSign, ...]) -> str:
    return f" ({', '.join(SPEC[sign].abbreviation for sign in signs)} missing)" if signs else ""
