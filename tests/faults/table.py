"""Fault injections for a site with Kafka and InfluxDB, by their numbers in docs/operations.md."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from stream.kafka import create_topics, topic
from tests.faults.pipeline import Pipeline
from tests.stream.cluster import PARTITIONS
from wire.topics import KAFKA_STATE


class Fault(NamedTuple):
    """One fault injection."""

    title: str
    do: Callable[[Pipeline], Awaitable[None]]
    seconds: int  # duration of the simulated ward
    workers: int = 1
    log_lost: bool = False
    judged_again: bool = False
    max_queued: int = 20_000
    poison_every: int = 0
    disk_mb: int = 0  # the database's own disk, so that it can be filled; needs root


async def broker_killed(site: Pipeline) -> None:
    """Kill the MQTT broker five times; delete its data every other time."""
    for turn in range(5):
        await asyncio.sleep(4)
        site.blow()
        site.broker.kill()
        if turn % 2:
            for file in (site.folder / "site" / "broker").glob("**/mosquitto.db"):
                file.unlink()
        await asyncio.sleep(1)
        site.broker.start()
        site.repair()


async def ingest_stopped(site: Pipeline) -> None:
    """Stop ingest for a minute, so that the short queue of the broker overflows."""
    await asyncio.sleep(5)
    site.blow()
    site.ingest.stop()
    await asyncio.sleep(60)
    said = (site.folder / "mosquitto.log").read_text(encoding="utf-8", errors="replace")
    assert "messages are being dropped" in said, "the broker's queue did not overflow"
    site.ingest.start()
    site.repair()


async def ingest_killed_unconfirmed(site: Pipeline) -> None:
    """Kill ingest between the acknowledgement of Kafka and its PUBACK to the broker."""
    await asyncio.sleep(5)
    site.ingest.stop()
    told = ("ingest", "--site", str(site.folder / "site"), "--data", str(site.folder / "ingest"))
    for _ in range(3):
        dying = site.process("ingest", "ingest", *told, module="tests.faults.failing_process")
        site.blow()
        dying.start()
        while dying.is_running:
            await asyncio.sleep(0.1)
        dying.kill()
    site.ingest.start()
    site.repair()


async def kafka_killed(site: Pipeline) -> None:
    """Kill and restart Kafka; its data stays on disk."""
    await asyncio.sleep(5)
    site.blow()
    site.kafka.kill()
    await asyncio.sleep(3)
    await asyncio.to_thread(site.kafka.start)
    site.repair()


async def kafka_lost(site: Pipeline) -> None:
    """Kill Kafka and delete all its data: readings, states and offsets."""
    await asyncio.sleep(8)
    site.blow()
    site.kafka.kill()
    site.kafka.wipe()
    await asyncio.to_thread(site.kafka.start)
    await create_topics(site.log.config, partitions=PARTITIONS)
    site.repair()


async def kafka_away(site: Pipeline) -> None:
    """Stop Kafka for a minute."""
    await asyncio.sleep(5)
    site.blow()
    site.kafka.stop()
    await asyncio.sleep(60)
    await asyncio.to_thread(site.kafka.start)
    site.repair()


async def worker_killed(site: Pipeline) -> None:
    """Kill the worker ten times, at arbitrary instructions."""
    for _ in range(10):
        await asyncio.sleep(4)
        site.blow()
        site.workers[0].kill()
        site.workers[0].start()
        site.repair()


async def rebalanced(site: Pipeline) -> None:
    """Start and stop a second and a third worker."""
    first, second, third = site.workers
    second.stop()
    third.stop()
    await asyncio.sleep(5)
    for one in (second, third):
        site.blow()
        one.start()
        site.repair()
        await asyncio.sleep(5)
    for one in (first, second):
        site.blow()
        one.stop()
        site.repair()
        await asyncio.sleep(5)
    first.start()
    second.start()


async def state_lost(site: Pipeline) -> None:
    """Delete the states of all patients; the readings stay."""
    await asyncio.sleep(8)
    site.blow()
    site.workers[0].kill()
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka.address)
    await admin.start()
    await admin.delete_topics([topic(site.log.config, KAFKA_STATE)])
    await admin.close()
    await asyncio.sleep(2)
    await create_topics(site.log.config, partitions=PARTITIONS)
    site.workers[0].start()
    site.repair()


async def database_away(site: Pipeline) -> None:
    """Stop InfluxDB for a minute."""
    await asyncio.sleep(5)
    site.blow()
    site.influxdb.stop()
    await asyncio.sleep(60)
    await asyncio.to_thread(site.influxdb.start)
    site.repair()


async def writer_killed_after_write(site: Pipeline) -> None:
    """Kill the store writer right after the answer 204, before it reports the frames as stored."""
    await asyncio.sleep(5)
    site.store.stop()
    for _ in range(3):
        dying = site.process("store", "store", module="tests.faults.failing_process")
        site.blow()
        dying.start()
        while dying.is_running:
            await asyncio.sleep(0.1)
        dying.kill()
    site.store.start()
    site.repair()


async def database_full(site: Pipeline) -> None:
    """Its disk is full for half a minute; then somebody makes room and starts it anew.

    InfluxDB 2.7 keeps a shard closed that it could not open for want of room, until it is restarted.
    """
    await asyncio.sleep(5)
    filler = site.influxdb.folder / "filler"
    site.blow()
    await asyncio.to_thread(_fill, filler)
    await asyncio.sleep(30)
    filler.unlink()
    await asyncio.to_thread(site.influxdb.stop)
    await asyncio.to_thread(site.influxdb.start)
    site.repair()


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))


async def nothing(_: Pipeline) -> None:
    """Inject nothing: the edges send invalid frames."""


async def database_slow(site: Pipeline) -> None:
    """Freeze InfluxDB for five seconds again and again, so that every write takes that long."""
    await asyncio.sleep(5)
    site.blow()
    for _ in range(6):
        site.influxdb.server.freeze()
        await asyncio.sleep(4.5)
        site.influxdb.server.thaw()
        await asyncio.sleep(0.5)
    site.repair()


FAULTS: Final[dict[str, Fault]] = {
    "F04": Fault("MQTT broker killed 5 times, wiped every other time", broker_killed, 50),
    "F05": Fault("ingest away 60 s, broker's queue of 100 overflows", ingest_stopped, 110, max_queued=100),
    "F15": Fault("ingest killed between Kafka's ack and PUBACK, 3 times", ingest_killed_unconfirmed, 60),
    "F16": Fault("Kafka killed and restarted", kafka_killed, 60),
    "F17": Fault("Kafka loses all its data", kafka_lost, 90, log_lost=True),
    "F18": Fault("Kafka away 60 s", kafka_away, 120),
    "F19": Fault("worker killed 10 times", worker_killed, 70),
    "F20": Fault("rebalances: workers come and go", rebalanced, 60, workers=3),
    "F21": Fault("states lost, readings kept", state_lost, 60, judged_again=True),
    "F22": Fault("database away 60 s", database_away, 110),
    "F22b": Fault("store writer killed right after the 204, 3 times", writer_killed_after_write, 60),
    "F22c": Fault("database's disk full for 30 s, then room and a restart", database_full, 80, disk_mb=64),
    "F26": Fault("one frame in a hundred cannot be decoded", nothing, 40, poison_every=100),
    "F28": Fault("database slow: every write takes 5 s", database_slow, 70),
}
