"""The command `vitalloom ward`: wearables, broker, edge agents, data centre and store, all real, and a screen.

Only patients and time are simulated. Frames are sealed, a broker carries them, agents keep them on disk, and the screen
shows what is in the store.
"""

import asyncio
import contextlib
import getpass
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from models.patient_files.report import FileReport
from runtime import logs
from runtime.clock import FileClock
from simulators.broker import LOOPBACK, Broker, BrokerTls, EmbeddedBroker, RealBroker, free_port
from simulators.enrolled import EnrolledSite, Placement
from simulators.errors import BadWard
from simulators.scenarios import SCENARIOS
from simulators.stories import (
    RECORDED_CADENCE_MS,
    SIMULATED_CADENCE_MS,
    START_MS,
    Recorded,
    Simulated,
    Story,
    StoryDevice,
)
from simulators.ward.options import WardOptions, WardSettings, milliseconds
from simulators.ward.setup import WardSetup
from simulators.ward.summary import WardSummary
from simulators.ward.ward import Ward
from simulators.wearable import WearableKind
from stream.embedded.store import Store
from stream.site.broker_files import BrokerFolder
from stream.site.mosquitto_conf import BrokerSettings


def main(options: WardOptions) -> int:
    """The command `vitalloom ward`: 0 if every reading is accounted for, 1 if not.

    Raises:
        SimulatorError, WireError, StreamError, EdgeError: the message names the problem and the fix.
    """
    if options.scenario == "list":
        _list_scenarios()
        return 0
    began_s = time.monotonic()
    settings = WardSettings.parse(options)
    story = _story(options)
    logs.set_up(level="WARNING")
    summary = asyncio.run(_run(options, settings, story, began_s))
    out = Console()
    out.print(summary.as_table())
    if options.data is not None:
        out.print(f"store and outboxes: {options.data}", style="dim")
    if options.as_json:
        # Written without rich: no wrapping, no colours.
        sys.stdout.write(summary.as_json() + "\n")
        sys.stdout.flush()
    return 0 if summary.is_conserved else 1


def _story(options: WardOptions) -> Story:
    cadence_ms = None if options.cadence is None else milliseconds("--cadence", options.cadence)
    if options.replay is not None:
        story: Story = Recorded(
            options.replay,
            patients=options.patients,
            seed=options.seed,
            cadence_ms=cadence_ms or RECORDED_CADENCE_MS,
            units=options.units,
        )
    else:
        story = Simulated(
            options.scenario,
            patients=options.patients,
            seed=options.seed,
            cadence_ms=cadence_ms or SIMULATED_CADENCE_MS,
            has_rounds=options.has_desk(options.patients),
            devices=options.devices_of_patients(options.patients),
        )
    if story.report is not None:
        _tell(story.report)
    if not story.patients:
        raise BadWard(f"--replay {options.replay}: contains no stay with a vital sign; name another file")
    return story


def _tell(report: FileReport) -> None:
    """Say before the ward begins what is wrong with its file; the summary says it again."""
    for line in report.lines():
        sys.stderr.write(f"{report.source}: {line}\n")


def _list_scenarios() -> None:
    table = Table("scenario", "course")
    for row in SCENARIOS:
        table.add_row(row.name, row.summary)
    Console().print(table)


async def _run(options: WardOptions, settings: WardSettings, story: Story, began_s: float) -> WardSummary:
    with contextlib.ExitStack() as stack:
        folder = _folder(options, stack)
        clock = FileClock.create(folder / "clock", START_MS)
        stack.callback(clock.close)
        port = free_port()
        site = stack.enter_context(contextlib.closing(EnrolledSite(folder, clock, broker_port=port)))
        await _enrol(site, options, story)
        broker = None if settings.external_broker else stack.enter_context(_broker(site, folder, port, settings))
        store = stack.enter_context(Store(folder / "store.sqlite"))
        setup = WardSetup(
            options=options,
            settings=settings,
            story=story,
            folder=folder,
            address=settings.external_broker or (LOOPBACK, port),
            broker=broker,
            store=store,
            clock=clock,
            site=site,
            began_s=began_s,
        )
        return await Ward(setup).run()


async def _enrol(site: EnrolledSite, options: WardOptions, story: Story) -> None:
    """Enrol all devices, with a progress bar on a terminal."""
    edges = min(options.edges, story.patients)
    quiet = options.as_json or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("enrolling devices", total=edges + len(story.devices))
        await site.enrol(
            wearables=len(story.devices),
            edges=edges,
            now_ms=START_MS,
            about=story.about,
            placed=lambda index: _placement(story.devices[index], edges),
            on_enrolled=lambda: progress.advance(task),
        )


def _placement(device: StoryDevice, edges: int) -> Placement:
    """Every second patient with several devices is heard by two edges."""
    away = device.number % 2 if device.patient % 4 == 1 else 0
    name = "" if device.kind is WearableKind.MONITOR else f"{device.kind.value} {device.number + 1}"
    return Placement(device.patient, (device.patient + away) % edges, name)


def _broker(enrolled: EnrolledSite, folder: Path, port: int, settings: WardSettings) -> Broker:
    files = BrokerFolder((folder / "site" / "broker").resolve())
    site = enrolled.site
    broker_settings = BrokerSettings(
        folder=files.folder, user=getpass.getuser(), port=port, host=LOOPBACK, max_connections=-1
    )
    files.write(
        site.registry,
        site.authority,
        broker_settings,
        hosts=(LOOPBACK,),
        at=datetime.now(UTC),
        who="ward",
    )
    if settings.starts_mosquitto:
        return RealBroker(files.config_file, port=port, log=folder / "mosquitto.log")
    tls = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
    return EmbeddedBroker(folder, port=port, tls=tls)


def _folder(options: WardOptions, stack: contextlib.ExitStack) -> Path:
    if options.data is None:
        folder = Path(tempfile.mkdtemp(prefix="vitalloom-ward-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    if options.data.exists() and (not options.data.is_dir() or any(options.data.iterdir())):
        raise BadWard(
            f"--data {options.data}: is not an empty folder; a ward cannot be continued, so name a new folder"
        )
    options.data.mkdir(parents=True, exist_ok=True)
    return options.data
