"""The consumer of readings with a real Kafka: the same events as in one process, whatever happens to workers."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from stream.config import WorkerConfig
from stream.embedded.store import Store
from stream.embedded.stream import Engine
from stream.engine.faust_app import FaustWorker
from stream.engine.partitions import MAX_ATTEMPTS, VitalsConsumer
from stream.engine.plain import PlainWorker
from stream.errors import KafkaUnusable
from stream.kafka import check_topics, create_topics, producer, topic
from stream.records import (
    AnswerRecord,
    FrameRef,
    ReadingRecord,
    decode_dead_letter,
    decode_state_row,
    decode_stored_frames,
    encode_record,
)
from tests.patience import PATIENCE_S
from tests.services.kafka import Kafka
from tests.stream.cluster import Log, WallAt, configure, in_two, until, working
from tests.stream.nights import (
    BED_1,
    BED_2,
    a_bad_night,
    as_it_arrived,
    every_scenario,
    reading,
    recorded_stays,
    stays_of_many_devices,
)
from tests.stream.receiving_site import HOUR, MINUTE, NOW, SECOND
from vitals.messages import Acknowledge, AlarmChanged, Event, Message, Reading, ReadingJudged, Tick
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.sender_clock import FIRST_CONTACT_MS
from wire.topics import (
    KAFKA_DEAD_LETTERS,
    KAFKA_ENTRIES,
    KAFKA_EVENTS,
    KAFKA_READINGS,
    KAFKA_STATE,
    KAFKA_STORED,
)

pytestmark = pytest.mark.services
DATA = Path(os.environ.get("VITALLOOM_DATA", Path(__file__).parents[3] / "../shared/data"))

END = Tick(now_ms=NOW + 6 * HOUR)
STORY = as_it_arrived([*a_bad_night(), END])


def expected(folder: Path, story: list[Message]) -> dict[str, list[Event]]:
    """The events of the embedded engine."""
    with Store(folder / "embedded.sqlite", synchronous="OFF") as store:
        engine = Engine(store, lambda _: MonitoringPlan())
        return in_two([event for message in story for event in engine.apply([message])])


def of_all(worker: VitalsConsumer, records: int) -> Any:
    return lambda: worker.progress.records >= records and worker.is_settled


def before_end(end_ms: int) -> WallAt:
    """A clock at which a worker that only finds a backlog does not know yet how far it is from the clock of ingest."""
    return WallAt(end_ms - FIRST_CONTACT_MS)


async def read_to_the_end(worker: VitalsConsumer, clock: WallAt, records: int) -> None:
    """Everything is read; then so much time passes that nothing can be live, and all timers run."""
    await until(lambda: worker.progress.records >= records, "all records")
    clock.advance(FIRST_CONTACT_MS)
    await until(of_all(worker, records), "all timers")


def together(records: int, *workers: VitalsConsumer) -> Any:
    return lambda: sum(worker.progress.records for worker in workers) >= records


def stays() -> list[Message]:
    path = DATA / "sepsis2019" / "setB_dev.parquet"
    if not path.exists():
        pytest.skip("no recorded stays; set VITALLOOM_DATA to the folder that holds sepsis2019/setB_dev.parquet")
    return recorded_stays(path, patients=20, hours=24)


STORIES: dict[str, Callable[[], list[Message]]] = {
    "a bad night": a_bad_night,
    "every scenario": lambda: every_scenario(hours=3),
    "recorded stays": stays,
    "stays of one to six devices": stays_of_many_devices,
}


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("engine", [PlainWorker, FaustWorker], ids=["plain", "faust"])
def test_every_scenario_gives_the_same_events_as_in_one_process(
    kafka: Kafka, tmp_path: Path, engine: Any, name: str
) -> None:
    log = Log(kafka)
    told = STORIES[name]()
    end = Tick(now_ms=max(one.at_ms for one in told if isinstance(one, Reading)) + 2 * HOUR)
    story = as_it_arrived([*told, end])

    async def night() -> dict[str, list[Event]]:
        await log.begin()
        sent = await log.put(story)
        clock = before_end(end.now_ms)
        worker = engine(log.worker(tick_slack_ms=0), clock)
        running = asyncio.create_task(worker.run())
        await read_to_the_end(worker.vitals, clock, sent)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return await log.events()

    found = asyncio.run(night())

    assert found == expected(tmp_path, story)
    assert sum(map(len, found.values())) > 500
    assert any(isinstance(event, AlarmChanged) for events in found.values() for event in events)


def test_workers_that_join_and_leave_within_a_window_change_no_event(kafka: Kafka, tmp_path: Path) -> None:
    log = Log(kafka)
    parts = [STORY[at : at + 60] for at in range(0, len(STORY), 60)]

    async def night() -> dict[str, list[Event]]:
        await log.begin()
        config = log.worker(tick_slack_ms=HOUR)  # time passes by readings alone until the end
        async with working(config, WallAt(NOW)) as first:
            sent = await log.put(parts[0])
            await until(lambda: first.progress.records == sent, "first part")
            async with working(config, WallAt(NOW)) as second:
                for part in parts[1:-1]:
                    sent += await log.put(part)
                    await until(together(sent, first, second), "a part of two workers")
        sent = await log.put(parts[-1])
        clock = before_end(END.now_ms)
        async with working(log.worker(tick_slack_ms=0), clock) as third:
            await read_to_the_end(third, clock, sent)
        return await log.events()

    assert asyncio.run(night()) == expected(tmp_path, STORY)


def test_a_repeated_record_repeats_alarms_and_is_acknowledged_and_changes_nothing(kafka: Kafka) -> None:
    log = Log(kafka)
    ill = reading(0, spo2=85.0, respiratory_rate=26.0)

    async def story() -> tuple[dict[str, list[Event]], list[Any]]:
        await log.begin()
        await put(
            log, *(encode_record(ReadingRecord(messages=(ill,), frame=FrameRef(b"e", b"s", 1, n))) for n in (1, 2))
        )
        async with working(log.worker()) as worker:
            await until(of_all(worker, 2), "both")
        return await log.events(), [one.value for one in await log.records("vl.events.v1")]

    events, _ = asyncio.run(story())
    assert sum(isinstance(event, ReadingJudged) for event in events[BED_1]) == 1
    alarms = [event for event in events[BED_1] if isinstance(event, AlarmChanged)]
    assert len(alarms) == 2 * len({(alarm.alarm_id, alarm.revision) for alarm in alarms})


@pytest.mark.parametrize("engine", [PlainWorker, FaustWorker], ids=["plain", "faust"])
def test_an_acknowledgement_is_applied_between_the_readings_around_it(kafka: Kafka, engine: Any) -> None:
    log = Log(kafka)

    async def story() -> list[Event]:
        await log.begin()
        await log.put([reading(0, spo2=85.0, respiratory_rate=26.0)])
        worker = engine(log.worker(), WallAt(NOW))
        running = asyncio.create_task(worker.run())
        await until(of_all(worker.vitals, 1), "the reading")
        (alarm, *_) = [event for event in (await log.events())[BED_1] if isinstance(event, AlarmChanged)]
        order = Acknowledge(stay_id=BED_1, alarm_id=alarm.alarm_id, by="n1", at_ms=NOW + SECOND)
        await put(log, b"nonsense", encode_record(AnswerRecord(message=order)), name=KAFKA_ENTRIES)
        await until(of_all(worker.vitals, 2), "the order")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return (await log.events())[BED_1]

    events = asyncio.run(story())
    assert [one.acknowledged_by for one in events if isinstance(one, AlarmChanged)][-1] == "n1"


def test_a_record_that_fails_three_times_becomes_a_dead_letter_and_the_others_are_judged(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(kafka)
    healthy = PatientMonitor.on_reading

    def on_reading(monitor: PatientMonitor, one: Reading) -> list[Event]:
        if one.heart_rate == 99.0:
            raise ZeroDivisionError
        return healthy(monitor, one)

    monkeypatch.setattr(PatientMonitor, "on_reading", on_reading)
    poison = ReadingRecord(messages=(reading(5 * SECOND, heart_rate=99.0),), frame=FrameRef(b"e", b"s", 1, 7))

    async def story() -> tuple[dict[str, list[Event]], list[Any], list[Any], int]:
        await log.begin(partitions=1)
        await log.put([reading(0), reading(0, bed=BED_2)])
        await put(log, encode_record(poison), b"nonsense")
        await log.put([reading(10 * SECOND), reading(10 * SECOND, bed=BED_2)])
        async with working(log.worker()) as worker:
            await until(lambda: worker.progress.dead_letters == 2 and worker.is_settled, "buried", within_s=90)
            taken = worker.progress.acquired
        letters = [decode_dead_letter(one.value) for one in await log.records(KAFKA_DEAD_LETTERS)]
        told = [decode_stored_frames(one.value) for one in await log.records(KAFKA_STORED)]
        return await log.events(), letters, told, taken

    events, letters, told, taken = asyncio.run(story())
    judged = {bed: sum(isinstance(one, ReadingJudged) for one in these) for bed, these in events.items()}
    assert judged == {BED_1: 2, BED_2: 2}
    assert [(one.stage, one.reason) for one in letters] == [("processor", "processing"), ("processor", "schema")]
    assert [(one.reason, one.frames[0].counter) for one in told] == [("processing", 7)]
    assert taken == MAX_ATTEMPTS + 1


def test_a_record_whose_events_kafka_refuses_becomes_a_dead_letter_and_the_others_are_judged(kafka: Kafka) -> None:
    log = Log(kafka)
    many = tuple(reading(5 * SECOND + n, counter=n) for n in range(40))
    poison = ReadingRecord(messages=many, frame=FrameRef(b"e", b"s", 1, 7))

    async def story() -> tuple[dict[str, list[Event]], list[Any], list[Any]]:
        await log.begin(partitions=1)
        await configure(log.config, KAFKA_EVENTS, {"max.message.bytes": "4000"})
        await log.put([reading(0), reading(0, bed=BED_2)])
        await put(log, encode_record(poison))
        await log.put([reading(10 * SECOND), reading(10 * SECOND, bed=BED_2)])
        async with working(log.worker()) as worker:
            await until(lambda: worker.progress.dead_letters == 1 and worker.is_settled, "given up", within_s=90)
            read = worker.progress.records
            await log.put([reading(15 * SECOND)])
            await until(of_all(worker, read + 1), "goes on")
            assert worker.progress.why_failed == ""
        letters = [decode_dead_letter(one.value) for one in await log.records(KAFKA_DEAD_LETTERS)]
        told = [decode_stored_frames(one.value) for one in await log.records(KAFKA_STORED)]
        return await log.events(), letters, told

    events, letters, told = asyncio.run(story())
    judged = {bed: sum(isinstance(one, ReadingJudged) for one in these) for bed, these in events.items()}
    assert judged == {BED_1: 3, BED_2: 2}
    assert [(one.stage, one.payload) for one in letters] == [("processor", encode_record(poison))]
    assert [(one.reason, one.frames[0].counter) for one in told] == [("processing", 7)]


def test_lost_states_are_computed_again_from_the_readings(kafka: Kafka, tmp_path: Path) -> None:
    log = Log(kafka)
    half = len(STORY) // 2

    async def story() -> tuple[list[bytes], list[bytes]]:
        await log.begin()
        sent = await log.put(STORY[:half])
        config = log.worker(tick_slack_ms=HOUR)
        async with working(config) as worker:
            await until(of_all(worker, sent), "half a night")
        before = await states(log)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.delete_topics([topic(log.config, KAFKA_STATE)])
        await admin.close()
        while topic(log.config, KAFKA_STATE) not in await made(log):
            await asyncio.sleep(0.1)
        async with working(config) as worker:
            await until(of_all(worker, sent), "read again")
        return before, await states(log)

    before, after = asyncio.run(story())
    assert len(before) == 2
    assert before == after


def test_readings_of_a_topic_that_was_made_again_and_is_longer_than_the_old_one_are_all_judged(kafka: Kafka) -> None:
    log = Log(kafka)

    async def story() -> int:
        await log.begin(partitions=1)
        await log.put([reading(n * SECOND) for n in range(20)])
        async with working(log.worker()) as worker:
            await until(of_all(worker, 20), "before")
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.delete_topics([topic(log.config, KAFKA_READINGS)])
        await admin.close()
        while topic(log.config, KAFKA_READINGS) not in await made(log, partitions=1):
            await asyncio.sleep(0.1)
        await log.put([reading(n * SECOND) for n in range(20, 50)])
        async with working(log.worker()) as worker:
            await until(of_all(worker, 30), "after")
        return sum(isinstance(event, ReadingJudged) for event in (await log.events())[BED_1])

    assert asyncio.run(story()) == 50


def test_a_topic_that_was_created_again_is_read_from_its_beginning(tmp_path: Path) -> None:
    own = Kafka(tmp_path / "kafka")
    own.start()
    log = Log(own)

    async def story() -> tuple[int, int]:
        await log.begin()
        await log.put([reading(n * SECOND) for n in range(20)])
        async with working(log.worker()) as worker:
            await until(of_all(worker, 20), "before")
            own.kill()
            own.wipe()
            await asyncio.to_thread(own.start)
            await log.begin()
            await log.put([reading(n * SECOND) for n in range(20, 25)])
            await until(lambda: worker.progress.records >= 25 and worker.is_settled, "after", within_s=90)
        found = (await log.events())[BED_1]
        return sum(isinstance(event, ReadingJudged) for event in found), len(await states(log))

    try:
        assert asyncio.run(story()) == (5, 1)
    finally:
        own.stop()


def test_missing_data_is_judged_only_after_all_records_are_read(kafka: Kafka) -> None:
    log = Log(kafka)

    async def story() -> list[Event]:
        await log.begin(partitions=1)
        # The clock says ten minutes later, and what was measured meanwhile lies in the log.
        await log.put([reading(n * 5 * SECOND) for n in range(120)])
        config = log.worker(tick_slack_ms=0, fetch_records=7)
        async with working(config, WallAt(NOW + 10 * MINUTE)) as worker:
            await until(of_all(worker, 120), "all")
        return (await log.events())[BED_1]

    rules = {event.rule_id for event in asyncio.run(story()) if isinstance(event, AlarmChanged)}
    assert "no_data" not in rules


def test_missing_and_unequal_topics_are_named_with_the_fix(kafka: Kafka) -> None:
    log = Log(kafka)

    async def missing() -> None:
        await check_topics(log.config)

    async def uneven() -> None:
        await create_topics(log.config, partitions=2)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.delete_topics([topic(log.config, KAFKA_STATE)])
        await admin.close()
        while topic(log.config, KAFKA_STATE) not in await made(log, partitions=3):
            await asyncio.sleep(0.1)
        async with asyncio.timeout(PATIENCE_S):
            while True:  # a broker hears a moment later what its controller has done
                try:
                    await check_topics(log.config)
                except KafkaUnusable as error:
                    if "has 3 partitions" in str(error):
                        raise
                await asyncio.sleep(0.1)

    with pytest.raises(KafkaUnusable, match="vitalloom topics init"):
        asyncio.run(missing())
    with pytest.raises(KafkaUnusable, match=r"vl\.state\.v1 has 3 partitions"):
        asyncio.run(uneven())


def test_a_worker_without_kafka_waits_for_it(tmp_path: Path) -> None:
    own = Kafka(tmp_path / "kafka")
    log = Log(own)

    async def story() -> int:
        worker = VitalsConsumer(WorkerConfig(kafka=log.config, commit_ms=50), WallAt(NOW))
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.2)
        await asyncio.to_thread(own.start)
        await log.begin()
        await log.put([reading(0)])
        await until(of_all(worker, 1), "it came")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return worker.progress.messages

    try:
        assert asyncio.run(story()) == 1
    finally:
        own.stop()


async def put(log: Log, *values: bytes, name: str = KAFKA_READINGS) -> None:
    sender = producer(log.config)
    await sender.start()
    for value in values:
        await sender.send_and_wait(topic(log.config, name), key=BED_1.encode(), value=value)
    await sender.stop()


async def made(log: Log, *, partitions: int = 4) -> list[str]:
    """Create topics, and retry while topics of the same name are still being deleted."""
    try:
        return await create_topics(log.config, partitions=partitions)
    except KafkaUnusable:
        return []


async def states(log: Log) -> list[bytes]:
    newest = {one.key: one.value for one in await log.records(KAFKA_STATE)}
    return sorted(decode_state_row(value).snapshot for value in newest.values())
