"""The work of `vitalloom predict`: score recorded patients with the same code as an edge.

Rows are processed in order: one step of the network for each hour, without knowledge of later hours.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from rich.console import Console
from rich.progress import Progress

from models.artifacts import RELEASED, Artifact, load
from models.errors import BadRecordings
from models.heart import NAMES as HEART_NAMES
from models.heart import HeartModel
from models.heart_features import Form
from models.passport import RELEASE_KEYS
from models.recordings import Hours, read_ecg, read_heart, read_hours
from models.rhythm import CLASSES, RhythmModel
from models.sepsis import SepsisModel
from models.sepsis_features import HOUR_MS, INPUTS
from vitals.signs import VitalSign

Advance: TypeAlias = Callable[[], None]


def sepsis(data: Path, out: Path, *, models: Path = RELEASED, keys: tuple[str, ...] = RELEASE_KEYS) -> int:
    """Write `patient_id, hour, score, alarm`, one row for each row of `data`.

    `alarm` is 1 if the score reaches the model's threshold and the model does not abstain. A score is written in any
    case.

    Raises:
        BadRecordings: the data cannot be read.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    hours = read_hours(data)
    model = SepsisModel(load(models / "sepsis", trusted=keys))
    return _write(
        out,
        ("patient_id", "hour", "score", "alarm"),
        (
            (hours.patients[at], hour, f"{score:.6f}", int(alarm))
            for at in range(len(hours.patients))
            for hour, score, alarm in stay(model, hours, at)
        ),
        total=len(hours.hours),
        model=model.artifact,
    )


def stay(model: SepsisModel, hours: Hours, at: int) -> Iterator[tuple[int, float, bool]]:
    """(hour, score, whether the model raises an alarm) for each step of one patient."""
    age, male = float(hours.ages[at]), float(hours.males[at])
    patient = model.patient(
        age_years=None if math.isnan(age) else age, is_male=None if math.isnan(male) else bool(male)
    )
    for row in range(int(hours.starts[at]), int(hours.ends[at])):
        at_ms = int(hours.hours[row]) * HOUR_MS
        values = _measured(hours, row)
        abstention = model.abstention(patient, at_ms, values)
        score = model.step(patient, at_ms, values)
        yield int(hours.hours[row]), score, abstention is None and score >= model.threshold


def heart(
    data: Path, out: Path, *, form: Form = Form.CLINIC, models: Path = RELEASED, keys: tuple[str, ...] = RELEASE_KEYS
) -> int:
    """Write `row_id, score`, one row for each patient of `data`. The hospital is not used.

    Raises:
        BadRecordings: the data cannot be read.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    rows = read_heart(data)
    model = HeartModel(load(models / HEART_NAMES[form], trusted=keys))
    return _write(
        out,
        ("row_id", "score"),
        ((row_id, f"{model.score(patient):.6f}") for row_id, patient in zip(rows.row_ids, rows.patients, strict=True)),
        total=len(rows.row_ids),
        model=model.artifact,
    )


def rhythm(data: Path, out: Path, *, models: Path = RELEASED, keys: tuple[str, ...] = RELEASE_KEYS) -> int:
    """Write `record, label, score_N, score_A, score_O, score_noisy`, one row for each recording of `data`.

    Raises:
        BadRecordings: the data cannot be read.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    model = RhythmModel(load(models / "rhythm", trusted=keys))

    def rows() -> Iterator[tuple[object, ...]]:
        for record in read_ecg(data):
            found = model.judge(record.millivolts, record.sampling_rate_hz, explain=False)
            yield (record.record, found.label, *(f"{score:.6f}" for score in found.scores))

    names = ("record", "label", *(f"score_{'noisy' if name == '~' else name}" for name in CLASSES))
    return _write(out, names, rows(), total=None, model=model.artifact)


TASKS: Final = ("sepsis", "heart", "rhythm")


def main(task: str, data: Path, out: Path, *, form: str, models: Path | None, keys: tuple[str, ...]) -> int:
    """Run `vitalloom predict` and return its exit code.

    Raises:
        BadRecordings: unknown task or form, or data that cannot be read.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    if task not in TASKS:
        raise BadRecordings(data, f"there is no model {task!r}; use {', '.join(TASKS)}")
    folder, trusted = models or RELEASED, (*RELEASE_KEYS, *keys)
    if task == "heart":
        if form not in tuple(Form):
            raise BadRecordings(data, f"--form {form!r} is not valid; use {' or '.join(Form)}")
        return heart(data, out, form=Form(form), models=folder, keys=trusted)
    return (sepsis if task == "sepsis" else rhythm)(data, out, models=folder, keys=trusted)


def _measured(hours: Hours, row: int) -> dict[VitalSign, float]:
    values = hours.values[row]
    return {sign: float(value) for sign, value in zip(INPUTS, values, strict=True) if not np.isnan(value)}


def _write(
    out: Path, names: tuple[str, ...], rows: Iterable[tuple[object, ...]], *, total: int | None, model: Artifact
) -> int:
    """Write the rows as CSV. The file appears under its name only when it is complete."""
    console = Console(stderr=True)
    part = out.with_name(f"{out.name}.part")
    count = 0
    try:
        with part.open("w", newline="", encoding="utf-8") as file, Progress(console=console) as bars:
            bar = bars.add_task(f"scoring with {model.title}", total=total)
            writer = csv.writer(file)
            writer.writerow(names)
            for row in rows:
                writer.writerow(row)
                count += 1
                if count % 500 == 0:
                    bars.update(bar, completed=count)
            bars.update(bar, completed=count, total=count)
        part.replace(out)
    except OSError as error:
        raise BadRecordings(out, f"cannot write the file ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)
    console.print(f"{count:,} rows scored with {model.title}, written to {out}")
    return 0
