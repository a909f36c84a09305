"""Publishing to a fake of Grafana's HTTP API, with folders, dashboards and one data source in memory.

It is not Grafana: it answers the requests of these tests as documented by Grafana, and adds `id` and `version`.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import vitalloom
from dashboards.build import DASHBOARDS
from dashboards.errors import DashboardsError, GrafanaRefused
from dashboards.publish import differences, publish

TOKEN = "a-token-of-a-service-account"


class FakeGrafana(ThreadingHTTPServer):
    """The part of Grafana's HTTP API that publishing uses."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.sources = {"vitalloom"}
        self.may_write = True
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _FakeGrafanaHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _FakeGrafanaHandler(BaseHTTPRequestHandler):
    server: FakeGrafana

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        fake = self.server
        name = self.path.rsplit("/", 1)[1]
        if self._rejects_token():
            return
        if self.path.startswith("/api/datasources/uid/"):
            self._respond(200 if name in fake.sources else 404, {"uid": name, "message": "Data source not found"})
        elif self.path.startswith("/api/folders/"):
            found = fake.folders.get(name)
            self._respond(404 if found is None else 200, found or {"message": "no folder"})
        elif self.path.startswith("/api/dashboards/uid/"):
            found = fake.dashboards.get(name)
            self._respond(200, found) if found else self._respond(404, {"message": "Dashboard not found"})
        else:
            self._respond(500, {"message": f"the fake does not support {self.path}"})

    def do_POST(self) -> None:
        fake = self.server
        if self._rejects_token():
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not fake.may_write:
            self._respond(403, {"message": "Access denied"})
        elif self.path == "/api/folders":
            fake.folders[body["uid"]] = body
            self._respond(200, body)
        elif self.path == "/api/dashboards/db":
            board = body["dashboard"]
            before = fake.dashboards.get(board["uid"], {"dashboard": {"version": 0}})
            version = before["dashboard"]["version"] + 1
            kept = {**board, "id": 1 + len(fake.dashboards), "version": version}
            fake.dashboards[board["uid"]] = {"dashboard": kept, "meta": {"folderUid": body["folderUid"]}}
            self._respond(200, {"status": "success", "uid": board["uid"], "version": version})
        else:
            self._respond(500, {"message": f"the fake does not support {self.path}"})

    def _rejects_token(self) -> bool:
        self.server.requests.append(f"{self.command} {self.path}")
        if self.headers["Authorization"] == f"Bearer {TOKEN}":
            return False
        self._respond(401, {"message": "Invalid API key"})
        return True

    def _respond(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    server = FakeGrafana()
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield server
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "grafana.token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    return file


def test_publishing_twice_changes_nothing_the_second_time(grafana: FakeGrafana, token: Path) -> None:
    first = publish(grafana.url, token)
    count = len(grafana.requests)
    second = publish(grafana.url, token)

    assert first.changes == ["created folder vitalloom", *(f"created vitalloom-{name}" for name in DASHBOARDS)]
    assert second.changes == []
    assert second.unchanged == [f"vitalloom-{name}" for name in DASHBOARDS]
    assert not [one for one in grafana.requests[count:] if one.startswith("POST")]
    assert {one["meta"]["folderUid"] for one in grafana.dashboards.values()} == {"vitalloom"}


def test_changed_dashboard_is_named_and_updated(grafana: FakeGrafana, token: Path) -> None:
    publish(grafana.url, token)
    grafana.dashboards["vitalloom-ward"]["dashboard"]["title"] = "mine"
    del grafana.dashboards["vitalloom-patient"]

    assert differences(grafana.url, token) == ["vitalloom-ward is outdated", "vitalloom-patient is missing"]
    assert publish(grafana.url, token).changes == ["updated vitalloom-ward", "created vitalloom-patient"]
    assert differences(grafana.url, token) == []
    assert grafana.dashboards["vitalloom-ward"]["dashboard"]["version"] == 2


def test_provisioned_dashboard_is_not_changed(grafana: FakeGrafana, token: Path) -> None:
    publish(grafana.url, token)
    grafana.dashboards["vitalloom-ward"]["dashboard"]["title"] = "older"
    grafana.dashboards["vitalloom-ward"]["meta"]["provisioned"] = True

    with pytest.raises(GrafanaRefused, match="vitalloom-ward: it is provisioned from files"):
        publish(grafana.url, token)


def test_invalid_token_is_an_error(grafana: FakeGrafana, token: Path) -> None:
    token.write_text("another", encoding="utf-8")

    with pytest.raises(GrafanaRefused, match="the token is not valid; create one in Grafana"):
        publish(grafana.url, token)


def test_token_without_permission_is_an_error(grafana: FakeGrafana, token: Path) -> None:
    grafana.may_write = False

    with pytest.raises(GrafanaRefused, match=r"folder vitalloom: the token has no permission.*role Editor"):
        publish(grafana.url, token)


def test_missing_data_source_is_an_error(grafana: FakeGrafana, token: Path) -> None:
    grafana.sources.clear()

    with pytest.raises(GrafanaRefused, match="there is none with the uid vitalloom; provision it"):
        publish(grafana.url, token)
    assert grafana.dashboards == {}


def test_unreachable_grafana_is_an_error(grafana: FakeGrafana, token: Path) -> None:
    with pytest.raises(GrafanaRefused, match=r"no response .*; check that Grafana is running"):
        publish("http://127.0.0.1:9", token)


@pytest.mark.parametrize(("url", "said"), [("grafana", "is not a URL of Grafana"), ("ftp://x", "is not a URL")])
def test_invalid_url_is_an_error(token: Path, url: str, said: str) -> None:
    with pytest.raises(DashboardsError, match=said):
        publish(url, token)


def test_unreadable_token_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DashboardsError, match="cannot read the token file"):
        publish("http://127.0.0.1:3000", tmp_path / "none")


def test_commands_print_what_they_did(grafana: FakeGrafana, token: Path, tmp_path: Path) -> None:
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
