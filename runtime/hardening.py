"""What software can do for secrets in a process and in files.

What it cannot: Python does not wipe memory, so a key stays where it was until something else is written there. Whoever
is root reads everything. A key on a stolen card is a stolen key; only an encrypted disk helps against that. Whoever
stops the machine reads its memory.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from runtime.errors import NotPrivate

MOST_BYTES: Final = 1 << 20

_PR_SET_DUMPABLE: Final = 4
_PR_GET_DUMPABLE: Final = 3
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_CAP_IPC_LOCK: Final = 14
_EVERY_USER: Final = ["0", "0", "4294967295"]


class Hardening(msgspec.Struct, frozen=True, kw_only=True):
    """What was achieved."""

    core_dumps_off: bool
    not_dumpable: bool  # no debugger of the same user, and its memory and environment are closed to that user
    memory_locked: bool
    swap_off: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was not, with the cure."""
        return tuple(
            warning
            for well, warning in (
                (self.core_dumps_off, "secrets could reach a core dump: turn dumps off (ulimit -c 0)"),
                (self.not_dumpable, "other programs of this user can read secrets: give it a user of its own"),
                (
                    self.swap_off or self.memory_locked,
                    "secrets could reach the swap: turn swap off (swapoff -a), encrypt it, or lock memory (ulimit -l)",
                ),
            )
            if not well
        )


def harden() -> Hardening:
    """Do for this process what can be done: private files, no core dumps, no debugger, no swap where that is possible.

    Call it first, and after any change of user, which would undo a part. Of all this a program that is started from
    here keeps only the umask and the limit of core dumps.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    not_dumpable = _not_dumpable()
    return Hardening(
        core_dumps_off=not_dumpable or not _dumps_go_to_a_program(),
        not_dumpable=not_dumpable,
        memory_locked=_lock_memory(),
        swap_off=_swap_is_off(),
    )


def check_private(path: Path) -> None:
    """Raises NotPrivate unless a file or folder belongs to us or to root, and nobody else can reach it."""
    _check(path, os.lstat(path))


def make_private_dir(path: Path) -> None:
    """A folder that only its owner can enter. Raises NotPrivate if there is another."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(path)


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file as a whole: after a power cut it is the old one or the new one.

    Args:
        durable: on disk when this returns; not needed for what can be had again.
    """
    partial = path.with_name(f".{path.name}.new")
    with _alone_in(path.parent) as folder:
        # What a power cut left: keys that would otherwise outlive the day on which they are destroyed.
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if durable:
            os.fsync(folder)


def read_private(path: Path, *, at_most: int = MOST_BYTES) -> bytes:
    """Read a file that is checked on what was opened. Raises NotPrivate, OSError."""
    try:
        # Without waiting: a pipe without a writer would keep us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        if path.is_symlink():
            raise _is_a_link(path) from None
        raise
    try:
        found = os.fstat(descriptor)
        _check(path, found)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivate(path, "is not a file", "put the file itself there")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(at_most + 1)
    finally:
        os.close(descriptor)
    if len(data) > at_most:
        raise NotPrivate(path, f"is longer than {at_most} bytes", "is it the right file?")
    return data


def _check(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise _is_a_link(path)
    name = shlex.quote(str(path))
    if found.st_uid not in (os.geteuid(), 0):
        raise NotPrivate(path, "belongs to another user", f"chown {os.geteuid()} {name}")
    if found.st_mode & 0o077:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise NotPrivate(path, "holds keys and others can reach it", f"chmod {mode} {name}")


def _is_a_link(path: Path) -> NotPrivate:
    return NotPrivate(path, "is a symbolic link", "put the file itself there")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Nobody else writes there meanwhile, in this process or another. What is yielded is the folder, opened."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A network file system may not lock folders; whoever keeps keys there is to write alone.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _not_dumpable() -> bool:
    libc = _libc()
    if libc is None:
        return False
    nothing = ctypes.c_ulong(0)
    libc.prctl(_PR_SET_DUMPABLE, nothing, nothing, nothing, nothing)
    return int(libc.prctl(_PR_GET_DUMPABLE, nothing, nothing, nothing, nothing)) == 0


def _dumps_go_to_a_program() -> bool:
    """The kernel hands a dump to a program whatever the limit says."""
    return _fact("/proc/sys/kernel/core_pattern").startswith("|")


def _lock_memory() -> bool:
    libc = _libc()
    # Under a limit that still holds, a later allocation would fail, and readings with it.
    if libc is None or not _may_lock_everything():
        return False
    # Pages are locked when they are first used: what was never used holds no secret, and stacks are mostly unused.
    return int(libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)) == 0


def _may_lock_everything() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    # Within a user namespace (a container without root) the capability is shown, and the limit holds all the same.
    return _has_capability(_CAP_IPC_LOCK) and _fact("/proc/self/uid_map").split() == _EVERY_USER


def _has_capability(number: int) -> bool:
    effective = (line.split()[1] for line in _fact("/proc/self/status").splitlines() if line.startswith("CapEff:"))
    return bool(int(next(effective, "0"), 16) >> number & 1)


def _swap_is_off() -> bool:
    # The first line is the title; without the file, nobody knows.
    return len(_fact("/proc/swaps").splitlines()) == 1


def _fact(path: str) -> str:
    """What the kernel says; nothing where it says nothing."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
