"""A real Apache Kafka for tests: one node in KRaft mode, on free loopback ports, in a folder of its own."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy import health
from deploy.files import kafka_properties
from simulators.broker import LOOPBACK, free_port
from tests.services.native import Server, installed

_HURRIED: Final = """
# Who is killed here is missed at once.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
_JAVA: Final = ("java", "-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class Kafka:
    """A broker whose log outlives its process, until `wipe`."""

    def __init__(self, folder: Path) -> None:
        home = installed("kafka")
        self.port, self._folder = free_port(), folder
        folder.mkdir(parents=True, exist_ok=True)
        self.address = f"{LOOPBACK}:{self.port}"
        self._config, self._data = folder / "server.properties", folder / "data"
        self._config.write_text(
            kafka_properties(
                host=LOOPBACK, port=self.port, controller=free_port(), data=self._data, further=_HURRIED,
            ),
            encoding="utf-8",
        )  # fmt: skip
        self._java = (*_JAVA, f"-Dlog4j2.configurationFile={home / 'log4j2.xml'}", "-cp", f"{home / 'lib'}/*")
        self.server = Server(
            "Kafka", (*self._java, "kafka.Kafka", str(self._config)), log=folder / "kafka.log", is_ready=self._answers
        )
        self._format()

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        self.server.kill()

    def wipe(self) -> None:
        """Lose the whole log. Only while it is not running."""
        assert not self.server.is_running
        shutil.rmtree(self._data)
        self._format()

    def _format(self) -> None:
        tool = (
            *self._java,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "dml0YWxsb29tLXRlc3RzMQ",
            "-c",
            str(self._config),
        )
        done = subprocess.run(tool, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"Kafka's storage cannot be formatted: {done.stdout}{done.stderr}"

    def _answers(self) -> bool:
        return not health.problem_of(f"kafka://{self.address}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker for the whole session: tests draw topics and groups of their own. Who kills it, makes another."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
