"""onnxruntime's telemetry is off: the variable is set before it is imported, in every image and in every unit."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIABLE = "ORT_DISABLE_TELEMETRY"
UNITS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "edge").glob("*.service"))
IMAGES = ["Dockerfile", "edge/Dockerfile"]

PROBE = f"""
import os, sys

class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("{VARIABLE}"))
        return None

sys.meta_path.insert(0, Watch)
"""
FIRST_MODEL = """
from models.errors import ModelUnavailable
from models.runtime import OnnxEngine
try:
    OnnxEngine(b"no graph")
except ModelUnavailable:
    pass
"""


def seen_at_import(program: str, **environment: str) -> list[str]:
    """What the variable was at each import of onnxruntime in a fresh interpreter."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", PROBE + program], cwd=ROOT, env=inherited | environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.split()


def variables(dockerfile: Path) -> dict[str, str]:
    """What ENV sets in the last stage."""
    stage = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ").rpartition("\nFROM ")[2]
    words = [word for line in stage.splitlines() if line.startswith("ENV ") for word in shlex.split(line)[1:]]
    return dict(word.split("=", 1) for word in words)  # type: ignore[misc]


@pytest.mark.services
@pytest.mark.parametrize("program", [FIRST_MODEL, "import models.training.export"], ids=["runtime", "training"])
def test_telemetry_is_off_before_onnxruntime_is_imported(program: str) -> None:
    if "training" in program:
        pytest.importorskip("torch")

    assert seen_at_import(program) == ["1"]


@pytest.mark.services
def test_a_value_that_the_environment_sets_is_kept() -> None:
    assert seen_at_import(FIRST_MODEL, ORT_DISABLE_TELEMETRY="true") == ["true"]


def test_every_image_sets_it() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/Dockerfile")} | {"Dockerfile"} == set(IMAGES)
    for name in IMAGES:
        assert variables(ROOT / name)[VARIABLE] == "1", name


def test_every_unit_sets_it() -> None:
    assert len(UNITS) == 2
    for name in UNITS:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert f"Environment={VARIABLE}=1" in lines, name
