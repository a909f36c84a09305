"""The doctor looks at a cluster: topics and lag in Kafka, buckets and rights in InfluxDB."""

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

from deploy.connections import ask
from deploy.findings import Finding, Look, Rights, judge_bucket, judge_lag, judge_offset, ok, warning, wrong
from runtime.clock import Clock
from stream.config import InfluxConfig, KafkaConfig
from stream.errors import DatabaseUnusable, KafkaUnusable
from stream.kafka import check_topics, connection, consumer, topic
from stream.store.influx import Buckets, read_token, task_name
from stream.store.writer import LANES
from wire.topics import KAFKA_READINGS

WITHIN_S: Final = 12.0
_NOBODY: Final = ("Empty", "Dead")


async def examine_kafka(kafka: KafkaConfig, *, source: str, groups: "Sequence[Group]", pause_s: float) -> list[Finding]:
    """Whether it answers, has the topics, and who reads them.

    Args:
        source: where its address was read, for the cure.
    """
    about = f"Kafka at {kafka.bootstrap}"
    try:
        async with asyncio.timeout(WITHIN_S):
            partitions = await check_topics(kafka)
    except KafkaUnusable as error:
        what, _, cure = str(error).removeprefix(f"{about}: ").rpartition("; ")
        if "does not answer" in what:
            return [wrong(about, "does not answer", f"start it, or correct kafka.bootstrap in {source}")]
        return [wrong(about, what, f"{cure} --kafka {kafka.bootstrap}{_prefix(kafka)}" if "log init" in cure else cure)]
    except TimeoutError:
        return [wrong(about, f"does not answer within {WITHIN_S:.0f} s", f"is kafka.bootstrap in {source} right?")]
    found = [ok(about, f"has every topic; readings have {partitions} partitions")]
    if groups:
        try:
            async with asyncio.timeout(WITHIN_S + pause_s):
                found += await _lags(kafka, groups, pause_s)
        except (KafkaError, TimeoutError) as error:
            found.append(warning(about, f"does not say how far its readers are ({error!r})", "look once more"))
    return found


class Group(msgspec.Struct, frozen=True):
    """Somebody who reads."""

    name: str
    topics: tuple[str, ...]
    about: str
    start: str
    more: str


def worker_group(kafka: KafkaConfig, source: str) -> Group:
    """The workers' group."""
    start = f"vitalloom worker --config {source}"
    return Group(
        f"{kafka.application}-vitals", (topic(kafka, KAFKA_READINGS),), "workers", start,
        f"start more of them, up to the number of partitions: {start}",
    )  # fmt: skip


def store_groups(kafka: KafkaConfig, source: str) -> list[Group]:
    """The store writer's, one for each lane."""
    start = f"vitalloom store run --config {source}"
    return [
        Group(
            f"{kafka.application}-store-{name}", tuple(topic(kafka, one) for one in topics), f"store writer, {name}",
            start, f"start another, and see whether InfluxDB keeps up: {start}",
        )
        for name, (topics, _) in LANES.items()
    ]  # fmt: skip


async def _lags(kafka: KafkaConfig, groups: Sequence[Group], pause_s: float) -> list[Finding]:
    admin = AIOKafkaAdminClient(**connection(kafka), request_timeout_ms=5_000)
    reader = consumer(kafka, group=None)
    try:
        await admin.start()
        await reader.start()
        first = [await _look(admin, reader, one) for one in groups]
        if any(look.lag for look in first):  # else there is nothing that could grow unseen
            await asyncio.sleep(pause_s)
        second = [await _look(admin, reader, one) for one in groups]
    finally:
        await reader.stop()
        await admin.close()
    return [
        judge_lag(f"{one.about} ({one.name})", a, b, seconds=pause_s, start=one.start, more=one.more)
        for one, a, b in zip(groups, first, second, strict=True)
    ]


async def _look(admin: Any, reader: Any, group: Group) -> Look:
    topics = await admin.describe_topics(list(group.topics))
    places = [TopicPartition(one["topic"], part["partition"]) for one in topics for part in one["partitions"]]
    committed = await admin.list_consumer_group_offsets(group.name)
    ends, begins = await reader.end_offsets(places), await reader.beginning_offsets(places)
    (answer,) = await admin.describe_consumer_groups([group.name])
    states = [one[2] for one in answer.groups]
    done = {place: at.offset for place, at in committed.items() if at.offset >= 0}
    return Look(
        end=sum(ends.values()),
        done=sum(max(begins[place], done.get(place, 0)) for place in places),
        partitions=len(places),
        members=not all(state in _NOBODY for state in states),
    )


async def examine_influx(influx: InfluxConfig, clock: Clock, *, source: Path | str) -> list[Finding]:
    """Whether it answers, has the buckets, and lets us write and read them."""
    about = f"InfluxDB at {influx.url}"
    try:
        token = read_token(influx)
    except DatabaseUnusable as error:
        cure = "vitalloom store init --tokens DIR makes one; name the file as influx.token_file"
        return [wrong(about, str(error).removeprefix(f"{about}: "), cure)]
    try:
        health = await asyncio.to_thread(ask, f"{influx.url}/health", now_ms=clock.now_ms)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return [wrong(about, f"does not answer ({error})", f"start it, or correct influx.url in {source}")]
    found = [ok(about, "answers") if health.status == 200 else warning(about, "says it is not well", "see its log")]
    if health.offset_s is not None:
        found.append(judge_offset("InfluxDB", health.offset_s))
    try:
        rights = await asyncio.gather(
            *(asyncio.to_thread(_rights, influx, token, bucket, clock) for bucket in Buckets.of(influx))
        )
        tasks = await asyncio.to_thread(_tasks, influx, token, clock)
    except (OSError, http.client.HTTPException) as error:
        return [*found, wrong(about, f"breaks off ({error})", "look into its log")]
    found += [judge_bucket(one, url=influx.url, org=influx.org, token_file=str(influx.token_file)) for one in rights]
    return found + tasks


def _rights(influx: InfluxConfig, token: str, bucket: str, clock: Clock) -> Rights:
    """Writing nothing changes nothing, and is allowed only to who may write something."""
    org, headers = quote(influx.org), {"Authorization": f"Token {token}"}
    write = ask(
        f"{influx.url}/api/v2/write?org={org}&bucket={quote(bucket)}", now_ms=clock.now_ms, method="POST",
        headers=headers,
    )  # fmt: skip
    flux = f'from(bucket: "{bucket}") |> range(start: -1s) |> limit(n: 1)'
    read = ask(
        f"{influx.url}/api/v2/query?org={org}", now_ms=clock.now_ms, method="POST",
        body=msgspec.json.encode({"query": flux}), headers=headers | {"Content-Type": "application/json"},
    )  # fmt: skip
    problem = (write if write.status >= 300 else read).body.decode("utf-8", "replace")
    return Rights(bucket, write.status, read.status, problem)


class _Task(msgspec.Struct):
    name: str
    status: str = "active"
    last_run: str = msgspec.field(default="", name="lastRunStatus")
    last_error: str = msgspec.field(default="", name="lastRunError")


class _Tasks(msgspec.Struct):
    tasks: list[_Task] = []


def _tasks(influx: InfluxConfig, token: str, clock: Clock) -> list[Finding]:
    """The one that makes hours of minutes, where the token may see it: that of a writer may not."""
    reply = ask(
        f"{influx.url}/api/v2/tasks?org={quote(influx.org)}&limit=500", now_ms=clock.now_ms,
        headers={"Authorization": f"Token {token}"},
    )  # fmt: skip
    if reply.status != 200:
        return []
    found = []
    for one in msgspec.json.decode(reply.body, type=_Tasks).tasks:
        if one.name != task_name(influx):
            continue
        about = f"task {one.name!r} in InfluxDB"
        if one.status != "active":
            found.append(wrong(about, "is switched off: no hours are made", "switch it on in InfluxDB"))
        elif one.last_run == "failed":
            found.append(wrong(about, f"failed ({one.last_error[:200]})", "see its runs in InfluxDB"))
        else:
            found.append(ok(about, "runs"))
    return found


def _prefix(kafka: KafkaConfig) -> str:
    return f" --topic-prefix {kafka.topic_prefix}" if kafka.topic_prefix else ""
