"""The Faust application: lifecycle, timers and agents around the readings' consumer. The only import of Faust.

The readings themselves are one service of the app, with a consumer and a group of its own (`stream.engine.partitions`).
"""

import asyncio
import tempfile
from typing import Any, Final

import faust
from mode import Service

from runtime.clock import Clock, SystemClock
from runtime.logs import get
from stream.config import WorkerConfig
from stream.engine.orders import forward_order
from stream.engine.partitions import VitalsConsumer
from stream.engine.plain import HEALTH_S
from stream.kafka import connection, topic
from stream.records import encode_record
from wire.errors import DecodeError
from wire.topics import KAFKA_HEALTH, KAFKA_ORDERS, KAFKA_READINGS

_STOP_WITHIN_S: Final = 8.0

_log = get(__name__)


class ConsumerService(Service):
    """The readings' consumer as a part of the app: started with it, stopped with it; if it ends, the app ends."""

    def __init__(self, vitals: VitalsConsumer, **more: Any) -> None:
        super().__init__(**more)
        self.vitals = vitals
        self._running: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        self._running = asyncio.create_task(self.vitals.run(), name="readings")
        self._running.add_done_callback(self._ended)

    async def on_stop(self) -> None:
        await self.vitals.stop()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """An app that reads nothing and looks healthy is the worst of all."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the readings are not read any more", problem=repr(error))
            self._crashing = asyncio.get_running_loop().create_task(self.crash(error))


class FaustWorker:
    """A worker on Faust, as a coroutine: for a process that has an event loop and signals of its own."""

    def __init__(self, config: WorkerConfig, clock: Clock, *, vitals: VitalsConsumer | None = None) -> None:
        self._app = build_app(config, clock=clock, vitals=vitals)
        self.vitals: VitalsConsumer = self._app.vitals

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._app.start()
            await self.vitals.ended.wait()
            if self.vitals.failure is not None:
                raise self.vitals.failure
        finally:
            # The readings first, for others wait for our partitions. What Faust does after that is for itself alone,
            # and in the middle of a rebalance it can take minutes.
            try:
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await self.vitals.stop()
                    await self._app.stop()
            except TimeoutError:
                _log.warning("Faust does not stop; it is left behind")


class VitalsApp(faust.App):
    """A Faust application with a consumer of readings."""

    vitals: VitalsConsumer


def build_app(config: WorkerConfig, *, clock: Clock | None = None, vitals: VitalsConsumer | None = None) -> VitalsApp:
    """A worker as a Faust application.

    Args:
        vitals: the consumer of readings; None: one on this configuration and clock.
    """
    kafka = config.kafka
    told = connection(kafka)
    app = VitalsApp(
        f"{kafka.application}-faust",
        broker=[f"kafka://{one.strip()}" for one in kafka.bootstrap.split(",")],
        broker_credentials=faust.SSLCredentials(told["ssl_context"]) if kafka.tls is not None else None,
        broker_session_timeout=config.session_timeout_ms / 1_000,
        broker_heartbeat_interval=max(0.1, config.session_timeout_ms / 4_000),
        datadir=tempfile.gettempdir(),
        key_serializer="raw",
        value_serializer="raw",
        producer_acks=-1,
        store="memory://",
        topic_allow_declare=False,  # ours are made by `vitalloom topics init`, with settings that matter
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.vitals = vitals or VitalsConsumer(config, clock or SystemClock())
    orders = app.topic(topic(kafka, KAFKA_ORDERS), value_serializer="raw")
    readings = app.topic(topic(kafka, KAFKA_READINGS), value_serializer="raw", allow_empty=False)
    health = app.topic(topic(kafka, KAFKA_HEALTH), value_serializer="raw")

    @app.agent(orders)
    async def pass_orders(stream: Any) -> None:
        """What people want joins the readings; to be told twice what is wanted does no harm."""
        async for value in stream:
            try:
                key, order = forward_order(value)
            except DecodeError as error:
                _log.error("an order cannot be read", problem=str(error))
                continue
            await readings.send(key=key, value=order)

    @app.timer(interval=HEALTH_S)  # type: ignore[untyped-decorator]
    async def tell_health() -> None:
        for one in app.vitals.health():
            await health.send(value=encode_record(one))

    app.service(_service_type(app.vitals))
    return app


def _service_type(vitals: VitalsConsumer) -> type[ConsumerService]:
    """A service class, as Faust wants it, that has its consumer already."""

    class OfThisApp(ConsumerService):
        def __init__(self, **more: Any) -> None:
            super().__init__(vitals, **more)

    return OfThisApp
