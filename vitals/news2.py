"""NEWS2, the National Early Warning Score 2: points, totals, lower bounds when signs are missing, recommended response.

Source: Royal College of Physicians. National Early Warning Score (NEWS) 2: Standardising the assessment of
acute-illness severity in the NHS. Updated report of a working party. London: RCP, 2017 (Charts 1 and 4). Not for
people under 16 years and not in pregnancy. High = abnormal.

*Rounding.* A chart is printed in whole numbers, temperature in tenths. A value is rounded to that resolution before it
is looked up, half up on its decimal form: 20.5 is 21, 36.05 is 36.1. `Bands` does so without rounding: it compares
with the float nearest to "20.5" or "36.05". Shortest decimal forms keep the order of floats, so this is exact.

*Missing.* A sign that was never measured, is older than its validity, or is not a finite number gives no points. All
points are 0 or more, so the sum of the present signs is a lower bound, `at_least`; `total` exists only when nothing is
missing.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from enum import StrEnum
from math import inf, isfinite
from typing import Final, TypeAlias

import msgspec

from vitals.errors import BadPlan
from vitals.messages import News2Part, News2Scored
from vitals.signs import SIGNS, VitalSign

Inputs: TypeAlias = Mapping[VitalSign, tuple[float | None, int | None]]
"""The known values of a patient: sign -> (value, age in ms). Consciousness is `messages.Consciousness` or its number,
supplemental oxygen is in L/min and 0 is room air."""

Validity: TypeAlias = Mapping[str, int] | Mapping[VitalSign, int] | Callable[[VitalSign], int]
"""How old a value may be, in ms: a table by sign (other signs have their default), or a function of the sign."""

DEFAULT_VALID_MS: Final[Mapping[VitalSign, int]] = {spec.sign: spec.valid_ms for spec in SIGNS}


class Bands:
    """Points by bands of a value. `rows` are (lowest value of the band, points), lowest first, as a chart prints them.

    >>> Bands((-inf, 3), (9, 1), (12, 0)).points(8.5)
    1
    """

    __slots__ = ("_edges", "_points", "decimals", "rows")

    def __init__(self, *rows: tuple[float, int], decimals: int = 0) -> None:
        self.rows = rows
        self.decimals = decimals
        self._edges = [_half_below(start, decimals) for start, _ in rows[1:]]
        self._points = [points for _, points in rows]

    def points(self, value: float) -> int:
        """Points of a value.

        Raises:
            ValueError: the value is not a number.
        """
        if value != value:
            raise ValueError("not a number has no points")
        return self._points[bisect_right(self._edges, value)]


def to_resolution(value: float, decimals: int) -> float:
    """Round half up on the decimal form; for values from 0, as every vital sign is.

    >>> to_resolution(20.5, 0), to_resolution(36.05, 1), round(36.05, 1)
    (21.0, 36.1, 36.0)
    """
    if abs(value) >= 2.0**52:
        return value  # a float of this size has no decimals
    unit: int = 10**decimals
    near = round(value * unit)
    # The product above has its own rounding error: compare with the true halves on either side. A quotient of two
    # integers is the float nearest to it.
    if value >= (10 * near + 5) / (10 * unit):
        near += 1
    elif value < (10 * near - 5) / (10 * unit):
        near -= 1
    return near / unit


def _half_below(start: float, decimals: int) -> float:
    unit: int = 10**decimals
    return (10 * round(start * unit) - 5) / (10 * unit)


# Chart 1. Each row: from this value on, these points.
RESPIRATORY_RATE: Final = Bands((-inf, 3), (9, 1), (12, 0), (21, 2), (25, 3))
SPO2_SCALE_1: Final = Bands((-inf, 3), (92, 2), (94, 1), (96, 0))
SPO2_SCALE_2_AIR: Final = Bands((-inf, 3), (84, 2), (86, 1), (88, 0))
SPO2_SCALE_2_OXYGEN: Final = Bands((-inf, 3), (84, 2), (86, 1), (88, 0), (93, 1), (95, 2), (97, 3))
SYSTOLIC_BP: Final = Bands((-inf, 3), (91, 2), (101, 1), (111, 0), (220, 3))
HEART_RATE: Final = Bands((-inf, 3), (41, 1), (51, 0), (91, 1), (111, 2), (131, 3))
CONSCIOUSNESS: Final = Bands((-inf, 0), (1, 3))  # alert, or any of C, V, P, U
TEMPERATURE: Final = Bands((-inf, 3), (35.1, 1), (36.1, 0), (38.1, 1), (39.1, 2), decimals=1)

ON_OXYGEN_POINTS: Final = 2

_SPO2: Final = {
    (1, False): SPO2_SCALE_1,
    (1, True): SPO2_SCALE_1,
    (2, False): SPO2_SCALE_2_AIR,
    (2, True): SPO2_SCALE_2_OXYGEN,
}


def respiratory_rate(value: float) -> int:
    """Points of a respiratory rate in /min."""
    return RESPIRATORY_RATE.points(value)


def oxygen_saturation(value: float, scale: int = 1, on_oxygen: bool = False) -> int:
    """Points of an SpO2 in %. Scale 2 only where a clinician has prescribed a target of 88-92 %.

    Raises:
        BadPlan: there is no such scale.
    """
    return _spo2_bands(scale, on_oxygen).points(value)


def supplemental_oxygen(litres: float) -> int:
    """Points of breathing oxygen, from its flow in L/min. Any flow is oxygen: 0.4 L/min is not rounded to air."""
    return ON_OXYGEN_POINTS if litres > 0 else 0


def systolic_bp(value: float) -> int:
    """Points of a systolic blood pressure in mmHg."""
    return SYSTOLIC_BP.points(value)


def heart_rate(value: float) -> int:
    """Points of a pulse in /min."""
    return HEART_RATE.points(value)


def consciousness(level: float) -> int:
    """Points of a `messages.Consciousness`."""
    return CONSCIOUSNESS.points(level)


def temperature(value: float) -> int:
    """Points of a body temperature in °C."""
    return TEMPERATURE.points(value)


def is_red(sign: VitalSign, value: float, spo2_scale: int = 1) -> bool:
    """Whether one value alone scores 3 points, whatever oxygen is given; False for a sign that NEWS2 does not have."""
    bands = _MEASURED_BANDS[spo2_scale].get(sign)
    return bands is not None and value == value and bands.points(value) == 3


class Risk(StrEnum):
    """Clinical risk by Chart 2. Low-medium: one parameter alone scores 3 and the total is at most 4."""

    LOW = "low"
    LOW_MEDIUM = "low-medium"
    MEDIUM = "medium"
    HIGH = "high"


class News2(msgspec.Struct, frozen=True, kw_only=True):
    """One NEWS2, complete or not. `parts` holds all seven parameters in the order of the chart."""

    total: int | None  # None: incomplete
    at_least: int  # equals `total` when complete
    missing: tuple[VitalSign, ...]  # without points, or due
    parts: tuple[News2Part, ...]
    risk: Risk  # of `at_least`; for people and records there is `risk_text`
    spo2_scale: int
    due: tuple[VitalSign, ...] = ()  # older than the risk allows; their points still count in `at_least`
    due_every_ms: int = 0  # how often they ought to be measured; 0: none is due


def score(inputs: Inputs, *, spo2_scale: int = 1, valid_ms: Validity = DEFAULT_VALID_MS) -> News2:
    """NEWS2 of the known values of one patient.

    A part keeps the age of its input even where the input is too old to count. On scale 2 with the oxygen unknown an
    SpO2 of 93 or more gives the smaller of its two possible points, 0.

    Raises:
        BadPlan: there is no such SpO2 scale.
    """
    oxygen = current(inputs, VitalSign.SUPPLEMENTAL_OXYGEN, valid_ms)
    spo2_bands = _spo2_bands(spo2_scale, oxygen is not None and oxygen > 0)
    at_least = 0
    highest = 0
    parts: list[News2Part] = []
    missing: list[VitalSign] = []
    for sign, name, bands in _CHART:
        value = current(inputs, sign, valid_ms)
        if value is None:
            missing.append(sign)
            parts.append(News2Part(name, None, None, inputs[sign][1] if sign in inputs else None))
            continue
        if sign is _OXYGEN:
            points, shown = supplemental_oxygen(value), float(value)
        else:
            bands = bands or spo2_bands
            points, shown = bands.points(value), to_resolution(value, bands.decimals)
        at_least += points
        highest = max(highest, points)
        parts.append(News2Part(name, shown, points, inputs[sign][1]))
    return News2(
        total=None if missing else at_least,
        at_least=at_least,
        missing=tuple(missing),
        parts=tuple(parts),
        risk=risk_of(at_least, single_three=highest == 3),
        spo2_scale=spo2_scale,
    )


def current(inputs: Inputs, sign: VitalSign, valid_ms: Validity = DEFAULT_VALID_MS) -> float | None:
    """The value of a sign if it may enter a score: measured, finite, and not older than its validity."""
    value, age_ms = inputs.get(sign, _NOTHING)
    if value is None or age_ms is None or not isfinite(value):
        return None
    limit = valid_ms(sign) if callable(valid_ms) else valid_ms.get(sign, DEFAULT_VALID_MS[sign])
    return value if age_ms <= limit else None


def with_due(scored: News2, due: tuple[VitalSign, ...], every_ms: int) -> News2:
    """The score, incomplete because some of its values are older than the risk allows.

    Args:
        due: signs that have points.
        every_ms: how often they ought to be measured.
    """
    missing = tuple(sign for sign, _, _ in _CHART if sign in scored.missing or sign in due)
    return msgspec.structs.replace(scored, total=None, missing=missing, due=due, due_every_ms=every_ms)


def risk_of(at_least: int, *, single_three: bool) -> Risk:
    """Risk band of a total or of a lower bound."""
    risk = _RISKS[bisect_right(_RISK_FROM, at_least) - 1]
    return Risk.LOW_MEDIUM if single_three and risk is Risk.LOW else risk


def risk_text(scored: News2 | News2Scored) -> str:
    """The risk for people and records: of an incomplete score only what is certain.

    `medium` of a total; of a lower bound `>= medium`, `high`, which is the highest, and nothing instead of `low`: what
    is missing may score.

    >>> risk_text(score({VitalSign.RESPIRATORY_RATE: (16, 0)})), risk_text(score({VitalSign.RESPIRATORY_RATE: (8, 0)}))
    ('', '>= low-medium')
    """
    risk = scored.risk if isinstance(scored, News2) else _risk(scored)
    return (_RISK_OF_BOUND if scored.total is None else _RISK_OF_TOTAL)[risk]


def _risk(scored: News2 | News2Scored) -> Risk:
    return risk_of(scored.at_least, single_three=any(part.points == 3 for part in scored.parts))


_RISK_OF_TOTAL: Final = {risk: risk.value for risk in Risk}
_RISK_OF_BOUND: Final = {
    Risk.LOW: "",
    Risk.LOW_MEDIUM: ">= low-medium",
    Risk.MEDIUM: ">= medium",
    Risk.HIGH: "high",
}
_RISK_FROM: Final = (0, 5, 7)
_RISKS: Final = (Risk.LOW, Risk.MEDIUM, Risk.HIGH)


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The recommended clinical response to a score."""

    risk: Risk
    at_least: int  # lowest total of the row
    monitor_every_ms: int  # the longest time between two sets of observations; 0: continuous
    assess_within_ms: int | None  # None: no deadline
    text: str


_MINUTE = 60_000
_HOUR = 60 * _MINUTE

# Chart 4, reworded. The RCP sets no deadlines: an hour and half an hour are those of a published NHS trust protocol for
# totals of 5 and of 7; the hour for a single 3 was chosen equal to the interval of the next measurement.
RESPONSES: Final[tuple[Response, ...]] = (
    Response(
        risk=Risk.LOW,
        at_least=0,
        monitor_every_ms=12 * _HOUR,
        assess_within_ms=None,
        text="keep measuring routinely, at least every 12 h",
    ),
    Response(
        risk=Risk.LOW,
        at_least=1,
        monitor_every_ms=6 * _HOUR,
        assess_within_ms=None,
        text="a registered nurse assesses, decides how often to measure (every 4 to 6 h at least) and on escalation",
    ),
    Response(
        risk=Risk.LOW_MEDIUM,
        at_least=3,
        monitor_every_ms=_HOUR,
        assess_within_ms=_HOUR,
        text="the nurse tells the medical team, who review and decide on escalation; measure at least hourly",
    ),
    Response(
        risk=Risk.MEDIUM,
        at_least=5,
        monitor_every_ms=_HOUR,
        assess_within_ms=_HOUR,
        text="urgent: tell the medical team now; assessment by a clinician competent in acute illness, "
        "care where there is monitoring; measure at least hourly",
    ),
    Response(
        risk=Risk.HIGH,
        at_least=7,
        monitor_every_ms=0,
        assess_within_ms=30 * _MINUTE,
        text="emergency: tell the medical team now, at least at specialist registrar level; assessment by a team with "
        "critical-care and airway skills, consider level 2 or 3 care; measure continuously",
    ),
)


def response_to(news2: News2 | News2Scored) -> Response:
    """The response of Chart 4; for an incomplete score, that of its lower bound."""
    risk = _risk(news2)
    return next(row for row in reversed(RESPONSES) if row.risk is risk and row.at_least <= news2.at_least)


def _spo2_bands(scale: int, on_oxygen: bool) -> Bands:
    try:
        return _SPO2[scale, on_oxygen]
    except KeyError:
        raise BadPlan(f"SpO2 scale {scale!r} is unknown; NEWS2 has scale 1, and scale 2 if prescribed") from None


_NOTHING: Final = (None, None)
_OXYGEN: Final = VitalSign.SUPPLEMENTAL_OXYGEN

# None: SpO2 is looked up by scale and oxygen, and oxygen has no bands.
_CHART: Final[tuple[tuple[VitalSign, str, Bands | None], ...]] = tuple(
    (sign, sign.value, bands)
    for sign, bands in (
        (VitalSign.RESPIRATORY_RATE, RESPIRATORY_RATE),
        (VitalSign.SPO2, None),
        (VitalSign.SUPPLEMENTAL_OXYGEN, None),
        (VitalSign.SYSTOLIC_BP, SYSTOLIC_BP),
        (VitalSign.HEART_RATE, HEART_RATE),
        (VitalSign.CONSCIOUSNESS, CONSCIOUSNESS),
        (VitalSign.TEMPERATURE, TEMPERATURE),
    )
)

_MEASURED_BANDS: Final[dict[int, dict[VitalSign, Bands]]] = {
    scale: {sign: bands or _SPO2[scale, False] for sign, _, bands in _CHART if sign is not _OXYGEN} for scale in (1, 2)
}
