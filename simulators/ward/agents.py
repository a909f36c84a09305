"""Edge agents of a ward: as tasks of this process, or each as a separate process that can be killed."""

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from edge.agent import EdgeAgent
from edge.at_rest import StateLock
from edge.config import BrokerConfig, EdgeConfig, OutboxConfig
from runtime.clock import Clock
from simulators.errors import BadWard
from vitals.plan import EXPECTED
from wire.codec import HeartbeatV1
from wire.enrol.wallet import Wallet
from wire.receiver import RateLimits
from wire.sending.settings import Timing

LIMITS: Final = RateLimits(frames_per_s=1e6, frames_burst=1_000_000, sessions_per_min=60_000)
"""Practically unlimited: simulated time runs fast, so a wearable sends more per real second than it would otherwise."""

_STOP_WITHIN_S: Final = 5.0


class Agent(Protocol):
    """One edge agent, in this process or in another."""

    async def run(self) -> None:
        """Serve until cancelled."""
        ...

    @property
    def is_up(self) -> bool: ...
    @property
    def documents(self) -> bytes:
        """Digest of the documents that the agent has accepted."""
        ...

    @property
    def judged_by(self) -> str:
        """The rules and models in use, as the agent reports them; empty before its first report."""
        ...

    def duplicates(self) -> int: ...
    def rejected(self) -> Counter[str]: ...
    def local_alarms(self) -> int: ...


def config_of(
    folder: Path,
    *,
    broker: tuple[str, int],
    cadence_ms: int,
    clock_file: Path,
    short_timers: bool,
    tls: bool = True,
    models: Path | None = None,
) -> EdgeConfig:
    """Configuration of one agent of a ward. Its identity is already in `folder`.

    Args:
        short_timers: resend and acknowledge soon, so that a ward with faults recovers within seconds.
    """
    return EdgeConfig(
        identity=folder / "identity",
        data_dir=folder,
        state_key=folder / "state.key",  # a ward's folder is gone with the ward
        status_file=folder / "status",
        broker=BrokerConfig(host=broker[0], port=broker[1], tls=tls, receive_maximum=500),
        outbox=OutboxConfig(budget_mb=512, commit_ms=20),
        timing=Timing(vitals_first_ms=1_000, alarm_first_ms=500, vitals_max_ms=5_000) if short_timers else Timing(),
        limits=LIMITS,
        cadence_ms=cadences(cadence_ms),
        ack_interval_ms=50 if short_timers else 1_000,
        heartbeat_s=2.0 if short_timers else 10.0,
        models=models,
        clock_file=clock_file,
        log_level="WARNING",
    )


def cadences(cadence_ms: int) -> dict[str, int]:
    """The cadence at which each sign that a wearable measures by itself is expected."""
    return {sign.value: cadence_ms for sign in EXPECTED}


class AgentTask:
    """An agent as a task of this process."""

    def __init__(self, config: EdgeConfig, wallet: Wallet, clock: Clock, *, rng: random.Random) -> None:
        self._wallet = wallet
        lock = StateLock.open(config.state_key)
        self._agent = EdgeAgent(config, wallet.provision, clock, rng=rng, wallet=wallet, lock=lock)
        self._client = self._agent.client()

    async def run(self) -> None:
        try:
            async with self._client as client:
                await self._agent.run(client)
        finally:
            self._agent.close()

    @property
    def is_up(self) -> bool:
        return self._client.connected

    @property
    def documents(self) -> bytes:
        return self._wallet.digest

    @property
    def judged_by(self) -> str:
        return self._agent.judged_by

    def duplicates(self) -> int:
        return self._agent.counts.duplicates

    def rejected(self) -> Counter[str]:
        return self._agent.counts.rejected

    def local_alarms(self) -> int:
        return self._agent.counts.local_alarms


class AgentProcess:
    """An agent as a separate process, `vitalloom edge`, which is started again after it was killed.

    Its counters are known from its heartbeats; counts since the last heartbeat before a kill are lost.
    """

    def __init__(self, config: EdgeConfig, heartbeat: "_Heartbeat") -> None:
        self._config_file = config.data_dir / "edge.toml"
        self._config_file.write_text("\n".join(_as_toml(config)) + "\n", encoding="utf-8")
        self._heartbeat = heartbeat
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    async def run(self) -> None:
        try:
            while True:
                self._process = self._started()
                while self._process.poll() is None:
                    await asyncio.sleep(0.05)
                if self._process.returncode != -signal.SIGKILL:
                    raise BadWard(
                        f"an edge agent ended unexpectedly with exit code {self._process.returncode}; its log is above"
                    )
                await asyncio.sleep(0.5)  # as systemd would wait before it starts it again
        finally:
            self._stop()

    def kill(self) -> None:
        """SIGKILL the process: nothing is saved and nothing is logged."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self.kills += 1

    @property
    def is_up(self) -> bool:
        return self._heartbeat() is not None

    @property
    def documents(self) -> bytes:
        latest = self._heartbeat()
        return b"" if latest is None else latest.documents

    @property
    def judged_by(self) -> str:
        latest = self._heartbeat()
        return "" if latest is None else latest.model

    def duplicates(self) -> int:
        latest = self._heartbeat()
        return 0 if latest is None else latest.duplicates

    def rejected(self) -> Counter[str]:
        latest = self._heartbeat()
        return Counter({} if latest is None else latest.rejected)

    def local_alarms(self) -> int:
        latest = self._heartbeat()
        return 0 if latest is None else latest.local_alarms

    def _started(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "vitalloom", "edge", "--config", str(self._config_file)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach the ward only, which then stops its agents
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Heartbeat(Protocol):
    def __call__(self) -> HeartbeatV1 | None: ...


def _as_toml(config: EdgeConfig) -> Iterable[str]:
    """The lines of a TOML file with the keys in which an agent of a ward differs from the defaults."""
    yield f"identity = {json.dumps(config.identity.name)}"
    yield 'data_dir = "."'
    yield f"state_key = {json.dumps(str(config.state_key))}"
    yield f"status_file = {json.dumps(str(config.status_file))}"
    yield f"clock_file = {json.dumps(str(config.clock_file))}"
    if config.models is not None:
        yield f"models = {json.dumps(str(config.models))}"
    for key in ("ack_interval_ms", "heartbeat_s"):
        yield f"{key} = {getattr(config, key)}"
    yield f"log_level = {json.dumps(config.log_level)}"
    tables = {
        "broker": ("host", "port", "tls", "receive_maximum"),
        "outbox": ("budget_mb", "commit_ms"),
        "timing": ("alarm_first_ms", "vitals_first_ms", "vitals_max_ms"),
        "limits": ("frames_per_s", "frames_burst", "sessions_per_min"),
    }
    for table, keys in tables.items():
        yield f"[{table}]"
        for key in keys:
            yield f"{key} = {json.dumps(getattr(getattr(config, table), key))}"
    yield "[cadence_ms]"
    for sign, cadence_ms in config.cadence_ms.items():
        yield f"{sign} = {cadence_ms}"
