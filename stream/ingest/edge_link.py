"""The connection of a data centre to the edges of its site, used by ingest and by the embedded engine.

It holds both MQTT connections, the registry's view of who may send, the courier that brings documents to edges, and
the renewal of the data centre's own certificates.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from runtime import logs
from runtime.clock import Clock
from runtime.errors import NotPrivate
from stream.ingest.courier import Courier
from stream.ingest.reception import ReceptionCounts
from stream.site.directory import RegistryDirectory
from stream.site.edges_without_orders import EdgeWithoutOrders, write_edges_without_orders
from stream.site.folder import Site
from wire.enrol.renewal import keep_up
from wire.enrol.wallet import Wallet
from wire.lanes import Lanes, tls_context
from wire.mqtt import MqttClient
from wire.topics import E_UP_ALARMS, E_UP_VITALS

PROGRESS_EVERY_S: Final = 10.0

_log = logs.get(__name__)


class FrameConsumer(Protocol):
    """Receives the frames of edges: `KafkaIngest`, or the embedded engine."""

    @property
    def counts(self) -> ReceptionCounts: ...

    async def run(self, lanes: Lanes) -> None: ...


class EdgeLink:
    """The connection to the edges of one site.

    Args:
        wallet: identity and certificates of this process.
        host: of the MQTT broker; empty: the one that devices use.
        port: of the MQTT broker; 0: the one that devices use.
    """

    def __init__(self, site: Site, wallet: Wallet, clock: Clock, *, host: str = "", port: int = 0) -> None:
        self._wallet = wallet
        self._clock = clock
        self._address = (host or wallet.broker.host, port or wallet.broker.port)
        self._lanes: Lanes | None = None
        self.directory = RegistryDirectory(site.registry)
        self.courier = Courier(site.registry.documents)
        self._folder = site.ingest_folder
        self._without_orders: list[EdgeWithoutOrders] | None = None

    def lanes(self) -> Lanes | None:
        """The connections to the MQTT broker; None before they are opened."""
        return self._lanes

    def refresh(self, mono_ms: int) -> None:
        """Read the registry again if it may have changed; called before every batch of frames."""
        if self.directory.refresh(mono_ms):
            self.courier.changed(mono_ms)

    async def run(self, receiver: FrameConsumer) -> None:
        """Let `receiver` receive frames until cancelled."""
        self.courier.changed(self._clock.mono_ms())
        async with open_lanes(self._client, apart=True) as lanes, asyncio.TaskGroup() as tasks:
            self._lanes = lanes
            tasks.create_task(receiver.run(lanes), name="receiver")
            tasks.create_task(keep_up(self._wallet, self._clock), name="certificate renewal")
            tasks.create_task(self._log_progress(receiver), name="progress log")

    def _client(self, name: str, subscriptions: Sequence[str]) -> MqttClient:
        host, port = self._address
        return MqttClient(
            host=host,
            port=port,
            client_id=name,
            subscriptions=subscriptions,
            tls=tls_context(self._wallet.tls, alarm=name.endswith("-a")),
        )

    async def _log_progress(self, receiver: FrameConsumer) -> None:
        """One line whenever the counts have changed, at most every ten seconds. Counts only, no values."""
        logged: tuple[int, int, Counter[str]] | None = None
        while True:
            counts = receiver.counts
            found = (counts.stored, counts.heartbeats, Counter(counts.rejected))
            if found != logged and any(found):
                logged = found
                _log.info(
                    "frames received",
                    stored=counts.stored,
                    heartbeats=counts.heartbeats,
                    duplicates=counts.duplicates,
                    rejected=dict(counts.rejected),
                )
            for edge_id in self.courier.behind(self._clock.mono_ms()):
                _log.warning("edge does not accept its documents; check whether they reach it", edge=edge_id.hex())
            counts.edges_without_orders = self._follow_without_orders()
            await asyncio.sleep(PROGRESS_EVERY_S)

    def _follow_without_orders(self) -> int:
        """Name edges that do not accept orders, in the log and for the doctor; returns how many there are."""
        found = self.courier.without_orders()
        if found == self._without_orders:
            return len(found)
        for one in found:
            _log.error(
                "edge does not accept the orders of its patients and judges them by the defaults; update it",
                edge=one.edge,
                program=one.program or "not known",
                stays=one.stays,
            )
        try:
            write_edges_without_orders(self._folder, found)
        except (OSError, NotPrivate) as error:
            _log.warning("cannot save which edges do not accept orders", problem=str(error))
        self._without_orders = found
        return len(found)


def open_lanes(make: Callable[[str, Sequence[str]], MqttClient], *, apart: bool) -> Lanes:
    """The connections of a data centre to the MQTT broker.

    Args:
        make: makes a client from its name and its subscriptions.
        apart: open a second connection for alarms alone; each has a certificate of its own.
    """
    if not apart:
        return Lanes(make("ingest", (*E_UP_VITALS, *E_UP_ALARMS)))
    return Lanes(make("ingest-v", E_UP_VITALS), make("ingest-a", E_UP_ALARMS))
