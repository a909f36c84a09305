"""FRESH, LATE, STALE, LOST: how soon silence matters, to the millisecond."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.freshness import BY_NEWS2, Freshness, FreshnessLimits, limits_for, next_change_ms, state_at
from vitals.signs import SIGNS, SignSpec

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
FRESH, LATE, STALE, LOST = Freshness
LIMITS = FreshnessLimits(10, 60, 180)


@pytest.mark.parametrize(
    ("news2", "stale_min", "lost_min"),
    [
        (0, 30, 60), (1, 10, 30), (4, 10, 30), (5, 3, 10), (6, 3, 10), (7, 1, 3), (20, 1, 3),
        (None, 10, 30),  # never scored: not presumed to be well
    ],
)  # fmt: skip
def test_the_sicker_the_sooner(news2: int | None, stale_min: int, lost_min: int) -> None:
    limits = limits_for(news2, 5 * SECOND)

    assert limits == FreshnessLimits(10 * SECOND, stale_min * MINUTE, lost_min * MINUTE)


@pytest.mark.parametrize("news2", [0, 1, 5, 7])
def test_an_hourly_cuff_is_not_missing_after_a_minute(news2: int) -> None:
    assert limits_for(news2, HOUR) == FreshnessLimits(2 * HOUR, 3 * HOUR, 6 * HOUR)


def test_a_plan_overrules_the_table_but_not_the_cadence() -> None:
    assert limits_for(7, 5 * SECOND, stale_ms=20 * SECOND, lost_ms=40 * SECOND) == FreshnessLimits(
        10_000, 20_000, 40_000
    )
    assert limits_for(7, 5 * SECOND, stale_ms=1, lost_ms=1) == FreshnessLimits(10_000, 15_000, 30_000)


@pytest.mark.parametrize(
    ("age_ms", "state"),
    [
        (-5, FRESH), (0, FRESH), (10, FRESH), (11, LATE), (60, LATE), (61, STALE), (180, STALE), (181, LOST),
        (10**12, LOST),
    ],
)  # fmt: skip
def test_the_edges(age_ms: int, state: Freshness) -> None:
    assert state_at(age_ms, LIMITS) is state


@pytest.mark.parametrize(
    ("now_ms", "change_ms"),
    [(999, 1_011), (1_000, 1_011), (1_010, 1_011), (1_011, 1_061), (1_180, 1_181), (1_181, None)],
)
def test_the_next_change(now_ms: int, change_ms: int | None) -> None:
    assert next_change_ms(1_000, LIMITS, now_ms) == change_ms


def test_a_wearable_that_goes_quiet_is_followed_by_its_timer_alone() -> None:
    #   last value    LATE          STALE          LOST
    #   0             10.001 s      60.001 s       180.001 s       NEWS2 7, every 5 s
    limits = limits_for(7, 5 * SECOND)
    now_ms: int | None = 0
    states = []
    while now_ms is not None:
        states.append((now_ms, state_at(now_ms, limits)))
        now_ms = next_change_ms(0, limits, now_ms)

    assert states == [(0, FRESH), (10_001, LATE), (60_001, STALE), (180_001, LOST)]


def test_the_table_begins_with_the_sickest_and_knows_everybody() -> None:
    assert [lowest for lowest, *_ in BY_NEWS2] == [7, 5, 1, 0]
    assert [stale for _, stale, _ in BY_NEWS2] == sorted(stale for _, stale, _ in BY_NEWS2)


@pytest.mark.parametrize("sign", [spec for spec in SIGNS if not spec.entered], ids=lambda spec: spec.sign.value)
def test_a_value_that_may_be_scored_is_never_stale(sign: SignSpec) -> None:
    # The table of signs promises it for the sickest, with whom staleness comes soonest.
    assert state_at(sign.valid_ms, limits_for(20, sign.cadence_ms)) <= LATE


# For every patient and plan


limits_strategy = st.builds(
    limits_for,
    st.one_of(st.none(), st.integers(0, 20)),
    st.integers(1, 2 * HOUR),
    stale_ms=st.one_of(st.none(), st.integers(1, 2 * HOUR)),
    lost_ms=st.one_of(st.none(), st.integers(1, 2 * HOUR)),
)
moments = st.integers(-HOUR, 24 * HOUR)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(limits=limits_strategy, seen_ms=moments, now_ms=moments, later_ms=st.integers(0, 24 * HOUR))
def test_while_time_runs_a_sign_never_becomes_fresher(
    limits: FreshnessLimits, seen_ms: int, now_ms: int, later_ms: int
) -> None:
    before = state_at(now_ms - seen_ms, limits)

    assert state_at(now_ms + later_ms - seen_ms, limits) >= before


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=300)
@given(data=st.data(), limits=limits_strategy, seen_ms=moments, now_ms=moments)
def test_the_next_change_is_exact(data: st.DataObject, limits: FreshnessLimits, seen_ms: int, now_ms: int) -> None:
    now = state_at(now_ms - seen_ms, limits)

    change_ms = next_change_ms(seen_ms, limits, now_ms)

    if change_ms is None:
        assert now is LOST
        return
    assert change_ms > now_ms
    between_ms = data.draw(st.integers(now_ms, change_ms - 1))
    assert state_at(between_ms - seen_ms, limits) is now
    assert state_at(change_ms - 1 - seen_ms, limits) is now
    assert state_at(change_ms - seen_ms, limits) > now


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    cadence_ms=st.integers(1, 2 * HOUR),
    milder=st.integers(0, 20),
    worse=st.integers(0, 20),
    age_ms=st.integers(0, 10**8),
)
def test_who_is_sicker_is_missed_no_later(cadence_ms: int, milder: int, worse: int, age_ms: int) -> None:
    milder, worse = sorted((milder, worse))

    assert state_at(age_ms, limits_for(worse, cadence_ms)) >= state_at(age_ms, limits_for(milder, cadence_ms))
