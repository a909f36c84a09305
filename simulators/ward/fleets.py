"""All wearables of a ward, in fleets that share a connection each."""

import random
from collections.abc import Sequence
from typing import Final

import msgspec

from simulators.faults import FaultCounts, FaultSpec, LossyLink
from simulators.fleet import TIMING, Fleet, FleetCounts
from simulators.ward.connections import Connections
from simulators.ward.lifetime import Lifetime, WardPart
from simulators.ward.pace import Pace
from simulators.ward.setup import WardSetup
from vitals.messages import ClockQuality
from wire.codec import VitalsV1
from wire.mqtt import MqttClient
from wire.sending.settings import Timing

_OWN_CONNECTIONS: Final = 64
_TIMING_WITH_FAULTS: Final = Timing(vitals_first_ms=1_000, vitals_max_ms=5_000)


class Fleets(WardPart):
    """The wearables of a ward: one connection per wearable, in a large ward one per edge.

    Args:
        pace: notified of every reading that is sent or refused permanently.
    """

    def __init__(self, setup: WardSetup, connections: Connections, pace: Pace) -> None:
        self._wearables = setup.site.wearables
        self._link = setup.settings.link
        self._connections = connections
        # The access list of Mosquitto lets a connection publish for its own device only.
        self._has_own_connections = setup.settings.starts_mosquitto or len(setup.story.devices) <= _OWN_CONNECTIONS
        count = len(self._wearables) if self._has_own_connections else len(setup.site.edges)
        self._fleets = [
            Fleet(
                self._wearables[index::count],
                setup.clock,
                rng=random.Random(setup.options.seed * 1_000 + index),
                link=_link(setup, index),
                timing=_TIMING_WITH_FAULTS if setup.settings.has_faults else TIMING,
                on_sent=pace.sent,
                on_done=pace.done,
            )
            for index in range(count)
        ]

    async def start(self, lifetime: Lifetime) -> None:
        for index, fleet in enumerate(self._fleets):
            client = await lifetime.connect(self._client(index, fleet))
            lifetime.run(fleet.run(client), name=f"fleet {index}")

    def send(self, samples: Sequence[tuple[int, VitalsV1]], at_ms: int) -> None:
        """Send what was measured at `at_ms`: pairs of device number and reading."""
        for device, sample in samples:
            fleet = self._fleets[device % len(self._fleets)]
            fleet.send(device // len(self._fleets), self._with_clock_error(sample), at_ms)

    @property
    def unacknowledged(self) -> int:
        """Readings that no edge has acknowledged yet."""
        return sum(fleet.kept for fleet in self._fleets)

    @property
    def counts(self) -> FleetCounts:
        """The counters of all fleets, added up."""
        names = FleetCounts.__struct_fields__
        return FleetCounts(**{name: sum(getattr(fleet.counts, name) for fleet in self._fleets) for name in names})

    def faults(self) -> list[FaultCounts]:
        """Faults injected so far, one entry per lossy link."""
        return [fleet.link.counts for fleet in self._fleets if fleet.link is not None]

    def _with_clock_error(self, sample: VitalsV1) -> VitalsV1:
        """The reading as stamped by a wearable whose clock is wrong and is known to be free-running."""
        if not self._link.skew_ms:
            return sample
        t_ms = max(self._link.clock_ms(sample.t_ms), 0)
        return msgspec.structs.replace(sample, t_ms=t_ms, t_quality=int(ClockQuality.FREE_RUNNING))

    def _client(self, index: int, fleet: Fleet) -> MqttClient:
        wearable = self._wearables[index]
        name = wearable.me.device_id.hex() if self._has_own_connections else f"fleet-{index}"
        return self._connections.for_fleet(name, fleet.subscriptions, wearable)


def _link(setup: WardSetup, index: int) -> LossyLink | None:
    if setup.settings.link == FaultSpec():
        return None
    rng = random.Random(setup.options.seed * 2_000 + index)
    return LossyLink(rng, setup.settings.link, start_mono_ms=setup.clock.mono_ms())
