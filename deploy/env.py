"""What `docker-compose.yml` is told of a site: the file `.env` in its folder. Pure: facts in, text out. No secrets."""

from pathlib import Path
from typing import Final

from deploy.description import Place
from deploy.settings import EVERYWHERE, SiteSettings, published
from stream.site.folder import SiteFacts

FILE: Final = ".env"
PHONE: Final = "desk"
"""Where the demo's phone is in containers: in the desk's network, so that it is on loopback for it, as natively."""
NAMES: Final = ("mosquitto", "registry", "kafka", "influxdb", "grafana", "desk", "phone")


def variable(fact: str) -> str:
    """How a fact is called there."""
    return f"VITALLOOM_{fact.upper()}"


def text(folder: Path, settings: SiteSettings, site: SiteFacts, *, uid: int, gid: int) -> str:
    """`.env`.

    Args:
        uid, gid: whom the folder belongs to; containers run as that user.
    """
    facts = "\n".join(f"{variable(name)}={value}" for name, value in settings.facts(site, phone=PHONE).items())
    if uid == 0:
        user = "# Containers do not run as root, and this site belongs to root: chown it, and init again as that user."
    else:
        user = f"VITALLOOM_UID={uid}\nVITALLOOM_GID={gid}"
    return f"""\
# Written by `vitalloom site init` of what stands in site.toml and site.json, and written again: no place for changes.
# Used by: docker compose --env-file {folder / FILE} up
COMPOSE_PROJECT_NAME=vitalloom
VITALLOOM_DIR={folder}
{user}
# Where devices reach the registry and the MQTT broker, and where people reach Grafana and the desk. These two speak
# plain HTTP: a proxy with TLS belongs before them, and until there is one they are for this machine.
VITALLOOM_HOST={site.broker_host}
VITALLOOM_FOR_DEVICES={published(site)}
VITALLOOM_FOR_PEOPLE=127.0.0.1
{facts}
"""


class _Variables(dict[str, str]):
    def __missing__(self, fact: str) -> str:
        return f"${{{variable(fact)}}}"


def compose_place() -> Place:
    """A site in containers, whichever: what differs from site to site are variables of `.env`."""
    return Place(
        folder="${VITALLOOM_DIR}", facts=_Variables(), hosts={name: name for name in NAMES} | {"phone": PHONE},
        listen=EVERYWHERE, outside=EVERYWHERE,
    )  # fmt: skip
