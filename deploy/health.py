"""Whether a process does its work: one question each, one answer. Nothing but the standard library, so it is quick."""

import socket
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

PATIENCE_S: Final = 3.0
_API_VERSIONS: Final = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04ask?"  # the question every Kafka answers, version 0


def main(what: str) -> int:
    """The command `vitalloom health`: 0 if it is well; otherwise 1, and why."""
    import sys

    problem = ask(what)
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


def ask(what: str) -> str:
    """Empty if all is well; otherwise why not, in one line.

    Args:
        what: ``http://host:port/path``, ``tcp://host:port`` or ``kafka://host:port``.
    """
    found = urlsplit(what)
    if found.scheme not in _QUESTIONS or not found.hostname or not found.port:
        return f"{what}: ask http://host:port/path, tcp://host:port or kafka://host:port"
    try:
        return _QUESTIONS[found.scheme](found.hostname, found.port, found.path or "/")
    except (OSError, HTTPException) as error:
        return f"{what} does not answer ({error or type(error).__name__})"


def _http(host: str, port: int, path: str) -> str:
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(500).decode("utf-8", "replace").strip()
        return "" if answer.status == 200 else f"{answer.status}: {said}"
    finally:
        connection.close()


def _tcp(host: str, port: int, _path: str) -> str:
    with socket.create_connection((host, port), timeout=PATIENCE_S):
        return ""


def _kafka(host: str, port: int, _path: str) -> str:
    with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
        connection.sendall(len(_API_VERSIONS).to_bytes(4, "big") + _API_VERSIONS)
        return "" if len(connection.recv(4)) == 4 else "does not speak Kafka's protocol yet"


_QUESTIONS: Final = {"http": _http, "tcp": _tcp, "kafka": _kafka}
