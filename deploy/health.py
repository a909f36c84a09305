"""Health checks of the processes of a site, including third-party servers."""

import socket
from typing import Final
from urllib.parse import urlsplit

from runtime.health import check

TIMEOUT_S: Final = 3.0
_API_VERSIONS: Final = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04ask?"  # ApiVersions request, version 0


def problem_of(url: str) -> str:
    """The problem of a server in one line; empty if it is healthy.

    Args:
        url: ``http://host:port/path``, ``tcp://host:port`` or ``kafka://host:port``.
    """
    found = urlsplit(url)
    if found.scheme not in _CHECKS or not found.hostname or not found.port:
        return f"{url}: not supported; use http://host:port/path, tcp://host:port or kafka://host:port"
    try:
        return _CHECKS[found.scheme](found.hostname, found.port, found.path or "/")
    except OSError as error:
        return f"{url} does not answer ({error or type(error).__name__})"


def _http(host: str, port: int, path: str) -> str:
    answer = check(f"{host}:{port}", path=path, timeout_s=TIMEOUT_S)
    return "" if answer.is_healthy else answer.text or "not ready, without a reason"


def _tcp(host: str, port: int, _path: str) -> str:
    with socket.create_connection((host, port), timeout=TIMEOUT_S):
        return ""


def _kafka(host: str, port: int, _path: str) -> str:
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(len(_API_VERSIONS).to_bytes(4, "big") + _API_VERSIONS)
        return "" if len(connection.recv(4)) == 4 else "does not answer in the Kafka protocol yet"


_CHECKS: Final = {"http": _http, "tcp": _tcp, "kafka": _kafka}
