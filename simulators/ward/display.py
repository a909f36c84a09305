"""What a ward shows on the terminal while it runs: the live table, a line of progress, or alarms one by one."""

import asyncio
import sys
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live

from simulators.ward.alarm_desk import AlarmDeskPart
from simulators.ward.lifetime import Lifetime, WardPart
from simulators.ward.options import MANY_PATIENTS
from simulators.ward.playback import Playback
from simulators.ward.raised_alarms import RECENT, RaisedAlarms
from simulators.ward.report import WardReport
from simulators.ward.screen import DUE_LINES, HELD_LINES, RESPONSE_LINES, as_svg, time_of_day
from simulators.ward.screen import ward as ward_screen
from simulators.ward.setup import WardSetup
from vitals.messages import AlarmChanged

_REFRESH_S: Final = 0.25
_REFRESH_MANY_S: Final = 2.0
_PICTURE_COLUMNS: Final = 180
_OTHER_LINES: Final = (
    2 * RECENT + 2 * RESPONSE_LINES + DUE_LINES + HELD_LINES + 9
)  # of the screen, beside the rows of its table


class Display(WardPart):
    """Draws the ward's screen again and again, or with `--headless` one line of progress on standard error."""

    def __init__(
        self,
        setup: WardSetup,
        report: WardReport,
        playback: Playback,
        alarms: RaisedAlarms,
        desk: AlarmDeskPart | None,
    ) -> None:
        self._options = setup.options
        self._refresh_s = _REFRESH_S if setup.story.patients <= MANY_PATIENTS else _REFRESH_MANY_S
        self._report = report
        self._playback = playback
        self._alarms = alarms
        self._desk = desk

    async def start(self, lifetime: Lifetime) -> None:
        if self._options.headless and not self._options.as_json and self._desk is not None:
            for hint in self._desk.hints():
                print_line(hint.plain)
        if not self._options.headless:
            lifetime.run(self._show_table(), name="screen")
        elif not self._options.as_json and sys.stderr.isatty():
            lifetime.run(self._show_progress(), name="screen")

    def save_picture(self) -> None:
        """Write the screen of this moment to the file that `--picture` names, if any."""
        if self._options.picture is not None:
            screen = self._screen(Console(width=_PICTURE_COLUMNS, height=40))
            svg = as_svg(screen, title="vitalloom ward", width=_PICTURE_COLUMNS)
            self._options.picture.write_text(svg, encoding="utf-8")

    async def _show_table(self) -> None:
        console = Console()
        with Live(console=console, auto_refresh=False, screen=False, transient=True) as live:
            while True:
                live.update(self._screen(console), refresh=True)
                await asyncio.sleep(self._refresh_s)

    async def _show_progress(self) -> None:
        with Console(stderr=True).status("") as line:
            while True:
                now = self._report.status()
                line.update(
                    f"{now.title}: {now.simulated} UTC, {now.speed:.0f}×, sent {now.sent}, stored {now.stored} "
                    f"{now.trouble}"
                )
                await asyncio.sleep(_REFRESH_S)

    def _screen(self, console: Console) -> RenderableType:
        at_ms = self._playback.complete_until_ms
        return ward_screen(
            self._report.rows(at_ms),
            self._report.status(),
            list(self._alarms.recent),
            calls=None if self._desk is None else self._desk.calls.by_alarm,
            hints=() if self._desk is None else self._desk.hints(),
            now_ms=at_ms,
            most=max(3, console.size.height - _OTHER_LINES),
            width=console.size.width,
        )


def print_alarm(bed: str, alarm: AlarmChanged) -> None:
    """Print one alarm as a line on standard output."""
    print_line(f"{time_of_day(alarm.at_ms)}  bed {bed}: {alarm.priority.name.lower()}: {alarm.text}")


def print_line(line: str) -> None:
    """Print a line on standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
