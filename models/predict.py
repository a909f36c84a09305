"""The work of `vitalloom predict`: score recorded patients with the same code as an edge.

Rows are processed in order: one step of the network for each hour, without knowledge of later hours. Each row has a
note with what is to be said beside the score: why the model abstains, or why a recording is not judged.
"""

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from models.artifacts import RELEASED, Artifact, load
from models.errors import BadRecordings
from models.heart import NAMES as HEART_NAMES
from models.heart import HeartModel
from models.heart_features import Form
from models.passport import RELEASE_KEYS
from models.patient_files.columns import Column, OtherUnit, units_of
from models.patient_files.ecg import EcgRecord, read_ecg
from models.patient_files.hourly import ABOUT, SIGNS
from models.patient_files.output import new_file
from models.patient_files.report import FileReport
from models.recordings import HEART_COLUMNS, Hours, read_heart, read_hours
from models.rhythm import CLASSES, Rhythm, RhythmModel, flat_text
from models.rhythm_signal import flat_joins_s, pieces
from models.sepsis import SepsisModel
from models.sepsis_features import HOUR_MS, INPUTS
from vitals.signs import VitalSign


class Prediction(NamedTuple):
    """What `vitalloom predict` is asked for.

    Args:
        data: file of recorded patients.
        out: CSV file to write.
        units: units of columns as the user says them.
        keys: trusted release keys.
    """

    data: Path
    out: Path
    models: Path = RELEASED
    keys: tuple[str, ...] = RELEASE_KEYS
    form: Form = Form.CLINIC
    units: Mapping[str, OtherUnit] = {}


def sepsis(task: Prediction) -> FileReport:
    """Write `patient_id, hour, score, alarm, note`, one row for each patient and hour of the data.

    `alarm` is 1 if the score reaches the model's threshold and the model does not abstain. A score is written in any
    case; the note is the reason for which the model abstains, and which values were converted or refused.

    Raises:
        BadRecordings: the data cannot be read.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    report = FileReport(task.data.name)
    hours = read_hours(task.data, report=report, units=task.units)
    model = SepsisModel(load(task.models / "sepsis", trusted=task.keys))
    names = ("patient_id", "hour", "score", "alarm", "note")

    def rows() -> Iterator[tuple[object, ...]]:
        for at in range(len(hours.patients)):
            for hour, score, alarm, abstention in stay(model, hours, at):
                report.judged += 1
                report.abstained += abstention is not None
                notes = report.pop_notes(f"patient {hours.patients[at]}, hour {hour}")
                note = "; ".join(notes if abstention is None else (f"abstains: {abstention}", *notes))
                yield hours.patients[at], hour, f"{score:.6f}", int(alarm), note

    _write(task, names, rows(), total=len(hours.hours), model=model.artifact)
    return report


class ScoredHour(NamedTuple):
    """One step of one patient."""

    hour: int
    score: float
    alarm: bool
    abstention: str | None  # the reason; None: the model does not abstain


def stay(model: SepsisModel, hours: Hours, at: int) -> Iterator[ScoredHour]:
    """Each step of one patient."""
    age, male = float(hours.ages[at]), float(hours.males[at])
    patient = model.patient(
        age_years=None if math.isnan(age) else age, is_male=None if math.isnan(male) else bool(male)
    )
    for row in range(int(hours.starts[at]), int(hours.ends[at])):
        at_ms = int(hours.hours[row]) * HOUR_MS
        values = _measured(hours, row)
        abstention = model.abstention(patient, at_ms, values)
        score = model.step(patient, at_ms, values)
        yield ScoredHour(int(hours.hours[row]), score, abstention is None and score >= model.threshold, abstention)


def heart(task: Prediction) -> FileReport:
    """Write `row_id, score, note`, one row for each patient of the data. The hospital is not used.

    A model that abstains gives no score; the note is the reason.

    Raises:
        BadRecordings: the data cannot be read.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    report = FileReport(task.data.name)
    found = read_heart(task.data, report=report, units=task.units)
    model = HeartModel(load(task.models / HEART_NAMES[task.form], trusted=task.keys))

    def rows() -> Iterator[tuple[object, ...]]:
        for row_id, place, patient in zip(found.row_ids, found.places, found.patients, strict=True):
            abstention, notes = model.abstention(patient), report.pop_notes(place)
            report.judged += 1
            report.abstained += abstention is not None
            if abstention is None:
                yield row_id, f"{model.score(patient):.6f}", "; ".join(notes)
            else:
                yield row_id, "", "; ".join((f"abstains: {abstention}", *notes))

    _write(task, ("row_id", "score", "note"), rows(), total=len(found.row_ids), model=model.artifact)
    return report


def rhythm(task: Prediction) -> FileReport:
    """Write `record, label, score_N, score_A, score_O, score_noisy, piece, from_s, to_s, note`.

    One row for each recording of the data. A recording that is longer than `MAX_S` is judged in pieces of 30 s, each of
    which has a row after that of the recording: see `of_pieces` for the label of the whole.

    Raises:
        BadRecordings: the data cannot be read.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    report = FileReport(task.data.name, "recordings")
    model = RhythmModel(load(task.models / "rhythm", trusted=task.keys))

    def rows() -> Iterator[tuple[object, ...]]:
        for record in read_ecg(task.data, report=report):
            yield from _judged(model, record, report)

    scores = (f"score_{'noisy' if name == '~' else name}" for name in CLASSES)
    _write(
        task,
        ("record", "label", *scores, "piece", "from_s", "to_s", "note"),
        rows(),
        total=None,
        model=model.artifact,
    )
    return report


def of_pieces(found: Sequence[Rhythm], flat: Sequence[tuple[float, float]] = ()) -> Rhythm:
    """The rhythm of a whole recording from that of its pieces; nothing found in a piece is outvoted by the others.

    The label is A if any piece is A, else O if any is O, else none if any is not judged, else ~ if any is ~, else N.
    The scores are those of the piece with the highest score for that label.

    Args:
        flat: flat lines across the ends of pieces, in seconds; with one of them the whole is not N or ~ either.
    """
    counts = {label: sum(one.label == label for one in found) for label in (*CLASSES, "")}
    label = next(label for label in ("A", "O", "", "~", "N") if counts[label] or (flat and not label))
    said = ", ".join(f"{label or 'not judged'} {count}" for label, count in counts.items() if count)
    reasons = [f"piece {number}: {one.reason}" for number, one in enumerate(found, start=1) if one.reason]
    reasons += [f"{'' if label else 'not judged: '}{flat_text(*span)} (seconds of the recording)" for span in flat]
    more = (f"and {len(reasons) - MOST_REASONS} more",) if len(reasons) > MOST_REASONS else ()
    note = "; ".join((f"{len(found)} pieces: {said}", *reasons[:MOST_REASONS], *more))
    if not label:
        return Rhythm("", (math.nan,) * 4, note)
    at = CLASSES.index(label)
    return Rhythm(label, max((one.scores for one in found if one.label == label), key=lambda one: one[at]), note)


MOST_REASONS: Final = 3
"""Of so many pieces the note of the whole gives the reason; each piece has its own row."""
TASKS: Final[tuple[str, ...]] = ("sepsis", "heart", "rhythm")
_COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "sepsis": (*SIGNS.values(), *ABOUT),
    "heart": HEART_COLUMNS,
    "rhythm": (),
}


def main(
    task: str,
    data: Path,
    out: Path,
    *,
    form: str,
    models: Path | None,
    keys: tuple[str, ...],
    units: Sequence[str] = (),
    as_json: bool = False,
) -> int:
    """Run `vitalloom predict` and return its exit code: 0 if every record was judged, 1 if one was not.

    Raises:
        BadRecordings: unknown task or form, or data that cannot be read.
        BadUnit: a unit is not known.
        ModelUnavailable: the model is not trusted or cannot run.
    """
    if task not in TASKS:
        raise BadRecordings(data, f"there is no model {task!r}; use {', '.join(TASKS)}")
    if form not in tuple(Form):
        raise BadRecordings(data, f"--form {form!r} is not valid; use {' or '.join(Form)}")
    asked = Prediction(
        data,
        out,
        models or RELEASED,
        (*RELEASE_KEYS, *keys),
        Form(form),
        units_of(units, _COLUMNS[task]),
    )
    report = {"sepsis": sepsis, "heart": heart, "rhythm": rhythm}[task](asked)
    _tell(report)
    if as_json:
        sys.stdout.write(json.dumps(report.as_dict(), ensure_ascii=False) + "\n")
    return report.status


def _tell(report: FileReport) -> None:
    merged = f", {report.merged} added to an earlier row" if report.merged else ""
    totals = f"{report.records:,} {report.noun} of {report.source}: {report.judged:,} judged"
    sys.stderr.write(f"{totals}, of these {report.abstained:,} abstained{merged}; {report.skipped:,} not judged\n")
    for line in report.lines():
        sys.stderr.write(f"  {line}\n")


def _judged(model: RhythmModel, record: EcgRecord, report: FileReport) -> Iterator[tuple[object, ...]]:
    """The row of a recording, and the rows of its pieces if it has several."""
    if record.problem:
        report.skip(f"record {record.record}", record.problem)
        yield (record.record, *[""] * 8, f"not judged: {record.problem}")
        return
    rate_hz = record.sampling_rate_hz
    parts = pieces(len(record.millivolts), rate_hz)
    found = [model.judge(record.millivolts[first:end], rate_hz, explain=False) for first, end in parts]
    whole = found[0] if len(parts) == 1 else of_pieces(found, flat_joins_s(record.millivolts, rate_hz, parts))
    if whole.label:
        report.judged += 1
    else:
        report.skip(f"record {record.record}", whole.reason.removeprefix("not judged: "))
    yield (record.record, *_shown(whole), "", *_span(0, len(record.millivolts), rate_hz), whole.reason)
    if len(parts) > 1:
        for number, ((first, end), one) in enumerate(zip(parts, found, strict=True), start=1):
            yield (record.record, *_shown(one), number, *_span(first, end, rate_hz), one.reason)


def _shown(found: Rhythm) -> tuple[str, ...]:
    return (found.label, *(f"{score:.6f}" if found.label else "" for score in found.scores))


def _span(first: int, end: int, rate_hz: int) -> tuple[str, str]:
    return f"{first / rate_hz:g}", f"{end / rate_hz:g}"


def _measured(hours: Hours, row: int) -> dict[VitalSign, float]:
    values = hours.values[row]
    return {sign: float(value) for sign, value in zip(INPUTS, values, strict=True) if not np.isnan(value)}


def _write(
    task: Prediction, names: tuple[str, ...], rows: Iterable[tuple[object, ...]], *, total: int | None, model: Artifact
) -> None:
    """Write the rows as CSV. The file appears under its name only when it is complete."""
    console = Console(stderr=True)
    count = 0
    with new_file(task.out, source=task.data) as file, Progress(console=console) as bars:
        bar = bars.add_task(f"scoring with {model.title}", total=total)
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            writer.writerow(row)
            count += 1
            if count % 500 == 0:
                bars.update(bar, completed=count)
        bars.update(bar, completed=count, total=count)
    console.print(f"{count:,} rows scored with {model.title}, written to {task.out}")
