"""The readings' consumer: takes partitions, applies, commits, lets go. Runs under Faust and under a bare event loop.

State, events and offsets of a partition are one transaction. The order of every step stands for a loss that was seen:
docs/decisions/0017-own-consumer.md.
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
from stream.engine.processor import CommitBatch, Processor
from stream.kafka import check_topics, consumer, producer, topic
from stream.records import (
    DeadLetter,
    FrameRef,
    PartitionHealth,
    ReadingRecord,
    StoredFrames,
    decode_patient_record,
    encode_record,
)
from wire.errors import DecodeError, Reason
from wire.topics import KAFKA_ALARMS, KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_READINGS, KAFKA_STATE, KAFKA_STORED

_log = get(__name__)

MAX_ATTEMPTS: Final = 3
"""A record that fails so often goes to the dead letters, and its partition moves on."""
_IDLE_MS: Final = 250
_TICK_MS: Final = 1_000
_RETRY_MS: Final = 500  # between attempts to take a partition
_DEAD_LETTER_BYTES: Final = 64 * 1024
_KEPT_FAILURES: Final = 1_000


class WorkerProgress(msgspec.Struct):
    """How a worker gets on; it is alive if this moves."""

    records: int = 0
    messages: int = 0
    commits: int = 0
    failed_commits: int = 0
    dead_letters: int = 0
    acquired: int = 0  # partitions, over and over
    released: int = 0
    defects: int = 0  # timers and states of single patients that failed
    sent: int = 0  # rows of events and alarms, in transactions that were committed
    failed_acquisitions: int = 0
    failed_records: int = 0  # tries to apply one
    worst_age_ms: int = 0  # of a record when it was applied
    turned_ms: int = 0  # monotonic: when the loop last turned
    committed_ms: int = 0  # monotonic: when something was last committed
    recovery_ms: int = 0  # how long the last take of a partition took
    assigned: bool = False  # whether the group has said which partitions are ours, if only that none is
    patients: int = 0
    lag: dict[int, int] = {}  # by partition of ours, as of the last turn
    heard_ms: int = 0  # monotonic: when Kafka last answered a question for records
    behind_since_ms: int | None = None  # monotonic: since when something waits and nothing was committed
    unreadable: dict[int, int] = {}  # partition that is ours and cannot be read, monotonic: since when
    discarded: Counter[str] = msgspec.field(default_factory=Counter)


class _OwnedPartition:
    """A partition that is ours."""

    __slots__ = (
        "committed",
        "dead",
        "index",
        "next_offset",
        "processor",
        "producer",
        "refused",
        "ticked_ms",
        "touched",
        "worst_age_ms",
    )

    def __init__(self, index: int, producer: AIOKafkaProducer, processor: Processor, start: int) -> None:
        self.index = index
        self.producer = producer
        self.processor = processor
        self.next_offset = start
        self.committed = start
        self.touched = True  # since the last commit
        self.ticked_ms = 0
        self.worst_age_ms = 0
        self.dead: list[bytes] = []
        self.refused: list[FrameRef] = []  # frames of them: their edges must not send them for ever


class VitalsConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One worker's part of the readings.

    Args:
        clock: wall for ticks and ages, monotonic for intervals.
        processor: what is made for each partition.
    """

    def __init__(self, config: WorkerConfig, clock: Clock, *, processor: type[Processor] = Processor) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.progress = WorkerProgress()
        self._processor = processor
        self._config = config
        self._kafka = config.kafka
        self._clock = clock
        self._group = f"{config.kafka.application}-vitals"
        self._readings = topic(config.kafka, KAFKA_READINGS)
        self._owned: dict[TopicPartition, _OwnedPartition] = {}
        self._failures: Counter[tuple[TopicPartition, int]] = Counter()
        self._not_before: dict[TopicPartition, int] = {}
        self._committed_at: dict[TopicPartition, int] = {}
        self.ended = asyncio.Event()
        self.failure: Exception | None = None  # why it ended by itself
        self._running: asyncio.Task[Any] | None = None
        self._lock = asyncio.Lock()
        self._polled: dict[TopicPartition, int | None] = {}
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def partitions(self) -> list[int]:
        """Which are ours now."""
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
        """Whether everything that was read is committed, and time has passed for everybody."""
        now_ms = self._clock.now_ms() - self._config.tick_slack_ms
        return self.all_committed and all(
            (at_ms := owned.processor.timer_at()) is None or at_ms > now_ms for owned in self._owned.values()
        )

    def health(self) -> list[PartitionHealth]:
        """How each of our partitions does; ages are since the last call."""
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
        """Serve until cancelled; what was applied is committed first.

        Raises:
            KafkaUnusable: topics are missing or do not correspond.
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
            # What was applied is committed while we still own it; then the group is told, also if we had only begun to
            # join it: a member that nobody runs would keep its partitions for ever.
            await self._release(list(self._owned))
            await reader.stop()

    async def stop(self) -> None:
        """Let go of everything, if it runs; returns when that is done."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Save what was applied while it is still ours."""
        self.progress.assigned = False
        await self._release(list(revoked))

    async def on_partitions_assigned(self, _: Iterable[TopicPartition]) -> None:
        """They are taken at the next turn, so that a rebalance waits for nobody's state."""
        self.progress.assigned = True

    # One turn

    async def _turn(self, reader: AIOKafkaConsumer) -> None:
        for place in reader.assignment() - self._owned.keys():
            if self._not_before.get(place, 0) <= self._clock.mono_ms():
                await self._acquire(reader, place)
        found = await reader.getmany(timeout_ms=self._wait_ms(), max_records=self._config.fetch_records)
        async with self._lock:
            self.progress.turned_ms = self._clock.mono_ms()
            ours = reader.assignment()
            for place, records in found.items():
                if place in ours and place in self._owned:
                    await self._apply(place, records)
            self._tick_idle_partitions(reader, found)
            for place in list(self._owned):
                if self._is_due(place):
                    await self._commit_or_drop(place)
            self._update_progress(reader)

    def _update_progress(self, reader: AIOKafkaConsumer) -> None:
        """How we get on, for whoever asks from another thread."""
        progress, now_ms = self.progress, self._clock.mono_ms()
        polled = {place: reader.last_poll_timestamp(place) for place in reader.assignment()}
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
        """How many records wait, by partition; nobody knows of one that is not ours any more."""
        reader, ends = self._consumer, {}
        if reader is not None:
            ours = reader.assignment()
            ends = {place: reader.highwater(place) for place in self._owned if place in ours}
        return {
            owned.index: max(0, (ends.get(place) or owned.next_offset) - owned.next_offset)
            for place, owned in self._owned.items()
        }

    def _wait_ms(self) -> int:
        """Until something has to be committed, if nothing comes."""
        now_ms, wait_ms = self._clock.mono_ms(), _IDLE_MS
        for place, owned in self._owned.items():
            if owned.next_offset != owned.committed:
                wait_ms = min(wait_ms, self._committed_at[place] + self._pause_ms(owned) - now_ms)
        return max(0, wait_ms)

    def _pause_ms(self, owned: _OwnedPartition) -> int:
        return self._config.alarm_commit_ms if owned.processor.alarm_pending else self._config.commit_ms

    def _is_due(self, place: TopicPartition) -> bool:
        return self._clock.mono_ms() - self._committed_at[place] >= self._pause_ms(self._owned[place])

    async def _apply(self, place: TopicPartition, records: list[ConsumerRecord]) -> None:
        owned = self._owned[place]
        if records[0].offset < owned.next_offset:
            # The log was lost and begins again: what we know of offsets is of another log.
            _log.error("the log goes back", partition=owned.index, expected=owned.next_offset, got=records[0].offset)
            await self._drop(place)
            return
        processor, progress = owned.processor, self.progress
        before = processor.applied
        oldest_ms = records[0].timestamp
        for record in records:
            try:
                if self._failures and self._failures[place, record.offset] >= MAX_ATTEMPTS:
                    raise DecodeError(Reason.PROCESSING, "the processor failed")
                processor.apply(record.offset, record.value)
            except DecodeError as error:
                self._dead_letter(owned, record, error.reason, str(error))
            except Exception as error:  # noqa: BLE001 - one patient's poison must not stop a partition
                key = (place, record.offset)
                self._failures[key] += 1
                progress.failed_records += 1
                _log.error(
                    "a record cannot be applied",
                    partition=owned.index,
                    offset=record.offset,
                    problem=type(error).__name__,
                    tries=self._failures[key],
                )
                if len(self._failures) > _KEPT_FAILURES:
                    self._failures.clear()
                await self._drop(place)  # what is in memory is worth nothing any more
                return
            owned.next_offset = record.offset + 1
        owned.touched = True
        progress.records += len(records)
        progress.messages += processor.applied - before
        age_ms = self._clock.now_ms() - oldest_ms
        owned.worst_age_ms = max(owned.worst_age_ms, age_ms)
        progress.worst_age_ms = max(progress.worst_age_ms, age_ms)

    def _tick_idle_partitions(self, reader: AIOKafkaConsumer, found: dict[TopicPartition, Any]) -> None:
        """Silence is an event too: but only where nothing waits to be read, for that happened before."""
        mono_ms = self._clock.mono_ms()
        for place, owned in self._owned.items():
            if place in found or mono_ms - owned.ticked_ms < _TICK_MS:
                continue
            end = reader.highwater(place)
            if end is None or owned.next_offset < end:
                continue
            owned.ticked_ms = mono_ms
            now_ms = self._clock.now_ms() - self._config.tick_slack_ms
            timer_at = owned.processor.timer_at()
            if timer_at is not None and timer_at <= now_ms:
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
        owned.dead.append(encode_record(letter))
        frame = _frame_ref_of(record.value)
        if frame is not None:
            owned.refused.append(frame)
        _log.error("dead letter", source=letter.source, reason=reason)

    # Commit

    async def _commit_or_drop(self, place: TopicPartition) -> None:
        owned = self._owned[place]
        self._committed_at[place] = self._clock.mono_ms()
        if not owned.touched and owned.next_offset == owned.committed:
            return
        try:
            await self._commit(place, owned)
        except KafkaError as error:
            self.progress.failed_commits += 1
            _log.error("commit failed, the partition is taken anew", partition=owned.index, problem=repr(error))
            await self._drop(place)
        except BaseException:
            # Told to stop in mid-commit: what `take` has handed out is in nobody's hands any more.
            await self._drop(place)
            raise

    async def _commit(self, place: TopicPartition, owned: _OwnedPartition) -> None:
        for binding_id, problem in owned.processor.drain_defects():
            self.progress.defects += 1
            _log.error("the passing of time could not be judged", binding=binding_id[:8], problem=problem)
        output = owned.processor.drain()
        dead, owned.dead = owned.dead, []
        refused, owned.refused = owned.refused, []
        if output.is_empty and not dead and owned.next_offset == owned.committed:
            owned.touched = False
            return
        async with owned.producer.transaction():
            waiting = await self._send_batch(owned, output, dead, refused)
            await owned.producer.send_offsets_to_transaction(
                {place: OffsetAndMetadata(owned.next_offset, "")}, self._group
            )
            await asyncio.gather(*waiting)
        owned.committed, owned.touched = owned.next_offset, False
        self.progress.commits += 1
        self.progress.committed_ms = self._clock.mono_ms()
        self.progress.behind_since_ms = None
        self.progress.sent += len(output.alarms) + len(output.judged)

    async def _send_batch(
        self, owned: _OwnedPartition, output: CommitBatch, dead: list[bytes], refused: list[FrameRef]
    ) -> "list[asyncio.Future[Any]]":
        waiting: list[asyncio.Future[Any]] = []
        # Alarms first.
        for name, rows in ((KAFKA_ALARMS, output.alarms), (KAFKA_EVENTS, output.judged), (KAFKA_STATE, output.states)):
            waiting += await _send_rows(owned.producer, topic(self._kafka, name), owned.index, rows)
        if dead:
            rows = [(b"processor", one) for one in dead]
            waiting += await _send_rows(owned.producer, topic(self._kafka, KAFKA_DEAD_LETTERS), 0, rows)
        if refused:
            told = encode_record(StoredFrames(frames=tuple(refused), reason=Reason.PROCESSING.value))
            waiting += await _send_rows(owned.producer, topic(self._kafka, KAFKA_STORED), 0, [(b"processor", told)])
        return waiting

    # Taking and letting go

    async def _acquire(self, reader: AIOKafkaConsumer, place: TopicPartition) -> None:
        async with self._lock:
            if place not in reader.assignment() or place in self._owned:
                return
            began_ms = self._clock.mono_ms()
            # First of all: whoever owned it before can commit nothing from here on, and what it left open is aborted.
            maker = producer(self._kafka, transactional_id=f"{self._kafka.application}-{place.partition}")
            try:
                await maker.start()
                owned = await self._restore(reader, place, maker)
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning("a partition cannot be taken yet", partition=place.partition, problem=repr(error))
                self._not_before[place] = self._clock.mono_ms() + _RETRY_MS
                self.progress.failed_acquisitions += 1
                if place in reader.assignment():  # else it went to somebody else meanwhile, and that was the problem
                    self.progress.unreadable.setdefault(place.partition, began_ms)
                await _stop_producer(maker)
                return
            except BaseException:
                await _stop_producer(maker)
                raise
            if place not in reader.assignment():
                await _stop_producer(maker)
                return
            self._owned[place] = owned
            self.progress.unreadable.pop(place.partition, None)
            self._committed_at[place] = self._clock.mono_ms()
            self.progress.acquired += 1
            self.progress.recovery_ms = self._clock.mono_ms() - began_ms
            _log.info(
                "partition taken",
                partition=place.partition,
                patients=len(owned.processor),
                offset=owned.next_offset,
                took_ms=self.progress.recovery_ms,
            )

    async def _restore(
        self, reader: AIOKafkaConsumer, place: TopicPartition, maker: AIOKafkaProducer
    ) -> _OwnedPartition:
        rows = await self._read_state(reader, place.partition)
        # Only now, and in this order: the offset belongs to the state.
        committed = await reader.committed(place)
        first = (await reader.beginning_offsets([place]))[place]
        end = (await reader.end_offsets([place]))[place]
        with _garbage_collection_paused():
            processor = self._processor(rows, end=end, cadence_ms=self._config.cadence_ms)
        start = first if committed is None else committed
        if not first <= start <= end or processor.topic_was_recreated:
            _log.error(
                "the log is not the one that was read before; it is read from its beginning",
                partition=place.partition,
                expected=start,
                first=first,
                end=end,
            )
            start = first
        elif not rows and start > first:
            _log.warning("no state is left; it is made anew from the readings", partition=place.partition)
            start = first
        for binding_id in processor.damaged:
            self.progress.defects += 1
            _log.error("a patient's state cannot be read and begins anew", binding=binding_id[:8])
        reader.seek(place, start)
        return _OwnedPartition(place.partition, maker, processor, start)

    async def _read_state(self, reader: AIOKafkaConsumer, partition: int) -> list[tuple[bytes, bytes]]:
        """The newest row of each patient, up to where the log ended when we looked."""
        place = TopicPartition(topic(self._kafka, KAFKA_STATE), partition)
        end = (await reader.end_offsets([place]))[place]
        rows: dict[bytes, bytes] = {}
        if end == 0:
            return []
        loader = consumer(self._kafka, group=None)
        try:
            await loader.start()
            loader.assign([place])
            await loader.seek_to_beginning(place)
            while await loader.position(place) < end:
                for found in (await loader.getmany(timeout_ms=_IDLE_MS)).values():
                    for record in found:
                        rows[record.key] = record.value
        finally:
            await loader.stop()
        return [row for row in rows.items() if row[1] is not None]

    async def _release(self, places: list[TopicPartition]) -> None:
        async with self._lock:
            for place in places:
                if place in self._owned:
                    await self._commit_or_drop(place)
                    await self._drop(place)
                self._not_before.pop(place, None)
                self.progress.unreadable.pop(place.partition, None)

    async def _drop(self, place: TopicPartition) -> None:
        """Forget everything about a partition; it is taken anew if it is still ours."""
        owned = self._owned.pop(place, None)
        if owned is not None:
            self.progress.released += 1
            await _stop_producer(owned.producer)

    async def _wait_for_kafka(self) -> None:
        """Kafka may come up later than we do."""
        said = False
        while True:
            try:
                probe = producer(self._kafka)
                await probe.start()
            except (KafkaError, OSError) as error:
                if not said:
                    _log.warning("Kafka does not answer yet", address=self._kafka.bootstrap, problem=str(error))
                said = True
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
    return record.frame if isinstance(record, ReadingRecord) else None


@contextlib.contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Monitors that all stay: to look through them for garbage while they are made doubles the time that it takes."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


async def _send_rows(
    producer: AIOKafkaProducer, name: str, partition: int, rows: list[tuple[bytes, bytes]]
) -> "list[asyncio.Future[Any]]":
    """Whole batches: the client's own path costs more for a record than the kernel does for a reading."""
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
    """Whatever it says: it may have been fenced, and nobody may be there to hear it."""
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        _log.debug("a producer did not stop as it should", problem=repr(error))
