"""The file that the agent leaves for people: whole, private, of this machine's clock, and without a patient in it."""

import socket
import stat
from pathlib import Path

import pytest

from edge import status as statuses
from edge.config import OutboxConfig
from edge.outbox import Outbox
from edge.process import Teller
from edge.reporting import OVERDUE_MS
from edge.status import Status, age_ms, file_for, places
from runtime.systemd import SystemdNotifier
from tests.edge.benches import ILL, Bench
from tests.edge.statuses import NOW_MS, WELL, a_status
from vitals.messages import AlarmState
from wire.envelope import Stage


def a_bench(folder: Path) -> tuple[Bench, list[Status]]:
    told: list[Status] = []
    bench = Bench(folder)
    bench.agent._status._report = told.append
    return bench, told


def test_what_was_written_is_read_and_nobody_else_may(tmp_path: Path) -> None:
    path = tmp_path / "status"

    statuses.write(path, WELL)
    statuses.write(path, a_status(waiting=3))

    assert statuses.read(path) == a_status(waiting=3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["status"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"schema": 1'])
def test_a_file_that_is_none_is_no_status(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "status").write_bytes(content)

    assert statuses.read(tmp_path / "status") is None


def test_each_agent_has_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))

    first, second = file_for(tmp_path / "a", None), file_for(tmp_path / "b", None)

    assert first != second
    assert first == file_for(tmp_path / "b" / ".." / "a", None)
    assert first.parent == tmp_path
    assert file_for(tmp_path / "a", Path("/run/x")) == Path("/run/x")


def test_it_is_found_from_another_environment_than_the_service_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "SERVICE_FOLDER", str(tmp_path))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    statuses.write(file_for(tmp_path / "data", None), WELL)
    monkeypatch.delenv("RUNTIME_DIRECTORY")

    assert statuses.read(places(tmp_path / "data", None)) == WELL


def test_of_several_the_newest_counts_and_one_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    old, new, denied = tmp_path / "old", tmp_path / "new", tmp_path / "denied"
    statuses.write(old, a_status(at_ms=1))
    statuses.write(new, a_status(at_ms=2))
    denied.mkdir()  # opened as a file it is an error for anybody

    assert statuses.read([old, denied, new]) == a_status(at_ms=2)
    with pytest.raises(IsADirectoryError):
        statuses.read([tmp_path / "nowhere", denied])


def test_a_time_before_the_machine_s_start_has_no_age() -> None:
    assert age_ms(5, 9) == 4
    assert age_ms(9, 5) is None


def test_the_agent_tells_once_a_second_how_it_is(tmp_path: Path) -> None:
    bench, told = a_bench(tmp_path)
    bench.begin(0)
    bench.turn(bench.sealed(0, battery=55.0, sensor_flags=8, **ILL))
    told.clear()

    for _ in range(10):
        bench.pass_time(500)

    assert len(told) == 5
    last = told[-1]
    assert last.progress_ms == last.mono_ms
    assert last.waiting > 0
    assert last.lanes == {"readings": True, "alarms": True}
    assert last.heard_ms is None
    first, second = last.beds
    assert (first.battery, first.flags) == (55.0, ("battery low",))
    assert first.heard_ms is not None
    assert second.heard_ms is None
    standing = [one for one in bench.agent._patients.open_alarms() if one.state is not AlarmState.PENDING]
    assert sum(last.alarms.values()) == len(standing) > 0  # the battery's


def test_no_value_and_no_pseudonym_is_in_it(tmp_path: Path) -> None:
    bench, told = a_bench(tmp_path)
    bench.begin(0)
    bench.turn(bench.sealed(0, **{**ILL, "heart_rate": 137.0}))
    bench.pass_time(1_000)

    statuses.write(tmp_path / "status", told[-1])

    text = (tmp_path / "status").read_text()
    assert "137" not in text.replace(str(told[-1].mono_ms), "")
    for binding in bench.site.bindings:
        assert binding.patient not in text
        assert binding.binding_id.hex() not in text


def test_what_the_data_centre_has_signed_no_longer_waits(tmp_path: Path) -> None:
    bench, told = a_bench(tmp_path)
    bench.begin(0)
    bench.turn(bench.sealed(0))
    bench.pass_time(1_000)
    assert told[-1].waiting == 1

    session = bench.arrived()[0].session_id
    bench.hear(bench.cloud_says(Stage.STORED, session, [(0, 0)]))
    bench.pass_time(1_000)

    assert told[-1].waiting == 0
    assert told[-1].heard_ms is not None


# Progress


def test_a_commit_that_is_overdue_is_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, told = a_bench(tmp_path)
    bench.begin(0)
    monkeypatch.setattr(bench.agent, "_commit", lambda _client: None)  # a defect: it is due, and nothing is done
    bench.turn(bench.sealed(0))

    bench.pass_time(1_000)
    before_ms = told[-1].progress_ms
    bench.pass_time(OVERDUE_MS)

    assert told[-1].progress_ms == before_ms
    assert told[-1].mono_ms - before_ms >= OVERDUE_MS


def test_a_full_disk_is_shown_and_is_no_reason_to_be_started_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, outbox=OutboxConfig(budget_mb=8, commit_ms=100))
    told: list[Status] = []
    bench.agent._status._report = told.append
    bench.begin(0)
    bench.agent._keeper.outbox._connection.execute("PRAGMA max_page_count=1")
    for number in range(300):
        bench.turn(bench.sealed(number * 1_000))
        bench.clock.advance(50)
    bench.pass_time(OVERDUE_MS * 2)

    assert told[-1].stuck
    assert told[-1].progress_ms == told[-1].mono_ms


def test_a_turn_that_hangs_on_the_disk_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, told = a_bench(tmp_path)
    bench.begin(0)
    told.clear()

    def hangs(_: Outbox) -> None:
        raise TimeoutError

    monkeypatch.setattr(Outbox, "oldest_ms", hangs)
    with pytest.raises(TimeoutError):
        bench.pass_time(1_000)

    assert told == []


def test_the_watchdog_is_fed_by_progress_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(5)
        teller = Teller(tmp_path / "status", SystemdNotifier(str(tmp_path / "notify")))

        teller(a_status(mono_ms=NOW_MS, progress_ms=NOW_MS))
        teller(a_status(mono_ms=NOW_MS + 1_000, progress_ms=NOW_MS + 1_000))
        teller(a_status(mono_ms=NOW_MS + 2_000, progress_ms=NOW_MS + 1_000))  # nothing was achieved
        teller(a_status(mono_ms=NOW_MS + 3_000, progress_ms=NOW_MS + 3_000, lanes={"readings": False}))
        teller.stopped()
        said = [heard.recv(200).decode() for _ in range(6)]

    assert said == [
        "READY=1",
        "WATCHDOG=1\nSTATUS=2 beds, 0 waiting, broker up",
        "WATCHDOG=1\nSTATUS=2 beds, 0 waiting, broker up",
        "STATUS=a commit is overdue",
        "WATCHDOG=1\nSTATUS=2 beds, 0 waiting, broker away",
        "STOPPING=1",
    ]
    found = statuses.read(tmp_path / "status")
    assert found is not None
    assert found.stopped


def test_a_status_that_cannot_be_written_is_said_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teller = Teller(tmp_path / "nowhere" / "status", SystemdNotifier())

    teller(WELL)
    teller(WELL)

    assert [record.message for record in caplog.records] == [
        "the status cannot be written; beside the bed it will sound"
    ]
