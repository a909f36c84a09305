"""Who is who: device identities, what is known of others, and identities made on the fly for a demonstration.

A process is handed one `Provision`: its own identity, the senders it may hear, the bindings of devices to patients, and
whom it writes to. Enrolment with certificates will fill it; until then `demo_site` does, for one ward on loopback.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wire.errors import BadProvision
from wire.sessions import Recipient

Role = Literal["wearable", "edge", "ingest"]

LATE_MS: Final = 14 * 86_400_000
"""For so long after a binding has ended are frames of its sessions accepted, and filed under it."""


class DeviceIdentity:
    """A device with its private keys."""

    def __init__(
        self,
        *,
        device_id: bytes,
        tenant_id: bytes,
        role: Role,
        signing_key: Ed25519PrivateKey,
        credential_serial: bytes,
        prekeys: Mapping[bytes, X25519PrivateKey],
        not_before_ms: int,
        not_after_ms: int,
    ) -> None:
        self.device_id = device_id
        self.tenant_id = tenant_id
        self.role = role
        self.signing_key = signing_key
        self.credential_serial = credential_serial
        self.prekeys = dict(prekeys)  # by id, the newest last
        self.not_before_ms = not_before_ms
        self.not_after_ms = not_after_ms

    def record(self) -> "SenderRecord":
        """What others may know of this device."""
        return SenderRecord(
            device_id=self.device_id,
            role=self.role,
            public_key=self.signing_key.public_key(),
            credential_serial=self.credential_serial,
            not_before_ms=self.not_before_ms,
            not_after_ms=self.not_after_ms,
        )

    def recipient(self) -> Recipient:
        """Where sessions to this device are sealed to: its newest prekey."""
        prekey_id, prekey = next(reversed(self.prekeys.items()))
        return Recipient(self.device_id, prekey_id, prekey.public_key())


class SenderRecord:
    """What a receiver knows of a device that may send to it."""

    def __init__(
        self,
        *,
        device_id: bytes,
        role: Role,
        public_key: Ed25519PublicKey,
        credential_serial: bytes,
        not_before_ms: int,
        not_after_ms: int,
        revoked: bool = False,
    ) -> None:
        self.device_id = device_id
        self.role = role
        self.public_key = public_key
        self.credential_serial = credential_serial
        self.not_before_ms = not_before_ms
        self.not_after_ms = not_after_ms
        self.revoked = revoked


class BindingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """This device on this patient, from then to then. The patient is a pseudonym."""

    binding_id: bytes
    patient: str
    bed: str
    wearable_id: bytes
    edge_id: bytes
    valid_from_ms: int
    valid_to_ms: int | None = None
    spo2_scale: int = 1

    def admits(self, sender: bytes, *, began_ms: int, now_ms: int) -> bool:
        """Whether a session that `sender` began at `began_ms` by its own clock belongs to this binding.

        A clock that is before the binding or in the future says nothing; then the session began now.
        """
        if sender not in (self.wearable_id, self.edge_id):
            return False
        if not self.valid_from_ms <= began_ms <= now_ms:
            began_ms = now_ms
        if self.valid_to_ms is None:
            return began_ms >= self.valid_from_ms
        return self.valid_from_ms <= began_ms <= self.valid_to_ms and now_ms <= self.valid_to_ms + LATE_MS


class Directory(Protocol):
    """Where a receiver looks up senders and bindings."""

    def sender(self, device_id: bytes) -> SenderRecord | None: ...
    def binding(self, binding_id: bytes) -> BindingRecord | None: ...


class InMemoryDirectory:
    """A directory that is a pair of tables."""

    def __init__(self, senders: Iterable[SenderRecord], bindings: Iterable[BindingRecord]) -> None:
        self._senders = {record.device_id: record for record in senders}
        self._bindings = {record.binding_id: record for record in bindings}

    def sender(self, device_id: bytes) -> SenderRecord | None:
        return self._senders.get(device_id)

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        return self._bindings.get(binding_id)

    def bindings(self) -> tuple[BindingRecord, ...]:
        return tuple(self._bindings.values())

    def put(self, record: BindingRecord) -> None:
        """Add a binding, or replace it by its later state."""
        self._bindings[record.binding_id] = record

    def revoke(self, device_id: bytes) -> None:
        """From now on nothing of this device is believed."""
        self._senders[device_id].revoked = True


class Provision:
    """All that one process is given to know."""

    def __init__(
        self,
        *,
        me: DeviceIdentity,
        directory: InMemoryDirectory,
        recipient: Recipient | None,
        recipient_key: Ed25519PublicKey | None,
    ) -> None:
        self.me = me
        self.directory = directory
        self.recipient = recipient  # where this process seals to
        self.recipient_key = recipient_key  # what the recipient signs its acknowledgements with

    def save(self, path: Path) -> None:
        """Write to a file that only its owner can read."""
        packed = msgspec.json.format(msgspec.json.encode(self._facts()), indent=1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # a file that was there keeps its own permissions otherwise
            file.write(packed)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BadProvision: no such file, others can read it, or it is not a provision.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise BadProvision(f"{path}: holds private keys and others can read it; the cure: chmod 600 {path}")
            facts = msgspec.json.decode(path.read_bytes(), type=_Facts)
            return cls._from_facts(facts)
        except OSError as error:
            raise BadProvision(f"{path}: cannot be read ({error.strerror}); has this device been enrolled?") from error
        except (msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
            raise BadProvision(f"{path}: is not an identity file ({error})") from error

    def _facts(self) -> "_Facts":
        me = self.me
        return _Facts(
            device_id=me.device_id.hex(),
            tenant_id=me.tenant_id.hex(),
            role=me.role,
            signing_key=me.signing_key.private_bytes_raw().hex(),
            credential_serial=me.credential_serial.hex(),
            prekeys={key.hex(): prekey.private_bytes_raw().hex() for key, prekey in me.prekeys.items()},
            not_before_ms=me.not_before_ms,
            not_after_ms=me.not_after_ms,
            senders=[
                {
                    "device_id": one.device_id.hex(),
                    "role": one.role,
                    "public_key": one.public_key.public_bytes_raw().hex(),
                    "credential_serial": one.credential_serial.hex(),
                    "not_before_ms": one.not_before_ms,
                    "not_after_ms": one.not_after_ms,
                    "revoked": one.revoked,
                }
                for one in self.directory._senders.values()
            ],
            bindings=list(self.directory.bindings()),
            recipient=None
            if self.recipient is None or self.recipient_key is None
            else {
                "device_id": self.recipient.device_id.hex(),
                "prekey_id": self.recipient.prekey_id.hex(),
                "prekey": self.recipient.prekey.public_bytes_raw().hex(),
                "signing_key": self.recipient_key.public_bytes_raw().hex(),
            },
        )

    @classmethod
    def _from_facts(cls, facts: "_Facts") -> Self:
        un = bytes.fromhex
        senders = [
            SenderRecord(
                device_id=un(one["device_id"]),
                role=one["role"],
                public_key=Ed25519PublicKey.from_public_bytes(un(one["public_key"])),
                credential_serial=un(one["credential_serial"]),
                not_before_ms=one["not_before_ms"],
                not_after_ms=one["not_after_ms"],
                revoked=one["revoked"],
            )
            for one in facts.senders
        ]
        to = facts.recipient
        return cls(
            me=DeviceIdentity(
                device_id=un(facts.device_id),
                tenant_id=un(facts.tenant_id),
                role=facts.role,
                signing_key=Ed25519PrivateKey.from_private_bytes(un(facts.signing_key)),
                credential_serial=un(facts.credential_serial),
                prekeys={un(k): X25519PrivateKey.from_private_bytes(un(v)) for k, v in facts.prekeys.items()},
                not_before_ms=facts.not_before_ms,
                not_after_ms=facts.not_after_ms,
            ),
            directory=InMemoryDirectory(senders, facts.bindings),
            recipient=None
            if to is None
            else Recipient(
                un(to["device_id"]), un(to["prekey_id"]), X25519PublicKey.from_public_bytes(un(to["prekey"]))
            ),
            recipient_key=None if to is None else Ed25519PublicKey.from_public_bytes(un(to["signing_key"])),
        )


class _Facts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    device_id: str
    tenant_id: str
    role: Role
    signing_key: str
    credential_serial: str
    prekeys: dict[str, str]
    not_before_ms: int
    not_after_ms: int
    senders: list[dict[str, Any]]
    bindings: list[BindingRecord]
    recipient: dict[str, str] | None


class DemoSite:
    """A made-up site: one ingest, some edges, some wearables, each on a patient of its own."""

    def __init__(self, *, ingest: Provision, edges: tuple[Provision, ...], wearables: tuple[Provision, ...]) -> None:
        self.ingest = ingest
        self.edges = edges
        self.wearables = wearables

    @property
    def bindings(self) -> tuple[BindingRecord, ...]:
        """One a wearable, in the order of `wearables`."""
        return self.ingest.directory.bindings()


_YEAR_MS: Final = 365 * 86_400_000


def demo_site(*, wearables: int, edges: int, now_ms: int, name: str = "demo") -> DemoSite:
    """Identities for a demonstration. Ids follow from `name`, so that runs can be compared; keys are random.

    Wearables are shared out to the edges in turn. Every binding is open from a day before `now_ms` on.
    """
    tenant = _id(name, "tenant", 0)

    def identity(role: Role, index: int) -> DeviceIdentity:
        return DeviceIdentity(
            device_id=_id(name, role, index),
            tenant_id=tenant,
            role=role,
            signing_key=Ed25519PrivateKey.generate(),
            credential_serial=os.urandom(8),
            prekeys={os.urandom(8): X25519PrivateKey.generate()},
            not_before_ms=now_ms - _YEAR_MS,
            not_after_ms=now_ms + _YEAR_MS,
        )

    cloud = identity("ingest", 0)
    edge_identities = [identity("edge", index) for index in range(edges)]
    wearable_identities = [identity("wearable", index) for index in range(wearables)]
    bindings = [
        BindingRecord(
            binding_id=_id(name, "binding", index),
            patient=f"P{index + 1:04d}",
            bed=f"{index + 1}",
            wearable_id=one.device_id,
            edge_id=edge_identities[index % edges].device_id,
            valid_from_ms=now_ms - 86_400_000,
        )
        for index, one in enumerate(wearable_identities)
    ]
    cloud_key = cloud.signing_key.public_key()
    provisions = []
    for index, edge in enumerate(edge_identities):
        own = slice(index, None, edges)
        directory = InMemoryDirectory([one.record() for one in wearable_identities[own]], bindings[own])
        provisions.append(Provision(me=edge, directory=directory, recipient=cloud.recipient(), recipient_key=cloud_key))
    return DemoSite(
        ingest=Provision(
            me=cloud,
            directory=InMemoryDirectory([one.record() for one in edge_identities], bindings),
            recipient=None,
            recipient_key=None,
        ),
        edges=tuple(provisions),
        wearables=tuple(
            Provision(
                me=one,
                directory=InMemoryDirectory([], [bindings[index]]),
                recipient=edge_identities[index % edges].recipient(),
                recipient_key=edge_identities[index % edges].signing_key.public_key(),
            )
            for index, one in enumerate(wearable_identities)
        ),
    )


def _id(name: str, kind: str, index: int) -> bytes:
    return hashlib.sha256(f"{name}/{kind}/{index}".encode()).digest()[:16]
