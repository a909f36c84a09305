"""A process keeps its secrets from dumps, debuggers and the swap; files with keys stay whole, and their owner's."""

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime import hardening
from runtime.errors import NotPrivate
from runtime.hardening import Hardening, check_private, harden, make_private_dir, read_private, write_private

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

NOBODY = 65_534

# As whoever starts it; as root, it becomes somebody else first, which closes the process by itself: it is opened again.
CHILD = """
import ctypes, json, os, resource, sys
from runtime.hardening import harden
if os.geteuid() == 0 and "nobody" in sys.argv:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
libc = ctypes.CDLL(None)
libc.prctl(4, *[ctypes.c_ulong(n) for n in (1, 0, 0, 0)])
done = harden() if "harden" in sys.argv else None
os.umask(mask := os.umask(0))
facts = {"umask": mask, "core": resource.getrlimit(resource.RLIMIT_CORE), "dumpable": libc.prctl(3, 0, 0, 0, 0)}
if done:
    names = ("core_dumps_off", "not_dumpable", "memory_locked", "swap_off", "warnings")
    facts |= {name: getattr(done, name) for name in names}
print(json.dumps(facts), flush=True)
sys.stdin.read()
"""

NEIGHBOUR = """
import os, sys
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    open(sys.argv[1], "rb").read(1)
except PermissionError:
    sys.exit("closed")
"""


@contextmanager
def a_process(*words: str, memlock: int | None = None) -> Iterator[tuple[int, dict[str, object]]]:
    """Another process, which does what `words` say and then waits; its number, and what it tells of itself."""

    def limited() -> None:
        if memlock is not None:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (memlock, memlock))

    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )
    with child:
        assert child.stdout is not None
        yield child.pid, json.loads(child.stdout.readline())


# The process


@pytest.mark.services
def test_hardened_process_creates_private_files_and_no_core_dump() -> None:
    with a_process("harden") as (_, told):
        assert told["umask"] == 0o077
        assert told["core"] == [0, 0]
        assert told["core_dumps_off"] is True


@pytest.mark.services
@on_linux
def test_hardened_process_is_not_dumpable() -> None:
    with a_process("harden") as (_, told):
        assert told["dumpable"] == 0
        assert told["not_dumpable"] is True


@pytest.mark.services
@on_linux
@pytest.mark.parametrize("fact", ["environ", "mem", "maps"])
def test_other_process_of_the_same_user_cannot_read_its_memory_and_environment(fact: str) -> None:
    with a_process("harden", "nobody") as (pid, _):
        looked = subprocess.run(
            [sys.executable, "-c", NEIGHBOUR, f"/proc/{pid}/{fact}"], capture_output=True, text=True
        )

    assert looked.stderr.strip() == "closed"


@pytest.mark.services
@on_linux
def test_without_hardening_they_can_be_read() -> None:
    with a_process("nobody") as (pid, _):
        looked = subprocess.run([sys.executable, "-c", NEIGHBOUR, f"/proc/{pid}/environ"], capture_output=True)

    assert looked.returncode == 0


@pytest.mark.services
@on_linux
def test_memory_is_not_locked_under_a_limit_that_applies() -> None:
    # Even a limit above what the process has now: it could be locked, and the next large allocation would fail.
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with a_process("harden", "nobody", memlock=8 << 30 if most == resource.RLIM_INFINITY else most) as (pid, told):
        assert told["memory_locked"] is False
        assert _locked_kb(pid) == 0


@pytest.mark.services
@on_linux
def test_memory_is_locked_where_no_limit_applies() -> None:
    allowed = hardening._may_lock_everything()

    with a_process("harden") as (pid, told):
        assert told["memory_locked"] is allowed
        assert (_locked_kb(pid) > 1_000) is allowed


@on_linux
@pytest.mark.parametrize("allowed", [True, False])
def test_locking_is_not_tried_without_permission(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    tried: list[int] = []

    class Libc:
        def mlockall(self, flags: int) -> int:
            tried.append(flags)
            return 0

    monkeypatch.setattr(hardening, "_may_lock_everything", lambda: allowed)
    monkeypatch.setattr(hardening, "_libc", Libc)

    assert hardening._lock_memory() is allowed
    assert tried == [7] * allowed  # what is there and what will be, when it is used


@pytest.mark.parametrize(
    ("limit", "capabilities", "users", "allowed"),
    [
        (resource.RLIM_INFINITY, 0, "0 0 4294967295", True),
        (65_536, 0, "0 0 4294967295", False),
        (65_536, 1 << 14, "0 0 4294967295", True),
        (65_536, 1 << 13, "0 0 4294967295", False),
        (65_536, 1 << 14, "0 100000 65536", False),  # root within a container, and nobody outside
        (65_536, 1 << 14, "", False),
    ],
)
def test_memory_is_locked_without_a_limit_or_above_it(
    monkeypatch: pytest.MonkeyPatch, limit: int, capabilities: int, users: str, allowed: bool
) -> None:
    facts = {"/proc/self/status": f"Name:\tx\nCapEff:\t{capabilities:016x}\n", "/proc/self/uid_map": f"  {users}\n"}
    monkeypatch.setattr(hardening, "_kernel_file", facts.__getitem__)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))

    assert hardening._may_lock_everything() is allowed


@pytest.mark.parametrize(
    ("swaps", "off"),
    [
        ("Filename  Type  Size  Used  Priority\n", True),
        ("Filename  Type  Size  Used  Priority\n/dev/sda2  partition  1048572  0  -2\n", False),
        ("", False),  # nobody knows
    ],
)
def test_swap_is_read_from_the_kernel(monkeypatch: pytest.MonkeyPatch, swaps: str, off: bool) -> None:
    monkeypatch.setattr(hardening, "_kernel_file", {"/proc/swaps": swaps}.__getitem__)

    assert hardening._swap_is_off() is off


@pytest.mark.parametrize(
    ("dumpable", "pattern", "off"),
    [
        (False, "core", True),
        (False, "|/usr/lib/systemd/systemd-coredump %P", True),
        (True, "core", True),  # the limit is 0
        (True, "|/usr/lib/systemd/systemd-coredump %P", False),  # which a program does not care for
    ],
)
def test_dumps_are_off_when_neither_a_file_nor_a_program_gets_them(
    monkeypatch: pytest.MonkeyPatch, dumpable: bool, pattern: str, off: bool
) -> None:
    monkeypatch.setattr(os, "umask", lambda _: 0)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(hardening, "_not_dumpable", lambda: not dumpable)
    monkeypatch.setattr(hardening, "_lock_memory", lambda: False)
    monkeypatch.setattr(hardening, "_kernel_file", lambda _: pattern)

    assert harden().core_dumps_off is off


def test_system_without_prctl_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert hardening._not_dumpable() is False
    assert hardening._lock_memory() is False


@pytest.mark.parametrize(
    ("missing", "fixes"),
    [
        ((), []),
        (("core_dumps_off",), ["ulimit -c 0"]),
        (("not_dumpable",), ["dedicated user"]),
        (("memory_locked",), []),  # there is no swap
        (("swap_off",), []),  # nothing of us goes there
        (("memory_locked", "swap_off"), ["swapoff -a"]),
        (("core_dumps_off", "not_dumpable", "memory_locked", "swap_off"), ["ulimit", "user", "swapoff"]),
    ],
)
def test_missing_protection_is_reported_with_the_fix(missing: tuple[str, ...], fixes: list[str]) -> None:
    done = Hardening(**{name: name not in missing for name in Hardening.__struct_fields__})

    assert len(done.warnings) == len(fixes)
    for warning, fix in zip(done.warnings, fixes, strict=True):
        assert fix in warning


def _locked_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmLck:")))


# Who may reach a file


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_file_with_access_for_its_owner_only_is_private(tmp_path: Path, mode: int) -> None:
    path = a_file(tmp_path, mode=mode)

    check_private(path)

    assert read_private(path) == b"key"


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666, 0o777])
def test_file_accessible_to_other_users_is_refused(tmp_path: Path, mode: int) -> None:
    path = a_file(tmp_path, mode=mode)

    for look in (check_private, read_private):
        with pytest.raises(NotPrivate, match=rf"identity\.json: .*accessible to other users.* chmod 600 {path}$"):
            look(path)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o755, 0o711, 0o777, 0o1777])
def test_folder_accessible_to_other_users_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "identity"
    folder.mkdir()
    folder.chmod(mode)

    for look in (check_private, make_private_dir):
        with pytest.raises(NotPrivate, match=f"chmod 700 {folder}$"):
            look(folder)


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    (link := tmp_path / "link").symlink_to(a_file(tmp_path))
    (folder := tmp_path / "folder").symlink_to(tmp_path / "there", target_is_directory=True)
    (tmp_path / "there").mkdir(mode=0o700)

    for look, path in (
        (check_private, link),
        (read_private, link),
        (check_private, folder),
        (make_private_dir, folder),
    ):
        with pytest.raises(NotPrivate, match="symbolic link"):
            look(path)


@as_root
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    os.chown(path, NOBODY, NOBODY)

    for look in (check_private, read_private):
        with pytest.raises(NotPrivate, match=f"another user; fix: chown 0 {path}$"):
            look(path)


@as_root
def test_file_of_root_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_file(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)

    check_private(path)


def test_fix_is_quoted_for_the_shell(tmp_path: Path) -> None:
    path = a_file(tmp_path, name="Ward 7 keys", mode=0o644)

    with pytest.raises(NotPrivate, match=f"chmod 600 '{path}'$"):
        check_private(path)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    for look in (check_private, read_private):
        with pytest.raises(FileNotFoundError):
            look(tmp_path / "identity.json")


# Reading


@pytest.mark.parametrize(("length", "fits"), [(0, True), (9, True), (10, True), (11, False), (5_000, False)])
def test_length_of_a_file_is_limited(tmp_path: Path, length: int, fits: bool) -> None:
    path = a_file(tmp_path, content=b"k" * length)

    if fits:
        assert read_private(path, at_most=10) == b"k" * length
    else:
        with pytest.raises(NotPrivate, match="longer than 10 bytes"):
            read_private(path, at_most=10)


def test_pipe_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(NotPrivate, match="not a regular file"):
        read_private(tmp_path / "pipe")


def test_folder_is_refused_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)

    with pytest.raises(NotPrivate, match="not a regular file"):
        read_private(tmp_path / "folder")


def test_opened_file_is_checked_not_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, open_ = a_file(tmp_path, mode=0o644), os.open

    def swapped(name: Path, flags: int) -> int:
        descriptor = open_(name, flags)
        path.unlink()
        a_file(tmp_path)  # private again, when somebody looks at the name
        return descriptor

    monkeypatch.setattr(os, "open", swapped)

    with pytest.raises(NotPrivate, match="accessible to other users"):
        read_private(path)


# Writing


def test_written_file_is_private_with_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_dir(tmp_path / "identity")
        write_private(tmp_path / "identity" / "key", b"key")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "identity" / "key").stat().st_mode) == 0o600
    assert read_private(tmp_path / "identity" / "key") == b"key"


def test_private_folder_is_created_once(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "site" / "ca")
    write_private(tmp_path / "site" / "ca" / "key", b"key")

    make_private_dir(tmp_path / "site" / "ca")

    assert read_private(tmp_path / "site" / "ca" / "key") == b"key"


def test_public_file_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    path = a_file(tmp_path, mode=0o644)

    write_private(path, b"new")

    assert read_private(path) == b"new"


def test_symbolic_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    other = a_file(tmp_path, content=b"other")
    (tmp_path / "link").symlink_to(other)

    write_private(tmp_path / "link", b"new")

    assert read_private(tmp_path / "link") == b"new"
    assert other.read_bytes() == b"other"


@pytest.mark.services
@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path: Path, step: str, durable: bool) -> None:
    # In a process of its own, which is gone at that step: nothing cleans up behind it.
    path = a_file(tmp_path, content=b"old")
    code = f"""
import io, os
from pathlib import Path
from runtime.hardening import write_private
path = Path({str(path)!r})
def cut(step, real, after=0):
    def call(*args, **kwargs):
        if after:
            real(*args, **kwargs)
        os._exit(9)
    return call
if {step!r} == "write":
    fdopen = os.fdopen
    class Torn(io.FileIO):
        def write(self, data): super().write(bytes(data)[:2]); os._exit(9)
    os.fdopen = lambda descriptor, mode: Torn(descriptor, "wb")
else:
    setattr(os, {step!r}, cut({step!r}, getattr(os, {step!r}), after={step!r} == "replace"))
write_private(path, b"new content", durable={durable})
"""
    ended = subprocess.run([sys.executable, "-c", code])

    assert ended.returncode == 9 or (step == "fsync" and not durable)
    assert path.read_bytes() == (b"new content" if step == "replace" or ended.returncode == 0 else b"old")

    write_private(path, b"later")

    assert path.read_bytes() == b"later"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]  # what was torn holds keys, and is gone


def test_failed_write_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_file(tmp_path, content=b"old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            write_private(path, b"new")

    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("durable", "synced"), [(True, ["file", "folder"]), (False, [])])
def test_content_is_flushed_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, synced: list[str]
) -> None:
    seen: list[str] = []

    def fsync(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", fsync)

    write_private(tmp_path / "key", b"key", durable=durable)

    assert seen == synced


def test_concurrent_writers_leave_one_complete_file(tmp_path: Path) -> None:
    path, failures = tmp_path / "key", []

    def write(letter: bytes) -> None:
        try:
            for _ in range(50):
                write_private(path, letter * 10_000, durable=False)
        except OSError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for one in writers:
        one.start()
    for one in writers:
        one.join()

    assert failures == []
    content = read_private(path)
    assert content == content[:1] * 10_000
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def a_file(folder: Path, *, name: str = "identity.json", content: bytes = b"key", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path
