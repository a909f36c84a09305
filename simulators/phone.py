"""A demonstration phone: receives the alarm desk's messages by webhook, and shows them on a page and on the terminal.

The page shows one phone for each person. With an `Answering` it also shows how an alarm stands now, and can answer it.
"""

import html
import json
import re
import secrets
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote

import msgspec

MAX_BODY_BYTES: Final = 64 * 1024
SHOWN: Final = 20
"""Messages that the page shows of each person."""

_ALARM: Final = re.compile(r"\bAlarm ([0-9a-f]{4,})\b")
_REFRESH_S: Final = 2
_KEPT: Final = 500  # messages, all people together
_PERSON: Final = re.compile(r"[\w.-]{1,64}")


def _machine_time(at_s: float) -> str:
    return time.strftime("%H:%M:%S %Z", time.localtime(at_s))


class PhoneMessage(msgspec.Struct, kw_only=True):
    """One message."""

    at: float  # when it came, in seconds since the epoch
    title: str
    text: str
    body: str = ""  # the text with its line breaks
    to: str = ""  # the person, from the path of the webhook; empty: everyone has the same phone

    @property
    def alarm(self) -> str:
        """The short id of the alarm; empty if the message names none, or several."""
        found = _ALARM.search(self.text)
        return found[1] if found else ""

    def line(self) -> str:
        return f"{_machine_time(self.at)}  {self.title}  {self.text}".strip()


class AlarmNow(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm as it stands now."""

    alarm_id: str
    revision: int  # of the text that is shown: what got worse afterwards is not answered
    text: str
    answered_by: str = ""
    is_calling: bool = False


class Answering(Protocol):
    """Answers alarms for the people whose phones are shown. Called from the threads of the phone's server."""

    def alarms(self) -> Mapping[str, AlarmNow] | None:
        """Alarms that are open, by short id; None if the desk does not answer."""
        ...

    def answer(self, person: str, alarm_id: str, revision: int) -> str:
        """Acknowledge. Returns why that failed; empty if it did not."""
        ...


class Phone:
    """The phones of a demonstration, on one port. Use as a context manager.

    Args:
        port: 0: one that is free.
        on_message: called for every message, from a thread.
        answering: None: the page names the command that answers.
        people: names and roles, in the order of the page.
        now_s: seconds since the epoch; those of a ward, where its time is simulated.
        time_text: writes such a time; the same clock as in the messages, so that the page has one time.

    Raises:
        OSError: the port is in use.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        on_message: Callable[[PhoneMessage], None],
        answering: Answering | None = None,
        people: Mapping[str, str] | None = None,
        messages: Iterable[PhoneMessage] = (),
        now_s: Callable[[], float] = time.time,
        time_text: Callable[[float], str] = _machine_time,
    ) -> None:
        self.messages = deque(messages, maxlen=_KEPT)
        self.people = dict(people or {})
        self.answering = answering
        self.problem = ""  # of the last answer, until the page has shown it
        self.form_key = secrets.token_urlsafe(16)  # another site's page cannot press the button
        self.now_s = now_s
        self._time_text = time_text
        self._on_message = on_message
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((host, port), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="phone", daemon=True)
        self.url = f"http://{host}:{self._server.server_address[1]}/"

    def __enter__(self) -> "Phone":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def address_of(self, person: str) -> str:
        """Where Apprise reaches a person's phone."""
        return f"{self.url.replace('http', 'json', 1)}{person}"

    def receive(self, message: PhoneMessage) -> None:
        """Show a message."""
        with self._lock:
            self.messages.append(message)
            self._on_message(message)

    def page(self) -> str:
        """The page, as HTML."""
        problem, self.problem = self.problem, ""
        now = None if self.answering is None else self.answering.alarms()
        with self._lock:
            messages = list(self.messages)
        people = self.people or {one.to: "" for one in messages} or {"": ""}
        phones = [
            self._phone(person, role, [one for one in messages if one.to in (person, "")], now)
            for person, role in people.items()
        ]
        trouble = f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
        return _PAGE.format(refresh=_REFRESH_S, problem=trouble, phones="".join(phones))

    def _phone(self, person: str, role: str, messages: list[PhoneMessage], now: Mapping[str, AlarmNow] | None) -> str:
        name = " – ".join(filter(None, (person, role))) or "phone"
        shown = "".join(self._card(person, one, now) for one in reversed(messages[-SHOWN:]))
        empty = "<p>No message.</p>"
        return f"<section><h2>{html.escape(name)}</h2>{shown or empty}</section>"

    def _card(self, person: str, message: PhoneMessage, now: Mapping[str, AlarmNow] | None) -> str:
        at = html.escape(self._time_text(message.at))
        level = "high" if message.title.startswith("***") else "medium" if message.title.startswith("**") else "low"
        body = html.escape(message.body or message.text)
        return (
            f'<article class="{level}"><h3>{html.escape(message.title)}</h3><time>{at}</time>'
            f'<p class="body">{body}</p>{self._state(person, message, now)}</article>'
        )

    def _state(self, person: str, message: PhoneMessage, now: Mapping[str, AlarmNow] | None) -> str:
        if not message.alarm:
            return ""
        if self.answering is None:
            return f"<p>To answer: <code>vitalloom alarms ack {message.alarm}</code></p>"
        if now is None:
            return '<p class="state">The alarm desk does not answer.</p>'
        alarm = now.get(message.alarm)
        if alarm is None:
            return '<p class="state">This alarm is over.</p>'
        if alarm.answered_by:
            return f'<p class="state">Answered by {html.escape(alarm.answered_by)}. Calling has stopped.</p>'
        state = "" if alarm.is_calling else '<p class="state">Silenced.</p>'
        fields = {"key": self.form_key, "person": person, "alarm": alarm.alarm_id, "revision": str(alarm.revision)}
        hidden = "".join(f'<input type="hidden" name="{name}" value="{html.escape(v)}">' for name, v in fields.items())
        return (
            f'<p class="state">Now: {html.escape(alarm.text)}</p>{state}'
            f'<form method="post" action="/answer">{hidden}<button>I look after it</button></form>'
        )


def messages(file: Path) -> list[PhoneMessage]:
    """The messages that `run` wrote to a file, oldest first."""
    if not file.exists():
        return []
    lines = file.read_bytes().splitlines()
    return [msgspec.json.decode(one, type=PhoneMessage) for one in lines if one.endswith(b"}")]


def run(host: str, port: int, file: Path) -> int:
    """The command `vitalloom site phone`: until SIGINT or SIGTERM."""

    def keep(message: PhoneMessage) -> None:
        with file.open("ab") as out:
            out.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.write(f"{message.line()}\n")
        sys.stdout.flush()

    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    with Phone(host, port, on_message=keep, messages=messages(file)):
        told.wait()
    return 0


def _handler_of(phone: Phone) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= MAX_BODY_BYTES:
                self.send_error(413)
                return
            body = self.rfile.read(length)
            path = unquote(self.path.partition("?")[0]).strip("/")
            if path == "answer" and phone.answering is not None:
                self._answer(phone.answering, body)
                return
            phone.receive(_read(body, path if _PERSON.fullmatch(path) else "", phone.now_s()))
            self.send_response(204)
            self.end_headers()

        def do_GET(self) -> None:
            body = phone.page().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header(
                "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
            )
            self.end_headers()
            self.wfile.write(body)

        def _answer(self, answering: Answering, body: bytes) -> None:
            fields = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
            revision = fields.get("revision", "")
            if fields.get("key") != phone.form_key or not revision.lstrip("-").isdecimal():
                self.send_error(403)
                return
            phone.problem = answering.answer(fields.get("person", ""), fields.get("alarm", ""), int(revision))
            self.send_response(303)
            self.send_header("Location", "/")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Messages are shown; requests are not."""

    return Handler


def _read(body: bytes, to: str, at_s: float) -> PhoneMessage:
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    text = str(told.get("message") or told.get("text") or told.get("body") or "")
    title = str(told.get("title") or "")
    return PhoneMessage(at=at_s, title=title, text=" ".join(text.split()), body=text.strip(), to=to)


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{refresh}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Demonstration phones</title><style>
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 1.5rem; background: #eceff1; color: #111 }}
main {{ display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start }}
section {{ flex: 1 1 18rem; max-width: 24rem; min-height: 24rem; padding: 1rem; background: #fff;
  border: .6rem solid #263238; border-radius: 1.6rem }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1.05rem; margin: 0 0 .8rem; text-align: center }}
article {{ border-left: .4rem solid #0097a7; background: #f5f7f8; padding: .5rem .8rem; margin-bottom: .8rem }}
article.high {{ border-color: #c62828 }} article.medium {{ border-color: #f9a825 }}
h3 {{ font-size: 1rem; margin: 0 }} time {{ color: #555; font-size: .85rem }} article p {{ margin: .4rem 0 }}
.body {{ white-space: pre-line }}
.state {{ font-weight: 600 }} .problem {{ background: #ffebee; padding: .6rem }}
button {{ font: inherit; padding: .4rem 1rem; border: 0; border-radius: .4rem; background: #1b5e20; color: #fff }}
code {{ background: #e0e0e0; padding: .1rem .3rem }}
</style></head><body><h1>Demonstration phones: what the alarm desk sends to people</h1>{problem}
<main>{phones}</main>
<p>Simulated patients. Decision support and secondary notification. Not a certified medical device.</p></body></html>
"""
