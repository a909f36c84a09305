"""The files of a site's Mosquitto broker: configuration, access list, trusted issuers, revocation list, certificate.

`BrokerFolder` keeps them in one folder and has a running broker reload them; it does not start or stop the broker.
"""

import hashlib
import os
import signal
import stat
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from runtime.hardening import write_private
from stream.errors import SiteUnusable
from stream.site.access_list import SERVICE_RIGHTS, access_list
from stream.site.broker_account import BrokerAccount, account_named, account_of, check_can_read
from stream.site.certificates import DAY_MS
from stream.site.mosquitto_conf import (
    ACL_FILE,
    CERTIFICATE_FILE,
    CLIENTS_FILE,
    CONF_FILE,
    DATA_FOLDER,
    KEY_FILE,
    LIST_FILE,
    PID_FILE,
    BrokerSettings,
    mosquitto_conf,
)
from stream.site.registry import Registry
from wire.enrol.authority import LIST_DAYS, Authority, key_hash, key_pem, load_key, new_tls_key, pem, pin_of
from wire.errors import BadKeyFile

SERVER_DAYS: Final = 90
SERVER_RENEWED: Final = timedelta(days=SERVER_DAYS / 3)
"""A server's certificate is renewed when it has this much time left."""
WARN_LIST_MS: Final = 2 * DAY_MS
"""Warn a person when the revocation list expires in less than this."""

_RELOADED: Final = "told"  # digest of the files that a running broker has reloaded
_RELOADABLE: Final = (ACL_FILE, LIST_FILE, CERTIFICATE_FILE, KEY_FILE)
_READ_AT_START: Final = (CONF_FILE, CLIENTS_FILE)

_END_OF_LIST: Final = b"-----END X509 CRL-----\n"
_RENEW_AFTER: Final = timedelta(days=1)
_MAX_AHEAD: Final = timedelta(minutes=5)  # lists are backdated by ten
_PROC: Final = Path("/proc")


class BrokerUpdate(NamedTuple):
    """The outcome of writing the files."""

    changed: tuple[str, ...]  # names of files that are new or different
    reloaded: bool  # a running broker was signalled to reload them
    notes: tuple[str, ...]  # sentences: why it was not, although files have changed

    @property
    def needs_restart(self) -> bool:
        """Whether a file has changed that a running Mosquitto does not reload, and needs.

        It does not reload the trusted certificates either, but every client sends that of its issuing key.
        """
        return CONF_FILE in self.changed


class BrokerFolder:
    """The folder of a broker's files.

    Args:
        folder: absolute.
        list_days: validity of a revocation list. A new one is made a day after the last.
    """

    def __init__(self, folder: Path, *, list_days: float = LIST_DAYS) -> None:
        self.folder = folder
        self._list_days = list_days

    @property
    def config_file(self) -> Path:
        """The argument of `mosquitto -c`."""
        return self.folder / CONF_FILE

    def write(
        self,
        registry: Registry,
        authority: Authority,
        settings: BrokerSettings,
        *,
        hosts: Sequence[str],
        at: datetime,
        who: str,
        retired: Sequence[Authority] = (),
    ) -> BrokerUpdate:
        """Bring every file up to date, and have a running broker reload them.

        Args:
            hosts: names and addresses by which clients reach the broker.
            retired: authorities with earlier issuing keys, while certificates of theirs are in use. A client
                can connect only if its own issuer has a revocation list.

        Raises:
            SiteUnusable: the folder cannot be written, or the broker's user cannot read its files.
        """
        if settings.folder != self.folder:
            raise SiteUnusable(self.folder, f"the settings name another folder, {settings.folder}")
        account = account_named(settings.user, self.folder)
        check_can_read(self.folder, account)
        self._make(account)
        changed = [
            self._put(CONF_FILE, mosquitto_conf(settings).encode()),
            *self._bring_up_to_date(registry, (authority, *retired), hosts=hosts, at=at, who=who),
        ]
        return self._finish(changed, account)

    def refresh(
        self,
        registry: Registry,
        authority: Authority,
        *,
        at: datetime,
        who: str,
        retired: Sequence[Authority] = (),
    ) -> BrokerUpdate:
        """Bring access list and revocation list up to date, and renew the broker's certificate before it expires.

        Cheap when nothing has changed; call it every few seconds. See `write` for the arguments.

        Raises:
            SiteUnusable: the folder holds no broker files, or they cannot be read or written.
        """
        try:
            account = account_of(self.folder.stat())
            check_can_read(self.folder, account)
            hosts = _hosts(self._certificate())
        except (OSError, ValueError) as error:
            raise SiteUnusable(self.folder, "holds no broker files; write them: vitalloom broker write") from error
        changed = self._bring_up_to_date(registry, (authority, *retired), hosts=hosts, at=at, who=who)
        return self._finish(changed, account)

    @property
    def certificate_file(self) -> Path:
        """The broker's certificate with its chain."""
        return self.folder / CERTIFICATE_FILE

    @property
    def list_renewed_ms(self) -> int:
        """A revocation list that has less time left is renewed."""
        return round((timedelta(days=self._list_days) - _RENEW_AFTER).total_seconds() * 1_000)

    def list_left_ms(self, now_ms: int) -> int:
        """Time until the revocation list expires; below `WARN_LIST_MS` a person has to be warned.

        Raises:
            SiteUnusable: there is none.
        """
        lists = self._lists()
        if not lists:
            raise SiteUnusable(
                self.folder / LIST_FILE, "is missing or damaged, so no client can connect; fix: vitalloom broker write"
            )
        return min(round(_next_update(one).timestamp() * 1_000) for one in lists) - now_ms

    def certificate(self) -> x509.Certificate | None:
        """The broker's own certificate; None if it is missing or cannot be read."""
        try:
            return self._certificate()
        except (SiteUnusable, ValueError):
            return None

    # Private

    def _bring_up_to_date(
        self, registry: Registry, authorities: Sequence[Authority], *, hosts: Sequence[str], at: datetime, who: str
    ) -> list[str]:
        bundle = b"".join([authorities[0].bundle, *(pem(one.issuing) for one in authorities[1:])])
        return [
            self._put(CLIENTS_FILE, bundle),
            self._put(ACL_FILE, _access_list_of(registry, at).encode()),
            self._put_list(registry, authorities, at),
            *self._put_certificate(registry, authorities[0], hosts, at, who),
        ]

    def _finish(self, changed: Iterable[str], account: BrokerAccount) -> BrokerUpdate:
        # First the owner, then the signal: a Mosquitto 2.0 that cannot read its access list again permits everything.
        self._hand_over(account)
        # The digest of the files that were reloaded last is kept: a reload that failed is tried again the next time.
        digest = hashlib.sha256(b"\0".join(self._read(name) for name in _RELOADABLE)).hexdigest().encode()
        names = tuple(one for one in changed if one)
        if self._read(_RELOADED) == digest:
            return BrokerUpdate(names, reloaded=False, notes=())
        problem = _reload(self.folder / PID_FILE)
        if problem is None:
            self._put(_RELOADED, digest)
        return BrokerUpdate(names, reloaded=problem is None, notes=() if problem is None else (problem,))

    def _put(self, name: str, content: bytes) -> str:
        """Write a file if its content is new; returns its name, or an empty text if it was up to date."""
        if self._read(name) == content:
            return ""
        try:
            write_private(self.folder / name, content)
        except OSError as error:
            raise SiteUnusable(self.folder / name, f"cannot be written ({error.strerror})") from error
        return name

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise SiteUnusable(
                self.folder / name, f"cannot be read ({error.strerror}); run this as root or as the broker's user"
            ) from error

    def _put_list(self, registry: Registry, authorities: Sequence[Authority], at: datetime) -> str:
        revoked = registry.certificates.revoked()
        if not self._is_due(self._lists(), {serial for serial, _ in revoked}, authorities, at):
            return ""
        # A Mosquitto that adds a list to those it has read leaves the choice to OpenSSL, which takes the one with the
        # later date, in whole seconds: of two lists of one second the second would be ignored. So the number is a time
        # in seconds, it rises, and it is the date of the list; unless the clock was ahead before, as clients reject a
        # date in the future.
        number = registry.certificates.next_list_number(int(at.timestamp()))
        dated = datetime.fromtimestamp(number, UTC)
        if dated - at > _MAX_AHEAD:
            dated = at
        lists = [one.revocation_list(revoked, number=number, at=dated, days=self._list_days) for one in authorities]
        return self._put(LIST_FILE, b"".join(lists))

    def _is_due(
        self,
        present: Sequence[x509.CertificateRevocationList],
        revoked: set[int],
        authorities: Sequence[Authority],
        at: datetime,
    ) -> bool:
        if len(present) != len(authorities):
            return True
        if not all(
            one.is_signature_valid(by.issuing_key.public_key()) for one, by in zip(present, authorities, strict=True)
        ):
            return True
        if any(one.last_update_utc > at for one in present):
            return True  # made by a clock that was ahead, and clients reject it until then
        left = timedelta(milliseconds=self.list_left_ms(round(at.timestamp() * 1_000)))
        old = left < timedelta(days=self._list_days) - _RENEW_AFTER
        return old or any({entry.serial_number for entry in one} != revoked for one in present)

    def _lists(self) -> list[x509.CertificateRevocationList]:
        """The lists in the file, one for each issuer; empty if one of them is damaged."""
        parts = self._read(LIST_FILE).split(_END_OF_LIST)
        try:
            return [x509.load_pem_x509_crl(part + _END_OF_LIST) for part in parts if part.strip()]
        except ValueError:
            return []

    def _put_certificate(
        self, registry: Registry, issuer: Authority, hosts: Sequence[str], at: datetime, who: str
    ) -> list[str]:
        if self._certificate_is_good(issuer, hosts, at):
            return []
        key = new_tls_key()
        made = issuer.server(key.public_key(), hosts=hosts, at=at, days=SERVER_DAYS)
        registry.certificates.record_issued(made, name="broker", who=who)
        return [
            self._put(KEY_FILE, key_pem(key)),
            self._put(CERTIFICATE_FILE, pem(made) + pem(issuer.issuing)),
        ]

    def _certificate_is_good(self, issuer: Authority, hosts: Sequence[str], at: datetime) -> bool:
        try:
            present = self._certificate()
            present.verify_directly_issued_by(issuer.issuing)
            # A power cut between writing the two files leaves a key that does not fit.
            fits = key_hash(load_key(self._read(KEY_FILE)).public_key()) == pin_of(present)
        except (ValueError, TypeError, InvalidSignature, BadKeyFile):
            return False
        is_due = present.not_valid_before_utc > at or present.not_valid_after_utc - at <= SERVER_RENEWED
        return fits and set(_hosts(present)) == set(hosts) and not is_due

    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._read(CERTIFICATE_FILE))

    def _make(self, account: BrokerAccount) -> None:
        for folder in (self.folder, self.folder / DATA_FOLDER):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = folder.lstat()
            except OSError as error:
                raise SiteUnusable(folder, f"cannot be made ({error.strerror})") from error
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid(), account.uid):
                raise SiteUnusable(folder, f"is not a folder of {account.name}: name another")
            if found.st_mode & 0o077:
                raise SiteUnusable(folder, f"will hold a key, and other users can read it: chmod 700 {folder}")

    def _hand_over(self, account: BrokerAccount) -> None:
        """Give every file to the user that the broker runs as, if that is another user."""
        if os.geteuid() == account.uid:
            return
        for path in (self.folder, *(self.folder / name for name in (*_READ_AT_START, *_RELOADABLE, DATA_FOLDER))):
            # The folder may be another user's already, who could place a link there: do not follow it.
            if path.lstat().st_uid != account.uid:
                os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _access_list_of(registry: Registry, at: datetime) -> str:
    now_ms = at.timestamp() * 1_000
    valid = {
        one.name
        for one in registry.certificates.all()
        if one.not_after_ms > now_ms and (one.revoke_ms is None or one.revoke_ms > now_ms)
    }
    devices = registry.devices()
    return access_list(
        edges=[one.device_id for one in devices if one.role == "edge" and one.revoked_ms is None],
        bindings=registry.bindings(),
        revoked=[one.device_id for one in devices if one.revoked_ms is not None],
        services=[name for name in SERVICE_RIGHTS if name in valid],
    )


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(one.value) for one in names)


def _next_update(one: x509.CertificateRevocationList) -> datetime:
    if one.next_update_utc is None:  # ours have one
        return datetime.fromtimestamp(0, UTC)
    return one.next_update_utc


def _reload(pid_file: Path) -> str | None:
    """Have the broker reload its files. None if that worked, else a sentence."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        # The number may be outdated and belong to another program by now; 0 and less mean groups of processes. In a
        # container of its own the broker has number 1.
        if pid < 1 or not _is_mosquitto(pid):
            return f"no broker is running ({pid_file} is outdated)"
        os.kill(pid, signal.SIGHUP)
    except FileNotFoundError:
        return "no broker is running"
    except ValueError:
        return f"{pid_file} holds no process id; reload the broker yourself: systemctl reload mosquitto"
    except ProcessLookupError:
        return f"no broker is running ({pid_file} is outdated)"
    except PermissionError:
        return "this user may not signal the broker: run this as the broker's user or as root"
    return None


def _is_mosquitto(pid: int) -> bool:
    if not (_PROC / "self").exists():  # not Linux
        return True
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8").strip() == "mosquitto"
    except OSError:
        return False
