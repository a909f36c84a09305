"""Readers of recordings: minutes become hours, the newest value of an hour counts, unknown values stay unknown."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import BadRecordings
from models.recordings import SEPSIS_SIGNS, file_of, read_icu, read_rhythms
from tests.models.made_up import icu
from vitals.signs import VitalSign

SIGNS = list(SEPSIS_SIGNS)


def written(folder: Path, observed: list[tuple[int, int, str, float]], *, people: dict[str, list[float]]) -> Path:
    folder.mkdir()
    pq.write_table(pa.table(people), folder / "patients_dev.parquet")
    columns = dict(
        zip(("record_id", "minute", "parameter", "value"), map(list, zip(*observed, strict=True)), strict=True)
    )
    pq.write_table(pa.table(columns), folder / "series_dev.parquet")
    return folder


def test_the_newest_value_of_an_hour_counts_in_any_order_of_rows(tmp_path: Path) -> None:
    people = {"record_id": [9.0, 5.0], "died_in_hospital": [1, 0], "Age": [70.0, -1.0], "Gender": [0.0, 1.0]}
    observed = [
        (9, 59, "HR", 91.0),
        (5, 125, "Temp", 38.2),
        (9, 3, "HR", 80.0),
        (5, 130, "Lactate", 4.0),
        (5, 2, "HR", 60.0),
        (9, 61, "NISysABP", 118.0),
        (9, 90, "SysABP", 122.0),
    ]

    hours = read_icu(written(tmp_path / "icu", observed, people=people))

    assert hours.patients == ("5", "9")
    assert hours.hours.tolist() == [0, 2, 0, 1]
    assert (hours.starts.tolist(), hours.ends.tolist()) == ([0, 2], [2, 4])
    assert hours.values[2, SIGNS.index(VitalSign.HEART_RATE)] == 91.0
    assert hours.values[3, SIGNS.index(VitalSign.SYSTOLIC_BP)] == 122.0
    assert np.isnan(hours.values[0, SIGNS.index(VitalSign.TEMPERATURE)])
    assert hours.labels is not None
    assert hours.labels.tolist() == [0, 0, 1, 1]
    assert np.isnan(hours.ages[0])
    assert (hours.ages[1], hours.males.tolist()) == (70.0, [1.0, 0.0])


def test_synthetic_stays_are_read_completely(tmp_path: Path) -> None:
    hours = read_icu(icu(tmp_path / "icu"))

    assert len(hours.patients) == 24
    assert hours.labels is not None
    assert hours.labels[hours.starts].sum() == 6
    assert len(hours.hours) == hours.ends[-1]
    assert hours.hours.max() == 47


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRecordings, match=r"patients_dev\.parquet"):
        read_icu(tmp_path)
    with pytest.raises(BadRecordings, match=r"rhythms_dev\.parquet"):
        read_rhythms(tmp_path / "rhythms_dev.parquet")


def test_an_unknown_task_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadRecordings, match="sepsis, heart, heart-home, rhythm"):
        file_of("horoscope", tmp_path)

    assert file_of("sepsis", tmp_path) == tmp_path / "sepsis2019" / "setB_dev.parquet"
    assert file_of("sepsis", tmp_path / "own.parquet") == tmp_path / "own.parquet"
