"""InfluxDB runs hardened, natively and in a container: a query reaches no other server of the private network."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.description import by_name, processes
from deploy.settings import SiteSettings, native_deployment
from deploy.supervisor import command_of
from stream.config import InfluxConfig
from stream.errors import DatabaseFailed
from stream.site.folder import SiteFacts
from stream.store.influx import Database
from tests.services.influxdb import InfluxDB

ROOT = Path(__file__).parents[2]
OPTION = "--hardening-enabled"
FACTS = SiteFacts(
    name="north",
    tenant_id="00" * 16,
    registry_host="127.0.0.1",
    registry_port=8_443,
    broker_host="127.0.0.1",
    broker_port=8_883,
)


def test_native_command_line_enables_hardening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.supervisor.tools.influxd", lambda: "/usr/bin/influxd")
    deployment = native_deployment(Path("/srv/site"), SiteSettings(kafka_id="AAAAAAAAAAAAAAAAAAAAAA"), FACTS)

    command = command_of(by_name(processes(deployment))["influxdb"])

    assert command[0] == "/usr/bin/influxd"
    assert command.count(OPTION) == 1


def test_container_command_line_enables_hardening() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]

    assert services["influxdb"]["entrypoint"] == ["influxd"]
    assert services["influxdb"]["command"].count(OPTION) == 1


@pytest.mark.services
def test_query_cannot_reach_a_private_address(influxdb: InfluxDB, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(influxdb.token, encoding="utf-8")
    config = InfluxConfig(url=influxdb.url, org=influxdb.org, token_file=token)

    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        url = f"http://127.0.0.1:{other.getsockname()[1]}/"

        async def ask() -> None:
            async with Database(config) as database:
                await database.query(f'import "http/requests"\nrequests.get(url: "{url}")')

        with pytest.raises(DatabaseFailed, match="no such host"):
            asyncio.run(ask())
        with pytest.raises(BlockingIOError):
            other.accept()
