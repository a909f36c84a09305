"""Identities: of this device, of the senders that it knows, and the bindings of devices to patients.

A process is handed one `Provision`: its own identity, the senders it may hear, the bindings of devices to patients, and
the recipient that it writes to. `wire.enrol.wallet` fills it from what enrolment left on disk, the data centre from its
registry.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wire.sessions import Recipient

Role = Literal["wearable", "edge", "ingest"]

MOST_YEARS: Final = 130
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

    def renew(
        self, signing_key: Ed25519PrivateKey, credential_serial: bytes, *, not_before_ms: int, not_after_ms: int
    ) -> None:
        """From now on this device signs with another key."""
        self.signing_key = signing_key
        self.credential_serial = credential_serial
        self.not_before_ms = not_before_ms
        self.not_after_ms = not_after_ms

    def record(self) -> "SenderRecord":
        """What others may know of this device."""
        credential = Credential(
            self.credential_serial, self.signing_key.public_key(), self.not_before_ms, self.not_after_ms
        )
        return SenderRecord(device_id=self.device_id, role=self.role, credentials=(credential,))

    def recipient(self) -> Recipient:
        """Where sessions to this device are sealed to: its newest prekey."""
        prekey_id, prekey = next(reversed(self.prekeys.items()))
        return Recipient(self.device_id, prekey_id, prekey.public_key())


class Credential(NamedTuple):
    """What a device signs with, and from when to when."""

    serial: bytes
    key: Ed25519PublicKey
    not_before_ms: int
    not_after_ms: int

    def is_valid(self, now_ms: int) -> bool:
        return self.not_before_ms <= now_ms <= self.not_after_ms


class SenderRecord:
    """What a receiver knows of a device that may send to it."""

    def __init__(
        self,
        *,
        device_id: bytes,
        role: Role,
        credentials: tuple[Credential, ...],
        revoked: bool = False,
        recipient: Recipient | None = None,
    ) -> None:
        self.device_id = device_id
        self.role = role
        self.credentials = credentials  # the newest last
        self.revoked = revoked
        self.recipient = recipient  # where sessions to it are sealed to

    def credential(self, serial: bytes) -> Credential | None:
        return next((one for one in self.credentials if one.serial == serial), None)

    @property
    def keys(self) -> tuple[Ed25519PublicKey, ...]:
        """Every key that it may sign with, the newest first."""
        return tuple(one.key for one in reversed(self.credentials))


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a patient that decide which scores apply, and that models need. None: unknown, and never guessed."""

    age_years: float | None = None
    is_male: bool | None = None
    chest_pain: int | None = None  # 1 typical angina, 2 atypical, 3 not of the heart, 4 none
    is_pregnant: bool | None = None

    def problem(self) -> str:
        """What cannot be true of a patient; empty: nothing."""
        if self.age_years is not None and not 0 <= self.age_years <= MOST_YEARS:
            return f"age_years is between 0 and {MOST_YEARS}"
        if self.chest_pain is not None and self.chest_pain not in range(1, 5):
            return "chest_pain is 1 (typical angina), 2 (atypical angina), 3 (not of the heart) or 4 (none)"
        if self.is_pregnant and self.is_male:
            return "is_pregnant and is_male exclude each other"
        return ""


NOTHING: Final = About()
NO_DEVICE: Final = bytes(16)
"""In place of wearable and edge of a stay on which no device is."""


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
    about: About = NOTHING
    time_zone: str = ""  # IANA name, of the site; empty: UTC
    stay_id: bytes = b""  # the stay that this device contributes to; of the first device of a stay it is `binding_id`
    stay_goes_on: bool = False  # after the end of this binding: the device was taken off, the patient is still watched
    stay_to_ms: int | None = None  # end of the stay, if that is not `valid_to_ms`
    device_name: str = ""  # what people call the device
    devices_elsewhere: int = (
        0  # on the patient now, writing to another edge; if this has ended and its edge has others: 0
    )

    def __post_init__(self) -> None:
        if not self.stay_id:
            msgspec.structs.force_setattr(self, "stay_id", self.binding_id)

    @property
    def stay(self) -> str:
        """The stay in hex, as the kernel names it."""
        return self.stay_id.hex()

    @property
    def stay_ended_ms(self) -> int | None:
        """When the stay ended; None: it has not."""
        if self.valid_to_ms is None or self.stay_goes_on:
            return None
        return self.valid_to_ms if self.stay_to_ms is None else self.stay_to_ms

    def admits(self, sender: bytes, *, began_ms: int, now_ms: int) -> bool:
        """Whether a session that `sender` began at `began_ms` by its own clock belongs to this binding.

        A clock that is before the binding or in the future says nothing; then the session began now. An edge may begin
        a session after the end: late readings of the wearable, and the end of its alarms.
        """
        if sender not in (self.wearable_id, self.edge_id):
            return False
        if not self.valid_from_ms <= began_ms <= now_ms:
            began_ms = now_ms
        if self.valid_to_ms is None:
            return began_ms >= self.valid_from_ms
        in_time = self.valid_from_ms <= began_ms and now_ms <= self.valid_to_ms + LATE_MS
        return in_time and (sender == self.edge_id or began_ms <= self.valid_to_ms)


def is_same_bed(one: str, other: str) -> bool:
    """Whether two names of beds, as people wrote them, are of one bed. A patient without a bed is in none.

    >>> is_same_bed("ward 7/4 ", "Ward 7/4"), is_same_bed("", "")
    (True, False)
    """
    return _bed_key(one) != "" and _bed_key(one) == _bed_key(other)


def in_their_beds(bindings: Iterable[BindingRecord]) -> list[BindingRecord]:
    """The open bindings, without those whose bed a later binding of another patient holds: a bed shows one patient.

    A registry refuses to bind a second patient to a bed; registries from before that may have such bindings.
    """
    newest: dict[str, BindingRecord] = {}
    present = sorted((one for one in bindings if one.valid_to_ms is None), key=lambda one: one.valid_from_ms)
    for one in present:
        newest[_bed_key(one.bed)] = one
    return [one for one in present if not _bed_key(one.bed) or newest[_bed_key(one.bed)].patient == one.patient]


def _bed_key(bed: str) -> str:
    return " ".join(bed.split()).casefold()


class StayOrders(NamedTuple):
    """What is ordered for one stay: the whole, with what begins and ends later. Opaque here."""

    version: int  # rises with every change
    orders: bytes  # as `vitals.orders` encodes them


class Directory(Protocol):
    """Where a receiver looks up senders and bindings."""

    def sender(self, device_id: bytes) -> SenderRecord | None: ...
    def binding(self, binding_id: bytes) -> BindingRecord | None: ...
    def bindings(self) -> tuple[BindingRecord, ...]: ...

    def of_stay(self, stay_id: bytes) -> tuple[BindingRecord, ...]:
        """The bindings of a stay, the newest last; empty: the stay is not known."""
        ...

    def orders_of(self, stay_id: bytes) -> StayOrders | None:
        """What is ordered for a stay; None: nothing, or it is not known: the defaults apply."""
        ...

    def patients_of(self, device_id: bytes) -> int:
        """How many bindings a device has just now, as wearable or as edge: so many devices on patients."""
        ...


class InMemoryDirectory:
    """A directory that is a pair of tables."""

    def __init__(self, senders: Iterable[SenderRecord], bindings: Iterable[BindingRecord]) -> None:
        self._senders = {record.device_id: record for record in senders}
        self._bindings = {record.binding_id: record for record in bindings}
        self._patients: Counter[bytes] | None = None  # by device; None: must be counted again
        self._stays: dict[bytes, tuple[BindingRecord, ...]] | None = None  # None: must be sorted again
        self._orders: dict[bytes, StayOrders] = {}  # by stay

    def sender(self, device_id: bytes) -> SenderRecord | None:
        return self._senders.get(device_id)

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        return self._bindings.get(binding_id)

    def patients_of(self, device_id: bytes) -> int:
        if self._patients is None:
            current = [one for one in self._bindings.values() if one.valid_to_ms is None]
            self._patients = Counter(device for one in current for device in (one.wearable_id, one.edge_id))
        return self._patients[device_id]

    def of_stay(self, stay_id: bytes) -> tuple[BindingRecord, ...]:
        if self._stays is None:
            self._stays = {}
            for one in sorted(self._bindings.values(), key=lambda one: (one.valid_from_ms, one.binding_id)):
                self._stays[one.stay_id] = (*self._stays.get(one.stay_id, ()), one)
        return self._stays.get(stay_id, ())

    def orders_of(self, stay_id: bytes) -> StayOrders | None:
        return self._orders.get(stay_id)

    def senders(self) -> tuple[SenderRecord, ...]:
        return tuple(self._senders.values())

    def bindings(self) -> tuple[BindingRecord, ...]:
        return tuple(self._bindings.values())

    def put(self, record: BindingRecord) -> None:
        """Add a binding, or replace it by its later state."""
        self._bindings[record.binding_id] = record
        self._patients = self._stays = None

    def put_orders(self, stay_id: bytes, orders: StayOrders) -> None:
        """Use these orders of a stay instead of those before."""
        self._orders[stay_id] = orders

    def put_sender(self, record: SenderRecord) -> None:
        """Add a sender, or replace it by its later state."""
        self._senders[record.device_id] = record

    def drop(self, binding_id: bytes) -> None:
        """Remove a binding: frames for it are no longer accepted. With the last of a stay go its orders."""
        gone = self._bindings.pop(binding_id, None)
        self._patients = self._stays = None
        if gone is not None and not self.of_stay(gone.stay_id):
            self._orders.pop(gone.stay_id, None)

    def revoke(self, device_id: bytes) -> None:
        """From now on nothing of this device is believed."""
        self._senders[device_id].revoked = True


class TlsFiles(NamedTuple):
    """What a TLS client needs: whom it trusts, and its own certificates with their key, one file each."""

    root: Path
    client: Path
    alarm: Path | None  # an edge's and the data centre's alarm lane is a connection of its own


class Provision:
    """Identity and directory of one process. The directory changes while it runs."""

    def __init__(
        self,
        *,
        me: DeviceIdentity,
        directory: InMemoryDirectory,
        recipient: Recipient | None,
        recipient_keys: tuple[Ed25519PublicKey, ...] = (),
        tls: TlsFiles | None = None,
    ) -> None:
        self.me = me
        self.directory = directory
        self.recipient = recipient  # where this process seals to
        self.recipient_keys = recipient_keys  # what the recipient signs its acknowledgements with
        self.tls = tls
