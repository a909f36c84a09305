"""What an enrolled device keeps in one folder of its own: its identity, and the documents that it has accepted.

The identity is one file, written whole or not at all. Documents lie beside it as the frames they came in; they were
checked when they were accepted and are checked again when they are read.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from runtime.end_dates import EndDate
from runtime.errors import NotPrivate
from runtime.logs import get
from wire.enrol.authority import DEVICE_DAYS, RENEW_AFTER_DAYS
from wire.enrol.documents import EVERY_DEVICE, ControlKeysV1, Document, DocumentType, OrdersV1, open_document
from wire.enrol.identity_file import (
    IDENTITY_FILE,
    IdentityFacts,
    IdentityFile,
    NewKeys,
    identity_of,
    keys_by_id,
    write_tls,
)
from wire.enrol.kept_documents import KeptDocuments
from wire.enrol.known_parties import KnownParties
from wire.enrol.requests import AnnouncedBroker, EnrolReply, un64
from wire.errors import BadKeyFile, NotEnrolled, Reason, Rejected
from wire.identity import LATE_MS, BindingRecord, InMemoryDirectory, Provision, SenderRecord, StayOrders, TlsFiles

PREKEY_DAYS: Final = 7
PREKEY_KEPT_DAYS: Final = 60
"""Two weeks of backlog and a wide margin; after that no recording can be opened, not even by this device."""
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

_log = get(__name__)


class Wallet:
    """One enrolled device. `provision` follows every document that is accepted."""

    def __init__(self, identity: IdentityFile) -> None:
        self.folder = identity.folder
        self.changes = 0  # rises with every document or renewal that is accepted
        self.renewal_problem = ""  # why the last attempt to renew failed
        self.can_read: Callable[[StayOrders], bool] = lambda _: True  # orders that are not readable are not accepted
        self._identity = identity
        self.me = identity_of(identity.facts)
        self.provision = Provision(
            me=self.me,
            directory=InMemoryDirectory([], []),
            recipient=None,
            tls=write_tls(identity.folder, identity.facts),
        )
        self._parties = KnownParties(self.provision)
        self._documents = KeptDocuments(identity.folder / "documents", self.me)
        self._read_documents()

    # Beginnings

    @classmethod
    def begin(cls, folder: Path, reply: EnrolReply, keys: NewKeys, *, registry: str, pin: bytes) -> Self:
        """Keep what enrolment has given.

        Raises:
            EnrolmentFailed: the answer does not fit the request.
        """
        wallet = cls(IdentityFile.create(folder, reply, keys, registry=registry, pin=pin))
        wallet.accept_all(reply.documents)
        return wallet

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `begin` and later answers left.

        Raises:
            NotEnrolled: no identity here, or it cannot be used; others can read it.
        """
        path = folder / IDENTITY_FILE
        try:
            return cls(IdentityFile.load(folder))
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
    def _facts(self) -> IdentityFacts:
        return self._identity.facts

    @property
    def broker(self) -> AnnouncedBroker:
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
        return self._parties.own is not None and self._parties.own.revoked_ms is not None

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._facts.certificate.encode())

    @property
    def end_date(self) -> EndDate:
        """When the device is no longer let in: its credential, or a certificate on the way from its own to the root."""
        facts = self._facts
        chains = [facts.certificate, *([] if facts.alarm_certificate is None else [facts.alarm_certificate])]
        ends = [
            round(one.not_valid_after_utc.timestamp() * 1_000)
            for chain in chains
            for one in x509.load_pem_x509_certificates(chain.encode())
        ]
        ends_ms = min(facts.not_after_ms, *ends)
        return EndDate(
            what=f"certificate of this {self.me.role}",
            ends_ms=ends_ms,
            renewed_by="the device itself",
            due_ms=facts.not_before_ms + (ends_ms - facts.not_before_ms) * RENEW_AFTER_DAYS // DEVICE_DAYS,
            fix=f"is {facts.registry} reachable? otherwise `vitalloom pki renew {self.me.device_id.hex()}`, "
            "and enrol it again",
            problem=self.renewal_problem,
        )

    def expiry(self, now_ms: int) -> str | None:
        """A warning with the fix if the credential or a certificate has expired, or will within a week."""
        left_ms = self.end_date.ends_ms - now_ms
        if left_ms > PREKEY_DAYS * DAY_MS:
            return None
        span = _span(abs(left_ms))
        name = f"certificate of {self.me.role} {self.me.device_id.hex()}"
        if left_ms <= 0:
            return f"{name} expired {span} ago: run `vitalloom pki renew {self.me.device_id.hex()}`"
        return f"{name} expires in {span} and could not be renewed: is {self._facts.registry} reachable?"

    @property
    def newest_ms(self) -> int:
        """The latest time that this wallet knows to be past."""
        return max(self._facts.not_before_ms, *(one.since_ms for one in self._facts.prekeys))

    def wants_renewal(self, now_ms: int) -> bool:
        """Two thirds of its life are over."""
        due_ms = self.end_date.due_ms
        return due_ms is not None and now_ms >= due_ms

    def wants_prekey(self, now_ms: int) -> bool:
        """The newest prekey is a week old, or was never announced."""
        return self.unannounced is not None or now_ms - self._facts.prekeys[-1].since_ms >= PREKEY_DAYS * DAY_MS

    @property
    def unannounced(self) -> tuple[bytes, X25519PrivateKey] | None:
        """The newest prekey, if the data centre has not vouched for it yet."""
        prekey_id = bytes.fromhex(self._facts.prekeys[-1].id)
        if self._parties.own is not None and self._parties.own.prekey_id == prekey_id:
            return None
        return prekey_id, self.me.prekeys[prekey_id]

    # Documents

    def accept(self, frame: bytes) -> Document | None:
        """A DOC frame, however it arrived; None if it says nothing new.

        Raises:
            Rejected: it is not signed by the data centre, or not for this device.
        """
        document = open_document(frame, keys_by_id(self._facts.control_keys), prekeys=self.me.prekeys)
        passing_on = self.me.role == "edge" and document.type is DocumentType.ASSIGNMENT
        if document.recipient not in (EVERY_DEVICE, self.me.device_id) and not passing_on:
            raise Rejected(Reason.RECIPIENT)
        if not self._documents.is_new(document):
            return None
        if isinstance(document.content, OrdersV1) and not self.can_read(document.content.of_stay):
            raise Rejected(Reason.SCHEMA, "orders of another version of this program")  # those before stay in force
        if not isinstance(document.content, ControlKeysV1) or self._change_control_keys(document.content):
            self._documents.write(document, frame)
        self._documents.put(document, frame)
        self._parties.apply(document)
        self.changes += 1
        return document

    def accept_all(self, frames: Iterable[str]) -> None:
        """Documents of an answer of the registry, base64. Raises Rejected."""
        for text in frames:
            try:
                frame = un64(text)
            except ValueError:
                raise Rejected(Reason.SCHEMA, "not base64") from None
            self.accept(frame)

    @property
    def digest(self) -> bytes:
        """See `KeptDocuments.digest`."""
        return self._documents.digest

    def frame(self, kind: DocumentType, subject: bytes) -> bytes | None:
        """A document that was accepted, to be passed on."""
        return self._documents.frame(kind, subject)

    def device(self, device_id: bytes) -> SenderRecord | None:
        """The record of another device; None: unknown."""
        return self._parties.device(device_id)

    def assignment(self, now_ms: int) -> BindingRecord | None:
        """The patient that a wearable is on now."""
        open_ones = [
            one
            for one in self.provision.directory.bindings()
            if one.valid_from_ms <= now_ms and (one.valid_to_ms is None or now_ms < one.valid_to_ms)
        ]
        return max(open_ones, key=lambda one: one.valid_from_ms, default=None)

    # Changes

    def forget_old(self, now_ms: int) -> None:
        """Drop bindings that ended long ago, and prekeys whose time is over."""
        for one in self.provision.directory.bindings():
            if one.valid_to_ms is not None and now_ms > one.valid_to_ms + LATE_MS:
                self.provision.directory.drop(one.binding_id)
        # Nor the one that the data centre vouches for, should it not have heard of the newest: all is sealed to that.
        vouched = "" if self._parties.own is None else self._parties.own.prekey_id.hex()
        newest = self._facts.prekeys[-1]
        kept = [
            one
            for one in self._facts.prekeys
            if one is newest or one.id == vouched or now_ms - one.since_ms < PREKEY_KEPT_DAYS * DAY_MS
        ]
        if len(kept) < len(self._facts.prekeys):
            self._identity.keep(msgspec.structs.replace(self._facts, prekeys=kept))
            alive = {bytes.fromhex(one.id) for one in kept}
            for gone in self.me.prekeys.keys() - alive:
                del self.me.prekeys[gone]

    def add_prekey(self, prekey_id: bytes, prekey: X25519PrivateKey, *, now_ms: int) -> None:
        """A prekey that is to be announced. It is on disk before that."""
        self._identity.add_prekey(prekey_id, prekey, now_ms)
        self.me.prekeys[prekey_id] = prekey

    def renewed(self, reply: EnrolReply, keys: NewKeys) -> None:
        """The registry has answered a renewal: the new identity is on disk, then in use.

        Raises:
            EnrolmentFailed: the answer does not fit the request.
        """
        self._identity.renew(reply, keys)
        facts = self._facts
        self.me.renew(
            keys.signing,
            bytes.fromhex(facts.serial),
            not_before_ms=facts.not_before_ms,
            not_after_ms=facts.not_after_ms,
        )
        self.me.prekeys[keys.prekey_id] = keys.prekey
        self.changes += 1
        write_tls(self.folder, facts)
        self.renewal_problem = ""
        self.accept_all(reply.documents)

    def follow_file(self) -> bool:
        """Use the identity that `vitalloom enrol --again` has put into the folder since; whether there was one.

        Raises:
            NotEnrolled: it cannot be used, or it is that of another device.
        """
        try:
            if not self._identity.follow():
                return False
        except (OSError, NotPrivate, msgspec.DecodeError, ValueError, RecursionError, BadKeyFile) as error:
            raise NotEnrolled(f"{self.folder / IDENTITY_FILE}: has changed and cannot be used ({error})") from error
        fresh = identity_of(self._facts)
        self.me.renew(
            fresh.signing_key,
            fresh.credential_serial,
            not_before_ms=fresh.not_before_ms,
            not_after_ms=fresh.not_after_ms,
        )
        self.me.prekeys.update(fresh.prekeys)
        write_tls(self.folder, self._facts)
        self._read_documents()
        self.renewal_problem = ""
        self.changes += 1
        return True

    def _read_documents(self) -> None:
        known = keys_by_id([*self._facts.retired_control_keys, *self._facts.control_keys])
        for document in self._documents.read(known, self.me.prekeys):
            self._parties.apply(document)

    def _change_control_keys(self, content: ControlKeysV1) -> bool:
        """Whether the new keys are on disk. Without them their document must not be written.

        With that alone on disk, the keys that sign next would never be announced again.
        """
        try:
            self._identity.change_control_keys(content.keys)
        except (OSError, NotPrivate) as error:
            _log.warning(
                "cannot save the site's new control keys; they are in force until this process ends", problem=str(error)
            )
            return False
        return True


def _span(ms: int) -> str:
    count, unit = (ms // DAY_MS, "day") if ms >= DAY_MS else (ms // HOUR_MS, "hour")
    return f"{count} {unit}{'' if count == 1 else 's'}"
