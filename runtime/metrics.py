"""What a process says of itself over HTTP: `/metrics` for Prometheus, `/ready` while there is progress, `/live`.

A thread of its own answers, so that a process whose event loop hangs can still say so. Nothing is counted here: when
somebody asks, the counters that a process keeps anyway are read.
"""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from runtime.errors import CannotListen
from runtime.logs import get
from runtime.version import __version__

if TYPE_CHECKING:
    from prometheus_client import Metric

STALLED_S: Final = 10.0
"""An event loop that has not turned for so long is not ready."""
DEAD_S: Final = 60.0
"""And after this long whoever watches the process should start it anew."""

_PULSE_S: Final = 0.5
_PATIENCE_S: Final = 5.0  # with whoever asks
_MOST_AT_ONCE: Final = 16
_PREFIX: Final = "vitalloom_"

_log = get(__name__)


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a process says how it is. A process that does so by default has a subclass with its own address."""

    listen: str = ""
    """``host:port``; port 0: one that is free. Empty: nowhere. Whoever reaches it may read it."""

    def __post_init__(self) -> None:
        if self.listen:
            address(self.listen)


class Figure(NamedTuple):
    """A number beyond the base set."""

    name: str  # in base units, without our prefix: ``database_waiting_seconds``
    about: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()  # of few values that we know beforehand: never a device, never a patient
    grows: bool = False  # a counter: its name ends in ``_total`` by itself


class Figures(msgspec.Struct, kw_only=True):
    """The base set: what every process can say of itself, since its start."""

    received: int = 0  # frames, records or requests that came in
    sent: int = 0  # what it handed on
    errors: Mapping[str, int] = {}  # by stage: what failed, and was or will be tried again
    discarded: Mapping[str, int] = {}  # by reason: what it will not try again
    lag: Mapping[str, int] = {}  # by partition or queue: what waits for it
    progress_age_s: float | None = None  # since it last did something, or saw that there was nothing to do; None: never
    more: tuple[Figure, ...] = ()


class Watched(Protocol):
    """A process, seen from another thread: both methods only read, and wait for nothing."""

    def figures(self) -> Figures: ...

    def trouble(self) -> str:
        """Why there is no progress, in one line; empty while there is, and while there is nothing to do."""
        ...


def address(text: str) -> tuple[str, int]:
    """``127.0.0.1:9101`` as host and port.

    Raises:
        ValueError: it is not that; the message says what it should be.
    """
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) <= 65_535):
        raise ValueError(f"listen = {text!r} is not host:port, for instance 127.0.0.1:9101; an empty one: nowhere")
    return host.removeprefix("[").removesuffix("]"), int(port)


@contextlib.asynccontextmanager
async def serving(config: HttpConfig, *, process: str, watched: Watched) -> AsyncIterator[str]:
    """Answer for as long as the block lasts, whatever its event loop does; yields the URL, empty: nowhere.

    Args:
        process: its name, as in ``vitalloom worker``.

    Raises:
        CannotListen: somebody else has the port.
    """
    if not config.listen:
        yield ""
        return
    pulse = _Pulse()
    server = _listening(config.listen, process, _Answers(process, watched, pulse))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="http", daemon=True)
    beating = asyncio.create_task(pulse.beat(), name="pulse")
    thread.start()
    try:
        _log.info("says how it is", url=server.url, paths="/metrics /ready /live")
        yield server.url
    finally:
        beating.cancel()
        server.shutdown()
        server.server_close()
        thread.join()


class _Pulse:
    """Whether the event loop turns, which it can say only while it does."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    async def beat(self) -> None:
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(_PULSE_S)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._at


class _Answers:
    """Path by path: a status, a content type and a body."""

    def __init__(self, process: str, watched: Watched, pulse: _Pulse) -> None:
        # Here and not above: whoever serves nothing, as an edge by default, does not pay for it.
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

        self._process = process
        self._watched = watched
        self._pulse = pulse
        self._content_type = CONTENT_TYPE_LATEST
        self._registry = CollectorRegistry()
        self._generate = generate_latest
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def to(self, path: str) -> tuple[int, str, bytes] | None:
        """None: nothing is there."""
        match path.partition("?")[0]:
            case "/metrics":
                return 200, self._content_type, self._generate(self._registry)
            case "/ready":
                return _verdict(self._trouble())
            case "/live":
                return _verdict(self._stalled(DEAD_S))
            case _:
                return None

    def collect(self) -> "Iterator[Metric]":
        """As prometheus_client asks for it."""
        figures = self._watched.figures()
        if figures.progress_age_s is not None and (age_s := self._pulse.age_s) > STALLED_S:
            figures.progress_age_s = max(figures.progress_age_s, age_s)
        return families(figures, process=self._process, ready=not self._trouble())

    def describe(self) -> "Iterator[Metric]":
        """Nothing beforehand: the registry would ask for all of it otherwise."""
        return iter(())

    def _trouble(self) -> str:
        return self._stalled(STALLED_S) or self._watched.trouble()

    def _stalled(self, after_s: float) -> str:
        age_s = self._pulse.age_s
        return f"the event loop has not turned for {age_s:.0f} s" if age_s > after_s else ""


def families(figures: Figures, *, process: str, ready: bool) -> "Iterator[Metric]":
    """Figures as Prometheus has them."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def family(name: str, about: str, rows: Mapping[tuple[str, ...], float], *labels: str, grows: bool) -> "Metric":
        made = (CounterMetricFamily if grows else GaugeMetricFamily)(_PREFIX + name, about, labels=labels)
        for values, number in rows.items():
            made.add_metric(values, number)
        return made

    who: dict[tuple[str, ...], float] = {(process, __version__): 1}
    yield family("build_info", "Which vitalloom this is.", who, "process", "version", grows=False)
    yield family("ready", "1 while there is progress or nothing to do, else 0.", {(): float(ready)}, grows=False)
    for name, about, count in (
        ("received", "Frames, records or requests that came in.", figures.received),
        ("sent", "What was handed on.", figures.sent),
    ):
        yield family(name, about, {(): count}, grows=True)
    for name, about, label, table, grows in (
        ("errors", "What failed, and is tried again.", "stage", figures.errors, True),
        ("discarded", "What is not tried again.", "reason", figures.discarded, True),
        ("lag_records", "What waits.", "partition", figures.lag, False),
    ):
        yield family(name, about, {(key,): number for key, number in table.items()}, label, grows=grows)
    if figures.progress_age_s is not None:
        about = "Since something was done, or it was seen that there is nothing to do."
        yield family("progress_age_seconds", about, {(): figures.progress_age_s}, grows=False)
    rows: dict[str, list[Figure]] = {}
    for one in figures.more:
        rows.setdefault(one.name, []).append(one)
    for name, these in rows.items():
        labels = tuple(key for key, _ in these[0].labels)
        values = {tuple(text for _, text in one.labels): one.value for one in these}
        yield family(name, these[0].about, values, *labels, grows=these[0].grows)


def _verdict(trouble: str) -> tuple[int, str, bytes]:
    text = " ".join(trouble.split()) or "ok"
    return (503 if trouble else 200), "text/plain; charset=utf-8", f"{text}\n".encode()


class _Server(ThreadingHTTPServer):
    """One thread for each question, none of which is waited for at the end."""

    request_queue_size = 16

    def __init__(self, host: str, port: int, answers: _Answers) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self.answers = answers
        self._room = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__((host, port), _Handler)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Whoever asks and asks must not take the process's threads and files."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, *_: Any) -> None:
        """Whoever asked gets no answer; the process goes on."""
        error = sys.exception()
        if not isinstance(error, OSError):  # it went away, or was too slow
            _log.error("a question could not be answered", problem=repr(error))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "vitalloom"
    sys_version = ""
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        found = self.server.answers.to(self.path)
        status, kind, body = found or (404, "text/plain; charset=utf-8", b"there are /metrics, /ready and /live\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: somebody asks every few seconds."""


def _listening(listen: str, process: str, answers: _Answers) -> _Server:
    try:
        return _Server(*address(listen), answers)
    except OSError as error:
        raise CannotListen(listen, process, error.strerror or str(error)) from error
