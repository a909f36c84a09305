"""The data-centre half of a ward: the embedded engine, its store and its connection to the broker."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from simulators.ward.agents import LIMITS, cadences
from simulators.ward.connections import Connections
from simulators.ward.lifetime import Lifetime, WardPart
from simulators.ward.setup import WardSetup
from stream.embedded.stream import EmbeddedStream
from stream.ingest.courier import Courier
from stream.ingest.edge_link import open_lanes
from stream.site.directory import RegistryDirectory
from vitals.messages import AlarmChanged
from vitals.monitor import PatientMonitor
from vitals.orders import Orders, plan_of
from vitals.orders_in_force import OrdersInForce
from vitals.patient_group import PatientGroup, group_of
from vitals.plan import MonitoringPlan
from vitals.sender_clock import SIMULATED_BOUND_MS
from vitals.view import PatientView
from wire.codec import HeartbeatV1
from wire.lanes import Lanes
from wire.mqtt import MqttClient


class DataCentre(WardPart):
    """Opens what edges send, judges it, stores it, and sends documents to edges.

    Args:
        on_stored: called with the ids of readings once they are stored.
        on_alarm: called with every alarm change once it is stored. More listeners: append to `alarm_listeners`.
    """

    def __init__(
        self,
        setup: WardSetup,
        connections: Connections,
        *,
        on_stored: Callable[[list[bytes]], None],
        on_alarm: Callable[[AlarmChanged], None],
    ) -> None:
        self.alarm_listeners = [on_alarm]
        self._ingest = setup.site.ingest
        self._uses_tls = setup.uses_tls
        self._connections = connections
        self._store = setup.store
        self._clock = setup.clock
        self._cadence_ms = cadences(setup.story.cadence_ms)
        self._orders = OrdersInForce()
        self._plans = {
            group: MonitoringPlan(group=group, cadence_ms=self._cadence_ms, clock_bound_ms=SIMULATED_BOUND_MS)
            for group in PatientGroup
        }
        self._directory = RegistryDirectory(setup.site.site.registry)
        self._courier = Courier(setup.site.site.registry.documents)
        self.stream = EmbeddedStream(
            self._ingest.me,
            self._directory,
            setup.store,
            self._plan_of,
            setup.clock,
            limits=LIMITS,
            ack_interval_ms=50 if setup.settings.has_faults else 1_000,
            on_stored=on_stored,
            on_alarm=self._on_alarm,
            courier=self._courier,
            on_turn=self._refresh_directory,
            orders=self._orders,
        )
        self._lanes: Lanes | None = None

    async def start(self, lifetime: Lifetime) -> None:
        self._courier.changed(self._clock.mono_ms())
        lanes = self._lanes = await lifetime.connect(open_lanes(self._client, apart=self._uses_tls))
        lifetime.run(self.stream.run(lanes), name="stream")

    @property
    def is_connected(self) -> bool:
        """Whether it has a connection to the broker now."""
        return self._lanes is not None and self._lanes.connected

    @property
    def stored(self) -> int:
        """Readings stored since the start, each counted once."""
        return self.stream.counts.stored

    @property
    def duplicates(self) -> int:
        """Frames that arrived again and were dropped."""
        return self.stream.counts.duplicates

    @property
    def rejected(self) -> Counter[str]:
        """Rejected frames by reason."""
        return self.stream.counts.rejected

    def view(self, stay_id: str, at_ms: int) -> PatientView:
        """A patient as the store knows them, at a simulated time."""
        return PatientMonitor.restore(stay_id, self._store.state(stay_id), self._plan_of(stay_id)).view(at_ms)

    def orders_of(self, stay_id: str) -> Orders | None:
        """The orders of a patient that are in force now; None: nothing is ordered."""
        found = self._orders.of(stay_id)
        return None if found is None else found.at(self._clock.now_ms())

    def heartbeat(self, edge_id: bytes) -> HeartbeatV1 | None:
        """The newest heartbeat of an edge; None before the first."""
        found = self._store.query("SELECT body FROM heartbeat WHERE edge_id = ?", (edge_id.hex(),))
        return msgspec.json.decode(found[0][0], type=HeartbeatV1) if found else None

    def count_stored(self) -> tuple[int, int]:
        """Count the readings in the store: all rows, and distinct ones."""
        (stored, distinct) = self._store.query(
            "SELECT count(*), count(DISTINCT hex(session_id) || ':' || counter) FROM reading"
        )[0]
        return int(stored), int(distinct)

    def count_observations(self) -> int:
        """Count the observations of people in the store, each once."""
        return self._store.count("observation")

    def count_scores(self) -> tuple[int, int]:
        """Count the NEWS2 in the store: all, and complete ones."""
        (scored, complete) = self._store.query("SELECT count(*), count(total) FROM news2")[0]
        return int(scored), int(complete)

    def count_dead_letters(self) -> int:
        """Count the readings that could not be used and are kept for inspection."""
        return self._store.count("dead_letter")

    def alarms_by_class(self) -> dict[str, int]:
        """Alarms in the store by priority and rule; classes without an alarm are left out."""
        return {rule: count for rule, count in self._store.alarms_by_class().items() if count}

    def _plan_of(self, stay_id: str) -> MonitoringPlan:
        known, ordered = self._directory.of_stay(bytes.fromhex(stay_id)), self._orders.of(stay_id)
        group = group_of(known[0].about) if known else PatientGroup.UNSTATED
        if ordered is None:
            return self._plans[group]
        return plan_of(ordered, group=group, cadence_ms=self._cadence_ms, clock_bound_ms=SIMULATED_BOUND_MS)

    def _on_alarm(self, alarm: AlarmChanged) -> None:
        for listener in self.alarm_listeners:
            listener(alarm)

    def _refresh_directory(self, mono_ms: int) -> None:
        if self._directory.refresh(mono_ms):
            self._courier.changed(mono_ms)

    def _client(self, name: str, subscriptions: Sequence[str]) -> MqttClient:
        return self._connections.for_data_centre(name, subscriptions, self._ingest)
