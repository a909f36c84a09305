"""Simulated phone of the demo: receives notifications of the desk by webhook and shows them."""

import json
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import msgspec

MAX_BODY_BYTES: Final = 64 * 1024
_ALARM: Final = re.compile(r"\bAlarm ([0-9a-f]{4,})\b")


class PhoneMessage(msgspec.Struct, kw_only=True):
    """One notification."""

    at: float  # seconds since the epoch
    title: str
    text: str

    @property
    def alarm(self) -> str:
        """Alarm id in the text; empty if there is none."""
        found = _ALARM.search(self.text)
        return found[1] if found else ""

    def line(self) -> str:
        return f"{time.strftime('%H:%M:%S', time.localtime(self.at))}  {self.title}  {self.text}".strip()


def messages(file: Path) -> list[PhoneMessage]:
    """The received notifications, oldest first."""
    if not file.exists():
        return []
    lines = file.read_bytes().splitlines()
    return [msgspec.json.decode(one, type=PhoneMessage) for one in lines if one.endswith(b"}")]


def run(host: str, port: int, file: Path) -> int:
    """The command `vitalloom site phone`: run until SIGINT or SIGTERM."""
    lock = threading.Lock()

    class PhoneHandler(BaseHTTPRequestHandler):
        timeout = 5

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= MAX_BODY_BYTES:
                self.send_error(413)
                return
            one = _read(self.rfile.read(length))
            with lock, file.open("ab") as out:
                out.write(msgspec.json.encode(one) + b"\n")
            sys.stdout.write(f"{one.line()}\n")
            sys.stdout.flush()
            self.send_response(204)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok\n")

        def log_message(self, *_: Any) -> None:
            """No access log: the output is the notifications."""

    server = ThreadingHTTPServer((host, port), PhoneHandler)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.2)
    server.server_close()
    return 0


def _read(body: bytes) -> PhoneMessage:
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    if not isinstance(content, dict):
        content = {}
    text = str(content.get("message") or content.get("text") or content.get("body") or "")
    return PhoneMessage(at=time.time(), title=str(content.get("title") or ""), text=" ".join(text.split()))
