"""`vitalloom edge setup`: what it writes can be reviewed, stays when it is right, and is not replaced unasked."""

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edge import config as edge_config
from edge.bedside.watch import read_config
from edge.errors import BadMachine
from edge.setup import CONFIG, OLD, SERVICES, FileOutcome, SetupPlan, WantedFile, main, plan, put, unit_text
from tests.services.program import program

ROOT = Path(__file__).parents[2]
PROGRAM = Path("/opt/vitalloom/current/bin/vitalloom")


def a_pi(folder: Path) -> Path:
    """The file system of a Raspberry Pi OS, as far as it matters."""
    for name, text in {
        "etc/group": "root:x:0:\naudio:x:29:pi\ngpio:x:993:pi\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "etc/fstab": "proc /proc proc defaults 0 0\nPARTUUID=1-02 / ext4 defaults,noatime 0 1\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_it_writes_what_is_wanted_and_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = a_pi(tmp_path)
    (root / "etc").chmod(0o755)

    before = os.umask(0o077)
    try:
        assert main(root, program=PROGRAM, yes=False, dry_run=False) == 0
    finally:
        os.umask(before)

    text = said(capsys)
    for wanted in plan(root, PROGRAM).files:
        assert (root / wanted.path).read_text(encoding="utf-8") == wanted.text
        assert stat.S_IMODE((root / wanted.path).stat().st_mode) == 0o644
        assert stat.S_IMODE((root / wanted.path).parent.stat().st_mode) == 0o755
        assert f"/{wanted.path}: written" in text
    assert f"sudo -u vitalloom {PROGRAM} enrol --dir /var/lib/vitalloom/identity" in text.splitlines()[-1]
    assert "commit=60" in text  # noatime is there already
    assert "add noatime" not in text


def test_what_is_right_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = a_pi(tmp_path)
    main(root, program=PROGRAM, yes=False, dry_run=False)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    said(capsys)

    main(root, program=PROGRAM, yes=True, dry_run=False)

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    assert said(capsys).count(FileOutcome.UNCHANGED) == len(plan(root, PROGRAM).files)


def test_an_enrolled_device_is_not_told_to_enrol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = a_pi(tmp_path)
    (root / "var/lib/vitalloom/identity").mkdir(parents=True)
    (root / "var/lib/vitalloom/identity/identity.json").write_text("{}", encoding="utf-8")

    main(root, program=PROGRAM, yes=False, dry_run=False)

    assert "sudo systemctl restart" in said(capsys).splitlines()[-1]


def test_a_dry_run_touches_nothing_and_shows_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = a_pi(tmp_path)
    (root / CONFIG).parent.mkdir(parents=True)
    (root / CONFIG).write_text('identity = "mine"\n', encoding="utf-8")
    before = sorted(root.rglob("*"))

    main(root, program=PROGRAM, yes=True, dry_run=True)

    text = said(capsys)
    assert sorted(root.rglob("*")) == before
    assert '-identity = "mine"' in text
    assert "would run: systemctl daemon-reload" in text


def test_a_file_that_differs_is_replaced_only_if_somebody_agrees_and_kept_beside_it(tmp_path: Path) -> None:
    wanted = WantedFile("etc/x.conf", "new\n")
    path = tmp_path / "etc" / "x.conf"
    path.parent.mkdir()
    path.write_text("old\n", encoding="utf-8")
    asked: list[str] = []

    def no(name: str, difference: str) -> bool:
        asked.append(name + difference)
        return False

    assert put(tmp_path, wanted, no) is FileOutcome.KEPT
    assert path.read_text() == "old\n"
    assert put(tmp_path, wanted, lambda *_: True) is FileOutcome.REPLACED
    assert path.read_text() == "new\n"
    assert path.with_name(f"x.conf{OLD}").read_text() == "old\n"
    assert "-old" in asked[0]
    assert "+new" in asked[0]


def test_yes_replaces_our_files_and_leaves_the_site_s_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = a_pi(tmp_path)
    main(root, program=PROGRAM, yes=True, dry_run=False)
    (root / CONFIG).write_text('identity = "mine"\n', encoding="utf-8")
    said(capsys)

    main(root, program=Path("/opt/other/bin/vitalloom"), yes=True, dry_run=False)

    assert (root / CONFIG).read_text() == 'identity = "mine"\n'
    assert "/opt/other/bin/vitalloom edge --config" in (root / "etc/systemd/system" / SERVICES[0]).read_text()
    assert f"/{CONFIG}: {FileOutcome.KEPT}" in said(capsys)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/x.conf").symlink_to("/dev/null")

    with pytest.raises(BadMachine, match="symbolic link"):
        put(tmp_path, WantedFile("etc/x.conf", "new\n"), lambda *_: True)


@pytest.mark.parametrize("program", ["/opt/my tools/vitalloom", "/opt/100%/vitalloom", "/home/pi/.local/bin/vitalloom"])
def test_a_program_that_the_service_could_not_start_is_refused(program: str) -> None:
    with pytest.raises(BadMachine):
        unit_text(SERVICES[0], Path(program))


def test_only_groups_that_are_there_are_asked_for(tmp_path: Path) -> None:
    (drop_in,) = _named(plan(a_pi(tmp_path), PROGRAM), "groups.conf")
    assert "SupplementaryGroups=gpio audio\n" in drop_in.text

    (tmp_path / "etc/group").write_text("root:x:0:\naudio:x:29:\n", encoding="utf-8")
    (drop_in,) = _named(plan(tmp_path, PROGRAM), "groups.conf")
    assert "SupplementaryGroups=audio\n" in drop_in.text

    (tmp_path / "etc/group").write_text("root:x:0:\n", encoding="utf-8")
    assert _named(plan(tmp_path, PROGRAM), "groups.conf") == []


def _named(todo: SetupPlan, name: str) -> list[WantedFile]:
    return [one for one in todo.files if one.path.endswith(name)]


def test_the_configuration_is_one_that_agent_and_watch_can_use(tmp_path: Path) -> None:
    main(a_pi(tmp_path), program=PROGRAM, yes=False, dry_run=False)

    config = edge_config.read(tmp_path / CONFIG)
    bedside, places = read_config(tmp_path / CONFIG)

    assert config.identity == Path("/var/lib/vitalloom/identity")
    assert config.data_dir == Path("/var/lib/vitalloom/outbox")
    assert config.status_file == Path("/run/vitalloom/status.json")
    assert places == [config.status_file]
    assert config.outbox.commit_ms == 5_000
    assert bedside == config.bedside
    assert tomllib.loads((tmp_path / CONFIG).read_text())["outbox"] == {"commit_ms": 5_000}


def test_without_root_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)

    with pytest.raises(BadMachine, match="sudo"):
        main(Path("/"), program=PROGRAM, yes=False, dry_run=False)


@pytest.mark.services
def test_the_command_can_be_tried_by_anybody(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "edge", "setup", "--root", str(a_pi(tmp_path)), "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "/etc/vitalloom/edge.toml: would be written" in done.stdout


@pytest.mark.services
def test_systemd_makes_the_user_and_the_folder_that_the_files_name(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    root = a_pi(tmp_path)
    main(root, program=PROGRAM, yes=False, dry_run=False)
    for command in plan(root, PROGRAM).commands[:2]:
        done = subprocess.run(
            [program(command[0], of="systemd"), f"--root={root}", *command[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    entry = next(line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("vitalloom:"))
    name, _, uid, gid, _, home, shell = entry.split(":")
    folder = (root / "var/lib/vitalloom").stat()
    assert (name, home, shell) == ("vitalloom", "/var/lib/vitalloom", "/usr/sbin/nologin")
    assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (int(uid), int(gid), 0o700)
