"""The process `vitalloom registry serve`: enrolment over HTTPS, and the upkeep of the site."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from runtime.clock import Clock, SystemClock
from runtime.end_dates import EndDateWatch
from runtime.lifetime import run_until_signal, set_up_process
from runtime.logs import LogFormat, get
from runtime.metrics import HttpConfig, serving
from stream.site.folder import Site
from stream.site.health import RegistryHealth
from stream.site.http import RegistryServer
from stream.site.upkeep import SiteUpkeep
from wire.enrol.authority import pem

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
    upkeep = SiteUpkeep(site, clock)
    # Before the first connection: a certificate that ended while the registry was down is shown to nobody.
    upkeep.turn()
    server = RegistryServer(
        site.enrolment,
        tls=site.registry_tls,
        root=pem(site.authority.root),
        clients=site.bundle_file,
        host=host,
        port=port,
    )
    health = RegistryHealth(server.requests, upkeep.status, clock)
    ends = EndDateWatch(lambda: upkeep.status.ends, clock.now_ms, health.notes)
    async with serving(http, process="registry", source=health, ends=ends), server:
        _log.info("registry is listening", url=site.facts.url, port=server.port)
        await look_after_site(upkeep)


async def look_after_site(upkeep: SiteUpkeep) -> None:
    """Make the broker's access list and revocation list follow the registry within two seconds, until cancelled."""
    while True:
        upkeep.turn()
        await asyncio.sleep(REFRESH_S)
