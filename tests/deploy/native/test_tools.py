"""Finding the servers of a site on this machine. The programs are empty files: none is started."""

from pathlib import Path

import pytest

from deploy.errors import ToolMissing
from deploy.native import tools


def a_home(folder: Path, *programs: str) -> Path:
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "defaults.ini").touch()
    (folder / "bin").mkdir()
    for name in programs:
        (folder / "bin" / name).touch(mode=0o755)
    return folder


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_PATH", "/nowhere")
    monkeypatch.setattr(tools, "_GRAFANA_HOMES", ())
    monkeypatch.delenv("GF_PATHS_HOME", raising=False)


@pytest.mark.parametrize(
    ("program", "words"), [("grafana", ["server", "--homepath"]), ("grafana-server", ["--homepath"])]
)
def test_grafana_is_found_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: list[str]
) -> None:
    home = a_home(tmp_path / "grafana", program)
    monkeypatch.setattr(tools, "_PATH", str(home / "bin"))

    assert tools.grafana() == (str(home / "bin" / program), *words, str(home))


def test_grafana_is_found_in_the_named_home_before_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, named = a_home(tmp_path / "usual", "grafana"), a_home(tmp_path / "named", "grafana-server")
    monkeypatch.setattr(tools, "_GRAFANA_HOMES", (usual,))
    assert tools.grafana() == (str(usual / "bin" / "grafana"), "server", "--homepath", str(usual))

    monkeypatch.setenv("GF_PATHS_HOME", str(named))
    assert tools.grafana() == (str(named / "bin" / "grafana-server"), "--homepath", str(named))


def test_program_apart_from_its_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in Debian's package: /usr/sbin/grafana-server and /usr/share/grafana.
    home, programs = a_home(tmp_path / "share" / "grafana"), tmp_path / "sbin"
    programs.mkdir()
    (programs / "grafana-server").touch(mode=0o755)
    monkeypatch.setattr(tools, "_PATH", str(programs))
    monkeypatch.setattr(tools, "_GRAFANA_HOMES", (home,))

    assert tools.grafana() == (str(programs / "grafana-server"), "--homepath", str(home))


def test_missing_grafana_is_an_error_that_says_how_to_get_it() -> None:
    with pytest.raises(ToolMissing, match=r"Grafana is not installed; fix: https://grafana.com.*GF_PATHS_HOME"):
        tools.grafana()
