"""The connections and background tasks of a running ward, which all end together."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from wire.lanes import Lanes
from wire.mqtt import MqttClient

ClientT = TypeVar("ClientT", MqttClient, Lanes)


class Lifetime:
    """Starts connections and tasks; the `with` block of `lifetime` ends them.

    Args:
        connections: closed after all tasks have ended, the newest first.
        tasks: an exception of one task ends all others and the block.
    """

    def __init__(self, connections: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        self._connections = connections
        self._group = tasks
        self._clients: list[MqttClient | Lanes] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, client: ClientT) -> ClientT:
        """Open an MQTT connection. Returns before the broker has accepted it; see `is_connected`."""
        opened = await self._connections.enter_async_context(client)
        self._clients.append(opened)
        return opened

    def run(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` in the background until it returns or the ward ends."""
        self._tasks.append(self._group.create_task(work, name=name))

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted every connection."""
        return all(client.connected for client in self._clients)

    @property
    def connection_error(self) -> str:
        """Why the first broken connection is down; empty if unknown."""
        return next((client.trouble for client in self._clients if client.trouble), "")

    def end(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks:
            task.cancel()


class WardPart(ABC):
    """One part of a ward, started and stopped with it.

    `Ward.stages` lists the parts in the order in which they start.
    """

    @abstractmethod
    async def start(self, lifetime: Lifetime) -> None:
        """Open connections and start tasks through `lifetime`, which also ends them."""

    @property
    def is_ready(self) -> bool:
        """Whether the parts of the next stage may start. Connections are checked separately."""
        return True


@contextlib.asynccontextmanager
async def lifetime() -> AsyncIterator[Lifetime]:
    """A lifetime that ends with the block: tasks are cancelled and awaited, then connections are closed.

    Raises:
        ExceptionGroup: what the block or its tasks raised.
    """
    async with contextlib.AsyncExitStack() as connections, asyncio.TaskGroup() as tasks:
        running = Lifetime(connections, tasks)
        try:
            yield running
        finally:
            running.end()
