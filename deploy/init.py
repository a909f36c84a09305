"""Output of `vitalloom site init` and `vitalloom site tools`."""

import getpass
import os
from pathlib import Path
from typing import Final

import typer

from deploy.description import Program
from deploy.errors import ToolMissing
from deploy.folder import GRAFANA_FOLDER, SiteFolder
from deploy.native import tools
from deploy.supervisor import command_of_program
from stream.site.folder import SiteFacts

_SERVERS: Final = {Program.MOSQUITTO: "mosquitto", Program.KAFKA: "kafka", Program.INFLUXDB: "influxdb"}


def init_site(
    folder: Path,
    *,
    name: str,
    host: str,
    registry_port: int,
    broker_port: int,
    first_port: int | None,
    time_zone: str,
    passphrase: str,
    user: str,
) -> None:
    """The command `vitalloom site init`."""
    site = SiteFolder(folder)
    facts = site.create(
        name=name,
        host=host,
        registry_port=registry_port,
        broker_port=broker_port,
        first_port=first_port,
        time_zone=time_zone,
        passphrase=passphrase,
        who=_user_name(),
    )
    shown = [one for one in site.created if not one.startswith(GRAFANA_FOLDER)]
    for one in [*shown, *([f"{GRAFANA_FOLDER}/"] if len(shown) < len(site.created) else [])]:
        typer.echo(f"created  {folder}/{one}" if "." in one or "/" in one else f"created  {one}, in {folder}")
    name_ = user or _user_name()
    password = site.create_first_user(name_)
    if site.kept:
        typer.echo(f"kept     {', '.join(one for one in site.kept if not one.startswith(GRAFANA_FOLDER))}")
    if password is not None:
        typer.echo(f"\nUser {name_} can answer alarms. Password: {password}")
        typer.echo("The password is shown only once: write it down. To add users:")
        typer.echo(f"  vitalloom desk --config {folder / 'config' / 'desk.toml'} user add NAME")
    _print_next_steps(folder, facts)


def _print_next_steps(folder: Path, facts: SiteFacts) -> None:
    at = "" if str(folder) == "site" else f" {folder}"
    option = "" if str(folder) == "site" else f" --site {folder}"
    typer.echo(f"""
Site {facts.name}: devices enrol at {facts.url}, and use the MQTT broker {facts.broker_host}:{facts.broker_port}.
Times are shown in the time zone {facts.time_zone or "UTC"}.
Its other passwords and tokens were generated at random and are stored in {folder / "secrets"} only.
Move {folder / "ca" / "root.key"} to a safe place off this machine; it is needed once a year.

Next, run one of
  vitalloom site run{at} --demo            on this machine, with simulated patients
  vitalloom site run{at}                   on this machine
  docker compose --env-file {folder / ".env"} up -d       in containers
then
  vitalloom registry add edge --label bay-1{option}         add a first edge""")


def show_tools(*, install: bool) -> int:
    """The command `vitalloom site tools`."""
    missing = 0
    for program, name in {**_SERVERS, Program.GRAFANA: ""}.items():
        try:
            words = command_of_program(program)
        except ToolMissing as error:
            if install and name:
                typer.echo(f"{program.value}: installing; this takes minutes the first time")
                tools.install(name)
                words = command_of_program(program)
            else:
                typer.echo(f"{program.value}: {error}")
                missing += bool(name)
                continue
        typer.echo(f"{program.value}: {words[0]}")
    return 1 if missing else 0


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have a number and no name
        return f"uid {os.getuid()}"
