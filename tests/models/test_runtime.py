"""Inference with the released graphs: independent of the batch, and equal to NumPy."""

import math
from pathlib import Path

import numpy as np
import pytest

from models.artifacts import load
from models.errors import ModelUnavailable
from models.passport import Golden
from models.runtime import OnnxEngine, SepsisNumpyEngine, engine_of, probability
from models.sepsis_features import NAMES
from tests.models.made_up import PUBLIC, copied, released, resigned

HIDDEN = len(released("sepsis").passport.golden.inputs["h"][0])


@pytest.fixture(scope="module")
def sepsis() -> OnnxEngine:
    return OnnxEngine(released("sepsis").files["model.onnx"])


def some_rows(patients: int, hours: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(40, 40, (patients, hours, len(NAMES))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    return rows


def state(patients: int) -> np.ndarray:
    return np.zeros((1, patients, HIDDEN), np.float32)


def test_a_patient_has_the_same_score_alone_and_in_a_batch_of_256(sepsis: OnnxEngine) -> None:
    rows = some_rows(256, 12)

    together, h, c = sepsis({"x": rows, "h": state(256), "c": state(256)})

    for at in range(0, 256, 17):
        alone, h_alone, c_alone = sepsis({"x": rows[at : at + 1], "h": state(1), "c": state(1)})
        assert alone.tobytes() == together[at : at + 1].tobytes()
        assert h_alone.tobytes() == h[:, at : at + 1].tobytes()
        assert c_alone.tobytes() == c[:, at : at + 1].tobytes()


def test_step_by_step_gives_the_same_bits_as_one_call(sepsis: OnnxEngine) -> None:
    rows = some_rows(3, 48)
    whole, h_whole, c_whole = sepsis({"x": rows, "h": state(3), "c": state(3)})

    h, c = state(3), state(3)
    for hour in range(48):
        y, h, c = sepsis({"x": rows[:, hour : hour + 1], "h": h, "c": c})
        assert y.tobytes() == np.ascontiguousarray(whole[:, hour : hour + 1]).tobytes()

    assert (h.tobytes(), c.tobytes()) == (h_whole.tobytes(), c_whole.tobytes())


def test_numpy_gives_the_same_scores_as_onnxruntime(sepsis: OnnxEngine) -> None:
    numpy = SepsisNumpyEngine(released("sepsis").files["weights.npz"])
    rows = some_rows(5, 60)

    for one, other in zip(
        sepsis({"x": rows, "h": state(5), "c": state(5)}), numpy({"x": rows, "h": state(5), "c": state(5)}), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("name", ["sepsis", "heart", "heart-home"])
@pytest.mark.parametrize("engine", ["onnxruntime", "numpy"])
def test_each_engine_gives_the_golden_answer(name: str, engine: str) -> None:
    assert engine_of(released(name), prefer=engine).name == engine


def test_rhythm_gives_its_golden_answer() -> None:
    assert engine_of(released("rhythm")).name == "onnxruntime"


def test_rhythm_without_onnxruntime_is_unavailable_with_a_reason() -> None:
    with pytest.raises(ModelUnavailable, match="onnxruntime") as caught:
        engine_of(released("rhythm"), prefer="numpy")

    assert caught.value.reason == "runtime"


def test_a_model_that_does_not_reproduce_its_golden_answer_is_refused(tmp_path: Path) -> None:
    home = copied("heart", tmp_path)
    golden = released("heart").passport.golden
    wrong = Golden(inputs=golden.inputs, output=[[1 - golden.output[0][0]]], tolerance=golden.tolerance)
    resigned(home, golden=wrong)

    with pytest.raises(ModelUnavailable) as caught:
        engine_of(load(home, trusted=(PUBLIC,)))

    assert caught.value.reason == "golden"


def test_a_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    home = copied("heart", tmp_path)
    (home / "model.onnx").write_bytes(b"not a graph")
    resigned(home)

    with pytest.raises(ModelUnavailable) as caught:
        engine_of(load(home, trusted=(PUBLIC,)))

    assert caught.value.reason == "graph"


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.01, 1.01])
def test_an_output_that_is_not_a_probability_is_refused(score: float) -> None:
    with pytest.raises(ModelUnavailable):
        probability(score)
