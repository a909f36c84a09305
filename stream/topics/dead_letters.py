"""Dead letters: list them, and send them again after their cause is fixed.

Sending a dead letter twice is harmless: readings have permanent ids, and points have permanent times. What InfluxDB
refused is sent to the store writer alone: no patient is judged by it again, and nobody is called again.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from runtime.clock import Clock
from stream.config import KafkaConfig
from stream.errors import KafkaUnusable
from stream.ingest.edge_clocks import EdgeClocks
from stream.ingest.frames import ReadingWithScores, decode_content
from stream.kafka import TOPICS, consumer, producer, topic
from stream.records import (
    DeadLetter,
    ObservationRecord,
    PeriodRecord,
    ReadingRecord,
    RewriteRecord,
    decode_dead_letter,
    decode_event_record,
    decode_patient_record,
    encode_record,
)
from stream.store.buckets import Buckets
from stream.store.decoding import decode_rewrite
from vitals.messages import Observation
from wire.errors import DecodeError
from wire.identity import Directory
from wire.receiver import Opened
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_READINGS

_WITHIN_MS: Final = 1_000
_LOOK_EVERY_S: Final = 0.5
_LINE_OF: Final = "bucket "
"""Up to 0.1.0 the source of a line that InfluxDB refused was its bucket, and the dead letter has the line itself."""
_CUT_LINE_BYTES: Final = 16_384  # of these lines


class StoredDeadLetter(NamedTuple):
    """A dead letter and its offset in `vl.dlq.v1`."""

    offset: int
    content: DeadLetter


class CannotResend(Exception):
    """A dead letter that is not sent again; the message says why, without values."""


class Resent(NamedTuple):
    """Numbers of dead letters that were sent again, and that were not."""

    sent: Counter[str]  # by stage
    kept: Counter[str]  # by stage and reason
    refused_again: int | None = None  # new dead letters of the store, of those sent; None: it has not read them yet


class RecordPosition(NamedTuple):
    """Topic, partition and offset of a Kafka record."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, source: str) -> "RecordPosition":
        """Raises CannotResend."""
        try:
            name, partition, offset = source.rsplit("/", 2)
            return cls(name, int(partition), int(offset))
        except ValueError:
            raise CannotResend("its source is not a Kafka record") from None


async def list_dead_letters(config: KafkaConfig) -> list[StoredDeadLetter]:
    """All dead letters that Kafka still has.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    async with _DeadLetterReader(config) as reader:
        return [one async for one in reader.letters(since=0)]


async def count_unsent(config: KafkaConfig) -> int:
    """How many dead letters arrived since they were last sent again.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    async with _DeadLetterReader(config) as reader:
        return len([one async for one in reader.letters(since=await reader.committed_offset())])


async def resend_dead_letters(
    config: KafkaConfig,
    clock: Clock,
    *,
    directory: Directory | None = None,
    again: bool = False,
    stage: str = "",
    wait_s: float = 0,
) -> Resent:
    """Send dead letters again that arrived since the previous call; the offset reached is committed to Kafka.

    Args:
        directory: devices and bindings, to decode dead letters of ingest; None: those are not sent.
        again: send all dead letters that Kafka has, including those that were sent again before.
        stage: send only dead letters of this stage; then no offset is committed. Empty: all stages.
        wait_s: how long to wait until the store writer has read what was sent to it.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    sent, kept = Counter[str](), Counter[str]()
    sender = producer(config)
    async with _DeadLetterReader(config) as reader:
        try:
            await sender.start()
            first = 0 if again or stage else await reader.committed_offset()
            last, rewrites = None, dict[int, int]()
            async for letter in reader.letters(since=first):
                last = letter.offset
                if stage and letter.content.stage != stage:
                    continue
                try:
                    offset = await _send(sender, reader, config, letter.content, clock, directory)
                except CannotResend as error:
                    kept[f"{letter.content.stage}: {error}"] += 1
                    continue
                sent[letter.content.stage] += 1
                if letter.content.stage == "store":
                    rewrites[offset[0]] = offset[1] + 1
            refused = await reader.refused_again(rewrites, since=(last or 0) + 1, within_s=wait_s) if rewrites else None
            if last is not None and not stage:
                await reader.commit_offset(last + 1)
        except KafkaError as error:
            raise KafkaUnusable(config.bootstrap, f"does not accept dead letters ({error}); is it up?") from error
        finally:
            await sender.stop()
    return Resent(sent, kept, refused)


async def _send(
    sender: AIOKafkaProducer,
    reader: "_DeadLetterReader",
    config: KafkaConfig,
    letter: DeadLetter,
    clock: Clock,
    directory: Directory | None,
) -> tuple[int, int]:
    """Send one dead letter; returns the partition and the offset of its record."""
    record: ReadingRecord | ObservationRecord | RewriteRecord
    if letter.stage == "store":
        record, name = await _from_store(letter, reader, config), KAFKA_EVENTS
        key = hashlib.sha256(record.value).digest()[:8]
    else:
        record = _from_processor(letter) if letter.stage == "processor" else _from_ingest(letter, clock, directory)
        first = record.message if isinstance(record, ObservationRecord) else record.messages[0]
        name, key = KAFKA_READINGS, first.stay_id.encode()
    try:
        told = await sender.send_and_wait(topic(config, name), key=key, value=encode_record(record))
    except MessageSizeTooLargeError:
        raise CannotResend("it is too large for Kafka") from None
    return int(told.partition), int(told.offset)


async def _from_store(letter: DeadLetter, reader: "_DeadLetterReader", config: KafkaConfig) -> RewriteRecord:
    """What the store writer is to write again.

    Raises:
        CannotResend: neither the dead letter nor Kafka has the whole of it, or it still cannot be decoded.
    """
    if letter.source.startswith(_LINE_OF):
        if len(letter.payload) >= _CUT_LINE_BYTES:
            raise CannotResend("it has only a part of its line")
        return RewriteRecord(topic="", bucket=letter.source.removeprefix(_LINE_OF), value=letter.payload)
    position = RecordPosition.of(letter.source)
    names = {topic(config, spec.name): spec.name for spec in TOPICS}
    if position.topic not in names:
        raise CannotResend("its source topic does not belong to this site")
    record = _rewrite(names[position.topic], letter.payload)
    if record is None:  # not decoded, or only a part of it
        record = _rewrite(names[position.topic], (await reader.record(position))[1])
    if record is None:
        raise CannotResend("it still cannot be decoded")
    return record


def _rewrite(name: str, value: bytes) -> RewriteRecord | None:
    """The record to write again, from a record of a topic; None if it cannot be decoded."""
    record = RewriteRecord(topic=name, value=value)
    try:
        if name == KAFKA_EVENTS and isinstance(found := decode_event_record(value), RewriteRecord):
            record = found
        decode_rewrite(record, _ANY_BUCKETS)
    except (DecodeError, TypeError):
        return None
    return record


def _from_processor(letter: DeadLetter) -> ReadingRecord | ObservationRecord:
    try:
        record = decode_patient_record(letter.payload)
    except DecodeError as error:
        raise CannotResend("it still cannot be decoded") from error
    if isinstance(record, ObservationRecord) or (isinstance(record, ReadingRecord) and record.messages):
        return record
    if isinstance(record, PeriodRecord):
        raise CannotResend("it is a binding, which ingest repeats every few minutes")
    raise CannotResend("it is an answer; acknowledge or silence the alarm again instead")


def _from_ingest(letter: DeadLetter, clock: Clock, directory: Directory | None) -> ReadingRecord | ObservationRecord:
    if directory is None:
        raise CannotResend("devices are not known; name the site folder with --site")
    if letter.frame is None or not letter.binding_id:
        raise CannotResend("it names no frame or binding")
    try:
        frame = letter.frame
        opened = Opened(
            frame.session_id,
            frame.edge_id,
            bytes.fromhex(letter.binding_id),
            frame.frame_class,
            frame.counter,
            letter.payload,
            duplicate=False,
            conflict=False,
        )
        found = decode_content(directory, opened, clock.now_ms(), EdgeClocks())
    except (DecodeError, ValueError) as error:
        raise CannotResend("it still cannot be decoded") from error
    if isinstance(found, Observation):
        return ObservationRecord(message=found, frame=letter.frame)
    if not isinstance(found, ReadingWithScores):
        raise CannotResend("it is neither a reading nor an observation")
    return ReadingRecord(
        messages=tuple(found.messages),  # type: ignore[arg-type]
        frame=letter.frame,
        spo2_scale=found.spo2_scale,
        group=found.group,
    )


_ANY_BUCKETS: Final = Buckets("", "", "")  # to decode what names no bucket


class _DeadLetterReader:
    """Reads the dead letters of one site, and the Kafka records that they name as their source."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._partition = TopicPartition(topic(config, KAFKA_DEAD_LETTERS), 0)
        # A consumer group that is only used to store an offset.
        self._letters: AIOKafkaConsumer = consumer(config, group=f"{config.application}-dead-letters")
        self._records: AIOKafkaConsumer = consumer(config, group=None)

    async def __aenter__(self) -> "_DeadLetterReader":
        try:
            await self._letters.start()
            await self._records.start()
        except (KafkaError, OSError) as error:
            await self.__aexit__()
            raise KafkaUnusable(self._config.bootstrap, f"does not answer ({error}); is it up?") from error
        self._letters.assign([self._partition])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._letters.stop()
        await self._records.stop()

    async def committed_offset(self) -> int:
        """The offset that an earlier run committed; 0 if there is none."""
        return await self._letters.committed(self._partition) or 0

    async def commit_offset(self, offset: int) -> None:
        await self._letters.commit({self._partition: offset})

    async def letters(self, *, since: int) -> AsyncIterator[StoredDeadLetter]:
        """Dead letters from offset `since` to the end of the topic at the time of the call."""
        reader, partition = self._letters, self._partition
        first = (await reader.beginning_offsets([partition]))[partition]
        end = (await reader.end_offsets([partition]))[partition]
        reader.seek(partition, max(first, since))
        while await reader.position(partition) < end:
            for records in (await reader.getmany(partition, timeout_ms=_WITHIN_MS)).values():
                for record in records:
                    yield StoredDeadLetter(record.offset, decode_dead_letter(record.value))

    async def refused_again(self, rewrites: dict[int, int], *, since: int, within_s: float) -> int | None:
        """Wait until the store writer has read what was sent to it; how many of it are dead letters again.

        Args:
            rewrites: by partition of the events topic, the offset after the last record that was sent.
            since: offset of the first dead letter to look at.

        Returns:
            None if the store writer has not read everything within `within_s`.
        """
        wanted = {TopicPartition(topic(self._config, KAFKA_EVENTS), one): offset for one, offset in rewrites.items()}
        store = consumer(self._config, group=f"{self._config.application}-store-events")
        try:
            async with asyncio.timeout(within_s):
                await store.start()
                for one, offset in wanted.items():
                    while (await store.committed(one) or 0) < offset:
                        await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            return None
        finally:
            await store.stop()
        return sum([_is_rewrite(one.content) async for one in self.letters(since=since)])

    async def record(self, position: RecordPosition) -> tuple[bytes, bytes]:
        """Key and value of a record.

        Raises:
            CannotResend: Kafka has deleted the record.
        """
        reader, at = self._records, TopicPartition(position.topic, position.partition)
        reader.assign([at])
        if not (await reader.beginning_offsets([at]))[at] <= position.offset < (await reader.end_offsets([at]))[at]:
            raise CannotResend("Kafka has deleted its source record")
        reader.seek(at, position.offset)
        found = await reader.getmany(at, timeout_ms=_WITHIN_MS, max_records=1)
        for record in found.get(at, ()):
            if record.offset == position.offset:
                return record.key, record.value
        raise CannotResend("Kafka has deleted its source record")


def _is_rewrite(letter: DeadLetter) -> bool:
    try:
        return letter.stage == "store" and isinstance(decode_event_record(letter.payload), RewriteRecord)
    except DecodeError:
        return False
