"""Files of patients as people write them: made-up valid files, each changed in one way, and what must stay true.

Every mutation says what it is: `same` (the same content in other clothes: every record gives the same result), `told`
(some cells are wrong: they are named, and the other records give the same result), or `refused` (nobody can tell what
is meant: one sentence, status 2). `python -m tests.file_mutations` counts the cases that fail, by command.
"""

import csv
import io
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

import vitalloom

Rows: TypeAlias = list[dict[str, Any]]
Results: TypeAlias = dict[str, tuple[str, ...]]


class Said(NamedTuple):
    """What a command did with a file."""

    status: int
    results: Results  # by record
    text: str
    trace: str  # of an error that nobody foresaw


class Mutation(NamedTuple):
    """One way in which a file is written or wrong.

    Args:
        change: the changed rows, the ids of the records that differ in content, and words that must be said.
        write: how the rows become a file; None: as the command usually reads it.
    """

    name: str
    kind: str  # same, told or refused
    change: "Callable[[Rows, random.Random], tuple[Rows, set[str], tuple[str, ...]]]"
    write: Callable[[Rows, Path], Path] | None = None


class Door(NamedTuple):
    """A command that reads files."""

    name: str
    made_up: Callable[[random.Random], Rows]
    key: str  # the column of a record's name
    write: Callable[[Rows, Path], Path]
    run: Callable[[Path, Path], Said]
    mutations: tuple[Mutation, ...]


def failures(door: Door, mutation: Mutation, seed: int) -> list[str]:
    """What is not true of one case."""
    rng = random.Random(f"{door.name} {mutation.name} {seed}")
    rows = door.made_up(rng)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        clean = door.run(door.write(rows, home / "clean"), home / "clean.out")
        assert (clean.status, clean.trace) == (0, ""), clean
        changed, differ, words = mutation.change([dict(row) for row in rows], rng)
        said = door.run((mutation.write or door.write)(changed, home / "changed"), home / "changed.out")
    wrong = []
    if said.trace:
        return [f"traceback: {said.trace}"]
    if mutation.kind == "refused":
        return [] if said.status == 2 and said.text.count("\n") <= 2 else [f"status {said.status}: {said.text[:200]}"]
    if said.status == 2:
        return [f"refused: {said.text[:200]}"]
    for name, result in clean.results.items():
        if name not in differ and said.results.get(name) != result:
            wrong.append(f"{name}: {result} became {said.results.get(name)}")
    wrong += [f"{word!r} is not said in {said.text[:300]!r}" for word in words if word not in said.text]
    return wrong


# --- running ---------------------------------------------------------------------------------------------------------


def invoke(*arguments: str) -> tuple[int, str, str, str]:
    """Status, output, errors and an unforeseen error of a command, in this process."""
    done = CliRunner().invoke(vitalloom.command_line(arguments[0]), list(arguments), prog_name="vitalloom")
    error = done.exception
    if error is None or isinstance(error, SystemExit):
        return done.exit_code, done.stdout, done.stderr, ""
    if vitalloom._foreseen(error):
        return 2, done.stdout, f"{done.stderr}vitalloom: {error}\n", ""
    return 1, done.stdout, done.stderr, repr(error)


def read_csv(path: Path, delimiter: str = ",") -> Rows:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def run_predict(task: str, key: str, fields: tuple[str, ...]) -> Callable[[Path, Path], Said]:
    def run(data: Path, out: Path) -> Said:
        status, _, errors, trace = invoke("predict", task, "--data", str(data), "--out", str(out))
        results: dict[str, list[str]] = {}
        for row in read_csv(out):
            if not row.get("piece"):
                results.setdefault(row[key], []).extend(row[field] for field in fields)
        return Said(status, {name: tuple(one) for name, one in results.items()}, errors, trace)

    return run


def run_score(data: Path, out: Path) -> Said:
    status, _, errors, trace = invoke("score", str(data), "--out", str(out))
    text = out.read_text(encoding="utf-8-sig") if out.is_file() else ""
    delimiter = max(",;\t|", key=text.partition("\n")[0].count)
    fields = ("news2", "news2_at_least", "news2_missing", "qsofa", "sirs", "mews")
    found = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = [{name.strip().lower(): cell or "" for name, cell in row.items() if name} for row in found]
    return Said(status, {row["id"]: tuple(row[field] for field in fields) for row in rows}, errors, trace)


def run_replay(data: Path, out: Path) -> Said:
    from simulators.stories import Recorded

    try:
        story = Recorded(data, patients=100, seed=1, cadence_ms=1_800_000)
        charted = {stay.stay_id: repr((stay.charted, stay.age_years, stay.is_male)) for _, stay in story._starts}
    except Exception as error:  # noqa: BLE001 - what is not foreseen is the finding
        return Said(2, {}, f"vitalloom: {error}\n", "" if vitalloom._foreseen(error) else repr(error))
    report = getattr(story, "report", None)
    text = "" if report is None else "\n".join(report.lines())
    if report is not None:
        points = sum(len(points) for _, stay in story._starts for points in stay.charted.values())
        counted = points + report.superseded + report.left_out + report.as_dict()["missing_codes"]
        about = sum(report._values[name] for name in ("Age", "Gender"))
        about_codes = sum(
            n for (name, one, _), n in report._counts.items() if name in ("Age", "Gender") and one == "missing"
        )
        if counted - about_codes != report.values - about:
            return Said(
                1, {}, text, f"{report.values - about} values, of which {counted - about_codes} are accounted for"
            )
    return Said(0, {name: (one,) for name, one in charted.items()}, text, "")


# --- writing ---------------------------------------------------------------------------------------------------------


def as_csv(
    delimiter: str = ",", encoding: str = "utf-8", end: str = "\n", *, comma: bool = False, sep: bool = False,
    quote: int = csv.QUOTE_MINIMAL, names: Callable[[str], str] = str, suffix: str = ".csv",
) -> Callable[[Rows, Path], Path]:  # fmt: skip
    def write(rows: Rows, stem: Path) -> Path:
        path = stem.with_suffix(suffix)
        with path.open("w", newline="", encoding=encoding) as file:
            if sep:
                file.write(f"sep={delimiter}{end}")
            writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quote)  # type: ignore[arg-type]
            writer.writerow([names(name) for name in rows[0]])
            for row in rows:
                writer.writerow([_cell(value, comma=comma) for value in row.values()])
        return path

    return write


def _cell(value: Any, *, comma: bool) -> str:
    if value is None:
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace(".", ",") if comma and isinstance(value, float) else text


def as_parquet(types: dict[str, Any] | None = None, names: Callable[[str], str] = str) -> Callable[[Rows, Path], Path]:
    def write(rows: Rows, stem: Path) -> Path:
        path = stem.with_suffix(".parquet")
        columns = {}
        for name in rows[0]:
            cells = [row[name] for row in rows]
            kind = (types or {}).get(name)
            if kind is not None and pa.types.is_string(kind):
                cells = [None if cell is None else _cell(cell, comma=False) for cell in cells]
            columns[names(name)] = pa.array(cells, kind)
        pq.write_table(pa.table(columns), path)
        return path

    return write


def as_parquet_text(rows: Rows, stem: Path) -> Path:
    """All columns as text."""
    return as_parquet({name: pa.string() for name in rows[0]})(rows, stem)


# --- changes ---------------------------------------------------------------------------------------------------------

Change: TypeAlias = Callable[[Rows, random.Random], tuple[Rows, set[str], tuple[str, ...]]]


def unchanged(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    return rows, set(), ()


def shuffled(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    rng.shuffle(rows)
    return rows, set(), ()


def reordered(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    names = list(rows[0])
    rng.shuffle(names)
    return [{"comment": "x, y", **{name: row[name] for name in names}} for row in rows], set(), ()


def instead_of_nothing(columns: tuple[str, ...], codes: tuple[Any, ...]) -> Change:
    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        code = rng.choice(codes)
        return [{k: code if k in columns and v is None else v for k, v in row.items()} for row in rows], set(), ()

    return change


def one_cell(key: str, columns: tuple[str, ...], values: tuple[Any, ...], *, told: bool = True) -> Change:
    """One cell of one record holds something else."""

    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        row, column = rng.choice(rows), rng.choice(columns)
        row[column] = rng.choice(values)
        return rows, {str(row[key])}, (column,) if told else ()

    return change


def lost(key: str, column: str) -> Change:
    """A record without the column that names it, or its time."""

    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        row = rng.choice(rows)
        name = str(row[key])
        row[column] = None
        return rows, {name}, (column,)

    return change


def scaled(columns: tuple[str, ...], by: Callable[[float], float], words: tuple[str, ...], key: str) -> Change:
    """Every value of one column of one record in another unit."""

    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        column = rng.choice(columns)
        having = [row for row in rows if row[column] is not None]
        if not having:
            return rows, set(), ()
        name = rng.choice(having)[key]
        for row in having:
            if row[key] == name:
                row[column] = by(row[column])
        return rows, {str(name)}, (column, *words)

    return change


def mapped(column: str, values: dict[Any, Any]) -> Change:
    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        return [row | {column: values.get(row[column], row[column])} for row in rows], set(), ()

    return change


def doubled(column: str) -> Change:
    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        return [{**row, f" {column.swapcase()} ": row[column]} for row in rows], set(), ()

    return change


def without(column: str) -> Change:
    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        return [{k: v for k, v in row.items() if k != column} for row in rows], set(), ()

    return change


def emptied(column: str) -> Change:
    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        return [row | {column: None} for row in rows], set(), ()

    return change


def reversed_pressures(key: str, systolic: str, diastolic: str) -> Change:
    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        row = rng.choice(rows)
        row[systolic], row[diastolic] = 70.0, 120.0
        return rows, {str(row[key])}, (systolic,)

    return change


def a_torn_row(rows: Rows, stem: Path) -> Path:
    path = as_csv()(rows, stem)
    path.write_text(path.read_text(encoding="utf-8") + "torn,1\n", encoding="utf-8")
    return path


def numbers_without_a_zero(rows: Rows, stem: Path) -> Path:
    """As other programs write numbers: `.5` and `90.`"""
    path = as_csv()(rows, stem)
    text = re.sub(r"(?<=[,])0(?=[.][0-9])", "", path.read_text(encoding="utf-8"))
    path.write_text(re.sub(r"(?<=,)([0-9]{2,3})(?=,)", r"\1.", text), encoding="utf-8")
    return path


def long_numbers(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    """Two more patients whose names are numbers that differ in the eighth digit only."""
    more = [
        row | {"patient_id": name, "HR": rate}
        for name, rate in (("1234567.25", 60.0), ("1234567.75", 160.0))
        for row in rows
        if row["patient_id"] == "p1"
    ]
    return [*rows, *more], set(), ()


def unnamed(key: str) -> Change:
    """A record whose name is a word for "not known"."""

    def change(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
        row = rng.choice(rows)
        name = str(row[key])
        row[key] = rng.choice(("NA", "nan", "NULL", "None", "<NA>"))
        return rows, {name}, (key, "not judged")

    return change


def apart(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    """The ages of one patient are those of two people."""
    rows[0]["Age"] = rows[0]["Age"] + 20
    return rows, {rows[0]["patient_id"]}, ("Age", "two values for the same patient")


def pressures_of_two_rows(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    """A later row of the same hour brings a systolic pressure that is below the diastolic one of the first."""
    row = rng.choice(rows)
    row["SBP"], row["DBP"] = 120.0, 80.0
    rows.append(row | {"SBP": 70.0, "DBP": None})
    return rows, {row["patient_id"]}, ("not above DBP",)


def of_a_copy(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    """The codes of well-known copies of the data set, in which the same digit means something else."""
    names = {str(row["row_id"]) for row in rows}
    for row, cp in zip(rows, (0.0, 1.0, 2.0, 3.0, 1.0, 2.0), strict=True):
        row["cp"] = cp
    return rows, names, ("column cp: all 6 values not used", "copies of the data set")


CLOTHES = (
    Mutation("rows in another order", "same", shuffled),
    Mutation("columns in another order", "same", reordered),
    Mutation("names in capitals, with blanks", "same", unchanged, as_csv(names=lambda name: f" {name.upper()} ")),
    Mutation("semicolons and decimal commas", "same", unchanged, as_csv(";", comma=True)),
    Mutation("tabs", "same", unchanged, as_csv("\t")),
    Mutation("pipes", "same", unchanged, as_csv("|")),
    Mutation("byte-order mark, CRLF", "same", unchanged, as_csv(encoding="utf-8-sig", end="\r\n")),
    Mutation("UTF-16 of a spreadsheet program", "same", unchanged, as_csv("\t", encoding="utf-16", end="\r\n")),
    Mutation("Excel's sep= line", "same", unchanged, as_csv(";", sep=True, comma=True)),
    Mutation("everything quoted", "same", unchanged, as_csv(quote=csv.QUOTE_ALL)),
)
TORN = Mutation("a torn row", "told", lambda rows, _: (rows, set(), ("row",)), a_torn_row)


# --- the commands ----------------------------------------------------------------------------------------------------

SIGNS = ("HR", "O2Sat", "Temp", "Resp", "SBP", "DBP")


def hours(rng: random.Random) -> Rows:
    """Hours of a few patients, with gaps. One patient is `7`, another `007`."""
    rows: Rows = []
    for patient in ("7", "007", "p1", "p2"):
        age, sex = float(rng.randint(20, 90)), float(rng.randint(0, 1))
        for hour in range(rng.randint(3, 6)):
            values = (80, 96, 37.1, 18, 125, 70)
            signs = {
                name: round(value * rng.uniform(0.97, 1.03), 1) if rng.random() < 0.8 else None
                for name, value in zip(SIGNS, values, strict=True)
            }
            rows.append({"patient_id": patient, "hour": float(hour), **signs, "FiO2": 0.4, "Age": age, "Gender": sex})
    return rows


def fahrenheit(value: float) -> float:
    return round(value * 1.8 + 32, 2)


HOURS = (
    Mutation("codes for not measured", "same", instead_of_nothing(SIGNS, (-9.0, -1.0, 999.0, -99.0))),
    Mutation("sex as letters", "same", mapped("Gender", {1.0: "M", 0.0: "F"})),
    Mutation("sex as words", "same", mapped("Gender", {1.0: "male", 0.0: "Female"})),
    Mutation("Fahrenheit", "told", scaled(("Temp",), fahrenheit, ("°F",), "patient_id")),
    Mutation("tenths of a degree", "told", scaled(("Temp",), lambda value: value * 10, (), "patient_id")),
    Mutation("saturation as a fraction", "told", scaled(("O2Sat",), lambda value: value / 100, (), "patient_id")),
    Mutation("impossible values", "told", one_cell("patient_id", SIGNS, (-50.0, 4_000.0, 7_777.0, float("inf")))),
    Mutation("sex 2", "told", one_cell("patient_id", ("Gender",), (2.0, 3.0, 5.0))),
    Mutation("impossible ages", "told", one_cell("patient_id", ("Age",), (300.0, 130.0, -7.0))),
    Mutation("no patient", "told", lost("patient_id", "patient_id")),
    Mutation("no hour", "told", lost("patient_id", "hour")),
    Mutation("a column twice", "refused", doubled("HR")),
    Mutation("no name of the patient in a word", "told", unnamed("patient_id")),
    Mutation("names that are long numbers", "same", long_numbers),
    Mutation("two ages", "told", apart),
)

ATTRIBUTES = ("trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal")


def patients(rng: random.Random) -> Rows:
    rows: Rows = []
    for name in ("7", "007", "a", "b", "c", "d"):
        row: dict[str, Any] = {
            "row_id": name, "age": float(rng.randint(30, 80)), "sex": float(rng.randint(0, 1)),
            "cp": float(rng.randint(1, 4)), "trestbps": float(rng.randint(100, 180)),
            "chol": float(rng.randint(120, 400)), "fbs": float(rng.randint(0, 1)),
            "restecg": float(rng.randint(0, 2)), "thalach": float(rng.randint(90, 190)),
            "exang": float(rng.randint(0, 1)), "oldpeak": rng.randint(0, 40) / 10, "slope": float(rng.randint(1, 3)),
            "ca": float(rng.randint(0, 3)), "thal": float(rng.choice((3, 6, 7))), "target": float(rng.randint(0, 1)),
        }  # fmt: skip
        rows.append({k: None if k in ATTRIBUTES and rng.random() < 0.2 else v for k, v in row.items()})
    return rows


HEART = (
    *CLOTHES,
    Mutation("codes for not measured", "same", instead_of_nothing(ATTRIBUTES, (-9.0, "NA", "?", "-99", "n/a", 9999.0))),
    Mutation("sex as letters", "same", mapped("sex", {1.0: "M", 0.0: "F"})),
    Mutation("no target", "same", without("target")),
    Mutation("an empty target", "same", emptied("target")),
    Mutation("cholesterol in mmol/L", "told", scaled(("chol",), lambda value: value / 38.67, ("mmol/L",), "row_id")),
    Mutation(
        "impossible values", "told", one_cell("row_id", ("age", "sex", "cp", *ATTRIBUTES), (-50.0, 4_000.0, 77.5))
    ),
    Mutation("words", "told", one_cell("row_id", ("age", "sex", "cp", *ATTRIBUTES), ("old", "1.2.3", "=A1", "1e400"))),
    Mutation("a column twice", "refused", doubled("chol")),
    Mutation("codes of a copy", "told", of_a_copy),
    Mutation("numbers without a zero", "same", unchanged, numbers_without_a_zero),
    TORN,
)

VITALS = (
    "respiratory_rate",
    "spo2",
    "supplemental_oxygen",
    "systolic_bp",
    "heart_rate",
    "consciousness",
    "temperature",
)


def vitals(rng: random.Random) -> Rows:
    rows: Rows = []
    for name in ("7", "007", "a", "b", "c", "d"):
        row: dict[str, Any] = {
            "id": name, "respiratory_rate": float(rng.randint(8, 30)), "spo2": float(rng.randint(85, 100)),
            "spo2_scale": 1,
            "supplemental_oxygen": float(rng.randint(0, 1)), "systolic_bp": float(rng.randint(100, 200)),
            "diastolic_bp": float(rng.randint(50, 90)), "heart_rate": float(rng.randint(45, 140)),
            "consciousness": rng.choice("ACVPU"), "temperature": round(rng.uniform(35, 40), 1),
        }  # fmt: skip
        rows.append({k: None if k in VITALS and rng.random() < 0.15 else v for k, v in row.items()})
    return rows


def extreme(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    """The sickest patient of all: every value beyond what is usual. Nothing is said, because nothing is wrong."""
    rows.append(
        {"id": "dying", "respiratory_rate": 0.0, "spo2": 42.0, "spo2_scale": 1, "supplemental_oxygen": 1.0,
         "systolic_bp": 35.0, "diastolic_bp": 15.0, "heart_rate": 15.0, "consciousness": "U", "temperature": 24.0}
    )  # fmt: skip
    return rows, set(), ()


SCORE = (
    *CLOTHES,
    Mutation(
        "codes for not measured", "same", instead_of_nothing(VITALS, (-9.0, "NA", "?", -1.0, 999.0, "nan", "NULL"))
    ),
    Mutation("an extreme patient", "same", extreme),
    Mutation("Fahrenheit", "told", scaled(("temperature",), fahrenheit, ("°F",), "id")),
    Mutation("saturation as a fraction", "told", scaled(("spo2",), lambda value: value / 100, (), "id")),
    Mutation("impossible values", "told", one_cell("id", VITALS[:2] + VITALS[3:5], (-50.0, 4_000.0, 7_777.0, "1e400"))),
    Mutation("words", "told", one_cell("id", VITALS, ("high", "12 bpm", "X", "1.2.3", "=A1"))),
    Mutation("pressures the wrong way round", "told", reversed_pressures("id", "systolic_bp", "diastolic_bp")),
    Mutation("a column twice", "refused", doubled("spo2")),
    Mutation("numbers without a zero", "same", unchanged, numbers_without_a_zero),
    Mutation("UTF-32", "refused", unchanged, as_csv(encoding="utf-32")),
    TORN,
)


def waves(rng: random.Random) -> Rows:
    from tests.models.made_up import heartbeat_mv

    return [
        {"record": f"r{at}", "fs": 300, "uv_per_step": 5.0,
         "signal": np.round(heartbeat_mv(irregular=at % 2 == 1, seconds=10 + at, seed=at) / 0.005).tolist()}
        for at in range(3)
    ]  # fmt: skip


def flat_first(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    """A regular rhythm after a flat line of 4 to 7 s."""
    row = rng.choice(rows[::2])
    row["signal"] = [0.0] * rng.randint(1_200, 2_000) + row["signal"]
    return rows, {row["record"]}, ("flat line", row["record"])


def flat_join(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    """A pause of 3.5 to 5 s in a recording of 80 s, of which each of two pieces has less than 3 s."""
    from tests.models.made_up import heartbeat_mv

    row = rows[0]
    wave = np.round(heartbeat_mv(irregular=False, seconds=80, seed=1) / 0.005).tolist()
    size = rng.randint(1_050, 1_500)
    at = 9_000 - size // 2
    row["signal"] = [*wave[:at], *[wave[at]] * size, *wave[at:]]
    return rows, {row["record"]}, ("flat line", row["record"])


def hole(rows: Rows, rng: random.Random) -> tuple[Rows, set[str], tuple[str, ...]]:
    row = rng.choice(rows)
    at = rng.randrange(len(row["signal"]))
    row["signal"] = [*row["signal"][:at], rng.choice((None, float("nan"), float("inf"))), *row["signal"][at:]]
    return rows, {row["record"]}, (row["record"],)


WAVES = (
    Mutation("rows in another order", "same", shuffled),
    Mutation("columns in another order", "same", reordered),
    Mutation("rate as text", "same", unchanged, as_parquet({"fs": pa.string()})),
    Mutation(
        "rate as a decimal number", "same", unchanged, as_parquet({"fs": pa.float64(), "uv_per_step": pa.float32()})
    ),
    Mutation("no signal", "told", one_cell("record", ("signal",), (None, []), told=False)),
    Mutation("no rate", "told", one_cell("record", ("fs",), (None, 0, -300))),
    Mutation(
        "a rate in words", "told", one_cell("record", ("fs",), ("300 Hz", "fast", "")), as_parquet({"fs": pa.string()})
    ),
    Mutation("no unit", "told", one_cell("record", ("uv_per_step",), (None, 0.0, -5.0, float("nan")))),
    Mutation("volts", "told", one_cell("record", ("uv_per_step",), (5e-6, 1e-5), told=False)),
    Mutation("a sample is no number", "told", hole),
    Mutation("a flat line", "told", flat_first),
    Mutation("a flat line across two pieces", "told", flat_join),
    Mutation("a signal that is text", "refused", unchanged, as_parquet({"signal": pa.string()})),
)

REPLAY = (
    *CLOTHES,
    *(one for one in HOURS if one.name != "impossible values"),
    Mutation("oxygen in percent", "same", mapped("FiO2", {0.4: 40.0})),
    Mutation("impossible values", "told", one_cell("patient_id", SIGNS, (-50.0, 4_000.0, 7_777.0))),
    Mutation("words", "told", one_cell("patient_id", SIGNS, ("high", "12 bpm", "X"))),
    TORN,
)

DOORS = (
    Door("score", vitals, "id", as_csv(), run_score, SCORE),
    Door(
        "predict sepsis", hours, "patient_id", as_parquet(),
        run_predict("sepsis", "patient_id", ("hour", "score", "alarm")),
        (
            *CLOTHES,
            *HOURS,
            Mutation("every column as text", "same", unchanged, as_parquet_text),
            Mutation("words", "told", one_cell("patient_id", SIGNS, ("high", "12 bpm", "X")), as_parquet_text),
            Mutation("pressures the wrong way round", "told", reversed_pressures("patient_id", "SBP", "DBP")),
            Mutation("pressures of two rows", "told", pressures_of_two_rows),
            Mutation("numbers without a zero", "same", unchanged, numbers_without_a_zero),
        ),
    ),
    Door("predict heart", patients, "row_id", as_csv(), run_predict("heart", "row_id", ("score",)), HEART),
    Door(
        "predict rhythm", waves, "record", as_parquet(),
        run_predict("rhythm", "record", ("label", "score_N", "score_A", "score_O", "score_noisy")), WAVES,
    ),
    Door("ward --replay", hours, "patient_id", as_csv(), run_replay, REPLAY),
)  # fmt: skip

SEEDS = 4

ODD_TYPES: tuple[Callable[[int], Any], ...] = (
    lambda count: pa.array([True, None] * count, pa.bool_()),
    lambda count: pa.array([b"x"] * 2 * count, pa.binary()),
    lambda count: pa.array([1_000_000] * 2 * count, pa.timestamp("us")),
    lambda count: pa.array([1] * 2 * count, pa.duration("s")),
    lambda count: pa.array([[1.0]] * 2 * count, pa.list_(pa.float64())),
    lambda count: pa.array([["x", None]] * 2 * count, pa.list_(pa.string())),
    lambda count: pa.array([{"a": 1}] * 2 * count),
    lambda count: pa.array([1, None] * count, pa.uint64()),
    lambda count: pa.array(np.ones(2 * count, np.float16)),
    lambda count: pa.array([None] * 2 * count, pa.null()),
    lambda count: pa.array(["1", None] * count).dictionary_encode(),
    lambda count: pa.array([1.5, None] * count).dictionary_encode(),
    lambda count: pa.array([1, 2] * count, pa.date32()),
    lambda count: pa.array([1, None] * count, pa.decimal128(5, 1)),
    lambda count: pa.array(["1,5", ""] * count, pa.large_string()),
)
"""Columns of every type that Parquet knows, of twice so many rows as are needed."""


def with_odd_type(door: Door, seed: int) -> str:
    """The traceback of a file with a column of a type that nobody expects; empty: none."""
    rng = random.Random(f"{door.name} type {seed}")
    rows = door.made_up(rng)
    with tempfile.TemporaryDirectory() as folder:
        path = as_parquet()(rows, Path(folder) / "odd")
        table = pq.read_table(path)
        column = rng.choice(table.column_names)
        odd = rng.choice(ODD_TYPES)(len(table))[: len(table)]
        pq.write_table(table.set_column(table.column_names.index(column), column, odd), path)
        return door.run(path, Path(folder) / "out").trace


def with_damage(door: Door, seed: int) -> str:
    """The traceback of a file with some damaged bytes; empty: none."""
    rng = random.Random(f"{door.name} bytes {seed}")
    with tempfile.TemporaryDirectory() as folder:
        write = as_parquet() if door.name != "score" and rng.random() < 0.5 else door.write
        path = write(door.made_up(rng), Path(folder) / "damaged")
        path.write_bytes(_damaged(bytearray(path.read_bytes()), rng))
        return door.run(path, Path(folder) / "out").trace


def _damaged(raw: bytearray, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(raw)) for _ in range(2))
    how = rng.choice(("flip", "cut", "insert", "reverse", "repeat"))
    if how == "flip":
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    elif how == "cut":
        del raw[last:]
    elif how == "insert":
        raw[last:last] = rng.choice((b'"', b"\0", b",,", b"\xff", b"\n\n", b'"\n'))
    elif how == "reverse":
        raw[first:last] = raw[first:last][::-1]
    else:
        raw[first:first] = raw[first:last]
    return bytes(raw)


def cases() -> Iterator[tuple[Door, Mutation, int]]:
    for door in DOORS:
        for mutation in door.mutations:
            for seed in range(SEEDS):
                yield door, mutation, seed


def main() -> None:
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    traces = 0
    for door, mutation, seed in cases():
        tried[door.name] += 1
        try:
            wrong = failures(door, mutation, seed)
        except Exception as error:  # noqa: BLE001
            wrong = [f"test: {error!r}"]
        if wrong:
            failed[door.name] += 1
            traces += wrong[0].startswith("traceback")
            if "-v" in sys.argv:
                print(f"{door.name} / {mutation.name} / {seed}: {wrong[0][:300]}")  # noqa: T201
    for what in (with_odd_type, with_damage):
        for door in DOORS:
            tried[f"{door.name}, {what.__name__}"] = 40
            for seed in range(40):
                found = what(door, seed)
                if found:
                    failed[f"{door.name}, {what.__name__}"] += 1
                    traces += 1
                    if "-v" in sys.argv:
                        print(f"{door.name} / {what.__name__} / {seed}: {found[:300]}")  # noqa: T201
    for name, count in tried.items():
        print(f"{name}: {failed[name]} of {count} cases fail")  # noqa: T201
    print(f"all: {failed.total()} of {tried.total()}, {traces} of them with a traceback")  # noqa: T201


if __name__ == "__main__":
    main()
