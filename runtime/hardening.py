"""Protection of secrets in the memory of a process and in files.

Limits of this protection: Python does not wipe memory, so a key remains there until it is overwritten. The root user
can read everything. A key on a stolen card is a stolen key; only an encrypted disk prevents that. A person with
physical access to the machine can read its memory.
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

MAX_BYTES: Final = 1 << 20

_PR_SET_DUMPABLE: Final = 4
_PR_GET_DUMPABLE: Final = 3
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_CAP_IPC_LOCK: Final = 14
_EVERY_USER: Final = ["0", "0", "4294967295"]


class Hardening(msgspec.Struct, frozen=True, kw_only=True):
    """Which protections are in effect."""

    core_dumps_off: bool
    not_dumpable: bool  # processes of the same user cannot attach a debugger or read its memory
    memory_locked: bool
    swap_off: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """The protections that are not in effect, each with the fix."""
        return tuple(
            warning
            for in_effect, warning in (
                (self.core_dumps_off, "secrets could be written to a core dump: disable core dumps (ulimit -c 0)"),
                (
                    self.not_dumpable,
                    "other programs of this user can read secrets: run this process as a dedicated user",
                ),
                (
                    self.swap_off or self.memory_locked,
                    "secrets could be written to swap: disable it (swapoff -a), encrypt it, or lock memory (ulimit -l)",
                ),
            )
            if not in_effect
        )


def harden() -> Hardening:
    """Protect this process: private files, no core dumps, no debugger and, where possible, no swap.

    Call it first, and again after a change of user, which undoes part of it. A child process inherits only the umask
    and the core dump limit.
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
    """Raises NotPrivate unless the file or folder belongs to this user or root and no other has access."""
    _check(path, os.lstat(path))


def make_private_dir(path: Path) -> None:
    """Create a folder that only its owner can enter. Raises NotPrivate if it exists with other permissions."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(path)


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file atomically: after a power cut it has the old content or the new content.

    Args:
        durable: flush to disk before returning; not needed for data that can be obtained again.
    """
    partial = path.with_name(f".{path.name}.new")
    with _locked(path.parent) as folder:
        # A leftover of a power cut may hold keys, which must not outlive the day on which they are destroyed.
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


def read_private(path: Path, *, at_most: int = MAX_BYTES) -> bytes:
    """Read a file; the permissions are checked on the opened file. Raises NotPrivate, OSError."""
    try:
        # Non-blocking: opening a pipe without a writer would block forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        if path.is_symlink():
            raise _is_a_link(path) from None
        raise
    try:
        found = os.fstat(descriptor)
        _check(path, found)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivate(path, "is not a regular file", "put the file itself there")
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
        raise NotPrivate(path, "holds keys and is accessible to other users", f"chmod {mode} {name}")


def _is_a_link(path: Path) -> NotPrivate:
    return NotPrivate(path, "is a symbolic link", "put the file itself there")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold an exclusive lock on the folder, against this and other processes; yields its file descriptor."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A network file system may be unable to lock folders; then only one process may write keys there.
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
    """The kernel pipes core dumps to a program, regardless of the size limit."""
    return _kernel_file("/proc/sys/kernel/core_pattern").startswith("|")


def _lock_memory() -> bool:
    libc = _libc()
    # With a memory-lock limit in force a later allocation would fail, and readings would be lost.
    if libc is None or not _may_lock_everything():
        return False
    # Pages are locked on first use: unused pages hold no secret, and stacks are mostly unused.
    return int(libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)) == 0


def _may_lock_everything() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    # In a user namespace (a rootless container) the capability is listed, but the limit still applies.
    return _has_capability(_CAP_IPC_LOCK) and _kernel_file("/proc/self/uid_map").split() == _EVERY_USER


def _has_capability(number: int) -> bool:
    effective = (
        line.split()[1] for line in _kernel_file("/proc/self/status").splitlines() if line.startswith("CapEff:")
    )
    return bool(int(next(effective, "0"), 16) >> number & 1)


def _swap_is_off() -> bool:
    # The first line is the header. Without the file the state of swap is unknown.
    return len(_kernel_file("/proc/swaps").splitlines()) == 1


def _kernel_file(path: str) -> str:
    """Content of a file of the kernel; empty if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
