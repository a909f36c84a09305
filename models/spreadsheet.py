"""Scores for a spreadsheet of vital signs: reads CSV and writes the same CSV with scores added, one row at a time.

The columns are described in docs/scores.md. An invalid cell stops the run with an error that names it, because a guess
would give a wrong score. An empty cell means that the sign was not measured.
"""

import csv
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Final, TextIO

import msgspec

from models.errors import ModelsError
from vitals import news2, scores
from vitals.messages import Consciousness
from vitals.signs import SPEC, ValueClass, VitalSign, classify


class BadSpreadsheet(ModelsError):
    """A file that cannot be scored. `row` is the number that a spreadsheet program shows: the header is row 1."""

    def __init__(self, source: str, problem: str, *, row: int | None = None, column: str | None = None) -> None:
        place = [source, f"row {row}" if row else "", f"column {column}" if column else ""]
        super().__init__(f"{', '.join(part for part in place if part)}: {problem}")
        self.row = row
        self.column = column


class FileRefused(ModelsError):
    """A file that the operating system does not let us read or write."""

    def __init__(self, verb: str, path: Path, error: OSError) -> None:
        super().__init__(f"cannot {verb} {path}: {error.strerror or error}")
        self.path = path


_UNKNOWN: Final = "unknown"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a scored file."""

    rows: int
    incomplete: int  # rows without a NEWS2 total
    empty: int  # rows without any content, left out
    by_risk: dict[str, int]  # by the text in the column `news2_risk`; "unknown" where that is empty

    @property
    def text(self) -> str:
        """The summary as one line of text."""
        risks = ", ".join(f"{risk} {count}" for risk, count in self.by_risk.items())
        left_out = f"; {self.empty} empty rows left out" if self.empty else ""
        return f"{self.rows} rows scored, {self.incomplete} of them incomplete; NEWS2 risk: {risks}{left_out}"


class _Column(msgspec.Struct, frozen=True, kw_only=True):
    """One input column: either a choice of codes, or a number within a range."""

    name: str
    sign: VitalSign | None  # None: not a sign, the SpO2 scale
    choices: dict[str, float] | None = None
    allowed: str

    def read(self, text: str, *, decimal_comma: bool) -> float | None:
        """The value of a non-empty cell; None: not allowed."""
        if self.choices is not None and text.upper() in self.choices:
            return self.choices[text.upper()]
        number = _number(text, decimal_comma=decimal_comma)
        if number is None:
            return None
        if self.choices is not None:
            return self.choices.get(f"{number:g}")  # some programs write 1 as 1.0
        is_none = classify(VitalSign(self.name), number).value_class is ValueClass.NO_VALUE
        return None if is_none else number


def _measured(sign: VitalSign) -> _Column:
    low, high = SPEC[sign].possible
    return _Column(name=sign.value, sign=sign, allowed=f"a number from {low:g} to {high:g} ({SPEC[sign].unit})")


_COLUMNS: Final = (
    _measured(VitalSign.RESPIRATORY_RATE),
    _measured(VitalSign.SPO2),
    _Column(name="spo2_scale", sign=None, choices={"1": 1, "2": 2}, allowed="1 or 2 (only if prescribed)"),
    _Column(
        # 1 does not tell the flow; for the score any flow counts as oxygen.
        name="supplemental_oxygen",
        sign=VitalSign.SUPPLEMENTAL_OXYGEN,
        choices={"0": 0, "1": 1},
        allowed="0 (air) or 1 (oxygen)",
    ),
    _measured(VitalSign.SYSTOLIC_BP),
    _measured(VitalSign.HEART_RATE),
    _Column(
        name="consciousness",
        sign=VitalSign.CONSCIOUSNESS,
        choices={level.letter: level for level in Consciousness},
        allowed="A, C, V, P or U",
    ),
    _measured(VitalSign.TEMPERATURE),
)

COLUMNS: Final = tuple(column.name for column in _COLUMNS)
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
)
"""The columns that are added on the right."""

_DELIMITERS: Final = (",", ";", "\t")
_BOM: Final = "\ufeff"


def score_file(source: Path, out: TextIO) -> Summary:
    """Write `source` to `out` with `RESULTS` added. Delimiter, line ends and byte-order mark are kept.

    Raises:
        BadSpreadsheet: the header, a row or a cell is invalid; earlier rows have been written.
        FileRefused: the file cannot be opened.
    """
    try:
        file = source.open(encoding="utf-8", newline="")
    except OSError as error:
        raise FileRefused("read", source, error) from error
    with file:
        return _score(file, out, source.name)


def main(file: Path, out: Path | None) -> int:
    """Run `vitalloom score` and return its exit code. An output file appears only when it is complete."""
    try:
        summary = _to_terminal(file) if out is None else _to_file(file, out)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe. Without this Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    sys.stderr.write(f"{summary.text}\n")
    return 0


def _to_terminal(file: Path) -> Summary:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    summary = score_file(file, sys.stdout)
    sys.stdout.flush()
    return summary


def _to_file(file: Path, out: Path) -> Summary:
    target = out.resolve()  # replace the target of a symbolic link, not the link
    try:
        if target.exists() and not target.is_file():  # a pipe or device is written directly; a folder is an error
            with target.open("w", encoding="utf-8", newline="") as stream:
                return score_file(file, stream)
        part = target.with_name(f".vitalloom-{os.getpid()}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as stream:
                if target.exists():
                    shutil.copymode(target, part)
                summary = score_file(file, stream)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileRefused("write", out, error) from error
    return summary


def _score(file: TextIO, out: TextIO, source: str) -> Summary:
    records = _Records(file, source)
    header = records.header()
    columns = _column_positions(header, source)
    writer = csv.writer(out, delimiter=records.delimiter, lineterminator=records.line_end)
    out.write(records.bom)
    writer.writerow([*header, *RESULTS])
    # A European spreadsheet program reads 0.85 as text and 1.12 as a date: write decimals with the file's own mark.
    may_use_comma = records.delimiter != ","
    mark = "," if records.delimiter == ";" else "."
    rows = incomplete = empty = 0
    by_risk: Counter[str] = Counter({risk.value: 0 for risk in news2.Risk})
    for number, cells in records:
        if not any(cell.strip() for cell in cells):
            empty += 1
            continue
        if len(cells) != len(header):
            problem = f"{len(cells)} cells where the header has {len(header)}; quote texts that hold the delimiter"
            raise BadSpreadsheet(source, problem, row=number)
        values, scale = _values(cells, columns, source, number, decimal_comma=may_use_comma)
        mark = _decimal_mark(cells, columns, mark) if may_use_comma else mark
        result = news2.score(values, spo2_scale=scale)
        writer.writerow([*cells, *_results(values, result, mark)])
        rows += 1
        incomplete += result.total is None
        by_risk[news2.risk_text(result) or _UNKNOWN] += 1
    return Summary(rows=rows, incomplete=incomplete, empty=empty, by_risk=dict(by_risk))


class _Records:
    """Numbered rows of a CSV file; detects delimiter, line ends and byte-order mark from the first line."""

    def __init__(self, file: TextIO, source: str) -> None:
        self._file = file
        self._source = source
        self._row = 0
        first = self._first_line()
        self.bom = _BOM if first.startswith(_BOM) else ""
        first = first.removeprefix(_BOM)
        self.delimiter = max(_DELIMITERS, key=lambda delimiter: _header_match(first, delimiter))
        self.line_end = "\r\n" if first.endswith("\r\n") else "\n"
        self._reader = csv.reader(chain([first], file), delimiter=self.delimiter, strict=True)

    def header(self) -> list[str]:
        header = next(self, (0, []))[1]
        if not any(cell.strip() for cell in header):
            raise BadSpreadsheet(
                self._source, f"no header; add a first row with the columns {', '.join(COLUMNS)}", row=1
            )
        return header

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return self

    def __next__(self) -> tuple[int, list[str]]:
        try:
            cells = next(self._reader)
        except UnicodeDecodeError as error:
            raise self._not_utf8() from error
        except csv.Error as error:
            problem = f"broken CSV ({error}); look for a quotation mark that is not closed"
            raise BadSpreadsheet(self._source, problem, row=self._row + 1) from error
        self._row += 1
        return self._row, cells

    def _first_line(self) -> str:
        try:
            first = self._file.readline()
        except UnicodeDecodeError as error:
            raise self._not_utf8() from error
        if not first.removeprefix(_BOM):
            raise BadSpreadsheet(self._source, f"the file is empty; it needs a header: {', '.join(COLUMNS)}")
        return first

    def _not_utf8(self) -> BadSpreadsheet:
        where = f"after row {self._row} " if self._row else ""
        problem = f"{where}the text is not UTF-8; save it from the spreadsheet program as 'CSV UTF-8'"
        return BadSpreadsheet(self._source, problem)


def _header_match(line: str, delimiter: str) -> tuple[int, int]:
    """Number of expected columns that a delimiter separates, then number of cells."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return 0, 0
    return len(set(COLUMNS).intersection(map(_name, cells))), len(cells)


def _name(cell: str) -> str:
    return cell.strip().lower()


def _column_positions(header: Sequence[str], source: str) -> tuple[tuple[int, _Column], ...]:
    names = [_name(cell) for cell in header]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        others = ", ".join(repr(cell) for cell in header if _name(cell) not in COLUMNS)
        also = f"; unknown columns: {_short(others)}" if others else ""
        fix = "add the columns and leave cells empty where nothing was measured"
        raise BadSpreadsheet(source, f"the header lacks {', '.join(missing)}{also}; {fix}", row=1)
    twice = sorted({name for name in names if name in COLUMNS and names.count(name) > 1})
    if twice:
        raise BadSpreadsheet(source, f"the header has {', '.join(twice)} more than once; keep one", row=1)
    present = [name for name in RESULTS if name in names]
    if present:
        problem = f"the header already has {', '.join(present)}, which vitalloom adds; remove or rename the column"
        raise BadSpreadsheet(source, problem, row=1)
    return tuple((names.index(column.name), column) for column in _COLUMNS)


def _values(
    cells: Sequence[str], columns: Iterable[tuple[int, _Column]], source: str, row: int, *, decimal_comma: bool
) -> tuple[dict[VitalSign, tuple[float, int]], int]:
    """The measured values, each with age 0, and the SpO2 scale."""
    values: dict[VitalSign, tuple[float, int]] = {}
    scale = 1
    for place, column in columns:
        text = cells[place].strip()
        if not text:
            continue
        value = column.read(text, decimal_comma=decimal_comma)
        if value is None:
            problem = f"{_short(repr(text))} is not allowed; give {column.allowed}, or leave the cell empty"
            raise BadSpreadsheet(source, problem, row=row, column=column.name)
        if column.sign is None:
            scale = int(value)
        else:
            values[column.sign] = (value, 0)
    return values, scale


def _results(values: news2.Inputs, result: news2.News2, mark: str) -> list[str]:
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


# Not float() alone: it accepts "nan", "inf", "1_0" and digits of other scripts.
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+(?:([.,])[0-9]+)?")


def _number(text: str, *, decimal_comma: bool) -> float | None:
    found = _DECIMAL.fullmatch(text)
    if found is None or (found[1] == "," and not decimal_comma):
        return None
    return float(text.replace(",", "."))


def _decimal_mark(cells: Sequence[str], columns: Iterable[tuple[int, _Column]], known: str) -> str:
    """The decimal mark of this row's numbers, or `known` if they have none."""
    numbers = (cells[place] for place, column in columns if column.choices is None)
    return next((found[1] for cell in numbers if (found := _DECIMAL.fullmatch(cell.strip())) and found[1]), known)


def _points_text(points: int | None) -> str:
    return "" if points is None else str(points)


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
