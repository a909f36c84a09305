"""The alarm desk of a ward as a person meets it: a message on a phone, an answer, and the ladder without one."""

import contextlib
import json
import queue
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from simulators.ward.alarm_desk import RUNG_S, policy
from tests.patience import PATIENCE_S
from tests.stream.desk.desks import ROOT
from vitals.messages import Priority

WITHIN_S = 240.0
"""Many times what it takes on a machine that does nothing else."""


_FORM: Final = re.compile(r"<form.*?</form>")
_FIELD: Final = re.compile(r'name="(\w+)" value="([^"]*)"')


@pytest.mark.parametrize("speed", [0.5, 1.0, 30.0, 3_600.0])
def test_the_ladder_takes_the_same_real_time_at_every_speed_and_never_gives_up(speed: float) -> None:
    ladders = policy(speed)
    ladders.check()

    delays_s = [step.delay_ms / speed / 1_000 for step in ladders.ladder(Priority.HIGH).steps]

    assert delays_s == [0, RUNG_S, 2 * RUNG_S, 3 * RUNG_S]
    assert all(ladder.repeat_ms is not None for name, ladder in ladders.ladders() if name != "low")


class RunningWard:
    """`vitalloom ward --headless` as a process, and the lines that it prints."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._lines: queue.Queue[str] = queue.Queue()
        self.printed: list[str] = []
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def line(self, pattern: str) -> "re.Match[str]":
        """The next line that has this in it."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                raise AssertionError(f"no line has {pattern!r}: {self.printed[-30:]}") from None
            self.printed.append(line)
            if found := re.search(pattern, line):
                return found

    def alarms(self, *arguments: str) -> str:
        """`vitalloom alarms`, from another terminal, without a password."""
        login = ("--login-file", str(self._folder / "desk" / "anna.login"))
        done = subprocess.run(
            [sys.executable, "-m", "vitalloom", "alarms", *login, *arguments],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=WITHIN_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.alarms("list", "--json"))["alarms"]
        return found

    def stop(self) -> str:
        """As Ctrl-C; everything that it printed."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(WITHIN_S) == 0
        while (line := self._lines.get(timeout=WITHIN_S)) != "":
            self.printed.append(line)
        return "".join(self.printed)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self._folder}/store.sqlite?mode=ro", uri=True)) as store:
            return store.execute(query).fetchall()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[RunningWard]:
    process = subprocess.Popen(
        [sys.executable, "-m", "vitalloom", "ward", "--headless", "--data", str(tmp_path / "ward"), "--speed", "20"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    ward = RunningWard(process, tmp_path / "ward")
    try:
        yield ward
    finally:
        process.kill()
        ward.reading.join()
        process.communicate()


@pytest.mark.services
def test_an_alarm_rings_and_an_answer_from_another_terminal_ends_calling(ward: RunningWard) -> None:
    page = ward.line(r"phones +http://(\S+)")[1]
    alarm = ward.line(r"alarm ([0-9a-f]{8}): called anna")[1]
    assert f"Alarm {alarm}" in fetched(f"http://{page}")

    said = ward.alarms("ack", alarm, "--yes")

    assert f"{alarm}: answered by anna at " in said
    ward.line(rf"alarm {alarm}: answered by anna, calling stopped")
    wait_until(lambda: "anna" in answerers(ward, alarm) or answered_again(ward, alarm))
    another = ward.line(r"alarm ([0-9a-f]{8}): called anna")[1]
    wait_until(lambda: press(f"http://{page}", another))
    ward.line(rf"alarm {another}: answered by anna, calling stopped")
    printed = ward.stop()
    calls_after = printed.split(f"alarm {alarm}: answered by anna")[-1].count(f"alarm {alarm}: called")
    assert calls_after == 0 or became_worse(ward, alarm)
    assert re.search(r"answered +\d+ +alarms: anna \d+", printed)
    assert "anna" in answerers(ward, alarm)


@pytest.mark.services
def test_without_an_answer_the_next_people_are_called_and_a_silence_stops_them(ward: RunningWard) -> None:
    alarm = ward.line(r"alarm ([0-9a-f]{8}): called anna")[1]

    ward.line(rf"alarm {alarm}: called ben")
    ward.line(rf"alarm {alarm}: called carla")
    said = ward.alarms("silence", alarm, "--minutes", "600", "--yes")

    assert "silenced until" in said
    ward.line(rf"alarm {alarm}: silenced until")
    assert f"alarm {alarm}: called" not in ward.stop().split(f"alarm {alarm}: silenced")[1]


def answerers(ward: RunningWard, alarm: str) -> set[str]:
    """Who has answered an alarm, as the store has recorded it."""
    recorded = ward.rows(f"SELECT DISTINCT acknowledged_by FROM alarm WHERE hex(alarm_id) LIKE '{alarm.upper()}%'")
    return {person for (person,) in recorded if person is not None}


def answered_again(ward: RunningWard, alarm: str) -> bool:
    """Answer an alarm that became worse before its answer was recorded, and so calls again; never yet recorded."""
    if any(one["id"].startswith(alarm) and one["acknowledged_by"] is None for one in ward.listed()):
        ward.alarms("ack", alarm, "--yes")
    return False


def became_worse(ward: RunningWard, alarm: str) -> bool:
    """Whether an alarm changed its priority or grade while it stood: it then calls again, answered or not."""
    degrees = f"SELECT COUNT(DISTINCT priority || '/' || grade) FROM alarm WHERE hex(alarm_id) LIKE '{alarm.upper()}%'"
    return bool(ward.rows(degrees)[0][0] > 1)


def press(page: str, alarm: str) -> bool:
    """Press the button for an alarm on anna's phone; whether the page then says that she has answered it."""
    forms = [dict(_FIELD.findall(form)) for form in _FORM.findall(fetched(page))]
    fields = next((one for one in forms if one["alarm"].startswith(alarm) and one["person"] == "anna"), None)
    if fields is None:
        return False
    answered = fetched(f"{page}answer", urlencode(fields).encode())
    return "Not answered" not in answered  # it may have changed after the page was made: look again


def fetched(url: str, body: bytes | None = None) -> str:
    with urllib.request.urlopen(url, body, timeout=PATIENCE_S) as answer:  # noqa: S310 - of the ward itself
        return str(answer.read().decode())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
