"""The last score of each model: order, availability, and what a screen shows of it."""

from tests.vitals.stories import BINDING, HOUR, MINUTE, START, a_plan, a_score, alarms
from vitals.alarms import AlarmBook
from vitals.conditions import Conditions
from vitals.latest import LatestValues
from vitals.messages import ModelScored
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
