"""Simulated time keeps under its ceiling and waits for readings in transit."""

import asyncio

from simulators.ward.pace import Pace


class HandWall:
    """A wall that is set by the pace, and a monotonic clock that moves by itself, 50 ms a look."""

    def __init__(self) -> None:
        self.wall_ms = 0
        self.real_ms = 0
        self.moves: list[int] = []

    def now_ms(self) -> int:
        return self.wall_ms

    def mono_ms(self) -> int:
        self.real_ms += 50
        return self.real_ms

    def set(self, now_ms: int) -> None:
        self.wall_ms = now_ms
        self.moves.append(now_ms)


def test_the_wall_reaches_the_moment_and_never_passes_it() -> None:
    wall = HandWall()

    asyncio.run(Pace(wall, speed=1_000, slack_ms=60_000).until(5_500))

    assert wall.wall_ms == 5_500
    assert wall.moves == sorted(wall.moves)


def test_the_wall_never_outruns_its_speed() -> None:
    wall = HandWall()

    asyncio.run(Pace(wall, speed=10, slack_ms=60_000).until(3_000))

    assert wall.real_ms >= 300


def test_an_unstored_reading_holds_the_wall_until_it_is_stored() -> None:
    #   sent at 0      stored
    #   |--- slack ----|xxxxxxx held |---------> 200,000
    async def story() -> tuple[int, int]:
        wall = HandWall()
        pace = Pace(wall, speed=1_000_000, slack_ms=60_000)
        pace.sent(b"a", 0)
        going = asyncio.create_task(pace.until(200_000))
        for _ in range(20):
            await asyncio.sleep(0)
        held_at = wall.wall_ms
        pace.done([b"a"])
        await going
        return held_at, wall.wall_ms

    assert asyncio.run(story()) == (60_000, 200_000)


def test_drained_says_whether_everything_arrived() -> None:
    async def story() -> tuple[bool, bool]:
        wall = HandWall()
        pace = Pace(wall, speed=1, slack_ms=1)
        pace.sent(b"a", 0)
        never = await pace.drained(within_s=0.0)
        pace.done([b"a"])
        return never, await pace.drained(within_s=0.0)

    assert asyncio.run(story()) == (False, True)
