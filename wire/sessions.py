"""The sending side of a sealed session: a fresh secret in memory, a counter, frames.

A secret never leaves this process but sealed to its recipient, and nothing is resumed after a restart, so no nonce can
come twice from a reboot, a restored backup or a copied card. A forked child may not seal.
"""

import hashlib
import os
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM
from cryptography.hazmat.primitives.hpke import Suite as HpkeSuite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wire.envelope import (
    HPKE_BYTES,
    INFO_BYTES,
    MAX_PAYLOAD,
    SIGNATURE_BYTES,
    TAG_BYTES,
    FrameType,
    Header,
    SessionInfo,
    Suite,
    pad,
    session_id_of,
    session_signed,
)
from wire.errors import SessionSpent

Entropy = Callable[[int], bytes]

SECRET_BYTES: Final = 32
LAST_COUNTER: Final = 2**20 - 1
"""A session ends here or after an hour, whichever is first."""
MAX_AGE_MS: Final = 3_600_000

HPKE_SUITE: Final = HpkeSuite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
HPKE_CONTEXT: Final = b"VSE1 hpke\0"


class Recipient(NamedTuple):
    """Recipient of a session: a device and one of its rotating keys."""

    device_id: bytes
    prekey_id: bytes
    prekey: X25519PublicKey


class SessionSigner(Protocol):
    """What a session needs of the identity of its sender."""

    @property
    def device_id(self) -> bytes: ...
    @property
    def tenant_id(self) -> bytes: ...
    @property
    def credential_serial(self) -> bytes: ...
    @property
    def signing_key(self) -> Ed25519PrivateKey: ...


class FrameKeys:
    """Seals and opens the DATA frames of one session. The cipher object is made once."""

    __slots__ = ("_cipher", "_iv")

    def __init__(self, secret: bytes, info: bytes, hpke: bytes, suite: int, frame_class: int) -> None:
        salt = hashlib.sha256(b"VSE1 salt\0" + info + hpke).digest()
        purpose = bytes((suite, frame_class))
        self._cipher = ChaCha20Poly1305(_derive(secret, salt, b"VSE1 key" + purpose, 32))
        self._iv = int.from_bytes(_derive(secret, salt, b"VSE1 iv" + purpose, 12), "big")

    def seal(self, header: bytes, counter: int, salt: int, padded: bytes) -> bytes:
        return self._cipher.encrypt(self._nonce(counter, salt), padded, header)

    def open(self, header: bytes, counter: int, salt: int, body: bytes) -> bytes:
        """Raises cryptography.exceptions.InvalidTag."""
        return self._cipher.decrypt(self._nonce(counter, salt), body, header)

    def _nonce(self, counter: int, salt: int) -> bytes:
        return (self._iv ^ (counter << 32 | salt)).to_bytes(12, "big")


class SendSession:
    """One stream of frames from one sender to one recipient about one binding in one class."""

    def __init__(
        self, *, frame: bytes, session_id: bytes, info: SessionInfo, keys: FrameKeys, entropy: Entropy
    ) -> None:
        self.frame = frame  # the SESSION frame that the recipient must have first
        self.session_id = session_id
        self.info = info
        self.next_counter = 0
        self._keys = keys
        self._entropy = entropy
        self._pid = os.getpid()

    @classmethod
    def open(
        cls,
        sender: SessionSigner,
        recipient: Recipient,
        *,
        binding_id: bytes,
        frame_class: int,
        number: int,
        previous: bytes,
        now_ms: int,
        entropy: Entropy = os.urandom,
    ) -> Self:
        """Begin a session.

        Args:
            number: must be above every earlier one of this sender, recipient, binding and class; see `next_number`.
            previous: id of the session before, zeros for the first.
            entropy: `os.urandom`, except where a test checks published bytes.
        """
        secret = entropy(SECRET_BYTES)
        info = SessionInfo(
            sender.tenant_id,
            sender.device_id,
            recipient.device_id,
            binding_id,
            sender.credential_serial,
            recipient.prekey_id,
            Suite.STANDARD,
            frame_class,
            number,
            now_ms,
            previous,
        )
        packed = info.pack()
        sealed = HPKE_SUITE.encrypt(secret, recipient.prekey, info=HPKE_CONTEXT + packed)
        session_id = session_id_of(packed, sealed)
        header = Header(
            FrameType.SESSION,
            Suite.STANDARD,
            frame_class,
            INFO_BYTES + HPKE_BYTES + SIGNATURE_BYTES,
            sender.device_id,
            session_id,
            0,
            0,
        ).pack()
        signature = sender.signing_key.sign(session_signed(header, packed, sealed))
        return cls(
            frame=header + packed + sealed + signature,
            session_id=session_id,
            info=info,
            keys=FrameKeys(secret, packed, sealed, Suite.STANDARD, frame_class),
            entropy=entropy,
        )

    @property
    def is_spent(self) -> bool:
        """Whether the last counter is used up."""
        return self.next_counter > LAST_COUNTER

    def seal(self, payload: bytes) -> tuple[int, bytes]:
        """Seal a payload of at most 8,191 bytes.

        The counter is used up by sealing, also if the frame is not sent.

        Returns:
            The counter and the frame.

        Raises:
            SessionSpent: the counters are used up, or this is a forked child of the process that began the session.
            ValueError: the payload is too long.
        """
        if os.getpid() != self._pid:
            raise SessionSpent("this session belongs to another process; begin a new one after a fork")
        if self.is_spent:
            raise SessionSpent(f"all {LAST_COUNTER + 1} counters of this session are used; begin a new one")
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a payload holds at most {MAX_PAYLOAD} bytes, this one has {len(payload)}")
        counter = self.next_counter
        self.next_counter += 1
        salt = int.from_bytes(self._entropy(4), "big")
        padded = pad(payload)
        header = Header(
            FrameType.DATA,
            Suite.STANDARD,
            self.info.frame_class,
            len(padded) + TAG_BYTES,
            self.info.sender,
            self.session_id,
            counter,
            salt,
        ).pack()
        return counter, header + self._keys.seal(header, counter, salt, padded)


def next_number(last: int, now_ms: int) -> int:
    """The number of the next session: above the last, and above every earlier one even if the last was forgotten."""
    return max(last + 1, now_ms)


def _derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)
