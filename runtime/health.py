"""Health check of a running process over HTTP: the command `vitalloom health`, which needs neither a shell nor curl."""

import http.client
import sys
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from runtime.errors import NoSuchAddress

TIMEOUT_S: Final = 5.0


class HealthAnswer(NamedTuple):
    """The answer of a process, or the reason why there is none."""

    is_healthy: bool
    text: str


def check(where: str, *, path: str = "/ready", timeout_s: float = TIMEOUT_S) -> HealthAnswer:
    """Check a process; no response counts as unhealthy.

    Args:
        where: a port on this machine, ``host:port``, or a URL.

    Raises:
        NoSuchAddress: `where` is none of these.
    """
    host, port = _address(where)
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read(10_000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return HealthAnswer(
            False, f"{host}:{port} does not answer ({str(error) or type(error).__name__}): is it running?"
        )
    finally:
        connection.close()
    return HealthAnswer(reply.status == 200, text)


def main(where: str, *, alive: bool) -> int:
    """The command `vitalloom health`. Raises NoSuchAddress."""
    answer = check(where, path="/live" if alive else "/ready")
    sys.stdout.write(f"{answer.text}\n")
    return 0 if answer.is_healthy else 1


def _address(where: str) -> tuple[str, int]:
    text = f"127.0.0.1:{where}" if where.isdecimal() else where
    try:
        parts = urlsplit(text if "//" in text else f"http://{text}")
        if parts.scheme == "http" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:  # the port is not a number
        pass
    raise NoSuchAddress(where)
