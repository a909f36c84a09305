"""Recorded stays as wearables: charted vital signs of real patients, as readings at a wearable's cadence.

Three formats are known, told apart by their columns (`FORMATS`); their sources are listed in `docs/simulators.md`.

- Between two charted points of one sign that are not too far apart (the format's row says how far) values are
  interpolated linearly; before the first, after the last and inside longer gaps there is nothing.
- Blood pressures, oxygen and consciousness are not interpolated: each is given once, at the moment it was charted.
- Charting errors are passed on as charted, since judging quality is the edge's work; values that a reading cannot
  carry are left out and counted in `Stay.unusable`.

Reads with pyarrow: only the columns that are needed and only the stays that were chosen.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from simulators.errors import BadReplay
from vitals.messages import ClockQuality, Consciousness
from vitals.signs import VitalSign
from wire.codec import VitalsV1, decode_vitals, encode
from wire.errors import WireError

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000

NOMINAL_OXYGEN: Final = 2.0
"""L/min for charts with more oxygen than air. A fraction of inspired oxygen through a mask or a ventilator cannot be
converted to a flow; NEWS2 only needs to know whether there is supplemental oxygen."""

TEMPERATURE_CADENCE_MS: Final = 60_000

Point: TypeAlias = tuple[int, float]  # (milliseconds since the stay began, value as charted)


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One known layout of a file with recorded stays."""

    name: str
    needs: tuple[str, ...]  # columns
    max_gap_ms: int  # between two points of heart rate, respiratory rate or SpO2 that may be joined
    max_temperature_gap_ms: int = 6 * _HOUR_MS


FORMATS: Final = (
    Format(
        name="sepsis2019",
        needs=("patient_id", "hour", "HR", "Resp", "O2Sat", "Temp", "SBP", "DBP", "FiO2"),
        max_gap_ms=2 * _HOUR_MS,
    ),
    Format(name="icu2012", needs=("record_id", "minute", "parameter", "value"), max_gap_ms=2 * _HOUR_MS),
    # One row a minute: an empty minute is a lost signal, and stays one.
    Format(
        name="vitals_minute",
        needs=("minute", "HR", "PULSE", "RESP", "SpO2", "NBPSys", "NBPDias"),
        max_gap_ms=90_000,
    ),
)

ACCEPTED: Final = "; ".join(f"{row.name} ({', '.join(row.needs)})" for row in FORMATS)

_JOINED: Final = (VitalSign.HEART_RATE, VitalSign.RESPIRATORY_RATE, VitalSign.SPO2, VitalSign.TEMPERATURE)


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """The charted values of one patient, beginning with the first charted vital sign."""

    stay_id: str  # the pseudonym that the data set uses
    source: str  # name of the format
    charted: dict[VitalSign, tuple[Point, ...]]  # in order of time, one value per moment
    max_gap_ms: int
    max_temperature_gap_ms: int
    age_years: float | None = None
    is_male: bool | None = None
    unusable: int = 0  # charted values that no reading can carry
    labelled_ms: int | None = None  # from here on the data set calls the stay septic; for evaluation only

    @property
    def duration_ms(self) -> int:
        """From the first to the last charted value."""
        return max((points[-1][0] for points in self.charted.values() if points), default=0)

    def samples(self, cadence_ms: int, start_ms: int) -> Iterator[VitalsV1]:
        """The stay as a wearable sends it, beginning at `start_ms`, in order of time.

        A sample every `cadence_ms` while heart rate, respiratory rate or SpO2 is known, with the temperature at most
        once a minute, and one at each moment when something else was charted. Nothing known: no sample.
        """
        lines = {sign: _Line(self.charted.get(sign, ()), self._gap_ms(sign)) for sign in _JOINED}
        for since_ms, spots in self._moments(cadence_ms):
            on_grid = since_ms % cadence_ms == 0
            values = dict(spots)
            if on_grid:
                for sign, line in lines.items():
                    due = sign is not VitalSign.TEMPERATURE or since_ms % max(cadence_ms, TEMPERATURE_CADENCE_MS) == 0
                    if due and (value := line.at(since_ms)) is not None:
                        values[sign] = value
            if values:
                yield _sample(values, at_ms=start_ms + since_ms, uptime_ms=since_ms)

    def _gap_ms(self, sign: VitalSign) -> int:
        return self.max_temperature_gap_ms if sign is VitalSign.TEMPERATURE else self.max_gap_ms

    def _moments(self, cadence_ms: int) -> Iterator[tuple[int, list[tuple[VitalSign, float]]]]:
        """Every moment of the cadence and every moment with a value that is not interpolated."""
        spots = sorted(
            (at_ms, sign.value, value)
            for sign, points in self.charted.items()
            if sign not in _JOINED
            for at_ms, value in points
        )
        grid = ((at_ms, "", 0.0) for at_ms in range(0, self.duration_ms + 1, cadence_ms))
        for at_ms, found in groupby(merge(grid, spots), key=lambda moment: moment[0]):
            yield at_ms, [(VitalSign(sign), value) for _, sign, value in found if sign]


class Replay:
    """One opened file, or folder, of recorded stays."""

    def __init__(self, path: Path, form: Format) -> None:
        self.path = path
        self.format = form

    def stays(self, limit: int | None = None, seed: int = 0) -> list[Stay]:
        """A seeded choice of stays, in the order of the choice; without a limit all of them.

        Raises:
            BadReplay: the file cannot be read to its end.
        """
        try:
            return _READERS[self.format.name](self.path, self.format, limit, seed)
        except (pa.ArrowException, OSError) as error:
            raise BadReplay(f"cannot be read ({_first_line(error)})", path=self.path, accepted=ACCEPTED) from error


def open_replay(path: Path | str) -> Replay:
    """Recognise the format of a file by its columns. In a folder the first file of a known format is opened.

    Raises:
        BadReplay: the file is missing, is neither Parquet nor CSV, or has the columns of no known format; the message
            names the file, the missing columns of the nearest format, and all formats.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    form = _format_of(path)
    if form is None:
        series = _series_beside(path)
        return Replay(series, _BY_NAME["icu2012"]) if series else _refuse(path)
    return Replay(path, form)


_BY_NAME: Final = {row.name: row for row in FORMATS}
_SUFFIXES: Final = (".parquet", ".csv")


def _open_folder(folder: Path) -> Replay:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    for file in files:
        form = _format_of(file)
        if form is not None:
            return Replay(file, form)
    if len(files) == 1:
        _refuse(files[0])
    raise BadReplay("no file in this folder holds recorded stays", path=folder, accepted=ACCEPTED)


def _series_beside(path: Path) -> Path | None:
    """The file with the vital signs, given the patients file of icu2012: users may name either."""
    if "record_id" not in _columns(path):
        return None
    others = sorted(file for file in path.parent.iterdir() if file.suffix.lower() == ".parquet" and file != path)
    return next((file for file in others if _format_of(file) is _BY_NAME["icu2012"]), None)


def _format_of(path: Path) -> Format | None:
    columns = set(_columns(path))
    return next((row for row in FORMATS if columns.issuperset(row.needs)), None)


def _columns(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() not in _SUFFIXES:
        raise BadReplay(f"is neither {' nor '.join(_SUFFIXES)}", path=path, accepted=ACCEPTED)
    if not path.is_file():
        raise BadReplay("file not found", path=path, accepted=ACCEPTED)
    try:
        return tuple(ds.dataset(path, format=path.suffix.lower().removeprefix(".")).schema.names)
    except (pa.ArrowException, OSError) as error:
        raise BadReplay(f"cannot be read ({_first_line(error)})", path=path, accepted=ACCEPTED) from error


def _refuse(path: Path) -> "Replay":
    columns = set(_columns(path))
    nearest = max(FORMATS, key=lambda row: len(columns & set(row.needs)) / len(row.needs))
    missing = [name for name in nearest.needs if name not in columns]
    problem = f"columns {', '.join(missing)} of the nearest format, {nearest.name}, are missing"
    raise BadReplay(problem, path=path, accepted=ACCEPTED, missing=missing)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


class _Line:
    """Linear interpolation between the charted points of one sign."""

    def __init__(self, points: Sequence[Point], max_gap_ms: int) -> None:
        self._at = [at_ms for at_ms, _ in points]
        self._values = [value for _, value in points]
        self._max_gap_ms = max_gap_ms

    def at(self, at_ms: int) -> float | None:
        after = bisect_right(self._at, at_ms)
        if after == 0:
            return None
        before = after - 1
        start_ms, value = self._at[before], self._values[before]
        if start_ms == at_ms:
            return value
        if after == len(self._at) or self._at[after] - start_ms > self._max_gap_ms:
            return None
        share = (at_ms - start_ms) / (self._at[after] - start_ms)
        # Charted values have three decimals at most, so rounding to three never leaves the neighbours' range.
        return round(value + share * (self._values[after] - value), 3)


def _sample(values: Mapping[VitalSign, float], *, at_ms: int, uptime_ms: int) -> VitalsV1:
    named: dict[str, Any] = {sign.value: value for sign, value in values.items()}
    if "consciousness" in named:
        named["consciousness"] = int(named["consciousness"])
    return VitalsV1(t_ms=at_ms, t_quality=int(ClockQuality.SYNCHRONISED), uptime_ms=uptime_ms, **named)


# --- from charts to points -------------------------------------------------------------------------------------------


def oxygen_of(fraction: float) -> float | None:
    """Supplemental oxygen in L/min from a charted fraction of inspired oxygen.

    Air is 0.21: 0 up to that, `NOMINAL_OXYGEN` above it. `None` for values below 0.15 or above 1, which are no
    fraction of a breathable gas but typing errors or percentages.
    """
    if not 0.15 <= fraction <= 1.0:
        return None
    return NOMINAL_OXYGEN if fraction > 0.21 else 0.0


_COMA_SCALE: Final = (
    (15, Consciousness.ALERT),
    (14, Consciousness.CONFUSION),
    (11, Consciousness.VOICE),
    (6, Consciousness.PAIN),
    (3, Consciousness.UNRESPONSIVE),
)


def consciousness_of(coma_scale: float) -> float | None:
    """ACVPU from a Glasgow Coma Scale: 15 is alert, anything less is not.

    The steps below follow the median coma scales of the AVPU grades (15, 13, 8 and 3; McNarry and Goldhill, Anaesthesia
    2004). A lower coma scale is not the same as *new* confusion, and in intensive care it is often sedation; but
    confusion of unknown age counts as new (RCP 2017), and missing a patient who is no longer awake is the worse
    mistake. So a replayed NEWS2 can be three points above what the ward at the time would have written.
    """
    if not 3 <= coma_scale <= 15:
        return None
    return float(next(grade for least, grade in _COMA_SCALE if coma_scale >= least))


def _as_charted(value: float) -> float | None:
    return value


_Reads: TypeAlias = tuple[VitalSign, Callable[[float], float | None]]

_SEPSIS_READS: Final[Mapping[str, _Reads]] = {
    "HR": (VitalSign.HEART_RATE, _as_charted),
    "Resp": (VitalSign.RESPIRATORY_RATE, _as_charted),
    "O2Sat": (VitalSign.SPO2, _as_charted),
    "Temp": (VitalSign.TEMPERATURE, _as_charted),
    "SBP": (VitalSign.SYSTOLIC_BP, _as_charted),
    "DBP": (VitalSign.DIASTOLIC_BP, _as_charted),
    "FiO2": (VitalSign.SUPPLEMENTAL_OXYGEN, oxygen_of),
}
# Where two rows give one sign at one moment the later row wins: a cuff before an arterial line, the ECG's heart rate
# before the pulse. SaO2 is arterial and rare, and the only saturation that icu2012 has.
_ICU_READS: Final[Mapping[str, _Reads]] = {
    "HR": (VitalSign.HEART_RATE, _as_charted),
    "RespRate": (VitalSign.RESPIRATORY_RATE, _as_charted),
    "SaO2": (VitalSign.SPO2, _as_charted),
    "Temp": (VitalSign.TEMPERATURE, _as_charted),
    "SysABP": (VitalSign.SYSTOLIC_BP, _as_charted),
    "DiasABP": (VitalSign.DIASTOLIC_BP, _as_charted),
    "NISysABP": (VitalSign.SYSTOLIC_BP, _as_charted),
    "NIDiasABP": (VitalSign.DIASTOLIC_BP, _as_charted),
    "FiO2": (VitalSign.SUPPLEMENTAL_OXYGEN, oxygen_of),
    "GCS": (VitalSign.CONSCIOUSNESS, consciousness_of),
}
_MINUTE_READS: Final[Mapping[str, _Reads]] = {
    "PULSE": (VitalSign.HEART_RATE, _as_charted),
    "HR": (VitalSign.HEART_RATE, _as_charted),
    "RESP": (VitalSign.RESPIRATORY_RATE, _as_charted),
    "SpO2": (VitalSign.SPO2, _as_charted),
    "NBPSys": (VitalSign.SYSTOLIC_BP, _as_charted),
    "NBPDias": (VitalSign.DIASTOLIC_BP, _as_charted),
}


class _Chart:
    """Collects what was charted of one stay."""

    def __init__(self, reads: Mapping[str, _Reads]) -> None:
        self._reads = reads
        self._rank = {column: rank for rank, column in enumerate(reads)}
        self._points: dict[VitalSign, dict[int, tuple[int, float]]] = {}
        self.unusable = 0

    def write(self, column: str, at_ms: int, value: float) -> None:
        sign, convert = self._reads[column]
        # Data sets store 32-bit floats: 36.7 comes as 36.70000076.
        usable = convert(round(value, 3)) if math.isfinite(value) else None
        if usable is None or not _representable(sign, usable):
            self.unusable += 1
            return
        moments = self._points.setdefault(sign, {})
        rank = self._rank[column]
        if at_ms not in moments or moments[at_ms][0] <= rank:
            moments[at_ms] = (rank, usable)

    def stay(self, stay_id: str, form: Format, *, labelled_ms: int | None = None) -> Stay:
        begin_ms = min((min(moments) for moments in self._points.values()), default=0)
        charted = {
            sign: tuple((at_ms - begin_ms, moments[at_ms][1]) for at_ms in sorted(moments))
            for sign, moments in self._points.items()
        }
        return Stay(
            stay_id=stay_id,
            source=form.name,
            charted=charted,
            max_gap_ms=form.max_gap_ms,
            max_temperature_gap_ms=form.max_temperature_gap_ms,
            unusable=self.unusable,
            labelled_ms=None if labelled_ms is None else max(0, labelled_ms - begin_ms),
        )


@lru_cache(maxsize=65_536)
def _representable(sign: VitalSign, value: float) -> bool:
    """Whether a reading can carry the value. The decoder of `wire` decides, so that bounds are written down once."""
    try:
        decode_vitals(encode(_sample({sign: value}, at_ms=0, uptime_ms=0)))
    except WireError:
        return False
    return True


def _chosen(ids: Sequence[Any], limit: int | None, seed: int) -> list[Any]:
    ordered = sorted(ids)
    return ordered if limit is None else random.Random(seed).sample(ordered, min(limit, len(ordered)))


def _table(path: Path, columns: Sequence[str], only: ds.Expression | None = None) -> pa.Table:
    """The columns of the rows that are wanted, whether the file is Parquet or CSV."""
    return ds.dataset(path, format=path.suffix.lower().removeprefix(".")).to_table(columns=list(columns), filter=only)


def _read_sepsis(path: Path, form: Format, limit: int | None, seed: int) -> list[Stay]:
    chosen = _chosen(_ids(path, "patient_id"), limit, seed)
    columns = _columns(path)
    label = [_LABEL] if _LABEL in columns else []
    about = [name for name in (_AGE, _SEX) if name in columns]
    table = _table(path, [*form.needs, *label, *about], ds.field("patient_id").isin(chosen))
    charts = {name: _Chart(_SEPSIS_READS) for name in chosen}
    stays, at_ms = table["patient_id"].to_pylist(), _times(table["hour"], _HOUR_MS)
    for column in _SEPSIS_READS:
        _write_column(table, column, stays, at_ms, charts)
    labelled: dict[Any, int] = {}
    if label:
        for name, moment, septic in zip(stays, at_ms, table[_LABEL].to_pylist(), strict=True):
            if septic == 1 and moment is not None:
                labelled[name] = min(moment, labelled.get(name, moment))
    known = {name: dict(zip(stays, _numbers(table[name]), strict=True)) for name in about}
    return [
        msgspec.structs.replace(
            charts[name].stay(str(name), form, labelled_ms=labelled.get(name)),
            age_years=known.get(_AGE, {}).get(name),
            is_male=_is_male(known.get(_SEX, {}).get(name)),
        )
        for name in chosen
    ]


def _is_male(code: float | None) -> bool | None:
    return {0.0: False, 1.0: True}.get(code) if code is not None else None


def _read_icu(path: Path, form: Format, limit: int | None, seed: int) -> list[Stay]:
    chosen = _chosen(_ids(path, "record_id"), limit, seed)
    wanted = ds.field("record_id").isin(chosen) & ds.field("parameter").isin(list(_ICU_READS))
    table = _table(path, form.needs, wanted)
    charts = {record: _Chart(_ICU_READS) for record in chosen}
    at_ms = _times(table["minute"], _MINUTE_MS)
    rows = (table["record_id"].to_pylist(), table["parameter"].to_pylist(), at_ms, _numbers(table["value"]))
    for record, parameter, moment, value in zip(*rows, strict=True):
        if moment is not None and value is not None:
            charts[record].write(parameter, moment, value)
    return [charts[record].stay(str(record), form) for record in chosen]


def _read_minute(path: Path, form: Format, limit: int | None, seed: int) -> list[Stay]:  # noqa: ARG001
    """Each file holds one patient, so there is nothing for the seed to choose."""
    if limit == 0:
        return []
    table = _table(path, form.needs)
    chart = _Chart(_MINUTE_READS)
    at_ms = _times(table["minute"], _MINUTE_MS)
    for column in _MINUTE_READS:
        _write_column(table, column, [path.stem] * len(at_ms), at_ms, {path.stem: chart})
    return [chart.stay(path.stem, form)]


_LABEL: Final = "SepsisLabel"
_AGE: Final = "Age"  # years
_SEX: Final = "Gender"  # 0 female, 1 male


def _ids(path: Path, column: str) -> list[Any]:
    found = _table(path, [column])[column].unique().to_pylist()
    return [name for name in found if name is not None]


def _write_column(
    table: pa.Table, column: str, stays: Sequence[Any], at_ms: Sequence[int | None], charts: Mapping[Any, _Chart]
) -> None:
    for stay, moment, value in zip(stays, at_ms, _numbers(table[column]), strict=True):
        if moment is not None and value is not None:
            charts[stay].write(column, moment, value)


def _numbers(column: pa.ChunkedArray) -> list[float | None]:
    """Values of a column; NaN, which data frames write for "not measured", becomes None."""
    return [
        None if value is None or math.isnan(value) else value for value in pc.cast(column, pa.float64()).to_pylist()
    ]


def _times(column: pa.ChunkedArray, unit_ms: int) -> list[int | None]:
    return [None if value is None else round(value * unit_ms) for value in _numbers(column)]


_READERS: Final[Mapping[str, Callable[[Path, Format, int | None, int], list[Stay]]]] = {
    "sepsis2019": _read_sepsis,
    "icu2012": _read_icu,
    "vitals_minute": _read_minute,
}
