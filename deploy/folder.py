"""The folder of a site: authority, registry, configuration, secrets. Made by `vitalloom site init`, again and again.

What is there stays: a secret is never drawn twice, and a file that somebody has edited is theirs.
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dashboards import files as dashboards
from deploy import env, files, settings
from deploy.description import Ports
from deploy.errors import SiteIncomplete
from deploy.native.tools import HERE as NATIVE
from deploy.settings import SiteSettings
from runtime.clock import SystemClock
from runtime.errors import NotPrivate
from runtime.hardening import make_private_dir, write_private
from stream.desk.users import Users
from stream.site.folder import Site, SiteFacts

SHOWN: Final = "config/grafana"

FOLDERS: Final = (
    "config", "secrets", "people", "logs", "broker", "demo",
    "data", "data/kafka", "data/influxdb", "data/ingest", "data/desk", "data/grafana",
)  # fmt: skip

DRAWN: Final = ("influxdb-admin.token", "influxdb-admin.password", "grafana-admin.password")
"""Secrets that are nobody's but this site's; for people, in case."""
FILLED_LATER: Final = ("writer.token", "reader.token")
"""InfluxDB draws these itself, in `vitalloom site prepare`; until then they are empty, so that they can be mounted."""


class Folder:
    """A site's folder that is being made or completed; `made` and `kept` say what became of each part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[str] = []
        self.kept: list[str] = []

    def begin(
        self,
        *,
        name: str,
        host: str,
        registry_port: int,
        broker_port: int,
        first_port: int | None,
        passphrase: str = "",
        who: str,
    ) -> SiteFacts:
        """Bring everything about that is missing.

        Args:
            first_port: of this site's own processes; None: the usual ones.
            passphrase: of the root key's file.

        Raises:
            SiteUnusable, SiteIncomplete: what is wrong, and the cure.
        """
        facts = self._site(name, host, registry_port, broker_port, passphrase, who)
        try:
            for one in FOLDERS:
                make_private_dir(self.folder / one)
        except NotPrivate as error:
            raise SiteIncomplete(self.folder, str(error)) from error
        self._once(settings.FILE, lambda: settings.text(_drawn_settings(first_port)))
        told = settings.read(self.folder)
        for name_, text in self._configuration(told, facts).items():
            self._once(name_, text)
        for name_, text in self._shown().items():
            # Dashboards come with the release; how they are provided and who is told is the site's.
            if name_.endswith(".json"):
                self._put(name_, text)
            else:
                self._once(name_, text)
        for one in DRAWN:
            self._once(f"secrets/{one}", lambda: secrets.token_urlsafe(32))
        for one in FILLED_LATER:
            if not (self.folder / "secrets" / one).exists():
                write_private(self.folder / "secrets" / one, b"")
        # Made of the other files, so it follows them.
        self._put(env.FILE, env.text(self.folder.resolve(), told, facts, uid=os.getuid(), gid=os.getgid()))
        return facts

    def admit(self, name: str) -> str | None:
        """Let somebody answer alarms, if nobody may yet.

        Returns:
            Their password, which is kept nowhere; None: somebody may already.
        """
        users = Users(self.folder / "data" / "desk" / "users.json")
        if users.all():
            return None
        password = secrets.token_urlsafe(12)
        users.put(name, password, now_ms=SystemClock().now_ms())
        return password

    # Within

    def _site(self, name: str, host: str, registry_port: int, broker_port: int, passphrase: str, who: str) -> SiteFacts:
        if (self.folder / "site.json").exists():
            site = Site.open(self.folder, clock=SystemClock(), to_read=True)
            self.kept.append("authority and registry")
        else:
            facts = SiteFacts(
                name=name, tenant_id=os.urandom(16).hex(), registry_host=host, registry_port=registry_port,
                broker_host=host, broker_port=broker_port,
            )  # fmt: skip
            site = Site.create(self.folder, facts, clock=SystemClock(), passphrase=passphrase, who=who)
            self.made.append("authority and registry")
        with contextlib.closing(site):
            return site.facts

    def _configuration(self, told: SiteSettings, facts: SiteFacts) -> dict[str, str]:
        here = self.folder.resolve()
        return {
            "config/kafka.properties": files.kafka_properties(
                host=settings.LOOPBACK, port=told.ports.kafka, controller=told.ports.kafka_controller,
                data=here / "data" / "kafka",
            ),
            "config/kafka-log4j2.xml": (NATIVE / "kafka_server" / "log4j2.xml").read_text(encoding="utf-8"),
            "config/ingest.toml": files.ingest_toml(),
            "config/worker.toml": files.worker_toml(),
            "config/store.toml": files.store_toml(here),
            "config/desk.toml": files.desk_toml(here, site=facts.name, port_of_people=told.ports.grafana),
            "people/addresses.toml": files.addresses_toml(phone=told.ports.phone),
            "config/grafana.ini": files.grafana_ini(here),
        }  # fmt: skip

    def _shown(self) -> dict[str, str]:
        """What Grafana is given; see `vitalloom dashboards build --into`."""
        token = self.folder.resolve() / "secrets" / "reader.token"
        found = dashboards.wanted("vitals", str(token))
        return {f"{SHOWN}/{name}": text for name, text in found.items()}

    def _once(self, name: str, text: str | Callable[[], str]) -> None:
        if (self.folder / name).exists():
            self.kept.append(name)
        else:
            self._put(name, text if isinstance(text, str) else text())

    def _put(self, name: str, text: str) -> None:
        path = self.folder / name
        try:
            if path.exists() and path.read_text(encoding="utf-8") == text:
                self.kept.append(name)
                return
            for parent in reversed(Path(name).parents):
                make_private_dir(self.folder / parent)
            write_private(path, text.encode())
        except OSError as error:
            raise SiteIncomplete(self.folder, f"{name} cannot be written ({error.strerror})") from error
        self.made.append(name)


def facts_of(folder: Path) -> SiteFacts:
    """Raises SiteUnusable if there is none, or a part of it is missing."""
    with contextlib.closing(Site.open(folder, clock=SystemClock(), to_read=True)) as site:
        return site.facts


def _drawn_settings(first_port: int | None) -> SiteSettings:
    # Kafka's ids are 16 bytes in base64 without padding, and may not begin with a dash.
    drawn = "-"
    while drawn.startswith("-"):
        drawn = secrets.token_urlsafe(16)
    return SiteSettings(kafka_id=drawn, ports=Ports() if first_port is None else Ports.after(first_port))
