"""The store writer: writes records from Kafka to InfluxDB, then reports to ingest which frames are stored.

Topics are written in three groups, each with its own Kafka consumer group, so that alarms do not wait behind a backlog
of vital signs. Each group holds one batch in memory: if InfluxDB is slow or does not answer, records wait in Kafka.
"""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord

from runtime.clock import Clock
from runtime.logs import get
from runtime.version import __version__
from stream.config import StoreConfig
from stream.delivery import OutgoingRecord, RecordSender
from stream.kafka import consumer, topic
from stream.records import DeadLetter, JudgementRecord, StoredFrames, encode_record
from stream.store.alarms import announce
from stream.store.attempts import Attempts, Sleep
from stream.store.counts import WriterCounts
from stream.store.decoding import TOPIC_GROUPS, DecodedRecord
from stream.store.influx import HOUR_MS, Database
from vitals.messages import WindowOutdated
from wire.errors import DecodeError, Reason
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_STORED

_log = get(__name__)

_POSITION_WITHIN_S: Final = 0.05
_FRAMES_PER_RECORD: Final = 500
_DEAD_LETTER_BYTES: Final = 64 * 1024
_LEAST_DEAD_LETTER_BYTES: Final = 512
_POLL_WITHIN_MS: Final = 3_600_000
"""A batch that InfluxDB does not accept keeps its partitions this long; its consumer sends heartbeats all the while."""
TASK_REACH_MS: Final = 2 * HOUR_MS
"""Windows older than this are not covered by the task that aggregates minutes into hours."""

Entry: TypeAlias = tuple[ConsumerRecord, DecodedRecord]
T = TypeVar("T")


class StoreWriter:
    """Writes all topic groups to InfluxDB."""

    def __init__(self, config: StoreConfig, clock: Clock) -> None:
        self.counts = {name: WriterCounts() for name in TOPIC_GROUPS}
        self._config = config
        self._clock = clock

    async def run(self) -> None:
        """Serve until cancelled."""
        async with Database(self._config.influx) as database, asyncio.TaskGroup() as tasks:
            tasks.create_task(announce(self._config.kafka, self.counts, self._clock), name="alarms of the store")
            for name in TOPIC_GROUPS:
                tasks.create_task(self._serve(name, database), name=name)

    async def _serve(self, name: str, database: Database) -> None:
        while True:
            writer = TopicGroupWriter(name, self._config, database, self._clock, self.counts[name])
            try:
                await writer.run()
            except (KafkaError, OSError, TimeoutError) as error:
                writer.counts.restarts += 1
                writer.counts.why_kafka = repr(error)
                _log.warning("Kafka error; restarting from the last commit", topics=name, problem=repr(error))
                await asyncio.sleep(1)


class TopicGroupWriter:
    """Reads the topics of one group in order, writes their records, and commits the offsets after writing.

    Args:
        name: of the topic group, a key of `TOPIC_GROUPS`.
        sleep: waits between attempts to write.
    """

    def __init__(
        self,
        name: str,
        config: StoreConfig,
        database: Database,
        clock: Clock,
        counts: WriterCounts,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.counts = counts
        self._name = name
        self._config = config
        self._database = database
        self._clock = clock
        self._topics, self._read = TOPIC_GROUPS[name]
        self._polled: dict[TopicPartition, int | None] = {}
        self._sleep = sleep

    async def run(self) -> None:
        """Serve until cancelled, or until Kafka fails."""
        kafka = self._config.kafka
        reader = consumer(
            kafka,
            *self._topics,
            group=f"{kafka.application}-store-{self._name}",
            max_poll_interval_ms=_POLL_WITHIN_MS,
        )
        async with RecordSender(kafka, on_trouble=self._note_kafka) as reporter:
            try:
                await reader.start()
                while True:
                    await self._turn(reader, reporter)
                    await self._update_health(reader)
            finally:
                await reader.stop()

    def _note_kafka(self, _cause: str, problem: str) -> None:
        if self.counts.kafka_refuses_since_ms is None:
            self.counts.kafka_refuses_since_ms = self._clock.mono_ms()
        self.counts.why_kafka = problem

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

    async def _turn(self, reader: AIOKafkaConsumer, reporter: RecordSender) -> None:
        """One batch: read, write, report, commit. After an error it is read again, and gives the same points."""
        found = await self._batch(reader)
        if not found:
            return
        self.counts.heard_ms = self._clock.mono_ms()
        entries: list[Entry] = []
        dead_letters: list[DeadLetter] = []
        for record in found:
            try:
                entries.append((record, self._read(record, self._database.buckets)))
            except (DecodeError, TypeError) as error:
                dead_letters.append(self._dead_letter(record, "schema", str(error), record.value or b""))
            except Exception as error:  # noqa: BLE001 - a defect with one record must not stop the others
                problem = f"the store writer failed ({type(error).__name__})"
                dead_letters.append(self._dead_letter(record, "processing", problem, record.value or b""))
        attempts = Attempts(self._name, self._clock, self.counts, sleep=self._sleep)
        rejected = await self._write(attempts, entries, dead_letters)
        await self._write_windows(attempts, entries, dead_letters)
        await self._report(reporter, entries, rejected, dead_letters)
        await reader.commit()
        self.counts.heard_ms = self._clock.mono_ms()
        self.counts.records += len(found)

    async def _batch(self, reader: AIOKafkaConsumer) -> list[ConsumerRecord]:
        """The records that are waiting, up to `batch_points`."""
        records = await reader.getmany(timeout_ms=self._config.batch_ms, max_records=self._config.batch_points)
        return [record for these in records.values() for record in these]

    async def _write(self, attempts: Attempts, entries: list[Entry], dead_letters: list[DeadLetter]) -> set[int]:
        """Write the lines of all entries; returns the indices of entries with a line that InfluxDB refuses."""
        rejected: set[int] = set()
        by_bucket: dict[str, list[tuple[int, int, str]]] = {}
        for index, (_, entry) in enumerate(entries):
            for number, (bucket, line) in enumerate(entry.lines):
                by_bucket.setdefault(bucket, []).append((index, number, line))
        for bucket, lines in by_bucket.items():
            for (index, number, _), problem in await self._write_lines(attempts, bucket, lines, lambda one: one[2]):
                rejected.add(index)
                record, entry = entries[index]
                dead_letters.append(self._dead_letter(record, "refused", problem, entry.part(number, record)))
        return rejected

    async def _write_lines(
        self, attempts: Attempts, bucket: str, items: Sequence[T], line_of: Callable[[T], str]
    ) -> list[tuple[T, str]]:
        """Write a line for each item; returns the items whose line is refused, with the reason."""
        counts, refused = self.counts, []

        async def send(part: Sequence[T]) -> None:
            await self._database.write(bucket, [line_of(one) for one in part])
            counts.points += len(part)
            counts.largest_batch = max(counts.largest_batch, len(part))
            counts.written_ms = self._clock.mono_ms()

        for start in range(0, len(items), self._config.batch_points):
            part = items[start : start + self._config.batch_points]
            refused += await attempts.deliver(part, send, check=lambda: self._database.check_write(bucket))
        return refused

    async def _write_windows(self, attempts: Attempts, entries: list[Entry], dead_letters: list[DeadLetter]) -> None:
        """Recompute minutes and hours that late readings changed, patient by patient."""
        asked: dict[str, dict[WindowOutdated, int]] = {}
        for index, (_, entry) in enumerate(entries):
            for one in entry.outdated:
                asked.setdefault(one.stay_id, {}).setdefault(one, index)
        refused: dict[tuple[int, str], list[tuple[WindowOutdated, str]]] = {}
        for stay_id, windows in asked.items():
            for one, problem in await self._recompute(attempts, stay_id, list(windows)):
                refused.setdefault((windows[one], stay_id), []).append((one, problem))
        for (index, stay_id), found in refused.items():
            record, entry = entries[index]
            part = entry.wrapped(
                record, JudgementRecord(stay_id=stay_id, events=tuple(dict.fromkeys(one for one, _ in found)))
            )
            dead_letters.append(self._dead_letter(record, "recompute", found[0][1], part))

    async def _recompute(
        self, attempts: Attempts, stay_id: str, windows: list[WindowOutdated]
    ) -> list[tuple[WindowOutdated, str]]:
        """Recompute windows of one patient; returns those that cannot be, with the reason."""
        database, lines = self._database, list[tuple[WindowOutdated, str]]()

        async def minutes(part: Sequence[WindowOutdated]) -> None:
            lines.extend(await database.recompute_windows(stay_id, part))

        async def hours(part: Sequence[int]) -> None:
            await database.recompute_hours(stay_id, part)

        refused = await attempts.deliver(windows, minutes, check=database.check_query)
        # There are no lines if no reading in these minutes is usable.
        for (one, _), problem in await self._write_lines(
            attempts, database.buckets.minutes, lines, lambda found: found[1]
        ):
            refused.append((one, problem))
        by_hour = self._outside_task(windows)
        for hour_ms, problem in await attempts.deliver(sorted(by_hour), hours, check=database.check_query):
            refused += [(one, problem) for one in by_hour[hour_ms]]
        self.counts.windows_recomputed += len(lines)
        return refused

    def _outside_task(self, windows: Sequence[WindowOutdated]) -> dict[int, list[WindowOutdated]]:
        """By the beginning of their hour, windows that are too old for the task that aggregates hours."""
        before_ms = self._clock.now_ms() - TASK_REACH_MS
        hours: dict[int, list[WindowOutdated]] = {}
        for one in windows:
            if one.start_ms < before_ms:
                hours.setdefault(one.start_ms // HOUR_MS * HOUR_MS, []).append(one)
        return hours

    async def _report(
        self, reporter: RecordSender, entries: list[Entry], rejected: set[int], dead_letters: list[DeadLetter]
    ) -> None:
        """Send dead letters to Kafka; then report to ingest which frames are stored and which are rejected.

        In this order: an edge deletes a frame that is rejected, so its dead letter has to be durable before.
        """
        kafka = self._config.kafka
        for reason, count in Counter(one.reason for one in dead_letters).items():
            self.counts.discarded[reason] += count
            first = next(one for one in dead_letters if one.reason == reason)
            _log.error("records moved to dead letters", reason=reason, count=count, source=first.source)
        await self._send_dead_letters(reporter, dead_letters)
        self.counts.dead_letters += len(dead_letters)
        stored = [one for index, (_, entry) in enumerate(entries) if index not in rejected for one in entry.frames]
        reports = []
        for reason, frames in (
            ("", stored),
            (Reason.VALUE.value, [one for index in sorted(rejected) for one in entries[index][1].frames]),
        ):
            for start in range(0, len(frames), _FRAMES_PER_RECORD):
                report = StoredFrames(frames=tuple(frames[start : start + _FRAMES_PER_RECORD]), reason=reason)
                reports.append(OutgoingRecord(topic(kafka, KAFKA_STORED), None, encode_record(report)))
        await reporter.deliver(reports, all_of_them=True)
        self.counts.stored += len(stored)
        self.counts.kafka_refuses_since_ms, self.counts.why_kafka = None, ""

    async def _send_dead_letters(self, reporter: RecordSender, letters: list[DeadLetter]) -> None:
        """Send until Kafka has them all; one that is too large for it is cut to what identifies the record."""
        name = topic(self._config.kafka, KAFKA_DEAD_LETTERS)
        outgoing = {encode_record(one): one for one in letters}
        refused = await reporter.deliver([OutgoingRecord(name, b"store", value) for value in outgoing])
        cut = [encode_record(_cut(outgoing[one.record.value], _LEAST_DEAD_LETTER_BYTES)) for one in refused]
        await reporter.deliver([OutgoingRecord(name, b"store", value) for value in cut], all_of_them=True)

    def _dead_letter(self, record: ConsumerRecord, reason: str, problem: str, payload: bytes) -> DeadLetter:
        letter = DeadLetter(
            stage="store",
            reason=reason,
            problem=problem[:300],
            at_ms=self._clock.now_ms(),
            source=f"{record.topic}/{record.partition}/{record.offset}",
            payload=payload,
            version=__version__,
        )
        return _cut(letter, _DEAD_LETTER_BYTES)


def _cut(letter: DeadLetter, most: int) -> DeadLetter:
    """The dead letter with at most so many bytes of its record, and what identifies the whole one."""
    size = len(letter.payload)
    if size <= most:
        return letter
    digest = hashlib.sha256(letter.payload).hexdigest()
    note = f"{most} of {size} bytes are here, the source record has all; SHA-256 {digest}; "
    return msgspec.structs.replace(letter, payload=letter.payload[:most], problem=(note + letter.problem)[:500])
