"""An agent whose wall clock is wrong, or is set while it runs."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.edge.benches import HOUR, ILL, MINUTE, NOW, SECOND, Bench
from vitals.messages import AlarmChanged, AlarmState
from wire.codec import decode_edge_vitals
from wire.envelope import FrameClass, Stage


class Listener:
    """Every alarm that the agent keeps for the data centre."""

    def __init__(self, bench: Bench) -> None:
        self.ids: dict[str, set[bytes]] = {}
        self._keep = bench.agent._intake.keep_alarms
        bench.agent._intake.keep_alarms = self._hear  # type: ignore[method-assign]

    def _hear(self, alarms: Sequence[AlarmChanged], now_ms: int) -> None:
        for one in alarms:
            if one.state is AlarmState.ACTIVE:
                self.ids.setdefault(one.rule_id, set()).add(one.alarm_id)
        self._keep(alarms, now_ms)

    def counts(self) -> dict[str, int]:
        return {rule: len(ids) for rule, ids in self.ids.items()}


def feed(bench: Bench, from_s: int, to_s: int) -> None:
    """Readings of an ill patient whose wearable has the right time."""
    for after_s in range(from_s, to_s, 5):
        wobble = after_s // 5 % 3
        signs = {**ILL, "heart_rate": 125.0 + wobble}  # NEWS2 8: lost after 3 min
        bench.turn(bench.sealed(after_s * SECOND, **signs))
        bench.pass_time(5 * SECOND)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    bench = Bench(tmp_path_factory.mktemp("right"))
    heard = Listener(bench)
    bench.begin()
    feed(bench, 0, 240)
    counts = heard.counts()
    assert {"news2", "red_sign"} <= counts.keys()
    return counts


@pytest.mark.parametrize("error_ms", [-HOUR, -10 * MINUTE, 210 * SECOND, HOUR])
def test_an_edge_whose_clock_is_wrong_makes_no_more_alarms(
    error_ms: int, expected: dict[str, int], tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    heard = Listener(bench)
    bench.begin()
    bench.clock.set_wall(bench.clock.now_ms() + error_ms)  # before anything was heard
    feed(bench, 0, 240)

    found = heard.counts()

    assert found.pop("clock") == 1
    assert found == expected
    assert "no_data" not in found


@pytest.mark.parametrize("step_ms", [-HOUR, -210 * SECOND, 210 * SECOND, HOUR, 200 * 24 * HOUR])
def test_a_clock_that_is_set_makes_no_more_alarms(step_ms: int, expected: dict[str, int], tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    heard = Listener(bench)
    bench.begin()
    feed(bench, 0, 60)
    bench.clock.set_wall(bench.clock.now_ms() + step_ms)
    feed(bench, 60, 240)

    found = heard.counts()

    assert found.pop("clock", 1) == 1
    assert found == expected
    assert bench.agent.counts.clock_steps == 1


def test_readings_tell_boot_and_uptime_as_heartbeats_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    feed(bench, 0, 30)

    told = [decode_edge_vitals(one.payload) for one in bench.arrived() if one.frame_class == FrameClass.VITALS]

    assert len({one.boot_id for one in told}) == 1
    assert len(told[0].boot_id) == 8
    assert {later.uptime_ms - one.uptime_ms for one, later in pairwise(told)} == {5 * SECOND}


def test_an_edge_behind_the_data_centre_hears_a_patient_who_was_bound_a_moment_ago(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.clock.set_wall(NOW - 10 * 24 * HOUR)  # before credentials and bindings began
    bench.turn(bench.session(0).frame)
    bench.turn(bench.sealed(0))
    assert bench.agent.counts.accepted == 0  # nothing tells the agent that its clock is wrong

    bench.hear(bench.cloud_says(Stage.DURABLE, bytes(16)))  # signed at NOW
    bench.turn(bench.session(0).frame)
    bench.turn(bench.sealed(5 * SECOND))

    assert bench.agent.counts.accepted == 1
