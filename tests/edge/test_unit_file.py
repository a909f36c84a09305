"""The unit file keeps what the documents promise of the agent as a service."""

import configparser
import subprocess
from pathlib import Path

import pytest

from edge.setup import unit_text
from tests.services.program import program

UNIT = Path(__file__).parents[2] / "edge" / "vitalloom-edge.service"
WATCH = UNIT.with_name("vitalloom-edge-watch.service")
EXPOSED = {UNIT.name: 20, WATCH.name: 11}
"""Tenths of what `systemd-analyze security` calls exposure: 0 is shut, 100 is open. What is left is the network, the
devices of the sounder, and a view of /proc and of other users' ids."""
VERIFY_S = 60


class Unit(configparser.RawConfigParser):
    """As systemd reads it: names keep their case, and only = divides."""

    def __init__(self, path: Path = UNIT) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read_string(path.read_text(encoding="utf-8"))


def settings() -> list[tuple[str, str]]:
    """Every line that sets something, in order; some names may come again."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [(name, value) for name, found, value in (line.partition("=") for line in lines) if found and name[0] != "#"]


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        # It runs, and goes on running.
        ("Unit", "StartLimitIntervalSec", "0"),
        ("Service", "Type", "notify"),
        ("Service", "WatchdogSec", "30"),
        ("Service", "MemoryMax", "384M"),
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
        # The only variable: nothing is sent to the maker of onnxruntime.
        ("Service", "Environment", "ORT_DISABLE_TELEMETRY=1"),
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
        "EnvironmentFile",
    ],
)
def test_the_unit_leaves_out(name: str) -> None:
    assert name not in dict(settings())


def test_what_the_agent_writes_lies_in_its_own_folder() -> None:
    text = UNIT.read_text(encoding="utf-8")

    for key in ("identity", "data_dir"):
        assert f'#   {key} = "/var/lib/vitalloom/' in text


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("Service", "Type", "notify"),
        ("Service", "WatchdogSec", "15"),
        ("Service", "ExecStart", "/opt/vitalloom/bin/vitalloom edge watch --config /etc/vitalloom/edge.toml"),
        ("Service", "Restart", "always"),
        ("Service", "User", "vitalloom"),
        ("Service", "ProtectSystem", "strict"),
        ("Service", "InaccessiblePaths", "-/var/lib/vitalloom"),  # neither keys nor outbox
        ("Service", "PrivateNetwork", "yes"),
        ("Service", "RestrictAddressFamilies", "AF_UNIX"),
        ("Service", "NoNewPrivileges", "yes"),
        ("Service", "CapabilityBoundingSet", ""),
        ("Install", "WantedBy", "multi-user.target"),
    ],
)
def test_the_bedside_s_unit_promises(section: str, name: str, value: str) -> None:
    assert Unit(WATCH).get(section, name) == value


def test_the_bedside_outlives_the_agent() -> None:
    for name in ("Requires", "BindsTo", "PartOf", "Requisite"):
        assert not Unit(WATCH).has_option("Unit", name)


@pytest.mark.services
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # With a program that is there: without one, nothing but that is told.
    files = [tmp_path / one.name for one in (UNIT, WATCH)]
    for file in files:
        file.write_text(unit_text(file.name, Path("/bin/true")), encoding="utf-8")

    told = subprocess.run(
        [program("systemd-analyze", of="systemd"), "verify", "--man=no", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=VERIFY_S,
    )

    # What is wrong with other units of this machine is told as well.
    assert [line for line in told.stderr.splitlines() if "vitalloom" in line] == []


@pytest.mark.services
@pytest.mark.parametrize("name", EXPOSED)
def test_systemd_finds_it_shut_in(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(unit_text(name, Path("/bin/true")), encoding="utf-8")

    told = subprocess.run(
        [
            program("systemd-analyze", of="systemd"),
            "security",
            "--offline=true",
            f"--threshold={EXPOSED[name]}",
            str(file),
        ],
        capture_output=True,
        text=True,
        timeout=VERIFY_S,
    )

    assert told.returncode == 0, told.stdout[-400:]
