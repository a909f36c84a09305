"""`install.sh` goes on when one thing cannot be had, writes down why, and is an error only where all is required."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.native.tools import INSTALL, why_missing

pytestmark = pytest.mark.services

# What every system has; no compiler, no Java, and no apt-get that could bring them.
SYSTEM = (
    "bash", "cat", "cut", "dirname", "flock", "id", "mkdir", "python3", "rm", "sha256sum", "sort", "tail", "touch",
)  # fmt: skip


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in SYSTEM:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


@pytest.mark.parametrize(
    ("options", "variables", "status"),
    [
        ((), {}, 1),
        (("--best-effort",), {}, 0),
        (("--best-effort",), {"CI": "true"}, 1),
        (("--best-effort",), {"VITALLOOM_REQUIRE_SERVICES": "1"}, 1),
    ],
)
def test_every_reason_is_written_down(
    options: tuple[str, ...], variables: dict[str, str], status: int, programs: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cache = tmp_path / "cache"
    environment = {"HOME": str(tmp_path), "PATH": str(programs), "VITALLOOM_CACHE": str(cache)} | variables

    done = subprocess.run(
        ["bash", str(INSTALL), *options, "kafka", "influxdb"], env=environment, cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert done.returncode == status
    assert done.stderr.splitlines()[-1] == "services: could not be provided: kafka influxdb"
    monkeypatch.setenv("VITALLOOM_CACHE", str(cache))
    assert "needs `java`" in why_missing("kafka")
    assert "sudo apt-get install openjdk-17-jre-headless" in why_missing("kafka")
    assert "sudo apt-get install gcc libc6-dev" in why_missing("influxdb")


def test_what_is_there_has_no_reason(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    (cache / "services" / "missing").mkdir(parents=True)
    (cache / "services" / "missing" / "mosquitto").write_text("an old reason\n")
    (programs / "mosquitto").symlink_to("/bin/true")

    environment = {"HOME": str(tmp_path), "PATH": str(programs), "VITALLOOM_CACHE": str(cache)}
    subprocess.run(["bash", str(INSTALL), "mosquitto"], env=environment, check=True)

    assert os.listdir(cache / "services" / "missing") == []
