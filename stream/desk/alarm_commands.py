"""The command `vitalloom alarms`: list, acknowledge and silence alarms from a terminal."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from getpass import getpass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.time_zone import zone_name
from stream.desk import load_report
from stream.desk.client import DeskClient, Login
from stream.errors import DeskCommandFailed

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."

# IEC 60601-1-8: red, yellow, cyan. Marks repeat the priority for colour-blind people and output without colours.
_STYLES: Final = {"high": "bold white on red", "medium": "black on yellow", "low": "black on cyan"}

alarms = typer.Typer(
    help=f"List, acknowledge and silence open alarms. Log in first: vitalloom alarms login NAME\n\n{NOT_A_DEVICE}",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class ListedNotification(msgspec.Struct, kw_only=True):
    at_ms: int
    who: str
    person: str
    channel: str
    fate: str


class Alarm(msgspec.Struct, kw_only=True):
    """One alarm in the reply of the desk: `stream.desk.http.ShownAlarm`."""

    id: str
    revision: int
    priority: str
    mark: str
    kind: str
    state: str
    place: str
    since_ms: int
    text: str
    response: str = ""
    acknowledged_by: str | None = None
    acknowledged_ms: int | None = None
    confirmed: bool = False
    silenced_until_ms: int | None = None
    calling: bool = False
    outage: str = ""
    ordered: str = ""
    told: list[ListedNotification] = []


class Alarms(msgspec.Struct, kw_only=True):
    now_ms: int
    notice: str
    site: str = ""
    trouble: str = ""
    alarms: list[Alarm]


@alarms.callback()
def _where(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="VITALLOOM_DESK_URL", help="Alarm desk URL.")] = "http://127.0.0.1:8095",
    root: Annotated[
        Path | None,
        typer.Option(envvar="VITALLOOM_DESK_ROOT", help="Root certificate of the site, for TLS.", show_default=False),
    ] = None,
    login_file: Annotated[
        Path | None,
        typer.Option(
            "--login-file",
            envvar="VITALLOOM_DESK_LOGIN_FILE",
            help="Login file, with desk URL and token; `vitalloom ward` writes one. Default: the file that "
            "`vitalloom alarms login` writes.",
            show_default=False,
        ),
    ] = None,
) -> None:
    if login_file is not None:
        login = Login.read(login_file)
        context.obj = DeskClient(login.url, root=root, token=login.token)
        return
    # The token of a script comes from the environment; a person's is in a private file.
    context.obj = DeskClient(url, root=root, token=os.environ.get("VITALLOOM_DESK_TOKEN"))


@alarms.command("login")
def log_in(context: typer.Context, name: Annotated[str, typer.Argument(help="Your desk user name.")]) -> None:
    """Log in for a shift. Asks for the password, or reads it from standard input."""
    client: DeskClient = context.obj
    password = getpass("password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    found = client.log_in(name, password)
    typer.echo(f"{name} is logged in at {client.url} until {_clock(found['until_ms'])}")


@alarms.command("logout")
def log_out(context: typer.Context) -> None:
    """Log out: the desk forgets this login."""
    context.obj.log_out()
    typer.echo("logged out")


@alarms.command("list")
def list_alarms(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply of the desk as one JSON object.")] = False,
) -> None:
    """List open alarms: unacknowledged ones first, then by priority."""
    if as_json:
        typer.echo(msgspec.json.encode(context.obj.alarms(dict[str, Any])).decode())
        return
    show(context.obj.alarms(Alarms), Console())


AlarmArgument = Annotated[str, typer.Argument(help="Alarm id from `list`, or its first 4 or more characters.")]
AlarmsArgument = Annotated[
    list[str], typer.Argument(help="Alarm ids from `list`, or their first 4 or more characters.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
RevisionOption = Annotated[
    int | None,
    typer.Option(help="Revision of the alarm that was seen, for scripts; see `list --json`.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print each result as one JSON object.")]


@alarms.command("ack")
def acknowledge(
    context: typer.Context,
    alarms: AlarmsArgument,
    yes: YesOption = False,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Acknowledge alarms: notifications stop, the alarm stays on the list until its condition ends.

    An alarm that has changed since you saw it is not acknowledged: the command fails, and notifications go on.
    """
    client: DeskClient = context.obj
    if revision is not None and len(alarms) > 1:
        raise typer.BadParameter("--revision belongs to one alarm; give one alarm")
    for alarm in alarms:
        found = _seen(client, alarm, "acknowledge it", yes=yes or revision is not None)
        done = client.acknowledge(found.id, revision=found.revision if revision is None else revision)
        if as_json:
            typer.echo(msgspec.json.encode(done).decode())
        else:
            typer.echo(f"{alarm}: answered by {done['by']} at {_clock(done['at_ms'])}; calling has stopped")


@alarms.command("silence")
def silence(
    context: typer.Context,
    alarm: AlarmArgument,
    minutes: Annotated[int, typer.Option(min=1, max=1_440, help="Duration in minutes.")] = 10,
    yes: YesOption = False,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Silence one condition of one patient for some minutes.

    A condition that is judged sign by sign is silenced for that sign alone. An alarm of higher priority still notifies.
    """
    client: DeskClient = context.obj
    found = _seen(client, alarm, f"silence it for {minutes} min", yes=yes or revision is not None)
    done = client.silence(found.id, revision=found.revision if revision is None else revision, minutes=minutes)
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
    else:
        typer.echo(f"{alarm}: silenced until {_clock(done['until_ms'])}, unless it gets worse")


@alarms.command("report")
def report(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of the SQLite store (store.sqlite) or of the desk (desk.sqlite); the store is preferred."
        ),
    ],
    days: Annotated[
        float | None,
        typer.Option(min=0.01, help="Period of the report in days, counted back from its newest record; default: all."),
    ] = None,
    patients: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of monitored patients; needed for alarms per patient-day if the report is read from a desk.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; times in ms.")] = False,
) -> None:
    """Report the alarm load: number of alarms, share answered, time to answer. Needs no login."""
    found = load_report.measure(data, days=days, patients=patients)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        load_report.show(found, Console())


def show(found: Alarms, console: Console) -> None:
    """The list as a table."""
    zone = zone_name(datetime.fromtimestamp(found.now_ms / 1_000).astimezone())
    title = f"Alarms{f', {found.site}' if found.site else ''} (columns in {zone})"
    table = Table(title=title, title_justify="left", expand=False)
    for name in ("", "alarm", "where", "what", "since", "answered", "called"):
        table.add_column(name, no_wrap=name in ("", "alarm", "since"), overflow="fold")
    for one in found.alarms:
        table.add_row(
            Text(f" {one.mark} {one.priority} ", style=_STYLES[one.priority]),
            one.id[:8],
            Text(_printable(one.place)),
            Text(_printable(f"was: {one.text}" if one.state == "was" else one.text)),
            f"{_clock(one.since_ms)}\n{_age(found.now_ms - one.since_ms)}",
            Text(_answer_text(one), overflow="fold"),
            Text(_notifications_text(one)),
        )
    if found.alarms:
        console.print(table)
        for line in _recommendations(found.alarms):  # below the table, whose columns are narrow on a narrow terminal
            console.print(Text(line))
    else:
        console.print("No open alarms.")
    if found.trouble:
        console.print(Text(f"This list may be out of date: {found.trouble}", style="bold red"))
    console.print(Text(found.notice, style="dim"))


def _seen(client: DeskClient, name: str, doing: str, *, yes: bool) -> Alarm:
    """The alarm of that id; unless `yes`, shown to the person and confirmed."""
    found = client.alarms(Alarms)
    matching = [one for one in found.alarms if one.id.startswith(name.lower())] if len(name) >= 4 else []
    if len(matching) != 1:
        problem = "fits more than one alarm; give more characters" if matching else "no such open alarm"
        raise DeskCommandFailed(f"{name}: {problem}; to see all: `alarms list` with the same --login-file")
    (alarm,) = matching
    if not yes:
        show(msgspec.structs.replace(found, alarms=[alarm]), Console(stderr=True))
        if not sys.stdin.isatty():
            raise DeskCommandFailed("cannot ask for confirmation without a terminal; add --yes, or --revision N")
        typer.confirm(f"Have you seen this alarm, and do you want to {doing}?", abort=True, err=True)
    return alarm


def _recommendations(alarms: Sequence[Alarm]) -> list[str]:
    """Each recommended response once, with the ids of its alarms."""
    ids: dict[str, list[str]] = {}
    for one in alarms:
        if one.response:
            ids.setdefault(one.response, []).append(one.id[:8])
    return [f"Recommended: {_printable(response)} ({', '.join(these)})" for response, these in ids.items()]


def _answer_text(one: Alarm) -> str:
    lines = []
    if one.acknowledged_by is not None:
        when = "" if one.acknowledged_ms is None else f" {_clock(one.acknowledged_ms)}"
        lines.append(f"{one.acknowledged_by}{when}{'' if one.confirmed else ' (being sent)'}")
    if one.silenced_until_ms is not None:
        lines.append(f"silenced until {_clock(one.silenced_until_ms)}")
    if one.outage:
        lines.append(f"see outage {one.outage[:8]}")
    if one.ordered:
        lines.append(_printable(one.ordered))
    return "\n".join(lines) or ("not yet" if one.calling else "no")


def _notifications_text(one: Alarm) -> str:
    lines = [f"{sent.person} {sent.channel} {_clock(sent.at_ms)} {sent.fate}" for sent in one.told[:3]]
    if len(one.told) > 3:
        lines.append(f"and {len(one.told) - 3} earlier")
    return "\n".join(lines) or "not yet"


def _printable(text: str) -> str:
    """Replace control characters, which could steer the terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _clock(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1_000).astimezone():%H:%M:%S}"


def _age(ms: int) -> str:
    minutes = max(0, ms) // 60_000
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
