"""Stories about bad links: every frame is delivered or accounted for."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.errors import BadFault
from simulators.faults import KEYS, FaultSpec, LossyLink

FRAMES = [number.to_bytes(4, "big") for number in range(2_000)]


def through(spec: FaultSpec, *, seed: int = 1, every_ms: int = 10) -> tuple[LossyLink, list[tuple[int, bytes]]]:
    """All frames put in at a steady pace: (when it came out, frame)."""
    link, out = LossyLink(random.Random(seed), spec), []
    for place, frame in enumerate(FRAMES):
        link.put(frame, place * every_ms)
        out += [(place * every_ms, arrived) for arrived in link.due(place * every_ms)]
    end_ms = len(FRAMES) * every_ms + 100_000
    return link, out + [(end_ms, arrived) for arrived in link.due(end_ms)]


def test_a_good_link_hands_everything_over_at_once() -> None:
    link, out = through(FaultSpec())

    assert out == [(place * 10, frame) for place, frame in enumerate(FRAMES)]
    assert (link.counts.passed, link.counts.delivered, len(link)) == (2_000, 2_000, 0)


def test_loss_and_duplicates_come_in_the_asked_share_and_are_counted() -> None:
    link, out = through(FaultSpec(loss=0.10, duplicate=0.20))

    assert 150 < link.counts.lost < 250
    assert 300 < link.counts.duplicated < 420
    assert len(out) == 2_000 - link.counts.lost + link.counts.duplicated


def test_reordered_frames_are_overtaken() -> None:
    link, out = through(FaultSpec(reorder=0.05, reorder_ms=200))

    order = [frame for _, frame in out]
    assert 60 < link.counts.reordered < 140
    assert order != FRAMES
    assert sorted(order) == FRAMES


def test_every_frame_waits_the_delay() -> None:
    #   in   0  10  20  30  40  50
    #   out                     0  10 ...
    link = LossyLink(random.Random(1), FaultSpec(delay_ms=45))

    assert link.put(b"a", 0) == [(45, b"a")]
    assert link.put(b"b", 10) == [(55, b"b")]
    assert (link.due(44), link.next_due()) == ([], 45)
    assert link.due(60) == [b"a", b"b"]
    assert link.next_due() is None


def test_jitter_adds_up_to_its_size() -> None:
    link = LossyLink(random.Random(1), FaultSpec(delay_ms=100, jitter_ms=50))

    waits = [link.put(frame, 0)[0][0] for frame in FRAMES]

    assert 100 <= min(waits) < 105
    assert 145 < max(waits) <= 150


def test_corruption_flips_exactly_one_bit() -> None:
    link = LossyLink(random.Random(1), FaultSpec(corrupt=1.0))

    link.put(b"\x00" * 96, 0)
    (damaged,) = link.due(0)

    assert sum(byte.bit_count() for byte in damaged) == 1
    assert link.counts.corrupted == 1
    assert link.put(b"", 0) == [(0, b"")]  # nothing to damage


def test_a_cut_swallows_what_is_sent_during_it_and_nothing_else() -> None:
    link = LossyLink(random.Random(1), FaultSpec.parse("cut=10s-40s"), start_mono_ms=500_000)

    passed = [bool(link.put(b"x", 500_000 + at_ms)) for at_ms in (9_999, 10_000, 39_999, 40_000)]

    assert passed == [True, False, False, True]
    assert link.counts.cut == 2


def test_a_cut_without_an_end_lasts() -> None:
    link = LossyLink(random.Random(1), FaultSpec.parse("cut=1m"))

    assert link.put(b"x", 59_999) != []
    assert link.put(b"x", 10**9) == []


def test_the_same_seed_meets_the_same_faults() -> None:
    spec = FaultSpec.parse("loss=5%,duplicate=2%,reorder=2%,delay=50ms,jitter=20ms,corrupt=1%")

    assert through(spec)[1] == through(spec)[1]
    assert through(spec)[1] != through(spec, seed=2)[1]


def test_more_duplicates_do_not_change_which_frames_are_lost() -> None:
    some, many = (through(FaultSpec(loss=0.1, duplicate=share))[1] for share in (0.0, 0.5))

    assert {frame for _, frame in some} == {frame for _, frame in many}


def test_a_specification_is_read_as_written() -> None:
    spec = FaultSpec.parse(
        " loss=5%, duplicate=0.02,reorder=2%,delay=50ms,jitter=0.5s,cut=10s-1m,skew=-1h,corrupt=0.1% "
    )

    assert spec == FaultSpec(
        loss=0.05,
        duplicate=0.02,
        reorder=0.02,
        delay_ms=50,
        jitter_ms=500,
        cut_from_ms=10_000,
        cut_to_ms=60_000,
        skew_ms=-3_600_000,
        corrupt=0.001,
    )
    assert spec.clock_ms(10_000_000) == 6_400_000
    assert FaultSpec.parse("") == FaultSpec()


@pytest.mark.parametrize(
    ("text", "key", "complaint"),
    [
        ("los=5%", "los", "fault 'los': no such fault; known are loss, duplicate, reorder"),
        ("loss", "loss", "needs a value, as in loss=5%"),
        ("loss=", "loss", "needs a value"),
        ("loss=150%", "loss", "'150%' is not a share between 0% and 100%"),
        ("loss=nan", "loss", "not a share"),
        ("loss=5%%", "loss", "not a share"),
        ("delay=50", "delay", "'50' is not a time in ms, s, m or h, as in delay=50ms"),
        ("delay=-5ms", "delay", "not a time"),
        ("cut=40s-10s", "cut", "ends before it begins"),
        ("loss=1%,loss=2%", "loss", "given twice"),
        ("=5%", "", "no such fault"),
    ],
)
def test_a_wrong_specification_names_the_key_and_the_known_ones(text: str, key: str, complaint: str) -> None:
    with pytest.raises(BadFault, match=complaint) as caught:
        FaultSpec.parse(text)

    assert caught.value.key == key
    assert caught.value.known == tuple(KEYS)


def test_every_example_can_be_read() -> None:
    for example in KEYS.values():
        assert FaultSpec.parse(example) != FaultSpec()


@settings(max_examples=50, deadline=None)
@given(
    shares=st.tuples(*(st.floats(0, 1) for _ in range(4))),
    delay_ms=st.integers(0, 1_000),
    waits_ms=st.lists(st.integers(0, 100), max_size=60),
    seed=st.integers(),
)
def test_no_frame_vanishes_uncounted_or_comes_before_it_was_sent(
    shares: tuple[float, ...], delay_ms: int, waits_ms: list[int], seed: int
) -> None:
    loss, duplicate, reorder, corrupt = shares
    spec = FaultSpec(loss=loss, duplicate=duplicate, reorder=reorder, corrupt=corrupt, delay_ms=delay_ms)
    link, at_ms = LossyLink(random.Random(seed), spec), 0
    for wait_ms in waits_ms:
        at_ms += wait_ms
        assert all(due_ms >= at_ms + delay_ms for due_ms, _ in link.put(b"frame", at_ms))

    arrived = link.due(at_ms + 10_000)

    assert len(arrived) == len(waits_ms) - link.counts.lost + link.counts.duplicated
