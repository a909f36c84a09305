"""A story is played in simulated time, and can be stopped early."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from runtime.clock import FileClock
from simulators.stories import START_MS, Moment
from simulators.ward.pace import Pace
from simulators.ward.playback import Playback
from wire.codec import VitalsV1
from wire.identity import NOTHING, About


class ThreeMoments:
    """A story of three moments, ten seconds apart, without readings."""

    title, patients, cadence_ms, ends_ms = "three moments", 1, 10_000, None

    def about(self, patient: int) -> About:
        return NOTHING

    def moments(self) -> Iterator[Moment]:
        return (Moment(START_MS + at_ms, []) for at_ms in (0, 10_000, 20_000))


class AHundredYears(ThreeMoments):
    """A recorded story: a moment, a gap of a hundred years, a moment."""

    title, ends_ms = "a hundred years", START_MS + 876_000 * 3_600_000

    def moments(self) -> Iterator[Moment]:
        return (Moment(START_MS + at_ms, []) for at_ms in (0, 876_000 * 3_600_000))


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[FileClock]:
    clock = FileClock.create(tmp_path / "clock", START_MS)
    yield clock
    clock.close()


def played(
    clock: FileClock, *, duration_ms: int | None, stop_after: int = 99, story_of: type[ThreeMoments] = ThreeMoments
) -> tuple[list[int], Playback]:
    """The event times that were sent, in seconds from the start."""
    sent: list[int] = []

    async def story() -> Playback:
        pace = Pace(clock, speed=100_000, slack_ms=60_000)
        playback = Playback(story_of(), clock, pace, duration_ms=duration_ms, began_s=0.0)

        def send(_: Sequence[tuple[int, VitalsV1]], at_ms: int) -> None:
            sent.append((at_ms - START_MS) // 1_000)
            if len(sent) == stop_after:
                playback.stop()

        await playback.play(send)
        await playback.drain(lambda: 0)
        return playback

    return sent, asyncio.run(story())


def test_without_a_duration_the_whole_story_is_played(clock: FileClock) -> None:
    sent, playback = played(clock, duration_ms=None)

    assert sent == [0, 10, 20]
    assert playback.simulated_s == 20
    assert not playback.is_stopped


def test_a_duration_ends_the_story_at_its_own_time(clock: FileClock) -> None:
    sent, playback = played(clock, duration_ms=15_000)

    assert sent == [0, 10]
    assert playback.simulated_s == 15


def test_a_stopped_story_sends_nothing_more(clock: FileClock) -> None:
    sent, playback = played(clock, duration_ms=None, stop_after=2)

    assert sent == [0, 10]
    assert playback.is_stopped


def test_a_duration_is_simulated_time_also_where_a_recording_has_a_gap(clock: FileClock) -> None:
    sent, playback = played(clock, duration_ms=300_000, story_of=AHundredYears)

    assert sent == [0]
    assert playback.simulated_s == 300


def test_a_story_can_be_stopped_within_a_gap(clock: FileClock) -> None:
    async def story() -> Playback:
        playback = Playback(
            AHundredYears(), clock, Pace(clock, speed=1, slack_ms=60_000), duration_ms=None, began_s=0.0
        )
        playing = asyncio.create_task(playback.play(lambda *_: None))
        await asyncio.sleep(0)
        playback.stop()
        async with asyncio.timeout(10):
            await playing
        return playback

    assert asyncio.run(story()).is_stopped


def test_only_time_whose_readings_are_all_stored_counts_as_complete(clock: FileClock) -> None:
    async def story() -> tuple[int, int]:
        pace = Pace(clock, speed=100_000, slack_ms=60_000)
        playback = Playback(ThreeMoments(), clock, pace, duration_ms=None, began_s=0.0)
        clock.set(START_MS + 30_000)
        pace.sent(b"a", START_MS + 10_000)
        waiting = playback.complete_until_ms
        pace.done([b"a"])
        return waiting - START_MS, playback.complete_until_ms - START_MS

    assert asyncio.run(story()) == (10_000, 30_000)
