"""The wall clock of an edge: a start in the past, and a clock that is set."""

import pytest

from edge.wall import Wall
from runtime.clock import ManualClock
from tests.edge.benches import HOUR, NOW, SECOND


def test_time_goes_on_from_the_latest_moment_on_the_disk_and_does_not_stand_still() -> None:
    clock = ManualClock(1_000)
    wall = Wall(clock, NOW)

    clock.advance(5 * SECOND)

    assert wall.now_ms() == NOW + 5 * SECOND
    assert wall.follow() == 0


def test_a_clock_that_is_set_at_last_is_believed() -> None:
    clock = ManualClock(1_000)
    wall = Wall(clock, NOW)
    clock.set_wall(NOW + HOUR)

    assert wall.follow() == HOUR
    assert wall.now_ms() == NOW + HOUR
    assert wall.follow() == 0


@pytest.mark.parametrize("step_ms", [-HOUR, -SECOND, SECOND, HOUR])
def test_a_step_is_told_once(step_ms: int) -> None:
    clock = ManualClock(NOW)
    wall = Wall(clock, 0)
    clock.advance(SECOND)
    clock.set_wall(clock.now_ms() + step_ms)

    assert (wall.follow(), wall.follow()) == (step_ms, 0)
    assert wall.now_ms() == NOW + SECOND + step_ms


def test_what_a_time_server_slews_is_no_step() -> None:
    clock = ManualClock(NOW)
    wall = Wall(clock, 0)
    for _ in range(100):
        clock.advance(SECOND)
        clock.set_wall(clock.now_ms() + 50)
        assert wall.follow() == 0


def test_simulated_time_is_not_set() -> None:
    clock = ManualClock(NOW)
    wall = Wall(clock, 0, can_be_set=False)
    clock.set_wall(NOW + HOUR)

    assert wall.follow() == 0
