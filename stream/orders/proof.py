"""Proof that a person is a prescriber: an account of the alarm desk that is marked so, and its password or login."""

import getpass
import sys
from pathlib import Path
from typing import Any

from runtime.errors import MissingExtra
from stream.config import DeskConfig
from stream.desk.client import DeskClient, Login
from stream.desk.users import Users
from stream.errors import OrdersRefused


def desk_of(site: Path, given: Path | None) -> Path | None:
    """The configuration of the alarm desk: the given one, or that of a site that `vitalloom site init` has made."""
    own = site / "config" / "desk.toml"
    return given if given is not None or not own.exists() else own


def read_desk(file: Path) -> tuple[DeskConfig, Users]:
    """The configuration of a desk, and its users. Raises ConfigError, MissingExtra."""
    try:  # the desk is in another extra than the data centre
        from stream.desk.process import desk_config, users_of
    except ModuleNotFoundError as error:
        raise MissingExtra(extra="desk", module=error.name or "") from error
    config = desk_config(file)
    return config, users_of(config)


class PrescriberProof:
    """Checks a person against the users of one desk.

    Args:
        desk: configuration file of the desk; None: there is none, and nobody is a prescriber.
    """

    def __init__(self, desk: Path | None) -> None:
        self._desk = desk

    def check(self, name: str, login_file: Path | None = None) -> None:
        """Return if `name` is a prescriber and has proved to be that person.

        The password is asked for at the terminal, or is the first line of standard input; it is never an argument.

        Args:
            login_file: login at a running desk, in place of the password.

        Raises:
            OrdersRefused: why not, and the fix.
        """
        if not name:
            raise OrdersRefused("say which prescriber orders this: --by NAME")
        if self._desk is None:
            raise OrdersRefused("give the configuration of the desk that has the accounts of prescribers: --desk FILE")
        _, users = read_desk(self._desk)
        known = users.all().get(name)
        if login_file is not None:
            login = Login.read(login_file)
            found = DeskClient(login.url, token=login.token).alarms(dict[str, Any]).get("user")
            is_right = known is not None and found == name
        else:
            is_right = users.is_right(name, _password(name))
        if not is_right or known is None:
            raise OrdersRefused(f"{name}: wrong name, password or login; nothing is ordered")
        if not known.prescriber:
            raise OrdersRefused(
                f"{name} is no prescriber; the administrator of the desk decides: "
                f"vitalloom desk --config {self._desk} user prescriber {name} on"
            )


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return getpass.getpass(f"password of {name} at the alarm desk: ")
