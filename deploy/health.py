"""Whether a server does its work, ours or another's: one question each, one answer."""

import socket
from typing import Final
from urllib.parse import urlsplit

from runtime.health import check

TIMEOUT_S: Final = 3.0
_API_VERSIONS: Final = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04ask?"  # the question every Kafka answers, version 0


def problem_of(what: str) -> str:
    """Empty if all is well; otherwise why not, in one line.

    Args:
        what: ``http://host:port/path``, ``tcp://host:port`` or ``kafka://host:port``.
    """
    found = urlsplit(what)
    if found.scheme not in _QUESTIONS or not found.hostname or not found.port:
        return f"{what}: ask http://host:port/path, tcp://host:port or kafka://host:port"
    try:
        return _QUESTIONS[found.scheme](found.hostname, found.port, found.path or "/")
    except OSError as error:
        return f"{what} does not answer ({error or type(error).__name__})"


def _http(host: str, port: int, path: str) -> str:
    answer = check(f"{host}:{port}", path=path, timeout_s=TIMEOUT_S)
    return "" if answer.is_healthy else answer.text or "does not say why not"


def _tcp(host: str, port: int, _path: str) -> str:
    with socket.create_connection((host, port), timeout=TIMEOUT_S):
        return ""


def _kafka(host: str, port: int, _path: str) -> str:
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(len(_API_VERSIONS).to_bytes(4, "big") + _API_VERSIONS)
        return "" if len(connection.recv(4)) == 4 else "does not speak Kafka's protocol yet"


_QUESTIONS: Final = {"http": _http, "tcp": _tcp, "kafka": _kafka}
