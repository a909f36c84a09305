"""The phone of the demo: shows what it is sent, whatever that is, and keeps it."""

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from deploy import health
from simulators import phone
from simulators.broker import free_port


@pytest.fixture
def ringing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Path]]:
    """A phone on a port, in a thread; `run` wants the main thread only for its signals."""
    handlers = []
    monkeypatch.setattr("simulators.phone.signal.signal", lambda _, handler: handlers.append(handler))
    port, file = free_port(), tmp_path / "phone.jsonl"
    thread = threading.Thread(target=phone.run, args=("127.0.0.1", port, file))
    thread.start()
    try:
        while health.ask(f"http://127.0.0.1:{port}/"):
            pass
        yield port, file
    finally:
        handlers[0]()
        thread.join(10)
    assert not thread.is_alive()


def post(port: int, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/", body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_it_shows_what_the_desk_sends(ringing: tuple[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
    port, file = ringing

    told = {"title": "*** high alarm", "message": "Bed 3.\nAlarm 1214157c. Open the ward"}

    assert post(port, json.dumps(told).encode()) == 204

    (one,) = phone.shown(file)
    assert (one.title, one.text, one.alarm) == ("*** high alarm", "Bed 3. Alarm 1214157c. Open the ward", "1214157c")
    assert "*** high alarm  Bed 3. Alarm 1214157c" in capsys.readouterr().out


@pytest.mark.parametrize("body", [b"not json", b"[1, 2]", b'"text"', b"\xff\xfe"])
def test_what_is_no_notification_rings_all_the_same(ringing: tuple[int, Path], body: bytes) -> None:
    port, file = ringing

    assert post(port, body) == 204

    assert [one.title for one in phone.shown(file)] == [""]


def test_what_is_too_long_is_refused(ringing: tuple[int, Path]) -> None:
    port, file = ringing

    assert post(port, b"x" * (phone.LONGEST + 1)) == 413

    assert phone.shown(file) == []


def test_a_phone_that_has_not_rung_has_shown_nothing(tmp_path: Path) -> None:
    assert phone.shown(tmp_path / "none") == []
