"""The wall clock may be simulated and shared; the monotonic clock is always real."""

from pathlib import Path

import pytest

from runtime.clock import FileClock, ManualClock, SteadyClock, SystemClock


def test_two_processes_share_one_simulated_wall_clock(tmp_path: Path) -> None:
    ward = FileClock.create(tmp_path / "clock", 1_000)
    edge = FileClock(tmp_path / "clock")

    ward.set(61_000)

    assert edge.now_ms() == 61_000
    ward.close()
    edge.close()


def test_wrong_wall_clock_does_not_change_the_monotonic_clock() -> None:
    clock = ManualClock(1_000, mono_ms=50)

    clock.set_wall(999_999_999)
    clock.advance(10)

    assert clock.mono_ms() == 60
    assert clock.now_ms() == 1_000_000_009


def test_the_monotonic_clock_never_goes_back() -> None:
    clock = SystemClock()

    readings = [clock.mono_ms() for _ in range(1_000)]

    assert readings == sorted(readings)


@pytest.mark.parametrize("step_ms", [-86_400_000, -3_600_000, -60_000, 60_000, 3_600_000, 86_400_000])
def test_a_steady_clock_does_not_step_and_follows_at_one_percent(step_ms: int) -> None:
    machine = ManualClock(1_767_600_000_000)
    steady = SteadyClock(machine)
    machine.set_wall(machine.now_ms() + step_ms)

    before = steady.now_ms()
    for _ in range(1_000):
        machine.advance(100)
        now = steady.now_ms()
        assert 99 <= now - before <= 101
        before = now

    assert abs(before - 1_767_600_100_000 - (1_000 if step_ms > 0 else -1_000)) <= 1
    assert abs(steady.behind_ms - step_ms) <= 1_001


def test_a_steady_clock_arrives_at_the_machine_s_time() -> None:
    machine = ManualClock(0)
    steady = SteadyClock(machine)
    machine.set_wall(3_000)
    machine.advance(400_000)

    assert steady.now_ms() == machine.now_ms()
    assert steady.behind_ms == 0
