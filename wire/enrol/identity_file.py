"""A device's identity as one file: its keys and its certificates, written whole or not at all."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from runtime.hardening import check_private, make_private_dir, read_private, write_private
from wire.enrol.authority import key_pem, load_key, new_tls_key, signing_request
from wire.enrol.documents import DeviceV1, control_key_id, open_document
from wire.enrol.records import role_of
from wire.enrol.requests import AnnouncedBroker, EnrolReply, un64
from wire.errors import BadKeyFile, EnrolmentFailed, Rejected
from wire.identity import DeviceIdentity, Role, TlsFiles

IDENTITY_FILE: Final = "identity.json"


class NewKeys(NamedTuple):
    """The three keys of a device, just made."""

    tls: ec.EllipticCurvePrivateKey
    signing: Ed25519PrivateKey
    prekey_id: bytes
    prekey: X25519PrivateKey

    @classmethod
    def make(cls, prekey_id: bytes) -> Self:
        return cls(new_tls_key(), Ed25519PrivateKey.generate(), prekey_id, X25519PrivateKey.generate())

    @property
    def public(self) -> tuple[bytes, bytes]:
        """Signing key and prekey, as others get to know them."""
        return self.signing.public_key().public_bytes_raw(), self.prekey.public_key().public_bytes_raw()

    def request(self, device_id: bytes) -> bytes:
        """A certificate signing request."""
        return signing_request(self.tls, common_name=device_id.hex())


_Hex8 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
_Hex16 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
_Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Prekey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id: _Hex8
    key: _Hex32
    since_ms: int


class IdentityFacts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    device_id: _Hex16
    tenant_id: _Hex16
    role: Role
    serial: _Hex8
    signing_key: _Hex32
    not_before_ms: int
    not_after_ms: int
    prekeys: Annotated[list[Prekey], msgspec.Meta(min_length=1)]  # the newest last
    tls_key: str
    certificate: str
    alarm_certificate: str | None
    root: str
    control_keys: Annotated[list[_Hex32], msgspec.Meta(min_length=1)]  # that sign now
    retired_control_keys: list[_Hex32]  # that signed documents that are kept
    registry: str
    pin: _Hex32
    broker: AnnouncedBroker


class IdentityFile:
    """Facts of one device: on disk first, then in use.

    Attributes:
        folder: where the file and what follows from it lie.
        facts: in use now.
    """

    def __init__(self, folder: Path, facts: IdentityFacts) -> None:
        self.folder = folder
        self.facts = facts
        self._stamp = self._look()

    @classmethod
    def create(cls, folder: Path, reply: EnrolReply, keys: NewKeys, *, registry: str, pin: bytes) -> Self:
        """Write what enrolment has given, over the identity that was there before.

        Raises:
            EnrolmentFailed: the answer does not fit the request.
        """
        make_private_dir(folder)
        facts = IdentityFacts(
            device_id=reply.device_id,
            tenant_id=reply.tenant_id,
            role=role_of(reply.role),
            serial=reply.serial,
            signing_key=keys.signing.private_bytes_raw().hex(),
            not_before_ms=0,
            not_after_ms=0,
            prekeys=[_prekey(keys.prekey_id, keys.prekey, reply.now_ms)],
            tls_key=key_pem(keys.tls).decode(),
            certificate=reply.certificate,
            alarm_certificate=reply.alarm_certificate,
            root=reply.root,
            control_keys=reply.control_keys,
            retired_control_keys=[],
            registry=registry,
            pin=pin.hex(),
            broker=reply.broker,
        )
        _check_answer(facts, reply)
        created = cls(folder, facts)
        for kept in (folder / "documents").glob("*.doc"):
            kept.unlink()  # of the device that this folder belonged to before; what still holds comes with the answer
        created.keep(facts)
        return created

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `create` and `keep` have written.

        Raises:
            OSError, NotPrivate: the file is missing, cannot be read, or can be read by others.
            msgspec.DecodeError, ValueError, RecursionError, BadKeyFile: it is not an identity.
        """
        check_private(folder)
        facts = msgspec.json.decode(read_private(folder / IDENTITY_FILE), type=IdentityFacts)
        _check_certificates(facts)
        return cls(folder, facts)

    def keep(self, facts: IdentityFacts) -> None:
        """Write these facts, then use them."""
        write_private(self.folder / IDENTITY_FILE, _encoded(facts))
        self.facts = facts
        self._stamp = self._look()

    def follow(self) -> bool:
        """Use the facts that another process has written; whether there were any. Raises as `load`, ValueError."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        facts = self.load(self.folder).facts
        self._stamp = stamp
        if (facts.device_id, facts.tenant_id, facts.role) != (
            self.facts.device_id,
            self.facts.tenant_id,
            self.facts.role,
        ):
            raise ValueError("it is that of another device now; start this process again")
        self.facts = facts
        return True

    def _look(self) -> tuple[int, int] | None:
        try:
            found = (self.folder / IDENTITY_FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def add_prekey(self, prekey_id: bytes, prekey: X25519PrivateKey, now_ms: int) -> None:
        """Write a prekey that is to be announced."""
        prekeys = [*self.facts.prekeys, _prekey(prekey_id, prekey, now_ms)]
        self.keep(msgspec.structs.replace(self.facts, prekeys=prekeys))

    def renew(self, reply: EnrolReply, keys: NewKeys) -> None:
        """Write what a renewal has given.

        Raises:
            EnrolmentFailed: the answer does not fit the request.
        """
        prekeys = self.facts.prekeys
        if all(one.id != keys.prekey_id.hex() for one in prekeys):
            prekeys = [*prekeys, _prekey(keys.prekey_id, keys.prekey, reply.now_ms)]
        facts = msgspec.structs.replace(
            self.facts,
            serial=reply.serial,
            signing_key=keys.signing.private_bytes_raw().hex(),
            prekeys=prekeys,
            tls_key=key_pem(keys.tls).decode(),
            certificate=reply.certificate,
            alarm_certificate=reply.alarm_certificate,
        )
        _check_answer(facts, reply)
        self.keep(facts)

    def change_control_keys(self, keys: Iterable[bytes]) -> None:
        """These keys sign from now on; the ones before stay known, for documents that are kept.

        They are in force even if the disk is full.

        Raises:
            OSError, NotPrivate: they are not on disk.
        """
        now = [one.hex() for one in keys]
        if now == self.facts.control_keys:
            return
        retired = dict.fromkeys([*self.facts.retired_control_keys, *self.facts.control_keys])
        self.facts = msgspec.structs.replace(
            self.facts, control_keys=now, retired_control_keys=[one for one in retired if one not in now]
        )
        self.keep(self.facts)


def _prekey(prekey_id: bytes, prekey: X25519PrivateKey, since_ms: int) -> Prekey:
    return Prekey(id=prekey_id.hex(), key=prekey.private_bytes_raw().hex(), since_ms=since_ms)


def _check_answer(facts: IdentityFacts, reply: EnrolReply) -> None:
    """Check that an answer can be used before it is kept. Raises EnrolmentFailed."""
    try:
        _read_validity(facts, reply)
        msgspec.json.decode(_encoded(facts), type=IdentityFacts)
        _check_certificates(facts)
    except (msgspec.DecodeError, ValueError, BadKeyFile) as error:
        raise EnrolmentFailed(f"the registry's answer cannot be used ({error})") from error


def _check_certificates(facts: IdentityFacts) -> None:
    """Raises ValueError, BadKeyFile."""
    mine = load_key(facts.tls_key.encode()).public_key()
    x509.load_pem_x509_certificate(facts.root.encode())
    for key, text in (("certificate", facts.certificate), ("alarm_certificate", facts.alarm_certificate)):
        if text is not None and x509.load_pem_x509_certificate(text.encode()).public_key() != mine:
            raise ValueError(f"its {key} is of another key")


def _read_validity(facts: IdentityFacts, reply: EnrolReply) -> None:
    """From when to when the new credential is good, out of the signed document and not out of the answer around it."""
    control = keys_by_id(facts.control_keys)
    for text in reply.documents:
        try:
            document = open_document(un64(text), control)
        except (Rejected, ValueError):
            continue
        if document.subject.hex() != facts.device_id or not isinstance(document.content, DeviceV1):
            continue
        for one in document.content.credentials:
            mine = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(facts.signing_key)).public_key()
            if one.serial.hex() == facts.serial and one.signing_key == mine.public_bytes_raw():
                facts.not_before_ms, facts.not_after_ms = one.not_before_ms, one.not_after_ms
                return
    raise EnrolmentFailed(f"the registry's answer does not vouch for the new key of device {facts.device_id}")


def identity_of(facts: IdentityFacts) -> DeviceIdentity:
    return DeviceIdentity(
        device_id=bytes.fromhex(facts.device_id),
        tenant_id=bytes.fromhex(facts.tenant_id),
        role=facts.role,
        signing_key=Ed25519PrivateKey.from_private_bytes(bytes.fromhex(facts.signing_key)),
        credential_serial=bytes.fromhex(facts.serial),
        prekeys={
            bytes.fromhex(one.id): X25519PrivateKey.from_private_bytes(bytes.fromhex(one.key)) for one in facts.prekeys
        },
        not_before_ms=facts.not_before_ms,
        not_after_ms=facts.not_after_ms,
    )


def write_tls(folder: Path, facts: IdentityFacts) -> TlsFiles:
    """TLS libraries read files. These follow from the identity, and are rewritten where they differ."""
    files = TlsFiles(
        folder / "root.crt", folder / "tls.pem", None if facts.alarm_certificate is None else folder / "tls-a.pem"
    )
    if files.alarm is None:
        (folder / "tls-a.pem").unlink(missing_ok=True)  # of the device that this folder belonged to before
    wanted = {files.root: facts.root, files.client: facts.certificate + facts.tls_key}
    if files.alarm is not None and facts.alarm_certificate is not None:
        wanted[files.alarm] = facts.alarm_certificate + facts.tls_key
    for path, text in wanted.items():
        if not path.exists() or path.read_bytes() != text.encode():
            write_private(path, text.encode(), durable=False)
    return files


def _encoded(facts: IdentityFacts) -> bytes:
    return msgspec.json.format(msgspec.json.encode(facts), indent=1)


def keys_by_id(keys: Iterable[str]) -> dict[bytes, Ed25519PublicKey]:
    made = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(one)) for one in keys]
    return {control_key_id(one): one for one in made}
