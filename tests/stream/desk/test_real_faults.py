"""A real desk on a real Kafka: topics that were made again, a clock that is set, a change of shift."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from runtime.clock import SystemClock
from stream.desk.desk import Place
from stream.desk.kafka_ports import KafkaAlarmSource, KafkaEntrySink
from stream.desk.process import DeskProcess, desk_config, opened_desk
from stream.kafka import connection, create_topics, producer, topic
from stream.records import encode_record
from tests.patience import PATIENCE_S
from tests.services.faketime import FakeTime
from tests.services.kafka import Kafka
from tests.services.receivers import webhooks
from tests.stream.cluster import Log
from tests.stream.desk.alarms import told
from tests.stream.desk.desks import DeskHouse
from vitals.messages import AlarmState
from wire.topics import KAFKA_ALARMS

pytestmark = pytest.mark.services


async def announce(log: Log, *numbers: int, state: AlarmState = AlarmState.ACTIVE) -> None:
    """Red alarms of one patient, as a worker would write them."""
    sender = producer(log.config)
    await sender.start()
    now_ms = SystemClock().now_ms()
    try:
        for number in numbers:
            alarm = told(number, rule_id=f"rule{number}", state=state, at_ms=now_ms, onset_ms=now_ms)
            key = alarm.alarm.stay_id.encode()
            await sender.send_and_wait(topic(log.config, KAFKA_ALARMS), key=key, value=encode_record(alarm))
    finally:
        await sender.stop()


async def make_topic_again(log: Log) -> None:
    admin = AIOKafkaAdminClient(**connection(log.config))
    name = topic(log.config, KAFKA_ALARMS)
    await admin.start()
    try:
        await admin.delete_topics([name])
        async with asyncio.timeout(PATIENCE_S):
            while name in await admin.list_topics():
                await asyncio.sleep(0.1)
            while name in await create_topics(log.config, partitions=1) or name not in await admin.list_topics():
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def until(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("running", [False, True], ids=["while it is down", "while it runs"])
def test_a_red_alarm_in_a_topic_that_was_made_again_is_called(kafka: Kafka, tmp_path: Path, running: bool) -> None:
    log = Log(kafka)

    async def story(phone: Any) -> None:
        await log.begin(partitions=1)
        house = DeskHouse(tmp_path, log.config, {"anna": {"push": phone.url}, "ben": {"push": phone.url}})
        config = desk_config(house.config)

        async def a_desk(act: Callable[[DeskProcess], Any]) -> None:
            ports = KafkaAlarmSource(log.config, verify_s=0.3), KafkaEntrySink(log.config)
            with opened_desk(
                config, None, *ports, SystemClock(), place_of=lambda _: Place(), patients=lambda: None
            ) as process:
                task = asyncio.create_task(process.run())
                try:
                    await act(process)
                finally:
                    task.cancel()
                    await asyncio.wait([task])

        def answer_all(process: DeskProcess) -> None:
            for one in process.desk.standing():
                alarm = one.kept.alarm
                process.desk.acknowledge(alarm.alarm_id, by="anna", revision=alarm.revision)

        def is_called(number: int) -> bool:
            return any(f"Alarm {number:08x}" in one["message"] for one in phone.taken)

        async def remade() -> None:
            await make_topic_again(log)
            await announce(log, 11)
            await announce(log, 1, 12, 13, 14, 15, state=AlarmState.CLEARED)  # as many offsets as before, and more
            await announce(log, 2)  # was answered, and is no worse

        async def before(process: DeskProcess) -> None:
            await until(lambda: process.trouble() == "")
            await announce(log, 1, 2, 3)
            await until(lambda: is_called(1) and is_called(2) and is_called(3))
            answer_all(process)
            phone.taken.clear()
            if running:
                await remade()
                await after(process)

        async def after(process: DeskProcess) -> None:
            await until(lambda: is_called(11))
            assert not is_called(2)
            assert process.desk.counts.other_logs == 1
            await until(lambda: process.trouble() == "")

        await a_desk(before)
        if not running:
            await remade()
            await a_desk(after)

    with webhooks("takes") as (phone,):
        asyncio.run(story(phone))


@pytest.mark.parametrize("step_h", [-1, 1])
def test_a_desk_whose_clock_is_set_goes_on_calling_and_says_so(kafka: Kafka, tmp_path: Path, step_h: int) -> None:
    log = Log(kafka)
    faketime = FakeTime(tmp_path / "clock")
    with webhooks("takes") as (phone,):
        asyncio.run(log.begin(partitions=1))
        house = DeskHouse(tmp_path, log.config, {"anna": {"push": phone.url}, "ben": {"push": phone.url}})
        try:
            house.started(environment=faketime.environment)
            asyncio.run(announce(log, 1))

            def calls() -> int:
                """About the patient: the clock is an alarm of its own, which calls as well."""
                return sum("clock" not in str(one) for one in phone.taken)

            def time_of_calls() -> float:
                began_s, before = time.monotonic(), calls()
                wait_for(lambda: calls() >= before + 6)
                return time.monotonic() - began_s

            wait_for(lambda: calls() >= 3)

            undisturbed_s = time_of_calls()
            faketime.set(days=step_h / 24)
            assert undisturbed_s / 2 <= time_of_calls() <= undisturbed_s * 4
            status, text = house.says("ready")
            assert status != 200
            assert "clock of this machine" in text
        finally:
            house.end()


def wait_for(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_at_a_change_of_shift_the_next_nurse_is_called_for_what_stands(kafka: Kafka, tmp_path: Path) -> None:
    log = Log(kafka)
    with webhooks("takes", "takes", "takes") as (anna, ben, eve):
        asyncio.run(log.begin(partitions=1))
        people = {"anna": {"push": anna.url}, "ben": {"push": ben.url}, "eve": {"push": eve.url}}
        house = DeskHouse(tmp_path, log.config, people)
        try:
            house.started()
            asyncio.run(announce(log, 1))
            wait_for(lambda: len(anna.taken) == 1)
            text = house.config.read_text(encoding="utf-8")
            house.config.write_text(text.replace('nurse = ["anna"]', 'nurse = ["eve"]'), encoding="utf-8")
            wait_for(lambda: len(eve.taken) == 1)
            assert len(anna.taken) == 1
        finally:
            house.end()
