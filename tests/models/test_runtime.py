"""The released graphs as they run: the same bits in any company, and the same numbers as NumPy."""

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


def test_a_patient_alone_scores_the_same_bits_as_among_256(sepsis: OnnxEngine) -> None:
    rows = some_rows(256, 12)

    together, h, c = sepsis({"x": rows, "h": state(256), "c": state(256)})

    for at in range(0, 256, 17):
        alone, h_alone, c_alone = sepsis({"x": rows[at : at + 1], "h": state(1), "c": state(1)})
        assert alone.tobytes() == together[at : at + 1].tobytes()
        assert h_alone.tobytes() == h[:, at : at + 1].tobytes()
        assert c_alone.tobytes() == c[:, at : at + 1].tobytes()


def test_step_by_step_gives_the_same_bits_as_all_at_once(sepsis: OnnxEngine) -> None:
    rows = some_rows(3, 48)
    whole, h_whole, c_whole = sepsis({"x": rows, "h": state(3), "c": state(3)})

    h, c = state(3), state(3)
    for hour in range(48):
        y, h, c = sepsis({"x": rows[:, hour : hour + 1], "h": h, "c": c})
        assert y.tobytes() == np.ascontiguousarray(whole[:, hour : hour + 1]).tobytes()

    assert (h.tobytes(), c.tobytes()) == (h_whole.tobytes(), c_whole.tobytes())


def test_numpy_says_what_the_runtime_says(sepsis: OnnxEngine) -> None:
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


def test_rhythm_without_a_runtime_is_unavailable_and_says_why() -> None:
    with pytest.raises(ModelUnavailable, match="onnxruntime") as caught:
        engine_of(released("rhythm"), prefer="numpy")

    assert caught.value.reason == "runtime"


def test_a_model_with_another_answer_than_its_golden_one_does_not_judge(tmp_path: Path) -> None:
    home = copied("heart", tmp_path)
    golden = released("heart").passport.golden
    wrong = Golden(inputs=golden.inputs, output=[[1 - golden.output[0][0]]], tolerance=golden.tolerance)
    resigned(home, golden=wrong)

    with pytest.raises(ModelUnavailable) as caught:
        engine_of(load(home, trusted=(PUBLIC,)))

    assert caught.value.reason == "golden"


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    home = copied("heart", tmp_path)
    (home / "model.onnx").write_bytes(b"not a graph")
    resigned(home)

    with pytest.raises(ModelUnavailable) as caught:
        engine_of(load(home, trusted=(PUBLIC,)))

    assert caught.value.reason == "graph"


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.01, 1.01])
def test_what_is_no_probability_is_no_score(score: float) -> None:
    with pytest.raises(ModelUnavailable):
        probability(score)
