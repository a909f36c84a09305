"""The runtime: a released graph on one thread, or NumPy where there is no onnxruntime.

Nothing is quantised on the way: a patient's score is the same bits alone, in any batch, one step at a time or many at
once. A score that is not finite or not between 0 and 1 is no score.
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
    """Whatever computes a graph: inputs by name to outputs in order."""

    name: str

    def __call__(self, inputs: Inputs) -> Sequence[Floats]: ...


class OnnxEngine:
    """One thread, no spinning: a Pi has other things to do while it waits.

    Raises:
        ImportError: onnxruntime is not installed.
        ModelUnavailable: it cannot load the graph.
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
        # With this, int8 weights are folded into float32 constants while loading. Without it the runtime would compute
        # with them in its own way, batch by batch.
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
    """What computes this model here, after it has given its golden answer.

    Args:
        prefer: "onnxruntime", or "numpy" to do without.

    Raises:
        ModelUnavailable: neither can run it, or it answers otherwise than its passport says.
    """
    engine = _engine(artifact, prefer)
    golden = artifact.passport.golden
    said = engine(shaped(artifact.passport.name, golden.inputs))[0]
    wanted = np.asarray(golden.output, np.float32)
    if said.size != wanted.size or not np.allclose(said.reshape(wanted.shape), wanted, rtol=0, atol=golden.tolerance):
        raise ModelUnavailable("golden", f"{artifact.title} does not give its golden answer on this machine")
    return engine


def shaped(name: str, inputs: Mapping[str, Sequence[Sequence[float | None]]]) -> dict[str, Floats]:
    """Rows of a passport as its graph wants them; `None` is NaN."""
    arrays = {
        key: np.array([[np.nan if value is None else value for value in row] for row in rows], np.float32)
        for key, rows in inputs.items()
    }
    return arrays if name in HEART else {key: array[None] for key, array in arrays.items()}


def probability(score: float) -> float:
    """The score, if it is one.

    Raises:
        ModelUnavailable: not finite, or not within 0 and 1.
    """
    if not 0 <= score <= 1:  # NaN is not, either
        raise ModelUnavailable("output", "the model gave no probability")
    return score


def logit(score: float) -> float:
    """The log-odds of a probability, where influences add up; bounded, because nothing is certain."""
    bounded = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def _engine(artifact: Artifact, prefer: str) -> InferenceEngine:
    if prefer == "onnxruntime":
        try:
            return OnnxEngine(artifact.files[GRAPH])
        except ImportError:
            pass  # the next best, below
    cell = _CELLS.get(artifact.passport.name)
    if cell is None or WEIGHTS not in artifact.files:
        raise ModelUnavailable("runtime", f"{artifact.title} needs onnxruntime, which is not installed")
    return cell(artifact.files[WEIGHTS])  # type: ignore[no-any-return]


def _errors(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """What onnxruntime raises; its exceptions have no common base."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    own = (found for found in vars(state).values() if isinstance(found, type) and issubclass(found, Exception))
    return (*own, ValueError, RuntimeError)
