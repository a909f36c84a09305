"""The announced freshness of each sign, and the alarm when no data comes."""

import pytest

from tests.vitals.stories import BINDING, MINUTE, SECOND, START, a_plan, alarms
from vitals.alarms import AlarmBook
from vitals.conditions import Conditions
from vitals.latest import LatestValues, SignValue
from vitals.messages import Event, FreshnessChanged
from vitals.plan import EXPECTED
from vitals.sign_freshness import SignFreshness
from vitals.signs import VitalSign

PULSE = VitalSign.HEART_RATE


class Bed:
    """One patient with a wearable that measures the expected signs."""

    def __init__(self) -> None:
        plan = a_plan()
        self.latest = LatestValues(plan)
        self.freshness = SignFreshness(BINDING, plan, self.latest, Conditions(AlarmBook(BINDING, plan.rules)))

    def measure(self, *signs: VitalSign, after_ms: int = 0, heard_later_ms: int = 0) -> tuple[bool, list[Event]]:
        events: list[Event] = []
        values = [(sign, 70.0) for sign in signs]
        for sign, value in values:
            self.latest.by_sign[sign] = SignValue(value, START + after_ms)
        heard_ms = START + after_ms + heard_later_ms
        return self.freshness.on_values(values, START + after_ms, heard_ms, events), events

    def pass_time(self, after_ms: int) -> list[Event]:
        events: list[Event] = []
        if self.freshness.on_timer(START + after_ms, events):
            self.freshness.judge_missing_data(START + after_ms, events)
        return events


def states(events: list[Event]) -> list[str]:
    return [event.state for event in events if isinstance(event, FreshnessChanged)]


def test_a_first_value_is_announced_as_fresh_and_the_next_one_is_not_announced() -> None:
    bed = Bed()

    assert states(bed.measure(PULSE)[1]) == ["FRESH"]
    assert bed.measure(PULSE, after_ms=5 * SECOND) == (False, [])


def test_a_sign_that_people_enter_has_no_freshness() -> None:
    assert Bed().measure(VitalSign.CONSCIOUSNESS) == (False, [])


def test_after_a_gap_a_new_value_requires_judging_missing_data_again() -> None:
    bed = Bed()
    bed.measure(PULSE)
    bed.pass_time(11 * MINUTE)

    assert bed.measure(PULSE, after_ms=12 * MINUTE)[0]


def test_a_value_that_is_stale_when_it_is_heard_ends_no_silence() -> None:
    bed = Bed()
    bed.freshness.update_news2(7)
    bed.measure(PULSE)
    bed.pass_time(2 * MINUTE)

    assert bed.measure(PULSE, after_ms=MINUTE, heard_later_ms=55 * SECOND) == (False, [])
    assert bed.measure(PULSE, after_ms=2 * MINUTE, heard_later_ms=45 * SECOND)[0]


@pytest.mark.parametrize(("news2", "minutes"), [(0, 30), (1, 10), (5, 3), (7, 1)])
def test_how_soon_data_is_stale_depends_on_the_last_news2(news2: int, minutes: int) -> None:
    bed = Bed()
    bed.measure(PULSE)
    bed.freshness.update_news2(news2)

    assert "STALE" not in states(bed.pass_time(minutes * MINUTE))
    assert states(bed.pass_time(minutes * MINUTE + 1)) == ["STALE"]


def test_only_another_band_of_news2_changes_the_limits() -> None:
    freshness = Bed().freshness

    changed = [points for points in (0, 1, 4, 5, 6, 7, 20, 0) if freshness.update_news2(points)]

    assert changed == [0, 1, 5, 7, 0]


def test_one_missing_sign_is_an_alarm_of_its_own_and_a_silent_device_is_a_single_one() -> None:
    one_sign, device = Bed(), Bed()
    one_sign.measure(*EXPECTED)
    one_sign.measure(VitalSign.RESPIRATORY_RATE, VitalSign.SPO2, after_ms=10 * MINUTE)
    device.measure(*EXPECTED)

    assert [alarm.key for alarm in alarms(one_sign.pass_time(11 * MINUTE))] == [PULSE]
    assert [(alarm.key, alarm.text) for alarm in alarms(device.pass_time(11 * MINUTE))] == [
        ("", "no data for any sign since 08:00 UTC, 11 min")
    ]


def test_the_next_change_is_the_first_moment_at_which_a_sign_would_be_late() -> None:
    bed = Bed()
    assert bed.freshness.next_change_ms(START) is None

    bed.measure(PULSE)  # every 5 s: late after 10 s

    assert bed.freshness.next_change_ms(START) == START + 10_001
