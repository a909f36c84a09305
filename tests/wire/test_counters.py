"""Ranges of counters are a set, and never more than 256 of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.counters import MAX_RANGES, CounterSet, RangesFull

COUNTERS = st.integers(min_value=0, max_value=60)


def holding(*counters: int) -> CounterSet:
    held = CounterSet()
    for counter in counters:
        held.add(counter)
    return held


def full() -> CounterSet:
    """0, 2, 4 ... 510: 256 ranges of one."""
    return holding(*range(0, 2 * MAX_RANGES, 2))


@given(st.lists(st.tuples(st.booleans(), COUNTERS), max_size=120))
@settings(deadline=None, max_examples=300, derandomize=True)
def test_it_is_a_set(steps: list[tuple[bool, int]]) -> None:
    ours, plain = CounterSet(), set[int]()

    for adds, counter in steps:
        if adds:
            assert ours.add(counter) == (counter not in plain)
            plain.add(counter)
        else:
            ours.discard(counter)
            plain.discard(counter)

        assert len(ours) == len(plain)
        assert ours.highest == max(plain, default=None)
    assert {one for one in range(62) if one in ours} == plain
    assert {one for low, high in ours.ranges for one in range(low, high + 1)} == plain


@given(st.lists(st.tuples(st.booleans(), COUNTERS), max_size=120))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_ranges_ascend_and_never_touch(steps: list[tuple[bool, int]]) -> None:
    counters = CounterSet()

    for adds, counter in steps:
        counters.add(counter) if adds else counters.discard(counter)

    assert all(low <= high for low, high in counters.ranges)
    assert all(one[1] + 1 < two[0] for one, two in zip(counters.ranges, counters.ranges[1:], strict=False))


@given(st.permutations(range(12)))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_any_order_of_arrival_ends_in_one_range(order: list[int]) -> None:
    assert holding(*order).ranges == ((0, 11),)


@given(st.sets(COUNTERS, max_size=40), COUNTERS)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_a_set_restored_from_its_ranges_goes_on_as_the_first_would(known: set[int], more: int) -> None:
    first = holding(*known)
    restored = CounterSet.of(first.ranges)

    assert restored.ranges == first.ranges
    assert restored.add(more) == first.add(more)
    assert restored.ranges == first.ranges


@pytest.mark.parametrize(
    ("counter", "ranges"),
    [
        (4, ((0, 2), (4, 4), (6, 8))),  # touches neither
        (3, ((0, 3), (6, 8))),
        (5, ((0, 2), (5, 8))),
        (9, ((0, 2), (6, 9))),
        (7, ((0, 2), (6, 8))),  # in already
        (2**32 - 1, ((0, 2), (6, 8), (2**32 - 1, 2**32 - 1))),
    ],
)
def test_a_counter_joins_what_it_touches(counter: int, ranges: tuple[tuple[int, int], ...]) -> None:
    counters = CounterSet.of([(0, 2), (6, 8)])

    counters.add(counter)

    assert counters.ranges == ranges


@pytest.mark.parametrize("counter", [513, 1_000, 2**32 - 1])
def test_the_257th_range_is_refused_and_changes_nothing(counter: int) -> None:
    counters = full()

    with pytest.raises(RangesFull):
        counters.add(counter)

    assert counter not in counters
    assert counters.ranges == full().ranges


@pytest.mark.parametrize(("counter", "ranges_after"), [(1, 255), (511, 256), (0, 256)])
def test_a_full_set_still_takes_what_closes_a_gap_or_is_known(counter: int, ranges_after: int) -> None:
    counters = full()

    counters.add(counter)

    assert counter in counters
    assert len(counters.ranges) == ranges_after


def test_a_gap_that_closes_makes_room_for_another() -> None:
    counters = full()

    counters.add(1)

    assert counters.add(1_000)
    with pytest.raises(RangesFull):
        counters.add(2_000)


def test_a_long_stream_in_order_is_one_range() -> None:
    counters = holding(*range(50_000))

    assert counters.ranges == ((0, 49_999),)
    assert len(counters) == 50_000
