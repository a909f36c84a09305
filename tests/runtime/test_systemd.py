"""Notifications to systemd: ready, keep-alive, stopping; and none without its socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.systemd import SOCKET, SystemdNotifier


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(5)
        yield heard


def test_messages_follow_the_protocol_of_systemd(listener: socket.socket) -> None:
    notifier = SystemdNotifier(listener.getsockname())

    notifier.ready()
    notifier.alive("2 beds, 0 waiting")
    notifier.in_trouble("a commit is overdue")
    notifier.stopping()

    assert [listener.recv(100).decode() for _ in range(4)] == [
        "READY=1",
        "WATCHDOG=1\nSTATUS=2 beds, 0 waiting",
        "STATUS=a commit is overdue",
        "STOPPING=1",
    ]


def test_abstract_socket_is_supported() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0vitalloom-test-supervisor")
        heard.settimeout(5)

        SystemdNotifier("@vitalloom-test-supervisor").ready()

        assert heard.recv(100) == b"READY=1"


def test_child_processes_do_not_inherit_the_socket(listener: socket.socket) -> None:
    environment = {SOCKET: listener.getsockname(), "PATH": "/bin"}

    SystemdNotifier.from_environment(environment).ready()

    assert listener.recv(100) == b"READY=1"
    assert environment == {"PATH": "/bin"}


def test_without_systemd_nothing_is_sent() -> None:
    SystemdNotifier.from_environment({}).alive("here")


def test_missing_socket_is_logged_once_and_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = SystemdNotifier(str(tmp_path / "missing"))

    notifier.alive("here")
    notifier.alive("here")

    assert [record.message for record in caplog.records] == ["cannot notify systemd"]
