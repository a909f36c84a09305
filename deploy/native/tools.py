"""Where the servers of a site lie on this machine, how each is called, and what to do where one is missing."""

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
"""What `install.sh` makes; the others are packages of the system."""
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin:/usr/share/grafana/bin"


def folder_of(name: str) -> Path:
    """Where `install.sh` puts what it makes, present or not; as `made_of` there."""
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


def is_made(name: str) -> bool:
    return (folder_of(name) / "ready").exists()


def install(*names: str) -> None:
    """Make what is missing; minutes the first time. Raises ToolMissing with what `install.sh` said."""
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(  # noqa: S603
        ["bash", str(INSTALL), *names],  # noqa: S607
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ToolMissing(" and ".join(names), done.stderr.strip() or f"run {INSTALL}")


def find(command: str) -> str | None:
    """A program of this machine."""
    return shutil.which(command, path=_PATH)


def mosquitto() -> str:
    found = find("mosquitto")
    if found is None:
        raise ToolMissing("Mosquitto", "sudo apt-get install mosquitto (or: vitalloom site tools --install)")
    return found


def influxd() -> str:
    if not is_made("influxdb"):
        raise ToolMissing("InfluxDB", "vitalloom site tools --install (builds it in five minutes, with Go and Rust)")
    return str(folder_of("influxdb") / "bin" / "influxd")


def kafka() -> tuple[str, ...]:
    """Java with Kafka's classes; what follows are Java's options, a class and its arguments."""
    java = find("java")
    if java is None:
        raise ToolMissing("Java", "sudo apt-get install openjdk-17-jre-headless")
    if not is_made("kafka"):
        raise ToolMissing("Kafka", "vitalloom site tools --install (fetches 43 MB, with Maven)")
    return (java, "-cp", f"{folder_of('kafka') / 'lib'}/*")


def grafana() -> tuple[str, ...]:
    """The server with its home; Debian's package puts them into different places."""
    found = find("grafana")
    home = next((one for one in (Path("/usr/share/grafana"), Path("/opt/grafana")) if one.is_dir()), None)
    if found is None or home is None:
        raise ToolMissing("Grafana", "https://grafana.com/docs/grafana/latest/setup-grafana/installation")
    return (found, "server", "--homepath", str(home))
