"""Configuration of the processes of a cluster: `ingest`, `worker`, `store`, `desk`; see the sample.toml of each."""

from pathlib import Path
from typing import Final

import msgspec

from runtime.errors import ConfigError
from runtime.logs import LogFormat, LogLevel
from runtime.metrics import HttpConfig
from vitals.escalation import EscalationPolicy


class IngestHttp(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of an ingest process."""

    listen: str = "127.0.0.1:9101"


class WorkerHttp(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of a worker. Several workers on one machine need a port each, or port 0."""

    listen: str = "127.0.0.1:9102"


class StoreHttp(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of a store writer."""

    listen: str = "127.0.0.1:9103"


REGISTRY_LISTEN: Final = "127.0.0.1:9105"
"""Where a registry does."""


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    http: HttpConfig
    log_format: LogFormat


def parse_options(listen: str, log_format: str) -> tuple[HttpConfig, LogFormat]:
    """The same of a process that has options instead of a file. Raises ConfigError."""
    try:
        found = msgspec.convert({"http": {"listen": listen}, "log_format": log_format}, _Options)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), source="option") from error
    return found.http, found.log_format


class KafkaTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificates towards the brokers. PEM files."""

    root: Path  # whom we believe
    certificate: Path
    key: Path


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the log is."""

    bootstrap: str = "127.0.0.1:9092"
    tls: KafkaTls | None = None
    application: str = "vitalloom"
    """Consumer groups and transactions are named after it: two sites on one cluster need two names."""
    topic_prefix: str = ""
    """Before every topic, for several tenants on one cluster; for instance ``north.``."""


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker does with the log."""

    kafka: KafkaConfig = KafkaConfig()
    commit_ms: int = 500  # state, events and offsets, in one transaction
    alarm_commit_ms: int = 50  # no later, where an alarm waits
    session_timeout_ms: int = 10_000  # so long after its death its partitions are somebody else's
    tick_slack_ms: int = 5_000  # time passes so far behind the clock: a reading may be on its way to the log
    fetch_records: int = 4_000  # in one turn, all partitions together
    cadence_ms: dict[str, int] = {}  # by sign, where wearables measure at another pace than the table of signs says
    clock_file: Path | None = None  # simulated time; only in a simulated ward
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
    http: WorkerHttp = WorkerHttp()


class InfluxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the database is."""

    url: str = "http://127.0.0.1:8086"
    org: str = "vitalloom"
    token_file: Path = Path("influxdb.token")
    bucket: str = "vitals"
    """Readings and what was judged of them. Aggregates go to ``<bucket>_1m`` and ``<bucket>_1h``."""
    timeout_ms: int = 10_000


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the store writer does."""

    kafka: KafkaConfig = KafkaConfig()
    influx: InfluxConfig = InfluxConfig()
    batch_points: int = 5_000  # in one request; no more records than that are in memory
    batch_ms: int = 1_000  # how long it waits for something to come
    retention_days: int = 90
    aggregate_retention_days: int = 3_650
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
    http: StoreHttp = StoreHttp()


class BrokerAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another way to the MQTT broker than the one that devices use; its certificate has to know the name."""

    host: str = ""
    port: int = 0


class IngestConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an ingest does besides what the site's folder says."""

    kafka: KafkaConfig = KafkaConfig()
    broker: BrokerAddress = BrokerAddress()
    in_flight: int = 500  # frames that the log has not taken yet; beyond that the broker has to wait
    clock_file: Path | None = None  # simulated time; only in a simulated ward
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
    http: IngestHttp = IngestHttp()


class DeskTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the desk shows to those who log in. PEM files."""

    certificate: Path  # with its chain
    key: Path


class DeskApiConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where people answer alarms."""

    listen: str = "127.0.0.1:8095"  # port 0: one that is free
    tls: DeskTls | None = None
    plain_text: bool = False  # without TLS beyond this machine; only behind something that adds it
    users: Path | None = None  # the file; None: `users.json` in the data folder
    session_hours: float = 12.0
    longest_silence_minutes: int = 60


class DeskHttpConfig(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of the alarm desk."""

    listen: str = "127.0.0.1:9104"


class DeskConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the alarm desk."""

    kafka: KafkaConfig = KafkaConfig()
    data: Path = Path("data")
    addresses: Path = Path("addresses.toml")  # secret
    roles: dict[str, tuple[str, ...]] = {}  # who has which role tonight
    policy: EscalationPolicy = EscalationPolicy()
    receipts: tuple[str, ...] = ()  # channels of which a message that is accepted counts as delivered
    site_name: str = ""
    site: Path | None = None  # the site's folder, for beds; None: messages name the binding
    where: str = ""  # to look, for the last line of a message
    detail: str = "none"  # or "values"
    send_timeout_ms: int = 10_000
    digest_after: int = 10
    digest_window_ms: int = 600_000
    keep_days: int = 90
    api: DeskApiConfig = DeskApiConfig()
    http: DeskHttpConfig = DeskHttpConfig()
    clock_file: Path | None = None  # simulated time; only in a simulated ward
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
