"""Attacks that replace a model in the folder of an edge.

The row is that of docs/security.md.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.scoring import Scoring
from models.artifacts import load, load_all
from models.passport import FILE
from tests.models.made_up import copied, resigned
from wire.identity import NOTHING


def _other_weights(home: Path) -> None:
    graph = bytearray((home / "model.onnx").read_bytes())
    graph[-2_000:-1_000] = bytes(1_000)
    (home / "model.onnx").write_bytes(graph)


def _another_model(home: Path) -> None:
    elsewhere = copied("heart", home.parent / "elsewhere")
    for name in ("model.onnx", "weights.npz", FILE):
        (home / name).write_bytes((elsewhere / name).read_bytes())


def _signed_by_a_stranger(home: Path) -> None:
    _other_weights(home)
    resigned(home)


def _milder_threshold(home: Path) -> None:
    (home / FILE).write_bytes((home / FILE).read_bytes().replace(b'"threshold": 0.0', b'"threshold": 9.0'))


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (_other_weights, "hash"),
        (_another_model, "name"),
        (_signed_by_a_stranger, "signature"),
        (_milder_threshold, "signature"),
    ],
)
def test_a36_a_replaced_model_is_not_used_and_the_screen_says_so(
    tmp_path: Path, attack: Callable[[Path], None], reason: str
) -> None:
    home = copied("sepsis", tmp_path)
    before = (home / FILE).read_bytes(), (home / "model.onnx").read_bytes()

    attack(home)

    assert ((home / FILE).read_bytes(), (home / "model.onnx").read_bytes()) != before
    assert load_all(tmp_path).refused["sepsis"].reason == reason
    assert Scoring(load_all(tmp_path), lambda _: NOTHING).title == f"rules only (sepsis refused: {reason})"


def test_a36_an_old_model_with_a_valid_signature_is_refused(tmp_path: Path) -> None:
    home = copied("sepsis", tmp_path)
    version = load(home).passport.version

    found = load_all(tmp_path, not_below={"sepsis": f"{int(version.split('.')[0]) + 1}.0.0"})

    assert found.refused["sepsis"].reason == "version"
