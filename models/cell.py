"""The sepsis and heart networks in NumPy: reference for tests, and fallback where onnxruntime is not installed.

The weights are those of the released file, int8 with one scale per row. Compare with the networks in
`models.training.sepsis` and `models.training.heart`.
"""

import io
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]

_SCALE: Final = ".scale"


class SepsisCell:
    """The sepsis network: from x [B, T, F] (NaN: unknown), h and c [1, B, M * H] to y [B, T], h and c."""

    def __init__(self, weights: bytes) -> None:
        self._w = unpack_weights(weights)
        self._members = sum(name.endswith("out.bias") for name in self._w)
        self.hidden = self._members * self._w["nets.0.lstm.weight_hh_l0"].shape[1]

    def __call__(self, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        states = zip(np.split(h[0], self._members, axis=1), np.split(c[0], self._members, axis=1), strict=True)
        outputs = [self._member(f"nets.{at}.", x, *state) for at, state in enumerate(states)]
        heads: Floats = np.mean([one for one, _, _ in outputs], axis=0, dtype=np.float32)
        y = _sigmoid(heads @ self._w["mix"] * self._w["slope"] + self._w["offset"])
        return (
            y,
            np.concatenate([one for _, one, _ in outputs], 1)[None],
            np.concatenate([one for _, _, one in outputs], 1)[None],
        )

    def _member(self, of: str, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        w = {name.removeprefix(of): value for name, value in self._w.items() if name.startswith(of)}
        embedded = np.maximum(_encoded(x, w["low"], w["width"]) @ w["embed.weight"].T + w["embed.bias"], 0)
        driven = embedded @ w["lstm.weight_ih_l0"].T + w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
        outputs = []
        for at in range(x.shape[1]):
            gate_in, forget, new, gate_out = np.split(driven[:, at] + h @ w["lstm.weight_hh_l0"].T, 4, axis=1)
            c = _sigmoid(forget) * c + _sigmoid(gate_in) * np.tanh(new)
            h = _sigmoid(gate_out) * np.tanh(c)
            outputs.append(h @ w["out.weight"].T + w["out.bias"])
        return np.stack(outputs, axis=1) + embedded @ w["skip.weight"].T + w["skip.bias"], h, c


class HeartCell:
    """The heart network: from x [B, F] to y [B]."""

    def __init__(self, weights: bytes) -> None:
        self._w = unpack_weights(weights)

    def __call__(self, x: Floats) -> Floats:
        w = self._w
        known = 1 - x @ w["marks"]
        scaled = ((x - w["mean"] * known) / w["deviation"])[None]
        hidden = np.tanh(scaled @ w["one"] + w["one_bias"])
        hidden = np.tanh(hidden @ w["two"] + w["two_bias"])
        members = hidden @ w["three"] + w["three_bias"] + scaled @ w["straight"]
        return _sigmoid(members[..., 0].mean(0) * w["slope"] + w["offset"])  # type: ignore[no-any-return]


def pack_weights(weights: Mapping[str, npt.NDArray[np.float32] | tuple[npt.NDArray[np.int8], Floats]]) -> bytes:
    """Weights as the bytes of an .npz file; each is float32, or int8 with the scale of each row."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, found in weights.items():
        if isinstance(found, tuple):
            arrays[name], arrays[name + _SCALE] = found
        else:
            arrays[name] = found
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unpack_weights(content: bytes) -> dict[str, Floats]:
    """The weights of an .npz file as float32: int8 times scale, as the graph computes them when it is loaded."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {
        name: array.astype(np.float32) * arrays[name + _SCALE] if name + _SCALE in arrays else array.astype(np.float32)
        for name, array in arrays.items()
        if not name.endswith(_SCALE)
    }


def _encoded(x: Floats, low: Floats, width: Floats) -> Floats:
    missing = np.isnan(x)
    known = np.where(missing, low[:, 0], x)[..., None]
    risen = np.clip((known - low) / width, 0, 1)
    return np.concatenate([risen, missing[..., None]], -1, dtype=np.float32).reshape(*x.shape[:2], -1)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
