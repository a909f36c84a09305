"""Recorded stays as wearables: charted vital signs of real patients, as readings at a wearable's cadence.

Three formats are known, told apart by their columns (`FORMATS`); their sources are listed in `docs/simulators.md`.

- Between two charted points of one sign that are not too far apart (the format's row says how far) values are
  interpolated linearly; before the first, after the last and inside longer gaps there is nothing.
- Blood pressures, oxygen and consciousness are not interpolated: each is given once, at the moment it was charted.
- Charting errors are passed on as charted, since judging quality is the edge's work; values that a reading cannot
  carry are left out and counted in `RecordedStay.unusable`.

Files are read by `models.patient_files`, as for every other command: `Replay.report` says what was found in them.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import BadPatientFile, BadReplay
from models.patient_files.columns import Column, OtherUnit, fraction_of_oxygen, of_sign, units_of
from models.patient_files.hourly import ABOUT, AGE, HOUR, ID, SEX, SIGNS, open_hourly, read_about
from models.patient_files.report import FileReport
from models.patient_files.table import Floats, PatientTable, is_parquet, parquet_names
from models.patient_files.text import TextRows, column_name, looks_like
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

LABELLED_BEFORE_MS: Final = 6 * _HOUR_MS
"""How long before the onset of sepsis the label of CinC 2019 begins."""

Point: TypeAlias = tuple[int, float]  # (milliseconds since the stay began, value as charted)


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One known layout of a file with recorded stays."""

    name: str
    needs: tuple[str, ...]  # columns
    instead: Mapping[str, str] = {}  # columns that another layout of the same values has
    max_gap_ms: int  # between two points of heart rate, respiratory rate or SpO2 that may be joined
    max_temperature_gap_ms: int = 6 * _HOUR_MS


FORMATS: Final = (
    Format(
        name="sepsis2019",
        needs=(ID, HOUR.name, "HR", "Resp", "O2Sat", "Temp", "SBP", "DBP", "FiO2"),
        instead={ID: "ICULOS", HOUR.name: "ICULOS"},  # as published, one file a patient
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


class RecordedStay(msgspec.Struct, frozen=True, kw_only=True):
    """The charted values of one patient, beginning with the first charted vital sign."""

    stay_id: str  # the pseudonym that the data set uses
    source: str  # name of the format
    charted: dict[VitalSign, tuple[Point, ...]]  # in order of time, one value per moment
    max_gap_ms: int
    max_temperature_gap_ms: int
    age_years: float | None = None
    is_male: bool | None = None
    unusable: int = 0  # charted values that no reading can carry
    superseded: int = 0  # charted values of which another one of the same sign and moment was used
    repeated: int = 0  # of these, different values of the same column
    labelled_ms: int | None = None  # from here on the data set calls the stay septic; for evaluation only
    is_labelled_first: bool = False  # so labelled from its first row on: when it began is not known

    @property
    def duration_ms(self) -> int:
        """From the first to the last charted value."""
        return max((points[-1][0] for points in self.charted.values() if points), default=0)

    @property
    def onset_ms(self) -> int | None:
        """When the sepsis began, for evaluation only; None: no sepsis, or it had begun before the record.

        The label of CinC 2019 is set from six hours before the onset on.
        """
        if self.labelled_ms is None or self.is_labelled_first:
            return None
        return self.labelled_ms + LABELLED_BEFORE_MS

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
        """Every moment of the cadence at which something may be known, and every moment with a value that is not
        interpolated. A gap costs nothing, however long it is."""
        spots = sorted(
            (at_ms, sign.value, value)
            for sign, points in self.charted.items()
            if sign not in _JOINED
            for at_ms, value in points
        )
        grid = (
            (at_ms, "", 0.0)
            for first_ms, last_ms in self._known_spans()
            for at_ms in range(-(-first_ms // cadence_ms) * cadence_ms, last_ms + 1, cadence_ms)
        )
        for at_ms, found in groupby(merge(grid, spots), key=lambda moment: moment[0]):
            yield at_ms, [(VitalSign(sign), value) for _, sign, value in found if sign]

    def _known_spans(self) -> list[tuple[int, int]]:
        """The spans in which an interpolated sign is known, in order and apart from each other."""
        spans = sorted(
            span
            for sign in _JOINED
            for points in (self.charted.get(sign, ()),)
            for span in (
                *((at_ms, at_ms) for at_ms, _ in points[:1]),
                *(
                    (first if second - first <= self._gap_ms(sign) else second, second)
                    for (first, _), (second, _) in pairwise(points)
                ),
            )
        )
        joined: list[tuple[int, int]] = []
        for first, last in spans:
            if joined and first <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], last)
            else:
                joined.append((first, last))
        return joined


class Replay:
    """One opened file, or folder, of recorded stays."""

    def __init__(self, path: Path, form: Format) -> None:
        self.path = path
        self.format = form
        self.report = FileReport(path.name)

    def stays(self, limit: int | None = None, seed: int = 0, *, units: Sequence[str] = ()) -> list[RecordedStay]:
        """A seeded choice of stays, in the order of the choice; without a limit all of them.

        `report` then says what was converted, refused and left out of the stays that were chosen.

        Args:
            units: units of columns as the user says them, such as `Temp=°F`.

        Raises:
            BadReplay: the file cannot be read to its end.
            BadUnit: a unit is not known.
        """
        self.report = FileReport(self.path.name)
        self.report.used = "unusable, sent as charted"
        self.report.used_of = {
            _OXYGEN.name: "left out",
            _COMA.name: "left out",
            AGE.name: "not used",
            SEX.name: "not used",
        }
        said = units_of(units, (*_READS_OF[self.format.name].values(), *ABOUT))
        try:
            stays = _READERS[self.format.name](_FileReading(self.path, self.format, self.report, said), limit, seed)
        except BadPatientFile as error:
            raise BadReplay(f"cannot be read: {error.problem}", path=self.path, accepted=ACCEPTED) from error
        for stay in stays:
            self.report.left_out += stay.unusable
            self.report.superseded += stay.superseded
            if stay.repeated:
                self.report.warn(
                    f"patient {stay.stay_id}: {stay.repeated}",
                    "charted values with a different one of the same column and moment in a later row, which counts",
                )
            if stay.unusable:
                self.report.warn(
                    f"patient {stay.stay_id}: {stay.unusable}", "charted values that no reading can carry, left out"
                )
        return stays


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
_SUFFIXES: Final = (".parquet", ".csv", ".psv", ".tsv")


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
    columns = _columns(path)
    return next((row for row in FORMATS if not _missing(row, columns)), None)


def _missing(form: Format, columns: frozenset[str]) -> list[str]:
    """The columns of a format that a file lacks."""
    missing = [name for name in form.needs if column_name(name) not in columns]
    if form.instead and all(column_name(form.instead.get(name, "")) in columns for name in missing):
        return []
    return missing


def _columns(path: Path) -> frozenset[str]:
    """The names of the columns, in small letters."""
    if not path.is_file():
        raise BadReplay("file not found", path=path, accepted=ACCEPTED)
    try:
        if path.suffix.lower() == ".json":
            TextRows(path, ())  # says that it is JSON
        if path.suffix.lower() not in _SUFFIXES:
            raise BadReplay(f"is neither {' nor '.join(_SUFFIXES)}", path=path, accepted=ACCEPTED)
        if is_parquet(path):
            return frozenset(map(column_name, parquet_names(path)))
        with TextRows(path, sorted({name for row in FORMATS for name in (*row.needs, *row.instead.values())})) as rows:
            return frozenset(map(column_name, rows.header))
    except BadPatientFile as error:
        raise BadReplay(f"cannot be read: {error.problem}", path=path, accepted=ACCEPTED) from error


def _refuse(path: Path) -> "Replay":
    columns = _columns(path)
    nearest = min(FORMATS, key=lambda row: len(_missing(row, columns)) / len(row.needs))
    missing = _missing(nearest, columns)
    problem = f"columns {', '.join(missing)} of the nearest format, {nearest.name}, are missing"
    hint = looks_like(tuple(columns))
    problem = f"{problem}; {hint}" if hint and len(missing) > 1 else problem
    raise BadReplay(problem, path=path, accepted=ACCEPTED, missing=missing)


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


_OXYGEN: Final = fraction_of_oxygen("FiO2")
_COMA: Final = Column(name="GCS", unit="points", low=3, high=15, sign=VitalSign.CONSCIOUSNESS)
_FROM_CHART: Final[Mapping[VitalSign, Callable[[float], float | None]]] = {
    VitalSign.SUPPLEMENTAL_OXYGEN: oxygen_of,
    VitalSign.CONSCIOUSNESS: consciousness_of,
}
"""Signs that are charted as something else."""

# Where two columns give one sign at one moment the later column wins: a cuff before an arterial line, the ECG's heart
# rate before the pulse. SaO2 is arterial and rare, and the only saturation that icu2012 has.
_READS_OF: Final[Mapping[str, Mapping[str, Column]]] = {
    form: {column.name: column for column in columns}
    for form, columns in {
        "sepsis2019": (*SIGNS.values(), _OXYGEN),
        "icu2012": (
            of_sign("HR", VitalSign.HEART_RATE),
            of_sign("RespRate", VitalSign.RESPIRATORY_RATE),
            of_sign("SaO2", VitalSign.SPO2),
            of_sign("Temp", VitalSign.TEMPERATURE),
            of_sign("SysABP", VitalSign.SYSTOLIC_BP),
            of_sign("DiasABP", VitalSign.DIASTOLIC_BP),
            of_sign("NISysABP", VitalSign.SYSTOLIC_BP),
            of_sign("NIDiasABP", VitalSign.DIASTOLIC_BP),
            _OXYGEN,
            _COMA,
        ),
        "vitals_minute": (
            of_sign("PULSE", VitalSign.HEART_RATE),
            of_sign("HR", VitalSign.HEART_RATE),
            of_sign("RESP", VitalSign.RESPIRATORY_RATE),
            of_sign("SpO2", VitalSign.SPO2),
            of_sign("NBPSys", VitalSign.SYSTOLIC_BP),
            of_sign("NBPDias", VitalSign.DIASTOLIC_BP),
        ),
    }.items()
}


class _Chart:
    """Collects what was charted of one stay."""

    def __init__(self, reads: Mapping[str, Column]) -> None:
        self._rank = {column: rank for rank, column in enumerate(reads)}
        self._points: dict[VitalSign, dict[int, tuple[int, float]]] = {}
        self.unusable = 0
        self.superseded = 0  # by another value of the same sign and moment
        self.repeated = 0  # of these, different values of the same column

    def write(self, column: Column, at_ms: int, value: float) -> None:
        if column.sign is None:
            return
        usable = _from_chart(column.sign, value)
        if usable is None or not _representable(column.sign, usable):
            self.unusable += 1
            return
        moments = self._points.setdefault(column.sign, {})
        rank = self._rank[column.name]
        self.superseded += at_ms in moments
        self.repeated += at_ms in moments and moments[at_ms][0] == rank and moments[at_ms][1] != usable
        if at_ms not in moments or moments[at_ms][0] <= rank:
            moments[at_ms] = (rank, usable)

    def stay(self, stay_id: str, form: Format, *, labelled_ms: int | None = None) -> RecordedStay:
        begin_ms = min((min(moments) for moments in self._points.values()), default=0)
        charted = {
            sign: tuple((at_ms - begin_ms, moments[at_ms][1]) for at_ms in sorted(moments))
            for sign, moments in self._points.items()
        }
        return RecordedStay(
            stay_id=stay_id,
            source=form.name,
            charted=charted,
            max_gap_ms=form.max_gap_ms,
            max_temperature_gap_ms=form.max_temperature_gap_ms,
            unusable=self.unusable,
            superseded=self.superseded,
            repeated=self.repeated,
            labelled_ms=None if labelled_ms is None else max(0, labelled_ms - begin_ms),
            is_labelled_first=labelled_ms is not None and labelled_ms <= begin_ms,
        )


@lru_cache(maxsize=65_536)
def _representable(sign: VitalSign, value: float) -> bool:
    """Whether a reading can carry the value. The decoder of `wire` decides, so that bounds are written down once."""
    try:
        decode_vitals(encode(_sample({sign: value}, at_ms=0, uptime_ms=0)))
    except WireError:
        return False
    return True


def _from_chart(sign: VitalSign, value: float) -> float | None:
    if not math.isfinite(value):
        return None
    convert = _FROM_CHART.get(sign)
    # Data sets store 32-bit floats: 36.7 comes as 36.70000076.
    return round(value, 3) if convert is None else convert(round(value, 3))


class _FileReading(msgspec.Struct, frozen=True):
    """One reading of a file: where, in which format, what is reported, which units the user says."""

    path: Path
    form: Format
    report: FileReport
    units: dict[str, OtherUnit]

    def table(self, optional: Sequence[str] = ()) -> PatientTable:
        return PatientTable.open(self.path, self.form.needs, optional, self.report)

    def times(self, table: PatientTable, column: Column, unit_ms: int) -> tuple[PatientTable, list[int]]:
        """The rows that have a time, and their times in milliseconds. A row without one is skipped and named."""
        found = table.read(column, FileReport(""))
        for at in np.flatnonzero(np.isnan(found)):
            self.report.skip(table.row_place(int(at)), f"column {column.name} is no time; give a number")
        known = np.flatnonzero(~np.isnan(found))
        table = table if len(known) == len(table) else table.take(known)
        return table, [round(value * unit_ms) for value in found[known]]

    def charted(self, table: PatientTable, column: Column, place: Callable[[int], str] | None = None) -> Floats:
        """The values of a column as charted: also those that are reported as unusable."""
        return table.read(column, self.report, place=place, unit=self.units.get(column.name), keep_refused=True)


def _chosen(ids: Sequence[str], limit: int | None, seed: int) -> list[int]:
    """Numbers of the chosen stays. Ids that are whole numbers are drawn in their order as numbers."""
    are_numbers = all(one.isdecimal() and str(int(one)) == one for one in ids)
    ordered = sorted(range(len(ids)), key=lambda at: int(ids[at]) if are_numbers else ids[at])
    return ordered if limit is None else random.Random(seed).sample(ordered, min(limit, len(ordered)))


def _read_sepsis(reading: _FileReading, limit: int | None, seed: int) -> list[RecordedStay]:
    reads, report = _READS_OF[reading.form.name], reading.report
    rows = open_hourly(reading.path, tuple(reads), (AGE.name, SEX.name, _LABEL), report)
    chosen = _chosen(rows.patients, limit, seed)
    if len(chosen) < len(rows.patients):
        report.not_chosen = len(rows.patients) - len(chosen)
        rows = rows.of(chosen)
    report.judged = len(rows.hours)
    charts = {patient: _Chart(reads) for patient in chosen}
    at_ms = [int(hour) * _HOUR_MS for hour in rows.hours]
    for column in reads.values():
        values = reading.charted(rows.table, column, rows.place)
        for at in np.flatnonzero(~np.isnan(values)):
            charts[int(rows.patient[at])].write(column, at_ms[at], float(values[at]))
    labelled: dict[int, int] = {}
    if _LABEL in rows.table:
        for at in np.flatnonzero(rows.table.raw(_LABEL) == 1):
            labelled.setdefault(int(rows.patient[at]), at_ms[at])
    ages, sexes = (read_about(rows, column, report) for column in ABOUT)
    return [
        msgspec.structs.replace(
            charts[patient].stay(rows.patients[patient], reading.form, labelled_ms=labelled.get(patient)),
            age_years=_known(ages[patient]),
            is_male=None if math.isnan(sexes[patient]) else bool(sexes[patient]),
        )
        for patient in chosen
    ]


def _marks(count: int, chosen: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Whether each number is chosen; the last one stands for -1, none."""
    marks = np.zeros(count + 1, bool)
    marks[list(chosen)] = True
    return marks


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _read_icu(reading: _FileReading, limit: int | None, seed: int) -> list[RecordedStay]:
    reads, report, table = _READS_OF[reading.form.name], reading.report, reading.table()
    records, ids = table.ids("record_id")
    parameters, names = table.codes("parameter")
    report.records += len(table)
    for at in np.flatnonzero(records < 0):
        report.skip(table.row_place(int(at)), "column record_id is empty; give every row its stay")
    chosen = _chosen(ids, limit, seed)
    known = {column_name(name): name for name in reads}
    wanted = [number for number, name in enumerate(names) if column_name(name) in known]
    for at in np.flatnonzero((records >= 0) & (parameters < 0)):
        report.skip(table.row_place(int(at)), "column parameter is empty; give every value its name")
    report.other = int((~_marks(len(names), wanted)[parameters] & (records >= 0) & (parameters >= 0)).sum())
    used = np.flatnonzero(_marks(len(ids), chosen)[records] & _marks(len(names), wanted)[parameters])
    report.not_chosen = len(ids) - len(chosen)
    table, at_ms = reading.times(table.take(used), _MINUTE, _MINUTE_MS)
    report.judged = len(table)
    records, ids_of = table.ids("record_id")
    parameters, names = table.codes("parameter")
    charts = {ids[number]: _Chart(reads) for number in chosen}
    named = [(parameter, known[column_name(name)]) for parameter, name in enumerate(names)]
    for parameter, name in sorted(named, key=lambda one: list(reads).index(one[1])):
        these = np.flatnonzero(parameters == parameter)
        part = table.take(these).renamed("value", name)
        values = reading.charted(part, reads[name])
        for at, value in zip(these, values, strict=True):
            if not math.isnan(value):
                charts[ids_of[records[at]]].write(reads[name], at_ms[at], float(value))
    return [charts[ids[number]].stay(ids[number], reading.form) for number in chosen]


def _read_minute(reading: _FileReading, limit: int | None, seed: int) -> list[RecordedStay]:  # noqa: ARG001
    """Each file holds one patient, so there is nothing for the seed to choose."""
    if limit == 0:
        return []
    reads = _READS_OF[reading.form.name]
    table = reading.table(_IDS)
    for name in _IDS:
        if name in table and len(set(table.texts(name))) > 1:
            problem = (
                f"column {name} has more than one patient; a file of {reading.form.name} is one patient's: split it"
            )
            raise BadPatientFile(reading.path.name, problem)
    reading.report.records += len(table)
    table, at_ms = reading.times(table, _MINUTE, _MINUTE_MS)
    reading.report.judged = len(table)
    chart = _Chart(reads)
    for column in reads.values():
        values = reading.charted(table, column)
        for at in np.flatnonzero(~np.isnan(values)):
            chart.write(column, at_ms[at], float(values[at]))
    return [chart.stay(reading.path.stem, reading.form)]


_LABEL: Final = "SepsisLabel"
_IDS: Final = (ID, "record_id", "subject_id", "patient")
"""Columns that may name a patient where the format has none."""
_MINUTE: Final = Column(name="minute", unit="min", low=-600_000_000, high=600_000_000, missing=())

_READERS: Final[Mapping[str, Callable[[_FileReading, int | None, int], list[RecordedStay]]]] = {
    "sepsis2019": _read_sepsis,
    "icu2012": _read_icu,
    "vitals_minute": _read_minute,
}
