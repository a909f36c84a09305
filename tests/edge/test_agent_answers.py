"""Answers of people reach the bedside: what was answered in the data centre does not sound there, and nothing more."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream
from stream.records import AnswerRecord
from tests.edge.benches import ILL, MINUTE, NOW, SECOND, UNLIMITED, Bench
from vitals.messages import Acknowledge, AlarmChanged, AlarmState, Priority
from vitals.plan import MonitoringPlan
from wire.answers import Answer, AnswerKind, build_answer
from wire.envelope import FrameClass, Stage
from wire.mqtt import Inbound
from wire.topics import parse


def an_ill_patient(folder: Path) -> tuple[Bench, AlarmChanged]:
    bench = Bench(folder)
    bench.begin()
    for second in range(0, 90, 5):
        bench.turn(bench.sealed(second * SECOND, **ILL))
        bench.pass_time(5 * SECOND)
        bench.hear(bench.cloud_says(Stage.DURABLE, bytes(16)))  # the cloud is there
    return bench, next(one for one in open_alarms(bench) if one.priority is Priority.HIGH)


def open_alarms(bench: Bench) -> list[AlarmChanged]:
    return [one for one in bench.agent._patients.open_alarms() if one.state is AlarmState.ACTIVE]


def answer(bench: Bench, alarm: AlarmChanged, **changes: Any) -> None:
    """The data centre says what a person has answered."""
    told = Answer(
        AnswerKind.ACKNOWLEDGED, int(alarm.priority), NOW, 0, bytes.fromhex(alarm.stay_id), alarm.alarm_id
    )._replace(**changes)
    me = bench.site.ingest.me
    edge_id = bench.site.edges[0].me.device_id
    bench.hear(build_answer(me.signing_key, told, sender=me.device_id, edge_id=edge_id))


def answer_all(bench: Bench, **changes: Any) -> None:
    for alarm in open_alarms(bench):
        if alarm.priority is Priority.HIGH:
            answer(bench, alarm, **changes)


def sounds_without_the_cloud(bench: Bench) -> bool:
    bench.pass_time(2 * MINUTE)
    return (bench.folder / "local_alarm").exists() and (bench.folder / "local_alarm").read_text() == "on\n"


def test_an_alarm_that_nobody_answered_sounds_at_the_bedside_when_the_cloud_is_lost(tmp_path: Path) -> None:
    bench, _ = an_ill_patient(tmp_path)

    assert sounds_without_the_cloud(bench)


def test_an_alarm_that_was_acknowledged_does_not_even_after_a_restart(tmp_path: Path) -> None:
    bench, _ = an_ill_patient(tmp_path)
    told = len(bench.arrived(FrameClass.ALARM))

    answer_all(bench)
    answer_all(bench)  # again, with the next heartbeat

    assert told > 0
    assert bench.arrived(FrameClass.ALARM) == []  # the cloud said it, and need not be told
    bench.crash()
    assert {one.acknowledged_by for one in open_alarms(bench) if one.priority is Priority.HIGH} == {"alarm desk"}
    assert not sounds_without_the_cloud(bench)


def test_an_answer_that_the_data_centre_applied_reaches_the_bedside_with_its_own_alarm(tmp_path: Path) -> None:
    bench, _ = an_ill_patient(tmp_path)
    ingest, alarms = bench.site.ingest, dict[bytes, AlarmChanged]()
    with Store(tmp_path / "store.sqlite") as store:
        stream = EmbeddedStream(
            ingest.me, ingest.directory, store, lambda _: MonitoringPlan(), bench.clock, limits=UNLIMITED,
            on_alarm=lambda alarm: alarms.update({alarm.alarm_id: alarm}),
        )  # fmt: skip
        sent = [one for one in bench.hand.published if parse(one[0]).branch == "e"]
        stream.accept([Inbound(topic, frame, 1, mid) for mid, (topic, frame) in enumerate(sent)])
        high = [one for one in alarms.values() if one.priority is Priority.HIGH]

        async def answer_them() -> None:
            answering = [
                asyncio.create_task(stream.put_entry(AnswerRecord(message=Acknowledge(
                    stay_id=one.stay_id, alarm_id=one.alarm_id, by="anna", at_ms=bench.clock.now_ms(),
                    revision=one.revision,
                ))))
                for one in high
            ]  # fmt: skip
            await asyncio.sleep(0)
            stream.apply_entries()
            await asyncio.gather(*answering)

        asyncio.run(answer_them())
        frames: list[bytes] = []
        stream.send_answers_to_edges(lambda _topic, frame: frames.append(frame) is None)

    assert high
    assert len(frames) == len(high)
    for frame in frames:
        bench.hear(frame)
    assert not sounds_without_the_cloud(bench)


def test_an_alarm_that_was_silenced_sounds_when_the_silence_is_over(tmp_path: Path) -> None:
    bench, _ = an_ill_patient(tmp_path)
    answer_all(bench, kind=AnswerKind.SILENCED, at_ms=0, until_ms=bench.clock.now_ms() + 5 * MINUTE)

    assert not sounds_without_the_cloud(bench)
    assert not sounds_without_the_cloud(bench)
    assert sounds_without_the_cloud(bench)


@pytest.mark.parametrize(
    "changes",
    [
        {"priority": 2},  # the person saw something milder
        {"alarm_id": b"?" * 16},
        {"stay_id": b"?" * 16},
        {"kind": AnswerKind.SILENCED, "until_ms": NOW - SECOND},
    ],
)
def test_an_answer_to_something_else_changes_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    bench, _ = an_ill_patient(tmp_path)
    patients = len(bench.agent._patients._pipeline._patients)

    answer_all(bench, **changes)

    assert len(bench.agent._patients._pipeline._patients) == patients
    assert sounds_without_the_cloud(bench)


def test_an_answer_by_somebody_else_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    bench, alarm = an_ill_patient(tmp_path)
    told = Answer(AnswerKind.ACKNOWLEDGED, 3, NOW, 0, bytes.fromhex(alarm.stay_id), alarm.alarm_id)
    wearable = bench.site.wearables[0].me

    frame = build_answer(
        wearable.signing_key, told, sender=bench.site.ingest.me.device_id, edge_id=bench.site.edges[0].me.device_id
    )
    bench.hear(frame)

    assert bench.agent.counts.rejected["signature"] == 1
    assert sounds_without_the_cloud(bench)


def test_a_recorded_answer_does_not_stand_for_a_cloud_that_is_there(tmp_path: Path) -> None:
    bench, alarm = an_ill_patient(tmp_path)
    bench.clock.advance(2 * MINUTE)

    answer(bench, alarm, priority=1)

    assert (tmp_path / "local_alarm").read_text() == "on\n"
