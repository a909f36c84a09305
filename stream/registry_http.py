"""The registry over HTTP: enrolment, renewal, new prekeys. TLS 1.3, small bodies, JSON of known shape, nothing else.

A device shows its certificate where it has one; TLS checks its chain, the registry whose it is.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.logs import get
from stream.errors import BadRequest, EnrolmentRefused, RegistryDown
from stream.registry import Registry
from wire.enrolment import MAX_BODY_BYTES, EnrolReply, EnrolRequest, PrekeyReply, PrekeyRequest, RenewRequest

READY_WITHIN_S: Final = 10.0
VISIT_WITHIN_S: Final = 30.0
"""Then a connection is closed, whatever it is waiting for."""
MAX_CONNECTIONS: Final = 500
MAX_PER_ADDRESS: Final = 50

_JSON: Final = "application/json"
_log = get(__name__)
_T = TypeVar("_T")


class Requests(msgspec.Struct):
    """What became of what was asked."""

    received: int = 0
    granted: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)  # by status of the answer


def build_app(registry: Registry, *, server: bytes, root: bytes, requests: Requests | None = None) -> Starlette:
    """The application.

    Args:
        server: the certificate that it is served with, DER.
        root: the authority's root, PEM.
        requests: where they are counted.
    """
    counted = Requests() if requests is None else requests

    async def get_root(_: Request) -> Response:
        return Response(root, media_type="application/x-pem-file")

    async def enrol(request: Request) -> EnrolReply:
        asked = await _body(request, EnrolRequest)
        return registry.enrol(asked, server=server, address=_address(request), mono_ms=_mono_ms())

    async def renew(request: Request) -> EnrolReply:
        asked = await _body(request, RenewRequest)
        return registry.renew(asked, peer=_peer(request), server=server, address=_address(request), mono_ms=_mono_ms())

    async def prekey(request: Request) -> PrekeyReply:
        asked = await _body(request, PrekeyRequest)
        return registry.new_prekey(asked, peer=_peer(request), address=_address(request), mono_ms=_mono_ms())

    app = Starlette(
        routes=[
            Route("/v1/root", get_root, methods=["GET"]),
            Route("/v1/enrol", _answered(enrol, counted), methods=["POST"]),
            Route("/v1/renew", _answered(renew, counted), methods=["POST"]),
            Route("/v1/prekey", _answered(prekey, counted), methods=["POST"]),
        ]
    )
    app.router.redirect_slashes = False  # nobody is sent on to whatever the request calls our name
    return app


class RegistryServer:
    """The application on a port, for as long as the `async with` block lasts.

    Args:
        tls: certificate chain and key of the server, one file.
        clients: certificates that clients are checked against.
    """

    def __init__(self, registry: Registry, *, tls: Path, root: bytes, clients: Path, host: str, port: int) -> None:
        certificate = x509.load_pem_x509_certificate(tls.read_bytes())
        self.requests = Requests()
        app = build_app(registry, server=certificate.public_bytes(Encoding.DER), root=root, requests=self.requests)
        self.host = host
        self.port = port
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_WithPeer,
                ws="none",
                lifespan="off",
                ssl_certfile=tls,
                ssl_context_factory=lambda _config, _default: _context(tls, clients),
                server_header=False,
                proxy_headers=False,
                access_log=False,
                log_config=None,
                log_level="warning",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=5,
                h11_max_incomplete_event_size=MAX_BODY_BYTES,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        listening = _listening(self.host, self.port)
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name="registry")
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._server.started:
            if self._task.done():
                await self._task
            if time.monotonic() > deadline:
                raise RegistryDown(self.host, self.port, "did not come up")
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=128)
        # asyncio does this for sockets that it makes; else the second packet of an answer waits 40 ms for the first.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise RegistryDown(host, port, f"cannot listen ({error.strerror}); is it running already?") from error


class _WithPeer(H11Protocol):
    """HTTP/1.1 that tells the application which certificate the client has shown, and waits for nobody for long."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end = self.loop.call_later(VISIT_WITHIN_S, transport.abort)
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


def _context(tls: Path, clients: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(tls)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_OPTIONAL  # who enrols has none yet
    return context


def _answered(
    handler: Callable[[Request], Awaitable[msgspec.Struct]], counted: Requests
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        counted.received += 1
        try:
            reply = await handler(request)
        except (EnrolmentRefused, BadRequest) as error:
            counted.refused[str(error.status)] += 1
            _log.info("request refused", path=request.url.path, status=error.status)
            return Response(msgspec.json.encode({"problem": str(error)}), status_code=error.status, media_type=_JSON)
        counted.granted += 1
        return Response(msgspec.json.encode(reply), media_type=_JSON)

    return answer


async def _body(request: Request, kind: type[_T]) -> _T:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequest(415, "nothing compressed is read here")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise BadRequest(415, "a body is application/json")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise BadRequest(413, f"a body has at most {MAX_BODY_BYTES} bytes")
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
    json.loads(body, object_pairs_hook=_once, parse_int=str)
    return asked


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest(400, "not a request: a field is there twice")
    return found


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


def _peer(request: Request) -> bytes | None:
    peer: Any = request.scope.get("state", {}).get("peer")
    return peer if isinstance(peer, bytes) else None


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000
