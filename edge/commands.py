"""The commands of an edge: the agent, and setup, status and bedside signals of the machine that it runs on.

Each imports its module when it is called: `watch` and `status` stay small, and `setup` works before anything else does.
"""

from pathlib import Path
from typing import Annotated, Final

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
