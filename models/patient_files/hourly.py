"""Hourly rows of many patients, as in PhysioNet/CinC 2019: one table or one file a patient, in any order of rows.

Rows of the same patient and hour are one hour, in which the newest value of each sign counts: the file's later row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import BadRecordings
from models.patient_files.columns import Cell, CellOutcome, Column, age, contradict, of_sign, sex
from models.patient_files.report import FileReport
from models.patient_files.table import PatientTable, is_parquet, parquet_names
from models.patient_files.text import TextRows, column_name
from models.suitability import too_young
from vitals.signs import VitalSign

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

ID: Final = "patient_id"
HOUR: Final = Column(name="hour", unit="h", low=-10_000_000, high=10_000_000, whole=True, missing=())
_ORIGINAL_HOUR: Final = msgspec.structs.replace(HOUR, name="ICULOS")
"""In the files of the challenge, one a patient, the hour of the stay; the file's name is the patient."""

SIGNS: Final[Mapping[VitalSign, Column]] = {
    VitalSign.HEART_RATE: of_sign("HR", VitalSign.HEART_RATE),
    VitalSign.SPO2: of_sign("O2Sat", VitalSign.SPO2),
    VitalSign.TEMPERATURE: of_sign("Temp", VitalSign.TEMPERATURE),
    VitalSign.RESPIRATORY_RATE: of_sign("Resp", VitalSign.RESPIRATORY_RATE),
    VitalSign.SYSTOLIC_BP: of_sign("SBP", VitalSign.SYSTOLIC_BP),
    VitalSign.DIASTOLIC_BP: of_sign("DBP", VitalSign.DIASTOLIC_BP),
}
"""Columns of the vital signs, in the order of `sepsis_features.INPUTS`."""
AGE: Final = age("Age")
SEX: Final = sex("Gender")
ABOUT: Final = (AGE, SEX)
_YEARS_OF_A_STAY: Final = 1.0  # so much older may a patient become


class HourlyRows(NamedTuple):
    """The rows that have a patient and an hour, sorted by patient, in order of appearance, and by hour."""

    table: PatientTable
    patients: tuple[str, ...]  # ids, [P]
    patient: Ints  # of each row, an index into `patients`, [N]
    hours: Ints  # [N]

    def of(self, patients: Sequence[int]) -> "HourlyRows":
        """The rows of some patients, in the order of the file."""
        rows = np.flatnonzero(np.isin(self.patient, patients))
        return self._replace(table=self.table.take(rows), patient=self.patient[rows], hours=self.hours[rows])

    def place(self, at: int) -> str:
        """Where a row is, for people."""
        return f"patient {self.patients[self.patient[at]]}, hour {self.hours[at]}"


def open_hourly(path: Path, needed: Sequence[str], optional: Sequence[str], report: FileReport) -> HourlyRows:
    """Open hourly rows. Rows without a patient or an hour are skipped and named in `report`.

    Args:
        needed: columns beside patient and hour.

    Raises:
        BadRecordings: no such file, neither Parquet nor CSV, a needed column is missing, or a column is there twice.
    """
    names = {column_name(name) for name in _names(path)}
    if ID not in names and column_name(_ORIGINAL_HOUR.name) in names:
        return _sorted(
            PatientTable.open(path, (_ORIGINAL_HOUR.name, *needed), optional, report), report, _ORIGINAL_HOUR
        )
    return _sorted(PatientTable.open(path, (ID, HOUR.name, *needed), optional, report), report, HOUR)


def read_about(rows: HourlyRows, column: Column, report: FileReport) -> Floats:
    """A fact about each patient, [P]: its first known value; NaN if none is known or two values contradict another.

    Two codes do, and two ages that no stay lies between. An age of a child among them is kept: no model is for it.
    """
    found = np.full(len(rows.patients), np.nan)
    if column.name not in rows.table:
        return found
    values = rows.table.read(column, report, place=rows.place)
    known = np.flatnonzero(~np.isnan(values))
    patients, first = np.unique(rows.patient[known], return_index=True)
    found[patients] = values[known][first]
    apart = np.abs(values[known] - found[rows.patient[known]])
    for patient in np.unique(rows.patient[known][apart > (0 if column.codes else _YEARS_OF_A_STAY)]):
        of_patient = values[known][rows.patient[known] == patient]
        is_child = column is AGE and too_young(float(of_patient.min())) is not None
        read_as = f"read as {of_patient.min():g}" if is_child else "read as not known"
        report.warn(
            f"patient {rows.patients[patient]}", f"column {column.name} has two values for the same patient, {read_as}"
        )
        found[patient] = of_patient.min() if is_child else np.nan
    return found


def drop_contradictory(rows: HourlyRows, systolic: Floats, diastolic: Floats, report: FileReport) -> None:
    """Make pressures of a row missing that cannot both be right, as at the bedside; reported."""
    problem = "not above DBP; one of the two is wrong, neither is used"
    for at in np.flatnonzero(~np.isnan(systolic) & ~np.isnan(diastolic) & (systolic <= diastolic)):
        if contradict(systolic[at], diastolic[at]):
            shown = f"{systolic[at]:g}/{diastolic[at]:g}"
            report.add_values("SBP", -1)  # counted as taken before
            report.add_cell("SBP", Cell(None, CellOutcome.REFUSED, problem), rows.place(int(at)), shown)
            systolic[at] = diastolic[at] = np.nan


def merge_hours(
    rows: HourlyRows, values: Floats, report: FileReport, *, pressures: tuple[int, int]
) -> tuple[Ints, Floats]:
    """One row for each patient and hour: the kept rows as indices, [M], and the values with later rows' added, [M, S].

    Pressures of several rows that contradict each other are not used, like those of one row.

    Args:
        values: [N, S]; NaN: not measured.
        pressures: places of the systolic and the diastolic one.
    """
    again = np.zeros(len(rows.hours), bool)
    again[1:] = (np.diff(rows.hours) == 0) & (np.diff(rows.patient) == 0)
    if not again.any():
        return np.arange(len(again)), values
    merged = values.copy()
    first = 0
    for at in range(len(again)):
        if not again[at]:
            first = at
            continue
        report.merged += 1
        report.warn(rows.table.row_place(at), "the same patient and hour as an earlier row; the later value counts")
        newer = ~np.isnan(values[at])
        merged[first, newer] = values[at, newer]
    systolic, diastolic = pressures
    drop_contradictory(rows, merged[:, systolic], merged[:, diastolic], report)
    kept = np.flatnonzero(~again)
    return kept, merged[kept]


def _names(path: Path) -> list[str]:
    if is_parquet(path):
        return parquet_names(path)
    with TextRows(path, (ID, HOUR.name, *(column.name for column in SIGNS.values()))) as rows:
        return rows.header


def _sorted(table: PatientTable, report: FileReport, column: Column) -> HourlyRows:
    hours = table.read(column, FileReport(""))  # what cannot be read is named with its row below
    if column is _ORIGINAL_HOUR:
        ids = [table.path.stem]
        patient = np.zeros(len(table), np.int64)
    else:
        patient, ids = table.ids(ID)
    report.records += len(table)
    for at in np.flatnonzero(patient < 0):
        report.skip(table.row_place(int(at)), f"column {ID} is empty; give every row its patient")
    for at in np.flatnonzero((patient >= 0) & np.isnan(hours)):
        reason = f"column {column.name} is no whole number of hours; give one"
        report.skip(f"{table.row_place(int(at))}, patient {ids[patient[at]]}", reason)
    good = np.flatnonzero((patient >= 0) & ~np.isnan(hours))
    step = np.diff(patient[good])
    is_sorted = bool(((step > 0) | ((step == 0) & (np.diff(hours[good]) >= 0))).all())
    rows = good if is_sorted else good[np.lexsort((hours[good], patient[good]))]
    if column is _ORIGINAL_HOUR and len(np.unique(hours[good])) < len(good):
        problem = f"column {column.name} has an hour twice, as if several patients stood in one file; add a column {ID}"
        raise BadRecordings(table.path, problem)
    if not is_sorted or len(rows) < len(table):
        table = table.take(rows)
    present, patient = np.unique(patient[rows], return_inverse=True)
    return HourlyRows(table, tuple(ids[one] for one in present), patient.astype(np.int64), hours[rows].astype(np.int64))
