"""The embedded broker: it comes up, goes down, and leaves nothing behind."""

import socket
from pathlib import Path

import pytest

from simulators.broker import LOOPBACK, EmbeddedBroker, free_port
from simulators.errors import BrokerFailed

pytestmark = pytest.mark.services


def answers(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def test_it_answers_inside_the_block_and_not_after_it(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.is_running
        assert answers(broker.port)

    assert not broker.is_running
    assert not answers(broker.port)


def test_it_can_be_killed_and_started_on_the_same_port(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, port=free_port()) as broker:
        broker.kill()
        assert not answers(broker.port)
        broker.start()
        assert answers(broker.port)
        broker.stop()
        broker.stop()  # twice is once


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.broker.find_spec", lambda _: None)

    with pytest.raises(BrokerFailed, match=r"pip install 'vitalloom\[simulators\]'"):
        EmbeddedBroker(tmp_path).start()
