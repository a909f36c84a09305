"""What rule and model say together, and a NEWS2 in one line."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitals import news2
from vitals.messages import Consciousness, ModelScore, News2Scored, Priority
from vitals.risk import RiskTopic, duration, explain_news2, statement
from vitals.signs import VitalSign

MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_700_000_000_000


def says(score: float | None, *, reason: str = "", threshold: float = 0.7) -> ModelScore:
    return ModelScore(
        stay_id="00" * 16,
        reading_id=bytes(16),
        at_ms=NOW,
        received_ms=NOW,
        model="sepsis",
        version="1.2",
        score=score,
        threshold=threshold,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("points", "level"),
    [(0, None), (4, None), (5, Priority.MEDIUM), (6, Priority.MEDIUM), (7, Priority.HIGH), (20, Priority.HIGH)],
)
@pytest.mark.parametrize("topic", list(RiskTopic))
def test_without_a_model_the_rule_speaks(topic: RiskTopic, points: int, level: Priority | None) -> None:
    said = statement(topic, points, None)

    assert (said.level, said.basis) == (level, "NEWS2")


def test_a_model_adds_to_a_quiet_rule() -> None:
    said = statement("sepsis", 3, says(0.81, reason="RR, T rising"))

    assert (said.level, said.basis) == (Priority.MEDIUM, "NEWS2+model 1.2")
    assert said.text == (
        "sepsis risk not raised by NEWS2 3; medium by model 1.2: 81.0%, alarm threshold 70.0% (RR, T rising)"
    )


def test_a_calm_model_does_not_lower_a_loud_rule() -> None:
    said = statement("heart", 8, says(0.01))

    assert (said.level, said.basis) == (Priority.HIGH, "NEWS2+model 1.2")
    assert said.text == "heart risk high by NEWS2 8; nothing added by model 1.2: 1.0%, alarm threshold 70.0%"


@given(
    points=st.integers(0, 20),
    score=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    threshold=st.floats(0, 1),
    topic=st.sampled_from(list(RiskTopic)),
)
def test_no_model_ever_lowers(points: int, score: float | None, threshold: float, topic: RiskTopic) -> None:
    alone = statement(topic, points, None)
    together = statement(topic, points, says(score, threshold=threshold))

    assert (together.level or 0) >= (alone.level or 0)
    assert alone.text.partition(";")[0] in together.text


@pytest.mark.parametrize(
    ("score", "ending"),
    [
        (says(None, reason="warming 40 %"), "; model 1.2 abstains: warming 40 %"),
        (says(None), "; model 1.2 abstains"),
        (says(nan), "; model 1.2 gave no probability"),
        (says(inf), "; model 1.2 gave no probability"),
        (says(1.01), "; model 1.2 gave no probability"),
        (None, "; no model"),
    ],
)
def test_an_unusable_model_leaves_the_rule_alone_and_says_so(score: ModelScore | None, ending: str) -> None:
    said = statement("sepsis", 5, score)

    assert (said.level, said.basis) == (Priority.MEDIUM, "NEWS2")
    assert said.text == "sepsis risk medium by NEWS2 5" + ending


def test_the_threshold_itself_speaks() -> None:
    assert statement("sepsis", 0, says(0.7)).level is Priority.MEDIUM


def test_an_incomplete_rule_is_a_lower_bound_in_the_text() -> None:
    assert statement("sepsis", 5, None, rule_complete=False).text.startswith("sepsis risk medium by NEWS2 >= 5;")


def test_an_unknown_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="luck"):
        statement("luck", 5, None)


INPUTS = {
    VitalSign.RESPIRATORY_RATE: (26.0, 1_000),
    VitalSign.SPO2: (91.0, 1_000),
    VitalSign.SUPPLEMENTAL_OXYGEN: (0.0, HOUR),
    VitalSign.SYSTOLIC_BP: (120.0, 10 * MINUTE),
    VitalSign.HEART_RATE: (95.0, 1_000),
    VitalSign.CONSCIOUSNESS: (float(Consciousness.ALERT), HOUR),
    VitalSign.TEMPERATURE: (37.0, MINUTE),
}


def test_a_complete_score_in_one_line() -> None:
    text = explain_news2(news2.score(INPUTS), (3, NOW - 2 * HOUR), NOW)

    assert text == "NEWS2 7: RR 26 (+3), SpO2 91 (+3), HR 95 (+1); 2 h ago 3"


def test_an_incomplete_score_says_what_is_missing_and_for_how_long() -> None:
    inputs = INPUTS | {
        VitalSign.SPO2: (91.0, 12 * MINUTE),
        VitalSign.CONSCIOUSNESS: (float(Consciousness.VOICE), HOUR),
    }
    del inputs[VitalSign.TEMPERATURE]

    text = explain_news2(news2.score(inputs), None, NOW)

    assert text == "NEWS2 >= 7 (SpO2 missing 12 min, T missing): RR 26 (+3), ACVPU V [60 min old] (+3), HR 95 (+1)"


def test_an_earlier_lower_bound_stays_one() -> None:
    text = explain_news2(news2.score({}), (3, NOW - 90 * MINUTE), NOW, earlier_complete=False)

    assert text.startswith("NEWS2 >= 0 (RR missing, SpO2 missing")
    assert text.endswith("missing); 90 min ago >= 3")


def test_nothing_scored_nothing_listed() -> None:
    calm = INPUTS | {VitalSign.RESPIRATORY_RATE: (16.0, 0), VitalSign.SPO2: (97.0, 0), VitalSign.HEART_RATE: (70.0, 0)}

    assert explain_news2(news2.score(calm), None, NOW) == "NEWS2 0"


def test_scale_2_says_why_a_high_saturation_scores() -> None:
    inputs = INPUTS | {VitalSign.SPO2: (97.0, 0), VitalSign.SUPPLEMENTAL_OXYGEN: (2.0, 0)}

    text = explain_news2(news2.score(inputs, spo2_scale=2), None, NOW)

    assert text == "NEWS2 9: RR 26 (+3), SpO2 97 on scale 2 (+3), O2 2 L/min (+2), HR 95 (+1)"


def test_a_stored_score_reads_the_same() -> None:
    fresh = news2.score(INPUTS)
    stored = News2Scored(
        stay_id="00" * 16,
        reading_id=bytes(16),
        at_ms=NOW,
        total=fresh.total,
        at_least=fresh.at_least,
        risk=fresh.risk,
        spo2_scale=1,
        parts=fresh.parts,
    )

    assert explain_news2(stored, None, NOW) == explain_news2(fresh, None, NOW)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (119 * MINUTE, "119 min"),
        (120 * MINUTE, "2 h"),
        (47 * HOUR, "47 h"),
        (48 * HOUR, "2 d"),
    ],
)
def test_durations_for_people(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_a_value_that_has_been_held_says_how_old_it_is() -> None:
    # A cuff inflates every quarter of an hour; at the end of that its pressure is not news.
    inputs = {VitalSign.SYSTOLIC_BP: (95.0, 14 * MINUTE), VitalSign.RESPIRATORY_RATE: (26.0, 0)}

    text = explain_news2(news2.score(inputs), None, NOW)

    assert "RR 26 (+3), SBP 95 [14 min old] (+2)" in text
