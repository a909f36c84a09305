"""The unit file keeps what the documents promise of the agent as a service."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "edge" / "vitalloom-edge.service"
VERIFY_S = 60


class Unit(configparser.RawConfigParser):
    """As systemd reads it: names keep their case, and only = divides."""

    def __init__(self) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read_string(UNIT.read_text(encoding="utf-8"))


def settings() -> list[tuple[str, str]]:
    """Every line that sets something, in order; some names may come again."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [(name, value) for name, found, value in (line.partition("=") for line in lines) if found and name[0] != "#"]


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        # It runs, and goes on running.
        ("Unit", "StartLimitIntervalSec", "0"),
        ("Service", "Type", "exec"),
        ("Service", "ExecStart", "/opt/vitalloom/bin/vitalloom edge --config /etc/vitalloom/edge.toml"),
        ("Service", "Restart", "always"),
        ("Install", "WantedBy", "multi-user.target"),
        # A user of its own, with two folders of its own.
        ("Service", "User", "vitalloom"),
        ("Service", "UMask", "0077"),
        ("Service", "StateDirectory", "vitalloom"),
        ("Service", "StateDirectoryMode", "0700"),
        ("Service", "RuntimeDirectory", "vitalloom"),
        ("Service", "RuntimeDirectoryMode", "0700"),
        ("Service", "RuntimeDirectoryPreserve", "restart"),
        ("Service", "ProtectSystem", "strict"),
        ("Service", "ProtectHome", "yes"),
        ("Service", "PrivateTmp", "yes"),
        # Keys stay in memory.
        ("Service", "LimitCORE", "0"),
        ("Service", "LimitMEMLOCK", "infinity"),
        ("Service", "MemorySwapMax", "0"),
        # No privileges, and no way to them.
        ("Service", "NoNewPrivileges", "yes"),
        ("Service", "CapabilityBoundingSet", ""),
        ("Service", "AmbientCapabilities", ""),
        ("Service", "RestrictSUIDSGID", "yes"),
        ("Service", "RestrictNamespaces", "yes"),
        ("Service", "MemoryDenyWriteExecute", "yes"),
        ("Service", "SystemCallFilter", "@system-service"),
        ("Service", "SystemCallArchitectures", "native"),
        ("Service", "RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("Service", "DevicePolicy", "closed"),
    ],
)
def test_the_unit_promises(section: str, name: str, value: str) -> None:
    assert Unit().get(section, name) == value


@pytest.mark.parametrize("name", ["ProtectClock", "ProtectHostname", "ProtectKernelTunables", "ProtectKernelModules"])
def test_the_machine_is_none_of_its_business(name: str) -> None:
    assert Unit().get("Service", name) == "yes"


def test_only_devices_are_named_more_than_once() -> None:
    names = [name for name, _ in settings()]

    # A second line of any other name would quietly widen or undo the first.
    assert {name for name in names if names.count(name) > 1} == {"DeviceAllow"}


@pytest.mark.parametrize(
    "name",
    [
        "ReadWritePaths",
        "PermissionsStartOnly",
        "ProcSubset",  # the agent looks at /proc/swaps
        "PrivateDevices",  # the local alarm needs its sounder
        "Environment",
        "EnvironmentFile",
    ],
)
def test_the_unit_leaves_out(name: str) -> None:
    assert name not in dict(settings())


def test_what_the_agent_writes_lies_in_its_own_folder() -> None:
    text = UNIT.read_text(encoding="utf-8")

    for key in ("identity", "data_dir"):
        assert f'#   {key} = "/var/lib/vitalloom/' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # With a program that is there: without one, nothing but that is told.
    here = shutil.which("true")
    text = UNIT.read_text(encoding="utf-8").replace("/opt/vitalloom/bin/vitalloom", str(here))
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")

    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        timeout=VERIFY_S,
    )

    # What is wrong with other units of this machine is told as well.
    assert [line for line in told.stderr.splitlines() if UNIT.name in line] == []
