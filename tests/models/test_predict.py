"""`vitalloom predict` on synthetic recordings: columns, order, and independence of later hours."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.errors import BadRecordings
from models.predict import main
from tests.models.made_up import clinic, ecgs, hourly


def predicted(task: str, data: Path, out: Path, form: str = "clinic") -> list[dict[str, str]]:
    assert main(task, data, out, form=form, models=None, keys=()) == 0
    with out.open() as file:
        return list(csv.DictReader(file))


def test_every_hour_of_every_patient_has_a_score(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet")
    rows = predicted("sepsis", data, tmp_path / "out.csv")

    table = pq.read_table(data)
    assert list(rows[0]) == ["patient_id", "hour", "score", "alarm"]
    assert [(row["patient_id"], int(row["hour"])) for row in rows] == [
        (one, int(hour)) for one, hour in zip(table["patient_id"].to_pylist(), table["hour"].to_pylist(), strict=True)
    ]
    assert all(0 <= float(row["score"]) <= 1 and row["alarm"] in "01" for row in rows)


def test_septic_patients_score_higher_at_the_end(tmp_path: Path) -> None:
    rows = predicted("sepsis", hourly(tmp_path / "hours.parquet"), tmp_path / "out.csv")
    last = {row["patient_id"]: float(row["score"]) for row in rows}

    septic = [score for at, score in enumerate(last.values()) if at % 3 == 0]
    others = [score for at, score in enumerate(last.values()) if at % 3]

    assert min(septic) > max(others)


def test_later_hours_do_not_change_earlier_scores(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet", patients=4)
    table = pq.read_table(data)
    early = [hour <= 10 for hour in table["hour"].to_pylist()]
    pq.write_table(table.filter(early), tmp_path / "early.parquet")

    whole = predicted("sepsis", data, tmp_path / "whole.csv")
    cut = predicted("sepsis", tmp_path / "early.parquet", tmp_path / "cut.csv")

    assert cut == [row for row in whole if int(row["hour"]) <= 10]


def test_the_first_hour_of_a_stay_does_not_change_its_scores(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet", patients=4)
    table = pq.read_table(data)
    moved = table.set_column(
        table.column_names.index("hour"), "hour", [[hour + 500 for hour in table["hour"].to_pylist()]]
    )
    pq.write_table(moved, tmp_path / "moved.parquet")

    scores = [row["score"] for row in predicted("sepsis", data, tmp_path / "one.csv")]
    later = [row["score"] for row in predicted("sepsis", tmp_path / "moved.parquet", tmp_path / "two.csv")]

    assert later == scores


def test_labels_are_not_needed_and_not_used(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet", patients=3)
    pq.write_table(pq.read_table(data).drop_columns(["SepsisLabel"]), tmp_path / "bare.parquet")

    assert predicted("sepsis", data, tmp_path / "one.csv") == predicted(
        "sepsis", tmp_path / "bare.parquet", tmp_path / "two.csv"
    )


@pytest.mark.parametrize("form", ["clinic", "home"])
def test_every_patient_of_a_clinic_has_a_score(tmp_path: Path, form: str) -> None:
    rows = predicted("heart", clinic(tmp_path / "heart.csv"), tmp_path / "out.csv", form)

    assert list(rows[0]) == ["row_id", "score"]
    assert [row["row_id"] for row in rows] == [f"row-{at}" for at in range(60)]
    ill = sum(float(row["score"]) for row in rows[1::2]) / 30
    well = sum(float(row["score"]) for row in rows[::2]) / 30
    assert ill > well + 0.2


def test_every_recording_has_a_rhythm(tmp_path: Path) -> None:
    rows = predicted("rhythm", ecgs(tmp_path / "ecg.parquet"), tmp_path / "out.csv")

    assert list(rows[0]) == ["record", "label", "score_N", "score_A", "score_O", "score_noisy"]
    assert len(rows) == 24
    for row in rows:
        assert sum(float(row[f"score_{name}"]) for name in ("N", "A", "O", "noisy")) == pytest.approx(1, abs=1e-4)
        assert row["label"] in "NAO~"
    regular, irregular = rows[::2], rows[1::2]
    assert sum(float(row["score_A"]) for row in irregular) > sum(float(row["score_A"]) for row in regular) + 3


@pytest.mark.parametrize(
    ("task", "name", "problem"),
    [
        ("sepsis", "nowhere.parquet", "no such file"),
        ("rhythm", "nowhere.parquet", "no such file"),
        ("heart", "nowhere.csv", "cannot read the file"),
        ("appendicitis", "x", "use sepsis, heart, rhythm"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, task: str, name: str, problem: str) -> None:
    with pytest.raises(BadRecordings, match=problem):
        predicted(task, tmp_path / name, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet", patients=2)
    pq.write_table(pq.read_table(data).drop_columns(["Resp", "SBP"]), data)

    with pytest.raises(BadRecordings, match="missing column: Resp, SBP"):
        predicted("sepsis", data, tmp_path / "out.csv")


def test_unsorted_hours_are_refused(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet", patients=2)
    table = pq.read_table(data)
    pq.write_table(table.take(list(range(len(table)))[::-1]), data)

    with pytest.raises(BadRecordings, match="sort by patient_id and hour"):
        predicted("sepsis", data, tmp_path / "out.csv")


def test_a_cell_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    data = clinic(tmp_path / "heart.csv", patients=2)
    data.write_text(data.read_text() + "row-9,here,old,1,4,120,200,0,0,150,0,0.0,1,0,3,0,0\n")

    with pytest.raises(BadRecordings, match="line 4, column age: 'old' is not a number"):
        predicted("heart", data, tmp_path / "out.csv")
