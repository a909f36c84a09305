"""Paths and command lines of the servers of a site on this machine, and how to install missing ones."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

from deploy.errors import ToolMissing

HERE: Final = Path(__file__).parent
INSTALL: Final = HERE / "install.sh"
BUILT: Final = ("kafka", "influxdb")
"""Servers that `install.sh` downloads or builds; the others are system packages."""
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin:/usr/share/grafana/bin"

_GRAFANA_PROGRAMS: Final = ("grafana", "grafana-server")
_GRAFANA_HOMES: Final = tuple(
    map(Path, ("/usr/share/grafana", "/opt/grafana", "/usr/local/share/grafana", "/opt/homebrew/share/grafana"))
)
_GRAFANA_FIX: Final = "https://grafana.com/docs/grafana/latest/setup-grafana/installation"


def folder_of(name: str) -> Path:
    """Folder that `install.sh` installs a server into, whether it exists or not; see `made_of` there."""
    parts = sorted((HERE / f"{name}_server").iterdir(), key=lambda path: path.name)
    key = sha256(b"".join(part.read_bytes() for part in parts if part.is_file())).hexdigest()[:16]
    return _made() / f"{name}-{key}"


def _made() -> Path:
    base = os.environ.get("VITALLOOM_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "vitalloom"
    )
    return Path(base, "services")


def why_missing(name: str) -> str:
    """Why `install.sh` could not provide a server, or that it was not asked to."""
    reason = _made() / "missing" / name
    if reason.exists():
        return reason.read_text(encoding="utf-8").strip()
    return f"not installed; deploy/native/install.sh {name} installs it"


def is_installed(name: str) -> bool:
    return (folder_of(name) / "ready").exists()


def install(*names: str) -> None:
    """Install what is missing; takes minutes the first time. Raises ToolMissing with the output of `install.sh`."""
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(  # noqa: S603
        ["bash", str(INSTALL), *names],  # noqa: S607
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ToolMissing(" and ".join(names), done.stderr.strip() or f"run {INSTALL}")


def find(command: str) -> str | None:
    """Path of a program; None: not installed."""
    return shutil.which(command, path=_PATH)


def mosquitto() -> str:
    found = find("mosquitto")
    if found is None:
        raise ToolMissing("Mosquitto", "sudo apt-get install mosquitto (or: vitalloom site tools --install)")
    return found


def influxd() -> str:
    if not is_installed("influxdb"):
        raise ToolMissing("InfluxDB", "vitalloom site tools --install (builds it in five minutes; needs Go and Rust)")
    return str(folder_of("influxdb") / "bin" / "influxd")


def kafka() -> tuple[str, ...]:
    """Java with the classes of Kafka; append Java options, a class and its arguments."""
    java = find("java")
    if java is None:
        raise ToolMissing("Java", "sudo apt-get install openjdk-17-jre-headless")
    if not is_installed("kafka"):
        raise ToolMissing("Kafka", "vitalloom site tools --install (downloads 43 MB; needs Maven)")
    return (java, "-cp", f"{folder_of('kafka') / 'lib'}/*")


def grafana() -> tuple[str, ...]:
    """The server with its home folder: that in GF_PATHS_HOME, of the program on the path, or a usual one."""
    on_path = next((Path(one) for one in map(find, _GRAFANA_PROGRAMS) if one is not None), None)
    named = os.environ.get("GF_PATHS_HOME")
    homes = [Path(named)] if named else [*([on_path.resolve().parent.parent] if on_path else []), *_GRAFANA_HOMES]
    for home in homes:
        if not (home / "conf" / "defaults.ini").is_file():
            continue
        inside = next((home / "bin" / one for one in _GRAFANA_PROGRAMS if find(str(home / "bin" / one))), None)
        program = inside or on_path
        if program is not None:
            # `grafana-server`, of versions before 9.4, has no subcommands.
            words = ("server",) if program.name == "grafana" else ()
            return (str(program), *words, "--homepath", str(home))
    raise ToolMissing("Grafana", f"{_GRAFANA_FIX}; if it is installed elsewhere, set GF_PATHS_HOME to its home folder")
