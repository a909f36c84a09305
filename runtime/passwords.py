"""Passwords and PINs as Argon2id hashes, in the form of the Password Hashing Competition. There are no default ones."""

import os
from typing import Final

from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from runtime.errors import NoArgon2

# RFC 9106, second recommendation: 64 MiB, three passes. A sixth of a second on one core.
_MEMORY_KIB: Final = 64 * 1024
_PASSES: Final = 3


def hash_of(password: str) -> str:
    """A hash with a salt of its own, about 100 characters. Raises NoArgon2."""
    try:
        return Argon2id(
            salt=os.urandom(16), length=32, iterations=_PASSES, lanes=1, memory_cost=_MEMORY_KIB
        ).derive_phc_encoded(password.encode())
    except UnsupportedAlgorithm as error:
        raise NoArgon2 from error


def is_right(password: str, hashed: str | None) -> bool:
    """Whether a password has this hash. As slow for None, an unknown name, so that timing does not tell which exist."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), NOBODY if hashed is None else hashed)
    except (InvalidKey, ValueError):
        return False
    return hashed is not None


NOBODY: Final = (
    f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
"""The hash of no password."""
