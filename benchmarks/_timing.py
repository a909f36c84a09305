"""Measurement for the benchmarks: processor time of this process, stages in turn, median of several rounds.

Times differ between machines; compare ratios within one run.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

QUICK = "--quick" in sys.argv[1:]
"""Only check that the benchmark runs; the figures are meaningless."""

Stage = Callable[[], int]
"""Does some work and returns the number of items."""

_console = Console(stderr=True)


def microseconds(stages: Mapping[str, Stage], *, rounds: int = 1 if QUICK else 7) -> dict[str, float]:
    """Median processor time per item of each stage, in µs. Each round runs all stages, so that noise affects all."""
    found: dict[str, list[float]] = {name: [] for name in stages}
    for name, stage in stages.items():
        stage()  # warm-up
        found[name].clear()
    for _ in track(range(rounds), description="rounds", console=_console, transient=True):
        for name, stage in stages.items():
            began = time.process_time_ns()
            items = stage()
            found[name].append((time.process_time_ns() - began) / items / 1_000)
    return {name: statistics.median(values) for name, values in found.items()}


def report(title: str, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...], facts: Mapping[str, Any]) -> None:
    """Print a table (not with --json), and the figures as one line of JSON at the end."""
    if "--json" not in sys.argv[1:]:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    print(json.dumps({"benchmark": title, **facts}))
