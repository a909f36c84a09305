"""`vitalloom site run`: run the processes of a site on this machine, as described in `deploy.description`."""

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
from deploy.description import DEMO, Deployment, HealthCheckKind, Process, Program, in_profiles, processes, with_copies
from deploy.errors import PortTaken, SiteIncomplete
from deploy.folder import facts_of
from deploy.settings import LOOPBACK, SiteSettings
from deploy.site_screen import ReadingRate, ScreenEntry, site_screen, state_change_line
from deploy.supervisor import ProcessState, ProcessSupervisor, SupervisedProcess
from runtime.config import load
from runtime.hardening import write_private
from simulators import phone
from simulators.ward.screen import as_svg
from stream.config import DeskConfig

_REFRESH_S: Final = 0.5
_SHOWN_MESSAGES: Final = 4
_GRAFANA: Final = "grafana"
_PASSWORD: Final = "grafana-admin.password"  # noqa: S105 - a file in secrets/


class NativeSite:
    """A site on this machine, ready to run.

    Raises:
        SiteIncomplete, SiteUnusable, ToolMissing, PortTaken: the message names the problem and the fix.
    """

    def __init__(self, folder: Path, *, demo: bool, workers: int | None, out: Console, grafana: bool = True) -> None:
        self.folder = folder.resolve()
        self.settings: SiteSettings = settings.read(folder)
        self.facts = facts_of(folder)
        self.demo = demo
        self.deployment: Deployment = settings.native_deployment(folder, self.settings, self.facts)
        found = [
            one
            for one in in_profiles(processes(self.deployment), profiles=(DEMO,) if demo else ())
            if grafana or one.program is not Program.GRAFANA
        ]
        self.processes = with_copies(found, workers=workers or self.settings.workers, deployment=self.deployment)
        self._out = out
        self._began = time.monotonic()
        self._announced = False
        self._rate = ReadingRate(LOOPBACK, self.settings.ports.ingest_http)
        self.supervisor = ProcessSupervisor(self.processes, self.folder, self.health_url, on_change=self._changed)

    def health_url(self, one: Process) -> str:
        """The URL for `health.problem_of`; empty: no health check."""
        if one.health is None:
            return ""
        scheme = {HealthCheckKind.TCP: "tcp", HealthCheckKind.KAFKA: "kafka"}.get(one.health.kind, "http")
        port = self.deployment.facts.get(one.health.port, one.health.port)
        return f"{scheme}://{LOOPBACK}:{port}{one.health.path if scheme == 'http' else ''}"

    async def run(self, *, for_s: float | None, picture: Path | None = None) -> None:
        """Run until SIGINT or SIGTERM, or for `for_s` seconds.

        Args:
            picture: SVG file for the last screen before the end.
        """
        _check_free(self.processes, self.deployment, self.settings.ports.kafka_controller)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if for_s is not None:
            loop.call_later(for_s, stop.set)
        showing = asyncio.create_task(self._show(), name="site_screen")
        drawing = asyncio.create_task(self._draw(stop, picture), name="picture")
        try:
            await self.supervisor.run(stop)
        finally:
            drawing.cancel()
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
        self._out.print("all processes have stopped; the data is kept for the next run", highlight=False)

    async def _draw(self, stop: asyncio.Event, picture: Path | None) -> None:
        await stop.wait()
        if picture is not None:
            picture.write_text(as_svg(self.screen(), title="vitalloom site run", width=118), encoding="utf-8")

    async def _show(self) -> None:
        if not self._out.is_terminal:
            while True:
                await asyncio.to_thread(self._rate.sample)
                self._announce_when_up()
                await asyncio.sleep(1.0)
        with Live(console=self._out, auto_refresh=False, transient=False) as live:
            while True:
                await asyncio.to_thread(self._rate.sample)
                live.update(self.screen(), refresh=True)
                self.show_first_password()
                await asyncio.sleep(_REFRESH_S)

    def screen(self) -> RenderableType:
        """The current screen."""
        notifications = (
            [one.line() for one in phone.messages(self.folder / "data" / "phone.jsonl")[-_SHOWN_MESSAGES:]]
            if self.demo
            else []
        )
        return site_screen(
            f"site {self.facts.name}",
            list(self.supervisor.processes.values()),
            entries=self.entries(),
            rate=self._rate.now,
            notifications=notifications,
        )

    def entries(self) -> list[ScreenEntry]:
        """Addresses and commands for the user."""
        ports, host = self.settings.ports, self.facts.broker_host
        return [
            ScreenEntry("devices", f"enrol at {self.facts.url}, MQTT at {host}:{self.facts.broker_port}"),
            *self._no_recipients(),
            ScreenEntry("alarms", f"vitalloom alarms --url http://{LOOPBACK}:{ports.desk} list"),
            ScreenEntry("Grafana", self._grafana()),
            ScreenEntry("InfluxDB", f"http://{LOOPBACK}:{ports.influxdb}, token in secrets/reader.token"),
            ScreenEntry("logs", _relative(self.folder / "logs")),
        ]

    def _no_recipients(self) -> list[ScreenEntry]:
        """A warning: a site without recipients of notifications looks like one without alarms."""
        roles = load(DeskConfig, self.folder / "config" / "desk.toml", env_prefix="VITALLOOM_DESK").roles
        if self.demo or {name for names in roles.values() for name in names} - {DEMO}:
            return []
        return [ScreenEntry("people", "NO PERSON IS NOTIFIED: config/desk.toml lists only the phone of the demo")]

    def _grafana(self) -> str:
        one = self.supervisor.processes.get(_GRAFANA)
        if one is None:
            return "not started (--no-grafana)"
        if one.state is ProcessState.MISSING:
            return f"not started: {one.problem}. It is included in the containers"
        return f"http://{LOOPBACK}:{self.settings.ports.grafana}, admin, password in secrets/{_PASSWORD}"

    def show_first_password(self) -> None:
        """Print the password of `admin` once in the life of the site, on a terminal, when Grafana is ready."""
        one, shown = self.supervisor.processes.get(_GRAFANA), self.folder / "data" / "grafana" / ".password-shown"
        if one is None or one.state is not ProcessState.READY or not self._out.is_terminal or shown.exists():
            return
        password = (self.folder / "secrets" / _PASSWORD).read_text(encoding="utf-8").strip()
        address = f"http://{LOOPBACK}:{self.settings.ports.grafana}"
        self._out.print(
            f"Grafana is at {address}. User admin, password {password} (shown once; it is in secrets/{_PASSWORD})",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        write_private(shown, b"")

    def _changed(self, one: SupervisedProcess) -> None:
        if not self._out.is_terminal:
            self._out.print(state_change_line(one, self._began), highlight=False, markup=False, soft_wrap=True)

    def _announce_when_up(self) -> None:
        if self._announced or not self.supervisor.are_up:
            return
        self._announced = True
        self._out.print(f"the site is up after {time.monotonic() - self._began:.0f} s", highlight=False)
        for entry in self.entries():
            self._out.print(f"  {entry.name:<12} {entry.text}", highlight=False, markup=False, soft_wrap=True)


def run(
    folder: Path,
    *,
    demo: bool,
    workers: int | None,
    for_s: float | None,
    picture: Path | None = None,
    grafana: bool = True,
) -> int:
    """The command `vitalloom site run`."""
    out = Console(file=sys.stdout)
    site = NativeSite(folder, demo=demo, workers=workers, out=out, grafana=grafana)
    with _locked(site.folder):
        asyncio.run(site.run(for_s=for_s, picture=picture))
    return 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "logs" / ".running").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SiteIncomplete(folder, "this site is already running in another terminal") from None
        yield


def _check_free(these: Sequence[Process], deployment: Deployment, controller: int) -> None:
    wanted = [
        (one.name, int(deployment.facts.get(one.health.port, one.health.port)))
        for one in these
        if one.health is not None
    ]
    for name, port in [*wanted, ("kafka", controller)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                raise PortTaken(name, port) from None


def _relative(path: Path) -> str:
    """The path relative to the working directory, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
