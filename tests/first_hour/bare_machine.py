"""A Debian 12 in a folder that holds Python, make and git and nothing else, and reaches what this machine reaches.

Commands run in a mount and process namespace of their own: when one ends, its mounts and its processes are gone. The
caches of apt, pip and Maven are kept between runs.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.native.tools import find
from tests.services.missing import missing

ROOT: Final = Path(__file__).parents[2]
RELEASE: Final = "bookworm"
HOLDS: Final = "python3,make,git"
PROJECT: Final = "/srv/vitalloom"
COMMAND_WITHIN_S: Final = 1_200.0
"""No command takes a third of this; a machine under load may."""

_KEYS: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
# How this machine reaches package registries, as far as the environment says it.
_PASSED_ON: Final = (
    "PIP_CERT", "PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "SSL_CERT_FILE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GOPROXY", "CARGO_HTTP_CAINFO",
)  # fmt: skip
_COPIED: Final = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt",
    "/usr/local/share/ca-certificates",
)  # fmt: skip
_CACHES: Final = {"debs": "/var/cache/apt/archives", "pip": "/root/.cache/pip", "maven": "/root/.m2/repository"}
_ENTER: Final = """
set -e
root="$1"; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
exec chroot "$root" "$@"
"""


class BareMachine:
    """The Debian in `folder`; made at once, a minute the first time."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "root"
        self._caches = _cache_folder()
        self._make()
        self._connect()
        self._copy_project()

    def run(self, command: str, *, user: str = "root", **environment: str) -> subprocess.CompletedProcess[str]:
        """A shell command in the copy of the project; its output and errors come together, in `stdout`."""
        variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
            "HOME": "/root", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
        } | environment  # fmt: skip
        binds = [word for name, target in _CACHES.items() for word in (str(self._caches / name), target)]
        switch = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return subprocess.run(
            [
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", _ENTER, "enter", self._root,
                *binds, "--", *switch, "env", "-i", *(f"{name}={value}" for name, value in variables.items()),
                "bash", "-c", f"cd {PROJECT} || exit 1\n{command}",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            check=False, timeout=COMMAND_WITHIN_S,
        )  # fmt: skip

    def _make(self) -> None:
        program = find("debootstrap")
        if os.geteuid() != 0 or program is None:
            missing("bare machine", "it is made by root, with debootstrap (sudo apt-get install debootstrap)")
        archives = [line.split()[0] for line in _targets() if line.split()[1] == RELEASE]
        if not archives:
            missing("bare machine", f"this machine's apt does not know Debian's release {RELEASE}")
        packages = self._caches / "debootstrap"
        packages.mkdir(parents=True, exist_ok=True)
        _do(
            program, "--variant=minbase", f"--include={HOLDS}", f"--keyring={_KEYS}", f"--cache-dir={packages}",
            RELEASE, str(self._root), archives[0],
        )  # fmt: skip

    def _connect(self) -> None:
        """Package registries are reached as this machine reaches them."""
        apt = self._root / "etc/apt"
        sources = [f"deb [signed-by={_KEYS}] {uri} {suite} main\n" for uri, suite in map(str.split, _targets())]
        (apt / "sources.list").write_text("".join(sources), encoding="utf-8")
        (apt / "apt.conf.d/90machine").write_text(_do("apt-config", "dump", "Acquire"), encoding="utf-8")
        for name in _COPIED:
            source, target = Path(name), self._root / name[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                shutil.copyfile(source, target)
        for name, target_name in _CACHES.items():
            (self._caches / name / "partial").mkdir(parents=True, exist_ok=True)
            (self._root / target_name[1:]).mkdir(parents=True, exist_ok=True)

    def _copy_project(self) -> None:
        """What a clone would hold, with changes that are not committed."""
        for name in _do("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
            source, target = ROOT / name, self._root / PROJECT[1:] / name
            if name and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def _cache_folder() -> Path:
    base = os.environ.get("VITALLOOM_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "vitalloom"
    )
    return Path(base, "first_hour")


def _targets() -> Iterator[str]:
    """This machine's archives of the release, its updates and its security fixes: address and suite."""
    form = ("--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Component: main")
    for line in sorted(set(_do("apt-get", "indextargets", *form).splitlines())):
        if line.split()[1] in (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security"):
            yield line


def _do(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=COMMAND_WITHIN_S)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"
    return done.stdout
