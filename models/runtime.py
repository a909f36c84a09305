"""Inference: a released graph on one onnxruntime thread, or in NumPy where onnxruntime is not installed.

Activations stay float32: a patient's score has the same bits alone and in any batch, step by step and all at once. An
output that is not finite or not between 0 and 1 is rejected.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from models.artifacts import GRAPH, WEIGHTS, Artifact
from models.cell import HeartCell, SepsisCell
from models.errors import ModelUnavailable

Floats: TypeAlias = npt.NDArray[np.float32]
Inputs: TypeAlias = Mapping[str, Floats]


class InferenceEngine(Protocol):
    """Computes a graph: from inputs by name to outputs in order."""

    name: str

    def __call__(self, inputs: Inputs) -> Sequence[Floats]: ...


class OnnxEngine:
    """The graph in onnxruntime, on one thread and without busy waiting, to leave a Raspberry Pi's CPU free.

    Raises:
        ImportError: onnxruntime is not installed.
        ModelUnavailable: onnxruntime cannot load the graph.
    """

    name = "onnxruntime"

    def __init__(self, graph: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # With this option int8 weights are converted to float32 constants at load time. Without it onnxruntime would
        # compute in int8, and a score would depend on the batch.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except _errors(onnxruntime) as error:
            raise ModelUnavailable("graph", f"the graph cannot be loaded ({type(error).__name__})") from error
        self._failures = _errors(onnxruntime)

    def __call__(self, inputs: Inputs) -> Sequence[Floats]:
        try:
            return self._session.run(None, dict(inputs))  # type: ignore[no-any-return]
        except self._failures as error:
            raise ModelUnavailable("runtime", f"the graph cannot be computed ({type(error).__name__})") from error


class SepsisNumpyEngine:
    """The sepsis network in NumPy."""

    name = "numpy"

    def __init__(self, weights: bytes) -> None:
        self._cell = SepsisCell(weights)

    def __call__(self, inputs: Inputs) -> Sequence[Floats]:
        return self._cell(inputs["x"], inputs["h"], inputs["c"])


class HeartNumpyEngine:
    """The heart network in NumPy."""

    name = "numpy"

    def __init__(self, weights: bytes) -> None:
        self._cell = HeartCell(weights)

    def __call__(self, inputs: Inputs) -> Sequence[Floats]:
        return (self._cell(inputs["x"]),)


HEART: Final = ("heart", "heart-home")
_CELLS: Final[Mapping[str, Any]] = {
    "sepsis": SepsisNumpyEngine,
    "heart": HeartNumpyEngine,
    "heart-home": HeartNumpyEngine,
}


def engine_of(artifact: Artifact, *, prefer: str = "onnxruntime") -> InferenceEngine:
    """An engine for this model that has reproduced the golden answer of its passport.

    Args:
        prefer: "onnxruntime" (NumPy if it is not installed), or "numpy".

    Raises:
        ModelUnavailable: neither engine can run the model, or the golden answer differs.
    """
    engine = _engine(artifact, prefer)
    golden = artifact.passport.golden
    outputs = engine(shaped(artifact.passport.name, golden.inputs))[0]
    wanted = np.asarray(golden.output, np.float32)
    if outputs.size != wanted.size or not np.allclose(
        outputs.reshape(wanted.shape), wanted, rtol=0, atol=golden.tolerance
    ):
        raise ModelUnavailable(
            "golden", f"{artifact.title} does not reproduce the golden answer of its passport on this machine"
        )
    return engine


def shaped(name: str, inputs: Mapping[str, Sequence[Sequence[float | None]]]) -> dict[str, Floats]:
    """Inputs of a passport as arrays in the shapes that the graph expects; None becomes NaN."""
    arrays = {
        key: np.array([[np.nan if value is None else value for value in row] for row in rows], np.float32)
        for key, rows in inputs.items()
    }
    return arrays if name in HEART else {key: array[None] for key, array in arrays.items()}


def probability(score: float) -> float:
    """The score, after a check of its range.

    Raises:
        ModelUnavailable: not finite, or not between 0 and 1.
    """
    if not 0 <= score <= 1:  # true for NaN as well
        raise ModelUnavailable("output", "the output of the model is not a probability")
    return score


def logit(score: float) -> float:
    """The log-odds of a probability, a scale on which influences add up; probabilities 0 and 1 are clipped by 1e-6.

    >>> logit(0.5)
    0.0
    >>> round(logit(0.9), 3)
    2.197
    """
    bounded = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def _engine(artifact: Artifact, prefer: str) -> InferenceEngine:
    if prefer == "onnxruntime":
        try:
            return OnnxEngine(artifact.files[GRAPH])
        except ImportError:
            pass  # NumPy, below
    cell = _CELLS.get(artifact.passport.name)
    if cell is None or WEIGHTS not in artifact.files:
        raise ModelUnavailable(
            "runtime", f"{artifact.title} needs onnxruntime; install it with pip install onnxruntime"
        )
    return cell(artifact.files[WEIGHTS])  # type: ignore[no-any-return]


def _errors(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """Exception types that onnxruntime raises; they have no common base class."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    own = (found for found in vars(state).values() if isinstance(found, type) and issubclass(found, Exception))
    return (*own, ValueError, RuntimeError)
