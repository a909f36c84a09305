"""How the benchmarks measure: processor time of this process, stages interleaved, the median of several rounds.

Times differ between machines; read them as ratios within one run.
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
"""A look at whether it runs; the figures mean nothing."""

Stage = Callable[[], int]
"""Does some work and says how many items it was."""

_console = Console(stderr=True)


def microseconds(stages: Mapping[str, Stage], *, rounds: int = 1 if QUICK else 7) -> dict[str, float]:
    """Median processor time per item and stage, in µs. Each round goes through all stages, so noise meets them all."""
    found: dict[str, list[float]] = {name: [] for name in stages}
    for name, stage in stages.items():
        stage()  # warm
        found[name].clear()
    for _ in track(range(rounds), description="rounds", console=_console, transient=True):
        for name, stage in stages.items():
            began = time.process_time_ns()
            items = stage()
            found[name].append((time.process_time_ns() - began) / items / 1_000)
    return {name: statistics.median(values) for name, values in found.items()}


def report(title: str, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...], facts: Mapping[str, Any]) -> None:
    """A table for people, and the same as one line of JSON, last."""
    if "--json" not in sys.argv[1:]:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    print(json.dumps({"benchmark": title, **facts}))
