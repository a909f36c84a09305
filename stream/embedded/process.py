"""The process `vitalloom stream`: the embedded engine and, if configured, the alarm desk, without Kafka."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import logs
from runtime.clock import Clock, ElapsedClock, SteadyClock, SystemClock
from runtime.end_dates import EndDateWatch
from runtime.errors import MissingExtra, RuntimeFault, first_of
from runtime.lifetime import run_until_signal, set_up_process
from runtime.logs import LogFormat
from runtime.metrics import HttpConfig, serving
from stream.embedded.desk_ports import EngineEntrySink, StoreAlarmSource
from stream.embedded.health import StreamHealth
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from stream.errors import StreamError
from stream.ingest.edge_link import EdgeLink
from stream.ingest.stays import terms_of
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from vitals.orders import plan_of as orders_plan
from vitals.orders_in_force import OrdersInForce
from vitals.plan import MonitoringPlan
from wire.enrol.wallet import Wallet
from wire.identity import Directory

if TYPE_CHECKING:
    from stream.desk.process import DeskProcess

_log = logs.get(__name__)


def run_stream(
    site_folder: Path, data: Path, *, http: HttpConfig, log_format: LogFormat, desk: Path | None = None
) -> int:
    """The command `vitalloom stream`.

    Args:
        desk: configuration file of the alarm desk; None: no alarm desk.

    Raises:
        SiteUnusable, NotEnrolled, FileUnusable, CannotListen, HttpServerFailed: what is wrong, and the fix.
        ConfigError, DeskUnusable, NotPrivate, MissingExtra: what is wrong with the alarm desk, and the fix.
    """
    set_up_process(form=log_format)
    clock = SystemClock()
    steady = SteadyClock(clock)
    site = Site.open(site_folder, clock=clock, to_read=True)
    wallet = Wallet.load(site.ingest_folder)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(site))
        store = stack.enter_context(Store(data / "store.sqlite"))
        link = EdgeLink(site, wallet, clock)
        orders = OrdersInForce()
        engine = EmbeddedStream(
            wallet.me,
            link.directory,
            store,
            ordered_plan(link.directory, orders),
            steady,
            courier=link.courier,
            on_turn=link.refresh,
            orders=orders,
        )
        process = None
        if desk is None:
            _log.warning(
                "no alarm desk is configured: people are not notified of alarms; to configure one: --desk FILE"
            )
        else:
            process = stack.enter_context(_opened_desk(desk, site, store, engine, clock))
        ends = EndDateWatch(lambda: (wallet.end_date,), clock.now_ms)
        asyncio.run(run_until_signal(_serve(link, engine, http, clock, process, ends)))
    return 0


def _opened_desk(
    file: Path, site: Site, store: Store, engine: EmbeddedStream, clock: ElapsedClock
) -> "contextlib.AbstractContextManager[DeskProcess]":
    try:  # Apprise is in another extra than the data centre.
        from stream.desk.process import Beds, desk_config, opened_desk
    except ModuleNotFoundError as error:
        raise MissingExtra(extra="desk", module=error.name or "") from error
    # A directory of its own: that of the engine tracks changes for the courier.
    beds = Beds(RegistryDirectory(site.registry), clock)
    source, sink = StoreAlarmSource(store), EngineEntrySink(engine)
    return opened_desk(
        desk_config(file),
        file,
        source,
        sink,
        clock,
        place_of=beds,
        patients=beds.patients,
        stays=beds.stays,
        orders_of=beds.orders,
    )


async def _serve(
    link: EdgeLink,
    engine: EmbeddedStream,
    http: HttpConfig,
    clock: Clock,
    desk: "DeskProcess | None",
    ends: EndDateWatch,
) -> None:
    health = StreamHealth(link.lanes, engine.counts, clock)
    try:
        async with serving(http, process="stream", source=health, ends=ends), asyncio.TaskGroup() as tasks:
            tasks.create_task(link.run(engine), name="edges")
            if desk is not None:
                tasks.create_task(desk.run(), name="alarm desk")
    except BaseExceptionGroup as failed:
        raise first_of(failed, StreamError, RuntimeFault) or failed from None


def ordered_plan(directory: Directory, orders: OrdersInForce | None = None) -> Callable[[str], MonitoringPlan]:
    """The monitoring plan of a stay, by its id: as ordered, or the default.

    Args:
        orders: what is ordered; None: nothing.
    """

    def plan_of(stay_id: str) -> MonitoringPlan:
        known = directory.of_stay(bytes.fromhex(stay_id))
        if not known:
            return MonitoringPlan()
        terms = terms_of(directory, known[0])
        return orders_plan(
            None if orders is None else orders.of(stay_id),
            spo2_scale=terms.spo2_scale,
            group=terms.group,
            time_zone=known[0].time_zone,
        )

    return plan_of
