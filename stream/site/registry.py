"""The registry: which devices there are, what they sign with, who wears them, and what was signed about all that.

The one place where a device comes to belong and ceases to. Every change is one transaction, with the documents that
follow from it and a line in the audit log; whoever asks is told no more than whether it worked.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream.errors import EnrolmentRefused, NoSuchDevice, RegistryRefused, StoreUnusable
from stream.site.audit import AuditLog
from wire.enrol.authority import DEVICE_DAYS, Authority, TlsPublicKey, moment, pem, requested_key
from wire.enrol.documents import (
    EVERY_DEVICE,
    AssignmentV1,
    BindingV1,
    Content,
    ControlKeysV1,
    CredentialV1,
    DeviceV1,
    Document,
    DocumentType,
    build_document,
    digest_of,
    encode_content,
)
from wire.enrol.records import record_of
from wire.enrol.requests import (
    TOKEN_MS,
    BrokerAddress,
    EnrolReply,
    EnrolRequest,
    Invitation,
    Offered,
    PrekeyReply,
    PrekeyRequest,
    RenewRequest,
    b64,
    check_proof,
    enrol_transcript,
    is_device_id,
    new_token,
    offered,
    prekey_of,
    prekey_transcript,
    renew_transcript,
    token_hash,
)
from wire.errors import BadProof, BadSigningRequest
from wire.identity import LATE_MS, NOTHING, About, BindingRecord, Role, SenderRecord
from wire.receiver import Bucket
from wire.sessions import Recipient

DAY_MS: Final = 86_400_000
TENANT: Final = bytes(16)
_KEPT_BUCKETS: Final = 10_000
_CLOCK_MS: Final = 600_000  # further off than this a request's own time is not believed

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device (
    device_id TEXT PRIMARY KEY, role TEXT NOT NULL, label TEXT NOT NULL, created_ms INTEGER NOT NULL,
    revoked_ms INTEGER, revoked_why TEXT, bad_tries INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS token (
    hash BLOB PRIMARY KEY, device_id TEXT NOT NULL, role TEXT NOT NULL, expires_ms INTEGER NOT NULL,
    used_ms INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS credential (
    serial TEXT PRIMARY KEY, device_id TEXT NOT NULL, signing_key BLOB NOT NULL, not_before_ms INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL, made_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS credential_device ON credential (device_id);
CREATE TABLE IF NOT EXISTS certificate (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, device_id TEXT, not_before_ms INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL, revoke_ms INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS certificate_device ON certificate (device_id);
CREATE TABLE IF NOT EXISTS prekey (
    device_id TEXT PRIMARY KEY, prekey_id BLOB NOT NULL, prekey BLOB NOT NULL, since_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS binding (
    binding_id TEXT PRIMARY KEY, patient TEXT NOT NULL, bed TEXT NOT NULL, wearable_id TEXT NOT NULL,
    edge_id TEXT NOT NULL, valid_from_ms INTEGER NOT NULL, valid_to_ms INTEGER, spo2_scale INTEGER NOT NULL,
    age_years REAL, is_male INTEGER, chest_pain INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS binding_wearable ON binding (wearable_id);
CREATE INDEX IF NOT EXISTS binding_edge ON binding (edge_id);
CREATE TABLE IF NOT EXISTS document (
    kind INTEGER NOT NULL, subject BLOB NOT NULL, recipient BLOB NOT NULL, version INTEGER NOT NULL,
    said BLOB NOT NULL, frame BLOB NOT NULL, PRIMARY KEY (kind, subject)) WITHOUT ROWID;
"""


class Clock(Protocol):
    def now_ms(self) -> int: ...


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long things are good for, and how often somebody may try."""

    credential_days: float = DEVICE_DAYS
    overlap_ms: int = DAY_MS  # an old credential's, after a renewal
    token_ms: int = TOKEN_MS
    tries_per_min: float = 10.0  # by address
    bad_tokens: int = 5  # then the slot is locked until somebody invites again


class Signers(NamedTuple):
    """What the registry signs with."""

    authority: Authority
    control: tuple[Ed25519PrivateKey, ...]  # the first signs; devices know all


class Device(NamedTuple):
    """A row of `devices`."""

    device_id: str
    role: str
    label: str
    enrolled_ms: int | None
    not_after_ms: int | None  # of its newest credential
    revoked_ms: int | None
    revoked_why: str | None
    is_locked: bool


class Certificate(NamedTuple):
    """A row of `certificates`."""

    serial: str
    name: str
    device_id: str | None
    not_before_ms: int
    not_after_ms: int
    revoke_ms: int | None


class Registry:
    """The registry on one database file.

    Args:
        path: of the database; its audit log lies beside it.
        signers: None for a reader, which changes nothing.
        tenant_id: of everything in it.
        clock: what tokens, credentials and bindings are held against.
        wall: what certificates are held against; TLS libraries use the machine's own clock.
        broker: what devices are told to connect to.
    """

    def __init__(
        self,
        path: Path,
        *,
        signers: Signers | None,
        tenant_id: bytes,
        clock: Clock,
        wall: Clock | None = None,
        broker: BrokerAddress | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.path = path
        self.tenant_id = tenant_id
        self.policy = policy or Policy()
        self.broker = broker or BrokerAddress(host="127.0.0.1", port=8883)
        self.audit = AuditLog(path.with_name("audit.log"))
        self._signers = signers
        self._clock = clock
        self._wall = wall or clock
        self._tries: dict[str, Bucket] = {}
        self._db = _opened(path)

    def close(self) -> None:
        self._db.close()

    @property
    def version(self) -> int:
        """A number that changes when another connection has changed the database."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0]) + self._db.total_changes

    # Devices

    def add_device(self, role: Role, *, label: str = "", who: str, device_id: bytes | None = None) -> bytes:
        """A slot for a device that is to enrol; its id is drawn at random and says nothing."""
        found = device_id or os.urandom(16)
        with self._change("device added", who=who, subject=found.hex(), role=role):
            self._db.execute(
                "INSERT INTO device (device_id, role, label, created_ms) VALUES (?, ?, ?, ?)",
                (found.hex(), role, _plain("label", label, 64), self._clock.now_ms()),
            )
        return found

    def invite(self, device_id: bytes, *, url: str, who: str) -> Invitation:
        """A token for a device, and all it has to know; earlier tokens of it are void, a locked slot is open again.

        Raises:
            NoSuchDevice, RegistryRefused: not known, or revoked.
        """
        role = self._role_of(device_id)
        token = new_token()
        expires_ms = self._clock.now_ms() + self.policy.token_ms
        with self._change("invited", who=who, subject=device_id.hex(), expires_ms=expires_ms):
            self._db.execute("DELETE FROM token WHERE device_id = ?", (device_id.hex(),))
            self._db.execute("UPDATE device SET bad_tries = 0 WHERE device_id = ?", (device_id.hex(),))
            self._db.execute(
                "INSERT INTO token (hash, device_id, role, expires_ms) VALUES (?, ?, ?, ?)",
                (token_hash(token), device_id.hex(), role, expires_ms),
            )
        return Invitation(url, self._signing().authority.pin, device_id, token)

    def revoke(self, device_id: bytes, *, why: str, who: str) -> None:
        """From now on nothing of this device is believed, and nothing lets it in.

        Raises:
            NoSuchDevice: not known.
        """
        self._role_of(device_id, even_revoked=True)
        name, now_ms = device_id.hex(), self._clock.now_ms()
        with self._change("revoked", who=who, subject=name, why=why):
            self._db.execute(
                "UPDATE device SET revoked_ms = coalesce(revoked_ms, ?), revoked_why = ? WHERE device_id = ?",
                (now_ms, _plain("why", why, 200), name),
            )
            self._db.execute("DELETE FROM token WHERE device_id = ?", (name,))
            self._db.execute(
                "UPDATE certificate SET revoke_ms = min(coalesce(revoke_ms, ?1), ?1) WHERE device_id = ?2",
                (self._wall.now_ms(), name),
            )
            self._publish_device(device_id)

    def devices(self) -> list[Device]:
        return [
            Device._make((*row[:7], row[7] >= self.policy.bad_tokens))
            for row in self._db.execute(
                """SELECT device_id, role, label,
                (SELECT min(made_ms) FROM credential c WHERE c.device_id = d.device_id),
                (SELECT max(not_after_ms) FROM credential c WHERE c.device_id = d.device_id),
                revoked_ms, revoked_why, bad_tries FROM device d ORDER BY created_ms, device_id"""
            )
        ]

    def find(self, text: str) -> bytes:
        """A device by its id, the beginning of it, or its label.

        Raises:
            NoSuchDevice: none, or more than one.
        """
        begins = text.lower().rstrip("…")
        rows = self._db.execute("SELECT device_id FROM device WHERE label = ? AND label != '' LIMIT 2", (text,))
        found = {row[0] for row in rows}
        if _is_hex(begins):
            rows = self._db.execute(
                "SELECT device_id FROM device WHERE device_id >= ? AND device_id < ? LIMIT 2", (begins, begins + "g")
            )
            found |= {row[0] for row in rows}
        if begins in found:  # a whole id, whatever somebody has for a label
            found = {begins}
        if len(found) != 1:
            problem = "more than one device is called that: give more of its id" if found else "no such device"
            raise NoSuchDevice(text if text.isprintable() and 0 < len(text) <= 64 else repr(text[:40]), problem)
        return bytes.fromhex(found.pop())

    # What devices ask for

    def enrol(self, request: EnrolRequest, *, server: bytes, address: str, mono_ms: int) -> EnrolReply:
        """A device with an invitation becomes one of ours. Whatever fails after its token was right burns the token.

        Args:
            server: our TLS certificate, DER, that the proof is bound to.
            address: who asks, for limits and the audit log.

        Raises:
            EnrolmentRefused: with the status of the answer.
        """
        self._limit(address, mono_ms)
        device_id, token = self._names(request)
        try:
            with self._change("enrolled", who=address, subject=request.device_id) as refusals:
                role = self._spend(device_id, token)
                try:
                    keys = offered(request)
                    tls_key = requested_key(keys.csr)
                    raw = keys.signing_key.public_bytes_raw()
                    transcript = enrol_transcript(device_id, token, keys.csr, raw, keys.prekey, server)
                    check_proof(keys.signing_key, request.proof, transcript)
                    self._check_unused(raw)
                except (BadProof, BadSigningRequest) as error:
                    # The transaction holds: the token is spent, and nothing else has happened.
                    refusals.append("enrolment refused")
                    raise EnrolmentRefused(400, str(error), commit=True) from error
                self._end_present(request.device_id)  # of a device that is enrolled once more
                return self._vouch(device_id, role, keys, tls_key)
        except EnrolmentRefused as error:
            if not error.commit:
                self._bad_try(request.device_id, address, error)
            raise

    def renew(
        self, request: RenewRequest, *, peer: bytes | None, server: bytes, address: str, mono_ms: int
    ) -> EnrolReply:
        """New keys for a device that proves to have its present ones; those are good for a day more.

        Args:
            peer: the certificate that the device showed in TLS, DER.

        Raises:
            EnrolmentRefused: with the status of the answer.
        """
        self._limit(address, mono_ms)
        device_id = _id(request.device_id)
        with self._visit("renewal refused", address, request.device_id):
            keys, serial = offered(request), _serial(request.serial)
            tls_key, raw = requested_key(keys.csr), keys.signing_key.public_bytes_raw()
            transcript = renew_transcript(device_id, serial, keys.csr, raw, keys.prekey, server)
            # Within the transaction: nobody is revoked between the look and the signature.
            with self._change("renewed", who=address, subject=request.device_id):
                self._check_present(device_id, serial, request.present, transcript, peer)
                check_proof(keys.signing_key, request.proof, transcript)
                self._check_unused(raw)
                self._end_present(request.device_id)
                return self._vouch(device_id, self._role_of(device_id), keys, tls_key)

    def new_prekey(self, request: PrekeyRequest, *, peer: bytes | None, address: str, mono_ms: int) -> PrekeyReply:
        """A device's next prekey.

        Raises:
            EnrolmentRefused: with the status of the answer.
        """
        self._limit(address, mono_ms)
        device_id, now_ms = _id(request.device_id), self._clock.now_ms()
        with self._visit("prekey refused", address, request.device_id):
            prekey_id, prekey = prekey_of(request.prekey_id, request.prekey)
            serial = _serial(request.serial)
            if abs(request.at_ms - now_ms) > _CLOCK_MS:
                raise BadProof("the request is not of now; is the device's clock right?")
            transcript = prekey_transcript(device_id, serial, prekey_id, prekey, request.at_ms)
            with self._change("prekey", who=address, subject=request.device_id):
                self._check_present(device_id, serial, request.present, transcript, peer)
                self._put_prekey(device_id, prekey_id, prekey)
                self._publish_device(device_id)
        return PrekeyReply(documents=[b64(one) for one in self.documents_for(device_id)], now_ms=now_ms)

    # Data centre identities, which need no visit

    def vouch_for(self, device_id: bytes, role: Role, keys: Offered, *, who: str) -> EnrolReply:
        """As `enrol`, for an identity of the data centre itself whose keys were just made beside us."""
        tls_key = requested_key(keys.csr)
        with self._change("vouched for", who=who, subject=device_id.hex(), role=role):
            self._db.execute(
                "INSERT OR IGNORE INTO device (device_id, role, label, created_ms) VALUES (?, ?, ?, ?)",
                (device_id.hex(), role, role, self._clock.now_ms()),
            )
            self._end_present(device_id.hex())
            return self._vouch(device_id, role, keys, tls_key)

    def note_certificate(self, certificate: x509.Certificate, *, name: str, device_id: str | None = None) -> None:
        """Remember a certificate that was issued, so that it can be shown and revoked."""
        self._db.execute(
            "INSERT INTO certificate (serial, name, device_id, not_before_ms, not_after_ms) VALUES (?, ?, ?, ?, ?)",
            (
                f"{certificate.serial_number:x}",
                name,
                device_id,
                _ms(certificate.not_valid_before_utc),
                _ms(certificate.not_valid_after_utc),
            ),
        )

    def note_issued(self, certificate: x509.Certificate, *, name: str, who: str) -> None:
        """As `note_certificate`, with a line in the audit log: for what no device asked for."""
        with self._change("certificate issued", who=who, subject=name):
            self.note_certificate(certificate, name=name)

    def sign_with(self, signers: Signers) -> None:
        """Other keys from now on."""
        self._signers = signers

    def revoke_certificates(self, name: str, *, who: str) -> int:
        """Revoke what was issued to a service; how many certificates that were."""
        with self._change("certificates revoked", who=who, subject=name):
            done = self._db.execute(
                "UPDATE certificate SET revoke_ms = ? WHERE name = ? AND revoke_ms IS NULL",
                (self._wall.now_ms(), name),
            )
        return done.rowcount

    def certificates(self) -> list[Certificate]:
        rows = self._db.execute(
            "SELECT serial, name, device_id, not_before_ms, not_after_ms, revoke_ms FROM certificate "
            "ORDER BY name, not_before_ms"
        )
        return [Certificate(*row) for row in rows]

    def revoked_certificates(self) -> list[tuple[int, datetime]]:
        """For the revocation list: serial numbers, and since when; without those whose time is over anyway."""
        now_ms = self._wall.now_ms()
        rows = self._db.execute(
            "SELECT serial, revoke_ms FROM certificate WHERE revoke_ms <= ? AND not_after_ms > ? ORDER BY serial",
            (now_ms, now_ms - DAY_MS),
        )
        return [(int(serial, 16), moment(since_ms)) for serial, since_ms in rows]

    # Bindings

    def bind(
        self,
        *,
        wearable_id: bytes,
        edge_id: bytes,
        patient: str,
        bed: str,
        who: str,
        spo2_scale: int = 1,
        about: About = NOTHING,
        binding_id: bytes | None = None,
        valid_from_ms: int | None = None,
    ) -> bytes:
        """Put a wearable on a patient.

        Args:
            patient: a pseudonym; the registry never knows a name.
            about: what models have to be told. Whoever reads this registry can read it; the edge gets it sealed.

        Raises:
            RegistryRefused: the wearable is on somebody already, or a device is not what it should be.
        """
        if spo2_scale not in (1, 2):
            raise RegistryRefused("spo2_scale is 1, or 2 for patients who live with low oxygen saturation")
        if problem := about.problem():
            raise RegistryRefused(problem)
        now_ms = self._clock.now_ms()
        found_id = binding_id or os.urandom(16)
        with self._change("bound", who=who, subject=found_id.hex(), wearable=wearable_id.hex(), edge=edge_id.hex()):
            self._check_can_bind(wearable_id, edge_id)
            self._db.execute(
                f"INSERT INTO binding ({_BINDING}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?)",  # noqa: S608 - names from code
                (
                    found_id.hex(), _plain("patient", patient, 64), _plain("bed", bed, 32), wearable_id.hex(),
                    edge_id.hex(), now_ms if valid_from_ms is None else valid_from_ms, spo2_scale,
                    about.age_years, about.is_male, about.chest_pain,
                ),
            )  # fmt: skip
            self._publish_binding(found_id)
        return found_id

    def unbind(self, binding_id: bytes, *, who: str) -> None:
        """A binding ends now.

        Raises:
            RegistryRefused: no such binding, or it ended before.
        """
        with self._change("unbound", who=who, subject=binding_id.hex()):
            done = self._db.execute(
                "UPDATE binding SET valid_to_ms = ? WHERE binding_id = ? AND valid_to_ms IS NULL",
                (self._clock.now_ms(), binding_id.hex()),
            )
            if done.rowcount != 1:
                raise RegistryRefused(f"binding {binding_id.hex()}: there is no such open one")
            self._publish_binding(binding_id)

    def bindings(self) -> list[BindingRecord]:
        """Every binding whose frames may still come."""
        after_ms = self._clock.now_ms() - LATE_MS
        rows = self._db.execute(
            f"SELECT {_BINDING} FROM binding WHERE valid_to_ms IS NULL OR valid_to_ms > ? "  # noqa: S608 - our columns
            "ORDER BY valid_from_ms, binding_id",
            (after_ms,),
        )
        return [_binding(row) for row in rows]

    def find_binding(self, text: str) -> bytes:
        """A binding by its id, the beginning of it, or by its wearable's. Raises RegistryRefused."""
        wanted = text.lower().rstrip("…")
        if not _is_hex(wanted):
            raise RegistryRefused(f"{text[:40]!r}: a binding is named by the hex digits of its id, or its wearable's")
        rows = self._db.execute(
            "SELECT binding_id FROM binding WHERE valid_to_ms IS NULL AND (binding_id LIKE ?1 OR wearable_id LIKE ?1)",
            (wanted + "%",),
        ).fetchall()
        if len(rows) != 1:
            raise RegistryRefused(f"{text}: {len(rows)} open bindings are named so; say more of its id")
        return bytes.fromhex(rows[0][0])

    # What a receiver asks

    def sender(self, device_id: bytes) -> SenderRecord | None:
        """A device as its document describes it."""
        content = self._device_content(device_id)
        return None if content is None else record_of(device_id, content)

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        row = self._db.execute(
            f"SELECT {_BINDING} FROM binding WHERE binding_id = ?",  # noqa: S608 - our columns
            (binding_id.hex(),),
        ).fetchone()
        return None if row is None else _binding(row)

    def patients_of(self, device_id: bytes) -> int:
        """How many bindings a device has just now, as wearable or as edge."""
        row = self._db.execute(
            "SELECT count(*) FROM binding WHERE valid_to_ms IS NULL AND (wearable_id = ?1 OR edge_id = ?1)",
            (device_id.hex(),),
        ).fetchone()
        return int(row[0])

    # Documents

    def documents_for(self, device_id: bytes) -> list[bytes]:
        """Every document that a device has to know, and that an edge has to pass on."""
        return [frame for _, frame in self._wanted(device_id)]

    def digest_for(self, device_id: bytes) -> bytes:
        """What the device says when it has taken all of them."""
        return digest_of({(kind, subject): version for (kind, subject, version), _ in self._wanted(device_id)})

    def edges(self) -> list[bytes]:
        rows = self._db.execute("SELECT device_id FROM device WHERE role = 'edge' AND revoked_ms IS NULL")
        return [bytes.fromhex(one) for (one,) in rows]

    def publish_all(self, *, who: str) -> None:
        """Sign everything anew: after a change of the control keys."""
        with self._change("documents signed anew", who=who, subject="all"):
            self._db.execute("UPDATE document SET said = x''")
            self._publish_control_keys()
            for (name,) in self._db.execute("SELECT device_id FROM device").fetchall():
                self._publish_device(bytes.fromhex(name))
            for one in self.bindings():
                self._publish_binding(one.binding_id)

    # Facts of its own

    def meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # Within

    @contextmanager
    def _change(self, what: str, *, who: str, subject: str, **detail: str | int | None) -> Iterator[list[str]]:
        """One transaction, and its line in the audit log. What is yielded may be given another name for the line."""
        names: list[str] = []
        self._signing()  # a reader changes nothing, not even what needs no signature
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield names
        except EnrolmentRefused as refused:
            if not refused.commit:
                self._db.execute("ROLLBACK")
                raise
            self._finish(names[-1] if names else what, who, subject, detail)
            raise
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._finish(names[-1] if names else what, who, subject, detail)

    def _finish(self, what: str, who: str, subject: str, detail: dict[str, Any]) -> None:
        # The log first: a line about something that did not happen is better than something without a line.
        try:
            record = self.audit.append(what, at_ms=self._clock.now_ms(), who=who, subject=subject, **detail)
            self.set_meta("audit_head", record.hash)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _visit(self, refused: str, address: str, device_id: str) -> Iterator[None]:
        """What is wrong with a request is an answer, and a line in the audit log."""
        try:
            yield
        except (BadProof, BadSigningRequest, EnrolmentRefused) as error:
            with self._change(refused, who=address, subject=device_id):
                pass
            if isinstance(error, EnrolmentRefused):
                raise
            raise EnrolmentRefused(400, str(error)) from error

    def _limit(self, address: str, mono_ms: int) -> None:
        bucket = self._tries.pop(address, None)
        if bucket is None:
            bucket = Bucket(per_s=self.policy.tries_per_min / 60, burst=self.policy.tries_per_min)
            while len(self._tries) >= _KEPT_BUCKETS:
                del self._tries[next(iter(self._tries))]
        self._tries[address] = bucket
        if not bucket.take(mono_ms):
            raise EnrolmentRefused(429, "too many tries from this address; wait a minute")

    def _names(self, request: EnrolRequest) -> tuple[bytes, bytes]:
        device_id = _id(request.device_id)
        try:
            return device_id, bytes.fromhex(request.token)
        except ValueError:
            raise EnrolmentRefused(400, "the token is not hexadecimal") from None

    def _spend(self, device_id: bytes, token: bytes) -> Role:
        """Use a token up; the role that it was made for."""
        now_ms, name = self._clock.now_ms(), device_id.hex()
        row = self._db.execute(
            "SELECT role, bad_tries FROM device WHERE device_id = ? AND revoked_ms IS NULL", (name,)
        ).fetchone()
        # One answer for whatever is wrong: nobody learns which ids exist.
        refusal = EnrolmentRefused(
            403, "this invitation is not good (used, expired, locked or of another device): ask for a new one"
        )
        if row is None or row[1] >= self.policy.bad_tokens:
            raise refusal
        done = self._db.execute(
            "UPDATE token SET used_ms = ?1 WHERE hash = ?2 AND used_ms IS NULL AND expires_ms > ?1 "
            "AND device_id = ?3 AND role = ?4",
            (now_ms, token_hash(token), name, row[0]),
        )
        if done.rowcount != 1:
            raise refusal
        role: Role = row[0]
        return role

    def _bad_try(self, device_id: str, address: str, error: EnrolmentRefused) -> None:
        if error.status != 403:
            return
        with self._change("bad token", who=address, subject=device_id):
            self._db.execute("UPDATE device SET bad_tries = bad_tries + 1 WHERE device_id = ?", (device_id,))

    def _check_unused(self, signing_key: bytes) -> None:
        """A key identifies a device, so two may not have the same."""
        if self._db.execute("SELECT 1 FROM credential WHERE signing_key = ?", (signing_key,)).fetchone():
            raise BadProof("this signing key is in use; make new keys")

    def _check_present(
        self, device_id: bytes, serial: bytes, signature: str, transcript: bytes, peer: bytes | None
    ) -> None:
        self._check_peer(device_id, peer)
        record = self.sender(device_id)
        credential = None if record is None or record.revoked else record.credential(serial)
        if credential is None or not credential.is_valid(self._clock.now_ms()):
            raise EnrolmentRefused(
                403,
                f"device {device_id.hex()} has no valid credential (expired, replaced or revoked): "
                f"run `vitalloom pki renew {device_id.hex()}` at the registry and enrol again",
            )
        check_proof(credential.key, signature, transcript)

    def _check_peer(self, device_id: bytes, peer: bytes | None) -> None:
        """TLS has checked the chain; here, that the certificate is this device's and not revoked."""
        serial = "" if peer is None else f"{x509.load_der_x509_certificate(peer).serial_number:x}"
        row = self._db.execute(
            "SELECT revoke_ms FROM certificate WHERE serial = ? AND device_id = ?", (serial, device_id.hex())
        ).fetchone()
        if row is None or (row[0] is not None and row[0] <= self._wall.now_ms()):
            raise EnrolmentRefused(403, "the client certificate is not this device's, or it is revoked")

    def _vouch(self, device_id: bytes, role: Role, keys: Offered, tls_key: TlsPublicKey) -> EnrolReply:
        """Certificates, a credential, documents; within a transaction."""
        authority, name = self._signing().authority, device_id.hex()
        now_ms, days = self._clock.now_ms(), self.policy.credential_days
        chain = []
        for common_name in _names_of(name, role):
            made = authority.device(
                tls_key, common_name=common_name, tenant=self.tenant_id, at=moment(self._wall.now_ms()), days=days
            )
            self.note_certificate(made, name=common_name, device_id=name)
            chain.append((pem(made) + pem(authority.issuing)).decode())
        serial = os.urandom(8)
        self._db.execute(
            "INSERT INTO credential VALUES (?, ?, ?, ?, ?, ?)",
            (
                serial.hex(), name, keys.signing_key.public_bytes_raw(), now_ms - _CLOCK_MS,
                now_ms + int(days * DAY_MS), now_ms,
            ),
        )  # fmt: skip
        self._put_prekey(device_id, keys.prekey_id, keys.prekey)
        self._publish_device(device_id)
        return EnrolReply(
            device_id=name,
            tenant_id=self.tenant_id.hex(),
            role=role,
            serial=serial.hex(),
            certificate=chain[0],
            alarm_certificate=chain[1] if len(chain) > 1 else None,
            root=pem(authority.root).decode(),
            control_keys=[one.public_key().public_bytes_raw().hex() for one in self._signing().control],
            documents=[b64(frame) for frame in self.documents_for(device_id)],
            broker=self.broker,
            now_ms=now_ms,
        )

    def _end_present(self, name: str) -> None:
        """What a device has now is good for a day more."""
        self._db.execute(
            "UPDATE credential SET not_after_ms = min(not_after_ms, ?) WHERE device_id = ?",
            (self._clock.now_ms() + self.policy.overlap_ms, name),
        )
        self._db.execute(
            "UPDATE certificate SET revoke_ms = ? WHERE device_id = ? AND revoke_ms IS NULL",
            (self._wall.now_ms() + self.policy.overlap_ms, name),
        )

    def _put_prekey(self, device_id: bytes, prekey_id: bytes, prekey: bytes) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO prekey VALUES (?, ?, ?, ?)",
            (device_id.hex(), prekey_id, prekey, self._clock.now_ms()),
        )
        # Documents that are sealed to it.
        for (binding,) in self._db.execute(
            "SELECT binding_id FROM binding WHERE edge_id = ?", (device_id.hex(),)
        ).fetchall():
            self._publish_binding(bytes.fromhex(binding), anew=True)

    def _publish_device(self, device_id: bytes) -> None:
        content = self._device_content(device_id)
        if content is not None:
            self._publish(DocumentType.DEVICE, device_id, EVERY_DEVICE, content)

    def _publish_binding(self, binding_id: bytes, *, anew: bool = False) -> None:
        one = self.binding(binding_id)
        edge = None if one is None else self.sender(one.edge_id)
        if one is None or edge is None:
            return
        told = AssignmentV1(
            binding_id=binding_id, edge_id=one.edge_id, valid_from_ms=one.valid_from_ms, valid_to_ms=one.valid_to_ms
        )
        self._publish(DocumentType.ASSIGNMENT, binding_id, one.wearable_id, told)
        if edge.recipient is not None:
            content = BindingV1(
                patient=one.patient, bed=one.bed, wearable_id=one.wearable_id, edge_id=one.edge_id,
                valid_from_ms=one.valid_from_ms, valid_to_ms=one.valid_to_ms, spo2_scale=one.spo2_scale,
                age_years=one.about.age_years, is_male=one.about.is_male, chest_pain=one.about.chest_pain,
            )  # fmt: skip
            self._publish(DocumentType.BINDING, binding_id, one.edge_id, content, seal_to=edge.recipient, anew=anew)

    def _publish_control_keys(self) -> None:
        keys = tuple(one.public_key().public_bytes_raw() for one in self._signing().control)
        self._publish(DocumentType.CONTROL_KEYS, TENANT, EVERY_DEVICE, ControlKeysV1(keys=keys))

    def _publish(
        self,
        kind: DocumentType,
        subject: bytes,
        recipient: bytes,
        content: Content,
        *,
        seal_to: Recipient | None = None,
        anew: bool = False,
    ) -> None:
        """Sign what is true now, if it is not what was signed last."""
        said = encode_content(content)
        row = self._db.execute(
            "SELECT version, said FROM document WHERE kind = ? AND subject = ?", (int(kind), subject)
        ).fetchone()
        if row is not None and row[1] == said and not anew:
            return
        # Above every earlier one even if this database was restored from a backup: the clock has gone on meanwhile.
        version = max(self._clock.now_ms(), 0 if row is None else row[0] + 1)
        document = Document(kind, subject, version, self._clock.now_ms(), recipient, content)
        frame = build_document(self._signing().control[0], document, seal_to=seal_to)
        self._db.execute(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?, ?)",
            (int(kind), subject, recipient, version, said, frame),
        )

    def _wanted(self, device_id: bytes) -> list[tuple[tuple[int, bytes, int], bytes]]:
        name = device_id.hex()
        row = self._db.execute("SELECT role FROM device WHERE device_id = ?", (name,)).fetchone()
        if row is None:
            return []
        own = self._db.execute(
            "SELECT version FROM document WHERE kind = ? AND subject = ?", (int(DocumentType.DEVICE), device_id)
        ).fetchone()
        # A binding that is long over is forgotten on both sides, so by a time that both know: see `Wallet.digest`.
        after_ms = (0 if own is None else own[0]) - LATE_MS
        mine = self._db.execute(
            "SELECT binding_id, wearable_id, edge_id FROM binding "
            "WHERE (wearable_id = ?1 OR edge_id = ?1) AND (valid_to_ms IS NULL OR valid_to_ms > ?2)",
            (name, after_ms),
        ).fetchall()
        wanted: dict[tuple[int, bytes], None] = {(DocumentType.DEVICE, device_id): None}
        if row[0] == "edge":
            wanted |= {(DocumentType.DEVICE, one): None for one in self._ingests()}
        for binding, wearable, edge in mine:
            subject = bytes.fromhex(binding)
            wanted[DocumentType.ASSIGNMENT, subject] = None
            if row[0] == "edge":
                wanted[DocumentType.BINDING, subject] = None
                wanted[DocumentType.DEVICE, bytes.fromhex(wearable)] = None
            else:
                wanted[DocumentType.DEVICE, bytes.fromhex(edge)] = None
        wanted[DocumentType.CONTROL_KEYS, TENANT] = None
        found = []
        for kind, subject in wanted:
            document = self._db.execute(
                "SELECT version, frame FROM document WHERE kind = ? AND subject = ?", (int(kind), subject)
            ).fetchone()
            if document is not None:
                found.append(((int(kind), subject, int(document[0])), bytes(document[1])))
        return found

    def _ingests(self) -> list[bytes]:
        rows = self._db.execute("SELECT device_id FROM device WHERE role = 'ingest'")  # of a revoked one they hear, too
        return [bytes.fromhex(one) for (one,) in rows]

    def _device_content(self, device_id: bytes) -> DeviceV1 | None:
        name = device_id.hex()
        row = self._db.execute("SELECT role, revoked_ms FROM device WHERE device_id = ?", (name,)).fetchone()
        if row is None:
            return None
        newest = self._db.execute(
            "SELECT serial, signing_key, not_before_ms, not_after_ms FROM credential WHERE device_id = ? "
            "ORDER BY made_ms DESC, not_after_ms DESC LIMIT 2",
            (name,),
        ).fetchall()
        # Answers are lost on the way. A device that asked several times may have the last or the first of its keys.
        present = self._db.execute(
            "SELECT serial, signing_key, not_before_ms, not_after_ms FROM credential WHERE device_id = ? "
            "AND not_after_ms > ? ORDER BY made_ms, not_after_ms LIMIT 1",
            (name, self._clock.now_ms()),
        ).fetchall()
        credentials = list(dict.fromkeys([*newest, *present]))
        prekey = self._db.execute("SELECT prekey_id, prekey FROM prekey WHERE device_id = ?", (name,)).fetchone()
        return DeviceV1(
            role=row[0],
            tenant_id=self.tenant_id,
            credentials=tuple(
                CredentialV1(
                    serial=bytes.fromhex(one[0]), signing_key=one[1], not_before_ms=one[2], not_after_ms=one[3]
                )
                for one in reversed(credentials)
            ),
            prekey_id=b"" if prekey is None else prekey[0],
            prekey=b"" if prekey is None else prekey[1],
            revoked_ms=row[1],
        )

    def _check_can_bind(self, wearable_id: bytes, edge_id: bytes) -> None:
        for device_id, role in ((wearable_id, "wearable"), (edge_id, "edge")):
            if (found := self._role_of(device_id)) != role:
                raise RegistryRefused(f"device {device_id.hex()} is of role {found}, and not {role}")
        busy = self._db.execute(
            "SELECT binding_id FROM binding WHERE wearable_id = ? AND valid_to_ms IS NULL", (wearable_id.hex(),)
        ).fetchone()
        if busy is not None:
            raise RegistryRefused(
                f"wearable {wearable_id.hex()} is on a patient already: run `vitalloom registry unbind {busy[0]}` first"
            )

    def _role_of(self, device_id: bytes, *, even_revoked: bool = False) -> Role:
        row = self._db.execute("SELECT role, revoked_ms FROM device WHERE device_id = ?", (device_id.hex(),)).fetchone()
        if row is None:
            raise NoSuchDevice(device_id.hex(), "no such device")
        if row[1] is not None and not even_revoked:
            raise RegistryRefused(
                f"device {device_id.hex()} is revoked for good: add a new one (vitalloom registry add {row[0]})"
            )
        role: Role = row[0]
        return role

    def _signing(self) -> Signers:
        if self._signers is None:
            raise RegistryRefused(f"{self.path}: opened for reading; changes are made where the keys are")
        return self._signers


_BINDING: Final = (
    "binding_id, patient, bed, wearable_id, edge_id, valid_from_ms, valid_to_ms, spo2_scale, "
    "age_years, is_male, chest_pain"
)
_ADDED: Final = ("age_years REAL", "is_male INTEGER", "chest_pain INTEGER")
"""Columns of `binding` that earlier registries do not have."""


def _binding(row: Sequence[Any]) -> BindingRecord:
    un = bytes.fromhex
    return BindingRecord(
        binding_id=un(row[0]), patient=row[1], bed=row[2], wearable_id=un(row[3]), edge_id=un(row[4]),
        valid_from_ms=row[5], valid_to_ms=row[6], spo2_scale=row[7],
        about=About(age_years=row[8], is_male=None if row[9] is None else bool(row[9]), chest_pain=row[10]),
    )  # fmt: skip


def _names_of(name: str, role: Role) -> tuple[str, ...]:
    """Common names of certificates: an alarm lane is a connection of its own, and one name is one connection."""
    if role == "ingest":
        return ("ingest-v", "ingest-a")
    return (name, f"{name}-a") if role == "edge" else (name,)


def _id(text: str) -> bytes:
    if not is_device_id(text):
        raise EnrolmentRefused(400, "a device id is 32 lower-case hexadecimal digits")
    return bytes.fromhex(text)


def _is_hex(text: str) -> bool:
    return text != "" and all(one in "0123456789abcdef" for one in text)


def _serial(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadProof("a serial is not hexadecimal") from None


def _plain(key: str, text: str, most: int) -> str:
    if len(text) > most or not all(one.isprintable() for one in text):
        raise RegistryRefused(f"{key}: at most {most} printable characters")
    return text


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)


def _opened(path: Path) -> sqlite3.Connection:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(_SCHEMA)
        _complete(db)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnusable(path, f"is not a registry ({error})") from error
    return db


def _complete(db: sqlite3.Connection) -> None:
    """Give a registry of an earlier version the columns that it lacks; two processes may try at once."""
    if not _lacking(db):
        return
    db.execute("BEGIN IMMEDIATE")
    for column in _lacking(db):
        db.execute(f"ALTER TABLE binding ADD COLUMN {column}")
    db.execute("COMMIT")


def _lacking(db: sqlite3.Connection) -> list[str]:
    there = {row[1] for row in db.execute("PRAGMA table_info(binding)")}
    return [column for column in _ADDED if column.split()[0] not in there]
