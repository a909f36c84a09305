"""The commands of a data centre: `vitalloom pki`, `registry`, `broker` and `audit`. What they do lives elsewhere."""

import contextlib
import getpass
import io
import os
import pwd
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from runtime.clock import SystemClock
from runtime.hardening import write_private
from stream.config import REGISTRY_LISTEN, parse_options
from stream.errors import RegistryRefused
from stream.site.folder import SERVICES, Site, SiteFacts
from wire.enrol.authority import moment
from wire.identity import About, BindingRecord, Role

DAY_MS: Final = 86_400_000
_SHORT_LINE: Final = 72
_LONG_LINE: Final = 1_000

SiteOption = Annotated[
    Path, typer.Option("--site", envvar="VITALLOOM_SITE", help="The site's folder.", show_default=True)
]
_SITE: Final = Path("site")


class Sex(StrEnum):
    """As the models were parse_options of it."""

    FEMALE = "female"
    MALE = "male"


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


pki = _group("Certificates and keys: begin a site, issue, renew, revoke, show.")
registry = _group("Who belongs: add devices, invite them, put them on patients, serve their requests.")
broker = _group("The files of the site's Mosquitto.")
audit = _group("The audit log.")


# pki


@pki.command()
def init(
    site: SiteOption = _SITE,
    name: Annotated[str, typer.Option(help="What the site is called, in its certificates.")] = "vitalloom",
    host: Annotated[str, typer.Option(help="Where devices reach the registry and the broker.")] = "127.0.0.1",
    registry_port: Annotated[int, typer.Option(min=1, max=65_535)] = 8_443,
    broker_port: Annotated[int, typer.Option(min=1, max=65_535)] = 8_883,
    encrypt_root: Annotated[
        bool, typer.Option("--encrypt-root", help="Ask for a passphrase of the root key's file.")
    ] = False,
) -> None:
    """Begin a site: a root, an issuing key, control keys, a registry, the identity of its ingest."""
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
    )
    with contextlib.closing(Site.create(site, facts, clock=SystemClock(), passphrase=passphrase, who=_who())) as made:
        typer.echo(f"site {name} is in {site}; its authority is pinned as {made.authority.pin.hex()}")
    typer.echo(f"keep {site / 'ca' / 'root.key'} in a safe, away from this machine; it is needed once a year")
    typer.echo(f"next: vitalloom broker write --site {site}")


@pki.command()
def issue(
    what: Annotated[str, typer.Argument(help=f"registry, or a service: {', '.join(SERVICES)}.")],
    site: SiteOption = _SITE,
    host: Annotated[list[str] | None, typer.Option(help="Further names of the registry; may be repeated.")] = None,
) -> None:
    """Issue a certificate for a server or a service of the site. Devices get theirs by enrolling."""
    with _opened(site) as opened:
        if what == "registry":
            opened.issue_registry_certificate(who=_who(), hosts=host or ())
            typer.echo(f"{opened.registry_tls}: issued; start the registry again to use it")
        elif what in SERVICES:
            typer.echo(f"{opened.issue_service(what, who=_who())}: issued")
        elif what == "broker":
            raise RegistryRefused("the broker's certificate is written with its other files: vitalloom broker write")
        else:
            raise RegistryRefused(
                f"{what}: is neither registry nor a service ({', '.join(SERVICES)}); devices enrol: "
                "vitalloom registry add"
            )


@pki.command()
def renew(
    what: Annotated[
        str, typer.Argument(help=f"A device's id, or registry, issuing, control, or a service: {', '.join(SERVICES)}.")
    ],
    site: SiteOption = _SITE,
    png: Annotated[Path | None, typer.Option(help="Write the QR code to this file, too.", show_default=False)] = None,
) -> None:
    """Renew what has grown old. A device whose certificate is over is invited again, keeping its id and its patient."""
    with _opened(site) as opened:
        if what == "registry":
            opened.issue_registry_certificate(who=_who())
        elif what == "issuing":
            passphrase = ""
            if opened.root_asks_for_passphrase:
                passphrase = typer.prompt("passphrase of the root key", hide_input=True)
            opened.renew_issuing(passphrase=passphrase, who=_who())
            typer.echo("then: vitalloom broker write, start the broker and the registry again")
        elif what == "control":
            opened.renew_control(who=_who())
        elif what in SERVICES:
            opened.issue_service(what, who=_who())
        else:
            _invite(opened, opened.registry.find(what), png)
            return
        typer.echo(f"{what}: renewed")


@pki.command()
def revoke(
    device: Annotated[
        str, typer.Argument(help="The device's id, the beginning of it, or its label; or the name of a service.")
    ],
    why: Annotated[str, typer.Option(help="For the audit log: lost, stolen, broken ...")] = "not said",
    site: SiteOption = _SITE,
) -> None:
    """Nothing of this device is believed any more, and nothing lets it in. For good."""
    with _opened(site) as opened:
        if device in SERVICES:
            count = opened.registry.revoke_certificates(device, who=_who())
            typer.echo(f"{device}: {count} certificates revoked")
        else:
            found = opened.registry.find(device)
            opened.registry.revoke(found, why=why, who=_who())
            typer.echo(f"device {found.hex()} is revoked")
        for note in _refresh(opened):
            typer.echo(note)


@pki.command()
def show(
    device: Annotated[str | None, typer.Argument(help="One device; otherwise all.", show_default=False)] = None,
    site: SiteOption = _SITE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Devices and certificates: who is enrolled, until when, who is revoked, and what to do about it."""
    clock = SystemClock()
    with _opened(site, to_read=True) as opened:
        wanted = None if device is None else opened.registry.find(device).hex()
        devices = [one for one in opened.registry.devices() if wanted in (None, one.device_id)]
        certificates = [one for one in opened.registry.certificates() if wanted in (None, one.device_id)]
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
    """As it is: a label is no markup, and an id that is cut cannot be copied. What is no terminal gets long lines."""
    out = Console(markup=False, highlight=False, emoji=False)
    out.width = max(out.width, _SHORT_LINE) if out.is_terminal else _LONG_LINE
    out.print(table, crop=False)


def _fields(one: BindingRecord) -> list[tuple[str, Any]]:
    return [(key, getattr(one, key)) for key in one.__struct_fields__]


def _told(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _row(one: Any) -> dict[str, Any]:
    found: dict[str, Any] = one._asdict()
    return found


# registry


@registry.command()
def serve(
    site: SiteOption = _SITE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - devices come from outside
    port: Annotated[int | None, typer.Option(help="Default: the site's.", show_default=False)] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--http-listen",
            envvar="VITALLOOM_REGISTRY__HTTP__LISTEN",
            help="host:port of /metrics, /ready and /live; empty: nowhere.",
        ),
    ] = REGISTRY_LISTEN,
    log_format: Annotated[
        str, typer.Option(envvar="VITALLOOM_REGISTRY__LOG_FORMAT", help="plain, or json: one object a line.")
    ] = "plain",
) -> None:
    """Answer devices that enrol or renew, and keep the broker's access list and revocation list true."""
    from stream.site.process import run_registry

    http, form = parse_options(listen, log_format)
    raise typer.Exit(run_registry(site, host=host, port=port, http=http, log_format=form))


@registry.command()
def add(
    role: Annotated[str, typer.Argument(help="wearable or edge.")],
    site: SiteOption = _SITE,
    label: Annotated[str, typer.Option(help="For people: a shelf, a serial number; never a patient's name.")] = "",
    png: Annotated[Path | None, typer.Option(help="Write the QR code to this file, too.", show_default=False)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="The invitation alone, for scripts.")] = False,
) -> None:
    """A new device: draws its id and prints its invitation, once."""
    roles: dict[str, Role] = {"wearable": "wearable", "edge": "edge"}
    if role not in roles:
        raise RegistryRefused(f"{role}: a device is a wearable or an edge")
    with _opened(site) as opened:
        device_id = opened.registry.add_device(roles[role], label=label, who=_who())
        _invite(opened, device_id, png, quiet=quiet)


@registry.command()
def invite(
    device: Annotated[str, typer.Argument(help="The device's id, the beginning of it, or its label.")],
    site: SiteOption = _SITE,
    png: Annotated[Path | None, typer.Option(help="Write the QR code to this file, too.", show_default=False)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="The invitation alone, for scripts.")] = False,
) -> None:
    """A new invitation for a device; earlier ones are void, and a locked slot is open again."""
    with _opened(site) as opened:
        _invite(opened, opened.registry.find(device), png, quiet=quiet)


@registry.command()
def bind(
    wearable: Annotated[str, typer.Option(help="The wearable's id, the beginning of it, or its label.")],
    edge: Annotated[str, typer.Option(help="The edge beside the bed, named likewise.")],
    patient: Annotated[str, typer.Option(help="A pseudonym; the registry never knows a name.")],
    bed: Annotated[str, typer.Option(help="Where the patient is.")],
    site: SiteOption = _SITE,
    spo2_scale: Annotated[int, typer.Option(min=1, max=2, help="NEWS2 scale for oxygen saturation.")] = 1,
    age: Annotated[float | None, typer.Option(help="Years; for the models.", show_default=False)] = None,
    sex: Annotated[Sex | None, typer.Option(help="For the models.", show_default=False)] = None,
    chest_pain: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4,
            show_default=False,
            help="1 typical angina, 2 atypical, 3 not of the heart, 4 none. With age and sex the heart model judges.",
        ),
    ] = None,
) -> None:
    """Put a wearable on a patient."""
    with _opened(site) as opened:
        found = opened.registry.bind(
            wearable_id=opened.registry.find(wearable),
            edge_id=opened.registry.find(edge),
            patient=patient,
            bed=bed,
            spo2_scale=spo2_scale,
            about=About(age_years=age, is_male=None if sex is None else sex is Sex.MALE, chest_pain=chest_pain),
            who=_who(),
        )
        typer.echo(f"binding {found.hex()}")
        for note in _refresh(opened):
            typer.echo(note)


@registry.command()
def unbind(
    binding: Annotated[str, typer.Argument(help="The binding's id or its wearable's, or the beginning of it.")],
    site: SiteOption = _SITE,
) -> None:
    """The wearable is on this patient no longer."""
    with _opened(site) as opened:
        found = opened.registry.find_binding(binding)
        opened.registry.unbind(found, who=_who())
        typer.echo(f"binding {found.hex()} has ended")
        for note in _refresh(opened):
            typer.echo(note)


@registry.command()
def bindings(
    site: SiteOption = _SITE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, ids whole.")] = False,
) -> None:
    """Which wearable is on which patient, and which edge hears it."""
    with _opened(site, to_read=True) as opened:
        if as_json:
            rows = [{key: _told(value) for key, value in _fields(one)} for one in opened.registry.bindings()]
            typer.echo(msgspec.json.encode(rows).decode())
            return
        table = Table("binding", "patient", "bed", "wearable", "edge", "from", "to")
        for one in opened.registry.bindings():
            ends = "" if one.valid_to_ms is None else f"{moment(one.valid_to_ms):%Y-%m-%d %H:%M}"
            table.add_row(
                one.binding_id.hex()[:12], one.patient, one.bed, one.wearable_id.hex()[:12], one.edge_id.hex()[:12],
                f"{moment(one.valid_from_ms):%Y-%m-%d %H:%M}", ends,
            )  # fmt: skip
        _print(table)


# broker


@broker.command()
def write(
    site: SiteOption = _SITE,
    host: Annotated[list[str] | None, typer.Option(help="Further names of the broker; may be repeated.")] = None,
    user: Annotated[str | None, typer.Option(help="System user that Mosquitto runs as. Default: you.")] = None,
    listen: Annotated[str, typer.Option(help="Address to listen on; empty: all.")] = "",
    into: Annotated[
        Path | None,
        typer.Option("--folder", help="Where to; kept for later. Default: the site's folder.", show_default=False),
    ] = None,
) -> None:
    """Write mosquitto.conf, access list, revocation list and certificate; tell a broker that runs."""
    from stream.site.broker_files import BrokerFolder, BrokerSettings

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
            opened.keep_broker_in(folder.folder)
        for note in written.notes:
            typer.echo(note)
        typer.echo(f"written: {', '.join(written.changed) or 'nothing new'}")
        typer.echo(f"run it: mosquitto -c {folder.config_file}")


# audit


@audit.command()
def verify(
    site: SiteOption = _SITE,
    file: Annotated[Path | None, typer.Option(help="A log file instead of the site's.", show_default=False)] = None,
    head: Annotated[
        str | None, typer.Option(help="A hash that was noted elsewhere and has to be in the chain.", show_default=False)
    ] = None,
) -> None:
    """Check every line of the audit log against the one before it."""
    from stream.site.audit import verify as check

    if file is not None:
        found = check(file, head=head)
    else:
        with _opened(site, to_read=True) as opened:
            found = check(opened.registry.audit.path, head=head or opened.registry.meta("audit_head"))
    typer.echo(f"{found.n} lines, none altered; the last is {found.hash}")


# Within


@contextlib.contextmanager
def _opened(folder: Path, *, to_read: bool = False) -> Iterator[Site]:
    site = Site.open(folder, clock=SystemClock(), to_read=to_read)
    try:
        yield site
    finally:
        site.close()


def _account() -> str:
    """Who the broker will run as, as the system calls it; in a container a user may have a number and no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have a number and no name
        return f"uid {os.getuid()}"


def _invite(site: Site, device_id: bytes, png: Path | None, *, quiet: bool = False) -> None:
    import segno

    if png is not None and not png.absolute().parent.is_dir():
        raise RegistryRefused(f"{png}: there is no such folder")
    invitation = site.registry.invite(device_id, url=site.facts.url, who=_who())
    text = invitation.text()
    code = segno.make(text, error="m")
    if png is not None:
        _write_png(code, png)
    if quiet:
        typer.echo(text)
        return
    minutes = site.registry.policy.token_ms // 60_000
    typer.echo(f"device {device_id.hex()}: this invitation is good once, for {minutes} minutes")
    code.terminal(compact=True)
    if png is not None:
        typer.echo(f"{png}: written; delete it when the device is enrolled")
    typer.echo("on the device: vitalloom enrol --dir identity, and paste this line:")
    typer.echo(text)


def _write_png(code: Any, png: Path) -> None:
    """For its owner's eyes: whoever sees it can enrol in the device's place."""
    picture = io.BytesIO()
    code.save(picture, kind="png", scale=6)
    try:
        write_private(png, picture.getvalue())
    except OSError as error:
        raise RegistryRefused(f"{png}: cannot be written ({error.strerror}); invite the device once more") from error


def _refresh(site: Site) -> tuple[str, ...]:
    """Tell the broker at once, and not when somebody looks."""
    from stream.site.broker_files import BrokerFolder

    folder = BrokerFolder(site.broker_folder)
    if not folder.config_file.exists():
        return ()
    written = folder.refresh(
        site.registry, site.authority, at=moment(SystemClock().now_ms()), who=_who(), retired=site.retired
    )
    return tuple(written.notes)
