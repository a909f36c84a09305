"""The worker as a Faust application: its lifecycle, a timer and an agent. The only module that imports Faust.

Readings are consumed by a service of the application, `stream.engine.partitions`, with its own Kafka consumer group.
"""

import asyncio
import tempfile
from typing import Any, Final

import faust
from mode import Service

from runtime.clock import Clock, SystemClock
from runtime.logs import get
from stream.config import WorkerConfig
from stream.engine.entries import forward_entry
from stream.engine.partitions import VitalsConsumer
from stream.engine.plain import HEALTH_S
from stream.kafka import connection, topic
from stream.records import encode_record
from wire.errors import DecodeError
from wire.topics import KAFKA_ENTRIES, KAFKA_HEALTH, KAFKA_READINGS

_STOP_WITHIN_S: Final = 8.0

_log = get(__name__)


class ConsumerService(Service):
    """Runs the consumer of readings as a service of the application; if the consumer fails, the application stops."""

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
        """Stop the application: without the consumer it would look healthy and read nothing."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the consumer of readings failed; stopping the worker", problem=repr(error))
            self._crashing = asyncio.get_running_loop().create_task(self.crash(error))


class FaustWorker:
    """A worker on Faust, for a process that runs its own event loop and handles signals."""

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
            # Stop the consumer first, because other workers wait for its partitions. Stopping Faust itself may take
            # minutes during a rebalance, and nothing depends on it.
            try:
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await self.vitals.stop()
                    await self._app.stop()
            except TimeoutError:
                _log.warning("Faust did not stop in time; exiting without waiting for it")


class VitalsApp(faust.App):
    """A Faust application that has a consumer of readings."""

    vitals: VitalsConsumer


def build_app(config: WorkerConfig, *, clock: Clock | None = None, vitals: VitalsConsumer | None = None) -> VitalsApp:
    """Build the Faust application of a worker.

    Args:
        clock: None: the system clock.
        vitals: the consumer of readings; None: one with this configuration and clock.
    """
    kafka = config.kafka
    options = connection(kafka)
    app = VitalsApp(
        f"{kafka.application}-faust",
        broker=[f"kafka://{one.strip()}" for one in kafka.bootstrap.split(",")],
        broker_credentials=faust.SSLCredentials(options["ssl_context"]) if kafka.tls is not None else None,
        broker_session_timeout=config.session_timeout_ms / 1_000,
        broker_heartbeat_interval=max(0.1, config.session_timeout_ms / 4_000),
        datadir=tempfile.gettempdir(),
        key_serializer="raw",
        value_serializer="raw",
        producer_acks=-1,
        store="memory://",
        topic_allow_declare=False,  # `vitalloom topics init` creates them with the right settings
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.vitals = vitals or VitalsConsumer(config, clock or SystemClock())
    entries = app.topic(topic(kafka, KAFKA_ENTRIES), value_serializer="raw")
    readings = app.topic(topic(kafka, KAFKA_READINGS), value_serializer="raw", allow_empty=False)
    health = app.topic(topic(kafka, KAFKA_HEALTH), value_serializer="raw")

    @app.agent(entries)
    async def forward_entries(stream: Any) -> None:
        """Copy what people entered to the readings of their patient. Copied twice, it has the same effect."""
        async for value in stream:
            try:
                key, order = forward_entry(value)
            except DecodeError as error:
                _log.error("cannot decode an order", problem=str(error))
                continue
            await readings.send(key=key, value=order)

    @app.timer(interval=HEALTH_S)  # type: ignore[untyped-decorator]
    async def publish_health() -> None:
        for one in app.vitals.health():
            await health.send(value=encode_record(one))

    app.service(_service_type(app.vitals))
    return app


def _service_type(vitals: VitalsConsumer) -> type[ConsumerService]:
    """A service class with the consumer bound to it: Faust creates the instance itself."""

    class BoundService(ConsumerService):
        def __init__(self, **more: Any) -> None:
            super().__init__(vitals, **more)

    return BoundService
