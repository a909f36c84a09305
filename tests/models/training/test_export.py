"""The same numbers in torch, in the released graph and in NumPy; int8 in the file, none of it when it runs."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models.cell import HeartCell, SepsisCell
from models.heart_features import Form, names_of
from models.runtime import OnnxEngine
from models.sepsis_features import NAMES
from models.training.export import (
    Calibration,
    Exported,
    export_heart,
    export_rhythm,
    export_sepsis,
    operators,
    quantised,
    quantised_share,
)
from models.training.heart import HeartNet, HeartRecipe, groups_of
from models.training.rhythm import BeatNet, RhythmNet, WaveNet
from models.training.sepsis import HEAD_MIX, SepsisMembers, SepsisNet

pytestmark = pytest.mark.training

CALIBRATION = Calibration(0.8, -2.0)


@pytest.fixture(scope="module")
def net() -> SepsisMembers:
    torch.manual_seed(0)
    knots = torch.cumsum(torch.rand(len(NAMES), 7) * 10 + 0.1, 1)
    return SepsisMembers([SepsisNet(knots, hidden=24, embedding=20, dropout=0.0) for _ in range(2)]).eval()


@pytest.fixture(scope="module")
def exported(net: SepsisMembers) -> Exported:
    return export_sepsis(net, CALIBRATION)


def rows(patients: int, hours: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    found = rng.uniform(-5, 60, (patients, hours, len(NAMES))).astype(np.float32)
    found[rng.random(found.shape) < 0.2] = np.nan
    return found


def test_torch_graph_and_numpy_say_the_same(net: SepsisMembers, exported: Exported) -> None:
    x, zero = rows(4, 30), np.zeros((1, 4, 48), np.float32)
    with torch.no_grad():
        heads, h, c = net(torch.from_numpy(x), torch.from_numpy(zero), torch.from_numpy(zero))
    wanted = torch.sigmoid((heads * torch.tensor(HEAD_MIX)).sum(-1) * CALIBRATION.slope + CALIBRATION.offset)

    float32 = OnnxEngine(exported.graph_float32)({"x": x, "h": zero, "c": zero})
    int8 = OnnxEngine(exported.graph)({"x": x, "h": zero, "c": zero})
    assert exported.weights is not None
    numpy = SepsisCell(exported.weights)(x, zero, zero)

    for one, other in zip(float32, (wanted, h, c), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
    for one, other in zip(int8, numpy, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(int8[0], wanted.numpy(), atol=0.02)
    assert np.abs(int8[0] - float32[0]).max() > 0  # it is another file, after all


def test_the_file_holds_int8_and_a_lone_lstm_for_each_member(exported: Exported) -> None:
    kinds = operators(exported.graph)

    assert kinds.count("LSTM") == 2
    assert kinds.count("DequantizeLinear") == 10  # embedding, two of the LSTM, two heads, twice
    assert not {"QuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeLinear", "MatMulInteger"} & set(kinds)
    assert quantised_share(exported.graph) > 0.9
    assert quantised_share(exported.graph_float32) == 0
    assert len(exported.graph) < len(exported.graph_float32) / 2


def test_a_graph_does_not_tell_where_it_was_made(exported: Exported) -> None:
    for graph in (exported.graph, exported.graph_float32):
        model = onnx.load_from_string(graph)

        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert not model.metadata_props
        assert b"stack_trace" not in graph
        assert b'File "' not in graph


def test_nothing_is_left_of_int8_once_it_is_loaded(exported: Exported, tmp_path: object) -> None:
    path = f"{tmp_path}/loaded.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = path
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    onnxruntime.InferenceSession(exported.graph, options, providers=["CPUExecutionProvider"])

    kinds = [node.op_type for node in onnx.load(path).graph.node]

    assert "LSTM" in kinds
    assert not [kind for kind in kinds if "Quantize" in kind or "NBits" in kind or "Integer" in kind]


def test_a_scale_for_each_row_loses_half_a_step_at_most() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (6, 40)).astype(np.float32) * np.array(
        [[0.01], [1], [100], [1], [1], [0]], np.float32
    )

    whole, scale = quantised(weight, axis=0)

    assert scale.shape == (6, 1)
    assert np.all(np.abs(whole * scale - weight) <= scale / 2 * 1.001)
    assert np.abs(whole[:5]).max(axis=1).tolist() == [127] * 5


@pytest.mark.parametrize("form", Form)
def test_heart_says_the_same_in_torch_graph_and_numpy(form: Form) -> None:
    torch.manual_seed(1)
    width = len(names_of(form))
    net = HeartNet(torch.rand(width), torch.rand(width) + 0.5, groups_of(form).marks, HeartRecipe(members=3)).eval()
    made = export_heart(net, CALIBRATION)
    x = np.random.default_rng(2).integers(0, 2, (50, width)).astype(np.float32)
    with torch.no_grad():
        wanted = torch.sigmoid(net(torch.from_numpy(x)) * CALIBRATION.slope + CALIBRATION.offset).numpy()

    assert made.weights is not None
    np.testing.assert_allclose(OnnxEngine(made.graph_float32)({"x": x})[0], wanted, atol=1e-5)
    np.testing.assert_allclose(OnnxEngine(made.graph)({"x": x})[0], HeartCell(made.weights)(x), atol=1e-4)
    np.testing.assert_allclose(OnnxEngine(made.graph)({"x": x})[0], wanted, atol=0.03)


def test_rhythm_says_the_same_in_torch_and_graph_at_any_length() -> None:
    torch.manual_seed(2)
    net = RhythmNet(WaveNet(), BeatNet()).eval()
    made = export_rhythm(net)
    rng = np.random.default_rng(3)
    for samples, beats in ((900, 8), (3_000, 41), (6_100, 2)):
        wave = rng.normal(0, 1, (1, 1, samples)).astype(np.float32)
        shapes = rng.normal(0, 1, (1, beats, 76)).astype(np.float32)
        with torch.no_grad():
            wanted = torch.softmax(net(torch.from_numpy(wave), torch.from_numpy(shapes)), -1).numpy()

        inputs = {"wave": wave, "beats": shapes}
        np.testing.assert_allclose(OnnxEngine(made.graph_float32)(inputs)[0], wanted, atol=1e-4)
        np.testing.assert_allclose(OnnxEngine(made.graph)(inputs)[0], wanted, atol=0.03)
