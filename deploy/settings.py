"""Settings of a site: `site.toml` in its folder, written once by `vitalloom site init`."""

from pathlib import Path
from typing import Final

import msgspec

from deploy.description import Deployment, Ports
from deploy.errors import SiteIncomplete
from runtime.config import load
from stream.site.folder import SiteFacts

FILE: Final = "site.toml"
LOOPBACK: Final = "127.0.0.1"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - within a container; what is published is said elsewhere
_LOOPBACK_NAMES: Final = frozenset({LOOPBACK, "localhost", "::1"})


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a site is run. Its name and its addresses for devices are in `site.json`."""

    kafka_id: str  # id of Kafka's data folder
    workers: int = 1  # number of worker processes; at most `partitions`
    partitions: int = 12  # of each Kafka topic; cannot be changed once there are patients
    kafka_heap: str = "512m"
    backstop_webhook: str = ""  # URL that Grafana calls for backstop alerts; empty: the demo's phone
    ports: Ports = Ports()

    def facts(self, site: SiteFacts, *, phone: str) -> dict[str, str]:
        """The `facts` of a `Deployment`.

        Args:
            phone: host of the demo's phone.
        """
        ports = msgspec.structs.asdict(self.ports) | {"registry": site.registry_port, "broker": site.broker_port}
        return {
            **{name: str(port) for name, port in ports.items()},
            "kafka_id": self.kafka_id,
            "kafka_heap": self.kafka_heap,
            "partitions": str(self.partitions),
            "backstop_webhook": self.backstop_webhook or f"http://{phone}:{self.ports.phone}/",
        }


def read(folder: Path) -> SiteSettings:
    """Read `site.toml`. Raises SiteIncomplete, ConfigError."""
    if not (folder / FILE).exists():
        raise SiteIncomplete(folder, f"there is no site in this folder; create one: vitalloom site init {folder}")
    return load(SiteSettings, folder / FILE, env_prefix="VITALLOOM_SITE_SETTINGS")


def text(settings: SiteSettings) -> str:
    """The content of `site.toml`."""
    ports = "\n".join(f"{name} = {port}" for name, port in msgspec.structs.asdict(settings.ports).items())
    return f"""\
# Settings of this site, for `vitalloom site run`. For containers, run `vitalloom site init` again after a change.

workers = {settings.workers}                     # worker processes; at most as many as partitions
partitions = {settings.partitions}                 # of each Kafka topic; cannot be changed once there are patients
kafka_heap = "{settings.kafka_heap}"
backstop_webhook = "{settings.backstop_webhook}"           # URL for alerts of Grafana; empty: the demo's phone
kafka_id = "{settings.kafka_id}"    # id of Kafka's data folder; do not change

[ports]                         # ports of the registry and the MQTT broker are in site.json
{ports}
"""


def published(site: SiteFacts) -> str:
    """Listen address for devices: loopback if the host of the site is a loopback name, else all addresses."""
    return LOOPBACK if site.broker_host in _LOOPBACK_NAMES else EVERYWHERE


def native_deployment(folder: Path, settings: SiteSettings, site: SiteFacts) -> Deployment:
    """Natively on this machine: all processes on loopback, except those that devices connect to."""
    names = ("mosquitto", "registry", "kafka", "influxdb", "grafana", "desk", "phone")
    return Deployment(
        folder=str(folder.resolve()),
        facts=settings.facts(site, phone=LOOPBACK),
        hosts=dict.fromkeys(names, LOOPBACK),
        listen=LOOPBACK,
        outside=published(site),
    )
