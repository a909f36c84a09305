"""The consumer of readings: acquires Kafka partitions, applies their records, commits, and releases the partitions.

Patient states, events and offsets of a partition are committed in one transaction. The order of the steps matters: for
each step a test has lost readings without it, see docs/decisions/0017-own-consumer.md. Runs under Faust and under a
plain event loop.
"""

import asyncio
import contextlib
import gc
import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from runtime.clock import Clock
from runtime.logs import get
from runtime.version import __version__
from stream.config import WorkerConfig
from stream.delivery import cause_of_kafka_error
from stream.engine.partition_time import PartitionTime
from stream.engine.processor import CommitBatch, Processor
from stream.kafka import check_topics, consumer, producer, topic
from stream.records import (
    DeadLetter,
    FrameRef,
    ObservationRecord,
    PartitionHealth,
    ReadingRecord,
    StoredFrames,
    decode_patient_record,
    encode_record,
    mark_of,
)
from stream.refusals import Cause
from vitals.sender_clock import BOUND_MS, SIMULATED_BOUND_MS
from wire.errors import DecodeError, Reason
from wire.topics import KAFKA_ALARMS, KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_READINGS, KAFKA_STATE, KAFKA_STORED

_log = get(__name__)

MAX_ATTEMPTS: Final = 3
"""A record that fails this often becomes a dead letter, and the partition continues with the next one."""
_IDLE_MS: Final = 250
_TICK_MS: Final = 1_000
_RETRY_MS: Final = 500  # between attempts to acquire a partition
_DEAD_LETTER_BYTES: Final = 64 * 1024
_KEPT_FAILURES: Final = 1_000


class WorkerProgress(msgspec.Struct):
    """Counts and times of a worker's progress, for its health and for tests."""

    records: int = 0
    messages: int = 0
    commits: int = 0
    failed_commits: int = 0
    why_failed: str = ""  # why the last commit failed; empty: it did not
    fails_for: str = Cause.UNAVAILABLE  # what that depends on, see `stream.refusals`
    dead_letters: int = 0
    acquired: int = 0  # partitions, counted each time
    released: int = 0
    defects: int = 0  # timers that failed, states and orders that could not be read, each of one patient
    sent: int = 0  # records of events and alarms in committed transactions
    failed_acquisitions: int = 0
    failed_records: int = 0  # failed attempts to apply a record
    worst_age_ms: int = 0  # of a record when it was applied
    turned_ms: int = 0  # monotonic: when the main loop last ran
    committed_ms: int = 0  # monotonic: time of the last commit
    recovery_ms: int = 0  # time to acquire the last partition
    assigned: bool = False  # whether the consumer group has assigned partitions, possibly none
    patients: int = 0
    lag: dict[int, int] = {}  # by acquired partition: records that have not been read
    heard_ms: int = 0  # monotonic: when Kafka last answered a poll for records
    behind_since_ms: int | None = None  # monotonic: since when records wait without a commit
    unreadable: dict[int, int] = {}  # assigned partitions that cannot be acquired; monotonic: since when
    discarded: Counter[str] = msgspec.field(default_factory=Counter)


class _OwnedPartition:
    """A partition that this worker has acquired."""

    __slots__ = (
        "committed",
        "dead_letters",
        "index",
        "next_offset",
        "processor",
        "producer",
        "rejected",
        "ticked_ms",
        "time",
        "touched",
        "worst_age_ms",
    )

    def __init__(
        self, index: int, producer: AIOKafkaProducer, processor: Processor, start: int, time: PartitionTime
    ) -> None:
        self.index = index
        self.time = time
        self.producer = producer
        self.processor = processor
        self.next_offset = start
        self.committed = start
        self.touched = True  # changed since the last commit
        self.ticked_ms = 0
        self.worst_age_ms = 0
        self.dead_letters: list[bytes] = []
        self.rejected: list[FrameRef] = []  # frames of the dead letters, to be acknowledged as rejected

    def pause_ms(self, config: WorkerConfig) -> int:
        """Time from one commit to the next."""
        return config.alarm_commit_ms if self.processor.alarm_pending else config.commit_ms

    def timers_ms(self, config: WorkerConfig, clock: Clock) -> int | None:
        """Until when timers may run, by the clock of ingest; None: that is not known yet."""
        now_ms = self.time.now_ms(clock.now_ms())
        return None if now_ms is None else now_ms - config.tick_slack_ms


class VitalsConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Consumes the readings of the partitions that are assigned to one worker.

    Args:
        clock: wall for ticks and ages, monotonic for intervals.
        processor: class that is instantiated for each partition.
    """

    def __init__(self, config: WorkerConfig, clock: Clock, *, processor: type[Processor] = Processor) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.progress = WorkerProgress()
        self._processor = processor
        self._config = config
        self._clock_bound_ms = BOUND_MS if config.clock_file is None else SIMULATED_BOUND_MS
        self._kafka = config.kafka
        self._clock = clock
        self._group = f"{config.kafka.application}-vitals"
        self._readings = topic(config.kafka, KAFKA_READINGS)
        self._owned: dict[TopicPartition, _OwnedPartition] = {}
        self._failures: Counter[tuple[TopicPartition, int]] = Counter()
        # Up to these offsets each record is committed alone: a commit with one of them was refused for its content.
        self._suspected: dict[TopicPartition, int] = {}
        self._not_before: dict[TopicPartition, int] = {}
        self._committed_at: dict[TopicPartition, int] = {}
        self.ended = asyncio.Event()
        self.failure: Exception | None = None  # the error that ended it
        self._running: asyncio.Task[Any] | None = None
        self._lock = asyncio.Lock()
        self._polled: dict[TopicPartition, int | None] = {}
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def partitions(self) -> list[int]:
        """Numbers of the acquired partitions."""
        return sorted(owned.index for owned in self._owned.values())

    @property
    def patients(self) -> int:
        return sum(len(owned.processor) for owned in self._owned.values())

    @property
    def all_committed(self) -> bool:
        """Whether everything that was read is committed."""
        return bool(self._owned) and all(
            owned.next_offset == owned.committed and not owned.touched for owned in self._owned.values()
        )

    @property
    def is_settled(self) -> bool:
        """Whether everything that was read is committed, and all timers that are due have run."""
        return self.all_committed and all(
            (at_ms := owned.processor.timer_at()) is None or at_ms > (owned.timers_ms(self._config, self._clock) or 0)
            for owned in self._owned.values()
        )

    def health(self) -> list[PartitionHealth]:
        """Health of each acquired partition; `worst_age_ms` is since the previous call."""
        found, lag = [], self._lag()
        for owned in self._owned.values():
            open_alarms, unanswered = owned.processor.open_alarms()
            found.append(
                PartitionHealth(
                    partition=owned.index,
                    worker=self.name,
                    at_ms=self._clock.now_ms(),
                    patients=len(owned.processor),
                    open_alarms=open_alarms,
                    unanswered=unanswered,
                    lag=lag[owned.index],
                    worst_age_ms=owned.worst_age_ms,
                )
            )
            owned.worst_age_ms = 0
        return found

    async def run(self) -> None:
        """Serve until cancelled; records that were applied are committed before it returns.

        Raises:
            KafkaUnusable: topics are missing, or have different numbers of partitions.
        """
        self._running = asyncio.current_task()
        try:
            await self._wait_for_kafka()
            await self._serve()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self.ended.set()

    async def _serve(self) -> None:
        reader = self._consumer = consumer(
            self._kafka,
            group=self._group,
            committed=False,
            session_timeout_ms=self._config.session_timeout_ms,
            heartbeat_interval_ms=max(100, self._config.session_timeout_ms // 4),
            fetch_max_wait_ms=min(500, self._config.commit_ms),
        )
        try:
            reader.subscribe([self._readings], listener=self)
            await reader.start()
            while True:
                await self._turn(reader)
        finally:
            # Commit while the partitions are still assigned, then leave the group. Leave it also if joining had only
            # begun: otherwise heartbeats of this member could go on, and it would keep its partitions for ever.
            await self._release(list(self._owned))
            await reader.stop()

    async def stop(self) -> None:
        """Release all partitions; returns when that is done."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Commit applied records while the partitions are still assigned."""
        self.progress.assigned = False
        await self._release(list(revoked))

    async def on_partitions_assigned(self, _: Iterable[TopicPartition]) -> None:
        """The main loop acquires them: a rebalance must not wait until patient states are read."""
        self.progress.assigned = True

    # The main loop

    async def _turn(self, reader: AIOKafkaConsumer) -> None:
        for topic_partition in reader.assignment() - self._owned.keys():
            if self._not_before.get(topic_partition, 0) <= self._clock.mono_ms():
                await self._acquire(reader, topic_partition)
        found = await reader.getmany(timeout_ms=self._wait_ms(), max_records=self._config.fetch_records)
        async with self._lock:
            self.progress.turned_ms = self._clock.mono_ms()
            assigned = reader.assignment()
            for topic_partition, records in found.items():
                if topic_partition in assigned and topic_partition in self._owned:
                    await self._apply(topic_partition, records)
            self._tick_idle_partitions(reader, found)
            for topic_partition in list(self._owned):
                if self._is_due(topic_partition):
                    await self._commit_or_drop(topic_partition)
            self._update_progress(reader)

    def _update_progress(self, reader: AIOKafkaConsumer) -> None:
        """Update figures that the health endpoint reads from another thread."""
        progress, now_ms = self.progress, self._clock.mono_ms()
        polled = {
            topic_partition: reader.last_poll_timestamp(topic_partition) for topic_partition in reader.assignment()
        }
        if polled != self._polled or not polled:
            progress.heard_ms = now_ms
        self._polled = polled
        progress.lag = self._lag()
        progress.patients = self.patients
        if not any(progress.lag.values()):
            progress.behind_since_ms = None
        elif progress.behind_since_ms is None:
            progress.behind_since_ms = now_ms

    def _lag(self) -> dict[int, int]:
        """Records that have not been read, by partition; the end of a revoked partition is not known."""
        reader, ends = self._consumer, {}
        if reader is not None:
            assigned = reader.assignment()
            ends = {
                topic_partition: reader.highwater(topic_partition)
                for topic_partition in self._owned
                if topic_partition in assigned
            }
        return {
            owned.index: max(0, (ends.get(topic_partition) or owned.next_offset) - owned.next_offset)
            for topic_partition, owned in self._owned.items()
        }

    def _wait_ms(self) -> int:
        """How long to poll: until the next commit is due."""
        now_ms, wait_ms = self._clock.mono_ms(), _IDLE_MS
        for topic_partition, owned in self._owned.items():
            if owned.next_offset != owned.committed:
                wait_ms = min(wait_ms, self._committed_at[topic_partition] + owned.pause_ms(self._config) - now_ms)
        return max(0, wait_ms)

    def _is_due(self, topic_partition: TopicPartition) -> bool:
        pause_ms = self._owned[topic_partition].pause_ms(self._config)
        return self._clock.mono_ms() - self._committed_at[topic_partition] >= pause_ms

    async def _apply(self, topic_partition: TopicPartition, records: list[ConsumerRecord]) -> None:
        owned = self._owned[topic_partition]
        if records[0].offset < owned.next_offset:
            # The topic was deleted and created again: our offsets belong to the old one.
            _log.error(
                "Kafka offset moved backwards; restoring the partition",
                partition=owned.index,
                expected=owned.next_offset,
                got=records[0].offset,
            )
            await self._drop(topic_partition)
            return
        processor, progress = owned.processor, self.progress
        before = processor.applied
        oldest_ms = records[0].timestamp
        for record in records:
            try:
                if self._failures and self._failures[topic_partition, record.offset] >= MAX_ATTEMPTS:
                    raise DecodeError(Reason.PROCESSING, "the processor failed")
                processor.apply(record.offset, record.value)
            except DecodeError as error:
                self._dead_letter(owned, record, error.reason, str(error))
            except Exception as error:  # noqa: BLE001 - a defect with one patient's record must not stop a partition
                key = (topic_partition, record.offset)
                self._failures[key] += 1
                progress.failed_records += 1
                _log.error(
                    "cannot apply a record",
                    partition=owned.index,
                    offset=record.offset,
                    problem=type(error).__name__,
                    attempts=self._failures[key],
                )
                if len(self._failures) > _KEPT_FAILURES:
                    self._failures.clear()
                await self._drop(topic_partition)  # the state in memory may be wrong
                return
            owned.next_offset = record.offset + 1
            if record.offset < self._suspected.get(topic_partition, 0):
                owned.touched = True
                if not await self._commit_alone(topic_partition, record.offset):
                    return
        owned.touched = True
        if processor.heard_ms is not None:
            owned.time.heard(processor.heard_ms, self._clock.now_ms())
        progress.records += len(records)
        progress.messages += processor.applied - before
        age_ms = self._clock.now_ms() - oldest_ms
        owned.worst_age_ms = max(owned.worst_age_ms, age_ms)
        progress.worst_age_ms = max(progress.worst_age_ms, age_ms)

    def _tick_idle_partitions(self, reader: AIOKafkaConsumer, found: dict[TopicPartition, Any]) -> None:
        """Run due timers of partitions that have been read to their end; unread records are older than the timers."""
        mono_ms = self._clock.mono_ms()
        for topic_partition, owned in self._owned.items():
            if topic_partition in found or mono_ms - owned.ticked_ms < _TICK_MS:
                continue
            end = reader.highwater(topic_partition)
            if end is None or owned.next_offset < end:
                continue
            owned.ticked_ms = mono_ms
            now_ms, timer_at = owned.timers_ms(self._config, self._clock), owned.processor.timer_at()
            if now_ms is not None and timer_at is not None and timer_at <= now_ms:
                owned.processor.tick(now_ms)
                owned.touched = True

    def _dead_letter(self, owned: _OwnedPartition, record: ConsumerRecord, reason: str, problem: str) -> None:
        self.progress.dead_letters += 1
        self.progress.discarded[reason] += 1
        letter = DeadLetter(
            stage="processor",
            reason=reason,
            problem=problem,
            at_ms=self._clock.now_ms(),
            source=f"{record.topic}/{record.partition}/{record.offset}",
            payload=(record.value or b"")[:_DEAD_LETTER_BYTES],
            version=__version__,
        )
        owned.dead_letters.append(encode_record(letter))
        frame = _frame_ref_of(record.value)
        if frame is not None:
            owned.rejected.append(frame)
        _log.error("record moved to dead letters", source=letter.source, reason=reason)

    # Commit

    async def _commit_alone(self, topic_partition: TopicPartition, offset: int) -> bool:
        """Commit what one record has changed; False if that failed. After three refusals the record is given up."""
        await self._commit_or_drop(topic_partition)
        if topic_partition in self._owned:
            return True
        if self.progress.fails_for == Cause.CONTENT:
            self._failures[topic_partition, offset] += 1
        return False

    async def _commit_or_drop(self, topic_partition: TopicPartition) -> None:
        owned = self._owned[topic_partition]
        self._committed_at[topic_partition] = self._clock.mono_ms()
        if not owned.touched and owned.next_offset == owned.committed:
            return
        try:
            await self._commit(topic_partition, owned)
        except KafkaError as error:
            cause = cause_of_kafka_error(error)
            self.progress.failed_commits += 1
            self.progress.why_failed, self.progress.fails_for = repr(error), cause
            if cause is Cause.CONTENT:
                self._suspected[topic_partition] = max(owned.next_offset, self._suspected.get(topic_partition, 0))
            _log.error("commit failed; restoring the partition", partition=owned.index, problem=repr(error))
            await self._drop(topic_partition)
        except BaseException:
            # Cancelled during a commit: events that `drain` returned would be missing from the next commit.
            await self._drop(topic_partition)
            raise

    async def _commit(self, topic_partition: TopicPartition, owned: _OwnedPartition) -> None:
        for stay_id, problem in owned.processor.drain_defects():
            self.progress.defects += 1
            _log.error("the timers or the orders of a patient cannot be used", stay=stay_id[:8], problem=problem)
        batch = owned.processor.drain()
        dead_letters, owned.dead_letters = owned.dead_letters, []
        rejected, owned.rejected = owned.rejected, []
        if batch.is_empty and not dead_letters and owned.next_offset == owned.committed:
            owned.touched = False
            return
        async with owned.producer.transaction():
            waiting = await self._send_batch(owned, batch, dead_letters, rejected)
            await owned.producer.send_offsets_to_transaction(
                {topic_partition: OffsetAndMetadata(owned.next_offset, "")}, self._group
            )
            await asyncio.gather(*waiting)
        owned.committed, owned.touched = owned.next_offset, False
        self.progress.commits += 1
        self.progress.committed_ms = self._clock.mono_ms()
        self.progress.why_failed = ""
        self.progress.behind_since_ms = None
        self.progress.sent += len(batch.alarms) + len(batch.judgements)

    async def _send_batch(
        self, owned: _OwnedPartition, batch: CommitBatch, dead_letters: list[bytes], rejected: list[FrameRef]
    ) -> "list[asyncio.Future[Any]]":
        waiting: list[asyncio.Future[Any]] = []
        # Alarms first.
        by_topic = ((KAFKA_ALARMS, batch.alarms), (KAFKA_EVENTS, batch.judgements), (KAFKA_STATE, batch.states))
        for name, rows in by_topic:
            waiting += await _send_rows(owned.producer, topic(self._kafka, name), owned.index, rows)
        if dead_letters:
            rows = [(b"processor", one) for one in dead_letters]
            waiting += await _send_rows(owned.producer, topic(self._kafka, KAFKA_DEAD_LETTERS), 0, rows)
        if rejected:
            value = encode_record(StoredFrames(frames=tuple(rejected), reason=Reason.PROCESSING.value))
            waiting += await _send_rows(owned.producer, topic(self._kafka, KAFKA_STORED), 0, [(b"processor", value)])
        return waiting

    # Acquiring and releasing partitions

    async def _acquire(self, reader: AIOKafkaConsumer, topic_partition: TopicPartition) -> None:
        async with self._lock:
            if topic_partition not in reader.assignment() or topic_partition in self._owned:
                return
            began_ms = self._clock.mono_ms()
            # First: from here on the previous owner cannot commit, and its open transaction is aborted.
            transactional = producer(
                self._kafka, transactional_id=f"{self._kafka.application}-{topic_partition.partition}"
            )
            try:
                await transactional.start()
                owned = await self._restore(reader, topic_partition, transactional)
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning(
                    "cannot acquire a partition; trying again", partition=topic_partition.partition, problem=repr(error)
                )
                self._not_before[topic_partition] = self._clock.mono_ms() + _RETRY_MS
                self.progress.failed_acquisitions += 1
                if topic_partition in reader.assignment():  # else it was reassigned, which caused the error
                    self.progress.unreadable.setdefault(topic_partition.partition, began_ms)
                await _stop_producer(transactional)
                return
            except BaseException:
                await _stop_producer(transactional)
                raise
            if topic_partition not in reader.assignment():
                await _stop_producer(transactional)
                return
            self._owned[topic_partition] = owned
            self.progress.unreadable.pop(topic_partition.partition, None)
            self._committed_at[topic_partition] = self._clock.mono_ms()
            self.progress.acquired += 1
            self.progress.recovery_ms = self._clock.mono_ms() - began_ms
            _log.info(
                "partition acquired",
                partition=topic_partition.partition,
                patients=len(owned.processor),
                offset=owned.next_offset,
                took_ms=self.progress.recovery_ms,
            )

    async def _restore(
        self, reader: AIOKafkaConsumer, topic_partition: TopicPartition, transactional: AIOKafkaProducer
    ) -> _OwnedPartition:
        rows = await self._read_state(reader, topic_partition.partition)
        # Read the offset after the states: until the producer above started, it could still have moved.
        committed = await reader.committed(topic_partition)
        first = (await reader.beginning_offsets([topic_partition]))[topic_partition]
        end = (await reader.end_offsets([topic_partition]))[topic_partition]
        with _garbage_collection_paused():
            processor = self._processor(
                rows,
                end=end,
                cadence_ms=self._config.cadence_ms,
                time_zone=self._config.time_zone,
                clock_bound_ms=self._clock_bound_ms,
            )
        start = first if committed is None else committed
        if not processor.topic_was_recreated and await self._is_another_topic(topic_partition, processor, first, end):
            processor.forget_offsets()
        if not first <= start <= end or processor.topic_was_recreated:
            _log.error(
                "the readings topic was created again or truncated; reading it from its beginning",
                partition=topic_partition.partition,
                expected=start,
                first=first,
                end=end,
            )
            start = first
        elif not rows and start > first:
            _log.warning(
                "no patient states in Kafka; computing them again from all readings",
                partition=topic_partition.partition,
            )
            start = first
        for stay_id in processor.damaged:
            self.progress.defects += 1
            _log.error("cannot read the state of a patient; it starts empty", binding=stay_id[:8])
        reader.seek(topic_partition, start)
        time = PartitionTime(bound_ms=self._clock_bound_ms)
        return _OwnedPartition(topic_partition.partition, transactional, processor, start, time)

    async def _is_another_topic(
        self, topic_partition: TopicPartition, processor: Processor, first: int, end: int
    ) -> bool:
        """Whether another record stands where the newest one that the states include was read."""
        newest = processor.newest()
        if newest is None or not first <= newest[0] < end:
            return False
        loader = consumer(self._kafka, group=None, committed=False)
        try:
            await loader.start()
            loader.assign([topic_partition])
            loader.seek(topic_partition, newest[0])
            while await loader.position(topic_partition) <= newest[0]:
                for found in (await loader.getmany(timeout_ms=_IDLE_MS, max_records=1)).values():
                    return found[0].offset != newest[0] or mark_of(found[0].value) != newest[1]
        finally:
            await loader.stop()
        return True

    async def _read_state(self, reader: AIOKafkaConsumer, partition: int) -> list[tuple[bytes, bytes]]:
        """The newest row of each patient, up to the end of the state topic at the time of the call."""
        topic_partition = TopicPartition(topic(self._kafka, KAFKA_STATE), partition)
        end = (await reader.end_offsets([topic_partition]))[topic_partition]
        rows: dict[bytes, bytes] = {}
        if end == 0:
            return []
        loader = consumer(self._kafka, group=None)
        try:
            await loader.start()
            loader.assign([topic_partition])
            await loader.seek_to_beginning(topic_partition)
            while await loader.position(topic_partition) < end:
                for found in (await loader.getmany(timeout_ms=_IDLE_MS)).values():
                    for record in found:
                        rows[record.key] = record.value
        finally:
            await loader.stop()
        return [row for row in rows.items() if row[1] is not None]

    async def _release(self, topic_partitions: list[TopicPartition]) -> None:
        async with self._lock:
            for topic_partition in topic_partitions:
                if topic_partition in self._owned:
                    await self._commit_or_drop(topic_partition)
                    await self._drop(topic_partition)
                self._not_before.pop(topic_partition, None)
                self.progress.unreadable.pop(topic_partition.partition, None)

    async def _drop(self, topic_partition: TopicPartition) -> None:
        """Discard the state of a partition in memory; the main loop acquires it again if it is still assigned."""
        owned = self._owned.pop(topic_partition, None)
        if owned is not None:
            self.progress.released += 1
            await _stop_producer(owned.producer)

    async def _wait_for_kafka(self) -> None:
        """Try to connect until Kafka answers, then check the topics."""
        logged = False
        while True:
            try:
                probe = producer(self._kafka)
                await probe.start()
            except (KafkaError, OSError) as error:
                if not logged:
                    _log.warning(
                        "cannot connect to Kafka; trying again", address=self._kafka.bootstrap, problem=str(error)
                    )
                logged = True
                await _stop_producer(probe)
                await asyncio.sleep(1)
                continue
            await probe.stop()
            await check_topics(self._kafka)
            return


def _frame_ref_of(value: bytes | None) -> FrameRef | None:
    try:
        record = decode_patient_record(value)
    except DecodeError:
        return None
    return record.frame if isinstance(record, ReadingRecord | ObservationRecord) else None


@contextlib.contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Restoring creates many objects and no garbage; searching them for garbage would double the time it takes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _send_rows(
    producer: AIOKafkaProducer, name: str, partition: int, rows: list[tuple[bytes, bytes]]
) -> "list[asyncio.Future[Any]]":
    """Send in whole batches: sending single records costs aiokafka more time than judging a reading costs us."""
    waiting = []
    batch = producer.create_batch()
    for key, value in rows:
        if batch.append(key=key, value=value, timestamp=None) is None:
            waiting.append(await producer.send_batch(batch, name, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    if batch.record_count():
        waiting.append(await producer.send_batch(batch, name, partition=partition))
    return waiting


async def _stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer and ignore errors: it may have been fenced, or Kafka may not answer."""
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        _log.debug("error while stopping a producer", problem=repr(error))
