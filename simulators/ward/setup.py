"""What a ward is made from: options, story, and the broker, store, clock and site that exist before it starts."""

from pathlib import Path
from typing import NamedTuple

from runtime.clock import FileClock
from simulators.broker import Broker
from simulators.enrolled import EnrolledSite
from simulators.stories import Story
from simulators.ward.options import WardOptions, WardSettings
from stream.embedded.store import Store


class WardSetup(NamedTuple):
    """Facts and resources that all parts of a ward share; nothing here changes while the ward runs."""

    options: WardOptions
    settings: WardSettings
    story: Story
    folder: Path  # of the store, the outboxes and the shared clock
    address: tuple[str, int]  # host and port of the broker
    broker: Broker | None  # started for this ward; None: an external broker, used without TLS
    store: Store
    clock: FileClock
    site: EnrolledSite  # all devices are enrolled
    began_s: float  # when the command began, by `time.monotonic`

    @property
    def uses_tls(self) -> bool:
        """Whether MQTT connections use TLS: always, except with an external broker."""
        return self.broker is not None
