"""What can be told to a site as a whole: `site.toml` in its folder, written once by `vitalloom site init`."""

from pathlib import Path
from typing import Final

import msgspec

from deploy.description import Place, Ports
from deploy.errors import SiteIncomplete
from runtime.config import load
from stream.site.folder import SiteFacts

FILE: Final = "site.toml"
LOOPBACK: Final = "127.0.0.1"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - within a container; what is published is said elsewhere


_OF_THIS_MACHINE: Final = frozenset({LOOPBACK, "localhost", "::1"})


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a site is run. What it is called and where devices reach it says `site.json` beside it."""

    kafka_id: str  # of Kafka's folder
    workers: int = 1  # processes that judge; no more than partitions
    partitions: int = 12  # cannot be changed once there are patients
    kafka_heap: str = "512m"
    backstop_webhook: str = ""  # whom Grafana tells when alarms themselves fail; empty: the demo's phone
    ports: Ports = Ports()

    def facts(self, site: SiteFacts, *, phone: str) -> dict[str, str]:
        """What a `Place` has to know of it.

        Args:
            phone: where the phone of the demo is reached.
        """
        ports = msgspec.structs.asdict(self.ports) | {"registry": site.registry_port, "broker": site.broker_port}
        return {
            **{name: str(port) for name, port in ports.items()},
            "kafka_id": self.kafka_id, "kafka_heap": self.kafka_heap, "partitions": str(self.partitions),
            "backstop_webhook": self.backstop_webhook or f"http://{phone}:{self.ports.phone}/",
        }  # fmt: skip


def read(folder: Path) -> SiteSettings:
    """Raises SiteIncomplete, ConfigError, naming the key."""
    if not (folder / FILE).exists():
        raise SiteIncomplete(folder, f"no site here; make one: vitalloom site init {folder}")
    return load(SiteSettings, folder / FILE, env_prefix="VITALLOOM_SITE_SETTINGS")


def text(settings: SiteSettings) -> str:
    """`site.toml`."""
    ports = "\n".join(f"{name} = {port}" for name, port in msgspec.structs.asdict(settings.ports).items())
    return f"""\
# How this site is run: `vitalloom site run`, and `vitalloom site init` again writes .env for `make up` from it.

workers = {settings.workers}                     # processes that judge readings; at most as many as partitions
partitions = {settings.partitions}                 # of the log; cannot be changed once there are patients
kafka_heap = "{settings.kafka_heap}"
backstop_webhook = "{settings.backstop_webhook}"           # whom Grafana tells if alarms fail; empty: the demo's phone
kafka_id = "{settings.kafka_id}"    # of Kafka's folder; leave it

[ports]                         # those of the registry and the MQTT broker, which devices are told, are in site.json
{ports}
"""


def published(site: SiteFacts) -> str:
    """Where devices come to: a site that is called by a loopback address is for this machine alone."""
    return LOOPBACK if site.broker_host in _OF_THIS_MACHINE else EVERYWHERE


def native(folder: Path, settings: SiteSettings, site: SiteFacts) -> Place:
    """This machine: everything on loopback, except what devices come to."""
    names = ("mosquitto", "registry", "kafka", "influxdb", "grafana", "desk", "phone")
    return Place(
        folder=str(folder.resolve()), facts=settings.facts(site, phone=LOOPBACK),
        hosts=dict.fromkeys(names, LOOPBACK), listen=LOOPBACK,
        outside=published(site),
    )  # fmt: skip
