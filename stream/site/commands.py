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
from vitals.patient_group import PatientGroup, group_of
from wire.enrol.authority import moment
from wire.identity import About, BindingRecord, Role

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
registry = _group("Devices: add and invite them, bind them to patients, run the registry server.")
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


@registry.command()
def bind(
    wearable: Annotated[str, typer.Option(help="Wearable: its id, the first characters of its id, or its label.")],
    edge: Annotated[str, typer.Option(help="Edge at the bed: its id, the first characters of its id, or its label.")],
    patient: Annotated[str, typer.Option(help="Pseudonym of the patient; never a name.")],
    bed: Annotated[str, typer.Option(help="Bed of the patient.")],
    site: SiteOption = _SITE,
    spo2_scale: Annotated[
        int,
        typer.Option(min=1, max=2, help="NEWS2 scale for oxygen saturation; 2 for patients with a lower target range."),
    ] = 1,
    age: Annotated[
        float | None,
        typer.Option(
            help="Age in years. Under 16 there is no NEWS2, no other adult score and no model.", show_default=False
        ),
    ] = None,
    pregnant: Annotated[
        bool | None,
        typer.Option(
            "--pregnant/--not-pregnant",
            help="Pregnancy: there is no NEWS2, no other adult score and no model in it.",
            show_default=False,
        ),
    ] = None,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Do not ask for age and pregnancy: score as an adult what is not given.")
    ] = False,
    sex: Annotated[Sex | None, typer.Option(help="Sex, for the prediction models.", show_default=False)] = None,
    chest_pain: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4,
            show_default=False,
            help="Chest pain: 1 typical angina, 2 atypical, 3 non-anginal, 4 none; for the heart model.",
        ),
    ] = None,
) -> None:
    """Bind a wearable to a patient. Age and pregnancy decide which scores apply; what is not given is asked."""
    is_male = None if sex is None else sex is Sex.MALE
    about = About(age_years=age, is_male=is_male, chest_pain=chest_pain, is_pregnant=pregnant)
    if not unknown and not about.problem() and sys.stdin.isatty():
        about = _stated(about)
    with _opened(site) as opened:
        others = opened.registry.open_bindings_of(patient)
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
        group = group_of(about)
        if group.note:
            typer.echo(f"warning: {group.note}", err=True)
        elif group is PatientGroup.UNSTATED:
            typer.echo(f"warning: {_UNSTATED}", err=True)
        for one in others:
            typer.echo(_also_worn(one))
        for note in _refresh(opened):
            typer.echo(note)


def _also_worn(one: BindingRecord) -> str:
    """A note on another wearable of the same patient."""
    name = one.binding_id.hex()[:12]
    return (
        f"note: this patient wears another wearable as well (binding {name}, bed {one.bed}). Each is scored by itself: "
        "a NEWS2 knows only what its own wearable measures, and what it lacks counts as missing. "
        f"If the other one is not worn any more: vitalloom registry unbind {name}"
    )


@registry.command()
def unbind(
    binding: Annotated[
        str, typer.Argument(help="Binding: its id or the id of its wearable, or the first characters of either.")
    ],
    site: SiteOption = _SITE,
) -> None:
    """End a binding: the wearable is no longer on this patient."""
    with _opened(site) as opened:
        found = opened.registry.find_binding(binding)
        opened.registry.unbind(found, who=_who())
        typer.echo(f"binding {found.hex()} has ended")
        for note in _refresh(opened):
            typer.echo(note)


@registry.command()
def bindings(
    site: SiteOption = _SITE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, with complete ids.")] = False,
) -> None:
    """List bindings: patient, bed, wearable, and the edge that receives its readings."""
    with _opened(site, to_read=True) as opened:
        if as_json:
            rows = [{key: _json_value(value) for key, value in _fields(one)} for one in opened.registry.bindings()]
            typer.echo(msgspec.json.encode(rows).decode())
            return
        table = Table("binding", "patient", "bed", "scores", "wearable", "edge", "from", "to")
        for one in opened.registry.bindings():
            ends = "" if one.valid_to_ms is None else date_and_time(opened.facts.time_zone, one.valid_to_ms)
            table.add_row(
                one.binding_id.hex()[:12],
                one.patient,
                one.bed,
                group_of(one.about).word
                or ("adult" if group_of(one.about) is PatientGroup.ADULT else "adult (unstated)"),
                one.wearable_id.hex()[:12],
                one.edge_id.hex()[:12],
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


def _stated(about: About) -> About:
    """Ask for what decides whether adult scores apply, if it is not known yet."""
    if about.age_years is None:
        about = msgspec.structs.replace(about, age_years=_asked("age in years", _age))
    if group_of(about) is PatientGroup.UNSTATED and about.age_years is not None and about.is_pregnant is None:
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
