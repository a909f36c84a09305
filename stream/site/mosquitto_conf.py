"""Mosquitto's configuration file, as text, and the names of the files that it refers to. Pure."""

from pathlib import Path
from typing import Final

import msgspec

CONF_FILE: Final = "mosquitto.conf"
ACL_FILE: Final = "acl"
CLIENTS_FILE: Final = "clients.crt"
LIST_FILE: Final = "revoked.crl"
CERTIFICATE_FILE: Final = "broker.crt"
KEY_FILE: Final = "broker.key"
DATA_FOLDER: Final = "data"
PID_FILE: Final = "data/mosquitto.pid"


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a site's broker."""

    folder: Path  # absolute
    user: str  # system user that the broker runs as
    port: int = 8_883
    host: str = ""  # address to listen on; empty: all
    log_dest: str = "stderr"  # or "syslog", or "file /absolute/path"
    max_connections: int = 2_000
    max_packet_bytes: int = 16_384
    max_inflight: int = 20
    max_queued: int = 20_000  # messages, for each client
    max_queued_bytes: int = 64 * 2**20
    memory_limit_bytes: int = 512 * 2**20
    max_keepalive_s: int = 60
    autosave_s: int = 60
    status_every_s: int = 10

    def __post_init__(self) -> None:
        if not self.folder.is_absolute():
            raise ValueError(f"folder {self.folder}: Mosquitto needs an absolute path")
        for key in ("folder", "user", "host", "log_dest"):
            text = str(getattr(self, key))
            if not text.isprintable() or text != text.strip():
                raise ValueError(f"{key}: a line of Mosquitto's configuration cannot hold {text!r}")
        if not self.user or " " in self.user + self.host:
            raise ValueError("user and host are single words, and user is not empty")


def mosquitto_conf(settings: BrokerSettings) -> str:
    """Mosquitto's configuration file, for versions from 2.0.11 on."""
    folder = settings.folder
    # In Mosquitto's own file a comment begins in column 1, or it is part of a value.
    return f"""\
# Written by vitalloom, and written again: changes made here do not last.

# Mosquitto changes to this user if it is started as root.
user {settings.user}
pid_file {folder / PID_FILE}
log_dest {settings.log_dest}

# One set of rules for every listener, so that one added by hand cannot stand open.
per_listener_settings false
allow_anonymous false
acl_file {folder / ACL_FILE}

# Sessions survive a restart. That shortens resends, but is not needed: senders keep what was not acknowledged.
# There is no persistent_client_expiration on purpose, and clients ask for sessions without end (0xFFFFFFFF) or none:
# if a session with an end is disconnected during a SIGHUP, Mosquitto 2.0 records the end twice and reads freed memory
# when the client is back (session_expiry__add; 2.1 checks first).
persistence true
persistence_location {folder / DATA_FOLDER}/
autosave_interval {settings.autosave_s}

# The longest frame and its topic fit in easily; a client that sends more is disconnected.
max_packet_size {settings.max_packet_bytes}
max_inflight_messages {settings.max_inflight}
# For each client: more than all edges together may have unacknowledged, so normal overload drops nothing.
max_queued_messages {settings.max_queued}
max_queued_bytes {settings.max_queued_bytes}
# The last resort, where messages are lost: monitoring should warn at 60 %.
memory_limit {settings.memory_limit_bytes}
max_keepalive {settings.max_keepalive_s}
# A retained vital sign would look like a present one.
retain_available false
queue_qos0_messages false
set_tcp_nodelay true
sys_interval {settings.status_every_s}

listener {f"{settings.port} {settings.host}".strip()}
max_connections {settings.max_connections}
max_topic_alias 0
# Every frame has its own counter and is stored once; QoS 2 would add round trips and no safety.
max_qos 1
allow_zero_length_clientid false
cafile {folder / CLIENTS_FILE}
certfile {folder / CERTIFICATE_FILE}
keyfile {folder / KEY_FILE}
# When this list has expired, no client can connect (eclipse-mosquitto/mosquitto#1826).
crlfile {folder / LIST_FILE}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
# The session belongs to the certificate: a client cannot name the session of another.
use_username_as_clientid true
"""
