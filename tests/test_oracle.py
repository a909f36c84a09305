"""The second opinion is checked as well: against the published boundaries, and that it notices a wrong score."""

import csv
import sqlite3
from pathlib import Path

import pytest

from tests import oracle

BOUNDARIES = Path(__file__).parent / "vitals" / "news2_boundaries.csv"
LETTERS = "ACVPU"


def rows() -> list[dict[str, str]]:
    with BOUNDARIES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", rows(), ids=lambda row: "-".join(value for value in row.values() if value))
def test_the_oracle_agrees_with_the_published_boundaries(row: dict[str, str]) -> None:
    value = row["value"]
    number = float(LETTERS.index(value)) if value in LETTERS else {"air": 0.0, "oxygen": 2.0}.get(value)
    found = oracle.points(
        row["parameter"],
        float(value) if number is None else number,
        scale=int(row["spo2_scale"] or 1),
        oxygen=2.0 if row["breathing"] == "oxygen" else None,
    )

    assert found == int(row["points"])


def test_a_score_with_a_sign_missing_is_a_lower_bound() -> None:
    assert oracle.score({"respiratory_rate": 26.0, "spo2": 93.0}) == (None, 5, ">= medium")


def test_a_wrong_score_in_a_store_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as store:
        columns = ", ".join(oracle.COLUMNS)
        store.execute(f"CREATE TABLE reading (seq, reading_id, binding_id, at_ms, unusable, {columns})")
        store.execute(f"CREATE TABLE observation (observation_id, binding_id, at_ms, heard_ms, refused, {columns})")
        store.execute("CREATE TABLE news2 (reading_id, at_ms, total, at_least, risk)")
        store.execute(
            "INSERT INTO reading (seq, reading_id, binding_id, at_ms, unusable, heart_rate)"
            " VALUES (1, x'01', 'b', 5, 0, 95)"
        )
        store.execute("INSERT INTO news2 VALUES (x'01', 5, NULL, 1, '')")
    assert oracle.check_store(path, cadence_ms=5_000) == 1

    with sqlite3.connect(path) as store:
        store.execute("UPDATE news2 SET at_least = 0")
    with pytest.raises(AssertionError):
        oracle.check_store(path, cadence_ms=5_000)


def test_what_a_person_entered_counts_for_its_moment_and_a_device_after_it() -> None:
    def row(number: int, at_ms: int, *, entered: bool = False, **signs: float) -> dict[str, object]:
        about = {"reading_id": bytes([number]), "at_ms": at_ms, "unusable": 0, "entered": entered}
        return dict.fromkeys(oracle.COLUMNS) | about | signs

    scored = oracle.rescore(
        [
            row(1, 100, entered=True, respiratory_rate=22.0),
            row(2, 90, respiratory_rate=14.0, heart_rate=95.0),  # measured before she counted, arrived after
            row(3, 200, respiratory_rate=25.0, heart_rate=95.0),
        ],
        cadence_ms=5_000,
    )

    assert [(at_ms, at_least) for _, at_ms, (_, at_least, _) in scored] == [(100, 2), (100, 3), (200, 4)]
