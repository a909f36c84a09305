"""`vitalloom edge status`: findings, their fixes, and the exit status."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge import status as statuses
from edge.bedside.status_report import Ages, StatusFinding, StatusSeverity, bed_findings, findings, is_alive, main, span
from edge.status import BedStatus, DeviceStatus, bed_status
from tests.edge.statuses import DAY_MS, NOW_MS, WALL_MS, a_status

ROOT = Path(__file__).parents[3]
OK, WARNING, ERROR = StatusSeverity
NOW = Ages(NOW_MS, WALL_MS, WALL_MS)


def of(what: str, **changed: Any) -> StatusFinding:
    (found,) = [one for one in findings(a_status(**changed), NOW) if one.what == what]
    return found


def test_when_all_is_well_nothing_is_to_be_done() -> None:
    found = findings(a_status(), NOW)

    assert [one.what for one in found] == [
        "agent",
        "broker",
        "data centre",
        "outbox",
        "alarms",
        "models",
        "certificate",
    ]
    assert {one.severity for one in found} == {OK}
    assert {one.fix for one in found} == {""}


@pytest.mark.parametrize(
    ("what", "changed", "severity", "says", "fix"),
    [
        ("agent", {"progress_ms": NOW_MS - 61_000}, ERROR, "has made no progress for 61 s", "systemctl status"),
        ("agent", {"progress_ms": NOW_MS + 9}, ERROR, "for an unknown time", "systemctl status"),
        ("agent", {"stopped": True}, ERROR, "was stopped", "systemctl start"),
        ("broker", {"lanes": {"readings": True, "alarms": False}}, WARNING, "not connected for alarms", "network"),
        ("data centre", {"heard_ms": NOW_MS - 61_000}, WARNING, "61 s ago; high alarms sound here", "nothing is"),
        ("data centre", {"heard_ms": None, "started_ms": NOW_MS - 5_000}, OK, "no acknowledgement since", ""),
        ("outbox", {"waiting": 7, "oldest_age_ms": 20_000}, OK, "7 waiting, the oldest for 20 s", ""),
        ("outbox", {"waiting": 7, "oldest_age_ms": 400_000}, WARNING, "the oldest for 6 min", "data centre"),
        ("outbox", {"used": 0.71}, WARNING, "71% of its budget", "data centre"),
        ("outbox", {"stuck": True}, ERROR, "cannot be written", "outbox.budget_mb"),
        ("disk", {"salvaged": "salvaged 3 of 4"}, WARNING, "salvaged 3 of 4", "replace the card"),
        ("alarms", {"alarms": {"high": 1, "medium": 2, "low": 0}}, WARNING, "open: 1 high, 2 medium", "screen"),
        ("alarms", {"alarms": {"high": 1}, "sounding": True}, ERROR, "SOUNDING HERE", "go to the patient"),
        ("models", {"refused_models": ("sepsis",), "models": "rules only (hash)"}, WARNING, "hash", "edge-install"),
        ("certificate", {"credential_ends_ms": WALL_MS + 6 * DAY_MS}, WARNING, "6 days left", "registry reachable"),
        ("certificate", {"credential_ends_ms": WALL_MS - DAY_MS}, ERROR, "expired 1 days ago", "enrol --again"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_cure(
    what: str, changed: dict[str, Any], severity: StatusSeverity, says: str, fix: str
) -> None:
    found = of(what, **changed)

    assert found.severity is severity
    assert says in found.says
    assert fix in found.fix


def test_a_machine_that_lost_its_time_is_told_so() -> None:
    behind = NOW._replace(wall_ms=WALL_MS - 3 * DAY_MS)

    (found,) = [one for one in findings(a_status(), behind) if one.what == "clock"]

    assert found.severity is WARNING
    assert found.says.startswith("3 days behind")
    assert "timedatectl" in found.fix


@pytest.mark.parametrize(
    ("clock_ms", "says"),
    [(None, None), (4_000, None), (-4_000, None), (210_000, "3 min ahead of"), (-600_000, "10 min behind")],
)
def test_a_clock_that_differs_from_the_data_centre_s_is_said(clock_ms: int | None, says: str | None) -> None:
    found = [one for one in findings(a_status(clock_ms=clock_ms), NOW) if one.what == "clock"]

    assert [one.says for one in found] == ([] if says is None else [f"{says} the data centre's"])


def test_without_a_status_the_first_line_says_where_to_look() -> None:
    (only,) = findings(None, NOW)

    assert only.severity is ERROR
    assert "journalctl" in only.fix


@pytest.mark.parametrize(
    ("bed", "severity", "says"),
    [
        (BedStatus(bed="3", heard_ms=NOW_MS - 5_000, battery=80.0), OK, "5 s ago (battery 80 %); default limits"),
        (BedStatus(bed="3", heard_ms=NOW_MS, orders=1_767_621_720_000), OK, "orders of 2026-01-05 14:02 UTC"),
        (BedStatus(bed="3", heard_ms=NOW_MS - 180_000), WARNING, "last reading 3 min ago"),
        (BedStatus(bed="3", heard_ms=None), WARNING, "nothing since the agent started"),
        (BedStatus(bed="3", heard_ms=NOW_MS, battery=20.0), WARNING, "battery 20 %"),
        (BedStatus(bed="3", heard_ms=NOW_MS, flags=("clock corrected",)), WARNING, "clock corrected"),
        (BedStatus(bed="3", heard_ms=NOW_MS, flags=("sensor off",)), WARNING, "sensor off"),
    ],
)
def test_a_bed_is_an_age_and_flags(bed: BedStatus, severity: StatusSeverity, says: str) -> None:
    (found,) = bed_findings(bed, NOW)

    assert (found.what, found.severity) == ("bed 3", severity)
    assert says in found.says
    assert bool(found.fix) == (severity is not OK)


def test_a_bed_with_several_devices_is_one_line_and_one_for_each() -> None:
    patch = DeviceStatus(name="patch 3", heard_ms=NOW_MS - 2_000, battery=80.0)
    cuff = DeviceStatus(name="cuff 1", heard_ms=NOW_MS - 500_000, battery=10.0)
    bed = bed_status("3", [patch, cuff, DeviceStatus(name="oximeter")], elsewhere=1)

    whole, *devices = bed_findings(bed, NOW)

    assert (whole.what, whole.severity) == ("bed 3", OK)
    assert "last reading 2 s ago; 3 devices here; 1 more at another edge, so scores here are lower bounds" in whole.says
    assert [(one.what, one.severity) for one in devices] == [
        ("bed 3, patch 3", OK), ("bed 3, cuff 1", WARNING), ("bed 3, oximeter", WARNING),
    ]  # fmt: skip
    assert "charge" in devices[1].fix
    assert "nothing since" in devices[2].says


def test_a_bed_whose_patient_is_watched_without_a_device_says_so() -> None:
    (found,) = bed_findings(bed_status("3", []), NOW)

    assert (found.severity, "no device" in found.says) == (WARNING, True)
    assert "vitalloom registry" in found.fix


@pytest.mark.parametrize(
    ("ms", "text"),
    [(119_999, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (172_800_000, "2 days"), (None, "an unknown time")],
)
def test_a_span_has_the_unit_that_fits(ms: int | None, text: str) -> None:
    assert span(ms) == text


def a_machine(folder: Path, **changed: Any) -> Path:
    config = folder / "edge.toml"
    config.write_text('data_dir = "data"\nstatus_file = "status"\n', encoding="utf-8")
    now_ms = statuses.monotonic_ms()
    moments = dict.fromkeys(("mono_ms", "progress_ms", "heard_ms", "started_ms"), now_ms)
    beds = (BedStatus(bed="1", heard_ms=now_ms),)
    statuses.write(folder / "status", a_status(**{**moments, "beds": beds, **changed}))
    return config


@pytest.mark.parametrize(
    ("changed", "code", "severity"),
    [({}, 0, "ok"), ({"lanes": {"readings": False}}, 1, "** warning"), ({"stopped": True}, 2, "*** error")],
)
def test_colours_have_a_mark_and_the_worst_is_the_exit_status(
    changed: dict[str, Any], code: int, severity: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(a_machine(tmp_path, **changed)) == code

    text = capsys.readouterr().out
    assert severity in text
    assert "Not a certified medical device" in text


@pytest.mark.services
def test_a_machine_reads_the_same(tmp_path: Path) -> None:
    config = a_machine(tmp_path, stuck=True)

    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "edge", "status", "--config", str(config), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    told = json.loads(done.stdout)
    assert done.returncode == 2
    assert told["worst"] == "error"
    assert {"what": "outbox", "severity": "error"}.items() <= next(
        one for one in told["findings"] if one["what"] == "outbox"
    ).items()
    assert msgspec.convert(told["status"], statuses.Status).stuck


def test_a_status_that_cannot_be_read_names_the_user_to_run_as(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied", "/run/vitalloom/status.json")

    monkeypatch.setattr(statuses, "read", denied)

    assert main(a_machine(tmp_path)) == 2
    text = capsys.readouterr().out
    assert "/run/vitalloom/status.json: Permission denied" in text
    assert "sudo vitalloom edge" in text
    assert "No bed" not in text  # that is unknown


@pytest.mark.parametrize(
    ("changed", "code"), [({}, 0), ({"lanes": {"readings": False}, "stuck": True}, 0), ({"progress_ms": 0}, 1)]
)
def test_is_alive_checks_progress_only_and_prints_nothing(
    changed: dict[str, Any], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_alive(a_machine(tmp_path, **changed)) == code
    assert capsys.readouterr().out == ""


def test_without_a_status_the_agent_is_not_alive(tmp_path: Path) -> None:
    config = a_machine(tmp_path)
    (tmp_path / "status").unlink()

    assert is_alive(config) == 1
