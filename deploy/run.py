"""`vitalloom site run`: the processes of a site on this machine, from the description that compose is made of."""

import asyncio
import contextlib
import fcntl
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live

from deploy import settings
from deploy.board import Place as Where
from deploy.board import Rate, board, line
from deploy.description import DEMO, Check, Place, Process, chosen, processes, with_copies
from deploy.errors import PortTaken, SiteIncomplete
from deploy.folder import facts_of
from deploy.settings import LOOPBACK, SiteSettings
from deploy.supervisor import State, Supervisor, Watched
from runtime.config import load
from simulators import phone
from simulators.ward.screen import as_svg
from stream.config import DeskConfig

_DRAW_S: Final = 0.5
_NEWS: Final = 4


class Native:
    """A site on this machine, ready to run.

    Raises:
        SiteIncomplete, SiteUnusable, ToolMissing, PortTaken: what is wrong, and the cure.
    """

    def __init__(self, folder: Path, *, demo: bool, workers: int | None, out: Console) -> None:
        self.folder = folder.resolve()
        self.told: SiteSettings = settings.read(folder)
        self.facts = facts_of(folder)
        self.demo = demo
        self.place: Place = settings.native(folder, self.told, self.facts)
        found = chosen(processes(self.place), profiles=(DEMO,) if demo else ())
        self.processes = with_copies(found, workers=workers or self.told.workers, place=self.place)
        self._out = out
        self._began = time.monotonic()
        self._said_up = False
        self._rate = Rate(LOOPBACK, self.told.ports.ingest_http)
        self.supervisor = Supervisor(self.processes, self.folder, self.question, on_change=self._changed)

    def question(self, one: Process) -> str:
        """What to ask `health.ask`; empty: nothing."""
        if one.health is None:
            return ""
        scheme = {Check.TCP: "tcp", Check.KAFKA: "kafka"}.get(one.health.how, "http")
        port = self.place.facts.get(one.health.port, one.health.port)
        return f"{scheme}://{LOOPBACK}:{port}{one.health.path if scheme == 'http' else ''}"

    async def run(self, *, for_s: float | None, picture: Path | None = None) -> None:
        """Until it is told to stop, or for so long.

        Args:
            picture: where the last screen before the end goes, as SVG.
        """
        _check_free(self.processes, self.place, self.told.ports.kafka_controller)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if for_s is not None:
            loop.call_later(for_s, stop.set)
        showing = asyncio.create_task(self._show(), name="board")
        drawing = asyncio.create_task(self._draw(stop, picture), name="picture")
        try:
            await self.supervisor.run(stop)
        finally:
            drawing.cancel()
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
        self._out.print("everything has ended; the data is kept, and the next run goes on from here", highlight=False)

    async def _draw(self, stop: asyncio.Event, picture: Path | None) -> None:
        await stop.wait()
        if picture is not None:
            picture.write_text(as_svg(self.screen(), title="vitalloom site run", width=118), encoding="utf-8")

    async def _show(self) -> None:
        if not self._out.is_terminal:
            while True:
                await asyncio.to_thread(self._rate.look)
                self._say_when_up()
                await asyncio.sleep(1.0)
        with Live(console=self._out, auto_refresh=False, transient=False) as live:
            while True:
                await asyncio.to_thread(self._rate.look)
                live.update(self.screen(), refresh=True)
                await asyncio.sleep(_DRAW_S)

    def screen(self) -> RenderableType:
        """As it is now."""
        news = [one.line() for one in phone.shown(self.folder / "data" / "phone.jsonl")[-_NEWS:]] if self.demo else []
        return board(
            f"site {self.facts.name}", list(self.supervisor.watched.values()), places=self.places(),
            rate=self._rate.now, news=news,
        )  # fmt: skip

    def places(self) -> list[Where]:
        """Where things are."""
        ports, host = self.told.ports, self.facts.broker_host
        return [
            Where("devices", f"enrol at {self.facts.url}, MQTT at {host}:{self.facts.broker_port}"),
            *self._nobody(),
            Where("alarms", f"vitalloom alarms --url http://{LOOPBACK}:{ports.desk} list"),
            Where("Grafana", self._grafana()),
            Where("InfluxDB", f"http://{LOOPBACK}:{ports.influxdb}, token in secrets/reader.token"),
            Where("logs", _near(self.folder / "logs")),
        ]

    def _nobody(self) -> list[Where]:
        """A site that calls nobody looks like one where all is well."""
        roles = load(DeskConfig, self.folder / "config" / "desk.toml", env_prefix="VITALLOOM_DESK").roles
        if self.demo or {name for names in roles.values() for name in names} - {DEMO}:
            return []
        return [Where("people", "NOBODY IS CALLED: config/desk.toml knows the demo's phone alone")]

    def _grafana(self) -> str:
        one = self.supervisor.watched["grafana"]
        if one.state is State.MISSING:
            return "not installed on this machine, so not started; containers bring it"
        return f"http://{LOOPBACK}:{self.told.ports.grafana}, admin, password in secrets/grafana-admin.password"

    def _changed(self, one: Watched) -> None:
        if not self._out.is_terminal:
            self._out.print(line(one, self._began), highlight=False, markup=False, soft_wrap=True)

    def _say_when_up(self) -> None:
        if self._said_up or not self.supervisor.are_up:
            return
        self._said_up = True
        self._out.print(f"the site is up after {time.monotonic() - self._began:.0f} s", highlight=False)
        for where in self.places():
            self._out.print(f"  {where.what:<12} {where.where}", highlight=False, markup=False, soft_wrap=True)


def run(folder: Path, *, demo: bool, workers: int | None, for_s: float | None, picture: Path | None = None) -> int:
    """The command `vitalloom site run`."""
    out = Console(file=sys.stdout)
    site = Native(folder, demo=demo, workers=workers, out=out)
    with _alone_with(site.folder):
        asyncio.run(site.run(for_s=for_s, picture=picture))
    return 0


@contextlib.contextmanager
def _alone_with(folder: Path) -> Iterator[None]:
    with (folder / "logs" / ".running").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SiteIncomplete(folder, "this site runs already, in another terminal") from None
        yield


def _check_free(these: Sequence[Process], place: Place, controller: int) -> None:
    wanted = [
        (one.name, int(place.facts.get(one.health.port, one.health.port))) for one in these if one.health is not None
    ]
    for name, port in [*wanted, ("kafka", controller)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                raise PortTaken(name, port) from None


def _near(path: Path) -> str:
    """As somebody who stands here would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
