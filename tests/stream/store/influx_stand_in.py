"""A stand-in for InfluxDB's HTTP interface: takes lines, refuses an empty write as InfluxDB 2.7 does, finds no rows."""

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from stream.config import InfluxConfig


class InfluxStandIn(ThreadingHTTPServer):
    """What InfluxDB was asked.

    Args:
        rows: annotated CSV that every query is answered with.
        refused: a write with this text in it is answered with 422.
    """

    def __init__(self, folder: Path, *, rows: str = "", refused: str | None = None) -> None:
        self.written: list[tuple[str, str]] = []  # bucket and body, as they came
        self.queries: list[str] = []
        self.tokens: list[str] = []  # of each request
        self.rows = rows
        self.refused = refused
        super().__init__(("127.0.0.1", 0), _Answer)
        token = folder / "token"
        token.write_text("of-tests-only", encoding="utf-8")
        self.config = InfluxConfig(
            url=f"http://127.0.0.1:{self.server_address[1]}", org="test", token_file=token, bucket="vitals"
        )


class _Answer(BaseHTTPRequestHandler):
    server: InfluxStandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked = urlsplit(self.path)
        if asked.path == "/api/v2/query":
            self.server.queries.append(json.loads(body)["query"])
            self._say(200, self.server.rows.encode(), "text/csv")
            return
        text = body.decode()
        self.server.written.append((parse_qs(asked.query)["bucket"][0], text))
        if not text.strip():
            self._say(400, b'{"code": "invalid", "message": "writing requires points"}', "application/json")
        elif self.server.refused is not None and self.server.refused in text:
            self._say(422, b'{"code": "unprocessable entity", "message": "not this"}', "application/json")
        else:
            self._say(204, b"", "application/json")

    def _say(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def influx_stand_in(folder: Path, *, rows: str = "", refused: str | None = None) -> Iterator[InfluxStandIn]:
    """A stand-in that answers on loopback until the block ends."""
    with InfluxStandIn(folder, rows=rows, refused=refused) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="influx stand-in")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
