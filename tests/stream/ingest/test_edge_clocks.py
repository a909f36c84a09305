"""A patient is judged alike whatever the clocks of wearable, edge and data centre say; what is wrong is said."""

from typing import Final

import msgspec
import pytest

from stream.ingest.edge_clocks import EdgeClocks
from tests.clocks import (
    CADENCE,
    EDGE_ID,
    END,
    ILL_FROM,
    RIGHT,
    SIZES,
    Told,
    Way,
    a_way,
    right,
    signs_at,
    summary,
)
from tests.edge.benches import HOUR, MINUTE, NOW, SECOND

TOLERANCE: Final = 20 * SECOND
SAID_WITHIN: Final = 90 * SECOND


def check(told: Told, expected: Told, *, wrong_from: int | None, key: str | None = None) -> None:
    assert told.no_data == []
    assert {one: found[0] for one, found in told.physiological.items()} == {
        one: found[0] for one, found in expected.physiological.items()
    }
    for one, (_, after_ms) in told.physiological.items():
        assert abs(after_ms - expected.physiological[one][1]) <= TOLERANCE, one
    assert len(told.ids) == len(expected.ids)
    if wrong_from is None:
        assert told.clock == []
    elif key is not None:
        said = [one for one in told.clock if one[1] == key]
        assert said, told.clock
        assert wrong_from < said[0][0] <= wrong_from + SAID_WITHIN


def test_with_right_clocks_edge_and_data_centre_say_the_same() -> None:
    edge, centre = RIGHT
    assert edge.ids == centre.ids
    assert ("news2", "") in edge.physiological
    assert edge.clock == centre.clock == edge.no_data == centre.no_data == []


WHERE: Final = ("wearable", "edge", "centre")


@pytest.mark.parametrize("sign", [-1, 1], ids=["behind", "ahead"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", WHERE)
def test_a_clock_that_is_wrong_from_the_start_changes_no_alarm(where: str, size: str, sign: int) -> None:
    error_ms = sign * SIZES[size]
    edge, centre = a_way(**{where: lambda _: error_ms})
    wrong_from = None if size == "3 s" else 0

    # An edge knows only its own clock and the wearable's; where the centre's is wrong, it is the edge's that differs.
    check(edge, RIGHT[0], wrong_from=wrong_from if where != "centre" else None, key="" if where == "wearable" else None)
    check(centre, RIGHT[1], wrong_from=wrong_from, key="" if where == "wearable" else "edge")
    assert edge.ids == centre.ids  # so nobody is called twice for one alarm


@pytest.mark.slow
@pytest.mark.parametrize("sign", [-1, 1], ids=["backward", "forward"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("at_ms", [3 * MINUTE + SECOND, ILL_FROM, ILL_FROM + 2 * SECOND])
def test_a_clock_that_steps_changes_no_alarm(where: str, size: str, sign: int, at_ms: int) -> None:
    step_ms = sign * SIZES[size]
    edge, centre = a_way(**{where: lambda now: step_ms if now >= at_ms else 0})

    check(edge, RIGHT[0], wrong_from=None if size == "3 s" or where == "centre" else at_ms)
    check(centre, RIGHT[1], wrong_from=None if size == "3 s" else at_ms)
    if where != "centre" and size != "3 s":  # the data centre's own time does not step: see its metrics
        said = [one for one in centre.clock if one[1] == ("edge" if where == "edge" else "")]
        assert said
        assert at_ms < said[0][0] <= at_ms + SAID_WITHIN + 30 * SECOND


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("ppm", [-10_000, -500, 500, 10_000])
def test_a_clock_that_drifts_changes_no_alarm(where: str, ppm: int) -> None:
    for told, expected in zip(a_way(**{where: lambda now: now * ppm // 1_000_000}), RIGHT, strict=True):
        check(told._replace(clock=[]), expected, wrong_from=None)


def test_the_text_names_edge_side_and_size() -> None:
    _, centre = a_way(edge=lambda _: -10 * MINUTE)

    assert [text for _, _, text in centre.clock] == [
        f"the clock of edge {EDGE_ID.hex()[:8]} is 10 min behind; times are corrected"
    ]


@pytest.mark.parametrize("edge_ms", [0, -HOUR, -10 * MINUTE, 210 * SECOND, HOUR])
@pytest.mark.parametrize("cut_ms", [10 * MINUTE, HOUR])
def test_what_an_edge_kept_never_sounds(edge_ms: int, cut_ms: int) -> None:
    """The patient is ill only while the edge is cut off; then the backlog comes beside live readings."""
    way = Way(right, lambda _: edge_ms, right)
    ill_from, back_ms = 2 * MINUTE, 2 * MINUTE + cut_ms
    kept: list[bytes] = []
    for after_ms in range(0, back_ms + 5 * MINUTE, CADENCE):
        way.pass_time(after_ms)
        cut_off = ill_from <= after_ms < back_ms
        ill = ill_from <= after_ms < back_ms - 6 * MINUTE
        payload = way.edge_hears(after_ms, **signs_at(ILL_FROM if ill else 0) | {"heart_rate": 80.0 + after_ms % 7})
        if cut_off:
            kept.append(payload)
            continue
        if after_ms % (30 * SECOND) == 0 or after_ms == 15 * SECOND:
            way.beat(after_ms)
        way.centre_hears(after_ms, payload)
        for old in kept[:20]:
            way.centre_hears(after_ms, old)
        del kept[:20]
    told = summary(way.at_centre)

    assert summary(way.at_edge).ids  # at the bedside it did
    assert told.physiological == {}
    assert all(ill_from < one <= back_ms for one in told.no_data)


@pytest.mark.parametrize("edge_ms", [-HOUR, -10 * MINUTE, 210 * SECOND, HOUR])
def test_an_edge_that_tells_no_uptime_is_corrected_by_its_heartbeats(edge_ms: int) -> None:
    way = Way(right, lambda _: edge_ms, right)
    for after_ms in range(0, END, CADENCE):
        way.pass_time(after_ms)
        if after_ms % (30 * SECOND) == 0 or after_ms == 15 * SECOND:
            way.beat(after_ms)
        way.centre_hears(after_ms, earlier(way.edge_hears(after_ms, **signs_at(after_ms))))

    check(summary(way.at_centre), RIGHT[1], wrong_from=0, key="edge")


def earlier(payload: bytes) -> bytes:
    """As an edge of an earlier version sends it."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(payload)[:8])


@pytest.mark.parametrize("edge_ms", [0, -10 * MINUTE, HOUR])
def test_what_an_earlier_process_of_the_edge_kept_never_sounds(edge_ms: int) -> None:
    """Ill while the edge is cut off; then its agent is restarted, and comes back with the backlog."""
    way = Way(right, lambda _: edge_ms, right)
    kept: list[bytes] = []
    for after_ms in range(0, 40 * MINUTE, CADENCE):
        way.pass_time(after_ms)
        ill = 2 * MINUTE <= after_ms < 20 * MINUTE
        signs = signs_at(ILL_FROM if ill else 0) | {"heart_rate": 80.0 + after_ms % 7}
        payload = way.edge_hears(after_ms, **signs)
        if 2 * MINUTE <= after_ms < 30 * MINUTE:
            kept.append(payload)
            continue
        if after_ms >= 30 * MINUTE:
            way.boot_id = b"newbooot"
            payload = msgspec.msgpack.encode([*msgspec.msgpack.decode(payload)[:8], way.boot_id, after_ms, 0, 0])
        if after_ms % (30 * SECOND) == 0 or after_ms == 30 * MINUTE + 15 * SECOND:
            way.beat(after_ms)
        way.centre_hears(after_ms, payload)
        for old in kept[:15]:
            way.centre_hears(after_ms, old)
        del kept[:15]

    assert kept == []
    assert summary(way.at_centre).physiological == {}


def test_heartbeats_that_waited_in_the_broker_make_no_clock_look_behind() -> None:
    clocks, way = EdgeClocks(), Way(right, right, right)
    way.clocks = clocks
    beats = [(after_ms, way.machine) for after_ms in range(0, HOUR, 30 * SECOND)]
    way.pass_time(HOUR)
    for after_ms, _ in beats:  # an hour of them at once
        way.beat(after_ms, at_ms=NOW + after_ms)
    assert clocks.ahead_ms == {}
    assert not clocks.is_known(EDGE_ID)

    for after_ms in (HOUR + 30 * SECOND, HOUR + MINUTE, HOUR + 90 * SECOND):
        way.pass_time(after_ms)
        way.beat(after_ms)
    assert clocks.ahead_ms == {EDGE_ID: 0}
    assert clocks.is_known(EDGE_ID)


def test_an_edge_that_runs_for_a_month_and_drifts_is_still_live() -> None:
    """A month at 50 ppm is two minutes."""
    clocks, way = EdgeClocks(), Way(right, right, right)
    way.clocks = clocks
    for minute in range(0, 30 * 24 * 60, 10):
        after_ms = minute * MINUTE
        way.machine.advance(after_ms - way.machine.mono_ms())
        way.server.advance(after_ms + after_ms * 50 // 1_000_000 - way.server.mono_ms())
        way.machine.set_wall(way.server.now_ms())  # both are set by a time server
        way.beat(after_ms, at_ms=way.server.now_ms())

    assert abs(clocks.ahead_ms[EDGE_ID]) < SECOND
