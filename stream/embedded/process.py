"""The process `vitalloom stream`: receives frames from edges, judges and stores them, without Kafka."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from runtime.clock import Clock, SystemClock
from runtime.lifetime import begin, until_told_to_stop
from runtime.logs import LogFormat
from runtime.metrics import HttpConfig, serving
from stream.embedded.health import StreamHealth
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from stream.ingest.edge_link import EdgeLink
from stream.site.folder import Site
from vitals.plan import MonitoringPlan
from wire.enrol.wallet import Wallet
from wire.identity import Directory


def run_stream(site_folder: Path, data: Path, *, http: HttpConfig, log_format: LogFormat) -> int:
    """The command `vitalloom stream`.

    Raises:
        SiteUnusable, NotEnrolled, StoreUnusable, CannotListen: what is wrong, and the fix.
    """
    begin(form=log_format)
    clock = SystemClock()
    site = Site.open(site_folder, clock=clock, to_read=True)
    wallet = Wallet.load(site.ingest_folder)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Store(data / "store.sqlite") as store, contextlib.closing(site):
        asyncio.run(until_told_to_stop(_serve(EdgeLink(site, wallet, clock), wallet, store, http, clock)))
    return 0


async def _serve(link: EdgeLink, wallet: Wallet, store: Store, http: HttpConfig, clock: Clock) -> None:
    engine = EmbeddedStream(
        wallet.me,
        link.directory,
        store,
        ordered_plan(link.directory),
        clock,
        courier=link.courier,
        on_turn=link.refresh,
    )
    async with serving(http, process="stream", watched=StreamHealth(link.lanes, engine.counts, clock)):
        await link.run(engine)


def ordered_plan(directory: Directory) -> Callable[[str], MonitoringPlan]:
    """The monitoring plan that was ordered for a binding, by its id. A changed order is a new binding."""

    def plan_of(binding_id: str) -> MonitoringPlan:
        binding = directory.binding(bytes.fromhex(binding_id))
        return MonitoringPlan() if binding is None else MonitoringPlan(spo2_scale=binding.spo2_scale)

    return plan_of
