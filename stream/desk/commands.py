"""The commands `vitalloom desk`, `desk user` and `desk try`."""

import asyncio
import sys
from enum import StrEnum
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from runtime.clock import SystemClock
from runtime.errors import MissingExtra
from runtime.time_zone import clock_of
from stream.desk import texts
from stream.desk.notify import Addresses, Notifier
from stream.desk.process import check, desk_config, run_desk, users_of
from stream.desk.texts import Telling
from stream.errors import DeskUnusable, NotificationNotAccepted

desk = typer.Typer(
    help=(
        "Run the alarm desk, which notifies people until an alarm is acknowledged, and manage its users.\n\n"
        f"{texts.NOT_A_DEVICE}"
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
user = typer.Typer(
    help="Manage the users who may acknowledge and silence alarms.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
desk.add_typer(user, name="user")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file of the desk (TOML); see --sample-config.", show_default=False),
]


class OnOff(StrEnum):
    ON = "on"
    OFF = "off"


NameArgument = Annotated[str, typer.Argument(help="Desk user name.")]


@desk.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    config: ConfigOption = None,
    sample_config: Annotated[
        bool, typer.Option("--sample-config", help="Print an annotated configuration and exit.")
    ] = False,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check the configuration, roles and addresses, and exit.")
    ] = False,
) -> None:
    """Run the desk if no subcommand is given."""
    if context.invoked_subcommand is not None:
        context.obj = config
        return
    if sample_config:
        typer.echo((Path(__file__).with_name("sample.toml")).read_text(encoding="utf-8"))
        raise typer.Exit
    if config is None:
        raise typer.BadParameter("--config FILE is missing; to print a template: vitalloom desk --sample-config")
    found = desk_config(config)
    if check_config:
        for note in check(found):
            typer.echo(f"note: {note}")
        typer.echo("the configuration is valid")
        raise typer.Exit
    try:  # Managing users and addresses of a desk on the embedded engine needs no Kafka client.
        from stream.desk.kafka_ports import KafkaAlarmSource, KafkaEntrySink
    except ModuleNotFoundError as error:
        raise MissingExtra(extra="desk-kafka", module=error.name or "") from error
    raise typer.Exit(run_desk(found, config, KafkaAlarmSource(found.kafka), KafkaEntrySink(found.kafka)))


@user.command("add")
def add_user(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    prescriber: Annotated[
        bool, typer.Option("--prescriber", help="The user may order to move the red limits of NEWS2.")
    ] = False,
) -> None:
    """Add a user, or change a user's password. Asks for the password, or reads it from standard input."""
    users = users_of(desk_config(config or _given(context)))
    users.put(name, _password(name), now_ms=SystemClock().now_ms(), prescriber=prescriber)
    typer.echo(f"user {name} is added; to log in: vitalloom alarms login {name}")


@user.command("prescriber")
def set_prescriber(
    context: typer.Context,
    name: NameArgument,
    state: Annotated[OnOff, typer.Argument(help="Whether the user may order to move the red limits of NEWS2.")],
    config: ConfigOption = None,
) -> None:
    """Say whether a user is a prescriber, who may order to move the red limits of NEWS2."""
    is_prescriber = state is OnOff.ON
    users_of(desk_config(config or _given(context))).set_prescriber(name, prescriber=is_prescriber)
    typer.echo(f"user {name} is {'a' if is_prescriber else 'no'} prescriber")


@user.command("remove")
def remove_user(context: typer.Context, name: NameArgument, config: ConfigOption = None) -> None:
    """Remove a user and end all of the user's logins."""
    users_of(desk_config(config or _given(context))).remove(name)
    typer.echo(f"user {name} is removed")


@user.command("list")
def list_users(context: typer.Context, config: ConfigOption = None) -> None:
    """List the users who may acknowledge and silence alarms."""
    users = users_of(desk_config(config or _given(context))).all()
    names = [f"{name}, prescriber" if users[name].prescriber else name for name in sorted(users)]
    typer.echo("\n".join(names) or "no users; add one: vitalloom desk user add NAME")


@desk.command("try")
def try_channels(
    context: typer.Context,
    config: ConfigOption = None,
    person: Annotated[str | None, typer.Option(help="Test only this person's addresses.", show_default="all")] = None,
) -> None:
    """Send a test message to every address and print which services accepted it."""
    found = desk_config(config or _given(context))
    addresses = Addresses(found.addresses)
    people = addresses.people if person is None else [person]
    wanted = [one for name in people for one in addresses.of(name)]
    if not wanted:
        raise DeskUnusable(
            f"{found.addresses}: has no address{f' of {person}' if person else ''}; "
            "add a table [NAME] with a URL for each channel"
        )
    message = texts.of_trial(
        Telling(found.site_name, found.where, clock=clock_of(found.time_zone)), now_ms=SystemClock().now_ms()
    )

    async def send_all() -> int:
        notifier, failed = Notifier(within_s=found.send_timeout_ms / 1_000), 0
        for one in wanted:
            try:
                await notifier.send(one, message)
            except NotificationNotAccepted as error:
                typer.echo(f"not accepted: {error}")
                failed += 1
            else:
                typer.echo(f"accepted:     {one}")
        return failed

    raise typer.Exit(1 if asyncio.run(send_all()) else 0)


def _given(context: typer.Context) -> Path | None:
    """The `--config` of the parent command."""
    parent = context.parent
    while parent is not None:
        if isinstance(parent.obj, Path):
            return parent.obj
        parent = parent.parent
    return None


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass(f"new password for {name}: ")
    if getpass("repeat the password: ") != first:
        raise DeskUnusable("the passwords differ; nothing was changed")
    return first
