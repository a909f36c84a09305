"""Attacks on a cluster, by their numbers in docs/security.md.

By somebody who can write to Kafka, whose words go to the database, or who answers alarms that are not theirs to answer.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import passwords
from stream.kafka import topics_status
from stream.records import AlarmRecord, JudgementRecord, ReadingRecord, decode_dead_letter, encode_record
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.stream.cluster import Log, until, working
from tests.stream.desk.alarms import MINUTE, NOW, an_alarm, an_id, told
from tests.stream.desk.test_http import Ward, served
from tests.stream.engine.test_partitions import put
from tests.stream.nights import BED_1, BED_2, reading
from tests.stream.receiving_site import HOUR, SECOND
from tests.stream.store.test_writer import Site
from vitals.messages import AlarmState, ReadingJudged, WindowOutdated
from wire.topics import KAFKA_ALARMS, KAFKA_DEAD_LETTERS, KAFKA_STATE

pytestmark = pytest.mark.services

OUTDATED = WindowOutdated(stay_id=BED_1, sign="spo2", start_ms=0, width_ms=60_000)
POISON = {
    "nothing": b"",
    "nonsense": b"nonsense",
    "a record of another topic": encode_record(JudgementRecord(stay_id=BED_1, events=(OUTDATED,))),
    "values of another kind": msgspec.msgpack.encode(["arrived", [["reading", "x" * 32, 1]], None, 1]),
    "arrays without end": b"\x91" * 200_000,
    "most of a megabyte": b"\xc6" + (900_000).to_bytes(4) + bytes(900_000),
    "half a reading": encode_record(ReadingRecord(messages=(reading(0),)))[:40],
}


def test_a31_invalid_records_written_to_kafka_stop_no_partition(kafka: Kafka) -> None:
    log = Log(kafka)

    async def story() -> tuple[dict[str, int], list[Any], set[str]]:
        await log.begin(partitions=1)
        for n, poison in enumerate(POISON.values()):
            await log.put([reading(n * SECOND), reading(n * SECOND, bed=BED_2)])
            await put(log, poison)
        async with working(log.worker(tick_slack_ms=HOUR)) as worker:
            await until(lambda: worker.progress.dead_letters == len(POISON) and worker.all_committed, "buried")
            taken = worker.progress.acquired
        found = {
            bed: sum(isinstance(one, ReadingJudged) for one in these) for bed, these in (await log.events()).items()
        }
        assert taken == 1  # what cannot be read is no reason to begin anew
        assert {one[2] for one in (await topics_status(log.config)).behind if one[0].endswith("-vitals")} == {0}
        letters = [decode_dead_letter(one.value) for one in await log.records(KAFKA_DEAD_LETTERS)]
        return found, letters, {one.key.decode() for one in await log.records(KAFKA_STATE)}

    judged, letters, known = asyncio.run(story())
    assert judged == {BED_1: len(POISON), BED_2: len(POISON)}
    assert known == {BED_1, BED_2}
    assert [(one.stage, one.reason) for one in letters] == [("processor", "schema")] * len(POISON)
    assert all(len(one.payload) <= 64 * 1024 for one in letters)


@pytest.mark.parametrize(
    "text",
    [
        'x" ,heart_rate=0 1\nvitals,binding=' + BED_2 + " heart_rate=0 1",
        "back\\slash\\",
        "comma, space = equals",
        "'; DROP BUCKET vitals; --",
        '") |> drop() //',
        "ünïcode ☃ \t",
    ],
)
def test_a32_text_written_by_people_is_stored_as_text(
    kafka: Kafka, influxdb: InfluxDB, tmp_path: Path, text: str
) -> None:
    site = Site(kafka, influxdb, tmp_path)
    alarm = an_alarm(acknowledged_by=text, acknowledged_ms=NOW, text=text)

    async def story() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        await site.begin()
        await put(site.log, encode_record(AlarmRecord(alarm=alarm)), name=KAFKA_ALARMS)
        async with site.writing() as writer:
            await until(lambda: writer.counts["alarms"].records == 1, "written")
        return await site.rows("alarm"), await site.rows("vitals")

    alarms, vitals = asyncio.run(story())
    in_a_line = text.replace("\n", " ")
    assert [(one["text"], one["acknowledged_by"]) for one in alarms] == [(in_a_line, in_a_line)]
    assert vitals == []


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    monkeypatch.setattr(passwords, "_MEMORY_KIB", 64)
    with served(Ward(tmp_path)) as made:
        made.hear(told())
        yield made


def test_a33_a_forged_an_expired_and_a_foreign_answer_leave_the_alarm_unanswered(ward: Ward) -> None:
    revision = ward.desk.standing()[0].kept.escalation.alarm.revision
    good = ward.token()
    ward.users.put("eve", "a password of her own", now_ms=ward.clock.now_ms())
    of_one_who_left = str(ward.log_in("eve", "a password of her own")[1]["token"])
    ward.users.remove("eve")
    bodies: list[tuple[str, str, object]] = [
        ("forged", good[:-2] + ("AA" if good[-2:] != "AA" else "BB"), {"revision": revision}),
        ("of one who has left", of_one_who_left, {"revision": revision}),
        ("none", "", {"revision": revision}),
    ]
    path = f"/v1/alarms/{an_id().hex()}/acknowledge"
    refused = [ward.ask("POST", path, body, token=token)[0] for _, token, body in bodies]
    foreign = [
        ward.ask("POST", f"/v1/alarms/{(b'f' * 16).hex()}/acknowledge", {"revision": revision}, token=good)[0],
        ward.ask("POST", path, {"revision": revision - 1}, token=good)[0],
        ward.ask("POST", path, {"revision": revision, "by": "somebody else"}, token=good)[0],
        ward.ask("GET", f"{path}?token={good}")[0],
    ]
    ward.clock.advance(12 * 60 * MINUTE)
    expired = ward.ask("POST", path, {"revision": revision}, token=good)[0]

    assert refused == [401, 401, 401]
    assert all(400 <= one < 500 for one in foreign), foreign
    assert expired == 401
    (standing,) = ward.desk.standing()
    assert not standing.kept.is_answered
    assert standing.kept.escalation.alarm.state is AlarmState.ACTIVE
    assert standing.kept.escalation.begins_ms is not None  # it still waits for somebody
