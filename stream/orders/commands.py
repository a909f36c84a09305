"""The command `vitalloom orders`: check, show and set what is watched of patients, and see who ordered it and why."""

import contextlib
import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from runtime.clock import SystemClock
from runtime.time_zone import date_and_time
from stream.errors import OrdersRefused
from stream.orders.proof import PrescriberProof, desk_of, read_desk
from stream.site.folder import Site
from stream.site.orders import SITE, OrderScope, SetOrder, scope_of
from stream.what_if.commands import what_if
from vitals.orders import (
    DEFAULT,
    OBSERVE,
    PROFILES,
    BadOrders,
    OrderLevel,
    Orders,
    check,
    decode_orders,
    in_words,
    loosened_between,
    needs_prescriber,
    parse_toml,
    schema,
    to_toml,
)
from vitals.orders.order_file import instant_of
from vitals.orders.units import parse_duration

orders = typer.Typer(
    help="Orders: what is watched of patients, and whom alarms call; at the site, a ward, for a profile, a patient.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
orders.command("what-if")(what_if)

SiteOption = Annotated[Path, typer.Option("--site", envvar="VITALLOOM_SITE", help="Site folder.", show_default=True)]
_SITE_FOLDER: Final = Path("site")
DeskOption = Annotated[
    Path | None,
    typer.Option(
        "--desk",
        envvar="VITALLOOM_DESK_CONFIG",
        help="Configuration of the alarm desk: users and ladders. Default: config/desk.toml in the site folder.",
        show_default=False,
    ),
]
PatientOption = Annotated[str | None, typer.Option("--patient", help="Patient (pseudonym).", show_default=False)]
WardOption = Annotated[
    str | None,
    typer.Option(
        "--ward", help='Ward: the name of its beds before the last "/", as in "ward 7/4".', show_default=False
    ),
]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Profile, such as copd.", show_default=False)]
StayOption = Annotated[
    str | None, typer.Option("--stay", help="Stay (hex), of a patient who has left.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@orders.command("check")
def check_files(
    files: Annotated[list[Path], typer.Argument(help="Files of orders (TOML).", show_default=False)],
    desk: Annotated[
        Path | None,
        typer.Option("--desk", help="Configuration of the alarm desk, to check names of ladders.", show_default=False),
    ] = None,
) -> None:
    """Check files of orders without a site: what is wrong, at which key, and the fix. Exit status 1: an error."""
    errors = 0
    for file in files:
        try:
            level = parse_toml(_read(file), file=str(file))
        except BadOrders as error:
            typer.echo(f"{file}:{error.key}: {error.problem}")
            errors += 1
            continue
        reasons = needs_prescriber(level, DEFAULT)
        # Who orders, why, and whether a prescriber does, are known when it is set.
        asked = msgspec.structs.replace(level, by=level.by or "?", why=level.why or "?", by_prescriber=True)
        found = check(asked, DEFAULT, now_ms=SystemClock().now_ms())
        for one in found:
            typer.echo(f"{file}:{one.text}" if one.is_error else f"{file}:{one.text} (note)")
        for reason in reasons:
            typer.echo(f"{file}: needs a prescriber: {reason} (note)")
        for problem in [] if desk is None else _unknown_ladders(level, desk):
            typer.echo(f"{file}:{problem}")
            errors += 1
        errors += sum(one.is_error for one in found)
        if not any(one.is_error for one in found):
            for line in in_words(level):
                typer.echo(f"  {line}")
    raise typer.Exit(1 if errors else 0)


@orders.command("schema")
def print_schema() -> None:
    """Print the JSON schema of a file of orders, for editors."""
    typer.echo(msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode())


@orders.command()
def show(
    patient: Annotated[str | None, typer.Argument(help="Patient (pseudonym).", show_default=False)] = None,
    ward: WardOption = None,
    profile: ProfileOption = None,
    stay: StayOption = None,
    site: SiteOption = _SITE_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show what holds for a patient, a ward or a profile, level by level; without one of them, for the site."""
    with _opened(site, to_read=True) as opened:
        place, found = _place(opened, patient, ward, profile, stay), opened.registry.orders
        whole = found.effective(place)
        signed = found.of_stay(bytes.fromhex(place.key)) if place.level == "patient" else None
        levels = [one for level in found.places_to(place) for one in found.in_force(level)]
        if as_json:
            rows = {
                "place": str(place),
                "version": 0 if signed is None else signed.version,
                "words": in_words(whole),
                "levels": [_row(one) for one in levels],
            }
            typer.echo(msgspec.json.encode(rows).decode())
            return
        zone = opened.facts.time_zone
        typer.echo(f"{_name(opened, place)}: {_version(signed.version if signed else 0, zone)}")
        if signed is not None:
            whole = decode_orders(signed.orders).at(SystemClock().now_ms())
        _echo_words("differs from the default of the RCP", in_words(whole))
        for one in levels:
            typer.echo("")
            typer.echo(_headline(one, zone))
            typer.echo(one.said.rstrip())
        _echo_profile(whole, levels)


@orders.command("set")
def set_order(
    file: Annotated[Path | None, typer.Argument(help="File of orders (TOML).", show_default=False)] = None,
    by: Annotated[str, typer.Option("--by", help="Who orders: the name of a user of the alarm desk.")] = "",
    why: Annotated[str, typer.Option("--why", help="Reason, in one line. Default: that of the file.")] = "",
    patient: PatientOption = None,
    ward: WardOption = None,
    profile: ProfileOption = None,
    use_profile: Annotated[
        str | None,
        typer.Option(
            "--use-profile",
            help="Give the patient this profile, and leave the patient's other orders as they are; instead of a file.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="When it begins: date and time with its offset, or a time from now: 2 h."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            help="When it ends: date and time with its offset, such as 2026-11-30T06:00:00+01:00, or a time from now: "
            "8 h. What held before holds again then. Default: it holds until it is replaced.",
            show_default=False,
        ),
    ] = None,
    site: SiteOption = _SITE_FOLDER,
    desk: DeskOption = None,
    login_file: Annotated[
        Path | None,
        typer.Option(
            "--login-file",
            help="Login at a running desk (vitalloom alarms login) instead of the password of --by.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Order something at one level: shows the difference in words, asks, signs it for the edges concerned.

    Without --patient, --ward or --profile the level is that of the file. Whatever makes a red limit of NEWS2 less
    strict needs a prescriber, who proves it with the password of the alarm desk.
    """
    with _opened(site) as opened:
        found, now_ms = opened.registry.orders, SystemClock().now_ms()
        said, name = _said(opened, file, patient, use_profile)
        level = _parsed(said, name)
        place = _place_to_set(opened, level, patient, ward, profile)
        from_ms, until_ms = _moment(since, now_ms, "--from"), _moment(until, now_ms, "--until")
        draft = found.draft(place, said, who=by, why=why, from_ms=from_ms, until_ms=until_ms, file=name)
        desk_file = desk_of(site, desk)
        for problem in _unknown_ladders(level, desk_file):
            raise OrdersRefused(f"{name}:{problem}")
        _echo_findings(name, found.findings(draft._replace(by_prescriber=True)))
        reasons = found.needs_prescriber(draft)
        if reasons:
            typer.echo("only a prescriber may order this:")
            for reason in reasons:
                typer.echo(f"  {reason}")
            PrescriberProof(desk_file).check(by, login_file)
        _echo_difference(opened, draft)
        if not yes:
            if not sys.stdin.isatty():
                raise OrdersRefused("cannot ask for confirmation without a terminal; add --yes")
            typer.confirm(f"Set this for {_name(opened, place)}?", abort=True)
        done = found.set(
            place,
            said,
            who=by,
            why=why,
            from_ms=from_ms,
            until_ms=until_ms,
            by_prescriber=bool(reasons),
            after=draft.version - 1,
            account=_account(),
        )
        typer.echo(f"{_name(opened, place)}: version {done.version} is set and signed")


@orders.command()
def history(
    patient: Annotated[str | None, typer.Argument(help="Patient (pseudonym).", show_default=False)] = None,
    ward: WardOption = None,
    profile: ProfileOption = None,
    stay: StayOption = None,
    site: SiteOption = _SITE_FOLDER,
    as_toml: Annotated[bool, typer.Option("--toml", help="Print what each order said.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List every order that was ever set at one level: by whom, why, from when to when."""
    with _opened(site, to_read=True) as opened:
        place = _place(opened, patient, ward, profile, stay)
        rows = opened.registry.orders.history(place)
        zone = opened.facts.time_zone
        if as_json:
            typer.echo(msgspec.json.encode([_row(one) for one in rows]).decode())
        elif as_toml:
            for one in rows:
                typer.echo(f"{_headline(one, zone)}\n{one.said.rstrip()}\n")
        else:
            table = Table("version", "set", "by", "why", "from", "until", "prescriber")
            for one in rows:
                ends = "" if one.until_ms is None else date_and_time(zone, one.until_ms)
                times = date_and_time(zone, one.set_ms), date_and_time(zone, one.from_ms)
                is_prescriber = "yes" if one.by_prescriber else ""
                table.add_row(str(one.version), times[0], one.who, one.why, times[1], ends, is_prescriber)
            out = Console(markup=False, highlight=False, emoji=False)
            out.width = out.width if out.is_terminal else 1_000
            out.print(table if rows else f"nothing was ever ordered for {_name(opened, place)}", crop=False)


@contextlib.contextmanager
def _opened(folder: Path, *, to_read: bool = False) -> Iterator[Site]:
    with contextlib.closing(Site.open(folder, clock=SystemClock(), to_read=to_read)) as site:
        yield site


def _place(opened: Site, patient: str | None, ward: str | None, profile: str | None, stay: str | None) -> OrderScope:
    """The level that was asked for; the site if none was."""
    given = [one for one in (patient, ward, profile, stay) if one is not None]
    if len(given) > 1:
        raise OrdersRefused("give one of: a patient, --ward, --profile, --stay")
    if stay is not None:
        return _stay(stay)
    if patient is not None:
        stays = opened.registry.stays
        found = stays.open_of(patient) or [one for one in stays.current(0) if one.patient == patient]
        if not found:
            raise OrdersRefused(f"patient {patient}: is not known here; who is: vitalloom registry stays")
        return OrderScope("patient", found[-1].stay_id.hex())
    return scope_of("ward", ward) if ward is not None else SITE if profile is None else scope_of("profile", profile)


def _stay(text: str) -> OrderScope:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:
        raise OrdersRefused(f"--stay {text[:40]}: a stay is named by 32 hex digits; they are in the audit log")
    return OrderScope("patient", text.lower())


def _place_to_set(
    opened: Site, level: OrderLevel, patient: str | None, ward: str | None, profile: str | None
) -> OrderScope:
    if patient is None and level.level == "patient":
        raise OrdersRefused('order.level is "patient": say of whom, --patient')
    if (patient, ward, profile) == (None, None, None):
        if level.level in ("ward", "profile") and not level.name:
            raise OrdersRefused(f"order.name: say which {level.level}, or give --{level.level}")
        return scope_of(level.level, level.name if level.level != "site" else "")
    if patient is not None and opened.registry.stays.the_open_one_of(patient) is None:
        raise OrdersRefused(f"patient {patient}: nobody of that pseudonym is monitored here now; nothing is ordered")
    return _place(opened, patient, ward, profile, None)


def _said(opened: Site, file: Path | None, patient: str | None, use_profile: str | None) -> tuple[str, str]:
    """What is to be ordered, and what it is called in errors."""
    if (file is None) == (use_profile is None):
        raise OrdersRefused("give a file of orders, or --use-profile with --patient")
    if file is not None:
        return _read(file), str(file)
    if patient is None:
        raise OrdersRefused("--use-profile: say for whom, --patient")
    place = _place(opened, patient, None, None, None)
    now = [one for one in opened.registry.orders.in_force(place) if one.until_ms is None]
    level = _parsed(now[-1].said, "") if now else OrderLevel(level="patient")
    plain = msgspec.structs.replace(level, profile=use_profile, by="", why="", valid_from_ms=None, valid_until_ms=None)
    return to_toml(plain), "--use-profile"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OrdersRefused(f"{file}: cannot be read ({error})") from error


def _parsed(said: str, name: str) -> OrderLevel:
    try:
        return parse_toml(said, file=name)
    except BadOrders as error:
        raise OrdersRefused(str(error)) from error


def _moment(text: str | None, now_ms: int, option: str) -> int | None:
    if text is None:
        return None
    for read in (instant_of, lambda said: now_ms + parse_duration(said)):
        with contextlib.suppress(BadOrders):
            return read(text)
    raise OrdersRefused(
        f"{option} {text}: write date and time with its offset, 2026-11-30T06:00:00+01:00, or a time from now: 8 h"
    )


def _unknown_ladders(level: OrderLevel, desk: Path | None) -> list[str]:
    """Ladders that an order names and the desk does not have: key, problem, fix."""
    named = {f"call.{key}": name for key, name in level.calls.items() if name != OBSERVE}
    for rule_id, change in level.rules.items():
        if change.call is not None and change.call != OBSERVE:
            named[f"rule.{rule_id}.call"] = change.call
    if not named:
        return []
    if desk is None:
        return [
            f"{key}: names the ladder {one}; give the configuration of the desk, --desk" for key, one in named.items()
        ]
    config, _ = read_desk(desk)
    known = config.policy.named
    has = ", ".join(known) or "none"
    return [
        f'{key}: there is no ladder "{one}"; {desk} has {has}: add [policy.named.{one}] to it'
        for key, one in named.items()
        if one not in known
    ]


def _echo_findings(name: str, findings: list[Any]) -> None:
    errors = [one for one in findings if one.is_error]
    for one in findings:
        if not one.is_error:
            typer.echo(f"note: {name}:{one.text}")
    if errors:
        raise OrdersRefused("\n".join(f"{name}:{one.text}" for one in errors))


def _echo_difference(opened: Site, draft: SetOrder) -> None:
    found = opened.registry.orders
    before, after = found.effective(draft.place), found.preview(draft)
    zone = opened.facts.time_zone
    ends = "" if draft.until_ms is None else f", until {date_and_time(zone, draft.until_ms)}"
    typer.echo(f"{_name(opened, draft.place)}, from {date_and_time(zone, draft.from_ms)}{ends}")
    _echo_words("differs from what holds now", in_words(after, before))
    for one in loosened_between(before, after):
        typer.echo(f"  less strict than now: {one.rule_id}: {one.text}")
    if draft.place.level != "patient":
        typer.echo(f"  stays that it is for now: {len(found.stays_of(draft.place))}")


def _echo_words(title: str, lines: list[str]) -> None:
    typer.echo(f"{title}:")
    for line in lines or ["nothing"]:
        typer.echo(f"  {line}")


def _echo_profile(whole: Orders, levels: list[SetOrder]) -> None:
    name = whole.settings.profile
    if name in PROFILES and not any(one.place == scope_of("profile", name) for one in levels):
        typer.echo(f"\nprofile {name}, as this version has it")
        typer.echo(to_toml(PROFILES[name]).rstrip())


def _headline(one: SetOrder, zone: str) -> str:
    ends = "" if one.until_ms is None else f" until {date_and_time(zone, one.until_ms)}"
    prescriber = ", prescriber" if one.by_prescriber else ""
    begins = date_and_time(zone, one.from_ms)
    return f"{one.place}, version {one.version}, by {one.who}{prescriber}, from {begins}{ends}: {one.why}"


def _version(version: int, zone: str) -> str:
    if not version:
        return "nothing is ordered for one stay"
    return f"orders of {date_and_time(zone, version)} (version {version})"


def _name(opened: Site, place: OrderScope) -> str:
    if place.level != "patient":
        return str(place)
    stay = opened.registry.stays.get(bytes.fromhex(place.key))
    return str(place) if stay is None else f"patient {stay.patient}, bed {stay.bed}"


def _row(one: SetOrder) -> dict[str, Any]:
    return {"level": one.place.level, "key": one.place.key, **one._asdict(), "place": str(one.place)}


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have a number and no name
        return f"uid {os.getuid()}"
