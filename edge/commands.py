"""The commands of an edge: the agent itself, and what is done around it on the machine that it runs on.

Each loads what it needs when it is called: `watch` and `status` stay small, and `setup` works before anything else.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

edge: Final = typer.Typer(
    help="The agent beside the bed: open, judge, keep, forward, and alarm alone when the cloud is silent.",
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
        bool, typer.Option("--sample-config", help="Print an annotated configuration and leave.")
    ] = False,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the configuration and leave.")] = False,
) -> None:
    """Run the agent beside the bed (`--config FILE`), or see to the machine that it runs on."""
    if context.invoked_subcommand is not None:
        return
    if sample_config:
        typer.echo(Path(__file__).with_name("sample.toml").read_text(encoding="utf-8"))
        raise typer.Exit
    if config is None:
        raise typer.BadParameter("say which file: --config FILE (a template: vitalloom edge --sample-config)")
    from edge.process import main

    raise typer.Exit(main(config, check_only=check_config))


@edge.command()
def setup(
    root: Annotated[
        Path, typer.Option(help="Write below this folder, and only write; to review it or to make an image.")
    ] = Path("/"),
    program: Annotated[
        Path | None,
        typer.Option(help="The program that the services start.", show_default="this one"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Replace files that differ without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Make this Raspberry Pi ready for the agent: user, folders, configuration, services, log, watchdog. As root.

    It may be run again at any time: what is right stays as it is.
    """
    from edge.setup import main

    raise typer.Exit(main(root, program=program, yes=yes, dry_run=dry_run))


@edge.command()
def status(
    config: Installed = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    alive: Annotated[
        bool, typer.Option("--is-alive", help="Print nothing; exit status 0 if the agent gets on, 1 if not.")
    ] = False,
) -> None:
    """How this edge is, for the person in front of it. Exit status: 0 well, 1 look, 2 act."""
    from edge.bedside.status_report import is_alive, main

    if alive:
        raise typer.Exit(is_alive(config))
    raise typer.Exit(main(config, as_json=as_json))


@edge.command()
def watch(
    config: Installed = None,
    rehearsal: Annotated[
        bool, typer.Option("--try", help="Show every light and sound in turn, and leave. Stop the service first.")
    ] = False,
) -> None:
    """Light the lamps and sound the alarm of this bedside, for the agent and when the agent is dead."""
    from edge.bedside.watch import main

    raise typer.Exit(main(config, rehearsal=rehearsal))
