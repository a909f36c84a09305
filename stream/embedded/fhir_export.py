"""The command group `vitalloom export`: a patient's record as a FHIR file."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from runtime.clock import SystemClock
from stream.errors import NothingToExport
from stream.ingest.stays import end_of, stays_of
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from stream.store.sqlite_record import STORE_FILE, SqliteRecord
from vitals import fhir
from vitals.messages import AlarmChanged, Priority, Reading

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."

_MOST_NAMED: Final = 10
_FHIR_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")

export = typer.Typer(
    help=f"Export a patient's record to a file in a standard format.\n\n{NOT_A_DEVICE}",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class ExportedStay(NamedTuple):
    """One stay to export, with the FHIR references to its patient and devices."""

    stay_id: str
    subject: str
    device: str  # the first one, to which scores and alarms are attributed
    patient: str = ""  # pseudonym, as the registry has it
    devices: Mapping[str, str] = {}  # by binding
    from_ms: int | None = None  # by the registry; None: not known
    to_ms: int | None = None  # by the registry; None: not known, or it goes on

    def device_of(self, reading: Reading) -> str:
        """The device that measured a reading."""
        return self.devices.get(reading.device, f"Device/{reading.device}" if reading.binding_id else self.device)


@export.callback()
def _group() -> None:
    """Keep `fhir` a subcommand: without a callback typer would merge the only command into the group."""


@export.command("fhir")
def export_fhir(
    data: Annotated[Path, typer.Option(help="Folder of the SQLite store that `vitalloom stream` writes.")],
    out: Annotated[Path, typer.Option(help="NDJSON file to write, one FHIR R4 resource a line.")],
    stay: Annotated[
        str | None, typer.Option(help="Stay id (32 hexadecimal digits) or its first digits.", show_default=False)
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Patient pseudonym; needs --site.", show_default=False)] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            envvar="VITALLOOM_SITE",
            help="Site folder, whose registry has the patient and the devices of each stay.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the Observations and alarms of one patient as FHIR R4 resources (NDJSON).

    The file has vital signs; only your user can read it. Data in InfluxDB (a site with Kafka) are not exported.
    """
    if (stay is None) == (patient is None):
        with SqliteRecord(data / STORE_FILE) as record:
            known = _names(record.stays())
        raise typer.BadParameter(
            f"give either --stay or --patient; in the store, {known}. `vitalloom registry bindings --site FOLDER` "
            "lists which patient each of them is; the site of `vitalloom ward --data DIR` is DIR/site"
        )
    if patient is not None and site is None:
        raise typer.BadParameter("--patient needs --site: the store has only stay ids, no patients")
    with SqliteRecord(data / STORE_FILE) as record:
        chosen = _chosen(record, stay, patient, site)
        total = sum(record.rows_of(one.stay_id) for one in chosen)
        with Progress(console=Console(stderr=True), disable=not Console(stderr=True).is_terminal) as progress:
            task = progress.add_task("exporting", total=total)
            lines = _write(out, _resources(record, chosen, lambda: progress.advance(task)))
    typer.echo(f"{out}: {lines} resources of {len(chosen)} stay{'s' if len(chosen) > 1 else ''}")


def _chosen(record: SqliteRecord, stay: str | None, patient: str | None, site: Path | None) -> list[ExportedStay]:
    known = record.stays()
    registered = {} if site is None else _registered(site)
    if patient is not None:
        of_patient = sorted(key for key, one in registered.items() if one.patient == patient)
        if not of_patient:
            raise NothingToExport(f"{patient}: no such patient in the registry of {site}")
        found = [stay_id for stay_id in of_patient if stay_id in known]
        if not found:
            raise NothingToExport(f"{patient}: the store has no data of this patient; {_names(known)}")
    else:
        found = [one for one in known if one.startswith((stay or "").lower())] if stay else []
        if len(found) != 1:
            problem = "matches more than one stay" if found else "no such stay in the store"
            raise NothingToExport(f"{stay}: {problem}; {_names(found or known)}")
    return [registered.get(one, ExportedStay(one, f"Patient/{one}", f"Device/{one}")) for one in found]


def _registered(folder: Path) -> dict[str, ExportedStay]:
    clock = SystemClock()
    with contextlib.closing(Site.open(folder, clock=clock, to_read=True)) as site:
        found = {}
        for bindings in stays_of(RegistryDirectory(site.registry)):
            first = bindings[0]
            # Not every pseudonym can be a FHIR id.
            subject = first.patient if _FHIR_ID.fullmatch(first.patient) else first.stay
            devices = {one.binding_id.hex(): f"Device/{one.wearable_id.hex()}" for one in bindings}
            found[first.stay] = ExportedStay(
                first.stay,
                f"Patient/{subject}",
                devices[first.binding_id.hex()],
                first.patient,
                devices,
                first.valid_from_ms,
                end_of(bindings),
            )
        return found


def _names(stays: list[str]) -> str:
    if not stays:
        return "the store is empty"
    more = f" and {len(stays) - _MOST_NAMED} more" if len(stays) > _MOST_NAMED else ""
    return f"known stays: {', '.join(stays[:_MOST_NAMED])}{more}"


def _resources(
    record: SqliteRecord, chosen: list[ExportedStay], advance: Callable[[], None]
) -> Iterator[fhir.Resource]:
    for one in chosen:
        subject, device = one.subject, one.device
        yield fhir.encounter(one.stay_id, subject=subject, from_ms=one.from_ms, to_ms=one.to_ms)
        stay = f"Encounter/{fhir.encounter_id(one.stay_id)}"
        for reading in record.readings(one.stay_id):
            yield from fhir.observations(reading, subject=subject, device=one.device_of(reading), encounter=stay)
            advance()
        replaced = {seen.observation.corrects for seen in record.observations(one.stay_id) if not seen.refused}
        for seen in record.observations(one.stay_id):
            is_replaced = seen.observation.observation_id in replaced
            yield from fhir.entered(seen, subject=subject, encounter=stay, replaced=is_replaced)
            advance()
        for scored in record.scores(one.stay_id):
            yield fhir.news2_observation(scored, subject=subject, device=device, encounter=stay)
            advance()
        for _, changes in groupby(record.alarms(one.stay_id), key=lambda alarm: alarm.alarm_id):
            last_at: dict[Priority, AlarmChanged] = {}
            for alarm in changes:
                last_at[alarm.priority] = alarm
                advance()
            yield fhir.detected_issue(alarm, subject=subject, device=device)
            for change in last_at.values():
                # The notification at this priority, with the final state of the alarm.
                notified = msgspec.structs.replace(
                    alarm, priority=change.priority, text=change.text, response=change.response
                )
                yield fhir.communication(notified, subject=subject, device=device, encounter=stay)


def _write(out: Path, resources: Iterator[fhir.Resource]) -> int:
    """Write the whole file, or leave an existing one unchanged; returns the number of lines."""
    part = out.with_name(f"{out.name}.part")
    encoder, lines = msgspec.json.Encoder(), 0
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            for resource in resources:
                file.write(encoder.encode(resource) + b"\n")
                lines += 1
        part.replace(out)
    except OSError as error:
        raise NothingToExport(f"{out}: cannot write the file ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)
    return lines
