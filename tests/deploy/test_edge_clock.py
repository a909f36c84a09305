"""The doctor of an edge says how far its clock is from the data centre's, as the agent has found it."""

from pathlib import Path

import pytest

from deploy.checks import Severity
from deploy.edge_checks import _clock
from edge import status as edge_status
from edge.config import EdgeConfig
from tests.edge.statuses import a_status


@pytest.mark.parametrize(
    ("clock_ms", "severity", "says"),
    [
        (2_000, Severity.OK, "within 5 s of the clock of the data centre"),
        (-10_000, Severity.WARNING, "10 seconds behind the clock of the data centre"),
        (210_000, Severity.ERROR, "4 minutes ahead of the clock of the data centre"),
        (-600_000, Severity.ERROR, "10 minutes behind the clock of the data centre"),
    ],
)
def test_the_clock_is_compared(clock_ms: int, severity: Severity, says: str, tmp_path: Path) -> None:
    config = EdgeConfig(identity=tmp_path / "identity", data_dir=tmp_path, status_file=tmp_path / "status")
    edge_status.write(tmp_path / "status", a_status(clock_ms=clock_ms))

    (found,) = _clock(config)

    assert (found.severity, found.result) == (severity, says)


@pytest.mark.parametrize("status", [None, a_status(), a_status(clock_ms=99_000, stopped=True)])
def test_without_an_agent_that_has_heard_the_data_centre_nothing_is_said(
    status: edge_status.Status | None, tmp_path: Path
) -> None:
    config = EdgeConfig(identity=tmp_path / "identity", data_dir=tmp_path, status_file=tmp_path / "status")
    if status is not None:
        edge_status.write(tmp_path / "status", status)

    assert _clock(config) == []
