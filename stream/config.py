"""Configuration of ingest, worker, store writer and alarm desk; the sample.toml of each room describes every key."""

from pathlib import Path
from typing import Final

import msgspec

from runtime.errors import ConfigError
from runtime.logs import LogFormat, LogLevel
from runtime.metrics import HttpConfig
from vitals.escalation import EscalationPolicy


class IngestHttp(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of ingest."""

    listen: str = "127.0.0.1:9101"


class WorkerHttp(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of a worker. Several workers on one machine need different ports, or port 0."""

    listen: str = "127.0.0.1:9102"


class StoreHttp(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of the store writer."""

    listen: str = "127.0.0.1:9103"


REGISTRY_LISTEN: Final = "127.0.0.1:9105"
"""Default address of the registry's health endpoint."""


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    http: HttpConfig
    log_format: LogFormat


def parse_options(listen: str, log_format: str) -> tuple[HttpConfig, LogFormat]:
    """Health endpoint and log format of a process with options instead of a file. Raises ConfigError."""
    try:
        found = msgspec.convert({"http": {"listen": listen}, "log_format": log_format}, _Options)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), source="option") from error
    return found.http, found.log_format


class KafkaTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS client certificate for Kafka. PEM files."""

    root: Path  # certificate of the authority that issued the brokers' certificates
    certificate: Path
    key: Path


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connection to Kafka."""

    bootstrap: str = "127.0.0.1:9092"
    tls: KafkaTls | None = None
    application: str = "vitalloom"
    """Prefix for the names of consumer groups and transactions: sites on one cluster need different ones."""
    topic_prefix: str = ""
    """Prefix for all Kafka topic names, for sites that share a cluster; for example ``north.``."""


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of a worker."""

    kafka: KafkaConfig = KafkaConfig()
    commit_ms: int = 500  # interval of commits: states, events and offsets in one transaction
    alarm_commit_ms: int = 50  # longest delay of an alarm until it is committed
    session_timeout_ms: int = 10_000  # after the worker dies, other workers get its partitions this much later
    tick_slack_ms: int = 5_000  # timers run this far behind the clock: readings may still be on their way
    fetch_records: int = 4_000  # most records to read in one poll, from all partitions
    cadence_ms: dict[str, int] = {}  # measurement interval by sign, where wearables differ from the table of signs
    time_zone: str = ""  # IANA name, in which the texts of alarms write times; empty: UTC
    clock_file: Path | None = None  # file with simulated time; only for a simulated ward
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
    http: WorkerHttp = WorkerHttp()


class InfluxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connection to InfluxDB."""

    url: str = "http://127.0.0.1:8086"
    org: str = "vitalloom"
    token_file: Path = Path("influxdb.token")
    bucket: str = "vitals"
    """Bucket of readings, scores and alarms. Aggregates go to ``<bucket>_1m`` and ``<bucket>_1h``."""
    timeout_ms: int = 10_000


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the store writer."""

    kafka: KafkaConfig = KafkaConfig()
    influx: InfluxConfig = InfluxConfig()
    batch_points: int = 5_000  # most points in one request, and most records in memory
    batch_ms: int = 1_000  # longest wait for records
    retention_days: int = 90
    aggregate_retention_days: int = 3_650
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
    http: StoreHttp = StoreHttp()


class IngestBrokerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address of the MQTT broker for ingest, if devices use another one; its certificate has to include the name."""

    host: str = ""
    port: int = 0


class IngestConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of ingest, in addition to the site folder."""

    kafka: KafkaConfig = KafkaConfig()
    broker: IngestBrokerConfig = IngestBrokerConfig()
    in_flight: int = 500  # most frames in one batch; later ones wait in the MQTT broker
    clock_file: Path | None = None  # file with simulated time; only for a simulated ward
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
    http: IngestHttp = IngestHttp()


class DeskTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS certificate of the desk's API. PEM files."""

    certificate: Path  # with its chain
    key: Path


class DeskApiConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The API through which people answer alarms."""

    listen: str = "127.0.0.1:8095"  # port 0: any free port
    tls: DeskTls | None = None
    plain_text: bool = False  # allow HTTP on other than loopback addresses; only behind a TLS proxy
    users: Path | None = None  # file of users; None: `users.json` in the data folder
    session_hours: float = 12.0
    longest_silence_minutes: int = 60
    entries_per_minute: int = 30  # observations that one person may enter


class DeskHttpConfig(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health endpoint of the alarm desk."""

    listen: str = "127.0.0.1:9104"


class DeskConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the alarm desk."""

    kafka: KafkaConfig = KafkaConfig()
    data: Path = Path("data")
    addresses: Path = Path("addresses.toml")  # addresses of people and channels; secret
    roles: dict[str, tuple[str, ...]] = {}  # people by role
    policy: EscalationPolicy = EscalationPolicy()
    receipts: tuple[str, ...] = ()  # channels whose acceptance of a message counts as delivery
    site_name: str = ""
    site: Path | None = None  # site folder, for the names of beds; None: messages name the binding
    where: str = ""  # where to look at the alarm; last line of a message
    time_zone: str = ""  # IANA name, in which messages write times; empty: UTC
    detail: str = "none"  # or "values"
    send_timeout_ms: int = 10_000
    digest_after: int = 10
    digest_window_ms: int = 600_000
    keep_days: int = 90
    api: DeskApiConfig = DeskApiConfig()
    http: DeskHttpConfig = DeskHttpConfig()
    clock_file: Path | None = None  # file with simulated time; only for a simulated ward
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
