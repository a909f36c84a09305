"""What one step of the sepsis model costs, for 1, 32 and 256 patients at once: the released file in onnxruntime, the
same in NumPy, and a net of its size in torch, eager and dynamically quantised. Then memory and start-up.

`python -m benchmarks.inference [--json] [--quick]`
"""

import resource
import time
import warnings
from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from benchmarks._timing import QUICK, microseconds, report
from models.artifacts import GRAPH, RELEASED, WEIGHTS, load
from models.runtime import InferenceEngine, OnnxEngine, SepsisNumpyEngine
from models.sepsis import SepsisModel
from models.sepsis_features import HOUR_MS, INPUTS, NAMES, SepsisFeatures
from models.training.sepsis import SEGMENTS, SepsisMembers, SepsisNet, SepsisRecipe

PATIENTS: Final = (1, 32, 256)
STEPS: Final = 5 if QUICK else 100
ILL: Final = dict(zip(INPUTS, (118.0, 92.0, 39.1, 28.0, 92.0, 50.0), strict=True))


def main() -> None:
    """Measure and print."""
    began, before = time.process_time(), _memory_kb()
    artifact = load(RELEASED / "sepsis")
    onnx = OnnxEngine(artifact.files[GRAPH])
    start_ms, memory_kb = (time.process_time() - began) * 1_000, max(_memory_kb() - before, 1)
    numpy = SepsisNumpyEngine(artifact.files[WEIGHTS])
    hidden = len(artifact.passport.golden.inputs["h"][0])
    torch.set_num_threads(1)
    eager = _net()
    dynamic = _dynamically_quantised(eager)
    figures: dict[str, dict[str, float]] = {}
    for patients in PATIENTS:
        figures[str(patients)] = microseconds(
            {
                "onnxruntime": _engine(onnx, patients, hidden),
                "numpy": _engine(numpy, patients, hidden),
                "torch": _torch(eager, patients, hidden),
                "torch, dynamic int8": _torch(dynamic, patients, hidden),
            }
        )
    model = SepsisModel(artifact)
    patient = model.patient(age_years=70.0, is_male=False)
    for hour in range(72):
        model.step(patient, hour * HOUR_MS, ILL)
    whole = microseconds(
        {
            "features": lambda: _features(),
            "a glance, features and network": lambda: _glance(model, patient),
            "why, 72 hours gone through seven times": lambda: _why(model, patient),
        }
    )
    rows = [
        (
            f"{patients} patients",
            *(f"{one[name] / one['onnxruntime']:.1f} x" for name in one),
            f"{one['onnxruntime']:.0f} µs",
        )
        for patients, one in figures.items()
    ]
    report(
        "one step of the sepsis network, as a multiple of onnxruntime",
        rows,
        ("at once", "onnxruntime", "numpy", "torch", "torch, dynamic int8", "onnxruntime, all of them"),
        {"step_us": figures, "whole_us": whole, "start_ms": start_ms, "memory_kb": memory_kb},
    )


def _net() -> SepsisMembers:
    recipe = SepsisRecipe()
    knots = torch.arange(SEGMENTS + 1, dtype=torch.float32).repeat(len(NAMES), 1)
    nets = [
        SepsisNet(knots, hidden=recipe.hidden, embedding=recipe.embedding, dropout=0.0) for _ in range(recipe.members)
    ]
    return SepsisMembers(nets).eval()


def _dynamically_quantised(net: SepsisMembers) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to move it elsewhere
        quantise = torch.ao.quantization.quantize_dynamic
        return quantise(net, {torch.nn.LSTM, torch.nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call, no-any-return]


def _rows(patients: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(40, 30, (patients, 1, len(NAMES))).astype(np.float32)
    rows[rows < 0] = np.nan
    return rows


def _engine(engine: InferenceEngine, patients: int, hidden: int) -> Callable[[], int]:
    x, zero = _rows(patients), np.zeros((1, patients, hidden), np.float32)

    def steps() -> int:
        h, c = zero, zero
        for _ in range(STEPS):
            _, h, c = engine({"x": x, "h": h, "c": c})
        return STEPS

    return steps


def _torch(net: torch.nn.Module, patients: int, hidden: int) -> Callable[[], int]:
    x, zero = torch.from_numpy(_rows(patients)), torch.zeros(1, patients, hidden)

    @torch.no_grad()
    def steps() -> int:
        h, c = zero, zero
        for _ in range(STEPS):
            _, h, c = net(x, h, c)
        return STEPS

    return steps


def _features() -> int:
    patient = SepsisFeatures(age_years=70.0, is_male=False)
    for hour in range(STEPS):
        patient.step(hour * HOUR_MS, ILL)
    return STEPS


def _glance(model: SepsisModel, patient: object) -> int:
    for _ in range(STEPS):
        model.glance(patient, 72 * HOUR_MS, ILL)  # type: ignore[arg-type]
    return STEPS


def _why(model: SepsisModel, patient: object) -> int:
    model.influences(patient, 72 * HOUR_MS, ILL)  # type: ignore[arg-type]
    return 1


def _memory_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
