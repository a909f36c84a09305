"""Health and metrics endpoint of a process: `/ready`, `/live`, and `/metrics` for Prometheus.

A separate thread answers, so that a process whose event loop hangs can still report it. Nothing is counted here: each
request reads the counters that the process keeps for itself.
"""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from runtime.end_dates import EndDate, EndDateWatch, urgency
from runtime.errors import CannotListen
from runtime.logs import get
from runtime.version import __version__

if TYPE_CHECKING:
    from prometheus_client import Metric

STALLED_S: Final = 10.0
"""A process whose event loop has been blocked for this long is not ready."""
DEAD_S: Final = 60.0
"""A process whose event loop has been blocked for this long is not live: it should be restarted."""

_PULSE_S: Final = 0.5
_CLIENT_TIMEOUT_S: Final = 5.0
_MAX_REQUESTS: Final = 16
_PREFIX: Final = "vitalloom_"
NO_END_DATES: Final = EndDateWatch()

_log = get(__name__)


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address of the health and metrics endpoint. Processes with a default address have a subclass."""

    listen: str = ""
    """``host:port``; port 0: any free port; empty: disabled. Needs no authentication."""

    def __post_init__(self) -> None:
        if self.listen:
            address(self.listen)


class Figure(NamedTuple):
    """One metric beyond the base set."""

    name: str  # in base units, without the prefix `vitalloom_`: ``database_waiting_seconds``
    about: str
    value: float
    labels: tuple[
        tuple[str, str], ...
    ] = ()  # with few values that are known beforehand: never a device, never a patient
    grows: bool = False  # a counter: ``_total`` is appended to its name


class Figures(msgspec.Struct, kw_only=True):
    """The base set of metrics of every process, since its start."""

    received: int = 0  # frames, records or requests that came in
    sent: int = 0  # frames, records or answers that it passed on
    errors: Mapping[str, int] = {}  # by stage: operations that failed and are retried
    discarded: Mapping[str, int] = {}  # by reason: input that was given up, and is not retried
    lag: Mapping[str, int] = {}  # by partition or queue: records that wait to be processed
    progress_age_s: float | None = None  # since it last did work or found none to do; None: never
    more: tuple[Figure, ...] = ()


class HealthSource(Protocol):
    """What the endpoint reads from a process. Called in another thread: both methods only read and never block."""

    def figures(self) -> Figures: ...

    def trouble(self) -> str:
        """Why the process makes no progress, in one line; empty while it does or has nothing to do."""
        ...


def address(text: str) -> tuple[str, int]:
    """``127.0.0.1:9101`` as host and port.

    Raises:
        ValueError: `text` has another form; the message says what is expected.
    """
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) <= 65_535):
        raise ValueError(
            f"listen = {text!r} is not host:port, for instance 127.0.0.1:9101; use an empty text to disable it"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


@contextlib.asynccontextmanager
async def serving(
    config: HttpConfig, *, process: str, source: HealthSource, ends: EndDateWatch = NO_END_DATES
) -> AsyncIterator[str]:
    """Serve the endpoint while the block runs, even if the event loop hangs; yields its URL, empty if disabled.

    Args:
        process: name of the process, as in ``vitalloom worker``.
        source: where the endpoint reads health and metrics.
        ends: end dates of certificates and lists; what has ended is trouble, what ends soon is named.

    Raises:
        CannotListen: the port is in use, or the address is not of this machine.
    """
    if not config.listen:
        yield ""
        return
    pulse = _Pulse()
    server = _listening(config.listen, process, _Endpoint(process, source, pulse, ends))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="http", daemon=True)
    beating = asyncio.create_task(pulse.beat(), name="pulse")
    thread.start()
    try:
        _log.info("health endpoint listening", url=server.url, paths="/metrics /ready /live")
        yield server.url
    finally:
        beating.cancel()
        server.shutdown()
        server.server_close()
        thread.join()


class _Pulse:
    """Liveness of the event loop: the time since a periodic task in it last ran."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    async def beat(self) -> None:
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(_PULSE_S)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._at


class _Endpoint:
    """The three paths: a status, a content type and a body for each."""

    def __init__(self, process: str, source: HealthSource, pulse: _Pulse, ends: EndDateWatch) -> None:
        # Imported here: a process without the endpoint, like an edge by default, saves the memory.
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

        self._process = process
        self._source = source
        self._pulse = pulse
        self._ends = ends
        self._content_type = CONTENT_TYPE_LATEST
        self._registry = CollectorRegistry()
        self._generate = generate_latest
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def response_to(self, path: str) -> tuple[int, str, bytes] | None:
        """None: there is no such path."""
        match path.partition("?")[0]:
            case "/metrics":
                return 200, self._content_type, self._generate(self._registry)
            case "/ready":
                return _status(self._trouble(), self._ends.notes())
            case "/live":
                return _status(self._stalled(DEAD_S))
            case _:
                return None

    def collect(self) -> "Iterator[Metric]":
        """Called by prometheus_client for each scrape."""
        figures = self._source.figures()
        if figures.progress_age_s is not None and (age_s := self._pulse.age_s) > STALLED_S:
            figures.progress_age_s = max(figures.progress_age_s, age_s)
        figures.more = (*figures.more, *_end_date_figures(self._ends))
        return families(figures, process=self._process, ready=not self._trouble())

    def describe(self) -> "Iterator[Metric]":
        """Empty: otherwise the registry would call `collect` when this is registered."""
        return iter(())

    def _trouble(self) -> str:
        return self._stalled(STALLED_S) or self._source.trouble() or self._ends.trouble()

    def _stalled(self, after_s: float) -> str:
        age_s = self._pulse.age_s
        return f"the event loop has been blocked for {age_s:.0f} s" if age_s > after_s else ""


def families(figures: Figures, *, process: str, ready: bool) -> "Iterator[Metric]":
    """Figures as metric families of Prometheus."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def family(name: str, about: str, rows: Mapping[tuple[str, ...], float], *labels: str, grows: bool) -> "Metric":
        made = (CounterMetricFamily if grows else GaugeMetricFamily)(_PREFIX + name, about, labels=labels)
        for values, number in rows.items():
            made.add_metric(values, number)
        return made

    build: dict[tuple[str, ...], float] = {(process, __version__): 1}
    yield family("build_info", "Process name and version of vitalloom.", build, "process", "version", grows=False)
    yield family(
        "ready",
        "1 while the process makes progress or has nothing to do, otherwise 0.",
        {(): float(ready)},
        grows=False,
    )
    for name, about, count in (
        ("received", "Frames, records or requests received.", figures.received),
        ("sent", "Frames, records or answers passed on.", figures.sent),
    ):
        yield family(name, about, {(): count}, grows=True)
    for name, about, label, table, grows in (
        ("errors", "Operations that failed and are retried.", "stage", figures.errors, True),
        ("discarded", "Input that was discarded and is not retried.", "reason", figures.discarded, True),
        ("lag_records", "Records that wait to be processed.", "partition", figures.lag, False),
    ):
        yield family(name, about, {(key,): number for key, number in table.items()}, label, grows=grows)
    if figures.progress_age_s is not None:
        about = "Time since the process last did work or found none to do."
        yield family("progress_age_seconds", about, {(): figures.progress_age_s}, grows=False)
    rows: dict[str, list[Figure]] = {}
    for one in figures.more:
        rows.setdefault(one.name, []).append(one)
    for name, these in rows.items():
        labels = tuple(key for key, _ in these[0].labels)
        values = {tuple(text for _, text in one.labels): one.value for one in these}
        yield family(name, these[0].about, values, *labels, grows=these[0].grows)


def _status(trouble: str, notes: Sequence[str] = ()) -> tuple[int, str, bytes]:
    """A line with the reason or ``ok``; then a line for each thing that will end soon or could not be renewed."""
    lines = [trouble or "ok", *notes]
    text = "".join(f"{' '.join(one.split())}\n" for one in lines)
    return (503 if trouble else 200), "text/plain; charset=utf-8", text.encode()


def _end_date_figures(ends: EndDateWatch) -> "Iterator[Figure]":
    now_ms = ends.now_ms()
    first: dict[str, EndDate] = {}
    for one in ends.read():
        if not one.is_superseded and (one.what not in first or one.ends_ms < first[one.what].ends_ms):
            first[one.what] = one
    for what, one in first.items():
        about = "Time until this certificate or list expires; negative: since it has."
        yield Figure("expires_in_seconds", about, (one.ends_ms - now_ms) / 1_000, (("what", what),))
    for what, one in first.items():
        about = "0: no action needed; 1 low, 2 medium, 3 high; 4: it has expired."
        yield Figure("expiry_urgency", about, float(urgency(one, now_ms)), (("what", what),))


class _HealthServer(ThreadingHTTPServer):
    """One thread per request; shutdown does not wait for them."""

    request_queue_size = 16

    def __init__(self, host: str, port: int, endpoint: _Endpoint) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self.endpoint = endpoint
        self._free_slots = threading.BoundedSemaphore(_MAX_REQUESTS)
        super().__init__((host, port), _HealthRequestHandler)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Limit concurrent requests, so that clients cannot exhaust the threads and files of the process."""
        if self._free_slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_slots.release()

    def handle_error(self, *_: Any) -> None:
        """Log the failure of one request; the process continues."""
        error = sys.exception()
        if not isinstance(error, OSError):  # the client disconnected or was too slow
            _log.error("cannot answer a health request", problem=repr(error))


class _HealthRequestHandler(BaseHTTPRequestHandler):
    server: _HealthServer
    server_version = "vitalloom"
    sys_version = ""
    timeout = _CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        found = self.server.endpoint.response_to(self.path)
        status, kind, body = found or (
            404,
            "text/plain; charset=utf-8",
            b"not found; available paths: /metrics, /ready, /live\n",
        )
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """No access log: this endpoint is requested every few seconds."""


def _listening(listen: str, process: str, endpoint: _Endpoint) -> _HealthServer:
    try:
        return _HealthServer(*address(listen), endpoint)
    except OSError as error:
        raise CannotListen(listen, process, error.strerror or str(error)) from error
