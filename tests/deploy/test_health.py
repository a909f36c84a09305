"""Health checks of servers over TCP, HTTP and the Kafka protocol."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from deploy import health
from simulators.broker import free_port


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], int]]:
    """A server that answers every connection with some bytes; its port."""
    open_: list[socket.socket] = []

    def begin(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        open_.append(server)

        def answer_all() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if answer:
                        connection.recv(1_000)
                        connection.sendall(answer)

        threading.Thread(target=answer_all, daemon=True).start()
        return int(server.getsockname()[1])

    yield begin
    for server in open_:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.mark.parametrize("scheme", ["tcp", "kafka", "http"])
def test_unreachable_server_is_named_with_its_address(scheme: str) -> None:
    port = free_port()

    assert f"127.0.0.1:{port}" in health.problem_of(f"{scheme}://127.0.0.1:{port}/ready")


def test_tcp_check_needs_an_accepted_connection(serve: Callable[[bytes], int]) -> None:
    assert health.problem_of(f"tcp://127.0.0.1:{serve(b'')}") == ""


def test_kafka_check_needs_an_answer(serve: Callable[[bytes], int]) -> None:
    assert health.problem_of(f"kafka://127.0.0.1:{serve(bytes(20))}") == ""
    assert "Kafka" in health.problem_of(f"kafka://127.0.0.1:{serve(b'no')}")


def test_http_check_needs_status_200(serve: Callable[[bytes], int]) -> None:
    healthy = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    unhealthy = serve(b"HTTP/1.1 503 Not now\r\nContent-Length: 13\r\n\r\nKafka is away")

    assert health.problem_of(f"http://127.0.0.1:{healthy}/ready") == ""
    assert health.problem_of(f"http://127.0.0.1:{unhealthy}/ready") == "Kafka is away"


@pytest.mark.parametrize("url", ["", "127.0.0.1:1", "ftp://127.0.0.1:1", "http://127.0.0.1", "tcp://:1"])
def test_unsupported_url_is_reported(url: str) -> None:
    assert "use http://" in health.problem_of(url)
