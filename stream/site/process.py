"""The process `vitalloom registry serve`: enrolment over HTTPS, and broker files that follow the registry."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from runtime.clock import Clock, SystemClock
from runtime.lifetime import run_until_signal, set_up_process
from runtime.logs import LogFormat, get
from runtime.metrics import HttpConfig, serving
from stream.errors import SiteUnusable
from stream.site.broker_files import WARN_LIST_MS, BrokerFolder
from stream.site.folder import Site
from stream.site.health import BrokerFilesStatus, RegistryHealth
from stream.site.http import RegistryServer
from wire.enrol.authority import moment, pem

REFRESH_S: Final = 1.0

_log = get(__name__)


def run_registry(site_folder: Path, *, host: str, port: int | None, http: HttpConfig, log_format: LogFormat) -> int:
    """The command `vitalloom registry serve`.

    Raises:
        SiteUnusable, HttpServerFailed, CannotListen: what is wrong, and the fix.
    """
    set_up_process(form=log_format)
    clock = SystemClock()
    site = Site.open(site_folder, clock=clock)
    with contextlib.closing(site):
        port = port or site.facts.registry_port
        asyncio.run(run_until_signal(_serve(site, clock, host=host, port=port, http=http)))
    return 0


async def _serve(site: Site, clock: Clock, *, host: str, port: int, http: HttpConfig) -> None:
    status = BrokerFilesStatus()
    server = RegistryServer(
        site.enrolment,
        tls=site.registry_tls,
        root=pem(site.authority.root),
        clients=site.bundle_file,
        host=host,
        port=port,
    )
    health = RegistryHealth(server.requests, status, clock)
    async with serving(http, process="registry", source=health), server:
        _log.info("registry is listening", url=site.facts.url, port=server.port)
        await update_broker_files(site, clock, status)


async def update_broker_files(site: Site, clock: Clock, status: BrokerFilesStatus) -> None:
    """Make the broker's access list and revocation list follow the registry within two seconds, until cancelled."""
    folder = BrokerFolder(site.broker_folder)
    while True:
        try:
            found = _refresh(folder, site, clock) if folder.config_file.exists() else ""
        except (SiteUnusable, OSError) as error:
            # Devices still enrol and renew; the broker gets its files as soon as they can be written again.
            found = str(error)
        if found and found != status.problem:
            status.errors += 1
            _log.error("cannot update the broker's files", problem=found)
        status.problem, status.turned_ms = found, clock.mono_ms()
        await asyncio.sleep(REFRESH_S)


def _refresh(folder: BrokerFolder, site: Site, clock: Clock) -> str:
    """A problem that needs a person; empty if there is none."""
    update = folder.refresh(
        site.registry, site.authority, at=moment(clock.now_ms()), who="registry", retired=site.retired
    )
    if update.changed:
        _log.info("broker files updated", files=list(update.changed), notes=list(update.notes))
    if folder.list_left_ms(clock.now_ms()) < WARN_LIST_MS:
        return (
            "the revocation list expires soon, and then no device can connect: "
            f"vitalloom broker write --site {site.folder}"
        )
    return ""
