"""The demonstration phone: shows and stores the notifications that it receives, and answers from its page."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from deploy import health
from simulators import phone
from simulators.broker import free_port
from tests.patience import PATIENCE_S


@pytest.fixture
def running_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Path]]:
    """A phone on a port, in a thread; `run` wants the main thread only for its signals."""
    handlers = []
    monkeypatch.setattr("simulators.phone.signal.signal", lambda _, handler: handlers.append(handler))
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


# The page


class Desk:
    """In place of a desk: alarms as they stand, and the answers that were given."""

    def __init__(self, **alarms: phone.AlarmNow) -> None:
        self.open: dict[str, phone.AlarmNow] | None = alarms
        self.answers: list[tuple[str, str, int]] = []
        self.problem = ""

    def alarms(self) -> dict[str, phone.AlarmNow] | None:
        return self.open

    def answer(self, person: str, alarm_id: str, revision: int) -> str:
        self.answers.append((person, alarm_id, revision))
        return self.problem


def an_open_alarm(**changes: Any) -> phone.AlarmNow:
    facts = {"alarm_id": "ab" * 16, "revision": 4, "text": "NEWS2 7 <now>", "is_calling": True}
    return phone.AlarmNow(**{**facts, **changes})


@contextmanager
def phones(desk: Desk | None) -> Iterator[phone.Phone]:
    people = {"anna": "nurse", "ben": "second nurse"}
    with phone.Phone("127.0.0.1", 0, on_message=lambda _: None, answering=desk, people=people) as shown:
        yield shown


def ask(shown: phone.Phone, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", int(shown.url.rsplit(":", 1)[1].strip("/")), timeout=PATIENCE_S)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def send(shown: phone.Phone, person: str = "anna", alarm: str = "abababab") -> None:
    told = {"title": "*** high alarm, bed 3", "message": f"Bed <3>.\nAlarm {alarm}. Open the ward"}
    assert ask(shown, "POST", f"/{person}", json.dumps(told).encode())[0] == 204


def form(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def test_a_message_has_the_time_of_the_ward_and_not_of_the_machine() -> None:
    ward = {"now_s": lambda: 8 * 3_600.0, "time_text": lambda at_s: f"ward {at_s / 3_600:.0f} h"}
    with phone.Phone("127.0.0.1", 0, on_message=lambda _: None, people={"anna": "nurse"}, **ward) as shown:
        send(shown)

        assert "<time>ward 8 h</time>" in ask(shown, "GET", "/")[1]


def test_a_message_is_on_the_phone_of_the_person_it_was_sent_to_and_cannot_change_the_page() -> None:
    with phones(None) as shown:
        send(shown, "ben")
        page = ask(shown, "GET", "/")[1]

    anna, ben = page.split("<section>")[1:]
    assert "anna – nurse" in anna
    assert "No message." in anna
    assert "Bed &lt;3&gt;.\nAlarm abababab" in ben
    assert "vitalloom alarms ack abababab" in ben  # without a desk behind it the page cannot answer


def test_the_button_answers_for_that_person_what_the_page_has_shown() -> None:
    desk = Desk(abababab=an_open_alarm())
    with phones(desk) as shown:
        send(shown)
        page = ask(shown, "GET", "/")[1]
        assert "Now: NEWS2 7 &lt;now&gt;" in page
        status, _ = ask(shown, "POST", "/answer", urlencode(form(page)).encode())

    assert status == 303
    assert desk.answers == [("anna", "ab" * 16, 4)]


def test_why_an_answer_was_refused_is_shown_once() -> None:
    desk = Desk(abababab=an_open_alarm())
    desk.problem = "the alarm has changed since you looked"
    with phones(desk) as shown:
        send(shown)
        ask(shown, "POST", "/answer", urlencode(form(ask(shown, "GET", "/")[1])).encode())
        pages = [ask(shown, "GET", "/")[1] for _ in range(2)]

    assert [desk.problem in page for page in pages] == [True, False]


@pytest.mark.parametrize("wrong", [{"key": "guessed"}, {"revision": "x"}, {"revision": ""}])
def test_another_page_cannot_press_the_button(wrong: dict[str, str]) -> None:
    desk = Desk(abababab=an_open_alarm())
    with phones(desk) as shown:
        send(shown)
        fields = form(ask(shown, "GET", "/")[1]) | wrong
        status, _ = ask(shown, "POST", "/answer", urlencode(fields).encode())

    assert status == 403
    assert desk.answers == []


@pytest.mark.parametrize(
    ("alarms", "says"),
    [
        ({"abababab": an_open_alarm(answered_by="ben", is_calling=False)}, "Answered by ben"),
        ({"abababab": an_open_alarm(is_calling=False)}, "Silenced."),
        ({}, "This alarm is over."),
        (None, "The alarm desk does not answer."),
    ],
)
def test_the_page_says_how_the_alarm_stands_now(alarms: dict[str, phone.AlarmNow] | None, says: str) -> None:
    desk = Desk()
    desk.open = alarms
    with phones(desk) as shown:
        send(shown)
        page = ask(shown, "GET", "/")[1]

    assert says in page
