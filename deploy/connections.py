"""How the doctor asks: a TLS handshake, a question over HTTP. Nothing that it asks changes anything."""

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from deploy.findings import Finding, ok, wrong
from wire.mqtt import fix_for

WITHIN_S: Final = 4.0
_REFUSED_WITHIN_S: Final = 0.5  # after a handshake of TLS 1.3 a server says that it does not want our certificate


class Reply(NamedTuple):
    """An answer over HTTP."""

    status: int
    body: bytes
    offset_s: float | None  # our clock against its Date, to a second; positive: ours is ahead


def handshake(host: str, port: int, context: Callable[[], ssl.SSLContext] | None) -> str:
    """Why there is no connection; empty: there is one. No session is begun: that would end the one of whoever runs."""
    try:
        with socket.create_connection((host, port), timeout=WITHIN_S) as plain:
            if context is None:
                return ""
            with context().wrap_socket(plain, server_hostname=host) as secured:
                secured.settimeout(_REFUSED_WITHIN_S)
                with contextlib.suppress(TimeoutError):
                    if not secured.recv(1):
                        return "the broker hung up"
    except OSError as error:  # those of TLS are among them
        return str(error) or type(error).__name__
    return ""


def broker_finding(
    who: str, host: str, port: int, context: Callable[[], ssl.SSLContext] | None, *, here: str
) -> Finding:
    """Whether the MQTT broker lets somebody in.

    Args:
        here: what can be done about it where we are.
    """
    about = f"MQTT broker at {host}:{port}, as {who}"
    problem = handshake(host, port, context)
    if not problem:
        return ok(about, "lets it in" if context is not None else "is there")
    known = fix_for(problem)
    if known is None:
        return wrong(about, f"is not reached ({problem})", f"start it, or correct the address: {here}")
    what, _, cure = known.partition(": ")
    return wrong(about, what, f"{cure}; {here}" if cure else here)


def ask(
    url: str,
    *,
    now_ms: Callable[[], int],
    method: str = "GET",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Reply:
    """Raises OSError, HTTPException."""
    parts = urlsplit(url)
    host, path = parts.hostname or "", parts.path + (f"?{parts.query}" if parts.query else "")
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=WITHIN_S, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=WITHIN_S)
    )
    with contextlib.closing(connection):
        connection.connect()
        began = time.monotonic()
        connection.request(method, path or "/", body or None, headers or {})
        answer = connection.getresponse()
        half_s = (time.monotonic() - began) / 2
        at_s = now_ms() / 1_000
        content = answer.read(1 << 20)
        told = answer.getheader("Date")
    offset_s = None
    if told is not None:
        with contextlib.suppress(ValueError):
            # It says whole seconds: the truth is half a second later, give or take as much.
            offset_s = at_s - half_s - (parsedate_to_datetime(told).timestamp() + 0.5)
    return Reply(answer.status, content, offset_s)
