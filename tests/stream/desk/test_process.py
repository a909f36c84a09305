"""The process of the desk: what it is told, and the whole way from a reading to an answer in the patient's record."""

import asyncio
import contextlib
import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runtime.clock import SystemClock
from runtime.config import load
from runtime.errors import ConfigError
from stream.config import DeskConfig, KafkaConfig
from stream.desk import process, texts
from stream.desk.book import BOOK_FILE, DeskBook
from stream.desk.commands import desk as desk_command
from stream.desk.desk import AlarmDesk
from stream.desk.kafka_ports import KafkaAlarmSource, KafkaEntrySink
from stream.desk.notify import Addresses
from stream.desk.ports import SourceRecord
from stream.desk.process import Beds, DeskProcess, desk_config
from stream.engine.plain import PlainWorker
from stream.errors import DeskUnusable
from tests.patience import PATIENCE_S
from tests.services.kafka import Kafka
from tests.services.receivers import Webhook, webhooks
from tests.stream.cluster import Log
from tests.stream.desk.alarms import kept, told
from tests.stream.desk.desks import DeskHouse
from vitals.messages import Reading
from wire.identity import BindingRecord, InMemoryDirectory

RUN = CliRunner()
SAMPLE = Path(process.__file__).with_name("sample.toml")


# What it is told


def test_the_sample_shows_every_key_and_its_default(tmp_path: Path) -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    lines = [re.sub(r"^# (?=[a-z_]+ = |\[)", "", line) for line in text.splitlines()]
    told = tmp_path / "desk.toml"
    told.write_text("\n".join(line for line in lines), encoding="utf-8")

    found, default = load(DeskConfig, told, env_prefix="NONE"), DeskConfig()

    # A ladder that is written out is no longer left to the default, but it is the same; one that orders name is new.
    ladders = found.policy.ladders()
    assert {name: one for name, one in ladders if not name.startswith("named.")} == dict(default.policy.ladders())
    assert (found.policy.high, found.policy.receipt_ms) == (default.policy.high, default.policy.receipt_ms)
    examples = {"roles", "site", "kafka", "api", "clock_file", "policy"}
    same = [name for name in DeskConfig.__struct_fields__ if name not in examples]
    assert {name: getattr(found, name) for name in same} == {name: getattr(default, name) for name in same}
    for name in DeskConfig.__struct_fields__:
        assert re.search(rf"^(# )?\[?{name}\b", text, re.MULTILINE), name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('detail = "all"', 'detail = "all" must be "none" or "values"'),
        ('[api]\nlisten = "0.0.0.0:8095"', "would send passwords unencrypted"),
        ('[api]\nlisten = "here"', "is not host:port"),
        ("[api]\nlongest_silence_minutes = 0", "longest_silence_minutes must be between 1 and 1440"),
        ("[policy.high]\nsteps = []", "red alarms must be escalated"),
        ("digest_after = 0", "must be 1 or more"),
        ('[api]\nlisen = "127.0.0.1:1"', "lisen"),
    ],
)
def test_an_invalid_configuration_names_the_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=says):
        desk_config(path)


@pytest.mark.parametrize(
    ("roles", "addresses", "says"),
    [
        (
            {"nurse": ("anna",)},
            '[anna]\npush = "json://h"',
            r"roles.second: the policy calls this role, but it has no person",
        ),
        ({"nurse": ("eve",)}, '[anna]\npush = "json://h"', "has no address of eve, who has the role nurse"),
        (
            {"nurse": ("anna",)},
            '[anna]\npager = "json://h"',
            "the role nurse is called by push, sms, call, but anna has no such address",
        ),
    ],
)
def test_people_who_cannot_be_called_are_named(tmp_path: Path, roles: Any, addresses: str, says: str) -> None:
    path = tmp_path / "addresses.toml"
    path.write_text(addresses, encoding="utf-8")
    path.chmod(0o600)

    with pytest.raises(DeskUnusable, match=says):
        process.check(DeskConfig(addresses=path, roles=roles))


def test_users_are_added_listed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(f'data = "{tmp_path}/data"', encoding="utf-8")

    def says(*arguments: str, given: str = "") -> str:
        return RUN.invoke(desk_command, ["user", *arguments, "--config", str(path)], input=given).stdout

    assert "no users" in says("list")
    assert "user anna is added" in says("add", "anna", given="a long way from home\n")
    assert says("list") == "anna\n"
    assert says("remove", "anna") == "user anna is removed\n"
    assert "no users" in says("list")


def test_a_test_message_goes_to_every_address_and_says_who_took_it(tmp_path: Path) -> None:
    with webhooks("takes", "fails") as (good, bad):
        addresses = tmp_path / "addresses.toml"
        addresses.write_text(f'[anna]\npush = "{good.url}"\nsms = "{bad.url}"', encoding="utf-8")
        addresses.chmod(0o600)
        path = tmp_path / "desk.toml"
        path.write_text(f'addresses = "{addresses}"\nsite_name = "North"', encoding="utf-8")
        done = RUN.invoke(desk_command, ["--config", str(path), "try"])

    assert done.exit_code == 1
    assert "accepted:     anna/push (json)" in done.stdout
    assert "not accepted: anna/sms (json): the service answered 500" in done.stdout
    assert good.titles == ["Test of the alarm desk at North"]


# The whole way


class Running:
    """A desk in this process."""

    def __init__(self, house: DeskHouse) -> None:
        config = desk_config(house.config)
        self.book = DeskBook(config.data / BOOK_FILE)
        self.desk = AlarmDesk(config, self.book, Addresses(config.addresses), SystemClock())
        self.process = DeskProcess(
            config,
            self.desk,
            self.book,
            SystemClock(),
            KafkaAlarmSource(config.kafka),
            KafkaEntrySink(config.kafka),
            file=house.config,
        )


@pytest.mark.services
def test_from_a_reading_to_an_answer_in_the_patient_s_record(kafka: Kafka, tmp_path: Path) -> None:
    log = Log(kafka)

    async def story(push: Webhook, sms: Webhook) -> None:
        await log.begin()
        told = {"anna": {"push": push.url, "sms": sms.url}, "ben": {"push": push.url}}
        house = DeskHouse(tmp_path, log.config, told)
        running = Running(house)
        working = [
            asyncio.create_task(PlainWorker(log.worker(tick_slack_ms=0), SystemClock()).run()),
            asyncio.create_task(running.process.run()),
        ]
        try:
            await until(lambda: running.process.trouble() == "")
            await log.put([an_ill_reading()])
            await until(lambda: bool(sms.taken))  # push fails, so sms is taken at once
            assert push.taken == []
            anna = await asyncio.to_thread(house.anna)
            alarms = await asyncio.to_thread(anna.alarms)
            for alarm in alarms:
                await asyncio.to_thread(anna.acknowledge, alarm)
            await until(lambda: all(one.kept.is_confirmed for one in running.desk.standing()))
            assert {one.kept.alarm.acknowledged_by for one in running.desk.standing()} == {"anna"}
            await until(lambda: running.desk.to_pass_on() == [])
            await asyncio.sleep(0.6)
            heard = len(sms.taken)
            await asyncio.sleep(2)
            assert len(sms.taken) == heard
        finally:
            for task in working:
                task.cancel()
            for task in working:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            running.book.close()

    with webhooks("fails", "takes") as (push, sms):
        asyncio.run(story(push, sms))

    assert sms.titles[0].startswith("*** high alarm, stay 000000")


@pytest.mark.services
def test_a_change_of_shift_needs_no_restart_and_a_bad_one_changes_nothing(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LOOK_AT_FILES_S", 0.02)
    log = Log(kafka)

    async def story() -> None:
        await log.begin()
        house = DeskHouse(tmp_path, log.config, {"anna": {"push": "json://h"}, "ben": {"push": "json://h"}})
        running = Running(house)
        working = asyncio.create_task(running.process.run())
        try:
            await until(lambda: running.process.trouble() == "")
            text = house.config.read_text(encoding="utf-8")
            house.config.write_text(text.replace('nurse = ["anna"]', 'nurse = ["eve"]'), encoding="utf-8")
            await until(lambda: "has no address of eve" in running.process.trouble())
            assert running.desk.people.roles["nurse"] == ("anna",)
            house.config.write_text(text.replace('nurse = ["anna"]', 'nurse = ["ben"]'), encoding="utf-8")
            await until(lambda: running.desk.people.roles["nurse"] == ("ben",))
            assert running.process.trouble() == ""
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
            running.book.close()

    asyncio.run(story())


def test_without_kafka_it_calls_for_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CATCH_UP_S", 0.1)

    async def story(push: Webhook) -> str:
        told_ = {"anna": {"push": push.url}, "ben": {"push": push.url}}
        running = Running(DeskHouse(tmp_path, KafkaConfig(bootstrap="127.0.0.1:9"), told_))
        running.desk.hear([SourceRecord("alarms", 0, 0, told())])
        working = asyncio.create_task(running.process.run())
        try:
            await until(lambda: bool(push.taken))
            return running.process.trouble()
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
            running.book.close()

    with webhooks("takes") as (push,):
        trouble = asyncio.run(story(push))

    assert push.titles == ["*** high alarm, stay abababab, North"]
    assert trouble == "still reading the alarms that it missed"


@pytest.mark.services
def test_a_desk_with_unreachable_people_runs_reports_it_and_stops_on_sigterm(tmp_path: Path) -> None:
    with webhooks("takes") as (push,):
        house = DeskHouse(tmp_path, KafkaConfig(bootstrap="127.0.0.1:9"), {"anna": {"push": push.url}})
        try:
            house.start()
            deadline = time.monotonic() + PATIENCE_S
            while house.says("ready")[0] == 0:
                assert house.is_running, house.said()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            status, why = house.says("ready")
            alarms = house.anna().alarms()
            took = house.stop()
        finally:
            house.end()

    assert status == 503
    assert "has no address of ben, who has the role second" in why
    assert alarms == []
    assert took < 10
    assert "s3cr3t" not in house.said()


def an_ill_reading() -> Reading:
    now_ms = time.time_ns() // 1_000_000
    return Reading(
        stay_id=f"{7:032x}",
        reading_id=b"r" * 16,
        session_id=b"s" * 16,
        counter=0,
        at_ms=now_ms,
        received_ms=now_ms,
        arrived_ms=now_ms,
        respiratory_rate=26.0,
        spo2=89.0,
        heart_rate=125.0,
    )


async def until(condition: Any, *, within_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


class Registered(InMemoryDirectory):
    """A registry that does not change."""

    def refresh(self, mono_ms: int) -> bool:
        return False


def of_one_stay(number: int, **changes: Any) -> BindingRecord:
    whole = {
        "binding_id": bytes([number]) * 16,
        "stay_id": bytes([1]) * 16,
        "patient": "P-1",
        "bed": "North/1",
        "wearable_id": bytes([0xD0 + number]) * 16,
        "edge_id": b"e" * 16,
        "valid_from_ms": number,
    }
    return BindingRecord(**whole | changes)  # type: ignore[arg-type]


def test_two_devices_of_one_patient_are_one_patient_and_an_alarm_about_one_names_it() -> None:
    registered = Registered([], [of_one_stay(1, device_name="patch"), of_one_stay(2, device_name="oximeter")])
    registered.put(of_one_stay(3, stay_id=bytes([3]) * 16, patient="P-2", bed="North/2"))
    beds = Beds(registered, SystemClock())  # type: ignore[arg-type]

    assert beds.patients() == 2
    place = beds((bytes([1]) * 16).hex())
    assert (place.bed, place.patient) == ("North/1", "P-1")
    about_device = kept(told(key=(bytes([2]) * 16).hex()))
    assert texts.where(about_device, place.bed, place.patient, place.device(about_device.alarm.key)) == (
        "bed North/1, oximeter"
    )
    assert place.device("") == place.device("spo2") == ""


def test_the_bed_is_that_of_a_device_that_is_still_on_the_patient() -> None:
    taken_off = of_one_stay(2, bed="South/9", valid_to_ms=5, stay_goes_on=True)
    beds = Beds(Registered([], [of_one_stay(1), taken_off]), SystemClock())  # type: ignore[arg-type]

    assert beds((bytes([1]) * 16).hex()).bed == "North/1"
    assert beds.patients() == 1
