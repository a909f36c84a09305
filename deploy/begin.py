"""What `vitalloom site init` and `vitalloom site tools` say to the person in front of them."""

import getpass
import os
from pathlib import Path
from typing import Final

import typer

from deploy.description import Program
from deploy.errors import ToolMissing
from deploy.folder import SHOWN, Folder
from deploy.native import tools
from deploy.supervisor import command_of_program
from stream.site.folder import SiteFacts

_SERVERS: Final = {Program.MOSQUITTO: "mosquitto", Program.KAFKA: "kafka", Program.INFLUXDB: "influxdb"}


def begin(
    folder: Path,
    *,
    name: str,
    host: str,
    registry_port: int,
    broker_port: int,
    first_port: int | None,
    passphrase: str,
    user: str,
) -> None:
    """The command `vitalloom site init`."""
    made = Folder(folder)
    facts = made.begin(
        name=name, host=host, registry_port=registry_port, broker_port=broker_port, first_port=first_port,
        passphrase=passphrase, who=_who(),
    )  # fmt: skip
    shown = [one for one in made.made if not one.startswith(SHOWN)]
    for one in [*shown, *([f"{SHOWN}/"] if len(shown) < len(made.made) else [])]:
        typer.echo(f"made  {folder}/{one}" if "." in one or "/" in one else f"made  {one}, in {folder}")
    name_ = user or _who()
    password = made.admit(name_)
    if made.kept:
        typer.echo(f"kept  {', '.join(one for one in made.kept if not one.startswith(SHOWN))}")
    if password is not None:
        typer.echo(f"\nAlarms are answered by {name_}, whose password is {password}")
        typer.echo("It is kept nowhere: write it down. For others:")
        typer.echo(f"  vitalloom desk --config {folder / 'config' / 'desk.toml'} user add NAME")
    _say_what_is_next(folder, facts)


def _say_what_is_next(folder: Path, facts: SiteFacts) -> None:
    at = "" if str(folder) == "site" else f" {folder}"
    option = "" if str(folder) == "site" else f" --site {folder}"
    typer.echo(f"""
Site {facts.name}: devices enrol at {facts.url} and speak MQTT with {facts.broker_host}:{facts.broker_port}.
Its other passwords and tokens are drawn, and lie in {folder / "secrets"} and nowhere else.
{folder / "ca" / "root.key"} belongs in a safe, away from this machine; it is needed once a year.

Next, one of
  vitalloom site run{at} --demo            on this machine, with simulated patients
  vitalloom site run{at}                   on this machine
  docker compose --env-file {folder / ".env"} up -d       in containers
Then
  vitalloom registry add edge --label bay-1{option}         an edge to begin with""")


def show_tools(*, install: bool) -> int:
    """The command `vitalloom site tools`."""
    missing = 0
    for program, name in {**_SERVERS, Program.GRAFANA: ""}.items():
        try:
            words = command_of_program(program)
        except ToolMissing as error:
            if install and name:
                typer.echo(f"{program.value}: is being made; this takes minutes the first time")
                tools.install(name)
                words = command_of_program(program)
            else:
                typer.echo(f"{program.value}: {error}")
                missing += bool(name)
                continue
        typer.echo(f"{program.value}: {words[0]}")
    return 1 if missing else 0


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have a number and no name
        return f"uid {os.getuid()}"
