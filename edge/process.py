"""The process `vitalloom edge`: reads its configuration, runs an agent until a signal stops it, and starts a new agent
after damage to the outbox.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edge import config as edge_config
from edge import status as statuses
from edge.agent import EdgeAgent
from edge.agent_metrics import EdgeHealth
from edge.at_rest import StateLock, key_file, lies_with
from edge.config import EdgeConfig
from edge.entry_socket import serving_entries
from edge.errors import BadEdgeConfig, OutboxDamaged
from edge.status import Status
from runtime import logs
from runtime.clock import Clock, FileClock, SystemClock
from runtime.end_dates import EndDateWatch
from runtime.hardening import harden
from runtime.metrics import serving
from runtime.systemd import SystemdNotifier
from wire.enrol.renewal import keep_up
from wire.enrol.wallet import Wallet
from wire.identity import Provision

_STARTS: Final = 3  # in one process, after damage; then the process ends and its supervisor decides

_log = logs.get(__name__)


class StatusPublisher:
    """Publishes an agent's status: to the file that staff and the bedside read, and to the process supervisor.

    The watchdog is fed only with progress of the agent's own loop, never from a timer.
    """

    def __init__(self, path: Path, supervisor: SystemdNotifier) -> None:
        self._path = path
        self._supervisor = supervisor
        self._last: Status | None = None
        self._failed = False

    def __call__(self, status: Status) -> None:
        if self._last is None:
            self._supervisor.ready()
        has_progress = self._last is None or status.progress_ms > self._last.progress_ms
        self._last = status
        self._write(status)
        broker = "up" if all(status.lanes.values()) else "away"
        sentence = f"{len(status.beds)} beds, {status.waiting} waiting, broker {broker}"
        if has_progress:
            self._supervisor.alive(sentence)
        else:
            self._supervisor.in_trouble("a commit is overdue")

    def stopped(self) -> None:
        """The agent has ended because it was stopped."""
        self._supervisor.stopping()
        if self._last is not None:
            self._write(msgspec.structs.replace(self._last, stopped=True))

    def _write(self, status: Status) -> None:
        try:
            statuses.write(self._path, status)
        except OSError as error:
            if not self._failed:
                _log.error("cannot write the status file; the bedside will sound", problem=str(error))
            self._failed = True
            return
        self._failed = False


async def serve(
    config: EdgeConfig,
    provision: Provision,
    clock: Clock,
    *,
    rng: random.Random,
    wallet: Wallet | None = None,
    lock: StateLock | None = None,
    watch: EdgeHealth | None = None,
    tell: Callable[[Status], None] | None = None,
) -> None:
    """Run an agent until cancelled; after damage to its outbox, another one on the rows that can be salvaged.

    Raises:
        OutboxDamaged: three times in a row.
    """
    for start in range(_STARTS):
        agent = EdgeAgent(config, provision, clock, rng=rng, wallet=wallet, lock=lock, tell=tell)
        _log.info("judging", by=agent.judged_by)
        try:
            async with serving_entries(config.data_dir, agent.observing), agent.client() as client:
                if watch is not None:
                    watch.follow(agent, client)
                await agent.run(client)
        except OutboxDamaged as error:
            _log.error("the outbox is damaged", problem=str(error), start=start + 1)
            if start + 1 == _STARTS:
                raise
        finally:
            agent.close()


def main(config_path: Path, *, check_only: bool = False) -> int:
    """The command `vitalloom edge`.

    Raises:
        ConfigError, BadEdgeConfig, NotEnrolled, OutboxInUse, CannotListen: the message names the problem and the fix.
    """
    hardening = harden()
    config = edge_config.read(config_path)
    wallet = Wallet.load(config.identity)
    logs.set_up(level=config.log_level, form=config.log_format)
    if wallet.me.role != "edge":
        raise BadEdgeConfig(f"{config.identity}: is the identity of a device with role {wallet.me.role}, not edge")
    clock: Clock = SystemClock() if config.clock_file is None else FileClock(config.clock_file)
    for warning in hardening.warnings:
        _log.warning("keys are not fully protected", problem=warning)
    if (problem := wallet.expiry(clock.now_ms())) is not None:
        _log.error("device certificate has expired or expires soon", problem=problem)
    if check_only:
        _log.info("configuration is valid", patients=len(wallet.provision.directory.bindings()))
        return 0
    asyncio.run(_until_told_to_stop(config, wallet, clock, _state_lock(config, wallet)))
    return 0


def _state_lock(config: EdgeConfig, wallet: Wallet) -> StateLock:
    path = config.state_key or key_file(wallet.me.device_id)
    lock = StateLock.open(path)
    if lock.problem:
        _log.warning("patient states will be lost when this process ends", problem=lock.problem)
    elif path is not None and lies_with(path, config.data_dir):
        _log.warning(
            "a stolen disk reveals the latest values of its patients",
            fix="set state_key to a file in memory, or encrypt the disk",
        )
    return lock


async def _until_told_to_stop(config: EdgeConfig, wallet: Wallet, clock: Clock, lock: StateLock) -> None:
    watch = EdgeHealth(clock)
    ends = EndDateWatch(lambda: (wallet.end_date,), clock.now_ms)
    async with serving(config.http, process="edge", source=watch, ends=ends):
        await _serve_until_told_to_stop(config, wallet, clock, lock, watch)


async def _serve_until_told_to_stop(
    config: EdgeConfig, wallet: Wallet, clock: Clock, lock: StateLock, watch: EdgeHealth
) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    patients = len(wallet.provision.directory.bindings())
    _log.info("agent starts", device=wallet.me.device_id.hex(), patients=patients)
    teller = StatusPublisher(statuses.file_for(config.data_dir, config.status_file), SystemdNotifier.from_environment())
    work = asyncio.create_task(
        serve(config, wallet.provision, clock, rng=random.Random(), wallet=wallet, lock=lock, watch=watch, tell=teller),
        name="agent",
    )
    upkeep = asyncio.create_task(keep_up(wallet, clock), name="upkeep")
    stop = asyncio.create_task(told.wait(), name="stop")
    await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    upkeep.cancel()
    if not work.done():
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    teller.stopped()
    _log.info("agent stopped")
