"""The command `vitalloom observe`: enter what was seen and measured at the bed, from a terminal."""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from runtime.typed_time import typed_time
from stream.desk.alarm_commands import NOT_A_DEVICE
from stream.desk.client import DeskClient, Login
from stream.errors import DeskCommandFailed, ValueIsExtreme
from vitals.entry_limits import in_words
from vitals.entry_text import Values, ask, level_of, minutes_of, observation_of, pressure_of

_EXAMPLES: Final = """
Examples:

  vitalloom observe 12                               asks step by step

  vitalloom observe 12 --consciousness A --oxygen 0 --rr 18 --temp 37.2

  vitalloom observe P-0042 --consciousness C --oxygen 2 --oxygen-device "nasal cannula" --bp 118/76 --at 14:05

  vitalloom observe 12 --off-for 20m --note "bath"

  vitalloom observe 12 --correct 3f2a9c01 --temp 37.9

  vitalloom observe list 12

Log in first: vitalloom alarms login NAME
"""


class _Group(TyperGroup):
    """`observe BED ...` enters; `observe list BED` lists. A bed called `list` is named by its patient."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((one for one in args if not one.startswith("-")), None)
        if args and first not in self.commands and "--help" not in args and "-h" not in args:
            args = ["enter", *args]
        return super().parse_args(ctx, args)


observe = typer.Typer(
    cls=_Group,
    help="Enter what you see and measure at the bed: `vitalloom observe BED` asks step by step.\n"
    f"{_EXAMPLES}\nAll options: vitalloom observe enter --help\n\n{NOT_A_DEVICE}",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

WhereArgument = Annotated[
    str, typer.Argument(metavar="BED|PATIENT", help="Bed, pseudonym of the patient, or id of the stay.")
]
UrlOption = Annotated[str, typer.Option("--url", envvar="VITALLOOM_DESK_URL", help="Alarm desk URL.")]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root", envvar="VITALLOOM_DESK_ROOT", help="Root certificate of the site, for TLS.", show_default=False
    ),
]
LoginOption = Annotated[
    Path | None,
    typer.Option(
        "--login-file",
        envvar="VITALLOOM_DESK_LOGIN_FILE",
        help="Login file, with desk URL and token. Default: the file that `vitalloom alarms login` writes.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the reply of the desk as one JSON object.")]
_DEFAULT_URL: Final = "http://127.0.0.1:8095"


class ObservationRow(msgspec.Struct, kw_only=True):
    """One observation in the reply of the desk: `stream.desk.observation_api.ShownObservation`."""

    id: str
    by: str
    at_ms: int
    entered_ms: int
    words: list[str]
    note: str = ""
    corrects: str | None = None
    corrected_by: str | None = None
    corrected_by_person: str | None = None
    sent: bool = False


class Rows(msgspec.Struct, kw_only=True):
    now_ms: int
    notice: str
    stay: str
    bed: str
    patient: str
    user: str
    observations: list[ObservationRow]


@observe.command("enter", epilog=_EXAMPLES)
def enter(
    where: WhereArgument,
    consciousness: Annotated[
        str | None,
        typer.Option(
            help="A alert, C new confusion, V responds to voice, P responds to pain, U unresponsive.",
            show_default=False,
        ),
    ] = None,
    oxygen: Annotated[
        float | None, typer.Option(help="Flow of oxygen in L/min; 0 is room air.", show_default=False)
    ] = None,
    oxygen_device: Annotated[
        str, typer.Option(help='How oxygen is given, as "nasal cannula" or "Venturi mask".', show_default=False)
    ] = "",
    fio2: Annotated[
        float | None, typer.Option(help="Inspired oxygen in %; 21 is room air.", show_default=False)
    ] = None,
    rr: Annotated[float | None, typer.Option(help="Breaths a minute, counted.", show_default=False)] = None,
    spo2: Annotated[float | None, typer.Option(help="Oxygen saturation in %.", show_default=False)] = None,
    bp: Annotated[str | None, typer.Option(help="Blood pressure in mmHg, as 118/76.", show_default=False)] = None,
    hr: Annotated[float | None, typer.Option(help="Heart rate a minute.", show_default=False)] = None,
    temp: Annotated[float | None, typer.Option(help="Body temperature in °C.", show_default=False)] = None,
    glucose: Annotated[
        float | None, typer.Option(help="Blood glucose in mmol/L; recorded, not scored.", show_default=False)
    ] = None,
    off_for: Annotated[
        str | None,
        typer.Option(help="Devices are off on purpose for so long, as 20m or 1h; at most 2h.", show_default=False),
    ] = None,
    note: Annotated[str, typer.Option(help="Up to 500 characters; no names of people.", show_default=False)] = "",
    at: Annotated[
        str | None,
        typer.Option(help="When it was observed: 14:05, or 2026-03-01 14:05. Default: now.", show_default=False),
    ] = None,
    correct: Annotated[
        str | None,
        typer.Option(
            help="Id of the entry that this one replaces, or its first 4 or more characters. With a note alone the "
            "entry is withdrawn.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    extreme: Annotated[bool, typer.Option("--extreme", help="Extreme values are right; asked otherwise.")] = False,
    observation_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="Id of this entry, 32 hexadecimal digits; for scripts that try again.", show_default=False
        ),
    ] = None,
    url: UrlOption = _DEFAULT_URL,
    root: RootOption = None,
    login_file: LoginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enter an observation. Without values it asks step by step.

    It is shown in words before it is entered. Exit status: 0 entered, 1 not confirmed, 2 refused or not reached.
    """
    client = _client(url, root, login_file)
    found = client.observations(where, Rows)
    values: Values = {
        "consciousness": None if consciousness is None else level_of(consciousness),
        "supplemental_oxygen": oxygen,
        "inspired_oxygen": fio2,
        "oxygen_device": oxygen_device or None,
        "respiratory_rate": rr,
        "spo2": spo2,
        "heart_rate": hr,
        "temperature": temp,
        "glucose": glucose,
        "off_minutes": None if off_for is None else minutes_of(off_for),
        "note": note or None,
    }
    values |= {} if bp is None else pressure_of(bp)
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        if not sys.stdin.isatty():
            raise DeskCommandFailed("nothing to enter; give a value, such as --consciousness A (see --help)")
        typer.echo(f"Bed {found.bed}, {found.patient}. An empty line leaves a value out.", err=True)
        given = ask(lambda text: str(typer.prompt(text, default="", err=True)), lambda line: typer.echo(line, err=True))
    if at is not None:
        given["at_ms"] = typed_time(at, datetime.now().astimezone())
    if correct is not None:
        given["corrects"] = _entry_called(correct, found).id
    given["id"] = observation_id or os.urandom(16).hex()
    _confirm(found, given, is_confirmed=yes)
    done = _enter(client, found.stay, given, is_extreme_right=extreme)
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
    else:
        typer.echo(
            f"entered by {done['by']} at {_clock(done['entered_ms'])}: bed {done['bed']}, {done['patient']}; "
            f"id {done['id'][:8]}"
        )


@observe.command("list")
def list_observations(
    where: WhereArgument,
    url: UrlOption = _DEFAULT_URL,
    root: RootOption = None,
    login_file: LoginOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the last observations that were entered at the desk, newest first, with their corrections."""
    client = _client(url, root, login_file)
    if as_json:
        typer.echo(msgspec.json.encode(client.observations(where, dict[str, Any])).decode())
        return
    show(client.observations(where, Rows), Console())


def show(found: Rows, console: Console) -> None:
    """The list as a table."""
    table = Table(title=f"Bed {found.bed}, {found.patient}", title_justify="left", expand=False)
    for name in ("id", "observed", "by", "what"):
        table.add_column(name, no_wrap=name != "what", overflow="fold")
    for one in found.observations:
        lines = list(one.words)
        if one.corrects:
            lines.append(f"corrects {one.corrects[:8]}")
        if one.corrected_by:
            lines.append(f"corrected by {one.corrected_by_person}: {one.corrected_by[:8]}")
        if not one.sent:
            lines.append("being sent")
        style = "dim strike" if one.corrected_by else ""
        table.add_row(
            one.id[:8], _clock(one.at_ms), Text(_printable(one.by)), Text(_printable("; ".join(lines)), style)
        )
    if found.observations:
        console.print(table)
    else:
        console.print(Text(f"Bed {found.bed}, {found.patient}: nothing was entered at this desk."))
    console.print(Text(found.notice, style="dim"))


def _client(url: str, root: Path | None, login_file: Path | None) -> DeskClient:
    if login_file is not None:
        login = Login.read(login_file)
        return DeskClient(login.url, root=root, token=login.token)
    return DeskClient(url, root=root, token=os.environ.get("VITALLOOM_DESK_TOKEN"))


def _entry_called(name: str, found: Rows) -> ObservationRow:
    matching = [one for one in found.observations if one.id.startswith(name.lower())] if len(name) >= 4 else []
    if len(matching) != 1:
        problem = "fits more than one entry; give more characters" if matching else "is no entry of this patient"
        raise DeskCommandFailed(f"--correct {name}: {problem}; to see all: vitalloom observe list {found.bed}")
    return matching[0]


def _enter(client: DeskClient, stay: str, given: Values, *, is_extreme_right: bool) -> dict[str, Any]:
    try:
        return client.observe(stay, given | {"confirmed": is_extreme_right})
    except ValueIsExtreme as error:
        if not sys.stdin.isatty():
            raise DeskCommandFailed(f"{error}: add --extreme") from error
        typer.confirm(f"{error}. Is it right?", abort=True, err=True)
        return client.observe(stay, given | {"confirmed": True})


def _confirm(found: Rows, given: Values, *, is_confirmed: bool) -> None:
    """Show in words what will be entered, and ask."""
    typer.echo(f"bed {found.bed}, patient {found.patient}, by {found.user}:", err=True)
    for line in in_words(observation_of(given)):
        typer.echo(f"  {line}", err=True)
    if "at_ms" in given:
        typer.echo(f"  observed {datetime.fromtimestamp(given['at_ms'] / 1_000).astimezone():%Y-%m-%d %H:%M}", err=True)
    if "corrects" in given:
        typer.echo(f"  replaces {given['corrects'][:8]}", err=True)
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise DeskCommandFailed("cannot ask for confirmation without a terminal; add --yes")
    typer.confirm("Enter this?", abort=True, err=True)


def _printable(text: str) -> str:
    """Replace control characters, which could steer the terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _clock(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1_000).astimezone():%H:%M:%S}"
