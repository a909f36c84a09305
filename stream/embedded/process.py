"""The processes of a data centre: `vitalloom stream`, which opens, judges and stores, and `vitalloom registry serve`.

The first reads the registry and holds the opening keys; the second holds the signing keys and changes it.
"""

import asyncio
import contextlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime import logs
from runtime.clock import Clock, FileClock, SystemClock
from runtime.config import load
from runtime.lifetime import begin, until_told_to_stop
from runtime.logs import LogFormat
from runtime.metrics import HttpConfig, Watched, serving
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream, lanes_of
from stream.errors import SiteUnusable
from stream.ingest.courier import Courier
from stream.progress import BrokerKept, IngestWatch, RegistryWatch, StreamWatch
from stream.site.broker_files import WARN_LIST_MS, BrokerFolder
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from stream.site.http import RegistryServer
from vitals.plan import MonitoringPlan
from wire.enrol.authority import moment, pem
from wire.enrol.renewal import keep_up
from wire.enrol.wallet import Wallet
from wire.lanes import Lanes, tls_context
from wire.mqtt import MqttClient

if TYPE_CHECKING:  # those of a cluster; one process alone needs no Kafka
    from stream.config import IngestConfig
    from stream.ingest.kafka_ingest import KafkaIngest

REFRESH_S: Final = 1.0
TELL_S: Final = 10.0

_log = logs.get(__name__)


def run_stream(site_folder: Path, data: Path, *, http: HttpConfig, log_format: LogFormat) -> int:
    """The command `vitalloom stream`.

    Raises:
        SiteUnusable, NotEnrolled, StoreUnusable, CannotListen: what is wrong, and the cure.
    """
    begin(form=log_format)
    clock = SystemClock()
    site = Site.open(site_folder, clock=clock, to_read=True)
    wallet = Wallet.load(site.ingest_folder)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Store(data / "store.sqlite") as store, contextlib.closing(site):
        asyncio.run(until_told_to_stop(Stream(site, wallet, store, clock).serve(http, "stream")))
    return 0


def ingest_config(path: Path | None) -> "IngestConfig":
    """Raises ConfigError, naming the key."""
    from stream.config import IngestConfig

    return load(IngestConfig, path, env_prefix="VITALLOOM_INGEST")


def run_ingest(site_folder: Path, data: Path, config: "IngestConfig") -> int:
    """The command `vitalloom ingest`.

    Raises:
        SiteUnusable, NotEnrolled, StoreUnusable, CannotListen: what is wrong, and the cure.
    """
    begin(level=config.log_level, form=config.log_format)
    clock: Clock = SystemClock() if config.clock_file is None else FileClock(config.clock_file)
    site = Site.open(site_folder, clock=clock, to_read=True)
    wallet = Wallet.load(site.ingest_folder)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Store(data / "ingest.sqlite") as ledger, contextlib.closing(site):
        stream = Stream(site, wallet, ledger, clock, cluster=config)
        asyncio.run(until_told_to_stop(stream.serve(config.http, "ingest")))
    return 0


def run_registry(site_folder: Path, *, host: str, port: int | None, http: HttpConfig, log_format: LogFormat) -> int:
    """The command `vitalloom registry serve`.

    Raises:
        SiteUnusable, CannotServe, CannotListen: what is wrong, and the cure.
    """
    begin(form=log_format)
    clock = SystemClock()
    site = Site.open(site_folder, clock=clock)
    with contextlib.closing(site):
        port = port or site.facts.registry_port
        asyncio.run(until_told_to_stop(_registry(site, clock, host=host, port=port, http=http)))
    return 0


class Stream:
    """What hears the edges of a site, its connections, and the courier.

    Args:
        cluster: None: the embedded engine, which judges and stores too. Otherwise what it hears goes to Kafka.
    """

    def __init__(
        self, site: Site, wallet: Wallet, store: Store, clock: Clock, *, cluster: "IngestConfig | None" = None
    ) -> None:
        self._wallet = wallet
        self._way = (wallet.broker.host, wallet.broker.port)
        if cluster is not None:
            self._way = (cluster.broker.host or wallet.broker.host, cluster.broker.port or wallet.broker.port)
        self._clock = clock
        self._directory = RegistryDirectory(site.registry)
        self._courier = Courier(site.registry)
        self.lanes: Lanes | None = None  # while it runs
        self.engine: EmbeddedStream | KafkaIngest
        self._watch: Watched
        if cluster is None:
            self.engine = embedded = EmbeddedStream(
                wallet.me,
                self._directory,
                store,
                self._plan_of,
                clock,
                courier=self._courier,
                on_turn=self._look,
            )
            self._watch = StreamWatch(self, embedded.counts, clock)
        else:
            gateway: KafkaIngest = importlib.import_module("stream.ingest.kafka_ingest").KafkaIngest(
                wallet.me, self._directory, store, cluster, clock, courier=self._courier, on_turn=self._look
            )
            self.engine = gateway
            self._watch = IngestWatch(self, gateway.counts, clock)

    async def serve(self, http: HttpConfig, name: str) -> None:
        """As `run`, and say how it is."""
        async with serving(http, process=name, watched=self._watch):
            await self.run()

    async def run(self) -> None:
        """Serve until cancelled."""
        self._courier.changed(self._clock.mono_ms())
        async with self._lanes() as lanes, asyncio.TaskGroup() as tasks:
            self.lanes = lanes
            tasks.create_task(self.engine.run(lanes), name="stream")
            tasks.create_task(keep_up(self._wallet, self._clock), name="upkeep")
            tasks.create_task(self._tell(), name="progress")

    def _lanes(self) -> Lanes:
        host, port = self._way

        def connection(name: str, subscriptions: Sequence[str]) -> MqttClient:
            return MqttClient(
                host=host,
                port=port,
                client_id=name,
                subscriptions=subscriptions,
                tls=tls_context(self._wallet.tls, alarm=name.endswith("-a")),
            )

        return lanes_of(connection, apart=True)

    def _plan_of(self, binding_id: str) -> MonitoringPlan:
        """A binding keeps its scale: another order is another binding."""
        binding = self._directory.binding(bytes.fromhex(binding_id))
        return MonitoringPlan() if binding is None else MonitoringPlan(spo2_scale=binding.spo2_scale)

    def _look(self, mono_ms: int) -> None:
        if self._directory.refresh(mono_ms):
            self._courier.changed(mono_ms)

    async def _tell(self) -> None:
        """A line now and then, when there is something new to tell. Counts, no values."""
        said: tuple[object, ...] = ()
        while True:
            counts = self.engine.counts
            told = (counts.stored, counts.heartbeats, sum(counts.rejected.values()))
            if told != said:
                said = told
                _log.info(
                    "received", stored=counts.stored, heartbeats=counts.heartbeats, duplicates=counts.duplicates,
                    rejected=dict(counts.rejected),
                )  # fmt: skip
            for edge_id in self._courier.behind(self._clock.mono_ms()):
                _log.warning("an edge does not take its documents; does somebody withhold them?", edge=edge_id.hex())
            await asyncio.sleep(TELL_S)


async def _registry(site: Site, clock: Clock, *, host: str, port: int, http: HttpConfig) -> None:
    kept = BrokerKept()
    server = RegistryServer(
        site.registry, tls=site.registry_tls, root=pem(site.authority.root), clients=site.bundle_file, host=host,
        port=port,
    )  # fmt: skip
    watch = RegistryWatch(server.requests, kept, clock)
    async with serving(http, process="registry", watched=watch), server:
        _log.info("registry is up", url=site.facts.url, port=server.port)
        await _keep_broker(site, clock, kept)


async def _keep_broker(site: Site, clock: Clock, kept: BrokerKept) -> None:
    """The broker's access list and revocation list follow the registry within a second or two."""
    folder = BrokerFolder(site.broker_folder)
    while True:
        try:
            found = _refresh(folder, site, clock) if folder.config_file.exists() else ""
        except (SiteUnusable, OSError) as error:
            # Devices still enrol and renew; what the broker has not heard, it hears when it can be told again.
            found = str(error)
        if found and found != kept.problem:
            kept.errors += 1
            _log.error("broker", problem=found)
        kept.problem, kept.turned_ms = found, clock.mono_ms()
        await asyncio.sleep(REFRESH_S)


def _refresh(folder: BrokerFolder, site: Site, clock: Clock) -> str:
    """What somebody has to know; empty if there is nothing."""
    written = folder.refresh(
        site.registry, site.authority, at=moment(clock.now_ms()), who="registry", retired=site.retired
    )
    if written.changed:
        _log.info("broker told", files=list(written.changed), notes=list(written.notes))
    if folder.list_left_ms(clock.now_ms()) < WARN_LIST_MS:
        return f"the revocation list ends soon, and then nobody gets in: vitalloom broker write --site {site.folder}"
    return ""
