"""The desk's API and the command line that uses it: who gets in, what is shown, what an answer does."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runtime import passwords
from runtime.clock import ManualClock, SystemClock
from stream.config import DeskApiConfig, DeskConfig, DeskTls
from stream.desk import alarm_commands
from stream.desk.book import DeskBook
from stream.desk.client import DeskClient
from stream.desk.desk import AlarmDesk, Place
from stream.desk.http import DeskServer, build_app
from stream.desk.notify import Addresses
from stream.desk.ports import SourceRecord
from stream.desk.users import Door, Users
from stream.errors import DeskCommandFailed, DeskUnusable
from tests.patience import PATIENCE_S
from tests.stream.desk.alarms import AMBER, BINDING, MINUTE, NOW, an_id, told
from vitals.messages import AlarmState
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem
from wire.stays import KnownStay

PASSWORD = "a long way from home"
RUN = CliRunner()


class Ward:
    """A desk behind its API, in a thread with an event loop of its own, and a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        path = folder / "addresses.toml"
        path.write_text("", encoding="utf-8")
        path.chmod(0o600)
        self.clock = ManualClock(NOW)
        self.book = DeskBook(folder / "desk.sqlite")
        self.users = Users(folder / "users.json")
        self.users.put("anna", PASSWORD, now_ms=NOW)
        config = DeskConfig(addresses=path)
        self.stays = [KnownStay(BINDING, "12", "P-1", NOW - 60 * MINUTE, None)]
        self.desk = AlarmDesk(
            config,
            self.book,
            Addresses(path),
            self.clock,
            place_of=lambda _: Place("12", "P-1"),
            stays=lambda: self.stays,
        )
        self.door = Door(self.users, self.book, self.clock, session_ms=12 * 60 * MINUTE)
        self.trouble = ""
        self.app = build_app(
            self.desk, self.door, self.clock, site="North", longest_silence_minutes=60, trouble=lambda: self.trouble
        )
        self.port = 0

    def hear(self, *records: Any) -> None:
        self.desk.hear([SourceRecord("alarms", 0, index, record) for index, record in enumerate(records)])

    def ask(
        self,
        method: str,
        path: str,
        asked: object = None,
        *,
        token: str = "",
        body: bytes | None = None,
        **headers: str,
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        told_ = {"Content-Type": "application/json"} | headers | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            connection.request(method, path, json.dumps(asked).encode() if body is None else body, told_)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content.startswith(b"{") else content.decode()
        finally:
            connection.close()

    def log_in(self, user: str = "anna", password: str = PASSWORD) -> tuple[int, Any]:
        return self.ask("POST", "/v1/login", {"user": user, "password": password})

    def token(self) -> str:
        return str(self.log_in()[1]["token"])


@contextmanager
def served(ward: Ward, *, tls: DeskTls | None = None) -> Iterator[Ward]:
    begun, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with DeskServer(ward.app, DeskApiConfig(listen="127.0.0.1:0", tls=tls)) as server:
            ward.port = server.port
            begun.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert begun.wait(PATIENCE_S)
    try:
        yield ward
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE_S)
        loop.close()
        ward.book.close()


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    monkeypatch.setattr(passwords, "_MEMORY_KIB", 64)  # tests need not be slow to guess at
    with served(Ward(tmp_path)) as made:
        yield made


# Who gets in


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/alarms"),
        ("POST", "/v1/logout"),
        ("POST", f"/v1/alarms/{an_id().hex()}/acknowledge"),
        ("POST", f"/v1/alarms/{an_id().hex()}/silence"),
    ],
)
@pytest.mark.parametrize("token", ["", "wrong", "x" * 5_000])
def test_without_a_login_there_is_nothing(ward: Ward, method: str, path: str, token: str) -> None:
    ward.hear(told())

    status, answer = ward.ask(method, path, {"revision": 0, "minutes": 1}, token=token)

    assert status == 401
    assert "vitalloom alarms login" in answer["problem"]
    assert not ward.desk.standing()[0].kept.is_answered


@pytest.mark.parametrize(("user", "password"), [("anna", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_name_and_a_wrong_password_sound_the_same(ward: Ward, user: str, password: str) -> None:
    assert ward.log_in(user, password) == (401, {"problem": "wrong name or password"})


def test_failed_logins_are_rate_limited_for_their_address_only(ward: Ward) -> None:
    ward.users.put("ben", PASSWORD, now_ms=NOW)
    statuses = [ward.log_in(password=f"guess number {one}")[0] for one in range(7)]

    assert statuses == [401] * 5 + [429] * 2
    assert ward.log_in()[0] == 429  # the right one comes too late
    assert ward.log_in("ben")[0] == 200
    ward.clock.advance(5 * MINUTE)
    assert ward.log_in()[0] == 200


def test_a_login_ends_with_its_time_its_user_its_password_and_at_will(ward: Ward) -> None:
    def may(token: str) -> bool:
        return ward.ask("GET", "/v1/alarms", token=token)[0] == 200

    first, second = ward.token(), ward.token()
    assert may(first)
    assert may(second)
    ward.ask("POST", "/v1/logout", {}, token=second)
    assert not may(second)
    ward.clock.advance(1)
    ward.users.put("anna", f"{PASSWORD} again", now_ms=ward.clock.now_ms())
    assert not may(first)
    ward.users.put("anna", PASSWORD, now_ms=NOW)
    third = ward.token()
    ward.clock.advance(12 * 60 * MINUTE)
    assert not may(third)
    fourth = ward.token()
    ward.users.remove("anna")
    assert not may(fourth)


def test_the_book_keeps_no_token(ward: Ward) -> None:
    token = ward.token()

    assert token.encode() not in b"".join(row[0] for row in ward.book.query("SELECT digest FROM session"))


@pytest.mark.parametrize(
    ("name", "password", "says"),
    [
        ("", PASSWORD, "a name must have"),
        ("anna\n", PASSWORD, "a name must have"),
        ("x" * 65, PASSWORD, "a name must have"),
        ("anna", "short", "12 to 256 characters"),
        ("anna", "x" * 257, "12 to 256 characters"),
        ("anna", "annaannaanna", "must not contain the name"),
        ("ben", "aaaaaaaaaaaa", "5 different characters"),
    ],
)
def test_invalid_names_and_passwords_are_refused(tmp_path: Path, name: str, password: str, says: str) -> None:
    users = Users(tmp_path / "users.json")

    with pytest.raises(DeskUnusable, match=says):
        users.put(name, password, now_ms=NOW)

    assert users.all() == {}


def test_the_file_of_users_is_private_and_holds_no_password(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    users.put("anna", PASSWORD, now_ms=NOW)

    assert users.path.stat().st_mode & 0o777 == 0o600
    assert "$argon2id$" in users.path.read_text()
    assert PASSWORD not in users.path.read_text()


def test_tls_is_served_and_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    authority, root = Authority.begin("site", at=moment(SystemClock().now_ms()))
    key = new_tls_key()
    made = authority.server(key.public_key(), hosts=("127.0.0.1",), at=moment(SystemClock().now_ms()), days=1)
    for name, content in (
        ("root.crt", pem(root.certificate)),
        ("desk.crt", pem(made) + pem(authority.issuing)),
        ("desk.key", key_pem(key)),
    ):
        (tmp_path / name).write_bytes(content)
    tls = DeskTls(certificate=tmp_path / "desk.crt", key=tmp_path / "desk.key")

    with served(Ward(tmp_path), tls=tls) as ward:
        url = f"https://127.0.0.1:{ward.port}"
        with pytest.raises(DeskCommandFailed, match="not logged in, or the login has expired"):
            DeskClient(url, root=tmp_path / "root.crt", token="wrong").alarms(dict[str, Any])
        with pytest.raises(DeskCommandFailed, match="certificate that is not trusted"):
            DeskClient(url, token="wrong").alarms(dict[str, Any])
        with pytest.raises(DeskCommandFailed, match="cannot be reached"):
            DeskClient(f"http://127.0.0.1:{ward.port}", token="wrong").alarms(dict[str, Any])
    with pytest.raises(DeskUnusable, match="not a certificate and its key"):
        DeskServer(ward.app, DeskApiConfig(tls=DeskTls(certificate=tmp_path / "desk.key", key=tmp_path / "desk.crt")))


# What comes in


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"revision": "0"}', 400),
        (b'{"revision": 0, "more": 1}', 400),
        (b'{"revision": 0, "revision": 0}', 400),
        (b'{"revision": 99999999999}', 400),
        (b'{"revision": 0' + b" " * 5_000 + b"}", 413),
    ],
)
def test_malformed_requests_are_refused(ward: Ward, asked: bytes, status: int) -> None:
    ward.hear(told())

    found, _ = ward.ask("POST", f"/v1/alarms/{an_id().hex()}/acknowledge", token=ward.token(), body=asked)

    assert found == status
    assert not ward.desk.standing()[0].kept.is_answered


@pytest.mark.parametrize("alarm", ["x", "00", "zz" * 16, "../login", an_id(9).hex()])
def test_an_unknown_alarm_id_is_refused(ward: Ward, alarm: str) -> None:
    status, _ = ward.ask("POST", f"/v1/alarms/{alarm}/acknowledge", {"revision": 0}, token=ward.token())

    assert status in (400, 404)


@pytest.mark.parametrize(("minutes", "status"), [(0, 400), (61, 400), (100_000, 400), (60, 200)])
def test_a_silence_has_an_end(ward: Ward, minutes: int, status: int) -> None:
    ward.hear(told())

    asked = {"revision": 0, "minutes": minutes}
    found, _ = ward.ask("POST", f"/v1/alarms/{an_id().hex()}/silence", asked, token=ward.token())

    assert found == status


# Seeing and answering


def test_an_alarm_is_shown_with_all_that_there_is_to_say(ward: Ward) -> None:
    ward.hear(told())
    ward.trouble = "still reading the alarms that it missed"

    status, shown = ward.ask("GET", "/v1/alarms", token=ward.token())

    assert status == 200
    assert shown["notice"] == "Decision support and secondary notification. Not a certified medical device."
    assert shown["trouble"] == "still reading the alarms that it missed"
    (alarm,) = shown["alarms"]
    assert (alarm["priority"], alarm["mark"], alarm["place"], alarm["text"], alarm["stay"]) == (
        "high",
        "***",
        "bed 12",
        "NEWS2 7: RR 26 (+3)",
        BINDING,
    )
    assert alarm["acknowledged_by"] is None
    assert alarm["calling"]


def test_an_answer_is_on_disk_and_on_its_way_when_it_is_confirmed(ward: Ward) -> None:
    ward.hear(told())

    status, done = ward.ask("POST", f"/v1/alarms/{an_id().hex()}/acknowledge", {"revision": 0}, token=ward.token())

    assert (status, done["by"]) == (200, "anna")
    kept = ward.book.alarms.get(an_id())
    assert kept is not None
    assert kept.answered_by == "anna"
    (pending,) = ward.book.entries.all()
    assert pending.entry.message.by == "anna"


def test_an_answer_to_an_alarm_that_got_worse_is_refused(ward: Ward) -> None:
    ward.hear(told(), told(revision=1, text="NEWS2 9"))

    status, answer = ward.ask("POST", f"/v1/alarms/{an_id().hex()}/acknowledge", {"revision": 0}, token=ward.token())

    assert status == 409
    assert "look again" in answer["problem"]
    assert ward.book.entries.all() == []


def test_a_full_disk_refuses_answers(ward: Ward) -> None:
    ward.hear(told())
    token = ward.token()
    ward.book._db.execute("PRAGMA query_only = 1")

    status, answer = ward.ask("POST", f"/v1/alarms/{an_id().hex()}/acknowledge", {"revision": 0}, token=token)

    assert status == 503
    assert "NOT done" in answer["problem"]


# From a terminal


@pytest.fixture
def home(ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VITALLOOM_DESK_URL", f"http://127.0.0.1:{ward.port}")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


def says(*arguments: str, given: str = "") -> str:
    done = RUN.invoke(alarm_commands.alarms, arguments, input=given)
    return done.stdout if done.exit_code == 0 else f"{done.exit_code}: {done.exception}"


def test_the_alarms_command_logs_in_lists_answers_and_logs_out(ward: Ward, home: Path) -> None:
    ward.hear(told(1, response="call the team"), told(2, rule_id="low_spo2", priority=AMBER))

    assert "not logged in; log in: vitalloom alarms login NAME" in says("list")
    assert "anna is logged in" in says("login", "anna", given=f"{PASSWORD}\n")
    assert (home / "vitalloom" / "desk.token").stat().st_mode & 0o777 == 0o600
    table = says("list")
    assert table.index("*** high") < table.index("** medium")
    assert "bed 12" in table
    assert "not yet" in table
    assert table.count("Recommended: ") == table.count("Recommended: call the team") == 1
    assert "Not a certified medical device." in table
    assert "cannot ask for confirmation without a terminal" in says("ack", "00000001")
    assert "answered by anna" in says("ack", "00000001", "--yes")
    assert "silenced until" in says("silence", "00000002", "--minutes", "5", "--yes")
    shown = json.loads(says("list", "--json"))
    assert {one["acknowledged_by"] for one in shown["alarms"]} == {None, "anna"}
    assert [one["response"] for one in shown["alarms"]].count("call the team") == 1
    assert "anna" in says("list")
    assert "no such open alarm" in says("ack", "ffffffff", "--yes")
    assert "fits more than one alarm" in says("ack", "0000", "--yes")
    assert says("logout") == "logged out\n"
    assert "not logged in" in says("list")


def test_a_terminal_says_what_is_wrong(ward: Ward, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "wrong name or password" in says("login", "anna", given="guess\n")
    says("login", "anna", given=f"{PASSWORD}\n")
    ward.hear(told())
    assert "has changed since you looked" in says("ack", "00000001", "--revision", "7")
    ward.clock.advance(13 * 60 * MINUTE)
    assert "not logged in, or the login has expired" in says("list")
    monkeypatch.setenv("VITALLOOM_DESK_URL", "http://127.0.0.1:9")
    assert "not at http://127.0.0.1:9" in says("list")  # the token is shown to nobody else
    monkeypatch.setenv("VITALLOOM_DESK_TOKEN", "of a script")
    assert "cannot be reached" in says("list")
    monkeypatch.setenv("VITALLOOM_DESK_URL", "http://desk.example")
    assert "use https" in says("list")


def test_an_alarm_that_ended_unseen_is_listed_as_was(ward: Ward, home: Path) -> None:
    ward.hear(told(state=AlarmState.CLEARED, latched=True, text="NEWS2 7\x1b[2J"))
    says("login", "anna", given=f"{PASSWORD}\n")

    assert "was: NEWS2 7?[2J" in says("list")
