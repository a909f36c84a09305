"""Files that were once misread, each with its right value: scores and predictions. Small ones are written here."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import predict, spreadsheet

CASES = Path(__file__).parents[3] / "shared" / "cases" / "clinical"
VITALS = "respiratory_rate,spo2,spo2_scale,supplemental_oxygen,systolic_bp,heart_rate,consciousness,temperature"
CLINIC = "row_id,age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"
STAY = {"HR": 85.0, "O2Sat": 97.0, "Temp": 37.0, "SBP": 120.0, "DBP": 70.0, "Resp": 18.0, "Age": 60.0, "Gender": 1}


def scored(tmp_path: Path, text: str) -> list[dict[str, str]]:
    source, out = tmp_path / "vitals.csv", tmp_path / "scored.csv"
    source.write_text(text, encoding="utf-8")
    assert spreadsheet.main(source, out) == 0
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=";" if ";" in text else ","))


def predicted(task: str, data: Path, *, status: int = 0) -> list[dict[str, str]]:
    out = data.with_name("predicted.csv")
    assert predict.main(task, data, out, form="clinic", models=None, keys=()) == status
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stays(tmp_path: Path, patients: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """Eight hours of each patient, who differs from `STAY`."""
    rows = [
        {"patient_id": name, "hour": hour, **STAY, **changed} for name, changed in patients.items() for hour in range(8)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hours.parquet")
    found: dict[str, list[dict[str, str]]] = {}
    for row in predicted("sepsis", tmp_path / "hours.parquet"):
        found.setdefault(row["patient_id"], []).append(row)
    return found


@pytest.mark.parametrize(
    ("row", "total", "risk"), [("18,48,1,1,120,110,V,36.7", "9", "high"), ("0,96,1,0,120,50,U,36.7", "7", "high")]
)
def test_the_sickest_patients_are_scored(tmp_path: Path, row: str, total: str, risk: str) -> None:
    (one,) = scored(tmp_path, f"{VITALS}\n{row}\n")

    assert (one["news2"], one["news2_risk"], one["news2_note"]) == (total, risk, "")


def test_the_file_of_a_spreadsheet_program_in_europe(tmp_path: Path) -> None:
    (one,) = scored(tmp_path, f"sep=;\n{VITALS.replace(',', ';')}\n18;96;1;0;120;80;A;36,7\n")

    assert (one["news2"], one["shock_index"]) == ("0", "0,67")


def test_a_child_and_a_pregnant_woman(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = scored(tmp_path, f"age,pregnant,{VITALS}\n8,no,26,96,1,0,95,128,A,37.0\n30,yes,22,96,1,0,105,105,A,37.0\n")

    assert [row["news2"] + row["news2_risk"] for row in rows] == ["", ""]
    said = capsys.readouterr().err
    assert "under 16 years (row 2)" in said
    assert "pregnancy (row 3)" in said


def test_a_systolic_pressure_below_the_diastolic_one(tmp_path: Path) -> None:
    (one,) = scored(tmp_path, f"{VITALS},diastolic_bp\n18,96,1,0,70,80,A,36.7,120\n")

    assert (one["news2"], one["news2_missing"], one["news2_risk"]) == ("", "systolic_bp", "")


def test_fever_in_fahrenheit_is_refused_with_a_warning_and_judged_with_its_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = stays(tmp_path, {"celsius": {"Temp": 39.0, "HR": 95.0}, "fahrenheit": {"Temp": 102.2, "HR": 95.0}})

    assert "column Temp: 8 of 16 values not used: looks like °F" in capsys.readouterr().err
    assert all("Temp '102.2' refused: looks like °F" in row["note"] for row in found["fahrenheit"])

    table = pq.read_table(tmp_path / "hours.parquet")
    pq.write_table(table.slice(8, 8), tmp_path / "hours.parquet")
    out = tmp_path / "predicted.csv"
    predict.main(
        "sepsis", tmp_path / "hours.parquet", out, form="clinic", models=None, keys=(), units=["Temp=fahrenheit"]
    )
    with out.open(newline="", encoding="utf-8") as file:
        same = [row["score"] for row in csv.DictReader(file)]
    assert same == [row["score"] for row in found["celsius"]]


def test_an_impossible_value_is_not_fresh_and_ends_no_abstention(tmp_path: Path) -> None:
    two = {"O2Sat": None, "Temp": None, "SBP": None, "DBP": None, "HR": 135.0, "Resp": 38.0}

    found = stays(tmp_path, {"two": two, "impossible": {**two, "Temp": 104.0}, "extreme": {**two, "O2Sat": 40.0}})

    for name in ("two", "impossible"):
        assert [row["alarm"] for row in found[name]] == ["0"] * 8, name
        assert all(row["note"].startswith("abstains: only 2 of 6 signs") for row in found[name]), name
    # An extreme value is measured: the model sees it as the most extreme that it has learned from.
    assert not any(row["note"].startswith("abstains") for row in found["extreme"])


@pytest.mark.parametrize("sex", [2, 3, -1, None])
def test_an_unknown_sex_is_neither(tmp_path: Path, sex: int | None) -> None:
    found = stays(tmp_path, {"coded": {"Gender": sex}, "unknown": {"Gender": None}, "man": {"Gender": 1}})

    scores = {name: [row["score"] for row in rows] for name, rows in found.items()}
    assert scores["coded"] == scores["unknown"] != scores["man"]


@pytest.mark.parametrize(("letter", "code"), [("M", 1), ("F", 0), ("male", 1), ("female", 0)])
def test_sex_as_letters(tmp_path: Path, letter: str, code: int) -> None:
    letters = stays(tmp_path, {"p": {"Gender": letter}})

    assert letters == stays(tmp_path, {"p": {"Gender": code}})


@pytest.mark.parametrize("age", [300.0, 0.0, -1.0, 999.0, None])
def test_an_impossible_age_is_not_known(tmp_path: Path, age: float | None) -> None:
    found = stays(tmp_path, {"odd": {"Age": age}, "unknown": {"Age": None}, "sixty": {"Age": 60.0}})

    scores = {name: [row["score"] for row in rows] for name, rows in found.items()}
    assert scores["odd"] == scores["unknown"] != scores["sixty"]


def test_an_original_file_of_the_challenge_is_one_patient(tmp_path: Path) -> None:
    (tmp_path / "p000001.psv").write_text(
        "HR|O2Sat|Temp|SBP|MAP|DBP|Resp|EtCO2|FiO2|Age|Gender|Unit1|Unit2|HospAdmTime|ICULOS|SepsisLabel\n"
        "NaN|NaN|NaN|NaN|NaN|NaN|NaN|NaN|NaN|71.2|0|NaN|NaN|-0.03|1|0\n"
        "97|95|NaN|98|75|NaN|19|NaN|NaN|71.2|0|NaN|NaN|-0.03|2|0\n"
    )

    rows = predicted("sepsis", tmp_path / "p000001.psv")

    assert [(row["patient_id"], row["hour"]) for row in rows] == [("p000001", "1"), ("p000001", "2")]


def heart(tmp_path: Path, *rows: str, header: str = CLINIC) -> list[dict[str, str]]:
    (tmp_path / "heart.csv").write_text("\n".join((header, *rows, "")), encoding="utf-8")
    return predicted("heart", tmp_path / "heart.csv")


def test_minus_nine_is_not_measured(tmp_path: Path) -> None:
    coded, empty = heart(tmp_path, "m9,63,1,4,145,-9,-9,2,150,0,-9,-9,-9,-9", "empty,63,1,4,145,,,2,150,0,,,,")

    assert coded["score"] == empty["score"] == "0.724290"


def test_cholesterol_in_another_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = "1,2,150,0,2.3,3,1,7"

    right, other, blank = heart(
        tmp_path, f"a,63,1,4,145,310,{rest}", f"b,63,1,4,145,8.0,{rest}", f"c,63,1,4,145,,{rest}"
    )

    assert (right["score"], other["score"], blank["score"]) == ("0.947741", "0.959857", "0.959857")
    assert "looks like mmol/L" in other["note"]
    assert "looks like mmol/L" in capsys.readouterr().err


def test_with_nothing_known_the_heart_model_abstains(tmp_path: Path) -> None:
    for row in heart(tmp_path, "nothing,,,,,,,,,,,,,", "thalach,,,,,,,,150,,,,,", "codes,300,2,9,145,,,,150,,,,,"):
        assert row["score"] == ""
        assert row["note"].startswith("abstains: age, sex, cp not known")


def test_an_empty_target_is_not_needed(tmp_path: Path) -> None:
    with_target = heart(tmp_path, "a,63,1,4,145,233,1,2,150,0,2.3,3,1,7,", header=f"{CLINIC},target")

    assert with_target == heart(tmp_path, "a,63,1,4,145,233,1,2,150,0,2.3,3,1,7")


def test_a_header_alone(tmp_path: Path) -> None:
    assert heart(tmp_path) == []


@pytest.mark.skipif(not CASES.is_dir(), reason="the recordings are not available")
class TestRecordings:
    def judged(self, name: str, tmp_path: Path, *, status: int) -> list[dict[str, str]]:
        data = tmp_path / "ecg.parquet"
        data.write_bytes((CASES / f"{name}.parquet").read_bytes())
        return predicted("rhythm", data, status=status)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("r02_float_volts_no_uv", "another unit"),
            ("r03_float_volts_uv1", "another unit"),
            ("r11_nulls_in_signal", "a sample is no number"),
            ("r19_fs_text", "column fs: '300 Hz' is no number"),
            ("r21_asystole_artifact_flat_then_beats", "flat line from 0 to 20 s"),
        ],
    )
    def test_what_cannot_be_judged_has_no_label_but_a_reason(self, tmp_path: Path, name: str, reason: str) -> None:
        (row,) = self.judged(name, tmp_path, status=1)

        assert row["label"] == row["score_N"] == row["score_noisy"] == ""
        assert row["note"].startswith("not judged: ")
        assert reason in row["note"]

    def test_a_missing_signal_does_not_keep_the_others_from_being_judged(self, tmp_path: Path) -> None:
        good, bad = self.judged("r04_null_signal", tmp_path, status=1)

        assert (good["label"], bad["label"], bad["note"]) == ("N", "", "not judged: column signal is empty")

    def test_22_minutes_of_fibrillation_but_for_the_middle(self, tmp_path: Path) -> None:
        whole, *parts = self.judged("r18_22min_AF_except_middle", tmp_path, status=0)

        assert (whole["label"], whole["to_s"], len(parts)) == ("A", "1320", 44)
