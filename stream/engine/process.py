"""The process `vitalloom worker`: judges the readings of its assigned Kafka partitions."""

import asyncio
import gc
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.clock import Clock, FileClock, SteadyClock, SystemClock
from runtime.config import load
from runtime.end_dates import EndDateWatch
from runtime.errors import ConfigError, UnknownTimeZone
from runtime.lifetime import run_until_signal, set_up_process
from runtime.metrics import serving
from runtime.time_zone import zone_of
from stream.config import WorkerConfig
from stream.engine.health import WorkerHealth
from stream.tls import kafka_end_dates

if TYPE_CHECKING:
    from stream.engine.faust_app import FaustWorker
    from stream.engine.plain import PlainWorker


class EventLoop(StrEnum):
    """The library that runs the readings' consumer."""

    FAUST = "faust"
    PLAIN = "plain"


def worker_config(path: Path | None) -> WorkerConfig:
    """Raises ConfigError, naming the key."""
    config = load(WorkerConfig, path, env_prefix="VITALLOOM_WORKER")
    try:
        zone_of(config.time_zone)
    except UnknownTimeZone as error:
        raise ConfigError(str(error), source="environment" if path is None else path) from error
    return config


def run_worker(config: WorkerConfig, engine: EventLoop) -> int:
    """The command `vitalloom worker`.

    Raises:
        KafkaUnusable: topics are missing, or have different numbers of partitions.
        CannotListen: another process uses the port of `http.listen`.
    """
    set_up_process(level=config.log_level, form=config.log_format)
    tune_gc()
    clock: Clock = SteadyClock(SystemClock()) if config.clock_file is None else FileClock(config.clock_file)
    # Not `asyncio.run`: it waits for all remaining tasks, and tasks of a Faust that was stopped during a rebalance
    # never end. At this point everything is committed and closed.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(run_until_signal(_serve(config, engine, clock)))
    finally:
        loop.set_exception_handler(lambda *_: None)  # errors of remaining tasks
    return 0


def tune_gc() -> None:
    """Collect garbage rarely: patient monitors live for hours, and scanning all of them costs more than it frees."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _serve(config: WorkerConfig, engine: EventLoop, clock: Clock) -> None:
    worker = _make_worker(engine, config, clock)
    health = WorkerHealth(worker.vitals.progress, clock)
    ends = EndDateWatch(lambda: list(kafka_end_dates(config.kafka, "worker")), clock.now_ms)
    async with serving(config.http, process="worker", source=health, ends=ends):
        await worker.run()


def _make_worker(engine: EventLoop, config: WorkerConfig, clock: Clock) -> "FaustWorker | PlainWorker":
    if engine is EventLoop.FAUST:
        from stream.engine.faust_app import FaustWorker

        return FaustWorker(config, clock)
    from stream.engine.plain import PlainWorker

    return PlainWorker(config, clock)
