"""From recorded patients to files that the runtime loads: folds first, then everybody.

What has been learned lies in the working folder, net by net; who is interrupted goes on after the last whole net. The
fold models are released in the same form as the final one, so that what is evaluated is what is run.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import nn

from models import passport as passports
from models.artifacts import GRAPH, WEIGHTS
from models.errors import BadRun
from models.heart import NAMES as HEART_NAMES
from models.heart_features import Form, features, names_of
from models.passport import Golden, Origin, Passport
from models.recordings import FOLDS, Hours, folds_of, read_ecg, read_heart, read_hours, read_icu
from models.rhythm import CLASSES
from models.rhythm import INPUTS as RHYTHM_INPUTS
from models.rhythm_signal import BEAT_FEATURES, Ecg, prepare
from models.runtime import OnnxEngine, shaped
from models.sepsis_features import INPUTS, NAMES, SepsisFeatures
from models.training.export import Calibration, Exported, export_heart, export_rhythm, export_sepsis
from models.training.heart import HeartNet, HeartRecipe, fit_heart
from models.training.progress import Step, Tell
from models.training.rhythm import BeatNet, RhythmNet, RhythmRecipe, WaveNet, fit_beats, fit_waves
from models.training.sepsis import HEAD_MIX, SepsisMembers, SepsisNet, SepsisRecipe, Stays, fit_sepsis

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Net = TypeVar("Net", bound=nn.Module)
Watch: TypeAlias = Callable[[str], Tell]
"""Begin a bar with a title, and move it."""

FLOAT32: Final = "float32.onnx"
EVERYBODY: Final = "all"
_ICU2012: Final = Origin(
    name="PhysioNet/CinC Challenge 2012, as a second task: who dies in hospital",
    rows="10,200 intensive care patients, their first 48 hours",
    licence="ODC-By 1.0",
    citation="Silva et al., Comput Cardiol 39:245-248, 2012",
)
GOLDEN_TOLERANCE: Final = 1e-3
"""Kernels differ in the last bits from processor to processor; another model differs by more."""


class Run(NamedTuple):
    """One training run.

    Args:
        work: its folder; made if it is not there.
        folds: which to train, `FOLDS` standing for everybody. All of them are cut alike whichever are asked for.
    """

    data: Path
    work: Path
    seed: int
    device: str
    folds: tuple[int, ...]
    command: str
    watch: Watch
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
    _one_run(run, recipe._asdict())
    rows = sepsis_features(hours, run.work, run.watch)
    second = None
    if run.second is not None:
        icu = read_icu(run.second)
        learned = sepsis_features(icu, run.work, run.watch, file="features-second.npy")
        second = Stays(learned, icu.labels if icu.labels is not None else icu.starts, icu.starts, icu.ends)
    if run.without_ages:
        rows = without_ages(rows)
    folds = folds_of(np.maximum.reduceat(hours.labels, hours.starts), seed=run.seed)
    stays = Stays(rows, hours.labels, hours.starts, hours.ends)
    for fold in run.folds:
        for member in range(recipe.members):
            _once(
                run.work / f"net-{fold}-{member}.pt",
                lambda fold=fold, member=member: fit_sepsis(  # type: ignore[misc]
                    stays.some(np.flatnonzero(folds != fold)), recipe, seed=1_000 * run.seed + 100 * fold + member,
                    device=run.device, second=second, ages=not run.without_ages,
                    tell=run.watch(f"sepsis, {_title(fold)}, net {member + 1} of {recipe.members}"),
                ),
            )  # fmt: skip

    def net_of(fold: int) -> SepsisMembers:
        return SepsisMembers(
            [_load(_empty_sepsis(recipe), run.work / f"net-{fold}-{at}.pt") for at in range(recipe.members)]
        )

    logits = _out_of_fold(
        run,
        folds,
        lambda fold, mine: _sepsis_logits(net_of(fold), stays.some(mine)),
        (hours.ends - hours.starts).tolist(),
    )
    calibration = platt(logits, hours.labels.astype(np.float64))
    bounds = {
        sign.value: (float(low), float(high))
        for sign, low, high in zip(INPUTS, *np.nanquantile(hours.values, [0.001, 0.999], axis=0), strict=True)
    }
    for fold in run.folds:
        exported = export_sepsis(net_of(fold), calibration)
        _write(run, fold, exported, _draft(
            run, "sepsis", exported, inputs=NAMES, golden=_golden_sepsis(recipe), bounds=bounds,
            does="probability that sepsis (Sepsis-3) begins within 6 h, from six vital signs, hour by hour",
            output="y: probability",
            origin=Origin(
                name="PhysioNet/CinC Challenge 2019, training set B",
                rows=f"{len(hours.patients):,} intensive care patients, {len(hours.hours):,} hours",
                licence="CC BY 4.0",
                citation="Reyna et al., Crit Care Med 48(2):210-217, 2020, doi 10.1097/CCM.0000000000004145",
            ),
            also=() if run.second is None else (_ICU2012,),
            limits=(
                "learned from intensive care with bedside monitors in one hospital system, not from people at home",
                "a part of an hour is scored as if the hour ended with what is known now",
                "adults; nothing is known of children or of pregnancy",
            ),
        ))  # fmt: skip


def train_heart(run: Run, recipe: HeartRecipe, form: Form) -> None:
    """Train, calibrate and export a heart model.

    Raises:
        BadRecordings, BadRun: the data have no labels, or the folder holds another run.
    """
    patients = read_heart(run.data)
    if patients.labels is None:
        raise BadRun(run.data, "has no column target to learn from")
    labels = patients.labels
    _one_run(run, {**recipe._asdict(), "form": form.value})
    rows = np.array([features(form, patient) for patient in patients.patients])
    folds = folds_of(labels, seed=run.seed)
    for fold in run.folds:
        _once(
            run.work / f"net-{fold}.pt",
            lambda fold=fold: fit_heart(  # type: ignore[misc]
                form, rows[folds != fold], labels[folds != fold], recipe,
                seed=1_000 * run.seed + fold, device=run.device, tell=run.watch(f"{HEART_NAMES[form]}, {_title(fold)}"),
            ),
        )  # fmt: skip

    def net_of(fold: int) -> HeartNet:
        width = rows.shape[1]
        empty = HeartNet(torch.zeros(width), torch.ones(width), torch.zeros(width, width), recipe)
        return _load(empty, run.work / f"net-{fold}.pt")

    @torch.no_grad()
    def logits_of(fold: int, mine: Ints) -> npt.NDArray[np.float64]:
        return net_of(fold)(torch.tensor(rows[mine], dtype=torch.float32)).numpy().astype(np.float64)  # type: ignore[no-any-return]

    calibration = platt(_out_of_fold(run, folds, logits_of, [1] * len(labels)), labels.astype(np.float64))
    for fold in run.folds:
        exported = export_heart(net_of(fold), calibration)
        example = features(form, {"age": 61, "sex": 1, "cp": 4, "trestbps": 145, "restecg": 0})
        _write(run, fold, exported, _draft(
            run, HEART_NAMES[form], exported, inputs=names_of(form), golden={"x": [list(example)]}, bounds={},
            does=f"probability of a coronary artery narrowed by more than half, from what a {form.value} knows",
            output="y: probability",
            origin=Origin(
                name="Heart Disease, UCI Machine Learning Repository",
                rows=f"{len(labels)} patients of four hospitals",
                licence="CC BY 4.0",
                citation="Janosi, Steinbrunn, Pfisterer, Detrano, 1989, doi 10.24432/C52P4X",
            ),
            limits=(
                "patients who were sent to angiography before 1989: sicker than people at home, and from another time",
                "scores mean less where hospitals choose patients otherwise: see leave one site out",
            ),
        ))  # fmt: skip


def train_rhythm(run: Run, recipe: RhythmRecipe) -> None:
    """Train and export the rhythm model.

    Raises:
        BadRecordings, BadRun: the data have no labels, or the folder holds another run.
    """
    ecgs, labels = rhythm_recordings(run.data, run.watch)
    _one_run(run, recipe._asdict())
    folds = folds_of(labels, seed=run.seed)
    for fold in run.folds:
        mine = np.flatnonzero(folds != fold)
        for name, fit in (("waves", fit_waves), ("beats", fit_beats)):
            _once(
                run.work / f"{name}-{fold}.pt",
                lambda fit=fit, fold=fold, name=name, mine=mine: fit(  # type: ignore[misc]
                    [ecgs[at] for at in mine], labels[mine], recipe, seed=1_000 * run.seed + fold, device=run.device,
                    tell=run.watch(f"rhythm, {_title(fold)}, {name}"),
                ),
            )  # fmt: skip
    for fold in run.folds:
        net = RhythmNet(
            _load(WaveNet(), run.work / f"waves-{fold}.pt"), _load(BeatNet(), run.work / f"beats-{fold}.pt")
        )
        exported = export_rhythm(net)
        _write(run, fold, exported, _draft(
            run, "rhythm", exported, inputs=RHYTHM_INPUTS, golden=_golden_rhythm(), bounds={},
            does="rhythm of 9 to 61 s of single-lead ECG: normal, atrial fibrillation, other, too noisy",
            output=f"y: probabilities of {', '.join(CLASSES)}",
            origin=Origin(
                name="PhysioNet/CinC Challenge 2017, training set",
                rows=f"{len(labels):,} recordings",
                licence="ODC-By 1.0",
                citation="Clifford et al., Comput Cardiol 44, 2017, doi 10.22489/CinC.2017.065-469",
            ),
            limits=(
                "hand-held recordings of people who chose to record; the origin names no patients",
                "one lead shows a rhythm, not an infarction",
            ),
        ))  # fmt: skip


def without_ages(rows: Floats) -> Floats:
    """The same rows as if every value were of this very hour: what an age would tell, nobody is told."""
    changed = np.array(rows)
    changed[:, [place for place, name in enumerate(NAMES) if name.endswith(".age_h")]] = 0
    return changed


def sepsis_features(hours: Hours, work: Path, watch: Watch, *, file: str = "features.npy") -> Floats:
    """What the model is shown of each row, [N, F]; kept in the working folder, because it takes a while."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / file
    if path.is_file() and (kept := np.load(path, mmap_mode="r")).shape == (len(hours.hours), len(NAMES)):
        return np.asarray(kept)
    tell = watch("features")
    rows = np.empty((len(hours.hours), len(NAMES)), np.float32)
    for at, (start, end) in enumerate(zip(hours.starts, hours.ends, strict=True)):
        for place, step in enumerate(steps_of(hours, at), start=int(start)):
            rows[place] = step
        if at % 200 == 0 or at + 1 == len(hours.starts):
            tell(Step(int(end), len(rows), 0.0))
    np.save(path, rows)
    return rows


def steps_of(hours: Hours, patient: int) -> Iterator[list[float]]:
    """The features of one patient, hour by hour."""
    age, male = float(hours.ages[patient]), float(hours.males[patient])
    made = SepsisFeatures(age_years=None if np.isnan(age) else age, is_male=None if np.isnan(male) else bool(male))
    for row in range(int(hours.starts[patient]), int(hours.ends[patient])):
        yield made.step(int(hours.hours[row]) * 3_600_000, dict(zip(INPUTS, hours.values[row].tolist(), strict=True)))


def rhythm_recordings(data: Path, watch: Watch) -> tuple[list[Ecg], Ints]:
    """Recordings, prepared, and their classes."""
    tell = watch("recordings")
    ecgs: list[Ecg] = []
    labels: list[int] = []
    for record in read_ecg(data):
        if record.label not in CLASSES:
            raise BadRun(data, f"record {record.record} has no label to learn from; known are {', '.join(CLASSES)}")
        ecgs.append(prepare(record.millivolts, record.sampling_rate_hz))
        labels.append(CLASSES.index(record.label))
        tell(Step(len(ecgs), max(len(ecgs) + 1, 7_249), 0.0))
    return ecgs, np.asarray(labels, np.int64)


def platt(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> Calibration:
    """Slope and offset that make logits probabilities (Platt, 1999), by Newton's method."""
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


def key_of(work: Path) -> Ed25519PrivateKey:
    """The key of a working folder: it signs drafts, which nobody believes but who evaluates them."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "draft.key"
    if not path.is_file():
        path.write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
        path.chmod(0o600)
    return Ed25519PrivateKey.from_private_bytes(path.read_bytes())


def _title(fold: int) -> str:
    return "everybody" if fold == FOLDS else f"fold {fold + 1} of {FOLDS}"


def folder_of(fold: int) -> str:
    """Where a fold's files lie within the working folder."""
    return EVERYBODY if fold == FOLDS else f"fold-{fold}"


def _one_run(run: Run, recipe: Mapping[str, Any]) -> None:
    """A working folder belongs to one recipe, one seed and one set of data."""
    run.work.mkdir(parents=True, exist_ok=True)
    path = run.work / "run.json"
    said = {
        "recipe": dict(recipe), "seed": run.seed, "bytes": run.data.stat().st_size, "command": run.command,
        "without_ages": run.without_ages, "second": run.second is not None,
    }  # fmt: skip
    if path.is_file():
        before = json.loads(path.read_text())
        keys = ("recipe", "seed", "bytes", "without_ages", "second")
        if any(before.get(key, False) != json.loads(json.dumps(said[key])) for key in keys):
            raise BadRun(run.work, "holds another run (other data, seed or recipe); name an empty folder")
        return
    path.write_text(json.dumps(said, indent=1))


def _once(path: Path, fit: Callable[[], nn.Module]) -> None:
    """Fit a net unless it is there already."""
    if path.is_file():
        return
    net = fit().to("cpu")
    half = path.with_suffix(".part")
    torch.save(net.state_dict(), half)
    half.replace(path)


def _load(net: Net, path: Path) -> Net:
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def _empty_sepsis(recipe: SepsisRecipe) -> SepsisNet:
    knots = torch.arange(7, dtype=torch.float32).repeat(len(NAMES), 1)
    return SepsisNet(knots, hidden=recipe.hidden, embedding=recipe.embedding, dropout=recipe.dropout)


@torch.no_grad()
def _sepsis_logits(net: SepsisMembers, stays: Stays) -> npt.NDArray[np.float64]:
    mix = torch.tensor(HEAD_MIX)
    found = []
    for start, end in zip(stays.starts, stays.ends, strict=True):
        zero = torch.zeros(1, 1, net.hidden * len(net.nets))
        found.append((net(torch.from_numpy(stays.features[start:end][None]), zero, zero)[0][0] * mix).sum(-1).numpy())
    return np.concatenate(found).astype(np.float64)


def _out_of_fold(
    run: Run, folds: Ints, logits_of: Callable[[int, Ints], npt.NDArray[np.float64]], lengths: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Logits of everybody by the net that has not seen them, in the order of rows."""
    ends = np.cumsum(lengths).tolist()
    logits = np.full(int(ends[-1]), np.nan)
    for fold in (one for one in run.folds if one != FOLDS):
        mine = np.flatnonzero(folds == fold)
        places = np.concatenate([np.arange(ends[at] - lengths[at], ends[at]) for at in mine.tolist()])
        logits[places] = logits_of(fold, mine)
    if np.isnan(logits).any():
        raise BadRun(run.work, "calibration needs every fold; train all of them before the last")
    return logits


def _draft(
    run: Run, name: str, exported: Exported, *, inputs: tuple[str, ...], golden: dict[str, list[list[float]]],
    bounds: dict[str, tuple[float, float]], does: str, output: str, origin: Origin, limits: tuple[str, ...],
    also: tuple[Origin, ...] = (),
) -> Passport:  # fmt: skip
    files = {GRAPH: exported.graph} | ({} if exported.weights is None else {WEIGHTS: exported.weights})
    return Passport(
        name=name, version="0.0.0", does=does, inputs=inputs, output=output, threshold=1.0, bounds=bounds,
        files={file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
        trained_on=(origin, *also), made_by=run.command, seed=run.seed, parameters=exported.parameters, limits=limits,
        golden=_answered(name, exported, golden),
    )  # fmt: skip


def _answered(name: str, exported: Exported, inputs: dict[str, list[list[float]]]) -> Golden:
    """The golden inputs with the answer of the released graph."""
    said = OnnxEngine(exported.graph)(shaped(name, inputs))[0]
    return Golden(
        inputs={key: [[None if np.isnan(one) else one for one in row] for row in rows] for key, rows in inputs.items()},
        output=np.atleast_2d(said).astype(float).round(6).tolist(),
        tolerance=GOLDEN_TOLERANCE,
    )


def _golden_sepsis(recipe: SepsisRecipe) -> dict[str, list[list[float]]]:
    """Six hours of somebody who was made up, getting worse."""
    made = SepsisFeatures(age_years=67, is_male=True)
    days = [(78, 97, 36.9, 16, 128, 74), (84, 96, 37.4, 18, 122, 70), (92, 95, 38.1, 20, 114, 66)]
    days += [(101, 94, 38.5, 23, 108, 60), (109, 93, 38.9, 26, 99, 55), (118, 91, 39.2, 28, 91, 50)]
    rows = [made.step(hour * 3_600_000, dict(zip(INPUTS, signs, strict=True))) for hour, signs in enumerate(days)]
    zero = [[0.0] * (recipe.hidden * recipe.members)]
    return {"x": [[round(one, 4) for one in row] for row in rows], "h": zero, "c": zero}


def _golden_rhythm() -> dict[str, list[list[float]]]:
    """Ten seconds of a drawn heart."""
    time_s = np.arange(1_000) / 100
    wave = sum(
        np.exp(-(((time_s - at) / 0.02) ** 2)) - 0.2 * np.exp(-(((time_s - at - 0.25) / 0.06) ** 2))
        for at in np.arange(0.5, 10, 0.8)
    )
    beats = np.tile(np.r_[np.exp(-(((np.arange(BEAT_FEATURES - 6) - 25) / 2.0) ** 2)), np.zeros(6)], (12, 1))
    return {"wave": [np.round(wave, 3).tolist()], "beats": np.round(beats, 3).tolist()}


def _write(run: Run, fold: int, exported: Exported, draft: Passport) -> None:
    folder = run.work / folder_of(fold) / draft.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).write_bytes(exported.graph)
    (folder / FLOAT32).write_bytes(exported.graph_float32)
    if exported.weights is not None:
        (folder / WEIGHTS).write_bytes(exported.weights)
    (folder / passports.FILE).write_bytes(passports.encode(passports.signed(draft, key_of(run.work))))
