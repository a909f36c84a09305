"""Observations at the desk: who may enter them, what is refused and why, and that each reaches the record once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runtime import passwords
from stream.desk import observe_commands
from stream.desk.book import DeskBook
from stream.desk.client import DeskClient
from stream.desk.observation_api import EnterObservation
from stream.desk.observing import EntryRate
from stream.engine.entries import forward_entry
from stream.errors import AlarmSourceLost, DeskCommandFailed, DeskRequestRefused
from stream.records import ObservationRecord, encode_record
from tests.stream.desk.alarms import BINDING, MINUTE, NOW
from tests.stream.desk.test_http import PASSWORD, Ward, served
from vitals.messages import Consciousness
from wire.stays import KnownStay

HOUR = 60 * MINUTE
RUN = CliRunner()
FIRST, SECOND, THIRD = "01" * 16, "02" * 16, "03" * 16


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    monkeypatch.setattr(passwords, "_MEMORY_KIB", 64)
    made = Ward(tmp_path)
    made.users.put("ben", PASSWORD, now_ms=NOW)
    with served(made) as ward:
        yield ward


def enter(ward: Ward, *, where: str = "12", token: str = "", name: str = FIRST, **values: Any) -> tuple[int, Any]:
    asked = {"id": name} | (values or {"consciousness": "A"})
    return ward.ask("POST", f"/v1/stays/{where}/observations", asked, token=token or ward.token())


def shown(ward: Ward, where: str = "12") -> list[dict[str, Any]]:
    status, found = ward.ask("GET", f"/v1/stays/{where}/observations", token=ward.token())
    assert status == 200
    return list(found["observations"])


# What is kept and forwarded


def test_an_observation_is_on_disk_and_on_its_way_when_it_is_confirmed(ward: Ward) -> None:
    status, done = enter(
        ward, consciousness="C", supplemental_oxygen=2, oxygen_device="nasal cannula", temperature=37.9
    )

    assert (status, done["by"], done["bed"], done["patient"], done["at_ms"]) == (200, "anna", "12", "P-1", NOW)
    assert done["words"] == [
        "consciousness: C, new confusion: newly disoriented, agitated or delirious",
        "oxygen: 2 L/min by nasal cannula",
        "body temperature: 37.9 °C",
    ]
    (pending,) = ward.desk.to_pass_on()
    assert isinstance(pending.entry, ObservationRecord)
    told = pending.entry.message
    assert (told.stay_id, told.by, told.observation_id.hex(), told.heard_ms) == (BINDING, "anna", FIRST, NOW)
    assert (told.consciousness, told.supplemental_oxygen) == (Consciousness.CONFUSION, 2.0)
    assert told.heart_rate is None
    key, value = forward_entry(encode_record(pending.entry))
    assert (key, value) == (BINDING.encode(), encode_record(pending.entry))


def test_the_same_request_again_is_answered_as_done_and_enters_nothing(ward: Ward) -> None:
    token = ward.token()
    _, first = enter(ward, token=token, temperature=37.9, off_minutes=20)
    ward.clock.advance(5 * MINUTE)

    status, again = enter(ward, token=token, temperature=37.9, off_minutes=20)

    assert (status, again) == (200, first)
    assert len(ward.desk.to_pass_on()) == 1
    assert len(shown(ward)) == 1


@pytest.mark.parametrize("values", [{"temperature": 38.9}, {"temperature": 37.9, "note": "more"}])
def test_an_id_cannot_be_used_for_something_else(ward: Ward, values: dict[str, Any]) -> None:
    enter(ward, temperature=37.9)

    status, answer = enter(ward, **values)

    assert (status, "another observation" in answer["problem"]) == (409, True)
    assert len(shown(ward)) == 1


def test_nobody_can_take_the_entry_of_another_person(ward: Ward) -> None:
    enter(ward, temperature=37.9)

    status, _ = enter(ward, token=ward.log_in("ben")[1]["token"], temperature=37.9)

    assert status == 409
    assert [one["by"] for one in shown(ward)] == ["anna"]


def test_who_enters_is_who_is_logged_in(ward: Ward) -> None:
    status, answer = enter(ward, temperature=37.9, by="carla")

    assert (status, "`by`" in answer["problem"]) == (400, True)
    assert enter(ward, token="x" * 43)[0] == 401
    assert ward.ask("GET", "/v1/stays/12/observations", token="x" * 43)[0] == 401
    assert ward.desk.to_pass_on() == []


def test_a_session_that_ended_enters_nothing(ward: Ward) -> None:
    token = ward.token()
    ward.clock.advance(13 * HOUR)

    assert enter(ward, token=token)[0] == 401
    assert ward.desk.to_pass_on() == []


# What is refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": 98.6}, ("temperature 98.6", "°F", "°C")),
        ({"inspired_oxygen": 0.4}, ("FiO2", "write 40")),
        ({"systolic_bp": 76, "diastolic_bp": 118}, ("76/118", "exchanged")),
        ({"heart_rate": 1e300}, ("heart rate", "/min")),
        ({"respiratory_rate": -3}, ("respiratory rate -3",)),
        ({"note": "\x1b[2J"}, ("printable",)),
        ({"note": "x" * 501}, ("note",)),
        ({"consciousness": "X"}, ("consciousness",)),
        ({"consciousness": "a"}, ("consciousness",)),
        ({"temperature": "37.9"}, ("temperature",)),
        ({"temperature": True}, ("temperature",)),
        ({"off_minutes": 0}, ("off_minutes",)),
        ({"off_minutes": 10_000}, ("off_minutes",)),
        ({"corrects": "ff"}, ("corrects",)),
        ({"at_ms": NOW + 2 * MINUTE, "temperature": 37.9}, ("future",)),
        ({"at_ms": NOW - 25 * HOUR, "temperature": 37.9}, ("24 hours",)),
        ({"at_ms": NOW - 2 * HOUR, "temperature": 37.9}, ("monitored since",)),
        ({"temp": 37.9}, ("`temp`",)),
        ({"note": "  "}, ("nothing is entered",)),
    ],
)
def test_what_cannot_be_right_is_refused_and_names_the_field(
    ward: Ward, values: dict[str, Any], words: tuple[str, ...]
) -> None:
    status, answer = enter(ward, **values)

    assert status == 400
    for word in words:
        assert word in answer["problem"]
    assert ward.desk.to_pass_on() == []
    assert shown(ward) == []


def test_a_note_of_ten_kilobytes_is_not_even_read(ward: Ward) -> None:
    assert enter(ward, note="x" * 10_240)[0] == 413


@pytest.mark.parametrize("name", ["", "0" * 31, "0" * 33, "g" * 32, "../../../../etc/passwd"])
def test_an_id_is_sixteen_bytes(ward: Ward, name: str) -> None:
    assert enter(ward, name=name)[0] == 400


def test_an_extreme_value_is_entered_once_it_is_confirmed(ward: Ward) -> None:
    status, answer = enter(ward, temperature=27.2)
    confirmed, _ = enter(ward, temperature=27.2, confirmed=True)

    assert (status, "27.2" in answer["problem"]) == (422, True)
    assert confirmed == 200
    assert len(ward.desk.to_pass_on()) == 1


def test_an_observation_of_an_hour_ago_keeps_its_time(ward: Ward) -> None:
    _, done = enter(ward, at_ms=NOW - 59 * MINUTE, temperature=37.9)

    assert (done["at_ms"], done["entered_ms"]) == (NOW - 59 * MINUTE, NOW)


def test_a_clock_that_is_some_seconds_ahead_enters_now(ward: Ward) -> None:
    _, done = enter(ward, at_ms=NOW + 20_000, temperature=37.9)

    assert done["at_ms"] == NOW


def test_nothing_is_entered_for_a_patient_who_was_discharged(ward: Ward) -> None:
    ward.stays = [KnownStay(BINDING, "12", "P-1", NOW - HOUR, NOW - MINUTE)]

    for where in ("12", "P-1", BINDING):
        status, answer = enter(ward, where=where)
        assert (status, "discharged at" in answer["problem"]) == (409, True)
    assert ward.desk.to_pass_on() == []


def test_an_unknown_patient_is_named(ward: Ward) -> None:
    status, answer = enter(ward, where="99")

    assert (status, "'99' is no bed" in answer["problem"]) == (404, True)


@pytest.mark.parametrize("where", ["%00", "%1b%5b2J", "x" * 65])
def test_a_name_with_control_characters_is_refused(ward: Ward, where: str) -> None:
    assert enter(ward, where=where)[0] == 400


def test_a_full_disk_enters_nothing_and_says_so(ward: Ward) -> None:
    token = ward.token()
    ward.book._db.execute("PRAGMA query_only = 1")

    status, answer = enter(ward, token=token)

    assert (status, "NOT done" in answer["problem"]) == (503, True)


def test_a_script_that_went_mad_is_stopped_and_others_are_not() -> None:
    now = [0]
    rate = EntryRate(3, lambda: now[0])
    for _ in range(3):
        rate.count("anna")

    with pytest.raises(DeskRequestRefused) as refused:
        rate.count("anna")
    rate.count("ben")
    now[0] = MINUTE
    rate.count("anna")

    assert (refused.value.status, refused.value.retry_s) == (429, 60)


# Corrections


def test_a_correction_names_what_it_replaces_and_both_stay(ward: Ward) -> None:
    enter(ward, temperature=39.7)
    ward.clock.advance(MINUTE)

    status, _ = enter(ward, name=SECOND, temperature=37.9, corrects=FIRST)

    newest, oldest = shown(ward)
    assert status == 200
    assert (newest["corrects"], newest["temperature"], newest["corrected_by"]) == (FIRST, 37.9, None)
    assert (oldest["corrected_by"], oldest["corrected_by_person"], oldest["temperature"]) == (SECOND, "anna", 39.7)
    original, correction = (one.entry.message for one in ward.desk.to_pass_on())
    assert isinstance(original, type(correction))
    assert getattr(correction, "corrects", b"") == bytes.fromhex(FIRST)


def test_an_entry_is_corrected_once_and_the_later_one_is_named(ward: Ward) -> None:
    enter(ward, temperature=39.7)
    enter(ward, name=SECOND, temperature=37.9, corrects=FIRST)

    status, answer = enter(ward, name=THIRD, temperature=37.8, corrects=FIRST)

    assert (status, SECOND[:8] in answer["problem"]) == (409, True)
    assert enter(ward, name=THIRD, temperature=37.8, corrects=SECOND)[0] == 200


def test_an_entry_for_the_wrong_patient_is_withdrawn_with_a_reason(ward: Ward) -> None:
    enter(ward, temperature=39.7)

    assert enter(ward, name=SECOND, corrects=FIRST)[0] == 400
    status, done = enter(ward, name=SECOND, corrects=FIRST, note="was bed 13")

    assert (status, done["words"]) == (200, ["note: was bed 13", "the earlier entry is withdrawn"])


def test_an_entry_of_another_patient_cannot_be_corrected_here(ward: Ward) -> None:
    ward.stays.append(KnownStay("cd" * 16, "13", "P-2", NOW - HOUR, None))
    enter(ward, temperature=39.7)

    status, answer = enter(ward, where="13", name=SECOND, temperature=37.9, corrects=FIRST)

    assert (status, "another patient" in answer["problem"]) == (409, True)
    assert enter(ward, name=THIRD, temperature=37.9, corrects="99" * 16)[0] == 404


# Forwarding


def test_an_entry_is_sent_until_the_sink_has_it_and_then_never_again(ward: Ward) -> None:
    enter(ward, temperature=37.9)
    (pending,) = ward.desk.to_pass_on()
    assert [one["sent"] for one in shown(ward)] == [False]

    ward.clock.advance(10 * MINUTE)
    assert [one.entry_id for one in ward.desk.to_pass_on()] == [pending.entry_id]  # the sink was away
    ward.desk.passed_on(pending)

    ward.clock.advance(HOUR)
    assert ward.desk.to_pass_on() == []
    assert [one["sent"] for one in shown(ward)] == [True]


def test_a_desk_that_was_killed_before_it_sent_sends_after_its_restart(tmp_path: Path) -> None:
    first = Ward(tmp_path)
    asked = _observation(first)
    first.book.close()

    again = Ward(tmp_path)

    (pending,) = again.desk.to_pass_on()
    assert pending.entry.message == asked
    again.book.close()


def test_a_sink_that_fails_in_the_middle_is_asked_again_and_the_order_stays(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    names = [_observation(ward, number).observation_id for number in range(1, 6)]
    arrived: list[bytes] = []

    async def put(entry: Any) -> None:
        arrived.append(entry.message.observation_id)
        if len(arrived) == 3:
            raise AlarmSourceLost("broker away")  # it has it, and the desk does not know

    async def forward() -> None:
        for pending in ward.desk.to_pass_on():
            await put(pending.entry)
            ward.desk.passed_on(pending)

    with pytest.raises(AlarmSourceLost):
        asyncio.run(forward())
    asyncio.run(forward())

    assert arrived == [*names[:3], *names[2:]]  # the third twice, with one id
    assert ward.desk.to_pass_on() == []
    ward.book.close()


def test_the_book_forgets_what_is_old_and_sent_and_nothing_else(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    _observation(ward, 1)
    (pending,) = ward.desk.to_pass_on()
    ward.desk.passed_on(pending)
    _observation(ward, 2)
    ward.clock.advance(100 * 24 * HOUR)

    with ward.book.transaction():
        now_ms = ward.desk.clock.now_ms()
        ward.book.forget(now_ms=now_ms, before_ms=now_ms - 90 * 24 * HOUR, wall_ms=ward.clock.now_ms())

    assert [one.observation.observation_id[0] for one in ward.desk.observing.of(BINDING)] == [2]
    assert len(ward.desk.to_pass_on()) == 1
    ward.book.close()


def test_a_book_of_an_earlier_version_gets_the_table(tmp_path: Path) -> None:
    with DeskBook(tmp_path / "desk.sqlite") as book, book.transaction():
        book._db.execute("DROP TABLE observation")

    ward = Ward(tmp_path)

    _observation(ward)
    assert len(ward.desk.observing.of(BINDING)) == 1
    ward.book.close()


def _observation(ward: Ward, number: int = 1) -> Any:
    asked = EnterObservation(id=f"{number:02x}" + "0" * 30, temperature=37.9)
    stay = ward.desk.observing.find("12")
    return ward.desk.observing.enter(stay, asked.observation(stay.stay_id, by="anna", now_ms=ward.clock.now_ms()))


# The command


@pytest.fixture
def command(ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VITALLOOM_DESK_URL", f"http://127.0.0.1:{ward.port}")
    DeskClient(f"http://127.0.0.1:{ward.port}").log_in("anna", PASSWORD)

    def run(*words: str) -> Any:
        return RUN.invoke(observe_commands.observe, list(words))

    return run


def test_the_command_shows_the_entry_in_words_and_says_what_became_of_it(command: Any) -> None:
    done = command(
        "12", "--consciousness", "c", "--oxygen", "2", "--oxygen-device", "nasal cannula", "--bp", "118/76", "--yes"
    )

    assert done.exit_code == 0, done.output
    assert "consciousness: C, new confusion" in done.output
    assert "oxygen: 2 L/min by nasal cannula" in done.output
    assert "blood pressure: 118/76 mmHg" in done.output
    assert "entered by anna" in done.output
    listed = command("list", "12")
    assert "118/76" in listed.output


def test_the_command_corrects_by_the_beginning_of_an_id(command: Any, ward: Ward) -> None:
    command("12", "--temp", "39.7", "--id", FIRST, "--yes")

    done = command("P-1", "--temp", "37.9", "--correct", FIRST[:6], "--yes")

    assert done.exit_code == 0, done.output
    assert shown(ward)[0]["corrects"] == FIRST
    assert isinstance(command("P-1", "--temp", "37", "--correct", "ffff", "--yes").exception, DeskCommandFailed)


def test_without_a_terminal_nothing_is_entered_unless_yes_is_said(command: Any, ward: Ward) -> None:
    done = command("12", "--temp", "37.9")

    assert "--yes" in str(done.exception)
    assert shown(ward) == []


def test_an_extreme_value_needs_its_own_word(command: Any, ward: Ward) -> None:
    refused = command("12", "--temp", "27.2", "--yes")
    done = command("12", "--temp", "27.2", "--yes", "--extreme")

    assert "--extreme" in str(refused.exception)
    assert done.exit_code == 0
    assert len(shown(ward)) == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--consciousness", "X"], "C (new confusion)"),
        (["--bp", "a/b"], "118/76"),
        (["--off-for", "5d"], "20m"),
        (["--at", "noon", "--temp", "37"], "14:05"),
        ([], "--consciousness A"),
    ],
)
def test_the_command_explains_what_it_cannot_read(command: Any, words: list[str], problem: str) -> None:
    assert problem in str(command("12", *words, "--yes").exception)


def test_the_help_has_examples(command: Any) -> None:
    found = command("--help").output

    assert 'vitalloom observe 12 --off-for 20m --note "bath"' in found
    assert "new confusion" in command("enter", "--help").output
