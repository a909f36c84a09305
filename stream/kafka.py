"""Access to Kafka: connection options, producers and consumers, and how to create and check the topics."""

import asyncio
import contextlib
import ssl
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream.config import KafkaConfig, KafkaTls
from stream.errors import KafkaUnusable
from stream.tls import CertifiedContext, FollowingContext
from wire.topics import (
    KAFKA_ALARMS,
    KAFKA_DEAD_LETTERS,
    KAFKA_ENTRIES,
    KAFKA_EVENTS,
    KAFKA_HEALTH,
    KAFKA_HEARTBEATS,
    KAFKA_READINGS,
    KAFKA_STATE,
    KAFKA_STORED,
)

DAY_MS: Final = 86_400_000
REQUEST_TIMEOUT_MS: Final = 10_000
BATCH_BYTES: Final = 512 * 1024

# The broker tells the time of a record. By default the sender does, and a broker refuses, or deletes at once, what was
# sent by a machine whose clock is wrong.
_TIMED: Final = {"message.timestamp.type": "LogAppendTime"}
_DELETED_AFTER: Final = {"cleanup.policy": "delete"} | _TIMED
# Kafka compacts closed segments only. They are small, or restoring a partition would read many old states.
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "segment.bytes": "67108864",
    "min.cleanable.dirty.ratio": "0.2",
} | _TIMED


class TopicSpec(NamedTuple):
    """Name and settings of a topic."""

    name: str
    by_binding: bool  # keyed by binding: it has as many partitions as the topic of readings
    settings: dict[str, str]


TOPICS: Final = (
    TopicSpec(KAFKA_READINGS, True, _DELETED_AFTER | {"retention.ms": str(14 * DAY_MS)}),
    TopicSpec(KAFKA_STATE, True, _COMPACTED),
    TopicSpec(KAFKA_EVENTS, True, _DELETED_AFTER | {"retention.ms": str(7 * DAY_MS)}),
    TopicSpec(KAFKA_ALARMS, True, _DELETED_AFTER | {"retention.ms": str(90 * DAY_MS)}),
    TopicSpec(KAFKA_ENTRIES, True, _DELETED_AFTER | {"retention.ms": str(90 * DAY_MS)}),
    TopicSpec(KAFKA_STORED, False, _DELETED_AFTER | {"retention.ms": str(DAY_MS)}),
    TopicSpec(KAFKA_HEARTBEATS, False, _DELETED_AFTER | {"retention.ms": str(7 * DAY_MS)}),
    TopicSpec(KAFKA_HEALTH, False, _DELETED_AFTER | {"retention.ms": str(7 * DAY_MS)}),
    TopicSpec(KAFKA_DEAD_LETTERS, False, _DELETED_AFTER | {"retention.ms": str(90 * DAY_MS)}),
)


class TopicStatus(NamedTuple):
    """Size of one topic."""

    name: str
    partitions: int
    records: int  # that Kafka still has; in a compacted topic, including compacted ones


class TopicsStatus(NamedTuple):
    """Sizes of the topics, and the lag of the consumer groups."""

    topics: list[TopicStatus]
    behind: list[tuple[str, str, int]]  # group, topic, records
    dead_letters: int


def connection(config: KafkaConfig) -> dict[str, Any]:
    """Connection options of every Kafka client."""
    options: dict[str, Any] = {"bootstrap_servers": config.bootstrap}
    if config.tls is not None:
        options |= {"security_protocol": "SSL", "ssl_context": _following(config.tls)}
    return options


def _following(tls: KafkaTls) -> FollowingContext:
    """Each connection has the certificate and the trusted root that are on disk when it is made."""

    def make() -> CertifiedContext:
        context = CertifiedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cafile=tls.root)
        context.show(tls.certificate, tls.key)
        return context

    return FollowingContext((tls.root, tls.certificate, tls.key), make)


def topic(config: KafkaConfig, name: str) -> str:
    """The full name of a topic, with the prefix of this site."""
    return f"{config.topic_prefix}{name}"


def producer(config: KafkaConfig, *, transactional_id: str | None = None) -> AIOKafkaProducer:
    """A producer that waits for all replicas and, as long as it runs, sends no record twice."""
    more: dict[str, Any] = {}
    if transactional_id is not None:
        more = {"transactional_id": transactional_id, "transaction_timeout_ms": REQUEST_TIMEOUT_MS}
    return AIOKafkaProducer(
        **connection(config),
        acks="all",
        enable_idempotence=True,
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **more,
    )


def consumer(
    config: KafkaConfig, *topics: str, group: str | None, committed: bool = True, **more: Any
) -> AIOKafkaConsumer:
    """A consumer that commits no offsets by itself and starts at the beginning of a topic.

    Args:
        topics: names without prefix.
        group: consumer group; None: the caller assigns partitions.
        committed: leave out records of open and aborted transactions.
        more: further arguments of AIOKafkaConsumer.
    """
    return AIOKafkaConsumer(
        *[topic(config, name) for name in topics],
        **connection(config),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed" if committed else "read_uncommitted",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        **more,
    )


async def create_topics(config: KafkaConfig, *, partitions: int, replication: int = 1) -> list[str]:
    """Create missing topics.

    Args:
        partitions: number for the topics that are keyed by binding, and most workers that can share them. It cannot be
            changed later.
        replication: number of copies of each topic.

    Returns:
        The names of the topics that were created.

    Raises:
        KafkaUnusable: Kafka does not answer, or refuses.
    """
    made = []
    admin = AIOKafkaAdminClient(**connection(config), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        settings = {"min.insync.replicas": "2"} if replication > 2 else {}
        wanted = [
            NewTopic(
                topic(config, one.name),
                num_partitions=partitions if one.by_binding else 1,
                replication_factor=replication,
                topic_configs=one.settings | settings,
            )
            for one in TOPICS
        ]
        answer = await admin.create_topics(wanted)
        for name, code, *_ in answer.topic_errors:
            problem = for_code(code)
            if problem is TopicAlreadyExistsError:
                continue
            if code:
                raise KafkaUnusable(config.bootstrap, f"cannot create topic {name}: {problem.__name__}")
            made.append(name)
        await _until_known(admin, made)
    except KafkaError as error:
        raise KafkaUnusable(config.bootstrap, f"does not answer ({error}); is it up?") from error
    finally:
        await admin.close()
    return made


async def _until_known(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait until new topics are known to the broker that answers: it learns of them a moment after their creation."""
    with contextlib.suppress(TimeoutError):  # then `check_topics` names the missing ones
        async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1_000):
            while names and any(one["error_code"] for one in await admin.describe_topics(names)):
                await asyncio.sleep(0.05)


async def check_topics(config: KafkaConfig) -> int:
    """Check the topics; returns the number of partitions of the topic of readings.

    Raises:
        KafkaUnusable: Kafka does not answer, a topic is missing, or topics have different numbers of partitions.
    """
    admin = AIOKafkaAdminClient(**connection(config), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        found = {
            one["topic"]: len(one["partitions"])
            for one in await admin.describe_topics([topic(config, spec.name) for spec in TOPICS])
            if not one["error_code"]
        }
    except KafkaError as error:
        raise KafkaUnusable(config.bootstrap, f"does not answer ({error}); is it up?") from error
    finally:
        await admin.close()
    for spec in TOPICS:
        name = topic(config, spec.name)
        if name not in found:
            raise KafkaUnusable(config.bootstrap, f"has no topic {name}; create it: vitalloom topics init")
        if spec.by_binding and found[name] != found[topic(config, KAFKA_READINGS)]:
            raise KafkaUnusable(
                config.bootstrap,
                f"topic {name} has {found[name]} partitions, {topic(config, KAFKA_READINGS)} has "
                f"{found[topic(config, KAFKA_READINGS)]}; the numbers must be equal; create the topic again",
            )
    return found[topic(config, KAFKA_READINGS)]


async def topics_status(config: KafkaConfig) -> TopicsStatus:
    """Sizes of the topics, and the lag of the consumer groups of this site.

    Raises:
        KafkaUnusable: Kafka does not answer, or topics are missing.
    """
    await check_topics(config)
    admin = AIOKafkaAdminClient(**connection(config), request_timeout_ms=REQUEST_TIMEOUT_MS)
    reader = consumer(config, group=None)
    try:
        await admin.start()
        await reader.start()
        names = [topic(config, spec.name) for spec in TOPICS]
        found = await admin.describe_topics(names)
        all_partitions = [
            TopicPartition(one["topic"], part["partition"]) for one in found for part in one["partitions"]
        ]
        first, ends = await reader.beginning_offsets(all_partitions), await reader.end_offsets(all_partitions)
        kept = {name: [ends[at] - first[at] for at in all_partitions if at.topic == name] for name in names}
        behind: dict[tuple[str, str], int] = {}
        for group in await _groups(admin, config):
            for at, where in (await admin.list_consumer_group_offsets(group)).items():
                if at in ends and where.offset >= 0:
                    lag = max(0, ends[at] - max(where.offset, first[at]))
                    behind[group, at.topic] = behind.get((group, at.topic), 0) + lag
    except KafkaError as error:
        raise KafkaUnusable(config.bootstrap, f"does not answer ({error}); is it up?") from error
    finally:
        await reader.stop()
        await admin.close()
    return TopicsStatus(
        [TopicStatus(name, len(counts), sum(counts)) for name, counts in kept.items()],
        sorted((group, name, lag) for (group, name), lag in behind.items()),
        sum(kept[topic(config, KAFKA_DEAD_LETTERS)]),
    )


async def _groups(admin: AIOKafkaAdminClient, config: KafkaConfig) -> list[str]:
    """The consumer groups of this site."""
    return sorted(name for name, *_ in await admin.list_consumer_groups() if name.startswith(f"{config.application}-"))
