"""Readers of recorded patients for training, evaluation and prediction, in the formats of the published data sets.

Independent of torch, and not used by the edge.
"""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.errors import BadRecordings
from models.heart_features import ATTRIBUTES, Attribute
from models.patient_files.columns import Column, OtherUnit, choice, number, sex
from models.patient_files.hourly import AGE, SEX, SIGNS, drop_contradictory, merge_hours, open_hourly, read_about
from models.patient_files.report import FileReport
from models.patient_files.table import PatientTable
from vitals.signs import VitalSign

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

SEPSIS_SIGNS: Final = {sign: column.name for sign, column in SIGNS.items()}
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


_LABEL: Final = "SepsisLabel"


def _column(one: Attribute) -> Column:
    if one.name == "sex":
        return sex(one.name)
    if one.codes:
        return choice(one.name, one.unit, one.codes)
    # In the data set a 0 means that pressure, cholesterol or heart rate were not measured.
    return number(one.name, one.unit, *one.plausible, missing=(0,) if one.plausible[0] > 0 else ())


HEART_COLUMNS: Final = tuple(_column(one) for one in ATTRIBUTES)
"""The columns of the heart models' attributes."""


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
    places: tuple[str, ...]  # of the rows, as a report names them


class RhythmSpan(NamedTuple):
    """A stretch of one recording in one rhythm, in samples; the end excluded."""

    start: int
    end: int
    rhythm: str


def read_hours(
    path: Path,
    *,
    also: tuple[str, ...] = (),
    report: FileReport | None = None,
    units: Mapping[str, OtherUnit] | None = None,
) -> Hours:
    """Hourly vital signs, as in PhysioNet/CinC 2019: Parquet or CSV, in any order of rows.

    Args:
        also: further columns to read; they are not model inputs.
        report: what was converted, refused and left out.
        units: units of columns as the user says them.

    Raises:
        BadRecordings: no such file, neither Parquet nor CSV, a missing column, or a column that is there twice.
    """
    report = FileReport(path.name) if report is None else report
    units = units or {}
    rows = open_hourly(path, tuple(SEPSIS_SIGNS.values()), (AGE.name, SEX.name, _LABEL, *also), report)
    read = [rows.table.read(column, report, place=rows.place, unit=units.get(column.name)) for column in SIGNS.values()]
    signs = list(SIGNS)
    systolic, diastolic = signs.index(VitalSign.SYSTOLIC_BP), signs.index(VitalSign.DIASTOLIC_BP)
    drop_contradictory(rows, read[systolic], read[diastolic], report)
    kept, values = merge_hours(rows, np.stack(read, axis=1), report, pressures=(systolic, diastolic))
    patient = rows.patient[kept]
    starts = np.flatnonzero(np.diff(patient, prepend=-1))
    return Hours(
        rows.patients,
        starts,
        np.r_[starts[1:], len(kept)].astype(np.int64)[: len(starts)],
        rows.hours[kept],
        values,
        read_about(rows, AGE, report),
        read_about(rows, SEX, report),
        np.nan_to_num(rows.table.raw(_LABEL)[kept]).astype(np.int64) if _LABEL in rows.table else None,
        {name: rows.table.raw(name)[kept] for name in also if name in rows.table},
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


def read_heart(
    path: Path, *, report: FileReport | None = None, units: Mapping[str, OtherUnit] | None = None
) -> HeartRows:
    """Patients' attributes, as in the UCI heart disease data set: CSV or Parquet. An empty cell means a missing value.

    Args:
        report: what was converted, refused and left out.
        units: units of columns as the user says them.

    Raises:
        BadRecordings: no such file, neither Parquet nor CSV, a missing column, or a column that is there twice.
    """
    report = FileReport(path.name) if report is None else report
    units = units or {}
    table = PatientTable.open(path, ("row_id", *(one.name for one in ATTRIBUTES)), ("site", "target"), report)
    row_ids = [row_id or f"row {table.rows[at]}" for at, row_id in enumerate(table.texts("row_id"))]
    places = tuple(f"row {row}, row_id {row_id}" for row, row_id in zip(table.rows, row_ids, strict=True))
    report.records += len(table)
    for row_id, count in Counter(row_ids).items():
        if count > 1:
            report.warn(f"row_id {row_id}", f"the same row_id {count} times; every row is judged by itself")
    columns = {
        column.name: table.read(_as_coded(table, column), report, place=places.__getitem__, unit=units.get(column.name))
        for column in HEART_COLUMNS
    }
    patients = tuple(
        {name: None if math.isnan(values[at]) else float(values[at]) for name, values in columns.items()}
        for at in range(len(table))
    )
    targets = table.raw("target") if "target" in table else np.full(len(table), math.nan)
    return HeartRows(
        tuple(row_ids),
        patients,
        tuple(table.texts("site")) if "site" in table else ("",) * len(table),
        None if np.isnan(targets).any() or "target" not in table else targets.astype(np.int64),
        places,
    )


def _as_coded(table: PatientTable, column: Column) -> Column:
    """The column, or one that takes nothing, if the file has a copy's codes: the same digit means another thing."""
    copies = _CODES_OF_COPIES.get(column.name, set())
    ours = set(column.codes.values())
    found = {float(value) for value in np.unique(table.raw(column.name))}
    if not found & (copies - ours) or found & (ours - copies):
        return column
    strange = ", ".join(f"{code:g}" for code in sorted(found & (copies - ours)))
    said = f"{column.range_text}; the file has {strange} too, as copies of the data set with other codes"
    return msgspec.structs.replace(column, codes={"(none)": math.nan}, allowed=said)


_CODES_OF_COPIES: Final[Mapping[str, set[float]]] = {"cp": {0, 1, 2, 3}, "slope": {0, 1, 2}, "thal": {0, 1, 2, 3}}
"""Codes that copies of the data set have, elsewhere called `heart.csv`, whose columns are called the same."""


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
