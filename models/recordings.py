"""Recorded patients to learn from and to judge by: files in the format of the published sets, read and checked.

Nothing here is torch, and nothing is of the edge: it is for those who train, evaluate and predict.
"""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.errors import BadRecordings
from models.heart_features import ATTRIBUTES
from vitals.signs import VitalSign

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

SEPSIS_SIGNS: Final = {
    VitalSign.HEART_RATE: "HR",
    VitalSign.SPO2: "O2Sat",
    VitalSign.TEMPERATURE: "Temp",
    VitalSign.RESPIRATORY_RATE: "Resp",
    VitalSign.SYSTOLIC_BP: "SBP",
    VitalSign.DIASTOLIC_BP: "DBP",
}
"""In the order of `sepsis_features.INPUTS`; what the columns of the set are called."""
ICU_SIGNS: Final = {
    "HR": VitalSign.HEART_RATE,
    "SaO2": VitalSign.SPO2,
    "Temp": VitalSign.TEMPERATURE,
    "RespRate": VitalSign.RESPIRATORY_RATE,
    "SysABP": VitalSign.SYSTOLIC_BP,
    "NISysABP": VitalSign.SYSTOLIC_BP,
    "DiasABP": VitalSign.DIASTOLIC_BP,
    "NIDiasABP": VitalSign.DIASTOLIC_BP,
}
"""What the parameters of PhysioNet/CinC 2012 are."""
_MOST_HOURS: Final = 1_000  # of a stay; these have 48
FILES: Final[Mapping[str, str]] = {
    "sepsis": "sepsis2019/setB_dev.parquet",
    "heart": "heart_uci/heart_dev.csv",
    "heart-home": "heart_uci/heart_dev.csv",
    "rhythm": "af2017/ecg_dev.parquet",
}
"""What each model learns from, within a folder of all sets."""
FOLDS: Final = 5


class Hours(NamedTuple):
    """Hourly rows of many patients, sorted by patient and hour."""

    patients: tuple[str, ...]  # ids, [P]
    starts: Ints  # first row of each, [P]
    ends: Ints  # [P]
    hours: Ints  # [N]
    values: Floats  # [N, 6], NaN: not measured
    ages: Floats  # [P], NaN: not known
    males: Floats  # [P], 0 or 1, NaN: not known
    labels: Ints | None  # [N]; None: nobody says
    columns: dict[str, Floats]  # what else was asked for, [N]


class HeartRows(NamedTuple):
    """Patients of the heart set."""

    row_ids: tuple[str, ...]
    patients: tuple[dict[str, float | None], ...]  # by attribute
    sites: tuple[str, ...]
    labels: Ints | None  # [N]


class EcgRecord(NamedTuple):
    """One single-lead recording."""

    record: str
    sampling_rate_hz: int
    millivolts: Floats
    label: str | None
    subject: str  # whose it is; where nobody says, each recording is somebody's


class RhythmSpan(NamedTuple):
    """A stretch of one recording in one rhythm, in samples; the end excluded."""

    start: int
    end: int
    rhythm: str


def read_hours(path: Path, *, also: tuple[str, ...] = ()) -> Hours:
    """Hourly vital signs, as in PhysioNet/CinC 2019.

    Args:
        also: further columns, which no model is shown.

    Raises:
        BadRecordings: no such file, not Parquet, a column missing, or hours that do not rise.
    """
    table = _parquet(path)
    needed = ("patient_id", "hour", *SEPSIS_SIGNS.values())
    _has(path, table.column_names, needed)
    ids = table["patient_id"].to_pylist()
    hours = _numbers(table, "hour").astype(np.int64)
    new = (
        np.array([True, *(one != other for one, other in zip(ids[1:], ids, strict=False))])
        if ids
        else np.zeros(0, bool)
    )
    starts = np.flatnonzero(new)
    ends = np.r_[starts[1:], len(ids)].astype(np.int64)
    if len(hours) and bool(((np.diff(hours) <= 0) & ~new[1:]).any()):
        raise BadRecordings(path, "hours of a patient have to rise from row to row; sort by patient_id and hour")
    patients = tuple(str(ids[start]) for start in starts)
    if len(set(patients)) != len(patients):
        raise BadRecordings(path, "rows of one patient have to stand together; sort by patient_id and hour")
    nothing = np.full(len(ids), math.nan)
    return Hours(
        patients,
        starts,
        ends,
        hours,
        np.stack([_numbers(table, name) for name in SEPSIS_SIGNS.values()], axis=1),
        (_numbers(table, "Age") if "Age" in table.column_names else nothing)[starts],
        (_numbers(table, "Gender") if "Gender" in table.column_names else nothing)[starts],
        _numbers(table, "SepsisLabel").astype(np.int64) if "SepsisLabel" in table.column_names else None,
        {name: _numbers(table, name) for name in also if name in table.column_names},
    )


def read_icu(folder: Path) -> Hours:
    """Hours of intensive care with the stay's end as label, as in PhysioNet/CinC 2012.

    Args:
        folder: with `patients_dev.parquet` and `series_dev.parquet`. Of several values in an hour the newest counts;
            the saturation is arterial, and rare.

    Raises:
        BadRecordings: no such file, not Parquet, or a column missing.
    """
    people, series = _parquet(folder / "patients_dev.parquet"), _parquet(folder / "series_dev.parquet")
    _has(folder / "patients_dev.parquet", people.column_names, ("record_id", "died_in_hospital", "Age", "Gender"))
    _has(folder / "series_dev.parquet", series.column_names, ("record_id", "minute", "parameter", "value"))
    series = series.filter(pc.is_in(series["parameter"], pa.array(list(ICU_SIGNS))))
    ids = np.unique(_numbers(people, "record_id").astype(np.int64))
    record = np.searchsorted(ids, _numbers(series, "record_id").astype(np.int64))
    minute = _numbers(series, "minute").astype(np.int64)
    signs = np.array([list(SEPSIS_SIGNS).index(ICU_SIGNS[one]) for one in series["parameter"].to_pylist()])
    in_time = np.lexsort((minute, record))
    place, row = np.unique((record * _MOST_HOURS + minute // 60)[in_time], return_inverse=True)
    values = np.full((len(place), len(SEPSIS_SIGNS)), math.nan)
    values[row, signs[in_time]] = _numbers(series, "value")[in_time]  # the last one stays
    starts = np.flatnonzero(np.diff(place // _MOST_HOURS, prepend=-1))
    ends = np.r_[starts[1:], len(place)].astype(np.int64)
    order = np.argsort(_numbers(people, "record_id"))[place[starts] // _MOST_HOURS]
    died = _numbers(people, "died_in_hospital").astype(np.int64)[order]
    return Hours(
        tuple(str(one) for one in ids[place[starts] // _MOST_HOURS]),
        starts,
        ends,
        place % _MOST_HOURS,
        values,
        _known(people, "Age")[order],
        _known(people, "Gender")[order],
        np.repeat(died, ends - starts),
        {},
    )


def _known(table: pa.Table, name: str) -> Floats:
    values = _numbers(table, name)
    return np.where(values < 0, math.nan, values)


def read_heart(path: Path) -> HeartRows:
    """Attributes as in the UCI heart disease set, CSV. An empty cell is missing.

    Raises:
        BadRecordings: no such file, a column missing, or a cell that is no number; the row is named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise BadRecordings(path, f"cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadRecordings(path, f"is no CSV ({error})") from error
    names = [one.name for one in ATTRIBUTES]
    _has(path, list(rows[0]) if rows else [], ("row_id", *names))
    return HeartRows(
        tuple(row["row_id"] for row in rows),
        tuple({name: _cell(path, at, name, row[name]) for name in names} for at, row in enumerate(rows, start=2)),
        tuple(row.get("site", "") for row in rows),
        np.array([int(row["target"]) for row in rows], np.int64) if rows and "target" in rows[0] else None,
    )


def read_ecg(path: Path) -> Iterator[EcgRecord]:
    """Single-lead recordings one by one, as in PhysioNet/CinC 2017 or MIT-BIH.

    Raises:
        BadRecordings: no such file, not Parquet, or a column missing.
    """
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise BadRecordings(path, "there is no such file") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise BadRecordings(path, f"is no Parquet file ({error})") from error
    with file:
        _has(path, file.schema_arrow.names, ("record", "fs", "signal"))
        for batch in file.iter_batches(batch_size=64):
            columns = {name: batch.column(name) for name in batch.schema.names}
            for at in range(batch.num_rows):
                yield _ecg(columns, at)


def read_rhythms(path: Path) -> dict[str, tuple[RhythmSpan, ...]]:
    """Who was in which rhythm when, as in MIT-BIH, by recording.

    Raises:
        BadRecordings: no such file, not Parquet, or a column missing.
    """
    table = _parquet(path)
    _has(path, table.column_names, ("record", "start", "end", "rhythm"))
    found: dict[str, list[RhythmSpan]] = {}
    columns = (table[name].to_pylist() for name in ("record", "start", "end", "rhythm"))
    for record, start, end, rhythm in zip(*columns, strict=True):
        found.setdefault(str(record), []).append(RhythmSpan(int(start), int(end), str(rhythm)))
    return {record: tuple(spans) for record, spans in found.items()}


def file_of(task: str, data: Path) -> Path:
    """The file that a model learns from, wherever it lies; or its place in a folder of all sets.

    Raises:
        BadRecordings: there is no such model.
    """
    if task not in FILES:
        raise BadRecordings(data, f"no model is called {task!r}; known are {', '.join(FILES)}")
    return data / FILES[task] if data.is_dir() else data


def folds_of(groups: Ints, *, seed: int, count: int = FOLDS) -> Ints:
    """A fold for each row, [N]: what belongs to one group stays together, each group evenly over the folds.

    Args:
        groups: what is to be spread evenly, the label as a rule, [N].
    """
    rng = np.random.default_rng(seed)
    folds = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        here = rng.permutation(np.flatnonzero(groups == group))
        folds[here] = (np.arange(len(here)) + group) % count
    return folds


def _ecg(columns: dict[str, Any], at: int) -> EcgRecord:
    steps = np.asarray(columns["signal"][at].values.to_numpy(zero_copy_only=False), np.float64)
    if "adc_per_mv" in columns:
        millivolts = (steps - columns["adc_zero"][at].as_py()) / columns["adc_per_mv"][at].as_py()
    else:
        millivolts = steps * (columns["uv_per_step"][at].as_py() if "uv_per_step" in columns else 5) / 1_000
    return EcgRecord(
        str(columns["record"][at].as_py()),
        int(columns["fs"][at].as_py()),
        millivolts,
        str(columns["label"][at].as_py()) if "label" in columns else None,
        str(columns["subject" if "subject" in columns else "record"][at].as_py()),
    )


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise BadRecordings(path, "there is no such file") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise BadRecordings(path, f"is no Parquet file ({error})") from error


def _numbers(table: pa.Table, name: str) -> Floats:
    return table[name].cast(pa.float64()).fill_null(math.nan).to_numpy()  # type: ignore[no-any-return]


def _has(path: Path, names: list[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        raise BadRecordings(path, f"has no column {', '.join(missing)}")


def _cell(path: Path, line: int, name: str, text: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise BadRecordings(path, f"line {line}, {name}: {text[:20]!r} is no number") from None
