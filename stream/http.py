"""The HTTP server of the registry and of the alarm desk: small JSON bodies, short connections, few at a time."""

import asyncio
import contextlib
import json
import socket
import time
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from stream.errors import BadRequest, HttpServerFailed
from stream.tls import CertifiedContext, FollowingContext

READY_WITHIN_S: Final = 10.0
CONNECTION_LIMIT_S: Final = 30.0
"""A connection is closed after this time, whatever its state."""
MAX_CONNECTIONS: Final = 500
MAX_PER_ADDRESS: Final = 50

JSON: Final = "application/json"
_T = TypeVar("_T")


class HttpServer:
    """Serves an application on a port for as long as the `async with` block lasts.

    Args:
        name: of the server, for error messages.
        port: 0: any free port; `port` is the chosen one inside the block.
        tls: None: plain HTTP.
        most_bytes: limit for the headers of a request.
    """

    def __init__(
        self,
        app: Starlette,
        *,
        name: str,
        host: str,
        port: int,
        tls: FollowingContext | None,
        most_bytes: int,
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self._name = name
        context: dict[str, Any] = {}
        if tls is not None:
            # Uvicorn requires a file name before it uses the context.
            context = {"ssl_certfile": "-", "ssl_context_factory": lambda _config, _default: tls}
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

    @property
    def is_secured(self) -> bool:
        return self.tls is not None

    async def __aenter__(self) -> Self:
        listening = self._listening()
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name=self._name)
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._server.started:
            if self._task.done():
                await self._task
            if time.monotonic() > deadline:
                raise HttpServerFailed(self._name, self.host, self.port, "did not start in time")
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
            # As asyncio does for its own sockets: without it, the second packet of an answer is delayed by 40 ms.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
        except OSError as error:
            problem = f"cannot listen ({error.strerror}); is it running already?"
            raise HttpServerFailed(self._name, self.host, self.port, problem) from error


async def read_body(request: Request, kind: type[_T], *, most_bytes: int) -> _T:
    """Read the JSON body of a request as an object of type `kind`.

    Raises:
        BadRequest: the body has another content type, is too long or cannot be decoded.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequest(415, "compressed bodies are not accepted")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise BadRequest(415, "the content type must be application/json")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > most_bytes:
                raise BadRequest(413, f"the body is longer than {most_bytes} bytes")
    except ClientDisconnect:
        raise BadRequest(400, "the connection was closed") from None
    return read_request(body, kind)


def read_request(body: bytes, kind: type[_T]) -> _T:
    """Decode a JSON body as an object of type `kind`.

    Raises:
        BadRequest: it cannot be decoded, or a field occurs twice.
    """
    try:
        decoded = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The messages of msgspec name the field and its type, never its value.
        raise BadRequest(400, f"not a request: {str(error)[:200]}") from None
    # msgspec uses the last of two equal fields; a proxy in between may have checked the first.
    json.loads(body, object_pairs_hook=_without_duplicates, parse_int=str)
    return decoded


def client_address(request: Request) -> str:
    """The network address of the client."""
    return request.client.host if request.client is not None else "unknown"


class _UvicornServer(uvicorn.Server):
    """A Uvicorn server that does not handle signals; the process does."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


class _BoundedHttp11(H11Protocol):
    """HTTP/1.1 with a time limit for each connection; passes both certificates of it to the application."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end = self.loop.call_later(CONNECTION_LIMIT_S, transport.abort)
        if sum(_host_of(one) == _host_of(self) for one in self.connections) > MAX_PER_ADDRESS:
            transport.abort()
        tls = transport.get_extra_info("ssl_object")
        peer = None if tls is None else tls.getpeercert(binary_form=True)
        # The certificate that this connection began with, which may have been renewed since.
        shown = tls.context.own if tls is not None and isinstance(tls.context, CertifiedContext) else None
        self.app_state = {**self.app_state, "peer": peer, "shown": shown}

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
        raise BadRequest(400, "not a request: a field occurs twice")
    return found
