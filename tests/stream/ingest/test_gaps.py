"""Heartbeats held against what came: who drops only the newest frames is noticed, and who is slow is not accused."""

import pytest

from stream.ingest.gaps import GAP_AFTER_MS, SESSION_KEPT_MS, GapDetector

EDGE, OTHER, SID = b"e" * 16, b"f" * 16, b"s" * 16
BEAT_MS = 30_000


class Ward:
    """What has arrived, and the heartbeats of an edge."""

    def __init__(self) -> None:
        self.arrived: dict[bytes, int] = {}
        self.tails = GapDetector(self.arrived.get)
        self.mono_ms = 0

    def beat(self, counter: int, *, edge: bytes = EDGE, after_ms: int = BEAT_MS, session: bytes = SID) -> list[bytes]:
        self.mono_ms += after_ms
        return self.tails.heard(edge, [(session, 1, counter)], self.mono_ms)


def test_while_everything_comes_nothing_is_said() -> None:
    ward = Ward()
    for n in range(100):
        assert ward.beat(n * 6) == []
        ward.arrived[SID] = n * 6  # a little later than the heartbeat that named it


@pytest.mark.parametrize("arrived", [None, 3])
def test_newest_frames_that_stay_away_are_noticed_with_the_second_heartbeat_after_and_told_once(
    arrived: int | None,
) -> None:
    ward = Ward()
    if arrived is not None:
        ward.arrived[SID] = arrived

    assert [ward.beat(4 + n) for n in range(6)] == [[], [], [SID], [], [], []]


def test_a_minute_is_waited_however_fast_an_edge_beats() -> None:
    ward = Ward()
    said = [ward.beat(4, after_ms=1_000) for _ in range(90)]

    assert [n for n, sessions in enumerate(said) if sessions] == [GAP_AFTER_MS // 1_000]


def test_what_comes_in_time_ends_the_matter_and_the_next_loss_is_noticed_anew() -> None:
    ward = Ward()
    ward.beat(4)
    ward.beat(10)
    ward.arrived[SID] = 4  # the claim of the first heartbeat is met

    assert [ward.beat(16) for _ in range(4)] == [[], [], [SID], []]
    ward.arrived[SID] = 16
    assert [ward.beat(22) for _ in range(4)] == [[], [], [SID], []]


def test_a_session_that_its_edge_has_closed_is_still_waited_for_and_then_forgotten() -> None:
    ward = Ward()
    ward.beat(4)
    ward.arrived[b"n" * 16] = 10**6
    said = [ward.beat(n, session=b"n" * 16) for n in range(SESSION_KEPT_MS // BEAT_MS + 2)]

    assert [sessions for sessions in said if sessions] == [[SID]]
    assert SID not in ward.tails._claims[EDGE]


def test_edges_do_not_answer_for_each_other() -> None:
    ward = Ward()
    ward.beat(4)
    ward.arrived[b"o" * 16] = 4

    assert [ward.beat(4, edge=OTHER, session=b"o" * 16) for _ in range(5)] == [[]] * 5
