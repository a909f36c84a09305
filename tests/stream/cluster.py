"""Kafka topics of one test, with a prefix: write and read records, and run workers in this process."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from runtime.clock import Clock, ManualClock
from stream.config import KafkaConfig, WorkerConfig
from stream.engine.partitions import VitalsConsumer
from stream.kafka import consumer, create_topics, producer, topic
from stream.records import (
    AlarmRecord,
    AnswerRecord,
    ObservationRecord,
    PeriodRecord,
    ReadingRecord,
    StayEndedRecord,
    decode_alarm_record,
    decode_judgement_record,
    encode_record,
)
from tests.patience import PATIENCE_S
from tests.services.kafka import Kafka
from tests.stream.receiving_site import NOW
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    BindingPeriod,
    Event,
    Message,
    MonitoringEnded,
    Observation,
    Silence,
    Tick,
)
from wire.topics import KAFKA_ALARMS, KAFKA_EVENTS, KAFKA_READINGS

PARTITIONS = 4
_numbers = itertools.count(1)


class WallAt(ManualClock):
    """A clock whose wall time stands still while monotonic time passes."""

    def mono_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


class Log:
    """Kafka topics that only one test uses."""

    def __init__(self, kafka: Kafka) -> None:
        name = f"t{next(_numbers)}"
        self.config = KafkaConfig(bootstrap=kafka.address, application=name, topic_prefix=f"{name}.")

    async def begin(self, partitions: int = PARTITIONS) -> None:
        await create_topics(self.config, partitions=partitions)

    def worker(self, **wishes: Any) -> WorkerConfig:
        return WorkerConfig(**{"kafka": self.config, "session_timeout_ms": 6_000, "commit_ms": 50} | wishes)

    async def put(self, messages: Iterable[Message]) -> int:
        """As ingest would; how many records that were. Ticks are nobody's."""
        sender = producer(self.config)
        await sender.start()
        try:
            waiting = []
            for message in messages:
                if isinstance(message, Tick):
                    continue
                waiting.append(
                    await sender.send(
                        topic(self.config, KAFKA_READINGS), key=message.stay_id.encode(), value=record_of(message)
                    )
                )
            for one in waiting:
                await one
            return len(waiting)
        finally:
            await sender.stop()

    async def records(self, name: str) -> list[Any]:
        """Everything in a topic that was committed."""
        reader = consumer(self.config, group=None)
        await reader.start()
        try:
            full = topic(self.config, name)
            places = [TopicPartition(full, index) for index in reader.partitions_for_topic(full) or ()]
            while not places:  # known a moment after it was made
                await reader._client.force_metadata_update()
                places = [TopicPartition(full, index) for index in reader.partitions_for_topic(full) or ()]
            reader.assign(places)
            ends = await reader.end_offsets(places)
            found = []
            await reader.seek_to_beginning(*places)
            while any([await reader.position(place) < ends[place] for place in places]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += records
            return found
        finally:
            await reader.stop()

    async def events(self) -> dict[str, list[Event]]:
        """By patient, in their order; alarms after the others."""
        judged: dict[str, list[Event]] = defaultdict(list)
        for record in await self.records(KAFKA_EVENTS):
            one = decode_judgement_record(record.value)
            judged[one.stay_id] += one.events
        for record in await self.records(KAFKA_ALARMS):
            told = decode_alarm_record(record.value)
            if isinstance(told, StayEndedRecord):
                judged[told.stay_id].append(
                    MonitoringEnded(stay_id=told.stay_id, at_ms=told.at_ms, ended_ms=told.ended_ms)
                )
                continue
            assert isinstance(told, AlarmRecord)
            judged[told.alarm.stay_id].append(told.alarm)
        return dict(judged)


async def configure(config: KafkaConfig, name: str, settings: dict[str, str]) -> None:
    """Set these settings of a topic, and no others."""
    admin = AIOKafkaAdminClient(bootstrap_servers=config.bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic(config, name), settings)])
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic(config, name))]
        known: dict[str, str] = {}
        while not settings.items() <= known.items():  # the broker hears of it a moment later
            (answer,) = await admin.describe_configs(asked)
            known = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    finally:
        await admin.close()


def record_of(message: Message) -> bytes:
    if isinstance(message, Acknowledge | Silence):
        return encode_record(AnswerRecord(message=message))
    assert not isinstance(message, Tick)
    if isinstance(message, BindingPeriod):
        return encode_record(PeriodRecord(message=message))
    if isinstance(message, Observation):
        return encode_record(ObservationRecord(message=message))
    return encode_record(ReadingRecord(messages=(message,)))


def in_two(events: Iterable[Event]) -> dict[str, list[Event]]:
    """As `Log.events` gives them."""
    judged: dict[str, list[Event]] = defaultdict(list)
    alarms: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if isinstance(event, AlarmChanged | MonitoringEnded):
            alarms[event.stay_id].append(event)
        else:
            judged[stay_of(event)].append(event)
    return {stay_id: judged[stay_id] + alarms[stay_id] for stay_id in judged | alarms}


def stay_of(event: Event) -> str:
    """The stay of any event."""
    for part in ("reading", "observation", "score"):
        event = getattr(event, part, event)
    return event.stay_id  # type: ignore[union-attr]


@asynccontextmanager
async def working(config: WorkerConfig, clock: Clock | None = None) -> AsyncIterator[VitalsConsumer]:
    """Runs a worker in this process for as long as the block lasts, and stops it as SIGTERM would."""
    worker = VitalsConsumer(config, clock or WallAt(NOW))
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def until(condition: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S) -> None:
    """Wait for something to become true."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {within_s:.0f} s") from None
