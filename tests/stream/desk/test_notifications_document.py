"""docs/notifications.md says what the code does: times, limits, ports, the message, the API."""

from pathlib import Path

import msgspec
import pytest

from stream.config import DeskConfig
from stream.desk import decisions, http, notify, process, users
from stream.desk.outages import follow_outage
from stream.desk.texts import Telling, of_alarm
from stream.records import AlarmRecord
from tests.stream.desk.alarms import MINUTE, an_alarm, kept
from vitals.escalation import NEWS2_RULE, EscalationPolicy
from vitals.messages import Priority
from vitals.outages import Outage

TEXT = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text(encoding="utf-8")
FLOWING = " ".join(TEXT.split())  # wherever its lines end
CONFIG, POLICY = DeskConfig(), EscalationPolicy()
_WORDS = {4: "four", 5: "five", 12: "twelve"}


def row(mark: str) -> str:
    mark, _, rule = mark.partition(" ")
    found = [line for line in TEXT.splitlines() if line.startswith(f"| `{mark}` ")]
    return next(line for line in found if ("NEWS2" in line) == bool(rule))


def test_the_ladders_are_the_default_ones() -> None:
    for mark, ladder in (
        ("***", POLICY.high),
        ("**", POLICY.ladder(Priority.MEDIUM)),
        ("** NEWS2", POLICY.ladder(Priority.MEDIUM, NEWS2_RULE)),
    ):
        for step in ladder.steps:
            minutes = step.delay_ms // MINUTE
            assert (f"{minutes} min: {step.who}" if minutes else f"| {step.who} |") in row(mark)
        assert ladder.repeat_ms is not None
        assert f"every {ladder.repeat_ms // MINUTE} min" in row(mark)
    assert not POLICY.low.steps
    assert "on the list only" in row("*")


@pytest.mark.parametrize(
    "sentence",
    [
        f"SMS after {POLICY.receipt('push') // 1_000} s, then a call after another {POLICY.receipt('sms') // 1_000} s",
        f"takes longer than {CONFIG.send_timeout_ms // 1_000} s",
        ", ".join(str(decisions.again_ms(tries, 0) // 1_000) for tries in (2, 3)) + " ... "
        f"{decisions.again_ms(99, 0) // 1_000} s",
        f"{CONFIG.digest_after} messages in {CONFIG.digest_window_ms // MINUTE} minutes",
        f"A login holds {CONFIG.api.session_hours:.0f} hours",
        f"{_WORDS[users._FAILURES].capitalize()} wrong passwords for a name from one address",
        f"wait {_WORDS[users._WITHIN_MS // MINUTE]} minutes",
        f"more than {_WORDS[decisions.EDGE_FRESH_MS // MINUTE]} minutes is for the record",
        f"{_WORDS[decisions.EDGE_ALONE_MS // (60 * MINUTE)]} hours after its answer",
        f"for {process.CATCH_UP_S:.0f} s at most",
        f"{_WORDS[notify.RED_AT_ONE_ADDRESS]} at one address, {notify.RED_THREADS} for red, {notify.OTHER_THREADS} for",
        f"At most {http.MAX_BODY_BYTES} bytes".replace("At", "at"),
        CONFIG.http.listen,
        CONFIG.api.listen,
    ],
)
def test_numbers_in_the_document_equal_the_defaults(sentence: str) -> None:
    assert sentence in FLOWING


def test_the_message_is_what_people_get() -> None:
    onset_ms = (14 * 60 + 2) * MINUTE
    alarm = an_alarm(alarm_id=bytes.fromhex("3f2a9c1b" + "00" * 12), onset_ms=onset_ms)
    telling = Telling("North", "https://ward.example")

    message = of_alarm(kept(AlarmRecord(alarm=alarm)), "bed 12", telling, now_ms=onset_ms + 3 * MINUTE)

    assert f"```text\n{message.title}\n\n{message.body}\n```" in TEXT


def test_the_message_of_an_outage_is_what_people_get() -> None:
    onset_ms = (14 * 60 + 2) * MINUTE
    outage = Outage(
        outage_id=bytes.fromhex("3f2a9c1b" + "00" * 12),
        site="North",
        began_ms=onset_ms,
        at_ms=onset_ms,
        without_data=("a", "b", "c"),
        grouped=(),
        patients=9,
        revision=0,
        text="North: no data from 3 of 9 patients since 14:02 UTC",
    )
    found = follow_outage(outage, ["bed 1", "bed 2", "bed 3"], now_ms=onset_ms, before=None, members=[])

    message = of_alarm(found, "several beds", Telling("North", "https://ward.example"), now_ms=onset_ms + 15 * MINUTE)

    assert f"```text\n{message.title}\n\n{message.body}\n```" in TEXT


@pytest.mark.parametrize("kind", [http.LogIn, http.AcknowledgeAlarm, http.SilenceAlarm])
def test_the_api_takes_the_fields_that_are_named(kind: type[msgspec.Struct]) -> None:
    for field in kind.__struct_fields__:
        assert f"`{field}`" in TEXT


def test_the_document_has_the_disclaimer() -> None:
    assert FLOWING.count("Not a certified medical device") == 3  # the page, and both messages
