"""The folder of a site: created, completed, never overwritten, and private to its owner."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from deploy import env, settings
from deploy.description import Ports
from deploy.errors import SiteIncomplete
from deploy.folder import GENERATED_SECRETS, SiteFolder, facts_of
from runtime.config import load
from stream.config import DeskConfig, WorkerConfig
from stream.desk.users import Users


def create(folder: Path, **more: Any) -> SiteFolder:
    created = SiteFolder(folder)
    options = {"name": "north", "host": "127.0.0.1", "registry_port": 8_443, "broker_port": 8_883, "first_port": None}
    created.create(**(options | more), who="test")  # type: ignore[arg-type]
    return created


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("site") / "site"
    create(made)
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_second_init_changes_nothing(folder: Path) -> None:
    before = {name: text for name, text in files(folder).items() if ".sqlite-" not in name}

    again = create(folder)

    assert again.created == []
    assert {name: text for name, text in files(folder).items() if ".sqlite-" not in name} == before


def test_other_users_have_no_access(folder: Path) -> None:
    open_to_others = [
        one
        for one in [folder, *folder.rglob("*")]
        if stat.S_IMODE(one.stat().st_mode) & 0o077 and ".sqlite" not in one.name
    ]

    assert open_to_others == []


def test_secrets_are_random(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    create(other)

    for name in GENERATED_SECRETS:
        secret = (folder / "secrets" / name).read_text()
        assert len(secret) >= 40
        assert secret != (other / "secrets" / name).read_text()
    assert settings.read(folder).kafka_id != settings.read(other).kafka_id


def test_edited_file_is_kept(tmp_path: Path) -> None:
    site = tmp_path / "site"
    create(site)
    (site / "config" / "worker.toml").write_text('log_level = "DEBUG"\n')

    again = create(site)

    assert (site / "config" / "worker.toml").read_text() == 'log_level = "DEBUG"\n'
    assert "config/worker.toml" in again.kept


def test_missing_file_is_created_and_others_are_kept(tmp_path: Path) -> None:
    site = tmp_path / "site"
    create(site)
    token = (site / "secrets" / "influxdb-admin.token").read_text()
    (site / "config" / "store.toml").unlink()

    again = create(site)

    assert again.created == ["config/store.toml"]
    assert (site / "secrets" / "influxdb-admin.token").read_text() == token


def test_env_file_follows_edited_settings(tmp_path: Path) -> None:
    site = tmp_path / "site"
    create(site)
    text = (site / "site.toml").read_text()
    (site / "site.toml").write_text(text.replace("grafana = 3000", "grafana = 3300"))

    again = create(site)

    assert env.FILE in again.created
    assert "VITALLOOM_GRAFANA=3300" in (site / env.FILE).read_text()


def test_links_in_messages_go_to_the_host_of_the_site(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    create(folder, host="ward.example")

    assert "root_url = http://ward.example:3000/\n" in (folder / "config" / "grafana.ini").read_text()
    assert 'where = "http://ward.example:3000/"\n' in (folder / "config" / "desk.toml").read_text()


def test_misspelt_key_is_an_error_that_names_it(tmp_path: Path) -> None:
    from runtime.errors import ConfigError

    site = tmp_path / "site"
    create(site)
    (site / "site.toml").write_text((site / "site.toml").read_text() + "kafak = 1\n")

    with pytest.raises(ConfigError, match="kafak"):
        settings.read(site)


def test_folder_with_access_for_others_is_refused_with_the_fix(tmp_path: Path) -> None:
    site = tmp_path / "site"
    create(site)
    (site / "secrets").chmod(0o755)

    with pytest.raises(SiteIncomplete, match="chmod 700"):
        create(site)


def test_ports_from_gives_a_second_site_its_own_ports(tmp_path: Path) -> None:
    site = tmp_path / "site"
    create(site, first_port=21_000)

    ports = settings.read(site).ports

    assert {getattr(ports, name) for name in Ports.__struct_fields__} == set(range(21_000, 21_000 + 11))
    assert "127.0.0.1:21000" in (site / "config" / "kafka.properties").read_text()


def test_first_user_is_created_once(tmp_path: Path) -> None:
    site = tmp_path / "site"
    created = create(site)

    password = created.create_first_user("anna")

    assert password is not None
    assert Users(site / "data" / "desk" / "users.json").is_right("anna", password)
    assert created.create_first_user("ben") is None
    assert password not in b"".join(files(site).values()).decode(errors="replace")


def test_the_time_zone_of_a_site_is_in_everything_that_shows_times(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    create(folder, time_zone="Europe/Berlin")

    assert facts_of(folder).time_zone == "Europe/Berlin"
    for process, kind in (("worker", WorkerConfig), ("desk", DeskConfig)):
        assert load(kind, folder / "config" / f"{process}.toml", env_prefix="NONE").time_zone == "Europe/Berlin"
    boards = [json.loads(one.read_bytes()) for one in (folder / "config/grafana/grafana").glob("*.json")]
    assert {one["timezone"] for one in boards} == {"Europe/Berlin"}
