"""Scheduled faults of a ward: the broker or an edge agent is killed some seconds after the start."""

import asyncio
from collections import Counter
from typing import Final

from simulators.broker import Broker
from simulators.ward.edges import Edges
from simulators.ward.lifetime import Lifetime, WardPart
from simulators.ward.options import WardSettings

_BROKER_DOWN_S: Final = 1.0


class FaultSchedule(WardPart):
    """Kills what the options name, once each, and counts it."""

    def __init__(self, settings: WardSettings, broker: Broker | None, edges: Edges) -> None:
        self.counts: Counter[str] = Counter()
        self.broker_is_down = False
        self._wishes = settings
        self._broker = broker
        self._edges = edges

    async def start(self, lifetime: Lifetime) -> None:
        if self._wishes.broker_kill_s is not None:
            lifetime.run(self._kill_broker(self._wishes.broker_kill_s), name="fault broker-kill")
        if self._wishes.edge_kill_s is not None:
            lifetime.run(self._kill_edge(self._wishes.edge_kill_s), name="fault edge-kill")

    async def _kill_broker(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        assert self._broker is not None  # noqa: S101 - checked with the options
        self.broker_is_down = True
        self._broker.kill()
        self.counts["broker killed"] += 1
        await asyncio.sleep(_BROKER_DOWN_S)
        self._broker.start()
        self.broker_is_down = False

    async def _kill_edge(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._edges.kill_first()
        self.counts["edge killed"] += 1
