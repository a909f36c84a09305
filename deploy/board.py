"""What somebody sees while a site runs on this machine: each process, how it is, and where things are."""

import time
from collections import deque
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.supervisor import State, Watched

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."
OVER_S: Final = 10.0
_LOOKS: Final = {
    State.READY: ("●", "green"),
    State.DONE: ("✓", "green"),
    State.STARTING: ("◌", "yellow"),
    State.WAITING: ("·", "dim"),
    State.NOT_READY: ("●", "yellow"),
    State.RESTARTING: ("↻", "red"),
    State.STOPPING: ("◌", "yellow"),
    State.STOPPED: ("○", "dim"),
    State.MISSING: ("–", "dim"),
}


class Place(NamedTuple):
    """Where something is, for people."""

    what: str
    where: str


def board(
    title: str, watched: Sequence[Watched], *, places: Sequence[Place], rate: float | None, news: Sequence[str] = ()
) -> RenderableType:
    """One screen.

    Args:
        rate: readings a second; None: nobody can say.
        news: the last lines of what a phone showed.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "process", "state", "for", "restarts", "what it does, or what is wrong"):
        table.add_column(column, no_wrap=not column.startswith("what"))
    for one in watched:
        sign, style = _LOOKS[one.state]
        wrong = bool(one.problem) and one.state not in (State.READY, State.DONE)
        table.add_row(
            Text(sign, style), Text(one.name, "dim" if one.process.is_step else "bold"), Text(one.state.value, style),
            _span(time.monotonic() - one.since), Text(str(one.restarts or ""), "red"),
            Text(one.problem if wrong else one.process.about, "red" if wrong else "dim", overflow="ellipsis"),
        )  # fmt: skip
    flowing = Text("readings per second: ", "bold").append("unknown" if rate is None else f"{rate:.1f}", "cyan")
    lines = [Text.assemble((f"{one.what:<12}", "bold"), one.where) for one in places]
    told = [
        Text(one, "bright_white on dark_red" if "HIGH" in one else "bright_white", no_wrap=True, overflow="ellipsis")
        for one in news
    ]
    phone = [Text(), Text("on the phone", "bold"), *told] if told else []
    return Group(
        Text(title, "bold cyan"), Text(), table, Text(), flowing, Text(), *lines, *phone, Text(),
        Text(f"{NOT_A_DEVICE} Ctrl-C ends everything.", "dim"),
    )  # fmt: skip


def line(one: Watched, began: float) -> str:
    """A change, where there is no screen to draw on."""
    more = f": {one.problem}" if one.problem and one.state not in (State.READY, State.DONE) else ""
    return f"{time.monotonic() - began:6.1f} s  {one.name:<14} {one.state.value}{more}"


class Rate:
    """Readings a second, of what ingest says of itself."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._seen: deque[tuple[float, float]] = deque()
        self.now: float | None = None

    def look(self) -> None:
        """Ask; blocks for as long as the answer takes."""
        counted, at = _counter(*self._address, "vitalloom_received_total"), time.monotonic()
        if counted is None:
            self._seen.clear()
            self.now = None
            return
        if self._seen and counted < self._seen[-1][1]:  # it was started anew
            self._seen.clear()
        self._seen.append((at, counted))
        # Edges gather readings for a second: over ten of them the rate is calm.
        while at - self._seen[0][0] > OVER_S:
            self._seen.popleft()
        began, first = self._seen[0]
        self.now = (counted - first) / (at - began) if at - began > OVER_S / 4 else None


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
