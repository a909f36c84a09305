"""The command `vitalloom edge` as a process: it starts, serves, ends when told, and gets over a damaged outbox."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.agent import EdgeAgent
from edge.config import BrokerConfig, EdgeConfig
from edge.errors import OutboxDamaged
from edge.process import serve
from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, EmbeddedBroker, free_port
from simulators.made_up import demo_site
from wire.mqtt import MqttClient

ROOT = Path(__file__).parents[2]


class Served(Exception):
    """The agent that was started came to its work."""


@pytest.mark.services
def test_the_process_starts_serves_and_ends_when_it_is_told(tmp_path: Path) -> None:
    site = demo_site(wearables=1, edges=1, now_ms=int(time.time() * 1_000))
    site.edges[0].save(tmp_path / "identity.json")
    with EmbeddedBroker(tmp_path) as broker:
        config = tmp_path / "edge.toml"
        config.write_text(
            f'identity = "identity.json"\ndata_dir = "data"\nheartbeat_s = 0.2\n[broker]\nport = {broker.port}\n',
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "vitalloom", "edge", "--config", str(config)]
        checked = subprocess.run([*command, "--check-config"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 20
            while not (tmp_path / "data" / "alive").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()

    assert process.returncode == 0
    assert "agent stopped" in said
    assert site.bindings[0].patient not in said  # no pseudonyms in logs
    assert second.returncode == 2
    assert "in use by another agent" in second.stderr


@pytest.mark.parametrize("damages", [1, 3])
def test_after_damage_another_agent_takes_over_and_not_for_ever(
    damages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents: list[EdgeAgent] = []

    async def run(agent: EdgeAgent, client: MqttClient) -> None:
        agents.append(agent)
        if len(agents) <= damages:
            raise OutboxDamaged(tmp_path / "outbox.sqlite", "database disk image is malformed")
        raise Served

    monkeypatch.setattr(EdgeAgent, "run", run)
    config = EdgeConfig(
        identity=tmp_path / "id", data_dir=tmp_path, broker=BrokerConfig(host=LOOPBACK, port=free_port())
    )
    edge = demo_site(wearables=1, edges=1, now_ms=0).edges[0]

    with pytest.raises(Served if damages < 3 else OutboxDamaged):
        asyncio.run(serve(config, edge, SystemClock(), rng=random.Random(1)))

    assert len(agents) == min(damages + 1, 3)
    assert len({id(agent) for agent in agents}) == len(agents)
