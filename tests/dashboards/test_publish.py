"""Publishing to a stand-in that answers as Grafana does; see `grafana_stand_in`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import vitalloom
from dashboards.build import DASHBOARDS
from dashboards.errors import DashboardsError, GrafanaRefused
from dashboards.publish import differences, publish
from tests.dashboards.grafana_stand_in import ADMIN, EDITOR, VIEWER, GrafanaStandIn, served_stand_in


@pytest.fixture
def grafana() -> Iterator[GrafanaStandIn]:
    with served_stand_in() as server:
        yield server


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "grafana.token"
    file.write_text(f"{EDITOR}\n", encoding="utf-8")
    return file


def test_publishing_twice_changes_nothing_the_second_time(grafana: GrafanaStandIn, token: Path) -> None:
    first = publish(grafana.url, token)
    count = len(grafana.requests)
    second = publish(grafana.url, token)

    assert first.changes == ["created folder vitalloom", *(f"created vitalloom-{name}" for name in DASHBOARDS)]
    assert second.changes == []
    assert second.unchanged == [f"vitalloom-{name}" for name in DASHBOARDS]
    assert not [one for one in grafana.requests[count:] if one.startswith("POST")]
    assert {one["meta"]["folderUid"] for one in grafana.dashboards.values()} == {"vitalloom"}


def test_changed_dashboard_is_named_and_updated(grafana: GrafanaStandIn, token: Path) -> None:
    publish(grafana.url, token)
    grafana.dashboards["vitalloom-ward"]["dashboard"]["title"] = "mine"
    del grafana.dashboards["vitalloom-patient"]

    assert differences(grafana.url, token) == ["vitalloom-ward is outdated", "vitalloom-patient is missing"]
    assert publish(grafana.url, token).changes == ["updated vitalloom-ward", "created vitalloom-patient"]
    assert differences(grafana.url, token) == []
    assert grafana.dashboards["vitalloom-ward"]["dashboard"]["version"] == 2


def test_provisioned_dashboard_is_not_changed(grafana: GrafanaStandIn, token: Path) -> None:
    publish(grafana.url, token)
    grafana.dashboards["vitalloom-ward"]["dashboard"]["title"] = "older"
    grafana.dashboards["vitalloom-ward"]["meta"]["provisioned"] = True

    with pytest.raises(GrafanaRefused, match="vitalloom-ward: it is provisioned from files"):
        publish(grafana.url, token)


def test_invalid_token_is_an_error(grafana: GrafanaStandIn, token: Path) -> None:
    token.write_text("another", encoding="utf-8")

    with pytest.raises(GrafanaRefused, match="the token is not valid; create one in Grafana"):
        publish(grafana.url, token)


def test_token_without_permission_is_an_error(grafana: GrafanaStandIn, token: Path) -> None:
    token.write_text(VIEWER, encoding="utf-8")

    with pytest.raises(GrafanaRefused, match=r"folder vitalloom: the token has no permission.*role Editor"):
        publish(grafana.url, token)


@pytest.mark.parametrize("role", [EDITOR, ADMIN])
def test_dashboards_go_into_the_folder_that_alerting_made(grafana: GrafanaStandIn, token: Path, role: str) -> None:
    token.write_text(role, encoding="utf-8")
    grafana.alerting_makes_folder("vitalloom", uid="Zk3hT9nVz")

    first, second = publish(grafana.url, token), publish(grafana.url, token)

    assert first.changes == [f"created vitalloom-{name}" for name in DASHBOARDS]
    assert {one["meta"]["folderUid"] for one in grafana.dashboards.values()} == {"Zk3hT9nVz"}
    assert second.changes == []


@pytest.mark.parametrize("status", [409, 412])
def test_folder_made_at_the_same_time_is_used(grafana: GrafanaStandIn, token: Path, status: int) -> None:
    grafana.folder_conflict = status

    def alerting_is_first(path: str) -> None:
        if path == "/api/folders":
            grafana.alerting_makes_folder("vitalloom", uid="Zk3hT9nVz")

    grafana.before_write = alerting_is_first
    publish(grafana.url, token)

    assert list(grafana.folders) == ["Zk3hT9nVz"]
    assert {one["meta"]["folderUid"] for one in grafana.dashboards.values()} == {"Zk3hT9nVz"}


def test_folder_that_the_token_cannot_see_is_an_error(grafana: GrafanaStandIn, token: Path) -> None:
    grafana.alerting_makes_folder("vitalloom", uid="Zk3hT9nVz")
    grafana.hidden_folders.add("Zk3hT9nVz")

    with pytest.raises(
        GrafanaRefused, match=r"folder vitalloom: it exists, but the token cannot see it; in Grafana give"
    ):
        publish(grafana.url, token)


def test_change_made_meanwhile_is_not_overwritten(grafana: GrafanaStandIn, token: Path) -> None:
    publish(grafana.url, token)
    stored = grafana.dashboards["vitalloom-ward"]["dashboard"]
    stored["title"] = "changed by a person"

    def a_person_saves_again(_: str) -> None:
        stored["version"] += 1

    grafana.before_write = a_person_saves_again
    with pytest.raises(GrafanaRefused, match="vitalloom-ward: it was changed at the same time; run the command again"):
        publish(grafana.url, token)
    assert grafana.dashboards["vitalloom-ward"]["dashboard"]["title"] == "changed by a person"


def test_dashboard_of_the_same_title_is_not_replaced(grafana: GrafanaStandIn, token: Path) -> None:
    publish(grafana.url, token)
    grafana.dashboards["a-copy"] = grafana.dashboards.pop("vitalloom-ward")

    with pytest.raises(
        GrafanaRefused, match="vitalloom-ward: another dashboard of that title is in the folder; rename"
    ):
        publish(grafana.url, token)
    assert "a-copy" in grafana.dashboards


def test_missing_data_source_is_an_error(grafana: GrafanaStandIn, token: Path) -> None:
    grafana.sources.clear()

    with pytest.raises(GrafanaRefused, match="there is none with the uid vitalloom; provision it"):
        publish(grafana.url, token)
    assert grafana.dashboards == {}


def test_unreachable_grafana_is_an_error(grafana: GrafanaStandIn, token: Path) -> None:
    with pytest.raises(GrafanaRefused, match=r"no response .*; check that Grafana is running"):
        publish("http://127.0.0.1:9", token)


@pytest.mark.parametrize(("url", "said"), [("grafana", "is not a URL of Grafana"), ("ftp://x", "is not a URL")])
def test_invalid_url_is_an_error(token: Path, url: str, said: str) -> None:
    with pytest.raises(DashboardsError, match=said):
        publish(url, token)


def test_unreadable_token_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DashboardsError, match="cannot read the token file"):
        publish("http://127.0.0.1:3000", tmp_path / "none")


def test_commands_print_what_they_did(grafana: GrafanaStandIn, token: Path, tmp_path: Path) -> None:
    from dashboards.commands import dashboards as group

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(group, [*arguments])

    options = ("--url", grafana.url, "--token-file", str(token))
    assert "vitalloom-ward is missing" in run("check", *options).output
    assert "created vitalloom-ward" in run("publish", *options).output
    assert "up to date: vitalloom-ward" in run("publish", *options).output
    assert run("check", *options).exit_code == 0
    assert "written: grafana/ward.json" in run("build", "--into", str(tmp_path)).output
    assert "up to date" in run("check", "--into", str(tmp_path)).output
    assert "dashboards" in vitalloom.COMMANDS
