"""The command `vitalloom orders what-if`: what other orders would have changed in what is stored."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress as ProgressBar

from runtime.clock import SystemClock
from runtime.errors import MissingExtra
from stream.config import InfluxConfig
from stream.errors import WhatIfRefused
from stream.site.folder import Site
from stream.store.sqlite_record import STORE_FILE
from stream.what_if.account import account_of, show
from stream.what_if.labels import moment, read_labels
from stream.what_if.record import ListedStay, Record
from stream.what_if.run import Question, StayPlans, StayResult, run
from stream.what_if.sqlite_source import SqliteSource
from vitals.messages import BindingPeriod
from vitals.orders import BadOrders, OrderLevel, Orders, effective, parse_toml, plan_of
from vitals.patient_group import PatientGroup, group_of
from vitals.plan import MonitoringPlan
from wire.identity import BindingRecord

Level = Literal["site", "ward", "profile", "patient"]
LEVELS: Final[tuple[Level, ...]] = ("site", "ward", "profile", "patient")
_MOST_BYTES: Final = 1_000_000
_INTERRUPTED: Final = 130


def what_if(
    new: Annotated[Path, typer.Argument(help="File with the new orders (TOML), as for `vitalloom orders check`.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the SQLite store of `vitalloom stream`.", show_default=False)
    ] = None,
    influx: Annotated[
        str | None, typer.Option(help="URL of a site's InfluxDB; needs --from and --to.", show_default=False)
    ] = None,
    token: Annotated[Path, typer.Option(help="File with the reader token of InfluxDB.")] = Path("reader.token"),
    org: Annotated[str, typer.Option(help="Organisation in InfluxDB.")] = "vitalloom",
    bucket: Annotated[str, typer.Option(help="Bucket of readings in InfluxDB.")] = "vitals",
    stays: Annotated[
        Path | None, typer.Option(help="File or folder of recorded stays (docs/simulators.md).", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Replay so many recorded stays, chosen by chance.", show_default=False)
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="Count alarms from this time on; UTC unless a zone is given.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="...up to this time.")] = None,
    now: Annotated[
        list[Path] | None,
        typer.Option("--now", help="File with orders that hold today, below the new ones; may be given several times."),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(help=f"Put the new orders at another level than the file says: {', '.join(LEVELS)}."),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(envvar="VITALLOOM_SITE", help="Site folder: patients, wards, scales.", show_default=False),
    ] = None,
    ward: Annotated[str | None, typer.Option(help="Only this ward; needs --site or --influx.")] = None,
    patient: Annotated[str | None, typer.Option(help="Only this patient (pseudonym), or this stay.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of deteriorations: patient,time.", show_default=False)
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to write.", show_default=False)] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="File for finished stays: an interrupted comparison goes on there.", show_default=False),
    ] = None,
    stored: Annotated[
        bool,
        typer.Option("--stored", help="Take the alarms of then as they are stored: half the time, nothing is checked."),
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay stored readings under other orders: alarms gained and lost, deteriorations missed and found.

    Nothing is ordered and nothing is written but the files that you name. Answers that people gave are given again.
    """
    record = _record(data, influx, InfluxConfig(org=org, bucket=bucket, token_file=token), stays, limit, begin, end)
    if level is not None and level not in LEVELS:
        raise WhatIfRefused(f"--level {level}: is not one of {', '.join(LEVELS)}")
    now_ms = SystemClock().now_ms()
    given = [_level(path, None) for path in now or ()]
    then_orders = effective(given, version=0, now_ms=now_ms)
    new_orders = effective([*given, _level(new, level)], version=0, now_ms=now_ms)
    with contextlib.closing(record.open()) as opened:
        listed = opened.stays()
    facts = {} if site is None else _registered(site, [stay.stay_id for stay in listed])
    known = (_known(stay, facts.get(stay.stay_id, ())) for stay in listed)
    chosen = [stay for stay in known if _is_asked(stay, ward, patient)]
    if not chosen:
        raise WhatIfRefused("no stay is left to replay: see --ward and --patient; wards need --site or --influx")
    calls = {"then_calls": dict(then_orders.settings.calls), "new_calls": dict(new_orders.settings.calls)}
    tasks = [
        (
            stay,
            StayPlans(
                then=_plan(then_orders if given else None, facts.get(stay.stay_id, ()), record),
                new=_plan(new_orders, facts.get(stay.stay_id, ()), record),
                **calls,
            ),
        )
        for stay in chosen
    ]
    question = Question(
        from_ms=None if begin is None else moment(begin, place="--from"),
        until_ms=None if end is None else moment(end, place="--to"),
        labels={} if labels is None else read_labels(labels),
        trusts_stored=stored,
    )
    began_s = time.monotonic()
    results, is_whole = _results(record, tasks, question, processes or os.cpu_count() or 1, keep)
    account = account_of(
        results,
        source=record.name,
        asked=len(tasks),
        limits=record.limits,
        seconds=time.monotonic() - began_s,
    )
    if plot is not None:
        from stream.what_if.plot import draw

        draw(account, plot)
    if as_json:
        typer.echo(msgspec.json.encode(account).decode())
    else:
        show(account, Console())
    if not is_whole:
        sys.exit(_INTERRUPTED)


def _record(
    data: Path | None,
    influx: str | None,
    config: InfluxConfig,
    stays: Path | None,
    limit: int | None,
    begin: str | None,
    end: str | None,
) -> Record:
    if sum(one is not None for one in (data, influx, stays)) != 1:
        raise WhatIfRefused("say where the readings are: one of --data FOLDER, --influx URL, --stays FILE")
    if stays is not None:
        try:
            from stream.what_if.stays_source import StaysSource
        except ModuleNotFoundError as error:
            raise MissingExtra(extra="models", module=error.name or "") from error
        return StaysSource(stays, limit=limit)
    if data is not None:
        return SqliteSource(data if data.suffix == ".sqlite" else data / STORE_FILE)
    if begin is None or end is None:
        raise WhatIfRefused("--influx needs --from and --to: a database of a site holds months")
    try:
        from stream.what_if.influx_source import InfluxSource
    except ModuleNotFoundError as error:
        raise MissingExtra(extra="cluster", module=error.name or "") from error
    return InfluxSource(
        msgspec.structs.replace(config, url=influx or ""), moment(begin, place="--from"), moment(end, place="--to")
    )


def _level(path: Path, level: str | None) -> OrderLevel:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadOrders("is larger than orders can be", file=str(path))
        found = parse_toml(path.read_text(encoding="utf-8"), file=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise WhatIfRefused(f"{path}: cannot be read ({error})") from error
    return found if level is None else msgspec.structs.replace(found, level=level)


def _registered(site: Path, stay_ids: Sequence[str]) -> dict[str, tuple[BindingRecord, ...]]:
    """The bindings of each stay, by the registry, the newest last."""
    with contextlib.closing(Site.open(site, clock=SystemClock(), to_read=True)) as opened:
        return {stay_id: tuple(opened.registry.of_stay(bytes.fromhex(stay_id))) for stay_id in stay_ids}


def _known(stay: ListedStay, bindings: Sequence[BindingRecord]) -> ListedStay:
    if not bindings:
        return stay
    return msgspec.structs.replace(
        stay,
        patient=bindings[-1].patient,
        ward=bindings[-1].bed.rpartition("/")[0],
        periods=tuple(sorted(_periods(stay.stay_id, bindings), key=lambda period: period.heard_ms)),
    )


def _periods(stay_id: str, bindings: Sequence[BindingRecord]) -> Iterator[BindingPeriod]:
    """What the registry said of the bindings, each as if it was heard at once. The end of the stay is in the record."""
    for one in bindings:
        told = BindingPeriod(
            stay_id=stay_id,
            binding_id="" if one.binding_id == one.stay_id else one.binding_id.hex(),
            from_ms=one.valid_from_ms,
            heard_ms=one.valid_from_ms,
            device_name=one.device_name,
        )
        yield told
        if one.valid_to_ms is not None and one.stay_goes_on:
            yield msgspec.structs.replace(told, to_ms=one.valid_to_ms, heard_ms=one.valid_to_ms, stay_goes_on=True)


def _is_asked(stay: ListedStay, ward: str | None, patient: str | None) -> bool:
    return (ward is None or stay.ward == ward) and (patient is None or patient in (stay.patient, stay.stay_id))


def _plan(orders: Orders | None, bindings: Sequence[BindingRecord], record: Record) -> MonitoringPlan:
    first = bindings[0] if bindings else None
    return plan_of(
        orders,
        group=PatientGroup.UNSTATED if first is None else group_of(first.about),
        cadence_ms=record.cadences_ms,
        time_zone="" if first is None else first.time_zone,
        spo2_scale=1 if first is None else first.spo2_scale,
    )


def _results(
    record: Record,
    tasks: Sequence[tuple[ListedStay, StayPlans]],
    question: Question,
    processes: int,
    keep: Path | None,
) -> tuple[list[StayResult], bool]:
    """The results of all stays, or of those that were finished when the user stopped it, and whether it is all."""
    console = Console(stderr=True)
    results: list[StayResult] = []
    with ProgressBar(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying", total=sum(stay.readings for stay, _ in tasks))
        found = run(
            record,
            tasks,
            question,
            processes=processes,
            keep=keep,
            on_progress=lambda readings: bar.advance(task, readings),
        )
        try:
            for one in found:
                results.append(one)  # noqa: PERF402 - what is finished stays when the rest is stopped
        except KeyboardInterrupt:
            return results, False
    return results, True
