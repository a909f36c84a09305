"""Scores for a spreadsheet of vital signs: reads CSV and writes the same CSV with scores added, one row at a time.

The columns are described in docs/scores.md. A cell that cannot be used counts as not measured, like an unusable value
at the bedside: the row says which one and why, and its score is a lower bound. An empty cell means that the sign was
not measured.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from csv import writer as csv_writer
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import msgspec

from models.errors import BadPatientFile
from models.patient_files.columns import (
    DECIMAL,
    YES_NO,
    Cell,
    CellOutcome,
    Column,
    OtherUnit,
    age,
    choice,
    consciousness,
    contradict,
    of_sign,
    units_of,
)
from models.patient_files.output import is_same, new_file
from models.patient_files.report import FileReport, shorten
from models.patient_files.text import TextRow, TextRows, column_name, looks_like, positions_of
from models.suitability import too_young
from vitals import news2, scores
from vitals.patient_group import ADULT_FROM_YEARS
from vitals.signs import VitalSign

_UNKNOWN: Final = "unknown"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a scored file."""

    rows: int  # scored
    incomplete: int  # of these, rows without a NEWS2 total
    empty: int  # rows without any content, left out
    by_risk: dict[str, int]  # by the text in the column `news2_risk`; "unknown" where that is empty
    not_adult: int = 0  # rows without scores: under 16 years, or pregnant
    skipped: int = 0  # rows that could not be read
    told: tuple[str, ...] = ()  # what was converted, refused and left out, in words
    file: dict[str, Any] = {}  # the same for programs, see `FileReport.as_dict`

    @property
    def text(self) -> str:
        """The summary in words: totals on the first line, then what was converted, refused and left out."""
        risks = ", ".join(f"{risk} {count}" for risk, count in self.by_risk.items())
        left_out = f"; {self.empty} empty rows left out" if self.empty else ""
        not_adult = f"; {_rows(self.not_adult)} of patients under 16 or pregnant not scored" if self.not_adult else ""
        skipped = f"; {_rows(self.skipped)} left out" if self.skipped else ""
        totals = f"{_rows(self.rows)} scored, {self.incomplete} of them incomplete; NEWS2 risk: {risks}"
        return "\n".join((f"{totals}{left_out}{not_adult}{skipped}", *(f"  {line}" for line in self.told)))

    def as_json(self) -> str:
        """One line."""
        totals = {name: getattr(self, name) for name in ("rows", "incomplete", "empty", "by_risk", "not_adult")}
        return json.dumps({**totals, "skipped": self.skipped, **self.file}, ensure_ascii=False)


_SCALE: Final = msgspec.structs.replace(choice("spo2_scale", "", (1, 2)), allowed="1 or 2 (only if prescribed)")
_SIGNS: Final = (
    of_sign("respiratory_rate", VitalSign.RESPIRATORY_RATE),
    of_sign("spo2", VitalSign.SPO2),
    # 1 does not tell the flow; for the score any flow counts as oxygen.
    msgspec.structs.replace(
        choice("supplemental_oxygen", "", (0, 1)),
        sign=VitalSign.SUPPLEMENTAL_OXYGEN,
        allowed="0 (air) or 1 (oxygen)",
    ),
    of_sign("systolic_bp", VitalSign.SYSTOLIC_BP),
    of_sign("heart_rate", VitalSign.HEART_RATE),
    consciousness("consciousness"),
    of_sign("temperature", VitalSign.TEMPERATURE),
)
_DIASTOLIC: Final = of_sign("diastolic_bp", VitalSign.DIASTOLIC_BP)
_AGE: Final = age("age", low=0)
_PREGNANT: Final = choice("pregnant", "1 or yes, 0 or no", (0, 1), YES_NO)
_OPTIONAL: Final = (_DIASTOLIC, _AGE, _PREGNANT)

COLUMNS: Final = (
    "respiratory_rate",
    "spo2",
    "spo2_scale",
    "supplemental_oxygen",
    "systolic_bp",
    "heart_rate",
    "consciousness",
    "temperature",
)
"""The columns that a file must have, in any order; other columns are allowed."""

RESULTS: Final = (
    "news2",
    "news2_at_least",
    "news2_missing",
    "news2_risk",
    "qsofa",
    "sirs",
    "mews",
    "shock_index",
    "news2_note",
)
"""The columns that are added on the right."""


def score_file(source: Path, out: TextIO, *, units: Sequence[str] = ()) -> Summary:
    """Write `source` to `out` with `RESULTS` added. Delimiter, line ends and byte-order mark are kept.

    Args:
        units: units of columns as the user says them, such as `temperature=°F`.

    Raises:
        BadPatientFile: the file is no CSV, or its header is invalid.
        BadUnit: a unit is not known.
        FileRefused: the file cannot be opened.
    """
    said = units_of(units, (*_SIGNS, *_OPTIONAL))
    with TextRows(source, COLUMNS) as rows:
        _check_header(rows.header, source.name)
        return _SpreadsheetScoring(rows, source.name, said).run(out)


def main(file: Path, out: Path | None, *, units: Sequence[str] = (), as_json: bool = False) -> int:
    """Run `vitalloom score` and return its exit code. An output file appears only when it is complete.

    Raises:
        BadPatientFile, BadUnit, FileRefused: as `score_file`.
    """
    if as_json and out is None:
        raise BadPatientFile(file.name, "--json needs --out, because the scored rows are printed otherwise")
    try:
        summary = _to_terminal(file, units) if out is None else _to_file(file, out, units)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe. Without this Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    sys.stderr.write(f"{summary.text}\n")
    if as_json:
        sys.stdout.write(f"{summary.as_json()}\n")
    return 1 if summary.skipped else 0


def _to_terminal(file: Path, units: Sequence[str]) -> Summary:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    summary = score_file(file, sys.stdout, units=units)
    sys.stdout.flush()
    return summary


def _to_file(file: Path, out: Path, units: Sequence[str]) -> Summary:
    with new_file(out) as stream:
        summary = score_file(file, stream, units=units)
        if summary.skipped and is_same(file, out):  # the result does not hold these rows
            told = "; ".join(summary.told)
            problem = (
                f"{summary.skipped} rows cannot be read and would be lost; give --out another name, or mend: {told}"
            )
            raise BadPatientFile(file.name, problem)
    return summary


class _Patient(NamedTuple):
    """What one row says."""

    values: dict[VitalSign, tuple[float, int]]  # each with age 0: a row is one moment
    scale: int
    notes: list[str]  # why values were left out or converted
    not_adult: str  # why no score is for this patient; empty: it is


class _SpreadsheetScoring:
    """Scores the rows of one file."""

    def __init__(self, rows: TextRows, source: str, units: Mapping[str, OtherUnit]) -> None:
        self._rows = rows
        self._units = units
        self._report = FileReport(source)
        self._report.used = self._report.unreadable = "not scored"
        self._places = positions_of(rows.header, [*COLUMNS, *(column.name for column in _OPTIONAL)], source)
        # A European spreadsheet program reads 0.85 as text and 1.12 as a date: decimals have the file's own mark.
        self._may_use_comma = rows.delimiter != ","
        self._mark = "," if rows.delimiter == ";" else "."
        self._incomplete = self._empty = self._not_adult = self._scored = 0
        self._by_risk: Counter[str] = Counter({risk.value: 0 for risk in news2.Risk})

    def run(self, out: TextIO) -> Summary:
        rows, report = self._rows, self._report
        writer = csv_writer(out, delimiter=rows.delimiter, lineterminator=rows.line_end)
        out.write(rows.bom)
        writer.writerow([*rows.header, *RESULTS])
        for row in rows:
            if row.problem:
                report.records += 1
                report.skip(f"row {row.number}", row.problem)
            elif not any(cell.strip() for cell in row.cells):
                self._empty += 1
            else:
                report.records += 1
                writer.writerow([*row.cells, *self._results(row)])
        report.judged, report.abstained = self._scored, self._not_adult
        return Summary(
            rows=self._scored,
            incomplete=self._incomplete,
            empty=self._empty,
            by_risk=dict(self._by_risk),
            not_adult=self._not_adult,
            skipped=report.skipped,
            told=tuple(report.lines()),
            file=report.as_dict(),
        )

    def _results(self, row: TextRow) -> list[str]:
        patient = self._read(row)
        if patient.not_adult:
            self._not_adult += 1
            self._report.warn(f"row {row.number}", patient.not_adult)
            return [*[""] * (len(RESULTS) - 1), "; ".join((patient.not_adult, *patient.notes))]
        result = news2.score(patient.values, spo2_scale=patient.scale)
        self._scored += 1
        self._incomplete += result.total is None
        self._by_risk[news2.risk_text(result) or _UNKNOWN] += 1
        self._mark = self._decimal_mark(row.cells) if self._may_use_comma else self._mark
        return [*_scores(patient.values, result, self._mark), "; ".join(patient.notes)]

    def _read(self, row: TextRow) -> _Patient:
        values: dict[VitalSign, tuple[float, int]] = {}
        for column in _SIGNS:
            cell = self._cell(row, column)
            if cell.value is not None and column.sign is not None:
                values[column.sign] = (cell.value, 0)
        diastolic = self._cell(row, _DIASTOLIC).value
        systolic = values.get(VitalSign.SYSTOLIC_BP)
        if systolic is not None and diastolic is not None and contradict(systolic[0], diastolic):
            del values[VitalSign.SYSTOLIC_BP]
            problem = Cell(None, CellOutcome.REFUSED, "not above diastolic_bp; one of the two is wrong")
            shown = f"{systolic[0]:g}/{diastolic:g}"
            self._report.add_values("systolic_bp", -1)  # counted as taken before
            self._report.add_cell("systolic_bp", problem, f"row {row.number}", shown)
        scale = self._cell(row, _SCALE)
        not_adult = self._not_for(row)
        notes = self._report.pop_notes(f"row {row.number}")
        if scale.outcome is CellOutcome.REFUSED and VitalSign.SPO2 in values:
            del values[VitalSign.SPO2]
            notes.append("spo2 not scored: its scale is not known")
        return _Patient(values, int(scale.value or 1), notes, not_adult)

    def _not_for(self, row: TextRow) -> str:
        years, pregnant = self._cell(row, _AGE).value, self._cell(row, _PREGNANT).value
        if too_young(years):
            return f"no score: NEWS2 is not for people under {ADULT_FROM_YEARS} years"
        return "no score: NEWS2 is not for pregnancy" if pregnant else ""

    def _cell(self, row: TextRow, column: Column) -> Cell:
        place = self._places.get(column.name)
        if place is None:
            return Cell(None, CellOutcome.EMPTY)
        text = row.cells[place]
        cell = column.read(text, self._units.get(column.name), decimal_comma=self._may_use_comma)
        self._report.add_cell(column.name, cell, f"row {row.number}", text.strip())
        return cell

    def _decimal_mark(self, cells: Sequence[str]) -> str:
        """The decimal mark of this row's numbers, or the one known so far."""
        numbers = (cells[self._places[column.name]] for column in _SIGNS if not column.codes)
        found = (DECIMAL.fullmatch(cell.strip()) for cell in numbers)
        return next((one[1] for one in found if one and one[1]), self._mark)


def _check_header(header: Sequence[str], source: str) -> None:
    names = [column_name(cell) for cell in header]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        others = ", ".join(repr(cell) for cell in header if column_name(cell) not in COLUMNS)
        also = f"; unknown columns: {shorten(others, 200)}" if others else ""
        hint = looks_like(header)
        fix = "add the columns and leave cells empty where nothing was measured"
        lacks = f"the header lacks {', '.join(missing)}{also}; {fix}"
        raise BadPatientFile(source, f"{lacks}; {hint}" if hint and len(missing) > 1 else lacks, row=1)
    present = [name for name in RESULTS if name in names]
    if present:
        problem = f"the header already has {', '.join(present)}, which vitalloom adds; remove or rename the column"
        raise BadPatientFile(source, problem, row=1)


def _scores(values: news2.Inputs, result: news2.News2, mark: str) -> list[str]:
    index = scores.shock_index(values).value
    return [
        _points_text(result.total),
        str(result.at_least),
        "+".join(sign.value for sign in result.missing),
        news2.risk_text(result),
        _points_text(scores.qsofa(values).points),
        _points_text(scores.sirs(values).points),
        _points_text(scores.mews(values).points),
        "" if index is None else f"{news2.to_resolution(index, 2):.2f}".replace(".", mark),
    ]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _points_text(points: int | None) -> str:
    return "" if points is None else str(points)
