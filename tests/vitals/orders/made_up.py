"""Levels of orders for tests: by hand, and drawn at random."""

from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.vitals.stories import HOUR, MINUTE, START
from vitals.messages import Activity, Priority
from vitals.orders import OBSERVE, PROFILES, OrderLevel, Prescription, QuietHours, RuleChange
from vitals.orders.order_file import COMBINED_MARGIN
from vitals.orders.units import LIMITS
from vitals.plan import MEASURED
from vitals.rules import DEFAULT_RULES, AlarmLimit, Rule, Term, Trend
from vitals.signs import SPEC, VitalSign

NOW: Final = START

LEVEL_NAMES: Final = ("site", "ward", "profile", "patient")


def a_level(level: str, **said: Any) -> OrderLevel:
    return OrderLevel(**{"level": level, "by": "dr.meyer", "why": "because"} | said)


_LADDERS = st.sampled_from([OBSERVE, "nurse-now", "crash-team"])
_LINE = st.text(st.characters(min_codepoint=32, blacklist_categories=["Cs"], blacklist_characters="\x7f"), max_size=20)


def _limit(quantity: str) -> st.SearchStrategy[float]:
    if quantity == "sensor_off":
        return st.integers(1, 60).map(lambda seconds: seconds * 1_000.0)
    spec = LIMITS[quantity]
    if spec.high - spec.low <= 3:
        return st.integers(round(spec.low + 0.49), int(spec.high)).map(float)
    return st.integers(round(spec.low * 10), round(spec.high * 10)).map(lambda tenths: tenths / 10)


@st.composite
def changes(draw: st.DrawFn, rule: Rule) -> RuleChange:
    """What a level may say of one rule. Limits of states are whole."""
    limits = st.one_of(st.none(), _limit(rule.quantity))
    said: dict[str, Any] = {name: draw(limits) for name in ("low", "medium", "high") if draw(st.integers(0, 3)) == 0}
    said |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "for_ms": st.integers(0, 600).map(lambda seconds: seconds * 1_000),
                "clear_margin": st.integers(0, 50).map(lambda tenths: tenths / 10),
                "clear_for_ms": st.integers(0, 1_800).map(lambda seconds: seconds * 1_000),
                "clear_count": st.integers(1, 5),
                "latching": st.booleans(),
                "enabled": st.booleans(),
                "call": _LADDERS,
            },
        )
    )
    return RuleChange(**said)


@st.composite
def conditions(draw: st.DrawFn, name: str) -> Rule:
    """A combined condition or a trend."""
    shared = {
        "rule_id": f"ordered_{name}",
        "label": draw(_LINE.filter(bool)),
        "for_ms": draw(st.integers(0, 600)) * 1_000,
        "clear_for_ms": draw(st.integers(0, 1_800)) * 1_000,
        "clear_count": draw(st.integers(1, 5)),
        "latching": draw(st.none() | st.booleans()),
        "basis": "order",
    }
    priority = draw(st.sampled_from(list(Priority)))
    if draw(st.booleans()):
        trend = Trend(
            draw(st.sampled_from(MEASURED)).value,
            draw(st.integers(5, 240)) * MINUTE,
            draw(st.booleans()),
            draw(st.booleans()),
        )
        limit, margin = draw(st.integers(1, 40)) + 0.5, draw(st.integers(0, 20)) / 4
        return Rule(**shared, quantity="trend", limits=(AlarmLimit(limit, priority),), clear_margin=margin, trend=trend)
    quantities = draw(
        st.lists(st.sampled_from([*SPEC, "news2", "qsofa", "shock_index"]), min_size=1, max_size=3, unique=True)
    )
    terms = tuple(
        Term(str(one), draw(st.sampled_from([">=", "<="])), draw(_limit(one)), draw(st.integers(0, 20)) / 4)
        for one in quantities
    )
    return Rule(
        **shared, quantity="combined", limits=(AlarmLimit(1, priority),), clear_margin=COMBINED_MARGIN, all_of=terms
    )


_DURATIONS = st.integers(1, 7_200).map(lambda seconds: seconds * 1_000)
_TIMES = st.none() | st.integers(-48, 48).map(lambda hours: NOW + hours * HOUR)


@st.composite
def _rules_and_conditions(draw: st.DrawFn) -> dict[str, Any]:
    touched = draw(st.lists(st.sampled_from(DEFAULT_RULES), max_size=3, unique_by=lambda rule: rule.rule_id))
    own = [draw(conditions(one)) for one in draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True))]
    rules = {rule.rule_id: draw(changes(rule)) for rule in touched}
    rules |= {rule.rule_id: RuleChange(call=draw(_LADDERS)) for rule in own if draw(st.booleans())}
    return {"rules": rules, "conditions": tuple(own)}


def _scale(scale: int) -> dict[str, Any]:
    prescription = Prescription("dr.meyer", NOW - HOUR, "blood gas") if scale == 2 else None
    return {"spo2_scale": scale, "prescription": prescription}


def _one(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return values.map(lambda value: {name: value})


_BY_SIGN = st.dictionaries(st.sampled_from(VitalSign), _DURATIONS, min_size=1, max_size=2)
_CALLS = st.dictionaries(st.sampled_from(["high", "medium", "low", "technical"]), _LADDERS, min_size=1, max_size=2)
SAYINGS: Final[tuple[st.SearchStrategy[dict[str, Any]], ...]] = (
    _rules_and_conditions(),
    _rules_and_conditions(),
    st.sampled_from([1, 2]).map(_scale),
    _one("profile", st.sampled_from(sorted(PROFILES))),
    _one("expected", st.lists(st.sampled_from(MEASURED), unique=True).map(tuple)),
    _one("cadence_ms", _BY_SIGN),
    _one("valid_ms", _BY_SIGN),
    _one("stale_after_ms", _DURATIONS),
    _one("lost_after_ms", _DURATIONS),
    _one("calls", _CALLS),
    _one("quiet", st.sampled_from([QuietHours(0, 0), QuietHours(1_320, 420)])),
    _one("holds_up_to", st.sampled_from([Activity.UNKNOWN, Activity.WALK, Activity.EXERCISE])),
    _one("learns_by_activity", st.booleans()),
)
"""What a level may say, one thing each."""


@st.composite
def levels(draw: st.DrawFn, name: str | None = None, most: int = 4) -> OrderLevel:
    """What any level may say, meant or not: at most so many things."""
    level = name or draw(st.sampled_from(LEVEL_NAMES))
    said: dict[str, Any] = {}
    for saying in draw(st.lists(st.sampled_from(SAYINGS), max_size=most)):
        said |= draw(saying)
    if level == "profile":
        said.pop("profile", None)
    return OrderLevel(
        level=level,  # type: ignore[arg-type]
        name=draw(_LINE) if level in ("ward", "profile") else "",
        by=draw(_LINE),
        why=draw(_LINE),
        valid_from_ms=draw(_TIMES),
        valid_until_ms=draw(_TIMES),
        **said,
    )


UNHURRIED: Final = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
"""For tests that draw several levels."""
