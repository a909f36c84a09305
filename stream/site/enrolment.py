"""Enrolment: invitations, and the devices that ask for certificates, for new ones, or for a new prekey.

A device proves that it has an invitation's token or its present keys, and gets certificates, a credential and
documents. Every refusal is an `EnrolmentRefused` with the status of the HTTP answer, and limits are by address.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from runtime.clock import Clock
from stream.errors import EnrolmentRefused
from stream.site.certificates import DAY_MS
from stream.site.registry import BAD_TOKENS, Registry
from wire.enrol.authority import DEVICE_DAYS, Authority, TlsPublicKey, moment, pem, requested_key
from wire.enrol.requests import (
    TOKEN_MS,
    AnnouncedBroker,
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
from wire.identity import Role
from wire.receiver import TokenBucket

_MAX_BUCKETS: Final = 10_000
_CLOCK_MS: Final = 600_000  # a request whose own time differs by more than this is refused


class EnrolmentPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long credentials and tokens are valid, and how often an address or a device may try."""

    credential_days: float = DEVICE_DAYS
    overlap_ms: int = DAY_MS  # validity of the old credential after a renewal
    token_ms: int = TOKEN_MS
    tries_per_min: float = 10.0  # by address
    bad_tokens: int = BAD_TOKENS


class Enrolment:
    """Enrolment at one registry.

    Args:
        authority: issues the certificates.
        clock: tokens and credentials are checked against it.
        wall: certificates are dated by it, as TLS libraries use the machine's own clock.
        broker: the address that devices connect to.
    """

    def __init__(
        self,
        registry: Registry,
        authority: Authority,
        *,
        clock: Clock,
        wall: Clock | None = None,
        broker: AnnouncedBroker | None = None,
        policy: EnrolmentPolicy | None = None,
    ) -> None:
        self.policy = policy or EnrolmentPolicy()
        self._registry = registry
        self._file = registry.file
        self._authority = authority
        self._clock = clock
        self._wall = wall or clock
        self._broker = broker or AnnouncedBroker(host="127.0.0.1", port=8883)
        self._tries: dict[str, TokenBucket] = {}

    def issue_with(self, authority: Authority, *, broker: AnnouncedBroker | None = None) -> None:
        """Issue with another authority's key, and announce this broker, from now on."""
        self._authority = authority
        self._broker = broker or self._broker

    @property
    def _validity_ms(self) -> int:
        """Of what is issued now. It ends with the issuing key: a device that knew a later end would renew too late."""
        issuing_ms = round(self._authority.issuing.not_valid_after_utc.timestamp() * 1_000) - self._wall.now_ms()
        return min(int(self.policy.credential_days * DAY_MS), max(0, issuing_ms))

    def invite(self, device_id: bytes, *, url: str, who: str) -> Invitation:
        """A token for a device, with all that it needs to enrol. Its earlier tokens are void, and a locked slot is
        open again.

        Raises:
            NoSuchDevice, RegistryRefused: not known, or revoked.
        """
        role = self._registry.role_of(device_id)
        token = new_token()
        expires_ms = self._clock.now_ms() + self.policy.token_ms
        with self._file.change("invited", who=who, subject=device_id.hex(), expires_ms=expires_ms):
            self._file.execute("DELETE FROM token WHERE device_id = ?", (device_id.hex(),))
            self._file.execute("UPDATE device SET bad_tries = 0 WHERE device_id = ?", (device_id.hex(),))
            self._file.execute(
                "INSERT INTO token (hash, device_id, role, expires_ms) VALUES (?, ?, ?, ?)",
                (token_hash(token), device_id.hex(), role, expires_ms),
            )
        return Invitation(url, self._authority.pin, device_id, token)

    def enrol(self, request: EnrolRequest, *, server: bytes, address: str, mono_ms: int) -> EnrolReply:
        """Enrol a device that has an invitation. Any failure after its token was right uses the token up.

        Args:
            server: our TLS certificate, DER, that the proof is bound to.
            address: of the device, for limits and the audit log.

        Raises:
            EnrolmentRefused: with the status of the answer.
        """
        self._limit(address, mono_ms)
        device_id, token = _named_by(request)
        try:
            with self._file.change("enrolled", who=address, subject=request.device_id) as names:
                role = self._spend(device_id, token)
                try:
                    keys = offered(request)
                    tls_key = requested_key(keys.csr)
                    raw = keys.signing_key.public_bytes_raw()
                    transcript = enrol_transcript(device_id, token, keys.csr, raw, keys.prekey, server)
                    check_proof(keys.signing_key, request.proof, transcript)
                    self._check_unused(raw)
                except (BadProof, BadSigningRequest) as error:
                    # The transaction is committed: the token is spent, and nothing else has happened.
                    names.append("enrolment refused")
                    raise EnrolmentRefused(400, str(error), commit=True) from error
                self._end_present(request.device_id)  # of a device that is enrolled once more
                return self._admit(device_id, role, keys, tls_key)
        except EnrolmentRefused as error:
            if not error.commit:
                self._count_bad_token(request.device_id, address, error)
            raise

    def renew(
        self, request: RenewRequest, *, peer: bytes | None, server: bytes, address: str, mono_ms: int
    ) -> EnrolReply:
        """New keys for a device that proves that it has its present ones, which stay valid for another day.

        Args:
            peer: the certificate that the device showed in TLS, DER.

        Raises:
            EnrolmentRefused: with the status of the answer.
        """
        self._limit(address, mono_ms)
        device_id = _device_id(request.device_id)
        with self._logged_refusal("renewal refused", address, request.device_id):
            keys, serial = offered(request), _serial(request.serial)
            tls_key, raw = requested_key(keys.csr), keys.signing_key.public_bytes_raw()
            transcript = renew_transcript(device_id, serial, keys.csr, raw, keys.prekey, server)
            # Within the transaction, so that the device cannot be revoked between the check and the signature.
            with self._file.change("renewed", who=address, subject=request.device_id):
                self._check_present(device_id, serial, request.present, transcript, peer)
                check_proof(keys.signing_key, request.proof, transcript)
                self._check_unused(raw)
                self._end_present(request.device_id)
                return self._admit(device_id, self._registry.role_of(device_id), keys, tls_key)

    def new_prekey(self, request: PrekeyRequest, *, peer: bytes | None, address: str, mono_ms: int) -> PrekeyReply:
        """A device's next prekey.

        Raises:
            EnrolmentRefused: with the status of the answer.
        """
        self._limit(address, mono_ms)
        device_id, now_ms = _device_id(request.device_id), self._clock.now_ms()
        with self._logged_refusal("prekey refused", address, request.device_id):
            prekey_id, prekey = prekey_of(request.prekey_id, request.prekey)
            serial = _serial(request.serial)
            if abs(request.at_ms - now_ms) > _CLOCK_MS:
                raise BadProof("the request's time differs too much from ours; is the device's clock right?")
            transcript = prekey_transcript(device_id, serial, prekey_id, prekey, request.at_ms)
            with self._file.change("prekey", who=address, subject=request.device_id):
                self._check_present(device_id, serial, request.present, transcript, peer)
                self._put_prekey(device_id, prekey_id, prekey)
                self._registry.publish_device(device_id)
        return PrekeyReply(documents=self._documents_for(device_id), now_ms=now_ms)

    def vouch_for(self, device_id: bytes, role: Role, keys: Offered, *, who: str) -> EnrolReply:
        """As `enrol`, without invitation or proof: for the data centre's own identities, whose keys were made here."""
        tls_key = requested_key(keys.csr)
        with self._file.change("vouched for", who=who, subject=device_id.hex(), role=role):
            self._file.execute(
                "INSERT OR IGNORE INTO device (device_id, role, label, created_ms) VALUES (?, ?, ?, ?)",
                (device_id.hex(), role, role, self._clock.now_ms()),
            )
            self._end_present(device_id.hex())
            return self._admit(device_id, role, keys, tls_key)

    # Checks

    def _limit(self, address: str, mono_ms: int) -> None:
        bucket = self._tries.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(per_s=self.policy.tries_per_min / 60, burst=self.policy.tries_per_min)
            while len(self._tries) >= _MAX_BUCKETS:
                del self._tries[next(iter(self._tries))]
        self._tries[address] = bucket
        if not bucket.spend(mono_ms):
            raise EnrolmentRefused(429, "too many attempts from this address; wait a minute")

    @contextmanager
    def _logged_refusal(self, name: str, address: str, device_id: str) -> Iterator[None]:
        """Turn an error in a request into an answer and a line in the audit log."""
        try:
            yield
        except (BadProof, BadSigningRequest, EnrolmentRefused) as error:
            with self._file.change(name, who=address, subject=device_id):
                pass
            if isinstance(error, EnrolmentRefused):
                raise
            raise EnrolmentRefused(400, str(error)) from error

    def _spend(self, device_id: bytes, token: bytes) -> Role:
        """Use a token up; the role that it was made for."""
        now_ms, name = self._clock.now_ms(), device_id.hex()
        row = self._file.execute(
            "SELECT role, bad_tries FROM device WHERE device_id = ? AND revoked_ms IS NULL", (name,)
        ).fetchone()
        # One answer for every reason, so that it does not reveal which ids exist.
        refusal = EnrolmentRefused(
            403, "this invitation is not valid (used, expired, locked or of another device): ask for a new one"
        )
        if row is None or row[1] >= self.policy.bad_tokens:
            raise refusal
        done = self._file.execute(
            "UPDATE token SET used_ms = ?1 WHERE hash = ?2 AND used_ms IS NULL AND expires_ms > ?1 "
            "AND device_id = ?3 AND role = ?4",
            (now_ms, token_hash(token), name, row[0]),
        )
        if done.rowcount != 1:
            raise refusal
        role: Role = row[0]
        return role

    def _count_bad_token(self, device_id: str, address: str, error: EnrolmentRefused) -> None:
        if error.status != 403:
            return
        with self._file.change("bad token", who=address, subject=device_id):
            self._file.execute("UPDATE device SET bad_tries = bad_tries + 1 WHERE device_id = ?", (device_id,))

    def _check_unused(self, signing_key: bytes) -> None:
        """A key identifies a device, so two may not have the same."""
        if self._file.execute("SELECT 1 FROM credential WHERE signing_key = ?", (signing_key,)).fetchone():
            raise BadProof("this signing key is in use; make new keys")

    def _check_present(
        self, device_id: bytes, serial: bytes, signature: str, transcript: bytes, peer: bytes | None
    ) -> None:
        """Check that the request comes from the device: its client certificate, its credential, its signature."""
        self._registry.certificates.check_client(device_id, peer)
        record = self._registry.sender(device_id)
        credential = None if record is None or record.revoked else record.credential(serial)
        if credential is None or not credential.is_valid(self._clock.now_ms()):
            raise EnrolmentRefused(
                403,
                f"device {device_id.hex()} has no valid credential (expired, replaced or revoked): "
                f"run `vitalloom pki renew {device_id.hex()}` at the registry and enrol again",
            )
        check_proof(credential.key, signature, transcript)

    # Keys; within a transaction

    def _admit(self, device_id: bytes, role: Role, keys: Offered, tls_key: TlsPublicKey) -> EnrolReply:
        """Issue certificates and a credential, and sign the documents."""
        name, now_ms = device_id.hex(), self._clock.now_ms()
        chain = self._issue(name, role, tls_key)
        serial = os.urandom(8)
        self._file.execute(
            "INSERT INTO credential VALUES (?, ?, ?, ?, ?, ?)",
            (
                serial.hex(),
                name,
                keys.signing_key.public_bytes_raw(),
                now_ms - _CLOCK_MS,
                now_ms + self._validity_ms,
                now_ms,
            ),
        )
        self._put_prekey(device_id, keys.prekey_id, keys.prekey)
        self._registry.publish_device(device_id)
        return EnrolReply(
            device_id=name,
            tenant_id=self._registry.tenant_id.hex(),
            role=role,
            serial=serial.hex(),
            certificate=chain[0],
            alarm_certificate=chain[1] if len(chain) > 1 else None,
            root=pem(self._authority.root).decode(),
            control_keys=[one.hex() for one in self._registry.documents.public_keys],
            documents=self._documents_for(device_id),
            broker=self._broker,
            now_ms=now_ms,
        )

    def _issue(self, device_id: str, role: Role, tls_key: TlsPublicKey) -> list[str]:
        """Certificates with their chain, PEM: one for each connection that a device of this role has."""
        chains = []
        for common_name in _common_names(device_id, role):
            made = self._authority.device(
                tls_key,
                common_name=common_name,
                tenant=self._registry.tenant_id,
                at=moment(self._wall.now_ms()),
                days=self._validity_ms / DAY_MS,
            )
            self._registry.certificates.record(made, name=common_name, device_id=device_id)
            chains.append((pem(made) + pem(self._authority.issuing)).decode())
        return chains

    def _end_present(self, device_id: str) -> None:
        """Let the present credential and certificates of a device end after the overlap."""
        self._file.execute(
            "UPDATE credential SET not_after_ms = min(not_after_ms, ?) WHERE device_id = ?",
            (self._clock.now_ms() + self.policy.overlap_ms, device_id),
        )
        self._registry.certificates.end_of_device(device_id, after_ms=self.policy.overlap_ms)

    def _put_prekey(self, device_id: bytes, prekey_id: bytes, prekey: bytes) -> None:
        self._file.execute(
            "INSERT OR REPLACE INTO prekey VALUES (?, ?, ?, ?)",
            (device_id.hex(), prekey_id, prekey, self._clock.now_ms()),
        )
        self._registry.seal_bindings_again(device_id)

    def _documents_for(self, device_id: bytes) -> list[str]:
        documents = self._registry.documents
        # Orders are sent by the courier: an edge of an earlier version would give up on all that is in the answer.
        # Who watches a patient next may not know it yet: the courier, which hears of that, sends these as well.
        without = documents.handed_over(device_id)
        return [b64(frame) for frame in documents.documents_for(device_id, without=without, with_orders=False)]


def _common_names(device_id: str, role: Role) -> tuple[str, ...]:
    """Common names of certificates: an alarm lane is a connection of its own, and one name is one connection."""
    if role == "ingest":
        return ("ingest-v", "ingest-a")
    return (device_id, f"{device_id}-a") if role == "edge" else (device_id,)


def _named_by(request: EnrolRequest) -> tuple[bytes, bytes]:
    """Device id and token of a request."""
    device_id = _device_id(request.device_id)
    try:
        return device_id, bytes.fromhex(request.token)
    except ValueError:
        raise EnrolmentRefused(400, "the token is not hexadecimal") from None


def _device_id(text: str) -> bytes:
    if not is_device_id(text):
        raise EnrolmentRefused(400, "a device id is 32 lower-case hexadecimal digits")
    return bytes.fromhex(text)


def _serial(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadProof("the credential's serial is not hexadecimal") from None
