"""Windows of event time: which instant is in which window, late and too late, and sums that no order can change."""

from collections import defaultdict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.windows import ClosedWindow, EventTimeWindows

FOR_EVER = 10**9


def feed(windows: EventTimeWindows, values: list[tuple[int, float]], sign: str = "spo2") -> list[ClosedWindow]:
    closed = []
    for at_ms, value in values:
        windows.add(sign, at_ms, value)
        closed += windows.advance(at_ms)
    return closed


def starts(closed: list[ClosedWindow]) -> list[int]:
    return [one.start_ms for one in closed]


# Stories


def test_a_window_closes_when_time_reaches_its_end() -> None:
    #   96    94    98  |  97
    #   |-----|-----|---|--|
    #   0     3     6   10 11        width 10
    windows = EventTimeWindows(10)

    assert feed(windows, [(0, 96), (3, 94), (6, 98)]) == []
    assert windows.advance(9) == []
    assert windows.advance(10) == [ClosedWindow("spo2", 0, 10, 3, 96.0, 94.0, 98.0)]
    assert feed(windows, [(11, 97)]) == []
    assert windows.advance(20) == [ClosedWindow("spo2", 10, 10, 1, 97.0, 97.0, 97.0)]


@pytest.mark.parametrize(("at_ms", "start_ms"), [(0, 0), (9, 0), (10, 10), (19, 10), (-1, -10), (-10, -10)])
def test_a_window_holds_its_start_and_not_its_end(at_ms: int, start_ms: int) -> None:
    assert starts(feed(EventTimeWindows(10), [(at_ms, 97), (FOR_EVER, 97)])) == [start_ms]


def test_a_late_value_is_counted_while_its_window_waits() -> None:
    #   value of 8 arrives after that of 14: 6 late, 5 is how long a window waits
    #   width 10: window 0 closes at 15
    windows = EventTimeWindows(10, lateness_ms=5)
    feed(windows, [(2, 90), (14, 99)])

    assert windows.add("spo2", 8, 92) == ()
    assert windows.advance(15) == [ClosedWindow("spo2", 0, 10, 2, 91.0, 90.0, 92.0)]


@pytest.mark.parametrize(("frontier_ms", "missed"), [(14, ()), (15, (0,)), (99, (0,))])
def test_too_late_is_when_the_window_has_closed(frontier_ms: int, missed: tuple[int, ...]) -> None:
    windows = EventTimeWindows(10, lateness_ms=5)
    windows.advance(frontier_ms)

    assert windows.add("spo2", 8, 92) == missed


def test_a_value_that_came_too_late_names_its_window_and_does_not_open_it_again() -> None:
    windows = EventTimeWindows(10)
    feed(windows, [(5, 90), (25, 91)])

    assert windows.add("spo2", 6, 70) == (0,)
    assert starts(windows.advance(FOR_EVER)) == [20]


def test_backfill_names_every_window_it_should_have_been_in() -> None:
    # Ten minutes of outage come in one piece, after the fact.
    windows = EventTimeWindows(60_000, lateness_ms=30_000)
    feed(windows, [(0, 97), (700_000, 97)])

    missed = [windows.add("spo2", at_ms, 88) for at_ms in range(60_000, 600_000, 60_000)]

    assert missed == [(at_ms,) for at_ms in range(60_000, 600_000, 60_000)]


def test_a_late_value_of_a_hopping_window_misses_only_those_that_closed() -> None:
    # width 10, hop 5: an instant of 12 is in [5, 15) and [10, 20); at 16 the first of them has closed.
    windows = EventTimeWindows(10, hop_ms=5)
    windows.advance(16)

    assert windows.add("spo2", 12, 97) == (5,)
    assert starts(windows.advance(20)) == [10]


def test_time_that_runs_backwards_closes_nothing_and_opens_nothing() -> None:
    windows = EventTimeWindows(10)
    feed(windows, [(5, 97), (12, 97)])

    assert windows.advance(3) == []
    assert windows.add("spo2", 7, 97) == (0,)


def test_several_windows_close_oldest_first_and_by_sign() -> None:
    windows = EventTimeWindows(10)
    for at_ms in (25, 5, 15):
        for sign in ("spo2", "heart_rate"):
            windows.add(sign, at_ms, 90)

    closed = windows.advance(40)

    assert [(one.start_ms, one.sign) for one in closed] == [
        (start, sign) for start in (0, 10, 20) for sign in ("heart_rate", "spo2")
    ]


def test_windows_without_values_are_not_told() -> None:
    assert starts(feed(EventTimeWindows(10), [(5, 97), (95, 97), (105, 97)])) == [0, 90]


def test_a_thousandth_is_kept() -> None:
    (one,) = feed(EventTimeWindows(10), [(1, 36.601), (2, 36.602), (10, 37.0)])

    assert (one.mean, one.minimum, one.maximum) == (36.6015, 36.601, 36.602)


# For every stream


SIGNS = st.sampled_from(["spo2", "heart_rate"])
VALUES = st.integers(0, 300_000).map(lambda thousandths: thousandths / 1_000)
WIDTHS = st.sampled_from([(10, 10), (10, 5), (30, 10), (12, 3), (7, 7)])


@st.composite
def streams(draw: st.DrawFn, *, delay_ms: int = 0) -> list[tuple[str, int, float]]:
    """(sign, at_ms, value) in the order of arrival, none held up by more than `delay_ms`."""
    sent = draw(st.lists(st.tuples(SIGNS, st.integers(-50, 150), VALUES), min_size=1, max_size=40))
    arrivals = [(at_ms + draw(st.integers(0, delay_ms)), at_ms, sign, value) for sign, at_ms, value in sent]
    return [(sign, at_ms, value) for _, at_ms, sign, value in sorted(arrivals)]


def recomputed(stream: list[tuple[str, int, float]], width_ms: int, hop_ms: int) -> dict[tuple[int, str], list[int]]:
    """The plain way: every window there is, every value that lies in it, in thousandths."""
    found = defaultdict(list)
    for start_ms in range(-hop_ms * 40, hop_ms * 80, hop_ms):
        for sign, at_ms, value in stream:
            if start_ms <= at_ms < start_ms + width_ms:
                found[start_ms, sign].append(round(value * 1_000))
    return found


def run(windows: EventTimeWindows, stream: list[tuple[str, int, float]]) -> tuple[list[ClosedWindow], list[int]]:
    closed, missed = [], []
    for sign, at_ms, value in stream:
        missed += windows.add(sign, at_ms, value)
        closed += windows.advance(at_ms)
    return closed, missed


@settings(deadline=None, derandomize=True, max_examples=150)
@given(stream=streams(delay_ms=40), shape=WIDTHS)
def test_within_the_lateness_order_does_not_matter_and_sums_are_those_of_a_plain_recomputation(
    stream: list[tuple[str, int, float]], shape: tuple[int, int]
) -> None:
    width_ms, hop_ms = shape
    windows = EventTimeWindows(width_ms, hop_ms=hop_ms, lateness_ms=40)

    closed, missed = run(windows, stream)
    closed += windows.advance(FOR_EVER)

    assert missed == []
    assert {(one.start_ms, one.sign): (one.count, one.mean, one.minimum, one.maximum) for one in closed} == {
        place: (len(values), sum(values) / len(values) / 1_000, min(values) / 1_000, max(values) / 1_000)
        for place, values in recomputed(stream, width_ms, hop_ms).items()
    }
    assert len(closed) == len({(one.start_ms, one.sign) for one in closed})


@settings(deadline=None, derandomize=True, max_examples=150)
@given(stream=streams(delay_ms=200), shape=WIDTHS, lateness_ms=st.sampled_from([0, 5, 40]))
def test_every_value_is_either_counted_or_named_as_missed_in_each_of_its_windows(
    stream: list[tuple[str, int, float]], shape: tuple[int, int], lateness_ms: int
) -> None:
    width_ms, hop_ms = shape
    windows = EventTimeWindows(width_ms, hop_ms=hop_ms, lateness_ms=lateness_ms)

    closed, missed = run(windows, stream)
    closed += windows.advance(FOR_EVER)

    assert sum(one.count for one in closed) + len(missed) == len(stream) * (width_ms // hop_ms)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(at_ms=st.integers(-(10**6), 10**6), hop_ms=st.integers(1, 50), times=st.integers(1, 6))
def test_an_instant_is_in_one_tumbling_window_and_in_width_over_hop_hopping_ones(
    at_ms: int, hop_ms: int, times: int
) -> None:
    windows = EventTimeWindows(hop_ms * times, hop_ms=hop_ms)

    closed = feed(windows, [(at_ms, 97)]) + windows.advance(FOR_EVER)

    assert len(closed) == times
    assert all(one.start_ms <= at_ms < one.start_ms + one.width_ms for one in closed)
    assert all(one.start_ms % hop_ms == 0 for one in closed)
    assert starts(closed) == sorted(set(starts(closed)))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(stream=streams(delay_ms=60), cut=st.integers(0, 40), shape=WIDTHS, lateness_ms=st.sampled_from([0, 20]))
def test_a_restart_anywhere_changes_nothing(
    stream: list[tuple[str, int, float]], cut: int, shape: tuple[int, int], lateness_ms: int
) -> None:
    width_ms, hop_ms = shape
    whole = EventTimeWindows(width_ms, hop_ms=hop_ms, lateness_ms=lateness_ms)
    expected = run(whole, [*stream, ("spo2", 500, 97.0)])

    first = EventTimeWindows(width_ms, hop_ms=hop_ms, lateness_ms=lateness_ms)
    closed, missed = run(first, stream[:cut])
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(first.to_state()))
    second = EventTimeWindows.from_state(stored, width_ms, hop_ms=hop_ms, lateness_ms=lateness_ms)
    more_closed, more_missed = run(second, [*stream[cut:], ("spo2", 500, 97.0)])

    assert (closed + more_closed, missed + more_missed) == expected
    assert second.to_state() == whole.to_state()


def test_what_is_closed_takes_no_room() -> None:
    windows = EventTimeWindows(10, lateness_ms=20)

    feed(windows, [(at_ms, 97) for at_ms in range(0, 10_000, 5)])

    assert len(windows.to_state()[1]) <= 4
