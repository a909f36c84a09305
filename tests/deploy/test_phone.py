"""The simulated phone of the demo: shows and stores the notifications that it receives."""

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from deploy import health, phone
from simulators.broker import free_port
from tests.patience import PATIENCE_S


@pytest.fixture
def running_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Path]]:
    """A phone on a port, in a thread; `run` needs the main thread only for its signal handlers."""
    handlers = []
    monkeypatch.setattr("deploy.phone.signal.signal", lambda _, handler: handlers.append(handler))
    port, file = free_port(), tmp_path / "phone.jsonl"
    thread = threading.Thread(target=phone.run, args=("127.0.0.1", port, file))
    thread.start()
    try:
        while health.problem_of(f"http://127.0.0.1:{port}/"):
            pass
        yield port, file
    finally:
        handlers[0]()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def post(port: int, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("POST", "/", body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_notification_is_shown_and_stored(running_phone: tuple[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    port, file = running_phone

    notification = {"title": "*** high alarm", "message": "Bed 3.\nAlarm 1214157c. Open the ward"}

    assert post(port, json.dumps(notification).encode()) == 204

    (one,) = phone.messages(file)
    assert (one.title, one.text, one.alarm) == ("*** high alarm", "Bed 3. Alarm 1214157c. Open the ward", "1214157c")
    assert "*** high alarm  Bed 3. Alarm 1214157c" in capsys.readouterr().out


@pytest.mark.parametrize("body", [b"not json", b"[1, 2]", b'"text"', b"\xff\xfe"])
def test_malformed_notification_is_stored_without_title(running_phone: tuple[int, Path], body: bytes) -> None:
    port, file = running_phone

    assert post(port, body) == 204

    assert [one.title for one in phone.messages(file)] == [""]


def test_too_long_notification_is_refused(running_phone: tuple[int, Path]) -> None:
    port, file = running_phone

    assert post(port, b"x" * (phone.MAX_BODY_BYTES + 1)) == 413

    assert phone.messages(file) == []


def test_missing_file_means_no_notifications(tmp_path: Path) -> None:
    assert phone.messages(tmp_path / "none") == []
