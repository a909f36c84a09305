"""One installed version of the project, used from outside: its commands and its kernel."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

STREAMS: Final = Path(__file__).with_name("monitor_streams.py")
WITHIN_S: Final = 170.0
"""A command that runs longer than this has failed: none of the cases is long."""

Row = dict[str, str]


class Ran(NamedTuple):
    """What one command did."""

    status: int | None  # None: it was stopped, because it did not end
    told: str  # standard output and error
    printed: str  # standard output
    rows: list[Row]  # of the file that it wrote

    @property
    def fell_over(self) -> bool:
        return "Traceback (most recent call last)" in self.told or self.status is None

    def row(self, **wanted: str) -> list[Row]:
        """The rows with these values."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())]


class Replayed(NamedTuple):
    """What one `ward --replay` did."""

    ran: Ran
    summary: Mapping[str, Any]  # its last line, as JSON; empty if there is none
    alarms: Sequence[Mapping[str, Any]]  # every revision, with `second`: simulated seconds since the first reading
    readings: Sequence[Mapping[str, Any]]


class Product:
    """A checkout with its virtual environment.

    Args:
        root: folder of the checkout.
        inputs: folder of the input files.
    """

    def __init__(self, root: Path, inputs: Path) -> None:
        self._root = root
        self._inputs = inputs
        self._folder = Path(tempfile.mkdtemp(prefix="cases-"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_folder(self) -> Path:
        """A path for a folder that does not exist yet."""
        return self._folder / f"folder-{time.monotonic_ns()}"

    def run(self, *words: str | Path, within_s: float = WITHIN_S) -> Ran:
        """Run `vitalloom` with these words."""
        command = [str(self._root / ".venv/bin/vitalloom"), *map(str, words)]
        environment = os.environ | {"COLUMNS": "400", "NO_COLOR": "1"}
        try:
            done = subprocess.run(
                command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=within_s,
                env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Ran(None, f"did not end within {within_s:.0f} s", "", [])
        told = done.stdout + done.stderr
        for word in map(str, words):  # the name of a file says nothing of what was understood
            if "/" in word:
                told = told.replace(word, "FILE").replace(Path(word).name, "FILE")
        return Ran(done.returncode, told, done.stdout, [])

    def score(self, name: str) -> Ran:
        """`vitalloom score` of an input file."""
        ran = self.run("score", self._inputs / name)
        return ran._replace(rows=_rows(ran.printed))

    def predict(self, task: str, name: str) -> Ran:
        """`vitalloom predict` of an input file."""
        out = self._folder / f"{task}-{name}.csv"
        ran = self.run("predict", task, "--data", self._inputs / name, "--out", out)
        return ran._replace(rows=_rows(out.read_text()) if out.exists() else [])

    def replay(self, name: str, *options: str) -> Replayed:
        """`vitalloom ward --replay` of an input file, as fast as it goes."""
        data = self._folder / f"ward-{name}-{time.monotonic_ns()}"
        ran = self.run(
            "ward", "--replay", self._inputs / name, "--speed", "100000", "--headless", "--json", "--data", data,
            *options,
        )  # fmt: skip
        last = ran.printed.strip().splitlines()[-1:] or [""]
        summary = json.loads(last[0]) if last[0].startswith("{") else {}
        store = data / "store.sqlite"
        if not store.exists():
            return Replayed(ran, summary, [], [])
        with sqlite3.connect(store) as database:
            database.row_factory = sqlite3.Row
            readings = [dict(row) for row in database.execute("SELECT * FROM reading ORDER BY at_ms")]
            start_ms = readings[0]["at_ms"] if readings else 0
            alarms = [
                dict(row) | {"second": (row["at_ms"] - start_ms) / 1_000}
                for row in database.execute("SELECT * FROM alarm ORDER BY at_ms, revision")
            ]
        return Replayed(ran, summary, alarms, readings)

    @cached_property
    def streams(self) -> Mapping[str, Mapping[str, Any]]:
        """What the kernel makes of every stream in `monitor_streams`."""
        done = subprocess.run(
            [self._root / ".venv/bin/python", STREAMS], cwd=self._root, capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": str(self._root)},
        )  # fmt: skip
        return {one["stream"]: one for one in map(json.loads, done.stdout.splitlines())}


def _rows(text: str) -> list[Row]:
    lines = text.splitlines()
    return list(csv.DictReader(lines)) if lines and "," in lines[0] else []
