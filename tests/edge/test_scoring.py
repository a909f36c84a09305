"""What models say at an edge: when they are asked, what they remember, and what happens when one of them fails."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.scoring import ASK_MS, BUDGET_S, Scoring
from models.artifacts import RELEASED, LoadedModels, load_all
from models.errors import ModelUnavailable
from models.heart import HeartModel
from models.sepsis import SepsisModel
from tests.edge.benches import HOUR, MINUTE, NOW
from tests.models.made_up import copied, released
from vitals.messages import ModelScore, Reading
from vitals.signs import INDEX, VitalSign
from wire.identity import NOTHING, About

BINDING = "ab" * 16
WELL: dict[str, Any] = {
    "heart_rate": 70.0, "respiratory_rate": 14.0, "spo2": 98.0, "temperature": 36.8, "systolic_bp": 124.0,
    "diastolic_bp": 76.0,
}  # fmt: skip
ILL: dict[str, Any] = {
    "heart_rate": 128.0, "respiratory_rate": 34.0, "spo2": 89.0, "temperature": 39.6, "systolic_bp": 84.0,
    "diastolic_bp": 46.0,
}  # fmt: skip
HEART = About(age_years=67.0, is_male=True, chest_pain=4)


@pytest.fixture(scope="module")
def found() -> LoadedModels:
    return load_all(RELEASED)


def a_scoring(found: LoadedModels, *, about: About = NOTHING, **options: Any) -> Scoring:
    return Scoring(found, lambda _: about, **options)


def a_reading(after_ms: int, *, binding: str = BINDING, unusable: int = 0, **signs: Any) -> Reading:
    return Reading(
        stay_id=binding,
        reading_id=after_ms.to_bytes(16, "big"),
        session_id=b"s" * 16,
        counter=after_ms // 1_000,
        at_ms=NOW + after_ms,
        received_ms=NOW + after_ms + 100,
        unusable=unusable,
        **signs,
    )


def told(
    scoring: Scoring, signs: Callable[[int], dict[str, Any]], *, until_ms: int, from_ms: int = 0, every_ms: int = MINUTE
) -> list[ModelScore]:
    return [
        score
        for after_ms in range(from_ms, until_ms, every_ms)
        for score in scoring.score(a_reading(after_ms, **signs(after_ms)))
    ]


def well(_: int) -> dict[str, Any]:
    return WELL


def ill(_: int) -> dict[str, Any]:
    return ILL


def getting_worse(after_ms: int) -> dict[str, Any]:
    share = min(after_ms / (8 * HOUR), 1.0)
    return {sign: WELL[sign] + share * (ILL[sign] - WELL[sign]) for sign in WELL}


# When


def test_a_model_is_asked_at_once_and_then_every_five_minutes(found: LoadedModels) -> None:
    scores = told(a_scoring(found), well, until_ms=HOUR)

    assert [score.at_ms - NOW for score in scores] == list(range(0, HOUR, ASK_MS))
    assert {score.model for score in scores} == {"sepsis"}
    assert all(score.score is not None and 0 < score.score < score.threshold for score in scores)


def test_who_gets_worse_gets_a_higher_score_than_who_stays_well(found: LoadedModels) -> None:
    steady = told(a_scoring(found), well, until_ms=9 * HOUR)[-1]
    worse = told(a_scoring(found), getting_worse, until_ms=9 * HOUR)[-1]

    assert steady.score is not None
    assert worse.score is not None
    assert worse.score > 3 * steady.score
    assert worse.score >= worse.threshold


def test_a_finished_hour_is_one_step_and_the_current_hour_is_scored_as_if_it_ended_now(
    found: LoadedModels,
) -> None:
    model = SepsisModel(released("sepsis"))
    patient = model.patient()

    def signs(after_ms: int) -> dict[str, Any]:
        return {**WELL, "heart_rate": 70.0 + after_ms // HOUR * 5}

    scores = told(a_scoring(found), signs, until_ms=3 * HOUR)

    expected = []
    for hour in range(3):
        values = {VitalSign(sign): value for sign, value in signs(hour * HOUR).items()}
        expected.append(model.step(patient, NOW + (hour + 1) * HOUR, values))
    assert [score.score for score in scores[11::12]] == expected


def test_a_gap_of_many_hours_is_a_gap_and_not_many_steps(found: LoadedModels) -> None:
    scoring = a_scoring(found)
    told(scoring, well, until_ms=2 * HOUR)

    after = told(scoring, well, from_ms=20 * HOUR, until_ms=21 * HOUR)

    patient = scoring._patients[BINDING].sepsis
    assert patient is not None
    assert [kept.at_ms - NOW for kept in patient.kept] == [HOUR, 2 * HOUR]
    assert scoring._patients[BINDING].hour_ends_ms == NOW + 21 * HOUR
    assert all(score.score is not None for score in after)


def test_a_value_that_may_not_be_scored_is_not_shown_to_a_model(found: LoadedModels) -> None:
    marked = 1 << INDEX[VitalSign.HEART_RATE]
    doubtful, without = a_scoring(found), a_scoring(found)

    (one,) = doubtful.score(a_reading(0, unusable=marked, **{**WELL, "heart_rate": 220.0}))
    (other,) = without.score(a_reading(0, **{**WELL, "heart_rate": None}))

    assert one.score == other.score


def test_age_and_sex_are_told_to_the_model_where_they_are_known(found: LoadedModels) -> None:
    (unknown,) = a_scoring(found).score(a_reading(0, **WELL))
    (known,) = a_scoring(found, about=About(age_years=88.0, is_male=True)).score(a_reading(0, **WELL))

    assert known.score != unknown.score


# Why


def test_a_score_says_why_when_it_begins_to_speak_and_once_an_hour(found: LoadedModels) -> None:
    scores = told(a_scoring(found), getting_worse, until_ms=10 * HOUR)

    speaking = [score.score is not None and score.score >= score.threshold for score in scores]
    first = speaking.index(True)
    explained = [place for place, score in enumerate(scores) if score.reason and "as of" not in score.reason]
    assert all(score.reason for score, speaks in zip(scores, speaking, strict=True) if speaks)
    assert first in explained
    assert explained[0] == 0
    assert max(later - before for before, later in pairwise(explained)) <= 12
    assert len(explained) < len(scores) / 6
    assert scores[first].reason.count("(") == 3


def test_a_model_that_fell_silent_or_eased_says_why_anew(found: LoadedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    scoring = a_scoring(found)
    threshold = released("sepsis").passport.threshold
    said: dict[int, float | None] = {0: 2.0, 5: 2.0, 10: 0.5, 15: 2.0, 20: None, 25: 2.0}
    reasons = {}
    for minute, times in said.items():
        with monkeypatch.context() as made:
            made.setattr(
                SepsisModel, "preview", lambda *_, times=times: math.nan if times is None else times * threshold
            )
            made.setattr(SepsisModel, "abstention", lambda *_, times=times: "doubt" if times is None else None)
            (score,) = scoring.score(a_reading(minute * MINUTE, **WELL))
            reasons[minute] = score.reason

    assert "(" in reasons[0]
    assert reasons[5] == f"{reasons[0]}; as of 5 min ago"
    assert reasons[10] == ""
    assert "(" in reasons[15]
    assert "as of" not in reasons[15]
    assert reasons[20] == "doubt"
    assert "(" in reasons[25]
    assert "as of" not in reasons[25]


# Heart


def test_the_heart_model_judges_those_of_whom_it_was_told_enough(found: LoadedModels) -> None:
    both = a_scoring(found, about=HEART).score(a_reading(0, **WELL))
    alone = a_scoring(found, about=About(age_years=67.0, is_male=True)).score(a_reading(0, **WELL))

    model = HeartModel(released("heart-home"))
    assert [score.model for score in both] == ["sepsis", "heart"]
    assert both[1].score == model.score({"age": 67.0, "sex": 1.0, "cp": 4, "trestbps": 124.0})
    assert "man" in both[1].reason or "no chest pain" in both[1].reason
    assert [score.model for score in alone] == ["sepsis"]


def test_a_pressure_of_an_earlier_hour_still_counts_for_the_heart(found: LoadedModels) -> None:
    scoring = a_scoring(found, about=HEART)
    first = scoring.score(a_reading(0, **WELL))[1]

    later = scoring.score(a_reading(2 * HOUR, **{**WELL, "systolic_bp": None}))[1]

    assert later.score == first.score


# When one cannot be believed, or cannot judge


def test_without_models_nothing_is_said_and_the_title_says_so() -> None:
    scoring = a_scoring(LoadedModels({}, {}))

    assert scoring.title == "rules only (no model artifacts)"
    assert scoring.score(a_reading(0, **WELL)) == []


def test_a_damaged_model_says_that_it_cannot_judge_and_the_other_goes_on(tmp_path: Path) -> None:
    (copied("sepsis", tmp_path) / "model.onnx").write_bytes(b"damaged")
    copied("heart-home", tmp_path)

    scoring = a_scoring(load_all(tmp_path), about=HEART)
    sepsis, heart = scoring.score(a_reading(0, **WELL))

    assert scoring.title.startswith("rules + heart-home ")
    assert scoring.title.endswith("(sepsis refused: hash)")
    assert (sepsis.model, sepsis.score, sepsis.version, sepsis.reason) == ("sepsis", None, "", "refused: hash")
    assert heart.score is not None


def test_a_model_that_cannot_run_here_is_refused_as_well(found: LoadedModels) -> None:
    artifact = released("sepsis")
    golden = msgspec.structs.replace(artifact.passport.golden, output=[[0.9] * 6])
    other = artifact._replace(passport=msgspec.structs.replace(artifact.passport, golden=golden))

    scoring = a_scoring(LoadedModels({"sepsis": other}, {}))

    assert scoring.title == "rules only (sepsis refused: golden)"


def test_a_released_model_that_this_edge_does_not_ask_is_not_named(found: LoadedModels) -> None:
    assert set(found.models) > set(a_scoring(found).versions)
    assert "rhythm" not in a_scoring(found).title


def test_a_model_abstains_where_too_little_is_known(found: LoadedModels) -> None:
    (score,) = a_scoring(found).score(a_reading(0, heart_rate=70.0, spo2=98.0))

    assert score.score is None
    assert score.reason == "only 2 of 6 signs within 3 h"


def test_a_score_that_costs_too_much_is_none(found: LoadedModels) -> None:
    slow = iter([0.0, BUDGET_S + 0.1])

    (score,) = a_scoring(found, timer=lambda: next(slow)).score(a_reading(0, **WELL))

    assert score.score is None
    assert score.reason == "took 0.3 s of 0.2 s"


def test_a_machine_that_is_too_slow_to_say_why_still_says_how_much(found: LoadedModels) -> None:
    def timer() -> Iterator[float]:
        now = 0.0
        while True:  # a score, then its explanation, which takes a second
            yield now
            yield now + 0.001
            yield now
            now += 1.0
            yield now

    ticks = timer()
    scoring = a_scoring(found, timer=lambda: next(ticks))
    first = scoring.score(a_reading(0, **WELL))[0]
    later = scoring.score(a_reading(2 * HOUR, **WELL))[0]

    assert "(" in first.reason
    assert later.score is not None
    assert later.reason == "this machine is too slow to say why"


@pytest.mark.parametrize("error", [ModelUnavailable("output", "gave no probability"), ZeroDivisionError("a defect")])
def test_a_defect_of_a_model_is_told_and_stays_with_it(
    found: LoadedModels, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring = a_scoring(found, about=HEART)

    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr(SepsisModel, "preview", fail)
    sepsis, heart = scoring.score(a_reading(0, **WELL))

    assert sepsis.score is None
    assert sepsis.reason in ("gave no probability", "ZeroDivisionError")
    assert heart.score is not None


def test_an_hour_that_could_not_be_taken_in_is_told_until_one_can(
    found: LoadedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring = a_scoring(found)
    told(scoring, well, until_ms=HOUR)
    with monkeypatch.context() as broken:
        broken.setattr(SepsisModel, "step", lambda *_: 1 / 0)
        (failed,) = scoring.score(a_reading(HOUR, **WELL))
    (still,) = scoring.score(a_reading(HOUR + ASK_MS, **WELL))
    (again,) = scoring.score(a_reading(2 * HOUR, **WELL))

    assert (failed.score, failed.reason) == (None, "ZeroDivisionError")
    assert still.score is None
    assert again.score is not None


# What is remembered


def test_after_a_restart_the_hours_that_are_over_are_known(found: LoadedModels) -> None:
    through, before = a_scoring(found), a_scoring(found)
    told(through, getting_worse, until_ms=6 * HOUR)
    told(before, getting_worse, until_ms=6 * HOUR)
    told(before, getting_worse, from_ms=6 * HOUR, until_ms=6 * HOUR + 1)

    after = a_scoring(found, states=before.drain_states())

    one = told(through, getting_worse, from_ms=6 * HOUR, until_ms=8 * HOUR)
    other = told(after, getting_worse, from_ms=6 * HOUR, until_ms=8 * HOUR)
    assert [score.score for score in other] == [score.score for score in one]


def test_after_a_restart_in_the_middle_of_an_hour_the_monitor_says_what_was_measured(found: LoadedModels) -> None:
    through, before = a_scoring(found), a_scoring(found)
    told(through, getting_worse, until_ms=5 * HOUR // 2)
    told(before, getting_worse, until_ms=5 * HOUR // 2)
    newest = {VitalSign(sign): (value, NOW + 149 * MINUTE) for sign, value in getting_worse(149 * MINUTE).items()}

    after = a_scoring(found, states=before.drain_states())
    after.resume(BINDING, newest, NOW + 145 * MINUTE)

    cuff = {"systolic_bp": None, "diastolic_bp": None}

    def without_cuff(after_ms: int) -> dict[str, Any]:
        return getting_worse(after_ms) | cuff

    one = told(through, without_cuff, from_ms=150 * MINUTE, until_ms=5 * HOUR)
    other = told(after, without_cuff, from_ms=150 * MINUTE, until_ms=5 * HOUR)
    assert [(score.at_ms, score.score) for score in other] == [(score.at_ms, score.score) for score in one]


def test_a_value_of_an_hour_that_is_over_is_not_taken_for_one_of_this_hour(found: LoadedModels) -> None:
    before = a_scoring(found)
    told(before, well, until_ms=2 * HOUR + 1)
    after = a_scoring(found, states=before.drain_states())

    after.resume(BINDING, {VitalSign.HEART_RATE: (180.0, NOW + 2 * HOUR - 1)}, None)

    assert after._patients[BINDING].now == {}


def test_an_hour_without_a_value_is_over_after_a_restart_as_well(found: LoadedModels) -> None:
    before = a_scoring(found)
    told(before, well, until_ms=HOUR + 1)
    before.score(a_reading(HOUR + MINUTE))  # from here on nothing can be measured for two hours
    before.score(a_reading(3 * HOUR + MINUTE))
    committed = before.drain_states()
    before.score(a_reading(4 * HOUR + MINUTE))
    committed |= before.drain_states()

    after = a_scoring(found, states=committed)
    after.resume(BINDING, {VitalSign.HEART_RATE: (88.0, NOW + 4 * HOUR + 2 * MINUTE)}, None)
    told(after, well, from_ms=5 * HOUR, until_ms=5 * HOUR + 1)

    patient = after._patients[BINDING].sepsis
    assert patient is not None
    (*_, last) = patient.kept
    assert (last.at_ms - NOW, last.values[0]) == (5 * HOUR, 88.0)


def test_a_reading_that_was_held_up_counts_and_asks_nobody(found: LoadedModels) -> None:
    in_order, upside_down = a_scoring(found), a_scoring(found)
    cuff = a_reading(4 * MINUTE, systolic_bp=95.0, diastolic_bp=50.0)
    pulse = a_reading(4 * MINUTE + 5_000, heart_rate=90.0)
    for scoring in (in_order, upside_down):
        scoring.score(a_reading(0, **WELL))
    in_order.score(cuff)
    in_order.score(pulse)
    upside_down.score(pulse)

    assert upside_down.score(cuff, late=True) == []
    assert upside_down.score(a_reading(5 * MINUTE, **WELL)) == in_order.score(a_reading(5 * MINUTE, **WELL))
    assert upside_down._patients[BINDING].now == in_order._patients[BINDING].now


def test_what_is_remembered_is_handed_out_when_an_hour_ends_and_not_before(found: LoadedModels) -> None:
    scoring = a_scoring(found)
    scoring.score(a_reading(0, **WELL))
    assert set(scoring.drain_states()) == {BINDING}  # who is new
    told(scoring, well, from_ms=MINUTE, until_ms=HOUR)
    assert scoring.drain_states() == {}

    scoring.score(a_reading(HOUR, **WELL))

    assert set(scoring.drain_states()) == {BINDING}
    assert scoring.drain_states() == {}


def test_a_memory_that_cannot_be_read_is_counted_and_begins_anew(found: LoadedModels) -> None:
    scoring = a_scoring(found, states={BINDING: b"damaged", "cd" * 16: b"\x92\x01\xc4\x01x"})

    assert scoring.forgotten == 2
    assert scoring.score(a_reading(0, **WELL))[0].score is not None


@pytest.mark.slow
def test_what_is_remembered_of_one_patient_is_small(found: LoadedModels) -> None:
    scoring = a_scoring(found)
    told(scoring, getting_worse, until_ms=80 * HOUR, every_ms=HOUR // 2)

    (state,) = scoring.drain_states().values()

    assert len(state) < 16_384


def test_patients_do_not_know_of_one_another(found: LoadedModels) -> None:
    together, alone = a_scoring(found), a_scoring(found)

    mixed = []
    for after_ms in range(0, 4 * HOUR, ASK_MS):
        mixed += together.score(a_reading(after_ms, **getting_worse(after_ms)))
        together.score(a_reading(after_ms, binding="cd" * 16, **ILL))

    assert mixed == told(alone, getting_worse, until_ms=4 * HOUR, every_ms=ASK_MS)


@pytest.mark.parametrize("about", [About(age_years=8.0), About(age_years=30.0, is_male=False, is_pregnant=True)])
def test_no_model_is_asked_for_a_patient_for_whom_none_was_made(about: About, found: LoadedModels) -> None:
    asked = told(a_scoring(found, about=about), well, until_ms=30 * MINUTE)

    assert asked == []
    assert told(a_scoring(found), well, until_ms=30 * MINUTE) != []
