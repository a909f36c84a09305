"""The registry over HTTPS: enrolment, renewal, new prekeys. TLS 1.3, small bodies, JSON with a fixed schema.

A device presents its certificate if it has one; TLS checks its chain, and the enrolment whose certificate it is.
"""

import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.logs import get
from stream.errors import BadRequest, EnrolmentRefused
from stream.http import JSON, HttpServer, client_address, read_body
from stream.site.enrolment import Enrolment
from stream.tls import CertifiedContext, FollowingContext
from wire.enrol.requests import MAX_BODY_BYTES, EnrolReply, EnrolRequest, PrekeyReply, PrekeyRequest, RenewRequest

_log = get(__name__)


class RequestCounts(msgspec.Struct):
    """Requests by outcome."""

    received: int = 0
    granted: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)  # by HTTP status


def build_app(enrolment: Enrolment, *, root: bytes, requests: RequestCounts | None = None) -> Starlette:
    """The ASGI application.

    Args:
        root: the authority's root, PEM.
        requests: counters to update.
    """
    counts = RequestCounts() if requests is None else requests

    async def get_root(_: Request) -> Response:
        return Response(root, media_type="application/x-pem-file")

    async def enrol(request: Request) -> EnrolReply:
        asked = await read_body(request, EnrolRequest, most_bytes=MAX_BODY_BYTES)
        return enrolment.enrol(asked, server=_shown(request), address=client_address(request), mono_ms=_mono_ms())

    async def renew(request: Request) -> EnrolReply:
        asked = await read_body(request, RenewRequest, most_bytes=MAX_BODY_BYTES)
        return enrolment.renew(
            asked,
            peer=_peer(request),
            server=_shown(request),
            address=client_address(request),
            mono_ms=_mono_ms(),
        )

    async def prekey(request: Request) -> PrekeyReply:
        asked = await read_body(request, PrekeyRequest, most_bytes=MAX_BODY_BYTES)
        return enrolment.new_prekey(asked, peer=_peer(request), address=client_address(request), mono_ms=_mono_ms())

    app = Starlette(
        routes=[
            Route("/v1/root", get_root, methods=["GET"]),
            Route("/v1/enrol", _answered(enrol, counts), methods=["POST"]),
            Route("/v1/renew", _answered(renew, counts), methods=["POST"]),
            Route("/v1/prekey", _answered(prekey, counts), methods=["POST"]),
        ]
    )
    app.router.redirect_slashes = False  # no redirects to a host named by the request
    return app


class RegistryServer(HttpServer):
    """The application on a port, while the `async with` block runs.

    Args:
        tls: certificate chain and key of the server, in one file.
        clients: certificates that clients are checked against.
    """

    def __init__(self, enrolment: Enrolment, *, tls: Path, root: bytes, clients: Path, host: str, port: int) -> None:
        self.requests = RequestCounts()
        super().__init__(
            build_app(enrolment, root=root, requests=self.requests),
            name="the registry",
            host=host,
            port=port,
            tls=FollowingContext((tls, clients), lambda: _context(tls, clients)),
            most_bytes=MAX_BODY_BYTES,
        )


def _context(tls: Path, clients: Path) -> CertifiedContext:
    context = CertifiedContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.show(tls)
    context.load_verify_locations(clients)
    context.verify_mode = ssl.CERT_OPTIONAL  # a device that enrols has none yet
    return context


def _answered(
    handler: Callable[[Request], Awaitable[msgspec.Struct]], counts: RequestCounts
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        counts.received += 1
        try:
            reply = await handler(request)
        except (EnrolmentRefused, BadRequest) as error:
            counts.refused[str(error.status)] += 1
            _log.info("request refused", path=request.url.path, status=error.status)
            return Response(msgspec.json.encode({"problem": str(error)}), status_code=error.status, media_type=JSON)
        counts.granted += 1
        return Response(msgspec.json.encode(reply), media_type=JSON)

    return answer


def _peer(request: Request) -> bytes | None:
    peer: Any = request.scope.get("state", {}).get("peer")
    return peer if isinstance(peer, bytes) else None


def _shown(request: Request) -> bytes:
    """The certificate that this connection has shown, DER: proofs are bound to it."""
    shown: Any = request.scope.get("state", {}).get("shown")
    return shown if isinstance(shown, bytes) else b""


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000
