"""NEWS2 once more, from the Royal College's chart, sharing no code with the kernel: what the store ought to hold.

The chart is written as it is printed, as ranges from left to right. Scores of stored readings are worked out again from
their values alone, in the order in which they were applied, and compared with the stored ones.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

MINUTE, HOUR = 60_000, 3_600_000

# Chart 1 of RCP 2017: (lowest value, points), the highest range first.
CHART: Mapping[str, tuple[tuple[str, int], ...]] = {
    "respiratory_rate": (("25", 3), ("21", 2), ("12", 0), ("9", 1), ("0", 3)),
    "spo2": (("96", 0), ("94", 1), ("92", 2), ("0", 3)),
    "systolic_bp": (("220", 3), ("111", 0), ("101", 1), ("91", 2), ("0", 3)),
    "heart_rate": (("131", 3), ("111", 2), ("91", 1), ("51", 0), ("41", 1), ("0", 3)),
    "temperature": (("39.1", 2), ("38.1", 1), ("36.1", 0), ("35.1", 1), ("0", 3)),
    "consciousness": (("1", 3), ("0", 0)),  # 0 is alert
}
SCALE_2_ON_OXYGEN = (("97", 3), ("95", 2), ("93", 1), ("88", 0), ("86", 1), ("84", 2), ("0", 3))
SCALE_2_ON_AIR = (("88", 0), ("86", 1), ("84", 2), ("0", 3))
STEP = {"temperature": Decimal("0.1")}

SEVEN = ("respiratory_rate", "spo2", "supplemental_oxygen", "systolic_bp", "heart_rate", "consciousness", "temperature")
# How long a value counts; those that a wearable measures by itself at least three times its cadence.
VALID_MS = {
    "respiratory_rate": MINUTE, "spo2": MINUTE, "heart_rate": MINUTE, "temperature": 15 * MINUTE,
    "systolic_bp": 3 * HOUR, "consciousness": 12 * HOUR, "supplemental_oxygen": 12 * HOUR,
}  # fmt: skip
# What is not measured continuously is due by the risk; a cuff that inflates every hour may be half an hour late.
MAY_BE_LATE_MS = {"consciousness": 0, "supplemental_oxygen": 0, "systolic_bp": HOUR // 2}
BY_WEARABLE = ("respiratory_rate", "spo2", "heart_rate")
# Bits of the mask of unusable values, by the order of the store's columns.
COLUMNS = (
    "heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "temperature", "supplemental_oxygen",
    "consciousness",
)  # fmt: skip


def points(sign: str, value: float, *, scale: int = 1, oxygen: float | None = None) -> int:
    """Points of one parameter; on scale 2 without knowledge of oxygen the fewer."""
    if sign == "supplemental_oxygen":
        return 2 if value > 0 else 0
    shown = Decimal(str(value)).quantize(STEP.get(sign, Decimal(1)), ROUND_HALF_UP)
    ranges = CHART[sign]
    if sign == "spo2" and scale == 2:
        ranges = SCALE_2_ON_OXYGEN if oxygen else SCALE_2_ON_AIR
    return next(found for lowest, found in ranges if shown >= Decimal(lowest))


def score(values: Mapping[str, float], *, scale: int = 1) -> tuple[int | None, int, str]:
    """Total if all seven are there, what the present ones add up to, and the risk of that."""
    found = {
        sign: points(sign, values[sign], scale=scale, oxygen=values.get("supplemental_oxygen"))
        for sign in SEVEN
        if sign in values
    }
    at_least = sum(found.values())
    if at_least >= 7:
        risk = "high"
    elif at_least >= 5:
        risk = "medium"
    else:
        risk = "low-medium" if 3 in found.values() else "low"
    if len(found) < len(SEVEN):
        risk = _bound(risk)
    return (at_least if len(found) == len(SEVEN) else None), at_least, risk


def _bound(risk: str) -> str:
    """What is missing may score, so nothing but the highest risk is certain."""
    return risk if risk == "high" else "" if risk == "low" else f">= {risk}"


def _measured_every(scored: tuple[int | None, int, str]) -> int:
    """RCP's chart 4: hourly from 5, or with a single 3; every 6 h from 1; every 12 h at 0."""
    _, at_least, risk = scored
    if at_least >= 5 or "low-medium" in risk:
        return HOUR
    return 6 * HOUR if at_least >= 1 else 12 * HOUR


def rescore(
    readings: Iterable[Mapping[str, Any]], *, cadence_ms: int, scale: int = 1
) -> Iterator[tuple[bytes, int, tuple[int | None, int, str]]]:
    """(reading id, event time, score) of one patient's readings in the order in which they were applied.

    What a person observed is among them, marked as `entered`: of two values of one moment that of the person counts.
    A reading older than one before it is not scored; what it says of a sign that was not measured since still counts.
    """
    valid_ms = {sign: max(ms, 3 * cadence_ms) if sign in BY_WEARABLE else ms for sign, ms in VALID_MS.items()}
    latest: dict[str, tuple[float, int]] = {}
    entered_ms: dict[str, int] = {}  # when a person observed the newest value of a sign
    newest_ms = now_ms = -1  # of devices; of everybody
    seen: list[tuple[int, int]] = []  # time, and how often a set of observations was due then
    for reading in readings:
        at_ms, by_person = reading["at_ms"], reading["entered"]
        for bit, sign in enumerate(COLUMNS):
            value = reading[sign]
            if value is None or reading["unusable"] >> bit & 1 or sign not in VALID_MS:
                continue
            if not by_person and entered_ms.get(sign, -1) >= at_ms:
                continue
            if sign not in latest or at_ms > latest[sign][1] or at_ms >= newest_ms:
                latest[sign] = (value, at_ms)
                if by_person:
                    entered_ms[sign] = at_ms
        if at_ms < (now_ms if by_person else newest_ms):
            continue
        now_ms = max(now_ms, at_ms)
        newest_ms = newest_ms if by_person else at_ms
        at_ms = now_ms
        counted = {sign: value for sign, (value, when) in latest.items() if at_ms - when <= valid_ms[sign]}
        total, at_least, risk = score(counted, scale=scale)
        every_ms = _measured_every(score({sign: value for sign, (value, _) in latest.items()}, scale=scale))
        seen.append((at_ms, every_ms))
        in_force_ms = min(interval for when, interval in seen if at_ms - when <= HOUR or when == at_ms)
        if total is not None and any(
            at_ms - latest[sign][1] > in_force_ms + late for sign, late in MAY_BE_LATE_MS.items() if sign in latest
        ):
            total, risk = None, _bound(risk)
        yield reading["reading_id"], at_ms, (total, at_least, risk)


def check_store(path: Path, *, cadence_ms: int) -> int:
    """Compare every NEWS2 in a store with its recomputation; how many there were.

    Raises:
        AssertionError: the first that differs, is missing, or should not be there.
    """
    store = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    store.row_factory = sqlite3.Row
    try:
        stored = {
            row["reading_id"]: (row["at_ms"], (row["total"], row["at_least"], row["risk"]))
            for row in store.execute("SELECT * FROM news2")
        }
        compared = 0
        for (binding,) in store.execute("SELECT DISTINCT binding_id FROM reading").fetchall():
            readings = _applied(
                store.execute("SELECT * FROM reading WHERE binding_id = ? ORDER BY seq", (binding,)).fetchall(),
                store.execute(
                    "SELECT * FROM observation WHERE binding_id = ? ORDER BY heard_ms", (binding,)
                ).fetchall(),
            )
            for reading_id, at_ms, expected in rescore(readings, cadence_ms=cadence_ms):
                assert stored.get(reading_id) == (at_ms, expected), (binding, reading_id.hex(), at_ms)
                compared += 1
        assert compared == len(stored)
        return compared
    finally:
        store.close()


def _applied(readings: Sequence[sqlite3.Row], observations: Sequence[sqlite3.Row]) -> Iterator[Mapping[str, Any]]:
    """Readings and observations of a patient in the order in which they arrived where they were judged."""
    waiting = [one for one in observations if not one["refused"]]
    for reading in readings:
        while waiting and waiting[0]["heard_ms"] <= reading["arrived_ms"]:
            yield _observed(waiting.pop(0))
        yield {**dict(reading), "entered": False}
    yield from map(_observed, waiting)


def _observed(row: sqlite3.Row) -> Mapping[str, Any]:
    return {**dict(row), "entered": True, "unusable": 0, "reading_id": row["observation_id"]}
