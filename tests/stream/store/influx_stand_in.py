"""A stand-in for InfluxDB's HTTP interface: takes lines, refuses an empty write as InfluxDB 2.7 does, finds no rows.

It is not InfluxDB: which lines it refuses, and with which status, is what a test says. Tests that need the answers of
the database itself use a real one.
"""

import contextlib
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from stream.config import InfluxConfig

Refusal = Callable[[list[str]], int | None]
"""The status that a write of these lines, or a query of this one text, is refused with; None: it is accepted."""
_CODES = {400: "invalid", 401: "unauthorized", 404: "not found", 413: "request too large", 422: "unprocessable entity"}


class InfluxStandIn(ThreadingHTTPServer):
    """What InfluxDB was asked.

    Args:
        rows: annotated CSV that every query is answered with.
        refused: a write with this text in it is answered with 422.
        refusal: the status of a write that is refused.
        query_refusal: the status of a query that is refused.
        keeps_others: of a write that is refused with 422 the lines that alone would be accepted are kept, as InfluxDB
            does with lines beyond the retention.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rows: str = "",
        refused: str | None = None,
        refusal: Refusal | None = None,
        query_refusal: Refusal | None = None,
        keeps_others: bool = False,
    ) -> None:
        self.tokens: list[str] = []  # of each request
        self.written: list[tuple[str, str]] = []  # bucket and body, as they came
        self.kept: list[tuple[str, str]] = []  # bucket and line, in the order in which they were first accepted
        self.queries: list[str] = []
        self.answers: Callable[[str], str] = lambda _: rows
        self.refusal = refusal or (lambda lines: 422 if refused is not None and refused in "\n".join(lines) else None)
        self.query_refusal = query_refusal or (lambda _: None)
        self.keeps_others = keeps_others
        self.message = "not this"
        super().__init__(("127.0.0.1", 0), _Answer)
        token = folder / "token"
        token.write_text("of-tests-only", encoding="utf-8")
        self.config = InfluxConfig(
            url=f"http://127.0.0.1:{self.server_address[1]}", org="test", token_file=token, bucket="vitals"
        )

    def keep(self, bucket: str, lines: list[str]) -> None:
        known = set(self.kept)
        self.kept += [(bucket, line) for line in dict.fromkeys(lines) if (bucket, line) not in known]


class _Answer(BaseHTTPRequestHandler):
    server: InfluxStandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._say(200, b'{"status": "pass"}', "application/json")

    def do_POST(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked = urlsplit(self.path)
        if asked.path == "/api/v2/query":
            query = json.loads(body)["query"]
            self.server.queries.append(query)
            status = self.server.query_refusal([query])
            if status is not None:
                self._refuse(status)
                return
            self._say(200, self.server.answers(query).encode(), "text/csv")
            return
        text, bucket = body.decode(), parse_qs(asked.query)["bucket"][0]
        lines = text.split("\n")
        self.server.written.append((bucket, text))
        if not text.strip():
            self._say(400, b'{"code": "invalid", "message": "writing requires points"}', "application/json")
            return
        status = self.server.refusal(lines)
        if status is None:
            self.server.keep(bucket, lines)
            self._say(204, b"", "application/json")
            return
        if status == 422 and self.server.keeps_others:
            self.server.keep(bucket, [line for line in lines if self.server.refusal([line]) is None])
        self._refuse(status)

    def _refuse(self, status: int) -> None:
        said = {"code": _CODES.get(status, "internal error"), "message": self.server.message}
        self._say(status, json.dumps(said).encode(), "application/json")

    def _say(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def influx_stand_in(folder: Path, **wishes: object) -> Iterator[InfluxStandIn]:
    """A stand-in that answers on loopback until the block ends; arguments as of `InfluxStandIn`."""
    with InfluxStandIn(folder, **wishes) as server:  # type: ignore[arg-type]
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="influx stand-in")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
