"""The process `vitalloom ingest`: receives frames from edges, appends them to Kafka, acknowledges what is stored."""

import asyncio
import contextlib
from pathlib import Path

from runtime.clock import Clock, FileClock, SteadyClock, SystemClock
from runtime.config import load
from runtime.end_dates import EndDateWatch
from runtime.lifetime import run_until_signal, set_up_process
from runtime.metrics import serving
from stream.config import IngestConfig
from stream.ingest.edge_link import EdgeLink
from stream.ingest.health import IngestHealth
from stream.ingest.kafka_ingest import KafkaIngest
from stream.ingest.ledger import Ledger
from stream.site.folder import Site
from stream.tls import kafka_end_dates
from wire.enrol.wallet import Wallet


def ingest_config(path: Path | None) -> IngestConfig:
    """Raises ConfigError, naming the key."""
    return load(IngestConfig, path, env_prefix="VITALLOOM_INGEST")


def run_ingest(site_folder: Path, data: Path, config: IngestConfig) -> int:
    """The command `vitalloom ingest`.

    Raises:
        SiteUnusable: the site folder lacks a file; the message names it and the fix.
        NotEnrolled: the identity of ingest is missing.
        FileUnusable: the ledger cannot be opened.
        CannotListen: another process uses the port of `http.listen`.
    """
    set_up_process(level=config.log_level, form=config.log_format)
    clock: Clock = SystemClock() if config.clock_file is None else FileClock(config.clock_file)
    steady = SteadyClock(clock) if config.clock_file is None else clock
    site = Site.open(site_folder, clock=clock, to_read=True)
    wallet = Wallet.load(site.ingest_folder)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Ledger(data / "ingest.sqlite") as ledger, contextlib.closing(site):
        link = EdgeLink(site, wallet, clock, host=config.broker.host, port=config.broker.port)
        asyncio.run(run_until_signal(_serve(link, wallet, ledger, config, steady)))
    return 0


async def _serve(link: EdgeLink, wallet: Wallet, ledger: Ledger, config: IngestConfig, clock: Clock) -> None:
    ingest = KafkaIngest(wallet.me, link.directory, ledger, config, clock, courier=link.courier, on_turn=link.refresh)
    health = IngestHealth(link.lanes, ingest.counts, clock)
    ends = EndDateWatch(lambda: [wallet.end_date, *kafka_end_dates(config.kafka, "ingest")], clock.now_ms)
    async with serving(config.http, process="ingest", source=health, ends=ends):
        await link.run(ingest)
