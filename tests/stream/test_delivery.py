"""Records that Kafka refuses for good: each is found and returned, and every other record is in Kafka.

The property: whatever subset of records is refused, with whatever stable error, every other record arrives, every
refused one is returned once, and the requests are few. The broker here is not Kafka: what it refuses is what a test
says. It fails a whole batch for one record, and after that every batch of the same producer, as aiokafka's producers
and brokers do; `tests/stream/ingest/test_refused_by_kafka.py` shows the same with a real one.
"""

import asyncio
from collections import Counter
from typing import Any, cast

import pytest
from aiokafka import errors
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config import KafkaConfig
from stream.delivery import OutgoingRecord, RecordSender, RefusedRecord, cause_of_kafka_error
from stream.refusals import Cause

PERMANENT = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidTimestampError,
    errors.CorruptRecordException,
    errors.UnknownError,
)


class Broker:
    """What was appended, by topic, and what is refused.

    Args:
        refused: the error for each refused value.
        failing: errors of the first attempts, one each, whatever is sent.
    """

    def __init__(self, refused: dict[bytes, type[Exception]], failing: tuple[type[Exception], ...] = ()) -> None:
        self.refused = refused
        self.failing = list(failing)
        self.appended: list[tuple[str, bytes]] = []
        self.requests = 0
        self.producers = 0


class Producer:
    """Records that are sent without waiting are one batch of their topic."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._batches: dict[str, list[tuple[bytes, asyncio.Future[None]]]] = {}
        self._out_of_order: set[str] = set()
        broker.producers += 1

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def send(self, topic: str, *, value: bytes, key: bytes | None = None) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        if topic not in self._batches:
            self._batches[topic] = []
            loop.call_later(0, self._flush, topic)
        answer: asyncio.Future[None] = loop.create_future()
        self._batches[topic].append((value, answer))
        return answer

    def _flush(self, topic: str) -> None:
        batch, broker = self._batches.pop(topic), self._broker
        broker.requests += 1
        error: type[Exception] | None = broker.failing.pop(0) if broker.failing else None
        if error is None and topic in self._out_of_order:
            error = errors.OutOfOrderSequenceNumber
        if error is None:
            error = next((broker.refused[value] for value, _ in batch if value in broker.refused), None)
        if error is not None:
            self._out_of_order.add(topic)
        for value, answer in batch:
            if answer.cancelled():
                continue
            if error is None:
                broker.appended.append((topic, value))
                answer.set_result(None)
            else:
                answer.set_exception(error())


async def no_wait(_: float) -> None:
    await asyncio.sleep(0)


def deliver(broker: Broker, records: list[OutgoingRecord], **wishes: Any) -> list[RefusedRecord]:
    async def story() -> list[RefusedRecord]:
        async with (
            RecordSender(KafkaConfig(), make=lambda _: cast(Any, Producer(broker)), sleep=no_wait) as sender,
            asyncio.timeout(10),
        ):
            return await sender.deliver(records, **wishes)

    return asyncio.run(story())


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[OutgoingRecord], dict[bytes, type[Exception]]]:
    """Records for two topics. The first of each topic is accepted: without it nobody could tell what is wrong."""
    records = [OutgoingRecord(topic, None, f"{topic}{n}".encode()) for topic in "ab" for n in range(12)]
    chosen = draw(st.lists(st.sampled_from(records), unique=True))
    firsts = {next(one.value for one in chosen if one.topic == topic) for topic in {one.topic for one in chosen}}
    candidates = [one.value for one in chosen if one.value not in firsts]
    refused = draw(st.dictionaries(st.sampled_from(candidates), st.sampled_from(PERMANENT))) if candidates else {}
    return chosen, refused


def verdict(broker: Broker, records: list[OutgoingRecord], returned: list[bytes]) -> list[str]:
    wrong = []
    if Counter(broker.appended) != Counter(
        (one.topic, one.value) for one in records if one.value not in broker.refused
    ):
        wrong.append("records missing or twice")
    if Counter(returned) != Counter(broker.refused.keys()):
        wrong.append("refused records")
    if broker.requests > 2 + 4 * len(records):
        wrong.append("requests")
    return wrong


@settings(max_examples=200, deadline=None, derandomize=True)
@given(batch=batches())
def test_every_record_arrives_or_is_returned_whatever_is_refused(
    batch: tuple[list[OutgoingRecord], dict[bytes, type[Exception]]],
) -> None:
    records, refused = batch
    broker = Broker(refused)

    returned = deliver(broker, records)

    assert verdict(broker, records, [one.record.value for one in returned]) == []


@pytest.mark.parametrize(
    "error",
    [
        errors.RequestTimedOutError,
        errors.KafkaConnectionError,
        errors.OutOfOrderSequenceNumber,
        errors.ProducerFenced,
        errors.KafkaStorageError,
        errors.TopicAuthorizationFailedError,
        errors.UnknownTopicOrPartitionError,
    ],
)
def test_what_passes_or_can_be_configured_is_waited_for(error: type[Exception]) -> None:
    broker = Broker({}, failing=(error,) * 5)
    records = [OutgoingRecord("a", None, b"1"), OutgoingRecord("a", None, b"2")]

    assert deliver(broker, records) == []
    assert Counter(broker.appended) == Counter([("a", b"1"), ("a", b"2")])


def test_a_time_that_is_refused_for_every_record_is_the_clock_and_nothing_is_given_up() -> None:
    broker = Broker({}, failing=(errors.InvalidTimestampError,) * 40)
    records = [OutgoingRecord("a", None, str(n).encode()) for n in range(3)]

    assert deliver(broker, records) == []
    assert len(broker.appended) == 3


def test_a_record_that_has_to_arrive_is_waited_for_until_the_topic_takes_it() -> None:
    broker = Broker({}, failing=(errors.MessageSizeTooLargeError,) * 4)

    assert deliver(broker, [OutgoingRecord("a", None, b"1")], all_of_them=True) == []


def test_one_refused_record_among_hundreds_costs_one_request_for_each_of_its_batch() -> None:
    records = [OutgoingRecord("a", None, str(n).encode()) for n in range(500)]
    broker = Broker({b"250": errors.MessageSizeTooLargeError})

    assert [one.record.value for one in deliver(broker, records)] == [b"250"]
    assert broker.requests == 501
    assert broker.producers == 3


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (errors.MessageSizeTooLargeError(), Cause.CONTENT),
        (errors.InvalidTimestampError(), Cause.UNCLEAR),
        (errors.TopicAuthorizationFailedError("t"), Cause.CONFIGURATION),
        (errors.NotEnoughReplicasError(), Cause.UNAVAILABLE),
        (errors.OutOfOrderSequenceNumber(), Cause.UNAVAILABLE),
        (errors.KafkaTimeoutError(), Cause.UNAVAILABLE),
        (ConnectionResetError(), Cause.UNAVAILABLE),
    ],
)
def test_the_cause_of_an_error(error: Exception, cause: Cause) -> None:
    assert cause_of_kafka_error(error) is cause
