"""What is acknowledged, when, and how much of it fits into one frame."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.sites import AT_MS, Site, named
from wire.acks import AckBook, OwedAck
from wire.envelope import MAX_ACK_RANGES, Ack, FrameClass, Stage, open_ack
from wire.errors import REASON_CODE, Reason

SITE = Site()
ANN = SITE.ann.device_id
BOB = SITE.bob.device_id
VITALS, ALARM = int(FrameClass.VITALS), int(FrameClass.ALARM)
ONE, TWO = named("session one"), named("session two")


def a_book() -> AckBook:
    return AckBook(SITE.edge)


def durable(book: AckBook, *counters: int, session_id: bytes = ONE, sender: bytes = ANN, kind: int = VITALS) -> None:
    for counter in counters:
        book.add(session_id, sender, kind, counter, Stage.DURABLE)


def read(owed: list[OwedAck]) -> list[Ack]:
    return [open_ack(one.frame, SITE.edge.signing_key.public_key()) for one in owed]


def due(book: AckBook, mono_ms: int = 0) -> list[Ack]:
    return read(book.due(mono_ms=mono_ms, now_ms=AT_MS + mono_ms))


def covered(acks: list[Ack]) -> set[int]:
    return {counter for ack in acks for low, high in ack.ranges for counter in range(low, high + 1)}


def test_what_was_committed_is_told_to_its_sender_signed() -> None:
    book = a_book()
    durable(book, 0, 1, 2, 5)

    (owed,) = book.due(mono_ms=0, now_ms=AT_MS)

    assert owed.to == ANN
    assert open_ack(owed.frame, SITE.edge.signing_key.public_key()) == Ack(
        Stage.DURABLE, 0, ((0, 2), (5, 5)), None, AT_MS, SITE.edge.device_id, ONE, VITALS, 1
    )


def test_nothing_new_is_not_told_again() -> None:
    book = a_book()
    durable(book, 0)
    due(book)

    assert due(book, 10_000) == []
    assert book.next_due_ms() is None


def test_one_frame_a_second_and_session() -> None:
    #   add 0   add 1         add 2
    #   |-------|-------------|-------|
    #   0 told  1 waits       both told at 1000
    book = a_book()
    durable(book, 0)
    first = due(book, 0)
    durable(book, 1)
    early = due(book, 999)
    durable(book, 2)

    assert book.next_due_ms() == 1_000
    later = due(book, 1_000)

    assert [ack.ranges for ack in first] == [((0, 0),)]
    assert early == []
    assert [ack.ranges for ack in later] == [((0, 2),)]
    assert [ack.sequence for ack in first + later] == [1, 2]


def test_sessions_do_not_wait_for_each_other() -> None:
    book = a_book()
    durable(book, 0)
    due(book, 0)
    durable(book, 1)
    durable(book, 0, session_id=TWO, sender=BOB)

    told = due(book, 500)

    assert [ack.session_id for ack in told] == [TWO]


def test_alarms_are_acknowledged_at_once() -> None:
    book = a_book()
    durable(book, 0, kind=ALARM)
    due(book, 100)
    durable(book, 1, kind=ALARM)

    assert (book.next_due_ms() or 0) <= 100
    assert [ack.ranges for ack in due(book, 101)] == [((0, 1),)]


def test_a_lost_acknowledgement_is_contained_in_the_next() -> None:
    book = a_book()
    durable(book, 0, 1)
    due(book, 0)  # lost on its way
    durable(book, 2)

    assert covered(due(book, 1_000)) == {0, 1, 2}


def test_a_duplicate_is_acknowledged_again() -> None:
    book = a_book()
    durable(book, 0)
    due(book, 0)  # lost on its way, so the frame comes again
    durable(book, 0)

    assert covered(due(book, 1_000)) == {0}


def test_stages_are_told_apart() -> None:
    book = a_book()
    durable(book, 0)
    book.add(ONE, ANN, VITALS, 1, Stage.REJECTED, reason=Reason.SCHEMA)

    told = {ack.stage: ack for ack in due(book)}

    assert told[Stage.DURABLE].ranges == ((0, 0),)
    assert told[Stage.REJECTED].ranges == ((1, 1),)
    assert told[Stage.REJECTED].reason == REASON_CODE[Reason.SCHEMA]


def test_reasons_have_the_codes_that_were_published() -> None:
    # An old device reads these numbers: new reasons are only ever put at the end.
    assert [REASON_CODE[one] for one in (Reason.LENGTH, Reason.SCHEMA, Reason.VALUE, Reason.PROCESSING)] == [
        1,
        25,
        26,
        28,
    ]
    assert sorted(REASON_CODE.values()) == list(range(1, len(Reason) + 1))


def test_the_newest_64_ranges_fit_into_a_frame() -> None:
    book = a_book()
    durable(book, *range(0, 200, 2))  # 100 ranges
    first = due(book, 0)
    durable(book, 200)

    second = due(book, 5_000)

    assert len(first[0].ranges) == MAX_ACK_RANGES
    assert second[-1].ranges[-1] == (200, 200)


def test_an_old_frame_that_comes_again_is_acknowledged_however_many_gaps_are_above_it() -> None:
    #   0 . 2 . 4 ... 400         201 ranges, of which a frame holds 64
    #   0 again: its acknowledgement was lost, and its sender waits for exactly this one
    book = a_book()
    durable(book, *range(0, 401, 2))
    for second in range(10):
        due(book, 1_000 * second)

    durable(book, 0)

    assert 0 in covered(due(book, 20_000))


def test_every_counter_is_told_in_the_end_even_if_it_takes_several_frames() -> None:
    book = a_book()
    durable(book, *range(0, 400, 2))  # 200 ranges: four frames

    told = [ack for second in range(4) for ack in due(book, 1_000 * second)]

    assert covered(told) == set(range(0, 400, 2))
    assert all(len(ack.ranges) <= MAX_ACK_RANGES for ack in told)
    assert all(ack.ranges == tuple(sorted(ack.ranges)) for ack in told)
    assert due(book, 60_000) == []


def test_more_gaps_than_are_remembered_cost_the_oldest_a_repetition() -> None:
    book = a_book()
    durable(book, *range(0, 1_000, 2))  # 500 ranges, of which 256 are remembered
    told = covered([ack for second in range(10) for ack in due(book, 1_000 * second)])

    lost = set(range(0, 1_000, 2)) - told
    durable(book, *sorted(lost)[:50])

    assert 998 in told
    assert set(sorted(lost)[:50]) <= covered(due(book, 60_000))


@given(st.lists(st.integers(min_value=0, max_value=300), max_size=100), st.integers(min_value=1, max_value=20))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_an_acknowledgement_never_says_what_was_not_committed(counters: list[int], every: int) -> None:
    book = a_book()
    committed: set[int] = set()

    for n, counter in enumerate(counters):
        durable(book, counter)
        committed.add(counter)
        if n % every == 0:
            assert covered(due(book, 1_000 * n)) <= committed
    assert covered(due(book, 1_000_000)) <= committed


# Asking for a session


def test_an_unknown_session_is_asked_for_with_the_last_number() -> None:
    book = a_book()

    book.need_session(ONE, ANN, VITALS, last_number=7)
    (ack,) = due(book)

    assert (ack.stage, ack.last_number, ack.session_id) == (Stage.NEED_SESSION, 7, ONE)


def test_a_sender_is_asked_at_most_once_a_second() -> None:
    book = a_book()

    asked = []
    for mono_ms in range(0, 3_000, 100):
        book.need_session(ONE, ANN, VITALS)
        asked += [mono_ms for _ in due(book, mono_ms)]

    assert asked == [0, 1_000, 2_000]


def test_asking_for_a_session_of_alarms_waits_as_well() -> None:
    # Anybody can send a frame of the alarm class that no session stands behind; it must not cost a signature each.
    book = a_book()

    asked = 0
    for mono_ms in range(1_000):
        book.need_session(ONE, ANN, ALARM)
        asked += len(due(book, mono_ms))

    assert asked == 1


def test_sessions_that_somebody_makes_up_do_not_fill_the_book() -> None:
    book = a_book()

    answers = 0
    for n in range(5_000):
        book.need_session(named(f"made up {n}"), ANN, ALARM)
        answers += len(book.due(mono_ms=n, now_ms=AT_MS))
    waiting = sum(len(table) for table in vars(book).values() if isinstance(table, dict))

    assert answers <= 5 * 256 + 256  # five seconds
    assert waiting <= 1_000


def test_an_edge_with_many_sessions_can_be_asked_for_all_of_them_at_once() -> None:
    book = a_book()
    lost = [named(f"patient {n}") for n in range(200)]

    for session_id in lost:
        book.need_session(session_id, ANN, VITALS)

    assert [ack.session_id for ack in due(book)] == lost


def test_made_up_sessions_of_one_sender_do_not_keep_another_from_being_asked() -> None:
    book = a_book()
    for n in range(2_000):
        book.need_session(named(f"made up {n}"), ANN, VITALS)
    due(book, 0)
    for n in range(2_000):
        book.need_session(named(f"made up {n}"), ANN, VITALS)

    book.need_session(ONE, BOB, VITALS)

    assert [ack.session_id for ack in due(book, 10)] == [ONE]


def test_a_session_that_was_forgotten_is_owed_nothing() -> None:
    book = a_book()
    durable(book, 0)
    book.need_session(ONE, ANN, VITALS)

    book.forget(ONE)

    assert due(book) == []
    assert book.next_due_ms() is None


@pytest.mark.parametrize("interval_ms", [0, 50])
def test_the_interval_is_the_owners_choice(interval_ms: int) -> None:
    book = AckBook(SITE.edge, interval_ms=interval_ms)
    durable(book, 0)
    due(book, 0)
    durable(book, 1)

    assert book.next_due_ms() == interval_ms
    assert len(due(book, interval_ms)) == 1


@given(st.lists(st.tuples(st.integers(min_value=0, max_value=1_500), st.booleans()), max_size=400))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_whatever_comes_again_until_it_is_acknowledged_is_acknowledged(steps: list[tuple[int, bool]]) -> None:
    book = a_book()
    mono_ms = 0
    unacknowledged: set[int] = set()
    for counter, looks in steps:
        durable(book, counter)
        unacknowledged.add(counter)
        if looks:
            mono_ms += 1_000
            due(book, mono_ms)  # lost

    for _ in range(20):  # its sender repeats what it has not heard of, fifty at a time
        durable(book, *sorted(unacknowledged)[:50])
        mono_ms += 1_000
        unacknowledged -= covered(due(book, mono_ms))

    assert unacknowledged == set()
