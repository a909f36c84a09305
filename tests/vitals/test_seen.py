"""Which messages were applied: exactly those that were added, however they came."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitals.seen import KEPT_SESSIONS, Seen


def session(number: int) -> bytes:
    return number.to_bytes(16, "big")


NOW = session(0)


def ranges(seen: Seen, session_id: bytes = NOW) -> list[list[int]]:
    return next(ranges for one, *ranges in seen.to_state() if one == session_id)


def test_once_is_new_and_twice_is_not() -> None:
    seen = Seen()

    assert [seen.add(NOW, counter) for counter in (0, 1, 1, 0, 2)] == [True, True, False, False, True]


def test_a_session_without_gaps_is_one_range_however_long() -> None:
    seen = Seen()

    for counter in range(10_000):
        seen.add(NOW, counter)

    assert ranges(seen) == [[0, 9_999]]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([5], [[5, 5]]),
        ([5, 6], [[5, 6]]),
        ([5, 4], [[4, 5]]),
        ([5, 7], [[5, 5], [7, 7]]),
        ([5, 7, 6], [[5, 7]]),  # the gap closes
        ([7, 5, 3], [[3, 3], [5, 5], [7, 7]]),
        ([3, 7, 4, 6], [[3, 4], [6, 7]]),
        ([10, 0, 5], [[0, 0], [5, 5], [10, 10]]),
        ([0, 1, 5, 6, 3], [[0, 1], [3, 3], [5, 6]]),
        ([0, 1, 5, 6, 2], [[0, 2], [5, 6]]),
        ([0, 1, 5, 6, 4], [[0, 1], [4, 6]]),
    ],
)
def test_gaps_are_kept_exactly(order: list[int], expected: list[list[int]]) -> None:
    seen = Seen()

    assert all(seen.add(NOW, counter) for counter in order)

    assert ranges(seen) == expected
    assert not any(seen.add(NOW, counter) for counter in order)


def test_backlog_and_live_readings_interleave() -> None:
    # After an outage the newest come first, and between them the backlog, oldest first; then all of it again.
    seen = Seen()
    order = [100, 0, 101, 1, 102, 2]

    assert all(seen.add(NOW, counter) for counter in order)
    assert ranges(seen) == [[0, 2], [100, 102]]
    assert not any(seen.add(NOW, counter) for counter in order)


def test_sessions_do_not_mix() -> None:
    seen = Seen()

    assert seen.add(session(1), 0)
    assert seen.add(session(2), 0)


def test_of_old_sessions_the_last_few_are_kept() -> None:
    seen = Seen()
    for number in range(KEPT_SESSIONS + 1):
        seen.add(session(number), 0)

    assert len(seen.to_state()) == KEPT_SESSIONS
    assert not any(seen.add(session(number), 0) for number in range(1, KEPT_SESSIONS + 1))


def test_the_session_in_use_is_never_the_one_that_is_forgotten() -> None:
    # The device sends live readings and, between them, a day's backlog: session after session.
    seen = Seen()
    seen.add(NOW, 0)
    for number in range(1, 3 * KEPT_SESSIONS):
        assert seen.add(session(number), 0)
        assert seen.add(NOW, number)

    assert not seen.add(NOW, 0)


SESSIONS = st.integers(0, KEPT_SESSIONS - 1).map(session)
MESSAGES = st.lists(st.tuples(SESSIONS, st.integers(0, 30)), max_size=200)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(messages=MESSAGES)
def test_it_is_a_plain_set(messages: list[tuple[bytes, int]]) -> None:
    seen, plain = Seen(), set[tuple[bytes, int]]()

    for message in messages:
        assert seen.add(*message) is (message not in plain)
        plain.add(message)

    stored = {
        (session_id, counter)
        for session_id, *pairs in seen.to_state()
        for first, last in pairs
        for counter in range(first, last + 1)
    }
    assert stored == plain
    for _, *pairs in seen.to_state():
        # In order, apart, and none of them touching: as few ranges as there can be.
        assert all(first <= last for first, last in pairs)
        assert all(pairs[at][1] + 1 < pairs[at + 1][0] for at in range(len(pairs) - 1))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    messages=st.lists(st.tuples(st.integers(0, 12).map(session), st.integers(0, 30)), max_size=120),
    cut=st.integers(0, 120),
)
def test_a_restart_anywhere_changes_nothing(messages: list[tuple[bytes, int]], cut: int) -> None:
    whole = Seen()
    expected = [whole.add(*message) for message in messages]

    first = Seen()
    answers = [first.add(*message) for message in messages[:cut]]
    second = Seen.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(first.to_state())))
    answers += [second.add(*message) for message in messages[cut:]]

    assert answers == expected
    assert second.to_state() == whole.to_state()
