"""Sends records to Kafka until Kafka has them, or has refused one of them for what it is.

A producer of aiokafka sends several records of a partition as one batch: if the broker refuses one of them, all of them
fail, and as a producer numbers its batches, every later batch of that partition fails, too. So after a refusal there is
a new producer, and the records of the failed batch are sent one by one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaProducer, errors

from runtime.logs import get
from stream.config import KafkaConfig
from stream.kafka import producer
from stream.refusals import Cause

_log = get(__name__)

RETRY_S: Final = 0.5
STOP_WITHIN_S: Final = 5.0
ATTEMPTS: Final = 3
"""So often a record has to be refused alone, with an answer that does not say why, while others are accepted."""
SAID_EVERY_S: Final = 60.0

_OF_CONTENT: Final = (errors.MessageSizeTooLargeError, errors.RecordTooLargeError, errors.RecordListTooLargeError)
_OF_CONFIGURATION: Final = (
    errors.UnknownTopicOrPartitionError,
    errors.InvalidTopicError,
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.SaslAuthenticationFailed,
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.PolicyViolationError,
    errors.InvalidRequiredAcksError,
    errors.UnsupportedVersionError,
    errors.UnsupportedForMessageFormatError,
    errors.IncompatibleBrokerVersion,
    errors.UnsupportedCodecError,
)
_OF_THE_PRODUCER: Final = (  # another producer can send the same record
    errors.OutOfOrderSequenceNumber,
    errors.UnknownProducerId,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.InvalidTxnState,
    errors.ConcurrentTransactions,
    errors.ProducerFenced,
    errors.ProducerClosed,
)


def cause_of_kafka_error(error: BaseException) -> Cause:
    """The cause of an error of a Kafka producer.

    A timestamp that the broker refuses is `UNCLEAR`: it is the time of sending, so mostly the clock of one of the two
    machines is wrong, and every record is refused.

    >>> cause_of_kafka_error(errors.MessageSizeTooLargeError()), cause_of_kafka_error(errors.RequestTimedOutError())
    (<Cause.CONTENT: 'content'>, <Cause.UNAVAILABLE: 'unavailable'>)
    """
    if isinstance(error, _OF_CONTENT):
        return Cause.CONTENT
    if isinstance(error, _OF_CONFIGURATION):
        return Cause.CONFIGURATION
    is_answer = isinstance(error, errors.BrokerResponseError) and not error.retriable
    return Cause.UNCLEAR if is_answer and not isinstance(error, _OF_THE_PRODUCER) else Cause.UNAVAILABLE


class OutgoingRecord(NamedTuple):
    """A record to append to a topic."""

    topic: str  # with prefix
    key: bytes | None
    value: bytes


class RefusedRecord(NamedTuple):
    """A record that Kafka refuses for what it is."""

    record: OutgoingRecord
    problem: str


OnTrouble = Callable[[Cause, str], None]


class RecordSender:
    """A Kafka producer that is replaced when it fails. Use as an asynchronous context manager.

    Args:
        on_trouble: called with the cause and the problem after each attempt that failed.
        make: makes a producer.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        on_trouble: OnTrouble = lambda _cause, _problem: None,
        make: Callable[[KafkaConfig], AIOKafkaProducer] = producer,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._on_trouble = on_trouble
        self._make = make
        self._sleep = sleep
        self._producer: AIOKafkaProducer | None = None
        self._is_broken = False  # a record that was not waited for has failed
        self._said_s = 0.0

    async def __aenter__(self) -> Self:
        return self  # the first record starts a producer

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop the producer; a further record would start another."""
        await self._stop()

    async def send_unconfirmed(self, record: OutgoingRecord) -> "asyncio.Future[Any]":
        """Send a record that may be lost. Raises KafkaError."""
        running = await self._start()
        sent: asyncio.Future[Any] = await running.send(record.topic, key=record.key, value=record.value)
        sent.add_done_callback(self._note_unconfirmed)
        return sent

    def _note_unconfirmed(self, sent: "asyncio.Future[Any]") -> None:
        self._is_broken |= not sent.cancelled() and sent.exception() is not None

    async def deliver(self, records: Sequence[OutgoingRecord], *, all_of_them: bool = False) -> list[RefusedRecord]:
        """Send until Kafka has every record that it does not refuse for what it is; returns the refused ones.

        Args:
            all_of_them: a refusal for what a record is counts as one of the topic's configuration, and is waited for:
                there is no other place for these records.
        """
        waiting, refused, tries = list(records), [], [0] * len(records)
        numbers = list(range(len(records)))
        accepted: set[str] = set()  # topics that took a record
        one_by_one = False
        while waiting:
            answers = await self._attempt(waiting, one_by_one=one_by_one)
            accepted |= {one.topic for one, answer in zip(waiting, answers, strict=True) if answer is None}
            left, worst, later = [], None, False
            for number, one, answer in zip(numbers, waiting, answers, strict=True):
                if answer is None:
                    continue
                cause = cause_of_kafka_error(answer)
                tries[number] += one_by_one and cause is Cause.UNCLEAR
                if cause is Cause.UNCLEAR and one_by_one and tries[number] >= ATTEMPTS and one.topic in accepted:
                    cause = Cause.CONTENT
                if cause is Cause.CONTENT and all_of_them:
                    cause = Cause.CONFIGURATION
                if cause is Cause.CONTENT and (one_by_one or len(waiting) == 1):
                    refused.append(RefusedRecord(one, f"Kafka refuses the record ({type(answer).__name__})"))
                    continue
                left.append((number, one))
                later |= cause not in (Cause.CONTENT, Cause.UNCLEAR) or one_by_one
                if worst is None or cause is not Cause.UNAVAILABLE:
                    worst = (cause, one, answer)
            numbers, waiting = [number for number, _ in left], [one for _, one in left]
            if worst is not None:
                one_by_one = True
                self._tell(worst[0], worst[1], worst[2], len(waiting))
                if later:
                    await self._sleep(RETRY_S)
        return refused

    async def _attempt(self, records: Sequence[OutgoingRecord], *, one_by_one: bool) -> list[BaseException | None]:
        """Send each record once; for each, None or the error."""
        if one_by_one:
            return [answer for one in records for answer in await self._send([one])]
        return await self._send(records)

    async def _send(self, records: Sequence[OutgoingRecord]) -> list[BaseException | None]:
        answers: list[BaseException | None] = []
        sent: list[tuple[int, Any]] = []
        for number, one in enumerate(records):
            answers.append(None)
            try:
                running = await self._start()
                sent.append((number, await running.send(one.topic, key=one.key, value=one.value)))
            except (errors.KafkaError, OSError, TimeoutError) as error:
                answers[number] = error
                if cause_of_kafka_error(error) is not Cause.CONTENT:
                    answers += [error] * (len(records) - number - 1)
                    break
        for (number, _), answer in zip(
            sent, await asyncio.gather(*(future for _, future in sent), return_exceptions=True), strict=True
        ):
            if isinstance(answer, Exception) and not isinstance(answer, errors.KafkaError | OSError | TimeoutError):
                raise answer
            answers[number] = answer if isinstance(answer, BaseException) else None
        if any(answer is not None for answer in answers):
            await self._stop()
        return answers

    async def _start(self) -> AIOKafkaProducer:
        if self._is_broken:
            await self._stop()
        if self._producer is None:
            made = self._make(self._config)
            try:
                await made.start()
            except BaseException:
                await _stop_producer(made)
                raise
            self._producer = made
        return self._producer

    async def _stop(self) -> None:
        stopping, self._producer, self._is_broken = self._producer, None, False
        if stopping is not None:
            await _stop_producer(stopping)

    def _tell(self, cause: Cause, record: OutgoingRecord, error: BaseException, waiting: int) -> None:
        problem = problem_of(cause, record, error)
        self._on_trouble(cause, problem)
        now_s = time.monotonic()
        if not self._said_s or now_s - self._said_s >= SAID_EVERY_S:
            self._said_s = now_s
            _log.warning("Kafka does not accept records; trying again", waiting=waiting, cause=cause, problem=problem)


def problem_of(cause: Cause, record: OutgoingRecord, error: BaseException) -> str:
    """What is wrong, with the topic and, where one is known, the fix."""
    name = type(error).__name__
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return f"Kafka has no topic {record.topic}; create it: vitalloom topics init"
    if isinstance(error, errors.InvalidTimestampError):
        return (
            f"Kafka refuses the time of every record of {record.topic} ({name}); compare the clocks of this machine "
            "and of the broker, and the topic's message.timestamp settings"
        )
    if isinstance(error, _OF_CONTENT):
        return (
            f"Kafka refuses a record of {len(record.value)} bytes for {record.topic} ({name}); raise the topic's "
            "max.message.bytes"
        )
    if cause is Cause.CONFIGURATION:
        return f"Kafka refuses {record.topic} ({name}); correct the permissions or the configuration"
    return f"{error!r}"


async def _stop_producer(stopping: AIOKafkaProducer) -> None:
    """Stop a producer and ignore errors: what it has not sent is sent again by the next one."""
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await stopping.stop()
    except (errors.KafkaError, OSError, TimeoutError) as error:
        _log.debug("error while stopping a producer", problem=repr(error))
