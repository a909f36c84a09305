"""Publishing, against a stand-in for Grafana's HTTP API: folders, dashboards and one data source in memory.

It is no Grafana: it answers the paths that are asked here as Grafana's documentation has them, and adds `id` and
`version` as Grafana does.
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


class StandIn(ThreadingHTTPServer):
    """What of Grafana is asked."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.sources = {"vitalloom"}
        self.may_write = True
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        there = self.server
        name = self.path.rsplit("/", 1)[1]
        if self._is_stranger():
            return
        if self.path.startswith("/api/datasources/uid/"):
            self._say(200 if name in there.sources else 404, {"uid": name, "message": "Data source not found"})
        elif self.path.startswith("/api/folders/"):
            self._say(200, there.folders[name]) if name in there.folders else self._say(404, {"message": "no folder"})
        elif self.path.startswith("/api/dashboards/uid/"):
            found = there.dashboards.get(name)
            self._say(200, found) if found else self._say(404, {"message": "Dashboard not found"})
        else:
            self._say(500, {"message": f"the stand-in does not know {self.path}"})

    def do_POST(self) -> None:
        there = self.server
        if self._is_stranger():
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not there.may_write:
            self._say(403, {"message": "Access denied"})
        elif self.path == "/api/folders":
            there.folders[body["uid"]] = body
            self._say(200, body)
        elif self.path == "/api/dashboards/db":
            board = body["dashboard"]
            before = there.dashboards.get(board["uid"], {"dashboard": {"version": 0}})
            version = before["dashboard"]["version"] + 1
            kept = {**board, "id": 1 + len(there.dashboards), "version": version}
            there.dashboards[board["uid"]] = {"dashboard": kept, "meta": {"folderUid": body["folderUid"]}}
            self._say(200, {"status": "success", "uid": board["uid"], "version": version})
        else:
            self._say(500, {"message": f"the stand-in does not know {self.path}"})

    def _is_stranger(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.headers["Authorization"] == f"Bearer {TOKEN}":
            return False
        self._say(401, {"message": "Invalid API key"})
        return True

    def _say(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def grafana() -> Iterator[StandIn]:
    server = StandIn()
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


def test_folder_and_dashboards_are_made_and_the_second_time_nothing(grafana: StandIn, token: Path) -> None:
    first = publish(grafana.url, token)
    asked = len(grafana.asked)
    second = publish(grafana.url, token)

    assert first.done == ["made folder vitalloom", *(f"made vitalloom-{name}" for name in DASHBOARDS)]
    assert second.done == []
    assert second.same == [f"vitalloom-{name}" for name in DASHBOARDS]
    assert not [one for one in grafana.asked[asked:] if one.startswith("POST")]
    assert {one["meta"]["folderUid"] for one in grafana.dashboards.values()} == {"vitalloom"}


def test_what_somebody_changed_there_is_named_and_replaced(grafana: StandIn, token: Path) -> None:
    publish(grafana.url, token)
    grafana.dashboards["vitalloom-ward"]["dashboard"]["title"] = "mine"
    del grafana.dashboards["vitalloom-patient"]

    assert differences(grafana.url, token) == ["vitalloom-ward is different", "vitalloom-patient is missing"]
    assert publish(grafana.url, token).done == ["replaced vitalloom-ward", "made vitalloom-patient"]
    assert differences(grafana.url, token) == []
    assert grafana.dashboards["vitalloom-ward"]["dashboard"]["version"] == 2


def test_dashboards_that_come_from_files_there_are_left_alone(grafana: StandIn, token: Path) -> None:
    publish(grafana.url, token)
    grafana.dashboards["vitalloom-ward"]["dashboard"]["title"] = "older"
    grafana.dashboards["vitalloom-ward"]["meta"]["provisioned"] = True

    with pytest.raises(GrafanaRefused, match="vitalloom-ward: it comes from files there"):
        publish(grafana.url, token)


def test_a_token_that_grafana_does_not_know(grafana: StandIn, token: Path) -> None:
    token.write_text("another", encoding="utf-8")

    with pytest.raises(GrafanaRefused, match="does not know this token; make one in Grafana"):
        publish(grafana.url, token)


def test_a_token_that_may_only_look(grafana: StandIn, token: Path) -> None:
    grafana.may_write = False

    with pytest.raises(GrafanaRefused, match=r"folder vitalloom: this token may not do that.*role Editor"):
        publish(grafana.url, token)


def test_a_grafana_without_the_data_source(grafana: StandIn, token: Path) -> None:
    grafana.sources.clear()

    with pytest.raises(GrafanaRefused, match="there is none with the uid vitalloom; provision it"):
        publish(grafana.url, token)
    assert grafana.dashboards == {}


def test_a_grafana_that_is_not_there(grafana: StandIn, token: Path) -> None:
    with pytest.raises(GrafanaRefused, match=r"it does not answer .*; is it up\?"):
        publish("http://127.0.0.1:9", token)


@pytest.mark.parametrize(("url", "said"), [("grafana", "is no address of a Grafana"), ("ftp://x", "is no address")])
def test_an_address_that_is_none(token: Path, url: str, said: str) -> None:
    with pytest.raises(DashboardsError, match=said):
        publish(url, token)


def test_a_token_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DashboardsError, match="the token of Grafana cannot be read"):
        publish("http://127.0.0.1:3000", tmp_path / "none")


def test_the_commands_say_what_they_did(grafana: StandIn, token: Path, tmp_path: Path) -> None:
    from dashboards.commands import dashboards as group

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(group, [*arguments])

    there = ("--url", grafana.url, "--token-file", str(token))
    assert "vitalloom-ward is missing" in run("check", *there).output
    assert "made vitalloom-ward" in run("publish", *there).output
    assert "as it should be: vitalloom-ward" in run("publish", *there).output
    assert run("check", *there).exit_code == 0
    assert "written: grafana/ward.json" in run("build", "--into", str(tmp_path)).output
    assert "as the code makes them" in run("check", "--into", str(tmp_path)).output
    assert "dashboards" in vitalloom.COMMANDS
