"""What is skipped is said by name, with its reason and what it would have tested; where it is required, it fails."""

from pathlib import Path

import pytest

from deploy.native.tools import why_missing
from tests.services.missing import REQUIRED, WOULD_TEST, missing
from tests.skipped import report


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine on which nothing is required."""
    monkeypatch.delenv(REQUIRED, raising=False)
    monkeypatch.delenv("CI", raising=False)
    return monkeypatch


def a_skip(file: str, reason: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=f"{file}::test_it", location=(file, 1, "test_it"), keywords={}, outcome="skipped",
        longrepr=(file, 1, f"Skipped: {reason}"), when="setup",
    )  # fmt: skip


def test_what_is_missing_is_skipped(at_home: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="influxdb is missing: it needs Go"):
        missing("influxdb", "it needs Go")


@pytest.mark.parametrize(("variable", "value"), [(REQUIRED, "1"), ("CI", "true")])
def test_what_is_missing_is_an_error_where_it_is_required(
    variable: str, value: str, at_home: pytest.MonkeyPatch
) -> None:
    at_home.setenv(variable, value)

    with pytest.raises(pytest.fail.Exception, match="influxdb is missing: it needs Go"):
        missing("influxdb", "it needs Go")


def test_each_reason_is_said_once_with_what_would_have_been_tested() -> None:
    skipped = [
        a_skip("tests/stream/test_store.py", "influxdb is missing: it needs Go"),
        a_skip("tests/stream/test_store.py", "influxdb is missing: it needs Go"),
        a_skip("tests/dashboards/test_flux.py", "influxdb is missing: it needs Go"),
        a_skip("tests/models/test_recorded_stays.py", "no recorded stays"),
    ]

    assert list(report(skipped)) == [
        "skipped because influxdb is missing: it needs Go",
        f"    would have tested: {WOULD_TEST['influxdb']}",
        "    tests/dashboards/test_flux.py (1), tests/stream/test_store.py (2)",
        "skipped because no recorded stays",
        "    would have tested:",
        "    tests/models/test_recorded_stays.py (1)",
    ]


@pytest.mark.parametrize("name", ["mosquitto", "influxdb"])
def test_the_reason_is_what_the_installation_wrote_down(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VITALLOOM_CACHE", str(tmp_path))
    assert why_missing(name) == f"not installed; deploy/native/install.sh {name} installs it"

    (tmp_path / "services" / "missing").mkdir(parents=True)
    (tmp_path / "services" / "missing" / name).write_text("it needs `go`, and the package index has none\n")

    assert why_missing(name) == "it needs `go`, and the package index has none"
