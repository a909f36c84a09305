"""CSV as spreadsheet programs write it, row by row: encodings, delimiters, quotation marks, Excel's `sep=` line.

Nothing is read ahead, so a file may be larger than memory. Cells stay text: `007` is not `7`.
"""

import csv
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TextIO

from models.errors import BadPatientFile, FileRefused

DELIMITERS: Final = (",", ";", "\t", "|")
BOM: Final = "\ufeff"

_MAGIC: Final = (
    (b"PK\x03\x04", "an Excel workbook or ZIP file, not UTF-8; save it from the spreadsheet program as 'CSV UTF-8'"),
    (b"\x1f\x8b", "a compressed file; unpack it first"),
    (b"PAR1", "a Parquet file; this command reads CSV"),
    (b"SQLite format 3", "a database; export the table as CSV"),
)
_ZEROS: Final = (
    "zero bytes, as in UTF-16 without a byte-order mark; save it from the spreadsheet program as 'CSV UTF-8'"
)
_UTF32: Final = "text in UTF-32, not UTF-8; save it from the spreadsheet program as 'CSV UTF-8'"
_JSON: Final = (
    "JSON, such as a FHIR bundle, which no command reads; write the values as CSV, one row a moment or hour, for "
    "`vitalloom score` (columns in docs/scores.md), `vitalloom predict` (docs/models.md) or `vitalloom ward --replay` "
    "(docs/simulators.md); the last two read Parquet as well"
)


class TextRow(NamedTuple):
    """One row of a file."""

    number: int  # as a spreadsheet program shows it; the header is row 1, a line `sep=` is not counted
    cells: list[str]
    problem: str = ""  # the row cannot be used; why


class TextRows:
    """The rows of an opened CSV file after its header; a context manager.

    Args:
        expected: names of columns, in small letters; the delimiter is the one that separates most of them.

    Raises:
        FileRefused: the file cannot be opened.
        BadPatientFile: it is not text in UTF-8 or UTF-16, or has no header.
    """

    def __init__(self, path: Path, expected: Collection[str]) -> None:
        self._source = path.name
        self._row = 0
        try:
            self._file = self._open(path)
        except OSError as error:
            raise FileRefused("read", path, error) from error
        try:
            self._begin(expected)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[TextRow]:
        width = len(self.header)
        while (row := self._next()) is not None:
            if row.problem or not any(cell.strip() for cell in row.cells) or len(row.cells) == width:
                yield row
            elif len(row.cells) > width and not any(cell.strip() for cell in row.cells[width:]):
                yield row._replace(cells=row.cells[:width])  # a delimiter at the end of the line
            else:
                problem = f"{len(row.cells)} cells where the header has {width}; quote texts that hold the delimiter"
                yield row._replace(problem=problem)

    def _open(self, path: Path) -> TextIO:
        with path.open("rb") as raw:
            start = raw.read(64)
        if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
            raise BadPatientFile(self._source, _UTF32)
        for magic, problem in _MAGIC:
            if start.startswith(magic):
                raise BadPatientFile(self._source, problem)
        is_utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))
        if not is_utf16 and b"\x00" in start:
            raise BadPatientFile(self._source, _ZEROS)
        if not is_utf16 and start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            raise BadPatientFile(self._source, _JSON)
        self.bom = BOM if is_utf16 or start.startswith(BOM.encode()) else ""
        return path.open(encoding="utf-16" if is_utf16 else "utf-8", newline="")

    def _begin(self, expected: Collection[str]) -> None:
        try:
            first = self._file.readline().removeprefix(BOM)
            given = first.strip().lower()
            marked = given[4:5] or ("\t" if first.strip(" \r\n").lower() == "sep=\t" else "")
            if given.startswith("sep=") and len(given) <= 5:
                first = self._file.readline()
            else:
                marked = ""
        except UnicodeError as error:
            raise self._not_utf8() from error
        if not first:
            raise BadPatientFile(self._source, f"the file is empty; it needs a header: {', '.join(expected)}")
        self.delimiter = marked or max(DELIMITERS, key=lambda delimiter: _header_match(first, delimiter, expected))
        self.line_end = "\r\n" if first.endswith("\r\n") else "\n"
        self._reader = csv.reader(chain([first], self._file), delimiter=self.delimiter, strict=True)
        header = self._next()
        if header is None or not any(cell.strip() for cell in header.cells):
            problem = f"no header; add a first row with the columns {', '.join(expected)}"
            raise BadPatientFile(self._source, (header.problem if header else "") or problem, row=1)
        self.header: list[str] = header.cells

    def _next(self) -> TextRow | None:
        try:
            cells = next(self._reader)
        except StopIteration:
            return None
        except UnicodeError as error:
            raise self._not_utf8() from error
        except csv.Error as error:
            problem = f"broken CSV ({error}); look for a quotation mark that is not closed"
            if "end of data" in str(error) or self._row == 0:  # what follows cannot be told apart
                raise BadPatientFile(self._source, problem, row=self._row + 1) from error
            self._row += 1
            return TextRow(self._row, [], problem)
        self._row += 1
        return TextRow(self._row, cells)

    def _not_utf8(self) -> BadPatientFile:
        where = f"after row {self._row} " if self._row else ""
        problem = f"{where}the text is not UTF-8; save it from the spreadsheet program as 'CSV UTF-8'"
        return BadPatientFile(self._source, problem)


def column_name(cell: str) -> str:
    """A name of a column for comparison: without blanks around it, in small letters."""
    return cell.strip().lower()


def positions_of(names: Sequence[str], wanted: Collection[str], source: str) -> dict[str, int]:
    """The place of each wanted column that is there, by its name as wanted; capitals and blanks do not matter.

    Raises:
        BadPatientFile: a wanted column is there twice, so that nobody can tell which one counts.
    """
    found = [column_name(name) for name in names]
    twice = sorted(name for name in wanted if found.count(column_name(name)) > 1)
    if twice:
        raise BadPatientFile(source, f"the header has {', '.join(twice)} more than once; keep one", row=1)
    return {name: found.index(column_name(name)) for name in wanted if column_name(name) in found}


_STAY_DOORS: Final = "`vitalloom predict sepsis` and `vitalloom ward --replay`"
_OXIMETER: Final = (
    "the file looks like an export of a pulse oximeter (Viatom, Wellue), which no command reads as it is; for "
    "`vitalloom ward --replay` write the columns minute, HR, PULSE, RESP, SpO2, NBPSys, NBPDias, and leave cells empty "
    "where the device wrote 255 or 65535"
)
_LOOKS_LIKE: Final = (
    ({"hr", "o2sat", "iculos"}, f"the file looks like an hourly stay of PhysioNet/CinC 2019: {_STAY_DOORS} read it"),
    ({"patient_id", "hour", "o2sat"}, f"the file looks like hourly stays: {_STAY_DOORS} read them"),
    (
        {"record_id", "parameter", "value"},
        "the file looks like charts of PhysioNet/CinC 2012: `vitalloom ward --replay` reads them",
    ),
    ({"trestbps", "thalach"}, "the file looks like clinic attributes: `vitalloom predict heart` reads them"),
    ({"respiratory_rate", "spo2"}, "the file looks like a spreadsheet of vital signs: `vitalloom score` reads it"),
    ({"spo2(%)", "pulse rate(bpm)"}, _OXIMETER),
)


def looks_like(names: Sequence[str]) -> str:
    """What a file with these columns seems to be and which command reads it; empty if nothing is known."""
    known = {column_name(name) for name in names}
    return next((text for columns, text in _LOOKS_LIKE if columns <= known), "")


def _header_match(line: str, delimiter: str, expected: Collection[str]) -> tuple[int, int]:
    """Number of expected columns that a delimiter separates, then number of cells."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return 0, 0
    wanted = {column_name(name) for name in expected}
    return len(wanted.intersection(map(column_name, cells))), len(cells)
