"""Three workers, a steady load, and minutes of random kills, stops, freezes and stalls of the broker."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.faults.workers import SESSION_TIMEOUT_MS, Trial, Verdict, Worker
from tests.services.kafka import Kafka

WORKERS = 3


async def survive(kafka: Kafka, folder: Path, *, minutes: float, seed: int, engine: str) -> Verdict:
    """Do it, and look what has become of the load."""
    trial, rng = Trial(kafka, folder, engine=engine), random.Random(seed)
    await trial.log.begin()
    workers = [trial.start() for _ in range(WORKERS)]
    await trial.taken(workers[0])
    trial.load.begin()
    deadline = time.monotonic() + minutes * 60

    async def kill(at: int) -> None:
        workers[at].tell(signal.SIGKILL)
        await workers[at].ended()
        workers[at] = trial.start()

    async def stop(at: int) -> None:
        workers[at].tell(signal.SIGTERM)
        await workers[at].ended()
        workers[at] = trial.start()

    async def freeze(at: int) -> None:
        workers[at].tell(signal.SIGSTOP)
        await asyncio.sleep(rng.uniform(0.2, 2 * SESSION_TIMEOUT_MS / 1_000))
        workers[at].tell(signal.SIGCONT)

    async def stall(_: int) -> None:
        kafka.server.freeze()
        await asyncio.sleep(rng.uniform(0.2, 2.0))
        kafka.server.thaw()

    async def die_within(at: int) -> None:
        workers[at].tell(signal.SIGTERM)
        await workers[at].ended()
        workers[at] = trial.start(point=rng.choice(("before", "within", "after")))

    blows: tuple[Callable[[int], Awaitable[None]], ...] = (kill, stop, freeze, stall, die_within)
    while time.monotonic() < deadline:
        blow = rng.choice(blows)
        trial.step(blow.__name__)
        await blow(rng.randrange(WORKERS))
        await asyncio.sleep(rng.uniform(0.5, 4.0))
        _revive(trial, workers)
    trial.step("quiet")
    _revive(trial, workers)
    return await trial.finish()


def _revive(trial: Trial, workers: list[Worker]) -> None:
    """Those that died where they were told to."""
    for at, worker in enumerate(workers):
        if not worker.is_running:
            workers[at] = trial.start()
