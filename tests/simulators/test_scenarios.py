"""Scenarios: each leads every patient to the scores that its row gives."""

import numpy as np
import numpy.typing as npt
import pytest

from simulators.errors import UnknownScenario
from simulators.physiology import Cohort, Drive, Sign
from simulators.scenarios import MINUTE_MS, NAMES, SCENARIOS, Effect, Scenario, Script, scenario
from vitals.messages import Priority
from vitals.rules import DEFAULT_RULES

MORNING_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 8 * 3_600_000

# The RCP's chart, written down a second time: (highest value of each column but the last), (points of each column).
CHART = {
    Sign.RESPIRATORY_RATE: ((8, 11, 20, 24), (3, 1, 0, 2, 3)),
    Sign.SPO2: ((91, 93, 95), (3, 2, 1, 0)),
    Sign.SYSTOLIC_BP: ((90, 100, 110, 219), (3, 2, 1, 0, 3)),
    Sign.HEART_RATE: ((40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3)),
    Sign.TEMPERATURE: ((35.0, 36.0, 38.0, 39.0), (3, 1, 0, 1, 2)),
}


def news2(cohort: Cohort) -> npt.NDArray[np.int64]:
    """NEWS2 of the bodies themselves, without any wearable."""
    total = 2 * (cohort.drives[Drive.OXYGEN] > 0) + 3 * (cohort.drives[Drive.CLOUDING] >= 1)
    for sign, (edges, points) in CHART.items():
        shown = np.round(cohort.signs[sign], 1 if sign is Sign.TEMPERATURE else 0)
        total = total + np.array(points)[np.searchsorted(np.array(edges), shown, side="left")]
    scores: npt.NDArray[np.int64] = total.astype(np.int64)
    return scores


def played(name: str, *, patients: int = 300, minutes: int = 240) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """NEWS2 of those who rest, through one story: (milliseconds into it, scores)."""
    story, cohort = scenario(name), Cohort.of(11, patients, at_ms=MORNING_MS)
    script = Script([story] * patients)
    seen = []
    for elapsed_ms in range(30_000, minutes * MINUTE_MS + 1, 30_000):
        cohort.step(MORNING_MS + elapsed_ms, script.drives(elapsed_ms))
        seen.append((elapsed_ms, news2(cohort)[cohort.activity < 0.05]))
    return seen


@pytest.mark.parametrize("name", [row.name for row in SCENARIOS if not row.beds])
def test_every_story_ends_in_the_region_it_promises(name: str) -> None:
    least, most = scenario(name).news2

    settled = [scores for at_ms, scores in played(name) if at_ms >= scenario(name).settled_ms]

    assert min(scores.min() for scores in settled if scores.size) >= least
    assert max(scores.max() for scores in settled if scores.size) <= most


@pytest.mark.parametrize(
    ("name", "priority", "score"),
    [
        ("sepsis-onset", Priority.MEDIUM, 5),
        ("sepsis-onset", Priority.HIGH, 7),
        ("hypoxia", Priority.MEDIUM, 5),
        ("haemorrhage", Priority.MEDIUM, 5),
        ("haemorrhage", Priority.HIGH, 7),
    ],
)
def test_a_score_is_reached_within_its_span(name: str, priority: Priority, score: int) -> None:
    expected = next(row for row in scenario(name).expects if (row.rule_id, row.priority) == ("news2", priority))
    seen = played(name)

    before = [scores for at_ms, scores in seen if at_ms < expected.from_ms]
    by_then = next(scores for at_ms, scores in seen if at_ms >= expected.by_ms)

    assert all(scores.max() < score for scores in before if scores.size)
    assert by_then.min() >= score


def test_a_default_ward_has_a_patient_in_danger_within_minutes_and_most_are_well() -> None:
    ward = [scenario("mixed").for_bed(bed) for bed in range(8)]

    assert sum(row.name == "stable" for row in ward) > 4
    # At thirty simulated seconds a second, twenty minutes are forty seconds in front of the screen.
    assert any(row.by_ms <= 20 * MINUTE_MS for story in ward for row in story.expects)


def test_a_larger_ward_plays_every_story_of_wearables_that_tell_no_activity() -> None:
    told = {row.name for row in SCENARIOS if row.tells_activity}

    assert {scenario("mixed").for_bed(bed).name for bed in range(40)} == set(NAMES) - {"mixed"} - told
    assert told == {"walks", "training", "sepsis-on-a-walk"}


def test_a_single_story_is_the_same_in_every_bed() -> None:
    assert {scenario("hypoxia").for_bed(bed).name for bed in range(100)} == {"hypoxia"}


def test_an_effect_rises_holds_and_goes() -> None:
    #            ______
    #           /      \
    #   _______/        \______
    #   0     10  20   30  40      minutes
    effect = Effect(what=Drive.FEVER, size=2.0, onset_ms=10 * MINUTE_MS, ramp_ms=10 * MINUTE_MS, hold_ms=10 * MINUTE_MS)

    sizes = [effect.at(minute * MINUTE_MS) for minute in (0, 10, 15, 20, 29, 30, 35, 40, 60)]

    assert sizes == [0, 0, 1, 2, 2, 2, 1, 0, 0]


def test_a_sudden_effect_is_there_at_once_and_gone_at_once() -> None:
    effect = Effect(what=Drive.DETACHED, size=1.0, onset_ms=5_000, hold_ms=5_000)

    assert [effect.at(at_ms) for at_ms in (4_999, 5_000, 9_999, 10_000)] == [0, 1, 1, 0]


def test_effects_of_one_drive_add_up() -> None:
    both = Scenario(
        name="own",
        summary="",
        effects=(
            Effect(what=Drive.CHRONOTROPY, size=10, onset_ms=0),
            Effect(what=Drive.CHRONOTROPY, size=5, onset_ms=1_000),
        ),
    )
    script = Script([scenario("stable"), both])

    assert script.drives(500)[Drive.CHRONOTROPY].tolist() == [0, 10]
    assert script.drives(1_500)[Drive.CHRONOTROPY].tolist() == [0, 15]


def test_an_unknown_scenario_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownScenario, match=r"unknown scenario 'sepsis'; known are stable, sepsis-onset, .*mixed"):
        scenario("sepsis")


def test_every_expected_alarm_has_its_rule_and_every_bed_its_story() -> None:
    rules = {rule.rule_id: rule for rule in DEFAULT_RULES}
    for row in SCENARIOS:
        for expected in row.expects:
            assert expected.priority in {limit.priority for limit in rules[expected.rule_id].limits}
        assert all(expected.from_ms < expected.by_ms for expected in row.expects)
        assert {name for _, name in row.beds} <= set(NAMES) - {"mixed"}
