"""`vitalloom predict` on synthetic recordings: columns, order, and independence of later hours."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import BadPatientFile, BadRecordings
from models.predict import main
from tests.models.made_up import clinic, ecgs, heartbeat_mv, hourly


def predicted(task: str, data: Path, out: Path, form: str = "clinic") -> list[dict[str, str]]:
    assert main(task, data, out, form=form, models=None, keys=()) == 0
    with out.open() as file:
        return list(csv.DictReader(file))


def test_every_hour_of_every_patient_has_a_score(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet")
    rows = predicted("sepsis", data, tmp_path / "out.csv")

    table = pq.read_table(data)
    assert list(rows[0]) == ["patient_id", "hour", "score", "alarm", "note"]
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
def test_every_patient_of_a_clinic_has_a_score_or_a_reason(tmp_path: Path, form: str) -> None:
    rows = predicted("heart", clinic(tmp_path / "heart.csv"), tmp_path / "out.csv", form)

    assert list(rows[0]) == ["row_id", "score", "note"]
    assert [row["row_id"] for row in rows] == [f"row-{at}" for at in range(60)]
    ill = [float(row["score"]) for row in rows[1::2] if row["score"]]
    well = [float(row["score"]) for row in rows[::2] if row["score"]]
    assert sum(ill) / len(ill) > sum(well) / len(well) + 0.2
    assert all(bool(row["score"]) != ("not known" in row["note"]) for row in rows)  # age, sex and cp are needed


def test_every_recording_has_a_rhythm(tmp_path: Path) -> None:
    rows = predicted("rhythm", ecgs(tmp_path / "ecg.parquet"), tmp_path / "out.csv")

    scores = ["score_N", "score_A", "score_O", "score_noisy"]
    assert list(rows[0]) == ["record", "label", *scores, "piece", "from_s", "to_s", "note"]
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
        ("heart", "nowhere.csv", "no such file"),
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


def test_rows_in_any_order_give_the_same_scores(tmp_path: Path) -> None:
    data = hourly(tmp_path / "hours.parquet", patients=4)
    table = pq.read_table(data)
    pq.write_table(table.take(list(range(len(table)))[::-1]), tmp_path / "reversed.parquet")

    sorted_rows, other = (
        {(row["patient_id"], row["hour"]): row for row in predicted("sepsis", file, tmp_path / "out.csv")}
        for file in (data, tmp_path / "reversed.parquet")
    )

    assert other == sorted_rows


def test_two_rows_of_one_hour_are_one_hour_with_the_later_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "patient_id,hour,HR,O2Sat,Temp,Resp,SBP,DBP\n"
    (tmp_path / "two.csv").write_text(header + "p,1,80,97,37,,120,70\np,1,90,,,20,,\n")
    (tmp_path / "one.csv").write_text(header + "p,1,90,97,37,20,120,70\n")

    one = predicted("sepsis", tmp_path / "one.csv", tmp_path / "one.out")
    two = predicted("sepsis", tmp_path / "two.csv", tmp_path / "two.out")

    assert two == one
    assert "2 rows of two.csv: 1 judged, of these 0 abstained, 1 added to an earlier row" in capsys.readouterr().err


def test_a_cell_that_is_not_a_number_is_named_and_the_others_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = clinic(tmp_path / "heart.csv", patients=2)
    data.write_text(data.read_text() + "row-9,here,old,1,4,120,200,0,0,150,0,0.0,1,0,3,0,0\n")

    rows = predicted("heart", data, tmp_path / "out.csv")

    assert rows[2]["note"].startswith("abstains: age not known; age 'old' refused: no number")
    assert "column age: 1 of" in capsys.readouterr().err


def test_a_child_has_no_score_of_a_model_for_adults(tmp_path: Path) -> None:
    data = clinic(tmp_path / "heart.csv", patients=2)
    data.write_text(data.read_text() + "child,here,9,1,4,120,200,0,0,150,0,0.0,1,0,3,0,0\n")
    hours = hourly(tmp_path / "hours.parquet", patients=2)
    table = pq.read_table(hours)
    pq.write_table(table.set_column(table.column_names.index("Age"), "Age", [[9.0] * len(table)]), hours)

    assert predicted("heart", data, tmp_path / "out.csv")[2] == {
        "row_id": "child",
        "score": "",
        "note": "abstains: under 16 years: the model is for adults",
    }
    assert {row["alarm"] for row in predicted("sepsis", hours, tmp_path / "out.csv")} == {"0"}


def test_the_account_is_also_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "hours.csv"
    data.write_text(
        "patient_id,hour,HR,O2Sat,Temp,Resp,SBP,DBP,Gender\n"
        "p,1,80,0.97,102.2,20,120,70,2\n,1,80,97,37,20,120,70,1\np,2,80,97,-9,20,120,70,\n"
    )

    status = main(
        "sepsis", data, tmp_path / "out.csv", form="clinic", models=None, keys=(), units=["Temp=F"], as_json=True
    )

    account = json.loads(capsys.readouterr().out)
    assert status == 1
    expected = {"records": 3, "judged": 2, "skipped": 1, "converted": 1, "refused": 2, "missing_codes": 1}
    assert {name: account[name] for name in expected} == expected
    assert account["not_judged"] == [
        {"reason": "column patient_id is empty; give every row its patient", "count": 1, "named": ["row 3"]}
    ]


@pytest.mark.parametrize(
    ("task", "name"),
    [("sepsis", "hours.parquet"), ("heart", "heart.csv"), ("rhythm", "ecg.parquet")],
)
def test_a_file_with_a_header_alone_has_no_rows_and_is_no_error(tmp_path: Path, task: str, name: str) -> None:
    made = {"sepsis": hourly, "heart": clinic, "rhythm": ecgs}[task](tmp_path / name)
    if name.endswith(".csv"):
        made.write_text(made.read_text().splitlines()[0] + "\n")
    else:
        pq.write_table(pq.read_table(made).slice(0, 0), made)

    assert predicted(task, made, tmp_path / "out.csv") == []


class TestLongRecordings:
    def ecg(self, path: Path, *parts: tuple[bool, float]) -> Path:
        wave = np.concatenate([heartbeat_mv(irregular=irregular, seconds=seconds) for irregular, seconds in parts])
        table = {"record": ["long"], "fs": [300], "uv_per_step": [5], "signal": [np.round(wave / 0.005).tolist()]}
        pq.write_table(pa.table(table), path)
        return path

    def test_a_long_recording_is_judged_in_pieces_and_no_piece_is_outvoted(self, tmp_path: Path) -> None:
        #   regular 60 s | irregular 30 s | regular 75 s
        data = self.ecg(tmp_path / "ecg.parquet", (False, 60), (True, 30), (False, 75))

        whole, *parts = predicted("rhythm", data, tmp_path / "out.csv")

        assert (whole["label"], whole["piece"], whole["from_s"], whole["to_s"]) == ("A", "", "0", "165")
        assert [(part["piece"], part["from_s"], part["to_s"]) for part in parts] == [
            ("1", "0", "30"), ("2", "30", "60"), ("3", "60", "90"), ("4", "90", "120"), ("5", "120", "165"),
        ]  # fmt: skip
        assert parts[2]["label"] == "A"
        assert whole["score_A"] == max(part["score_A"] for part in parts)
        assert whole["note"].startswith("5 pieces: ")

    def test_a_long_flat_line_is_never_normal(self, tmp_path: Path) -> None:
        data = self.ecg(tmp_path / "ecg.parquet", (False, 90))
        table = pq.read_table(data)
        signal = table["signal"][0].as_py()
        table = table.set_column(3, "signal", [[signal + [0] * 9_000]])
        pq.write_table(table, data)

        out = tmp_path / "out.csv"
        assert main("rhythm", data, out, form="clinic", models=None, keys=()) == 1
        with out.open() as file:
            whole = next(csv.DictReader(file))
        assert whole["label"] != "N"
        assert "flat line" in whole["note"]


class TestOutput:
    def test_the_file_that_is_read_is_never_replaced(self, tmp_path: Path) -> None:
        data = clinic(tmp_path / "clinic.csv")
        before = data.read_bytes()
        (tmp_path / "link.csv").symlink_to(data)

        for out in (data, tmp_path / "link.csv"):
            with pytest.raises(BadPatientFile, match="is the file that is read"):
                main("heart", data, out, form="clinic", models=None, keys=())

        assert data.read_bytes() == before
        assert sorted(one.name for one in tmp_path.iterdir()) == ["clinic.csv", "link.csv"]

    def test_a_device_is_written_and_not_replaced(self, tmp_path: Path) -> None:
        data, pipe = clinic(tmp_path / "clinic.csv"), tmp_path / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert main("heart", data, pipe, form="clinic", models=None, keys=()) == 0
            assert os.read(reader, 17) == b"row_id,score,note"
        finally:
            os.close(reader)
        assert pipe.is_fifo()


def test_the_infant_is_no_adult_of_unknown_age(tmp_path: Path) -> None:
    data = tmp_path / "hours.csv"
    data.write_text("patient_id,hour,HR,O2Sat,Temp,Resp,SBP,DBP,Age\na,0,90,95,38,20,120,70,0.5\n")

    (row,) = predicted("sepsis", data, tmp_path / "out.csv")

    assert row["note"].startswith("abstains: under 16 years")
