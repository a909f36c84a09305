"""From a trained network to a released file: one ONNX graph, weights in int8 with a scale for each row.

Weights only: what is computed stays float32. Quantising what flows through the net was measured elsewhere to cost
0.025 AUROC on a carried state, and dynamic scales make a patient's score depend on who shares the batch. The runtime
folds the weights back when it loads the graph, so a step costs what it cost before.
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

from models.cell import packed
from models.errors import ExportFailed
from models.training.heart import HeartNet
from models.training.rhythm import RhythmNet
from models.training.sepsis import HEAD_MIX, SepsisMembers

Floats: TypeAlias = npt.NDArray[np.float32]
Quantised: TypeAlias = tuple[npt.NDArray[np.int8], Floats]

WEIGHT_INPUTS: Final = {"MatMul": (1,), "Gemm": (1,), "Conv": (1,), "LSTM": (1, 2)}
"""Which inputs of an operator are weights."""
LEAST_QUANTISED: Final = 0.8
"""Share of all weights that have to be int8 in the released graph; biases and scalers are not."""


class Calibration(NamedTuple):
    """From a logit to a probability: Platt's two numbers."""

    slope: float
    offset: float


class Exported(NamedTuple):
    """What is released, and what it is compared with."""

    graph: bytes  # int8
    graph_float32: bytes
    weights: bytes | None  # of the NumPy cell
    parameters: int


class _Sepsis(nn.Module):
    mix: Tensor

    def __init__(self, net: SepsisMembers, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mix", torch.tensor(HEAD_MIX)[:, None])
        self.slope, self.offset = calibration

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads, h, c = self.net(x, h, c)
        return torch.sigmoid((heads * self.mix[:, 0]).sum(-1) * self.slope + self.offset), h, c


class _Heart(nn.Module):
    def __init__(self, net: HeartNet, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.slope, self.offset = calibration

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.net(x) * self.slope + self.offset)


class _Rhythm(nn.Module):
    def __init__(self, net: RhythmNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, wave: Tensor, beats: Tensor) -> Tensor:
        return torch.softmax(self.net(wave, beats), -1)


def export_sepsis(net: SepsisMembers, calibration: Calibration) -> Exported:
    """x [B, T, F], h and c [1, B, H] to y [B, T], h_out, c_out."""
    hidden, features = net.hidden * len(net.nets), net.features
    example = (torch.zeros(3, 5, features), torch.zeros(1, 3, hidden), torch.zeros(1, 3, hidden))
    batch, time = torch.export.Dim("batch", min=1, max=65_536), torch.export.Dim("time", min=1, max=65_536)
    graph = _graph(
        _Sepsis(net, calibration), example, {"x": {0: batch, 1: time}, "h": {1: batch}, "c": {1: batch}},
        ("x", "h", "c"), ("y", "h_out", "c_out"),
    )  # fmt: skip
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    weights: dict[str, Floats | Quantised] = dict(state)
    # The rows of the graph: outputs of a layer, gates of the LSTM.
    for name in state:
        if ".weight" in name:
            weights[name] = quantised(state[name], axis=0)
    weights |= _numbers(mix=np.asarray(HEAD_MIX, np.float32), slope=calibration.slope, offset=calibration.offset)
    return _released(net, graph, packed(weights))


def export_heart(net: HeartNet, calibration: Calibration) -> Exported:
    """x [B, F] to y [B]."""
    batch = torch.export.Dim("batch", min=1, max=65_536)
    graph = _graph(_Heart(net, calibration), (torch.zeros(3, len(net.mean)),), {"x": {0: batch}}, ("x",), ("y",))
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    weights: dict[str, Floats | Quantised] = dict(state)
    for name in ("one", "two", "three", "straight"):
        weights[name] = quantised(state[name], axis=2)
    weights |= _numbers(slope=calibration.slope, offset=calibration.offset)
    return _released(net, graph, packed(weights))


def export_rhythm(net: RhythmNet) -> Exported:
    """wave [1, 1, T] and beats [1, K, F] to y [1, 4]."""
    beat_features = net.beats.one.in_features
    time, beats = torch.export.Dim("time", min=200, max=65_536), torch.export.Dim("count", min=2, max=4_096)
    graph = _graph(
        _Rhythm(net), (torch.zeros(1, 1, 1_000), torch.zeros(1, 12, beat_features)),
        {"wave": {2: time}, "beats": {1: beats}}, ("wave", "beats"), ("y",),
    )  # fmt: skip
    return _released(net, graph, None)


def quantised(weight: Floats, *, axis: int) -> Quantised:
    """Symmetric int8 with a scale for each place of `axis`; the scale keeps the other axes as ones."""
    others = tuple(place for place in range(weight.ndim) if place != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.clip(np.round(weight / scale), -127, 127).astype(np.int8), scale


def operators(graph: bytes) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op_type for node in onnx.load_from_string(graph).graph.node]


def quantised_share(graph: bytes) -> float:
    """How much of the large constants of a graph is int8."""
    sizes = {1: 0, 3: 0}  # float32 and int8 in ONNX's numbers
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
    """Export, and fold what does not change: the exporter slices and joins LSTM gates in the graph, and what is not a
    constant cannot be quantised.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            net.eval(), example, dynamo=True, dynamic_shapes=tuple(shapes[name] for name in inputs),
            input_names=list(inputs), output_names=list(outputs), verbose=False,
        )  # fmt: skip
    if program is None:
        raise ExportFailed("the exporter gave nothing back")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return _bare(path.read_bytes())


def _bare(graph: bytes) -> bytes:
    """Without what the exporter notes beside nodes and values: stack traces, with folders of whoever exported."""
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
            whole, scale = quantised(weight, axis=axis)
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
    """Where the outputs of an operator are counted in its weights: each has a scale of its own."""
    if node.op_type == "Gemm":
        return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1
    return {"LSTM": 1, "Conv": 0}.get(node.op_type, dimensions - 1)


def _released(net: nn.Module, graph: bytes, weights: bytes | None) -> Exported:
    small = _weights_in_int8(graph)
    if quantised_share(small) < LEAST_QUANTISED:
        raise ExportFailed(
            f"only {quantised_share(small):.0%} of the weights became int8: {sorted(set(operators(small)))}"
        )
    return Exported(small, graph, weights, sum(one.numel() for one in net.parameters()))


def _numbers(**numbers: float | Floats) -> dict[str, Floats]:
    return {name: np.asarray(number, np.float32) for name, number in numbers.items()}
