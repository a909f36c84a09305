"""The system user that a broker runs as, and whether it can read the broker's files."""

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from stream.errors import SiteUnusable


class BrokerAccount(NamedTuple):
    """Whom the broker's files belong to."""

    name: str
    uid: int
    gid: int


def account_named(user: str, folder: Path) -> BrokerAccount:
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
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return BrokerAccount(name, found.st_uid, found.st_gid)


def check_can_read(folder: Path, account: BrokerAccount) -> None:
    """A broker that begins as root reads everything once; as the user that it becomes it has to read it again."""
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
                f"the broker runs as {account.name}, who may not enter {parent}: name another folder, for "
                "instance vitalloom broker write --folder /etc/mosquitto/vitalloom",
            )
