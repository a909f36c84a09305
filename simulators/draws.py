"""Random numbers that depend on patient, purpose and time, never on how many patients share the simulation.

A draw is a hash of (key of the patient, stream, counter): there is no state to advance, so patient 37 sees the same
numbers alone, among 10,000, or after a restart. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)
over well-mixed keys; only integer arithmetic and one multiplication, so results are equal on every platform and in
every array length, which transcendental functions with vector code paths do not promise. Simulation only: no secrets.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Keys: TypeAlias = npt.NDArray[np.uint64]
Floats: TypeAlias = npt.NDArray[np.float64]

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB

# Mean and standard deviation of the sum of four uniform 16-bit integers.
_SUM_MEAN: Final = 4 * 65_535 / 2
_SUM_DEVIATION: Final = ((65_536**2 - 1) / 12 * 4) ** 0.5


def key_of(seed: int, index: int) -> int:
    """The 64-bit key of one patient of one seeded ward."""
    return _mixed(_mixed(seed * _GOLDEN) + (index + 1) * _GOLDEN)


def keys_of(seed: int, indices: Sequence[int]) -> Keys:
    """`key_of` for many patients."""
    return np.array([key_of(seed, index) for index in indices], dtype=np.uint64)


def uniform(keys: Keys, streams: Sequence[int], counter: int) -> Floats:
    """Numbers in [0, 1), one row per stream, one column per key."""
    drawn: Floats = (_bits(keys, streams, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def normal(keys: Keys, streams: Sequence[int], counter: int) -> Floats:
    """Bell-shaped numbers of mean 0 and deviation 1, one row per stream, one column per key.

    The sum of four uniform numbers: it never leaves ±3.46, so no seed makes a patient with impossible values.
    """
    bits = _bits(keys, streams, counter)
    quarters = bits.view(np.uint16).reshape(*bits.shape, 4).astype(np.int32)
    total = quarters[..., 0] + quarters[..., 1] + quarters[..., 2] + quarters[..., 3]
    drawn: Floats = (total.astype(np.float64) - _SUM_MEAN) / _SUM_DEVIATION
    return drawn


def _bits(keys: Keys, streams: Sequence[int], counter: int) -> Keys:
    salts = np.array([[_mixed(_mixed(counter & _MASK) + stream * _GOLDEN)] for stream in streams], dtype=np.uint64)
    x = keys[np.newaxis, :] ^ salts
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return x ^ (x >> np.uint64(31))


def _mixed(x: int) -> int:
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)
