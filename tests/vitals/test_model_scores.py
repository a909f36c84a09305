"""The last score of each model: order, availability, and what a screen shows of it."""

import msgspec
from msgspec.structs import replace

from tests.vitals.stories import BINDING, HOUR, MINUTE, START, a_plan, a_score, alarms
from vitals.alarms import AlarmBook
from vitals.conditions import Conditions
from vitals.latest import LatestValues
from vitals.messages import AlarmChanged, AlarmState, ModelScore, ModelScored
from vitals.model_scores import SCORE_VALID_MS, ModelScores


def some_scores() -> ModelScores:
    plan = a_plan()
    return ModelScores(plan, LatestValues(plan), Conditions(AlarmBook(BINDING, plan.rules)))


def test_the_same_score_again_changes_nothing() -> None:
    scores = some_scores()
    scores.on_score(a_score(0, 0.9))

    assert scores.on_score(a_score(0, 0.9)) == []


def test_a_score_older_than_the_last_one_is_only_recorded() -> None:
    scores = some_scores()
    scores.on_score(a_score(MINUTE, 0.1))

    (recorded,) = scores.on_score(a_score(0, 0.9))

    assert isinstance(recorded, ModelScored)
    assert (recorded.late, scores.newest_ms) == (True, START + MINUTE)


def test_a_model_without_a_probability_for_an_hour_is_an_alarm_of_medium_priority() -> None:
    scores = some_scores()

    (first,) = alarms(scores.on_score(a_score(0, None)), "model_unavailable")
    (later,) = alarms(scores.on_score(a_score(HOUR, None)), "model_unavailable")

    assert (first.priority.name, later.priority.name) == ("LOW", "MEDIUM")


def test_models_are_kept_apart() -> None:
    scores = some_scores()
    scores.on_score(a_score(0, 0.9, model="heart"))
    scores.on_score(a_score(MINUTE, 0.2, model="sepsis"))

    assert [(view.model, view.score) for view in scores.views(START + MINUTE)] == [("heart", 0.9), ("sepsis", 0.2)]


def test_a_score_that_is_too_old_is_not_shown_as_current() -> None:
    scores = some_scores()
    scores.on_score(a_score(0, 0.9))

    (valid,) = scores.views(START + SCORE_VALID_MS)
    (too_old,) = scores.views(START + SCORE_VALID_MS + 1)

    assert (valid.score, too_old.score) == (0.9, None)


def by_edge(edge: str, after_ms: int, score: float | None) -> ModelScore:
    return replace(a_score(after_ms, score), edge=edge)


def test_two_edges_that_differ_make_no_alarm_come_and_go() -> None:
    scores = some_scores()
    told = []
    for minute in range(0, 60, 2):
        told += scores.on_score(by_edge("e1", minute * MINUTE, 0.9))
        told += scores.on_score(by_edge("e2", (minute + 1) * MINUTE, 0.01))

    changes = [one for one in told if isinstance(one, AlarmChanged)]
    assert {one.alarm_id for one in changes if one.rule_id == "sepsis_risk"} == {changes[0].alarm_id}
    assert {one.state for one in changes} == {AlarmState.ACTIVE}
    (shown,) = scores.views(START + HOUR)
    assert shown.score == 0.9


def test_an_edge_that_scores_no_more_counts_until_its_score_is_too_old() -> None:
    scores = some_scores()
    scores.on_score(by_edge("e1", 0, 0.9))
    scores.on_score(by_edge("e2", MINUTE, 0.01))
    at_once = scores.on_score(by_edge("e2", SCORE_VALID_MS, 0.01))
    told = [scores.on_score(by_edge("e2", SCORE_VALID_MS + n * MINUTE, 0.01)) for n in range(1, 90)]

    assert alarms(at_once, "sepsis_risk") == []
    assert alarms([one for these in told for one in these], "sepsis_risk")[-1].state is AlarmState.CLEARED


def test_a_model_is_available_if_one_edge_has_its_probability() -> None:
    scores = some_scores()
    scores.on_score(by_edge("e1", 0, 0.1))

    assert alarms(scores.on_score(by_edge("e2", MINUTE, None)), "model_unavailable") == []


def test_scores_of_edges_are_restored_and_those_of_earlier_versions_are_read() -> None:
    scores, again, earlier = some_scores(), some_scores(), some_scores()
    scores.on_score(a_score(0, 0.2))
    earlier.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(scores.to_state())))
    assert earlier.views(START) == scores.views(START)

    scores.on_score(by_edge("e2", MINUTE, 0.3))
    again.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(scores.to_state())))

    assert again.views(START + MINUTE) == scores.views(START + MINUTE)
    assert again.to_state() == scores.to_state()
