"""The commands of a cluster, as somebody types them: what they make, what they say, and what is wrong with its cure."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.config import load
from stream.config import StoreConfig, WorkerConfig
from stream.engine.process import worker_config
from stream.store.process import store_config
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka

ROOT = Path(__file__).parents[3]


def vitalloom(*arguments: str, **told: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitalloom", *arguments], cwd=ROOT, env=os.environ | told, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.services
def test_topics_are_made_once(kafka: Kafka) -> None:
    told = ("topics", "init", "--kafka", kafka.address, "--topic-prefix", "commands.", "--partitions", "3")

    first, again = vitalloom(*told), vitalloom(*told)

    assert first.returncode == again.returncode == 0, first.stderr
    assert "9 topics created: commands.vl.readings.v1" in first.stdout
    assert "all topics exist" in again.stdout


@pytest.mark.services
@pytest.mark.parametrize("engine", ["faust", "plain"])
def test_a_worker_without_topics_ends_and_says_what_to_do(kafka: Kafka, engine: str) -> None:
    told = {"VITALLOOM_WORKER__KAFKA__BOOTSTRAP": kafka.address, "VITALLOOM_WORKER__KAFKA__TOPIC_PREFIX": "nowhere."}

    done = vitalloom("worker", "--engine", engine, **told)

    assert done.returncode == 2
    assert "has no topic nowhere.vl.readings.v1; make them: vitalloom topics init" in done.stderr


@pytest.mark.services
def test_a_database_is_prepared_once_and_says_what_it_made(influxdb: InfluxDB, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(influxdb.token, encoding="utf-8")
    told = {
        "VITALLOOM_STORE__INFLUX__URL": influxdb.url,
        "VITALLOOM_STORE__INFLUX__ORG": influxdb.org,
        "VITALLOOM_STORE__INFLUX__TOKEN_FILE": str(tmp_path / "token"),
        "VITALLOOM_STORE__INFLUX__BUCKET": "commands",
    }

    first, again = (vitalloom("store", "init", "--tokens", str(tmp_path), **told) for _ in range(2))

    assert first.returncode == again.returncode == 0, first.stderr
    assert "created: bucket commands_1h (3650 days)" in first.stdout
    assert "everything exists" in again.stdout


@pytest.mark.services
@pytest.mark.parametrize(
    ("command", "cure"),
    [
        (("topics", "init", "--kafka", "127.0.0.1:9"), "is it up?"),
        (("store", "init"), "its token cannot be read: influxdb.token"),
        (("worker", "--engine", "spark"), "spark: expected faust or plain"),
        (("worker", "--config", "/nowhere.toml"), "--sample-config"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_cure(command: tuple[str, ...], cure: str) -> None:
    done = vitalloom(*command)

    assert done.returncode == 2
    assert cure in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.services
@pytest.mark.parametrize("engine", ["faust", "plain"])
def test_two_workers_on_one_port_are_told_apart(engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        listen = f"127.0.0.1:{first.getsockname()[1]}"

        done = vitalloom("worker", "--engine", engine, VITALLOOM_WORKER__HTTP__LISTEN=listen)

    assert done.returncode == 2
    assert f"http.listen = {listen}: cannot be listened on" in done.stderr
    assert "if another worker runs here, give each a port of its own, or port 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.services
def test_a_configuration_can_come_from_the_environment_and_a_typo_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORKER", "STORE"):
        monkeypatch.delenv(f"VITALLOOM_{name}__HTTP__LISTEN")
    told = {"VITALLOOM_WORKER__KAFKA__BOOTSTRAP": "kafka:9092", "VITALLOOM_WORKER__CADENCE_MS__SPO2": "60000"}
    found = load(WorkerConfig, None, env_prefix="VITALLOOM_WORKER", environment=told)
    (tmp_path / "worker.toml").write_text("comit_ms = 5\n", encoding="utf-8")

    assert (found.kafka.bootstrap, found.cadence_ms) == ("kafka:9092", {"spo2": 60_000})
    assert "comit_ms" in vitalloom("worker", "--config", str(tmp_path / "worker.toml"), "--check-config").stderr
    assert worker_config(None) == WorkerConfig()
    assert store_config(None) == StoreConfig()
