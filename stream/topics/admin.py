"""What the command `vitalloom topics` does: create and inspect Kafka topics, list dead letters and send them again."""

import asyncio
import contextlib
from pathlib import Path

from runtime.clock import SystemClock
from stream.config import KafkaConfig
from stream.kafka import TopicsStatus, check_topics, create_topics, status
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from stream.topics.dead_letters import Resent, StoredDeadLetter, list_dead_letters
from stream.topics.dead_letters import resend_dead_letters as send_again


def kafka_config(bootstrap: str, topic_prefix: str = "", *, application: str = "vitalloom") -> KafkaConfig:
    """For commands that need no more than that."""
    return KafkaConfig(bootstrap=bootstrap, topic_prefix=topic_prefix, application=application)


def create_missing_topics(kafka: KafkaConfig, *, partitions: int, replication: int) -> list[str]:
    """The command `vitalloom topics init`: make the topics that are missing, and check the others.

    Raises:
        KafkaUnusable: Kafka does not answer or refuses, or what is there does not correspond.
    """

    async def work() -> list[str]:
        made = await create_topics(kafka, partitions=partitions, replication=replication)
        await check_topics(kafka)
        return made

    return asyncio.run(work())


def topics_status(kafka: KafkaConfig) -> TopicsStatus:
    """The command `vitalloom topics status`.

    Raises:
        KafkaUnusable: Kafka does not answer, or topics are missing.
    """
    return asyncio.run(status(kafka))


def dead_letters(kafka: KafkaConfig) -> list[StoredDeadLetter]:
    """The command `vitalloom topics dead-letters`.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    return asyncio.run(list_dead_letters(kafka))


def resend(kafka: KafkaConfig, *, site: Path | None, again: bool, stage: str) -> Resent:
    """The command `vitalloom topics resend`.

    Raises:
        KafkaUnusable, SiteUnusable: what is wrong, and the fix.
    """
    clock = SystemClock()
    if site is None:
        return asyncio.run(send_again(kafka, clock, again=again, stage=stage))
    with contextlib.closing(Site.open(site, clock=clock, to_read=True)) as opened:
        directory = RegistryDirectory(opened.registry)
        return asyncio.run(send_again(kafka, clock, directory=directory, again=again, stage=stage))
