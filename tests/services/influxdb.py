"""A real InfluxDB 2.7 for tests: on a free loopback port, set up with one organisation and one token."""

import shutil
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import msgspec
import pytest

from deploy import health
from simulators.broker import LOOPBACK, free_port
from tests.patience import PATIENCE_S
from tests.services.native import Server, installed

ORG: Final = "test"
TOKEN: Final = "a-token-of-tests"


class InfluxDB:
    """A database whose data outlive its process, until `wipe`.

    Args:
        folder: where its data lie.
        more: further options of `influxd`.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.org, self.token = ORG, TOKEN
        self.folder = folder
        self._data = folder / "data"
        command = (
            str(installed("influxdb") / "bin" / "influxd"),
            "--reporting-disabled", "--hardening-enabled", "--log-level", "warn",
            "--http-bind-address", f"{LOOPBACK}:{self.port}",
            "--bolt-path", str(self._data / "bolt"),
            "--sqlite-path", str(self._data / "sqlite"),
            "--engine-path", str(self._data / "engine"), *more,
        )  # fmt: skip
        self.server = Server("InfluxDB", command, log=folder / "influxdb.log", is_ready=self._answers)

    def start(self) -> None:
        is_new = not self._data.exists()
        self._data.mkdir(exist_ok=True)
        self.server.start()
        if is_new:
            self._ask("POST", "/api/v2/setup", {
                "username": "admin", "password": "of-tests-only", "org": ORG, "bucket": "unused", "token": TOKEN,
            })  # fmt: skip

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        self.server.kill()

    def wipe(self) -> None:
        """Lose everything. Only while it is not running."""
        assert not self.server.is_running
        shutil.rmtree(self._data)

    def _answers(self) -> bool:
        return not health.problem_of(f"{self.url}/health")

    def _ask(self, method: str, path: str, body: object = None) -> int:
        connection = HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body))
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


@pytest.fixture(scope="session")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDB]:
    """One database for the whole session: tests make buckets of their own. Who kills it, makes another."""
    database = InfluxDB(tmp_path_factory.mktemp("influxdb"))
    try:
        database.start()
        yield database
    finally:
        database.stop()
