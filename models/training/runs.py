"""Training runs: from recorded patients to draft releases, the folds first, then the final model on all patients.

Every finished net is saved in the working folder, so an interrupted run resumes after the last one. The models of the
folds are exported in the same form as the final one: the evaluation uses the same files as an edge.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.errors import BadRun
from models.heart import NAMES as HEART_NAMES
from models.heart_features import Form, features
from models.patient_files.ecg import read_ecg
from models.recordings import FOLDS, Hours, folds_of, read_heart, read_hours, read_icu
from models.rhythm import CLASSES
from models.rhythm_signal import Ecg, prepare
from models.sepsis_features import HOUR_MS, INPUTS, NAMES, SepsisFeatures
from models.training.drafts import heart_description, rhythm_description, sepsis_description, write_draft
from models.training.export import Calibration, export_heart, export_rhythm, export_sepsis
from models.training.heart import HeartNet, HeartRecipe, fit_heart
from models.training.progress import OnStep, Step
from models.training.rhythm import BeatNet, RhythmNet, RhythmRecipe, WaveNet, fit_beats, fit_waves
from models.training.sepsis import HEAD_MIX, SepsisMembers, SepsisNet, SepsisRecipe, TrainingStays, fit_sepsis

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Net = TypeVar("Net", bound=nn.Module)
StartProgress: TypeAlias = Callable[[str], OnStep]
"""Start a progress bar with a title; the result moves it."""
Fit: TypeAlias = Callable[..., nn.Module]


class Run(NamedTuple):
    """One training run.

    Args:
        work: working folder, made on demand.
        folds: folds to train, counted from 0; `FOLDS` is the final model on all patients. The assignment of patients
            to folds does not depend on this choice.
    """

    data: Path
    work: Path
    seed: int
    device: str
    folds: tuple[int, ...]
    command: str
    start_progress: StartProgress
    without_ages: bool = False  # sepsis: an ablation
    second: Path | None = None  # sepsis: the folder of icu2012, as a second task


def train_sepsis(run: Run, recipe: SepsisRecipe) -> None:
    """Train, calibrate and export the sepsis model.

    Raises:
        BadRecordings, BadRun: the data have no labels, or the folder holds another run.
    """
    hours = read_hours(run.data)
    if hours.labels is None:
        raise BadRun(run.data, "has no column SepsisLabel to learn from")
    _check_same_run(run, recipe._asdict())
    rows = sepsis_features(hours, run.work, run.start_progress)
    second = None if run.second is None else _second_task(run, run.second)
    stays = TrainingStays(without_ages(rows) if run.without_ages else rows, hours.labels, hours.starts, hours.ends)
    folds = folds_of(np.maximum.reduceat(hours.labels, hours.starts), seed=run.seed)
    for fold in run.folds:
        _fit_members(run, recipe, fold, stays.subset(np.flatnonzero(folds != fold)), second)

    def net_of(fold: int) -> SepsisMembers:
        return SepsisMembers(
            [_load(_empty_sepsis(recipe), run.work / f"net-{fold}-{at}.pt") for at in range(recipe.members)]
        )

    lengths = (hours.ends - hours.starts).tolist()
    logits = _out_of_fold(run, folds, lambda fold, mine: _sepsis_logits(net_of(fold), stays.subset(mine)), lengths)
    calibration = platt(logits, hours.labels.astype(np.float64))
    description = sepsis_description(
        patients=len(hours.patients),
        hours=len(hours.hours),
        hidden=recipe.hidden * recipe.members,
        second_task=second is not None,
        bounds=_bounds(hours),
    )
    for fold in run.folds:
        exported = export_sepsis(net_of(fold), calibration)
        write_draft(run.work, fold, exported, description, command=run.command, seed=run.seed)


def _second_task(run: Run, folder: Path) -> TrainingStays:
    """Stays of icu2012 with death in hospital as label."""
    icu = read_icu(folder)
    rows = sepsis_features(icu, run.work, run.start_progress, file="features-second.npy")
    return TrainingStays(rows, icu.labels if icu.labels is not None else icu.starts, icu.starts, icu.ends)


def _fit_members(run: Run, recipe: SepsisRecipe, fold: int, stays: TrainingStays, second: TrainingStays | None) -> None:
    for member in range(recipe.members):

        def fit(member: int = member) -> nn.Module:
            return fit_sepsis(
                stays,
                recipe,
                seed=1_000 * run.seed + 100 * fold + member,
                device=run.device,
                second=second,
                ages=not run.without_ages,
                on_step=run.start_progress(f"sepsis, {_title(fold)}, net {member + 1} of {recipe.members}"),
            )

        _train_unless_saved(run.work / f"net-{fold}-{member}.pt", fit)


def _bounds(hours: Hours) -> dict[str, tuple[float, float]]:
    """The range of each sign that holds all but 0.1 % of its values at each end."""
    low, high = np.nanquantile(hours.values, [0.001, 0.999], axis=0)
    return {sign.value: (float(a), float(b)) for sign, a, b in zip(INPUTS, low, high, strict=True)}


def train_heart(run: Run, recipe: HeartRecipe, form: Form) -> None:
    """Train, calibrate and export a heart model.

    Raises:
        BadRecordings, BadRun: the data have no labels, or the folder holds another run.
    """
    patients = read_heart(run.data)
    if patients.labels is None:
        raise BadRun(run.data, "has no column target to learn from")
    labels, name = patients.labels, HEART_NAMES[form]
    _check_same_run(run, {**recipe._asdict(), "form": form.value})
    rows = np.array([features(form, patient) for patient in patients.patients])
    folds = folds_of(labels, seed=run.seed)
    for fold in run.folds:

        def fit(fold: int = fold) -> nn.Module:
            return fit_heart(
                form,
                rows[folds != fold],
                labels[folds != fold],
                recipe,
                seed=1_000 * run.seed + fold,
                device=run.device,
                on_step=run.start_progress(f"{name}, {_title(fold)}"),
            )

        _train_unless_saved(run.work / f"net-{fold}.pt", fit)

    def net_of(fold: int) -> HeartNet:
        width = rows.shape[1]
        empty = HeartNet(torch.zeros(width), torch.ones(width), torch.zeros(width, width), recipe)
        return _load(empty, run.work / f"net-{fold}.pt")

    @torch.no_grad()
    def logits_of(fold: int, mine: Ints) -> npt.NDArray[np.float64]:
        return net_of(fold)(torch.tensor(rows[mine], dtype=torch.float32)).numpy().astype(np.float64)  # type: ignore[no-any-return]

    calibration = platt(_out_of_fold(run, folds, logits_of, [1] * len(labels)), labels.astype(np.float64))
    description = heart_description(form, name, patients=len(labels))
    for fold in run.folds:
        exported = export_heart(net_of(fold), calibration)
        write_draft(run.work, fold, exported, description, command=run.command, seed=run.seed)


def train_rhythm(run: Run, recipe: RhythmRecipe) -> None:
    """Train and export the rhythm model.

    Raises:
        BadRecordings, BadRun: the data have no labels, or the folder holds another run.
    """
    ecgs, labels = rhythm_recordings(run.data, run.start_progress)
    _check_same_run(run, recipe._asdict())
    folds = folds_of(labels, seed=run.seed)
    description = rhythm_description(recordings=len(labels))
    for fold in run.folds:
        mine = np.flatnonzero(folds != fold)
        for part, fit_part in (("waves", fit_waves), ("beats", fit_beats)):

            def fit(fit_part: Fit = fit_part, part: str = part, fold: int = fold, mine: Ints = mine) -> nn.Module:
                return fit_part(
                    [ecgs[at] for at in mine],
                    labels[mine],
                    recipe,
                    seed=1_000 * run.seed + fold,
                    device=run.device,
                    on_step=run.start_progress(f"rhythm, {_title(fold)}, {part}"),
                )

            _train_unless_saved(run.work / f"{part}-{fold}.pt", fit)
    for fold in run.folds:
        waves, beats = run.work / f"waves-{fold}.pt", run.work / f"beats-{fold}.pt"
        exported = export_rhythm(RhythmNet(_load(WaveNet(), waves), _load(BeatNet(), beats)))
        write_draft(run.work, fold, exported, description, command=run.command, seed=run.seed)


def without_ages(rows: Floats) -> Floats:
    """The rows with every value's age set to 0, as if it had been measured in this hour."""
    changed = np.array(rows)
    changed[:, [place for place, name in enumerate(NAMES) if name.endswith(".age_h")]] = 0
    return changed


def sepsis_features(hours: Hours, work: Path, start_progress: StartProgress, *, file: str = "features.npy") -> Floats:
    """Features of each row, [N, F]; cached in the working folder, because computing them takes minutes."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / file
    if path.is_file() and (kept := np.load(path, mmap_mode="r")).shape == (len(hours.hours), len(NAMES)):
        return np.asarray(kept)
    on_step = start_progress("features")
    rows = np.empty((len(hours.hours), len(NAMES)), np.float32)
    for at, (start, end) in enumerate(zip(hours.starts, hours.ends, strict=True)):
        for place, step in enumerate(steps_of(hours, at), start=int(start)):
            rows[place] = step
        if at % 200 == 0 or at + 1 == len(hours.starts):
            on_step(Step(int(end), len(rows), 0.0))
    np.save(path, rows)
    return rows


def steps_of(hours: Hours, patient: int) -> Iterator[list[float]]:
    """The features of one patient, hour by hour."""
    age, male = float(hours.ages[patient]), float(hours.males[patient])
    made = SepsisFeatures(age_years=None if np.isnan(age) else age, is_male=None if np.isnan(male) else bool(male))
    for row in range(int(hours.starts[patient]), int(hours.ends[patient])):
        yield made.step(int(hours.hours[row]) * HOUR_MS, dict(zip(INPUTS, hours.values[row].tolist(), strict=True)))


def rhythm_recordings(data: Path, start_progress: StartProgress) -> tuple[list[Ecg], Ints]:
    """Prepared recordings and their classes, as indices into `CLASSES`."""
    on_step = start_progress("recordings")
    ecgs: list[Ecg] = []
    labels: list[int] = []
    for record in read_ecg(data):
        if record.label not in CLASSES:
            raise BadRun(data, f"record {record.record} has no label to learn from; known are {', '.join(CLASSES)}")
        ecgs.append(prepare(record.millivolts, record.sampling_rate_hz))
        labels.append(CLASSES.index(record.label))
        on_step(Step(len(ecgs), max(len(ecgs) + 1, 7_249), 0.0))
    return ecgs, np.asarray(labels, np.int64)


def platt(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> Calibration:
    """Slope and offset that turn logits into probabilities (Platt, 1999), by Newton's method."""
    slope, offset = 1.0, float(np.log(labels.mean() / (1 - labels.mean())) - logits.mean())
    for _ in range(50):
        chance = 1 / (1 + np.exp(-(slope * logits + offset)))
        weight = chance * (1 - chance)
        gradient = np.array([((chance - labels) * logits).sum(), (chance - labels).sum()])
        curvature = np.array(
            [[(weight * logits**2).sum(), (weight * logits).sum()], [(weight * logits).sum(), weight.sum()]]
        )
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        slope, offset = slope - step[0], offset - step[1]
        if float(np.abs(step).max()) < 1e-9:
            break
    return Calibration(float(slope), float(offset))


def _title(fold: int) -> str:
    return "all patients" if fold == FOLDS else f"fold {fold + 1} of {FOLDS}"


def _check_same_run(run: Run, recipe: Mapping[str, Any]) -> None:
    """A working folder belongs to one recipe, one seed and one data set.

    Raises:
        BadRun: it holds another run.
    """
    run.work.mkdir(parents=True, exist_ok=True)
    path = run.work / "run.json"
    settings = {
        "recipe": dict(recipe),
        "seed": run.seed,
        "bytes": run.data.stat().st_size,
        "command": run.command,
        "without_ages": run.without_ages,
        "second": run.second is not None,
    }
    if path.is_file():
        before = json.loads(path.read_text())
        keys = ("recipe", "seed", "bytes", "without_ages", "second")
        if any(before.get(key, False) != json.loads(json.dumps(settings[key])) for key in keys):
            raise BadRun(run.work, "holds another run (other data, seed or recipe); give an empty folder")
        return
    path.write_text(json.dumps(settings, indent=1))


def _train_unless_saved(path: Path, fit: Callable[[], nn.Module]) -> None:
    """Train a net and save it, unless the file exists already."""
    if path.is_file():
        return
    net = fit().to("cpu")
    part = path.with_suffix(".part")
    torch.save(net.state_dict(), part)
    part.replace(path)


def _load(net: Net, path: Path) -> Net:
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def _empty_sepsis(recipe: SepsisRecipe) -> SepsisNet:
    knots = torch.arange(7, dtype=torch.float32).repeat(len(NAMES), 1)
    return SepsisNet(knots, hidden=recipe.hidden, embedding=recipe.embedding, dropout=recipe.dropout)


@torch.no_grad()
def _sepsis_logits(net: SepsisMembers, stays: TrainingStays) -> npt.NDArray[np.float64]:
    mix = torch.tensor(HEAD_MIX)
    found = []
    for start, end in zip(stays.starts, stays.ends, strict=True):
        zero = torch.zeros(1, 1, net.hidden * len(net.nets))
        found.append((net(torch.from_numpy(stays.features[start:end][None]), zero, zero)[0][0] * mix).sum(-1).numpy())
    return np.concatenate(found).astype(np.float64)


def _out_of_fold(
    run: Run, folds: Ints, logits_of: Callable[[int, Ints], npt.NDArray[np.float64]], lengths: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Logits of every patient from the net that was trained without this patient, in the order of rows."""
    ends = np.cumsum(lengths).tolist()
    logits = np.full(int(ends[-1]), np.nan)
    for fold in (one for one in run.folds if one != FOLDS):
        mine = np.flatnonzero(folds == fold)
        places = np.concatenate([np.arange(ends[at] - lengths[at], ends[at]) for at in mine.tolist()])
        logits[places] = logits_of(fold, mine)
    if np.isnan(logits).any():
        raise BadRun(run.work, "calibration needs every fold: train folds 1 to 5 first, or use --folds all")
    return logits
