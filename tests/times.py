"""Where the time of a run goes: seconds of each folder of tests, shown with `--durations`."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.option.durations is None:
        return
    reports = [one for some in terminalreporter.stats.values() for one in some if isinstance(one, pytest.TestReport)]
    terminalreporter.section("seconds per folder", sep="-")
    for line in per_folder(reports):
        terminalreporter.write_line(line)


def per_folder(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    """The slowest folder first; setup and teardown count."""
    spent: Counter[str] = Counter()
    for one in reports:
        file = one.nodeid.partition("::")[0]
        spent["/".join(file.split("/")[:2])] += one.duration
    for folder, seconds in spent.most_common():
        yield f"{seconds:8.1f}  {folder}"
