"""A patient's own normal: warm-up, forgetting, and how little one odd value moves it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.baseline import HALF_LIFE_MS, WARM_UP_COUNT, Baseline

MINUTE, HOUR = 60_000, 3_600_000
NOON = 1_699_963_200_000


def fed(values: list[tuple[int, float]]) -> Baseline:
    baseline = Baseline()
    for at_ms, value in values:
        baseline.update(NOON + at_ms, value)
    return baseline


def steady(value: float = 70.0, *, hours: float = 2, every_ms: int = MINUTE) -> list[tuple[int, float]]:
    return [(at_ms, value) for at_ms in range(0, int(hours * HOUR) + 1, every_ms)]


# Warm-up


@pytest.mark.parametrize(
    ("count", "over_ms", "is_warm"),
    [
        (0, 0, False),
        (1, 0, False),
        (30, HOUR, True),
        (29, HOUR, False),
        (30, HOUR - 1, False),
        (1_000, HOUR - 1, False),
    ],
)
def test_warm_is_thirty_values_over_an_hour(count: int, over_ms: int, is_warm: bool) -> None:
    baseline = fed([(round(over_ms * n / max(1, count - 1)), 70.0) for n in range(count)])

    assert baseline.is_warm is is_warm
    assert (baseline.mean is not None, baseline.deviation is not None, baseline.z(70) is not None) == (is_warm,) * 3


def test_while_it_is_young_it_is_a_plain_mean() -> None:
    # 60, 62, 60, 62 ... half an hour and more: no day weighs on it yet, and the first value no more than the last.
    values = [(n * 2 * MINUTE + 1, 60.0 + 2 * (n % 2)) for n in range(40)]

    assert fed(values).mean == pytest.approx(61.0, abs=0.05)


def test_a_still_patient_has_a_deviation_of_one() -> None:
    # Below that the numbers are made of rounding: 71 after hours of 70 is one deviation, not infinitely many.
    baseline = fed(steady(70))

    assert (baseline.mean, baseline.deviation) == (70.0, 1.0)
    assert [baseline.z(value) for value in (70, 71, 66)] == [0.0, 1.0, -4.0]


def test_deviation_is_in_terms_of_a_normal_distribution() -> None:
    # 60 and 80 in turn: 10 off on average, times 1.25.
    baseline = fed([(n * MINUTE, 60.0 + 20 * (n % 2)) for n in range(2_000)])

    assert baseline.mean == pytest.approx(70, abs=0.5)
    assert baseline.deviation == pytest.approx(12.5, abs=0.5)


# Outliers


@pytest.mark.parametrize("odd", [0.0, 71.0, 300.0, 1e9])
def test_one_outlier_hardly_moves_it(odd: float) -> None:
    before = fed(steady(70))

    after = fed([*steady(70), (2 * HOUR + MINUTE, odd)])

    assert before.mean is not None
    assert after.mean is not None
    # At most three deviations' worth, weighted as one of 122 values.
    assert abs(after.mean - before.mean) <= 3 / 122
    assert after.deviation == 1.0


def test_before_it_is_warm_an_outlier_counts_in_full() -> None:
    # The first values are all that is known of the patient.
    assert fed([(0, 70), (1, 90)]).to_state()[3] == 80


def test_who_really_changes_is_learnt_within_days() -> None:
    # 70 for a day, then 90. Holding outliers back makes it slower than a half-life a day, never stuck.
    means = [
        fed(steady(70, hours=24) + [(24 * HOUR + at_ms, 90.0) for at_ms, _ in steady(hours=hours)]).mean or 0
        for hours in (1, 24, 72)
    ]

    assert 70 < means[0] < 71 < means[1] < 80 < 84 < means[2] < 90


def test_a_day_halves_the_weight_of_what_was() -> None:
    # A hundred values of 70 in an hour or two, then nothing for a day, then one of 72: halfway there.
    values = steady(70, hours=2)

    after = fed([*values, (values[-1][0] + HALF_LIFE_MS, 72.0)])

    assert after.mean == pytest.approx(71.0)


def test_an_older_value_is_ignored() -> None:
    values = steady(70)

    assert fed([*values, (HOUR, 300.0)]).to_state() == fed(values).to_state()


def test_two_values_of_one_moment_both_count() -> None:
    assert fed([(0, 70), (0, 72)]).to_state()[3] == 71


# For every patient

SERIES = st.lists(st.tuples(st.integers(0, 2 * HOUR), st.integers(20, 300)), min_size=1, max_size=120)


def timed(series: list[tuple[int, int]]) -> list[tuple[int, float]]:
    values, at_ms = [], 0
    for gap_ms, value in series:
        at_ms += gap_ms
        values.append((at_ms, float(value)))
    return values


@settings(deadline=None, derandomize=True, max_examples=150)
@given(series=SERIES)
def test_the_mean_lies_among_the_values_and_the_deviation_within_their_span(series: list[tuple[int, int]]) -> None:
    values = [value for _, value in series]
    *_, mean, deviation = fed(timed(series)).to_state()

    assert min(values) - 1e-9 <= mean <= max(values) + 1e-9
    assert 0 <= deviation <= max(values) - min(values) + 1e-9


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    values=st.lists(st.integers(50, 100), min_size=WARM_UP_COUNT, max_size=100),
    odd=st.one_of(st.floats(-1e6, 1e6), st.integers(20, 300)),
)
def test_no_single_value_moves_it_by_more_than_its_share_of_three_deviations(values: list[int], odd: float) -> None:
    before = fed([(n * 3 * MINUTE, value) for n, value in enumerate(values)])
    after = fed([*((n * 3 * MINUTE, value) for n, value in enumerate(values)), (len(values) * 3 * MINUTE, odd)])

    *_, old, deviation = before.to_state()
    *_, new, _ = after.to_state()
    assert abs(new - old) <= 3 * max(deviation, 1) / (len(values) + 1) + 1e-9


@settings(deadline=None, derandomize=True, max_examples=100)
@given(series=SERIES, cut=st.integers(0, 120))
def test_a_restart_anywhere_changes_nothing(series: list[tuple[int, int]], cut: int) -> None:
    values = timed(series)

    first = fed(values[:cut])
    second = Baseline.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(first.to_state())))
    for at_ms, value in values[cut:]:
        second.update(NOON + at_ms, value)

    assert second.to_state() == fed(values).to_state()
