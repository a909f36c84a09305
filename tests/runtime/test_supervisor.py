"""What a supervisor hears: readiness, signs of life, the end; and nothing where nobody listens."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.supervisor import SOCKET, Supervisor


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(5)
        yield heard


def test_it_hears_in_systemd_s_own_words(listener: socket.socket) -> None:
    told = Supervisor(listener.getsockname())

    told.ready()
    told.alive("2 beds, 0 waiting")
    told.in_trouble("a commit is overdue")
    told.stopping()

    assert [listener.recv(100).decode() for _ in range(4)] == [
        "READY=1",
        "WATCHDOG=1\nSTATUS=2 beds, 0 waiting",
        "STATUS=a commit is overdue",
        "STOPPING=1",
    ]


def test_a_socket_without_a_file_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0vitalloom-test-supervisor")
        heard.settimeout(5)

        Supervisor("@vitalloom-test-supervisor").ready()

        assert heard.recv(100) == b"READY=1"


def test_programs_that_we_start_do_not_speak_in_our_name(listener: socket.socket) -> None:
    environment = {SOCKET: listener.getsockname(), "PATH": "/bin"}

    Supervisor.of(environment).ready()

    assert listener.recv(100) == b"READY=1"
    assert environment == {"PATH": "/bin"}


def test_without_a_supervisor_nothing_happens() -> None:
    Supervisor.of({}).alive("here")


def test_one_that_is_gone_is_said_once_and_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Supervisor(str(tmp_path / "nobody"))

    told.alive("here")
    told.alive("here")

    assert [record.message for record in caplog.records] == ["the supervisor cannot be told"]
