"""The commands of a site: `vitalloom pki`, `registry`, `broker` and `audit`. The other modules here do the work."""

import contextlib
import getpass
import io
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from runtime.clock import SystemClock
from runtime.hardening import write_private
from runtime.time_zone import date_and_time, site_time_zone
from stream.config import REGISTRY_LISTEN, parse_options
from stream.errors import RegistryRefused
from stream.site.folder import SERVICES, Site, SiteFacts
from stream.site.stays import Stay, checked_patient, merged_facts
from vitals.patient_group import PatientGroup, group_of
from wire.enrol.authority import moment
from wire.identity import NO_DEVICE, NOTHING, About, BindingRecord, Role

T = TypeVar("T")
DAY_MS: Final = 86_400_000
_SHORT_LINE: Final = 72
_LONG_LINE: Final = 1_000

SiteOption = Annotated[Path, typer.Option("--site", envvar="VITALLOOM_SITE", help="Site folder.", show_default=True)]
_SITE: Final = Path("site")
PngOption = Annotated[
    Path | None, typer.Option("--png", help="Also write the QR code to this PNG file.", show_default=False)
]


class Sex(StrEnum):
    """Sex, as the prediction models know it."""

    FEMALE = "female"
    MALE = "male"


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


pki = _group("Certificates and keys of a site: create, issue, renew, revoke, list.")
registry = _group("Devices and patients: add devices, admit patients, bind, discharge; run the registry server.")
broker = _group("Write the configuration files of the site's MQTT broker, Mosquitto.")
audit = _group("Audit log of the registry.")


# pki


@pki.command()
def init(
    site: SiteOption = _SITE,
    name: Annotated[str, typer.Option(help="Site name, as it appears in certificates.")] = "vitalloom",
    host: Annotated[
        str, typer.Option(help="Host name or address of the registry and the broker, for devices.")
    ] = "127.0.0.1",
    registry_port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port of the registry.")] = 8_443,
    broker_port: Annotated[int, typer.Option(min=1, max=65_535, help="TCP port of the broker.")] = 8_883,
    time_zone: Annotated[
        str,
        typer.Option(
            help="Time zone in which times are shown to people, an IANA name such as Europe/Berlin.",
            show_default="that of this machine",
        ),
    ] = "",
    encrypt_root: Annotated[
        bool, typer.Option("--encrypt-root", help="Encrypt the root key's file with a passphrase; asks for it.")
    ] = False,
) -> None:
    """Create a site: root and issuing key, control keys, registry, and the identity of its ingest service."""
    passphrase = ""
    if encrypt_root:
        passphrase = typer.prompt("passphrase of the root key", hide_input=True, confirmation_prompt=True)
    facts = SiteFacts(
        name=name,
        tenant_id=os.urandom(16).hex(),
        registry_host=host,
        registry_port=registry_port,
        broker_host=host,
        broker_port=broker_port,
        time_zone=site_time_zone(time_zone),
    )
    with contextlib.closing(Site.create(site, facts, clock=SystemClock(), passphrase=passphrase, who=_who())) as made:
        typer.echo(f"site {name} created in {site}; its authority has the pin {made.authority.pin.hex()}")
    typer.echo(f"keep {site / 'ca' / 'root.key'} in a safe, away from this machine; it is needed once a year")
    typer.echo(f"next: vitalloom broker write --site {site}")


@pki.command()
def issue(
    certificate: Annotated[
        str, typer.Argument(help=f"Certificate to issue: registry, or a service ({', '.join(SERVICES)}).")
    ],
    site: SiteOption = _SITE,
    host: Annotated[
        list[str] | None, typer.Option(help="Additional host name or address of the registry; may be repeated.")
    ] = None,
) -> None:
    """Issue a certificate for the registry or a service of the site. Devices get theirs by enrolling."""
    with _opened(site) as opened:
        if certificate == "registry":
            opened.issue_registry_certificate(who=_who(), hosts=host or ())
            typer.echo(f"{opened.registry_tls}: issued; a running registry shows it from now on")
        elif certificate in SERVICES:
            typer.echo(f"{opened.issue_service(certificate, who=_who())}: issued")
        elif certificate == "broker":
            raise RegistryRefused("the broker's certificate is written with its other files: vitalloom broker write")
        else:
            raise RegistryRefused(
                f"{certificate}: neither registry nor a service ({', '.join(SERVICES)}); "
                "devices enrol: vitalloom registry add"
            )


@pki.command()
def renew(
    target: Annotated[
        str,
        typer.Argument(help=f"Device (id or label), registry, issuing, control, or a service ({', '.join(SERVICES)})."),
    ],
    site: SiteOption = _SITE,
    png: PngOption = None,
) -> None:
    """Renew a certificate or key. A device gets a new invitation, and keeps its id and its patient."""
    with _opened(site) as opened:
        if target == "registry":
            opened.issue_registry_certificate(who=_who())
        elif target == "issuing":
            passphrase = ""
            if opened.root_asks_for_passphrase:
                passphrase = typer.prompt("passphrase of the root key", hide_input=True)
            opened.renew_issuing(passphrase=passphrase, who=_who())
            typer.echo("a running registry issues with it and has the broker reload; otherwise: vitalloom broker write")
        elif target == "control":
            opened.renew_control(who=_who())
        elif target in SERVICES:
            opened.issue_service(target, who=_who())
        else:
            _invite(opened, opened.registry.find(target), png)
            return
        typer.echo(f"{target}: renewed")


@pki.command()
def revoke(
    device: Annotated[str, typer.Argument(help="Device (id, its beginning, or label), or the name of a service.")],
    why: Annotated[str, typer.Option(help="Reason, for the audit log: lost, stolen, broken ...")] = "not given",
    site: SiteOption = _SITE,
) -> None:
    """Revoke a device for good, or a service's certificates: it cannot connect, and its frames are rejected."""
    with _opened(site) as opened:
        if device in SERVICES:
            count = opened.registry.certificates.revoke(device, who=_who())
            typer.echo(f"{device}: {count} certificates revoked")
        else:
            found = opened.registry.find(device)
            opened.registry.revoke(found, why=why, who=_who())
            typer.echo(f"device {found.hex()} is revoked")
        for note in _refresh(opened):
            typer.echo(note)


@pki.command()
def show(
    device: Annotated[
        str | None, typer.Argument(help="Show only this device (id, its beginning, or label).", show_default=False)
    ] = None,
    site: SiteOption = _SITE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List devices and certificates with their state and expiry, and the command that fixes a problem."""
    clock = SystemClock()
    with _opened(site, to_read=True) as opened:
        wanted = None if device is None else opened.registry.find(device).hex()
        devices = [one for one in opened.registry.devices() if wanted in (None, one.device_id)]
        certificates = [one for one in opened.registry.certificates.all() if wanted in (None, one.device_id)]
        if as_json:
            rows = {"devices": [_row(one) for one in devices], "certificates": [_row(one) for one in certificates]}
            typer.echo(msgspec.json.encode(rows).decode())
            return
        now_ms = clock.now_ms()
        table = Table(Column("device", no_wrap=True, min_width=32), "role", "label", "state")
        for one in devices:
            table.add_row(one.device_id, one.role, one.label, _state(one, now_ms))
        _print(table)
        others = [one for one in certificates if one.device_id is None]
        if others:
            table = Table("certificate", "serial", "good until", "state")
            for one_ in others:
                state = "revoked" if one_.revoke_ms is not None else _left(one_.not_after_ms, now_ms, of=one_.name)
                table.add_row(one_.name, one_.serial[:16], f"{moment(one_.not_after_ms):%Y-%m-%d}", state)
            _print(table)


def _state(one: Any, now_ms: int) -> str:
    if one.revoked_ms is not None:
        return f"revoked {moment(one.revoked_ms):%Y-%m-%d} ({one.revoked_why})"
    if one.is_locked:
        return f"locked after bad tokens: run `vitalloom registry invite {one.device_id}`"
    if one.not_after_ms is None:
        return "not enrolled yet"
    return _left(one.not_after_ms, now_ms, of=one.device_id)


def _left(not_after_ms: int, now_ms: int, *, of: str) -> str:
    days = (not_after_ms - now_ms) / DAY_MS
    if days > 0:
        return f"{days:.0f} days left"
    return f"expired {-days:.0f} days ago: run `vitalloom {'broker write' if of == 'broker' else f'pki renew {of}'}`"


def _print(table: Table) -> None:
    """Print labels literally and ids whole, so that they can be copied; outside a terminal, without line breaks."""
    out = Console(markup=False, highlight=False, emoji=False)
    out.width = max(out.width, _SHORT_LINE) if out.is_terminal else _LONG_LINE
    out.print(table, crop=False)


def _fields(one: BindingRecord) -> list[tuple[str, Any]]:
    return [(key, getattr(one, key)) for key in one.__struct_fields__]


def _json_value(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _row(one: Any) -> dict[str, Any]:
    found: dict[str, Any] = one._asdict()
    return found


# registry


@registry.command()
def serve(
    site: SiteOption = _SITE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - devices come from outside
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. Default: the site's registry port.", show_default=False)
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--http-listen",
            envvar="VITALLOOM_REGISTRY__HTTP__LISTEN",
            help="host:port for /metrics, /ready and /live; empty: no HTTP.",
        ),
    ] = REGISTRY_LISTEN,
    log_format: Annotated[
        str,
        typer.Option(envvar="VITALLOOM_REGISTRY__LOG_FORMAT", help="Log format: plain, or json (one object per line)."),
    ] = "plain",
) -> None:
    """Run the registry server, and keep the broker's access list and revocation list up to date."""
    from stream.site.process import run_registry

    http, form = parse_options(listen, log_format)
    raise typer.Exit(run_registry(site, host=host, port=port, http=http, log_format=form))


@registry.command()
def add(
    role: Annotated[str, typer.Argument(help="Device role: wearable or edge.")],
    site: SiteOption = _SITE,
    label: Annotated[str, typer.Option(help="Label, such as a shelf or serial number; never a patient's name.")] = "",
    png: PngOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the invitation, for scripts.")] = False,
) -> None:
    """Add a device, and print its invitation, which is shown only once."""
    roles: dict[str, Role] = {"wearable": "wearable", "edge": "edge"}
    if role not in roles:
        raise RegistryRefused(f"{role}: a device is a wearable or an edge")
    with _opened(site) as opened:
        device_id = opened.registry.add_device(roles[role], label=label, who=_who())
        _invite(opened, device_id, png, quiet=quiet)


@registry.command()
def invite(
    device: Annotated[str, typer.Argument(help="Device: its id, the first characters of its id, or its label.")],
    site: SiteOption = _SITE,
    png: PngOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the invitation, for scripts.")] = False,
) -> None:
    """Print a new invitation for a device. Earlier ones become invalid, and a locked device is unlocked."""
    with _opened(site) as opened:
        _invite(opened, opened.registry.find(device), png, quiet=quiet)


Patient = Annotated[str, typer.Argument(help="Patient: the pseudonym, or the stay's id or its first characters.")]
Scale = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2,
        help="NEWS2 scale for oxygen saturation; 2 for patients with a lower target range.",
        show_default="that of the stay, else 1",
    ),
]
Age = Annotated[
    float | None,
    typer.Option(
        help="Age in years. Under 16 there is no NEWS2, no other adult score and no model.", show_default=False
    ),
]
Pregnant = Annotated[
    bool | None,
    typer.Option(
        "--pregnant/--not-pregnant",
        help="Pregnancy: there is no NEWS2, no other adult score and no model in it.",
        show_default=False,
    ),
]
Unknown = Annotated[
    bool, typer.Option("--unknown", help="Do not ask for age and pregnancy: score as an adult what is not given.")
]
SexOption = Annotated[Sex | None, typer.Option(help="Sex, for the prediction models.", show_default=False)]
ChestPain = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=4,
        show_default=False,
        help="Chest pain: 1 typical angina, 2 atypical, 3 non-anginal, 4 none; for the heart model.",
    ),
]


@registry.command()
def admit(
    patient: Annotated[str, typer.Argument(help="Pseudonym of the patient; never a name.")],
    bed: Annotated[str, typer.Option(help="Bed of the patient.")],
    site: SiteOption = _SITE,
    spo2_scale: Scale = None,
    age: Age = None,
    pregnant: Pregnant = None,
    unknown: Unknown = False,
    sex: SexOption = None,
    chest_pain: ChestPain = None,
) -> None:
    """Begin a patient's stay without a device. The patient is monitored from now on: silence is an alarm."""
    about = _about(age, pregnant, sex, chest_pain, ask=not unknown)
    with _opened(site) as opened:
        scale = 1 if spo2_scale is None else spo2_scale
        found = opened.registry.admit(patient, bed=bed, spo2_scale=scale, about=about, who=_who())
        typer.echo(f"stay {found.hex()}")
        _warn_of_group(about)
        typer.echo("next: vitalloom registry bind --patient ... --wearable ... --edge ...; without data it is an alarm")


@registry.command()
def bind(
    wearable: Annotated[str, typer.Option(help="Wearable: its id, the first characters of its id, or its label.")],
    edge: Annotated[str, typer.Option(help="Edge at the bed: its id, the first characters of its id, or its label.")],
    patient: Annotated[str, typer.Option(help="Pseudonym of the patient; never a name.")],
    bed: Annotated[
        str | None, typer.Option(help="Bed of the patient; needed to begin a stay.", show_default="that of the stay")
    ] = None,
    site: SiteOption = _SITE,
    spo2_scale: Scale = None,
    age: Age = None,
    pregnant: Pregnant = None,
    unknown: Unknown = False,
    sex: SexOption = None,
    chest_pain: ChestPain = None,
) -> None:
    """Bind a wearable to a patient. It joins the open stay of the patient, or begins one.

    All devices of a stay are judged together. Age and pregnancy decide which scores apply; what is not given is asked.
    """
    with _opened(site) as opened:
        stay = opened.registry.stays.the_open_one_of(checked_patient(patient))
        known = NOTHING if stay is None else stay.about
        about = _about(age, pregnant, sex, chest_pain, ask=not unknown, known=known)
        found = opened.registry.bind(
            wearable_id=opened.registry.find(wearable),
            edge_id=opened.registry.find(edge),
            patient=patient,
            bed=bed,
            spo2_scale=spo2_scale,
            about=about,
            who=_who(),
        )
        typer.echo(f"binding {found.hex()}")
        _warn_of_group(merged_facts(known, about))
        if stay is not None:
            typer.echo(_joined(opened, stay.stay_id))
        for note in _refresh(opened):
            typer.echo(note)


def _joined(opened: Site, stay_id: bytes) -> str:
    count = len(opened.registry.open_bindings_of(stay_id))
    if count == 1:
        return f"the patient was admitted already; this is the first device of stay {stay_id.hex()[:12]}"
    return (
        f"the patient wears another device already: stay {stay_id.hex()[:12]} has {count} devices, which are judged "
        "together; to take one off: vitalloom registry unbind"
    )


@registry.command()
def unbind(
    binding: Annotated[
        str,
        typer.Argument(
            help="Binding: its id, the id of its wearable (or the first characters), or the wearable's label."
        ),
    ],
    site: SiteOption = _SITE,
    stay_open: Annotated[
        bool,
        typer.Option(
            "--stay-open", help="Go on monitoring the patient if this is the last device: without data it is an alarm."
        ),
    ] = False,
) -> None:
    """End a binding: the wearable is no longer on this patient. With the last device the stay ends as well."""
    with _opened(site) as opened:
        found = opened.registry.find_binding(binding)
        ends = opened.registry.unbind(found, who=_who(), stay_open=stay_open)
        typer.echo(f"binding {found.hex()} has ended")
        ended = opened.registry.binding(found)
        if ends:
            typer.echo(
                "that was the last device: the stay of this patient has ended, and with it monitoring and all alarms. "
                "To go on: vitalloom registry admit or bind begins a new stay (next time: --stay-open, or exchange)"
            )
        elif ended is not None:
            left = len(opened.registry.open_bindings_of(ended.stay_id))
            name = ended.stay[:12]
            typer.echo(
                f"the stay {name} goes on with {left} device{'' if left == 1 else 's'}"
                if left
                else f"the stay {name} goes on without a device, which is an alarm after some minutes; to end it: "
                f"vitalloom registry discharge {name}"
            )
        for note in _refresh(opened):
            typer.echo(note)


@registry.command()
def exchange(
    binding: Annotated[
        str,
        typer.Argument(
            help="Binding: its id, the id of its wearable (or the first characters), or the wearable's label."
        ),
    ],
    wearable: Annotated[
        str, typer.Option(help="The new wearable: its id, the first characters of its id, or its label.")
    ],
    edge: Annotated[
        str | None,
        typer.Option(help="Edge that hears the new wearable.", show_default="the edge of the old one"),
    ] = None,
    site: SiteOption = _SITE,
) -> None:
    """Replace a device by another one without a moment in which the patient has none. The stay goes on."""
    with _opened(site) as opened:
        old = opened.registry.find_binding(binding)
        new = opened.registry.exchange(
            old,
            wearable_id=opened.registry.find(wearable),
            edge_id=None if edge is None else opened.registry.find(edge),
            who=_who(),
        )
        typer.echo(f"binding {new.hex()} instead of {old.hex()}, which has ended; the stay goes on")
        for note in _refresh(opened):
            typer.echo(note)


@registry.command()
def move(
    patient: Patient, bed: Annotated[str, typer.Option(help="New bed of the patient.")], site: SiteOption = _SITE
) -> None:
    """Move a patient to another bed, with all devices and alarms. A device goes to another edge with `exchange`."""
    with _opened(site) as opened:
        stay = opened.registry.stays.find_open(patient)
        opened.registry.move(stay.stay_id, bed=bed, who=_who())
        typer.echo(f"stay {stay.stay_id.hex()}: bed {bed} instead of {stay.bed}")


@registry.command()
def facts(
    patient: Patient,
    site: SiteOption = _SITE,
    spo2_scale: Scale = None,
    age: Age = None,
    pregnant: Pregnant = None,
    sex: SexOption = None,
    chest_pain: ChestPain = None,
) -> None:
    """State or correct facts about an admitted patient. They apply from the next reading on; alarms go on."""
    about = _about(age, pregnant, sex, chest_pain, ask=False)
    with _opened(site) as opened:
        stay = opened.registry.stays.find_open(patient)
        opened.registry.state_facts(stay.stay_id, about=about, spo2_scale=spo2_scale, who=_who())
        typer.echo(f"stay {stay.stay_id.hex()}: stated")
        _warn_of_group(merged_facts(stay.about, about))


@registry.command()
def discharge(patient: Patient, site: SiteOption = _SITE) -> None:
    """End a patient's stay: monitoring, alarms and all bindings end."""
    with _opened(site) as opened:
        stay = opened.registry.stays.find_open(patient)
        count = opened.registry.discharge(stay.stay_id, who=_who())
        typer.echo(f"stay {stay.stay_id.hex()} has ended, and {count} binding{'' if count == 1 else 's'} with it")
        for note in _refresh(opened):
            typer.echo(note)


@registry.command()
def stays(
    site: SiteOption = _SITE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, with complete ids.")] = False,
) -> None:
    """List the patients who are monitored now: bed, devices, since when, and what needs a person's decision."""
    with _opened(site, to_read=True) as opened:
        rows = [_stay_row(opened, one) for one in opened.registry.stays.open()]
        if as_json:
            typer.echo(msgspec.json.encode(rows).decode())
            return
        table = Table("stay", "patient", "bed", "devices", "since", "note")
        for row in rows:
            devices = ", ".join(one["name"] or one["wearable_id"][:12] for one in row["devices"])
            since = date_and_time(opened.facts.time_zone, row["from_ms"])
            table.add_row(row["stay_id"][:12], row["patient"], row["bed"], devices or "none", since, row["note"])
        _print(table)


def _stay_row(opened: Site, stay: Stay) -> dict[str, Any]:
    devices = opened.registry.open_bindings_of(stay.stay_id)
    others = [one for one in opened.registry.stays.open_of(stay.patient) if one.stay_id != stay.stay_id]
    notes = []
    if others:
        named = " and ".join(one.stay_id.hex()[:12] for one in others)
        notes.append(f"** this patient has another open stay, {named}: discharge the one that is not true")
    if not devices:
        notes.append("** no device: monitored, and an alarm; bind one or discharge")
    return {
        "stay_id": stay.stay_id.hex(),
        "patient": stay.patient,
        "bed": stay.bed,
        "from_ms": stay.from_ms,
        "spo2_scale": stay.spo2_scale,
        "about": msgspec.structs.asdict(stay.about),
        "devices": [
            {
                "binding_id": one.binding_id.hex(),
                "wearable_id": one.wearable_id.hex(),
                "edge_id": one.edge_id.hex(),
                "name": one.device_name,
                "from_ms": one.valid_from_ms,
            }
            for one in devices
        ],
        "note": "; ".join(notes),
    }


@registry.command()
def bindings(
    site: SiteOption = _SITE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, with complete ids.")] = False,
) -> None:
    """List bindings: stay, patient, bed, wearable, and the edge that receives its readings."""
    with _opened(site, to_read=True) as opened:
        if as_json:
            rows = [{key: _json_value(value) for key, value in _fields(one)} for one in opened.registry.bindings()]
            typer.echo(msgspec.json.encode(rows).decode())
            return
        table = Table("binding", "stay", "patient", "bed", "scores", "wearable", "edge", "from", "to")
        for one in opened.registry.bindings():
            ends = "" if one.valid_to_ms is None else date_and_time(opened.facts.time_zone, one.valid_to_ms)
            table.add_row(
                "" if one.wearable_id == NO_DEVICE else one.binding_id.hex()[:12],
                one.stay[:12],
                one.patient,
                one.bed,
                group_of(one.about).word
                or ("adult" if group_of(one.about) is PatientGroup.ADULT else "adult (unstated)"),
                "none" if one.wearable_id == NO_DEVICE else one.wearable_id.hex()[:12],
                "" if one.edge_id == NO_DEVICE else one.edge_id.hex()[:12],
                date_and_time(opened.facts.time_zone, one.valid_from_ms),
                ends,
            )
        _print(table)


# broker


@broker.command()
def write(
    site: SiteOption = _SITE,
    host: Annotated[
        list[str] | None, typer.Option(help="Additional host name or address of the broker; may be repeated.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="System user that Mosquitto runs as. Default: the current user.")
    ] = None,
    listen: Annotated[str, typer.Option(help="Address to listen on; empty: all addresses.")] = "",
    into: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Folder for the files; remembered. Default: broker/ in the site folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write mosquitto.conf, access list, revocation list and certificate, and have a running broker reload them."""
    from stream.site.broker_files import BrokerFolder
    from stream.site.mosquitto_conf import BrokerSettings

    with _opened(site) as opened:
        folder = BrokerFolder(opened.broker_folder if into is None else into.resolve())
        facts = opened.facts
        written = folder.write(
            opened.registry,
            opened.authority,
            BrokerSettings(folder=folder.folder, user=user or _account(), port=facts.broker_port, host=listen),
            hosts=tuple(dict.fromkeys([facts.broker_host, *(host or ())])),
            at=moment(SystemClock().now_ms()),
            who=_who(),
            retired=opened.retired,
        )
        if into is not None:
            opened.set_broker_folder(folder.folder)
        for note in written.notes:
            typer.echo(note)
        typer.echo(f"written: {', '.join(written.changed) or 'nothing new'}")
        typer.echo(f"run it: mosquitto -c {folder.config_file}")


# audit


@audit.command()
def verify(
    site: SiteOption = _SITE,
    file: Annotated[
        Path | None, typer.Option(help="Log file to check instead of the site's.", show_default=False)
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="Hash of a line, noted elsewhere earlier, that must be in the chain.", show_default=False),
    ] = None,
) -> None:
    """Check the hash chain of the audit log, line by line."""
    from stream.site.audit import verify as check

    if file is not None:
        found = check(file, head=head)
    else:
        with _opened(site, to_read=True) as opened:
            found = check(opened.registry.file.audit.path, head=head or opened.registry.file.meta("audit_head"))
            if altered := opened.registry.orders.without_audit():
                raise RegistryRefused(
                    f"{opened.registry.file.path}: orders are not as the audit log has them: {', '.join(altered)}; "
                    "restore the registry from a backup"
                )
    typer.echo(f"{found.n} lines, none altered; the hash of the last is {found.hash}")


# Private


@contextlib.contextmanager
def _opened(folder: Path, *, to_read: bool = False) -> Iterator[Site]:
    site = Site.open(folder, clock=SystemClock(), to_read=to_read)
    try:
        yield site
    finally:
        site.close()


def _account() -> str:
    """System user that the broker will run as; in a container a user may have a number and no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


_UNSTATED: Final = (
    "age or pregnancy is not stated: scored as an adult. NEWS2 and the models are not for people under 16 nor in "
    "pregnancy: state --age and --pregnant or --not-pregnant"
)


def _about(
    age: float | None,
    pregnant: bool | None,
    sex: Sex | None,
    chest_pain: int | None,
    *,
    ask: bool,
    known: About = NOTHING,
) -> About:
    """What is stated of a patient; at a terminal what decides about scores and is neither given nor known is asked."""
    is_male = None if sex is None else sex is Sex.MALE
    about = About(age_years=age, is_male=is_male, chest_pain=chest_pain, is_pregnant=pregnant)
    together = merged_facts(known, about)
    return _stated(about, together) if ask and not together.problem() and sys.stdin.isatty() else about


def _warn_of_group(about: About) -> None:
    group = group_of(about)
    if group.note:
        typer.echo(f"warning: {group.note}", err=True)
    elif group is PatientGroup.UNSTATED:
        typer.echo(f"warning: {_UNSTATED}", err=True)


def _stated(about: About, together: About) -> About:
    """Ask for what decides whether adult scores apply, if it is not known yet.

    Args:
        about: what is stated now.
        together: the same, with what was known before.
    """
    if together.age_years is None:
        about = msgspec.structs.replace(about, age_years=_asked("age in years", _age))
        together = merged_facts(together, about)
    if group_of(together) is PatientGroup.UNSTATED and together.age_years is not None and together.is_pregnant is None:
        about = msgspec.structs.replace(about, is_pregnant=_asked("pregnancy (yes, no)", _yes_or_no))
    return about


def _asked(what: str, read: Callable[[str], T]) -> T | None:
    """An answer at the terminal; None for "unknown"."""
    while True:
        text = str(typer.prompt(f"{what}, or unknown")).strip().lower()
        if text == "unknown":
            return None
        try:
            return read(text)
        except ValueError:
            typer.echo(f"{text[:40]!r} is no answer to that", err=True)


def _age(text: str) -> float:
    years = float(text)
    if About(age_years=years).problem():
        raise ValueError(text)
    return years


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have a number and no name
        return f"uid {os.getuid()}"


def _invite(site: Site, device_id: bytes, png: Path | None, *, quiet: bool = False) -> None:
    import segno

    if png is not None and not png.absolute().parent.is_dir():
        raise RegistryRefused(f"{png}: its folder does not exist")
    invitation = site.enrolment.invite(device_id, url=site.facts.url, who=_who())
    text = invitation.text()
    code = segno.make(text, error="m")
    if png is not None:
        _write_png(code, png)
    if quiet:
        typer.echo(text)
        return
    minutes = site.enrolment.policy.token_ms // 60_000
    typer.echo(f"device {device_id.hex()}: this invitation is valid once, for {minutes} minutes")
    code.terminal(compact=True)
    if png is not None:
        typer.echo(f"{png}: written; delete it when the device is enrolled")
    typer.echo("on the device: vitalloom enrol --dir identity, and paste this line:")
    typer.echo(text)


def _write_png(code: Any, png: Path) -> None:
    """Write a QR code, readable only by its owner: with it, another device could enrol in this one's place."""
    picture = io.BytesIO()
    code.save(picture, kind="png", scale=6)
    try:
        write_private(png, picture.getvalue())
    except OSError as error:
        raise RegistryRefused(
            f"{png}: cannot be written ({error.strerror}); name another file and invite the device again"
        ) from error


def _refresh(site: Site) -> tuple[str, ...]:
    """Update the broker's files now, instead of at the registry server's next check."""
    from stream.site.broker_files import BrokerFolder

    folder = BrokerFolder(site.broker_folder)
    if not folder.config_file.exists():
        return ()
    written = folder.refresh(
        site.registry, site.authority, at=moment(SystemClock().now_ms()), who=_who(), retired=site.retired
    )
    return tuple(written.notes)
