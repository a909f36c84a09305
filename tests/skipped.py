"""Tests are skipped without the servers and extras that they need, and the end of a run lists what was skipped."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.services.missing import WOULD_TEST, missing
from tests.services.mosquitto import mosquitto_binary
from tests.services.native import installed

TRAINING: Final = ("torch", "onnxscript", "sklearn", "matplotlib", "bytewax", "confluent_kafka", "quixstreams")
"""Packages of the extras `train` and `bench`; `make test-training` installs them."""


def _training_lacks() -> str:
    lacking = [name for name in TRAINING if find_spec(name) is None]
    return f"not installed: {', '.join(lacking)}; make test-training installs them" if lacking else ""


class _NotImported(pytest.Module):
    """A module of tests that imports PyTorch, which takes seconds, or cannot be imported."""

    def collect(self) -> Sequence[pytest.Item]:
        if "not training" not in self.config.option.markexpr:
            missing("training", _training_lacks())
        return []


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    left_out = "not training" in parent.config.option.markexpr or _training_lacks()
    if left_out and "pytestmark = pytest.mark.training" in module_path.read_text(encoding="utf-8"):
        module: pytest.Module = _NotImported.from_parent(parent, path=module_path)
        return module
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("services"):
        for server in marker.args:
            require(server)
    if item.get_closest_marker("training") and (lacks := _training_lacks()):
        missing("training", lacks)


def require(server: str) -> None:
    """Skip this test unless the server is there; or make it there, where everything is required."""
    if server == "mosquitto":
        mosquitto_binary()
    else:
        installed(server)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = list(report(terminalreporter.stats.get("skipped", [])))
    if lines:
        terminalreporter.section("skipped", sep="-")
        for line in lines:
            terminalreporter.write_line(line)


def report(skipped: Sequence[pytest.TestReport | pytest.CollectReport]) -> Iterator[str]:
    """Every reason once: what is missing, and what would have been tested in which files."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in skipped:
        reason = str(one.longrepr[2] if isinstance(one.longrepr, tuple) else one.longrepr)
        by_reason[reason.removeprefix("Skipped: ")].append(one.nodeid.partition("::")[0])
    for reason, files in sorted(by_reason.items()):
        would = WOULD_TEST.get(reason.partition(" is missing: ")[0])
        where = ", ".join(f"{file} ({files.count(file)})" for file in sorted(set(files)))
        yield f"skipped because {reason}"
        yield f"    would have tested: {would}" if would else "    would have tested:"
        yield f"    {where}"
