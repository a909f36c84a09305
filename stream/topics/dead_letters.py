"""Dead letters: list them, and send them again after their cause is fixed.

Sending a dead letter twice is harmless: readings have permanent ids, and points have permanent times.
"""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from runtime.clock import Clock
from stream.config import KafkaConfig
from stream.errors import KafkaUnusable
from stream.ingest.frames import ReadingWithScores, decode_content
from stream.kafka import TOPICS, consumer, producer, topic
from stream.records import DeadLetter, ReadingRecord, decode_dead_letter, decode_patient_record, encode_record
from wire.errors import DecodeError
from wire.identity import Directory
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_READINGS

_WITHIN_MS: Final = 1_000


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


async def resend_dead_letters(
    config: KafkaConfig, clock: Clock, *, directory: Directory | None = None, again: bool = False, stage: str = ""
) -> Resent:
    """Send dead letters again that arrived since the previous call; the offset reached is committed to Kafka.

    Args:
        directory: devices and bindings, to decode dead letters of ingest; None: those are not sent.
        again: send all dead letters that Kafka has, including those that were sent again before.
        stage: send only dead letters of this stage; then no offset is committed. Empty: all stages.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    found = Resent(Counter(), Counter())
    sender = producer(config)
    async with _DeadLetterReader(config) as reader:
        try:
            await sender.start()
            first = 0 if again or stage else await reader.committed_offset()
            last = None
            async for letter in reader.letters(since=first):
                last = letter.offset
                if stage and letter.content.stage != stage:
                    continue
                try:
                    await _send(sender, reader, config, letter.content, clock, directory)
                except CannotResend as error:
                    found.kept[f"{letter.content.stage}: {error}"] += 1
                else:
                    found.sent[letter.content.stage] += 1
            if last is not None and not stage:
                await reader.commit_offset(last + 1)
        except KafkaError as error:
            raise KafkaUnusable(config.bootstrap, f"does not accept dead letters ({error}); is it up?") from error
        finally:
            await sender.stop()
    return found


async def _send(
    sender: AIOKafkaProducer,
    reader: "_DeadLetterReader",
    config: KafkaConfig,
    letter: DeadLetter,
    clock: Clock,
    directory: Directory | None,
) -> None:
    if letter.stage == "store":
        position = RecordPosition.of(letter.source)
        if position.topic not in {topic(config, spec.name) for spec in TOPICS}:
            raise CannotResend("its source topic does not belong to this site")
        key, value = await reader.record(position)
        await sender.send_and_wait(position.topic, key=key, value=value, partition=position.partition)
        return
    record = _from_processor(letter) if letter.stage == "processor" else _from_ingest(letter, clock, directory)
    await sender.send_and_wait(
        topic(config, KAFKA_READINGS), key=record.messages[0].binding_id.encode(), value=encode_record(record)
    )


def _from_processor(letter: DeadLetter) -> ReadingRecord:
    try:
        record = decode_patient_record(letter.payload)
    except DecodeError as error:
        raise CannotResend("it still cannot be decoded") from error
    if not isinstance(record, ReadingRecord) or not record.messages:
        raise CannotResend("it is an order; acknowledge or silence the alarm again instead")
    return record


def _from_ingest(letter: DeadLetter, clock: Clock, directory: Directory | None) -> ReadingRecord:
    if directory is None:
        raise CannotResend("devices are not known; name the site folder with --site")
    if letter.frame is None or not letter.binding_id:
        raise CannotResend("it names no frame or binding")
    try:
        found = decode_content(
            directory, bytes.fromhex(letter.binding_id), letter.frame.frame_class, letter.payload, clock.now_ms()
        )
    except (DecodeError, ValueError) as error:
        raise CannotResend("it still cannot be decoded") from error
    if not isinstance(found, ReadingWithScores):
        raise CannotResend("it is not a reading")
    return ReadingRecord(
        messages=tuple(found.messages),  # type: ignore[arg-type]
        frame=letter.frame,
        spo2_scale=found.spo2_scale,
        group=found.group,
    )


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
