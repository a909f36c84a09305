"""Edge agents of a ward: one in another process has the same configuration as one in this process."""

from pathlib import Path

import msgspec
import pytest

from edge.config import read
from simulators.ward.agents import AgentProcess, cadences, config_of


@pytest.mark.parametrize("short_timers", [False, True])
def test_the_configuration_file_of_an_agent_process_is_complete(short_timers: bool, tmp_path: Path) -> None:
    folder = tmp_path / "edge-1"
    config = config_of(
        folder, broker=("127.0.0.1", 1884), cadence_ms=60_000, clock_file=tmp_path / "clock", short_timers=short_timers
    )

    folder.mkdir()

    AgentProcess(config, lambda: None)

    assert msgspec.structs.asdict(read(folder / "edge.toml")) == msgspec.structs.asdict(config)


def test_an_agent_without_a_heartbeat_is_not_up(tmp_path: Path) -> None:
    config = config_of(tmp_path, broker=("h", 1), cadence_ms=5_000, clock_file=tmp_path / "clock", short_timers=False)

    agent = AgentProcess(config, lambda: None)

    assert not agent.is_up
    assert (agent.duplicates(), agent.rejected(), agent.local_alarms()) == (0, {}, 0)


def test_a_wearable_s_own_signs_are_expected_at_its_cadence() -> None:
    assert cadences(7_000) == {"heart_rate": 7_000, "respiratory_rate": 7_000, "spo2": 7_000}
