"""The command `vitalloom predict`: what the released models say of recorded patients, through the edge's own runtime.

Row by row as at a bedside: one step of the network for each hour, and nothing of a later one.
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
    """`patient_id, hour, score, alarm`, a row for each row of `data`.

    `alarm` is 1 where the model would speak: the score is at its threshold or above, and it does not abstain. The score
    is there all the same.

    Raises:
        BadRecordings, ModelUnavailable.
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
        title=model.artifact,
    )


def stay(model: SepsisModel, hours: Hours, at: int) -> Iterator[tuple[int, float, bool]]:
    """(hour, score, whether the model would raise an alarm) of one patient, step by step."""
    age, male = float(hours.ages[at]), float(hours.males[at])
    patient = model.patient(
        age_years=None if math.isnan(age) else age, is_male=None if math.isnan(male) else bool(male)
    )
    for row in range(int(hours.starts[at]), int(hours.ends[at])):
        at_ms = int(hours.hours[row]) * HOUR_MS
        values = _measured(hours, row)
        doubt = model.doubt(patient, at_ms, values)
        score = model.step(patient, at_ms, values)
        yield int(hours.hours[row]), score, doubt is None and score >= model.threshold


def heart(
    data: Path, out: Path, *, form: Form = Form.CLINIC, models: Path = RELEASED, keys: tuple[str, ...] = RELEASE_KEYS
) -> int:
    """`row_id, score`, a row for each patient of `data`. The site is not read.

    Raises:
        BadRecordings, ModelUnavailable.
    """
    rows = read_heart(data)
    model = HeartModel(load(models / HEART_NAMES[form], trusted=keys))
    return _write(
        out,
        ("row_id", "score"),
        ((row_id, f"{model.score(patient):.6f}") for row_id, patient in zip(rows.row_ids, rows.patients, strict=True)),
        total=len(rows.row_ids),
        title=model.artifact,
    )


def rhythm(data: Path, out: Path, *, models: Path = RELEASED, keys: tuple[str, ...] = RELEASE_KEYS) -> int:
    """`record, label, score_N, score_A, score_O, score_noisy`, a row for each recording of `data`.

    Raises:
        BadRecordings, ModelUnavailable.
    """
    model = RhythmModel(load(models / "rhythm", trusted=keys))

    def rows() -> Iterator[tuple[object, ...]]:
        for record in read_ecg(data):
            said = model.judge(record.millivolts, record.sampling_rate_hz, explain=False)
            yield (record.record, said.label, *(f"{score:.6f}" for score in said.scores))

    names = ("record", "label", *(f"score_{'noisy' if name == '~' else name}" for name in CLASSES))
    return _write(out, names, rows(), total=None, title=model.artifact)


TASKS: Final = ("sepsis", "heart", "rhythm")


def main(task: str, data: Path, out: Path, *, form: str, models: Path | None, keys: tuple[str, ...]) -> int:
    """Say what a model says.

    Raises:
        BadRecordings: no such task, or data that cannot be read.
        ModelUnavailable: the model is not what it should be.
    """
    if task not in TASKS:
        raise BadRecordings(data, f"no model is called {task!r}; known are {', '.join(TASKS)}")
    folder, believed = models or RELEASED, (*RELEASE_KEYS, *keys)
    if task == "heart":
        if form not in tuple(Form):
            raise BadRecordings(data, f"--form {form!r}: say {' or '.join(Form)}")
        return heart(data, out, form=Form(form), models=folder, keys=believed)
    return (sepsis if task == "sepsis" else rhythm)(data, out, models=folder, keys=believed)


def _measured(hours: Hours, row: int) -> dict[VitalSign, float]:
    values = hours.values[row]
    return {sign: float(value) for sign, value in zip(INPUTS, values, strict=True) if not np.isnan(value)}


def _write(
    out: Path, names: tuple[str, ...], rows: Iterable[tuple[object, ...]], *, total: int | None, title: Artifact
) -> int:
    """Write a table; half of one is no table, so it appears when it is whole."""
    console = Console(stderr=True)
    half = out.with_name(f"{out.name}.part")
    count = 0
    try:
        with half.open("w", newline="", encoding="utf-8") as file, Progress(console=console) as bars:
            bar = bars.add_task(title.title, total=total)
            writer = csv.writer(file)
            writer.writerow(names)
            for row in rows:
                writer.writerow(row)
                count += 1
                if count % 500 == 0:
                    bars.update(bar, completed=count)
            bars.update(bar, completed=count, total=count)
        half.replace(out)
    except OSError as error:
        raise BadRecordings(out, f"cannot be written ({error.strerror})") from error
    finally:
        half.unlink(missing_ok=True)
    console.print(f"{count:,} rows in {out}, by {title.title}")
    return 0
