"""The commands `vitalloom desk`, `desk user` and `desk try`. What they do lives elsewhere."""

import asyncio
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from runtime.clock import SystemClock
from runtime.errors import MissingExtra
from stream.desk import texts
from stream.desk.notify import Addresses, Notifier
from stream.desk.process import check, desk_config, run_desk, users_of
from stream.desk.texts import Telling
from stream.errors import DeskUnusable, NotificationNotAccepted

desk = typer.Typer(
    help=(f"Call people until somebody answers: run the alarm desk, and say who may answer.\n\n{texts.NOT_A_DEVICE}"),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
user = typer.Typer(
    help="Who may answer alarms.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
desk.add_typer(user, name="user")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The desk's TOML file; see --sample-config.", show_default=False)
]


@desk.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    config: ConfigOption = None,
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and leave.")
    ] = False,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check the configuration, roles and addresses, and leave.")
    ] = False,
) -> None:
    """Run the desk when no command is given."""
    if context.invoked_subcommand is not None:
        context.obj = config
        return
    if sample_config:
        typer.echo((Path(__file__).with_name("sample.toml")).read_text(encoding="utf-8"))
        raise typer.Exit
    if config is None:
        raise typer.BadParameter("say which file: --config FILE (a template: vitalloom desk --sample-config)")
    found = desk_config(config)
    if check_config:
        for note in check(found):
            typer.echo(f"note: {note}")
        typer.echo("the configuration is valid")
        raise typer.Exit
    try:  # Managing users and addresses of a desk on the embedded engine needs no Kafka client.
        from stream.desk.kafka_ports import KafkaAlarmSource, KafkaAnswerSink
    except ModuleNotFoundError as error:
        raise MissingExtra(extra="desk-kafka", module=error.name or "") from error
    raise typer.Exit(run_desk(found, config, KafkaAlarmSource(found.kafka), KafkaAnswerSink(found.kafka)))


@user.command("add")
def add_user(context: typer.Context, name: str, config: ConfigOption = None) -> None:
    """Let somebody answer alarms, or give them another password. It is asked for, or read from standard input."""
    users = users_of(desk_config(config or _given(context)))
    users.put(name, _password(name), now_ms=SystemClock().now_ms())
    typer.echo(f"{name} may answer alarms; their command: vitalloom alarms login {name}")


@user.command("remove")
def remove_user(context: typer.Context, name: str, config: ConfigOption = None) -> None:
    """Somebody may not any more; where they are logged in ends at once."""
    users_of(desk_config(config or _given(context))).remove(name)
    typer.echo(f"{name} may not answer alarms any more")


@user.command("list")
def list_users(context: typer.Context, config: ConfigOption = None) -> None:
    """Who may answer alarms."""
    names = sorted(users_of(desk_config(config or _given(context))).all())
    typer.echo("\n".join(names) or "nobody yet: vitalloom desk user add NAME")


@desk.command("try")
def try_channels(
    context: typer.Context,
    config: ConfigOption = None,
    person: Annotated[
        str | None, typer.Option(help="Only this person's addresses.", show_default="everybody's")
    ] = None,
) -> None:
    """Send a test message to every address, and say which services took it."""
    found = desk_config(config or _given(context))
    addresses = Addresses(found.addresses)
    people = addresses.people if person is None else [person]
    wanted = [one for name in people for one in addresses.of(name)]
    if not wanted:
        raise DeskUnusable(f"{found.addresses}: has no address{f' of {person}' if person else ''}")
    message = texts.of_trial(Telling(found.site_name, found.where), now_ms=SystemClock().now_ms())

    async def send_all() -> int:
        notifier, failed = Notifier(within_s=found.send_timeout_ms / 1_000), 0
        for one in wanted:
            try:
                await notifier.send(one, message)
            except NotificationNotAccepted as error:
                typer.echo(f"not taken: {error}")
                failed += 1
            else:
                typer.echo(f"taken:     {one}")
        return failed

    raise typer.Exit(1 if asyncio.run(send_all()) else 0)


def _given(context: typer.Context) -> Path | None:
    """The file that was named before the command."""
    parent = context.parent
    while parent is not None:
        if isinstance(parent.obj, Path):
            return parent.obj
        parent = parent.parent
    return None


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass(f"a password for {name}: ")
    if getpass("again: ") != first:
        raise DeskUnusable("the two are not the same; nothing was changed")
    return first
