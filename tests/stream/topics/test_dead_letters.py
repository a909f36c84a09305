"""Dead letters on a real Kafka: what was mended goes on its way again, what was not stays, and nothing comes twice."""

import asyncio
from pathlib import Path

import pytest

from stream.config import KafkaConfig
from stream.errors import KafkaUnusable
from stream.kafka import producer, status, topic
from stream.records import DeadLetter, FrameRef, JudgementRecord, ReadingRecord, decode_patient_record, encode_record
from stream.topics.dead_letters import Resent, list_dead_letters, resend_dead_letters
from tests.services.kafka import Kafka
from tests.stream.cluster import Log
from tests.stream.receiving_site import Site
from vitals.messages import Reading, WindowOutdated
from wire.codec import encode
from wire.envelope import FrameClass
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_EVENTS, KAFKA_READINGS

pytestmark = pytest.mark.services
BED = "0" * 31 + "1"
FRAME = FrameRef(b"e" * 16, b"s" * 16, FrameClass.VITALS, 7)


def arrived() -> ReadingRecord:
    reading = Reading(
        binding_id=BED, reading_id=b"r" * 16, session_id=b"s" * 16, counter=7, at_ms=0, received_ms=0, heart_rate=70.0
    )
    return ReadingRecord(messages=(reading,), frame=FRAME)


def a_letter(stage: str, payload: bytes, *, source: str = "here", binding_id: str = "") -> DeadLetter:
    return DeadLetter(
        stage=stage, reason="schema", problem="x", at_ms=1, source=source, payload=payload, version="0", frame=FRAME,
        binding_id=binding_id,
    )  # fmt: skip


class Bench:
    """A log with dead letters in it."""

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

    async def bury(self, *found: DeadLetter) -> None:
        for one in found:
            await self.put(KAFKA_DEAD_LETTERS, encode_record(one))

    async def resend_dead_letters(self, *, knows_who: bool = False, again: bool = False, stage: str = "") -> Resent:
        directory = self.site.demo.ingest.directory if knows_who else None
        return await resend_dead_letters(
            self.log.config, self.site.clock, directory=directory, again=again, stage=stage
        )

    async def readings(self) -> list[ReadingRecord]:
        found = [decode_patient_record(one.value) for one in await self.log.records(KAFKA_READINGS)]
        return [one for one in found if isinstance(one, ReadingRecord)]


def test_what_a_worker_buried_is_read_again_once_and_again_if_asked(kafka: Kafka, tmp_path: Path) -> None:
    bench = Bench(kafka, tmp_path)
    buried = arrived()

    async def story() -> list[tuple[int, int]]:
        await bench.log.begin(partitions=1)
        await bench.bury(a_letter("processor", encode_record(buried)), a_letter("processor", b"nonsense"))
        told = [await bench.resend(), await bench.resend(), await bench.resend(again=True)]
        assert await bench.readings() == [buried, buried]
        return [(one.sent.total(), one.kept.total()) for one in told]

    assert asyncio.run(story()) == [(1, 1), (0, 0), (1, 1)]


def test_what_the_ingest_refused_needs_to_know_who_is_who(kafka: Kafka, tmp_path: Path) -> None:
    bench = Bench(kafka, tmp_path)
    binding = bench.site.demo.bindings[0].binding_id.hex()
    payload = encode(bench.site.message(0))

    async def story() -> tuple[Resent, Resent]:
        await bench.log.begin(partitions=1)
        await bench.bury(
            a_letter("ingest", payload, binding_id=binding), a_letter("ingest", b"\x93poison", binding_id=binding),
            a_letter("ingest", payload),
        )  # fmt: skip
        return await bench.resend(stage="ingest"), await bench.resend(knows_who=True)

    without, known = asyncio.run(story())
    assert without.sent.total() == 0
    assert list(without.kept) == ["ingest: who is who is not known here; name the site's folder: --site"]
    assert known.sent == {"ingest": 1}
    assert known.kept == {"ingest: it still cannot be read": 1, "ingest: it does not say whose it is": 1}
    (found,) = asyncio.run(bench.readings())
    assert found.frame == FRAME
    assert found.messages[0].binding_id == binding


def test_what_the_database_refused_is_taken_from_where_it_lies(kafka: Kafka, tmp_path: Path) -> None:
    bench = Bench(kafka, tmp_path)
    judged = encode_record(
        JudgementRecord(
            binding_id=BED, events=(WindowOutdated(binding_id=BED, sign="spo2", start_ms=0, width_ms=60_000),)
        )
    )

    async def story() -> Resent:
        await bench.log.begin(partitions=1)
        name = topic(bench.log.config, KAFKA_EVENTS)
        offset = await bench.put(KAFKA_EVENTS, judged)
        await bench.bury(
            a_letter("store", b"line", source=f"{name}/0/{offset}"), a_letter("store", b"line", source=f"{name}/0/999"),
            a_letter("store", b"line", source="nowhere"), a_letter("store", b"line", source="elsewhere/0/0"),
        )  # fmt: skip
        return await bench.resend()

    found = asyncio.run(story())
    assert found.sent == {"store": 1}
    assert found.kept == {
        "store: what it speaks of is not kept any more": 1, "store: its source is no place in the log": 1,
        "store: it comes from a topic of somebody else": 1,
    }  # fmt: skip
    assert [one.value for one in asyncio.run(bench.log.records(KAFKA_EVENTS))] == [judged, judged]


def test_the_status_counts_what_is_kept_and_who_is_behind(kafka: Kafka, tmp_path: Path) -> None:
    bench = Bench(kafka, tmp_path)

    async def story() -> None:
        await bench.log.begin(partitions=2)
        await bench.bury(a_letter("processor", b"nonsense"))
        await bench.resend()
        await bench.bury(a_letter("processor", b"nonsense"), a_letter("processor", b"nonsense"))
        found = await status(bench.log.config)
        letters_topic = topic(bench.log.config, KAFKA_DEAD_LETTERS)
        assert found.dead_letters == 3
        assert found.behind == [(f"{bench.log.config.application}-dead-letters", letters_topic, 2)]
        assert {one.name: one.partitions for one in found.topics}[topic(bench.log.config, KAFKA_READINGS)] == 2
        assert [one.content.payload for one in await list_dead_letters(bench.log.config)] == [b"nonsense"] * 3

    asyncio.run(story())


def test_without_kafka_there_is_one_sentence() -> None:
    with pytest.raises(KafkaUnusable, match=r"Kafka at 127\.0\.0\.1:1: does not answer"):
        asyncio.run(list_dead_letters(KafkaConfig(bootstrap="127.0.0.1:1")))
