"""Two connections to one broker: alarms never stand behind a backlog of vital signs.

Each lane has a certificate, a client id and a window of its own. Without TLS there is one connection for both.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from wire.client_tls import client_context
from wire.envelope import FrameClass
from wire.identity import TlsFiles
from wire.mqtt import Inbound, MqttClient
from wire.topics import is_alarm_lane

ALARM_RECEIVE_MAXIMUM: Final = 20


class Lanes:
    """What an edge and the data centre speak through; looks like one client.

    Args:
        vitals: carries everything but alarms.
        alarms: None: the other carries them too.
    """

    def __init__(self, vitals: MqttClient, alarms: MqttClient | None = None) -> None:
        self._vitals = vitals
        self._alarms = alarms
        self._all = (vitals,) if alarms is None else (alarms, vitals)
        self._arrived = asyncio.Event()
        for client in self._all:
            client.announce(self._arrived)

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        async with contextlib.AsyncExitStack() as stack:
            for client in self._all:
                await stack.enter_async_context(client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def connected(self) -> bool:
        """Whether both lanes are up."""
        return all(client.connected for client in self._all)

    @property
    def trouble(self) -> str:
        """Why there is no connection, as far as that is known."""
        return next((client.trouble for client in self._all if client.trouble), "")

    @property
    def refusal(self) -> str:
        """What the broker refuses although it is connected; empty: nothing."""
        return next((client.refusal for client in self._all if client.refusal), "")

    @property
    def waiting(self) -> int:
        """How many messages came and were not taken yet."""
        return sum(client.waiting for client in self._all)

    def is_up(self, frame_class: int) -> bool:
        """Whether frames of a class can leave."""
        return self._lane(frame_class == FrameClass.ALARM).connected

    def room(self, frame_class: int) -> int:
        """How many messages of a class `publish` would take now."""
        return self._lane(frame_class == FrameClass.ALARM).room

    def publish(self, topic: str, payload: bytes) -> bool:
        """As `MqttClient.publish`, on the lane that the topic belongs to."""
        return self._lane(is_alarm_lane(topic)).publish(topic, payload)

    async def receive(self, limit: int = 64, *, within_s: float | None = None) -> list[Inbound]:
        """Up to `limit` messages, those of the alarm lane first."""
        if not any(client.waiting for client in self._all):
            self._arrived.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        taken: list[Inbound] = []
        for client in self._all:
            if client.waiting and len(taken) < limit:
                taken += await client.receive(limit - len(taken), within_s=0)
        return taken

    def acknowledge(self, message: Inbound) -> None:
        self._lane(is_alarm_lane(message.topic)).acknowledge(message)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Hear these from now on, too."""
        self._vitals.subscribe(topics)

    def _lane(self, is_alarm: bool) -> MqttClient:
        return self._alarms if is_alarm and self._alarms is not None else self._vitals


def tls_context(root: TlsFiles, *, alarm: bool = False) -> Callable[[], ssl.SSLContext]:
    """Makes the context of a connection, from the files as they are when it is made: they are renewed now and then."""

    def make() -> ssl.SSLContext:
        own = root.alarm if alarm and root.alarm is not None else root.client
        return client_context(root.root.read_text(encoding="ascii", errors="replace"), own=own)

    return make
