"""The scheme that this project does not use: an AES key made of who the patient, the doctor and the hospital are.

Published for a heart-disease monitoring system as PDH-AES. Identifiers are not secrets: they stand on wristbands,
letters and doors, and there are few of them. Kept here so that the difference can be run, not believed.
"""

import hashlib
from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def key_of(patient: int, doctor: int, hospital: int) -> bytes:
    """The same key for every message of this patient, for ever."""
    return hashlib.sha256(f"{patient:06d}{doctor:04d}{hospital:03d}".encode()).digest()[:16]


def encrypt(key: bytes, readings: bytes) -> bytes:
    """AES in counter mode from zero: no nonce, no integrity."""
    sealer = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return sealer.update(readings) + sealer.finalize()


def search(
    message: bytes, known: bytes, *, patients: Iterable[int], doctors: Iterable[int], hospitals: Iterable[int]
) -> tuple[int, int, int] | None:
    """Whose message this is, from a few bytes that every message begins with."""
    doctors, hospitals = list(doctors), list(hospitals)
    for patient in patients:
        for doctor in doctors:
            for hospital in hospitals:
                if encrypt(key_of(patient, doctor, hospital), message[: len(known)]) == known:
                    return patient, doctor, hospital
    return None
