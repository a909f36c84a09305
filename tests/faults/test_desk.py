"""An alarm desk that is killed at any instruction, and failing services: every red alarm reaches a person."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.errors import DeskCommandFailed
from stream.kafka import producer, topic
from stream.records import AlarmRecord, decode_patient_record, encode_record
from tests.faults.failing_desk import POINTS
from tests.patience import PATIENCE_S
from tests.services.kafka import Kafka
from tests.services.receivers import Mail, Webhook, webhooks
from tests.stream.cluster import Log
from tests.stream.desk.alarms import an_alarm, an_id
from tests.stream.desk.desks import DeskHouse, Person
from vitals.messages import Acknowledge, AlarmChanged, AlarmState, Priority
from wire.topics import KAFKA_ALARMS, KAFKA_ENTRIES

pytestmark = pytest.mark.services


def until(condition: Callable[[], bool], house: DeskHouse, *, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, house.said()
        time.sleep(0.05)


def begun(log: Log) -> None:
    asyncio.run(log.begin())


def put(log: Log, *alarms: AlarmChanged) -> None:
    """Write alarms to Kafka, as workers do."""

    async def send() -> None:
        sender = producer(log.config)
        await sender.start()
        try:
            for one in alarms:
                value = encode_record(AlarmRecord(alarm=one))
                await sender.send_and_wait(topic(log.config, KAFKA_ALARMS), key=one.stay_id.encode(), value=value)
        finally:
            await sender.stop()

    asyncio.run(send())


def ordered(log: Log) -> list[Acknowledge]:
    found = [decode_patient_record(record.value).message for record in asyncio.run(log.records(KAFKA_ENTRIES))]  # type: ignore[union-attr]
    return [one for one in found if isinstance(one, Acknowledge)]


def one_of(person: Person, number: int) -> dict[str, object]:
    return next(one for one in person.alarms() if one["id"] == an_id(number).hex())


def calls_of(hook: Webhook, number: int) -> int:
    """Number of calls for an alarm."""
    return sum(f"Alarm {an_id(number).hex()[:8]}" in one["message"] for one in hook.taken)


def now_alarm(number: int, **changes: object) -> AlarmChanged:
    now_ms = time.time_ns() // 1_000_000
    return an_alarm(number, stay_id=f"{number:032x}", at_ms=now_ms, onset_ms=now_ms, **changes)


def test_a_desk_killed_at_any_point_calls_for_every_red_alarm_and_keeps_every_answer(
    kafka: Kafka, tmp_path: Path
) -> None:
    log = Log(kafka)
    begun(log)
    with webhooks("takes", "takes", "takes") as (push, sms, second):
        house = DeskHouse(
            tmp_path, log.config, {"anna": {"push": push.url, "sms": sms.url}, "ben": {"push": second.url}}
        )
        try:
            for number, point in enumerate(POINTS[:3], start=1):
                put(log, now_alarm(number))
                house.start(point=point)
                assert house.ended() == -9, house.said()
            put(log, now_alarm(4))
            house.started(point="answered")
            anna = house.anna()
            until(lambda: len(anna.alarms()) == 4, house)
            with contextlib.suppress(DeskCommandFailed):  # it died, and she does not know whether it was heard
                anna.acknowledge(one_of(anna, 4))
            assert house.ended() == -9, house.said()
            house.start(point="ordered")
            assert house.ended() == -9, house.said()

            house.started()
            anna = house.anna()
            answers = {one["id"]: one["acknowledged_by"] for one in anna.alarms()}
            until(lambda: all(calls_of(push, number) for number in (1, 2, 3, 4)), house)
            for number in (1, 2, 3):
                anna.acknowledge(one_of(anna, number))
            until(lambda: {one.alarm_id for one in ordered(log)} == {an_id(number) for number in (1, 2, 3, 4)}, house)
            time.sleep(1.0)  # what was on its way has arrived
            heard = len(push.taken) + len(sms.taken) + len(second.taken)
            time.sleep(2.0)  # longer than the pauses of the ladder
            assert len(push.taken) + len(sms.taken) + len(second.taken) == heard
            took = house.stop()
        finally:
            house.end()

    assert answers == {an_id(1).hex(): None, an_id(2).hex(): None, an_id(3).hex(): None, an_id(4).hex(): "anna"}
    assert {one.by for one in ordered(log)} == {"anna"}
    assert all("Not a certified medical device." in one["message"] for one in push.taken)
    assert "s3cr3t" not in house.said()
    assert took < 10


def test_the_next_channel_is_used_and_a_hanging_service_delays_no_other(kafka: Kafka, tmp_path: Path) -> None:
    # push fails, sms hangs, mail takes: the first alarm reaches the mail of ben; then push recovers and is tried again.
    log = Log(kafka)
    begun(log)
    with webhooks("fails", "hangs") as (push, sms), Mail() as mail:
        house = DeskHouse(tmp_path, log.config, {"anna": {"push": push.url, "sms": sms.url}, "ben": {"push": mail.url}})
        try:
            house.started()
            put(log, now_alarm(1), now_alarm(2))
            until(lambda: len(mail.messages) >= 2, house)
            assert sms.tried  # the next channel
            assert push.taken == []
            push.mood = "takes"
            until(lambda: len(push.taken) >= 2, house)
            metrics = house.says("metrics")[1]
            took = house.stop()  # a thread still waits for the one that hangs
        finally:
            house.end()

    assert 'vitalloom_errors_total{stage="notify"}' in metrics
    assert took < 10


def test_silences_and_answers_survive_a_restart_and_red_alarms_break_a_silence(kafka: Kafka, tmp_path: Path) -> None:
    log = Log(kafka)
    begun(log)
    with webhooks("takes", "late") as (push, sms):
        sms.late_s = 0.7  # after its time, every time
        house = DeskHouse(tmp_path, log.config, {"anna": {"push": push.url, "sms": sms.url}, "ben": {"push": push.url}})
        try:
            house.started()
            amber = now_alarm(1, priority=Priority.MEDIUM)
            put(log, amber)
            until(lambda: bool(push.taken), house)
            anna = house.anna()
            (alarm,) = anna.alarms()
            anna.silence(alarm)
            house.stop()

            house.started()
            time.sleep(0.8)
            heard = len(push.taken)
            anna = house.anna()
            (alarm,) = anna.alarms()
            assert alarm["silenced_until_ms"] is not None
            assert not alarm["calling"]
            time.sleep(1.8)
            assert len(push.taken) == heard

            put(log, an_alarm(1, **{**_same(amber), "revision": 1, "priority": Priority.HIGH}))
            until(lambda: len(push.taken) > heard, house, within_s=5)
            (alarm,) = anna.alarms()
            with pytest.raises(DeskCommandFailed, match="has changed since you looked"):
                anna.client.acknowledge(alarm["id"], revision=0)
            put(log, an_alarm(1, **{**_same(amber), "revision": 2, "state": AlarmState.CLEARED}))
            until(lambda: anna.alarms() == [], house)
            took = house.stop()
        finally:
            house.end()

    assert push.titles[-1].startswith("*** high alarm")
    assert took < 10


def _same(alarm: AlarmChanged) -> dict[str, object]:
    return {"stay_id": alarm.stay_id, "at_ms": alarm.at_ms, "onset_ms": alarm.onset_ms}
