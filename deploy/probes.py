"""Network probes of `vitalloom doctor`: a TLS handshake and an HTTP request. They change nothing."""

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from deploy.checks import CheckResult, failure, ok
from wire.mqtt import fix_for

TIMEOUT_S: Final = 4.0
_REFUSAL_TIMEOUT_S: Final = 0.5  # a TLS 1.3 server rejects a client certificate after the handshake


class HttpReply(NamedTuple):
    """The response to an HTTP request."""

    status: int
    body: bytes
    offset_s: float | None  # clock of this machine minus the Date header, to a second; positive: this machine is ahead


def handshake_problem(host: str, port: int, context: Callable[[], ssl.SSLContext] | None) -> str:
    """Why a connection fails; empty if it succeeds. No MQTT session is opened: it would end that of the real client."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as plain:
            if context is None:
                return ""
            with context().wrap_socket(plain, server_hostname=host) as secured:
                secured.settimeout(_REFUSAL_TIMEOUT_S)
                with contextlib.suppress(TimeoutError):
                    if not secured.recv(1):
                        return "the broker hung up"
    except OSError as error:  # includes TLS errors
        return str(error) or type(error).__name__
    return ""


def shown_certificate(host: str, port: int, context: Callable[[], ssl.SSLContext]) -> bytes | None:
    """The certificate that a server shows, DER; None if there is no connection."""
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
            context().wrap_socket(plain, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except OSError:  # includes TLS errors
        return None


def check_broker(
    client: str, host: str, port: int, context: Callable[[], ssl.SSLContext] | None, *, here: str
) -> CheckResult:
    """Whether the MQTT broker accepts a client.

    Args:
        here: what to do on this machine if it does not.
    """
    subject = f"MQTT broker at {host}:{port}, as {client}"
    problem = handshake_problem(host, port, context)
    if not problem:
        return ok(subject, "accepts the connection")
    known = fix_for(problem)
    if known is None:
        return failure(subject, f"cannot connect ({problem})", f"start it, or correct the address: {here}")
    result, _, fix = known.partition(": ")
    return failure(subject, result, f"{fix}; {here}" if fix else here)


def http_request(
    url: str,
    *,
    now_ms: Callable[[], int],
    method: str = "GET",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> HttpReply:
    """Send one request. Raises OSError, HTTPException."""
    parts = urlsplit(url)
    host, path = parts.hostname or "", parts.path + (f"?{parts.query}" if parts.query else "")
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
    )
    with contextlib.closing(connection):
        connection.connect()
        began = time.monotonic()
        connection.request(method, path or "/", body or None, headers or {})
        answer = connection.getresponse()
        half_s = (time.monotonic() - began) / 2
        at_s = now_ms() / 1_000
        content = answer.read(1 << 20)
        date = answer.getheader("Date")
    offset_s = None
    if date is not None:
        with contextlib.suppress(ValueError):
            # The header has whole seconds: the true time is half a second later on average.
            offset_s = at_s - half_s - (parsedate_to_datetime(date).timestamp() + 0.5)
    return HttpReply(answer.status, content, offset_s)
