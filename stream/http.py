"""HTTP on a port of a process of ours: small bodies of known shape, nobody is waited for long, few at once."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from stream.errors import BadRequest, HttpServerFailed

READY_WITHIN_S: Final = 10.0
CONNECTION_LIMIT_S: Final = 30.0
"""Then a connection is closed, whatever it is waiting for."""
MAX_CONNECTIONS: Final = 500
MAX_PER_ADDRESS: Final = 50

JSON: Final = "application/json"
_T = TypeVar("_T")


class HttpServer:
    """An application on a port, for as long as the `async with` block lasts.

    Args:
        name: what it is, for errors.
        tls: makes the context; None: in the clear.
    """

    def __init__(
        self,
        app: Starlette,
        *,
        name: str,
        host: str,
        port: int,
        tls: Callable[[], ssl.SSLContext] | None,
        most_bytes: int,
    ) -> None:
        self.host = host
        self.port = port
        self.is_secured = tls is not None
        self._name = name
        context: dict[str, Any] = {}
        if tls is not None:
            made = tls()
            # Uvicorn asks for the name of a file before it takes a context.
            context = {"ssl_certfile": "-", "ssl_context_factory": lambda _config, _default: made}
        self._server = _UvicornServer(
            uvicorn.Config(
                app,
                http=_BoundedHttp11,
                ws="none",
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                access_log=False,
                log_config=None,
                log_level="warning",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=5,
                h11_max_incomplete_event_size=most_bytes,
                **context,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        listening = self._listening()
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name=self._name)
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._server.started:
            if self._task.done():
                await self._task
            if time.monotonic() > deadline:
                raise HttpServerFailed(self._name, self.host, self.port, "did not come up")
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    def _listening(self) -> socket.socket:
        try:
            family = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][0]
            listening = socket.create_server((self.host, self.port), family=family, backlog=128)
            # asyncio does so for sockets that it makes; else the second packet of an answer waits 40 ms for the first.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
        except OSError as error:
            problem = f"cannot listen ({error.strerror}); is it running already?"
            raise HttpServerFailed(self._name, self.host, self.port, problem) from error


async def read_body(request: Request, kind: type[_T], *, most_bytes: int) -> _T:
    """The body of a request as what was asked for.

    Raises:
        BadRequest: it is not that.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequest(415, "nothing compressed is read here")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise BadRequest(415, "a body is application/json")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > most_bytes:
                raise BadRequest(413, f"a body has at most {most_bytes} bytes")
    except ClientDisconnect:
        raise BadRequest(400, "broke off") from None
    return read_request(body, kind)


def read_request(body: bytes, kind: type[_T]) -> _T:
    """A body as what was asked for.

    Raises:
        BadRequest: it is not that.
    """
    try:
        asked = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec names the field and what it should be, never what it is.
        raise BadRequest(400, f"not a request: {str(error)[:200]}") from None
    # It would take the last of two, where somebody between may have looked at the first.
    json.loads(body, object_pairs_hook=_without_duplicates, parse_int=str)
    return asked


def client_address(request: Request) -> str:
    """Who asks, as far as the network knows."""
    return request.client.host if request.client is not None else "unknown"


class _UvicornServer(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


class _BoundedHttp11(H11Protocol):
    """HTTP/1.1 that tells the application which certificate the client has shown, and waits for nobody for long."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end = self.loop.call_later(CONNECTION_LIMIT_S, transport.abort)
        if sum(_host_of(one) == _host_of(self) for one in self.connections) > MAX_PER_ADDRESS:
            transport.abort()
        shown = transport.get_extra_info("ssl_object")
        peer = None if shown is None else shown.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, "peer": peer}

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


def _host_of(connection: object) -> str | None:
    client: tuple[str, int] | None = getattr(connection, "client", None)
    return None if client is None else client[0]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest(400, "not a request: a field is there twice")
    return found
