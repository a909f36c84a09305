"""The desk's ports: what holds for a desk on Kafka holds for a desk on the embedded engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from runtime.clock import SystemClock
from stream.desk.desk import Place
from stream.desk.process import DeskProcess, desk_config, opened_desk
from tests.patience import PATIENCE_S
from tests.services.receivers import Webhook, webhooks
from tests.stream.desk.alarms import an_id, told_by_edge
from tests.stream.desk.data_centres import Cluster, DataCentre, Embedded, an_ill_reading
from tests.stream.desk.desks import DeskHouse
from vitals.entry_form import EntryForm
from vitals.messages import BindingPeriod
from wire.stays import KnownStay

MINUTE = 60_000
WITHOUT = "0a" * 16
"""The binding of a patient of whom nothing is ever heard."""

Story = Callable[[DataCentre, "Rounds"], Awaitable[None]]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.services)])
def centre(request: pytest.FixtureRequest, tmp_path: Path) -> DataCentre:
    if request.param == "kafka":
        return Cluster(request.getfixturevalue("kafka"))
    return Embedded(tmp_path)


class Rounds:
    """One desk's folder, and desks that are started and stopped on it one after the other."""

    def __init__(self, folder: Path, centre: DataCentre, phone: Webhook) -> None:
        ways = {"push": phone.url, "sms": phone.url}
        self._house = DeskHouse(folder, centre.kafka, {"anna": ways, "ben": {"push": phone.url}})
        self._centre = centre
        self.phone = phone

    @contextlib.asynccontextmanager
    async def desk(self) -> AsyncIterator[DeskProcess]:
        config = desk_config(self._house.config)
        ports = self._centre.source(), self._centre.sink()
        with opened_desk(
            config, None, *ports, SystemClock(), place_of=lambda _: Place(), patients=lambda: None
        ) as process:
            running = asyncio.create_task(process.run())
            try:
                yield process
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running


def play(centre: DataCentre, folder: Path, story: Story) -> list[str]:
    """Titles of the messages that were sent."""

    async def run(phone: Webhook) -> None:
        await centre.begin()
        try:
            await story(centre, Rounds(folder, centre, phone))
        finally:
            await centre.end()

    with webhooks("takes") as (phone,):
        asyncio.run(run(phone))
        return phone.titles


def test_an_alarm_calls_and_an_answer_reaches_the_patient_s_monitor_and_ends_calling(
    centre: DataCentre, tmp_path: Path
) -> None:
    async def story(centre: DataCentre, rounds: Rounds) -> None:
        async with rounds.desk() as process:
            await centre.receive(an_ill_reading(1))
            await until(lambda: bool(rounds.phone.taken))
            for one in process.desk.standing():
                alarm = one.kept.alarm
                process.desk.acknowledge(alarm.alarm_id, by="anna", revision=alarm.revision)
            await until(lambda: all(one.kept.is_confirmed for one in process.desk.standing()))
            assert {one.kept.alarm.acknowledged_by for one in process.desk.standing()} == {"anna"}
            assert not any(one.calls for one in process.desk.standing())
            await until(lambda: process.desk.to_pass_on() == [])

    assert play(centre, tmp_path, story)[0].startswith("*** high alarm, stay 000000")


def test_a_patient_without_a_wearable_is_an_alarm_and_the_end_of_the_binding_ends_it(
    centre: DataCentre, tmp_path: Path
) -> None:
    now_ms = SystemClock().now_ms()
    began = BindingPeriod(stay_id=WITHOUT, from_ms=now_ms - 11 * MINUTE, heard_ms=now_ms - 11 * MINUTE)
    ended = msgspec.structs.replace(began, to_ms=now_ms, heard_ms=now_ms)

    async def story(centre: DataCentre, rounds: Rounds) -> None:
        async with rounds.desk() as process:
            await centre.receive(began)
            await centre.receive(msgspec.structs.replace(began, heard_ms=now_ms))  # told again: what is read is live
            await until(lambda: bool(process.desk.standing()))
            (standing,) = process.desk.standing()
            assert (standing.kept.alarm.rule_id, standing.calls) == ("no_data", True)
            assert standing.kept.alarm.text.endswith("its edge is not heard")
            await centre.receive(ended)
            await until(lambda: process.desk.standing() == [])
            over = process._book.alarms.get(standing.kept.alarm.alarm_id)
            assert over is not None
            assert over.alarm.text.startswith("monitoring ended at ")
            assert (over.alarm.stay_ended, over.answered_by) == (True, None)

    play(centre, tmp_path, story)


def test_the_end_of_a_binding_ends_the_calls_also_for_what_only_an_edge_has_found(
    centre: DataCentre, tmp_path: Path
) -> None:
    async def story(centre: DataCentre, rounds: Rounds) -> None:
        async with rounds.desk() as process:
            ill = an_ill_reading(1)
            await centre.receive(ill)
            now_ms = SystemClock().now_ms()
            found = told_by_edge(7, arrived_ms=now_ms, at_ms=now_ms, rule_id="low_spo2")
            by_edge = msgspec.structs.replace(found, stay_id=ill.stay_id)
            await centre.receive_from_edge(by_edge)
            await until(lambda: len(process.desk.standing()) >= 2 and bool(rounds.phone.taken))
            from_ms = now_ms - MINUTE
            await centre.receive(BindingPeriod(stay_id=ill.stay_id, from_ms=from_ms, to_ms=now_ms, heard_ms=now_ms))
            await until(lambda: process.desk.standing() == [])
            await until(lambda: not process._book.deliveries.waiting())
            late = msgspec.structs.replace(by_edge, alarm=told_by_edge(8, at_ms=now_ms).alarm)
            await centre.receive_from_edge(late)
            await centre.receive(an_ill_reading(2))  # of another patient: what came before it has been read
            await until(lambda: bool(process.desk.standing()))
            others = {one.kept.alarm.stay_id for one in process.desk.standing()}
            assert others == {an_ill_reading(2).stay_id}

    play(centre, tmp_path, story)


def test_a_silence_reaches_the_patient_s_monitor(centre: DataCentre, tmp_path: Path) -> None:
    async def story(centre: DataCentre, rounds: Rounds) -> None:
        async with rounds.desk() as process:
            await centre.receive(an_ill_reading(1))
            await until(lambda: bool(rounds.phone.taken))
            alarm = process.desk.standing()[0].kept.alarm
            active_silence = process.desk.silence(alarm.alarm_id, by="anna", minutes=5, revision=alarm.revision)
            await until(lambda: silenced_until(process, alarm.alarm_id) == active_silence.told_until_ms)
            assert [one.calls for one in process.desk.standing() if one.kept.alarm.rule_id == alarm.rule_id] == [False]

    play(centre, tmp_path, story)


def test_a_desk_that_was_away_calls_for_what_it_missed_and_opens_nothing_twice(
    centre: DataCentre, tmp_path: Path
) -> None:
    async def story(centre: DataCentre, rounds: Rounds) -> None:
        async with rounds.desk() as process:
            await centre.receive(an_ill_reading(1))
            await until(lambda: bool(rounds.phone.taken))
            before = {one.kept.alarm.alarm_id for one in process.desk.standing()}
        await centre.receive(an_ill_reading(2))
        rounds.phone.taken.clear()
        async with rounds.desk() as process:
            await until(lambda: any("00000002" in title for title in rounds.phone.titles))
            new = {one.kept.alarm.alarm_id for one in process.desk.standing()} - before
            assert process.desk.counts.opened == len(new) > 0
            records = process.desk.counts.records
        async with rounds.desk() as process:
            await until(lambda: process.trouble() == "")
            assert process.desk.counts.records == 0 < records

    play(centre, tmp_path, story)


def test_an_answer_that_is_given_while_the_engine_is_down_is_applied_later(centre: DataCentre, tmp_path: Path) -> None:
    async def story(centre: DataCentre, rounds: Rounds) -> None:
        async with rounds.desk() as process:
            await centre.receive(an_ill_reading(1))
            await until(lambda: bool(rounds.phone.taken))
            await centre.stop_engine()
            for one in process.desk.standing():
                alarm = one.kept.alarm
                process.desk.acknowledge(alarm.alarm_id, by="anna", revision=alarm.revision)
            assert not any(one.kept.is_confirmed or one.calls for one in process.desk.standing())
        async with rounds.desk() as process:  # and the desk is started again as well
            await centre.start_engine()
            await until(lambda: all(one.kept.is_confirmed for one in process.desk.standing()))
            assert process.desk.standing()

    play(centre, tmp_path, story)


def test_an_alarm_that_only_an_edge_has_found_calls_and_is_answered(centre: DataCentre, tmp_path: Path) -> None:
    async def story(centre: DataCentre, rounds: Rounds) -> None:
        now_ms = SystemClock().now_ms()
        async with rounds.desk() as process:
            await centre.receive_from_edge(told_by_edge(7, arrived_ms=now_ms, at_ms=now_ms, onset_ms=now_ms))
            await until(lambda: bool(rounds.phone.taken))
            (one,) = process.desk.standing()
            process.desk.acknowledge(an_id(7), by="anna", revision=one.kept.alarm.revision)
            await until(lambda: process.desk.counts.passed_on == 1 and process.desk.to_pass_on() == [])
            assert not process.desk.standing()[0].calls

    assert play(centre, tmp_path, story)[0].startswith("*** high alarm, stay abababab")


def test_what_a_nurse_entered_while_the_engine_was_away_raises_the_alarm_once(
    centre: DataCentre, tmp_path: Path
) -> None:
    now_ms = SystemClock().now_ms()
    stay = KnownStay(WITHOUT, "12", "P-1", now_ms - MINUTE, None)
    seen = EntryForm(id="0c" * 16, consciousness="C", respiratory_rate=28, supplemental_oxygen=2)

    def enter(process: DeskProcess) -> None:
        process.desk.observing.enter(stay, seen.observation(WITHOUT, by="anna", now_ms=SystemClock().now_ms()))

    async def story(centre: DataCentre, rounds: Rounds) -> None:
        async with rounds.desk() as process:
            await until(lambda: bool(process.url))
            await centre.receive(BindingPeriod(stay_id=WITHOUT, from_ms=now_ms - MINUTE, heard_ms=now_ms))
            await centre.stop_engine()
            enter(process)
            enter(process)  # her terminal heard no answer
        async with rounds.desk() as process:  # and the desk is started again as well
            await centre.start_engine()
            await until(lambda: process.desk.to_pass_on() == [] and bool(process.desk.standing()))
            texts = [one.kept.alarm.text for one in process.desk.standing()]
            assert any("ACVPU C (+3)" in text for text in texts), texts
            (shown,) = process.desk.observing.of(WITHOUT)
            assert shown.is_sent

    play(centre, tmp_path, story)


def silenced_until(process: DeskProcess, alarm_id: bytes) -> int | None:
    found = [one.kept.alarm for one in process.desk.standing() if one.kept.alarm.alarm_id == alarm_id]
    return found[0].silenced_until_ms if found else None


async def until(condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)
