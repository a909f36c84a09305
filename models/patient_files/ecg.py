"""Single-lead ECG recordings, one at a time, as in PhysioNet/CinC 2017 or MIT-BIH: Parquet, one row a recording."""

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
from models.patient_files.columns import Cell, Column
from models.patient_files.report import FileReport
from models.patient_files.table import first_line, found_columns, is_parquet, parquet_names

Floats: TypeAlias = npt.NDArray[np.float64]

UV_PER_STEP: Final = 5.0
"""Microvolts of one step where the file does not say: those of the published recordings."""

_RATE: Final = Column(name="fs", unit="Hz", low=1, high=100_000, whole=True)
_STEP: Final = Column(name="uv_per_step", unit="µV", low=1e-6, high=1e7, missing=())
_GAIN: Final = Column(name="adc_per_mv", unit="1/mV", low=1e-6, high=1e9, missing=())
_ZERO: Final = Column(name="adc_zero", unit="", low=-1e9, high=1e9, missing=())
_OPTIONAL: Final = (_STEP.name, _GAIN.name, _ZERO.name, "label", "subject")
_NOTHING: Final = np.zeros(0)


class EcgRecord(NamedTuple):
    """One single-lead recording."""

    record: str
    sampling_rate_hz: int
    millivolts: Floats  # NaN: no number
    label: str | None
    subject: str  # the person; if the file does not say, each recording counts as one person
    problem: str = ""  # why it cannot be read; then without samples


def read_ecg(path: Path, *, report: FileReport | None = None) -> Iterator[EcgRecord]:
    """All recordings of a file. One that cannot be read has a `problem`; the others are read.

    Raises:
        BadRecordings: no such file, not Parquet, a missing column, or `signal` is not a list of numbers.
    """
    report = FileReport(path.name, "recordings") if report is None else report
    if not is_parquet(path):
        raise BadRecordings(path, "not a Parquet file; ECG recordings are read from Parquet, one row a recording")
    names = parquet_names(path)
    places = found_columns(path, names, ("record", _RATE.name, "signal"), _OPTIONAL)
    if (_GAIN.name in places) != (_ZERO.name in places):
        raise BadRecordings(path, f"columns {_GAIN.name} and {_ZERO.name} belong together; give both or neither")
    seen: set[str] = set()
    try:
        with pq.ParquetFile(path) as file:
            _require_list(path, file.schema_arrow.field(names[places["signal"]]).type)
            for batch in file.iter_batches(batch_size=64, columns=[names[place] for place in places.values()]):
                columns = {name: batch.column(batch.schema.get_field_index(names[at])) for name, at in places.items()}
                for at in range(batch.num_rows):
                    report.records += 1
                    one = _record(columns, at, report)
                    if one.record in seen:
                        report.warn(f"record {one.record}", "another recording has the same name; each is judged")
                    seen.add(one.record)
                    yield one
    except (OSError, pa.ArrowException) as error:
        raise BadRecordings(path, f"damaged Parquet file ({first_line(error)})") from error


def _require_list(path: Path, kind: Any) -> None:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    of = kind.value_type if is_list else None
    if of is None or not (
        pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of) or pa.types.is_null(of)
    ):
        raise BadRecordings(path, f"column signal has the type {kind}; give a list of numbers")


def _record(columns: Mapping[str, Any], at: int, report: FileReport) -> EcgRecord:
    name = columns["record"][at].as_py()
    record = str(name) if name not in (None, "") else f"row {report.records}"
    label = columns["label"][at].as_py() if "label" in columns else None
    subject = columns["subject"][at].as_py() if "subject" in columns else record
    facts: dict[str, float] = {}
    problem = ""
    for column in (_RATE, *(one for one in (_STEP, _GAIN, _ZERO) if one.name in columns)):
        shown = columns[column.name][at].as_py()
        cell = _cell(column, shown)
        report.add_cell(column.name, cell, f"record {record}", shown)
        if cell.value is None:
            problem = problem or f"column {column.name}: {_said(shown, cell)}"
        else:
            facts[column.name] = cell.value
    signal = columns["signal"][at]
    if not signal.is_valid:
        problem = problem or "column signal is empty"
    text = str(label) if label is not None else None
    if problem:
        return EcgRecord(record, 0, _NOTHING, text, str(subject), problem)
    steps = np.asarray(pc.cast(signal.values, pa.float64(), safe=False).fill_null(math.nan).to_numpy())
    if _GAIN.name in facts:
        millivolts = (steps - facts[_ZERO.name]) / facts[_GAIN.name]
    else:
        millivolts = steps * facts.get(_STEP.name, UV_PER_STEP) / 1_000
    return EcgRecord(record, int(facts[_RATE.name]), millivolts, text, str(subject))


def _cell(column: Column, shown: object) -> Cell:
    if isinstance(shown, int | float):
        return column.judge(float(shown))
    return column.read("" if shown is None else str(shown))


def _said(shown: object, cell: Cell) -> str:
    return f"{str(shown)[:40]!r} is {cell.why}" if cell.why else "is empty"
