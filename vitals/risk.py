"""Rule scores and model scores side by side: statements on sepsis and heart risk with their reasons, in one line.

A model may add a statement; it can never hide, lower or delay that of the rule. Texts hold values of a patient:
they belong on a ward's own screens.
"""

from enum import StrEnum
from math import isfinite
from typing import Final, TypeAlias

import msgspec

from vitals.measuring_interval import HOURLY, SIX_HOURLY
from vitals.messages import ModelScore, News2Part, News2Scored, Priority
from vitals.news2 import News2
from vitals.scores import because, shown
from vitals.signs import SPEC, VitalSign


class RiskTopic(StrEnum):
    """The subject of a statement. The value is the name of the model that judges it."""

    SEPSIS = "sepsis"
    HEART = "heart"


class RiskStatement(msgspec.Struct, frozen=True, kw_only=True):
    """The combined statement of rule and model."""

    topic: RiskTopic
    level: Priority | None  # None: no increased risk
    basis: str  # "NEWS2", or "NEWS2+model 1.2" if a usable model score was considered
    text: str


class _RiskTopicSpec(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    rule: str
    levels: tuple[tuple[int, Priority], ...]  # (lowest points, level), highest first
    model_adds: Priority  # level that a model may raise alone; high is reserved for the rule until models are proven


# The aggregate thresholds of NEWS2 (RCP 2017): 5 requires an urgent response, 7 an emergency one. At 5 the RCP advises
# to think of sepsis.
_NEWS2_LEVELS: Final = ((7, Priority.HIGH), (5, Priority.MEDIUM))

_TOPICS: Final = {
    RiskTopic.SEPSIS: _RiskTopicSpec(
        label="sepsis risk", rule="NEWS2", levels=_NEWS2_LEVELS, model_adds=Priority.MEDIUM
    ),
    RiskTopic.HEART: _RiskTopicSpec(label="heart risk", rule="NEWS2", levels=_NEWS2_LEVELS, model_adds=Priority.MEDIUM),
}


def statement(
    topic: RiskTopic | str,
    rule_points: int,
    model_score: ModelScore | None,
    *,
    rule_complete: bool = True,
) -> RiskStatement:
    """The statement on one topic.

    `rule_points` is NEWS2's `at_least`; with `rule_complete=False` the text marks it as a lower bound. If there
    is no model score, or it is not a probability, the statement is that of the rule.

    Raises:
        ValueError: there is no such topic.
    """
    spec = _TOPICS[RiskTopic(topic)]
    by_rule = next((level for points, level in spec.levels if rule_points >= points), None)
    points = f"{'' if rule_complete else '>= '}{rule_points}"
    rule_text = f"{spec.label} {_level_text(by_rule)} by {spec.rule} {points}"
    probability = None if model_score is None else probability_of(model_score)
    if model_score is None or probability is None:
        return RiskStatement(
            topic=RiskTopic(topic),
            level=by_rule,
            basis=spec.rule,
            text=f"{rule_text}; {_without_probability(model_score)}",
        )
    fires = probability >= model_score.threshold
    level = max(by_rule or spec.model_adds, spec.model_adds) if fires else by_rule
    model = f"model {model_score.version}"
    reason = f" ({model_score.reason})" if fires and model_score.reason else ""
    verdict = f"{_level_text(spec.model_adds)} by {model}" if fires else f"nothing added by {model}"
    return RiskStatement(
        topic=RiskTopic(topic),
        level=level,
        basis=f"{spec.rule}+{model}",
        text=f"{rule_text}; {verdict}: {probability:.1%}, alarm threshold {model_score.threshold:.1%}{reason}",
    )


def probability_of(score: ModelScore) -> float | None:
    """The score of a model if it is a probability; None if the model abstained or the score is not in [0, 1]."""
    if score.score is None or not isfinite(score.score) or not 0 <= score.score <= 1:
        return None
    return score.score


_SHOWN_AGE_MS: Final = 300_000

AnyNews2: TypeAlias = News2 | News2Scored


def explain_news2(
    news2: AnyNews2, earlier: tuple[int, int] | None, now_ms: int, *, earlier_complete: bool = True
) -> str:
    """A NEWS2 in one line.

    `NEWS2 7: RR 26 (+3), SpO2 91 (+3), HR 95 (+1); 2 h ago 3`, and incomplete
    `NEWS2 >= 5 (SpO2 missing 12 min): ...`, or `(ACVPU due, 2 h old)` for a value that is older than
    the risk allows. Only signs that scored, highest first. An SpO2 on scale 2 is marked, and a
    value older than five minutes has its age: `SBP 95 [40 min old] (+2)`.

    Args:
        earlier: (`at_least`, `at_ms`) of the score to compare with.
        earlier_complete: `False` writes the earlier one as a lower bound.
    """
    missing = ", ".join(
        _due_text(part) if part.sign in news2.due else _missing_text(part)
        for part in news2.parts
        if part.points is None or part.sign in news2.due
    )
    head = f"NEWS2 >= {news2.at_least} ({missing})" if missing else f"NEWS2 {news2.at_least}"
    parts = because(
        (_shown(part, part.value, news2.spo2_scale), part.points)
        for part in news2.parts
        if part.value is not None and part.points is not None
    )
    if earlier is None:
        return head + parts
    points, at_ms = earlier
    return f"{head}{parts}; {duration(now_ms - at_ms)} ago {'' if earlier_complete else '>= '}{points}"


def due_texts(news2: News2) -> tuple[str, ...]:
    """What has to be measured or entered again, one sentence for each sign; empty if nothing is due.

    `consciousness entered 11 h ago: due (hourly at NEWS2 5 or more, or 3 in one parameter)`.
    """
    ages = {part.sign: part.age_ms or 0 for part in news2.parts}
    why = _DUE_AT.get(news2.due_every_ms, f"every {duration(news2.due_every_ms)}")
    return tuple(
        f"{SPEC[sign].label} {'entered' if SPEC[sign].entered else 'measured'} {duration(ages[sign])} ago: due ({why})"
        for sign in news2.due
    )


_DUE_AT: Final = {
    HOURLY: "hourly at NEWS2 5 or more, or 3 in one parameter",
    SIX_HOURLY: "every 6 h at NEWS2 1 to 4",
}


def duration(ms: int) -> str:
    """A span of time for people, in whole units, rounded down: `45 s`, `12 min`, `2 h`, `3 d`.

    >>> duration(119 * 60_000), duration(120 * 60_000)
    ('119 min', '2 h')
    """
    seconds = max(0, ms) // 1_000
    size, unit = next((size, unit) for limit, size, unit in _SPANS if limit is None or seconds < limit)
    return f"{seconds // size} {unit}"


# (used below this many seconds, seconds of the unit, unit). Up to two of a unit are written in the smaller one: 90 min
# is more precise than 1 h.
_SPANS: Final[tuple[tuple[int | None, int, str], ...]] = (
    (60, 1, "s"),
    (2 * 3_600, 60, "min"),
    (48 * 3_600, 3_600, "h"),
    (None, 86_400, "d"),
)


def _shown(part: News2Part, value: float, spo2_scale: int) -> str:
    text = shown(VitalSign(part.sign), value)
    if part.sign == VitalSign.SPO2 and spo2_scale == 2:
        text = f"{text} on scale 2"  # explains why 96 % scores points
    return text if (part.age_ms or 0) < _SHOWN_AGE_MS else f"{text} [{duration(part.age_ms or 0)} old]"


def _missing_text(part: News2Part) -> str:
    abbreviation = SPEC[VitalSign(part.sign)].abbreviation
    return f"{abbreviation} missing" if part.age_ms is None else f"{abbreviation} missing {duration(part.age_ms)}"


def _due_text(part: News2Part) -> str:
    return f"{SPEC[VitalSign(part.sign)].abbreviation} due, {duration(part.age_ms or 0)} old"


def _level_text(level: Priority | None) -> str:
    return "not raised" if level is None else level.name.lower()


def _without_probability(score: ModelScore | None) -> str:
    if score is None:
        return "no model"
    if score.score is None:
        return f"model {score.version} abstains" + (f": {score.reason}" if score.reason else "")
    return f"model {score.version} gave no probability"
