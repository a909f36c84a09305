"""The wall clock may be simulated and shared; the monotonic clock is always real."""

from pathlib import Path

from runtime.clock import FileClock, ManualClock, SystemClock


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
