"""What an enrolled device keeps: its keys, its certificates, and the documents it has taken. One folder, its owner's.

The identity is one file, written whole or not at all. Documents lie beside it as the frames they came in; they were
checked when they were taken and are checked again when they are read.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from runtime.errors import NotPrivate
from runtime.hardening import check_private, make_private_dir, read_private, write_private
from runtime.logs import get
from wire.enrol.authority import RENEW_AFTER_DAYS, key_pem, load_key, new_tls_key, signing_request
from wire.enrol.documents import (
    EVERYBODY,
    AssignmentV1,
    BindingV1,
    Content,
    ControlKeysV1,
    DeviceV1,
    Document,
    DocumentType,
    control_key_id,
    digest_of,
    open_document,
)
from wire.enrol.requests import BrokerAddress, EnrolReply, un64
from wire.errors import BadKeyFile, EnrolmentFailed, NotEnrolled, Reason, Rejected
from wire.identity import (
    LATE_MS,
    About,
    BindingRecord,
    Credential,
    DeviceIdentity,
    InMemoryDirectory,
    Provision,
    Role,
    SenderRecord,
    TlsFiles,
)
from wire.sessions import Recipient

IDENTITY_FILE: Final = "identity.json"
PREKEY_DAYS: Final = 7
PREKEY_KEPT_DAYS: Final = 60
"""Two weeks of backlog and a wide margin; then nobody can open what was recorded, not even we."""
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

_log = get(__name__)


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


class _Prekey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id: _Hex8
    key: _Hex32
    since_ms: int


class _Facts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    device_id: _Hex16
    tenant_id: _Hex16
    role: Role
    serial: _Hex8
    signing_key: _Hex32
    not_before_ms: int
    not_after_ms: int
    prekeys: Annotated[list[_Prekey], msgspec.Meta(min_length=1)]  # the newest last
    tls_key: str
    certificate: str
    alarm_certificate: str | None
    root: str
    control_keys: Annotated[list[_Hex32], msgspec.Meta(min_length=1)]  # that sign now
    retired_control_keys: list[_Hex32]  # that signed what is kept
    registry: str
    pin: _Hex32
    broker: BrokerAddress


class Wallet:
    """One enrolled device. `provision` follows every document that is taken."""

    def __init__(self, folder: Path, facts: _Facts) -> None:
        self.folder = folder
        self._facts = facts
        self._versions: dict[tuple[int, bytes], int] = {}
        self._frames: dict[tuple[int, bytes], bytes] = {}
        self._contents: dict[tuple[int, bytes], Content] = {}
        self._devices: dict[bytes, SenderRecord] = {}
        self.me = _identity_of(facts)
        self.provision = Provision(
            me=self.me, directory=InMemoryDirectory([], []), recipient=None, tls=_write_tls(folder, facts)
        )
        self._own: DeviceV1 | None = None  # what the data centre says of this device
        self.changes = 0  # rises with whatever is taken: for whoever has to follow
        self._read_documents()

    # Beginnings

    @classmethod
    def begin(cls, folder: Path, reply: EnrolReply, keys: NewKeys, *, registry: str, pin: bytes) -> Self:
        """Keep what enrolment has given.

        Raises:
            EnrolmentFailed: the answer does not fit the request.
        """
        make_private_dir(folder)
        facts = _Facts(
            device_id=reply.device_id,
            tenant_id=reply.tenant_id,
            role=_role(reply.role),
            serial=reply.serial,
            signing_key=keys.signing.private_bytes_raw().hex(),
            not_before_ms=0,
            not_after_ms=0,
            prekeys=[
                _Prekey(id=keys.prekey_id.hex(), key=keys.prekey.private_bytes_raw().hex(), since_ms=reply.now_ms)
            ],
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
        for kept in (folder / "documents").glob("*.doc"):
            kept.unlink()  # told to whoever this device was before; what is still true comes with the answer
        write_private(folder / IDENTITY_FILE, _encoded(facts))
        wallet = cls(folder, facts)
        wallet.take_all(reply.documents)
        return wallet

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `begin` and later answers left.

        Raises:
            NotEnrolled: no identity here, or it cannot be used; others can read it.
        """
        path = folder / IDENTITY_FILE
        try:
            check_private(folder)
            facts = msgspec.json.decode(read_private(path), type=_Facts)
            _check_certificates(facts)
            return cls(folder, facts)
        except NotPrivate as error:
            raise NotEnrolled(str(error)) from error
        except FileNotFoundError as error:
            raise NotEnrolled(
                f"{folder}: no identity here; enrol this device: vitalloom enrol --dir {folder}"
            ) from error
        except OSError as error:
            raise NotEnrolled(f"{path}: cannot be read ({error.strerror})") from error
        except (msgspec.DecodeError, ValueError, RecursionError, BadKeyFile) as error:
            raise NotEnrolled(f"{path}: is not an identity ({error}); enrol this device again") from error

    # Facts

    @property
    def broker(self) -> BrokerAddress:
        return self._facts.broker

    @property
    def registry(self) -> str:
        return self._facts.registry

    @property
    def root_pem(self) -> str:
        return self._facts.root

    @property
    def tls(self) -> TlsFiles:
        assert self.provision.tls is not None  # noqa: S101 - made in __init__
        return self.provision.tls

    @property
    def is_revoked(self) -> bool:
        return self._own is not None and self._own.revoked_ms is not None

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._facts.certificate.encode())

    def expiry(self, now_ms: int) -> str | None:
        """A sentence with the cure if the credential or the certificate is over, or will be within a week."""
        # The certificate is held against the wall clock of this machine by TLS, so it is the earlier of the two.
        left_ms = self._facts.not_after_ms - now_ms
        if left_ms > PREKEY_DAYS * DAY_MS:
            return None
        span = _span(abs(left_ms))
        name = f"certificate of {self.me.role} {self.me.device_id.hex()}"
        if left_ms <= 0:
            return f"{name} expired {span} ago: run `vitalloom pki renew {self.me.device_id.hex()}`"
        return f"{name} expires in {span} and could not be renewed: is {self._facts.registry} reachable?"

    def wants_renewal(self, now_ms: int) -> bool:
        """Two thirds of its life are over."""
        lived = now_ms - self._facts.not_before_ms
        life = self._facts.not_after_ms - self._facts.not_before_ms
        return lived >= life * RENEW_AFTER_DAYS / 30

    def wants_prekey(self, now_ms: int) -> bool:
        """The newest prekey is a week old, or nobody was told of it."""
        return self.unannounced is not None or now_ms - self._facts.prekeys[-1].since_ms >= PREKEY_DAYS * DAY_MS

    @property
    def unannounced(self) -> tuple[bytes, X25519PrivateKey] | None:
        """The newest prekey, if the data centre has not vouched for it yet."""
        prekey_id = bytes.fromhex(self._facts.prekeys[-1].id)
        if self._own is not None and self._own.prekey_id == prekey_id:
            return None
        return prekey_id, self.me.prekeys[prekey_id]

    # Documents

    def take(self, frame: bytes) -> Document | None:
        """A DOC frame from wherever it came; None if it says nothing new.

        Raises:
            Rejected: it is not one of the data centre's, or not for this device.
        """
        document = open_document(frame, self._trusted(), prekeys=self.me.prekeys)
        passing_on = self.me.role == "edge" and document.type is DocumentType.ASSIGNMENT
        if document.recipient not in (EVERYBODY, self.me.device_id) and not passing_on:
            raise Rejected(Reason.RECIPIENT)
        place = (int(document.type), document.subject)
        if document.version <= self._versions.get(place, 0):
            return None
        folder = self.folder / "documents"
        path = folder / f"{place[0]}-{document.subject.hex()}.doc"
        try:
            if isinstance(document.content, ControlKeysV1):
                # Before its frame: with that alone on disk, the keys that sign next would never be told again.
                self._change_control_keys(document.content)
            make_private_dir(folder)
            # One that a power cut takes is brought again: the data centre sees by the digest that it is missing.
            write_private(path, frame, durable=False)
        except (OSError, NotPrivate) as error:
            # Nor may a full disk keep a revocation from being in force.
            _log.warning("a document could not be kept", file=path.name, problem=str(error))
        self._accept(document, frame)
        self.changes += 1
        return document

    @property
    def digest(self) -> bytes:
        """What this device has taken of what it is to know, in 8 bytes; the data centre compares it."""
        return digest_of({place: self._versions[place] for place in self._wanted()})

    def frame(self, kind: DocumentType, subject: bytes) -> bytes | None:
        """A document that was taken, to be passed on."""
        return self._frames.get((int(kind), subject))

    def device(self, device_id: bytes) -> SenderRecord | None:
        """What is known of another device."""
        return self._devices.get(device_id)

    def assignment(self, now_ms: int) -> BindingRecord | None:
        """The patient that a wearable is on now."""
        open_ones = [
            one
            for one in self.provision.directory.bindings()
            if one.valid_from_ms <= now_ms and (one.valid_to_ms is None or now_ms < one.valid_to_ms)
        ]
        return max(open_ones, key=lambda one: one.valid_from_ms, default=None)

    def forget_old(self, now_ms: int) -> None:
        """Bindings that ended long ago, and prekeys whose time is over."""
        for one in self.provision.directory.bindings():
            if one.valid_to_ms is not None and now_ms > one.valid_to_ms + LATE_MS:
                self.provision.directory.drop(one.binding_id)
        # Nor the one that the data centre vouches for, should it not have heard of the newest: all is sealed to that.
        vouched = "" if self._own is None else self._own.prekey_id.hex()
        newest = self._facts.prekeys[-1]
        kept = [
            one
            for one in self._facts.prekeys
            if one is newest or one.id == vouched or now_ms - one.since_ms < PREKEY_KEPT_DAYS * DAY_MS
        ]
        if len(kept) < len(self._facts.prekeys):
            self._keep(msgspec.structs.replace(self._facts, prekeys=kept))
            alive = {bytes.fromhex(one.id) for one in kept}
            for gone in self.me.prekeys.keys() - alive:
                del self.me.prekeys[gone]

    # Changes

    def add_prekey(self, prekey_id: bytes, prekey: X25519PrivateKey, *, now_ms: int) -> None:
        """A prekey that is to be announced. It is on disk before anybody hears of it."""
        new = _Prekey(id=prekey_id.hex(), key=prekey.private_bytes_raw().hex(), since_ms=now_ms)
        self._keep(msgspec.structs.replace(self._facts, prekeys=[*self._facts.prekeys, new]))
        self.me.prekeys[prekey_id] = prekey

    def renewed(self, reply: EnrolReply, keys: NewKeys) -> None:
        """The registry has answered a renewal: the new identity is on disk, then in use.

        Raises:
            EnrolmentFailed: the answer does not fit the request.
        """
        prekeys = self._facts.prekeys
        if keys.prekey_id not in self.me.prekeys:
            new = _Prekey(id=keys.prekey_id.hex(), key=keys.prekey.private_bytes_raw().hex(), since_ms=reply.now_ms)
            prekeys = [*prekeys, new]
        facts = msgspec.structs.replace(
            self._facts,
            serial=reply.serial,
            signing_key=keys.signing.private_bytes_raw().hex(),
            prekeys=prekeys,
            tls_key=key_pem(keys.tls).decode(),
            certificate=reply.certificate,
            alarm_certificate=reply.alarm_certificate,
        )
        _check_answer(facts, reply)
        self._keep(facts)
        self.me.renew(
            keys.signing, bytes.fromhex(facts.serial), not_before_ms=facts.not_before_ms,
            not_after_ms=facts.not_after_ms,
        )  # fmt: skip
        self.me.prekeys[keys.prekey_id] = keys.prekey
        self.changes += 1
        _write_tls(self.folder, facts)
        self.take_all(reply.documents)

    def take_all(self, frames: Iterable[str]) -> None:
        """Documents of an answer of the registry, base64. Raises Rejected."""
        for text in frames:
            try:
                frame = un64(text)
            except ValueError:
                raise Rejected(Reason.SCHEMA, "not base64") from None
            self.take(frame)

    def _wanted(self) -> Iterator[tuple[int, bytes]]:
        """What the registry reckons with: a binding is over two weeks after its end, and with it the device it names.

        The time is that of this device's own document, which both sides know. Of what is over the version is kept, so
        that an older state of it is not taken, whoever brings it.
        """
        mine, is_edge = self.me.device_id, self.me.role == "edge"
        after_ms = self._versions.get((int(DocumentType.DEVICE), mine), 0) - LATE_MS
        named = {mine}
        for place, content in self._contents.items():
            if isinstance(content, ControlKeysV1):
                yield place
            elif not isinstance(content, DeviceV1):
                is_over = content.valid_to_ms is not None and content.valid_to_ms <= after_ms
                if not is_over and (not is_edge or content.edge_id == mine):
                    named.add(content.wearable_id if isinstance(content, BindingV1) else content.edge_id)
                    yield place
        for place, content in self._contents.items():
            if isinstance(content, DeviceV1) and (place[1] in named or (is_edge and content.role == "ingest")):
                yield place

    def _change_control_keys(self, content: ControlKeysV1) -> None:
        now = [one.hex() for one in content.keys]
        if now == self._facts.control_keys:
            return
        retired = [*self._facts.retired_control_keys, *self._facts.control_keys]
        facts = msgspec.structs.replace(
            self._facts,
            control_keys=now,
            retired_control_keys=[one for one in dict.fromkeys(retired) if one not in now],
        )
        self._facts = facts  # in force, whatever the disk says
        self._keep(facts)

    def _keep(self, facts: _Facts) -> None:
        """On disk first, then in use."""
        write_private(self.folder / IDENTITY_FILE, _encoded(facts))
        self._facts = facts

    def _trusted(self) -> dict[bytes, Ed25519PublicKey]:
        return _keyed(self._facts.control_keys)

    def _read_documents(self) -> None:
        folder = self.folder / "documents"
        known = _keyed([*self._facts.retired_control_keys, *self._facts.control_keys])
        for path in sorted(folder.glob("*.doc")):
            frame = read_private(path)
            try:
                self._accept(open_document(frame, known, prekeys=self.me.prekeys), frame)
            except Rejected as error:
                # The data centre sees by the digest that it is missing, and sends it again.
                _log.warning("a kept document cannot be used", file=path.name, reason=error.reason.value)

    def _accept(self, document: Document, frame: bytes) -> None:
        place = (int(document.type), document.subject)
        self._versions[place] = document.version
        self._frames[place] = frame
        content = self._contents[place] = document.content
        if isinstance(content, DeviceV1):
            self._accept_device(document.subject, content)
        elif isinstance(content, BindingV1):
            self.provision.directory.put(_binding(document.subject, content))
        elif isinstance(content, AssignmentV1) and document.recipient == self.me.device_id:
            self.provision.directory.put(_assignment(self.me.device_id, content))
        self._find_recipient()

    def _accept_device(self, device_id: bytes, content: DeviceV1) -> None:
        if device_id == self.me.device_id:
            self._own = content
            return
        record = record_of(device_id, content)
        self._devices[device_id] = record
        if content.role == "wearable":
            self.provision.directory.put_sender(record)

    def _find_recipient(self) -> None:
        """An edge writes to the data centre, a wearable to the edge of its newest assignment."""
        found: SenderRecord | None = None
        if self.me.role == "edge":
            found = next((one for one in self._devices.values() if one.role == "ingest" and not one.revoked), None)
        else:
            newest = max(self.provision.directory.bindings(), key=lambda one: one.valid_from_ms, default=None)
            found = None if newest is None else self._devices.get(newest.edge_id)
        if found is not None and found.recipient is not None:
            self.provision.recipient = found.recipient
            self.provision.recipient_keys = found.keys


def record_of(device_id: bytes, content: DeviceV1) -> SenderRecord:
    """A device's document as a receiver looks at it."""
    return SenderRecord(
        device_id=device_id,
        role=_role(content.role),
        credentials=tuple(
            Credential(
                one.serial, Ed25519PublicKey.from_public_bytes(one.signing_key), one.not_before_ms, one.not_after_ms
            )
            for one in content.credentials
        ),
        revoked=content.revoked_ms is not None,
        recipient=Recipient(device_id, content.prekey_id, X25519PublicKey.from_public_bytes(content.prekey))
        if content.prekey
        else None,
    )


def _binding(binding_id: bytes, content: BindingV1) -> BindingRecord:
    return BindingRecord(
        binding_id=binding_id,
        patient=content.patient,
        bed=content.bed,
        wearable_id=content.wearable_id,
        edge_id=content.edge_id,
        valid_from_ms=content.valid_from_ms,
        valid_to_ms=content.valid_to_ms,
        spo2_scale=content.spo2_scale,
        about=About(age_years=content.age_years, is_male=content.is_male, chest_pain=content.chest_pain),
    )


def _assignment(wearable_id: bytes, content: AssignmentV1) -> BindingRecord:
    return BindingRecord(
        binding_id=content.binding_id,
        patient="",
        bed="",
        wearable_id=wearable_id,
        edge_id=content.edge_id,
        valid_from_ms=content.valid_from_ms,
        valid_to_ms=content.valid_to_ms,
    )


def _check_answer(facts: _Facts, reply: EnrolReply) -> None:
    """What is about to be kept can be used. Raises EnrolmentFailed."""
    try:
        _take_validity(facts, reply)
        msgspec.json.decode(_encoded(facts), type=_Facts)
        _check_certificates(facts)
    except (msgspec.DecodeError, ValueError, BadKeyFile) as error:
        raise EnrolmentFailed(f"the registry's answer cannot be used ({error})") from error


def _check_certificates(facts: _Facts) -> None:
    """Raises ValueError, BadKeyFile."""
    mine = load_key(facts.tls_key.encode()).public_key()
    x509.load_pem_x509_certificate(facts.root.encode())
    for key, text in (("certificate", facts.certificate), ("alarm_certificate", facts.alarm_certificate)):
        if text is not None and x509.load_pem_x509_certificate(text.encode()).public_key() != mine:
            raise ValueError(f"its {key} is of another key")


def _take_validity(facts: _Facts, reply: EnrolReply) -> None:
    """From when to when the new credential is good, out of the signed document and not out of the answer around it."""
    control = _keyed(facts.control_keys)
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


def _identity_of(facts: _Facts) -> DeviceIdentity:
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


def _write_tls(folder: Path, facts: _Facts) -> TlsFiles:
    """TLS libraries read files. These follow from the identity, and are made anew where they do not."""
    files = TlsFiles(
        folder / "root.crt", folder / "tls.pem", None if facts.alarm_certificate is None else folder / "tls-a.pem"
    )
    if files.alarm is None:
        (folder / "tls-a.pem").unlink(missing_ok=True)  # of whoever this device was before
    wanted = {files.root: facts.root, files.client: facts.certificate + facts.tls_key}
    if files.alarm is not None and facts.alarm_certificate is not None:
        wanted[files.alarm] = facts.alarm_certificate + facts.tls_key
    for path, text in wanted.items():
        if not path.exists() or path.read_bytes() != text.encode():
            write_private(path, text.encode(), durable=False)
    return files


def _encoded(facts: _Facts) -> bytes:
    return msgspec.json.format(msgspec.json.encode(facts), indent=1)


def _keyed(keys: Iterable[str]) -> dict[bytes, Ed25519PublicKey]:
    made = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(one)) for one in keys]
    return {control_key_id(one): one for one in made}


def _span(ms: int) -> str:
    count, unit = (ms // DAY_MS, "day") if ms >= DAY_MS else (ms // HOUR_MS, "hour")
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _role(text: str) -> Role:
    roles: dict[str, Any] = {"wearable": "wearable", "edge": "edge", "ingest": "ingest"}
    if text not in roles:
        raise EnrolmentFailed(f"the registry speaks of a role that is not known here: {text[:20]!r}")
    role: Role = roles[text]
    return role
