"""Which alarms the ward shows, and when the first one came."""

from simulators.ward.raised_alarms import RECENT, RaisedAlarms
from vitals.messages import AlarmChanged, AlarmState, Priority


def an_alarm(number: int, state: AlarmState = AlarmState.ACTIVE, **changes: object) -> AlarmChanged:
    facts: dict[str, object] = {
        "stay_id": "b1",
        "at_ms": 1_000,
        "alarm_id": number.to_bytes(16, "big"),
        "rule_id": "news2",
        "key": "",
        "kind": "physiological",
        "priority": Priority.MEDIUM,
        "state": state,
        "onset_ms": 1_000,
        "revision": 0,
        "basis": "measured",
        "text": "NEWS2 5",
    }
    return AlarmChanged(**(facts | changes))  # type: ignore[arg-type]


def shown(*alarms: AlarmChanged) -> tuple[list[tuple[str, AlarmChanged]], RaisedAlarms]:
    announced: list[tuple[str, AlarmChanged]] = []
    raised = RaisedAlarms({"b1": "7"}, began_s=0.0, announce=lambda bed, alarm: announced.append((bed, alarm)))
    for alarm in alarms:
        raised.add(alarm)
    return announced, raised


def test_an_alarm_is_shown_with_its_bed_when_it_becomes_active() -> None:
    active = an_alarm(1)

    announced, raised = shown(an_alarm(1, AlarmState.PENDING), active, an_alarm(1, AlarmState.CLEARED))

    assert announced == list(raised.recent) == [("7", active)]
    assert raised.first_after_s is not None


def test_an_alarm_is_shown_again_only_when_its_priority_rises() -> None:
    worse = an_alarm(1, priority=Priority.HIGH)

    announced, raised = shown(an_alarm(1), an_alarm(1), worse, an_alarm(1))

    assert announced == [("7", an_alarm(1)), ("7", worse)]
    assert list(raised.recent) == [("7", worse)]  # one line for one alarm


def test_a_retrospective_alarm_is_not_shown_and_is_not_the_first() -> None:
    announced, raised = shown(an_alarm(1, retrospective=True))

    assert announced == []
    assert raised.first_after_s is None


def test_only_the_newest_alarms_are_kept_for_the_screen() -> None:
    _, raised = shown(*(an_alarm(number) for number in range(1, RECENT + 3)))

    assert [alarm.alarm_id[-1] for _, alarm in raised.recent] == list(range(3, RECENT + 3))
