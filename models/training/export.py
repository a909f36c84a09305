"""Export of a trained network: one ONNX graph, with int8 weights and one scale per row.

Only weights are quantised; activations stay float32. Quantised activations have been reported to cost 0.025 AUROC in a
recurrent net, and dynamic scales would make a patient's score depend on the other patients of a batch. onnxruntime
converts the weights back when it loads the graph, so a step is as fast as with float32 weights.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from models.cell import pack_weights
from models.errors import ExportFailed
from models.training.heart import HeartNet
from models.training.rhythm import RhythmNet
from models.training.sepsis import HEAD_MIX, SepsisMembers

Floats: TypeAlias = npt.NDArray[np.float32]
Quantised: TypeAlias = tuple[npt.NDArray[np.int8], Floats]

WEIGHT_INPUTS: Final = {"MatMul": (1,), "Gemm": (1,), "Conv": (1,), "LSTM": (1, 2)}
"""The inputs of each operator that are weights, by position."""
MIN_INT8_SHARE: Final = 0.8
"""Minimum share of int8 among the constants of a released graph; biases and scalers stay float32."""


class Calibration(NamedTuple):
    """Platt scaling: the probability is sigmoid(slope * logit + offset)."""

    slope: float
    offset: float


class Exported(NamedTuple):
    """An exported model."""

    graph: bytes  # int8
    graph_float32: bytes  # for comparison, not released
    weights: bytes | None  # for the NumPy implementation, if there is one
    parameters: int


class _CalibratedSepsisNet(nn.Module):
    mix: Tensor

    def __init__(self, net: SepsisMembers, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mix", torch.tensor(HEAD_MIX)[:, None])
        self.slope, self.offset = calibration

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads, h, c = self.net(x, h, c)
        return torch.sigmoid((heads * self.mix[:, 0]).sum(-1) * self.slope + self.offset), h, c


class _CalibratedHeartNet(nn.Module):
    def __init__(self, net: HeartNet, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.slope, self.offset = calibration

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.net(x) * self.slope + self.offset)


class _RhythmScores(nn.Module):
    def __init__(self, net: RhythmNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, wave: Tensor, beats: Tensor) -> Tensor:
        return torch.softmax(self.net(wave, beats), -1)


def export_sepsis(net: SepsisMembers, calibration: Calibration) -> Exported:
    """Export the sepsis model: from x [B, T, F], h and c [1, B, H] to y [B, T], h_out and c_out."""
    hidden, features = net.hidden * len(net.nets), net.features
    example = (torch.zeros(3, 5, features), torch.zeros(1, 3, hidden), torch.zeros(1, 3, hidden))
    batch, time = torch.export.Dim("batch", min=1, max=65_536), torch.export.Dim("time", min=1, max=65_536)
    graph = _graph(
        _CalibratedSepsisNet(net, calibration),
        example,
        {"x": {0: batch, 1: time}, "h": {1: batch}, "c": {1: batch}},
        ("x", "h", "c"),
        ("y", "h_out", "c_out"),
    )
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    weights: dict[str, Floats | Quantised] = dict(state)
    # Rows are the outputs of a layer or the gates of the LSTM, as in the graph.
    for name in state:
        if ".weight" in name:
            weights[name] = quantise(state[name], axis=0)
    weights |= _numbers(mix=np.asarray(HEAD_MIX, np.float32), slope=calibration.slope, offset=calibration.offset)
    return _released(net, graph, pack_weights(weights))


def export_heart(net: HeartNet, calibration: Calibration) -> Exported:
    """Export a heart model: from x [B, F] to y [B]."""
    batch = torch.export.Dim("batch", min=1, max=65_536)
    graph = _graph(
        _CalibratedHeartNet(net, calibration), (torch.zeros(3, len(net.mean)),), {"x": {0: batch}}, ("x",), ("y",)
    )
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    weights: dict[str, Floats | Quantised] = dict(state)
    for name in ("one", "two", "three", "straight"):
        weights[name] = quantise(state[name], axis=2)
    weights |= _numbers(slope=calibration.slope, offset=calibration.offset)
    return _released(net, graph, pack_weights(weights))


def export_rhythm(net: RhythmNet) -> Exported:
    """Export the rhythm model: from wave [1, 1, T] and beats [1, K, F] to y [1, 4]."""
    beat_features = net.beats.one.in_features
    time, beats = torch.export.Dim("time", min=200, max=65_536), torch.export.Dim("count", min=2, max=4_096)
    graph = _graph(
        _RhythmScores(net),
        (torch.zeros(1, 1, 1_000), torch.zeros(1, 12, beat_features)),
        {"wave": {2: time}, "beats": {1: beats}},
        ("wave", "beats"),
        ("y",),
    )
    return _released(net, graph, None)


def quantise(weight: Floats, *, axis: int) -> Quantised:
    """Symmetric int8 weights with one scale per index of `axis`; the scale has length 1 along the other axes."""
    others = tuple(place for place in range(weight.ndim) if place != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.clip(np.round(weight / scale), -127, 127).astype(np.int8), scale


def operators(graph: bytes) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op_type for node in onnx.load_from_string(graph).graph.node]


def quantised_share(graph: bytes) -> float:
    """Share of int8 among the float32 and int8 constants of a graph."""
    sizes = {1: 0, 3: 0}  # ONNX type numbers of float32 and int8
    for constant in onnx.load_from_string(graph).graph.initializer:
        if constant.data_type in sizes:
            sizes[constant.data_type] += int(np.prod(constant.dims))
    return sizes[3] / max(sum(sizes.values()), 1)


def _graph(
    net: nn.Module,
    example: tuple[Tensor, ...],
    shapes: dict[str, Any],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> bytes:
    """Export to ONNX and fold constants.

    The exporter reorders LSTM gates inside the graph, and only constants can be quantised.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(
            net.eval(),
            example,
            dynamo=True,
            dynamic_shapes=tuple(shapes[name] for name in inputs),
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        raise ExportFailed("torch.onnx.export returned no program")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return _without_metadata(path.read_bytes())


def _without_metadata(graph: bytes) -> bytes:
    """The graph without the exporter's annotations, which hold stack traces with paths of the exporting machine."""
    model = onnx.load_from_string(graph)
    inside = model.graph
    for part in (model, inside, *inside.node, *inside.initializer, *inside.input, *inside.output, *inside.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model.SerializeToString()


def _weights_in_int8(graph: bytes) -> bytes:
    model = onnx.load_from_string(graph)
    constants = {constant.name: constant for constant in model.graph.initializer}
    for node in list(model.graph.node):
        for place in WEIGHT_INPUTS.get(node.op_type, ()):
            name = node.input[place] if place < len(node.input) else ""
            if name not in constants:
                continue
            weight = numpy_helper.to_array(constants[name])
            axis = _row_axis(node, weight.ndim)
            whole, scale = quantise(weight, axis=axis)
            model.graph.initializer.remove(constants.pop(name))
            model.graph.initializer.append(numpy_helper.from_array(whole, f"{name}.int8"))
            model.graph.initializer.append(numpy_helper.from_array(scale.reshape(-1), f"{name}.scale"))
            model.graph.node.insert(
                0,
                helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], axis=axis),
            )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _row_axis(node: onnx.NodeProto, dimensions: int) -> int:
    """The axis of an operator's weights that indexes its outputs; each output has its own scale."""
    if node.op_type == "Gemm":
        return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1
    return {"LSTM": 1, "Conv": 0}.get(node.op_type, dimensions - 1)


def _released(net: nn.Module, graph: bytes, weights: bytes | None) -> Exported:
    small = _weights_in_int8(graph)
    if quantised_share(small) < MIN_INT8_SHARE:
        raise ExportFailed(
            f"only {quantised_share(small):.0%} of the constants are int8, at least {MIN_INT8_SHARE:.0%} expected; "
            f"operators: {sorted(set(operators(small)))}"
        )
    return Exported(small, graph, weights, sum(one.numel() for one in net.parameters()))


def _numbers(**numbers: float | Floats) -> dict[str, Floats]:
    return {name: np.asarray(number, np.float32) for name, number in numbers.items()}
