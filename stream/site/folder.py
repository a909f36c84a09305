"""The folder of a site: its authority, its control keys, its registry, the identity of its ingest service.

The root key may be kept on another machine or in a safe. Everything in the folder belongs to one user, and other users
cannot read it.
"""

import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from runtime.clock import Clock
from runtime.errors import NotPrivate
from runtime.hardening import check_private, make_private_dir, read_private, write_private
from stream.errors import SiteUnusable
from stream.site.enrolment import Enrolment, EnrolmentPolicy
from stream.site.registry import Registry
from wire.enrol.authority import Authority, Ca, key_pem, load_key, moment, new_tls_key, pem
from wire.enrol.identity_file import NewKeys
from wire.enrol.requests import AnnouncedBroker, Offered
from wire.enrol.wallet import Wallet
from wire.errors import BadKeyFile

CONTROL_KEYS: Final = 2  # one signs; devices know the next one already
SERVER_DAYS: Final = 90
SERVICES: Final = ("monitor",)

_FOLLOWED: Final = ("site.json", "ca/issuing.crt", "ca/issuing.key", "control/keys")
_RESTORE: Final = "restore it from a backup of the site"
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class SiteFacts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Name and addresses of a site; `site.json`."""

    name: str
    tenant_id: str
    registry_host: str
    registry_port: int
    broker_host: str
    broker_port: int
    broker_folder: str = ""  # absolute; empty: within the site
    time_zone: str = ""  # IANA name, in which times are shown to people; empty: UTC

    @property
    def url(self) -> str:
        """URL of the registry, for devices."""
        host = f"[{self.registry_host}]" if ":" in self.registry_host else self.registry_host
        return f"https://{host}:{self.registry_port}"


class Signers(NamedTuple):
    """The keys that a site signs with."""

    authority: Authority  # certificates
    control: tuple[Ed25519PrivateKey, ...]  # documents; the first signs, devices know all


class Site:
    """An opened site folder.

    Args:
        clock, wall: see `Registry`.
        policy: see `Enrolment`.
    """

    def __init__(
        self,
        folder: Path,
        facts: SiteFacts,
        signers: Signers | None,
        *,
        clock: Clock,
        wall: Clock | None = None,
        policy: EnrolmentPolicy | None = None,
    ) -> None:
        self.folder = folder
        self.facts = facts
        self.signers = signers
        self._clock = clock
        self._wall = wall or clock
        self._stamps = self._look()
        self.registry = Registry(
            folder / "registry.sqlite",
            control=None if signers is None else signers.control,
            tenant_id=bytes.fromhex(facts.tenant_id),
            clock=clock,
            wall=wall,
            bad_tokens=(policy or EnrolmentPolicy()).bad_tokens,
            time_zone=facts.time_zone,
        )
        self._enrolment: Enrolment | None = None
        if signers is not None:
            self._enrolment = Enrolment(
                self.registry,
                signers.authority,
                clock=clock,
                wall=wall,
                broker=AnnouncedBroker(host=facts.broker_host, port=facts.broker_port),
                policy=policy,
            )

    @classmethod
    def create(
        cls,
        folder: Path,
        facts: SiteFacts,
        *,
        clock: Clock,
        wall: Clock | None = None,
        policy: EnrolmentPolicy | None = None,
        passphrase: str = "",
        who: str,
        ingest_id: bytes | None = None,
    ) -> Self:
        """A new site: authority, control keys, registry, and the identity of its ingest service.

        Args:
            passphrase: encrypts the root key's file; empty: not encrypted.
            who: user name for the audit log.

        Raises:
            SiteUnusable: the folder holds a site already, or a certificate cannot hold the name.
        """
        if (folder / "site.json").exists():
            raise SiteUnusable(folder, "holds a site already; name an empty folder")
        if not 0 < len(facts.name) <= 40 or not facts.name.isprintable():
            raise SiteUnusable(folder, "a site's name has 1 to 40 printable characters")
        _check_hosts(folder, (facts.registry_host, facts.broker_host))
        at = moment((wall or clock).now_ms())
        make_private_dir(folder)
        for name in ("ca", "control", "registry", "services"):
            make_private_dir(folder / name)
        authority, root = Authority.begin(facts.name, at=at)
        write_private(folder / "ca" / "root.crt", pem(root.certificate))
        write_private(folder / "ca" / "root.key", key_pem(root.key, passphrase=passphrase))
        _write_issuing(folder, Ca(authority.issuing, authority.issuing_key))
        control = tuple(Ed25519PrivateKey.generate() for _ in range(CONTROL_KEYS))
        _write_control(folder, control)
        _write_facts(folder, facts)
        site = cls(folder, facts, Signers(authority, control), clock=clock, wall=wall, policy=policy)
        site.registry.publish_all(who=who)
        site.issue_registry_certificate(who=who)
        for name in SERVICES:
            site.issue_service(name, who=who)
        site._create_ingest_identity(ingest_id or os.urandom(16), who=who)
        return site

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        wall: Clock | None = None,
        policy: EnrolmentPolicy | None = None,
        to_read: bool = False,
    ) -> Self:
        """A site that was created before.

        Args:
            to_read: without its signing keys, so that nothing can be changed.

        Raises:
            SiteUnusable: no site here, a part is missing, or other users can read it.
        """
        facts_file = folder / "site.json"
        if not facts_file.exists():
            raise SiteUnusable(folder, f"no site here; create one: vitalloom pki init --site {folder}")
        try:
            check_private(folder)
        except NotPrivate as error:
            raise SiteUnusable(folder, str(error)) from error
        facts, signers = _read(folder, to_read=to_read)
        return cls(folder, facts, signers, clock=clock, wall=wall, policy=policy)

    def close(self) -> None:
        self.registry.close()

    def follow_files(self) -> bool:
        """Use keys, certificates and addresses that a command has written since; whether there were any.

        Raises:
            SiteUnusable: they cannot be used, and those before stay in use. Call again: two files change one by one.
        """
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self.facts, signers = _read(self.folder, to_read=self.signers is None)
        if signers is not None:
            self._sign_with(signers)
        self._stamps = stamps
        return True

    @property
    def authority(self) -> Authority:
        """Raises SiteUnusable if the site was opened to read."""
        if self.signers is None:
            raise SiteUnusable(self.folder, "is opened to read; this needs the signing keys")
        return self.signers.authority

    @property
    def enrolment(self) -> Enrolment:
        """Raises SiteUnusable if the site was opened to read."""
        if self._enrolment is None:
            raise SiteUnusable(self.folder, "is opened to read; this needs the signing keys")
        return self._enrolment

    @property
    def retired(self) -> tuple[Authority, ...]:
        """Authorities with earlier issuing keys, while certificates issued with them may be in use."""
        found = [_authority(self.folder, path.stem) for path in sorted((self.folder / "ca").glob("retired-*.key"))]
        return tuple(one for one in found if one.issuing.not_valid_after_utc > self._at())

    # Files

    @property
    def root_file(self) -> Path:
        return self.folder / "ca" / "root.crt"

    @property
    def bundle_file(self) -> Path:
        """Issuing certificate and root, for servers that check clients."""
        return self.folder / "ca" / "clients.crt"

    @property
    def registry_tls(self) -> Path:
        """The registry server's certificate, with its key."""
        return self.folder / "registry" / "tls.pem"

    @property
    def broker_folder(self) -> Path:
        """Folder of the broker's files; absolute, as Mosquitto needs it."""
        return Path(self.facts.broker_folder or self.folder / "broker").resolve()

    @property
    def ingest_folder(self) -> Path:
        return self.folder / "ingest"

    def server_certificate(self) -> bytes:
        """The registry server's certificate, DER, which proofs of possession are bound to."""
        certificate = x509.load_pem_x509_certificate(read_private(self.registry_tls))
        return certificate.public_bytes(Encoding.DER)

    # Certificates and keys

    @property
    def is_registry_named(self) -> bool:
        """Whether the registry's certificate names the host that devices use."""
        return self.facts.registry_host in self._registry_hosts()

    def issue_registry_certificate(self, *, who: str, hosts: Sequence[str] | None = None) -> None:
        """Issue a server certificate for the registry, valid for three months.

        Args:
            hosts: additional names; None: those of its present certificate.

        Raises:
            SiteUnusable: a name is not a host name or address.
        """
        further = self._registry_hosts() if hosts is None else hosts
        names = tuple(dict.fromkeys([self.facts.registry_host, *further]))
        _check_hosts(self.folder, names)
        key = new_tls_key()
        made = self.authority.server(key.public_key(), hosts=names, at=self._at(), days=SERVER_DAYS)
        write_private(self.registry_tls, pem(made) + pem(self.authority.issuing) + key_pem(key))
        self.registry.certificates.record_issued(made, name="registry", who=who)

    def issue_service(self, name: str, *, who: str) -> Path:
        """Issue a client certificate for a service that connects to the broker; returns the file with its key."""
        key = new_tls_key()
        made = self.authority.device(
            key.public_key(),
            common_name=name,
            tenant=self.registry.tenant_id,
            at=self._at(),
            days=SERVER_DAYS,
        )
        path = self.folder / "services" / f"{name}.pem"
        write_private(path, pem(made) + pem(self.authority.issuing) + key_pem(key))
        self.registry.certificates.record_issued(made, name=name, who=who)
        return path

    @property
    def can_renew_issuing(self) -> bool:
        """Whether the root key is in the folder and not encrypted, so that a process can renew the issuing key."""
        return (self.folder / "ca" / "root.key").exists() and not self.root_asks_for_passphrase

    @property
    def root_asks_for_passphrase(self) -> bool:
        """Whether the root key is in the folder and encrypted."""
        try:
            return b"ENCRYPTED" in read_private(self.folder / "ca" / "root.key")
        except FileNotFoundError:
            return False

    def renew_issuing(self, *, passphrase: str, who: str) -> None:
        """A new issuing key under the root. The broker's files follow with the next upkeep.

        Raises:
            SiteUnusable: the root key is missing, or the passphrase is wrong.
        """
        root_key = self.folder / "ca" / "root.key"
        try:
            root = _pair(self.authority.root, load_key(read_private(root_key), passphrase=passphrase))
        except OSError as error:
            raise SiteUnusable(root_key, "is missing; bring the root key back from its safe for this") from error
        except BadKeyFile as error:
            raise SiteUnusable(root_key, str(error)) from error
        issuing = Authority.issuing_from(root, self.facts.name, at=self._at())
        _retire_issuing(self.folder)
        _write_issuing(self.folder, issuing)
        self._sign_with(Signers(Authority(root=root.certificate, issuing=issuing), self._control))
        self.issue_registry_certificate(who=who)

    def renew_control(self, *, who: str) -> None:
        """Sign with the next control key from now on, and announce the one after it."""
        control = (*self._control[1:], Ed25519PrivateKey.generate())
        # Devices learn the new pair from a document signed with a key that they know.
        _write_control(self.folder, control)
        self._sign_with(Signers(self.authority, control))
        self.registry.publish_all(who=who)

    def set_broker_folder(self, folder: Path) -> None:
        """Keep the broker's files in this folder from now on, for a broker that runs as another user."""
        self.facts = msgspec.structs.replace(self.facts, broker_folder=str(folder.resolve()))
        _write_facts(self.folder, self.facts)

    # Private

    @property
    def _control(self) -> tuple[Ed25519PrivateKey, ...]:
        if self.signers is None:
            raise SiteUnusable(self.folder, "is opened to read; this needs the signing keys")
        return self.signers.control

    def _sign_with(self, signers: Signers) -> None:
        self.signers = signers
        self.registry.documents.sign_with(signers.control)
        broker = AnnouncedBroker(host=self.facts.broker_host, port=self.facts.broker_port)
        self.enrolment.issue_with(signers.authority, broker=broker)

    def _create_ingest_identity(self, device_id: bytes, *, who: str) -> None:
        keys = NewKeys.make(os.urandom(8))
        given = Offered(
            keys.request(device_id),
            keys.signing.public_key(),
            keys.prekey_id,
            keys.prekey.public_key().public_bytes_raw(),
        )
        reply = self.enrolment.vouch_for(device_id, "ingest", given, who=who)
        Wallet.begin(self.ingest_folder, reply, keys, registry=self.facts.url, pin=self.authority.pin)

    def _registry_hosts(self) -> list[str]:
        try:
            certificate = x509.load_pem_x509_certificate(read_private(self.registry_tls))
        except (FileNotFoundError, ValueError):  # ValueError: damaged; the new one has the name that devices use
            return []
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(one.value) for one in names]

    def _at(self) -> datetime:
        return moment(self.wall_ms)

    @property
    def wall_ms(self) -> int:
        """The time that certificates are checked against."""
        return self._wall.now_ms()

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(self.folder / name) for name in _FOLLOWED)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _read(folder: Path, *, to_read: bool) -> tuple[SiteFacts, Signers | None]:
    """Name, addresses and keys of a site. Raises SiteUnusable."""
    try:
        facts = msgspec.json.decode(read_private(folder / "site.json"), type=SiteFacts)
        if len(bytes.fromhex(facts.tenant_id)) != 16:
            raise ValueError("tenant_id has 32 hexadecimal digits")
        signers = None if to_read else Signers(_authority(folder), _control(folder))
        # Opening a registry that is missing would create an empty one, without devices.
        check_private(folder / "registry.sqlite")
    except NotPrivate as error:
        raise SiteUnusable(folder, str(error)) from error
    except OSError as error:
        raise SiteUnusable(folder, f"{error.filename} cannot be read ({error.strerror}); {_RESTORE}") from error
    except (BadKeyFile, msgspec.DecodeError, ValueError) as error:
        raise SiteUnusable(folder, f"a part of it is damaged ({error}); {_RESTORE}") from error
    return facts, signers


def _write_facts(folder: Path, facts: SiteFacts) -> None:
    write_private(folder / "site.json", msgspec.json.format(msgspec.json.encode(facts), indent=1))


def _check_hosts(folder: Path, hosts: Iterable[str]) -> None:
    for one in hosts:
        if not _HOST.fullmatch(one):
            raise SiteUnusable(
                folder, f"{one[:80]!r} is not a host: give a host name (xn--... for other letters) or an address"
            )


def _write_issuing(folder: Path, issuing: Ca) -> None:
    ca = folder / "ca"
    write_private(ca / "issuing.key", key_pem(issuing.key))
    write_private(ca / "issuing.crt", pem(issuing.certificate))
    certificates = [*sorted(ca.glob("retired-*.crt")), ca / "root.crt"]
    bundle = pem(issuing.certificate) + b"".join(read_private(one) for one in certificates)
    write_private(ca / "clients.crt", bundle)


def _retire_issuing(folder: Path) -> None:
    ca = folder / "ca"
    number = len(list(ca.glob("retired-*.key"))) + 1
    for ending in ("crt", "key"):
        write_private(ca / f"retired-{number}.{ending}", read_private(ca / f"issuing.{ending}"))


def _authority(folder: Path, name: str = "issuing") -> Authority:
    ca, load = folder / "ca", x509.load_pem_x509_certificate
    key = ca / f"{name}.key"
    try:
        issuing = _pair(load(read_private(ca / f"{name}.crt")), load_key(read_private(key)))
    except BadKeyFile as error:
        raise BadKeyFile(f"{key}: {error}") from error
    return Authority(root=load(read_private(ca / "root.crt")), issuing=issuing)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Ca:
    """Check that two files belong together, as a power cut can come between writing them."""
    if key.public_key() != certificate.public_key():
        raise BadKeyFile("is not the key of the certificate beside it")
    return Ca(certificate, key)


def _write_control(folder: Path, keys: Sequence[Ed25519PrivateKey]) -> None:
    text = "\n".join(one.private_bytes_raw().hex() for one in keys) + "\n"
    write_private(folder / "control" / "keys", text.encode())


def _control(folder: Path) -> tuple[Ed25519PrivateKey, ...]:
    path = folder / "control" / "keys"
    lines = read_private(path).split()
    if len(lines) < CONTROL_KEYS or any(len(one) != 64 for one in lines):
        raise BadKeyFile(f"{path}: does not hold {CONTROL_KEYS} control keys")
    return tuple(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(one.decode("ascii", "replace"))) for one in lines)
