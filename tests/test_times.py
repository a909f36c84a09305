"""The seconds of a run are summed by folder, the slowest first."""

import pytest

from tests.times import per_folder


def a_report(file: str, seconds: float, when: str = "call") -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=f"{file}::test_it", location=(file, 1, "test_it"), keywords={}, outcome="passed", longrepr=None,
        when=when, duration=seconds,
    )  # fmt: skip


def test_setup_counts_and_the_slowest_folder_is_first() -> None:
    reports = [
        a_report("tests/vitals/test_news2.py", 1.0),
        a_report("tests/models/training/test_runs.py", 2.0),
        a_report("tests/models/test_sepsis.py", 0.5, when="setup"),
        a_report("tests/test_house.py", 0.25),
    ]

    assert list(per_folder(reports)) == [
        "     2.5  tests/models",
        "     1.0  tests/vitals",
        "     0.2  tests/test_house.py",
    ]
