"""Dead letters with a real Kafka: which ones are sent again, which are not, and that none is sent twice."""

import asyncio
from pathlib import Path

import pytest

from stream.config import KafkaConfig
from stream.errors import KafkaUnusable
from stream.kafka import producer, topic, topics_status
from stream.records import (
    DeadLetter,
    FrameRef,
    JudgementRecord,
    ObservationRecord,
    PatientRecord,
    ReadingRecord,
    RewriteRecord,
    decode_event_record,
    decode_patient_record,
    encode_record,
)
from stream.topics.dead_letters import Resent, list_dead_letters, resend_dead_letters
from tests.services.kafka import Kafka
from tests.stream.cluster import Log
from tests.stream.receiving_site import Site
from vitals.messages import Observation, Reading, WindowOutdated
from wire.codec import encode
from wire.envelope import FrameClass
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_READINGS

pytestmark = pytest.mark.services
BED = "0" * 31 + "1"
FRAME = FrameRef(b"e" * 16, b"s" * 16, FrameClass.VITALS, 7)


def arrived() -> ReadingRecord:
    reading = Reading(
        stay_id=BED, reading_id=b"r" * 16, session_id=b"s" * 16, counter=7, at_ms=0, received_ms=0, heart_rate=70.0
    )
    return ReadingRecord(messages=(reading,), frame=FRAME)


def a_letter(stage: str, payload: bytes, *, source: str = "here", binding_id: str = "") -> DeadLetter:
    return DeadLetter(
        stage=stage,
        reason="schema",
        problem="x",
        at_ms=1,
        source=source,
        payload=payload,
        version="0",
        frame=FRAME,
        binding_id=binding_id,
    )


class Bench:
    """Kafka topics with dead letters."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.log = Log(kafka)
        self.site = Site(folder)

    async def put(self, name: str, value: bytes) -> int:
        sender = producer(self.log.config)
        await sender.start()
        try:
            told = await sender.send_and_wait(topic(self.log.config, name), key=BED.encode(), value=value, partition=0)
        finally:
            await sender.stop()
        return int(told.offset)

    async def put_dead_letters(self, *found: DeadLetter) -> None:
        for one in found:
            await self.put(KAFKA_DEAD_LETTERS, encode_record(one))

    async def resend(self, *, with_site: bool = False, again: bool = False, stage: str = "") -> Resent:
        directory = self.site.demo.ingest.directory if with_site else None
        return await resend_dead_letters(
            self.log.config, self.site.clock, directory=directory, again=again, stage=stage
        )

    async def readings(self) -> list[PatientRecord]:
        return [decode_patient_record(one.value) for one in await self.log.records(KAFKA_READINGS)]


OBSERVED = ObservationRecord(
    message=Observation(
        stay_id=BED, observation_id=b"o" * 16, by="anna", at_ms=0, entered_ms=0, heard_ms=0, temperature=38.5
    ),
    frame=FRAME,
)


@pytest.mark.parametrize("buried", [arrived(), OBSERVED], ids=["reading", "observation"])
def test_a_dead_letter_of_a_worker_is_resent_once_and_again_with_the_option(
    kafka: Kafka, tmp_path: Path, buried: ReadingRecord | ObservationRecord
) -> None:
    bench = Bench(kafka, tmp_path)

    async def story() -> list[tuple[int, int]]:
        await bench.log.begin(partitions=1)
        await bench.put_dead_letters(a_letter("processor", encode_record(buried)), a_letter("processor", b"nonsense"))
        told = [await bench.resend(), await bench.resend(), await bench.resend(again=True)]
        assert await bench.readings() == [buried, buried]
        return [(one.sent.total(), one.kept.total()) for one in told]

    assert asyncio.run(story()) == [(1, 1), (0, 0), (1, 1)]


def test_resending_a_dead_letter_of_ingest_needs_the_site_folder(kafka: Kafka, tmp_path: Path) -> None:
    bench = Bench(kafka, tmp_path)
    binding = bench.site.demo.bindings[0].binding_id.hex()
    payload = encode(bench.site.message(0))

    async def story() -> tuple[Resent, Resent]:
        await bench.log.begin(partitions=1)
        await bench.put_dead_letters(
            a_letter("ingest", payload, binding_id=binding),
            a_letter("ingest", b"\x93poison", binding_id=binding),
            a_letter("ingest", payload),
        )
        return await bench.resend(stage="ingest"), await bench.resend(with_site=True)

    without, known = asyncio.run(story())
    assert without.sent.total() == 0
    assert list(without.kept) == ["ingest: devices are not known; name the site folder with --site"]
    assert known.sent == {"ingest": 1}
    assert known.kept == {"ingest: it still cannot be decoded": 1, "ingest: it names no frame or binding": 1}
    (found,) = asyncio.run(bench.readings())
    assert isinstance(found, ReadingRecord)
    assert found.frame == FRAME
    assert found.messages[0].stay_id == binding


def test_a_dead_letter_of_the_store_goes_to_the_store_writer_alone(kafka: Kafka, tmp_path: Path) -> None:
    bench = Bench(kafka, tmp_path)
    judged = encode_record(
        JudgementRecord(stay_id=BED, events=(WindowOutdated(stay_id=BED, sign="spo2", start_ms=0, width_ms=60_000),))
    )
    refused_again = encode_record(RewriteRecord(topic=KAFKA_EVENTS, value=judged))
    line = b"vitals,binding=00 spo2=97.0 1"

    async def story() -> Resent:
        await bench.log.begin(partitions=1)
        name = topic(bench.log.config, KAFKA_EVENTS)
        offset = await bench.put(KAFKA_EVENTS, judged)
        await bench.put_dead_letters(
            a_letter("store", judged, source=f"{name}/0/7"),
            a_letter("store", refused_again, source=f"{name}/0/8"),
            a_letter("store", judged[:20], source=f"{name}/0/{offset}"),  # only a part: Kafka has the record
            a_letter("store", judged[:20], source=f"{name}/0/999"),
            a_letter("store", line, source="bucket vitals"),  # as up to 0.1.0
            a_letter("store", line * 600, source="bucket vitals"),
            a_letter("store", judged, source="nowhere"),
            a_letter("store", judged, source="elsewhere/0/0"),
        )
        return await bench.resend()

    found = asyncio.run(story())
    assert found.sent == {"store": 4}
    assert found.kept == {
        "store: Kafka has deleted its source record": 1,
        "store: it has only a part of its line": 1,
        "store: its source is not a Kafka record": 1,
        "store: its source topic does not belong to this site": 1,
    }
    assert found.refused_again is None  # no store writer is running
    _, *sent = [decode_event_record(one.value) for one in asyncio.run(bench.log.records(KAFKA_EVENTS))]
    assert sent == [RewriteRecord(topic=KAFKA_EVENTS, value=judged)] * 3 + [
        RewriteRecord(topic="", bucket="vitals", value=line)
    ]


def test_the_status_counts_records_and_lag(kafka: Kafka, tmp_path: Path) -> None:
    bench = Bench(kafka, tmp_path)

    async def story() -> None:
        await bench.log.begin(partitions=2)
        await bench.put_dead_letters(a_letter("processor", b"nonsense"))
        await bench.resend()
        await bench.put_dead_letters(a_letter("processor", b"nonsense"), a_letter("processor", b"nonsense"))
        found = await topics_status(bench.log.config)
        letters_topic = topic(bench.log.config, KAFKA_DEAD_LETTERS)
        assert found.dead_letters == 3
        assert found.behind == [(f"{bench.log.config.application}-dead-letters", letters_topic, 2)]
        assert {one.name: one.partitions for one in found.topics}[topic(bench.log.config, KAFKA_READINGS)] == 2
        assert [one.content.payload for one in await list_dead_letters(bench.log.config)] == [b"nonsense"] * 3

    asyncio.run(story())


def test_an_error_without_kafka_is_one_sentence() -> None:
    with pytest.raises(KafkaUnusable, match=r"Kafka at 127\.0\.0\.1:1: does not answer"):
        asyncio.run(list_dead_letters(KafkaConfig(bootstrap="127.0.0.1:1")))
