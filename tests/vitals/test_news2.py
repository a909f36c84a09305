"""NEWS2: every edge of the chart, rounding, missing and stale signs, bands, responses."""

import csv
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vitals import news2
from vitals.errors import BadPlan
from vitals.messages import Consciousness, News2Scored
from vitals.news2 import News2, Risk, Validity
from vitals.signs import SPEC, VitalSign

pytestmark = pytest.mark.essential

# The published table: each parameter at both sides of each edge of Chart 1.
with (Path(__file__).parent / "news2_boundaries.csv").open(encoding="utf-8", newline="") as table:
    BOUNDARIES = [tuple(row.values()) for row in csv.DictReader(table)]

ONE_PARAMETER = {
    "respiratory_rate": news2.respiratory_rate,
    "systolic_bp": news2.systolic_bp,
    "heart_rate": news2.heart_rate,
    "temperature": news2.temperature,
}

CALM = {
    VitalSign.RESPIRATORY_RATE: 16.0,
    VitalSign.SPO2: 97.0,
    VitalSign.SUPPLEMENTAL_OXYGEN: 0.0,
    VitalSign.SYSTOLIC_BP: 120.0,
    VitalSign.HEART_RATE: 70.0,
    VitalSign.CONSCIOUSNESS: float(Consciousness.ALERT),
    VitalSign.TEMPERATURE: 37.0,
}


def scored(
    changes: dict[VitalSign, float] | None = None, *, without: set[VitalSign] | None = None, **options: int
) -> News2:
    values = CALM | (changes or {})
    return news2.score({s: (v, 1_000) for s, v in values.items() if s not in (without or set())}, **options)


def litres(breathing: str) -> float:
    return {"air": 0.0, "oxygen": 2.0}[breathing]


@pytest.mark.parametrize(("parameter", "value", "scale", "breathing", "points"), BOUNDARIES)
def test_every_edge_of_the_chart(parameter: str, value: str, scale: str, breathing: str, points: str) -> None:
    expected = int(points)

    if parameter == "spo2":
        on_oxygen = breathing == "oxygen"
        changes = {VitalSign.SPO2: float(value), VitalSign.SUPPLEMENTAL_OXYGEN: litres(breathing)}
        assert news2.oxygen_saturation(float(value), int(scale), on_oxygen) == expected
        assert scored(changes, spo2_scale=int(scale)).total == expected + (2 if on_oxygen else 0)
    elif parameter == "supplemental_oxygen":
        assert news2.supplemental_oxygen(litres(value)) == expected
        assert scored({VitalSign.SUPPLEMENTAL_OXYGEN: litres(value)}).total == expected
    elif parameter == "consciousness":
        level = Consciousness("ACVPU".index(value))
        assert news2.consciousness(level) == expected
        assert scored({VitalSign.CONSCIOUSNESS: level}).total == expected
    else:
        assert ONE_PARAMETER[parameter](float(value)) == expected
        assert scored({VitalSign(parameter): float(value)}).total == expected


def test_the_published_table_holds_every_parameter() -> None:
    assert {row[0] for row in BOUNDARIES} == {sign.value for sign in CALM}
    assert len(BOUNDARIES) == len(set(BOUNDARIES)) == 77


@pytest.mark.parametrize(
    ("score", "value", "points"),
    [
        (news2.respiratory_rate, 20.4, 0),
        (news2.respiratory_rate, 20.49999999999999, 0),
        (news2.respiratory_rate, 20.5, 2),
        (news2.heart_rate, 130.5, 3),
        (news2.oxygen_saturation, 91.5, 2),
        (news2.oxygen_saturation, 91.49, 3),
        (news2.temperature, 36.04, 1),
        (news2.temperature, 36.05, 0),  # as a binary number a little less than 36.05
        (news2.temperature, 35.05, 1),
        (news2.temperature, 39.05, 2),
        (news2.supplemental_oxygen, 0.4, 2),  # a flow is never rounded to air
    ],
)
def test_values_are_rounded_half_up_to_the_chart(score: Callable[[float], int], value: float, points: int) -> None:
    assert score(value) == points


def half_up(value: float, decimals: int) -> Decimal:
    return Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


thousandths = st.integers(0, 400_000).map(lambda n: n / 1_000)


@given(value=st.one_of(thousandths, st.floats(0, 400)), decimals=st.sampled_from([0, 1, 2]))
@example(value=0.49999999999999994, decimals=0)
@example(value=36.05, decimals=1)
@example(value=0.125, decimals=2)
@settings(max_examples=1_000)
def test_rounding_equals_decimal_half_up(value: float, decimals: int) -> None:
    assert news2.to_resolution(value, decimals) == float(half_up(value, decimals))


@given(value=st.one_of(thousandths, st.floats(0, 400)))
@example(value=36.05)
@example(value=36.04999999999999)
@settings(max_examples=1_000)
def test_a_value_scores_what_its_rounded_value_scores(value: float) -> None:
    for bands in (
        news2.RESPIRATORY_RATE,
        news2.SPO2_SCALE_1,
        news2.SPO2_SCALE_2_AIR,
        news2.SPO2_SCALE_2_OXYGEN,
        news2.SYSTOLIC_BP,
        news2.HEART_RATE,
        news2.TEMPERATURE,
    ):
        rounded = half_up(value, bands.decimals)
        expected = [points for start, points in bands.rows if start == -inf or rounded >= Decimal(str(start))][-1]
        assert bands.points(value) == expected


def test_huge_numbers_have_no_decimals() -> None:
    assert news2.to_resolution(1e308, 1) == 1e308


def test_not_a_number_has_no_points() -> None:
    with pytest.raises(ValueError, match="not a number"):
        news2.heart_rate(nan)


def test_scale_2_rewards_oxygen_only_where_the_chart_says() -> None:
    too_much = {VitalSign.SPO2: 97.0, VitalSign.SUPPLEMENTAL_OXYGEN: 2.0}

    assert scored(too_much, spo2_scale=1).total == 2
    assert scored(too_much, spo2_scale=2).total == 5


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(BadPlan, match="SpO2 scale 3"):
        scored(spo2_scale=3)
    with pytest.raises(BadPlan, match="SpO2 scale 0"):
        news2.oxygen_saturation(95, 0)


def test_parts_stand_in_the_order_of_the_chart_with_rounded_values_and_ages() -> None:
    result = news2.score({VitalSign.RESPIRATORY_RATE: (24.5, 3_000), VitalSign.TEMPERATURE: (38.06, 60_000)})

    assert [part.sign for part in result.parts] == [
        "respiratory_rate",
        "spo2",
        "supplemental_oxygen",
        "systolic_bp",
        "heart_rate",
        "consciousness",
        "temperature",
    ]
    first, last = result.parts[0], result.parts[-1]
    assert (first.value, first.points, first.age_ms) == (25.0, 3, 3_000)
    assert (last.value, last.points, last.age_ms) == (38.1, 1, 60_000)


def test_nothing_known_is_a_lower_bound_of_nothing() -> None:
    result = news2.score({})

    assert (result.total, result.at_least, len(result.missing)) == (None, 0, 7)
    assert all(part.age_ms is None and part.points is None and part.value is None for part in result.parts)


def test_a_missing_sign_leaves_a_lower_bound() -> None:
    result = scored({VitalSign.RESPIRATORY_RATE: 26, VitalSign.SYSTOLIC_BP: 98}, without={VitalSign.SPO2})

    assert result.total is None
    assert result.at_least == 5
    assert result.missing == (VitalSign.SPO2,)
    assert result.risk is Risk.MEDIUM


@pytest.mark.parametrize(("past_ms", "missing"), [(0, ()), (1, (VitalSign.SPO2,))])
def test_a_value_older_than_its_validity_is_missing_and_keeps_its_age(past_ms: int, missing: tuple) -> None:
    age_ms = SPEC[VitalSign.SPO2].valid_ms + past_ms
    inputs = {sign: (value, 0) for sign, value in CALM.items()} | {VitalSign.SPO2: (97.0, age_ms)}

    result = news2.score(inputs)

    assert result.missing == missing
    assert result.parts[1].age_ms == age_ms


@pytest.mark.parametrize(
    "valid_ms",
    [
        {VitalSign.SPO2: 10_000},
        {"spo2": 10_000},
        lambda sign: 10_000 if sign is VitalSign.SPO2 else SPEC[sign].valid_ms,
    ],
)
def test_validity_can_be_ordered_for_a_patient(valid_ms: Validity) -> None:
    inputs = {sign: (value, 20_000) for sign, value in CALM.items()}

    assert news2.score(inputs, valid_ms=valid_ms).missing == (VitalSign.SPO2,)


@pytest.mark.parametrize("value", [nan, inf, -inf, None])
def test_what_is_no_number_is_missing_and_keeps_its_age(value: float | None) -> None:
    inputs = {sign: (v, 0) for sign, v in CALM.items()} | {VitalSign.HEART_RATE: (value, 7_000)}

    result = news2.score(inputs)

    assert result.missing == (VitalSign.HEART_RATE,)
    assert result.parts[4].age_ms == 7_000


def test_a_value_of_unknown_age_is_missing() -> None:
    assert VitalSign.SPO2 in news2.score({VitalSign.SPO2: (85.0, None)}).missing


def test_scale_2_with_unknown_oxygen_takes_the_smaller_points() -> None:
    result = scored({VitalSign.SPO2: 97}, without={VitalSign.SUPPLEMENTAL_OXYGEN}, spo2_scale=2)

    assert (result.total, result.at_least) == (None, 0)
    assert result.parts[1].points == 0


STALE_MS = SPEC[VitalSign.SUPPLEMENTAL_OXYGEN].valid_ms + 1


def test_stale_oxygen_is_unknown_oxygen() -> None:
    inputs = {sign: (value, 0) for sign, value in CALM.items()} | {VitalSign.SUPPLEMENTAL_OXYGEN: (2.0, STALE_MS)}

    result = news2.score(inputs, spo2_scale=2)

    assert result.missing == (VitalSign.SUPPLEMENTAL_OXYGEN,)
    assert result.at_least == 0


values = st.fixed_dictionaries(
    {
        VitalSign.RESPIRATORY_RATE: st.floats(2, 80),
        VitalSign.SPO2: st.floats(50, 100),
        VitalSign.SUPPLEMENTAL_OXYGEN: st.sampled_from([0.0, 0.5, 15.0]),
        VitalSign.SYSTOLIC_BP: st.floats(40, 300),
        VitalSign.HEART_RATE: st.floats(20, 300),
        VitalSign.CONSCIOUSNESS: st.sampled_from(list(Consciousness)),
        VitalSign.TEMPERATURE: st.floats(28, 45),
    }
)


@given(values=values, hidden=st.sets(st.sampled_from(list(CALM))), scale=st.sampled_from([1, 2]))
@settings(max_examples=300)
def test_hiding_signs_never_raises_the_score(values: dict, hidden: set, scale: int) -> None:
    whole = scored(values, spo2_scale=scale)
    part = scored(values, without=hidden, spo2_scale=scale)

    assert whole.total == whole.at_least == sum(p.points or 0 for p in whole.parts)
    assert 0 <= part.at_least <= whole.at_least <= 20
    assert set(part.missing) == hidden
    assert (part.total is None) == bool(hidden)


def test_the_highest_score_is_20() -> None:
    worst = {
        VitalSign.RESPIRATORY_RATE: 30,
        VitalSign.SPO2: 80,
        VitalSign.SUPPLEMENTAL_OXYGEN: 15,
        VitalSign.SYSTOLIC_BP: 70,
        VitalSign.HEART_RATE: 150,
        VitalSign.CONSCIOUSNESS: Consciousness.UNRESPONSIVE,
        VitalSign.TEMPERATURE: 34,
    }

    assert scored(worst).total == 20


@pytest.mark.parametrize(
    ("total", "single_three", "risk"),
    [
        (0, False, Risk.LOW),
        (4, False, Risk.LOW),
        (3, True, Risk.LOW_MEDIUM),
        (4, True, Risk.LOW_MEDIUM),
        (5, True, Risk.MEDIUM),
        (5, False, Risk.MEDIUM),
        (6, False, Risk.MEDIUM),
        (7, False, Risk.HIGH),
        (7, True, Risk.HIGH),
        (20, True, Risk.HIGH),
    ],
)
def test_risk_bands(total: int, single_three: bool, risk: Risk) -> None:
    assert news2.risk_of(total, single_three=single_three) is risk


def test_one_red_sign_alone_is_low_medium() -> None:
    assert scored({VitalSign.RESPIRATORY_RATE: 8}).risk is Risk.LOW_MEDIUM


_MIN, _H = 60_000, 3_600_000


@pytest.mark.parametrize(
    ("changes", "monitor_every_ms", "assess_within_ms"),
    [
        ({}, 12 * _H, None),
        ({VitalSign.HEART_RATE: 95}, 6 * _H, None),
        ({VitalSign.HEART_RATE: 135}, _H, _H),
        ({VitalSign.HEART_RATE: 135, VitalSign.RESPIRATORY_RATE: 22}, _H, _H),
        ({VitalSign.HEART_RATE: 135, VitalSign.RESPIRATORY_RATE: 22, VitalSign.SPO2: 93}, 0, 30 * _MIN),
    ],
)
def test_what_a_score_asks_for(changes: dict, monitor_every_ms: int, assess_within_ms: int | None) -> None:
    response = news2.response_to(scored(changes))

    assert (response.monitor_every_ms, response.assess_within_ms) == (monitor_every_ms, assess_within_ms)


def test_a_stored_score_asks_for_the_same() -> None:
    stored = News2Scored(
        stay_id="00" * 16, reading_id=bytes(16), at_ms=0, total=None, at_least=7, risk="high", spo2_scale=1, parts=()
    )

    assert news2.response_to(stored).risk is Risk.HIGH


@given(
    values=st.dictionaries(
        st.sampled_from([sign for sign in VitalSign if sign != VitalSign.DIASTOLIC_BP]), st.integers(0, 220)
    ),
    scale=st.sampled_from([1, 2]),
)
def test_a_risk_is_definite_only_if_nothing_that_is_missing_could_raise_it(
    values: dict[VitalSign, int], scale: int
) -> None:
    """Whatever the missing signs turn out to be, the true risk is what is said, or at least what is said."""
    known = {sign: (min(value, 4) if sign is VitalSign.CONSCIOUSNESS else value, 0) for sign, value in values.items()}
    scored = news2.score(known, spo2_scale=scale)
    worst = {sign: (4 if sign is VitalSign.CONSCIOUSNESS else 5, 0) for sign in scored.missing}
    could_be = {scored.risk, news2.score(known | worst, spo2_scale=scale).risk}

    said = news2.risk_text(scored)

    if not said.startswith(">= ") and said:
        assert could_be == {news2.Risk(said)}
    elif said:
        assert said.removeprefix(">= ") == scored.risk
    else:
        assert (scored.total, scored.risk) == (None, Risk.LOW)
