"""What an answer of the data centre covers at the edge: one condition, up to the priority and grade that were seen."""

import random
from typing import Final

import msgspec
import pytest

from edge.pipeline import Pipeline
from tests.vitals.stories import BINDING, MINUTE, START
from vitals.alarms import WORSE_BY, JudgedCondition
from vitals.messages import AlarmChanged, Priority
from vitals.plan import MonitoringPlan
from vitals.rules import DEFAULT_RULES, Truth
from wire.answers import Answer, AnswerKind

RULES: Final = {rule.rule_id: msgspec.structs.replace(rule, for_ms=0) for rule in DEFAULT_RULES}
CONDITIONS: Final = (
    ("news2", ""),
    ("red_sign", "heart_rate"),
    ("red_sign", "spo2"),
    ("no_data", ""),
    ("no_data", "spo2"),
)


class Bedside:
    """A pipeline with one patient, whose conditions a test sets."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(lambda _: MonitoringPlan(rules=tuple(RULES.values())), (), NoScoring())  # type: ignore[arg-type]
        self._book = self.pipeline._patients._monitor(BINDING)._book

    def see(self, place: tuple[str, str], priority: Priority, grade: float, at_ms: int) -> None:
        seen = JudgedCondition(truth=Truth.TRUE, at_ms=at_ms, reading_id=b"r" * 16, priority=priority, grade=grade)
        self._book.observe(RULES[place[0]], seen, key=place[1], explain=lambda: "text")

    def alarms(self) -> dict[tuple[str, str], AlarmChanged]:
        return {(one.rule_id, one.key): one for one in self.pipeline.open_alarms()}


class NoScoring:
    """No model."""


def is_quiet(alarm: AlarmChanged) -> bool:
    return alarm.acknowledged_by is not None or alarm.silenced_until_ms is not None


def an_answer(kind: AnswerKind, seen: AlarmChanged) -> Answer:
    until_ms = START + 60 * MINUTE if kind is AnswerKind.SILENCED else 0
    binding_id = bytes.fromhex(BINDING)
    return Answer(kind, int(seen.priority), START, until_ms, binding_id, seen.alarm_id, int(seen.grade))


@pytest.mark.parametrize("seed", range(100))
def test_an_answer_quietens_one_condition_and_nothing_that_is_worse_than_was_seen(seed: int) -> None:
    draw, bedside = random.Random(seed), Bedside()
    for place in CONDITIONS:
        grade = float(draw.randint(5, 12)) if place[0] == "news2" else 0.0
        bedside.see(place, draw.choice((Priority.MEDIUM, Priority.HIGH)), grade, START)
    seen = bedside.alarms()
    place = draw.choice(CONDITIONS)
    # Meanwhile it may have got worse: the frame is late, or a recording.
    if draw.random() < 0.6:
        higher = draw.choice((0.0, 1.0, 2.0, 5.0)) if place[0] == "news2" else 0.0
        bedside.see(
            place, draw.choice((seen[place].priority, Priority.HIGH)), seen[place].grade + higher, START + MINUTE
        )
    now = bedside.alarms()
    is_worse = now[place].priority > seen[place].priority or now[place].grade >= seen[place].grade + WORSE_BY

    bedside.pipeline.answer(an_answer(draw.choice(list(AnswerKind)), seen[place]), START + 2 * MINUTE)

    quiet = {other for other, alarm in bedside.alarms().items() if is_quiet(alarm)}
    assert quiet == (set() if is_worse else {place})
