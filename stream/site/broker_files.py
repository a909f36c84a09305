"""The files of a site's Mosquitto: its configuration, who may say what, whom it trusts, and who is trusted no more.

The two texts are functions of facts. `BrokerFolder` keeps the files, all in one folder, and tells a running broker; it
starts and stops nothing.
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
WARN_LIST_MS: Final = 2 * DAY_MS
"""Somebody has to hear of it when a revocation list has less time left than this."""

_TOLD: Final = "told"  # what a running broker was told last
_READ_AGAIN: Final = (ACL_FILE, LIST_FILE, CERTIFICATE_FILE, KEY_FILE)
_READ_AT_START: Final = (CONF_FILE, CLIENTS_FILE)

_END_OF_LIST: Final = b"-----END X509 CRL-----\n"
_ANEW_AFTER: Final = timedelta(days=1)
_TOO_EARLY: Final = timedelta(minutes=5)  # lists are dated back by ten
_PROC: Final = Path("/proc")


class Written(NamedTuple):
    """What became of the files."""

    changed: tuple[str, ...]  # names of files that are new or different
    told: bool  # a running broker was told to read them again
    notes: tuple[str, ...]  # why it was not, if it should have been: a sentence

    @property
    def needs_restart(self) -> bool:
        """Whether there is something in them that not every running Mosquitto reads again."""
        return any(name in _READ_AT_START for name in self.changed)


class BrokerFolder:
    """The folder of a broker.

    Args:
        folder: absolute.
        list_days: how long a revocation list is good for. A new one is made a day after the last.
    """

    def __init__(self, folder: Path, *, list_days: float = LIST_DAYS) -> None:
        self.folder = folder
        self._list_days = list_days

    @property
    def config_file(self) -> Path:
        """What `mosquitto -c` is given."""
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
    ) -> Written:
        """Bring every file up to date, and tell a broker that runs.

        Args:
            hosts: names and addresses that clients reach the broker by.
            retired: authorities with earlier issuing keys, as long as certificates of theirs are in use; without a
                revocation list of its own issuer no client is let in.

        Raises:
            SiteUnusable: the folder cannot be written, or the broker's user could not read what is in it.
        """
        if settings.folder != self.folder:
            raise SiteUnusable(self.folder, f"the settings are of another folder, {settings.folder}")
        account = account_named(settings.user, self.folder)
        check_can_read(self.folder, account)
        self._make(account)
        changed = [
            self._put(CONF_FILE, mosquitto_conf(settings).encode()),
            self._put(CLIENTS_FILE, b"".join([authority.bundle, *(pem(one.issuing) for one in retired)])),
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
    ) -> Written:
        """Bring the access list, the revocation list and, near its end, the broker's certificate up to date.

        Cheap when nothing has changed; call it every few seconds. See `write` for the arguments.

        Raises:
            SiteUnusable: nothing was written here before, or it cannot be read or written.
        """
        try:
            account = account_of(self.folder.stat())
            check_can_read(self.folder, account)
            hosts = _hosts(self._certificate())
        except (OSError, ValueError) as error:
            raise SiteUnusable(self.folder, "holds no broker's files; write them: vitalloom broker write") from error
        changed = self._bring_up_to_date(registry, (authority, *retired), hosts=hosts, at=at, who=who)
        return self._finish(changed, account)

    def list_left_ms(self, now_ms: int) -> int:
        """How long the revocation list is good for; below `WARN_LIST_MS` somebody has to be told.

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
        """The broker's own, if it is there and can be read."""
        try:
            return self._certificate()
        except (SiteUnusable, ValueError):
            return None

    # Within

    def _bring_up_to_date(
        self, registry: Registry, authorities: Sequence[Authority], *, hosts: Sequence[str], at: datetime, who: str
    ) -> list[str]:
        return [
            self._put(ACL_FILE, _access_list_of(registry, at).encode()),
            self._put_list(registry, authorities, at),
            *self._put_certificate(registry, authorities[0], hosts, at, who),
        ]

    def _finish(self, changed: Iterable[str], account: BrokerAccount) -> Written:
        # First the owner, then the signal: a Mosquitto 2.0 that cannot read its access list again permits everything.
        self._hand_over(account)
        # What it was told last is kept as a digest: whoever could not be told is told the next time.
        digest = hashlib.sha256(b"\0".join(self._read(name) for name in _READ_AGAIN)).hexdigest().encode()
        names = tuple(one for one in changed if one)
        if self._read(_TOLD) == digest:
            return Written(names, told=False, notes=())
        problem = _tell(self.folder / PID_FILE)
        if problem is None:
            self._put(_TOLD, digest)
        return Written(names, told=problem is None, notes=() if problem is None else (problem,))

    def _put(self, name: str, content: bytes) -> str:
        """The name if this was news, else nothing."""
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
        # A Mosquitto that adds a list to those it has read leaves the choice to OpenSSL, which takes that of the later
        # date, in whole seconds: of two lists of one second the second would not be heard. So the number is a second,
        # it rises, and it is the date of the list; unless the clock was ahead before: a date to come is refused.
        number = registry.certificates.next_list_number(int(at.timestamp()))
        dated = datetime.fromtimestamp(number, UTC)
        if dated - at > _TOO_EARLY:
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
        left = timedelta(milliseconds=self.list_left_ms(round(at.timestamp() * 1_000)))
        old = left < timedelta(days=self._list_days) - _ANEW_AFTER
        return old or any({entry.serial_number for entry in one} != revoked for one in present)

    def _lists(self) -> list[x509.CertificateRevocationList]:
        """None of them if there is something wrong with one."""
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
            # Two files, and a power cut can come between them.
            fits = key_hash(load_key(self._read(KEY_FILE)).public_key()) == pin_of(present)
        except (ValueError, TypeError, InvalidSignature, BadKeyFile):
            return False
        left = present.not_valid_after_utc - at
        return fits and set(_hosts(present)) == set(hosts) and left > timedelta(days=SERVER_DAYS / 3)

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
                raise SiteUnusable(folder, f"is not a folder of {account.name}'s: name another")
            if found.st_mode & 0o077:
                raise SiteUnusable(folder, f"will hold a key and others can reach it: chmod 700 {folder}")

    def _hand_over(self, account: BrokerAccount) -> None:
        """Everything to the user that the broker runs as, if that is somebody else."""
        if os.geteuid() == account.uid:
            return
        for path in (self.folder, *(self.folder / name for name in (*_READ_AT_START, *_READ_AGAIN, DATA_FOLDER))):
            # The folder may be another user's already: whatever lies there, a link is not followed.
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


def _tell(pid_file: Path) -> str | None:
    """Have the broker read its files again. None if that worked, else a sentence."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        # The number may be an older one, and of another program by now; 0 and less would mean many. In a container of
        # its own, it is the first process.
        if pid < 1 or not _is_mosquitto(pid):
            return f"no broker is running ({pid_file} is an old one)"
        os.kill(pid, signal.SIGHUP)
    except FileNotFoundError:
        return "no broker is running"
    except ValueError:
        return f"{pid_file} holds no number; tell the broker yourself: systemctl reload mosquitto"
    except ProcessLookupError:
        return f"no broker is running ({pid_file} is an old one)"
    except PermissionError:
        return "the broker may not be told by this user: run this as the broker's user or as root"
    return None


def _is_mosquitto(pid: int) -> bool:
    if not (_PROC / "self").exists():  # another system than Linux
        return True
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8").strip() == "mosquitto"
    except OSError:
        return False
