"""What a real Kafka refuses for good: everything else arrives, and an edge hears of nothing that is not safe."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, errors

from stream.delivery import OutgoingRecord, RecordSender
from stream.ingest.health import kafka_trouble
from stream.kafka import producer, topic
from stream.records import DeadLetter, decode_dead_letter
from stream.topics.dead_letters import resend_dead_letters
from tests.services.kafka import Kafka
from tests.stream.cluster import Log, configure, until
from tests.stream.ingest.test_kafka_ingest import Hearing
from tests.stream.receiving_site import SECOND
from wire.envelope import Stage
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_READINGS

pytestmark = pytest.mark.services


def test_after_one_refused_batch_a_producer_of_aiokafka_can_send_nothing_more(kafka: Kafka) -> None:
    """Why there is a new producer after each refusal; if this fails, there need not be."""
    log = Log(kafka)

    async def story() -> None:
        await log.begin(partitions=1)
        await configure(log.config, KAFKA_READINGS, {"max.message.bytes": "2000"})
        sender = producer(log.config)
        await sender.start()
        name = topic(log.config, KAFKA_READINGS)
        await sender.send_and_wait(name, b"small")
        with pytest.raises(errors.MessageSizeTooLargeError):
            await sender.send_and_wait(name, bytes(5_000))
        with pytest.raises(errors.OutOfOrderSequenceNumber):
            await sender.send_and_wait(name, b"small")
        await sender.stop()

    asyncio.run(story())


def test_a_record_that_is_too_large_is_returned_and_the_others_of_its_batch_arrive(kafka: Kafka) -> None:
    log = Log(kafka)

    async def story() -> None:
        await log.begin(partitions=1)
        await configure(log.config, KAFKA_READINGS, {"max.message.bytes": "2000"})
        name = topic(log.config, KAFKA_READINGS)
        small = [OutgoingRecord(name, None, f"{n}".encode()) for n in range(60)]
        large = OutgoingRecord(name, None, bytes(5_000))
        beyond_any = OutgoingRecord(name, None, bytes(2_000_000))
        async with RecordSender(log.config) as sender:
            refused = await sender.deliver([*small[:25], large, beyond_any, *small[25:50]])
            assert [one.record for one in refused] == [large, beyond_any]
            assert await sender.deliver(small[50:]) == []
        assert Counter(one.value for one in await log.records(KAFKA_READINGS)) == Counter(one.value for one in small)

    asyncio.run(story())


def test_a_reading_that_kafka_refuses_is_a_dead_letter_before_its_edge_hears_of_it(
    kafka: Kafka, tmp_path: Path
) -> None:
    hearing = Hearing(kafka, tmp_path)
    site = hearing.site

    async def story() -> None:
        await hearing.log.begin(partitions=1)
        await configure(hearing.log.config, KAFKA_READINGS, {"max.message.bytes": "150"})
        async with hearing.running() as ingest:
            await hearing.send(site.session().frame, *(site.sealed(site.message(n * SECOND)) for n in range(3)))
            await until(lambda: len(hearing.signed(Stage.REJECTED)) == 3, "refused")
            assert await hearing.readings() == []
            assert ingest.counts.dead_letters == 3
            letters: list[DeadLetter] = [
                decode_dead_letter(one.value) for one in await hearing.log.records(KAFKA_DEAD_LETTERS)
            ]
            assert [(one.stage, one.reason) for one in letters] == [("ingest", "refused")] * 3

            await configure(hearing.log.config, KAFKA_READINGS, {})
            found = await resend_dead_letters(
                hearing.log.config, site.clock, directory=site.demo.ingest.directory, stage="ingest"
            )
            assert found.sent == {"ingest": 3}
            assert len(await hearing.readings()) == 3
            await hearing.send(site.sealed(site.message(4 * SECOND)))
            assert len(await hearing.readings()) == 4

    asyncio.run(story())


def test_while_kafka_refuses_every_time_the_frames_stay_at_the_edge_and_the_clock_is_named(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = Hearing(kafka, tmp_path)
    site = hearing.site
    by_sender = {"message.timestamp.type": "CreateTime", "message.timestamp.before.max.ms": "3600000"}
    send = AIOKafkaProducer.send

    async def a_day_behind(self: AIOKafkaProducer, *arguments: Any, **more: Any) -> Any:
        return await send(self, *arguments, timestamp_ms=int(time.time() * 1_000) - 86_400_000, **more)

    monkeypatch.setattr(AIOKafkaProducer, "send", a_day_behind)

    async def story() -> None:
        await hearing.log.begin(partitions=1)
        await configure(hearing.log.config, KAFKA_READINGS, by_sender)
        async with hearing.running() as ingest:
            sending = asyncio.create_task(
                hearing.send(site.session().frame, *(site.sealed(site.message(n * SECOND)) for n in range(3)))
            )
            await until(lambda: ingest.counts.failed_sends > 4, "refused")
            assert "compare the clocks" in kafka_trouble(ingest.counts, site.clock.mono_ms())
            assert hearing.wire.confirmed == []
            assert hearing.answers() == []
            await configure(hearing.log.config, KAFKA_READINGS, {})
            await sending
            assert len(await hearing.readings()) == 3
            assert ingest.counts.dead_letters == 0

    asyncio.run(story())
