"""MQTT connections of a ward to its broker, with or without injected faults."""

import random
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from simulators.faults import FaultCounts, FaultSpec
from simulators.flaky import FlakyClient
from simulators.ward.setup import WardSetup
from wire.enrol.wallet import Wallet
from wire.lanes import tls_context
from wire.mqtt import MqttClient

_RECEIVE_MAXIMUM: Final = 500


class Connections:
    """Makes MQTT clients, and keeps the flaky ones to count their faults."""

    def __init__(self, setup: WardSetup) -> None:
        self._host, self._port = setup.address
        self._uses_tls = setup.uses_tls
        self._link = setup.settings.link
        self._seed = setup.options.seed
        self._flaky: list[FlakyClient] = []

    def for_fleet(self, name: str, subscriptions: Sequence[str], wallet: Wallet) -> MqttClient:
        """A client for wearables. Their faults are injected by `LossyLink`, not here."""
        return self._reliable(name, subscriptions, self._tls(wallet))

    def for_data_centre(self, name: str, subscriptions: Sequence[str], wallet: Wallet) -> MqttClient:
        """A client for the data centre; flaky if link faults were asked for. Names of alarm lanes end in `-a`."""
        tls = self._tls(wallet, alarm=name.endswith("-a"))
        if self._link == FaultSpec():
            return self._reliable(name, subscriptions, tls)
        client = FlakyClient(
            self._link,
            rng=random.Random(f"{self._seed} {name}"),
            host=self._host,
            port=self._port,
            client_id=name,
            subscriptions=subscriptions,
            receive_maximum=_RECEIVE_MAXIMUM,
            tls=tls,
        )
        self._flaky.append(client)
        return client

    def faults(self) -> list[FaultCounts]:
        """Faults injected so far, one entry per flaky client."""
        return [client.faults for client in self._flaky]

    def _tls(self, wallet: Wallet, *, alarm: bool = False) -> Callable[[], ssl.SSLContext] | None:
        return tls_context(wallet.tls, alarm=alarm) if self._uses_tls else None

    def _reliable(
        self, name: str, subscriptions: Sequence[str], tls: Callable[[], ssl.SSLContext] | None
    ) -> MqttClient:
        return MqttClient(
            host=self._host,
            port=self._port,
            client_id=name,
            subscriptions=subscriptions,
            receive_maximum=_RECEIVE_MAXIMUM,
            tls=tls,
        )
