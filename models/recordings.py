"""Readers of recorded patients for training, evaluation and prediction, in the formats of the published data sets.

Independent of torch, and not used by the edge.
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
"""Column names of PhysioNet/CinC 2019, in the order of `sepsis_features.INPUTS`."""
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
"""Signs by parameter name of PhysioNet/CinC 2012."""
_MAX_HOURS: Final = 1_000  # more than any stay has; those of 2012 have 48
FILES: Final[Mapping[str, str]] = {
    "sepsis": "sepsis2019/setB_dev.parquet",
    "heart": "heart_uci/heart_dev.csv",
    "heart-home": "heart_uci/heart_dev.csv",
    "rhythm": "af2017/ecg_dev.parquet",
}
"""Training file of each model, within the folder that holds all data sets."""
FOLDS: Final = 5


class Hours(NamedTuple):
    """Hourly rows of many patients, sorted by patient and hour."""

    patients: tuple[str, ...]  # ids, [P]
    starts: Ints  # first row of each patient, [P]
    ends: Ints  # [P]
    hours: Ints  # [N]
    values: Floats  # [N, 6], NaN: not measured
    ages: Floats  # years, [P], NaN: unknown
    males: Floats  # [P], 0 or 1, NaN: unknown
    labels: Ints | None  # [N]; None: not in the file
    columns: dict[str, Floats]  # additionally requested columns, [N]


class HeartRows(NamedTuple):
    """Patients of the UCI heart disease data set."""

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
    subject: str  # the person; if the file does not say, each recording counts as one person


class RhythmSpan(NamedTuple):
    """A stretch of one recording in one rhythm, in samples; the end excluded."""

    start: int
    end: int
    rhythm: str


def read_hours(path: Path, *, also: tuple[str, ...] = ()) -> Hours:
    """Hourly vital signs, as in PhysioNet/CinC 2019.

    Args:
        also: further columns to read; they are not model inputs.

    Raises:
        BadRecordings: no such file, not Parquet, a missing column, or hours that do not increase.
    """
    table = _parquet(path)
    needed = ("patient_id", "hour", *SEPSIS_SIGNS.values())
    _require_columns(path, table.column_names, needed)
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
        raise BadRecordings(path, "the hours of a patient must increase from row to row; sort by patient_id and hour")
    patients = tuple(str(ids[start]) for start in starts)
    if len(set(patients)) != len(patients):
        raise BadRecordings(path, "the rows of a patient must be contiguous; sort by patient_id and hour")
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
    """Hours of intensive care with death in hospital as label, as in PhysioNet/CinC 2012.

    Of several values of a sign in an hour the newest counts. Oxygen saturation is arterial (SaO2) and rarely measured.

    Args:
        folder: holds `patients_dev.parquet` and `series_dev.parquet`.

    Raises:
        BadRecordings: no such file, not Parquet, or a missing column.
    """
    people, series = _parquet(folder / "patients_dev.parquet"), _parquet(folder / "series_dev.parquet")
    _require_columns(
        folder / "patients_dev.parquet", people.column_names, ("record_id", "died_in_hospital", "Age", "Gender")
    )
    _require_columns(folder / "series_dev.parquet", series.column_names, ("record_id", "minute", "parameter", "value"))
    series = series.filter(pc.is_in(series["parameter"], pa.array(list(ICU_SIGNS))))
    ids = np.unique(_numbers(people, "record_id").astype(np.int64))
    record = np.searchsorted(ids, _numbers(series, "record_id").astype(np.int64))
    minute = _numbers(series, "minute").astype(np.int64)
    signs = np.array([list(SEPSIS_SIGNS).index(ICU_SIGNS[one]) for one in series["parameter"].to_pylist()])
    in_time = np.lexsort((minute, record))
    place, row = np.unique((record * _MAX_HOURS + minute // 60)[in_time], return_inverse=True)
    values = np.full((len(place), len(SEPSIS_SIGNS)), math.nan)
    values[row, signs[in_time]] = _numbers(series, "value")[in_time]  # a later value overwrites an earlier one
    starts = np.flatnonzero(np.diff(place // _MAX_HOURS, prepend=-1))
    ends = np.r_[starts[1:], len(place)].astype(np.int64)
    order = np.argsort(_numbers(people, "record_id"))[place[starts] // _MAX_HOURS]
    died = _numbers(people, "died_in_hospital").astype(np.int64)[order]
    return Hours(
        tuple(str(one) for one in ids[place[starts] // _MAX_HOURS]),
        starts,
        ends,
        place % _MAX_HOURS,
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
    """Patients' attributes from CSV, as in the UCI heart disease data set. An empty cell means a missing value.

    Raises:
        BadRecordings: no such file, a missing column, or a cell that is not a number; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise BadRecordings(path, f"cannot read the file ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadRecordings(path, f"not a CSV file in UTF-8 ({error})") from error
    names = [one.name for one in ATTRIBUTES]
    _require_columns(path, list(rows[0]) if rows else [], ("row_id", *names))
    return HeartRows(
        tuple(row["row_id"] for row in rows),
        tuple({name: _cell(path, at, name, row[name]) for name in names} for at, row in enumerate(rows, start=2)),
        tuple(row.get("site", "") for row in rows),
        np.array([int(row["target"]) for row in rows], np.int64) if rows and "target" in rows[0] else None,
    )


def read_ecg(path: Path) -> Iterator[EcgRecord]:
    """Single-lead recordings, one at a time, as in PhysioNet/CinC 2017 or MIT-BIH.

    Raises:
        BadRecordings: no such file, not Parquet, or a missing column.
    """
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise BadRecordings(path, "no such file") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise BadRecordings(path, f"not a Parquet file ({error})") from error
    with file:
        _require_columns(path, file.schema_arrow.names, ("record", "fs", "signal"))
        for batch in file.iter_batches(batch_size=64):
            columns = {name: batch.column(name) for name in batch.schema.names}
            for at in range(batch.num_rows):
                yield _ecg(columns, at)


def read_rhythms(path: Path) -> dict[str, tuple[RhythmSpan, ...]]:
    """Annotated rhythm spans by recording, as in MIT-BIH.

    Raises:
        BadRecordings: no such file, not Parquet, or a missing column.
    """
    table = _parquet(path)
    _require_columns(path, table.column_names, ("record", "start", "end", "rhythm"))
    found: dict[str, list[RhythmSpan]] = {}
    columns = (table[name].to_pylist() for name in ("record", "start", "end", "rhythm"))
    for record, start, end, rhythm in zip(*columns, strict=True):
        found.setdefault(str(record), []).append(RhythmSpan(int(start), int(end), str(rhythm)))
    return {record: tuple(spans) for record, spans in found.items()}


def file_of(task: str, data: Path) -> Path:
    """The data file of a model: `data` itself, or its usual place if `data` is the folder of all data sets.

    Raises:
        BadRecordings: there is no such model.
    """
    if task not in FILES:
        raise BadRecordings(data, f"there is no model {task!r}; use {', '.join(FILES)}")
    return data / FILES[task] if data.is_dir() else data


def folds_of(groups: Ints, *, seed: int, count: int = FOLDS) -> Ints:
    """A random fold for each row, [N], stratified: every group is spread evenly over the folds.

    Args:
        groups: group of each row, usually its label, [N].

    >>> folds = folds_of(np.array([0] * 10 + [1] * 5), seed=0)
    >>> np.bincount(folds).tolist(), np.bincount(folds[10:]).tolist()
    ([3, 3, 3, 3, 3], [1, 1, 1, 1, 1])
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
        raise BadRecordings(path, "no such file") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise BadRecordings(path, f"not a Parquet file ({error})") from error


def _numbers(table: pa.Table, name: str) -> Floats:
    return table[name].cast(pa.float64()).fill_null(math.nan).to_numpy()  # type: ignore[no-any-return]


def _require_columns(path: Path, names: list[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        raise BadRecordings(path, f"missing column: {', '.join(missing)}")


def _cell(path: Path, line: int, name: str, text: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise BadRecordings(path, f"line {line}, column {name}: {text[:20]!r} is not a number") from None
