"""Patient states on the edge's disk, encrypted with a key that lies elsewhere.

Readings and alarms are sealed to the data centre before they are stored. A patient's state is needed here, by the next
run of the agent, so its key has to be here as well: in memory that the power takes with it, next to the disk and not on
it. After a power cut the states cannot be opened, and judging starts afresh with the next readings; the data centre has
states of its own. A site whose disk is encrypted may keep the key there, and the states outlive the power.
"""

import os
import struct
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from runtime.errors import NotPrivate
from runtime.hardening import read_private, write_private

KEY_BYTES: Final = 32

_RUN_BYTES: Final = 16
_COUNTER: Final = struct.Struct(">4xQ")  # a nonce of 12 bytes
_TAG_BYTES: Final = 16
_LABEL: Final = b"vitalloom edge state v1"
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - files there are private to this user, and that is checked


class StateLock:
    """Locks and unlocks states; each is good for one binding.

    Every run has a key of its own, derived from the secret and 16 random bytes, and counts: no nonce comes twice,
    though a secret outlives many runs and each second brings many states.

    Args:
        secret: 32 bytes.
        problem: why the secret is lost with this process; empty if it is not.
    """

    def __init__(self, secret: bytes, *, problem: str = "") -> None:
        self.problem = problem
        self._secret = secret
        self._run = os.urandom(_RUN_BYTES)
        self._cipher = self._cipher_of(self._run)
        self._counter = 0

    @classmethod
    def open(cls, path: Path | None) -> Self:
        """The lock whose secret is in a file, which is made if there is none.

        If the secret cannot be read or written, the lock is still made, and is good for this process only.
        """
        if path is None:
            return cls(
                os.urandom(KEY_BYTES), problem="this system has no folder in memory; set state_key to a file in one"
            )
        try:
            secret = read_private(path)
            if len(secret) == KEY_BYTES:
                return cls(secret)
        except FileNotFoundError:
            pass
        except (OSError, NotPrivate) as error:
            return cls(os.urandom(KEY_BYTES), problem=str(error))
        secret = os.urandom(KEY_BYTES)
        try:
            write_private(path, secret)
        except (OSError, NotPrivate) as error:
            return cls(secret, problem=str(error))
        return cls(secret)

    def lock(self, binding_id: bytes, state: bytes) -> bytes:
        """A state as it may be stored: run, counter, ciphertext."""
        self._counter += 1
        nonce = _COUNTER.pack(self._counter)
        return self._run + nonce + self._cipher.encrypt(nonce, state, binding_id)

    def unlock(self, binding_id: bytes, stored: bytes) -> bytes | None:
        """The state, or None: locked with a secret that is gone, or not by us."""
        run, nonce, sealed = stored[:_RUN_BYTES], stored[_RUN_BYTES:][: _COUNTER.size], stored[_OVERHEAD:]
        if len(sealed) < _TAG_BYTES:
            return None
        try:
            return self._cipher_of(run).decrypt(nonce, sealed, binding_id)
        except InvalidTag:
            return None

    def _cipher_of(self, run: bytes) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(HKDF(SHA256(), KEY_BYTES, salt=run, info=_LABEL).derive(self._secret))


_OVERHEAD: Final = _RUN_BYTES + _COUNTER.size


def key_file(device_id: bytes) -> Path | None:
    """Where the secret lies unless `state_key` names a place: in the service's folder in memory, or the system's."""
    folders = (os.environ.get("RUNTIME_DIRECTORY"), os.environ.get("XDG_RUNTIME_DIR"), str(_IN_MEMORY))
    name = f"vitalloom-edge-{device_id.hex()}.key"
    return next((Path(folder) / name for folder in folders if folder and Path(folder).is_dir()), None)


def lies_with(key: Path, data: Path) -> bool:
    """Whether key and data lie on the same disk. False if either cannot be found."""
    while not data.exists() and data != data.parent:  # it is made when it is needed
        data = data.parent
    try:
        return key.parent.stat().st_dev == data.stat().st_dev
    except OSError:
        return False
