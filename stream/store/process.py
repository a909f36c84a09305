"""The processes `vitalloom store init` and `vitalloom store run`: prepare InfluxDB, and write to it."""

import asyncio
from pathlib import Path

from runtime.clock import SystemClock
from runtime.config import load
from runtime.end_dates import EndDateWatch
from runtime.lifetime import run_until_signal, set_up_process
from runtime.metrics import serving
from stream.config import StoreConfig
from stream.store.health import StoreHealth
from stream.store.influx import prepare_database
from stream.store.writer import StoreWriter
from stream.tls import kafka_end_dates


def store_config(path: Path | None) -> StoreConfig:
    """Raises ConfigError, naming the key."""
    return load(StoreConfig, path, env_prefix="VITALLOOM_STORE")


def run_store(config: StoreConfig) -> int:
    """The command `vitalloom store run`.

    Raises:
        DatabaseUnusable: the token file cannot be read.
        CannotListen: another process uses the port of `http.listen`.
    """
    set_up_process(level=config.log_level, form=config.log_format)
    clock = SystemClock()
    writer = StoreWriter(config, clock)

    async def work() -> None:
        ends = EndDateWatch(lambda: list(kafka_end_dates(config.kafka, "store")), clock.now_ms)
        async with serving(config.http, process="store", source=StoreHealth(writer.counts, clock), ends=ends):
            await writer.run()

    asyncio.run(run_until_signal(work()))
    return 0


def init_store(config: StoreConfig, *, tokens: Path | None) -> list[str]:
    """The command `vitalloom store init`; returns descriptions of what was created.

    Raises:
        DatabaseUnusable: what is wrong, and the fix.
    """
    return prepare_database(
        config.influx,
        retention_days=config.retention_days,
        aggregate_days=config.aggregate_retention_days,
        tokens=tokens,
    ).made
