"""A stay that is replayed under the plan of then has the alarms of then; answers find their alarms."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from tests.vitals.stories import BINDING, MINUTE, START, a_plan, an_answer, steady
from vitals.messages import AlarmChanged, AlarmState, Message, Reading, ReadingJudged, Silence
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from vitals.replay import StayReplay, answers_of, as_recorded
from vitals.rules import DEFAULT_RULES

ILL = {"spo2": 82, "respiratory_rate": 27}
BY_MINUTE = MonitoringPlan(cadence_ms={"heart_rate": 30_000, "respiratory_rate": 30_000, "spo2": 30_000})


@dataclass
class Day:
    """What a monitor was given, what it announced, and the readings as they were stored."""

    plan: MonitoringPlan = BY_MINUTE
    announced: list[AlarmChanged] = field(default_factory=list)
    stored: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.patients = Patients(lambda _: self.plan)

    def hear(self, messages: Iterable[Message]) -> None:
        for message in messages:
            for event in self.patients.apply(message):
                if isinstance(event, AlarmChanged):
                    self.announced.append(event)
                elif isinstance(event, ReadingJudged):
                    self.stored.append(event.reading)


def replayed(day: Day, plan: MonitoringPlan | None = None) -> list[AlarmChanged]:
    replay = StayReplay(BINDING, plan or day.plan, answers=answers_of(day.announced))
    found = [change for reading in day.stored for change in replay.feed(as_recorded(reading))]
    return found + replay.finish()


def test_a_jump_that_was_doubted_is_doubted_once() -> None:
    day = Day()
    day.hear(steady(0, 3 * MINUTE, every_ms=5_000))
    day.hear(steady(3 * MINUTE + 5_000, 9 * MINUTE, every_ms=5_000, **ILL, heart_rate=190))

    assert any(reading.unusable for reading in day.stored)
    assert day.announced
    assert replayed(day) == day.announced


def test_what_people_answered_is_answered_again() -> None:
    day = Day()
    day.hear(steady(0, 10 * MINUTE, **ILL))
    alarm = next(one for one in day.announced if one.rule_id == "news2" and one.state is AlarmState.ACTIVE)
    day.hear([an_answer(alarm, 10 * MINUTE + 1)])
    silence = Silence(
        stay_id=BINDING,
        rule_id="red_sign",
        key="spo2",
        by="ben",
        at_ms=START + 11 * MINUTE,
        until_ms=START + 14 * MINUTE,
    )
    day.hear([silence])
    day.hear(steady(12 * MINUTE, 40 * MINUTE))

    assert any(one.acknowledged_by == "anna" for one in day.announced)
    assert any(one.silenced_until_ms for one in day.announced)
    assert replayed(day) == day.announced


def test_an_answer_goes_to_the_alarm_of_the_same_condition_under_other_orders() -> None:
    day = Day()
    day.hear(steady(0, 10 * MINUTE, **ILL))
    alarm = next(one for one in day.announced if one.rule_id == "news2")
    day.hear([an_answer(alarm, 10 * MINUTE + 1)])
    day.hear(steady(11 * MINUTE, 20 * MINUTE, **ILL))
    later = tuple(
        msgspec.structs.replace(rule, version=rule.version + 1, for_ms=5 * MINUTE) if rule.rule_id == "news2" else rule
        for rule in DEFAULT_RULES
    )

    changes = [one for one in replayed(day, msgspec.structs.replace(day.plan, rules=later)) if one.rule_id == "news2"]

    assert changes[0].alarm_id != alarm.alarm_id
    assert changes[0].at_ms == START + 5 * MINUTE
    assert changes[-1].acknowledged_by == "anna"


def test_an_answer_to_an_alarm_that_never_was_changes_nothing() -> None:
    day = Day()
    day.hear(steady(0, 10 * MINUTE, **ILL))
    day.hear([an_answer(day.announced[0], 10 * MINUTE + 1)])
    nothing = msgspec.structs.replace(a_plan(), rules=())

    assert replayed(day, nothing) == []


def test_time_runs_on_to_the_end_of_the_record() -> None:
    day = Day()
    day.hear(steady(0, 10 * MINUTE))
    replay = StayReplay(BINDING, BY_MINUTE)
    for reading in day.stored:
        replay.feed(as_recorded(reading))

    silent = replay.finish(START + 100 * MINUTE)

    assert {one.rule_id for one in silent} == {"no_data"}
