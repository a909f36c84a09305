"""Checks of a cluster: topics and consumer lag in Kafka, buckets and permissions in InfluxDB."""

import asyncio
import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.checks import (
    BucketAccess,
    CheckResult,
    LagSample,
    failure,
    judge_bucket,
    judge_lag,
    judge_offset,
    ok,
    warning,
)
from deploy.probes import http_request
from runtime.clock import Clock
from stream.config import InfluxConfig, KafkaConfig
from stream.errors import DatabaseUnusable, KafkaUnusable
from stream.kafka import check_topics, connection, consumer, topic
from stream.store.buckets import Buckets
from stream.store.decoding import TOPIC_GROUPS
from stream.store.influx import read_token, task_name
from stream.topics.dead_letters import count_unsent
from wire.topics import KAFKA_READINGS

TIMEOUT_S: Final = 12.0
_NO_MEMBERS: Final = ("Empty", "Dead")


async def check_kafka(
    kafka: KafkaConfig, *, source: str, groups: "Sequence[ConsumerGroup]", pause_s: float
) -> list[CheckResult]:
    """Whether Kafka answers and has the topics, and whether its consumers keep up.

    Args:
        source: the file that its address was read from, for the fix.
    """
    subject = f"Kafka at {kafka.bootstrap}"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            partitions = await check_topics(kafka)
    except KafkaUnusable as error:
        result, _, fix = str(error).removeprefix(f"{subject}: ").rpartition("; ")
        if "does not answer" in result:
            return [failure(subject, "does not answer", f"start it, or correct kafka.bootstrap in {source}")]
        if "topics init" in fix:
            fix = f"{fix} --kafka {kafka.bootstrap}{_prefix(kafka)}"
        return [failure(subject, result, fix)]
    except TimeoutError:
        return [failure(subject, f"does not answer within {TIMEOUT_S:.0f} s", f"check kafka.bootstrap in {source}")]
    found = [ok(subject, f"has all topics; readings have {partitions} partitions")]
    if groups:
        try:
            async with asyncio.timeout(TIMEOUT_S + pause_s):
                found += await _lags(kafka, groups, pause_s)
                found += await _dead_letters(kafka)
        except (KafkaError, TimeoutError) as error:
            found.append(warning(subject, f"cannot read the lag of its consumers ({error!r})", "run the doctor again"))
    return found


class ConsumerGroup(msgspec.Struct, frozen=True):
    """A Kafka consumer group and how to start more members."""

    name: str
    topics: tuple[str, ...]
    label: str
    start: str
    more: str


def worker_group(kafka: KafkaConfig, source: str) -> ConsumerGroup:
    """The consumer group of the workers."""
    start = f"vitalloom worker --config {source}"
    return ConsumerGroup(
        f"{kafka.application}-vitals",
        (topic(kafka, KAFKA_READINGS),),
        "workers",
        start,
        f"start more workers, up to the number of partitions: {start}",
    )


def store_groups(kafka: KafkaConfig, source: str) -> list[ConsumerGroup]:
    """The consumer groups of the store writer, one for each lane."""
    start = f"vitalloom store run --config {source}"
    return [
        ConsumerGroup(
            f"{kafka.application}-store-{name}",
            tuple(topic(kafka, one) for one in topics),
            f"store writer, {name}",
            start,
            f"start another store writer, and check whether InfluxDB keeps up: {start}",
        )
        for name, (topics, _) in TOPIC_GROUPS.items()
    ]


async def _lags(kafka: KafkaConfig, groups: Sequence[ConsumerGroup], pause_s: float) -> list[CheckResult]:
    admin = AIOKafkaAdminClient(**connection(kafka), request_timeout_ms=5_000)
    reader = consumer(kafka, group=None)
    try:
        await admin.start()
        await reader.start()
        first = [await _sample(admin, reader, one) for one in groups]
        if any(sample.lag for sample in first):  # without lag there is no growth to measure
            await asyncio.sleep(pause_s)
        second = [await _sample(admin, reader, one) for one in groups]
    finally:
        await reader.stop()
        await admin.close()
    return [
        judge_lag(f"{one.label} ({one.name})", a, b, seconds=pause_s, start=one.start, more=one.more)
        for one, a, b in zip(groups, first, second, strict=True)
    ]


async def _dead_letters(kafka: KafkaConfig) -> list[CheckResult]:
    """Whether there are dead letters that were not sent again."""
    count = await count_unsent(kafka)
    where = f"--kafka {kafka.bootstrap}{_prefix(kafka)}"
    if not count:
        return [ok("dead letters", "none since they were last sent again")]
    return [
        warning(
            "dead letters",
            f"{count} records were refused and wait to be sent again",
            f"see the reasons: vitalloom topics dead-letters {where}; after the fix: vitalloom topics resend {where}",
        )
    ]


async def _sample(admin: Any, reader: Any, group: ConsumerGroup) -> LagSample:
    topics = await admin.describe_topics(list(group.topics))
    partitions = [TopicPartition(one["topic"], part["partition"]) for one in topics for part in one["partitions"]]
    offsets = await admin.list_consumer_group_offsets(group.name)
    ends, begins = await reader.end_offsets(partitions), await reader.beginning_offsets(partitions)
    (answer,) = await admin.describe_consumer_groups([group.name])
    states = [one[2] for one in answer.groups]
    committed = {one: at.offset for one, at in offsets.items() if at.offset >= 0}
    return LagSample(
        end=sum(ends.values()),
        committed=sum(max(begins[one], committed.get(one, 0)) for one in partitions),
        partitions=len(partitions),
        members=not all(state in _NO_MEMBERS for state in states),
    )


async def check_influxdb(influx: InfluxConfig, clock: Clock, *, source: Path | str) -> list[CheckResult]:
    """Whether InfluxDB answers, has the buckets, and permits reading and writing them."""
    subject = f"InfluxDB at {influx.url}"
    try:
        token = read_token(influx)
    except DatabaseUnusable as error:
        fix = "create one with vitalloom store init --tokens DIR, and set influx.token_file to the file"
        return [failure(subject, str(error).removeprefix(f"{subject}: "), fix)]
    try:
        health = await asyncio.to_thread(http_request, f"{influx.url}/health", now_ms=clock.now_ms)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return [failure(subject, f"does not answer ({error})", f"start it, or correct influx.url in {source}")]
    found = [
        ok(subject, "answers")
        if health.status == 200
        else warning(subject, "reports that it is not healthy", "check its log")
    ]
    if health.offset_s is not None:
        found.append(judge_offset("InfluxDB", health.offset_s))
    try:
        access = await asyncio.gather(
            *(asyncio.to_thread(_bucket_access, influx, token, bucket, clock) for bucket in Buckets.of(influx))
        )
        tasks = await asyncio.to_thread(_tasks, influx, token, clock)
    except (OSError, http.client.HTTPException) as error:
        return [*found, failure(subject, f"closed the connection ({error})", "check its log")]
    found += [judge_bucket(one, url=influx.url, org=influx.org, token_file=str(influx.token_file)) for one in access]
    return found + tasks


def _bucket_access(influx: InfluxConfig, token: str, bucket: str, clock: Clock) -> BucketAccess:
    """Try an empty write, which changes nothing but needs the permission to write, and a query."""
    org, headers = quote(influx.org), {"Authorization": f"Token {token}"}
    write = http_request(
        f"{influx.url}/api/v2/write?org={org}&bucket={quote(bucket)}",
        now_ms=clock.now_ms,
        method="POST",
        headers=headers,
    )
    flux = f'from(bucket: "{bucket}") |> range(start: -1s) |> limit(n: 1)'
    read = http_request(
        f"{influx.url}/api/v2/query?org={org}",
        now_ms=clock.now_ms,
        method="POST",
        body=msgspec.json.encode({"query": flux}),
        headers=headers | {"Content-Type": "application/json"},
    )
    problem = (write if write.status >= 300 else read).body.decode("utf-8", "replace")
    return BucketAccess(bucket, write.status, read.status, problem)


class _Task(msgspec.Struct):
    name: str
    status: str = "active"
    last_run: str = msgspec.field(default="", name="lastRunStatus")
    last_error: str = msgspec.field(default="", name="lastRunError")


class _Tasks(msgspec.Struct):
    tasks: list[_Task] = []


def _tasks(influx: InfluxConfig, token: str, clock: Clock) -> list[CheckResult]:
    """The task that aggregates minutes to hours, if the token has permission to see it; writer.token has not."""
    reply = http_request(
        f"{influx.url}/api/v2/tasks?org={quote(influx.org)}&limit=500",
        now_ms=clock.now_ms,
        headers={"Authorization": f"Token {token}"},
    )
    if reply.status != 200:
        return []
    found = []
    for one in msgspec.json.decode(reply.body, type=_Tasks).tasks:
        if one.name != task_name(influx):
            continue
        subject = f"task {one.name!r} in InfluxDB"
        if one.status != "active":
            found.append(failure(subject, "is disabled: no hourly aggregates are written", "enable it in InfluxDB"))
        elif one.last_run == "failed":
            found.append(failure(subject, f"failed ({one.last_error[:200]})", "check its runs in InfluxDB"))
        else:
            found.append(ok(subject, "is active"))
    return found


def _prefix(kafka: KafkaConfig) -> str:
    return f" --topic-prefix {kafka.topic_prefix}" if kafka.topic_prefix else ""
