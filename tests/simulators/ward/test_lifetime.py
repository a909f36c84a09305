"""Connections and tasks of a ward end together."""

import asyncio
from types import TracebackType
from typing import Any, Self, cast

import pytest

from simulators.ward.lifetime import lifetime
from wire.mqtt import MqttClient


class FakeClient:
    """A connection that writes down when it was opened and closed."""

    def __init__(self, name: str, happened: list[str], *, connected: bool = True, trouble: str = "") -> None:
        self.name = name
        self.connected = connected
        self.trouble = trouble
        self._happened = happened

    async def __aenter__(self) -> Self:
        self._happened.append(f"{self.name} opened")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._happened.append(f"{self.name} closed")


def a_client(name: str, happened: list[str], **state: Any) -> MqttClient:
    return cast(MqttClient, FakeClient(name, happened, **state))


async def work(happened: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        happened.append("task ended")


def test_tasks_end_before_connections_close_and_the_newest_connection_closes_first() -> None:
    happened: list[str] = []

    async def story() -> None:
        async with lifetime() as running:
            await running.connect(a_client("first", happened))
            await running.connect(a_client("second", happened))
            running.run(work(happened), name="work")
            await asyncio.sleep(0)

    asyncio.run(story())

    assert happened == ["first opened", "second opened", "task ended", "second closed", "first closed"]


def test_a_failing_task_ends_the_block_and_closes_everything() -> None:
    happened: list[str] = []

    async def fail() -> None:
        raise ValueError("broken")

    async def story() -> None:
        async with lifetime() as running:
            await running.connect(a_client("first", happened))
            running.run(work(happened), name="work")
            running.run(fail(), name="fail")
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(story())

    assert [str(one) for one in raised.value.exceptions] == ["broken"]
    assert happened == ["first opened", "task ended", "first closed"]


def test_one_broken_connection_is_enough_not_to_be_connected() -> None:
    async def story() -> tuple[bool, str]:
        async with lifetime() as running:
            await running.connect(a_client("good", []))
            await running.connect(a_client("bad", [], connected=False, trouble="refused"))
            return running.is_connected, running.connection_error

    assert asyncio.run(story()) == (False, "refused")
