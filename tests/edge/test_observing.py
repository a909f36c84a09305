"""A nurse at the bed while the data centre is away: who may enter, what is refused, what survives, and what arrives."""

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from edge import people
from edge.commands import edge
from edge.entry_socket import SOCKET_FILE, send_entry, serving_entries
from edge.errors import BadPerson, EntryRefused, ExtremeEntry
from edge.observing import EdgeEntry, Entered
from edge.people import FAILURES, FAILURES_OF_ALL, WITHIN_MS, EdgePeople
from runtime import passwords
from stream.ingest.edge_clocks import EdgeClocks
from stream.ingest.frames import decode_content
from tests.edge.benches import HOUR, MINUTE, NOW, SECOND, Bench
from vitals.messages import Consciousness, Observation
from wire.codec import decode_edge_alarm, decode_observation, encode, from_observation, holds_observation
from wire.envelope import FrameClass, Stage
from wire.errors import DecodeError, Reason
from wire.receiver import Opened

PIN = "471108"
FIRST, SECOND_ID = "01" * 16, "02" * 16


@pytest.fixture(autouse=True)
def _fast_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_MEMORY_KIB", 64)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    EdgePeople(tmp_path).put("anna", PIN, now_ms=NOW)
    return made


def entry(**values: Any) -> EdgeEntry:
    given = values or {"consciousness": "A"}
    return EdgeEntry(**{"id": FIRST, "person": "anna", "pin": PIN, "where": "1"} | given)


def enter(bench: Bench, asked: EdgeEntry) -> Entered:
    async def story() -> Entered:
        entering = asyncio.create_task(bench.agent.observing.enter(asked))
        while not entering.done():
            await asyncio.sleep(0.001)
            bench.turn()
            bench.pass_time(1)
        return await entering

    return asyncio.run(story())


def observed(bench: Bench) -> list[Any]:
    return [
        decode_observation(one.payload)
        for one in bench.arrived(FrameClass.ALARM)
        if one.payload and holds_observation(one.payload)
    ]


# What is kept and forwarded


def test_an_entry_is_confirmed_when_it_is_on_disk_and_goes_to_the_data_centre(bench: Bench) -> None:
    bench.begin()

    done = enter(bench, entry(consciousness="C", supplemental_oxygen=2, oxygen_device="nasal cannula", note="restless"))

    assert (done.bed, done.patient, done.by) == ("1", "P0001", "anna")
    assert done.words[0].startswith("consciousness: C, new confusion")
    (told,) = observed(bench)
    assert (told.by, told.consciousness, told.supplemental_oxygen, told.note) == ("anna", 1, 2.0, "restless")
    assert told.observation_id.hex() == FIRST
    assert bench.agent.counts.observations == 1


def test_an_entry_survives_a_crash_while_the_data_centre_is_away(bench: Bench) -> None:
    bench.begin()
    bench.hand.connected = False
    enter(bench, entry(temperature=38.2))

    bench.crash()
    bench.pass_time(5 * SECOND)

    assert [one.temperature for one in observed(bench)] == [38.2]


def test_the_same_entry_again_is_confirmed_and_kept_once(bench: Bench) -> None:
    bench.begin()
    first = enter(bench, entry(temperature=38.2))
    bench.clock.advance(MINUTE)

    again = enter(bench, entry(temperature=38.2))

    assert again == first
    assert len(observed(bench)) == 1
    with pytest.raises(EntryRefused, match="another observation"):
        enter(bench, entry(temperature=39.2))


def test_the_data_centre_makes_the_kernels_observation_of_it(bench: Bench) -> None:
    bench.begin()
    enter(bench, entry(consciousness="C", temperature=38.2, off_minutes=20))
    (frame,) = [one for one in bench.arrived(FrameClass.ALARM) if one.payload and holds_observation(one.payload)]

    content = decode_content(bench.site.ingest.directory, frame, NOW + HOUR, EdgeClocks())

    assert isinstance(content, Observation)
    assert content.stay_id == bench.site.bindings[0].stay
    assert content.edge == bench.site.edges[0].me.device_id.hex()[:8]
    assert (content.by, content.consciousness, content.temperature) == ("anna", Consciousness.CONFUSION, 38.2)
    assert content.heard_ms == NOW + HOUR
    assert content.off_until_ms == content.at_ms + 20 * MINUTE


def test_an_entry_is_judged_here_at_once_and_its_alarm_follows_it(bench: Bench) -> None:
    bench.begin()

    enter(bench, entry(consciousness="C", respiratory_rate=28, supplemental_oxygen=2))

    told = [one.payload for one in bench.arrived(FrameClass.ALARM) if one.payload]
    assert holds_observation(told[0])  # before the alarm that follows from it
    texts = [decode_edge_alarm(payload).text for payload in told if not holds_observation(payload)]
    assert any("ACVPU C (+3)" in text for text in texts), texts


# What is refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": 98.6}, "°F"),
        ({"inspired_oxygen": 0.4}, "write 40"),
        ({"systolic_bp": 76, "diastolic_bp": 118}, "exchanged"),
        ({"heart_rate": 1e9}, "heart rate"),
        ({"note": "\x1b[2J"}, "printable"),
        ({"where": "99"}, "'99' is no bed"),
        ({"temperature": 37.0, "at_ms": NOW + HOUR}, "future"),
        ({"temperature": 37.0, "at_ms": NOW - 25 * HOUR}, "24 hours"),
        ({"temperature": 37.0, "corrects": SECOND_ID}, "not entered here"),
        ({"note": " "}, "nothing is entered"),
    ],
)
def test_what_cannot_be_right_is_refused_and_nothing_is_kept(bench: Bench, values: dict[str, Any], words: str) -> None:
    bench.begin()

    with pytest.raises(EntryRefused, match=words):
        enter(bench, entry(**values))

    assert observed(bench) == []


def test_an_extreme_value_waits_for_a_word_of_the_person(bench: Bench) -> None:
    bench.begin()

    with pytest.raises(ExtremeEntry, match="is extreme"):
        enter(bench, entry(temperature=27.2))
    enter(bench, entry(temperature=27.2, confirmed=True))

    assert [one.temperature for one in observed(bench)] == [27.2]


def test_a_patient_whose_binding_has_ended_is_refused(bench: Bench) -> None:
    bench.begin()
    binding = bench.site.bindings[0]
    ended = type(binding)(**{name: getattr(binding, name) for name in binding.__struct_fields__} | {"valid_to_ms": NOW})
    bench.site.edges[0].directory.put(ended)  # type: ignore[attr-defined]

    with pytest.raises(EntryRefused, match="discharged at"):
        enter(bench, entry(temperature=37.0))


def test_a_correction_names_an_entry_of_this_patient(bench: Bench) -> None:
    bench.begin()
    enter(bench, entry(temperature=39.7))

    with pytest.raises(EntryRefused, match="not entered here"):
        enter(bench, entry(id=SECOND_ID, where="2", temperature=37.9, corrects=FIRST))
    enter(bench, entry(id=SECOND_ID, temperature=37.9, corrects=FIRST))

    assert [one.corrects.hex() for one in observed(bench)] == ["", FIRST]


def test_an_edge_that_cannot_write_says_that_nothing_was_entered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.begin()
    bench.agent._keeper.stuck_since_ms = bench.clock.mono_ms()

    with pytest.raises(EntryRefused, match="NOT entered"):
        enter(bench, entry(temperature=37.0))


def test_a_data_centre_that_refuses_is_told_of(bench: Bench) -> None:
    bench.begin()
    enter(bench, entry(temperature=38.2))
    (frame,) = [one for one in bench.arrived(FrameClass.ALARM) if one.payload and holds_observation(one.payload)]

    bench.hear(bench.cloud_says(Stage.REJECTED, frame.session_id, [(frame.counter, frame.counter)]))

    assert bench.agent.counts.refused_observations == 1


# Who may enter


@pytest.mark.parametrize("told", [{"pin": "471109"}, {"person": "ben"}, {"person": "Anna"}])
def test_a_wrong_pin_and_an_unknown_name_are_refused_alike(bench: Bench, told: dict[str, str]) -> None:
    with pytest.raises(EntryRefused, match=r"^wrong name or PIN$"):
        enter(bench, entry(consciousness="A", **told))


def test_without_people_nobody_may_enter(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    with pytest.raises(EntryRefused, match="vitalloom edge person add"):
        enter(bench, entry())


def test_guessing_is_stopped_and_the_right_pin_waits_too(bench: Bench) -> None:
    bench.begin()
    for _ in range(FAILURES):
        with pytest.raises(EntryRefused, match="wrong"):
            enter(bench, entry(consciousness="A", pin="000000x"))

    with pytest.raises(EntryRefused, match="too many"):
        enter(bench, entry())
    bench.clock.advance(WITHIN_MS + 1)
    enter(bench, entry())

    assert len(observed(bench)) == 1


@pytest.mark.slow
def test_guessing_under_many_names_is_stopped(bench: Bench) -> None:
    for number in range(FAILURES_OF_ALL):
        with pytest.raises(EntryRefused, match="wrong"):
            enter(bench, entry(consciousness="A", person=f"nobody {number}"))

    with pytest.raises(EntryRefused, match="too many"):
        enter(bench, entry())


@pytest.mark.parametrize("pin", ["", "12345", "123456", "987654", "111111", "112211", "anna47", "x" * 65])
def test_a_pin_that_is_easy_to_guess_is_not_taken(tmp_path: Path, pin: str) -> None:
    with pytest.raises(BadPerson, match="PIN"):
        EdgePeople(tmp_path).put("anna", pin, now_ms=NOW)


def test_the_file_holds_no_pin_and_is_private(tmp_path: Path) -> None:
    made = EdgePeople(tmp_path)
    made.put("anna", PIN, now_ms=NOW)

    text = made.path.read_text()
    assert PIN not in text
    assert json.loads(text)["anna"]["hash"].startswith("$argon2id$")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    made.path.chmod(0o644)
    with pytest.raises(BadPerson):
        made.all()


# The socket and the command


def over_socket(bench: Bench, ask: Callable[[], Awaitable[Any]]) -> Any:
    async def story() -> Any:
        async with serving_entries(bench.folder, bench.agent.observing):
            mode = stat.S_IMODE((bench.folder / SOCKET_FILE).stat().st_mode)
            assert mode == 0o600
            asking = asyncio.ensure_future(ask())
            while not asking.done():
                await asyncio.sleep(0.001)
                bench.turn()
            return await asking

    return asyncio.run(story())


def test_the_socket_hands_an_entry_to_the_agent_and_brings_its_answer(bench: Bench) -> None:
    bench.begin()

    good = over_socket(bench, lambda: send_entry(bench.folder, entry(temperature=38.2)))
    bad = over_socket(bench, lambda: send_entry(bench.folder, entry(id=SECOND_ID, temperature=98.6)))
    extreme = over_socket(bench, lambda: send_entry(bench.folder, entry(id=SECOND_ID, temperature=27.1)))

    assert good.entered is not None
    assert (bad.entered, "°F" in bad.problem, bad.is_extreme) == (None, True, False)
    assert extreme.is_extreme
    assert not (bench.folder / SOCKET_FILE).exists()


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"\xff\n", b'{"id": 3}\n', b"[" * 5_000 + b"\n"])
def test_what_is_no_entry_is_answered_and_harms_nothing(bench: Bench, line: bytes) -> None:
    bench.begin()

    async def ask() -> bytes:
        descriptor = os.open(bench.folder, os.O_RDONLY)
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{SOCKET_FILE}")
        os.close(descriptor)
        writer.write(line)
        answer = await reader.readline()
        writer.close()
        return answer

    assert b"not an entry" in over_socket(bench, ask)


def test_without_an_agent_the_person_is_told_that_nothing_was_entered(tmp_path: Path) -> None:
    with pytest.raises(EntryRefused, match="NOT entered"):
        asyncio.run(send_entry(tmp_path, entry()))


def test_people_are_added_listed_and_removed_from_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text('identity = "identity"\ndata_dir = "data"\n')
    (tmp_path / "data").mkdir()

    def run(*words: str, said: str = "") -> str:
        done = CliRunner().invoke(edge, ["person", *words, "--config", str(config)], input=said)
        assert done.exit_code == 0, done.output
        return done.output

    run("add", "anna", said=f"{PIN}\n")
    assert run("list").strip() == "anna"
    run("remove", "anna")
    assert "nobody" in run("list")
    assert people.PEOPLE_FILE in os.listdir(tmp_path / "data")


# What ingest refuses from an edge


TOLD = Observation(
    stay_id="", observation_id=b"o" * 16, by="anna", at_ms=NOW, entered_ms=NOW, heard_ms=NOW, temperature=38.2
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"temperature": 98.6}, Reason.VALUE),
        ({"temperature": float("nan")}, Reason.VALUE),
        ({"heart_rate": 1e9}, Reason.VALUE),
        ({"by": ""}, Reason.VALUE),
        ({"by": "x" * 65}, Reason.VALUE),
        ({"note": "x" * 501}, Reason.VALUE),
        ({"note": "\x1b[2J"}, Reason.VALUE),
        ({"oxygen_device": "x" * 41, "supplemental_oxygen": 2.0}, Reason.VALUE),
        ({"observation_id": b"short"}, Reason.VALUE),
        ({"corrects": b"short"}, Reason.VALUE),
        ({"at_ms": -1}, Reason.VALUE),
        ({"at_ms": 2**60}, Reason.VALUE),
        ({"systolic_bp": 76.0, "diastolic_bp": 118.0}, Reason.VALUE),
        ({"temperature": None}, Reason.VALUE),
    ],
)
def test_an_edge_that_was_taken_over_cannot_pass_what_a_person_could_not(
    bench: Bench, changes: dict[str, Any], reason: Reason
) -> None:
    payload = encode(from_observation(replace(TOLD, **changes)))

    with pytest.raises(DecodeError) as refused:
        decode_content(bench.site.ingest.directory, _opened(bench, payload), NOW, EdgeClocks())

    assert refused.value.reason is reason


def test_an_observation_after_a_discharge_is_refused_and_one_from_before_is_not(bench: Bench) -> None:
    binding = bench.site.bindings[0]
    ended = type(binding)(**{name: getattr(binding, name) for name in binding.__struct_fields__} | {"valid_to_ms": NOW})
    bench.site.ingest.directory.put(ended)  # type: ignore[attr-defined]

    before = _opened(bench, encode(from_observation(TOLD)))
    after = before._replace(payload=encode(from_observation(replace(TOLD, at_ms=NOW + HOUR))))

    assert isinstance(decode_content(bench.site.ingest.directory, before, NOW + HOUR, EdgeClocks()), Observation)
    with pytest.raises(DecodeError, match="discharged"):
        decode_content(bench.site.ingest.directory, after, NOW + HOUR, EdgeClocks())


def _opened(bench: Bench, payload: bytes) -> Opened:
    bench.begin()
    enter(bench, entry(id="0f" * 16, consciousness="A"))
    frame = next(one for one in bench.arrived(FrameClass.ALARM) if one.payload)
    return frame._replace(payload=payload)
