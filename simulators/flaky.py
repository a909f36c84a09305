"""An MQTT client on a bad day: what comes is lost, doubled or held back, and so is what goes.

What it loses it acknowledges to the broker, so that no redelivery of the broker's can mend it: only acknowledgements
end to end can.
"""

import random
from typing import Any

from simulators.faults import FaultCounts, FaultSpec
from wire.mqtt import Inbound, MqttClient

_NO_CONNECTION = -1  # a connection that never was: acknowledging over it does nothing


class FlakyClient(MqttClient):
    """As `MqttClient`; `loss`, `duplicate` and `reorder` of the specification apply, each message drawn by itself."""

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
