"""The commands of an edge: the agent, and setup, status and bedside signals of the machine that it runs on.

Each imports its module when it is called: `watch` and `status` stay small, and `setup` works before anything else does.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

edge: Final = typer.Typer(
    help="Run the edge agent: receive, judge, store and forward readings; raise local alarms.",
    invoke_without_command=True,
)

Config = Annotated[
    Path | None, typer.Option("--config", help="The agent's TOML file; see --sample-config.", show_default=False)
]
Installed = Annotated[
    Path | None,
    typer.Option("--config", help="The agent's TOML file.", show_default="/etc/vitalloom/edge.toml"),
]


@edge.callback()
def run(
    context: typer.Context,
    config: Config = None,
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print a sample configuration with comments and exit.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and exit.")] = False,
) -> None:
    """Run the edge agent (`--config FILE`), or one of the commands for the machine that it runs on."""
    if context.invoked_subcommand is not None:
        return
    if sample_config:
        typer.echo(Path(__file__).with_name("sample.toml").read_text(encoding="utf-8"))
        raise typer.Exit
    if config is None:
        raise typer.BadParameter("missing option --config FILE (for a template: vitalloom edge --sample-config)")
    from edge.process import main

    raise typer.Exit(main(config, check_only=check_config))


@edge.command()
def setup(
    root: Annotated[
        Path, typer.Option(help="Write files below this folder and run no commands; for a review or an image.")
    ] = Path("/"),
    program: Annotated[
        Path | None,
        typer.Option(help="Path of the vitalloom program that the services start.", show_default="this program"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Replace files that differ without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps without performing them.")] = False,
) -> None:
    """Set up this Raspberry Pi for the agent: user, folders, configuration, services, log, watchdog. Needs root.

    It is safe to run again: correct files are left unchanged.
    """
    from edge.setup import main

    raise typer.Exit(main(root, program=program, yes=yes, dry_run=dry_run))


@edge.command()
def status(
    config: Installed = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    alive: Annotated[
        bool, typer.Option("--is-alive", help="Print nothing; exit status 0 if the agent makes progress, 1 if not.")
    ] = False,
) -> None:
    """Show the state of this edge. Exit status: 0 OK, 1 warning, 2 error."""
    from edge.bedside.status_report import is_alive, main

    if alive:
        raise typer.Exit(is_alive(config))
    raise typer.Exit(main(config, as_json=as_json))


@edge.command()
def watch(
    config: Installed = None,
    rehearsal: Annotated[
        bool, typer.Option("--try", help="Show every light and sound in turn and exit. Stop the service first.")
    ] = False,
) -> None:
    """Drive the lamps and the sounder of this bedside from the status of the agent, also when the agent has stopped."""
    from edge.bedside.watch import main

    raise typer.Exit(main(config, rehearsal=rehearsal))


@edge.command(
    epilog="""
Examples:

  sudo vitalloom edge observe 12 --as anna                          asks step by step

  sudo vitalloom edge observe 12 --as anna --consciousness A --oxygen 0 --rr 18 --temp 37.2

  sudo vitalloom edge observe 12 --as anna --off-for 20m --note "bath"
"""
)
def observe(
    where: Annotated[
        str, typer.Argument(metavar="BED|PATIENT", help="Bed, pseudonym of the patient, or id of the stay.")
    ],
    person: Annotated[str, typer.Option("--as", help="Your name, as `vitalloom edge person add` was told it.")],
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
        str | None, typer.Option(help='How oxygen is given, as "nasal cannula".', show_default=False)
    ] = None,
    fio2: Annotated[
        float | None, typer.Option(help="Inspired oxygen in %; 21 is room air.", show_default=False)
    ] = None,
    rr: Annotated[float | None, typer.Option(help="Breaths a minute, counted.", show_default=False)] = None,
    spo2: Annotated[float | None, typer.Option(help="Oxygen saturation in %.", show_default=False)] = None,
    bp: Annotated[str | None, typer.Option(help="Blood pressure in mmHg, as 118/76.", show_default=False)] = None,
    hr: Annotated[float | None, typer.Option(help="Heart rate a minute.", show_default=False)] = None,
    temp: Annotated[float | None, typer.Option(help="Body temperature in °C.", show_default=False)] = None,
    glucose: Annotated[float | None, typer.Option(help="Blood glucose in mmol/L.", show_default=False)] = None,
    off_for: Annotated[
        str | None, typer.Option(help="Devices are off on purpose for so long, as 20m; at most 2h.", show_default=False)
    ] = None,
    note: Annotated[
        str | None, typer.Option(help="Up to 500 characters; no names of people.", show_default=False)
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="When it was observed: 14:05, or 2026-03-01 14:05. Default: now.", show_default=False),
    ] = None,
    correct: Annotated[
        str | None, typer.Option(help="Id of the entry that this one replaces, all 32 digits.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    extreme: Annotated[bool, typer.Option("--extreme", help="Extreme values are right; asked otherwise.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply of the agent as one JSON object.")] = False,
    config: Installed = None,
) -> None:
    """Enter an observation at this edge, which judges it at once: for when the data centre is away.

    Without values it asks step by step. It needs your PIN, and the agent's user or root.
    """
    from edge.observe_command import observe as enter
    from runtime.typed_time import typed_time
    from vitals.entry_text import level_of, minutes_of, pressure_of

    values: dict[str, Any] = {
        "consciousness": None if consciousness is None else level_of(consciousness),
        "supplemental_oxygen": oxygen,
        "inspired_oxygen": fio2,
        "oxygen_device": oxygen_device,
        "respiratory_rate": rr,
        "spo2": spo2,
        "heart_rate": hr,
        "temperature": temp,
        "glucose": glucose,
        "off_minutes": None if off_for is None else minutes_of(off_for),
        "note": note,
        "at_ms": None if at is None else typed_time(at, datetime.now().astimezone()),
        "corrects": correct,
    } | ({} if bp is None else pressure_of(bp))
    given = {name: value for name, value in values.items() if value is not None}
    raise typer.Exit(enter(config, where, person, given, yes=yes, extreme=extreme, as_json=as_json))


person = typer.Typer(
    help="People who may enter observations at this edge while the data centre is away. There is no default one.",
    no_args_is_help=True,
)
edge.add_typer(person, name="person")

NameArgument = Annotated[str, typer.Argument(help="Name of the person, as it stands in the record.")]


@person.command("add")
def add_person(name: NameArgument, config: Installed = None) -> None:
    """Add a person, or change their PIN of at least 6 characters. Asks for it, or reads it from standard input."""
    from edge.observe_command import add_person as add

    add(config, name)


@person.command("remove")
def remove_person(name: NameArgument, config: Installed = None) -> None:
    """Remove a person."""
    from edge.observe_command import remove_person as remove

    remove(config, name)


@person.command("list")
def list_people(config: Installed = None) -> None:
    """List the names."""
    from edge.observe_command import list_people as list_names

    list_names(config)
