"""The command `vitalloom wearable`: one simulated wearable in a process of its own.

Only the body is simulated. Keys, certificate, connection and buffer are those of a real device.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from runtime import logs
from runtime.clock import Clock, SystemClock
from runtime.hardening import harden
from simulators.errors import BadWard
from simulators.fleet import Fleet
from simulators.stories import START_MS, Simulated
from simulators.ward.options import milliseconds
from wire.enrol.renewal import keep_up
from wire.enrol.wallet import Wallet
from wire.lanes import tls_context
from wire.mqtt import MqttClient

PROGRESS_S: Final = 10.0
"""Seconds between two lines of progress in the log."""
_LOOK_S: Final = 0.2

_log = logs.get(__name__)


def main(identity: Path, *, scenario: str, cadence_ms: int) -> int:
    """The command `vitalloom wearable`.

    Raises:
        NotEnrolled, BadWard: the message names the option or folder and the fix.
    """
    harden()
    logs.set_up(level="INFO")
    wallet = Wallet.load(identity)
    if wallet.me.role != "wearable":
        raise BadWard(
            f"--identity {identity}: belongs to a device of role {wallet.me.role}; name the folder of a wearable"
        )
    seed = int.from_bytes(wallet.me.device_id[:4], "big")
    story = Simulated(scenario, patients=1, seed=seed, cadence_ms=cadence_ms)
    asyncio.run(_run_until_stopped(wallet, story, SystemClock()))
    return 0


def cadence_of(text: str) -> int:
    """`5s` in milliseconds. Raises BadWard."""
    return milliseconds("--cadence", text)


async def run_wearable(wallet: Wallet, story: Simulated, clock: Clock, *, once_assigned: bool = False) -> None:
    """Measure and send until cancelled.

    Args:
        once_assigned: begin the story only when the wearable is assigned to a patient, so that none of it is lost.
    """
    fleet = Fleet([wallet], clock, rng=random.Random())
    client = MqttClient(
        host=wallet.broker.host,
        port=wallet.broker.port,
        client_id=wallet.me.device_id.hex(),
        subscriptions=fleet.subscriptions,
        tls=tls_context(wallet.tls),
    )

    async def live() -> None:
        if once_assigned:
            await until_assigned(fleet, wallet, clock)
        await _measure(fleet, story, clock)

    async with client, asyncio.TaskGroup() as tasks:
        tasks.create_task(fleet.run(client), name="fleet")
        tasks.create_task(keep_up(wallet, clock), name="upkeep")
        tasks.create_task(_log_progress(fleet), name="progress")
        tasks.create_task(live(), name="body")


async def until_assigned(
    fleet: Fleet, wallet: Wallet, clock: Clock, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Ask the edge for this wearable's assignment until there is one: it may have been told before it could hear."""
    while wallet.assignment(clock.now_ms()) is None:
        fleet.request_documents(0)
        await sleep(_LOOK_S)


async def _measure(fleet: Fleet, story: Simulated, clock: Clock) -> None:
    shift_ms = clock.now_ms() - START_MS
    for moment in story.moments():
        at_ms = moment.at_ms + shift_ms
        await asyncio.sleep(max(at_ms - clock.now_ms(), 0) / 1_000)
        for _, sample in moment.samples:
            fleet.send(0, msgspec.structs.replace(sample, t_ms=sample.t_ms + shift_ms), at_ms)


async def _log_progress(fleet: Fleet) -> None:
    logged: tuple[int, ...] = ()
    while True:
        counts = fleet.counts
        latest = (counts.sent, counts.accepted, counts.unassigned)
        if latest != logged:
            logged = latest
            _log.info(
                "readings", sent=counts.sent, accepted=counts.accepted, kept=fleet.kept, unassigned=counts.unassigned
            )
        await asyncio.sleep(PROGRESS_S)


async def _run_until_stopped(wallet: Wallet, story: Simulated, clock: Clock) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    _log.info("wearable started", device=wallet.me.device_id.hex())
    work = asyncio.create_task(run_wearable(wallet, story, clock), name="wearable")
    stop = asyncio.create_task(stopped.wait(), name="stop")
    await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not work.done():
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
