"""The command `vitalloom doctor`: look at everything that one was told of, and say what is wrong, with the cure.

It changes nothing. What is looked at at once takes seconds; a server that does not answer is given up after a few.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from deploy.findings import Finding, Verdict, ok, worst_first, wrong
from runtime import health
from runtime.clock import Clock, SystemClock
from runtime.config import load
from runtime.errors import ConfigError, MissingExtra, NoSuchAddress

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."
_WITHIN_S: Final = 45.0
_COLOURS: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red"}


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be looked at; what is None or empty is not there."""

    site: Path | None = None
    ingest: Path | None = None
    worker: Path | None = None
    store: Path | None = None
    edge: Path | None = None
    processes: tuple[str, ...] = ()  # addresses, as `vitalloom health` takes them
    pause_s: float = 4.0  # between two looks at what waits


class Report(msgspec.Struct, kw_only=True):
    """For machines."""

    wrong: int
    warnings: int
    findings: list[Finding]


def main(patient: Patient, *, as_json: bool, everything: bool) -> int:
    """Status 1 if something is wrong.

    Raises:
        MissingExtra: what was named cannot be looked at with what is installed here.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # the libraries' complaints are ours to tell
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    screen = Console(stderr=True)
    found = asyncio.run(_watched(examinations(patient, SystemClock()), screen))
    report = Report(
        wrong=sum(one.verdict is Verdict.WRONG for one in found),
        warnings=sum(one.verdict is Verdict.WARNING for one in found),
        findings=found,
    )
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n")
    else:
        show(report, Console(), everything=everything)
    return 1 if report.wrong else 0


async def examine(patient: Patient, clock: Clock) -> list[Finding]:
    """Everything, worst first."""
    found = await asyncio.gather(*(work for _, work in examinations(patient, clock)))
    return worst_first([one for part in found for one in part])


def examinations(patient: Patient, clock: Clock) -> list[tuple[str, Awaitable[list[Finding]]]]:
    """What is looked at, by name. Rooms are loaded for what was named alone: an edge has no Kafka client."""
    found: list[tuple[str, Awaitable[list[Finding]]]] = []
    try:
        if patient.site is not None:
            from deploy.site_examination import examine_site

            found.append((f"site {patient.site}", _within(f"site {patient.site}", examine_site(patient.site, clock))))
        if patient.ingest or patient.worker or patient.store:
            found += _cluster(patient, clock)
        if patient.edge is not None:
            from deploy.edge_examination import examine_edge

            found.append((f"edge {patient.edge}", _within(f"edge {patient.edge}", examine_edge(patient.edge, clock))))
    except ModuleNotFoundError as error:
        extra = "edge" if patient.edge and not (patient.site or patient.worker or patient.store) else "cluster"
        raise MissingExtra(extra=extra, module=error.name or "a library") from error
    found += [(f"process at {one}", _process(one)) for one in patient.processes]
    return found


def _cluster(patient: Patient, clock: Clock) -> list[tuple[str, Awaitable[list[Finding]]]]:
    from deploy.cluster_examination import Group, examine_influx, examine_kafka, store_groups, worker_group
    from stream.config import IngestConfig, KafkaConfig, StoreConfig, WorkerConfig

    found: list[tuple[str, Awaitable[list[Finding]]]] = []
    logs: dict[KafkaConfig, tuple[Path, list[Group]]] = {}
    kinds: tuple[tuple[Path | None, type[IngestConfig | WorkerConfig | StoreConfig], str], ...] = (
        (patient.ingest, IngestConfig, "INGEST"),
        (patient.worker, WorkerConfig, "WORKER"),
        (patient.store, StoreConfig, "STORE"),
    )
    for path, kind, name in kinds:
        if path is None:
            continue
        try:
            config = load(kind, path, env_prefix=f"VITALLOOM_{name}")
        except ConfigError as error:
            cure = "--sample-config of the process shows every key"
            found.append((f"{path}", _said([wrong(f"configuration {path}", str(error), cure)])))
            continue
        _, groups = logs.setdefault(config.kafka, (path, []))
        if isinstance(config, WorkerConfig):
            groups.append(worker_group(config.kafka, str(path)))
        if isinstance(config, StoreConfig):
            groups += store_groups(config.kafka, str(path))
            about = f"InfluxDB at {config.influx.url}"
            found.append((about, _within(about, examine_influx(config.influx, clock, source=path))))
    for kafka, (path, groups) in logs.items():
        about = f"Kafka at {kafka.bootstrap}"
        looking = examine_kafka(kafka, source=str(path), groups=groups, pause_s=patient.pause_s)
        found.append((about, _within(about, looking)))
    return found


async def _within(about: str, work: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await work
    except TimeoutError:
        return [wrong(about, f"could not be looked at within {_WITHIN_S:.0f} s", "is the network between us whole?")]


async def _said(findings: list[Finding]) -> list[Finding]:
    return findings


async def _process(where: str) -> list[Finding]:
    about = f"process at {where}"
    try:
        answer = await asyncio.to_thread(health.check, where)
    except NoSuchAddress as error:
        return [wrong(about, str(error), "give --process PORT, HOST:PORT or a URL")]
    if answer.is_healthy:
        return [ok(about, "is ready")]
    return [wrong(about, f"is not ready: {answer.text}", "start it if it does not run; else see its log")]


async def _watched(works: list[tuple[str, Awaitable[list[Finding]]]], screen: Console) -> list[Finding]:
    """All at once, with a bar for whoever waits."""
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=screen,
        transient=True, disable=not screen.is_terminal,
    )  # fmt: skip
    waiting = [name for name, _ in works]

    async def noted(name: str, work: Awaitable[list[Finding]]) -> list[Finding]:
        found = await work
        waiting.remove(name)
        progress.update(bar, advance=1, description=f"looking at {waiting[0]}" if waiting else "done")
        return found

    with progress:
        bar = progress.add_task(f"looking at {waiting[0]}" if waiting else "", total=len(works))
        parts = await asyncio.gather(*(noted(name, work) for name, work in works))
    return worst_first([one for part in parts for one in part])


def show(report: Report, screen: Console, *, everything: bool) -> None:
    """A table for people; what is well is counted only, unless they want to see it."""
    shown = [one for one in report.findings if everything or one.verdict is not Verdict.OK]
    if shown:
        table = Table(show_lines=True, expand=True)
        for title, share in (("", None), ("about", 2), ("what", 3), ("cure", 3)):
            table.add_column(title, ratio=share, overflow="fold")
        for one in shown:
            table.add_row(f"[{_COLOURS[one.verdict]}]{one.verdict}[/]", *map(_plain, (one.about, one.what, one.cure)))
        screen.print(table)
    well = len(report.findings) - report.wrong - report.warnings
    screen.print(f"{report.wrong} wrong, {report.warnings} to look after, {well} well", highlight=False)
    screen.print(NOT_A_DEVICE, style="dim", highlight=False)


def _plain(text: str) -> str:
    """Brackets in a message are no markup."""
    return text.replace("[", r"\[")
