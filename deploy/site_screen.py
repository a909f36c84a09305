"""The terminal screen of `vitalloom site run`: state of each process, and addresses for the user."""

import time
from collections import deque
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.supervisor import ProcessState, SupervisedProcess

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."
RATE_WINDOW_S: Final = 10.0
_STYLES: Final = {
    ProcessState.READY: ("●", "green"),
    ProcessState.DONE: ("✓", "green"),
    ProcessState.STARTING: ("◌", "yellow"),
    ProcessState.WAITING: ("·", "dim"),
    ProcessState.NOT_READY: ("●", "yellow"),
    ProcessState.RESTARTING: ("↻", "red"),
    ProcessState.STOPPING: ("◌", "yellow"),
    ProcessState.STOPPED: ("○", "dim"),
    ProcessState.MISSING: ("–", "dim"),
}


class ScreenEntry(NamedTuple):
    """A line of the screen: an address or a command."""

    name: str
    text: str


def site_screen(
    title: str,
    supervised: Sequence[SupervisedProcess],
    *,
    entries: Sequence[ScreenEntry],
    rate: float | None,
    notifications: Sequence[str] = (),
) -> RenderableType:
    """The screen.

    Args:
        rate: readings per second; None: unknown.
        notifications: the last notifications that the phone of the demo received.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "process", "state", "for", "restarts", "purpose or problem"):
        table.add_column(column, no_wrap=column != "purpose or problem")
    for one in supervised:
        symbol, style = _STYLES[one.state]
        has_problem = bool(one.problem) and one.state not in (ProcessState.READY, ProcessState.DONE)
        table.add_row(
            Text(symbol, style),
            Text(one.name, "dim" if one.process.is_step else "bold"),
            Text(one.state.value, style),
            _span(time.monotonic() - one.since),
            Text(str(one.restarts or ""), "red"),
            Text(
                one.problem if has_problem else one.process.about, "red" if has_problem else "dim", overflow="ellipsis"
            ),
        )
    throughput = Text("readings per second: ", "bold").append("unknown" if rate is None else f"{rate:.1f}", "cyan")
    lines = [Text.assemble((f"{one.name:<12}", "bold"), one.text) for one in entries]
    rows = [
        Text(one, "bright_white on dark_red" if "HIGH" in one else "bright_white", no_wrap=True, overflow="ellipsis")
        for one in notifications
    ]
    phone = [Text(), Text("phone of the demo", "bold"), *rows] if rows else []
    return Group(
        Text(title, "bold cyan"),
        Text(),
        table,
        Text(),
        throughput,
        Text(),
        *lines,
        *phone,
        Text(),
        Text(f"{NOT_A_DEVICE} Ctrl-C stops the site.", "dim"),
    )


def state_change_line(one: SupervisedProcess, began: float) -> str:
    """A change of state as one line, for output that is not a terminal."""
    more = f": {one.problem}" if one.problem and one.state not in (ProcessState.READY, ProcessState.DONE) else ""
    return f"{time.monotonic() - began:6.1f} s  {one.name:<14} {one.state.value}{more}"


class ReadingRate:
    """Readings per second, from the metrics of ingest."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._samples: deque[tuple[float, float]] = deque()
        self.now: float | None = None

    def sample(self) -> None:
        """Read the counter; blocks until the response arrives."""
        counted, at = _counter(*self._address, "vitalloom_received_total"), time.monotonic()
        if counted is None:
            self._samples.clear()
            self.now = None
            return
        if self._samples and counted < self._samples[-1][1]:  # ingest was restarted
            self._samples.clear()
        self._samples.append((at, counted))
        # Edges send once a second: over ten seconds the rate is smooth.
        while at - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()
        began, first = self._samples[0]
        self.now = (counted - first) / (at - began) if at - began > RATE_WINDOW_S / 4 else None


def _counter(host: str, port: int, name: str) -> float | None:
    connection = HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    rows = (row.rpartition(" ") for row in text.splitlines() if row.startswith((f"{name} ", f"{name}{{")))
    found = [float(value) for _, _, value in rows]
    return sum(found) if found else None


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
