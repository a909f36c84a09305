"""`vitalloom edge observe` and `vitalloom edge person`: entries at the bedside while the data centre is away."""

import asyncio
import os
import sys
import tomllib
from collections.abc import Mapping
from datetime import datetime
from getpass import getpass
from pathlib import Path
from typing import Any, Final

import msgspec
import typer

from edge.entry_socket import EntryReply, send_entry
from edge.errors import BadEdgeConfig, EntryRefused
from edge.observing import EdgeEntry
from edge.people import EdgePeople
from runtime.clock import SystemClock
from vitals.entry_limits import in_words
from vitals.entry_text import Values, ask, observation_of

CONFIG: Final = Path("/etc/vitalloom/edge.toml")


def data_dir_of(path: Path | None) -> Path:
    """The data folder in an agent's configuration. Raises BadEdgeConfig."""
    path = path or CONFIG
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadEdgeConfig(f"{path}: cannot be read ({error}); name the agent's file: --config FILE") from error
    found = table.get("data_dir")
    if not isinstance(found, str):
        raise BadEdgeConfig(f"{path}: has no data_dir; is it the file of an agent?")
    return path.resolve().parent / found


def observe(
    config: Path | None, where: str, person: str, given: Values, *, yes: bool, extreme: bool, as_json: bool
) -> int:
    """Hand an observation to the agent of this machine; the exit status.

    Raises:
        EntryRefused, BadEdgeConfig, BadEntry: it was not entered; says why.
    """
    folder = data_dir_of(config)
    if not {name for name in given if name not in ("at_ms", "corrects", "id")}:
        if not sys.stdin.isatty():
            raise EntryRefused("nothing to enter; give a value, such as --consciousness A (see --help)")
        given = given | ask(lambda text: str(typer.prompt(text, default="", err=True)), _say)
    _confirm(where, person, given, is_confirmed=yes)
    pin = getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    told = {"id": os.urandom(16).hex()} | given | {"person": person, "pin": pin, "where": where, "confirmed": extreme}
    reply = asyncio.run(send_entry(folder, _entry(told)))
    if reply.is_extreme and sys.stdin.isatty():
        typer.confirm(f"{reply.problem}. Is it right?", abort=True, err=True)
        reply = asyncio.run(send_entry(folder, _entry(told | {"confirmed": True})))
    return _show(reply, as_json=as_json)


def add_person(config: Path | None, name: str) -> None:
    """Add a person, or change their PIN. Raises BadPerson, BadEdgeConfig."""
    people = EdgePeople(data_dir_of(config))
    if sys.stdin.isatty():
        pin = getpass(f"PIN of {name}: ")
        if getpass("again: ") != pin:
            raise EntryRefused("the two PINs differ; nothing was changed")
    else:
        pin = sys.stdin.readline().rstrip("\r\n")
    people.put(name, pin, now_ms=SystemClock().now_ms())
    typer.echo(f"{name} may enter observations here")


def remove_person(config: Path | None, name: str) -> None:
    """Remove a person. Raises BadPerson, BadEdgeConfig."""
    EdgePeople(data_dir_of(config)).remove(name)
    typer.echo(f"{name} may no longer enter observations here")


def list_people(config: Path | None) -> None:
    """Print the names. Raises BadPerson, BadEdgeConfig."""
    names = sorted(EdgePeople(data_dir_of(config)).all())
    typer.echo("\n".join(names) or "nobody; add a person: vitalloom edge person add NAME")


def _entry(told: Mapping[str, Any]) -> EdgeEntry:
    try:
        return msgspec.convert({name: value for name, value in told.items() if value is not None}, EdgeEntry)
    except msgspec.ValidationError as error:
        raise EntryRefused(f"not an entry: {error}") from error


def _confirm(where: str, person: str, given: Values, *, is_confirmed: bool) -> None:
    _say(f"{where}, by {person}, at this edge:")
    for line in in_words(observation_of(given)):
        _say(f"  {line}")
    if "at_ms" in given:
        _say(f"  observed {datetime.fromtimestamp(given['at_ms'] / 1_000).astimezone():%Y-%m-%d %H:%M}")
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise EntryRefused("cannot ask for confirmation without a terminal; add --yes")
    typer.confirm("Enter this?", abort=True, err=True)


def _show(reply: EntryReply, *, as_json: bool) -> int:
    if reply.entered is None:
        hint = ": add --extreme" if reply.is_extreme else ""
        raise EntryRefused(f"{reply.problem}{hint}")
    done = reply.entered
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
    else:
        typer.echo(
            f"entered by {done.by}: bed {done.bed}, {done.patient}; id {done.id[:8]}; on this edge's disk, and "
            "forwarded when the data centre is there"
        )
    return 0


def _say(line: str) -> None:
    typer.echo(line, err=True)
