"""The agent's connections to the MQTT broker, and the topics that it subscribes to."""

import random
import ssl
from collections.abc import Callable, Sequence

from edge.config import EdgeConfig
from wire.enrol.wallet import Wallet
from wire.identity import Provision
from wire.lanes import ALARM_RECEIVE_MAXIMUM, Lanes, tls_context
from wire.mqtt import MqttClient
from wire.topics import e_down, e_down_alarm, w_up_of


class BrokerConnections:
    """Makes the connections of one agent and keeps their subscriptions up to date.

    Args:
        wallet: knows the broker that was announced at enrolment; None: 127.0.0.1 unless configured.
        rng: jitter between attempts to reconnect.
    """

    def __init__(self, config: EdgeConfig, provision: Provision, wallet: Wallet | None, rng: random.Random) -> None:
        self._config = config
        self._provision = provision
        self._wallet = wallet
        self._rng = rng
        self._subscribed = set(self.subscriptions)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics on the lane of vital signs: this edge's wearables, and the cloud's answers."""
        wearables = {binding.wearable_id for binding in self._provision.directory.bindings()}
        return (*(w_up_of(one) for one in sorted(wearables)), e_down(self._provision.me.device_id))

    def subscribe_new(self, client: Lanes) -> None:
        """Subscribe to wearables that have been bound to this edge since."""
        new = [one for one in self.subscriptions if one not in self._subscribed]
        if new:
            self._subscribed.update(new)
            client.subscribe(new)

    def lanes(self) -> Lanes:
        """With certificates a connection for each lane, without one for both."""
        tls = self._provision.tls if self._config.broker.tls else None
        device_id = self._provision.me.device_id
        down_alarm, name = e_down_alarm(device_id), device_id.hex()
        if tls is None:
            return Lanes(self._connection(f"edge-{name}", (*self.subscriptions, down_alarm), None))
        return Lanes(
            self._connection(name, self.subscriptions, tls_context(tls)),
            self._connection(f"{name}-a", (down_alarm,), tls_context(tls, alarm=True), ALARM_RECEIVE_MAXIMUM),
        )

    def _connection(
        self,
        client_id: str,
        subscriptions: Sequence[str],
        tls: Callable[[], ssl.SSLContext] | None,
        receive_maximum: int | None = None,
    ) -> MqttClient:
        broker = self._config.broker
        announced = None if self._wallet is None else self._wallet.broker
        return MqttClient(
            host=broker.host or ("127.0.0.1" if announced is None else announced.host),
            port=broker.port or (1883 if announced is None else announced.port),
            client_id=client_id,
            subscriptions=subscriptions,
            receive_maximum=receive_maximum or broker.receive_maximum,
            jitter=self._rng,
            tls=tls,
        )
