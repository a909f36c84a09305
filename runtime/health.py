"""Ask a process how it is: what `vitalloom health` does where there is neither shell nor curl."""

import http.client
import sys
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from runtime.errors import NoSuchAddress

WITHIN_S: Final = 5.0


class Answer(NamedTuple):
    """What it said, or why nothing was heard."""

    is_well: bool
    text: str


def ask(where: str, *, path: str = "/ready", within_s: float = WITHIN_S) -> Answer:
    """Whether it is well; no answer is an answer.

    Args:
        where: a port of this machine, ``host:port``, or a URL.

    Raises:
        NoSuchAddress: it is none of these.
    """
    host, port = _address(where)
    connection = http.client.HTTPConnection(host, port, timeout=within_s)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read(10_000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return Answer(False, f"{host}:{port} does not answer ({str(error) or type(error).__name__}): is it running?")
    finally:
        connection.close()
    return Answer(reply.status == 200, text)


def main(where: str, *, alive: bool) -> int:
    """The command `vitalloom health`. Raises NoSuchAddress."""
    answer = ask(where, path="/live" if alive else "/ready")
    sys.stdout.write(f"{answer.text}\n")
    return 0 if answer.is_well else 1


def _address(where: str) -> tuple[str, int]:
    text = f"127.0.0.1:{where}" if where.isdecimal() else where
    try:
        parts = urlsplit(text if "//" in text else f"http://{text}")
        if parts.scheme == "http" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:  # a port that is none
        pass
    raise NoSuchAddress(where)
