"""What the person in front of an edge is told, with what cure, and what the exit status is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge import status as statuses
from edge.bedside.status_report import Ages, Finding, Mark, bed_finding, findings, is_alive, main, span
from edge.status import Bed
from tests.edge.statuses import DAY_MS, NOW_MS, WALL_MS, a_status

ROOT = Path(__file__).parents[3]
NOW = Ages(NOW_MS, WALL_MS, WALL_MS)


def of(what: str, **changed: Any) -> Finding:
    (found,) = [one for one in findings(a_status(**changed), NOW) if one.what == what]
    return found


def test_when_all_is_well_nothing_is_to_be_done() -> None:
    found = findings(a_status(), NOW)

    assert [one.what for one in found] == [
        "agent", "broker", "data centre", "outbox", "alarms", "models", "certificate",
    ]  # fmt: skip
    assert {one.mark for one in found} == {Mark.WELL}
    assert {one.cure for one in found} == {""}


@pytest.mark.parametrize(
    ("what", "changed", "mark", "says", "cure"),
    [
        ("agent", {"progress_ms": NOW_MS - 61_000}, Mark.BAD, "has achieved nothing for 61 s", "systemctl status"),
        ("agent", {"progress_ms": NOW_MS + 9}, Mark.BAD, "for an unknown time", "systemctl status"),
        ("agent", {"stopped": True}, Mark.BAD, "was stopped", "systemctl start"),
        ("broker", {"lanes": {"readings": True, "alarms": False}}, Mark.LOOK, "not connected for alarms", "network"),
        ("data centre", {"heard_ms": NOW_MS - 61_000}, Mark.LOOK, "61 s ago; high alarms sound here", "nothing is"),
        ("data centre", {"heard_ms": None, "started_ms": NOW_MS - 5_000}, Mark.WELL, "nothing since the start", ""),
        ("outbox", {"waiting": 7, "oldest_age_ms": 20_000}, Mark.WELL, "7 wait, the oldest for 20 s", ""),
        ("outbox", {"waiting": 7, "oldest_age_ms": 400_000}, Mark.LOOK, "the oldest for 6 min", "data centre"),
        ("outbox", {"used": 0.71}, Mark.LOOK, "71% of its budget", "data centre"),
        ("outbox", {"stuck": True}, Mark.BAD, "cannot be written", "outbox.budget_mb"),
        ("disk", {"salvaged": "salvaged 3 of 4"}, Mark.LOOK, "salvaged 3 of 4", "replace the card"),
        ("alarms", {"alarms": {"high": 1, "medium": 2, "low": 0}}, Mark.LOOK, "open: 1 high, 2 medium", "screen"),
        ("alarms", {"alarms": {"high": 1}, "sounding": True}, Mark.BAD, "SOUNDING HERE", "go to the patient"),
        ("models", {"refused_models": ("sepsis",), "models": "rules only (hash)"}, Mark.LOOK, "hash", "edge-install"),
        ("certificate", {"credential_ends_ms": WALL_MS + 6 * DAY_MS}, Mark.LOOK, "6 days left", "registry reachable"),
        ("certificate", {"credential_ends_ms": WALL_MS - DAY_MS}, Mark.BAD, "expired 1 days ago", "enrol --again"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_cure(
    what: str, changed: dict[str, Any], mark: Mark, says: str, cure: str
) -> None:
    found = of(what, **changed)

    assert found.mark is mark
    assert says in found.says
    assert cure in found.cure


def test_a_machine_that_lost_its_time_is_told_so() -> None:
    behind = NOW._replace(wall_ms=WALL_MS - 3 * DAY_MS)

    (found,) = [one for one in findings(a_status(), behind) if one.what == "clock"]

    assert found.mark is Mark.LOOK
    assert found.says.startswith("3 days behind")
    assert "timedatectl" in found.cure


def test_without_a_status_the_first_line_says_where_to_look() -> None:
    (only,) = findings(None, NOW)

    assert only.mark is Mark.BAD
    assert "journalctl" in only.cure


@pytest.mark.parametrize(
    ("bed", "mark", "says"),
    [
        (Bed(bed="3", heard_ms=NOW_MS - 5_000, battery=80.0), Mark.WELL, "last reading 5 s ago (battery 80 %)"),
        (Bed(bed="3", heard_ms=NOW_MS - 180_000), Mark.LOOK, "last reading 3 min ago"),
        (Bed(bed="3", heard_ms=None), Mark.LOOK, "nothing since the agent started"),
        (Bed(bed="3", heard_ms=NOW_MS, battery=20.0), Mark.LOOK, "battery 20 %"),
        (Bed(bed="3", heard_ms=NOW_MS, flags=("clock corrected",)), Mark.LOOK, "clock corrected"),
        (Bed(bed="3", heard_ms=NOW_MS, flags=("sensor off",)), Mark.LOOK, "sensor off"),
    ],
)
def test_a_bed_is_an_age_and_flags(bed: Bed, mark: Mark, says: str) -> None:
    found = bed_finding(bed, NOW)

    assert (found.what, found.mark) == ("bed 3", mark)
    assert says in found.says
    assert bool(found.cure) == (mark is not Mark.WELL)


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
    beds = (Bed(bed="1", heard_ms=now_ms),)
    statuses.write(folder / "status", a_status(**{**moments, "beds": beds, **changed}))
    return config


@pytest.mark.parametrize(
    ("changed", "code", "mark"),
    [({}, 0, "ok"), ({"lanes": {"readings": False}}, 1, "** look"), ({"stopped": True}, 2, "*** act")],
)
def test_colours_have_a_mark_and_the_worst_is_the_exit_status(
    changed: dict[str, Any], code: int, mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(a_machine(tmp_path, **changed)) == code

    text = capsys.readouterr().out
    assert mark in text
    assert "Not a certified medical device" in text


@pytest.mark.services
def test_a_machine_reads_the_same(tmp_path: Path) -> None:
    config = a_machine(tmp_path, stuck=True)

    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "edge", "status", "--config", str(config), "--json"], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    told = json.loads(done.stdout)
    assert done.returncode == 2
    assert told["worst"] == "bad"
    assert {"what": "outbox", "mark": "bad"}.items() <= next(
        one for one in told["findings"] if one["what"] == "outbox"
    ).items()
    assert msgspec.convert(told["status"], statuses.Status).stuck


def test_a_status_that_may_not_be_read_says_as_whom_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied", "/run/vitalloom/status.json")

    monkeypatch.setattr(statuses, "read", denied)

    assert main(a_machine(tmp_path)) == 2
    text = capsys.readouterr().out
    assert "/run/vitalloom/status.json: Permission denied" in text
    assert "sudo vitalloom edge" in text
    assert "No bed" not in text  # nobody knows


@pytest.mark.parametrize(
    ("changed", "code"), [({}, 0), ({"lanes": {"readings": False}, "stuck": True}, 0), ({"progress_ms": 0}, 1)]
)
def test_a_container_asks_whether_the_agent_gets_on_and_nothing_else(
    changed: dict[str, Any], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_alive(a_machine(tmp_path, **changed)) == code
    assert capsys.readouterr().out == ""


def test_an_agent_that_has_left_nothing_does_not_get_on(tmp_path: Path) -> None:
    config = a_machine(tmp_path)
    (tmp_path / "status").unlink()

    assert is_alive(config) == 1
