"""Where notifications arrive in tests: a webhook that fails, hangs or answers late, and an SMTP server. On loopback."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from simulators.broker import free_port
from tests.patience import PATIENCE_S


class Webhook:
    """A service that takes messages, or does something else with them.

    `mood` may be changed at any time: `takes`, `fails` (500), `hangs` (until it is closed) or `late` (after `late_s`).
    """

    def __init__(self, mood: str = "takes", *, late_s: float = 1.0) -> None:
        self.mood = mood
        self.late_s = late_s
        self.taken: list[dict[str, Any]] = []
        self.tried: list[float] = []  # monotonic
        self._closed = threading.Event()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.tried.append(time.monotonic())
                status = webhook._answer(content)
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    return  # whoever asked has gone

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """Whoever asked has gone."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """As Apprise wants it, with a secret that nobody may see; it would wait longer than any test."""
        return f"json://127.0.0.1:{self.port}/s3cr3t?rto=60"

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.taken]

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, content: dict[str, Any]) -> int:
        mood = self.mood
        if mood == "fails":
            return 500
        if mood == "hangs":
            self._closed.wait()
            return 500
        if mood == "late":
            self._closed.wait(self.late_s)
        self.taken.append(content)
        return 200


@contextmanager
def webhooks(*moods: str) -> Iterator[list[Webhook]]:
    """As many as there are moods."""
    made = [Webhook(mood) for mood in moods]
    try:
        yield made
    finally:
        for one in made:
            one.close()
        for thread in threading.enumerate():
            if thread.name.startswith("to "):  # of those who still wait for one that hung
                thread.join(PATIENCE_S)


class Mail:
    """An SMTP server that keeps what it is given; `refuses` while it is told to."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.refuses = False
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        if self.refuses:
            return "451 not now"
        self.messages.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?smtp=127.0.0.1&from=desk@ward.example&to=anna@ward.example"

    def __enter__(self) -> "Mail":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
