"""The limit of a rule in the text of its alarm.

Added where a value is compared with the limit, for every rule alike: a text names the limit that was crossed and no
other one, whatever a plan has changed.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from vitals.messages import Consciousness
from vitals.risk import duration
from vitals.rules import Rule
from vitals.signs import SPEC


def _plain(threshold: float) -> str:
    return f"{threshold:g}"


# Quantities whose limits are numbers that a clinician reads.
_SHOWN: Final[dict[str, Callable[[float], str]]] = {
    **dict.fromkeys((sign.value for sign in SPEC), _plain),
    "consciousness": lambda limit: Consciousness(int(limit)).letter,
    **dict.fromkeys(("news2", "red_sign", "qsofa", "sirs", "mews", "shock_index"), _plain),
    **dict.fromkeys(("baseline:heart_rate", "baseline:respiratory_rate"), lambda limit: f"{limit:g} deviations"),
    "sensor_off": lambda limit: duration(int(limit)),
    "battery": lambda limit: f"{limit:g} %",
}
STATED_IN_WORDS: Final = frozenset(
    {
        "model:sepsis",  # multiples of the threshold of a model: the text has the probability that was crossed
        "model:heart",
        "model:rhythm",
        "zero",  # how long, and what is usual
        "suspect_value",
        "unusable",
        "model_unavailable",  # states: the text names the state
        "freshness",
        "clock",
        "combined",  # the text has each value with its limit
        "trend",
        "disagreement",  # the text has both values
        "device_silence",
    }
)
"""Quantities whose limits are no numbers for people."""


def limit_text(rule: Rule, value: float) -> str:
    """The limit that `value` has crossed; empty for a quantity of STATED_IN_WORDS, and if it has crossed none.

    >>> from vitals.rules import DEFAULT_RULES
    >>> limit_text(next(rule for rule in DEFAULT_RULES if rule.rule_id == "news2"), 6)
    'limit >= 5'
    """
    shown, crossed = _SHOWN.get(rule.quantity), rule.crossed(value)
    return "" if shown is None or crossed is None else f"limit {rule.comparison} {shown(crossed.threshold)}"


def limits_text(rule: Rule) -> str:
    """All limits of a rule, and how long they must be crossed.

    >>> from vitals.rules import DEFAULT_RULES
    >>> limits_text(next(rule for rule in DEFAULT_RULES if rule.rule_id == "low_spo2"))
    'limits now <= 87 (medium), <= 84 (high) for 15 s'
    """
    shown = _SHOWN.get(rule.quantity)
    if shown is None:
        return "its rule is another now"
    limits = (f"{rule.comparison} {shown(one.threshold)} ({one.priority.name.lower()})" for one in rule.limits)
    lasting = f" for {duration(rule.for_ms)}" if rule.for_ms else ""
    return f"limits now {', '.join(limits)}{lasting}"


def with_limit(rule: Rule, value: float, explain: Callable[[], str], note: str = "") -> Callable[[], str]:
    """`explain`, with the limit and a note at the end of its text."""
    return partial(_join, rule, value, explain, note)


def _join(rule: Rule, value: float, explain: Callable[[], str], note: str) -> str:
    return "; ".join(text for text in (explain(), limit_text(rule, value), note) if text)
