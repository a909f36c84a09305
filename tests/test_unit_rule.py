"""The rule for unit tests holds: no process, no connection but to this machine's loopback."""

import socket
import subprocess

import pytest

from tests import unit_rule
from tests.unit_rule import RuleBroken, is_local


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 1883), True), (("localhost", 1883), True), (("::1", 1883, 0, 0), True), ("/run/notify", True),
        (("192.0.2.7", 443), False), (("::", 443, 0, 0), False), (("broker.example", 8883), False),
    ],
)  # fmt: skip
def test_loopback_is_local(address: object, local: bool) -> None:
    assert is_local(address) is local


def test_a_unit_test_starts_no_process() -> None:
    with pytest.raises(RuleBroken, match=r"starts a process .*@pytest.mark.services"):
        subprocess.run(["true"], check=True)
    assert unit_rule._watch.broken.pop().startswith("a unit test starts a process")


def test_a_unit_test_connects_to_no_other_machine() -> None:
    with socket.socket() as one, pytest.raises(RuleBroken, match=r"connects to \('192.0.2.7', 443\)"):
        one.connect(("192.0.2.7", 443))
    assert unit_rule._watch.broken.pop().startswith("a unit test connects")


@pytest.mark.services
def test_a_test_with_the_marker_may() -> None:
    subprocess.run(["true"], check=True)
