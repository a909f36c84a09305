"""The columns of one file in memory, Parquet or CSV: ids as text, numbers by the table of columns.

The content decides what a file is, not its name. Types are never guessed from the first rows: CSV cells are text until
a column of `columns` reads them, and a Parquet column of text is read in the same way.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.errors import BadRecordings, FileRefused
from models.patient_files.columns import Cell, CellOutcome, Column, OtherUnit
from models.patient_files.report import FileReport
from models.patient_files.text import TextRows, looks_like, positions_of
from vitals.signs import SPEC

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Place: TypeAlias = Callable[[int], str]

_PARQUET: Final = b"PAR1"
_NOBODY: Final = frozenset({"NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "null", "None"})
"""As programs write an empty cell; a person may well write `unknown` for one patient."""


class PatientTable:
    """Some columns of one file, by the names that were asked for.

    Args:
        rows: number of each row as the user can find it: in CSV as a spreadsheet program shows it.
        decimal_comma: numbers that are written as text may have a comma, because it does not separate cells.
    """

    def __init__(
        self, path: Path, columns: dict[str, "pa.ChunkedArray | list[str]"], rows: Ints, *, decimal_comma: bool = False
    ) -> None:
        self.path = path
        self.rows = rows
        self._columns = columns
        self._decimal_comma = decimal_comma

    @classmethod
    def open(cls, path: Path, needed: Sequence[str], optional: Sequence[str], report: FileReport) -> Self:
        """Read the columns of a file. Names are compared without regard to capitals and blanks around them.

        Raises:
            BadRecordings: no such file, neither Parquet nor CSV, a needed column is missing, or one is there twice.
        """
        try:
            if is_parquet(path):
                return cls._of_parquet(path, needed, optional)
            return cls._of_text(path, needed, optional, report)
        except FileRefused as error:
            raise BadRecordings(path, str(error)) from error

    @classmethod
    def _of_parquet(cls, path: Path, needed: Sequence[str], optional: Sequence[str]) -> Self:
        names = parquet_names(path)
        places = found_columns(path, names, needed, optional)
        try:
            table = pq.read_table(path, columns=[names[place] for place in places.values()])
        except (OSError, pa.ArrowException) as error:
            raise BadRecordings(path, f"damaged Parquet file ({first_line(error)})") from error
        columns = {name: table.column(names[place]) for name, place in places.items()}
        return cls(path, columns, np.arange(1, table.num_rows + 1))

    @classmethod
    def _of_text(cls, path: Path, needed: Sequence[str], optional: Sequence[str], report: FileReport) -> Self:
        with TextRows(path, (*needed, *optional)) as rows:
            places = found_columns(path, rows.header, needed, optional)
            columns: dict[str, list[str]] = {name: [] for name in places}
            taken = [(columns[name], place) for name, place in places.items()]
            numbers = []
            for row in rows:
                if row.problem:
                    report.records += 1
                    report.skip(f"row {row.number}", row.problem)
                    continue
                if not any(cell.strip() for cell in row.cells):
                    continue
                numbers.append(row.number)
                for cells, place in taken:
                    cells.append(row.cells[place])
            comma = rows.delimiter != ","
            return cls(path, dict(columns), np.array(numbers, np.int64), decimal_comma=comma)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __len__(self) -> int:
        return len(self.rows)

    def row_place(self, at: int) -> str:
        """Where a row is, for people."""
        return f"row {self.rows[at]}"

    def take(self, rows: Ints) -> "PatientTable":
        """The table with these rows, in this order."""
        columns = {
            name: [cells[at] for at in rows] if isinstance(cells, list) else cells.take(pa.array(rows))
            for name, cells in self._columns.items()
        }
        return PatientTable(self.path, columns, self.rows[rows], decimal_comma=self._decimal_comma)

    def renamed(self, name: str, new: str) -> "PatientTable":
        """The table with one column, under another name."""
        return PatientTable(self.path, {new: self._columns[name]}, self.rows, decimal_comma=self._decimal_comma)

    def texts(self, name: str) -> list[str]:
        """A column as text, empty where there is nothing. A whole number has no decimal places: 7, not 7.0.

        Raises:
            BadRecordings: the column holds neither text nor numbers.
        """
        cells = self._columns[name]
        if isinstance(cells, list):
            return [cell.strip() for cell in cells]
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        if pa.types.is_floating(cells.type):
            return [_whole(value) for value in cells.to_pylist()]
        self._require_names(name, cells.type)
        return ["" if value is None else str(value).strip() for value in cells.to_pylist()]

    def ids(self, name: str) -> tuple[Ints, list[str]]:
        """`codes` of a column that names patients: what programs write into an empty cell is nobody's name."""
        numbers, texts = self.codes(name)
        unknown = [not known_id(text) for text in texts]
        if not any(unknown):
            return numbers, texts
        kept = np.cumsum(np.logical_not(unknown)) - 1
        kept[unknown] = -1
        return np.append(kept, -1)[numbers], [text for text in texts if known_id(text)]

    def codes(self, name: str) -> tuple[Ints, list[str]]:
        """A column of names: the number of each row's name, -1 where there is none, and the names as they appear."""
        cells = self._columns[name]
        if isinstance(cells, list):
            return _numbered(self.texts(name))
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        self._require_names(name, cells.type)
        encoded = pc.dictionary_encode(cells).combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):  # without rows
            return np.zeros(0, np.int64), []
        different = PatientTable(self.path, {name: pa.chunked_array([encoded.dictionary])}, np.zeros(0, np.int64))
        numbers, ids = _numbered(different.texts(name))
        indices = encoded.indices
        places = (indices.fill_null(-1) if indices.null_count else indices).to_numpy(zero_copy_only=False)
        if np.array_equal(numbers, np.arange(len(numbers))):
            return places, ids
        return np.append(numbers, -1)[places], ids  # the place -1 is the last

    def read(
        self,
        column: Column,
        report: FileReport,
        *,
        place: Place | None = None,
        unit: OtherUnit | None = None,
        keep_refused: bool = False,
    ) -> Floats:
        """A column of numbers as its description reads it; NaN where nothing can be used.

        Args:
            place: names a row for people; default: its number.
            keep_refused: return refused numbers as they are written. They are reported all the same.

        Raises:
            BadRecordings: the column holds neither numbers nor text.
        """
        place = place or self.row_place
        cells = self._columns[column.name]
        if not isinstance(cells, list):
            if pa.types.is_dictionary(cells.type):
                cells = cells.cast(cells.type.value_type)
            if _is_text(cells.type):
                cells = ["" if cell is None else cell for cell in cells.to_pylist()]
        if isinstance(cells, list):
            return self._read_texts(cells, column, report, place, unit, keep_refused)
        return _read_numbers(self._as_floats(column, cells), column, report, place, unit, keep_refused)

    def raw(self, name: str) -> Floats:
        """A column of numbers as it is, for labels and the like; NaN where a cell is empty or no number."""
        return self.read(Column(name=name, unit="", missing=()), FileReport(self.path.name))

    def _require_names(self, name: str, kind: Any) -> None:
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (is_number or _is_text(kind) or pa.types.is_null(kind)):
            raise BadRecordings(self.path, f"column {name} has the type {kind}; give text or whole numbers")

    def _read_texts(
        self,
        cells: list[str],
        column: Column,
        report: FileReport,
        place: Place,
        unit: OtherUnit | None,
        keep_refused: bool,
    ) -> Floats:
        values = np.full(len(cells), math.nan)
        known: dict[str, Cell] = {}  # charts repeat themselves
        taken = 0
        for at, text in enumerate(cells):
            cell = known.get(text)
            if cell is None:
                cell = known[text] = column.read(text, unit, decimal_comma=self._decimal_comma)
            if cell.outcome is CellOutcome.TAKEN:
                taken += 1
            elif cell.outcome is not CellOutcome.EMPTY:
                report.add_cell(column.name, cell, place(at), text.strip())
                report.left_out += keep_refused and cell.outcome is CellOutcome.REFUSED and cell.raw is None
            values[at] = _number(cell, keep_refused)
        report.add_values(column.name, taken)
        return values

    def _as_floats(self, column: Column, cells: Any) -> Floats:
        kind = cells.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        is_choice = pa.types.is_boolean(kind) and bool(column.codes)
        if not (is_number or is_choice or pa.types.is_null(kind)):
            raise BadRecordings(self.path, f"column {column.name} has the type {kind}; give numbers")
        if pa.types.is_boolean(kind):
            cells = cells.cast(pa.int8())
        numbers = pc.cast(cells, pa.float64(), safe=False).fill_null(math.nan)
        return np.array(numbers.to_numpy(), np.float64)  # a copy: arrays of Arrow are read-only


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its first bytes.

    Raises:
        BadRecordings: it cannot be read, or it is a damaged Parquet file by its name.
    """
    try:
        with path.open("rb") as file:
            found = file.read(4) == _PARQUET
    except FileNotFoundError as error:
        raise BadRecordings(path, "no such file") from error
    except OSError as error:
        raise BadRecordings(path, f"cannot read the file ({error.strerror})") from error
    if not found and path.suffix.lower() == ".parquet":
        raise BadRecordings(path, "not a Parquet file; write it anew, or name a CSV file .csv")
    return found


def parquet_names(path: Path) -> list[str]:
    """The column names of a Parquet file.

    Raises:
        BadRecordings: the file is damaged.
    """
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise BadRecordings(path, f"damaged Parquet file ({first_line(error)})") from error


def found_columns(path: Path, names: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> dict[str, int]:
    """The place of each needed and optional column that is there.

    Raises:
        BadRecordings: a needed column is missing or a column is there twice; the message says which command reads a
            file like this, if one is known.
    """
    places = positions_of(names, [*needed, *optional], str(path))
    missing = [name for name in needed if name not in places]
    if missing:
        hint = looks_like(names)
        problem = f"missing column: {', '.join(missing)}"
        raise BadRecordings(path, f"{problem}; {hint}" if hint and len(missing) > 1 else problem)
    return places


def known_id(text: str) -> str:
    """An id without blanks around it; empty for what programs write into an empty cell, which is nobody's name.

    >>> known_id(" 007 "), known_id("NA"), known_id("nan")
    ('007', '', '')
    """
    text = text.strip()
    return "" if text in _NOBODY else text


def first_line(error: BaseException) -> str:
    """The first line of an error of a library."""
    return str(error).partition("\n")[0]


def _numbered(texts: list[str]) -> tuple[Ints, list[str]]:
    found: dict[str, int] = {}
    numbers = [found.setdefault(text, len(found)) if text else -1 for text in texts]
    return np.array(numbers, np.int64), list(found)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _whole(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    # All digits: two ids that differ in the seventh are two patients.
    return f"{value:.0f}" if math.isfinite(value) and value == round(value, 0) else repr(value)


def _read_numbers(
    numbers: Floats, column: Column, report: FileReport, place: Place, unit: OtherUnit | None, keep_refused: bool
) -> Floats:
    given = ~np.isnan(numbers)
    if unit is not None:
        doubtful = given
    elif column.codes:
        doubtful = given & ~np.isin(numbers, list(column.codes.values()))
    else:
        # What is usual needs no closer look.
        low, high = (-math.inf, math.inf) if column.sign is None else SPEC[column.sign].usual
        fits = (numbers >= max(low, column.low)) & (numbers <= min(high, column.high))
        if column.whole:
            fits &= numbers == np.round(numbers)
        doubtful = given & ~fits
    values = np.where(doubtful, math.nan, numbers)
    taken = int((given & ~doubtful).sum())
    for at in np.flatnonzero(doubtful):
        cell = column.judge(float(numbers[at]), unit)
        if cell.outcome is CellOutcome.TAKEN:
            taken += 1
        else:
            report.add_cell(column.name, cell, place(int(at)), _whole(float(numbers[at])))
        values[at] = _number(cell, keep_refused)
    report.add_values(column.name, taken)
    return values


def _number(cell: Cell, keep_refused: bool) -> float:
    value = cell.raw if keep_refused and cell.outcome is CellOutcome.REFUSED else cell.value
    return math.nan if value is None else value
