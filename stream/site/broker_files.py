"""The files of a site's Mosquitto: its configuration, who may say what, whom it trusts, and who is trusted no more.

The two texts are functions of facts. `BrokerFolder` keeps the files, all in one folder, and tells a running broker; it
starts and stops nothing.
"""

import hashlib
import os
import pwd
import signal
import stat
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from runtime.hardening import write_private
from stream.errors import RegistryRefused, SiteUnusable
from stream.site.certificates import DAY_MS
from stream.site.registry import Registry
from wire.enrol.authority import LIST_DAYS, Authority, key_hash, key_pem, load_key, new_tls_key, pem, pin_of
from wire.enrol.requests import is_device_id
from wire.errors import BadKeyFile
from wire.identity import BindingRecord
from wire.topics import E_UP_ALARMS, E_UP_VITALS

SERVER_DAYS: Final = 90
WARN_LIST_MS: Final = 2 * DAY_MS
"""Somebody has to hear of it when a revocation list has less time left than this."""

SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    "ingest-v": (*(f"read {one}" for one in E_UP_VITALS), "write vl/v1/e/+/down"),
    "ingest-a": (*(f"read {one}" for one in E_UP_ALARMS), "write vl/v1/e/+/down-a"),
    "monitor": ("read $SYS/#",),
}
"""What each service of the data centre may do at the broker, by the name in its certificate."""

_CONF: Final = "mosquitto.conf"
_ACL: Final = "acl"
_CLIENTS: Final = "clients.crt"
_LIST: Final = "revoked.crl"
_CERTIFICATE: Final = "broker.crt"
_KEY: Final = "broker.key"
_DATA: Final = "data"
_PID: Final = "data/mosquitto.pid"
_TOLD: Final = "told"  # what a running broker was told last
_READ_AGAIN: Final = (_ACL, _LIST, _CERTIFICATE, _KEY)
_READ_AT_START: Final = (_CONF, _CLIENTS)

_END_OF_LIST: Final = b"-----END X509 CRL-----\n"
_ANEW_AFTER: Final = timedelta(days=1)
_TOO_EARLY: Final = timedelta(minutes=5)  # lists are dated back by ten
_PROC: Final = Path("/proc")


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site's broker can be told."""

    folder: Path  # absolute
    user: str  # of the system, that the broker runs as
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
    """Mosquitto's configuration file; its versions from 2.0.11 on read it."""
    folder = settings.folder
    # In Mosquitto's own file a comment begins in column 1, or it is part of a value.
    return f"""\
# Written by vitalloom, and written again: changes made here do not last.

# Whoever starts it as root, it goes on as this user.
user {settings.user}
pid_file {folder / _PID}
log_dest {settings.log_dest}

# One set of rules for every listener, so that one added by hand cannot stand open.
per_listener_settings false
allow_anonymous false
acl_file {folder / _ACL}

# Sessions survive a restart. That shortens resends; nobody relies on it, for senders keep what was not answered.
# There is no persistent_client_expiration on purpose, and clients ask for sessions without end (0xFFFFFFFF) or none:
# of a session that has an end and sleeps through a SIGHUP, Mosquitto 2.0 notes the end a second time, and reads freed
# memory once the client was back (session_expiry__add; 2.1 looks first).
persistence true
persistence_location {folder / _DATA}/
autosave_interval {settings.autosave_s}

# The longest frame and its topic fit in easily; whoever sends more is disconnected.
max_packet_size {settings.max_packet_bytes}
max_inflight_messages {settings.max_inflight}
# For each client: more than all edges together may have without an answer, so normal overload drops nothing.
max_queued_messages {settings.max_queued}
max_queued_bytes {settings.max_queued_bytes}
# The last resort, where messages are lost: somebody should hear of it at 60 %.
memory_limit {settings.memory_limit_bytes}
max_keepalive {settings.max_keepalive_s}
# A vital sign that the broker kept would look like one of now.
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
cafile {folder / _CLIENTS}
certfile {folder / _CERTIFICATE}
keyfile {folder / _KEY}
# Once the time of this list is over, nobody gets in (eclipse-mosquitto/mosquitto#1826).
crlfile {folder / _LIST}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
# The session belongs to the certificate; nobody can name somebody else's.
use_username_as_clientid true
"""


def access_list(
    *,
    edges: Iterable[bytes | str],
    bindings: Iterable[BindingRecord],
    revoked: Iterable[bytes | str] = (),
    services: Iterable[str] = tuple(SERVICES),
) -> str:
    """Who may say and hear what, as Mosquitto's access list.

    Args:
        edges: device ids.
        bindings: those whose frames may still come.
        revoked: device ids that nothing is granted to, whatever they were.
        services: keys of `SERVICES`.

    Raises:
        RegistryRefused: an id that is not one; no other character may enter a topic.
    """
    denied = {_id(one) for one in revoked}
    worn: dict[str, set[str]] = {_id(one): set() for one in edges}
    for one in bindings:
        if (edge := _id(one.edge_id)) in worn and (wearable := _id(one.wearable_id)) not in denied:
            worn[edge].add(wearable)
    sections = [
        "# Written by vitalloom, and written again: changes made here do not last.",
        "# Wearables, by the name in the certificate; the last level is the class of a frame.",
        "pattern write vl/v1/w/%u/up/+\npattern read vl/v1/w/%u/down",
        "# Revoked. Denials of a user are looked at before grants and patterns, for publishing and for delivery.",
        *(_section(name, ["deny #"]) for one in sorted(denied) for name in (one, f"{one}-a")),
        "# Services of the data centre.",
        *(_section(name, SERVICES[name]) for name in services),
        # By line, not by pattern: with a pattern every device could pass for an edge.
        "# Edges, each with the wearables that it hears; and its alarm lane, a connection of its own.",
        *(text for edge in sorted(worn.keys() - denied) for text in _edge(edge, sorted(worn[edge]))),
    ]
    return "\n\n".join(sections) + "\n"


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
        return self.folder / _CONF

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
        account = _account_named(settings.user, self.folder)
        _check_can_read(self.folder, account)
        self._make(account)
        changed = [
            self._put(_CONF, mosquitto_conf(settings).encode()),
            self._put(_CLIENTS, b"".join([authority.bundle, *(pem(one.issuing) for one in retired)])),
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
            account = _account_of(self.folder.stat())
            _check_can_read(self.folder, account)
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
                self.folder / _LIST, "is missing or damaged, so nobody can connect; the cure: vitalloom broker write"
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
            self._put(_ACL, _access_list_of(registry, at).encode()),
            self._put_list(registry, authorities, at),
            *self._put_certificate(registry, authorities[0], hosts, at, who),
        ]

    def _finish(self, changed: Iterable[str], account: "_Account") -> Written:
        # First the owner, then the signal: a Mosquitto 2.0 that cannot read its access list again permits everything.
        self._hand_over(account)
        # What it was told last is kept as a digest: whoever could not be told is told the next time.
        digest = hashlib.sha256(b"\0".join(self._read(name) for name in _READ_AGAIN)).hexdigest().encode()
        names = tuple(one for one in changed if one)
        if self._read(_TOLD) == digest:
            return Written(names, told=False, notes=())
        problem = _tell(self.folder / _PID)
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
        return self._put(_LIST, b"".join(lists))

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
        parts = self._read(_LIST).split(_END_OF_LIST)
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
            self._put(_KEY, key_pem(key)),
            self._put(_CERTIFICATE, pem(made) + pem(issuer.issuing)),
        ]

    def _certificate_is_good(self, issuer: Authority, hosts: Sequence[str], at: datetime) -> bool:
        try:
            present = self._certificate()
            present.verify_directly_issued_by(issuer.issuing)
            # Two files, and a power cut can come between them.
            fits = key_hash(load_key(self._read(_KEY)).public_key()) == pin_of(present)
        except (ValueError, TypeError, InvalidSignature, BadKeyFile):
            return False
        left = present.not_valid_after_utc - at
        return fits and set(_hosts(present)) == set(hosts) and left > timedelta(days=SERVER_DAYS / 3)

    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._read(_CERTIFICATE))

    def _make(self, account: "_Account") -> None:
        for folder in (self.folder, self.folder / _DATA):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = folder.lstat()
            except OSError as error:
                raise SiteUnusable(folder, f"cannot be made ({error.strerror})") from error
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid(), account.uid):
                raise SiteUnusable(folder, f"is not a folder of {account.name}'s: name another")
            if found.st_mode & 0o077:
                raise SiteUnusable(folder, f"will hold a key and others can reach it: chmod 700 {folder}")

    def _hand_over(self, account: "_Account") -> None:
        """Everything to the user that the broker runs as, if that is somebody else."""
        if os.geteuid() == account.uid:
            return
        for path in (self.folder, *(self.folder / name for name in (*_READ_AT_START, *_READ_AGAIN, _DATA))):
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
        services=[name for name in SERVICES if name in valid],
    )


def _edge(edge: str, wearables: Sequence[str]) -> tuple[str, str]:
    rules = [f"write vl/v1/e/{edge}/up/1", f"write vl/v1/e/{edge}/up/3", f"read vl/v1/e/{edge}/down"]
    for one in wearables:
        rules += [f"read vl/v1/w/{one}/up/+", f"write vl/v1/w/{one}/down"]
    alarms = [f"write vl/v1/e/{edge}/up/2", f"read vl/v1/e/{edge}/down-a"]
    return _section(edge, rules), _section(f"{edge}-a", alarms)


def _section(user: str, rules: Iterable[str]) -> str:
    return "\n".join([f"user {user}", *(f"topic {one}" for one in rules)])


def _id(one: bytes | str) -> str:
    text = one.hex() if isinstance(one, bytes) else one
    if not is_device_id(text):
        raise RegistryRefused(f"{text[:64]!r} is not a device id: 32 lower-case hexadecimal digits")
    return text


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(one.value) for one in names)


def _next_update(one: x509.CertificateRevocationList) -> datetime:
    if one.next_update_utc is None:  # ours have one
        return datetime.fromtimestamp(0, UTC)
    return one.next_update_utc


class _Account(NamedTuple):
    """Whom the broker's files belong to."""

    name: str
    uid: int
    gid: int


def _account_named(user: str, folder: Path) -> _Account:
    if user == str(os.geteuid()):  # in a container a user may have a number and no name
        return _Account(user, os.geteuid(), os.getegid())
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise SiteUnusable(
            folder, f"is for a broker that runs as {user!r}, and there is no such user on this machine"
        ) from None
    return _Account(found.pw_name, found.pw_uid, found.pw_gid)


def _account_of(found: os.stat_result) -> _Account:
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return _Account(name, found.st_uid, found.st_gid)


def _check_can_read(folder: Path, account: _Account) -> None:
    """A broker that begins as root reads everything once; as the user that it becomes it has to read it again."""
    if os.geteuid() not in (0, account.uid):
        raise SiteUnusable(folder, f"the broker runs as {account.name}: run this as root or as {account.name}")
    if account.uid in (0, os.geteuid()):
        return
    groups = os.getgrouplist(account.name, account.gid)
    for parent in folder.resolve().parents:
        if not parent.exists():
            continue
        found = parent.stat()
        if found.st_uid == account.uid:
            may_enter = found.st_mode & stat.S_IXUSR
        elif found.st_gid in groups:
            may_enter = found.st_mode & stat.S_IXGRP
        else:
            may_enter = found.st_mode & stat.S_IXOTH
        if not may_enter:
            raise SiteUnusable(
                folder,
                f"the broker runs as {account.name}, who may not enter {parent}: name another folder, for "
                "instance vitalloom broker write --folder /etc/mosquitto/vitalloom",
            )


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
