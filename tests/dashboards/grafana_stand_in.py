"""A stand-in for Grafana's HTTP API, as far as publishing uses it. It is not Grafana.

It answers as Grafana does, where that surprises:

- A token of an Editor that asks for a folder uid that does not exist gets 403, one of an Admin gets 404.
- A folder whose title exists already cannot be created: 409, or 412 in some versions (`folder_conflict`).
- A folder that alerting makes for rules from files has the title of `folder:` and a random uid.
- An update whose `version` is not the stored one gets 412 with the status `version-mismatch`.
- A dashboard whose title exists in the folder under another uid gets 412 with the status `name-exists`; with
  `overwrite` it would replace that dashboard.

The first three were seen in Grafana 9.3, with 409; the others follow the documentation of its HTTP API.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EDITOR = "a-token-of-an-editor"
ADMIN = "a-token-of-an-admin"
VIEWER = "a-token-of-a-viewer"
_ROLES = {EDITOR: "Editor", ADMIN: "Admin", VIEWER: "Viewer"}


class GrafanaStandIn(ThreadingHTTPServer):
    """Folders, dashboards and data sources in memory."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.hidden_folders: set[str] = set()
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.sources = {"vitalloom"}
        self.folder_conflict = 409
        self.before_write: Callable[[str], None] = lambda _: None  # called with the path of each POST
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def alerting_makes_folder(self, title: str, uid: str = "Zk3hT9nVz") -> None:
        """What the provisioning of alert rules does when no folder has that title."""
        self.folders[uid] = {"id": len(self.folders) + 1, "uid": uid, "title": title}


@contextmanager
def served_stand_in() -> Iterator[GrafanaStandIn]:
    """The stand-in on a free port."""
    server = GrafanaStandIn()
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    try:
        yield server
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: GrafanaStandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        name = path.rsplit("/", 1)[1]
        if (role := self._role()) is None:
            return
        if path.startswith("/api/datasources/uid/"):
            found = name in self.server.sources
            self._respond(200 if found else 404, {"uid": name, "message": "Data source not found"})
        elif path == "/api/folders":
            hidden = self.server.hidden_folders
            self._respond(200, [one for uid, one in self.server.folders.items() if uid not in hidden])
        elif path.startswith("/api/folders/"):
            self._respond_folder(name, role)
        elif path.startswith("/api/dashboards/uid/"):
            board = self.server.dashboards.get(name)
            self._respond(200, board) if board else self._respond(404, {"message": "Dashboard not found"})
        else:
            self._respond(500, {"message": f"the stand-in does not support {path}"})

    def do_POST(self) -> None:
        if (role := self._role()) is None:
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.before_write(self.path)
        if role == "Viewer":
            self._respond(403, {"message": "You'll need additional permissions to perform this action."})
        elif self.path == "/api/folders":
            self._create_folder(body)
        elif self.path == "/api/dashboards/db":
            self._save_dashboard(body)
        else:
            self._respond(500, {"message": f"the stand-in does not support {self.path}"})

    def _respond_folder(self, uid: str, role: str) -> None:
        found = self.server.folders.get(uid)
        if found is not None:
            self._respond(200, found)
        elif role == "Admin":
            self._respond(404, {"message": "folder not found", "status": "not-found"})
        else:
            self._respond(403, {"message": "You'll need additional permissions. Permissions needed: folders:read"})

    def _create_folder(self, body: dict[str, Any]) -> None:
        folders = self.server.folders
        if body["uid"] in folders or body["title"] in {one["title"] for one in folders.values()}:
            said = "a folder or dashboard in the general folder with the same name already exists"
            self._respond(self.server.folder_conflict, {"message": said})
            return
        folders[body["uid"]] = {"id": len(folders) + 1, "uid": body["uid"], "title": body["title"]}
        self._respond(200, folders[body["uid"]])

    def _save_dashboard(self, body: dict[str, Any]) -> None:
        boards, board, folder = self.server.dashboards, body["dashboard"], body["folderUid"]
        before = boards.get(board["uid"])
        namesakes = [
            uid
            for uid, one in boards.items()
            if uid != board["uid"]
            and one["meta"]["folderUid"] == folder
            and one["dashboard"]["title"] == board["title"]
        ]
        if folder not in self.server.folders:
            self._respond(400, {"message": "folder not found"})
        elif namesakes and not body["overwrite"]:
            said = "A dashboard with the same name in the folder already exists"
            self._respond(412, {"status": "name-exists", "message": said})
        elif before and not body["overwrite"] and board.get("version") != before["dashboard"]["version"]:
            said = "The dashboard has been changed by someone else"
            self._respond(412, {"status": "version-mismatch", "message": said})
        else:
            for uid in namesakes:
                del boards[uid]
            version = (before["dashboard"]["version"] if before else 0) + 1
            kept = {**board, "id": len(boards) + 1, "version": version}
            boards[board["uid"]] = {"dashboard": kept, "meta": {"folderUid": folder}}
            self._respond(200, {"status": "success", "uid": board["uid"], "version": version})

    def _role(self) -> str | None:
        self.server.requests.append(f"{self.command} {self.path}")
        role = _ROLES.get((self.headers["Authorization"] or "").removeprefix("Bearer "))
        if role is None:
            self._respond(401, {"message": "Invalid API key"})
        return role

    def _respond(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
