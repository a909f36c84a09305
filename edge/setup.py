"""`vitalloom edge setup`: the files that the agent needs on a Raspberry Pi, and the commands that activate them.

The plan is made first, then performed or printed. Correct files are left unchanged; files that differ are shown and
replaced after confirmation, and the old file is kept beside the new one.
"""

import difflib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from edge.errors import BadMachine

CONFIG: Final = "etc/vitalloom/edge.toml"
IDENTITY: Final = PurePosixPath("/var/lib/vitalloom/identity")
SERVICES: Final = ("vitalloom-edge.service", "vitalloom-edge-watch.service")
UNITS: Final = "etc/systemd/system"
OLD: Final = ".old"

_HERE: Final = Path(__file__).parent
_PROGRAM: Final = "/opt/vitalloom/bin/vitalloom"  # as the unit files that come with vitalloom have it
_SOUNDERS: Final = ("gpio", "audio")

_USER: Final = """\
# The user of the edge agent: nothing else runs as it.
u vitalloom - "vitalloom edge agent" /var/lib/vitalloom /usr/sbin/nologin
"""
_FOLDERS: Final = """\
# Keys, documents and the outbox: closed to everybody else.
d /var/lib/vitalloom 0700 vitalloom vitalloom -
"""
_JOURNAL: Final = """\
# The log lies in memory and spares the card. What must outlive a power cut is in the outbox.
[Journal]
Storage=volatile
RuntimeMaxUse=32M
"""
_WATCHDOG: Final = """\
# The machine's own watchdog restarts it when the kernel or systemd hangs. A Pi's counts to 15 s at most.
[Manager]
RuntimeWatchdogSec=15s
"""
_CONFIG_KEYS: Final = {
    'identity = "identity"': f'identity = "{IDENTITY}"',
    'data_dir = "data"': 'data_dir = "/var/lib/vitalloom/outbox"',
    '# status_file = "/run/vitalloom/status.json"': 'status_file = "/run/vitalloom/status.json"',
    "# commit_ms = 1000": "commit_ms = 5000",
}
"""What differs from the sample. A commit every five seconds writes half as much to the card; alarms do not wait."""


class WantedFile(NamedTuple):
    """One file."""

    path: str  # below the root
    text: str
    is_ours: bool = True  # False: people change it, so `--yes` leaves it alone


class FileOutcome(StrEnum):
    """What became of a file."""

    WRITTEN = "written"
    UNCHANGED = "is right already"
    REPLACED = f"replaced; the old one is kept as {OLD}"
    KEPT = "differs and was kept"


class SetupPlan(NamedTuple):
    """All that is to be done, in order."""

    files: tuple[WantedFile, ...]
    commands: tuple[tuple[str, ...], ...]  # after the files
    advice: tuple[str, ...]


def plan(root: Path, program: Path) -> SetupPlan:
    """What this machine is to have.

    Args:
        root: where its file system begins.
        program: what the services start.
    """
    drop_in = _groups_drop_in(root)
    files = (
        WantedFile("etc/sysusers.d/vitalloom.conf", _USER),
        WantedFile("etc/tmpfiles.d/vitalloom.conf", _FOLDERS),
        WantedFile(CONFIG, config_text(), is_ours=False),
        *(WantedFile(f"{UNITS}/{name}", unit_text(name, program)) for name in SERVICES),
        *([] if drop_in is None else [drop_in]),
        WantedFile("etc/systemd/journald.conf.d/vitalloom.conf", _JOURNAL),
        WantedFile("etc/systemd/system.conf.d/vitalloom.conf", _WATCHDOG),
    )
    commands = (
        ("systemd-sysusers", "vitalloom.conf"),
        ("systemd-tmpfiles", "--create", "vitalloom.conf"),
        ("systemctl", "daemon-reload"),
        ("systemctl", "try-restart", "systemd-journald.service"),
        ("systemctl", "enable", *SERVICES),
    )
    return SetupPlan(files, commands, tuple(_advice(root)))


def config_text() -> str:
    """The sample, with the folders of the service."""
    text = (_HERE / "sample.toml").read_text(encoding="utf-8")
    for shown, wanted in _CONFIG_KEYS.items():
        assert text.count(shown) == 1, shown  # noqa: S101 - the sample is ours, and a test reads the result
        text = text.replace(shown, wanted)
    return text


def unit_text(name: str, program: Path) -> str:
    """A unit file as it comes with vitalloom, starting this program."""
    if any(character.isspace() or character in "%$\"'\\" for character in str(program)):
        raise BadMachine(
            f"{program}: systemd would misread this path; install vitalloom in a path without special characters"
        )
    if program.is_relative_to("/home") or program.is_relative_to("/root"):
        raise BadMachine(
            f"{program}: services cannot see home folders; install vitalloom below /opt: docs/edge-install.md"
        )
    return (_HERE / name).read_text(encoding="utf-8").replace(_PROGRAM, str(program))


def _groups_drop_in(root: Path) -> WantedFile | None:
    """Groups that may switch pins and play sounds. A missing group would keep the unit from starting."""
    known = {line.split(":")[0] for line in _lines(root / "etc/group")}
    groups = [one for one in _SOUNDERS if one in known]
    if not groups:
        return None
    text = (
        f"# Groups of the sounders, those that this machine has.\n[Service]\nSupplementaryGroups={' '.join(groups)}\n"
    )
    return WantedFile(f"{UNITS}/{SERVICES[1]}.d/groups.conf", text)


def _advice(root: Path) -> Iterable[str]:
    """Changes left to a person, because a mistake in them keeps the machine from starting."""
    for line in _lines(root / "etc/fstab"):
        fields = line.split()
        if len(fields) >= 4 and fields[1] == "/" and not line.startswith("#"):
            options = fields[3].split(",")
            missing = [
                one for one in ("noatime", "commit=60") if one.split("=")[0] not in {o.split("=")[0] for o in options}
            ]
            if missing:
                yield (
                    f"card wear: in /etc/fstab add {','.join(missing)} to the options of / "
                    "(what the agent has signed for is synced by itself, whatever commit= says)"
                )
    if (root / "etc/dphys-swapfile").exists() or (root / "etc/rpi/swap.conf").exists():
        yield "keys could reach the swap, and it wears the card: turn it off (sudo swapoff -a; disable its service)"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def put(root: Path, wanted: WantedFile, agree: Callable[[str, str], bool]) -> FileOutcome:
    """Write one wanted file.

    Args:
        agree: called with the path and the difference before an existing file is replaced.
    """
    path = root / wanted.path
    if path.is_symlink():
        raise BadMachine(f"{path}: is a symbolic link; replace it by a file or remove it, and run setup again")
    if not path.exists():
        _write(path, wanted.text)
        return FileOutcome.WRITTEN
    found = path.read_text(encoding="utf-8", errors="replace")
    if found == wanted.text:
        return FileOutcome.UNCHANGED
    if not agree(wanted.path, difference(wanted, found)):
        return FileOutcome.KEPT
    path.replace(path.with_name(path.name + OLD))
    _write(path, wanted.text)
    return FileOutcome.REPLACED


def difference(wanted: WantedFile, found: str) -> str:
    """Unified diff from the file that exists to the wanted one."""
    return "".join(
        difflib.unified_diff(
            found.splitlines(keepends=True), wanted.text.splitlines(keepends=True), f"/{wanted.path}", "wanted"
        )
    )


def _write(path: Path, text: str) -> None:
    for folder in reversed([one for one in path.parents if not one.exists()]):
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask: the agent is another user
    half = path.with_name(f".{path.name}.new")
    half.write_text(text, encoding="utf-8")
    half.chmod(0o644)  # likewise; no secret is in it
    half.replace(path)


def main(root: Path, *, program: Path | None, yes: bool, dry_run: bool) -> int:
    """The command `vitalloom edge setup`.

    Raises:
        BadMachine: not root, no systemd, or a command failed; the message names the fix.
    """
    is_here = root.resolve() == Path("/")
    _check_machine(is_here=is_here, dry_run=dry_run)
    todo = plan(root, (program or _this_program()).absolute())
    for wanted in todo.files:
        _say(f"  /{wanted.path}: {_look(root, wanted) if dry_run else _put(root, wanted, yes=yes)}")
    for command in todo.commands:
        if dry_run or not is_here:
            _say(f"  would run: {shlex.join(command)}" if dry_run else f"  run on the machine: {shlex.join(command)}")
        else:
            _run(command)
    for line in todo.advice:
        _say(f"  manual step: {line}")
    _say(_next(root, (program or _this_program()).absolute()))
    return 0


def _check_machine(*, is_here: bool, dry_run: bool) -> None:
    if not is_here or dry_run:
        return
    if os.geteuid() != 0:
        raise BadMachine("setup writes to /etc: run it as root (sudo), or review it first with --dry-run")
    if not Path("/run/systemd/system").is_dir():
        raise BadMachine("systemd is not running here; use --root DIR to write the files only, or edge/Dockerfile")
    if platform.machine() not in ("aarch64", "arm64", "x86_64"):
        raise BadMachine(f"{platform.machine()}: wheels exist for 64-bit systems; install Raspberry Pi OS (64-bit)")


def _this_program() -> Path:
    """The command that was called, by the name it was called by: a link that an update moves stays a link."""
    called = Path(sys.argv[0])
    return (
        called if called.name == "vitalloom" and called.is_absolute() else Path(sys.executable).with_name("vitalloom")
    )


def _look(root: Path, wanted: WantedFile) -> str:
    path = root / wanted.path
    if not path.exists():
        return "would be written"
    found = path.read_text(encoding="utf-8", errors="replace")
    return FileOutcome.UNCHANGED if found == wanted.text else f"differs:\n{difference(wanted, found)}"


def _put(root: Path, wanted: WantedFile, *, yes: bool) -> str:
    def agree(path: str, shown: str) -> bool:
        if yes and wanted.is_ours:
            return True
        _say(shown)
        if not sys.stdin.isatty():
            return False
        sys.stdout.write(f"/{path} differs as shown; replace it? [y/N] ")
        sys.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return put(root, wanted, agree)


def _run(command: tuple[str, ...]) -> None:
    _say(f"  {shlex.join(command)}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed commands
    except FileNotFoundError as error:
        raise BadMachine(f"{command[0]} is not installed; it comes with systemd 247 or later") from error
    if done.returncode != 0:
        raise BadMachine(f"{shlex.join(command)} failed: {done.stderr.strip()[-300:]}; fix that and run setup again")


def _next(root: Path, program: Path) -> str:
    if (root / str(IDENTITY).lstrip("/") / "identity.json").exists():
        return f"Next: sudo systemctl restart {' '.join(SERVICES)} && sudo {program} edge status"
    return f"Next, with the invitation at hand: sudo -u vitalloom {program} enrol --dir {IDENTITY}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
