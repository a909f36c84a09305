"""Every benchmark runs, and its last line is one JSON object. Its figures are not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import BENCHMARK_S

pytestmark = pytest.mark.services

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
NEEDS = {
    "cluster": [pytest.mark.services("kafka", "influxdb"), pytest.mark.training],
    "dashboards": [pytest.mark.services("influxdb")],
    "inference": [pytest.mark.training],
    "throughput": [pytest.mark.services("kafka"), pytest.mark.training],
    "tls": [pytest.mark.services("mosquitto")],
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in NAMES])
def test_a_benchmark_ends_with_its_figures(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=BENCHMARK_S,
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.pop("benchmark")
    assert all(_positive(value) for value in figures.values())


def _positive(value: object) -> bool:
    """Whether a figure, or every figure in a table, is a number above zero; names may stand beside them."""
    if isinstance(value, dict):
        return bool(value) and all(_positive(one) for one in value.values())
    return isinstance(value, str) or (isinstance(value, int | float) and value > 0)
