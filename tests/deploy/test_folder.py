"""A site's folder: made once, completed later, never overwritten; and what only its owner may read."""

import stat
from pathlib import Path
from typing import Any

import pytest

from deploy import env, settings
from deploy.description import Ports
from deploy.errors import SiteIncomplete
from deploy.folder import DRAWN, Folder
from stream.desk.users import Users


def begin(folder: Path, **more: Any) -> Folder:
    made = Folder(folder)
    told = {"name": "north", "host": "127.0.0.1", "registry_port": 8_443, "broker_port": 8_883, "first_port": None}
    made.begin(**(told | more), who="test")  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("site") / "site"
    begin(made)
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_second_time_changes_nothing(folder: Path) -> None:
    before = {name: text for name, text in files(folder).items() if ".sqlite-" not in name}

    again = begin(folder)

    assert again.made == []
    assert {name: text for name, text in files(folder).items() if ".sqlite-" not in name} == before


def test_nobody_else_can_read_anything_of_it(folder: Path) -> None:
    open_to_others = [
        one
        for one in [folder, *folder.rglob("*")]
        if stat.S_IMODE(one.stat().st_mode) & 0o077 and ".sqlite" not in one.name
    ]

    assert open_to_others == []


def test_secrets_are_drawn_and_differ_from_site_to_site(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    begin(other)

    for name in DRAWN:
        secret = (folder / "secrets" / name).read_text()
        assert len(secret) >= 40
        assert secret != (other / "secrets" / name).read_text()
    assert settings.read(folder).kafka_id != settings.read(other).kafka_id


def test_what_somebody_has_edited_is_theirs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    begin(site)
    (site / "config" / "worker.toml").write_text('log_level = "DEBUG"\n')

    again = begin(site)

    assert (site / "config" / "worker.toml").read_text() == 'log_level = "DEBUG"\n'
    assert "config/worker.toml" in again.kept


def test_what_was_lost_comes_again_and_the_rest_stays(tmp_path: Path) -> None:
    site = tmp_path / "site"
    begin(site)
    token = (site / "secrets" / "influxdb-admin.token").read_text()
    (site / "config" / "store.toml").unlink()

    again = begin(site)

    assert again.made == ["config/store.toml"]
    assert (site / "secrets" / "influxdb-admin.token").read_text() == token


def test_what_compose_is_told_follows_what_was_edited(tmp_path: Path) -> None:
    site = tmp_path / "site"
    begin(site)
    text = (site / "site.toml").read_text()
    (site / "site.toml").write_text(text.replace("grafana = 3000", "grafana = 3300"))

    again = begin(site)

    assert env.FILE in again.made
    assert "VITALLOOM_GRAFANA=3300" in (site / env.FILE).read_text()


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    from runtime.errors import ConfigError

    site = tmp_path / "site"
    begin(site)
    (site / "site.toml").write_text((site / "site.toml").read_text() + "kafak = 1\n")

    with pytest.raises(ConfigError, match="kafak"):
        settings.read(site)


def test_a_folder_that_others_can_enter_is_refused_with_the_cure(tmp_path: Path) -> None:
    site = tmp_path / "site"
    begin(site)
    (site / "secrets").chmod(0o755)

    with pytest.raises(SiteIncomplete, match="chmod 700"):
        begin(site)


def test_another_site_on_this_machine_has_other_ports(tmp_path: Path) -> None:
    site = tmp_path / "site"
    begin(site, first_port=21_000)

    ports = settings.read(site).ports

    assert {getattr(ports, name) for name in Ports.__struct_fields__} == set(range(21_000, 21_000 + 11))
    assert "127.0.0.1:21000" in (site / "config" / "kafka.properties").read_text()


def test_the_first_who_may_answer_is_let_in_once(tmp_path: Path) -> None:
    site = tmp_path / "site"
    made = begin(site)

    password = made.admit("anna")

    assert password is not None
    assert Users(site / "data" / "desk" / "users.json").is_right("anna", password)
    assert made.admit("ben") is None
    assert password not in b"".join(files(site).values()).decode(errors="replace")
