"""Patient states on the edge's disk: locked, one run after the other, with a key that is not on that disk."""

import os
from pathlib import Path

import pytest

from edge.at_rest import KEY_BYTES, StateLock, key_file, lies_with
from tests.edge.benches import ILL, Bench

ANN, BOB = b"a" * 16, b"b" * 16


def test_the_next_run_opens_what_this_one_has_locked(tmp_path: Path) -> None:
    locked = StateLock.open(tmp_path / "state.key").lock(ANN, b"hr 71")

    assert b"hr 71" not in locked
    assert StateLock.open(tmp_path / "state.key").unlock(ANN, locked) == b"hr 71"
    assert (tmp_path / "state.key").stat().st_mode & 0o777 == 0o600


def test_nobody_else_opens_it_and_it_is_good_for_one_patient(tmp_path: Path) -> None:
    lock = StateLock.open(tmp_path / "state.key")
    locked = lock.lock(ANN, b"hr 71")

    assert StateLock(os.urandom(KEY_BYTES)).unlock(ANN, locked) is None
    assert lock.unlock(BOB, locked) is None
    for at in range(len(locked)):
        assert lock.unlock(ANN, locked[:at]) is None
        assert lock.unlock(ANN, locked[:at] + bytes([locked[at] ^ 1]) + locked[at + 1 :]) is None


def test_no_nonce_comes_twice_in_a_run_and_no_key_in_two(tmp_path: Path) -> None:
    runs = [StateLock.open(tmp_path / "state.key") for _ in range(3)]
    locked = [run.lock(ANN, b"the same") for run in runs for _ in range(100)]

    assert len({one[:28] for one in locked}) == 300  # run and counter
    assert len({one[28:] for one in locked}) == 300


@pytest.mark.parametrize("damage", ["cut", "open to others", "link"])
def test_a_key_that_cannot_be_used_stops_nobody(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "state.key"
    before = StateLock.open(path).lock(ANN, b"hr 71")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:31])
    elif damage == "open to others":
        path.chmod(0o644)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")

    lock = StateLock.open(path)

    assert lock.unlock(ANN, before) is None
    assert lock.unlock(ANN, lock.lock(ANN, b"hr 72")) == b"hr 72"
    assert bool(lock.problem) is (damage != "cut")  # a cut one is made anew; what may be somebody's trap is not touched


def test_without_a_place_the_lock_is_good_for_this_process_and_says_so(tmp_path: Path) -> None:
    assert "state_key" in StateLock.open(None).problem
    assert "No such file" in StateLock.open(tmp_path / "missing" / "state.key").problem


def test_the_place_is_the_service_s_folder_in_memory_else_the_user_s_else_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("service", "user"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "service"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "user"))
    name = f"vitalloom-edge-{ANN.hex()}.key"

    assert key_file(ANN) == tmp_path / "service" / name
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert key_file(ANN) == tmp_path / "user" / name
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert key_file(ANN) in (Path("/dev/shm") / name, None)


def test_a_key_on_the_disk_that_it_is_to_protect_is_noticed(tmp_path: Path) -> None:
    assert lies_with(tmp_path / "state.key", tmp_path / "not yet" / "made")
    assert not lies_with(Path("/proc/state.key"), tmp_path)


def test_after_a_power_cut_the_states_are_gone_and_the_agent_judges_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    bench.begin(0)
    for n in range(12):
        bench.turn(bench.sealed(n * 5_000, **ILL))  # an alarm of the edge's own
        bench.pass_time(5_000)
    standing = len(bench.agent._patients.open_alarms())
    assert standing

    bench.crash()
    assert len(bench.agent._patients.open_alarms()) == standing  # a crash is no power cut

    (tmp_path / "state.key").unlink()
    bench.crash()
    assert bench.agent._patients.open_alarms() == []
    for n in range(12, 24):
        bench.turn(bench.sealed(n * 5_000, **ILL))
        bench.pass_time(5_000)
    assert len(bench.agent._patients.open_alarms()) == standing
    assert bench.agent.counts.accepted == 12
