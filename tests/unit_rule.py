"""The rule for unit tests: no process is started and nothing but this machine's loopback is connected to.

A test that needs more is marked `services`; `make unit` leaves it out.
"""

import ipaddress
import sys
from collections.abc import Generator
from typing import Any

import pytest

STARTS_A_PROCESS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})
EXEMPT = ("services", "training", "bare_machine")


class RuleBroken(RuntimeError):
    """A unit test did what only a test with a marker may do."""


class _Watch:
    """Sees what Python is about to do, and refuses it while a unit test runs."""

    def __init__(self) -> None:
        self.is_on = False
        self.broken: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in STARTS_A_PROCESS:
            self._refuse(f"starts a process ({event})")
        if event == "socket.connect" and not is_local(arguments[1]):
            self._refuse(f"connects to {arguments[1]}")

    def _refuse(self, what: str) -> None:
        # Remembered, too: the code under test may catch the error.
        self.broken.append(f"a unit test {what}: mark it with @pytest.mark.services")
        raise RuleBroken(self.broken[-1])


_watch = _Watch()
sys.addaudithook(_watch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    yield from _watched(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    yield from _watched(item)


def _watched(item: pytest.Item) -> Generator[None, None, None]:
    _watch.broken.clear()
    _watch.is_on = not any(item.get_closest_marker(name) for name in EXEMPT)
    try:
        yield
    finally:
        _watch.is_on = False
    if _watch.broken:
        pytest.fail(_watch.broken[0], pytrace=False)


def is_local(address: object) -> bool:
    """Whether the address of a socket is on the loopback interface or a file."""
    if not isinstance(address, tuple):
        return True  # the path of a Unix socket
    host = str(address[0])
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
