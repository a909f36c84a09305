"""The command `vitalloom doctor`: check a site or an edge and report each problem with its fix.

It changes nothing. All checks run concurrently; each has a time limit.
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

from deploy.checks import CheckResult, Severity, failure, ok, with_end_dates, worst_first
from runtime import health
from runtime.clock import Clock, SystemClock
from runtime.config import load
from runtime.errors import ConfigError, MissingExtra, NoSuchAddress

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."
_TIMEOUT_S: Final = 45.0
_COLOURS: Final = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red"}


class DoctorTargets(msgspec.Struct, frozen=True, kw_only=True):
    """What to check; None or empty: not checked."""

    site: Path | None = None
    ingest: Path | None = None
    worker: Path | None = None
    store: Path | None = None
    edge: Path | None = None
    processes: tuple[str, ...] = ()  # addresses of health endpoints, as for `vitalloom health`
    pause_s: float = 4.0  # between the two samples of consumer lag


class DoctorReport(msgspec.Struct, kw_only=True):
    """The JSON object that `--json` prints."""

    errors: int
    warnings: int
    checks: list[CheckResult]


def main(targets: DoctorTargets, *, as_json: bool, everything: bool) -> int:
    """The command `vitalloom doctor`; returns exit status 1 if there is an error.

    Raises:
        MissingExtra: the libraries that a check needs are not installed.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # failures of libraries are reported as results
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    screen = Console(stderr=True)
    results = asyncio.run(_with_progress(checks(targets, SystemClock()), screen))
    report = DoctorReport(
        errors=sum(one.severity is Severity.ERROR for one in results),
        warnings=sum(one.severity is Severity.WARNING for one in results),
        checks=results,
    )
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n")
    else:
        show(report, Console(), everything=everything)
    return 1 if report.errors else 0


async def run_checks(targets: DoctorTargets, clock: Clock) -> list[CheckResult]:
    """Run all checks; the results, most severe first."""
    found = await asyncio.gather(*(work for _, work in checks(targets, clock)))
    return worst_first([one for part in found for one in part])


def checks(targets: DoctorTargets, clock: Clock) -> list[tuple[str, Awaitable[list[CheckResult]]]]:
    """The checks to run, each with its name. Imports only what they need: an edge has no Kafka client installed."""
    found: list[tuple[str, Awaitable[list[CheckResult]]]] = []
    try:
        if targets.site is not None:
            from deploy.site_checks import check_site

            found.append((f"site {targets.site}", _within(f"site {targets.site}", check_site(targets.site, clock))))
        if targets.ingest or targets.worker or targets.store:
            found += _cluster(targets, clock)
        if targets.edge is not None:
            from deploy.edge_checks import check_edge

            found.append((f"edge {targets.edge}", _within(f"edge {targets.edge}", check_edge(targets.edge, clock))))
    except ModuleNotFoundError as error:
        extra = "edge" if targets.edge and not (targets.site or targets.worker or targets.store) else "cluster"
        raise MissingExtra(extra=extra, module=error.name or "a library") from error
    found += [(f"process at {one}", _process(one)) for one in targets.processes]
    return found


def _cluster(targets: DoctorTargets, clock: Clock) -> list[tuple[str, Awaitable[list[CheckResult]]]]:
    from deploy.cluster_checks import ConsumerGroup, check_influxdb, check_kafka, store_groups, worker_group
    from stream.config import IngestConfig, KafkaConfig, StoreConfig, WorkerConfig
    from stream.tls import kafka_end_dates

    found: list[tuple[str, Awaitable[list[CheckResult]]]] = []
    clusters: dict[KafkaConfig, tuple[Path, list[ConsumerGroup]]] = {}
    kinds: tuple[tuple[Path | None, type[IngestConfig | WorkerConfig | StoreConfig], str], ...] = (
        (targets.ingest, IngestConfig, "INGEST"),
        (targets.worker, WorkerConfig, "WORKER"),
        (targets.store, StoreConfig, "STORE"),
    )
    for path, kind, name in kinds:
        if path is None:
            continue
        try:
            config = load(kind, path, env_prefix=f"VITALLOOM_{name}")
        except ConfigError as error:
            fix = "run the process with --sample-config to see every key"
            found.append((f"{path}", _known([failure(f"configuration {path}", str(error), fix)])))
            continue
        _, groups = clusters.setdefault(config.kafka, (path, []))
        ends = list(kafka_end_dates(config.kafka, name.lower()))
        found.append((f"certificates in {path}", _known(with_end_dates((), ends, now_ms=clock.now_ms()))))
        if isinstance(config, WorkerConfig):
            groups.append(worker_group(config.kafka, str(path)))
        if isinstance(config, StoreConfig):
            groups += store_groups(config.kafka, str(path))
            subject = f"InfluxDB at {config.influx.url}"
            found.append((subject, _within(subject, check_influxdb(config.influx, clock, source=path))))
    for kafka, (path, groups) in clusters.items():
        subject = f"Kafka at {kafka.bootstrap}"
        work = check_kafka(kafka, source=str(path), groups=groups, pause_s=targets.pause_s)
        found.append((subject, _within(subject, work)))
    return found


async def _within(subject: str, work: Awaitable[list[CheckResult]]) -> list[CheckResult]:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await work
    except TimeoutError:
        return [
            failure(
                subject, f"the check did not finish within {_TIMEOUT_S:.0f} s", "check the network connection to it"
            )
        ]


async def _known(results: list[CheckResult]) -> list[CheckResult]:
    return results


async def _process(where: str) -> list[CheckResult]:
    subject = f"process at {where}"
    try:
        answer = await asyncio.to_thread(health.check, where)
    except NoSuchAddress as error:
        return [failure(subject, str(error), "use --process PORT, HOST:PORT or a URL")]
    if answer.is_healthy:
        return [ok(subject, "is ready")]
    return [failure(subject, f"is not ready: {answer.text}", "start it if it is not running, otherwise check its log")]


async def _with_progress(works: list[tuple[str, Awaitable[list[CheckResult]]]], screen: Console) -> list[CheckResult]:
    """Run the checks concurrently, with a progress bar on a terminal."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )
    waiting = [name for name, _ in works]

    async def tracked(name: str, work: Awaitable[list[CheckResult]]) -> list[CheckResult]:
        found = await work
        waiting.remove(name)
        progress.update(bar, advance=1, description=f"checking {waiting[0]}" if waiting else "done")
        return found

    with progress:
        bar = progress.add_task(f"checking {waiting[0]}" if waiting else "", total=len(works))
        parts = await asyncio.gather(*(tracked(name, work) for name, work in works))
    return worst_first([one for part in parts for one in part])


def show(report: DoctorReport, screen: Console, *, everything: bool) -> None:
    """Print the results as a table.

    Args:
        everything: include the checks that passed.
    """
    shown = [one for one in report.checks if everything or one.severity is not Severity.OK]
    if shown:
        table = Table(show_lines=True, expand=True)
        for title, share in (("", None), ("checked", 2), ("result", 3), ("fix", 3)):
            table.add_column(title, ratio=share, overflow="fold")
        for one in shown:
            table.add_row(
                f"[{_COLOURS[one.severity]}]{one.severity}[/]", *map(_plain, (one.subject, one.result, one.fix))
            )
        screen.print(table)
    passed = len(report.checks) - report.errors - report.warnings
    screen.print(f"{report.errors} errors, {report.warnings} warnings, {passed} OK", highlight=False)
    screen.print(NOT_A_DEVICE, style="dim", highlight=False)


def _plain(text: str) -> str:
    """Escape brackets, which rich would read as markup."""
    return text.replace("[", r"\[")
