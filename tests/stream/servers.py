"""A registry's server on loopback, and visitors that do not keep to the rules."""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stream.site.enrolment import Enrolment
from stream.site.http import RegistryServer
from tests.patience import PATIENCE_S
from tests.stream.site.registries import Desk
from wire.enrol.authority import pem


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        return str(json.loads(self.body)["problem"])


@contextlib.contextmanager
def serving(desk: Desk, enrolment: Enrolment | None = None) -> Iterator[int]:
    """The desk's registry on a port, in a loop and thread of its own."""
    site = desk.site
    up, port, failure = threading.Event(), [0], []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = RegistryServer(
            enrolment or desk.enrolment,
            tls=site.registry_tls,
            root=pem(site.authority.root),
            clients=site.bundle_file,
            host="127.0.0.1",
            port=0,
        )
        async with server:
            port[0] = server.port
            up.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            failure.append(error)
        finally:
            loop.close()
            up.set()

    thread = threading.Thread(target=run, name="registry")
    thread.start()
    try:
        assert up.wait(PATIENCE_S)
        assert not failure, failure
        yield port[0]
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert not failure, failure


def context(desk: Desk, *, client: Path | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=pem(desk.site.authority.root).decode())
    if client is not None:
        made.load_cert_chain(client)
    return made


def connect(port: int, tls: ssl.SSLContext, *, source: str = "127.0.0.1") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S, source_address=(source, 0))
    try:
        return tls.wrap_socket(plain, server_hostname="127.0.0.1")
    except BaseException:
        plain.close()
        raise


def ask(
    port: int,
    tls: ssl.SSLContext,
    path: str = "/v1/enrol",
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str | None] | None = None,
    source: str = "127.0.0.1",
) -> Answer:
    """One request on a connection of its own."""
    told: dict[str, Any] = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": len(body),
        "Connection": "close",
        **(headers or {}),
    }
    head = "".join(f"{key}: {value}\r\n" for key, value in told.items() if value is not None)
    with connect(port, tls, source=source) as sock:
        # A server that refuses a large body answers, and closes, before it has read all of it.
        with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError, BrokenPipeError):
            sock.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return read_answer(sock)


def read_answer(sock: ssl.SSLSocket) -> Answer:
    """Everything until the other side closes."""
    got = b""
    while True:
        try:
            part = sock.recv(65_536)
        except (ssl.SSLEOFError, ConnectionResetError):
            break
        if not part:
            break
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (one.split(": ", 1) for one in rest)
    return Answer(int(first.split(" ")[1]), {key.lower(): value for key, value in pairs}, body)


def chunked(body: bytes, size: int = 4_096) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in parts) + b"0\r\n\r\n"
