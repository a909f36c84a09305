"""The system user that a broker runs as, and whether it can read the broker's files."""

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from stream.errors import SiteUnusable


class BrokerAccount(NamedTuple):
    """The owner of the broker's files."""

    name: str
    uid: int
    gid: int


def account_named(user: str, folder: Path) -> BrokerAccount:
    """The account of a user name. Raises SiteUnusable, with the folder, if there is none."""
    if user == str(os.geteuid()):  # in a container a user may have a number and no name
        return BrokerAccount(user, os.geteuid(), os.getegid())
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise SiteUnusable(
            folder, f"is for a broker that runs as {user!r}, and there is no such user on this machine"
        ) from None
    return BrokerAccount(found.pw_name, found.pw_uid, found.pw_gid)


def account_of(found: os.stat_result) -> BrokerAccount:
    """The account that owns a file or folder."""
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return BrokerAccount(name, found.st_uid, found.st_gid)


def check_can_read(folder: Path, account: BrokerAccount) -> None:
    """Check that the broker can reload the files of its folder as the user that it runs as, even if it starts as root.

    Raises:
        SiteUnusable: it cannot, or this process may not write files of that user.
    """
    if os.geteuid() not in (0, account.uid):
        raise SiteUnusable(folder, f"the broker runs as {account.name}: run this as root or as {account.name}")
    if account.uid in (0, os.geteuid()):
        return
    groups = os.getgrouplist(account.name, account.gid)
    for parent in folder.resolve().parents:
        if not parent.exists():
            continue
        found = parent.stat()
        if found.st_uid == account.uid:
            may_enter = found.st_mode & stat.S_IXUSR
        elif found.st_gid in groups:
            may_enter = found.st_mode & stat.S_IXGRP
        else:
            may_enter = found.st_mode & stat.S_IXOTH
        if not may_enter:
            raise SiteUnusable(
                folder,
                f"the broker runs as {account.name}, who cannot enter {parent}: name another folder, for "
                "instance vitalloom broker write --folder /etc/mosquitto/vitalloom",
            )
