"""The processes of a cluster: `vitalloom log init`, `worker`, `ingest` and `store`."""

import asyncio
import contextlib
import gc
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.clock import Clock, FileClock, SystemClock
from runtime.config import load
from runtime.lifetime import begin, until_told_to_stop
from runtime.logs import get
from runtime.metrics import serving
from stream.config import KafkaConfig, StoreConfig, WorkerConfig
from stream.kafka import LogStatus, check_topics, create_topics, status
from stream.progress import StoreWatch, WorkerWatch
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from stream.topics.dead_letters import Resent, StoredDeadLetter, letters
from stream.topics.dead_letters import resend as send_again

if TYPE_CHECKING:
    from stream.engine.faust_app import FaustWorker
    from stream.engine.plain import PlainWorker

_log = get(__name__)


class Engine(StrEnum):
    """What carries the readings' consumer."""

    FAUST = "faust"
    PLAIN = "plain"


def worker_config(path: Path | None) -> WorkerConfig:
    """Raises ConfigError, naming the key."""
    return load(WorkerConfig, path, env_prefix="VITALLOOM_WORKER")


def run_worker(config: WorkerConfig, engine: Engine) -> int:
    """The command `vitalloom worker`.

    Raises:
        LogUnusable: topics are missing or do not correspond.
        CannotListen: somebody else has the port of `http.listen`.
    """
    begin(level=config.log_level, form=config.log_format)
    calm_garbage()
    clock: Clock = SystemClock() if config.clock_file is None else FileClock(config.clock_file)
    # Not `asyncio.run`: it waits for every task that is left, and those of a Faust that was stopped in mid-rebalance
    # start themselves again. By then everything of ours is committed and closed.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(until_told_to_stop(_worker(config, engine, clock)))
    finally:
        loop.set_exception_handler(lambda *_: None)  # of tasks that are left and now end with the process
    return 0


def calm_garbage() -> None:
    """Monitors live for as long as their patients: to look through all of them for garbage costs more than there is."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _worker(config: WorkerConfig, engine: Engine, clock: Clock) -> None:
    worker = _on(engine, config, clock)
    watch = WorkerWatch(worker.vitals.progress, clock)
    async with serving(config.http, process="worker", watched=watch):
        await worker.run()


def _on(engine: Engine, config: WorkerConfig, clock: Clock) -> "FaustWorker | PlainWorker":
    if engine is Engine.FAUST:
        from stream.engine.faust_app import FaustWorker

        return FaustWorker(config, clock)
    from stream.engine.plain import PlainWorker

    return PlainWorker(config, clock)


def store_config(path: Path | None) -> StoreConfig:
    """Raises ConfigError, naming the key."""
    return load(StoreConfig, path, env_prefix="VITALLOOM_STORE")


def run_store(config: StoreConfig) -> int:
    """The command `vitalloom store run`.

    Raises:
        DatabaseUnusable, LogUnusable, CannotListen: what is wrong, and the cure.
    """
    from stream.store.writer import StoreWriter

    begin(level=config.log_level, form=config.log_format)
    clock = SystemClock()
    writer = StoreWriter(config, clock)

    async def work() -> None:
        async with serving(config.http, process="store", watched=StoreWatch(writer.counts, clock)):
            await writer.run()

    asyncio.run(until_told_to_stop(work()))
    return 0


def init_store(config: StoreConfig, *, tokens: Path | None) -> list[str]:
    """The command `vitalloom store init`.

    Raises:
        DatabaseUnusable: what is wrong, and the cure.
    """
    from stream.store.influx import prepare

    return prepare(
        config.influx, retention_days=config.retention_days, aggregate_days=config.aggregate_retention_days,
        tokens=tokens,
    ).made  # fmt: skip


def kafka_config(bootstrap: str, topic_prefix: str = "", *, application: str = "vitalloom") -> KafkaConfig:
    """For commands that need no more than that."""
    return KafkaConfig(bootstrap=bootstrap, topic_prefix=topic_prefix, application=application)


def init_log(kafka: KafkaConfig, *, partitions: int, replication: int) -> list[str]:
    """The command `vitalloom log init`: make the topics that are missing, and check the others.

    Raises:
        LogUnusable: Kafka does not answer or refuses, or what is there does not correspond.
    """

    async def work() -> list[str]:
        made = await create_topics(kafka, partitions=partitions, replication=replication)
        await check_topics(kafka)
        return made

    return asyncio.run(work())


def log_status(kafka: KafkaConfig) -> LogStatus:
    """The command `vitalloom log status`.

    Raises:
        LogUnusable: Kafka does not answer, or topics are missing.
    """
    return asyncio.run(status(kafka))


def dead_letters(kafka: KafkaConfig) -> list[StoredDeadLetter]:
    """The command `vitalloom log dead-letters`.

    Raises:
        LogUnusable: Kafka does not answer.
    """
    return asyncio.run(letters(kafka))


def resend(kafka: KafkaConfig, *, site: Path | None, again: bool, stage: str) -> Resent:
    """The command `vitalloom log resend`.

    Raises:
        LogUnusable, SiteUnusable: what is wrong, and the cure.
    """
    clock = SystemClock()
    if site is None:
        return asyncio.run(send_again(kafka, clock, again=again, stage=stage))
    with contextlib.closing(Site.open(site, clock=clock, to_read=True)) as opened:
        directory = RegistryDirectory(opened.registry)
        return asyncio.run(send_again(kafka, clock, directory=directory, again=again, stage=stage))
