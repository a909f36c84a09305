"""Upkeep of a site by its registry: follow files, renew certificates before they end, keep the broker's files true.

Nothing is read once: keys and addresses that a command has changed are in use within a second. What cannot be renewed
is tried again, after ten seconds, then twenty, up to an hour, and is named from the first failure on.
"""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from cryptography import x509

from runtime.clock import Clock
from runtime.errors import NotPrivate
from runtime.logs import get
from stream.errors import SiteUnusable
from stream.site.broker_files import SERVER_RENEWED, WARN_LIST_MS, BrokerFolder
from stream.site.end_dates import ISSUING_DUE_MS, site_end_dates, write_end_dates
from stream.site.folder import SERVICES, Site
from stream.site.health import BROKER_FILES, SITE_KEYS, UpkeepStatus
from stream.tls import certificates_in, end_ms
from wire.enrol.authority import moment

LOOK_MS: Final = 60_000
"""Interval at which end dates are looked at; files are looked at in every turn."""
FIRST_RETRY_MS: Final = 10_000
LONGEST_RETRY_MS: Final = 3_600_000

_WHO: Final = "registry"

_log = get(__name__)


class SiteUpkeep:
    """The upkeep of one site; call `turn` every second."""

    def __init__(self, site: Site, clock: Clock, status: UpkeepStatus | None = None) -> None:
        self.status = UpkeepStatus() if status is None else status
        self._site = site
        self._clock = clock
        self._looked_ms: int | None = None  # monotonic
        self._offset_ms = 0  # of the wall clock from it, then
        self._failures: dict[str, tuple[int, int]] = {}  # by what: how often, and when to try again (monotonic)

    def turn(self) -> None:
        """One round."""
        status = self.status
        self._try(SITE_KEYS, self._site.follow_files)
        mono_ms = self._clock.mono_ms()
        again = any(again_ms <= mono_ms for _, again_ms in self._failures.values())
        # Certificates are held against the wall clock: one that was set is looked at at once.
        was_set = abs(self._site.wall_ms - mono_ms - self._offset_ms) >= LOOK_MS
        is_due = again or was_set or self._looked_ms is None or mono_ms - self._looked_ms >= LOOK_MS
        if is_due:
            self._looked_ms, self._offset_ms = mono_ms, self._site.wall_ms - mono_ms
            self._renew()
        self._try(BROKER_FILES, self._refresh_broker)
        self._try("orders that begin or end", self._site.registry.orders.renew)
        if is_due or not self.status.ends:
            self._try("list of end dates", self._write_ends)
        status.turned_ms = mono_ms

    def _renew(self) -> None:
        site, now_ms = self._site, self._site.wall_ms
        began = site.authority.root.not_valid_before_utc
        if moment(now_ms) < began:
            # What is issued now would have ended when somebody sets the clock.
            self._failed("clock of this machine", "is before the day that the site was created: set it")
            return
        self._succeeded("clock of this machine")
        issuing = site.authority.issuing
        if end_ms(issuing) - now_ms <= ISSUING_DUE_MS and site.can_renew_issuing:
            self._try("certificate of the issuing key", lambda: site.renew_issuing(passphrase="", who=_WHO))
        if self._is_due(certificates_in(site.registry_tls)) or not site.is_registry_named:
            self._try("certificate of the registry", lambda: site.issue_registry_certificate(who=_WHO))
        for name in SERVICES:
            path = site.folder / "services" / f"{name}.pem"
            if path.exists() and self._is_due(certificates_in(path)):
                self._try(f"certificate of service {name}", partial(site.issue_service, name, who=_WHO))

    def _is_due(self, chain: list[x509.Certificate]) -> bool:
        """Whether a chain has to be renewed; one that cannot be read has."""
        if not chain:
            return True
        now = moment(self._site.wall_ms)
        issuer = self._site.authority.issuing.subject
        return (
            chain[0].not_valid_after_utc - now <= SERVER_RENEWED
            or chain[0].not_valid_before_utc > now  # by a clock that was ahead
            or chain[0].issuer != issuer
        ) and self._site.authority.issuing.not_valid_after_utc - now > timedelta(0)

    def _refresh_broker(self) -> None:
        site = self._site
        folder = BrokerFolder(site.broker_folder)
        if not folder.config_file.exists():
            return
        now_ms = site.wall_ms
        update = folder.refresh(site.registry, site.authority, at=moment(now_ms), who=_WHO, retired=site.retired)
        if update.changed:
            _log.info("broker files updated", files=list(update.changed), notes=list(update.notes))
        self.status.not_reloaded = "; ".join(update.notes)
        if folder.list_left_ms(now_ms) < WARN_LIST_MS:
            raise SiteUnusable(
                folder.folder,
                "the revocation list expires soon, and then no device can connect: "
                f"vitalloom broker write --site {site.folder}",
            )

    def _write_ends(self) -> None:
        """Tell health and the other processes of the site what ends when."""
        self.status.ends = tuple(site_end_dates(self._site, self.status.problems))
        write_end_dates(self._site.folder, self.status.ends, at_ms=self._clock.now_ms())

    # Trying again

    def _try(self, what: str, work: Callable[[], object]) -> None:
        failures, again_ms = self._failures.get(what, (0, 0))
        if failures and self._clock.mono_ms() < again_ms and what not in (SITE_KEYS, BROKER_FILES):
            return
        try:
            work()
        except (SiteUnusable, OSError, NotPrivate, sqlite3.Error) as error:
            self._failed(what, str(error))
        else:
            self._succeeded(what)

    def _failed(self, what: str, problem: str) -> None:
        failures = self._failures.get(what, (0, 0))[0] + 1
        wait_ms = min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** min(failures - 1, 20))
        self._failures[what] = failures, self._clock.mono_ms() + wait_ms
        if self.status.problems.get(what) != problem:
            self.status.errors += 1
            _log.error("upkeep of the site failed", what=what, problem=problem)
        self.status.problems = {**self.status.problems, what: problem}

    def _succeeded(self, what: str) -> None:
        if self._failures.pop(what, None) is not None:
            _log.info("upkeep of the site succeeds again", what=what)
            self.status.problems = {key: one for key, one in self.status.problems.items() if key != what}
