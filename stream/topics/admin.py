"""The functions of the commands `vitalloom topics`."""

import asyncio
import contextlib
from pathlib import Path

from runtime.clock import SystemClock
from stream.config import KafkaConfig
from stream.kafka import TopicsStatus, check_topics, create_topics, topics_status
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from stream.topics.dead_letters import Resent, StoredDeadLetter, list_dead_letters, resend_dead_letters


def kafka_config(bootstrap: str, topic_prefix: str = "", *, application: str = "vitalloom") -> KafkaConfig:
    """Kafka configuration from command-line options."""
    return KafkaConfig(bootstrap=bootstrap, topic_prefix=topic_prefix, application=application)


def create_missing_topics(kafka: KafkaConfig, *, partitions: int, replication: int) -> list[str]:
    """The command `vitalloom topics init`: create missing topics, and check the others. Returns the created ones.

    Raises:
        KafkaUnusable: Kafka does not answer or refuses, or topics have different numbers of partitions.
    """

    async def work() -> list[str]:
        made = await create_topics(kafka, partitions=partitions, replication=replication)
        await check_topics(kafka)
        return made

    return asyncio.run(work())


def read_status(kafka: KafkaConfig) -> TopicsStatus:
    """The command `vitalloom topics status`.

    Raises:
        KafkaUnusable: Kafka does not answer, or topics are missing.
    """
    return asyncio.run(topics_status(kafka))


def dead_letters(kafka: KafkaConfig) -> list[StoredDeadLetter]:
    """The command `vitalloom topics dead-letters`.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    return asyncio.run(list_dead_letters(kafka))


def resend(kafka: KafkaConfig, *, site: Path | None, again: bool, stage: str, wait_s: float) -> Resent:
    """The command `vitalloom topics resend`.

    Raises:
        KafkaUnusable: Kafka does not answer.
        SiteUnusable: the site folder lacks a file; the message names it and the fix.
    """
    clock = SystemClock()
    if site is None:
        return asyncio.run(resend_dead_letters(kafka, clock, again=again, stage=stage, wait_s=wait_s))
    with contextlib.closing(Site.open(site, clock=clock, to_read=True)) as opened:
        directory = RegistryDirectory(opened.registry)
        return asyncio.run(
            resend_dead_letters(kafka, clock, directory=directory, again=again, stage=stage, wait_s=wait_s)
        )
