"""`vitalloom site prepare`: set up Kafka and InfluxDB before the other processes start. Safe to repeat."""

import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from deploy import health
from deploy.errors import SiteDoesNotStart, SiteIncomplete
from runtime.config import load
from runtime.hardening import read_private
from stream.config import StoreConfig
from stream.store.influx import prepare_database
from stream.topics.admin import create_missing_topics, kafka_config

TIMEOUT_S: Final = 90.0
ADMIN: Final = "vitalloom"


def prepare(folder: Path, *, kafka: str, influxdb: str, partitions: int, timeout_s: float = TIMEOUT_S) -> list[str]:
    """Wait for Kafka and InfluxDB, then create what is missing; returns what was created.

    Raises:
        SiteDoesNotStart, KafkaUnusable, DatabaseUnusable, ConfigError: the message names the problem and the fix.
    """
    _wait_for("Kafka", f"kafka://{kafka}", timeout_s)
    made = [f"topic {one}" for one in create_missing_topics(kafka_config(kafka), partitions=partitions, replication=1)]
    _wait_for("InfluxDB", f"{influxdb}/health", timeout_s)
    config = load(StoreConfig, folder / "config" / "store.toml", env_prefix="VITALLOOM_STORE")
    secrets = folder / "secrets"
    if _may_be_set_up(influxdb):
        _set_up(influxdb, config, secrets)
        made.append("InfluxDB's organisation and administrator")
    admin = msgspec.structs.replace(config.influx, url=influxdb, token_file=secrets / "influxdb-admin.token")
    return (
        made
        + prepare_database(
            admin, retention_days=config.retention_days, aggregate_days=config.aggregate_retention_days, tokens=secrets
        ).made
    )


def _wait_for(name: str, url: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while problem := health.problem_of(url):
        if time.monotonic() > deadline:
            raise SiteDoesNotStart(name, f"did not answer within {timeout_s:.0f} s", log=problem)
        time.sleep(0.2)


def _may_be_set_up(url: str) -> bool:
    found = _setup_request(url, "GET", None)
    return bool(found["allowed"])


def _set_up(url: str, config: StoreConfig, secrets: Path) -> None:
    settings = {
        "username": ADMIN,
        "password": _secret(secrets / "influxdb-admin.password"),
        "token": _secret(secrets / "influxdb-admin.token"),
        "org": config.influx.org,
        "bucket": "unused",  # InfluxDB requires one; the real buckets are created with their retention
        "retentionPeriodSeconds": 86_400,
    }
    _setup_request(url, "POST", settings)


def _setup_request(url: str, method: str, body: Any) -> Any:
    found = urlsplit(url)
    connection = HTTPConnection(str(found.hostname), found.port, timeout=10)
    try:
        connection.request(method, "/api/v2/setup", None if body is None else msgspec.json.encode(body))
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, HTTPException) as error:
        raise SiteDoesNotStart("InfluxDB", f"at {url} stopped answering", log=str(error)) from error
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise SiteDoesNotStart("InfluxDB", f"at {url} refuses the setup", log=content[:200].decode(errors="replace"))
    return msgspec.json.decode(content)


def _secret(path: Path) -> str:
    try:
        return read_private(path).decode().strip()
    except OSError as error:
        raise SiteIncomplete(path, f"cannot be read ({error.strerror}); run: vitalloom site init") from error
