"""What software can do for secrets in a process and in files.

What it cannot: Python does not wipe memory, whoever is root reads everything, and a key on a stolen card is a stolen
key. Only an encrypted disk helps against the last.
"""

import contextlib
import ctypes
import os
import resource
import stat
import sys
from pathlib import Path
from typing import Final

import msgspec

from runtime.errors import NotPrivate

MOST_BYTES: Final = 1 << 20
_PR_SET_DUMPABLE: Final = 4
_PR_GET_DUMPABLE: Final = 3
_MCL_CURRENT_AND_FUTURE: Final = 3


class Hardening(msgspec.Struct, frozen=True, kw_only=True):
    """What was achieved."""

    core_dumps_off: bool
    not_dumpable: bool
    memory_locked: bool
    swap_off: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was not, with the cure."""
        if self.swap_off or self.memory_locked:
            return ()
        return ("secrets could reach the swap: turn swap off (swapoff -a), encrypt it, or allow to lock memory",)


def harden() -> Hardening:
    """Do for this process what can be done: no core dumps, no debugger, no swap where that is possible."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return Hardening(
        core_dumps_off=True, not_dumpable=_not_dumpable(), memory_locked=_lock_memory(), swap_off=_swap_is_off()
    )


def check_private(path: Path) -> None:
    """Raises NotPrivate unless a file or folder belongs to us, and to nobody else."""
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
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
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path, *, at_most: int = MOST_BYTES) -> bytes:
    """Read a file that is checked on what was opened. Raises NotPrivate, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        _check(path, found)
        if found.st_size > at_most:
            raise NotPrivate(path, f"is longer than {at_most} bytes", "is it the right file?")
        return file.read(at_most)


def _check(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise NotPrivate(path, "is a symbolic link", "put the file itself there")
    if found.st_uid not in (os.geteuid(), 0):
        raise NotPrivate(path, "belongs to another user", f"chown {os.geteuid()} {path}")
    if found.st_mode & 0o077:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise NotPrivate(path, "holds keys and others can reach it", f"chmod {mode} {path}")


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _not_dumpable() -> bool:
    libc = _libc()
    if libc is None:
        return False
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return int(libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)) == 0


def _lock_memory() -> bool:
    libc = _libc()
    # With a finite limit a later allocation would fail, and readings with it.
    if libc is None or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        return False
    return int(libc.mlockall(_MCL_CURRENT_AND_FUTURE)) == 0


def _swap_is_off() -> bool:
    try:
        return len(Path("/proc/swaps").read_text(encoding="ascii").splitlines()) <= 1
    except OSError:
        return False
