"""The store writer: writes records from Kafka to InfluxDB, then reports to ingest which frames are stored.

Topics are written in three groups, each with its own Kafka consumer group, so that alarms do not wait behind a backlog
of vital signs. Each group holds one batch in memory: if InfluxDB is slow or does not answer, records wait in Kafka.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord

from runtime.clock import Clock
from runtime.logs import get
from runtime.version import __version__
from stream.config import StoreConfig
from stream.errors import LinesRejected
from stream.kafka import consumer, producer, topic
from stream.records import (
    AlarmRecord,
    BindingEndedRecord,
    DeadLetter,
    FrameRef,
    StoredFrames,
    decode_alarm_record,
    decode_dead_letter,
    decode_health,
    decode_heartbeat_record,
    decode_judgement_record,
    encode_record,
)
from stream.store.influx import HOUR_MS, Buckets, Database, DatabaseUnavailable
from stream.store.line_protocol import line_of
from vitals.messages import WindowClosed, WindowOutdated
from wire.errors import DecodeError, Reason
from wire.topics import (
    KAFKA_ALARMS,
    KAFKA_DEAD_LETTERS,
    KAFKA_EVENTS,
    KAFKA_HEALTH,
    KAFKA_HEARTBEATS,
    KAFKA_STORED,
)

_log = get(__name__)

_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 10.0
_POSITION_WITHIN_S: Final = 0.05
_FRAMES_PER_RECORD: Final = 500
_DEAD_LETTER_BYTES: Final = 16_384
TASK_REACH_MS: Final = 2 * HOUR_MS
"""Windows older than this are not covered by the task that aggregates minutes into hours."""


class DecodedRecord(NamedTuple):
    """What one Kafka record means for the database."""

    lines: list[tuple[str, str]]  # bucket, line
    outdated: list[WindowOutdated]  # windows to recompute
    frames: Sequence[FrameRef]  # frames that are stored when the lines are written


class WriterCounts(msgspec.Struct):
    """Counts and times of one topic group."""

    records: int = 0
    points: int = 0
    stored: int = 0  # frames that were reported as stored
    retries: int = 0
    dead_letters: int = 0
    windows_recomputed: int = 0
    largest_batch: int = 0
    written_ms: int = 0  # monotonic: when InfluxDB last accepted points
    waiting_since_ms: int | None = None  # monotonic: when InfluxDB stopped accepting points; None: it accepts
    why_waiting: str = ""
    discarded: Counter[str] = msgspec.field(default_factory=Counter)
    restarts: int = 0  # after Kafka errors
    turned_ms: int = 0  # monotonic: when everything read had been written
    heard_ms: int = 0  # monotonic: when Kafka last answered a poll for records
    lag: dict[str, int] = {}  # records not read yet, by "topic/partition"


DecodeLines = Callable[[ConsumerRecord, Buckets], DecodedRecord]


def decode_events(record: ConsumerRecord, buckets: Buckets) -> DecodedRecord:
    """A record of `vl.events.v1`."""
    judged = decode_judgement_record(record.value)
    outdated = [event for event in judged.events if isinstance(event, WindowOutdated)]
    lines = [
        (buckets.minutes if isinstance(event, WindowClosed) else buckets.raw, line_of(event))
        for event in judged.events
        if not isinstance(event, WindowOutdated)
    ]
    return DecodedRecord(lines, outdated, judged.frames)


def decode_alarms(record: ConsumerRecord, buckets: Buckets) -> DecodedRecord:
    """A record of `vl.alarms.v1`."""
    found = decode_alarm_record(record.value)
    if isinstance(found, BindingEndedRecord):
        return DecodedRecord([], [], ())  # the ends of its alarms are records of their own
    if isinstance(found, AlarmRecord):
        return DecodedRecord([(buckets.raw, line_of(found.alarm))], [], ())
    return DecodedRecord([(buckets.raw, line_of(found))], [], (found.frame,))


def decode_health_topics(record: ConsumerRecord, buckets: Buckets) -> DecodedRecord:
    """A record of `vl.heartbeats.v1`, `vl.health.v1` or `vl.dlq.v1`."""
    if record.topic.endswith(KAFKA_DEAD_LETTERS):
        return DecodedRecord([(buckets.raw, line_of(decode_dead_letter(record.value)))], [], ())
    if record.topic.endswith(KAFKA_HEALTH):
        return DecodedRecord([(buckets.raw, line_of(decode_health(record.value)))], [], ())
    beat = decode_heartbeat_record(record.value)
    return DecodedRecord([(buckets.raw, line_of(beat))], [], (beat.frame,))


TOPIC_GROUPS: Final[dict[str, tuple[tuple[str, ...], DecodeLines]]] = {
    "alarms": ((KAFKA_ALARMS,), decode_alarms),
    "events": ((KAFKA_EVENTS,), decode_events),
    "health": ((KAFKA_HEARTBEATS, KAFKA_HEALTH, KAFKA_DEAD_LETTERS), decode_health_topics),
}


class StoreWriter:
    """Writes all topic groups to InfluxDB."""

    def __init__(self, config: StoreConfig, clock: Clock) -> None:
        self.counts = {name: WriterCounts() for name in TOPIC_GROUPS}
        self._config = config
        self._clock = clock

    async def run(self) -> None:
        """Serve until cancelled."""
        async with Database(self._config.influx) as database, asyncio.TaskGroup() as tasks:
            for name in TOPIC_GROUPS:
                tasks.create_task(self._serve(name, database), name=name)

    async def _serve(self, name: str, database: Database) -> None:
        while True:
            writer = TopicGroupWriter(name, self._config, database, self._clock, self.counts[name])
            try:
                await writer.run()
            except (KafkaError, OSError, TimeoutError) as error:
                writer.counts.restarts += 1
                _log.warning("Kafka error; restarting from the last commit", topics=name, problem=repr(error))
                await asyncio.sleep(1)


class TopicGroupWriter:
    """Reads the topics of one group in order, writes their records, and commits the offsets after writing."""

    def __init__(self, name: str, config: StoreConfig, database: Database, clock: Clock, counts: WriterCounts) -> None:
        self.counts = counts
        self._name = name
        self._config = config
        self._database = database
        self._clock = clock
        self._topics, self._read = TOPIC_GROUPS[name]
        self._polled: dict[TopicPartition, int | None] = {}

    async def run(self) -> None:
        """Serve until cancelled, or until Kafka fails."""
        kafka = self._config.kafka
        reader = consumer(kafka, *self._topics, group=f"{kafka.application}-store-{self._name}")
        reporter = producer(kafka)
        try:
            await reporter.start()
            await reader.start()
            while True:
                await self._turn(reader, reporter)
                await self._update_health(reader)
        finally:
            await reader.stop()
            await reporter.stop()

    async def _update_health(self, reader: AIOKafkaConsumer) -> None:
        """Update figures that the health endpoint reads from another thread."""
        counts, now_ms = self.counts, self._clock.mono_ms()
        counts.turned_ms = now_ms
        assignment = reader.assignment()
        polled = {topic_partition: reader.last_poll_timestamp(topic_partition) for topic_partition in assignment}
        if polled != self._polled or not polled:
            counts.heard_ms = now_ms
        self._polled = polled
        lag = {}
        for topic_partition in assignment:
            end = reader.last_stable_offset(topic_partition) if topic_partition in reader.assignment() else None
            # A partition that was just revoked, or whose offset is being looked up, has no position.
            with contextlib.suppress(IllegalStateError, TimeoutError):
                async with asyncio.timeout(_POSITION_WITHIN_S):
                    if end is not None:
                        lag[f"{topic_partition.topic}/{topic_partition.partition}"] = max(
                            0, end - await reader.position(topic_partition)
                        )
        counts.lag = lag

    async def _turn(self, reader: AIOKafkaConsumer, reporter: AIOKafkaProducer) -> None:
        """One batch: read, write, report, commit. After an error it is read again, and gives the same points."""
        found = await self._batch(reader)
        if not found:
            return
        entries: list[DecodedRecord] = []
        dead_letters: list[DeadLetter] = []
        for record in found:
            try:
                entries.append(self._read(record, self._database.buckets))
            except (DecodeError, TypeError) as error:
                dead_letters.append(self._dead_letter(record.value or b"", _source_of(record), "schema", str(error)))
        rejected = await self._write(entries, dead_letters)
        await self._write_windows(entries, dead_letters)
        await self._report(reporter, entries, rejected, dead_letters)
        await reader.commit()
        self.counts.records += len(found)

    async def _batch(self, reader: AIOKafkaConsumer) -> list[ConsumerRecord]:
        """The records that are waiting, up to `batch_points`."""
        records = await reader.getmany(timeout_ms=self._config.batch_ms, max_records=self._config.batch_points)
        return [record for these in records.values() for record in these]

    async def _write(self, entries: list[DecodedRecord], dead_letters: list[DeadLetter]) -> set[int]:
        """Write the lines of all entries; returns the indices of entries with a line that InfluxDB rejects."""
        rejected: set[int] = set()
        by_bucket: dict[str, list[tuple[int, str]]] = {}
        for index, entry in enumerate(entries):
            for bucket, line in entry.lines:
                by_bucket.setdefault(bucket, []).append((index, line))
        for bucket, lines in by_bucket.items():
            for start in range(0, len(lines), self._config.batch_points):
                part = lines[start : start + self._config.batch_points]
                for index, line, problem in await self._put(bucket, part):
                    rejected.add(index)
                    dead_letters.append(self._dead_letter(line.encode(), f"bucket {bucket}", "refused", problem))
        return rejected

    async def _put(self, bucket: str, lines: list[tuple[int, str]]) -> list[tuple[int, str, str]]:
        """Write lines. Rejected lines are found by writing each half separately, and returned with the reason."""
        try:
            await self._retry(lambda: self._database.write(bucket, [line for _, line in lines]))
        except LinesRejected as error:
            if len(lines) == 1:
                ((index, line),) = lines
                return [(index, line, str(error))]
            middle = len(lines) // 2
            return await self._put(bucket, lines[:middle]) + await self._put(bucket, lines[middle:])
        counts = self.counts
        counts.points += len(lines)
        counts.largest_batch = max(counts.largest_batch, len(lines))
        counts.written_ms = self._clock.mono_ms()
        return []

    async def _write_windows(self, entries: list[DecodedRecord], dead_letters: list[DeadLetter]) -> None:
        outdated = {one for entry in entries for one in entry.outdated}
        if not outdated:
            return
        lines: list[str] = []

        async def recompute_minutes() -> None:
            lines[:] = await self._database.recompute_windows(outdated)

        async def recompute_hours() -> None:
            for binding_id, (first, last) in self._outside_task(outdated).items():
                await self._database.recompute_hours(binding_id, first, last)

        await self._retry(recompute_minutes)
        # There are no lines if no reading in these minutes is usable.
        minutes = DecodedRecord([(self._database.buckets.minutes, line) for line in lines], [], ())
        await self._write([minutes], dead_letters)
        await self._retry(recompute_hours)
        self.counts.windows_recomputed += len(lines)

    def _outside_task(self, outdated: set[WindowOutdated]) -> dict[str, tuple[int, int]]:
        """By patient, the time range of windows that are too old for the task that aggregates hours."""
        before_ms = self._clock.now_ms() - TASK_REACH_MS
        spans: dict[str, tuple[int, int]] = {}
        for one in outdated:
            if one.start_ms < before_ms:
                first, last = spans.get(one.binding_id, (one.start_ms, one.start_ms + one.width_ms))
                spans[one.binding_id] = (min(first, one.start_ms), max(last, one.start_ms + one.width_ms))
        return spans

    async def _retry(self, work: Callable[[], Any]) -> None:
        """Repeat `work` until InfluxDB accepts it; further records wait in Kafka."""
        wait_s, counts = _FIRST_WAIT_S, self.counts
        while True:
            began_ms = self._clock.mono_ms()
            try:
                await work()
            except DatabaseUnavailable as error:
                if counts.waiting_since_ms is None:
                    counts.waiting_since_ms = began_ms
                    counts.why_waiting = str(error)
                    _log.error("InfluxDB does not accept points; trying again", topics=self._name, problem=str(error))
                counts.retries += 1
                await asyncio.sleep(wait_s if error.after_s is None else min(error.after_s, _LONGEST_WAIT_S))
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
                continue
            if counts.waiting_since_ms is not None:
                _log.info(
                    "InfluxDB accepts points again",
                    topics=self._name,
                    after_ms=self._clock.mono_ms() - counts.waiting_since_ms,
                )
                counts.waiting_since_ms = None
            return

    async def _report(
        self,
        reporter: AIOKafkaProducer,
        entries: list[DecodedRecord],
        rejected: set[int],
        dead_letters: list[DeadLetter],
    ) -> None:
        """Send dead letters to Kafka, and report to ingest which frames are stored and which are rejected."""
        kafka, waiting = self._config.kafka, []
        for letter in dead_letters:
            self.counts.discarded[letter.reason] += 1
            _log.error("record moved to dead letters", source=letter.source, reason=letter.reason)
            waiting.append(
                await reporter.send(topic(kafka, KAFKA_DEAD_LETTERS), key=b"store", value=encode_record(letter))
            )
        self.counts.dead_letters += len(dead_letters)
        stored = [one for index, entry in enumerate(entries) if index not in rejected for one in entry.frames]
        for reason, frames in (
            ("", stored),
            (Reason.VALUE.value, [one for index in rejected for one in entries[index].frames]),
        ):
            for start in range(0, len(frames), _FRAMES_PER_RECORD):
                report = StoredFrames(frames=tuple(frames[start : start + _FRAMES_PER_RECORD]), reason=reason)
                waiting.append(await reporter.send(topic(kafka, KAFKA_STORED), value=encode_record(report)))
        if waiting:
            await asyncio.gather(*waiting)
        self.counts.stored += len(stored)

    def _dead_letter(self, payload: bytes, source: str, reason: str, problem: str) -> DeadLetter:
        return DeadLetter(
            stage="store",
            reason=reason,
            problem=problem[:300],
            at_ms=self._clock.now_ms(),
            source=source,
            payload=payload[:_DEAD_LETTER_BYTES],
            version=__version__,
        )


def _source_of(record: ConsumerRecord) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
