"""Configuration of an edge agent; `sample.toml` beside this file documents every key."""

import re
from pathlib import Path

import msgspec

from edge.bedside.signals import BedsideConfig
from edge.bedside.signals import check as check_bedside
from edge.errors import BadEdgeConfig
from runtime.config import load
from runtime.logs import LogFormat, LogLevel
from runtime.metrics import HttpConfig
from vitals.signs import SPEC
from wire.receiver import RateLimits
from wire.sending.settings import Timing, Windows

ENVIRONMENT = "VITALLOOM_EDGE"
_KEY = re.compile("[0-9a-f]{64}")


class BrokerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The MQTT 5 broker. Enrolment tells its address; these keys override it."""

    host: str = ""
    port: int = 0
    tls: bool = True
    receive_maximum: int = 50  # unacknowledged messages that the broker may send


class OutboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How readings are kept. A longer commit interval spares a memory card and only delays the first signature."""

    budget_mb: int = 1_536
    commit_ms: int = 1_000
    commit_rows: int = 48


class LocalAlarmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The alarm at the bedside while the cloud is silent."""

    after_s: float = 60.0
    command: tuple[str, ...] = ()  # is run with "on" or "off" as its last argument


class EdgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent."""

    identity: Path
    data_dir: Path
    broker: BrokerConfig = msgspec.field(default_factory=BrokerConfig)
    outbox: OutboxConfig = msgspec.field(default_factory=OutboxConfig)
    local_alarm: LocalAlarmConfig = msgspec.field(default_factory=LocalAlarmConfig)
    bedside: BedsideConfig = msgspec.field(default_factory=BedsideConfig)  # for `vitalloom edge watch`
    windows: Windows = msgspec.field(default_factory=Windows)
    timing: Timing = msgspec.field(default_factory=Timing)
    limits: RateLimits = msgspec.field(default_factory=RateLimits)
    cadence_ms: dict[str, int] = {}  # by sign, where the wearables differ from the table of signs
    ack_interval_ms: int = 1_000
    heartbeat_s: float = 30.0
    state_key: Path | None = None  # None: in memory, see `edge.at_rest`
    status_file: Path | None = None  # None: in memory, see `edge.status`
    models: Path | None = None  # None: those that come with vitalloom
    model_keys: tuple[str, ...] = ()  # hex: keys whose models are believed beside the released ones
    clock_file: Path | None = None  # simulated time, for wards of simulated patients
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "plain"
    http: HttpConfig = HttpConfig()


def read(path: Path) -> EdgeConfig:
    """The configuration in `path`, with the environment on top. Paths in it are relative to its folder.

    Raises:
        ConfigError: see `runtime.config.load`.
        BadEdgeConfig: well formed, and cannot work.
    """
    config = load(EdgeConfig, path, env_prefix=ENVIRONMENT)
    check(config)
    home = path.resolve().parent
    return msgspec.structs.replace(
        config,
        identity=home / config.identity,
        data_dir=home / config.data_dir,
        state_key=None if config.state_key is None else home / config.state_key,
        status_file=None if config.status_file is None else home / config.status_file,
        models=None if config.models is None else home / config.models,
        clock_file=None if config.clock_file is None else home / config.clock_file,
    )


def check(config: EdgeConfig) -> None:
    """Raise BadEdgeConfig, naming the key and the fix, if the agent cannot work with these settings."""
    rows = (
        ("broker.port", 0 <= config.broker.port <= 65_535, "is not a TCP port; 0 means the port from enrolment"),
        ("broker.receive_maximum", 1 <= config.broker.receive_maximum <= 1_000, "must be between 1 and 1000"),
        (
            "outbox.commit_rows",
            config.outbox.commit_rows <= config.broker.receive_maximum,
            "must not be above broker.receive_maximum: the broker would wait for answers that wait for more messages",
        ),
        ("outbox.budget_mb", config.outbox.budget_mb >= 8, "is too small; give it at least 8"),
        ("outbox.commit_ms", 0 <= config.outbox.commit_ms <= 30_000, "must be between 0 and 30000"),
        ("outbox.commit_rows", 1 <= config.outbox.commit_rows <= 1_000, "must be between 1 and 1000"),
        ("local_alarm.after_s", config.local_alarm.after_s > 0, "must be above 0"),
        ("heartbeat_s", 0 < config.heartbeat_s <= 300, "must be above 0 and at most 300"),
        ("ack_interval_ms", 0 <= config.ack_interval_ms <= 10_000, "must be between 0 and 10000"),
    )
    for key, is_good, fix in rows:
        if not is_good:
            raise BadEdgeConfig(f"{key} {fix}")
    check_bedside(config.bedside)
    for key in config.model_keys:
        if not _KEY.fullmatch(key):
            raise BadEdgeConfig(f"model_keys: {key[:70]!r} is not a public key; give 64 hexadecimal digits")
    for name, cadence_ms in config.cadence_ms.items():
        if name not in SPEC:
            raise BadEdgeConfig(f"cadence_ms.{name}: unknown vital sign; known are {', '.join(SPEC)}")
        if cadence_ms <= 0:
            raise BadEdgeConfig(f"cadence_ms.{name} must be above 0")
