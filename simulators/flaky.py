"""An MQTT client with faults: it loses, doubles and delays messages that arrive, and loses messages that it sends.

Lost messages are acknowledged to the broker, so that the broker does not deliver them again: only end-to-end
acknowledgements can repair the loss.
"""

import random
from typing import Any

from simulators.faults import FaultCounts, FaultSpec
from wire.mqtt import Inbound, MqttClient

_NO_CONNECTION = -1  # a connection number that never exists: acknowledging such a message does nothing


class FlakyClient(MqttClient):
    """An `MqttClient` that applies `loss`, `duplicate` and `reorder` of a specification, drawn for each message."""

    def __init__(self, spec: FaultSpec, *, rng: random.Random, **of_client: Any) -> None:
        super().__init__(jitter=rng, **of_client)
        self.faults = FaultCounts()
        self._spec = spec
        self._rng = rng
        self._held_back: list[Inbound] = []

    @property
    def waiting(self) -> int:
        return super().waiting + len(self._held_back)

    async def receive(self, limit: int = 64, *, within_s: float | None = None) -> list[Inbound]:
        coming = await super().receive(limit, within_s=within_s)
        through, self._held_back = self._held_back, []
        counts = self.faults
        for message in coming:
            lose, double, hold = (self._rng.random() for _ in range(3))
            counts.passed += 1
            if lose < self._spec.loss:
                counts.lost += 1
                self.acknowledge(message)
            elif hold < self._spec.reorder:
                counts.reordered += 1
                self._held_back.append(message)
            else:
                through.append(message)
                if double < self._spec.duplicate:
                    counts.duplicated += 1
                    through.append(message._replace(connection=_NO_CONNECTION))
        return through

    def publish(self, topic: str, payload: bytes) -> bool:
        if self._rng.random() < self._spec.loss:
            self.faults.lost += 1
            return self.connected
        return super().publish(topic, payload)
