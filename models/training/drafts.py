"""Draft releases of a training run: each exported net with a passport that the run's own key signs.

A draft is what `vitalloom evaluate` loads. `vitalloom release` replaces its version, figures and signature.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models import passport as passports
from models.artifacts import GRAPH, WEIGHTS
from models.heart_features import Form, features, names_of
from models.passport import Golden, Origin, Passport
from models.recordings import FOLDS
from models.rhythm import CLASSES
from models.rhythm import INPUTS as RHYTHM_INPUTS
from models.rhythm_signal import BEAT_FEATURES
from models.runtime import OnnxEngine, shaped
from models.sepsis_features import HOUR_MS, INPUTS, NAMES, SepsisFeatures
from models.training.export import Exported

Rows = list[list[float]]

FLOAT32: Final = "float32.onnx"
ALL_PATIENTS: Final = "all"
GOLDEN_TOLERANCE: Final = 1e-3
"""Results differ in the last bits between processors; those of another model differ by more."""

_SEPSIS_2019: Final = "PhysioNet/CinC Challenge 2019, training set B"
_SEPSIS_LIMITS: Final = (
    "learned from intensive care with bedside monitors in one hospital system, not from people at home",
    "the current hour is scored with what has been measured so far, as if it were complete",
    "adults only; not validated for children or in pregnancy",
)
_ICU_2012: Final = Origin(
    name="PhysioNet/CinC Challenge 2012, second training task: death in hospital",
    rows="10,200 intensive care patients, their first 48 hours",
    licence="ODC-By 1.0",
    citation="Silva et al., Comput Cardiol 39:245-248, 2012",
)
_HEART_LIMITS: Final = (
    "patients who were sent to angiography before 1989: sicker than people at home, and treated as at that time",
    "less reliable in hospitals that select patients differently: see the columns 'without <hospital>'",
)
_RHYTHM_LIMITS: Final = (
    "hand-held recordings, started by the people themselves; the data set does not identify patients",
    "a single lead shows a rhythm; it cannot show an infarction",
)


class Description(NamedTuple):
    """The fixed part of a model's passport."""

    name: str
    does: str
    output: str
    inputs: tuple[str, ...]
    golden: dict[str, Rows]  # inputs of the golden answer
    trained_on: tuple[Origin, ...]
    limits: tuple[str, ...]
    bounds: Mapping[str, tuple[float, float]] = {}


def sepsis_description(
    *, patients: int, hours: int, hidden: int, second_task: bool, bounds: Mapping[str, tuple[float, float]]
) -> Description:
    """The sepsis model.

    Args:
        hidden: width of the memory of all member nets together.
        bounds: range of each sign in the training data.
    """
    origin = Origin(
        name=_SEPSIS_2019,
        rows=f"{patients:,} intensive care patients, {hours:,} hours",
        licence="CC BY 4.0",
        citation="Reyna et al., Crit Care Med 48(2):210-217, 2020, doi 10.1097/CCM.0000000000004145",
    )
    return Description(
        name="sepsis",
        does="probability that sepsis (Sepsis-3) begins within 6 h, from six vital signs, hour by hour",
        output="y: probability",
        inputs=NAMES,
        golden=_golden_sepsis(hidden),
        trained_on=(origin, _ICU_2012) if second_task else (origin,),
        limits=_SEPSIS_LIMITS,
        bounds=bounds,
    )


def heart_description(form: Form, name: str, *, patients: int) -> Description:
    """A heart model."""
    example = features(form, {"age": 61, "sex": 1, "cp": 4, "trestbps": 145, "restecg": 0})
    setting = "in a clinic" if form is Form.CLINIC else "at home"
    return Description(
        name=name,
        does=f"probability of a coronary artery narrowed by more than half, from attributes known {setting}",
        output="y: probability",
        inputs=names_of(form),
        golden={"x": [list(example)]},
        trained_on=(
            Origin(
                name="Heart Disease, UCI Machine Learning Repository",
                rows=f"{patients} patients of four hospitals",
                licence="CC BY 4.0",
                citation="Janosi, Steinbrunn, Pfisterer, Detrano, 1989, doi 10.24432/C52P4X",
            ),
        ),
        limits=_HEART_LIMITS,
    )


def rhythm_description(*, recordings: int) -> Description:
    """The rhythm model."""
    return Description(
        name="rhythm",
        does="rhythm of 9 to 61 s of single-lead ECG: normal, atrial fibrillation, other, too noisy",
        output=f"y: probabilities of {', '.join(CLASSES)}",
        inputs=RHYTHM_INPUTS,
        golden=_golden_rhythm(),
        trained_on=(
            Origin(
                name="PhysioNet/CinC Challenge 2017, training set",
                rows=f"{recordings:,} recordings",
                licence="ODC-By 1.0",
                citation="Clifford et al., Comput Cardiol 44, 2017, doi 10.22489/CinC.2017.065-469",
            ),
        ),
        limits=_RHYTHM_LIMITS,
    )


def write_draft(
    work: Path, fold: int, exported: Exported, description: Description, *, command: str, seed: int
) -> None:
    """Write the files of one fold's model and its signed passport into the working folder."""
    draft = _passport(exported, description, command=command, seed=seed)
    folder = work / fold_folder(fold) / draft.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).write_bytes(exported.graph)
    (folder / FLOAT32).write_bytes(exported.graph_float32)
    if exported.weights is not None:
        (folder / WEIGHTS).write_bytes(exported.weights)
    (folder / passports.FILE).write_bytes(passports.encode(passports.signed(draft, signing_key(work))))


def fold_folder(fold: int) -> str:
    """Name of a fold's folder within the working folder."""
    return ALL_PATIENTS if fold == FOLDS else f"fold-{fold}"


def signing_key(work: Path) -> Ed25519PrivateKey:
    """The key of a working folder, made on first use. It signs drafts only; no installation trusts it."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "draft.key"
    if not path.is_file():
        path.write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
        path.chmod(0o600)
    return Ed25519PrivateKey.from_private_bytes(path.read_bytes())


def _passport(exported: Exported, description: Description, *, command: str, seed: int) -> Passport:
    files = {GRAPH: exported.graph} | ({} if exported.weights is None else {WEIGHTS: exported.weights})
    return Passport(
        name=description.name,
        version="0.0.0",
        does=description.does,
        inputs=description.inputs,
        output=description.output,
        threshold=1.0,
        bounds=dict(description.bounds),
        files={file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
        trained_on=description.trained_on,
        made_by=command,
        seed=seed,
        parameters=exported.parameters,
        limits=description.limits,
        golden=_golden_answer(description, exported),
    )


def _golden_answer(description: Description, exported: Exported) -> Golden:
    """The golden inputs with the answer of the released graph."""
    inputs = description.golden
    output = OnnxEngine(exported.graph)(shaped(description.name, inputs))[0]
    return Golden(
        inputs={key: [[None if np.isnan(one) else one for one in row] for row in rows] for key, rows in inputs.items()},
        output=np.atleast_2d(output).astype(float).round(6).tolist(),
        tolerance=GOLDEN_TOLERANCE,
    )


def _golden_sepsis(hidden: int) -> dict[str, Rows]:
    """Six hours of an invented patient whose state worsens."""
    patient = SepsisFeatures(age_years=67, is_male=True)
    hours = [(78, 97, 36.9, 16, 128, 74), (84, 96, 37.4, 18, 122, 70), (92, 95, 38.1, 20, 114, 66)]
    hours += [(101, 94, 38.5, 23, 108, 60), (109, 93, 38.9, 26, 99, 55), (118, 91, 39.2, 28, 91, 50)]
    rows = [patient.step(hour * HOUR_MS, dict(zip(INPUTS, signs, strict=True))) for hour, signs in enumerate(hours)]
    zero = [[0.0] * hidden]
    return {"x": [[round(one, 4) for one in row] for row in rows], "h": zero, "c": zero}


def _golden_rhythm() -> dict[str, Rows]:
    """Ten seconds of a synthetic ECG."""
    time_s = np.arange(1_000) / 100
    wave = sum(
        np.exp(-(((time_s - at) / 0.02) ** 2)) - 0.2 * np.exp(-(((time_s - at - 0.25) / 0.06) ** 2))
        for at in np.arange(0.5, 10, 0.8)
    )
    beats = np.tile(np.r_[np.exp(-(((np.arange(BEAT_FEATURES - 6) - 25) / 2.0) ** 2)), np.zeros(6)], (12, 1))
    return {"wave": [np.round(wave, 3).tolist()], "beats": np.round(beats, 3).tolist()}
