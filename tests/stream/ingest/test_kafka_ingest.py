"""Ingest with a real Kafka: confirmed frames are in Kafka, and acknowledged frames are stored."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.config import IngestConfig
from stream.ingest.kafka_ingest import KafkaIngest
from stream.ingest.ledger import Ledger
from stream.kafka import producer, topic
from stream.records import (
    FrameRef,
    PatientLocation,
    PatientRecord,
    PeriodRecord,
    ReadingRecord,
    StoredFrames,
    decode_dead_letter,
    decode_health,
    decode_patient_record,
    encode_record,
)
from tests.services.kafka import Kafka
from tests.stream.cluster import Log, until
from tests.stream.receiving_site import MINUTE, NOW, SECOND, UNLIMITED, Site
from vitals.messages import Reading
from wire.envelope import Ack, FrameClass, Stage, open_ack
from wire.mqtt import Inbound
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_HEALTH, KAFKA_READINGS, KAFKA_STORED

pytestmark = pytest.mark.services


class Wire:
    """Replaces the MQTT connections; tests of whole sites use a real broker."""

    def __init__(self) -> None:
        self.coming: list[Inbound] = []
        self.confirmed: list[Inbound] = []
        self.said: list[bytes] = []

    async def receive(self, limit: int, *, within_s: float) -> list[Inbound]:
        if not self.coming:
            await asyncio.sleep(min(within_s, 0.01))
        taken, self.coming = self.coming[:limit], self.coming[limit:]
        return taken

    def acknowledge(self, message: Inbound) -> None:
        self.confirmed.append(message)

    def publish(self, _topic: str, payload: bytes) -> bool:
        self.said.append(payload)
        return True


class Hearing:
    """Ingest, an edge that sends to it, and Kafka topics."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.site = Site(folder)
        self.log = Log(kafka)
        self.folder = folder
        self.wire = Wire()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[KafkaIngest]:
        with Ledger(self.folder / "ledger.sqlite") as ledger:
            ingest = KafkaIngest(
                self.site.demo.ingest.me,
                self.site.demo.ingest.directory,
                ledger,
                IngestConfig(kafka=self.log.config),
                self.site.clock,
                limits=UNLIMITED,
                ack_interval_ms=0,
            )
            running = asyncio.create_task(ingest.run(self.wire))  # type: ignore[arg-type]
            try:
                yield ingest
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

    async def send(self, *frames: bytes) -> None:
        """Frames arrive; returns when all are confirmed."""
        count = len(self.wire.confirmed) + len(frames)
        self.wire.coming += [self.site.inbound(frame) for frame in frames]
        await until(lambda: len(self.wire.confirmed) == count, "confirmed")

    async def readings(self) -> list[ReadingRecord]:
        found = [decode_patient_record(one.value) for one in await self.log.records(KAFKA_READINGS)]
        return [one for one in found if isinstance(one, ReadingRecord)]

    async def tell_stored(self, *frames: FrameRef, reason: str = "") -> None:
        sender = producer(self.log.config)
        await sender.start()
        await sender.send_and_wait(
            topic(self.log.config, KAFKA_STORED), value=encode_record(StoredFrames(frames=frames, reason=reason))
        )
        await sender.stop()

    def answers(self) -> list[Ack]:
        key = self.site.demo.ingest.me.signing_key.public_key()
        return [open_ack(frame, key) for frame in self.wire.said]

    def signed(self, stage: Stage = Stage.STORED) -> set[int]:
        return {
            n for ack in self.answers() if ack.stage is stage for low, high in ack.ranges for n in range(low, high + 1)
        }


@pytest.mark.essential
def test_a_frame_is_confirmed_when_kafka_has_it_and_acknowledged_when_it_is_stored(
    kafka: Kafka, tmp_path: Path
) -> None:
    hearing = Hearing(kafka, tmp_path)

    async def story() -> list[ReadingRecord]:
        await hearing.log.begin()
        async with hearing.running():
            await hearing.send(hearing.site.session().frame, hearing.site.sealed(hearing.site.message(0)))
            found = await hearing.readings()
            assert hearing.signed() == set()
            frame = found[0].frame
            assert frame is not None
            await hearing.tell_stored(frame)
            await until(lambda: hearing.signed() == {frame.counter}, "signed for")
        return found

    (arrived,) = asyncio.run(story())
    (reading,) = arrived.messages
    assert isinstance(reading, Reading)
    assert reading.heart_rate == 70.0
    assert reading.stay_id == hearing.site.demo.bindings[0].binding_id.hex()


def test_a_repeated_frame_is_forwarded_until_it_is_stored_also_after_a_restart(kafka: Kafka, tmp_path: Path) -> None:
    hearing = Hearing(kafka, tmp_path)
    first, second = (hearing.site.sealed(hearing.site.message(n * SECOND)) for n in (0, 5))

    async def story() -> tuple[int, int, int]:
        await hearing.log.begin()
        async with hearing.running():
            await hearing.send(hearing.site.session().frame, first, second)
            await hearing.send(first)
            repeated = len(await hearing.readings())
            frame = (await hearing.readings())[0].frame
            assert frame is not None
            await hearing.tell_stored(frame)
            await until(lambda: frame.counter in hearing.signed(), "signed for")
        hearing.wire.said.clear()
        async with hearing.running() as ingest:
            await hearing.send(first, second)
            await until(lambda: hearing.signed() == {frame.counter}, "signed for again")
            return repeated, len(await hearing.readings()), ingest.counts.duplicates

    assert asyncio.run(story()) == (3, 4, 1)


def test_an_old_session_cannot_be_replayed_after_a_restart(kafka: Kafka, tmp_path: Path) -> None:
    hearing = Hearing(kafka, tmp_path)
    frame = hearing.site.session().frame

    async def story() -> dict[str, int]:
        await hearing.log.begin()
        async with hearing.running():
            await hearing.send(frame)
        flipped = bytearray(frame)
        flipped[-1] ^= 1
        async with hearing.running() as ingest:
            await hearing.send(frame, bytes(flipped), b"nonsense")
            return dict(ingest.counts.rejected)

    assert asyncio.run(story()) == {"signature": 1, "length": 1}


def test_undecodable_frames_become_dead_letters_and_delay_no_other_frame(kafka: Kafka, tmp_path: Path) -> None:
    hearing = Hearing(kafka, tmp_path)
    site = hearing.site
    frames = [
        site.session().seal(b"\x93poison")[1] if n % 100 == 7 else site.sealed(site.message(n * SECOND))
        for n in range(400)
    ]
    site.clock.set_wall(site.clock.now_ms() + 10 * MINUTE)

    async def story() -> tuple[list[ReadingRecord], list[Any]]:
        await hearing.log.begin()
        async with hearing.running() as ingest:
            await hearing.send(site.session().frame, *frames)
            await until(lambda: len(hearing.signed(Stage.REJECTED)) == 4, "refused")
            assert ingest.counts.dead_letters == 4
        letters = [decode_dead_letter(one.value) for one in await hearing.log.records(KAFKA_DEAD_LETTERS)]
        return await hearing.readings(), letters

    readings, letters = asyncio.run(story())
    assert len(readings) == 396
    assert {(one.stage, one.reason) for one in letters} == {("ingest", "schema")}
    assert [one.payload for one in letters] == [b"\x93poison"] * 4


def test_heartbeats_and_empty_frames_are_acknowledged(kafka: Kafka, tmp_path: Path) -> None:
    hearing = Hearing(kafka, tmp_path)
    session = hearing.site.session(frame_class=FrameClass.ALARM)

    async def story() -> None:
        await hearing.log.begin()
        async with hearing.running():
            await hearing.send(session.frame, session.seal(b"")[1])
            await until(lambda: len(hearing.signed()) == 1, "answered")

    asyncio.run(story())


def test_no_frame_is_confirmed_until_kafka_is_up(tmp_path: Path) -> None:
    own = Kafka(tmp_path / "kafka")
    own.start()
    hearing = Hearing(own, tmp_path)
    frames = [hearing.site.sealed(hearing.site.message(n * SECOND)) for n in range(20)]

    async def story() -> tuple[int, int]:
        await hearing.log.begin()
        async with hearing.running():
            await hearing.send(hearing.site.session().frame)
            own.kill()
            hearing.wire.coming += [hearing.site.inbound(frame) for frame in frames]
            await until(lambda: not hearing.wire.coming, "taken")
            confirmed = len(hearing.wire.confirmed)
            await asyncio.to_thread(own.start)
            await until(lambda: len(hearing.wire.confirmed) == 21, "confirmed")
        return confirmed, len({one.frame.counter for one in await hearing.readings() if one.frame is not None})

    try:
        assert asyncio.run(story()) == (1, 20)
    finally:
        own.stop()


def test_patient_locations_are_published_at_the_start_and_every_minute(kafka: Kafka, tmp_path: Path) -> None:
    hearing = Hearing(kafka, tmp_path)
    bindings = hearing.site.demo.bindings
    further = msgspec.structs.replace(bindings[0], binding_id=b"further device 1", device_name="oximeter")
    hearing.site.demo.ingest.directory.put(further)  # a patient with two devices is in one place

    async def placed() -> list[PatientLocation]:
        found = [decode_health(one.value) for one in await hearing.log.records(KAFKA_HEALTH)]
        return [one for one in found if isinstance(one, PatientLocation)]

    async def told(count: int) -> list[PatientLocation]:
        for _ in range(200):
            found = await placed()
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{count} were never told")

    async def story() -> list[PatientLocation]:
        await hearing.log.begin()
        async with hearing.running():
            await told(len(bindings))
            hearing.site.clock.advance(MINUTE)
            return await told(2 * len(bindings))

    found = asyncio.run(story())

    assert [len(one.devices) for one in found if one.stay_id == bindings[0].stay] == [2, 2]
    assert {(one.stay_id, one.bed, one.patient) for one in found} == {
        (one.binding_id.hex(), one.bed, one.patient) for one in bindings
    }
    assert len({one.at_ms for one in found}) == 2


def test_workers_are_told_of_bindings_before_their_readings_and_of_their_end(kafka: Kafka, tmp_path: Path) -> None:
    hearing = Hearing(kafka, tmp_path)
    directory, (binding, other) = hearing.site.demo.ingest.directory, hearing.site.demo.bindings
    ended = msgspec.structs.replace(binding, valid_to_ms=NOW + MINUTE)

    async def records() -> list[PatientRecord]:
        return [decode_patient_record(one.value) for one in await hearing.log.records(KAFKA_READINGS)]

    async def story() -> list[PatientRecord]:
        await hearing.log.begin(partitions=1)
        async with hearing.running():
            await hearing.send(hearing.site.session().frame, hearing.site.sealed(hearing.site.message(0)))
            directory.put(ended)
            hearing.site.clock.advance(MINUTE)
            for _ in range(200):
                if len(found := await records()) >= 4:
                    break
                await asyncio.sleep(0.05)
            return found

    found = asyncio.run(story())

    first = [one for one in found if isinstance(one, PeriodRecord)][:2]
    assert {one.message.stay_id for one in first} == {binding.binding_id.hex(), other.binding_id.hex()}
    assert isinstance(found[2], ReadingRecord)
    (end,) = [one.message for one in found[3:] if isinstance(one, PeriodRecord) and one.message.to_ms is not None]
    assert (end.stay_id, end.from_ms, end.to_ms) == (binding.binding_id.hex(), binding.valid_from_ms, NOW + MINUTE)
    assert end.edge_heard_ms == NOW
