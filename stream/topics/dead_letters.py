"""Dead letters: what there is, and how one goes on its way again once whatever refused it is mended.

Sending one again can do no harm: readings have permanent ids, points have permanent times.
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
    """A dead letter and where it lies."""

    offset: int
    content: DeadLetter


class CannotResend(Exception):
    """This letter stays where it is; the message says why, without values."""


class Resent(NamedTuple):
    """What became of dead letters."""

    sent: Counter[str]  # by stage
    kept: Counter[str]  # by why


class RecordPosition(NamedTuple):
    """A record of the log."""

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
            raise CannotResend("its source is no place in the log") from None


async def list_dead_letters(config: KafkaConfig) -> list[StoredDeadLetter]:
    """All that are kept.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    async with _DeadLetterReader(config) as reading:
        return [one async for one in reading.letters(since=0)]


async def resend_dead_letters(
    config: KafkaConfig, clock: Clock, *, directory: Directory | None = None, again: bool = False, stage: str = ""
) -> Resent:
    """Send those that came since the last time; where we got to is kept in Kafka.

    Args:
        directory: who is who, for letters of the ingest; None: those stay.
        again: all that are kept, also those that were sent again before.
        stage: only those that failed there; what is left out now is left for later, so nothing is noted.

    Raises:
        KafkaUnusable: Kafka does not answer.
    """
    found = Resent(Counter(), Counter())
    sender = producer(config)
    async with _DeadLetterReader(config) as reading:
        try:
            await sender.start()
            first = 0 if again or stage else await reading.noted()
            last = None
            async for letter in reading.letters(since=first):
                last = letter.offset
                if stage and letter.content.stage != stage:
                    continue
                try:
                    await _send(sender, reading, config, letter.content, clock, directory)
                except CannotResend as error:
                    found.kept[f"{letter.content.stage}: {error}"] += 1
                else:
                    found.sent[letter.content.stage] += 1
            if last is not None and not stage:
                await reading.note(last + 1)
        except KafkaError as error:
            raise KafkaUnusable(config.bootstrap, f"does not take what is sent again ({error}); is it up?") from error
        finally:
            await sender.stop()
    return found


async def _send(
    sender: AIOKafkaProducer,
    reading: "_DeadLetterReader",
    config: KafkaConfig,
    letter: DeadLetter,
    clock: Clock,
    directory: Directory | None,
) -> None:
    if letter.stage == "store":
        place = RecordPosition.of(letter.source)
        if place.topic not in {topic(config, spec.name) for spec in TOPICS}:
            raise CannotResend("it comes from a topic of somebody else")
        key, value = await reading.record(place)
        await sender.send_and_wait(place.topic, key=key, value=value, partition=place.partition)
        return
    arrived = _from_processor(letter) if letter.stage == "processor" else _from_ingest(letter, clock, directory)
    await sender.send_and_wait(
        topic(config, KAFKA_READINGS), key=arrived.messages[0].binding_id.encode(), value=encode_record(arrived)
    )


def _from_processor(letter: DeadLetter) -> ReadingRecord:
    try:
        record = decode_patient_record(letter.payload)
    except DecodeError as error:
        raise CannotResend("it still cannot be read") from error
    if not isinstance(record, ReadingRecord) or not record.messages:
        raise CannotResend("it is an order; give it again instead")
    return record


def _from_ingest(letter: DeadLetter, clock: Clock, directory: Directory | None) -> ReadingRecord:
    if directory is None:
        raise CannotResend("who is who is not known here; name the site's folder: --site")
    if letter.frame is None or not letter.binding_id:
        raise CannotResend("it does not say whose it is")
    try:
        found = decode_content(
            directory, bytes.fromhex(letter.binding_id), letter.frame.frame_class, letter.payload, clock.now_ms()
        )
    except (DecodeError, ValueError) as error:
        raise CannotResend("it still cannot be read") from error
    if not isinstance(found, ReadingWithScores):
        raise CannotResend("it is no reading")
    return ReadingRecord(messages=tuple(found.messages), frame=letter.frame, spo2_scale=found.spo2_scale)  # type: ignore[arg-type]


class _DeadLetterReader:
    """The dead letters of one site, and the records that they speak of."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._place = TopicPartition(topic(config, KAFKA_DEAD_LETTERS), 0)
        # A group of its own that nobody joins: it only keeps where we got to.
        self._letters: AIOKafkaConsumer = consumer(config, group=f"{config.application}-dead-letters")
        self._records: AIOKafkaConsumer = consumer(config, group=None)

    async def __aenter__(self) -> "_DeadLetterReader":
        try:
            await self._letters.start()
            await self._records.start()
        except (KafkaError, OSError) as error:
            await self.__aexit__()
            raise KafkaUnusable(self._config.bootstrap, f"does not answer ({error}); is it up?") from error
        self._letters.assign([self._place])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._letters.stop()
        await self._records.stop()

    async def noted(self) -> int:
        """Where an earlier run got to."""
        return await self._letters.committed(self._place) or 0

    async def note(self, offset: int) -> None:
        await self._letters.commit({self._place: offset})

    async def letters(self, *, since: int) -> AsyncIterator[StoredDeadLetter]:
        """From there to where the topic ends now."""
        reader, place = self._letters, self._place
        first = (await reader.beginning_offsets([place]))[place]
        end = (await reader.end_offsets([place]))[place]
        reader.seek(place, max(first, since))
        while await reader.position(place) < end:
            for records in (await reader.getmany(place, timeout_ms=_WITHIN_MS)).values():
                for record in records:
                    yield StoredDeadLetter(record.offset, decode_dead_letter(record.value))

    async def record(self, place: RecordPosition) -> tuple[bytes, bytes]:
        """Key and value.

        Raises:
            CannotResend: it is not there any more.
        """
        reader, at = self._records, TopicPartition(place.topic, place.partition)
        reader.assign([at])
        if not (await reader.beginning_offsets([at]))[at] <= place.offset < (await reader.end_offsets([at]))[at]:
            raise CannotResend("what it speaks of is not kept any more")
        reader.seek(at, place.offset)
        found = await reader.getmany(at, timeout_ms=_WITHIN_MS, max_records=1)
        for record in found.get(at, ()):
            if record.offset == place.offset:
                return record.key, record.value
        raise CannotResend("what it speaks of is not kept any more")
