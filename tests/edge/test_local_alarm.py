"""When the bedside sounds by itself: only for what is high, open and unanswered, and only while the cloud is silent."""

from typing import Any

import pytest
from msgspec.structs import replace

from edge.local_alarm import LocalAlarm
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

MINUTE = 60_000

HIGH = AlarmChanged(
    stay_id="b1" * 16, alarm_id=b"a" * 16, rule_id="news2", kind=AlarmKind.PHYSIOLOGICAL, priority=Priority.HIGH,
    state=AlarmState.ACTIVE, at_ms=0, onset_ms=0, revision=0, text="NEWS2 7: RR 26 (+3)", basis="NEWS2",
)  # fmt: skip


def a_sounder() -> LocalAlarm:
    return LocalAlarm(after_ms=MINUTE, mono_ms=0)


def test_a_high_alarm_sounds_when_the_cloud_has_been_silent_for_a_minute() -> None:
    sounder = a_sounder()
    sounder.on_alarms([HIGH])

    assert sounder.switch(MINUTE) is None
    assert sounder.switch(MINUTE + 1) is True
    assert sounder.switch(MINUTE + 2) is None  # it sounds already
    assert sounder.sounding


@pytest.mark.parametrize(
    "changed",
    [
        {"priority": Priority.MEDIUM},
        {"state": AlarmState.PENDING},
        {"state": AlarmState.CLEARED},
        {"acknowledged_by": "n1"},
        {"silenced_until_ms": 5},
        {"retrospective": True},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_everything_less_does_not_sound(changed: dict[str, Any]) -> None:
    sounder = a_sounder()
    sounder.on_alarms([replace(HIGH, **changed)])

    assert sounder.switch(10 * MINUTE) is None


def test_it_is_quiet_again_when_the_cloud_speaks() -> None:
    sounder = a_sounder()
    sounder.on_alarms([HIGH])
    sounder.switch(2 * MINUTE)

    sounder.heard(2 * MINUTE)

    assert sounder.switch(2 * MINUTE) is False


def test_it_is_quiet_again_when_somebody_answers_and_sounds_for_the_next() -> None:
    sounder = a_sounder()
    sounder.on_alarms([HIGH])
    sounder.switch(2 * MINUTE)

    sounder.on_alarms([replace(HIGH, acknowledged_by="n1", revision=1)])
    assert sounder.switch(2 * MINUTE) is False
    sounder.on_alarms([replace(HIGH, alarm_id=b"b" * 16)])
    assert sounder.switch(2 * MINUTE) is True


def test_an_old_word_of_the_cloud_does_not_turn_time_back() -> None:
    sounder = a_sounder()
    sounder.heard(5 * MINUTE)
    sounder.heard(MINUTE)

    assert not sounder.cloud_is_silent(6 * MINUTE)
