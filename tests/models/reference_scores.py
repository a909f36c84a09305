"""An independent implementation of the scores for comparison: comparisons on decimals instead of tables."""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from models.spreadsheet import COLUMNS


class Row(NamedTuple):
    """The values of a row, rounded as on a chart; None or empty: not measured."""

    breaths: Decimal | None
    spo2: Decimal | None
    systolic: Decimal | None
    pulse: Decimal | None
    heat: Decimal | None
    oxygen: str
    mind: str
    scale: str


def reference_scores(cells: dict[str, str]) -> dict[str, str]:
    """The result columns of `vitalloom score` for one row of cells."""
    breaths, spo2, systolic, pulse = (
        _half_up(cells[name], "1") for name in ("respiratory_rate", "spo2", "systolic_bp", "heart_rate")
    )
    heat = _half_up(cells["temperature"], "0.1")
    oxygen, mind = cells["supplemental_oxygen"], cells["consciousness"]
    news = _news2_points(Row(breaths, spo2, systolic, pulse, heat, oxygen, mind, cells["spo2_scale"] or "1"))
    order = [name for name in COLUMNS if name != "spo2_scale"]
    total = sum(news.values())
    red = 3 in news.values()
    risk = "high" if total >= 7 else "medium" if total >= 5 else "low-medium" if red else "low"

    def whole(*needed: object, points: Callable[[], int]) -> str:
        return "" if any(x is None or x == "" for x in needed) else str(points())

    shock = ""
    if cells["systolic_bp"] and cells["heart_rate"]:
        quotient = float(cells["heart_rate"]) / float(cells["systolic_bp"])
        shock = str(Decimal(repr(quotient)).quantize(Decimal("0.01"), ROUND_HALF_UP))
    return {
        "news2": str(total) if len(news) == 7 else "",
        "news2_at_least": str(total),
        "news2_missing": "+".join(sorted(set(order) - set(news), key=order.index)),
        "news2_risk": risk if len(news) == 7 or risk == "high" else "" if risk == "low" else f">= {risk}",
        "qsofa": whole(breaths, systolic, mind, points=lambda: (breaths >= 22) + (systolic <= 100) + (mind != "A")),
        "sirs": whole(heat, pulse, breaths, points=lambda: (heat > 38 or heat < 36) + (pulse > 90) + (breaths > 20)),
        "mews": whole(systolic, pulse, breaths, heat, mind, points=lambda: _mews(systolic, pulse, breaths, heat, mind)),
        "shock_index": shock,
        "news2_note": "",
    }


def _half_up(text: str, step: str) -> Decimal | None:
    return Decimal(text).quantize(Decimal(step), ROUND_HALF_UP) if text else None


def _news2_points(row: Row) -> dict[str, int]:
    breaths, spo2, systolic, pulse, heat, oxygen, mind, scale = row
    news: dict[str, int] = {}
    if breaths is not None:
        news["respiratory_rate"] = (
            3 if breaths <= 8 else 1 if breaths <= 11 else 0 if breaths <= 20 else 2 if breaths <= 24 else 3
        )
    if spo2 is not None:
        if scale == "1":
            news["spo2"] = 3 if spo2 <= 91 else 2 if spo2 <= 93 else 1 if spo2 <= 95 else 0
        elif spo2 <= 87:
            news["spo2"] = 3 if spo2 <= 83 else 2 if spo2 <= 85 else 1
        elif spo2 <= 92 or oxygen != "1":
            news["spo2"] = 0
        else:
            news["spo2"] = 1 if spo2 <= 94 else 2 if spo2 <= 96 else 3
    if oxygen:
        news["supplemental_oxygen"] = 2 * int(oxygen)
    if systolic is not None:
        news["systolic_bp"] = (
            3 if systolic <= 90 or systolic >= 220 else 2 if systolic <= 100 else 1 if systolic <= 110 else 0
        )
    if pulse is not None:
        news["heart_rate"] = (
            3 if pulse <= 40 or pulse >= 131 else 2 if pulse >= 111 else 1 if pulse <= 50 or pulse >= 91 else 0
        )
    if mind:
        news["consciousness"] = 0 if mind == "A" else 3
    if heat is not None:
        tenths = int(heat * 10)
        news["temperature"] = 3 if tenths <= 350 else 2 if tenths >= 391 else 1 if tenths <= 360 or tenths >= 381 else 0
    return news


def _mews(systolic: Decimal, pulse: Decimal, breaths: Decimal, heat: Decimal, mind: str) -> int:
    pressure = 3 if systolic < 71 else 2 if systolic < 81 else 1 if systolic < 101 else 0 if systolic < 200 else 2
    beat = 2 if pulse < 41 else 1 if pulse < 51 else 0 if pulse < 101 else 1 if pulse < 111 else 2
    breath = 2 if breaths < 9 else 0 if breaths < 15 else 1 if breaths < 21 else 2 if breaths < 30 else 3
    warm = 0 if 35 <= heat < Decimal("38.5") else 2
    return pressure + (3 if pulse >= 130 else beat) + breath + warm + {"A": 0, "C": 1, "V": 1, "P": 2, "U": 3}[mind]
